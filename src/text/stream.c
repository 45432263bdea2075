/* Text files read piece by piece. */
#define _POSIX_C_SOURCE 200809L

#include "text/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utf8proc.h>

#include "text/tokenizer.h"

enum { PIECE = 1 << 20 };

bool stream_open(struct text_stream *stream, qn_context *context, const char *path,
                 enum stream_cut cut)
{
    *stream = (struct text_stream){
        .context = context, .path = path, .cut = cut, .descriptor = STDIN_FILENO, .line = 1};
    struct stat status;
    if (strcmp(path, "-") == 0)
        stream->path = "standard input";
    else
        stream->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    const char *problem = stream->descriptor < 0 || fstat(stream->descriptor, &status) != 0
                              ? strerror(errno)
                          : S_ISDIR(status.st_mode) ? "it is a folder, expected a file"
                                                    : NULL;
    if (!problem)
        return true;
    context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", stream->path, problem);
    stream_close(stream);
    return false;
}

void stream_close(struct text_stream *stream)
{
    if (stream->descriptor > STDIN_FILENO)
        close(stream->descriptor);
    free(stream->buffer);
    stream->descriptor = -1;
    stream->buffer = NULL;
}

static bool make_room(struct text_stream *stream)
{
    if (stream->used < stream->room)
        return true;
    size_t room = stream->room ? 2 * stream->room : PIECE;
    char *larger = room > stream->room ? realloc(stream->buffer, room) : NULL;
    if (!larger) {
        context_fail(stream->context, QN_ERROR_MEMORY,
                     "%s: out of memory for a line of more than %zu bytes (line %llu)",
                     stream->path, stream->used, (unsigned long long)stream->line);
        return false;
    }
    stream->buffer = larger;
    stream->room = room;
    return true;
}

/* Reads until the buffer is full or the file ends. */
static bool fill(struct text_stream *stream)
{
    if (!make_room(stream))
        return false;
    while (stream->used < stream->room && !stream->is_at_end) {
        ssize_t count =
            read(stream->descriptor, stream->buffer + stream->used, stream->room - stream->used);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            context_fail(stream->context, QN_ERROR_FILE, "cannot read %s: %s", stream->path,
                         strerror(errno));
            return false;
        }
        stream->is_at_end = count == 0;
        stream->used += (size_t)count;
    }
    return true;
}

/* Whether a text ends in a character that no step of cleaning removes or makes white space. */
static bool ends_in_word(const char *text, size_t bytes)
{
    size_t last = bytes;
    while (last > 0 && bytes - last < 4)
        if (((unsigned char)text[--last] & 0xC0) != 0x80)
            break;
    int32_t point;
    if (utf8_decode(text + last, bytes - last, &point) != bytes - last || bytes == 0)
        return false;
    utf8proc_category_t category = utf8proc_category(point);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_PO);
}

/* The last place where the buffer may be cut; 0: nowhere. */
static size_t find_cut(const struct text_stream *stream)
{
    if (stream->is_at_end || stream->cut == STREAM_BYTES)
        return stream->used;
    for (size_t at = stream->cut == STREAM_WHOLE ? 0 : stream->used; at > 0; at--) {
        if (stream->buffer[at - 1] != '\n')
            continue;
        if (stream->cut == STREAM_LINES)
            return at;
        if (ends_in_word(stream->buffer, at - 1))
            return at - 1;
    }
    return 0;
}

static size_t count_lines(const char *text, size_t bytes)
{
    size_t lines = 0;
    for (const char *at = text; (at = memchr(at, '\n', bytes - (size_t)(at - text))); at++)
        lines++;
    return lines;
}

bool stream_next(struct text_stream *stream, struct text_piece *piece)
{
    stream->offset += stream->given;
    if (stream->given > 0) {
        stream->line += count_lines(stream->buffer, stream->given);
        stream->used -= stream->given;
        memmove(stream->buffer, stream->buffer + stream->given, stream->used);
        stream->given = 0;
    }
    do {
        if (!fill(stream))
            return false;
    } while ((stream->given = find_cut(stream)) == 0 && !stream->is_at_end);
    *piece = (struct text_piece){stream->buffer, stream->given,
                                 stream->is_at_end && stream->given == stream->used};
    return stream->takes_all ||
           text_check_piece(stream->context, stream->path, piece->text, piece->bytes,
                            !stream->refuses_nul, stream->offset, stream->line) == QN_OK;
}

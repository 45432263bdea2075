/* Files read from end to end, line by line, in little memory. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/data/records.h"
#include "text/words.h"

enum { AT_FIRST = 1 << 16 };

/* Room for more, behind what is there; one byte stays free. */
static bool make_room(struct scanner *scanner)
{
    if (scanner->begin > 0)
        memmove(scanner->buffer, scanner->buffer + scanner->begin, scanner->end - scanner->begin);
    scanner->end -= scanner->begin;
    scanner->begin = 0;
    if (scanner->room > 2 * scanner->end + 1)
        return true;
    return record_make_room(scanner->context, &scanner->buffer, &scanner->room,
                            size_max(2 * scanner->room, AT_FIRST));
}

static void skip_byte_order_mark(struct scanner *scanner)
{
    static const char mark[] = "\xEF\xBB\xBF";
    if (scanner->offset > 0 || scanner->end < 3 || memcmp(scanner->buffer, mark, 3) != 0)
        return;
    scanner->begin = 3;
    scanner->offset = 3;
}

static bool fill(struct scanner *scanner)
{
    const struct source *source = scanner->source;
    bool is_first = scanner->offset == 0 && scanner->end == 0;
    if (scanner->begin > 0 || scanner->end + 1 >= scanner->room)
        if (!make_room(scanner))
            return false;
    while (!scanner->is_at_end && scanner->end + 1 < scanner->room) {
        ssize_t count = pread(source->descriptor, scanner->buffer + scanner->end,
                              scanner->room - scanner->end - 1,
                              (off_t)(scanner->offset + scanner->end - scanner->begin));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            context_fail(scanner->context, QN_ERROR_FILE, "cannot read %s: %s", source->path,
                         strerror(errno));
            return false;
        }
        scanner->is_at_end = count == 0;
        scanner->hash = hash_bytes(scanner->hash, scanner->buffer + scanner->end, (size_t)count);
        scanner->end += (size_t)count;
    }
    if (is_first)
        skip_byte_order_mark(scanner);
    return true;
}

static void advance(struct scanner *scanner, size_t bytes)
{
    scanner->begin += bytes;
    scanner->offset += bytes;
}

int scanner_next(struct scanner *scanner, struct scanned_line *line)
{
    *line = (struct scanned_line){.line = scanner->line};
    for (;;) {
        size_t there = scanner->end - scanner->begin;
        char *text = there > 0 ? scanner->buffer + scanner->begin : NULL;
        char *end = there > 0 ? memchr(text, '\n', there) : NULL;
        if (!end && !scanner->is_at_end) {
            if (there > MOST_RECORD_BYTES) {
                line->is_too_long = true;
                advance(scanner, there);
            }
            if (!fill(scanner))
                return scanner->context->status;
            continue;
        }
        if (there == 0 && !line->is_too_long)
            return 0;
        size_t length = end ? (size_t)(end - text) : there;
        line->offset = scanner->offset;
        advance(scanner, length + (end != NULL));
        scanner->line++;
        line->is_too_long |= length > MOST_RECORD_BYTES;
        line->text = text;
        line->bytes = length - (length > 0 && text[length - 1] == '\r');
        return 1;
    }
}

/* Files read whole, and files that appear whole or not at all. */
#define _POSIX_C_SOURCE 200809L

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utf8proc.h>

static const char *kind_of_file(mode_t mode)
{
    static const struct {
        mode_t mode;
        const char *name;
    } kinds[] = {{S_IFDIR, "a folder"},
                 {S_IFCHR, "a device"},
                 {S_IFBLK, "a device"},
                 {S_IFSOCK, "a socket"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((mode & S_IFMT) == kinds[i].mode)
            return kinds[i].name;
    return "not a regular file";
}

/* Reads from an open file up to its end; one byte more than `limit` shows that there is more. */
static char *read_to_end(qn_context *context, int descriptor, const char *path, size_t expected,
                         size_t limit, size_t *bytes)
{
    size_t capacity = size_min(expected, limit) + 2, used = 0;
    char *text = malloc(capacity);
    while (text) {
        ssize_t count = read(descriptor, text + used, capacity - used - 1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
            goto fail;
        }
        used += (size_t)count;
        if (used > limit) {
            context_fail(context, QN_ERROR_FORMAT,
                         "%s: larger than %zu bytes, the most that such a file may have", path,
                         limit);
            goto fail;
        }
        if (count == 0) {
            text[used] = '\0';
            *bytes = used;
            return text;
        }
        if (used + 1 < capacity)
            continue;
        char *larger = capacity <= SIZE_MAX / 2 ? realloc(text, 2 * capacity) : NULL;
        if (!larger)
            break;
        text = larger;
        capacity *= 2;
    }
    context_fail(context, QN_ERROR_MEMORY, "out of memory while reading %s", path);
fail:
    free(text);
    return NULL;
}

/* Whether a device is one that comes to an end: a terminal, or /dev/null. */
static bool ends(int descriptor, const struct stat *status)
{
    struct stat null;
    return S_ISCHR(status->st_mode) && (isatty(descriptor) || (stat("/dev/null", &null) == 0 &&
                                                               null.st_rdev == status->st_rdev));
}

char *file_read(qn_context *context, const char *path, size_t limit, size_t *bytes)
{
    char *text = NULL;
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode) && !ends(descriptor, &status))
        context_fail(context, QN_ERROR_FILE, "cannot read %s: it is %s, expected a file", path,
                     kind_of_file(status.st_mode));
    else
        text = read_to_end(context, descriptor, path, (size_t)status.st_size, limit, bytes);
    if (descriptor >= 0)
        close(descriptor);
    return text;
}

static bool is_special(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

static int write_failed(struct file_writer *writer)
{
    int code = errno;
    context_fail(writer->context, QN_ERROR_FILE, "cannot write %s: %s%s", writer->path,
                 strerror(code),
                 is_special(writer->path) ? ""
                 : code == ENOSPC || code == EDQUOT || code == EFBIG
                     ? "; what was there before is unchanged: free some space"
                     : "; what was there before is unchanged");
    file_discard(writer);
    return QN_ERROR_FILE;
}

int file_create(struct file_writer *writer, qn_context *context, const char *path)
{
    *writer = (struct file_writer){.context = context, .descriptor = -1};
    writer->path = text_format(context, "%s", path);
    if (!writer->path)
        return QN_ERROR_MEMORY;
    if (is_special(path)) {
        writer->descriptor = open(path, O_WRONLY | O_CLOEXEC);
        return writer->descriptor >= 0 ? QN_OK : write_failed(writer);
    }
    /* Names in the same folder, so that renaming stays in one file system; a name may be taken by a
     * killed process that had our number. */
    for (int attempt = 0; attempt < 100 && writer->descriptor < 0; attempt++) {
        free(writer->temporary);
        writer->temporary = text_format(context, "%s.%ld-%d.tmp", path, (long)getpid(), attempt);
        if (!writer->temporary) {
            file_discard(writer);
            return QN_ERROR_MEMORY;
        }
        writer->descriptor =
            open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (writer->descriptor < 0 && errno != EEXIST)
            break;
    }
    if (writer->descriptor >= 0)
        return QN_OK;
    int code = errno;
    free(writer->temporary); /* not ours to remove */
    writer->temporary = NULL;
    errno = code;
    return write_failed(writer);
}

int file_append(struct file_writer *writer, const void *data, size_t bytes)
{
    const char *next = data;
    while (bytes > 0) {
        ssize_t count = write(writer->descriptor, next, bytes);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return write_failed(writer);
        next += count;
        bytes -= (size_t)count;
    }
    return QN_OK;
}

int file_commit(struct file_writer *writer)
{
    if (!writer->temporary) {
        int closed = close(writer->descriptor);
        writer->descriptor = -1;
        if (closed != 0)
            return write_failed(writer);
        file_discard(writer);
        return QN_OK;
    }
    if (fsync(writer->descriptor) != 0)
        return write_failed(writer);
    int closed = close(writer->descriptor);
    writer->descriptor = -1;
    if (closed != 0 || rename(writer->temporary, writer->path) != 0)
        return write_failed(writer);
    free(writer->temporary);
    writer->temporary = NULL;
    char *folder = path_parent(writer->context, writer->path);
    int status = folder ? folder_sync(writer->context, folder) : QN_ERROR_MEMORY;
    free(folder);
    file_discard(writer);
    return status;
}

void file_discard(struct file_writer *writer)
{
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (struct file_writer){.context = writer->context, .descriptor = -1};
}

int folder_sync(qn_context *context, const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = QN_OK;
    /* Some file systems cannot sync folders, and say EINVAL. */
    if (descriptor < 0 || (fsync(descriptor) != 0 && errno != EINVAL))
        status = context_fail(context, QN_ERROR_FILE, "cannot sync %s: %s", path, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

char *path_join(qn_context *context, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    bool has_slash = length > 0 && folder[length - 1] == '/';
    return text_format(context, "%s%s%s", folder, has_slash ? "" : "/", name);
}

char *path_parent(qn_context *context, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return text_format(context, ".");
    if (slash == path)
        return text_format(context, "/");
    return text_format(context, "%.*s", (int)(slash - path), path);
}

char *text_format(qn_context *context, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : context_alloc(context, (size_t)length + 1, 1);
    if (!text)
        return NULL;
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

bool point_is_drawn(int32_t point)
{
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

const char *quote(char buffer[QUOTED], const char *text, size_t bytes)
{
    /* Room for the longest escape, the dots of a cut, and the closing mark. */
    const size_t reserve = sizeof "\\u{10FFFF}" + sizeof "...\"";
    size_t used = 0, at = 0;
    buffer[used++] = '"';
    while (at < bytes && used + reserve < QUOTED) {
        utf8proc_int32_t point;
        utf8proc_ssize_t length = utf8proc_iterate(
            (const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)size_min(bytes - at, 4), &point);
        if (length < 1) {
            used += (size_t)sprintf(buffer + used, "\\x%02X", (unsigned char)text[at++]);
            continue;
        }
        if (point == '\n' || point == '\t' || point == '\r' || point == '"' || point == '\\') {
            buffer[used++] = '\\';
            buffer[used++] = point == '\n'   ? 'n'
                             : point == '\t' ? 't'
                             : point == '\r' ? 'r'
                                             : (char)point;
        } else if (!point_is_drawn(point)) {
            used += (size_t)sprintf(buffer + used, "\\u{%X}", (unsigned)point);
        } else {
            memcpy(buffer + used, text + at, (size_t)length);
            used += (size_t)length;
        }
        at += (size_t)length;
    }
    strcpy(buffer + used, at < bytes ? "...\"" : "\"");
    return buffer;
}

const char *quote_string(char buffer[QUOTED], const char *text)
{
    return quote(buffer, text, strlen(text));
}

/* The lines of a text file. */
#include "cli/lines.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "io/file.h"
#include "text/score/pieces.h"

static size_t count_lines(const char *text, size_t bytes)
{
    size_t count = bytes > 0 && text[bytes - 1] != '\n';
    for (size_t i = 0; i < bytes; i++)
        count += text[i] == '\n';
    return count;
}

bool lines_read(struct lines *lines, qn_context *qn, const char *path, bool may_be_empty)
{
    size_t bytes;
    *lines = (struct lines){.name = path ? path : "stdin"};
    lines->text = file_read(qn, path ? path : "/dev/stdin", SIZE_MAX / 4, &bytes);
    if (lines->text && bytes == 0) {
        if (!may_be_empty)
            context_fail(qn, QN_ERROR_FORMAT, "%s is empty", lines->name);
        return may_be_empty;
    }
    if (!lines->text || qn_text_check(qn, lines->name, lines->text, bytes, false) != QN_OK)
        return false;
    size_t count = count_lines(lines->text, bytes);
    lines->at = context_alloc(qn, count, sizeof *lines->at);
    if (!lines->at)
        return false;
    char *line = lines->text;
    while (lines->count < count) {
        char *end = line + strcspn(line, "\n");
        *end = '\0';
        trim_end(line);
        lines->at[lines->count++] = line;
        line = end + 1;
    }
    return true;
}

void lines_release(struct lines *lines)
{
    free(lines->text);
    free(lines->at);
}

/* The lines of a text file. */
#include "cli/lines.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "text/score/pieces.h"

static size_t count_lines(const char *text, size_t bytes)
{
    size_t count = text[bytes - 1] != '\n';
    for (size_t i = 0; i < bytes; i++)
        count += text[i] == '\n';
    return count;
}

bool lines_read(struct lines *lines, qn_context *qn, const char *path)
{
    size_t bytes;
    const char *source = path ? path : "/dev/stdin";
    *lines = (struct lines){.name = path ? path : "stdin"};
    lines->text = qn_text_read(qn, &source, 1, &bytes);
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

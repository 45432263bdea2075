/* Files of lines that belong to each other. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

#include <quern/text.h>

#include "device/context.h"
#include "text/score/pieces.h"

/* ---- One file ---- */

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

/* ---- Several ---- */

bool lines_match(qn_context *qn, const struct lines *hypotheses, const struct lines *reference)
{
    if (reference->count == hypotheses->count)
        return true;
    context_fail(qn, QN_ERROR_FORMAT,
                 "%s: expected %zu lines, as %s has, found %zu: each line belongs to the same line "
                 "of the other file",
                 hypotheses->name, reference->count, reference->name, hypotheses->count);
    return false;
}

bool comparison_read(struct comparison *comparison, const struct options *options, qn_context *qn)
{
    size_t count = options_count(options, "reference");
    *comparison = (struct comparison){.options = options, .qn = qn};
    comparison->references = context_alloc(qn, count, sizeof *comparison->references);
    const char *path = options_operands(options) > 1 ? options_operand_at(options, 1) : NULL;
    if (!comparison->references || !lines_read(&comparison->hypotheses, qn, path))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct lines *reference = &comparison->references[comparison->n_references++];
        if (!lines_read(reference, qn, options_at(options, "reference", i)) ||
            !lines_match(qn, &comparison->hypotheses, reference))
            return false;
    }
    return true;
}

void comparison_release(struct comparison *comparison)
{
    lines_release(&comparison->hypotheses);
    for (size_t i = 0; i < comparison->n_references; i++)
        lines_release(&comparison->references[i]);
    free(comparison->references);
}

void comparison_references(const struct comparison *comparison, size_t index, const char **texts)
{
    bool uneven = options_flag(comparison->options, "uneven");
    for (size_t i = 0; i < comparison->n_references; i++) {
        const char *line = comparison->references[i].at[index];
        texts[i] = uneven && !*line ? NULL : line;
    }
}

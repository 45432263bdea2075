/* Files of lines that belong to each other. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"

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
    if (!comparison->references || !lines_read(&comparison->hypotheses, qn, path, false))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct lines *reference = &comparison->references[comparison->n_references++];
        if (!lines_read(reference, qn, options_at(options, "reference", i), false) ||
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

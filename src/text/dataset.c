/* Text from files, and windows of its tokens for language models. */
#include <quern/text.h>

#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "device/philox.h"
#include "io/file.h"
#include "text/tokenizer.h"

/* ---- Reading ---- */

char *qn_text_read(qn_context *context, const char *const *paths, size_t count, size_t *bytes)
{
    if (!context || !bytes || (count > 0 && !paths))
        return NULL;
    if (count == 0) {
        context_fail(context, QN_ERROR_INVALID, "no text files are named");
        return NULL;
    }
    char *text = NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        size_t more;
        char *part = file_read(context, paths[i], SIZE_MAX / 4, &more);
        if (part && more == 0)
            context_fail(context, QN_ERROR_FORMAT, "%s is empty", paths[i]);
        char *larger = part && more > 0 ? realloc(text, used + more + 1) : NULL;
        if (!larger) {
            if (part && more > 0)
                context_fail(context, QN_ERROR_MEMORY, "out of memory for %zu bytes of text",
                             used + more);
            free(part);
            free(text);
            return NULL;
        }
        text = larger;
        memcpy(text + used, part, more + 1);
        used += more;
        free(part);
    }
    *bytes = used;
    return text;
}

size_t qn_text_split(const char *text, size_t bytes, double fraction)
{
    if (!text || !(fraction > 0))
        return bytes;
    if (fraction >= 1)
        return 0;
    size_t at = (size_t)((double)bytes * (1 - fraction));
    /* A sequence has at most three bytes behind its first; more of them are no UTF-8, and cut as
     * they come. */
    for (int back = 0; back < 3 && at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80; back++)
        at--;
    return at;
}

/* ---- Windows ---- */

struct qn_dataset {
    int32_t *tokens;         /* or: */
    const qn_tokens *mapped; /* from `first` on */
    size_t first, count, bytes, context_length;
};

static bool check_length(qn_context *context, const char *name, const qn_dataset *dataset)
{
    if (dataset->count > dataset->context_length)
        return true;
    context_fail(context, QN_ERROR_FORMAT,
                 "%s: a context of %zu needs at least %zu tokens, found %zu (in %zu bytes): give "
                 "more text, or train with a shorter context",
                 name, dataset->context_length, dataset->context_length + 1, dataset->count,
                 dataset->bytes);
    return false;
}

qn_dataset *qn_dataset_new(qn_tokenizer *tokenizer, const char *name, const char *text,
                           size_t bytes, size_t context_length)
{
    if (!tokenizer || !name || (bytes > 0 && !text))
        return NULL;
    qn_context *context = tokenizer->context;
    if (context_length == 0) {
        context_fail(context, QN_ERROR_INVALID, "%s: a context of 0 tokens", name);
        return NULL;
    }
    qn_dataset *dataset = context_alloc(context, 1, sizeof *dataset);
    if (!dataset)
        return NULL;
    dataset->bytes = bytes;
    dataset->context_length = context_length;
    if (qn_encode(tokenizer, name, text, bytes, &dataset->tokens, &dataset->count) != QN_OK)
        goto fail;
    if (check_length(context, name, dataset)) {
        /* The vector has room for growth; a failure to give it back does no harm. */
        int32_t *exact = realloc(dataset->tokens, dataset->count * sizeof *exact);
        dataset->tokens = exact ? exact : dataset->tokens;
        return dataset;
    }
fail:
    qn_dataset_free(dataset);
    return NULL;
}

qn_dataset *qn_dataset_mapped(const qn_tokens *tokens, size_t first, size_t count,
                              size_t context_length)
{
    size_t all = qn_tokens_count(tokens);
    if (!tokens || first > all || count > all - first || context_length == 0)
        return NULL;
    qn_context *context = tokens_context(tokens);
    qn_dataset *dataset = context_alloc(context, 1, sizeof *dataset);
    if (!dataset)
        return NULL;
    double bytes = (double)qn_tokens_bytes(tokens) * (double)count / (double)size_max(all, 1);
    *dataset = (qn_dataset){.mapped = tokens,
                            .first = first,
                            .count = count,
                            .bytes = (size_t)bytes,
                            .context_length = context_length};
    if (check_length(context, "the file of tokens", dataset))
        return dataset;
    qn_dataset_free(dataset);
    return NULL;
}

void qn_dataset_free(qn_dataset *dataset)
{
    if (!dataset)
        return;
    free(dataset->tokens);
    free(dataset);
}

size_t qn_dataset_tokens(const qn_dataset *dataset)
{
    return dataset ? dataset->count : 0;
}

size_t qn_dataset_bytes(const qn_dataset *dataset)
{
    return dataset ? dataset->bytes : 0;
}

static void copy_tokens(const qn_dataset *dataset, size_t start, size_t count, int32_t *ids)
{
    if (dataset->mapped)
        qn_tokens_read(dataset->mapped, dataset->first + start, count, ids);
    else
        memcpy(ids, dataset->tokens + start, count * sizeof *ids);
}

void qn_dataset_random(const qn_dataset *dataset, uint64_t seed, uint64_t step, size_t first_row,
                       size_t rows, int32_t *inputs, int32_t *targets)
{
    size_t length = dataset->context_length;
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (size_t row = 0; row < rows; row++) {
        uint64_t number = first_row + row;
        const uint32_t counter[4] = {(uint32_t)step, (uint32_t)(step >> 32), (uint32_t)number,
                                     (uint32_t)(number >> 32)};
        struct philox random = philox(counter, key);
        size_t start =
            (size_t)philox_below(random.word[0], random.word[1], dataset->count - length);
        copy_tokens(dataset, start, length, inputs + row * length);
        copy_tokens(dataset, start + 1, length, targets + row * length);
    }
}

bool qn_dataset_streams(const qn_dataset *dataset, uint64_t step, size_t rows, int32_t *inputs,
                        int32_t *targets)
{
    size_t length = dataset->context_length, stream = (dataset->count - 1) / rows;
    size_t windows = size_max(stream / length, 1), window = (size_t)(step % windows);
    for (size_t row = 0; row < rows; row++) {
        size_t last = dataset->count - 1 - length; /* where a stream is shorter than a window */
        size_t from = size_min(row * stream + window * length, last);
        copy_tokens(dataset, from, length, inputs + row * length);
        copy_tokens(dataset, from + 1, length, targets + row * length);
    }
    return window == 0;
}

size_t qn_dataset_windows(const qn_dataset *dataset)
{
    return dataset ? divide_up(dataset->count - 1, dataset->context_length) : 0;
}

void qn_dataset_sequential(const qn_dataset *dataset, size_t first, size_t rows, int32_t *inputs,
                           int32_t *targets)
{
    size_t length = dataset->context_length, predicted = dataset->count - 1;
    size_t windows = qn_dataset_windows(dataset);
    for (size_t row = 0; row < rows; row++) {
        size_t window = first + row;
        size_t start = window < windows ? window * length : predicted;
        size_t count = size_min(length, predicted - start);
        copy_tokens(dataset, start, count, inputs + row * length);
        copy_tokens(dataset, start + 1, count, targets + row * length);
        for (size_t i = count; i < length; i++) {
            inputs[row * length + i] = 0;
            targets[row * length + i] = QN_IGNORE;
        }
    }
}

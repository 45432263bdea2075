/* Which rows a run has: those of a suite, or of the shapes that --shapes gives. */
#include "cli/bench/bench.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* ---- The suites ---- */

const char *const suite_names[SUITES] = {"quick", "standard", "full"};

/* clang-format off */

/* Operations, with the number of their kind's variants that each suite has: the first ones. */
static const struct {
    const char *kind;
    unsigned char n_variants[SUITES]; /* quick, standard, full */
    size_t sizes[MOST_SIZES];
} cases[] = {
    {"gemm", {0, 4, 4}, {256, 256, 256}},
    {"gemm", {0, 4, 4}, {1024, 1024, 1024}},
    {"gemm", {0, 4, 4}, {2048, 2048, 2048}},
    {"gemm", {0, 0, 4}, {4096, 4096, 4096}},
    {"gemm", {0, 0, 1}, {8192, 8192, 8192}},
    {"gemm", {1, 4, 4}, {512, 2304, 768}}, /* GPT-2 124M on 512 tokens: q, k, v; down; logits */
    {"gemm", {0, 4, 4}, {512, 768, 3072}},
    {"gemm", {0, 4, 4}, {512, 50257, 768}},
    {"gemm", {0, 0, 4}, {8192, 2304, 768}}, /* on 8,192 */
    {"gemm", {0, 0, 4}, {8192, 768, 3072}},
    {"gemm", {0, 0, 2}, {8192, 50257, 768}},
    {"gemm", {0, 4, 4}, {49, 2048, 512}},
    {"gemm", {0, 2, 2}, {1, 3072, 768}}, /* generating: a text, and eight; weights in both orders */
    {"gemm", {0, 2, 2}, {1, 768, 3072}},
    {"gemm", {0, 2, 2}, {1, 50257, 768}},
    {"gemm", {0, 2, 2}, {8, 3072, 768}},
    {"gemm", {0, 2, 2}, {8, 768, 3072}},
    {"gemm", {0, 2, 2}, {8, 50257, 768}},
    {"gemm_kept", {0, 2, 2}, {16, 2304, 768}}, /* sixteen texts; and one from above */
    {"gemm_kept", {0, 2, 2}, {49, 2048, 512}},
    {"gemm_bf16", {0, 4, 4}, {1024, 1024, 1024}},
    {"gemm_bf16", {0, 4, 4}, {2048, 2048, 2048}},
    {"gemm_bf16", {0, 0, 4}, {4096, 4096, 4096}},
    {"gemm_bf16", {0, 0, 2}, {8192, 8192, 8192}},
    {"gemm_bf16", {1, 4, 4}, {512, 2304, 768}},
    {"gemm_bf16", {0, 4, 4}, {512, 768, 3072}},
    {"gemm_bf16", {0, 0, 4}, {8192, 2304, 768}},
    {"gemm_bf16", {0, 0, 2}, {8192, 50257, 768}},
    {"gemm_bf16", {0, 2, 2}, {1, 3072, 768}},
    {"copy", {0, 1, 1}, {65536}}, /* a quarter of a MiB: from a cache */
    {"copy", {0, 1, 1}, {1048576}},
    {"copy", {0, 1, 1}, {4194304}},
    {"copy", {0, 1, 1}, {33554432}},
    {"copy", {0, 0, 1}, {268435456}},
    {"add", {0, 1, 1}, {65536}},
    {"add", {0, 1, 1}, {1048576}},
    {"add", {1, 1, 1}, {4194304}},
    {"add", {0, 1, 1}, {33554432}},
    {"layer_norm", {2, 2, 2}, {2048, 768}},
    {"layer_norm", {0, 0, 2}, {16384, 4096}},
    {"softmax", {0, 1, 1}, {4096, 1024}},
    {"softmax", {1, 1, 1}, {2048, 1024}},
    {"softmax", {0, 0, 1}, {16384, 4096}},
    {"gelu", {0, 2, 2}, {2048, 3072}},
    {"gelu", {0, 0, 2}, {16384, 3072}},
    {"cross_entropy", {0, 1, 1}, {512, 50257}},
    {"cross_entropy", {0, 0, 1}, {8192, 50257}},
    {"dropout", {0, 1, 1}, {2048, 3072}},
    {"embedding_backward", {0, 1, 1}, {50257, 768, 512}},
    {"embedding_backward", {0, 0, 1}, {50257, 768, 8192}},
    {"adamw", {0, 1, 1}, {16777216}},
    {"adamw", {0, 0, 1}, {134217728}},
    {"attention", {0, 2, 2}, {1, 12, 1024, 64}},
    {"attention", {0, 2, 2}, {4, 12, 256, 64}},
    {"attention", {2, 2, 2}, {8, 6, 256, 64}},
    {"attention", {0, 2, 2}, {12, 4, 64, 32}},
    {"attention", {0, 0, 2}, {8, 12, 1024, 64}}, /* heads of 64 and of 128 */
    {"attention", {0, 0, 2}, {8, 16, 1024, 128}},
    {"attention", {0, 0, 2}, {1, 32, 4096, 128}},
    {"attention", {0, 0, 1}, {1, 16, 16384, 64}},
    {"attention_decode", {1, 1, 1}, {1, 12, 1024, 64}},
    {"attention_decode", {0, 1, 1}, {1, 12, 16384, 64}},
    {"attention_decode", {0, 0, 1}, {16, 12, 4096, 64}},
    {"attention_decode", {0, 0, 1}, {1, 32, 32768, 128}},
    {"rnn", {0, 2, 2}, {2, 512, 64, 32}}, /* layers, units, length, batch */
    {"rnn", {0, 2, 2}, {1, 128, 100, 128}},
    {"lstm", {0, 2, 2}, {2, 512, 64, 32}},
    {"lstm", {2, 2, 2}, {1, 128, 100, 128}},
    {"lstm", {0, 0, 2}, {2, 1024, 100, 128}},
    {"gru", {0, 2, 2}, {2, 512, 64, 32}},
    {"gru", {0, 2, 2}, {1, 128, 100, 128}},
    {"gru", {0, 0, 2}, {2, 1024, 100, 128}},
};

/* clang-format on */

static bool is_training(const char *group)
{
    return strcmp(group, "train") == 0 || strcmp(group, "seq2seq") == 0;
}

static bool run_variants(struct bench *bench, const struct kind *kind, const size_t *sizes,
                         size_t most)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < most && kind->variants[i]; i++)
        is_good = bench_operation(bench, TABLE_OPERATIONS, kind, sizes, i);
    return is_good;
}

bool bench_group(struct bench *bench, const char *group)
{
    if (is_training(group))
        return bench_train(bench, group, NULL, 0);
    if (strcmp(group, "generate") == 0)
        return bench_generate(bench, NULL, 0);
    for (size_t i = 0; i < LENGTH(cases); i++)
        for (size_t k = 0; k < n_kinds; k++)
            if (strcmp(kinds[k].name, cases[i].kind) == 0 && strcmp(kinds[k].group, group) == 0 &&
                !run_variants(bench, &kinds[k], cases[i].sizes, cases[i].n_variants[bench->suite]))
                return false;
    return true;
}

/* ---- Shapes ---- */

bool read_shape(const char **shapes, size_t sizes[MOST_SIZES], size_t *count)
{
    for (*count = 0; *count < MOST_SIZES;) {
        char *end;
        unsigned long long size = strtoull(*shapes, &end, 10);
        if (**shapes < '0' || **shapes > '9' || size == 0 || size > INT32_MAX)
            return false;
        sizes[(*count)++] = (size_t)size;
        *shapes = end;
        if (*end != 'x')
            return *end == '\0' || *end == ',';
        (*shapes)++;
    }
    return false;
}

static bool fits(const struct kind *kind, const char *group, size_t n_sizes)
{
    return strcmp(kind->group, group) == 0 && kind->n_sizes == n_sizes;
}

static bool has_shape(const char *group, const size_t *sizes, size_t count)
{
    if (is_training(group))
        return train_has_shape(group, sizes, count);
    if (strcmp(group, "generate") == 0)
        return generate_has_shape(sizes, count);
    if (strcmp(group, "rnn") == 0 && sizes[0] > MOST_LAYERS)
        return false;
    for (size_t k = 0; k < n_kinds; k++)
        if (fits(&kinds[k], group, count))
            return true;
    return false;
}

bool shapes_are_good(const char *group, const char *shapes, char wrong[SIZES_TEXT])
{
    do {
        size_t sizes[MOST_SIZES], count;
        snprintf(wrong, SIZES_TEXT, "%.*s", (int)strcspn(shapes, ","), shapes);
        if (!read_shape(&shapes, sizes, &count) || !has_shape(group, sizes, count))
            return false;
    } while (*shapes++ == ',');
    return true;
}

static bool run_shape(struct bench *bench, const char *group, const size_t *sizes, size_t count)
{
    if (is_training(group))
        return bench_train(bench, group, sizes, count);
    if (strcmp(group, "generate") == 0)
        return bench_generate(bench, sizes, count);
    for (size_t k = 0; k < n_kinds; k++)
        if (fits(&kinds[k], group, count) && !run_variants(bench, &kinds[k], sizes, MOST_VARIANTS))
            return false;
    return true;
}

/* Whether the list has the shape before `end`. */
static bool has_before(const char *list, const char *end, const size_t *sizes, size_t count)
{
    size_t other[MOST_SIZES], n;
    for (; list < end; list++)
        if (read_shape(&list, other, &n) && n == count && list < end &&
            memcmp(other, sizes, count * sizeof *sizes) == 0)
            return true;
    return false;
}

bool bench_shapes(struct bench *bench, const char *group, const char *shapes)
{
    const char *list = shapes;
    size_t sizes[MOST_SIZES], count;
    do {
        const char *begin = shapes;
        if (read_shape(&shapes, sizes, &count) && !has_before(list, begin, sizes, count) &&
            !run_shape(bench, group, sizes, count))
            return false;
    } while (*shapes++ == ',');
    return true;
}

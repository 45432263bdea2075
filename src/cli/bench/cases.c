/* The operations that are timed: how each is built, what it costs, and with which sizes. */
#include "cli/bench/bench.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

const struct qn_adamw bench_adamw = {
    .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.1};
const double bench_dropout = 0.1;

/* ---- Building; s[] are the sizes of the row ---- */

/* Casts of operands are constant, and computed once; that of a result belongs to the product. */
static void build_product(struct operation *operation, const size_t *s, size_t variant,
                          enum qn_type type, bool keep_b)
{
    bool transpose_a = variant == TN || variant == TT, transpose_b = variant == NT || variant == TT;
    qn_node *a =
        operation_normal(operation, transpose_a ? QN_SHAPE(s[2], s[0]) : QN_SHAPE(s[0], s[2]));
    qn_node *b =
        operation_normal(operation, transpose_b ? QN_SHAPE(s[1], s[2]) : QN_SHAPE(s[2], s[1]));
    qn_node *product = qn_matmul_with(qn_cast(a, type), qn_cast(b, type),
                                      (struct qn_matmul){.transpose_a = transpose_a,
                                                         .transpose_b = transpose_b,
                                                         .keep_b = keep_b});
    operation_result(operation, qn_cast(product, QN_F32));
}

static void build_gemm(struct operation *operation, const size_t *s, size_t variant) /* M, N, K */
{
    build_product(operation, s, variant, QN_F32, false);
}

static void build_gemm_bf16(struct operation *operation, const size_t *s, size_t variant)
{
    build_product(operation, s, variant, QN_BF16, false);
}

static void build_gemm_kept(struct operation *operation, const size_t *s, size_t variant)
{
    build_product(operation, s, variant, QN_F32, true);
}

static void build_attention(struct operation *operation, const size_t *s, size_t variant)
{
    qn_node *inputs[3]; /* q, k, v: (B, T, H, D) of B, H, T, D */
    for (int i = 0; i < 3; i++)
        inputs[i] = operation_normal(operation, QN_SHAPE(s[0], s[2], s[1], s[3]));
    qn_node *y =
        qn_attention(inputs[0], inputs[1], inputs[2], (struct qn_attention){.is_causal = true});
    operation_with_gradients(operation, y, variant == BACKWARD, 3);
}

/* A token's query and all the keys before it, as generating reads them. */
static void build_attention_decode(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    qn_node *q = operation_normal(operation, QN_SHAPE(s[0], 1, s[1], s[3]));
    qn_node *k = operation_normal(operation, QN_SHAPE(s[0], s[2], s[1], s[3]));
    qn_node *v = operation_normal(operation, QN_SHAPE(s[0], s[2], s[1], s[3]));
    qn_node *position = operation_integer(operation, (int32_t)s[2] - 1);
    operation_result(
        operation,
        qn_attention(q, k, v, (struct qn_attention){.is_causal = true, .position = position}));
}

static void build_layer_norm(struct operation *operation, const size_t *s, size_t variant)
{
    qn_node *x = operation_normal(operation, QN_SHAPE(s[0], s[1]));
    qn_node *weight = operation_normal(operation, QN_SHAPE(s[1]));
    qn_node *bias = operation_normal(operation, QN_SHAPE(s[1]));
    operation_with_gradients(operation, qn_layer_norm(x, weight, bias, 1e-5), variant == BACKWARD,
                             3);
}

static void build_softmax(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    operation_result(operation, qn_softmax(operation_normal(operation, QN_SHAPE(s[0], s[1])), -1));
}

static void build_gelu(struct operation *operation, const size_t *s, size_t variant)
{
    qn_node *x = operation_normal(operation, QN_SHAPE(s[0], s[1]));
    operation_with_gradients(operation, qn_gelu(x), variant == BACKWARD, 1);
}

static void build_cross_entropy(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    qn_node *logits = operation_normal(operation, QN_SHAPE(s[0], s[1]));
    qn_node *targets = operation_indices(operation, s[0], s[1]);
    operation_with_gradients(operation, qn_cross_entropy(logits, targets), true, 1);
}

static void build_dropout(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    qn_node *x = operation_normal(operation, QN_SHAPE(s[0], s[1]));
    qn_node *key = operation_indices(operation, 2, 1000);
    operation_result(operation, qn_dropout(x, bench_dropout, key, 1));
}

static void build_embedding(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant; /* the gradient alone; s: vocabulary, width, ids */
    qn_node *table = operation_filled(operation, QN_SHAPE(s[0], s[1]), 0), *gradient = NULL;
    qn_node *ids = operation_indices(operation, s[2], s[0]);
    qn_node *slope = operation_normal(operation, QN_SHAPE(s[2], s[1]));
    qn_gradients(qn_embedding(table, ids), slope, &table, 1, &gradient);
    operation_result(operation, gradient);
}

static void build_adamw(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    qn_node *inputs[8]; /* parameters, m, v, gradient, rate, scale, t, gate */
    for (int i = 0; i < 4; i++)
        inputs[i] = i == 2 ? operation_filled(operation, QN_SHAPE(s[0]), 0.5)
                           : operation_counted(operation, s[0]);
    static const double numbers[] = {1e-3, 0.5, 3, 1};
    for (int i = 0; i < 4; i++)
        inputs[4 + i] = operation_filled(operation, QN_SCALAR, numbers[i]);
    qn_node *updated = qn_adamw(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5],
                                inputs[6], inputs[7], bench_adamw);
    for (int i = 0; i < 3; i++)
        operation_update(operation, (size_t)i, qn_output(updated, i));
}

/* x + 1: a copy as such would be no operation at all. */
void build_copy(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    operation_result(operation, qn_offset(operation_counted(operation, s[0]), 1));
}

static void build_add(struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    qn_node *a = operation_counted(operation, s[0]);
    operation_result(operation, qn_add(a, operation_counted(operation, s[0])));
}

/* ---- What a run costs: what must be computed, and what must be moved at least ---- */

static double cost_gemm(const size_t *s, size_t variant)
{
    (void)variant;
    return 2.0 * (double)s[0] * (double)s[1] * (double)s[2];
}

/* Half of both products of the square: the other half is masked.  Backward has five products. */
static double cost_attention(const size_t *s, size_t variant)
{
    double square = 2.0 * (double)s[0] * (double)s[1] * (double)s[2] * (double)s[2] * (double)s[3];
    return variant == BACKWARD ? 3.5 * square : square;
}

/* Keys and values. */
static double cost_attention_decode(const size_t *s, size_t variant)
{
    (void)variant;
    return 8.0 * (double)s[0] * (double)s[1] * (double)s[2] * (double)s[3];
}

/* Forward x, y; backward also x, dy, dx. */
static double cost_rows(const size_t *s, size_t variant)
{
    return 4.0 * (double)s[0] * (double)s[1] * (variant == BACKWARD ? 5 : 2);
}

/* Logits are read twice: there is a sum over each row before its gradient. */
static double cost_cross_entropy(const size_t *s, size_t variant)
{
    (void)variant;
    return 4.0 * (double)s[0] * (double)s[1] * 3;
}

/* All of the gradient is written: zeros, too. */
static double cost_embedding(const size_t *s, size_t variant)
{
    (void)variant;
    return 4.0 * (double)s[1] * (double)(s[0] + 2 * s[2]);
}

static double cost_adamw(const size_t *s, size_t variant)
{
    (void)variant;
    return 28.0 * (double)s[0];
}

static double cost_copy(const size_t *s, size_t variant)
{
    (void)variant;
    return 8.0 * (double)s[0];
}

static double cost_add(const size_t *s, size_t variant)
{
    (void)variant;
    return 12.0 * (double)s[0];
}

/* ---- The tables ---- */

/* clang-format off */

#define BOTH {"forward", "forward+backward"}
#define ONE {""}

const struct kind kinds[] = {
    {"gemm", "gemm", 3, {"NN", "NT", "TN", "TT"}, FLOPS, build_gemm, check_gemm, cost_gemm},
    {"gemm", "gemm_bf16", 3, {"NN", "NT", "TN", "TT"}, FLOPS, build_gemm_bf16, check_gemm_bf16,
        cost_gemm},
    {"gemm", "gemm_kept", 3, {"NN", "NT"}, FLOPS, build_gemm_kept, check_gemm, cost_gemm},
    {"memory", "copy", 1, ONE, BYTES, build_copy, check_copy, cost_copy},
    {"memory", "add", 1, ONE, BYTES, build_add, check_add, cost_add},
    {"rows", "layer_norm", 2, BOTH, BYTES, build_layer_norm, check_layer_norm, cost_rows},
    {"rows", "softmax", 2, ONE, BYTES, build_softmax, check_softmax, cost_rows},
    {"rows", "gelu", 2, BOTH, BYTES, build_gelu, check_gelu, cost_rows},
    {"rows", "cross_entropy", 2, ONE, BYTES, build_cross_entropy, check_cross_entropy,
        cost_cross_entropy},
    {"rows", "dropout", 2, ONE, BYTES, build_dropout, check_dropout, cost_rows},
    {"rows", "embedding_backward", 3, ONE, BYTES, build_embedding, check_embedding,
        cost_embedding},
    {"rows", "adamw", 1, ONE, BYTES, build_adamw, check_adamw, cost_adamw},
    {"attention", "attention", 4, BOTH, FLOPS, build_attention, check_attention, cost_attention},
    {"attention", "attention_decode", 4, ONE, BYTES, build_attention_decode,
        check_attention_decode, cost_attention_decode},
    {"rnn", "rnn", 4, BOTH, FLOPS, build_rnn, check_rnn, amount_rnn},
    {"rnn", "lstm", 4, BOTH, FLOPS, build_lstm, check_lstm, amount_lstm},
    {"rnn", "gru", 4, BOTH, FLOPS, build_gru, check_gru, amount_gru},
};

static const struct {
    const char *kind;
    size_t n_variants; /* of the kind's, the first ones */
    size_t sizes[MOST_SIZES];
} cases[] = {
    {"gemm", 4, {256, 256, 256}},
    {"gemm", 4, {1024, 1024, 1024}},
    {"gemm", 4, {2048, 2048, 2048}},
    {"gemm", 4, {512, 2304, 768}}, /* GPT-2 124M on 512 tokens: q, k, v; down; logits */
    {"gemm", 4, {512, 768, 3072}},
    {"gemm", 4, {512, 50257, 768}},
    {"gemm", 4, {49, 2048, 512}},
    {"gemm", 2, {1, 3072, 768}}, /* generating: a text, and eight; weights in both orders */
    {"gemm", 2, {1, 768, 3072}},
    {"gemm", 2, {1, 50257, 768}},
    {"gemm", 2, {8, 3072, 768}},
    {"gemm", 2, {8, 768, 3072}},
    {"gemm", 2, {8, 50257, 768}},
    {"gemm_kept", 2, {16, 2304, 768}}, /* sixteen texts; and one from above */
    {"gemm_kept", 2, {49, 2048, 512}},
    {"gemm_bf16", 4, {1024, 1024, 1024}},
    {"gemm_bf16", 4, {2048, 2048, 2048}},
    {"gemm_bf16", 4, {512, 2304, 768}},
    {"gemm_bf16", 4, {512, 768, 3072}},
    {"gemm_bf16", 2, {1, 3072, 768}},
    {"copy", 1, {65536}}, /* a quarter of a MiB: from a cache */
    {"copy", 1, {1048576}},
    {"copy", 1, {4194304}},
    {"copy", 1, {33554432}},
    {"add", 1, {65536}},
    {"add", 1, {1048576}},
    {"add", 1, {4194304}},
    {"add", 1, {33554432}},
    {"layer_norm", 2, {2048, 768}},
    {"softmax", 1, {4096, 1024}},
    {"softmax", 1, {2048, 1024}},
    {"gelu", 2, {2048, 3072}},
    {"cross_entropy", 1, {512, 50257}},
    {"dropout", 1, {2048, 3072}},
    {"embedding_backward", 1, {50257, 768, 512}},
    {"adamw", 1, {16777216}},
    {"attention", 2, {1, 12, 1024, 64}},
    {"attention", 2, {4, 12, 256, 64}},
    {"attention", 2, {8, 6, 256, 64}},
    {"attention", 2, {12, 4, 64, 32}},
    {"attention_decode", 1, {1, 12, 1024, 64}},
    {"attention_decode", 1, {1, 12, 16384, 64}},
    {"rnn", 2, {2, 512, 64, 32}}, /* layers, units, length, batch */
    {"rnn", 2, {1, 128, 100, 128}},
    {"lstm", 2, {2, 512, 64, 32}},
    {"lstm", 2, {1, 128, 100, 128}},
    {"gru", 2, {2, 512, 64, 32}},
    {"gru", 2, {1, 128, 100, 128}},
};

/* clang-format on */

const size_t n_kinds = LENGTH(kinds);

/* ---- Running them ---- */

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
                !run_variants(bench, &kinds[k], cases[i].sizes, cases[i].n_variants))
                return false;
    return true;
}

/* Reads the next of shapes such as "64x64x64,128x128x128"; false if it is none. */
static bool read_shape(const char **shapes, size_t sizes[MOST_SIZES], size_t *count)
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

/* The operations that are timed: how each is built, and what it costs. */
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

static void build_gemm_f16(struct operation *operation, const size_t *s, size_t variant)
{
    build_product(operation, s, variant, QN_F16, false);
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

static const struct kind gemm_f16 = {
    "gemm", "gemm_f16", 3, {"NN", "NT", "TN", "TT"}, FLOPS, build_gemm_f16, check_gemm_f16, cost_gemm};

/* clang-format on */

const size_t n_kinds = LENGTH(kinds);

const struct kind *kind_of_products(enum qn_type type)
{
    return type == QN_F32 ? &kinds[0] : type == QN_BF16 ? &kinds[1] : &gemm_f16;
}

/* Plans of what training leaves out, for tools/check-offline.sh: with QUERN_DUMP_CL and no device, their kernels are written.
 *
 *   tests/offline             all of them
 *   tests/offline products    those of products alone */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "cl_sources.h"
#include "device/device.h"
#include "gemm/gemm.h"

enum { ROWS = 4, HEADS = 8, KV_HEADS = 2, TEXT = 256, CACHE = 4096, CLASSES = 32000, BEAM = 4 };

static _Noreturn void give_up(qn_context *qn)
{
    fprintf(stderr, "offline: %s\n", qn_error(qn));
    exit(1);
}

static void plan(qn_context *qn, qn_graph *graph, qn_node *const *roots, size_t count)
{
    qn_plan *made = qn_plan_new(graph, roots, count);
    if (!made)
        give_up(qn);
    qn_plan_free(made);
    qn_graph_free(graph);
}

/* Attention and its gradients. */
static void plan_attention(qn_context *qn, enum qn_type type, size_t head_size)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *x[] = {qn_input(graph, "q", type, QN_SHAPE(ROWS, TEXT, HEADS, head_size)),
                    qn_input(graph, "k", type, QN_SHAPE(ROWS, TEXT, KV_HEADS, head_size)),
                    qn_input(graph, "v", type, QN_SHAPE(ROWS, TEXT, KV_HEADS, head_size))};
    qn_node *y = qn_attention(x[0], x[1], x[2], (struct qn_attention){.is_causal = true});
    qn_node *dy = qn_input(graph, "dy", type, QN_SHAPE(ROWS, TEXT, HEADS, head_size));
    qn_node *roots[4] = {y};
    if (qn_gradients(y, dy, x, 3, roots + 1) != QN_OK)
        give_up(qn);
    plan(qn, graph, roots, 4);
}

/* Attention of a word, or several, to those before them, in caches of rows and in one that beams share; so many heads share keys. */
static void plan_decoding(qn_context *qn, enum qn_type type, size_t head_size, size_t group,
                          size_t words)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *q = qn_input(graph, "q", type, QN_SHAPE(ROWS, words, KV_HEADS * group, head_size)),
            *position = qn_input(graph, "position", QN_I32, QN_SHAPE(1)),
            *table = qn_input(graph, "table", QN_I32, QN_SHAPE(ROWS, CACHE));
    struct qn_attention options = {.is_causal = true, .position = position};
    qn_node *roots[2];
    for (int shared = 0; shared < 2; shared++) {
        qn_shape shape = shared ? QN_SHAPE(1, (size_t)ROWS * CACHE, KV_HEADS, head_size)
                                : QN_SHAPE(ROWS, CACHE, KV_HEADS, head_size);
        options.table = shared ? table : NULL;
        roots[shared] =
            qn_attention(q, qn_input(graph, shared ? "shared_k" : "k", type, shape),
                         qn_input(graph, shared ? "shared_v" : "v", type, shape), options);
    }
    plan(qn, graph, roots, 2);
}

/* How words are chosen: drawn, and by beam search. */
static void plan_choosing(qn_context *qn)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *logits = qn_input(graph, "logits", QN_F32, QN_SHAPE(ROWS, CLASSES)),
            *key = qn_input(graph, "key", QN_I32, QN_SHAPE(2));
    qn_node *roots[] = {qn_sample(logits, key, (struct qn_sample){1.0f, 50, 0.9f}),
                        qn_top_k(qn_log_softmax(logits, -1), 2 * BEAM), qn_argmax(logits, -1),
                        qn_cumsum(logits, -1), qn_cumsum(logits, 0)};
    plan(qn, graph, roots, sizeof roots / sizeof *roots);
}

/* Weights of scores, as recurrent decoders have them, and their gradient. */
static void plan_softmax(qn_context *qn, enum qn_type type)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *scores = qn_input(graph, "scores", type, QN_SHAPE(ROWS, TEXT, TEXT)),
            *dy = qn_input(graph, "dy", type, QN_SHAPE(ROWS, TEXT, TEXT));
    qn_node *roots[2] = {qn_softmax(scores, -1)};
    if (qn_gradients(roots[0], dy, &scores, 1, roots + 1) != QN_OK)
        give_up(qn);
    plan(qn, graph, roots, 2);
}

/* What `quern bench` holds products of bf16 to. */
static void plan_peak(qn_context *qn)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *one = qn_input(graph, "one", QN_F32, QN_SHAPE(1));
    qn_node *peak = gemm_matrix_peak(one, 1024, 128, &qn->caps);
    plan(qn, graph, &peak, 1);
}

/* Products of so many rows, of the first of these layouts: by b transposed, as weights lie; by b as it is; by a transposed, too, as
 * gradients of weights have it. */
enum layouts { NT = 1, NN, TN };
static void plan_products(qn_context *qn, enum qn_type type, size_t rows, size_t columns,
                          enum layouts layouts)
{
    size_t k = columns < TEXT ? columns : TEXT;
    qn_graph *graph = qn_graph_new(qn);
    qn_node *a = qn_input(graph, "a", type, QN_SHAPE(rows, k)),
            *a_transposed = qn_input(graph, "at", type, QN_SHAPE(k, rows)),
            *b = qn_input(graph, "b", type, QN_SHAPE(k, columns)),
            *b_transposed = qn_input(graph, "bt", type, QN_SHAPE(columns, k));
    qn_node *roots[] = {qn_matmul_with(a, b_transposed, (struct qn_matmul){.transpose_b = true}),
                        qn_matmul(a, b),
                        qn_matmul_with(a_transposed, b, (struct qn_matmul){.transpose_a = true})};
    plan(qn, graph, roots, layouts);
}

/* Large tiles, of rows that begin at multiples of 16 bytes and of such that do not, and smaller ones.  Where f16 becomes f32 as it is read,
 * the rest is as with bf16. */
static void plan_tiles(qn_context *qn, enum qn_type type)
{
    if (type == QN_F16 && !gemm_matrix_is_there(type, &qn->caps)) {
        plan_products(qn, type, TEXT, TEXT, NT);
        return;
    }
    plan_products(qn, type, TEXT, TEXT, TN);
    plan_products(qn, type, TEXT - 4, TEXT - 4, TN);
    plan_products(qn, type, 64, TEXT, NT);
    plan_products(qn, type, 32, TEXT, NT);
}

/* No plan has them: what looks for numbers that are not finite, and a peak of `quern bench`. */
static void dump_others(qn_context *qn)
{
    static const struct kernel_key keys[] = {
        {&source_check, "find_not_finite", "#define T float\n"},
        {&source_check, "find_not_finite", "#define T f16\n"},
        {&source_check, "find_not_finite", "#define T bf16\n"},
        {&source_bench, "fma_peak", ""},
    };
    if (kernels_dump(qn, keys, sizeof keys / sizeof *keys) != QN_OK)
        give_up(qn);
}

/* A context for plans; where an operation has the variant, it is taken. */
static qn_context *open_for(const char *variant)
{
    qn_context *qn = qn_open_with(&(struct qn_options){.device = "none", .variant = variant});
    if (!qn)
        give_up(qn);
    return qn;
}

static void plan_tf32(void)
{
    qn_context *qn = qn_open_with(&(struct qn_options){.device = "none", .gemm = "tf32"});
    if (!qn)
        give_up(qn);
    plan_products(qn, QN_F32, TEXT, TEXT, TN);
    plan_products(qn, QN_F32, 64, TEXT, NT);
    qn_close(qn);
}

int main(int argc, char **argv)
{
    static const enum qn_type types[] = {QN_F32, QN_BF16, QN_F16};
    qn_context *qn = open_for(NULL), *tiled = open_for("tiled");
    bool is_all = argc < 2 || strcmp(argv[1], "products") != 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        plan_tiles(qn, types[i]);
        if (!is_all)
            continue;
        plan_products(qn, types[i], 1, TEXT, NN); /* of decoding */
        plan_products(qn, types[i], 8, TEXT, NN);
        plan_products(tiled, types[i], 32, TEXT,
                      NT); /* where others are faster, but do not take all */
    }
    if (is_all) {
        plan_products(qn, QN_F32, 1, CLASSES, NT); /* as many columns as there are words */
        plan_products(qn, QN_F32, 8, CLASSES, NT);
        plan_tiles(tiled, QN_F32);
        plan_attention(qn, QN_F16, 64);
        plan_attention(qn, QN_F32, 128);
        plan_attention(qn, QN_F32, 256);
        plan_decoding(qn, QN_F32, 64, 4, 1);
        plan_decoding(qn, QN_BF16, 128, 4, 1);
        plan_decoding(qn, QN_F16, 64, 4, 1);
        plan_decoding(qn, QN_F32, 128, 8, 1);
        plan_decoding(qn, QN_BF16, 256, 8, 1);
        plan_decoding(qn, QN_F32, 256, 2, 4);
        plan_choosing(qn);
        plan_softmax(qn, QN_F32);
        dump_others(qn);
    }
    if (gemm_matrix_is_there(QN_BF16, &qn->caps))
        plan_peak(qn);
    if (qn->caps.matrix == QN_MMA_SYNC_TF32)
        plan_tf32();
    qn_close(tiled);
    qn_close(qn);
    return 0;
}

/* Plans of what training leaves out, for tools/check-offline.sh: with QUERN_DUMP_CL and no device, their kernels are written. */
#include <stdio.h>
#include <stdlib.h>

#include <quern/ops.h>

#include "device/context.h"
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

/* Attention of a word to those before it, in caches of rows and in one that beams share. */
static void plan_decoding(qn_context *qn, enum qn_type type, size_t head_size)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *q = qn_input(graph, "q", type, QN_SHAPE(ROWS, 1, HEADS, head_size)),
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

int main(void)
{
    qn_context *qn = qn_open("none");
    if (!qn) {
        fprintf(stderr, "offline: out of memory\n");
        return 1;
    }
    plan_attention(qn, QN_F16, 64);
    plan_attention(qn, QN_F32, 128);
    plan_decoding(qn, QN_F32, 64);
    plan_decoding(qn, QN_BF16, 128);
    plan_decoding(qn, QN_F16, 64);
    plan_choosing(qn);
    plan_softmax(qn, QN_F32);
    if (gemm_matrix_has_peak(&qn->caps))
        plan_peak(qn);
    qn_close(qn);
    return 0;
}

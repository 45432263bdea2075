/* Weights of attention, which its kernels never store: with them the values make what the kernels make. */
#include <math.h>
#include <stdlib.h>

#include "tap.h"

#include "open.h"

#include "nn/layers.h"

enum { ROWS = 2, QUERIES = 5, HEADS = 4, SIZE = 16 };

static qn_node *random_input(qn_graph *graph, const char *name, qn_shape shape, float **values)
{
    static uint32_t state = 1;
    *values = malloc(qn_shape_count(shape) * sizeof **values);
    for (size_t i = 0; i < qn_shape_count(shape); i++) {
        state = state * 1664525u + 1013904223u;
        (*values)[i] = (float)(state >> 8) * 0x1p-23f - 1;
    }
    return qn_input(graph, name, QN_F32, shape);
}

static void test_weights(qn_context *qn, size_t keys, size_t groups, bool is_causal,
                         const int32_t *lengths)
{
    qn_graph *graph = qn_graph_new(qn);
    float *q_values, *k_values, *v_values, worst = 0, largest = 0, sums = 0;
    qn_shape of_keys = QN_SHAPE(ROWS, keys, groups, SIZE);
    qn_node *q = random_input(graph, "q", QN_SHAPE(ROWS, QUERIES, HEADS, SIZE), &q_values),
            *k = random_input(graph, "k", of_keys, &k_values),
            *v = random_input(graph, "v", of_keys, &v_values),
            *ends = lengths ? qn_input(graph, "lengths", QN_I32, QN_SHAPE(ROWS)) : NULL;
    qn_node *weights = attention_weights(q, k, is_causal, ends);
    qn_node *shared = qn_reshape(
        weights, QN_SHAPE(ROWS, groups, HEADS / groups * QUERIES, keys)); /* heads of a group */
    qn_node *made = qn_matmul(shared, qn_transpose(v, 1, 2));
    made = qn_transpose(qn_reshape(made, QN_SHAPE(ROWS, HEADS, QUERIES, SIZE)), 1, 2);
    qn_node *expected =
        qn_attention(q, k, v, (struct qn_attention){.is_causal = is_causal, .lengths = ends});
    qn_node *roots[] = {qn_max(qn_abs(qn_sub(made, expected)), QN_ALL),
                        qn_max(qn_abs(expected), QN_ALL), qn_sum(weights, QN_ALL)};
    qn_plan *plan = qn_plan_new(graph, roots, 3);
    bool is_run =
        plan && qn_set(plan, q, q_values) == QN_OK && qn_set(plan, k, k_values) == QN_OK &&
        qn_set(plan, v, v_values) == QN_OK && (!lengths || qn_set(plan, ends, lengths) == QN_OK) &&
        qn_run(plan) == QN_OK && qn_get(plan, roots[0], &worst) == QN_OK &&
        qn_get(plan, roots[1], &largest) == QN_OK && qn_get(plan, roots[2], &sums) == QN_OK;
    if (!is_run)
        bail_out("not run: %s", qn_error(qn));
    ok(worst <= 2e-6F * largest && largest > 0.1F,
       "%zu keys of %zu heads%s%s: values weighed so are attention's, within %.1e of %.2f", keys,
       groups, is_causal ? ", causal" : "", lengths ? ", rows of different length" : "",
       (double)worst, (double)largest);
    ok(fabsf(sums - ROWS * HEADS * QUERIES) < 1e-3F, "and each query's weights make 1");
    qn_plan_free(plan);
    qn_graph_free(graph);
    free(q_values);
    free(k_values);
    free(v_values);
}

int main(void)
{
    qn_context *qn = open_with_quick_compiler();
    test_weights(qn, 7, HEADS, false, NULL);
    test_weights(qn, 7, HEADS, false, (int32_t[ROWS]){7, 3});
    test_weights(qn, QUERIES, HEADS, true, NULL);
    test_weights(qn, QUERIES, 2, true, NULL);
    qn_close(qn);
    return done_testing();
}

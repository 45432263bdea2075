/* Gradients held against central differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "device/memory.h"
#include "device/philox.h"
#include "graph/graph.h"

/* f32 rounding of the value limits how small a difference can be: the cube root of the precision balances it with the
 * curvature that a difference leaves out. */
static const double STEP = 5e-3;

enum { DIRECTIONS = 4 };

/* A direction of unit length, by Philox. */
static void direction(float *values, size_t count, uint32_t number, uint64_t seed)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t counter[4] = {(uint32_t)i, number, 0, 0};
        uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
        struct philox random = philox(counter, key);
        values[i] = (float)((random.word[0] >> 8) * 0x1p-23 - 1);
        squares += (double)values[i] * values[i];
    }
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(values[i] / sqrt(squares));
}

static int value_at(qn_plan *plan, qn_node *of, qn_tensor *tensor, const float *values,
                    const float *along, double step, float *scratch, double *value)
{
    size_t count = qn_shape_count(tensor->shape);
    for (size_t i = 0; i < count; i++)
        scratch[i] = (float)(values[i] + step * along[i]);
    int status = qn_tensor_write(tensor, scratch);
    if (status == QN_OK)
        status = qn_run(plan);
    *value = qn_get_f32(plan, of);
    return status == QN_OK ? (int)of->graph->context->status : status;
}

static int check_leaf(qn_plan *plan, qn_node *of, qn_node *leaf, qn_node *gradient, uint64_t seed,
                      double *error)
{
    qn_tensor *tensor = ((const struct leaf_attributes *)leaf->attributes)->tensor;
    qn_context *context = leaf->graph->context;
    size_t count = qn_shape_count(tensor->shape);
    float *values = context_alloc(context, count, sizeof *values);
    float *slope = context_alloc(context, count, sizeof *slope);
    float *along = context_alloc(context, count, sizeof *along);
    float *scratch = context_alloc(context, count, sizeof *scratch);
    int status =
        values && slope && along && scratch ? qn_tensor_read(tensor, values) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = qn_run(plan);
    if (status == QN_OK)
        status = qn_get(plan, gradient, slope);
    for (uint32_t number = 0; status == QN_OK && number < DIRECTIONS; number++) {
        direction(along, count, number, seed);
        double up = 0, down = 0, expected = 0, norm = 0;
        for (size_t i = 0; i < count; i++) {
            expected += (double)slope[i] * along[i];
            norm += (double)slope[i] * slope[i];
        }
        status = value_at(plan, of, tensor, values, along, STEP, scratch, &up);
        if (status == QN_OK)
            status = value_at(plan, of, tensor, values, along, -STEP, scratch, &down);
        double found = (up - down) / (2 * STEP);
        *error = fmax(*error, fabs(found - expected) / fmax(sqrt(norm / (double)count), 1e-3));
    }
    if (values && status != QN_ERROR_MEMORY)
        qn_tensor_write(tensor, values);
    free(values);
    free(slope);
    free(along);
    free(scratch);
    return status;
}

int qn_check_gradients(qn_node *of, qn_node *const *wrt, size_t count, uint64_t seed, double *error)
{
    *error = 0;
    if (!of)
        return QN_ERROR_INVALID;
    qn_context *context = of->graph->context;
    for (size_t i = 0; i < count; i++)
        if (!wrt[i] || wrt[i]->op != &leaf_op || wrt[i]->outputs[0].type != QN_F32)
            return context_fail(context, QN_ERROR_INVALID,
                                "qn_check_gradients: number %zu is no f32 leaf", i);
    qn_node **roots = context_alloc(context, count + 1, sizeof *roots);
    if (!roots)
        return QN_ERROR_MEMORY;
    roots[count] = of;
    int status = qn_gradients(of, NULL, wrt, count, roots);
    qn_plan *plan = status == QN_OK ? qn_plan_new(of->graph, roots, count + 1) : NULL;
    if (!plan && status == QN_OK)
        status = context->status;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = check_leaf(plan, of, wrt[i], roots[i], seed, error);
    qn_plan_free(plan);
    free(roots);
    return status;
}

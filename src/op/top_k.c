/* The k greatest of each row. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "graph/graph.h"
#include "op/shape.h"

struct top_k_attributes {
    size_t k;
};

static size_t k_of(const qn_node *node)
{
    return ((const struct top_k_attributes *)node->attributes)->k;
}

static bool infer_top_k(qn_node *node)
{
    qn_shape shape = *qn_in(node, 0);
    char text[SHAPE_TEXT];
    if (node->inputs[0]->outputs[0].type != QN_F32)
        return qn_node_fail(node, "of %s, not f32: cast it first",
                            qn_type_name(node->inputs[0]->outputs[0].type));
    if (shape.rank == 0)
        return qn_node_fail(node, "of one number; there must be an axis to choose from");
    size_t *width = &shape.size[shape.rank - 1];
    if (k_of(node) == 0 || k_of(node) > *width)
        return qn_node_fail(node, "k is %zu; rows of %s have 1 to %zu", k_of(node),
                            shape_text(&shape, text, sizeof text), *width);
    if (*width > INT32_MAX)
        return qn_node_fail(node, "rows of %zu: their indices do not fit i32", *width);
    *width = k_of(node);
    node->outputs[0] = (struct qn_value){QN_F32, shape};
    node->outputs[1] = (struct qn_value){QN_I32, shape};
    return true;
}

static void record_top_k(struct qn_launch *launch, const qn_node *node)
{
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    qn_launch_kernel(launch, &source_top_k, "top_k");
    qn_launch_output(launch, 0);
    qn_launch_output(launch, 1);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_ulong(launch, k_of(node));
    qn_launch_rows(launch, rows);
}

static struct qn_cost cost(const qn_node *node)
{
    double read = (double)qn_shape_count(*qn_in(node, 0));
    double written = (double)qn_shape_count(*qn_out(node, 0));
    return (struct qn_cost){.flops = read, .bytes = 4 * read + 8 * written};
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_top_k}};

static const struct qn_op top_k_op = {.name = "top_k",
                                      .outputs = 2,
                                      .attributes = sizeof(struct top_k_attributes),
                                      .infer = infer_top_k,
                                      .variants = variants,
                                      .n_variants = 1,
                                      .cost = cost};

qn_node *qn_top_k(qn_node *x, size_t k)
{
    return qn_node_new(&top_k_op, &(struct top_k_attributes){k}, &x, 1);
}

qn_node *qn_argmax(qn_node *x, int axis)
{
    if (!x || (axis = axis_of("argmax", x, axis)) < 0)
        return NULL;
    qn_shape shape = *qn_out(x, 0);
    shape.rank--;
    for (int i = axis; i < shape.rank; i++)
        shape.size[i] = shape.size[i + 1];
    qn_node *top = qn_top_k(qn_transpose(x, axis, shape.rank), 1);
    return top ? qn_reshape(qn_transpose(qn_output(top, 1), axis, shape.rank), shape) : NULL;
}

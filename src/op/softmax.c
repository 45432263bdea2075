/* Softmax over an axis; an axis that is not the last is made it by a view. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

static bool infer_softmax(qn_node *node)
{
    if (!type_is_real(node->inputs[0]->outputs[0].type))
        return qn_node_fail(node, "of %s; it must be f32, f16 or bf16",
                            qn_type_name(node->inputs[0]->outputs[0].type));
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static void record(struct qn_launch *launch, const qn_node *node, const char *kernel)
{
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    qn_launch_kernel(launch, &source_softmax, kernel);
    qn_launch_type(launch, "T", qn_launch_layout(launch, 0)->type);
    qn_launch_output(launch, 0);
    for (size_t i = 0; i < node->n_inputs; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_rows(launch, rows);
}

static void record_softmax(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, "softmax");
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, "softmax_backward");
}

static struct qn_cost cost(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 4 * count, .bytes = bytes_of(node)};
}

static const struct qn_variant backward_variants[] = {{.name = "rows", .record = record_backward}};

/* y, dy -> dx */
static const struct qn_op backward_op = {.name = "softmax_backward",
                                         .outputs = 1,
                                         .infer = infer_softmax,
                                         .variants = backward_variants,
                                         .n_variants = 1,
                                         .may_overwrite = 3,
                                         .cost = cost};

static void gradient_softmax(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_node_new(&backward_op, NULL, (qn_node *[]){node, d_out[0]}, 2);
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_softmax}};

static const struct qn_op softmax_op = {.name = "softmax",
                                        .outputs = 1,
                                        .infer = infer_softmax,
                                        .variants = variants,
                                        .n_variants = 1,
                                        .may_overwrite = 1,
                                        .gradient = gradient_softmax,
                                        .cost = cost};

qn_node *qn_softmax(qn_node *x, int axis)
{
    if (!x || (axis = axis_of("softmax", x, axis)) < 0)
        return NULL;
    int last = x->outputs[0].shape.rank - 1;
    qn_node *rows = qn_transpose(x, axis, last);
    return qn_transpose(qn_node_new(&softmax_op, NULL, &rows, 1), axis, last);
}

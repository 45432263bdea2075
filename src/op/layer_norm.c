/* Layer normalisation. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "op/shape.h"

struct layer_norm_attributes {
    double epsilon;
};

/* ---- Forward: x, weight, bias -> y, mean, 1 / deviation ---- */

static bool infer_layer_norm(qn_node *node)
{
    static const char *const names[] = {"x", "weight", "bias"};
    size_t rows, width;
    for (size_t i = 0; i < 3; i++)
        if (node->inputs[i]->outputs[0].type != QN_F32)
            return qn_node_fail(node, "%s is %s, not f32", names[i],
                                qn_type_name(node->inputs[i]->outputs[0].type));
    if (qn_in(node, 0)->rank == 0)
        return qn_node_fail(node, "of one number; it needs an axis");
    rows_of(qn_in(node, 0), &rows, &width);
    for (size_t i = 1; i < 3; i++)
        if (qn_in(node, i)->rank != 1 || qn_in(node, i)->size[0] != width)
            return qn_node_fail(node, "%s has %zu elements, rows have %zu", names[i],
                                qn_shape_count(*qn_in(node, i)), width);
    qn_shape row_shape = *qn_in(node, 0);
    row_shape.rank--;
    row_shape.size[row_shape.rank] = 0;
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[1] = node->outputs[2] = (struct qn_value){QN_F32, row_shape};
    return true;
}

static void record_layer_norm(struct qn_launch *launch, const qn_node *node)
{
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    qn_launch_kernel(launch, &source_layer_norm, "layer_norm");
    qn_launch_define(launch, "SAVE_STATISTICS",
                     qn_launch_output_used(launch, 1) || qn_launch_output_used(launch, 2));
    for (int i = 0; i < 3; i++)
        qn_launch_output(launch, i);
    for (size_t i = 0; i < 3; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_float(launch, ((const struct layer_norm_attributes *)node->attributes)->epsilon);
    qn_launch_rows(launch, rows);
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_layer_norm}};

static struct qn_cost cost_layer_norm(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 8 * count, .bytes = 8 * count};
}

static void gradient_layer_norm(qn_node *node, qn_node *const *d_out, qn_node **d_in);

static const struct qn_op layer_norm_op = {.name = "layer_norm",
                                           .outputs = 3,
                                           .attributes = sizeof(struct layer_norm_attributes),
                                           .infer = infer_layer_norm,
                                           .variants = variants,
                                           .n_variants = 1,
                                           .gradient = gradient_layer_norm,
                                           .cost = cost_layer_norm};

qn_node *qn_layer_norm(qn_node *x, qn_node *weight, qn_node *bias, double epsilon)
{
    struct layer_norm_attributes attributes = {epsilon};
    return qn_node_new(&layer_norm_op, &attributes, (qn_node *[]){x, weight, bias}, 3);
}

/* ---- Backward: x, mean, 1 / deviation, weight, dy -> dx, d_weight, d_bias ---- */

static bool infer_backward(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[1] = node->outputs[2] = node->inputs[3]->outputs[0];
    return true;
}

/* Rows whose sums one work-group adds up: a constant, so that the order is the same on any number of cores. */
static size_t stripe_rows(const struct qn_caps *caps)
{
    return caps->device_class == QN_CPU ? 32 : 8;
}

static size_t workspace_backward(const qn_node *node, const struct qn_caps *caps)
{
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    return divide_up(rows, stripe_rows(caps)) * 2 * width * sizeof(float);
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    size_t rows, width, stripe = stripe_rows(caps);
    rows_of(qn_in(node, 0), &rows, &width);
    qn_launch_kernel(launch, &source_layer_norm, "layer_norm_backward");
    qn_launch_define(launch, "SAVE_STATISTICS",
                     1); /* the forward kernel's text: one program for both */
    qn_launch_output(launch, 0);
    qn_launch_workspace(launch);
    for (size_t i = 0; i < 5; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_ulong(launch, stripe);
    qn_launch_rows(launch, divide_up(rows, stripe));
    if (!qn_launch_output_used(launch, 1) && !qn_launch_output_used(launch, 2))
        return;
    qn_launch_kernel(launch, &source_layer_norm, "layer_norm_sums");
    qn_launch_define(launch, "SAVE_STATISTICS", 1);
    qn_launch_output(launch, 1);
    qn_launch_output(launch, 2);
    qn_launch_workspace(launch);
    qn_launch_ulong(launch, divide_up(rows, stripe));
    qn_launch_ulong(launch, width);
    qn_launch_items(launch, divide_up(width, caps->float_width));
}

static struct qn_cost cost_backward(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 16 * count, .bytes = 12 * count};
}

static const struct qn_variant backward_variants[] = {
    {.name = "stripes", .workspace = workspace_backward, .record = record_backward}};

static const struct qn_op backward_op = {.name = "layer_norm_backward",
                                         .outputs = 3,
                                         .infer = infer_backward,
                                         .variants = backward_variants,
                                         .n_variants = 1,
                                         .cost = cost_backward};

static void gradient_layer_norm(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    if (d_out[1] || d_out[2]) {
        qn_node_fail(node, "mean and deviation have no gradient");
        return;
    }
    qn_node *inputs[] = {node->inputs[0], qn_output(node, 1), qn_output(node, 2), node->inputs[1],
                         d_out[0]};
    d_in[0] = qn_node_new(&backward_op, NULL, inputs, 5);
    d_in[1] = d_in[0] ? qn_output(d_in[0], 1) : NULL;
    d_in[2] = d_in[0] ? qn_output(d_in[0], 2) : NULL;
}

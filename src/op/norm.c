/* Layer normalisation, and RMS normalisation, which has neither mean nor bias. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

struct norm_attributes {
    double epsilon;
};

/* ---- Forward: x, weight, bias -> y, mean, 1 / deviation; or x, weight -> y, 1 / root of the mean square ---- */

static bool is_centered(const qn_node *node)
{
    return node->op->outputs == 3;
}

static bool infer_norm(qn_node *node)
{
    static const char *const names[] = {"x", "weight", "bias"};
    size_t rows, width;
    enum qn_type type = node->inputs[0]->outputs[0].type;
    if (!type_is_real(type))
        return qn_node_fail(node, "x is %s; it must be f32, f16 or bf16", qn_type_name(type));
    for (size_t i = 1; i < node->n_inputs; i++)
        if (node->inputs[i]->outputs[0].type != type)
            return qn_node_fail(node, "%s is %s, x %s", names[i],
                                qn_type_name(node->inputs[i]->outputs[0].type), qn_type_name(type));
    if (qn_in(node, 0)->rank == 0)
        return qn_node_fail(node, "of one number; it needs an axis");
    rows_of(qn_in(node, 0), &rows, &width);
    for (size_t i = 1; i < node->n_inputs; i++)
        if (qn_in(node, i)->rank != 1 || qn_in(node, i)->size[0] != width)
            return qn_node_fail(node, "%s has %zu elements, rows have %zu", names[i],
                                qn_shape_count(*qn_in(node, i)), width);
    qn_shape row_shape = *qn_in(node, 0);
    row_shape.rank--;
    row_shape.size[row_shape.rank] = 0;
    node->outputs[0] = node->inputs[0]->outputs[0];
    for (int i = 1; i < node->op->outputs; i++)
        node->outputs[i] = (struct qn_value){QN_F32, row_shape};
    return true;
}

static void begin_kernel(struct qn_launch *launch, const char *kernel, bool centered, bool save)
{
    qn_launch_kernel(launch, &source_norm, kernel);
    qn_launch_type(launch, "T", qn_launch_layout(launch, 0)->type);
    qn_launch_define(launch, "CENTERED", centered);
    qn_launch_define(launch, "SAVE_STATISTICS", save);
}

static void record_norm(struct qn_launch *launch, const qn_node *node)
{
    size_t rows, width;
    bool save = false;
    rows_of(qn_in(node, 0), &rows, &width);
    for (int i = 1; i < node->n_outputs; i++)
        save |= qn_launch_output_used(launch, i);
    begin_kernel(launch, "norm", is_centered(node), save);
    for (int i = 0; i < node->n_outputs; i++)
        qn_launch_output(launch, i);
    for (size_t i = 0; i < node->n_inputs; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_float(launch, ((const struct norm_attributes *)node->attributes)->epsilon);
    qn_launch_rows(launch, rows);
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_norm}};

static struct qn_cost cost_norm(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 8 * count, .bytes = bytes_of(node)};
}

static void gradient_norm(qn_node *node, qn_node *const *d_out, qn_node **d_in);

#define NORM(title, n_outputs)                                                                     \
    {                                                                                              \
        .name = title, .outputs = n_outputs, .attributes = sizeof(struct norm_attributes),         \
        .infer = infer_norm, .variants = variants, .n_variants = 1, .gradient = gradient_norm,     \
        .cost = cost_norm                                                                          \
    }

static const struct qn_op layer_norm_op = NORM("layer_norm", 3), rms_norm_op = NORM("rms_norm", 2);

qn_node *qn_layer_norm(qn_node *x, qn_node *weight, qn_node *bias, double epsilon)
{
    struct norm_attributes attributes = {epsilon};
    return qn_node_new(&layer_norm_op, &attributes, (qn_node *[]){x, weight, bias}, 3);
}

qn_node *qn_rms_norm(qn_node *x, qn_node *weight, double epsilon)
{
    struct norm_attributes attributes = {epsilon};
    return qn_node_new(&rms_norm_op, &attributes, (qn_node *[]){x, weight}, 2);
}

/* ---- Backward: x, what was saved, weight, dy -> dx, d_weight, d_bias ---- */

static bool infer_backward(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    for (int i = 1; i < node->op->outputs; i++)
        node->outputs[i] = (struct qn_value){QN_F32, *qn_in(node, node->n_inputs - 2)};
    return true;
}

/* Rows whose sums one work-group adds up: a constant, so that the order is the same on any number of cores. */
static size_t stripe_rows(const struct qn_caps *caps)
{
    return caps->device_class == QN_CPU ? 32 : 8;
}

static size_t workspace_backward(const qn_node *node, const struct qn_caps *caps)
{
    size_t rows, width, sums = (size_t)node->op->outputs - 1;
    rows_of(qn_in(node, 0), &rows, &width);
    return divide_up(rows, stripe_rows(caps)) * sums * width * sizeof(float);
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    size_t rows, width, stripe = stripe_rows(caps);
    bool wants_sums = false;
    rows_of(qn_in(node, 0), &rows, &width);
    /* The macros of the forward kernel: one program for both. */
    begin_kernel(launch, "norm_backward", is_centered(node), true);
    qn_launch_output(launch, 0);
    qn_launch_workspace(launch);
    for (size_t i = 0; i < node->n_inputs; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_ulong(launch, stripe);
    qn_launch_rows(launch, divide_up(rows, stripe));
    for (int i = 1; i < node->n_outputs; i++)
        wants_sums |= qn_launch_output_used(launch, i);
    if (!wants_sums)
        return;
    begin_kernel(launch, "norm_sums", is_centered(node), true);
    for (int i = 1; i < node->n_outputs; i++)
        qn_launch_output(launch, i);
    qn_launch_workspace(launch);
    qn_launch_ulong(launch, divide_up(rows, stripe));
    qn_launch_ulong(launch, width);
    qn_launch_rows(launch, divide_up(width, caps->float_width));
}

static struct qn_cost cost_backward(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 16 * count, .bytes = bytes_of(node)};
}

static const struct qn_variant backward_variants[] = {
    {.name = "stripes", .workspace = workspace_backward, .record = record_backward}};

#define NORM_BACKWARD(title, n_outputs)                                                            \
    {                                                                                              \
        .name = title, .outputs = n_outputs, .infer = infer_backward,                              \
        .variants = backward_variants, .n_variants = 1, .cost = cost_backward                      \
    }

static const struct qn_op layer_norm_backward_op = NORM_BACKWARD("layer_norm_backward", 3),
                          rms_norm_backward_op = NORM_BACKWARD("rms_norm_backward", 2);

static void gradient_norm(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    qn_node *inputs[5], *dx;
    size_t count = 0;
    for (int i = 1; i < node->n_outputs; i++)
        if (d_out[i]) {
            qn_node_fail(node, "what it saves for its gradient has none");
            return;
        }
    inputs[count++] = node->inputs[0];
    for (int i = 1; i < node->n_outputs; i++)
        inputs[count++] = qn_output(node, i);
    inputs[count++] = node->inputs[1];
    inputs[count++] = d_out[0];
    d_in[0] = dx = qn_node_new(is_centered(node) ? &layer_norm_backward_op : &rms_norm_backward_op,
                               NULL, inputs, count);
    for (int i = 1; dx && i < dx->n_outputs; i++)
        d_in[i] = qn_output(dx, i);
}

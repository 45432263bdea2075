/* Cross-entropy from logits, and how many rows are right. */
#include <stdlib.h>

#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "graph/graph.h"
#include "op/shape.h"

struct cross_entropy_attributes {
    int32_t ignore_index;
    float label_smoothing;
    uint32_t is_mean;
};

static bool check_targets(qn_node *node)
{
    qn_shape rows = *qn_in(node, 0);
    char logits[SHAPE_TEXT], targets[SHAPE_TEXT];
    if (!type_is_real(node->inputs[0]->outputs[0].type) ||
        node->inputs[1]->outputs[0].type != QN_I32)
        return qn_node_fail(node,
                            "logits are %s and targets %s; they must be f32, f16 or bf16, and i32",
                            qn_type_name(node->inputs[0]->outputs[0].type),
                            qn_type_name(node->inputs[1]->outputs[0].type));
    if (rows.rank == 0)
        return qn_node_fail(node, "the logits are one number; they need an axis of classes");
    rows.rank--;
    if (!qn_shape_equal(rows, *qn_in(node, 1)))
        return qn_node_fail(node, "logits are %s: targets must be %s but for the last axis, not %s",
                            shape_text(qn_in(node, 0), logits, sizeof logits), logits,
                            shape_text(qn_in(node, 1), targets, sizeof targets));
    return true;
}

static const struct cross_entropy_attributes *attributes_of(const qn_node *node)
{
    return node->attributes;
}

/* The logits are input 0 of all operations here. */
static void begin_kernel(struct qn_launch *launch, const qn_node *node, const char *name)
{
    qn_launch_kernel(launch, &source_cross_entropy, name);
    qn_launch_type(launch, "T", node->inputs[0]->outputs[0].type);
}

/* ---- Forward: logits, targets -> result, log of the sum of exponentials by row, share of a row ---- */

static bool infer_cross_entropy(qn_node *node)
{
    float smoothing = attributes_of(node)->label_smoothing;
    if (!check_targets(node))
        return false;
    if (!(smoothing >= 0 && smoothing <= 1))
        return qn_node_fail(node, "label smoothing is %g, which is not in [0, 1]", smoothing);
    node->outputs[0] = node->outputs[2] = (struct qn_value){.type = QN_F32};
    node->outputs[1] = (struct qn_value){QN_F32, *qn_in(node, 1)};
    return true;
}

static size_t workspace(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return qn_shape_count(*qn_in(node, 1)) * sizeof(float);
}

static void record_cross_entropy(struct qn_launch *launch, const qn_node *node)
{
    const struct cross_entropy_attributes *attributes = attributes_of(node);
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    begin_kernel(launch, node, "cross_entropy");
    qn_launch_workspace(launch);
    qn_launch_output(launch, 1);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_int(launch, attributes->ignore_index);
    qn_launch_float(launch, attributes->label_smoothing);
    qn_launch_rows(launch, rows);

    begin_kernel(launch, node, "cross_entropy_sum");
    qn_launch_output(launch, 0);
    qn_launch_output(launch, 2);
    qn_launch_workspace(launch);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, rows);
    qn_launch_int(launch, attributes->ignore_index);
    qn_launch_uint(launch, attributes->is_mean);
    qn_launch_rows(launch, 1);
}

static const struct qn_variant variants[] = {
    {.name = "rows", .workspace = workspace, .record = record_cross_entropy}};

static struct qn_cost cost(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 4 * count, .bytes = bytes_of(node)};
}

/* ---- Backward: logits, targets, log of the sum, share, d_loss -> d_logits ---- */

static bool infer_backward(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    const struct cross_entropy_attributes *attributes = attributes_of(node);
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    begin_kernel(launch, node, "cross_entropy_backward");
    qn_launch_output(launch, 0);
    for (size_t i = 0; i < 5; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_int(launch, attributes->ignore_index);
    qn_launch_float(launch, attributes->label_smoothing);
    qn_launch_rows(launch, rows);
}

static struct qn_cost cost_backward(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 4 * count, .bytes = bytes_of(node)};
}

static const struct qn_variant backward_variants[] = {{.name = "rows", .record = record_backward}};

static const struct qn_op backward_op = {.name = "cross_entropy_backward",
                                         .outputs = 1,
                                         .attributes = sizeof(struct cross_entropy_attributes),
                                         .infer = infer_backward,
                                         .variants = backward_variants,
                                         .n_variants = 1,
                                         .may_overwrite = 1,
                                         .cost = cost_backward};

static void gradient(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    if (d_out[1] || d_out[2]) {
        qn_node_fail(node, "only the loss has a gradient");
        return;
    }
    qn_node *inputs[] = {node->inputs[0], node->inputs[1], qn_output(node, 1), qn_output(node, 2),
                         d_out[0]};
    d_in[0] = qn_node_new(&backward_op, node->attributes, inputs, 5);
}

static const struct qn_op cross_entropy_op = {.name = "cross_entropy",
                                              .outputs = 3,
                                              .attributes = sizeof(struct cross_entropy_attributes),
                                              .infer = infer_cross_entropy,
                                              .variants = variants,
                                              .n_variants = 1,
                                              .gradient = gradient,
                                              .cost = cost};

qn_node *qn_cross_entropy_with(qn_node *logits, qn_node *targets, struct qn_cross_entropy options)
{
    struct cross_entropy_attributes attributes = {options.ignore_index, options.label_smoothing,
                                                  !options.sum};
    return qn_node_new(&cross_entropy_op, &attributes, (qn_node *[]){logits, targets}, 2);
}

qn_node *qn_cross_entropy(qn_node *logits, qn_node *targets)
{
    return qn_cross_entropy_with(logits, targets,
                                 (struct qn_cross_entropy){.ignore_index = QN_IGNORE});
}

/* ---- Chunks of rows ----
 *
 * The gradients of a chunk are made right after its loss, so that one chunk's logits are in memory
 * at a time, and given to the loss when its own are asked for. */

static bool infer_attached(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static bool view_attached(const qn_node *node, int output, const struct qn_layout *input,
                          struct qn_layout *layout)
{
    (void)node, (void)output;
    *layout = *input;
    return true;
}

struct attached_attributes {
    size_t count;
};

static void gradient_attached(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    size_t count = ((const struct attached_attributes *)node->attributes)->count,
           scale = 2 * count + 1;
    qn_node *factor = node->n_inputs > scale ? qn_div(d_out[0], node->inputs[scale]) : d_out[0];
    for (size_t i = 1; i <= count; i++)
        d_in[i] = qn_mul(node->inputs[count + i], factor);
}

/* A loss, `count` that it depends on, its gradients with respect to them, and perhaps by what these were multiplied: the loss. */
static const struct qn_op attached_op = {.name = "gradients_attached",
                                         .outputs = 1,
                                         .attributes = sizeof(struct attached_attributes),
                                         .infer = infer_attached,
                                         .view = view_attached,
                                         .gradient = gradient_attached};

static void gradient_stopped(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    (void)node, (void)d_out, (void)d_in;
}

/* A value that nothing is derived through: x may depend on the weight, as it does where that is the embedding, too. */
static const struct qn_op stopped_op = {.name = "gradient_stopped",
                                        .outputs = 1,
                                        .infer = infer_attached,
                                        .view = view_attached,
                                        .gradient = gradient_stopped};

/* What a row's loss counts: 1 over the number of targets that count. */
static qn_node *share_of_row(qn_node *targets, int32_t ignored)
{
    qn_node *none = qn_cast(qn_constant(qn_node_graph(targets), ignored), QN_I32);
    return qn_reciprocal(qn_sum(qn_not_equal(targets, none), QN_ALL));
}

/* x weight^T + bias. */
static qn_node *linear_logits(qn_node *x, qn_node *weight, qn_node *bias)
{
    qn_node *y = qn_matmul_with(x, weight, (struct qn_matmul){.transpose_b = true});
    return bias ? qn_add(y, bias) : y;
}

qn_node *qn_linear_cross_entropy(qn_node *x, qn_node *weight, qn_node *targets,
                                 struct qn_cross_entropy options, size_t chunk_rows)
{
    if (!x || !weight || !targets)
        return NULL;
    qn_shape shape = qn_node_shape(x);
    size_t width = shape.rank ? shape.size[shape.rank - 1] : 1,
           rows = qn_shape_count(shape) / width;
    if (chunk_rows == 0 || rows <= chunk_rows || qn_shape_count(qn_node_shape(targets)) != rows)
        return qn_cross_entropy_with(linear_logits(x, weight, options.bias), targets, options);

    size_t chunks = divide_up(rows, chunk_rows);
    qn_node **d_parts = context_alloc(x->graph->context, chunks, sizeof *d_parts);
    qn_node *flat = qn_reshape(qn_node_new(&stopped_op, NULL, &x, 1), QN_SHAPE(rows, width)),
            *all = qn_reshape(targets, QN_SHAPE(rows));
    qn_node *share = options.sum ? NULL : share_of_row(all, options.ignore_index);
    qn_node *loss = NULL, *d_weight = NULL, *d_bias = NULL;
    size_t count = options.bias ? 3 : 2;
    struct qn_cross_entropy summed = options;
    summed.sum = true;
    for (size_t i = 0; d_parts && i < chunks; i++) {
        size_t begin = i * chunk_rows, end = size_min(begin + chunk_rows, rows);
        qn_node *part = qn_slice(flat, 0, begin, end), *of[] = {part, weight, options.bias}, *d[3];
        qn_node *one = qn_cross_entropy_with(linear_logits(part, weight, options.bias),
                                             qn_slice(all, 0, begin, end), summed);
        if (share)
            one = qn_mul(one, share);
        if (qn_gradients(one, options.gradient_scale, of, count, d) != QN_OK)
            break;
        loss = i ? qn_add(loss, one) : one;
        d_weight = i ? qn_add(d_weight, d[1]) : d[1];
        if (options.bias)
            d_bias = i ? qn_add(d_bias, d[2]) : d[2];
        d_parts[i] = d[0];
    }
    qn_node *d_x = d_parts ? qn_reshape(qn_concat(d_parts, chunks, 0), shape) : NULL;
    free(d_parts);
    qn_node *inputs[] = {loss, x, weight, d_x, d_weight, options.gradient_scale},
            *with_bias[] = {loss, x,        weight, options.bias,
                            d_x,  d_weight, d_bias, options.gradient_scale};
    return qn_node_new(&attached_op, &(struct attached_attributes){count},
                       options.bias ? with_bias : inputs,
                       2 * count + 1 + (options.gradient_scale != NULL));
}

/* ---- Correct: logits, targets -> 1 or 0 by row ---- */

static bool infer_correct(qn_node *node)
{
    if (!check_targets(node))
        return false;
    node->outputs[0] = (struct qn_value){QN_F32, *qn_in(node, 1)};
    return true;
}

static void record_correct(struct qn_launch *launch, const qn_node *node)
{
    size_t rows, width;
    rows_of(qn_in(node, 0), &rows, &width);
    begin_kernel(launch, node, "correct");
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_rows(launch, rows);
}

static const struct qn_variant correct_variants[] = {{.name = "rows", .record = record_correct}};

static const struct qn_op correct_op = {.name = "correct",
                                        .outputs = 1,
                                        .infer = infer_correct,
                                        .variants = correct_variants,
                                        .n_variants = 1,
                                        .cost = cost};

qn_node *qn_correct(qn_node *logits, qn_node *targets)
{
    return qn_sum(qn_node_new(&correct_op, NULL, (qn_node *[]){logits, targets}, 2), QN_ALL);
}

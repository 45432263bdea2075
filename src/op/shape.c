/* Shape operations: views where strides can say it, and joining. */
#include "op/shape.h"

#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/state.h"

int axis_of(const char *name, const qn_node *x, int axis)
{
    int rank = x->outputs[0].shape.rank, from_start = axis < 0 ? axis + rank : axis;
    if (from_start >= 0 && from_start < rank)
        return from_start;
    char text[SHAPE_TEXT];
    context_fail(x->graph->context, QN_ERROR_INVALID, "%s: shape %s has no axis %d", name,
                 shape_text(qn_out(x, 0), text, sizeof text), axis);
    return -1;
}

void rows_of(const qn_shape *shape, size_t *rows, size_t *width)
{
    *rows = 1;
    *width = shape->rank ? shape->size[shape->rank - 1] : 1;
    for (int i = 0; i + 1 < shape->rank; i++)
        *rows *= shape->size[i];
}

/* Attributes are compared byte by byte: what a shape does not use must be zero. */
static qn_shape clean_shape(qn_shape shape)
{
    qn_shape clean;
    memset(&clean, 0, sizeof clean);
    clean.rank = shape.rank;
    for (int i = 0; i < shape.rank && i < QN_MAX_RANK; i++)
        clean.size[i] = shape.size[i];
    return clean;
}

/* ---- Reshape ---- */

static bool infer_reshape(qn_node *node)
{
    const qn_shape *shape = node->attributes;
    size_t count = shape->rank < 0 || shape->rank > QN_MAX_RANK ? SIZE_MAX : qn_shape_count(*shape);
    char from[SHAPE_TEXT], to[SHAPE_TEXT];
    if (count != qn_shape_count(*qn_in(node, 0)))
        return qn_node_fail(node, "%s to %s: the number of elements differs",
                            shape_text(qn_in(node, 0), from, sizeof from),
                            count == SIZE_MAX ? "(too large)" : shape_text(shape, to, sizeof to));
    node->outputs[0] = (struct qn_value){node->inputs[0]->outputs[0].type, *shape};
    return true;
}

/* Matches runs of old axes with runs of new ones of the same size, from the outermost: a run that lies in memory without
 * gaps can be cut anew. */
static bool view_reshape(const qn_node *node, int output, const struct qn_layout *input,
                         struct qn_layout *layout)
{
    (void)output;
    const qn_shape *to = qn_out(node, 0);
    *layout = (struct qn_layout){.type = input->type, .shape = *to, .offset = input->offset};
    int rank = 0;
    size_t size[QN_MAX_RANK]; /* of the old axes longer than 1 */
    ptrdiff_t stride[QN_MAX_RANK];
    for (int i = 0; i < input->shape.rank; i++) {
        if (input->shape.size[i] == 1)
            continue;
        size[rank] = input->shape.size[i];
        stride[rank++] = input->stride[i];
    }
    for (int old = 0, new = 0; old < rank;) {
        int old_end = old + 1, new_end = new + 1;
        size_t old_run = size[old], new_run = to->size[new];
        while (old_run != new_run) {
            if (old_run < new_run)
                old_run *= size[old_end++];
            else
                new_run *= to->size[new_end++];
        }
        for (int i = old; i + 1 < old_end; i++)
            if (stride[i] != stride[i + 1] * (ptrdiff_t)size[i + 1])
                return false;
        ptrdiff_t step = stride[old_end - 1];
        for (int i = new_end; i-- > new;) {
            layout->stride[i] = step;
            step *= (ptrdiff_t)to->size[i];
        }
        old = old_end;
        new = new_end;
    }
    return true;
}

static void gradient_reshape(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_reshape(d_out[0], *qn_in(node, 0));
}

static qn_node *simplify_reshape(qn_node *node)
{
    qn_node *x = node->inputs[0];
    if (qn_shape_equal(*qn_in(node, 0), *qn_out(node, 0)))
        return x;
    return x->op == node->op ? qn_reshape(x->inputs[0], *qn_out(node, 0)) : node;
}

static const struct qn_op reshape_op = {.name = "reshape",
                                        .outputs = 1,
                                        .attributes = sizeof(qn_shape),
                                        .infer = infer_reshape,
                                        .view = view_reshape,
                                        .gradient = gradient_reshape,
                                        .simplify = simplify_reshape};

qn_node *qn_reshape(qn_node *x, qn_shape shape)
{
    qn_shape clean = clean_shape(shape);
    return qn_node_new(&reshape_op, &clean, &x, 1);
}

/* ---- Transpose ---- */

struct transpose_attributes {
    int a, b;
};

static bool infer_transpose(qn_node *node)
{
    const struct transpose_attributes *axes = node->attributes;
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[0].shape.size[axes->a] = qn_in(node, 0)->size[axes->b];
    node->outputs[0].shape.size[axes->b] = qn_in(node, 0)->size[axes->a];
    return true;
}

static bool view_transpose(const qn_node *node, int output, const struct qn_layout *input,
                           struct qn_layout *layout)
{
    (void)output;
    const struct transpose_attributes *axes = node->attributes;
    *layout = *input;
    layout->shape = *qn_out(node, 0);
    layout->stride[axes->a] = input->stride[axes->b];
    layout->stride[axes->b] = input->stride[axes->a];
    return true;
}

static void gradient_transpose(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct transpose_attributes *axes = node->attributes;
    d_in[0] = qn_transpose(d_out[0], axes->a, axes->b);
}

/* Done twice, it does nothing. */
static qn_node *simplify_twice(qn_node *node)
{
    qn_node *x = node->inputs[0];
    bool undoes =
        x->op == node->op && memcmp(x->attributes, node->attributes, node->op->attributes) == 0;
    return undoes ? x->inputs[0] : node;
}

static const struct qn_op transpose_op = {.name = "transpose",
                                          .outputs = 1,
                                          .attributes = sizeof(struct transpose_attributes),
                                          .infer = infer_transpose,
                                          .view = view_transpose,
                                          .gradient = gradient_transpose,
                                          .simplify = simplify_twice};

qn_node *qn_transpose(qn_node *x, int axis_a, int axis_b)
{
    if (!x)
        return NULL;
    int a = axis_of("transpose", x, axis_a), b = axis_of("transpose", x, axis_b);
    if (a < 0 || b < 0)
        return NULL;
    if (a == b)
        return x;
    struct transpose_attributes axes = {a < b ? a : b, a < b ? b : a};
    return qn_node_new(&transpose_op, &axes, &x, 1);
}

bool transposes_last_two(const qn_node *node)
{
    const struct transpose_attributes *axes = node->attributes;
    int rank = node->outputs[0].shape.rank;
    return node->op == &transpose_op && axes->a == rank - 2 && axes->b == rank - 1;
}

/* ---- Slice ---- */

struct slice_attributes {
    size_t axis, begin, end;
};

static bool infer_slice(qn_node *node)
{
    const struct slice_attributes *slice = node->attributes;
    size_t size = qn_in(node, 0)->size[slice->axis];
    if (slice->begin >= slice->end || slice->end > size)
        return qn_node_fail(node, "elements %zu to %zu of an axis of %zu", slice->begin, slice->end,
                            size);
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[0].shape.size[slice->axis] = slice->end - slice->begin;
    return true;
}

static bool view_slice(const qn_node *node, int output, const struct qn_layout *input,
                       struct qn_layout *layout)
{
    (void)output;
    const struct slice_attributes *slice = node->attributes;
    *layout = *input;
    layout->shape = *qn_out(node, 0);
    layout->offset += slice->begin * (size_t)input->stride[slice->axis];
    return true;
}

/* Zeros of the shape of node, but `size` along `axis`, for the gradient of what it is a part of. */
static qn_node *zeros(qn_node *node, size_t axis, size_t size)
{
    qn_shape shape = *qn_out(node, 0);
    shape.size[axis] = size;
    qn_node *zero = qn_cast(qn_constant(node->graph, 0), gradient_type(node->inputs[0]));
    return qn_broadcast(zero, shape);
}

static qn_node *gradient_part(const qn_node *node, qn_node *gradient)
{
    return qn_cast(gradient, gradient_type(node->inputs[0]));
}

static void gradient_slice(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct slice_attributes *slice = node->attributes;
    size_t size = qn_in(node, 0)->size[slice->axis], count = 0;
    qn_node *parts[3];
    if (slice->begin > 0)
        parts[count++] = zeros(node, slice->axis, slice->begin);
    parts[count++] = gradient_part(node, d_out[0]);
    if (slice->end < size)
        parts[count++] = zeros(node, slice->axis, size - slice->end);
    d_in[0] = qn_concat(parts, count, (int)slice->axis);
}

static qn_node *simplify_slice(qn_node *node)
{
    return qn_shape_equal(*qn_in(node, 0), *qn_out(node, 0)) ? node->inputs[0] : node;
}

static const struct qn_op slice_op = {.name = "slice",
                                      .outputs = 1,
                                      .attributes = sizeof(struct slice_attributes),
                                      .infer = infer_slice,
                                      .view = view_slice,
                                      .gradient = gradient_slice,
                                      .simplify = simplify_slice};

qn_node *qn_slice(qn_node *x, int axis, size_t begin, size_t end)
{
    if (!x || (axis = axis_of("slice", x, axis)) < 0)
        return NULL;
    return qn_node_new(&slice_op, &(struct slice_attributes){(size_t)axis, begin, end}, &x, 1);
}

/* ---- Flip ---- */

struct flip_attributes {
    size_t axis;
};

static bool infer_flip(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static bool view_flip(const qn_node *node, int output, const struct qn_layout *input,
                      struct qn_layout *layout)
{
    (void)output;
    size_t axis = ((const struct flip_attributes *)node->attributes)->axis;
    *layout = *input;
    layout->offset += (size_t)((ptrdiff_t)(input->shape.size[axis] - 1) * input->stride[axis]);
    layout->stride[axis] = -input->stride[axis];
    return true;
}

static void gradient_flip(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_flip(d_out[0], (int)((const struct flip_attributes *)node->attributes)->axis);
}

static const struct qn_op flip_op = {.name = "flip",
                                     .outputs = 1,
                                     .attributes = sizeof(struct flip_attributes),
                                     .infer = infer_flip,
                                     .view = view_flip,
                                     .gradient = gradient_flip,
                                     .simplify = simplify_twice};

qn_node *qn_flip(qn_node *x, int axis)
{
    if (!x || (axis = axis_of("flip", x, axis)) < 0)
        return NULL;
    return qn_node_new(&flip_op, &(struct flip_attributes){(size_t)axis}, &x, 1);
}

/* ---- Split: several slices whose gradients are joined, not added ---- */

struct split_attributes {
    size_t axis, count;
};

static bool infer_split(qn_node *node)
{
    const struct split_attributes *split = node->attributes;
    size_t size = qn_in(node, 0)->size[split->axis];
    if (size % split->count != 0)
        return qn_node_fail(node, "an axis of %zu does not split into %zu equal parts", size,
                            split->count);
    node->n_outputs = (int)split->count;
    for (int i = 0; i < node->n_outputs; i++) {
        node->outputs[i] = node->inputs[0]->outputs[0];
        node->outputs[i].shape.size[split->axis] = size / split->count;
    }
    return true;
}

static bool view_split(const qn_node *node, int output, const struct qn_layout *input,
                       struct qn_layout *layout)
{
    const struct split_attributes *split = node->attributes;
    *layout = *input;
    layout->shape = *qn_out(node, output);
    layout->offset += (size_t)output * qn_out(node, output)->size[split->axis] *
                      (size_t)input->stride[split->axis];
    return true;
}

static void gradient_split(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct split_attributes *split = node->attributes;
    qn_node *parts[QN_MAX_OUTPUTS];
    for (size_t i = 0; i < split->count; i++)
        parts[i] = d_out[i] ? gradient_part(node, d_out[i])
                            : zeros(node, split->axis, qn_out(node, 0)->size[split->axis]);
    d_in[0] = qn_concat(parts, split->count, (int)split->axis);
}

static const struct qn_op split_op = {.name = "split",
                                      .outputs = QN_MAX_OUTPUTS,
                                      .attributes = sizeof(struct split_attributes),
                                      .infer = infer_split,
                                      .view = view_split,
                                      .gradient = gradient_split};

int qn_split(qn_node *x, int axis, size_t count, qn_node **parts)
{
    for (size_t i = 0; i < count; i++)
        parts[i] = NULL;
    if (!x || (axis = axis_of("split", x, axis)) < 0)
        return QN_ERROR_INVALID;
    if (count == 0 || count > QN_MAX_OUTPUTS)
        return context_fail(x->graph->context, QN_ERROR_INVALID,
                            "split: into %zu parts; at most %d are possible", count,
                            QN_MAX_OUTPUTS);
    qn_node *split = qn_node_new(&split_op, &(struct split_attributes){(size_t)axis, count}, &x, 1);
    for (size_t i = 0; i < count; i++)
        if (!(parts[i] = split ? qn_output(split, (int)i) : NULL))
            return QN_ERROR_INVALID;
    return QN_OK;
}

/* ---- Broadcast ---- */

static bool infer_broadcast(qn_node *node)
{
    const qn_shape *from = qn_in(node, 0), *to = node->attributes;
    char from_text[SHAPE_TEXT], to_text[SHAPE_TEXT];
    bool fits = to->rank >= from->rank && to->rank <= QN_MAX_RANK && qn_shape_count(*to) > 0 &&
                qn_shape_count(*to) < SIZE_MAX / 8;
    for (int i = 1; fits && i <= from->rank; i++)
        fits =
            from->size[from->rank - i] == to->size[to->rank - i] || from->size[from->rank - i] == 1;
    if (!fits)
        return qn_node_fail(node, "%s does not broadcast to %s",
                            shape_text(from, from_text, sizeof from_text),
                            shape_text(to, to_text, sizeof to_text));
    node->outputs[0] = (struct qn_value){node->inputs[0]->outputs[0].type, *to};
    return true;
}

static bool view_broadcast(const qn_node *node, int output, const struct qn_layout *input,
                           struct qn_layout *layout)
{
    (void)output;
    const qn_shape *to = qn_out(node, 0);
    *layout = (struct qn_layout){.type = input->type, .shape = *to, .offset = input->offset};
    int missing = to->rank - input->shape.rank;
    for (int i = missing; i < to->rank; i++)
        layout->stride[i] = input->shape.size[i - missing] == 1 ? 0 : input->stride[i - missing];
    return true;
}

static void gradient_broadcast(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const qn_shape *from = qn_in(node, 0), *to = qn_out(node, 0);
    unsigned axes = 0;
    for (int i = 0; i < to->rank; i++) {
        int old = i - (to->rank - from->rank);
        if (to->size[i] > 1 && (old < 0 || from->size[old] == 1))
            axes |= QN_AXIS(i);
    }
    d_in[0] = qn_reshape(axes ? qn_sum(d_out[0], axes) : d_out[0], *from);
}

static qn_node *simplify_broadcast(qn_node *node)
{
    qn_node *x = node->inputs[0];
    if (qn_shape_equal(*qn_in(node, 0), *qn_out(node, 0)))
        return x;
    return x->op == node->op ? qn_broadcast(x->inputs[0], *qn_out(node, 0)) : node;
}

static const struct qn_op broadcast_op = {.name = "broadcast",
                                          .outputs = 1,
                                          .attributes = sizeof(qn_shape),
                                          .infer = infer_broadcast,
                                          .view = view_broadcast,
                                          .gradient = gradient_broadcast,
                                          .simplify = simplify_broadcast};

qn_node *qn_broadcast(qn_node *x, qn_shape shape)
{
    if (!x || qn_shape_equal(*qn_out(x, 0), shape))
        return x;
    qn_shape clean = clean_shape(shape);
    return qn_node_new(&broadcast_op, &clean, &x, 1);
}

bool broadcast_together(const char *name, qn_node **nodes, size_t count)
{
    qn_shape common = {0};
    for (size_t i = 0; i < count; i++) {
        if (!nodes[i])
            return false;
        const qn_shape *shape = qn_out(nodes[i], 0);
        for (; common.rank < shape->rank; common.rank++) {
            memmove(common.size + 1, common.size, (size_t)common.rank * sizeof *common.size);
            common.size[0] = 1;
        }
        for (int j = 1; j <= shape->rank; j++) {
            size_t *size = &common.size[common.rank - j], other = shape->size[shape->rank - j];
            if (*size != other && *size != 1 && other != 1) {
                char a[SHAPE_TEXT], b[SHAPE_TEXT];
                context_fail(nodes[i]->graph->context, QN_ERROR_INVALID,
                             "%s: shapes %s and %s do not broadcast together", name,
                             shape_text(&common, a, sizeof a), shape_text(shape, b, sizeof b));
                return false;
            }
            *size = *size == 1 ? other : *size;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!(nodes[i] = qn_broadcast(nodes[i], common)))
            return false;
    return true;
}

/* ---- Concat ---- */

struct concat_attributes {
    size_t axis;
};

static bool infer_concat(qn_node *node)
{
    size_t axis = ((const struct concat_attributes *)node->attributes)->axis, total = 0;
    for (size_t i = 0; i < node->n_inputs; i++) {
        qn_shape shape = *qn_in(node, i);
        if (shape.rank > (int)axis)
            total += shape.size[axis];
        if (shape.rank > (int)axis)
            shape.size[axis] = qn_in(node, 0)->size[axis];
        if (!qn_shape_equal(shape, *qn_in(node, 0)) ||
            node->inputs[i]->outputs[0].type != node->inputs[0]->outputs[0].type) {
            char a[SHAPE_TEXT], b[SHAPE_TEXT];
            return qn_node_fail(node, "part %zu is %s %s, part 0 is %s %s", i,
                                qn_type_name(node->inputs[i]->outputs[0].type),
                                shape_text(qn_in(node, i), a, sizeof a),
                                qn_type_name(node->inputs[0]->outputs[0].type),
                                shape_text(qn_in(node, 0), b, sizeof b));
        }
    }
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[0].shape.size[axis] = total;
    return true;
}

/* How a part lies in the whole: `rows` runs of `width` elements. */
static void concat_runs(const qn_node *node, const qn_shape *shape, size_t *rows, size_t *width)
{
    size_t axis = ((const struct concat_attributes *)node->attributes)->axis;
    *rows = *width = 1;
    for (size_t i = 0; i < (size_t)shape->rank; i++)
        *(i < axis ? rows : width) *= shape->size[i];
}

static bool place_concat(const qn_node *node, size_t input, size_t *offset)
{
    size_t rows, width;
    *offset = 0;
    for (size_t i = 0; i < input; i++) {
        concat_runs(node, qn_in(node, i), &rows, &width);
        *offset += qn_type_bytes(node->outputs[0].type, width);
    }
    concat_runs(node, qn_in(node, input), &rows, &width);
    return rows == 1;
}

void begin_copy(struct qn_launch *launch, const char *kernel, enum qn_type type)
{
    static const char *const elements[] = {[1] = "uchar", [2] = "ushort", [4] = "uint"};
    qn_launch_kernel(launch, &source_shape, kernel);
    qn_launch_define_text(launch, "ELEMENT", elements[qn_type_bytes(type, 1)]);
}

void record_copy_rows(struct qn_launch *launch, size_t input, size_t rows, size_t width,
                      size_t out_width, size_t out_offset)
{
    begin_copy(launch, "copy_rows", qn_launch_layout(launch, input)->type);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, input);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_ulong(launch, out_width);
    qn_launch_ulong(launch, out_offset);
    qn_launch_items(launch, rows * divide_up(width, flat_chunk(qn_launch_caps(launch))));
}

static void record_concat(struct qn_launch *launch, const qn_node *node)
{
    size_t rows, width, out_width, offset = 0;
    concat_runs(node, qn_out(node, 0), &rows, &out_width);
    for (size_t i = 0; i < node->n_inputs; i++) {
        concat_runs(node, qn_in(node, i), &rows, &width);
        if (!qn_launch_in_place(launch, i))
            record_copy_rows(launch, i, rows, width, out_width, offset);
        offset += width;
    }
}

static void gradient_concat(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    size_t axis = ((const struct concat_attributes *)node->attributes)->axis, begin = 0;
    for (size_t i = 0; i < node->n_inputs; i++) {
        size_t end = begin + qn_in(node, i)->size[axis];
        d_in[i] = qn_slice(d_out[0], (int)axis, begin, end);
        begin = end;
    }
}

/* The node whose outputs the parts are, each with its last two axes made one; NULL: there is none. */
static qn_node *source_of_parts(const qn_node *node)
{
    qn_node *source = NULL;
    for (size_t i = 0; i < node->n_inputs; i++) {
        if (node->inputs[i]->op != &reshape_op)
            return NULL;
        qn_node *part = node->inputs[i]->inputs[0];
        bool is_output = part->op == &output_op;
        int output = is_output ? *(const int *)part->attributes : 0;
        qn_shape shape = *qn_out(part, 0);
        shape.rank--;
        if (shape.rank < 1)
            return NULL;
        shape.size[shape.rank - 1] *= shape.size[shape.rank];
        part = is_output ? part->inputs[0] : part;
        if (output != (int)i || (source && source != part) ||
            !qn_shape_equal(shape, *qn_out(node->inputs[i], 0)))
            return NULL;
        source = part;
    }
    return source && (size_t)source->n_outputs == node->n_inputs ? source : NULL;
}

/* All outputs of a node are computed where they belong, if it can do so. */
static qn_node *simplify_concat(qn_node *node)
{
    size_t axis = ((const struct concat_attributes *)node->attributes)->axis;
    qn_node *source = (int)axis + 1 == qn_out(node, 0)->rank ? source_of_parts(node) : NULL;
    return source && source->op->joined ? source->op->joined(source) : node;
}

static const struct qn_variant concat_variants[] = {{.name = "copy", .record = record_concat}};

static const struct qn_op concat_op = {.name = "concat",
                                       .outputs = 1,
                                       .attributes = sizeof(struct concat_attributes),
                                       .infer = infer_concat,
                                       .variants = concat_variants,
                                       .n_variants = 1,
                                       .gradient = gradient_concat,
                                       .simplify = simplify_concat,
                                       .place = place_concat};

qn_node *qn_concat(qn_node *const *parts, size_t count, int axis)
{
    if (count == 0 || !parts[0] || (axis = axis_of("concat", parts[0], axis)) < 0)
        return NULL;
    if (count == 1)
        return parts[0];
    return qn_node_new(&concat_op, &(struct concat_attributes){(size_t)axis}, parts, count);
}

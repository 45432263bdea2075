/* Reductions over axes: runs of adjacent axes, one after the other. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "graph/graph.h"
#include "op/shape.h"

enum kind { SUM, MAX, SUM_SQUARES };

/* The input seen as (outer, n, inner); n goes. */
struct reduce_attributes {
    size_t kind, first, last; /* axes first to last - 1 */
};

static void extents(const qn_node *node, size_t *outer, size_t *n, size_t *inner)
{
    const struct reduce_attributes *reduce = node->attributes;
    *outer = *n = *inner = 1;
    for (size_t i = 0; i < (size_t)qn_in(node, 0)->rank; i++)
        *(i < reduce->first ? outer : i < reduce->last ? n : inner) *= qn_in(node, 0)->size[i];
}

static bool infer_reduce(qn_node *node)
{
    const struct reduce_attributes *reduce = node->attributes;
    const qn_shape *from = qn_in(node, 0);
    if (!type_is_real(node->inputs[0]->outputs[0].type))
        return qn_node_fail(node, "of %s; only f32, f16 and bf16 are reduced",
                            qn_type_name(node->inputs[0]->outputs[0].type));
    qn_shape to = {0};
    for (size_t i = 0; i < (size_t)from->rank; i++)
        if (i < reduce->first || i >= reduce->last)
            to.size[to.rank++] = from->size[i];
    node->outputs[0] = (struct qn_value){QN_F32, to};
    return true;
}

/* ---- Kernels ---- */

enum { ROW_PART = 65536, CPU_COLUMN_PART = 128, GPU_COLUMN_PART = 32 };

/* How long the parts are that the first launch reduces. */
static size_t part_length(const qn_node *node, const struct qn_caps *caps)
{
    size_t outer, n, inner;
    extents(node, &outer, &n, &inner);
    if (inner == 1)
        return ROW_PART;
    return caps->device_class == QN_CPU ? CPU_COLUMN_PART : GPU_COLUMN_PART;
}

static size_t workspace_reduce(const qn_node *node, const struct qn_caps *caps)
{
    size_t outer, n, inner;
    extents(node, &outer, &n, &inner);
    size_t parts = divide_up(n, part_length(node, caps));
    return parts > 1 ? outer * parts * inner * sizeof(float) : 0;
}

/* One launch: from (outer, n, inner) to (outer, parts, inner). */
static void launch_reduce(struct qn_launch *launch, enum kind kind, size_t outer, size_t n,
                          size_t inner, size_t length, bool from_workspace, bool to_workspace)
{
    qn_launch_kernel(launch, &source_reduce, inner == 1 ? "reduce_rows" : "reduce_columns");
    qn_launch_define(launch, "KIND", (long)kind);
    qn_launch_type(launch, "T", from_workspace ? QN_F32 : qn_launch_layout(launch, 0)->type);
    if (to_workspace)
        qn_launch_workspace(launch);
    else
        qn_launch_output(launch, 0);
    if (from_workspace)
        qn_launch_workspace(launch);
    else if (!qn_launch_fused(launch))
        qn_launch_input(launch, 0);
    qn_launch_ulong(launch, outer);
    qn_launch_ulong(launch, n);
    if (inner > 1)
        qn_launch_ulong(launch, inner);
    qn_launch_ulong(launch, length);
    size_t parts = divide_up(n, length);
    if (inner == 1)
        qn_launch_rows(launch, outer * parts);
    else
        qn_launch_items(launch,
                        outer * parts * divide_up(inner, qn_launch_caps(launch)->float_width));
}

static void record_reduce(struct qn_launch *launch, const qn_node *node)
{
    enum kind kind = (enum kind)((const struct reduce_attributes *)node->attributes)->kind;
    size_t outer, n, inner, length = part_length(node, qn_launch_caps(launch));
    extents(node, &outer, &n, &inner);
    size_t parts = divide_up(n, length);
    launch_reduce(launch, kind, outer, n, inner, length, false, parts > 1);
    if (parts > 1)
        launch_reduce(launch, kind == SUM_SQUARES ? SUM : kind, outer, parts, inner, parts, true,
                      false);
}

/* The kernels walk rows of all that is reduced, or of what lies behind it. */
static int prologue_rows(const qn_node *node)
{
    const struct reduce_attributes *reduce = node->attributes;
    size_t outer, n, inner;
    extents(node, &outer, &n, &inner);
    return (int)(inner == 1 ? reduce->first : reduce->last);
}

static const struct qn_variant variants[] = {{.name = "parts",
                                              .prologue = prologue_rows,
                                              .workspace = workspace_reduce,
                                              .record = record_reduce}};

/* ---- Gradients ---- */

/* A value without the axes, repeated along them. */
static qn_node *repeat_along(qn_node *value, const qn_shape *shape, unsigned axes)
{
    qn_shape ones = *shape;
    for (int i = 0; i < ones.rank; i++)
        if (axes >> i & 1)
            ones.size[i] = 1;
    return qn_broadcast(qn_reshape(value, ones), *shape);
}

static unsigned reduced_axes(const qn_node *node)
{
    const struct reduce_attributes *reduce = node->attributes;
    unsigned axes = 0;
    for (size_t i = reduce->first; i < reduce->last; i++)
        axes |= QN_AXIS(i);
    return axes;
}

static qn_node *repeat(const qn_node *node, qn_node *value)
{
    return repeat_along(value, qn_in(node, 0), reduced_axes(node));
}

static void gradient_sum(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = repeat(node, d_out[0]);
}

static void gradient_max(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    qn_node *greatest = qn_equal(node->inputs[0], repeat(node, node));
    qn_node *count = qn_sum(greatest, reduced_axes(node));
    d_in[0] = qn_mul(greatest, repeat(node, qn_div(d_out[0], count)));
}

static void gradient_sum_squares(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_mul(qn_scale(node->inputs[0], 2), repeat(node, d_out[0]));
}

static struct qn_cost cost_reduce(const qn_node *node)
{
    double in = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = in, .bytes = bytes_of(node)};
}

#define REDUCTION(title, slope)                                                                    \
    {                                                                                              \
        .name = title, .outputs = 1, .attributes = sizeof(struct reduce_attributes),               \
        .infer = infer_reduce, .variants = variants, .n_variants = 1, .gradient = slope,           \
        .cost = cost_reduce                                                                        \
    }

static const struct qn_op ops[] = {
    [SUM] = REDUCTION("sum", gradient_sum),
    [MAX] = REDUCTION("max", gradient_max),
    [SUM_SQUARES] = REDUCTION("sum_squares", gradient_sum_squares),
};

static qn_node *reduce_run(qn_node *x, enum kind kind, size_t first, size_t last)
{
    return qn_node_new(&ops[kind], &(struct reduce_attributes){kind, first, last}, &x, 1);
}

/* Moves axes behind the others. */
static qn_node *move_last(qn_node *x, unsigned axes)
{
    int end = x->outputs[0].shape.rank;
    for (int axis = end; axis-- > 0;) {
        if (!(axes >> axis & 1))
            continue;
        end--;
        for (int i = axis; i < end; i++)
            x = qn_transpose(x, i, i + 1);
    }
    return x;
}

/* Reduces runs of adjacent axes, the last first, so that the axes before keep their numbers. */
static qn_node *reduce(qn_node *x, enum kind kind, unsigned axes)
{
    if (!x)
        return NULL;
    int rank = x->outputs[0].shape.rank;
    if (axes != QN_ALL && axes >> rank != 0) {
        context_fail(x->graph->context, QN_ERROR_INVALID, "%s: axes %#x of a value of rank %d",
                     ops[kind].name, axes, rank);
        return NULL;
    }
    unsigned all = axes & ((1u << rank) - 1), lowest = all & (0u - all);
    if (kind == MAX && (all & (all + lowest)) != 0 && all + lowest < 1u << rank) {
        x = move_last(x, all); /* in one run: the gradient is shared among all that are equal */
        int kept = rank - __builtin_popcount(all);
        return x ? reduce_run(x, kind, (size_t)kept, (size_t)rank) : NULL;
    }
    for (int last = rank; x && last > 0; last--) {
        if (!(axes >> (last - 1) & 1))
            continue;
        int first = last - 1;
        while (first > 0 && axes >> (first - 1) & 1)
            first--;
        x = reduce_run(x, kind, (size_t)first, (size_t)last);
        last = first + 1;
    }
    return x;
}

qn_node *qn_sum(qn_node *x, unsigned axes)
{
    return reduce(x, SUM, axes);
}

qn_node *qn_max(qn_node *x, unsigned axes)
{
    return reduce(x, MAX, axes);
}

qn_node *qn_mean(qn_node *x, unsigned axes)
{
    qn_node *sum = reduce(x, SUM, axes);
    if (!sum)
        return NULL;
    double count = (double)qn_shape_count(*qn_out(x, 0)) / (double)qn_shape_count(*qn_out(sum, 0));
    return qn_scale(sum, 1 / count);
}

qn_node *qn_sum_squares(qn_node *x)
{
    if (!x)
        return NULL;
    if (x->outputs[0].shape.rank == 0)
        return qn_square(x);
    return reduce_run(x, SUM_SQUARES, 0, (size_t)x->outputs[0].shape.rank);
}

qn_node *qn_variance(qn_node *x, unsigned axes, double correction)
{
    qn_node *mean = qn_mean(x, axes);
    if (!mean)
        return NULL;
    double count = (double)qn_shape_count(*qn_out(x, 0)) / (double)qn_shape_count(*qn_out(mean, 0));
    qn_node *deviation = qn_sub(x, repeat_along(mean, qn_out(x, 0), axes));
    return qn_scale(qn_sum(qn_square(deviation), axes), 1 / (count - correction));
}

/* ---- The logarithm of a sum of exponentials: made of others, but with a gradient of its own ---- */

struct logsumexp_attributes {
    unsigned axes;
};

static bool infer_logsumexp(qn_node *node)
{
    unsigned axes = ((const struct logsumexp_attributes *)node->attributes)->axes;
    const qn_shape *from = qn_in(node, 0);
    if (!type_is_real(node->inputs[0]->outputs[0].type))
        return qn_node_fail(node, "of %s; only f32, f16 and bf16 are reduced",
                            qn_type_name(node->inputs[0]->outputs[0].type));
    if (axes >> from->rank != 0)
        return qn_node_fail(node, "axes %#x of a value of rank %d", axes, from->rank);
    qn_shape to = {0};
    for (int i = 0; i < from->rank; i++)
        if (!(axes >> i & 1))
            to.size[to.rank++] = from->size[i];
    node->outputs[0] = (struct qn_value){QN_F32, to};
    return true;
}

/* max + log sum exp(x - max); an infinite max is not subtracted. */
static qn_node *simplify_logsumexp(qn_node *node)
{
    unsigned axes = ((const struct logsumexp_attributes *)node->attributes)->axes;
    qn_node *x = qn_cast(node->inputs[0], QN_F32), *most = qn_max(x, axes),
            *zero = qn_constant(x->graph, 0);
    most = qn_where(qn_is_finite(most), most, zero);
    qn_node *term = qn_exp(qn_sub(x, repeat_along(most, qn_in(node, 0), axes)));
    return qn_add(most, qn_log(qn_sum(term, axes)));
}

static void gradient_logsumexp(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    unsigned axes = ((const struct logsumexp_attributes *)node->attributes)->axes;
    const qn_shape *shape = qn_in(node, 0);
    qn_node *share = qn_exp(qn_sub(node->inputs[0], repeat_along(node, shape, axes)));
    d_in[0] = qn_mul(share, repeat_along(d_out[0], shape, axes));
}

static const struct qn_op logsumexp_op = {.name = "logsumexp",
                                          .outputs = 1,
                                          .attributes = sizeof(struct logsumexp_attributes),
                                          .infer = infer_logsumexp,
                                          .simplify = simplify_logsumexp,
                                          .gradient = gradient_logsumexp};

qn_node *qn_logsumexp(qn_node *x, unsigned axes)
{
    if (!x)
        return NULL;
    if (axes == QN_ALL)
        axes = QN_AXIS(qn_out(x, 0)->rank) - 1;
    return qn_node_new(&logsumexp_op, &(struct logsumexp_attributes){axes}, &x, 1);
}

qn_node *qn_log_softmax(qn_node *x, int axis)
{
    if (!x || (axis = axis_of("log_softmax", x, axis)) < 0)
        return NULL;
    qn_node *sum = qn_logsumexp(x, QN_AXIS(axis));
    return sum ? qn_sub(x, repeat_along(sum, qn_out(x, 0), QN_AXIS(axis))) : NULL;
}

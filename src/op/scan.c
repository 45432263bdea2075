/* Running sums along an axis. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

struct cumsum_attributes {
    size_t axis;
    size_t is_reversed; /* from the end: the gradient of the other one */
};

static bool infer_cumsum(qn_node *node)
{
    if (node->inputs[0]->outputs[0].type != QN_F32)
        return qn_node_fail(node, "of %s, not f32: cast it first",
                            qn_type_name(node->inputs[0]->outputs[0].type));
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static void record_cumsum(struct qn_launch *launch, const qn_node *node)
{
    const struct cumsum_attributes *cumsum = node->attributes;
    const qn_shape *shape = qn_in(node, 0);
    size_t blocks = 1, width = 1, n = shape->size[cumsum->axis];
    for (size_t i = 0; i < (size_t)shape->rank; i++)
        if (i != cumsum->axis)
            *(i < cumsum->axis ? &blocks : &width) *= shape->size[i];
    qn_launch_kernel(launch, &source_scan, width == 1 ? "scan_rows" : "scan_columns");
    qn_launch_define(launch, "IS_REVERSED", (long)cumsum->is_reversed);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, blocks);
    qn_launch_ulong(launch, n);
    if (width == 1) {
        qn_launch_rows(launch, blocks);
        return;
    }
    qn_launch_ulong(launch, width);
    qn_launch_items(launch, blocks * divide_up(width, qn_launch_caps(launch)->float_width));
}

static qn_node *cumsum(qn_node *x, struct cumsum_attributes attributes);

static void gradient_cumsum(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct cumsum_attributes *attributes = node->attributes;
    d_in[0] =
        cumsum(d_out[0], (struct cumsum_attributes){attributes->axis, !attributes->is_reversed});
}

static const struct qn_variant variants[] = {{.name = "scan", .record = record_cumsum}};

static const struct qn_op cumsum_op = {.name = "cumsum",
                                       .outputs = 1,
                                       .attributes = sizeof(struct cumsum_attributes),
                                       .infer = infer_cumsum,
                                       .variants = variants,
                                       .n_variants = 1,
                                       .may_overwrite = 1,
                                       .gradient = gradient_cumsum};

static qn_node *cumsum(qn_node *x, struct cumsum_attributes attributes)
{
    return qn_node_new(&cumsum_op, &attributes, &x, 1);
}

qn_node *qn_cumsum(qn_node *x, int axis)
{
    if (!x || (axis = axis_of("cumsum", x, axis)) < 0)
        return NULL;
    return cumsum(x, (struct cumsum_attributes){.axis = (size_t)axis});
}

/* Drawing from rows of logits. */
#include <float.h>

#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

enum { MOST_CLASSES = 1 << 24 }; /* kernels count them in floats */

struct sample_attributes {
    size_t top_k;
    float temperature, top_p;
};

static bool infer_sample(qn_node *node)
{
    const struct sample_attributes *options = node->attributes;
    const struct qn_value *logits = &node->inputs[0]->outputs[0],
                          *key = &node->inputs[1]->outputs[0];
    char text[SHAPE_TEXT];
    if (logits->type != QN_F32 || logits->shape.rank != 2)
        return qn_node_fail(node, "the logits are %s %s; they must be an f32 matrix",
                            qn_type_name(logits->type),
                            shape_text(&logits->shape, text, sizeof text));
    if (logits->shape.size[1] > MOST_CLASSES)
        return qn_node_fail(node, "%zu classes; there may be %d", logits->shape.size[1],
                            MOST_CLASSES);
    if (key->type != QN_I32 || !qn_shape_equal(key->shape, QN_SHAPE(2)))
        return qn_node_fail(node, "the key is %s %s; it must be i32 [2]", qn_type_name(key->type),
                            shape_text(&key->shape, text, sizeof text));
    if (!(options->temperature >= 0 && options->temperature <= FLT_MAX))
        return qn_node_fail(node, "the temperature is %g; it must be 0 or more",
                            options->temperature);
    if (!(options->top_p >= 0 && options->top_p <= 1))
        return qn_node_fail(node, "top_p is %g, which is not in [0, 1]", options->top_p);
    node->outputs[0] = (struct qn_value){QN_I32, QN_SHAPE(logits->shape.size[0])};
    return true;
}

static void record_sample(struct qn_launch *launch, const qn_node *node)
{
    const struct sample_attributes *options = node->attributes;
    size_t rows = qn_in(node, 0)->size[0], width = qn_in(node, 0)->size[1];
    qn_launch_kernel(launch, &source_sample, "sample");
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    /* Devices may take a smaller one for 0 in a division, and for more than that in a comparison.
     */
    qn_launch_float(launch, options->temperature < FLT_MIN ? 0 : options->temperature);
    qn_launch_ulong(launch, options->top_k ? size_min(options->top_k, width) : width);
    qn_launch_float(launch, options->top_p > 0 ? options->top_p : 1);
    qn_launch_rows(launch, rows);
}

static struct qn_cost cost(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 8 * count, .bytes = 4 * count};
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_sample}};

static const struct qn_op sample_op = {.name = "sample",
                                       .outputs = 1,
                                       .attributes = sizeof(struct sample_attributes),
                                       .infer = infer_sample,
                                       .variants = variants,
                                       .n_variants = 1,
                                       .cost = cost};

qn_node *qn_sample(qn_node *logits, qn_node *key, struct qn_sample options)
{
    struct sample_attributes attributes = {options.top_k, options.temperature, options.top_p};
    return qn_node_new(&sample_op, &attributes, (qn_node *[]){logits, key}, 2);
}

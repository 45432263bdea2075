/* AdamW on whole buffers. */
#include <math.h>

#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "op/shape.h"

enum { BUFFERS = 4, OPERANDS = 8 }; /* parameters, m, v, gradient; then four numbers */

static bool infer_adamw(qn_node *node)
{
    static const char *const names[OPERANDS] = {"parameters",    "m",     "v", "gradient",
                                                "learning_rate", "scale", "t", "gate"};
    for (size_t i = 0; i < OPERANDS; i++) {
        if (node->inputs[i]->outputs[0].type != QN_F32)
            return qn_node_fail(node, "%s is %s, not f32", names[i],
                                qn_type_name(node->inputs[i]->outputs[0].type));
        if (i < BUFFERS && !qn_shape_equal(*qn_in(node, i), *qn_in(node, 0)))
            return qn_node_fail(node, "%s has another shape than the parameters", names[i]);
        if (i >= BUFFERS && qn_shape_count(*qn_in(node, i)) != 1)
            return qn_node_fail(node, "%s must be one number", names[i]);
    }
    for (int i = 0; i < 3; i++)
        node->outputs[i] = node->inputs[0]->outputs[0];
    return true;
}

static void record_adamw(struct qn_launch *launch, const qn_node *node)
{
    const struct qn_adamw *options = node->attributes;
    size_t count = qn_shape_count(*qn_in(node, 0));
    qn_launch_kernel(launch, &source_adamw, "adamw");
    for (int i = 0; i < 3; i++)
        qn_launch_output(launch, i);
    for (size_t i = 0; i < OPERANDS; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, count);
    qn_launch_float(launch, options->beta1);
    qn_launch_float(launch, 1 - options->beta1);
    qn_launch_float(launch, log(options->beta1));
    qn_launch_float(launch, options->beta2);
    qn_launch_float(launch, 1 - options->beta2);
    qn_launch_float(launch, log(options->beta2));
    qn_launch_float(launch, options->epsilon);
    qn_launch_float(launch, options->weight_decay);
    qn_launch_flat(launch, count);
}

static struct qn_cost cost(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_in(node, 0));
    return (struct qn_cost){.flops = 15 * count, .bytes = 28 * count};
}

static const struct qn_variant variants[] = {{.name = "flat", .record = record_adamw}};

static const struct qn_op adamw_op = {.name = "adamw",
                                      .outputs = 3,
                                      .attributes = sizeof(struct qn_adamw),
                                      .infer = infer_adamw,
                                      .variants = variants,
                                      .n_variants = 1,
                                      .may_overwrite = 7,
                                      .cost = cost};

qn_node *qn_adamw(qn_node *parameters, qn_node *m, qn_node *v, qn_node *gradient,
                  qn_node *learning_rate, qn_node *scale, qn_node *t, qn_node *gate,
                  struct qn_adamw options)
{
    qn_node *inputs[OPERANDS] = {parameters, m, v, gradient, learning_rate, scale, t, gate};
    return qn_node_new(&adamw_op, &options, inputs, OPERANDS);
}

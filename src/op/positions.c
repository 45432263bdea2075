/* Positions as angles: rotary embedding, and sines. */
#include <math.h>
#include <stdlib.h>

#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

/* The frequency theta^(-2i/size), scaled, as turns a position. */
static double turns_a_position(double theta, struct qn_rotary_scaling scaling, size_t i,
                               size_t size)
{
    double turns = pow(theta, -2.0 * (double)i / (double)size) / (2 * acos(-1));
    if (scaling.factor == 0)
        return turns;
    double kept = (scaling.length * turns - scaling.low) / (scaling.high - scaling.low);
    kept = fmin(fmax(kept, 0), 1);
    return kept * turns + (1 - kept) * turns / scaling.factor;
}

/* The first `count` frequencies in text: see cl/positions.cl. */
static void define_frequencies(struct qn_launch *launch, double theta,
                               struct qn_rotary_scaling scaling, size_t size, size_t count)
{
    enum { NUMBERS_TEXT = 64 };
    char *text = malloc(count * NUMBERS_TEXT + 1);
    if (text) {
        size_t used = 0;
        for (size_t i = 0; i < count; i++) {
            double turns = turns_a_position(theta, scaling, i, size);
            float whole = (float)turns, rest = (float)(turns - (double)whole);
            used += (size_t)snprintf(text + used, NUMBERS_TEXT, "%af, %af, ", (double)whole,
                                     (double)rest);
        }
        text[used - 2] = '\0';
    }
    qn_launch_define_text(launch, "FREQUENCIES", text);
    free(text);
}

/* ---- Rotary: x, positions -> y ---- */

struct rotary_attributes {
    double theta;
    struct qn_rotary_scaling scaling;
    size_t size;
    uint32_t is_interleaved;
    uint32_t is_reversed; /* turns back: the gradient */
};

static bool infer_rotary(qn_node *node)
{
    const struct rotary_attributes *rotary = node->attributes;
    const qn_shape *x = qn_in(node, 0), *positions = qn_in(node, 1);
    char text[SHAPE_TEXT], positions_text[SHAPE_TEXT];
    if (!type_is_real(node->inputs[0]->outputs[0].type) || x->rank != 4)
        return qn_node_fail(node, "of %s %s; it must be real (batch, length, heads, size)",
                            qn_type_name(node->inputs[0]->outputs[0].type),
                            shape_text(x, text, sizeof text));
    bool matches = node->inputs[1]->outputs[0].type == QN_I32 &&
                   ((positions->rank == 1 && positions->size[0] == x->size[1]) ||
                    (positions->rank == 2 && positions->size[0] == x->size[0] &&
                     positions->size[1] == x->size[1]));
    if (!matches)
        return qn_node_fail(
            node, "positions are %s %s; of %s they must be i32 (length) or (batch, length)",
            qn_type_name(node->inputs[1]->outputs[0].type),
            shape_text(positions, positions_text, sizeof positions_text),
            shape_text(x, text, sizeof text));
    if (rotary->size == 0 || rotary->size > x->size[3] || rotary->size % 2 != 0)
        return qn_node_fail(node, "%zu entries turn; they must be even and at most %zu",
                            rotary->size, x->size[3]);
    if (!(rotary->theta > 0) || !isfinite(rotary->theta))
        return qn_node_fail(node, "theta is %g; it must be above 0", rotary->theta);
    const struct qn_rotary_scaling *scaling = &rotary->scaling;
    bool is_scaling = scaling->factor > 0 && isfinite(scaling->factor) && scaling->length > 0 &&
                      isfinite(scaling->length) && scaling->low >= 0 &&
                      scaling->high > scaling->low && isfinite(scaling->high);
    if (scaling->factor != 0 && !is_scaling)
        return qn_node_fail(node,
                            "scaled by %g below %g and not above %g turns in %g positions; it "
                            "must be numbers above 0, the first of the turns below the second",
                            scaling->factor, scaling->low, scaling->high, scaling->length);
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

static void record_rotary(struct qn_launch *launch, const qn_node *node)
{
    const struct rotary_attributes *rotary = node->attributes;
    const struct qn_layout *x = qn_launch_layout(launch, 0);
    size_t pairs = rotary->size / 2, width = x->shape.size[3],
           lanes = qn_launch_caps(launch)->float_width;
    qn_launch_kernel(launch, &source_positions, "rotary");
    qn_launch_type(launch, "T", node->outputs[0].type);
    qn_launch_define(launch, "IS_INTERLEAVED", rotary->is_interleaved);
    define_frequencies(launch, rotary->theta, rotary->scaling, rotary->size, pairs);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    for (int i = 0; i < 4; i++)
        qn_launch_ulong(launch, x->shape.size[i]);
    qn_launch_ulong(launch, pairs);
    qn_launch_ulong(launch, x->offset);
    for (int i = 0; i < 3; i++)
        qn_launch_ulong(launch, (size_t)x->stride[i]);
    qn_launch_ulong(launch, qn_shape_count(*qn_in(node, 1)));
    qn_launch_float(launch, rotary->is_reversed ? -1 : 1);
    qn_launch_items(launch, x->shape.size[0] * x->shape.size[1] *
                                (divide_up(pairs, lanes) + divide_up(width - 2 * pairs, lanes)));
}

static const struct qn_variant rotary_variants[] = {
    {.name = "pairs", .strides = {QN_ROWS, QN_CONTIGUOUS}, .record = record_rotary}};

static void gradient_rotary(qn_node *node, qn_node *const *d_out, qn_node **d_in);

static const struct qn_op rotary_op = {.name = "rotary",
                                       .outputs = 1,
                                       .attributes = sizeof(struct rotary_attributes),
                                       .infer = infer_rotary,
                                       .variants = rotary_variants,
                                       .n_variants = 1,
                                       .gradient = gradient_rotary};

static void gradient_rotary(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    struct rotary_attributes back = *(const struct rotary_attributes *)node->attributes;
    back.is_reversed = !back.is_reversed;
    d_in[0] = qn_node_new(&rotary_op, &back, (qn_node *[]){d_out[0], node->inputs[1]}, 2);
}

qn_node *qn_rotary(qn_node *x, qn_node *positions, struct qn_rotary options)
{
    if (!x)
        return NULL;
    const qn_shape *shape = qn_out(x, 0);
    size_t all = shape->rank ? shape->size[shape->rank - 1] : 0;
    struct rotary_attributes attributes = {.theta = options.theta != 0 ? options.theta : 10000,
                                           .scaling = options.scaling,
                                           .size = options.size ? options.size : all,
                                           .is_interleaved = options.is_interleaved};
    return qn_node_new(&rotary_op, &attributes, (qn_node *[]){x, positions}, 2);
}

/* ---- Sinusoidal: positions -> y ---- */

struct sinusoidal_attributes {
    size_t size;
    size_t halves;
};

static bool infer_sinusoidal(qn_node *node)
{
    size_t size = ((const struct sinusoidal_attributes *)node->attributes)->size;
    qn_shape shape = *qn_in(node, 0);
    if (node->inputs[0]->outputs[0].type != QN_I32 || shape.rank == QN_MAX_RANK)
        return qn_node_fail(node, "positions are %s of rank %d; they must be i32, of rank below %d",
                            qn_type_name(node->inputs[0]->outputs[0].type), shape.rank,
                            QN_MAX_RANK);
    if (size == 0)
        return qn_node_fail(node, "of size 0");
    shape.size[shape.rank++] = size;
    node->outputs[0] = (struct qn_value){QN_F32, shape};
    return true;
}

static void record_sinusoidal(struct qn_launch *launch, const qn_node *node)
{
    const struct sinusoidal_attributes *attributes = node->attributes;
    size_t tokens = qn_shape_count(*qn_in(node, 0)), sines = divide_up(attributes->size, 2);
    qn_launch_kernel(launch, &source_positions, "sinusoidal");
    qn_launch_type(launch, "T", QN_F32);
    qn_launch_define(launch, "IS_INTERLEAVED", false);
    define_frequencies(launch, 10000, (struct qn_rotary_scaling){0}, attributes->size, sines);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, tokens);
    qn_launch_ulong(launch, attributes->size);
    qn_launch_uint(launch, attributes->halves);
    qn_launch_items(launch, tokens * divide_up(sines, qn_launch_caps(launch)->float_width));
}

static const struct qn_variant sinusoidal_variants[] = {
    {.name = "frequencies", .record = record_sinusoidal}};

static const struct qn_op sinusoidal_op = {.name = "sinusoidal",
                                           .outputs = 1,
                                           .attributes = sizeof(struct sinusoidal_attributes),
                                           .infer = infer_sinusoidal,
                                           .variants = sinusoidal_variants,
                                           .n_variants = 1};

qn_node *qn_sinusoidal(qn_node *positions, size_t size, bool halves)
{
    struct sinusoidal_attributes attributes = {size, halves};
    return qn_node_new(&sinusoidal_op, &attributes, &positions, 1);
}

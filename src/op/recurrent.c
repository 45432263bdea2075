/* Recurrences: RNN, LSTM and GRU over whole sequences.
 *
 * qn_recurrent() is a product for all elements, x W + b, and a node that goes through them; its gradient is a node that goes back, and
 * products for all elements.  On a CPU the matrix of states is packed by a node of its own, which is computed once where weights do not
 * change. */
#include <quern/op.h>
#include <quern/ops.h>

#include <stdint.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/matmul.h"
#include "op/shape.h"

struct attributes {
    uint32_t cell, reverse;
    uint32_t has_bias, has_lengths;           /* forward: inputs that may be missing */
    uint32_t has_d_out, has_d_h_n, has_d_c_n; /* backward: the same, and has_lengths */
};

static const struct attributes *attributes_of(const qn_node *node)
{
    return node->attributes;
}

size_t qn_cell_gates(enum qn_cell cell)
{
    return cell == QN_LSTM ? 4 : cell == QN_GRU ? 3 : 1;
}

/* ---- Packed weights, for cl/recurrent.cl on a CPU ---- */

struct pack_attributes {
    uint32_t cell, backward;
};

/* Of a panel, in vectors: how many each element of a sum has, and of how many of them are units. */
struct panel {
    size_t vectors, units;
};

static struct panel panel_of(enum qn_cell cell, bool backward, const struct qn_caps *caps)
{
    size_t gates = qn_cell_gates(cell);
    bool of_one = !backward && gates > 1;
    return (struct panel){of_one ? gates : 4, (of_one ? 1 : 4) * caps->float_width};
}

static bool infer_pack(qn_node *node)
{
    const struct pack_attributes *attributes = node->attributes;
    const struct qn_caps *caps = &node->graph->context->caps;
    struct panel panel = panel_of((enum qn_cell)attributes->cell, attributes->backward, caps);
    size_t units = qn_in(node, 0)->size[1];
    size_t depth = attributes->backward ? qn_in(node, 0)->size[0] : units;
    size_t size = divide_up(units, panel.units) * (depth * panel.vectors * caps->float_width + 16);
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(size)};
    return true;
}

static void begin_kernel(struct qn_launch *launch, const char *kernel, enum qn_cell cell,
                         bool backward, enum qn_type type)
{
    qn_launch_kernel(launch, &source_recurrent, kernel);
    qn_launch_type(launch, "T", type);
    qn_launch_define(launch, "CELL", (long)cell);
    qn_launch_define(launch, "GATES", (long)qn_cell_gates(cell));
    qn_launch_define(launch, "BACKWARD", backward);
}

static void record_pack(struct qn_launch *launch, const qn_node *node)
{
    const struct pack_attributes *attributes = node->attributes;
    size_t units = qn_in(node, 0)->size[1];
    begin_kernel(launch, "recurrent_pack", (enum qn_cell)attributes->cell, attributes->backward,
                 qn_launch_layout(launch, 0)->type);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_uint(launch, units);
    qn_launch_groups(launch, size_min(divide_up(units, 4), 1024), 1);
}

static const struct qn_variant pack_variants[] = {{.name = "panels", .record = record_pack}};

static const struct qn_op pack_op = {.name = "recurrent_pack",
                                     .outputs = 1,
                                     .attributes = sizeof(struct pack_attributes),
                                     .infer = infer_pack,
                                     .variants = pack_variants,
                                     .n_variants = 1};

/* What the kernels read as the matrix of states. */
static qn_node *packed(qn_node *weight, enum qn_cell cell, bool backward)
{
    struct pack_attributes attributes = {(uint32_t)cell, backward};
    if (!weight || weight->graph->context->caps.device_class != QN_CPU ||
        weight->outputs[0].shape.rank != 2)
        return weight;
    return qn_node_new(&pack_op, &attributes, &weight, 1);
}

/* ---- Launches ---- */

struct sizes {
    size_t steps, batch, units, gates;
};

/* Arguments that all kernels begin their numbers with. */
static void launch_sizes(struct qn_launch *launch, const struct sizes *sizes,
                         const struct attributes *attributes)
{
    qn_launch_uint(launch, sizes->steps);
    qn_launch_uint(launch, sizes->batch);
    qn_launch_uint(launch, sizes->units);
    qn_launch_uint(launch, attributes->reverse);
    qn_launch_uint(launch, attributes->has_lengths);
}

/* How a CPU divides a step: into slices of rows, and of panels of units.  With all units of its rows a work-item needs nobody else's
 * states, and goes through all steps; but few rows are not worth reading all weights for. */
struct division {
    size_t rows, panels;
    bool is_whole; /* one command for all steps */
};

enum { ROWS_WORTH_WEIGHTS = 4, ROWS_OF_SLICE = 32 };
static const double STEP_WORTH_COMMAND = 1e6; /* floating-point operations */

static struct division divide(const struct sizes *sizes, struct panel panel,
                              const struct qn_caps *caps)
{
    size_t units = caps->compute_units, panels = divide_up(sizes->units, panel.units);
    double flops = 2.0 * (double)sizes->batch * (double)sizes->units * (double)sizes->units *
                   (double)sizes->gates;
    struct division division = {.panels = panels, .is_whole = true};
    if (sizes->batch < ROWS_WORTH_WEIGHTS * units &&
        (sizes->steps == 1 || flops > STEP_WORTH_COMMAND)) {
        division.rows = sizes->batch;
        division.panels = divide_up(panels, size_min(panels, 2 * units));
        division.is_whole = division.panels == panels;
    } else {
        size_t slices = units * divide_up(sizes->batch, units * ROWS_OF_SLICE);
        division.rows = divide_up(sizes->batch, slices);
    }
    return division;
}

enum { GPU_TILE = 16, GPU_GROUP = 64 }; /* of cl/recurrent.cl */

/* One command, from `begin` to `end` exclusive; the operation's own arguments were passed. */
static void launch_steps(struct qn_launch *launch, const struct sizes *sizes,
                         const struct division *division, size_t panels, int begin, int end)
{
    if (division) {
        size_t items =
            divide_up(sizes->batch, division->rows) * divide_up(panels, division->panels);
        qn_launch_uint(launch, division->rows);
        qn_launch_uint(launch, division->panels);
        qn_launch_int(launch, begin);
        qn_launch_int(launch, end);
        qn_launch_groups(launch, items, 1);
    } else {
        size_t tiles = divide_up(sizes->batch, GPU_TILE) * divide_up(sizes->units, GPU_TILE);
        qn_launch_int(launch, begin);
        qn_launch_groups(launch, tiles, GPU_GROUP);
    }
}

/* All steps of a node, whose arguments `arguments` passes. */
static void record_steps(struct qn_launch *launch, const qn_node *node, const struct sizes *sizes,
                         bool backward, int begin, int end,
                         void (*arguments)(struct qn_launch *, const qn_node *,
                                           const struct sizes *))
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    enum qn_cell cell = (enum qn_cell)attributes_of(node)->cell;
    struct panel panel = panel_of(cell, backward, caps);
    struct division division = divide(sizes, panel, caps);
    bool on_cpu = caps->device_class == QN_CPU, is_whole = on_cpu && division.is_whole;
    int one = backward ? -1 : 1;
    for (int step = begin; step != end; step = is_whole ? end : step + one) {
        begin_kernel(launch, on_cpu ? "recurrent_cpu" : "recurrent_gpu", cell, backward,
                     node->outputs[0].type);
        arguments(launch, node, sizes);
        launch_steps(launch, sizes, on_cpu ? &division : NULL, divide_up(sizes->units, panel.units),
                     step, is_whole ? end : step + one);
    }
}

static bool fits_cpu(const qn_node *node, const struct qn_caps *caps)
{
    (void)node;
    return caps->device_class == QN_CPU;
}

static bool fits_gpu(const qn_node *node, const struct qn_caps *caps)
{
    return !fits_cpu(node, caps);
}

/* ---- Forward ---- */

/* U is there for its gradient; kernels read it as packed() gives it. */
enum { U, H_0, X, PACKED, OPTIONAL }; /* then c_0 (LSTM), the bias of n (GRU), lengths */
enum { OUT, H_N, GATES, SAVED, C_N };

static struct sizes sizes_of(const qn_node *node)
{
    const qn_shape *x = qn_in(node, X);
    size_t units = qn_in(node, U)->size[1];
    return (struct sizes){x->size[0], x->size[1], units, qn_in(node, U)->size[0] / units};
}

static size_t lengths_index(const struct attributes *attributes)
{
    return OPTIONAL + (attributes->cell == QN_LSTM) + attributes->has_bias;
}

/* Whether input i has the shape; else an error that calls it `name`. */
static bool has_shape(qn_node *node, size_t i, const char *name, qn_shape shape)
{
    char found[SHAPE_TEXT], expected[SHAPE_TEXT];
    if (qn_shape_equal(*qn_in(node, i), shape))
        return true;
    return qn_node_fail(node, "%s is %s; it must be %s", name,
                        shape_text(qn_in(node, i), found, sizeof found),
                        shape_text(&shape, expected, sizeof expected));
}

static bool check_inputs(qn_node *node)
{
    const struct attributes *attributes = attributes_of(node);
    const qn_shape *u = qn_in(node, U), *x = qn_in(node, X);
    size_t gates = qn_cell_gates((enum qn_cell)attributes->cell);
    enum qn_type type = node->inputs[X]->outputs[0].type;
    char text[SHAPE_TEXT];
    if (x->rank != 3)
        return qn_node_fail(node, "x is %s; it must be (T, B, I)",
                            shape_text(x, text, sizeof text));
    if (u->rank != 2 || u->size[0] != gates * u->size[1] || u->size[1] == 0)
        return qn_node_fail(node, "weight_hh is %s; it must be (%zu H, H)",
                            shape_text(u, text, sizeof text), gates);
    if (x->size[2] != u->size[0])
        return qn_node_fail(node, "weight_ih has %zu rows, weight_hh %zu", x->size[2], u->size[0]);
    if (x->size[0] > INT32_MAX || x->size[0] * x->size[1] > UINT32_MAX)
        return qn_node_fail(node, "%zu elements of %zu rows are too many", x->size[0], x->size[1]);
    size_t lengths = attributes->has_lengths ? lengths_index(attributes) : node->n_inputs;
    for (size_t i = 0; i < lengths; i++)
        if (i != PACKED && node->inputs[i]->outputs[0].type != type)
            return qn_node_fail(node, "operands are %s and %s; they must be of one type",
                                qn_type_name(type), qn_type_name(node->inputs[i]->outputs[0].type));
    struct sizes sizes = sizes_of(node);
    qn_shape state = QN_SHAPE(sizes.batch, sizes.units);
    return has_shape(node, H_0, "h_0", state) &&
           (attributes->cell != QN_LSTM || has_shape(node, OPTIONAL, "c_0", state)) &&
           (!attributes->has_lengths || has_shape(node, lengths, "lengths", QN_SHAPE(sizes.batch)));
}

static bool infer_recurrent(qn_node *node)
{
    const struct attributes *attributes = attributes_of(node);
    if (!check_inputs(node))
        return false;
    struct sizes sizes = sizes_of(node);
    enum qn_type type = node->inputs[X]->outputs[0].type;
    qn_shape all = QN_SHAPE(sizes.steps, sizes.batch, sizes.units),
             state = QN_SHAPE(sizes.batch, sizes.units);
    node->outputs[OUT] = (struct qn_value){type, all};
    node->outputs[H_N] = (struct qn_value){type, state};
    node->n_outputs = attributes->cell == QN_LSTM ? C_N + 1 : SAVED + 1;
    if (attributes->cell == QN_LSTM || attributes->cell == QN_GRU) {
        node->outputs[GATES] = (struct qn_value){type, *qn_in(node, X)};
        node->outputs[SAVED] = (struct qn_value){QN_F32, all};
        node->outputs[C_N] = (struct qn_value){type, state};
    } else {
        node->n_outputs = H_N + 1;
    }
    return true;
}

static void forward_arguments(struct qn_launch *launch, const qn_node *node,
                              const struct sizes *sizes)
{
    const struct attributes *attributes = attributes_of(node);
    bool is_lstm = attributes->cell == QN_LSTM, saves = node->n_outputs > GATES;
    qn_launch_input(launch, H_0);
    qn_launch_input(launch, X);
    qn_launch_input(launch, PACKED);
    qn_launch_input(launch, is_lstm ? OPTIONAL : H_0);
    qn_launch_input(launch, attributes->has_bias ? OPTIONAL : H_0);
    qn_launch_input(launch, attributes->has_lengths ? lengths_index(attributes) : H_0);
    qn_launch_output(launch, OUT);
    qn_launch_output(launch, H_N);
    qn_launch_output(launch, saves ? GATES : OUT);
    qn_launch_output(launch, saves ? SAVED : OUT);
    qn_launch_output(launch, is_lstm ? C_N : H_N);
    launch_sizes(launch, sizes, attributes);
    qn_launch_uint(launch, attributes->has_bias);
}

static void record_forward(struct qn_launch *launch, const qn_node *node)
{
    struct sizes sizes = sizes_of(node);
    record_steps(launch, node, &sizes, false, 0, (int)sizes.steps, forward_arguments);
}

static const struct qn_variant variants[] = {
    {.name = "panels",
     .needs = "a CPU",
     .fits = fits_cpu,
     .strides = {[U] = QN_STRIDED},
     .record = record_forward},
    {.name = "tiles", .needs = "a GPU", .fits = fits_gpu, .record = record_forward},
};

static struct qn_cost cost_of(const qn_node *node, struct sizes sizes, double of_gate)
{
    double states = (double)sizes.steps * (double)sizes.batch * (double)sizes.units,
           gates = (double)sizes.gates;
    return (struct qn_cost){.flops = states * gates * (2 * (double)sizes.units + of_gate),
                            .bytes = bytes_of(node)};
}

static struct qn_cost cost_forward(const qn_node *node)
{
    return cost_of(node, sizes_of(node), 8);
}

static void gradient_recurrent(qn_node *node, qn_node *const *d_out, qn_node **d_in);

static const struct qn_op recurrent_op = {.name = "recurrent",
                                          .outputs = C_N + 1,
                                          .attributes = sizeof(struct attributes),
                                          .infer = infer_recurrent,
                                          .variants = variants,
                                          .n_variants = 2,
                                          .may_overwrite = 1 << GATES,
                                          .gradient = gradient_recurrent,
                                          .cost = cost_forward};

/* ---- Backward ---- */

/* Inputs: gates as they were saved (of an RNN `out`), and U as packed() gives it; then, where there are, c_0 (LSTM) or h_0 (GRU), cells
 * or products, out (GRU), the gradients of out, h_n and c_n, lengths. */
enum { B_GATES, B_PACKED, B_FIRST, B_SAVED, B_OUT };
enum { D_X, D_H_0, D_OTHER }; /* the last one: of c_0 (LSTM), of products (GRU) */

static struct sizes sizes_backward(const qn_node *node)
{
    const qn_shape *gates = qn_in(node, B_GATES);
    size_t n_gates = qn_cell_gates((enum qn_cell)attributes_of(node)->cell);
    return (struct sizes){gates->size[0], gates->size[1], gates->size[2] / n_gates, n_gates};
}

static bool infer_backward(qn_node *node)
{
    struct sizes sizes = sizes_backward(node);
    enum qn_type type = node->inputs[B_GATES]->outputs[0].type;
    qn_shape state = QN_SHAPE(sizes.batch, sizes.units);
    node->outputs[D_X] = node->inputs[B_GATES]->outputs[0];
    node->outputs[D_H_0] = (struct qn_value){type, state};
    node->n_outputs = D_OTHER;
    if (attributes_of(node)->cell == QN_LSTM)
        node->outputs[node->n_outputs++] = (struct qn_value){type, state};
    else if (attributes_of(node)->cell == QN_GRU)
        node->outputs[node->n_outputs++] =
            (struct qn_value){type, QN_SHAPE(sizes.steps, sizes.batch, sizes.units)};
    return true;
}

static size_t workspace_backward(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    struct sizes sizes = sizes_backward(node);
    return sizes.batch * sizes.units * sizeof(float);
}

/* The next input if the node has it; else one that stands for it. */
static void launch_optional(struct qn_launch *launch, bool is_there, size_t *next)
{
    qn_launch_input(launch, is_there ? (*next)++ : B_GATES);
}

static void backward_arguments(struct qn_launch *launch, const qn_node *node,
                               const struct sizes *sizes)
{
    const struct attributes *attributes = attributes_of(node);
    bool is_lstm = attributes->cell == QN_LSTM, is_gru = attributes->cell == QN_GRU;
    size_t next = B_FIRST;
    qn_launch_input(launch, B_GATES);
    qn_launch_output(launch, D_X);
    qn_launch_input(launch, B_PACKED);
    launch_optional(launch, is_lstm || is_gru, &next);
    launch_optional(launch, is_lstm || is_gru, &next);
    launch_optional(launch, is_gru, &next);
    launch_optional(launch, attributes->has_d_out, &next);
    launch_optional(launch, attributes->has_d_h_n, &next);
    launch_optional(launch, attributes->has_d_c_n, &next);
    launch_optional(launch, attributes->has_lengths, &next);
    qn_launch_output(launch, D_H_0);
    qn_launch_output(launch, is_lstm ? D_OTHER : D_H_0);
    qn_launch_output(launch, is_gru ? D_OTHER : D_H_0);
    qn_launch_workspace(launch);
    launch_sizes(launch, sizes, attributes);
    qn_launch_uint(launch, attributes->has_d_out);
    qn_launch_uint(launch, attributes->has_d_h_n);
    qn_launch_uint(launch, attributes->has_d_c_n);
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    struct sizes sizes = sizes_backward(node);
    bool wants_initial =
        qn_launch_output_used(launch, D_H_0) ||
        (attributes_of(node)->cell == QN_LSTM && qn_launch_output_used(launch, D_OTHER));
    record_steps(launch, node, &sizes, true, (int)sizes.steps - 1, wants_initial ? -2 : -1,
                 backward_arguments);
}

static const struct qn_variant backward_variants[] = {
    {.name = "panels",
     .needs = "a CPU",
     .fits = fits_cpu,
     .workspace = workspace_backward,
     .record = record_backward},
    {.name = "tiles",
     .needs = "a GPU",
     .fits = fits_gpu,
     .workspace = workspace_backward,
     .record = record_backward},
};

static struct qn_cost cost_backward(const qn_node *node)
{
    return cost_of(node, sizes_backward(node), 12);
}

static const struct qn_op backward_op = {.name = "recurrent_backward",
                                         .outputs = D_OTHER + 1,
                                         .attributes = sizeof(struct attributes),
                                         .infer = infer_backward,
                                         .variants = backward_variants,
                                         .n_variants = 2,
                                         .may_overwrite = 1 << D_X,
                                         .cost = cost_backward};

/* ---- The gradient ---- */

/* (T, B, N) as rows: (T B, N). */
static qn_node *folded(qn_node *x)
{
    size_t rows, width;
    if (!x)
        return NULL;
    rows_of(&x->outputs[0].shape, &rows, &width);
    return qn_reshape(x, QN_SHAPE(rows, width));
}

/* What gradients (T, B, N) are at the first step of each row: (B, N). */
static qn_node *of_first_step(const qn_node *node, qn_node *gradients)
{
    const struct attributes *attributes = attributes_of(node);
    if (!gradients)
        return NULL;
    qn_shape shape = qn_node_shape(gradients);
    size_t steps = shape.size[0], batch = shape.size[1];
    if (!attributes->reverse || !attributes->has_lengths) {
        size_t first = attributes->reverse ? steps - 1 : 0;
        return qn_reshape(qn_slice(gradients, 0, first, first + 1), QN_SHAPE(batch, shape.size[2]));
    }
    qn_node *lengths = node->inputs[lengths_index(attributes)];
    qn_node *all = qn_cast(qn_constant(node->graph, (double)steps), QN_I32),
            *one = qn_cast(qn_constant(node->graph, 1), QN_I32);
    qn_node *is_first = qn_one_hot(qn_sub(qn_minimum(lengths, all), one), steps);
    is_first = qn_reshape(qn_transpose(is_first, 0, 1), QN_SHAPE(steps, batch, 1));
    qn_node *of_first = qn_mul(gradients, qn_cast(is_first, qn_node_type(gradients)));
    return qn_cast(qn_sum(of_first, QN_AXIS(0)), qn_node_type(gradients));
}

/* The gradient of rows of U whose products had the gradients d (T, B, N): the sum over steps of d h^T, for the state h before each. */
static qn_node *gradient_of_weight(const qn_node *node, qn_node *d)
{
    static const struct qn_matmul options = {.transpose_a = true};
    enum qn_type type = gradient_type(node->inputs[U]);
    size_t steps = sizes_of(node).steps;
    bool reverse = attributes_of(node)->reverse;
    float initial = 1;
    qn_node *sum = NULL, *out = qn_output((qn_node *)node, OUT);
    if (steps > 1) {
        qn_node *later = qn_slice(d, 0, !reverse, steps - reverse),
                *before = qn_slice(out, 0, reverse, steps - !reverse);
        sum = matmul_to(folded(later), folded(before), options, type);
    }
    if (node_is_constant(node->inputs[H_0], &initial) && initial == 0)
        return sum;
    qn_node *first = matmul_to(of_first_step(node, d), node->inputs[H_0], options, type);
    return steps > 1 ? qn_add(sum, first) : first;
}

static void gradient_recurrent(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    struct attributes attributes = *attributes_of(node);
    bool is_lstm = attributes.cell == QN_LSTM, is_gru = attributes.cell == QN_GRU;
    size_t units = sizes_of(node).units, count = 0;
    qn_node *inputs[QN_MAX_OPERANDS], *out = qn_output(node, OUT);
    if ((is_lstm || is_gru) && (d_out[GATES] || d_out[SAVED])) {
        qn_node_fail(node, "what it saves for its gradient has none");
        return;
    }
    qn_node *d_c_n = is_lstm ? d_out[C_N] : NULL;
    attributes.has_d_out = d_out[OUT] != NULL;
    attributes.has_d_h_n = d_out[H_N] != NULL;
    attributes.has_d_c_n = d_c_n != NULL;
    inputs[count++] = is_lstm || is_gru ? qn_output(node, GATES) : out;
    inputs[count++] = packed(node->inputs[U], (enum qn_cell)attributes.cell, true);
    if (is_lstm || is_gru) {
        inputs[count++] = node->inputs[is_lstm ? OPTIONAL : H_0];
        inputs[count++] = qn_output(node, SAVED);
    }
    if (is_gru)
        inputs[count++] = out;
    for (size_t i = 0; i < 3; i++) {
        qn_node *d = i == 0 ? d_out[OUT] : i == 1 ? d_out[H_N] : d_c_n;
        if (d)
            inputs[count++] = d;
    }
    if (attributes.has_lengths)
        inputs[count++] = node->inputs[lengths_index(&attributes)];
    qn_node *d_x = qn_node_new(&backward_op, &attributes, inputs, count);
    if (!d_x)
        return;
    d_in[X] = d_x;
    d_in[H_0] = qn_output(d_x, D_H_0);
    if (is_lstm)
        d_in[OPTIONAL] = qn_output(d_x, D_OTHER);
    if (!is_gru) {
        d_in[U] = gradient_of_weight(node, d_x);
        return;
    }
    qn_node *d_product = qn_output(d_x, D_OTHER);
    if (attributes.has_bias)
        d_in[OPTIONAL] = qn_cast(qn_sum(d_product, QN_AXIS(0) | QN_AXIS(1)),
                                 gradient_type(node->inputs[OPTIONAL]));
    qn_node *of_r_and_z = gradient_of_weight(node, qn_slice(d_x, 2, 0, 2 * units)),
            *of_n = gradient_of_weight(node, d_product);
    if (of_r_and_z && of_n)
        d_in[U] = qn_concat((qn_node *[]){of_r_and_z, of_n}, 2, 0);
}

/* ---- The layer ---- */

static qn_node *zeros_for(const qn_node *x, size_t units)
{
    qn_node *zero = qn_cast(qn_constant(x->graph, 0), qn_node_type(x));
    return qn_broadcast(zero, QN_SHAPE(x->outputs[0].shape.size[1], units));
}

struct qn_sequence qn_recurrent(qn_node *x, const struct qn_recurrent *options)
{
    struct qn_sequence none = {0};
    qn_node *weight = options->weight_hh;
    if (!x || !options->weight_ih || !weight)
        return none;
    bool is_lstm = options->cell == QN_LSTM, is_gru = options->cell == QN_GRU;
    size_t units = qn_node_shape(weight).rank == 2 ? qn_node_shape(weight).size[1] : 1;
    qn_node *sums = qn_matmul_with(x, options->weight_ih, (struct qn_matmul){.transpose_b = true});
    if (!sums)
        return none;
    qn_node *bias = options->bias_ih, *bias_of_n = NULL;
    if (options->bias_hh) {
        qn_node *bias_hh = options->bias_hh;
        if (is_gru) { /* that of n is within r (...) */
            bias_of_n = qn_slice(bias_hh, 0, 2 * units, 3 * units);
            qn_node *zeros = qn_broadcast(qn_cast(qn_constant(x->graph, 0), qn_node_type(bias_hh)),
                                          QN_SHAPE(units));
            bias_hh = qn_concat((qn_node *[]){qn_slice(bias_hh, 0, 0, 2 * units), zeros}, 2, 0);
            if (!bias_of_n)
                return none;
        }
        bias = bias ? qn_add(bias, bias_hh) : bias_hh;
        if (!bias)
            return none;
    }
    if (bias)
        sums = qn_add(sums, bias);
    if (!sums)
        return none;
    struct attributes attributes = {.cell = (uint32_t)options->cell,
                                    .reverse = options->reverse,
                                    .has_bias = bias_of_n != NULL,
                                    .has_lengths = options->lengths != NULL};
    qn_node *inputs[QN_MAX_OPERANDS];
    size_t count = 0;
    inputs[count++] = weight;
    inputs[count++] = options->h_0 ? options->h_0 : zeros_for(sums, units);
    inputs[count++] = sums;
    inputs[count++] = packed(weight, options->cell, false);
    if (is_lstm)
        inputs[count++] = options->c_0 ? options->c_0 : zeros_for(sums, units);
    if (bias_of_n)
        inputs[count++] = bias_of_n;
    if (options->lengths)
        inputs[count++] = options->lengths;
    qn_node *node = qn_node_new(&recurrent_op, &attributes, inputs, count);
    if (!node)
        return none;
    return (struct qn_sequence){
        .out = node, .h_n = qn_output(node, H_N), .c_n = is_lstm ? qn_output(node, C_N) : NULL};
}

/* Two devices held against each other, node by node: see qn_diff().
 *
 * Nodes are compared in batches, so that neither host nor device must hold all their values.  For each batch there are two graphs: in
 * one the nodes are connected as in the plan, and the standard computes them with nothing fused; in the other each unit, which is
 * a node or a fused step, stands alone, reads what the standard computed, and is computed by what is compared. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "graph/origin.h"
#include "graph/plan.h"
#include "graph/state.h"
#include "graph/transcript.h"

enum { BATCH_BYTES = 1 << 27 };

struct comparison {
    qn_plan *plan; /* whose nodes and steps are compared */
    qn_context *standard, *tested;
    void **values;      /* by id and output, as the standard has them */
    size_t *last;       /* by id and output: the node that is the last to need it */
    bool with_nodes;    /* not only fused steps */
    struct unit *units; /* of the batch */
    size_t n_units;
    struct qn_difference *found;
};

static size_t value_index(const qn_node *node, int output)
{
    return (size_t)node->id * QN_MAX_OUTPUTS + (size_t)output;
}

static size_t bytes_of_output(const qn_node *node, int output)
{
    return qn_type_bytes(node->outputs[output].type, qn_shape_count(*qn_out(node, output)));
}

/* ---- Values of the standard ---- */

static const void *value_of_input(const qn_plan *plan, const qn_node *node)
{
    for (size_t i = 0; i < plan->n_inputs; i++)
        if (plan->inputs[i].node == node)
            return plan->inputs[i].staging[plan->inputs[i].current];
    return NULL;
}

/* The value that an input, a leaf or a node of an earlier batch has. */
static const void *known_value(struct comparison *comparison, qn_node *node, int output)
{
    void **value = &comparison->values[value_index(node, output)];
    if (node->op == &input_op)
        return value_of_input(comparison->plan, node);
    if (*value || node->op != &leaf_op)
        return *value;
    *value = context_alloc(comparison->standard, 1, bytes_of_output(node, output));
    const qn_tensor *tensor = ((const struct leaf_attributes *)node->attributes)->tensor;
    return *value && qn_tensor_read(tensor, *value) == QN_OK ? *value : NULL;
}

static void need_until(struct comparison *comparison, qn_node *node, size_t id)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    size_t *last = &comparison->last[value_index(source, output)];
    *last = size_max(*last, id);
}

static void note_needs(struct comparison *comparison)
{
    const qn_plan *plan = comparison->plan;
    for (size_t id = 0; id < plan->n_nodes; id++)
        for (size_t i = 0; i < plan->nodes[id]->n_inputs; i++)
            need_until(comparison, plan->nodes[id]->inputs[i], id);
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct step *step = plan->steps[i];
        for (size_t j = 0; j < step->n_members; j++) {
            size_t end = step->members[step->n_members - 1]->id;
            need_until(comparison, step->members[j], end);
            for (size_t k = 0; k < step->members[j]->n_inputs; k++)
                need_until(comparison, step->members[j]->inputs[k], end);
        }
    }
}

static void forget_values(struct comparison *comparison, size_t before)
{
    for (size_t i = 0; i < before * QN_MAX_OUTPUTS; i++)
        if (comparison->last[i] < before) {
            free(comparison->values[i]);
            comparison->values[i] = NULL;
        }
}

static int run_transcript(struct comparison *comparison, struct transcript *transcript,
                          qn_plan *plan)
{
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < transcript->n_given; i++) {
        const struct given *given = &transcript->given[i];
        const void *value = known_value(comparison, given->source, given->output);
        status = value ? qn_set(plan, given->input, value) : QN_ERROR_INVALID;
    }
    return status == QN_OK ? qn_run(plan) : status;
}

/* ---- Rounding ---- */

static int mantissa_bits(enum qn_type type)
{
    return type == QN_F32 ? 23 : type == QN_F16 ? 10 : 7;
}

/* One in the last place of numbers as great as this; of whole numbers always 1.  What is smaller than all that is normal, devices may take for 0. */
static double unit_of(enum qn_type type, double magnitude)
{
    if (!type_is_real(type))
        return 1;
    int exponent;
    frexp(fmax(magnitude, type == QN_F16 ? 0x1p-14 : 0x1p-100), &exponent);
    return ldexp(1, exponent - 1 - mantissa_bits(type));
}

/* How many such units rounding may cost a unit's output.  In f32 a sum of n terms, one after the other, is off by about the root of n: of
 * some thousand terms anywhere, or of as many as each number of the output has of the largest input.  16 bits are rounded to once for each
 * node, either way where the f32 sum lies between. */
static double units_allowed(const struct unit *unit, const struct qn_value *value)
{
    size_t most = 0, count = qn_shape_count(value->shape);
    if (value->type != QN_F32)
        return type_is_real(value->type) ? 2 * (double)unit->n_nodes : 0;
    for (size_t i = 0; i < unit->n_nodes; i++)
        for (size_t j = 0; j < unit->nodes[i]->n_inputs; j++)
            most = size_max(most, qn_shape_count(*qn_in(unit->nodes[i], j)));
    return fmax(64, sqrt((double)most / (double)count));
}

/* Moves each number by a 128th to 256th up or down, a different way each, where there is something to move. */
static void move_numbers(enum qn_type type, void *values, size_t count)
{
    const int bits = mantissa_bits(type);
    const uint32_t step = (uint32_t)1 << (bits - 7);
    const uint32_t sign = type == QN_F32 ? 0x80000000u : 0x8000u;
    const uint32_t most = type == QN_F32 ? 0x7F000000u : type == QN_F16 ? 0x7800u : 0x7F00u;
    for (size_t i = 0; i < count; i++) {
        uint32_t number = type == QN_F32 ? ((uint32_t *)values)[i] : ((uint16_t *)values)[i];
        uint32_t magnitude = number & ~sign;
        if (magnitude <= step || magnitude >= most)
            continue;
        number = (i * 2654435761u) >> 16 & 1 ? number + step : number - step;
        if (type == QN_F32)
            ((uint32_t *)values)[i] = number;
        else
            ((uint16_t *)values)[i] = (uint16_t)number;
    }
}

static double greatest(enum qn_type type, const void *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        double magnitude = fabs(type_get(type, values, i));
        if (isfinite(magnitude))
            most = fmax(most, magnitude);
    }
    return most;
}

/* Whether both are the same NaN or infinity, or close. */
static bool is_close(double a, double b, double most)
{
    return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= most;
}

/* ---- Words for what is found ---- */

static void append(char *text, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);

static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

static void append_value(char *text, size_t size, const struct qn_value *value)
{
    char shape[SHAPE_TEXT];
    append(text, size, "%s%s %s", *text ? ", " : "", qn_type_name(value->type),
           shape_text(&value->shape, shape, sizeof shape));
}

static void describe_step(const struct step *step, struct qn_difference_side *side)
{
    snprintf(side->variant, sizeof side->variant, "%s", step->variant ? step->variant->name : "");
    step_kernels(step, side->kernels, sizeof side->kernels);
}

/* ---- The size of terms ---- */

/* Gives a plan what the standard computed, moved. */
static int set_moved(struct comparison *comparison, const struct transcript *transcript,
                     qn_plan *plan)
{
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < transcript->n_given; i++) {
        const struct given *given = &transcript->given[i];
        const struct qn_value *value = &given->source->outputs[given->output];
        size_t bytes = bytes_of_output(given->source, given->output);
        const void *known = known_value(comparison, given->source, given->output);
        void *moved = context_alloc(comparison->standard, 1, bytes);
        status = known && moved ? QN_OK : QN_ERROR_INVALID;
        if (status == QN_OK) {
            memcpy(moved, known, bytes);
            if (type_is_real(value->type))
                move_numbers(value->type, moved, qn_shape_count(value->shape));
            status = qn_set(plan, given->input, moved);
        }
        free(moved);
    }
    return status;
}

/* How far an output moves, on the standard, if each input of its unit moves by a 256th or so.  256 times that is how great the terms are
 * of which the output is a sum, however small the sum. */
static int measure_terms(struct comparison *comparison, const struct unit *unit, size_t number,
                         double *terms)
{
    struct unit alone = *unit;
    struct output output = unit->outputs[number];
    enum qn_type type = output.node->outputs[output.index].type;
    size_t count = qn_shape_count(*qn_out(output.node, output.index));
    const void *still = comparison->values[value_index(output.node, output.index)];
    void *moved = context_alloc(comparison->standard, count, sizeof(float));
    struct transcript transcript;
    int status = transcript_begin(&transcript, comparison->plan, comparison->standard);
    if (status == QN_OK)
        status = transcribe_alone(&transcript, &alone, 0);
    qn_plan *plan =
        status == QN_OK ? plan_transcript(&transcript, &alone.roots[number], 1, true) : NULL;
    status = plan && moved ? set_moved(comparison, &transcript, plan) : QN_ERROR_INVALID;
    if (status == QN_OK)
        status = qn_run(plan);
    if (status == QN_OK)
        status = qn_get(plan, alone.roots[number], moved);
    *terms = 0;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        double move = fabs(type_get(type, moved, i) - type_get(type, still, i));
        if (isfinite(move))
            *terms = fmax(*terms, 256 * move);
    }
    if (status == QN_OK && unit->n_nodes == 1)
        describe_step(step_of_root(plan, alone.roots[number]), &comparison->found->side[0]);
    qn_plan_free(plan);
    transcript_end(&transcript);
    free(moved);
    return status;
}

/* ---- What is found ---- */

static void describe_unit(struct comparison *comparison, const struct unit *unit, size_t number)
{
    struct qn_difference *found = comparison->found;
    struct output output = unit->outputs[number];
    qn_node *inputs[FUSE_ROOM];
    size_t n_inputs = size_min(output.node->n_inputs, FUSE_ROOM);
    memcpy(inputs, output.node->inputs, n_inputs * sizeof *inputs);
    if (unit->n_nodes > 1)
        n_inputs = fuse_inputs(unit->nodes, unit->n_nodes, inputs);
    for (size_t i = 0; i < unit->n_nodes; i++) {
        char label[LABEL_TEXT];
        append(found->what, sizeof found->what, "%s%s", i ? ", " : "",
               node_label(unit->nodes[i], label, sizeof label));
    }
    for (size_t i = 0; i < n_inputs; i++)
        append_value(found->inputs, sizeof found->inputs, &inputs[i]->outputs[0]);
    append_value(found->output, sizeof found->output, &output.node->outputs[output.index]);
    if (output.node->n_outputs > 1)
        append(found->output, sizeof found->output, ", output %d", output.index);
    origin_text(output.node->origin, found->built);
}

/* Fills in how a differs from b, and the first element that does. */
static void describe_elements(struct qn_difference *found, const struct qn_value *value,
                              const void *a, const void *b)
{
    found->elements = qn_shape_count(value->shape);
    found->different = 0;
    found->ulps = 0;
    for (size_t i = 0; i < found->elements; i++) {
        double x = type_get(value->type, a, i), y = type_get(value->type, b, i);
        if (is_close(x, y, found->allowed * found->unit))
            continue;
        double off = fabs(x - y);
        found->ulps = fmax(found->ulps, isnan(off) ? INFINITY : off / found->unit);
        if (found->different++ > 0)
            continue;
        found->side[0].value = x;
        found->side[1].value = y;
        element_text(&value->shape, i, found->element);
    }
}

/* ---- Units ---- */

/* Whether an output of a unit, `value` as it was computed alone, differs from the standard's by more than rounding: 1, 0, or a status. */
static int differs(struct comparison *comparison, const struct unit *unit, size_t number,
                   const void *value)
{
    struct qn_difference *found = comparison->found;
    struct output output = unit->outputs[number];
    const struct qn_value *shape = &output.node->outputs[output.index];
    const void *standard = comparison->values[value_index(output.node, output.index)];
    double most = greatest(shape->type, standard, qn_shape_count(shape->shape)), terms;
    found->allowed = units_allowed(unit, shape);
    found->unit = unit_of(shape->type, most);
    describe_elements(found, shape, standard, value);
    if (found->different == 0)
        return 0;
    int status = measure_terms(comparison, unit, number, &terms);
    if (status != QN_OK)
        return status;
    found->unit = unit_of(shape->type, fmax(most, terms));
    describe_elements(found, shape, standard, value);
    return found->different > 0;
}

static int compare_unit(struct comparison *comparison, struct unit *unit, qn_plan *plan)
{
    struct qn_difference *found = comparison->found;
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < unit->n_outputs; i++) {
        struct output output = unit->outputs[i];
        void *value =
            context_alloc(comparison->tested, 1, bytes_of_output(output.node, output.index));
        status = value ? qn_get(plan, unit->roots[i], value) : QN_ERROR_MEMORY;
        if (status == QN_OK)
            status = differs(comparison, unit, i, value);
        free(value);
        if (status > 0) {
            found->kind = unit->n_nodes > 1 ? QN_FUSED_DIFFERS : QN_NODE_DIFFERS;
            describe_unit(comparison, unit, i);
            describe_step(step_of_root(plan, unit->roots[i]), &found->side[1]);
        }
    }
    if (unit->n_nodes == 1)
        found->nodes++;
    else if (step_of_root(plan, unit->roots[0])->n_members ==
             unit->n_nodes) /* it is fused alone, too */
        found->fused++;
    return status;
}

/* All units of the batch, each alone; stops at the first that differs: 1, or 0, or a status. */
static int compare_units(struct comparison *comparison)
{
    struct transcript transcript;
    size_t n_roots = 0;
    qn_node **roots =
        context_alloc(comparison->tested, comparison->n_units * STEP_OUTPUTS + 1, sizeof *roots);
    int status = transcript_begin(&transcript, comparison->plan, comparison->tested);
    if (status == QN_OK && !roots)
        status = QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < comparison->n_units; i++) {
        struct unit *unit = &comparison->units[i];
        status = transcribe_alone(&transcript, unit, i);
        for (size_t j = 0; j < unit->n_outputs; j++)
            roots[n_roots++] = unit->roots[j];
    }
    qn_plan *plan = status == QN_OK ? plan_transcript(&transcript, roots, n_roots, false) : NULL;
    status = plan ? run_transcript(comparison, &transcript, plan) : QN_ERROR_INVALID;
    for (size_t i = 0; status == QN_OK && i < comparison->n_units; i++)
        status = compare_unit(comparison, &comparison->units[i], plan);
    qn_plan_free(plan);
    transcript_end(&transcript);
    free(roots);
    return status;
}

/* ---- Batches ---- */

/* Computes the nodes of a batch as the standard does, and keeps their values. */
static int compute_standard(struct comparison *comparison, size_t begin, size_t end)
{
    const qn_plan *plan = comparison->plan;
    struct transcript transcript;
    size_t n_roots = 0;
    qn_node **roots =
        context_alloc(comparison->standard, (end - begin) * QN_MAX_OUTPUTS + 1, sizeof *roots);
    int status = transcript_begin(&transcript, plan, comparison->standard);
    if (status == QN_OK && !roots)
        status = QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = transcribe_connected(&transcript, plan, begin, end);
    for (size_t id = begin; status == QN_OK && id < end; id++)
        for (int i = 0; transcript.inside[id] && i < plan->nodes[id]->n_outputs; i++)
            roots[n_roots++] = qn_output(transcript.inside[id], i);
    qn_plan *made = status == QN_OK ? plan_transcript(&transcript, roots, n_roots, true) : NULL;
    status = made ? run_transcript(comparison, &transcript, made) : QN_ERROR_INVALID;
    for (size_t id = begin, root = 0; status == QN_OK && id < end; id++)
        for (int i = 0; status == QN_OK && transcript.inside[id] && i < plan->nodes[id]->n_outputs;
             i++) {
            void **value = &comparison->values[value_index(plan->nodes[id], i)];
            *value = context_alloc(comparison->standard, 1, bytes_of_output(plan->nodes[id], i));
            status = *value ? qn_get(made, roots[root++], *value) : QN_ERROR_MEMORY;
        }
    qn_plan_free(made);
    transcript_end(&transcript);
    free(roots);
    return status;
}

/* The nodes from number `begin` on whose values are not too many bytes: the number behind the last. */
static size_t batch_end(const qn_plan *plan, size_t begin)
{
    size_t end = begin, bytes = 0;
    while (end < plan->n_nodes && (end == begin || bytes < BATCH_BYTES)) {
        const qn_node *node = plan->nodes[end++];
        for (int i = 0; is_computed(node) && i < node->n_outputs; i++)
            bytes += bytes_of_output(node, i);
        for (size_t i = 0; is_computed(node) && i < node->n_inputs; i++)
            bytes += bytes_of_output(node->inputs[i], 0);
    }
    return end;
}

static void add_node(struct comparison *comparison, size_t id)
{
    qn_node *node = comparison->plan->nodes[id];
    struct unit *unit = &comparison->units[comparison->n_units++];
    *unit = (struct unit){.nodes = &comparison->plan->nodes[id], .n_nodes = 1};
    for (int i = 0; i < node->n_outputs; i++)
        unit->outputs[unit->n_outputs++] = (struct output){node, i};
}

/* The units of a batch: its nodes, then the fused steps that end in it. */
static void find_units(struct comparison *comparison, size_t begin, size_t end)
{
    const qn_plan *plan = comparison->plan;
    comparison->n_units = 0;
    for (size_t id = begin; comparison->with_nodes && id < end; id++)
        if (is_computed(plan->nodes[id]))
            add_node(comparison, id);
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct step *step = plan->steps[i];
        size_t last = step->n_members ? step->members[step->n_members - 1]->id : 0;
        if (step->n_members < 2 || last < begin || last >= end)
            continue;
        struct unit *unit = &comparison->units[comparison->n_units++];
        *unit = (struct unit){.nodes = step->members, .n_nodes = step->n_members};
        unit->n_outputs = step_outputs(plan, step, unit->outputs);
    }
}

/* Whether what a plan computes differs when `tested` computes it: 1, 0, or a status. */
static int compare(struct comparison *comparison)
{
    const qn_plan *plan = comparison->plan;
    size_t room = plan->n_nodes + 1;
    comparison->values =
        context_alloc(comparison->standard, room * QN_MAX_OUTPUTS, sizeof *comparison->values);
    comparison->last =
        context_alloc(comparison->standard, room * QN_MAX_OUTPUTS, sizeof *comparison->last);
    comparison->units = context_alloc(comparison->standard, 2 * room, sizeof *comparison->units);
    int status =
        comparison->values && comparison->last && comparison->units ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK)
        note_needs(comparison);
    for (size_t begin = 0, end; status == QN_OK && begin < plan->n_nodes; begin = end) {
        end = batch_end(plan, begin);
        find_units(comparison, begin, end);
        status = compute_standard(comparison, begin, end);
        if (status == QN_OK && comparison->n_units)
            status = compare_units(comparison);
        if (status == QN_OK)
            forget_values(comparison, end);
    }
    for (size_t i = 0; comparison->values && i < room * QN_MAX_OUTPUTS; i++)
        free(comparison->values[i]);
    free(comparison->values);
    free(comparison->last);
    free(comparison->units);
    return status;
}

/* ---- Whole runs ---- */

/* How far results may be apart after all steps of a run. */
static double run_tolerance(const qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_nodes; i++)
        if (plan->nodes[i]->outputs[0].type == QN_F16 || plan->nodes[i]->outputs[0].type == QN_BF16)
            return 0.1;
    return 1e-3;
}

static int compare_root(qn_plan *a, qn_plan *b, size_t number, struct qn_difference *found)
{
    const qn_node *node = a->roots[number].node;
    const struct qn_value *value = &node->outputs[0];
    void *x = context_alloc(a->context, 1, bytes_of_output(node, 0));
    void *y = context_alloc(b->context, 1, bytes_of_output(node, 0));
    int status = x && y ? qn_get(a, a->roots[number].user, x) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = qn_get(b, b->roots[number].user, y);
    if (status == QN_OK) {
        double most = greatest(value->type, x, qn_shape_count(value->shape));
        found->unit = unit_of(value->type, most);
        found->allowed = type_is_real(value->type) ? run_tolerance(a) * most / found->unit : 0;
        describe_elements(found, value, x, y);
    }
    if (status == QN_OK && found->different > 0) {
        found->kind = QN_RUN_DIFFERS;
        node_label(node, found->what, sizeof found->what);
        append_value(found->output, sizeof found->output, value);
        status = 1;
    }
    free(x);
    free(y);
    return status;
}

/* Results but those that are assigned: the steps of optimizers go as far for the smallest gradient as for the greatest. */
static int compare_runs(qn_plan *a, qn_plan *b, struct qn_difference *found)
{
    int status = qn_run(a);
    if (status == QN_OK)
        status = qn_run(b);
    for (size_t i = 0; status == QN_OK && i < a->n_roots; i++)
        if (!tensor_written(a->roots[i].node))
            status = compare_root(a, b, i, found);
    return status;
}

/* ---- Two plans ---- */

static const qn_node *next_leaf(const qn_plan *plan, size_t *id)
{
    while (*id < plan->n_nodes && plan->nodes[*id]->op != &leaf_op)
        ++*id;
    return *id < plan->n_nodes ? plan->nodes[(*id)++] : NULL;
}

static int copy_tensor(qn_context *context, const qn_tensor *from, qn_tensor *to)
{
    void *values = context_alloc(context, 1, qn_tensor_bytes(from));
    int status = values ? qn_tensor_read(from, values) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = qn_tensor_write(to, values);
    free(values);
    return status;
}

static int refuse(qn_context *context, const char *why)
{
    return context_fail(context, QN_ERROR_INVALID, "qn_diff: %s", why);
}

/* Gives b the tensors of a, and the values of its inputs. */
static int align(qn_plan *a, qn_plan *b)
{
    size_t at_a = 0, at_b = 0;
    const qn_node *leaf_a, *leaf_b;
    int status = a->n_inputs == b->n_inputs && a->n_roots == b->n_roots
                     ? QN_OK
                     : refuse(b->context, "the plans are not of the same graph");
    do {
        leaf_a = next_leaf(a, &at_a);
        leaf_b = next_leaf(b, &at_b);
        if (status == QN_OK &&
            (!leaf_a != !leaf_b ||
             (leaf_a && (leaf_a->outputs[0].type != leaf_b->outputs[0].type ||
                         !qn_shape_equal(*qn_out(leaf_a, 0), *qn_out(leaf_b, 0))))))
            status = refuse(b->context, "the plans do not have the same tensors");
        if (status == QN_OK && leaf_a)
            status = copy_tensor(b->context,
                                 ((const struct leaf_attributes *)leaf_a->attributes)->tensor,
                                 ((const struct leaf_attributes *)leaf_b->attributes)->tensor);
    } while (status == QN_OK && leaf_a);
    for (size_t i = 0; status == QN_OK && i < a->n_inputs; i++) {
        const struct plan_input *input = &a->inputs[i];
        status = input->is_set ? qn_set(b, b->inputs[i].user, input->staging[input->current])
                               : refuse(a->context, "an input of the first plan was never set");
    }
    for (size_t i = 0; status == QN_OK && i < b->n_nodes; i++)
        if (b->nodes[i]->op == &write_op)
            status = refuse(b->context, "qn_write() cannot be compared");
    return status;
}

/* Whether the variant that is wanted, if any, computes something. */
static bool has_variant(const qn_plan *plan)
{
    const char *only = plan->context->only_variant;
    bool found = !only;
    for (size_t i = 0; !found && i < plan->n_steps; i++) {
        const struct qn_variant *variant = plan->steps[i]->variant;
        found = variant && strcmp(variant->name, only) == 0;
    }
    return found;
}

int qn_diff(qn_plan *a, qn_plan *b, struct qn_difference *difference)
{
    memset(difference, 0, sizeof *difference);
    if (!a || !b)
        return QN_ERROR_INVALID;
    if (!a->context->device || !b->context->device)
        return refuse(a->context, "a context has no device");
    if (!has_variant(a) || !has_variant(b))
        return refuse(
            has_variant(a) ? b->context : a->context,
            "no operation of the model has the variant that is asked for, or none of it fits");
    int status = align(a, b);
    struct comparison of_b = {.plan = b,
                              .standard = a->context,
                              .tested = b->context,
                              .with_nodes = true,
                              .found = difference};
    struct comparison of_a = {
        .plan = a, .standard = a->context, .tested = a->context, .found = difference};
    if (status == QN_OK)
        status = compare(&of_b);
    if (status == QN_OK) {
        status = compare(&of_a);
        difference->is_a = status > 0;
    }
    if (status == QN_OK)
        status = compare_runs(a, b, difference);
    if (status == QN_OK) /* what looked like a difference was rounding */
        *difference =
            (struct qn_difference){.nodes = difference->nodes, .fused = difference->fused};
    return status < 0 ? status : QN_OK;
}

/* Every operation, every variant that fits, against double arithmetic (reference.h) and central
 * differences of it.
 *
 * A row says how an operation is built, what it should give, and for which shapes.  To test an
 * operation: a row in a table of rows_*.c, and if it is new to arithmetic, a function in
 * reference.c.  The rows of a group share a plan, which is fast to compile.  For each the driver
 *   1. builds the nodes from operands that are whole tensors or views of larger ones, and their
 *      gradients of a random weighted sum;
 *   2. makes a plan with the variants a device would choose, then one for each other variant that
 *      fits;
 *   3. fills the arena with NaNs, runs, and compares values and gradients;
 *   4. looks for writes outside of intermediates and into tensors that are only read, and runs
 *      again for the same bits. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "device/device.h"
#include "device/memory.h"
#include "graph/plan.h"

#include "check/check.h"
#include "check/operands.h"
#include "check/process.h"
#include "check/rows.h"
#include "tests/tap.h"

/* What the device is told to be, so that one device runs most variants. */
static const struct pretence {
    const char *caps;
    enum pretended rows;
    unsigned types; /* bit i: enum qn_type i */
} pretences[] = {
    {"", ALL, 1 << QN_F32 | 1 << QN_F16 | 1 << QN_BF16},
    {"float_width=1", ELEMENTWISE, 1 << QN_F32 | 1 << QN_F16},
    {"float_width=16", ELEMENTWISE, 1 << QN_F32 | 1 << QN_BF16},
    /* The least that a GPU may have. */
    {"class=gpu,local_memory=32768,max_work_group=64,fp16=0,subgroups=0", VARIANTS,
     1 << QN_F32 | 1 << QN_BF16},
};

enum { MAX_INPUTS = QN_MAX_OPERANDS };

/* A row with one of its cases, in a graph. */
struct check {
    const struct check_options *options;
    enum qn_type type; /* of real operands */
    const struct row *row;
    const char *shapes;
    qn_graph *graph;
    size_t n_operands;
    struct array x[MAX_INPUTS], weight, expected;
    void *memory[MAX_INPUTS]; /* of the whole tensors */
    qn_node *whole[MAX_INPUTS], *view[MAX_INPUTS], *out, *seed, *gradient[MAX_INPUTS];
    qn_tensor *tensor[MAX_INPUTS]; /* NULL: the operand is an input */
    size_t first_node, end_node;   /* of the graph */
    bool is_built, takes_part;
};

/* Of an operand: real numbers are of the type that is being tested; but slopes are f32 with any. */
static enum qn_type type_of(const struct check *check, char letter)
{
    return strchr("wicvzl389", letter) ? QN_I32 : letter == 'u' ? QN_F32 : check->type;
}

/* Of what is drawn for an operand, or for something else with a number of its own. */
static uint64_t key_of(const struct check *check, size_t number)
{
    uint64_t hash = 0xCBF29CE484222325u ^ check->options->seed;
    for (const char *text = check->shapes; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return (hash ^ number) * 0x9E3779B97F4A7C15u;
}

static bool has_gradient(const struct check *check, size_t operand)
{
    return check->row->wrt >> operand & 1;
}

/* Draws an operand; what lies between the elements of a view is NaN, or a number that no one
 * expects. */
static void fill(struct check *check, size_t number, const struct shape_of_operand *operand)
{
    char letter = check->row->operands[number];
    enum qn_type type = type_of(check, letter);
    uint64_t key = key_of(check, number);
    struct array *x = &check->x[number];
    size_t whole = qn_shape_count(operand->base),
           rows = operand->view == 'b' ? operand->shape.size[0] : 1;
    *x = array_new(operand->shape);
    for (size_t i = 0; i < x->count; i++)
        x->at[i] = rounded_to(
            type, draw(letter, key, i % (x->count / rows), x->count, number, &check->x[0]));

    check->memory[number] = malloc(qn_type_bytes(type, whole));
    if (!check->memory[number])
        bail_out("out of memory");
    for (size_t i = 0; i < whole; i++)
        type_put(type, check->memory[number], i, type == QN_I32 ? -77777 : (double)NAN);
    for (size_t i = 0; i < x->count; i++)
        type_put(type, check->memory[number], base_position(operand, i), x->at[i]);
}

/* Operands are inputs and tensors by turns: inputs have guard zones, tensors can be written by
 * mistake. */
static qn_node *operand_node(struct check *check, size_t number, qn_graph *graph,
                             const struct shape_of_operand *operand)
{
    enum qn_type type = type_of(check, check->row->operands[number]);
    if ((number + strlen(check->shapes)) % 2 == 0)
        return qn_input(graph, "x", type, operand->base);
    qn_tensor *tensor = qn_tensor_new(graph->context, "x", type, operand->base);
    if (tensor && qn_tensor_write(tensor, check->memory[number]) == QN_OK)
        check->tensor[number] = tensor;
    return qn_leaf(graph, tensor);
}

/* The command that runs the row again, with what the environment said. */
static void explain(const struct check *check, const char *variant)
{
    const struct check_options *options = check->options;
    const char *caps = check->graph->context->pretended, *folder = getenv("QUERN_CL_DIR");
    const char *device = options->device ? options->device : getenv("QUERN_DEVICE");
    char words[1024];
    size_t used = 0, size = sizeof words;
    if (folder && *folder)
        used += (size_t)snprintf(words, size, "QUERN_CL_DIR='%.300s' ", folder);
    if (*caps)
        used += (size_t)snprintf(words + used, size - used, "QUERN_CAPS=%.300s ", caps);
    used += (size_t)snprintf(words + used, size - used, "quern check");
    if (device)
        snprintf(words + used, size - used, " --device '%.200s'", device);
    note("again: %s --op %s --dtype %s%s%s --seed %llu", words, check->row->name,
         qn_type_name(check->type), *variant ? " --variant " : "", variant,
         (unsigned long long)options->seed);
}

static void build(struct check *check)
{
    const struct row *row = check->row;
    qn_graph *graph = check->graph;
    struct shape_of_operand operands[MAX_INPUTS];
    qn_node *wrt[MAX_INPUTS], *found[MAX_INPUTS];
    size_t n_wrt = 0;
    check->n_operands = parse_case(check->shapes, operands);
    if (check->n_operands != strlen(row->operands))
        bail_out("%s: \"%s\" are not %zu operands", row->name, check->shapes,
                 strlen(row->operands));
    check->first_node = graph->count;
    for (size_t i = 0; i < check->n_operands; i++) {
        fill(check, i, &operands[i]);
        check->whole[i] = operand_node(check, i, graph, &operands[i]);
        check->view[i] = view_node(&operands[i], check->whole[i]);
        if (has_gradient(check, i))
            wrt[n_wrt++] = check->view[i];
    }
    check->expected = row->reference(row, check->x);
    check->out = row->build(row, check->view);
    if (check->out && n_wrt > 0) {
        enum qn_type type = qn_node_type(check->out);
        check->seed = qn_input(graph, "weight", type, qn_node_shape(check->out));
        check->weight = array_new(check->expected.shape);
        for (size_t i = 0; i < check->weight.count; i++)
            check->weight.at[i] = rounded_to(type, random_normal(key_of(check, 99), i));
        qn_gradients(check->out, check->seed, wrt, n_wrt, found);
        for (size_t i = check->n_operands; i-- > 0;)
            if (has_gradient(check, i))
                check->gradient[i] = found[--n_wrt];
    }
    check->end_node = graph->count;
    const char *error = qn_error(graph->context);
    bool fits = check->out && qn_shape_equal(qn_node_shape(check->out), check->expected.shape);
    check->is_built = !*error && fits;
    if (!check->is_built) {
        ok(false, "%s %s: %s", row->name, check->shapes,
           *error ? error : "it has not the shape that it should have");
        explain(check, "");
    }
    qn_clear_error(graph->context);
}

static void check_free(struct check *check)
{
    for (size_t i = 0; i < check->n_operands; i++) {
        qn_tensor_free(check->tensor[i]);
        free(check->memory[i]);
    }
}

/* ---- Variants ---- */

static bool fits(const qn_node *node, const struct qn_variant *variant)
{
    return !variant->fits || variant->fits(node, &node->graph->context->caps);
}

static const struct qn_variant *first_fitting(const qn_node *node)
{
    for (size_t i = 0; i < node->op->n_variants; i++)
        if (fits(node, &node->op->variants[i]))
            return &node->op->variants[i];
    return NULL;
}

/* Whether a node of the check would be computed by another variant if this one were asked for. */
static bool is_alternative(const qn_graph *graph, const struct check *check, const char *name)
{
    for (size_t id = check->first_node; id < check->end_node; id++) {
        const qn_node *node = graph->nodes[id];
        const struct qn_variant *chosen = first_fitting(node);
        for (size_t i = 0; chosen && i < node->op->n_variants; i++)
            if (strcmp(node->op->variants[i].name, name) == 0 && strcmp(chosen->name, name) != 0 &&
                fits(node, &node->op->variants[i]))
                return true;
    }
    return false;
}

/* The variant that computes the output of the check, or "". */
static const char *variant_name(const struct check *check, const char *forced)
{
    int output = 0;
    const qn_node *node = value_source(check->out, &output);
    const struct qn_variant *chosen = first_fitting(node);
    for (size_t i = 0; *forced && i < node->op->n_variants; i++)
        if (strcmp(node->op->variants[i].name, forced) == 0 && fits(node, &node->op->variants[i]))
            chosen = &node->op->variants[i];
    return *forced ? forced : chosen ? chosen->name : "";
}

/* Names of variants that fit some node of the graph but are not its first, each once. */
static size_t alternatives(const qn_graph *graph, const struct check *checks, size_t count,
                           const char **names, size_t most)
{
    size_t found = 0;
    for (size_t id = 0; id < graph->count; id++)
        for (size_t i = 0; i < graph->nodes[id]->op->n_variants; i++) {
            const char *name = graph->nodes[id]->op->variants[i].name;
            bool is_known = false, is_wanted = false;
            for (size_t j = 0; j < found; j++)
                is_known = is_known || strcmp(names[j], name) == 0;
            for (size_t j = 0; !is_known && j < count; j++)
                is_wanted =
                    is_wanted || (checks[j].is_built && is_alternative(graph, &checks[j], name));
            if (is_wanted && found < most)
                names[found++] = name;
        }
    return found;
}

/* ---- Comparing ---- */

struct difference {
    double error;
    size_t at;
    double found, expected;
};

/* Errors are measured by this at least. */
static double least_scale(enum qn_type type)
{
    return type == QN_F16 ? precisions[type].least : FLT_MIN / 1e-7;
}

/* What a row allows, and some roundings to 16 bits: of the result, and of values on the way, more for gradients. */
static double allowed(const struct check *check, double tolerance, int roundings)
{
    return check->type == QN_F32 ? tolerance
                                 : tolerance + roundings * precisions[check->type].half_ulp;
}

static struct difference compare(const double *found, const double *expected, size_t count,
                                 bool is_relative, enum qn_type type)
{
    struct difference worst = {0};
    double scale = 0, most = precisions[type == QN_I32 ? QN_F32 : type].greatest,
           least = least_scale(type);
    for (size_t i = 0; i < count; i++)
        if (isfinite(expected[i]))
            scale = fmax(scale, fabs(expected[i]));
    for (size_t i = 0; i < count; i++) {
        double wanted = fabs(expected[i]) > most ? copysign(INFINITY, expected[i]) : expected[i];
        double error;
        if (!isfinite(wanted) || !isfinite(found[i]))
            error = found[i] == wanted || (isnan(found[i]) && isnan(wanted)) ? 0 : INFINITY;
        else /* what the type cannot tell from 0 may be 0 */
            error = fabs(found[i] - wanted) / fmax(is_relative ? fabs(wanted) : scale, least);
        if (error > worst.error || i == 0)
            worst = (struct difference){error, i, found[i], expected[i]};
    }
    return worst;
}

/* A plan's values, and the variant that was asked for, or "". */
struct result {
    const qn_plan *plan;
    const char *forced;
};

static void report(const struct check *check, struct result result, const char *what,
                   const qn_node *node, struct difference difference, double tolerance,
                   const qn_shape *shape)
{
    const struct row *row = check->row;
    bool passed = difference.error <= tolerance;
    const char *caps = check->graph->context->pretended,
               *variant = variant_name(check, result.forced);
    ok(passed, "%s %s %s%s%s%s: error %.1e, allowed %.1e%s%s", row->name, qn_type_name(check->type),
       check->shapes, *variant ? " " : "", variant, what, difference.error, tolerance,
       *caps ? ", with " : "", caps);
    if (passed)
        return;
    char place[SHAPE_TEXT], kernels[256];
    const struct step *step = step_of_root(result.plan, node);
    element_text(shape, difference.at, place);
    note("at %s: found %.9g, expected %.9g", place, difference.found, difference.expected);
    if (step)
        note("variant %s, kernels %s", step->variant ? step->variant->name : "none",
             step_kernels(step, kernels, sizeof kernels));
    explain(check, result.forced);
}

static double *numbers_of(qn_plan *plan, qn_node *node)
{
    size_t count = qn_shape_count(qn_node_shape(node));
    void *raw = malloc(qn_type_bytes(qn_node_type(node), count));
    double *numbers = array_new(qn_node_shape(node)).at;
    if (!raw)
        bail_out("out of memory");
    if (qn_get(plan, node, raw) != QN_OK)
        note("%s", qn_error(node->graph->context));
    for (size_t i = 0; i < count; i++)
        numbers[i] = type_get(qn_node_type(node), raw, i);
    free(raw);
    return numbers;
}

/* The weighted sum of the reference's output. */
static double weighted(const struct check *check)
{
    void *mark = arrays_mark();
    struct array y = check->row->reference(check->row, check->x);
    double sum = 0;
    for (size_t i = 0; i < y.count; i++)
        sum += check->weight.at[i] * y.at[i];
    arrays_free_since(mark);
    return sum;
}

/* Some elements of the gradient by themselves, and all of it along a random direction. */
static void check_gradient(struct check *check, struct result result, size_t operand,
                           const double *found)
{
    enum { SINGLE = 16 };
    static const double STEP = 1e-4; /* of a double, whose cube root of precision is 6e-6 */
    struct array x = check->x[operand];
    size_t singles = x.count < SINGLE ? x.count : SINGLE;
    struct array expected = array_new((qn_shape){1, {singles + 1}});
    struct array mine = array_new(expected.shape);
    size_t where[SINGLE + 1] = {0};
    double scale = 0;
    for (size_t i = 0; i < x.count; i++)
        scale = fmax(scale, fabs(found[i]));
    uint64_t key = key_of(check, 77 + operand);
    for (size_t i = 0; i < singles; i++) {
        where[i] = singles == x.count ? i : i == 0 ? x.count - 1 : random_word32(key, i) % x.count;
        double old = x.at[where[i]];
        x.at[where[i]] = old + STEP;
        double up = weighted(check);
        x.at[where[i]] = old - STEP;
        expected.at[i] = (up - weighted(check)) / (2 * STEP);
        x.at[where[i]] = old;
        mine.at[i] = found[where[i]];
        scale = fmax(scale, fabs(expected.at[i]));
    }

    struct array old = reference_reshape(x, x.shape);
    double spread = sqrt((double)x.count), sum = 0;
    for (size_t i = 0; i < x.count; i++) {
        double along = random_word32(key + 1, i) & 1 ? STEP : -STEP;
        sum += found[i] * along / STEP;
        x.at[i] = old.at[i] + along;
    }
    double up = weighted(check);
    for (size_t i = 0; i < x.count; i++)
        x.at[i] = 2 * old.at[i] - x.at[i];
    expected.at[singles] = (up - weighted(check)) / (2 * STEP) / spread;
    mine.at[singles] = sum / spread;
    memcpy(x.at, old.at, x.count * sizeof *x.at);

    struct difference worst = {0};
    for (size_t i = 0; i <= singles; i++) {
        double error = fabs(mine.at[i] - expected.at[i]) / fmax(scale, least_scale(check->type));
        if (!(error <= worst.error)) /* so that a NaN is the worst */
            worst = (struct difference){isnan(error) ? INFINITY : error, where[i], mine.at[i],
                                        expected.at[i]};
    }
    const struct row *row = check->row;
    char what[32];
    snprintf(what, sizeof what, ", gradient of %zu", operand);
    report(check, result, what, check->gradient[operand], worst,
           allowed(check,
                   row->gradient_tolerance > 0 ? row->gradient_tolerance : 4 * row->tolerance, 8),
           &x.shape);
}

/* ---- Guard zones ---- */

enum { GUARD = 2048, SENTINEL = 0x7FC0DEAD /* a NaN */ };

/* The end of what the plan uses of a chunk, and a guard zone. */
static size_t used_of(const qn_plan *plan, size_t chunk)
{
    size_t end = 0;
    for (size_t i = 0; i < plan->n_slots; i++)
        if (plan->slots[i]->chunk == chunk)
            end = size_max(end, plan->slots[i]->offset + plan->slots[i]->bytes);
    return size_min(round_up(end, 4) + GUARD, plan->context->arena->bytes[chunk] / 4 * 4);
}

static void fill_arena(const qn_plan *plan)
{
    const struct arena *arena = plan->context->arena;
    for (size_t chunk = 0; arena && chunk < arena->count; chunk++) {
        uint32_t word = SENTINEL;
        clEnqueueFillBuffer(plan->context->device->queue, arena->chunks[chunk], &word, sizeof word,
                            0, used_of(plan, chunk), 0, NULL, NULL);
    }
}

/* Whether all words outside of intermediates are as they were. */
static bool guards_hold(const qn_plan *plan)
{
    const struct arena *arena = plan->context->arena;
    bool hold = true;
    for (size_t chunk = 0; arena && hold && chunk < arena->count; chunk++) {
        size_t n_words = used_of(plan, chunk) / 4;
        uint32_t *words = malloc(4 * n_words + 4);
        bool *is_used = calloc(n_words + 1, sizeof *is_used);
        if (!words || !is_used)
            bail_out("out of memory");
        cl_int code = clEnqueueReadBuffer(plan->context->device->queue, arena->chunks[chunk],
                                          CL_TRUE, 0, 4 * n_words, words, 0, NULL, NULL);
        for (size_t i = 0; i < plan->n_slots; i++) {
            const struct slot *slot = plan->slots[i];
            if (slot->chunk == chunk)
                memset(is_used + slot->offset / 4, true, divide_up(slot->bytes, 4));
        }
        for (size_t i = 0; hold && i < n_words; i++)
            hold = is_used[i] || words[i] == SENTINEL;
        if (code != CL_SUCCESS || !hold)
            note("chunk %zu was written where no intermediate is", chunk);
        hold = hold && code == CL_SUCCESS;
        free(words);
        free(is_used);
    }
    return hold;
}

static bool tensors_hold(struct check *checks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < checks[i].n_operands; j++) {
            qn_tensor *tensor = checks[i].takes_part ? checks[i].tensor[j] : NULL;
            if (!tensor)
                continue;
            size_t bytes = qn_tensor_bytes(tensor);
            void *values = malloc(bytes);
            if (!values)
                bail_out("out of memory");
            bool same = qn_tensor_read(tensor, values) == QN_OK &&
                        memcmp(values, checks[i].memory[j], bytes) == 0;
            free(values);
            if (!same) {
                note("%s %s: tensor %zu was written", checks[i].row->name, checks[i].shapes, j);
                return false;
            }
        }
    return true;
}

/* ---- A group ---- */

struct group {
    const char *name;
    qn_graph *graph;
    struct check *checks;
    size_t count;
    bool is_row;  /* one row of the group */
    bool is_lost; /* the device is: nothing more runs on it */
};

static qn_plan *plan_of(struct group *group)
{
    qn_node **roots = calloc(group->count * (MAX_INPUTS + 1) + 1, sizeof *roots);
    size_t n_roots = 0;
    if (!roots)
        bail_out("out of memory");
    for (size_t i = 0; i < group->count; i++) {
        struct check *check = &group->checks[i];
        if (!check->takes_part)
            continue;
        roots[n_roots++] = check->out;
        for (size_t j = 0; j < check->n_operands; j++)
            if (check->gradient[j])
                roots[n_roots++] = check->gradient[j];
    }
    qn_plan *plan = n_roots ? qn_plan_new(group->graph, roots, n_roots) : NULL;
    free(roots);
    return plan;
}

static void set_inputs(qn_plan *plan, const struct check *check)
{
    for (size_t i = 0; i < check->n_operands; i++)
        if (!check->tensor[i])
            qn_set(plan, check->whole[i], check->memory[i]);
    if (!check->seed)
        return;
    enum qn_type type = qn_node_type(check->seed);
    void *weight = malloc(qn_type_bytes(type, check->weight.count));
    if (!weight)
        bail_out("out of memory");
    for (size_t i = 0; i < check->weight.count; i++)
        type_put(type, weight, i, check->weight.at[i]);
    qn_set(plan, check->seed, weight);
    free(weight);
}

/* Where loops are cut after 65,535 turns, a work-item may not have more than this to read. */
enum { MOST_OF_CUT_LOOPS = 1 << 18 };

static void compare_all(qn_plan *plan, struct check *check, const char *forced)
{
    const struct row *row = check->row;
    struct result result = {plan, forced};
    const struct device *device = check->graph->context->device;
    size_t most = 0;
    for (size_t i = 0; i < check->n_operands; i++)
        most = check->x[i].count > most ? check->x[i].count : most;
    if (device->info.cuts_loops && most > MOST_OF_CUT_LOOPS) {
        skip("the driver cuts long loops short: see its quirks");
        return;
    }
    void *mark = arrays_mark();
    if (!check->options->gradients_only) {
        double *found = numbers_of(plan, check->out);
        report(check, result, "", check->out,
               compare(found, check->expected.at, check->expected.count, row->is_relative,
                       qn_node_type(check->out)),
               allowed(check, row->tolerance, 4), &check->expected.shape);
    }
    for (size_t i = 0; i < check->n_operands; i++)
        if (check->gradient[i])
            check_gradient(check, result, i, numbers_of(plan, check->gradient[i]));
    arrays_free_since(mark);
}

/* A message of several lines, as of a compiler. */
static void note_lines(const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        note("%.*s", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

/* The bits of all roots, added up in some way. */
static uint64_t fingerprint(qn_plan *plan)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < plan->n_roots; i++) {
        qn_node *root = (qn_node *)plan->roots[i].user;
        void *mark = arrays_mark();
        double *numbers = numbers_of(plan, root);
        size_t bytes = qn_shape_count(qn_node_shape(root)) * sizeof *numbers;
        for (size_t j = 0; j < bytes; j++)
            hash = (hash ^ ((unsigned char *)numbers)[j]) * 0x100000001B3u;
        arrays_free_since(mark);
    }
    return hash;
}

/* Plans and runs the checks that take part; NULL and an error if that fails. */
static qn_plan *run_plan(struct group *group, const char *forced)
{
    qn_context *context = group->graph->context;
    context->only_variant = *forced ? forced : NULL;
    qn_plan *plan = plan_of(group);
    context->only_variant = NULL;
    for (size_t i = 0; plan && i < group->count; i++)
        if (group->checks[i].takes_part)
            set_inputs(plan, &group->checks[i]);
    if (plan)
        fill_arena(plan);
    if (plan && qn_run(plan) == QN_OK && qn_finish(context) == QN_OK)
        return plan;
    qn_plan_free(plan);
    return NULL;
}

static void compare_plan(struct group *group, qn_plan *plan, const char *forced)
{
    const char *space = *forced ? " " : "";
    for (size_t i = 0; i < group->count; i++)
        if (group->checks[i].takes_part)
            compare_all(plan, &group->checks[i], forced);
    ok(guards_hold(plan), "%s%s%s: nothing is written outside of intermediates", group->name, space,
       forced);
    ok(tensors_hold(group->checks, group->count), "%s%s%s: tensors that are read stay as they are",
       group->name, space, forced);
    uint64_t before = fingerprint(plan);
    qn_run(plan);
    ok(before == fingerprint(plan), "%s%s%s: a second run gives the same bits", group->name, space,
       forced);
}

static void fail_check(const struct check *check, const char *forced)
{
    const char *space = *forced ? " " : "";
    qn_context *context = check->graph->context;
    ok(false, "%s %s%s%s: it cannot be run", check->row->name, check->shapes, space, forced);
    note_lines(qn_error(context));
    explain(check, forced);
    qn_clear_error(context);
}

/* All of a group in one plan; if that cannot be, one after the other, so that one that does not compile loses no others. */
static void run_variant(struct group *group, const char *forced)
{
    qn_context *context = group->graph->context;
    qn_plan *plan = run_plan(group, forced);
    if (plan)
        compare_plan(group, plan, forced);
    qn_plan_free(plan);
    group->is_lost = context->status == QN_ERROR_DEVICE && !group->is_row;
    if (plan && *qn_error(context)) {
        ok(false, "%s %s: %s", group->name, forced, qn_error(context));
        qn_clear_error(context);
    }
    for (size_t i = 0; !plan && !group->is_lost && i < group->count; i++) {
        struct group one = {
            .name = group->name, .graph = group->graph, .checks = &group->checks[i], .count = 1};
        if (!group->checks[i].takes_part)
            continue;
        qn_clear_error(context);
        qn_plan *alone = run_plan(&one, forced);
        group->is_lost = context->status == QN_ERROR_DEVICE;
        if (alone)
            compare_plan(&one, alone, forced);
        else
            fail_check(&group->checks[i], forced);
        qn_plan_free(alone);
    }
}

/* Beginnings of the names of rows of operations that take f32 only; of operands that would no longer differ in 16 bits; and of gradients
 * that are small differences of probabilities near 1. */
static const char *const of_f32[] = {"cumsum", "argmax",  "top_",        "sample",
                                     "adamw",  "max_all", "softmax_high"};

static bool has_type(const struct row *row, enum qn_type type)
{
    bool is_f32 = false;
    for (size_t i = 0; i < sizeof of_f32 / sizeof *of_f32; i++)
        is_f32 = is_f32 || strncmp(row->name, of_f32[i], strlen(of_f32[i])) == 0;
    return type == QN_F32 || !is_f32;
}

static bool is_wanted(const struct check_options *options, const struct row *row, enum qn_type type)
{
    bool is_named = options->n_names == 0;
    for (size_t i = 0; !is_named && i < options->n_names; i++)
        is_named =
            strcmp(options->names[i], row->group) == 0 || strcmp(options->names[i], row->name) == 0;
    return is_named && (!options->gradients_only || row->wrt) && has_type(row, type);
}

/* Rows of a group; false if the device was lost on the way. */
static bool run_group(qn_context *context, const struct check_options *options, enum qn_type type,
                      const struct row *rows, size_t n_rows)
{
    struct group group = {
        .name = rows->group, .graph = qn_graph_new(context), .is_row = n_rows == 1};
    group.checks = calloc(n_rows * MAX_CASES, sizeof *group.checks);
    if (!group.graph || !group.checks)
        bail_out("out of memory");
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; is_wanted(options, &rows[i], type) && j < MAX_CASES && rows[i].cases[j];
             j++) {
            struct check *check = &group.checks[group.count++];
            *check = (struct check){.options = options,
                                    .type = type,
                                    .row = &rows[i],
                                    .shapes = rows[i].cases[j],
                                    .graph = group.graph};
            build(check);
            check->takes_part = check->is_built;
        }
    const char *names[64];
    size_t n_names = alternatives(group.graph, group.checks, group.count, names, 64);
    bool takes_part = !options->variant && group.count;
    for (size_t i = 0; options->variant && i < group.count; i++) {
        struct check *check = &group.checks[i];
        check->takes_part =
            check->is_built && strcmp(variant_name(check, ""), options->variant) == 0;
        takes_part = takes_part || check->takes_part;
    }
    if (takes_part)
        run_variant(&group, "");
    for (size_t i = 0; !group.is_lost && i < n_names; i++) {
        if (options->variant && strcmp(options->variant, names[i]) != 0)
            continue;
        for (size_t j = 0; j < group.count; j++)
            group.checks[j].takes_part =
                group.checks[j].is_built && is_alternative(group.graph, &group.checks[j], names[i]);
        run_variant(&group, names[i]);
    }
    for (size_t i = 0; i < group.count; i++)
        check_free(&group.checks[i]);
    free(group.checks);
    qn_graph_free(group.graph);
    arrays_free();
    return !group.is_lost;
}

/* ---- All tables ---- */

static const struct table *const tables[] = {elementwise_tables, shape_tables, heavy_tables};
enum { TABLES = sizeof tables / sizeof *tables, PRETENCES = sizeof pretences / sizeof *pretences };

bool check_knows(const char *name)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            for (size_t j = 0; j < table->count; j++)
                if (strcmp(table->rows[j].group, name) == 0 ||
                    strcmp(table->rows[j].name, name) == 0)
                    return true;
    return false;
}

void check_list(FILE *file)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            for (size_t j = 0; j < table->count; j++)
                fprintf(file, "%s %s\n", table->rows[j].group, table->rows[j].name);
}

/* QUERN_CAPS of the user, then of the pretence, which wins. */
static qn_context *open_as(const struct check_options *options, const struct pretence *pretence,
                           char *caps, size_t size)
{
    const char *users = getenv("QUERN_CAPS");
    users = users ? users : "";
    snprintf(caps, size, "%s%s%s", users, *users && *pretence->caps ? "," : "", pretence->caps);
    qn_context *context =
        qn_open_with(&(struct qn_options){.device = options->device, .caps = caps});
    if (!context)
        bail_out("no device: %s", qn_error(NULL));
    if (!context->device)
        bail_out("no device: operations cannot be run on \"none\"");
    context->guard_bytes = GUARD;
    return context;
}

/* ---- Processes ---- */

enum { WHOLE = -1, UNFINISHED = 4 };

/* Where the tests are, in memory that parent and children share: a driver that ends a process, or a device that is lost, takes with
 * it the row that it was at.  Only children open devices. */
struct progress {
    const struct check_options *options;
    struct tap tap;
    struct qn_caps native;
    char device[512];
    size_t pretence, type, table;
    int row; /* WHOLE: all rows of the table, in one plan */
};

/* Table number `index` of all; NULL behind the last. */
static const struct table *table_at(size_t index)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            if (index-- == 0)
                return table;
    return NULL;
}

/* Goes on behind the rows that it is at; those of a table that were lost together come again one by one. */
static void step_on(struct progress *progress, bool is_lost)
{
    const struct table *table = table_at(progress->table);
    if (progress->row == WHOLE && is_lost) {
        progress->row = 0;
    } else if (progress->row == WHOLE || (size_t)++progress->row == table->count) {
        progress->row = WHOLE;
        progress->table++;
    }
    if (!table_at(progress->table)) {
        progress->table = 0;
        progress->type++;
    }
}

static bool run_here(const struct progress *progress, qn_context *context)
{
    const struct pretence *pretence = &pretences[progress->pretence];
    const struct table *table = table_at(progress->table);
    bool has_type = pretence->types & progress->options->types & 1u << progress->type;
    if (!has_type || (pretence->rows != ALL && pretence->rows != table->kind))
        return true;
    bool is_whole = progress->row == WHOLE;
    return run_group(context, progress->options, (enum qn_type)progress->type,
                     &table->rows[is_whole ? 0 : progress->row], is_whole ? table->count : 1);
}

/* A child: the tests of a pretence, from where the one before it ended. */
static int run_pretence(void *user)
{
    struct progress *progress = user;
    char caps[512];
    tap = &progress->tap;
    qn_context *context =
        open_as(progress->options, &pretences[progress->pretence], caps, sizeof caps);
    if (progress->pretence == 0) {
        progress->native = context->caps;
        snprintf(progress->device, sizeof progress->device, "%s", qn_device_name(context));
    }
    bool is_native = context->caps.device_class == progress->native.device_class &&
                     context->caps.float_width == progress->native.float_width;
    bool is_well = true;
    if (progress->pretence > 0 && is_native)
        progress->type = QN_TYPES;
    else
        note("%s, QUERN_CAPS=\"%s\"", qn_device_name(context), context->pretended);
    while (is_well && progress->type < QN_TYPES) {
        is_well = run_here(progress, context);
        step_on(progress, !is_well);
    }
    struct qn_counters counters = qn_counters(context);
    note("%zu kernels built, %zu programs loaded, %.1f s", counters.kernels_built,
         counters.programs_loaded, counters.build_seconds);
    qn_close(context);
    return is_well ? EXIT_SUCCESS : UNFINISHED;
}

/* What was lost with a child. */
static void report_death(struct progress *progress, const char *how)
{
    if (progress->type == QN_TYPES) {
        ok(false, "the driver ended the process at its end: %s", how);
        return;
    }
    const struct row *rows = table_at(progress->table)->rows;
    if (progress->row == WHOLE)
        note("%s: the driver ended the process: %s; now its rows one by one", rows->group, how);
    else
        ok(false, "%s: the driver ended the process: %s", rows[progress->row].name, how);
    step_on(progress, true);
}

/* False if no test makes sense. */
static bool run_to_the_end(struct progress *progress)
{
    int status = UNFINISHED;
    progress->type = progress->table = 0;
    progress->row = WHOLE;
    while (status == UNFINISHED || (status == -1 && progress->type < QN_TYPES)) {
        char how[128];
        status = process_run(run_pretence, progress, how, sizeof how);
        if (status == -1)
            report_death(progress, how);
    }
    return status == EXIT_SUCCESS || status == -1;
}

int check_operations(const struct check_options *options)
{
    struct progress *progress = shared_new(sizeof *progress);
    if (!progress)
        bail_out("out of memory");
    progress->options = options;
    tap = &progress->tap;
    bool goes_on = true;
    for (; goes_on && progress->pretence < PRETENCES; progress->pretence++)
        goes_on = run_to_the_end(progress);
    if (goes_on)
        fprintf(stderr, "%s: %d tests, %d failed%s\n", progress->device, tap->run, tap->failed,
                tap->run ? "" : ": no row has such a variant, type or gradient");
    int status = goes_on ? done_testing() : EXIT_FAILURE;
    tap = &tap_here;
    shared_free(progress, sizeof *progress);
    return status;
}

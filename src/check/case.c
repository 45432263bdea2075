/* A row with one of its cases: its nodes, the variants that can compute them, and the comparison with what should come out. */
#include "check/case.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"

#include "check/operands.h"

#define TAP_SHARED
#include "tests/tap.h"

/* Of an operand: real numbers are of the type that is being tested; but slopes are f32 with any. */
static enum qn_type type_of(const struct check *check, char letter)
{
    return strchr("wiacvzlt389", letter) ? QN_I32 : letter == 'u' ? QN_F32 : check->type;
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

void check_explain(const struct check *check, const char *variant)
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
        used += (size_t)snprintf(words + used, size - used, " --device '%.200s'", device);
    if (check->graph->context->caps.gemm != QN_GEMM_AUTO)
        snprintf(words + used, size - used, " --gemm %.20s", options->gemm);
    note("again: %s --op %s --dtype %s%s%s --seed %llu", words, check->row->name,
         qn_type_name(check->type), *variant ? " --variant " : "", variant,
         (unsigned long long)options->seed);
}

void check_build(struct check *check)
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
        check_explain(check, "");
    }
    qn_clear_error(graph->context);
}

void check_free(struct check *check)
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

static bool is_of_tf32(const struct check *check)
{
    if (check->graph->context->caps.gemm != QN_GEMM_TF32)
        return false;
    for (size_t id = check->first_node; id < check->end_node; id++) {
        const qn_node *node = check->graph->nodes[id];
        const struct qn_variant *chosen = first_fitting(node);
        if (chosen && strcmp(chosen->name, "matrix") == 0)
            return true;
    }
    return false;
}

bool check_has_alternative(const struct check *check, const char *name)
{
    for (size_t id = check->first_node; id < check->end_node; id++) {
        const qn_node *node = check->graph->nodes[id];
        const struct qn_variant *chosen = first_fitting(node);
        for (size_t i = 0; chosen && i < node->op->n_variants; i++)
            if (strcmp(node->op->variants[i].name, name) == 0 && strcmp(chosen->name, name) != 0 &&
                fits(node, &node->op->variants[i]))
                return true;
    }
    return false;
}

const char *check_variant(const struct check *check, const char *forced)
{
    int output = 0;
    const qn_node *node = value_source(check->out, &output);
    const struct qn_variant *chosen = first_fitting(node);
    for (size_t i = 0; *forced && i < node->op->n_variants; i++)
        if (strcmp(node->op->variants[i].name, forced) == 0 && fits(node, &node->op->variants[i]))
            chosen = &node->op->variants[i];
    return *forced ? forced : chosen ? chosen->name : "";
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

/* What a row allows, and some roundings to 16 bits: of the result, and of values on the way, more for gradients.  TF32 has the fraction of f16. */
static double allowed(const struct check *check, double tolerance, int roundings)
{
    enum qn_type type = check->type == QN_F32 && is_of_tf32(check) ? QN_F16 : check->type;
    return type == QN_F32 ? tolerance : tolerance + roundings * precisions[type].half_ulp;
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
               *variant = check_variant(check, result.forced);
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
    check_explain(check, result.forced);
}

double *numbers_of(qn_plan *plan, qn_node *node)
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

/* Where loops are cut after 65,535 turns, a work-item may not have more than this to read. */
enum { MOST_OF_CUT_LOOPS = 1 << 18 };

void check_compare(struct check *check, qn_plan *plan, const char *forced)
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

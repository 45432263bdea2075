/* Every operation, every variant that fits, against double arithmetic (reference.h) and central
 * differences of it.
 *
 * A row says how an operation is built, what it should give, and for which shapes.  To test an
 * operation: a row in a table below, and if it is new to arithmetic, a function in reference.c. The
 * rows of a group share a plan, which is fast to compile.  For each the driver
 *   1. builds the nodes from operands that are whole tensors or views of larger ones, and their
 * gradients of a random weighted sum;
 *   2. makes a plan with the variants a device would choose, then one for each other variant that
 * fits;
 *   3. fills the arena with NaNs, runs, and compares values and gradients;
 *   4. looks for writes outside of intermediates and into tensors that are only read, and runs
 * again for the same bits. */
#include <float.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "device/device.h"
#include "device/memory.h"
#include "device/philox.h"
#include "graph/plan.h"

#include "reference.h"
#include "tap.h"

/* ---- Rows ---- */

enum { MAX_CASES = 10 };

struct row {
    const char *group, *name;
    const char *operands;         /* a letter each: see fill() */
    const char *cases[MAX_CASES]; /* shapes of the operands: see parse_case() */
    unsigned wrt;                 /* bit i: compare the gradient with respect to operand i */
    double tolerance;             /* the greatest error over the greatest value of a tensor */
    double gradient_tolerance;    /* 0: four times that: a derivative rounds a few times more */
    bool is_relative;             /* each value by itself must be that exact */
    qn_node *(*build)(const struct row *row, qn_node *const *x);
    struct array (*reference)(const struct row *row, const struct array *x);

    /* What build and reference use. */
    qn_node *(*one)(qn_node *);
    double (*of_one)(double);
    qn_node *(*two)(qn_node *, qn_node *);
    double (*of_two)(double, double);
    double a, b;
    const void *options;
};

#define ROW(group_, name_, operands_, wrt_, error, gradient_error, relative, build_, reference_)   \
    .group = group_, .name = name_, .operands = operands_, .wrt = wrt_, .tolerance = error,        \
    .gradient_tolerance = gradient_error, .is_relative = relative, .build = build_,                \
    .reference = reference_

/* What the device is told to be, so that one device runs most variants. */
static const struct pretence {
    const char *caps;
    enum { ALL, ELEMENTWISE, VARIANTS } rows;
} pretences[] = {
    {"", ALL},
    {"float_width=1", ELEMENTWISE},
    {"float_width=16", ELEMENTWISE},
    /* The least that a GPU may have. */
    {"class=gpu,local_memory=32768,max_work_group=64,fp16=0,subgroups=0", VARIANTS},
};

static struct {
    const char *only, *variant;
    uint64_t seed;
    bool gradients_only;
} options = {.seed = 1};

/* ---- Random operands ---- */

static uint32_t random_word32(uint64_t key, size_t index)
{
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 31 >> 1), 0, 0};
    uint32_t words[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    return philox(counter, words).word[0];
}

/* In (0, 1). */
static double uniform(uint64_t key, size_t index)
{
    return (random_word32(key, index) + 0.5) * 0x1p-32;
}

static double normal(uint64_t key, size_t index)
{
    double radius = sqrt(-2 * log(uniform(key, 2 * index)));
    return radius * cos(6.283185307179586 * uniform(key, 2 * index + 1));
}

static uint64_t key_of(const char *text, size_t number)
{
    uint64_t hash = 0xCBF29CE484222325u ^ options.seed;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return (hash ^ number) * 0x9E3779B97F4A7C15u;
}

static enum qn_type type_of(char letter)
{
    return strchr("wicvz3", letter) ? QN_I32 : QN_F32;
}

static double special(size_t index)
{
    static const double values[] = {0,  -0.0, 1,   -1,   0.5,  -0.5, 1e-30, -1e-30, 1e-4, -1e-4,
                                    10, -10,  100, -100, 1000, 87,   -87,   3,      -3,   20};
    return values[index % (sizeof values / sizeof *values)];
}

/* Element `index` of an operand.  `first`: operand 0, which bounds ids and classes. */
static double draw(char letter, uint64_t key, size_t index, size_t count, size_t number,
                   const struct array *first)
{
    size_t step = 0x9E3779B1u % (count | 1);
    switch (letter) {
    case 'n': /* normal */
        return normal(key, index);
    case 'h': /* high: softmax overflows if it does not subtract the greatest */
        return 40 * normal(key, index);
    case 'f': /* far from zero: a variance as a difference of squares would fail */
        return 100 + normal(key, index);
    case 'p': /* positive, away from zero */
        return 0.1 + 3 * uniform(key, index);
    case 'k': /* on a grid, another one for each operand: never at a kink, nor near one */
        return round(64 * normal(key, index)) / 64 + (double)(number + 1) / 512;
    case 'v': /* i32: a class of operand 0 */
        return (double)(random_word32(key, index) % first->shape.size[first->shape.rank - 1]);
    case 'd': /* different from all others */
        return ((double)(index * (step ? step : 1) % count) - (double)count / 2) / 64;
    case 'e': /* often equal */
        return (double)(random_word32(key, index) % 4);
    case 's':
        return special(index);
    case '1':
        return 1;
    case '0':
        return 0;
    case '5':
        return 5;
    case '3': /* i32 */
        return 3;
    case 'm': /* 0 or 1 */
        return random_word32(key, index) & 1;
    case 'w': /* i32 */
        return (double)(random_word32(key, index) % 19) - 9;
    case 'i': /* i32: a row of operand 0, now and then one that there is not */
        return (double)(random_word32(key, index) % (first->shape.size[0] + 2)) - 1;
    case 'c': /* i32: a class of operand 0, now and then -100; never at first */
        if (index > 0 && random_word32(key, index) % 5 == 0)
            return -100;
        return (double)(random_word32(key, index + 1000) %
                        first->shape.size[first->shape.rank - 1]);
    default: /* 'z': a key, i32 */
        return (double)(random_word32(key, index) >> 1);
    }
}

/* ---- Cases ---- */

/* An operand as a case says it: "3x5x8", "-" for a single number without axes; and in memory a
 * whole tensor, or t   with its last two axes swapped s   with gaps along the last axis r   some
 * rows of a taller one, so that it does not begin at its beginning b   one number or row repeated
 * along the first axis */
struct shape_of_operand {
    qn_shape shape, base;
    char view;
};

static size_t parse_case(const char *text, struct shape_of_operand *operands)
{
    size_t count = 0;
    for (; *text; text += *text == ' ') {
        struct shape_of_operand *operand = &operands[count++];
        *operand = (struct shape_of_operand){.view = ' '};
        if (*text == '-')
            text++;
        while (*text >= '0' && *text <= '9') {
            char *end;
            operand->shape.size[operand->shape.rank++] = strtoul(text, &end, 10);
            text = end + (*end == 'x');
        }
        if (*text && *text != ' ')
            operand->view = *text++;
        qn_shape *base = &operand->base;
        *base = operand->shape;
        int last = base->rank - 1;
        if (operand->view == 't') {
            base->size[last] = operand->shape.size[last - 1];
            base->size[last - 1] = operand->shape.size[last];
        }
        if (operand->view == 's')
            base->size[last] += 7;
        if (operand->view == 'r')
            base->size[0] += 2;
        if (operand->view == 'b')
            base->size[0] = 1;
    }
    return count;
}

/* Where in the whole an element of the view is. */
static size_t base_position(const struct shape_of_operand *operand, size_t index)
{
    size_t at[QN_MAX_RANK];
    int last = operand->shape.rank - 1;
    array_coordinates(&operand->shape, index, at);
    if (operand->view == 't') {
        size_t swap = at[last];
        at[last] = at[last - 1];
        at[last - 1] = swap;
    }
    if (operand->view == 's')
        at[last] += 3;
    if (operand->view == 'r')
        at[0] += 1;
    if (operand->view == 'b')
        at[0] = 0;
    return array_position(&operand->base, at);
}

static qn_node *view_node(const struct shape_of_operand *operand, qn_node *whole)
{
    size_t last = operand->shape.size[operand->shape.rank - 1];
    switch (operand->view) {
    case 't':
        return qn_transpose(whole, -1, -2);
    case 's':
        return qn_slice(whole, -1, 3, 3 + last);
    case 'r':
        return qn_slice(whole, 0, 1, 1 + operand->shape.size[0]);
    case 'b':
        return qn_broadcast(whole, operand->shape);
    default:
        return whole;
    }
}

enum { MAX_INPUTS = QN_MAX_OPERANDS };

/* A row with one of its cases, in a graph. */
struct check {
    const struct row *row;
    const char *shapes;
    size_t n_operands;
    struct array x[MAX_INPUTS], weight, expected;
    void *memory[MAX_INPUTS]; /* of the whole tensors */
    qn_node *whole[MAX_INPUTS], *view[MAX_INPUTS], *out, *seed, *gradient[MAX_INPUTS];
    qn_tensor *tensor[MAX_INPUTS]; /* NULL: the operand is an input */
    size_t first_node, end_node;   /* of the graph */
    bool is_built, takes_part;
};

static bool has_gradient(const struct check *check, size_t operand)
{
    return check->row->wrt >> operand & 1;
}

/* Draws an operand; what lies between the elements of a view is NaN, or a number that no one
 * expects. */
static void fill(struct check *check, size_t number, const struct shape_of_operand *operand)
{
    char letter = check->row->operands[number];
    uint64_t key = key_of(check->shapes, number);
    struct array *x = &check->x[number];
    size_t whole = qn_shape_count(operand->base),
           rows = operand->view == 'b' ? operand->shape.size[0] : 1;
    *x = array_new(operand->shape);
    for (size_t i = 0; i < x->count; i++)
        x->at[i] = (float)draw(letter, key, i % (x->count / rows), x->count, number, &check->x[0]);

    check->memory[number] = malloc(whole * sizeof(float));
    if (!check->memory[number])
        bail_out("out of memory");
    float *floats = check->memory[number];
    int32_t *integers = check->memory[number];
    for (size_t i = 0; i < whole; i++) {
        if (type_of(letter) == QN_F32)
            floats[i] = NAN;
        else
            integers[i] = -77777;
    }
    for (size_t i = 0; i < x->count; i++) {
        size_t at = base_position(operand, i);
        if (type_of(letter) == QN_F32)
            floats[at] = (float)x->at[i];
        else
            integers[at] = (int32_t)x->at[i];
    }
}

/* Operands are inputs and tensors by turns: inputs have guard zones, tensors can be written by
 * mistake. */
static qn_node *operand_node(struct check *check, size_t number, qn_graph *graph,
                             const struct shape_of_operand *operand)
{
    enum qn_type type = type_of(check->row->operands[number]);
    if ((number + strlen(check->shapes)) % 2 == 0)
        return qn_input(graph, "x", type, operand->base);
    qn_tensor *tensor = qn_tensor_new(graph->context, "x", type, operand->base);
    if (tensor && qn_tensor_write(tensor, check->memory[number]) == QN_OK)
        check->tensor[number] = tensor;
    return qn_leaf(graph, tensor);
}

static void explain(const struct check *check)
{
    const char *caps = getenv("QUERN_CAPS");
    note("%s%s%stests/ops.t --only %s --seed %llu", caps && *caps ? "QUERN_CAPS=" : "",
         caps ? caps : "", caps && *caps ? " " : "", check->row->name,
         (unsigned long long)options.seed);
}

static void build(struct check *check, qn_graph *graph)
{
    const struct row *row = check->row;
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
        check->seed = qn_input(graph, "weight", QN_F32, qn_node_shape(check->out));
        check->weight = array_new(check->expected.shape);
        for (size_t i = 0; i < check->weight.count; i++)
            check->weight.at[i] = (float)normal(key_of(check->shapes, 99), i);
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
        explain(check);
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

/* ---- Comparing ---- */

struct difference {
    double error;
    size_t at;
    double found, expected;
};

static struct difference compare(const double *found, const double *expected, size_t count,
                                 bool is_relative)
{
    struct difference worst = {0};
    double scale = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(expected[i]))
            scale = fmax(scale, fabs(expected[i]));
    for (size_t i = 0; i < count; i++) {
        double wanted = fabs(expected[i]) > FLT_MAX ? copysign(INFINITY, expected[i]) : expected[i];
        double error;
        if (!isfinite(wanted) || !isfinite(found[i]))
            error = found[i] == wanted || (isnan(found[i]) && isnan(wanted)) ? 0 : INFINITY;
        else /* what a float cannot tell from 0 may be 0 */
            error =
                fabs(found[i] - wanted) / fmax(is_relative ? fabs(wanted) : scale, FLT_MIN / 1e-7);
        if (error > worst.error || i == 0)
            worst = (struct difference){error, i, found[i], expected[i]};
    }
    return worst;
}

static void report(const struct check *check, const char *variant, const char *what,
                   struct difference difference, double tolerance, const qn_shape *shape)
{
    const struct row *row = check->row;
    bool passed = difference.error <= tolerance;
    const char *caps = check->out->graph->context->device ? getenv("QUERN_CAPS") : NULL;
    ok(passed, "%s %s%s%s%s: error %.1e, allowed %.1e%s%s", row->name, check->shapes,
       *variant ? " " : "", variant, what, difference.error, tolerance,
       caps && *caps ? ", with " : "", caps ? caps : "");
    if (passed)
        return;
    char place[128] = "";
    size_t at[QN_MAX_RANK], used = 0;
    array_coordinates(shape, difference.at, at);
    for (int i = 0; i < shape->rank; i++)
        used += (size_t)snprintf(place + used, sizeof place - used, "%s%zu", i ? "," : "", at[i]);
    note("at [%s]: found %.9g, expected %.9g", place, difference.found, difference.expected);
    explain(check);
}

static double *numbers_of(qn_plan *plan, qn_node *node)
{
    size_t count = qn_shape_count(qn_node_shape(node));
    float *raw = malloc(count * sizeof *raw);
    double *numbers = array_new(qn_node_shape(node)).at;
    if (!raw)
        bail_out("out of memory");
    if (qn_get(plan, node, raw) != QN_OK)
        note("%s", qn_error(node->graph->context));
    for (size_t i = 0; i < count; i++)
        numbers[i] = qn_node_type(node) == QN_I32 ? (double)((int32_t *)raw)[i] : (double)raw[i];
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
static void check_gradient(struct check *check, const char *variant, size_t operand,
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
    uint64_t key = key_of(check->shapes, 77 + operand);
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
        double error = fabs(mine.at[i] - expected.at[i]) / fmax(scale, FLT_MIN / 1e-7);
        if (!(error <= worst.error)) /* so that a NaN is the worst */
            worst = (struct difference){isnan(error) ? INFINITY : error, where[i], mine.at[i],
                                        expected.at[i]};
    }
    const struct row *row = check->row;
    char what[32];
    snprintf(what, sizeof what, ", gradient of %zu", operand);
    report(check, variant, what, worst,
           row->gradient_tolerance > 0 ? row->gradient_tolerance : 4 * row->tolerance, &x.shape);
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

/* ---- A group ---- */

struct group {
    const char *name;
    qn_graph *graph;
    struct check *checks;
    size_t count;
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
    float *weight = malloc(check->weight.count * sizeof *weight);
    if (!weight)
        bail_out("out of memory");
    for (size_t i = 0; i < check->weight.count; i++)
        weight[i] = (float)check->weight.at[i];
    qn_set(plan, check->seed, weight);
    free(weight);
}

static void compare_all(qn_plan *plan, struct check *check, const char *forced)
{
    const struct row *row = check->row;
    const char *variant = variant_name(check, forced);
    void *mark = arrays_mark();
    if (!options.gradients_only) {
        double *found = numbers_of(plan, check->out);
        report(check, variant, "",
               compare(found, check->expected.at, check->expected.count, row->is_relative),
               row->tolerance, &check->expected.shape);
    }
    for (size_t i = 0; i < check->n_operands; i++)
        if (check->gradient[i])
            check_gradient(check, variant, i, numbers_of(plan, check->gradient[i]));
    arrays_free_since(mark);
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

static void run_variant(struct group *group, const char *forced)
{
    qn_context *context = group->graph->context;
    context->only_variant = *forced ? forced : NULL;
    qn_plan *plan = plan_of(group);
    context->only_variant = NULL;
    if (!plan) {
        ok(false, "%s %s: %s", group->name, forced, qn_error(context));
        qn_clear_error(context);
        return;
    }
    for (size_t i = 0; i < group->count; i++)
        if (group->checks[i].takes_part)
            set_inputs(plan, &group->checks[i]);
    fill_arena(plan);
    if (qn_run(plan) != QN_OK || qn_finish(context) != QN_OK)
        ok(false, "%s %s: %s", group->name, forced, qn_error(context));
    for (size_t i = 0; i < group->count; i++)
        if (group->checks[i].takes_part)
            compare_all(plan, &group->checks[i], forced);
    const char *space = *forced ? " " : "";
    ok(guards_hold(plan), "%s%s%s: nothing is written outside of intermediates", group->name, space,
       forced);
    ok(tensors_hold(group->checks, group->count), "%s%s%s: tensors that are read stay as they are",
       group->name, space, forced);
    uint64_t before = fingerprint(plan);
    qn_run(plan);
    ok(before == fingerprint(plan), "%s%s%s: a second run gives the same bits", group->name, space,
       forced);
    if (*qn_error(context)) {
        ok(false, "%s %s: %s", group->name, forced, qn_error(context));
        qn_clear_error(context);
    }
    qn_plan_free(plan);
}

static bool is_wanted(const char *group, const char *name)
{
    return !options.only || strcmp(options.only, group) == 0 || strcmp(options.only, name) == 0;
}

static void run_group(qn_context *context, const struct row *rows, size_t n_rows)
{
    struct group group = {.name = rows->group, .graph = qn_graph_new(context)};
    group.checks = calloc(n_rows * MAX_CASES, sizeof *group.checks);
    if (!group.graph || !group.checks)
        bail_out("out of memory");
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0;
             is_wanted(rows[i].group, rows[i].name) && j < MAX_CASES && rows[i].cases[j]; j++) {
            struct check *check = &group.checks[group.count++];
            *check = (struct check){.row = &rows[i], .shapes = rows[i].cases[j]};
            build(check, group.graph);
            check->takes_part = check->is_built;
        }
    const char *names[64];
    size_t n_names = alternatives(group.graph, group.checks, group.count, names, 64);
    bool is_alternative_asked = false;
    for (size_t i = 0; options.variant && i < n_names; i++)
        is_alternative_asked = is_alternative_asked || strcmp(options.variant, names[i]) == 0;
    if (group.count && !is_alternative_asked)
        run_variant(&group, "");
    for (size_t i = 0; i < n_names; i++) {
        if (options.variant && strcmp(options.variant, names[i]) != 0)
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
}

/* ---- Element-wise ---- */

static qn_node *build_one(const struct row *row, qn_node *const *x)
{
    return row->one(x[0]);
}

static struct array reference_one(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = row->of_one(x[0].at[i]);
    return y;
}

static qn_node *build_two(const struct row *row, qn_node *const *x)
{
    return row->two(x[0], x[1]);
}

static struct array reference_two(const struct row *row, const struct array *x)
{
    qn_shape shape = common_shape(x[0].shape, x[1].shape);
    struct array a = reference_broadcast(x[0], shape), b = reference_broadcast(x[1], shape);
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = row->of_two(a.at[i], b.at[i]);
    return y;
}

#define FORMULA_OF_ONE(name, formula)                                                              \
    static double name(double x)                                                                   \
    {                                                                                              \
        return formula;                                                                            \
    }
#define FORMULA_OF_TWO(name, formula)                                                              \
    static double name(double a, double b)                                                         \
    {                                                                                              \
        return formula;                                                                            \
    }

FORMULA_OF_ONE(of_neg, -x)
FORMULA_OF_ONE(of_square, x *x)
FORMULA_OF_ONE(of_rsqrt, 1 / sqrt(x))
FORMULA_OF_ONE(of_reciprocal, 1 / x)
FORMULA_OF_ONE(of_sigmoid, 1 / (1 + exp(-x)))
FORMULA_OF_ONE(of_relu, fmax(x, 0))
FORMULA_OF_ONE(of_is_finite, isfinite(x))

FORMULA_OF_TWO(of_add, a + b)
FORMULA_OF_TWO(of_sub, a - b)
FORMULA_OF_TWO(of_mul, a *b)
FORMULA_OF_TWO(of_div, a / b)
FORMULA_OF_TWO(of_less, a < b)
FORMULA_OF_TWO(of_less_equal, a <= b)
FORMULA_OF_TWO(of_greater, a > b)
FORMULA_OF_TWO(of_greater_equal, a >= b)
FORMULA_OF_TWO(of_equal, a == b)
FORMULA_OF_TWO(of_not_equal, a != b)

/* Functions of the C library have f32's precision of 1.2e-7, times the few units in the last place
 * that OpenCL allows: 2.5 for a division, 3 for a root, an exponential, a logarithm, 4 for sine and
 * cosine, 5 for tanh; each value by itself. */
#define ULP (FLT_EPSILON / 2)

#define SHAPES_OF_ONE                                                                              \
    {                                                                                              \
        "1", "-", "67", "5x7x3", "4099", "9x5t", "5x33s", "3x16r"                                  \
    }

#define ONE(title, letters, function, slope, error)                                                \
    {                                                                                              \
        .group = "one", .name = #title, .operands = letters, .cases = SHAPES_OF_ONE, .wrt = slope, \
        .tolerance = error, .gradient_tolerance = 4e-6, .is_relative = true, .build = build_one,   \
        .reference = reference_one, .one = qn_##title, .of_one = function                          \
    }
#define SPECIAL(title, function, error)                                                            \
    {                                                                                              \
        .group = "special", .name = #title, .operands = "s", .cases = {"20", "20b", "3x20"},       \
        .tolerance = error, .is_relative = true, .build = build_one, .reference = reference_one,   \
        .one = qn_##title, .of_one = function                                                      \
    }

/* clang-format off */
static const struct row rows_of_one[] = {
    ONE(neg, "n", of_neg, 1, 0),
    ONE(abs, "k", fabs, 1, 0),
    ONE(square, "n", of_square, 1, ULP),
    ONE(sqrt, "p", sqrt, 1, 4 * ULP),
    ONE(rsqrt, "p", of_rsqrt, 1, 8 * ULP), /* a root, then a division */
    ONE(reciprocal, "p", of_reciprocal, 1, 4 * ULP),
    ONE(exp, "n", exp, 1, 5 * ULP),
    ONE(expm1, "n", expm1, 1, 5 * ULP),
    ONE(log, "p", log, 1, 5 * ULP),
    ONE(sin, "n", sin, 1, 6 * ULP),
    ONE(cos, "n", cos, 1, 6 * ULP),
    ONE(tanh, "n", tanh, 1, 8 * ULP),
    ONE(sigmoid, "n", of_sigmoid, 1, 10 * ULP),
    ONE(relu, "k", of_relu, 1, 0),
    ONE(gelu, "n", reference_gelu, 1, 20 * ULP), /* the exponential's argument is rounded before: it is up to 10 */
    ONE(is_finite, "n", of_is_finite, 0, 0),
};
static const struct row rows_of_special[] = {
    SPECIAL(neg, of_neg, 0),
    SPECIAL(abs, fabs, 0),
    SPECIAL(square, of_square, ULP),
    SPECIAL(exp, exp, 5 * ULP),
    SPECIAL(expm1, expm1, 5 * ULP),
    SPECIAL(tanh, tanh, 8 * ULP),
    SPECIAL(sigmoid, of_sigmoid, 12 * ULP),
    SPECIAL(relu, of_relu, 0),
};
/* clang-format on */

#define SHAPES_OF_TWO                                                                              \
    {                                                                                              \
        "1 1", "67 67", "4099 4099", "5x1x7 3x1", "- 3x5", "33x5t 33x5", "7x9s 7x9r", "6x35b 35"   \
    }
#define TWO(title, letters, function, slope, error)                                                \
    {                                                                                              \
        .group = "two", .name = #title, .operands = letters, .cases = SHAPES_OF_TWO, .wrt = slope, \
        .tolerance = error, .gradient_tolerance = 4e-6, .is_relative = true, .build = build_two,   \
        .reference = reference_two, .two = qn_##title, .of_two = function                          \
    }
#define TWO_OF_I32(title, function)                                                                \
    {                                                                                              \
        .group = "two_i32", .name = #title, .operands = "ww", .cases = {"67 67", "5x1x7 3x1"},     \
        .build = build_two, .reference = reference_two, .two = qn_##title, .of_two = function      \
    }

/* clang-format off */
static const struct row rows_of_two[] = {
    TWO(add, "nn", of_add, 3, ULP),
    TWO(sub, "nn", of_sub, 3, ULP),
    TWO(mul, "nn", of_mul, 3, ULP),
    TWO(div, "np", of_div, 3, 4 * ULP),
    TWO(maximum, "kk", fmax, 3, 0),
    TWO(minimum, "kk", fmin, 3, 0),
    TWO(less, "ee", of_less, 0, 0),
    TWO(less_equal, "ee", of_less_equal, 0, 0),
    TWO(greater, "ee", of_greater, 0, 0),
    TWO(greater_equal, "ee", of_greater_equal, 0, 0),
    TWO(equal, "ee", of_equal, 0, 0),
    TWO(not_equal, "ee", of_not_equal, 0, 0),
};
static const struct row rows_of_two_i32[] = {
    TWO_OF_I32(add, of_add),
    TWO_OF_I32(sub, of_sub),
    TWO_OF_I32(mul, of_mul),
    TWO_OF_I32(maximum, fmax),
    TWO_OF_I32(minimum, fmin),
    TWO_OF_I32(less, of_less),
    TWO_OF_I32(less_equal, of_less_equal),
    TWO_OF_I32(greater, of_greater),
    TWO_OF_I32(greater_equal, of_greater_equal),
    TWO_OF_I32(equal, of_equal),
    TWO_OF_I32(not_equal, of_not_equal),
};
/* clang-format on */

/* ---- Element-wise with numbers ---- */

static qn_node *build_scale(const struct row *row, qn_node *const *x)
{
    return qn_scale(x[0], row->a);
}
static qn_node *build_offset(const struct row *row, qn_node *const *x)
{
    return qn_offset(x[0], row->a);
}
static qn_node *build_clamp(const struct row *row, qn_node *const *x)
{
    return qn_clamp(x[0], row->a, row->b);
}
static qn_node *build_where(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_where(x[0], x[1], x[2]);
}
static qn_node *build_to_i32(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_cast(x[0], QN_I32);
}
static qn_node *build_to_f32(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_cast(x[0], QN_F32);
}
/* A constant, an f32 from an i32 and a comparison in one kernel. */
static qn_node *build_mixed(const struct row *row, qn_node *const *x)
{
    qn_node *number = qn_add(qn_cast(x[1], QN_F32), qn_constant(x[0]->graph, row->a));
    return qn_mul(qn_where(qn_less(x[1], qn_cast(x[0], QN_I32)), x[0], number), qn_tanh(x[0]));
}

static struct array reference_scale(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = row->a * x[0].at[i];
    return y;
}
static struct array reference_offset(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = row->a + x[0].at[i];
    return y;
}
static struct array reference_clamp(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = fmin(fmax(x[0].at[i], row->a), row->b);
    return y;
}
static struct array reference_where(const struct row *row, const struct array *x)
{
    (void)row;
    qn_shape shape = common_shape(common_shape(x[0].shape, x[1].shape), x[2].shape);
    struct array condition = reference_broadcast(x[0], shape), y = array_new(shape);
    struct array a = reference_broadcast(x[1], shape), b = reference_broadcast(x[2], shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = condition.at[i] != 0 ? a.at[i] : b.at[i];
    return y;
}
static struct array reference_cast(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = trunc(x[0].at[i]);
    return y;
}
static struct array reference_mixed(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] =
            (x[1].at[i] < trunc(x[0].at[i]) ? x[0].at[i] : x[1].at[i] + row->a) * tanh(x[0].at[i]);
    return y;
}

/* The mask on the host: elements 16 b to 16 b + 15 take the four words of the blocks 4 b to 4 b +
 * 3, lane l the word l / 4 of block 4 b + l % 4. */
enum { STREAM = 5 };
static bool is_dropped(size_t index, const struct array *key, double p)
{
    size_t block = index / 16 * 4 + index % 4;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 31 >> 1), STREAM, 0};
    uint32_t words[2] = {(uint32_t)key->at[0], (uint32_t)key->at[1]};
    uint32_t word = philox(counter, words).word[index % 16 / 4];
    return (word >> 8) * 0x1p-24 < (double)(float)p;
}
static qn_node *build_dropout(const struct row *row, qn_node *const *x)
{
    return qn_dropout(x[0], row->a, x[1], STREAM);
}
static struct array reference_dropout(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = is_dropped(i, &x[1], row->a) ? 0 : x[0].at[i] / (1 - row->a);
    return y;
}

/* clang-format off */
static const struct row rows_with_numbers[] = {
    {ROW("numbers", "scale", "n", 1, ULP, 1e-6, true, build_scale, reference_scale), .cases = {"67", "-", "9x5t"}, .a = -2.5},
    {ROW("numbers", "offset", "n", 1, ULP, 1e-6, true, build_offset, reference_offset), .cases = {"67", "-", "9x5t"}, .a = 0.75},
    {ROW("numbers", "clamp", "k", 1, 0, 1e-6, true, build_clamp, reference_clamp), .cases = {"67", "-", "9x5t"}, .a = -0.5, .b = 1},
    {ROW("numbers", "where", "mkk", 6, 0, 1e-6, true, build_where, reference_where), .cases = {"67 67 67", "- 5x7 7", "3x1 5x1x4 3x4t", "5x9s 5x9r 5x9"}},
    {ROW("numbers", "where_of_i32", "mww", 0, 0, 0, true, build_where, reference_where), .cases = {"67 67 67", "- 5x7 7"}},
    {ROW("numbers", "cast_to_i32", "h", 0, 0, 0, true, build_to_i32, reference_cast), .cases = {"67", "-", "9x5t"}},
    {ROW("numbers", "cast_to_f32", "w", 0, 0, 0, true, build_to_f32, reference_cast), .cases = {"67", "-", "9x5t"}},
    {ROW("numbers", "mixed", "hw", 0, 8 * ULP /* of tanh */, 0, false, build_mixed, reference_mixed), .cases = {"67 67", "9x5t 9x5s"}, .a = 3},
    {ROW("numbers", "dropout_tenth", "nz", 1, ULP * 2, 1e-6, true, build_dropout, reference_dropout), .cases = {"4099 2", "- 2", "16 2", "5x67 2", "67x5t 2"}, .a = 0.1},
    {ROW("numbers", "dropout_half", "nz", 1, ULP * 2, 1e-6, true, build_dropout, reference_dropout), .cases = {"4099 2", "5x67 2"}, .a = 0.5},
};
/* clang-format on */

/* ---- Shape: chains of views, then what reads them ---- */

/* (3, 8, 5): heads split off, swapped, joined again otherwise. */
static qn_node *build_heads(const struct row *row, qn_node *const *x)
{
    (void)row;
    qn_node *heads = qn_reshape(x[0], QN_SHAPE(3, 2, 4, 5));
    return qn_reshape(qn_transpose(qn_transpose(heads, 1, 2), -1, -2), QN_SHAPE(4, 30));
}
static struct array reference_heads(const struct row *row, const struct array *x)
{
    (void)row;
    struct array heads = reference_reshape(x[0], QN_SHAPE(3, 2, 4, 5));
    return reference_reshape(reference_transpose(reference_transpose(heads, 1, 2), -1, -2),
                             QN_SHAPE(4, 30));
}

/* (6, 9): three parts, the first and last used, in another order, beside a slice. */
static qn_node *build_split(const struct row *row, qn_node *const *x)
{
    (void)row;
    qn_node *parts[3], *whole[3];
    qn_split(x[0], 1, 3, parts);
    whole[0] = parts[2];
    whole[1] = qn_tanh(parts[0]);
    whole[2] = qn_slice(x[0], -1, 1, 8);
    return qn_concat(whole, 3, 1);
}
static struct array reference_split(const struct row *row, const struct array *x)
{
    (void)row;
    struct array whole[3] = {reference_slice(x[0], 1, 6, 9), reference_slice(x[0], 1, 0, 3),
                             reference_slice(x[0], 1, 1, 8)};
    for (size_t i = 0; i < whole[1].count; i++)
        whole[1].at[i] = tanh(whole[1].at[i]);
    return reference_concat(whole, 3, 1);
}

/* A sum of views that have nothing in common. */
static qn_node *build_views(const struct row *row, qn_node *const *x)
{
    (void)row;
    qn_node *lower = qn_slice(qn_slice(x[0], 0, 1, 4), 1, 0, 5);
    qn_node *upper = qn_slice(qn_slice(x[0], 0, 0, 3), 1, 2, 7), *diagonal = qn_mul(lower, upper);
    qn_node *column = qn_slice(qn_transpose(x[0], 0, 1), 0, 4, 5);
    return qn_add(diagonal, qn_reshape(qn_slice(column, 1, 0, 3), QN_SHAPE(3, 1)));
}
static struct array reference_views(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = array_new(QN_SHAPE(3, 5));
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 5; j++)
            y.at[i * 5 + j] =
                x[0].at[(i + 1) * 7 + j] * x[0].at[i * 7 + j + 2] + x[0].at[i * 7 + 4];
    return y;
}

static qn_node *build_reshape_to_row(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_reshape(x[0], (qn_shape){1, {qn_shape_count(qn_node_shape(x[0]))}});
}
static struct array reference_reshape_to_row(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_reshape(x[0], (qn_shape){1, {x[0].count}});
}
static qn_node *build_transpose(const struct row *row, qn_node *const *x)
{
    return qn_transpose(x[0], (int)row->a, (int)row->b);
}
static struct array reference_of_transpose(const struct row *row, const struct array *x)
{
    return reference_transpose(x[0], (int)row->a, (int)row->b);
}
static qn_node *build_slice(const struct row *row, qn_node *const *x)
{
    return qn_slice(x[0], (int)row->a, 1, 4);
}
static struct array reference_of_slice(const struct row *row, const struct array *x)
{
    return reference_slice(x[0], (int)row->a, 1, 4);
}
static qn_node *build_broadcast(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_broadcast(x[0], QN_SHAPE(3, 4, 5, 6));
}
static struct array reference_of_broadcast(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_broadcast(x[0], QN_SHAPE(3, 4, 5, 6));
}
static qn_node *build_concat(const struct row *row, qn_node *const *x)
{
    return qn_concat(x, 3, (int)row->a);
}
static struct array reference_of_concat(const struct row *row, const struct array *x)
{
    return reference_concat(x, 3, (int)row->a);
}
/* Parts that are computed, so that they can be computed in place; one of them twice. */
static qn_node *build_concat_computed(const struct row *row, qn_node *const *x)
{
    qn_node *twice = qn_scale(x[0], 2);
    return qn_concat((qn_node *[]){twice, qn_neg(x[1]), twice}, 3, (int)row->a);
}
static struct array reference_concat_computed(const struct row *row, const struct array *x)
{
    struct array parts[3] = {array_new(x[0].shape), array_new(x[1].shape)};
    for (size_t i = 0; i < x[0].count; i++)
        parts[0].at[i] = 2 * x[0].at[i];
    for (size_t i = 0; i < x[1].count; i++)
        parts[1].at[i] = -x[1].at[i];
    parts[2] = parts[0];
    return reference_concat(parts, 3, (int)row->a);
}

/* Copies are exact; gradients add up what several readers say. */
/* clang-format off */
static const struct row rows_of_shape[] = {
    {ROW("shape", "reshape", "n", 1, 0, 1e-6, true, build_reshape_to_row, reference_reshape_to_row), .cases = {"5x7x3", "9x5t", "1x1", "3x5x8t", "7x9s"}},
    {ROW("shape", "transpose", "n", 1, 0, 1e-6, true, build_transpose, reference_of_transpose), .cases = {"5x7x3", "1x67x65", "3x5x8t", "2x7x9s"}, .a = 0, .b = 2},
    {ROW("shape", "transpose_last", "n", 1, 0, 1e-6, true, build_transpose, reference_of_transpose), .cases = {"67x131", "2x7x9r"}, .a = -1, .b = -2},
    {ROW("shape", "slice_first", "n", 1, 0, 1e-6, true, build_slice, reference_of_slice), .cases = {"5", "5x7x3", "4x9s"}, .a = 0},
    {ROW("shape", "slice_last", "n", 1, 0, 1e-6, true, build_slice, reference_of_slice), .cases = {"7x5", "3x7x67", "4x9t"}, .a = -1},
    {ROW("shape", "broadcast", "n", 1, 0, 4e-6, true, build_broadcast, reference_of_broadcast), .cases = {"-", "6", "5x1", "3x1x5x1", "1x1x1x1"}},
    {ROW("shape", "concat_first", "nnn", 7, 0, 1e-6, true, build_concat, reference_of_concat), .cases = {"3x5 4x5 1x5", "67 1 131", "128 256 128", "4x9t 2x9s 3x9r"}, .a = 0},
    {ROW("shape", "concat_last", "nnn", 7, 0, 1e-6, true, build_concat, reference_of_concat), .cases = {"3x5 3x4 3x1", "7x67x3 7x67x2 7x67x5", "4x9t 4x2s 4x3r"}, .a = -1},
    {ROW("shape", "concat_of_i32", "www", 0, 0, 0, true, build_concat, reference_of_concat), .cases = {"3x5 4x5 1x5"}, .a = 0},
    {ROW("shape", "concat_computed", "nn", 3, 0, 1e-6, true, build_concat_computed, reference_concat_computed), .cases = {"128 256", "3x7 5x7", "256x2 128x2"}, .a = 0},
    {ROW("shape", "heads", "n", 1, 0, 1e-6, true, build_heads, reference_heads), .cases = {"3x8x5", "3x8x5t", "3x8x5s"}},
    {ROW("shape", "split", "n", 1, 8 * ULP, 2e-6, true, build_split, reference_split), .cases = {"6x9", "6x9t", "6x9s"}},
    {ROW("shape", "views", "n", 1, 2e-7, 1e-6, false, build_views, reference_views), .cases = {"4x7", "4x7t", "4x7s"}},
};
/* clang-format on */

/* ---- Reductions ---- */

static qn_node *build_sum(const struct row *row, qn_node *const *x)
{
    return qn_sum(x[0], (unsigned)row->a);
}
static qn_node *build_mean(const struct row *row, qn_node *const *x)
{
    return qn_mean(x[0], (unsigned)row->a);
}
static qn_node *build_max(const struct row *row, qn_node *const *x)
{
    return qn_max(x[0], (unsigned)row->a);
}
static qn_node *build_sum_squares(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_sum_squares(x[0]);
}
static unsigned axes_of(const struct row *row, const struct array *x)
{
    return (unsigned)row->a & ((1u << x->shape.rank) - 1);
}
static struct array reference_sum(const struct row *row, const struct array *x)
{
    return reference_reduce(x[0], axes_of(row, x), REDUCE_SUM);
}
static struct array reference_mean(const struct row *row, const struct array *x)
{
    return reference_reduce(x[0], axes_of(row, x), REDUCE_MEAN);
}
static struct array reference_max(const struct row *row, const struct array *x)
{
    return reference_reduce(x[0], axes_of(row, x), REDUCE_MAX);
}
static struct array reference_sum_squares(const struct row *row, const struct array *x)
{
    (void)row;
    struct array squares = array_new(x[0].shape);
    for (size_t i = 0; i < x[0].count; i++)
        squares.at[i] = x[0].at[i] * x[0].at[i];
    return reference_reduce(squares, QN_ALL >> (32 - QN_MAX_RANK), REDUCE_SUM);
}

/* Sums round at most once for each of the few levels at which parts are added; the tolerance is of
 * the greatest sum, which in a sum of random signs is the root of the count, so 1e-6 leaves a
 * factor of a few. */
#define REDUCTION(operation, suffix, letters, mask, error, ...)                                    \
    {                                                                                              \
        ROW("reduce", #operation suffix, letters, 1, error, 4e-6, false, build_##operation,        \
            reference_##operation),                                                                \
            .cases = {__VA_ARGS__}, .a = mask                                                      \
    }
/* clang-format off */
static const struct row rows_of_reduce[] = {
    REDUCTION(sum, "_all", "n", QN_ALL, 2e-6, "1", "-", "67", "5x7x3", "40009", "2x3x5x7", "65x67t", "33x5s", "33x5r"),
    REDUCTION(sum, "_last", "n", 4, 1e-6, "5x7x3", "1x1x1", "2x3x1031", "3x5x8t", "3x5x8s"),
    REDUCTION(sum, "_first", "n", 1, 1e-6, "5", "5x7", "1031x3", "33x67x2", "67x9t", "67x9s", "3001x65"),
    REDUCTION(sum, "_middle", "n", 2, 1e-6, "5x7x3", "3x131x5", "2x67x33t", "2x67x33s"),
    REDUCTION(sum, "_outer", "n", 5, 1e-6, "5x7x3", "33x2x67", "5x4x3x2t"),
    REDUCTION(sum, "_two", "n", 10, 1e-6, "5x7x3x9", "2x3x4x131"),
    REDUCTION(mean, "_all", "n", QN_ALL, 4e-6, "1", "5x7x3", "4099", "6x7b"),
    REDUCTION(mean, "_last", "n", 2, 1e-6, "5x67", "67x5t"),
    REDUCTION(mean, "_first", "n", 1, 1e-6, "5x67", "67x5t"),
    REDUCTION(max, "_all", "d", QN_ALL, 0, "1", "67", "4099", "65x67t", "33x5s"),
    REDUCTION(max, "_last", "d", 2, 0, "5x7", "3x1031", "67x9t"),
    REDUCTION(max, "_first", "d", 1, 0, "5x7", "1031x3", "67x9t"),
    {ROW("reduce", "sum_squares", "n", 1, 1e-6, 4e-6, false, build_sum_squares, reference_sum_squares), .cases = {"1", "67", "40009", "65x67t", "33x5s"}},
};
/* clang-format on */

/* ---- Matrices ---- */

static const struct qn_matmul plain = {0}, transposed_a = {.transpose_a = true},
                              transposed_b = {.transpose_b = true},
                              transposed_both = {.transpose_a = true, .transpose_b = true},
                              with_relu = {.activation = QN_RELU},
                              with_gelu = {.activation = QN_GELU},
                              with_gelu_b = {.transpose_b = true, .activation = QN_GELU};

static qn_node *build_matmul(const struct row *row, qn_node *const *x)
{
    struct qn_matmul matmul = *(const struct qn_matmul *)row->options;
    matmul.bias = row->operands[2] ? x[2] : NULL;
    return qn_matmul_with(x[0], x[1], matmul);
}
static struct array reference_of_matmul(const struct row *row, const struct array *x)
{
    const struct qn_matmul *matmul = row->options;
    struct array y = reference_matmul(x[0], x[1], matmul->transpose_a, matmul->transpose_b);
    size_t columns = y.shape.size[y.shape.rank - 1];
    for (size_t i = 0; i < y.count; i++) {
        y.at[i] += row->operands[2] ? x[2].at[i % columns] : 0;
        if (matmul->activation == QN_RELU)
            y.at[i] = fmax(y.at[i], 0);
        if (matmul->activation == QN_GELU)
            y.at[i] = reference_gelu(y.at[i]);
    }
    return y;
}
/* A product of a transposed view and a gelu apart: simplify and fusion must not change what it is.
 */
static qn_node *build_matmul_apart(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_gelu(qn_add(qn_matmul(qn_transpose(x[0], 0, 1), qn_transpose(x[1], 0, 1)), x[2]));
}
static struct array reference_matmul_apart(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = reference_matmul(x[0], x[1], true, true);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = reference_gelu(y.at[i] + x[2].at[i % x[2].count]);
    return y;
}

/* A sum of k products of random signs is as large as the root of k, its f32 rounding errors at most
 * as that of k: for k of about a thousand 30 half ulps of 6e-8, in practice far less. */
#define MATMUL(title, letters, with, slope, ...)                                                   \
    {                                                                                              \
        ROW("matmul", title, letters, slope, 2e-6, 4e-6, false, build_matmul,                      \
            reference_of_matmul),                                                                  \
            .cases = {__VA_ARGS__}, .options = &with                                               \
    }
/* clang-format off */
static const struct row rows_of_matmul[] = {
    MATMUL("matmul", "nn", plain, 3, "33x67 67x17", "1x1 1x1", "1x67 67x131", "65x1 1x33", "129x65 65x257", "5x4099 4099x7",
           "33x67t 67x17s", "33x67s 67x17t", "33x67r 67x17r"),
    MATMUL("matmul_ta", "nn", transposed_a, 3, "67x33 67x17", "67x1 67x5", "131x65 131x67", "33x9t 33x7s"),
    MATMUL("matmul_tb", "nn", transposed_b, 3, "33x67 17x67", "1x67 131x67", "65x131 67x131", "9x33s 7x33r", "4x96 259x96"),
    MATMUL("matmul_tab", "nn", transposed_both, 3, "67x33 17x67", "131x65 67x131"),
    MATMUL("matmul_batch", "nn", plain, 3, "3x9x13 3x13x7", "2x3x9x5 2x3x5x11", "2x3x9x5t 2x3x5x11", "4x1x67 4x67x33", "2x9x5s 2x5x11r"),
    MATMUL("matmul_batch_tb", "nn", transposed_b, 3, "3x9x13 3x7x13", "2x3x17x16 2x3x17x16"),
    MATMUL("matmul_batch_ta", "nn", transposed_a, 3, "3x13x9 3x13x7"),
    MATMUL("matmul_shared", "nn", plain, 3, "3x9x13 13x7", "2x3x5x16 16x33", "3x9x13s 13x7", "3x9x13b 13x7"),
    MATMUL("matmul_shared_ta", "nn", transposed_a, 3, "3x13x9 13x7"),
    MATMUL("linear", "nnn", plain, 7, "33x67 67x17 17", "2x9x67 67x17 17", "1x33 33x65 65", "7x5 5x9 9s"),
    MATMUL("linear_relu", "nnn", with_relu, 7, "33x67 67x17 17", "1x33 33x65 65"),
    MATMUL("linear_gelu", "nnn", with_gelu, 7, "33x67 67x17 17", "3x5x16 16x64 64", "1x33 33x65 65"),
    MATMUL("linear_gelu_tb", "nnn", with_gelu_b, 7, "33x67 17x67 17"),
    {ROW("matmul", "matmul_apart", "nnn", 7, 2e-6, 4e-6, false, build_matmul_apart, reference_matmul_apart), .cases = {"67x33 17x67 17"}},
};
/* clang-format on */

/* ---- Attention ---- */

static const struct qn_attention everything = {0}, causal = {.is_causal = true},
                                 causal_scaled = {.is_causal = true, .scale = 0.37f};

static qn_node *build_attention(const struct row *row, qn_node *const *x)
{
    struct qn_attention attention = *(const struct qn_attention *)row->options;
    attention.position = strlen(row->operands) == 4 ? x[3] : NULL;
    return qn_attention(x[0], x[1], x[2], attention);
}
static struct array reference_of_attention(const struct row *row, const struct array *x)
{
    const struct qn_attention *attention = row->options;
    double scale =
        attention->scale > 0 ? (double)attention->scale : 1 / sqrt((double)x[0].shape.size[3]);
    ptrdiff_t first = (ptrdiff_t)x[1].shape.size[1] - (ptrdiff_t)x[0].shape.size[1];
    return reference_attention(x[0], x[1], x[2], attention->is_causal, scale,
                               strlen(row->operands) == 4 ? (ptrdiff_t)x[3].at[0] : first);
}
/* q, k and v as GPT-2 has them: parts of one (B, T, 3 C). */
static qn_node *build_attention_of_one(const struct row *row, qn_node *const *x)
{
    qn_node *parts[3];
    qn_shape shape = qn_node_shape(x[0]);
    qn_split(x[0], -1, 3, parts);
    for (int i = 0; i < 3; i++)
        parts[i] =
            qn_reshape(parts[i], QN_SHAPE(shape.size[0], shape.size[1], 4, shape.size[2] / 12));
    qn_node *y =
        qn_attention(parts[0], parts[1], parts[2], *(const struct qn_attention *)row->options);
    return qn_reshape(y, QN_SHAPE(shape.size[0], shape.size[1], shape.size[2] / 3));
}
static struct array reference_attention_of_one(const struct row *row, const struct array *x)
{
    struct array parts[3];
    const qn_shape *shape = &x[0].shape;
    size_t width = shape->size[2] / 3;
    for (size_t i = 0; i < 3; i++)
        parts[i] = reference_reshape(reference_slice(x[0], -1, i * width, (i + 1) * width),
                                     QN_SHAPE(shape->size[0], shape->size[1], 4, width / 4));
    return reference_reshape(reference_of_attention(row, parts),
                             QN_SHAPE(shape->size[0], shape->size[1], width));
}

/* Scores are sums of D products, and the exponential makes their absolute error a relative one. */
#define ATTENTION(title, letters, with, slope, ...)                                                \
    {                                                                                              \
        ROW("attention", title, letters, slope, 3e-6, 1e-5, false, build_attention,                \
            reference_of_attention),                                                               \
            .cases = {__VA_ARGS__}, .options = &with                                               \
    }
/* clang-format off */
static const struct row rows_of_attention[] = {
    ATTENTION("attention", "nnn", everything, 7, "2x33x3x16 2x33x3x16 2x33x3x16", "1x1x1x1 1x1x1x1 1x1x1x1", "2x5x2x64 2x33x2x64 2x33x2x64",
              "1x33x3x16 1x1x3x16 1x1x3x16", "1x17x2x80 1x17x2x80 1x17x2x80", "1x9x2x7 1x67x2x7 1x67x2x7"),
    ATTENTION("attention_causal", "nnn", causal, 7, "1x67x3x16 1x67x3x16 1x67x3x16", "2x1x3x16 2x1x3x16 2x1x3x16", "1x131x2x32 1x131x2x32 1x131x2x32",
              "2x5x2x16 2x67x2x16 2x67x2x16", "1x33x1x128 1x33x1x128 1x33x1x128", "2x9x3x16s 2x9x3x16r 2x9x3x16s"),
    ATTENTION("attention_scaled", "nnn", causal_scaled, 7, "1x33x2x16 1x33x2x16 1x33x2x16"),
    ATTENTION("attention_at", "nnn3", causal, 0, "2x1x3x16 2x67x3x16 2x67x3x16 1", "2x5x3x16 2x33x3x16 2x33x3x16 1", "1x1x2x64 1x1031x2x64 1x1031x2x64 1"),
    ATTENTION("attention_decode", "nnn", causal, 0, "2x1x3x16 2x67x3x16 2x67x3x16", "1x1x2x64 1x3001x2x64 1x3001x2x64"),
    {ROW("attention", "attention_of_one", "n", 1, 3e-6, 1e-5, false, build_attention_of_one, reference_attention_of_one), .cases = {"2x17x96", "1x67x192"}, .options = &causal},
};
/* clang-format on */

/* ---- Rows and tables ---- */

static qn_node *build_softmax(const struct row *row, qn_node *const *x)
{
    return qn_softmax(x[0], (int)row->a);
}
static struct array reference_of_softmax(const struct row *row, const struct array *x)
{
    return reference_softmax(x[0], (int)row->a);
}
static qn_node *build_layer_norm(const struct row *row, qn_node *const *x)
{
    return qn_layer_norm(x[0], x[1], x[2], row->a);
}
static struct array reference_of_layer_norm(const struct row *row, const struct array *x)
{
    return reference_layer_norm(x[0], x[1], x[2], row->a);
}
static qn_node *build_cross_entropy(const struct row *row, qn_node *const *x)
{
    return qn_cross_entropy_with(x[0], x[1], *(const struct qn_cross_entropy *)row->options);
}
static struct array reference_of_cross_entropy(const struct row *row, const struct array *x)
{
    return reference_cross_entropy(x[0], x[1], *(const struct qn_cross_entropy *)row->options);
}
static qn_node *build_correct(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_correct(x[0], x[1]);
}
static struct array reference_of_correct(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_correct(x[0], x[1]);
}
static qn_node *build_embedding(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_embedding(x[0], x[1]);
}
static struct array reference_of_embedding(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_embedding(x[0], x[1]);
}

static const struct qn_cross_entropy mean = {.ignore_index = -100},
                                     smooth = {.ignore_index = -100, .label_smoothing = 0.1f},
                                     smooth_ignore = {.ignore_index = 0, .label_smoothing = 0.25f},
                                     sum = {.ignore_index = -100, .sum = true};

/* Softmax and losses: the exponential's argument, up to 100, is rounded by half a unit of its last
 * place, 4e-6; else a few roundings.  A mean of 100 leaves layer_norm 2 digits fewer. */
/* clang-format off */
static const struct row rows_of_rows[] = {
    {ROW("rows", "softmax", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = -1,
     .cases = {"3x5x37", "5x1", "1x1", "4x33", "2x1031", "3x65", "65x3t", "7x33s", "131x17r"}},
    {ROW("rows", "softmax_high", "h", 1, 8e-6, 2e-5, false, build_softmax, reference_of_softmax), .a = -1, .cases = {"4x67", "2x4099"}},
    {ROW("rows", "softmax_first", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = 0, .cases = {"7x5", "33", "3x2x9"}},
    {ROW("rows", "softmax_middle", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = 1, .cases = {"2x7x5", "2x67x3"}},
    {ROW("rows", "layer_norm", "nnn", 7, 1e-6, 4e-6, false, build_layer_norm, reference_of_layer_norm), .a = 1e-5,
     .cases = {"3x5x37 37 37", "7x64 64 64", "1x33 33 33", "3x1031 1031 1031", "300x17 17 17", "9x33s 33 33s", "33x9t 9 9", "131x16r 16r 16"}},
    {ROW("rows", "layer_norm_far", "fnn", 7, 4e-5, 2e-4, false, build_layer_norm, reference_of_layer_norm), .a = 1e-5, .cases = {"4x48 48 48", "2x769 769 769"}},
    {ROW("rows", "cross_entropy", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &mean,
     .cases = {"7x37 7", "1x1 1", "3x6x29 3x6", "3x5003 3", "131x65 131", "17x5t 17", "7x33s 7s"}},
    {ROW("rows", "cross_entropy_high", "hc", 1, 4e-6, 2e-5, false, build_cross_entropy, reference_of_cross_entropy), .options = &mean, .cases = {"5x19 5", "3x1031 3"}},
    {ROW("rows", "cross_entropy_smooth", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &smooth,
     .cases = {"8x41 8", "3x1031 3"}},
    {ROW("rows", "cross_entropy_ignore", "nv", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &smooth_ignore,
     .cases = {"8x5 8", "2x33x7 2x33"}},
    {ROW("rows", "cross_entropy_sum", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &sum,
     .cases = {"4x17 4", "131x65 131"}},
    {ROW("rows", "correct", "dc", 0, 0, 0, true, build_correct, reference_of_correct), .cases = {"7x3 7", "131x2 131", "3x67x2 3x67", "2x1031 2"}},
    {ROW("rows", "embedding", "ni", 1, 0, 2e-6, true, build_embedding, reference_of_embedding),
     .cases = {"17x9 2x13", "1x1 1", "5x33 21", "257x16 300", "1031x8 64", "3x65 4x1x2", "9x7t 5", "9x33s 5x3t", "4x1 67"}},
};
/* clang-format on */

/* ---- AdamW ---- */

static const struct qn_adamw adamw = {
    .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.1};

static qn_node *build_adamw(const struct row *row, qn_node *const *x)
{
    return qn_output(qn_adamw(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], adamw), (int)row->a);
}
static struct array reference_adamw(const struct row *row, const struct array *x)
{
    double rate = x[4].at[0], scale = x[5].at[0], t = x[6].at[0];
    int output = (int)row->a;
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++) {
        double gradient = scale * x[3].at[i];
        double m = adamw.beta1 * x[1].at[i] + (1 - adamw.beta1) * gradient;
        double v = adamw.beta2 * x[2].at[i] + (1 - adamw.beta2) * gradient * gradient;
        double step =
            m / (1 - pow(adamw.beta1, t)) / (sqrt(v / (1 - pow(adamw.beta2, t))) + adamw.epsilon);
        double parameter = x[0].at[i] * (1 - rate * adamw.weight_decay) - rate * step;
        double found[] = {parameter, m, v};
        y.at[i] = x[7].at[0] == 0 ? x[output].at[i] : found[output];
    }
    return y;
}

/* Some ten roundings, one of a difference of nearly equal numbers: of 1 and a power of beta2. */
#define ADAMW(title, letters, number)                                                              \
    {                                                                                              \
        ROW("adamw", title, letters, 0, 2e-6, 0, false, build_adamw, reference_adamw),             \
            .a = number, .cases = {                                                                \
                "67 67 67 67 - - - -",                                                             \
                "1 1 1 1 1 1 1 1",                                                                 \
                "5x9 5x9 5x9 5x9 - - - -",                                                         \
                "4099 4099 4099 4099 - - - -"                                                      \
            }                                                                                      \
    }
/* clang-format off */
static const struct row rows_of_adamw[] = {
    ADAMW("adamw_parameters", "nnpnpp11", 0),
    ADAMW("adamw_parameters_later", "nnpnpp51", 0),
    ADAMW("adamw_m", "nnpnpp51", 1),
    ADAMW("adamw_v", "nnpnpp51", 2),
    ADAMW("adamw_gate", "nnpnpp50", 0),
    ADAMW("adamw_gate_m", "nnpnpp50", 1),
    ADAMW("adamw_gate_v", "nnpnpp50", 2),
};
/* clang-format on */

/* ---- All tables ---- */

#define TABLE(rows, kind)                                                                          \
    {                                                                                              \
        rows, sizeof rows / sizeof *rows, kind                                                     \
    }
static const struct table {
    const struct row *rows;
    size_t count;
    int kind; /* of the pretences */
} tables[] = {
    TABLE(rows_of_one, ELEMENTWISE),       TABLE(rows_of_special, ELEMENTWISE),
    TABLE(rows_of_two, ELEMENTWISE),       TABLE(rows_of_two_i32, ELEMENTWISE),
    TABLE(rows_with_numbers, ELEMENTWISE), TABLE(rows_of_shape, VARIANTS),
    TABLE(rows_of_reduce, VARIANTS),       TABLE(rows_of_matmul, VARIANTS),
    TABLE(rows_of_attention, VARIANTS),    TABLE(rows_of_rows, VARIANTS),
    TABLE(rows_of_adamw, VARIANTS),
};
enum { TABLES = sizeof tables / sizeof *tables, PRETENCES = sizeof pretences / sizeof *pretences };

static void usage(void)
{
    puts("tests/ops.t [--list] [--only GROUP|NAME] [--variant NAME] [--seed N] [--grad]\n"
         "    --list     print groups and names of rows\n"
         "    --only     run these rows only\n"
         "    --variant  run the rows with this variant only\n"
         "    --seed     draw other operands\n"
         "    --grad     compare gradients only");
}

static void list(void)
{
    for (size_t i = 0; i < TABLES; i++)
        for (size_t j = 0; j < tables[i].count; j++)
            printf("%s %s\n", tables[i].rows[j].group, tables[i].rows[j].name);
}

static void parse_options(int argc, char **argv)
{
    static const struct option words[] = {
        {"list", no_argument, NULL, 'l'},          {"only", required_argument, NULL, 'o'},
        {"variant", required_argument, NULL, 'v'}, {"seed", required_argument, NULL, 's'},
        {"grad", no_argument, NULL, 'g'},          {0},
    };
    for (int letter; (letter = getopt_long(argc, argv, "", words, NULL)) != -1;) {
        switch (letter) {
        case 'l':
            list();
            exit(0);
        case 'o':
            options.only = optarg;
            break;
        case 'v':
            options.variant = optarg;
            break;
        case 's':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'g':
            options.gradients_only = true;
            break;
        default:
            usage();
            exit(2);
        }
    }
}

/* QUERN_CAPS of the user, then of the pretence, which wins. */
static qn_context *open_as(const struct pretence *pretence, const char *users)
{
    char caps[512];
    snprintf(caps, sizeof caps, "%s%s%s", users, *users && *pretence->caps ? "," : "",
             pretence->caps);
    setenv("QUERN_CAPS", caps, 1);
    qn_context *context = qn_open(NULL);
    if (!context)
        bail_out("no device: %s", qn_error(NULL));
    context->guard_bytes = GUARD;
    return context;
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    const char *set = getenv("QUERN_CAPS");
    char users[256];
    snprintf(users, sizeof users, "%s", set ? set : "");
    struct qn_caps native = {0};
    for (size_t i = 0; i < PRETENCES; i++) {
        qn_context *context = open_as(&pretences[i], users);
        if (i == 0)
            native = context->caps;
        if (i > 0 && context->caps.device_class == native.device_class &&
            context->caps.float_width == native.float_width) {
            qn_close(context); /* it is that already */
            continue;
        }
        note("%s, QUERN_CAPS=\"%s\"", qn_device_name(context), getenv("QUERN_CAPS"));
        for (size_t j = 0; j < TABLES; j++)
            if (pretences[i].rows == ALL || (int)pretences[i].rows == tables[j].kind)
                run_group(context, tables[j].rows, tables[j].count);
        struct qn_counters counters = qn_counters(context);
        note("%zu kernels built, %zu programs loaded, %.1f s", counters.kernels_built,
             counters.programs_loaded, counters.build_seconds);
        qn_close(context);
    }
    return done_testing();
}

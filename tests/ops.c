/* Every operation, every variant that fits, against double arithmetic (reference.h) and central
 * differences of it.
 *
 * A row says how an operation is built, what it should give, and for which shapes.  To test an
 * operation: a row in a table of ops_*.c, and if it is new to arithmetic, a function in
 * reference.c.  The rows of a group share a plan, which is fast to compile.  For each the driver
 *   1. builds the nodes from operands that are whole tensors or views of larger ones, and their
 *      gradients of a random weighted sum;
 *   2. makes a plan with the variants a device would choose, then one for each other variant that
 *      fits;
 *   3. fills the arena with NaNs, runs, and compares values and gradients;
 *   4. looks for writes outside of intermediates and into tensors that are only read, and runs
 *      again for the same bits. */
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

#include "ops.h"
#include "tap.h"

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

static struct {
    const char *only, *variant;
    uint64_t seed;
    bool gradients_only;
    unsigned types;
    enum qn_type type; /* of real operands: the one that is being tested */
} options = {.seed = 1, .types = ~0u};

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

/* Of an operand: real numbers are of the type that is being tested; but slopes are f32 with any. */
static enum qn_type type_of(char letter)
{
    return strchr("wicvzl389", letter) ? QN_I32 : letter == 'u' ? QN_F32 : options.type;
}

/* ---- Types ---- */

/* Half a unit in the last place of 1, the greatest number and the least that has all digits. */
static const struct precision {
    double half_ulp, greatest, least;
} precisions[] = {[QN_F32] = {FLT_EPSILON / 2, FLT_MAX, FLT_MIN},
                  [QN_F16] = {0x1p-11, 65504, 0x1p-14},
                  [QN_BF16] = {0x1p-8, 0x1.FEp127, FLT_MIN}};

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float float_of_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t f16_of(float value)
{
    float size = fabsf(value);
    int exponent = size >= 0x1p-14f ? ilogbf(size) : -14;
    double units = rint(ldexp((double)size, 10 - exponent)); /* below 1024: less than all digits */
    double bits = isnan(value) ? 0x7E00 : fmin(1024.0 * (exponent + 14) + units, 0x7C00);
    return (uint16_t)((signbit(value) ? 0x8000 : 0) | (uint16_t)bits);
}

static double number_of_f16(uint16_t half)
{
    int exponent = half >> 10 & 31, units = half & 1023;
    double size = exponent == 31  ? (units ? (double)NAN : INFINITY)
                  : exponent == 0 ? ldexp(units, -24)
                                  : ldexp(1024 + units, exponent - 25);
    return half & 0x8000 ? -size : size;
}

/* The number at place `index` of memory of a type, and what it becomes there. */
static double get_number(const void *memory, size_t index, enum qn_type type)
{
    switch (type) {
    case QN_I32:
        return ((const int32_t *)memory)[index];
    case QN_BF16:
        return float_of_bf16(((const uint16_t *)memory)[index]);
    case QN_F16:
        return number_of_f16(((const uint16_t *)memory)[index]);
    default:
        return ((const float *)memory)[index];
    }
}

static void put_number(void *memory, size_t index, enum qn_type type, double number)
{
    switch (type) {
    case QN_I32:
        ((int32_t *)memory)[index] = (int32_t)number;
        break;
    case QN_BF16:
        ((uint16_t *)memory)[index] = bf16_of((float)number);
        break;
    case QN_F16:
        ((uint16_t *)memory)[index] = f16_of((float)number);
        break;
    default:
        ((float *)memory)[index] = (float)number;
    }
}

static double rounded_to(enum qn_type type, double number)
{
    float memory;
    put_number(&memory, 0, type, number);
    return get_number(&memory, 0, type);
}

static double special(size_t index)
{
    static const double values[] = {0,      -0.0, 1,     -1, 0.5, -0.5, 1e-30,
                                    -1e-30, 1e-4, -1e-4, 10, -10, 100,  -100,
                                    1000,   87,   -87,   3,  -3,  20,   NAN};
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
    case 'x': /* masked: two of three are */
        return random_word32(key, index) % 3 ? -INFINITY : normal(key, index);
    case 'f': /* far from zero: a variance as a difference of squares would fail */
        return 100 + normal(key, index);
    case 'o': /* an outlier in front */
        return index == 0 ? 1000 : normal(key, index);
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
    case '8': /* i32: from 2^24 + 1 on */
        return 16777217 + 7919.0 * (double)index;
    case '9': /* i32 */
        return 2990;
    case 'l': /* i32: a length, of no row or of more than all now and then */
        return (double)(random_word32(key, index) % 70);
    case 'u': /* from 0 to 1/8 */
        return uniform(key, index) / 8;
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
 * whole tensor, or
 *   t   with its last two axes swapped
 *   s   with gaps along the last axis
 *   r   some rows of a taller one, so that it does not begin at its beginning
 *   b   one number or row repeated along the first axis */
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
    size_t last = operand->shape.rank ? operand->shape.size[operand->shape.rank - 1] : 1;
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
    enum qn_type type = type_of(letter);
    uint64_t key = key_of(check->shapes, number);
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
        put_number(check->memory[number], i, type, type == QN_I32 ? -77777 : (double)NAN);
    for (size_t i = 0; i < x->count; i++)
        put_number(check->memory[number], base_position(operand, i), type, x->at[i]);
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
    note("%s%s%stests/ops.t --only %s --type %s --seed %llu", caps && *caps ? "QUERN_CAPS=" : "",
         caps ? caps : "", caps && *caps ? " " : "", check->row->name, qn_type_name(options.type),
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
        enum qn_type type = qn_node_type(check->out);
        check->seed = qn_input(graph, "weight", type, qn_node_shape(check->out));
        check->weight = array_new(check->expected.shape);
        for (size_t i = 0; i < check->weight.count; i++)
            check->weight.at[i] = rounded_to(type, normal(key_of(check->shapes, 99), i));
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

/* Errors are measured by this at least. */
static double least_scale(enum qn_type type)
{
    return type == QN_F16 ? precisions[type].least : FLT_MIN / 1e-7;
}

/* What a row allows, and some roundings to 16 bits: of the result, and of values on the way, more for gradients. */
static double allowed(double tolerance, int roundings)
{
    return options.type == QN_F32 ? tolerance
                                  : tolerance + roundings * precisions[options.type].half_ulp;
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

static void report(const struct check *check, const char *variant, const char *what,
                   struct difference difference, double tolerance, const qn_shape *shape)
{
    const struct row *row = check->row;
    bool passed = difference.error <= tolerance;
    const char *caps = check->out->graph->context->device ? getenv("QUERN_CAPS") : NULL;
    ok(passed, "%s %s %s%s%s%s: error %.1e, allowed %.1e%s%s", row->name,
       qn_type_name(options.type), check->shapes, *variant ? " " : "", variant, what,
       difference.error, tolerance, caps && *caps ? ", with " : "", caps ? caps : "");
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
    void *raw = malloc(qn_type_bytes(qn_node_type(node), count));
    double *numbers = array_new(qn_node_shape(node)).at;
    if (!raw)
        bail_out("out of memory");
    if (qn_get(plan, node, raw) != QN_OK)
        note("%s", qn_error(node->graph->context));
    for (size_t i = 0; i < count; i++)
        numbers[i] = get_number(raw, i, qn_node_type(node));
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
        double error = fabs(mine.at[i] - expected.at[i]) / fmax(scale, least_scale(options.type));
        if (!(error <= worst.error)) /* so that a NaN is the worst */
            worst = (struct difference){isnan(error) ? INFINITY : error, where[i], mine.at[i],
                                        expected.at[i]};
    }
    const struct row *row = check->row;
    char what[32];
    snprintf(what, sizeof what, ", gradient of %zu", operand);
    report(check, variant, what, worst,
           allowed(row->gradient_tolerance > 0 ? row->gradient_tolerance : 4 * row->tolerance, 8),
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
    enum qn_type type = qn_node_type(check->seed);
    void *weight = malloc(qn_type_bytes(type, check->weight.count));
    if (!weight)
        bail_out("out of memory");
    for (size_t i = 0; i < check->weight.count; i++)
        put_number(weight, i, type, check->weight.at[i]);
    qn_set(plan, check->seed, weight);
    free(weight);
}

/* Where loops are cut after 65,535 turns, a work-item may not have more than this to read. */
enum { MOST_OF_CUT_LOOPS = 1 << 18 };

static void compare_all(qn_plan *plan, struct check *check, const char *forced)
{
    const struct row *row = check->row;
    const char *variant = variant_name(check, forced);
    const struct device *device = check->out->graph->context->device;
    size_t most = 0;
    for (size_t i = 0; i < check->n_operands; i++)
        most = check->x[i].count > most ? check->x[i].count : most;
    if (device->info.cuts_loops && most > MOST_OF_CUT_LOOPS) {
        skip("the driver cuts long loops short: see its quirks");
        return;
    }
    void *mark = arrays_mark();
    if (!options.gradients_only) {
        double *found = numbers_of(plan, check->out);
        report(check, variant, "",
               compare(found, check->expected.at, check->expected.count, row->is_relative,
                       qn_node_type(check->out)),
               allowed(row->tolerance, 4), &check->expected.shape);
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

/* Beginnings of the names of rows of operations that take f32 only; of operands that would no longer differ in 16 bits; and of gradients
 * that are small differences of probabilities near 1. */
static const char *const of_f32[] = {"cumsum", "argmax",  "top_",        "sample",
                                     "adamw",  "max_all", "softmax_high"};

static bool has_type(const struct row *row)
{
    bool is_f32 = false;
    for (size_t i = 0; i < sizeof of_f32 / sizeof *of_f32; i++)
        is_f32 = is_f32 || strncmp(row->name, of_f32[i], strlen(of_f32[i])) == 0;
    return options.type == QN_F32 || !is_f32;
}

static bool is_wanted(const struct row *row)
{
    bool is_named = !options.only || strcmp(options.only, row->group) == 0 ||
                    strcmp(options.only, row->name) == 0;
    return is_named && has_type(row);
}

static void run_group(qn_context *context, const struct row *rows, size_t n_rows)
{
    struct group group = {.name = rows->group, .graph = qn_graph_new(context)};
    group.checks = calloc(n_rows * MAX_CASES, sizeof *group.checks);
    if (!group.graph || !group.checks)
        bail_out("out of memory");
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; is_wanted(&rows[i]) && j < MAX_CASES && rows[i].cases[j]; j++) {
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

/* ---- All tables ---- */

static const struct table *const tables[] = {elementwise_tables, shape_tables, heavy_tables};
enum { TABLES = sizeof tables / sizeof *tables, PRETENCES = sizeof pretences / sizeof *pretences };

static void usage(void)
{
    puts("tests/ops.t [--list] [--only GROUP|NAME] [--variant NAME] [--type TYPE] [--seed N] "
         "[--grad]\n"
         "    --list     print groups and names of rows\n"
         "    --only     run these rows only\n"
         "    --variant  run the rows with this variant only\n"
         "    --seed     draw other operands\n"
         "    --type     operands of f32, f16 or bf16 only\n"
         "    --grad     compare gradients only");
}

static void list(void)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            for (size_t j = 0; j < table->count; j++)
                printf("%s %s\n", table->rows[j].group, table->rows[j].name);
}

static void parse_options(int argc, char **argv)
{
    static const struct option words[] = {
        {"list", no_argument, NULL, 'l'},
        {"only", required_argument, NULL, 'o'},
        {"variant", required_argument, NULL, 'v'},
        {"seed", required_argument, NULL, 's'},
        {"grad", no_argument, NULL, 'g'},
        {"type", required_argument, NULL, 't'},
        {0},
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
        case 't':
            options.types = 0;
            for (int type = 0; type < QN_TYPES; type++)
                options.types |= (unsigned)(strcmp(optarg, qn_type_name(type)) == 0) << type;
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

static void run_tables(qn_context *context, enum pretended kind)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            if (kind == ALL || kind == table->kind)
                run_group(context, table->rows, table->count);
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
        for (int type = 0; type < QN_TYPES; type++) {
            options.type = (enum qn_type)type;
            if (pretences[i].types & options.types & 1u << type)
                run_tables(context, pretences[i].rows);
        }
        struct qn_counters counters = qn_counters(context);
        note("%zu kernels built, %zu programs loaded, %.1f s", counters.kernels_built,
             counters.programs_loaded, counters.build_seconds);
        qn_close(context);
    }
    return done_testing();
}

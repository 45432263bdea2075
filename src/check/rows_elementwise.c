/* Rows of element-wise operations. */
#include <math.h>

#include "device/philox.h"

#include "check/rows.h"

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
FORMULA_OF_ONE(of_relu, x < 0 ? 0 : x)
FORMULA_OF_ONE(of_is_finite, isfinite(x))

FORMULA_OF_ONE(of_silu, x / (1 + exp(-x)))
FORMULA_OF_ONE(of_gelu_erf, x / 2 * erfc(-x / sqrt(2)))

FORMULA_OF_TWO(of_swiglu, a / (1 + exp(-a)) * b)
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
        .group = "special", .name = #title, .operands = "s", .cases = {"21", "21b", "3x21"},       \
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
    ONE(gelu_erf, "n", of_gelu_erf, 1, 40 * ULP), /* OpenCL allows erfc 16 units, and its argument is up to 3 */
    ONE(silu, "n", of_silu, 1, 10 * ULP),
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
    SPECIAL(silu, of_silu, 12 * ULP),
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
    TWO(pow, "pn", pow, 3, 34 * ULP), /* OpenCL allows 16 units */
    TWO(swiglu, "nn", of_swiglu, 3, 12 * ULP),
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
    qn_node *number = qn_add(qn_cast(x[1], QN_F32), qn_constant(qn_node_graph(x[0]), row->a));
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

/* Random words on the host: elements 16 b to 16 b + 15 take the four words of the blocks 4 b to 4 b +
 * 3, lane l the word l / 4 of block 4 b + l % 4. */
enum { STREAM = 5 };
static uint32_t word_of(size_t index, const struct array *key, uint32_t stream)
{
    size_t block = index / 16 * 4 + index % 4;
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 31 >> 1), stream, 0};
    uint32_t words[2] = {(uint32_t)key->at[0], (uint32_t)key->at[1]};
    return philox(counter, words).word[index % 16 / 4];
}
static qn_node *build_uniform(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_uniform(qn_node_shape(x[0]), x[1], STREAM);
}
static struct array reference_uniform(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = (word_of(i, &x[1], STREAM + (1 << 24)) >> 8) * 0x1p-24;
    return y;
}
static qn_node *build_normal(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_normal(qn_node_shape(x[0]), x[1], STREAM);
}
static struct array reference_normal(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++) {
        double radius = (double)((float)word_of(i, &x[1], STREAM + (2 << 24)) + 0.5f) * 0x1p-32,
               angle = (word_of(i, &x[1], STREAM + (3 << 24)) >> 8) * 0x1p-24;
        y.at[i] = sqrt(-2 * log(radius)) * cos(2 * acos(-1) * angle);
    }
    return y;
}
static qn_node *build_dropout(const struct row *row, qn_node *const *x)
{
    return qn_dropout(x[0], row->a, x[1], STREAM);
}
static struct array reference_dropout(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = (word_of(i, &x[1], STREAM) >> 8) * 0x1p-24 < (double)(float)row->a
                      ? 0
                      : x[0].at[i] / (1 - row->a);
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
    {ROW("numbers", "uniform", "nz", 0, 0, 0, true, build_uniform, reference_uniform), .cases = {"4099 2", "- 2", "5x67 2"}},
    {ROW("numbers", "normal", "nz", 0, 2e-6, 0, false, build_normal, reference_normal), .cases = {"4099 2", "- 2", "5x67 2"}},
    {ROW("numbers", "dropout_tenth", "nz", 1, ULP * 2, 1e-6, true, build_dropout, reference_dropout), .cases = {"4099 2", "- 2", "16 2", "5x67 2", "67x5t 2"}, .a = 0.1},
    {ROW("numbers", "dropout_half", "nz", 1, ULP * 2, 1e-6, true, build_dropout, reference_dropout), .cases = {"4099 2", "5x67 2"}, .a = 0.5},
};
/* clang-format on */

const struct table elementwise_tables[] = {
    TABLE(rows_of_one, ELEMENTWISE),       TABLE(rows_of_special, ELEMENTWISE),
    TABLE(rows_of_two, ELEMENTWISE),       TABLE(rows_of_two_i32, ELEMENTWISE),
    TABLE(rows_with_numbers, ELEMENTWISE), {0},
};

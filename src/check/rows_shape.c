/* Rows of operations that move numbers, add them up or choose among them. */
#include <math.h>

#include "check/rows.h"

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

static struct array flipped(struct array x, int axis)
{
    struct array y = array_new(x.shape);
    size_t at[QN_MAX_RANK], size = x.shape.size[axis];
    for (size_t i = 0; i < x.count; i++) {
        array_coordinates(&x.shape, i, at);
        at[axis] = size - 1 - at[axis];
        y.at[i] = x.at[array_position(&x.shape, at)];
    }
    return y;
}
static qn_node *build_flip(const struct row *row, qn_node *const *x)
{
    return qn_flip(x[0], (int)row->a);
}
static struct array reference_flip(const struct row *row, const struct array *x)
{
    return flipped(x[0], (int)row->a);
}
/* Read backwards by what takes strides, and by what does not. */
static qn_node *build_flips(const struct row *row, qn_node *const *x)
{
    (void)row;
    qn_node *rows = qn_flip(x[0], 0), *all = qn_flip(rows, 1);
    return qn_matmul(qn_mul(rows, all), qn_transpose(qn_slice(rows, 0, 1, 3), 0, 1));
}
static struct array reference_flips(const struct row *row, const struct array *x)
{
    (void)row;
    struct array rows = flipped(x[0], 0), all = flipped(rows, 1);
    for (size_t i = 0; i < all.count; i++)
        all.at[i] *= rows.at[i];
    return reference_matmul(all, reference_slice(rows, 0, 1, 3), false, true);
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
    {ROW("shape", "flip_first", "n", 1, 0, 1e-6, true, build_flip, reference_flip), .cases = {"5", "5x7x3", "9x5t", "7x9s", "7x9r"}, .a = 0},
    {ROW("shape", "flip_last", "n", 1, 0, 1e-6, true, build_flip, reference_flip), .cases = {"5x7", "9x33t", "7x9s"}, .a = 1},
    {ROW("shape", "flips", "n", 1, 2e-6, 4e-6, false, build_flips, reference_flips), .cases = {"5x7", "9x33t", "7x9s"}},
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

static qn_node *build_variance(const struct row *row, qn_node *const *x)
{
    return qn_variance(x[0], (unsigned)row->a, 1);
}
static struct array reference_variance(const struct row *row, const struct array *x)
{
    struct array mean = reference_mean(row, x), squares = array_new(x[0].shape);
    qn_shape ones = x[0].shape;
    for (int i = 0; i < ones.rank; i++)
        ones.size[i] = axes_of(row, x) >> i & 1 ? 1 : ones.size[i];
    mean = reference_broadcast(reference_reshape(mean, ones), x[0].shape);
    for (size_t i = 0; i < x[0].count; i++)
        squares.at[i] = pow(x[0].at[i] - mean.at[i], 2);
    struct array y = reference_reduce(squares, axes_of(row, x), REDUCE_SUM);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] /= (double)(x[0].count / y.count) - 1;
    return y;
}
static qn_node *build_logsumexp(const struct row *row, qn_node *const *x)
{
    return qn_logsumexp(x[0], (unsigned)row->a);
}
static struct array reference_logsumexp(const struct row *row, const struct array *x)
{
    struct array term = array_new(x[0].shape);
    double most = -INFINITY;
    for (size_t i = 0; i < x[0].count; i++)
        most = fmax(most, x[0].at[i]);
    for (size_t i = 0; i < x[0].count; i++)
        term.at[i] = exp(x[0].at[i] - most);
    struct array y = reference_reduce(term, axes_of(row, x), REDUCE_SUM);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = most + log(y.at[i]);
    return y;
}
static qn_node *build_cumsum(const struct row *row, qn_node *const *x)
{
    return qn_cumsum(x[0], (int)row->a);
}
static struct array reference_cumsum(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    size_t at[QN_MAX_RANK], axis = (size_t)row->a;
    for (size_t i = 0; i < y.count; i++) {
        array_coordinates(&y.shape, i, at);
        y.at[i] = x[0].at[i];
        if (at[axis]-- > 0)
            y.at[i] += y.at[array_position(&y.shape, at)];
    }
    return y;
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
    {ROW("reduce", "max_special", "s", 0, 0, 0, true, build_max, reference_max), .a = 2, .cases = {"5x21", "3x8", "67x9t"}},
    REDUCTION(max, "_two", "d", 5, 0, "5x7x3", "9x2x67"),
    REDUCTION(max, "_first", "d", 1, 0, "5x7", "1031x3", "67x9t"),
    REDUCTION(variance, "_all", "n", QN_ALL, 4e-6, "5x7x3", "4099", "65x67t", "2"),
    REDUCTION(variance, "_last", "n", 2, 4e-6, "5x67", "67x5t"),
    REDUCTION(variance, "_far", "f", 2, 2e-5, "5x67"),
    REDUCTION(logsumexp, "_all", "n", QN_ALL, 2e-6, "1", "-", "5x7x3", "4099", "65x67t"),
    REDUCTION(logsumexp, "_last", "n", 2, 2e-6, "5x67", "67x5t", "3x1"),
    REDUCTION(logsumexp, "_outer", "h", 5, 4e-6, "5x7x3"),
    REDUCTION(cumsum, "_first", "n", 0, 4e-6, "1", "67", "4099", "131x33", "9x5t", "7x9s", "3x5x7"),
    REDUCTION(cumsum, "_last", "n", 1, 4e-6, "5x67", "3x1031", "9x5t", "7x9s", "2x300x3", "70001x2"),
    {ROW("reduce", "sum_squares", "n", 1, 1e-6, 4e-6, false, build_sum_squares, reference_sum_squares), .cases = {"1", "67", "40009", "65x67t", "33x5s"}},
};
/* clang-format on */

/* ---- Choosing ---- */

static qn_node *build_top_k(const struct row *row, qn_node *const *x)
{
    return qn_output(qn_top_k(x[0], (size_t)row->a), (int)row->b);
}
static struct array reference_of_top_k(const struct row *row, const struct array *x)
{
    return reference_top_k(x[0], (size_t)row->a, (int)row->b);
}
static qn_node *build_sample(const struct row *row, qn_node *const *x)
{
    return qn_sample(x[0], x[1], *(const struct qn_sample *)row->options);
}
static struct array reference_of_sample(const struct row *row, const struct array *x)
{
    return reference_sample(x[0], x[1], *(const struct qn_sample *)row->options);
}

static const struct qn_sample greedy = {.temperature = 0}, any = {.temperature = 1},
                              cold = {.temperature = 0.25f},
                              of_five = {.temperature = 2, .top_k = 5},
                              nucleus = {.temperature = 1, .top_p = 0.7f},
                              both = {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f};

static qn_node *build_argmax(const struct row *row, qn_node *const *x)
{
    return qn_argmax(x[0], (int)row->a);
}
static struct array reference_argmax(const struct row *row, const struct array *x)
{
    struct array top = reference_top_k(reference_transpose(x[0], (int)row->a, -1), 1, 1);
    qn_shape shape = x[0].shape;
    shape.rank--;
    for (int i = (int)row->a; i < shape.rank; i++)
        shape.size[i] = shape.size[i + 1];
    return reference_reshape(reference_transpose(top, (int)row->a, -1), shape);
}
static qn_node *build_one_hot(const struct row *row, qn_node *const *x)
{
    return qn_one_hot(x[0], (size_t)row->a);
}
static struct array reference_one_hot(const struct row *row, const struct array *x)
{
    qn_shape shape = x[0].shape;
    size_t classes = (size_t)row->a;
    shape.size[shape.rank++] = classes;
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = x[0].at[i / classes] == (double)(i % classes);
    return y;
}

#define TOP(title, k, output)                                                                      \
    {                                                                                              \
        ROW("choose", title, "d", 0, 0, 0, true, build_top_k, reference_of_top_k),                 \
            .a = k, .b = output, .cases = {                                                        \
                "3x17",                                                                            \
                "2x3x131",                                                                         \
                "2x4099",                                                                          \
                "5x9t"                                                                             \
            }                                                                                      \
    }
#define SAMPLE(title, letters, how)                                                                \
    {                                                                                              \
        ROW("choose", title, letters, 0, 0, 0, true, build_sample, reference_of_sample),           \
            .options = &(how), .cases = {                                                          \
                "7x1 2",                                                                           \
                "131x17 2",                                                                        \
                "67x1031 2",                                                                       \
                "3x5003 2"                                                                         \
            }                                                                                      \
    }

/* Indices: right or wrong.  Were a draw within a rounding of the border of two, another seed would do. */
static const struct row rows_of_choosing[] = {
    {ROW("choose", "argmax_first", "e", 0, 0, 0, true, build_argmax, reference_argmax), .a = 0,
     .cases = {"7", "5x7x3", "131x9", "9x5t"}},
    {ROW("choose", "argmax_last", "e", 0, 0, 0, true, build_argmax, reference_argmax), .a = 1,
     .cases = {"5x7x3", "3x1031", "9x5t"}},
    {ROW("choose", "one_hot", "w", 0, 0, 0, true, build_one_hot, reference_one_hot), .a = 9,
     .cases = {"67", "-", "3x5"}},
    TOP("top_k_values", 5, 0),
    TOP("top_k_indices", 5, 1),
    TOP("top_1_index", 1, 1),
    SAMPLE("sample_greedy", "di", greedy),
    SAMPLE("sample", "ni", any),
    SAMPLE("sample_high", "hi", any),
    SAMPLE("sample_cold", "ni", cold),
    SAMPLE("sample_top_k", "ni", of_five),
    SAMPLE("sample_top_p", "ni", nucleus),
    SAMPLE("sample_both", "ni", both),
};

const struct table shape_tables[] = {
    TABLE(rows_of_shape, VARIANTS),
    TABLE(rows_of_reduce, VARIANTS),
    TABLE(rows_of_choosing, VARIANTS),
    {0},
};

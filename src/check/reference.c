/* What operations should give, in plain double arithmetic. */
#include "check/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/philox.h"

/* ---- Arrays ---- */

struct owned {
    struct owned *next;
    double at[];
};

static struct owned *all;

struct array array_new(qn_shape shape)
{
    size_t count = qn_shape_count(shape);
    struct owned *owned = calloc(1, sizeof *owned + count * sizeof(double));
    if (!owned)
        abort();
    owned->next = all;
    all = owned;
    return (struct array){shape, count, owned->at};
}

void *arrays_mark(void)
{
    return all;
}

void arrays_free_since(void *mark)
{
    while (all != mark) {
        struct owned *next = all->next;
        free(all);
        all = next;
    }
}

void arrays_free(void)
{
    arrays_free_since(NULL);
}

void array_coordinates(const qn_shape *shape, size_t index, size_t coordinates[QN_MAX_RANK])
{
    for (int i = shape->rank; i-- > 0; index /= shape->size[i])
        coordinates[i] = index % shape->size[i];
}

size_t array_position(const qn_shape *shape, const size_t coordinates[QN_MAX_RANK])
{
    size_t position = 0;
    for (int i = 0; i < shape->rank; i++)
        position = position * shape->size[i] + coordinates[i];
    return position;
}

static int axis_from_start(struct array x, int axis)
{
    return axis < 0 ? axis + x.shape.rank : axis;
}

/* ---- Shape ---- */

struct array reference_reshape(struct array x, qn_shape shape)
{
    struct array y = array_new(shape);
    memcpy(y.at, x.at, x.count * sizeof *x.at);
    return y;
}

struct array reference_transpose(struct array x, int axis_a, int axis_b)
{
    int a = axis_from_start(x, axis_a), b = axis_from_start(x, axis_b);
    qn_shape shape = x.shape;
    shape.size[a] = x.shape.size[b];
    shape.size[b] = x.shape.size[a];
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++) {
        size_t c[QN_MAX_RANK];
        array_coordinates(&shape, i, c);
        size_t swap = c[a];
        c[a] = c[b];
        c[b] = swap;
        y.at[i] = x.at[array_position(&x.shape, c)];
    }
    return y;
}

struct array reference_slice(struct array x, int axis, size_t begin, size_t end)
{
    axis = axis_from_start(x, axis);
    qn_shape shape = x.shape;
    shape.size[axis] = end - begin;
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++) {
        size_t c[QN_MAX_RANK];
        array_coordinates(&shape, i, c);
        c[axis] += begin;
        y.at[i] = x.at[array_position(&x.shape, c)];
    }
    return y;
}

struct array reference_broadcast(struct array x, qn_shape shape)
{
    struct array y = array_new(shape);
    int missing = shape.rank - x.shape.rank;
    for (size_t i = 0; i < y.count; i++) {
        size_t c[QN_MAX_RANK], from[QN_MAX_RANK] = {0};
        array_coordinates(&shape, i, c);
        for (int axis = 0; axis < x.shape.rank; axis++)
            from[axis] = x.shape.size[axis] == 1 ? 0 : c[axis + missing];
        y.at[i] = x.at[array_position(&x.shape, from)];
    }
    return y;
}

struct array reference_concat(const struct array *parts, size_t count, int axis)
{
    axis = axis_from_start(parts[0], axis);
    qn_shape shape = parts[0].shape;
    for (size_t i = 1; i < count; i++)
        shape.size[axis] += parts[i].shape.size[axis];
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++) {
        size_t c[QN_MAX_RANK], part = 0;
        array_coordinates(&shape, i, c);
        while (c[axis] >= parts[part].shape.size[axis])
            c[axis] -= parts[part++].shape.size[axis];
        y.at[i] = parts[part].at[array_position(&parts[part].shape, c)];
    }
    return y;
}

qn_shape common_shape(qn_shape a, qn_shape b)
{
    if (a.rank < b.rank) {
        qn_shape swap = a;
        a = b;
        b = swap;
    }
    for (int i = 1; i <= b.rank; i++)
        if (b.size[b.rank - i] != 1)
            a.size[a.rank - i] = b.size[b.rank - i];
    return a;
}

/* ---- Reductions ---- */

struct array reference_reduce(struct array x, unsigned axes, enum reduction reduction)
{
    qn_shape shape = {0};
    for (int i = 0; i < x.shape.rank; i++)
        if (!(axes >> i & 1))
            shape.size[shape.rank++] = x.shape.size[i];
    struct array y = array_new(shape);
    for (size_t i = 0; reduction == REDUCE_MAX && i < y.count; i++)
        y.at[i] = -INFINITY;
    for (size_t i = 0; i < x.count; i++) {
        size_t c[QN_MAX_RANK], kept[QN_MAX_RANK] = {0};
        array_coordinates(&x.shape, i, c);
        for (int axis = 0, to = 0; axis < x.shape.rank; axis++)
            if (!(axes >> axis & 1))
                kept[to++] = c[axis];
        double *sum = &y.at[array_position(&shape, kept)];
        if (reduction != REDUCE_MAX)
            *sum += x.at[i];
        else if (!(x.at[i] <= *sum) && !isnan(*sum)) /* NaN stays */
            *sum = x.at[i];
    }
    for (size_t i = 0; reduction == REDUCE_MEAN && i < y.count; i++)
        y.at[i] /= (double)(x.count / y.count);
    return y;
}

/* ---- Matrices and tables ---- */

struct array reference_matmul(struct array a, struct array b, bool transpose_a, bool transpose_b)
{
    size_t a_columns = a.shape.size[a.shape.rank - 1], a_rows = a.shape.size[a.shape.rank - 2];
    size_t b_columns = b.shape.size[b.shape.rank - 1], b_rows = b.shape.size[b.shape.rank - 2];
    size_t m = transpose_a ? a_columns : a_rows, inner = transpose_a ? a_rows : a_columns;
    size_t n = transpose_b ? b_rows : b_columns;
    qn_shape shape = a.shape;
    shape.size[shape.rank - 2] = m;
    shape.size[shape.rank - 1] = n;
    struct array y = array_new(shape);
    for (size_t batch = 0; batch < y.count / (m * n); batch++) {
        const double *left = a.at + batch * m * inner;
        const double *right = b.at + (b.shape.rank > 2 ? batch * inner * n : 0);
        for (size_t i = 0; i < m; i++)
            for (size_t k = 0; k < inner; k++) {
                double factor = left[transpose_a ? k * m + i : i * inner + k];
                for (size_t j = 0; j < n; j++)
                    y.at[(batch * m + i) * n + j] +=
                        factor * right[transpose_b ? j * inner + k : k * n + j];
            }
    }
    return y;
}

struct array reference_embedding(struct array table, struct array ids)
{
    size_t width = table.shape.size[1];
    qn_shape shape = ids.shape;
    shape.size[shape.rank++] = width;
    struct array y = array_new(shape);
    for (size_t i = 0; i < ids.count; i++)
        if (ids.at[i] >= 0 && ids.at[i] < (double)table.shape.size[0])
            memcpy(y.at + i * width, table.at + (size_t)ids.at[i] * width, width * sizeof *y.at);
    return y;
}

/* ---- Rows ---- */

static void softmax_row(const double *x, double *y, size_t count)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, x[i]);
    for (size_t i = 0; i < count; i++)
        sum += y[i] = exp(x[i] - most);
    for (size_t i = 0; i < count; i++)
        y[i] /= sum;
}

struct array reference_softmax(struct array x, int axis)
{
    axis = axis_from_start(x, axis);
    struct array rows = reference_transpose(x, axis, -1), y = array_new(rows.shape);
    size_t width = x.shape.size[axis];
    for (size_t i = 0; i < x.count; i += width)
        softmax_row(rows.at + i, y.at + i, width);
    return reference_transpose(y, axis, -1);
}

struct array reference_layer_norm(struct array x, struct array weight, struct array bias,
                                  double epsilon)
{
    struct array y = array_new(x.shape);
    size_t width = x.shape.size[x.shape.rank - 1];
    for (size_t row = 0; row < x.count; row += width) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < width; i++)
            mean += x.at[row + i] / (double)width;
        for (size_t i = 0; i < width; i++)
            variance += pow(x.at[row + i] - mean, 2) / (double)width;
        for (size_t i = 0; i < width; i++)
            y.at[row + i] =
                (x.at[row + i] - mean) / sqrt(variance + epsilon) * weight.at[i] + bias.at[i];
    }
    return y;
}

struct array reference_cross_entropy(struct array logits, struct array targets,
                                     struct qn_cross_entropy options)
{
    size_t width = logits.shape.size[logits.shape.rank - 1], counted = 0;
    double smoothing = (double)options.label_smoothing;
    struct array y = array_new((qn_shape){0});
    for (size_t row = 0; row < targets.count; row++) {
        const double *x = logits.at + row * width;
        double most = -INFINITY, sum = 0, mean = 0;
        if (targets.at[row] == options.ignore_index)
            continue;
        counted++;
        for (size_t i = 0; i < width; i++)
            most = fmax(most, x[i]);
        for (size_t i = 0; i < width; i++)
            sum += exp(x[i] - most);
        double log_sum = most + log(sum);
        for (size_t i = 0; i < width; i++)
            mean += (log_sum - x[i]) / (double)width;
        y.at[0] += (1 - smoothing) * (log_sum - x[(size_t)targets.at[row]]) + smoothing * mean;
    }
    if (!options.sum)
        y.at[0] /= (double)counted;
    return y;
}

struct array reference_correct(struct array logits, struct array targets)
{
    size_t width = logits.shape.size[logits.shape.rank - 1];
    struct array y = array_new((qn_shape){0});
    for (size_t row = 0; row < targets.count; row++) {
        size_t best = 0;
        for (size_t i = 1; i < width; i++)
            if (logits.at[row * width + i] > logits.at[row * width + best])
                best = i;
        y.at[0] += targets.at[row] == (double)best;
    }
    return y;
}

struct array reference_attention(struct array q, struct array k, struct array v, double scale,
                                 struct reference_mask mask)
{
    size_t batches = q.shape.size[0], queries = q.shape.size[1], keys = k.shape.size[1];
    size_t heads = q.shape.size[2], width = q.shape.size[3], group = heads / k.shape.size[2];
    struct array y = array_new(q.shape), score = array_new((qn_shape){1, {keys}});
    for (size_t b = 0; b < batches; b++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < queries; i++) {
                const double *query = q.at + ((b * queries + i) * heads + h) * width;
                double *out = y.at + ((b * queries + i) * heads + h) * width;
                ptrdiff_t at = mask.first + (ptrdiff_t)i, begin = 0, end = (ptrdiff_t)keys;
                if (mask.is_causal && at + 1 < end)
                    end = at + 1;
                if (mask.lengths.count && mask.lengths.at[b] < (double)end)
                    end = (ptrdiff_t)fmax(mask.lengths.at[b], 0);
                if (mask.window && at - mask.window + 1 > begin)
                    begin = at - mask.window + 1;
                if (begin >= end)
                    continue;
                for (ptrdiff_t j = begin; j < end; j++) {
                    size_t row = (b * keys + (size_t)j) * (heads / group) + h / group;
                    score.at[j] = mask.slopes.count ? mask.slopes.at[h] * (double)(j - at) : 0;
                    for (size_t d = 0; d < width; d++)
                        score.at[j] += scale * query[d] * k.at[row * width + d];
                }
                softmax_row(score.at + begin, score.at + begin, (size_t)(end - begin));
                for (ptrdiff_t j = begin; j < end; j++) {
                    size_t row = (b * keys + (size_t)j) * (heads / group) + h / group;
                    for (size_t d = 0; d < width; d++)
                        out[d] += score.at[j] * v.at[row * width + d];
                }
            }
    return y;
}

struct array reference_top_k(struct array x, size_t k, int output)
{
    size_t width = x.shape.size[x.shape.rank - 1];
    qn_shape shape = x.shape;
    shape.size[shape.rank - 1] = k;
    struct array y = array_new(shape), rest = reference_reshape(x, x.shape);
    for (size_t row = 0; row < x.count / width; row++)
        for (size_t i = 0; i < k; i++) {
            double *value = rest.at + row * width;
            size_t best = 0;
            for (size_t j = 1; j < width; j++)
                if (value[j] > value[best])
                    best = j;
            y.at[row * k + i] = output == 0 ? value[best] : (double)best;
            value[best] = -INFINITY;
        }
    return y;
}

static int descending(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first < second) - (first > second);
}

/* The least value of a row that is kept. */
static double kept_from(const double *row, size_t width, struct qn_sample options)
{
    struct array sorted = array_new((qn_shape){1, {width}});
    memcpy(sorted.at, row, width * sizeof *row);
    qsort(sorted.at, width, sizeof *row, descending);
    if (options.temperature == 0)
        return sorted.at[0];
    size_t count = options.top_k && options.top_k < width ? options.top_k : width;
    while (count < width && sorted.at[count] == sorted.at[count - 1])
        count++;
    double total = 0, mass = 0;
    for (size_t i = 0; i < count; i++)
        total += exp((sorted.at[i] - sorted.at[0]) / options.temperature);
    size_t last = count - 1;
    for (size_t i = 0; options.top_p > 0 && options.top_p < 1 && i < count; i++) {
        mass += exp((sorted.at[i] - sorted.at[0]) / options.temperature);
        if (mass >= options.top_p * total) {
            last = i;
            break;
        }
    }
    return sorted.at[last];
}

struct array reference_sample(struct array logits, struct array key, struct qn_sample options)
{
    size_t rows = logits.shape.size[0], width = logits.shape.size[1];
    struct array ids = array_new((qn_shape){1, {rows}});
    for (size_t row = 0; row < rows; row++) {
        const double *x = logits.at + row * width;
        double least = kept_from(x, width, options), most = x[0], total = 0;
        uint32_t counter[4] = {0, 0, (uint32_t)row, 0},
                 words[2] = {(uint32_t)key.at[0], (uint32_t)key.at[1]};
        double target =
            options.temperature > 0 ? (philox(counter, words).word[0] >> 8) * 0x1p-24 : 0;
        for (size_t i = 0; i < width; i++)
            most = fmax(most, x[i]);
        for (int pass = 0; pass < 2; pass++) { /* adds up, then draws */
            double sum = 0;
            for (size_t i = 0; i < width; i++) {
                double weight =
                    options.temperature > 0 ? exp((x[i] - most) / options.temperature) : 1;
                sum += x[i] >= least ? weight : 0;
                if (pass == 1 && sum > target * total) {
                    ids.at[row] = (double)i;
                    break;
                }
            }
            total = sum;
        }
    }
    return ids;
}

double reference_gelu(double x)
{
    return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

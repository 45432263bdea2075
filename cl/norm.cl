/* Layer normalisation (Ba, Kiros, Hinton: "Layer normalization", 2016) and, if not CENTERED, RMS normalisation, which
 * has neither mean nor bias (Zhang, Sennrich: "Root mean square layer normalization", 2019).  A work-group a row, or a stripe of rows.
 *
 * x, weight, bias and y are of type T; statistics and sums are floats. */

#if CENTERED
#define IF_CENTERED(...) __VA_ARGS__
#else
#define IF_CENTERED(...)
#endif

#define PART(row) load_row(row, i, width, 0.0f)

/* Four sums at once: additions to one would wait for each other. */
#define FOUR(X) X(0) X(1) X(2) X(3)
#define ADD_DEVIATION(e)                                                                           \
    floatv d##e = loadv(0, row + i + e * ROW_STEP) - shift;                                       \
    sum##e += d##e;                                                                                \
    squares##e += d##e * d##e;

/* Of this work-item's vectors of a row: the sums of x - shift and of its squares. */
struct deviations {
    floatv sum, squares;
};

inline struct deviations deviations(global const T *row, ulong width, float shift)
{
    floatv sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
    floatv squares0 = 0.0f, squares1 = 0.0f, squares2 = 0.0f, squares3 = 0.0f;
    ulong i = ROW_FIRST;
    for (; i + 3 * ROW_STEP + FLOAT_WIDTH <= width; i += 4 * ROW_STEP) {
        FOUR(ADD_DEVIATION)
    }
    for (; i < width; i += ROW_STEP) {
        floatv d = load_row(row, i, width, shift) - shift;
        sum0 += d;
        squares0 += d * d;
    }
    struct deviations of_row;
    of_row.sum = (sum0 + sum1) + (sum2 + sum3);
    of_row.squares = (squares0 + squares1) + (squares2 + squares3);
    return of_row;
}

/* y = (x - mean) / sqrt(var + epsilon) * weight + bias; SAVE_STATISTICS: also mean and 1 / sqrt(var + epsilon).  Not CENTERED:
 * y = x / sqrt(mean(x^2) + epsilon) * weight.
 *
 * The row is read once for both: var = mean(d^2) - mean(d)^2 with d = x - shift.  A shift of 0 would lose all digits where the
 * mean is large.  The mean of the first k numbers loses few of them: k (shift - mean)^2 is at most the sum of squares about
 * the mean, so mean(d^2) is at most (1 + width / k) var, and width / k at most about 32. */
kernel void norm(global T *restrict y, IF_CENTERED(global float *restrict mean,)
                 global float *restrict rstd, global const T *restrict x,
                 global const T *restrict weight, IF_CENTERED(global const T *restrict bias,)
                 ulong rows, ulong width, float epsilon)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *in = x + row * width;
        global T *out = y + row * width;
#if CENTERED
        ulong first = min(width, max(4 * ROW_STEP, width / 32));
        float shift = group_sum(sum_lanes(deviations(in, first, 0.0f).sum), scratch) / first;
        struct deviations d = deviations(in, width, shift);
        float mean_d = group_sum(sum_lanes(d.sum), scratch) / width;
        float m = shift + mean_d;
        float var = group_sum(sum_lanes(d.squares), scratch) / width - mean_d * mean_d;
#else
        float m = 0.0f;
        float var = group_sum(sum_lanes(deviations(in, width, m).squares), scratch) / width;
#endif
        float r = 1.0f / sqrt(max(var, 0.0f) + epsilon);
        EACH_VECTOR(width, floatv v = (load_row(in, i, width, m) - m) * r;
                    store_row(v * PART(weight) IF_CENTERED(+PART(bias)), out, i, width);)
#if SAVE_STATISTICS
        if (get_local_id(0) == 0) {
            IF_CENTERED(mean[row] = m;)
            rstd[row] = r;
        }
#endif
    }
}

/* dx = rstd (g - mean(g) - v mean(g v)), with v = (x - mean) rstd and g = dy weight; and for each stripe of `stripe` rows the
 * sums over its rows of dy v and dy: partial (stripes, SUMS, width).  Not CENTERED: no means of x and g, no sum of dy.  Each work-item keeps its columns to itself.
 *
 * A CPU takes four rows at a time, while there are four: the sums of the stripe are then read and written once for four rows, and eight
 * sums over rows do not wait for each other. */
#define SUMS (1 + CENTERED)
#define ONE_ROW(X) X(0)
#define WHOLE(row) loadv(0, row + i)

#define BEGIN_ROW(e)                                                                               \
    global const T *in##e = x + (row + e) * width, *grad##e = dy + (row + e) * width;          \
    float mean##e = 0.0f, rstd##e = rstd[row + e];                                                 \
    IF_CENTERED(mean##e = mean[row + e]; floatv sum_g##e = 0.0f;)                                  \
    floatv sum_gv##e = 0.0f;
#define ADD_COLUMNS(e, LOAD)                                                                       \
    floatv d##e = LOAD(grad##e), v##e = (LOAD(in##e) - mean##e) * rstd##e;                         \
    sum_gv##e += d##e * w * v##e;                                                                  \
    sum_dv += d##e * v##e;                                                                         \
    IF_CENTERED(sum_g##e += d##e * w; sum_d += d##e;)
#define ADD_WHOLE(e) ADD_COLUMNS(e, WHOLE)
#define ADD_PART(e) ADD_COLUMNS(e, PART)
#define END_ROW(e)                                                                                 \
    {                                                                                              \
        IF_CENTERED(float g = group_sum(sum_lanes(sum_g##e), scratch) / width;)                    \
        float gv = group_sum(sum_lanes(sum_gv##e), scratch) / width;                               \
        EACH_VECTOR(width, floatv v = (PART(in##e) - mean##e) * rstd##e;                           \
                    store_row(rstd##e *                                                            \
                                  (PART(grad##e) * PART(weight) IF_CENTERED(-g) - v * gv),         \
                              dx + (row + e) * width, i, width);)                                  \
    }
#define BACKWARD(ROWS)                                                                             \
    {                                                                                              \
        ROWS(BEGIN_ROW)                                                                            \
        ulong i = ROW_FIRST;                                                                       \
        for (; i + FLOAT_WIDTH <= width; i += ROW_STEP) {                                          \
            floatv w = WHOLE(weight), sum_dv = WHOLE(d_weight);                                    \
            IF_CENTERED(floatv sum_d = WHOLE(d_bias);)                                             \
            ROWS(ADD_WHOLE)                                                                        \
            storev(sum_dv, 0, d_weight + i);                                                      \
            IF_CENTERED(storev(sum_d, 0, d_bias + i);)                                            \
        }                                                                                          \
        if (i < width) {                                                                           \
            floatv w = PART(weight), sum_dv = PART(d_weight);                                      \
            IF_CENTERED(floatv sum_d = PART(d_bias);)                                              \
            ROWS(ADD_PART)                                                                         \
            store_row(sum_dv, d_weight, i, width);                                                 \
            IF_CENTERED(store_row(sum_d, d_bias, i, width);)                                       \
        }                                                                                          \
        ROWS(END_ROW)                                                                              \
    }

kernel void norm_backward(global T *restrict dx, global float *restrict partial,
                          global const T *restrict x,
                          IF_CENTERED(global const float *restrict mean,)
                          global const float *restrict rstd, global const T *restrict weight,
                          global const T *restrict dy, ulong rows, ulong width, ulong stripe)
{
    GROUP_SCRATCH(scratch);
    ulong stripes = (rows + stripe - 1) / stripe;
    for (ulong item = get_group_id(0); item < stripes; item += get_num_groups(0)) {
        global float *d_weight = partial + item * SUMS * width;
        IF_CENTERED(global float *d_bias = d_weight + width;)
        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
            store_row((floatv)(0.0f), d_weight, i, width);
            IF_CENTERED(store_row((floatv)(0.0f), d_bias, i, width);)
        }
        ulong row = item * stripe, end = min(row + stripe, rows);
#if DEVICE_CPU /* a GPU has other work-items meanwhile, and PoCL takes minutes for so many barriers */
        for (; row + 4 <= end; row += 4)
            BACKWARD(FOUR)
#endif
        for (; row < end; row++)
            BACKWARD(ONE_ROW)
    }
}

/* d_weight and d_bias: the stripes' sums added up in a fixed order.  A work-group has a vector of columns, a work-item some stripes. */
kernel void norm_sums(global float *restrict d_weight, IF_CENTERED(global float *restrict d_bias,)
                      global const float *restrict partial, ulong stripes, ulong width)
{
    GROUP_SCRATCHV(scratch);
    for (ulong i = get_group_id(0) * FLOAT_WIDTH; i < width;
         i += get_num_groups(0) * FLOAT_WIDTH) {
        floatv w = 0.0f;
        IF_CENTERED(floatv b = 0.0f;)
        for (ulong stripe = get_local_id(0); stripe < stripes; stripe += get_local_size(0)) {
            global const float *sums = partial + stripe * SUMS * width;
            w += load_row(sums, i, width, 0.0f);
            IF_CENTERED(b += load_row(sums + width, i, width, 0.0f);)
        }
        w = group_sumv(w, scratch);
        IF_CENTERED(b = group_sumv(b, scratch);)
        if (get_local_id(0) == 0) {
            store_row(w, d_weight, i, width);
            IF_CENTERED(store_row(b, d_bias, i, width);)
        }
    }
}

/* Layer normalisation (Ba, Kiros, Hinton: "Layer normalization", 2016).  A work-group a row, or a stripe of rows. */

#define PART(row) load_row(row, i, width, 0.0f)

/* Four sums at once: additions to one would wait for each other. */
#define FOUR_AT_ONCE (i + 3 * ROW_STEP + FLOAT_WIDTH <= width)

/* The sum of this work-item's vectors of a row. */
inline floatv sum_of(global const float *row, ulong width)
{
    floatv s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    ulong i = ROW_FIRST;
    for (; FOUR_AT_ONCE; i += 4 * ROW_STEP) {
        s0 += vloadv(0, row + i);
        s1 += vloadv(0, row + i + ROW_STEP);
        s2 += vloadv(0, row + i + 2 * ROW_STEP);
        s3 += vloadv(0, row + i + 3 * ROW_STEP);
    }
    for (; i < width; i += ROW_STEP)
        s0 += load_row(row, i, width, 0.0f);
    return (s0 + s1) + (s2 + s3);
}

/* The same of the squares of x - m. */
inline floatv sum_of_squares(global const float *row, ulong width, float m)
{
    floatv s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    ulong i = ROW_FIRST;
    for (; FOUR_AT_ONCE; i += 4 * ROW_STEP) {
        floatv d0 = vloadv(0, row + i) - m, d1 = vloadv(0, row + i + ROW_STEP) - m;
        floatv d2 = vloadv(0, row + i + 2 * ROW_STEP) - m,
               d3 = vloadv(0, row + i + 3 * ROW_STEP) - m;
        s0 += d0 * d0;
        s1 += d1 * d1;
        s2 += d2 * d2;
        s3 += d3 * d3;
    }
    for (; i < width; i += ROW_STEP) {
        floatv d = load_row(row, i, width, m) - m;
        s0 += d * d;
    }
    return (s0 + s1) + (s2 + s3);
}

/* y = (x - mean) / sqrt(var + epsilon) * weight + bias; SAVE_STATISTICS: also mean and 1 / sqrt(var + epsilon).  The variance
 * is that of x - mean: the mean of squares less the square of the mean would lose all digits where the mean is large. */
kernel void layer_norm(global float *restrict y, global float *restrict mean,
                       global float *restrict rstd, global const float *restrict x,
                       global const float *restrict weight, global const float *restrict bias,
                       ulong rows, ulong width, float epsilon)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const float *in = x + row * width;
        global float *out = y + row * width;
        float m = group_sum(sum_lanes(sum_of(in, width)), scratch) / width;
        float r = 1.0f / sqrt(group_sum(sum_lanes(sum_of_squares(in, width, m)), scratch) / width +
                              epsilon);
        EACH_VECTOR(width, floatv v = (load_row(in, i, width, m) - m) * r;
                    store_row(v * PART(weight) + PART(bias), out, i, width);)
#if SAVE_STATISTICS
        if (get_local_id(0) == 0) {
            mean[row] = m;
            rstd[row] = r;
        }
#endif
    }
}

/* dx = rstd (g - mean(g) - v mean(g v)), with v = (x - mean) rstd and g = dy weight; and for each stripe of `stripe` rows the
 * sums over its rows of dy v and dy: partial (stripes, 2, width).  Each work-item keeps its columns to itself.
 *
 * A CPU takes four rows at a time, while there are four: the sums of the stripe are then read and written once for four rows, and eight
 * sums over rows do not wait for each other. */
#define ONE_ROW(X) X(0)
#define FOUR_ROWS(X) X(0) X(1) X(2) X(3)
#define WHOLE(row) vloadv(0, row + i)

#define BEGIN_ROW(e)                                                                               \
    global const float *in##e = x + (row + e) * width, *grad##e = dy + (row + e) * width;          \
    float mean##e = mean[row + e], rstd##e = rstd[row + e];                                        \
    floatv sum_g##e = 0.0f, sum_gv##e = 0.0f;
#define ADD_COLUMNS(e, LOAD)                                                                       \
    floatv d##e = LOAD(grad##e), v##e = (LOAD(in##e) - mean##e) * rstd##e;                         \
    sum_g##e += d##e * w;                                                                          \
    sum_gv##e += d##e * w * v##e;                                                                  \
    sum_dv += d##e * v##e;                                                                         \
    sum_d += d##e;
#define ADD_WHOLE(e) ADD_COLUMNS(e, WHOLE)
#define ADD_PART(e) ADD_COLUMNS(e, PART)
#define END_ROW(e)                                                                                 \
    {                                                                                              \
        float g = group_sum(sum_lanes(sum_g##e), scratch) / width;                                 \
        float gv = group_sum(sum_lanes(sum_gv##e), scratch) / width;                               \
        EACH_VECTOR(width, floatv v = (PART(in##e) - mean##e) * rstd##e;                           \
                    store_row(rstd##e * (PART(grad##e) * PART(weight) - g - v * gv),               \
                              dx + (row + e) * width, i, width);)                                  \
    }
#define BACKWARD(ROWS)                                                                             \
    {                                                                                              \
        ROWS(BEGIN_ROW)                                                                            \
        ulong i = ROW_FIRST;                                                                       \
        for (; i + FLOAT_WIDTH <= width; i += ROW_STEP) {                                          \
            floatv w = WHOLE(weight), sum_dv = WHOLE(d_weight), sum_d = WHOLE(d_bias);             \
            ROWS(ADD_WHOLE)                                                                        \
            vstorev(sum_dv, 0, d_weight + i);                                                      \
            vstorev(sum_d, 0, d_bias + i);                                                         \
        }                                                                                          \
        if (i < width) {                                                                           \
            floatv w = PART(weight), sum_dv = PART(d_weight), sum_d = PART(d_bias);                \
            ROWS(ADD_PART)                                                                         \
            store_row(sum_dv, d_weight, i, width);                                                 \
            store_row(sum_d, d_bias, i, width);                                                    \
        }                                                                                          \
        ROWS(END_ROW)                                                                              \
    }

kernel void layer_norm_backward(global float *restrict dx, global float *restrict partial,
                                global const float *restrict x, global const float *restrict mean,
                                global const float *restrict rstd,
                                global const float *restrict weight,
                                global const float *restrict dy, ulong rows, ulong width,
                                ulong stripe)
{
    GROUP_SCRATCH(scratch);
    ulong stripes = (rows + stripe - 1) / stripe;
    for (ulong item = get_group_id(0); item < stripes; item += get_num_groups(0)) {
        global float *d_weight = partial + item * 2 * width, *d_bias = d_weight + width;
        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
            store_row((floatv)(0.0f), d_weight, i, width);
            store_row((floatv)(0.0f), d_bias, i, width);
        }
        ulong row = item * stripe, end = min(row + stripe, rows);
#if DEVICE_CPU /* a GPU has other work-items meanwhile, and PoCL takes minutes for so many barriers */
        for (; row + 4 <= end; row += 4)
            BACKWARD(FOUR_ROWS)
#endif
        for (; row < end; row++)
            BACKWARD(ONE_ROW)
    }
}

/* d_weight and d_bias: the stripes' sums added up in order.  A work-item has a vector of columns. */
kernel void layer_norm_sums(global float *restrict d_weight, global float *restrict d_bias,
                            global const float *restrict partial, ulong stripes, ulong width)
{
    for (ulong i = get_global_id(0) * FLOAT_WIDTH; i < width;
         i += get_global_size(0) * FLOAT_WIDTH) {
        floatv w = 0.0f, b = 0.0f;
        for (ulong stripe = 0; stripe < stripes; stripe++) {
            w += load_row(partial + stripe * 2 * width, i, width, 0.0f);
            b += load_row(partial + (stripe * 2 + 1) * width, i, width, 0.0f);
        }
        store_row(w, d_weight, i, width);
        store_row(b, d_bias, i, width);
    }
}

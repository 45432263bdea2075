/* Layer normalisation (Ba, Kiros, Hinton: "Layer normalization", 2016).  A work-group a row, or a stripe of rows. */

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
        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
            floatv v = (load_row(in, i, width, m) - m) * r;
            store_row(v * load_row(weight, i, width, 0.0f) + load_row(bias, i, width, 0.0f), out, i,
                      width);
        }
#if SAVE_STATISTICS
        if (get_local_id(0) == 0) {
            mean[row] = m;
            rstd[row] = r;
        }
#endif
    }
}

/* dx = rstd (g - mean(g) - v mean(g v)), with v = (x - mean) rstd and g = dy weight; and for each stripe of `stripe` rows the
 * sums over its rows of dy v and dy: partial (stripes, 2, width).  Each work-item keeps its columns to itself. */
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
        ulong begin = item * stripe, end = min(begin + stripe, rows);
        for (ulong row = begin; row < end; row++) {
            global const float *in = x + row * width, *grad = dy + row * width;
            float m = mean[row], r = rstd[row];
            floatv sum_g = 0.0f, sum_gv = 0.0f;
            for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
                floatv d = load_row(grad, i, width, 0.0f), v = (load_row(in, i, width, m) - m) * r;
                floatv g = d * load_row(weight, i, width, 0.0f), dv = d * v;
                sum_g += g;
                sum_gv += g * v;
                if (row > begin) {
                    dv += load_row(d_weight, i, width, 0.0f);
                    d += load_row(d_bias, i, width, 0.0f);
                }
                store_row(dv, d_weight, i, width);
                store_row(d, d_bias, i, width);
            }
            float mean_g = group_sum(sum_lanes(sum_g), scratch) / width;
            float mean_gv = group_sum(sum_lanes(sum_gv), scratch) / width;
            for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
                floatv v = (load_row(in, i, width, m) - m) * r;
                floatv g = load_row(grad, i, width, 0.0f) * load_row(weight, i, width, 0.0f);
                store_row(r * (g - mean_g - v * mean_gv), dx + row * width, i, width);
            }
        }
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

/* Softmax over rows.  A work-group a row. */

/* y = exp(x - max) / sum exp(x - max).  A row of nothing but -infinity gives NaN, as 0 / 0 does. */
kernel void softmax(global float *y, global const float *x, ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const float *in = x + row * width;
        global float *out = y + row * width;
        floatv sum = 0.0f;
        float m = group_max(max_lanes(row_max(in, width)), scratch);
        EACH_VECTOR(width, floatv e = exp_of(load_row(in, i, width, -INFINITY) - m); sum += e;
                    store_row(e, out, i, width);)
        float scale = 1.0f / group_sum(sum_lanes(sum), scratch);
        EACH_VECTOR(width, store_row(load_row(out, i, width, 0.0f) * scale, out, i, width);)
    }
}

/* dx = y (dy - sum(dy y)). */
kernel void softmax_backward(global float *dx, global const float *y, global const float *dy,
                             ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const float *out = y + row * width, *grad = dy + row * width;
        floatv sum = 0.0f;
        EACH_VECTOR(width,
                    sum += load_row(out, i, width, 0.0f) * load_row(grad, i, width, 0.0f);)
        float all = group_sum(sum_lanes(sum), scratch);
        EACH_VECTOR(width, store_row(load_row(out, i, width, 0.0f) *
                                         (load_row(grad, i, width, 0.0f) - all),
                                     dx + row * width, i, width);)
    }
}

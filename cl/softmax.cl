/* Softmax over rows of type T.  A work-group a row. */

/* y = exp(x - max) / sum exp(x - max).  A row of nothing but -infinity gives NaN, as 0 / 0 does. */
kernel void softmax(global T *y, global const T *x, ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *in = x + row * width;
        global T *out = y + row * width;
        floatv sum = 0.0f;
        float m = group_max(max_lanes(row_max(in, width)), scratch);
        bool keeps = sizeof(T) == sizeof(float); /* else powers are made twice, not rounded twice */
        EACH_VECTOR(width, floatv e = exp_of(load_row(in, i, width, -INFINITY) - m); sum += e;
                    if (keeps) store_row(e, out, i, width);)
        float scale = 1.0f / group_sum(sum_lanes(sum), scratch);
        EACH_VECTOR(width, floatv e = keeps ? load_row(out, i, width, 0.0f)
                                            : exp_of(load_row(in, i, width, -INFINITY) - m);
                    store_row(e * scale, out, i, width);)
    }
}

/* dx = y (dy - sum(dy y)). */
kernel void softmax_backward(global T *dx, global const T *y, global const T *dy,
                             ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *out = y + row * width, *grad = dy + row * width;
        floatv sum = 0.0f;
        EACH_VECTOR(width,
                    sum += load_row(out, i, width, 0.0f) * load_row(grad, i, width, 0.0f);)
        float all = group_sum(sum_lanes(sum), scratch);
        EACH_VECTOR(width, store_row(load_row(out, i, width, 0.0f) *
                                         (load_row(grad, i, width, 0.0f) - all),
                                     dx + row * width, i, width);)
    }
}

/* Running sums. */

/* y[block, i, column] = the sum of x[block, 0 : i + 1, column], or, if IS_REVERSED, of x[block, i : n, column].  A work-item has a vector of
 * columns. */
kernel void scan_columns(global float *y, global const float *x, ulong blocks, ulong n, ulong width)
{
    ulong vectors = (width + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong item = get_global_id(0); item < blocks * vectors; item += get_global_size(0)) {
        ulong begin = item / vectors * n, i = item % vectors * FLOAT_WIDTH;
        floatv sum = 0.0f;
        for (ulong j = 0; j < n; j++) {
            ulong row = begin + (IS_REVERSED ? n - 1 - j : j);
            sum += load_row(x + row * width, i, width, 0.0f);
            store_row(sum, y + row * width, i, width);
        }
    }
}

#if DEVICE_CPU
/* Of rows.  A work-item a row. */
kernel void scan_rows(global float *y, global const float *x, ulong rows, ulong n)
{
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        float sum = 0.0f;
        for (ulong j = 0; j < n; j++) {
            ulong i = row * n + (IS_REVERSED ? n - 1 - j : j);
            sum += x[i];
            y[i] = sum;
        }
    }
}
#else
/* A work-group a row: as many elements at a time as it has work-items, whose sums are added up in steps of 1, 2, 4, ... (Hillis and Steele:
 * "Data parallel algorithms", 1986). */
kernel void scan_rows(global float *y, global const float *x, ulong rows, ulong n)
{
    local float sums[GROUP_MOST];
    uint me = get_local_id(0), size = get_local_size(0);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        float before = 0.0f;
        for (ulong begin = 0; begin < n; begin += size) {
            ulong j = begin + me, i = row * n + (IS_REVERSED ? n - 1 - min(j, n - 1) : j);
            sums[me] = j < n ? x[i] : 0.0f;
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint step = 1; step < size; step *= 2) {
                float left = me >= step ? sums[me - step] : 0.0f;
                barrier(CLK_LOCAL_MEM_FENCE);
                sums[me] += left;
                barrier(CLK_LOCAL_MEM_FENCE);
            }
            if (j < n)
                y[i] = before + sums[me];
            before += sums[size - 1];
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
}
#endif

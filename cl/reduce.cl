/* Sums, greatest values and sums of squares.  KIND: 0, 1, 2.  Long runs are cut into parts of a constant length; a second
 * launch of the same kernel reduces the parts, so that the order of additions depends on sizes alone. */

#if KIND == 1
#define START (-INFINITY)
#define COMBINE(a, b) GREATER(a, b)
#else
#define START 0.0f
#define COMBINE(a, b) ((a) + (b))
#endif
#if KIND == 2
#define TERM(v) ((v) * (v))
#else
#define TERM(v) (v)
#endif

/* out[row, part] = x[row, part * length : (part + 1) * length].  A work-group a part. */
kernel void reduce_rows(global float *restrict out, global const float *restrict x, ulong rows,
                        ulong width, ulong length)
{
    GROUP_SCRATCH(scratch);
    ulong parts = (width + length - 1) / length;
    for (ulong item = get_group_id(0); item < rows * parts; item += get_num_groups(0)) {
        ulong begin = item % parts * length, count = min(length, width - begin);
        global const float *row = x + item / parts * width + begin;
        floatv sum = START;
        for (ulong i = ROW_FIRST; i < count; i += ROW_STEP) {
            floatv v = load_row(row, i, count, START);
            sum = COMBINE(sum, TERM(v));
        }
#if KIND == 1
        float all = group_max(max_lanes(sum), scratch);
#else
        float all = group_sum(sum_lanes(sum), scratch);
#endif
        if (get_local_id(0) == 0)
            out[item] = all;
    }
}

/* out[block, part, i] = x[block, part * length : (part + 1) * length, i].  A work-item has a vector of columns of a part. */
kernel void reduce_columns(global float *restrict out, global const float *restrict x, ulong blocks,
                           ulong height, ulong width, ulong length)
{
    ulong parts = (height + length - 1) / length, vectors = (width + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong item = get_global_id(0); item < blocks * parts * vectors;
         item += get_global_size(0)) {
        ulong i = item % vectors * FLOAT_WIDTH, part = item / vectors % parts,
              block = item / vectors / parts;
        ulong begin = part * length, end = min(begin + length, height);
        floatv sum = START;
        for (ulong row = begin; row < end; row++) {
            floatv v = load_row(x + (block * height + row) * width, i, width, START);
            sum = COMBINE(sum, TERM(v));
        }
        store_row(sum, out + (block * parts + part) * width, i, width);
    }
}

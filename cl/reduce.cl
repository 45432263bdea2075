/* Sums, greatest values and sums of squares of numbers of type T, in floats.  KIND: 0, 1, 2.  Long runs are cut into parts of a constant length; a second
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

/* What is reduced: x, or what FUSED makes instead. */
#ifdef FUSED
#define SOURCE FUSED_PARAMETERS
#define LOAD(v, row, column, end)                                                                  \
    FUSED(v, row, column, end)                                                                     \
    if ((column) + FLOAT_WIDTH > (end))                                                            \
        v = first_lanes(v, (uint)((end) - (column)));
#else
#define SOURCE global const T *restrict x,
#define LOAD(v, row, column, end) v = load_row(x + (row)*width, column, end, START);
#endif

/* The lanes behind the end of a row are START. */
inline floatv first_lanes(floatv v, uint count)
{
    return SELECT(LT(LANES, (intv)((int)count)), v, (floatv)(START));
}

/* out[row, part] = x[row, part * length : (part + 1) * length].  A work-group a part. */
kernel void reduce_rows(global float *restrict out, SOURCE ulong rows, ulong width, ulong length)
{
    GROUP_SCRATCH(scratch);
    ulong parts = (width + length - 1) / length;
    for (ulong item = get_group_id(0); item < rows * parts; item += get_num_groups(0)) {
        ulong begin = item % parts * length, end = min(begin + length, width);
        floatv sum = START, v;
        for (ulong i = begin + ROW_FIRST; i < end; i += ROW_STEP) {
            LOAD(v, item / parts, i, end)
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
kernel void reduce_columns(global float *restrict out, SOURCE ulong blocks, ulong height,
                           ulong width, ulong length)
{
    ulong parts = (height + length - 1) / length, vectors = (width + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong item = get_global_id(0); item < blocks * parts * vectors;
         item += get_global_size(0)) {
        ulong i = item % vectors * FLOAT_WIDTH, part = item / vectors % parts,
              block = item / vectors / parts;
        ulong begin = part * length, end = min(begin + length, height);
        floatv sum = START, v;
        for (ulong row = begin; row < end; row++) {
            LOAD(v, block * height + row, i, width)
            sum = COMBINE(sum, TERM(v));
        }
        store_row(sum, out + (block * parts + part) * width, i, width);
    }
}

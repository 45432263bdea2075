/* y = op(a) op(b), or what FUSED makes of it, of few rows (generating text), on a device of many work-items: b is read once, at
 * the speed of memory.
 *
 * A work-group makes 4 COLUMN_LANES columns of all rows, and then takes the next.  A work-item has four of the columns and each
 * K_LANES-th four steps of k; at the edge some columns are computed by two, and belong to one.  The sums of the lanes of k, a power of two, are
 * added by halves.  a and b are of type T, y is of type Y; n is 4 at least.
 *
 * The host defines ROWS (1 or 8, of which fewer may be there), COLUMN_LANES, K_LANES, TRANSPOSE_A and TRANSPOSE_B.  Sums have names, not indices: arrays end up in memory with some
 * compilers. */

#define GROUP (COLUMN_LANES * K_LANES)
#if ROWS == 1
#define SUBGROUPS_OF_ROWS
#define EACH_ROW(X) X(0)
#else
#define SUBGROUPS_OF_ROWS SUBGROUPS_OF_8 /* 32 sums and 20 factors */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#endif

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

/* Four steps of k, of which `left` are there, in a line of an operand. */
static inline float4 four_along(global const T *line, uint left)
{
    return left >= 4 ? load4(line) : load_part(line, left, 0.0f);
}

/* The same where steps are `row` apart. */
static inline float4 four_across(global const T *from, ulong row, uint left)
{
    return (float4)(load(from), left > 1 ? load(from + row) : 0.0f,
                    left > 2 ? load(from + 2 * row) : 0.0f, left > 3 ? load(from + 3 * row) : 0.0f);
}

kernel SUBGROUPS_OF_ROWS __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
gemm_skinny(global const T *restrict a, global const T *restrict b, global Y *restrict y,
            FUSED_PARAMETERS uint m, uint n, uint k, uint transpose_a, uint transpose_b,
            ulong a_row, ulong b_row, ulong a_offset, ulong b_offset, ulong y_offset, uint batch,
            uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner)
{
    local float4 sums[ROWS * GROUP];
    uint item = get_local_id(0);
    uint column_lane = TRANSPOSE_B ? item / K_LANES : item % COLUMN_LANES,
         k_lane = TRANSPOSE_B ? item % K_LANES : item / COLUMN_LANES;
    uint column_tiles = (n + 4 * COLUMN_LANES - 1) / (4 * COLUMN_LANES);
    ulong tiles = (ulong)column_tiles * batch;

    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        uint column_begin = t % column_tiles * (4 * COLUMN_LANES);
        ulong index = t / column_tiles, outer = index / batch_inner, inner = index % batch_inner;
        uint first = min(column_begin + 4 * column_lane, n - 4); /* of the four that are computed */
        global const T *a_from = a + a_offset + outer * a_outer + inner * a_inner,
                       *b_from = b + b_offset + outer * b_outer + inner * b_inner +
                                 (TRANSPOSE_B ? first * b_row : first);
#define DECLARE_SUM(i) float4 sum##i = 0.0f;
        EACH_ROW(DECLARE_SUM)

        for (uint step = 4 * k_lane; step < k; step += 4 * K_LANES) {
            uint left = k - step;
#if TRANSPOSE_B
            global const T *line = b_from + step;
            float4 line0 = four_along(line, left), line1 = four_along(line + b_row, left),
                   line2 = four_along(line + 2 * b_row, left),
                   line3 = four_along(line + 3 * b_row, left);
            float4 b0 = (float4)(line0.s0, line1.s0, line2.s0, line3.s0),
                   b1 = (float4)(line0.s1, line1.s1, line2.s1, line3.s1),
                   b2 = (float4)(line0.s2, line1.s2, line2.s2, line3.s2),
                   b3 = (float4)(line0.s3, line1.s3, line2.s3, line3.s3);
#else
            global const T *line = b_from + step * b_row;
            float4 b0 = load4(line), b1 = left > 1 ? load4(line + b_row) : 0.0f,
                   b2 = left > 2 ? load4(line + 2 * b_row) : 0.0f,
                   b3 = left > 3 ? load4(line + 3 * b_row) : 0.0f;
#endif
#if TRANSPOSE_A
#define FOUR_OF_A(i) four_across(a_from + step * a_row + min(i##u, m - 1), a_row, left)
#else
#define FOUR_OF_A(i) four_along(a_from + min(i##u, m - 1) * a_row + step, left)
#endif
#define MULTIPLY(i)                                                                                \
    float4 a##i = FOUR_OF_A(i);                                                                    \
    sum##i += a##i.s0 * b0;                                                                        \
    sum##i += a##i.s1 * b1;                                                                        \
    sum##i += a##i.s2 * b2;                                                                        \
    sum##i += a##i.s3 * b3;
            EACH_ROW(MULTIPLY)
        }

#define PUT(i) sums[(i * K_LANES + k_lane) * COLUMN_LANES + column_lane] = sum##i;
        EACH_ROW(PUT)
        barrier(CLK_LOCAL_MEM_FENCE);
        uint rows = min((uint)ROWS, m);
        for (uint half_size = K_LANES / 2; half_size > 0; half_size /= 2) {
            for (uint i = item; i < rows * half_size * COLUMN_LANES; i += GROUP) {
                uint row = i / (half_size * COLUMN_LANES), rest = i % (half_size * COLUMN_LANES);
                local float4 *sum = sums + row * GROUP + rest;
                *sum += sum[half_size * COLUMN_LANES];
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        for (uint i = item; i < rows * COLUMN_LANES; i += GROUP) {
            uint row = i / COLUMN_LANES, lane = i % COLUMN_LANES, column = column_begin + 4 * lane;
            if (column < n) {
                float4 sum = sums[row * GROUP + lane];
                ulong y_row = y_offset / n + index * m + row;
                uint end = min(n, column + 4);
                sum = lanes_from(sum, column - min(column, n - 4));
                FUSED(sum, y_row, column, end);
                store_row(sum, y + y_row * n, column, end);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

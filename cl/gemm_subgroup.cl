/* y = op(a) op(b), or what FUSED makes of it, on a device whose sub-groups of SUBGROUP work-items read each other's registers:
 * nothing goes through local memory but, if SHARES_B, a transposed b, of which a work-item would read a row for each of its columns.
 *
 * A sub-group makes tiles of ROWS x COLUMNS numbers of y, one after the other; a work-item has four columns of each row.  A block
 * of a, ROWS x SUBGROUP numbers, lies in the registers of the sub-group in the order of memory, and each of its numbers is handed
 * to all; b is read by each work-item for its own columns, of which at the edge some are computed by two, and belong to one (if SHARES_B, some
 * are none of y's).  Each number of y is one sum in the order of k.  a and b are of type T, y is of type Y; n is 4 at least.
 *
 * The sub-groups of a group have tiles below each other, as far as there are some, which need the same numbers of b: they wait for each other
 * every CHUNK steps of k, so that these come from the nearest cache for all but one; or, if SHARES_B, from local memory.
 *
 * The host defines SUBGROUP (8 or 16), GROUP (work-items), TRANSPOSE_A, TRANSPOSE_B and, of a transposed b, SHARES_B.  Sums have names, not
 * indices: arrays end up in memory with some compilers. */

#pragma OPENCL EXTENSION cl_intel_subgroups : enable

#define COLUMNS (4 * SUBGROUP)
#define ROWS 8
#define CHUNK (SHARES_B ? 64 : 128)
#define STACK (GROUP / SUBGROUP)
#define BAND 16 /* rows of tiles: a multiple of STACK */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

/* A register of the block of a: a row of it, or as many steps of k as it has room for where a is transposed. */
#if TRANSPOSE_A
#define FETCH_A(i)                                                                                 \
    float a##i = 0.0f;                                                                             \
    if (i * (SUBGROUP / ROWS) + lane / ROWS < steps)                                               \
        a##i = load(a_from + i * (SUBGROUP / ROWS) * a_row);
#define A_OF(i, r, half, s) sub_group_broadcast(a##r, half + i)
#else
#define FETCH_A(i)                                                                                 \
    float a##i = 0.0f;                                                                             \
    if (lane < steps)                                                                              \
        a##i = load(a_from + min(i##u, last_row) * a_row);
#define A_OF(i, r, half, s) sub_group_broadcast(a##i, s)
#endif

/* b's four columns at a step of k, the step i of four.  Where b is transposed four steps of a column come together, but for the last ones of k; or
 * all that the group needs lies in local memory, by steps. */
#if SHARES_B
#define FETCH_FOUR(begin)
#define B_OF(i, step) *b_step
#define NEXT_B b_step += COLUMNS / 4;
#elif TRANSPOSE_B
#define FETCH_FOUR(begin)                                                                          \
    float4 line0, line1, line2, line3;                                                             \
    if (is_whole) {                                                                                \
        line0 = load4(b_from + begin);                                                             \
        line1 = load4(b_from + b_row + begin);                                                     \
        line2 = load4(b_from + 2 * b_row + begin);                                                 \
        line3 = load4(b_from + 3 * b_row + begin);                                                 \
    }
#define B_OF(i, step)                                                                              \
    (is_whole ? (float4)(line0.s##i, line1.s##i, line2.s##i, line3.s##i)                           \
              : (float4)(load(b_from + step), load(b_from + b_row + step),                         \
                         load(b_from + 2 * b_row + step), load(b_from + 3 * b_row + step)))
#define NEXT_B
#else
#define FETCH_FOUR(begin)
#define B_OF(i, step) load4(b_from)
#define NEXT_B b_from += b_row;
#endif

/* Step s of k, the step i of four, which is in register r of a transposed a. */
#define STEP(i, r, half, s)                                                                        \
    if (s < steps) {                                                                               \
        float4 b4 = B_OF(i, s);                                                                    \
        sum0 += A_OF(0, r, half, s) * b4;                                                          \
        sum1 += A_OF(1, r, half, s) * b4;                                                          \
        sum2 += A_OF(2, r, half, s) * b4;                                                          \
        sum3 += A_OF(3, r, half, s) * b4;                                                          \
        sum4 += A_OF(4, r, half, s) * b4;                                                          \
        sum5 += A_OF(5, r, half, s) * b4;                                                          \
        sum6 += A_OF(6, r, half, s) * b4;                                                          \
        sum7 += A_OF(7, r, half, s) * b4;                                                          \
        NEXT_B                                                                                     \
    }
#if SUBGROUP == ROWS
#define FOUR_STEPS(s0, s1, s2, s3)                                                                 \
    {                                                                                              \
        FETCH_FOUR(s0)                                                                             \
        STEP(0, s0, 0, s0) STEP(1, s1, 0, s1) STEP(2, s2, 0, s2) STEP(3, s3, 0, s3)                \
    }
#define MULTIPLY_BLOCK                                                                             \
    {                                                                                              \
        EACH_ROW(FETCH_A)                                                                          \
        FOUR_STEPS(0, 1, 2, 3)                                                                     \
        FOUR_STEPS(4, 5, 6, 7)                                                                     \
    }
#else
#define FOUR_STEPS(r0, r1, s0, s1, s2, s3)                                                         \
    {                                                                                              \
        FETCH_FOUR(s0)                                                                             \
        STEP(0, r0, 0, s0) STEP(1, r0, ROWS, s1) STEP(2, r1, 0, s2) STEP(3, r1, ROWS, s3)          \
    }
#define MULTIPLY_BLOCK                                                                             \
    {                                                                                              \
        EACH_ROW(FETCH_A)                                                                          \
        FOUR_STEPS(0, 1, 0, 1, 2, 3)                                                               \
        FOUR_STEPS(2, 3, 4, 5, 6, 7)                                                               \
        FOUR_STEPS(4, 5, 8, 9, 10, 11)                                                             \
        FOUR_STEPS(6, 7, 12, 13, 14, 15)                                                           \
    }
#endif

#if SHARES_B
/* COLUMNS columns of b and `steps` steps of k: a work-item reads four steps of a column at a time. */
static inline void fetch_block(local float *block, global const T *b, ulong b_row, uint column, uint n,
                               uint steps)
{
    for (uint e = get_local_id(0); e < COLUMNS * ((steps + 3) / 4); e += GROUP) {
        uint own = e % COLUMNS, step = e / COLUMNS * 4;
        global const T *from = b + min(column + own, n - 1) * b_row + step;
        float4 four = step + 4 <= steps ? load4(from) : load4_part(from, (int)steps - (int)step, 0.0f);
        block[step * COLUMNS + own] = four.s0;
        block[(step + 1) * COLUMNS + own] = four.s1;
        block[(step + 2) * COLUMNS + own] = four.s2;
        block[(step + 3) * COLUMNS + own] = four.s3;
    }
}
#endif

kernel __attribute__((intel_reqd_sub_group_size(SUBGROUP), reqd_work_group_size(GROUP, 1, 1))) void
gemm_subgroup(global const T *restrict a, global const T *restrict b, global Y *restrict y,
              FUSED_PARAMETERS uint m, uint n, uint k, uint transpose_a, uint transpose_b,
              ulong a_row, ulong b_row, ulong a_offset, ulong b_offset, ulong y_offset, uint batch,
              uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner)
{
    uint lane = get_sub_group_local_id();
    uint row_tiles = (m + ROWS - 1) / ROWS, column_tiles = (n + COLUMNS - 1) / COLUMNS;
#if SHARES_B
    local float4 b_block[CHUNK * COLUMNS / 4];
    row_tiles = (row_tiles + STACK - 1) / STACK * STACK; /* those of a group are below each other */
#endif
    uint matrix_tiles = row_tiles * column_tiles;
    ulong tiles = (ulong)matrix_tiles * batch;

    for (ulong first_tile = get_group_id(0) * STACK; first_tile < tiles;
         first_tile += get_num_groups(0) * STACK) {
        ulong own = first_tile + get_sub_group_id();
        ulong t = own < tiles ? own : first_tile; /* whoever has none waits with the others */
        ulong index = t / matrix_tiles, outer = index / batch_inner, inner = index % batch_inner;
        uint2 tile = tile_in_bands(t % matrix_tiles, row_tiles, column_tiles, BAND);
        bool has_tile = own < tiles && tile.s0 * ROWS < m;
        uint row = tile.s0 * ROWS < m ? tile.s0 * ROWS : 0, column = tile.s1 * COLUMNS + 4 * lane;
        uint first = SHARES_B ? column : min(column, n - 4); /* of the four columns that are computed */
        uint last_row = min((uint)ROWS, m - row) - 1;
        global const T *a_from = a + a_offset + outer * a_outer + inner * a_inner +
                                 (TRANSPOSE_A ? lane / ROWS * a_row + min(row + lane % ROWS, m - 1)
                                              : row * a_row + lane);
        global const T *b_from = b + b_offset + outer * b_outer + inner * b_inner +
                                 (SHARES_B ? 0 : TRANSPOSE_B ? first * b_row : first);
#define DECLARE_SUM(i) float4 sum##i = 0.0f;
        EACH_ROW(DECLARE_SUM)

        for (uint begin = 0; begin < k; begin += CHUNK) {
            uint left = min((uint)CHUNK, k - begin);
            barrier(CLK_LOCAL_MEM_FENCE);
#if SHARES_B
            local const float4 *b_step = b_block + lane;
            fetch_block((local float *)b_block, b_from + begin, b_row, tile.s1 * COLUMNS, n, left);
            barrier(CLK_LOCAL_MEM_FENCE);
#endif
            for (; left >= SUBGROUP; left -= SUBGROUP) {
                const bool is_whole = true;
                const uint steps = SUBGROUP;
                MULTIPLY_BLOCK
                a_from += TRANSPOSE_A ? SUBGROUP * a_row : SUBGROUP;
                b_from += TRANSPOSE_B && !SHARES_B ? SUBGROUP : 0;
            }
            if (left > 0) {
                const bool is_whole = false;
                uint steps = left;
                MULTIPLY_BLOCK
            }
        }

        ulong y_row = y_offset / n + index * m + row;
        uint end = min(n, column + 4);
#define FINISH(i)                                                                                  \
    if (has_tile && column < n && i <= last_row) {                                                 \
        float4 sum = lanes_from(sum##i, column - first);                                           \
        FUSED(sum, y_row + i, column, end);                                                        \
        store_row(sum, y + (y_row + i) * n, column, end);                                          \
    }
        EACH_ROW(FINISH)
    }
}

/* y = op(a) op(b), or what FUSED makes of it, on a device of many work-items.
 *
 * A work-group makes tiles of TILE x TILE numbers of y, one after the other, from slices of DEPTH
 * columns of a and rows of b in local memory.  A work-item holds BLOCK x BLOCK of them in
 * registers: in groups of four, SIDE groups apart, so that it reads local memory by fours next to
 * its neighbours'.  While a slice is multiplied the next is on its way to registers.  Each number
 * of y is one sum in the order of k: the choice of tile changes nothing in the numbers.  a and b are of type T, y is of type Y.
 *
 * The host defines TILE, BLOCK (4 or 8), DEPTH, TRANSPOSE_A and TRANSPOSE_B such that GROUP is a
 * multiple of TILE and DEPTH.  Sums have names, not indices: arrays end up in memory with some
 * compilers. */

#define BAND 8              /* rows of tiles */
#define SIDE (TILE / BLOCK) /* work-items along a side of the tile */
#define GROUP (SIDE * SIDE)

/* From row to row of a slice, in float4: what is written transposed falls into different banks. */
#define PITCH (TILE / 4 + 1)

/* A work-item fetches TILE * DEPTH / GROUP = 8 numbers of each slice, so many lines (rows of op(a),
 * columns of op(b)) and steps of k apart: neighbours fetch neighbours in memory. */
#if TRANSPOSE_A
#define A_LINES 0
#define A_STEPS (GROUP / TILE)
#else
#define A_LINES (GROUP / DEPTH)
#define A_STEPS 0
#endif
#if TRANSPOSE_B
#define B_LINES (GROUP / DEPTH)
#define B_STEPS 0
#else
#define B_LINES 0
#define B_STEPS (GROUP / TILE)
#endif
#define EACH_FETCHED(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* clang-format off */
#if BLOCK == 8
#define EACH_ROW(X)                                                                                \
    X(0, a_low.s0) X(1, a_low.s1) X(2, a_low.s2) X(3, a_low.s3)                                    \
    X(4, a_high.s0) X(5, a_high.s1) X(6, a_high.s2) X(7, a_high.s3)
#else
#define EACH_ROW(X) X(0, a_low.s0) X(1, a_low.s1) X(2, a_low.s2) X(3, a_low.s3)
#endif
/* clang-format on */

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

/* What comes after the product, and the edge, for up to four numbers of a row of n. */
static inline void finish(float4 sum, global Y *restrict y, ulong n, ulong row, uint column,
                   FUSED_PARAMETERS uint end)
{
    end = min(end, column + 4);
#if FLOAT_WIDTH == 4
    FUSED(sum, row, column, end);
    store_row(sum, y + row * n, column, end);
#else
    float sums[FLOAT_WIDTH > 4 ? FLOAT_WIDTH : 4];
    vstore4(sum, 0, sums);
    for (uint i = 0; column + i < end; i += FLOAT_WIDTH) {
        floatv v = loadv(0, sums + i);
        FUSED(v, row, column + i, end);
        store_row(v, y + row * n, column + i, end);
    }
#endif
}

kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
gemm_tiled(global const T *restrict a, global const T *restrict b, global Y *restrict y,
           FUSED_PARAMETERS uint m, uint n, uint k, uint transpose_a, uint transpose_b, ulong a_row,
           ulong b_row, ulong a_offset, ulong b_offset, ulong y_offset, uint batch,
           uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner)
{
    local float4 a_slice[DEPTH * PITCH], b_slice[DEPTH * PITCH];
    uint item = get_local_id(0), item_row = item / SIDE, item_column = item % SIDE;
    uint a_line = TRANSPOSE_A ? item % TILE : item / DEPTH,
         a_step = TRANSPOSE_A ? item / TILE : item % DEPTH;
    uint b_line = TRANSPOSE_B ? item / DEPTH : item % TILE,
         b_step = TRANSPOSE_B ? item % DEPTH : item / TILE;
    local float *a_to = (local float *)a_slice + a_step * 4 * PITCH + a_line;
    local float *b_to = (local float *)b_slice + b_step * 4 * PITCH + b_line;
    uint row_tiles = (m + TILE - 1) / TILE, column_tiles = (n + TILE - 1) / TILE;
    uint matrix_tiles = row_tiles * column_tiles;
    ulong tiles = (ulong)matrix_tiles * batch;

    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        ulong index = t / matrix_tiles, outer = index / batch_inner, inner = index % batch_inner;
        uint2 tile = tile_in_bands(t % matrix_tiles, row_tiles, column_tiles, BAND);
        uint row_begin = tile.s0 * TILE, column_begin = tile.s1 * TILE;
        uint rows = m - row_begin, columns = n - column_begin;
        global const T *a_from = a + a_offset + outer * a_outer + inner * a_inner +
                                 (TRANSPOSE_A ? a_step * a_row + row_begin + a_line
                                              : (row_begin + a_line) * a_row + a_step);
        global const T *b_from = b + b_offset + outer * b_outer + inner * b_inner +
                                 (TRANSPOSE_B ? (column_begin + b_line) * b_row + b_step
                                              : b_step * b_row + column_begin + b_line);
#define DECLARE_SUM(i, a_part) float4 low##i = 0.0f, high##i = 0.0f;
        EACH_ROW(DECLARE_SUM)

        for (uint begin = 0; begin < k + DEPTH; begin += DEPTH) {
            /* The slice that begins here is fetched; the one before it is multiplied. */
#define FETCH(i)                                                                                   \
    float a##i = 0.0f, b##i = 0.0f;                                                                \
    if (a_line + i * A_LINES < rows && begin + a_step + i * A_STEPS < k)                           \
        a##i = load(a_from + i * (A_LINES + A_STEPS) * a_row);                                     \
    if (b_line + i * B_LINES < columns && begin + b_step + i * B_STEPS < k)                        \
        b##i = load(b_from + i * (B_LINES + B_STEPS) * b_row);
            EACH_FETCHED(FETCH)
            a_from += TRANSPOSE_A ? DEPTH * a_row : DEPTH;
            b_from += TRANSPOSE_B ? DEPTH : DEPTH * b_row;

            if (begin > 0) {
                for (uint d = 0; d < DEPTH; d++) {
                    float4 a_low = a_slice[d * PITCH + item_row],
                           b_low = b_slice[d * PITCH + item_column];
#if BLOCK == 8
                    float4 a_high = a_slice[d * PITCH + SIDE + item_row],
                           b_high = b_slice[d * PITCH + SIDE + item_column];
#define MULTIPLY(i, a_part)                                                                        \
    low##i += (a_part)*b_low;                                                                      \
    high##i += (a_part)*b_high;
#else
#define MULTIPLY(i, a_part) low##i += (a_part)*b_low;
#endif
                    EACH_ROW(MULTIPLY)
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE);
#define PUT(i)                                                                                     \
    a_to[i * (A_LINES + A_STEPS * 4 * PITCH)] = a##i;                                              \
    b_to[i * (B_LINES + B_STEPS * 4 * PITCH)] = b##i;
            EACH_FETCHED(PUT)
            barrier(CLK_LOCAL_MEM_FENCE);
        }

        ulong y_row = y_offset / n + index * m + row_begin;
#define FINISH(sum, i, j)                                                                          \
    if (i < rows && j < columns)                                                                   \
        finish(sum, y, n, y_row + i, column_begin + j, FUSED_ARGUMENTS n);
#if BLOCK == 8
#define FINISH_ROW(i, a_part)                                                                      \
    FINISH(low##i, (i / 4 * SIDE + item_row) * 4 + i % 4, item_column * 4)                         \
    FINISH(high##i, (i / 4 * SIDE + item_row) * 4 + i % 4, (SIDE + item_column) * 4)
#else
#define FINISH_ROW(i, a_part) FINISH(low##i, item_row * 4 + i, item_column * 4)
#endif
        EACH_ROW(FINISH_ROW)
    }
}

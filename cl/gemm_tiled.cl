/* y = op(a) op(b), or what FUSED makes of it, on a device of many work-items.
 *
 * A work-group makes tiles of TILE x TILE numbers of y, one after the other, from slices of DEPTH
 * columns of op(a) and rows of op(b) in local memory.  A work-item holds BLOCK x BLOCK of them in
 * registers: in groups of four, SIDE groups apart, so that it reads local memory by fours next to
 * its neighbours'.  While a slice is multiplied the next is on its way to registers.  Each number
 * of y is one sum in the order of k: the choice of tile changes nothing in the numbers.  a and b are of type T, y is of type Y.
 *
 * A line is a row of op(a) or a column of op(b).  A work-item fetches fours of numbers that are neighbours in memory: of a line or,
 * where the operand lies "by k", of a step of k.
 *
 * The host defines TILE, BLOCK (4 or 8), DEPTH such that each work-item fetches two fours of each operand, TRANSPOSE_A and
 * TRANSPOSE_B.  Sums have names, not indices: arrays end up in memory with some compilers. */

#define BAND 8              /* rows of tiles */
#define SIDE (TILE / BLOCK) /* work-items along a side of the tile */
#define GROUP (SIDE * SIDE)

/* From row to row of a slice, in float4: of what is written transposed at most two fall into one bank. */
#define PITCH (TILE / 4 + 1)

#define A_BY_K TRANSPOSE_A
#define B_BY_K (!TRANSPOSE_B)

/* Where in a slice a work-item's fours are: the first at number ALONG of line, or by k of step, ACROSS, the next one STRIDE of those further. */
#define FOURS_ALONG(by_k) ((by_k ? TILE : DEPTH) / 4)
#define ALONG(by_k) (item % FOURS_ALONG(by_k) * 4)
#define ACROSS(by_k) (item / FOURS_ALONG(by_k))
#define STRIDE(by_k) (GROUP / FOURS_ALONG(by_k))
#define EACH_FOUR(X) X(0) X(1)

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

/* Whether one instruction fetches a four, in this row and all others. */
#define HAS_FOURS(from, row) (!NEEDS_ALIGNMENT || (IS_ALIGNED(from, T[4]) && row % 4 == 0))

static inline float4 fetch(global const T *from, bool has_fours)
{
    return has_fours ? load4_aligned(from) : load4_part(from, 4, 0.0f);
}

/* Four numbers of a step, or of a line's steps. */
static inline void put(float4 v, local float *slice, uint by_k)
{
    if (by_k) {
        *(local float4 *)slice = v;
        return;
    }
    slice[0] = v.s0;
    slice[4 * PITCH] = v.s1;
    slice[8 * PITCH] = v.s2;
    slice[12 * PITCH] = v.s3;
}

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
    uint a_along = ALONG(A_BY_K), a_across = ACROSS(A_BY_K), b_along = ALONG(B_BY_K),
         b_across = ACROSS(B_BY_K);
#define PLACE(by_k, along, across) (by_k ? across * 4 * PITCH + along : along * 4 * PITCH + across)
    local float *a_to = (local float *)a_slice + PLACE(A_BY_K, a_along, a_across);
    local float *b_to = (local float *)b_slice + PLACE(B_BY_K, b_along, b_across);
    uint row_tiles = (m + TILE - 1) / TILE, column_tiles = (n + TILE - 1) / TILE;
    uint matrix_tiles = row_tiles * column_tiles;
    ulong tiles = (ulong)matrix_tiles * batch;

    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        ulong index = t / matrix_tiles, outer = index / batch_inner, inner = index % batch_inner;
        uint2 tile = tile_in_bands(t % matrix_tiles, row_tiles, column_tiles, BAND);
        uint row_begin = tile.s0 * TILE, column_begin = tile.s1 * TILE;
        uint rows = m - row_begin, columns = n - column_begin;
        global const T *a_from = a + a_offset + outer * a_outer + inner * a_inner + a_along +
                                 (A_BY_K ? a_across * a_row + row_begin : (row_begin + a_across) * a_row);
        global const T *b_from = b + b_offset + outer * b_outer + inner * b_inner + b_along +
                                 (B_BY_K ? b_across * b_row + column_begin : (column_begin + b_across) * b_row);
        bool is_whole = rows >= TILE && columns >= TILE, a_has_fours = HAS_FOURS(a_from, a_row),
             b_has_fours = HAS_FOURS(b_from, b_row);
#define DECLARE_SUM(i, a_part) float4 low##i = 0.0f, high##i = 0.0f;
        EACH_ROW(DECLARE_SUM)
#define DECLARE_FOUR(i) float4 a##i, b##i;
        EACH_FOUR(DECLARE_FOUR)

/* The slice that begins at `first`: without a look at edges, or with one for each number. */
#define FETCH(i)                                                                                   \
    a##i = fetch(a_from + i * STRIDE(A_BY_K) * a_row, a_has_fours);                                \
    b##i = fetch(b_from + i * STRIDE(B_BY_K) * b_row, b_has_fours);
#define COUNT(by_k, along, across, lines)                                                          \
    (by_k ? (first + across < k ? (int)(lines - along) : 0)                                        \
          : (across < lines ? (int)(k - first - along) : 0))
#define FETCH_SOME(i)                                                                              \
    a##i = load4_part(a_from + i * STRIDE(A_BY_K) * a_row,                                         \
                      COUNT(A_BY_K, a_along, a_across + i * STRIDE(A_BY_K), rows), 0.0f);                \
    b##i = load4_part(b_from + i * STRIDE(B_BY_K) * b_row,                                         \
                      COUNT(B_BY_K, b_along, b_across + i * STRIDE(B_BY_K), columns), 0.0f);
#define FETCH_SLICE                                                                                \
    if (is_whole && first + DEPTH <= k) {                                                         \
        EACH_FOUR(FETCH)                                                                           \
    } else {                                                                                       \
        EACH_FOUR(FETCH_SOME)                                                                      \
    }                                                                                              \
    a_from += A_BY_K ? DEPTH * a_row : DEPTH;                                                      \
    b_from += B_BY_K ? DEPTH * b_row : DEPTH;
#define PUT(i)                                                                                     \
    put(a##i, a_to + i * STRIDE(A_BY_K) * (A_BY_K ? 4 * PITCH : 1), A_BY_K);   \
    put(b##i, b_to + i * STRIDE(B_BY_K) * (B_BY_K ? 4 * PITCH : 1), B_BY_K);

        uint first = 0;
        FETCH_SLICE
        while (first < k) {
            EACH_FOUR(PUT)
            barrier(CLK_LOCAL_MEM_FENCE);
            first += DEPTH;
            FETCH_SLICE /* beyond the last it is of zeros */
#ifndef POCL_DEVICE_ADDRESS_BITS /* whose CPUs gain nothing by it */
#pragma unroll
#endif
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

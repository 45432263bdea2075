/* y = op(a) op(b), or what FUSED makes of it, on a CPU.  One work-item a group; it makes tiles of y,
 * one after the other.  There are two ways, and one kernel for both, so that no size compiles
 * anything.
 *
 * Many rows (Goto and van de Geijn: "Anatomy of high-performance matrix multiplication", 2008):
 *
 *     for each block of k:      pack its rows of b, in panels of COLUMNS
 *       for each part of rows:  pack those of a, in panels of ROWS
 *         for each panel of b:
 *           for each of a:      ROWS x COLUMNS of y += panel of a times panel of b, in registers
 *
 * A panel of b stays in the first-level cache, those of a part of a in the second-level cache.  b is
 * packed while the first part of rows meets it, a few panels at a time.
 *
 * Packing costs a tenth of the time, makes all memory access sequential, and hides transposition and
 * edges from the inner loop.  Sums over k are split by k_block only: the sizes of tiles change
 * nothing in the numbers.
 *
 * B_IS_PACKED: all panels of b were packed by gemm_pack(), once for many products.
 *
 * a and b (unless it is packed) are of type T, y is of type Y.  Sums are floats: where y is narrower (IS_NARROW) they are kept elsewhere
 * until they are whole.
 *
 * Few rows (row_tile is 0), unless both operands are transposed: b is read once, at the speed of
 * memory, and a tile has all rows. */

#if FLOAT_WIDTH == 16
#define ROWS 12 /* 24 sums, 2 vectors of b and 1 of a: 27 of 32 registers */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#else
#define ROWS 6 /* 12 sums, 2 vectors of b and 1 of a: 15 of 16 registers */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#endif
#define EACH_OF_FOUR(X) X(0) X(1) X(2) X(3)
#define COLUMNS (2 * FLOAT_WIDTH)

/* From panel to panel: not a power of two, which would put them into a few sets of a cache; and
 * packing writes some numbers more than a panel of a has. */
#define A_PANEL(k_block) ((k_block)*ROWS + FLOAT_WIDTH)
#define B_PANEL(k_block) ((k_block)*COLUMNS + 16)

#define ROWS_AHEAD 8
#define CACHE_LINE (64 / sizeof(T))
#define PACKED_COLUMNS (4 * COLUMNS) /* of b at once: long runs, and still near when used */

#if B_IS_PACKED
#define B_SPACE global
#define B float
#else
#define B_SPACE local
#define B T
#endif

#if IS_NARROW
#define SUMS_PARAMETER , global float *sums
#else
#define SUMS_PARAMETER
#endif

#ifdef FUSED
#define IS_FUSED 1
#else
#define IS_FUSED 0
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

/* panel[k][i] = x[i * step + k] for i < width, k < depth: 4 x 4 numbers at a time, the last rows
 * first, since four are written where two may be meant.  Rows beyond `count` repeat the last. */
inline void pack_transposed(local float *panel, uint width, global const T *x, ulong step,
                            uint count, uint depth)
{
    for (uint i = (width + 3) / 4 * 4; i > 0;) {
        i -= 4;
        global const T *x0 = x + min(i, count - 1) * step, *x1 = x + min(i + 1, count - 1) * step;
        global const T *x2 = x + min(i + 2, count - 1) * step,
                       *x3 = x + min(i + 3, count - 1) * step;
        local float *to = panel + i;
        uint k = 0;
        for (; k + 4 <= depth; k += 4, to += 4 * width) {
            float4 r0 = load4(x0 + k), r1 = load4(x1 + k), r2 = load4(x2 + k), r3 = load4(x3 + k);
            float4 p0 = (float4)(r0.s0, r1.s0, r0.s1, r1.s1),
                   p1 = (float4)(r2.s0, r3.s0, r2.s1, r3.s1);
            float4 p2 = (float4)(r0.s2, r1.s2, r0.s3, r1.s3),
                   p3 = (float4)(r2.s2, r3.s2, r2.s3, r3.s3);
            vstore4((float4)(p0.lo, p1.lo), 0, to);
            vstore4((float4)(p0.hi, p1.hi), 0, to + width);
            vstore4((float4)(p2.lo, p3.lo), 0, to + 2 * width);
            vstore4((float4)(p2.hi, p3.hi), 0, to + 3 * width);
        }
        for (; k < depth; k++, to += width)
            vstore4((float4)(load(x0 + k), load(x1 + k), load(x2 + k), load(x3 + k)), 0, to);
    }
}

/* panels[i / width][k][i % width] = x[k * step + i] for i < count, k < depth; whole vectors are
 * written, again into what is written later.  Each row of x is read from end to end, since columns
 * of it would miss the caches. */
inline void pack_rows(local float *panels, uint width, ulong panel, global const T *x, ulong step,
                      uint count, uint depth)
{
    uint vectors = (width + FLOAT_WIDTH - 1) / FLOAT_WIDTH * FLOAT_WIDTH;
    for (uint k = 0; k < depth; k++, panels += width, x += step) {
        local float *to = panels;
        uint i = 0;
        if (k + ROWS_AHEAD < depth)
            for (uint j = 0; j < count; j += CACHE_LINE)
                PREFETCH(x + ROWS_AHEAD * step + j);
        for (; i + vectors <= count; i += width, to += panel)
            for (uint j = 0; j < width; j += FLOAT_WIDTH)
                storev(loadv(0, x + i + j), 0, to + j);
        for (; i < count; i += width, to += panel)
            for (uint j = 0; j < width && i + j < count; j++)
                to[j] = load(x + i + j);
    }
}

/* Panels of x, whose rows (columns, if `along_rows`) they have, `step` apart. */
inline void pack(local float *panels, uint width, ulong panel, global const T *x, ulong step,
                 bool along_rows, uint count, uint depth)
{
    if (along_rows)
        pack_rows(panels, width, panel, x, step, count, depth);
    else
        for (uint i = 0; i < count; i += width, panels += panel)
            pack_transposed(panels, width, x + i * step, step, count - i, depth);
}

/* What multiply_panels() does with the product. */
#define TO_TILE 0
#define TO_Y 1
#define ADD_TO_Y 2

/* The sum over k of a[k][i] b[k][j], for `rows` rows: to a tile of COLUMNS, or to whole columns of
 * y. */
inline void multiply_panels(local const float *a, B_SPACE const float *b, uint rows, uint depth,
                            uint target, local float *tile, global float *restrict y, ulong y_row)
{
#define DECLARE(i) floatv low##i = (floatv)(0.0f), high##i = (floatv)(0.0f);
#define MULTIPLY(i)                                                                                \
    low##i += a[i] * b_low;                                                                        \
    high##i += a[i] * b_high;
#define STORE_TILE(i)                                                                              \
    storev(low##i, 2 * i, tile);                                                                   \
    storev(high##i, 2 * i + 1, tile);
#define STORE_Y(i)                                                                                 \
    if (i < rows) {                                                                                \
        storev(low##i, 0, y + i * y_row);                                                          \
        storev(high##i, 1, y + i * y_row);                                                         \
    }
#define ADD_Y(i)                                                                                   \
    if (i < rows) {                                                                                \
        storev(loadv(0, y + i * y_row) + low##i, 0, y + i * y_row);                                \
        storev(loadv(1, y + i * y_row) + high##i, 1, y + i * y_row);                               \
    }
#define MULTIPLY_ROWS(EACH)                                                                        \
    EACH(DECLARE)                                                                                  \
    for (uint k = 0; k < depth; k++, a += ROWS, b += COLUMNS) {                                    \
        floatv b_low = loadv(0, b), b_high = loadv(1, b);                                          \
        EACH(MULTIPLY)                                                                             \
    }                                                                                              \
    if (target == TO_TILE) {                                                                       \
        EACH(STORE_TILE)                                                                           \
    } else if (target == TO_Y) {                                                                   \
        EACH(STORE_Y)                                                                              \
    } else {                                                                                       \
        EACH(ADD_Y)                                                                                \
    }

    if (rows > 4) {
        MULTIPLY_ROWS(EACH_ROW)
    } else {
        MULTIPLY_ROWS(EACH_OF_FOUR)
    }
}

#define load_up_to(p, lanes) load_row(p, 0, lanes, 0.0f)
#define store_up_to(v, p, lanes) store_row(v, p, 0, lanes)

/* Adds a part of a tile, whose rows are `pitch` apart, to rows of y, n apart; or writes them, if it is the first. */
inline void add_tile(local const float *tile, uint pitch, global float *restrict y, ulong n,
                     uint rows, uint columns, bool first)
{
    for (uint i = 0; i < rows; i++, tile += pitch, y += n) {
        for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
            floatv v = loadv(0, tile + j);
            if (!first)
                v += load_up_to(y + j, columns - j);
            store_up_to(v, y + j, columns - j);
        }
    }
}

/* What comes after the product: in rows of n numbers, those of `column` to `end`.  Along the rows, so that what else it
 * reads comes from memory in order. */
inline void finish_rows(global const float *sums, global Y *y, ulong n, FUSED_PARAMETERS ulong row,
                        ulong row_end, uint column, uint end)
{
    for (; row < row_end; row++) {
        uint j = column;
        for (; j + FLOAT_WIDTH <= end; j += FLOAT_WIDTH) { /* whole vectors, and FUSED is told so */
            floatv v = loadv(0, sums + row * n + j);
            FUSED(v, row, j, j + FLOAT_WIDTH);
            storev(v, 0, y + row * n + j);
        }
        if (j < end) {
            floatv v = load_up_to(sums + row * n + j, end - j);
            FUSED(v, row, j, end);
            store_up_to(v, y + row * n + j, end - j);
        }
    }
}

/* ---- Few rows ---- */

#define DEPTH 8 /* rows of b that are in registers at once, while sums are in local memory */
#define EACH_OF_EIGHT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* sums[i][j] = sum over k of a[i][k] b[k][j]; rows of sums are `pitch` apart. */
inline void multiply_rows(local float *sums, uint pitch, global const T *a, ulong a_row,
                          ulong a_column, global const T *b, ulong b_row, uint m, uint columns,
                          uint k)
{
    for (uint i = 0; i < m; i++)
        for (uint j = 0; j < columns; j += FLOAT_WIDTH)
            storev((floatv)(0.0f), 0, sums + i * pitch + j);
    uint d = 0;
    for (; d + DEPTH <= k; d += DEPTH, b += DEPTH * b_row) {
        for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
#define LOAD(e) floatv b##e = load_up_to(b + e * b_row + j, columns - j);
            EACH_OF_EIGHT(LOAD)
            for (uint i = 0; i < m; i++) {
                global const T *x = a + i * a_row + d * a_column;
                floatv even = load(x) * b0, odd = load(x + a_column) * b1;
                even += load(x + 2 * a_column) * b2;
                odd += load(x + 3 * a_column) * b3;
                even += load(x + 4 * a_column) * b4;
                odd += load(x + 5 * a_column) * b5;
                even += load(x + 6 * a_column) * b6;
                odd += load(x + 7 * a_column) * b7;
                storev(loadv(0, sums + i * pitch + j) + (even + odd), 0, sums + i * pitch + j);
            }
        }
    }
    for (; d < k; d++, b += b_row) {
        for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
            floatv row = load_up_to(b + j, columns - j);
            for (uint i = 0; i < m; i++)
                storev(loadv(0, sums + i * pitch + j) + load(a + i * a_row + d * a_column) * row, 0,
                       sums + i * pitch + j);
        }
    }
}

/* The same for b stored transposed: products of rows, four of b by two of a (the last of which may
 * be one twice).  The pitch is a multiple of four. */
inline void multiply_columns(local float *sums, uint pitch, global const T *a, ulong a_row,
                             global const T *b, ulong b_row, uint m, uint columns, uint k)
{
#define DECLARE_COLUMN(j)                                                                          \
    global const T *b##j = b + min(column + j, columns - 1) * b_row;                               \
    floatv upper##j = (floatv)(0.0f), lower##j = (floatv)(0.0f);
#define MULTIPLY_COLUMN(j)                                                                         \
    floatv v##j = loadv(0, b##j + d);                                                              \
    upper##j += x_upper * v##j;                                                                    \
    lower##j += x_lower * v##j;
    for (uint column = 0; column < columns; column += 4) {
        for (uint i = 0; i < m; i += 2) {
            global const T *a_upper = a + i * a_row, *a_lower = a + min(i + 1, m - 1) * a_row;
            EACH_OF_FOUR(DECLARE_COLUMN)
            uint d = 0;
            for (; d + FLOAT_WIDTH <= k; d += FLOAT_WIDTH) {
                floatv x_upper = loadv(0, a_upper + d), x_lower = loadv(0, a_lower + d);
                EACH_OF_FOUR(MULTIPLY_COLUMN)
            }
            float4 upper = (float4)(sum_lanes(upper0), sum_lanes(upper1), sum_lanes(upper2),
                                    sum_lanes(upper3));
            float4 lower = (float4)(sum_lanes(lower0), sum_lanes(lower1), sum_lanes(lower2),
                                    sum_lanes(lower3));
            for (; d < k; d++) {
                float4 v = (float4)(load(b0 + d), load(b1 + d), load(b2 + d), load(b3 + d));
                upper += load(a_upper + d) * v;
                lower += load(a_lower + d) * v;
            }
            uint below = min(i + 1, m - 1);
            vstore4(lower, 0, sums + below * pitch + column);
            vstore4(upper, 0, sums + i * pitch + column);
        }
    }
}

#if B_IS_PACKED
/* Where a panel of b begins: block after block of k, all its panels. */
#define PACKED_PANEL(block, panel, n, k_block)                                                     \
    (((ulong)(block) * ((n + COLUMNS - 1) / COLUMNS) + panel) * B_PANEL(k_block))

/* A work-item makes a panel.  Columns that b does not have are 0. */
kernel void gemm_pack(global float *restrict packed, global const T *restrict b, uint n, uint k,
                      uint transpose_b, ulong b_row, ulong b_offset, uint k_block)
{
    uint panels = (n + COLUMNS - 1) / COLUMNS, blocks = (k + k_block - 1) / k_block;
    for (ulong item = get_global_id(0); item < (ulong)panels * blocks; item += get_global_size(0)) {
        uint block = item / panels, column = item % panels * COLUMNS;
        uint depth = min(k_block, k - block * k_block), columns = min((uint)COLUMNS, n - column);
        ulong k_step = transpose_b ? 1 : b_row, column_step = transpose_b ? b_row : 1;
        global const T *from = b + b_offset + block * k_block * k_step + column * column_step;
        global float *to = packed + PACKED_PANEL(block, item % panels, n, k_block);
        for (uint d = 0; d < depth; d++, from += k_step, to += COLUMNS) {
            if (columns == COLUMNS && !transpose_b) {
                storev(loadv(0, from), 0, to);
                storev(loadv(1, from), 1, to);
            } else {
                for (uint j = 0; j < COLUMNS; j++)
                    to[j] = j < columns ? load(from + j * column_step) : 0.0f;
            }
        }
    }
}
#endif

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
gemm_cpu(global const T *restrict a, global const B *restrict b, global Y *y,
         FUSED_PARAMETERS uint m, uint n, uint k, uint transpose_a, uint transpose_b, ulong a_row,
         ulong b_row, ulong a_offset, ulong b_offset, ulong y_offset, uint batch, uint batch_inner,
         ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner, uint row_tile,
         uint column_tile, uint row_part, uint k_block, local float *a_panels,
         local float *b_panels, local float *tile SUMS_PARAMETER)
{
#if !IS_NARROW
    global float *sums = y;
#endif
    uint row_tiles = row_tile ? (m + row_tile - 1) / row_tile : 1,
         column_tiles = (n + column_tile - 1) / column_tile;
    ulong tiles = (ulong)row_tiles * column_tiles * batch;
    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        uint column_begin = t % column_tiles * column_tile,
             column_end = min(n, column_begin + column_tile);
        uint row_begin = t / column_tiles % row_tiles * row_tile,
             row_end = row_tile ? min(m, row_begin + row_tile) : m;
        ulong index = t / column_tiles / row_tiles, outer = index / batch_inner,
              inner = index % batch_inner;
        global const T *a_matrix = a + a_offset + outer * a_outer + inner * a_inner;
        global const B *b_matrix = b + b_offset + outer * b_outer + inner * b_inner;
        ulong y_row = y_offset / n + index * m; /* where this matrix begins among the rows of y */

#if !B_IS_PACKED
        if (row_tile == 0) {
            uint columns = column_end - column_begin;
            if (transpose_b)
                multiply_columns(tile, column_tile, a_matrix, a_row,
                                 b_matrix + column_begin * b_row, b_row, m, columns, k);
            else
                multiply_rows(tile, column_tile, a_matrix, transpose_a ? 1 : a_row,
                              transpose_a ? a_row : 1, b_matrix + column_begin, b_row, m, columns,
                              k);
            add_tile(tile, column_tile, sums + y_row * n + column_begin, n, m, columns, true);
        }
#endif
        uint packed = row_tile ? k : 0; /* few rows are done */
        for (uint k_begin = 0; k_begin < packed; k_begin += k_block) {
            uint depth = min(k_block, k - k_begin);
            for (uint part = row_begin; part < row_end; part += row_part) {
                uint part_end = min(row_end, part + row_part);
                pack(a_panels, ROWS, A_PANEL(k_block),
                     a_matrix + (transpose_a ? k_begin * a_row + part : part * a_row + k_begin),
                     a_row, transpose_a, part_end - part, depth);
                for (uint column = column_begin; column < column_end; column += COLUMNS) {
                    uint columns = min((uint)COLUMNS, column_end - column);
#if B_IS_PACKED
                    global const float *b_panel =
                        b + PACKED_PANEL(k_begin / k_block, column / COLUMNS, n, k_block);
#else
                    local float *b_panel =
                        b_panels + (column - column_begin) / COLUMNS * B_PANEL(k_block);
                    if (part == row_begin && (column - column_begin) % PACKED_COLUMNS == 0)
                        pack(b_panel, COLUMNS, B_PANEL(k_block),
                             b_matrix + (transpose_b ? column * b_row + k_begin
                                                     : k_begin * b_row + column),
                             b_row, !transpose_b, min((uint)PACKED_COLUMNS, column_end - column),
                             depth);
#endif
                    uint target = columns < COLUMNS ? TO_TILE : k_begin == 0 ? TO_Y : ADD_TO_Y;
                    for (uint row = part; row < part_end; row += ROWS) {
                        uint rows = min((uint)ROWS, part_end - row);
                        global float *to = sums + (y_row + row) * n + column;
                        multiply_panels(a_panels + (row - part) / ROWS * A_PANEL(k_block), b_panel,
                                        rows, depth, target, tile, to, n);
                        if (target == TO_TILE)
                            add_tile(tile, COLUMNS, to, n, rows, columns, k_begin == 0);
                    }
                }
            }
        }
        if (IS_FUSED || IS_NARROW)
            finish_rows(sums, y, n, FUSED_ARGUMENTS y_row + row_begin, y_row + row_end,
                        column_begin, column_end);
    }
}

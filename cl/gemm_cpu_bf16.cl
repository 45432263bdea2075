/* y = op(a) op(b), or what FUSED makes of it, of bfloat16 on a CPU that multiplies pairs of them: by the tiles of AMX (MATRIX_AMX),
 * or by the vectors of AVX512-BF16.  One work-item a group; it makes tiles of y, one after the other:
 *
 *     for each block of k:    pack its rows of b, in panels of 16 columns
 *       for each part of ROWS rows:  pack those of a
 *         for each two panels of b:
 *           sums of ROWS x COLUMNS numbers += part of a times the panels, in registers
 *     for each row of the tile:  FUSED, and y
 *
 * A word holds two neighbours along k, the first in its lower half: a[i][k], a[i][k + 1] in a part of a, b[k][j], b[k + 1][j] in
 * a panel of b.  What lies beyond the edges is 0.
 *
 * The sums of a tile are floats in local memory until they are whole.  An instruction of AMX adds 16 pairs to a sum, one of AVX512
 * one pair: their numbers differ.  Blocks of k are whole multiples of both, so that neither they nor tiles change the numbers.
 * Both take denormal numbers for 0.
 * (Intel: Architecture Instruction Set Extensions Programming Reference, TDPBF16PS and VDPBF16PS.) */

#define ROWS 32
#define COLUMNS 32
#define LANES_16 16 /* columns of a panel; rows, and words of a row, of a tile of AMX */

/* From row to row of a part of a, and from panel to panel of b, in words: not a power of two, which would put them into a few sets
 * of a cache.  Blocks of k have a multiple of 16 words. */
#define A_PITCH(pairs) ((pairs) + LANES_16)
#define B_PANEL(pairs) ((pairs) * LANES_16 + LANES_16)
#define ROWS_AHEAD 8

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

typedef __attribute__((aligned(4))) uint16 words;
typedef __attribute__((aligned(2))) uint16 unaligned_words;
typedef __attribute__((aligned(2))) ushort16 unaligned_halves;

#define LOAD_WORDS(p) (*(local const words *)(p))
#define STORE_WORDS(v, p) (*(local words *)(p) = (v))

/* 16 numbers of two rows, as words; a vector with `count` columns, whose others are 0. */
inline uint16 join(ushort16 even, ushort16 odd)
{
    return convert_uint16(even) | convert_uint16(odd) << 16;
}

inline ushort16 part_of_row(global const ushort *x, uint count)
{
    if (count >= 16)
        return *(global const unaligned_halves *)x;
    ushort lane[16];
    for (uint i = 0; i < 16; i++)
        lane[i] = i < count ? x[i] : 0;
    return vload16(0, lane);
}

/* 16 columns of the rows `row` and row + 1 of `depth`, as words. */
inline uint16 two_rows(global const ushort *x, ulong step, uint row, uint depth, uint columns)
{
    ushort16 even = row < depth ? part_of_row(x + row * step, columns) : (ushort16)(0);
    ushort16 odd = row + 1 < depth ? part_of_row(x + (row + 1) * step, columns) : (ushort16)(0);
    return join(even, odd);
}

/* 16 words along a row, of which `count` numbers are there. */
inline uint16 words_of_row(global const ushort *x, uint count)
{
    if (count >= 32)
        return *(global const unaligned_words *)x;
    uint word[16];
    for (uint i = 0; i < 16; i++)
        word[i] = (2 * i < count ? x[2 * i] : 0) | (2 * i + 1 < count ? (uint)x[2 * i + 1] << 16 : 0);
    return vload16(0, word);
}

/* 16 x 16 words, transposed in four steps: blocks of 8, 4, 2, 1 columns change places between rows as far apart. */
#define LOW_8(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define HIGH_8(a, b)                                                                               \
    __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define LOW_4(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define HIGH_4(a, b)                                                                               \
    __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define LOW_2(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH_2(a, b)                                                                               \
    __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define LOW_1(a, b)                                                                                \
    __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define HIGH_1(a, b)                                                                               \
    __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#define EXCHANGE(distance, i, j)                                                                   \
    {                                                                                              \
        uint16 low = LOW_##distance(w##i, w##j), high = HIGH_##distance(w##i, w##j);               \
        w##i = low;                                                                                \
        w##j = high;                                                                               \
    }
#define TRANSPOSE_WORDS                                                                            \
    EXCHANGE(8, 0, 8) EXCHANGE(8, 1, 9) EXCHANGE(8, 2, 10) EXCHANGE(8, 3, 11)                      \
    EXCHANGE(8, 4, 12) EXCHANGE(8, 5, 13) EXCHANGE(8, 6, 14) EXCHANGE(8, 7, 15)                    \
    EXCHANGE(4, 0, 4) EXCHANGE(4, 1, 5) EXCHANGE(4, 2, 6) EXCHANGE(4, 3, 7)                        \
    EXCHANGE(4, 8, 12) EXCHANGE(4, 9, 13) EXCHANGE(4, 10, 14) EXCHANGE(4, 11, 15)                  \
    EXCHANGE(2, 0, 2) EXCHANGE(2, 1, 3) EXCHANGE(2, 4, 6) EXCHANGE(2, 5, 7)                        \
    EXCHANGE(2, 8, 10) EXCHANGE(2, 9, 11) EXCHANGE(2, 12, 14) EXCHANGE(2, 13, 15)                  \
    EXCHANGE(1, 0, 1) EXCHANGE(1, 2, 3) EXCHANGE(1, 4, 5) EXCHANGE(1, 6, 7)                        \
    EXCHANGE(1, 8, 9) EXCHANGE(1, 10, 11) EXCHANGE(1, 12, 13) EXCHANGE(1, 14, 15)
#define EACH_OF_16(X)                                                                              \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

/* 16 vectors of words, transposed, to rows `pitch` apart. */
inline void store_transposed(private const uint16 *w, local uint *to, uint pitch)
{
#define LOAD(e) uint16 w##e = w[e];
#define STORE(e) STORE_WORDS(w##e, to + e * pitch);
    EACH_OF_16(LOAD)
    TRANSPOSE_WORDS
    EACH_OF_16(STORE)
}

/* `count` rows of x, `step` apart, of which `depth` numbers of each are words: to rows `pitch` apart. */
inline void pack_rows(local uint *to, uint pitch, global const ushort *x, ulong step, uint count,
                      uint depth)
{
    for (uint i = 0; i < count; i++, x += step, to += pitch)
        for (uint k = 0; k < depth; k += 32)
            STORE_WORDS(words_of_row(x + k, depth - k), to + k / 2);
}

/* The same of x whose columns they are. */
inline void pack_columns(local uint *to, uint pitch, global const ushort *x, ulong step, uint count,
                         uint depth)
{
    for (uint k = 0; k < depth; k += 32) {
        for (uint i = 0; i < count; i += 16) {
            uint16 w[16];
            for (uint e = 0; e < 16; e++)
                w[e] = two_rows(x + i, step, k + 2 * e, depth, count - i);
            store_transposed(w, to + i * pitch + k / 2, pitch);
        }
    }
}

/* Panels of `columns` columns of x, whose rows are `step` apart. */
inline void panels_of_rows(local uint *to, uint panel, global const ushort *x, ulong step,
                           uint columns, uint depth)
{
    uint end = (depth + 31) / 32 * 32;
    for (uint k = 0; k < end; k += 2, to += LANES_16) {
        if (k + ROWS_AHEAD < depth)
            for (uint j = 0; j < columns; j += 32) {
                PREFETCH(x + (k + ROWS_AHEAD) * step + j);
                PREFETCH(x + min(k + ROWS_AHEAD + 1, depth - 1) * step + j);
            }
        local uint *word = to;
        for (uint j = 0; j < columns; j += 16, word += panel)
            STORE_WORDS(two_rows(x + j, step, k, depth, columns - j), word);
    }
}

/* The same of x whose rows are the columns. */
inline void panels_of_columns(local uint *to, uint panel, global const ushort *x, ulong step,
                              uint columns, uint depth)
{
    for (uint j = 0; j < columns; j += 16, to += panel, x += 16 * step) {
        for (uint k = 0; k < depth; k += 32) {
            uint16 w[16];
            for (uint e = 0; e < 16; e++)
                w[e] = j + e < columns ? words_of_row(x + e * step + k, depth - k) : (uint16)(0);
            store_transposed(w, to + k / 2 * LANES_16, LANES_16);
        }
    }
}

#if MATRIX_AMX
/* Eight tiles of 16 rows of 64 bytes: palette 1, bytes of a row from 16 on, rows from 48 on. */
inline void begin_tiles(void)
{
    uchar configuration[64] __attribute__((aligned(64)));
    for (uint i = 0; i < 64; i++)
        configuration[i] = i == 0 ? 1 : i >= 16 && i < 32 && i % 2 == 0 ? 64 : i >= 48 && i < 56 ? 16 : 0;
    __asm__ volatile("ldtilecfg (%0)" : : "r"(configuration) : "memory");
}

inline void end_tiles(void)
{
    __asm__ volatile("tilerelease" : : : "memory");
}

/* Tiles 0 to 3 are sums, 4 and 5 rows of a, 6 and 7 panels of b. */
inline void multiply(local const uint *a, uint a_pitch, local const uint *b, uint b_panel, uint rows,
                     uint pairs, local float *sums, uint pitch, bool first)
{
    ulong a_step = a_pitch * sizeof(uint), b_step = LANES_16 * sizeof(uint),
          step = pitch * sizeof(float);
    local float *lower = sums + 16 * pitch;
    if (first)
        __asm__ volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3" : :);
    else
        __asm__ volatile("tileloadd (%0,%2,1), %%tmm0\n tileloadd 64(%0,%2,1), %%tmm1\n"
                         "tileloadd (%1,%2,1), %%tmm2\n tileloadd 64(%1,%2,1), %%tmm3"
                         :
                         : "r"(sums), "r"(lower), "r"(step)
                         : "memory");
    if (rows > 16) {
        for (uint k = 0; k < pairs; k += 16, a += 16, b += 16 * LANES_16)
            __asm__ volatile("tileloadd (%0,%4,1), %%tmm4\n tileloadd (%2,%5,1), %%tmm6\n"
                             "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tileloadd (%3,%5,1), %%tmm7\n"
                             "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n tileloadd (%1,%4,1), %%tmm5\n"
                             "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
                             :
                             : "r"(a), "r"(a + 16 * a_pitch), "r"(b), "r"(b + b_panel), "r"(a_step),
                               "r"(b_step)
                             : "memory");
    } else {
        for (uint k = 0; k < pairs; k += 16, a += 16, b += 16 * LANES_16)
            __asm__ volatile("tileloadd (%0,%3,1), %%tmm4\n tileloadd (%1,%4,1), %%tmm6\n"
                             "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tileloadd (%2,%4,1), %%tmm7\n"
                             "tdpbf16ps %%tmm7, %%tmm4, %%tmm1"
                             :
                             : "r"(a), "r"(b), "r"(b + b_panel), "r"(a_step), "r"(b_step)
                             : "memory");
    }
    __asm__ volatile("tilestored %%tmm0, (%0,%2,1)\n tilestored %%tmm1, 64(%0,%2,1)\n"
                     "tilestored %%tmm2, (%1,%2,1)\n tilestored %%tmm3, 64(%1,%2,1)"
                     :
                     : "r"(sums), "r"(lower), "r"(step)
                     : "memory");
}
#else
inline void begin_tiles(void) {}
inline void end_tiles(void) {}

/* Eight rows at a time: 16 sums. */
inline void multiply(local const uint *a, uint a_pitch, local const uint *b, uint b_panel, uint rows,
                     uint pairs, local float *sums, uint pitch, bool first)
{
#define EACH_OF_8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define LOAD_SUMS(i)                                                                               \
    float16 left##i = first ? (float16)(0.0f) : loadv(0, sums + i * pitch);                        \
    float16 right##i = first ? (float16)(0.0f) : loadv(1, sums + i * pitch);
#define MULTIPLY(i)                                                                                \
    {                                                                                              \
        uint16 pair = (uint16)(a[i * a_pitch + k]);                                                \
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(left##i) : "v"(pair), "v"(b_left));                  \
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(right##i) : "v"(pair), "v"(b_right));                \
    }
#define STORE_SUMS(i)                                                                              \
    storev(left##i, 0, sums + i * pitch);                                                          \
    storev(right##i, 1, sums + i * pitch);
    for (uint row = 0; row < rows; row += 8, a += 8 * a_pitch, sums += 8 * pitch) {
        EACH_OF_8(LOAD_SUMS)
        for (uint k = 0; k < pairs; k++) {
            uint16 b_left = LOAD_WORDS(b + k * LANES_16), b_right = LOAD_WORDS(b + b_panel + k * LANES_16);
            EACH_OF_8(MULTIPLY)
        }
        EACH_OF_8(STORE_SUMS)
    }
}
#endif

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
gemm_cpu_bf16(global const T *restrict a, global const T *restrict b, global Y *y, FUSED_PARAMETERS uint m,
              uint n, uint k, uint transpose_a, uint transpose_b, ulong a_row, ulong b_row,
              ulong a_offset, ulong b_offset, ulong y_offset, uint batch, uint batch_inner,
              ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner, uint row_tile,
              uint column_tile, uint k_block, local uint *a_part, local uint *b_panels,
              local float *sums)
{
    uint row_tiles = (m + row_tile - 1) / row_tile,
         column_tiles = (n + column_tile - 1) / column_tile, pitch = column_tile + LANES_16;
    ulong tiles = (ulong)row_tiles * column_tiles * batch;
    begin_tiles();
    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        uint column_begin = t % column_tiles * column_tile,
             columns = min(n - column_begin, column_tile);
        uint row_begin = t / column_tiles % row_tiles * row_tile,
             rows = min(m - row_begin, row_tile);
        ulong index = t / column_tiles / row_tiles, outer = index / batch_inner,
              inner = index % batch_inner;
        global const ushort *a_matrix = (global const ushort *)a + a_offset + outer * a_outer + inner * a_inner;
        global const ushort *b_matrix = (global const ushort *)b + b_offset + outer * b_outer + inner * b_inner;
        a_matrix += transpose_a ? row_begin : row_begin * a_row;
        b_matrix += transpose_b ? column_begin * b_row : column_begin;

        for (uint k_begin = 0; k_begin < k; k_begin += k_block) {
            uint depth = min(k_block, k - k_begin), pairs = (depth + 31) / 32 * 16;
            if (transpose_b)
                panels_of_columns(b_panels, B_PANEL(k_block / 2), b_matrix + k_begin, b_row, columns, depth);
            else
                panels_of_rows(b_panels, B_PANEL(k_block / 2), b_matrix + k_begin * b_row, b_row, columns, depth);
            for (uint part = 0; part < rows; part += ROWS) {
                uint part_rows = min(rows - part, (uint)ROWS);
                if (transpose_a)
                    pack_columns(a_part, A_PITCH(k_block / 2), a_matrix + k_begin * a_row + part, a_row,
                                 part_rows, depth);
                else
                    pack_rows(a_part, A_PITCH(k_block / 2), a_matrix + part * a_row + k_begin, a_row,
                              part_rows, depth);
                for (uint column = 0; column < columns; column += COLUMNS)
                    multiply(a_part, A_PITCH(k_block / 2), b_panels + column / LANES_16 * B_PANEL(k_block / 2),
                             B_PANEL(k_block / 2), part_rows, pairs, sums + part * pitch + column, pitch,
                             k_begin == 0);
            }
        }

        ulong y_row = y_offset / n + index * m + row_begin;
        for (uint row = 0; row < rows; row++)
            for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
                uint column = column_begin + j, end = min(column + FLOAT_WIDTH, column_begin + columns);
                floatv v = loadv(0, sums + row * pitch + j);
                FUSED(v, y_row + row, column, end);
                store_row(v, y + (y_row + row) * n, column, end);
            }
    }
    end_tiles();
}

/* y = activation(a op(b) + bias) on a CPU for a of at most 8 rows: b is read once, at the speed of
 * memory.
 *
 * One work-item a group; each makes parts of y of column_tile columns, one after the other. */

#define DEPTH 8 /* rows of b that are in registers at once, while sums are in local memory */
#define EACH_OF_EIGHT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define EACH_OF_FOUR(X) X(0) X(1) X(2) X(3)

inline floatv load_up_to(global const float *p, uint lanes)
{
    return lanes >= FLOAT_WIDTH ? vloadv(0, p) : load_part(p, lanes, 0.0f);
}

inline void store_up_to(floatv v, global float *p, uint lanes)
{
    if (lanes >= FLOAT_WIDTH)
        vstorev(v, 0, p);
    else
        store_part(v, p, lanes);
}

/* sums[i][j] = sum over k of a[i][k] b[k][j]; rows of sums are `pitch` apart. */
inline void multiply_rows(local float *sums, uint pitch, global const float *a, ulong a_row,
                          global const float *b, ulong b_row, uint m, uint columns, uint k)
{
    for (uint i = 0; i < m; i++)
        for (uint j = 0; j < columns; j += FLOAT_WIDTH)
            vstorev((floatv)(0.0f), 0, sums + i * pitch + j);
    uint d = 0;
    for (; d + DEPTH <= k; d += DEPTH, b += DEPTH * b_row) {
        for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
#define LOAD(e) floatv b##e = load_up_to(b + e * b_row + j, columns - j);
            EACH_OF_EIGHT(LOAD)
            for (uint i = 0; i < m; i++) {
                global const float *x = a + i * a_row + d;
                floatv even = x[0] * b0, odd = x[1] * b1;
                even += x[2] * b2;
                odd += x[3] * b3;
                even += x[4] * b4;
                odd += x[5] * b5;
                even += x[6] * b6;
                odd += x[7] * b7;
                vstorev(vloadv(0, sums + i * pitch + j) + (even + odd), 0, sums + i * pitch + j);
            }
        }
    }
    for (; d < k; d++, b += b_row) {
        for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
            floatv row = load_up_to(b + j, columns - j);
            for (uint i = 0; i < m; i++)
                vstorev(vloadv(0, sums + i * pitch + j) + a[i * a_row + d] * row, 0,
                        sums + i * pitch + j);
        }
    }
}

/* The same for b stored transposed: products of rows, four of b by two of a (the last of which may
 * be one twice).  The pitch is a multiple of four. */
inline void multiply_columns(local float *sums, uint pitch, global const float *a, ulong a_row,
                             global const float *b, ulong b_row, uint m, uint columns, uint k)
{
#define DECLARE(j)                                                                                 \
    global const float *b##j = b + min(column + j, columns - 1) * b_row;                           \
    floatv upper##j = (floatv)(0.0f), lower##j = (floatv)(0.0f);
#define MULTIPLY(j)                                                                                \
    floatv v##j = vloadv(0, b##j + d);                                                             \
    upper##j += x_upper * v##j;                                                                    \
    lower##j += x_lower * v##j;
    for (uint column = 0; column < columns; column += 4) {
        for (uint i = 0; i < m; i += 2) {
            global const float *a_upper = a + i * a_row, *a_lower = a + min(i + 1, m - 1) * a_row;
            EACH_OF_FOUR(DECLARE)
            uint d = 0;
            for (; d + FLOAT_WIDTH <= k; d += FLOAT_WIDTH) {
                floatv x_upper = vloadv(0, a_upper + d), x_lower = vloadv(0, a_lower + d);
                EACH_OF_FOUR(MULTIPLY)
            }
            float4 upper = (float4)(sum_lanes(upper0), sum_lanes(upper1), sum_lanes(upper2),
                                    sum_lanes(upper3));
            float4 lower = (float4)(sum_lanes(lower0), sum_lanes(lower1), sum_lanes(lower2),
                                    sum_lanes(lower3));
            for (; d < k; d++) {
                float4 v = (float4)(b0[d], b1[d], b2[d], b3[d]);
                upper += a_upper[d] * v;
                lower += a_lower[d] * v;
            }
            uint below = min(i + 1, m - 1);
            vstore4(lower, 0, sums + below * pitch + column);
            vstore4(upper, 0, sums + i * pitch + column);
        }
    }
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
gemm_skinny(global const float *restrict a, global const float *restrict b,
            global const float *restrict bias, global float *restrict y, global float *restrict z,
            uint m, uint n, uint k, uint transpose_a, uint transpose_b, ulong a_row, ulong b_row,
            ulong a_offset, ulong b_offset, ulong bias_offset, ulong y_offset, uint batch,
            uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner,
            uint has_bias, uint keep_z, uint activation, uint column_tile, local float *sums)
{
    uint tiles_of_y = (n + column_tile - 1) / column_tile;
    ulong tiles = (ulong)tiles_of_y * batch;
    bias += bias_offset;
    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        uint begin = t % tiles_of_y * column_tile, columns = min(column_tile, n - begin);
        ulong index = t / tiles_of_y, outer = index / batch_inner, inner = index % batch_inner;
        global const float *a_matrix = a + a_offset + outer * a_outer + inner * a_inner;
        global const float *b_matrix = b + b_offset + outer * b_outer + inner * b_inner;
        if (transpose_b)
            multiply_columns(sums, column_tile, a_matrix, a_row, b_matrix + begin * b_row, b_row, m,
                             columns, k);
        else
            multiply_rows(sums, column_tile, a_matrix, a_row, b_matrix + begin, b_row, m, columns,
                          k);

        for (uint i = 0; i < m; i++) {
            for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
                ulong at = y_offset + (index * m + i) * n + begin + j;
                floatv v = vloadv(0, sums + i * column_tile + j);
                if (has_bias)
                    v += load_up_to(bias + begin + j, columns - j);
                if (keep_z)
                    store_up_to(v, z + at, columns - j);
                if (activation == 1)
                    v = SELECT(LT(v, 0.0f), (floatv)(0.0f), v);
                if (activation == 2)
                    v = gelu(v);
                store_up_to(v, y + at, columns - j);
            }
        }
    }
}

/* y = activation(a op(b) + bias) on a CPU for a of at most 8 rows: b is read once, at the speed of memory.
 *
 * One work-item a group; each makes parts of y of column_tile columns, one after the other. */

#define DEPTH 8 /* rows of b that are added at once to sums in local memory */

inline floatv activate(floatv x, uint activation)
{
    if (activation == 1)
        x = fmax(x, 0.0f);
    if (activation == 2)
        x = gelu(x);
    return x;
}

/* sums[i][j] = sum over k of a[i][k] b[k][j], column_tile apart: DEPTH rows of b go through the registers at a time. */
inline void multiply_rows(local float *sums, uint pitch, global const float *a, ulong a_row, global const float *b, ulong b_row,
                          uint m, uint columns, uint k)
{
    for (uint i = 0; i < m; i++)
        for (uint j = 0; j < pitch; j += FLOAT_WIDTH)
            vstorev((floatv)(0.0f), 0, sums + i * pitch + j);
    uint d = 0;
    for (; d + DEPTH <= k; d += DEPTH, b += DEPTH * b_row) {
        uint j = 0;
        for (; j + FLOAT_WIDTH <= columns; j += FLOAT_WIDTH) {
            floatv b0 = vloadv(0, b + j), b1 = vloadv(0, b + b_row + j);
            floatv b2 = vloadv(0, b + 2 * b_row + j), b3 = vloadv(0, b + 3 * b_row + j);
            floatv b4 = vloadv(0, b + 4 * b_row + j), b5 = vloadv(0, b + 5 * b_row + j);
            floatv b6 = vloadv(0, b + 6 * b_row + j), b7 = vloadv(0, b + 7 * b_row + j);
            for (uint i = 0; i < m; i++) {
                global const float *x = a + i * a_row + d;
                floatv even = x[0] * b0, odd = x[1] * b1;
                even = fma((floatv)(x[2]), b2, even);
                odd = fma((floatv)(x[3]), b3, odd);
                even = fma((floatv)(x[4]), b4, even);
                odd = fma((floatv)(x[5]), b5, odd);
                even = fma((floatv)(x[6]), b6, even);
                odd = fma((floatv)(x[7]), b7, odd);
                vstorev(vloadv(0, sums + i * pitch + j) + (even + odd), 0, sums + i * pitch + j);
            }
        }
        for (; j < columns; j++)
            for (uint i = 0; i < m; i++)
                for (uint e = 0; e < DEPTH; e++)
                    sums[i * pitch + j] += a[i * a_row + d + e] * b[e * b_row + j];
    }
    for (; d < k; d++, b += b_row)
        for (uint i = 0; i < m; i++)
            for (uint j = 0; j < columns; j++)
                sums[i * pitch + j] += a[i * a_row + d] * b[j];
}

/* The same for b stored transposed: products of rows, four at a time. */
inline void multiply_columns(local float *sums, uint pitch, global const float *a, ulong a_row, global const float *b,
                             ulong b_row, uint m, uint columns, uint k)
{
    for (uint j = 0; j < columns; j += 4) {
        global const float *b0 = b + j * b_row, *b1 = b + min(j + 1, columns - 1) * b_row;
        global const float *b2 = b + min(j + 2, columns - 1) * b_row, *b3 = b + min(j + 3, columns - 1) * b_row;
        for (uint i = 0; i < m; i++) {
            global const float *x = a + i * a_row;
            floatv sum0 = (floatv)(0.0f), sum1 = (floatv)(0.0f), sum2 = (floatv)(0.0f), sum3 = (floatv)(0.0f);
            uint d = 0;
            for (; d + FLOAT_WIDTH <= k; d += FLOAT_WIDTH) {
                floatv v = vloadv(0, x + d);
                sum0 = fma(v, vloadv(0, b0 + d), sum0);
                sum1 = fma(v, vloadv(0, b1 + d), sum1);
                sum2 = fma(v, vloadv(0, b2 + d), sum2);
                sum3 = fma(v, vloadv(0, b3 + d), sum3);
            }
            float4 sum = (float4)(sum_lanes(sum0), sum_lanes(sum1), sum_lanes(sum2), sum_lanes(sum3));
            for (; d < k; d++)
                sum += x[d] * (float4)(b0[d], b1[d], b2[d], b3[d]);
            vstore4(sum, 0, sums + i * pitch + j); /* the pitch is a multiple of four: what is too much goes to waste */
        }
    }
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
gemm_skinny(global const float *restrict a, global const float *restrict b, global const float *restrict bias,
            global float *restrict y, global float *restrict z, uint m, uint n, uint k, uint transpose_a, uint transpose_b,
            ulong a_row, ulong b_row, ulong a_offset, ulong b_offset, ulong bias_offset, ulong y_offset, uint batch,
            uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner, uint has_bias, uint keep_z,
            uint activation, uint column_tile, local float *sums)
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
            multiply_columns(sums, column_tile, a_matrix, a_row, b_matrix + begin * b_row, b_row, m, columns, k);
        else
            multiply_rows(sums, column_tile, a_matrix, a_row, b_matrix + begin, b_row, m, columns, k);

        for (uint i = 0; i < m; i++) {
            for (uint j = 0; j < columns; j += FLOAT_WIDTH) {
                ulong at = y_offset + (index * m + i) * n + begin + j;
                uint lanes = min((uint)FLOAT_WIDTH, columns - j);
                floatv v = vloadv(0, sums + i * column_tile + j);
                if (has_bias)
                    v += load_part(bias + begin + j, lanes, 0.0f);
                if (keep_z)
                    store_part(v, z + at, lanes);
                store_part(activate(v, activation), y + at, lanes);
            }
        }
    }
}

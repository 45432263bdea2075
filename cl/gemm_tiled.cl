/* y = activation(op(a) op(b) + bias) on a device of many work-items: a work-group makes tiles of TILE x TILE numbers of y,
 * one after the other, each work-item BLOCK x BLOCK of them, from slices of DEPTH columns of a and rows of b in local
 * memory.  The next slice is read into registers while the present one is multiplied.
 *
 * TILE, BLOCK, DEPTH, TRANSPOSE_A and TRANSPOSE_B are defined by the host.  A work-item's numbers
 * are SIDE rows and columns apart, so that neighbours touch neighbouring addresses.  Each number is one sum in the order of k. */

#define SIDE (TILE / BLOCK) /* work-items along a side of the tile */
#define GROUP (SIDE * SIDE)
#define PITCH (TILE + 1) /* odd: no conflicts of banks where the slice is written transposed */
#define SHARE (TILE * DEPTH / GROUP) /* numbers of a slice that a work-item reads */

/* Where number `i` of a work-item's share lies in a slice; neighbours read neighbours in memory. */
#define A_ROW(i) (TRANSPOSE_A ? ((i)*GROUP + item) % TILE : ((i)*GROUP + item) / DEPTH)
#define A_DEPTH(i) (TRANSPOSE_A ? ((i)*GROUP + item) / TILE : ((i)*GROUP + item) % DEPTH)
#define B_COLUMN(i) (TRANSPOSE_B ? ((i)*GROUP + item) / DEPTH : ((i)*GROUP + item) % TILE)
#define B_DEPTH(i) (TRANSPOSE_B ? ((i)*GROUP + item) % DEPTH : ((i)*GROUP + item) / TILE)

#if FLOAT_WIDTH == 1
#define GELU(x) gelu(x)
#else
#define GELU(x) gelu((floatv)(x)).s0
#endif

inline float activate(float x, uint activation)
{
    if (activation == 1)
        x = fmax(x, 0.0f);
    if (activation == 2)
        x = GELU(x);
    return x;
}

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
gemm_tiled(global const float *restrict a, global const float *restrict b, global const float *restrict bias,
           global float *restrict y, global float *restrict z, uint m, uint n, uint k, uint transpose_a, uint transpose_b,
           ulong a_row, ulong b_row, ulong a_offset, ulong b_offset, ulong bias_offset, ulong y_offset, uint batch,
           uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner, uint has_bias, uint keep_z,
           uint activation)
{
    local float a_slice[DEPTH * PITCH], b_slice[DEPTH * PITCH];
    uint item = get_local_id(0), item_row = item / SIDE, item_column = item % SIDE;
    uint row_tiles = (m + TILE - 1) / TILE, column_tiles = (n + TILE - 1) / TILE;
    ulong tiles = (ulong)row_tiles * column_tiles * batch;

    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        uint column_begin = t % column_tiles * TILE, row_begin = t / column_tiles % row_tiles * TILE;
        ulong index = t / column_tiles / row_tiles, outer = index / batch_inner, inner = index % batch_inner;
        global const float *a_matrix = a + a_offset + outer * a_outer + inner * a_inner;
        global const float *b_matrix = b + b_offset + outer * b_outer + inner * b_inner;
        float sum[BLOCK][BLOCK], next_a[SHARE], next_b[SHARE];
#pragma unroll
        for (uint i = 0; i < BLOCK; i++)
#pragma unroll
            for (uint j = 0; j < BLOCK; j++)
                sum[i][j] = 0.0f;

        for (uint begin = 0; begin < k + DEPTH; begin += DEPTH) {
            /* The slice that begins here is read; the one before it is multiplied. */
#pragma unroll
            for (uint i = 0; i < SHARE; i++) {
                uint row = row_begin + A_ROW(i), a_depth = begin + A_DEPTH(i);
                uint column = column_begin + B_COLUMN(i), b_depth = begin + B_DEPTH(i);
                next_a[i] = row < m && a_depth < k ? a_matrix[TRANSPOSE_A ? a_depth * a_row + row : row * a_row + a_depth] : 0.0f;
                next_b[i] =
                    column < n && b_depth < k ? b_matrix[TRANSPOSE_B ? column * b_row + b_depth : b_depth * b_row + column] : 0.0f;
            }
            if (begin > 0) {
                for (uint d = 0; d < DEPTH; d++) {
                    float a_part[BLOCK], b_part[BLOCK];
#pragma unroll
                    for (uint i = 0; i < BLOCK; i++) {
                        a_part[i] = a_slice[d * PITCH + item_row + i * SIDE];
                        b_part[i] = b_slice[d * PITCH + item_column + i * SIDE];
                    }
#pragma unroll
                    for (uint i = 0; i < BLOCK; i++)
#pragma unroll
                        for (uint j = 0; j < BLOCK; j++)
                            sum[i][j] = fma(a_part[i], b_part[j], sum[i][j]);
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
            for (uint i = 0; i < SHARE; i++) {
                a_slice[A_DEPTH(i) * PITCH + A_ROW(i)] = next_a[i];
                b_slice[B_DEPTH(i) * PITCH + B_COLUMN(i)] = next_b[i];
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }

#pragma unroll
        for (uint i = 0; i < BLOCK; i++) {
            uint row = row_begin + item_row + i * SIDE;
#pragma unroll
            for (uint j = 0; j < BLOCK; j++) {
                uint column = column_begin + item_column + j * SIDE;
                if (row < m && column < n) {
                    ulong at = y_offset + (index * m + row) * n + column;
                    float v = sum[i][j] + (has_bias ? bias[bias_offset + column] : 0.0f);
                    if (keep_z)
                        z[at] = v;
                    y[at] = activate(v, activation);
                }
            }
        }
    }
}

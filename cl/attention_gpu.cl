/* Attention on a device of many work-items: COLUMNS x 8 of them make a block of BLOCK queries.
 *
 * Blocks of q, k, v lie in local memory row by row, PITCH fours of numbers apart: an odd number, so that
 * work-items that read the same fours of different rows use different banks.  Work-item (x, y)
 * owns rows y, y + 8, ... of every product, and of BLOCK columns x, x + COLUMNS, ..., of D columns as many wide ones of WIDTH, in registers: loops over
 * them are unrolled, so that indices of private arrays are constants.
 *
 * What a query sees, and slopes: see cl/attention_cpu.cl.
 *
 * The host defines D, BLOCK (by D: what 32 KiB hold), COLUMNS (8 or 16: by registers), BACKWARD: which of the kernels are meant, and T, the type of q, k, v, out and their
 * gradients. */

#define ROWS 8
#define GROUP (ROWS * COLUMNS)
#define OWN_ROWS (BLOCK / ROWS) /* of a block, that a work-item owns */
#define OWN_COLUMNS (BLOCK / COLUMNS) /* of BLOCK columns */
#define D_PADDED ((D + COLUMNS - 1) / COLUMNS * COLUMNS)
#define ALL_FOURS (BLOCK * (D_PADDED / 4)) /* of a block of D columns */
#define PITCH (D_PADDED / 4 | 1)
#define P_PITCH (BLOCK / 4 | 1)

/* Columns of D that are read, and added up, together. */
#if D % (4 * COLUMNS) == 0
#define WIDTH 4
typedef float4 wide;
#elif D % (2 * COLUMNS) == 0
#define WIDTH 2
typedef float2 wide;
#else
#define WIDTH 1
typedef float wide;
#endif
#define OWN_WIDE (D_PADDED / COLUMNS / WIDTH)
#define HIDDEN -3e38f
/* Below every score, far above HIDDEN: a row that sees nothing gets the sum 0. */
#define LEAST -1e30f

/* Arrays that go to a call go to memory, and compilers call what is long. */
#define OF_ARRAYS static inline __attribute__((always_inline))

/* Numbers d to d + 3 of a row; zeros for those that are not below D. */
static inline float4 load_four(global const T *row, uint d)
{
#if D % 4 == 0
    return d < D ? load4(row + d) : (float4)(0.0f);
#else
    return load4_part(row + d, (int)(D - d), 0.0f);
#endif
}

/* to[i][d] = scale x[i * row + d]; zeros for i >= count or d >= D. */
static inline void load_block(local float4 *to, global const T *x, ulong row, int count, float scale)
{
#if SUBGROUP_SIZE /* fours would need more registers than there are */
    local float *numbers = (local float *)to;
    for (uint e = get_local_id(0); e < BLOCK * D_PADDED; e += GROUP) {
        uint i = e / D_PADDED, d = e % D_PADDED;
        numbers[i * 4 * PITCH + d] = (int)i < count && d < D ? scale * load(x + i * row + d) : 0.0f;
    }
#else
#pragma unroll 4 /* on their way together */
    for (uint n = 0; n < (ALL_FOURS + GROUP - 1) / GROUP; n++) {
        uint e = get_local_id(0) + n * GROUP, i = e / (D_PADDED / 4), four = e % (D_PADDED / 4);
        if (ALL_FOURS % GROUP == 0 || e < ALL_FOURS)
            to[i * PITCH + four] = (int)i < count ? scale * load_four(x + i * row, 4 * four) : (float4)(0.0f);
    }
#endif
}

/* s[i][j] = sum over d of a[y + 8 i][d] b[x + COLUMNS j][d]. */
OF_ARRAYS void multiply_rows(float s[OWN_ROWS][OWN_COLUMNS], local const float4 *a, local const float4 *b,
                                 uint x, uint y)
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (uint j = 0; j < OWN_COLUMNS; j++)
            s[i][j] = 0.0f;
#pragma unroll 1 /* more steps at a time would need more registers than there are */
    for (uint four = 0; four < (D + 3) / 4; four++) {
        float4 a_four[OWN_ROWS], b_four[OWN_COLUMNS];
#pragma unroll
        for (uint i = 0; i < OWN_ROWS; i++)
            a_four[i] = a[(y + i * ROWS) * PITCH + four];
#pragma unroll
        for (uint j = 0; j < OWN_COLUMNS; j++)
            b_four[j] = b[(x + j * COLUMNS) * PITCH + four];
#pragma unroll
        for (uint i = 0; i < OWN_ROWS; i++)
#pragma unroll
            for (uint j = 0; j < OWN_COLUMNS; j++) {
                float sum = multiply_add(a_four[i].s0, b_four[j].s0, s[i][j]);
                sum = multiply_add(a_four[i].s1, b_four[j].s1, sum);
                sum = multiply_add(a_four[i].s2, b_four[j].s2, sum);
                s[i][j] = multiply_add(a_four[i].s3, b_four[j].s3, sum);
            }
    }
}

/* sum[i][j] += sum over c of p[y + 8 i][c] b[c][wide column x + COLUMNS j]. */
OF_ARRAYS void add_block(wide sum[OWN_ROWS][OWN_WIDE], local const float4 *p, local const float4 *b,
                             uint x, uint y)
{
#pragma unroll 1
    for (uint four = 0; four < BLOCK / 4; four++) {
        local const wide *rows = (local const wide *)(b + 4 * four * PITCH) + x;
#pragma unroll
        for (uint j = 0; j < OWN_WIDE; j++) {
#define ROW(c) wide row##c = rows[c * (4 * PITCH / WIDTH) + j * COLUMNS];
            ROW(0) ROW(1) ROW(2) ROW(3)
#pragma unroll
            for (uint i = 0; i < OWN_ROWS; i++) {
                float4 p_four = p[(y + i * ROWS) * P_PITCH + four];
                wide v = multiply_add((wide)(p_four.s0), row0, sum[i][j]);
                v = multiply_add((wide)(p_four.s1), row1, v);
                v = multiply_add((wide)(p_four.s2), row2, v);
                sum[i][j] = multiply_add((wide)(p_four.s3), row3, v);
            }
        }
    }
}

/* A block of scores in local memory, by rows or by columns. */
#define BY_ROWS(i, j) ((y + i * ROWS) * 4 * P_PITCH + x + j * COLUMNS)
#define BY_COLUMNS(i, j) ((x + j * COLUMNS) * 4 * P_PITCH + y + i * ROWS)
#define EACH_SCORE(operation)                                                                      \
    _Pragma("unroll") for (uint i = 0; i < OWN_ROWS; i++)                                          \
        _Pragma("unroll") for (uint j = 0; j < OWN_COLUMNS; j++) operation;
#define STORE_SCORES(block, place, s) EACH_SCORE(((local float *)block)[place(i, j)] = s[i][j])
#define LOAD_SCORES(s, block, place) EACH_SCORE(s[i][j] = ((local const float *)block)[place(i, j)])

OF_ARRAYS void clear_sums(wide sum[OWN_ROWS][OWN_WIDE])
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (uint j = 0; j < OWN_WIDE; j++)
            sum[i][j] = (wide)(0.0f);
}

/* to[(y + 8 i) * row][wide column x + COLUMNS j] = sum[i][j], for rows < count. */
OF_ARRAYS void store_sums(global T *to, ulong row, int count, wide sum[OWN_ROWS][OWN_WIDE], uint x, uint y)
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++) {
        if ((int)(y + i * ROWS) >= count)
            continue;
#pragma unroll
        for (uint j = 0; j < OWN_WIDE; j++) {
            global T *at = to + (y + i * ROWS) * row + (x + j * COLUMNS) * WIDTH;
#if WIDTH == 1
            if (x + j * COLUMNS < D)
                store(sum[i][j], at);
#elif WIDTH == 2
            store(sum[i][j].s0, at);
            store(sum[i][j].s1, at + 1);
#else
            store4(sum[i][j], at);
#endif
        }
    }
}

/* Adds slopes, and hides from each query the keys that it does not see. */
OF_ARRAYS void mask_scores(float s[OWN_ROWS][OWN_COLUMNS], int key, int sees, int end, float slope,
                               int window, uint x, uint y)
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++) {
        int sees_row = sees + (int)(y + i * ROWS);
#pragma unroll
        for (uint j = 0; j < OWN_COLUMNS; j++) {
            int number = key + (int)(x + j * COLUMNS);
            s[i][j] += slope * (float)(number - sees_row);
            if (number > min(end - 1, sees_row) || number <= sees_row - window)
                s[i][j] = HIDDEN;
        }
    }
}

/* The block of keys with the first key that a query sees. */
static inline int first_block(int sees, int window)
{
    return max(sees - window + 1, 0) / BLOCK * BLOCK;
}

#if !BACKWARD

/* What the work-items of a row have found lies side by side: read by fours, it takes few addresses, which are registers. */
#define FOURS (COLUMNS / 4)

static inline float greatest_of(local const float4 *row)
{
    float4 v = row[0];
    for (uint i = 1; i < FOURS; i++)
        v = fmax(v, row[i]);
    return fmax(fmax(v.x, v.y), fmax(v.z, v.w));
}

static inline float sum_of(local const float4 *row)
{
    float4 v = row[0];
    for (uint i = 1; i < FOURS; i++)
        v += row[i];
    return (v.x + v.y) + (v.z + v.w);
}

/* out (batch, tq, heads, D) and, if keep_lse, lse (batch, heads, tq). */
kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention_forward(global const T *q, global const T *k, global const T *v,
                  global const int *position, global T *out, global float *lse, ulong q_offset,
                  ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
                  ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
                  ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk,
                  float scale, int first_position, MASK_PARAMETERS uint has_position, uint keep_lse)
{
    local float4 q_block[BLOCK * PITCH], kv_block[BLOCK * PITCH], p[BLOCK * P_PITCH];
    local float4 partials[BLOCK * FOURS];
    local float *partial = (local float *)partials;
    uint x = get_local_id(0) % COLUMNS, y = get_local_id(0) / COLUMNS;
    uint blocks = (tq + BLOCK - 1) / BLOCK;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);

    for (uint item = get_group_id(0); item < batch * heads * blocks; item += get_num_groups(0)) {
        uint query = (blocks - 1 - item % blocks) * BLOCK; /* those that see most come first */
        uint b = item / blocks / heads, h = item / blocks % heads, kv_h = h / (heads / kv_heads);
        int queries = min(BLOCK, (int)(tq - query)), sees = start + (int)query;
        int end = min(KEYS_OF_ROW(b), sees + queries);
        float slope = SLOPE_OF_HEAD(h);
        global const T *k_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const T *v_rows = v + v_offset + b * v_batch + kv_h * v_head;
        wide sums[OWN_ROWS][OWN_WIDE];
        float greatest[OWN_ROWS], total[OWN_ROWS];
        clear_sums(sums);
#pragma unroll
        for (uint i = 0; i < OWN_ROWS; i++) {
            greatest[i] = LEAST;
            total[i] = 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE); /* the item before has been read */
        load_block(q_block, q + q_offset + b * q_batch + h * q_head + query * q_row, q_row, queries,
                   scale * LOG2_E);
        for (int key = first_block(sees, window); key < end; key += BLOCK) {
            float s[OWN_ROWS][OWN_COLUMNS];
            barrier(CLK_LOCAL_MEM_FENCE);
            load_block(kv_block, k_rows + key * k_row, k_row, end - key, 1.0f);
            barrier(CLK_LOCAL_MEM_FENCE);
            multiply_rows(s, q_block, kv_block, x, y);
            mask_scores(s, key, sees, end, slope, window, x, y);
#pragma unroll
            for (uint i = 0; i < OWN_ROWS; i++) {
                float most = LEAST;
#pragma unroll
                for (uint j = 0; j < OWN_COLUMNS; j++)
                    most = fmax(most, s[i][j]);
                partial[(y + i * ROWS) * COLUMNS + x] = most;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            load_block(kv_block, v_rows + key * v_row, v_row, end - key, 1.0f);
#pragma unroll
            for (uint i = 0; i < OWN_ROWS; i++) {
                float most = fmax(greatest[i], greatest_of(partials + (y + i * ROWS) * FOURS));
                float shrink = exp2(greatest[i] - most);
                greatest[i] = most;
                total[i] *= shrink;
#pragma unroll
                for (uint j = 0; j < OWN_WIDE; j++)
                    sums[i][j] *= shrink;
#pragma unroll
                for (uint j = 0; j < OWN_COLUMNS; j++) {
                    s[i][j] = exp2(s[i][j] - most);
                    total[i] += s[i][j];
                }
            }
            STORE_SCORES(p, BY_ROWS, s)
            barrier(CLK_LOCAL_MEM_FENCE);
            add_block(sums, p, kv_block, x, y);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (uint i = 0; i < OWN_ROWS; i++)
            partial[(y + i * ROWS) * COLUMNS + x] = total[i];
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (uint i = 0; i < OWN_ROWS; i++) {
            uint row = y + i * ROWS;
            float denominator = sum_of(partials + row * FOURS);
            float inverse = denominator == 0.0f ? 0.0f : 1.0f / denominator;
#pragma unroll
            for (uint j = 0; j < OWN_WIDE; j++)
                sums[i][j] *= inverse;
            if (keep_lse && x == 0 && (int)row < queries)
                lse[((ulong)b * heads + h) * tq + query + row] =
                    (greatest[i] + log2(denominator)) * LN_2;
        }
        store_sums(out + (((ulong)b * tq + query) * heads + h) * D, (ulong)heads * D, queries, sums,
                   x, y);
    }
}

#else

/* Makes probabilities of scores s, from the logarithms of their denominators. */
OF_ARRAYS void probabilities(float s[OWN_ROWS][OWN_COLUMNS], local const float *lse, uint y)
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (uint j = 0; j < OWN_COLUMNS; j++)
            s[i][j] = s[i][j] == HIDDEN ? 0.0f : exp2(s[i][j] - lse[y + i * ROWS]);
}

/* Makes gradients of scores of probabilities s and their gradients dp. */
OF_ARRAYS void differentiate(float s[OWN_ROWS][OWN_COLUMNS], float dp[OWN_ROWS][OWN_COLUMNS],
                                 local const float *delta, float scale, uint y)
{
#pragma unroll
    for (uint i = 0; i < OWN_ROWS; i++)
#pragma unroll
        for (uint j = 0; j < OWN_COLUMNS; j++)
            s[i][j] *= scale * (dp[i][j] - delta[y + i * ROWS]);
}

/* dq (batch, tq, heads, D), and delta (batch, heads, tq) = sums of d_out * out, for dk and dv. */
kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(GROUP, 1, 1))) void attention_backward_q(
    global const T *q, global const T *k, global const T *v, global const T *out,
    global const float *lse, global const T *d_out, global T *dq, ulong q_offset, ulong q_batch,
    ulong q_row, ulong q_head, ulong k_offset, ulong k_batch, ulong k_row, ulong k_head,
    ulong v_offset, ulong v_batch, ulong v_row, ulong v_head, uint batch, uint heads, uint kv_heads,
    uint tq, uint tk, float scale, int first_position, MASK_PARAMETERS ulong out_offset,
    ulong out_batch, ulong out_row, ulong out_head, ulong d_out_offset, ulong d_out_batch,
    ulong d_out_row, ulong d_out_head, global float *delta, GRADIENT_PARAMETERS)
{
    local float4 q_block[BLOCK * PITCH], d_out_block[BLOCK * PITCH], kv_block[BLOCK * PITCH];
    local float4 ds[BLOCK * P_PITCH];
    local float row_lse[BLOCK], row_delta[BLOCK];
    uint x = get_local_id(0) % COLUMNS, y = get_local_id(0) / COLUMNS;
    uint blocks = (tq + BLOCK - 1) / BLOCK;

    for (uint item = get_group_id(0); item < batch * heads * blocks; item += get_num_groups(0)) {
        uint query = (blocks - 1 - item % blocks) * BLOCK;
        uint b = item / blocks / heads, h = item / blocks % heads, kv_h = h / (heads / kv_heads);
        int queries = min(BLOCK, (int)(tq - query)), sees = first_position + (int)query;
        int end = min(KEYS_OF_ROW(b), sees + queries);
        float slope = SLOPE_OF_HEAD(h);
        ulong row = ((ulong)b * heads + h) * tq + query;
        global const T *k_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const T *v_rows = v + v_offset + b * v_batch + kv_h * v_head;
        wide sums[OWN_ROWS][OWN_WIDE];
        clear_sums(sums);
        barrier(CLK_LOCAL_MEM_FENCE); /* the item before has been read */
        load_block(q_block, q + q_offset + b * q_batch + h * q_head + query * q_row, q_row, queries,
                   scale * LOG2_E);
        load_block(d_out_block,
                   d_out + d_out_offset + b * d_out_batch + h * d_out_head + query * d_out_row,
                   d_out_row, queries, 1.0f);
        load_block(kv_block, out + out_offset + b * out_batch + h * out_head + query * out_row,
                   out_row, queries, 1.0f);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = get_local_id(0); i < BLOCK; i += GROUP) {
            /* In the order of dp = d_out v^T: where out is v, their difference is 0. */
            float sum = 0.0f;
            for (uint four = 0; four < (D + 3) / 4; four++) {
                float4 of_d_out = d_out_block[i * PITCH + four], of_out = kv_block[i * PITCH + four];
                sum = multiply_add(of_d_out.s0, of_out.s0, sum);
                sum = multiply_add(of_d_out.s1, of_out.s1, sum);
                sum = multiply_add(of_d_out.s2, of_out.s2, sum);
                sum = multiply_add(of_d_out.s3, of_out.s3, sum);
            }
            row_delta[i] = sum;
            row_lse[i] = i < queries ? lse[row + i] * LOG2_E : 0.0f;
            if (i < queries)
                delta[row + i] = sum;
        }
        for (int key = first_block(sees, window); key < end; key += BLOCK) {
            float s[OWN_ROWS][OWN_COLUMNS], dp[OWN_ROWS][OWN_COLUMNS];
            barrier(CLK_LOCAL_MEM_FENCE);
            load_block(kv_block, v_rows + key * v_row, v_row, end - key, 1.0f);
            barrier(CLK_LOCAL_MEM_FENCE);
            multiply_rows(dp, d_out_block, kv_block, x, y);
            barrier(CLK_LOCAL_MEM_FENCE);
            load_block(kv_block, k_rows + key * k_row, k_row, end - key, 1.0f);
            barrier(CLK_LOCAL_MEM_FENCE);
            multiply_rows(s, q_block, kv_block, x, y);
            mask_scores(s, key, sees, end, slope, window, x, y);
            probabilities(s, row_lse, y);
            differentiate(s, dp, row_delta, scale, y);
            STORE_SCORES(ds, BY_ROWS, s)
            barrier(CLK_LOCAL_MEM_FENCE);
            add_block(sums, ds, kv_block, x, y);
        }
        store_sums(dq + dq_offset + ((ulong)b * tq + query) * dq_row + h * D, dq_row, queries, sums,
                   x, y);
    }
}

/* dk and dv (batch, tk, kv_heads, D): a work-group owns a block of keys and adds up over queries.
 * q, d_out and q again take turns in one block of local memory. */
kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(GROUP, 1, 1))) void attention_backward_kv(
    global const T *q, global const T *k, global const T *v, global const float *lse,
    global const T *d_out, global T *dk, global T *dv, ulong q_offset, ulong q_batch, ulong q_row,
    ulong q_head, ulong k_offset, ulong k_batch, ulong k_row, ulong k_head, ulong v_offset,
    ulong v_batch, ulong v_row, ulong v_head, uint batch, uint heads, uint kv_heads, uint tq,
    uint tk, float scale, int first_position, MASK_PARAMETERS ulong d_out_offset, ulong d_out_batch,
    ulong d_out_row, ulong d_out_head, global const float *delta, GRADIENT_PARAMETERS)
{
    local float4 k_block[BLOCK * PITCH], v_block[BLOCK * PITCH], q_block[BLOCK * PITCH];
    local float4 p[BLOCK * P_PITCH]; /* by columns: a row for each key */
    local float row_lse[BLOCK], row_delta[BLOCK];
    uint x = get_local_id(0) % COLUMNS, y = get_local_id(0) / COLUMNS;
    uint blocks = (tk + BLOCK - 1) / BLOCK, group = heads / kv_heads;

    for (uint item = get_group_id(0); item < batch * kv_heads * blocks; item += get_num_groups(0)) {
        int key = item % blocks * BLOCK, rows = min(BLOCK, (int)tk - key);
        uint b = item / blocks / kv_heads, kv_h = item / blocks % kv_heads;
        int end = min(KEYS_OF_ROW(b), key + rows);
        wide dk_sums[OWN_ROWS][OWN_WIDE], dv_sums[OWN_ROWS][OWN_WIDE];
        clear_sums(dk_sums);
        clear_sums(dv_sums);
        barrier(CLK_LOCAL_MEM_FENCE); /* the item before has been read */
        load_block(k_block, k + k_offset + b * k_batch + kv_h * k_head + key * k_row, k_row,
                   end - key, 1.0f);
        load_block(v_block, v + v_offset + b * v_batch + kv_h * v_head + key * v_row, v_row,
                   end - key, 1.0f);
        /* The first query that sees the first of these keys, in whole blocks. */
        int first = clamp(key - first_position, 0, (int)tq) / BLOCK * BLOCK;
        /* Those from `last` on see none: they are too far, or the row ends before. */
        int last = end <= key ? first : min((int)tq, end - 1 + window - first_position);
        for (uint h = kv_h * group; h < (kv_h + 1) * group; h++) {
            for (int query = first; query < last; query += BLOCK) {
                int queries = min(BLOCK, (int)tq - query), sees = first_position + query;
                ulong row = ((ulong)b * heads + h) * tq + query;
                global const T *q_rows = q + q_offset + b * q_batch + h * q_head + query * q_row;
                float s[OWN_ROWS][OWN_COLUMNS], dp[OWN_ROWS][OWN_COLUMNS];
                barrier(CLK_LOCAL_MEM_FENCE);
                load_block(q_block, q_rows, q_row, queries, scale * LOG2_E);
                for (int i = get_local_id(0); i < BLOCK; i += GROUP) {
                    row_lse[i] = i < queries ? lse[row + i] * LOG2_E : 0.0f;
                    row_delta[i] = i < queries ? delta[row + i] : 0.0f;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                multiply_rows(s, q_block, k_block, x, y);
                mask_scores(s, key, sees, end, SLOPE_OF_HEAD(h), window, x, y);
                probabilities(s, row_lse, y);
                STORE_SCORES(p, BY_COLUMNS, s)
                barrier(CLK_LOCAL_MEM_FENCE);
                load_block(q_block,
                           d_out + d_out_offset + b * d_out_batch + h * d_out_head +
                               query * d_out_row,
                           d_out_row, queries, 1.0f);
                barrier(CLK_LOCAL_MEM_FENCE);
                multiply_rows(dp, q_block, v_block, x, y);
                add_block(dv_sums, p, q_block, x, y);
                barrier(CLK_LOCAL_MEM_FENCE);
                load_block(q_block, q_rows, q_row, queries, scale);
                LOAD_SCORES(s, p, BY_COLUMNS) /* meanwhile registers had no room for them */
                differentiate(s, dp, row_delta, 1.0f, y);
                STORE_SCORES(p, BY_COLUMNS, s)
                barrier(CLK_LOCAL_MEM_FENCE);
                add_block(dk_sums, p, q_block, x, y);
            }
        }
        ulong at = ((ulong)b * tk + key) * dkv_row + kv_h * D;
        store_sums(dk + dk_offset + at, dkv_row, rows, dk_sums, x, y);
        store_sums(dv + dv_offset + at, dkv_row, rows, dv_sums, x, y);
    }
}

#endif

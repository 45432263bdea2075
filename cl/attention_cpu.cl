/* Attention on a CPU: one work-item a group, no barriers, all sums in a fixed order.
 *
 * Queries lie in the lanes of vectors: blocks of q (and of d_out) are transposed once, to
 * (D, QUERIES), and everything that belongs to a pair of a key and a query is kept as
 * (keys, QUERIES).  So maxima and sums of a softmax need no exchange between lanes, k and v are
 * read where they are, number by number, and every product is a sum over c of
 *
 *     tile[r][lane] += a[r][c] b[c][lane]      ROWS rows of two vectors, in registers
 *
 *     scores^T = k q^T      out^T = v^T p^T    p: probabilities
 *     dp^T = v d_out^T      dq^T = k^T ds^T    ds: gradients of scores
 *     dv = p^T d_out        dk = ds^T q        here lanes hold numbers of d_out and q
 *
 * The host defines D, and BACKWARD: which of the kernels is meant. */

#if FLOAT_WIDTH == 16
#define ROWS 8 /* 16 sums and 2 vectors of b; numbers of a are operands in memory */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define ROWS 4 /* 8 sums, 2 vectors of b, 1 of a: 11 of 16 registers */
#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#endif
#define QUERIES (2 * FLOAT_WIDTH)
/* Rows of a block (D, QUERIES): whole tiles.  Numbers of a row of D: whole vectors. */
#define D_ROWS ((D + ROWS - 1) / ROWS * ROWS)
#define D_LANES ((D + FLOAT_WIDTH - 1) / FLOAT_WIDTH * FLOAT_WIDTH)
#define ALIGNED __attribute__((aligned(64)))

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
/* The score of a key that a query does not see.  LEAST is below every other score, but so far above
 * that one that a row that sees nothing gets the sum 0. */
#define HIDDEN -3e38f
#define LEAST -1e30f

/* 2^x for x up to 127, 0 below -126.5; NaN stays NaN.  The polynomial is that of Cephes' exp2f on
 * [-1/2, 1/2]; the error is below 2e-7. */
static inline floatv power_of_2(floatv x)
{
    x = SELECT(LT(x, -127.0f), (floatv)(-127.0f), x);
    floatv shifted = x + 12582912.0f; /* 1.5 * 2^23: the last bits are the nearest integer */
    floatv f = x - (shifted - 12582912.0f);
    floatv y = fma(f, 1.535336188319500e-4f, (floatv)(1.339887440266574e-3f));
    y = fma(y, f, (floatv)(9.618437357674640e-3f));
    y = fma(y, f, (floatv)(5.550332471162809e-2f));
    y = fma(y, f, (floatv)(2.402264791363012e-1f));
    y = fma(y, f, (floatv)(6.931472028550421e-1f));
    y = fma(y, f, (floatv)(1.0f));
    return y * as_floatv((as_intv(shifted) << 23) + 0x3f800000);
}

/* fmax without its care for NaN: b, if one is. */
static inline floatv greater(floatv a, floatv b)
{
    return SELECT(GT(a, b), a, b);
}

/* ---- Transposition, by blocks of 4 x 4 in the quarters of vectors ---- */

#if FLOAT_WIDTH == 16
#define FROM_ROWS(x, j)                                                                            \
    (float16)(vload4(0, x + at[j]), vload4(0, x + at[j + 4]), vload4(0, x + at[j + 8]),            \
              vload4(0, x + at[j + 12]))
#define LOW_NUMBERS(a, b)                                                                          \
    (float16)(a.s0, b.s0, a.s1, b.s1, a.s4, b.s4, a.s5, b.s5, a.s8, b.s8, a.s9, b.s9, a.sc, b.sc,  \
              a.sd, b.sd)
#define HIGH_NUMBERS(a, b)                                                                         \
    (float16)(a.s2, b.s2, a.s3, b.s3, a.s6, b.s6, a.s7, b.s7, a.sa, b.sa, a.sb, b.sb, a.se, b.se,  \
              a.sf, b.sf)
#define LOW_PAIRS(a, b) (float16)(a.s01, b.s01, a.s45, b.s45, a.s89, b.s89, a.scd, b.scd)
#define HIGH_PAIRS(a, b) (float16)(a.s23, b.s23, a.s67, b.s67, a.sab, b.sab, a.sef, b.sef)
#elif FLOAT_WIDTH == 8
#define FROM_ROWS(x, j) (float8)(vload4(0, x + at[j]), vload4(0, x + at[j + 4]))
#define LOW_NUMBERS(a, b) (float8)(a.s0, b.s0, a.s1, b.s1, a.s4, b.s4, a.s5, b.s5)
#define HIGH_NUMBERS(a, b) (float8)(a.s2, b.s2, a.s3, b.s3, a.s6, b.s6, a.s7, b.s7)
#define LOW_PAIRS(a, b) (float8)(a.s01, b.s01, a.s45, b.s45)
#define HIGH_PAIRS(a, b) (float8)(a.s23, b.s23, a.s67, b.s67)
#else
#define FROM_ROWS(x, j) vload4(0, x + at[j])
#define LOW_NUMBERS(a, b) (float4)(a.s0, b.s0, a.s1, b.s1)
#define HIGH_NUMBERS(a, b) (float4)(a.s2, b.s2, a.s3, b.s3)
#define LOW_PAIRS(a, b) (float4)(a.s01, b.s01)
#define HIGH_PAIRS(a, b) (float4)(a.s23, b.s23)
#endif

/* Of the 4 x 4 numbers in each quarter of x0, x1, x2, x3. */
#define TRANSPOSE_QUARTERS                                                                         \
    floatv u0 = LOW_NUMBERS(x0, x1), u1 = LOW_NUMBERS(x2, x3);                                     \
    floatv u2 = HIGH_NUMBERS(x0, x1), u3 = HIGH_NUMBERS(x2, x3);                                   \
    floatv y0 = LOW_PAIRS(u0, u1), y1 = HIGH_PAIRS(u0, u1);                                        \
    floatv y2 = LOW_PAIRS(u2, u3), y3 = HIGH_PAIRS(u2, u3);

/* to[d][i] = scale x[i * row + d] for d < D, i < QUERIES; rows beyond `count` repeat the last. */
static inline void load_transposed(float *to, global const float *x, ulong row, uint count,
                                   float scale)
{
    for (uint i = 0; i < QUERIES; i += FLOAT_WIDTH) {
        ulong at[FLOAT_WIDTH];
        for (uint lane = 0; lane < FLOAT_WIDTH; lane++)
            at[lane] = min(i + lane, count - 1) * row;
        uint d = 0;
        for (; d + 4 <= D; d += 4) {
            floatv x0 = FROM_ROWS(x + d, 0), x1 = FROM_ROWS(x + d, 1);
            floatv x2 = FROM_ROWS(x + d, 2), x3 = FROM_ROWS(x + d, 3);
            TRANSPOSE_QUARTERS
            float *block = to + d * QUERIES + i;
            vstorev(y0 * scale, 0, block);
            vstorev(y1 * scale, 0, block + QUERIES);
            vstorev(y2 * scale, 0, block + 2 * QUERIES);
            vstorev(y3 * scale, 0, block + 3 * QUERIES);
        }
        for (; d < D; d++)
            for (uint lane = 0; lane < FLOAT_WIDTH; lane++)
                to[d * QUERIES + i + lane] = scale * x[at[lane] + d];
    }
}

/* y[i * row + d] = scale[i] from[d][i] for d < D, i < count. */
static inline void store_transposed(global float *y, ulong row, uint count, const float *from,
                                    const float *scale)
{
    for (uint i = 0; i < count; i += FLOAT_WIDTH) {
        uint lanes = min((uint)FLOAT_WIDTH, count - i), d = 0;
        floatv factor = vloadv(0, scale + i);
        global float *y_rows = y + i * row;
        for (; d + 4 <= D; d += 4) {
            const float *block = from + d * QUERIES + i;
            floatv x0 = vloadv(0, block) * factor, x1 = vloadv(0, block + QUERIES) * factor;
            floatv x2 = vloadv(0, block + 2 * QUERIES) * factor,
                   x3 = vloadv(0, block + 3 * QUERIES) * factor;
            TRANSPOSE_QUARTERS
            float piece[4 * FLOAT_WIDTH] ALIGNED;
            vstorev(y0, 0, piece);
            vstorev(y1, 1, piece);
            vstorev(y2, 2, piece);
            vstorev(y3, 3, piece);
            for (uint lane = 0; lane < lanes; lane++)
                vstore4(vload4(0, piece + lane % 4 * FLOAT_WIDTH + lane / 4 * 4), 0,
                        y_rows + lane * row + d);
        }
        for (; d < D; d++)
            for (uint lane = 0; lane < lanes; lane++)
                y_rows[lane * row + d] = from[d * QUERIES + i + lane] * scale[i + lane];
    }
}

/* ---- Products ---- */

#define DECLARE(i) floatv low##i = (floatv)(0.0f), high##i = (floatv)(0.0f);
#define LOAD(i)                                                                                    \
    low##i = vloadv(2 * i, tile);                                                                  \
    high##i = vloadv(2 * i + 1, tile);
#define STORE(i)                                                                                   \
    vstorev(low##i, 2 * i, tile);                                                                  \
    vstorev(high##i, 2 * i + 1, tile);

/* tile[r][lane] (+)= sum over c < depth of a[r * row + c * step] b[c][lane].  Rows of a beyond
 * `last` repeat it. */
static inline void multiply(float *tile, bool add, global const float *a, ulong row, ulong step,
                            uint last, const float *b, uint depth)
{
    EACH_ROW(DECLARE)
    if (add) {
        EACH_ROW(LOAD)
    }
#define POINT(i) global const float *a##i = a + min((uint)i, last) * row;
    EACH_ROW(POINT)
    ulong at = 0;
    for (uint c = 0; c < depth; c++, at += step, b += QUERIES) {
        floatv b_low = vloadv(0, b), b_high = vloadv(1, b);
#define ADD_PRODUCT(i)                                                                             \
    low##i = fma((floatv)(a##i[at]), b_low, low##i);                                               \
    high##i = fma((floatv)(a##i[at]), b_high, high##i);
        EACH_ROW(ADD_PRODUCT)
    }
    EACH_ROW(STORE)
}

/* Hides from each query the keys that it does not see: scores are those of `keys` keys from `key`
 * on; the first query sees key `sees` and those before, the next one more. */
static inline void hide_unseen(float *scores, int key, uint keys, int sees)
{
    if (key + (int)keys - 1 <= sees)
        return;
    intv sees_low = LANES + sees, sees_high = sees_low + FLOAT_WIDTH;
    for (uint j = 0; j < keys; j++, key++, scores += QUERIES) {
        floatv low = vloadv(0, scores), high = vloadv(1, scores);
        vstorev(SELECT(GT((intv)(key), sees_low), (floatv)(HIDDEN), low), 0, scores);
        vstorev(SELECT(GT((intv)(key), sees_high), (floatv)(HIDDEN), high), 1, scores);
    }
}

#if !BACKWARD

#define KEYS 64

/* out (batch, tq, heads, D) and, if keep_lse, the logarithm of each softmax's denominator, lse
 * (batch, heads, tq).  A block of queries after the other; of each, blocks of keys, with a running
 * maximum. */
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
attention_forward(global const float *q, global const float *k, global const float *v,
                  global const int *position, global float *out, global float *lse, ulong q_offset,
                  ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
                  ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
                  ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk,
                  float scale, int first_position, uint has_position, uint keep_lse)
{
    float q_t[D * QUERIES] ALIGNED, out_t[D_ROWS * QUERIES] ALIGNED, scores[KEYS * QUERIES] ALIGNED;
    uint blocks = (tq + QUERIES - 1) / QUERIES;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk);

    for (ulong item = get_group_id(0); item < (ulong)batch * heads * blocks;
         item += get_num_groups(0)) {
        uint query = (blocks - 1 - item % blocks) * QUERIES; /* those that see most come first */
        uint b = item / blocks / heads, h = item / blocks % heads, kv_h = h / (heads / kv_heads);
        uint queries = min((uint)QUERIES, tq - query);
        int sees = start + (int)query; /* the last key that query number 0 of the block sees */
        int end = min((int)tk, sees + (int)queries);
        global const float *k_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const float *v_rows = v + v_offset + b * v_batch + kv_h * v_head;
        load_transposed(q_t, q + q_offset + b * q_batch + h * q_head + query * q_row, q_row,
                        queries, scale * LOG2_E);

        floatv max_low = (floatv)(LEAST), max_high = max_low;
        floatv sum_low = (floatv)(0.0f), sum_high = sum_low;
        for (uint i = 0; i < D_ROWS * QUERIES; i += FLOAT_WIDTH)
            vstorev((floatv)(0.0f), 0, out_t + i);
        for (int key = 0; key < end; key += KEYS) {
            uint keys = min(KEYS, end - key);
            for (uint j = 0; j < keys; j += ROWS)
                multiply(scores + j * QUERIES, false, k_rows + (key + j) * k_row, k_row, 1,
                         keys - 1 - j, q_t, D);
            hide_unseen(scores, key, keys, sees);
            floatv new_low = max_low, new_high = max_high;
            for (uint j = 0; j < keys; j++) {
                new_low = greater(vloadv(2 * j, scores), new_low);
                new_high = greater(vloadv(2 * j + 1, scores), new_high);
            }
            floatv shrink_low = power_of_2(max_low - new_low);
            floatv shrink_high = power_of_2(max_high - new_high);
            max_low = new_low;
            max_high = new_high;
            sum_low *= shrink_low;
            sum_high *= shrink_high;
            for (uint j = 0; j < keys; j++) {
                floatv p_low = power_of_2(vloadv(2 * j, scores) - max_low);
                floatv p_high = power_of_2(vloadv(2 * j + 1, scores) - max_high);
                sum_low += p_low;
                sum_high += p_high;
                vstorev(p_low, 2 * j, scores);
                vstorev(p_high, 2 * j + 1, scores);
            }
            if (key > 0) {
                for (uint d = 0; d < D; d++) {
                    vstorev(vloadv(2 * d, out_t) * shrink_low, 2 * d, out_t);
                    vstorev(vloadv(2 * d + 1, out_t) * shrink_high, 2 * d + 1, out_t);
                }
            }
            for (uint d = 0; d < D; d += ROWS)
                multiply(out_t + d * QUERIES, true, v_rows + key * v_row + d, 1, v_row, D - 1 - d,
                         scores, keys);
        }

        float inverse[QUERIES] ALIGNED;
        vstorev(SELECT(EQ(sum_low, 0.0f), (floatv)(0.0f), 1.0f / sum_low), 0, inverse);
        vstorev(SELECT(EQ(sum_high, 0.0f), (floatv)(0.0f), 1.0f / sum_high), 1, inverse);
        store_transposed(out + (((ulong)b * tq + query) * heads + h) * D, (ulong)heads * D, queries,
                         out_t, inverse);
        if (keep_lse) {
            vstorev((max_low + log2(sum_low)) * LN_2, 0, inverse);
            vstorev((max_high + log2(sum_high)) * LN_2, 1, inverse);
            for (uint i = 0; i < queries; i++)
                lse[((ulong)b * heads + h) * tq + query + i] = inverse[i];
        }
    }
}

#else

#define KEYS 32
#if D_LANES % (2 * FLOAT_WIDTH) == 0
#define COLUMNS (2 * FLOAT_WIDTH)
#define HIGH(statement) statement
#else
#define COLUMNS FLOAT_WIDTH
#define HIGH(statement)
#endif

/* to[i][d] = x[i * row + d] for i < count. */
static inline void load_rows(float *to, global const float *x, ulong row, uint count)
{
    for (uint i = 0; i < count; i++) {
        for (uint d = 0; d + FLOAT_WIDTH <= D; d += FLOAT_WIDTH)
            vstorev(vloadv(0, x + i * row + d), 0, to + i * D_LANES + d);
#if D % FLOAT_WIDTH
        vstorev(load_part(x + i * row + D / FLOAT_WIDTH * FLOAT_WIDTH, D % FLOAT_WIDTH, 0.0f), 0,
                to + i * D_LANES + D / FLOAT_WIDTH * FLOAT_WIDTH);
#endif
    }
}

/* Vector d / FLOAT_WIDTH of a row of D numbers. */
static inline floatv load_lanes(global const float *row, uint d)
{
#if D % FLOAT_WIDTH
    if (d + FLOAT_WIDTH > D)
        return load_part(row + d, D % FLOAT_WIDTH, 0.0f);
#endif
    return vloadv(0, row + d);
}

static inline void store_lanes(floatv x, global float *row, uint d)
{
#if D % FLOAT_WIDTH
    if (d + FLOAT_WIDTH > D) {
        store_part(x, row + d, D % FLOAT_WIDTH);
        return;
    }
#endif
    vstorev(x, 0, row + d);
}

/* y[r * row + d] (+)= sum over i < depth of a[r][i] b[i][d], for r < rows, d < D; a is (rows,
 * QUERIES), b (depth, D_LANES). */
static inline void add_rows(global float *y, ulong row, uint rows, bool add, const float *a,
                            const float *b, uint depth)
{
    for (uint d = 0; d < D_LANES; d += COLUMNS, b += COLUMNS) {
        EACH_ROW(DECLARE)
#define LOAD_ROW(i)                                                                                \
    if (i < rows) {                                                                                \
        low##i = load_lanes(y + i * row, d);                                                       \
        HIGH(high##i = load_lanes(y + i * row, d + FLOAT_WIDTH);)                                  \
    }
        if (add) {
            EACH_ROW(LOAD_ROW)
        }
        for (uint c = 0; c < depth; c++) {
            floatv b_low = vloadv(0, b + c * D_LANES);
            HIGH(floatv b_high = vloadv(1, b + c * D_LANES);)
#define ADD_ROW(i)                                                                                 \
    low##i = fma((floatv)(a[i * QUERIES + c]), b_low, low##i);                                     \
    HIGH(high##i = fma((floatv)(a[i * QUERIES + c]), b_high, high##i);)
            EACH_ROW(ADD_ROW)
        }
#define STORE_ROW(i)                                                                               \
    if (i < rows) {                                                                                \
        store_lanes(low##i, y + i * row, d);                                                       \
        HIGH(store_lanes(high##i, y + i * row, d + FLOAT_WIDTH);)                                  \
    }
        EACH_ROW(STORE_ROW)
    }
}

/* Makes, of scores, probabilities p; and of their gradients, in ds, gradients of the scores. */
static inline void differentiate(float *p, float *ds, uint keys, const float *lse,
                                 const float *delta, float scale)
{
    floatv lse_low = vloadv(0, lse), lse_high = vloadv(1, lse);
    floatv delta_low = vloadv(0, delta), delta_high = vloadv(1, delta);
    for (uint j = 0; j < keys; j++, p += QUERIES, ds += QUERIES) {
        floatv p_low = power_of_2(vloadv(0, p) - lse_low),
               p_high = power_of_2(vloadv(1, p) - lse_high);
        vstorev(p_low, 0, p);
        vstorev(p_high, 1, p);
        vstorev(p_low * scale * (vloadv(0, ds) - delta_low), 0, ds);
        vstorev(p_high * scale * (vloadv(1, ds) - delta_high), 1, ds);
    }
}

/* delta = sums of out * d_out, in the order of dp = v d_out^T: where out is v, their difference is
 * 0. */
static inline void add_products(float *delta, const float *out_t, const float *d_out_t)
{
    floatv low = (floatv)(0.0f), high = low;
    for (uint d = 0; d < D; d++) {
        low = fma(vloadv(2 * d, out_t), vloadv(2 * d, d_out_t), low);
        high = fma(vloadv(2 * d + 1, out_t), vloadv(2 * d + 1, d_out_t), high);
    }
    vstorev(low, 0, delta);
    vstorev(high, 1, delta);
}

/* Gradients.  An item is a part of the keys and a part of the queries of a head of k and v: with
 * one part each, it makes all of dq, dk and dv from five products; with parts of the keys dk and dv
 * (want_dq = 0), with parts of the queries dq.  Sums are split by KEYS and QUERIES only: the three
 * ways give the same numbers.
 *
 * Blocks of queries come last first: with a mask, the last sees every key, and begins the sums of
 * dk and dv. */
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_backward(
    global const float *q, global const float *k, global const float *v, global const float *out,
    global const float *lse, global const float *d_out, global float *dq, global float *dk,
    global float *dv, ulong q_offset, ulong q_batch, ulong q_row, ulong q_head, ulong k_offset,
    ulong k_batch, ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
    ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
    int first_position, ulong out_offset, ulong out_batch, ulong out_row, ulong out_head,
    ulong d_out_offset, ulong d_out_batch, ulong d_out_row, ulong d_out_head, uint key_part,
    uint query_part, uint want_dq, uint want_dkv)
{
    float q_rows[QUERIES * D_LANES] ALIGNED, q_t[D * QUERIES] ALIGNED;
    float d_out_rows[QUERIES * D_LANES] ALIGNED, d_out_t[D * QUERIES] ALIGNED;
    float dq_t[D_ROWS * QUERIES] ALIGNED, p[KEYS * QUERIES] ALIGNED, ds[KEYS * QUERIES] ALIGNED;
    float row_lse[QUERIES] ALIGNED, delta[QUERIES] ALIGNED, ones[QUERIES] ALIGNED;
    for (uint i = 0; i < QUERIES; i++) {
        row_lse[i] = 0.0f;
        ones[i] = 1.0f;
    }
    uint key_parts = (tk + key_part - 1) / key_part;
    uint query_parts = (tq + query_part - 1) / query_part;
    uint group = heads / kv_heads;
    ulong kv_step = (ulong)kv_heads * D;

    for (ulong item = get_group_id(0); item < (ulong)batch * kv_heads * key_parts * query_parts;
         item += get_num_groups(0)) {
        int key_begin = item % key_parts * key_part, key_end = min(tk, key_begin + key_part);
        uint query_begin = (query_parts - 1 - item / key_parts % query_parts) * query_part;
        uint query_end = min(tq, query_begin + query_part);
        ulong kv_item = item / key_parts / query_parts;
        uint b = kv_item / kv_heads, kv_h = kv_item % kv_heads;
        global const float *k_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const float *v_rows = v + v_offset + b * v_batch + kv_h * v_head;
        global float *dk_rows = dk + ((ulong)b * tk * kv_heads + kv_h) * D;
        global float *dv_rows = dv + ((ulong)b * tk * kv_heads + kv_h) * D;

        bool add = false;
        for (uint h = kv_h * group; h < (kv_h + 1) * group; h++) {
            for (uint query = (query_end - 1 - query_begin) / QUERIES * QUERIES + query_begin;;
                 query -= QUERIES) {
                uint queries = min((uint)QUERIES, query_end - query);
                int sees = first_position + (int)query, end = min(key_end, sees + (int)queries);
                if (end <= key_begin && !want_dq)
                    break; /* earlier queries see none of these keys either */
                global const float *q_block =
                    q + q_offset + b * q_batch + h * q_head + query * q_row;
                global const float *d_out_block =
                    d_out + d_out_offset + b * d_out_batch + h * d_out_head + query * d_out_row;
                global const float *out_block =
                    out + out_offset + b * out_batch + h * out_head + query * out_row;
                global const float *lse_block = lse + ((ulong)b * heads + h) * tq + query;
                load_transposed(q_t, q_block, q_row, queries, scale * LOG2_E);
                load_transposed(d_out_t, d_out_block, d_out_row, queries, 1.0f);
                load_rows(d_out_rows, d_out_block, d_out_row, queries);
                if (want_dkv)
                    load_rows(q_rows, q_block, q_row, queries);
                load_transposed(dq_t, out_block, out_row, queries, 1.0f);
                add_products(delta, dq_t, d_out_t);
                for (uint i = 0; i < queries; i++)
                    row_lse[i] = lse_block[i] < LEAST ? LEAST : lse_block[i] * LOG2_E;
                for (uint i = 0; i < D_ROWS * QUERIES; i += FLOAT_WIDTH)
                    vstorev((floatv)(0.0f), 0, dq_t + i);

                for (int key = key_begin; key < end; key += KEYS) {
                    uint keys = min(KEYS, end - key);
                    for (uint j = 0; j < keys; j += ROWS)
                        multiply(p + j * QUERIES, false, k_rows + (key + j) * k_row, k_row, 1,
                                 keys - 1 - j, q_t, D);
                    for (uint j = 0; j < keys; j += ROWS)
                        multiply(ds + j * QUERIES, false, v_rows + (key + j) * v_row, v_row, 1,
                                 keys - 1 - j, d_out_t, D);
                    hide_unseen(p, key, keys, sees);
                    differentiate(p, ds, keys, row_lse, delta, scale);
                    if (want_dkv) {
                        for (uint j = 0; j < keys; j += ROWS) {
                            uint rows = min((uint)ROWS, keys - j);
                            add_rows(dv_rows + (key + j) * kv_step, kv_step, rows, add,
                                     p + j * QUERIES, d_out_rows, queries);
                            add_rows(dk_rows + (key + j) * kv_step, kv_step, rows, add,
                                     ds + j * QUERIES, q_rows, queries);
                        }
                    }
                    if (want_dq)
                        for (uint d = 0; d < D; d += ROWS)
                            multiply(dq_t + d * QUERIES, true, k_rows + key * k_row + d, 1, k_row,
                                     D - 1 - d, ds, keys);
                }
                if (want_dq)
                    store_transposed(dq + (((ulong)b * tq + query) * heads + h) * D,
                                     (ulong)heads * D, queries, dq_t, ones);
                add = true;
                if (query == query_begin)
                    break;
            }
        }
    }
}

#endif

/* Attention on a CPU: one work-item a group, no barriers, all sums in a fixed order.
 *
 * An item has a block of queries, in panels of COLUMNS, and goes through the keys in blocks of
 * KEYS.  Rows of k and v are copied once for a block: where they are, many of them fall into the
 * same few sets of a cache.  Queries lie in the lanes of vectors: each panel of q (and of d_out) is
 * transposed once, to (D, COLUMNS), and everything that belongs to a pair of a key and a query is
 * kept as (keys, queries).  So maxima and sums of a softmax need no exchange between lanes, and
 * every product is a sum over c of
 *
 *     tile[r][lane] += a[r][c] b[c][lane]      ROWS rows of two vectors, in registers
 *
 *     scores^T = k q^T      out^T = v^T p^T    p: probabilities
 *     dp^T = v d_out^T      dq^T = k^T ds^T    ds: gradients of scores
 *     dv = p^T d_out        dk = ds^T q        here lanes hold numbers of d_out and q
 *
 * What a query sees: keys up to its own, if there is a mask; of these `window`, itself included; none from the length of
 * its row on.  Slopes: slope[head] * key is added to scores, less what makes it 0 where query and key are one (Press, Smith, Lewis:
 * "Train short, test long", 2022).
 *
 * The host defines D, BLOCK, a multiple of COLUMNS, and BACKWARD: which of the kernels is meant; T, the type of q, k, v, out and their
 * gradients, and IS_NARROW: T is less than a float, and dk and dv are added up elsewhere. */

#if IS_NARROW
#define SUMS_PARAMETER , global float *sums
#else
#define SUMS_PARAMETER
#endif

#if FLOAT_WIDTH == 16
#define ROWS 12 /* 24 sums, 2 vectors of b and 1 of a: 27 of 32 registers */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#else
#define ROWS 6 /* 12 sums, 2 vectors of b and 1 of a: 15 of 16 registers */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#endif
#define EACH_OF_FOUR(X) X(0) X(1) X(2) X(3)
#define COLUMNS (2 * FLOAT_WIDTH)
#define PANELS (BLOCK / COLUMNS)
#define KEYS 48 /* whole tiles */
/* Rows of a panel (D, COLUMNS): whole tiles.  Numbers of a row of D: whole tiles, too. */
#define D_ROWS ((D + ROWS - 1) / ROWS * ROWS)
#define D_LANES ((D + COLUMNS - 1) / COLUMNS * COLUMNS)
#define ALIGNED __attribute__((aligned(64)))

/* Vectors in private memory, aligned. */
#define load_vector(i, p) (((const floatv *)(p))[i])
#define store_vector(v, i, p) (((floatv *)(p))[i] = (v))

/* The score of a key that a query does not see.  LEAST is below every other score, but so far above
 * that one that a row that sees nothing gets the sum 0. */
#define HIDDEN -3e38f
#define LEAST -1e30f

/* ---- Transposition, by blocks of 4 x 4 in the quarters of vectors ---- */

#if FLOAT_WIDTH == 16
#define FROM_ROWS(x, j)                                                                            \
    (float16)(load4(x + at[j]), load4(x + at[j + 4]), load4(x + at[j + 8]), load4(x + at[j + 12]))
#define LOW_NUMBERS(a, b)                                                                          \
    (float16)(a.s0, b.s0, a.s1, b.s1, a.s4, b.s4, a.s5, b.s5, a.s8, b.s8, a.s9, b.s9, a.sc, b.sc,  \
              a.sd, b.sd)
#define HIGH_NUMBERS(a, b)                                                                         \
    (float16)(a.s2, b.s2, a.s3, b.s3, a.s6, b.s6, a.s7, b.s7, a.sa, b.sa, a.sb, b.sb, a.se, b.se,  \
              a.sf, b.sf)
#define LOW_PAIRS(a, b) (float16)(a.s01, b.s01, a.s45, b.s45, a.s89, b.s89, a.scd, b.scd)
#define HIGH_PAIRS(a, b) (float16)(a.s23, b.s23, a.s67, b.s67, a.sab, b.sab, a.sef, b.sef)
#elif FLOAT_WIDTH == 8
#define FROM_ROWS(x, j) (float8)(load4(x + at[j]), load4(x + at[j + 4]))
#define LOW_NUMBERS(a, b) (float8)(a.s0, b.s0, a.s1, b.s1, a.s4, b.s4, a.s5, b.s5)
#define HIGH_NUMBERS(a, b) (float8)(a.s2, b.s2, a.s3, b.s3, a.s6, b.s6, a.s7, b.s7)
#define LOW_PAIRS(a, b) (float8)(a.s01, b.s01, a.s45, b.s45)
#define HIGH_PAIRS(a, b) (float8)(a.s23, b.s23, a.s67, b.s67)
#else
#define FROM_ROWS(x, j) load4(x + at[j])
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

/* to[d][i] = scale x[i * row + d] for d < D, i < COLUMNS; rows beyond `count` repeat the last. */
static inline void load_transposed(float *to, global const T *x, ulong row, uint count, float scale)
{
    for (uint i = 0; i < COLUMNS; i += FLOAT_WIDTH) {
        ulong at[FLOAT_WIDTH];
        for (uint lane = 0; lane < FLOAT_WIDTH; lane++)
            at[lane] = min(i + lane, count - 1) * row;
        uint d = 0;
        for (; d + 4 <= D; d += 4) {
            floatv x0 = FROM_ROWS(x + d, 0), x1 = FROM_ROWS(x + d, 1);
            floatv x2 = FROM_ROWS(x + d, 2), x3 = FROM_ROWS(x + d, 3);
            TRANSPOSE_QUARTERS
            float *block = to + d * COLUMNS + i;
            store_vector(y0 * scale, 0, block);
            store_vector(y1 * scale, 0, block + COLUMNS);
            store_vector(y2 * scale, 0, block + 2 * COLUMNS);
            store_vector(y3 * scale, 0, block + 3 * COLUMNS);
        }
        for (; d < D; d++)
            for (uint lane = 0; lane < FLOAT_WIDTH; lane++)
                to[d * COLUMNS + i + lane] = scale * load(x + at[lane] + d);
    }
}

/* y[i * row + d] = scale[i] from[d][i] for d < D, i < count. */
static inline void store_transposed(global T *y, ulong row, uint count, const float *from,
                                    const float *scale)
{
    for (uint i = 0; i < count; i += FLOAT_WIDTH) {
        uint lanes = min((uint)FLOAT_WIDTH, count - i), d = 0;
        floatv factor = load_vector(0, scale + i);
        global T *y_rows = y + i * row;
        for (; d + 4 <= D; d += 4) {
            const float *block = from + d * COLUMNS + i;
            floatv x0 = load_vector(0, block) * factor,
                   x1 = load_vector(0, block + COLUMNS) * factor;
            floatv x2 = load_vector(0, block + 2 * COLUMNS) * factor,
                   x3 = load_vector(0, block + 3 * COLUMNS) * factor;
            TRANSPOSE_QUARTERS
            float piece[4 * FLOAT_WIDTH] ALIGNED;
            store_vector(y0, 0, piece);
            store_vector(y1, 1, piece);
            store_vector(y2, 2, piece);
            store_vector(y3, 3, piece);
            for (uint lane = 0; lane < lanes; lane++)
                store4(vload4(0, piece + lane % 4 * FLOAT_WIDTH + lane / 4 * 4),
                       y_rows + lane * row + d);
        }
        for (; d < D; d++)
            for (uint lane = 0; lane < lanes; lane++)
                store(from[d * COLUMNS + i + lane] * scale[i + lane], y_rows + lane * row + d);
    }
}

/* to[i][d] = x[i * row + d] for i < count, d < D, and zeros up to D_LANES. */
static inline void load_rows(float *to, global const T *x, ulong row, uint count)
{
    for (uint i = 0; i < count; i++, x += row, to += D_LANES) {
        for (uint d = 0; d + FLOAT_WIDTH <= D; d += FLOAT_WIDTH)
            store_vector(loadv(0, x + d), 0, to + d);
        for (uint d = D / FLOAT_WIDTH * FLOAT_WIDTH; d < D_LANES; d++)
            to[d] = d < D ? load(x + d) : 0.0f;
    }
}

/* ---- Products ---- */

#define DECLARE(i) floatv low##i = (floatv)(0.0f), high##i = (floatv)(0.0f);
#define ADD_PRODUCT(i)                                                                             \
    low##i = multiply_add((floatv)(a[(i)*row]), b_low, low##i);                                    \
    high##i = multiply_add((floatv)(a[(i)*row]), b_high, high##i);
#define ADD_PRODUCTS(EACH)                                                                         \
    for (uint c = 0; c < depth; c++, a += step, b += b_row) {                                      \
        floatv b_low = load_vector(0, b), b_high = load_vector(1, b);                              \
        EACH(ADD_PRODUCT)                                                                          \
    }
#define STORE(i)                                                                                   \
    store_vector(low##i, 0, tile + (i)*tile_row);                                                  \
    store_vector(high##i, 1, tile + (i)*tile_row);

/* tile[r][lane] = sum over c < D of a[r][c] b[c][lane], for `rows` rows, or up to ROWS - 1 more.
 * Rows of tile are tile_row apart. */
static inline void multiply_keys(float *tile, uint tile_row, uint rows, const float *a_rows,
                                 const float *b_rows)
{
    const uint row = D_LANES, step = 1, b_row = COLUMNS, depth = D;
    for (uint r = 0; r < rows; r += ROWS, tile += ROWS * tile_row, a_rows += ROWS * D_LANES) {
        const float *a = a_rows, *b = b_rows;
        EACH_ROW(DECLARE)
        ADD_PRODUCTS(EACH_ROW)
        EACH_ROW(STORE)
    }
}

#define LOAD_SCALED(i)                                                                             \
    floatv low##i = load_vector(0, tile + (i)*tile_row) * scale_low;                               \
    floatv high##i = load_vector(1, tile + (i)*tile_row) * scale_high;

/* tile[d][lane] = scale[lane] tile[d][lane] + sum over c < depth of a[c][d] b[c][lane], for d < D.
 * Rows of b are b_row apart. */
static inline void add_over_keys(float *tile, floatv scale_low, floatv scale_high,
                                 const float *a_columns, const float *b_rows, uint b_row,
                                 uint depth)
{
    const uint row = 1, step = D_LANES, tile_row = COLUMNS;
    for (uint d = 0; d < D; d += ROWS, tile += ROWS * COLUMNS, a_columns += ROWS) {
        const float *a = a_columns, *b = b_rows;
        if (D - d <= 4) {
            EACH_OF_FOUR(LOAD_SCALED)
            ADD_PRODUCTS(EACH_OF_FOUR)
            EACH_OF_FOUR(STORE)
        } else {
            EACH_ROW(LOAD_SCALED)
            ADD_PRODUCTS(EACH_ROW)
            EACH_ROW(STORE)
        }
    }
}

/* Of a head: its slope times log2(e), how many keys a query sees at most. */
struct mask {
    float slope;
    int window;
};

/* Adds slopes, and hides from each query the keys that it does not see: scores are those of `keys` keys from `key`
 * on, rows of them `row` apart; the first query sees key `sees` and those before, the next one
 * more. */
static inline void mask_scores(float *scores, uint row, int key, uint keys, int sees,
                               struct mask mask)
{
    intv sees_low = LANES + sees, sees_high = sees_low + FLOAT_WIDTH;
    if (mask.slope != 0.0f) {
        for (uint j = 0; j < keys; j++) {
            floatv behind_low = convert_floatv(key + (int)j - sees_low),
                   behind_high = convert_floatv(key + (int)j - sees_high);
            store_vector(load_vector(0, scores + j * row) + mask.slope * behind_low, 0,
                         scores + j * row);
            store_vector(load_vector(1, scores + j * row) + mask.slope * behind_high, 1,
                         scores + j * row);
        }
    }
    if (key + (int)keys - 1 <= sees && key > sees + COLUMNS - 1 - mask.window)
        return;
    for (uint j = 0; j < keys; j++, key++, scores += row) {
        floatv low = load_vector(0, scores), high = load_vector(1, scores);
        low = SELECT(GT((intv)(key), sees_low), (floatv)(HIDDEN), low);
        high = SELECT(GT((intv)(key), sees_high), (floatv)(HIDDEN), high);
        store_vector(SELECT(LE((intv)(key), sees_low - mask.window), (floatv)(HIDDEN), low), 0,
                     scores);
        store_vector(SELECT(LE((intv)(key), sees_high - mask.window), (floatv)(HIDDEN), high), 1,
                     scores);
    }
}

/* The block of keys with the first key that a query sees. */
static inline int first_block(int sees, int window)
{
    return max(sees - window + 1, 0) / KEYS * KEYS;
}

/* Of `keys` keys from `key` on, those up to the last that some query of a panel sees, in whole tiles. */
static inline uint seen_keys(int key, uint keys, int sees, int window)
{
    int seen = sees + COLUMNS - key;
    return seen <= 0 || key + (int)keys - 1 <= sees - window
               ? 0
               : min(keys, ((uint)seen + ROWS - 1) / ROWS * ROWS);
}

#if !BACKWARD

/* What is known of a panel's softmax. */
struct softmax {
    float greatest[COLUMNS] ALIGNED, sum[COLUMNS] ALIGNED;
};

/* Adds `keys` keys to a panel's softmax and output. */
static inline void attend(float *out_t, struct softmax *softmax, float *scores, const float *q_t,
                          const float *k_rows, const float *v_rows, int key, uint keys, int sees,
                          struct mask mask)
{
    multiply_keys(scores, COLUMNS, keys, k_rows, q_t);
    mask_scores(scores, COLUMNS, key, keys, sees, mask);
    floatv old_low = load_vector(0, softmax->greatest),
           old_high = load_vector(1, softmax->greatest);
    floatv max_low = old_low, max_high = old_high;
    for (uint j = 0; j < keys; j++) {
        max_low = greater(load_vector(2 * j, scores), max_low);
        max_high = greater(load_vector(2 * j + 1, scores), max_high);
    }
    floatv shrink_low = power_of_2(old_low - max_low);
    floatv shrink_high = power_of_2(old_high - max_high);
    floatv sum_low = load_vector(0, softmax->sum) * shrink_low;
    floatv sum_high = load_vector(1, softmax->sum) * shrink_high;
    for (uint j = 0; j < keys; j++) {
        floatv p_low = power_of_2(load_vector(2 * j, scores) - max_low);
        floatv p_high = power_of_2(load_vector(2 * j + 1, scores) - max_high);
        sum_low += p_low;
        sum_high += p_high;
        store_vector(p_low, 2 * j, scores);
        store_vector(p_high, 2 * j + 1, scores);
    }
    store_vector(max_low, 0, softmax->greatest);
    store_vector(max_high, 1, softmax->greatest);
    store_vector(sum_low, 0, softmax->sum);
    store_vector(sum_high, 1, softmax->sum);
    add_over_keys(out_t, shrink_low, shrink_high, v_rows, scores, COLUMNS, keys);
}

/* out (batch, tq, heads, D) and, if keep_lse, the logarithm of each softmax's denominator, lse
 * (batch, heads, tq).  An item has `part` queries, at most BLOCK, and goes through blocks of keys,
 * with a running maximum. */
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_forward(
    global const T *q, global const T *k, global const T *v, global const int *position,
    global T *out, global float *lse, ulong q_offset, ulong q_batch, ulong q_row, ulong q_head,
    ulong k_offset, ulong k_batch, ulong k_row, ulong k_head, ulong v_offset, ulong v_batch,
    ulong v_row, ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
    int first_position, MASK_PARAMETERS uint has_position, uint keep_lse, uint part)
{
    float q_t[PANELS * D * COLUMNS] ALIGNED, out_t[PANELS * D_ROWS * COLUMNS] ALIGNED;
    float k_rows[KEYS * D_LANES] ALIGNED, v_rows[KEYS * D_LANES] ALIGNED;
    float scores[KEYS * COLUMNS] ALIGNED;
    struct softmax softmax[PANELS];
    uint parts = (tq + part - 1) / part;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);

    for (ulong item = get_group_id(0); item < (ulong)batch * heads * parts;
         item += get_num_groups(0)) {
        uint b = item / parts / heads, h = item / parts % heads, kv_h = h / (heads / kv_heads);
        /* The last queries see most, the first least; one after the other they make even halves. */
        uint turn = item % parts;
        uint query = (turn % 2 ? turn / 2 : parts - 1 - turn / 2) * part;
        uint queries = min(part, tq - query);
        uint panels = (queries + COLUMNS - 1) / COLUMNS;
        int sees = start + (int)query; /* the last key that query number 0 of the block sees */
        int end = min(KEYS_OF_ROW(b), sees + (int)queries);
        struct mask mask = {SLOPE_OF_HEAD(h), window};
        global const T *k_head_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const T *v_head_rows = v + v_offset + b * v_batch + kv_h * v_head;
        global const T *q_rows = q + q_offset + b * q_batch + h * q_head + query * q_row;
        for (uint panel = 0; panel < panels; panel++) {
            load_transposed(q_t + panel * D * COLUMNS, q_rows + panel * COLUMNS * q_row, q_row,
                            queries - panel * COLUMNS, scale * LOG2_E);
            for (uint i = 0; i < D_ROWS * COLUMNS; i += FLOAT_WIDTH)
                store_vector((floatv)(0.0f), 0, out_t + panel * D_ROWS * COLUMNS + i);
            for (uint i = 0; i < COLUMNS; i++) {
                softmax[panel].greatest[i] = LEAST;
                softmax[panel].sum[i] = 0.0f;
            }
        }
        for (int key = first_block(sees, window); key < end; key += KEYS) {
            uint keys = min(KEYS, end - key);
            load_rows(k_rows, k_head_rows + key * k_row, k_row, keys);
            load_rows(v_rows, v_head_rows + key * v_row, v_row, keys);
            for (uint panel = 0; panel < panels; panel++) {
                int panel_sees = sees + (int)(panel * COLUMNS);
                uint seen = seen_keys(key, keys, panel_sees, window);
                if (seen > 0)
                    attend(out_t + panel * D_ROWS * COLUMNS, softmax + panel, scores,
                           q_t + panel * D * COLUMNS, k_rows, v_rows, key, seen, panel_sees, mask);
            }
        }

        for (uint panel = 0; panel < panels; panel++) {
            uint first = query + panel * COLUMNS, count = min((uint)COLUMNS, tq - first);
            float row_lse[COLUMNS] ALIGNED, inverse[COLUMNS] ALIGNED;
            for (uint i = 0; i < COLUMNS; i += FLOAT_WIDTH) {
                floatv sum = load_vector(0, softmax[panel].sum + i);
                floatv greatest = load_vector(0, softmax[panel].greatest + i);
                store_vector(SELECT(EQ(sum, 0.0f), (floatv)(0.0f), 1.0f / sum), 0, inverse + i);
                store_vector((greatest + log2(sum)) * LN_2, 0, row_lse + i);
            }
            store_transposed(out + (((ulong)b * tq + first) * heads + h) * D, (ulong)heads * D,
                             count, out_t + panel * D_ROWS * COLUMNS, inverse);
            for (uint i = 0; keep_lse && i < count; i++)
                lse[((ulong)b * heads + h) * tq + first + i] = row_lse[i];
        }
    }
}

#else

#define PITCH (BLOCK + COLUMNS) /* from key to key; not a power of two, so that caches hold all */

/* Vector d / FLOAT_WIDTH of a row of D numbers. */
#if D % COLUMNS
#define load_lanes(row, d) ((d) < D ? load_row(row, d, D, 0.0f) : (floatv)(0.0f))
#define store_lanes(x, row, d)                                                                     \
    if ((d) < D)                                                                                   \
    store_row(x, row, d, D)
#else
#define load_lanes(row, d) loadv(0, (row) + (d))
#define store_lanes(x, row, d) storev(x, 0, (row) + (d))
#endif

/* to[d / COLUMNS][i][d % COLUMNS] = scale x[i * row + d] for i < count, d < D, and zeros beyond. */
static inline void load_panels(float *to, global const T *x, ulong row, uint count, float scale)
{
    for (uint i = 0; i < count; i++, x += row, to += COLUMNS) {
        for (uint d = 0; d < D; d += COLUMNS) {
            store_vector(load_lanes(x, d) * scale, 0, to + d * BLOCK);
            store_vector(load_lanes(x, d + FLOAT_WIDTH) * scale, 1, to + d * BLOCK);
        }
    }
}

/* y[j * y_row + d] (+)= sum over queries i of a[j][i] b[i][d], for j < keys, d < D; rows of a are
 * PITCH apart, b is in panels.  `hidden` queries do not see key 0, one more key 1. */
static inline void add_over_queries(global float *y, ulong y_row, uint keys, bool add,
                                    const float *a_rows, const float *b_panels, int hidden,
                                    uint queries)
{
    const uint row = PITCH, step = 1, b_row = COLUMNS;
    for (uint d = 0; d < D; d += COLUMNS) {
        for (uint j = 0; j < keys; j += ROWS) {
            uint rows = min((uint)ROWS, keys - j);
            uint first = max(hidden + (int)j, 0) / COLUMNS * COLUMNS, depth = queries - first;
            const float *a = a_rows + j * PITCH + first,
                        *b = b_panels + d * BLOCK + first * COLUMNS;
            global float *y_rows = y + j * y_row;
            EACH_ROW(DECLARE)
#define LOAD_ROW(i)                                                                                \
    if (i < rows) {                                                                                \
        low##i = load_lanes(y_rows + i * y_row, d);                                                \
        high##i = load_lanes(y_rows + i * y_row, d + FLOAT_WIDTH);                                 \
    }
            if (add) {
                EACH_ROW(LOAD_ROW)
            }
            ADD_PRODUCTS(EACH_ROW)
#define STORE_ROW(i)                                                                               \
    if (i < rows) {                                                                                \
        store_lanes(low##i, y_rows + i * y_row, d);                                                \
        store_lanes(high##i, y_rows + i * y_row, d + FLOAT_WIDTH);                                 \
    }
            EACH_ROW(STORE_ROW)
        }
    }
}

/* Makes, of scores, probabilities p; and of their gradients, in ds, gradients of the scores, but
 * for the factor of scale. */
static inline void differentiate(float *p, float *ds, uint keys, const float *lse,
                                 const float *delta)
{
    floatv lse_low = load_vector(0, lse), lse_high = load_vector(1, lse);
    floatv delta_low = load_vector(0, delta), delta_high = load_vector(1, delta);
    for (uint j = 0; j < keys; j++, p += PITCH, ds += PITCH) {
        floatv p_low = power_of_2(load_vector(0, p) - lse_low),
               p_high = power_of_2(load_vector(1, p) - lse_high);
        store_vector(p_low, 0, p);
        store_vector(p_high, 1, p);
        store_vector(p_low * (load_vector(0, ds) - delta_low), 0, ds);
        store_vector(p_high * (load_vector(1, ds) - delta_high), 1, ds);
    }
}

/* delta = sums of out * d_out, in the order of dp = v d_out^T: where out is v, their difference is
 * 0. */
static inline void add_products(float *delta, const float *out_t, const float *d_out_t)
{
    floatv low = (floatv)(0.0f), high = low;
    for (uint d = 0; d < D; d++) {
        low = multiply_add(load_vector(2 * d, out_t), load_vector(2 * d, d_out_t), low);
        high = multiply_add(load_vector(2 * d + 1, out_t), load_vector(2 * d + 1, d_out_t), high);
    }
    store_vector(low, 0, delta);
    store_vector(high, 1, delta);
}

/* Gradients.  An item is a part of the keys and a part of the queries of a head of k and v: with
 * one part each, it makes all of dq, dk and dv from five products; with parts of the keys dk and dv
 * (want_dq = 0), with parts of the queries dq.  Sums are split by KEYS and BLOCK only: the three
 * ways give the same numbers.
 *
 * Blocks of queries come last first: with a mask, the last sees every key, and begins the sums of
 * dk and dv. */
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_backward(
    global const T *q, global const T *k, global const T *v, global const T *out,
    global const float *lse, global const T *d_out, global T *dq, global T *dk, global T *dv,
    ulong q_offset, ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
    ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row, ulong v_head, uint batch,
    uint heads, uint kv_heads, uint tq, uint tk, float scale, int first_position,
    MASK_PARAMETERS ulong out_offset, ulong out_batch, ulong out_row, ulong out_head,
    ulong d_out_offset, ulong d_out_batch, ulong d_out_row, ulong d_out_head, uint key_part,
    uint query_part, uint want_dq, uint want_dkv, GRADIENT_PARAMETERS SUMS_PARAMETER)
{
    float q_panels[BLOCK * D_LANES] ALIGNED, q_t[PANELS * D * COLUMNS] ALIGNED;
    float d_out_panels[BLOCK * D_LANES] ALIGNED, d_out_t[PANELS * D * COLUMNS] ALIGNED;
    float k_rows[KEYS * D_LANES] ALIGNED, v_rows[KEYS * D_LANES] ALIGNED;
    float dq_t[PANELS * D_ROWS * COLUMNS] ALIGNED;
    float p[KEYS * PITCH] ALIGNED, ds[KEYS * PITCH] ALIGNED;
    float row_lse[BLOCK] ALIGNED, delta[BLOCK] ALIGNED, scales[COLUMNS] ALIGNED;
    for (uint i = 0; i < BLOCK; i++)
        row_lse[i] = 0.0f;
    for (uint i = 0; i < COLUMNS; i++)
        scales[i] = scale;
    uint key_parts = (tk + key_part - 1) / key_part;
    uint query_parts = (tq + query_part - 1) / query_part;
    uint group = heads / kv_heads;

    for (ulong item = get_group_id(0); item < (ulong)batch * kv_heads * key_parts * query_parts;
         item += get_num_groups(0)) {
        int key_begin = item % key_parts * key_part, key_end = min(tk, key_begin + key_part);
        uint query_begin = (query_parts - 1 - item / key_parts % query_parts) * query_part;
        uint query_end = min(tq, query_begin + query_part);
        ulong kv_item = item / key_parts / query_parts;
        uint b = kv_item / kv_heads, kv_h = kv_item % kv_heads;
        global const T *k_head_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const T *v_head_rows = v + v_offset + b * v_batch + kv_h * v_head;
        global T *dk_rows = dk + dk_offset + (ulong)b * tk * dkv_row + kv_h * D;
        global T *dv_rows = dv + dv_offset + (ulong)b * tk * dkv_row + kv_h * D;
#if IS_NARROW
        ulong sums_row = kv_heads * D;
        global float *dk_sums = sums + (ulong)b * tk * sums_row + kv_h * D;
        global float *dv_sums = dk_sums + (ulong)batch * tk * sums_row;
#else
        ulong sums_row = dkv_row;
        global float *dk_sums = dk_rows, *dv_sums = dv_rows;
#endif

        int keys_of_row = KEYS_OF_ROW(b);
        /* Where there is no one block of queries that sees all keys, sums begin with zeros. */
        bool add = has_lengths || window < (int)(tk + tq);
        for (int key = key_begin; want_dkv && add && key < key_end; key++)
            for (uint d = 0; d < D; d++)
                dk_sums[key * sums_row + d] = dv_sums[key * sums_row + d] = 0.0f;
        for (uint h = kv_h * group; h < (kv_h + 1) * group; h++) {
            for (uint query = (query_end - 1 - query_begin) / BLOCK * BLOCK + query_begin;;
                 query -= BLOCK) {
                uint queries = min((uint)BLOCK, query_end - query);
                uint panels = (queries + COLUMNS - 1) / COLUMNS;
                int sees = first_position + (int)query;
                int end = min(min(key_end, keys_of_row), sees + (int)queries);
                if (end <= key_begin && !want_dq)
                    break; /* earlier queries see none of these keys either */
                struct mask mask = {SLOPE_OF_HEAD(h), window};
                global const T *q_block = q + q_offset + b * q_batch + h * q_head + query * q_row;
                global const T *d_out_block =
                    d_out + d_out_offset + b * d_out_batch + h * d_out_head + query * d_out_row;
                global const T *out_block =
                    out + out_offset + b * out_batch + h * out_head + query * out_row;
                global const float *lse_block = lse + ((ulong)b * heads + h) * tq + query;
                for (uint panel = 0; panel < panels; panel++) {
                    uint first = panel * COLUMNS, count = queries - first;
                    float *panel_dq_t = dq_t + panel * D_ROWS * COLUMNS;
                    load_transposed(q_t + first * D, q_block + first * q_row, q_row, count,
                                    scale * LOG2_E);
                    load_transposed(d_out_t + first * D, d_out_block + first * d_out_row, d_out_row,
                                    count, 1.0f);
                    load_transposed(panel_dq_t, out_block + first * out_row, out_row, count, 1.0f);
                    add_products(delta + first, panel_dq_t, d_out_t + first * D);
                    for (uint i = 0; i < D_ROWS * COLUMNS; i += FLOAT_WIDTH)
                        store_vector((floatv)(0.0f), 0, panel_dq_t + i);
                }
                if (want_dkv) {
                    load_panels(d_out_panels, d_out_block, d_out_row, queries, 1.0f);
                    load_panels(q_panels, q_block, q_row, queries, scale);
                }
                for (uint i = 0; i < queries; i++)
                    row_lse[i] = lse_block[i] < LEAST ? LEAST : lse_block[i] * LOG2_E;

                for (int key = max(key_begin, first_block(sees, window)); key < end; key += KEYS) {
                    uint keys = min(KEYS, end - key);
                    load_rows(k_rows, k_head_rows + key * k_row, k_row, keys);
                    load_rows(v_rows, v_head_rows + key * v_row, v_row, keys);
                    for (uint panel = 0; panel < panels; panel++) {
                        uint first = panel * COLUMNS;
                        int panel_sees = sees + (int)first;
                        uint seen = seen_keys(key, keys, panel_sees, window);
                        if (seen == 0) {
                            for (uint j = 0; j < keys; j++)
                                for (uint i = 0; i < COLUMNS; i++)
                                    p[j * PITCH + first + i] = ds[j * PITCH + first + i] = 0.0f;
                            continue;
                        }
                        multiply_keys(p + first, PITCH, seen, k_rows, q_t + first * D);
                        multiply_keys(ds + first, PITCH, seen, v_rows, d_out_t + first * D);
                        mask_scores(p + first, PITCH, key, seen, panel_sees, mask);
                        differentiate(p + first, ds + first, seen, row_lse + first, delta + first);
                        if (want_dq)
                            add_over_keys(dq_t + first * D_ROWS, (floatv)(1.0f), (floatv)(1.0f),
                                          k_rows, ds + first, PITCH, seen);
                    }
                    if (want_dkv) {
                        add_over_queries(dv_sums + key * sums_row, sums_row, keys, add, p,
                                         d_out_panels, key - sees, queries);
                        add_over_queries(dk_sums + key * sums_row, sums_row, keys, add, ds,
                                         q_panels, key - sees, queries);
                    }
                }
                for (uint panel = 0; want_dq && panel < panels; panel++) {
                    uint first = panel * COLUMNS;
                    store_transposed(
                        dq + dq_offset + ((ulong)b * tq + query + first) * dq_row + h * D, dq_row,
                        min((uint)COLUMNS, queries - first), dq_t + first * D_ROWS, scales);
                }
                add = true;
                if (query == query_begin)
                    break;
            }
        }
#if IS_NARROW
        for (int key = key_begin; want_dkv && key < key_end; key++) {
            for (uint d = 0; d < D; d += FLOAT_WIDTH) {
                store_row(load_row(dk_sums + key * sums_row, d, D, 0.0f), dk_rows + key * dkv_row,
                          d, D);
                store_row(load_row(dv_sums + key * sums_row, d, D, 0.0f), dv_rows + key * dkv_row,
                          d, D);
            }
        }
#endif
    }
}

#endif

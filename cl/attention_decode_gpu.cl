/* Attention of few queries over many keys, as in generation, on a device of many work-items: a
 * work-group of 64 takes a chunk of the keys and ROWS of the queries that read them, those of the heads
 * that share keys, at a time.  For scores a work-item has a key and all the rows; for sums, numbers of the head
 * and all the rows: what is read of k and v serves ROWS times, from registers.
 *
 * With one chunk it writes out; with several, what cl/attention_merge.cl makes out of: for each row
 * and chunk D sums without their denominator, the greatest score, the denominator.  Scores are
 * logarithms to base 2.
 *
 * What a query sees, and slopes: see cl/attention_cpu.cl.
 *
 * With a TABLE, rows of the batch share keys and values: it says where those of each are.
 *
 * The host defines D, ROWS (at most 8), TABLE and T, the type of q, k, v and out.  Loops over rows are unrolled, for their numbers to be in registers. */

#define GROUP 64
#define SHARES 8 /* of a row's scores, each of which a work-item reduces */
#define DEPTH 32 /* so many numbers of 64 rows of k are in local memory at a time */
#define PITCH (DEPTH + 1)
#define OWNED ((D + GROUP - 1) / GROUP)
#define HIDDEN -3e38f
#define LEAST -1e30f /* below every score, far above HIDDEN */
#define EACH_ROW _Pragma("unroll") for (uint r = 0; r < ROWS; r++)

/* Where key j of row b is. */
#if TABLE
#define OF_ROW(b) 0
#define PLACE(b, j) ((ulong)clamp(table[(ulong)(b)*tk + (j)], 0, (int)slots - 1))
#else
#define OF_ROW(b) (b)
#define PLACE(b, j) ((ulong)(j))
#endif

/* reduced[SHARES r + i]: the greatest, or the sum, of share i of row r's numbers. */
static inline void reduce_shares(local const float *numbers, local float *reduced, bool is_sum)
{
    uint lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < ROWS * SHARES) {
        local const float *share = numbers + lane * (GROUP / SHARES);
        float all = share[0];
        for (uint j = 1; j < GROUP / SHARES; j++)
            all = is_sum ? all + share[j] : fmax(all, share[j]);
        reduced[lane] = all;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention_decode(global const T *q, global const T *k, global const T *v,
                 global const int *position, global T *out, global float *lse, ulong q_offset,
                 ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
                 ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
                 ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
                 int first_position, MASK_PARAMETERS uint has_position, uint keep_lse,
                 global float *partial, uint chunk, global const int *table, uint slots)
{
    local float queries[ROWS * D], k_block[GROUP * PITCH], numbers[ROWS * GROUP],
        reduced[ROWS * SHARES];
    uint lane = get_local_id(0), chunks = (tk + chunk - 1) / chunk, group = heads / kv_heads;
    uint rows = group * tq, tiles = (rows + ROWS - 1) / ROWS;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);

    for (ulong item = get_group_id(0); item < (ulong)batch * kv_heads * chunks * tiles;
         item += get_num_groups(0)) {
        /* Those that read the same keys follow one another. */
        ulong rest = item;
        uint first = rest % tiles * ROWS;
        rest /= tiles;
        uint c = rest % chunks;
        rest /= chunks;
        uint kv_h = rest % kv_heads, b = rest / kv_heads;
        int chunk_begin = c * chunk, begin = max(chunk_begin, start - window + 1),
            end = min(min(KEYS_OF_ROW(b), start + (int)tq), chunk_begin + (int)chunk);
        global const T *k_rows = k + k_offset + OF_ROW(b) * k_batch + kv_h * k_head;
        global const T *v_rows = v + v_offset + OF_ROW(b) * v_batch + kv_h * v_head;
        float sums[ROWS][OWNED], greatest[ROWS], total[ROWS]; /* total: of this work-item's keys */
        int sees[ROWS];
        EACH_ROW
        {
            uint row = min(first + r, rows - 1), h = kv_h * group + row / tq, i = row % tq;
            global const T *from = q + q_offset + b * q_batch + i * q_row + h * q_head;
            sees[r] = start + (int)i;
            greatest[r] = LEAST;
            total[r] = 0.0f;
#pragma unroll
            for (uint j = 0; j < OWNED; j++)
                sums[r][j] = 0.0f;
            for (uint d = lane; d < D; d += GROUP)
                queries[r * D + d] = load(from + d) * (scale * LOG2_E);
        }
        for (int key = begin; key < end; key += GROUP) {
            int keys = min(GROUP, end - key), own = key + (int)lane;
            float score[ROWS];
            EACH_ROW score[r] = 0.0f;
            for (uint depth = 0; depth < D; depth += DEPTH) {
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint e = lane; e < GROUP * DEPTH; e += GROUP) {
                    uint j = e / DEPTH, d = depth + e % DEPTH;
                    k_block[j * PITCH + e % DEPTH] =
                        (int)j < keys && d < D ? load(k_rows + PLACE(b, key + j) * k_row + d)
                                               : 0.0f;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 4
                for (uint d = 0; d < min(DEPTH, (int)(D - depth)); d++) {
                    float of_key = k_block[lane * PITCH + d];
                    EACH_ROW score[r] =
                        multiply_add(queries[r * D + depth + d], of_key, score[r]);
                }
            }
            EACH_ROW
            {
                uint h = kv_h * group + min(first + r, rows - 1) / tq;
                bool is_seen = own < end && own <= sees[r] && own > sees[r] - window;
                score[r] = is_seen ? score[r] + SLOPE_OF_HEAD(h) * (float)(own - sees[r]) : HIDDEN;
                numbers[r * GROUP + lane] = score[r];
            }
            reduce_shares(numbers, reduced, false);
            EACH_ROW
            {
                float most = greatest[r];
                for (uint i = 0; i < SHARES; i++)
                    most = fmax(most, reduced[r * SHARES + i]);
                float shrink = exp2(greatest[r] - most), p = exp2(score[r] - most);
                greatest[r] = most;
                total[r] = total[r] * shrink + p;
                numbers[r * GROUP + lane] = p;
#pragma unroll
                for (uint j = 0; j < OWNED; j++)
                    sums[r][j] *= shrink;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 4
            for (int n = 0; n < keys; n++) {
                global const T *of_key = v_rows + PLACE(b, key + n) * v_row;
#pragma unroll
                for (uint j = 0; j < OWNED; j++) {
                    uint d = lane + j * GROUP;
                    float number = d < D ? load(of_key + d) : 0.0f;
                    EACH_ROW sums[r][j] =
                        multiply_add(numbers[r * GROUP + n], number, sums[r][j]);
                }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        EACH_ROW numbers[r * GROUP + lane] = total[r];
        reduce_shares(numbers, reduced, true);
        EACH_ROW
        {
            uint h = kv_h * group + (first + r) / tq, i = (first + r) % tq;
            ulong row = ((ulong)b * heads + h) * tq + i;
            float all = 0.0f;
            for (uint j = 0; j < SHARES; j++)
                all += reduced[r * SHARES + j];
            float inverse = all == 0.0f ? 0.0f : 1.0f / all;
            global float *part = partial + (row * chunks + c) * (D + 2);
            global T *y = out + (((ulong)b * tq + i) * heads + h) * D;
            bool is_row = first + r < rows;
#pragma unroll
            for (uint j = 0; j < OWNED; j++) {
                uint d = lane + j * GROUP;
                if (is_row && d < D && chunks > 1)
                    part[d] = sums[r][j];
                else if (is_row && d < D)
                    store(sums[r][j] * inverse, y + d);
            }
            if (is_row && lane == 0 && chunks > 1) {
                part[D] = greatest[r];
                part[D + 1] = all;
            } else if (is_row && lane == 0 && keep_lse) {
                lse[row] = (greatest[r] + log2(all)) * LN_2;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE); /* the queries have been read */
    }
}

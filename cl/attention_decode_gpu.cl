/* Attention of few queries over many keys, as in generation, on a device of many work-items: a
 * work-group of 64 takes a query and a chunk of the keys at a time.  For scores a work-item owns a
 * key, for sums numbers of the head.
 *
 * With one chunk it writes out; with several, what cl/attention_merge.cl makes out of: for each row
 * and chunk D sums without their denominator, the greatest score, the denominator.  Scores are
 * logarithms to base 2.
 *
 * What a query sees, and slopes: see cl/attention_cpu.cl.
 *
 * With a TABLE, rows share keys and values: it says where those of each are.
 *
 * The host defines D, TABLE and T, the type of q, k, v and out. */

#define GROUP 64
#define DEPTH 32 /* so many numbers of 64 rows of k are in local memory at a time */
#define PITCH (DEPTH + 1)
#define OWNED ((D + GROUP - 1) / GROUP)
#define HIDDEN -3e38f
#define LEAST -1e30f /* below every score, far above HIDDEN */

/* Where key j of row b is. */
#if TABLE
#define OF_ROW(b) 0
#define PLACE(b, j) ((ulong)clamp(table[(ulong)(b)*tk + (j)], 0, (int)slots - 1))
#else
#define OF_ROW(b) (b)
#define PLACE(b, j) ((ulong)(j))
#endif

kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention_decode(global const T *q, global const T *k, global const T *v,
                 global const int *position, global T *out, global float *lse, ulong q_offset,
                 ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
                 ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
                 ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
                 int first_position, MASK_PARAMETERS uint has_position, uint keep_lse,
                 global float *partial, uint chunk, global const int *table, uint slots)
{
    local float query[D], k_block[GROUP * PITCH], scores[GROUP], p[GROUP];
    uint lane = get_local_id(0), chunks = (tk + chunk - 1) / chunk, group = heads / kv_heads;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);

    for (ulong item = get_group_id(0); item < (ulong)batch * heads * tq * chunks;
         item += get_num_groups(0)) {
        /* Those that read the same keys follow one another. */
        ulong rest = item;
        uint i = rest % tq;
        rest /= tq;
        uint in_group = rest % group;
        rest /= group;
        uint c = rest % chunks;
        rest /= chunks;
        uint kv_h = rest % kv_heads, h = kv_h * group + in_group, b = rest / kv_heads;
        ulong row = ((ulong)b * heads + h) * tq + i;
        int sees = start + (int)i, chunk_begin = c * chunk,
            begin = max(chunk_begin, sees - window + 1),
            end = min(min(KEYS_OF_ROW(b), sees + 1), chunk_begin + (int)chunk);
        global const T *q_numbers = q + q_offset + b * q_batch + i * q_row + h * q_head;
        global const T *k_rows = k + k_offset + OF_ROW(b) * k_batch + kv_h * k_head;
        global const T *v_rows = v + v_offset + OF_ROW(b) * v_batch + kv_h * v_head;
        float sums[OWNED], greatest = LEAST, total = 0.0f;
        for (uint j = 0; j < OWNED; j++)
            sums[j] = 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE); /* the item before has been read */
        for (uint d = lane; d < D; d += GROUP)
            query[d] = load(q_numbers + d) * (scale * LOG2_E);
        for (int key = begin; key < end; key += GROUP) {
            int keys = min(GROUP, end - key);
            float score = 0.0f;
            for (uint depth = 0; depth < D; depth += DEPTH) {
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint e = lane; e < GROUP * DEPTH; e += GROUP) {
                    uint j = e / DEPTH, d = depth + e % DEPTH;
                    k_block[j * PITCH + e % DEPTH] =
                        (int)j < keys && d < D ? load(k_rows + PLACE(b, key + j) * k_row + d)
                                               : 0.0f;
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint d = 0; d < min(DEPTH, (int)(D - depth)); d++)
                    score = multiply_add(query[depth + d], k_block[lane * PITCH + d], score);
            }
            score += SLOPE_OF_HEAD(h) * (float)(key + (int)lane - sees);
            if ((int)lane >= keys)
                score = HIDDEN;
            scores[lane] = score;
            barrier(CLK_LOCAL_MEM_FENCE);
            float most = greatest;
            for (uint j = 0; j < GROUP; j++)
                most = fmax(most, scores[j]);
            float shrink = exp2(greatest - most);
            greatest = most;
            p[lane] = exp2(score - most);
            barrier(CLK_LOCAL_MEM_FENCE);
            total *= shrink;
            for (uint j = 0; j < GROUP; j++)
                total += p[j];
            for (uint j = 0; j < OWNED; j++) {
                uint d = lane + j * GROUP;
                if (d >= D)
                    break;
                float sum = sums[j] * shrink;
                for (int n = 0; n < keys; n++)
                    sum = multiply_add(p[n], load(v_rows + PLACE(b, key + n) * v_row + d), sum);
                sums[j] = sum;
            }
        }
        float inverse = total == 0.0f ? 0.0f : 1.0f / total;
        global float *part = partial + (row * chunks + c) * (D + 2);
        global T *y = out + (((ulong)b * tq + i) * heads + h) * D;
        for (uint j = 0; j < OWNED; j++) {
            uint d = lane + j * GROUP;
            if (d < D && chunks > 1)
                part[d] = sums[j];
            else if (d < D)
                store(sums[j] * inverse, y + d);
        }
        if (lane == 0 && chunks > 1) {
            part[D] = greatest;
            part[D + 1] = total;
        } else if (lane == 0 && keep_lse) {
            lse[row] = (greatest + log2(total)) * LN_2;
        }
    }
}

/* Attention of few queries over many keys, as in generation, on a CPU: one work-item a group, a
 * query and a chunk of the keys at a time, numbers of a head in the lanes.  An item has HEADS heads,
 * which lie side by side in memory: caches read a key or value from end to end.
 *
 * With one chunk it writes out; with several, what cl/attention_merge.cl makes out of: for each row
 * and chunk D sums without their denominator, the greatest score, the denominator.  Scores are
 * logarithms to base 2.
 *
 * What a query sees, and slopes: see cl/attention_cpu.cl.
 *
 * With a TABLE, rows share keys and values: it says where those of each are.
 *
 * The host defines D, HEADS, TABLE and T, the type of q, k, v and out. */

#define KEYS 32
#define ALIGNED __attribute__((aligned(64)))
#define D_LANES ((D + FLOAT_WIDTH - 1) / FLOAT_WIDTH * FLOAT_WIDTH)
#define VECTORS (D_LANES / FLOAT_WIDTH)
#define HIDDEN -3e38f
#define LEAST -1e30f /* below every score, far above HIDDEN */

/* Vector i of a row of D numbers. */
#define load_lanes(row, i) load_row(row, (i)*FLOAT_WIDTH, D, 0.0f)
#define store_lanes(x, row, i) store_row(x, row, (i)*FLOAT_WIDTH, D)

/* What is known of a head's softmax: the greatest score, the sum of what follows from it. */
struct softmax {
    float greatest;
    floatv denominator;
};

/* Scores become what they count for, as far as is known; all that was summed before shrinks. */
static inline void weigh(float *scores, uint keys, struct softmax *softmax, floatv *sums)
{
    floatv most = softmax->greatest;
    for (uint j = keys; j % FLOAT_WIDTH; j++)
        scores[j] = HIDDEN;
    for (uint j = 0; j < keys; j += FLOAT_WIDTH)
        most = greater(loadv(0, scores + j), most);
    float greatest = max_lanes(most), shrink = exp2(softmax->greatest - greatest);
    floatv denominator = softmax->denominator * shrink;
    for (uint j = 0; j < keys; j += FLOAT_WIDTH) {
        floatv p = power_of_2(loadv(0, scores + j) - greatest);
        denominator += p;
        storev(p, 0, scores + j);
    }
    for (uint d = 0; d < VECTORS; d++)
        sums[d] *= shrink;
    *softmax = (struct softmax){greatest, denominator};
}

/* Where key j of row b is. */
#if TABLE
#define OF_ROW(b) 0
#define PLACE(b, j) ((ulong)clamp(table[(ulong)(b)*tk + (j)], 0, (int)slots - 1))
#else
#define OF_ROW(b) (b)
#define PLACE(b, j) ((ulong)(j))
#endif

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
attention_decode(global const T *q, global const T *k, global const T *v,
                 global const int *position, global T *out, global float *lse, ulong q_offset,
                 ulong q_batch, ulong q_row, ulong q_head, ulong k_offset, ulong k_batch,
                 ulong k_row, ulong k_head, ulong v_offset, ulong v_batch, ulong v_row,
                 ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
                 int first_position, MASK_PARAMETERS uint has_position, uint keep_lse,
                 global float *partial, uint chunk, global const int *table, uint slots)
{
    uint chunks = (tk + chunk - 1) / chunk, group = heads / kv_heads,
         blocks = (heads + HEADS - 1) / HEADS;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);
    float scores[HEADS][KEYS] ALIGNED;
    floatv query[HEADS][VECTORS], sums[HEADS][VECTORS];
    struct softmax softmax[HEADS];

    for (ulong item = get_group_id(0); item < (ulong)batch * blocks * chunks * tq;
         item += get_num_groups(0)) {
        /* Queries that read the same keys follow one another. */
        uint i = item % tq, c = item / tq % chunks;
        uint first = item / tq / chunks % blocks * HEADS, b = item / tq / chunks / blocks;
        uint count = min((uint)HEADS, heads - first);
        int sees = start + (int)i, chunk_begin = c * chunk,
            begin = max(chunk_begin, sees - window + 1),
            end = min(min(KEYS_OF_ROW(b), sees + 1), chunk_begin + (int)chunk);
        if (end <= begin && c > 0)
            continue; /* nobody reads it */
        global const T *k_rows = k + k_offset + OF_ROW(b) * k_batch;
        global const T *v_rows = v + v_offset + OF_ROW(b) * v_batch;
        for (uint h = 0; h < count; h++) {
            global const T *q_numbers =
                q + q_offset + b * q_batch + i * q_row + (first + h) * q_head;
            for (uint d = 0; d < VECTORS; d++) {
                query[h][d] = load_lanes(q_numbers, d) * (scale * LOG2_E);
                sums[h][d] = (floatv)(0.0f);
            }
            softmax[h] = (struct softmax){LEAST, (floatv)(0.0f)};
        }
        for (int key = begin; key < end; key += KEYS) {
            uint keys = min(KEYS, end - key);
            for (uint j = 0; j < keys; j++) {
                ulong place = PLACE(b, key + j);
                for (uint h = 0; h < count; h++) {
                    global const T *k_numbers =
                        k_rows + place * k_row + (first + h) / group * k_head;
                    floatv product = (floatv)(0.0f);
                    for (uint d = 0; d < VECTORS; d++)
                        product = multiply_add(query[h][d], load_lanes(k_numbers, d), product);
                    scores[h][j] = sum_lanes(product) +
                                   SLOPE_OF_HEAD(first + h) * (float)(key + (int)j - sees);
                }
            }
            for (uint h = 0; h < count; h++)
                weigh(scores[h], keys, softmax + h, sums[h]);
            for (uint j = 0; j < keys; j++) {
                ulong place = PLACE(b, key + j);
                for (uint h = 0; h < count; h++) {
                    global const T *v_numbers =
                        v_rows + place * v_row + (first + h) / group * v_head;
                    for (uint d = 0; d < VECTORS; d++)
                        sums[h][d] =
                            multiply_add((floatv)(scores[h][j]), load_lanes(v_numbers, d),
                                         sums[h][d]);
                }
            }
        }
        for (uint h = 0; h < count; h++) {
            ulong row = ((ulong)b * heads + first + h) * tq + i;
            float total = sum_lanes(softmax[h].denominator), greatest = softmax[h].greatest;
            if (chunks > 1) {
                global float *part = partial + (row * chunks + c) * (D + 2);
                for (uint d = 0; d < VECTORS; d++)
                    store_lanes(sums[h][d], part, d);
                part[D] = greatest;
                part[D + 1] = total;
                continue;
            }
            global T *y = out + (((ulong)b * tq + i) * heads + first + h) * D;
            float inverse = total == 0.0f ? 0.0f : 1.0f / total;
            for (uint d = 0; d < VECTORS; d++)
                store_lanes(sums[h][d] * inverse, y, d);
            if (keep_lse)
                lse[row] = (greatest + log2(total)) * LN_2;
        }
    }
}

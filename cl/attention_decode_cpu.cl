/* Attention of few queries over many keys, as in generation, on a CPU: one work-item a group, a
 * query and a chunk of the keys at a time, numbers of a head in the lanes.
 *
 * With one chunk it writes out; with several, what cl/attention_merge.cl makes out of: for each row
 * and chunk D sums without their denominator, the greatest score, the denominator.  Scores are
 * logarithms to base 2.
 *
 * The host defines D. */

#define KEYS 64
#define D_LANES ((D + FLOAT_WIDTH - 1) / FLOAT_WIDTH * FLOAT_WIDTH)
#define VECTORS (D_LANES / FLOAT_WIDTH)
#define HIDDEN -3e38f
#define LEAST -1e30f /* below every score, far above HIDDEN */

static inline floatv load_lanes(global const float *row, uint i)
{
#if D % FLOAT_WIDTH
    if (i == VECTORS - 1)
        return load_part(row + i * FLOAT_WIDTH, D % FLOAT_WIDTH, 0.0f);
#endif
    return vloadv(i, row);
}

static inline void store_lanes(floatv x, global float *row, uint i)
{
#if D % FLOAT_WIDTH
    if (i == VECTORS - 1) {
        store_part(x, row + i * FLOAT_WIDTH, D % FLOAT_WIDTH);
        return;
    }
#endif
    vstorev(x, i, row);
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void attention_decode(
    global const float *q, global const float *k, global const float *v, global const int *position,
    global float *out, global float *lse, ulong q_offset, ulong q_batch, ulong q_row, ulong q_head,
    ulong k_offset, ulong k_batch, ulong k_row, ulong k_head, ulong v_offset, ulong v_batch,
    ulong v_row, ulong v_head, uint batch, uint heads, uint kv_heads, uint tq, uint tk, float scale,
    int first_position, uint has_position, uint keep_lse, global float *partial, uint chunk)
{
    uint chunks = (tk + chunk - 1) / chunk, group = heads / kv_heads;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk);
    float scores[KEYS] __attribute__((aligned(64)));
    floatv query[VECTORS], sums[VECTORS];

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
        int begin = c * chunk, end = min(min((int)tk, start + (int)i + 1), begin + (int)chunk);
        if (end <= begin && c > 0)
            continue; /* nobody reads it */
        global const float *q_numbers = q + q_offset + b * q_batch + i * q_row + h * q_head;
        global const float *k_rows = k + k_offset + b * k_batch + kv_h * k_head;
        global const float *v_rows = v + v_offset + b * v_batch + kv_h * v_head;
        for (uint d = 0; d < VECTORS; d++) {
            query[d] = load_lanes(q_numbers, d) * (scale * LOG2_E);
            sums[d] = (floatv)(0.0f);
        }
        float greatest = LEAST;
        floatv denominator = (floatv)(0.0f);
        for (int key = begin; key < end; key += KEYS) {
            uint keys = min(KEYS, end - key);
            floatv most = (floatv)(greatest);
            for (uint j = 0; j < keys; j++) {
                global const float *k_numbers = k_rows + (key + j) * k_row;
                floatv product = (floatv)(0.0f);
                for (uint d = 0; d < VECTORS; d++)
                    product = fma(query[d], load_lanes(k_numbers, d), product);
                scores[j] = sum_lanes(product);
            }
            for (uint j = keys; j < (keys + FLOAT_WIDTH - 1) / FLOAT_WIDTH * FLOAT_WIDTH; j++)
                scores[j] = HIDDEN;
            for (uint j = 0; j < keys; j += FLOAT_WIDTH)
                most = greater(vloadv(0, scores + j), most);
            float new_greatest = max_lanes(most), shrink = exp2(greatest - new_greatest);
            greatest = new_greatest;
            denominator *= shrink;
            for (uint j = 0; j < keys; j += FLOAT_WIDTH) {
                floatv p = power_of_2(vloadv(0, scores + j) - greatest);
                denominator += p;
                vstorev(p, 0, scores + j);
            }
            for (uint d = 0; d < VECTORS; d++)
                sums[d] *= shrink;
            for (uint j = 0; j < keys; j++) {
                global const float *v_numbers = v_rows + (key + j) * v_row;
                for (uint d = 0; d < VECTORS; d++)
                    sums[d] = fma((floatv)(scores[j]), load_lanes(v_numbers, d), sums[d]);
            }
        }
        float total = sum_lanes(denominator);
        if (chunks > 1) {
            global float *part = partial + (row * chunks + c) * (D + 2);
            for (uint d = 0; d < VECTORS; d++)
                store_lanes(sums[d], part, d);
            part[D] = greatest;
            part[D + 1] = total;
        } else {
            float inverse = total == 0.0f ? 0.0f : 1.0f / total;
            global float *y = out + (((ulong)b * tq + i) * heads + h) * D;
            for (uint d = 0; d < VECTORS; d++)
                store_lanes(sums[d] * inverse, y, d);
            if (keep_lse)
                lse[row] = (greatest + log2(total)) * LN_2;
        }
    }
}

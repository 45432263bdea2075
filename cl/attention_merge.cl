/* Joins what was computed of a query's attention by chunks of keys (see cl/attention_decode_*.cl),
 * in their order.  A work-group takes a row after the other, its work-items the numbers of the row;
 * one on a CPU, 64 elsewhere.
 *
 * The host defines D and T, the type of out. */

#define MOST_OWNED (DEVICE_CPU ? D : (D + 63) / 64) /* numbers of a row that a work-item has */

/* Number j of this work-item is number d of the row.  j counts to a constant: compilers for GPUs put into memory what they do not unroll. */
#define EACH_OWNED(DO)                                                                             \
    for (uint j = 0; j < MOST_OWNED; j++) {                                                        \
        uint d = get_local_id(0) + j * get_local_size(0);                                          \
        if (d < D) {                                                                               \
            DO                                                                                     \
        }                                                                                          \
    }

kernel void attention_merge(global const int *position, global T *out, global float *lse,
                            uint batch, uint heads, uint tq, uint tk, int first_position,
                            MASK_PARAMETERS uint has_position, uint keep_lse,
                            global const float *partial, uint chunk)
{
    uint chunks = (tk + chunk - 1) / chunk;
    int start = clamp(has_position ? *position : first_position, -(int)tq, (int)tk + window);
    for (ulong row = get_group_id(0); row < (ulong)batch * heads * tq; row += get_num_groups(0)) {
        uint i = row % tq, h = row / tq % heads, b = row / tq / heads;
        int sees = start + (int)i, end = min(KEYS_OF_ROW(b), sees + 1),
            begin = max(0, sees - window + 1);
        /* The chunks with keys that the query sees; if there is none, the first, which has nothing. */
        uint first = begin < end ? (uint)begin / chunk : 0;
        uint filled = begin < end ? ((uint)end + chunk - 1) / chunk - first : 1;
        global const float *parts = partial + (row * chunks + first) * (D + 2);
        float greatest = parts[D], total = 0.0f;
        for (uint c = 1; c < filled; c++)
            greatest = fmax(greatest, parts[c * (D + 2) + D]);
        for (uint c = 0; c < filled; c++)
            total += parts[c * (D + 2) + D + 1] * exp2(parts[c * (D + 2) + D] - greatest);
        float inverse = total == 0.0f ? 0.0f : 1.0f / total;
        float sums[MOST_OWNED];
        for (uint j = 0; j < MOST_OWNED; j++)
            sums[j] = 0.0f;
        for (uint c = 0; c < filled; c++) {
            global const float *part = parts + c * (D + 2);
            float share = exp2(part[D] - greatest) * inverse;
            EACH_OWNED(sums[j] += share * part[d];)
        }
        global T *y = out + (((ulong)b * tq + i) * heads + h) * D;
        EACH_OWNED(store(sums[j], y + d);)
        if (keep_lse && get_local_id(0) == 0)
            lse[row] = (greatest + log2(total)) * LN_2;
    }
}

/* The greatest elements of rows, in order.  A work-group a row, whose work-items have its blocks in
 * turn: each keeps the greatest of its blocks that is not taken yet, and only the block that loses
 * its own is read again.  So k elements cost width + k (BLOCKS + width / BLOCKS) steps. */

enum { BLOCKS = 256 };

/* Numbers in the order of elements: by value, the first of equals above the others, NaN below all.
 * None is LONG_MIN or LONG_MAX. */
inline long rank_of(float x, uint index)
{
    int bits = as_int(x), magnitude = bits & INT_MAX;
    int value = bits < 0 ? -magnitude : magnitude;
    return upsample(magnitude > as_int(INFINITY) ? INT_MIN : value, ~index);
}

/* The greatest rank below `limit` of elements begin to end - 1, or LONG_MIN. */
inline long greatest_below(long limit, global const float *row, ulong begin, ulong end)
{
    long greatest = LONG_MIN;
    for (ulong i = begin; i < end; i++) {
        long rank = rank_of(row[i], (uint)i);
        if (rank < limit)
            greatest = max(greatest, rank);
    }
    return greatest;
}

inline long group_greatest(long value, local long *scratch)
{
#if !DEVICE_CPU
    uint me = get_local_id(0);
    scratch[me] = value;
    for (uint half_size = get_local_size(0) / 2; half_size > 0; half_size /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < half_size)
            scratch[me] = max(scratch[me], scratch[me + half_size]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    value = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    return value;
}

kernel void top_k(global float *restrict values, global int *restrict indices,
                  global const float *restrict x, ulong rows, ulong width, ulong k)
{
    local long best[BLOCKS],
        scratch[GROUP_MOST]; /* a block's best belongs to the work-item that has the block */
    uint me = get_local_id(0), size = get_local_size(0);
    ulong length = (width + BLOCKS - 1) / BLOCKS;
    uint blocks = (uint)((width + length - 1) / length);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const float *in = x + row * width;
        for (uint b = me; b < blocks; b += size)
            best[b] = greatest_below(LONG_MAX, in, b * length, min((b + 1) * length, width));
        for (ulong i = row * k; i < (row + 1) * k; i++) {
            long mine = LONG_MIN;
            for (uint b = me; b < blocks; b += size)
                mine = max(mine, best[b]);
            long greatest = group_greatest(mine, scratch);
            uint index = ~(uint)greatest, block = (uint)(index / length);
            if (block % size == me) {
                ulong begin = block * length;
                best[block] = greatest_below(greatest, in, begin, min(begin + length, width));
                values[i] = in[index];
                indices[i] = (int)index;
            }
        }
    }
}

/* The most that the device's multiply-add units give: `width` steps a row, each of CHAINS chains
 * that wait for nothing but themselves - enough for a latency of five cycles on two units, few
 * enough for 16 registers.  x is (2): factor and term.
 *
 * A work-group a row; on a CPU a step of FLOAT_WIDTH lanes at once, on a GPU the group's work-items
 * take them in turn. */
#define CHAINS 10
#define UNROLLED 4

kernel void fma_peak(global float *sums, global const float *x, ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    floatv factor = x[0], term = x[1];
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        floatv chain[CHAINS];
        for (int c = 0; c < CHAINS; c++)
            chain[c] = (float)c;
        for (ulong i = ROW_FIRST; i < width; i += UNROLLED * ROW_STEP) {
#pragma unroll
            for (int u = 0; u < UNROLLED; u++)
#pragma unroll
                for (int c = 0; c < CHAINS; c++)
                    chain[c] = multiply_add(chain[c], factor, term);
        }
        floatv sum = 0.0f;
        for (int c = 0; c < CHAINS; c++)
            sum += chain[c];
        float total = group_sum(sum_lanes(sum), scratch);
        if (get_local_id(0) == 0)
            sums[row] = total;
    }
}

/* Draws from rows of logits.  A work-group a row.
 *
 * What is kept of a row is what is not below a threshold, found by bisection on the order of
 * floats: no sort, and all that equal the last one kept are kept too.  NaN counts as -infinity. */

enum { BLOCK = 512 }; /* where the draw ends is found by blocks first */

/* Integers in the order of floats; NaN is below all. */
inline intv ordered(floatv x)
{
    intv bits = as_intv(x), magnitude = bits & INT_MAX;
    intv value = SELECT(LT(bits, 0), -magnitude, magnitude);
    return SELECT(GT(magnitude, as_int(INFINITY)), (intv)(INT_MIN), value);
}

/* What logits weigh in the draw, of which `most` is the greatest; 0 below the threshold.  At
 * temperature 0 all weigh 1. */
inline floatv weights(floatv x, int threshold, float most, float temperature)
{
    floatv weight = 1.0f;
    if (temperature > 0)
        weight = SELECT(EQ(x, most), weight,
                        exp((x - most) / temperature)); /* infinity - infinity is no number */
    return SELECT(GE(ordered(x), threshold), weight, (floatv)(0.0f));
}

/* The sum of the weights of logits begin to end - 1. */
inline float mass(global const float *row, ulong begin, ulong end, int threshold, float most,
                  float temperature, local float *scratch)
{
    floatv sum = 0.0f;
    for (ulong i = begin + ROW_FIRST; i < end; i += ROW_STEP)
        sum += weights(load_row(row, i, end, NAN), threshold, most, temperature);
    return group_sum(sum_lanes(sum), scratch);
}

/* What a row needs, one after the other; each asks for masses.  They share one loop and one place that waits for the group:
 * compilers that unroll barriers need minutes for more. */
enum phase { TOP_K, MASS, TOP_P, TOTAL, DRAW, DRAWN };

kernel void sample(global int *restrict ids, global const float *restrict logits,
                   global const int *restrict key, ulong rows, ulong width, float temperature,
                   ulong top_k, float top_p)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const float *in = logits + row * width;
        floatv greatest = -INFINITY;
        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {
            floatv x = load_row(in, i, width, -INFINITY);
            greatest = SELECT(GT(x, greatest), x, greatest);
        }
        float most = group_max(max_lanes(greatest), scratch);

        /* The threshold is between low and high.  Never -infinity, unless there is nothing else. */
        int high = FIRST_LANE(ordered(most)),
            low = temperature > 0 ? min(high, -as_int(FLT_MAX)) : high;
        int threshold = low;
        uint phase = top_k < width ? TOP_K : top_p < 1 ? MASS : TOTAL;
        float wanted = (float)top_k, total = 0.0f, target = 0.0f, before = 0.0f;
        ulong begin = 0; /* of the block where the draw may end */
        while (phase != DRAWN) {
            bool bisects = phase == TOP_K || phase == TOP_P,
                 by_block = phase == TOTAL || phase == DRAW;
            int middle = bisects ? rhadd(low, high) : threshold;
            ulong end = by_block ? min(begin + BLOCK, width) : width;
            float found =
                mass(in, begin, end, middle, most, phase == TOP_K ? 0.0f : temperature, scratch);
            if (bisects) { /* for the greatest threshold that leaves what is wanted */
                if (found >= wanted)
                    low = middle;
                else
                    high = middle - 1;
                if (found == wanted)
                    high = middle;
                if (low >= high) {
                    threshold = low;
                    phase = phase == TOP_K && top_p < 1 ? MASS : TOTAL;
                }
            } else if (phase == MASS) {
                wanted = top_p * found;
                low = threshold;
                high = FIRST_LANE(ordered(most));
                phase = TOP_P;
            } else if (phase == TOTAL) {
                total += found;
                begin = end;
                if (end == width) {
                    /* Less than the total, however it is rounded; 0 stops at the first that is kept. */
                    if (temperature > 0)
                        target =
                            uniform(random_word(0, (uint)row, (uint)key[0], (uint)key[1])) * total;
                    begin = 0;
                    phase = DRAW;
                }
            } else if (before + found <= target && end < width) {
                before += found;
                begin = end;
            } else {
                phase = DRAWN;
            }
        }
        if (get_local_id(0) > 0)
            continue;
        /* Added up in another order, the block may end before the target: then its last is drawn. */
        ulong id = 0, end = min(begin + BLOCK, width);
        for (ulong i = begin; i < end && before <= target; i += FLOAT_WIDTH) {
            floatv weight = weights(load_row(in, i, end, NAN), threshold, most, temperature);
            const float *lane = (const float *)&weight;
#pragma unroll /* or it is in memory */
            for (uint j = 0; j < FLOAT_WIDTH; j++) {
                if (!(before <= target))
                    break;
                before += lane[j];
                if (lane[j] > 0)
                    id = i + j;
            }
        }
        ids[row] = (int)id;
    }
}

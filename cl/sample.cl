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

/* The greatest threshold, from `low` on, that leaves a mass of at least `wanted`. */
inline int cut(float wanted, global const float *row, ulong width, int low, float most,
               float temperature, local float *scratch)
{
    int high = FIRST_LANE(ordered(most));
    while (low < high) {
        int middle = rhadd(low, high);
        float left = mass(row, 0, width, middle, most, temperature, scratch);
        if (left >= wanted)
            low = middle;
        else
            high = middle - 1;
        if (left == wanted)
            high = middle;
    }
    return low;
}

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

        /* Never -infinity, unless there is nothing else. */
        int threshold = FIRST_LANE(ordered(most));
        if (temperature > 0)
            threshold = min(threshold, -as_int(FLT_MAX));
        if (top_k < width)
            threshold = cut((float)top_k, in, width, threshold, most, 0.0f, scratch);
        if (top_p < 1) {
            float all = mass(in, 0, width, threshold, most, temperature, scratch);
            threshold = cut(top_p * all, in, width, threshold, most, temperature, scratch);
        }

        float total = 0.0f;
        for (ulong i = 0; i < width; i += BLOCK)
            total += mass(in, i, min(i + BLOCK, width), threshold, most, temperature, scratch);
        /* Less than the total, however it is rounded; 0 stops at the first that is kept. */
        float target = uniform(random_word(0, (uint)row, (uint)key[0], (uint)key[1])) * total;
        if (!(temperature > 0))
            target = 0.0f;

        ulong begin = 0, end = min((ulong)BLOCK, width);
        float before = 0.0f, with = mass(in, begin, end, threshold, most, temperature, scratch);
        while (with <= target && end < width) {
            before = with;
            begin = end;
            end = min(begin + BLOCK, width);
            with += mass(in, begin, end, threshold, most, temperature, scratch);
        }
        if (get_local_id(0) > 0)
            continue;
        /* Added up in another order, the block may end before the target: then its last is drawn.
         */
        ulong id = 0;
        for (ulong i = begin; i < end && before <= target; i += FLOAT_WIDTH) {
            float lane[FLOAT_WIDTH];
            vstorev(weights(load_row(in, i, end, NAN), threshold, most, temperature), 0, lane);
            for (uint j = 0; j < FLOAT_WIDTH && before <= target; j++) {
                before += lane[j];
                if (lane[j] > 0)
                    id = i + j;
            }
        }
        ids[row] = (int)id;
    }
}

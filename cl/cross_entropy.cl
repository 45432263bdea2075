/* Cross-entropy of logits of type T.  Only the logarithm of the sum of exponentials is kept of each row, not its probabilities. */

/* loss[row] and log_sum[row]; a row whose target is `ignored` has loss 0, one whose target is no class NaN. */
kernel void cross_entropy(global float *restrict loss, global float *restrict log_sum,
                          global const T *restrict logits, global const int *restrict targets,
                          ulong rows, ulong width, int ignored, float smoothing)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *in = logits + row * width;
        int target = targets[row];
        floatv sum = 0.0f, total = 0.0f;
        float m = group_max(max_lanes(row_max(in, width)), scratch);
        EACH_VECTOR(width, sum += exp_of(load_row(in, i, width, -INFINITY) - m);)
        /* The logits' distances from the greatest, whose mean keeps more digits than that of the logits. */
        if (smoothing > 0)
            EACH_VECTOR(width, total += load_row(in, i, width, m) - m;)
        float log_of_sum = log(group_sum(sum_lanes(sum), scratch));
        float mean = group_sum(sum_lanes(total), scratch) / width;
        if (get_local_id(0) > 0)
            continue;
        log_sum[row] = m + log_of_sum;
        bool is_class = target >= 0 && (ulong)target < width;
        float of_target = is_class ? log_of_sum - (load(in + target) - m) : NAN;
        float value = (1.0f - smoothing) * of_target;
        if (smoothing > 0)
            value += smoothing * (log_of_sum - mean);
        loss[row] = target == ignored ? 0.0f : value;
    }
}

/* The sum of the rows' losses, by one work-group; MEAN: over the number of targets that count.  share: what one row's loss
 * counts in the result. */
kernel void cross_entropy_sum(global float *result, global float *share, global const float *loss,
                              global const int *targets, ulong rows, int ignored, uint is_mean)
{
    GROUP_SCRATCH(scratch);
    float sum = 0.0f, lost = 0.0f, count = 0.0f;
    for (ulong row = get_local_id(0); row < rows; row += get_local_size(0)) {
        float x = loss[row], next = sum + x; /* and what the rounding lost (Neumaier, 1974) */
        lost += fabs(sum) >= fabs(x) ? (sum - next) + x : (x - next) + sum;
        sum = next;
        count += targets[row] != ignored ? 1.0f : 0.0f;
    }
    sum = group_sum(isnan(lost) ? sum : sum + lost, scratch);
    count = group_sum(count, scratch);
    if (get_local_id(0) == 0) {
        *result = is_mean ? sum / count : sum;
        *share = is_mean ? 1.0f / count : 1.0f;
    }
}

/* The probabilities that classes i and so on should have: 1 - smoothing at the target, and smoothing / width everywhere. */
inline floatv wanted(ulong i, int target, ulong width, float smoothing)
{
    floatv p = smoothing / width;
    if (target >= 0 && (ulong)target - i < FLOAT_WIDTH)
        p += SELECT(EQ(LANES, (intv)(target - (int)i)), (floatv)(1.0f - smoothing), (floatv)(0.0f));
    return p;
}

/* d_logits = (softmax(logits) - wanted) d_loss share.  May overwrite the logits. */
kernel void cross_entropy_backward(global T *d_logits, global const T *logits,
                                   global const int *restrict targets,
                                   global const float *restrict log_sum,
                                   global const float *restrict share,
                                   global const float *restrict d_loss, ulong rows, ulong width,
                                   int ignored, float smoothing)
{
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *in = logits + row * width;
        int target = targets[row];
        float scale = target == ignored ? 0.0f : *share * *d_loss, of_sum = log_sum[row];
        if (target != ignored && (target < 0 || (ulong)target >= width))
            scale = NAN;
        EACH_VECTOR(width, floatv p = exp_of(load_row(in, i, width, -INFINITY) - of_sum);
                    floatv d = (p - wanted(i, target, width, smoothing)) * scale;
                    store_row(target == ignored ? (floatv)(0.0f) : d, d_logits + row * width, i,
                              width);)
    }
}

/* right[row]: 1 where the target is the first of the greatest logits, else 0. */
kernel void correct(global float *restrict right, global const T *restrict logits,
                    global const int *restrict targets, ulong rows, ulong width)
{
    GROUP_SCRATCH(scratch);
    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {
        global const T *in = logits + row * width;
        int target = targets[row];
        bool is_class = target >= 0 && (ulong)target < width;
        ulong before_end = is_class ? target : 0;
        float m = group_max(max_lanes(row_max(in, width)), scratch);
        float b = group_max(max_lanes(row_max(in, before_end)), scratch);
        if (get_local_id(0) == 0)
            right[row] =
                is_class && load(in + target) >= m && (target == 0 || load(in + target) > b) ? 1.0f : 0.0f;
    }
}

/* Samples, their median, and how far it can be trusted. */
#include "cli/bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Long enough for the clock and for one launch to overlap with the next. */
static const double sample_seconds = 3e-3;

bool timing_add(struct timing *timing, double seconds)
{
    if (timing->count == MOST_SAMPLES)
        return false;
    if (!timing->samples)
        timing->samples = malloc(MOST_SAMPLES * sizeof *timing->samples);
    if (!timing->samples)
        return false;
    timing->samples[timing->count++] = seconds;
    return true;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The greatest i such that the median lies between samples i and count - 1 - i (in order of size)
 * with a probability of 95%: the number of samples below it is binomial, whatever their
 * distribution.  0 below six samples, which cannot promise as much. */
static size_t interval_index(size_t count)
{
    double probability = pow(0.5, (double)count), below = probability; /* of 0 samples */
    size_t i = 0;
    while (i + 1 < count / 2) {
        probability *= (double)(count - i) / (double)(i + 1);
        if (2 * (below + probability) > 0.05)
            break;
        below += probability;
        i++;
    }
    return i;
}

void timing_finish(struct timing *timing)
{
    size_t count = timing->count;
    double *sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted || count == 0) {
        free(sorted);
        return;
    }
    memcpy(sorted, timing->samples, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    size_t index = interval_index(count);
    timing->median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
    timing->low = sorted[index];
    timing->high = sorted[count - 1 - index];
    timing->best = sorted[0];
    free(sorted);
}

/* Seconds a run of `runs` of them, to their end; negative on failure. */
static double time_of(qn_context *qn, qn_plan *plan, size_t runs)
{
    double began = seconds_now();
    for (size_t i = 0; i < runs; i++)
        if (qn_run(plan) != QN_OK)
            return -1;
    return qn_finish(qn) == QN_OK ? (seconds_now() - began) / (double)runs : -1;
}

int timing_of_plan(struct timing *timing, qn_context *qn, qn_plan *plan, double seconds,
                   bool one_at_a_time)
{
    double began = seconds_now(), one = INFINITY;
    for (int i = 0; i < 3 || seconds_now() - began < seconds / 4; i++) {
        double found = time_of(qn, plan, 1);
        if (found < 0)
            return QN_ERROR_DEVICE;
        one = fmin(one, found);
    }
    size_t runs = one_at_a_time || one >= sample_seconds ? 1 : (size_t)(sample_seconds / one) + 1;
    began = seconds_now();
    while (timing->count < LEAST_SAMPLES ||
           (seconds_now() - began < seconds && timing->count < MOST_SAMPLES)) {
        double found = time_of(qn, plan, runs);
        if (found < 0)
            return QN_ERROR_DEVICE;
        if (!timing_add(timing, found))
            return QN_ERROR_MEMORY;
    }
    timing_finish(timing);
    return QN_OK;
}

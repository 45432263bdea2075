/* Samples, their median, and how far it can be trusted. */
#include "cli/bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Long enough for the clock and for one launch to overlap with the next. */
static const double sample_seconds = 3e-3;

bool timing_add(struct timing *timing, double seconds)
{
    if (!timing->samples)
        timing->samples = malloc(ROUNDS * ROUND_SAMPLES * sizeof *timing->samples);
    if (!timing->samples)
        return false;
    timing->samples[timing->count++] = seconds;
    return true;
}

double newest_sample(const struct timing *timing)
{
    return timing->samples[timing->count - 1];
}

bool timing_wants_more(const struct timing *timing, double sampled, double seconds)
{
    size_t begin = timing->rounds ? timing->ends[timing->rounds - 1] : 0;
    return timing->count == begin || (sampled < seconds && timing->count - begin < ROUND_SAMPLES);
}

void timing_end_round(struct timing *timing)
{
    timing->ends[timing->rounds++] = timing->count;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

void numbers_sort(double *numbers, size_t count)
{
    qsort(numbers, count, sizeof *numbers, compare);
}

double median_of(const double *sorted, size_t count)
{
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* Order statistics of ten rounds, whatever their distribution: the median lies between the second
 * and the ninth with a probability of 98%; the lower quartile between the least and the sixth with
 * 92%. */
static void estimate_rounds(struct timing *timing, double *medians, double *bests)
{
    _Static_assert(ROUNDS == 10, "the ranks below are for ten rounds");
    numbers_sort(medians, ROUNDS);
    numbers_sort(bests, ROUNDS);
    timing->median = (struct estimate){median_of(medians, ROUNDS), medians[1], medians[8]};
    timing->quiet = (struct estimate){bests[2], bests[0], bests[5]};
    timing->best = bests[0];
}

bool timing_finish(struct timing *timing)
{
    double medians[ROUNDS], bests[ROUNDS], *sorted = malloc(timing->count * sizeof *sorted);
    if (!sorted)
        return false;
    memcpy(sorted, timing->samples, timing->count * sizeof *sorted);
    for (size_t i = 0, begin = 0; i < ROUNDS; begin = timing->ends[i++]) {
        size_t count = timing->ends[i] - begin;
        numbers_sort(sorted + begin, count);
        medians[i] = median_of(sorted + begin, count);
        bests[i] = sorted[begin];
    }
    free(sorted);
    estimate_rounds(timing, medians, bests);
    return true;
}

double time_of(qn_context *qn, qn_plan *plan, size_t runs)
{
    double began = seconds_now();
    for (size_t i = 0; i < runs; i++)
        if (qn_run(plan) != QN_OK)
            return -1;
    return qn_finish(qn) == QN_OK ? (seconds_now() - began) / (double)runs : -1;
}

/* Runs for a quarter of the time, three times at least unless a run takes all of it; returns the
 * least seconds of a run, negative on failure. */
static double warm_up(qn_context *qn, qn_plan *plan, double seconds)
{
    double began = seconds_now(), least = INFINITY;
    for (int i = 0; i == 0 || (i < 3 && seconds_now() - began < seconds) ||
                    seconds_now() - began < seconds / 4;
         i++) {
        double found = time_of(qn, plan, 1);
        if (found < 0)
            return -1;
        least = fmin(least, found);
    }
    return least;
}

int timing_of_plan(struct timing *timing, qn_context *qn, qn_plan *plan, double seconds,
                   bool one_at_a_time)
{
    double one = warm_up(qn, plan, seconds), began = seconds_now();
    if (one < 0)
        return QN_ERROR_DEVICE;
    if (!timing->runs)
        timing->runs =
            one_at_a_time || one >= sample_seconds ? 1 : (size_t)(sample_seconds / one) + 1;
    while (timing_wants_more(timing, seconds_now() - began, seconds)) {
        double found = time_of(qn, plan, timing->runs);
        if (found < 0)
            return QN_ERROR_DEVICE;
        if (!timing_add(timing, found))
            return QN_ERROR_MEMORY;
    }
    return QN_OK;
}

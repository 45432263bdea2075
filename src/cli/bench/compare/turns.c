/* Runs that were made by turns, A, B, A, B and so on: two reports in their place.  What the machine does from minute to minute is in both runs
 * of a pair, so that the ratios within pairs are nearer to each other than times are. */
#include "cli/bench/compare/compare.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- Order statistics ---- */

/* How many of n numbers, on either side, the median lies within with a probability of 95% or more, whatever their distribution (the sign
 * test: a number is above the median or below it, like a coin); and *outside, the probability that it does not. */
static size_t rank_of(size_t n, double *outside)
{
    size_t rank = 0;
    double term = pow(0.5, (double)n), tail = term;
    while ((term *= (double)(n - rank) / (double)(rank + 1)), 2 * (tail + term) <= 0.05) {
        tail += term;
        rank++;
    }
    *outside = 2 * tail;
    return rank;
}

static struct estimate median_of_turns(const double *numbers, size_t n)
{
    double sorted[MOST_TURNS], outside;
    size_t rank = rank_of(n, &outside);
    memcpy(sorted, numbers, n * sizeof *sorted);
    numbers_sort(sorted, n);
    return (struct estimate){median_of(sorted, n), sorted[rank], sorted[n - 1 - rank]};
}

double turns_outside(size_t n)
{
    double outside;
    rank_of(n, &outside);
    return outside;
}

struct estimate ratio_of_turns(const struct result *a, const struct result *b)
{
    double ratios[MOST_TURNS];
    for (size_t i = 0; i < a->n_turns; i++)
        ratios[i] = b->quiet_turns[i] / a->quiet_turns[i];
    return median_of_turns(ratios, a->n_turns);
}

/* ---- What is wrong ---- */

static bool wrong(struct reports *reports, const char *format, ...) CLI_FORMAT(2, 3);

static bool wrong(struct reports *reports, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reports->message, sizeof reports->message, format, arguments);
    va_end(arguments);
    return false;
}

/* Whether two runs of one side are of one thing. */
static bool check_alike(struct reports *reports, size_t first, size_t later)
{
    struct reports pair = {.at = {reports->at[first], reports->at[later]}, .count = 2};
    json_t *differing = reports_differing(&pair);
    const char *key = json_object_iter_key(json_object_iter(differing));
    bool is_alike = !key || wrong(reports,
                                  "--turns: %s and %s should be runs of one thing, as every other "
                                  "file, and differ in %s",
                                  pair.at[0].name, pair.at[1].name, key);
    json_decref(differing);
    return is_alike;
}

static bool check_turns(struct reports *reports)
{
    const struct bench_comparison all = {.reports = reports};
    size_t earlier;
    if (reports->count % 2 || reports->count < 2 * LEAST_TURNS)
        return wrong(reports,
                     "--turns takes runs A, B, A, B and so on, %d of each or more, and these are "
                     "%zu reports",
                     LEAST_TURNS, reports->count);
    for (size_t i = 0; i < reports->count; i++) {
        if (same_run(&all, i, &earlier))
            return wrong(reports, "--turns: %s and %s are the same run", reports->at[earlier].name,
                         reports->at[i].name);
        if (!check_alike(reports, i % 2, i))
            return false;
    }
    return true;
}

/* ---- One report of many ---- */

/* The row in all runs of a side, from its first on; without figures if it has none in one of them. */
static void join_row(const struct reports *reports, size_t side, struct result *row)
{
    double medians[MOST_TURNS], shares[MOST_TURNS];
    size_t n = reports->count / 2;
    for (size_t i = 0; i < n && !row->reason; i++) {
        const struct result *of_run = report_find(&reports->at[side + 2 * i], row->id);
        if (!of_run || of_run->reason) {
            row->reason = of_run ? of_run->reason : "not every run has it";
            row->is_left_out = of_run && of_run->is_left_out;
            return;
        }
        if (of_run->amount != row->amount || strcmp(of_run->unit, row->unit) != 0) {
            row->reason = "other runs do other work";
            return;
        }
        medians[i] = of_run->median.value;
        shares[i] = of_run->of_peak;
        row->quiet_turns[i] = of_run->quiet.value;
    }
    if (row->reason)
        return;
    row->n_turns = n;
    row->median = median_of_turns(medians, n);
    row->quiet = median_of_turns(row->quiet_turns, n);
    row->of_peak = median_of_turns(shares, n).value;
}

/* Rows have strings of all runs' JSON, which the side keeps. */
static bool join_side(struct reports *reports, size_t side)
{
    struct bench_report *report = &reports->at[side];
    char name[REPORTS_MESSAGE];
    json_t *runs = json_array();
    for (size_t i = 0; i < report->n_results; i++)
        join_row(reports, side, &report->results[i]);
    for (size_t i = side + 2; i < reports->count; i += 2)
        if (json_array_append(runs, reports->at[i].json) != 0)
            return false;
    snprintf(name, sizeof name, "%s and %zu more", report->name, reports->count / 2 - 1);
    json_t *joined = text_json(name);
    bool is_kept = json_object_set_new(report->json, "runs", runs) == 0 &&
                   json_object_set_new(report->json, "joined", joined) == 0;
    report->name = json_string_value(joined);
    return is_kept;
}

bool reports_by_turns(struct reports *reports)
{
    if (!check_turns(reports))
        return false;
    if (!join_side(reports, 0) || !join_side(reports, 1))
        return wrong(reports, "out of memory");
    reports->turns = reports->count / 2;
    for (size_t i = 2; i < reports->count; i++)
        report_release(&reports->at[i]);
    reports->count = 2;
    return true;
}

/* What the kernels of a row take: runs in a context of its own, in which each kernel is timed.  All rows have been timed before
 * that, so that nothing of it is in their samples. */
#include "cli/bench/bench.h"

#include <math.h>

/* Short kernels are timed again and again: a single one says little. */
enum { WARM_UP_RUNS = 2, MOST_RUNS = 20 };
static const double profiled_seconds = 0.1;

static json_t *known_json(double number)
{
    return number > 0 && isfinite(number) ? json_real(number) : json_null();
}

/* Of one of the runs. */
static json_t *kernel_json(const struct qn_profile_line *line, double runs)
{
    char name[sizeof line->op + sizeof line->variant];
    snprintf(name, sizeof name, "%s%s%s", line->op, *line->variant ? " " : "", line->variant);
    return json_pack("{s:o, s:I, s:f, s:o, s:o}", "name", text_json(name), "launches",
                     (json_int_t)llround((double)line->calls / runs), "seconds",
                     line->seconds / runs, "flops", known_json(line->flops / runs), "bytes",
                     known_json(line->bytes / runs));
}

static json_t *kernels_json(qn_context *qn, size_t runs)
{
    qn_profile *profile = qn_profile_new(qn);
    json_t *kernels = profile ? json_array() : NULL;
    for (size_t i = 0; kernels && i < profile->count; i++)
        if (!profile->lines[i].is_part)
            json_array_append_new(kernels, kernel_json(&profile->lines[i], (double)runs));
    qn_profile_free(profile);
    return kernels;
}

bool profile_runs(qn_context *qn, struct row *row, row_run *run, void *of)
{
    for (size_t i = 0; i < WARM_UP_RUNS; i++)
        if (!run(of))
            return false;
    if (qn_profile_clear(qn) != QN_OK)
        return false;
    double began = seconds_now();
    size_t runs = 0;
    do {
        if (!run(of))
            return false;
        runs++;
    } while (runs < MOST_RUNS && seconds_now() - began < profiled_seconds);
    row->kernels = kernels_json(qn, runs);
    return row->kernels;
}

bool bench_profile(struct bench *bench)
{
    qn_close(bench->qn);
    bench->qn = bench_open(bench, true);
    for (size_t i = 0; bench->qn && i < bench->n_rows; i++) {
        struct row *row = &bench->rows[i];
        if (*row->reason || !row->profile)
            continue;
        bench_show(bench, "profile", i, row->id);
        row->profile(bench->qn, row);
        qn_clear_error(bench->qn);
    }
    bench_show_end(bench);
    return bench->qn;
}

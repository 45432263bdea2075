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

/* False on failure. */
static bool warm_up(qn_context *qn, row_run *run, void *of)
{
    for (size_t i = 0; i < WARM_UP_RUNS; i++)
        if (!run(of))
            return false;
    return qn_profile_clear(qn) == QN_OK;
}

static void profile_runs(qn_context *qn, struct row *row, row_run *run, void *of)
{
    double began = seconds_now();
    size_t runs = 0;
    bool is_good = warm_up(qn, run, of);
    for (; is_good && (runs == 0 || (runs < MOST_RUNS && seconds_now() - began < profiled_seconds));
         runs++)
        is_good = run(of);
    row->kernels = is_good ? kernels_json(qn, runs) : NULL;
}

bool bench_profile(struct bench *bench)
{
    struct qn_options options = bench_options(bench);
    options.profile = true;
    qn_close(bench->qn);
    bench->qn = qn_open_with(&options);
    for (size_t i = 0; bench->qn && i < bench->n_rows; i++) {
        struct row *row = &bench->rows[i];
        if (*row->reason || row->table == TABLE_PEAKS)
            continue;
        bench_show(bench, "profile", i, row->id);
        row->with(bench->qn, row, profile_runs);
        qn_clear_error(bench->qn);
    }
    bench_show_end(bench);
    return bench->qn;
}

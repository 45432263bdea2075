/* One product: every choice that fits, checked, then timed in turns with the default. */
#include "cli/tune/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/signals.h"
#include "device/context.h"

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 7 };

static const double sample_seconds =
    1e-2;                               /* long enough for the clock, and for launches to overlap */
static const double enough_seconds = 2; /* after these, the least rounds do */
static const double hopeless = 2;       /* times the default's time, in a first run */
static const double noise = 1.03;

/* ---- Plans ---- */

static qn_plan *plan_with(struct operation *operation, const struct product *product,
                          const struct tuning_choice *choice)
{
    if (tuning_try(operation->qn, &product->of, choice) != QN_OK)
        return NULL;
    return qn_plan_new(operation->graph, operation->roots, operation->n_results);
}

/* ---- Trials ---- */

struct trial {
    const struct measuring *measuring;
    const struct product *product;
    struct operation operation;
    qn_plan *standard;
    double one; /* seconds of a run of the default */
    size_t runs;
    struct finding *finding;
};

/* Tiles lie in local memory, which is like any other on a CPU; those that would be half empty are not tried, but the smallest, as
 * one of them has to do. */
static bool is_sensible(const struct trial *trial, const struct tuning_choice *choice)
{
    enum { SMALLEST = 32 };
    const size_t *sizes = trial->product->sizes;
    if (choice->tile && trial->operation.qn->caps.device_class == QN_CPU)
        return false;
    return choice->tile <= SMALLEST || 2 * size_min(sizes[0], sizes[1]) > choice->tile;
}

static bool is_right(struct trial *trial, qn_plan *plan, const char *name)
{
    struct check check = {.numbers = 0};
    trial->operation.plan = plan;
    bool is_good = operation_is_right(&trial->operation, kind_of_products(trial->product->type),
                                      trial->product->sizes, trial->product->variant, &check);
    trial->operation.plan = NULL;
    if (!is_good)
        snprintf(trial->finding->problem, sizeof trial->finding->problem, "%s: %.200s", name,
                 *check.reason ? check.reason : qn_error(trial->operation.qn));
    return is_good;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* How many times as fast as the default the plan is: the median of rounds, or the least if it was slower in one; 0 on failure.
 * Each is first in every other round. */
static double ratio_of(const struct trial *trial, qn_plan *plan)
{
    qn_plan *plans[] = {trial->standard, plan};
    double ratios[MOST_ROUNDS], began = seconds_now();
    size_t count = 0;
    while (count < LEAST_ROUNDS ||
           (count < MOST_ROUNDS && seconds_now() - began < enough_seconds)) {
        double seconds[2];
        for (size_t i = 0; i < 2; i++) {
            size_t which = (i + count) % 2;
            seconds[which] = time_of(trial->operation.qn, plans[which], trial->runs);
            if (seconds[which] <= 0)
                return 0;
        }
        ratios[count++] = seconds[0] / seconds[1];
    }
    qsort(ratios, count, sizeof *ratios, compare);
    return ratios[0] > 1 ? ratios[count / 2] : ratios[0];
}

static void show(const struct trial *trial, const char *name)
{
    struct progress *progress = trial->measuring->progress;
    char of[TUNING_TEXT];
    if (progress->is_quiet || (!progress->is_terminal && strcmp(name, "default") != 0))
        return;
    fprintf(stderr, "%sproduct %zu of %zu, %s", progress->is_terminal ? "\r\033[K" : "",
            trial->measuring->index + 1, trial->measuring->count,
            tuning_class_text(of, &trial->product->of));
    fprintf(stderr, progress->is_terminal ? ": %s" : "\n", name);
    fflush(stderr);
    progress->is_line_open = progress->is_terminal;
}

/* A choice that does not fit, or is the default, is none. */
static bool is_choice(const struct trial *trial, const qn_plan *plan,
                      const struct tuning_choice *choice)
{
    const char *variant = tuning_variant(plan);
    return variant && strcmp(variant, choice->variant) == 0 &&
           !tuning_is_same(plan, trial->standard);
}

static void try_choice(struct trial *trial, const struct tuning_choice *choice)
{
    qn_context *qn = trial->operation.qn;
    struct finding *finding = trial->finding;
    show(trial, choice->name);
    qn_plan *plan = plan_with(&trial->operation, trial->product, choice);
    if (!plan) {
        snprintf(finding->problem, sizeof finding->problem, "%s: %.200s", choice->name,
                 qn_error(qn));
    } else if (is_choice(trial, plan, choice) && is_right(trial, plan, choice->name) &&
               time_of(qn, plan, 1) <= hopeless * trial->one) {
        double ratio = ratio_of(trial, plan);
        if (ratio > noise && ratio > finding->ratio) {
            finding->best = choice;
            finding->ratio = ratio;
        }
    }
    qn_plan_free(plan);
    qn_clear_error(qn);
}

/* The default: its first run compiles, and is checked; the least of the next ones counts. */
static bool measure_standard(struct trial *trial)
{
    struct finding *finding = trial->finding;
    show(trial, "default");
    trial->standard = plan_with(&trial->operation, trial->product, NULL);
    if (!trial->standard || !tuning_variant(trial->standard)) {
        snprintf(finding->problem, sizeof finding->problem, "default: %.200s",
                 qn_error(trial->operation.qn));
        return false;
    }
    if (!is_right(trial, trial->standard, "default"))
        return false;
    trial->one = INFINITY;
    for (int i = 0; i < LEAST_ROUNDS; i++) {
        double found = time_of(trial->operation.qn, trial->standard, 1);
        trial->one = fmin(trial->one, found > 0 ? found : sample_seconds);
    }
    trial->runs = trial->one >= sample_seconds ? 1 : (size_t)(sample_seconds / trial->one) + 1;
    finding->seconds = time_of(trial->operation.qn, trial->standard, trial->runs);
    finding->standard = tuning_variant(trial->standard);
    return true;
}

bool is_over(const struct measuring *measuring)
{
    return signal_caught() || seconds_now() >= measuring->until;
}

bool product_measure(const struct measuring *measuring, const struct product *product,
                     struct finding *finding)
{
    *finding = (struct finding){.ratio = 1};
    struct trial trial = {.measuring = measuring, .product = product, .finding = finding};
    trial.operation = (struct operation){.qn = measuring->qn, .graph = qn_graph_new(measuring->qn)};
    kind_of_products(product->type)->build(&trial.operation, product->sizes, product->variant);
    bool is_good = measure_standard(&trial);
    for (size_t i = 0; is_good && !finding->is_cut && i < n_tuning_choices; i++) {
        if (!is_sensible(&trial, &tuning_choices[i]))
            continue;
        finding->is_cut = is_over(measuring);
        if (!finding->is_cut)
            try_choice(&trial, &tuning_choices[i]);
    }
    qn_plan_free(trial.standard);
    operation_free(&trial.operation);
    qn_clear_error(measuring->qn);
    return is_good;
}

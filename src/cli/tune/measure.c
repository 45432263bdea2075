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
    qn_plan *standard; /* the default; NULL: there is none */
    qn_plan *base;     /* the default, or what takes its place; NULL: nothing is right yet */
    double one;        /* seconds of a run of the base */
    size_t runs;
    struct finding *finding;
    char unplanned[ROW_REASON]; /* why there is no default */
};

/* Tells of what is void. */
static void tell(const struct trial *trial, const char *name, const char *reason)
{
    const struct measuring *measuring = trial->measuring;
    char of[TUNING_TEXT], text[ROW_REASON];
    progress_end_line(measuring->progress);
    failure(measuring->options, "%s: %s: %s", tuning_class_text(of, &trial->product->of), name,
            reason_text(text, reason));
    trial->finding->n_void++;
}

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
        tell(trial, name, *check.reason ? check.reason : qn_error(trial->operation.qn));
    return is_good;
}

/* Medians of rounds in which base and plan took turns, each first in every other one, and how many times as fast the plan is: in the
 * median round, or the least if it was slower in one.  A ratio of 0: it failed. */
struct race {
    double base_seconds, seconds, ratio;
};

static struct race race_of(const struct trial *trial, qn_plan *plan)
{
    qn_plan *plans[] = {trial->base, plan};
    double seconds[2][MOST_ROUNDS], ratios[MOST_ROUNDS], began = seconds_now();
    size_t count = 0;
    while (count < LEAST_ROUNDS ||
           (count < MOST_ROUNDS && seconds_now() - began < enough_seconds)) {
        for (size_t i = 0; i < 2; i++) {
            size_t which = (i + count) % 2;
            seconds[which][count] = time_of(trial->operation.qn, plans[which], trial->runs);
            if (seconds[which][count] <= 0)
                return (struct race){0};
        }
        ratios[count] = seconds[0][count] / seconds[1][count];
        count++;
    }
    numbers_sort(ratios, count);
    for (size_t i = 0; i < 2; i++)
        numbers_sort(seconds[i], count);
    return (struct race){.base_seconds = seconds[0][count / 2],
                         .seconds = seconds[1][count / 2],
                         .ratio = ratios[0] > 1 ? ratios[count / 2] : ratios[0]};
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

/* A choice that does not fit, or is the default or the base, is none. */
static bool is_choice(const struct trial *trial, const qn_plan *plan,
                      const struct tuning_choice *choice)
{
    const char *variant = tuning_variant(plan);
    return variant && strcmp(variant, choice->variant) == 0 &&
           !(trial->standard && tuning_is_same(plan, trial->standard)) &&
           !(trial->base && tuning_is_same(plan, trial->base));
}

/* Makes a plan that is right the base, whose least run counts; false if it fails. */
static bool take_as_base(struct trial *trial, qn_plan *plan, const char *name)
{
    qn_context *qn = trial->operation.qn;
    double one = INFINITY, found = 0;
    for (int i = 0; found >= 0 && i < LEAST_ROUNDS; i++) {
        found = time_of(qn, plan, 1);
        one = fmin(one, found);
    }
    trial->one = one;
    trial->runs = one >= sample_seconds ? 1 : (size_t)(sample_seconds / fmax(one, 1e-9)) + 1;
    if (found >= 0)
        trial->finding->seconds = found = time_of(qn, plan, trial->runs);
    if (found >= 0)
        trial->base = plan;
    else
        tell(trial, name, qn_error(qn));
    return found >= 0;
}

static void take_as_best(struct finding *finding, const struct tuning_choice *choice,
                         struct race race)
{
    finding->best = choice;
    finding->seconds = race.base_seconds;
    finding->best_seconds = race.seconds;
    finding->ratio = race.ratio;
}

/* Returns how many times as fast as the base it is; 0: it is void. */
static double time_choice(struct trial *trial, qn_plan *plan, const struct tuning_choice *choice)
{
    struct finding *finding = trial->finding;
    qn_context *qn = trial->operation.qn;
    if (!is_right(trial, plan, choice->name))
        return 0;
    if (!trial->base) {
        if (!take_as_base(trial, plan, choice->name))
            return 0;
        take_as_best(finding, choice, (struct race){finding->seconds, finding->seconds, 1});
        return 1;
    }
    double one = time_of(qn, plan, 1);
    if (one > hopeless * trial->one)
        return trial->one / one;
    struct race race = one > 0 ? race_of(trial, plan) : (struct race){0};
    if (race.ratio <= 0)
        tell(trial, choice->name, qn_error(qn));
    if (race.ratio > noise && race.ratio > finding->ratio)
        take_as_best(finding, choice, race);
    return race.ratio;
}

static void try_choice(struct trial *trial, const struct tuning_choice *choice)
{
    qn_context *qn = trial->operation.qn;
    struct finding *finding = trial->finding;
    show(trial, choice->name);
    qn_plan *plan = plan_with(&trial->operation, trial->product, choice);
    bool is_as_default = /* which is taken for what does not fit */
        strncmp(qn_error(qn), trial->unplanned, sizeof trial->unplanned - 1) == 0;
    if (!plan && !is_as_default)
        tell(trial, choice->name, qn_error(qn));
    if (plan && is_choice(trial, plan, choice)) {
        struct attempt *attempt = &finding->tried[finding->n_tried++];
        *attempt = (struct attempt){choice, time_choice(trial, plan, choice)};
    }
    if (plan != trial->base)
        qn_plan_free(plan);
    qn_clear_error(qn);
}

/* The default: its first run compiles, and is checked. */
static void measure_standard(struct trial *trial)
{
    struct finding *finding = trial->finding;
    char name[64] = "the default";
    show(trial, "default");
    trial->standard = plan_with(&trial->operation, trial->product, NULL);
    if (trial->standard && (finding->standard = tuning_variant(trial->standard))) {
        snprintf(name, sizeof name, "%s, the default", finding->standard);
        finding->is_void =
            !is_right(trial, trial->standard, name) || !take_as_base(trial, trial->standard, name);
    } else {
        snprintf(trial->unplanned, sizeof trial->unplanned, "%s", qn_error(trial->operation.qn));
        tell(trial, name, qn_error(trial->operation.qn));
        finding->is_void = true;
    }
    qn_clear_error(trial->operation.qn);
}

/* The fastest first. */
static int compare_attempts(const void *a, const void *b)
{
    double left = ((const struct attempt *)a)->ratio, right = ((const struct attempt *)b)->ratio;
    return (left < right) - (left > right);
}

bool is_over(const struct measuring *measuring)
{
    return signal_caught() || seconds_now() >= measuring->until;
}

void product_measure(const struct measuring *measuring, const struct product *product,
                     struct finding *finding)
{
    *finding = (struct finding){.ratio = 1};
    struct trial trial = {.measuring = measuring, .product = product, .finding = finding};
    trial.operation = (struct operation){.qn = measuring->qn, .graph = qn_graph_new(measuring->qn)};
    kind_of_products(product->type)->build(&trial.operation, product->sizes, product->variant);
    bool is_built = !*qn_error(measuring->qn);
    finding->is_void = !is_built;
    if (is_built)
        measure_standard(&trial);
    else
        tell(&trial, "operands", qn_error(measuring->qn));
    for (size_t i = 0; is_built && !finding->is_cut && i < TUNING_CHOICES; i++) {
        if (!is_sensible(&trial, &tuning_choices[i]))
            continue;
        finding->is_cut = is_over(measuring);
        if (!finding->is_cut)
            try_choice(&trial, &tuning_choices[i]);
    }
    qsort(finding->tried, finding->n_tried, sizeof *finding->tried, compare_attempts);
    if (trial.base != trial.standard)
        qn_plan_free(trial.base);
    qn_plan_free(trial.standard);
    operation_free(&trial.operation);
    qn_clear_error(measuring->qn);
}

/* quern score: how near texts, answers, labels or tags are to the right ones. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

static const struct metric {
    const char *name;
    int (*score)(const struct options *options, qn_context *qn);
    bool one_reference;
    const char *options[8]; /* that it takes beside those of all */
} metrics[] = {
    {"bleu", score_bleu, false, {"uneven", "lowercase", "tokenize", "smooth", "smooth-value"}},
    {"chrf",
     score_chrf,
     false,
     {"uneven", "lowercase", "char-order", "word-order", "beta", "whitespace"}},
    {"rouge", score_rouge, false, {"uneven", "stem"}},
    {"squad", score_squad, false, {"uneven"}},
    {"accuracy", score_accuracy, true, {NULL}},
    {"spans", score_spans, true, {"tags", "strict"}},
};
enum { METRICS = sizeof metrics / sizeof *metrics };

static const struct metric *find_metric(const char *name)
{
    for (size_t i = 0; i < METRICS; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

static bool takes(const struct metric *metric, const char *option)
{
    for (size_t i = 0; metric->options[i]; i++)
        if (strcmp(metric->options[i], option) == 0)
            return true;
    return false;
}

/* The first option that the user gave, which other metrics take and this one does not; NULL if
 * there is none. */
static const char *foreign_option(const struct options *options, const struct metric *metric)
{
    for (size_t i = 0; i < METRICS; i++)
        for (const char *const *option = metrics[i].options; *option; option++)
            if (options_given(options, *option) && !takes(metric, *option))
                return *option;
    return NULL;
}

static int unknown_metric(const struct options *options, const char *name)
{
    const char *names[METRICS];
    for (size_t i = 0; i < METRICS; i++)
        names[i] = metrics[i].name;
    const char *nearest = nearest_name(name, names, METRICS);
    if (nearest)
        return usage_error(options, "no metric \"%s\"; did you mean \"%s\"?", name, nearest);
    return usage_error(
        options, "no metric \"%s\": there are bleu, chrf, rouge, squad, accuracy and spans", name);
}

json_t *json_of_ratios(struct qn_ratios ratios)
{
    return json_pack("{sf, sf, sf}", "precision", ratios.precision, "recall", ratios.recall, "f1",
                     ratios.f1);
}

int print_json(json_t *object)
{
    char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    if (!text)
        return EXIT_FAILED;
    puts(text);
    free(text);
    return EXIT_SUCCESS;
}

int command_score(const struct options *options)
{
    const char *name = options_operand(options);
    const struct metric *metric = find_metric(name);
    if (!metric)
        return unknown_metric(options, name);
    const char *foreign = foreign_option(options, metric);
    if (foreign)
        return usage_error(options, "%s takes no --%s", name, foreign);
    if (metric->one_reference && options_count(options, "reference") > 1)
        return usage_error(options, "%s takes one --reference, not %zu", name,
                           options_count(options, "reference"));

    qn_context *qn = qn_open("none");
    if (!qn)
        return failure(options, "%s", qn_error(NULL));
    int status = metric->score(options, qn);
    if (*qn_error(qn))
        failure(options, "%s", qn_error(qn));
    qn_close(qn);
    return status;
}

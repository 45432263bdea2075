/* Scores of classes, as scikit-learn has them; perplexity. */
#include <quern/score.h>

#include <math.h>
#include <stdlib.h>

#include "text/score/pieces.h"

struct qn_classification {
    qn_context *context;
    size_t classes, rows;
    size_t *counts; /* (gold, predicted) */
};

qn_classification *qn_classification_new(qn_context *context, size_t classes)
{
    size_t cells;
    if (!context)
        return NULL;
    if (classes == 0 || !size_product(&cells, classes, classes)) {
        context_fail(context, QN_ERROR_INVALID,
                     "scores of classes: expected at least one class, found %zu", classes);
        return NULL;
    }
    qn_classification *classification = context_alloc(context, 1, sizeof *classification);
    if (!classification)
        return NULL;
    classification->context = context;
    classification->classes = classes;
    classification->counts = context_alloc(context, cells, sizeof *classification->counts);
    if (classification->counts)
        return classification;
    free(classification);
    return NULL;
}

void qn_classification_free(qn_classification *classification)
{
    if (!classification)
        return;
    free(classification->counts);
    free(classification);
}

int qn_classification_add(qn_classification *classification, size_t gold, size_t predicted)
{
    if (!classification)
        return QN_ERROR_INVALID;
    size_t classes = classification->classes;
    if (gold >= classes || predicted >= classes)
        return context_fail(
            classification->context, QN_ERROR_INVALID,
            "scores of classes: expected classes below %zu, found %zu as gold and %zu as predicted",
            classes, gold, predicted);
    classification->counts[gold * classes + predicted]++;
    classification->rows++;
    return QN_OK;
}

size_t qn_classification_count(const qn_classification *classification, size_t gold,
                               size_t predicted)
{
    return classification ? classification->counts[gold * classification->classes + predicted] : 0;
}

struct qn_class_scores qn_classification_class(const qn_classification *classification,
                                               size_t index)
{
    size_t support = 0, predicted = 0;
    if (!classification)
        return (struct qn_class_scores){0};
    for (size_t i = 0; i < classification->classes; i++) {
        support += qn_classification_count(classification, index, i);
        predicted += qn_classification_count(classification, i, index);
    }
    size_t correct = qn_classification_count(classification, index, index);
    return (struct qn_class_scores){ratios_of((double)correct, (double)predicted, (double)support),
                                    support};
}

struct qn_classification_result qn_classification_result(const qn_classification *classification)
{
    struct qn_classification_result result = {0};
    if (!classification)
        return result;
    size_t correct = 0;
    double rows = (double)classification->rows, classes = (double)classification->classes;
    for (size_t i = 0; i < classification->classes; i++) {
        struct qn_class_scores one = qn_classification_class(classification, i);
        ratios_add(&result.macro, one.ratios, 1 / classes);
        ratios_add(&result.weighted, one.ratios, ratio((double)one.support, rows));
        correct += qn_classification_count(classification, i, i);
    }
    result.micro = ratios_of((double)correct, rows, rows);
    result.accuracy = ratio((double)correct, rows);
    result.rows = classification->rows;
    return result;
}

struct qn_perplexity qn_perplexity(double nll, size_t tokens, size_t bytes)
{
    double mean = ratio(nll, (double)tokens), bits = nll / log(2);
    return (struct qn_perplexity){
        .mean_nll = mean,
        .perplexity = exp(mean),
        .bits_per_token = ratio(bits, (double)tokens),
        .bits_per_byte = ratio(bits, (double)bytes),
    };
}

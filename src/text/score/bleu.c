/* BLEU (Papineni et al., 2002), as sacrebleu computes it (Post, 2018). */
#include <quern/score.h>

#include <math.h>
#include <stdlib.h>

#include "text/score/mteval.h"
#include "text/score/sacrebleu.h"

struct qn_bleu {
    qn_context *context;
    struct qn_bleu_options options;
    size_t counts[QN_BLEU_ORDER], totals[QN_BLEU_ORDER];
    size_t hypothesis_words, reference_words;
    struct reference_counter references;
    struct segment hypothesis, reference; /* of the sentence being added */
    struct buffer scratch;
    struct ngrams ngrams;
};

qn_bleu *qn_bleu_new(qn_context *context, struct qn_bleu_options options)
{
    if (!context)
        return NULL;
    if (!(options.smooth_value >= 0) || isinf(options.smooth_value)) {
        context_fail(context, QN_ERROR_INVALID,
                     "BLEU: expected a smoothing value of 0 or more, found %g",
                     options.smooth_value);
        return NULL;
    }
    if (options.smooth_value == 0)
        options.smooth_value = options.smoothing == QN_BLEU_FLOOR ? 0.1 : 1;
    qn_bleu *bleu = context_alloc(context, 1, sizeof *bleu);
    if (!bleu)
        return NULL;
    bleu->context = context;
    bleu->options = options;
    return bleu;
}

void qn_bleu_free(qn_bleu *bleu)
{
    if (!bleu)
        return;
    segment_release(&bleu->hypothesis);
    segment_release(&bleu->reference);
    free(bleu->scratch.text);
    ngrams_release(&bleu->ngrams);
    free(bleu);
}

/* ---- A sentence ---- */

static bool split(qn_bleu *bleu, const char *text, struct segment *segment)
{
    qn_context *context = bleu->context;
    if (!buffer_set(context, &segment->text, text, bleu->options.lowercase))
        return false;
    if (bleu->options.tokenizer == QN_BLEU_NONE)
        squeeze(&segment->text, true);
    else if (!mteval_13a(context, &segment->text, &bleu->scratch))
        return false;
    return pieces_words(context, &segment->pieces, segment->text.text);
}

static size_t distance(size_t a, size_t b)
{
    return a < b ? b - a : a - b;
}

int qn_bleu_add(qn_bleu *bleu, const char *hypothesis, const char *const *references, size_t count)
{
    if (!bleu || !hypothesis || (count > 0 && !references))
        return QN_ERROR_INVALID;
    if (!check_sentence(bleu->context, bleu->references.sentences, hypothesis, references, count))
        return bleu->context->status;

    const struct pieces *words = &bleu->hypothesis.pieces, *others = &bleu->reference.pieces;
    size_t matches[QN_BLEU_ORDER] = {0}, nearest = SIZE_MAX, used = 0;
    ngrams_clear(&bleu->ngrams);
    if (!split(bleu, hypothesis, &bleu->hypothesis))
        return bleu->context->status;
    for (size_t n = 1; n <= QN_BLEU_ORDER; n++)
        if (!ngrams_count(bleu->context, &bleu->ngrams, words, n, 0))
            return bleu->context->status;
    for (size_t i = 0; i < count; i++) {
        if (!references[i])
            continue;
        if (!split(bleu, references[i], &bleu->reference))
            return bleu->context->status;
        ngrams_next_reference(&bleu->ngrams);
        for (size_t n = 1; n <= QN_BLEU_ORDER; n++)
            matches[n - 1] += ngrams_match(&bleu->ngrams, others, n, 0).more;
        size_t length = others->count, closest = distance(nearest, words->count);
        if (used++ == 0 || distance(length, words->count) < closest ||
            (distance(length, words->count) == closest && length < nearest))
            nearest = length;
    }

    for (size_t n = 1; n <= QN_BLEU_ORDER; n++) {
        bleu->counts[n - 1] += matches[n - 1];
        bleu->totals[n - 1] += ngrams_of(words->count, n);
    }
    bleu->hypothesis_words += words->count;
    bleu->reference_words += nearest;
    count_references(&bleu->references, used);
    return QN_OK;
}

/* ---- The result ---- */

static void write_signature(const qn_bleu *bleu, char signature[QN_SIGNATURE])
{
    static const char *const names[] = {"exp", "none", "floor", "add-k"};
    const struct qn_bleu_options *options = &bleu->options;
    char references[24], smoothing[48];
    bool has_value = options->smoothing == QN_BLEU_FLOOR || options->smoothing == QN_BLEU_ADD_K;
    if (has_value)
        snprintf(smoothing, sizeof smoothing, "%s[%.2f]", names[options->smoothing],
                 options->smooth_value);
    else
        snprintf(smoothing, sizeof smoothing, "%s", names[options->smoothing]);
    snprintf(signature, QN_SIGNATURE, "nrefs:%s|case:%s|eff:%s|tok:%s|smooth:%s|version:%s",
             references_text(&bleu->references, references), options->lowercase ? "lc" : "mixed",
             options->effective_order ? "yes" : "no",
             options->tokenizer == QN_BLEU_NONE ? "none" : "13a", smoothing, SACREBLEU_VERSION);
}

/* The precision of an order without matches; `halvings` counts those before it. */
static double smoothed(const struct qn_bleu_options *options, double total, int *halvings)
{
    switch (options->smoothing) {
    case QN_BLEU_EXP:
        return 100 / (ldexp(1, ++*halvings) * total);
    case QN_BLEU_FLOOR:
        return 100 * options->smooth_value / total;
    default:
        return 0;
    }
}

/* Fills in precisions; returns their geometric mean. */
static double mean_precision(const struct qn_bleu_options *options, struct qn_bleu_result *result)
{
    double sum = 0, logarithms[QN_BLEU_ORDER];
    size_t order = QN_BLEU_ORDER;
    int halvings = 0;
    for (size_t n = 0; n < QN_BLEU_ORDER; n++)
        logarithms[n] = -INFINITY;
    for (size_t n = 0; n < QN_BLEU_ORDER; n++) {
        if (options->smoothing == QN_BLEU_ADD_K && n > 0) {
            result->counts[n] += options->smooth_value;
            result->totals[n] += options->smooth_value;
        }
        if (result->totals[n] == 0)
            break;
        if (options->effective_order)
            order = n + 1;
        double precision = result->counts[n] > 0 ? 100 * result->counts[n] / result->totals[n]
                                                 : smoothed(options, result->totals[n], &halvings);
        result->precisions[n] = precision;
        logarithms[n] = log(precision);
    }
    for (size_t n = 0; n < order; n++)
        sum += logarithms[n];
    return exp(sum / (double)order);
}

struct qn_bleu_result qn_bleu_result(const qn_bleu *bleu)
{
    struct qn_bleu_result result = {0};
    if (!bleu)
        return result;
    size_t matches = 0;
    for (size_t n = 0; n < QN_BLEU_ORDER; n++) {
        result.counts[n] = (double)bleu->counts[n];
        result.totals[n] = (double)bleu->totals[n];
        matches += bleu->counts[n];
    }
    result.hypothesis_words = bleu->hypothesis_words;
    result.reference_words = bleu->reference_words;
    double length = (double)bleu->hypothesis_words, wanted = (double)bleu->reference_words;
    result.brevity_penalty = length >= wanted ? 1 : length > 0 ? exp(1 - wanted / length) : 0;
    if (matches > 0)
        result.score = result.brevity_penalty * mean_precision(&bleu->options, &result);
    write_signature(bleu, result.signature);
    return result;
}

/* chrF and chrF++ (Popovic, 2015, 2017), as sacrebleu computes them. */
#include <quern/score.h>

#include <stdlib.h>

#include "text/score/sacrebleu.h"
#include "text/score/pieces.h"

enum { MOST_ORDERS = 2 * QN_CHRF_MOST_ORDER };
enum { CHARACTERS, WORDS }; /* kinds of n-grams */

/* N-grams of one order. */
struct matches {
    size_t hypothesis, reference, both;
};

struct text {
    struct segment characters, words;
};

struct qn_chrf {
    qn_context *context;
    struct qn_chrf_options options;
    struct matches sums[MOST_ORDERS]; /* those of characters first */
    struct reference_counter references;
    struct buffer scratch;
    struct text hypothesis, reference; /* of the sentence being added */
    struct ngrams ngrams;
};

qn_chrf *qn_chrf_new(qn_context *context, struct qn_chrf_options options)
{
    if (!context)
        return NULL;
    options.char_order = options.char_order ? options.char_order : 6;
    options.beta = options.beta ? options.beta : 2;
    if (options.char_order > QN_CHRF_MOST_ORDER || options.word_order > QN_CHRF_MOST_ORDER) {
        context_fail(
            context, QN_ERROR_INVALID,
            "chrF: expected orders of at most %d, found %zu for characters and %zu for words",
            QN_CHRF_MOST_ORDER, options.char_order, options.word_order);
        return NULL;
    }
    qn_chrf *chrf = context_alloc(context, 1, sizeof *chrf);
    if (!chrf)
        return NULL;
    chrf->context = context;
    chrf->options = options;
    return chrf;
}

static void text_release(struct text *text)
{
    segment_release(&text->characters);
    segment_release(&text->words);
}

void qn_chrf_free(qn_chrf *chrf)
{
    if (!chrf)
        return;
    text_release(&chrf->hypothesis);
    text_release(&chrf->reference);
    free(chrf->scratch.text);
    ngrams_release(&chrf->ngrams);
    free(chrf);
}

/* ---- A sentence ---- */

static bool append_word(qn_context *context, struct buffer *words, const char *word, size_t bytes)
{
    return (words->bytes == 0 || buffer_append(context, words, " ", 1)) &&
           buffer_append(context, words, word, bytes);
}

/* Parts one mark of ASCII punctuation from the end of each word, or else from its beginning. */
static bool part_punctuation(qn_context *context, struct buffer *words, const char *text)
{
    words->bytes = 0;
    bool is_good = buffer_append(context, words, "", 0);
    for (size_t length; *text && is_good; text += length + (text[length] == ' ')) {
        length = strcspn(text, " ");
        size_t cut = length > 1 && is_ascii_punctuation(text[length - 1]) ? length - 1
                     : length > 1 && is_ascii_punctuation(text[0])        ? 1
                                                                          : length;
        is_good = append_word(context, words, text, cut) &&
                  (cut == length || append_word(context, words, text + cut, length - cut));
    }
    return is_good;
}

static bool split(qn_chrf *chrf, const char *text, struct text *split)
{
    qn_context *context = chrf->context;
    const struct qn_chrf_options *options = &chrf->options;
    struct segment *characters = &split->characters, *words = &split->words;
    if (!buffer_set(context, &characters->text, text, options->lowercase))
        return false;
    if (options->word_order > 0) {
        if (!buffer_set(context, &chrf->scratch, characters->text.text, false))
            return false;
        squeeze(&chrf->scratch, true);
        if (!part_punctuation(context, &words->text, chrf->scratch.text) ||
            !pieces_words(context, &words->pieces, words->text.text))
            return false;
    }
    if (!options->whitespace)
        squeeze(&characters->text, false);
    return pieces_characters(context, &characters->pieces, characters->text.text);
}

static size_t orders(const struct qn_chrf_options *options)
{
    return options->char_order + options->word_order;
}

/* The pieces of order number `index`, their n and their kind. */
static const struct pieces *pieces_of(const struct qn_chrf_options *options,
                                      const struct text *text, size_t index, size_t *n,
                                      unsigned *kind)
{
    bool is_words = index >= options->char_order;
    *n = 1 + (is_words ? index - options->char_order : index);
    *kind = is_words ? WORDS : CHARACTERS;
    return is_words ? &text->words.pieces : &text->characters.pieces;
}

static bool count_hypothesis(qn_chrf *chrf)
{
    ngrams_clear(&chrf->ngrams);
    for (size_t i = 0; i < orders(&chrf->options); i++) {
        size_t n;
        unsigned kind;
        const struct pieces *pieces = pieces_of(&chrf->options, &chrf->hypothesis, i, &n, &kind);
        if (!ngrams_count(chrf->context, &chrf->ngrams, pieces, n, kind))
            return false;
    }
    return true;
}

static void match_reference(qn_chrf *chrf, struct matches *matches)
{
    ngrams_next_reference(&chrf->ngrams);
    for (size_t i = 0; i < orders(&chrf->options); i++) {
        size_t n;
        unsigned kind;
        const struct pieces *hypothesis =
            pieces_of(&chrf->options, &chrf->hypothesis, i, &n, &kind);
        const struct pieces *reference = pieces_of(&chrf->options, &chrf->reference, i, &n, &kind);
        size_t wanted = ngrams_of(reference->count, n);
        matches[i] = (struct matches){
            .hypothesis =
                wanted ? ngrams_of(hypothesis->count, n) : 0, /* else they cannot be right */
            .reference = wanted,
            .both = ngrams_match(&chrf->ngrams, reference, n, kind).here,
        };
    }
}

/* F of the mean precision and the mean recall of the orders that both sides are long enough for. */
static double score_of(const struct qn_chrf_options *options, const struct matches *matches)
{
    double precision = 0, recall = 0, factor = (double)options->beta * (double)options->beta;
    size_t used = 0;
    for (size_t i = 0; i < orders(options); i++) {
        if (matches[i].hypothesis == 0 || matches[i].reference == 0)
            continue;
        precision += (double)matches[i].both / (double)matches[i].hypothesis;
        recall += (double)matches[i].both / (double)matches[i].reference;
        used++;
    }
    if (precision + recall == 0)
        return 0;
    precision /= (double)used;
    recall /= (double)used;
    return 100 * (1 + factor) * precision * recall / (factor * precision + recall);
}

int qn_chrf_add(qn_chrf *chrf, const char *hypothesis, const char *const *references, size_t count)
{
    if (!chrf || !hypothesis || (count > 0 && !references))
        return QN_ERROR_INVALID;
    if (!check_sentence(chrf->context, chrf->references.sentences, hypothesis, references, count))
        return chrf->context->status;
    if (!split(chrf, hypothesis, &chrf->hypothesis) || !count_hypothesis(chrf))
        return chrf->context->status;

    struct matches best[MOST_ORDERS] = {0};
    double best_score = -1;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        struct matches matches[MOST_ORDERS] = {0};
        if (!references[i])
            continue;
        if (!split(chrf, references[i], &chrf->reference))
            return chrf->context->status;
        match_reference(chrf, matches);
        double score = score_of(&chrf->options, matches);
        if (score > best_score) {
            best_score = score;
            memcpy(best, matches, sizeof best);
        }
        used++;
    }
    for (size_t i = 0; i < orders(&chrf->options); i++) {
        chrf->sums[i].hypothesis += best[i].hypothesis;
        chrf->sums[i].reference += best[i].reference;
        chrf->sums[i].both += best[i].both;
    }
    count_references(&chrf->references, used);
    return QN_OK;
}

/* ---- The result ---- */

struct qn_chrf_result qn_chrf_result(const qn_chrf *chrf)
{
    struct qn_chrf_result result = {0};
    if (!chrf)
        return result;
    const struct qn_chrf_options *options = &chrf->options;
    char references[24];
    result.score = score_of(options, chrf->sums);
    snprintf(result.name, sizeof result.name, "chrF%zu%.*s", options->beta,
             (int)options->word_order, "++++++++++++++++");
    snprintf(result.signature, sizeof result.signature,
             "nrefs:%s|case:%s|eff:yes|nc:%zu|nw:%zu|space:%s|version:%s",
             references_text(&chrf->references, references), options->lowercase ? "lc" : "mixed",
             options->char_order, options->word_order, options->whitespace ? "yes" : "no",
             SACREBLEU_VERSION);
    return result;
}

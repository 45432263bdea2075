/* Scores of text: BLEU, chrF, ROUGE, SQuAD's exact match and F1, spans, classes, perplexity.  All
 * of it runs on the host.
 *
 * Each score is a sum that is added up sentence by sentence, and can be asked for its result at any
 * time:
 *
 *     qn_bleu *bleu = qn_bleu_new(context, (struct qn_bleu_options){0});
 *     while (...)
 *         qn_bleu_add(bleu, hypothesis, &reference, 1);
 *     printf("%.2f\n", qn_bleu_result(bleu).score);
 *     qn_bleu_free(bleu);
 *
 * Texts are UTF-8 with a NUL behind, and borrowed for the call.  Where several references are
 * given, those that are NULL are left out.  The functions that end in _new give NULL, those that
 * end in _add a negative enum qn_status, on failure; qn_error() of the context says why, and
 * nothing is added.  A context is used to keep the error only: one opened as "none" will do.  A
 * ratio whose denominator is 0 counts 0. */
#ifndef QUERN_SCORE_H
#define QUERN_SCORE_H

#include <quern/quern.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QN_SIGNATURE = 128 }; /* bytes of a signature with its NUL */

/* ---- BLEU (Papineni et al., 2002), as sacrebleu 2.6 computes it (Post, 2018) ---- */

enum { QN_BLEU_ORDER = 4 }; /* words of the longest n-gram */

enum qn_bleu_tokenizer { QN_BLEU_13A, QN_BLEU_NONE };

/* What stands for a precision of 0 (Chen and Cherry, 2014): 1/2, 1/4, ... of a match; 0;
 * `smooth_value` matches; and `smooth_value` more matches and n-grams of each order above 1,
 * whether or not there are matches. */
enum qn_bleu_smoothing { QN_BLEU_EXP, QN_BLEU_UNSMOOTHED, QN_BLEU_FLOOR, QN_BLEU_ADD_K };

struct qn_bleu_options {
    enum qn_bleu_tokenizer tokenizer;
    enum qn_bleu_smoothing smoothing;
    double smooth_value; /* 0: 0.1 for QN_BLEU_FLOOR, 1 for QN_BLEU_ADD_K */
    bool lowercase;
    bool effective_order; /* only orders that the hypothesis is long enough for: for single texts */
};

struct qn_bleu_result {
    double score;                     /* 0 to 100 */
    double precisions[QN_BLEU_ORDER]; /* of n-grams of 1, 2, ... words, smoothed: 0 to 100 */
    double brevity_penalty;           /* 0 to 1 */
    double counts[QN_BLEU_ORDER];     /* n-grams that match, with what QN_BLEU_ADD_K adds */
    double totals[QN_BLEU_ORDER];     /* all n-grams, likewise */
    size_t hypothesis_words, reference_words; /* of the reference whose length is nearest */
    char signature[QN_SIGNATURE];             /* sacrebleu's: how the score was computed */
};

typedef struct qn_bleu qn_bleu;
qn_bleu *qn_bleu_new(qn_context *context, struct qn_bleu_options options);
int qn_bleu_add(qn_bleu *bleu, const char *hypothesis, const char *const *references, size_t count);
struct qn_bleu_result qn_bleu_result(const qn_bleu *bleu);
void qn_bleu_free(qn_bleu *bleu);

/* The words of a text by the rules of mteval-v13a.pl, a space between each two; free() it.  NULL if
 * it is not UTF-8. */
char *qn_tokenize_13a(qn_context *context, const char *text);

/* ---- chrF and chrF++ (Popovic, 2015, 2017), as sacrebleu 2.6 computes them ---- */

enum { QN_CHRF_MOST_ORDER = 16 }; /* of characters and of words */

struct qn_chrf_options {
    size_t char_order; /* characters of the longest n-gram; 0: 6 */
    size_t word_order; /* words of the longest n-gram; 0: none, which is chrF; 2 is chrF++ */
    size_t beta;       /* how many times as important recall is as precision; 0: 2 */
    bool lowercase;
    bool whitespace; /* is part of n-grams of characters */
};

struct qn_chrf_result {
    double score;                 /* 0 to 100 */
    char name[32];                /* "chrF2", "chrF2++" */
    char signature[QN_SIGNATURE]; /* sacrebleu's */
};

/* Of several references the one with the best score counts.  NULL and an error for an order above
 * QN_CHRF_MOST_ORDER. */
typedef struct qn_chrf qn_chrf;
qn_chrf *qn_chrf_new(qn_context *context, struct qn_chrf_options options);
int qn_chrf_add(qn_chrf *chrf, const char *hypothesis, const char *const *references, size_t count);
struct qn_chrf_result qn_chrf_result(const qn_chrf *chrf);
void qn_chrf_free(qn_chrf *chrf);

/* ---- Precision, recall and their harmonic mean, 0 to 1 ---- */

struct qn_ratios {
    double precision, recall, f1;
};

/* ---- ROUGE (Lin, 2004), as rouge-score 0.1.2 computes it ---- */

/* N-grams of one and of two words; the longest common subsequence of the texts; and of their lines,
 * each against all. */
enum qn_rouge_kind { QN_ROUGE_1, QN_ROUGE_2, QN_ROUGE_L, QN_ROUGE_LSUM, QN_ROUGE_KINDS };

struct qn_rouge_result {
    struct qn_ratios kinds[QN_ROUGE_KINDS];
};

/* `stem` cuts words longer than three letters to their stems, as NLTK's Porter stemmer does.  Of
 * several references the one with the best F1 counts, for each kind by itself.  `one`, unless NULL,
 * gets the scores of this text; the result has their means. */
typedef struct qn_rouge qn_rouge;
qn_rouge *qn_rouge_new(qn_context *context, bool stem);
int qn_rouge_add(qn_rouge *rouge, const char *hypothesis, const char *const *references,
                 size_t count, struct qn_rouge_result *one);
struct qn_rouge_result qn_rouge_result(const qn_rouge *rouge);
void qn_rouge_free(qn_rouge *rouge);

/* The words that ROUGE compares: runs of a to z and 0 to 9, a space between each two; free() it.
 * NULL if it is not UTF-8. */
char *qn_rouge_words(qn_context *context, const char *text, bool stem);

/* ---- SQuAD's exact match and F1 of words (Rajpurkar et al., 2016, 2018) ---- */

struct qn_squad_result {
    double exact_match, f1; /* means: 0 to 100; of one answer: 0 to 1 */
    size_t answers;
};

/* The best of each over the references counts.  An empty side scores 1 only if both are empty.
 * `one`, unless NULL, gets the scores of this answer. */
typedef struct qn_squad qn_squad;
qn_squad *qn_squad_new(qn_context *context);
int qn_squad_add(qn_squad *squad, const char *answer, const char *const *references, size_t count,
                 struct qn_squad_result *one);
int qn_squad_miss(qn_squad *squad); /* adds a question that was not answered: 0 */
struct qn_squad_result qn_squad_result(const qn_squad *squad);
void qn_squad_free(qn_squad *squad);

/* What is compared: lower case, without ASCII punctuation and the words a, an, the, a space between
 * each two words; free() it.  NULL if it is not UTF-8. */
char *qn_squad_normalise(qn_context *context, const char *text);

/* ---- Spans of tags, as conlleval and seqeval 1.2.2 find them ---- */

struct qn_span_type {
    const char *name; /* borrowed from the scorer, until it is freed or added to */
    struct qn_ratios ratios;
    size_t support;   /* spans of this type in the gold tags */
    size_t predicted; /* in the predicted tags */
    size_t correct;   /* in both, at the same place */
};

struct qn_spans_result {
    struct qn_ratios micro;    /* over all spans */
    struct qn_ratios macro;    /* the mean of the types */
    struct qn_ratios weighted; /* that, weighted by support */
    size_t support, predicted, correct;
    double accuracy; /* of single tags */
    size_t tags, types;
};

/* Tags are O, and B-TYPE, I-TYPE, E-TYPE, S-TYPE.  `strict` reads them as IOB2 (a span is one B and
 * the I of its type that follow), and allows no E and S; otherwise an I begins a span where none
 * goes on, as conlleval has it.  Fails on a tag that is none. */
typedef struct qn_spans qn_spans;
qn_spans *qn_spans_new(qn_context *context, bool strict);
int qn_spans_add(qn_spans *spans, const char *const *gold, const char *const *predicted,
                 size_t count);
struct qn_spans_result qn_spans_result(const qn_spans *spans);
void qn_spans_free(qn_spans *spans);

/* A type by its index, below `types` of the result; they are sorted by the bytes of their names. */
struct qn_span_type qn_spans_type(const qn_spans *spans, size_t index);

/* ---- Classes, as scikit-learn's precision_recall_fscore_support has them ---- */

struct qn_class_scores {
    struct qn_ratios ratios;
    size_t support; /* rows whose gold class it is */
};

struct qn_classification_result {
    double accuracy;
    struct qn_ratios micro;    /* over all rows */
    struct qn_ratios macro;    /* the mean of ALL classes, also of those that do not occur */
    struct qn_ratios weighted; /* that, weighted by support */
    size_t rows;
};

/* Classes are 0 to `classes` - 1.  NULL and an error for none, or without memory for their
 * confusion matrix. */
typedef struct qn_classification qn_classification;
qn_classification *qn_classification_new(qn_context *context, size_t classes);
int qn_classification_add(qn_classification *classification, size_t gold, size_t predicted);
struct qn_classification_result qn_classification_result(const qn_classification *classification);
void qn_classification_free(qn_classification *classification);

/* The scores of one class; and a place of the confusion matrix: rows of these two classes. */
struct qn_class_scores qn_classification_class(const qn_classification *classification,
                                               size_t index);
size_t qn_classification_count(const qn_classification *classification, size_t gold,
                               size_t predicted);

/* ---- Perplexity ---- */

struct qn_perplexity {
    double mean_nll; /* nats a token */
    double perplexity;
    double bits_per_token, bits_per_byte;
};

/* Of `tokens` tokens that stand for `bytes` bytes of text, and whose negative logarithms of
 * probabilities sum to `nll`. */
struct qn_perplexity qn_perplexity(double nll, size_t tokens, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif

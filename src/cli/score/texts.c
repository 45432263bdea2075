/* quern score bleu, chrf, rouge, accuracy: metrics of lines. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"

/* ---- Adding up ---- */

/* Adds a line to a score. */
typedef int (*adder)(void *score, const char *hypothesis, const char *const *references,
                     size_t count);

static int add_bleu(void *score, const char *hypothesis, const char *const *references,
                    size_t count)
{
    return qn_bleu_add(score, hypothesis, references, count);
}
static int add_chrf(void *score, const char *hypothesis, const char *const *references,
                    size_t count)
{
    return qn_chrf_add(score, hypothesis, references, count);
}
static int add_rouge(void *score, const char *hypothesis, const char *const *references,
                     size_t count)
{
    return qn_rouge_add(score, hypothesis, references, count, NULL);
}

/* Adds all lines of the files; counts them.  False and an error if that fails. */
static bool add_lines(const struct options *options, qn_context *qn, void *score, adder add,
                      size_t *lines)
{
    struct comparison comparison;
    bool is_good = score && comparison_read(&comparison, options, qn);
    const char **references =
        is_good ? context_alloc(qn, comparison.n_references, sizeof *references) : NULL;
    is_good = references != NULL;
    for (size_t i = 0; is_good && i < comparison.hypotheses.count; i++) {
        comparison_references(&comparison, i, references);
        is_good =
            add(score, comparison.hypotheses.at[i], references, comparison.n_references) == QN_OK;
    }
    free(references);
    if (score) {
        *lines = comparison.hypotheses.count;
        comparison_release(&comparison);
    }
    return is_good;
}

static json_t *json_of_numbers(const double *numbers, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_real(numbers[i]));
    return array;
}

/* ---- BLEU ---- */

static qn_bleu *open_bleu(const struct options *options, qn_context *qn)
{
    static const char *const smoothings[] = {"exp", "none", "floor", "add-k"};
    struct qn_bleu_options bleu = {.lowercase = options_flag(options, "lowercase"),
                                   .smooth_value = options_real(options, "smooth-value")};
    if (strcmp(options_string(options, "tokenize"), "none") == 0)
        bleu.tokenizer = QN_BLEU_NONE;
    for (int i = 0; i < 4; i++)
        if (strcmp(options_string(options, "smooth"), smoothings[i]) == 0)
            bleu.smoothing = (enum qn_bleu_smoothing)i;
    return qn_bleu_new(qn, bleu);
}

static int print_bleu(const struct options *options, const struct qn_bleu_result *bleu,
                      size_t lines)
{
    const double *p = bleu->precisions;
    if (options_flag(options, "json"))
        return print_json(json_pack(
            "{ss, sf, so, sf, so, so, sI, sI, sI, ss}", "name", "BLEU", "score", bleu->score,
            "precisions", json_of_numbers(p, QN_BLEU_ORDER), "brevity_penalty",
            bleu->brevity_penalty, "counts", json_of_numbers(bleu->counts, QN_BLEU_ORDER), "totals",
            json_of_numbers(bleu->totals, QN_BLEU_ORDER), "hypothesis_words",
            (json_int_t)bleu->hypothesis_words, "reference_words",
            (json_int_t)bleu->reference_words, "lines", (json_int_t)lines, "signature",
            bleu->signature));
    double length = (double)bleu->hypothesis_words, wanted = (double)bleu->reference_words;
    printf(
        "BLEU|%s = %.2f %.1f/%.1f/%.1f/%.1f (BP = %.3f ratio = %.3f hyp_len = %zu ref_len = %zu)\n",
        bleu->signature, bleu->score, p[0], p[1], p[2], p[3], bleu->brevity_penalty,
        wanted > 0 ? length / wanted : 0, bleu->hypothesis_words, bleu->reference_words);
    return EXIT_SUCCESS;
}

int score_bleu(const struct options *options, qn_context *qn)
{
    size_t lines;
    qn_bleu *bleu = open_bleu(options, qn);
    bool is_good = add_lines(options, qn, bleu, add_bleu, &lines);
    struct qn_bleu_result result = qn_bleu_result(bleu);
    qn_bleu_free(bleu);
    return is_good ? print_bleu(options, &result, lines) : EXIT_FAILED;
}

/* ---- chrF ---- */

int score_chrf(const struct options *options, qn_context *qn)
{
    size_t lines;
    struct qn_chrf_options how = {.char_order = (size_t)options_integer(options, "char-order"),
                                  .word_order = (size_t)options_integer(options, "word-order"),
                                  .beta = (size_t)options_integer(options, "beta"),
                                  .lowercase = options_flag(options, "lowercase"),
                                  .whitespace = options_flag(options, "whitespace")};
    qn_chrf *chrf = qn_chrf_new(qn, how);
    bool is_good = add_lines(options, qn, chrf, add_chrf, &lines);
    struct qn_chrf_result result = qn_chrf_result(chrf);
    qn_chrf_free(chrf);
    if (!is_good)
        return EXIT_FAILED;
    if (options_flag(options, "json"))
        return print_json(json_pack("{ss, sf, sI, ss}", "name", result.name, "score", result.score,
                                    "lines", (json_int_t)lines, "signature", result.signature));
    printf("%s|%s = %.2f\n", result.name, result.signature, result.score);
    return EXIT_SUCCESS;
}

/* ---- ROUGE ---- */

static const char *const rouge_kinds[] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};

static int print_rouge(const struct options *options, const struct qn_rouge_result *rouge,
                       size_t lines)
{
    json_t *object =
        json_pack("{sI, sb}", "lines", (json_int_t)lines, "stem", options_flag(options, "stem"));
    for (size_t i = 0; i < QN_ROUGE_KINDS; i++)
        json_object_set_new(object, rouge_kinds[i], json_of_ratios(rouge->kinds[i]));
    if (options_flag(options, "json"))
        return print_json(object);
    json_decref(object);
    for (size_t i = 0; i < QN_ROUGE_KINDS; i++)
        printf("%-9s  precision %.4f  recall %.4f  F1 %.4f\n", rouge_kinds[i],
               rouge->kinds[i].precision, rouge->kinds[i].recall, rouge->kinds[i].f1);
    return EXIT_SUCCESS;
}

int score_rouge(const struct options *options, qn_context *qn)
{
    size_t lines;
    qn_rouge *rouge = qn_rouge_new(qn, options_flag(options, "stem"));
    bool is_good = add_lines(options, qn, rouge, add_rouge, &lines);
    struct qn_rouge_result result = qn_rouge_result(rouge);
    qn_rouge_free(rouge);
    return is_good ? print_rouge(options, &result, lines) : EXIT_FAILED;
}

/* ---- Labels ---- */

static int compare_labels(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All labels that occur, sorted. */
static const char **labels_of(const struct comparison *comparison, size_t *count)
{
    const struct lines *gold = &comparison->references[0], *predicted = &comparison->hypotheses;
    size_t lines = gold->count, used = 0;
    const char **labels = context_alloc(comparison->qn, 2 * lines, sizeof *labels);
    if (!labels)
        return NULL;
    memcpy(labels, gold->at, lines * sizeof *labels);
    memcpy(labels + lines, predicted->at, lines * sizeof *labels);
    qsort(labels, 2 * lines, sizeof *labels, compare_labels);
    for (size_t i = 0; i < 2 * lines; i++)
        if (used == 0 || strcmp(labels[used - 1], labels[i]) != 0)
            labels[used++] = labels[i];
    *count = used;
    return labels;
}

static size_t index_of(const char *label, const char **labels, size_t count)
{
    return (size_t)((const char **)bsearch(&label, labels, count, sizeof *labels, compare_labels) -
                    labels);
}

static bool add_labels(const struct comparison *comparison, qn_classification *classes,
                       const char **labels, size_t count)
{
    for (size_t i = 0; i < comparison->hypotheses.count; i++) {
        size_t gold = index_of(comparison->references[0].at[i], labels, count);
        size_t predicted = index_of(comparison->hypotheses.at[i], labels, count);
        if (qn_classification_add(classes, gold, predicted) != QN_OK)
            return false;
    }
    return true;
}

static json_t *json_of_classes(const qn_classification *classes, const char **labels, size_t count)
{
    struct qn_classification_result result = qn_classification_result(classes);
    json_t *by_class = json_object(), *matrix = json_array(), *names = json_array();
    for (size_t i = 0; i < count; i++) {
        struct qn_class_scores one = qn_classification_class(classes, i);
        json_t *scores = json_of_ratios(one.ratios), *row = json_array();
        json_object_set_new(scores, "support", json_integer((json_int_t)one.support));
        json_object_set_new(by_class, labels[i], scores);
        for (size_t j = 0; j < count; j++)
            json_array_append_new(row,
                                  json_integer((json_int_t)qn_classification_count(classes, i, j)));
        json_array_append_new(matrix, row);
        json_array_append_new(names, json_string(labels[i]));
    }
    return json_pack("{sf, so, so, so, so, so, so, sI}", "accuracy", result.accuracy, "micro",
                     json_of_ratios(result.micro), "macro", json_of_ratios(result.macro),
                     "weighted", json_of_ratios(result.weighted), "by_class", by_class, "labels",
                     names, "confusion_matrix", matrix, "lines", (json_int_t)result.rows);
}

static void print_row(const char *name, struct qn_ratios ratios, size_t support)
{
    printf("%-20s  precision %.4f  recall %.4f  F1 %.4f  %zu\n", name, ratios.precision,
           ratios.recall, ratios.f1, support);
}

static int print_classes(const struct options *options, const qn_classification *classes,
                         const char **labels, size_t count)
{
    if (options_flag(options, "json"))
        return print_json(json_of_classes(classes, labels, count));
    struct qn_classification_result result = qn_classification_result(classes);
    printf("accuracy %.4f\n", result.accuracy);
    for (size_t i = 0; i < count; i++) {
        struct qn_class_scores one = qn_classification_class(classes, i);
        print_row(labels[i], one.ratios, one.support);
    }
    print_row("macro average", result.macro, result.rows);
    print_row("weighted average", result.weighted, result.rows);
    return EXIT_SUCCESS;
}

int score_accuracy(const struct options *options, qn_context *qn)
{
    struct comparison comparison;
    size_t count = 0;
    int status = EXIT_FAILED;
    bool is_read = comparison_read(&comparison, options, qn);
    const char **labels = is_read ? labels_of(&comparison, &count) : NULL;
    qn_classification *classes = labels ? qn_classification_new(qn, count) : NULL;
    if (classes && add_labels(&comparison, classes, labels, count))
        status = print_classes(options, classes, labels, count);
    qn_classification_free(classes);
    free(labels);
    comparison_release(&comparison);
    return status;
}

/* Scores of text: small cases, which sacrebleu 2.6, rouge-score 0.1.2, seqeval 1.2.2 and
 * scikit-learn computed; then theirs and SQuAD's of ../shared/golden/metrics, found through
 * $QUERN_SHARED.  Needs no device. */
#include <quern/score.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tap.h"

#include "golden.h"
#include "host.h"

enum { MOST_TEXTS = 64 };

/* Both sides are computed in double, in another order. */
static const double tolerance = 1e-12;

static bool near(double found, double expected)
{
    bool is_near = fabs(found - expected) <= tolerance * fmax(fabs(expected), 1e-300);
    if (!is_near)
        note("found %.17g, expected %.17g", found, expected);
    return is_near;
}

static bool same(const char *found, const char *expected)
{
    bool is_same = found && strcmp(found, expected) == 0;
    if (!is_same)
        note("found \"%s\", expected \"%s\"", found ? found : qn_error(qn), expected);
    return is_same;
}

/* Compares, and frees what was found. */
static bool same_text(char *found, const char *expected)
{
    bool is_same = same(found, expected);
    free(found);
    return is_same;
}

/* ---- Small cases ---- */

static void test_words(void)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"It's 3.5%, i.e. $1,000.-", "It's 3.5 % , i . e . $ 1,000 . -"},
        {"&quot;A&amp;B&quot; <skipped>x &lt;y&gt;", "\" A & B \" x < y >"},
        {"1-2 a-b...", "1 - 2 a-b . . ."},
        {"well-\nknown\nfacts", "wellknown facts"},
        {"na\xc3\xafve.\xc2\xa0Ol\xc3\xa9,", "na\xc3\xafve . Ol\xc3\xa9 ,"},
        {".,5", ". ,5"},
        {" \t", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(same_text(qn_tokenize_13a(qn, cases[i].text), cases[i].expected), "13a: %s",
           cases[i].expected);
    ok(same_text(
           qn_squad_normalise(qn, "The an-a \xce\x9f\xce\x94\xce\x9f\xce\xa3, A\xc3\xa9 \xc4\xb0."),
           "ana \xce\xbf\xce\xb4\xce\xbf\xcf\x82 a\xc3\xa9 i\xcc\x87"),
       "lower case: sigma at the end, I with a dot");
    ok(!qn_tokenize_13a(qn, "a\xff") && says("byte 0xFF at offset 1"),
       "13a refuses what is not UTF-8");
}

static void test_stems(void)
{
    static const struct {
        const char *word, *stem;
    } cases[] = {
        {"caresses", "caress"},
        {"ponies", "poni"},
        {"dies", "die"},
        {"spied", "spi"},
        {"agreed", "agre"},
        {"feed", "feed"},
        {"plastered", "plaster"},
        {"hopping", "hop"},
        {"falling", "fall"},
        {"filing", "file"},
        {"happy", "happi"},
        {"enjoy", "enjoy"},
        {"relational", "relat"},
        {"rationally", "ration"},
        {"hopefully", "hope"},
        {"geology", "geolog"},
        {"triplicate", "triplic"},
        {"goodness", "good"},
        {"adoption", "adopt"},
        {"decision", "decis"},
        {"opinion", "opinion"},
        {"replacement", "replac"},
        {"controlling", "control"},
        {"rate", "rate"},
        {"cease", "ceas"},
        {"dying", "die"},
        {"skies", "sky"},
        {"yyyyly", "yyyyli"},
        {"archaeology", "archaeolog"},
        {"used", "use"},
        {"inning", "inning"},
    };
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        wrong += !same_text(qn_rouge_words(qn, cases[i].word, true), cases[i].stem);
    ok(wrong == 0, "%zu stems", sizeof cases / sizeof *cases);
}

/* Two sentences, the second with one reference less. */
static const char *const hypotheses[] = {"The cat (sat) on the mat.", "no match"};
static const char *const references[][2] = {{"A cat sat on a mat.", "The cat is on the mat!"},
                                            {"there is none", NULL}};

static void test_bleu(void)
{
    const char *hypothesis = "The cat sat on the mat.";
    qn_bleu *bleu = qn_bleu_new(qn, (struct qn_bleu_options){0});
    struct qn_bleu_result result = qn_bleu_result(bleu);
    ok(result.score == 0 && result.hypothesis_words == 0, "BLEU of nothing");
    ok(qn_bleu_add(bleu, hypothesis, references[0], 2) == QN_OK, "BLEU: a sentence");
    result = qn_bleu_result(bleu);
    ok(near(result.score, 47.2870804501588) && result.counts[2] == 2 && result.totals[3] == 4,
       "its score");
    ok(same(result.signature, "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"),
       "its signature");
    ok(qn_bleu_add(bleu, hypothesis, NULL, 0) < 0 && says("sentence 2 has no reference"),
       "no reference");
    ok(qn_bleu_add(bleu, "a\xc3", references[0], 2) < 0 &&
           says("the hypothesis of sentence 2: byte 0xC3"),
       "no UTF-8");
    ok(qn_bleu_add(bleu, hypotheses[1], references[1], 2) == QN_OK,
       "after two that failed, another");
    result = qn_bleu_result(bleu);
    ok(near(result.score, 38.235321288726325) && near(result.brevity_penalty, exp(-1.0 / 9)),
       "its score");
    ok(same(result.signature, "nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"),
       "its signature");
    qn_bleu_free(bleu);
    ok(!qn_bleu_new(qn, (struct qn_bleu_options){.smooth_value = -1}) && says("found -1"),
       "a smoothing value below 0");
}

static void test_chrf(void)
{
    qn_chrf *chrf = qn_chrf_new(qn, (struct qn_chrf_options){.word_order = 2});
    for (size_t i = 0; i < 2; i++)
        ok(qn_chrf_add(chrf, hypotheses[i], references[i], 2) == QN_OK, "chrF++: sentence %zu", i);
    struct qn_chrf_result result = qn_chrf_result(chrf);
    ok(near(result.score, 42.2178182692788) && same(result.name, "chrF2++"), "chrF++");
    ok(same(result.signature, "nrefs:var|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0"),
       "its signature");
    qn_chrf_free(chrf);
    ok(!qn_chrf_new(qn, (struct qn_chrf_options){.char_order = 17}) && says("at most 16, found 17"),
       "a large order");
}

static void test_rouge(void)
{
    const char *reference = "The cats sat.\nDogs were running home.";
    struct qn_rouge_result one, mean;
    qn_rouge *rouge = qn_rouge_new(qn, true);
    ok(qn_rouge_add(rouge, "Dogs run.\nA cat is sitting at home.\nThe cats", &reference, 1, &one) ==
           QN_OK,
       "ROUGE of lines");
    ok(near(one.kinds[QN_ROUGE_1].f1, 10.0 / 17) &&
           near(one.kinds[QN_ROUGE_2].precision, 1.0 / 9) &&
           near(one.kinds[QN_ROUGE_L].recall, 3.0 / 7) &&
           near(one.kinds[QN_ROUGE_LSUM].f1, 10.0 / 17),
       "its scores");
    ok(qn_rouge_add(rouge, "!", &reference, 1, NULL) == QN_OK, "a text without words");
    mean = qn_rouge_result(rouge);
    ok(near(mean.kinds[QN_ROUGE_L].recall, 1.5 / 7), "the mean");
    qn_rouge_free(rouge);
}

static struct qn_spans_result spans_of(bool strict, const char *const *gold,
                                       const char *const *predicted, size_t count,
                                       struct qn_span_type types[2])
{
    qn_spans *spans = qn_spans_new(qn, strict);
    ok(qn_spans_add(spans, gold, predicted, count) == QN_OK, "tags are added");
    struct qn_spans_result result = qn_spans_result(spans);
    for (size_t i = 0; i < 2 && i < result.types; i++)
        types[i] = qn_spans_type(spans, i);
    qn_spans_free(spans);
    return result;
}

static void test_spans(void)
{
    const char *gold[] = {"B-A", "I-A", "O", "E-B", "S-B", "I-A"};
    const char *found[] = {"I-A", "I-A", "I-B", "E-B", "S-B", "B-A"};
    const char *gold_2[] = {"B-A", "I-A", "O", "I-B", "B-B"},
               *found_2[] = {"B-A", "I-A", "I-B", "I-B", "B-B"};
    struct qn_span_type types[2];
    struct qn_spans_result result = spans_of(false, gold, found, 6, types);
    ok(result.micro.f1 == 0.75 && result.types == 2 && types[0].correct == 2 &&
           types[1].ratios.recall == 0.5,
       "spans of IOBES");
    result = spans_of(true, gold_2, found_2, 5, types);
    ok(result.micro.f1 == 1 && result.support == 2 && result.accuracy == 0.8,
       "spans of strict IOB2");
    qn_spans *spans = qn_spans_new(qn, true);
    ok(qn_spans_add(spans, gold, found, 6) < 0 &&
           says("tag 4 of sentence 1, gold: expected O, B-TYPE or I-TYPE, found \"E-B\""),
       "a tag that strict IOB2 has not");
    qn_spans_free(spans);
}

static void test_classes(void)
{
    ok(!qn_classification_new(qn, 0) && says("found 0"), "no classes");
    qn_classification *classes = qn_classification_new(qn, 2);
    ok(qn_classification_add(classes, 1, 2) < 0 && says("found 1 as gold and 2 as predicted"),
       "a class too much");
    ok(qn_classification_result(classes).accuracy == 0, "accuracy of nothing");
    qn_classification_free(classes);
}

/* ---- The golden sets ---- */

static json_t *get(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (!value)
        bail_out("golden: no %s", key);
    return value;
}

static size_t strings_of(json_t *array, const char *texts[MOST_TEXTS])
{
    size_t count = json_array_size(array);
    if (count > MOST_TEXTS)
        bail_out("golden: %zu texts", count);
    for (size_t i = 0; i < count; i++)
        texts[i] = json_string_value(json_array_get(array, i));
    return count;
}

static bool all_near(const double *found, json_t *expected)
{
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (!near(found[i], json_number_value(json_array_get(expected, i))))
            return false;
    return true;
}

static bool is(json_t *object, const char *key, double found)
{
    return near(found, json_number_value(get(object, key)));
}
static bool is_text(json_t *object, const char *key, const char *found)
{
    return same(found, json_string_value(get(object, key)));
}

static struct qn_bleu_options bleu_options(json_t *set)
{
    static const char *const names[] = {"exp", "none", "floor", "add-k"};
    struct qn_bleu_options options = {.lowercase = json_is_true(get(set, "lowercase")),
                                      .effective_order =
                                          json_is_true(json_object_get(set, "effective_order"))};
    const char *smoothing = json_string_value(json_object_get(set, "smooth_method"));
    for (int i = 0; smoothing && i < 4; i++)
        if (strcmp(names[i], smoothing) == 0)
            options.smoothing = (enum qn_bleu_smoothing)i;
    options.smooth_value = number(set, "smooth_value");
    if (strcmp(json_string_value(get(set, "tokenize")), "none") == 0)
        options.tokenizer = QN_BLEU_NONE;
    return options;
}

/* BLEU of sentences first to last - 1 of a set. */
static struct qn_bleu_result bleu_result(json_t *row, struct qn_bleu_options options, size_t first,
                                         size_t last)
{
    const char *texts[MOST_TEXTS], *others[MOST_TEXTS];
    strings_of(get(row, "hypotheses"), texts);
    qn_bleu *bleu = qn_bleu_new(qn, options);
    for (size_t i = first; i < last; i++) {
        size_t count = strings_of(json_array_get(get(row, "references"), i), others);
        if (qn_bleu_add(bleu, texts[i], others, count) != QN_OK)
            bail_out("%s", qn_error(qn));
    }
    struct qn_bleu_result result = qn_bleu_result(bleu);
    qn_bleu_free(bleu);
    return result;
}

static void golden_bleu(const char *name, json_t *row)
{
    json_t *expected = get(row, "expected"), *set;
    const char *texts[MOST_TEXTS];
    size_t index, n = strings_of(get(row, "hypotheses"), texts);
    bool good = true;
    json_array_foreach (get(expected, "tokens_13a"), index, set)
        good = same_text(qn_tokenize_13a(qn, texts[index]), json_string_value(set)) && good;
    ok(good, "13a %s", name);
    json_array_foreach (get(expected, "corpus"), index, set) {
        struct qn_bleu_result found = bleu_result(row, bleu_options(set), 0, n);
        ok(is(set, "score", found.score) && is(set, "bp", found.brevity_penalty) &&
               all_near(found.precisions, get(set, "precisions")) &&
               all_near(found.counts, get(set, "counts")) &&
               all_near(found.totals, get(set, "totals")) &&
               is(set, "sys_len", (double)found.hypothesis_words) &&
               is(set, "ref_len", (double)found.reference_words) &&
               is_text(set, "signature", found.signature),
           "BLEU %s %s", name, found.signature);
    }
    json_array_foreach (get(expected, "sentence"), index, set) {
        struct qn_bleu_result found = {0};
        good = true;
        for (size_t i = 0; i < n; i++) {
            found = bleu_result(row, bleu_options(set), i, i + 1);
            good =
                near(found.score, json_number_value(json_array_get(get(set, "scores"), i))) && good;
        }
        ok(good && is_text(set, "signature", found.signature), "BLEU of sentences %s %s", name,
           found.signature);
    }
}

static struct qn_chrf_result chrf_result(json_t *row, struct qn_chrf_options options, size_t first,
                                         size_t last)
{
    const char *texts[MOST_TEXTS], *others[MOST_TEXTS];
    strings_of(get(row, "hypotheses"), texts);
    qn_chrf *chrf = qn_chrf_new(qn, options);
    for (size_t i = first; i < last; i++) {
        size_t count = strings_of(json_array_get(get(row, "references"), i), others);
        if (qn_chrf_add(chrf, texts[i], others, count) != QN_OK)
            bail_out("%s", qn_error(qn));
    }
    struct qn_chrf_result result = qn_chrf_result(chrf);
    qn_chrf_free(chrf);
    return result;
}

static void golden_chrf(const char *name, json_t *row)
{
    json_t *set;
    size_t index, n = json_array_size(get(row, "hypotheses"));
    json_array_foreach (get(row, "expected"), index, set) {
        struct qn_chrf_options options = {
            .char_order = (size_t)number(set, "char_order"),
            .word_order = (size_t)number(set, "word_order"),
            .beta = (size_t)number(set, "beta"),
            .lowercase = json_is_true(get(set, "lowercase")),
            .whitespace = json_is_true(get(set, "whitespace")),
        };
        struct qn_chrf_result found = chrf_result(row, options, 0, n);
        bool good = is(set, "score", found.score) && is_text(set, "signature", found.signature);
        for (size_t i = 0; i < n; i++)
            good = near(chrf_result(row, options, i, i + 1).score,
                        json_number_value(json_array_get(get(set, "sentence_scores"), i))) &&
                   good;
        ok(good, "chrF %s %s", name, found.signature);
    }
}

static char *joined(json_t *words)
{
    char *text = calloc(1, 1 << 16);
    size_t index;
    json_t *word;
    json_array_foreach (words, index, word)
        snprintf(text + strlen(text), 1000, "%s%s", index ? " " : "", json_string_value(word));
    return text;
}

static const char *const rouge_kinds[] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};

static bool is_rouge(json_t *scores, const struct qn_rouge_result *found)
{
    bool good = true;
    for (size_t kind = 0; kind < QN_ROUGE_KINDS; kind++) {
        json_t *score = get(scores, rouge_kinds[kind]);
        const struct qn_ratios *ratios = &found->kinds[kind];
        good = is(score, "precision", ratios->precision) && is(score, "recall", ratios->recall) &&
               is(score, "f", ratios->f1) && good;
    }
    return good;
}

static void golden_rouge(const char *name, json_t *row)
{
    for (int stem = 0; stem < 2; stem++) {
        json_t *expected = get(get(row, "expected"), stem ? "stemmed" : "plain");
        const char *texts[MOST_TEXTS], *others[MOST_TEXTS];
        size_t n = strings_of(get(row, "hypotheses"), texts);
        qn_rouge *rouge = qn_rouge_new(qn, stem);
        bool good = true;
        for (size_t i = 0; i < n; i++) {
            struct qn_rouge_result one;
            size_t count = strings_of(json_array_get(get(row, "references"), i), others);
            char *words = joined(json_array_get(get(expected, "tokens"), i));
            good = same_text(qn_rouge_words(qn, texts[i], stem), words) &&
                   qn_rouge_add(rouge, texts[i], others, count, &one) == QN_OK &&
                   is_rouge(json_array_get(get(expected, "scores"), i), &one) && good;
            free(words);
        }
        struct qn_rouge_result mean = qn_rouge_result(rouge);
        for (size_t kind = 0; kind < QN_ROUGE_KINDS; kind++)
            good = is(get(expected, "mean_f"), rouge_kinds[kind], mean.kinds[kind].f1) && good;
        qn_rouge_free(rouge);
        ok(good, "ROUGE %s, %s", name, stem ? "stemmed" : "plain");
    }
}

static void golden_squad(const char *name, json_t *row)
{
    json_t *expected = get(row, "expected");
    const char *texts[MOST_TEXTS], *others[MOST_TEXTS];
    size_t n = strings_of(get(row, "answers"), texts);
    qn_squad *squad = qn_squad_new(qn);
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        json_t *wanted = json_array_get(get(expected, "rows"), i);
        struct qn_squad_result one;
        size_t count = strings_of(json_array_get(get(row, "references"), i), others);
        good = same_text(qn_squad_normalise(qn, texts[i]),
                         json_string_value(get(wanted, "normalised"))) &&
               qn_squad_add(squad, texts[i], others, count, &one) == QN_OK &&
               is(wanted, "exact_match", one.exact_match) && is(wanted, "f1", one.f1) && good;
        for (size_t j = 0; j < count; j++)
            good = same_text(qn_squad_normalise(qn, others[j]),
                             json_string_value(
                                 json_array_get(get(wanted, "normalised_references"), j))) &&
                   good;
    }
    struct qn_squad_result result = qn_squad_result(squad);
    ok(good && is(expected, "exact_match", result.exact_match) && is(expected, "f1", result.f1),
       "SQuAD %s", name);
    qn_squad_free(squad);
}

static bool is_ratios(json_t *expected, struct qn_ratios found)
{
    json_t *f1 = json_object_get(expected, "f1");
    return is(expected, "precision", found.precision) && is(expected, "recall", found.recall) &&
           is(expected, f1 ? "f1" : "f1-score", found.f1);
}

static bool is_report(json_t *report, const qn_spans *spans)
{
    struct qn_spans_result result = qn_spans_result(spans);
    bool good = json_object_size(report) == result.types + 3 &&
                is_ratios(get(report, "micro avg"), result.micro) &&
                is_ratios(get(report, "macro avg"), result.macro) &&
                is_ratios(get(report, "weighted avg"), result.weighted) &&
                is(get(report, "micro avg"), "support", (double)result.support);
    for (size_t i = 0; i < result.types; i++) {
        struct qn_span_type type = qn_spans_type(spans, i);
        good = is_ratios(get(report, type.name), type.ratios) &&
               is(get(report, type.name), "support", (double)type.support) && good;
    }
    return good;
}

static void golden_spans(const char *name, json_t *row)
{
    json_t *expected = get(row, "expected");
    for (int strict = 0; strict < 2; strict++) {
        json_t *wanted = get(expected, strict ? "strict_IOB2" : "lenient"), *tags;
        qn_spans *spans = qn_spans_new(qn, strict);
        size_t index;
        json_array_foreach (get(row, "gold"), index, tags) {
            const char *gold[MOST_TEXTS], *predicted[MOST_TEXTS];
            size_t count = strings_of(tags, gold);
            strings_of(json_array_get(get(row, "predicted"), index), predicted);
            if (qn_spans_add(spans, gold, predicted, count) != QN_OK)
                bail_out("%s", qn_error(qn));
        }
        struct qn_spans_result result = qn_spans_result(spans);
        ok(is_ratios(wanted, result.micro) && is_report(get(wanted, "report"), spans) &&
               is(expected, "accuracy", result.accuracy),
           "spans %s, %s", name, strict ? "strict" : "lenient");
        qn_spans_free(spans);
    }
}

static void golden_classes(const char *name, json_t *row)
{
    json_t *expected = get(row, "expected"), *value;
    size_t classes = (size_t)number(row, "classes"), index;
    qn_classification *found = qn_classification_new(qn, classes);
    json_array_foreach (get(row, "gold"), index, value) {
        json_t *predicted = json_array_get(get(row, "predicted"), index);
        qn_classification_add(found, (size_t)json_integer_value(value),
                              (size_t)json_integer_value(predicted));
    }
    struct qn_classification_result result = qn_classification_result(found);
    bool good = is(expected, "accuracy", result.accuracy) &&
                is_ratios(get(expected, "micro"), result.micro) &&
                is_ratios(get(expected, "macro"), result.macro) &&
                is_ratios(get(expected, "weighted"), result.weighted);
    for (size_t i = 0; i < classes; i++) {
        struct qn_class_scores one = qn_classification_class(found, i);
        value = json_array_get(get(expected, "by_class"), i);
        good = is_ratios(value, one.ratios) && is(value, "support", (double)one.support) && good;
        value = json_array_get(get(expected, "confusion_matrix"), i);
        for (size_t j = 0; j < classes; j++)
            good = (json_int_t)qn_classification_count(found, i, j) ==
                       json_integer_value(json_array_get(value, j)) &&
                   good;
    }
    ok(good, "classes %s", name);
    qn_classification_free(found);
}

static double sum_of(json_t *array)
{
    size_t index;
    json_t *value;
    double sum = 0;
    json_array_foreach (array, index, value)
        sum += json_number_value(value);
    return sum;
}

static void golden_perplexity(const char *name, json_t *row)
{
    json_t *expected = get(row, "expected"), *values;
    size_t index, tokens = 0;
    double nll = 0;
    bool good = true;
    json_array_foreach (get(row, "log_probabilities"), index, values) {
        struct qn_perplexity one = qn_perplexity(-sum_of(values), json_array_size(values), 0);
        good = near(one.perplexity,
                    json_number_value(json_array_get(get(expected, "row_perplexity"), index))) &&
               good;
        nll -= sum_of(values);
        tokens += json_array_size(values);
    }
    struct qn_perplexity all = qn_perplexity(nll, tokens, (size_t)sum_of(get(row, "bytes")));
    ok(good && is(expected, "tokens", (double)tokens) && is(expected, "mean_nll", all.mean_nll) &&
           is(expected, "perplexity", all.perplexity) &&
           is(expected, "bits_per_token", all.bits_per_token) &&
           is(expected, "bits_per_byte", all.bits_per_byte),
       "perplexity %s", name);
}

static void test_golden(void)
{
    static const struct {
        const char *file;
        void (*test)(const char *name, json_t *row);
    } files[] = {{"bleu", golden_bleu},
                 {"chrf", golden_chrf},
                 {"rouge", golden_rouge},
                 {"squad", golden_squad},
                 {"spans", golden_spans},
                 {"classification", golden_classes},
                 {"perplexity", golden_perplexity}};
    json_t *index = read_index();
    if (!index) {
        skip("../shared/golden is not there");
        return;
    }
    json_decref(index);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[sizeof golden_folder + 32];
        json_error_t error;
        snprintf(path, sizeof path, "%s/metrics/%s.json", golden_folder, files[i].file);
        json_t *sets = json_load_file(path, 0, &error), *row;
        const char *name;
        if (!sets)
            bail_out("%s: %s", path, error.text);
        json_object_foreach (sets, name, row)
            files[i].test(name, row);
        json_decref(sets);
    }
}

int main(void)
{
    open_host();
    test_words();
    test_stems();
    test_bleu();
    test_chrf();
    test_rouge();
    test_spans();
    test_classes();
    test_golden();
    qn_close(qn);
    return done_testing();
}

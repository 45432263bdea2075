/* quern score spans: tags in CoNLL's columns, or those of a sentence a line. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "io/file.h"
#include "text/score/spans.h"

/* ---- Reading ---- */

/* The tags of the sentence that is being read, of both sides. */
struct sentence {
    const char **gold, **predicted;
    size_t count, gold_capacity, predicted_capacity;
};

struct reader {
    qn_context *qn;
    qn_spans *spans;
    bool strict;
    struct lines gold, predicted;
    struct sentence sentence;
};

static bool fail_at(const struct reader *reader, const struct lines *lines, size_t line,
                    const char *expected, const char *found)
{
    char quoted[QUOTED];
    context_fail(reader->qn, QN_ERROR_FORMAT, "%s: line %zu: expected %s, found %s", lines->name,
                 line + 1, expected, quote_string(quoted, found));
    return false;
}

static bool add_tags(struct reader *reader, size_t line, const char *gold, const char *predicted)
{
    struct sentence *sentence = &reader->sentence;
    if (!is_tag(gold, reader->strict))
        return fail_at(reader, &reader->gold, line, tag_forms(reader->strict), gold);
    if (!is_tag(predicted, reader->strict))
        return fail_at(reader, &reader->predicted, line, tag_forms(reader->strict), predicted);
    const char **grown = context_grow(reader->qn, sentence->gold, sentence->count,
                                      &sentence->gold_capacity, sizeof *sentence->gold);
    if (!grown)
        return false;
    sentence->gold = grown;
    grown = context_grow(reader->qn, sentence->predicted, sentence->count,
                         &sentence->predicted_capacity, sizeof *sentence->predicted);
    if (!grown)
        return false;
    sentence->predicted = grown;
    sentence->gold[sentence->count] = gold;
    sentence->predicted[sentence->count++] = predicted;
    return true;
}

static bool end_sentence(struct reader *reader)
{
    struct sentence *sentence = &reader->sentence;
    if (sentence->count > 0 &&
        qn_spans_add(reader->spans, sentence->gold, sentence->predicted, sentence->count) != QN_OK)
        return false;
    sentence->count = 0;
    return true;
}

/* Cuts the next word off a line; NULL at its end. */
static char *next_word(char **line)
{
    char *word = *line + strspn(*line, " \t");
    if (!*word)
        return NULL;
    char *end = word + strcspn(word, " \t");
    *line = end + (*end != '\0');
    *end = '\0';
    return word;
}

/* ---- Columns ---- */

struct columns {
    const char *first, *last; /* NULL: an empty line */
    size_t count;
    size_t tags; /* of them that are tags with a type */
};

static struct columns columns_of(char *line)
{
    struct columns columns = {0};
    for (char *word; (word = next_word(&line));) {
        columns.first = columns.first ? columns.first : word;
        columns.last = word;
        columns.count++;
        columns.tags += is_tag(word, false) && word[1] == '-';
    }
    return columns;
}

/* Checks a line against the first one of its file, whose number of columns is in *count. */
static bool check_columns(const struct reader *reader, const struct lines *lines, size_t line,
                          const struct columns *columns, size_t *count)
{
    *count = *count ? *count : columns->count;
    if (columns->tags > 1) {
        context_fail(reader->qn, QN_ERROR_FORMAT,
                     "%s: line %zu: expected a token and its tag, found %zu tags: give --tags "
                     "lines if a line has those "
                     "of a whole sentence",
                     lines->name, line + 1, columns->tags);
        return false;
    }
    if (columns->count == *count)
        return true;
    context_fail(reader->qn, QN_ERROR_FORMAT,
                 "%s: line %zu: expected %zu columns, as above, found %zu", lines->name, line + 1,
                 *count, columns->count);
    return false;
}

static bool read_columns(struct reader *reader)
{
    size_t gold_count = 0, predicted_count = 0;
    for (size_t i = 0; i < reader->gold.count; i++) {
        struct columns gold = columns_of(reader->gold.at[i]),
                       predicted = columns_of(reader->predicted.at[i]);
        if (!gold.first && !predicted.first) {
            if (!end_sentence(reader))
                return false;
            continue;
        }
        if (!gold.first || !predicted.first)
            return fail_at(reader, &reader->predicted, i,
                           gold.first ? "a token" : "an empty line, as the gold tags have",
                           predicted.first ? predicted.first : "");
        if (!check_columns(reader, &reader->gold, i, &gold, &gold_count) ||
            !check_columns(reader, &reader->predicted, i, &predicted, &predicted_count))
            return false;
        if (gold.count > 1 && predicted.count > 1 && strcmp(gold.first, predicted.first) != 0) {
            char expected[QUOTED + 32], quoted[QUOTED];
            snprintf(expected, sizeof expected, "the token %s", quote_string(quoted, gold.first));
            return fail_at(reader, &reader->predicted, i, expected, predicted.first);
        }
        if (!add_tags(reader, i, gold.last, predicted.last))
            return false;
    }
    return end_sentence(reader);
}

/* ---- Lines ---- */

static bool read_sequences(struct reader *reader)
{
    for (size_t i = 0; i < reader->gold.count; i++) {
        char *gold_line = reader->gold.at[i], *predicted_line = reader->predicted.at[i];
        for (;;) {
            const char *gold = next_word(&gold_line), *predicted = next_word(&predicted_line);
            if (!gold && !predicted)
                break;
            if (!gold || !predicted)
                return fail_at(reader, &reader->predicted, i, gold ? "more tags" : "no more tags",
                               predicted ? predicted : "");
            if (!add_tags(reader, i, gold, predicted))
                return false;
        }
        if (!end_sentence(reader))
            return false;
    }
    return true;
}

bool spans_read(qn_spans *spans, qn_context *qn, const char *gold, const char *predicted,
                bool in_columns, bool strict)
{
    struct reader reader = {.qn = qn, .spans = spans, .strict = strict};
    bool is_good = lines_read(&reader.predicted, qn, predicted, false) &&
                   lines_read(&reader.gold, qn, gold, false) &&
                   lines_match(qn, &reader.predicted, &reader.gold) &&
                   (in_columns ? read_columns(&reader) : read_sequences(&reader));
    lines_release(&reader.gold);
    lines_release(&reader.predicted);
    free(reader.sentence.gold);
    free(reader.sentence.predicted);
    return is_good;
}

/* ---- Printing ---- */

static json_t *json_of_spans(const qn_spans *spans)
{
    struct qn_spans_result result = qn_spans_result(spans);
    json_t *by_type = json_object();
    for (size_t i = 0; i < result.types; i++) {
        struct qn_span_type type = qn_spans_type(spans, i);
        json_t *scores = json_of_ratios(type.ratios);
        json_object_set_new(scores, "support", json_integer((json_int_t)type.support));
        json_object_set_new(scores, "predicted", json_integer((json_int_t)type.predicted));
        json_object_set_new(scores, "correct", json_integer((json_int_t)type.correct));
        json_object_set_new(by_type, type.name, scores);
    }
    return json_pack("{so, so, so, so, sf, sI, sI, sI, sI}", "micro", json_of_ratios(result.micro),
                     "macro", json_of_ratios(result.macro), "weighted",
                     json_of_ratios(result.weighted), "by_type", by_type, "accuracy",
                     result.accuracy, "tags", (json_int_t)result.tags, "support",
                     (json_int_t)result.support, "predicted", (json_int_t)result.predicted,
                     "correct", (json_int_t)result.correct);
}

/* As conlleval does. */
static void print_percent(struct qn_ratios ratios)
{
    printf("precision: %6.2f%%; recall: %6.2f%%; FB1: %6.2f", 100 * ratios.precision,
           100 * ratios.recall, 100 * ratios.f1);
}

static int print_spans(const struct options *options, const qn_spans *spans)
{
    if (options_flag(options, "json"))
        return print_json(json_of_spans(spans));
    struct qn_spans_result result = qn_spans_result(spans);
    printf("processed %zu tokens with %zu phrases; found: %zu phrases; correct: %zu.\n",
           result.tags, result.support, result.predicted, result.correct);
    printf("accuracy: %6.2f%%; ", 100 * result.accuracy);
    print_percent(result.micro);
    putchar('\n');
    for (size_t i = 0; i < result.types; i++) {
        struct qn_span_type type = qn_spans_type(spans, i);
        printf("%17s: ", type.name);
        print_percent(type.ratios);
        printf("  %zu\n", type.predicted);
    }
    return EXIT_SUCCESS;
}

int score_spans(const struct options *options, qn_context *qn)
{
    const char *path = options_operands(options) > 1 ? options_operand_at(options, 1) : NULL;
    bool strict = options_flag(options, "strict");
    bool in_columns = strcmp(options_string(options, "tags"), "columns") == 0;
    qn_spans *spans = qn_spans_new(qn, strict);
    int status = EXIT_FAILED;
    if (spans &&
        spans_read(spans, qn, options_at(options, "reference", 0), path, in_columns, strict))
        status = print_spans(options, spans);
    qn_spans_free(spans);
    return status;
}

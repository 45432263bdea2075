/* quern score squad: answers, one a line or in SQuAD's JSON files. */
#include "cli/score/score.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "io/fields.h"
#include "io/file.h"

enum { MAX_FILE = 1 << 30 };

/* ---- SQuAD's files ---- */

struct reader {
    qn_squad *squad;
    qn_context *qn;
    const char *path; /* of the data set */
    json_t *predictions;
    const char *predictions_path;
    size_t unanswered;
};

/* The right answers of a question into `texts`, as SQuAD 2.0's script takes them: those of which
 * something is left when normalised; an empty one if there is none.  Their number, or 0 and an
 * error. */
static size_t right_answers(const struct reader *reader, const json_t *answers, const char **texts)
{
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(answers); i++) {
        struct fields answer = fields_of(reader->qn, reader->path, json_array_get(answers, i));
        answer.within = "answers";
        const char *text = fields_string(&answer, "text");
        char *normal = answer.failed ? NULL : qn_squad_normalise(reader->qn, text);
        if (!normal)
            return 0;
        if (*normal)
            texts[used++] = text;
        free(normal);
    }
    if (used == 0)
        texts[used++] = "";
    return used;
}

static bool add_answer(struct reader *reader, const char *id, const char *const *texts,
                       size_t count)
{
    const json_t *predicted = json_object_get(reader->predictions, id);
    if (!predicted) {
        reader->unanswered++;
        return qn_squad_miss(reader->squad) == QN_OK;
    }
    if (json_is_string(predicted))
        return qn_squad_add(reader->squad, json_string_value(predicted), texts, count, NULL) ==
               QN_OK;
    char found[DESCRIBED], quoted[QUOTED];
    context_fail(reader->qn, QN_ERROR_FORMAT,
                 "%s: answer to question %s: expected a string, found %s", reader->predictions_path,
                 quote_string(quoted, id), describe(found, predicted));
    return false;
}

static bool read_question(struct reader *reader, const json_t *json)
{
    struct fields question = fields_of(reader->qn, reader->path, json);
    question.within = "qas";
    const char *id = fields_string(&question, "id");
    const json_t *answers = fields_array(&question, "answers");
    const char **texts =
        question.failed ? NULL
                        : context_alloc(reader->qn, json_array_size(answers) + 1, sizeof *texts);
    size_t count = texts ? right_answers(reader, answers, texts) : 0;
    bool is_good = count > 0 && add_answer(reader, id, texts, count);
    free(texts);
    return is_good;
}

static bool read_paragraphs(struct reader *reader, const json_t *article)
{
    struct fields of_article = fields_of(reader->qn, reader->path, article);
    of_article.within = "data";
    const json_t *paragraphs = fields_array(&of_article, "paragraphs");
    for (size_t i = 0; !of_article.failed && i < json_array_size(paragraphs); i++) {
        struct fields paragraph =
            fields_of(reader->qn, reader->path, json_array_get(paragraphs, i));
        paragraph.within = "paragraphs";
        const json_t *questions = fields_array(&paragraph, "qas");
        if (paragraph.failed)
            return false;
        for (size_t j = 0; j < json_array_size(questions); j++)
            if (!read_question(reader, json_array_get(questions, j)))
                return false;
    }
    return !of_article.failed;
}

bool squad_read(qn_squad *squad, qn_context *qn, const char *dataset, const char *predictions,
                size_t *unanswered)
{
    struct reader reader = {
        .squad = squad, .qn = qn, .path = dataset, .predictions_path = predictions};
    json_t *json = json_file_read(qn, dataset, MAX_FILE);
    reader.predictions = json ? json_file_read(qn, predictions, MAX_FILE) : NULL;
    bool is_good = reader.predictions != NULL;
    if (is_good) {
        struct fields fields = fields_of(qn, dataset, json);
        const json_t *articles = fields_array(&fields, "data");
        is_good = !fields.failed;
        for (size_t i = 0; is_good && i < json_array_size(articles); i++)
            is_good = read_paragraphs(&reader, json_array_get(articles, i));
    }
    if (is_good && qn_squad_result(squad).answers == 0) {
        context_fail(qn, QN_ERROR_FORMAT, "%s: no questions", dataset);
        is_good = false;
    }
    json_decref(reader.predictions);
    json_decref(json);
    *unanswered = reader.unanswered;
    return is_good;
}

/* ---- Lines ---- */

static bool add_lines(qn_squad *squad, const struct options *options, qn_context *qn)
{
    struct comparison comparison;
    bool is_good = comparison_read(&comparison, options, qn);
    const char **references =
        is_good ? context_alloc(qn, comparison.n_references, sizeof *references) : NULL;
    is_good = references != NULL;
    for (size_t i = 0; is_good && i < comparison.hypotheses.count; i++) {
        comparison_references(&comparison, i, references);
        is_good = qn_squad_add(squad, comparison.hypotheses.at[i], references,
                               comparison.n_references, NULL) == QN_OK;
    }
    free(references);
    comparison_release(&comparison);
    return is_good;
}

/* ---- The command ---- */

static bool ends_in_json(const char *path)
{
    size_t length = strlen(path);
    return length >= 5 && strcmp(path + length - 5, ".json") == 0;
}

static int print_answers(const struct options *options, const struct qn_squad_result *result,
                         size_t unanswered)
{
    if (options_flag(options, "json"))
        return print_json(json_pack("{sf, sf, sI, sI}", "exact_match", result->exact_match, "f1",
                                    result->f1, "answers", (json_int_t)result->answers,
                                    "unanswered", (json_int_t)unanswered));
    printf("exact match  %.2f\nF1           %.2f\nanswers      %zu", result->exact_match,
           result->f1, result->answers);
    if (unanswered)
        printf(", %zu of them missing", unanswered);
    putchar('\n');
    return EXIT_SUCCESS;
}

int score_squad(const struct options *options, qn_context *qn)
{
    const char *reference = options_at(options, "reference", 0);
    const char *path =
        options_operands(options) > 1 ? options_operand_at(options, 1) : "/dev/stdin";
    size_t unanswered = 0;
    if (ends_in_json(reference) && options_count(options, "reference") > 1)
        return usage_error(options, "SQuAD's data set has all references: one --reference, not %zu",
                           options_count(options, "reference"));
    qn_squad *squad = qn_squad_new(qn);
    bool is_good =
        squad && (ends_in_json(reference) ? squad_read(squad, qn, reference, path, &unanswered)
                                          : add_lines(squad, options, qn));
    struct qn_squad_result result = qn_squad_result(squad);
    qn_squad_free(squad);
    return is_good ? print_answers(options, &result, unanswered) : EXIT_FAILED;
}

/* quern predict: what a classifier says of texts, and how often it is right. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quern/score.h>

#include "cli/classes.h"
#include "cli/model.h"
#include "cli/score/score.h"
#include "cli/train/corpus.h"

/* What was found of a record. */
struct prediction {
    int32_t label, right; /* -1: there is no right one */
};

struct predictor {
    const struct options *options;
    qn_context *qn;
    qn_classifier *classifier;
    qn_tokenizer *tokenizer;
    qn_records *records;
    qn_batches *batches;
    struct prediction *found; /* by record */
    float *probabilities;     /* of each, by label; NULL: nobody wants them */
    size_t n_labels;
};

/* ---- Reading ---- */

static int open_model(struct predictor *predictor)
{
    const struct options *options = predictor->options;
    predictor->qn = qn_open_with(&(struct qn_options){.device = options_string(options, "device"),
                                                      .gemm = options_string(options, "gemm")});
    if (!predictor->qn)
        return failure(options, "%s", qn_error(NULL));
    char *folder = qn_model_folder(predictor->qn, options_operand(options));
    if (folder && qn_model_kind(predictor->qn, folder) != QN_MODEL_CLASSIFIER) {
        int status = failure(options, "%s is no classifier: `quern train classify` makes one",
                             options_operand(options));
        free(folder);
        return status;
    }
    if (folder)
        predictor->classifier = qn_classifier_load(predictor->qn, folder);
    if (predictor->classifier)
        predictor->tokenizer = qn_tokenizer_load(predictor->qn, folder);
    int status = EXIT_SUCCESS;
    if (!predictor->tokenizer)
        status = failure(options, "%s", qn_error(predictor->qn));
    else
        status = model_check_vocabulary(folder, predictor->tokenizer,
                                        qn_classifier_config(predictor->classifier)->vocab_size,
                                        options);
    free(folder);
    return status;
}

/* Standard input as a file that can be mapped: as it is, or a copy, whose path is for the caller to unlink and free(). */
static char *copy_of_stdin(const struct options *options)
{
    struct stat status;
    if (fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode))
        return strdup("/dev/stdin");
    char path[] = "/tmp/quern-texts-XXXXXX", block[1 << 14];
    int copy = mkstemp(path);
    FILE *file = copy >= 0 ? fdopen(copy, "wb") : NULL;
    for (size_t count; file && (count = fread(block, 1, sizeof block, stdin)) > 0;)
        fwrite(block, 1, count, file);
    bool is_whole = file && !ferror(stdin) && !ferror(file);
    if (file && fclose(file) == 0 && is_whole)
        return strdup(path);
    failure(options, "cannot copy standard input to %s: %s", path, strerror(errno));
    if (copy >= 0)
        unlink(path);
    return NULL;
}

static void report_damaged(void *user, const char *message)
{
    (void)user;
    fprintf(stderr, "skipped     %s\n", message);
}

static qn_records *records_of(struct predictor *predictor, const char *path, bool has_labels)
{
    const struct options *options = predictor->options;
    enum qn_record_format format =
        (enum qn_record_format)examples_format(options_string(options, "format"), path);
    const char *fields[] = {examples_field(options_string(options, "text"), format, 0),
                            examples_field(options_string(options, "label"), format, 1)};
    struct qn_record_options reading = {.format = format,
                                        .paths = &path,
                                        .n_paths = 1,
                                        .fields = fields,
                                        .n_fields = has_labels ? 2 : 1,
                                        .report = report_damaged};
    reading.is_strict = strcmp(options_string(options, "damaged"), "stop") == 0;
    return qn_records_open(predictor->qn, &reading);
}

static int read_data(struct predictor *predictor)
{
    const struct options *options = predictor->options;
    const char *data = options_string(options, "data");
    bool has_labels = options_flag(options, "score");
    char *path = data ? strdup(data) : copy_of_stdin(options);
    if (!path)
        return EXIT_FAILED;
    predictor->records = records_of(predictor, path, has_labels);
    if (!data && strcmp(path, "/dev/stdin") != 0)
        unlink(path);
    free(path);
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    if (predictor->records)
        predictor->batches = examples_batches(
            predictor->records, predictor->tokenizer, has_labels ? labels : NULL,
            (struct qn_batch_options){.rows = (size_t)options_integer(options, "batch")},
            qn_classifier_config(predictor->classifier)->max_length);
    return predictor->batches ? EXIT_SUCCESS : failure(options, "%s", qn_error(predictor->qn));
}

/* ---- Predicting ---- */

static int note(void *user, size_t record, const float *scores, int32_t right)
{
    struct predictor *predictor = user;
    int32_t best = 0;
    for (size_t i = 1; i < predictor->n_labels; i++)
        if (scores[i] > scores[best])
            best = (int32_t)i;
    predictor->found[record] = (struct prediction){best, right};
    for (size_t i = 0; predictor->probabilities && i < predictor->n_labels; i++)
        predictor->probabilities[record * predictor->n_labels + i] = expf(scores[i]);
    return isfinite(scores[best]) ? QN_OK : QN_ERROR_NOT_FINITE;
}

static int predict(struct predictor *predictor)
{
    const struct options *options = predictor->options;
    size_t count = qn_records_count(predictor->records);
    bool wants_all = options_flag(options, "probabilities") || options_flag(options, "json");
    predictor->n_labels = qn_labels_count(qn_classifier_labels(predictor->classifier));
    predictor->found = malloc(count * sizeof *predictor->found);
    if (wants_all && !options_flag(options, "score"))
        predictor->probabilities = calloc(count, predictor->n_labels * sizeof(float));
    if (!predictor->found ||
        (wants_all && !predictor->probabilities && !options_flag(options, "score")))
        return failure(options, "out of memory");
    for (size_t i = 0; i < count; i++)
        predictor->found[i] = (struct prediction){-1, -1};
    struct classes *classes = classes_new(predictor->classifier, predictor->batches);
    int status = classes ? classes_measure(classes, NULL, note, predictor) : QN_ERROR_MEMORY;
    classes_free(classes);
    if (status == QN_ERROR_NOT_FINITE)
        return failure(options, "the scores are not finite: the model's weights are damaged");
    return status == QN_OK ? EXIT_SUCCESS : failure(options, "%s", qn_error(predictor->qn));
}

/* ---- Labels ---- */

static void print_json_line(const struct predictor *predictor, size_t record)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    json_t *probabilities = json_object();
    for (size_t i = 0; i < predictor->n_labels; i++)
        json_object_set_new(
            probabilities, qn_labels_name(labels, i),
            json_real((double)predictor->probabilities[record * predictor->n_labels + i]));
    json_t *line = json_pack("{s:s, s:o}", "label",
                             qn_labels_name(labels, (size_t)predictor->found[record].label),
                             "probabilities", probabilities);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(line);
}

static void print_labels(const struct predictor *predictor)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    bool is_json = options_flag(predictor->options, "json");
    for (size_t i = 0; i < qn_records_count(predictor->records); i++) {
        if (predictor->found[i].label < 0) /* it was skipped */
            continue;
        if (is_json) {
            print_json_line(predictor, i);
            continue;
        }
        fputs(qn_labels_name(labels, (size_t)predictor->found[i].label), stdout);
        for (size_t j = 0; predictor->probabilities && j < predictor->n_labels; j++)
            printf("\t%.6f", (double)predictor->probabilities[i * predictor->n_labels + j]);
        putchar('\n');
    }
}

/* ---- Scores ---- */

/* The label that is right most often, and in how many rows: what one reaches without looking at the texts. */
static size_t most_frequent(const qn_classification *classification, size_t n_labels, size_t *rows)
{
    size_t best = 0;
    *rows = 0;
    for (size_t i = 0; i < n_labels; i++) {
        size_t support = qn_classification_class(classification, i).support;
        if (support > *rows) {
            *rows = support;
            best = i;
        }
    }
    return best;
}

static void print_confusion(const struct predictor *predictor,
                            const qn_classification *classification, int width)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    printf("\nconfusion: a row for each right label, a column for each that was found\n%*s", width,
           "");
    for (size_t i = 0; i < predictor->n_labels; i++)
        printf(" %6zu", i);
    putchar('\n');
    for (size_t i = 0; i < predictor->n_labels; i++) {
        printf("%3zu %-*s", i, width - 4, qn_labels_name(labels, i));
        for (size_t j = 0; j < predictor->n_labels; j++)
            printf(" %6zu", qn_classification_count(classification, i, j));
        putchar('\n');
    }
}

static void print_scores(const struct predictor *predictor, const qn_classification *classification)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    struct qn_classification_result result = qn_classification_result(classification);
    size_t rows, frequent = most_frequent(classification, predictor->n_labels, &rows);
    int width = 9;
    for (size_t i = 0; i < predictor->n_labels; i++)
        width = (int)fmax(width, (double)strlen(qn_labels_name(labels, i)) + 4);
    printf("accuracy    %.2f%% of %zu texts\n", 100 * result.accuracy, result.rows);
    printf("majority    %.2f%%: always \"%s\"\n", 100 * (double)rows / (double)result.rows,
           qn_labels_name(labels, frequent));
    printf("macro F1    %.4f\n\n%-*s  precision  recall      F1  texts\n", result.macro.f1, width,
           "label");
    for (size_t i = 0; i < predictor->n_labels; i++) {
        struct qn_class_scores scores = qn_classification_class(classification, i);
        printf("%3zu %-*s  %9.4f  %6.4f  %6.4f  %5zu\n", i, width - 4, qn_labels_name(labels, i),
               scores.ratios.precision, scores.ratios.recall, scores.ratios.f1, scores.support);
    }
    print_confusion(predictor, classification, width);
}

static json_t *scores_json(const struct predictor *predictor,
                           const qn_classification *classification)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    struct qn_classification_result result = qn_classification_result(classification);
    size_t majority;
    most_frequent(classification, predictor->n_labels, &majority);
    json_t *classes = json_object(), *confusion = json_array();
    for (size_t i = 0; i < predictor->n_labels; i++) {
        struct qn_class_scores scores = qn_classification_class(classification, i);
        json_t *class = json_of_ratios(scores.ratios), *row = json_array();
        json_object_set_new(class, "support", json_integer((json_int_t)scores.support));
        json_object_set_new(classes, qn_labels_name(labels, i), class);
        for (size_t j = 0; j < predictor->n_labels; j++)
            json_array_append_new(
                row, json_integer((json_int_t)qn_classification_count(classification, i, j)));
        json_array_append_new(confusion, row);
    }
    return json_pack("{s:f, s:f, s:o, s:o, s:o, s:o, s:I}", "accuracy", result.accuracy, "majority",
                     (double)majority / (double)result.rows, "macro", json_of_ratios(result.macro),
                     "weighted", json_of_ratios(result.weighted), "classes", classes, "confusion",
                     confusion, "texts", (json_int_t)result.rows);
}

static int score(const struct predictor *predictor)
{
    qn_classification *classification = qn_classification_new(predictor->qn, predictor->n_labels);
    int status = classification ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < qn_records_count(predictor->records); i++)
        if (predictor->found[i].right >= 0)
            status = qn_classification_add(classification, (size_t)predictor->found[i].right,
                                           (size_t)predictor->found[i].label);
    int result = EXIT_SUCCESS;
    if (status != QN_OK)
        result = failure(predictor->options, "%s", qn_error(predictor->qn));
    else if (options_flag(predictor->options, "json"))
        result = print_json(scores_json(predictor, classification));
    else
        print_scores(predictor, classification);
    qn_classification_free(classification);
    return result;
}

int command_predict(const struct options *options)
{
    struct predictor predictor = {.options = options};
    int status = open_model(&predictor);
    if (status == EXIT_SUCCESS)
        status = read_data(&predictor);
    if (status == EXIT_SUCCESS)
        status = predict(&predictor);
    if (status == EXIT_SUCCESS && options_flag(options, "score"))
        status = score(&predictor);
    else if (status == EXIT_SUCCESS)
        print_labels(&predictor);
    free(predictor.found);
    free(predictor.probabilities);
    qn_batches_free(predictor.batches);
    qn_records_close(predictor.records);
    qn_tokenizer_free(predictor.tokenizer);
    qn_classifier_free(predictor.classifier);
    qn_close(predictor.qn);
    return status;
}

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
#include "cli/train/examples.h"

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
    enum qn_record_format format;
    qn_batches *batches;
    bool is_silent;           /* about records that are skipped: never */
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
    char *folder = model_find(predictor->qn, QN_MODEL_CLASSIFIER,
                              "no classifier: `quern train classify` makes one", options);
    if (!folder)
        return EXIT_FAILED;
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

/* Standard input as a file, from where it stands: as it is, or a copy that goes with its descriptor.  A descriptor; -1: a message was printed. */
static int file_of_stdin(const struct options *options)
{
    struct stat status;
    const char *folder = getenv("TMPDIR");
    char path[4096], block[1 << 14];
    if (fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) &&
        lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
        return dup(STDIN_FILENO);
    snprintf(path, sizeof path, "%s/quern-XXXXXX", folder ? folder : "/tmp");
    int copy = mkstemp(path);
    if (copy >= 0)
        unlink(path);
    bool is_whole = copy >= 0;
    for (size_t count; is_whole && (count = fread(block, 1, sizeof block, stdin)) > 0;)
        is_whole = write(copy, block, count) == (ssize_t)count;
    if (is_whole && !ferror(stdin))
        return copy;
    failure(options, "cannot copy standard input to %s: %s", path, strerror(errno));
    if (copy >= 0)
        close(copy);
    return -1;
}

/* Plain lines are texts, and have no fields. */
static int check_fields(const struct options *options, enum qn_record_format format)
{
    if (format != QN_LINES)
        return EXIT_SUCCESS;
    if (options_flag(options, "score"))
        return failure(options, "--score: plain lines have no labels; --format says what records "
                                "there are, if the file's name does not");
    if (options_given(options, "text") || options_given(options, "label"))
        return failure(options,
                       "--%s means nothing to plain lines; --format says what records "
                       "there are, if the file's name does not",
                       options_given(options, "text") ? "text" : "label");
    return EXIT_SUCCESS;
}

/* `name`: what messages call the file. */
static qn_records *open_records(struct predictor *predictor, const char *path, const char *name)
{
    const struct options *options = predictor->options;
    const struct labelled_fields named = {options_string(options, "format"),
                                          options_string(options, "text"),
                                          options_string(options, "label")};
    const char *fields[LABELLED_FIELDS];
    struct qn_record_options reading = labelled_options(&named, &path, 1, fields);
    predictor->format = reading.format = (enum qn_record_format)labelled_format(named.format, name);
    reading.names = &name;
    reading.n_fields = options_flag(options, "score") ? LABELLED_FIELDS : 1;
    reading.is_strict = strcmp(options_string(options, "damaged"), "stop") == 0;
    reading.report = report_skipped;
    return qn_records_open(predictor->qn, &reading);
}

static int read_data(struct predictor *predictor)
{
    const struct options *options = predictor->options;
    const char *data = options_string(options, "data"), *name = data ? data : "standard input";
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    enum qn_record_format format =
        (enum qn_record_format)labelled_format(options_string(options, "format"), name);
    int status = check_fields(options, format), descriptor = -1;
    char path[64];
    if (status == EXIT_SUCCESS && !data)
        descriptor = file_of_stdin(options);
    if (status != EXIT_SUCCESS || (!data && descriptor < 0))
        return EXIT_FAILED;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    predictor->records = open_records(predictor, data ? data : path, name);
    if (descriptor >= 0)
        close(descriptor);
    if (predictor->records)
        predictor->batches = labelled_batches(
            predictor->records, predictor->tokenizer,
            options_flag(options, "score") ? labels : NULL,
            (struct qn_batch_options){.rows = (size_t)options_integer(options, "batch")},
            qn_classifier_config(predictor->classifier)->max_length);
    return predictor->batches ? EXIT_SUCCESS : failure(options, "%s", qn_error(predictor->qn));
}

/* ---- Predicting ---- */

static int note(void *user, size_t record, const float *scores, int32_t right)
{
    struct predictor *predictor = user;
    int32_t best = (int32_t)likeliest_label(scores, predictor->n_labels);
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
    json_t *line = json_pack("{s:I, s:s, s:o}", "line",
                             (json_int_t)qn_records_line(predictor->records, record), "label",
                             qn_labels_name(labels, (size_t)predictor->found[record].label),
                             "probabilities", probabilities);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(line);
}

/* A line that was skipped leaves an empty one, so that lines in and out belong together. */
static void print_labels(const struct predictor *predictor)
{
    const qn_labels *labels = qn_classifier_labels(predictor->classifier);
    bool is_json = options_flag(predictor->options, "json"),
         keeps_lines = predictor->format != QN_COLUMNS && !is_json;
    size_t count = qn_records_count(predictor->records), line = 1,
           all = count + qn_records_skipped(predictor->records);
    for (size_t i = 0; i < count; i++) {
        if (predictor->found[i].label < 0) /* it was skipped later */
            continue;
        for (size_t at = qn_records_line(predictor->records, i); keeps_lines && line < at; line++)
            putchar('\n');
        line++;
        if (is_json) {
            print_json_line(predictor, i);
            continue;
        }
        fputs(qn_labels_name(labels, (size_t)predictor->found[i].label), stdout);
        for (size_t j = 0; predictor->probabilities && j < predictor->n_labels; j++)
            printf("\t%.6f", (double)predictor->probabilities[i * predictor->n_labels + j]);
        putchar('\n');
    }
    for (; keeps_lines && line <= all; line++)
        putchar('\n');
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

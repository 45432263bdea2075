/* The examples of a classifier: records of files, their labels, and batches. */
#include "cli/train/examples.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* The fields of a record. */
enum { TEXT, LABEL };

/* ---- Files ---- */

int labelled_format(const char *named, const char *path)
{
    return named ? qn_record_format_named(named) : (int)qn_record_format_of(path);
}

/* Where a field stands, unless the user says it. */
static const char *field_of(const char *named, enum qn_record_format format, size_t field)
{
    static const char *const columns[LABELLED_FIELDS] = {"2", "1"}, *const keys[LABELLED_FIELDS] = {
                                                                        "text", "label"};
    return named ? named : format == QN_JSONL ? keys[field] : columns[field];
}

struct qn_record_options labelled_options(const struct labelled_fields *named,
                                          const char *const *paths, size_t count,
                                          const char *fields[LABELLED_FIELDS])
{
    enum qn_record_format format = (enum qn_record_format)labelled_format(named->format, paths[0]);
    fields[TEXT] = field_of(named->text, format, TEXT);
    fields[LABEL] = field_of(named->label, format, LABEL);
    return (struct qn_record_options){.format = format,
                                      .paths = paths,
                                      .n_paths = count,
                                      .fields = fields,
                                      .n_fields = LABELLED_FIELDS};
}

static qn_records *open_records(qn_context *qn, const char *const *paths, size_t count,
                                const struct settings *settings, struct sources *of_run,
                                const char *option, const struct options *options)
{
    const char *fields[LABELLED_FIELDS];
    const struct labelled_fields named = {settings->format, settings->text, settings->label};
    struct qn_record_options records = labelled_options(&named, paths, count, fields);
    if (records.format != QN_LINES)
        return examples_open(qn, records, settings->damaged, of_run, option, options);
    failure(options,
            "%s: plain lines have no labels: give records of a text and its label, and --format "
            "tsv, jsonl or columns, if the file's name does not say it",
            paths[0]);
    return NULL;
}

static int read_data(struct corpus *corpus, struct run *run, const struct options *options,
                     qn_context *qn)
{
    size_t count;
    const char **paths = source_paths(run, options, &count);
    if (!paths)
        return failure(options, "out of memory");
    if (count > MAX_SOURCES)
        failure(options, "--data takes at most %d files", MAX_SOURCES);
    else
        corpus->train_records =
            open_records(qn, paths, count, &run->settings, &run->data, "data", options);
    free(paths);
    return corpus->train_records ? EXIT_SUCCESS : EXIT_FAILED;
}

static int read_valid(struct corpus *corpus, struct run *run, const struct options *options,
                      qn_context *qn)
{
    const char *given = options_string(options, "valid");
    const char *path = given || run->valid.count == 0 ? given : run->valid.at[0].path;
    if (run->document && given && run->valid.count == 0)
        return failure(options, "--valid: the run holds out a part of its data, and keeps to it");
    if (!path)
        return EXIT_SUCCESS;
    corpus->valid_records =
        open_records(qn, &path, 1, &run->settings, &run->valid, "valid", options);
    return corpus->valid_records ? EXIT_SUCCESS : EXIT_FAILED;
}

/* ---- Tokenizer and labels ---- */

static int make_tokenizer(struct corpus *corpus, const char *named, const char *folder,
                          const struct options *options, qn_context *qn)
{
    const struct learning learning = {.option = "tokenizer",
                                      .named = named,
                                      .records = corpus->train_records,
                                      .fields = 1 << TEXT,
                                      .splitting = QN_SPLIT_PATTERN,
                                      .size = USUAL_VOCABULARY};
    corpus->tokenizer = examples_tokenizer(&learning, folder, options, qn);
    return corpus->tokenizer ? EXIT_SUCCESS : EXIT_FAILED;
}

/* Labels are printed in lines and columns. */
static int check_labels(const qn_labels *labels, const struct options *options)
{
    char quoted[QUOTED];
    for (size_t i = 0; i < qn_labels_count(labels); i++)
        if (strpbrk(qn_labels_name(labels, i), "\t\n\r"))
            return failure(options, "the label %s has a tab or a line end",
                           quote_string(quoted, qn_labels_name(labels, i)));
    if (qn_labels_count(labels) < 2)
        return failure(options, "all records have the label %s: there is nothing to learn",
                       quote_string(quoted, qn_labels_name(labels, 0)));
    return EXIT_SUCCESS;
}

/* Before anything is held out; a file to validate on must have no others. */
static int make_labels(struct corpus *corpus, const struct options *options, qn_context *qn)
{
    corpus->labels = qn_labels_of(corpus->train_records, LABEL, MOST_LABELS);
    return corpus->labels
               ? check_labels(corpus->labels, options)
               : failure(options, "%s; is the label in another field? See --label", qn_error(qn));
}

/* ---- Batches ---- */

qn_batches *labelled_batches(qn_records *records, qn_tokenizer *tokenizer, const qn_labels *labels,
                             struct qn_batch_options options, size_t most)
{
    const struct qn_batch_field fields[LABELLED_FIELDS] = {[TEXT] = {.name = "text",
                                                                     .tokenizer = tokenizer,
                                                                     .is_sequence = true,
                                                                     .begin = -1,
                                                                     .end = -1,
                                                                     .most = most,
                                                                     .cuts = true},
                                                           [LABEL] = {.name = "label",
                                                                      .labels = labels,
                                                                      .begin = -1,
                                                                      .end = -1,
                                                                      .pad = QN_IGNORE,
                                                                      .most = 1}};
    options.fields = fields;
    options.n_fields = labels ? LABELLED_FIELDS : 1;
    return qn_batches_new(records, &options);
}

static int make_batches(struct corpus *corpus, const struct settings *settings,
                        const struct options *options, qn_context *qn)
{
    const struct qn_batch_options shuffled = {
        .rows = settings->batch, .is_shuffled = true, .seed = settings->seed};
    corpus->train_batches = labelled_batches(corpus->train_records, corpus->tokenizer,
                                             corpus->labels, shuffled, settings->most_tokens);
    if (corpus->train_batches && corpus->valid_records)
        corpus->valid_batches = labelled_batches(
            corpus->valid_records, corpus->tokenizer, corpus->labels,
            (struct qn_batch_options){.rows = settings->batch}, settings->most_tokens);
    return corpus->train_batches && (!corpus->valid_records || corpus->valid_batches)
               ? EXIT_SUCCESS
               : failure(options, "%s", qn_error(qn));
}

int labelled_read(struct corpus *corpus, struct run *run, const struct options *options,
                  qn_context *qn, const char *folder)
{
    *corpus = (struct corpus){0};
    int status = read_data(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = read_valid(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_labels(corpus, options, qn);
    if (status == EXIT_SUCCESS)
        status = examples_hold_out(corpus, &run->settings, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_tokenizer(corpus, run->settings.tokenizer, folder, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_batches(corpus, &run->settings, options, qn);
    return status;
}

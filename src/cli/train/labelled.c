/* The examples of a classifier: records of files, their labels, and batches. */
#include "cli/train/examples.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* The fields of a record. */
enum { TEXT, LABEL, FIELDS };

/* ---- Files ---- */

int labelled_format(const char *named, const char *path)
{
    return named ? qn_record_format_named(named) : (int)qn_record_format_of(path);
}

const char *labelled_field(const char *named, enum qn_record_format format, size_t field)
{
    static const char *const columns[FIELDS] = {"2", "1"}, *const keys[FIELDS] = {"text", "label"};
    return named ? named : format == QN_JSONL ? keys[field] : columns[field];
}

/* `held_out`: of records of which a fraction is, only those. */
static qn_records *open_records(struct corpus *corpus, qn_context *qn, const char *const *paths,
                                size_t count, const struct settings *settings, double fraction,
                                bool held_out)
{
    enum qn_record_format format =
        (enum qn_record_format)labelled_format(settings->format, paths[0]);
    const char *fields[FIELDS] = {labelled_field(settings->text, format, TEXT),
                                  labelled_field(settings->label, format, LABEL)};
    struct qn_record_options options = {.format = format,
                                        .paths = paths,
                                        .n_paths = count,
                                        .fields = fields,
                                        .n_fields = FIELDS,
                                        .is_strict = strcmp(settings->damaged, "stop") == 0,
                                        .held_out = fraction,
                                        .wants_held_out = held_out,
                                        .seed = settings->seed,
                                        .report = report_skipped,
                                        .user = &corpus->is_silent};
    corpus->is_silent = held_out; /* they were told about with the others */
    qn_records *records = qn_records_open(qn, &options);
    corpus->is_silent = false;
    return records;
}

/* The share of the data that is held out. */
static double fraction_of(const struct run *run, const struct options *options)
{
    bool has_file = options_string(options, "valid") || run->valid.count > 0;
    return has_file ? 0 : run->settings.valid_fraction;
}

static int open_data(struct corpus *corpus, const char *const *paths, size_t count,
                     const struct run *run, const struct options *options, qn_context *qn)
{
    double fraction = fraction_of(run, options);
    if (labelled_format(run->settings.format, paths[0]) == QN_LINES)
        return failure(options,
                       "%s: plain lines have no labels: give records of a text and its label, and "
                       "--format tsv, jsonl or columns, if the file's name does not say it",
                       paths[0]);
    corpus->train_records = open_records(corpus, qn, paths, count, &run->settings, fraction, false);
    if (corpus->train_records && fraction > 0)
        corpus->valid_records =
            open_records(corpus, qn, paths, count, &run->settings, fraction, true);
    return corpus->train_records && (fraction == 0 || corpus->valid_records)
               ? EXIT_SUCCESS
               : failure(options, "%s", qn_error(qn));
}

static int read_data(struct corpus *corpus, struct run *run, const struct options *options,
                     qn_context *qn)
{
    size_t count;
    const char **paths = source_paths(run, options, &count);
    int status = EXIT_SUCCESS;
    if (!paths)
        status = failure(options, "out of memory");
    else if (count > MAX_SOURCES)
        status = failure(options, "--data takes at most %d files", MAX_SOURCES);
    else
        status = examples_sources(paths, count, &run->data, "data", options);
    if (status == EXIT_SUCCESS)
        status = open_data(corpus, paths, count, run, options, qn);
    free(paths);
    return status;
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
    int status = examples_sources(&path, 1, &run->valid, "valid", options);
    if (status != EXIT_SUCCESS)
        return status;
    corpus->valid_records = open_records(corpus, qn, &path, 1, &run->settings, 0, false);
    return corpus->valid_records ? EXIT_SUCCESS : failure(options, "%s", qn_error(qn));
}

/* ---- Tokenizer and labels ---- */

static int make_tokenizer(struct corpus *corpus, const char *named, const char *folder,
                          const struct options *options, qn_context *qn)
{
    const struct learning learning = {.named = named,
                                      .records = corpus->train_records,
                                      .fields = 1 << TEXT,
                                      .splitting = QN_SPLIT_PATTERN,
                                      .size = USUAL_VOCABULARY};
    corpus->tokenizer = examples_tokenizer(&learning, folder, options, qn);
    return corpus->tokenizer ? EXIT_SUCCESS : EXIT_FAILED;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static qn_labels *join_labels(const qn_labels *a, const qn_labels *b, qn_context *qn)
{
    size_t count = 0;
    const char **names = calloc(qn_labels_count(a) + qn_labels_count(b), sizeof *names);
    for (size_t i = 0; names && i < qn_labels_count(a); i++)
        names[count++] = qn_labels_name(a, i);
    for (size_t i = 0; names && i < qn_labels_count(b); i++)
        if (qn_labels_find(a, qn_labels_name(b, i)) < 0)
            names[count++] = qn_labels_name(b, i);
    if (names)
        qsort(names, count, sizeof *names, compare_names);
    qn_labels *all = names ? qn_labels_new(qn, names, count) : NULL;
    free(names);
    return all;
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

/* Of all the data, what is held out of it included; a file to validate on must have no others. */
static int make_labels(struct corpus *corpus, const struct run *run, const struct options *options,
                       qn_context *qn)
{
    qn_labels *trained = qn_labels_of(corpus->train_records, LABEL, MOST_LABELS), *held_out = NULL;
    if (trained && fraction_of(run, options) > 0)
        held_out = qn_labels_of(corpus->valid_records, LABEL, MOST_LABELS);
    corpus->labels = held_out ? join_labels(trained, held_out, qn) : trained;
    if (held_out)
        qn_labels_free(trained);
    qn_labels_free(held_out);
    return corpus->labels
               ? check_labels(corpus->labels, options)
               : failure(options, "%s; is the label in another field? See --label", qn_error(qn));
}

/* ---- Batches ---- */

qn_batches *labelled_batches(qn_records *records, qn_tokenizer *tokenizer, const qn_labels *labels,
                             struct qn_batch_options options, size_t most)
{
    const struct qn_batch_field fields[FIELDS] = {[TEXT] = {.name = "text",
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
    options.n_fields = labels ? FIELDS : 1;
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
        status = make_tokenizer(corpus, run->settings.tokenizer, folder, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_labels(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_batches(corpus, &run->settings, options, qn);
    return status;
}

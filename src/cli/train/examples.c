/* The examples of a classifier: records of files, their labels, and batches. */
#include "cli/train/examples.h"

#include <stdlib.h>
#include <string.h>

/* The fields of a record. */
enum { TEXT, LABEL, FIELDS };

/* ---- Files ---- */

int examples_format(const char *named, const char *path)
{
    return named ? qn_record_format_named(named) : (int)qn_record_format_of(path);
}

const char *examples_field(const char *named, enum qn_record_format format, size_t field)
{
    static const char *const columns[FIELDS] = {"2", "1"}, *const keys[FIELDS] = {"text", "label"};
    return named ? named : format == QN_JSONL ? keys[field] : columns[field];
}

/* `held_out`: of records of which a fraction is, only those. */
static qn_records *open_records(qn_context *qn, const char *const *paths, size_t count,
                                const struct settings *settings, double fraction, bool held_out)
{
    enum qn_record_format format =
        (enum qn_record_format)examples_format(settings->format, paths[0]);
    const char *fields[FIELDS] = {examples_field(settings->text, format, TEXT),
                                  examples_field(settings->label, format, LABEL)};
    struct qn_record_options options = {.format = format,
                                        .paths = paths,
                                        .n_paths = count,
                                        .fields = fields,
                                        .n_fields = FIELDS,
                                        .is_strict = strcmp(settings->damaged, "stop") == 0,
                                        .held_out = fraction,
                                        .wants_held_out = held_out,
                                        .seed = settings->seed,
                                        .report = held_out ? NULL : report_skipped};
    return qn_records_open(qn, &options);
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
    corpus->train_records = open_records(qn, paths, count, &run->settings, fraction, false);
    if (corpus->train_records && fraction > 0)
        corpus->valid_records = open_records(qn, paths, count, &run->settings, fraction, true);
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
    corpus->valid_records = open_records(qn, &path, 1, &run->settings, 0, false);
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

/* Of what is trained on; what is held out has the same. */
static int make_labels(struct corpus *corpus, const struct options *options, qn_context *qn)
{
    corpus->labels = qn_labels_of(corpus->train_records, LABEL, MOST_LABELS);
    if (!corpus->labels)
        return failure(options, "%s; is the label in another field? See --label", qn_error(qn));
    if (qn_labels_count(corpus->labels) < 2)
        return failure(options, "all records have the label \"%s\": there is nothing to learn",
                       qn_labels_name(corpus->labels, 0));
    return EXIT_SUCCESS;
}

/* ---- Batches ---- */

qn_batches *examples_batches(qn_records *records, qn_tokenizer *tokenizer, const qn_labels *labels,
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
    corpus->train_batches = examples_batches(corpus->train_records, corpus->tokenizer,
                                             corpus->labels, shuffled, settings->most_tokens);
    if (corpus->train_batches && corpus->valid_records)
        corpus->valid_batches = examples_batches(
            corpus->valid_records, corpus->tokenizer, corpus->labels,
            (struct qn_batch_options){.rows = settings->batch}, settings->most_tokens);
    return corpus->train_batches && (!corpus->valid_records || corpus->valid_batches)
               ? EXIT_SUCCESS
               : failure(options, "%s", qn_error(qn));
}

int examples_read(struct corpus *corpus, struct run *run, const struct options *options,
                  qn_context *qn, const char *folder)
{
    *corpus = (struct corpus){0};
    int status = read_data(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = read_valid(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_tokenizer(corpus, run->settings.tokenizer, folder, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_labels(corpus, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_batches(corpus, &run->settings, options, qn);
    return status;
}

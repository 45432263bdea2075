/* The examples of a run: records of files, their labels, and batches. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/corpus.h"
#include "cli/train/sources.h"
#include "cli/progress.h"

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

static void report_damaged(void *user, const char *message)
{
    (void)user;
    fprintf(stderr, "skipped     %s\n", message);
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
                                        .report = held_out ? NULL : report_damaged};
    return qn_records_open(qn, &options);
}

/* Files as they are now, which must be as they were when the run began. */
static int note_files(struct source *sources, const char *const *paths, size_t count,
                      const struct source *then, size_t n_then, const char *option,
                      const struct options *options)
{
    static const char moved[] = "; if it was moved, name the data anew";
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++)
        status = source_read(&sources[i], paths[i], n_then ? moved : "", options);
    return status == EXIT_SUCCESS && n_then
               ? sources_check(sources, count, then, n_then, option, options)
               : status;
}

static void free_sources(struct source *sources, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(sources[i].path);
    free(sources);
}

/* The share of the data that is held out. */
static double fraction_of(const struct run *run, const struct options *options)
{
    return options_string(options, "valid") || run->settings.valid ? 0
                                                                   : run->settings.valid_fraction;
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
    struct source *sources = paths && count ? calloc(count, sizeof *sources) : NULL;
    int status = EXIT_SUCCESS;
    if (!sources)
        status = failure(options, "out of memory");
    else if (count > MAX_SOURCES)
        status = failure(options, "--data takes at most %d files", MAX_SOURCES);
    else
        status = note_files(sources, paths, count, run->data, run->n_data, "data", options);
    if (status == EXIT_SUCCESS)
        status = open_data(corpus, paths, count, run, options, qn);
    free(paths);
    if (status != EXIT_SUCCESS || run->n_data) {
        free_sources(sources, sources ? count : 0);
    } else {
        run->data = sources;
        run->n_data = count;
    }
    return status;
}

static int read_valid(struct corpus *corpus, struct run *run, const struct options *options,
                      qn_context *qn)
{
    const char *given = options_string(options, "valid");
    const char *path = given ? given : run->settings.valid;
    struct source source = {0};
    if (run->document && given && !run->valid.path)
        return failure(options, "--valid: the run holds out a part of its data, and keeps to it");
    if (!path)
        return EXIT_SUCCESS;
    int status =
        note_files(&source, &path, 1, &run->valid, run->valid.path != NULL, "valid", options);
    if (status == EXIT_SUCCESS &&
        !(corpus->valid_records = open_records(qn, &path, 1, &run->settings, 0, false)))
        status = failure(options, "%s", qn_error(qn));
    if (status == EXIT_SUCCESS && !run->valid.path)
        run->valid = source;
    else
        free(source.path);
    return status;
}

/* ---- Tokenizer and labels ---- */

/* Learnt from the texts to train on. */
static qn_tokenizer *learn_tokenizer(const struct corpus *corpus, const char *named, qn_context *qn)
{
    enum qn_splitting splitting = strcmp(named, "char") == 0   ? QN_SPLIT_CHARACTERS
                                  : strcmp(named, "word") == 0 ? QN_SPLIT_PUNCTUATION
                                                               : QN_SPLIT_PATTERN;
    static const char *const unknown[] = {"<unk>"};
    struct qn_vocabulary vocabulary = {
        .splitting = splitting, .size = USUAL_VOCABULARY, .min_frequency = USUAL_MIN_FREQUENCY};
    vocabulary.specials = usual_specials(splitting, &vocabulary.n_specials);
    if (splitting == QN_SPLIT_CHARACTERS) {
        vocabulary.specials = unknown; /* what is classified later may have others */
        vocabulary.n_specials = 1;
    }
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    int status = counter ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < qn_records_count(corpus->train_records); i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        status = qn_records_read(corpus->train_records, i, fields);
        if (status == QN_OK)
            status = qn_word_counter_add(counter, qn_records_place(corpus->train_records, i),
                                         fields[TEXT].text, fields[TEXT].bytes);
    }
    qn_tokenizer *tokenizer = status == QN_OK ? qn_word_counter_finish(counter) : NULL;
    qn_word_counter_free(counter);
    return tokenizer;
}

static int make_tokenizer(struct corpus *corpus, const char *named, const char *folder,
                          const struct options *options, qn_context *qn)
{
    bool is_made =
        strcmp(named, "char") == 0 || strcmp(named, "word") == 0 || strcmp(named, "bpe") == 0;
    if (!folder && strcmp(named, "byte") == 0)
        corpus->tokenizer = qn_tokenizer_byte(qn);
    else if (!folder && is_made)
        corpus->tokenizer = learn_tokenizer(corpus, named, qn);
    else
        corpus->tokenizer = qn_tokenizer_load(qn, folder ? folder : named);
    if (corpus->tokenizer)
        return EXIT_SUCCESS;
    return failure(
        options, "%s%s",
        folder || is_made ? "" : "--tokenizer takes char|byte|word|bpe|PATH: ", qn_error(qn));
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

/* The pairs of an encoder-decoder: two files, line by line. */
#include <stdlib.h>
#include <string.h>

#include <quern/io.h>

#include "cli/train/examples.h"
#include "cli/translation.h"
#include "io/file.h"

/* ---- Files ---- */

/* What two options name, else the files of the run that goes on.  False: there are none. */
static bool find_paths(const char *paths[SIDES], const char *const names[SIDES],
                       const struct sources *of_run, const struct options *options)
{
    for (size_t i = 0; i < SIDES; i++) {
        paths[i] = options_string(options, names[i]);
        if (!paths[i] && of_run->count == SIDES)
            paths[i] = of_run->at[i].path;
    }
    return paths[SOURCE] && paths[TARGET];
}

static int read_files(struct corpus *corpus, struct run *run, const struct options *options,
                      qn_context *qn)
{
    static const char *const data[SIDES] = {"source", "target"}, *const valid[SIDES] = {
                                                                     "valid-source",
                                                                     "valid-target"};
    const char *paths[SIDES], *valid_paths[SIDES];
    find_paths(paths, data, &run->data, options);
    bool has_files = find_paths(valid_paths, valid, &run->valid, options);
    if (!has_files && (valid_paths[SOURCE] || valid_paths[TARGET]))
        return failure(options, "--valid-source and --valid-target belong together");
    if (run->document && has_files && run->valid.count == 0)
        return failure(options,
                       "--valid-source: the run holds out a part of its data, and keeps to it");
    struct qn_record_options pairs = {.format = QN_LINES, .paths = paths, .n_paths = SIDES};
    corpus->train_records =
        examples_open(qn, pairs, run->settings.damaged, &run->data, data[SOURCE], options);
    pairs.paths = valid_paths;
    if (corpus->train_records && has_files)
        corpus->valid_records =
            examples_open(qn, pairs, run->settings.damaged, &run->valid, valid[SOURCE], options);
    return corpus->train_records && (!has_files || corpus->valid_records) ? EXIT_SUCCESS
                                                                          : EXIT_FAILED;
}

/* ---- Tokenizers ---- */

/* A decoder begins with one token and ends with another. */
static int check_ends(const qn_tokenizer *tokenizer, const struct options *options)
{
    if (qn_tokenizer_begin(tokenizer) >= 0 && qn_tokenizer_end(tokenizer) >= 0)
        return EXIT_SUCCESS;
    return failure(options,
                   "the tokenizer has no tokens that begin and end a text: expected <bos> and "
                   "<eos>, <s> and </s>, or <|endoftext|>; make one with `quern tokenize train`");
}

static int make_tokenizers(struct corpus *corpus, const struct settings *settings,
                           const char *folder, const struct options *options, qn_context *qn)
{
    bool has_one = shares_tokenizer(settings);
    struct learning learning = {.option = "tokenizer",
                                .named = settings->tokenizer,
                                .records = corpus->train_records,
                                .fields = has_one ? 1 << SOURCE | 1 << TARGET : 1 << SOURCE,
                                .splitting = QN_SPLIT_MARK,
                                .size = settings->vocabulary,
                                .has_ends = true};
    corpus->tokenizer = examples_tokenizer(&learning, folder, options, qn);
    if (corpus->tokenizer && !has_one) {
        char *file = folder ? path_join(qn, folder, QN_TARGET_TOKENIZER) : NULL;
        learning.option = "target-tokenizer";
        learning.named = settings->target_tokenizer;
        learning.fields = 1 << TARGET;
        corpus->target_tokenizer = examples_tokenizer(&learning, file, options, qn);
        free(file);
    }
    if (!corpus->tokenizer || (!has_one && !corpus->target_tokenizer))
        return EXIT_FAILED;
    int status = check_ends(corpus->tokenizer, options);
    return status == EXIT_SUCCESS && !has_one ? check_ends(corpus->target_tokenizer, options)
                                              : status;
}

int corpus_save_tokenizers(const struct corpus *corpus, qn_context *qn, const char *folder)
{
    int status = qn_tokenizer_save(corpus->tokenizer, folder);
    if (status != QN_OK || !corpus->target_tokenizer)
        return status;
    char *file = path_join(qn, folder, QN_TARGET_TOKENIZER);
    status = file ? qn_tokenizer_save(corpus->target_tokenizer, file) : QN_ERROR_MEMORY;
    free(file);
    return status;
}

/* ---- Batches ---- */

/* Sources end in the end token; targets begin with the start token, too. */
static qn_batches *make_batches(qn_records *records, const struct corpus *corpus,
                                const struct settings *settings, bool is_shuffled)
{
    qn_tokenizer *source = corpus->tokenizer;
    qn_tokenizer *target = corpus->target_tokenizer ? corpus->target_tokenizer : source;
    const struct qn_batch_field fields[SIDES] = {[SOURCE] = {.name = "source",
                                                             .tokenizer = source,
                                                             .is_sequence = true,
                                                             .begin = -1,
                                                             .end = qn_tokenizer_end(source),
                                                             .most = settings->most_tokens},
                                                 [TARGET] = {.name = "target",
                                                             .tokenizer = target,
                                                             .is_sequence = true,
                                                             .begin = qn_tokenizer_begin(target),
                                                             .end = qn_tokenizer_end(target),
                                                             .most = settings->most_tokens}};
    return qn_batches_new(records, &(struct qn_batch_options){.fields = fields,
                                                              .n_fields = SIDES,
                                                              .tokens = settings->batch,
                                                              .is_shuffled = is_shuffled,
                                                              .seed = settings->seed});
}

int pairs_read(struct corpus *corpus, struct run *run, const struct options *options,
               qn_context *qn, const char *folder)
{
    const struct settings *settings = &run->settings;
    *corpus = (struct corpus){0};
    int status = read_files(corpus, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = examples_hold_out(corpus, settings, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_tokenizers(corpus, settings, folder, options, qn);
    if (status != EXIT_SUCCESS)
        return status;
    corpus->train_batches = make_batches(corpus->train_records, corpus, settings, true);
    if (corpus->train_batches && corpus->valid_records)
        corpus->valid_batches = make_batches(corpus->valid_records, corpus, settings, false);
    return corpus->train_batches && (!corpus->valid_records || corpus->valid_batches)
               ? EXIT_SUCCESS
               : failure(options, "%s", qn_error(qn));
}

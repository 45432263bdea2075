/* Files of examples, and tokenizers learnt from them. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/examples.h"
#include "device/context.h"

void report_skipped(void *user, const char *message)
{
    (void)user;
    fprintf(stderr, "skipped     %s\n", message);
}

qn_records *examples_open(qn_context *qn, struct qn_record_options options, const char *damaged,
                          struct sources *of_run, const char *option,
                          const struct options *command_line)
{
    struct sources sources;
    options.is_strict = strcmp(damaged, "stop") == 0;
    options.report = report_skipped;
    qn_records *records = qn_records_open(qn, &options);
    if (!records) {
        failure(command_line, "%s%s", qn_error(qn),
                of_run->count && qn->status == QN_ERROR_FILE ? "; if it was moved, name it anew"
                                                             : "");
        return NULL;
    }
    int status = sources_make(&sources, options.n_paths, command_line);
    for (size_t i = 0; i < options.n_paths && status == EXIT_SUCCESS; i++)
        status = sources_note(&sources, options.paths[i], qn_records_bytes(records, i),
                              qn_records_hash(records, i), command_line);
    if (status == EXIT_SUCCESS)
        status = sources_check(&sources, of_run, option, command_line);
    if (status == EXIT_SUCCESS)
        sources_keep(of_run, &sources);
    sources_release(&sources);
    if (status == EXIT_SUCCESS)
        return records;
    qn_records_close(records);
    return NULL;
}

int examples_hold_out(struct corpus *corpus, const struct settings *settings,
                      const struct options *options, qn_context *qn)
{
    if (corpus->valid_records || settings->valid_fraction == 0)
        return EXIT_SUCCESS;
    corpus->valid_records =
        qn_records_hold_out(corpus->train_records, settings->valid_fraction, settings->seed);
    return corpus->valid_records ? EXIT_SUCCESS : failure(options, "%s", qn_error(qn));
}

static int count_words(qn_word_counter *counter, const struct learning *learning)
{
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_records_count(learning->records); i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        status = qn_records_read(learning->records, i, fields);
        for (size_t j = 0; status == QN_OK && j < QN_MAX_FIELDS; j++)
            if (learning->fields >> j & 1)
                status = qn_word_counter_add(counter, qn_records_place(learning->records, i),
                                             fields[j].text, fields[j].bytes);
    }
    return status;
}

/* What is read later may have other characters and words. */
static qn_tokenizer *learn(const struct learning *learning, qn_context *qn)
{
    static const char *const usual[] = {"<unk>", "<pad>", "<bos>", "<eos>"};
    bool has_characters = strcmp(learning->named, "char") == 0;
    struct qn_vocabulary vocabulary = {.splitting = has_characters ? QN_SPLIT_CHARACTERS
                                                    : strcmp(learning->named, "word") == 0
                                                        ? QN_SPLIT_PUNCTUATION
                                                        : learning->splitting,
                                       .size = learning->size,
                                       .min_frequency = USUAL_MIN_FREQUENCY};
    vocabulary.specials = usual_specials(vocabulary.splitting, &vocabulary.n_specials);
    if (has_characters) {
        vocabulary.specials = usual;
        vocabulary.n_specials = learning->has_ends ? sizeof usual / sizeof *usual : 1;
    }
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    qn_tokenizer *tokenizer =
        counter && count_words(counter, learning) == QN_OK ? qn_word_counter_finish(counter) : NULL;
    qn_word_counter_free(counter);
    return tokenizer;
}

qn_tokenizer *examples_tokenizer(const struct learning *learning, const char *path,
                                 const struct options *options, qn_context *qn)
{
    static const char *const learnt[] = {"char", "word", "bpe"};
    const char *named = learning->named;
    bool is_learnt = false;
    for (size_t i = 0; i < sizeof learnt / sizeof *learnt; i++)
        is_learnt = is_learnt || strcmp(named, learnt[i]) == 0;
    qn_tokenizer *tokenizer;
    if (path)
        tokenizer = qn_tokenizer_load(qn, path);
    else if (is_learnt)
        tokenizer = learn(learning, qn);
    else
        tokenizer =
            strcmp(named, "byte") == 0 ? qn_tokenizer_byte(qn) : qn_tokenizer_load(qn, named);
    if (!tokenizer && (path || is_learnt))
        failure(options, "%s", qn_error(qn));
    else if (!tokenizer)
        failure(options, "--%s takes %s|PATH: %s", learning->option,
                strcmp(learning->option, "tokenizer") == 0 ? "char|byte|word|bpe"
                                                           : "joint|char|word|bpe",
                qn_error(qn));
    return tokenizer;
}

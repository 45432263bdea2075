/* The text of a run: read, identified, split, tokenized. */
#include "cli/train/corpus.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/sources.h"
#include "text/words.h"

/* One text, and the files it is made of. */
struct text {
    char *bytes;
    size_t count;
    qn_tokens *tokens; /* a file of tokens instead of a text */
    struct sources sources;
};

static void text_release(struct text *text)
{
    sources_release(&text->sources);
    qn_tokens_close(text->tokens);
    free(text->bytes);
    *text = (struct text){0};
}

/* What it holds is checked when its tokenizer is known. */
static int open_tokens(struct text *text, const char *path, const struct options *options,
                       qn_context *qn)
{
    text->tokens = qn_tokens_open(qn, path);
    if (!text->tokens)
        return failure(options, "%s", qn_error(qn));
    return sources_note(&text->sources, path, qn_tokens_bytes(text->tokens),
                        qn_tokens_hash(text->tokens), options);
}

/* `cure` ends the message of a file that cannot be read. */
static int append_file(struct text *text, const char *path, const char *cure,
                       const struct options *options, qn_context *qn)
{
    size_t count;
    char *bytes = qn_text_read(qn, &path, 1, &count);
    if (!bytes)
        return failure(options, "%s%s", qn_error(qn), cure);
    int status =
        sources_note(&text->sources, path, count, hash_bytes(HASH_BEGIN, bytes, count), options);
    if (status != EXIT_SUCCESS) {
        free(bytes);
        return status;
    }
    if (!text->bytes) {
        text->bytes = bytes;
        text->count = count;
        return EXIT_SUCCESS;
    }
    char *joined = realloc(text->bytes, text->count + count + 1);
    if (joined) {
        memcpy(joined + text->count, bytes, count + 1);
        text->bytes = joined;
        text->count += count;
    }
    free(bytes);
    return joined ? EXIT_SUCCESS : failure(options, "out of memory for the text");
}

static int read_files(struct text *text, const char *const *paths, size_t count, const char *cure,
                      const struct options *options, qn_context *qn)
{
    int status = sources_make(&text->sources, count, options);
    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++) {
        bool is_tokens = qn_is_tokens(paths[i]);
        if (is_tokens && count > 1)
            status = failure(options, "%s is a file of tokens: it cannot be joined with others",
                             paths[i]);
        else
            status = is_tokens ? open_tokens(text, paths[i], options, qn)
                               : append_file(text, paths[i], cure, options, qn);
    }
    return status;
}

static int read_data(struct text *text, struct run *run, const struct options *options,
                     qn_context *qn)
{
    size_t count;
    const char **paths = source_paths(run, options, &count);
    if (!paths)
        return failure(options, "out of memory");
    const char *cure = options_given(options, "data")
                           ? ""
                           : "; if it was moved, name the data anew: --data NEWPATH";
    int status = count <= MAX_SOURCES
                     ? read_files(text, paths, count, cure, options, qn)
                     : failure(options, "--data takes at most %d files", MAX_SOURCES);
    free(paths);
    return status == EXIT_SUCCESS ? sources_check(&text->sources, &run->data, "data", options)
                                  : status;
}

static int read_valid(struct text *text, struct run *run, const struct options *options,
                      qn_context *qn)
{
    const char *given = options_string(options, "valid");
    const char *path = given || run->valid.count == 0 ? given : run->valid.at[0].path;
    if (run->document && given && run->valid.count == 0)
        return failure(options, "--valid: the run holds out a part of its data, and keeps to it");
    if (!path)
        return EXIT_SUCCESS;
    const char *cure = given ? "" : "; if it was moved, name it anew: --valid NEWPATH";
    int status = read_files(text, &path, 1, cure, options, qn);
    return status == EXIT_SUCCESS ? sources_check(&text->sources, &run->valid, "valid", options)
                                  : status;
}

/* All characters that occur in either text are in the vocabulary, so that none is unknown when
 * validating. */
static qn_tokenizer *char_tokenizer(const struct text *data, const struct text *valid,
                                    qn_context *qn)
{
    if (!valid->bytes)
        return qn_tokenizer_char(qn, data->bytes, data->count);
    char *both = malloc(data->count + valid->count + 1);
    if (!both)
        return NULL;
    memcpy(both, data->bytes, data->count);
    memcpy(both + data->count, valid->bytes, valid->count + 1);
    qn_tokenizer *tokenizer = qn_tokenizer_char(qn, both, data->count + valid->count);
    free(both);
    return tokenizer;
}

/* Checks file by file, so that messages name the file and places in it. */
static int check_text(const struct text *text, const qn_tokenizer *tokenizer, bool is_new,
                      const struct options *options, qn_context *qn)
{
    const char *kind = tokenizer ? qn_tokenizer_kind(tokenizer) : "char", *bytes = text->bytes;
    if (text->tokens)
        return tokenizer && qn_tokens_check(text->tokens, tokenizer) == QN_OK
                   ? EXIT_SUCCESS
                   : failure(options, "%s; name the tokenizer that made it: --tokenizer PATH",
                             tokenizer ? qn_error(qn) : "--data is a file of tokens");
    if (strcmp(kind, "byte") == 0)
        return EXIT_SUCCESS;
    for (size_t i = 0; i < text->sources.count; i++) {
        const struct source *source = &text->sources.at[i];
        if (qn_text_check(qn, source->path, bytes, source->bytes, strcmp(kind, "char") != 0) !=
            QN_OK)
            return failure(options, "%s%s", qn_error(qn),
                           is_new ? "; --tokenizer byte takes it as it is" : "");
        bytes += source->bytes;
    }
    return EXIT_SUCCESS;
}

const char *const *usual_specials(enum qn_splitting splitting, size_t *count)
{
    static const char *const end_of_text[] = {"<|endoftext|>"};
    static const char *const usual[] = {"<unk>", "<pad>", "<bos>", "<eos>"};
    bool is_gpt2 = splitting == QN_SPLIT_PATTERN;
    *count = splitting == QN_SPLIT_CHARACTERS ? 0 : is_gpt2 ? 1 : sizeof usual / sizeof *usual;
    return is_gpt2 ? end_of_text : usual;
}

/* Of --tokenizer bpe and word: learnt from the data. */
static qn_tokenizer *learn_tokenizer(const struct text *data, enum qn_splitting splitting,
                                     qn_context *qn)
{
    struct qn_vocabulary vocabulary = {
        .splitting = splitting, .size = USUAL_VOCABULARY, .min_frequency = USUAL_MIN_FREQUENCY};
    vocabulary.specials = usual_specials(splitting, &vocabulary.n_specials);
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    qn_tokenizer *tokenizer = NULL;
    if (counter && qn_word_counter_add(counter, "the data", data->bytes, data->count) == QN_OK)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

/* Tokenizers that are made of the data, once it is checked. */
static qn_tokenizer *make_from_data(const char *named, const struct text *data,
                                    const struct text *valid, qn_context *qn)
{
    if (strcmp(named, "char") == 0)
        return char_tokenizer(data, valid, qn);
    bool has_words = strcmp(named, "word") == 0;
    return learn_tokenizer(data, has_words ? QN_SPLIT_PUNCTUATION : QN_SPLIT_PATTERN, qn);
}

/* `folder`: as for corpus_read(). */
static int make_tokenizer(struct corpus *corpus, const struct run *run, const struct text *data,
                          const struct text *valid, const struct options *options, qn_context *qn,
                          const char *folder)
{
    const char *named = folder ? folder : run->settings.tokenizer;
    bool is_new = run->document == NULL;
    bool is_made = !folder && (strcmp(named, "char") == 0 || strcmp(named, "word") == 0 ||
                               strcmp(named, "bpe") == 0);
    if (!folder && strcmp(named, "byte") == 0)
        corpus->tokenizer = qn_tokenizer_byte(qn);
    else if (!is_made)
        corpus->tokenizer = qn_tokenizer_load(qn, named);
    if (!corpus->tokenizer && !is_made)
        return failure(options, "%s%s",
                       folder ? "" : "--tokenizer takes char|byte|word|bpe|PATH: ", qn_error(qn));
    int status = check_text(data, corpus->tokenizer, is_new, options, qn);
    if (status == EXIT_SUCCESS)
        status = check_text(valid, corpus->tokenizer, is_new, options, qn);
    if (status != EXIT_SUCCESS || !is_made)
        return status;
    corpus->tokenizer = make_from_data(named, data, valid, qn);
    if (corpus->tokenizer)
        return EXIT_SUCCESS;
    return failure(options, "%s", *qn_error(qn) ? qn_error(qn) : "out of memory");
}

/* A fraction that leaves no window of bytes, so none of tokens, on one of its sides. */
static int check_fraction(size_t split, size_t count, const char *unit,
                          const struct settings *settings, const struct options *options)
{
    bool trains = split > settings->context, validates = count - split > settings->context;
    if (count <= settings->context || (trains && validates))
        return EXIT_SUCCESS; /* the fraction is good, or not to blame */
    return failure(options,
                   "--valid-fraction %g leaves %zu of %zu %s to train on and %zu to validate, "
                   "too few for a context of %" PRIu64 ": choose a %s one%s",
                   settings->valid_fraction, split, count, unit, count - split, settings->context,
                   trains ? "larger" : "smaller", trains ? ", or 0" : "");
}

/* `from`: in bytes, or of a file in tokens. */
static qn_dataset *make_dataset(const struct corpus *corpus, const char *name,
                                const struct text *text, size_t from, size_t count, size_t context)
{
    return text->tokens
               ? qn_dataset_mapped(text->tokens, from, count, context)
               : qn_dataset_new(corpus->tokenizer, name, text->bytes + from, count, context);
}

static int make_datasets(struct corpus *corpus, const struct text *data, const struct text *valid,
                         const struct settings *settings, const struct options *options,
                         qn_context *qn)
{
    size_t context = settings->context;
    const char *data_name = data->sources.count == 1 ? data->sources.at[0].path : "the data";
    bool has_file = valid->sources.count > 0;
    double fraction = has_file ? 0 : settings->valid_fraction;
    size_t count = data->tokens ? qn_tokens_count(data->tokens) : data->count;
    size_t split = data->tokens ? (size_t)((double)count * (1 - fraction))
                                : qn_text_split(data->bytes, count, fraction);
    if (fraction > 0 && check_fraction(split, count, data->tokens ? "tokens" : "bytes", settings,
                                       options) != EXIT_SUCCESS)
        return EXIT_FAILED;
    corpus->train = make_dataset(corpus, data_name, data, 0, split, context);
    if (!corpus->train)
        return failure(options, "%s", qn_error(qn));
    if (!has_file && fraction == 0)
        return EXIT_SUCCESS;
    char held_out[100];
    snprintf(held_out, sizeof held_out, "the part held out for validation (--valid-fraction %g)",
             fraction);
    size_t valid_count = valid->tokens ? qn_tokens_count(valid->tokens) : valid->count;
    corpus->valid =
        has_file ? make_dataset(corpus, valid->sources.at[0].path, valid, 0, valid_count, context)
                 : make_dataset(corpus, held_out, data, split, count - split, context);
    return corpus->valid ? EXIT_SUCCESS : failure(options, "%s", qn_error(qn));
}

/* Data sets read their files of tokens as long as they live. */
static void keep_tokens(struct corpus *corpus, struct text *data, struct text *valid)
{
    corpus->train_tokens = data->tokens;
    corpus->valid_tokens = valid->tokens;
    data->tokens = valid->tokens = NULL;
}

/* What was read is what the run is trained on: moves it there. */
static void keep_sources(struct run *run, struct text *data, struct text *valid)
{
    sources_keep(&run->data, &data->sources);
    sources_keep(&run->valid, &valid->sources);
}

int corpus_read(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *tokenizer)
{
    struct text data = {0}, valid = {0};
    *corpus = (struct corpus){0};
    int status = read_data(&data, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = read_valid(&valid, run, options, qn);
    if (status == EXIT_SUCCESS)
        status = make_tokenizer(corpus, run, &data, &valid, options, qn, tokenizer);
    if (status == EXIT_SUCCESS)
        status = make_datasets(corpus, &data, &valid, &run->settings, options, qn);
    if (status == EXIT_SUCCESS)
        keep_sources(run, &data, &valid);
    keep_tokens(corpus, &data, &valid);
    text_release(&data);
    text_release(&valid);
    return status;
}

void corpus_release(struct corpus *corpus)
{
    qn_dataset_free(corpus->train);
    qn_dataset_free(corpus->valid);
    qn_tokens_close(corpus->train_tokens);
    qn_tokens_close(corpus->valid_tokens);
    qn_batches_free(corpus->train_batches);
    qn_batches_free(corpus->valid_batches);
    qn_records_close(corpus->train_records);
    qn_records_close(corpus->valid_records);
    qn_labels_free(corpus->labels);
    qn_tokenizer_free(corpus->tokenizer);
    qn_tokenizer_free(corpus->target_tokenizer);
    *corpus = (struct corpus){0};
}

bool corpus_validates(const struct corpus *corpus)
{
    return corpus->valid || corpus->valid_batches;
}

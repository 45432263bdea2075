/* quern tokenize train, encode, decode: tokenizers learnt from text, and what they make of it. */
#include <quern/text.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/train/corpus.h"
#include "text/stream.h"
#include "text/tokenizer.h"

/* ---- Training ---- */

/* What --kind and --split mean together. */
static const struct {
    const char *kind, *split;
    enum qn_splitting splitting;
} splittings[] = {
    {"bpe", "pattern", QN_SPLIT_PATTERN},          {"bpe", "mark", QN_SPLIT_MARK},
    {"word", "punctuation", QN_SPLIT_PUNCTUATION}, {"word", "space", QN_SPLIT_SPACE},
    {"char", NULL, QN_SPLIT_CHARACTERS},
};
enum { SPLITTINGS = sizeof splittings / sizeof *splittings };

static int find_splitting(const struct options *options, enum qn_splitting *splitting)
{
    const char *kind = options_string(options, "kind"), *split = options_string(options, "split");
    for (size_t i = 0; i < SPLITTINGS; i++) {
        bool is_split = split && splittings[i].split && strcmp(split, splittings[i].split) == 0;
        if (strcmp(kind, splittings[i].kind) == 0 && (!split || is_split)) {
            *splitting = splittings[i].splitting;
            return EXIT_SUCCESS;
        }
    }
    return usage_error(options,
                       "--split %s is not for --kind %s: bpe is split by pattern or mark, "
                       "word by punctuation or space",
                       split, kind);
}

static int read_cleaning(const struct options *options, struct qn_vocabulary *vocabulary)
{
    size_t count = options_count(options, "clean");
    if (count > QN_MAX_CLEANING)
        return usage_error(options, "--clean takes at most %d steps", QN_MAX_CLEANING);
    for (size_t i = 0; i < count; i++) {
        int step = qn_cleaning_named(options_at(options, "clean", i));
        if (step < 0)
            return usage_error(options,
                               "--clean takes nfc, nfkc, lowercase, accents, controls and "
                               "spaces, not \"%s\"",
                               options_at(options, "clean", i));
        vocabulary->cleaning[i] = (enum qn_cleaning)step;
    }
    vocabulary->n_cleaning = count;
    return EXIT_SUCCESS;
}

/* The special tokens that are named, else the usual ones; free() the array. */
static const char **read_specials(const struct options *options, enum qn_splitting splitting,
                                  size_t *count)
{
    size_t named = options_count(options, "special"), n_usual;
    const char *const *usual = usual_specials(splitting, &n_usual);
    *count = named ? named : n_usual;
    const char **specials = calloc(*count + 1, sizeof *specials);
    for (size_t i = 0; specials && i < *count; i++)
        specials[i] = named ? options_at(options, "special", i) : usual[i];
    return specials;
}

static qn_tokenizer *learn(const struct options *options, const struct qn_vocabulary *vocabulary,
                           qn_context *qn)
{
    qn_word_counter *counter = qn_word_counter_new(qn, vocabulary);
    qn_tokenizer *tokenizer = NULL;
    bool is_good = counter != NULL;
    for (size_t i = 0; i < options_count(options, "data") && is_good; i++)
        is_good = qn_word_counter_add_file(counter, options_at(options, "data", i)) == QN_OK;
    if (is_good)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

/* A folder, made if need be, unless it is named like a JSON file. */
static int save(const struct options *options, const qn_tokenizer *tokenizer, qn_context *qn)
{
    const char *path = options_string(options, "out"), *ending = strrchr(path, '.');
    bool is_file = ending && strcmp(ending, ".json") == 0;
    if (!is_file && mkdir(path, 0777) != 0 && errno != EEXIST)
        return failure(options, "cannot make the folder %s: %s", path, strerror(errno));
    if (qn_tokenizer_save(tokenizer, path) != QN_OK)
        return failure(options, "%s", qn_error(qn));
    if (!options_flag(options, "quiet"))
        fprintf(stderr, "%s: %s, %zu tokens\n", path, qn_tokenizer_kind(tokenizer),
                qn_tokenizer_vocabulary(tokenizer));
    return EXIT_SUCCESS;
}

static int train(const struct options *options, qn_context *qn)
{
    struct qn_vocabulary vocabulary = {
        .size = (size_t)options_integer(options, "vocab"),
        .merges = (size_t)options_integer(options, "merges"),
        .min_frequency = (uint64_t)options_integer(options, "min-frequency"),
        .byte_fallback = options_flag(options, "byte-fallback"),
    };
    if (strcmp(options_string(options, "kind"), "byte") == 0) {
        qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
        int status =
            tokenizer ? save(options, tokenizer, qn) : failure(options, "%s", qn_error(qn));
        qn_tokenizer_free(tokenizer);
        return status;
    }
    int status = find_splitting(options, &vocabulary.splitting);
    if (status == EXIT_SUCCESS)
        status = read_cleaning(options, &vocabulary);
    if (status != EXIT_SUCCESS)
        return status;
    bool is_char = vocabulary.splitting == QN_SPLIT_CHARACTERS;
    if (is_char && !options_given(options, "min-frequency"))
        vocabulary.min_frequency = 1;
    if (options_given(options, "merges") && !options_given(options, "vocab"))
        vocabulary.size = 0;
    const char **specials = read_specials(options, vocabulary.splitting, &vocabulary.n_specials);
    if (!specials)
        return failure(options, "out of memory");
    vocabulary.specials = specials;
    qn_tokenizer *tokenizer = learn(options, &vocabulary, qn);
    free(specials);
    if (!tokenizer)
        return failure(options, "%s", qn_error(qn));
    status = save(options, tokenizer, qn);
    qn_tokenizer_free(tokenizer);
    return status;
}

/* ---- Encoding ---- */

static int fail_output(const struct options *options)
{
    return failure(options, "cannot write the result: %s", strerror(errno));
}

/* "12 7 1024\n" */
static bool print_ids(const struct ids *ids)
{
    char text[4096];
    size_t used = 0;
    for (size_t i = 0; i < ids->count; i++) {
        char digits[12];
        size_t length = 0;
        uint32_t left = (uint32_t)ids->values[i];
        do
            digits[length++] = (char)('0' + left % 10);
        while ((left /= 10) > 0);
        if (used + length + 1 > sizeof text) {
            if (fwrite(text, 1, used, stdout) != used)
                return false;
            used = 0;
        }
        if (i > 0)
            text[used++] = ' ';
        while (length > 0)
            text[used++] = digits[--length];
    }
    return fwrite(text, 1, used, stdout) == used && putchar('\n') != EOF;
}

/* Calls a function for each line of a file, without its end. */
typedef int line_function(void *data, const struct text_stream *stream, uint64_t number,
                          const char *line, size_t length);

static int for_each_line(const struct options *options, qn_context *qn, const char *path,
                         bool takes_all, line_function *function, void *data)
{
    struct text_stream stream;
    struct text_piece piece;
    if (!stream_open(&stream, qn, path, STREAM_LINES))
        return failure(options, "%s", qn_error(qn));
    stream.takes_all = takes_all;
    int status = EXIT_SUCCESS;
    bool is_good;
    while (status == EXIT_SUCCESS && (is_good = stream_next(&stream, &piece)) && piece.bytes > 0) {
        uint64_t number = stream.line;
        for (size_t at = 0; at < piece.bytes && status == EXIT_SUCCESS; number++) {
            const char *line = piece.text + at, *end = memchr(line, '\n', piece.bytes - at);
            size_t length = end ? (size_t)(end - line) : piece.bytes - at;
            status = function(data, &stream, number, line, length);
            at += length + (end != NULL);
        }
    }
    if (status == EXIT_SUCCESS && !is_good)
        status = failure(options, "%s", qn_error(qn));
    stream_close(&stream);
    return status;
}

struct coder {
    const struct options *options;
    qn_context *qn;
    qn_tokenizer *tokenizer;
    int32_t end; /* the token behind each document; -1: none */
    struct ids ids;
};

static int encode_line(void *data, const struct text_stream *stream, uint64_t number,
                       const char *line, size_t length)
{
    struct coder *coder = data;
    char name[300];
    snprintf(name, sizeof name, "%s, line %" PRIu64, stream->path, number);
    coder->ids.count = 0;
    if (!tokenizer_encode(coder->tokenizer, name, line, length, (struct piece_ends){true, true},
                          &coder->ids) ||
        (coder->end >= 0 && !ids_append(coder->qn, &coder->ids, &coder->end, 1)))
        return failure(coder->options, "%s", qn_error(coder->qn));
    return print_ids(&coder->ids) ? EXIT_SUCCESS : fail_output(coder->options);
}

/* The paths of --data, else standard input; free() the array. */
static const char **data_paths(const struct options *options, size_t *count)
{
    *count = options_count(options, "data");
    const char **paths = calloc(*count + 1, sizeof *paths);
    for (size_t i = 0; paths && i < *count; i++)
        paths[i] = options_at(options, "data", i);
    if (paths && *count == 0)
        paths[(*count)++] = "-";
    return paths;
}

static int write_tokens(struct coder *coder, const char *const *paths, size_t count)
{
    static const char *const names[] = {[QN_DOCUMENTS_FILES] = "file",
                                        [QN_DOCUMENTS_LINES] = "line",
                                        [QN_DOCUMENTS_PARAGRAPHS] = "paragraph"};
    const struct options *options = coder->options;
    const char *out = options_string(options, "out"), *named = options_string(options, "documents");
    int documents = QN_DOCUMENTS_FILES;
    while (strcmp(names[documents], named) != 0)
        documents++;
    if (qn_tokens_write(coder->tokenizer, out, paths, count, (enum qn_documents)documents,
                        coder->end) != QN_OK)
        return failure(options, "%s", qn_error(coder->qn));
    qn_tokens *tokens = options_flag(options, "quiet") ? NULL : qn_tokens_open(coder->qn, out);
    if (tokens)
        fprintf(stderr, "%s: %zu tokens in %zu documents, of %zu bytes\n", out,
                qn_tokens_count(tokens), qn_tokens_documents(tokens), qn_tokens_bytes(tokens));
    qn_tokens_close(tokens);
    return EXIT_SUCCESS;
}

static int encode(struct coder *coder)
{
    const struct options *options = coder->options;
    const char *end = options_string(options, "end");
    coder->end = end ? qn_tokenizer_special(coder->tokenizer, end) : -1;
    if (end && coder->end < 0)
        return failure(options, "--end: the tokenizer has no special token \"%s\"", end);
    if (!options_given(options, "out") && options_given(options, "documents"))
        return usage_error(options, "--documents is for --out: as text, each line is one");
    size_t count;
    const char **paths = data_paths(options, &count);
    if (!paths)
        return failure(options, "out of memory");
    int status = EXIT_SUCCESS;
    bool takes_all = coder->tokenizer->kind == TOKENIZER_BYTE;
    if (options_given(options, "out"))
        status = write_tokens(coder, paths, count);
    else
        for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++)
            status = for_each_line(options, coder->qn, paths[i], takes_all, encode_line, coder);
    free(paths);
    return status;
}

/* ---- Decoding ---- */

static int print_text(struct coder *coder, int32_t before, const int32_t *ids, size_t count)
{
    char *text;
    size_t bytes;
    if (decode_piece(coder->tokenizer, before, ids, count, &text, &bytes) != QN_OK)
        return failure(coder->options, "%s", qn_error(coder->qn));
    bool is_good = fwrite(text, 1, bytes, stdout) == bytes;
    free(text);
    return is_good ? EXIT_SUCCESS : fail_output(coder->options);
}

static int decode_line(void *data, const struct text_stream *stream, uint64_t number,
                       const char *line, size_t length)
{
    struct coder *coder = data;
    coder->ids.count = 0;
    for (size_t at = 0; at < length;) {
        if (line[at] == ' ' || line[at] == '\r' || line[at] == '\t') {
            at++;
            continue;
        }
        uint64_t id = 0;
        size_t digits = 0;
        for (; at < length && line[at] >= '0' && line[at] <= '9' && id < MAX_VOCABULARY; digits++)
            id = 10 * id + (uint64_t)(line[at++] - '0');
        if (digits == 0 || id >= MAX_VOCABULARY)
            return failure(coder->options,
                           "%s, line %" PRIu64 ", column %zu: expected ids between spaces",
                           stream->path, number, at + 1);
        if (!ids_append(coder->qn, &coder->ids, &(int32_t){(int32_t)id}, 1))
            return failure(coder->options, "%s", qn_error(coder->qn));
    }
    int status = print_text(coder, -1, coder->ids.values, coder->ids.count);
    if (status == EXIT_SUCCESS && putchar('\n') == EOF)
        status = fail_output(coder->options);
    return status;
}

static int decode_document(struct coder *coder, const qn_tokens *tokens, size_t document)
{
    enum { AT_ONCE = 1 << 16 };
    static int32_t ids[AT_ONCE];
    size_t first, count = qn_tokens_document(tokens, document, &first);
    count -= qn_tokens_end(tokens) >= 0 && count > 0;
    int32_t before = -1;
    int status = EXIT_SUCCESS;
    for (size_t at = 0; at < count && status == EXIT_SUCCESS; at += AT_ONCE) {
        size_t some = count - at < AT_ONCE ? count - at : AT_ONCE;
        if (qn_tokens_read(tokens, first + at, some, ids) != QN_OK)
            return failure(coder->options, "%s", qn_error(coder->qn));
        status = print_text(coder, before, ids, some);
        before = ids[some - 1];
    }
    return status;
}

/* Puts between documents what was between them. */
static int decode_tokens(struct coder *coder, const char *path)
{
    qn_tokens *tokens = qn_tokens_open(coder->qn, path);
    if (!tokens || qn_tokens_check(tokens, coder->tokenizer) != QN_OK) {
        qn_tokens_close(tokens);
        return failure(coder->options, "%s", qn_error(coder->qn));
    }
    enum qn_documents kind = qn_tokens_document_kind(tokens);
    int status = EXIT_SUCCESS;
    size_t count = qn_tokens_documents(tokens);
    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++) {
        status = decode_document(coder, tokens, i);
        const char *behind = kind == QN_DOCUMENTS_FILES                     ? ""
                             : kind == QN_DOCUMENTS_LINES || i == count - 1 ? "\n"
                                                                            : "\n\n";
        if (status == EXIT_SUCCESS && fputs(behind, stdout) == EOF)
            status = fail_output(coder->options);
    }
    qn_tokens_close(tokens);
    return status;
}

static int decode(struct coder *coder)
{
    size_t count;
    const char **paths = data_paths(coder->options, &count);
    if (!paths)
        return failure(coder->options, "out of memory");
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++)
        status = qn_is_tokens(paths[i]) ? decode_tokens(coder, paths[i])
                                        : for_each_line(coder->options, coder->qn, paths[i], false,
                                                        decode_line, coder);
    free(paths);
    return status;
}

/* ---- The commands ---- */

int command_tokenize_train(const struct options *options)
{
    qn_context *qn = qn_open("none"); /* text needs no device */
    if (!qn)
        return failure(options, "%s", qn_error(NULL));
    int status = train(options, qn);
    qn_close(qn);
    return status;
}

static int run_coder(const struct options *options, int (*run)(struct coder *))
{
    struct coder coder = {.options = options, .qn = qn_open("none")};
    if (!coder.qn)
        return failure(options, "%s", qn_error(NULL));
    coder.tokenizer = qn_tokenizer_load(coder.qn, options_operand(options));
    int status = coder.tokenizer ? run(&coder) : failure(options, "%s", qn_error(coder.qn));
    if (status == EXIT_SUCCESS && fflush(stdout) != 0)
        status = fail_output(options);
    free(coder.ids.values);
    qn_tokenizer_free(coder.tokenizer);
    qn_close(coder.qn);
    return status;
}

int command_tokenize_encode(const struct options *options)
{
    return run_coder(options, encode);
}

int command_tokenize_decode(const struct options *options)
{
    return run_coder(options, decode);
}

/* Tokenizers read from files: `tokenizer.json` of Hugging Face's tokenizers, and GPT-2's `vocab.json` with
 * `merges.txt`. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/fields.h"
#include "io/file.h"
#include "text/bpe.h"
#include "text/pipeline.h"

/* GPT-2's files have 1 MB and 0.5 MB; the largest vocabularies that are used, some 30 MB. */
enum { MAX_FILE = 1 << 28, MAX_SPECIALS = 10000 };

static const char end_of_text[] = "<|endoftext|>";

/* ---- Vocabularies ---- */

/* One more than the largest id of a vocabulary and of added tokens; 0 and an error if an id is
 * none. */
static size_t count_ids(struct fields *fields, const json_t *vocabulary, const json_t *added)
{
    int64_t largest = -1;
    const char *token;
    json_t *value;
    char quoted[QUOTED], found[DESCRIBED];
    json_object_foreach ((json_t *)vocabulary, token, value) {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= MAX_VOCABULARY) {
            fields_fail(fields, "vocab", "token %s: expected an id from 0 to %d, found %s",
                        quote_string(quoted, token), MAX_VOCABULARY - 1, describe(found, value));
            return 0;
        }
        largest = id > largest ? id : largest;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *id = json_object_get(json_array_get(added, i), "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= MAX_VOCABULARY) {
            fields_fail(fields, "added_tokens", "expected objects with an id from 0 to %d",
                        MAX_VOCABULARY - 1);
            return 0;
        }
        largest = json_integer_value(id) > largest ? json_integer_value(id) : largest;
    }
    if (largest < 0)
        fields_fail(fields, "vocab", "there are no tokens");
    return (size_t)(largest + 1);
}

/* Whether `id` may become `token`; else an error. */
static bool is_free_id(struct fields *fields, const qn_tokenizer *tokenizer, int32_t id,
                       const char *token)
{
    if (!tokenizer->tokens[id].is_known)
        return true;
    char quoted[QUOTED], other[QUOTED];
    fields_fail(fields, "vocab", "tokens %s and %s both have the id %d",
                quote_string(other, token_bytes(tokenizer, id)), quote_string(quoted, token),
                (int)id);
    return false;
}

/* Special tokens are found in text as they are written here. */
static bool add_special(struct fields *fields, qn_tokenizer *tokenizer, const json_t *vocabulary,
                        const json_t *entry, json_t *seen)
{
    static const char *const switches[] = {"single_word", "lstrip", "rstrip"};
    struct fields token = fields_of(fields->context, fields->file, entry);
    token.within = "added_tokens";
    token.outer = fields;
    const char *content = fields_string(&token, "content");
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (fields_bool_or(&token, switches[i], false))
            fields_fail(&token, switches[i], "only false is supported");
    if (!token.failed && *content == '\0')
        fields_fail(&token, "content", "expected a text that is not empty");
    if (token.failed)
        return false;
    int32_t id = (int32_t)json_integer_value(json_object_get(entry, "id"));
    const json_t *other = json_object_get(vocabulary, content);
    if (json_object_get(seen, content) || (other && json_integer_value(other) != id)) {
        char quoted[QUOTED];
        fields_fail(&token, "content", "%s has two ids", quote_string(quoted, content));
        return false;
    }
    if (json_object_set_new(seen, content, json_true()) != 0) {
        context_fail(fields->context, QN_ERROR_MEMORY, "out of memory while reading %s",
                     fields->file);
        return false;
    }
    return is_free_id(fields, tokenizer, id, content) &&
           tokenizer_add(tokenizer, id, content, strlen(content), true);
}

static bool add_specials(struct fields *fields, qn_tokenizer *tokenizer, const json_t *vocabulary,
                         const json_t *added)
{
    if (json_array_size(added) > MAX_SPECIALS) {
        fields_fail(fields, "added_tokens", "expected at most %d, found %zu", MAX_SPECIALS,
                    json_array_size(added));
        return false;
    }
    json_t *seen = json_object();
    bool is_good = true;
    for (size_t i = 0; i < json_array_size(added) && is_good; i++)
        is_good = add_special(fields, tokenizer, vocabulary, json_array_get(added, i), seen);
    json_decref(seen);
    return is_good;
}

/* Whether `token` is a special token, which is there already: files have it in the vocabulary too.
 */
static bool is_there(const qn_tokenizer *tokenizer, int32_t id, const char *token)
{
    return tokenizer->tokens[id].is_special && strcmp(token_bytes(tokenizer, id), token) == 0;
}

/* Adds all tokens but the special ones, which are there already. */
static bool add_token(struct fields *fields, const struct pipeline *pipeline, bool falls_back,
                      qn_tokenizer *tokenizer, int32_t id, const char *written, char *scratch)
{
    if (is_there(tokenizer, id, written))
        return true;
    bool is_byte;
    int32_t point;
    size_t length = read_spelling(pipeline->splitting, falls_back, written, scratch, &is_byte);
    bool is_char = pipeline->splitting == QN_SPLIT_CHARACTERS;
    char quoted[QUOTED];
    if (is_char && (length == 0 || utf8_decode(scratch, length, &point) != length))
        fields_fail(fields, "vocab", "expected single characters, found %s",
                    quote_string(quoted, written));
    else if (length == 0)
        fields_fail(fields, "vocab", "token %s is not written %s", quote_string(quoted, written),
                    pipeline->splitting == QN_SPLIT_PATTERN ? "in GPT-2's characters for bytes"
                                                            : "as such tokens are");
    if (fields->failed || !is_free_id(fields, tokenizer, id, written) ||
        !tokenizer_add(tokenizer, id, scratch, length, false))
        return false;
    tokenizer->tokens[id].is_byte = is_byte;
    return true;
}

static bool add_tokens(struct fields *fields, const struct pipeline *pipeline, bool falls_back,
                       qn_tokenizer *tokenizer, const json_t *vocabulary)
{
    size_t longest = 0;
    const char *token;
    json_t *id;
    json_object_foreach ((json_t *)vocabulary, token, id)
        longest = size_max(longest, strlen(token));
    char *scratch = context_alloc(fields->context, longest + 1, 1);
    bool is_good = scratch != NULL;
    json_object_foreach ((json_t *)vocabulary, token, id)
        is_good = is_good && add_token(fields, pipeline, falls_back, tokenizer,
                                       (int32_t)json_integer_value(id), token, scratch);
    free(scratch);
    return is_good;
}

/* The tokenizer of a vocabulary, but for its merges. */
static qn_tokenizer *make_tokenizer(struct fields *fields, enum tokenizer_kind kind,
                                    const struct pipeline *pipeline, bool falls_back,
                                    const json_t *vocabulary, const json_t *added)
{
    size_t count = count_ids(fields, vocabulary, added);
    qn_tokenizer *tokenizer =
        count > 0 ? tokenizer_new(fields->context, kind, pipeline->splitting, count) : NULL;
    if (!tokenizer)
        return NULL;
    tokenizer->falls_back = falls_back;
    tokenizer->n_cleaning = pipeline->n_cleaning;
    memcpy(tokenizer->cleaning, pipeline->cleaning, sizeof tokenizer->cleaning);
    if (add_specials(fields, tokenizer, vocabulary, added) &&
        add_tokens(fields, pipeline, falls_back, tokenizer, vocabulary) &&
        tokenizer_finish(tokenizer))
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
}

/* ---- Byte pair encoding ---- */

/* The id of each byte. */
static bool find_byte_ids(struct fields *fields, enum qn_splitting splitting,
                          const json_t *vocabulary, int32_t byte_ids[256])
{
    for (int byte = 0; byte < 256; byte++) {
        char written[SPELLED + 1];
        spell_token(splitting, true, &(char){(char)byte}, 1, written);
        json_t *id = json_object_get(vocabulary, written);
        if (!id) {
            fields_fail(fields, "vocab",
                        "no token for the byte 0x%02X, \"%s\": this is no byte-level vocabulary",
                        byte, written);
            return false;
        }
        byte_ids[byte] = (int32_t)json_integer_value(id);
    }
    return true;
}

/* Merge number `number` of the tokens `left` and `right`. */
static bool make_merge(struct fields *fields, const json_t *vocabulary, size_t number,
                       const char *left, size_t left_length, const char *right, size_t right_length,
                       struct merge *merge)
{
    if (memchr(left, ' ', left_length) || memchr(right, ' ', right_length)) {
        fields_fail(fields, "merges",
                    "merge %zu is of a token with a space, which is not supported", number);
        return false;
    }
    char *joined = context_alloc(fields->context, left_length + right_length + 1, 1);
    if (!joined)
        return false;
    memcpy(joined, right, right_length); /* each part by itself first */
    const json_t *right_id = json_object_get(vocabulary, joined);
    memset(joined, 0, right_length);
    memcpy(joined, left, left_length);
    const json_t *left_id = json_object_get(vocabulary, joined);
    memcpy(joined + left_length, right, right_length);
    const json_t *joined_id = json_object_get(vocabulary, joined);
    if (left_id && right_id && joined_id)
        *merge = (struct merge){(int32_t)json_integer_value(left_id),
                                (int32_t)json_integer_value(right_id),
                                (int32_t)json_integer_value(joined_id)};
    char quoted[QUOTED];
    const char *missing = !left_id     ? quote(quoted, left, left_length)
                          : !right_id  ? quote(quoted, right, right_length)
                          : !joined_id ? quote(quoted, joined, left_length + right_length)
                                       : NULL;
    if (missing)
        fields_fail(fields, "merges",
                    "merge %zu needs the token %s, which is not in the vocabulary", number,
                    missing);
    free(joined);
    return !missing;
}

/* Takes a line "left right". */
static bool read_merge_line(struct fields *fields, const json_t *vocabulary, size_t number,
                            const char *line, size_t length, struct merge *merge)
{
    const char *space = memchr(line, ' ', length);
    size_t left_length = space ? (size_t)(space - line) : 0;
    if (left_length == 0 || left_length + 1 == length ||
        memchr(space + 1, ' ', length - left_length - 1)) {
        char quoted[QUOTED];
        fields_fail(fields, "merges", "merge %zu: expected two tokens and a space, found %s",
                    number, quote(quoted, line, length));
        return false;
    }
    return make_merge(fields, vocabulary, number, line, left_length, space + 1,
                      length - left_length - 1, merge);
}

/* The merges of a tokenizer.json: "left right", or in newer files ["left", "right"]. */
static struct merge *read_merge_array(struct fields *fields, const json_t *vocabulary,
                                      const json_t *array)
{
    size_t count = json_array_size(array);
    struct merge *merges = context_alloc(fields->context, count, sizeof *merges);
    bool is_good = merges != NULL;
    for (size_t i = 0; i < count && is_good; i++) {
        const json_t *item = json_array_get(array, i);
        const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
        if (json_is_string(item)) {
            is_good = read_merge_line(fields, vocabulary, i, json_string_value(item),
                                      json_string_length(item), &merges[i]);
        } else if (json_array_size(item) == 2 && json_is_string(left) && json_is_string(right)) {
            is_good =
                make_merge(fields, vocabulary, i, json_string_value(left), json_string_length(left),
                           json_string_value(right), json_string_length(right), &merges[i]);
        } else {
            char found[DESCRIBED];
            fields_fail(fields, "merges", "merge %zu: expected two tokens, found %s", i,
                        describe(found, item));
            is_good = false;
        }
    }
    if (is_good)
        return merges;
    free(merges);
    return NULL;
}

/* The merges of a merges.txt: a line each, behind a line "#version: ...". */
static struct merge *read_merge_lines(struct fields *fields, const json_t *vocabulary,
                                      const char *text, size_t *count)
{
    size_t lines = 1;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    struct merge *merges = context_alloc(fields->context, lines, sizeof *merges);
    bool is_good = merges != NULL;
    *count = 0;
    for (const char *line = text, *next; *line && is_good; line = next) {
        size_t length = strcspn(line, "\n");
        next = line + length + (line[length] == '\n');
        if (length > 0 && line[length - 1] == '\r')
            length--;
        bool is_version = line == text && strncmp(line, "#version", 8) == 0;
        if (length == 0 || is_version)
            continue;
        is_good = read_merge_line(fields, vocabulary, *count, line, length, &merges[*count]);
        *count += is_good;
    }
    if (is_good)
        return merges;
    free(merges);
    return NULL;
}

/* Whether a vocabulary without merges is that of the plain bytes. */
static bool is_plain_bytes(const json_t *vocabulary, const int32_t byte_ids[256])
{
    for (int byte = 0; byte < 256; byte++)
        if (byte_ids[byte] != byte)
            return false;
    return json_object_size(vocabulary) == 256;
}

/* Of a model that may have one: the token for what is unknown; -1: it has none. */
static int32_t find_unknown(struct fields *model, const json_t *vocabulary)
{
    const json_t *id = json_object_get(vocabulary, fields_string_or(model, "unk_token", ""));
    return json_is_integer(id) ? (int32_t)json_integer_value(id) : -1;
}

/* Takes the merges over. */
static qn_tokenizer *make_bpe(struct fields *fields, const struct pipeline *pipeline,
                              bool falls_back, int32_t unknown, const json_t *vocabulary,
                              const json_t *added, struct merge *merges, size_t n_merges)
{
    struct bpe_units units = {.unknown = unknown, .byte_ids = {[0] = -1}};
    bool is_pattern = pipeline->splitting == QN_SPLIT_PATTERN;
    qn_tokenizer *tokenizer = NULL;
    if (count_ids(fields, vocabulary, added) == 0 ||
        ((is_pattern || falls_back) &&
         !find_byte_ids(fields, pipeline->splitting, vocabulary, units.byte_ids)))
        goto fail;
    if (is_pattern && n_merges == 0 && json_array_size(added) == 0 && pipeline->n_cleaning == 0 &&
        is_plain_bytes(vocabulary, units.byte_ids)) {
        free(merges);
        return qn_tokenizer_byte(fields->context);
    }
    tokenizer = make_tokenizer(fields, TOKENIZER_BPE, pipeline, falls_back, vocabulary, added);
    if (!tokenizer)
        goto fail;
    tokenizer->unknown = unknown;
    if (!is_pattern) {
        units.characters = tokenizer->characters;
        units.n_characters = tokenizer->n_characters;
    }
    tokenizer->bpe = bpe_new(fields->context, &units, merges, n_merges);
    if (tokenizer->bpe)
        return tokenizer;
    merges = NULL;
fail:
    free(merges);
    qn_tokenizer_free(tokenizer);
    return NULL;
}

/* ---- tokenizer.json ---- */

static void check_empty(struct fields *model, const char *key)
{
    if (*fields_string_or(model, key, "") != '\0')
        fields_fail(model, key, "only an empty text is supported");
}

static void check_false(struct fields *model, const char *key)
{
    if (fields_bool_or(model, key, false))
        fields_fail(model, key, "only false is supported");
}

static qn_tokenizer *read_bpe(struct fields *fields, struct fields *model, const json_t *vocabulary,
                              const json_t *added)
{
    struct pipeline pipeline;
    const json_t *array = fields_array(model, "merges");
    if (!pipeline_read(fields, false, &pipeline))
        return NULL;
    bool is_marked = pipeline.splitting == QN_SPLIT_MARK;
    struct fields splitter = fields_object(fields, "pre_tokenizer");
    if (!fields_bool_or(&splitter, "use_regex", true) && json_array_size(array) > 0)
        fields_fail(&splitter, "use_regex", "only true is supported");
    if (fields_number_or(model, "dropout", 0, 1, 0) > 0)
        fields_fail(model, "dropout", "only null is supported");
    check_empty(model, "continuing_subword_prefix");
    check_empty(model, "end_of_word_suffix");
    check_false(model, "ignore_merges");
    bool falls_back = is_marked && fields_bool_or(model, "byte_fallback", false);
    int32_t unknown = is_marked ? find_unknown(model, vocabulary) : -1;
    if (is_marked)
        check_false(model, "fuse_unk");
    else
        check_false(model, "byte_fallback");
    if (is_marked && !falls_back && unknown < 0)
        fields_fail(model, "unk_token", "expected a token of the vocabulary, or byte_fallback");
    struct merge *merges = fields->failed ? NULL : read_merge_array(model, vocabulary, array);
    return merges ? make_bpe(model, &pipeline, falls_back, unknown, vocabulary, added, merges,
                             json_array_size(array))
                  : NULL;
}

static qn_tokenizer *read_words(struct fields *fields, struct fields *model,
                                const json_t *vocabulary, const json_t *added)
{
    struct pipeline pipeline;
    if (!pipeline_read(fields, true, &pipeline))
        return NULL;
    bool is_char = pipeline.splitting == QN_SPLIT_CHARACTERS;
    qn_tokenizer *tokenizer = make_tokenizer(model, is_char ? TOKENIZER_CHAR : TOKENIZER_WORD,
                                             &pipeline, false, vocabulary, added);
    if (tokenizer)
        tokenizer->unknown = find_unknown(model, vocabulary);
    return tokenizer;
}

static qn_tokenizer *load_json(qn_context *context, const char *path)
{
    json_t *json = json_file_read(context, path, MAX_FILE);
    if (!json)
        return NULL;
    struct fields fields = fields_of(context, path, json);
    struct fields model = fields_object(&fields, "model");
    struct fields vocabulary = fields_object(&model, "vocab");
    const json_t *added = fields_array_or_null(&fields, "added_tokens");
    const char *type = fields_string_or(&model, "type", "BPE"); /* old files do not say it */
    qn_tokenizer *tokenizer = NULL;
    char quoted[QUOTED];
    if (fields.failed)
        tokenizer = NULL;
    else if (strcmp(type, "BPE") == 0)
        tokenizer = read_bpe(&fields, &model, vocabulary.object, added);
    else if (strcmp(type, "WordLevel") == 0)
        tokenizer = read_words(&fields, &model, vocabulary.object, added);
    else
        fields_fail(&model, "type",
                    "expected BPE or WordLevel, found %s: this kind of tokenizer "
                    "is not supported",
                    quote_string(quoted, type));
    json_decref(json);
    return tokenizer;
}

/* ---- vocab.json and merges.txt ---- */

static qn_tokenizer *load_pair(qn_context *context, const char *vocabulary_path,
                               const char *merges_path)
{
    qn_tokenizer *tokenizer = NULL;
    size_t bytes, n_merges = 0;
    json_t *added = NULL, *vocabulary = json_file_read(context, vocabulary_path, MAX_FILE);
    char *text = vocabulary ? file_read(context, merges_path, MAX_FILE, &bytes) : NULL;
    if (!text)
        goto done;
    struct fields fields = fields_of(context, vocabulary_path, vocabulary);
    json_t *end = json_object_get(vocabulary, end_of_text);
    if (json_is_integer(end)) {
        added = json_pack("[{s:O, s:s}]", "id", end, "content", end_of_text);
        if (!added) {
            context_fail(context, QN_ERROR_MEMORY, "out of memory while reading %s",
                         vocabulary_path);
            goto done;
        }
    }
    if (count_ids(&fields, vocabulary, added) == 0)
        goto done;
    struct fields merge_fields = fields_of(context, merges_path, NULL);
    struct merge *merges = read_merge_lines(&merge_fields, vocabulary, text, &n_merges);
    if (merges)
        tokenizer = make_bpe(&fields, &(struct pipeline){.splitting = QN_SPLIT_PATTERN}, false, -1,
                             vocabulary, added, merges, n_merges);
done:
    free(text);
    json_decref(added);
    json_decref(vocabulary);
    return tokenizer;
}

static bool exists(const char *path)
{
    struct stat status;
    return path && stat(path, &status) == 0;
}

qn_tokenizer *qn_tokenizer_load(qn_context *context, const char *path)
{
    if (!context || !path)
        return NULL;
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return load_json(context, path);
    qn_tokenizer *tokenizer = NULL;
    char *whole = path_join(context, path, "tokenizer.json");
    char *vocabulary = path_join(context, path, "vocab.json");
    char *merges = path_join(context, path, "merges.txt");
    if (exists(whole))
        tokenizer = load_json(context, whole);
    else if (exists(vocabulary) && exists(merges))
        tokenizer = load_pair(context, vocabulary, merges);
    else
        context_fail(context, QN_ERROR_FILE,
                     "%s holds no tokenizer: expected tokenizer.json, or vocab.json and merges.txt",
                     path);
    free(merges);
    free(vocabulary);
    free(whole);
    return tokenizer;
}

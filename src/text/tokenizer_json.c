/* Tokenizers as files: `tokenizer.json` of Hugging Face's tokenizers, and GPT-2's `vocab.json` with
 * `merges.txt`. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/fields.h"
#include "io/file.h"
#include "text/bpe.h"

/* GPT-2's files have 1 MB and 0.5 MB; the largest vocabularies that are used, some 30 MB. */
enum { MAX_FILE = 1 << 28, MAX_SPECIALS = 10000 };

/* Splits text into its characters: Oniguruma, which Hugging Face uses, and PCRE2 read it alike. */
static const char every_character[] = "[\\s\\S]";

static const char end_of_text[] = "<|endoftext|>";

/* ---- Tokens of byte-level BPE: written with a character that prints for each byte ---- */

/* The bytes that a written token stands for, of which `bytes` has room for strlen(written); 0 if it
 * is not so written. */
static size_t read_token(const char *written, char *bytes)
{
    size_t length = strlen(written), used = 0, step;
    for (size_t at = 0; at < length; at += step) {
        int32_t point = -1;
        step = utf8_decode(written + at, length - at, &point);
        int byte = step > 0 ? point_to_byte(point) : -1;
        if (byte < 0)
            return 0;
        bytes[used++] = (char)byte;
    }
    return used;
}

/* The reverse; `written` has room for twice the bytes, and a NUL. */
static void write_token(const char *bytes, size_t length, char *written)
{
    for (size_t i = 0; i < length; i++) {
        int32_t point = byte_to_point((unsigned char)bytes[i]);
        if (point < 0x80) {
            *written++ = (char)point;
        } else { /* below U+0800: two bytes */
            *written++ = (char)(0xC0 | point >> 6);
            *written++ = (char)(0x80 | (point & 0x3F));
        }
    }
    *written = '\0';
}

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

/* ---- Byte-level BPE ---- */

static bool add_bpe_token(struct fields *fields, qn_tokenizer *tokenizer, int32_t id,
                          const char *written, char *scratch)
{
    if (is_there(tokenizer, id, written))
        return true;
    size_t length = read_token(written, scratch);
    if (length == 0) {
        char quoted[QUOTED];
        fields_fail(fields, "vocab", "token %s is not written in GPT-2's characters for bytes",
                    quote_string(quoted, written));
        return false;
    }
    return is_free_id(fields, tokenizer, id, written) &&
           tokenizer_add(tokenizer, id, scratch, length, false);
}

static bool add_bpe_tokens(struct fields *fields, qn_tokenizer *tokenizer, const json_t *vocabulary)
{
    size_t longest = 0;
    const char *token;
    json_t *id;
    json_object_foreach ((json_t *)vocabulary, token, id)
        longest = size_max(longest, strlen(token));
    char *scratch = context_alloc(fields->context, longest, 1);
    bool is_good = scratch != NULL;
    json_object_foreach ((json_t *)vocabulary, token, id)
        is_good = is_good &&
                  add_bpe_token(fields, tokenizer, (int32_t)json_integer_value(id), token, scratch);
    free(scratch);
    return is_good;
}

/* The id of each byte. */
static bool find_byte_ids(struct fields *fields, const json_t *vocabulary, int32_t byte_ids[256])
{
    for (int byte = 0; byte < 256; byte++) {
        char written[3];
        write_token((char[]){(char)byte}, 1, written);
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

/* Takes the merges over. */
static qn_tokenizer *make_bpe(struct fields *fields, const json_t *vocabulary, const json_t *added,
                              struct merge *merges, size_t n_merges)
{
    int32_t byte_ids[256];
    qn_tokenizer *tokenizer = NULL;
    size_t count = count_ids(fields, vocabulary, added);
    if (count == 0 || !find_byte_ids(fields, vocabulary, byte_ids))
        goto fail;
    if (n_merges == 0 && json_array_size(added) == 0 && is_plain_bytes(vocabulary, byte_ids)) {
        free(merges);
        return qn_tokenizer_byte(fields->context);
    }
    tokenizer = tokenizer_new(fields->context, TOKENIZER_BPE, count);
    if (!tokenizer || !add_specials(fields, tokenizer, vocabulary, added) ||
        !add_bpe_tokens(fields, tokenizer, vocabulary))
        goto fail;
    tokenizer->bpe = bpe_new(fields->context, byte_ids, merges, n_merges);
    if (tokenizer->bpe && tokenizer_finish(tokenizer))
        return tokenizer;
    merges = NULL;
fail:
    free(merges);
    qn_tokenizer_free(tokenizer);
    return NULL;
}

/* ---- tokenizer.json ---- */

/* Refuses a part of the pipeline (a normalizer, ...) that is not null and whose type is not
 * `allowed`. */
static void check_part(struct fields *fields, const char *key, const char *allowed)
{
    struct fields part = fields_object_or_null(fields, key);
    if (!part.object)
        return;
    const char *type = fields_string(&part, "type");
    char quoted[QUOTED];
    if (!part.failed && (!allowed || strcmp(type, allowed) != 0))
        fields_fail(fields, key, "expected %s, found %s: this kind of tokenizer is not supported",
                    allowed ? allowed : "null", quote_string(quoted, type));
}

static void check_empty(struct fields *model, const char *key)
{
    if (*fields_string_or(model, key, "") != '\0')
        fields_fail(model, key, "only an empty text is supported");
}

static qn_tokenizer *read_bpe(struct fields *fields, struct fields *model, const json_t *vocabulary,
                              const json_t *added)
{
    const json_t *array = fields_array(model, "merges");
    struct fields splitter = fields_object(fields, "pre_tokenizer");
    check_part(fields, "normalizer", NULL);
    check_part(fields, "pre_tokenizer", "ByteLevel");
    check_part(fields, "post_processor", "ByteLevel");
    check_part(fields, "decoder", "ByteLevel");
    if (fields_bool_or(&splitter, "add_prefix_space", true))
        fields_fail(&splitter, "add_prefix_space", "only false is supported");
    if (!fields_bool_or(&splitter, "use_regex", true) && json_array_size(array) > 0)
        fields_fail(&splitter, "use_regex", "only true is supported");
    if (fields_number_or(model, "dropout", 0, 1, 0) > 0)
        fields_fail(model, "dropout", "only null is supported");
    check_empty(model, "continuing_subword_prefix");
    check_empty(model, "end_of_word_suffix");
    if (fields_bool_or(model, "byte_fallback", false))
        fields_fail(model, "byte_fallback", "only false is supported");
    if (fields_bool_or(model, "ignore_merges", false))
        fields_fail(model, "ignore_merges", "only false is supported");
    struct merge *merges = fields->failed ? NULL : read_merge_array(model, vocabulary, array);
    return merges ? make_bpe(model, vocabulary, added, merges, json_array_size(array)) : NULL;
}

static qn_tokenizer *read_characters(struct fields *fields, struct fields *model,
                                     const json_t *vocabulary, const json_t *added)
{
    struct fields splitter = fields_object(fields, "pre_tokenizer");
    struct fields pattern = fields_object(&splitter, "pattern");
    const char *regex = fields_string_or(&pattern, "Regex", "");
    if (!fields->failed && strcmp(regex, every_character) != 0)
        fields_fail(&pattern, "Regex",
                    "expected \"%s\", as Quern writes it: splitting otherwise "
                    "is not supported",
                    every_character);
    check_part(fields, "normalizer", NULL);
    check_part(fields, "pre_tokenizer", "Split");
    check_part(fields, "post_processor", NULL);
    check_part(fields, "decoder", "Fuse");
    size_t count = fields->failed ? 0 : count_ids(model, vocabulary, added);
    qn_tokenizer *tokenizer =
        count > 0 ? tokenizer_new(fields->context, TOKENIZER_CHAR, count) : NULL;
    bool is_good = tokenizer && add_specials(fields, tokenizer, vocabulary, added);
    const char *token;
    json_t *value;
    json_object_foreach ((json_t *)vocabulary, token, value) {
        int32_t point, id = (int32_t)json_integer_value(value);
        size_t length = strlen(token);
        if (!is_good || is_there(tokenizer, id, token))
            continue;
        if (length == 0 || utf8_decode(token, length, &point) != length) {
            char quoted[QUOTED];
            fields_fail(model, "vocab", "expected single characters, found %s",
                        quote_string(quoted, token));
            is_good = false;
        } else {
            is_good = is_free_id(model, tokenizer, id, token) &&
                      tokenizer_add(tokenizer, id, token, length, false);
        }
    }
    if (is_good && tokenizer_finish(tokenizer))
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
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
        tokenizer = read_characters(&fields, &model, vocabulary.object, added);
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
        tokenizer = make_bpe(&fields, vocabulary, added, merges, n_merges);
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

/* ---- Writing ---- */

/* {"token": id, ...} in the order of the ids; NULL on failure. */
static json_t *write_vocabulary(const qn_tokenizer *tokenizer)
{
    json_t *vocabulary = json_object();
    for (size_t id = 0; id < tokenizer->vocabulary && vocabulary; id++) {
        const struct token *token = &tokenizer->tokens[id];
        const char *bytes = tokenizer->storage + token->offset;
        if (!token->is_known)
            continue;
        bool is_plain = tokenizer->kind == TOKENIZER_CHAR || token->is_special;
        char *written = is_plain ? NULL : malloc(2 * token->length + 1);
        if (written)
            write_token(bytes, token->length, written);
        const char *key = is_plain ? bytes : written;
        if (!key || json_object_set_new(vocabulary, key, json_integer((json_int_t)id)) != 0) {
            json_decref(vocabulary);
            vocabulary = NULL;
        }
        free(written);
    }
    return vocabulary;
}

static json_t *write_merges(const qn_tokenizer *tokenizer, const json_t *vocabulary)
{
    size_t count = 0;
    const struct merge *merges =
        tokenizer->kind == TOKENIZER_BPE ? bpe_merges(tokenizer->bpe, &count) : NULL;
    const char **written = calloc(tokenizer->vocabulary + 1, sizeof *written);
    json_t *array = written ? json_array() : NULL;
    const char *token;
    json_t *id;
    json_object_foreach ((json_t *)vocabulary, token, id) {
        if (written)
            written[json_integer_value(id)] = token;
    }
    for (size_t i = 0; i < count && array; i++) {
        json_t *pair = json_sprintf("%s %s", written[merges[i].left], written[merges[i].right]);
        if (json_array_append_new(array, pair) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    free(written);
    return array;
}

static json_t *write_added(const qn_tokenizer *tokenizer)
{
    json_t *added = json_array();
    for (size_t i = 0; i < tokenizer->vocabulary && added; i++) {
        if (!tokenizer->tokens[i].is_special)
            continue;
        json_t *token = json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                  "content", token_bytes(tokenizer, (int32_t)i), "single_word", 0,
                                  "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
        if (json_array_append_new(added, token) != 0) {
            json_decref(added);
            added = NULL;
        }
    }
    return added;
}

static json_t *byte_level(bool use_regex, bool trim_offsets)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", (int)trim_offsets, "use_regex", (int)use_regex);
}

static json_t *write_tokenizer(const qn_tokenizer *tokenizer)
{
    json_t *vocabulary = write_vocabulary(tokenizer), *model, *splitter, *decoder, *processor;
    if (tokenizer->kind == TOKENIZER_CHAR) {
        splitter = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                             every_character, "behavior", "Isolated", "invert", 0);
        decoder = json_pack("{s:s}", "type", "Fuse");
        processor = json_null();
        /* That the unknown token is not in the vocabulary makes an unknown character an error
         * there, too. */
        model = json_pack("{s:s, s:s, s:o}", "type", "WordLevel", "unk_token", "[UNK]", "vocab",
                          vocabulary);
    } else {
        splitter = byte_level(tokenizer->kind == TOKENIZER_BPE, true);
        decoder = byte_level(true, true);
        processor = byte_level(true, false);
        json_t *merges = write_merges(tokenizer, vocabulary);
        model = json_pack("{s:s, s:n, s:n, s:s, s:s, s:b, s:b, s:b, s:o, s:o}", "type", "BPE",
                          "dropout", "unk_token", "continuing_subword_prefix", "",
                          "end_of_word_suffix", "", "fuse_unk", 0, "byte_fallback", 0,
                          "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
    }
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", write_added(tokenizer), "normalizer",
                     "pre_tokenizer", splitter, "post_processor", processor, "decoder", decoder,
                     "model", model);
}

static int save_json(qn_context *context, const char *path, json_t *json)
{
    int status = path ? json_file_write(context, path, json) : QN_ERROR_MEMORY;
    json_decref(json);
    return status;
}

int qn_tokenizer_save(const qn_tokenizer *tokenizer, const char *path)
{
    if (!tokenizer || !path)
        return QN_ERROR_INVALID;
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return save_json(tokenizer->context, path, write_tokenizer(tokenizer));

    char *whole = path_join(tokenizer->context, path, "tokenizer.json");
    char *config = path_join(tokenizer->context, path, "tokenizer_config.json");
    int result = save_json(tokenizer->context, whole, write_tokenizer(tokenizer));
    /* Else transformers goes by the model and splits text as GPT-2 does, whatever tokenizer.json
     * says. */
    if (result == QN_OK)
        result = save_json(tokenizer->context, config,
                           json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                                     "clean_up_tokenization_spaces", 0));
    free(config);
    free(whole);
    return result;
}

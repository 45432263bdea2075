/* The parts of a `tokenizer.json` around its model, read and written; the spelling of tokens. */
#include "text/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "text/bpe.h"

/* Splits text into its characters: Oniguruma, which Hugging Face uses, and PCRE2 read it alike. */
static const char every_character[] = "[\\s\\S]";

static const char mark[] = "\u2581";

/* ---- Cleaning ---- */

/* The normalizers that do what a step does: an array. */
static json_t *normalizers_of(enum qn_cleaning step)
{
    switch (step) {
    case QN_CLEAN_NFC:
        return json_pack("[{s:s}]", "type", "NFC");
    case QN_CLEAN_NFKC:
        return json_pack("[{s:s}]", "type", "NFKC");
    case QN_CLEAN_LOWERCASE:
        return json_pack("[{s:s}]", "type", "Lowercase");
    case QN_CLEAN_ACCENTS:
        return json_pack("[{s:s}, {s:s}, {s:s}]", "type", "NFD", "type", "StripAccents", "type",
                         "NFC");
    case QN_CLEAN_CONTROLS:
        return json_pack("[{s:s, s:{s:s}, s:s}]", "type", "Replace", "pattern", "Regex",
                         pattern_of_controls, "content", "");
    case QN_CLEAN_SPACES:
        return json_pack("[{s:s, s:{s:s}, s:s}, {s:s, s:b, s:b}]", "type", "Replace", "pattern",
                         "Regex", pattern_of_spaces, "content", " ", "type", "Strip", "strip_left",
                         1, "strip_right", 1);
    }
    return NULL;
}

json_t *pipeline_normalizer(const qn_tokenizer *tokenizer)
{
    if (tokenizer->n_cleaning == 0)
        return json_null();
    json_t *all = json_array();
    for (size_t i = 0; i < tokenizer->n_cleaning; i++) {
        json_t *some = normalizers_of(tokenizer->cleaning[i]);
        if (!some || json_array_extend(all, some) != 0) {
            json_decref(some);
            json_decref(all);
            return NULL;
        }
        json_decref(some);
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", all);
}

/* How many items from `at` on are the normalizers of a step; 0: they are not. */
static size_t match_step(const json_t *items, size_t at, enum qn_cleaning step)
{
    json_t *expected = normalizers_of(step);
    size_t count = json_array_size(expected);
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (!json_equal(json_array_get(expected, i), json_array_get(items, at + i)))
            count = 0;
    json_decref(expected);
    return count;
}

static void read_steps(struct fields *fields, const json_t *items, struct pipeline *pipeline)
{
    size_t at = 0, count;
    while (at < json_array_size(items)) {
        int step = 0;
        while (step < QN_CLEANINGS && (count = match_step(items, at, step)) == 0)
            step++;
        const json_t *type = json_object_get(json_array_get(items, at), "type");
        char found[DESCRIBED];
        if (step == QN_CLEANINGS)
            fields_fail(fields, "normalizer",
                        "number %zu, %s, is not supported, or not with its options", at,
                        describe(found, type));
        else if (pipeline->n_cleaning == QN_MAX_CLEANING)
            fields_fail(fields, "normalizer", "expected at most %d steps", QN_MAX_CLEANING);
        if (fields->failed)
            return;
        pipeline->cleaning[pipeline->n_cleaning++] = (enum qn_cleaning)step;
        at += count;
    }
}

static void read_normalizer(struct fields *fields, struct pipeline *pipeline)
{
    struct fields part = fields_object_or_null(fields, "normalizer");
    if (!part.object)
        return;
    const char *type = fields_string(&part, "type");
    if (strcmp(type, "Sequence") == 0) {
        read_steps(fields, fields_array(&part, "normalizers"), pipeline);
        return;
    }
    json_t *items = json_pack("[O]", part.object);
    if (items)
        read_steps(fields, items, pipeline);
    else
        context_fail(fields->context, QN_ERROR_MEMORY, "out of memory while reading %s",
                     fields->file);
    json_decref(items);
}

/* ---- Splitting ---- */

/* What each way of splitting is in a file; a decoder NULL: null. */
static const struct {
    const char *splitter, *decoder;
    bool has_words; /* of the model */
} parts[] = {
    [QN_SPLIT_CHARACTERS] = {"Split", "Fuse", true},
    [QN_SPLIT_PATTERN] = {"ByteLevel", "ByteLevel", false},
    [QN_SPLIT_MARK] = {"Metaspace", "Metaspace", false},
    [QN_SPLIT_SPACE] = {"WhitespaceSplit", NULL, true},
    [QN_SPLIT_PUNCTUATION] = {"BertPreTokenizer", NULL, true},
};
enum { N_PARTS = sizeof parts / sizeof *parts };

static json_t *byte_level(bool use_regex, bool trim_offsets)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", (int)trim_offsets, "use_regex", (int)use_regex);
}

static json_t *metaspace(void)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", mark,
                     "prepend_scheme", "always", "split", 1);
}

json_t *pipeline_splitter(const qn_tokenizer *tokenizer)
{
    switch (tokenizer->splitting) {
    case QN_SPLIT_CHARACTERS:
        return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                         every_character, "behavior", "Isolated", "invert", 0);
    case QN_SPLIT_PATTERN:
        return byte_level(tokenizer->kind == TOKENIZER_BPE, true);
    case QN_SPLIT_MARK:
        return metaspace();
    case QN_SPLIT_SPACE:
    case QN_SPLIT_PUNCTUATION:
        return json_pack("{s:s}", "type", parts[tokenizer->splitting].splitter);
    }
    return NULL;
}

json_t *pipeline_processor(const qn_tokenizer *tokenizer)
{
    return tokenizer->splitting == QN_SPLIT_PATTERN ? byte_level(true, false) : json_null();
}

json_t *pipeline_decoder(const qn_tokenizer *tokenizer)
{
    switch (tokenizer->splitting) {
    case QN_SPLIT_CHARACTERS:
        return json_pack("{s:s}", "type", "Fuse");
    case QN_SPLIT_PATTERN:
        return byte_level(true, true);
    case QN_SPLIT_MARK:
        return json_pack("{s:s, s:[{s:s}, o]}", "type", "Sequence", "decoders", "type",
                         "ByteFallback", metaspace());
    case QN_SPLIT_SPACE:
    case QN_SPLIT_PUNCTUATION:
        break;
    }
    return json_null();
}

/* Refuses a part that is not null and whose type is not `allowed`. */
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

static void expect_string(struct fields *part, const char *key, const char *expected,
                          const char *fallback)
{
    const char *found = fields_string_or(part, key, fallback);
    char quoted[QUOTED];
    if (!part->failed && strcmp(found, expected) != 0)
        fields_fail(part, key, "only \"%s\" is supported, found %s", expected,
                    quote_string(quoted, found));
}

static void check_metaspace(struct fields *part)
{
    expect_string(part, "replacement", mark, mark);
    expect_string(part, "prepend_scheme", "always", "always");
    if (!fields_bool_or(part, "add_prefix_space", true))
        fields_fail(part, "add_prefix_space", "only true is supported");
    if (!fields_bool_or(part, "split", true))
        fields_fail(part, "split", "only true is supported");
}

/* Of a Metaspace tokenizer: Metaspace, or ByteFallback before it. */
static void check_mark_decoder(struct fields *fields)
{
    struct fields part = fields_object_or_null(fields, "decoder");
    if (!part.object)
        return;
    if (strcmp(fields_string(&part, "type"), "Sequence") != 0) {
        check_part(fields, "decoder", "Metaspace");
        return;
    }
    const json_t *list = fields_array(&part, "decoders");
    static const char *const types[] = {"ByteFallback", "Metaspace"};
    bool is_known = json_array_size(list) == 2;
    for (size_t i = 0; i < 2 && is_known; i++) {
        const char *type = json_string_value(json_object_get(json_array_get(list, i), "type"));
        is_known = type && strcmp(type, types[i]) == 0;
    }
    if (!fields->failed && !is_known)
        fields_fail(&part, "decoders", "expected ByteFallback and Metaspace");
}

static void check_options(struct fields *part, enum qn_splitting splitting)
{
    if (splitting == QN_SPLIT_CHARACTERS) {
        struct fields pattern = fields_object(part, "pattern");
        expect_string(&pattern, "Regex", every_character, "");
        expect_string(part, "behavior", "Isolated", "");
        if (fields_bool_or(part, "invert", false))
            fields_fail(part, "invert", "only false is supported");
    } else if (splitting == QN_SPLIT_PATTERN) {
        if (fields_bool_or(part, "add_prefix_space", true))
            fields_fail(part, "add_prefix_space", "only false is supported");
    } else if (splitting == QN_SPLIT_MARK) {
        check_metaspace(part);
    }
}

bool pipeline_read(struct fields *fields, bool has_words, struct pipeline *pipeline)
{
    *pipeline = (struct pipeline){0};
    struct fields part = fields_object(fields, "pre_tokenizer");
    const char *type = fields_string(&part, "type");
    size_t splitting = 0;
    while (splitting < N_PARTS && (parts[splitting].has_words != has_words ||
                                   strcmp(parts[splitting].splitter, type) != 0))
        splitting++;
    char quoted[QUOTED];
    if (!fields->failed && splitting == N_PARTS)
        fields_fail(fields, "pre_tokenizer",
                    "expected %s, found %s: this kind of tokenizer is not "
                    "supported",
                    has_words ? "Split, WhitespaceSplit or BertPreTokenizer"
                              : "ByteLevel or Metaspace",
                    quote_string(quoted, type));
    if (fields->failed)
        return false;
    pipeline->splitting = (enum qn_splitting)splitting;
    check_options(&part, pipeline->splitting);
    read_normalizer(fields, pipeline);
    bool is_pattern = pipeline->splitting == QN_SPLIT_PATTERN;
    check_part(fields, "post_processor", is_pattern ? "ByteLevel" : NULL);
    if (pipeline->splitting == QN_SPLIT_MARK)
        check_mark_decoder(fields);
    else
        check_part(fields, "decoder", parts[splitting].decoder);
    return !fields->failed;
}

/* ---- Spelling ---- */

/* Byte-level BPE: a character that prints for each byte. */
static void spell_bytes(const char *bytes, size_t length, char *written)
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

static size_t read_bytes(const char *written, char *bytes)
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

void spell_token(enum qn_splitting splitting, bool is_byte, const char *bytes, size_t length,
                 char *written)
{
    if (splitting == QN_SPLIT_PATTERN) {
        spell_bytes(bytes, length, written);
        return;
    }
    if (is_byte) {
        snprintf(written, SPELLED + 1, "<0x%02X>", (unsigned)(unsigned char)*bytes);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        bool is_mark = splitting == QN_SPLIT_MARK && bytes[i] == ' ';
        if (is_mark)
            written = stpcpy(written, mark);
        else
            *written++ = bytes[i];
    }
    *written = '\0';
}

/* The byte that "<0x0A>" names; -1: it is no such name. */
static int named_byte(const char *written)
{
    char again[SPELLED + 1];
    unsigned byte;
    if (sscanf(written, "<0x%2X>", &byte) != 1)
        return -1;
    spell_token(QN_SPLIT_MARK, true, &(char){(char)byte}, 1, again);
    return strcmp(written, again) == 0 ? (int)byte : -1;
}

size_t read_spelling(enum qn_splitting splitting, bool falls_back, const char *written, char *bytes,
                     bool *is_byte)
{
    *is_byte = false;
    if (splitting == QN_SPLIT_PATTERN)
        return read_bytes(written, bytes);
    int byte = falls_back ? named_byte(written) : -1;
    if (byte >= 0) {
        *is_byte = true;
        *bytes = (char)byte;
        return 1;
    }
    size_t used = 0;
    while (*written) {
        bool is_mark = splitting == QN_SPLIT_MARK && strncmp(written, mark, sizeof mark - 1) == 0;
        if (splitting == QN_SPLIT_MARK && *written == ' ')
            return 0;
        bytes[used++] = is_mark ? ' ' : *written;
        written += is_mark ? sizeof mark - 1 : 1;
    }
    return used;
}

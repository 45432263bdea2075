/* Tokenizers: characters, bytes, and byte pair encoding; encoding and decoding. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "io/file.h"
#include "text/bpe.h"

/* ---- UTF-8 ---- */

size_t utf8_decode(const char *text, size_t bytes, int32_t *point)
{
    if (bytes > 0 && (unsigned char)*text < 0x80) {
        *point = *text;
        return 1;
    }
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text,
                                               (utf8proc_ssize_t)size_min(bytes, 4), point);
    return length > 0 ? (size_t)length : 0;
}

size_t utf8_check(const char *text, size_t bytes)
{
    size_t at = 0, length;
    int32_t point;
    while (at < bytes && (length = utf8_decode(text + at, bytes - at, &point)) > 0)
        at += length;
    return at;
}

struct place place_of(const char *text, size_t offset)
{
    struct place place = {1, 1};
    for (size_t i = 0; i < offset; i++) {
        bool is_continuation = ((unsigned char)text[i] & 0xC0) == 0x80;
        place.column += !is_continuation;
        if (text[i] == '\n')
            place = (struct place){place.line + 1, 1};
    }
    return place;
}

int qn_text_check(qn_context *context, const char *name, const char *text, size_t bytes,
                  bool allows_nul)
{
    if (!context || !name || (bytes > 0 && !text))
        return QN_ERROR_INVALID;
    size_t good = utf8_check(text, bytes);
    const char *nul = allows_nul || good == 0 ? NULL : memchr(text, '\0', good);
    if (!nul && good == bytes)
        return QN_OK;
    size_t offset = nul ? (size_t)(nul - text) : good;
    size_t line = place_of(text, offset).line;
    if (nul)
        return context_fail(context, QN_ERROR_FORMAT,
                            "%s: NUL at offset %zu (line %zu): it seems to be binary", name, offset,
                            line);
    return context_fail(context, QN_ERROR_FORMAT,
                        "%s: byte 0x%02X at offset %zu (line %zu) is not UTF-8: convert the text "
                        "(iconv -t utf-8)",
                        name, (unsigned char)text[offset], offset, line);
}

/* ---- Ids ---- */

bool ids_append(qn_context *context, struct ids *ids, const int32_t *values, size_t count)
{
    if (count > ids->capacity - ids->count) {
        size_t capacity = size_max(2 * ids->capacity, ids->count + count), bytes;
        int32_t *larger =
            size_product(&bytes, capacity, sizeof *larger) ? realloc(ids->values, bytes) : NULL;
        if (!larger) {
            context_fail(context, QN_ERROR_MEMORY, "out of memory for %zu tokens", capacity);
            return false;
        }
        ids->values = larger;
        ids->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++) /* mostly few */
        ids->values[ids->count + i] = values[i];
    ids->count += count;
    return true;
}

/* ---- Making ---- */

qn_tokenizer *tokenizer_new(qn_context *context, enum tokenizer_kind kind, size_t vocabulary)
{
    if (vocabulary > MAX_VOCABULARY) {
        context_fail(context, QN_ERROR_FORMAT, "a tokenizer has at most %d tokens, not %zu",
                     MAX_VOCABULARY, vocabulary);
        return NULL;
    }
    qn_tokenizer *tokenizer = context_alloc(context, 1, sizeof *tokenizer);
    if (!tokenizer)
        return NULL;
    tokenizer->context = context;
    tokenizer->kind = kind;
    tokenizer->vocabulary = vocabulary;
    tokenizer->tokens = context_alloc(context, vocabulary, sizeof *tokenizer->tokens);
    if (tokenizer->tokens)
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
}

bool tokenizer_add(qn_tokenizer *tokenizer, int32_t id, const char *bytes, size_t length,
                   bool is_special)
{
    size_t needed = tokenizer->storage_bytes + length + 1;
    if (needed > tokenizer->storage_capacity) {
        size_t capacity = size_max(2 * needed, 4096);
        char *larger = realloc(tokenizer->storage, capacity);
        if (!larger) {
            context_fail(tokenizer->context, QN_ERROR_MEMORY, "out of memory for a vocabulary");
            return false;
        }
        tokenizer->storage = larger;
        tokenizer->storage_capacity = capacity;
    }
    memcpy(tokenizer->storage + tokenizer->storage_bytes, bytes, length);
    tokenizer->storage[tokenizer->storage_bytes + length] = '\0';
    tokenizer->tokens[id] = (struct token){.offset = tokenizer->storage_bytes,
                                           .length = length,
                                           .is_known = true,
                                           .is_special = is_special};
    tokenizer->storage_bytes = needed;
    return true;
}

static int compare_characters(const void *a, const void *b)
{
    const struct character *x = a, *y = b;
    return (x->point > y->point) - (x->point < y->point);
}

static bool collect_characters(qn_tokenizer *tokenizer)
{
    struct character *characters =
        context_alloc(tokenizer->context, tokenizer->vocabulary, sizeof *characters);
    if (!characters)
        return false;
    for (size_t id = 0; id < tokenizer->vocabulary; id++) {
        const struct token *token = &tokenizer->tokens[id];
        if (token->is_special || !token->is_known)
            continue;
        struct character *character = &characters[tokenizer->n_characters++];
        character->id = (int32_t)id;
        utf8_decode(token_bytes(tokenizer, (int32_t)id), token->length, &character->point);
    }
    qsort(characters, tokenizer->n_characters, sizeof *characters, compare_characters);
    tokenizer->characters = characters;
    return true;
}

static bool collect_specials(qn_tokenizer *tokenizer)
{
    size_t count = 0;
    for (size_t id = 0; id < tokenizer->vocabulary; id++)
        count += tokenizer->tokens[id].is_special;
    tokenizer->specials = context_alloc(tokenizer->context, count, sizeof *tokenizer->specials);
    if (!tokenizer->specials)
        return false;
    for (size_t id = 0; id < tokenizer->vocabulary; id++) {
        if (!tokenizer->tokens[id].is_special)
            continue;
        size_t at = tokenizer->n_specials++; /* few: sorted by insertion, longest first */
        while (at > 0 && tokenizer->tokens[tokenizer->specials[at - 1]].length <
                             tokenizer->tokens[id].length) {
            tokenizer->specials[at] = tokenizer->specials[at - 1];
            at--;
        }
        tokenizer->specials[at] = (int32_t)id;
    }
    return true;
}

bool tokenizer_finish(qn_tokenizer *tokenizer)
{
    return collect_specials(tokenizer) &&
           (tokenizer->kind != TOKENIZER_CHAR || collect_characters(tokenizer));
}

qn_tokenizer *qn_tokenizer_char(qn_context *context, const char *text, size_t bytes)
{
    if (!context || !text)
        return NULL;
    enum { POINTS = 0x110000 };
    if (qn_text_check(context, "the training text", text, bytes, false) != QN_OK)
        return NULL;
    bool *occurs = context_alloc(context, POINTS, sizeof *occurs);
    if (!occurs)
        return NULL;
    qn_tokenizer *tokenizer = NULL;
    size_t vocabulary = 0;
    for (size_t at = 0; at < bytes;) {
        int32_t point = 0;
        at += utf8_decode(text + at, bytes - at, &point);
        vocabulary += !occurs[point];
        occurs[point] = true;
    }
    if (vocabulary == 0) {
        context_fail(context, QN_ERROR_INVALID,
                     "the training text is empty: no characters to learn");
        goto done;
    }
    tokenizer = tokenizer_new(context, TOKENIZER_CHAR, vocabulary);
    int32_t id = 0;
    bool is_good = tokenizer != NULL;
    for (int32_t point = 1; point < POINTS && is_good; point++) {
        utf8proc_uint8_t encoded[4];
        if (occurs[point])
            is_good = tokenizer_add(tokenizer, id++, (const char *)encoded,
                                    (size_t)utf8proc_encode_char(point, encoded), false);
    }
    if (!is_good || !tokenizer_finish(tokenizer)) {
        qn_tokenizer_free(tokenizer);
        tokenizer = NULL;
    }
done:
    free(occurs);
    return tokenizer;
}

qn_tokenizer *qn_tokenizer_byte(qn_context *context)
{
    qn_tokenizer *tokenizer = context ? tokenizer_new(context, TOKENIZER_BYTE, 256) : NULL;
    bool is_good = tokenizer != NULL;
    for (int byte = 0; byte < 256 && is_good; byte++)
        is_good = tokenizer_add(tokenizer, byte, (char[]){(char)byte}, 1, false);
    if (is_good && tokenizer_finish(tokenizer))
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
}

void qn_tokenizer_free(qn_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bpe_free(tokenizer->bpe);
    free(tokenizer->characters);
    free(tokenizer->specials);
    free(tokenizer->storage);
    free(tokenizer->tokens);
    free(tokenizer);
}

/* ---- What it is ---- */

const char *qn_tokenizer_kind(const qn_tokenizer *tokenizer)
{
    static const char *const names[] = {
        [TOKENIZER_CHAR] = "char", [TOKENIZER_BYTE] = "byte", [TOKENIZER_BPE] = "bpe"};
    return tokenizer ? names[tokenizer->kind] : NULL;
}

size_t qn_tokenizer_vocabulary(const qn_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->vocabulary : 0;
}

const char *qn_tokenizer_token(const qn_tokenizer *tokenizer, int32_t id, size_t *bytes)
{
    if (!tokenizer || id < 0 || (size_t)id >= tokenizer->vocabulary ||
        !tokenizer->tokens[id].is_known)
        return NULL;
    if (bytes)
        *bytes = tokenizer->tokens[id].length;
    return token_bytes(tokenizer, id);
}

int32_t qn_tokenizer_special(const qn_tokenizer *tokenizer, const char *content)
{
    for (size_t i = 0; tokenizer && content && i < tokenizer->n_specials; i++)
        if (strcmp(token_bytes(tokenizer, tokenizer->specials[i]), content) == 0)
            return tokenizer->specials[i];
    return -1;
}

bool qn_tokenizer_same(const qn_tokenizer *a, const qn_tokenizer *b)
{
    if (!a || !b || a->kind != b->kind || a->vocabulary != b->vocabulary)
        return false;
    for (size_t id = 0; id < a->vocabulary; id++) {
        const struct token *x = &a->tokens[id], *y = &b->tokens[id];
        if (x->is_known != y->is_known || x->is_special != y->is_special || x->length != y->length)
            return false;
        if (x->is_known &&
            memcmp(token_bytes(a, (int32_t)id), token_bytes(b, (int32_t)id), x->length) != 0)
            return false;
    }
    if (a->kind != TOKENIZER_BPE)
        return true;
    size_t n_a, n_b;
    const struct merge *merges_a = bpe_merges(a->bpe, &n_a), *merges_b = bpe_merges(b->bpe, &n_b);
    return n_a == n_b && (n_a == 0 || memcmp(merges_a, merges_b, n_a * sizeof *merges_a) == 0);
}

/* ---- Encoding ---- */

/* The vocabulary of characters as a message shows it. */
static const char *quote_vocabulary(const qn_tokenizer *tokenizer, char buffer[QUOTED])
{
    char text[QUOTED * 4] = "";
    size_t used = 0;
    for (size_t i = 0; i < tokenizer->n_characters; i++) {
        int32_t id = tokenizer->characters[i].id;
        size_t length = tokenizer->tokens[id].length;
        if (used + length > sizeof text)
            break;
        memcpy(text + used, token_bytes(tokenizer, id), length);
        used += length;
    }
    return quote(buffer, text, used);
}

/* `at` counts from the start of the whole text, which messages need. */
static bool encode_characters(const qn_tokenizer *tokenizer, const char *name, const char *text,
                              size_t at, size_t end, struct ids *ids)
{
    size_t length;
    for (; at < end; at += length) {
        struct character key = {0};
        length = utf8_decode(text + at, end - at, &key.point);
        const struct character *found =
            bsearch(&key, tokenizer->characters, tokenizer->n_characters,
                    sizeof *tokenizer->characters, compare_characters);
        if (!found) {
            char quoted[QUOTED], known[QUOTED];
            struct place place = place_of(text, at);
            context_fail(tokenizer->context, QN_ERROR_FORMAT,
                         "%s: character %s (U+%04X), line %zu, column %zu, is none of the %zu that "
                         "the model knows: %s",
                         name, quote(quoted, text + at, length), (unsigned)key.point, place.line,
                         place.column, tokenizer->n_characters, quote_vocabulary(tokenizer, known));
            return false;
        }
        if (!ids_append(tokenizer->context, ids, &found->id, 1))
            return false;
    }
    return true;
}

static bool encode_bytes(const qn_tokenizer *tokenizer, const char *text, size_t bytes,
                         struct ids *ids)
{
    for (size_t i = 0; i < bytes; i++)
        if (!ids_append(tokenizer->context, ids, &(int32_t){(unsigned char)text[i]}, 1))
            return false;
    return true;
}

static bool encode_plain(qn_tokenizer *tokenizer, const char *name, const char *text, size_t begin,
                         size_t end, struct ids *ids)
{
    switch (tokenizer->kind) {
    case TOKENIZER_CHAR:
        return encode_characters(tokenizer, name, text, begin, end, ids);
    case TOKENIZER_BYTE:
        return encode_bytes(tokenizer, text + begin, end - begin, ids);
    case TOKENIZER_BPE:
        return bpe_encode(tokenizer->bpe, text + begin, end - begin, ids);
    }
    return false;
}

/* The special token at `text`, the longest; -1 if there is none. */
static int32_t match_special(const qn_tokenizer *tokenizer, const char *text, size_t bytes)
{
    for (size_t i = 0; i < tokenizer->n_specials; i++) {
        int32_t id = tokenizer->specials[i];
        size_t length = tokenizer->tokens[id].length;
        if (length <= bytes && memcmp(token_bytes(tokenizer, id), text, length) == 0)
            return id;
    }
    return -1;
}

static bool encode_all(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
                       struct ids *ids)
{
    bool may_begin[256] = {false};
    for (size_t i = 0; i < tokenizer->n_specials; i++)
        may_begin[(unsigned char)*token_bytes(tokenizer, tokenizer->specials[i])] = true;
    size_t begin = 0, at = 0;
    while (at < bytes) {
        int32_t id = may_begin[(unsigned char)text[at]]
                         ? match_special(tokenizer, text + at, bytes - at)
                         : -1;
        if (id < 0) {
            at++;
            continue;
        }
        if (!encode_plain(tokenizer, name, text, begin, at, ids) ||
            !ids_append(tokenizer->context, ids, &id, 1))
            return false;
        at += tokenizer->tokens[id].length;
        begin = at;
    }
    return encode_plain(tokenizer, name, text, begin, bytes, ids);
}

int qn_encode(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
              int32_t **ids, size_t *count)
{
    if (!tokenizer || !ids || !count || (bytes > 0 && !text))
        return QN_ERROR_INVALID;
    *ids = NULL;
    *count = 0;
    if (tokenizer->kind != TOKENIZER_BYTE &&
        qn_text_check(tokenizer->context, name, text, bytes, true) != QN_OK)
        return QN_ERROR_FORMAT;
    struct ids found = {.capacity = bytes / 4 + 16};
    found.values = context_alloc(tokenizer->context, found.capacity, sizeof *found.values);
    if (!found.values)
        return QN_ERROR_MEMORY;
    if (!encode_all(tokenizer, name, text, bytes, &found)) {
        free(found.values);
        return QN_ERROR_FORMAT;
    }
    *ids = found.values;
    *count = found.count;
    return QN_OK;
}

/* ---- Decoding ---- */

static int fail_id(const qn_tokenizer *tokenizer, int32_t id)
{
    return context_fail(tokenizer->context, QN_ERROR_INVALID,
                        "token %d is not in the vocabulary of %zu", (int)id, tokenizer->vocabulary);
}

int qn_decode(const qn_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
              size_t *bytes)
{
    if (!tokenizer || !text || (count > 0 && !ids))
        return QN_ERROR_INVALID;
    *text = NULL;
    size_t total = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        if (!qn_tokenizer_token(tokenizer, ids[i], &length))
            return fail_id(tokenizer, ids[i]);
        if (length > SIZE_MAX - 1 - total)
            return context_fail(tokenizer->context, QN_ERROR_MEMORY, "a text of too many bytes");
        total += length;
    }
    char *decoded = context_alloc(tokenizer->context, total + 1, 1);
    if (!decoded)
        return QN_ERROR_MEMORY;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(decoded + used, qn_tokenizer_token(tokenizer, ids[i], &length),
               tokenizer->tokens[ids[i]].length);
        used += tokenizer->tokens[ids[i]].length;
    }
    *text = decoded;
    if (bytes)
        *bytes = total;
    return QN_OK;
}

struct qn_decoder {
    const qn_tokenizer *tokenizer;
    char *bytes;       /* not given out yet */
    char *text;        /* given out last */
    size_t held, room; /* bytes held back; bytes that both have room for */
};

qn_decoder *qn_decoder_new(const qn_tokenizer *tokenizer)
{
    if (!tokenizer)
        return NULL;
    size_t longest = 0;
    for (size_t id = 0; id < tokenizer->vocabulary; id++)
        longest = size_max(longest, tokenizer->tokens[id].length);
    qn_decoder *decoder = context_alloc(tokenizer->context, 1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->tokenizer = tokenizer;
    decoder->room = longest + 4; /* a token behind a character of which one byte is missing */
    decoder->bytes = context_alloc(tokenizer->context, decoder->room, 1);
    decoder->text = context_alloc(tokenizer->context, decoder->room, sizeof "\uFFFD" - 1);
    if (decoder->bytes && decoder->text)
        return decoder;
    qn_decoder_free(decoder);
    return NULL;
}

void qn_decoder_free(qn_decoder *decoder)
{
    if (!decoder)
        return;
    free(decoder->text);
    free(decoder->bytes);
    free(decoder);
}

/* Whether more bytes could complete these to a character (Unicode 15, table 3-7). */
static bool is_incomplete(const unsigned char *bytes, size_t count)
{
    unsigned lead = bytes[0];
    size_t needed = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || count >= needed)
        return false;
    unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (count > 1 && (bytes[1] < least || bytes[1] > most))
        return false;
    return count < 3 || (bytes[2] & 0xC0) == 0x80;
}

/* Gives out what is complete; all of it, if this is the end. */
static const char *give_text(qn_decoder *decoder, bool is_end)
{
    size_t at = 0, used = 0;
    while (at < decoder->held) {
        const char *bytes = decoder->bytes + at;
        size_t left = decoder->held - at, length;
        int32_t point;
        if ((length = utf8_decode(bytes, left, &point)) > 0 && point != 0) {
            memcpy(decoder->text + used, bytes, length);
            used += length;
            at += length;
            continue;
        }
        /* The longest beginning of a character stands for one U+FFFD, as Unicode recommends; a NUL,
         * which would end the string, for one too. */
        length = size_min(left, 3);
        while (length > 1 && !is_incomplete((const unsigned char *)bytes, length))
            length--;
        if (length == left && !is_end && is_incomplete((const unsigned char *)bytes, length))
            break;
        memcpy(decoder->text + used, "\uFFFD", sizeof "\uFFFD" - 1);
        used += sizeof "\uFFFD" - 1;
        at += length;
    }
    decoder->text[used] = '\0';
    decoder->held -= at;
    memmove(decoder->bytes, decoder->bytes + at, decoder->held);
    return decoder->text;
}

const char *qn_decoder_next(qn_decoder *decoder, int32_t id)
{
    if (!decoder)
        return NULL;
    size_t length = 0;
    const char *token = qn_tokenizer_token(decoder->tokenizer, id, &length);
    if (!token) {
        fail_id(decoder->tokenizer, id);
        return NULL;
    }
    memcpy(decoder->bytes + decoder->held, token, length);
    decoder->held += length;
    return give_text(decoder, false);
}

const char *qn_decoder_end(qn_decoder *decoder)
{
    return decoder ? give_text(decoder, true) : NULL;
}

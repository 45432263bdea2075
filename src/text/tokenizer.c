/* Tokenizers: UTF-8, tokens, and what a tokenizer is. */
#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

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

int text_check_piece(qn_context *context, const char *name, const char *text, size_t bytes,
                     bool allows_nul, uint64_t offset, uint64_t line)
{
    size_t good = utf8_check(text, bytes);
    const char *nul = allows_nul || good == 0 ? NULL : memchr(text, '\0', good);
    if (!nul && good == bytes)
        return QN_OK;
    size_t at = nul ? (size_t)(nul - text) : good;
    offset += at;
    line += place_of(text, at).line - 1;
    if (nul)
        return context_fail(context, QN_ERROR_FORMAT,
                            "%s: NUL at offset %" PRIu64 " (line %" PRIu64
                            "): it seems to be binary",
                            name, offset, line);
    return context_fail(context, QN_ERROR_FORMAT,
                        "%s: byte 0x%02X at offset %" PRIu64 " (line %" PRIu64
                        ") is not UTF-8: convert the text (iconv -t utf-8)",
                        name, (unsigned char)text[at], offset, line);
}

int qn_text_check(qn_context *context, const char *name, const char *text, size_t bytes,
                  bool allows_nul)
{
    if (!context || !name || (bytes > 0 && !text))
        return QN_ERROR_INVALID;
    return text_check_piece(context, name, text, bytes, allows_nul, 0, 1);
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

qn_tokenizer *tokenizer_new(qn_context *context, enum tokenizer_kind kind,
                            enum qn_splitting splitting, size_t vocabulary)
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
    tokenizer->splitting = splitting;
    tokenizer->unknown = -1;
    tokenizer->words.context = context;
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

void sort_characters(struct character *characters, size_t count)
{
    qsort(characters, count, sizeof *characters, compare_characters);
}

const struct character *find_character(const struct character *characters, size_t count,
                                       int32_t point)
{
    struct character key = {.point = point};
    return bsearch(&key, characters, count, sizeof key, compare_characters);
}

/* The tokens of a character each. */
static bool collect_characters(qn_tokenizer *tokenizer)
{
    struct character *characters =
        context_alloc(tokenizer->context, tokenizer->vocabulary, sizeof *characters);
    if (!characters)
        return false;
    for (size_t id = 0; id < tokenizer->vocabulary; id++) {
        const struct token *token = &tokenizer->tokens[id];
        int32_t point;
        if (token->is_special || token->is_byte || !token->is_known ||
            utf8_decode(token_bytes(tokenizer, (int32_t)id), token->length, &point) !=
                token->length)
            continue;
        characters[tokenizer->n_characters++] = (struct character){point, (int32_t)id};
    }
    sort_characters(characters, tokenizer->n_characters);
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
        tokenizer->begins_special[(unsigned char)*token_bytes(tokenizer, (int32_t)id)] = true;
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

static bool collect_words(qn_tokenizer *tokenizer)
{
    for (size_t id = 0; id < tokenizer->vocabulary; id++) {
        const struct token *token = &tokenizer->tokens[id];
        if (token->is_special || !token->is_known)
            continue;
        struct word *word =
            words_add(&tokenizer->words, token_bytes(tokenizer, (int32_t)id), token->length);
        if (!word)
            return false;
        word->value = id;
    }
    return true;
}

bool tokenizer_finish(qn_tokenizer *tokenizer)
{
    bool has_characters =
        tokenizer->kind == TOKENIZER_CHAR || tokenizer->splitting == QN_SPLIT_MARK;
    bool has_words = tokenizer->kind == TOKENIZER_WORD;
    if (!collect_specials(tokenizer) || (has_characters && !collect_characters(tokenizer)) ||
        (has_words && !collect_words(tokenizer)))
        return false;
    if (tokenizer->kind == TOKENIZER_BYTE)
        return true;
    tokenizer->splitter = splitter_new(tokenizer->context, tokenizer->splitting);
    return tokenizer->splitter != NULL;
}

static bool copy_tokens(qn_tokenizer *copy, const qn_tokenizer *tokenizer)
{
    for (size_t i = 0; i < tokenizer->vocabulary; i++) {
        const struct token *token = &tokenizer->tokens[i];
        int32_t id = (int32_t)i;
        if (!token->is_known)
            continue;
        if (!tokenizer_add(copy, id, token_bytes(tokenizer, id), token->length, token->is_special))
            return false;
        copy->tokens[i].is_byte = token->is_byte;
    }
    return tokenizer_finish(copy);
}

qn_tokenizer *tokenizer_copy(const qn_tokenizer *tokenizer, qn_context *context)
{
    qn_tokenizer *copy =
        tokenizer_new(context, tokenizer->kind, tokenizer->splitting, tokenizer->vocabulary);
    if (!copy)
        return NULL;
    copy->unknown = tokenizer->unknown;
    copy->falls_back = tokenizer->falls_back;
    copy->n_cleaning = tokenizer->n_cleaning;
    memcpy(copy->cleaning, tokenizer->cleaning, sizeof copy->cleaning);
    bool is_good = copy_tokens(copy, tokenizer);
    if (is_good && tokenizer->bpe) {
        copy->bpe = bpe_copy(context, tokenizer->bpe, copy->characters);
        is_good = copy->bpe != NULL;
    }
    if (is_good)
        return copy;
    qn_tokenizer_free(copy);
    return NULL;
}

qn_tokenizer *qn_tokenizer_char(qn_context *context, const char *text, size_t bytes)
{
    if (!context || !text ||
        qn_text_check(context, "the training text", text, bytes, false) != QN_OK)
        return NULL;
    const struct qn_vocabulary vocabulary = {.splitting = QN_SPLIT_CHARACTERS};
    qn_word_counter *counter = qn_word_counter_new(context, &vocabulary);
    qn_tokenizer *tokenizer = NULL;
    if (counter && qn_word_counter_add(counter, "the training text", text, bytes) == QN_OK)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

qn_tokenizer *qn_tokenizer_byte(qn_context *context)
{
    qn_tokenizer *tokenizer =
        context ? tokenizer_new(context, TOKENIZER_BYTE, QN_SPLIT_PATTERN, 256) : NULL;
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
    splitter_free(tokenizer->splitter);
    words_release(&tokenizer->words);
    free(tokenizer->characters);
    free(tokenizer->specials);
    free(tokenizer->storage);
    free(tokenizer->tokens);
    free(tokenizer);
}

/* ---- What it is ---- */

const char *qn_tokenizer_kind(const qn_tokenizer *tokenizer)
{
    static const char *const names[] = {[TOKENIZER_CHAR] = "char",
                                        [TOKENIZER_BYTE] = "byte",
                                        [TOKENIZER_BPE] = "bpe",
                                        [TOKENIZER_WORD] = "word"};
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

static int32_t first_special(const qn_tokenizer *tokenizer, const char *const *contents,
                             size_t count)
{
    int32_t id = -1;
    for (size_t i = 0; id < 0 && i < count; i++)
        id = qn_tokenizer_special(tokenizer, contents[i]);
    return id;
}

int32_t qn_tokenizer_begin(const qn_tokenizer *tokenizer)
{
    static const char *const contents[] = {"<|endoftext|>", "<bos>", "<s>"};
    return first_special(tokenizer, contents, sizeof contents / sizeof *contents);
}

int32_t qn_tokenizer_end(const qn_tokenizer *tokenizer)
{
    static const char *const contents[] = {"<|endoftext|>", "<eos>", "</s>"};
    return first_special(tokenizer, contents, sizeof contents / sizeof *contents);
}

static bool is_same_token(const qn_tokenizer *a, const qn_tokenizer *b, int32_t id)
{
    const struct token *x = &a->tokens[id], *y = &b->tokens[id];
    return x->is_known == y->is_known && x->is_special == y->is_special &&
           x->is_byte == y->is_byte && x->length == y->length &&
           (!x->is_known || memcmp(token_bytes(a, id), token_bytes(b, id), x->length) == 0);
}

bool qn_tokenizer_same(const qn_tokenizer *a, const qn_tokenizer *b)
{
    if (!a || !b || a->kind != b->kind || a->splitting != b->splitting ||
        a->vocabulary != b->vocabulary || a->falls_back != b->falls_back ||
        a->unknown != b->unknown || a->n_cleaning != b->n_cleaning ||
        memcmp(a->cleaning, b->cleaning, a->n_cleaning * sizeof *a->cleaning) != 0)
        return false;
    for (size_t id = 0; id < a->vocabulary; id++)
        if (!is_same_token(a, b, (int32_t)id))
            return false;
    if (a->kind != TOKENIZER_BPE)
        return true;
    size_t n_a, n_b;
    const struct merge *merges_a = bpe_merges(a->bpe, &n_a), *merges_b = bpe_merges(b->bpe, &n_b);
    return n_a == n_b && (n_a == 0 || memcmp(merges_a, merges_b, n_a * sizeof *merges_a) == 0);
}

static uint64_t hash_number(uint64_t hash, int64_t number)
{
    return hash_bytes(hash, &number, sizeof number);
}

uint64_t qn_tokenizer_fingerprint(const qn_tokenizer *tokenizer)
{
    if (!tokenizer)
        return 0;
    uint64_t hash = hash_number(HASH_BEGIN, tokenizer->kind);
    hash = hash_number(hash, tokenizer->splitting);
    hash = hash_number(hash, tokenizer->falls_back);
    hash = hash_number(hash, tokenizer->unknown);
    for (size_t i = 0; i < tokenizer->n_cleaning; i++)
        hash = hash_number(hash, tokenizer->cleaning[i]);
    for (size_t id = 0; id < tokenizer->vocabulary; id++) {
        const struct token *token = &tokenizer->tokens[id];
        int marks = token->is_known | token->is_special << 1 | token->is_byte << 2;
        hash = hash_number(hash, (int64_t)token->length << 3 | marks);
        hash = hash_bytes(hash, token_bytes(tokenizer, (int32_t)id), token->length);
    }
    if (tokenizer->kind != TOKENIZER_BPE)
        return hash;
    size_t count;
    const struct merge *merges = bpe_merges(tokenizer->bpe, &count);
    return hash_bytes(hash, merges, count * sizeof *merges);
}

/* Encoding: text is split at special tokens, cleaned, split into words, and becomes ids. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "text/bpe.h"

/* ---- Characters, bytes, words ---- */

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

static bool fail_character(const qn_tokenizer *tokenizer, const char *name, const char *text,
                           size_t at, size_t length, int32_t point)
{
    char quoted[QUOTED], known[QUOTED];
    struct place place = place_of(text, at);
    context_fail(tokenizer->context, QN_ERROR_FORMAT,
                 "%s: character %s (U+%04X), line %zu, column %zu, is none of the %zu that "
                 "the model knows: %s",
                 name, quote(quoted, text + at, length), (unsigned)point, place.line, place.column,
                 tokenizer->n_characters, quote_vocabulary(tokenizer, known));
    return false;
}

/* `at` counts from the start of the whole text, which messages need. */
static bool encode_characters(const qn_tokenizer *tokenizer, const char *name, const char *text,
                              size_t at, size_t end, struct ids *ids)
{
    size_t length;
    for (; at < end; at += length) {
        int32_t point = 0;
        length = utf8_decode(text + at, end - at, &point);
        const struct character *found =
            find_character(tokenizer->characters, tokenizer->n_characters, point);
        if (!found && tokenizer->unknown < 0)
            return fail_character(tokenizer, name, text, at, length, point);
        if (!ids_append(tokenizer->context, ids, found ? &found->id : &tokenizer->unknown, 1))
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

static bool encode_word(const qn_tokenizer *tokenizer, const char *name, const char *word,
                        size_t length, struct ids *ids)
{
    if (tokenizer->kind == TOKENIZER_BPE)
        return bpe_encode(tokenizer->bpe, word, length, ids);
    const struct word *found = words_find(&tokenizer->words, word, length);
    if (!found && tokenizer->unknown < 0) {
        char quoted[QUOTED];
        context_fail(tokenizer->context, QN_ERROR_FORMAT,
                     "%s: word %s is none of the %zu that the model knows, and it has no token for "
                     "unknown words",
                     name, quote(quoted, word, length), tokenizer->vocabulary);
        return false;
    }
    int32_t id = found ? (int32_t)found->value : tokenizer->unknown;
    return ids_append(tokenizer->context, ids, &id, 1);
}

static bool encode_words(const qn_tokenizer *tokenizer, const char *name, const char *text,
                         size_t at, size_t bytes, struct ids *ids)
{
    for (size_t end = at; at < bytes; at = end) {
        if (!splitter_next(tokenizer->splitter, text, bytes, &at, &end) ||
            (at < end && !encode_word(tokenizer, name, text + at, end - at, ids)))
            return false;
    }
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
    case TOKENIZER_WORD:
        return encode_words(tokenizer, name, text, begin, end, ids);
    }
    return false;
}

/* ---- Cleaning ---- */

static const char mark[] = "\u2581";
enum { MARK_BYTES = sizeof mark - 1 };

/* Marks in a text mean what they stand for.  A text begins with a space. */
static char *mark_text(const qn_tokenizer *tokenizer, const char *text, size_t bytes, bool begins,
                       size_t *marked)
{
    char *result = malloc(bytes + 1);
    if (!result) {
        context_fail(tokenizer->context, QN_ERROR_MEMORY, "out of memory for %zu bytes of text",
                     bytes);
        return NULL;
    }
    size_t used = 0, at = 0;
    bool has_mark = bytes >= MARK_BYTES && memcmp(text, mark, MARK_BYTES) == 0;
    if (begins && bytes > 0 && *text != ' ' && !has_mark)
        result[used++] = ' ';
    while (at < bytes) {
        const char *next = memchr(text + at, mark[0], bytes - at);
        size_t stop = next ? (size_t)(next - text) : bytes;
        memcpy(result + used, text + at, stop - at);
        used += stop - at;
        at = stop;
        has_mark = bytes - at >= MARK_BYTES && memcmp(text + at, mark, MARK_BYTES) == 0;
        if (at < bytes)
            result[used++] = has_mark ? ' ' : text[at];
        at += has_mark ? MARK_BYTES : 1;
    }
    *marked = used;
    return result;
}

const char *tokenizer_clean(const qn_tokenizer *tokenizer, const char *text, size_t bytes,
                            struct piece_ends ends, char **made, size_t *cleaned)
{
    bool is_marked = tokenizer->splitting == QN_SPLIT_MARK;
    *made = NULL;
    *cleaned = bytes;
    if (tokenizer->n_cleaning > 0) {
        *made = clean_text(tokenizer->context, tokenizer->cleaning, tokenizer->n_cleaning, text,
                           bytes, ends, cleaned);
        if (!*made)
            return NULL;
        text = *made;
    }
    if (is_marked) {
        char *marked = mark_text(tokenizer, text, *cleaned, ends.begins, cleaned);
        free(*made);
        *made = marked;
        text = marked;
    }
    return text;
}

/* Text without special tokens. */
static bool encode_text(qn_tokenizer *tokenizer, const char *name, const char *text, size_t begin,
                        size_t end, struct piece_ends ends, struct ids *ids)
{
    if (begin == end)
        return true;
    char *made;
    size_t cleaned;
    const char *clean =
        tokenizer_clean(tokenizer, text + begin, end - begin, ends, &made, &cleaned);
    bool is_good = clean && (made ? encode_plain(tokenizer, name, clean, 0, cleaned, ids)
                                  : encode_plain(tokenizer, name, text, begin, end, ids));
    free(made);
    return is_good;
}

/* ---- Special tokens ---- */

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

size_t find_special(const qn_tokenizer *tokenizer, const char *text, size_t bytes, size_t at,
                    int32_t *id)
{
    *id = -1;
    for (; at < bytes && tokenizer->n_specials > 0; at++)
        if (tokenizer->begins_special[(unsigned char)text[at]] &&
            (*id = match_special(tokenizer, text + at, bytes - at)) >= 0)
            return at;
    return bytes;
}

bool tokenizer_encode(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
                      struct piece_ends ends, struct ids *ids)
{
    size_t begin = 0;
    while (begin < bytes) {
        int32_t id;
        size_t at = find_special(tokenizer, text, bytes, begin, &id);
        struct piece_ends here = {begin > 0 || ends.begins, at < bytes || ends.ends};
        if (!encode_text(tokenizer, name, text, begin, at, here, ids) ||
            (id >= 0 && !ids_append(tokenizer->context, ids, &id, 1)))
            return false;
        begin = at + (id >= 0 ? tokenizer->tokens[id].length : 0);
    }
    return true;
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
    if (!tokenizer_encode(tokenizer, name, text, bytes, (struct piece_ends){true, true}, &found)) {
        free(found.values);
        return QN_ERROR_FORMAT;
    }
    *ids = found.values;
    *count = found.count;
    return QN_OK;
}

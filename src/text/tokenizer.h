/* What tokenizers are made of. */
#ifndef QUERN_TOKENIZER_H
#define QUERN_TOKENIZER_H

#include <quern/text.h>

#include "device/context.h"

/* Ids as they come. */
struct ids {
    int32_t *values;
    size_t count, capacity;
};
bool ids_append(qn_context *context, struct ids *ids, const int32_t *values, size_t count);

/* Beyond this a vocabulary is a mistake or hostile. */
enum { MAX_VOCABULARY = 1 << 24 };

enum tokenizer_kind { TOKENIZER_CHAR, TOKENIZER_BYTE, TOKENIZER_BPE };

struct token {
    size_t offset, length; /* of its bytes in the storage */
    bool is_known;         /* else no token has this id */
    bool is_special;       /* found in text before anything else */
};

struct character {
    int32_t point, id;
};

struct bpe;

struct qn_tokenizer {
    qn_context *context;
    enum tokenizer_kind kind;
    size_t vocabulary;
    struct token *tokens;
    char *storage;
    size_t storage_bytes, storage_capacity;
    int32_t *specials; /* longest first */
    size_t n_specials;
    struct character *characters; /* TOKENIZER_CHAR: sorted by code point */
    size_t n_characters;
    struct bpe *bpe; /* TOKENIZER_BPE */
};

/* An empty tokenizer, its tokens, and what finishes it: for those who make one. */
qn_tokenizer *tokenizer_new(qn_context *context, enum tokenizer_kind kind, size_t vocabulary);
bool tokenizer_add(qn_tokenizer *tokenizer, int32_t id, const char *bytes, size_t length,
                   bool is_special);
bool tokenizer_finish(qn_tokenizer *tokenizer);

static inline const char *token_bytes(const qn_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->storage + tokenizer->tokens[id].offset;
}

/* Where the first byte that is not UTF-8 is; `bytes` if there is none. */
size_t utf8_check(const char *text, size_t bytes);

/* The length of the UTF-8 sequence at `text`, of `bytes` in all, and its code point; 0 if it is
 * none. */
size_t utf8_decode(const char *text, size_t bytes, int32_t *point);

/* Which line and which character of it a place in a text is, from 1: for messages. */
struct place {
    size_t line, column;
};
struct place place_of(const char *text, size_t offset);

#endif

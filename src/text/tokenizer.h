/* What tokenizers are made of. */
#ifndef QUERN_TOKENIZER_H
#define QUERN_TOKENIZER_H

#include <quern/text.h>

#include "device/context.h"
#include "text/clean.h"
#include "text/split.h"
#include "text/words.h"

/* Ids as they come. */
struct ids {
    int32_t *values;
    size_t count, capacity;
};
bool ids_append(qn_context *context, struct ids *ids, const int32_t *values, size_t count);

/* Beyond this a vocabulary is a mistake or hostile. */
enum { MAX_VOCABULARY = 1 << 24 };

enum tokenizer_kind { TOKENIZER_CHAR, TOKENIZER_BYTE, TOKENIZER_BPE, TOKENIZER_WORD };

struct token {
    size_t offset, length; /* of its bytes in the storage */
    bool is_known;         /* else no token has this id */
    bool is_special;       /* found in text before anything else */
    bool is_byte;          /* QN_SPLIT_MARK: of a character that has no token of its own */
};

struct character {
    int32_t point, id;
};

/* Sorts by code point; the character of a sorted table, or NULL. */
void sort_characters(struct character *characters, size_t count);
const struct character *find_character(const struct character *characters, size_t count,
                                       int32_t point);

struct bpe;

/* In QN_SPLIT_MARK's tokens and texts the mark is a plain space: files have it as U+2581. */
struct qn_tokenizer {
    qn_context *context;
    enum tokenizer_kind kind;
    enum qn_splitting splitting; /* of a byte's: none */
    enum qn_cleaning cleaning[QN_MAX_CLEANING];
    size_t n_cleaning;
    size_t vocabulary;
    struct token *tokens;
    char *storage;
    size_t storage_bytes, storage_capacity;
    int32_t *specials; /* longest first */
    size_t n_specials;
    bool begins_special[256];     /* by first byte */
    bool falls_back;              /* QN_SPLIT_MARK: unknown characters become bytes */
    int32_t unknown;              /* the token for what is unknown; -1: there is none */
    struct character *characters; /* TOKENIZER_CHAR, QN_SPLIT_MARK: sorted by code point */
    size_t n_characters;
    struct bpe *bpe;           /* TOKENIZER_BPE */
    struct splitter *splitter; /* but of TOKENIZER_BYTE */
    struct words words;        /* TOKENIZER_WORD: the value is the id */
};

/* An empty tokenizer, its tokens, and what finishes it: for those who make one. */
qn_tokenizer *tokenizer_new(qn_context *context, enum tokenizer_kind kind,
                            enum qn_splitting splitting, size_t vocabulary);
bool tokenizer_add(qn_tokenizer *tokenizer, int32_t id, const char *bytes, size_t length,
                   bool is_special);
bool tokenizer_finish(qn_tokenizer *tokenizer);

/* The same tokenizer, with nothing in common: for a thread, since encoding fills a cache and keeps errors in the context. */
qn_tokenizer *tokenizer_copy(const qn_tokenizer *tokenizer, qn_context *context);

/* Appends the ids of a piece of a text; places in messages are those in the piece. */
bool tokenizer_encode(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
                      struct piece_ends ends, struct ids *ids);

/* qn_decode() of what follows the token `before`; -1: of the beginning. */
int decode_piece(const qn_tokenizer *tokenizer, int32_t before, const int32_t *ids, size_t count,
                 char **text, size_t *bytes);

/* Where the first special token at or behind `at` is, and which; `bytes` and -1 if there is none. */
size_t find_special(const qn_tokenizer *tokenizer, const char *text, size_t bytes, size_t at,
                    int32_t *id);

/* The text between special tokens as it is split into words: cleaned; of QN_SPLIT_MARK with the
 * space in front.  Borrowed from `text` where nothing is to be done, else `*made` to be freed.
 * NULL and an error without memory. */
const char *tokenizer_clean(const qn_tokenizer *tokenizer, const char *text, size_t bytes,
                            struct piece_ends ends, char **made, size_t *cleaned);

static inline const char *token_bytes(const qn_tokenizer *tokenizer, int32_t id)
{
    return tokenizer->storage + tokenizer->tokens[id].offset;
}

/* Where a file of tokens keeps its errors. */
qn_context *tokens_context(const qn_tokens *tokens);

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

/* qn_text_check() of a piece of a text that begins at an offset and in a line (from 1) of it. */
int text_check_piece(qn_context *context, const char *name, const char *text, size_t bytes,
                     bool allows_nul, uint64_t offset, uint64_t line);

#endif

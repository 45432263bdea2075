/* Byte pair encoding, of bytes as GPT-2 does it (Radford et al., 2019) or of characters (Sennrich et
 * al., 2016). */
#ifndef QUERN_BPE_H
#define QUERN_BPE_H

#include "text/tokenizer.h"

/* Tokens `left` and `right` become `result`; the first merge of the list is done first. */
struct merge {
    int32_t left, right, result;
};

/* What a word is made of at first: of characters, or of bytes if `characters` is NULL. */
struct bpe_units {
    const struct character *characters; /* sorted; must stay */
    size_t n_characters;
    int32_t byte_ids[256]; /* of bytes, among them those of unknown characters; -1: none */
    int32_t unknown;       /* of other unknown characters */
};

/* The ids of the units of a word into `ids`, which has room for one a byte: how many. */
size_t bpe_first_ids(const struct bpe_units *units, const char *word, size_t bytes, int32_t *ids);

/* Takes the merges over; they are freed even on failure. */
struct bpe *bpe_new(qn_context *context, const struct bpe_units *units, struct merge *merges,
                    size_t count);
void bpe_free(struct bpe *bpe);

/* The same, with nothing in common, for characters that are equal. */
struct bpe *bpe_copy(qn_context *context, const struct bpe *bpe,
                     const struct character *characters);

const struct merge *bpe_merges(const struct bpe *bpe, size_t *count);

/* Appends the ids of a word, which must be UTF-8. */
bool bpe_encode(struct bpe *bpe, const char *word, size_t bytes, struct ids *ids);

/* Learns merges from words and how often each occurs: the value of each of `words`.  `tokens` has
 * the first tokens, of single units, and gets those that merges make; their indices are ids.
 * Reserved strings never become tokens. */
struct bpe_training {
    const struct bpe_units *units;
    const struct words *words, *reserved;
    size_t most_tokens, most_merges;
    uint64_t min_frequency; /* at least 1 */
};
bool bpe_train(qn_context *context, const struct bpe_training *training, struct words *tokens,
               struct merge **merges, size_t *count);

/* GPT-2 writes each byte as a character that prints: the code point of a byte; the byte of a code
 * point, or -1. */
int32_t byte_to_point(unsigned char byte);
int point_to_byte(int32_t point);

#endif

/* Byte-level byte pair encoding, as GPT-2 does it (Radford et al., 2019; Sennrich et al., 2016). */
#ifndef QUERN_BPE_H
#define QUERN_BPE_H

#include "text/tokenizer.h"

/* Tokens `left` and `right` become `result`; the first merge of the list is done first. */
struct merge {
    int32_t left, right, result;
};

/* Takes the merges over; they are freed even on failure. */
struct bpe *bpe_new(qn_context *context, const int32_t byte_ids[256], struct merge *merges,
                    size_t count);
void bpe_free(struct bpe *bpe);

const struct merge *bpe_merges(const struct bpe *bpe, size_t *count);

/* Appends the ids of text, which must be UTF-8. */
bool bpe_encode(struct bpe *bpe, const char *text, size_t bytes, struct ids *ids);

/* GPT-2 writes each byte as a character that prints: the code point of a byte; the byte of a code
 * point, or -1. */
int32_t byte_to_point(unsigned char byte);
int point_to_byte(int32_t point);

#endif

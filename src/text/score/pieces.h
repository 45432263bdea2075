/* Text as Python's `str` has it, which the scores of Python packages rest on; pieces of it, and
 * their n-grams. */
#ifndef QUERN_PIECES_H
#define QUERN_PIECES_H

#include <string.h>

#include <quern/score.h>

#include "device/context.h"

/* ---- Text that grows ---- */

/* `text` has a NUL behind its bytes once something was appended. */
struct buffer {
    char *text;
    size_t bytes, capacity;
};
bool buffer_append(qn_context *context, struct buffer *buffer, const char *text, size_t bytes);

/* Makes the buffer a copy of a text, or of its str.lower(). */
bool buffer_set(qn_context *context, struct buffer *buffer, const char *text, bool lowercase);

/* ---- Characters ---- */

/* string.punctuation. */
static inline bool is_ascii_punctuation(char c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
}

/* The bytes of the white space character, by str.isspace(), at `text`; 0 if it is none. */
size_t space_at(const char *text);

/* str.rstrip(), in place. */
void trim_end(char *text);

/* " ".join(text.split()), or without `keeps_one` "".join(...), in place. */
void squeeze(struct buffer *buffer, bool keeps_one);

/* ---- Pieces: words or characters ---- */

struct piece {
    const char *text;
    size_t bytes;
};
struct pieces {
    struct piece *at;
    size_t count, capacity;
};
bool pieces_append(qn_context *context, struct pieces *pieces, const char *text, size_t bytes);

/* Make the pieces those of a text: what one space separates; its code points. */
bool pieces_words(qn_context *context, struct pieces *pieces, const char *text);
bool pieces_characters(qn_context *context, struct pieces *pieces, const char *text);

static inline bool same_piece(struct piece a, struct piece b)
{
    return a.bytes == b.bytes && memcmp(a.text, b.text, a.bytes) == 0;
}

/* A text and its pieces, kept between sentences for their memory. */
struct segment {
    struct buffer text;
    struct pieces pieces;
};
void segment_release(struct segment *segment);

/* ---- N-grams ---- */

/* How often each n-gram occurs in a hypothesis.  An n-gram is the text from its first piece to the
 * end of its last, which lie in one text with nothing or one space between them; `kind` tells apart
 * n-grams of characters and of words. */
struct ngram;
struct ngrams {
    struct ngram *slots;
    size_t capacity, count; /* a power of two; slots in use */
    size_t references;      /* that ngrams_match() has seen */
};
void ngrams_clear(struct ngrams *ngrams);
bool ngrams_count(qn_context *context, struct ngrams *ngrams, const struct pieces *hypothesis,
                  size_t n, unsigned kind);

/* How many n-grams of a reference are in the hypothesis, each at most as often as there; and how
 * many of these are more than former references had.  Call ngrams_next_reference() before each
 * reference. */
struct ngram_matches {
    size_t here, more;
};
void ngrams_next_reference(struct ngrams *ngrams);
struct ngram_matches ngrams_match(struct ngrams *ngrams, const struct pieces *reference, size_t n,
                                  unsigned kind);
void ngrams_release(struct ngrams *ngrams);

static inline size_t ngrams_of(size_t pieces, size_t n)
{
    return pieces >= n ? pieces - n + 1 : 0;
}

/* ---- Ratios ---- */

static inline double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}
struct qn_ratios ratios_of(double correct, double predicted, double support);
void ratios_add(struct qn_ratios *sum, struct qn_ratios ratios, double weight);

/* ---- Checks ---- */

/* Whether hypothesis and references are UTF-8, and there is a reference; else an error that tells
 * which sentence, from 0. */
bool check_sentence(qn_context *context, size_t sentence, const char *hypothesis,
                    const char *const *references, size_t count);

#endif

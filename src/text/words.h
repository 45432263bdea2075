/* A table of words: strings of bytes, each with a number, in the order in which they came. */
#ifndef QUERN_WORDS_H
#define QUERN_WORDS_H

#include "device/context.h"

struct word {
    size_t offset, length; /* of its bytes in the storage */
    uint64_t hash, value;  /* the value is the caller's: 0 at first */
};

struct words {
    qn_context *context;
    struct word *list;
    size_t count, capacity;
    char *storage;
    size_t used, room;
    uint32_t *slots; /* index + 1 of a word; 0: empty */
    size_t n_slots;  /* a power of two */
};

/* A word, with its value; NULL if there is none. */
struct word *words_find(const struct words *words, const char *bytes, size_t length);

/* The same, added if it is not there; NULL and an error without memory.  Words that were returned
 * before may have moved. */
struct word *words_add(struct words *words, const char *bytes, size_t length);

void words_release(struct words *words);

static inline const char *word_bytes(const struct words *words, const struct word *word)
{
    return words->storage + word->offset;
}

/* FNV-1a, of 64 bits, going on from `hash`: HASH_BEGIN at first. */
static const uint64_t HASH_BEGIN = 0xCBF29CE484222325u;
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ at[i]) * 0x100000001B3u;
    return hash;
}

#endif

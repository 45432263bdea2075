/* A table of words: open addressing over a list. */
#include "text/words.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *find_slot(const struct words *words, const char *bytes, size_t length,
                           uint64_t hash)
{
    size_t mask = words->n_slots - 1, at = (size_t)(hash ^ hash >> 32) & mask;
    for (; words->slots[at]; at = (at + 1) & mask) {
        const struct word *word = &words->list[words->slots[at] - 1];
        if (word->hash == hash && word->length == length &&
            memcmp(word_bytes(words, word), bytes, length) == 0)
            break;
    }
    return &words->slots[at];
}

struct word *words_find(const struct words *words, const char *bytes, size_t length)
{
    if (words->count == 0)
        return NULL;
    uint32_t index = *find_slot(words, bytes, length, hash_bytes(HASH_BEGIN, bytes, length));
    return index ? &words->list[index - 1] : NULL;
}

static bool grow_slots(struct words *words)
{
    size_t n_slots = words->n_slots ? 2 * words->n_slots : 1024;
    uint32_t *slots = context_alloc(words->context, n_slots, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < words->count; i++) {
        uint64_t hash = words->list[i].hash;
        size_t at = (size_t)(hash ^ hash >> 32) & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(words->slots);
    words->slots = slots;
    words->n_slots = n_slots;
    return true;
}

static bool store_bytes(struct words *words, const char *bytes, size_t length)
{
    if (length > words->room - words->used) {
        size_t room = size_max(2 * words->room, words->used + length + 4096);
        char *larger = realloc(words->storage, room);
        if (!larger) {
            context_fail(words->context, QN_ERROR_MEMORY, "out of memory for %zu words",
                         words->count + 1);
            return false;
        }
        words->storage = larger;
        words->room = room;
    }
    memcpy(words->storage + words->used, bytes, length);
    words->used += length;
    return true;
}

struct word *words_add(struct words *words, const char *bytes, size_t length)
{
    if (2 * words->count >= words->n_slots && !grow_slots(words))
        return NULL;
    uint64_t hash = hash_bytes(HASH_BEGIN, bytes, length);
    uint32_t *slot = find_slot(words, bytes, length, hash);
    if (*slot)
        return &words->list[*slot - 1];
    if (words->count >= UINT32_MAX - 1) {
        context_fail(words->context, QN_ERROR_INVALID, "more than %u different words",
                     UINT32_MAX - 1);
        return NULL;
    }
    struct word *list = context_grow(words->context, words->list, words->count, &words->capacity,
                                     sizeof *words->list);
    if (!list)
        return NULL;
    words->list = list;
    size_t offset = words->used;
    if (!store_bytes(words, bytes, length))
        return NULL;
    struct word *word = &words->list[words->count++];
    *word = (struct word){.offset = offset, .length = length, .hash = hash};
    *slot = (uint32_t)words->count;
    return word;
}

void words_release(struct words *words)
{
    free(words->slots);
    free(words->storage);
    free(words->list);
    *words = (struct words){.context = words->context};
}

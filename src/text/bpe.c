/* Byte pair encoding (Sennrich et al., 2016), of bytes as GPT-2 does it or of characters.
 *
 * In a word, the neighbours whose merge has the lowest rank become one token, the leftmost first,
 * until no neighbours merge.  A heap of candidates over a linked list does that in n log n; what it
 * finds for short words is kept. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

enum {
    CACHED_WORDS = 1 << 16,
    CACHE_SLOTS = 2 * CACHED_WORDS,
    CACHED_BYTES = 32, /* longer words seldom come again */
    CACHE_PROBES = 16
};
static const uint32_t NO_RANK = UINT32_MAX, NONE = UINT32_MAX;

struct rank_slot { /* of the table from a pair to its merge */
    uint64_t pair; /* NO_PAIR: empty */
    uint32_t rank;
};
static const uint64_t NO_PAIR = UINT64_MAX;

struct cached_word {
    uint32_t word, ids;   /* where they are in the cache's arrays */
    uint8_t bytes, count; /* bytes 0: empty */
};

struct symbol { /* of a word that is being merged; the token of the bytes from here to the next */
    int32_t id;
    uint32_t previous, next; /* NONE: at an end */
    bool is_merged;          /* into the one before it */
};

struct bpe {
    qn_context *context;
    struct bpe_units units;
    struct merge *merges;
    size_t n_merges;
    struct rank_slot *ranks;
    size_t rank_mask;

    struct cached_word *cache;
    size_t n_cached;
    char *cached_words;
    struct ids cached_ids;

    int32_t *first_ids; /* of the units of a word */
    struct symbol *symbols;
    size_t symbol_room; /* bytes of a word that both have room for */
    uint64_t *heap;     /* rank and position of candidates; least first */
    size_t heap_count, heap_room;
};

/* ---- Bytes that print ---- */

static bool prints_as_itself(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The others, in order, are U+0100 and up. */
int32_t byte_to_point(unsigned char byte)
{
    if (prints_as_itself(byte))
        return byte;
    int32_t point = 256;
    for (int other = 0; other < byte; other++)
        point += !prints_as_itself(other);
    return point;
}

int point_to_byte(int32_t point)
{
    if (point < 0 || point >= 512)
        return -1;
    if (point < 256)
        return prints_as_itself(point) ? point : -1;
    for (int byte = 0, left = point - 256; byte < 256; byte++)
        if (!prints_as_itself(byte) && left-- == 0)
            return byte;
    return -1;
}

/* ---- Merges by pair ---- */

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct rank_slot *find_slot(const struct bpe *bpe, uint64_t pair)
{
    uint64_t hash = pair * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(hash >> 32) & bpe->rank_mask;
    while (bpe->ranks[at].pair != NO_PAIR && bpe->ranks[at].pair != pair)
        at = (at + 1) & bpe->rank_mask;
    return &bpe->ranks[at];
}

static uint32_t rank_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    return find_slot(bpe, pair_of(left, right))->rank;
}

static bool make_ranks(struct bpe *bpe)
{
    size_t slots = 16;
    while (slots < 2 * bpe->n_merges)
        slots *= 2;
    bpe->ranks = context_alloc(bpe->context, slots, sizeof *bpe->ranks);
    if (!bpe->ranks)
        return false;
    bpe->rank_mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        bpe->ranks[i] = (struct rank_slot){NO_PAIR, NO_RANK};
    for (size_t i = 0; i < bpe->n_merges; i++) {
        uint64_t pair = pair_of(bpe->merges[i].left, bpe->merges[i].right);
        *find_slot(bpe, pair) = (struct rank_slot){pair, (uint32_t)i};
    }
    return true;
}

/* ---- Making and freeing ---- */

struct bpe *bpe_new(qn_context *context, const struct bpe_units *units, struct merge *merges,
                    size_t count)
{
    struct bpe *bpe = context_alloc(context, 1, sizeof *bpe);
    if (!bpe) {
        free(merges);
        return NULL;
    }
    bpe->context = context;
    bpe->units = *units;
    bpe->merges = merges;
    bpe->n_merges = count;
    bpe->cache = context_alloc(context, CACHE_SLOTS, sizeof *bpe->cache);
    bpe->cached_words = context_alloc(context, CACHED_WORDS, CACHED_BYTES);
    if (bpe->cache && bpe->cached_words && make_ranks(bpe))
        return bpe;
    bpe_free(bpe);
    return NULL;
}

struct bpe *bpe_copy(qn_context *context, const struct bpe *bpe,
                     const struct character *characters)
{
    struct merge *merges = context_alloc(context, bpe->n_merges, sizeof *merges);
    if (!merges)
        return NULL;
    memcpy(merges, bpe->merges, bpe->n_merges * sizeof *merges);
    struct bpe_units units = bpe->units;
    if (units.characters)
        units.characters = characters;
    return bpe_new(context, &units, merges, bpe->n_merges);
}

void bpe_free(struct bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->heap);
    free(bpe->symbols);
    free(bpe->first_ids);
    free(bpe->cached_ids.values);
    free(bpe->cached_words);
    free(bpe->cache);
    free(bpe->ranks);
    free(bpe->merges);
    free(bpe);
}

const struct merge *bpe_merges(const struct bpe *bpe, size_t *count)
{
    *count = bpe->n_merges;
    return bpe->merges;
}

/* ---- The heap of candidates ---- */

static bool heap_push(struct bpe *bpe, uint32_t rank, uint32_t position)
{
    if (bpe->heap_count == bpe->heap_room) {
        size_t room = bpe->heap_room ? 2 * bpe->heap_room : 64;
        uint64_t *larger = realloc(bpe->heap, room * sizeof *larger);
        if (!larger) {
            context_fail(bpe->context, QN_ERROR_MEMORY, "out of memory while tokenizing");
            return false;
        }
        bpe->heap = larger;
        bpe->heap_room = room;
    }
    uint64_t candidate = (uint64_t)rank << 32 | position;
    size_t at = bpe->heap_count++;
    for (; at > 0 && bpe->heap[(at - 1) / 2] > candidate; at = (at - 1) / 2)
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
    bpe->heap[at] = candidate;
    return true;
}

static uint64_t heap_pop(struct bpe *bpe)
{
    uint64_t least = bpe->heap[0], last = bpe->heap[--bpe->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < bpe->heap_count) {
        if (child + 1 < bpe->heap_count && bpe->heap[child + 1] < bpe->heap[child])
            child++;
        if (bpe->heap[child] >= last)
            break;
        bpe->heap[at] = bpe->heap[child];
        at = child;
    }
    bpe->heap[at] = last;
    return least;
}

/* Makes the symbol at `position` and the next one a candidate, if they merge. */
static bool push_pair(struct bpe *bpe, uint32_t position)
{
    const struct symbol *symbol = &bpe->symbols[position];
    if (position == NONE || symbol->next == NONE)
        return true;
    uint32_t rank = rank_of(bpe, symbol->id, bpe->symbols[symbol->next].id);
    return rank == NO_RANK || heap_push(bpe, rank, position);
}

/* ---- Words ---- */

static bool make_room(struct bpe *bpe, size_t bytes)
{
    if (bytes <= bpe->symbol_room)
        return true;
    size_t room = size_max(bytes, 2 * bpe->symbol_room);
    free(bpe->symbols);
    free(bpe->first_ids);
    bpe->symbols = room < NONE ? calloc(room, sizeof *bpe->symbols) : NULL;
    bpe->first_ids = room < NONE ? calloc(room, sizeof *bpe->first_ids) : NULL;
    bool has_room = bpe->symbols && bpe->first_ids;
    bpe->symbol_room = has_room ? room : 0;
    if (!has_room)
        context_fail(bpe->context, QN_ERROR_MEMORY,
                     "out of memory for tokenizing a word of %zu bytes", bytes);
    return has_room;
}

size_t bpe_first_ids(const struct bpe_units *units, const char *word, size_t bytes, int32_t *ids)
{
    size_t count = 0, length;
    for (size_t at = 0; at < bytes; at += length) {
        int32_t point = 0;
        length = units->characters ? utf8_decode(word + at, bytes - at, &point) : 1;
        const struct character *found =
            units->characters ? find_character(units->characters, units->n_characters, point)
                              : NULL;
        bool falls_back = !found && units->byte_ids[0] >= 0;
        for (size_t i = 0; i < length && falls_back; i++)
            ids[count++] = units->byte_ids[(unsigned char)word[at + i]];
        if (!falls_back)
            ids[count++] = found ? found->id : units->unknown;
    }
    return count;
}

static uint32_t make_symbols(struct bpe *bpe, const char *word, size_t bytes)
{
    uint32_t count = (uint32_t)bpe_first_ids(&bpe->units, word, bytes, bpe->first_ids);
    for (uint32_t i = 0; i < count; i++)
        bpe->symbols[i] = (struct symbol){.id = bpe->first_ids[i],
                                          .previous = i > 0 ? i - 1 : NONE,
                                          .next = i + 1 < count ? i + 1 : NONE};
    return count;
}

static bool merge_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *ids)
{
    if (!make_room(bpe, bytes))
        return false;
    uint32_t count = make_symbols(bpe, word, bytes);
    bpe->heap_count = 0;
    for (uint32_t i = 0; i + 1 < count; i++)
        if (!push_pair(bpe, i))
            return false;
    while (bpe->heap_count > 0) {
        uint64_t candidate = heap_pop(bpe);
        uint32_t rank = (uint32_t)(candidate >> 32), position = (uint32_t)candidate;
        struct symbol *left = &bpe->symbols[position];
        /* A candidate is stale if one of the two has merged since. */
        if (left->is_merged || left->next == NONE ||
            rank_of(bpe, left->id, bpe->symbols[left->next].id) != rank)
            continue;
        struct symbol *right = &bpe->symbols[left->next];
        right->is_merged = true;
        left->id = bpe->merges[rank].result;
        left->next = right->next;
        if (left->next != NONE)
            bpe->symbols[left->next].previous = position;
        if (!push_pair(bpe, left->previous) || !push_pair(bpe, position))
            return false;
    }
    for (uint32_t i = 0; i != NONE; i = bpe->symbols[i].next)
        if (!ids_append(bpe->context, ids, &bpe->symbols[i].id, 1))
            return false;
    return true;
}

/* The slot of a word, or an empty one for it; NULL if there are too many collisions. */
static struct cached_word *find_cached(const struct bpe *bpe, const char *word, size_t bytes)
{
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)word[i]) * 0x100000001B3u;
    for (size_t probe = 0; probe < CACHE_PROBES; probe++) {
        struct cached_word *slot = &bpe->cache[((hash ^ hash >> 32) + probe) & (CACHE_SLOTS - 1)];
        if (slot->bytes == 0 ||
            (slot->bytes == bytes && memcmp(bpe->cached_words + slot->word, word, bytes) == 0))
            return slot;
    }
    return NULL;
}

bool bpe_encode(struct bpe *bpe, const char *word, size_t bytes, struct ids *ids)
{
    struct cached_word *slot = bytes <= CACHED_BYTES ? find_cached(bpe, word, bytes) : NULL;
    if (!slot)
        return merge_word(bpe, word, bytes, ids);
    if (slot->bytes > 0)
        return ids_append(bpe->context, ids, bpe->cached_ids.values + slot->ids, slot->count);

    size_t before = ids->count;
    if (!merge_word(bpe, word, bytes, ids))
        return false;
    if (bpe->n_cached == CACHED_WORDS)
        return true;
    size_t first = bpe->cached_ids.count, count = ids->count - before;
    if (!ids_append(bpe->context, &bpe->cached_ids, ids->values + before, count))
        return false;
    size_t at = bpe->n_cached++ * CACHED_BYTES;
    memcpy(bpe->cached_words + at, word, bytes);
    *slot = (struct cached_word){.word = (uint32_t)at,
                                 .ids = (uint32_t)first,
                                 .bytes = (uint8_t)bytes,
                                 .count = (uint8_t)count};
    return true;
}

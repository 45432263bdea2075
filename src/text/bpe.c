/* Byte-level byte pair encoding, as GPT-2 does it (Radford et al., 2019; Sennrich et al., 2016).
 *
 * A pattern splits text into words, so that no token crosses from one to the next.  In a word of
 * bytes, the neighbours whose merge has the lowest rank become one token, the leftmost first, until
 * no neighbours merge.  A heap of candidates over a linked list does that in n log n; what it finds
 * for short words is kept. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "text/bpe.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* White space as Unicode defines it: PCRE2's \s has U+180E too, which is none since Unicode 6.3. */
#define SPACE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* GPT-2's pattern; the last but one alternative leaves the last space of several to the word behind
 * it. */
static const char word_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE
                                   "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

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
    int32_t byte_ids[256];
    struct merge *merges;
    size_t n_merges;
    struct rank_slot *ranks;
    size_t rank_mask;

    pcre2_code *pattern;
    pcre2_match_data *match;

    struct cached_word *cache;
    size_t n_cached;
    char *cached_words;
    struct ids cached_ids;

    struct symbol *symbols; /* room for the longest word so far */
    size_t symbol_room;
    uint64_t *heap; /* rank and position of candidates; least first */
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

static bool compile_pattern(struct bpe *bpe)
{
    int code;
    PCRE2_SIZE offset;
    bpe->pattern = pcre2_compile((PCRE2_SPTR)word_pattern, PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (!bpe->pattern) {
        PCRE2_UCHAR message[200] = "";
        pcre2_get_error_message(code, message, sizeof message);
        context_fail(bpe->context, QN_ERROR_INVALID, "PCRE2 does not compile GPT-2's pattern: %s",
                     (char *)message);
        return false;
    }
    pcre2_jit_compile(bpe->pattern,
                      PCRE2_JIT_COMPLETE); /* where there is none, it is interpreted */
    bpe->match = pcre2_match_data_create_from_pattern(bpe->pattern, NULL);
    if (!bpe->match)
        context_fail(bpe->context, QN_ERROR_MEMORY, "out of memory");
    return bpe->match != NULL;
}

struct bpe *bpe_new(qn_context *context, const int32_t byte_ids[256], struct merge *merges,
                    size_t count)
{
    struct bpe *bpe = context_alloc(context, 1, sizeof *bpe);
    if (!bpe) {
        free(merges);
        return NULL;
    }
    bpe->context = context;
    memcpy(bpe->byte_ids, byte_ids, sizeof bpe->byte_ids);
    bpe->merges = merges;
    bpe->n_merges = count;
    bpe->cache = context_alloc(context, CACHE_SLOTS, sizeof *bpe->cache);
    bpe->cached_words = context_alloc(context, CACHED_WORDS, CACHED_BYTES);
    if (bpe->cache && bpe->cached_words && make_ranks(bpe) && compile_pattern(bpe))
        return bpe;
    bpe_free(bpe);
    return NULL;
}

void bpe_free(struct bpe *bpe)
{
    if (!bpe)
        return;
    pcre2_match_data_free(bpe->match);
    pcre2_code_free(bpe->pattern);
    free(bpe->heap);
    free(bpe->symbols);
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

static bool make_symbols(struct bpe *bpe, const char *word, size_t bytes)
{
    if (bytes > bpe->symbol_room) {
        size_t size;
        struct symbol *larger = NULL;
        if (bytes < NONE && size_product(&size, bytes, sizeof *larger))
            larger = realloc(bpe->symbols, size);
        if (!larger) {
            context_fail(bpe->context, QN_ERROR_MEMORY,
                         "out of memory for tokenizing a word of %zu bytes", bytes);
            return false;
        }
        bpe->symbols = larger;
        bpe->symbol_room = bytes;
    }
    for (uint32_t i = 0; i < bytes; i++)
        bpe->symbols[i] = (struct symbol){.id = bpe->byte_ids[(unsigned char)word[i]],
                                          .previous = i > 0 ? i - 1 : NONE,
                                          .next = i + 1 < bytes ? i + 1 : NONE};
    return true;
}

static bool merge_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *ids)
{
    if (!make_symbols(bpe, word, bytes))
        return false;
    bpe->heap_count = 0;
    for (uint32_t i = 0; i + 1 < bytes; i++)
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

static bool encode_word(struct bpe *bpe, const char *word, size_t bytes, struct ids *ids)
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

bool bpe_encode(struct bpe *bpe, const char *text, size_t bytes, struct ids *ids)
{
    size_t at = 0;
    while (at < bytes) {
        int result = pcre2_match(bpe->pattern, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK,
                                 bpe->match, NULL);
        if (result < 0) {
            PCRE2_UCHAR message[200] = "";
            pcre2_get_error_message(result, message, sizeof message);
            context_fail(bpe->context, QN_ERROR_INVALID,
                         "PCRE2 does not match GPT-2's pattern at byte %zu: %s", at,
                         (char *)message);
            return false;
        }
        size_t end = pcre2_get_ovector_pointer(bpe->match)[1];
        if (!encode_word(bpe, text + at, end - at, ids))
            return false;
        at = end;
    }
    return true;
}

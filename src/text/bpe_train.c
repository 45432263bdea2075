/* Learning byte pair encoding from words and their counts.
 *
 * Each pair of neighbouring tokens has its count and a list of the words in which it may be.  A heap
 * has the pairs by count; an entry whose count is no longer true is put back when it comes up, as in
 * Hugging Face's tokenizers, whose order among equals this is, too: the lower ids first.  A merge
 * goes through the words of its pair only, and changes the counts of the neighbours it meets. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

struct text_word {
    size_t begin, length; /* of its tokens */
    uint64_t count;
};

struct place_in_list {   /* of the words that have a pair */
    uint32_t word, next; /* next: index + 1; 0: the last */
};

struct pair {
    uint64_t key; /* left << 32 | right */
    int64_t count;
    uint32_t places;    /* index + 1 of the first */
    uint32_t raised_in; /* the round that last raised its count */
};

struct candidate {
    int64_t count;
    uint64_t key;
};

struct trainer {
    qn_context *context;
    const struct bpe_training *training;
    struct words *tokens;
    int32_t *ids; /* of all words */
    struct text_word *words;
    size_t n_words;

    struct pair *pairs;
    size_t n_pairs, pair_capacity;
    uint32_t *slots; /* index + 1 of a pair; 0: empty */
    size_t n_slots;
    struct place_in_list *places;
    size_t n_places, place_capacity;

    struct candidate *heap;
    size_t n_heap, heap_capacity;
    uint32_t round;   /* 1: of loading; then one for each merge */
    uint32_t *raised; /* pairs whose counts this round raised */
    size_t n_raised, raised_capacity;

    struct merge *merges;
    size_t n_merges, merge_capacity;
};

/* ---- Pairs ---- */

static uint64_t key_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint32_t *find_slot(const struct trainer *trainer, uint64_t key)
{
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t mask = trainer->n_slots - 1, at = (size_t)(hash >> 32) & mask;
    while (trainer->slots[at] && trainer->pairs[trainer->slots[at] - 1].key != key)
        at = (at + 1) & mask;
    return &trainer->slots[at];
}

static bool grow_slots(struct trainer *trainer)
{
    size_t n_slots = trainer->n_slots ? 2 * trainer->n_slots : 4096;
    uint32_t *slots = context_alloc(trainer->context, n_slots, sizeof *slots);
    if (!slots)
        return false;
    free(trainer->slots);
    trainer->slots = slots;
    trainer->n_slots = n_slots;
    for (size_t i = 0; i < trainer->n_pairs; i++)
        *find_slot(trainer, trainer->pairs[i].key) = (uint32_t)i + 1;
    return true;
}

/* The pair of a key, a new one if need be; NULL without memory. */
static struct pair *pair_of(struct trainer *trainer, uint64_t key)
{
    if (2 * trainer->n_pairs >= trainer->n_slots && !grow_slots(trainer))
        return NULL;
    uint32_t *slot = find_slot(trainer, key);
    if (*slot)
        return &trainer->pairs[*slot - 1];
    struct pair *pairs = context_grow(trainer->context, trainer->pairs, trainer->n_pairs,
                                      &trainer->pair_capacity, sizeof *pairs);
    if (!pairs)
        return NULL;
    trainer->pairs = pairs;
    pairs[trainer->n_pairs] = (struct pair){.key = key};
    *slot = (uint32_t)++trainer->n_pairs;
    return &pairs[trainer->n_pairs - 1];
}

/* Notes that a word has a pair. */
static bool add_place(struct trainer *trainer, struct pair *pair, uint32_t word)
{
    if (pair->places && trainer->places[pair->places - 1].word == word)
        return true;
    if (trainer->n_places == UINT32_MAX) {
        context_fail(trainer->context, QN_ERROR_MEMORY,
                     "more than %u pairs in words: train on less text", UINT32_MAX);
        return false;
    }
    struct place_in_list *places =
        context_grow(trainer->context, trainer->places, trainer->n_places, &trainer->place_capacity,
                     sizeof *places);
    if (!places)
        return false;
    trainer->places = places;
    places[trainer->n_places++] = (struct place_in_list){word, pair->places};
    pair->places = (uint32_t)trainer->n_places;
    return true;
}

static bool raise_pair(struct trainer *trainer, int32_t left, int32_t right, uint32_t word)
{
    struct pair *pair = pair_of(trainer, key_of(left, right));
    if (!pair || !add_place(trainer, pair, word))
        return false;
    pair->count += (int64_t)trainer->words[word].count;
    if (pair->raised_in == trainer->round)
        return true;
    uint32_t *raised = context_grow(trainer->context, trainer->raised, trainer->n_raised,
                                    &trainer->raised_capacity, sizeof *raised);
    if (!raised)
        return false;
    pair->raised_in = trainer->round;
    trainer->raised = raised;
    raised[trainer->n_raised++] = (uint32_t)(pair - trainer->pairs);
    return true;
}

static void lower_pair(struct trainer *trainer, int32_t left, int32_t right, uint32_t word)
{
    uint32_t index = *find_slot(trainer, key_of(left, right));
    trainer->pairs[index - 1].count -= (int64_t)trainer->words[word].count;
}

/* ---- The heap ---- */

static bool comes_before(struct candidate a, struct candidate b)
{
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static bool push(struct trainer *trainer, struct candidate candidate)
{
    struct candidate *heap = context_grow(trainer->context, trainer->heap, trainer->n_heap,
                                          &trainer->heap_capacity, sizeof *heap);
    if (!heap)
        return false;
    trainer->heap = heap;
    size_t at = trainer->n_heap++;
    for (; at > 0 && comes_before(candidate, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = candidate;
    return true;
}

static struct candidate pop(struct trainer *trainer)
{
    struct candidate *heap = trainer->heap, first = heap[0], last = heap[--trainer->n_heap];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < trainer->n_heap) {
        if (child + 1 < trainer->n_heap && comes_before(heap[child + 1], heap[child]))
            child++;
        if (!comes_before(heap[child], last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static bool push_raised(struct trainer *trainer)
{
    bool is_good = true;
    for (size_t i = 0; i < trainer->n_raised && is_good; i++) {
        const struct pair *pair = &trainer->pairs[trainer->raised[i]];
        if (pair->count >= (int64_t)trainer->training->min_frequency)
            is_good = push(trainer, (struct candidate){pair->count, pair->key});
    }
    trainer->n_raised = 0;
    trainer->round++;
    return is_good;
}

/* The pair that occurs most often; NULL if none is left. */
static struct pair *take_best(struct trainer *trainer)
{
    while (trainer->n_heap > 0) {
        struct candidate best = pop(trainer);
        struct pair *pair = &trainer->pairs[*find_slot(trainer, best.key) - 1];
        if (pair->count == best.count)
            return pair;
        if (pair->count >= (int64_t)trainer->training->min_frequency) {
            best.count = pair->count;
            push(trainer, best); /* there is room: one was popped */
        }
    }
    return NULL;
}

/* ---- Words ---- */

static bool load_words(struct trainer *trainer)
{
    const struct words *words = trainer->training->words;
    trainer->words = context_alloc(trainer->context, words->count, sizeof *trainer->words);
    trainer->ids = context_alloc(trainer->context, words->used, sizeof *trainer->ids);
    if (!trainer->words || !trainer->ids)
        return false;
    trainer->n_words = words->count;
    size_t used = 0;
    for (uint32_t i = 0; i < words->count; i++) {
        const struct word *word = &words->list[i];
        size_t length = bpe_first_ids(trainer->training->units, word_bytes(words, word),
                                      word->length, trainer->ids + used);
        trainer->words[i] = (struct text_word){used, length, word->value};
        for (size_t at = used; at + 1 < used + length; at++)
            if (!raise_pair(trainer, trainer->ids[at], trainer->ids[at + 1], i))
                return false;
        used += length;
    }
    return push_raised(trainer);
}

/* Does a merge in a word.  Counts are changed neighbour by neighbour, from the left. */
static bool merge_in_word(struct trainer *trainer, struct merge merge, uint32_t index)
{
    struct text_word *word = &trainer->words[index];
    int32_t *ids = trainer->ids + word->begin;
    size_t kept = 0;
    for (size_t at = 0; at < word->length; at++) {
        bool merges = at + 1 < word->length && ids[at] == merge.left && ids[at + 1] == merge.right;
        if (!merges) {
            ids[kept++] = ids[at];
            continue;
        }
        lower_pair(trainer, merge.left, merge.right, index);
        if (kept > 0) {
            lower_pair(trainer, ids[kept - 1], merge.left, index);
            if (!raise_pair(trainer, ids[kept - 1], merge.result, index))
                return false;
        }
        at++;
        if (at + 1 < word->length) {
            lower_pair(trainer, merge.right, ids[at + 1], index);
            if (!raise_pair(trainer, merge.result, ids[at + 1], index))
                return false;
        }
        ids[kept++] = merge.result;
    }
    word->length = kept;
    return true;
}

static bool merge_in_words(struct trainer *trainer, struct pair *pair, struct merge merge)
{
    uint32_t at = pair->places;
    pair->places = 0;
    for (; at; at = trainer->places[at - 1].next)
        if (!merge_in_word(trainer, merge, trainer->places[at - 1].word))
            return false;
    return push_raised(trainer);
}

/* ---- Tokens ---- */

/* The token that a pair makes, perhaps one that there is already; false without memory.  -1: it may
 * not be made. */
static bool make_token(struct trainer *trainer, uint64_t key, int32_t *result)
{
    const struct words *tokens = trainer->tokens;
    const struct word *left = &tokens->list[key >> 32], *right = &tokens->list[(uint32_t)key];
    size_t length = left->length + right->length;
    char *joined = context_alloc(trainer->context, length, 1);
    if (!joined)
        return false;
    memcpy(joined, word_bytes(tokens, left), left->length);
    memcpy(joined + left->length, word_bytes(tokens, right), right->length);
    *result = -1;
    bool is_good = true;
    if (!words_find(trainer->training->reserved, joined, length)) {
        const struct word *token = words_add(trainer->tokens, joined, length);
        is_good = token != NULL;
        if (is_good)
            *result = (int32_t)(token - trainer->tokens->list);
    }
    free(joined);
    return is_good;
}

static bool add_merge(struct trainer *trainer, struct merge merge)
{
    struct merge *merges = context_grow(trainer->context, trainer->merges, trainer->n_merges,
                                        &trainer->merge_capacity, sizeof *merges);
    if (!merges)
        return false;
    trainer->merges = merges;
    merges[trainer->n_merges++] = merge;
    return true;
}

static bool learn(struct trainer *trainer)
{
    const struct bpe_training *training = trainer->training;
    struct pair *pair;
    while (trainer->n_merges < training->most_merges &&
           trainer->tokens->count < training->most_tokens && (pair = take_best(trainer))) {
        struct merge merge = {(int32_t)(pair->key >> 32), (int32_t)(uint32_t)pair->key, -1};
        if (!make_token(trainer, pair->key, &merge.result))
            return false;
        if (merge.result < 0)
            pair->count = 0; /* it must not come again */
        else if (!merge_in_words(trainer, pair, merge) || !add_merge(trainer, merge))
            return false;
    }
    return true;
}

bool bpe_train(qn_context *context, const struct bpe_training *training, struct words *tokens,
               struct merge **merges, size_t *count)
{
    struct trainer trainer = {
        .context = context, .training = training, .tokens = tokens, .round = 1};
    bool is_good = load_words(&trainer) && learn(&trainer);
    *merges = trainer.merges;
    *count = trainer.n_merges;
    if (!is_good) {
        free(trainer.merges);
        *merges = NULL;
    }
    free(trainer.raised);
    free(trainer.heap);
    free(trainer.places);
    free(trainer.slots);
    free(trainer.pairs);
    free(trainer.ids);
    free(trainer.words);
    return is_good;
}

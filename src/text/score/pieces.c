/* Text as Python's `str` has it; pieces of it, and their n-grams. */
#include "text/score/pieces.h"

#include <stdlib.h>
#include <string.h>

#include <quern/score.h>
#include <quern/text.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

/* ---- Text that grows ---- */

bool buffer_append(qn_context *context, struct buffer *buffer, const char *text, size_t bytes)
{
    if (bytes >= buffer->capacity - buffer->bytes) {
        size_t capacity = size_max(2 * buffer->capacity, buffer->bytes + bytes + 1);
        char *larger = realloc(buffer->text, capacity);
        if (!larger) {
            context_fail(context, QN_ERROR_MEMORY, "out of memory for %zu bytes of text", capacity);
            return false;
        }
        buffer->text = larger;
        buffer->capacity = capacity;
    }
    memcpy(buffer->text + buffer->bytes, text, bytes);
    buffer->bytes += bytes;
    buffer->text[buffer->bytes] = '\0';
    return true;
}

/* ---- Lower case ---- */

enum { CAPITAL_SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2, CAPITAL_I_WITH_DOT = 0x130, DOT_ABOVE = 0x307 };

/* Unicode's Cased, but for modifier letters, which is_case_ignorable() takes first. */
static bool is_cased(int32_t point)
{
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
        return true;
    default: /* ordinals, Roman numerals, letters in circles and squares */
        return point == 0xAA || point == 0xBA || (point >= 0x2160 && point <= 0x217F) ||
               (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F189);
    }
}

/* Unicode's Case_Ignorable. */
static bool is_case_ignorable(int32_t point)
{
    static const int32_t within_words[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,
                                           0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                           0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        for (size_t i = 0; i < sizeof within_words / sizeof *within_words; i++)
            if (within_words[i] == point)
                return true;
        return false;
    }
}

static int32_t point_at(const char *text, size_t *length)
{
    int32_t point = 0;
    *length = utf8_decode(text, strnlen(text, 4), &point);
    return point;
}

/* Whether the sigma at `at`, of two bytes, ends a word: a letter with case before it and none
 * behind, others aside. */
static bool ends_word(const char *text, size_t at)
{
    int32_t point = 0;
    size_t length, before = at, behind = at + 2;
    do {
        if (before == 0)
            return false;
        while (before > 0 && ((unsigned char)text[--before] & 0xC0) == 0x80)
            continue;
        point = point_at(text + before, &length);
    } while (is_case_ignorable(point));
    if (!is_cased(point))
        return false;
    do {
        if (!text[behind])
            return true;
        point = point_at(text + behind, &length);
        behind += length;
    } while (is_case_ignorable(point));
    return !is_cased(point);
}

static bool append_point(qn_context *context, struct buffer *buffer, int32_t point)
{
    utf8proc_uint8_t encoded[4];
    size_t length = (size_t)utf8proc_encode_char(point, encoded);
    return buffer_append(context, buffer, (const char *)encoded, length);
}

static bool append_lower(qn_context *context, struct buffer *buffer, const char *text)
{
    for (size_t at = 0, length; text[at]; at += length) {
        if ((unsigned char)text[at] < 0x80) {
            bool is_capital = text[at] >= 'A' && text[at] <= 'Z';
            char lower = (char)(is_capital ? text[at] + ('a' - 'A') : text[at]);
            length = 1;
            if (!buffer_append(context, buffer, &lower, 1))
                return false;
            continue;
        }
        int32_t point = point_at(text + at, &length);
        int32_t lower = point == CAPITAL_I_WITH_DOT                     ? 'i'
                        : point == CAPITAL_SIGMA && ends_word(text, at) ? FINAL_SIGMA
                                                                        : utf8proc_tolower(point);
        if (!append_point(context, buffer, lower) ||
            (point == CAPITAL_I_WITH_DOT && !append_point(context, buffer, DOT_ABOVE)))
            return false;
    }
    return true;
}

bool buffer_set(qn_context *context, struct buffer *buffer, const char *text, bool lowercase)
{
    buffer->bytes = 0;
    if (!lowercase)
        return buffer_append(context, buffer, text, strlen(text));
    return buffer_append(context, buffer, "", 0) && append_lower(context, buffer, text);
}

/* ---- White space ---- */

size_t space_at(const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (*byte < 0x80)
        return (*byte >= '\t' && *byte <= '\r') || (*byte >= 0x1C && *byte <= ' ');
    if (*byte == 0xC2)
        return byte[1] == 0x85 || byte[1] == 0xA0 ? 2 : 0;
    if (*byte < 0xE1 || *byte > 0xE3)
        return 0;
    size_t length;
    int32_t point = point_at(text, &length);
    return point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
                   point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000
               ? length
               : 0;
}

void trim_end(char *text)
{
    size_t end = 0;
    for (size_t at = 0; text[at];) {
        size_t space = space_at(text + at);
        at += space ? space : 1;
        if (!space)
            end = at;
    }
    text[end] = '\0';
}

void squeeze(struct buffer *buffer, bool keeps_one)
{
    char *text = buffer->text;
    size_t used = 0;
    for (size_t at = 0; text[at];) {
        size_t space = space_at(text + at);
        if (space) {
            at += space;
            continue;
        }
        if (keeps_one && used > 0)
            text[used++] = ' ';
        while (text[at] && space_at(text + at) == 0)
            text[used++] = text[at++];
    }
    text[used] = '\0';
    buffer->bytes = used;
}

/* ---- Pieces ---- */

bool pieces_append(qn_context *context, struct pieces *pieces, const char *text, size_t bytes)
{
    struct piece *grown =
        context_grow(context, pieces->at, pieces->count, &pieces->capacity, sizeof *grown);
    if (!grown)
        return false;
    pieces->at = grown;
    grown[pieces->count++] = (struct piece){text, bytes};
    return true;
}

bool pieces_words(qn_context *context, struct pieces *pieces, const char *text)
{
    pieces->count = 0;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (!pieces_append(context, pieces, text, length))
            return false;
        text += length + (text[length] == ' ');
    }
    return true;
}

bool pieces_characters(qn_context *context, struct pieces *pieces, const char *text)
{
    pieces->count = 0;
    while (*text) {
        size_t length = 1;
        while (((unsigned char)text[length] & 0xC0) == 0x80)
            length++;
        if (!pieces_append(context, pieces, text, length))
            return false;
        text += length;
    }
    return true;
}

void segment_release(struct segment *segment)
{
    free(segment->text.text);
    free(segment->pieces.at);
}

/* ---- N-grams ---- */

struct ngram {
    struct piece piece; /* text NULL: the slot is free */
    uint32_t hash;
    unsigned kind;
    size_t count;     /* in the hypothesis */
    size_t reference; /* the last that has it */
    size_t here;      /* in that one */
    size_t most;      /* in any */
};

void ngrams_clear(struct ngrams *ngrams)
{
    /* What one long sentence needed would be cleared for each short one behind it. */
    if (ngrams->capacity > 64 * (ngrams->count + 256)) {
        free(ngrams->slots);
        *ngrams = (struct ngrams){0};
    }
    if (ngrams->count)
        memset(ngrams->slots, 0, ngrams->capacity * sizeof *ngrams->slots);
    ngrams->count = 0;
    ngrams->references = 0;
}

void ngrams_release(struct ngrams *ngrams)
{
    free(ngrams->slots);
}

void ngrams_next_reference(struct ngrams *ngrams)
{
    ngrams->references++;
}

/* FNV-1a, its high bits folded into those that choose the slot. */
static uint32_t hash_of(struct piece piece, unsigned kind)
{
    uint32_t hash = 2166136261u ^ kind;
    for (size_t i = 0; i < piece.bytes; i++)
        hash = (hash ^ (unsigned char)piece.text[i]) * 16777619u;
    return hash ^ hash >> 15;
}

/* The slot of an n-gram, or the free one where it belongs; there must be one. */
static struct ngram *slot_of(const struct ngrams *ngrams, struct piece piece, uint32_t hash,
                             unsigned kind)
{
    for (size_t at = hash;; at++) {
        struct ngram *slot = &ngrams->slots[at & (ngrams->capacity - 1)];
        if (!slot->piece.text ||
            (slot->hash == hash && slot->kind == kind && same_piece(slot->piece, piece)))
            return slot;
    }
}

/* Makes room for one n-gram more: at most half of the slots are in use. */
static bool ngrams_grow(qn_context *context, struct ngrams *ngrams)
{
    if (2 * (ngrams->count + 1) <= ngrams->capacity)
        return true;
    struct ngrams larger = *ngrams;
    larger.capacity = size_max(2 * ngrams->capacity, 256);
    larger.slots = context_alloc(context, larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < ngrams->capacity; i++) {
        struct ngram *slot = &ngrams->slots[i];
        if (slot->piece.text)
            *slot_of(&larger, slot->piece, slot->hash, slot->kind) = *slot;
    }
    free(ngrams->slots);
    *ngrams = larger;
    return true;
}

static struct piece ngram_at(const struct pieces *pieces, size_t first, size_t n)
{
    const struct piece *last = &pieces->at[first + n - 1];
    const char *start = pieces->at[first].text;
    return (struct piece){start, (size_t)(last->text + last->bytes - start)};
}

bool ngrams_count(qn_context *context, struct ngrams *ngrams, const struct pieces *hypothesis,
                  size_t n, unsigned kind)
{
    for (size_t i = 0; i < ngrams_of(hypothesis->count, n); i++) {
        if (!ngrams_grow(context, ngrams))
            return false;
        struct piece piece = ngram_at(hypothesis, i, n);
        uint32_t hash = hash_of(piece, kind);
        struct ngram *slot = slot_of(ngrams, piece, hash, kind);
        if (!slot->piece.text) {
            *slot = (struct ngram){.piece = piece, .hash = hash, .kind = kind};
            ngrams->count++;
        }
        slot->count++;
    }
    return true;
}

struct ngram_matches ngrams_match(struct ngrams *ngrams, const struct pieces *reference, size_t n,
                                  unsigned kind)
{
    struct ngram_matches matches = {0, 0};
    for (size_t i = 0; ngrams->count > 0 && i < ngrams_of(reference->count, n); i++) {
        struct piece piece = ngram_at(reference, i, n);
        struct ngram *slot = slot_of(ngrams, piece, hash_of(piece, kind), kind);
        if (!slot->piece.text)
            continue;
        if (slot->reference != ngrams->references)
            slot->here = 0;
        slot->reference = ngrams->references;
        slot->here++;
        matches.here += slot->here <= slot->count;
        if (slot->here > slot->most) {
            slot->most = slot->here;
            matches.more += slot->most <= slot->count;
        }
    }
    return matches;
}

/* ---- Ratios ---- */

struct qn_ratios ratios_of(double correct, double predicted, double support)
{
    double precision = ratio(correct, predicted), recall = ratio(correct, support);
    return (struct qn_ratios){precision, recall, ratio(2 * precision * recall, precision + recall)};
}

void ratios_add(struct qn_ratios *sum, struct qn_ratios ratios, double weight)
{
    sum->precision += weight * ratios.precision;
    sum->recall += weight * ratios.recall;
    sum->f1 += weight * ratios.f1;
}

/* ---- Checks ---- */

static bool check_text(qn_context *context, size_t sentence, const char *what, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%s of sentence %zu", what, sentence + 1);
    return qn_text_check(context, name, text, strlen(text), false) == QN_OK;
}

bool check_sentence(qn_context *context, size_t sentence, const char *hypothesis,
                    const char *const *references, size_t count)
{
    size_t found = 0;
    if (!check_text(context, sentence, "the hypothesis", hypothesis))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (references[i] && !check_text(context, sentence, "a reference", references[i]))
            return false;
        found += references[i] != NULL;
    }
    if (found == 0)
        context_fail(context, QN_ERROR_INVALID, "sentence %zu has no reference", sentence + 1);
    return found > 0;
}

/* SQuAD's exact match and F1 (Rajpurkar et al., 2016, 2018). */
#include <quern/score.h>

#include <stdlib.h>

#include <quern/text.h>
#include <utf8proc.h>

#include "text/score/pieces.h"
#include "text/tokenizer.h"

struct qn_squad {
    qn_context *context;
    struct qn_squad_result sums;
    struct segment answer, reference; /* of the answer being added */
    struct buffer scratch;
    struct ngrams ngrams;
};

qn_squad *qn_squad_new(qn_context *context)
{
    qn_squad *squad = context ? context_alloc(context, 1, sizeof *squad) : NULL;
    if (squad)
        squad->context = context;
    return squad;
}

void qn_squad_free(qn_squad *squad)
{
    if (!squad)
        return;
    segment_release(&squad->answer);
    segment_release(&squad->reference);
    free(squad->scratch.text);
    ngrams_release(&squad->ngrams);
    free(squad);
}

/* ---- Normalising ---- */

static void drop_punctuation(struct buffer *buffer)
{
    size_t used = 0;
    for (size_t i = 0; i < buffer->bytes; i++)
        if (!is_ascii_punctuation(buffer->text[i]))
            buffer->text[used++] = buffer->text[i];
    buffer->text[used] = '\0';
    buffer->bytes = used;
}

/* The bytes of the letter, mark of a syllable or number at `text`, as \w of Python's re; 0 if it is
 * none. */
static size_t word_character_at(const char *text)
{
    int32_t point;
    size_t length = *text ? utf8_decode(text, strnlen(text, 4), &point) : 0;
    if (length == 0)
        return 0;
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return length;
    default:
        return 0;
    }
}

static bool is_article(const char *word, size_t bytes)
{
    return (bytes == 1 && word[0] == 'a') || (bytes == 2 && memcmp(word, "an", 2) == 0) ||
           (bytes == 3 && memcmp(word, "the", 3) == 0);
}

/* Blanks out "a", "an" and "the": s/\b(a|an|the)\b/ /. */
static void drop_articles(struct buffer *buffer)
{
    char *text = buffer->text;
    while (*text) {
        size_t word = 0, length;
        while ((length = word_character_at(text + word)) > 0)
            word += length;
        if (is_article(text, word))
            memset(text, ' ', word);
        text += word > 0 ? word : 1;
    }
}

static bool normalise(qn_context *context, struct buffer *buffer, const char *text)
{
    if (!buffer_set(context, buffer, text, true))
        return false;
    drop_punctuation(buffer);
    drop_articles(buffer);
    squeeze(buffer, true);
    return true;
}

char *qn_squad_normalise(qn_context *context, const char *text)
{
    if (!context || !text || qn_text_check(context, "the text", text, strlen(text), false) != QN_OK)
        return NULL;
    struct buffer buffer = {0};
    if (normalise(context, &buffer, text))
        return buffer.text;
    free(buffer.text);
    return NULL;
}

/* ---- An answer ---- */

static bool split(qn_context *context, const char *text, struct segment *segment)
{
    return normalise(context, &segment->text, text) &&
           pieces_words(context, &segment->pieces, segment->text.text);
}

static double f1_of(qn_squad *squad)
{
    const struct pieces *words = &squad->answer.pieces, *wanted = &squad->reference.pieces;
    if (words->count == 0 || wanted->count == 0)
        return words->count == wanted->count;
    ngrams_next_reference(&squad->ngrams);
    size_t both = ngrams_match(&squad->ngrams, wanted, 1, 0).here;
    return ratios_of((double)both, (double)words->count, (double)wanted->count).f1;
}

int qn_squad_add(qn_squad *squad, const char *answer, const char *const *references, size_t count,
                 struct qn_squad_result *one)
{
    if (!squad || !answer || (count > 0 && !references))
        return QN_ERROR_INVALID;
    qn_context *context = squad->context;
    if (!check_sentence(context, squad->sums.answers, answer, references, count))
        return context->status;
    ngrams_clear(&squad->ngrams);
    if (!split(context, answer, &squad->answer) ||
        !ngrams_count(context, &squad->ngrams, &squad->answer.pieces, 1, 0))
        return context->status;

    struct qn_squad_result best = {.answers = 1};
    for (size_t i = 0; i < count; i++) {
        if (!references[i])
            continue;
        if (!split(context, references[i], &squad->reference))
            return context->status;
        if (strcmp(squad->answer.text.text, squad->reference.text.text) == 0)
            best.exact_match = 1;
        double f1 = f1_of(squad);
        best.f1 = f1 > best.f1 ? f1 : best.f1;
    }
    squad->sums.exact_match += best.exact_match;
    squad->sums.f1 += best.f1;
    squad->sums.answers++;
    if (one)
        *one = best;
    return QN_OK;
}

int qn_squad_miss(qn_squad *squad)
{
    if (!squad)
        return QN_ERROR_INVALID;
    squad->sums.answers++;
    return QN_OK;
}

struct qn_squad_result qn_squad_result(const qn_squad *squad)
{
    struct qn_squad_result result = {0};
    if (!squad)
        return result;
    double count = (double)squad->sums.answers;
    result.exact_match = 100 * ratio(squad->sums.exact_match, count);
    result.f1 = 100 * ratio(squad->sums.f1, count);
    result.answers = squad->sums.answers;
    return result;
}

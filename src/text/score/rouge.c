/* ROUGE (Lin, 2004), as rouge-score 0.1.2 computes it. */
#include <quern/score.h>

#include <stdlib.h>

#include <quern/text.h>

#include "text/score/porter.h"
#include "text/score/pieces.h"

/* The words of a text, and where each of its lines ends among them. */
struct text {
    struct segment words;
    size_t *ends;
    size_t lines, capacity;
};

struct qn_rouge {
    qn_context *context;
    bool stem;
    size_t sentences;
    struct qn_rouge_result sums;
    struct buffer scratch;
    struct text hypothesis, reference; /* of the sentence being added */
    struct pieces common;
    struct ngrams ngrams;
};

qn_rouge *qn_rouge_new(qn_context *context, bool stem)
{
    qn_rouge *rouge = context ? context_alloc(context, 1, sizeof *rouge) : NULL;
    if (!rouge)
        return NULL;
    rouge->context = context;
    rouge->stem = stem;
    return rouge;
}

static void text_release(struct text *text)
{
    segment_release(&text->words);
    free(text->ends);
}

void qn_rouge_free(qn_rouge *rouge)
{
    if (!rouge)
        return;
    text_release(&rouge->hypothesis);
    text_release(&rouge->reference);
    free(rouge->scratch.text);
    free(rouge->common.at);
    ngrams_release(&rouge->ngrams);
    free(rouge);
}

/* ---- Words ---- */

enum { UNSTEMMED = 3 }; /* words of up to so many letters keep theirs */

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool end_line(qn_context *context, struct text *text, size_t words)
{
    size_t *grown = context_grow(context, text->ends, text->lines, &text->capacity, sizeof *grown);
    if (!grown)
        return false;
    text->ends = grown;
    grown[text->lines++] = words;
    return true;
}

/* Splits into words and lines; `lower` lends its memory. */
static bool split(qn_context *context, const char *from, bool stem, struct buffer *lower,
                  struct text *text)
{
    struct buffer *words = &text->words.text;
    size_t count = 0;
    text->lines = 0;
    words->bytes = 0;
    if (!buffer_append(context, words, "", 0) || !buffer_set(context, lower, from, true))
        return false;
    for (char *at = lower->text; *at;) {
        size_t length = 0;
        while (is_alphanumeric(at[length]))
            length++;
        if (length == 0) {
            if (*at == '\n' && !end_line(context, text, count))
                return false;
            at++;
            continue;
        }
        size_t kept = stem && length > UNSTEMMED ? porter_stem(at, length) : length;
        if ((count++ > 0 && !buffer_append(context, words, " ", 1)) ||
            !buffer_append(context, words, at, kept))
            return false;
        at += length;
    }
    return end_line(context, text, count) &&
           pieces_words(context, &text->words.pieces, words->text);
}

char *qn_rouge_words(qn_context *context, const char *text, bool stem)
{
    if (!context || !text || qn_text_check(context, "the text", text, strlen(text), false) != QN_OK)
        return NULL;
    struct text words = {0};
    struct buffer lower = {0};
    bool is_good = split(context, text, stem, &lower, &words);
    char *found = is_good ? words.words.text.text : NULL;
    if (is_good)
        words.words.text.text = NULL;
    free(lower.text);
    text_release(&words);
    return found;
}

/* ---- Longest common subsequences ---- */

/* A line of a text. */
static struct pieces line_of(const struct text *text, size_t index)
{
    size_t first = index > 0 ? text->ends[index - 1] : 0;
    if (first == text->ends[index])
        return (struct pieces){0};
    return (struct pieces){.at = text->words.pieces.at + first, .count = text->ends[index] - first};
}

/* Which way back through the table of lengths: a bit for each place, set where b loses a piece. */
struct ways {
    unsigned char *bits;
    size_t row_bytes;
};

static bool goes_left(const struct ways *ways, size_t row, size_t column)
{
    return ways->bits[row * ways->row_bytes + column / 8] >> column % 8 & 1;
}

/* Fills in the ways; `lengths` has room for two rows. */
static void find_ways(const struct pieces *a, const struct pieces *b, size_t *lengths,
                      struct ways *ways)
{
    size_t *above = lengths, *row = lengths + b->count + 1;
    for (size_t i = 0; i < a->count; i++) {
        for (size_t j = 0; j < b->count; j++) {
            bool is_left = row[j] > above[j + 1];
            if (same_piece(a->at[i], b->at[j]))
                row[j + 1] = above[j] + 1;
            else
                row[j + 1] = is_left ? row[j] : above[j + 1];
            ways->bits[i * ways->row_bytes + j / 8] |= (unsigned char)(is_left << j % 8);
        }
        size_t *old = above;
        above = row;
        row = old;
    }
}

/* Marks the pieces of `a` that are in one of the longest common subsequences with `b`: the one that
 * rouge-score finds. */
static bool mark_common(qn_context *context, const struct pieces *a, const struct pieces *b,
                        bool *marks)
{
    if (a->count == 0 || b->count == 0)
        return true;
    struct ways ways = {.row_bytes = divide_up(b->count, 8)};
    ways.bits = context_alloc(context, a->count, ways.row_bytes);
    size_t *lengths = context_alloc(context, 2 * (b->count + 1), sizeof *lengths);
    bool is_good = ways.bits && lengths;
    if (is_good) {
        find_ways(a, b, lengths, &ways);
        for (size_t i = a->count, j = b->count; i > 0 && j > 0;) {
            if (same_piece(a->at[i - 1], b->at[j - 1])) {
                marks[i - 1] = true;
                i--;
                j--;
            } else if (goes_left(&ways, i - 1, j - 1)) {
                j--;
            } else {
                i--;
            }
        }
    }
    free(lengths);
    free(ways.bits);
    return is_good;
}

/* Appends to `common` the words of a line of the reference that are in common with any of the lines
 * of the hypothesis. */
static bool add_common(qn_rouge *rouge, const struct pieces *line, const struct pieces *lines,
                       size_t count)
{
    bool *marks = context_alloc(rouge->context, line->count + 1, sizeof *marks);
    bool is_good = marks != NULL;
    for (size_t i = 0; is_good && i < count; i++)
        is_good = mark_common(rouge->context, line, &lines[i], marks);
    for (size_t i = 0; is_good && i < line->count; i++)
        if (marks[i])
            is_good =
                pieces_append(rouge->context, &rouge->common, line->at[i].text, line->at[i].bytes);
    free(marks);
    return is_good;
}

/* ---- A sentence ---- */

static bool score_subsequence(qn_rouge *rouge, struct qn_ratios *ratios)
{
    const struct pieces *words = &rouge->hypothesis.words.pieces,
                        *wanted = &rouge->reference.words.pieces;
    rouge->common.count = 0;
    if (!add_common(rouge, wanted, words, 1))
        return false;
    *ratios = ratios_of((double)rouge->common.count, (double)words->count, (double)wanted->count);
    return true;
}

/* Each line of the reference against all of the hypothesis; no word counts more often than the
 * hypothesis has it. */
static bool score_lines(qn_rouge *rouge, struct qn_ratios *ratios)
{
    const struct text *hypothesis = &rouge->hypothesis, *reference = &rouge->reference;
    struct pieces *lines = context_alloc(rouge->context, hypothesis->lines, sizeof *lines);
    bool is_good = lines != NULL;
    for (size_t i = 0; is_good && i < hypothesis->lines; i++)
        lines[i] = line_of(hypothesis, i);
    rouge->common.count = 0;
    for (size_t i = 0; is_good && i < reference->lines; i++) {
        struct pieces line = line_of(reference, i);
        is_good = add_common(rouge, &line, lines, hypothesis->lines);
    }
    free(lines);
    ngrams_next_reference(&rouge->ngrams);
    size_t hits = ngrams_match(&rouge->ngrams, &rouge->common, 1, 0).here;
    *ratios = ratios_of((double)hits, (double)hypothesis->words.pieces.count,
                        (double)reference->words.pieces.count);
    return is_good;
}

static struct qn_ratios score_ngrams(qn_rouge *rouge, size_t n)
{
    const struct pieces *words = &rouge->hypothesis.words.pieces,
                        *wanted = &rouge->reference.words.pieces;
    size_t both = ngrams_match(&rouge->ngrams, wanted, n, 0).here;
    return ratios_of((double)both, (double)ngrams_of(words->count, n),
                     (double)ngrams_of(wanted->count, n));
}

static bool score_reference(qn_rouge *rouge, const char *reference, struct qn_rouge_result *found)
{
    if (!split(rouge->context, reference, rouge->stem, &rouge->scratch, &rouge->reference))
        return false;
    ngrams_next_reference(&rouge->ngrams);
    found->kinds[QN_ROUGE_1] = score_ngrams(rouge, 1);
    found->kinds[QN_ROUGE_2] = score_ngrams(rouge, 2);
    return score_subsequence(rouge, &found->kinds[QN_ROUGE_L]) &&
           score_lines(rouge, &found->kinds[QN_ROUGE_LSUM]);
}

int qn_rouge_add(qn_rouge *rouge, const char *hypothesis, const char *const *references,
                 size_t count, struct qn_rouge_result *one)
{
    if (!rouge || !hypothesis || (count > 0 && !references))
        return QN_ERROR_INVALID;
    qn_context *context = rouge->context;
    if (!check_sentence(context, rouge->sentences, hypothesis, references, count))
        return context->status;
    ngrams_clear(&rouge->ngrams);
    const struct pieces *words = &rouge->hypothesis.words.pieces;
    if (!split(context, hypothesis, rouge->stem, &rouge->scratch, &rouge->hypothesis) ||
        !ngrams_count(context, &rouge->ngrams, words, 1, 0) ||
        !ngrams_count(context, &rouge->ngrams, words, 2, 0))
        return context->status;

    struct qn_rouge_result best = {0};
    for (size_t i = 0; i < count; i++) {
        struct qn_rouge_result found;
        if (!references[i])
            continue;
        if (!score_reference(rouge, references[i], &found))
            return context->status;
        for (size_t kind = 0; kind < QN_ROUGE_KINDS; kind++)
            if (found.kinds[kind].f1 > best.kinds[kind].f1)
                best.kinds[kind] = found.kinds[kind];
    }
    for (size_t kind = 0; kind < QN_ROUGE_KINDS; kind++) {
        rouge->sums.kinds[kind].precision += best.kinds[kind].precision;
        rouge->sums.kinds[kind].recall += best.kinds[kind].recall;
        rouge->sums.kinds[kind].f1 += best.kinds[kind].f1;
    }
    rouge->sentences++;
    if (one)
        *one = best;
    return QN_OK;
}

struct qn_rouge_result qn_rouge_result(const qn_rouge *rouge)
{
    struct qn_rouge_result means = {0};
    for (size_t kind = 0; rouge && kind < QN_ROUGE_KINDS; kind++) {
        const struct qn_ratios *sum = &rouge->sums.kinds[kind];
        double count = (double)rouge->sentences;
        means.kinds[kind] = (struct qn_ratios){ratio(sum->precision, count),
                                               ratio(sum->recall, count), ratio(sum->f1, count)};
    }
    return means;
}

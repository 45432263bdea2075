/* The words of machine translation: mteval-v13a.pl's rules, sacrebleu's "13a".
 *
 * The rules are substitutions of patterns of one or two characters, each over the whole line.  All
 * that they look at is ASCII, so bytes do for characters. */
#include "text/score/mteval.h"

#include <stdlib.h>

#include <quern/text.h>

/* ---- Substitutions ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_period(char c)
{
    return c == '.' || c == ',';
}

/* ASCII punctuation, but for ' . , - and with the space: s/([\{-\~\[-\` -\&\(-\+\:-\@\/])/ $1 /. */
static bool is_symbol(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

/* How many bytes match at `text`, and what replaces them. */
typedef size_t (*substitution)(const char *text, char replacement[8]);

static size_t part_symbols(const char *text, char replacement[8])
{
    if (!is_symbol(text[0]))
        return 0;
    snprintf(replacement, 8, " %c ", text[0]);
    return 1;
}
static size_t part_periods_behind_letters(const char *text, char replacement[8])
{
    if (is_digit(text[0]) || !is_period(text[1]))
        return 0;
    snprintf(replacement, 8, "%c %c ", text[0], text[1]);
    return 2;
}
static size_t part_periods_before_letters(const char *text, char replacement[8])
{
    if (!is_period(text[0]) || !text[1] || is_digit(text[1]))
        return 0;
    snprintf(replacement, 8, " %c %c", text[0], text[1]);
    return 2;
}
static size_t part_dashes_behind_digits(const char *text, char replacement[8])
{
    if (!is_digit(text[0]) || text[1] != '-')
        return 0;
    snprintf(replacement, 8, "%c - ", text[0]);
    return 2;
}

static void swap(struct buffer *a, struct buffer *b)
{
    struct buffer old = *a;
    *a = *b;
    *b = old;
}

/* Replaces all matches, from left to right. */
static bool substitute(qn_context *context, struct buffer *text, struct buffer *scratch,
                       substitution match)
{
    scratch->bytes = 0;
    size_t copied = 0, length;
    for (size_t at = 0; at < text->bytes; at += length ? length : 1) {
        char replacement[8];
        length = match(text->text + at, replacement);
        if (length == 0)
            continue;
        if (!buffer_append(context, scratch, text->text + copied, at - copied) ||
            !buffer_append(context, scratch, replacement, strlen(replacement)))
            return false;
        copied = at + length;
    }
    if (!buffer_append(context, scratch, text->text + copied, text->bytes - copied))
        return false;
    swap(text, scratch);
    return true;
}

/* Replaces a string by one that is not longer, in place. */
static void replace(struct buffer *text, const char *old, const char *new)
{
    size_t length = strlen(old), new_length = strlen(new);
    char *found = strstr(text->text, old), *end = found;
    const char *from = found;
    while (found) {
        memmove(end, from, (size_t)(found - from));
        end += found - from;
        memcpy(end, new, new_length);
        end += new_length;
        from = found + length;
        found = strstr(from, old);
        if (!found) {
            size_t rest = (size_t)(text->text + text->bytes - from);
            memmove(end, from, rest + 1);
            text->bytes = (size_t)(end - text->text) + rest;
        }
    }
}

/* ---- The tokenizer ---- */

bool mteval_13a(qn_context *context, struct buffer *text, struct buffer *scratch)
{
    static const char *const entities[][2] = {
        {"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}};
    static const substitution rules[] = {part_symbols, part_periods_behind_letters,
                                         part_periods_before_letters, part_dashes_behind_digits};

    trim_end(text->text);
    text->bytes = strlen(text->text);
    replace(text, "<skipped>", "");
    replace(text, "-\n", "");
    replace(text, "\n", " ");
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
        replace(text, entities[i][0], entities[i][1]);

    /* A space on both sides, for the rules. */
    scratch->bytes = 0;
    if (!buffer_append(context, scratch, " ", 1) ||
        !buffer_append(context, scratch, text->text, text->bytes) ||
        !buffer_append(context, scratch, " ", 1))
        return false;
    swap(text, scratch);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!substitute(context, text, scratch, rules[i]))
            return false;
    squeeze(text, true);
    return true;
}

char *qn_tokenize_13a(qn_context *context, const char *text)
{
    if (!context || !text || qn_text_check(context, "the text", text, strlen(text), false) != QN_OK)
        return NULL;
    struct buffer words = {0}, scratch = {0};
    bool is_good =
        buffer_set(context, &words, text, false) && mteval_13a(context, &words, &scratch);
    free(scratch.text);
    if (is_good)
        return words.text;
    free(words.text);
    return NULL;
}

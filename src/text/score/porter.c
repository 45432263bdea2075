/* Porter's stemmer (Porter, "An algorithm for suffix stripping", 1980), with the extensions of
 * NLTK's default mode: irregular words, -ies and -ied of short words, -y behind consonants only,
 * -fulli, -logi, -bli, and stems of a vowel and a consonant. */
#include "text/score/porter.h"

#include <stdbool.h>
#include <string.h>

struct word {
    char *text;
    size_t length;
};

/* ---- Vowels and consonants ---- */

static bool is_vowel(char c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}

/* A "y" is a vowel behind a consonant. */
static bool consonant_behind(char c, bool follows_consonant)
{
    return c == 'y' ? !follows_consonant : !is_vowel(c);
}

static bool is_consonant(struct word word, size_t index)
{
    size_t first = index;
    while (first > 0 && word.text[first] == 'y')
        first--;
    bool is_one = consonant_behind(word.text[first], false);
    while (first < index)
        is_one = consonant_behind(word.text[++first], is_one);
    return is_one;
}

/* How often a vowel is followed by a consonant: m of the paper. */
static size_t measure(struct word stem)
{
    size_t count = 0;
    bool is_one = false;
    for (size_t i = 0; i < stem.length; i++) {
        bool was_one = is_one;
        is_one = consonant_behind(stem.text[i], was_one);
        count += i > 0 && !was_one && is_one;
    }
    return count;
}

static bool has_vowel(struct word stem)
{
    bool is_one = false;
    for (size_t i = 0; i < stem.length; i++) {
        is_one = consonant_behind(stem.text[i], is_one);
        if (!is_one)
            return true;
    }
    return false;
}

/* *d of the paper. */
static bool ends_double_consonant(struct word word)
{
    size_t n = word.length;
    return n >= 2 && word.text[n - 1] == word.text[n - 2] && is_consonant(word, n - 1);
}

/* *o of the paper: consonant, vowel, consonant other than w, x, y; or a whole stem of vowel and
 * consonant. */
static bool ends_short(struct word word)
{
    size_t n = word.length;
    if (n == 2)
        return !is_consonant(word, 0) && is_consonant(word, 1);
    return n >= 3 && is_consonant(word, n - 3) && !is_consonant(word, n - 2) &&
           is_consonant(word, n - 1) && !strchr("wxy", word.text[n - 1]);
}

/* ---- Suffixes ---- */

static bool ends(struct word word, const char *suffix)
{
    size_t length = strlen(suffix);
    return word.length >= length && memcmp(word.text + word.length - length, suffix, length) == 0;
}

/* The word without its last `count` letters. */
static struct word without(struct word word, size_t count)
{
    return (struct word){word.text, word.length - count};
}

static struct word with(struct word stem, const char *suffix)
{
    size_t length = strlen(suffix);
    memcpy(stem.text + stem.length, suffix, length);
    return (struct word){stem.text, stem.length + length};
}

struct rule {
    const char *suffix, *replacement;
    size_t kept; /* letters of the suffix that count as the stem's */
};

/* Applies the first rule whose suffix fits, if the measure of the stem is more than `least`. */
static struct word apply(struct word word, const struct rule *rules, size_t count, size_t least)
{
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(rules[i].suffix);
        if (!ends(word, rules[i].suffix))
            continue;
        bool fits = measure(without(word, length - rules[i].kept)) > least;
        return fits ? with(without(word, length), rules[i].replacement) : word;
    }
    return word;
}

/* ---- The steps of the paper ---- */

static struct word step_1a(struct word word)
{
    if (ends(word, "ies"))
        return without(word, word.length == 4 ? 1 : 2);
    if (ends(word, "sses"))
        return without(word, 2);
    return ends(word, "s") && !ends(word, "ss") ? without(word, 1) : word;
}

/* What is done to a stem that lost -ed or -ing. */
static struct word mend(struct word stem)
{
    if (ends(stem, "at") || ends(stem, "bl") || ends(stem, "iz"))
        return with(stem, "e");
    if (ends_double_consonant(stem))
        return strchr("lsz", stem.text[stem.length - 1]) ? stem : without(stem, 1);
    return measure(stem) == 1 && ends_short(stem) ? with(stem, "e") : stem;
}

static struct word step_1b(struct word word)
{
    if (ends(word, "ied"))
        return without(word, word.length == 4 ? 1 : 2);
    if (ends(word, "eed"))
        return measure(without(word, 3)) > 0 ? without(word, 1) : word;
    if (ends(word, "ed") && has_vowel(without(word, 2)))
        return mend(without(word, 2));
    if (ends(word, "ing") && has_vowel(without(word, 3)))
        return mend(without(word, 3));
    return word;
}

static struct word step_1c(struct word word)
{
    bool fits = ends(word, "y") && word.length > 2 && is_consonant(word, word.length - 2);
    return fits ? with(without(word, 1), "i") : word;
}

#define RULES(rules) rules, sizeof(rules) / sizeof *(rules)

static struct word step_2(struct word word)
{
    static const struct rule rules[] = {
        {"ational", "ate", 0}, {"tional", "tion", 0}, {"enci", "ence", 0},   {"anci", "ance", 0},
        {"izer", "ize", 0},    {"bli", "ble", 0},     {"entli", "ent", 0},   {"eli", "e", 0},
        {"ousli", "ous", 0},   {"ization", "ize", 0}, {"ation", "ate", 0},   {"ator", "ate", 0},
        {"alism", "al", 0},    {"iveness", "ive", 0}, {"fulness", "ful", 0}, {"ousness", "ous", 0},
        {"aliti", "al", 0},    {"iviti", "ive", 0},   {"biliti", "ble", 0},  {"fulli", "ful", 0},
        {"logi", "log", 1},
    };
    if (ends(word, "alli") && measure(without(word, 4)) > 0) /* then -ational and -tional fit */
        word = without(word, 2);
    return apply(word, RULES(rules), 0);
}

static struct word step_3(struct word word)
{
    static const struct rule rules[] = {
        {"icate", "ic", 0}, {"ative", "", 0}, {"alize", "al", 0}, {"iciti", "ic", 0},
        {"ical", "ic", 0},  {"ful", "", 0},   {"ness", "", 0},
    };
    return apply(word, RULES(rules), 0);
}

static struct word step_4(struct word word)
{
    static const struct rule rules[] = {
        {"al", "", 0},   {"ance", "", 0},  {"ence", "", 0},  {"er", "", 0},    {"ic", "", 0},
        {"able", "", 0}, {"ible", "", 0},  {"ant", "", 0},   {"ement", "", 0}, {"ment", "", 0},
        {"ent", "", 0},  {"sion", "s", 1}, {"tion", "t", 1}, {"ou", "", 0},    {"ism", "", 0},
        {"ate", "", 0},  {"iti", "", 0},   {"ous", "", 0},   {"ive", "", 0},   {"ize", "", 0},
    };
    return apply(word, RULES(rules), 1);
}

static struct word step_5(struct word word)
{
    struct word stem = ends(word, "e") ? without(word, 1) : word;
    if (stem.length < word.length &&
        (measure(stem) > 1 || (measure(stem) == 1 && !ends_short(stem))))
        word = stem;
    return ends(word, "ll") && measure(without(word, 1)) > 1 ? without(word, 1) : word;
}

/* ---- The whole ---- */

/* The stem of an irregular word, or NULL. */
static const char *irregular(struct word word)
{
    static const char *const stems[][2] = {
        {"sky", "sky"},         {"skies", "sky"},        {"dying", "die"},
        {"lying", "lie"},       {"tying", "tie"},        {"news", "news"},
        {"innings", "inning"},  {"inning", "inning"},    {"outings", "outing"},
        {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},       {"proceed", "proceed"},  {"exceed", "exceed"},
        {"succeed", "succeed"},
    };
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (strlen(stems[i][0]) == word.length && ends(word, stems[i][0]))
            return stems[i][1];
    return NULL;
}

size_t porter_stem(char *text, size_t length)
{
    struct word word = {text, length};
    const char *known = irregular(word);
    if (known)
        return with((struct word){text, 0}, known).length;
    if (length <= 2)
        return length;
    word = step_1c(step_1b(step_1a(word)));
    return step_5(step_4(step_3(step_2(word)))).length;
}

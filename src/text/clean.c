/* Cleaning of text: Unicode's normal forms, lower case, accents, control characters, white space;
 * and stop words. */
#include "text/clean.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "io/file.h"
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/words.h"

/* ---- Steps ---- */

static const char *const step_names[QN_CLEANINGS] = {
    [QN_CLEAN_NFC] = "nfc",
    [QN_CLEAN_NFKC] = "nfkc",
    [QN_CLEAN_LOWERCASE] = "lowercase",
    [QN_CLEAN_ACCENTS] = "accents",
    [QN_CLEAN_CONTROLS] = "controls",
    [QN_CLEAN_SPACES] = "spaces",
};

const char pattern_of_controls[] = "[\\x{0}-\\x{8}\\x{B}\\x{C}\\x{E}-\\x{1F}\\x{7F}-\\x{84}"
                                   "\\x{86}-\\x{9F}\\x{FEFF}]";
const char pattern_of_spaces[] = "[\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}"
                                 "\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}]+";

const char *cleaning_name(enum qn_cleaning step)
{
    return step_names[step];
}

int qn_cleaning_named(const char *name)
{
    for (int step = 0; name && step < QN_CLEANINGS; step++)
        if (strcmp(step_names[step], name) == 0)
            return step;
    return -1;
}

static bool is_ascii(const char *text, size_t bytes)
{
    unsigned char all = 0;
    for (size_t i = 0; i < bytes; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

static char *fail_memory(qn_context *context, size_t bytes)
{
    context_fail(context, QN_ERROR_MEMORY, "out of memory for cleaning %zu bytes of text", bytes);
    return NULL;
}

static char *copy(qn_context *context, const char *text, size_t bytes, size_t *cleaned)
{
    char *copied = malloc(bytes + 1);
    if (!copied)
        return fail_memory(context, bytes);
    memcpy(copied, text, bytes);
    copied[bytes] = '\0';
    *cleaned = bytes;
    return copied;
}

/* Decomposes, drops the marks of letters if that is wanted, and composes again. */
static char *normalize(qn_context *context, enum qn_cleaning step, const char *text, size_t bytes,
                       size_t *cleaned)
{
    if (is_ascii(text, bytes))
        return copy(context, text, bytes, cleaned);
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    if (step == QN_CLEAN_NFKC)
        options |= UTF8PROC_COMPAT;
    if (step == QN_CLEAN_ACCENTS)
        options |= UTF8PROC_STRIPMARK;
    const utf8proc_uint8_t *input = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t size = (utf8proc_ssize_t)bytes;
    utf8proc_ssize_t count = utf8proc_decompose(input, size, NULL, 0, options);
    size_t room;
    utf8proc_int32_t *points =
        count >= 0 && size_product(&room, (size_t)count + 1, sizeof *points) ? malloc(room) : NULL;
    if (!points)
        return fail_memory(context, bytes);
    utf8proc_decompose(input, size, points, count, options);
    utf8proc_ssize_t length = utf8proc_reencode(points, count, options); /* in place */
    if (length < 0) {
        free(points);
        return fail_memory(context, bytes);
    }
    *cleaned = (size_t)length;
    return (char *)points;
}

/* Unicode's full mapping, as Rust has it: it differs from the simple one in this character only. */
enum { CAPITAL_I_WITH_DOT = 0x130 };

static char *lower(qn_context *context, const char *text, size_t bytes, size_t *cleaned)
{
    char *lowered = bytes < SIZE_MAX / 2 ? malloc(2 * bytes + 1) : NULL;
    if (!lowered)
        return fail_memory(context, bytes);
    size_t used = 0, length;
    for (size_t at = 0; at < bytes; at += length) {
        int32_t point = 0;
        length = utf8_decode(text + at, bytes - at, &point);
        utf8proc_uint8_t *to = (utf8proc_uint8_t *)lowered + used;
        if (point == CAPITAL_I_WITH_DOT)
            used += (size_t)(stpcpy((char *)to, "i\u0307") - (char *)to);
        else if (point < 0x80)
            lowered[used++] = (char)(point >= 'A' && point <= 'Z' ? point + ('a' - 'A') : point);
        else
            used += (size_t)utf8proc_encode_char(utf8proc_tolower(point), to);
    }
    lowered[used] = '\0';
    *cleaned = used;
    return lowered;
}

static bool is_control(int32_t point)
{
    enum { NEXT_LINE = 0x85, BYTE_ORDER_MARK = 0xFEFF };
    bool is_c0 = point < 0x20 && point != '\t' && point != '\n' && point != '\r';
    bool is_c1 = point >= 0x7F && point < 0xA0 && point != NEXT_LINE;
    return is_c0 || is_c1 || point == BYTE_ORDER_MARK;
}

static char *drop_controls(qn_context *context, const char *text, size_t bytes, size_t *cleaned)
{
    char *kept = malloc(bytes + 1);
    if (!kept)
        return fail_memory(context, bytes);
    size_t used = 0, length;
    for (size_t at = 0; at < bytes; at += length) {
        int32_t point = 0;
        length = utf8_decode(text + at, bytes - at, &point);
        if (is_control(point))
            continue;
        memcpy(kept + used, text + at, length);
        used += length;
    }
    kept[used] = '\0';
    *cleaned = used;
    return kept;
}

static char *squeeze_spaces(qn_context *context, const char *text, size_t bytes,
                            struct piece_ends ends, size_t *cleaned)
{
    char *kept = malloc(bytes + 1);
    if (!kept)
        return fail_memory(context, bytes);
    size_t used = 0, length;
    bool was_space = ends.begins;
    for (size_t at = 0; at < bytes; at += length) {
        int32_t point = 0;
        length = utf8_decode(text + at, bytes - at, &point);
        bool is_white = is_space(point);
        if (is_white && !was_space)
            kept[used++] = ' ';
        was_space = is_white;
        if (is_white)
            continue;
        memcpy(kept + used, text + at, length);
        used += length;
    }
    if (ends.ends && used > 0 && kept[used - 1] == ' ')
        used--;
    kept[used] = '\0';
    *cleaned = used;
    return kept;
}

static char *take_step(qn_context *context, enum qn_cleaning step, const char *text, size_t bytes,
                       struct piece_ends ends, size_t *cleaned)
{
    switch (step) {
    case QN_CLEAN_NFC:
    case QN_CLEAN_NFKC:
    case QN_CLEAN_ACCENTS:
        return normalize(context, step, text, bytes, cleaned);
    case QN_CLEAN_LOWERCASE:
        return lower(context, text, bytes, cleaned);
    case QN_CLEAN_CONTROLS:
        return drop_controls(context, text, bytes, cleaned);
    case QN_CLEAN_SPACES:
        return squeeze_spaces(context, text, bytes, ends, cleaned);
    }
    return NULL;
}

char *clean_text(qn_context *context, const enum qn_cleaning *steps, size_t n_steps,
                 const char *text, size_t bytes, struct piece_ends ends, size_t *cleaned)
{
    char *result = n_steps == 0 ? copy(context, text, bytes, cleaned) : NULL;
    for (size_t i = 0; i < n_steps; i++) {
        char *next = take_step(context, steps[i], result ? result : text, result ? *cleaned : bytes,
                               ends, cleaned);
        free(result);
        result = next;
        if (!result)
            break;
    }
    return result;
}

char *qn_clean(qn_context *context, const enum qn_cleaning *steps, size_t n_steps, const char *text,
               size_t bytes, size_t *cleaned)
{
    if (!context || !cleaned || (bytes > 0 && !text) || (n_steps > 0 && !steps) ||
        qn_text_check(context, "the text", text, bytes, true) != QN_OK)
        return NULL;
    return clean_text(context, steps, n_steps, text, bytes, (struct piece_ends){true, true},
                      cleaned);
}

/* ---- Stop words ---- */

struct qn_stop_words {
    struct words words;
    struct splitter *splitter;
};

static bool add_lines(struct words *words, const char *text, size_t bytes)
{
    for (size_t at = 0, length; at < bytes; at += length + 1) {
        length = strcspn(text + at, "\r\n");
        if (length > 0 && !words_add(words, text + at, length))
            return false;
    }
    return true;
}

qn_stop_words *qn_stop_words_read(qn_context *context, const char *path)
{
    size_t bytes, lowered = 0;
    char *text = qn_text_read(context, &path, 1, &bytes), *small = NULL;
    qn_stop_words *stops = NULL;
    if (text && qn_text_check(context, path, text, bytes, false) == QN_OK)
        small = lower(context, text, bytes, &lowered);
    if (small)
        stops = context_alloc(context, 1, sizeof *stops);
    if (stops) {
        stops->words.context = context;
        stops->splitter = splitter_new(context, QN_SPLIT_SPACE);
        if (!stops->splitter || !add_lines(&stops->words, small, lowered)) {
            qn_stop_words_free(stops);
            stops = NULL;
        }
    }
    free(small);
    free(text);
    return stops;
}

void qn_stop_words_free(qn_stop_words *stops)
{
    if (!stops)
        return;
    splitter_free(stops->splitter);
    words_release(&stops->words);
    free(stops);
}

/* Whether a word of `bytes`, in small letters, is one of them but for the marks around it. */
static bool is_stop_word(const qn_stop_words *stops, const char *word, size_t bytes)
{
    size_t begin = 0, end = bytes, length;
    int32_t point = 0;
    while (begin < end && (length = utf8_decode(word + begin, end - begin, &point)) > 0 &&
           is_punctuation(point))
        begin += length;
    while (end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)word[last] & 0xC0) == 0x80)
            last--;
        utf8_decode(word + last, end - last, &point);
        if (!is_punctuation(point))
            break;
        end = last;
    }
    return words_find(&stops->words, word + begin, end - begin) != NULL;
}

char *qn_stop_words_remove(const qn_stop_words *stops, const char *text, size_t bytes, size_t *left)
{
    if (!stops || !left || (bytes > 0 && !text))
        return NULL;
    qn_context *context = stops->words.context;
    if (qn_text_check(context, "the text", text, bytes, true) != QN_OK)
        return NULL;
    char *kept = malloc(bytes + 1);
    if (!kept)
        return fail_memory(context, bytes);
    size_t used = 0;
    for (size_t begin = 0, end = 0;
         splitter_next(stops->splitter, text, bytes, &begin, &end) && begin < end; begin = end) {
        size_t lowered;
        char *small = lower(context, text + begin, end - begin, &lowered);
        if (!small) {
            free(kept);
            return NULL;
        }
        if (!is_stop_word(stops, small, lowered)) {
            if (used > 0)
                kept[used++] = ' ';
            memcpy(kept + used, text + begin, end - begin);
            used += end - begin;
        }
        free(small);
    }
    kept[used] = '\0';
    *left = used;
    return kept;
}

/* Splitting text into words, as Hugging Face's pre-tokenizers do it: ByteLevel (GPT-2's pattern),
 * Metaspace, WhitespaceSplit and BertPreTokenizer. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "text/split.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

/* White space as Unicode defines it: PCRE2's \s has U+180E too, which is none since Unicode 6.3. */
#define SPACE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* GPT-2's pattern; the last but one alternative leaves the last space of several to the word behind
 * it. */
static const char word_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE
                                   "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

struct splitter {
    qn_context *context;
    enum qn_splitting splitting;
    pcre2_code *pattern; /* QN_SPLIT_PATTERN */
    pcre2_match_data *match;
};

static bool compile_pattern(struct splitter *splitter)
{
    int code;
    PCRE2_SIZE offset;
    splitter->pattern = pcre2_compile((PCRE2_SPTR)word_pattern, PCRE2_ZERO_TERMINATED,
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (!splitter->pattern) {
        PCRE2_UCHAR message[200] = "";
        pcre2_get_error_message(code, message, sizeof message);
        context_fail(splitter->context, QN_ERROR_INVALID,
                     "PCRE2 does not compile GPT-2's pattern: %s", (char *)message);
        return false;
    }
    pcre2_jit_compile(splitter->pattern,
                      PCRE2_JIT_COMPLETE); /* where there is none, it is interpreted */
    splitter->match = pcre2_match_data_create_from_pattern(splitter->pattern, NULL);
    if (!splitter->match)
        context_fail(splitter->context, QN_ERROR_MEMORY, "out of memory");
    return splitter->match != NULL;
}

struct splitter *splitter_new(qn_context *context, enum qn_splitting splitting)
{
    struct splitter *splitter = context_alloc(context, 1, sizeof *splitter);
    if (!splitter)
        return NULL;
    splitter->context = context;
    splitter->splitting = splitting;
    if (splitting != QN_SPLIT_PATTERN || compile_pattern(splitter))
        return splitter;
    splitter_free(splitter);
    return NULL;
}

void splitter_free(struct splitter *splitter)
{
    if (!splitter)
        return;
    pcre2_match_data_free(splitter->match);
    pcre2_code_free(splitter->pattern);
    free(splitter);
}

static bool next_by_pattern(struct splitter *splitter, const char *text, size_t bytes, size_t begin,
                            size_t *end)
{
    int result = pcre2_match(splitter->pattern, (PCRE2_SPTR)text, bytes, begin, PCRE2_NO_UTF_CHECK,
                             splitter->match, NULL);
    if (result < 0) {
        PCRE2_UCHAR message[200] = "";
        pcre2_get_error_message(result, message, sizeof message);
        context_fail(splitter->context, QN_ERROR_INVALID,
                     "PCRE2 does not match GPT-2's pattern at byte %zu: %s", begin,
                     (char *)message);
        return false;
    }
    *end = pcre2_get_ovector_pointer(splitter->match)[1];
    return true;
}

bool is_space(int32_t point)
{
    return (point >= '\t' && point <= '\r') || point == ' ' || point == 0x85 || point == 0xA0 ||
           point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
           point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

bool is_punctuation(int32_t point)
{
    if (point < 0x80)
        return (point >= '!' && point <= '/') || (point >= ':' && point <= '@') ||
               (point >= '[' && point <= '`') || (point >= '{' && point <= '~');
    utf8proc_category_t category = utf8proc_category(point);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

/* Characters up to the next white space; of QN_SPLIT_PUNCTUATION up to the next mark, or one. */
static void next_by_space(const struct splitter *splitter, const char *text, size_t bytes,
                          size_t *begin, size_t *end)
{
    int32_t point = 0;
    size_t at = *begin, length;
    while (at < bytes && (length = utf8_decode(text + at, bytes - at, &point)) > 0 &&
           is_space(point))
        at += length;
    *begin = at;
    while (at < bytes && (length = utf8_decode(text + at, bytes - at, &point)) > 0 &&
           !is_space(point)) {
        bool is_mark = splitter->splitting == QN_SPLIT_PUNCTUATION && is_punctuation(point);
        if (is_mark && at > *begin)
            break;
        at += length;
        if (is_mark)
            break;
    }
    *end = at;
}

bool splitter_next(struct splitter *splitter, const char *text, size_t bytes, size_t *begin,
                   size_t *end)
{
    if (*begin >= bytes) {
        *begin = *end = bytes;
        return true;
    }
    switch (splitter->splitting) {
    case QN_SPLIT_CHARACTERS: {
        int32_t point;
        *end = *begin + utf8_decode(text + *begin, bytes - *begin, &point);
        return true;
    }
    case QN_SPLIT_PATTERN:
        return next_by_pattern(splitter, text, bytes, *begin, end);
    case QN_SPLIT_MARK: {
        const char *space = memchr(text + *begin + 1, ' ', bytes - *begin - 1);
        *end = space ? (size_t)(space - text) : bytes;
        return true;
    }
    case QN_SPLIT_SPACE:
    case QN_SPLIT_PUNCTUATION:
        next_by_space(splitter, text, bytes, begin, end);
        return true;
    }
    return false;
}

/* Decoding: ids to text, at once and as they come. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

static int fail_id(const qn_tokenizer *tokenizer, int32_t id)
{
    return context_fail(tokenizer->context, QN_ERROR_INVALID,
                        "token %d is not in the vocabulary of %zu", (int)id, tokenizer->vocabulary);
}

/* ---- Between words ---- */

static bool opens(int32_t point)
{
    utf8proc_category_t category = utf8proc_category(point);
    return category == UTF8PROC_CATEGORY_PS || category == UTF8PROC_CATEGORY_PI;
}

static bool closes(int32_t point)
{
    utf8proc_category_t category = utf8proc_category(point);
    return category == UTF8PROC_CATEGORY_PE || category == UTF8PROC_CATEGORY_PF ||
           (point < 0x80 && strchr(".,;:!?%", point));
}

/* Apostrophes and hyphens are mostly inside of words. */
static bool links(int32_t point)
{
    return point == '\'' || point == '-' || point == 0x2019;
}

/* Whether a space stands before a token; `before`: the one before it, or -1. */
static bool has_space(const qn_tokenizer *tokenizer, int32_t before, int32_t id)
{
    if (tokenizer->kind != TOKENIZER_WORD || tokenizer->splitting == QN_SPLIT_SPACE)
        return tokenizer->kind == TOKENIZER_WORD;
    int32_t first = 0, last = 0; /* marks are words of one character */
    utf8_decode(token_bytes(tokenizer, id), tokenizer->tokens[id].length, &first);
    if (before >= 0)
        utf8_decode(token_bytes(tokenizer, before), tokenizer->tokens[before].length, &last);
    bool is_after_special = before >= 0 && tokenizer->tokens[before].is_special;
    bool joins_left = closes(first) || links(first);
    bool joins_right = !is_after_special && last && (opens(last) || links(last));
    return !joins_left && !joins_right;
}

int decode_piece(const qn_tokenizer *tokenizer, int32_t before, const int32_t *ids, size_t count,
                 char **text, size_t *bytes)
{
    *text = NULL;
    size_t total = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        if (!qn_tokenizer_token(tokenizer, ids[i], &length))
            return fail_id(tokenizer, ids[i]);
        if (length >= SIZE_MAX - 1 - total)
            return context_fail(tokenizer->context, QN_ERROR_MEMORY, "a text of too many bytes");
        total += length + 1;
    }
    char *decoded = context_alloc(tokenizer->context, total + 1, 1);
    if (!decoded)
        return QN_ERROR_MEMORY;
    bool is_marked = tokenizer->splitting == QN_SPLIT_MARK;
    size_t used = 0;
    for (size_t i = 0; i < count; before = ids[i++]) {
        const char *token = qn_tokenizer_token(tokenizer, ids[i], &length);
        bool is_first = before < 0;
        if (!is_first && has_space(tokenizer, before, ids[i]))
            decoded[used++] = ' ';
        size_t skipped = is_first && is_marked && *token == ' '; /* the space put in front */
        memcpy(decoded + used, token + skipped, length - skipped);
        used += length - skipped;
    }
    decoded[used] = '\0';
    *text = decoded;
    if (bytes)
        *bytes = used;
    return QN_OK;
}

int qn_decode(const qn_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
              size_t *bytes)
{
    if (!tokenizer || !text || (count > 0 && !ids))
        return QN_ERROR_INVALID;
    return decode_piece(tokenizer, -1, ids, count, text, bytes);
}

/* ---- As they come ---- */

struct qn_decoder {
    const qn_tokenizer *tokenizer;
    int32_t before;    /* the token before; -1: none */
    char *bytes;       /* not given out yet */
    char *text;        /* given out last */
    size_t held, room; /* bytes held back; bytes that both have room for */
};

qn_decoder *qn_decoder_new(const qn_tokenizer *tokenizer)
{
    if (!tokenizer)
        return NULL;
    size_t longest = 0;
    for (size_t id = 0; id < tokenizer->vocabulary; id++)
        longest = size_max(longest, tokenizer->tokens[id].length);
    qn_decoder *decoder = context_alloc(tokenizer->context, 1, sizeof *decoder);
    if (!decoder)
        return NULL;
    decoder->tokenizer = tokenizer;
    decoder->before = -1;
    decoder->room =
        longest + 5; /* a token behind a character of which a byte is missing; a space */
    decoder->bytes = context_alloc(tokenizer->context, decoder->room, 1);
    decoder->text = context_alloc(tokenizer->context, decoder->room, sizeof "\uFFFD" - 1);
    if (decoder->bytes && decoder->text)
        return decoder;
    qn_decoder_free(decoder);
    return NULL;
}

void qn_decoder_free(qn_decoder *decoder)
{
    if (!decoder)
        return;
    free(decoder->text);
    free(decoder->bytes);
    free(decoder);
}

/* Whether more bytes could complete these to a character (Unicode 15, table 3-7). */
static bool is_incomplete(const unsigned char *bytes, size_t count)
{
    unsigned lead = bytes[0];
    size_t needed = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || count >= needed)
        return false;
    unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (count > 1 && (bytes[1] < least || bytes[1] > most))
        return false;
    return count < 3 || (bytes[2] & 0xC0) == 0x80;
}

/* Gives out what is complete; all of it, if this is the end. */
static const char *give_text(qn_decoder *decoder, bool is_end)
{
    size_t at = 0, used = 0;
    while (at < decoder->held) {
        const char *bytes = decoder->bytes + at;
        size_t left = decoder->held - at, length;
        int32_t point;
        if ((length = utf8_decode(bytes, left, &point)) > 0 && point != 0) {
            memcpy(decoder->text + used, bytes, length);
            used += length;
            at += length;
            continue;
        }
        /* The longest beginning of a character stands for one U+FFFD, as Unicode recommends; a NUL,
         * which would end the string, for one too. */
        length = size_min(left, 3);
        while (length > 1 && !is_incomplete((const unsigned char *)bytes, length))
            length--;
        if (length == left && !is_end && is_incomplete((const unsigned char *)bytes, length))
            break;
        memcpy(decoder->text + used, "\uFFFD", sizeof "\uFFFD" - 1);
        used += sizeof "\uFFFD" - 1;
        at += length;
    }
    decoder->text[used] = '\0';
    decoder->held -= at;
    memmove(decoder->bytes, decoder->bytes + at, decoder->held);
    return decoder->text;
}

const char *qn_decoder_next(qn_decoder *decoder, int32_t id)
{
    if (!decoder)
        return NULL;
    size_t length = 0;
    const char *token = qn_tokenizer_token(decoder->tokenizer, id, &length);
    if (!token) {
        fail_id(decoder->tokenizer, id);
        return NULL;
    }
    if (has_space(decoder->tokenizer, decoder->before, id))
        decoder->bytes[decoder->held++] = ' ';
    decoder->before = id;
    memcpy(decoder->bytes + decoder->held, token, length);
    decoder->held += length;
    return give_text(decoder, false);
}

const char *qn_decoder_end(qn_decoder *decoder)
{
    if (!decoder)
        return NULL;
    decoder->before = -1;
    return give_text(decoder, true);
}

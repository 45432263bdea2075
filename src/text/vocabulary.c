/* Vocabularies learnt from text: words are counted, and tokens made of them. */
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "text/bpe.h"
#include "text/pipeline.h"
#include "text/stream.h"
#include "text/tokenizer.h"

static const char unknown_token[] = "<unk>";

struct qn_word_counter {
    struct qn_vocabulary vocabulary; /* but its special tokens, which are the draft's */
    qn_tokenizer *draft;             /* of the special tokens only: cleans and splits */
    struct words words;              /* the value is the count */
    struct words reserved; /* strings that may not become tokens: special ones, names of bytes */
};

/* ---- Options ---- */

/* Files write other characters in their own way, which might then be another token's. */
static bool check_special(qn_context *context, struct words *reserved, const char *special)
{
    size_t length = special ? strlen(special) : 0;
    bool prints = length >= 2;
    for (size_t i = 0; i < length; i++)
        prints = prints && special[i] > ' ' && special[i] <= '~';
    char quoted[QUOTED];
    if (!prints)
        context_fail(context, QN_ERROR_INVALID,
                     "special token %s: expected at least two printing characters of ASCII",
                     special ? quote_string(quoted, special) : "NULL");
    else if (words_find(reserved, special, length))
        context_fail(context, QN_ERROR_INVALID, "special token %s is named twice",
                     quote_string(quoted, special));
    else
        return words_add(reserved, special, length) != NULL;
    return false;
}

/* Characters that do not occur in the text must become something. */
static bool check_unknown(const qn_word_counter *counter, const struct qn_vocabulary *vocabulary)
{
    qn_context *context = counter->words.context;
    bool is_marked = vocabulary->splitting == QN_SPLIT_MARK;
    if (vocabulary->byte_fallback && !is_marked)
        context_fail(context, QN_ERROR_INVALID,
                     "only a tokenizer that marks white space falls back to bytes");
    else if (is_marked && !vocabulary->byte_fallback &&
             !words_find(&counter->reserved, unknown_token, strlen(unknown_token)))
        context_fail(context, QN_ERROR_INVALID,
                     "a tokenizer that marks white space needs the special token %s, or to fall "
                     "back to bytes",
                     unknown_token);
    else
        return true;
    return false;
}

static bool check_options(qn_word_counter *counter, const struct qn_vocabulary *vocabulary)
{
    qn_context *context = counter->words.context;
    if (vocabulary->n_cleaning > QN_MAX_CLEANING) {
        context_fail(context, QN_ERROR_INVALID, "%zu steps of cleaning: at most %d are possible",
                     vocabulary->n_cleaning, QN_MAX_CLEANING);
        return false;
    }
    for (size_t i = 0; i < vocabulary->n_specials; i++)
        if (!check_special(context, &counter->reserved, vocabulary->specials[i]))
            return false;
    if (!check_unknown(counter, vocabulary))
        return false;
    for (int byte = 0; byte < 256 && vocabulary->byte_fallback; byte++) {
        char name[SPELLED + 1];
        spell_token(QN_SPLIT_MARK, true, &(char){(char)byte}, 1, name);
        if (!check_special(context, &counter->reserved, name))
            return false;
    }
    return true;
}

/* ---- Making ---- */

static enum tokenizer_kind kind_of(enum qn_splitting splitting)
{
    switch (splitting) {
    case QN_SPLIT_CHARACTERS:
        return TOKENIZER_CHAR;
    case QN_SPLIT_PATTERN:
    case QN_SPLIT_MARK:
        return TOKENIZER_BPE;
    case QN_SPLIT_SPACE:
    case QN_SPLIT_PUNCTUATION:
        break;
    }
    return TOKENIZER_WORD;
}

/* A tokenizer that has only the special tokens yet. */
static qn_tokenizer *start_tokenizer(const qn_word_counter *counter, size_t size)
{
    const struct qn_vocabulary *vocabulary = &counter->vocabulary;
    qn_tokenizer *tokenizer = tokenizer_new(counter->words.context, kind_of(vocabulary->splitting),
                                            vocabulary->splitting, size);
    bool is_good = tokenizer != NULL;
    for (size_t i = 0; i < vocabulary->n_specials && is_good; i++) {
        const struct word *special = &counter->reserved.list[i];
        const char *content = word_bytes(&counter->reserved, special);
        is_good = tokenizer_add(tokenizer, (int32_t)i, content, special->length, true);
        if (vocabulary->splitting != QN_SPLIT_PATTERN && /* which knows all bytes */
            special->length == strlen(unknown_token) &&
            memcmp(content, unknown_token, special->length) == 0)
            tokenizer->unknown = (int32_t)i;
    }
    if (is_good) {
        tokenizer->falls_back = vocabulary->byte_fallback;
        tokenizer->n_cleaning = vocabulary->n_cleaning;
        memcpy(tokenizer->cleaning, vocabulary->cleaning, sizeof tokenizer->cleaning);
        return tokenizer;
    }
    qn_tokenizer_free(tokenizer);
    return NULL;
}

qn_word_counter *qn_word_counter_new(qn_context *context, const struct qn_vocabulary *vocabulary)
{
    if (!context || !vocabulary || (vocabulary->n_specials > 0 && !vocabulary->specials))
        return NULL;
    qn_word_counter *counter = context_alloc(context, 1, sizeof *counter);
    if (!counter)
        return NULL;
    counter->vocabulary = *vocabulary;
    counter->vocabulary.specials = NULL;
    counter->vocabulary.min_frequency += vocabulary->min_frequency == 0;
    counter->words.context = counter->reserved.context = context;
    if (check_options(counter, vocabulary))
        counter->draft = start_tokenizer(counter, vocabulary->n_specials);
    if (counter->draft && tokenizer_finish(counter->draft))
        return counter;
    qn_word_counter_free(counter);
    return NULL;
}

void qn_word_counter_free(qn_word_counter *counter)
{
    if (!counter)
        return;
    qn_tokenizer_free(counter->draft);
    words_release(&counter->reserved);
    words_release(&counter->words);
    free(counter);
}

/* ---- Counting ---- */

static bool count_word(qn_word_counter *counter, const char *bytes, size_t length)
{
    struct word *word = words_add(&counter->words, bytes, length);
    if (word)
        word->value++;
    return word != NULL;
}

/* The words of text without special tokens. */
static bool count_words(qn_word_counter *counter, const char *text, size_t bytes)
{
    char *made;
    size_t cleaned, begin = 0, end = 0;
    const char *clean = tokenizer_clean(counter->draft, text, bytes,
                                        (struct piece_ends){true, true}, &made, &cleaned);
    bool is_good = clean != NULL;
    for (; is_good && begin < cleaned; begin = end)
        is_good = splitter_next(counter->draft->splitter, clean, cleaned, &begin, &end) &&
                  (begin == end || count_word(counter, clean + begin, end - begin));
    free(made);
    return is_good;
}

/* Where spaces are marked, a line is a text, and its end a character that no token crosses. */
static bool count_lines(qn_word_counter *counter, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - text) - at : bytes - at;
        if ((length > 0 && !count_words(counter, text + at, length)) ||
            (end && !count_word(counter, "\n", 1)))
            return false;
        at += length + (end != NULL);
    }
    return true;
}

static bool count_text(qn_word_counter *counter, const char *text, size_t bytes)
{
    for (size_t begin = 0; begin < bytes;) {
        int32_t id;
        size_t at = find_special(counter->draft, text, bytes, begin, &id);
        bool is_marked = counter->vocabulary.splitting == QN_SPLIT_MARK;
        if (at > begin && !(is_marked ? count_lines(counter, text + begin, at - begin)
                                      : count_words(counter, text + begin, at - begin)))
            return false;
        begin = at + (id >= 0 ? counter->draft->tokens[id].length : 0);
    }
    return true;
}

/* Files of vocabularies cannot spell a NUL, but GPT-2's can. */
static bool takes_nul(const qn_word_counter *counter)
{
    return counter->vocabulary.splitting == QN_SPLIT_PATTERN;
}

int qn_word_counter_add(qn_word_counter *counter, const char *name, const char *text, size_t bytes)
{
    if (!counter || !name || (bytes > 0 && !text))
        return QN_ERROR_INVALID;
    qn_context *context = counter->words.context;
    if (qn_text_check(context, name, text, bytes, takes_nul(counter)) != QN_OK)
        return QN_ERROR_FORMAT;
    return count_text(counter, text, bytes) ? QN_OK : QN_ERROR_MEMORY;
}

int qn_word_counter_add_file(qn_word_counter *counter, const char *path)
{
    if (!counter || !path)
        return QN_ERROR_INVALID;
    struct text_stream stream;
    struct text_piece piece;
    if (!stream_open(&stream, counter->words.context, path, STREAM_UTF8))
        return QN_ERROR_FILE;
    stream.refuses_nul = !takes_nul(counter);
    bool is_good;
    while ((is_good = stream_next(&stream, &piece)) && piece.bytes > 0 &&
           (is_good = count_text(counter, piece.text, piece.bytes)))
        ;
    if (is_good && stream.offset == 0) {
        context_fail(stream.context, QN_ERROR_FORMAT, "%s is empty", stream.path);
        is_good = false;
    }
    stream_close(&stream);
    return is_good ? QN_OK : QN_ERROR_FORMAT;
}

/* ---- Characters and words ---- */

struct ranked {
    const struct word *word;
    const char *bytes;
    int32_t point;
};

static int compare_points(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->point > y->point) - (x->point < y->point);
}

static int compare_counts(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->word->value != y->word->value)
        return x->word->value < y->word->value ? 1 : -1;
    int order = memcmp(x->bytes, y->bytes, size_min(x->word->length, y->word->length));
    return order ? order
                 : (x->word->length > y->word->length) - (x->word->length < y->word->length);
}

/* The words in an order; free() them. */
static struct ranked *rank_words(const struct words *words,
                                 int (*compare)(const void *, const void *))
{
    struct ranked *ranked = context_alloc(words->context, words->count + 1, sizeof *ranked);
    if (!ranked)
        return NULL;
    for (size_t i = 0; i < words->count; i++) {
        const struct word *word = &words->list[i];
        ranked[i] = (struct ranked){.word = word, .bytes = word_bytes(words, word)};
        utf8_decode(ranked[i].bytes, word->length, &ranked[i].point);
    }
    qsort(ranked, words->count, sizeof *ranked, compare);
    return ranked;
}

static qn_tokenizer *make_words(qn_word_counter *counter)
{
    const struct qn_vocabulary *vocabulary = &counter->vocabulary;
    bool is_char = vocabulary->splitting == QN_SPLIT_CHARACTERS;
    struct ranked *ranked = rank_words(&counter->words, is_char ? compare_points : compare_counts);
    if (!ranked)
        return NULL;
    size_t count = 0, first = vocabulary->n_specials;
    for (size_t i = 0; i < counter->words.count; i++)
        if (ranked[i].word->value >= vocabulary->min_frequency &&
            !words_find(&counter->reserved, ranked[i].bytes, ranked[i].word->length))
            ranked[count++] = ranked[i];
    if (vocabulary->size > 0 && !is_char)
        count = size_min(count, vocabulary->size - size_min(first, vocabulary->size));
    qn_tokenizer *tokenizer = start_tokenizer(counter, first + count);
    bool is_good = tokenizer != NULL;
    for (size_t i = 0; i < count && is_good; i++)
        is_good = tokenizer_add(tokenizer, (int32_t)(first + i), ranked[i].bytes,
                                ranked[i].word->length, false);
    free(ranked);
    if (is_good && tokenizer_finish(tokenizer))
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
}

/* ---- Byte pairs ---- */

/* What a word may begin with: special tokens and names of bytes, then the units. */
struct alphabet {
    struct words tokens; /* their indices are ids */
    struct bpe_units units;
    struct character *characters;
};

static bool add_bytes(struct alphabet *alphabet)
{
    for (int32_t point = 0; point < 512; point++) { /* in the order in which files write them */
        int byte = point_to_byte(point);
        if (byte < 0)
            continue;
        alphabet->units.byte_ids[byte] = (int32_t)alphabet->tokens.count;
        if (!words_add(&alphabet->tokens, &(char){(char)byte}, 1))
            return false;
    }
    return true;
}

/* Those that occur in words. */
static bool list_characters(const struct words *words, struct words *characters)
{
    for (size_t i = 0; i < words->count; i++) {
        const char *bytes = word_bytes(words, &words->list[i]);
        size_t length;
        for (size_t at = 0; at < words->list[i].length; at += length) {
            int32_t point;
            length = utf8_decode(bytes + at, words->list[i].length - at, &point);
            if (!words_add(characters, bytes + at, length))
                return false;
        }
    }
    return true;
}

/* Files write a space as a mark, and their order is that of the code points there. */
static int compare_written(const void *a, const void *b)
{
    enum { MARK = 0x2581 };
    const struct ranked *x = a, *y = b;
    int32_t left = x->point == ' ' ? MARK : x->point, right = y->point == ' ' ? MARK : y->point;
    return (left > right) - (left < right);
}

static bool add_characters(const qn_word_counter *counter, struct alphabet *alphabet)
{
    struct words characters = {.context = counter->words.context};
    bool is_good = list_characters(&counter->words, &characters);
    struct ranked *ranked = is_good ? rank_words(&characters, compare_written) : NULL;
    alphabet->characters =
        ranked ? context_alloc(characters.context, characters.count, sizeof *alphabet->characters)
               : NULL;
    is_good = alphabet->characters != NULL;
    for (size_t i = 0; i < characters.count && is_good; i++) {
        alphabet->characters[i] =
            (struct character){ranked[i].point, (int32_t)alphabet->tokens.count};
        is_good = words_add(&alphabet->tokens, ranked[i].bytes, ranked[i].word->length) != NULL;
    }
    if (is_good) {
        sort_characters(alphabet->characters, characters.count);
        alphabet->units.characters = alphabet->characters;
        alphabet->units.n_characters = characters.count;
    }
    free(ranked);
    words_release(&characters);
    return is_good;
}

static bool make_alphabet(const qn_word_counter *counter, struct alphabet *alphabet)
{
    const struct words *reserved = &counter->reserved;
    size_t n_specials = counter->vocabulary.n_specials;
    alphabet->tokens.context = counter->words.context;
    alphabet->units.unknown = counter->draft->unknown;
    for (size_t i = 0; i < reserved->count; i++)
        if (!words_add(&alphabet->tokens, word_bytes(reserved, &reserved->list[i]),
                       reserved->list[i].length))
            return false;
    for (int byte = 0; byte < 256; byte++)
        alphabet->units.byte_ids[byte] =
            counter->vocabulary.byte_fallback ? (int32_t)n_specials + byte : -1;
    bool is_good = counter->vocabulary.splitting == QN_SPLIT_MARK
                       ? add_characters(counter, alphabet)
                       : add_bytes(alphabet);
    size_t size = counter->vocabulary.size;
    if (is_good && size > 0 && size < alphabet->tokens.count) {
        context_fail(alphabet->tokens.context, QN_ERROR_INVALID,
                     "a vocabulary of %zu is too small: special tokens, bytes and the characters "
                     "of the text are %zu before any pair",
                     size, alphabet->tokens.count);
        return false;
    }
    return is_good;
}

/* The tokenizer of an alphabet and the tokens that its merges made; takes the merges over. */
static qn_tokenizer *assemble(const qn_word_counter *counter, struct alphabet *alphabet,
                              struct merge *merges, size_t n_merges)
{
    const struct words *tokens = &alphabet->tokens;
    size_t n_specials = counter->vocabulary.n_specials, n_reserved = counter->reserved.count;
    qn_tokenizer *tokenizer = start_tokenizer(counter, tokens->count);
    bool is_good = tokenizer != NULL;
    for (size_t id = n_specials; id < tokens->count && is_good; id++) {
        bool is_byte = id < n_reserved;
        const struct word *token = &tokens->list[id];
        is_good = is_byte ? tokenizer_add(tokenizer, (int32_t)id, &(char){(char)(id - n_specials)},
                                          1, false)
                          : tokenizer_add(tokenizer, (int32_t)id, word_bytes(tokens, token),
                                          token->length, false);
        tokenizer->tokens[id].is_byte = is_byte;
    }
    if (!is_good || !tokenizer_finish(tokenizer)) {
        free(merges);
        qn_tokenizer_free(tokenizer);
        return NULL;
    }
    struct bpe_units units = alphabet->units;
    if (units.characters)
        units.characters = tokenizer->characters;
    tokenizer->bpe = bpe_new(counter->words.context, &units, merges, n_merges);
    if (tokenizer->bpe)
        return tokenizer;
    qn_tokenizer_free(tokenizer);
    return NULL;
}

static qn_tokenizer *make_bpe(const qn_word_counter *counter)
{
    const struct qn_vocabulary *vocabulary = &counter->vocabulary;
    struct alphabet alphabet = {0};
    struct bpe_training training = {
        .units = &alphabet.units,
        .words = &counter->words,
        .reserved = &counter->reserved,
        .most_tokens = vocabulary->size ? vocabulary->size : MAX_VOCABULARY,
        .most_merges = vocabulary->merges ? vocabulary->merges : SIZE_MAX,
        .min_frequency = vocabulary->min_frequency,
    };
    qn_tokenizer *tokenizer = NULL;
    struct merge *merges;
    size_t n_merges;
    if (make_alphabet(counter, &alphabet) &&
        bpe_train(counter->words.context, &training, &alphabet.tokens, &merges, &n_merges))
        tokenizer = assemble(counter, &alphabet, merges, n_merges);
    free(alphabet.characters);
    words_release(&alphabet.tokens);
    return tokenizer;
}

qn_tokenizer *qn_word_counter_finish(qn_word_counter *counter)
{
    if (!counter)
        return NULL;
    if (counter->words.count == 0) {
        context_fail(counter->words.context, QN_ERROR_INVALID,
                     "the training text is empty: no words to learn");
        return NULL;
    }
    return kind_of(counter->vocabulary.splitting) == TOKENIZER_BPE ? make_bpe(counter)
                                                                   : make_words(counter);
}

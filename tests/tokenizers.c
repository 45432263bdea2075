/* Tokenizers learnt from text, cleaning, stop words, files of tokens.  Needs no device. */
#include <quern/text.h>

#include <time.h>

#include "text/tokenizer.h"
#include "tap.h"
#include "files.h"
#include "host.h"

/* ---- Learning ---- */

static qn_tokenizer *learn(const struct qn_vocabulary *vocabulary, const char *text)
{
    qn_word_counter *counter = qn_word_counter_new(qn, vocabulary);
    qn_tokenizer *tokenizer = NULL;
    if (counter && qn_word_counter_add(counter, "the text", text, strlen(text)) == QN_OK)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

/* Tokens from an id on, with "|" between. */
static const char *list_tokens(const qn_tokenizer *tokenizer, size_t first)
{
    static char list[2000];
    size_t used = 0;
    *list = '\0';
    for (size_t id = first; id < qn_tokenizer_vocabulary(tokenizer); id++) {
        const char *token = qn_tokenizer_token(tokenizer, (int32_t)id, NULL);
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", id > first ? "|" : "",
                                 token ? token : "(none)");
    }
    return list;
}

static void is_text(const char *found, const char *expected, const char *name)
{
    if (!ok(found && strcmp(found, expected) == 0, "%s", name))
        note("found %s, expected %s; %s", found ? found : "nothing", expected, qn_error(qn));
    qn_clear_error(qn);
}

/* The ids of a text, with spaces between. */
static const char *list_ids(qn_tokenizer *tokenizer, const char *text)
{
    static char list[2000];
    int32_t *ids;
    size_t count, used = 0;
    if (qn_encode(tokenizer, "the text", text, strlen(text), &ids, &count) != QN_OK)
        return qn_error(qn);
    *list = '\0';
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%d", i ? " " : "", ids[i]);
    free(ids);
    return list;
}

/* What is left of a text when it is encoded and decoded. */
static const char *there_and_back(qn_tokenizer *tokenizer, const char *text)
{
    static char result[2000];
    int32_t *ids = NULL;
    size_t count;
    char *decoded = NULL;
    if (qn_encode(tokenizer, "the text", text, strlen(text), &ids, &count) == QN_OK &&
        qn_decode(tokenizer, ids, count, &decoded, NULL) == QN_OK)
        snprintf(result, sizeof result, "%s", decoded);
    else
        snprintf(result, sizeof result, "%s", qn_error(qn));
    free(decoded);
    free(ids);
    return result;
}

static void survives_saving(qn_tokenizer *tokenizer, const char *name)
{
    const char *path = in_folder("saved.json");
    qn_tokenizer *loaded =
        qn_tokenizer_save(tokenizer, path) == QN_OK ? qn_tokenizer_load(qn, path) : NULL;
    if (!ok(qn_tokenizer_same(tokenizer, loaded) &&
                qn_tokenizer_fingerprint(tokenizer) == qn_tokenizer_fingerprint(loaded),
            "%s: survives saving", name))
        note("%s", qn_error(qn));
    qn_tokenizer_free(loaded);
    qn_clear_error(qn);
}

static const char *const specials[] = {"<unk>", "<pad>"};
#define SPECIALS .specials = specials, .n_specials = 2

/* What is expected in these cases is what Hugging Face's tokenizers 0.23.3 gives. */
static void test_marked(void)
{
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_MARK, .merges = 8, .min_frequency = 2, SPECIALS};
    qn_tokenizer *tokenizer = learn(&vocabulary, "low low low lower lower newest newest newest "
                                                 "newest widest widest\nlow aaaa aaaa");
    if (!ok(tokenizer != NULL, "marked: learnt"))
        return;
    is_text(list_tokens(tokenizer, 2), "\n|a|d|e|i|l|n|o|r|s|t|w| |aa|es|lo| lo|est| low|ew|new",
            "marked: characters, then pairs, the lower ids first among equals");
    is_text(list_ids(tokenizer, "lowest new"), "20 19 14 22", "marked: a text begins with a space");
    is_text(list_ids(tokenizer, " lowest new"), "20 19 14 22", "marked: and has but one");
    is_text(list_ids(tokenizer, "low\u2581low"), "20 20", "marked: a mark in the text is a space");
    is_text(list_ids(tokenizer, "xyz"), "14 0 0 0", "marked: unknown characters");
    is_text(list_ids(tokenizer, "low<pad>low"), "20 1 20", "marked: a special token");
    is_text(there_and_back(tokenizer, "new\nlow  lower"), "new\nlow  lower",
            "marked: a text comes back");
    survives_saving(tokenizer, "marked");
    qn_tokenizer_free(tokenizer);
}

static void test_fallback(void)
{
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_MARK, .byte_fallback = true, .min_frequency = 2, SPECIALS};
    qn_tokenizer *tokenizer = learn(&vocabulary, "ab ab <0x41>ab<0x41> <0x41>");
    if (!ok(tokenizer != NULL, "fallback: learnt"))
        return;
    int32_t euro[3];
    for (int i = 0; i < 3; i++)
        euro[i] = 2 + (unsigned char)"\u20ac"[i];
    char expected[100];
    snprintf(expected, sizeof expected, "%d %d %d", euro[0], euro[1], euro[2]);
    ok(strstr(list_ids(tokenizer, "a\u20ac"), expected) != NULL,
       "fallback: bytes of an unknown one");
    is_text(there_and_back(tokenizer, "a\u20ac\n\x01"), "a\u20ac\n\x01", "fallback: come back");
    ok(strstr(list_tokens(tokenizer, 2), "|<0x41>") == NULL,
       "fallback: no pair is spelled like a byte");
    survives_saving(tokenizer, "fallback");
    qn_tokenizer_free(tokenizer);
}

static void test_pattern(void)
{
    const char *const end[] = {"<|endoftext|>"};
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_PATTERN, .size = 1 + 256 + 5, .specials = end, .n_specials = 1};
    qn_tokenizer *tokenizer =
        learn(&vocabulary, "the cat<|endoftext|>the cat the hat endoftext endoftext aaaaa");
    if (!ok(tokenizer != NULL, "pattern: learnt"))
        return;
    is_text(list_tokens(tokenizer, 257), "aa|at|he|the|cat",
            "pattern: pairs of bytes, without the special token");
    is_text(there_and_back(tokenizer, "\u20ac <|endoftext|> hat"), "\u20ac <|endoftext|> hat",
            "pattern: any text comes back");
    survives_saving(tokenizer, "pattern");
    qn_tokenizer_free(tokenizer);
}

static void test_words(void)
{
    const char *text = "The cat, the dog; the cat. caf\u00e9 \u00abcaf\u00e9\u00bb cat";
    struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_PUNCTUATION, .size = 7, .min_frequency = 2, SPECIALS};
    qn_tokenizer *tokenizer = learn(&vocabulary, text);
    if (!ok(tokenizer != NULL, "words: learnt"))
        return;
    is_text(list_tokens(tokenizer, 2), "cat|caf\u00e9|the", "words: by count, then by bytes");
    is_text(list_ids(tokenizer, "the  cat,dog"), "4 2 0 0", "words: known and unknown ones");
    qn_decoder *decoder = qn_decoder_new(tokenizer);
    char streamed[100] = "";
    for (int32_t id = 2; id < 5; id++)
        strcat(streamed, qn_decoder_next(decoder, id));
    is_text(streamed, " cat caf\u00e9 the", "words: as they come");
    qn_decoder_free(decoder);
    survives_saving(tokenizer, "words");
    qn_tokenizer_free(tokenizer);

    vocabulary = (struct qn_vocabulary){.splitting = QN_SPLIT_PUNCTUATION};
    tokenizer = learn(&vocabulary, "(don't) [well-known], \u00abso\u00bb: 5% - {a}! a b");
    is_text(there_and_back(tokenizer, "(don't)  [well-known] a,b"), "(don't) [well-known] a, b",
            "words: spaces are put back by the rules of punctuation");
    ok(!strcmp(list_ids(tokenizer, "none"), "") || says("word \"none\" is none of the"),
       "words: an unknown word without a token for it");
    qn_tokenizer_free(tokenizer);

    vocabulary = (struct qn_vocabulary){.splitting = QN_SPLIT_SPACE, SPECIALS};
    tokenizer = learn(&vocabulary, "a,b a,b\u00a0c\u3000d");
    is_text(list_tokens(tokenizer, 2), "a,b|c|d", "words: between white space of all kinds");
    survives_saving(tokenizer, "words between white space");
    qn_tokenizer_free(tokenizer);
}

/* Both sides of Multi30k: as many tokens as Hugging Face's tokenizers makes with the merges of its own trainer, and as fast as a
 * course needs it. */
static void test_multi30k(void)
{
    static const struct {
        enum qn_splitting splitting;
        size_t tokens[2];
    } cases[] = {{QN_SPLIT_PATTERN, {455039, 476760}}, {QN_SPLIT_MARK, {452121, 489446}}};
    const char *const sides[] = {"data/translation/multi30k/train.en",
                                 "data/translation/multi30k/train.de"};
    const char *const usual[] = {"<unk>", "<pad>", "<bos>", "<eos>"};
    if (!shared_path(sides[0])) {
        skip("Multi30k is not in ../shared");
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct qn_vocabulary vocabulary = {.splitting = cases[i].splitting,
                                           .merges = 6000,
                                           .min_frequency = 2,
                                           .specials = usual,
                                           .n_specials = 4};
        qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
        clock_t began = clock();
        for (int side = 0; side < 2; side++)
            qn_word_counter_add_file(counter, shared_path(sides[side]));
        qn_tokenizer *tokenizer = qn_word_counter_finish(counter);
        double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        ok(tokenizer && seconds < 10, "multi30k: 6000 merges in %.2f s", seconds);
        qn_word_counter_free(counter);
        size_t bytes = 0;
        began = clock();
        for (int side = 0; side < 2; side++) {
            const char *path = shared_path(sides[side]);
            int status =
                qn_tokens_write(tokenizer, in_folder("tokens"), &path, 1, QN_DOCUMENTS_FILES, -1);
            qn_tokens *tokens = status == QN_OK ? qn_tokens_open(qn, in_folder("tokens")) : NULL;
            is_int((long long)qn_tokens_count(tokens), (long long)cases[i].tokens[side],
                   "multi30k: tokens of a side");
            bytes += qn_tokens_bytes(tokens);
            qn_tokens_close(tokens);
        }
        double rate = (double)bytes / 1e6 / ((double)(clock() - began) / CLOCKS_PER_SEC);
        ok(rate > 5, "multi30k: %.0f MB/s encoded", rate);
        qn_tokenizer_free(tokenizer);
    }
}

static void test_refusals(void)
{
    static const char *const twice[] = {"<a>", "<a>"}, *const space[] = {"<a b>"},
                             *const shorter[] = {"a"};
    static const struct {
        struct qn_vocabulary vocabulary;
        const char *message;
    } cases[] = {
        {{.splitting = QN_SPLIT_MARK}, "needs the special token <unk>"},
        {{.splitting = QN_SPLIT_SPACE, .byte_fallback = true}, "falls back to bytes"},
        {{.specials = twice, .n_specials = 2}, "\"<a>\" is named twice"},
        {{.specials = space, .n_specials = 1}, "printing characters of ASCII"},
        {{.specials = shorter, .n_specials = 1}, "at least two"},
        {{.n_cleaning = QN_MAX_CLEANING + 1}, "at most 8"},
        {{.splitting = QN_SPLIT_PATTERN, .size = 255}, "a vocabulary of 255 is too small"},
        {{.splitting = QN_SPLIT_MARK, .size = 4, SPECIALS}, "a vocabulary of 4 is too small"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(!learn(&cases[i].vocabulary, "some text") && says(cases[i].message), "refused: %s",
           cases[i].message);
    const struct qn_vocabulary words = {.splitting = QN_SPLIT_SPACE};
    ok(!learn(&words, " \n") && says("no words to learn"), "refused: no words");
    ok(!learn(&words, "a\xff") && says("byte 0xFF at offset 1"), "refused: what is not UTF-8");
}

/* ---- Cleaning ---- */

static void test_cleaning(void)
{
    static const struct {
        enum qn_cleaning steps[3];
        size_t count;
        const char *text, *expected;
    } cases[] = {
        {{QN_CLEAN_NFC}, 1, "e\u0301 \u212b \ufb01", "\u00e9 \u00c5 \ufb01"},
        {{QN_CLEAN_NFKC}, 1, "e\u0301 \ufb01 \uff21 \u00bd", "\u00e9 fi A 1\u20442"},
        {{QN_CLEAN_LOWERCASE}, 1, "\u00c4B \u0130 \u1e9e \u03a3", "\u00e4b i\u0307 \u00df \u03c3"},
        {{QN_CLEAN_ACCENTS}, 1, "\u00e9\u00fc \u0939\u093f \ud55c", "eu \u0939 \ud55c"},
        {{QN_CLEAN_CONTROLS}, 1, "\ufeffa\tb\x01\x7f\xc2\x80\r\n", "a\tb\r\n"},
        {{QN_CLEAN_SPACES}, 1, " \t a \n\u3000b\u00a0", "a b"},
        {{QN_CLEAN_NFKC, QN_CLEAN_LOWERCASE, QN_CLEAN_SPACES}, 3, "\uff21 \u3000 B ", "a b"},
        {{0}, 0, "As it is ", "As it is "},
        {{QN_CLEAN_NFC, QN_CLEAN_LOWERCASE}, 2, "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bytes;
        char *cleaned = qn_clean(qn, cases[i].steps, cases[i].count, cases[i].text,
                                 strlen(cases[i].text), &bytes);
        is_text(cleaned, cases[i].expected, "cleaning");
        ok(cleaned && bytes == strlen(cleaned), "cleaning: its length");
        free(cleaned);
    }
    size_t bytes;
    ok(!qn_clean(qn, NULL, 0, "a\xff", 2, &bytes) && says("byte 0xFF"), "cleaning: no UTF-8");
    ok(qn_cleaning_named("accents") == QN_CLEAN_ACCENTS && qn_cleaning_named("upper") < 0,
       "cleaning: names of steps");

    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_MARK,
        SPECIALS,
        .cleaning = {QN_CLEAN_ACCENTS, QN_CLEAN_CONTROLS, QN_CLEAN_SPACES, QN_CLEAN_LOWERCASE},
        .n_cleaning = 4};
    qn_tokenizer *tokenizer = learn(&vocabulary, "caf\u00e9 CAFE");
    is_text(there_and_back(tokenizer, "  Caf\u00c9\x01 \n cafe <pad> cafe "), "cafe cafe<pad> cafe",
            "cleaning: before encoding, but for special tokens");
    survives_saving(tokenizer, "cleaning");
    qn_tokenizer_free(tokenizer);
}

static void test_stop_words(void)
{
    qn_stop_words *stops = qn_stop_words_read(qn, write_text("stops", "The\r\na\n\ndon't\n"));
    if (!ok(stops != NULL, "stop words: read"))
        return;
    size_t bytes;
    const char *text = "The cat, \u00abthe\u00bb; I don't  see a dog: them";
    char *left = qn_stop_words_remove(stops, text, strlen(text), &bytes);
    is_text(left, "cat, I see dog: them", "stop words: removed, whatever their case and marks");
    free(left);
    left = qn_stop_words_remove(stops, "a the", 5, &bytes);
    ok(left && bytes == 0, "stop words: nothing is left");
    free(left);
    qn_stop_words_free(stops);
    ok(!qn_stop_words_read(qn, in_folder("none")) && says("No such file"), "stop words: no file");
}

/* ---- Files of tokens ---- */

/* Texts of several pieces give the ids of the whole text. */
static void test_pieces(void)
{
    enum { LINES = 90000 };
    const enum qn_cleaning steps[] = {QN_CLEAN_NFC, QN_CLEAN_CONTROLS, QN_CLEAN_SPACES};
    char *text = malloc(LINES * 40), *at = text;
    for (int i = 0; i < LINES; i++)
        at += sprintf(at, "%*sline %d of\x01 it\u3000\u00e9%s\n", i % 3, "", i,
                      i % 5 ? "." : " \x02");
    size_t bytes = (size_t)(at - text);
    FILE *file = fopen(in_folder("long"), "wb");
    ok(file && fwrite(text, 1, bytes, file) == bytes && fclose(file) == 0 && bytes > 2 << 20,
       "pieces: a text of %zu bytes", bytes);
    static const enum qn_splitting splittings[] = {QN_SPLIT_PATTERN, QN_SPLIT_MARK,
                                                   QN_SPLIT_PUNCTUATION};
    const char *path = in_folder("long");
    for (size_t i = 0; i < 6; i++) {
        struct qn_vocabulary vocabulary = {
            .splitting = splittings[i % 3], .merges = 50, SPECIALS, .n_cleaning = i < 3 ? 0 : 3};
        memcpy(vocabulary.cleaning, steps, sizeof steps);
        qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
        bool is_good = qn_word_counter_add_file(counter, path) == QN_OK;
        qn_tokenizer *tokenizer = is_good ? qn_word_counter_finish(counter) : NULL;
        qn_word_counter_free(counter);
        const char *tokens_path = in_folder("tokens");
        int32_t *ids = NULL;
        size_t count = 0;
        is_good =
            tokenizer &&
            qn_tokens_write(tokenizer, tokens_path, &path, 1, QN_DOCUMENTS_FILES, -1) == QN_OK &&
            qn_encode(tokenizer, "long", text, bytes, &ids, &count) == QN_OK;
        qn_tokens *tokens = is_good ? qn_tokens_open(qn, tokens_path) : NULL;
        int32_t *read = malloc((count + 1) * sizeof *read);
        ok(tokens && qn_tokens_count(tokens) == count &&
               qn_tokens_read(tokens, 0, count, read) == QN_OK &&
               memcmp(ids, read, count * sizeof *ids) == 0,
           "pieces: case %zu: the %zu tokens of the whole text; %s", i, count, qn_error(qn));
        qn_clear_error(qn);
        free(read);
        free(ids);
        qn_tokens_close(tokens);
        qn_tokenizer_free(tokenizer);
    }
    free(text);
}

static void check_damage(const char *path, const qn_tokenizer *tokenizer)
{
    static const struct {
        long at; /* in the file; negative: cut so many bytes off */
        unsigned char byte;
        const char *message;
    } cases[] = {
        {0, 'X', "does not begin with"},
        {8, 2, "version 2"},
        {12, 8, "makes no sense"},
        {16, 9, "made by another tokenizer"},
        {24, 200, "cut: it is shorter"},
        {32, 0, "makes no sense"},
        {40, 9, "makes no sense"},
        {48, 1, "made by another tokenizer"},
        {64, 1, "are not what was written"},
        {72, 1, "are not what was written"},
        {88, 100, "table of documents"},
        {-1, 0, "cut: its header promises"},
        {-80, 0, "too short"},
    };
    static char contents[1000], damaged[1000];
    FILE *file = fopen(path, "rb");
    size_t bytes = fread(contents, 1, sizeof contents, file);
    fclose(file);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(damaged, contents, bytes);
        size_t kept = cases[i].at < 0 ? bytes - (size_t)-cases[i].at : bytes;
        if (cases[i].at >= 0)
            damaged[cases[i].at] = (char)cases[i].byte;
        file = fopen(in_folder("damaged"), "wb");
        fwrite(damaged, 1, kept, file);
        fclose(file);
        qn_tokens *tokens = qn_tokens_open(qn, in_folder("damaged"));
        ok((!tokens || qn_tokens_check(tokens, tokenizer) < 0) && says(cases[i].message),
           "damaged tokens: %s", cases[i].message);
        qn_tokens_close(tokens);
    }
}

static void test_tokens(void)
{
    qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
    const char *texts[] = {write_text("one.txt", "ab\n\ncd"), write_text("two.txt", "e")};
    const char *path = in_folder("tokens");
    static const struct {
        enum qn_documents documents;
        size_t count, tokens, last, last_tokens;
    } cases[] = {
        {QN_DOCUMENTS_FILES, 2, 7, 6, 1},
        {QN_DOCUMENTS_LINES, 4, 5, 4, 1},
        {QN_DOCUMENTS_PARAGRAPHS, 3, 5, 4, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = qn_tokens_write(tokenizer, path, texts, 2, cases[i].documents, -1);
        qn_tokens *tokens = status == QN_OK ? qn_tokens_open(qn, path) : NULL;
        size_t first = 0;
        bool is_good =
            tokens && qn_tokens_check(tokens, tokenizer) == QN_OK &&
            qn_tokens_documents(tokens) == cases[i].count &&
            qn_tokens_count(tokens) == cases[i].tokens && qn_tokens_bytes(tokens) == 7 &&
            qn_tokens_document(tokens, cases[i].count - 1, &first) == cases[i].last_tokens &&
            first == cases[i].last;
        if (!ok(is_good, "tokens: %zu documents", cases[i].count))
            note("%s", qn_error(qn));
        qn_clear_error(qn);
        qn_tokens_close(tokens);
    }
    ok(qn_tokens_write(tokenizer, path, texts, 1, QN_DOCUMENTS_LINES, '!') == QN_OK,
       "tokens: ends");
    qn_tokens *tokens = qn_tokens_open(qn, path);
    int32_t ids[7], targets[4];
    ok(tokens && qn_tokens_read(tokens, 0, 7, ids) == QN_OK && ids[2] == '!' && ids[3] == '!' &&
           ids[6] == '!' && qn_tokens_end(tokens) == '!',
       "tokens: a token behind each document");
    ok(qn_tokens_read(tokens, 5, 3, ids) < 0 && says("tokens 5 to 8 of 7"), "tokens: too many");
    qn_dataset *dataset = qn_dataset_mapped(tokens, 1, 5, 4);
    qn_dataset_sequential(dataset, 0, 1, ids, targets);
    ok(dataset && qn_dataset_windows(dataset) == 1 && ids[0] == 'b' && targets[3] == 'd',
       "tokens: a data set of a part of them");
    qn_dataset_free(dataset);
    ok(!qn_dataset_mapped(tokens, 1, 4, 4) && says("at least 5 tokens, found 4"),
       "tokens: too few for a window");
    qn_tokens_close(tokens);
    ok(qn_is_tokens(path) && !qn_is_tokens(texts[0]) && !qn_is_tokens(in_folder("none")),
       "tokens: told from texts");
    check_damage(path, tokenizer);

    const char *empty = write_text("empty.txt", ""), *blank = write_text("blank.txt", "\n\n");
    ok(qn_tokens_write(tokenizer, path, &empty, 1, QN_DOCUMENTS_FILES, -1) < 0 && says("is empty"),
       "tokens: of an empty text");
    ok(qn_tokens_write(tokenizer, path, &blank, 1, QN_DOCUMENTS_PARAGRAPHS, -1) < 0 &&
           says("empty lines only"),
       "tokens: of empty lines");
    ok(qn_tokens_write(tokenizer, path, texts, 1, QN_DOCUMENTS_FILES, 256) < 0 &&
           says("token 256 is not"),
       "tokens: an end that is none");
    qn_tokenizer_free(tokenizer);
}

int main(void)
{
    open_host();
    make_test_folder();
    test_marked();
    test_fallback();
    test_pattern();
    test_words();
    test_multi30k();
    test_refusals();
    test_cleaning();
    test_stop_words();
    test_pieces();
    test_tokens();
    remove_test_folder();
    qn_close(qn);
    return done_testing();
}

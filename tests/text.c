/* Tokenizers and data sets.  Needs no device. */
#include <quern/text.h>

#include <jansson.h>
#include <time.h>

#include "device/philox.h"
#include "tap.h"
#include "files.h"
#include "host.h"

/* ---- Random numbers ---- */

static void test_philox(void)
{
    /* Known answers of the authors' library, Random123. */
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct philox found = philox(vectors[i].counter, vectors[i].key);
        ok(memcmp(found.word, vectors[i].expected, sizeof found.word) == 0,
           "Philox 4x32-10, known answer %zu", i);
    }
    ok(philox_below(~0u, ~0u, 10) == 9 && philox_below(0, 0, 10) == 0 &&
           philox_below(0x80000000, 0, 10) == 5,
       "random numbers below 10");
    ok(philox_below(~0u, ~0u, (uint64_t)1 << 40) == ((uint64_t)1 << 40) - 1 &&
           philox_below(0x12345678, 0x9abcdef0, (uint64_t)1 << 48) == 0x123456789abc,
       "random numbers below 2^40 and 2^48");
}

/* ---- Encoding ---- */

/* Whether `text` becomes `expected` (of `count`), and comes back. */
static bool encodes(qn_tokenizer *tokenizer, const char *text, size_t bytes,
                    const int32_t *expected, size_t count)
{
    int32_t *ids = NULL;
    size_t found = 0, length = 0;
    char *decoded = NULL;
    bool is_good = qn_encode(tokenizer, "text", text, bytes, &ids, &found) == QN_OK;
    is_good = is_good && found == count &&
              (count == 0 || memcmp(ids, expected, count * sizeof *ids) == 0);
    if (!is_good)
        note("%zu ids, expected %zu; %s", found, count, qn_error(qn));
    is_good = is_good && qn_decode(tokenizer, ids, found, &decoded, &length) == QN_OK &&
              length == bytes && memcmp(decoded, text, bytes) == 0;
    free(decoded);
    free(ids);
    qn_clear_error(qn);
    return is_good;
}

static bool fails_to_encode(qn_tokenizer *tokenizer, const char *text, const char *message)
{
    int32_t *ids;
    size_t count;
    return qn_encode(tokenizer, "the prompt", text, strlen(text), &ids, &count) < 0 &&
           says(message);
}

/* Saves, loads and compares. */
static bool survives_saving(qn_tokenizer *tokenizer)
{
    const char *path = in_folder("saved.json");
    qn_tokenizer *loaded =
        qn_tokenizer_save(tokenizer, path) == QN_OK ? qn_tokenizer_load(qn, path) : NULL;
    bool is_same = qn_tokenizer_same(tokenizer, loaded);
    if (!is_same)
        note("%s", qn_error(qn));
    qn_tokenizer_free(loaded);
    qn_clear_error(qn);
    return is_same;
}

static void test_char(void)
{
    const char *text = "b\u00e9a\n \u20acb\U0001F600";
    qn_tokenizer *tokenizer = qn_tokenizer_char(qn, text, strlen(text));
    if (!ok(tokenizer != NULL, "char: made of a text"))
        return;
    is_int((long long)qn_tokenizer_vocabulary(tokenizer), 7, "char: a token for each character");
    ok(strcmp(qn_tokenizer_kind(tokenizer), "char") == 0, "char: its kind");
    static const int32_t expected[] = {3, 4, 2, 0, 1, 5, 3, 6};
    ok(encodes(tokenizer, text, strlen(text), expected, 8),
       "char: ids in the order of code points");
    ok(encodes(tokenizer, "", 0, NULL, 0), "char: the empty text");
    ok(fails_to_encode(tokenizer, "ab\nbz", "\"z\" (U+007A), line 2, column 2"),
       "char: an unknown character is named");
    ok(fails_to_encode(tokenizer, "a\x1b", "\"\\u{1B}\" (U+001B)"),
       "char: an unknown control character is escaped");
    ok(fails_to_encode(tokenizer, "z", "7 that the model knows: \"\\n abé€"),
       "char: the vocabulary is shown");
    ok(fails_to_encode(tokenizer, "ab\xff", "byte 0xFF at offset 2"), "char: what is not UTF-8");
    ok(survives_saving(tokenizer), "char: survives saving");
    ok(qn_tokenizer_save(tokenizer, test_folder) == QN_OK &&
           access(in_folder("tokenizer.json"), R_OK) == 0 &&
           access(in_folder("tokenizer_config.json"), R_OK) == 0,
       "char: saved into a folder");
    remove(in_folder("tokenizer.json"));
    ok(qn_tokenizer_save(tokenizer, in_folder("none/tokenizer.json")) < 0 && says("cannot write"),
       "char: saved into a folder that is not there");
    qn_tokenizer_free(tokenizer);

    static const struct {
        const char *text, *message;
        size_t bytes;
    } bad[] = {{"ab\xc3(", "byte 0xC3 at offset 2", 4},
               {"a\nb\xed\xa0\x80", "byte 0xED at offset 3 (line 2)", 6},
               {"ab\xe2\x82", "byte 0xE2 at offset 2", 4},
               {"a\0b", "NUL at offset 1", 3},
               {"", "empty", 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!qn_tokenizer_char(qn, bad[i].text, bad[i].bytes) && says(bad[i].message),
           "char: bad training text: %s", bad[i].message);
}

static void test_byte(void)
{
    qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
    char text[256];
    int32_t expected[256];
    for (int i = 0; i < 256; i++) {
        text[i] = (char)i;
        expected[i] = i;
    }
    ok(encodes(tokenizer, text, 256, expected, 256), "byte: every byte");
    ok(survives_saving(tokenizer), "byte: survives saving");
    ok(!qn_tokenizer_token(tokenizer, 256, NULL) && !qn_tokenizer_token(tokenizer, -1, NULL),
       "byte: tokens that are none");
    char *decoded;
    ok(qn_decode(tokenizer, (int32_t[]){65, 256}, 2, &decoded, NULL) < 0 &&
           says("token 256 is not in the vocabulary of 256"),
       "byte: decoding an unknown id");
    qn_tokenizer_free(tokenizer);
}

/* ---- Byte pairs ---- */

static void test_gpt2(void)
{
    const char *folder = shared_path("data/tokenizers/gpt2");
    const char *vectors = shared_path("data/tokenizers/vectors/gpt2.jsonl");
    if (!folder || !vectors) {
        skip("GPT-2's vocabulary is not in ../shared");
        return;
    }
    qn_tokenizer *tokenizer = qn_tokenizer_load(qn, folder);
    if (!ok(tokenizer != NULL, "gpt2: loads") || !tokenizer) {
        note("%s", qn_error(qn));
        return;
    }
    is_int((long long)qn_tokenizer_vocabulary(tokenizer), 50257, "gpt2: vocabulary");
    is_int(qn_tokenizer_special(tokenizer, "<|endoftext|>"), 50256, "gpt2: end of text");
    is_int(qn_tokenizer_special(tokenizer, "<|none|>"), -1, "gpt2: a special token that is none");
    ok(qn_tokenizer_begin(tokenizer) == 50256 && qn_tokenizer_end(tokenizer) == 50256,
       "gpt2: one token begins and ends texts");

    FILE *file = fopen(vectors, "r");
    json_t *line;
    while (file && (line = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL))) {
        const json_t *ids = json_object_get(line, "ids"), *text = json_object_get(line, "text");
        int32_t expected[200];
        size_t count = json_array_size(ids);
        for (size_t i = 0; i < count && i < 200; i++)
            expected[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        ok(encodes(tokenizer, json_string_value(text), json_string_length(text), expected, count),
           "gpt2: %zu ids of %zu bytes as they should be", count, json_string_length(text));
        json_decref(line);
    }
    if (file)
        fclose(file);

    static const int32_t special[] = {64, 50256, 50256, 27, 91, 437};
    const char *text = "a<|endoftext|><|endoftext|><|end";
    ok(encodes(tokenizer, text, strlen(text), special, 6), "gpt2: special tokens in text");
    ok(fails_to_encode(tokenizer, "a\xff", "byte 0xFF at offset 1"), "gpt2: what is not UTF-8");
    ok(survives_saving(tokenizer), "gpt2: survives saving");

    enum { LONG = 1 << 20 }; /* one word: quadratic time would be hours */
    char *word = malloc(LONG);
    int32_t *ids = NULL;
    size_t count = 0;
    memset(word, 'a', LONG);
    clock_t start = clock();
    bool is_good = qn_encode(tokenizer, "word", word, LONG, &ids, &count) == QN_OK;
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    ok(is_good && seconds < 20, "gpt2: a word of 2^20 bytes: %zu tokens in %.2f s", count, seconds);
    free(ids);
    free(word);
    qn_tokenizer_free(tokenizer);
}

/* A vocabulary of the 256 bytes, then `extra`: JSON behind a comma, or "". */
static void write_byte_vocabulary(char *json, size_t room, const char *extra)
{
    size_t used = (size_t)snprintf(json, room, "{");
    int other = 256;
    for (int byte = 0; byte < 256; byte++) {
        bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        used += (size_t)snprintf(json + used, room - used, "%s\"\\u%04x\":%d", byte ? "," : "",
                                 (unsigned)(prints ? byte : other++), byte);
    }
    snprintf(json + used, room - used, "%s}", extra);
}

enum { LETTERS = 4, MERGES = 60 };

/* The definition, word for word: merges the best neighbours everywhere, and begins again. */
static size_t merge_naively(int32_t merges[MERGES][2], int32_t *ids, size_t count)
{
    for (int rank = 0; rank < MERGES; rank++) {
        size_t kept = 0, found = 0;
        for (size_t i = 0; i < count; i++) {
            bool is_pair =
                i + 1 < count && ids[i] == merges[rank][0] && ids[i + 1] == merges[rank][1];
            ids[kept++] = is_pair ? 256 + rank : ids[i];
            i += is_pair;
            found += is_pair;
        }
        count = kept;
        if (found > 0)
            rank = -1;
    }
    return count;
}

/* Random merges over few letters, against the definition. */
static void test_merging(void)
{
    static char vocabulary[20000], merge_lines[20000], extra[10000];
    static char names[256 + MERGES][64]; /* of tokens */
    int32_t merges[MERGES][2];
    for (int i = 0; i < LETTERS; i++)
        names['a' + i][0] = (char)('a' + i);
    const uint32_t key[2] = {7, 0};
    size_t extra_used = 0, lines_used = (size_t)sprintf(merge_lines, "#version: 0.2\n");
    uint32_t draw = 0;
    for (int rank = 0; rank < MERGES; draw++) {
        struct philox random = philox((uint32_t[4]){draw}, key);
        int32_t pair[2];
        for (int side = 0; side < 2; side++) {
            int32_t pick = (int32_t)(random.word[side] % (uint32_t)(LETTERS + rank));
            pair[side] = pick < LETTERS ? 'a' + pick : 256 + pick - LETTERS;
        }
        char joined[200];
        snprintf(joined, sizeof joined, "%s%s", names[pair[0]], names[pair[1]]);
        bool is_new = strlen(joined) < 60;
        for (int i = 0; i < rank && is_new; i++)
            is_new = strcmp(names[256 + i], joined) != 0;
        if (!is_new)
            continue;
        memcpy(merges[rank], pair, sizeof pair);
        strcpy(names[256 + rank], joined);
        extra_used += (size_t)sprintf(extra + extra_used, ",\"%s\":%d", joined, 256 + rank);
        lines_used +=
            (size_t)sprintf(merge_lines + lines_used, "%s %s\n", names[pair[0]], names[pair[1]]);
        rank++;
    }
    write_byte_vocabulary(vocabulary, sizeof vocabulary, extra);
    write_text("vocab.json", vocabulary);
    write_text("merges.txt", merge_lines);
    qn_tokenizer *tokenizer = qn_tokenizer_load(qn, test_folder);
    if (!ok(tokenizer != NULL, "bpe: random merges load")) {
        note("%s", qn_error(qn));
        return;
    }
    int wrong = 0;
    enum { WORDS = 400 };
    for (uint32_t i = 0; i < WORDS; i++) {
        char word[500];
        int32_t expected[500];
        size_t length = 1 + philox((uint32_t[4]){i, 1}, key).word[0] % (i % 10 ? 30 : 499);
        for (size_t k = 0; k < length; k++) {
            word[k] = (char)('a' + philox((uint32_t[4]){i, 2, (uint32_t)k}, key).word[0] % LETTERS);
            expected[k] = word[k];
        }
        size_t count = merge_naively(merges, expected, length);
        wrong += !encodes(tokenizer, word, length, expected, count);
        wrong += !encodes(tokenizer, word, length, expected, count); /* from the cache */
    }
    is_int(wrong, 0, "bpe: %d random words as the definition says", WORDS);
    ok(survives_saving(tokenizer), "bpe: survives saving");
    qn_tokenizer_free(tokenizer);
    remove(in_folder("vocab.json"));
    remove(in_folder("merges.txt"));
}

/* ---- Streaming ---- */

static void test_decoder(void)
{
    static const struct {
        const char *bytes,
            *steps; /* what comes out after each byte, and at the end, with "|" between */
    } cases[] = {
        {"ab", "a|b|"},
        {"\xc3\xa9", "|\u00e9|"},
        {"\xf0\x9f\x98\x80", "|||\U0001F600|"},
        {"\xe2\x82", "||\uFFFD"},
        {"\xe2\x82z", "||\uFFFDz|"},
        {"\xff", "\uFFFD|"},
        {"\x80\x80", "\uFFFD|\uFFFD|"},
        {"\xed\xa0\x80", "|\uFFFD\uFFFD|\uFFFD|"},
        {"\xf0\x9f\xc3\xa9", "||\uFFFD|\u00e9|"},
        {"\xc0\xaf", "\uFFFD|\uFFFD|"},
        {"\xf4\x90", "|\uFFFD\uFFFD|"},
    };
    qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
    qn_decoder *decoder = qn_decoder_new(tokenizer);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char steps[100] = "";
        for (const char *at = cases[i].bytes; *at; at++) {
            strcat(steps, qn_decoder_next(decoder, (unsigned char)*at));
            strcat(steps, "|");
        }
        strcat(steps, qn_decoder_end(decoder));
        if (!ok(strcmp(steps, cases[i].steps) == 0, "decoder: case %zu", i))
            note("found %s, expected %s", steps, cases[i].steps);
    }
    ok(strcmp(qn_decoder_next(decoder, 0), "\uFFFD") == 0, "decoder: a NUL does not end the text");
    ok(!qn_decoder_next(decoder, 999) && says("token 999"), "decoder: an unknown id");
    qn_decoder_free(decoder);
    qn_tokenizer_free(tokenizer);
}

/* ---- Damaged files ---- */

#define CHAR_FILE(vocabulary)                                                                      \
    "{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"?\",\"vocab\":" vocabulary                 \
    "},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\\\s\\\\S]\"},"            \
    "\"behavior\":\"Isolated\"},\"decoder\":{\"type\":\"Fuse\"}}"

static void test_damaged(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "not JSON"},
        {"[1]", "expected a JSON object {...}, found array of 1"},
        {"{\"model\":{\"vocab\":{\"a\":0}}", "not JSON: line 1"},
        {"{}", "model: missing; expected an object"},
        {"{\"model\":3}", "model: expected an object, found 3"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}",
         "expected BPE or WordLevel, found \"Unigram\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", "model.merges: missing"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":"
         "{\"type\":\"Metaspace\"}}",
         "model.unk_token: expected a token of the vocabulary, or byte_fallback"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":"
         "{\"type\":\"Whitespace\"}}",
         "pre_tokenizer: expected ByteLevel or Metaspace, found \"Whitespace\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":"
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}",
         "add_prefix_space: only false"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":"
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}",
         "no token for the byte 0x00"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":"
         "{\"type\":\"Prepend\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
         "false}}",
         "normalizer: number 0, string \"Prepend\", is not supported"},
        {CHAR_FILE("{\"a\":-1}"), "token \"a\": expected an id from 0"},
        {CHAR_FILE("{\"a\":\"x\"}"),
         "token \"a\": expected an id from 0 to 16777215, found string"},
        {CHAR_FILE("{\"a\":99999999999}"), "found 99999999999"},
        {CHAR_FILE("{\"a\":0,\"b\":0}"), "both have the id 0"},
        {CHAR_FILE("{\"ab\":0}"), "expected single characters, found \"ab\""},
        {CHAR_FILE("{}"), "there are no tokens"},
        {CHAR_FILE("[]"), "model.vocab: expected an object, found array of 0"},
        {CHAR_FILE("{\"a\":0,\"a\":1}"), "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(!qn_tokenizer_load(qn, write_text("bad.json", cases[i].text)) && says(cases[i].message),
           "damaged: %s", cases[i].message);

    static const struct {
        const char *extra, *added, *message;
    } bpe_cases[] = {
        {",\"\u20ac\":256", "", "token \"\u20ac\" is not written in GPT-2's characters"},
        {",\"<e>\":256", "{\"id\":257,\"content\":\"<e>\"}", "\"<e>\" has two ids"},
        {"", "{\"id\":257,\"content\":\"<e>\"},{\"id\":258,\"content\":\"<e>\"}",
         "\"<e>\" has two ids"},
        {"", "{\"id\":1,\"content\":\"<e>\"}", "both have the id 1"},
        {"", "{\"id\":-1,\"content\":\"<e>\"}", "objects with an id from 0"},
        {"", "{\"id\":256}", "added_tokens.content: missing"},
        {"", "{\"id\":256,\"content\":\"\"}", "a text that is not empty"},
        {"", "{\"id\":256,\"content\":\"<e>\",\"lstrip\":true}", "lstrip: only false"},
        {"", "7", "objects with an id from 0"},
    };
    for (size_t i = 0; i < sizeof bpe_cases / sizeof *bpe_cases; i++) {
        static char bytes[20000], file[30000];
        write_byte_vocabulary(bytes, sizeof bytes, bpe_cases[i].extra);
        snprintf(file, sizeof file,
                 "{\"added_tokens\":[%s],\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                 "\"add_prefix_space\":false},\"model\":{\"vocab\":%s,\"merges\":[]}}",
                 bpe_cases[i].added, bytes);
        ok(!qn_tokenizer_load(qn, write_text("bad.json", file)) && says(bpe_cases[i].message),
           "damaged: %s", bpe_cases[i].message);
    }

    ok(!qn_tokenizer_load(qn, in_folder("none")) && says("No such file"),
       "a file that is not there");
    ok(!qn_tokenizer_load(qn, test_folder) && says("holds no tokenizer"),
       "a folder without tokenizer");

    static const struct {
        const char *merges, *message;
    } merge_cases[] = {
        {"a\n", "merge 0: expected two tokens and a space, found \"a\""},
        {"#version\na b\n\nx y\n", "merge 1 needs the token \"xy\""},
        {"a b c\n", "found \"a b c\""},
        {" a\n", "found \" a\""},
        {"a \u20ac\n", "needs the token \"\u20ac\""},
    };
    static char vocabulary[20000];
    write_byte_vocabulary(vocabulary, sizeof vocabulary, ",\"ab\":256");
    write_text("vocab.json", vocabulary);
    for (size_t i = 0; i < sizeof merge_cases / sizeof *merge_cases; i++) {
        write_text("merges.txt", merge_cases[i].merges);
        ok(!qn_tokenizer_load(qn, test_folder) && says(merge_cases[i].message), "damaged: %s",
           merge_cases[i].message);
    }
    remove(in_folder("vocab.json"));
    remove(in_folder("merges.txt"));
}

/* ---- Data sets ---- */

static void test_reading(void)
{
    const char *first = write_text("first.txt", "To be, "),
               *second = write_text("second.txt", "or not");
    const char *empty = write_text("empty.txt", ""), *missing = in_folder("missing.txt");
    size_t bytes = 0;
    char *text = qn_text_read(qn, (const char *[]){first, second}, 2, &bytes);
    ok(text && bytes == 13 && strcmp(text, "To be, or not") == 0, "files one after the other");
    free(text);
    const struct {
        const char *path, *message;
    } bad[] = {{missing, "missing.txt: No such file"},
               {empty, "empty.txt is empty"},
               {test_folder, "it is a folder, expected a file"},
               {"/dev/zero", "it is a device"},
               {"/dev/null", "/dev/null is empty"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!qn_text_read(qn, (const char *[]){first, bad[i].path}, 2, &bytes) &&
               says(bad[i].message),
           "reading: %s", bad[i].message);
    ok(!qn_text_read(qn, NULL, 0, &bytes) && says("no text files"), "reading: no files");

    ok(qn_text_check(qn, "a.txt", "\u00e9\0b", 4, true) == QN_OK, "UTF-8 with a NUL");
    ok(qn_text_check(qn, "a.txt", "\u00e9\n\0b", 5, false) < 0 &&
           says("a.txt: NUL at offset 3 (line 2)"),
       "a NUL that is not allowed");
    ok(qn_text_check(qn, "a.txt", "a\n\xe9\0", 4, false) < 0 &&
           says("a.txt: byte 0xE9 at offset 2 (line 2) is not UTF-8"),
       "what is not UTF-8 before a NUL");
    ok(qn_text_check(qn, "a.txt", "", 0, false) == QN_OK, "no text is UTF-8");
    ok(qn_text_split("0123456789", 10, 0.1) == 9, "the last tenth");
    ok(qn_text_split("0123456789", 10, 0) == 10, "nothing held out");
    ok(qn_text_split("aaaaaaa\xe2\x82\xac", 10, 0.1) == 7, "no character is cut");
    ok(qn_text_split("\xe2\x82\xac", 3, 0.5) == 0, "nor the only one");
}

static void test_windows(void)
{
    enum { TOKENS = 103, LENGTH = 10, ROWS = 12, STEPS = 200 };
    char text[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        text[i] = (char)i;
    qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
    qn_dataset *dataset = qn_dataset_new(tokenizer, "data", text, TOKENS, LENGTH);
    if (!ok(dataset && qn_dataset_tokens(dataset) == TOKENS, "a data set")) {
        qn_tokenizer_free(tokenizer);
        return;
    }

    int32_t inputs[ROWS * LENGTH], targets[ROWS * LENGTH], parts[ROWS * LENGTH],
        rest[ROWS * LENGTH];
    bool is_window = true, is_same = true, reaches_ends[2] = {false, false};
    for (uint64_t step = 0; step < STEPS; step++) {
        qn_dataset_random(dataset, 1, step, 0, ROWS, inputs, targets);
        for (int row = 0; row < ROWS; row += 3)
            qn_dataset_random(dataset, 1, step, (size_t)row, 3, parts + row * LENGTH,
                              rest + row * LENGTH);
        is_same = is_same && memcmp(inputs, parts, sizeof inputs) == 0 &&
                  memcmp(targets, rest, sizeof targets) == 0;
        for (int i = 0; i < ROWS * LENGTH; i++)
            is_window = is_window && targets[i] == inputs[i] + 1 &&
                        (i % LENGTH == 0 || inputs[i] == inputs[i - 1] + 1);
        for (int row = 0; row < ROWS; row++) {
            reaches_ends[0] |= inputs[row * LENGTH] == 0;
            reaches_ends[1] |= targets[row * LENGTH + LENGTH - 1] == TOKENS - 1;
        }
    }
    ok(is_window, "random windows are pieces of the text, and targets what follows");
    ok(reaches_ends[0] && reaches_ends[1], "both ends of the text occur");
    ok(is_same, "4 batches of 3 are one batch of 12");
    qn_dataset_random(dataset, 2, STEPS - 1, 0, ROWS, parts, rest);
    ok(memcmp(inputs, parts, sizeof inputs) != 0, "another seed, other windows");

    is_int((long long)qn_dataset_windows(dataset), 11, "windows side by side");
    qn_dataset_sequential(dataset, 0, ROWS, inputs, targets); /* one more than there are */
    bool is_right = true;
    for (int i = 0; i < ROWS * LENGTH; i++)
        is_right = is_right && (i < TOKENS - 1 ? inputs[i] == i && targets[i] == i + 1
                                               : inputs[i] == 0 && targets[i] == QN_IGNORE);
    ok(is_right, "each token but the first is a target once");
    qn_dataset_sequential(dataset, 10, 1, parts, rest);
    ok(memcmp(parts, inputs + 10 * LENGTH, LENGTH * sizeof *parts) == 0 &&
           memcmp(rest, targets + 10 * LENGTH, LENGTH * sizeof *rest) == 0,
       "a window by itself");
    enum { STREAMS = 3 };
    size_t stream = (TOKENS - 1) / STREAMS, steps = stream / LENGTH;
    bool goes_on = true;
    for (size_t step = 0; step < 2 * steps; step++) {
        bool begins = qn_dataset_streams(dataset, step, STREAMS, inputs, targets);
        goes_on = goes_on && begins == (step % steps == 0);
        for (size_t i = 0; i < STREAMS * LENGTH; i++) {
            int32_t at = (int32_t)(i / LENGTH * stream + step % steps * LENGTH + i % LENGTH);
            goes_on = goes_on && inputs[i] == (unsigned char)text[at] &&
                      targets[i] == (unsigned char)text[at + 1];
        }
    }
    ok(goes_on, "streams go on from step to step");
    qn_dataset_free(dataset);

    ok(!qn_dataset_new(tokenizer, "valid.txt", text, 10, 10) &&
           says("valid.txt: a context of 10 needs at least 11 tokens, found 10"),
       "a text shorter than the context");
    dataset = qn_dataset_new(tokenizer, "data", text, 11, 10);
    qn_dataset_random(dataset, 1, 1, 0, 1, inputs, targets);
    ok(dataset && inputs[0] == 0 && targets[9] == 10 && qn_dataset_windows(dataset) == 1,
       "a text of one window");
    qn_dataset_free(dataset);
    qn_tokenizer_free(tokenizer);
}

int main(void)
{
    open_host();
    make_test_folder();
    test_philox();
    test_char();
    test_byte();
    test_gpt2();
    test_merging();
    test_decoder();
    test_damaged();
    test_reading();
    test_windows();
    remove_test_folder();
    qn_close(qn);
    return done_testing();
}

/* Files: safetensors, configurations, checkpoints, and what becomes of them when the disk is full,
 * when they are damaged, and when the process is killed.  Needs no device. */
#include <quern/nn.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "device/philox.h"
#include "tap.h"
#include "files.h"
#include "host.h"

static bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

/* How many entries a folder has whose names end in `ending`. */
static int count_entries(const char *folder, const char *ending)
{
    int count = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        size_t length = strlen(entry->d_name);
        count += entry->d_name[0] != '.' && length >= strlen(ending) &&
                 strcmp(entry->d_name + length - strlen(ending), ending) == 0;
    }
    if (entries)
        closedir(entries);
    return count;
}

/* ---- Safetensors: what is written is read ---- */

static int give_values(void *user, size_t index, void *values)
{
    if (user && index == 3)
        return QN_ERROR_DEVICE;
    memset(values, (int)index, index == 3 ? 6 * 4 : 0);
    return QN_OK;
}

static const float some_floats[6] = {0, -1.5f, 1e-30f, 3.4e38f, 7, 0.1f};
static const uint16_t some_halves[5] = {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x7C00};
static const uint16_t some_bfloats[3] = {0x3F80, 0xC000, 0x7F80};
static const int64_t some_longs[3] = {1, -2, INT32_MAX};
static const uint8_t some_bytes[3] = {0, 255, 7};

static const struct qn_file_tensor some_tensors[] = {
    {.name = "bytes", .type = "U8", .shape = {1, {3}}, .data = some_bytes},
    {.name = "weights", .type = "F32", .shape = {2, {2, 3}}, .data = some_floats},
    {.name = "half", .type = "F16", .shape = {1, {5}}, .data = some_halves},
    {.name = "asked for", .type = "I32", .shape = {3, {1, 2, 3}}},
    {.name = "brain", .type = "BF16", .shape = {1, {3}}, .data = some_bfloats},
    {.name = "long \"\xc3\xa9\"", .type = "I64", .shape = {1, {3}}, .data = some_longs},
    {.name = "empty", .type = "F32", .shape = {2, {0, 7}}},
    {.name = "scalar", .type = "F32", .shape = {0, {0}}, .data = some_floats + 4},
};
enum { SOME_TENSORS = sizeof some_tensors / sizeof *some_tensors };

static int write_some(const char *path, void *user)
{
    return qn_safetensors_write(qn, path, some_tensors, SOME_TENSORS,
                                (const char *const[]){"made", "by a test", NULL}, give_values,
                                user);
}

static void test_round_trip(void)
{
    const char *path = in_folder("some.safetensors");
    ok(write_some(path, NULL) == QN_OK, "safetensors: written");
    qn_safetensors *file = qn_safetensors_open(qn, path);
    if (!ok(file != NULL, "safetensors: read")) {
        note("%s", qn_error(qn));
        return;
    }
    is_int((long long)qn_safetensors_count(file), SOME_TENSORS, "safetensors: all tensors");
    bool is_same = true, is_aligned = true;
    for (size_t i = 0; i < SOME_TENSORS; i++) {
        const struct qn_file_tensor *tensor = qn_safetensors_find(file, some_tensors[i].name);
        is_same = is_same && tensor && strcmp(tensor->type, some_tensors[i].type) == 0 &&
                  qn_shape_equal(tensor->shape, some_tensors[i].shape) &&
                  (!some_tensors[i].data ||
                   memcmp(tensor->data, some_tensors[i].data, tensor->bytes) == 0);
        size_t size = tensor && strcmp(tensor->type, "I64") == 0 ? 8
                      : tensor && strchr("FI", tensor->type[0])  ? 4
                                                                 : 1;
        size = tensor && strcmp(tensor->type, "F16") == 0 ? 2 : size;
        is_aligned = is_aligned && (uintptr_t)tensor->data % size == 0;
    }
    ok(is_same, "safetensors: types, shapes and bytes are the same");
    ok(is_aligned, "safetensors: each tensor is aligned to its type");
    ok(strcmp(qn_safetensors_metadata(file, "format"), "pt") == 0 &&
           strcmp(qn_safetensors_metadata(file, "made"), "by a test") == 0 &&
           !qn_safetensors_metadata(file, "none"),
       "safetensors: metadata");
    ok(!qn_safetensors_find(file, "none") && !*qn_error(qn), "safetensors: no such tensor");

    float floats[6];
    int32_t integers[6];
    qn_safetensors_f32(file, qn_safetensors_find(file, "half"), floats);
    ok(floats[0] == 1 && floats[1] == -2 && floats[2] == ldexpf(1, -24) && floats[3] == 65504 &&
           isinf(floats[4]),
       "safetensors: f16 to f32");
    qn_safetensors_f32(file, qn_safetensors_find(file, "brain"), floats);
    ok(floats[0] == 1 && floats[1] == -2 && isinf(floats[2]), "safetensors: bf16 to f32");
    qn_safetensors_i32(file, qn_safetensors_find(file, "long \"\xc3\xa9\""), integers);
    ok(integers[0] == 1 && integers[1] == -2 && integers[2] == INT32_MAX,
       "safetensors: i64 to i32");
    qn_safetensors_i32(file, qn_safetensors_find(file, "asked for"), integers);
    ok(integers[0] == 0x03030303 && integers[5] == 0x03030303, "safetensors: values asked for");
    ok(qn_safetensors_i32(file, qn_safetensors_find(file, "half"), integers) < 0 &&
           says("tensor \"half\": expected integers, found F16"),
       "safetensors: no integers of floats");
    ok(qn_safetensors_f32(file, qn_safetensors_find(file, "bytes"), floats) < 0 && says("found U8"),
       "safetensors: no floats of integers");
    qn_safetensors_close(file);

    ok(write_some(path, qn) == QN_ERROR_DEVICE, "safetensors: values that cannot be had");
    file = qn_safetensors_open(qn, path);
    ok(file && count_entries(test_folder, ".tmp") == 0, "safetensors: the old file is whole");
    qn_safetensors_close(file);

    const struct qn_file_tensor twice[] = {some_tensors[1], some_tensors[1]};
    ok(qn_safetensors_write(qn, path, twice, 2, NULL, NULL, NULL) < 0 &&
           says("two tensors are called \"weights\""),
       "safetensors: two tensors of one name");
    const struct qn_file_tensor bad = {"x\xff", "F32", {0, {0}}, some_floats, 4};
    ok(qn_safetensors_write(qn, path, &bad, 1, NULL, NULL, NULL) < 0 && says("not UTF-8"),
       "safetensors: a name that is not UTF-8");
    const struct qn_file_tensor huge = {"x", "F32", {2, {SIZE_MAX, 2}}, some_floats, 4};
    ok(qn_safetensors_write(qn, path, &huge, 1, NULL, NULL, NULL) < 0 && says("impossible shape"),
       "safetensors: a shape that cannot be");
}

static void test_golden(void)
{
    const char *path = shared_path("golden/models/gpt2/model.safetensors");
    if (!path) {
        skip("the golden models are not in ../shared");
        return;
    }
    qn_safetensors *file = qn_safetensors_open(qn, path);
    const struct qn_file_tensor *table = qn_safetensors_find(file, "transformer.wte.weight");
    ok(table && qn_shape_equal(table->shape, QN_SHAPE(97, 32)) && table->bytes == 97 * 32 * 4 &&
           qn_safetensors_count(file) == 28,
       "safetensors: a model that transformers wrote");
    qn_safetensors_close(file);
}

/* ---- Safetensors: damage ---- */

static const char *write_header(const char *header, size_t data_bytes)
{
    char bytes[5000] = {0};
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, (size_t)length);
    return write_file("bad.safetensors", bytes, 8 + (size_t)length + data_bytes);
}

#define TENSOR(name, type, shape, begin, end)                                                      \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_damaged(void)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *message; /* NULL: it is good */
    } cases[] = {
        {"{}", 0, NULL},
        {"{}   ", 0, NULL},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[0]", "4", "4") "}", 4,
         NULL},
        {"{" TENSOR("b", "U8", "[2]", "1", "3") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 3,
         NULL},
        {"{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL},
        {"[]", 0, "not a JSON object"},
        {" {}", 0, "expected \"{\" first"},
        {"{\"a\":", 0, "not a JSON object"},
        {"{\"a\xff\":1}", 0, "not a JSON object"},
        {"{} x", 0, "not a JSON object"},
        {"{\"a\":1}", 0, "tensor \"a\": expected an object, found 1"},
        {"{\"a\":{}}", 0, "tensor \"a\": dtype: missing; expected a string"},
        {"{\"a\":{\"dtype\":7}}", 0, "dtype: expected a string, found 7"},
        {"{" TENSOR("a", "F99", "[1]", "0", "4") "}", 4, "dtype: unknown type \"F99\""},
        {"{" TENSOR("a", "F32", "3", "0", "4") "}", 4, "shape: expected an array, found 3"},
        {"{" TENSOR("a", "F32", "[-1]", "0", "4") "}", 4, "not negative, found -1"},
        {"{" TENSOR("a", "F32", "[1.0]", "0", "4") "}", 4, "not negative, found 1"},
        {"{" TENSOR("a", "F32", "[\"1\"]", "0", "4") "}", 4, "not negative, found string \"1\""},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1]", "0", "4") "}", 4, "at most 6 sizes, found 7"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4,
         "more bytes than can be counted"},
        {"{" TENSOR("a", "F32", "[9223372036854775807]", "0", "4") "}", 4,
         "more bytes than can be counted"},
        {"{" TENSOR("a", "F32", "[99999999999999999999]", "0", "4") "}", 4, "too big"},
        {"{" TENSOR("a", "F32", "[1,2]", "0", "4") "}", 4,
         "takes 8 bytes, but the range [0, 4] has 4"},
        {"{" TENSOR("a", "F32", "[1]", "0", "5") "}", 5, "takes 4 bytes"},
        {"{" TENSOR("a", "F32", "[2]", "0", "8") "}", 4,
         "within the 4 bytes of data that the file has, found [0, 8]"},
        {"{" TENSOR("a", "F32", "[1]", "-4", "0") "}", 4, "found [-4, 0]"},
        {"{" TENSOR("a", "F32", "[1]", "4", "0") "}", 4, "found [4, 0]"},
        {"{" TENSOR("a", "F32", "[1]", "0", "9223372036854775807") "}", 4,
         "found [0, 9223372036854775807]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
         "expected two integers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4,
         "expected two integers"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "2", "6") "}", 6,
         "tensors \"a\" and \"b\" overlap"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "0", "4") "}", 4,
         "overlap"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "5", "9") "}", 9,
         "1 bytes before tensor \"b\", at 4"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "}", 6, "the last 2 of 6 bytes"},
        {"{}", 3, "the last 3 of 3 bytes"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("a", "F32", "[1]", "4", "8") "}", 8,
         "duplicate"},
        {"{\"__metadata__\":7}", 0, "__metadata__: expected an object"},
        {"{\"__metadata__\":{\"a\":7}}", 0, "__metadata__: \"a\": expected a string, found 7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_safetensors *file =
            qn_safetensors_open(qn, write_header(cases[i].header, cases[i].data_bytes));
        ok(cases[i].message ? !file && says(cases[i].message) : file != NULL, "header %zu: %s", i,
           cases[i].message ? cases[i].message : "good");
        qn_safetensors_close(file);
    }

    static const struct {
        const char *bytes;
        size_t count;
        const char *message;
    } files[] = {
        {"", 0, "the file is empty"},
        {"\2\0\0\0\0\0\0", 7, "has 7 bytes, too few"},
        {"\4\0\0\0\0\0\0\0{}", 10, "says that its header has 4 bytes, but the file is shorter"},
        {"\377\377\377\377\377\377\377\377{}", 10,
         "18446744073709551615 bytes, but 100 million are"},
        {"just a text, and no tensors", 27, "no safetensors file"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ok(!qn_safetensors_open(qn,
                                write_file("bad.safetensors", files[i].bytes, files[i].count)) &&
               says(files[i].message),
           "file: %s", files[i].message);
    ok(!qn_safetensors_open(qn, in_folder("none")) && says("No such file"), "file: missing");
    ok(!qn_safetensors_open(qn, test_folder) && says("found a folder"), "file: a folder");

    enum { DEPTH = 4000 };
    char deep[DEPTH + 1];
    memset(deep, '[', DEPTH);
    deep[DEPTH] = '\0';
    memcpy(deep, "{\"a\":", 5);
    ok(!qn_safetensors_open(qn, write_header(deep, 0)) && says("depth"), "header: %d levels",
       DEPTH);
}

/* A good file with bytes changed or cut off: read without a fault, or refused. */
static void test_mutations(void)
{
    static char good[5000], bad[5000];
    const char *path = in_folder("some.safetensors");
    FILE *file = write_some(path, NULL) == QN_OK ? fopen(path, "rb") : NULL;
    size_t count = file ? fread(good, 1, sizeof good, file) : 0;
    if (file)
        fclose(file);
    int opened = 0, refused = 0, silent = 0;
    for (uint32_t trial = 0; trial < 2000 && count > 0; trial++) {
        struct philox random = philox((uint32_t[4]){trial}, (uint32_t[2]){1, 2});
        size_t kept = trial % 4 == 0 ? random.word[0] % count : count;
        memcpy(bad, good, count);
        bad[random.word[1] % (count < 800 ? count : 800)] = (char)random.word[2];
        qn_safetensors *changed = qn_safetensors_open(qn, write_file("bad.safetensors", bad, kept));
        uint64_t sum = 0;
        for (size_t i = 0; i < qn_safetensors_count(changed); i++) {
            const struct qn_file_tensor *tensor = qn_safetensors_tensor(changed, i);
            for (size_t k = 0; k < tensor->bytes; k++)
                sum += ((const unsigned char *)tensor->data)[k];
        }
        opened += changed && sum > 0;
        refused += !changed;
        silent += !changed && !*qn_error(qn);
        qn_safetensors_close(changed);
        qn_clear_error(qn);
    }
    ok(opened > 0 && refused > 500 && silent == 0,
       "mutations: %d files read, %d refused, all with a reason", opened, refused);
}

/* ---- A full disk ---- */

static void test_full_disk(void)
{
    enum { BIG = 1 << 18 };
    const char *path = in_folder("weights.safetensors");
    static float values[BIG / 4];
    const struct qn_file_tensor small = {"w", "F32", {1, {4}}, values, 0};
    const struct qn_file_tensor big = {"w", "F32", {1, {BIG / 4}}, values, 0};
    qn_safetensors_write(qn, path, &small, 1, NULL, NULL, NULL);

    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = BIG / 2;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    int status = qn_safetensors_write(qn, path, &big, 1, NULL, NULL, NULL);
    setrlimit(RLIMIT_FSIZE, &before);

    ok(status == QN_ERROR_FILE && says("weights.safetensors: File too large; what was there before "
                                       "is unchanged: free some space"),
       "full disk: an error that says so");
    qn_safetensors *file = qn_safetensors_open(qn, path);
    const struct qn_file_tensor *tensor = qn_safetensors_find(file, "w");
    ok(tensor && tensor->bytes == 16, "full disk: the old file is whole");
    is_int(count_entries(test_folder, ".tmp"), 0, "full disk: nothing is left over");
    qn_safetensors_close(file);
}

/* ---- Models ---- */

static const struct qn_lm_config small_config = {.vocab_size = 5,
                                                 .n_positions = 4,
                                                 .n_embd = 2,
                                                 .n_layer = 2,
                                                 .n_head = 1,
                                                 .layer_norm_epsilon = 1e-5,
                                                 .activation = QN_GELU,
                                                 .tie_word_embeddings = true,
                                                 .bos_token_id = -1,
                                                 .eos_token_id = -1};

/* Writes model.safetensors as small_config has it, all numbers 0: without the first `left_out`
 * tensors, with the name, type and shape of the next one changed, and with another one behind. */
static bool write_model(size_t left_out, const struct qn_file_tensor *changed,
                        const struct qn_file_tensor *added)
{
    static const float zeros[100];
    struct qn_file_tensor tensors[40];
    qn_lm *lm = qn_lm_new(qn, &small_config);
    const qn_store *store = qn_lm_parameters(lm);
    size_t count = 0;
    for (size_t i = left_out; i < qn_store_count(store); i++) {
        const qn_tensor *tensor = qn_store_tensor(store, i);
        tensors[count++] = (struct qn_file_tensor){
            .name = qn_tensor_name(tensor), .type = "F32", .shape = qn_tensor_shape(tensor)};
    }
    if (changed)
        tensors[0] = *changed;
    if (added)
        tensors[count++] = *added;
    for (size_t i = 0; i < count; i++)
        if (!tensors[i].data)
            tensors[i].data = zeros;
    bool is_written = qn_safetensors_write(qn, in_folder("model.safetensors"), tensors, count, NULL,
                                           NULL, NULL) == QN_OK;
    qn_lm_free(lm);
    return is_written;
}

static bool loads_model(struct qn_lm_config config)
{
    qn_lm_config_write(qn, in_folder("config.json"), &config);
    qn_lm *lm = qn_lm_load(qn, test_folder);
    bool is_loaded = lm != NULL;
    qn_lm_free(lm);
    return is_loaded;
}

static void test_models(void)
{
    static const float ones[10] = {1};
    static const struct {
        const char *what;
        size_t left_out;
        struct qn_file_tensor changed, added;
        const char *message; /* NULL: it is good */
    } cases[] = {
        {"a model", .message = NULL},
        {"a mask that old files have",
         .added = {"transformer.h.1.attn.bias", "BOOL", {2, {4, 4}}, NULL, 0}},
        {"a tied head that is the embedding",
         .added = {"lm_head.weight", "F32", {2, {5, 2}}, NULL, 0}},
        {"a tied head that is not the embedding",
         .added = {"lm_head.weight", "F32", {2, {5, 2}}, ones, 0},
         .message = "1 tensors are not of the model that config.json describes, the first being "
                    "\"lm_head.weight\""},
        {"a mask of a layer that is not", .added = {"h.2.attn.bias", "BOOL", {1, {1}}, NULL, 0},
         .message = "the first being \"h.2.attn.bias\""},
        {"an unknown tensor", .added = {"score.weight", "F32", {1, {1}}, NULL, 0},
         .message = "model.safetensors: 1 tensors are not"},
        {"a tensor that is missing", 1, .message = "there is no tensor transformer.wte.weight"},
        {"no tensors", 28, .message = "there is no tensor"},
        {"a tensor of another shape",
         .changed = {"transformer.wte.weight", "F32", {2, {6, 2}}, NULL, 0},
         .message = "tensor transformer.wte.weight is [6,2]; config.json makes it [5,2]"},
        {"a tensor of another type",
         .changed = {"transformer.wte.weight", "I32", {2, {5, 2}}, NULL, 0},
         .message = "expected numbers in F32, F64, F16 or BF16, found I32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool is_written =
            write_model(cases[i].left_out, cases[i].changed.name ? &cases[i].changed : NULL,
                        cases[i].added.name ? &cases[i].added : NULL);
        bool is_loaded = is_written && loads_model(small_config);
        ok(is_written && (cases[i].message ? !is_loaded && says(cases[i].message) : is_loaded),
           "model: %s", cases[i].what);
    }
    struct qn_lm_config config = small_config;
    config.n_layer = 1;
    ok(write_model(0, NULL, NULL) && !loads_model(config) &&
           says("12 tensors are not of the model that config.json describes, the first being "
                "\"transformer.h.1."),
       "model: a config.json that drops a layer");
    ok(!qn_lm_config_difference(&small_config, &small_config) &&
           strcmp(qn_lm_config_difference(&small_config, &config), "n_layer") == 0,
       "config: the key that differs");
    config.n_layer = 2;
    config.n_inner = 8;
    ok(!qn_lm_config_difference(&small_config, &config), "config: 4 n_embd is the default");
    config.activation = QN_RELU;
    ok(strcmp(qn_lm_config_difference(&small_config, &config), "activation_function") == 0,
       "config: another activation");
    remove(in_folder("config.json"));
    remove(in_folder("model.safetensors"));
}

static void test_masks(void)
{
    static const int32_t good[] = {1, 1, 0, 0, 1, 1, 1, 1}, ahead[] = {1, 0, 0, 0, 0, 1, 1, 1},
                         hole[] = {1, 0, 1, 0}, none[] = {0, 0, 0, 0}, large[] = {1, 2, 0, 0};
    int32_t lengths[2];
    ok(qn_bert_lengths(qn, good, 2, 4, lengths) == QN_OK && lengths[0] == 2 && lengths[1] == 4,
       "masks: the lengths of rows");
    ok(qn_bert_lengths(qn, ahead, 2, 4, lengths) < 0 && says("row 1 is not ones and then zeros"),
       "masks: padding before the tokens");
    ok(qn_bert_lengths(qn, hole, 1, 4, lengths) < 0 && says("row 0"), "masks: a hole");
    ok(qn_bert_lengths(qn, none, 1, 4, lengths) < 0 && says("row 0"), "masks: no token");
    ok(qn_bert_lengths(qn, large, 1, 4, lengths) < 0 && says("row 0"), "masks: neither 1 nor 0");
}

/* ---- Checkpoints ---- */

enum { NUMBERS = 5000 };

/* Writes a checkpoint of which every number is its step. */
static bool save(qn_checkpoints *checkpoints, uint64_t step, bool is_best)
{
    static float numbers[NUMBERS];
    char path[500];
    const char *folder = qn_checkpoints_begin(checkpoints, step);
    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = (float)step;
    const struct qn_file_tensor tensor = {"w", "F32", {1, {NUMBERS}}, numbers, 0};
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (!folder || qn_safetensors_write(qn, path, &tensor, 1, NULL, NULL, NULL) != QN_OK)
        return false;
    const struct qn_lm_config config = {.vocab_size = 1 + step,
                                        .n_positions = 1,
                                        .n_embd = 1,
                                        .n_layer = 1,
                                        .n_head = 1,
                                        .layer_norm_epsilon = 1e-5,
                                        .activation = QN_GELU};
    snprintf(path, sizeof path, "%s/config.json", folder);
    return qn_lm_config_write(qn, path, &config) == QN_OK &&
           qn_checkpoints_commit(checkpoints, is_best) == QN_OK;
}

/* The step that a folder's checkpoint is of; -1 unless all of it is of one step. */
static long load(const char *folder)
{
    char path[500];
    long step = -1;
    struct qn_lm_config config;
    snprintf(path, sizeof path, "%s/config.json", folder);
    if (qn_lm_config_read(qn, path, &config) == QN_OK)
        step = (long)config.vocab_size - 1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    qn_safetensors *file = qn_safetensors_open(qn, path);
    const struct qn_file_tensor *tensor = qn_safetensors_find(file, "w");
    float numbers[NUMBERS] = {-1};
    if (tensor && tensor->bytes == sizeof numbers)
        qn_safetensors_f32(file, tensor, numbers);
    for (int i = 0; i < NUMBERS; i++)
        step = numbers[i] == (float)step ? step : -1;
    qn_safetensors_close(file);
    return step;
}

/* The step of the model that a path stands for; -1 and a note if there is none. */
static long load_model(const char *path)
{
    char *folder = qn_model_folder(qn, path);
    long step = folder ? load(folder) : -1;
    if (step < 0)
        note("%s", qn_error(qn));
    free(folder);
    qn_clear_error(qn);
    return step;
}

static void test_checkpoints(void)
{
    char run[300];
    snprintf(run, sizeof run, "%s/deep/run", test_folder);
    ok(!qn_checkpoints_open(qn, run, true) && says("No such file"), "run: nothing to resume");
    qn_checkpoints *checkpoints = qn_checkpoints_open(qn, run, false);
    if (!ok(checkpoints != NULL, "run: a new folder")) {
        note("%s", qn_error(qn));
        return;
    }
    ok(!qn_checkpoints_latest(checkpoints), "run: no checkpoint yet");
    ok(!qn_checkpoints_open(qn, run, false) && says("another process is training in"),
       "run: one process at a time");
    ok(qn_checkpoints_commit(checkpoints, true) < 0 && says("no checkpoint was begun"),
       "run: nothing to commit");

    ok(save(checkpoints, 10, false), "run: the first checkpoint");
    is_int(load_model(run), 10, "run: the first is the best");
    ok(save(checkpoints, 20, true) && save(checkpoints, 30, false) && save(checkpoints, 40, false),
       "run: more checkpoints");
    is_int(load_model(run), 20, "run: the best is what the run stands for");
    is_int(load_model(in_folder("deep/run/latest")), 40, "run: the latest");
    is_int(load_model(in_folder("deep/run/step-20")), 20, "run: a checkpoint by name");
    is_int(load_model(in_folder("deep/run/model.safetensors")), 20, "run: a file of it");
    is_int(load(run), 20, "run: links through the best");
    is_int(load(qn_checkpoints_other(checkpoints)), 20, "run: the checkpoint beside the latest");
    is_int(count_entries(run, "0"), 2, "run: older checkpoints are removed");

    ok(qn_checkpoints_begin(checkpoints, 50) && exists(in_folder("deep/run/step-50.tmp")),
       "run: a checkpoint begun");
    qn_checkpoints_abandon(checkpoints);
    ok(!exists(in_folder("deep/run/step-50.tmp")), "run: and given up");
    ok(save(checkpoints, 40, true) && load_model(run) == 40 && count_entries(run, "0") == 1,
       "run: the same step again");
    ok(!qn_checkpoints_other(checkpoints), "run: no checkpoint beside the latest");
    qn_checkpoints_close(checkpoints);

    ok(!qn_checkpoints_open(qn, run, false) && says("holds a run, at step 40: go on with --resume"),
       "run: not begun over an old one");

    /* What kills leave: a checkpoint not whole, one not linked, a link not in place, one moved
     * away. */
    mkdir(in_folder("deep/run/step-60.tmp"), 0777);
    mkdir(in_folder("deep/run/step-60"), 0777);
    if (symlink("step-60", in_folder("deep/run/link.tmp")) != 0)
        note("no link: %s", strerror(errno));
    rename(in_folder("deep/run/step-40"), in_folder("deep/run/step-40.old"));
    checkpoints = qn_checkpoints_open(qn, run, true);
    ok(checkpoints && load(qn_checkpoints_latest(checkpoints)) == 40, "run: repaired on opening");
    ok(!exists(in_folder("deep/run/step-60.tmp")) && !exists(in_folder("deep/run/step-60")) &&
           !exists(in_folder("deep/run/link.tmp")) && !exists(in_folder("deep/run/step-40.old")),
       "run: leftovers are removed");
    ok(save(checkpoints, 70, false) && qn_checkpoints_set_best(checkpoints, 70) == QN_OK &&
           load_model(run) == 70,
       "run: the best set afterwards");
    ok(qn_checkpoints_set_best(checkpoints, 71) < 0 && says("no checkpoint of step 71"),
       "run: the best that is not there");
    qn_checkpoints_close(checkpoints);

    unlink(in_folder("deep/run/latest"));
    unlink(in_folder("deep/run/best"));
    checkpoints = qn_checkpoints_open(qn, run, true);
    ok(checkpoints && load(qn_checkpoints_latest(checkpoints)) == 70 && load_model(run) == 70,
       "run: found without its links");
    qn_checkpoints_close(checkpoints);

    mkdir(in_folder("mine"), 0777);
    mkdir(in_folder("mine/step-5.tmp"), 0777);
    mkdir(in_folder("mine/step-6"), 0777);
    write_text("mine/step-5.tmp/letter", "precious");
    write_text("mine/step-6/letter", "precious");
    checkpoints = qn_checkpoints_open(qn, in_folder("mine"), true);
    ok(!checkpoints && says("holds no checkpoint") && !exists(in_folder("mine/latest")),
       "run: folders of others are none");
    checkpoints = qn_checkpoints_open(qn, in_folder("mine"), false);
    ok(checkpoints && exists(in_folder("mine/step-5.tmp/letter")) &&
           exists(in_folder("mine/step-6/letter")),
       "run: and stay");
    qn_checkpoints_close(checkpoints);
    ok(!qn_model_folder(qn, in_folder("mine")) && says("holds no model"), "a folder without model");
    write_text("mine/model.safetensors", "precious");
    ok(!qn_checkpoints_open(qn, in_folder("mine"), false) &&
           says("holds model.safetensors, which is not a run's") &&
           exists(in_folder("mine/model.safetensors")),
       "run: files of others are left alone");
    ok(!qn_checkpoints_open(qn, in_folder("mine/model.safetensors"), false) && says("cannot"),
       "run: a file where the folder should be");
    ok(!qn_model_folder(qn, in_folder("mine/model.safetensors")) &&
           says("mine/model.safetensors is a file: expected a model's folder"),
       "a file without its model");
    ok(!qn_model_folder(qn, write_text("deep/run/notes.txt", "a")) && says("notes.txt is a file"),
       "a file that is none of its model's");
    ok(!qn_model_folder(qn, in_folder("none")) && says("No such file"),
       "a model that is not there");
}

/* A disk that fills during a save. */
static void test_full_checkpoint(void)
{
    const char *run = in_folder("full");
    qn_checkpoints *checkpoints = qn_checkpoints_open(qn, run, false);
    save(checkpoints, 1, true);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &limit);
    bool is_saved = save(checkpoints, 2, true);
    setrlimit(RLIMIT_FSIZE, &before);
    ok(!is_saved && says("File too large"), "full disk: no checkpoint");
    qn_checkpoints_abandon(checkpoints);
    ok(load_model(run) == 1 && !exists(in_folder("full/step-2.tmp")),
       "full disk: the checkpoint before is whole");
    ok(save(checkpoints, 2, true) && load_model(run) == 2, "full disk: the next one works");
    qn_checkpoints_close(checkpoints);
}

static bool is_there(const char *run, const char *name)
{
    struct stat status;
    char path[400];
    snprintf(path, sizeof path, "%s/%s", run, name);
    return lstat(path, &status) == 0;
}

/* Saves until it is killed; goes on with what it finds.  The first step may be whole, though no link leads to it yet. */
static void save_for_ever(const char *run)
{
    bool is_run = is_there(run, "latest") || is_there(run, "step-1");
    qn_checkpoints *checkpoints = qn_checkpoints_open(qn, run, is_run);
    const char *folder = qn_checkpoints_latest(checkpoints);
    long step = folder ? load(folder) : 0;
    bool ok = checkpoints && step >= 0;
    for (; ok; step++)
        ok = save(checkpoints, (uint64_t)step + 1, step % 3 == 0);
    fprintf(stderr, "# step %ld: %s\n", step, qn_error(qn));
    _exit(1);
}

static void test_kills(void)
{
    enum { KILLS = 60 };
    const char *run = in_folder("killed");
    int broken = 0, failed = 0;
    long before = 0, best = 0;
    for (uint32_t i = 0; i < KILLS; i++) {
        pid_t child = fork();
        if (child == 0)
            save_for_ever(run);
        uint32_t microseconds =
            2000 + philox((uint32_t[4]){i}, (uint32_t[2]){(uint32_t)getpid()}).word[0] % 30000;
        nanosleep(&(struct timespec){.tv_nsec = 1000L * microseconds}, NULL);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        failed += !WIFSIGNALED(status);
        char latest[400], resolved[400];
        snprintf(latest, sizeof latest, "%s/latest", run);
        if (readlink(latest, resolved, sizeof resolved) < 0)
            continue; /* killed before the first was whole */
        long now = load_model(latest);
        best = load_model(run);
        broken += now < before || now < 0 || best < 0 || best > now;
        before = now;
    }
    is_int(failed, 0, "kills: no process failed by itself");
    is_int(broken, 0,
           "kills: %d, and a whole checkpoint after each; the last of step %ld, best %ld", KILLS,
           before, best);
}

/* ---- Inspection ---- */

static bool prints(const char *path, const char *expected)
{
    char text[20000] = "";
    FILE *out = tmpfile();
    int status = out ? qn_inspect(qn, path, out) : -1;
    if (out) {
        rewind(out);
        text[fread(text, 1, sizeof text - 1, out)] = '\0';
        fclose(out);
    }
    bool is_there = status == QN_OK && strstr(text, expected);
    if (!is_there)
        note("expected \"%s\" in: %s%s", expected, text, qn_error(qn));
    qn_clear_error(qn);
    return is_there;
}

static void test_inspect(void)
{
    const char *path = in_folder("some.safetensors");
    write_some(path, NULL);
    ok(prints(path, "8 tensors"), "inspect: how many tensors");
    ok(prints(path, "F32   [2, 3]  24 B"), "inspect: a tensor");
    ok(prints(in_folder("full"), "a run, its best checkpoint \"step-2\""), "inspect: a run");
    ok(prints(in_folder("full/config.json"), "gpt2, 1 layers, 1 heads"), "inspect: a config.json");
    qn_tokenizer *tokenizer = qn_tokenizer_char(qn, "abc\n", 4);
    qn_tokenizer_save(tokenizer, in_folder("tokenizer.json"));
    qn_tokenizer_free(tokenizer);
    ok(prints(in_folder("tokenizer.json"), "char, fingerprint ") &&
           prints(in_folder("tokenizer.json"), ", 4 tokens: \"\\n\" \"a\""),
       "inspect: a tokenizer");
    ok(prints(write_text("training.json", "{\"step\":3,\"\\u001b[1m\":\"\\u001b\"}"),
              "\"step\": 3\n  \"\\u{1B}[1m\": string \"\\u{1B}\""),
       "inspect: other JSON, escaped");
    FILE *out = tmpfile();
    ok(qn_inspect(qn, write_text("full/step-2/model.safetensors", "broken"), out) < 0 &&
           says("too few for a safetensors file"),
       "inspect: damage");
    ok(qn_inspect(qn, write_text("config.json", "{}"), out) < 0 &&
           says("config.json: model_type: missing"),
       "inspect: a config.json of nothing");
    ok(qn_inspect(qn, write_text("tokenizer.json", "{}"), out) < 0 &&
           says("tokenizer.json: model: missing"),
       "inspect: a tokenizer.json of nothing");
    ok(qn_inspect(qn, in_folder("none"), out) < 0 && says("No such file"), "inspect: nothing");
    fclose(out);
}

/* ---- NumPy ---- */

/* Whether a file is a head of this text, filled up with blanks to 128 bytes, and the data. */
static bool is_npy(const char *path, const char *text, const void *data, size_t bytes)
{
    enum { HEAD = 128, BEGIN = 10 };
    char found[512], expected[HEAD];
    FILE *file = fopen(path, "rb");
    size_t count = file ? fread(found, 1, sizeof found, file) : 0;
    if (file)
        fclose(file);
    memset(expected, ' ', HEAD);
    memcpy(expected, "\x93NUMPY\1\0v\0", BEGIN); /* v: 118, the bytes of the text */
    memcpy(expected + BEGIN, text, strlen(text));
    expected[HEAD - 1] = '\n';
    return count == HEAD + bytes && memcmp(found, expected, HEAD) == 0 &&
           memcmp(found + HEAD, data, bytes) == 0;
}

static void test_npy(void)
{
    const float floats[] = {1, -2.5f, 0, INFINITY, 3e-40f, 7};
    const uint16_t halves[] = {0x3C00, 0xC100};
    const float widened[] = {1, -8};
    const uint16_t bf16[] = {0x3F80, 0xC100};
    const int32_t whole = -7;
    const char *path = in_folder("values.npy");
    is_int(qn_npy_write(qn, path, QN_F32, QN_SHAPE(2, 3), floats), QN_OK, "qn_npy_write");
    ok(is_npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,), }", floats,
              sizeof floats),
       "f32 of two axes, byte by byte");
    qn_npy_write(qn, path, QN_F16, QN_SHAPE(2), halves);
    ok(is_npy(path, "{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", halves,
              sizeof halves),
       "f16 of one");
    qn_npy_write(qn, path, QN_BF16, QN_SHAPE(1, 2, 1), bf16);
    ok(is_npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 1,), }", widened,
              sizeof widened),
       "bf16 as f32");
    qn_npy_write(qn, path, QN_I32, QN_SCALAR, &whole);
    ok(is_npy(path, "{'descr': '<i4', 'fortran_order': False, 'shape': (), }", &whole,
              sizeof whole),
       "one i32 without axes");
    const qn_shape deep = QN_SHAPE(1, 1, 1, 1, 1, 1);
    qn_npy_write(qn, path, QN_U8, deep, "\xFF");
    ok(is_npy(path, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1,), }",
              "\xFF", 1),
       "u8 of six axes");
    ok(qn_npy_write(qn, in_folder("no/where.npy"), QN_I32, QN_SCALAR, &whole) == QN_ERROR_FILE &&
           says("no/where.npy"),
       "a folder that there is not");
    ok(qn_npy_write(qn, test_folder, QN_I32, QN_SCALAR, &whole) == QN_ERROR_FILE &&
           says(test_folder),
       "a path that is a folder");
}

int main(void)
{
    open_host();
    make_test_folder();
    test_round_trip();
    test_golden();
    test_npy();
    test_damaged();
    test_mutations();
    test_full_disk();
    test_models();
    test_masks();
    test_checkpoints();
    test_full_checkpoint();
    test_kills();
    test_inspect();
    remove_test_folder();
    qn_close(qn);
    return done_testing();
}

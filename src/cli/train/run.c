/* The settings and the state of a training run, and training.json. */
#include "config.h"

#include "cli/train/run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>
#include "io/fields.h"
#include "io/file.h"

/* ---- Settings, by table ---- */

enum setting_kind { TEXT, WHOLE, REAL };

enum {
    OF_LLAMA = 1 << FAMILY_LLAMA,
    OF_RNN = 1 << FAMILY_RNN,
    OF_RECURRENT = OF_RNN | 1 << FAMILY_LSTM | 1 << FAMILY_GRU,
    OF_DECODERS = 1 << FAMILY_GPT | OF_LLAMA,
    OF_ALL = OF_DECODERS | OF_RECURRENT
};

static const struct setting {
    const char *name; /* the option's, and the key's */
    enum setting_kind kind;
    size_t offset;
    bool may_change; /* when a run is resumed */
    unsigned of;     /* bit i: enum family i has it */
} table[] = {
#define SETTING(name, kind, field, may_change)                                                     \
    {                                                                                              \
        name, kind, offsetof(struct settings, field), may_change, OF_ALL                           \
    }
#define OF(families, name, kind, field)                                                            \
    {                                                                                              \
        name, kind, offsetof(struct settings, field), false, families                              \
    }
    SETTING("tokenizer", TEXT, tokenizer, false),
    SETTING("valid-fraction", REAL, valid_fraction, false),
    SETTING("layers", WHOLE, layers, false),
    OF(OF_DECODERS, "heads", WHOLE, heads),
    SETTING("width", WHOLE, width, false),
    SETTING("context", WHOLE, context, false),
    OF(OF_LLAMA, "kv-heads", WHOLE, kv_heads),
    OF(OF_LLAMA, "theta", REAL, theta),
    OF(OF_LLAMA | OF_RECURRENT, "embeddings", TEXT, embeddings),
    OF(OF_RECURRENT, "units", WHOLE, units),
    OF(OF_RECURRENT, "state", TEXT, state),
    OF(OF_RNN, "nonlinearity", TEXT, nonlinearity),
    SETTING("dropout", REAL, dropout, false),
    SETTING("batch", WHOLE, batch, false),
    SETTING("accumulate", WHOLE, accumulate, false),
    SETTING("steps", WHOLE, steps, true),
    SETTING("schedule", TEXT, schedule, false),
    SETTING("lr", REAL, learning_rate, false),
    SETTING("min-lr", REAL, min_learning_rate, false),
    SETTING("warmup", WHOLE, warmup, false),
    SETTING("step-size", WHOLE, step_size, false),
    SETTING("gamma", REAL, gamma, false),
    SETTING("optimizer", TEXT, optimizer, false),
    SETTING("weight-decay", REAL, weight_decay, false),
    SETTING("beta1", REAL, beta1, false),
    SETTING("beta2", REAL, beta2, false),
    SETTING("momentum", REAL, momentum, false),
    SETTING("clip", REAL, clip, false),
    SETTING("dtype", TEXT, dtype, false),
    SETTING("loss-scale", REAL, loss_scale, false),
    SETTING("average", REAL, average, false),
    SETTING("seed", WHOLE, seed, false),
    SETTING("patience", WHOLE, patience, false),
    SETTING("eval-every", WHOLE, eval_every, true),
    SETTING("eval-batches", WHOLE, eval_batches, true),
    SETTING("log", TEXT, log, true),
    SETTING("device", TEXT, device, true),
    SETTING("gemm", TEXT, gemm, false),
#undef SETTING
#undef OF
};

enum { SETTINGS = sizeof table / sizeof *table };

static bool applies(const struct setting *setting, enum family family)
{
    return setting->of >> family & 1;
}

static void *field_of(struct settings *settings, const struct setting *setting)
{
    return (char *)settings + setting->offset;
}

static const void *field_of_const(const struct settings *settings, const struct setting *setting)
{
    return (const char *)settings + setting->offset;
}

static void read_option(struct settings *settings, const struct setting *setting,
                        const struct options *options)
{
    void *field = field_of(settings, setting);
    if (setting->kind == TEXT)
        *(const char **)field = options_string(options, setting->name);
    else if (setting->kind == WHOLE)
        *(uint64_t *)field = (uint64_t)options_integer(options, setting->name);
    else
        *(double *)field = options_real(options, setting->name);
}

static bool is_same(const struct settings *a, const struct settings *b,
                    const struct setting *setting)
{
    const void *of_a = field_of_const(a, setting), *of_b = field_of_const(b, setting);
    if (setting->kind == TEXT) {
        const char *text_a = *(const char *const *)of_a, *text_b = *(const char *const *)of_b;
        return text_a == text_b || (text_a && text_b && strcmp(text_a, text_b) == 0);
    }
    if (setting->kind == WHOLE)
        return *(const uint64_t *)of_a == *(const uint64_t *)of_b;
    return *(const double *)of_a == *(const double *)of_b;
}

static void copy_setting(struct settings *to, const struct settings *from,
                         const struct setting *setting)
{
    size_t bytes = setting->kind == TEXT    ? sizeof(char *)
                   : setting->kind == WHOLE ? sizeof(uint64_t)
                                            : sizeof(double);
    memcpy(field_of(to, setting), field_of_const(from, setting), bytes);
}

static const char *setting_text(char *text, size_t size, const struct settings *settings,
                                const struct setting *setting)
{
    const void *field = field_of_const(settings, setting);
    if (setting->kind == TEXT) {
        const char *value = *(const char *const *)field;
        return value ? value : "nothing";
    }
    if (setting->kind == WHOLE)
        snprintf(text, size, "%" PRIu64, *(const uint64_t *)field);
    else
        snprintf(text, size, "%.10g", *(const double *)field);
    return text;
}

/* ---- Names ---- */

static const char *const optimizers[] = {
    [QN_ADAMW] = "adamw",     [QN_ADAM] = "adam",       [QN_SGD] = "sgd",
    [QN_RMSPROP] = "rmsprop", [QN_ADAGRAD] = "adagrad", [QN_ADAFACTOR] = "adafactor",
    [QN_MUON] = "muon"};
static const char *const schedules[] = {
    [QN_COSINE] = "cosine",     [QN_LINEAR] = "linear",
    [QN_CONSTANT] = "constant", [QN_INVERSE_SQRT] = "inverse-sqrt",
    [QN_STEPS] = "step",        [QN_NOAM] = "noam"};
static const char *const types[] = {[QN_F32] = "f32", [QN_F16] = "f16", [QN_BF16] = "bf16"};
enum {
    OPTIMIZERS = sizeof optimizers / sizeof *optimizers,
    SCHEDULES = sizeof schedules / sizeof *schedules,
    DTYPES = sizeof types / sizeof *types,
    NAMES_TEXT = 128
};

static const char *const families[] = {[FAMILY_GPT] = "gpt",
                                       [FAMILY_LLAMA] = "llama",
                                       [FAMILY_RNN] = "rnn",
                                       [FAMILY_LSTM] = "lstm",
                                       [FAMILY_GRU] = "gru"};

const char *family_name(enum family family)
{
    return families[family];
}

/* Its number, or `count`. */
static size_t find_name(const char *name, const char *const *names, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(name, names[i]) != 0)
        i++;
    return i;
}

enum family family_named(const char *name)
{
    return (enum family)find_name(name, families, FAMILIES);
}

bool is_recurrent(enum family family)
{
    return OF_RECURRENT >> family & 1;
}

bool carries_state(const struct settings *settings)
{
    return settings->state && strcmp(settings->state, "carry") == 0;
}

bool optimizer_named(const char *name, enum qn_optimizer_kind *kind)
{
    size_t found = find_name(name, optimizers, OPTIMIZERS);
    *kind = (enum qn_optimizer_kind)found;
    return found < OPTIMIZERS;
}

bool schedule_named(const char *name, enum qn_schedule_kind *kind)
{
    size_t found = find_name(name, schedules, SCHEDULES);
    *kind = (enum qn_schedule_kind)found;
    return found < SCHEDULES;
}

bool type_named(const char *name, enum qn_type *type)
{
    size_t found = find_name(name, types, DTYPES);
    *type = (enum qn_type)found;
    return found < DTYPES;
}

static bool check_name(const char *option, const char *name, const char *const *names, size_t count,
                       const struct options *options)
{
    if (find_name(name, names, count) < count)
        return true;
    char all[NAMES_TEXT] = "";
    for (size_t i = 0, used = 0; i < count && used < sizeof all; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", names[i]);
    usage_error(options, "--%s: there is no \"%s\"; there are %s", option, name, all);
    return false;
}

/* Options that one optimizer, schedule or type reads and another does not. */
static bool check_meaning(const struct settings *settings, const struct options *options)
{
    const struct {
        const char *option, *readers; /* names, with a blank before and behind each */
        const char *of, *name;        /* the option that names one of them, and its value */
    } meanings[] = {
        {"momentum", " sgd rmsprop muon ", "optimizer", settings->optimizer},
        {"beta1", " adamw adam ", "optimizer", settings->optimizer},
        {"beta2", " adamw adam rmsprop ", "optimizer", settings->optimizer},
        {"step-size", " step ", "schedule", settings->schedule},
        {"gamma", " step ", "schedule", settings->schedule},
        {"min-lr", " cosine linear ", "schedule", settings->schedule},
        {"loss-scale", " f16 ", "dtype", settings->dtype},
    };
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        char word[NAMES_TEXT];
        snprintf(word, sizeof word, " %s ", meanings[i].name);
        if (!options_given(options, meanings[i].option) || strstr(meanings[i].readers, word))
            continue;
        usage_error(options, "--%s means nothing to --%s %s; it is for%.*s", meanings[i].option,
                    meanings[i].of, meanings[i].name, (int)strlen(meanings[i].readers) - 1,
                    meanings[i].readers);
        return false;
    }
    return true;
}

/* ---- From the command line ---- */

/* What training.json could not hold is refused before anything is computed. */
static bool check_texts(const struct settings *settings, const struct options *options)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        if (table[i].kind != TEXT)
            continue;
        const char *text = *(const char *const *)field_of_const(settings, &table[i]);
        json_t *value = text ? json_string(text) : json_null();
        if (!value) {
            usage_error(options, "--%s must be UTF-8", table[i].name);
            return false;
        }
        json_decref(value);
    }
    return true;
}

static bool check_rates(const struct settings *settings, const struct options *options)
{
    if (settings->min_learning_rate <= settings->learning_rate)
        return true;
    usage_error(options, "--min-lr %g is above --lr %g", settings->min_learning_rate,
                settings->learning_rate);
    return false;
}

/* Llama's share keys and values evenly, and rotary positions turn pairs of numbers. */
static bool check_shared_heads(const struct settings *settings, const struct options *options)
{
    uint64_t heads = settings->heads, head = settings->width / heads;
    if (settings->family != FAMILY_LLAMA)
        return true;
    if (heads % settings->kv_heads != 0)
        usage_error(options, "--heads %" PRIu64 " must be a multiple of --kv-heads %" PRIu64, heads,
                    settings->kv_heads);
    else if (head % 2 != 0)
        usage_error(options,
                    "--width %" PRIu64 " with --heads %" PRIu64 " makes heads of %" PRIu64
                    " numbers; positions turn pairs of them, so it must be even",
                    settings->width, heads, head);
    return heads % settings->kv_heads == 0 && head % 2 == 0;
}

static bool check_state(const struct settings *settings, const struct options *options)
{
    if (!carries_state(settings) || settings->accumulate == 1)
        return true;
    usage_error(options,
                "--state carry needs --accumulate 1: batches of a step are of different texts");
    return false;
}

static bool check_tied(const struct settings *settings, const struct options *options)
{
    if (strcmp(settings->embeddings, "tied") != 0 || settings->width == settings->units)
        return true;
    usage_error(options,
                "--embeddings tied needs --width %" PRIu64
                ", as wide as the --units, since the embedding is the head, too",
                settings->units);
    return false;
}

/* Heads share the width, and none may be too wide for the kernels of attention. */
static bool check_heads(const struct settings *settings, const struct options *options)
{
    uint64_t width = settings->width, heads = settings->heads, enough = 1;
    if (width % heads != 0) {
        usage_error(options, "--width %" PRIu64 " must be a multiple of --heads %" PRIu64, width,
                    heads);
        return false;
    }
    if (width / heads <= QN_MAX_HEAD_SIZE)
        return true;
    while (width % enough != 0 || width / enough > QN_MAX_HEAD_SIZE)
        enough++;
    usage_error(options,
                "--width %" PRIu64 " with --heads %" PRIu64 " makes heads of %" PRIu64
                " numbers, and %d are the most: take --heads %" PRIu64,
                width, heads, width / heads, QN_MAX_HEAD_SIZE, enough);
    return false;
}

bool run_configure(struct run *run, const struct options *options, enum family family)
{
    struct settings *settings = &run->settings;
    *run = (struct run){.settings = {.family = family}, .best_loss = INFINITY};
    for (size_t i = 0; i < SETTINGS; i++)
        if (applies(&table[i], family))
            read_option(settings, &table[i], options);
    if (settings->kv_heads == 0)
        settings->kv_heads = settings->heads;
    settings->valid = options_string(options, "valid");
    if (options_given(options, "epochs"))
        settings->epochs = (uint64_t)options_integer(options, "epochs");
    settings->by_clock =
        options_given(options, "time") && !options_given(options, "steps") && settings->epochs == 0;
    settings->checkpoint = !is_recurrent(family) && options_flag(options, "checkpoint-activations");
    if (!check_name("optimizer", settings->optimizer, optimizers, OPTIMIZERS, options) ||
        !check_name("schedule", settings->schedule, schedules, SCHEDULES, options) ||
        !check_name("dtype", settings->dtype, types, DTYPES, options) ||
        !check_meaning(settings, options))
        return false;
    if (!options_given(options, "min-lr"))
        settings->min_learning_rate = settings->learning_rate / 10;
    if (!options_given(options, "momentum"))
        settings->momentum = qn_optimizer_defaults((enum qn_optimizer_kind)find_name(
                                                       settings->optimizer, optimizers, OPTIMIZERS))
                                 .momentum;
    bool is_good = is_recurrent(family)
                       ? check_tied(settings, options) && check_state(settings, options)
                       : check_heads(settings, options) && check_shared_heads(settings, options);
    return is_good && check_texts(settings, options) && check_rates(settings, options);
}

bool run_reconfigure(struct run *run, const struct options *options, enum family family)
{
    struct settings given = {0}, *kept = &run->settings;
    if (kept->family != family) {
        usage_error(options, "the run is one of `quern train %s`", family_name(kept->family));
        return false;
    }
    const char *recipe = is_recurrent(family) ? options_string(options, "recipe") : NULL;
    if (recipe || options_given(options, "epochs")) {
        usage_error(options, "--%s is for new runs; this one keeps its options, but --steps",
                    recipe ? "recipe" : "epochs");
        return false;
    }
    for (size_t i = 0; i < SETTINGS; i++) {
        if (!applies(&table[i], family) || !options_given(options, table[i].name))
            continue;
        read_option(&given, &table[i], options);
        if (!is_same(&given, kept, &table[i]) && !table[i].may_change) {
            char new_text[32], old_text[32];
            usage_error(options,
                        "--%s %s: the run has %s, and keeps it; leave the option out, or start a "
                        "new run",
                        table[i].name, setting_text(new_text, sizeof new_text, &given, &table[i]),
                        setting_text(old_text, sizeof old_text, kept, &table[i]));
            return false;
        }
        copy_setting(kept, &given, &table[i]);
    }
    if (options_given(options, "steps"))
        kept->by_clock = 0;
    kept->checkpoint = !is_recurrent(family) && options_flag(options, "checkpoint-activations");
    return check_texts(kept, options);
}

/* ---- To training.json ---- */

static json_t *settings_json(const struct settings *settings)
{
    json_t *object = json_object();
    for (size_t i = 0; i < SETTINGS; i++) {
        if (!applies(&table[i], settings->family))
            continue;
        const void *field = field_of_const(settings, &table[i]);
        json_t *value;
        if (table[i].kind == TEXT) {
            const char *text = *(const char *const *)field;
            value = text ? json_string(text) : json_null();
        } else if (table[i].kind == WHOLE) {
            value = json_integer((json_int_t) * (const uint64_t *)field);
        } else {
            value = json_real(*(const double *)field);
        }
        if (json_object_set_new(object, table[i].name, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *source_json(const struct source *source)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, source->hash);
    return json_pack("{s:s, s:I, s:s}", "path", source->path, "bytes", (json_int_t)source->bytes,
                     "fnv1a", hash);
}

static json_t *run_json(const struct run *run, const char *device_name)
{
    bool has_best = isfinite(run->best_loss);
    json_t *data = json_array();
    for (size_t i = 0; i < run->n_data; i++)
        if (json_array_append_new(data, source_json(&run->data[i])) != 0) {
            json_decref(data);
            return NULL;
        }
    json_t *device = json_string(device_name); /* NULL: the driver's text is not UTF-8 */
    return json_pack("{s:s, s:s, s:o, s:I, s:f, s:o, s:o, s:I, s:b, s:o, s:o, s:o}", "quern",
                     PACKAGE_VERSION, "model", family_name(run->settings.family), "device",
                     device ? device : json_string(""), "step", (json_int_t)run->step, "seconds",
                     run->seconds, "best_loss", has_best ? json_real(run->best_loss) : json_null(),
                     "best_step", has_best ? json_integer((json_int_t)run->best_step) : json_null(),
                     "validations_since_best", (json_int_t)run->stale, "by_clock",
                     (int)run->settings.by_clock, "options", settings_json(&run->settings), "data",
                     data, "valid", run->valid.path ? source_json(&run->valid) : json_null());
}

static char *training_path(const char *folder)
{
    static const char name[] = "/training.json";
    size_t length = strlen(folder);
    char *path = malloc(length + sizeof name);
    if (path) {
        memcpy(path, folder, length);
        memcpy(path + length, name, sizeof name);
    }
    return path;
}

bool run_save(const struct run *run, const char *folder, const char *device_name,
              char message[RUN_MESSAGE])
{
    char *path = training_path(folder);
    json_t *document = run_json(run, device_name);
    FILE *file = path && document ? fopen(path, "w") : NULL;
    bool is_written = file && json_dumpf(document, file, JSON_INDENT(2)) == 0 &&
                      fputc('\n', file) != EOF && fflush(file) == 0;
    int cause = errno;
    if (file && fclose(file) != 0 && is_written) {
        is_written = false;
        cause = errno;
    }
    if (!is_written)
        snprintf(message, RUN_MESSAGE, "cannot write %s: %s", path ? path : "training.json",
                 document ? strerror(cause) : "out of memory, or a name is not UTF-8");
    json_decref(document);
    free(path);
    return is_written;
}

/* ---- From training.json ---- */

/* Reading a field: false from the first mistake on, which `message` tells. */
struct reader {
    const char *path;
    char *message;
    bool failed;
};

static void fail_field(struct reader *reader, const char *key, const char *expected,
                       const json_t *value)
{
    char found[DESCRIBED];
    if (!reader->failed)
        snprintf(reader->message, RUN_MESSAGE, "%s: %s: expected %s, found %s: the file is damaged",
                 reader->path, key, expected, describe(found, value));
    reader->failed = true;
}

static void fail_memory(struct reader *reader)
{
    if (!reader->failed)
        snprintf(reader->message, RUN_MESSAGE, "out of memory while reading %s", reader->path);
    reader->failed = true;
}

static uint64_t whole_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        fail_field(reader, key, "a whole number", value);
        return 0;
    }
    return (uint64_t)json_integer_value(value);
}

static double real_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_field(reader, key, "a number", value);
    return json_number_value(value);
}

/* NULL for null. */
static const char *text_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) && !json_is_null(value))
        fail_field(reader, key, "a string", value);
    return json_string_value(value);
}

/* Of the command that trains such models. */
static const struct option *find_option(const char *name, enum family family)
{
    for (size_t i = 0; i < n_commands; i++) {
        if (strncmp(commands[i].name, "train ", 6) != 0 ||
            strcmp(commands[i].name + 6, families[family]) != 0)
            continue;
        for (size_t j = 0; j < commands[i].n_options; j++)
            if (commands[i].options[j].name && strcmp(commands[i].options[j].name, name) == 0)
                return &commands[i].options[j];
    }
    return NULL;
}

/* The bounds of a number are those of its option. */
static void check_bounds(struct reader *reader, const char *name, const json_t *value,
                         enum family family)
{
    double number = json_number_value(value);
    const struct option *option = find_option(name, family);
    char expected[OPTION_RANGE];
    if (!option_allows(option, number))
        fail_field(reader, name, option_range(option, expected), value);
}

static void read_settings(struct reader *reader, struct settings *settings, const json_t *object)
{
    if (!json_is_object(object))
        fail_field(reader, "options", "an object", object);
    for (size_t i = 0; i < SETTINGS && !reader->failed; i++) {
        void *field = field_of(settings, &table[i]);
        const char *name = table[i].name;
        if (!applies(&table[i], settings->family))
            continue;
        if (table[i].kind == TEXT) {
            *(const char **)field = text_field(reader, object, name);
        } else if (table[i].kind == WHOLE) {
            *(uint64_t *)field = whole_field(reader, object, name);
            check_bounds(reader, name, json_object_get(object, name), settings->family);
        } else {
            *(double *)field = real_field(reader, object, name);
            check_bounds(reader, name, json_object_get(object, name), settings->family);
        }
    }
    if (!reader->failed && !settings->tokenizer)
        fail_field(reader, "tokenizer", "a string", NULL);
    bool has_embeddings = settings->family == FAMILY_LLAMA || is_recurrent(settings->family);
    if (!reader->failed && has_embeddings && !settings->embeddings)
        fail_field(reader, "embeddings", "a string", NULL);
    if (!reader->failed && is_recurrent(settings->family) && !settings->state)
        fail_field(reader, "state", "a string", NULL);
    if (!reader->failed && settings->family == FAMILY_RNN && !settings->nonlinearity)
        fail_field(reader, "nonlinearity", "a string", NULL);
    enum qn_optimizer_kind optimizer;
    enum qn_schedule_kind schedule;
    enum qn_type type;
    if (!reader->failed &&
        (!settings->optimizer || !optimizer_named(settings->optimizer, &optimizer)))
        fail_field(reader, "optimizer", "the name of one", json_object_get(object, "optimizer"));
    if (!reader->failed && (!settings->dtype || !type_named(settings->dtype, &type)))
        fail_field(reader, "dtype", "the name of one", json_object_get(object, "dtype"));
    if (!reader->failed && (!settings->schedule || !schedule_named(settings->schedule, &schedule)))
        fail_field(reader, "schedule", "the name of one", json_object_get(object, "schedule"));
}

static void read_source(struct reader *reader, struct source *source, const json_t *object)
{
    const char *path = text_field(reader, object, "path");
    const char *hash = text_field(reader, object, "fnv1a");
    source->bytes = whole_field(reader, object, "bytes");
    if (!reader->failed && (!path || !hash || strlen(hash) != 16))
        fail_field(reader, "data", "path and fnv1a, a hash of 16 digits", object);
    if (reader->failed)
        return;
    source->hash = strtoull(hash, NULL, 16);
    source->path = strdup(path);
    if (!source->path)
        fail_memory(reader);
}

static void read_sources(struct reader *reader, struct run *run, const json_t *array)
{
    size_t count = json_array_size(array);
    if (count == 0 || count > MAX_SOURCES) {
        fail_field(reader, "data", "an array of files", array);
        return;
    }
    run->data = calloc(count, sizeof *run->data);
    if (!run->data) {
        fail_memory(reader);
        return;
    }
    run->n_data = count;
    for (size_t i = 0; i < count; i++)
        read_source(reader, &run->data[i], json_array_get(array, i));
}

/* Runs of the first version do not say it. */
static enum family read_family(struct reader *reader, const json_t *document)
{
    const json_t *value = json_object_get(document, "model");
    const char *name = value ? json_string_value(value) : families[FAMILY_GPT];
    size_t found = name ? find_name(name, families, FAMILIES) : FAMILIES;
    if (found < FAMILIES)
        return (enum family)found;
    fail_field(reader, "model", "\"gpt\", \"llama\", \"rnn\", \"lstm\" or \"gru\"", value);
    return FAMILY_GPT;
}

static void read_run(struct reader *reader, struct run *run)
{
    const json_t *document = run->document;
    const json_t *best = json_object_get(document, "best_loss");
    const json_t *valid = json_object_get(document, "valid");
    const char *device = text_field(reader, document, "device");
    const char *version = text_field(reader, document, "quern");
    run->step = whole_field(reader, document, "step");
    run->seconds = real_field(reader, document, "seconds");
    run->stale = whole_field(reader, document, "validations_since_best");
    run->best_loss = INFINITY;
    if (!json_is_null(best)) {
        run->best_loss = real_field(reader, document, "best_loss");
        run->best_step = whole_field(reader, document, "best_step");
    }
    run->settings.family = read_family(reader, document);
    read_settings(reader, &run->settings, json_object_get(document, "options"));
    const json_t *by_clock = json_object_get(document, "by_clock");
    if (!json_is_boolean(by_clock))
        fail_field(reader, "by_clock", "true or false", by_clock);
    run->settings.by_clock = json_is_true(by_clock);
    read_sources(reader, run, json_object_get(document, "data"));
    if (!json_is_null(valid))
        read_source(reader, &run->valid, valid);
    run->settings.valid = run->valid.path;
    run->device_name = strdup(device ? device : "");
    run->version = strdup(version ? version : "");
    if (!run->device_name || !run->version)
        fail_memory(reader);
}

bool run_load(struct run *run, const char *folder, char message[RUN_MESSAGE])
{
    *run = (struct run){0};
    char quoted[QUOTED], *path = training_path(folder);
    json_error_t error;
    FILE *file = path ? fopen(path, "re") : NULL;
    int cause = errno;
    run->document = file ? json_loadf(file, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (file)
        fclose(file);
    struct reader reader = {.path = path, .message = message};
    if (!path)
        snprintf(message, RUN_MESSAGE, "out of memory");
    else if (!file)
        snprintf(message, RUN_MESSAGE, "cannot read %s: %s", path, strerror(cause));
    else if (!run->document)
        snprintf(message, RUN_MESSAGE, "%s: not JSON: line %d: %s", path, error.line,
                 quote_string(quoted, error.text));
    else
        read_run(&reader, run);
    bool is_good = run->document && !reader.failed;
    free(path);
    if (!is_good)
        run_release(run);
    return is_good;
}

void run_release(struct run *run)
{
    for (size_t i = 0; i < run->n_data; i++)
        free(run->data[i].path);
    free(run->data);
    free(run->valid.path);
    free(run->device_name);
    free(run->version);
    json_decref(run->document);
    *run = (struct run){0};
}

/* The settings of a training run: from the command line, from training.json and to it. */
#include "cli/train/settings.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <quern/ops.h>

/* ---- Settings, by table ---- */

enum setting_kind { TEXT, TEXT_OR_NULL, WHOLE, REAL };

enum {
    OF_LLAMA = 1 << FAMILY_LLAMA,
    OF_RNN = 1 << FAMILY_RNN,
    OF_RECURRENT = OF_RNN | 1 << FAMILY_LSTM | 1 << FAMILY_GRU,
    OF_DECODERS = 1 << FAMILY_GPT | OF_LLAMA,
    OF_LM = OF_DECODERS | OF_RECURRENT,
    OF_CLASSIFIER = 1 << FAMILY_CLASSIFY,
    OF_SEQ2SEQ = 1 << FAMILY_SEQ2SEQ,
    OF_TRANSFORMER = 1 << FAMILY_TRANSFORMER,
    OF_PAIRS = OF_SEQ2SEQ | OF_TRANSFORMER,
    OF_EXAMPLES = OF_CLASSIFIER | OF_PAIRS,
    OF_ALL = OF_LM | OF_EXAMPLES
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
    OF(OF_DECODERS | OF_TRANSFORMER, "heads", WHOLE, heads),
    SETTING("width", WHOLE, width, false),
    OF(OF_LM, "context", WHOLE, context),
    OF(OF_LLAMA, "kv-heads", WHOLE, kv_heads),
    OF(OF_LLAMA, "theta", REAL, theta),
    OF(OF_LLAMA | OF_RECURRENT | OF_PAIRS, "embeddings", TEXT, embeddings),
    OF(OF_RECURRENT | OF_CLASSIFIER | OF_SEQ2SEQ, "units", WHOLE, units),
    OF(OF_RECURRENT, "state", TEXT, state),
    OF(OF_RNN | OF_CLASSIFIER, "nonlinearity", TEXT, nonlinearity),
    OF(OF_CLASSIFIER | OF_SEQ2SEQ, "model", TEXT, model),
    OF(OF_CLASSIFIER | OF_SEQ2SEQ, "direction", TEXT, direction),
    OF(OF_CLASSIFIER, "pooling", TEXT, pooling),
    OF(OF_CLASSIFIER, "format", TEXT_OR_NULL, format),
    OF(OF_CLASSIFIER, "text", TEXT_OR_NULL, text),
    OF(OF_CLASSIFIER, "label", TEXT_OR_NULL, label),
    OF(OF_EXAMPLES, "damaged", TEXT, damaged),
    OF(OF_EXAMPLES, "max-tokens", WHOLE, most_tokens),
    OF(OF_PAIRS, "target-tokenizer", TEXT, target_tokenizer),
    OF(OF_PAIRS, "vocab", WHOLE, vocabulary),
    OF(OF_PAIRS, "label-smoothing", REAL, label_smoothing),
    OF(OF_SEQ2SEQ, "attention", TEXT, attention),
    OF(OF_SEQ2SEQ, "bridge", TEXT, bridge),
    OF(OF_SEQ2SEQ, "scheduled-sampling", REAL, sampling),
    OF(OF_TRANSFORMER, "norm", TEXT, norm),
    OF(OF_TRANSFORMER, "positions", TEXT, positions),
    OF(OF_TRANSFORMER, "activation", TEXT, activation),
    OF(OF_TRANSFORMER, "inner", WHOLE, inner),
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
    {"eval-batches", WHOLE, offsetof(struct settings, eval_batches), true, OF_LM},
    SETTING("keep", WHOLE, keep, true),
    SETTING("log", TEXT_OR_NULL, log, true),
    SETTING("device", TEXT_OR_NULL, device, true),
    SETTING("gemm", TEXT_OR_NULL, gemm, false),
#undef SETTING
#undef OF
};

enum { SETTINGS = sizeof table / sizeof *table };

static bool is_text(const struct setting *setting)
{
    return setting->kind == TEXT || setting->kind == TEXT_OR_NULL;
}

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
    if (is_text(setting))
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
    if (is_text(setting)) {
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
    size_t bytes = is_text(setting)         ? sizeof(char *)
                   : setting->kind == WHOLE ? sizeof(uint64_t)
                                            : sizeof(double);
    memcpy(field_of(to, setting), field_of_const(from, setting), bytes);
}

static const char *setting_text(char *text, size_t size, const struct settings *settings,
                                const struct setting *setting)
{
    const void *field = field_of_const(settings, setting);
    if (is_text(setting)) {
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

static const char *const families[] = {
    [FAMILY_GPT] = "gpt",         [FAMILY_LLAMA] = "llama",
    [FAMILY_RNN] = "rnn",         [FAMILY_LSTM] = "lstm",
    [FAMILY_GRU] = "gru",         [FAMILY_CLASSIFY] = "classify",
    [FAMILY_SEQ2SEQ] = "seq2seq", [FAMILY_TRANSFORMER] = "transformer"};

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

bool reads_pairs(enum family family)
{
    return OF_PAIRS >> family & 1;
}

/* Whose activations can be computed again. */
static bool has_blocks(enum family family)
{
    return (OF_DECODERS | OF_TRANSFORMER) >> family & 1;
}

bool carries_state(const struct settings *settings)
{
    return settings->state && strcmp(settings->state, "carry") == 0;
}

bool shares_tokenizer(const struct settings *settings)
{
    return strcmp(settings->target_tokenizer, "joint") == 0;
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
        if (!is_text(&table[i]))
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

static bool check_nonlinearity(const struct settings *settings, const struct options *options)
{
    if (!options_given(options, "nonlinearity") || strcmp(settings->model, "rnn") == 0)
        return true;
    usage_error(options, "--nonlinearity means nothing to --model %s; it is for rnn",
                settings->model);
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
    *run = (struct run){.settings = {.family = family}, .best_loss = INFINITY, .best_bleu = NAN};
    for (size_t i = 0; i < SETTINGS; i++)
        if (applies(&table[i], family))
            read_option(settings, &table[i], options);
    if (settings->kv_heads == 0)
        settings->kv_heads = settings->heads;
    bool has_end = options_given(options, "steps") || options_given(options, "time");
    if (options_given(options, "epochs") || !has_end)
        settings->epochs = (uint64_t)options_integer(options, "epochs"); /* 0: no default */
    settings->by_clock =
        options_given(options, "time") && !options_given(options, "steps") && settings->epochs == 0;
    settings->checkpoint = has_blocks(family) && options_flag(options, "checkpoint-activations");
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
    bool is_good = true;
    if (is_recurrent(family))
        is_good = check_tied(settings, options) && check_state(settings, options);
    else if (has_blocks(family))
        is_good = check_heads(settings, options) && check_shared_heads(settings, options);
    else if (family == FAMILY_CLASSIFY)
        is_good = check_nonlinearity(settings, options);
    else if (family == FAMILY_SEQ2SEQ)
        is_good = check_tied(settings, options);
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
    kept->checkpoint = has_blocks(family) && options_flag(options, "checkpoint-activations");
    return check_texts(kept, options);
}

/* ---- training.json ---- */

json_t *settings_json(const struct settings *settings)
{
    json_t *object = json_object();
    for (size_t i = 0; i < SETTINGS; i++) {
        if (!applies(&table[i], settings->family))
            continue;
        const void *field = field_of_const(settings, &table[i]);
        json_t *value;
        if (is_text(&table[i])) {
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

/* So are the words of one that takes only certain ones. */
static void check_word(struct reader *reader, const struct setting *setting, const json_t *value,
                       enum family family)
{
    const struct option *option = find_option(setting->name, family);
    const char *word = json_string_value(value);
    if (!word && setting->kind == TEXT)
        fail_field(reader, setting->name, "a string", value);
    else if (word && !option_allows_word(option, word))
        fail_field(reader, setting->name, option->placeholder, value);
}

void settings_read(struct reader *reader, struct settings *settings, const json_t *object)
{
    if (!json_is_object(object))
        fail_field(reader, "options", "an object", object);
    for (size_t i = 0; i < SETTINGS && !reader->failed; i++) {
        void *field = field_of(settings, &table[i]);
        const char *name = table[i].name;
        if (!applies(&table[i], settings->family))
            continue;
        const json_t *value = json_object_get(object, name);
        if (is_text(&table[i])) {
            *(const char **)field = text_field(reader, object, name);
            check_word(reader, &table[i], value, settings->family);
        } else if (table[i].kind == WHOLE) {
            *(uint64_t *)field = whole_field(reader, object, name);
            check_bounds(reader, name, value, settings->family);
        } else {
            *(double *)field = real_field(reader, object, name);
            check_bounds(reader, name, value, settings->family);
        }
    }
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

/* The state of a training run, and training.json. */
#include "config.h"

#include "cli/train/settings.h"
#include "cli/train/sources.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>
#include "io/fields.h"
#include "io/file.h"

/* ---- To training.json ---- */

static json_t *source_json(const struct source *source)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, source->hash);
    return json_pack("{s:s, s:I, s:s}", "path", source->path, "bytes", (json_int_t)source->bytes,
                     "fnv1a", hash);
}

static json_t *sources_json(const struct sources *sources)
{
    json_t *array = json_array();
    for (size_t i = 0; i < sources->count; i++)
        if (json_array_append_new(array, source_json(&sources->at[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *run_json(const struct run *run, const qn_context *qn)
{
    bool has_best = isfinite(run->best_loss);
    const char *tuning = qn_tuning_hash(qn);
    json_t *device = json_string(qn_device_name(qn)); /* NULL: the driver's text is not UTF-8 */
    return json_pack("{s:s, s:s, s:o, s:o, s:I, s:f, s:o, s:o, s:o, s:I, s:b, s:o, s:o, s:o}",
                     "quern", PACKAGE_VERSION, "model", family_name(run->settings.family), "device",
                     device ? device : json_string(""), "tuning",
                     *tuning ? json_string(tuning) : json_null(), "step", (json_int_t)run->step,
                     "seconds", run->seconds, "best_loss",
                     has_best ? json_real(run->best_loss) : json_null(), "best_bleu",
                     isfinite(run->best_bleu) ? json_real(run->best_bleu) : json_null(),
                     "best_step", has_best ? json_integer((json_int_t)run->best_step) : json_null(),
                     "validations_since_best", (json_int_t)run->stale, "by_clock",
                     (int)run->settings.by_clock, "options", settings_json(&run->settings), "data",
                     sources_json(&run->data), "valid", sources_json(&run->valid));
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

bool run_save(const struct run *run, const char *folder, const qn_context *qn,
              char message[RUN_MESSAGE])
{
    char *path = training_path(folder);
    json_t *document = run_json(run, qn);
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

void fail_field(struct reader *reader, const char *key, const char *expected, const json_t *value)
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

uint64_t whole_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        fail_field(reader, key, "a whole number", value);
        return 0;
    }
    return (uint64_t)json_integer_value(value);
}

double real_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_field(reader, key, "a number", value);
    return json_number_value(value);
}

const char *text_field(struct reader *reader, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) && !json_is_null(value))
        fail_field(reader, key, "a string", value);
    return json_string_value(value);
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

static void read_sources(struct reader *reader, struct sources *sources, const char *key,
                         const json_t *array)
{
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > MAX_SOURCES) {
        fail_field(reader, key, "an array of files", array);
        return;
    }
    sources->at = calloc(count + 1, sizeof *sources->at);
    if (!sources->at) {
        fail_memory(reader);
        return;
    }
    sources->count = count;
    for (size_t i = 0; i < count; i++)
        read_source(reader, &sources->at[i], json_array_get(array, i));
}

/* Runs of the first versions have one file or null. */
static void read_valid(struct reader *reader, struct run *run, const json_t *valid)
{
    json_t *array = json_is_object(valid) ? json_pack("[O]", valid)
                    : json_is_null(valid) ? json_array()
                                          : json_incref((json_t *)valid);
    read_sources(reader, &run->valid, "valid", array);
    json_decref(array);
}

/* Runs of the first version do not say it. */
static enum family read_family(struct reader *reader, const json_t *document)
{
    const json_t *value = json_object_get(document, "model");
    const char *name = value ? json_string_value(value) : family_name(FAMILY_GPT);
    enum family family = name ? family_named(name) : FAMILIES;
    if (family != FAMILIES)
        return family;
    fail_field(reader, "model", "what `quern train` trains", value);
    return FAMILY_GPT;
}

/* Runs of the first versions do not say it: they had none. */
static const char *read_tuning(struct reader *reader, const json_t *document)
{
    const char *hash =
        json_object_get(document, "tuning") ? text_field(reader, document, "tuning") : NULL;
    return hash ? hash : "";
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
    run->best_bleu = NAN;
    if (!json_is_null(best)) {
        run->best_loss = real_field(reader, document, "best_loss");
        run->best_step = whole_field(reader, document, "best_step");
        if (json_is_number(json_object_get(document, "best_bleu")))
            run->best_bleu = real_field(reader, document, "best_bleu");
    }
    run->settings.family = read_family(reader, document);
    settings_read(reader, &run->settings, json_object_get(document, "options"));
    const json_t *by_clock = json_object_get(document, "by_clock");
    if (!json_is_boolean(by_clock))
        fail_field(reader, "by_clock", "true or false", by_clock);
    run->settings.by_clock = json_is_true(by_clock);
    read_sources(reader, &run->data, "data", json_object_get(document, "data"));
    if (!reader->failed && run->data.count == 0)
        fail_field(reader, "data", "an array of files", json_object_get(document, "data"));
    read_valid(reader, run, valid);
    run->device_name = strdup(device ? device : "");
    run->version = strdup(version ? version : "");
    run->tuning = strdup(read_tuning(reader, document));
    if (!run->device_name || !run->version || !run->tuning)
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
    sources_release(&run->data);
    sources_release(&run->valid);
    free(run->device_name);
    free(run->version);
    free(run->tuning);
    json_decref(run->document);
    *run = (struct run){0};
}

/* The report for programs: doc/bench.md says what each key is. */
#include "config.h"

#include "cli/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "commit.h"
#include "io/file.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static json_t *argv_json(const struct options *options)
{
    int count;
    char *const *words = options_words(options, &count);
    json_t *array = json_pack("[s, s]", "quern", "bench");
    for (int i = 0; i < count; i++)
        json_array_append_new(array, text_json(words[i]));
    return array;
}

static json_t *environment_json(void)
{
    json_t *object = json_object();
    for (char **variable = environ; *variable; variable++) {
        char name[64];
        size_t length = strcspn(*variable, "=");
        if (strncmp(*variable, "QUERN_", strlen("QUERN_")) != 0 || length >= sizeof name)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)length, *variable);
        json_object_set_new(object, name, text_json(*variable + length + 1));
    }
    return object;
}

/* What changes figures; argv has the rest. */
static json_t *options_json(const struct bench *bench)
{
    const struct options *options = bench->options;
    return json_pack("{s:f, s:i, s:s, s:o, s:s, s:o, s:o}", "seconds", bench->seconds, "rounds",
                     ROUNDS, "gemm", options_string(options, "gemm"), "tuning",
                     text_json(bench->tuning), "suite", suite_names[bench->suite], "groups",
                     groups_json(options), "shapes", text_json(options_string(options, "shapes")));
}

/* "model name : ..." of /proc/cpuinfo, where there is one. */
static json_t *processor_json(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    json_t *name = NULL;
    while (file && !name && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (colon && strncmp(line, "model name", strlen("model name")) == 0)
            name = text_json(colon + 1 + strspn(colon + 1, " "));
    }
    if (file)
        fclose(file);
    return name ? name : json_null();
}

static json_t *host_json(void)
{
    struct utsname system;
    if (uname(&system) != 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:I}", "os", text_json(system.sysname), "kernel",
                     text_json(system.release), "machine", text_json(system.machine), "cpu",
                     processor_json(), "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
}

/* By its numbers: two of a kind have the same names. */
const struct qn_device *open_device(const struct bench *bench, const qn_device_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->devices[i].selector, bench->selector) == 0)
            return &list->devices[i];
    return NULL;
}

static json_t *open_device_json(const struct bench *bench)
{
    qn_device_list *list = qn_device_list_new();
    const struct qn_device *device = list ? open_device(bench, list) : NULL;
    json_t *object =
        device ? device_json(device) : json_pack("{s:o}", "device", text_json(bench->device));
    qn_device_list_free(list);
    return object;
}

static json_t *real_json(double number)
{
    return isfinite(number) && number != 0 ? json_real(number) : json_null();
}

static json_t *peaks_json(const struct peaks *peaks)
{
    json_t *copies = json_array();
    for (size_t i = 0; i < COPY_PEAKS; i++)
        json_array_append_new(copies,
                              json_pack("{s:o, s:o}", "bytes", real_json(peaks->copies[i].moved),
                                        "bytes_per_s", real_json(peaks->copies[i].rate)));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "flops_per_s",
                     real_json(flops_peak(peaks)), "bf16_flops_per_s",
                     real_json(bf16_flops_peak(peaks)), "fma_flops_per_s",
                     real_json(peaks->fma_flops), "gemm_flops_per_s", real_json(peaks->gemm_flops),
                     "matrix_bf16_flops_per_s", real_json(peaks->matrix_bf16_flops),
                     "gemm_bf16_flops_per_s", real_json(peaks->gemm_bf16_flops), "copies", copies,
                     "launch_s", real_json(peaks->launch_s));
}

static json_t *losses_json(const double *losses)
{
    json_t *array = json_array();
    for (size_t i = 0; i < CHECKED_STEPS; i++)
        json_array_append_new(array, json_real(losses[i]));
    return array;
}

static void add_training(json_t *object, const struct row *row)
{
    json_t *memory =
        json_pack("{s:I, s:I, s:I}", "arena", (json_int_t)row->memory.arena, "tensors",
                  (json_int_t)row->memory.tensors, "kept", (json_int_t)row->memory.kept);
    json_object_set_new(object, "model_flops", real_json(row->model_flops));
    json_object_set_new(object, "model_flops_per_s",
                        real_json(row->model_flops / row->timing.median.value));
    json_object_set_new(object, "cold_start_s", real_json(row->cold_start_s));
    json_object_set_new(object, "memory_bytes", memory);
    json_object_set_new(object, "losses", losses_json(row->losses));
    json_object_set_new(object, "reference_losses", losses_json(reference_losses(row)));
}

/* A list for each round. */
static json_t *samples_json(const struct timing *timing)
{
    json_t *rounds = json_array();
    for (size_t i = 0, at = 0; i < timing->rounds; i++) {
        json_t *samples = json_array();
        for (; at < timing->ends[i]; at++)
            json_array_append_new(samples, json_real(timing->samples[at]));
        json_array_append_new(rounds, samples);
    }
    return rounds;
}

static json_t *row_json(const struct bench *bench, const struct row *row)
{
    static const char *const units[] = {
        [FLOPS] = "FLOP/s", [BYTES] = "B/s", [TOKENS] = "tokens/s", [NO_UNIT] = ""};
    const struct timing *timing = &row->timing;
    if (*row->reason)
        return json_pack("{s:s, s:s, s:o}", "id", row->id, "status", "void", "reason",
                         text_json(row->reason));
    json_t *object = json_pack(
        "{s:s, s:s, s:n, s:o, s:f, s:[f, f], s:f, s:[f, f], s:f, s:I, s:o, s:o, s:o, s:o}", "id",
        row->id, "status", "ok", "reason", "samples_s", samples_json(timing), "median_s",
        timing->median.value, "median_ci_s", timing->median.low, timing->median.high, "quiet_s",
        timing->quiet.value, "quiet_ci_s", timing->quiet.low, timing->quiet.high, "best_s",
        timing->best, "runs_per_sample", (json_int_t)(timing->runs ? timing->runs : 1), "amount",
        real_json(row->amount), "rate", real_json(row_rate(row)), "unit",
        text_json(units[row->unit]), "of_peak", real_json(row->of_peak));
    if (row->unit == TOKENS)
        json_object_set_new(object, "tokens_per_s", real_json(row_rate(row)));
    if (row->table == TABLE_TRAINING)
        add_training(object, row);
    if (row->kernels)
        json_object_set(object, "kernels", row->kernels);
    double theirs = bench->against ? against_rate(bench->against, row) : 0;
    if (theirs > 0)
        json_object_set_new(object, "their_rate", json_real(theirs));
    return object;
}

static json_t *given_json(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static json_t *sensors_json(const struct bench *bench)
{
    const char *source = sensors_source(bench->sensors), *reason = sensors_reason(bench->sensors);
    json_t *samples = json_array();
    for (size_t i = 0; source && i < bench->n_readings; i++) {
        const struct sensor_reading *reading = &bench->readings[i];
        json_array_append_new(samples,
                              json_pack("{s:f, s:o, s:o, s:o}", "seconds", reading->seconds,
                                        "clock_mhz", given_json(reading->value[CLOCK]),
                                        "temperature_c", given_json(reading->value[TEMPERATURE]),
                                        "power_w", given_json(reading->value[POWER])));
    }
    return json_pack("{s:o, s:o, s:o}", "source", text_json(source), "reason", text_json(reason),
                     "samples", samples);
}

/* Rows that were timed, or are void; rows that were left out. */
static json_t *results_json(const struct bench *bench)
{
    json_t *results = json_array();
    for (size_t i = 0; i < bench->n_rows; i++)
        if (!bench->rows[i].is_left_out)
            json_array_append_new(results, row_json(bench, &bench->rows[i]));
    return results;
}

static json_t *left_out_json(const struct bench *bench)
{
    json_t *left_out = json_array();
    for (size_t i = 0; i < bench->n_rows; i++)
        if (bench->rows[i].is_left_out)
            json_array_append_new(left_out, json_pack("{s:s, s:o}", "id", bench->rows[i].id,
                                                      "reason", text_json(bench->rows[i].reason)));
    return left_out;
}

void time_text(char text[TIME_TEXT])
{
    time_t now = time(NULL);
    struct tm utc;
    strftime(text, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
}

bool report_json(const struct bench *bench, const char *path, char message[WRITE_MESSAGE])
{
    char finished[TIME_TEXT];
    time_text(finished);
    json_t *all = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s, s:o, s:s}, s:o, s:o, s:o, s:o, s:o, s:o}",
        "schema", "quern.bench/1", "started", bench->started, "finished", finished, "argv",
        argv_json(bench->options), "env", environment_json(), "options", options_json(bench),
        "build", "version", PACKAGE_VERSION, "compiler", COMPILER, "commit",
        text_json(QUERN_COMMIT), "kernels", bench->kernels, "host", host_json(), "device",
        open_device_json(bench), "peaks", peaks_json(&bench->peaks), "sensors", sensors_json(bench),
        "results", results_json(bench), "left_out", left_out_json(bench));
    return json_write(all, path, message);
}

bool text_write(const char *text, const char *path, char message[WRITE_MESSAGE])
{
    qn_context *files = qn_open("none");
    struct file_writer writer;
    int status = files ? file_create(&writer, files, path) : QN_ERROR_MEMORY;
    if (status == QN_OK && !text)
        file_discard(&writer);
    if (status == QN_OK && text)
        status = file_append(&writer, text, strlen(text));
    if (status == QN_OK && text)
        status = file_commit(&writer);
    if (status != QN_OK)
        snprintf(message, WRITE_MESSAGE, "%s", qn_error(files));
    qn_close(files);
    return status == QN_OK;
}

static bool is_page(const char *path)
{
    static const char *const begins[] = {"<!doctype html", "<html"};
    char text[64] = "";
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncasecmp(text + strspn(text, " \t\r\n"), begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* Whether the file is JSON of any version of a schema. */
static bool has_schema(const char *path, const char *schema)
{
    json_t *document = json_load_file(path, 0, NULL);
    const char *found = json_string_value(json_object_get(document, "schema"));
    bool is_found = found && strncmp(found, schema, strlen(schema)) == 0;
    json_decref(document);
    return is_found;
}

bool may_write(enum written kind, const char *path, char message[WRITE_MESSAGE])
{
    static const struct {
        const char *name, *schema;
    } kinds_written[] = {
        [WRITTEN_REPORT] = {"report of quern bench", "quern.bench/"},
        [WRITTEN_COMPARISON] = {"comparison of quern bench compare", "quern.bench.compare/"},
        [WRITTEN_PAGE] = {"page of HTML", NULL},
    };
    const char *schema = kinds_written[kind].schema;
    struct stat status;
    bool is_there = stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    if (is_there && !(schema ? has_schema(path, schema) : is_page(path))) {
        snprintf(message, WRITE_MESSAGE,
                 "%s is there, and is no %s: name another file, or remove this one first", path,
                 kinds_written[kind].name);
        return false;
    }
    return text_write(NULL, path, message);
}

bool json_write(json_t *document, const char *path, char message[WRITE_MESSAGE])
{
    char *text = document ? json_dumps(document, JSON_INDENT(1)) : NULL;
    json_decref(document);
    bool is_written = text != NULL;
    if (is_written)
        is_written = text_write(text, path, message);
    else
        snprintf(message, WRITE_MESSAGE, "out of memory");
    free(text);
    return is_written;
}

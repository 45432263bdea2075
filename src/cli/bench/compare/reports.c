/* Reading reports of quern bench, from JSON or from a page.  Files may come from anywhere: all that is used later is checked here. */
#include "cli/bench/compare/compare.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench/compare/markup.h"
#include "io/file.h"

/* Far above what a run makes; bounds what a hostile file can make us do. */
enum { MOST_LISTED = 10000, MOST_ITEMS = 10000, MOST_KERNELS = 1000, WHERE = 64 };
static const size_t most_bytes = (size_t)256 << 20;
static const double most_seconds = 1e9, most_work = 1e24;

/* ---- What is wrong ---- */

struct reading {
    struct reports *reports;
    const char *path;
    char place[WHERE]; /* in a page: "reports[1]: "; else "" */
};

static bool wrong(const struct reading *reading, const char *format, ...) CLI_FORMAT(2, 3);

static bool wrong(const struct reading *reading, const char *format, ...)
{
    char *message = reading->reports->message;
    int used = snprintf(message, REPORTS_MESSAGE, "%s: %s", reading->path, reading->place);
    if (used < 0 || used >= REPORTS_MESSAGE)
        return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message + used, REPORTS_MESSAGE - (size_t)used, format, arguments);
    va_end(arguments);
    for (char *p = message; *p; p++) /* jansson quotes what it does not understand */
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            *p = '?';
    return false;
}

/* A number within bounds, or not known. */
static bool check_key(const struct reading *reading, const char *where, const json_t *object,
                      const char *key, double least, double most)
{
    const json_t *value = json_object_get(object, key);
    double number = json_number_value(value);
    if (!value || json_is_null(value) ||
        (json_is_number(value) && number >= least && number <= most))
        return true;
    return wrong(reading, "%s.%s is no number from %g to %g", where, key, least, most);
}

/* A list, or not known. */
static bool check_list(const struct reading *reading, const char *where, const json_t *list,
                       size_t most)
{
    if (!list || json_is_null(list) || (json_is_array(list) && json_array_size(list) <= most))
        return true;
    return wrong(reading, "%s is no list of at most %zu", where, most);
}

/* ---- Results ---- */

/* What a run can take, and whose ratios are finite. */
static bool is_seconds(const json_t *value)
{
    return json_is_number(value) && json_number_value(value) > 1e-12 &&
           json_number_value(value) < most_seconds;
}

static bool read_estimate(const struct reading *reading, const char *where, const json_t *json,
                          const char *name, const char *interval, struct estimate *estimate)
{
    const json_t *value = json_object_get(json, name), *bounds = json_object_get(json, interval);
    const json_t *low = json_array_get(bounds, 0), *high = json_array_get(bounds, 1);
    if (!is_seconds(value))
        return wrong(reading, "%s.%s is no time in seconds", where, name);
    if (json_array_size(bounds) != 2 || !is_seconds(low) || !is_seconds(high))
        return wrong(reading, "%s.%s is no pair of times in seconds", where, interval);
    *estimate = (struct estimate){json_number_value(value), json_number_value(low),
                                  json_number_value(high)};
    if (estimate->low > estimate->value || estimate->value > estimate->high)
        return wrong(reading, "%s.%s is not around %s", where, interval, name);
    return true;
}

/* Ids are printed: letters, digits and a few signs. */
static bool is_id(const char *id)
{
    return id && *id && strlen(id) < ROW_ID &&
           id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+- ")] ==
               '\0';
}

static bool check_losses(const struct reading *reading, const char *where, const json_t *json,
                         const char *key)
{
    char place[2 * WHERE];
    const json_t *list = json_object_get(json, key);
    snprintf(place, sizeof place, "%s.%s", where, key);
    if (!check_list(reading, place, list, MOST_ITEMS))
        return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *loss = json_array_get(list, i);
        if (!json_is_number(loss) || fabs(json_number_value(loss)) > 1e9)
            return wrong(reading, "%s[%zu] is no loss", place, i);
    }
    return true;
}

static bool check_kernels(const struct reading *reading, const char *where, const json_t *kernels)
{
    char place[2 * WHERE];
    snprintf(place, sizeof place, "%s.kernels", where);
    if (!check_list(reading, place, kernels, MOST_KERNELS))
        return false;
    for (size_t i = 0; i < json_array_size(kernels); i++) {
        const json_t *kernel = json_array_get(kernels, i);
        snprintf(place, sizeof place, "%s.kernels[%zu]", where, i);
        if (!json_is_string(json_object_get(kernel, "name")))
            return wrong(reading, "%s.name is no text", place);
        if (!check_key(reading, place, kernel, "launches", 0, most_work) ||
            !check_key(reading, place, kernel, "seconds", 0, most_seconds) ||
            !check_key(reading, place, kernel, "flops", 0, most_work) ||
            !check_key(reading, place, kernel, "bytes", 0, most_work))
            return false;
    }
    return true;
}

static bool read_figures(const struct reading *reading, const char *where, const json_t *json,
                         struct result *result)
{
    const char *unit = json_string_value(json_object_get(json, "unit"));
    const json_t *memory = json_object_get(json, "memory_bytes");
    char place[2 * WHERE];
    snprintf(place, sizeof place, "%s.memory_bytes", where);
    if (!check_key(reading, where, json, "amount", 0, most_work) ||
        !check_key(reading, where, json, "of_peak", 0, 1e6) ||
        !check_key(reading, where, json, "cold_start_s", 0, most_seconds) ||
        !check_key(reading, place, memory, "arena", 0, most_work) ||
        !check_key(reading, place, memory, "tensors", 0, most_work) ||
        !check_losses(reading, where, json, "losses") ||
        !check_losses(reading, where, json, "reference_losses") ||
        !check_kernels(reading, where, json_object_get(json, "kernels")))
        return false;
    result->unit = unit ? unit : "";
    result->amount = json_number_value(json_object_get(json, "amount"));
    result->of_peak = json_number_value(json_object_get(json, "of_peak"));
    return read_estimate(reading, where, json, "median_s", "median_ci_s", &result->median) &&
           read_estimate(reading, where, json, "quiet_s", "quiet_ci_s", &result->quiet);
}

/* A new row, without figures; NULL if there must not be one of its id. */
static struct result *add_result(const struct reading *reading, const char *where,
                                 struct bench_report *report, const json_t *json)
{
    struct result *result = &report->results[report->n_results];
    *result = (struct result){.id = json_string_value(json_object_get(json, "id")), .json = json};
    if (!is_id(result->id)) {
        wrong(reading, "%s.id is no name of a row", where);
        return NULL;
    }
    if (report_find(report, result->id)) {
        wrong(reading, "%s: there is a row %s already", where, result->id);
        return NULL;
    }
    if (json_object_set_new(report->places, result->id,
                            json_integer((json_int_t)report->n_results)) != 0) {
        wrong(reading, "out of memory");
        return NULL;
    }
    report->n_results++;
    return result;
}

static const char *reason_of(const json_t *json)
{
    const char *reason = json_string_value(json_object_get(json, "reason"));
    return reason ? reason : "no reason given";
}

static bool read_result(const struct reading *reading, const char *where,
                        struct bench_report *report, json_t *json)
{
    const char *status = json_string_value(json_object_get(json, "status"));
    struct result *result = add_result(reading, where, report, json);
    json_object_del(json, "samples_s"); /* many, and of no use here */
    if (!result)
        return false;
    if (status && strcmp(status, "ok") == 0)
        return read_figures(reading, where, json, result);
    if (!status || strcmp(status, "void") != 0)
        return wrong(reading, "%s.status is neither ok nor void", where);
    result->reason = reason_of(json);
    return true;
}

static bool read_left_out(const struct reading *reading, const char *where,
                          struct bench_report *report, json_t *json)
{
    struct result *result = add_result(reading, where, report, json);
    if (!result)
        return false;
    result->reason = reason_of(json);
    result->is_left_out = true;
    return true;
}

typedef bool read_item(const struct reading *reading, const char *where,
                       struct bench_report *report, json_t *json);

static bool read_items(const struct reading *reading, struct bench_report *report,
                       const char *section, read_item *read)
{
    const json_t *list = report_section(report, section);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[WHERE];
        snprintf(where, sizeof where, "%s[%zu]", section, i);
        if (!read(reading, where, report, json_array_get(list, i)))
            return false;
    }
    return true;
}

static bool read_results(const struct reading *reading, struct bench_report *report)
{
    const json_t *list = report_section(report, "results"),
                 *left_out = report_section(report, "left_out");
    if (!json_is_array(list) || json_array_size(list) > MOST_LISTED)
        return wrong(reading, "results is no list of at most %d", MOST_LISTED);
    if (!check_list(reading, "left_out", left_out, MOST_LISTED))
        return false;
    report->results =
        calloc(json_array_size(list) + json_array_size(left_out) + 1, sizeof *report->results);
    report->places = json_object();
    if (!report->results || !report->places)
        return wrong(reading, "out of memory");
    return read_items(reading, report, "results", read_result) &&
           read_items(reading, report, "left_out", read_left_out);
}

/* ---- What else a report has ---- */

static bool check_peaks(const struct reading *reading, const json_t *peaks)
{
    const json_t *copies = json_object_get(peaks, "copies");
    char where[WHERE];
    if (!check_key(reading, "peaks", peaks, "flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "bf16_flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "fma_flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "gemm_flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "matrix_bf16_flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "gemm_bf16_flops_per_s", 1, most_work) ||
        !check_key(reading, "peaks", peaks, "launch_s", 0, most_seconds) ||
        !check_list(reading, "peaks.copies", copies, MOST_ITEMS))
        return false;
    for (size_t i = 0; i < json_array_size(copies); i++) {
        const json_t *copy = json_array_get(copies, i);
        snprintf(where, sizeof where, "peaks.copies[%zu]", i);
        if (!check_key(reading, where, copy, "bytes", 0, most_work) ||
            !check_key(reading, where, copy, "bytes_per_s", 1, most_work))
            return false;
    }
    return true;
}

static bool check_sensors(const struct reading *reading, const json_t *sensors)
{
    const json_t *samples = json_object_get(sensors, "samples");
    char where[WHERE];
    if (!check_list(reading, "sensors.samples", samples, 100 * MOST_ITEMS))
        return false;
    for (size_t i = 0; i < json_array_size(samples); i++) {
        const json_t *sample = json_array_get(samples, i);
        snprintf(where, sizeof where, "sensors.samples[%zu]", i);
        if (!check_key(reading, where, sample, "seconds", 0, most_seconds) ||
            !check_key(reading, where, sample, "clock_mhz", 0, 1e6) ||
            !check_key(reading, where, sample, "temperature_c", -273, 1e4) ||
            !check_key(reading, where, sample, "power_w", 0, 1e6))
            return false;
    }
    return true;
}

/* ---- Files ---- */

/* Takes the document over. */
static bool add_report(const struct reading *reading, json_t *name, json_t *document)
{
    static const char schema[] = "quern.bench/1";
    struct reports *reports = reading->reports;
    const char *found = json_string_value(json_object_get(document, "schema"));
    if (!found || strcmp(found, schema) != 0)
        return wrong(reading, "no report of quern bench: its schema is not \"%s\"", schema);
    if (reports->count == MOST_REPORTS)
        return wrong(reading, "more than %d reports", MOST_REPORTS);
    struct bench_report *report = &reports->at[reports->count++];
    *report =
        (struct bench_report){.json = json_pack("{s:O, s:O}", "name", name, "report", document)};
    if (!report->json)
        return wrong(reading, "out of memory");
    report->name = json_string_value(name);
    return check_peaks(reading, report_section(report, "peaks")) &&
           check_sensors(reading, report_section(report, "sensors")) &&
           read_results(reading, report);
}

static bool add_page(struct reading *reading, const json_t *embedded)
{
    const json_t *list = json_object_get(embedded, "reports");
    if (json_array_size(list) == 0)
        return wrong(reading, "the page has no list of reports");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_t *name = json_object_get(item, "name");
        snprintf(reading->place, sizeof reading->place, "reports[%zu]: ", i);
        if (!json_is_string(name))
            return wrong(reading, "name is no text");
        if (!add_report(reading, name, json_object_get(item, "report")))
            return false;
    }
    return true;
}

/* The JSON in a page that we wrote, and its length; NULL: there is none. */
static const char *embedded_in(const char *text, size_t *bytes)
{
    const char *begin = strstr(text, markup_reports_begin);
    begin = begin ? begin + strlen(markup_reports_begin) : NULL;
    const char *end = begin ? strstr(begin, markup_reports_end) : NULL;
    *bytes = end ? (size_t)(end - begin) : 0;
    return end ? begin : NULL;
}

static bool read_text(struct reading *reading, const char *text, size_t bytes)
{
    json_error_t error;
    bool is_page = text[strspn(text, " \t\r\n")] == '<';
    const char *json = is_page ? embedded_in(text, &bytes) : text;
    if (!json)
        return wrong(reading, "no page of quern bench compare: it has no reports, or is cut short");
    json_t *document = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!document)
        return wrong(reading, "line %d: %s", error.line, error.text);
    json_t *name = text_json(reading->path);
    bool is_good = is_page ? add_page(reading, document) : add_report(reading, name, document);
    json_decref(name);
    json_decref(document);
    return is_good;
}

bool reports_read(struct reports *reports, const char *path)
{
    struct reading reading = {reports, path, ""};
    qn_context *files = qn_open("none");
    size_t bytes;
    char *text = files ? file_read(files, path, most_bytes, &bytes) : NULL;
    bool is_read = text != NULL;
    if (text)
        is_read = read_text(&reading, text, bytes);
    else
        snprintf(reports->message, sizeof reports->message, "%s", qn_error(files));
    free(text);
    qn_close(files);
    return is_read;
}

void report_release(struct bench_report *report)
{
    free(report->results);
    json_decref(report->places);
    json_decref(report->json);
    *report = (struct bench_report){0};
}

void reports_release(struct reports *reports)
{
    for (size_t i = 0; i < reports->count; i++)
        report_release(&reports->at[i]);
    reports->count = 0;
}

/* ---- Use ---- */

json_t *report_section(const struct bench_report *report, const char *name)
{
    return json_object_get(json_object_get(report->json, "report"), name);
}

size_t report_failures(const struct bench_report *report, bool left_out)
{
    size_t count = 0;
    for (size_t i = 0; i < report->n_results; i++)
        count += report->results[i].reason && report->results[i].is_left_out == left_out;
    return count;
}

bool has_older_shares(const struct bench_report *report)
{
    const json_t *peaks = report_section(report, "peaks");
    return json_is_number(json_object_get(peaks, "gemm_flops_per_s")) &&
           !json_object_get(peaks, "flops_per_s");
}

const struct result *report_find(const struct bench_report *report, const char *id)
{
    const json_t *place = json_object_get(report->places, id);
    return place ? &report->results[json_integer_value(place)] : NULL;
}

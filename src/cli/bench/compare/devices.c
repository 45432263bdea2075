/* What each report says of its device, and how to measure it again. */
#include "cli/bench/compare/page.h"

#include <stdlib.h>
#include <string.h>

/* ---- Commands ---- */

/* A word between quotation marks, as a shell reads it; free() it.  NULL: out of memory. */
static char *quoted(const char *word)
{
    static const char mark[] = "'\\''";
    char *text = malloc(strlen(mark) * strlen(word) + sizeof "''"), *end = text;
    if (!text)
        return NULL;
    *end++ = '\'';
    for (; *word; word++) {
        bool is_mark = *word == '\'';
        memcpy(end, is_mark ? mark : word, is_mark ? strlen(mark) : 1);
        end += is_mark ? strlen(mark) : 1;
    }
    strcpy(end, "'");
    return text;
}

static void put_word(FILE *file, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-=:,@";
    bool is_plain = *word && word[strspn(word, plain)] == '\0';
    char *text = is_plain ? NULL : quoted(word);
    markup(file, "%s", text ? text : word);
    free(text);
}

void put_repeat(FILE *file, const struct reports *reports)
{
    markup(file, "<p>To make this page again:</p>\n<pre>quern bench compare");
    for (size_t i = 0; i < reports->count; i++) {
        markup(file, " ");
        put_word(file, reports->at[i].name);
    }
    markup(file, " --html page.html</pre>\n");
}

/* What measured it. */
static void put_command(FILE *file, const struct bench_report *report)
{
    const json_t *argv = report_section(report, "argv");
    const char *name;
    json_t *value;
    if (json_array_size(argv) == 0)
        return;
    markup(file, "<pre>");
    json_object_foreach (report_section(report, "env"), name, value) {
        markup(file, "%s=", name);
        put_word(file, json_is_string(value) ? json_string_value(value) : "");
        markup(file, " ");
    }
    for (size_t i = 0; i < json_array_size(argv); i++) {
        const char *word = json_string_value(json_array_get(argv, i));
        markup(file, i ? " " : "");
        put_word(file, word ? word : "");
    }
    markup(file, "</pre>\n");
}

/* ---- What differs ---- */

void put_differing(FILE *file, const struct bench_comparison *comparison)
{
    size_t count = comparison->reports->count;
    const char *key;
    json_t *values;
    if (json_object_size(comparison->differing) == 0)
        return;
    markup(file, "<section id=\"differs\"><h2>What differs</h2>\n<div class=\"scroll\"><table "
                 "class=\"text\">\n<thead><tr><th scope=\"col\">key</th>");
    for (size_t i = 0; i < count; i++) {
        markup(file, "<th scope=\"col\">");
        put_letter(file, i);
        markup(file, "</th>");
    }
    markup(file, "</tr></thead>\n<tbody>\n");
    json_object_foreach (comparison->differing, key, values) {
        markup(file, "<tr><th scope=\"row\">");
        markup_breakable(file, key);
        markup(file, "</th>");
        for (size_t i = 0; i < count; i++) {
            markup(file, "<td>");
            put_value(file, json_array_get(values, i));
            markup(file, "</td>");
        }
        markup(file, "</tr>\n");
    }
    markup(file, "</tbody></table></div></section>\n");
}

/* ---- Devices ---- */

static void put_fact(FILE *file, const char *name, const json_t *value)
{
    if (!value || json_is_null(value))
        return;
    markup(file, "<dt>%s</dt><dd>", name);
    put_value(file, value);
    markup(file, "</dd>\n");
}

static void put_quantity(FILE *file, const char *name, double value, const char *unit)
{
    char text[QUANTITY];
    if (value > 0)
        markup(file, "<dt>%s</dt><dd>%s</dd>\n", name, quantity(text, value, unit));
}

/* Binary, as everywhere: rates alone are decimal. */
static void put_size(FILE *file, const char *name, double bytes)
{
    char text[NUMBER_TEXT];
    if (bytes > 0)
        markup(file, "<dt>%s</dt><dd>%s</dd>\n", name, bytes_text(text, bytes));
}

static void put_facts(FILE *file, const struct bench_report *report)
{
    static const struct {
        const char *section, *key, *name;
    } facts[] = {
        {"device", "platform", "platform"},
        {"device", "driver", "driver"},
        {"device", "opencl_c", "OpenCL C"},
        {"device", "type", "type"},
        {"device", "class", "kernels for"},
        {"device", "compute_units", "compute units"},
        {"device", "clock_mhz", "highest clock, MHz"},
        {"device", "float_width", "native width of float"},
        {"device", "fp16", "f16 arithmetic"},
        {"device", "subgroups", "sub-groups"},
        {"device", "matrix", "matrix instructions"},
        {"host", "cpu", "host's CPU"},
        {"host", "cores", "host's cores"},
        {"host", "kernel", "host's kernel"},
        {"build", "version", "quern"},
        {"build", "commit", "commit"},
        {"build", "compiler", "compiler"},
        {"options", "suite", "suite"},
        {"options", "seconds", "seconds a row"},
        {NULL, "finished", "finished"},
    };
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        put_fact(file, facts[i].name,
                 facts[i].section
                     ? json_object_get(report_section(report, facts[i].section), facts[i].key)
                     : report_section(report, facts[i].key));
}

static void put_peaks(FILE *file, const struct bench_report *report)
{
    const json_t *peaks = report_section(report, "peaks"),
                 *device = report_section(report, "device"),
                 *copies = json_object_get(peaks, "copies");
    char name[64], size[NUMBER_TEXT];
    put_size(file, "memory", number_of(device, "global_memory"));
    put_size(file, "local memory", number_of(device, "local_memory"));
    put_quantity(file, "peak of multiply-adds", number_of(peaks, "fma_flops_per_s"), "FLOP/s");
    put_quantity(file, "peak of gemm", number_of(peaks, "gemm_flops_per_s"), "FLOP/s");
    put_quantity(file, "peak of matrix instructions in bf16",
                 number_of(peaks, "matrix_bf16_flops_per_s"), "FLOP/s");
    put_quantity(file, "peak of gemm in bf16", number_of(peaks, "gemm_bf16_flops_per_s"), "FLOP/s");
    for (size_t i = 0; i < json_array_size(copies) && i < COPY_PEAKS; i++) {
        const json_t *copy = json_array_get(copies, i);
        snprintf(name, sizeof name, "copy, %s", bytes_text(size, number_of(copy, "bytes")));
        put_quantity(file, name, number_of(copy, "bytes_per_s"), "B/s");
    }
    put_quantity(file, "launch and wait", number_of(peaks, "launch_s"), "s");
}

void put_devices(FILE *file, const struct reports *reports)
{
    markup(file, "<section id=\"devices\"><h2>%s</h2>\n<div class=\"cards\">\n",
           reports->count > 1 ? "Devices" : "The device");
    for (size_t i = 0; i < reports->count; i++) {
        const struct bench_report *report = &reports->at[i];
        const json_t *device = report_section(report, "device");
        markup(file, "<article class=\"card\"><h3>");
        put_letter(file, i);
        markup(file, " %s</h3>\n<dl>\n", report_device(report));
        put_fact(file, "file", json_object_get(report->json, "name"));
        put_facts(file, report);
        put_peaks(file, report);
        put_fact(file, "workarounds", json_object_get(device, "quirks"));
        markup(file, "</dl>\n");
        put_command(file, report);
        markup(file, "</article>\n");
    }
    markup(file, "</div></section>\n");
}

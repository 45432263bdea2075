/* The comparison as one page of HTML that needs nothing else: no script, no font, no network. */
#include "config.h"

#include "cli/bench/compare/page.h"

#include <stdlib.h>

/* ---- What its parts share ---- */

const char *report_device(const struct bench_report *report)
{
    const char *name =
        json_string_value(json_object_get(report_section(report, "device"), "device"));
    return name ? name : "a device without a name";
}

void put_letter(FILE *file, size_t report)
{
    markup(file, "<span class=\"letter c%zu\">%c</span>", report % 6, report_letter(report));
}

/* 6 colours and, for as many reports as there may be, 5 kinds of dashes; the first few differ in both. */
const char *curve_class(char text[CURVE_CLASS], size_t report)
{
    snprintf(text, CURVE_CLASS, "curve s%zu d%zu", report % 6, (report + report / 6) % 5);
    return text;
}

void put_curve_key(FILE *file, size_t report)
{
    char class[CURVE_CLASS];
    markup(file,
           "<svg class=\"key\" viewBox=\"0 0 32 10\" aria-hidden=\"true\"><line class=\"%s\" "
           "x1=\"0\" x2=\"32\" y1=\"5\" y2=\"5\"/></svg>",
           curve_class(class, report));
}

void put_share(FILE *file, double share)
{
    if (share > 0)
        markup(file, "<td class=\"number heat\" style=\"--heat:%.2f\">%.0f%%</td>",
               share < 1 ? share : 1, 100 * share);
    else
        markup(file, "<td></td>");
}

void put_value(FILE *file, const json_t *value)
{
    char *text = NULL;
    if (json_is_string(value))
        markup(file, "%s", json_string_value(value));
    else if (value && !json_is_null(value) &&
             (text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6))))
        markup(file, "%s", text);
    free(text);
}

/* ---- Failures ---- */

static void put_reasons(FILE *file, const struct reports *reports)
{
    markup(file,
           "<div class=\"scroll\"><table class=\"text\">\n<thead><tr><th scope=\"col\">row</th>"
           "<th scope=\"col\">in</th><th scope=\"col\">is</th><th scope=\"col\">because</th>"
           "</tr></thead>\n"
           "<tbody>\n");
    for (size_t i = 0; i < reports->count; i++)
        for (size_t at = 0; at < reports->at[i].n_results; at++) {
            const struct result *result = &reports->at[i].results[at];
            if (!result->reason)
                continue;
            markup(file, "<tr><th scope=\"row\">");
            markup_breakable(file, result->id);
            markup(file, "</th><td>");
            put_letter(file, i);
            markup(file, "</td><td>%s</td><td>%s</td></tr>\n",
                   result->is_left_out ? "left out" : "void", result->reason);
        }
    markup(file, "</tbody></table></div>\n");
}

static void put_missing(FILE *file, const struct bench_comparison *comparison, size_t report)
{
    json_t *ids = missing_json(comparison, report);
    if (json_array_size(ids) > 0) {
        markup(file, "<p>Not in ");
        put_letter(file, report);
        markup(file, ": ");
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        markup(file, i ? ", " : "");
        markup_breakable(file, json_string_value(json_array_get(ids, i)));
    }
    if (json_array_size(ids) > 0)
        markup(file, ".</p>\n");
    json_decref(ids);
}

static void put_failures(FILE *file, const struct bench_comparison *comparison)
{
    const struct reports *reports = comparison->reports;
    size_t failures = 0;
    for (size_t i = 0; i < reports->count; i++)
        failures +=
            report_failures(&reports->at[i], false) + report_failures(&reports->at[i], true);
    markup(file, "<section id=\"failures\"><h2>What failed, and why</h2>\n");
    if (failures > 0)
        put_reasons(file, reports);
    else
        markup(file, "<p>Nothing: no row is void or was left out.</p>\n");
    for (size_t i = 0; i < reports->count; i++)
        put_missing(file, comparison, i);
    markup(file, "</section>\n");
}

/* ---- The document ---- */

static void put_title(FILE *file, const struct reports *reports)
{
    markup(file, "quern bench: ");
    for (size_t i = 0; i < reports->count; i++)
        markup(file, "%s%s", i ? ", " : "", report_device(&reports->at[i]));
}

static void put_legend(FILE *file, const struct reports *reports)
{
    markup(file, "<ul class=\"legend\">\n");
    for (size_t i = 0; i < reports->count; i++) {
        const json_t *device = report_section(&reports->at[i], "device");
        markup(file, "<li>");
        put_letter(file, i);
        markup(file, " <b>%s</b> <span>", report_device(&reports->at[i]));
        put_value(file, json_object_get(device, "platform"));
        markup(file, " ");
        put_value(file, json_object_get(device, "driver"));
        markup(file, "</span></li>\n");
    }
    markup(file, "</ul>\n");
}

static void put_head(FILE *file, const struct reports *reports)
{
    markup(file,
           "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
           "<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
           "content=\"width=device-width, initial-scale=1\"/>\n"
           "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>");
    put_title(file, reports);
    markup(file, "</title>\n");
    put_style(file);
    markup(file, "</head>\n<body>\n<header><h1>quern bench</h1>\n");
    put_legend(file, reports);
}

static void put_navigation(FILE *file)
{
    static const char *const parts[][2] = {
        {"groups", "groups"},     {"devices", "devices"},   {"rows", "rows"},
        {"roofline", "roofline"}, {"losses", "losses"},     {"kernels", "kernels"},
        {"sensors", "clocks"},    {"failures", "failures"},
    };
    markup(file, "<nav aria-label=\"Parts of this page\">");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        markup(file, "%s<a href=\"#%s\">%s</a>", i ? " " : "", parts[i][0], parts[i][1]);
    markup(file, "</nav>\n");
}

static bool put_reports(FILE *file, const struct reports *reports)
{
    json_t *list = json_array();
    for (size_t i = 0; i < reports->count; i++)
        json_array_append(list, reports->at[i].json);
    json_t *all = json_pack("{s:s, s:o}", "schema", "quern.bench.page/1", "reports", list);
    fputs(markup_reports_begin, file);
    bool is_good = all && markup_json(file, all);
    fputs(markup_reports_end, file);
    json_decref(all);
    return is_good;
}

static bool put_page(FILE *file, const struct bench_comparison *comparison)
{
    const struct reports *reports = comparison->reports;
    put_head(file, reports);
    put_verdicts(file, comparison);
    put_repeat(file, reports);
    put_navigation(file);
    markup(file, "</header>\n<main>\n");
    put_groups(file, comparison);
    put_differing(file, comparison);
    put_devices(file, reports);
    put_bars(file, comparison);
    put_rooflines(file, comparison);
    put_losses(file, comparison);
    put_kernels(file, comparison);
    put_sensors(file, comparison);
    put_failures(file, comparison);
    markup(file,
           "</main>\n<footer><p>Made by quern %s. This page has its reports within: "
           "<code>quern bench compare</code> reads it as it reads their files.</p></footer>\n",
           PACKAGE_VERSION);
    bool is_good = put_reports(file, reports);
    markup(file, "\n</body>\n</html>\n");
    return is_good;
}

char *page_text(const struct bench_comparison *comparison)
{
    char *text = NULL;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    bool is_good = file && put_page(file, comparison) && !ferror(file);
    if (file && fclose(file) != 0)
        is_good = false;
    if (!is_good) {
        free(text);
        text = NULL;
    }
    return text;
}

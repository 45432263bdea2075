/* Bars of rates with their intervals, row by row: a table whose figures are drawn, too. */
#include "cli/bench/compare/page.h"

#include <math.h>
#include <string.h>

/* ---- Scales ---- */

static double rate_of(const struct result *result)
{
    return result->amount / result->median.value;
}

/* As far as a row's bars, whiskers and marks of peaks reach. */
static double reach_of(const struct entry *entry, size_t reports)
{
    double reach = 0;
    for (size_t i = 0; i < reports; i++) {
        const struct result *result = entry->results[i];
        if (!result)
            continue;
        reach = fmax(reach, result->amount / result->median.low);
        if (result->of_peak > 0.01)
            reach = fmax(reach, rate_of(result) / result->of_peak);
    }
    return reach;
}

static const char *unit_of(const struct entry *entry, size_t reports)
{
    for (size_t i = 0; i < reports; i++)
        if (entry->results[i])
            return entry->results[i]->unit;
    return "";
}

/* Rates of FLOP/s and B/s have one scale in a group; tokens of one model are nothing to those of another. */
struct scales {
    double flops, bytes;
};

static double shared_scale(const struct bench_comparison *comparison, const char *group,
                           const char *unit)
{
    size_t reports = comparison->reports->count;
    double scale = 0;
    for (size_t i = 0; i < comparison->n_entries; i++) {
        const struct entry *entry = &comparison->entries[i];
        if (strcmp(entry->group, group) == 0 && strcmp(unit_of(entry, reports), unit) == 0)
            scale = fmax(scale, reach_of(entry, reports));
    }
    return scale;
}

static double scale_of(const struct scales *scales, const struct entry *entry, size_t reports)
{
    const char *unit = unit_of(entry, reports);
    if (strcmp(unit, "FLOP/s") == 0)
        return scales->flops;
    return strcmp(unit, "B/s") == 0 ? scales->bytes : reach_of(entry, reports);
}

/* ---- A bar ---- */

/* Without a viewBox, in percent: it is as wide as its cell, and its lines keep their width. */
static void put_bar(FILE *file, const struct result *result, size_t report, double scale)
{
    double rate = rate_of(result), low = 100 * result->amount / result->median.high / scale,
           high = 100 * result->amount / result->median.low / scale;
    markup(file,
           "<svg class=\"bar\" aria-hidden=\"true\"><title>median %.4g ms, %.4g to %.4g; quiet "
           "%.4g ms, %.4g to %.4g</title><rect class=\"f%zu\" y=\"3\" height=\"10\" "
           "width=\"%.2f%%\"/>",
           1e3 * result->median.value, 1e3 * result->median.low, 1e3 * result->median.high,
           1e3 * result->quiet.value, 1e3 * result->quiet.low, 1e3 * result->quiet.high, report % 6,
           100 * rate / scale);
    if (result->of_peak > 0.01)
        markup(file, "<line class=\"peak\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"16\"/>",
               100 * rate / result->of_peak / scale, 100 * rate / result->of_peak / scale);
    markup(file,
           "<g class=\"whisker\"><line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"8\" y2=\"8\"/>"
           "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"5\" y2=\"11\"/>"
           "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"5\" y2=\"11\"/></g></svg>",
           low, high, low, low, high, high);
}

static void put_figures(FILE *file, const struct result *result, size_t report, double scale)
{
    double half = (result->median.high - result->median.low) / 2 / result->median.value;
    char text[QUANTITY], spread[QUANTITY];
    snprintf(spread, sizeof spread, half < 0.1 ? "%.1f" : "%.0f", 100 * half);
    markup(file, "<td class=\"drawn\">");
    if (result->amount > 0 && scale > 0)
        put_bar(file, result, report, scale);
    markup(file, "</td><td class=\"number\">%s <small>±%s%%</small></td>",
           result->amount > 0 ? quantity(text, rate_of(result), *result->unit ? result->unit : "/s")
                              : quantity(text, result->median.value, "s"),
           spread);
    put_share(file, result->of_peak);
}

/* In three digits: 0.0512, 0.953, 1.05, 12.3, 140.  Returns `text`. */
static const char *ratio_text(char text[QUANTITY], double ratio)
{
    int decimals = ratio < 0.1 ? 4 : ratio < 1 ? 3 : ratio < 10 ? 2 : ratio < 100 ? 1 : 0;
    snprintf(text, QUANTITY, "%.*f", decimals, ratio);
    return text;
}

static void put_against(FILE *file, const struct against *against)
{
    static const char *const signs[] = {
        [FASTER] = "▲ ", [SLOWER] = "▼ ", [SAME] = "= ", [UNCLEAR] = "", [NOT_COMPARABLE] = ""};
    char ratio[QUANTITY], low[QUANTITY], high[QUANTITY];
    if (against->verdict == NO_VERDICT)
        markup(file, "<td></td><td></td>");
    else if (against->verdict == NOT_COMPARABLE)
        markup(file, "<td></td><td>not the same work</td>");
    else
        markup(file,
               "<td class=\"number\">%s <small>%s–%s</small></td><td class=\"v%zu\">%s%s</td>",
               ratio_text(ratio, against->ratio.value), ratio_text(low, against->ratio.low),
               ratio_text(high, against->ratio.high), (size_t)against->verdict,
               signs[against->verdict], verdict_names[against->verdict]);
}

/* ---- Rows ---- */

/* Why there are no figures. */
static const char *absence_of(const struct bench_report *report, const char *id)
{
    const struct result *result = report_find(report, id);
    return !result ? "not there" : result->is_left_out ? "left out" : "void";
}

static void put_entry(FILE *file, const struct bench_comparison *comparison,
                      const struct entry *entry, const struct scales *scales)
{
    size_t count = comparison->reports->count;
    double scale = scale_of(scales, entry, count);
    markup(file, "<tbody>\n<tr><th scope=\"rowgroup\" rowspan=\"%zu\">", count);
    markup_breakable(file, entry->id);
    markup(file, "</th>");
    for (size_t i = 0; i < count; i++) {
        markup(file, i ? "<tr><td>" : "<td>");
        put_letter(file, i);
        markup(file, "</td>");
        if (entry->results[i])
            put_figures(file, entry->results[i], i, scale);
        else
            markup(file, "<td class=\"absent\" colspan=\"3\">%s</td>",
                   absence_of(&comparison->reports->at[i], entry->id));
        if (count > 1)
            put_against(file, &entry->against[i]);
        markup(file, "</tr>\n");
    }
    markup(file, "</tbody>\n");
}

static void put_group(FILE *file, const struct bench_comparison *comparison, const char *group)
{
    struct scales scales = {shared_scale(comparison, group, "FLOP/s"),
                            shared_scale(comparison, group, "B/s")};
    markup(file,
           "<h3 id=\"group-%s\">%s</h3>\n<div class=\"scroll\"><table class=\"bars\">\n"
           "<thead><tr><th scope=\"col\">row</th><th scope=\"col\"><span "
           "class=\"hidden\">report</span>"
           "</th><th scope=\"col\"><span class=\"hidden\">bar</span></th>"
           "<th scope=\"col\" class=\"number\">rate</th><th scope=\"col\" class=\"number\">of "
           "peak</th>",
           group, group);
    if (comparison->reports->count > 1)
        markup(file, "<th scope=\"col\" class=\"number\">to A</th><th scope=\"col\">verdict</th>");
    markup(file, "</tr></thead>\n");
    for (size_t i = 0; i < comparison->n_entries; i++)
        if (strcmp(comparison->entries[i].group, group) == 0)
            put_entry(file, comparison, &comparison->entries[i], &scales);
    markup(file, "</table></div>\n");
}

void put_bars(FILE *file, const struct bench_comparison *comparison)
{
    const char *groups[MOST_GROUPS];
    size_t count = comparison_groups(comparison, groups);
    markup(file,
           "<section id=\"rows\"><h2>Rows</h2>\n<p class=\"note\">Bars: rates at the median of "
           "rounds, with its interval; the longer the faster. The line across a bar's track: "
           "the device's own peak. Within a group FLOP/s have one scale, and B/s; tokens/s "
           "have one in each row.");
    if (comparison->reports->count > 1)
        markup(file,
               " To A: the ratio of quiet times and its interval; below 1 it takes less time "
               "than A. Of rows in which nothing changed, about one in forty was called faster "
               "or slower on a shared machine.");
    markup(file, "</p>\n");
    for (size_t i = 0; i < count; i++)
        put_group(file, comparison, groups[i]);
    markup(file, "</section>\n");
}

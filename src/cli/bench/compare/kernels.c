/* The time of a row by kernel, stacked. */
#include "cli/bench/compare/page.h"

#include <stdlib.h>
#include <string.h>

/* SHOWN have a colour, the rest are one; of rows of FEW kernels their names say enough. */
enum { SHOWN = 8, FEW = 4 };

/* The time that each report spends in a kernel. */
struct part {
    const char *name;
    double seconds[MOST_REPORTS];
    double shares; /* of each report's time, summed */
};

struct parts {
    struct part *at;
    size_t count;
};

static const json_t *kernels_of(const struct result *result)
{
    const json_t *kernels = result ? json_object_get(result->json, "kernels") : NULL;
    return json_array_size(kernels) > 0 ? kernels : NULL;
}

static struct part *part_named(struct parts *parts, const char *name)
{
    for (size_t i = 0; i < parts->count; i++)
        if (strcmp(parts->at[i].name, name) == 0)
            return &parts->at[i];
    parts->at[parts->count] = (struct part){.name = name};
    return &parts->at[parts->count++];
}

static int by_share(const void *left, const void *right)
{
    const struct part *a = left, *b = right;
    return (a->shares < b->shares) - (a->shares > b->shares);
}

static void add_kernels(struct parts *parts, const json_t *kernels, size_t report)
{
    double total = 0;
    for (size_t i = 0; i < json_array_size(kernels); i++)
        total += number_of(json_array_get(kernels, i), "seconds");
    for (size_t i = 0; i < json_array_size(kernels); i++) {
        const json_t *kernel = json_array_get(kernels, i);
        double seconds = number_of(kernel, "seconds");
        struct part *part = part_named(parts, json_string_value(json_object_get(kernel, "name")));
        part->seconds[report] += seconds;
        part->shares += total > 0 ? seconds / total : 0;
    }
}

/* All but the first are merged into one. */
static void merge_others(struct parts *parts)
{
    struct part others = {.name = "others"};
    if (parts->count <= SHOWN + 1)
        return;
    for (size_t i = SHOWN; i < parts->count; i++)
        for (size_t report = 0; report < MOST_REPORTS; report++)
            others.seconds[report] += parts->at[i].seconds[report];
    parts->at[SHOWN] = others;
    parts->count = SHOWN + 1;
}

/* None if there are few, or there is no memory; free() .at. */
static struct parts parts_of(const struct entry *entry, size_t reports)
{
    struct parts parts = {0};
    size_t sum = 0, most = 0;
    for (size_t i = 0; i < reports; i++) {
        size_t count = json_array_size(kernels_of(entry->results[i]));
        sum += count;
        most = count > most ? count : most;
    }
    parts.at = most > FEW ? calloc(sum, sizeof *parts.at) : NULL;
    for (size_t i = 0; parts.at && i < reports; i++)
        add_kernels(&parts, kernels_of(entry->results[i]), i);
    if (parts.at)
        qsort(parts.at, parts.count, sizeof *parts.at, by_share);
    merge_others(&parts);
    return parts;
}

static double total_of(const struct parts *parts, size_t report)
{
    double total = 0;
    for (size_t i = 0; i < parts->count; i++)
        total += parts->at[i].seconds[report];
    return total;
}

/* ---- Drawing ---- */

static void put_stack(FILE *file, const struct parts *parts, size_t report, double longest)
{
    double at = 0, total = total_of(parts, report);
    char time[QUANTITY];
    markup(file, "<tr><th scope=\"row\">");
    put_letter(file, report);
    if (total <= 0) {
        markup(file, "</th><td class=\"absent\" colspan=\"2\">not in this report</td></tr>\n");
        return;
    }
    markup(file, "</th><td class=\"drawn\"><svg class=\"stack\" aria-hidden=\"true\">");
    for (size_t i = 0; i < parts->count; i++) {
        double width = 100 * parts->at[i].seconds[report] / longest;
        if (width <= 0)
            continue;
        markup(file,
               "<rect class=\"k%zu\" x=\"%.2f%%\" width=\"%.2f%%\" height=\"22\"><title>%s: %s, "
               "%.1f%%</title></rect>",
               i, at, width, parts->at[i].name, quantity(time, parts->at[i].seconds[report], "s"),
               100 * parts->at[i].seconds[report] / total);
        if (width > 5)
            markup(file,
                   "<text class=\"t%zu\" x=\"%.2f%%\" y=\"16\" text-anchor=\"middle\">%zu</text>",
                   i, at + width / 2, i + 1);
        at += width;
    }
    markup(file, "</svg></td><td class=\"number\">%s</td></tr>\n", quantity(time, total, "s"));
}

static void put_legend(FILE *file, const struct parts *parts, size_t reports)
{
    char time[QUANTITY];
    markup(
        file,
        "<div class=\"scroll\"><table><thead class=\"numbers\"><tr><th scope=\"col\">kernel</th>");
    for (size_t i = 0; i < reports; i++) {
        markup(file, "<th scope=\"col\">");
        put_letter(file, i);
        markup(file, "</th>");
    }
    markup(file, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < parts->count; i++) {
        markup(file, "<tr><th scope=\"row\"><span class=\"swatch b%zu\">%zu</span> %s</th>", i,
               i + 1, parts->at[i].name);
        for (size_t report = 0; report < reports; report++) {
            double seconds = parts->at[i].seconds[report];
            if (seconds > 0)
                markup(file, "<td class=\"number\">%s <small>%.0f%%</small></td>",
                       quantity(time, seconds, "s"), 100 * seconds / total_of(parts, report));
            else
                markup(file, "<td></td>");
        }
        markup(file, "</tr>\n");
    }
    markup(file, "</tbody></table></div>\n");
}

static void put_row(FILE *file, const char *id, const struct parts *parts, size_t reports)
{
    double longest = 0;
    for (size_t i = 0; i < reports; i++)
        longest = total_of(parts, i) > longest ? total_of(parts, i) : longest;
    if (longest <= 0)
        return;
    markup(file, "<figure class=\"wide\"><figcaption>");
    markup_breakable(file, id);
    markup(file, "</figcaption>\n<table class=\"stacks\"><tbody>\n");
    for (size_t i = 0; i < reports; i++)
        put_stack(file, parts, i, longest);
    markup(file, "</tbody></table>\n");
    put_legend(file, parts, reports);
    markup(file, "</figure>\n");
}

void put_kernels(FILE *file, const struct bench_comparison *comparison)
{
    size_t reports = comparison->reports->count, shown = 0;
    markup(file, "<section id=\"kernels\"><h2>Time per kernel</h2>\n");
    for (size_t i = 0; i < comparison->n_all; i++) {
        struct parts parts = parts_of(&comparison->entries[i], reports);
        if (parts.count > 0 && shown++ == 0)
            markup(file, "<p class=\"note\">Of one run, profiled: each kernel's time on the "
                         "device, without what lies between them; of rows with more than four. A "
                         "kernel has one number and one colour in a row.</p>\n");
        if (parts.count > 0)
            put_row(file, comparison->entries[i].id, &parts, reports);
        free(parts.at);
    }
    markup(file, shown ? "</section>\n"
                       : "<p>No row of these reports has more than four kernels.</p></section>\n");
}

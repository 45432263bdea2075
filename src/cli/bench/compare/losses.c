/* Loss curves of training over the curve that they are held to. */
#include "cli/bench/compare/page.h"

#include <math.h>

enum { MOST_POINTS = 200 };

/* NULL: not in the report. */
static const json_t *curve_of(const struct result *result, const char *key)
{
    const json_t *curve = result ? json_object_get(result->json, key) : NULL;
    return json_array_size(curve) > 0 ? curve : NULL;
}

static double loss_at(const json_t *curve, size_t index)
{
    return json_number_value(json_array_get(curve, index));
}

/* NULL: the report has none, or an earlier one has the same. */
static const json_t *new_reference(const struct entry *entry, size_t report)
{
    const json_t *curve = curve_of(entry->results[report], "reference_losses");
    for (size_t i = 0; curve && i < report; i++) {
        const json_t *earlier = curve_of(entry->results[i], "reference_losses");
        if (earlier && json_equal(curve, earlier))
            return NULL;
    }
    return curve;
}

static size_t count_references(const struct entry *entry, size_t reports)
{
    size_t count = 0;
    for (size_t i = 0; i < reports; i++)
        count += new_reference(entry, i) != NULL;
    return count;
}

static bool has_losses(const struct entry *entry, size_t reports)
{
    for (size_t i = 0; i < reports; i++)
        if (curve_of(entry->results[i], "losses"))
            return true;
    return false;
}

/* ---- The plot ---- */

static size_t points_of(const json_t *curve)
{
    return json_array_size(curve) < MOST_POINTS ? json_array_size(curve) : MOST_POINTS;
}

static void include_curve(struct plot *plot, const json_t *curve)
{
    for (size_t i = 0; i < points_of(curve); i++) {
        axis_include(&plot->x, (double)i + 1);
        axis_include(&plot->y, loss_at(curve, i));
    }
}

static void put_curve(const struct plot *plot, const json_t *curve, const char *class)
{
    if (!curve)
        return;
    markup(plot->file, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < points_of(curve); i++)
        markup(plot->file, "%.1f,%.1f ", plot_x(plot, (double)i + 1),
               plot_y(plot, loss_at(curve, i)));
    markup(plot->file, "\"/>\n");
}

static void put_plot(FILE *file, const struct entry *entry, size_t reports)
{
    char title[ROW_ID + 32];
    struct plot plot = {file, axis_empty("step", "", false), axis_empty("loss", "", false), title};
    snprintf(title, sizeof title, "Losses of %s over the reference", entry->id);
    for (size_t i = 0; i < reports; i++) {
        include_curve(&plot, new_reference(entry, i));
        include_curve(&plot, curve_of(entry->results[i], "losses"));
    }
    plot_begin(&plot);
    for (size_t i = 0; i < reports; i++)
        put_curve(&plot, new_reference(entry, i), "reference");
    for (size_t i = 0; i < reports; i++) {
        char class[CURVE_CLASS];
        put_curve(&plot, curve_of(entry->results[i], "losses"), curve_class(class, i));
    }
    plot_end(&plot);
}

/* ---- The numbers ---- */

/* The most by which losses differ from the reference, relative to it; below 0: not known. */
static double deviation_of(const json_t *losses, const json_t *reference)
{
    double most = -1;
    for (size_t i = 0; i < json_array_size(losses) && i < json_array_size(reference); i++) {
        double expected = loss_at(reference, i);
        if (expected != 0)
            most = fmax(most, fabs(loss_at(losses, i) / expected - 1));
    }
    return most;
}

static void put_cell(FILE *file, double value, const char *unit)
{
    char text[QUANTITY];
    markup(file, "<td class=\"number\">%s</td>", value > 0 ? quantity(text, value, unit) : "");
}

static void put_numbers(FILE *file, const struct entry *entry, size_t report)
{
    const struct result *result = entry->results[report];
    const json_t *losses = curve_of(result, "losses");
    markup(file, "<tr><th scope=\"row\">");
    put_letter(file, report);
    if (losses) {
        markup(file, " ");
        put_curve_key(file, report);
    }
    markup(file, "</th>");
    if (!losses) {
        markup(file, "<td colspan=\"4\" class=\"absent\">not in this report</td></tr>\n");
        return;
    }
    const json_t *memory = json_object_get(result->json, "memory_bytes");
    double deviation = deviation_of(losses, curve_of(result, "reference_losses"));
    markup(file, "<td class=\"number\">%.4f</td>", loss_at(losses, json_array_size(losses) - 1));
    if (deviation < 0)
        markup(file, "<td></td>");
    else
        markup(file, "<td class=\"number\">%.1e</td>", deviation);
    put_cell(file, number_of(memory, "arena") + number_of(memory, "tensors"), "B");
    put_cell(file, number_of(result->json, "cold_start_s"), "s");
    markup(file, "</tr>\n");
}

static void put_row(FILE *file, const struct entry *entry, size_t reports)
{
    markup(file, "<figure><figcaption>");
    markup_breakable(file, entry->id);
    markup(file, "</figcaption>\n");
    put_plot(file, entry, reports);
    markup(file, "<div class=\"scroll\"><table><thead class=\"numbers\"><tr><th "
                 "scope=\"col\"><span class=\"hidden\">report"
                 "</span></th><th scope=\"col\">last loss</th><th scope=\"col\">off by</th>"
                 "<th scope=\"col\">memory</th><th scope=\"col\">first step</th></tr></thead>\n"
                 "<tbody>\n");
    for (size_t i = 0; i < reports; i++)
        put_numbers(file, entry, i);
    markup(file, "</tbody></table></div>\n");
    if (count_references(entry, reports) > 1)
        markup(
            file,
            "<p class=\"note\">The reports are held to curves that differ: off by is of each one's "
            "own.</p>\n");
    markup(file, "</figure>\n");
}

void put_losses(FILE *file, const struct bench_comparison *comparison)
{
    size_t reports = comparison->reports->count, shown = 0;
    markup(file, "<section id=\"losses\"><h2>Losses over the reference</h2>\n");
    for (size_t i = 0; i < comparison->n_all; i++) {
        if (!has_losses(&comparison->entries[i], reports))
            continue;
        if (shown++ == 0)
            markup(file,
                   "<p class=\"note\">The wide grey line is the curve that the first steps are "
                   "held to. Off by: the most that a loss differs from it, relative to it. "
                   "First step: with all that is compiled for it.</p>\n"
                   "<div class=\"figures\">\n");
        put_row(file, &comparison->entries[i], reports);
    }
    markup(file,
           shown ? "</div></section>\n" : "<p>Losses are not in these reports.</p></section>\n");
}

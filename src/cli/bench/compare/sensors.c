/* Clock, temperature and power over the run. */
#include "cli/bench/compare/page.h"

#include <string.h>

enum { MOST_POINTS = 500 };

static const struct {
    const char *key, *title, *unit;
} quantities[QUANTITIES] = {
    [CLOCK] = {"clock_mhz", "clock, MHz", "MHz"},
    [TEMPERATURE] = {"temperature_c", "temperature, °C", "°C"},
    [POWER] = {"power_w", "power, W", "W"},
};

static const json_t *samples_of(const struct bench_report *report)
{
    return json_object_get(report_section(report, "sensors"), "samples");
}

static bool is_known(const json_t *sample, const char *key)
{
    return json_is_number(json_object_get(sample, key)) &&
           json_is_number(json_object_get(sample, "seconds"));
}

static size_t count_known(const struct bench_report *report, const char *key)
{
    const json_t *samples = samples_of(report);
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(samples); i++)
        count += is_known(json_array_get(samples, i), key);
    return count;
}

/* One of every so many samples, so that no line has more points than can be seen. */
static size_t stride_of(const json_t *samples)
{
    return json_array_size(samples) / MOST_POINTS + 1;
}

static void include_samples(struct plot *plot, const json_t *samples, const char *key)
{
    for (size_t i = 0; i < json_array_size(samples); i += stride_of(samples)) {
        const json_t *sample = json_array_get(samples, i);
        if (!is_known(sample, key))
            continue;
        axis_include(&plot->x, number_of(sample, "seconds"));
        axis_include(&plot->y, number_of(sample, key));
    }
}

static void put_line(const struct plot *plot, const json_t *samples, const char *key, size_t report)
{
    if (json_array_size(samples) == 0)
        return;
    char class[CURVE_CLASS];
    markup(plot->file, "<polyline class=\"%s\" points=\"", curve_class(class, report));
    for (size_t i = 0; i < json_array_size(samples); i += stride_of(samples)) {
        const json_t *sample = json_array_get(samples, i);
        if (is_known(sample, key))
            markup(plot->file, "%.1f,%.1f ", plot_x(plot, number_of(sample, "seconds")),
                   plot_y(plot, number_of(sample, key)));
    }
    markup(plot->file, "\"/>\n");
}

/* Whose line is which. */
static void put_keys(FILE *file, const struct reports *reports, const char *key)
{
    markup(file, "<ul class=\"keys\">\n");
    for (size_t i = 0; i < reports->count; i++) {
        if (count_known(&reports->at[i], key) == 0)
            continue;
        markup(file, "<li>");
        put_curve_key(file, i);
        markup(file, " ");
        put_letter(file, i);
        markup(file, "</li>\n");
    }
    markup(file, "</ul>\n");
}

static void put_quantity(FILE *file, const struct reports *reports, size_t which)
{
    struct plot plot = {file, axis_empty("seconds", "", false),
                        axis_empty(quantities[which].title, "", false), quantities[which].title};
    size_t known = 0;
    for (size_t i = 0; i < reports->count; i++)
        known += count_known(&reports->at[i], quantities[which].key);
    if (known == 0)
        return;
    markup(file, "<figure><figcaption>%s</figcaption>\n", quantities[which].title);
    for (size_t i = 0; i < reports->count; i++)
        include_samples(&plot, samples_of(&reports->at[i]), quantities[which].key);
    plot_begin(&plot);
    for (size_t i = 0; i < reports->count; i++)
        put_line(&plot, samples_of(&reports->at[i]), quantities[which].key, i);
    plot_end(&plot);
    put_keys(file, reports, quantities[which].key);
    markup(file, "</figure>\n");
}

/* ---- In words ---- */

static void put_range(FILE *file, const struct bench_report *report, size_t which)
{
    const json_t *samples = samples_of(report);
    const char *key = quantities[which].key;
    struct axis range = axis_empty("", "", false);
    for (size_t i = 0; i < json_array_size(samples); i++)
        if (is_known(json_array_get(samples, i), key))
            axis_include(&range, number_of(json_array_get(samples, i), key));
    if (range.low > range.high)
        markup(file, "<td class=\"absent\">not available</td>");
    else
        markup(file, "<td class=\"number\">%.4g to %.4g %s</td>", range.low, range.high,
               quantities[which].unit);
}

static void put_report(FILE *file, const struct bench_report *report, size_t index)
{
    const json_t *sensors = report_section(report, "sensors");
    const char *source = json_string_value(json_object_get(sensors, "source")),
               *reason = json_string_value(json_object_get(sensors, "reason"));
    markup(file, "<tr><th scope=\"row\">");
    put_letter(file, index);
    markup(file, "</th>");
    if (!source) {
        markup(file, "<td class=\"absent\" colspan=\"%d\">%s</td></tr>\n", QUANTITIES + 1,
               !sensors ? "not in this report"
               : reason ? reason
                        : "not available");
        return;
    }
    markup(file, "<td>%s</td>", source);
    for (size_t i = 0; i < QUANTITIES; i++)
        put_range(file, report, i);
    markup(file, "</tr>\n");
}

void put_sensors(FILE *file, const struct bench_comparison *comparison)
{
    const struct reports *reports = comparison->reports;
    markup(file, "<section id=\"sensors\"><h2>Clocks, temperature and power</h2>\n"
                 "<div class=\"scroll\"><table class=\"text\"><thead><tr><th scope=\"col\"><span "
                 "class=\"hidden\">report</span></th><th scope=\"col\">from</th><th "
                 "scope=\"col\">clock</th><th scope=\"col\">temperature</th><th "
                 "scope=\"col\">power</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < reports->count; i++)
        put_report(file, &reports->at[i], i);
    markup(file, "</tbody></table></div>\n<div class=\"figures\">\n");
    for (size_t i = 0; i < QUANTITIES; i++)
        put_quantity(file, reports, i);
    markup(file, "</div></section>\n");
}

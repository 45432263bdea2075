/* A frame with two axes, linear or logarithmic. */
#include "cli/bench/compare/page.h"

#include <math.h>

enum { LEFT = 70, RIGHT = 24, TOP = 10, BOTTOM = 48, MOST_TICKS = 12 };

double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* ---- Axes ---- */

struct axis axis_empty(const char *title, const char *unit, bool is_log)
{
    return (struct axis){
        .low = INFINITY, .high = -INFINITY, .is_log = is_log, .title = title, .unit = unit};
}

void axis_include(struct axis *axis, double value)
{
    axis->low = fmin(axis->low, value);
    axis->high = fmax(axis->high, value);
}

/* 1, 2 or 5 times a power of ten, so that there are four to eight of them. */
static double step_of(double range)
{
    double power = pow(10, floor(log10(range / 4))), times = range / 4 / power;
    return power * (times >= 5 ? 5 : times >= 2 ? 2 : 1);
}

static void widen(struct axis *axis)
{
    if (!(axis->low <= axis->high))
        axis->low = axis->high = axis->is_log ? 1 : 0;
    if (axis->is_log) {
        axis->low = pow(10, floor(log10(axis->low) + 1e-9));
        axis->high = pow(10, ceil(log10(axis->high) - 1e-9));
        if (axis->low >= axis->high)
            axis->high = 10 * axis->low;
        double decades = round(log10(axis->high / axis->low));
        axis->step = pow(10, ceil(decades / (MOST_TICKS - 4)));
        return;
    }
    if (axis->high - axis->low < 1e-6 * fmax(1, fabs(axis->high)))
        axis->high = axis->low + fmax(1, fabs(axis->low)) / 10;
    axis->step = step_of(axis->high - axis->low);
    axis->low = axis->step * floor(axis->low / axis->step + 1e-9);
    axis->high = axis->step * ceil(axis->high / axis->step - 1e-9);
}

/* 0 to 1 along the axis. */
static double place(const struct axis *axis, double value)
{
    if (axis->is_log)
        return log10(value / axis->low) / log10(axis->high / axis->low);
    return (value - axis->low) / (axis->high - axis->low);
}

static size_t ticks_of(const struct axis *axis, double ticks[MOST_TICKS])
{
    size_t count = 0;
    for (double at = axis->low; at <= axis->high + 1e-9 * fabs(axis->high) && count < MOST_TICKS;
         at = axis->is_log ? at * axis->step : axis->low + (double)count * axis->step)
        ticks[count++] = at;
    return count;
}

/* ---- Plots ---- */

double plot_x(const struct plot *plot, double value)
{
    return LEFT + place(&plot->x, value) * (PLOT_WIDTH - LEFT - RIGHT);
}

double plot_y(const struct plot *plot, double value)
{
    return PLOT_HEIGHT - BOTTOM - place(&plot->y, value) * (PLOT_HEIGHT - TOP - BOTTOM);
}

static const char *tick_text(char text[QUANTITY], const struct axis *axis, double value)
{
    if (*axis->unit) {
        static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
        int step = value > 0 ? (int)floor(log10(value * (1 + 1e-9)) / 3) : 0;
        step = step < 0 ? 0 : step > 6 ? 6 : step;
        snprintf(text, QUANTITY, "%.4g %s", value / pow(1000, step), prefixes[step]);
    } else {
        snprintf(text, QUANTITY, value < 1e6 ? "%.6g" : "%.4g", value);
    }
    return text;
}

static void put_axes(const struct plot *plot)
{
    double ticks[MOST_TICKS];
    char text[QUANTITY];
    size_t count = ticks_of(&plot->x, ticks);
    for (size_t i = 0; i < count; i++) {
        double x = plot_x(plot, ticks[i]);
        markup(plot->file,
               "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
               "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
               x, x, TOP, PLOT_HEIGHT - BOTTOM, x, PLOT_HEIGHT - BOTTOM + 18,
               tick_text(text, &plot->x, ticks[i]));
    }
    count = ticks_of(&plot->y, ticks);
    for (size_t i = 0; i < count; i++) {
        double y = plot_y(plot, ticks[i]);
        markup(plot->file,
               "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
               "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
               LEFT, PLOT_WIDTH - RIGHT, y, y, LEFT - 6, y + 4,
               tick_text(text, &plot->y, ticks[i]));
    }
    markup(plot->file,
           "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>"
           "<text transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
           (LEFT + PLOT_WIDTH - RIGHT) / 2, PLOT_HEIGHT - 8, plot->x.title,
           (TOP + PLOT_HEIGHT - BOTTOM) / 2, plot->y.title);
}

void plot_begin(struct plot *plot)
{
    widen(&plot->x);
    widen(&plot->y);
    markup(plot->file,
           "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n",
           PLOT_WIDTH, PLOT_HEIGHT, plot->title);
    put_axes(plot);
    markup(plot->file,
           "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">\n", LEFT,
           TOP, PLOT_WIDTH - LEFT - RIGHT, PLOT_HEIGHT - TOP - BOTTOM, LEFT, TOP,
           PLOT_WIDTH - LEFT - RIGHT, PLOT_HEIGHT - TOP - BOTTOM);
}

void plot_end(struct plot *plot)
{
    markup(plot->file,
           "</svg>\n<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n</svg>\n",
           LEFT, TOP, PLOT_WIDTH - LEFT - RIGHT, PLOT_HEIGHT - TOP - BOTTOM);
}

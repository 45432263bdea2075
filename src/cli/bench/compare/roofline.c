/* Rooflines: what kernels do a second against what they do a byte, under what the device can. */
#include "cli/bench/compare/page.h"

#include <math.h>

/* More than these cannot be told apart. */
enum { MOST_DOTS = 2000 };

/* What takes less of its row's time is left out: it says nothing of how fast that is. */
static const double least_share = 0.01;

struct roofs {
    double fma, gemm, gemm_bf16, matrix_bf16, copy; /* 0: not known */
};

static struct roofs roofs_of(const struct bench_report *report)
{
    const json_t *peaks = report_section(report, "peaks"),
                 *copies = json_object_get(peaks, "copies");
    struct roofs roofs = {number_of(peaks, "fma_flops_per_s"), number_of(peaks, "gemm_flops_per_s"),
                          number_of(peaks, "gemm_bf16_flops_per_s"),
                          number_of(peaks, "matrix_bf16_flops_per_s"), 0};
    double most = 0;
    for (size_t i = 0; i < json_array_size(copies); i++) {
        const json_t *copy = json_array_get(copies, i);
        if (number_of(copy, "bytes") < most || number_of(copy, "bytes_per_s") <= 0)
            continue;
        most = number_of(copy, "bytes");
        roofs.copy = number_of(copy, "bytes_per_s");
    }
    return roofs;
}

/* ---- Dots ---- */

struct dot {
    const char *row;
    const json_t *kernel;
    double intensity, rate, share; /* share of the time of its row */
};

/* False: it has no place, or takes too little time. */
static bool dot_of(struct dot *dot, const char *row, const json_t *kernel, double total)
{
    double flops = number_of(kernel, "flops"), bytes = number_of(kernel, "bytes"),
           seconds = number_of(kernel, "seconds");
    if (flops < 1 || bytes < 1 || seconds < 1e-12)
        return false;
    *dot = (struct dot){row, kernel, flops / bytes, flops / seconds, seconds / total};
    return dot->share >= least_share;
}

typedef void dot_use(void *user, const struct dot *dot);

/* Calls `use` with each kernel that has a place, MOST_DOTS at most; returns how many. */
static size_t for_dots(const struct bench_report *report, dot_use *use, void *user)
{
    size_t count = 0;
    for (size_t i = 0; i < report->n_results; i++) {
        const json_t *kernels = json_object_get(report->results[i].json, "kernels");
        double total = 0;
        if (report->results[i].reason)
            continue;
        for (size_t at = 0; at < json_array_size(kernels); at++)
            total += number_of(json_array_get(kernels, at), "seconds");
        for (size_t at = 0; at < json_array_size(kernels); at++) {
            struct dot dot;
            if (count == MOST_DOTS ||
                !dot_of(&dot, report->results[i].id, json_array_get(kernels, at), total))
                continue;
            use(user, &dot);
            count++;
        }
    }
    return count;
}

static void include_dot(void *user, const struct dot *dot)
{
    struct plot *plot = user;
    axis_include(&plot->x, dot->intensity / 1.3);
    axis_include(&plot->x, dot->intensity * 1.3);
    axis_include(&plot->y, dot->rate / 1.3);
    axis_include(&plot->y, dot->rate * 1.3);
}

struct drawing {
    const struct plot *plot;
    const struct roofs *roofs;
    size_t report;
};

static void put_dot(void *user, const struct dot *dot)
{
    const struct drawing *drawing = user;
    const struct roofs *roofs = drawing->roofs;
    double roof = fmin(fmax(roofs->fma, roofs->gemm), dot->intensity * roofs->copy);
    char rate[QUANTITY];
    markup(drawing->plot->file,
           "<circle class=\"dot f%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%s in %s: %.1f%% "
           "of the time, %s, %.3g FLOP/B",
           drawing->report % 6, plot_x(drawing->plot, dot->intensity),
           plot_y(drawing->plot, dot->rate), 3 + 5 * sqrt(dot->share),
           json_string_value(json_object_get(dot->kernel, "name")), dot->row, 100 * dot->share,
           quantity(rate, dot->rate, "FLOP/s"), dot->intensity);
    if (roof > 0)
        markup(drawing->plot->file, ", %.0f%% of the roof in f32", 100 * dot->rate / roof);
    markup(drawing->plot->file, "</title></circle>\n");
}

/* ---- Roofs ---- */

/* Level, from where the memory's roof meets it. */
static void put_level(const struct plot *plot, double rate, double copy, const char *dashes)
{
    if (rate <= 0)
        return;
    double from = copy > 0 ? fmax(rate / copy, plot->x.low) : plot->x.low, y = plot_y(plot, rate);
    markup(plot->file,
           "<line class=\"roof %s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", dashes,
           plot_x(plot, from), plot_x(plot, plot->x.high), y, y);
}

/* Up to the highest level. */
static void put_slope(const struct plot *plot, const struct roofs *roofs)
{
    double top = fmax(fmax(roofs->fma, roofs->gemm), fmax(roofs->gemm_bf16, roofs->matrix_bf16));
    if (roofs->copy <= 0 || top <= 0)
        return;
    double low = fmax(plot->x.low, plot->y.low / roofs->copy);
    markup(plot->file,
           "<line class=\"roof slope\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
           plot_x(plot, low), plot_x(plot, top / roofs->copy), plot_y(plot, low * roofs->copy),
           plot_y(plot, top));
}

static void put_roofs(const struct plot *plot, const struct roofs *roofs)
{
    put_slope(plot, roofs);
    put_level(plot, roofs->fma, roofs->copy, "d0");
    put_level(plot, roofs->gemm, roofs->copy, "d1");
    put_level(plot, roofs->gemm_bf16, roofs->copy, "d2");
    put_level(plot, roofs->matrix_bf16, roofs->copy, "d3");
}

static void put_key(FILE *file, const char *name, double value, const char *unit,
                    const char *dashes)
{
    char text[QUANTITY];
    if (value > 0)
        markup(file,
               "<li><svg class=\"key\" viewBox=\"0 0 32 10\" aria-hidden=\"true\"><line "
               "class=\"roof %s\" x1=\"0\" x2=\"32\" y1=\"5\" y2=\"5\"/></svg> %s %s</li>\n",
               dashes, name, quantity(text, value, unit));
}

/* Beside the figure, where they hide no dot. */
static void put_keys(FILE *file, const struct roofs *roofs)
{
    markup(file, "<ul class=\"keys\">\n");
    put_key(file, "fma", roofs->fma, "FLOP/s", "d0");
    put_key(file, "gemm", roofs->gemm, "FLOP/s", "d1");
    put_key(file, "gemm in bf16", roofs->gemm_bf16, "FLOP/s", "d2");
    put_key(file, "matrix instructions in bf16", roofs->matrix_bf16, "FLOP/s", "d3");
    put_key(file, "copy, the slope,", roofs->copy, "B/s", "slope");
    markup(file, "</ul>\n");
}

static void include_roofs(struct plot *plot, const struct roofs *roofs)
{
    double levels[] = {roofs->fma, roofs->gemm, roofs->gemm_bf16, roofs->matrix_bf16};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (levels[i] <= 0)
            continue;
        axis_include(&plot->y, 1.5 * levels[i]);
        axis_include(&plot->y, levels[i] / 100);
        if (roofs->copy > 0)
            axis_include(&plot->x, 20 * levels[i] / roofs->copy);
        if (roofs->copy > 0)
            axis_include(&plot->x, levels[i] / roofs->copy / 20);
    }
}

/* ---- The figures ---- */

static void ignore_dot(void *user, const struct dot *dot)
{
    (void)user;
    (void)dot;
}

static void put_roofline(FILE *file, const struct bench_report *report, size_t index)
{
    struct roofs roofs = roofs_of(report);
    char title[32];
    struct plot plot = {file, axis_empty("FLOP per byte", "", true),
                        axis_empty("FLOP/s", "FLOP/s", true), title};
    struct drawing drawing = {&plot, &roofs, index};
    snprintf(title, sizeof title, "Roofline of %c", report_letter(index));
    markup(file, "<figure><figcaption>");
    put_letter(file, index);
    if (for_dots(report, ignore_dot, NULL) == 0) {
        markup(
            file,
            " Kernels with their flop and bytes are not in this report.</figcaption></figure>\n");
        return;
    }
    markup(file, " under its own roofs</figcaption>\n");
    include_roofs(&plot, &roofs);
    for_dots(report, include_dot, &plot);
    plot_begin(&plot);
    put_roofs(&plot, &roofs);
    for_dots(report, put_dot, &drawing);
    plot_end(&plot);
    put_keys(file, &roofs);
    markup(file, "</figure>\n");
}

void put_rooflines(FILE *file, const struct bench_comparison *comparison)
{
    markup(file,
           "<section id=\"roofline\"><h2>Roofline</h2>\n<p class=\"note\">A dot is a kernel in "
           "a row, the larger the more of the row's time it takes, one percent at least; hover for "
           "its name. The "
           "slope is the largest copy, the levels are the peaks of multiply-adds, of gemm and, "
           "where a GPU has them, of matrix instructions. Above the slope numbers came from a "
           "cache.</p>\n<div class=\"figures\">\n");
    for (size_t i = 0; i < comparison->reports->count; i++)
        put_roofline(file, &comparison->reports->at[i], i);
    markup(file, "</div></section>\n");
}

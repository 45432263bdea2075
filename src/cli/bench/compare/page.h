/* The parts of the page, and what they share. */
#ifndef QUERN_BENCH_PAGE_H
#define QUERN_BENCH_PAGE_H

#include "cli/bench/compare/compare.h"
#include "cli/bench/compare/markup.h"

/* A number of a report, which was checked when it was read; 0: not known. */
double number_of(const json_t *object, const char *key);

/* ---- Plots of SVG, all of one size, which fits on a phone ---- */

enum { PLOT_WIDTH = 400, PLOT_HEIGHT = 260 };

struct axis {
    double low, high; /* widened by plot_begin() to what is round */
    double step;      /* from tick to tick: a sum or, of a logarithmic one, a factor */
    bool is_log;
    const char *title, *unit; /* numbers are in the unit, with SI prefixes; "": none */
};

struct plot {
    FILE *file;
    struct axis x, y;
    const char *title; /* for those who cannot see it */
};

/* The frame, the grid, and the axes; what is drawn then is clipped to the frame. */
void plot_begin(struct plot *plot);
void plot_end(struct plot *plot);
double plot_x(const struct plot *plot, double value);
double plot_y(const struct plot *plot, double value);

/* Widens an axis so that it has the value. */
void axis_include(struct axis *axis, double value);

/* An axis that has no value yet. */
struct axis axis_empty(const char *title, const char *unit, bool is_log);

/* ---- Pieces of text ---- */

/* What the device is called. */
const char *report_device(const struct bench_report *report);

/* A letter of a report in its colour. */
void put_letter(FILE *file, size_t report);

/* The classes of a report's curve: colour and dashes together are its own. */
enum { CURVE_CLASS = 32 };
const char *curve_class(char text[CURVE_CLASS], size_t report);

/* A piece of its curve, for a legend. */
void put_curve_key(FILE *file, size_t report);

/* A cell with a share of a peak, the darker the more; empty: 0, not known. */
void put_share(FILE *file, double share);

/* Any JSON as text; null is empty. */
void put_value(FILE *file, const json_t *value);

/* ---- The parts of the page, in their order ---- */

void put_style(FILE *file); /* what it looks like */
void put_verdicts(FILE *file, const struct bench_comparison *comparison);
void put_repeat(FILE *file, const struct reports *reports); /* the command */
void put_groups(FILE *file, const struct bench_comparison *comparison);
void put_differing(FILE *file, const struct bench_comparison *comparison);
void put_devices(FILE *file, const struct reports *reports);
void put_bars(FILE *file, const struct bench_comparison *comparison);
void put_rooflines(FILE *file, const struct bench_comparison *comparison);
void put_losses(FILE *file, const struct bench_comparison *comparison);
void put_kernels(FILE *file, const struct bench_comparison *comparison);
void put_sensors(FILE *file, const struct bench_comparison *comparison);

#endif

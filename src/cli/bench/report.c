/* The report for reading: tables in GitHub's form on stdout. */
#include "config.h"

#include "cli/bench/bench.h"

#include <math.h>
#include <string.h>

#include <utf8proc.h>

#include "io/file.h"

/* What tables have behind row, shape, ms, ± and rate. */
static const struct {
    const char *title, *columns;
} tables[TABLES] = {
    [TABLE_PEAKS] = {"Peaks", ""},
    [TABLE_OPERATIONS] = {"Operations", " of peak |"},
    [TABLE_TRAINING] = {"Training", " model GFLOP/s | of peak | memory | cold start |"},
    [TABLE_GENERATION] = {"Generating", ""},
};

/* A head whose figures are flush right. */
static void print_head(const struct bench *bench, enum table table)
{
    char columns[128];
    snprintf(columns, sizeof columns, " ms | ± | rate |%s%s", tables[table].columns,
             bench->against && table != TABLE_PEAKS ? " theirs | ratio |" : "");
    printf("\n**%s**\n\n| row | shape |%s\n|---|---|", tables[table].title, columns);
    for (const char *bar = columns; (bar = strchr(bar, '|')); bar++)
        printf("--:|");
    printf("\n");
}

static void print_rate(enum unit unit, double rate)
{
    char text[NUMBER_TEXT];
    if (unit == TOKENS)
        printf(" %s tokens/s |", rate_text(text, rate));
    else if (unit == NO_UNIT)
        printf(" |");
    else
        printf(" %.4g %s |", 1e-9 * rate, unit == FLOPS ? "GFLOP/s" : "GB/s");
}

static void print_share(double share)
{
    if (share > 0)
        printf(" %.0f%% |", 100 * share);
    else
        printf(" |");
}

/* Ours against theirs by the like statistic: the best run of each. */
static void print_against(const struct bench *bench, const struct row *row)
{
    double theirs = against_rate(bench->against, row);
    if (theirs <= 0) {
        printf(" | |");
        return;
    }
    print_rate(row->unit, theirs);
    printf(" %.2f |", row->amount / row->timing.best / theirs);
}

/* "gemm NT | 64x64x64" of "gemm/64x64x64/NT". */
static void print_name(const char *id)
{
    if (strncmp(id, PEAK, strlen(PEAK)) == 0)
        id += strlen(PEAK);
    const char *slash = strchr(id, '/'), *last = strrchr(id, '/');
    if (!slash)
        printf("| %s | |", id);
    else if (slash == last)
        printf("| %.*s | %s |", (int)(slash - id), id, slash + 1);
    else if (last[1] >= '0' && last[1] <= '9') /* the shape is last: train/gpt2-124M/12L... */
        printf("| %.*s | %s |", (int)(last - slash - 1), slash + 1, last + 1);
    else
        printf("| %.*s %s | %.*s |", (int)(slash - id), id, last + 1, (int)(last - slash - 1),
               slash + 1);
}

static void print_row(const struct bench *bench, const struct row *row)
{
    const struct timing *timing = &row->timing;
    char text[NUMBER_TEXT];
    print_name(row->id);
    if (*row->reason) {
        printf(" void: ");
        print_cell_text(row->reason);
        printf(" |\n");
        return;
    }
    printf(" %.4g | %.2g |", 1e3 * timing->median.value,
           1e3 * (timing->median.high - timing->median.low) / 2);
    print_rate(row->unit, row_rate(row));
    if (row->table == TABLE_TRAINING)
        printf(" %.4g |", 1e-9 * row->model_flops / timing->median.value);
    if (row->table == TABLE_OPERATIONS || row->table == TABLE_TRAINING)
        print_share(row->of_peak);
    if (row->table == TABLE_TRAINING)
        printf(
            " %s | %.2g s |",
            bytes_text(text, (double)(row->memory.arena + row->memory.tensors + row->memory.kept)),
            row->cold_start_s);
    if (bench->against && row->table != TABLE_PEAKS)
        print_against(bench, row);
    printf("\n");
}

/* "clock 2100 to 3300 MHz, temperature not available, ...": the least and the greatest reading. */
static void print_sensors(const struct bench *bench)
{
    static const struct {
        const char *name, *unit;
    } quantities[QUANTITIES] = {[CLOCK] = {"clock", "MHz"},
                                [TEMPERATURE] = {"temperature", "°C"},
                                [POWER] = {"power", "W"}};
    const char *source = sensors_source(bench->sensors);
    if (!source) {
        printf("\nClock, temperature and power: %s.\n", sensors_reason(bench->sensors));
        return;
    }
    printf("\nWhile rows were timed:");
    for (size_t q = 0; q < QUANTITIES; q++) {
        double least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < bench->n_readings; i++) {
            least = fmin(least, bench->readings[i].value[q]); /* of NaN and a number the number */
            most = fmax(most, bench->readings[i].value[q]);
        }
        if (least == most)
            printf("%s %s %.0f %s", q ? "," : "", quantities[q].name, least, quantities[q].unit);
        else if (least < most)
            printf("%s %s %.0f to %.0f %s", q ? "," : "", quantities[q].name, least, most,
                   quantities[q].unit);
        else
            printf("%s %s not available", q ? "," : "", quantities[q].name);
    }
    printf(" (%s).\n", source);
}

static void print_notes(const struct bench *bench)
{
    const char *of_bf16 = bench->peaks.matrix_bf16_flops > 0
                              ? "the greater of matrix bf16 and gemm_bf16"
                              : "the best gemm_bf16";
    size_t void_rows = 0;
    for (size_t i = 0; i < bench->n_rows; i++)
        void_rows += row_is_void(&bench->rows[i]);
    printf("\nms: the median of %d rounds; ±: half of its 98%% interval.  of peak: for GFLOP/s of "
           "the greater of fma and gemm,\nof bf16 of %s; for GB/s of the copy of a like size: "
           "above 100%% it came from a cache.\n",
           ROUNDS, of_bf16);
    if (bench->against)
        printf("theirs, ratio: their best run, and how many times as fast our best run is.\n");
    if (void_rows)
        printf("%zu of %zu rows %s void.\n", void_rows, bench->n_rows,
               void_rows == 1 ? "is" : "are");
}

void print_cell_text(const char *text)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    while (*at) {
        utf8proc_int32_t point;
        utf8proc_ssize_t length = utf8proc_iterate(at, -1, &point);
        if (*at == '|')
            fputs("\\|", stdout);
        else if (length > 0 && point_is_drawn(point))
            fwrite(at, 1, (size_t)length, stdout);
        else
            putchar('?');
        at += length > 0 ? length : 1;
    }
}

static void print_left_out(const struct bench *bench)
{
    bool is_first = true;
    for (size_t i = 0; i < bench->n_rows; i++) {
        const struct row *row = &bench->rows[i];
        if (!row->is_left_out)
            continue;
        printf("%s- %s: ", is_first ? "\n**Left out**\n\n" : "", row->id);
        print_cell_text(row->reason);
        printf("\n");
        is_first = false;
    }
}

void report_tables(const struct bench *bench)
{
    enum table open = TABLES;
    printf("%s, quern %s\n", bench->device, PACKAGE_VERSION);
    for (size_t i = 0; i < bench->n_rows; i++) {
        const struct row *row = &bench->rows[i];
        if (row->is_left_out)
            continue;
        if (row->table != open)
            print_head(bench, row->table);
        open = row->table;
        print_row(bench, row);
    }
    print_left_out(bench);
    print_sensors(bench);
    print_notes(bench);
}

/* quern bench: how fast this device is, and how much of that Quern gets. */
#include "cli/bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"

/* ---- Rows ---- */

const char *sizes_text(char text[SIZES_TEXT], const size_t *sizes, size_t count)
{
    int used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count && used >= 0 && used < SIZES_TEXT; i++)
        used += snprintf(text + used, (size_t)(SIZES_TEXT - used), "%s%zu", i ? "x" : "", sizes[i]);
    return text;
}

double row_rate(const struct row *row)
{
    return row->timing.median.value > 0 ? row->amount / row->timing.median.value : 0;
}

const char *reason_text(char text[ROW_REASON], const char *lines)
{
    static const char blanks[] = " \t\r\n", more[] = " ...";
    const char *between = "", *at = lines + strspn(lines, blanks), *next;
    size_t used = 0, length;
    text[0] = '\0';
    for (; (length = strcspn(at, blanks)) > 0; at = next) {
        next = at + length + strspn(at + length, blanks);
        if (strspn(at, "|^~") == length) /* a mark below what the compiler means, and its margin */
            continue;
        if (used + strlen("; ") + length + sizeof more > ROW_REASON) {
            strcpy(text + used, more);
            break;
        }
        used +=
            (size_t)snprintf(text + used, ROW_REASON - used, "%s%.*s", between, (int)length, at);
        bool ends_line = memchr(at + length, '\n', (size_t)(next - at) - length) != NULL;
        between = ends_line && !strchr(":;,", at[length - 1]) ? "; " : " ";
    }
    return text;
}

void row_void(struct row *row, const char *format, ...)
{
    char reason[8 * ROW_REASON];
    va_list arguments;
    if (*row->reason)
        return;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (!*reason_text(row->reason, reason))
        strcpy(row->reason, "out of memory");
}

bool row_is_void(const struct row *row)
{
    return *row->reason && !row->is_left_out;
}

struct row *bench_row(struct bench *bench, enum table table, const char *format, ...)
{
    struct row *rows = realloc(bench->rows, (bench->n_rows + 1) * sizeof *rows);
    if (!rows)
        return NULL;
    struct row *row = &rows[bench->n_rows++];
    bench->rows = rows;
    *row = (struct row){.table = table};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->id, sizeof row->id, format, arguments);
    va_end(arguments);
    return row;
}

/* ---- The command ---- */

enum { GROUPS = 8 };
static const char *const groups[GROUPS] = {"gemm", "memory", "rows",    "attention",
                                           "rnn",  "train",  "seq2seq", "generate"};
static const char *const shapes_of_groups[GROUPS] = {
    "MxNxK, sizes up to 2147483647",
    "N, up to 2147483647",
    "ROWSxWIDTH, ROWSxWIDTHxIDS or N, sizes up to 2147483647",
    "BATCHxHEADSxCONTEXTxWIDTH, sizes up to 2147483647",
    "LAYERSxUNITSxLENGTHxBATCH, of at most 4 layers",
    "one of 12x64, 8x256, 4x64, 1x1024",
    "64x24",
    "64 or 512",
};

static int check_groups(const struct options *options)
{
    for (size_t i = 0; i < options_operands(options); i++) {
        const char *word = options_operand_at(options, i);
        size_t known = 0;
        while (known < GROUPS && strcmp(groups[known], word) != 0)
            known++;
        if (known < GROUPS)
            continue;
        const char *nearest = nearest_name(word, groups, GROUPS);
        if (nearest)
            return usage_error(options, "no group \"%s\"; did you mean %s?", word, nearest);
        return usage_error(options, "no group \"%s\"", word);
    }
    return EXIT_SUCCESS;
}

static int check_shapes(const struct options *options)
{
    const char *shapes = options_string(options, "shapes");
    char wrong[SIZES_TEXT];
    if (!shapes)
        return EXIT_SUCCESS;
    if (options_operands(options) != 1)
        return usage_error(options, "--shapes needs the one group that they are for");
    const char *group = options_operand(options);
    if (shapes_are_good(group, shapes, wrong))
        return EXIT_SUCCESS;
    for (size_t i = 0; i < GROUPS; i++)
        if (strcmp(groups[i], group) == 0)
            return usage_error(options, "--shapes: \"%s\" is no shape of %s: %s", wrong, group,
                               shapes_of_groups[i]);
    return EXIT_SUCCESS;
}

static bool is_wanted(const struct options *options, const char *group)
{
    for (size_t i = 0; i < options_operands(options); i++)
        if (strcmp(options_operand_at(options, i), group) == 0)
            return true;
    return options_operands(options) == 0;
}

json_t *groups_json(const struct options *options)
{
    json_t *array = json_array();
    for (size_t i = 0; i < GROUPS; i++)
        if (is_wanted(options, groups[i]))
            json_array_append_new(array, json_string(groups[i]));
    return array;
}

static bool make_rows(struct bench *bench)
{
    const struct options *options = bench->options;
    const char *shapes = options_string(options, "shapes");
    bool is_good = bench_peaks(bench);
    for (size_t i = 0; is_good && i < GROUPS; i++)
        if (is_wanted(options, groups[i]))
            is_good =
                shapes ? bench_shapes(bench, groups[i], shapes) : bench_group(bench, groups[i]);
    return is_good;
}

void bench_show(struct bench *bench, const char *work, size_t index, const char *id)
{
    struct progress *progress = &bench->progress;
    if (progress->is_quiet || (!progress->is_terminal && index > 0))
        return;
    if (!progress->is_terminal) {
        fprintf(stderr, "%s\n", work);
        return;
    }
    fprintf(stderr, "\r\033[K%s, row %zu of %zu: %s", work, index + 1, bench->n_rows, id);
    fflush(stderr);
    progress->is_line_open = true;
}

void bench_show_end(struct bench *bench)
{
    if (bench->progress.is_line_open)
        fputs("\r\033[K", stderr);
    bench->progress.is_line_open = false;
}

bool take_room(struct bench *bench, struct row *row, double bytes)
{
    if (*row->reason || bytes > bench->room)
        return false;
    bench->room -= bytes;
    row->kept_bytes = bytes;
    return true;
}

bool has_sensors(const struct bench *bench)
{
    return sensors_source(bench->sensors) != NULL;
}

bool read_sensors_at_work(struct bench *bench, row_run *start, void *of, double seconds)
{
    static const double work_seconds = 1e-2;
    size_t runs = (size_t)(work_seconds / seconds) + 1;
    if (!has_sensors(bench))
        return true;
    for (size_t i = 0; i < runs; i++)
        if (!start(of))
            return false;
    bench->readings[bench->n_readings++] = sensors_read(bench->sensors);
    return qn_finish(bench->qn) == QN_OK;
}

static void row_release(struct bench *bench, struct row *row)
{
    lesson_release(row);
    operation_release(row);
    bench->room += row->kept_bytes;
    row->kept_bytes = 0;
}

/* Every other round in the opposite order, so that no row always follows the same one. */
static void run_round(struct bench *bench, size_t round)
{
    char work[64];
    snprintf(work, sizeof work, "round %zu of %d", round + 1, ROUNDS);
    for (size_t i = 0; i < bench->n_rows; i++) {
        struct row *row = &bench->rows[round % 2 ? bench->n_rows - 1 - i : i];
        if (round == 0 && !*row->reason)
            leave_out_too_long(bench, row);
        if (*row->reason)
            continue;
        bench_show(bench, work, i, row->id);
        row->round(bench, row, bench->seconds / ROUNDS);
        if (!*row->reason)
            timing_end_round(&row->timing);
        if (round == 0 && !*row->reason)
            leave_out_slow(bench, row);
        if (*row->reason)
            row_release(bench, row);
        qn_clear_error(bench->qn);
    }
}

static void run_rounds(struct bench *bench)
{
    for (size_t round = 0; round < ROUNDS; round++)
        run_round(bench, round);
    for (size_t i = 0; i < bench->n_rows; i++)
        if (!*bench->rows[i].reason && !timing_finish(&bench->rows[i].timing))
            row_void(&bench->rows[i], "out of memory");
    bench_show_end(bench);
    set_peaks(bench);
}

/* Makes room for a reading at each visit of a row. */
static bool watch_device(struct bench *bench)
{
    qn_device_list *list = qn_device_list_new();
    const struct qn_device *device = list ? open_device(bench, list) : NULL;
    bench->sensors = sensors_open(device);
    bench->readings = calloc(ROUNDS * bench->n_rows, sizeof *bench->readings);
    qn_device_list_free(list);
    return bench->sensors && bench->readings;
}

/* What rows keep is freed first: a device may have no room for both contexts. */
static int write_json(struct bench *bench)
{
    const char *json = options_string(bench->options, "json");
    char message[WRITE_MESSAGE];
    if (!json)
        return EXIT_SUCCESS;
    for (size_t i = 0; i < bench->n_rows; i++)
        row_release(bench, &bench->rows[i]);
    if (!bench_profile(bench))
        fprintf(stderr, "quern bench: no time by kernel: %s\n", qn_error(NULL));
    return report_json(bench, json, message) ? EXIT_SUCCESS
                                             : failure(bench->options, "%s", message);
}

/* Of the groups' rows, peaks aside. */
static bool are_all_left_out(const struct bench *bench)
{
    size_t rows = 0, left_out = 0;
    for (size_t i = 0; i < bench->n_rows; i++) {
        rows += bench->rows[i].table != TABLE_PEAKS;
        left_out += bench->rows[i].table != TABLE_PEAKS && bench->rows[i].is_left_out;
    }
    return rows > 0 && left_out == rows;
}

static int run_all(struct bench *bench)
{
    const struct options *options = bench->options;
    if (!make_rows(bench))
        return failure(options, "out of memory");
    leave_out_too_large(bench);
    if (!watch_device(bench))
        return failure(options, "out of memory");
    run_rounds(bench);
    report_tables(bench);
    int status = write_json(bench);
    for (size_t i = 0; i < bench->n_rows; i++)
        if (row_is_void(&bench->rows[i]))
            status = EXIT_FAILED;
    if (options_given(options, "shapes") && are_all_left_out(bench))
        status = failure(options, "no row of --shapes was timed: all were left out");
    return status;
}

/* Half of the device's memory. */
static double room_of_device(const struct bench *bench)
{
    qn_device_list *list = qn_device_list_new();
    const struct qn_device *device = list ? open_device(bench, list) : NULL;
    double room = device ? (double)device->global_memory / 2 : 0;
    qn_device_list_free(list);
    return room;
}

/* Of each row. */
static const double quick_seconds = 0.5, standard_seconds = 1;

struct qn_options bench_options(const struct bench *bench)
{
    return (struct qn_options){.device = options_string(bench->options, "device"),
                               .gemm = options_string(bench->options, "gemm")};
}

static int prepare(struct bench *bench)
{
    const struct options *options = bench->options;
    const char *against = options_string(options, "against");
    const char *json = options_string(options, "json");
    char message[WRITE_MESSAGE];
    if (json && !may_write(WRITTEN_REPORT, json, message))
        return failure(options, "%s", message);
    if (against && !(bench->against = against_read(against, message, sizeof message)))
        return failure(options, "--against: %s", message);
    struct qn_options opened = bench_options(bench);
    bench->qn = qn_open_with(&opened);
    if (!bench->qn)
        return failure(options, "%s", qn_error(NULL));
    snprintf(bench->device, sizeof bench->device, "%s", qn_device_name(bench->qn));
    device_selector(bench->qn, bench->selector);
    snprintf(bench->tuning, sizeof bench->tuning, "%s", qn_tuning_hash(bench->qn));
    if (kernels_hash(bench->qn, bench->kernels) != QN_OK)
        return failure(options, "%s", qn_error(bench->qn));
    signal(SIGQUIT, SIG_DFL); /* LLVM, in drivers, catches it and goes on */
    while (strcmp(suite_names[bench->suite], options_string(options, "suite")) != 0)
        bench->suite++;
    bench->seconds = options_given(options, "seconds") ? options_seconds(options, "seconds")
                     : bench->suite == QUICK           ? quick_seconds
                                                       : standard_seconds;
    bench->longest = options_seconds(options, "longest");
    time_text(bench->started);
    bench->room = room_of_device(bench);
    progress_start(&bench->progress, options_flag(options, "quiet"));
    return EXIT_SUCCESS;
}

int command_bench(const struct options *options)
{
    struct bench bench = {.options = options};
    int status = check_groups(options);
    if (status == EXIT_SUCCESS)
        status = check_shapes(options);
    if (status == EXIT_SUCCESS)
        status = prepare(&bench);
    if (status == EXIT_SUCCESS)
        status = run_all(&bench);
    for (size_t i = 0; i < bench.n_rows; i++) {
        row_release(&bench, &bench.rows[i]);
        json_decref(bench.rows[i].kernels);
        free(bench.rows[i].timing.samples);
    }
    free(bench.rows);
    free(bench.readings);
    sensors_close(bench.sensors);
    json_decref(bench.against);
    qn_close(bench.qn);
    return status;
}

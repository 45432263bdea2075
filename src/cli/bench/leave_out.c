/* Rows that are left out, and why: the device has no room for them, or they would take too long. */
#include "cli/bench/bench.h"

#include <stdarg.h>
#include <string.h>

#include "device/context.h"

static void leave_out(struct row *row, const char *format, ...) CLI_FORMAT(2, 3);

static void leave_out(struct row *row, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->reason, sizeof row->reason, format, arguments);
    va_end(arguments);
    row->is_left_out = true;
}

/* ---- Too large ---- */

/* What operations are checked by: copies on the host of all that goes in and comes out. */
static double copied_bytes(const struct operation *operation)
{
    double bytes = 0;
    for (size_t i = 0; i < operation->n_operands; i++)
        bytes += (double)qn_tensor_bytes(operation->operands[i]);
    for (size_t i = 0; i < operation->n_results; i++)
        bytes += (double)qn_tensor_bytes(operation->results[i]);
    return bytes;
}

/* All that the context has: plans keep what they share. */
static void note_memory(qn_context *qn, struct row *row, row_run *run, void *of)
{
    (void)run;
    row->device_bytes = (double)qn_counters(qn).device_bytes;
    row->host_bytes = row->kind ? copied_bytes(of) : 0;
}

/* The memory of a processor is that of the host, too. */
static void hold_against_host(const struct qn_device *device, struct row *row)
{
    char needed[NUMBER_TEXT], present[NUMBER_TEXT];
    double all = row->device_bytes + row->host_bytes;
    if (strcmp(device->type, "CPU") == 0 && all > (double)device->global_memory)
        leave_out(row, "it takes %s with the copies that it is checked by, and there are %s",
                  bytes_text(needed, all), bytes_text(present, (double)device->global_memory));
}

static void plan_row(qn_context *planning, const struct qn_device *device, struct row *row)
{
    if (row->with(planning, row, note_memory))
        hold_against_host(device, row);
    else if (planning->status == QN_ERROR_DEVICE_MEMORY)
        leave_out(row, "%s", qn_error(planning)); /* whatever else it is, running it will tell */
    qn_clear_error(planning);
}

void leave_out_too_large(struct bench *bench)
{
    qn_device_list *list = qn_device_list_new();
    const struct qn_device *device = list ? open_device(bench, list) : NULL;
    struct qn_options options = bench_options(bench);
    options.plan_only = true;
    qn_context *planning = device ? qn_open_with(&options) : NULL;
    for (size_t i = 0; planning && i < bench->n_rows; i++)
        if (bench->rows[i].table != TABLE_GENERATION) /* of a small model */
            plan_row(planning, device, &bench->rows[i]);
    qn_close(planning);
    qn_device_list_free(list);
}

/* ---- Too long ---- */

/* A run to warm up and a sample in each round, and one in which sensors are read; training is kept, but its losses are checked; of
 * generating, which has a token a run, a sample has many. */
static double least_runs(const struct bench *bench, const struct row *row)
{
    double watched = has_sensors(bench) ? ROUNDS : 0;
    if (row->table == TABLE_GENERATION)
        return ROUNDS * DRAWN;
    return watched + (row->table == TABLE_TRAINING ? CHECKED_STEPS + ROUNDS : 2 * ROUNDS);
}

static void leave_out_over(const struct bench *bench, struct row *row, double seconds_of_run,
                           const char *how)
{
    char predicted[NUMBER_TEXT];
    double runs = least_runs(bench, row), seconds = runs * seconds_of_run;
    if (seconds > bench->longest)
        leave_out(row, "its %.0f runs at the least would take %s %s (--longest)", runs,
                  duration_text(predicted, seconds), how);
}

void leave_out_too_long(const struct bench *bench, struct row *row)
{
    leave_out_over(bench, row, seconds_at_peak(bench, row), "at the device's peak");
}

/* Of the peaks only copies, of which there are three: without the others there are no shares. */
void leave_out_slow(const struct bench *bench, struct row *row)
{
    if (row->table != TABLE_PEAKS || row->unit == BYTES)
        leave_out_over(bench, row, row->timing.samples[0], "as the first did");
}

/* The profile: how long each kernel took, as a table and as a trace.
 *
 * A row for each kernel of each variant of each operation.  Commands that were enqueued wait in
 * `pending` until their times are known. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "device/device.h"
#include "io/file.h"

struct row {
    char op[48], variant[48], kernel[64];
    size_t calls;
    double seconds, flops, bytes;
};

struct pending {
    cl_event start,
        end; /* start: NULL if `end` is the command itself, else markers around a call */
    size_t row;
    double host_seconds; /* 0: the events tell */
    char node[64];
};

/* A file that is being written.  What goes wrong there is kept apart: the run goes on without it. */
struct trace {
    qn_context *files; /* NULL: there is none */
    struct file_writer writer;
    int status;
    bool has_events;
    cl_ulong begin;
};

struct profile {
    struct trace trace;
    struct row *rows;
    size_t n_rows, rows_capacity;
    struct pending *pending;
    size_t n_pending, pending_capacity;
};

struct profile *profile_new(qn_context *context)
{
    return context_alloc(context, 1, sizeof(struct profile));
}

static void release_event(cl_event event)
{
    if (event)
        clReleaseEvent(event);
}

void profile_free(struct profile *profile)
{
    if (!profile)
        return;
    for (size_t i = 0; i < profile->n_pending; i++) {
        release_event(profile->pending[i].start);
        release_event(profile->pending[i].end);
    }
    if (profile->trace.files && profile->trace.status == QN_OK)
        file_discard(&profile->trace.writer);
    qn_close(profile->trace.files);
    free(profile->rows);
    free(profile->pending);
    free(profile);
}

/* The kernel's name as it stands in its source: without the suffix that program.c gave it. */
static void kernel_name(cl_kernel kernel, char *name, size_t size)
{
    char full[256] = "(call)";
    if (kernel)
        clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof full - 1, full, NULL);
    const char *suffix = strrchr(full, '_');
    int length = (int)(suffix ? (size_t)(suffix - full) : strlen(full));
    snprintf(name, size, "%.*s", length, full);
}

/* The command's row; SIZE_MAX and an error if there is no memory. */
static size_t find_row(qn_context *context, const struct command *command)
{
    struct profile *profile = context->device->profile;
    struct row row = {0};
    snprintf(row.op, sizeof row.op, "%s", command->op);
    snprintf(row.variant, sizeof row.variant, "%s", command->variant ? command->variant : "");
    kernel_name(command->kernel, row.kernel, sizeof row.kernel);
    for (size_t i = 0; i < profile->n_rows; i++) {
        const struct row *known = &profile->rows[i];
        if (strcmp(known->op, row.op) == 0 && strcmp(known->variant, row.variant) == 0 &&
            strcmp(known->kernel, row.kernel) == 0)
            return i;
    }
    struct row *rows = context_grow(context, profile->rows, profile->n_rows,
                                    &profile->rows_capacity, sizeof *rows);
    if (!rows)
        return SIZE_MAX;
    profile->rows = rows;
    profile->rows[profile->n_rows] = row;
    return profile->n_rows++;
}

int profile_command(qn_context *context, const struct command *command, cl_event start,
                    cl_event end)
{
    struct profile *profile = context->device->profile;
    struct pending *pending = context_grow(context, profile->pending, profile->n_pending,
                                           &profile->pending_capacity, sizeof *pending);
    if (pending)
        profile->pending = pending;
    size_t row = pending ? find_row(context, command) : SIZE_MAX;
    if (row == SIZE_MAX) {
        release_event(start);
        release_event(end);
        return QN_ERROR_MEMORY;
    }
    profile->rows[row].calls++;
    profile->rows[row].flops += command->cost.flops;
    profile->rows[row].bytes += command->cost.bytes;
    pending = &profile->pending[profile->n_pending++];
    *pending = (struct pending){.start = start, .end = end, .row = row};
    snprintf(pending->node, sizeof pending->node, "%s", command->node ? command->node : "");
    return QN_OK;
}

void profile_time_last(struct profile *profile, double seconds)
{
    if (profile->n_pending > 0)
        profile->pending[profile->n_pending - 1].host_seconds = seconds;
}

/* ---- The trace ---- */

/* The trace that a context may have; NULL and an error if it is not profiled. */
static struct trace *trace_of(qn_context *context)
{
    if (context->device && context->device->profile)
        return &context->device->profile->trace;
    context_fail(context, QN_ERROR_INVALID, "the context was opened without qn_options.profile");
    return NULL;
}

/* Whether there is nothing at the path, or a trace. */
static bool may_replace(const char *path)
{
    FILE *file = fopen(path, "re");
    int first = file ? fgetc(file) : '[';
    if (file)
        fclose(file);
    return first == '[' || first == EOF;
}

int qn_profile_trace(qn_context *context, const char *path)
{
    struct trace *trace = context && path ? trace_of(context) : NULL;
    if (!trace)
        return QN_ERROR_INVALID;
    if (trace->files)
        return context_fail(context, QN_ERROR_INVALID, "a trace is being written already");
    if (!may_replace(path))
        return context_fail(context, QN_ERROR_FILE,
                            "the trace would write over %s, which is no trace", path);
    qn_context *files = qn_open("none");
    if (!files)
        return context_fail(context, QN_ERROR_MEMORY, "out of memory");
    *trace = (struct trace){.files = files};
    trace->status = file_create(&trace->writer, files, path);
    if (trace->status == QN_OK)
        trace->status = file_append(&trace->writer, "[", 1);
    if (trace->status == QN_OK)
        return QN_OK;
    context_fail(context, QN_ERROR_FILE, "%s", qn_error(files));
    qn_close(files);
    trace->files = NULL;
    return QN_ERROR_FILE;
}

int qn_profile_trace_end(qn_context *context)
{
    struct trace *trace = context ? trace_of(context) : NULL;
    if (!trace || !trace->files)
        return QN_ERROR_INVALID;
    int status = qn_finish(context);
    if (trace->status == QN_OK)
        trace->status = file_append(&trace->writer, "\n]\n", 3);
    if (trace->status == QN_OK)
        trace->status = file_commit(&trace->writer);
    if (trace->status != QN_OK)
        status = context_fail(context, QN_ERROR_FILE, "%s", qn_error(trace->files));
    qn_close(trace->files);
    trace->files = NULL;
    return status;
}

/* A command as a complete event of Chrome's format: https://ui.perfetto.dev reads it, and chrome://tracing. */
static void trace_command(struct profile *profile, const struct pending *pending, cl_ulong start,
                          double seconds)
{
    struct trace *trace = &profile->trace;
    const struct row *row = &profile->rows[pending->row];
    if (!trace->files || trace->status != QN_OK)
        return;
    if (!trace->has_events)
        trace->begin = start;
    double since = (double)start - (double)trace->begin;
    json_t *event = json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:{s:s, s:s}}", "name",
                              *pending->node ? pending->node : row->op, "cat", row->op, "ph", "X",
                              "ts", since * 1e-3, "dur", seconds * 1e6, "pid", 1, "tid", 1, "args",
                              "kernel", row->kernel, "variant", row->variant);
    char *text = event ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(event);
    if (!text)
        return; /* a name that is not UTF-8 */
    const char *separator = trace->has_events ? ",\n" : "\n";
    trace->status = file_append(&trace->writer, separator, strlen(separator));
    if (trace->status == QN_OK)
        trace->status = file_append(&trace->writer, text, strlen(text));
    trace->has_events = true;
    free(text);
}

/* ---- Times ---- */

static cl_ulong event_time(cl_event event, cl_profiling_info what, cl_int *code)
{
    cl_ulong time = 0;
    cl_int result = clGetEventProfilingInfo(event, what, sizeof time, &time, NULL);
    if (result != CL_SUCCESS)
        *code = result;
    return time;
}

int profile_collect(qn_context *context)
{
    struct profile *profile = context->device->profile;
    int status = QN_OK;
    for (size_t i = 0; i < profile->n_pending; i++) {
        struct pending *pending = &profile->pending[i];
        struct row *row = &profile->rows[pending->row];
        cl_int code = clWaitForEvents(1, &pending->end), state = CL_COMPLETE;
        clGetEventInfo(pending->end, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
        if (state < 0)
            code = state;
        cl_ulong end = 0, start = 0;
        if (code == CL_SUCCESS)
            end = event_time(pending->end, CL_PROFILING_COMMAND_END, &code);
        if (code == CL_SUCCESS)
            start = pending->start ? event_time(pending->start, CL_PROFILING_COMMAND_END, &code)
                                   : event_time(pending->end, CL_PROFILING_COMMAND_START, &code);
        double seconds = pending->host_seconds > 0 ? pending->host_seconds
                         : end > start             ? (double)(end - start) * 1e-9
                                                   : 0;
        row->seconds += seconds;
        if (code == CL_SUCCESS)
            trace_command(profile, pending, start, seconds);
        if (status == QN_OK)
            status = device_check(context, code, "%s%s%s%s: running kernel %s", pending->node,
                                  *pending->node ? " (" : "", row->op, *pending->node ? ")" : "",
                                  row->kernel);
        release_event(pending->start);
        release_event(pending->end);
    }
    profile->n_pending = 0;
    return status;
}

/* ---- The table ---- */

/* A variant, whose costs are known for the whole and whose times for each kernel. */
struct variant {
    struct qn_profile_line line;
    size_t kernels;
};

static bool is_of_variant(const struct row *row, const struct qn_profile_line *line)
{
    return strcmp(row->op, line->op) == 0 && strcmp(row->variant, line->variant) == 0;
}

static struct qn_profile_line line_of(const struct row *row)
{
    struct qn_profile_line line = {.calls = row->calls, .seconds = row->seconds};
    memcpy(line.op, row->op, sizeof line.op);
    memcpy(line.variant, row->variant, sizeof line.variant);
    memcpy(line.kernel, row->kernel, sizeof line.kernel);
    return line;
}

static int by_seconds(const void *a, const void *b)
{
    const struct variant *first = a, *second = b;
    return (first->line.seconds < second->line.seconds) -
           (first->line.seconds > second->line.seconds);
}

/* Most seconds first. */
static size_t make_variants(const struct profile *profile, struct variant *variants)
{
    size_t count = 0;
    for (size_t i = 0; i < profile->n_rows; i++) {
        const struct row *row = &profile->rows[i];
        size_t v = 0;
        while (v < count && !is_of_variant(row, &variants[v].line))
            v++;
        struct qn_profile_line *line = &variants[v].line;
        if (v == count) {
            variants[count++] = (struct variant){.line = line_of(row)};
        } else {
            line->calls = size_max(line->calls, row->calls);
            line->seconds += row->seconds;
            line->kernel[0] = '\0';
        }
        variants[v].kernels++;
        line->flops += row->flops;
        line->bytes += row->bytes;
    }
    qsort(variants, count, sizeof *variants, by_seconds);
    return count;
}

/* Each variant, and its kernels behind it if it has several. */
static size_t make_lines(const struct profile *profile, const struct variant *variants,
                         size_t count, struct qn_profile_line *lines)
{
    size_t n_lines = 0;
    for (size_t v = 0; v < count; v++) {
        lines[n_lines++] = variants[v].line;
        for (size_t i = 0; i < profile->n_rows && variants[v].kernels > 1; i++) {
            if (!is_of_variant(&profile->rows[i], &variants[v].line))
                continue;
            lines[n_lines] = line_of(&profile->rows[i]);
            lines[n_lines++].is_part = true;
        }
    }
    return n_lines;
}

/* All commands' times, and the profile they are in; NULL and an error without one, or if a command failed. */
static struct profile *collected(qn_context *context)
{
    if (context->device && context->device->profile)
        return profile_collect(context) == QN_OK ? context->device->profile : NULL;
    context_fail(context, QN_ERROR_INVALID, "the context was opened without qn_options.profile");
    return NULL;
}

qn_profile *qn_profile_new(qn_context *context)
{
    const struct profile *known = context ? collected(context) : NULL;
    if (!known)
        return NULL;
    struct variant *variants = context_alloc(context, known->n_rows, sizeof *variants);
    struct qn_profile_line *lines = context_alloc(context, 2 * known->n_rows, sizeof *lines);
    qn_profile *profile = variants && lines ? context_alloc(context, 1, sizeof *profile) : NULL;
    if (profile) {
        size_t count = make_variants(known, variants);
        *profile = (qn_profile){.count = make_lines(known, variants, count, lines), .lines = lines};
    } else {
        free(lines);
    }
    free(variants);
    return profile;
}

void qn_profile_free(qn_profile *profile)
{
    if (profile)
        free((void *)profile->lines);
    free(profile);
}

int qn_profile_clear(qn_context *context)
{
    struct profile *profile = context ? collected(context) : NULL;
    if (!profile)
        return context ? context->status : QN_ERROR_INVALID;
    profile->n_rows = 0;
    return QN_OK;
}

/* ---- The table, printed ---- */

static void print_line(FILE *file, int width, const char *name, const struct qn_profile_line *line,
                       double total)
{
    fprintf(file, "%-*s %9zu %11.3f", width, name, line->calls, line->seconds * 1e3);
    double rates[2] = {line->flops, line->bytes};
    for (int i = 0; i < 2; i++) {
        if (rates[i] > 0 && line->seconds > 0)
            fprintf(file, " %9.2f", rates[i] / line->seconds * 1e-9);
        else
            fprintf(file, " %9s", "-");
    }
    fprintf(file, " %6.1f%%\n", total > 0 ? 100 * line->seconds / total : 0);
}

enum { LINE_NAME = 160 };

static const char *line_name(const struct qn_profile_line *line, char name[LINE_NAME])
{
    if (line->is_part)
        snprintf(name, LINE_NAME, "  %s", line->kernel);
    else
        snprintf(name, LINE_NAME, "%s %s", line->op, line->variant);
    return name;
}

static void print_lines(const qn_profile *profile, FILE *file)
{
    struct qn_profile_line total = {.calls = 0};
    char name[LINE_NAME];
    int width = (int)strlen("operation, variant, kernel");
    for (size_t i = 0; i < profile->count; i++) {
        const struct qn_profile_line *line = &profile->lines[i];
        int length = (int)strlen(line_name(line, name));
        width = length > width ? length : width;
        if (line->is_part)
            continue;
        total.calls += line->calls;
        total.seconds += line->seconds;
        total.flops += line->flops;
        total.bytes += line->bytes;
    }
    fprintf(file, "%-*s %9s %11s %9s %9s %7s\n", width, "operation, variant, kernel", "calls", "ms",
            "GFLOP/s", "GB/s", "share");
    for (size_t i = 0; i < profile->count; i++)
        print_line(file, width, line_name(&profile->lines[i], name), &profile->lines[i],
                   total.seconds);
    print_line(file, width, "total", &total, total.seconds);
}

int qn_profile_print(qn_context *context, FILE *file)
{
    if (!context)
        return QN_ERROR_INVALID;
    qn_profile *profile = qn_profile_new(context);
    if (!profile)
        return context->status;
    print_lines(profile, file);
    qn_profile_free(profile);
    return ferror(file) ? context_fail(context, QN_ERROR_FILE, "the profile cannot be written")
                        : QN_OK;
}

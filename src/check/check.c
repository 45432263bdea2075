/* Every operation, every variant that fits, against double arithmetic (reference.h) and central
 * differences of it.
 *
 * A row says how an operation is built, what it should give, and for which shapes.  To test an
 * operation: a row in a table of rows_*.c, and if it is new to arithmetic, a function in
 * reference.c.  The rows of a group share a plan, which is fast to compile.  For each the driver
 *   1. builds the nodes from operands that are whole tensors or views of larger ones, and their
 *      gradients of a random weighted sum;
 *   2. makes a plan with the variants a device would choose, then, if more than those are asked
 *      for, one for each other variant that fits;
 *   3. fills the arena with NaNs, runs, and compares values and gradients;
 *   4. looks for writes outside of intermediates and into tensors that are only read, and runs
 *      again for the same bits. */
#include <stdlib.h>
#include <string.h>

#include "device/context.h"

#include "check/check.h"
#include "check/group.h"
#include "check/process.h"

#define TAP_SHARED
#include "tests/tap.h"

static struct tap tap_here; /* for what is said outside of the processes that test */
struct tap *tap = &tap_here;

/* What the device is told to be, so that one device runs most variants. */
static const struct pretence {
    const char *caps;
    unsigned rows;  /* bits: enum pretended */
    unsigned types; /* bit i: enum qn_type i */
} pretences[] = {
    {"", ALL, 1 << QN_F32 | 1 << QN_F16 | 1 << QN_BF16},
    {"float_width=1", ELEMENTWISE, 1 << QN_F32 | 1 << QN_F16},
    {"float_width=16", ELEMENTWISE, 1 << QN_F32 | 1 << QN_BF16},
    /* The least that a GPU may have. */
    {"class=gpu,local_memory=32768,max_work_group=64,fp16=0,subgroups=0", VARIANTS | PRODUCTS,
     1 << QN_F32 | 1 << QN_F16 | 1 << QN_BF16},
    {"matrix=avx512_bf16,local_memory=32768", PRODUCTS, 1 << QN_BF16},
    {"matrix=none", PRODUCTS, 1 << QN_BF16},
};

/* ---- All tables ---- */

static const struct table *const tables[] = {elementwise_tables, shape_tables, heavy_tables,
                                             recurrent_tables};
enum { TABLES = sizeof tables / sizeof *tables, PRETENCES = sizeof pretences / sizeof *pretences };

bool check_knows(const char *name)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            for (size_t j = 0; j < table->count; j++)
                if (strcmp(table->rows[j].group, name) == 0 ||
                    strcmp(table->rows[j].name, name) == 0)
                    return true;
    return false;
}

void check_list(const struct check_options *options, FILE *file)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            for (size_t j = 0; j < table->count; j++) {
                const struct row *row = &table->rows[j];
                bool is_listed = false;
                for (unsigned type = 0; type < QN_TYPES; type++)
                    is_listed = is_listed || ((options->types >> type & 1) &&
                                              is_wanted(options, row, (enum qn_type)type));
                if (is_listed)
                    fprintf(file, "%s %s\n", row->group, row->name);
            }
}

/* QUERN_CAPS of the user, then of the pretence, which wins; what multiplies matrices is the user's choice for the device as it is. */
static qn_context *open_as(const struct check_options *options, const struct pretence *pretence,
                           char *caps, size_t size)
{
    const char *users = getenv("QUERN_CAPS");
    users = users ? users : "";
    snprintf(caps, size, "%s%s%s", users, *users && *pretence->caps ? "," : "", pretence->caps);
    qn_context *context = qn_open_with(&(struct qn_options){
        .device = options->device, .gemm = *pretence->caps ? NULL : options->gemm, .caps = caps});
    if (!context)
        bail_out("%s", qn_error(NULL));
    if (!context->device)
        bail_out("no device: operations cannot be run on \"none\"");
    context->guard_bytes = GUARD;
    return context;
}

/* ---- Processes ---- */

enum { WHOLE = -1, UNFINISHED = 4 };

/* Where the tests are, in memory that parent and children share: a driver that ends a process, or a device that is lost, takes with
 * it the row that it was at.  Only children open devices. */
struct progress {
    const struct check_options *options;
    struct tap tap;
    struct qn_caps native;
    char device[512];
    size_t pretence, type, table;
    int row; /* WHOLE: all rows of the table, in one plan */
};

/* Table number `index` of all; NULL behind the last. */
static const struct table *table_at(size_t index)
{
    for (size_t i = 0; i < TABLES; i++)
        for (const struct table *table = tables[i]; table->rows; table++)
            if (index-- == 0)
                return table;
    return NULL;
}

/* Goes on behind the rows that it is at; those of a table that were lost together come again one by one. */
static void step_on(struct progress *progress, bool is_lost)
{
    const struct table *table = table_at(progress->table);
    if (progress->row == WHOLE && is_lost) {
        progress->row = 0;
    } else if (progress->row == WHOLE || (size_t)++progress->row == table->count) {
        progress->row = WHOLE;
        progress->table++;
    }
    if (!table_at(progress->table)) {
        progress->table = 0;
        progress->type++;
    }
}

static bool run_here(const struct progress *progress, qn_context *context)
{
    const struct pretence *pretence = &pretences[progress->pretence];
    const struct table *table = table_at(progress->table);
    bool has_type = pretence->types & progress->options->types & 1u << progress->type;
    if (!has_type || !(pretence->rows & table->kind))
        return true;
    bool is_whole = progress->row == WHOLE;
    return run_group(context, progress->options, (enum qn_type)progress->type,
                     &table->rows[is_whole ? 0 : progress->row], is_whole ? table->count : 1);
}

/* A child: the tests of a pretence, from where the one before it ended. */
static int run_pretence(void *user)
{
    struct progress *progress = user;
    char caps[512];
    tap = &progress->tap;
    qn_context *context =
        open_as(progress->options, &pretences[progress->pretence], caps, sizeof caps);
    if (progress->pretence == 0) {
        progress->native = context->caps;
        snprintf(progress->device, sizeof progress->device, "%s", qn_device_name(context));
    }
    bool is_native = context->caps.device_class == progress->native.device_class &&
                     context->caps.float_width == progress->native.float_width &&
                     context->caps.matrix == progress->native.matrix;
    bool is_well = true;
    if (progress->pretence > 0 && is_native)
        progress->type = QN_TYPES;
    else
        note("%s, QUERN_CAPS=\"%s\"", qn_device_name(context), context->pretended);
    while (is_well && progress->type < QN_TYPES) {
        is_well = run_here(progress, context);
        step_on(progress, !is_well);
    }
    struct qn_counters counters = qn_counters(context);
    note("%zu kernels built, %zu programs loaded, %.1f s", counters.kernels_built,
         counters.programs_loaded, counters.build_seconds);
    qn_close(context);
    return is_well ? EXIT_SUCCESS : UNFINISHED;
}

/* What was lost with a child. */
static void report_death(struct progress *progress, const char *how)
{
    if (progress->type == QN_TYPES) {
        ok(false, "the driver ended the process at its end: %s", how);
        return;
    }
    const struct row *rows = table_at(progress->table)->rows;
    if (progress->row == WHOLE)
        note("%s: the driver ended the process: %s; now its rows one by one", rows->group, how);
    else
        ok(false, "%s: the driver ended the process: %s", rows[progress->row].name, how);
    step_on(progress, true);
}

/* False if no test makes sense. */
static bool run_to_the_end(struct progress *progress)
{
    int status = UNFINISHED;
    progress->type = progress->table = 0;
    progress->row = WHOLE;
    while (status == UNFINISHED || (status == -1 && progress->type < QN_TYPES)) {
        char how[128];
        status = process_run(run_pretence, progress, how, sizeof how);
        if (status == -1)
            report_death(progress, how);
    }
    return status == EXIT_SUCCESS || status == -1;
}

int check_operations(const struct check_options *options)
{
    struct progress *progress = shared_new(sizeof *progress);
    if (!progress)
        bail_out("out of memory");
    progress->options = options;
    tap = &progress->tap;
    bool goes_on = true;
    size_t pretences_wanted = options->as_is ? 1 : PRETENCES;
    for (; goes_on && progress->pretence < pretences_wanted; progress->pretence++)
        goes_on = run_to_the_end(progress);
    if (goes_on)
        fprintf(stderr, "%s: %d tests, %d failed%s\n", progress->device, tap->run, tap->failed,
                tap->run ? "" : ": no row has such a variant, type or gradient");
    int status = goes_on ? done_testing() : EXIT_FAILURE;
    tap = &tap_here;
    shared_free(progress, sizeof *progress);
    return status;
}

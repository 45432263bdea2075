/* The context: opening and closing, the first error, types. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "device/memory.h"
#include "gemm/gemm.h"
#include "gemm/tuning.h"

/* What qn_error(NULL) gives: there is no context to keep it in. */
static _Thread_local char error_without_context[sizeof((qn_context *)NULL)->error];

/* ---- Errors ---- */

int context_fail(qn_context *context, enum qn_status status, const char *format, ...)
{
    if (context->status != QN_OK)
        return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context->error, sizeof context->error, format, arguments);
    va_end(arguments);
    context->status = status;
    return status;
}

int fail_without_context(enum qn_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_without_context, sizeof error_without_context, format, arguments);
    va_end(arguments);
    return status;
}

const char *qn_error(const qn_context *context)
{
    return context ? context->error : error_without_context;
}

void qn_clear_error(qn_context *context)
{
    if (context) {
        context->status = QN_OK;
        context->error[0] = '\0';
    } else {
        error_without_context[0] = '\0';
    }
}

/* ---- Host memory ---- */

void *context_alloc(qn_context *context, size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory)
        context_fail(context, QN_ERROR_MEMORY, "out of memory: %zu x %zu bytes", count, size);
    return memory;
}

void *context_grow(qn_context *context, void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    size_t more = size_max(2 * *capacity, 16), bytes;
    void *grown = size_product(&bytes, more, size) ? realloc(array, bytes) : NULL;
    if (grown)
        *capacity = more;
    else
        context_fail(context, QN_ERROR_MEMORY, "out of memory: %zu x %zu bytes", more, size);
    return grown;
}

bool size_product(size_t *product, size_t a, size_t b)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *product = a * b;
    return true;
}

/* ---- Opening and closing ---- */

static int set_gemm(qn_context *context, const char *choice)
{
    static const char *const names[] = {[QN_GEMM_AUTO] = "auto",
                                        [QN_GEMM_OWN] = "own",
                                        [QN_GEMM_CLBLAST] = "clblast",
                                        [QN_GEMM_TF32] = "tf32"};
    enum { CHOICES = sizeof names / sizeof *names };
    int found = 0;
    while (choice && found < CHOICES && strcmp(choice, names[found]) != 0)
        found++;
    if (found == CHOICES)
        return context_fail(context, QN_ERROR_INVALID,
                            "gemm: \"%s\" is none of auto, clblast, own and tf32", choice);
    if (found == QN_GEMM_CLBLAST && !context->caps.clblast)
        return context_fail(context, QN_ERROR_INVALID,
                            "gemm: CLBlast cannot be used here: it is not built in, or is known to "
                            "fail on this device (see `quern devices`)");
    if (found == QN_GEMM_TF32 && !gemm_matrix_is_there(QN_F32, &context->caps))
        return context_fail(context, QN_ERROR_INVALID,
                            "gemm: tf32 cannot be used here: the device has no instructions for "
                            "matrices of TF32, or no room for a kernel of them: %zu bytes of local "
                            "memory, work-groups of %zu (see `quern devices`)",
                            context->caps.local_memory, context->caps.max_work_group);
    context->caps.gemm = (enum qn_gemm)found;
    return QN_OK;
}

qn_context *qn_open(const char *device)
{
    return qn_open_with(&(struct qn_options){.device = device});
}

qn_context *qn_open_with(const struct qn_options *options)
{
    struct qn_options chosen = options ? *options : (struct qn_options){0};
    qn_context *context = calloc(1, sizeof *context);
    if (!context) {
        fail_without_context(QN_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    context->pretended = chosen.caps;
    context->cl_dir = chosen.cl_dir;
    context->only_variant = chosen.variant;
    context->keeps_origins = chosen.keep_origins || chosen.detect_anomaly;
    context->detect_anomaly = context->is_unfused = chosen.detect_anomaly;
    if (device_open(context, chosen.device, chosen.profile) != QN_OK ||
        set_gemm(context, chosen.gemm) != QN_OK || tuning_open(context, chosen.tuning) != QN_OK) {
        fail_without_context(context->status, "%s", context->error);
        qn_close(context);
        return NULL;
    }
    if (chosen.plan_only) {
        device_close(context->device);
        context->device = NULL;
        context->plan_only = true;
    }
    qn_clear_error(NULL);
    return context;
}

void qn_close(qn_context *context)
{
    if (!context)
        return;
    arena_free(context, context->arena);
    tuning_free(context->tuning);
    device_close(context->device);
    free(context);
}

const char *qn_device_name(const qn_context *context)
{
    return context->device ? context->device->name : "none";
}

struct qn_counters qn_counters(const qn_context *context)
{
    return context->counters;
}

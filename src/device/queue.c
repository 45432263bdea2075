/* The queue: buffers, and commands in order. */
#include <time.h>

#include "device/device.h"

/* So many commands, and the driver is told to start on them: more often costs calls, more rarely
 * lets the device idle. */
enum { FLUSH_INTERVAL = 64 };

/* ---- Buffers ---- */

static double mebibytes(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

int device_claim(qn_context *context, size_t bytes)
{
    const struct qn_caps *caps = &context->caps;
    struct qn_counters *counters = &context->counters;
    if (bytes > caps->max_allocation)
        return context_fail(context, QN_ERROR_DEVICE_MEMORY,
                            "a buffer of %.1f MiB is larger than the device allows (%.1f MiB)",
                            mebibytes(bytes), mebibytes(caps->max_allocation));
    /* Drivers promise more than there is, and then crawl or kill the program. */
    if (bytes > caps->global_memory - size_min(counters->device_bytes, caps->global_memory))
        return context_fail(
            context, QN_ERROR_DEVICE_MEMORY,
            "device out of memory: %.1f MiB more than the %.1f MiB in use, of %.1f MiB; use a "
            "smaller batch, a shorter context or a smaller model",
            mebibytes(bytes), mebibytes(counters->device_bytes), mebibytes(caps->global_memory));
    counters->device_allocations++;
    counters->device_bytes += bytes;
    counters->device_bytes_peak = size_max(counters->device_bytes_peak, counters->device_bytes);
    return QN_OK;
}

cl_mem device_buffer(qn_context *context, size_t bytes)
{
    if (device_claim(context, bytes) != QN_OK)
        return NULL;
    cl_int code;
    cl_mem buffer = clCreateBuffer(context->device->cl, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (device_check(context, code, "a buffer of %.1f MiB", mebibytes(bytes)) == QN_OK)
        return buffer;
    context->counters.device_allocations--;
    context->counters.device_bytes -= bytes;
    return NULL;
}

void device_buffer_free(qn_context *context, cl_mem buffer, size_t bytes)
{
    if (buffer)
        clReleaseMemObject(buffer);
    if (buffer || context->plan_only)
        context->counters.device_bytes -= bytes;
}

/* ---- Commands ---- */

static int command_check(qn_context *context, cl_int code, const struct command *command,
                         const char *call)
{
    if (code == CL_SUCCESS)
        return QN_OK;
    const char *node = command->node ? command->node : "";
    return device_check(context, code, "%s%s%s%s: %s", node, *node ? " (" : "", command->op,
                        *node ? ")" : "", call);
}

static int enqueue_kernel(qn_context *context, const struct command *command)
{
    struct device *device = context->device;
    cl_event event = NULL;
    cl_int code =
        clEnqueueNDRangeKernel(device->queue, command->kernel, command->dims, NULL, command->global,
                               command->local, 0, NULL, device->profile ? &event : NULL);
    int status = command_check(context, code, command, "clEnqueueNDRangeKernel");
    return status == QN_OK && device->profile ? profile_command(context, command, NULL, event)
                                              : status;
}

static int enqueue_call(qn_context *context, const struct command *command)
{
    struct device *device = context->device;
    cl_event start = NULL, end = NULL;
    cl_int code = CL_SUCCESS;
    if (device->profile)
        code = clEnqueueMarkerWithWaitList(device->queue, 0, NULL, &start);
    if (code == CL_SUCCESS)
        code = command->call(device->queue, command->buffers, command->arguments);
    if (code == CL_SUCCESS && device->profile)
        code = clEnqueueMarkerWithWaitList(device->queue, 0, NULL, &end);
    int status =
        command_check(context, code, command, command->variant ? command->variant : "call");
    if (status == QN_OK && device->profile)
        return profile_command(context, command, start, end);
    if (start)
        clReleaseEvent(start);
    return status;
}

static int enqueue(qn_context *context, const struct command *command)
{
    return command->kernel ? enqueue_kernel(context, command) : enqueue_call(context, command);
}

static double seconds_now(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int wait_for_device(qn_context *context)
{
    return device_check(context, clFinish(context->device->queue), "waiting for the device");
}

/* Runs a command to its end, by the host's clock. */
static int enqueue_timed(qn_context *context, const struct command *command)
{
    double begin = seconds_now();
    int status = enqueue(context, command);
    if (status == QN_OK)
        status = wait_for_device(context);
    profile_time_last(context->device->profile, seconds_now() - begin);
    return status;
}

int device_enqueue(qn_context *context, const struct command *commands, size_t count)
{
    struct device *device = context->device;
    if (!device)
        return context_fail(context, QN_ERROR_INVALID,
                            "the context has no device: nothing can be run");
    int status = device->profile ? profile_collect(context) : QN_OK;
    bool is_timed = device->profile && device->info.no_event_times;
    for (size_t i = 0; i < count && status == QN_OK; i++) {
        status = is_timed ? enqueue_timed(context, &commands[i]) : enqueue(context, &commands[i]);
        if (status == QN_OK && (i % FLUSH_INTERVAL == FLUSH_INTERVAL - 1 || i == count - 1))
            status = device_check(context, clFlush(device->queue), "clFlush");
    }
    return status;
}

int qn_finish(qn_context *context)
{
    if (!context)
        return QN_ERROR_INVALID;
    if (!context->device)
        return QN_OK;
    int status = wait_for_device(context);
    if (status == QN_OK && context->device->profile)
        status = profile_collect(context);
    return status;
}

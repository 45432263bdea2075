/* Devices: errors of OpenCL, opening and closing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "device/matrix.h"
#include "device/platforms.h"

/* ---- Errors ---- */

static const struct {
    cl_int code;
    const char *name;
    enum qn_status status; /* QN_OK: the usual one */
    const char *hint;
} cl_errors[] = {
    {CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND", 0, NULL},
    {CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE", 0, "another program may be using it"},
    {CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE", 0, NULL},
    {CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE", QN_ERROR_DEVICE_MEMORY,
     "the device is out of memory: use a smaller batch, a shorter context or a smaller model"},
    {CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES", 0,
     "the device is out of memory or registers, or was lost, or a kernel failed on it: try a "
     "smaller batch"},
    {CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY", QN_ERROR_MEMORY, "the host is out of memory"},
    {CL_PROFILING_INFO_NOT_AVAILABLE, "CL_PROFILING_INFO_NOT_AVAILABLE", 0, NULL},
    {CL_MEM_COPY_OVERLAP, "CL_MEM_COPY_OVERLAP", 0, NULL},
    {CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE", QN_ERROR_BUILD, NULL},
    {CL_MISALIGNED_SUB_BUFFER_OFFSET, "CL_MISALIGNED_SUB_BUFFER_OFFSET", 0, NULL},
    {CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
     0, "an earlier command failed on the device: profiling tells which"},
    {CL_INVALID_VALUE, "CL_INVALID_VALUE", 0, NULL},
    {CL_INVALID_DEVICE_TYPE, "CL_INVALID_DEVICE_TYPE", 0, NULL},
    {CL_INVALID_PLATFORM, "CL_INVALID_PLATFORM", 0, NULL},
    {CL_INVALID_DEVICE, "CL_INVALID_DEVICE", 0, NULL},
    {CL_INVALID_CONTEXT, "CL_INVALID_CONTEXT", 0, NULL},
    {CL_INVALID_QUEUE_PROPERTIES, "CL_INVALID_QUEUE_PROPERTIES", 0, NULL},
    {CL_INVALID_COMMAND_QUEUE, "CL_INVALID_COMMAND_QUEUE", 0,
     "the device was lost: a kernel that runs too long may do that"},
    {CL_INVALID_MEM_OBJECT, "CL_INVALID_MEM_OBJECT", 0, NULL},
    {CL_INVALID_BINARY, "CL_INVALID_BINARY", QN_ERROR_BUILD, NULL},
    {CL_INVALID_BUILD_OPTIONS, "CL_INVALID_BUILD_OPTIONS", QN_ERROR_BUILD, NULL},
    {CL_INVALID_PROGRAM, "CL_INVALID_PROGRAM", 0, NULL},
    {CL_INVALID_PROGRAM_EXECUTABLE, "CL_INVALID_PROGRAM_EXECUTABLE", QN_ERROR_BUILD, NULL},
    {CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME", QN_ERROR_BUILD, NULL},
    {CL_INVALID_KERNEL_DEFINITION, "CL_INVALID_KERNEL_DEFINITION", QN_ERROR_BUILD, NULL},
    {CL_INVALID_KERNEL, "CL_INVALID_KERNEL", 0, NULL},
    {CL_INVALID_ARG_INDEX, "CL_INVALID_ARG_INDEX", 0, "the kernel has fewer arguments"},
    {CL_INVALID_ARG_VALUE, "CL_INVALID_ARG_VALUE", 0, NULL},
    {CL_INVALID_ARG_SIZE, "CL_INVALID_ARG_SIZE", 0, "the kernel's argument has another type"},
    {CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS", 0, "the kernel has more arguments"},
    {CL_INVALID_WORK_DIMENSION, "CL_INVALID_WORK_DIMENSION", 0, NULL},
    {CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE", 0,
     "the work-group does not fit the device or the kernel: QUERN_CAPS=max_work_group=64 asks for "
     "smaller ones"},
    {CL_INVALID_WORK_ITEM_SIZE, "CL_INVALID_WORK_ITEM_SIZE", 0, NULL},
    {CL_INVALID_GLOBAL_OFFSET, "CL_INVALID_GLOBAL_OFFSET", 0, NULL},
    {CL_INVALID_EVENT_WAIT_LIST, "CL_INVALID_EVENT_WAIT_LIST", 0, NULL},
    {CL_INVALID_EVENT, "CL_INVALID_EVENT", 0, NULL},
    {CL_INVALID_OPERATION, "CL_INVALID_OPERATION", 0, NULL},
    {CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE", QN_ERROR_DEVICE_MEMORY,
     "larger than the device allows"},
    {CL_INVALID_GLOBAL_WORK_SIZE, "CL_INVALID_GLOBAL_WORK_SIZE", 0, NULL},
    {CL_INVALID_PROPERTY, "CL_INVALID_PROPERTY", 0, NULL},
    {-1001, "CL_PLATFORM_NOT_FOUND_KHR", 0, "no OpenCL driver is installed"},
};
enum { CL_ERRORS = sizeof cl_errors / sizeof *cl_errors };

static size_t find_error(cl_int code)
{
    size_t i = 0;
    while (i < CL_ERRORS && cl_errors[i].code != code)
        i++;
    return i;
}

const char *cl_error_name(cl_int code)
{
    size_t i = find_error(code);
    return code == CL_SUCCESS ? "CL_SUCCESS"
           : i < CL_ERRORS    ? cl_errors[i].name
                              : "unknown OpenCL error";
}

int device_check(qn_context *context, cl_int code, const char *what, ...)
{
    if (code == CL_SUCCESS)
        return QN_OK;
    if (context->device)
        context->device->error = code;
    char intended[512];
    va_list arguments;
    va_start(arguments, what);
    vsnprintf(intended, sizeof intended, what, arguments);
    va_end(arguments);
    size_t i = find_error(code);
    if (i == CL_ERRORS)
        return context_fail(context, QN_ERROR_DEVICE, "%s: OpenCL error %d", intended, code);
    enum qn_status status = cl_errors[i].status ? cl_errors[i].status : QN_ERROR_DEVICE;
    const char *hint = cl_errors[i].hint;
    return context_fail(context, status, "%s: %s%s%s%s", intended, cl_errors[i].name,
                        hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
}

/* ---- Opening ---- */

static cl_command_queue create_queue(cl_context cl, const struct device_info *info, bool profile,
                                     cl_int *code)
{
    cl_command_queue_properties properties = profile ? CL_QUEUE_PROFILING_ENABLE : 0;
    if (info->version < 20)
        return clCreateCommandQueue(cl, info->id, properties, code);
    const cl_queue_properties list[] = {CL_QUEUE_PROPERTIES, properties, 0};
    return clCreateCommandQueueWithProperties(cl, info->id, list, code);
}

static char *full_name(qn_context *context, const struct device_info *info)
{
    size_t size = sizeof info->platform_name + sizeof info->name + sizeof info->driver + 16;
    char *name = context_alloc(context, size, 1);
    if (name)
        snprintf(name, size, "%s, %s, driver %s", info->platform_name, info->name, info->driver);
    return name;
}

int device_open_plain(qn_context *context, const struct device_info *info, bool profile)
{
    if (info->problem[0])
        return context_fail(context, QN_ERROR_DEVICE, "%s", info->problem);
    context->caps = info->caps;
    int status = caps_pretend(context, &context->caps);
    if (status != QN_OK)
        return status;
    struct device *device = context_alloc(context, 1, sizeof *device);
    if (!device)
        return QN_ERROR_MEMORY;
    context->device = device;
    device->info = *info;
    device->name = full_name(context, info);
    cl_int code;
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)info->platform, 0};
    device->cl = clCreateContext(properties, 1, &info->id, NULL, NULL, &code);
    status = device->name ? device_check(context, code, "clCreateContext") : QN_ERROR_MEMORY;
    if (status == QN_OK) {
        device->queue = create_queue(device->cl, info, profile, &code);
        status = device_check(context, code, "clCreateCommandQueue");
    }
    if (status == QN_OK && profile && !(device->profile = profile_new(context)))
        status = QN_ERROR_MEMORY;
    if (status == QN_OK && !(device->programs = program_cache_new(context, info)))
        status = context->status;
    if (status == QN_OK)
        status = device_probe(context);
    if (status != QN_OK) {
        device_close(device);
        context->device = NULL;
    }
    return status;
}

static int open_info(qn_context *context, const struct device_info *info, bool profile)
{
    int status = device_open_plain(context, info, profile);
    if (status == QN_OK)
        context->caps.matrix = device_matrix(context, info, context->caps.matrix);
    return status;
}

/* Whether another device may do better: mistakes of the user's are the same everywhere. */
static bool is_fault_of_device(int status)
{
    return status == QN_ERROR_DEVICE || status == QN_ERROR_BUILD ||
           status == QN_ERROR_DEVICE_MEMORY;
}

static int open_first(qn_context *context, const struct candidates *candidates, bool profile)
{
    char skipped[1536] = "";
    size_t used = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        const struct device_info *info = candidates->device[i];
        int status = open_info(context, info, profile);
        if (status == QN_OK || !is_fault_of_device(status))
            return status;
        if (used < sizeof skipped)
            used += (size_t)snprintf(skipped + used, sizeof skipped - used, "\n  %s, %s: %s",
                                     info->platform_name, info->name, context->error);
        qn_clear_error(context);
    }
    return context_fail(context, QN_ERROR_DEVICE, "no device can be used:%s", skipped);
}

int device_open(qn_context *context, const char *selector, bool profile)
{
    selector = selector_or_environment(selector);
    if (selector && strcasecmp(selector, "none") == 0) {
        context->caps = caps_none();
        return caps_pretend(context, &context->caps);
    }
    struct platforms platforms;
    struct candidates candidates = {0};
    int status = platforms_find(context, &platforms);
    if (status == QN_OK)
        status = platforms_choose(context, &platforms, selector, &candidates);
    if (status == QN_OK)
        status = open_first(context, &candidates, profile);
    free(candidates.device);
    platforms_free(&platforms);
    return status;
}

void device_selector(const qn_context *context, char text[SELECTOR_TEXT])
{
    const struct device *device = context->device;
    text[0] = '\0';
    if (device)
        selector_text(&device->info, text);
}

void device_close(struct device *device)
{
    if (!device)
        return;
    if (device->queue)
        clFinish(device->queue);
    profile_free(device->profile);
    program_cache_free(device->programs);
    if (device->queue)
        clReleaseCommandQueue(device->queue);
    if (device->cl)
        clReleaseContext(device->cl);
    free(device->name);
    free(device);
}

/* Devices: finding, choosing, opening and listing them. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "device/device.h"

/* cl_khr_icd: the short name of a platform's vendor, as "POCL". */
#ifndef CL_PLATFORM_ICD_SUFFIX_KHR
#define CL_PLATFORM_ICD_SUFFIX_KHR 0x0920
#endif

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
     "the device is out of memory or registers, or a kernel failed on it: try a smaller batch"},
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
     "the work-group does not fit the device, or does not divide the range"},
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

/* ---- Platforms ---- */

struct platform {
    cl_platform_id id;
    size_t number;
    char name[128], version[192], vendor[128], suffix[32];
    bool queried; /* the fields below are filled in: asking can be slow */
    struct device_info *devices;
    size_t count;
    char problem[256]; /* why there are no devices, or "" */
};

struct platforms {
    struct platform *platform;
    size_t count;
};

/* Copies what a query gives, without blanks around it; "" if it fails. */
static void copy_text(char *text, size_t size, const char *found)
{
    found += strspn(found, " \t");
    size_t length = strlen(found);
    while (length > 0 && isspace((unsigned char)found[length - 1]))
        length--;
    snprintf(text, size, "%.*s", (int)length, found);
}

static void query_platform(cl_platform_id id, cl_platform_info what, char *text, size_t size)
{
    char found[1024] = "";
    if (clGetPlatformInfo(id, what, sizeof found - 1, found, NULL) != CL_SUCCESS)
        found[0] = '\0';
    copy_text(text, size, found);
}

static void query_device(cl_device_id id, cl_device_info what, char *text, size_t size)
{
    char found[1024] = "";
    if (clGetDeviceInfo(id, what, sizeof found - 1, found, NULL) != CL_SUCCESS)
        found[0] = '\0';
    copy_text(text, size, found);
}

/* 12 of "OpenCL 1.2 and more". */
static int version_number(const char *text)
{
    int major, minor;
    return sscanf(text, "OpenCL %d.%d", &major, &minor) == 2 ? 10 * major + minor : 0;
}

static void query_info(struct device_info *info, const struct platform *platform, cl_device_id id,
                       size_t number)
{
    *info = (struct device_info){.platform = platform->id,
                                 .id = id,
                                 .platform_number = platform->number,
                                 .device_number = number};
    memcpy(info->platform_name, platform->name, sizeof info->platform_name);
    memcpy(info->platform_version, platform->version, sizeof info->platform_version);
    query_device(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    query_device(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    query_device(id, CL_DEVICE_OPENCL_C_VERSION, info->opencl_c, sizeof info->opencl_c);
    clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof info->type, &info->type, NULL);
    char version[192];
    query_device(id, CL_DEVICE_VERSION, version, sizeof version);
    int device = version_number(version), of_platform = version_number(platform->version);
    info->version = device < of_platform ? device : of_platform;
    caps_query(info);
}

/* Fills in the platform's devices, once. */
static int query_devices(qn_context *context, struct platform *platform)
{
    if (platform->queried)
        return QN_OK;
    cl_uint count = 0;
    cl_int code = clGetDeviceIDs(platform->id, CL_DEVICE_TYPE_ALL, 0, NULL, &count);
    if (code != CL_SUCCESS && code != CL_DEVICE_NOT_FOUND)
        snprintf(platform->problem, sizeof platform->problem, "its driver fails: %s",
                 cl_error_name(code));
    else if (count == 0)
        snprintf(platform->problem, sizeof platform->problem, "it has no devices");
    platform->queried = true;
    if (platform->problem[0])
        return QN_OK;
    cl_device_id *ids = context_alloc(context, count, sizeof *ids);
    platform->devices = context_alloc(context, count, sizeof *platform->devices);
    if (ids && platform->devices) {
        cl_uint filled = count;
        if (clGetDeviceIDs(platform->id, CL_DEVICE_TYPE_ALL, count, ids, &filled) == CL_SUCCESS)
            platform->count = size_min(count, filled);
        for (size_t i = 0; i < platform->count; i++)
            query_info(&platform->devices[i], platform, ids[i], i);
    }
    free(ids);
    return platform->devices ? QN_OK : QN_ERROR_MEMORY;
}

static void platforms_free(struct platforms *platforms)
{
    for (size_t i = 0; i < platforms->count; i++)
        free(platforms->platform[i].devices);
    free(platforms->platform);
    *platforms = (struct platforms){0};
}

/* All platforms, without their devices yet. */
static int find_platforms(qn_context *context, struct platforms *platforms)
{
    *platforms = (struct platforms){0};
    cl_uint count = 0;
    if (clGetPlatformIDs(0, NULL, &count) != CL_SUCCESS || count == 0)
        return QN_OK;
    cl_platform_id *ids = context_alloc(context, count, sizeof *ids);
    platforms->platform = context_alloc(context, count, sizeof *platforms->platform);
    if (!ids || !platforms->platform) {
        free(ids);
        platforms_free(platforms);
        return QN_ERROR_MEMORY;
    }
    cl_uint filled = count;
    if (clGetPlatformIDs(count, ids, &filled) == CL_SUCCESS)
        platforms->count = size_min(count, filled);
    for (size_t i = 0; i < platforms->count; i++) {
        struct platform *platform = &platforms->platform[i];
        platform->id = ids[i];
        platform->number = i;
        query_platform(ids[i], CL_PLATFORM_NAME, platform->name, sizeof platform->name);
        query_platform(ids[i], CL_PLATFORM_VERSION, platform->version, sizeof platform->version);
        query_platform(ids[i], CL_PLATFORM_VENDOR, platform->vendor, sizeof platform->vendor);
        query_platform(ids[i], CL_PLATFORM_ICD_SUFFIX_KHR, platform->suffix,
                       sizeof platform->suffix);
    }
    free(ids);
    return QN_OK;
}

/* ---- Choosing ----
 *
 * Candidates are devices, best first.  They are tried in this order until one opens. */

struct candidates {
    struct device_info **device;
    size_t count, capacity;
};

static bool is_gpu(const struct device_info *info)
{
    return (info->type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR)) != 0;
}

/* A guess at floats per microsecond: good enough to prefer one device to another.  Some drivers
 * report no clock.  Vectors count on CPUs only: what GPUs report as their width says nothing about
 * them. */
static double guess_speed(const struct device_info *info)
{
    const struct qn_caps *caps = &info->caps;
    double width = caps->device_class == QN_CPU ? (double)caps->float_width : 1;
    return (double)caps->compute_units * (double)(caps->clock_mhz ? caps->clock_mhz : 1000) * width;
}

static bool is_better(const struct device_info *a, const struct device_info *b)
{
    return is_gpu(a) != is_gpu(b) ? is_gpu(a) : guess_speed(a) > guess_speed(b);
}

static int add_candidate(qn_context *context, struct candidates *candidates,
                         struct device_info *info)
{
    if (candidates->count == candidates->capacity) {
        size_t capacity = candidates->capacity ? 2 * candidates->capacity : 8;
        struct device_info **more = realloc(candidates->device, capacity * sizeof *more);
        if (!more)
            return context_fail(context, QN_ERROR_MEMORY, "out of memory");
        candidates->device = more;
        candidates->capacity = capacity;
    }
    size_t place = candidates->count++;
    for (; place > 0 && is_better(info, candidates->device[place - 1]); place--)
        candidates->device[place] = candidates->device[place - 1];
    candidates->device[place] = info;
    return QN_OK;
}

/* How well a word names something: a number, all of a name, a part of it. */
enum match { NO_MATCH, PART_MATCH, FULL_MATCH };

static bool is_number(const char *word)
{
    return *word && strspn(word, "0123456789") == strlen(word);
}

static enum match match_name(const char *word, const char *name, size_t number)
{
    if (!*word)
        return PART_MATCH;
    if (is_number(word))
        return strlen(word) < 10 && strtoul(word, NULL, 10) == number ? FULL_MATCH : NO_MATCH;
    return strcasecmp(word, name) == 0 ? FULL_MATCH
           : strcasestr(name, word)    ? PART_MATCH
                                       : NO_MATCH;
}

static enum match match_vendor(const char *word, const struct platform *platform)
{
    return is_number(word) ? NO_MATCH
                           : (enum match)size_max(match_name(word, platform->vendor, 0),
                                                  match_name(word, platform->suffix, 0));
}

/* A selector taken apart. */
struct selection {
    char platform[256];
    const char *device; /* "" if there is none */
};

/* Adds the devices of a platform whose names match best. */
static int add_devices(qn_context *context, struct candidates *candidates,
                       struct platform *platform, const char *word)
{
    enum match best = PART_MATCH;
    for (size_t i = 0; i < platform->count; i++)
        best = (enum match)size_max(best, match_name(word, platform->devices[i].name, i));
    int status = QN_OK;
    for (size_t i = 0; i < platform->count && status == QN_OK; i++)
        if (match_name(word, platform->devices[i].name, i) == best)
            status = add_candidate(context, candidates, &platform->devices[i]);
    return status;
}

/* Platforms by name, else by vendor, else by the names of their devices; marks those that match
 * best and returns how well. */
enum tier { BY_NAME, BY_VENDOR, BY_DEVICE, TIERS };

static enum match match_tier(enum tier tier, const char *word, const struct platform *platform)
{
    if (tier == BY_NAME)
        return match_name(word, platform->name, platform->number);
    if (tier == BY_VENDOR)
        return match_vendor(word, platform);
    enum match best = NO_MATCH;
    for (size_t i = 0; i < platform->count && !is_number(word); i++)
        best = (enum match)size_max(best, match_name(word, platform->devices[i].name, 0));
    return best;
}

static int query_all(qn_context *context, struct platforms *platforms)
{
    int status = QN_OK;
    for (size_t i = 0; i < platforms->count && status == QN_OK; i++)
        status = query_devices(context, &platforms->platform[i]);
    return status;
}

static int find_named(qn_context *context, struct platforms *platforms,
                      const struct selection *selection, struct candidates *candidates)
{
    int status = QN_OK;
    for (enum tier tier = BY_NAME; tier < TIERS && candidates->count == 0 && status == QN_OK;
         tier++) {
        if (tier == BY_DEVICE)
            status = query_all(context, platforms);
        enum match best = PART_MATCH;
        for (size_t i = 0; i < platforms->count; i++)
            best = (enum match)size_max(
                best, match_tier(tier, selection->platform, &platforms->platform[i]));
        for (size_t i = 0; i < platforms->count && status == QN_OK; i++) {
            struct platform *platform = &platforms->platform[i];
            if (match_tier(tier, selection->platform, platform) != best)
                continue;
            status = query_devices(context, platform);
            if (status == QN_OK)
                status = add_devices(context, candidates, platform,
                                     tier == BY_DEVICE ? selection->platform : selection->device);
        }
    }
    return status;
}

/* "0:0 PLATFORM, DEVICE" for each candidate, or for all there is, one a line. */
static void list_names(char *text, size_t size, const struct platforms *platforms,
                       const struct candidates *candidates)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < platforms->count && used < size; i++) {
        const struct platform *platform = &platforms->platform[i];
        size_t listed = 0;
        for (size_t j = 0; j < platform->count && used < size; j++) {
            const struct device_info *info = &platform->devices[j];
            bool is_listed = !candidates;
            for (size_t k = 0; candidates && k < candidates->count; k++)
                is_listed = is_listed || candidates->device[k] == info;
            if (is_listed)
                used += (size_t)snprintf(text + used, size - used, "\n  %zu:%zu  %s, %s%s%s",
                                         platform->number, j, platform->name, info->name,
                                         info->problem[0] ? ": " : "", info->problem);
            listed += is_listed;
        }
        if (!candidates && listed == 0 && used < size)
            used += (size_t)snprintf(text + used, size - used, "\n  %zu    %s: %s",
                                     platform->number, platform->name, platform->problem);
    }
}

static int no_such_device(qn_context *context, struct platforms *platforms, const char *selector)
{
    int status = query_all(context, platforms);
    if (status != QN_OK)
        return status;
    char names[1536];
    list_names(names, sizeof names, platforms, NULL);
    return context_fail(context, QN_ERROR_DEVICE, "no device \"%s\"; there are:%s", selector,
                        names);
}

static int no_driver(qn_context *context)
{
    return context_fail(
        context, QN_ERROR_DEVICE,
        "no OpenCL driver found; `quern devices` says where it was looked for and what to "
        "install (on Debian, for any CPU: pocl-opencl-icd)");
}

/* The devices that the selector names, best first; an error if there are none, or if they belong to
 * several platforms. */
static int choose(qn_context *context, struct platforms *platforms, const char *selector,
                  struct candidates *candidates)
{
    if (platforms->count == 0)
        return no_driver(context);
    int status = QN_OK;
    if (!selector) {
        status = query_all(context, platforms);
        for (size_t i = 0; i < platforms->count && status == QN_OK; i++)
            status = add_devices(context, candidates, &platforms->platform[i], "");
        if (status == QN_OK && candidates->count == 0)
            status = no_such_device(context, platforms, "");
        return status;
    }
    struct selection selection = {.device = ""};
    const char *colon = strchr(selector, ':');
    size_t length = colon ? (size_t)(colon - selector) : strlen(selector);
    if (length >= sizeof selection.platform)
        return context_fail(context, QN_ERROR_INVALID, "the name of a device is too long");
    memcpy(selection.platform, selector, length);
    if (colon)
        selection.device = colon + 1;
    status = find_named(context, platforms, &selection, candidates);
    if (status == QN_OK && candidates->count == 0)
        return no_such_device(context, platforms, selector);
    for (size_t i = 1; i < candidates->count && status == QN_OK; i++) {
        if (candidates->device[i]->platform == candidates->device[0]->platform)
            continue;
        char names[1536];
        list_names(names, sizeof names, platforms, candidates);
        status = context_fail(context, QN_ERROR_DEVICE,
                              "\"%s\" names devices of several platforms:%s", selector, names);
    }
    return status;
}

static const char *selector_or_environment(const char *selector)
{
    if (!selector)
        selector = getenv("QUERN_DEVICE");
    return selector && *selector ? selector : NULL;
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

static int override_caps(qn_context *context, struct qn_caps *caps)
{
    const char *words = getenv("QUERN_CAPS");
    return words ? caps_override(context, caps, words) : QN_OK;
}

/* Opens one device as context->device; on failure there is none. */
static int open_info(qn_context *context, const struct device_info *info, bool profile)
{
    if (info->problem[0])
        return context_fail(context, QN_ERROR_DEVICE, "%s", info->problem);
    context->caps = info->caps;
    int status = override_caps(context, &context->caps);
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
        return override_caps(context, &context->caps);
    }
    struct platforms platforms;
    struct candidates candidates = {0};
    int status = find_platforms(context, &platforms);
    if (status == QN_OK)
        status = choose(context, &platforms, selector, &candidates);
    if (status == QN_OK)
        status = open_first(context, &candidates, profile);
    free(candidates.device);
    platforms_free(&platforms);
    return status;
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

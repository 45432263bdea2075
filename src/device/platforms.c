/* Platforms and devices: finding them, and choosing those that a name stands for. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "device/platforms.h"

/* cl_khr_icd: the short name of a platform's vendor, as "POCL". */
#ifndef CL_PLATFORM_ICD_SUFFIX_KHR
#define CL_PLATFORM_ICD_SUFFIX_KHR 0x0920
#endif

/* cl_khr_icd: what the loader says when there is no driver. */
enum { NO_PLATFORM = -1001 };

/* ---- Platforms ---- */

/* Copies what a query gives, without blanks around it; "" if it fails. */
static void copy_text(char *text, size_t size, const char *found)
{
    found += strspn(found, " \t");
    size_t length = strlen(found);
    while (length > 0 && isspace((unsigned char)found[length - 1]))
        length--;
    snprintf(text, size, "%.*s", (int)length, found);
}

static cl_int query_platform(cl_platform_id id, cl_platform_info what, char *text, size_t size)
{
    char found[1024] = "";
    cl_int code = clGetPlatformInfo(id, what, sizeof found - 1, found, NULL);
    copy_text(text, size, code == CL_SUCCESS ? found : "");
    return code;
}

static void query_device(struct device_info *info, cl_device_info what, char *text, size_t size)
{
    char found[1024] = "";
    cl_int code = clGetDeviceInfo(info->id, what, sizeof found - 1, found, NULL);
    copy_text(text, size, code == CL_SUCCESS ? found : "");
    query_check(info, what, code);
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
    query_device(info, CL_DEVICE_NAME, info->name, sizeof info->name);
    query_device(info, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    query_device(info, CL_DEVICE_OPENCL_C_VERSION, info->opencl_c, sizeof info->opencl_c);
    query_check(info, CL_DEVICE_TYPE,
                clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof info->type, &info->type, NULL));
    char version[192];
    query_device(info, CL_DEVICE_VERSION, version, sizeof version);
    int device = version_number(version), of_platform = version_number(platform->version);
    info->version = device < of_platform ? device : of_platform;
    caps_query(info);
}

static void platform_check(struct platform *platform, cl_int code)
{
    if (code != CL_SUCCESS && !platform->problem[0])
        snprintf(platform->problem, sizeof platform->problem, "its driver fails: %s",
                 cl_error_name(code));
}

/* Fills in the platform's devices, once. */
static int query_devices(qn_context *context, struct platform *platform)
{
    if (platform->queried)
        return QN_OK;
    cl_uint count = 0;
    cl_int code = clGetDeviceIDs(platform->id, CL_DEVICE_TYPE_ALL, 0, NULL, &count);
    platform_check(platform, code == CL_DEVICE_NOT_FOUND ? CL_SUCCESS : code);
    if (!platform->problem[0] && count == 0)
        snprintf(platform->problem, sizeof platform->problem, "it has no devices");
    platform->queried = true;
    if (platform->problem[0])
        return QN_OK;
    cl_device_id *ids = context_alloc(context, count, sizeof *ids);
    platform->devices = context_alloc(context, count, sizeof *platform->devices);
    if (ids && platform->devices) {
        cl_uint filled = count;
        code = clGetDeviceIDs(platform->id, CL_DEVICE_TYPE_ALL, count, ids, &filled);
        platform_check(platform, code);
        if (code == CL_SUCCESS)
            platform->count = size_min(count, filled);
        for (size_t i = 0; i < platform->count; i++)
            query_info(&platform->devices[i], platform, ids[i], i);
    }
    free(ids);
    return platform->devices ? QN_OK : QN_ERROR_MEMORY;
}

void platforms_free(struct platforms *platforms)
{
    for (size_t i = 0; i < platforms->count; i++)
        free(platforms->platform[i].devices);
    free(platforms->platform);
    *platforms = (struct platforms){0};
}

int platforms_find(qn_context *context, struct platforms *platforms)
{
    *platforms = (struct platforms){0};
    cl_uint count = 0;
    cl_int code = clGetPlatformIDs(0, NULL, &count);
    if (code == NO_PLATFORM || (code == CL_SUCCESS && count == 0))
        return QN_OK;
    if (code != CL_SUCCESS)
        return device_check(context, code, "looking for OpenCL platforms");
    cl_platform_id *ids = context_alloc(context, count, sizeof *ids);
    platforms->platform = context_alloc(context, count, sizeof *platforms->platform);
    if (!ids || !platforms->platform) {
        free(ids);
        platforms_free(platforms);
        return QN_ERROR_MEMORY;
    }
    cl_uint filled = count;
    code = clGetPlatformIDs(count, ids, &filled);
    if (code == CL_SUCCESS)
        platforms->count = size_min(count, filled);
    for (size_t i = 0; i < platforms->count; i++) {
        struct platform *platform = &platforms->platform[i];
        platform->id = ids[i];
        platform->number = i;
        platform_check(platform, query_platform(ids[i], CL_PLATFORM_NAME, platform->name,
                                                sizeof platform->name));
        platform_check(platform, query_platform(ids[i], CL_PLATFORM_VERSION, platform->version,
                                                sizeof platform->version));
        query_platform(ids[i], CL_PLATFORM_VENDOR, platform->vendor, sizeof platform->vendor);
        query_platform(ids[i], CL_PLATFORM_ICD_SUFFIX_KHR, platform->suffix,
                       sizeof platform->suffix);
    }
    free(ids);
    return device_check(context, code, "looking for OpenCL platforms");
}

/* ---- Choosing ---- */

bool is_gpu(const struct device_info *info)
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
    struct device_info **grown = context_grow(context, candidates->device, candidates->count,
                                              &candidates->capacity, sizeof *grown);
    if (!grown)
        return QN_ERROR_MEMORY;
    candidates->device = grown;
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

/* What a word may name: a platform by its name, else by its vendor, else by one of its devices. */
enum tier { BY_NAME, BY_VENDOR, BY_DEVICE };

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

int platforms_query(qn_context *context, struct platforms *platforms)
{
    int status = QN_OK;
    for (size_t i = 0; i < platforms->count && status == QN_OK; i++)
        status = query_devices(context, &platforms->platform[i]);
    return status;
}

/* The devices that match best; and whether a device was named, not only its platform. */
static int find_named(qn_context *context, struct platforms *platforms,
                      const struct selection *selection, struct candidates *candidates,
                      bool *is_device)
{
    int status = QN_OK;
    /* "A:B" is device B of platform A; a device alone has no colon. */
    enum tier last = *selection->device ? BY_VENDOR : BY_DEVICE;
    for (enum tier tier = BY_NAME; tier <= last && candidates->count == 0 && status == QN_OK;
         tier++) {
        if (tier == BY_DEVICE)
            status = platforms_query(context, platforms);
        enum match best = PART_MATCH;
        for (size_t i = 0; i < platforms->count; i++)
            best = (enum match)size_max(
                best, match_tier(tier, selection->platform, &platforms->platform[i]));
        for (size_t i = 0; i < platforms->count && status == QN_OK; i++) {
            struct platform *platform = &platforms->platform[i];
            if (match_tier(tier, selection->platform, platform) != best)
                continue;
            *is_device = *selection->device || tier == BY_DEVICE;
            status = query_devices(context, platform);
            if (status == QN_OK)
                status = add_devices(context, candidates, platform,
                                     tier == BY_DEVICE ? selection->platform : selection->device);
        }
    }
    return status;
}

/* Forgets devices that cannot be used, unless there are no others: opening them then says why. */
static void drop_unusable(struct candidates *candidates)
{
    size_t usable = 0;
    for (size_t i = 0; i < candidates->count; i++)
        if (!candidates->device[i]->problem[0])
            candidates->device[usable++] = candidates->device[i];
    candidates->count = usable ? usable : candidates->count;
}

void selector_text(const struct device_info *info, char text[SELECTOR_TEXT])
{
    snprintf(text, SELECTOR_TEXT, "%zu:%zu", info->platform_number, info->device_number);
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
            char selector[SELECTOR_TEXT];
            bool is_listed = !candidates;
            for (size_t k = 0; candidates && k < candidates->count; k++)
                is_listed = is_listed || candidates->device[k] == info;
            selector_text(info, selector);
            if (is_listed)
                used += (size_t)snprintf(text + used, size - used, "\n  %s  %s, %s%s%s", selector,
                                         platform->name, info->name, info->problem[0] ? ": " : "",
                                         info->problem);
            listed += is_listed;
        }
        if (!candidates && listed == 0 && used < size)
            used += (size_t)snprintf(text + used, size - used, "\n  %zu    %s: %s",
                                     platform->number, platform->name, platform->problem);
    }
}

static int no_such_device(qn_context *context, struct platforms *platforms, const char *selector)
{
    int status = platforms_query(context, platforms);
    if (status != QN_OK)
        return status;
    char names[1536];
    list_names(names, sizeof names, platforms, NULL);
    return context_fail(context, QN_ERROR_DEVICE, "no device \"%s\"; there are:%s", selector,
                        names);
}

static int no_device(qn_context *context, const struct platforms *platforms)
{
    char names[1536];
    list_names(names, sizeof names, platforms, NULL);
    return context_fail(
        context, QN_ERROR_DEVICE,
        "no OpenCL device found; `quern devices` says where drivers were looked for and "
        "what to install (on Debian, for any CPU: pocl-opencl-icd)%s",
        names);
}

int platforms_choose(qn_context *context, struct platforms *platforms, const char *selector,
                     struct candidates *candidates)
{
    if (platforms->count == 0)
        return no_device(context, platforms);
    int status = QN_OK;
    if (!selector) {
        status = platforms_query(context, platforms);
        for (size_t i = 0; i < platforms->count && status == QN_OK; i++)
            status = add_devices(context, candidates, &platforms->platform[i], "");
        if (status == QN_OK && candidates->count == 0)
            status = no_device(context, platforms);
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
    bool is_device = false;
    status = find_named(context, platforms, &selection, candidates, &is_device);
    if (status == QN_OK && candidates->count == 0)
        return no_such_device(context, platforms, selector);
    drop_unusable(candidates);
    /* Of one platform that was named, the best device will do. */
    bool is_unclear = is_device && candidates->count > 1;
    for (size_t i = 1; i < candidates->count; i++)
        is_unclear =
            is_unclear || candidates->device[i]->platform != candidates->device[0]->platform;
    if (status == QN_OK && is_unclear) {
        char names[1536];
        list_names(names, sizeof names, platforms, candidates);
        status = context_fail(context, QN_ERROR_DEVICE,
                              "\"%s\" names several devices; choose one by its numbers:%s",
                              selector, names);
    }
    return status;
}

const char *selector_or_environment(const char *selector)
{
    if (!selector)
        selector = getenv("QUERN_DEVICE");
    return selector && *selector ? selector : NULL;
}

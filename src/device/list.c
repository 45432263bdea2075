/* The public list of platforms and devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/matrix.h"
#include "device/platforms.h"

/* The list, and what it points into. */
struct listing {
    qn_device_list list; /* first: a pointer to it is one to the whole */
    struct platforms platforms;
    struct qn_device *devices;
    char (*selectors)[SELECTOR_TEXT];
    char reason[2048];
};

static const char *type_name(cl_device_type type)
{
    static const struct {
        cl_device_type type;
        const char *name;
    } names[] = {{CL_DEVICE_TYPE_GPU, "GPU"},
                 {CL_DEVICE_TYPE_ACCELERATOR, "accelerator"},
                 {CL_DEVICE_TYPE_CPU, "CPU"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (type & names[i].type)
            return names[i].name;
    return "custom";
}

static struct qn_device describe(const struct device_info *info, const struct qn_caps *caps,
                                 const char *selector)
{
    return (struct qn_device){
        .selector = selector,
        .platform = info->platform_name,
        .platform_version = info->platform_version,
        .name = info->name,
        .driver = info->driver,
        .opencl_c = info->opencl_c,
        .type = type_name(info->type),
        .device_class = caps->device_class == QN_CPU ? "cpu" : "gpu",
        .compute_units = caps->compute_units,
        .clock_mhz = caps->clock_mhz,
        .float_width = caps->float_width,
        .global_memory = caps->global_memory,
        .max_allocation = caps->max_allocation,
        .local_memory = caps->local_memory,
        .max_work_group = caps->max_work_group,
        .fp16 = caps->fp16,
        .fp64 = caps->fp64,
        .fma = caps->fma,
        .subgroups = caps->subgroups,
        .subgroup_size = caps->subgroup_size,
        .matrix = matrix_set(device_matrix(NULL, info, caps->matrix))->name,
        .matrix_problem = info->matrix_problem,
        .pci = info->pci,
        .quirks = info->quirks,
        .problem = info->problem,
    };
}

static struct qn_device describe_empty(const struct platform *platform, const char *selector)
{
    return (struct qn_device){
        .selector = selector,
        .platform = platform->name,
        .platform_version = platform->version,
        .name = "",
        .driver = "",
        .opencl_c = "",
        .type = "",
        .device_class = "",
        .matrix = "none",
        .matrix_problem = "",
        .pci = "",
        .quirks = "",
        .problem = platform->problem,
    };
}

/* What an earlier probe found; the list itself runs nothing. */
static void recall_probe(struct device_info *info)
{
    char verdict[256];
    bool is_settled = device_probe_recall(info, verdict, sizeof verdict);
    if (!info->problem[0] && is_settled && strcmp(verdict, "ok") != 0)
        snprintf(info->problem, sizeof info->problem, "when last tried: %s", verdict);
}

static int fill(qn_context *context, struct listing *listing)
{
    struct platforms *platforms = &listing->platforms;
    size_t most = 0;
    for (size_t i = 0; i < platforms->count; i++)
        most += size_max(platforms->platform[i].count, 1);
    listing->devices = context_alloc(context, most, sizeof *listing->devices);
    listing->selectors = context_alloc(context, most, sizeof *listing->selectors);
    if (!listing->devices || !listing->selectors)
        return QN_ERROR_MEMORY;
    listing->list.devices = listing->devices;
    for (size_t i = 0; i < platforms->count; i++) {
        struct platform *platform = &platforms->platform[i];
        for (size_t j = 0; j < size_max(platform->count, 1); j++) {
            size_t index = listing->list.count++;
            char *selector = listing->selectors[index];
            if (platform->count == 0) {
                snprintf(selector, SELECTOR_TEXT, "%zu", i);
                listing->devices[index] = describe_empty(platform, selector);
                continue;
            }
            struct device_info *info = &platform->devices[j];
            struct qn_caps caps = info->caps;
            int status = caps_pretend(context, &caps);
            if (status == QN_ERROR_DEVICE) { /* this one will not do; others may */
                snprintf(info->problem, sizeof info->problem, "%.500s", context->error);
                qn_clear_error(context);
            } else if (status != QN_OK) {
                return status;
            }
            recall_probe(info);
            matrix_problem(info, caps.matrix, info->matrix_problem, sizeof info->matrix_problem);
            selector_text(info, selector);
            listing->devices[index] = describe(info, &caps, selector);
        }
    }
    return QN_OK;
}

static size_t count_devices(const struct platforms *platforms, bool gpus)
{
    size_t count = 0;
    for (size_t i = 0; i < platforms->count; i++)
        for (size_t j = 0; j < platforms->platform[i].count; j++)
            count += is_gpu(&platforms->platform[i].devices[j]) == gpus;
    return count;
}

static void explain_choice(struct listing *listing, const char *selector,
                           const struct device_info *info)
{
    bool has_rivals = count_devices(&listing->platforms, is_gpu(info)) > 1;
    size_t units = info->caps.compute_units;
    char clock[32] = "clock not reported";
    if (info->caps.clock_mhz > 0)
        snprintf(clock, sizeof clock, "%zu MHz", info->caps.clock_mhz);
    if (selector)
        snprintf(listing->reason, sizeof listing->reason, "QUERN_DEVICE is \"%s\"", selector);
    else
        snprintf(listing->reason, sizeof listing->reason, "%s%s %s%s (%zu compute unit%s, %s)",
                 is_gpu(info) ? "" : "there is no GPU; ", has_rivals ? "the fastest" : "the only",
                 is_gpu(info) ? "GPU" : "CPU", has_rivals ? " by what drivers report" : "", units,
                 units == 1 ? "" : "s", clock);
}

/* What qn_open(NULL) would open, if probing finds nothing new. */
static void find_chosen(struct listing *listing)
{
    qn_context context = {0};
    struct candidates candidates = {0};
    const char *selector = selector_or_environment(NULL);
    if (selector && strcasecmp(selector, "none") == 0) {
        snprintf(listing->reason, sizeof listing->reason, "QUERN_DEVICE is \"none\"");
        return;
    }
    if (platforms_choose(&context, &listing->platforms, selector, &candidates) != QN_OK) {
        snprintf(listing->reason, sizeof listing->reason, "%s", context.error);
        free(candidates.device);
        return;
    }
    const struct device_info *chosen = NULL;
    for (size_t i = 0; i < candidates.count && !chosen; i++)
        if (!candidates.device[i]->problem[0])
            chosen = candidates.device[i];
    free(candidates.device);
    for (size_t i = 0; chosen && i < listing->list.count; i++)
        if (listing->devices[i].name == chosen->name)
            listing->list.chosen = &listing->devices[i];
    if (chosen)
        explain_choice(listing, selector, chosen);
    else
        snprintf(listing->reason, sizeof listing->reason, "no device can be used");
}

qn_device_list *qn_device_list_new(void)
{
    qn_context context = {0};
    struct listing *listing = context_alloc(&context, 1, sizeof *listing);
    int status = listing ? platforms_find(&context, &listing->platforms) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = platforms_query(&context, &listing->platforms);
    if (status == QN_OK)
        status = fill(&context, listing);
    if (status != QN_OK) {
        fail_without_context(context.status, "%s", context.error);
        if (listing)
            qn_device_list_free(&listing->list);
        return NULL;
    }
    listing->list.reason = listing->reason;
    find_chosen(listing);
    return &listing->list;
}

void qn_device_list_free(qn_device_list *list)
{
    if (!list)
        return;
    struct listing *listing = (struct listing *)list;
    platforms_free(&listing->platforms);
    free(listing->devices);
    free(listing->selectors);
    free(listing);
}

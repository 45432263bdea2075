/* quern devices: every OpenCL device; if there is none, why, and what to install. */
#include <string.h>

#include "cli/cli.h"
#include "cli/device_json.h"

/* ---- For reading ---- */

static void print_bytes(const char *name, size_t bytes, const char *end)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double amount = (double)bytes;
    size_t unit = 0;
    for (; amount >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
        amount /= 1024;
    printf("%s%.4g %s%s", name, amount, units[unit], end);
}

static void print_device(const struct qn_device *device, bool is_chosen)
{
    const char *mark = is_chosen ? "*" : " ";
    if (!*device->name) {
        printf("%s %-5s %s: %s\n\n", mark, device->selector, device->platform, device->problem);
        return;
    }
    printf("%s %-5s %s\n", mark, device->selector, device->name);
    if (*device->problem)
        printf("        unusable   %s\n", device->problem);
    printf("        platform   %s (%s)\n", device->platform, device->platform_version);
    printf("        driver     %s, %s\n", device->driver, device->opencl_c);
    printf("        class      %s, with kernels for %ss\n", device->type,
           *device->device_class == 'c' ? "CPU" : "GPU");
    printf("        compute    %zu units", device->compute_units);
    if (device->clock_mhz > 0)
        printf(" at %zu MHz", device->clock_mhz);
    printf(", vectors of %zu, work-groups up to %zu\n", device->float_width,
           device->max_work_group);
    print_bytes("        memory     ", device->global_memory, "");
    print_bytes(", at most ", device->max_allocation, " at once");
    print_bytes(", local ", device->local_memory, "\n");
    printf("        features   fp16 %s, fp64 %s, sub-groups %s", device->fp16 ? "yes" : "no",
           device->fp64 ? "yes" : "no", device->subgroups ? "yes" : "no");
    if (device->subgroup_size)
        printf(" (asked for: %zu)", device->subgroup_size);
    printf(", matrices %s%s\n", device->matrix,
           strcmp(device->matrix, "none") == 0 ? "" : " (tried before first use)");
    if (*device->matrix_problem)
        printf("        not used   %s\n", device->matrix_problem);
    if (*device->pci)
        printf("        bus        PCI %s\n", device->pci);
    if (*device->quirks)
        printf("        quirks     %s\n", device->quirks);
    printf("\n");
}

static void print_list(const qn_device_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        print_device(&list->devices[i], &list->devices[i] == list->chosen);
    if (list->chosen)
        printf("* is the default: %s\n", list->reason);
    else
        printf("There is no default: %s\n", list->reason);
}

static void print_loader(const qn_loader *loader)
{
    printf("OpenCL finds no device that Quern can use.\n\n");
    printf("loader     %s\n", *loader->library ? loader->library : "unknown");
    printf("looks in   %s%s%s%s\n", loader->place, *loader->because ? " (as " : "", loader->because,
           *loader->because ? " says)" : "");
    if (*loader->problem)
        printf("           %s\n", loader->problem);
    for (size_t i = 0; i < loader->count; i++) {
        const struct qn_icd *icd = &loader->icds[i];
        printf("driver     %s: %s\n", icd->file, icd->library);
        if (*icd->problem)
            printf("           %s\n", icd->problem);
        else
            printf("           %zu platforms, %zu devices\n", icd->platforms, icd->devices);
    }
    printf("\nDrivers, as Debian packages them:\n");
    for (const struct qn_driver_package *package = qn_driver_packages(); package->hardware;
         package++)
        printf("  %-28s %s\n", package->hardware, package->package);
}

/* ---- For programs ---- */

static json_t *listed_json(const struct qn_device *device, bool is_chosen)
{
    json_t *object = device_json(device);
    json_t *state =
        json_pack("{s:o, s:b}", "problem", text_json(device->problem), "default", is_chosen);
    json_object_update(object, state);
    json_decref(state);
    return object;
}

static json_t *list_json(const qn_device_list *list)
{
    json_t *devices = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(devices,
                              listed_json(&list->devices[i], &list->devices[i] == list->chosen));
    return json_pack("{s:o, s:o}", "devices", devices, "default_reason", text_json(list->reason));
}

static json_t *loader_json(const qn_loader *loader)
{
    json_t *drivers = json_array(), *packages = json_array();
    for (size_t i = 0; i < loader->count; i++) {
        const struct qn_icd *icd = &loader->icds[i];
        json_array_append_new(
            drivers,
            json_pack("{s:o, s:o, s:I, s:I, s:o}", "file", text_json(icd->file), "library",
                      text_json(icd->library), "platforms", (json_int_t)icd->platforms, "devices",
                      (json_int_t)icd->devices, "problem", text_json(icd->problem)));
    }
    for (const struct qn_driver_package *package = qn_driver_packages(); package->hardware;
         package++)
        json_array_append_new(packages, json_pack("{s:s, s:s}", "hardware", package->hardware,
                                                  "package", package->package));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "library", text_json(loader->library),
                     "place", text_json(loader->place), "because", text_json(loader->because),
                     "problem", text_json(loader->problem), "drivers", drivers, "packages",
                     packages);
}

static bool print_json(const qn_device_list *list, const qn_loader *loader)
{
    json_t *all = list_json(list);
    if (loader)
        json_object_set_new(all, "loader", loader_json(loader));
    bool printed = all && json_dumpf(all, stdout, JSON_INDENT(2)) == 0;
    json_decref(all);
    printf("\n");
    return printed;
}

/* ---- The command ---- */

static size_t count_usable(const qn_device_list *list)
{
    size_t usable = 0;
    for (size_t i = 0; i < list->count; i++)
        usable += !*list->devices[i].problem;
    return usable;
}

static int clear_cache(const struct options *options)
{
    size_t files, bytes;
    if (qn_cache_clear(&files, &bytes) != QN_OK)
        return failure(options, "%s", qn_error(NULL));
    printf("removed %zu files, %zu bytes\n", files, bytes);
    return EXIT_SUCCESS;
}

int command_devices(const struct options *options)
{
    if (options_flag(options, "clear-cache"))
        return clear_cache(options);
    qn_device_list *list = qn_device_list_new();
    if (!list)
        return failure(options, "%s", qn_error(NULL));
    size_t usable = count_usable(list);
    qn_loader *loader = usable ? NULL : qn_loader_new();
    bool printed = true;
    if (options_flag(options, "json"))
        printed = print_json(list, loader);
    else if (list->count > 0)
        print_list(list);
    if (loader && !options_flag(options, "json"))
        print_loader(loader);
    bool has_default = list->chosen != NULL;
    qn_loader_free(loader);
    qn_device_list_free(list);
    if (!printed || fflush(stdout) != 0)
        return failure(options, "the list cannot be written");
    return has_default ? 0 : EXIT_FAILED;
}

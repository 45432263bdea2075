#include "cli/device_json.h"

json_t *text_json(const char *text)
{
    json_t *string = text && *text ? json_string(text) : json_null();
    if (string)
        return string;
    char ascii[1024];
    size_t length = 0;
    for (; text[length] && length + 1 < sizeof ascii; length++)
        ascii[length] = (char)((unsigned char)text[length] < 0x80 ? text[length] : '?');
    ascii[length] = '\0';
    return json_string(ascii);
}

/* What a device does not tell is null. */
static json_t *count_json(size_t count)
{
    return count ? json_integer((json_int_t)count) : json_null();
}

json_t *device_json(const struct qn_device *device)
{
    json_t *object = json_pack("{s:o, s:o, s:o}", "selector", text_json(device->selector),
                               "platform", text_json(device->platform), "platform_version",
                               text_json(device->platform_version));
    if (!object || !*device->name)
        return object;
    json_t *more = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:o, "
        "s:o, s:o, s:o, s:o}",
        "device", text_json(device->name), "driver", text_json(device->driver), "opencl_c",
        text_json(device->opencl_c), "type", text_json(device->type), "class",
        text_json(device->device_class), "compute_units", count_json(device->compute_units),
        "clock_mhz", count_json(device->clock_mhz), "float_width", count_json(device->float_width),
        "global_memory", count_json(device->global_memory), "max_allocation",
        count_json(device->max_allocation), "local_memory", count_json(device->local_memory),
        "max_work_group", count_json(device->max_work_group), "fp16", device->fp16, "fp64",
        device->fp64, "fma", device->fma, "subgroups", device->subgroups, "subgroup_size",
        count_json(device->subgroup_size), "matrix", text_json(device->matrix), "matrix_problem",
        text_json(device->matrix_problem), "pci", text_json(device->pci), "quirks",
        text_json(device->quirks));
    json_object_update(object, more);
    json_decref(more);
    return object;
}

/* What a device can do: as its driver reports it, as the table of quirks corrects it, as QUERN_CAPS
 * pretends it to be. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl_ext.h>

#include "device/matrix.h"

#ifndef CLBLAST_VERSION
#define CLBLAST_VERSION "0" /* unknown: taken for an old one */
#endif

enum {
#ifdef HAVE_CLBLAST
    CLBLAST_BUILT_IN = 1
#else
    CLBLAST_BUILT_IN = 0
#endif
};

/* ---- Quirks ---- */

/* Whether the version number at the start of `version`, "1.5.3", is below `limit`. */
static bool version_below(const char *version, const char *limit)
{
    while (isdigit((unsigned char)*version) && isdigit((unsigned char)*limit)) {
        char *version_end, *limit_end;
        unsigned long a = strtoul(version, &version_end, 10), b = strtoul(limit, &limit_end, 10);
        if (a != b)
            return a < b;
        version = version_end + (*version_end == '.');
        limit = limit_end + (*limit_end == '.');
    }
    return isdigit((unsigned char)*limit);
}

static bool clblast_before_1_6_3(const struct device_info *info)
{
    (void)info;
    return CLBLAST_BUILT_IN && version_below(CLBLAST_VERSION, "1.6.3");
}

static void without_clblast(struct device_info *info)
{
    info->caps.clblast = false;
}

static void without_event_times(struct device_info *info)
{
    info->no_event_times = true;
}

static void with_cut_loops(struct device_info *info)
{
    info->cuts_loops = true;
}

static void without_fma(struct device_info *info)
{
    info->caps.fma = false;
}

static void without_binaries(struct device_info *info)
{
    info->caches_programs = true;
}

/* The only place that knows facts about brands.  A quirk is in force where all that is given
 * matches: parts of names, in any case, and a predicate. */
static const struct quirk {
    const char *platform, *device, *driver;
    bool (*when)(const struct device_info *info);
    void (*change)(struct device_info *info);
    const char *what, *why, *link;
} quirks[] = {
    {
        .device = "Arc(TM) A770",
        .when = clblast_before_1_6_3,
        .change = without_clblast,
        .what = "no CLBlast",
        .why = "before 1.6.3 it multiplies matrices wrongly here",
        .link = "https://github.com/CNugteren/CLBlast/issues/533",
    },
    {
        .platform = "Portable Computing Language",
        .change = without_binaries,
        .what = "Quern keeps no binaries",
        .why = "asked for one, it compiles each kernel once more (30 kernels: 2.2 s); its own "
               "cache serves",
        .link = "http://portablecl.org/docs/html/env_variables.html",
    },
    {
        .platform = "rusticl",
        .driver = "22.3",
        .change = without_event_times,
        .what = "kernels are timed on the host",
        .why = "times of events are 0",
        .link = "https://docs.mesa3d.org/rusticl.html",
    },
    {
        .device = "llvmpipe",
        .change = with_cut_loops,
        .what = "wrong results for very long rows",
        .why = "it ends all loops of a work-item together after 65,535 turns",
        .link = "https://gitlab.freedesktop.org/mesa/mesa, LP_MAX_TGSI_LOOP_ITERATIONS",
    },
    {
        .device = "llvmpipe",
        .change = without_fma,
        .what = "products are rounded before they are added",
        .why = "fma() is made of integers here",
        .link = "https://gitlab.freedesktop.org/mesa/mesa, lower_ffma32",
    },
};

static bool matches(const char *name, const char *part)
{
    return !part || strcasestr(name, part) != NULL;
}

static void apply_quirks(struct device_info *info)
{
    size_t length = 0;
    for (const struct quirk *quirk = quirks; quirk < quirks + sizeof quirks / sizeof *quirks;
         quirk++) {
        if (!matches(info->platform_name, quirk->platform) || !matches(info->name, quirk->device) ||
            !matches(info->driver, quirk->driver) || (quirk->when && !quirk->when(info)))
            continue;
        quirk->change(info);
        int written = snprintf(info->quirks + length, sizeof info->quirks - length, "%s%s: %s (%s)",
                               length ? "; " : "", quirk->what, quirk->why, quirk->link);
        if (written > 0)
            length = size_min(length + (size_t)written, sizeof info->quirks - 1);
    }
}

/* ---- What the driver reports ---- */

/* Of a launch: enough for all of a GPU's units at once and then some; PoCL compiles a kernel again beyond 65,535. */
enum { CPU_ITEMS = 65535, GPU_ITEMS = 1 << 22 };

void query_check(struct device_info *info, cl_device_info what, cl_int code)
{
    if (code != CL_SUCCESS && !info->problem[0])
        snprintf(info->problem, sizeof info->problem,
                 "its driver fails when asked for number 0x%X: %s", (unsigned)what,
                 cl_error_name(code));
}

static uint64_t query_number(struct device_info *info, cl_device_info what)
{
    /* Answers are of 4 or 8 bytes, by what is asked: little-endian, so the rest stays 0. */
    uint64_t number = 0;
    query_check(info, what, clGetDeviceInfo(info->id, what, sizeof number, &number, NULL));
    return number;
}

bool has_extension(const char *extensions, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = extensions; (p = strstr(p, name)) != NULL; p += length)
        if ((p == extensions || p[-1] == ' ') && (p[length] == ' ' || p[length] == '\0'))
            return true;
    return false;
}

/* NULL: they are not known, and info->problem says why. */
static char *query_extensions(struct device_info *info)
{
    size_t bytes = 0;
    cl_int code = clGetDeviceInfo(info->id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes);
    char *extensions = calloc(bytes + 1, 1);
    if (!extensions)
        code = CL_OUT_OF_HOST_MEMORY;
    else if (code == CL_SUCCESS)
        code = clGetDeviceInfo(info->id, CL_DEVICE_EXTENSIONS, bytes, extensions, NULL);
    query_check(info, CL_DEVICE_EXTENSIONS, code);
    return extensions;
}

/* Of OpenCL 3.0; a driver that does not answer has none. */
static bool has_subgroups(const struct device_info *info)
{
    cl_uint most = 0;
    return info->version >= 30 &&
           clGetDeviceInfo(info->id, CL_DEVICE_MAX_NUM_SUB_GROUPS, sizeof most, &most, NULL) ==
               CL_SUCCESS &&
           most > 0;
}

/* Of those that a kernel may ask for, with eight work-items or more. */
enum { LEAST_SUBGROUP = 8 };
static size_t least_subgroup(const struct device_info *info, const char *extensions)
{
    size_t sizes[16], bytes = 0, least = 0;
    if (!has_extension(extensions, "cl_intel_required_subgroup_size") ||
        clGetDeviceInfo(info->id, CL_DEVICE_SUB_GROUP_SIZES_INTEL, sizeof sizes, sizes, &bytes) !=
            CL_SUCCESS)
        return 0;
    for (size_t i = 0; i < size_min(bytes, sizeof sizes) / sizeof *sizes; i++)
        if (sizes[i] >= LEAST_SUBGROUP && (!least || sizes[i] < least))
            least = sizes[i];
    return least;
}

/* Of NVIDIA's devices, by their version of the instruction set; a driver that does not answer has none. */
static enum qn_matrix nvidia_matrix(const struct device_info *info)
{
    cl_uint major = 0, minor = 0;
    if (clGetDeviceInfo(info->id, CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV, sizeof major, &major,
                        NULL) != CL_SUCCESS ||
        clGetDeviceInfo(info->id, CL_DEVICE_COMPUTE_CAPABILITY_MINOR_NV, sizeof minor, &minor,
                        NULL) != CL_SUCCESS)
        return QN_NO_MATRIX;
    return major >= 8                 ? QN_MMA_SYNC_TF32
           : major == 7 && minor >= 5 ? QN_MMA_SYNC_F16
                                      : QN_NO_MATRIX;
}

/* Those that it may have. */
static enum qn_matrix find_matrix(const struct device_info *info, const char *extensions)
{
    if (info->type & CL_DEVICE_TYPE_CPU)
        return host_matrix();
    return has_extension(extensions, "cl_nv_device_attribute_query") ? nvidia_matrix(info)
                                                                     : QN_NO_MATRIX;
}

/* Vectors of 1, 4, 8 or 16 floats. */
static size_t kernel_width(size_t native)
{
    return native >= 16 ? 16 : native >= 8 ? 8 : native >= 4 ? 4 : 1;
}

static size_t width_of_class(enum qn_class device_class, size_t native)
{
    return device_class == QN_CPU ? size_max(kernel_width(native), 4) : 4;
}

/* What every kernel for GPUs may count on. */
enum { GPU_LEAST_GROUP = 64, GPU_LEAST_LOCAL = 32768 };

static void find_problem(struct device_info *info)
{
    const char *problem = NULL;
    if (info->version < 12)
        problem = "it is older than OpenCL 1.2";
    else if (info->type & CL_DEVICE_TYPE_CUSTOM)
        problem = "it runs no OpenCL C";
    else if (!query_number(info, CL_DEVICE_AVAILABLE))
        problem = "its driver says that it is not available";
    else if (!query_number(info, CL_DEVICE_COMPILER_AVAILABLE))
        problem = "its driver has no compiler";
    else if (!query_number(info, CL_DEVICE_ENDIAN_LITTLE))
        problem = "it is big-endian";
    if (problem && !info->problem[0])
        snprintf(info->problem, sizeof info->problem, "%s", problem);
}

void caps_query(struct device_info *info)
{
    find_problem(info);
    size_t native = query_number(info, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
    bool is_cpu = (info->type & CL_DEVICE_TYPE_CPU) && native >= 4;
    char *extensions = query_extensions(info);
    const char *list = extensions ? extensions : "";
    struct qn_caps *caps = &info->caps;
    *caps = (struct qn_caps){
        .device_class = is_cpu ? QN_CPU : QN_GPU,
        .is_cpu = (info->type & CL_DEVICE_TYPE_CPU) != 0,
        .compute_units = query_number(info, CL_DEVICE_MAX_COMPUTE_UNITS),
        .clock_mhz = query_number(info, CL_DEVICE_MAX_CLOCK_FREQUENCY),
        .global_memory = query_number(info, CL_DEVICE_GLOBAL_MEM_SIZE),
        .max_allocation = query_number(info, CL_DEVICE_MAX_MEM_ALLOC_SIZE),
        .local_memory = query_number(info, CL_DEVICE_LOCAL_MEM_SIZE),
        .max_work_group = query_number(info, CL_DEVICE_MAX_WORK_GROUP_SIZE),
        .max_items = is_cpu ? CPU_ITEMS : GPU_ITEMS,
        .alignment =
            size_max(query_number(info, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8, 1), /* from bits */
        .float_width = width_of_class(is_cpu ? QN_CPU : QN_GPU, native),
        .fp16 = has_extension(list, "cl_khr_fp16"),
        .fp64 = has_extension(list, "cl_khr_fp64"),
        .fma = true,
        .subgroups = has_extension(list, "cl_khr_subgroups") ||
                     has_extension(list, "cl_intel_subgroups") || has_subgroups(info),
        .subgroup_size = least_subgroup(info, list),
        .matrix = find_matrix(info, list),
        .clblast = CLBLAST_BUILT_IN,
    };
    pci_query(info, list);
    free(extensions);
    apply_quirks(info);
}

struct qn_caps caps_none(void)
{
    return (struct qn_caps){
        .device_class = QN_CPU,
        .compute_units = 1,
        .clock_mhz = 1000,
        .global_memory = (size_t)2 << 30,
        .max_allocation = (size_t)2 << 30,
        .local_memory = 32 << 10,
        .max_work_group = 256,
        .max_items = CPU_ITEMS,
        .alignment = 512,
        .float_width = 16,
        .fma = true,
    };
}

/* ---- QUERN_CAPS ---- */

enum field_kind {
    FIELD_CLASS,
    FIELD_SIZE,
    FIELD_POWER,
    FIELD_LANES,
    FIELD_WIDTH,
    FIELD_BOOL,
    FIELD_MATRIX
};

static const char *const values_of[] = {
    [FIELD_CLASS] = "cpu or gpu",
    [FIELD_SIZE] = "a whole number above 0",
    [FIELD_POWER] = "a power of two",
    [FIELD_LANES] = "0 or a power of two",
    [FIELD_WIDTH] = "1, 4, 8 or 16",
    [FIELD_BOOL] = "0 or 1",
    [FIELD_MATRIX] = "none, avx512_bf16, amx, emulated, mma_sync, mma_sync_f16, "
                     "mma_sync_tf32, wmma, mfma, matrix_mad_8 or matrix_mad_16",
};

static const struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
} fields[] = {
    {"class", FIELD_CLASS, offsetof(struct qn_caps, device_class)},
    {"compute_units", FIELD_SIZE, offsetof(struct qn_caps, compute_units)},
    {"clock_mhz", FIELD_SIZE, offsetof(struct qn_caps, clock_mhz)},
    {"global_memory", FIELD_SIZE, offsetof(struct qn_caps, global_memory)},
    {"max_allocation", FIELD_SIZE, offsetof(struct qn_caps, max_allocation)},
    {"local_memory", FIELD_SIZE, offsetof(struct qn_caps, local_memory)},
    {"max_work_group", FIELD_SIZE, offsetof(struct qn_caps, max_work_group)},
    {"max_items", FIELD_SIZE, offsetof(struct qn_caps, max_items)},
    {"alignment", FIELD_POWER, offsetof(struct qn_caps, alignment)},
    {"float_width", FIELD_WIDTH, offsetof(struct qn_caps, float_width)},
    {"fp16", FIELD_BOOL, offsetof(struct qn_caps, fp16)},
    {"fp64", FIELD_BOOL, offsetof(struct qn_caps, fp64)},
    {"fma", FIELD_BOOL, offsetof(struct qn_caps, fma)},
    {"subgroups", FIELD_BOOL, offsetof(struct qn_caps, subgroups)},
    {"subgroup_size", FIELD_LANES, offsetof(struct qn_caps, subgroup_size)},
    {"matrix", FIELD_MATRIX, offsetof(struct qn_caps, matrix)},
    {"clblast", FIELD_BOOL, offsetof(struct qn_caps, clblast)},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static const struct field *find_field(const char *name, size_t length)
{
    for (size_t i = 0; i < FIELDS; i++)
        if (strlen(fields[i].name) == length && memcmp(fields[i].name, name, length) == 0)
            return &fields[i];
    return NULL;
}

static int unknown_word(qn_context *context, const char *word, size_t length)
{
    char known[256] = "";
    for (size_t i = 0, used = 0; i < FIELDS && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                                 fields[i].name);
    return context_fail(context, QN_ERROR_INVALID,
                        "QUERN_CAPS: \"%.*s\" is no capability; there are %s", (int)length, word,
                        known);
}

/* Stores the value if it is one of its kind. */
static bool set_field(struct qn_caps *caps, const struct field *field, const char *value)
{
    void *place = (char *)caps + field->offset;
    if (field->kind == FIELD_CLASS) {
        if (strcmp(value, "cpu") != 0 && strcmp(value, "gpu") != 0)
            return false;
        *(enum qn_class *)place = *value == 'c' ? QN_CPU : QN_GPU;
        return true;
    }
    if (field->kind == FIELD_MATRIX)
        return matrix_override(place, value);
    char *end;
    errno = 0;
    uintmax_t number = strtoumax(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || number > SIZE_MAX)
        return false;
    if (field->kind == FIELD_BOOL) {
        *(bool *)place = number == 1;
        return number <= 1;
    }
    bool is_power = field->kind == FIELD_POWER || field->kind == FIELD_LANES;
    if ((number == 0 && field->kind != FIELD_LANES) || (is_power && (number & (number - 1)) != 0) ||
        (field->kind == FIELD_WIDTH && (number > 16 || kernel_width((size_t)number) != number)))
        return false;
    *(size_t *)place = (size_t)number;
    return true;
}

int caps_override(qn_context *context, struct qn_caps *caps, const char *words)
{
    enum qn_class reported = caps->device_class;
    bool width_given = false;
    for (const char *word = words; *word;) {
        size_t length = strcspn(word, ",");
        const char *equals = memchr(word, '=', length);
        size_t name_length = equals ? (size_t)(equals - word) : length;
        const struct field *field = find_field(word, name_length);
        if (length > 0 && !field)
            return unknown_word(context, word, name_length);
        if (length > 0) {
            char value[32];
            size_t value_length = equals ? length - name_length - 1 : 0;
            snprintf(value, sizeof value, "%.*s", (int)size_min(value_length, sizeof value),
                     equals ? equals + 1 : "");
            if (value_length >= sizeof value || !set_field(caps, field, value))
                return context_fail(context, QN_ERROR_INVALID,
                                    "QUERN_CAPS: %s must be %s, not \"%s\"", field->name,
                                    values_of[field->kind], value);
            width_given = width_given || field->kind == FIELD_WIDTH;
        }
        word += length + (word[length] == ',');
    }
    if (caps->device_class != reported && !width_given)
        caps->float_width = width_of_class(caps->device_class, caps->float_width);
    if (caps->clblast && !CLBLAST_BUILT_IN)
        return context_fail(context, QN_ERROR_INVALID,
                            "QUERN_CAPS: clblast=1, but Quern was built without it");
    return QN_OK;
}

int caps_pretend(qn_context *context, struct qn_caps *caps)
{
    const char *words = context->pretended ? context->pretended : getenv("QUERN_CAPS");
    int status = words ? caps_override(context, caps, words) : QN_OK;
    if (caps->device_class == QN_CPU || !caps->subgroups)
        caps->subgroup_size = 0; /* kernels for CPUs have groups of one */
    if (status == QN_OK && caps->device_class == QN_GPU &&
        (caps->max_work_group < GPU_LEAST_GROUP || caps->local_memory < GPU_LEAST_LOCAL))
        return context_fail(
            context, QN_ERROR_DEVICE,
            "it allows work-groups of %zu and %zu bytes of local memory; kernels for GPUs need %d "
            "and %d",
            caps->max_work_group, caps->local_memory, GPU_LEAST_GROUP, GPU_LEAST_LOCAL);
    return status;
}

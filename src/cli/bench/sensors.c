/* Readings of what cools, feeds and clocks a device.  Each may be missing, and none of the files is trusted. */
#include "cli/bench/sensors.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"

/* ---- NVIDIA's library: what is used of nvml.h ---- */

enum { NVML_SUCCESS = 0, NVML_CLOCK_SM = 1, NVML_TEMPERATURE_GPU = 0 };
typedef struct nvmlDevice_st *nvml_device;

struct nvml {
    void *library; /* NULL: there is none */
    nvml_device device;
    int (*init)(void);
    int (*shutdown)(void);
    int (*by_pci)(const char *address, nvml_device *device);
    int (*clock)(nvml_device device, int type, unsigned *mhz);
    int (*temperature)(nvml_device device, int sensor, unsigned *celsius);
    int (*power)(nvml_device device, unsigned *milliwatts);
};

/* ---- sysfs ---- */

/* A way to get a quantity: the files that the pattern matches, in the folder of the device, times `scale`. */
struct way {
    enum quantity quantity;
    const char *pattern;
    double scale;
    bool is_energy; /* joules, of which the power is made */
    const char *const
        *names; /* beginnings of what the file "name" beside it says; NULL: anything */
};

/* clang-format off */
static const struct way gpu_ways[] = {
    {CLOCK, "hwmon/hwmon*/freq1_input", 1e-6, false, NULL}, /* amdgpu; i915; its successor; xe */
    {CLOCK, "drm/card*/gt_act_freq_mhz", 1, false, NULL},
    {CLOCK, "drm/card*/gt/gt*/rps_act_freq_mhz", 1, false, NULL},
    {CLOCK, "tile*/gt*/freq*/act_freq", 1, false, NULL},
    {TEMPERATURE, "hwmon/hwmon*/temp1_input", 1e-3, false, NULL},
    {TEMPERATURE, "hwmon/hwmon*/temp2_input", 1e-3, false, NULL}, /* xe has no first */
    {POWER, "hwmon/hwmon*/power1_average", 1e-6, false, NULL},
    {POWER, "hwmon/hwmon*/power1_input", 1e-6, false, NULL},
    {POWER, "hwmon/hwmon*/energy1_input", 1e-6, true, NULL},
};
static const char *const of_processors[] = {"coretemp", "k10temp", "zenpower", "cpu_thermal", NULL};
static const char *const of_packages[] = {"package", NULL};
static const struct way cpu_ways[] = {
    {CLOCK, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq", 1e-3, false, NULL},
    {TEMPERATURE, "class/hwmon/hwmon*/temp1_input", 1e-3, false, of_processors},
    {POWER, "class/powercap/intel-rapl:*/energy_uj", 1e-6, true, of_packages},
};
/* clang-format on */

/* What no sensor says truly. */
static const struct {
    double least, most;
} bounds[QUANTITIES] = {[CLOCK] = {1, 1e5}, [TEMPERATURE] = {-100, 300}, [POWER] = {0, 1e5}};

struct gauge {
    const struct way *way; /* NULL: the quantity is not given */
    glob_t files;
    double energy, at; /* of the last reading; NAN: there was none */
};

struct sensors {
    double began;
    char source[64], reason[512];
    struct nvml nvml;
    struct gauge gauges[QUANTITIES];
};

/* The first bytes of a file of text; false if there are none. */
static bool read_text(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, size - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        return false;
    text[length] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return true;
}

/* NAN if the file holds no number, and nothing else. */
static double read_number(const char *path)
{
    char text[64], *end;
    if (!read_text(path, text, sizeof text))
        return NAN;
    double number = strtod(text, &end);
    return end > text && *end == '\0' && isfinite(number) ? number : NAN;
}

static bool is_named(const char *path, const char *const *names)
{
    char beside[PATH_MAX], name[64];
    const char *slash = strrchr(path, '/');
    if (!names)
        return true;
    int length = snprintf(beside, sizeof beside, "%.*s/name", (int)(slash - path), path);
    if (length >= (int)sizeof beside || !read_text(beside, name, sizeof name))
        return false;
    for (; *names; names++)
        if (strncmp(name, *names, strlen(*names)) == 0)
            return true;
    return false;
}

/* Clocks of processors are averaged, temperatures are the greatest, powers added up. */
static double read_files(const struct gauge *gauge)
{
    double sum = 0, most = -INFINITY;
    size_t count = 0;
    for (size_t i = 0; i < gauge->files.gl_pathc; i++) {
        const char *path = gauge->files.gl_pathv[i];
        double number = is_named(path, gauge->way->names) ? read_number(path) : NAN;
        if (isnan(number))
            continue;
        sum += number * gauge->way->scale;
        most = fmax(most, number * gauge->way->scale);
        count++;
    }
    if (count == 0)
        return NAN;
    return gauge->way->quantity == CLOCK         ? sum / (double)count
           : gauge->way->quantity == TEMPERATURE ? most
                                                 : sum;
}

/* Counters of energy begin anew when they are full: that reading is none. */
static double power_of(struct gauge *gauge, double energy)
{
    double now = seconds_now(), used = energy - gauge->energy, passed = now - gauge->at;
    gauge->energy = energy;
    gauge->at = now;
    return used >= 0 && passed > 0 ? used / passed : NAN;
}

static double read_gauge(struct gauge *gauge)
{
    if (!gauge->way)
        return NAN;
    double number = read_files(gauge);
    return gauge->way->is_energy ? power_of(gauge, number) : number;
}

/* The first way to each quantity that has a file with a number. */
static void find_gauges(struct sensors *sensors, const char *folder, const struct way *ways,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct gauge *gauge = &sensors->gauges[ways[i].quantity];
        struct gauge found = {.way = &ways[i], .energy = NAN, .at = NAN};
        char pattern[PATH_MAX];
        int length = snprintf(pattern, sizeof pattern, "%s/%s", folder, ways[i].pattern);
        if (gauge->way || length >= (int)sizeof pattern ||
            glob(pattern, 0, NULL, &found.files) != 0)
            continue;
        double number = read_files(&found);
        if (isnan(number)) {
            globfree(&found.files);
            continue;
        }
        *gauge = found;
        if (found.way->is_energy)
            power_of(gauge, number);
    }
}

static bool has_gauges(const struct sensors *sensors)
{
    for (size_t q = 0; q < QUANTITIES; q++)
        if (sensors->gauges[q].way)
            return true;
    return false;
}

/* ---- Finding them ---- */

static void not_available(struct sensors *sensors, const char *format, ...) CLI_FORMAT(2, 3);

static void not_available(struct sensors *sensors, const char *format, ...)
{
    int used = snprintf(sensors->reason, sizeof sensors->reason, "not available: ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sensors->reason + used, sizeof sensors->reason - (size_t)used, format, arguments);
    va_end(arguments);
}

/* The library's functions, and the device; false if one is missing. */
static bool open_nvml(struct nvml *nvml, const char *pci)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    const struct {
        const char *name;
        void *place;
    } functions[] = {{"nvmlInit_v2", &nvml->init},
                     {"nvmlShutdown", &nvml->shutdown},
                     {"nvmlDeviceGetHandleByPciBusId_v2", &nvml->by_pci},
                     {"nvmlDeviceGetClockInfo", &nvml->clock},
                     {"nvmlDeviceGetTemperature", &nvml->temperature},
                     {"nvmlDeviceGetPowerUsage", &nvml->power}};
    bool is_whole = library;
    for (size_t i = 0; is_whole && i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);
        memcpy(functions[i].place, &function, sizeof function); /* to a pointer to a function */
        is_whole = function;
    }
    if (is_whole && nvml->init() == NVML_SUCCESS) {
        nvml->library = library;
        if (nvml->by_pci(pci, &nvml->device) == NVML_SUCCESS)
            return true;
        nvml->shutdown();
    }
    if (library)
        dlclose(library);
    nvml->library = NULL;
    return false;
}

/* "amdgpu": what the link `driver` of a device's folder ends with. */
static void driver_of(const char *folder, char *name, size_t size)
{
    char link[PATH_MAX], target[PATH_MAX];
    int length = snprintf(link, sizeof link, "%s/driver", folder);
    ssize_t end = length < (int)sizeof link ? readlink(link, target, sizeof target - 1) : -1;
    target[end > 0 ? end : 0] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(name, size, "%.40s", slash ? slash + 1 : "unknown");
}

static void open_pci(struct sensors *sensors, const char *root, const char *pci)
{
    char folder[PATH_MAX], driver[48];
    if (open_nvml(&sensors->nvml, pci)) {
        snprintf(sensors->source, sizeof sensors->source, "nvml");
        return;
    }
    int length = snprintf(folder, sizeof folder, "%s/bus/pci/devices/%s", root, pci);
    if (length >= (int)sizeof folder)
        folder[0] = '\0';
    find_gauges(sensors, folder, gpu_ways, sizeof gpu_ways / sizeof *gpu_ways);
    driver_of(folder, driver, sizeof driver);
    if (has_gauges(sensors))
        snprintf(sensors->source, sizeof sensors->source, "sysfs:%s", driver);
    else
        not_available(sensors, "neither libnvidia-ml.so.1 nor %s/bus/pci/devices has any of PCI %s",
                      root, pci);
}

static void open_cpu(struct sensors *sensors, const char *root)
{
    find_gauges(sensors, root, cpu_ways, sizeof cpu_ways / sizeof *cpu_ways);
    if (has_gauges(sensors))
        snprintf(sensors->source, sizeof sensors->source, "sysfs:cpu");
    else
        not_available(sensors,
                      "%s has neither cpufreq, nor the processor's hwmon, nor powercap "
                      "that may be read",
                      root);
}

/* "0000:65:00.0": nothing else becomes part of a path. */
static bool is_address(const char *text)
{
    unsigned domain, bus, device, function;
    int end = 0;
    return sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) == 4 &&
           text[end] == '\0' && strspn(text, "0123456789abcdefABCDEF:.") == strlen(text);
}

static const char *environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

struct sensors *sensors_open(const struct qn_device *device)
{
    struct sensors *sensors = calloc(1, sizeof *sensors);
    if (!sensors)
        return NULL;
    sensors->began = seconds_now();
    const char *root = environment("QUERN_SYSFS", "/sys");
    const char *pci = device && *device->pci ? device->pci : environment("QUERN_PCI", "");
    if (device && !*device->pci && strcmp(device->type, "CPU") == 0)
        open_cpu(sensors, root);
    else if (*pci && !is_address(pci))
        not_available(sensors, "QUERN_PCI is no address such as 0000:65:00.0");
    else if (*pci)
        open_pci(sensors, root, pci);
    else
        not_available(sensors,
                      "the driver does not tell where on the PCI bus the device is (QUERN_PCI)");
    return sensors;
}

void sensors_close(struct sensors *sensors)
{
    if (!sensors)
        return;
    for (size_t q = 0; q < QUANTITIES; q++)
        if (sensors->gauges[q].way)
            globfree(&sensors->gauges[q].files);
    if (sensors->nvml.library) {
        sensors->nvml.shutdown();
        dlclose(sensors->nvml.library);
    }
    free(sensors);
}

const char *sensors_source(const struct sensors *sensors)
{
    return *sensors->source ? sensors->source : NULL;
}

const char *sensors_reason(const struct sensors *sensors)
{
    return sensors->reason;
}

/* ---- Reading them ---- */

static void read_nvml(const struct nvml *nvml, double *value)
{
    unsigned number;
    if (nvml->clock(nvml->device, NVML_CLOCK_SM, &number) == NVML_SUCCESS)
        value[CLOCK] = number;
    if (nvml->temperature(nvml->device, NVML_TEMPERATURE_GPU, &number) == NVML_SUCCESS)
        value[TEMPERATURE] = number;
    if (nvml->power(nvml->device, &number) == NVML_SUCCESS)
        value[POWER] = number * 1e-3;
}

struct sensor_reading sensors_read(struct sensors *sensors)
{
    struct sensor_reading reading = {.seconds = seconds_now() - sensors->began};
    for (size_t q = 0; q < QUANTITIES; q++)
        reading.value[q] = read_gauge(&sensors->gauges[q]);
    if (sensors->nvml.library)
        read_nvml(&sensors->nvml, reading.value);
    for (size_t q = 0; q < QUANTITIES; q++)
        if (!(reading.value[q] >= bounds[q].least && reading.value[q] <= bounds[q].most))
            reading.value[q] = NAN;
    return reading;
}

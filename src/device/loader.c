/* The ICD loader: where it looks for drivers, and why those it finds give no device. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device.h"

#define DEFAULT_FOLDER "/etc/OpenCL/vendors"

/* One ICD with its strings. */
struct driver {
    char file[PATH_MAX], library[PATH_MAX], problem[512];
};

struct report {
    qn_loader loader; /* first: a pointer to it is one to the whole */
    char library[PATH_MAX], place[PATH_MAX], problem[512];
    struct driver **drivers;
    struct qn_icd *icds;
};

static const struct qn_driver_package packages[] = {
    {"any CPU", "pocl-opencl-icd"},
    {"Intel GPUs", "intel-opencl-icd"},
    {"AMD GPUs",
     "rocm-opencl-runtime (from AMD's repository, repo.radeon.com), or mesa-opencl-icd with "
     "RUSTICL_ENABLE=radeonsi in the environment"},
    {"NVIDIA GPUs", "nvidia-opencl-icd (non-free)"},
    {"other GPUs that Mesa drives",
     "mesa-opencl-icd with RUSTICL_ENABLE=DRIVER in the environment"},
    {NULL, NULL},
};

const struct qn_driver_package *qn_driver_packages(void)
{
    return packages;
}

/* ---- What a driver says ---- */

typedef void *get_function(const char *name);
typedef cl_int get_platforms(cl_uint size, cl_platform_id *platforms, cl_uint *count);

/* ISO C has no conversion from void * to a pointer to a function; POSIX promises that the bits are
 * the same. */
static get_function *as_get_function(void *symbol)
{
    get_function *function;
    memcpy(&function, &symbol, sizeof function);
    return function;
}

static get_platforms *as_get_platforms(void *symbol)
{
    get_platforms *function;
    memcpy(&function, &symbol, sizeof function);
    return function;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Whether files can be made in a folder, or in the nearest one above it that is there. */
static bool is_writable(const char *folder)
{
    char path[PATH_MAX];
    struct stat status;
    snprintf(path, sizeof path, "%s", folder);
    for (char *slash; stat(path, &status) != 0 && (slash = strrchr(path, '/')) != NULL;)
        slash[slash == path] = '\0'; /* keeps the slash of the root */
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) && access(path, W_OK | X_OK) == 0;
}

/* PoCL has no devices where it cannot keep what it compiled, and says nothing. */
static bool lacks_cache(const struct driver *driver, char folder[PATH_MAX])
{
    static const struct {
        const char *variable, *within;
    } places[] = {{"POCL_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "/pocl"}, {"HOME", "/.cache/pocl"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = environment(places[i].variable);
        if (!value)
            continue;
        snprintf(folder, PATH_MAX, "%s%s", value, places[i].within);
        return strstr(driver->library, "pocl") && !is_writable(folder);
    }
    return false;
}

static void count_devices(struct qn_icd *icd, const cl_platform_id *platforms, cl_uint count)
{
    for (cl_uint i = 0; i < count; i++) {
        cl_uint devices = 0;
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, 0, NULL, &devices) == CL_SUCCESS)
            icd->devices += devices;
    }
}

/* Asks the driver itself, past the loader: what it says would be lost otherwise. */
static void question(struct qn_icd *icd, struct driver *driver)
{
    enum { MOST_PLATFORMS = 16 };
    /* Drivers that ran threads cannot be unloaded safely. */
    void *library = dlopen(driver->library, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        const char *reason = dlerror();
        snprintf(driver->problem, sizeof driver->problem, "%s",
                 reason ? reason : "it cannot be loaded");
        return;
    }
    void *symbol = dlsym(library, "clGetExtensionFunctionAddress");
    get_platforms *function =
        symbol ? as_get_platforms(as_get_function(symbol)("clIcdGetPlatformIDsKHR")) : NULL;
    cl_platform_id platforms[MOST_PLATFORMS];
    cl_uint count = 0;
    cl_int code = function ? function(MOST_PLATFORMS, platforms, &count) : CL_SUCCESS;
    count = count < MOST_PLATFORMS ? count : MOST_PLATFORMS;
    icd->platforms = count;
    if (!function)
        snprintf(driver->problem, sizeof driver->problem,
                 "it is no OpenCL driver (cl_khr_icd is missing)");
    else if (code != CL_SUCCESS || count == 0)
        snprintf(driver->problem, sizeof driver->problem, "it finds no platform (%s)",
                 cl_error_name(code));
    else
        count_devices(icd, platforms, count);
    char cache[PATH_MAX];
    bool finds_none = !driver->problem[0] && icd->devices == 0;
    if (finds_none && lacks_cache(driver, cache))
        snprintf(
            driver->problem, sizeof driver->problem,
            "it finds no device, since its cache %.200s cannot be written: make it writable, or "
            "set POCL_CACHE_DIR to a folder that is",
            cache);
    else if (finds_none)
        snprintf(driver->problem, sizeof driver->problem,
                 "it finds no device: no such hardware, or no right to use it (for GPUs: is the "
                 "user in the "
                 "groups render and video?)");
    dlclose(library);
}

/* The first line of an .icd file: the library. */
static bool read_icd(const char *path, struct driver *driver)
{
    FILE *file = fopen(path, "re");
    if (!file || !fgets(driver->library, sizeof driver->library, file)) {
        snprintf(driver->problem, sizeof driver->problem, "%s",
                 file ? "it is empty" : strerror(errno));
        driver->library[0] = '\0';
    }
    if (file)
        fclose(file);
    size_t start = strspn(driver->library, " \t");
    memmove(driver->library, driver->library + start, strlen(driver->library + start) + 1);
    driver->library[strcspn(driver->library, "\r\n")] = '\0';
    return driver->library[0] != '\0';
}

/* Adds what a file names (or, if `is_library`, the library itself).  False: no memory. */
static bool add_driver(struct report *report, const char *path, bool is_library)
{
    size_t count = report->loader.count;
    struct driver **drivers = realloc(report->drivers, (count + 1) * sizeof *drivers);
    if (drivers)
        report->drivers = drivers;
    struct qn_icd *icds = drivers ? realloc(report->icds, (count + 1) * sizeof *icds) : NULL;
    if (icds)
        report->icds = icds;
    struct driver *driver = icds ? calloc(1, sizeof *driver) : NULL;
    if (!driver)
        return false;
    drivers[count] = driver;
    icds[count] = (struct qn_icd){
        .file = driver->file, .library = driver->library, .problem = driver->problem};
    report->loader.count++;
    report->loader.icds = icds;
    snprintf(driver->file, sizeof driver->file, "%s", path);
    if (is_library)
        snprintf(driver->library, sizeof driver->library, "%s", path);
    if (is_library || read_icd(path, driver))
        question(&icds[count], driver);
    return true;
}

/* ---- Where the loader looks ---- */

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static int is_icd(const struct dirent *entry)
{
    return has_suffix(entry->d_name, ".icd");
}

static bool scan_folder(struct report *report)
{
    struct dirent **entries;
    int count = scandir(report->place, &entries, is_icd, alphasort);
    if (count < 0) {
        snprintf(report->problem, sizeof report->problem, "%s", strerror(errno));
        return errno != ENOMEM;
    }
    if (count == 0)
        snprintf(report->problem, sizeof report->problem,
                 "there are no .icd files: no driver is installed");
    bool has_memory = true;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", report->place, entries[i]->d_name);
        if (has_memory && length > 0 && (size_t)length < sizeof path)
            has_memory = add_driver(report, path, false);
        free(entries[i]);
    }
    free(entries);
    return has_memory;
}

/* As ocl-icd does, see libOpenCL(7): OCL_ICD_VENDORS is a folder, an .icd file or a library;
 * OPENCL_VENDOR_PATH a folder. */
static bool find_drivers(struct report *report)
{
    const char *vendors = environment("OCL_ICD_VENDORS"),
               *folder = environment("OPENCL_VENDOR_PATH");
    report->loader.because = vendors ? "OCL_ICD_VENDORS" : folder ? "OPENCL_VENDOR_PATH" : "";
    folder = folder ? folder : DEFAULT_FOLDER;
    snprintf(report->place, sizeof report->place, "%s", vendors ? vendors : folder);
    if (!vendors || is_folder(vendors))
        return scan_folder(report);
    if (has_suffix(vendors, ".icd") && !strchr(vendors, '/')) {
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", folder, vendors);
        struct stat status;
        if (length > 0 && (size_t)length < sizeof path && stat(path, &status) == 0)
            snprintf(report->place, sizeof report->place, "%s", path);
    }
    return add_driver(report, report->place, !has_suffix(vendors, ".icd"));
}

static void find_loader(struct report *report)
{
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "clGetPlatformIDs");
    if (symbol && dladdr(symbol, &info) && info.dli_fname)
        snprintf(report->library, sizeof report->library, "%s", info.dli_fname);
}

qn_loader *qn_loader_new(void)
{
    struct report *report = calloc(1, sizeof *report);
    if (!report) {
        fail_without_context(QN_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    report->loader.library = report->library;
    report->loader.place = report->place;
    report->loader.problem = report->problem;
    find_loader(report);
    if (!find_drivers(report)) {
        fail_without_context(QN_ERROR_MEMORY, "out of memory");
        qn_loader_free(&report->loader);
        return NULL;
    }
    return &report->loader;
}

void qn_loader_free(qn_loader *loader)
{
    if (!loader)
        return;
    struct report *report = (struct report *)loader;
    for (size_t i = 0; i < loader->count; i++)
        free(report->drivers[i]);
    free(report->drivers);
    free(report->icds);
    free(report);
}

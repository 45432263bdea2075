/* Sensors of the system, in a folder that stands in for /sys. */
#include <dlfcn.h>
#include <math.h>

#include "tap.h"

#include "files.h"

#include "cli/bench/sensors.h"

#define GPU "bus/pci/devices/0000:03:00.0/"

static const struct qn_device cpu = {.type = "CPU", .pci = ""};
static const struct qn_device gpu = {.type = "GPU", .pci = "0000:03:00.0"};
static const struct qn_device placeless = {.type = "GPU", .pci = ""};

/* Writes a file below the folder, and the folders it is in. */
static void put(const char *name, const char *text)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    for (char *slash = path + strlen(test_folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        bail_out("%s cannot be written", path);
}

static struct sensor_reading read_once(const struct qn_device *device, char source[64])
{
    struct sensors *sensors = sensors_open(device);
    if (!sensors)
        bail_out("no memory");
    struct sensor_reading reading = sensors_read(sensors);
    const char *found = sensors_source(sensors);
    snprintf(source, 64, "%s", found ? found : "");
    ok(!found == (sensors_reason(sensors)[0] != '\0'), "a source, or a reason: %s%s", source,
       sensors_reason(sensors));
    sensors_close(sensors);
    return reading;
}

static bool is_reading(const struct sensor_reading *reading, double clock, double temperature,
                       double power)
{
    const double expected[QUANTITIES] = {clock, temperature, power};
    for (size_t q = 0; q < QUANTITIES; q++) {
        bool is_same = isnan(expected[q]) ? isnan(reading->value[q])
                                          : fabs(reading->value[q] - expected[q]) < 1e-6;
        if (!is_same) {
            note("quantity %zu is %g, not %g", q, reading->value[q], expected[q]);
            return false;
        }
    }
    return true;
}

static void test_nothing(void)
{
    char source[64];
    struct sensor_reading reading = read_once(&cpu, source);
    ok(!*source && is_reading(&reading, NAN, NAN, NAN), "an empty folder gives nothing of a CPU");
    reading = read_once(&gpu, source);
    ok(!*source && is_reading(&reading, NAN, NAN, NAN), "nor of a GPU");
    reading = read_once(&placeless, source);
    ok(!*source && is_reading(&reading, NAN, NAN, NAN), "nor of one whose place is not known");
    reading = read_once(NULL, source);
    ok(!*source && is_reading(&reading, NAN, NAN, NAN), "nor of no device");
}

static void test_amd(void)
{
    char source[64], link[1000];
    put(GPU "hwmon/hwmon3/freq1_input", "2145000000\n");
    put(GPU "hwmon/hwmon3/temp1_input", "61500\n");
    put(GPU "hwmon/hwmon3/power1_average", "185000000\n");
    put(GPU "hwmon/hwmon3/power1_input", "1\n");
    put("bus/pci/drivers/amdgpu/bind", "");
    snprintf(link, sizeof link, "%s/" GPU "driver", test_folder);
    if (symlink("../../drivers/amdgpu", link) != 0)
        bail_out("no link");
    struct sensor_reading reading = read_once(&gpu, source);
    ok(is_reading(&reading, 2145, 61.5, 185) && strcmp(source, "sysfs:amdgpu") == 0,
       "clock, temperature and mean power, of its driver");
    setenv("QUERN_PCI", "0000:03:00.0", 1);
    reading = read_once(&placeless, source);
    ok(is_reading(&reading, 2145, 61.5, 185),
       "by the address in QUERN_PCI, if the driver has none");
    reading = read_once(&cpu, source);
    ok(!*source, "which is not where a CPU is");
    setenv("QUERN_PCI", "0000:../00.0", 1);
    reading = read_once(&placeless, source);
    ok(!*source, "which nothing but an address may be");
    reading = read_once(&gpu, source);
    ok(is_reading(&reading, 2145, 61.5, 185), "and which does not matter where the driver has one");
    unsetenv("QUERN_PCI");
}

/* A library that knows one device, its clock and its temperature.  It is loaded by its path first: then it has the name. */
static void test_nvml(void)
{
    static const char code[] =
        "#include <string.h>\n"
        "int nvmlInit_v2(void) { return 0; }\n"
        "int nvmlShutdown(void) { return 0; }\n"
        "int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device)\n"
        "{ *device = (void *)nvmlInit_v2; return strcmp(address, \"0000:65:00.0\") != 0; }\n"
        "int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz)\n"
        "{ *mhz = 1980; return device != (void *)nvmlInit_v2 || type != 1; }\n"
        "int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)\n"
        "{ *celsius = 41; return device != (void *)nvmlInit_v2 || sensor != 0; }\n"
        "int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)\n"
        "{ *milliwatts = 350000; return device ? 3 : 1; }\n";
    char command[1000], source[64];
    put("nvml.c", code);
    snprintf(command, sizeof command,
             "cd '%s' && ${CC:-cc} -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o nvml.so nvml.c",
             test_folder);
    void *library = system(command) == 0 ? dlopen(in_folder("nvml.so"), RTLD_NOW) : NULL;
    if (!library)
        bail_out("no library: %s", dlerror());
    static const struct qn_device known = {.type = "GPU", .pci = "0000:65:00.0"};
    struct sensor_reading reading = read_once(&known, source);
    ok(is_reading(&reading, 1980, 41, NAN) && strcmp(source, "nvml") == 0,
       "what NVIDIA's library knows of its device");
    reading = read_once(&gpu, source);
    ok(is_reading(&reading, 2145, 61.5, 185) && strcmp(source, "sysfs:amdgpu") == 0,
       "of one that it does not know the system's files do");
    dlclose(library);
}

static void test_hostile(void)
{
    static const char *const texts[] = {
        "",     "\n",           "nan\n", "inf\n",   "1e999\n",
        "-1\n", "12 monkeys\n", "0x\n",  "\033[2J", "99999999999999999999999999999999999999\n"};
    char source[64];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(GPU "hwmon/hwmon3/freq1_input", texts[i]);
        struct sensor_reading reading = read_once(&gpu, source);
        ok(is_reading(&reading, NAN, 61.5, 185), "a clock that is none: number %zu", i);
    }
    put(GPU "drm/card1/gt_act_freq_mhz", "1550\n");
    struct sensor_reading reading = read_once(&gpu, source);
    ok(is_reading(&reading, NAN, 61.5, 185), "one out of bounds is not replaced by another");
    put(GPU "hwmon/hwmon3/freq1_input", "");
    reading = read_once(&gpu, source);
    ok(is_reading(&reading, 1550, 61.5, 185), "one that cannot be read is: that of i915");
}

static void test_cpu(void)
{
    put("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n");
    put("devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2000000\n");
    put("class/hwmon/hwmon0/name", "nvme\n");
    put("class/hwmon/hwmon0/temp1_input", "99000\n");
    put("class/hwmon/hwmon1/name", "coretemp\n");
    put("class/hwmon/hwmon1/temp1_input", "54000\n");
    put("class/powercap/intel-rapl:0/name", "package-0\n");
    put("class/powercap/intel-rapl:0/energy_uj", "1000000\n");
    put("class/powercap/intel-rapl:0:0/name", "core\n");
    put("class/powercap/intel-rapl:0:0/energy_uj", "1000000\n");
    struct sensors *sensors = sensors_open(&cpu);
    struct sensor_reading reading = sensors_read(sensors);
    ok(is_reading(&reading, 2500, 54, 0), "the mean of clocks, the processor's temperature");
    put("class/powercap/intel-rapl:0:0/energy_uj", "9000000\n");
    reading = sensors_read(sensors);
    ok(is_reading(&reading, 2500, 54, 0), "what cores take is in the package's energy");
    double before = reading.seconds;
    usleep(20000);
    put("class/powercap/intel-rapl:0/energy_uj", "1500000\n");
    reading = sensors_read(sensors);
    double power = 0.5 / (reading.seconds - before);
    ok(fabs(reading.value[POWER] / power - 1) < 0.1, "half a joule makes %.3g W", power);
    put("class/powercap/intel-rapl:0/energy_uj", "100\n");
    reading = sensors_read(sensors);
    ok(is_reading(&reading, 2500, 54, NAN), "a counter that began anew gives no power");
    reading = sensors_read(sensors);
    ok(is_reading(&reading, 2500, 54, 0), "but then again");
    ok(strcmp(sensors_source(sensors), "sysfs:cpu") == 0, "of the CPU");
    sensors_close(sensors);
}

int main(void)
{
    make_test_folder();
    setenv("QUERN_SYSFS", test_folder, 1);
    unsetenv("QUERN_PCI");
    test_nothing();
    test_amd();
    test_nvml();
    test_hostile();
    test_cpu();
    remove_test_folder();
    return done_testing();
}

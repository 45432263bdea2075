/* Sensors of the system, in a folder that stands in for /sys. */
#include <math.h>

#include "tap.h"

#include "files.h"

#include "cli/bench/sensors.h"

#define GPU "bus/pci/devices/0000:03:00.0/"

static const struct qn_device cpu = {.type = "CPU", .pci = ""};
static const struct qn_device gpu = {.type = "GPU", .pci = "0000:03:00.0"};

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
    reading = read_once(&(struct qn_device){.type = "GPU", .pci = ""}, source);
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
    reading = read_once(&cpu, source);
    ok(is_reading(&reading, 2145, 61.5, 185), "by the address in QUERN_PCI, too");
    setenv("QUERN_PCI", "0000:../00.0", 1);
    reading = read_once(&gpu, source);
    ok(!*source, "which nothing but an address may be");
    unsetenv("QUERN_PCI");
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
    test_hostile();
    test_cpu();
    return done_testing();
}

/* Clock, temperature and power of a device, as NVIDIA's management library or Linux' sysfs give them. */
#ifndef QUERN_SENSORS_H
#define QUERN_SENSORS_H

#include <quern/quern.h>

#include "cli/cli.h"

enum quantity { CLOCK, TEMPERATURE, POWER, QUANTITIES }; /* MHz, degrees Celsius, watts */

struct sensor_reading {
    double seconds;           /* since the sensors were opened */
    double value[QUANTITIES]; /* NAN: not given */
};

struct sensors;

/* Those of the device (NULL: it is not known): of a CPU the processor's, else those of its place on the PCI bus, which where the driver does
 * not tell it is QUERN_PCI in the environment.  sysfs is in QUERN_SYSFS, else /sys.  NULL without memory. */
struct sensors *sensors_open(const struct qn_device *device);
void sensors_close(struct sensors *sensors);

/* "nvml", "sysfs:amdgpu", "sysfs:cpu"; NULL if they give nothing: then the reason says why. */
const char *sensors_source(const struct sensors *sensors);
const char *sensors_reason(const struct sensors *sensors);

/* Now: for what a device does at work, before it is waited for.  Of sensors that count energy the power is the mean since the last reading. */
struct sensor_reading sensors_read(struct sensors *sensors);

#endif

/* Which platforms and devices there are, and which of them a name stands for. */
#ifndef QUERN_PLATFORMS_H
#define QUERN_PLATFORMS_H

#include "device/device.h"

struct platform {
    cl_platform_id id;
    size_t number;
    char name[128], version[192], vendor[128], suffix[32];
    bool queried; /* the fields below are filled in: asking can be slow */
    struct device_info *devices;
    size_t count;
    char problem[256]; /* why there are no devices, or "" */
};

struct platforms {
    struct platform *platform;
    size_t count;
};

/* All platforms; then, where nothing chose among them yet, all their devices. */
int platforms_find(qn_context *context, struct platforms *platforms);
int platforms_query(qn_context *context, struct platforms *platforms);
void platforms_free(struct platforms *platforms);

/* Devices, best first: to be tried in this order until one opens. */
struct candidates {
    struct device_info **device;
    size_t count, capacity;
};

/* The devices that the selector names (NULL: all): several only if it names one platform, and none
 * of its devices.  Else an error. */
int platforms_choose(qn_context *context, struct platforms *platforms, const char *selector,
                     struct candidates *candidates);

/* "0:1": the device as the ICD loader numbers it. */
void selector_text(const struct device_info *info, char text[SELECTOR_TEXT]);

/* The selector, else QUERN_DEVICE, else NULL. */
const char *selector_or_environment(const char *selector);

bool is_gpu(const struct device_info *info);

#endif

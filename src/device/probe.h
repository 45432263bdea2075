/* Probes: tiny programs that are built, run and checked once, and whose verdict is remembered on disk. */
#ifndef QUERN_PROBE_H
#define QUERN_PROBE_H

#include "device/device.h"

/* A kernel "probe" that one group of `items` work-items runs on some numbers and, if it wants any, so many bytes of local memory; and
 * whether what it made of them is right: 0, or a negative status and an error. */
struct probe {
    struct qn_source source;
    const char *defines;
    size_t items, bytes, local_bytes;
    void *numbers;
    int (*check)(qn_context *context, const struct probe *probe);
};

/* 0, or a negative status and an error; what was found is remembered, unless the host's memory or the device's ran out. */
int probe_try(qn_context *context, const struct probe *probe);

/* What was found the last time: "ok", what went wrong, or "" if it was never tried.  False: it has to be tried, for the first time, or
 * once more, since the device lacked resources then. */
bool probe_recall(const struct device_info *info, const struct qn_source *source,
                  const char *defines, char *verdict, size_t size);

#endif

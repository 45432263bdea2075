/* A layer between our own code and what it calls to get memory and to use a device: it counts the calls, makes chosen ones fail
 * as drivers and C libraries fail, and knows what was made and not given back.  The linker puts it there (--wrap: see
 * Makefile.am), so that calls of libraries and drivers among themselves are left alone. */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>

enum fault {
    FAULT_MEMORY,  /* one allocation gives NULL */
    FAULT_CALL,    /* one call of OpenCL fails, with an error that it may have */
    FAULT_BUFFERS, /* the device has no memory for any more buffers */
    FAULT_COMMAND, /* one command fails for lack of device memory when it is enqueued */
    FAULT_LOST,    /* the device is lost: every call fails, commands that were enqueued end badly */
    FAULT_LOST_LATE, /* the same, but only events and transfers that wait tell it */
    FAULTS
};

/* Forgets what was counted, and lets call number `at` (from 0) of those that the fault may befall fail; -1: none does. */
void shim_start(enum fault fault, long at);

/* No call fails or is counted from here on. */
void shim_stop(void);

long shim_calls(enum fault fault); /* that the fault may befall, since the start until the stop */

/* Memory that is followed, but never refused: for jansson, whose lexer ends the process when there is none. */
void *shim_malloc(size_t bytes);

/* The function that failed first, "clCreateBuffer"; "" if none did. */
const char *shim_failed(void);

/* What was made between start and stop and not given back, and the function that made the first of it. */
long shim_leaks(const char **made_by);

#endif

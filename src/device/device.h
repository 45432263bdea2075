/* OpenCL devices: which there are, what they can do, and one that was opened: its queue, its
 * programs. */
#ifndef QUERN_DEVICE_H
#define QUERN_DEVICE_H

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS /* drivers of OpenCL 1.2 have no other call to make a    \
                                             queue */
#include <CL/cl.h>

#include "device/cache.h"
#include "device/context.h"

struct program_cache;
struct profile;

/* What a driver says of itself and of a device. */
struct device_info {
    cl_platform_id platform;
    cl_device_id id;
    size_t platform_number, device_number; /* in the order of the ICD loader */
    char platform_name[128], platform_version[192];
    char name[192], driver[96], opencl_c[96];
    cl_device_type type;
    int version;               /* of OpenCL, the older of platform and device: 12, 20, 30 */
    struct qn_caps caps;       /* with quirks, without QUERN_CAPS */
    bool caches_programs;      /* the driver does, on disk: Quern need not */
    bool no_event_times;       /* those that it gives are wrong: the profile measures on the host */
    bool cuts_loops;           /* wrong results where one work-item has very much to do */
    char quirks[512];          /* those in force, or "" */
    char matrix_problem[1024]; /* why instructions for matrices that it has are not used, or "" */
    char problem[512];         /* why it cannot be used, or "" */
    char pci[24];              /* "0000:65:00.0", or "" */
};

struct device {
    struct device_info info;
    cl_context cl;
    cl_command_queue queue; /* in order */
    char *name;             /* "platform, device, driver version" */
    struct program_cache *programs;
    struct profile *profile; /* NULL: kernels are not timed */
    cl_int error;            /* the last that device_check() saw, or CL_SUCCESS */
};

/* Opens the device that `selector` names (see qn_options.device) and sets context->device and
 * context->caps; both as planning alone needs them for "none".  0, or a negative status and an
 * error. */
int device_open(qn_context *context, const char *selector, bool profile);
void device_close(struct device *device);

/* Opens one device as context->device, with the capabilities that it reports or pretends; none of its instructions for matrices has been
 * tried.  On failure there is none. */
int device_open_plain(qn_context *context, const struct device_info *info, bool profile);

/* ---- Capabilities: caps.c ---- */

/* Fills in caps, quirks and, where it cannot be used, problem. */
void caps_query(struct device_info *info);

/* Makes it the device's problem if a query of it has failed: what is not known is not guessed. */
void query_check(struct device_info *info, cl_device_info what, cl_int code);

/* Whether the name is in a list of extensions. */
bool has_extension(const char *extensions, const char *name);

/* Fills in pci: pci.c. */
void pci_query(struct device_info *info, const char *extensions);

/* Those of a plain device that is not there: what plans are made for without one. */
struct qn_caps caps_none(void);

/* What QUERN_CAPS makes of `caps`; a negative status on a word that is none. */
int caps_override(qn_context *context, struct qn_caps *caps, const char *words);
int caps_pretend(qn_context *context,
                 struct qn_caps *caps); /* of QUERN_CAPS itself, or qn_options.caps */

/* ---- Errors ---- */

/* The name of an OpenCL error code. */
const char *cl_error_name(cl_int code);

/* "WHAT: CL_..." as the context's error if code is not CL_SUCCESS; returns 0 or a negative status.
 */
int device_check(qn_context *context, cl_int code, const char *what, ...) PRINTF_LIKE(3, 4);

/* ---- Buffers ---- */

/* Counts a buffer in context->counters, or fails where the device has no room for it. */
int device_claim(qn_context *context, size_t bytes);

/* A buffer on the device; counted in context->counters.  NULL and an error on failure. */
cl_mem device_buffer(qn_context *context, size_t bytes);
void device_buffer_free(qn_context *context, cl_mem buffer, size_t bytes);

/* ---- Programs: program.c ---- */

struct program_cache *program_cache_new(qn_context *context, const struct device_info *info);
void program_cache_free(struct program_cache *cache);

/* A kernel: function `name` of `source`, compiled with `defines` ("-D" style is not used: lines
 * "#define A 1\n" or ""). */
struct kernel_key {
    const struct qn_source *source;
    const char *name, *defines;
};

/* Writes the sources of kernels to the folder QUERN_DUMP_CL, if there is one, each as a program of its own: for compilers that are not the
 * driver's.  Needs no device. */
int kernels_dump(qn_context *context, const struct kernel_key *keys, size_t count);

/* New kernel objects for all keys, which may repeat.  What is neither in memory nor in the cache on
 * disk is compiled as one program, or two: see GENERATED_SOURCE.  The caller releases them.  On failure there are none. */
int device_kernels(qn_context *context, const struct kernel_key *keys, size_t count,
                   cl_kernel *kernels);

/* What identifies a device and its driver. */
struct digest digest_device(const struct device_info *info);

/* ---- Probes: probe.c ---- */

/* Builds, runs and checks a tiny kernel, unless the cache on disk knows that it went well.  0, or a
 * negative status and an error; device_probe_recall() is probe_recall() of it. */
int device_probe(qn_context *context);
bool device_probe_recall(const struct device_info *info, char *verdict, size_t size);

/* ---- The queue: queue.c ---- */

/* One thing to do in a run. */
struct command {
    const char *op;   /* the operation's name, for messages and the profile */
    const char *node; /* its node's name, or "" */
    const char *variant;
    cl_kernel kernel; /* NULL: a call */
    cl_uint dims;
    size_t global[3], local[3];
    qn_call *call;
    void **buffers; /* cl_mem, NULL at the end: for calls */
    const void *arguments;
    struct qn_cost cost; /* of the node, counted at its first command */
};

/* Enqueues commands in order, with a flush now and then.  An error names the node. */
int device_enqueue(qn_context *context, const struct command *commands, size_t count);

/* ---- The profile: profile.c ---- */

struct profile *profile_new(qn_context *context);
void profile_free(struct profile *profile);

/* Counts a command that was enqueued; takes over the events: `end` is that of the command, or, if `start` is not NULL, they are
 * markers around it. */
int profile_command(qn_context *context, const struct command *command, cl_event start,
                    cl_event end);
void profile_time_last(struct profile *profile, double seconds); /* by the host's clock */

/* Waits for the commands that were enqueued and adds up their times. */
int profile_collect(qn_context *context);

#endif

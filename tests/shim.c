/* The wrapped functions, and what they share. */
#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#define PCRE2_CODE_UNIT_WIDTH 8

#include "config.h"
#include "shim.h"

#include <CL/cl.h>
#include <pcre2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- What goes on ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* threads of ours call, too */

static struct {
    bool runs;
    enum fault fault;
    long at, calls[FAULTS];
    const char *failed;
    bool is_lost;
    cl_command_queue queue; /* the last one that a command was for */
} shim = {.failed = ""};

/* ---- What was made, by address ---- */

enum { SLOTS = 1 << 18 };

struct made {
    const void *address; /* NULL: never used */
    const char *by;
    long references; /* 0: gone */
};

static struct made table[SLOTS];
static struct made *used[SLOTS]; /* in the order of their making */
static long n_used;

static struct made *find(const void *address)
{
    size_t slot = (size_t)((uintptr_t)address * 0x9E3779B97F4A7C15u >> 40) % SLOTS;
    while (table[slot].address && table[slot].address != address)
        slot = (slot + 1) % SLOTS;
    return &table[slot];
}

static void *made(const void *address, const char *by)
{
    pthread_mutex_lock(&lock);
    struct made *entry = address && shim.runs ? find(address) : NULL;
    if (entry && !entry->address) {
        if (n_used == SLOTS / 2)
            abort(); /* the table is too small for this test */
        used[n_used++] = entry;
    }
    if (entry)
        *entry = (struct made){address, by, entry->references + 1};
    pthread_mutex_unlock(&lock);
    return (void *)(uintptr_t)address;
}

static void gone(const void *address)
{
    pthread_mutex_lock(&lock);
    struct made *entry = address && shim.runs ? find(address) : NULL;
    if (entry && entry->references > 0) /* else it was made before the start */
        entry->references--;
    pthread_mutex_unlock(&lock);
}

/* ---- Faults ---- */

void shim_start(enum fault fault, long at)
{
    for (long i = 0; i < n_used; i++)
        *used[i] = (struct made){0};
    n_used = 0;
    memset(&shim, 0, sizeof shim);
    shim.runs = true;
    shim.fault = fault;
    shim.at = at;
    shim.failed = "";
}

void shim_stop(void)
{
    shim.runs = shim.is_lost = false;
}

long shim_calls(enum fault fault)
{
    return shim.calls[fault];
}

const char *shim_failed(void)
{
    return shim.failed;
}

long shim_leaks(const char **made_by)
{
    long count = 0;
    for (long i = n_used - 1; i >= 0; i--)
        if (used[i]->references > 0) {
            *made_by = used[i]->by;
            count++;
        }
    return count;
}

/* Counts a call; whether this fault befalls it. */
static bool befalls(enum fault fault, const char *name)
{
    pthread_mutex_lock(&lock);
    long call = shim.runs ? shim.calls[fault]++ : -1;
    bool fails = shim.runs && fault == shim.fault &&
                 (call == shim.at || (fault == FAULT_BUFFERS && shim.at >= 0 && call > shim.at));
    if (fails && !*shim.failed)
        shim.failed = name;
    pthread_mutex_unlock(&lock);
    return fails;
}

/* ---- Memory ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size)
{
    return befalls(FAULT_MEMORY, "malloc") ? NULL : made(__real_malloc(size), "malloc");
}

void *__wrap_calloc(size_t count, size_t size)
{
    return befalls(FAULT_MEMORY, "calloc") ? NULL : made(__real_calloc(count, size), "calloc");
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (befalls(FAULT_MEMORY, "realloc"))
        return NULL;
    gone(memory);
    return made(__real_realloc(memory, size), "realloc");
}

void *shim_malloc(size_t bytes)
{
    return made(__real_malloc(bytes), "jansson");
}

char *__wrap_strdup(const char *text)
{
    return befalls(FAULT_MEMORY, "strdup") ? NULL : made(__real_strdup(text), "strdup");
}

void __wrap_free(void *memory)
{
    gone(memory);
    __real_free(memory);
}

pcre2_code *__real_pcre2_compile_8(PCRE2_SPTR8 pattern, size_t length, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context);
pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR8 pattern, size_t length, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context);
pcre2_match_data *__real_pcre2_match_data_create_from_pattern_8(const pcre2_code *pattern,
                                                                pcre2_general_context *context);
pcre2_match_data *__wrap_pcre2_match_data_create_from_pattern_8(const pcre2_code *pattern,
                                                                pcre2_general_context *context);
void __real_pcre2_code_free_8(pcre2_code *pattern);
void __wrap_pcre2_code_free_8(pcre2_code *pattern);
void __real_pcre2_match_data_free_8(pcre2_match_data *match);
void __wrap_pcre2_match_data_free_8(pcre2_match_data *match);

pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR8 pattern, size_t length, uint32_t options, int *code,
                                   size_t *offset, pcre2_compile_context *context)
{
    *code = PCRE2_ERROR_HEAP_FAILED;
    *offset = 0;
    return befalls(FAULT_MEMORY, "pcre2_compile")
               ? NULL
               : made(__real_pcre2_compile_8(pattern, length, options, code, offset, context),
                      "pcre2_compile");
}

pcre2_match_data *__wrap_pcre2_match_data_create_from_pattern_8(const pcre2_code *pattern,
                                                                pcre2_general_context *context)
{
    return befalls(FAULT_MEMORY, "pcre2_match_data_create")
               ? NULL
               : made(__real_pcre2_match_data_create_from_pattern_8(pattern, context),
                      "pcre2_match_data_create");
}

void __wrap_pcre2_code_free_8(pcre2_code *pattern)
{
    gone(pattern);
    __real_pcre2_code_free_8(pattern);
}

void __wrap_pcre2_match_data_free_8(pcre2_match_data *match)
{
    gone(match);
    __real_pcre2_match_data_free_8(match);
}

/* What a loss of power leaves is not for these tests, which have thousands of runs. */
int __wrap_fsync(int descriptor);
int __wrap_fsync(int descriptor)
{
    (void)descriptor;
    return 0;
}

/* ---- OpenCL ---- */

/* Whether the device has gone, now or before; what it was given until then it has done. */
static bool is_lost(const char *name)
{
    if (!shim.is_lost && (befalls(FAULT_LOST, name) || befalls(FAULT_LOST_LATE, name))) {
        shim.is_lost = true;
        if (shim.queue)
            clFinish(shim.queue);
    }
    return shim.is_lost;
}

enum kind {
    QUERY,   /* what there is: works without the device */
    OTHER,   /* makes something */
    BUFFER,  /* takes memory of the device */
    COMMAND, /* is enqueued */
    WAIT,    /* learns of what commands came to */
    RELEASE  /* gives something back, whatever it returns */
};

/* The error that a call gets instead of being done, or CL_SUCCESS; `usual` is one that this function may have. */
static cl_int error_of(enum kind kind, const char *name, cl_int usual)
{
    if (befalls(FAULT_CALL, name))
        return usual;
    if (kind == QUERY || kind == RELEASE)
        return CL_SUCCESS;
    if ((kind == BUFFER && befalls(FAULT_BUFFERS, name)) ||
        (kind == COMMAND && befalls(FAULT_COMMAND, name)))
        return CL_MEM_OBJECT_ALLOCATION_FAILURE;
    if (is_lost(name) && (kind == WAIT || shim.fault == FAULT_LOST))
        return CL_OUT_OF_RESOURCES;
    return CL_SUCCESS;
}

/* One context, and the programs by their text, for all runs: so a run takes milliseconds.  It makes them, and gives them back, as
 * if they were its own. */
static struct {
    cl_context context;
    struct {
        char *text;
        cl_program program;
        bool is_built;
    } programs[256];
    size_t n_programs;
} kept;

/* A command of a device that is gone, and that nobody has noticed yet. */
static cl_int swallow(cl_event *event, const char *name)
{
    cl_int code = CL_SUCCESS;
    if (event)
        *event = made(clCreateUserEvent(kept.context, &code), name);
    return code;
}

#define STATUS(name, kind, usual, parameters, arguments)                                           \
    cl_int __real_##name parameters;                                                               \
    cl_int __wrap_##name parameters;                                                               \
    cl_int __wrap_##name parameters                                                                \
    {                                                                                              \
        cl_int code = error_of(kind, #name, usual);                                                \
        return code == CL_SUCCESS ? __real_##name arguments : code;                                \
    }

#define CREATOR(type, name, kind, usual, parameters, arguments)                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        *code = error_of(kind, #name, usual);                                                      \
        return *code == CL_SUCCESS ? made(__real_##name arguments, #name) : NULL;                  \
    }

#define ENQUEUE(name, waits, parameters, arguments)                                                \
    cl_int __real_##name parameters;                                                               \
    cl_int __wrap_##name parameters;                                                               \
    cl_int __wrap_##name parameters                                                                \
    {                                                                                              \
        shim.queue = queue;                                                                        \
        cl_int code = error_of(waits ? WAIT : COMMAND, #name, CL_OUT_OF_RESOURCES);                \
        if (code != CL_SUCCESS)                                                                    \
            return code;                                                                           \
        if (shim.is_lost)                                                                          \
            return swallow(event, #name);                                                          \
        code = __real_##name arguments;                                                            \
        if (code == CL_SUCCESS && event)                                                           \
            made(*event, #name);                                                                   \
        return code;                                                                               \
    }

#define RELEASER(type, name)                                                                       \
    cl_int __real_##name(type object);                                                             \
    cl_int __wrap_##name(type object);                                                             \
    cl_int __wrap_##name(type object)                                                              \
    {                                                                                              \
        cl_int code = error_of(RELEASE, #name, CL_OUT_OF_RESOURCES), real;                         \
        gone(object);                                                                              \
        if ((const void *)object == shim.queue)                                                    \
            shim.queue = NULL;                                                                     \
        real = __real_##name(object);                                                              \
        return code == CL_SUCCESS ? real : code;                                                   \
    }

/* clang-format off */

STATUS(clGetPlatformIDs, QUERY, CL_OUT_OF_HOST_MEMORY,
       (cl_uint room, cl_platform_id *ids, cl_uint *count), (room, ids, count))
STATUS(clGetPlatformInfo, QUERY, CL_OUT_OF_HOST_MEMORY,
       (cl_platform_id id, cl_platform_info what, size_t room, void *value, size_t *size),
       (id, what, room, value, size))
STATUS(clGetDeviceIDs, QUERY, CL_OUT_OF_RESOURCES,
       (cl_platform_id id, cl_device_type type, cl_uint room, cl_device_id *ids, cl_uint *count),
       (id, type, room, ids, count))
STATUS(clGetDeviceInfo, QUERY, CL_OUT_OF_RESOURCES,
       (cl_device_id id, cl_device_info what, size_t room, void *value, size_t *size),
       (id, what, room, value, size))
STATUS(clGetKernelInfo, QUERY, CL_OUT_OF_RESOURCES,
       (cl_kernel kernel, cl_kernel_info what, size_t room, void *value, size_t *size),
       (kernel, what, room, value, size))
STATUS(clGetProgramInfo, QUERY, CL_OUT_OF_RESOURCES,
       (cl_program program, cl_program_info what, size_t room, void *value, size_t *size),
       (program, what, room, value, size))
STATUS(clGetProgramBuildInfo, QUERY, CL_OUT_OF_RESOURCES,
       (cl_program program, cl_device_id id, cl_program_build_info what, size_t room, void *value, size_t *size),
       (program, id, what, room, value, size))

CREATOR(cl_command_queue, clCreateCommandQueue, OTHER, CL_OUT_OF_RESOURCES,
        (cl_context context, cl_device_id id, cl_command_queue_properties properties, cl_int *code),
        (context, id, properties, code))
CREATOR(cl_command_queue, clCreateCommandQueueWithProperties, OTHER, CL_OUT_OF_RESOURCES,
        (cl_context context, cl_device_id id, const cl_queue_properties *properties, cl_int *code),
        (context, id, properties, code))
CREATOR(cl_mem, clCreateBuffer, BUFFER, CL_OUT_OF_HOST_MEMORY,
        (cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *code),
        (context, flags, bytes, host, code))
CREATOR(cl_mem, clCreateSubBuffer, OTHER, CL_OUT_OF_RESOURCES,
        (cl_mem buffer, cl_mem_flags flags, cl_buffer_create_type type, const void *region, cl_int *code),
        (buffer, flags, type, region, code))
CREATOR(cl_program, clCreateProgramWithBinary, OTHER, CL_INVALID_BINARY,
        (cl_context context, cl_uint count, const cl_device_id *ids, const size_t *sizes,
         const unsigned char **binaries, cl_int *states, cl_int *code),
        (context, count, ids, sizes, binaries, states, code))
CREATOR(cl_kernel, clCreateKernel, OTHER, CL_OUT_OF_HOST_MEMORY,
        (cl_program program, const char *name, cl_int *code), (program, name, code))

STATUS(clSetKernelArg, OTHER, CL_OUT_OF_RESOURCES,
       (cl_kernel kernel, cl_uint index, size_t size, const void *value), (kernel, index, size, value))

ENQUEUE(clEnqueueNDRangeKernel, false,
        (cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset, const size_t *global,
         const size_t *local, cl_uint n_waits, const cl_event *before, cl_event *event),
        (queue, kernel, dims, offset, global, local, n_waits, before, event))
ENQUEUE(clEnqueueReadBuffer, blocking,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t bytes, void *values,
         cl_uint n_waits, const cl_event *before, cl_event *event),
        (queue, buffer, blocking, offset, bytes, values, n_waits, before, event))
ENQUEUE(clEnqueueWriteBuffer, blocking,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t bytes,
         const void *values, cl_uint n_waits, const cl_event *before, cl_event *event),
        (queue, buffer, blocking, offset, bytes, values, n_waits, before, event))
ENQUEUE(clEnqueueFillBuffer, false,
        (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_bytes, size_t offset,
         size_t bytes, cl_uint n_waits, const cl_event *before, cl_event *event),
        (queue, buffer, pattern, pattern_bytes, offset, bytes, n_waits, before, event))
ENQUEUE(clEnqueueMarkerWithWaitList, false,
        (cl_command_queue queue, cl_uint n_waits, const cl_event *before, cl_event *event),
        (queue, n_waits, before, event))

STATUS(clFlush, OTHER, CL_OUT_OF_RESOURCES, (cl_command_queue queue), (queue))
STATUS(clWaitForEvents, WAIT, CL_OUT_OF_RESOURCES, (cl_uint count, const cl_event *events), (count, events))
STATUS(clGetEventProfilingInfo, WAIT, CL_PROFILING_INFO_NOT_AVAILABLE,
       (cl_event event, cl_profiling_info what, size_t room, void *value, size_t *size),
       (event, what, room, value, size))

RELEASER(cl_context, clReleaseContext)
RELEASER(cl_command_queue, clReleaseCommandQueue)
RELEASER(cl_mem, clReleaseMemObject)
RELEASER(cl_program, clReleaseProgram)
RELEASER(cl_kernel, clReleaseKernel)
RELEASER(cl_event, clReleaseEvent)

/* clang-format on */

/* Drivers say that all went well, though commands failed. */
cl_int __real_clFinish(cl_command_queue queue);
cl_int __wrap_clFinish(cl_command_queue queue);
cl_int __wrap_clFinish(cl_command_queue queue)
{
    cl_int code = error_of(OTHER, "clFinish", CL_OUT_OF_RESOURCES);
    cl_int real = __real_clFinish(queue);
    return code == CL_SUCCESS ? real : code;
}

cl_int __real_clGetEventInfo(cl_event event, cl_event_info what, size_t room, void *value,
                             size_t *size);
cl_int __wrap_clGetEventInfo(cl_event event, cl_event_info what, size_t room, void *value,
                             size_t *size);
cl_int __wrap_clGetEventInfo(cl_event event, cl_event_info what, size_t room, void *value,
                             size_t *size)
{
    if (befalls(FAULT_CALL, "clGetEventInfo"))
        return CL_OUT_OF_RESOURCES;
    if (!is_lost("clGetEventInfo"))
        return __real_clGetEventInfo(event, what, room, value, size);
    *(cl_int *)value = CL_OUT_OF_RESOURCES;
    return CL_SUCCESS;
}

cl_int __real_clRetainMemObject(cl_mem object);
cl_int __wrap_clRetainMemObject(cl_mem object);
cl_int __wrap_clRetainMemObject(cl_mem object)
{
    cl_int code = error_of(OTHER, "clRetainMemObject", CL_OUT_OF_HOST_MEMORY);
    if (code == CL_SUCCESS && (code = __real_clRetainMemObject(object)) == CL_SUCCESS)
        made(object, "clRetainMemObject");
    return code;
}

void *__real_clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                cl_map_flags flags, size_t offset, size_t bytes, cl_uint n_waits,
                                const cl_event *before, cl_event *event, cl_int *code);
void *__wrap_clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                cl_map_flags flags, size_t offset, size_t bytes, cl_uint n_waits,
                                const cl_event *before, cl_event *event, cl_int *code);
void *__wrap_clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                cl_map_flags flags, size_t offset, size_t bytes, cl_uint n_waits,
                                const cl_event *before, cl_event *event, cl_int *code)
{
    *code =
        error_of(blocking ? WAIT : COMMAND, "clEnqueueMapBuffer", CL_MEM_OBJECT_ALLOCATION_FAILURE);
    return *code == CL_SUCCESS
               ? made(__real_clEnqueueMapBuffer(queue, buffer, blocking, flags, offset, bytes,
                                                n_waits, before, event, code),
                      "clEnqueueMapBuffer")
               : NULL;
}

cl_int __real_clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem buffer, void *mapped,
                                      cl_uint n_waits, const cl_event *before, cl_event *event);
cl_int __wrap_clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem buffer, void *mapped,
                                      cl_uint n_waits, const cl_event *before, cl_event *event);
cl_int __wrap_clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem buffer, void *mapped,
                                      cl_uint n_waits, const cl_event *before, cl_event *event)
{
    cl_int code = error_of(OTHER, "clEnqueueUnmapMemObject", CL_OUT_OF_RESOURCES);
    gone(mapped);
    cl_int real = __real_clEnqueueUnmapMemObject(queue, buffer, mapped, n_waits, before, event);
    return code == CL_SUCCESS ? real : code;
}

cl_context __real_clCreateContext(const cl_context_properties *properties, cl_uint count,
                                  const cl_device_id *ids,
                                  void(CL_CALLBACK *report)(const char *, const void *, size_t,
                                                            void *),
                                  void *user, cl_int *code);
cl_context __wrap_clCreateContext(const cl_context_properties *properties, cl_uint count,
                                  const cl_device_id *ids,
                                  void(CL_CALLBACK *report)(const char *, const void *, size_t,
                                                            void *),
                                  void *user, cl_int *code);
cl_context __wrap_clCreateContext(
    const cl_context_properties *properties, cl_uint count, const cl_device_id *ids,
    void(CL_CALLBACK *report)(const char *, const void *, size_t, void *), void *user, cl_int *code)
{
    *code = error_of(OTHER, "clCreateContext", CL_DEVICE_NOT_AVAILABLE);
    if (*code != CL_SUCCESS)
        return NULL;
    if (!kept.context)
        kept.context = __real_clCreateContext(properties, count, ids, report, user, code);
    clRetainContext(kept.context);
    return made(kept.context, "clCreateContext");
}

cl_program __real_clCreateProgramWithSource(cl_context context, cl_uint count, const char **texts,
                                            const size_t *lengths, cl_int *code);
cl_program __wrap_clCreateProgramWithSource(cl_context context, cl_uint count, const char **texts,
                                            const size_t *lengths, cl_int *code);
cl_program __wrap_clCreateProgramWithSource(cl_context context, cl_uint count, const char **texts,
                                            const size_t *lengths, cl_int *code)
{
    *code = error_of(OTHER, "clCreateProgramWithSource", CL_OUT_OF_HOST_MEMORY);
    if (*code != CL_SUCCESS)
        return NULL;
    size_t i = 0;
    while (i < kept.n_programs && strcmp(kept.programs[i].text, texts[0]) != 0)
        i++;
    if (i == kept.n_programs) {
        if (i == sizeof kept.programs / sizeof *kept.programs)
            abort(); /* more programs than this test should need */
        kept.programs[kept.n_programs++].text = __real_strdup(texts[0]);
        kept.programs[i].program =
            __real_clCreateProgramWithSource(context, count, texts, lengths, code);
    }
    clRetainProgram(kept.programs[i].program);
    return made(kept.programs[i].program, "clCreateProgramWithSource");
}

cl_int __real_clBuildProgram(cl_program program, cl_uint count, const cl_device_id *ids,
                             const char *options, void(CL_CALLBACK *report)(cl_program, void *),
                             void *user);
cl_int __wrap_clBuildProgram(cl_program program, cl_uint count, const cl_device_id *ids,
                             const char *options, void(CL_CALLBACK *report)(cl_program, void *),
                             void *user);
cl_int __wrap_clBuildProgram(cl_program program, cl_uint count, const cl_device_id *ids,
                             const char *options, void(CL_CALLBACK *report)(cl_program, void *),
                             void *user)
{
    cl_int code = error_of(OTHER, "clBuildProgram", CL_BUILD_PROGRAM_FAILURE);
    if (code != CL_SUCCESS)
        return code;
    size_t i = 0;
    while (i < kept.n_programs && kept.programs[i].program != program)
        i++;
    if (i < kept.n_programs && kept.programs[i].is_built)
        return CL_SUCCESS;
    code = __real_clBuildProgram(program, count, ids, options, report, user);
    if (i < kept.n_programs)
        kept.programs[i].is_built = code == CL_SUCCESS;
    return code;
}

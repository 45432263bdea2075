/* The context: one device, the first error, the memory that plans share. */
#ifndef QUERN_CONTEXT_H
#define QUERN_CONTEXT_H

#include <quern/op.h>

#include "device/cache.h"

#if defined(__GNUC__)
#define PRINTF_LIKE(index, first) __attribute__((format(printf, index, first)))
#else
#define PRINTF_LIKE(index, first)
#endif

struct device;
struct arena;
struct tuning;

struct qn_context {
    struct device *device; /* NULL: plans can be made, not run */
    struct qn_caps caps;
    struct arena *arena;
    struct tuning *tuning; /* see qn_options; NULL: none */
    struct qn_counters counters;
    const char *pretended;    /* see qn_options.caps */
    const char *cl_dir;       /* see qn_options */
    bool keeps_origins;       /* see qn_options */
    bool detect_anomaly;      /* see qn_options */
    bool is_unfused;          /* each node has a kernel of its own */
    bool plan_only;           /* see qn_options: memory is counted, not taken */
    uint64_t runs;            /* of all plans: tells whose values are in the arena */
    const char *only_variant; /* see qn_options.variant; or NULL */
    size_t guard_bytes;       /* for tests: left free after each intermediate */
    enum qn_status status;    /* of the first error */
    char error[2048];
};

/* Keeps the message if it is the first; returns `status`. */
int context_fail(qn_context *context, enum qn_status status, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* The selector of the device that is open, as the list of devices has it; "": there is none. */
enum { SELECTOR_TEXT = 48 };
void device_selector(const qn_context *context, char text[SELECTOR_TEXT]);

/* Sets what qn_error(NULL) gives; returns `status`. */
int fail_without_context(enum qn_status status, const char *format, ...) PRINTF_LIKE(2, 3);

/* Zeroed memory for `count` things, or NULL and an error. */
void *context_alloc(qn_context *context, size_t count, size_t size);

/* The array, with room for one element more than `count`: moved and *capacity raised if need be.
 * NULL and an error if there is no memory: the array is then as it was. */
void *context_grow(qn_context *context, void *array, size_t count, size_t *capacity, size_t size);

/* a * b into *product; false if it does not fit. */
bool size_product(size_t *product, size_t a, size_t b);

#define GENERATED_SOURCE "fused.cl" /* of kernels that the graph generates */

/* The hash of all kernels' sources, those of QUERN_CL_DIR in the place of ours. */
int kernels_hash(qn_context *context, char hash[DIGEST_TEXT]);

/* How kernels name the type of a number in memory; whether a kernel computes with it as a float. */
const char *type_in_kernels(enum qn_type type);
bool type_is_real(enum qn_type type);

float float_of_f16(uint16_t bits);
float float_of_bf16(uint16_t bits);

/* Element `index` of memory of a type; numbers are rounded to it. */
double type_get(enum qn_type type, const void *memory, size_t index);
void type_put(enum qn_type type, void *memory, size_t index, double number);

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}
static inline size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}
static inline size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}
static inline size_t divide_up(size_t value, size_t divisor)
{
    return value / divisor + (value % divisor != 0);
}

#endif

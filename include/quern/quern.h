/* Quern: train and run language models on any OpenCL device.
 *
 * A model is a graph of tensor operations built in C.  Quern differentiates it, fuses it, plans its memory and runs it:
 *
 *     qn_context *qn = qn_open(NULL);
 *     qn_graph *graph = qn_graph_new(qn);
 *     qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(64, 784));
 *     qn_node *y = qn_relu(qn_matmul(x, qn_leaf(graph, weight)));       (see ops.h)
 *     qn_plan *plan = qn_plan_new(graph, &y, 1);
 *     qn_set(plan, x, batch);  qn_run(plan);  qn_get(plan, y, values);
 *
 * Ownership: the caller owns contexts, tensors, stores, graphs and plans and frees each by its own function; a context
 * must outlive what was made from it, and a tensor the plans that use it.  A graph owns its nodes.  Strings returned are
 * borrowed.  Every _free function takes NULL.
 *
 * Errors: building a graph needs no check per call.  A function given a bad shape returns NULL and the context keeps the
 * first message; a function given NULL returns NULL.  qn_plan_new() then returns NULL too, and qn_error() says what went
 * wrong first.  Actions return 0 or a negative qn_status.  The library never prints, exits or aborts on bad input.
 *
 * Threads: a context, and all that was made from it, belongs to one thread at a time. */
#ifndef QUERN_QUERN_H
#define QUERN_QUERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_context qn_context; /* a device, its kernels and its memory */
typedef struct qn_tensor qn_tensor;   /* numbers on a device */
typedef struct qn_store
    qn_store; /* the parameters of a model: few large buffers, laid out by group */
typedef struct qn_graph qn_graph; /* nodes, and the shapes they have */
typedef struct qn_node qn_node;   /* how a number will be computed */
typedef struct qn_plan qn_plan;   /* a graph made ready for a device */

enum qn_status {
    QN_OK = 0,
    QN_ERROR_INVALID = -1, /* an argument, a shape or a state that cannot be */
    QN_ERROR_MEMORY = -2,  /* the host is out of memory */
    QN_ERROR_DEVICE_MEMORY =
        -3,                  /* the device is out of memory, or a tensor is larger than it allows */
    QN_ERROR_DEVICE = -4,    /* no such device, or the driver failed */
    QN_ERROR_BUILD = -5,     /* a kernel does not compile */
    QN_ERROR_FILE = -6,      /* a file cannot be read or written */
    QN_ERROR_FORMAT = -7,    /* a file does not hold what it should */
    QN_NOT_READY = -8,       /* a result that is not there yet: see qn_result() */
    QN_ERROR_NOT_FINITE = -9 /* a value is infinite or NaN */
};

enum qn_type { QN_F32, QN_F16, QN_BF16, QN_I32, QN_U8, QN_TYPES };

/* "f32" and the like; bytes of `count` elements. */
const char *qn_type_name(enum qn_type type);
size_t qn_type_bytes(enum qn_type type, size_t count);

enum { QN_MAX_RANK = 6 };

enum { QN_IGNORE = -100 }; /* a target that counts for nothing: see qn_cross_entropy() */

/* Row-major, outermost first.  Rank 0 is a scalar: one element. */
typedef struct qn_shape {
    int rank;
    size_t size[QN_MAX_RANK];
} qn_shape;

#ifndef __cplusplus
#define QN_SHAPE(...)                                                                              \
    ((qn_shape){(int)(sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t)), {__VA_ARGS__}})
#define QN_SCALAR ((qn_shape){0, {0}})
#endif

size_t qn_shape_count(qn_shape shape); /* elements; SIZE_MAX if that does not fit a size_t */
bool qn_shape_equal(qn_shape a, qn_shape b);

/* ---- Contexts ---- */

struct qn_options {
    const char *
        device; /* PLATFORM[:DEVICE], numbers or parts of names; NULL: the environment's QUERN_DEVICE, else the
                           fastest GPU, else the CPU.  "none": plans can be made and printed, but not run. */
    /* Who multiplies matrices: "auto" (or NULL), "clblast" or "own"; "tf32" is "auto", but of more than eight rows and columns f32 is
     * rounded to a fraction of ten bits and multiplied by instructions for matrices of TF32, which the device must have. */
    const char *gemm;
    bool profile; /* time every kernel: see qn_profile_print() */
    /* Look at every value as soon as it is computed: a run ends with QN_ERROR_NOT_FINITE at the first node, leaf or input that is infinite or
     * NaN, and says where it was built (what was assigned before stays assigned).  Slow: nothing is fused, and each step is waited for. */
    bool detect_anomaly;
    const char *caps; /* what the device is to pretend, instead of the environment's QUERN_CAPS */
    const char *
        cl_dir; /* a folder whose .cl files replace the built-in kernels, instead of QUERN_CL_DIR; until qn_close() */
    const char *
        tuning; /* a file of `quern tune` for this device and driver, which says who multiplies which matrices, instead of
                   QUERN_TUNING; "": none */
    const char *
        variant; /* taken wherever an operation has a variant of this name that fits; until qn_close() */
    bool
        keep_origins; /* messages say where in the program a node was built; detect_anomaly does it, too */
    bool
        plan_only; /* make and print plans for this device, but never run them: nothing is allocated on it, and what
                           would not fit its memory is an error all the same */
};

/* Opens a device.  NULL on failure: qn_error(NULL) says why. */
qn_context *qn_open(const char *device);
qn_context *qn_open_with(const struct qn_options *options);
void qn_close(qn_context *context);

/* The first thing that went wrong, or ""; of the calling thread's last function without a context, as qn_open(), if context is
 * NULL. */
const char *qn_error(const qn_context *context);
void qn_clear_error(qn_context *context);

/* "Portable Computing Language, pthread-haswell, driver 3.1": the first line of a log. */
const char *qn_device_name(const qn_context *context);

/* Tells one tuning file (see qn_options) from another: digits, or "" without one.  The same device, driver, build, seed and tuning file give
 * the same bits. */
const char *qn_tuning_hash(const qn_context *context);

/* Waits until the device has done all it was given. */
int qn_finish(qn_context *context);

/* A variant of an operation, and what all its calls took.  One that has several kernels has an empty `kernel`, and these follow as parts of
 * it, their flops and bytes not known. */
struct qn_profile_line {
    char op[48], variant[48], kernel[64];
    bool is_part; /* of the variant above */
    size_t calls;
    double seconds, flops, bytes; /* flops, bytes: of all calls; 0: not known */
};
typedef struct qn_profile {
    size_t count;
    const struct qn_profile_line *lines; /* variants with most seconds first */
} qn_profile;

/* What was timed so far, after waiting for it.  Needs qn_options.profile.  NULL on failure. */
qn_profile *qn_profile_new(qn_context *context);
void qn_profile_free(qn_profile *profile);

/* Forgets what was timed so far. */
int qn_profile_clear(qn_context *context);

/* Prints the lines: calls, milliseconds, GFLOP/s, GB/s, share. */
int qn_profile_print(qn_context *context, FILE *file);

/* Writes what is timed from now on, command by command, in the format of Chrome's tracing, which https://ui.perfetto.dev shows;
 * some 150 bytes a command.  The file is there when it ends; without that there is none.  What cannot be written does not stop a run:
 * the end says it.  A file that is no trace is not replaced. */
int qn_profile_trace(qn_context *context, const char *path);
int qn_profile_trace_end(qn_context *context);

/* What the context has allocated on the device and compiled so far: a run adds nothing. */
struct qn_counters {
    size_t device_allocations, device_bytes, device_bytes_peak;
    size_t programs_built,
        kernels_built;      /* compiled; those from the cache on disk are not counted */
    size_t programs_loaded; /* from the cache on disk */
    double build_seconds;   /* compiling and loading programs */
};
struct qn_counters qn_counters(const qn_context *context);

/* Removes the compiled kernels that Quern keeps in $QUERN_CACHE_DIR, else $XDG_CACHE_HOME/quern, else ~/.cache/quern, and
 * tells how many files and bytes that were (both may be NULL).  On failure see qn_error(NULL). */
int qn_cache_clear(size_t *files, size_t *bytes);

/* ---- Devices ---- */

/* A device, or a platform without any.  Text that is not known is "". */
struct qn_device {
    const char *selector; /* "0:1": names it to qn_open() */
    const char *platform, *platform_version;
    const char *name, *driver, *opencl_c;
    const char *type;         /* "CPU", "GPU" or "accelerator", as its driver says */
    const char *device_class; /* "cpu" or "gpu": the shape of kernels that suits it */
    size_t compute_units, clock_mhz, float_width;
    size_t global_memory, max_allocation, local_memory; /* bytes */
    size_t max_work_group;
    bool fp16, fp64, subgroups;
    bool fma;             /* kernels round a product and a sum once */
    size_t subgroup_size; /* the least that kernels ask for; 0: they do not */
    const char *
        matrix; /* instructions that multiply matrices of 16 bits, as QUERN_CAPS calls them, or "none"; until a device is first
                           opened, those that it may have */
    const char *matrix_problem; /* why better ones that it may have are not used; or "" */
    const char *quirks;         /* what Quern does differently on it, and why; or "" */
    const char *problem;        /* why it cannot be used; or "" */
    const char *pci;            /* where it is on the bus, "0000:65:00.0"; or "" */
};

/* All platforms and devices.  Numbers are as qn_open() will use them: with QUERN_CAPS. */
typedef struct qn_device_list {
    size_t count;
    const struct qn_device *devices;
    const struct qn_device *chosen; /* what qn_open(NULL) tries first; NULL: it will fail */
    const char *reason;             /* why that one, or why none */
} qn_device_list;

/* NULL on failure: see qn_error(NULL).  Compiles nothing. */
qn_device_list *qn_device_list_new(void);
void qn_device_list_free(qn_device_list *list);

/* A file that names an OpenCL driver to the ICD loader, and what became of it. */
struct qn_icd {
    const char *file, *library; /* "/etc/OpenCL/vendors/pocl.icd", "libpocl.so.2" */
    size_t platforms, devices;
    const char *problem; /* why it gives no device; or "" */
};

/* How this program looks for drivers: what to read when there is no device. */
typedef struct qn_loader {
    const char *library; /* the path of the ICD loader in use */
    const char *place;   /* the folder or file where it looks */
    const char *because; /* the environment variable that says so; or "" */
    const char *problem; /* why nothing was found there; or "" */
    size_t count;
    const struct qn_icd *icds;
} qn_loader;

/* NULL if there is no memory.  Loads the drivers to see what they say. */
qn_loader *qn_loader_new(void);
void qn_loader_free(qn_loader *loader);

/* Which Debian package has the driver for which hardware; ends with a NULL. */
struct qn_driver_package {
    const char *hardware, *package;
};
const struct qn_driver_package *qn_driver_packages(void);

/* ---- Tensors ---- */

/* A tensor with undefined values.  The name is for messages and files. */
qn_tensor *qn_tensor_new(qn_context *context, const char *name, enum qn_type type, qn_shape shape);
void qn_tensor_free(qn_tensor *tensor);

const char *qn_tensor_name(const qn_tensor *tensor);
enum qn_type qn_tensor_type(const qn_tensor *tensor);
qn_shape qn_tensor_shape(const qn_tensor *tensor);
size_t qn_tensor_bytes(const qn_tensor *tensor);

/* Copy all values to or from the tensor, row-major, in its own type; both wait. */
int qn_tensor_write(qn_tensor *tensor, const void *values);
int qn_tensor_read(const qn_tensor *tensor, void *values);

/* Fill an f32 tensor.  Random numbers depend on the seed, the tensor's name and the position only: not on the device. */
int qn_fill(qn_tensor *tensor, double value);
int qn_fill_normal(qn_tensor *tensor, double mean, double deviation, uint64_t seed);
int qn_fill_uniform(qn_tensor *tensor, double low, double high, uint64_t seed);

/* ---- Stores ---- */

enum qn_group { QN_DECAY, QN_NO_DECAY, QN_FROZEN, QN_GROUPS };

/* An empty store; tensors are added, then qn_store_seal() lays them out by group and allocates them, zeroed.  The store
 * owns its tensors. */
qn_store *qn_store_new(qn_context *context, const char *name);
void qn_store_free(qn_store *store);
qn_tensor *qn_store_add(qn_store *store, const char *name, enum qn_type type, qn_shape shape,
                        enum qn_group group);
int qn_store_seal(qn_store *store);

/* A store with the same tensors at the same places, zeroed: for gradients and moments.  Frozen tensors are left out. */
qn_store *qn_store_like(const qn_store *store, const char *name);

qn_context *qn_store_context(const qn_store *store);
size_t qn_store_count(const qn_store *store); /* tensors, in the order they were added */
qn_tensor *qn_store_tensor(const qn_store *store, size_t index);
qn_tensor *qn_store_find(const qn_store *store, const char *name); /* NULL if there is none */

/* A store's buffers, each as one flat tensor over all of it: what an optimizer updates in one launch.  A buffer holds one
 * group; gaps between its tensors are zero. */
size_t qn_store_buffers(const qn_store *store);
qn_tensor *qn_store_buffer(const qn_store *store, size_t index);
enum qn_group qn_store_buffer_group(const qn_store *store, size_t index);

/* ---- Graphs ---- */

qn_graph *qn_graph_new(qn_context *context);
void qn_graph_free(qn_graph *graph);

qn_node *qn_input(qn_graph *graph, const char *name, enum qn_type type,
                  qn_shape shape); /* fed by qn_set() */
qn_node *qn_leaf(qn_graph *graph,
                 qn_tensor *tensor); /* the tensor's value at the start of the run */
qn_node *qn_constant(qn_graph *graph, double value); /* an f32 scalar */

/* Output `index` of a node that has several; a node used by itself stands for its output 0. */
qn_node *qn_output(qn_node *node, int index);

/* Names a node for prints, messages and qn_graph_find(); returns it.  A node may have several names: messages say the last. */
qn_node *qn_named(qn_node *node, const char *name);
const char *qn_node_name(const qn_node *node); /* "" if it has none */
qn_graph *qn_node_graph(const qn_node *node);
enum qn_type qn_node_type(const qn_node *node);
qn_shape qn_node_shape(const qn_node *node);

/* The first node that was given this name; NULL, and no error, if there is none.  Make it a root of the plan to fetch its value: in a kernel of
 * several nodes it may never be in memory.  Inputs and leaves have names, too. */
qn_node *qn_graph_find(const qn_graph *graph, const char *name);

/* Name number `index`, in the order they were given; NULL: there are no more. */
const char *qn_graph_name(const qn_graph *graph, size_t index);

/* Adds the nodes that compute d of / d wrt[i], weighted by `seed` (the gradient of something with respect to `of`; NULL:
 * ones, and `of` must be one number), and stores them in out[i].  wrt may be any nodes; where `of` does not depend on
 * wrt[i], out[i] is a node of zeros.  Fails if the way there has an operation without a gradient. */
int qn_gradients(qn_node *of, qn_node *seed, qn_node *const *wrt, size_t count, qn_node **out);

/* Checkpoints of activations (Chen et al., 2016).  What is computed by the nodes that are built between the two is not kept
 * for gradients that are asked for later, but computed again for them, to the same bits, from what came in from outside.  It
 * saves memory and costs time.  Checkpoints are not nested, and write no tensors. */
void qn_checkpoint_begin(qn_graph *graph);
void qn_checkpoint_end(qn_graph *graph);

/* State.  A leaf is the tensor's value at the start of the run.  These write `node` (of the tensor's type and shape; or, by
 * qn_write(), a slice of it along `axis` that begins at the i32 number `at`, clamped so that it fits) when the plan runs,
 * after all readers of the leaf, and return the new value.  Two writes without an order are an error. */
qn_node *qn_assign(qn_tensor *tensor, qn_node *node);
qn_node *qn_write(qn_tensor *tensor, qn_node *node, int axis, qn_node *at);

/* The nodes that `roots` need, one a line; as a picture for Graphviz. */
int qn_graph_print(qn_node *const *roots, size_t count, FILE *file);
int qn_graph_dot(qn_node *const *roots, size_t count, FILE *file);

/* Compares d of / d wrt[i] with central differences along random directions, for leaves wrt[i]; `of` must be one number.
 * Returns the largest relative error in *error. */
int qn_check_gradients(qn_node *of, qn_node *const *wrt, size_t count, uint64_t seed,
                       double *error);

/* ---- Plans ---- */

/* Makes ready to compute `roots` (results, and writes of state), once in each run.  NULL on any mistake made while
 * building the graph. */
qn_plan *qn_plan_new(qn_graph *graph, qn_node *const *roots, size_t count);
void qn_plan_free(qn_plan *plan);

/* Copies the values of an input for the next run; returns at once. */
int qn_set(qn_plan *plan, const qn_node *input, const void *values);

/* Starts a run; does not wait.  qn_runs() counts those started. */
int qn_run(qn_plan *plan);
uint64_t qn_runs(const qn_plan *plan);

/* The value of a root after the last run; waits.  The value of a large root is lost when another plan has run since. */
int qn_get(qn_plan *plan, const qn_node *root, void *values);
float qn_get_f32(qn_plan *plan,
                 const qn_node *root); /* one number; NAN on failure: see qn_error() */

/* The value of a small root (at most QN_RING_BYTES) after run number `run` (from 1), one of the last QN_RING_RUNS.  Does not
 * wait: QN_NOT_READY if the run has not ended. */
enum { QN_RING_RUNS = 8, QN_RING_BYTES = 65536 };
int qn_wait(qn_plan *plan, uint64_t run); /* until it has ended */
int qn_result(qn_plan *plan, const qn_node *root, uint64_t run, void *values);

/* What the plan needs on the device, in bytes. */
struct qn_memory {
    size_t arena;         /* its intermediates, as laid out */
    size_t intermediates; /* the same, if no two shared memory */
    size_t tensors;       /* the tensors that it reads and writes */
    size_t kept;          /* results that are the same in every run */
    size_t commands;      /* kernel launches a run */
};
struct qn_memory qn_plan_memory(const qn_plan *plan);

/* Order, kernels, variants and why, bytes. */
int qn_plan_print(const qn_plan *plan, FILE *file);

/* ---- Two devices ---- */

/* What two plans compute differently: the first node, in the order of computation; if there is none, the first step of several nodes in one
 * kernel; if there is none either, a result of the whole run. */
struct qn_difference {
    enum { QN_NO_DIFFERENCE, QN_NODE_DIFFERS, QN_FUSED_DIFFERS, QN_RUN_DIFFERS } kind;
    size_t nodes, fused; /* compared so far, on b; and steps of several nodes, on b and then on a */
    bool is_a; /* QN_FUSED_DIFFERS: the step is a's, and differs from its nodes one by one on a */
    char what[512];   /* "h.0.mlp (matmul)"; of a step, all its nodes */
    char built[1024]; /* where in the program, if that was kept: see qn_options.keep_origins */
    char inputs[512]; /* types and shapes */
    char output[192]; /* the same, of the output that differs */
    struct qn_difference_side {
        char variant[64]; /* or "" */
        char kernels[256];
        double value; /* at the first element that differs */
    } side[2]; /* of the standard: a, or a's nodes one by one; and of what was held against it */
    char element[160]; /* "[0,3,17]" */
    size_t different, elements;
    double
        unit; /* one in the last place of the greatest value, or of the greatest terms that it is a sum of */
    double ulps, allowed; /* by how many of them it differs at most, and may by rounding */
};

/* Compares two plans of the same graph in two contexts, that of a being the standard, on what qn_set() gave to a, with a's tensors.
 * Each node of b is given the inputs that a computed with a kernel for each node, so that no error is another's; then each fused step of b, and of a;
 * then both plans run, once, and what they return without assigning it is compared.  b's tensors are overwritten.  An error is in the
 * context of a or b; of plans with qn_write() it is one. */
int qn_diff(qn_plan *a, qn_plan *b, struct qn_difference *difference);

#ifdef __cplusplus
}
#endif
#endif

/* Defining operations, as the built-in ones do (which share a few helpers besides); examples/custom_op.c adds one from a
 * program of its own.
 *
 * An operation is a constant struct qn_op and a function that calls qn_node_new() with it.  Nothing is registered: a node
 * points at its operation. */
#ifndef QUERN_OP_H
#define QUERN_OP_H

#include <quern/quern.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QN_MAX_OUTPUTS = 8, QN_MAX_OPERANDS = 8 };

/* ---- What a device reports ---- */

enum qn_class {
    QN_CPU,
    QN_GPU
}; /* one work-item a group and wide vectors; or groups of 64 to 256 with local memory */

enum qn_gemm {
    QN_GEMM_AUTO,
    QN_GEMM_OWN,
    QN_GEMM_CLBLAST,
    QN_GEMM_TF32
}; /* who multiplies matrices: see qn_options.gemm */

/* Instructions that multiply matrices of 16 bits, or of f32 rounded to TF32, with sums in f32: none; of x86; of GPUs, in plain OpenCL (for tests) or of NVIDIA, AMD and
 * Intel (by the work-items of a sub-group). */
enum qn_matrix {
    QN_NO_MATRIX,
    QN_AVX512_BF16,
    QN_AMX,
    QN_EMULATED,
    QN_MMA_SYNC_F16, /* f16 alone */
    QN_MMA_SYNC,
    QN_MMA_SYNC_TF32, /* those, and TF32 */
    QN_WMMA,
    QN_MFMA,
    QN_MATRIX_MAD_8,
    QN_MATRIX_MAD_16,
    QN_MATRICES
};

struct qn_caps {
    enum qn_class device_class; /* the shape of kernels that suits it */
    bool is_cpu;                /* by what its driver says it is */
    size_t compute_units, clock_mhz;
    size_t global_memory, max_allocation, local_memory; /* bytes */
    size_t max_work_group;
    size_t max_items;   /* work-items of a launch; beyond, PoCL compiles again */
    size_t alignment;   /* of sub-buffers, bytes */
    size_t float_width; /* native vector width in floats */
    bool fp16, fp64, subgroups;
    bool fma; /* fma() is an instruction, or two */
    size_t
        subgroup_size; /* the least that a kernel may ask for, with most registers for a work-item; 0: it may not ask */
    enum qn_matrix matrix; /* those that a first product was right with */
    bool clblast;          /* may be used, and is there */
    enum qn_gemm gemm;
};

/* ---- Values ---- */

/* Where the elements of a value are: element (i, j, ...) at offset + i stride[0] + j stride[1] + ..., in elements.  A
 * broadcast axis has stride 0. */
struct qn_layout {
    enum qn_type type;
    qn_shape shape;
    size_t offset;
    ptrdiff_t stride[QN_MAX_RANK];
};

struct qn_value {
    enum qn_type type;
    qn_shape shape;
};

struct qn_op;

struct qn_node {
    const struct qn_op *op;
    qn_graph *graph;
    qn_node **inputs;
    size_t n_inputs;
    struct qn_value outputs[QN_MAX_OUTPUTS]; /* filled by infer */
    int n_outputs;                           /* op->outputs, unless infer changes it */
    const void *attributes;                  /* op->attributes bytes */
    uint32_t id;                             /* inputs have smaller ones */
    uint32_t segment;                        /* nodes of different segments are never merged */
    const char *name;                        /* or NULL */
    const struct qn_origin *origin; /* where it was built, if anomalies are detected; or NULL */
    qn_node *simple;                /* what simplify made of it */
};

/* ---- Kernels ---- */

/* OpenCL C text.  The name is the file that QUERN_CL_DIR replaces it by. */
struct qn_source {
    const char *name, *text;
};

/* A kernel may be compiled several times with different macros in one program, so Quern renames the functions of a source
 * and drops its macros at the end; cl/common.cl comes before it.  Everything else in the text is plain OpenCL C 1.2.
 *
 * Sizes are arguments, never macros: a new shape must not compile anything.  No global size may pass qn_caps.max_items:
 * kernels loop over the rest. */
struct qn_launch; /* the commands of one node, being recorded */

/* Begins a command: kernel `name` of `source`.  What follows belongs to it. */
void qn_launch_kernel(struct qn_launch *launch, const struct qn_source *source, const char *name);
void qn_launch_define(struct qn_launch *launch, const char *macro, long value);
void qn_launch_define_text(struct qn_launch *launch, const char *macro,
                           const char *text); /* NULL: there was no memory for it */
/* Defines a macro as the type of numbers in memory: float, f16, bf16 or int.  The functions of cl/common.cl that read and write one number
 * (load, store), a vector (loadv, storev) or a part of a row (load_row, store_row) take pointers to any real type, and compute in
 * floats. */
void qn_launch_type(struct qn_launch *launch, const char *macro, enum qn_type type);

/* The next argument.  Buffers of inputs and outputs are passed with the element offset of their layout left out: pass
 * qn_launch_layout(...)->offset where it can be other than 0. */
void qn_launch_input(struct qn_launch *launch, size_t index);
void qn_launch_output(struct qn_launch *launch, int index);
void qn_launch_workspace(struct qn_launch *launch); /* what qn_variant.workspace asked for */
void qn_launch_uint(struct qn_launch *launch,
                    size_t value); /* uint; more than 32 bits is an error */
void qn_launch_ulong(struct qn_launch *launch, size_t value); /* ulong */
void qn_launch_int(struct qn_launch *launch, int32_t value);
void qn_launch_float(struct qn_launch *launch, double value);
void qn_launch_local(struct qn_launch *launch, size_t bytes); /* local memory */

/* Work-groups and work-items a group, up to three dimensions (a zero ends them). */
void qn_launch_range(struct qn_launch *launch, const size_t groups[3], const size_t local[3]);

/* So many groups, or as many as max_items allows, of `local` work-items: kernels loop where there is more to do. */
void qn_launch_groups(struct qn_launch *launch, size_t groups, size_t local);

/* The same for common forms, on either class of device; kernels loop where there are more than the groups or items launched.
 * A group a row (a power of two of work-items; one on a CPU); a work-item for each of `items`; a work-item for each
 * FLAT_CHUNK of `count` elements (see cl/common.cl). */
void qn_launch_rows(struct qn_launch *launch, size_t rows);
void qn_launch_items(struct qn_launch *launch, size_t items);
void qn_launch_flat(struct qn_launch *launch, size_t count);

/* A command that is no kernel: `function` enqueues what it wants on `queue` (a cl_command_queue) with the given buffers (cl_mem; inputs, then
 * outputs, then workspace, then NULL), and returns 0 or an OpenCL error. */
typedef int qn_call(void *queue, void *const *buffers, const void *arguments);
void qn_launch_call(struct qn_launch *launch, const char *name, qn_call *function,
                    const void *arguments, size_t bytes);

/* What the planner fused into the node (see qn_variant.epilogue and prologue), if anything: defines FUSED_PARAMETERS,
 * FUSED_ARGUMENTS and FUSED(v, row, column, end), and passes the arguments that FUSED_PARAMETERS declares.  Both lists end
 * in a comma.  FUSED reads elements `column` and following of a row, but none from `end` on. */
bool qn_launch_fused(struct qn_launch *launch);

const struct qn_caps *qn_launch_caps(const struct qn_launch *launch);
const struct qn_layout *qn_launch_layout(const struct qn_launch *launch, size_t input);
enum qn_type qn_launch_result(
    const struct qn_launch *launch); /* type of output 0, or of what an epilogue makes of it */
bool qn_launch_output_used(const struct qn_launch *launch,
                           int index); /* someone reads it; else do not write it */
bool qn_launch_in_place(const struct qn_launch *launch,
                        size_t input); /* it was computed at qn_op.place: do not copy it */

/* ---- Operations ---- */

struct qn_cost {
    double flops, bytes;
};

/* What a variant takes as an input; else the planner copies. */
enum qn_strides {
    QN_CONTIGUOUS, /* row-major without gaps, offset 0 */
    QN_ROWS,       /* any offset, strides from 0, but that of the last axis is 1 */
    QN_STRIDED     /* any, also below 0 */
};

struct qn_variant {
    const char *name;
    const char *needs; /* in words, what fits() asks for; or NULL */
    /* Whether it can do the node on such a device, apart from strides.  NULL: always.  A pure function. */
    bool (*fits)(const qn_node *node, const struct qn_caps *caps);
    enum qn_strides strides[QN_MAX_OPERANDS]; /* by input; those beyond: contiguous */
    /* Element-wise nodes may be computed by the node's kernels: an epilogue from output 0, of which a kernel gives FUSED a
     * floatv `v`, and stores what that makes of it (other results of the epilogue FUSED stores itself); a prologue is what
     * input 0 would be, which FUSED then makes instead of reading it.  The function says how many of the leading axes count
     * rows; the others count columns.  NULL: it takes none.  A variant has one of the two at most. */
    int (*epilogue)(const qn_node *node), (*prologue)(const qn_node *node);
    /* Bytes of scratch memory.  NULL: none. */
    size_t (*workspace)(const qn_node *node, const struct qn_caps *caps);
    /* Appends the commands. */
    void (*record)(struct qn_launch *launch, const qn_node *node);
};

struct qn_op {
    const char *name;
    int outputs;
    size_t attributes; /* bytes of a plain, zeroed struct, compared byte by byte */

    /* Shapes and types of the outputs; else false by `return qn_node_fail(node, ...)`. */
    bool (*infer)(qn_node *node);

    /* An operation is one of three things.
     *
     * Element-wise: OpenCL C in x0, x1, ... (inputs, of one shape), a0, a1, ... (attributes, an array of floats) and INDEX (of
     * the element).  Only forms that mean the same on float and floatN: arithmetic, the built-in functions that take both,
     * and the macros of cl/common.cl (LT, SELECT, ...).  derivative[i] is the gradient of input i, in x, a, y (the output)
     * and dy. */
    const char *expression, *derivative[QN_MAX_OPERANDS];

    /* A view: the layout of an output, given that of input 0.  False if strides cannot say it (the planner copies the input,
     * and asks again). */
    bool (*view)(const qn_node *node, int output, const struct qn_layout *input,
                 struct qn_layout *layout);

    /* Or kernels: best first; the last one fits every device. */
    const struct qn_variant *variants;
    size_t n_variants;

    /* The name of the variant that is taken, if it fits, before the first that does.  NULL, or gives NULL: none. */
    const char *(*preferred)(const qn_node *node);

    /* Bit i: the output may take the memory of input i, if they have one size; of several outputs, output i that of input
     * i.  Each element must then be read before it is written, by the same work-item. */
    unsigned may_overwrite;

    /* Whether input i may be computed where output 0 will have it, and how many bytes from its beginning. */
    bool (*place)(const qn_node *node, size_t input, size_t *offset);

    /* Of an operation whose outputs (..., H_i, D) are often put together: a node that computes them side by side, (..., sum of the
     * H_i D).  NULL: there is none. */
    qn_node *(*joined)(qn_node *node);

    /* Nodes that compute the gradients: d_out[i] belongs to output i, and is NULL where nothing depends on it; d_in[i], NULL
     * at first, to input i.  NULL: not differentiable, unless there are derivatives. */
    void (*gradient)(qn_node *node, qn_node *const *d_out, qn_node **d_in);

    /* A simpler node of the same value, or the node itself.  `node->inputs` are simple already. */
    qn_node *(*simplify)(qn_node *node);

    struct qn_cost (*cost)(
        const qn_node *node); /* of a run.  NULL: 1 flop an element and the bytes of all operands */
};

/* A node of `op`; copies attributes (NULL: zeros).  NULL if an input is NULL, if the inputs belong to different graphs, or if
 * infer fails. */
qn_node *qn_node_new(const struct qn_op *op, const void *attributes, qn_node *const *inputs,
                     size_t n_inputs);

/* Sets the context's error to "OP: message" and returns false. */
bool qn_node_fail(const qn_node *node, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Shape and type of input i, or output i. */
static inline const qn_shape *qn_in(const qn_node *node, size_t i)
{
    return &node->inputs[i]->outputs[0].shape;
}
static inline const qn_shape *qn_out(const qn_node *node, int i)
{
    return &node->outputs[i].shape;
}

#ifdef __cplusplus
}
#endif
#endif

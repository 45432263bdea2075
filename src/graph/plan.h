/* Inside a plan.  A graph becomes a plan in these steps, each in a file of its own:
 *
 *     graph.c   equal nodes merged, simpler forms taken
 *     plan.c    a variant for each node; copies where a variant cannot take strides
 *     fuse.c    runs of element-wise nodes share a kernel, or that of the operation before or after them
 *     order.c   steps in an order that respects data and state
 *     place.c   every value at a place in the arena or in a tensor
 *     record.c  the commands of each step, arguments and all; emit.c makes the kernels of fused groups
 *     run.c     kernels built and bound; runs, inputs, results; anomaly.c runs that look for NaN */
#ifndef QUERN_PLAN_H
#define QUERN_PLAN_H

#include "device/device.h"
#include "device/memory.h"
#include "graph/graph.h"

/* Limits of a group: inputs, which are kernel arguments, and members; and room for one member's inputs too many. */
enum { FUSE_INPUTS = 12, FUSE_MEMBERS = 32, FUSE_ROOM = FUSE_INPUTS + QN_MAX_OPERANDS };

/* A piece of memory: part of another, or of a tensor, or of the arena. */
struct slot {
    size_t bytes;
    struct slot *within; /* and then at byte `offset` of it */
    qn_tensor *tensor;   /* all of the tensor */
    size_t chunk;        /* of the arena */
    size_t offset;
    size_t first, last; /* the steps between which it is in use */
    bool is_shared;     /* others are within it */
    bool is_kept;       /* at `offset` of the plan's own memory: see step.is_constant */
};

/* What a node's output is: elements of a slot. */
struct value {
    struct qn_layout layout;
    struct slot *slot; /* of what a step computes, an input or a leaf; of a view see value_slot() */
    size_t last;       /* the last step that reads it */
    bool is_used;      /* by a step or a root */
};

struct argument {
    enum { ARGUMENT_SLOT, ARGUMENT_BYTES, ARGUMENT_LOCAL } kind;
    struct slot *slot;
    size_t offset, size; /* of the bytes meant in the slot; or of the value; or of local memory */
    unsigned char bytes[8];
};

/* A command before there are kernels. */
struct recorded {
    const struct qn_source *source;
    const char *name;
    const char *defines;
    struct argument *arguments;
    size_t n_arguments;
    size_t groups[3], local[3];
    qn_call *call; /* instead of a kernel: its arguments are `call_bytes` at call_arguments */
    const void *call_arguments;
};

/* One thing to do: an operation's node, a group of fused element-wise nodes, or a copy into a tensor (the node is an
 * assign). */
struct step {
    qn_node *node; /* of a group: the last */
    qn_node **
        members; /* what is fused, in order, or NULL: a group; the node and its epilogue; its prologue and the node */
    size_t n_members;
    const struct qn_variant *variant; /* NULL: a group or a copy */
    struct slot *workspace;
    struct slot *target; /* of a copy: the tensor */
    struct step **after; /* steps that must come first */
    size_t n_after, after_capacity;
    size_t n_waiting; /* of those, while ordering */
    size_t position;  /* in the order */
    /* It reads nothing but tensors that the plan does not write.  Constant steps come first; they run when such a tensor
     * has changed, and their results are kept. */
    bool is_constant;
    uint32_t mark; /* while searching */
    struct recorded *commands;
    size_t n_commands;
    struct qn_source source; /* of a group: the text made for it */
};

struct plan_input {
    const qn_node *user;
    qn_node *node;
    char *staging[QN_RING_RUNS]; /* pinned memory, one of them current */
    size_t current;
    uint64_t used[QN_RING_RUNS]; /* the last run that reads it */
    bool is_set;
};

struct plan_root {
    const qn_node *user;
    qn_node *node;
    size_t ring; /* offset in each result of the ring; SIZE_MAX: too large for it */
};

/* Steps between two exchanges (transfers to other devices).  One device has one stage. */
struct stage {
    struct step **steps;
    size_t n_steps;
    struct command *commands;
    size_t n_commands;
};

struct sub_buffer {
    cl_mem parent, buffer;
    size_t offset, bytes;
};

struct qn_plan {
    qn_context *context;
    qn_graph *graph; /* its own, with all its nodes needed */
    qn_node **nodes;
    size_t n_nodes;
    const struct qn_variant **variants; /* by id */
    struct value *values;               /* by id and output */
    struct step **step_of;              /* by id; NULL: no step computes it */
    struct step **steps;                /* as made, then in order */
    size_t n_steps;
    uint32_t mark;
    struct slot **slots; /* those that need a place in the arena */
    size_t n_slots, slot_capacity;
    struct plan_input *inputs;
    size_t n_inputs;
    struct plan_root *roots;
    size_t n_roots;
    struct stage stage;
    struct qn_memory memory;
    char *notes; /* what the planner has to say: copies, mostly */
    qn_tensor **written;
    size_t n_written;
    qn_tensor **constant; /* the tensors that constant steps read */
    size_t n_constant;
    size_t kept_bytes;

    /* On the device. */
    struct storage *kept;
    size_t n_constant_commands; /* the first ones */
    uint64_t constant_versions; /* of plan->constant, added up, when they ran; 0: never */
    struct sub_buffer *sub_buffers;
    size_t n_sub_buffers, sub_buffer_capacity;
    cl_mem pinned;          /* memory of staging and results */
    char *mapped, *results; /* results: QN_RING_RUNS times result_bytes */
    size_t pinned_bytes, result_bytes;
    cl_event ended[QN_RING_RUNS];
    uint64_t runs,
        context_run; /* of the plan, and of all plans of the context when this one ran last */
    bool has_failed; /* the last run */
};

/* The node and output that hold a value: behind views, outputs and assigns. */
qn_node *value_source(qn_node *node, int *output);

struct slot *value_slot(const qn_plan *plan, qn_node *node);

/* The nodes that a step reads from outside it: how many, and in *inputs (`fused` is room for those of fused nodes). */
size_t step_inputs(const struct step *step, qn_node *const **inputs, qn_node **fused);

/* What a step computes and stores: how many, and in `outputs`.  Not of a copy. */
struct output {
    qn_node *node;
    int index;
};
enum { STEP_OUTPUTS = FUSE_MEMBERS + QN_MAX_OUTPUTS };
size_t step_outputs(const qn_plan *plan, const struct step *step, struct output *outputs);

/* The step that computes a root, named by the user's node; NULL: none. */
const struct step *step_of_root(const qn_plan *plan, const qn_node *root);

/* "norm_backward of norm.cl, norm_sums of norm.cl" */
const char *step_kernels(const struct step *step, char *text, size_t size);

/* Whether all of the step is element-wise. */
static inline bool is_group(const struct step *step)
{
    return step->members && !step->variant;
}

/* Of an operation's step: whether what is fused comes after it, or before. */
static inline bool has_epilogue(const struct step *step)
{
    return step->members && step->variant && step->variant->epilogue;
}

static inline struct value *value_of(const qn_plan *plan, const qn_node *node, int output)
{
    return &plan->values[(size_t)node->id * QN_MAX_OUTPUTS + (size_t)output];
}

/* Adds to plan->notes. */
void plan_note(qn_plan *plan, const char *format, ...) PRINTF_LIKE(2, 3);

/* The steps of planning: 0, or a negative status and an error. */
int plan_fuse(qn_plan *plan);
int plan_order(qn_plan *plan);
int plan_place(qn_plan *plan);
int plan_record(qn_plan *plan);
int plan_bind(qn_plan *plan);

/* Writes the sources of its kernels where QUERN_DUMP_CL says. */
int plan_dump(const qn_plan *plan);
void plan_unbind(qn_plan *plan);

/* A buffer object for bytes of a slot. */
cl_mem plan_buffer(qn_plan *plan, const struct slot *slot, size_t offset, size_t bytes);

/* All commands of a run, in order; after each step its results are looked at: see qn_options.detect_anomaly. */
int plan_run_looking(qn_plan *plan);

/* Whether an element-wise node's input is put into the text as a constant. */
bool is_inlined(const qn_node *input);

/* Inputs of fused nodes from outside, each once, without constants; returns how many. */
size_t fuse_inputs(qn_node *const *members, size_t n_members, qn_node **inputs);

/* The strides along rows and columns, if the first `rows` axes lie one in the other, and so do the others. */
bool row_strides(const struct qn_layout *layout, int rows, ptrdiff_t stride[2]);

/* What is being recorded. */
struct qn_launch {
    qn_plan *plan;
    struct step *step;
    struct recorded *current;
    int status;
};

/* An argument that is the memory of a node's value. */
void launch_value(struct qn_launch *launch, qn_node *node);

/* Makes and records the kernel of a group. */
void emit_group(struct qn_launch *launch);

#endif

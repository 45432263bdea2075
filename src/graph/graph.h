/* Inside a graph: how nodes are kept, and the operations that the graph itself knows. */
#ifndef QUERN_GRAPH_H
#define QUERN_GRAPH_H

#include "device/context.h"

struct block;
struct intern;

struct name {
    const char *text;
    qn_node *node;
};

struct qn_graph {
    qn_context *context;
    qn_node **nodes; /* by id: inputs come before those that use them */
    size_t count, capacity;
    struct name *names; /* as they were given */
    size_t n_names, name_capacity;
    struct block *blocks; /* the memory of nodes */
    struct intern
        *intern; /* of a graph that simplifies: one node for each (operation, inputs, attributes) */
    uint32_t segment, n_segments;   /* of new nodes; of checkpoints so far */
    const struct qn_origin *origin; /* the same; NULL: where they are made */
};

/* node->segment is 0; or s, from 1, of what checkpoint number s does not keep; or of what is computed again for its
 * gradients. */
enum { SEGMENT_AGAIN = 1 << 30 };

static inline bool is_computed_again(const qn_node *node)
{
    return node->segment & SEGMENT_AGAIN;
}

/* Memory that lives as long as the graph, zeroed.  NULL and an error on failure. */
void *graph_alloc(qn_graph *graph, size_t bytes);

/* A graph whose nodes are merged and simplified as they are made. */
qn_graph *graph_new_simplifying(qn_context *context);

/* As qn_node_new(), for operations that may have no inputs. */
qn_node *node_new(qn_graph *graph, const struct qn_op *op, const void *attributes,
                  qn_node *const *inputs, size_t n_inputs);

/* What is computed on no device: values that are there before the run, and names for parts of others. */
extern const struct qn_op input_op;    /* struct input_attributes */
extern const struct qn_op leaf_op;     /* struct leaf_attributes */
extern const struct qn_op constant_op; /* float: an element-wise operation without inputs */
extern const struct qn_op output_op;   /* int: which output of its input */
extern const struct qn_op assign_op;   /* struct assign_attributes */
extern const struct qn_op copy_op;     /* the same values, contiguous */

struct input_attributes {
    uint32_t serial; /* tells inputs of one shape apart */
};
struct leaf_attributes {
    qn_tensor *tensor;
};
struct assign_attributes {
    qn_tensor *tensor;
};

/* The derivative of an element-wise operation with respect to one of its inputs. */
enum { MAX_FLOATS = 4 };
struct derivative_attributes {
    const struct qn_op *of;
    uint16_t input, type; /* and the type of that input */
    uint32_t
        operands; /* which of x0, x1, ..., then y, dy the text uses: these are the node's inputs */
    float a[MAX_FLOATS];
};
extern const struct qn_op derivative_op;
extern const struct qn_op cast_op; /* to another type */

/* The text of an element-wise node in the names x0..., y, dy, or NULL if it is none; and its constants. */
const char *node_expression(const qn_node *node);
const float *node_floats(const qn_node *node, size_t *count);

/* Which input of the node a name of the text means, or -1. */
int node_operand(const qn_node *node, const char *name, size_t length);

/* Whether the op's text mentions a name. */
bool expression_uses(const char *text, const char *name);

/* The simplest equal of `roots` in a new graph; found[i] is what roots[i] became.  NULL on failure. */
qn_graph *graph_simplified(qn_graph *graph, qn_node *const *roots, size_t count, qn_node **found);

/* The nodes that roots need, in order of id: an array of the caller's, or NULL on failure. */
qn_node **graph_reachable(qn_graph *graph, qn_node *const *roots, size_t n_roots, size_t *count);

/* Whether `node` is computed from `from`, another of its graph, or is it.  `reached` is room for a mark of each node. */
bool is_computed_from(const qn_node *node, const qn_node *from, bool *reached);

/* "matmul", or "h.0.mlp (matmul)": into `text`. */
const char *node_label(const qn_node *node, char *text, size_t bytes);

/* "[4,64,128]" */
const char *shape_text(const qn_shape *shape, char *text, size_t bytes);
enum { SHAPE_TEXT = 160, LABEL_TEXT = 160 };

/* "[0,3,17]": where element `index` is. */
void element_text(const qn_shape *shape, size_t index, char text[SHAPE_TEXT]);

/* How many elements FLAT_CHUNK of cl/common.cl is on a device. */
size_t flat_chunk(const struct qn_caps *caps);

/* A contiguous layout. */
struct qn_layout layout_of(enum qn_type type, const qn_shape *shape);
bool layout_is_contiguous(const struct qn_layout *layout);
bool layout_is_rows(const struct qn_layout *layout);

/* A constant's value, seen through views. */
bool node_is_constant(const qn_node *node, float *value);

/* Gives output 0 the shape of input `first`, and the type that it and those behind it have together: f32 if one is f32 and another
 * of 16 bits; constants have the others'.  False and an error if there is none. */
bool node_promote(qn_node *node, size_t first, bool allows_i32);

/* The type of a node's gradient: its own, but f32 for parameters (leaves, and views and copies of them in other types), where gradients
 * end and are added up. */
enum qn_type gradient_type(const qn_node *node);

/* Bytes of all inputs and outputs: what a run moves at least. */
double bytes_of(const qn_node *node);

#endif

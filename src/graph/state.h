/* Writes of state, and copies of rows. */
#ifndef QUERN_STATE_H
#define QUERN_STATE_H

#include "graph/graph.h"

struct write_attributes {
    qn_tensor *tensor;
    size_t axis;
};
extern const struct qn_op write_op;

/* The tensor that an assign or a write changes; NULL: the node is none of these. */
qn_tensor *tensor_written(const qn_node *node);

/* Begins a command of cl/shape.cl for values of a type. */
void begin_copy(struct qn_launch *launch, const char *kernel, enum qn_type type);

/* Records out[row * out_width + out_offset + i] = input[row * width + i], in elements. */
void record_copy_rows(struct qn_launch *launch, size_t input, size_t rows, size_t width,
                      size_t out_width, size_t out_offset);

#endif

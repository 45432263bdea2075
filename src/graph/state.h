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

/* Records out[row * out_width + out_offset + i] = input[row * width + i], in elements of four bytes. */
void record_copy_rows(struct qn_launch *launch, size_t input, size_t rows, size_t width,
                      size_t out_width, size_t out_offset);

#endif

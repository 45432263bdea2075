/* What other operations ask about shapes. */
#ifndef QUERN_OP_SHAPE_H
#define QUERN_OP_SHAPE_H

#include <quern/op.h>

/* Broadcasts nodes to their common shape, in place.  False, and an error that begins with `name`, if there is none. */
bool broadcast_together(const char *name, qn_node **nodes, size_t count);

/* Whether the node swaps the last two axes of its input. */
bool transposes_last_two(const qn_node *node);

/* The axis counted from 0, or -1 and an error that begins with `name`. */
int axis_of(const char *name, const qn_node *x, int axis);

/* A shape as rows: the product of all sizes but the last; and the last. */
void rows_of(const qn_shape *shape, size_t *rows, size_t *width);

#endif

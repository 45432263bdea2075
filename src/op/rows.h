/* How kernels that work on rows are launched. */
#ifndef QUERN_OP_ROWS_H
#define QUERN_OP_ROWS_H

#include <quern/op.h>

/* Work-items of a group that has a row: a power of two, 1 on a CPU. */
size_t row_group(const struct qn_caps *caps);

/* A group for each of `rows`; they loop if there are too many. */
void row_range(struct qn_launch *launch, size_t rows);

/* A work-item for each of `items`; they loop if there are too many. */
void item_range(struct qn_launch *launch, size_t items);

/* A work-item for each FLAT_CHUNK of `count` elements: see cl/common.cl. */
void flat_range(struct qn_launch *launch, size_t count);

/* The product of the sizes of all axes but the last: rows; and the last: width. */
void rows_of(const qn_shape *shape, size_t *rows, size_t *width);

#endif

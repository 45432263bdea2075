/* The shapes of batches: which there are, and which examples have which. */
#ifndef QUERN_SHAPES_H
#define QUERN_SHAPES_H

#include "device/context.h"

/* The lengths that shapes are chosen by: of the first and the second sequence, and the longest of the others. */
enum { FIRST, SECOND, OTHERS, LENGTHS };

struct example {
    size_t record;
    uint32_t lengths[LENGTHS], shape;
};

struct shape {
    size_t lengths[LENGTHS], rows, examples, batches;
    uint32_t number; /* in the list */
};

/* See struct qn_batch_options. */
struct shape_limits {
    size_t tokens, rows, shapes;
};

/* At most so many shapes, small ones first, and that of each example, which it fits: chosen so that little is padded.  The
 * examples of a shape fill its batches; of the last, the largest, they need not.  free() it; NULL and an error without memory. */
struct shape *shapes_find(qn_context *context, struct example *examples, size_t count,
                          const struct shape_limits *limits, size_t *n_shapes);

#endif

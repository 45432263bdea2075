/* Where in a program a node was built. */
#ifndef QUERN_ORIGIN_H
#define QUERN_ORIGIN_H

#include "graph/graph.h"

enum { ORIGIN_FRAMES = 24, ORIGIN_TEXT = 1024 };

struct qn_origin {
    void *frames[ORIGIN_FRAMES]; /* return addresses, the innermost first */
    int count;
    bool is_gradient; /* of a node that was built there */
};

/* The place of the caller's callers, in the graph's memory; NULL on failure. */
const struct qn_origin *origin_here(qn_graph *graph);

/* A copy in the memory of a graph, marked as a gradient's if `is_gradient`; NULL of NULL. */
const struct qn_origin *origin_copy(qn_graph *graph, const struct qn_origin *origin,
                                    bool is_gradient);

/* "block at gpt.c:411, qn_lm_logits at gpt.c:455, main at my.c:31", from the operation's function outwards; "" if nothing is
 * known. */
const char *origin_text(const struct qn_origin *origin, char text[ORIGIN_TEXT]);

#endif

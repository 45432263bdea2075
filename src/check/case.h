/* A row with one of its cases, in a graph. */
#ifndef QUERN_CHECK_CASE_H
#define QUERN_CHECK_CASE_H

#include <quern/op.h>
#include <quern/ops.h>

#include "check/check.h"
#include "check/reference.h"
#include "check/rows.h"

enum { MAX_INPUTS = QN_MAX_OPERANDS };

struct check {
    const struct check_options *options;
    enum qn_type type; /* of real operands */
    const struct row *row;
    const char *shapes;
    qn_graph *graph;
    size_t n_operands;
    struct array x[MAX_INPUTS], weight, expected;
    void *memory[MAX_INPUTS]; /* of the whole tensors */
    qn_node *whole[MAX_INPUTS], *view[MAX_INPUTS], *out, *seed, *gradient[MAX_INPUTS];
    qn_tensor *tensor[MAX_INPUTS]; /* NULL: the operand is an input */
    size_t first_node, end_node;   /* of the graph */
    bool is_built, takes_part;
};

/* Adds the nodes to check->graph, with gradients of a random weighted sum. */
void check_build(struct check *check);
void check_free(struct check *check);

/* Whether a node of the check would be computed by another variant if this one were asked for. */
bool check_has_alternative(const struct check *check, const char *variant);

/* The variant that computes the output, or "". */
const char *check_variant(const struct check *check, const char *forced);

/* Prints a result for the output and one for each gradient. */
void check_compare(struct check *check, qn_plan *plan, const char *forced);

/* Prints the command that runs the row again, with what the environment said. */
void check_explain(const struct check *check, const char *variant);

/* The values of a node, of reference.h's arrays. */
double *numbers_of(qn_plan *plan, qn_node *node);

#endif

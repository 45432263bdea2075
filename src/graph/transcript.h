/* Nodes of a plan, made again in a graph of another context: together, as they were, or each by itself. */
#ifndef QUERN_TRANSCRIPT_H
#define QUERN_TRANSCRIPT_H

#include "graph/plan.h"

/* A node, or the nodes of a fused step, in order. */
struct unit {
    qn_node *const *nodes;
    size_t n_nodes;
    struct output outputs[STEP_OUTPUTS];
    size_t n_outputs;
    qn_node *roots[STEP_OUTPUTS]; /* in the graph where it stands alone */
};

/* Nodes of a plan in a graph of another context. */
struct transcript {
    qn_graph *graph;
    qn_node **inside,
        **outside; /* by id: what is computed there; and what is given, or seen through views */
    struct given {
        qn_node *source, *input;
        int output;
    } * given;
    size_t n_given, capacity;
};

/* Whether a step computes the node: it is no input, tensor, constant, view or name for a part of another. */
bool is_computed(const qn_node *node);

/* Must be ended, also if beginning fails. */
int transcript_begin(struct transcript *transcript, const qn_plan *plan, qn_context *context);
void transcript_end(struct transcript *transcript);

/* The nodes from number `begin` to `end`, each computed from the others. */
int transcribe_connected(struct transcript *transcript, const qn_plan *plan, size_t begin,
                         size_t end);

/* A unit, which reads nothing but what is given.  No two of different numbers are ever merged. */
int transcribe_alone(struct transcript *transcript, struct unit *unit, size_t number);

/* A plan with a kernel for each node, if `is_unfused`. */
qn_plan *plan_transcript(struct transcript *transcript, qn_node *const *roots, size_t count,
                         bool is_unfused);

#endif

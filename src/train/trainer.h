/* Inside a trainer. */
#ifndef QUERN_TRAINER_H
#define QUERN_TRAINER_H

#include <quern/train.h>

/* The numbers of training that change, on the device. */
struct state {
    qn_tensor *step;    /* i32: steps done */
    qn_tensor *skipped; /* i32: of those, steps whose gradient was not finite */
    qn_tensor *key;     /* i32 (2): the seed of dropout, and the number of passes done */
    qn_tensor *scale;   /* f32: of the loss; NULL: none */
    qn_tensor *passed;  /* i32: steps since it was last changed; NULL: none */
};

struct qn_trainer {
    qn_context *context;
    qn_store *parameters;
    /* What the optimizer keeps: for each of its states a store like that of the parameters; or, if it is not element-wise, one store of
     * tensors "STATE.PARAMETER". */
    qn_store *kept[QN_OPTIMIZER_STATES];
    size_t n_kept;
    qn_store *average; /* or, while they are exchanged, the parameters; NULL: there is none */
    bool is_swapped;
    qn_graph *swap_graph;
    qn_plan *swap;
    qn_store *sum; /* of gradients, while accumulating; else NULL */
    qn_tensor *loss_sum;
    struct qn_training options;
    struct state state;
    qn_graph *graph, *update_graph; /* the second one only while accumulating */
    qn_plan *pass, *update;         /* the same */
    qn_tensor *carried;             /* the caller's; NULL: none */
    qn_node *carry;                 /* what it becomes */
    qn_node *key;
    qn_node *loss, *norm, *rate, *skipped, *scale; /* roots of the plan that updates */
    uint64_t passes;                               /* started */
    uint64_t first_step,
        first_run; /* steps done before those passes, and runs of the plan that updates */
};

/* Forgets what the passes of a step added up. */
int trainer_clear_sums(qn_trainer *trainer);

#endif

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

/* What a plan that updates reports of a step: roots of it. */
struct reported {
    qn_node *loss, *norm, *rate, *skipped;
    qn_node *scale; /* NULL: there is none */
};

/* What a trainer runs: the pass of a loss, or the update behind the passes of a step. */
struct part {
    qn_graph *graph;
    qn_plan *plan;
    struct reported reported; /* nothing of a pass that only adds up gradients */
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
    struct part swap; /* exchanges the parameters and their average */
    qn_store *sum;    /* of gradients, while accumulating; else NULL */
    qn_tensor *loss_sum;
    struct qn_training options;
    struct state state;
    qn_graph *graph;    /* of the loss that is minimised next; NULL: nobody asked for it yet */
    qn_tensor *carried; /* the caller's; NULL: none */
    qn_node *carry;     /* what it becomes, of the loss that is minimised next */
    struct part *losses;
    size_t n_losses, capacity, selected;
    struct part update;  /* while accumulating; else nothing */
    uint64_t passes;     /* started */
    uint64_t first_step; /* steps done before those passes */
    struct {
        size_t loss;
        uint64_t run;      /* of the plan that updated */
    } steps[QN_RING_RUNS]; /* step number s in place s % QN_RING_RUNS */
};

/* Roots of a plan, as many as there are. */
struct roots {
    qn_context *context;
    qn_node **nodes;
    size_t count, capacity;
};
void roots_add(struct roots *roots, qn_node *node);

/* What the optimizer keeps of the parameters; and nodes that update them, with their averages: gradients[i] belongs to buffer i of those
 * that are trained. */
void trainer_keep(qn_trainer *trainer);
void trainer_update(qn_trainer *trainer, qn_node *const *gradients, struct qn_update numbers,
                    struct roots *roots);

/* Forgets what the passes of a step added up. */
int trainer_clear_sums(qn_trainer *trainer);

#endif

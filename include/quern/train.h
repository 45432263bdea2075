/* Training: schedules and optimizers as nodes, and a trainer that makes steps of them. */
#ifndef QUERN_TRAIN_H
#define QUERN_TRAIN_H

#include <quern/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The learning rate at `step` (f32, from 0): rate s / warmup below `warmup`, then min_rate + (rate - min_rate) (1 + cos(pi
 * (s - warmup) / (total - warmup))) / 2, and min_rate from `total` on (Loshchilov and Hutter, 2017). */
qn_node *qn_cosine_schedule(qn_node *step, double rate, double min_rate, double warmup,
                            double total);

struct qn_training {
    double learning_rate, min_learning_rate;
    uint64_t warmup, steps;
    double beta1, beta2, epsilon, weight_decay; /* epsilon 0: 1e-8 */
    double clip;       /* largest norm of all gradients together; 0: no limit */
    size_t accumulate; /* batches a step; 0: 1 */
    uint64_t seed;     /* of dropout */
};

/* A trainer minimises a loss over a store by AdamW with clipping.  Step number, moments and counts are on the device; a step
 * is one plan (with accumulation: one for each batch, and one to update), and nothing changes in a step whose gradient is
 * not finite. */
typedef struct qn_trainer qn_trainer;

qn_trainer *qn_trainer_new(qn_store *parameters, const struct qn_training *options);
void qn_trainer_free(qn_trainer *trainer);

/* Build the loss in this graph, with this key for dropout; then qn_trainer_minimise() makes the plans. */
qn_graph *qn_trainer_graph(qn_trainer *trainer);
qn_node *qn_trainer_key(qn_trainer *trainer);
int qn_trainer_minimise(qn_trainer *trainer, qn_node *loss);

/* The plan that takes batches: its inputs are those of the loss. */
qn_plan *qn_trainer_plan(qn_trainer *trainer);

/* Starts a pass over the batch that was set; the last of `accumulate` passes updates the parameters.  Does not wait. */
int qn_trainer_pass(qn_trainer *trainer);

/* Forgets the passes of a step that has not ended: the trainer is as it was before it began. */
int qn_trainer_undo(qn_trainer *trainer);

/* What a step did; steps are numbered from 1. */
struct qn_step {
    double loss, gradient_norm, learning_rate;
    uint64_t skipped; /* so far: steps whose gradient was not finite */
};

/* The report of one of the last few steps; waits for it if `wait` is true, else QN_NOT_READY if it has not ended. */
int qn_trainer_report(qn_trainer *trainer, uint64_t step, bool wait, struct qn_step *report);

uint64_t
qn_trainer_steps(const qn_trainer *trainer); /* started, those before a resume counted in */
struct qn_memory qn_trainer_memory(const qn_trainer *trainer);

/* Moments and counters, to and from a file: with them a run goes on exactly. */
int qn_trainer_save(qn_trainer *trainer, const char *path);
int qn_trainer_load(qn_trainer *trainer, const char *path);

#ifdef __cplusplus
}
#endif
#endif

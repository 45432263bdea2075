/* Training: schedules and optimizers as nodes, and a trainer that makes steps of them. */
#ifndef QUERN_TRAIN_H
#define QUERN_TRAIN_H

#include <quern/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Schedules ---- */

enum qn_schedule_kind { QN_COSINE, QN_LINEAR, QN_CONSTANT, QN_INVERSE_SQRT, QN_STEPS, QN_NOAM };

/* Below `warmup`, but for QN_NOAM, the learning rate at step s, from 0, is rate s / warmup; then
 *
 *     QN_COSINE        min_rate + (rate - min_rate) (1 + cos(pi (s - warmup) / (total - warmup))) / 2 (Loshchilov and Hutter, 2017)
 *     QN_LINEAR        a straight line from rate to min_rate at `total`
 *     QN_CONSTANT      rate
 *     QN_INVERSE_SQRT  rate (warmup / s)^1/2
 *     QN_STEPS         rate gamma^floor(s / period)
 *     QN_NOAM          rate width^-1/2 min((s + 1)^-1/2, (s + 1) warmup^-3/2) (Vaswani et al., 2017)
 *
 * and min_rate from `total` on, where there is one. */
struct qn_schedule {
    enum qn_schedule_kind kind;
    double rate, min_rate, warmup, total;
    double period, gamma; /* QN_STEPS */
    double width;         /* QN_NOAM: of the model */
};

qn_node *qn_learning_rate(qn_node *step, struct qn_schedule schedule);

/* ---- Optimizers ---- */

/* AdamW (Loshchilov and Hutter, 2019), Adam (Kingma and Ba, 2015), SGD with momentum (Sutskever et al., 2013), RMSprop (Hinton, 2012),
 * Adagrad (Duchi et al., 2011), Adafactor (Shazeer and Stern, 2018), Muon (Jordan et al., 2024): as PyTorch computes them. */
enum qn_optimizer_kind { QN_ADAMW, QN_ADAM, QN_SGD, QN_RMSPROP, QN_ADAGRAD, QN_ADAFACTOR, QN_MUON };

/* A number that an optimizer does not name is nothing to it. */
struct qn_optimizer {
    enum qn_optimizer_kind kind;
    double
        weight_decay; /* AdamW, Adafactor, Muon: of the parameters; others: added to the gradient */
    double epsilon;   /* all but SGD */
    double beta1, beta2;            /* AdamW, Adam; RMSprop: beta2, which PyTorch calls alpha */
    double momentum;                /* SGD, RMSprop, Muon */
    bool is_nesterov;               /* SGD, Muon */
    bool is_centered;               /* RMSprop */
    double rate_decay, initial_sum; /* Adagrad */
    double beta2_decay, least_rms, most_rms; /* Adafactor: PyTorch calls the others eps[1] and d */
    bool
        matches_adamw; /* Muon: steps are 0.2 max(rows, columns)^1/2 long, not max(1, rows / columns)^1/2 */
};

/* With PyTorch's defaults. */
struct qn_optimizer qn_optimizer_defaults(enum qn_optimizer_kind kind);

/* Whether it treats each element alike, so that a whole buffer of tensors can be updated at once.  Adafactor and Muon look at
 * whole matrices. */
bool qn_optimizer_is_element_wise(const struct qn_optimizer *optimizer);

/* What an optimizer keeps of parameters of this shape from step to step: how many, at most QN_OPTIMIZER_STATES. */
enum { QN_OPTIMIZER_STATES = 3 };
struct qn_optimizer_state {
    const char *name;
    qn_shape shape;
    double initial; /* what its elements are at first */
};
size_t qn_optimizer_states(const struct qn_optimizer *optimizer, qn_shape parameters,
                           struct qn_optimizer_state states[QN_OPTIMIZER_STATES]);

/* f32 numbers of an update: `scale` multiplies the gradient; t is the number of the update, from 1; where `gate` is 0 nothing changes. */
struct qn_update {
    qn_node *learning_rate, *scale, *t, *gate;
};

/* The parameters after an update, and in `states` what is kept then.  No gradient. */
qn_node *qn_optimizer_update(const struct qn_optimizer *optimizer, qn_node *parameters,
                             qn_node *gradient, struct qn_update numbers, qn_node **states);

/* ---- The trainer ---- */

struct qn_training {
    struct qn_schedule schedule; /* its step is the number of steps done */
    /* Only tensors of the group QN_DECAY decay.  Muon is for matrices of that group that are no embedding and no head (wte, wpe,
     * ...embed..., lm_head by name); for all else it is AdamW with its defaults. */
    struct qn_optimizer optimizer;
    double clip;       /* largest norm of all gradients together; 0: no limit */
    size_t accumulate; /* batches a step; 0: 1 */
    uint64_t seed;     /* of dropout */
    /* By what the loss is multiplied at first, for gradients in f16; 0: it is not.  Halved after a step whose gradient is not finite,
     * doubled after 2000 others in a row (Micikevicius et al., "Mixed precision training", 2018). */
    double loss_scale;
    /* Of the parameters a moving average is kept: after update number t, from 1, it becomes d (average) + (1 - d) (parameters), d being the
     * lesser of this and (1 + t) / (10 + t), as TensorFlow's ExponentialMovingAverage has it.  It begins as the parameters are when qn_trainer_minimise() is first called.  0: none. */
    double average;
};

/* A trainer minimises a loss over a store.  Step number, moments and counts are on the device; a step
 * is one plan (with accumulation: one for each batch, and one to update), and nothing changes in a step whose gradient is
 * not finite. */
typedef struct qn_trainer qn_trainer;

qn_trainer *qn_trainer_new(qn_store *parameters, const struct qn_training *options);
void qn_trainer_free(qn_trainer *trainer);

/* Build the loss in this graph, with this key for dropout; then qn_trainer_minimise() makes the plans.  Batches of several shapes have a loss
 * each: after qn_trainer_minimise() the graph is a new one, and losses are numbered from 0. */
qn_graph *qn_trainer_graph(qn_trainer *trainer);
qn_node *qn_trainer_key(qn_trainer *trainer);
qn_node *qn_trainer_loss_scale(qn_trainer *trainer); /* NULL: there is none */
int qn_trainer_minimise(qn_trainer *trainer, qn_node *loss);

/* Before qn_trainer_minimise(): after each step, unless it is skipped, the tensor becomes the node's value, as the state of recurrent
 * layers that goes on from batch to batch does.  It stays the caller's, and is in the trainer's file.  Not with accumulation. */
int qn_trainer_carry(qn_trainer *trainer, qn_tensor *state, qn_node *next);

/* The loss of the passes that follow; at first it is number 0. */
int qn_trainer_select(qn_trainer *trainer, size_t loss);

/* The plan that takes its batches: its inputs are those of the loss. */
qn_plan *qn_trainer_plan(qn_trainer *trainer);

/* Starts a pass over the batch that was set; the last of `accumulate` passes updates the parameters.  Does not wait. */
int qn_trainer_pass(qn_trainer *trainer);

/* Forgets the passes of a step that has not ended: the trainer is as it was before it began. */
int qn_trainer_undo(qn_trainer *trainer);

/* What a step did; steps are numbered from 1. */
struct qn_step {
    double loss, gradient_norm, learning_rate;
    uint64_t skipped;  /* so far: steps whose gradient was not finite */
    double loss_scale; /* after the step; 0: there is none */
};

/* The report of one of the last few steps; waits for it if `wait` is true, else QN_NOT_READY if it has not ended. */
int qn_trainer_report(qn_trainer *trainer, uint64_t step, bool wait, struct qn_step *report);

uint64_t
qn_trainer_steps(const qn_trainer *trainer); /* started, those before a resume counted in */
struct qn_memory qn_trainer_memory(
    const qn_trainer *trainer); /* of a step; the most of any loss, but for what is kept */
size_t qn_trainer_kept_bytes(const qn_trainer *trainer); /* by the optimizer, from step to step */

/* Exchanges the parameters and their moving average: to measure or save the average, and again to go on.  Nothing happens if there is none. */
int qn_trainer_swap_average(qn_trainer *trainer);

/* Moments and counters, to and from a file: with them a run goes on exactly.  If there is a moving average, the parameters themselves are in
 * this file, since the model's has the average: load the model first. */
int qn_trainer_save(qn_trainer *trainer, const char *path);
int qn_trainer_load(qn_trainer *trainer, const char *path);

#ifdef __cplusplus
}
#endif
#endif

/* What learners of each kind of model do their own way. */
#ifndef QUERN_KINDS_H
#define QUERN_KINDS_H

#include "cli/train/learner.h"

struct learner_kind {
    const char *use; /* the command for such models */

    /* The data: see corpus.h. */
    int (*read)(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *folder);

    int (*check)(qn_context *qn, const struct subject *subject);

    /* The model, of zeros; or from a folder: false and a message if it is another than the subject's. */
    bool (*new_model)(struct learner *learner);
    bool (*load_model)(struct learner *learner, const char *folder, char message[RUN_MESSAGE]);
    qn_store *(*parameters)(const struct learner *learner);
    int (*initialise)(const struct learner *learner, uint64_t seed);
    int (*save)(const struct learner *learner, const char *folder);

    /* The losses of the trainer that was just made, and what validation needs. */
    int (*add_losses)(struct learner *learner);
    int (*add_validation)(struct learner *learner);

    /* Sets a batch: that of a pass from the run's beginning, of which `settings->accumulate` make a step. */
    int (*set_batch)(struct learner *learner, uint64_t step, uint64_t pass, uint64_t *tokens);
    int (*evaluate)(struct learner *learner, struct validation *found);
    void (*release)(struct learner *learner);

    uint64_t (*passes)(const struct subject *subject, uint64_t epochs);
    void (*describe)(const struct subject *subject, struct progress *progress);
};

extern const struct learner_kind lm_kind, classifier_kind, translator_kind;

/* An input of the losses' graph. */
qn_node *learner_input(const struct learner *learner, const char *name, qn_shape shape);
enum qn_type type_of(const struct settings *settings);
enum qn_cell cell_of(const char *name, const char *nonlinearity);

/* Of examples: a loss for each shape of batches, or, where only files are checked, for the least. */
typedef int loss_of_shape(struct learner *learner, struct qn_batch_shape shape,
                          struct loss_inputs *loss);
int learner_add_losses(struct learner *learner, loss_of_shape *add_loss,
                       struct qn_batch_shape least);

/* Of examples: passes in so many epochs, what is said of an epoch, and the batch of a pass, whose loss is selected. */
uint64_t learner_epochs(const struct subject *subject, uint64_t epochs);
void describe_epoch(const struct subject *subject, const char *examples, const char *counted,
                    struct progress *progress);
int learner_next_batch(struct learner *learner, uint64_t step, uint64_t pass,
                       struct qn_batch *batch, uint64_t *tokens);

/* That a checkpoint's files disagree on a key. */
bool fail_difference(const char *folder, const char *key, char message[RUN_MESSAGE]);

#endif

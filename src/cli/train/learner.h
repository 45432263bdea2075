/* A decoder in training on a device: model, trainer, validation. */
#ifndef QUERN_LEARNER_H
#define QUERN_LEARNER_H

#include <quern/train.h>

#include "cli/train/run.h"

struct learner {
    qn_lm *lm;
    qn_trainer *trainer;
    qn_node *inputs, *targets; /* (batch, context) */
    qn_lm_cache *carried;      /* state that goes on from batch to batch; NULL: none */
    qn_evaluator *evaluator;   /* NULL: nothing to validate on */
    int32_t *input_ids, *target_ids;
};

struct qn_lm_config learner_config(const struct settings *settings, size_t vocabulary,
                                   int32_t begin_of_text, int32_t end_of_text);

/* Makes trainer and evaluator for the model, which is the learner's from then on.  A status; the
 * context has the error. */
int learner_make(struct learner *learner, qn_context *qn, qn_lm *lm,
                 const struct settings *settings, bool validates);

/* The same from the checkpoint of a run in a folder: all of it must be of one configuration and
 * step.  Without a device it only checks that.  False and a message in `message` on failure. */
bool learner_resume(struct learner *learner, qn_context *qn, const struct qn_lm_config *config,
                    const struct run *run, const char *folder, bool validates,
                    char message[RUN_MESSAGE]);

/* The trainer anew: step 0, moments 0. */
int learner_restart(struct learner *learner, qn_context *qn, const struct settings *settings);
void learner_release(struct learner *learner);

/* Starts a pass of step number `step` (both from 0) on random windows; the last of the settings'
 * passes ends the step.  Does not wait. */
int learner_pass(struct learner *learner, const struct settings *settings,
                 const qn_dataset *dataset, uint64_t step, uint64_t pass);

/* What training needs on the device, in bytes: found by planning, without taking it. */
struct needs {
    bool fits, lacks_memory; /* neither: it cannot be planned at all */
    size_t all, parameters, gradients, moments, intermediates, unshared;
    char problem[1024]; /* why it does not fit */
};
struct needs learner_needs(const struct qn_options *device, const struct qn_lm_config *config,
                           const struct settings *settings, bool validates);

/* The largest batch below the settings' that fits; 0: none does. */
size_t learner_largest_batch(const struct qn_options *device, const struct qn_lm_config *config,
                             const struct settings *settings, bool validates);

#endif

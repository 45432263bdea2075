/* A model in training on a device: model, trainer, validation.  What depends on the kind of model is in a table of functions each: lm.c,
 * classify.c, translate.c. */
#ifndef QUERN_LEARNER_H
#define QUERN_LEARNER_H

#include <quern/seq2seq.h>
#include <quern/train.h>

#include "cli/progress.h"
#include "cli/train/corpus.h"

/* What is learnt: a model as the settings say, and from what. */
struct subject {
    const struct settings *settings;
    const struct corpus *corpus;        /* NULL: it has no data yet */
    size_t vocabulary;                  /* then */
    const struct qn_batch_shape *shape; /* then, of the batches of pairs; NULL: the least */
};

struct learner {
    struct subject subject;
    qn_context *qn;
    qn_trainer *trainer;

    /* A language model. */
    qn_lm *lm;
    qn_lm_cache *carried; /* state that goes on from batch to batch; NULL: none */
    qn_evaluator *evaluator;

    /* A classifier. */
    qn_classifier *classifier;
    struct classes *classes;

    /* An encoder-decoder. */
    qn_seq2seq *seq2seq;
    struct translation *translation;
    qn_translator *translator;

    /* Of each loss, what its batches go into; ids are kept here where they are drawn, not read. */
    struct loss_inputs {
        qn_node *inputs, *targets;         /* (rows, length) and the same, or (rows) */
        qn_node *lengths, *target_lengths; /* (rows), or NULL */
    } * losses;
    int32_t *input_ids, *target_ids;
};

/* Whether such a model can be; without a corpus, as far as the settings alone say.  The context keeps the error. */
int learner_check(qn_context *qn, const struct subject *subject);

/* A new model, with its trainer and, where data is held out, what measures it.  A status. */
int learner_make(struct learner *learner, qn_context *qn, const struct subject *subject);

/* The same from the checkpoint of a run in a folder: all of it must be of one configuration and step.  Without a device it only checks
 * that.  False and a message in `message` on failure. */
bool learner_resume(struct learner *learner, qn_context *qn, const struct subject *subject,
                    const struct run *run, const char *folder, char message[RUN_MESSAGE]);

/* The trainer anew: step 0, moments 0. */
int learner_restart(struct learner *learner);
void learner_release(struct learner *learner);

/* Starts pass number `pass` of step number `step` (both from 0); the last of the settings' passes ends the step.  Does not wait.  Adds
 * the tokens of the batch to *tokens. */
int learner_pass(struct learner *learner, uint64_t step, uint64_t pass, uint64_t *tokens);

/* Measures it on the data held out; whether there is any. */
bool learner_validates(const struct learner *learner);
int learner_evaluate(struct learner *learner, struct validation *found);

/* Model and tokenizer. */
int learner_save(const struct learner *learner, const char *folder);

/* Steps in so many epochs. */
uint64_t learner_steps(const struct subject *subject, uint64_t epochs);

/* Says what the model and its data are. */
void learner_describe(const struct subject *subject, struct progress *progress);

/* Reads the data that such models are trained on: see corpus_read(). */
int learner_read(struct corpus *corpus, struct run *run, const struct options *options,
                 qn_context *qn, const char *folder);

/* The command that uses such models: "generate". */
const char *learner_use(const struct settings *settings);

/* What training needs on the device, in bytes: found by planning, without taking it. */
struct needs {
    bool fits, lacks_memory; /* neither: it cannot be planned at all */
    size_t all, parameters, gradients, moments, intermediates, unshared;
    char problem[1024]; /* why it does not fit */
};
struct needs learner_needs(const struct qn_options *device, const struct subject *subject);

/* The largest batch below the settings' that fits; 0: none does. */
size_t learner_largest_batch(const struct qn_options *device, const struct subject *subject);

#endif

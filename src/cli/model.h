/* A trained model of a folder, for the commands that use one. */
#ifndef QUERN_MODEL_H
#define QUERN_MODEL_H

#include <quern/nn.h>

#include "cli/cli.h"

struct model {
    qn_context *qn;
    qn_lm *lm;
    qn_tokenizer *tokenizer;
};

/* Whether a tokenizer's ids are all in a model's vocabulary.  An exit status. */
int model_check_vocabulary(const char *folder, const qn_tokenizer *tokenizer, size_t vocabulary,
                           const struct options *options);

/* The folder of the model that the operand names, if it is of this kind; free() it.  NULL: a message was printed, which says who makes such
 * models. */
char *model_find(qn_context *qn, enum qn_model_kind kind, const char *expected,
                 const struct options *options);

/* How tokens are to be drawn from so many. */
struct qn_sample sampling_of(const struct options *options, size_t vocabulary);

/* Loads the model of a folder on model->qn, with its tokenizer.  An exit status. */
int model_load(struct model *model, const char *folder, const struct options *options);

/* Opens the model that the operand names on the device that the options name.  An exit status. */
int model_open(struct model *model, const struct options *options);
void model_close(struct model *model);

#endif

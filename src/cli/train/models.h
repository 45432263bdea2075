/* The models that settings describe. */
#ifndef QUERN_TRAIN_MODELS_H
#define QUERN_TRAIN_MODELS_H

#include "cli/train/learner.h"

/* `tokenizer`: for the tokens that begin and end texts; NULL: it has none. */
struct qn_lm_config lm_config_of(const struct settings *settings, size_t vocabulary,
                                 const qn_tokenizer *tokenizer);

struct qn_seq2seq_config seq2seq_config_of(const struct subject *subject);

#endif

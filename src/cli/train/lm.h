/* The language model that settings describe. */
#ifndef QUERN_TRAIN_LM_H
#define QUERN_TRAIN_LM_H

#include "cli/train/run.h"

/* `tokenizer`: for the tokens that begin and end texts; NULL: it has none. */
struct qn_lm_config lm_config_of(const struct settings *settings, size_t vocabulary,
                                 const qn_tokenizer *tokenizer);

#endif

/* The text that a run is trained and validated on. */
#ifndef QUERN_CORPUS_H
#define QUERN_CORPUS_H

#include <quern/text.h>

#include "cli/train/run.h"

struct corpus {
    qn_tokenizer *tokenizer;
    qn_dataset *train;
    qn_dataset *valid;                      /* NULL: nothing is held out */
    qn_tokens *train_tokens, *valid_tokens; /* that they are mapped from, or NULL */
};

/* Reads the files that the command line names, or those of the run that goes on, which must be as
 * they were; notes them in `run`.  `tokenizer`: the folder of the checkpoint that goes on; NULL: as
 * the settings say.  An exit status. */
int corpus_read(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *tokenizer);
void corpus_release(struct corpus *corpus);

/* What a tokenizer is learnt with if the user says nothing else. */
enum { USUAL_VOCABULARY = 8000, USUAL_MIN_FREQUENCY = 2 };
const char *const *usual_specials(enum qn_splitting splitting, size_t *count);

#endif

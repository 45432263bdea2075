/* The text that a run is trained and validated on. */
#ifndef QUERN_CORPUS_H
#define QUERN_CORPUS_H

#include <quern/text.h>

#include "cli/run.h"

struct corpus {
    qn_tokenizer *tokenizer;
    qn_dataset *train;
    qn_dataset *valid; /* NULL: nothing is held out */
};

/* Reads the files that the command line names, or those of the run that goes on, which must be as
 * they were; notes them in `run`.  `tokenizer`: the folder of the checkpoint that goes on; NULL: as
 * the settings say.  An exit status. */
int corpus_read(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *tokenizer);
void corpus_release(struct corpus *corpus);

#endif

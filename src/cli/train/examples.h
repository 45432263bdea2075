/* What examples of all kinds share: files, and tokenizers that are learnt from them. */
#ifndef QUERN_EXAMPLES_H
#define QUERN_EXAMPLES_H

#include "cli/train/corpus.h"
#include "cli/train/sources.h"

/* As qn_record_options.report: "skipped     FILE:LINE: ..." on stderr. */
void report_skipped(void *user, const char *message);

/* Opens records as --damaged says, and notes their files, which must be as they were when the run began.  `option` has named them.  NULL: a
 * message was printed. */
qn_records *examples_open(qn_context *qn, struct qn_record_options options, const char *damaged,
                          struct sources *of_run, const char *option,
                          const struct options *command_line);

/* What is validated on, if that is no data of its own: --valid-fraction of the records to train on.  An exit status. */
int examples_hold_out(struct corpus *corpus, const struct settings *settings,
                      const struct options *options, qn_context *qn);

/* What an option names, to be learnt from fields of records, or not. */
struct learning {
    const char *option;
    const char *named; /* "char", "byte", "word", "bpe" or a path */
    qn_records *records;
    unsigned fields;             /* bit i: field i */
    enum qn_splitting splitting; /* of "bpe" */
    size_t size;                 /* of the vocabulary */
    bool has_ends;               /* tokens that begin and end a text are needed */
};

/* `path`: a file, or the folder of a checkpoint, that has it already, or NULL.  NULL: a message was printed. */
qn_tokenizer *examples_tokenizer(const struct learning *learning, const char *file,
                                 const struct options *options, qn_context *qn);

#endif

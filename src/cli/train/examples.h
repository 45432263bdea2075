/* What examples of all kinds share: files, and tokenizers that are learnt from them. */
#ifndef QUERN_EXAMPLES_H
#define QUERN_EXAMPLES_H

#include "cli/train/corpus.h"
#include "cli/train/sources.h"

/* As qn_record_options.report: "skipped     FILE:LINE: ..." on stderr. */
void report_skipped(void *user, const char *message);

/* Notes files as they are now, which must be as they were when the run began.  An exit status. */
int examples_sources(const char *const *paths, size_t count, struct sources *of_run,
                     const char *option, const struct options *options);

/* What --tokenizer names, to be learnt from fields of records, or not. */
struct learning {
    const char *named; /* "char", "byte", "word", "bpe" or a path */
    qn_records *records;
    unsigned fields;             /* bit i: field i */
    enum qn_splitting splitting; /* of "bpe" */
    size_t size;                 /* of the vocabulary */
};

/* `file`: of a checkpoint that has it already, or NULL.  NULL: a message was printed. */
qn_tokenizer *examples_tokenizer(const struct learning *learning, const char *file,
                                 const struct options *options, qn_context *qn);

#endif

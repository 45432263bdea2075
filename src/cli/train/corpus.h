/* What a run is trained and validated on: the text of a language model, or examples of a classifier. */
#ifndef QUERN_CORPUS_H
#define QUERN_CORPUS_H

#include <quern/data.h>

#include "cli/train/run.h"

/* What is not used, or held out, is NULL. */
struct corpus {
    qn_tokenizer *tokenizer;
    qn_tokenizer *target_tokenizer; /* of pairs, unless one is for both */

    /* Texts: corpus.c */
    qn_dataset *train, *valid;
    qn_tokens *train_tokens, *valid_tokens; /* that they are mapped from */

    /* Examples: examples.c, pairs.c */
    qn_labels *labels;
    qn_records *train_records, *valid_records;
    qn_batches *train_batches, *valid_batches;
};

/* Reads the files that the command line names, or those of the run that goes on, which must be as
 * they were; notes them in `run`.  `tokenizer`: the folder of the checkpoint that goes on; NULL: as
 * the settings say.  An exit status. */
int corpus_read(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *tokenizer);
int examples_read(struct corpus *corpus, struct run *run, const struct options *options,
                  qn_context *qn, const char *tokenizer);
int pairs_read(struct corpus *corpus, struct run *run, const struct options *options,
               qn_context *qn, const char *tokenizer);
void corpus_release(struct corpus *corpus);

int corpus_save_tokenizers(const struct corpus *corpus, const char *folder);

/* Whether anything is held out. */
bool corpus_validates(const struct corpus *corpus);

/* The format of a file of examples, by its name or what --format says; -1: there is none of that name.  And where text (0) and label (1)
 * stand, unless the user says it. */
int examples_format(const char *named, const char *path);
const char *examples_field(const char *named, enum qn_record_format format, size_t field);

/* Texts, cut to so many tokens, with their labels (or NULL), in batches as the options say. */
qn_batches *examples_batches(qn_records *records, qn_tokenizer *tokenizer, const qn_labels *labels,
                             struct qn_batch_options options, size_t most);
enum { MOST_LABELS = 1 << 16 };

/* What a tokenizer is learnt with if the user says nothing else. */
enum { USUAL_VOCABULARY = 8000, USUAL_MIN_FREQUENCY = 2 };
const char *const *usual_specials(enum qn_splitting splitting, size_t *count);

#endif

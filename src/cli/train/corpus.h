/* What a run is trained and validated on: the text of a language model, texts with labels, or pairs of texts. */
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

    /* Examples: labelled.c, pairs.c */
    qn_labels *labels;
    qn_records *train_records, *valid_records;
    qn_batches *train_batches, *valid_batches;
};

/* Reads the files that the command line names, or those of the run that goes on, which must be as
 * they were; notes them in `run`.  `tokenizer`: the folder of the checkpoint that goes on; NULL: as
 * the settings say.  An exit status. */
int corpus_read(struct corpus *corpus, struct run *run, const struct options *options,
                qn_context *qn, const char *tokenizer);
int labelled_read(struct corpus *corpus, struct run *run, const struct options *options,
                  qn_context *qn, const char *tokenizer);
int pairs_read(struct corpus *corpus, struct run *run, const struct options *options,
               qn_context *qn, const char *tokenizer);
void corpus_release(struct corpus *corpus);

int corpus_save_tokenizers(const struct corpus *corpus, qn_context *qn, const char *folder);

/* Whether anything is held out. */
bool corpus_validates(const struct corpus *corpus);

/* What --format, --text and --label say; NULL: nothing. */
struct labelled_fields {
    const char *format, *text, *label;
};

/* The format of a file, by what is said or by its name; and options to read such files by, with the text as field 0 and the label as
 * field 1, whose names are kept in `fields`. */
enum { LABELLED_FIELDS = 2 };
int labelled_format(const char *named, const char *path);
struct qn_record_options labelled_options(const struct labelled_fields *named,
                                          const char *const *paths, size_t count,
                                          const char *fields[LABELLED_FIELDS]);

/* Texts, cut to so many tokens, with their labels (or NULL), in batches as the options say. */
qn_batches *labelled_batches(qn_records *records, qn_tokenizer *tokenizer, const qn_labels *labels,
                             struct qn_batch_options options, size_t most);
enum { MOST_LABELS = 1 << 16 };

/* What a tokenizer is learnt with if the user says nothing else. */
enum { USUAL_VOCABULARY = 8000, USUAL_MIN_FREQUENCY = 2 };
const char *const *usual_specials(enum qn_splitting splitting, size_t *count);

#endif

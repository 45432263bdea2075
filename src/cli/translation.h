/* An encoder-decoder over the batches of a data set of pairs. */
#ifndef QUERN_TRANSLATION_H
#define QUERN_TRANSLATION_H

#include <quern/seq2seq.h>

/* The fields of a pair. */
enum { SOURCE, TARGET, SIDES };

/* A batch of pairs: field 0 is what is read, field 1 what is said, from the start token to the end token. */
struct pair_nodes {
    qn_node *source, *source_lengths, *target, *target_lengths; /* inputs */
    struct qn_seq2seq_input input; /* the decoder reads all but the last token */
    qn_node *targets;              /* and says all but the first; QN_IGNORE behind the end */
};
struct pair_nodes pair_nodes(qn_graph *graph, struct qn_batch_shape shape);

/* A plan for each shape of the batches.  NULL and the context's error. */
struct translation;
struct translation *translation_new(const qn_seq2seq *model, qn_batches *batches);
void translation_free(struct translation *translation);

/* Goes through all of them, once: loss and accuracy of tokens. */
int translation_measure(struct translation *translation, struct qn_evaluation *found);

/* ---- Texts ---- */

/* An encoder-decoder with its tokenizers, and how it decodes. */
struct text_translator {
    qn_seq2seq *model;
    qn_tokenizer *source, *target; /* may be the same */
    qn_translator *translator;
};

/* The ids of a text, with the end token behind, in memory that is the caller's; cut to what the model reads, which *is_cut tells.  NULL
 * and an error. */
int32_t *source_ids(const struct text_translator *texts, const char *name, const char *text,
                    size_t bytes, size_t *count, bool *is_cut);

/* What was found, without tokens that begin, end or pad texts; free() it.  NULL and an error. */
char *target_text(const struct text_translator *texts, const struct qn_translation *found);

/* What attention made of a source's tokens for each one of a translation: weights (heads, found->count, length) of a block's heads;
 * of recurrent models of one.  free() them.  NULL and an error. */
float *translation_weights(const struct text_translator *texts, const int32_t *source,
                           size_t length, const struct qn_translation *found, size_t block,
                           size_t *heads);

/* BLEU of the translations of all source texts (field 0) of records, the targets (field 1) being the references. */
int translation_bleu(const struct text_translator *texts, qn_records *records, double *bleu);

#endif

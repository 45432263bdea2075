/* An encoder-decoder over the batches of a data set of pairs. */
#ifndef QUERN_TRANSLATION_H
#define QUERN_TRANSLATION_H

#include <quern/seq2seq.h>

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

#endif

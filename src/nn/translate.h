/* Inside a translator: the plans that read sources and make steps, translate_plans.c; the search between them, translate.c. */
#ifndef QUERN_TRANSLATE_H
#define QUERN_TRANSLATE_H

#include "nn/beam.h"
#include "nn/seq2seq.h"

enum { PLANS = 64 };

/* A plan reads sources (steps: false), or makes a step for them. */
struct work {
    bool steps;
    size_t sources, source_length, target_length;
    uint64_t used; /* when: the plan of longest ago goes first */
    qn_graph *graph;
    qn_plan *plan;
    qn_node *source, *lengths;                                           /* inputs of both */
    qn_node *tokens, *source_table, *table, *place, *position, *parents; /* of a step */
    qn_node *key;                                                        /* of a step that draws */
    qn_node *sums, *end,
        *forbidden; /* f32 (R, 1), (1), (R, V): what is added to logarithms of probabilities */
    qn_node *scores, *indices, *weights; /* results */
};

struct qn_translator {
    const qn_seq2seq *model;
    struct qn_decoding options;
    size_t most_rows; /* sources at once */
    size_t stride;    /* sources that there is room for: those of the largest batch so far */
    size_t beams, candidates;
    struct seq2seq_cache cache;
    size_t layers, places, source_places; /* what there is room for */
    struct work works[PLANS];
    uint64_t clock;
    int32_t drawn;         /* steps of all calls */
    struct beam *beams_of; /* of the last call */
    size_t n_beams;
    /* Of a step, row by row. */
    int32_t *tokens, *parents, *lengths, *source_table, *table, *old_table, *indices;
    float *sums, *forbidden, *scores, *weights;
    size_t *next; /* which of a source's hypotheses each comes from */
};

static inline qn_context *context_of(const qn_translator *translator)
{
    return translator->model->context;
}

static inline bool is_recurrent(const qn_translator *translator)
{
    return translator->model->config.architecture == QN_RECURRENT_SEQ2SEQ;
}

/* The plan for such sizes: the one that was not used for the longest time makes room for a new one.  NULL and an error. */
struct work *translator_find_work(qn_translator *translator, struct work wanted);

/* So many places of sources and of rows in the caches: a plan belongs to the tensors that it was made for. */
int translator_make_room(qn_translator *translator, size_t source_places, size_t places);

/* Plans and caches. */
void translator_free_device(qn_translator *translator);

#endif

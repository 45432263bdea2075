/* Inside a language model: a decoder, or recurrent layers between an embedding and a head. */
#ifndef QUERN_LM_H
#define QUERN_LM_H

#include <quern/nn.h>

#include "io/config.h"
#include "nn/layers.h"

/* A side of it that the architecture lacks has no weight. */
struct gpt_block {
    struct norm attention_norm, mlp_norm;
    struct linear qkv;               /* GPT-2: (C, 3 C) */
    struct linear query, key, value; /* Llama: (C, H D), (C, G D), (C, G D) */
    struct linear attention_out;     /* (H D, C) */
    struct linear gate;              /* Llama: (C, I) */
    struct linear up, down;          /* (C, I), (I, C) */
};

struct qn_lm {
    qn_context *context;
    struct qn_lm_config config;
    qn_store *store;
    qn_tensor *tokens;  /* (V, C) */
    struct linear head; /* weight (V, C or H); that of `tokens` where they are tied */

    /* Decoders. */
    struct gpt_sizes sizes;
    qn_tensor *positions; /* GPT-2: (T, C) */
    struct gpt_block *blocks;
    struct norm last_norm;

    qn_rnn *rnn; /* NULL: it is a decoder */
};

struct qn_lm_cache {
    size_t layers;
    qn_tensor **keys, **values; /* decoders, by layer: (rows, T, G, D) */
    qn_tensor *state; /* recurrent: h, then c of an LSTM: (layers or twice that, rows, H) */
};

/* What lm.c asks of the two kinds.  Adding parameters, all but the head of a decoder; giving them values; hidden states that the head
 * makes logits of: of decoders (B, T, C), of recurrent layers (T, B, H). */
int decoder_parameters(qn_lm *lm);
int decoder_initialise(qn_lm *lm, uint64_t seed);
bool decoder_is_redundant(const void *lm, const qn_safetensors *file,
                          const struct qn_file_tensor *tensor);
qn_node *decoder_hidden(const qn_lm *lm, qn_node *tokens, const struct qn_lm_forward *options);

int recurrent_parameters(qn_lm *lm);
int recurrent_initialise(qn_lm *lm, uint64_t seed);
qn_node *recurrent_hidden(const qn_lm *lm, qn_node *tokens, const struct qn_lm_forward *options);

#endif

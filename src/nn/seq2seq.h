/* Inside an encoder-decoder: a Transformer, or recurrent layers. */
#ifndef QUERN_SEQ2SEQ_INSIDE_H
#define QUERN_SEQ2SEQ_INSIDE_H

#include <quern/seq2seq.h>

#include "nn/files.h"
#include "nn/layers.h"

/* Each with its weights of query, key and value; or all three in one matrix, one below the other: (3 C, C). */
struct attention_layer {
    struct linear query, key, value; /* (C, C) */
    struct linear joined;
    struct linear out;
    struct norm norm;
};

struct transformer_block {
    struct attention_layer self, cross; /* cross: the decoder's alone */
    struct linear up, down;             /* (C, I), (I, C) */
    struct norm mlp_norm;
};

/* One of the two sides. */
struct transformer_side {
    qn_tensor *tokens;    /* (V, C) */
    qn_tensor *positions; /* learned: (T, C) */
    struct transformer_block *blocks;
    struct norm last_norm; /* torch.nn.Transformer's */
    size_t layers, heads;
};

struct recurrent_sides {
    qn_tensor *source, *target; /* (V, E) */
    qn_rnn *encoder, *decoder;
    struct linear query, key, score,
        combine; /* of attention, where it has them; key: G of QN_GENERAL */
    struct linear bridge_h, bridge_c;
};

struct qn_seq2seq {
    qn_context *context;
    struct qn_seq2seq_config config;
    qn_store *store;
    struct linear
        head; /* weight (V, C); that of the target's embedding where they are tied; Marian's bias is frozen, and (1, V) */
    struct transformer_side encoder, decoder;
    struct recurrent_sides recurrent;
};

/* What seq2seq.c asks of the two kinds. */
int transformer_parameters(qn_seq2seq *model);
int transformer_initialise(qn_seq2seq *model, uint64_t seed);
bool marian_is_redundant(const void *model, const qn_safetensors *file,
                         const struct qn_file_tensor *tensor);

int recurrent_seq2seq_parameters(qn_seq2seq *model);
int recurrent_seq2seq_initialise(qn_seq2seq *model, uint64_t seed);

/* What the head reads: of Transformers (B, Tt, C), of recurrent layers (Tt, B, H). */
qn_node *transformer_hidden(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                            const struct qn_seq2seq_forward *options);

qn_node *recurrent_seq2seq_hidden(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                                  const struct qn_seq2seq_forward *options);

/* ---- Decoding ---- */

/* What decoding keeps on the device.  Keys and the like have places: those of token j of source i are i Ts + j, those of a row's
 * hypotheses what a table says. */
struct seq2seq_cache {
    qn_tensor **keys, **values;               /* Transformers, by layer: (1, places, H, D) */
    qn_tensor **source_keys, **source_values; /* (1, places of sources, H, D) */
    qn_tensor *encoded, *encoded_keys; /* recurrent, with attention: (1, places of sources, H) */
    qn_tensor *h, *c;                  /* recurrent: (rows, L, H) */
};

/* Computes what a decoder needs of sources (B, Ts), and keeps it: *roots has room for 2 L + 4 nodes; how many there are is returned. */
size_t transformer_remember(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                            qn_node *source, qn_node *lengths, qn_node **roots);
size_t recurrent_remember(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                          qn_node *source, qn_node *lengths, qn_node **roots);

/* The next token of R = sources * beams rows.  Rows of one source follow one another. */
struct decoder_step {
    size_t sources, beams;
    qn_node *tokens;                 /* i32 (R, 1) */
    qn_node *source_table, *lengths; /* i32 (sources, Ts), (sources) */
    qn_node *table, *place,
        *position; /* Transformers: i32 (R, T); (1): where the keys of the first row go, and its position */
    qn_node *parents; /* recurrent: i32 (R): whose states to go on from */
    qn_node *
        *weights; /* NULL, or set to what attention made of the sources: (sources, beams, Ts) */
    qn_node *writes[2]; /* set to nodes that must be computed, too; or NULL */
};

/* What the head reads: R rows of it. */
qn_node *transformer_step(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                          struct decoder_step *step);
qn_node *recurrent_step(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                        struct decoder_step *step);

/* ---- Recurrent layers, step by step ---- */

struct recurrent_state {
    qn_node *h, *c; /* (L, R, H); c: of an LSTM */
};

/* What the encoder made of a source. */
struct recurrent_memory {
    struct recurrent_state state; /* that the decoder begins with */
    qn_node *encoded, *keys;      /* with attention: (B, Ts, H) */
    qn_node *lengths;             /* i32 (B), or NULL */
};
struct recurrent_memory recurrent_encode(const qn_seq2seq *model, qn_node *source, qn_node *lengths,
                                         enum qn_type type, struct dropout *dropout);

/* What the head reads of tokens (R, T): (T, R, H).  R is a multiple of the sources, if T is 1: each has as many rows, one after the other.
 * `state` becomes that after the tokens; *weights, if it is asked for, what attention made of the last token: (B, R / B, Ts). */
qn_node *recurrent_decode(const qn_seq2seq *model, qn_node *tokens, enum qn_type type,
                          const struct recurrent_memory *memory, struct recurrent_state *state,
                          struct dropout *dropout, qn_node **weights);

/* The parameters that Quern's own layouts share: src_embedding and tgt_embedding, or one embedding for both; a head that reads `width`
 * numbers. */
void seq2seq_embeddings(qn_seq2seq *model, qn_tensor **source, qn_tensor **target);
void seq2seq_add_head(qn_seq2seq *model, const char *name, size_t width, qn_tensor *target);

/* Logits of what the head reads. */
qn_node *seq2seq_head(const qn_seq2seq *model, qn_node *x);

/* What the cache has of sources (1, places, ...) by a table (B, Ts): (B, Ts, count). */
qn_node *from_places(qn_graph *graph, qn_tensor *tensor, qn_node *table, size_t count);

#endif

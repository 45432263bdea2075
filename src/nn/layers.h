/* Layers that models share: their parameters, by Hugging Face's names, and their nodes. */
#ifndef QUERN_LAYERS_H
#define QUERN_LAYERS_H

#include <quern/nn.h>

#include "device/context.h"

enum { NAME_BYTES = 96 };

/* ---- Parameters: "PREFIX" "NAME" and then ".weight" or ".bias" in a store.  Matrices and embeddings decay, vectors do not. ---- */

/* "model.layers.3." of its format. */
const char *layer_prefix(char prefix[NAME_BYTES], const char *format, size_t layer);

struct linear {
    qn_tensor *weight;  /* (in, out); or, as torch.nn.Linear has it, (out, in) */
    qn_tensor *bias;    /* (out), or NULL */
    bool is_transposed; /* weight is (out, in) */
};
struct linear add_linear(qn_store *store, const char *prefix, const char *name, size_t in,
                         size_t out, bool has_bias);
struct linear add_conv1d(qn_store *store, const char *prefix, const char *name, size_t in,
                         size_t out); /* (in, out), as GPT-2 of Hugging Face has it */

struct norm {
    qn_tensor *weight, *bias; /* (width); bias NULL: RMS norm */
};
struct norm add_norm(qn_store *store, const char *prefix, const char *name, size_t width,
                     bool has_bias);

qn_tensor *add_embedding(qn_store *store, const char *prefix, const char *name, size_t count,
                         size_t width);

bool name_ends_with(const char *name, const char *end);

/* Biases 0, weights of norms 1, all others normal of this deviation. */
int initialise_parameter(qn_tensor *tensor, double deviation, uint64_t seed);

/* Uniform between -fan^-1/2 and fan^-1/2, as PyTorch initialises linear and recurrent layers. */
int fill_by_fan(qn_tensor *tensor, size_t fan, uint64_t seed);

/* Whether tokens are rows that the model's context holds; else an error that begins with `model`. */
bool are_rows(const qn_node *tokens, const char *model, size_t n_positions);

/* ---- Nodes: of the type of x, whatever that of the parameters ---- */

struct dropout {
    qn_node *key;    /* NULL: none */
    uint32_t stream; /* of the next one */
};

/* Names x as PyTorch does the module that computes it: PREFIX, as "model.layers.%zu" and the number of the layer, and SUFFIX. */
qn_node *name_module(qn_node *x, const char *prefix, size_t layer, const char *suffix);

/* The same, of a module that has this weight. */
qn_node *name_by_weight(qn_node *x, const qn_tensor *weight);

qn_node *parameter_beside(const qn_node *x, qn_tensor *tensor);
qn_node *apply_linear(qn_node *x, const struct linear *linear);
/* Only outputs `begin` to `end` - 1, of a weight (out, in) and a bias. */
qn_node *apply_linear_part(qn_node *x, const struct linear *linear, size_t begin, size_t end);
/* The mean cross-entropy of what a weight (out, in) makes of x, which is in memory for so many rows of x at a time; 0: for as many as
 * 256 MiB hold. */
qn_node *linear_loss(qn_node *x, const struct linear *linear, qn_node *targets,
                     struct qn_cross_entropy options, size_t rows);
qn_node *apply_norm(qn_node *x, const struct norm *norm, double epsilon);
qn_node *apply_dropout(qn_node *x, double p, struct dropout *dropout);

/* What attention weighs keys by, which kernels of attention never store: q (B, Tq, H, D), k (B, Tk, G, D) -> (B, H, Tq, Tk).  Causal, or of rows
 * of so many keys, if `lengths` is not NULL. */
qn_node *attention_weights(qn_node *q, qn_node *k, bool is_causal, qn_node *lengths);

qn_node *apply_activation(qn_node *x, enum qn_activation activation);

#endif

/* Layers, and models made of them. */
#ifndef QUERN_NN_H
#define QUERN_NN_H

#include <quern/io.h>
#include <quern/ops.h>
#include <quern/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Recurrent layers ----
 *
 * Layers of one kind of cell, each reading the outputs of the one before, of both directions if there are two.  Parameters are
 * those of torch.nn.RNN, LSTM and GRU, with a prefix: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, and so on for l1, ...;
 * "_reverse" behind those of the other direction. */
typedef struct qn_rnn qn_rnn;

struct qn_rnn_config {
    enum qn_cell cell;
    size_t inputs, units, layers; /* I, H, L */
    bool is_bidirectional;
    double dropout; /* between layers */
};

/* Adds the parameters to a store that is not sealed.  NULL and an error if they cannot be. */
qn_rnn *qn_rnn_add(qn_store *store, const char *prefix, const struct qn_rnn_config *config);
void qn_rnn_free(qn_rnn *rnn); /* not the parameters */

/* Uniform between -H^-1/2 and H^-1/2, as PyTorch has them. */
int qn_rnn_initialise(qn_rnn *rnn, uint64_t seed);

struct qn_rnn_forward {
    qn_node *h_0,
        *c_0; /* (L D, B, H), D directions: those of layer 0, forward first; then layer 1, ...; NULL: zeros */
    qn_node *lengths;     /* as for qn_recurrent */
    qn_node *dropout_key; /* as for qn_dropout(); NULL: no dropout */
    uint32_t stream;      /* of the first dropout */
};

/* x (T, B, I) -> out (T, B, D H) of the last layer, h_n and c_n (L D, B, H). */
struct qn_sequence qn_rnn_apply(const qn_rnn *rnn, qn_node *x, struct qn_rnn_forward options);

/* ---- Language models: GPT-2 (Radford et al., 2019), Llama (Touvron et al., 2023), and recurrent ones ----
 *
 * Decoders: token embeddings, blocks of pre-norm causal attention and a perceptron, a last norm, and a head, which may be the
 * token embedding again.  GPT-2 learns embeddings of positions and has layer norms, biases and GELU; Llama turns queries and
 * keys by their positions, and has RMS norms, SwiGLU and no biases; its heads may share keys and values.  Names and layout of
 * the parameters are those of Hugging Face's GPT2LMHeadModel and LlamaForCausalLM.
 *
 * Recurrent: token embeddings (embedding.weight), recurrent layers (rnn.weight_ih_l0, ...), and a head with a bias (dense.weight,
 * dense.bias); dropout is before, between and behind the layers. */
typedef struct qn_lm qn_lm;

/* A model whose parameters are zero.  NULL if the configuration cannot be, or does not fit the device. */
qn_lm *qn_lm_new(qn_context *context, const struct qn_lm_config *config);
void qn_lm_free(qn_lm *lm);

/* Sets all parameters: of decoders as GPT-2 does, normal of deviation 0.02, those that end a residual branch 0.02 / sqrt(2
 * layers), norms 1, biases 0; of recurrent models as PyTorch does, embeddings normal of deviation 1, all else uniform between -H^-1/2 and
 * H^-1/2. */
int qn_lm_initialise(qn_lm *lm, uint64_t seed);

const struct qn_lm_config *qn_lm_config(const qn_lm *lm);
qn_store *qn_lm_parameters(const qn_lm *lm); /* the model's own */

/* The model of a folder: config.json and model.safetensors; "transformer." or "model." before the names may be missing.
 * Parameters that are not finite are refused, when saving too.  A context without a device only checks the files. */
qn_lm *qn_lm_load(qn_context *context, const char *folder);

/* Writes config.json and model.safetensors into a folder that exists. */
int qn_lm_save(const qn_lm *lm, const char *folder);

/* What was read so far of `rows` texts: keys and values of a decoder; the state of a recurrent model, zeros at first. */
typedef struct qn_lm_cache qn_lm_cache;
qn_lm_cache *qn_lm_cache_new(const qn_lm *lm, size_t rows);
void qn_lm_cache_free(qn_lm_cache *cache);
int qn_lm_cache_clear(qn_lm_cache *cache);        /* new texts begin */
qn_tensor *qn_lm_cache_state(qn_lm_cache *cache); /* of a recurrent model; else NULL */

struct qn_lm_forward {
    /* In what type all is computed but the embeddings and the loss: f32, or f16 or bf16, of which the parameters are then copied. */
    enum qn_type type;
    qn_node *loss_scale;  /* qn_lm_loss(): as for qn_cross_entropy.gradient_scale */
    qn_node *dropout_key; /* as for qn_dropout(); NULL: no dropout */
    qn_lm_cache *cache;   /* NULL: the tokens are all there is */
    qn_node **
        new_state; /* recurrent, with a cache, to train: this is set to the state after the tokens, which is not written */
    qn_node *position; /* with a cache: i32 (1), where the first token stands */
    bool last_only;    /* only the last token's logits are wanted */
    bool
        checkpoint; /* each block's values are computed again for its gradients: qn_checkpoint_begin() */
    qn_node **
        attention; /* decoders: this is set to the weights (B, H, T, T) that block number `attention_block` gives what was read; not with a cache */
    size_t attention_block;
    size_t
        loss_rows; /* qn_lm_loss(): tokens whose logits are in memory at a time; 0: what 256 MiB hold */
};

/* Logits (B, T, vocabulary), or (B, 1, vocabulary), of i32 tokens (B, T). */
qn_node *qn_lm_logits(const qn_lm *lm, qn_node *tokens, struct qn_lm_forward options);

/* The mean cross-entropy of i32 targets (B, T), to be minimised: for large batches the logits are made in chunks of rows. */
qn_node *qn_lm_loss(const qn_lm *lm, qn_node *tokens, qn_node *targets,
                    struct qn_lm_forward options);

/* ---- Encoders: BERT (Devlin et al., 2019) ----
 *
 * Embeddings of tokens, positions and types, blocks of attention and a perceptron, each with its norm behind it, and one of
 * four heads.  Names and layout of the parameters are those of Hugging Face's BertForMaskedLM,
 * BertForSequenceClassification, BertForTokenClassification and BertForQuestionAnswering.  The row of the padding token
 * gets no gradient from where it is looked up.  Attention has no dropout. */
typedef struct qn_bert qn_bert;

/* As for decoders.  All matrices and embeddings are initialised normal of deviation 0.02, norms 1, biases 0. */
qn_bert *qn_bert_new(qn_context *context, const struct qn_bert_config *config);
void qn_bert_free(qn_bert *bert);
int qn_bert_initialise(qn_bert *bert, uint64_t seed);
const struct qn_bert_config *qn_bert_config(const qn_bert *bert);
qn_store *qn_bert_parameters(const qn_bert *bert); /* the model's own */

/* "bert." before the names may be missing; what only other heads need may be in the file, and is lost when saved. */
qn_bert *qn_bert_load(qn_context *context, const char *folder);
int qn_bert_save(const qn_bert *bert, const char *folder);

struct qn_bert_forward {
    qn_node *types;       /* i32 (B, T); NULL: all 0 */
    qn_node *lengths;     /* i32 (B): how many tokens of a row are no padding; NULL: all */
    qn_node *dropout_key; /* as for qn_dropout(); NULL: no dropout */
    bool checkpoint;      /* as for decoders */
};

/* Hidden states (B, T, width) of i32 tokens (B, T), and logits: (B, T, vocabulary), (B, labels), (B, T, labels), or
 * (B, 2, T): where answers begin and end. */
qn_node *qn_bert_hidden(const qn_bert *bert, qn_node *tokens, struct qn_bert_forward options);
qn_node *qn_bert_logits(const qn_bert *bert, qn_node *tokens, struct qn_bert_forward options);

/* The mean cross-entropy of i32 targets: (B, T), (B), (B, T), or (B, 2), of which begin and end count half each.  Targets of
 * QN_IGNORE do not count. */
qn_node *qn_bert_loss(const qn_bert *bert, qn_node *tokens, qn_node *targets,
                      struct qn_bert_forward options);

/* The lengths that an attention_mask (rows, length) of 1 and 0 says.  An error if a row is not ones and then zeros. */
int qn_bert_lengths(qn_context *context, const int32_t *mask, size_t rows, size_t length,
                    int32_t *lengths);

/* ---- Classifiers of texts ----
 *
 * Token embeddings (embedding.weight), recurrent layers in one or both directions (rnn.weight_ih_l0, ...), one vector of their outputs, and
 * a layer with a number for each label (dense.weight, dense.bias); dropout is before, between and behind the recurrent layers. */
typedef struct qn_classifier qn_classifier;

/* As for language models.  The labels are copied. */
qn_classifier *qn_classifier_new(qn_context *context, const struct qn_classifier_config *config,
                                 const qn_labels *labels);
void qn_classifier_free(qn_classifier *classifier);
int qn_classifier_initialise(qn_classifier *classifier, uint64_t seed);
const struct qn_classifier_config *qn_classifier_config(const qn_classifier *classifier);
const qn_labels *qn_classifier_labels(const qn_classifier *classifier);
qn_store *qn_classifier_parameters(const qn_classifier *classifier);
qn_classifier *qn_classifier_load(qn_context *context, const char *folder);
int qn_classifier_save(const qn_classifier *classifier, const char *folder);

struct qn_classifier_forward {
    enum qn_type type;    /* as for language models */
    qn_node *lengths;     /* i32 (B): tokens of each row; NULL: T */
    qn_node *dropout_key; /* NULL: no dropout */
};

/* Logits (B, labels) of i32 tokens (B, T); and the mean cross-entropy of i32 targets (B), of which QN_IGNORE does not count. */
qn_node *qn_classifier_logits(const qn_classifier *classifier, qn_node *tokens,
                              struct qn_classifier_forward options);
qn_node *qn_classifier_loss(const qn_classifier *classifier, qn_node *tokens, qn_node *targets,
                            struct qn_classifier_forward options);

/* ---- Generating text ---- */

struct qn_generation {
    struct qn_sample sample;
    uint64_t seed;
};

/* Continues `prompt` token by token; keys and values stay on the device.  When the context is full, the last half of it
 * becomes the new prompt; recurrent models have no such end. */
typedef struct qn_generator qn_generator;
qn_generator *qn_generator_new(qn_lm *lm, struct qn_generation options);
void qn_generator_free(qn_generator *generator);

/* Starts a text, number `sample` of this seed: at least one token. */
int qn_generator_start(qn_generator *generator, const int32_t *prompt, size_t count,
                       uint64_t sample);

/* The next token, or a negative status. */
int32_t qn_generator_next(qn_generator *generator);

/* ---- Measuring ---- */

struct qn_evaluation {
    double loss;     /* mean of -log probability, natural */
    double accuracy; /* share of tokens whose probability is the greatest */
    size_t tokens;
};

/* Measures the model on windows of its context length: `windows` of them spread evenly over the data set, or all if it is 0;
 * `rows` at once. */
typedef struct qn_evaluator qn_evaluator;
qn_evaluator *qn_evaluator_new(qn_lm *lm, size_t rows);
void qn_evaluator_free(qn_evaluator *evaluator);
int qn_evaluate(qn_evaluator *evaluator, const qn_dataset *dataset, size_t windows,
                struct qn_evaluation *result);

#ifdef __cplusplus
}
#endif
#endif

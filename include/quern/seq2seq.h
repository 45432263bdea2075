/* Sequence to sequence: encoder-decoders, and texts that they make of others. */
#ifndef QUERN_SEQ2SEQ_H
#define QUERN_SEQ2SEQ_H

#include <quern/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Models ----
 *
 * Transformer (Vaswani et al., 2017): an encoder of blocks of attention and a perceptron, a decoder whose blocks have attention to what
 * the encoder made of the source between these.  Names and layout of the parameters are those of Hugging Face's MarianMTModel,
 * whose norms end each branch; or those of torch.nn.Transformer, whose norms may begin them, which has two last norms, and
 * which a folder holds as "src_embedding", "tgt_embedding", "transformer" and "generator".  Attention has no dropout.
 *
 * Recurrent: layers of one kind of cell on both sides (encoder.weight_ih_l0, decoder.weight_ih_l0, ...), and attention: none; additive,
 * whose context the decoder's first layer reads beside the token (Bahdanau et al., 2015: query, key, v); or multiplicative
 * (Luong et al., 2015: general, combine), whose logits are of tanh(C [context; state]). */
typedef struct qn_seq2seq qn_seq2seq;

/* A model whose parameters are zero.  NULL if the configuration cannot be, or does not fit the device. */
qn_seq2seq *qn_seq2seq_new(qn_context *context, const struct qn_seq2seq_config *config);
void qn_seq2seq_free(qn_seq2seq *model);

/* Sets all parameters.  Transformers: matrices uniform as Glorot and Bengio have them (2010), embeddings normal of deviation width^-1/2, learned
 * positions 0.02, norms 1, biases 0.  Recurrent models: embeddings normal of deviation 0.1, all else uniform between -H^-1/2 and
 * H^-1/2. */
int qn_seq2seq_initialise(qn_seq2seq *model, uint64_t seed);

const struct qn_seq2seq_config *qn_seq2seq_config(const qn_seq2seq *model);
qn_store *qn_seq2seq_parameters(const qn_seq2seq *model); /* the model's own */

/* The model of a folder: config.json and model.safetensors; "model." before Marian's names may be missing.  Parameters that are not
 * finite are refused, when saving too.  A context without a device only checks the files. */
qn_seq2seq *qn_seq2seq_load(qn_context *context, const char *folder);

/* Writes config.json and model.safetensors into a folder that exists. */
int qn_seq2seq_save(const qn_seq2seq *model, const char *folder);

/* Rows of i32 tokens: a source, and what a decoder reads of its target: the start token and all but the target's last token. */
struct qn_seq2seq_input {
    qn_node *source;         /* (B, Ts) */
    qn_node *source_lengths; /* i32 (B): how many tokens of a row are no padding; NULL: all */
    qn_node *target;         /* (B, Tt) */
    qn_node *
        target_lengths; /* the same; padding behind a row changes nothing but its own logits, so that NULL will do */
};

struct qn_seq2seq_forward {
    /* In what type all is computed but the embeddings and the loss: f32, or f16 or bf16, of which the parameters are then copied. */
    enum qn_type type;
    qn_node *dropout_key;  /* as for qn_dropout(); NULL: no dropout */
    float label_smoothing; /* qn_seq2seq_loss(): as for qn_cross_entropy */
    /* Recurrent, with a dropout_key: the probability with which a decoder reads what it would have said itself instead of the
     * target's token (Bengio et al., 2015); 0: teacher forcing.  Tokens are then read one by one. */
    float scheduled_sampling;
    qn_node *loss_scale; /* qn_seq2seq_loss(): as for qn_cross_entropy.gradient_scale */
    size_t loss_rows;    /* qn_seq2seq_loss(): as for decoders */
    bool checkpoint;     /* Transformers: as for decoders */
    /* Transformers: this is set to the weights (B, H, Tt, Ts) that the decoder's block number `attention_block` gives what the encoder
     * made of the source. */
    qn_node **attention;
    size_t attention_block;
};

/* Logits (B, Tt, target's vocabulary). */
qn_node *qn_seq2seq_logits(const qn_seq2seq *model, struct qn_seq2seq_input input,
                           struct qn_seq2seq_forward options);

/* The mean cross-entropy of i32 targets (B, Tt), to be minimised: what follows each token of input.target, QN_IGNORE behind a row. */
qn_node *qn_seq2seq_loss(const qn_seq2seq *model, struct qn_seq2seq_input input, qn_node *targets,
                         struct qn_seq2seq_forward options);

/* ---- Translating ----
 *
 * Beam search in batches, as generate() of Hugging Face's transformers does it.  Keys and values are computed once, stay on the device and are
 * never moved; sequences that have ended make room. */

struct qn_decoding {
    size_t beams;          /* hypotheses of each source; 0 or 1: greedy */
    double length_penalty; /* a: scores are sums of log-probabilities, divided by length^a */
    double
        coverage_penalty; /* b: and b sum_j log(min(attention to j, 1)) is added (Wu et al., 2016) */
    bool early_stopping;  /* as soon as there are `beams` hypotheses that ended */
    size_t min_length;    /* tokens before the end */
    size_t max_length;    /* tokens, the end included; 0: 32 more than twice the source, or what min_length needs */
    size_t no_repeat_ngram; /* n: no n tokens follow each other twice; 0: they may */
    bool ignore_eos;        /* the end is a token like others: all go on to max_length */
    bool keep_attention;
    /* Draws instead of searching: `beams` hypotheses of each source, that know nothing of each other.  What is drawn depends on the
     * sources that are translated together. */
    bool draws;
    struct qn_sample sample;
    uint64_t seed;
};

struct qn_translation {
    const int32_t *tokens; /* the end included, if it came */
    size_t count;
    double score;
    /* (count, source's length), with keep_attention: how a token was made of the source's; of Transformers the mean of the last
     * layer's heads.  Else NULL. */
    const float *attention;
};

/* Translates `rows` sources at once, at most. */
typedef struct qn_translator qn_translator;
qn_translator *qn_translator_new(const qn_seq2seq *model, const struct qn_decoding *options,
                                 size_t rows);
void qn_translator_free(qn_translator *translator);

/* Translates `count` sources, those of like length together.  results[i * beams ...] are those of source i, best first; those that
 * there are not have no tokens.  They are valid until the next call. */
int qn_translate(qn_translator *translator, const int32_t *const *sources, const size_t *lengths,
                 size_t count, struct qn_translation *results);

#ifdef __cplusplus
}
#endif
#endif

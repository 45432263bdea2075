/* Files: safetensors, configurations, the folder of a run.  All of it runs on the host.
 *
 * What is read is not trusted: every number is checked before it is used.  What is written appears
 * whole or not at all: it is written beside, synced and renamed, so that a full disk or a kill
 * leaves the old file.
 *
 * A function here that takes a context uses it only to keep the error: a context opened as "none"
 * will do. */
#ifndef QUERN_IO_H
#define QUERN_IO_H

#include <quern/data.h>
#include <quern/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Safetensors ---- */

struct qn_file_tensor {
    const char *name;
    const char *type; /* as in the file: "F32", "BF16", "I64", ... */
    qn_shape shape;
    const void *data; /* row-major, little-endian, perhaps not aligned */
    size_t bytes;
};

/* Maps a file and checks all of its header.  Truncating the file while it is open is a bus error:
 * replace files by renaming, as Quern does. */
typedef struct qn_safetensors qn_safetensors;
qn_safetensors *qn_safetensors_open(qn_context *context, const char *path);
void qn_safetensors_close(qn_safetensors *file);

size_t qn_safetensors_count(const qn_safetensors *file);
const struct qn_file_tensor *qn_safetensors_tensor(const qn_safetensors *file,
                                                   size_t index); /* in the order of the data */
const struct qn_file_tensor *qn_safetensors_find(const qn_safetensors *file,
                                                 const char *name); /* NULL, and no error */
const char *qn_safetensors_metadata(const qn_safetensors *file,
                                    const char *key); /* NULL, and no error */

/* All values of a tensor: F32, F64, F16 and BF16 as floats, integers and BOOL as int32 (an error if
 * one does not fit).  The error names file and tensor. */
int qn_safetensors_f32(const qn_safetensors *file, const struct qn_file_tensor *tensor,
                       float *values);
int qn_safetensors_i32(const qn_safetensors *file, const struct qn_file_tensor *tensor,
                       int32_t *values);

/* What a tensor of Quern's is called in such files, "F32" and the like. */
const char *qn_safetensors_type(enum qn_type type);

/* Writes tensors of given name, type and shape.  One whose data is NULL is asked of `values`, which
 * fills in its bytes and returns 0, or sets the context's error and returns a negative status; so
 * only one of them need be in memory.  `metadata`: key, value, key, value, ..., NULL; or NULL.
 * {"format": "pt"} is added. */
typedef int qn_file_values(void *user, size_t index, void *values);
int qn_safetensors_write(qn_context *context, const char *path,
                         const struct qn_file_tensor *tensors, size_t count,
                         const char *const *metadata, qn_file_values *values, void *user);

/* ---- NumPy ---- */

/* Writes values, row-major, as a .npy file of version 1.0, which numpy.load() reads: as <f4, <f2, <i4 or |u1, bf16 as <f4. */
int qn_npy_write(qn_context *context, const char *path, enum qn_type type, qn_shape shape,
                 const void *values);

/* ---- config.json of language models ---- */

enum qn_activation { QN_NO_ACTIVATION, QN_RELU, QN_GELU, QN_GELU_ERF, QN_SILU };
enum qn_architecture { QN_GPT2, QN_LLAMA, QN_RECURRENT };

/* The names are those of GPT-2's keys. */
struct qn_lm_config {
    enum qn_architecture architecture;
    size_t vocab_size, n_positions, n_embd, n_layer, n_head;
    size_t n_inner; /* 0: 4 n_embd; of Llama the multiple of 32 that holds 8/3 n_embd */
    double layer_norm_epsilon;
    double embd_pdrop, resid_pdrop, attn_pdrop;
    enum qn_activation activation; /* of GPT-2, and not QN_NO_ACTIVATION; Llama's is SwiGLU */
    bool tie_word_embeddings;
    int32_t bos_token_id, eos_token_id; /* -1: none */

    /* Llama's alone. */
    size_t n_kv_head; /* of keys and values; 0: n_head */
    size_t head_size; /* 0: n_embd / n_head */
    struct qn_rotary rotary;
    bool attention_bias, mlp_bias;

    /* Recurrent models' alone: they have no heads, n_embd is the size of an embedding, n_positions that of a piece of text to train on, and
     * resid_pdrop all there is of dropout. */
    enum qn_cell cell;
    size_t hidden_size; /* units of a layer */
};

/* Whether such a model can be; else an error that begins with `where` (a file, "the options"). */
int qn_lm_config_check(qn_context *context, const char *where, const struct qn_lm_config *config);
uint64_t qn_lm_config_parameters(const struct qn_lm_config *config); /* of a checked one */

/* The first key whose values differ; NULL if the configurations are of the same model. */
const char *qn_lm_config_difference(const struct qn_lm_config *a, const struct qn_lm_config *b);

/* With Hugging Face's keys of model_type "gpt2" or "llama"; or with Quern's own of "rnn", "lstm" or "gru", which have no class there: see
 * src/io/recurrent_config.c.  Llama's embd_pdrop and resid_pdrop are Quern's own keys, which
 * others ignore. */
int qn_lm_config_read(qn_context *context, const char *path, struct qn_lm_config *config);
int qn_lm_config_write(qn_context *context, const char *path, const struct qn_lm_config *config);

/* ---- config.json of encoders ---- */

/* What an encoder is for, by the first of `architectures`: BertForMaskedLM, BertForSequenceClassification,
 * BertForTokenClassification, BertForQuestionAnswering. */
enum qn_bert_head { QN_BERT_MASKED, QN_BERT_TEXTS, QN_BERT_TOKENS, QN_BERT_ANSWERS };

struct qn_bert_config {
    enum qn_bert_head head;
    size_t vocab_size, n_positions, n_types, width, n_layer, n_head, n_inner;
    size_t n_labels; /* of QN_BERT_TEXTS and QN_BERT_TOKENS; their names are not kept */
    double layer_norm_epsilon;
    double hidden_dropout, attention_dropout, classifier_dropout;
    enum qn_activation activation;
    bool tie_word_embeddings; /* QN_BERT_MASKED: the embedding of tokens is the head, too */
    int32_t pad_token_id;     /* -1: none */
};

/* As for decoders. */
int qn_bert_config_check(qn_context *context, const char *where,
                         const struct qn_bert_config *config);
uint64_t qn_bert_config_parameters(const struct qn_bert_config *config);

/* With Hugging Face's keys of model_type "bert". */
int qn_bert_config_read(qn_context *context, const char *path, struct qn_bert_config *config);
int qn_bert_config_write(qn_context *context, const char *path,
                         const struct qn_bert_config *config);

/* ---- config.json of classifiers ---- */

/* Of the outputs of recurrent layers at the tokens of a text one is made: the states at the end, of both directions; their mean; or the largest of
 * each number. */
enum qn_pooling { QN_POOL_LAST, QN_POOL_MEAN, QN_POOL_MAX };
int qn_pooling_named(const char *name); /* "last", "mean", "max"; -1 (and no error): it is none */

struct qn_classifier_config {
    enum qn_cell cell;
    size_t vocab_size, embedding_size, hidden_size, n_layer, n_labels;
    size_t max_length; /* tokens of a text; what is longer is cut by who reads it */
    bool is_bidirectional;
    enum qn_pooling pooling;
    double dropout; /* before, between and behind the layers */
};
int qn_classifier_config_check(qn_context *context, const char *where,
                               const struct qn_classifier_config *config);
uint64_t qn_classifier_config_parameters(const struct qn_classifier_config *config);
const char *qn_classifier_config_difference(const struct qn_classifier_config *a,
                                            const struct qn_classifier_config *b);

/* Quern's own keys: see src/io/classifier_config.c.  Returns the labels, to be freed by qn_labels_free(); NULL and an error. */
qn_labels *qn_classifier_config_read(qn_context *context, const char *path,
                                     struct qn_classifier_config *config);
int qn_classifier_config_write(qn_context *context, const char *path,
                               const struct qn_classifier_config *config, const qn_labels *labels);

/* ---- What a model is ---- */

/* By its config.json, damaged or not: what tells nothing is a language model. */
enum qn_model_kind { QN_MODEL_LM, QN_MODEL_BERT, QN_MODEL_CLASSIFIER, QN_MODEL_SEQ2SEQ };
enum qn_model_kind qn_model_kind(qn_context *context, const char *folder);

/* ---- config.json of encoder-decoders ---- */

/* Of Hugging Face's Marian; of torch.nn.Transformer; of recurrent layers. */
enum qn_seq2seq_architecture { QN_MARIAN, QN_TRANSFORMER, QN_RECURRENT_SEQ2SEQ };

enum qn_positions {
    QN_SINUSOIDAL,        /* sines and cosines in turns (Vaswani et al., 2017) */
    QN_SINUSOIDAL_HALVES, /* all sines first: Marian's */
    QN_LEARNED
};

/* How a decoder's state s scores what an encoder made of a token, e. */
enum qn_attention_score {
    QN_NO_SCORE, /* no attention: the encoder's last state is all that the decoder knows */
    QN_ADDITIVE, /* v . tanh(Q s + K e), of the state before a token is read (Bahdanau et al., 2015) */
    QN_DOT,      /* s . e, of the state after it (Luong et al., 2015) */
    QN_GENERAL /* s . G e */
};

struct qn_seq2seq_config {
    enum qn_seq2seq_architecture architecture;
    size_t source_vocab_size, target_vocab_size;
    size_t n_positions; /* most tokens of a text */
    size_t width;       /* of embeddings; Transformers: of all layers */
    size_t encoder_layers, decoder_layers;
    double dropout;
    bool shares_embeddings; /* one for source and target */
    bool ties_head;         /* the target's embedding is the head, too */
    int32_t pad_token_id;   /* -1: none */
    int32_t start_token_id; /* what a decoder reads first */
    int32_t eos_token_id;   /* -1: none */
    bool
        forces_end; /* what is as long as may be ends with eos_token_id, whatever its probability */
    bool forbids_padding; /* pad_token_id, whose logit means nothing, is never written */

    /* Transformers' alone. */
    size_t encoder_heads, decoder_heads, encoder_inner, decoder_inner;
    enum qn_activation activation;
    double attention_dropout; /* kept for others; attention has none here */
    double activation_dropout;
    bool scales_embedding;       /* by the root of the width */
    bool is_pre_norm;            /* not Marian's: norms begin the branches instead of ending them */
    enum qn_positions positions; /* Marian's: QN_SINUSOIDAL_HALVES */

    /* Recurrent models' alone. */
    enum qn_cell cell;
    enum qn_attention_score attention;
    bool is_bidirectional; /* the encoder; each direction has half of the units */
    bool
        has_bridge; /* the decoder begins with tanh(B h + b) of the encoder's last states, instead of these */
    size_t hidden_size; /* units of a layer */
};

/* As for language models. */
int qn_seq2seq_config_check(qn_context *context, const char *where,
                            const struct qn_seq2seq_config *config);
uint64_t qn_seq2seq_config_parameters(const struct qn_seq2seq_config *config);
const char *qn_seq2seq_config_difference(const struct qn_seq2seq_config *a,
                                         const struct qn_seq2seq_config *b);

/* With Hugging Face's keys of model_type "marian"; or with Quern's own of "transformer" and "seq2seq", which have no class there:
 * see src/io/transformer_config.c and src/io/seq2seq_config.c.  Of Marian, a generation_config.json beside it is read as well. */
int qn_seq2seq_config_read(qn_context *context, const char *path, struct qn_seq2seq_config *config);
int qn_seq2seq_config_write(qn_context *context, const char *path,
                            const struct qn_seq2seq_config *config);

/* ---- The folder of a run ----
 *
 *     DIR/step-N/         whole checkpoints: the latest and the best
 *     DIR/latest, best    links to them
 *     DIR/model.safetensors, config.json, tokenizer.json, tokenizer_config.json, target_tokenizer.json
 *                         links through best: DIR is a model that others can load
 *
 * A checkpoint is written to DIR/step-N.tmp, synced, and renamed; then the links are replaced by
 * renaming.  At any moment there is a whole one, as soon as there was one.  Older ones are then removed,
 * unless they are to be kept or hold more than the model's files, optimizer.safetensors and training.json. */
typedef struct qn_checkpoints qn_checkpoints;

/* The file in the folder of an encoder-decoder that has a tokenizer of its own for what it writes. */
#define QN_TARGET_TOKENIZER "target_tokenizer.json"

/* Makes the folder, or opens it again to go on with its run, and locks it against other processes.
 * Removes what a killed save left behind.  Fails if it holds a run and `resume` is false, or if it
 * holds none and `resume` is true. */
qn_checkpoints *qn_checkpoints_open(qn_context *context, const char *folder, bool resume);
void qn_checkpoints_close(qn_checkpoints *checkpoints);

const char *
qn_checkpoints_latest(qn_checkpoints *checkpoints); /* its folder; NULL if there is none yet */

/* The best one's folder, if that is not the latest: what a run can go on from when its latest
 * checkpoint is damaged, and moved away.  NULL if there is none.  Valid until the next call. */
const char *qn_checkpoints_other(qn_checkpoints *checkpoints);

/* Begins a checkpoint: returns the folder to write its files into.  Commit makes it the latest (and
 * the best, if it is, or if there was none) and removes those that are neither; abandon, or
 * closing, removes it. */
const char *qn_checkpoints_begin(qn_checkpoints *checkpoints, uint64_t step);
int qn_checkpoints_commit(qn_checkpoints *checkpoints, bool is_best);
void qn_checkpoints_abandon(qn_checkpoints *checkpoints);

/* The steps of a run's checkpoints, latest first; free() them. */
int qn_checkpoint_steps(qn_context *context, const char *folder, uint64_t **steps, size_t *count);

/* The last `count` checkpoints are kept, too, when others are removed. */
void qn_checkpoints_keep(qn_checkpoints *checkpoints, size_t count);

/* Makes the checkpoint of `step` the best, if it is not.  A resumed run calls it with the best step
 * of its latest checkpoint: a kill may have come between the two links. */
int qn_checkpoints_set_best(qn_checkpoints *checkpoints, uint64_t step);

/* The folder that has the config.json of a model: of a run's folder the best checkpoint, of a
 * checkpoint or any other model's folder itself, of a model's file the folder it is in.  free() it. */
char *qn_model_folder(qn_context *context, const char *path);

/* ---- What a file holds ---- */

/* Prints what a safetensors file, a config.json, a tokenizer.json, another JSON file, a model or a
 * run holds.  Negative, and an error that says where, if it is damaged. */
int qn_inspect(qn_context *context, const char *path, FILE *out);

#ifdef __cplusplus
}
#endif
#endif

/* What the config.json files of models have in common. */
#ifndef QUERN_CONFIG_FILE_H
#define QUERN_CONFIG_FILE_H

#include <quern/io.h>

#include "io/fields.h"

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_SIZE = 1 << 24 };

enum qn_model_kind config_kind(const json_t *json);

/* Whether each size is within its bounds; else an error that begins with `where`. */
struct size_bounds {
    const char *name;
    size_t value, least, most;
};
int config_check_sizes(qn_context *context, const char *where, const struct size_bounds *sizes,
                       size_t count);

/* A model of ten trillion parameters is a mistake in typing, or a hostile file. */
int config_check_parameters(qn_context *context, const char *where, double parameters);

int config_check_dropout(qn_context *context, const char *where, const double *p, size_t count);
int config_check_epsilon(qn_context *context, const char *where, double epsilon);

/* What Quern has no code for, and would compute wrongly, must have the one value that is supported. */
struct config_switch {
    const char *key;
    bool supported;
};
void config_refuse_switches(struct fields *fields, const struct config_switch *switches,
                            size_t count);

enum qn_activation config_activation(struct fields *fields, const char *key, const char *fallback);
const char *config_activation_name(enum qn_activation activation);

/* A token id, -1 for null, or the first of a list. */
int32_t config_token_id(struct fields *fields, const char *key);
json_t *config_id_or_null(int32_t id);
json_t *config_size_or_null(size_t size);

/* "id2label", by which programs of Hugging Face know labels and count them: {"0": NAME, ...}, or LABEL_0, ... without names.  NULL: out of memory. */
json_t *config_labels(size_t count, const char *(*name)(const void *labels, size_t label),
                      const void *labels);

/* Of a decoder: the sizes that its configuration leaves open, filled in. */
struct gpt_sizes {
    size_t heads, kv_heads, head; /* H, G, D */
    size_t inner;
};
struct gpt_sizes gpt_sizes(const struct qn_lm_config *config);

/* The kind of recurrent layers: "model_type" and, of an "rnn", "nonlinearity". */
enum qn_cell cell_read(struct fields *fields);
void cell_add(json_t *json, enum qn_cell cell);

/* Of recurrent models: their parameters, their checks, their keys. */
double recurrent_count_parameters(const struct qn_lm_config *config);
int recurrent_config_check(qn_context *context, const char *where,
                           const struct qn_lm_config *config);
void recurrent_config_read(struct fields *fields, struct qn_lm_config *config);
json_t *recurrent_config_json(const struct qn_lm_config *config);

/* What a decoder of each family may be, and its keys. */
int gpt2_config_check(qn_context *context, const char *where, const struct qn_lm_config *config);
void gpt2_config_read(struct fields *fields, struct qn_lm_config *config);
json_t *gpt2_config_json(const struct qn_lm_config *config);
int llama_config_check(qn_context *context, const char *where, const struct qn_lm_config *config);
void llama_config_read(struct fields *fields, struct qn_lm_config *config);
json_t *llama_config_json(const struct qn_lm_config *config);

/* Of encoder-decoders: what they are called, their parameters, what each family may be, and its keys. */
struct seq2seq_family {
    const char *model_type;
    double (*parameters)(const struct qn_seq2seq_config *config);
    int (*check)(qn_context *context, const char *where, const struct qn_seq2seq_config *config);
    void (*read)(struct fields *fields, struct qn_seq2seq_config *config);
    json_t *(*json)(const struct qn_seq2seq_config *config);
    /* What a generation_config.json says beside it; NULL: there is none of the kind. */
    void (*read_generation)(struct fields *fields, struct qn_seq2seq_config *config);
};
extern const struct seq2seq_family marian_family, transformer_family, recurrent_seq2seq_family;

const struct seq2seq_family *seq2seq_family(const char *model_type); /* NULL, and no error */

/* The keys that both of Quern's own kinds have; adding gives NULL, and frees, if there is no memory. */
void seq2seq_read_own(struct fields *fields, struct qn_seq2seq_config *config);
json_t *seq2seq_add_own(json_t *json, const struct qn_seq2seq_config *config);

/* Of Marian and torch.nn.Transformer. */
int transformer_config_check(qn_context *context, const char *where,
                             const struct qn_seq2seq_config *config);
double transformer_count_layers(const struct qn_seq2seq_config *config);

/* One of the words of a table, whose place in it is returned. */
size_t config_word(struct fields *fields, const char *key, const char *const *words, size_t count,
                   size_t fallback);

#endif

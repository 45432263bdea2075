/* Configurations of language models: their sizes, what they may be, and which of the kinds of config.json is theirs. */
#include "io/config.h"

#include <math.h>
#include <string.h>

#include "io/file.h"

/* ---- Sizes ---- */

struct gpt_sizes gpt_sizes(const struct qn_lm_config *config)
{
    enum { MULTIPLE = 32 }; /* of the inner width of Llama */
    if (config->architecture == QN_RECURRENT)
        return (struct gpt_sizes){0};
    size_t inner = config->architecture == QN_LLAMA
                       ? round_up(divide_up(8 * config->n_embd, 3), MULTIPLE)
                       : 4 * config->n_embd;
    return (struct gpt_sizes){
        .heads = config->n_head,
        .kv_heads = config->n_kv_head ? config->n_kv_head : config->n_head,
        .head = config->head_size ? config->head_size : config->n_embd / config->n_head,
        .inner = config->n_inner ? config->n_inner : inner,
    };
}

/* Of a layer of n to m; as doubles, so that nothing can overflow before it is found too large. */
static double count_linear(double n, double m, bool has_bias)
{
    return n * m + (has_bias ? m : 0);
}

static double count_parameters(const struct qn_lm_config *config)
{
    if (config->architecture == QN_RECURRENT)
        return recurrent_count_parameters(config);
    struct gpt_sizes sizes = gpt_sizes(config);
    bool is_gpt2 = config->architecture == QN_GPT2;
    bool attention_bias = is_gpt2 || config->attention_bias, mlp_bias = is_gpt2 || config->mlp_bias;
    double width = (double)config->n_embd, inner = (double)sizes.inner;
    double queries = (double)sizes.heads * (double)sizes.head,
           keys = (double)sizes.kv_heads * (double)sizes.head;
    double norm = is_gpt2 ? 2 * width : width;
    double attention = count_linear(width, queries, attention_bias) +
                       2 * count_linear(width, keys, attention_bias) +
                       count_linear(queries, width, attention_bias);
    double mlp = (is_gpt2 ? 1 : 2) * count_linear(width, inner, mlp_bias) +
                 count_linear(inner, width, mlp_bias);
    double embedding = (double)config->vocab_size * width;
    double positions = is_gpt2 ? (double)config->n_positions * width : 0;
    return embedding * (config->tie_word_embeddings ? 1 : 2) + positions +
           (double)config->n_layer * (2 * norm + attention + mlp) + norm;
}

uint64_t qn_lm_config_parameters(const struct qn_lm_config *config)
{
    return (uint64_t)count_parameters(config);
}

/* ---- Comparing ---- */

static bool rotary_differs(const struct qn_rotary *a, const struct qn_rotary *b)
{
    return a->theta != b->theta || a->size != b->size || a->is_interleaved != b->is_interleaved ||
           a->scaling.factor != b->scaling.factor || a->scaling.low != b->scaling.low ||
           a->scaling.high != b->scaling.high || a->scaling.length != b->scaling.length;
}

const char *qn_lm_config_difference(const struct qn_lm_config *a, const struct qn_lm_config *b)
{
    struct gpt_sizes of_a = gpt_sizes(a), of_b = gpt_sizes(b);
    const struct {
        const char *key;
        bool differs;
    } keys[] = {
        {"model_type", a->architecture != b->architecture || a->cell != b->cell},
        {"vocab_size", a->vocab_size != b->vocab_size},
        {"n_positions", a->n_positions != b->n_positions},
        {"n_embd", a->n_embd != b->n_embd},
        {"n_layer", a->n_layer != b->n_layer},
        {"n_head", a->n_head != b->n_head},
        {"num_key_value_heads", of_a.kv_heads != of_b.kv_heads},
        {"head_dim", of_a.head != of_b.head},
        {"hidden_size", a->hidden_size != b->hidden_size},
        {"n_inner", of_a.inner != of_b.inner},
        {"activation_function", a->activation != b->activation},
        {"layer_norm_epsilon", a->layer_norm_epsilon != b->layer_norm_epsilon},
        {"rope_theta", rotary_differs(&a->rotary, &b->rotary)},
        {"attention_bias", a->attention_bias != b->attention_bias},
        {"mlp_bias", a->mlp_bias != b->mlp_bias},
        {"embd_pdrop", a->embd_pdrop != b->embd_pdrop},
        {"resid_pdrop", a->resid_pdrop != b->resid_pdrop},
        {"attn_pdrop", a->attn_pdrop != b->attn_pdrop},
        {"tie_word_embeddings", a->tie_word_embeddings != b->tie_word_embeddings},
        {"bos_token_id", a->bos_token_id != b->bos_token_id},
        {"eos_token_id", a->eos_token_id != b->eos_token_id},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].differs)
            return keys[i].key;
    return NULL;
}

/* ---- Checking ---- */

int qn_lm_config_check(qn_context *context, const char *where, const struct qn_lm_config *config)
{
    if (config->architecture == QN_RECURRENT)
        return recurrent_config_check(context, where, config);
    const struct size_bounds bounds[] = {
        {"vocab_size", config->vocab_size, 1, MAX_SIZE},
        {"n_positions (context)", config->n_positions, 1, MAX_SIZE},
        {"n_embd (width)", config->n_embd, 1, 1 << 20},
        {"n_layer (layers)", config->n_layer, 1, 4096},
        {"n_head (heads)", config->n_head, 1, 4096},
        {"n_inner", config->n_inner, 0, 1 << 22},
        {"num_key_value_heads", config->n_kv_head, 0, 4096},
        {"head_dim", config->head_size, 0, 1 << 20},
    };
    const double dropouts[] = {config->embd_pdrop, config->resid_pdrop, config->attn_pdrop};
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status == QN_OK && config->head_size == 0 && config->n_embd % config->n_head != 0)
        status = context_fail(context, QN_ERROR_INVALID,
                              "%s: the width %zu (n_embd) must be a multiple of the %zu heads "
                              "(n_head)",
                              where, config->n_embd, config->n_head);
    if (status == QN_OK)
        status = config_check_dropout(context, where, dropouts, 3);
    if (status == QN_OK)
        status = config_check_epsilon(context, where, config->layer_norm_epsilon);
    if (status == QN_OK)
        status = config->architecture == QN_LLAMA ? llama_config_check(context, where, config)
                                                  : gpt2_config_check(context, where, config);
    return status == QN_OK ? config_check_parameters(context, where, count_parameters(config))
                           : status;
}

/* ---- Files ---- */

static const struct {
    const char *model_type;
    void (*read)(struct fields *fields, struct qn_lm_config *config);
    json_t *(*json)(const struct qn_lm_config *config);
} architectures[] = {
    [QN_GPT2] = {"gpt2", gpt2_config_read, gpt2_config_json},
    [QN_LLAMA] = {"llama", llama_config_read, llama_config_json},
    [QN_RECURRENT] = {"lstm", recurrent_config_read, recurrent_config_json},
    {"gru", recurrent_config_read, recurrent_config_json},
    {"rnn", recurrent_config_read, recurrent_config_json},
};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

int qn_lm_config_read(qn_context *context, const char *path, struct qn_lm_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    json_t *json = json_file_read(context, path, MAX_CONFIG_BYTES);
    if (!json)
        return QN_ERROR_FORMAT;
    struct fields fields = fields_of(context, path, json);
    const char *type = fields_string(&fields, "model_type");
    size_t i = 0;
    while (!fields.failed && i < ARCHITECTURES && strcmp(type, architectures[i].model_type) != 0)
        i++;
    char quoted[QUOTED];
    if (i == ARCHITECTURES)
        fields_fail(&fields, "model_type",
                    "expected \"gpt2\", \"llama\", \"rnn\", \"lstm\" or \"gru\", found %s",
                    quote_string(quoted, type));
    if (!fields.failed)
        architectures[i].read(&fields, config);
    json_decref(json);
    return fields.failed ? QN_ERROR_FORMAT : qn_lm_config_check(context, path, config);
}

int qn_lm_config_write(qn_context *context, const char *path, const struct qn_lm_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    int status = qn_lm_config_check(context, path, config);
    if (status != QN_OK)
        return status;
    json_t *json = architectures[config->architecture].json(config);
    status = json_file_write(context, path, json);
    json_decref(json);
    return status;
}

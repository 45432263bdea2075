/* Configurations of decoders, and config.json of GPT-2's family, with Hugging Face's keys. */
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

static int check_gpt2(qn_context *context, const char *where, const struct qn_lm_config *config)
{
    if (config->activation == QN_NO_ACTIVATION)
        return context_fail(context, QN_ERROR_INVALID, "%s: expected GELU or ReLU as activation",
                            where);
    if (config->n_kv_head || config->head_size || config->attention_bias || config->mlp_bias)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: n_kv_head, head_size and the biases are Llama's; GPT-2 has no "
                            "choice there",
                            where);
    return QN_OK;
}

static int check_llama(qn_context *context, const char *where, const struct qn_lm_config *config)
{
    struct gpt_sizes sizes = gpt_sizes(config);
    const struct qn_rotary *rotary = &config->rotary;
    const struct qn_rotary_scaling *scaling = &rotary->scaling;
    if (sizes.heads % sizes.kv_heads != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: the %zu heads (num_attention_heads) must be a multiple of the %zu "
                            "heads of keys and values (num_key_value_heads)",
                            where, sizes.heads, sizes.kv_heads);
    if (sizes.head % 2 != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: heads of %zu numbers: rotary positions turn pairs of them, so it "
                            "must be even",
                            where, sizes.head);
    if (rotary->size != 0 || rotary->is_interleaved)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: rotary positions of Llama turn all of a head, its first half with "
                            "the second: leave size and is_interleaved 0",
                            where);
    if (rotary->theta < 0 || !isfinite(rotary->theta))
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: rope_theta: expected a number above 0, found %g", where,
                            rotary->theta);
    bool is_scaling = scaling->factor > 0 && scaling->length > 0 && scaling->low >= 0 &&
                      scaling->high > scaling->low;
    if (scaling->factor != 0 && !is_scaling)
        return context_fail(
            context, QN_ERROR_INVALID,
            "%s: rope_scaling: expected a factor and original_max_position_embeddings above 0, and "
            "low_freq_factor below high_freq_factor, found %g, %g, %g, %g",
            where, scaling->factor, scaling->length, scaling->low, scaling->high);
    return QN_OK;
}

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
        status = config->architecture == QN_LLAMA ? check_llama(context, where, config)
                                                  : check_gpt2(context, where, config);
    return status == QN_OK ? config_check_parameters(context, where, count_parameters(config))
                           : status;
}

/* ---- Files ---- */

static void gpt2_config_read(struct fields *fields, struct qn_lm_config *config)
{
    static const struct config_switch switches[] = {{"scale_attn_weights", true},
                                                    {"scale_attn_by_inverse_layer_idx", false},
                                                    {"reorder_and_upcast_attn", false},
                                                    {"add_cross_attention", false}};
    const char *context_key =
        json_object_get(fields->object, "n_positions") ? "n_positions" : "n_ctx"; /* older files */
    *config = (struct qn_lm_config){.architecture = QN_GPT2};
    config->vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->n_positions = (size_t)fields_integer(fields, context_key, 1, MAX_SIZE);
    config->n_embd = (size_t)fields_integer(fields, "n_embd", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(fields, "n_layer", 1, MAX_SIZE);
    config->n_head = (size_t)fields_integer(fields, "n_head", 1, MAX_SIZE);
    config->n_inner = (size_t)fields_integer_or(fields, "n_inner", 1, MAX_SIZE, 0);
    config->layer_norm_epsilon = fields_number_or(fields, "layer_norm_epsilon", 0, 1, 1e-5);
    /* Where a key is missing, the value is that of the library the file is for. */
    config->embd_pdrop = fields_number_or(fields, "embd_pdrop", 0, 1, 0.1);
    config->resid_pdrop = fields_number_or(fields, "resid_pdrop", 0, 1, 0.1);
    config->attn_pdrop = fields_number_or(fields, "attn_pdrop", 0, 1, 0.1);
    config->tie_word_embeddings = fields_bool_or(fields, "tie_word_embeddings", true);
    config->bos_token_id = config_token_id(fields, "bos_token_id");
    config->eos_token_id = config_token_id(fields, "eos_token_id");
    config->activation = config_activation(fields, "activation_function", "gelu_new");
    config_refuse_switches(fields, switches, sizeof switches / sizeof *switches);
}

static json_t *gpt2_config_json(const struct qn_lm_config *config)
{
    /* clang-format off */
    return json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:f, s:f, s:f, s:f, s:b, s:o, s:o}",
        "model_type", "gpt2",
        "architectures", "GPT2LMHeadModel",
        "torch_dtype", "float32",
        "vocab_size", (json_int_t)config->vocab_size,
        "n_positions", (json_int_t)config->n_positions,
        "n_embd", (json_int_t)config->n_embd,
        "n_layer", (json_int_t)config->n_layer,
        "n_head", (json_int_t)config->n_head,
        "n_inner", config_size_or_null(config->n_inner),
        "activation_function", config_activation_name(config->activation),
        "layer_norm_epsilon", config->layer_norm_epsilon,
        "embd_pdrop", config->embd_pdrop,
        "resid_pdrop", config->resid_pdrop,
        "attn_pdrop", config->attn_pdrop,
        "tie_word_embeddings", (int)config->tie_word_embeddings,
        "bos_token_id", config_id_or_null(config->bos_token_id),
        "eos_token_id", config_id_or_null(config->eos_token_id));
    /* clang-format on */
}

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

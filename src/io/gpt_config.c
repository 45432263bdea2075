/* config.json of models of GPT-2's family, with Hugging Face's keys. */
#include <quern/io.h>

#include <math.h>
#include <string.h>

#include "io/fields.h"
#include "io/file.h"

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_SIZE = 1 << 24 };

/* A model of ten trillion parameters is a mistake in typing, or a hostile file. */
static const double max_parameters = 1e13;

/* Names in the file; the first of an activation is the one written. */
static const struct {
    const char *name;
    enum qn_activation activation;
} activations[] = {
    {"gelu_new", QN_GELU},
    {"gelu_pytorch_tanh", QN_GELU}, /* the same formula */
    {"relu", QN_RELU},
};

static size_t inner_width(const struct qn_gpt_config *config)
{
    return config->n_inner ? config->n_inner : 4 * config->n_embd;
}

/* As a double, so that it cannot overflow before it is found too large. */
static double count_parameters(const struct qn_gpt_config *config)
{
    double width = (double)config->n_embd, inner = (double)inner_width(config);
    double norm = 2 * width;
    double attention = 4 * width * width + 4 * width;
    double feed_forward = 2 * width * inner + inner + width;
    double layer = 2 * norm + attention + feed_forward;
    double embedding = (double)config->vocab_size * width;
    return embedding * (config->tie_word_embeddings ? 1 : 2) + (double)config->n_positions * width +
           (double)config->n_layer * layer + norm;
}

uint64_t qn_gpt_config_parameters(const struct qn_gpt_config *config)
{
    return (uint64_t)count_parameters(config);
}

const char *qn_gpt_config_difference(const struct qn_gpt_config *a, const struct qn_gpt_config *b)
{
    const struct {
        const char *key;
        bool differs;
    } keys[] = {
        {"vocab_size", a->vocab_size != b->vocab_size},
        {"n_positions", a->n_positions != b->n_positions},
        {"n_embd", a->n_embd != b->n_embd},
        {"n_layer", a->n_layer != b->n_layer},
        {"n_head", a->n_head != b->n_head},
        {"n_inner", inner_width(a) != inner_width(b)},
        {"activation_function", a->activation != b->activation},
        {"layer_norm_epsilon", a->layer_norm_epsilon != b->layer_norm_epsilon},
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

static bool is_probability(double p)
{
    return p >= 0 && p < 1; /* false for NaN */
}

int qn_gpt_config_check(qn_context *context, const char *where, const struct qn_gpt_config *config)
{
    const struct {
        const char *name;
        size_t value, least, most;
    } sizes[] = {
        {"vocab_size", config->vocab_size, 1, MAX_SIZE},
        {"n_positions (context)", config->n_positions, 1, MAX_SIZE},
        {"n_embd (width)", config->n_embd, 1, 1 << 20},
        {"n_layer (layers)", config->n_layer, 1, 4096},
        {"n_head (heads)", config->n_head, 1, 4096},
        {"n_inner", config->n_inner, 0, 1 << 22},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most)
            return context_fail(context, QN_ERROR_INVALID, "%s: %s: expected %zu to %zu, found %zu",
                                where, sizes[i].name, sizes[i].least, sizes[i].most,
                                sizes[i].value);
    if (config->n_embd % config->n_head != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: the width %zu (n_embd) must be a multiple of the %zu heads "
                            "(n_head)",
                            where, config->n_embd, config->n_head);
    if (!is_probability(config->embd_pdrop) || !is_probability(config->resid_pdrop) ||
        !is_probability(config->attn_pdrop))
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: dropout: expected numbers from 0 to less than 1, found %g, %g, %g",
                            where, config->embd_pdrop, config->resid_pdrop, config->attn_pdrop);
    if (!(config->layer_norm_epsilon > 0 && config->layer_norm_epsilon < 1))
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: layer_norm_epsilon: expected more than 0 and less than 1, found "
                            "%g",
                            where, config->layer_norm_epsilon);
    if (config->activation != QN_GELU && config->activation != QN_RELU)
        return context_fail(context, QN_ERROR_INVALID, "%s: expected GELU or ReLU as activation",
                            where);
    double parameters = count_parameters(config);
    if (parameters > max_parameters)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: such a model would have %.3g parameters, %.3g bytes", where,
                            parameters, 4 * parameters);
    return QN_OK;
}

/* What Quern has no code for, and would compute wrongly. */
static void refuse_unsupported(struct fields *fields)
{
    static const struct {
        const char *key;
        bool supported;
    } switches[] = {{"scale_attn_weights", true},
                    {"scale_attn_by_inverse_layer_idx", false},
                    {"reorder_and_upcast_attn", false},
                    {"add_cross_attention", false}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (fields_bool_or(fields, switches[i].key, switches[i].supported) != switches[i].supported)
            fields_fail(fields, switches[i].key, "only %s is supported",
                        switches[i].supported ? "true" : "false");
}

static void read_activation(struct fields *fields, struct qn_gpt_config *config)
{
    const char *name = fields_string_or(fields, "activation_function", "gelu_new");
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (strcmp(activations[i].name, name) == 0) {
            config->activation = activations[i].activation;
            return;
        }
    char quoted[QUOTED];
    fields_fail(fields, "activation_function",
                "expected \"gelu_new\", \"gelu_pytorch_tanh\" or \"relu\", found %s",
                quote_string(quoted, name));
}

/* A token id, null, or (eos only) a list, of which the first counts. */
static int32_t read_token_id(struct fields *fields, const char *key)
{
    const json_t *value = json_object_get(fields->object, key);
    if (json_is_array(value)) {
        value = json_array_get(value, 0);
        if (json_is_integer(value) && json_integer_value(value) >= 0 &&
            json_integer_value(value) <= INT32_MAX)
            return (int32_t)json_integer_value(value);
    }
    return (int32_t)fields_integer_or(fields, key, -1, INT32_MAX, -1);
}

int qn_gpt_config_read(qn_context *context, const char *path, struct qn_gpt_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    json_t *json = json_file_read(context, path, MAX_CONFIG_BYTES);
    if (!json)
        return QN_ERROR_FORMAT;
    struct fields fields = fields_of(context, path, json);
    const char *model_type = fields_string(&fields, "model_type");
    if (!fields.failed && strcmp(model_type, "gpt2") != 0) {
        char quoted[QUOTED];
        fields_fail(&fields, "model_type", "expected \"gpt2\", found %s",
                    quote_string(quoted, model_type));
    }
    *config = (struct qn_gpt_config){0};
    config->vocab_size = (size_t)fields_integer(&fields, "vocab_size", 1, MAX_SIZE);
    const char *context_key =
        json_object_get(json, "n_positions") ? "n_positions" : "n_ctx"; /* in older files */
    config->n_positions = (size_t)fields_integer(&fields, context_key, 1, MAX_SIZE);
    config->n_embd = (size_t)fields_integer(&fields, "n_embd", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(&fields, "n_layer", 1, MAX_SIZE);
    config->n_head = (size_t)fields_integer(&fields, "n_head", 1, MAX_SIZE);
    config->n_inner = (size_t)fields_integer_or(&fields, "n_inner", 1, MAX_SIZE, 0);
    config->layer_norm_epsilon = fields_number_or(&fields, "layer_norm_epsilon", 0, 1, 1e-5);
    /* Where a key is missing, the value is that of the library the file is for. */
    config->embd_pdrop = fields_number_or(&fields, "embd_pdrop", 0, 1, 0.1);
    config->resid_pdrop = fields_number_or(&fields, "resid_pdrop", 0, 1, 0.1);
    config->attn_pdrop = fields_number_or(&fields, "attn_pdrop", 0, 1, 0.1);
    config->tie_word_embeddings = fields_bool_or(&fields, "tie_word_embeddings", true);
    config->bos_token_id = read_token_id(&fields, "bos_token_id");
    config->eos_token_id = read_token_id(&fields, "eos_token_id");
    read_activation(&fields, config);
    refuse_unsupported(&fields);
    json_decref(json);
    return fields.failed ? QN_ERROR_FORMAT : qn_gpt_config_check(context, path, config);
}

static json_t *size_or_null(size_t size)
{
    return size ? json_integer((json_int_t)size) : json_null();
}

static json_t *id_or_null(int32_t id)
{
    return id >= 0 ? json_integer(id) : json_null();
}

int qn_gpt_config_write(qn_context *context, const char *path, const struct qn_gpt_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    int status = qn_gpt_config_check(context, path, config);
    if (status != QN_OK)
        return status;
    const char *activation = NULL;
    for (size_t i = 0; !activation; i++)
        if (activations[i].activation == config->activation)
            activation = activations[i].name;
    /* clang-format off */
    json_t *json = json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:f, s:f, s:f, s:f, s:b, s:o, s:o}",
        "model_type", "gpt2",
        "architectures", "GPT2LMHeadModel",
        "torch_dtype", "float32",
        "vocab_size", (json_int_t)config->vocab_size,
        "n_positions", (json_int_t)config->n_positions,
        "n_embd", (json_int_t)config->n_embd,
        "n_layer", (json_int_t)config->n_layer,
        "n_head", (json_int_t)config->n_head,
        "n_inner", size_or_null(config->n_inner),
        "activation_function", activation,
        "layer_norm_epsilon", config->layer_norm_epsilon,
        "embd_pdrop", config->embd_pdrop,
        "resid_pdrop", config->resid_pdrop,
        "attn_pdrop", config->attn_pdrop,
        "tie_word_embeddings", (int)config->tie_word_embeddings,
        "bos_token_id", id_or_null(config->bos_token_id),
        "eos_token_id", id_or_null(config->eos_token_id));
    /* clang-format on */
    status = json_file_write(context, path, json);
    json_decref(json);
    return status;
}

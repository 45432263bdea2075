/* config.json of GPT-2's family, with Hugging Face's keys. */
#include "io/config.h"

int gpt2_config_check(qn_context *context, const char *where, const struct qn_lm_config *config)
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

void gpt2_config_read(struct fields *fields, struct qn_lm_config *config)
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

json_t *gpt2_config_json(const struct qn_lm_config *config)
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

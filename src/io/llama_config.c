/* config.json of Llama and models like it, with Hugging Face's keys. */
#include "io/config.h"

#include <math.h>
#include <string.h>

#include "io/file.h"

/* ---- Rotary positions ----
 *
 * Newer files have {"rope_parameters": {"rope_type": ..., "rope_theta": ..., ...}}; older ones, and those written here,
 * which newer programs read too, rope_theta beside {"rope_scaling": null or {"rope_type" or "type": ..., ...}}. */

static void read_scaling(struct fields *rope, struct qn_rotary_scaling *scaling)
{
    const double most = 1e9;
    const char *key = json_object_get(rope->object, "rope_type") ? "rope_type" : "type";
    const char *type = fields_string_or(rope, key, "default");
    char quoted[QUOTED];
    if (strcmp(type, "default") == 0)
        return;
    if (strcmp(type, "llama3") != 0) {
        fields_fail(rope, key, "expected \"default\" or \"llama3\", found %s",
                    quote_string(quoted, type));
        return;
    }
    *scaling = (struct qn_rotary_scaling){
        .factor = fields_number(rope, "factor", 1, most),
        .low = fields_number(rope, "low_freq_factor", 0, most),
        .high = fields_number(rope, "high_freq_factor", 0, most),
        .length = (double)fields_integer(rope, "original_max_position_embeddings", 1, MAX_SIZE)};
}

static void read_rotary(struct fields *fields, struct qn_rotary *rotary)
{
    const double most = 1e12;
    bool is_new = json_object_get(fields->object, "rope_parameters") != NULL;
    struct fields rope = fields_object_or_null(fields, is_new ? "rope_parameters" : "rope_scaling");
    rotary->theta = fields_number_or(is_new ? &rope : fields, "rope_theta", 1e-6, most, 10000);
    read_scaling(&rope, &rotary->scaling);
    if (fields_number_or(&rope, "partial_rotary_factor", 0, 1, 1) != 1)
        fields_fail(&rope, "partial_rotary_factor", "only 1 is supported");
}

static json_t *scaling_json(const struct qn_rotary_scaling *scaling)
{
    if (scaling->factor == 0)
        return json_null();
    /* clang-format off */
    return json_pack("{s:s, s:f, s:f, s:f, s:I}",
        "rope_type", "llama3",
        "factor", scaling->factor,
        "low_freq_factor", scaling->low,
        "high_freq_factor", scaling->high,
        "original_max_position_embeddings", (json_int_t)scaling->length);
    /* clang-format on */
}

/* ---- Checking ---- */

int llama_config_check(qn_context *context, const char *where, const struct qn_lm_config *config)
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

/* ---- All ---- */

void llama_config_read(struct fields *fields, struct qn_lm_config *config)
{
    *config = (struct qn_lm_config){.architecture = QN_LLAMA};
    config->vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->n_positions = (size_t)fields_integer(fields, "max_position_embeddings", 1, MAX_SIZE);
    config->n_embd = (size_t)fields_integer(fields, "hidden_size", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(fields, "num_hidden_layers", 1, MAX_SIZE);
    config->n_head = (size_t)fields_integer(fields, "num_attention_heads", 1, MAX_SIZE);
    config->n_kv_head = (size_t)fields_integer_or(fields, "num_key_value_heads", 1, MAX_SIZE, 0);
    config->head_size = (size_t)fields_integer_or(fields, "head_dim", 1, MAX_SIZE, 0);
    config->n_inner = (size_t)fields_integer(fields, "intermediate_size", 1, MAX_SIZE);
    config->layer_norm_epsilon = fields_number_or(fields, "rms_norm_eps", 0, 1, 1e-6);
    config->embd_pdrop = fields_number_or(fields, "embd_pdrop", 0, 1, 0);
    config->resid_pdrop = fields_number_or(fields, "resid_pdrop", 0, 1, 0);
    config->attn_pdrop = fields_number_or(fields, "attention_dropout", 0, 1, 0);
    config->attention_bias = fields_bool_or(fields, "attention_bias", false);
    config->mlp_bias = fields_bool_or(fields, "mlp_bias", false);
    config->tie_word_embeddings = fields_bool_or(fields, "tie_word_embeddings", false);
    config->bos_token_id = config_token_id(fields, "bos_token_id");
    config->eos_token_id = config_token_id(fields, "eos_token_id");
    read_rotary(fields, &config->rotary);
    const char *activation = fields_string_or(fields, "hidden_act", "silu");
    char quoted[QUOTED];
    if (strcmp(activation, "silu") != 0)
        fields_fail(fields, "hidden_act", "expected \"silu\", found %s",
                    quote_string(quoted, activation));
}

json_t *llama_config_json(const struct qn_lm_config *config)
{
    struct gpt_sizes sizes = gpt_sizes(config);
    double theta = config->rotary.theta != 0 ? config->rotary.theta : 10000;
    /* clang-format off */
    return json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:o, s:f, s:f, "
        "s:f, s:b, s:b, s:b, s:o, s:o}",
        "model_type", "llama",
        "architectures", "LlamaForCausalLM",
        "torch_dtype", "float32",
        "vocab_size", (json_int_t)config->vocab_size,
        "max_position_embeddings", (json_int_t)config->n_positions,
        "hidden_size", (json_int_t)config->n_embd,
        "num_hidden_layers", (json_int_t)config->n_layer,
        "num_attention_heads", (json_int_t)sizes.heads,
        "num_key_value_heads", (json_int_t)sizes.kv_heads,
        "head_dim", (json_int_t)sizes.head,
        "intermediate_size", (json_int_t)sizes.inner,
        "hidden_act", "silu",
        "rms_norm_eps", config->layer_norm_epsilon,
        "rope_theta", theta,
        "rope_scaling", scaling_json(&config->rotary.scaling),
        "embd_pdrop", config->embd_pdrop,
        "resid_pdrop", config->resid_pdrop,
        "attention_dropout", config->attn_pdrop,
        "attention_bias", (int)config->attention_bias,
        "mlp_bias", (int)config->mlp_bias,
        "tie_word_embeddings", (int)config->tie_word_embeddings,
        "bos_token_id", config_id_or_null(config->bos_token_id),
        "eos_token_id", config_id_or_null(config->eos_token_id));
    /* clang-format on */
}

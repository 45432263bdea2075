/* config.json of Marian, with Hugging Face's keys. */
#include "io/config.h"

/* Of a layer of n to m. */
static double count_linear(double n, double m)
{
    return n * m + m;
}

double transformer_count_layers(const struct qn_seq2seq_config *config)
{
    double width = (double)config->width, norm = 2 * width,
           attention = 4 * count_linear(width, width);
    double inner = (double)config->encoder_inner, decoder_inner = (double)config->decoder_inner;
    double encoder = attention + count_linear(width, inner) + count_linear(inner, width) + 2 * norm;
    double decoder = 2 * attention + count_linear(width, decoder_inner) +
                     count_linear(decoder_inner, width) + 3 * norm;
    return (double)config->encoder_layers * encoder + (double)config->decoder_layers * decoder;
}

static double parameters(const struct qn_seq2seq_config *config)
{
    double width = (double)config->width, source = (double)config->source_vocab_size,
           target = (double)config->target_vocab_size;
    return (config->shares_embeddings ? target : source + target) * width +
           transformer_count_layers(config) + target * (config->ties_head ? 1 : 1 + width);
}

int transformer_config_check(qn_context *context, const char *where,
                             const struct qn_seq2seq_config *config)
{
    const struct size_bounds bounds[] = {
        {"d_model (width)", config->width, 1, 1 << 20},
        {"encoder_layers", config->encoder_layers, 1, 4096},
        {"decoder_layers", config->decoder_layers, 1, 4096},
        {"encoder_attention_heads", config->encoder_heads, 1, 4096},
        {"decoder_attention_heads", config->decoder_heads, 1, 4096},
        {"encoder_ffn_dim", config->encoder_inner, 1, 1 << 22},
        {"decoder_ffn_dim", config->decoder_inner, 1, 1 << 22},
    };
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status != QN_OK)
        return status;
    if (config->width % config->encoder_heads != 0 || config->width % config->decoder_heads != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: the width %zu (d_model) must be a multiple of the %zu heads of "
                            "the encoder and the %zu of the decoder",
                            where, config->width, config->encoder_heads, config->decoder_heads);
    if (config->positions != QN_LEARNED && config->width % 2 != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: the width %zu (d_model): sinusoidal positions are as many sines "
                            "as cosines, so it must be even",
                            where, config->width);
    if (config->activation == QN_NO_ACTIVATION)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: expected ReLU, GELU or swish as activation", where);
    return QN_OK;
}

static int check(qn_context *context, const char *where, const struct qn_seq2seq_config *config)
{
    if (config->is_pre_norm || config->positions != QN_SINUSOIDAL_HALVES)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: Marian has its norms behind, and sinusoidal positions of which "
                            "all sines come first: the model \"transformer\" has a choice there",
                            where);
    /* transformers ties the embeddings of both sides only with the head: it would look for three. */
    if (config->shares_embeddings && !config->ties_head)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: share_encoder_decoder_embeddings needs tie_word_embeddings: "
                            "without it nothing is shared",
                            where);
    return transformer_config_check(context, where, config);
}

/* "bad_words_ids": [[pad_token_id]], or nothing. */
static void read_bad_words(struct fields *fields, struct qn_seq2seq_config *config)
{
    const json_t *words = fields_array_or_null(fields, "bad_words_ids"),
                 *word = json_array_get(words, 0), *id = json_array_get(word, 0);
    if (json_array_size(words) == 0)
        return;
    config->forbids_padding = json_array_size(words) == 1 && json_array_size(word) == 1 &&
                              json_is_integer(id) && config->pad_token_id >= 0 &&
                              json_integer_value(id) == config->pad_token_id;
    if (!config->forbids_padding)
        fields_fail(fields, "bad_words_ids",
                    "expected [[%d]], the pad_token_id alone: no others are supported",
                    config->pad_token_id);
}

static void read_forced_end(struct fields *fields, struct qn_seq2seq_config *config)
{
    int32_t forced = config_token_id(fields, "forced_eos_token_id");
    config->forces_end = forced >= 0;
    if (forced >= 0 && forced != config->eos_token_id)
        fields_fail(fields, "forced_eos_token_id",
                    "expected null or %d, the eos_token_id, found %d", config->eos_token_id,
                    forced);
}

/* An id that stands in generation_config.json, too, must be config.json's: one of them would be wrong. */
static void expect_id(struct fields *fields, const char *key, int32_t id)
{
    const json_t *value = json_object_get(fields->object, key);
    bool is_known = value && !json_is_null(value);
    if (is_known && (json_array_size(value) > 1 || config_token_id(fields, key) != id))
        fields_fail(fields, key, "expected %d alone, as config.json has it", id);
}

static void read_generation(struct fields *fields, struct qn_seq2seq_config *config)
{
    expect_id(fields, "eos_token_id", config->eos_token_id);
    expect_id(fields, "decoder_start_token_id", config->start_token_id);
    config->forbids_padding = false;
    read_bad_words(fields, config);
    read_forced_end(fields, config);
}

static void read(struct fields *fields, struct qn_seq2seq_config *config)
{
    static const struct config_switch switches[] = {
        {"static_position_embeddings", true}, {"normalize_before", false},
        {"normalize_embedding", false},       {"add_final_layer_norm", false},
        {"is_encoder_decoder", true},         {"is_decoder", false}};
    *config =
        (struct qn_seq2seq_config){.architecture = QN_MARIAN, .positions = QN_SINUSOIDAL_HALVES};
    config->source_vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->target_vocab_size = (size_t)fields_integer_or(fields, "decoder_vocab_size", 1, MAX_SIZE,
                                                          (int64_t)config->source_vocab_size);
    config->n_positions = (size_t)fields_integer(fields, "max_position_embeddings", 1, MAX_SIZE);
    config->width = (size_t)fields_integer(fields, "d_model", 1, MAX_SIZE);
    config->encoder_layers = (size_t)fields_integer(fields, "encoder_layers", 1, MAX_SIZE);
    config->decoder_layers = (size_t)fields_integer(fields, "decoder_layers", 1, MAX_SIZE);
    config->encoder_heads = (size_t)fields_integer(fields, "encoder_attention_heads", 1, MAX_SIZE);
    config->decoder_heads = (size_t)fields_integer(fields, "decoder_attention_heads", 1, MAX_SIZE);
    config->encoder_inner = (size_t)fields_integer(fields, "encoder_ffn_dim", 1, MAX_SIZE);
    config->decoder_inner = (size_t)fields_integer(fields, "decoder_ffn_dim", 1, MAX_SIZE);
    /* Where a key is missing, the value is that of the library the file is for. */
    config->dropout = fields_number_or(fields, "dropout", 0, 1, 0.1);
    config->attention_dropout = fields_number_or(fields, "attention_dropout", 0, 1, 0);
    config->activation_dropout = fields_number_or(fields, "activation_dropout", 0, 1, 0);
    config->activation = config_activation(fields, "activation_function", "gelu");
    config->scales_embedding = fields_bool_or(fields, "scale_embedding", false);
    config->shares_embeddings = fields_bool_or(fields, "share_encoder_decoder_embeddings", true);
    config->ties_head = fields_bool_or(fields, "tie_word_embeddings", true);
    config->pad_token_id = (int32_t)fields_integer_or(fields, "pad_token_id", -1, INT32_MAX, -1);
    config->start_token_id =
        (int32_t)fields_integer(fields, "decoder_start_token_id", 0, INT32_MAX);
    config->eos_token_id = config_token_id(fields, "eos_token_id");
    config_refuse_switches(fields, switches, sizeof switches / sizeof *switches);
    read_bad_words(fields, config);
    read_forced_end(fields, config);
    if (!json_object_get(fields->object, "forced_eos_token_id"))
        config->forces_end = config->eos_token_id == 0;
}

static json_t *json(const struct qn_seq2seq_config *config)
{
    json_t *bad_words =
        config->forbids_padding ? json_pack("[[i]]", (int)config->pad_token_id) : json_null();
    /* clang-format off */
    return json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:b, s:b, s:b, "
        "s:b, s:o, s:I, s:o, s:n, s:o, s:o}",
        "model_type", marian_family.model_type,
        "architectures", "MarianMTModel",
        "torch_dtype", "float32",
        "vocab_size", (json_int_t)config->source_vocab_size,
        "decoder_vocab_size", (json_int_t)config->target_vocab_size,
        "max_position_embeddings", (json_int_t)config->n_positions,
        "d_model", (json_int_t)config->width,
        "encoder_layers", (json_int_t)config->encoder_layers,
        "decoder_layers", (json_int_t)config->decoder_layers,
        "encoder_attention_heads", (json_int_t)config->encoder_heads,
        "decoder_attention_heads", (json_int_t)config->decoder_heads,
        "encoder_ffn_dim", (json_int_t)config->encoder_inner,
        "decoder_ffn_dim", (json_int_t)config->decoder_inner,
        "activation_function", config_activation_name(config->activation),
        "dropout", config->dropout,
        "attention_dropout", config->attention_dropout,
        "activation_dropout", config->activation_dropout,
        "scale_embedding", (int)config->scales_embedding,
        "is_encoder_decoder", 1,
        "share_encoder_decoder_embeddings", (int)config->shares_embeddings,
        "tie_word_embeddings", (int)config->ties_head,
        "pad_token_id", config_id_or_null(config->pad_token_id),
        "decoder_start_token_id", (json_int_t)config->start_token_id,
        "eos_token_id", config_id_or_null(config->eos_token_id),
        "bos_token_id",
        "forced_eos_token_id", config_id_or_null(config->forces_end ? config->eos_token_id : -1),
        "bad_words_ids", bad_words);
    /* clang-format on */
}

const struct seq2seq_family marian_family = {"marian", parameters, check,
                                             read,     json,       read_generation};

/* config.json of encoder-decoders with the layout of torch.nn.Transformer, which are Quern's own, Hugging Face having no class for them:
 *
 *     {"model_type": "transformer", "src_vocab_size": 6000, "tgt_vocab_size": 6000, "d_model": 256, "nhead": 4,
 *      "num_encoder_layers": 3, "num_decoder_layers": 3, "dim_feedforward": 512, "activation": "relu", "norm_first": true,
 *      "positions": "sinusoidal", "scale_embedding": true, "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0,
 *      "max_positions": 128, "share_embeddings": true, "tie_word_embeddings": true, "pad_token_id": 0,
 *      "decoder_start_token_id": 1, "eos_token_id": 2}
 *
 * "positions" is "sinusoidal" (sines and cosines in turns), "sinusoidal_halves" (Marian's) or "learned". */
#include "io/config.h"

static const char *const positions[] = {[QN_SINUSOIDAL] = "sinusoidal",
                                        [QN_SINUSOIDAL_HALVES] = "sinusoidal_halves",
                                        [QN_LEARNED] = "learned"};
enum { POSITIONS = sizeof positions / sizeof *positions };

static double parameters(const struct qn_seq2seq_config *config)
{
    double width = (double)config->width, source = (double)config->source_vocab_size,
           target = (double)config->target_vocab_size;
    double embeddings = (config->shares_embeddings ? target : source + target) * width;
    if (config->positions == QN_LEARNED)
        embeddings += 2 * (double)config->n_positions * width;
    return embeddings + transformer_count_layers(config) + 4 * width +
           target * (config->ties_head ? 1 : 1 + width);
}

static int check(qn_context *context, const char *where, const struct qn_seq2seq_config *config)
{
    if (config->encoder_heads != config->decoder_heads ||
        config->encoder_inner != config->decoder_inner)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: heads and dim_feedforward are the same for encoder and decoder",
                            where);
    return transformer_config_check(context, where, config);
}

static void read(struct fields *fields, struct qn_seq2seq_config *config)
{
    *config = (struct qn_seq2seq_config){.architecture = QN_TRANSFORMER};
    config->width = (size_t)fields_integer(fields, "d_model", 1, MAX_SIZE);
    config->encoder_layers = (size_t)fields_integer(fields, "num_encoder_layers", 1, MAX_SIZE);
    config->decoder_layers = (size_t)fields_integer(fields, "num_decoder_layers", 1, MAX_SIZE);
    config->encoder_heads = (size_t)fields_integer(fields, "nhead", 1, MAX_SIZE);
    config->decoder_heads = config->encoder_heads;
    config->encoder_inner = (size_t)fields_integer(fields, "dim_feedforward", 1, MAX_SIZE);
    config->decoder_inner = config->encoder_inner;
    config->activation = config_activation(fields, "activation", "relu");
    config->is_pre_norm = fields_bool_or(fields, "norm_first", false);
    config->positions =
        (enum qn_positions)config_word(fields, "positions", positions, POSITIONS, QN_SINUSOIDAL);
    config->scales_embedding = fields_bool_or(fields, "scale_embedding", true);
    config->attention_dropout = fields_number_or(fields, "attention_dropout", 0, 1, 0);
    config->activation_dropout = fields_number_or(fields, "activation_dropout", 0, 1, 0);
    seq2seq_read_own(fields, config);
}

static json_t *json(const struct qn_seq2seq_config *config)
{
    /* clang-format off */
    json_t *own = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:s, s:b, s:f, s:f}",
        "model_type", transformer_family.model_type,
        "d_model", (json_int_t)config->width,
        "num_encoder_layers", (json_int_t)config->encoder_layers,
        "num_decoder_layers", (json_int_t)config->decoder_layers,
        "nhead", (json_int_t)config->encoder_heads,
        "dim_feedforward", (json_int_t)config->encoder_inner,
        "activation", config_activation_name(config->activation),
        "norm_first", (int)config->is_pre_norm,
        "positions", positions[config->positions],
        "scale_embedding", (int)config->scales_embedding,
        "attention_dropout", config->attention_dropout,
        "activation_dropout", config->activation_dropout);
    /* clang-format on */
    return seq2seq_add_own(own, config);
}

const struct seq2seq_family transformer_family = {"transformer", parameters, check,
                                                  read,          json,       NULL};

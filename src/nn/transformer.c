/* Transformers: their parameters, with the names of Marian and of torch.nn.Transformer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/seq2seq.h"

/* ---- Marian ---- */

static struct attention_layer marian_attention(qn_store *store, const char *prefix,
                                               const char *name, size_t width)
{
    char of_layer[2 * NAME_BYTES];
    struct attention_layer layer = {0};
    snprintf(of_layer, sizeof of_layer, "%s%s.", prefix, name);
    layer.query = add_linear(store, of_layer, "q_proj", width, width, true);
    layer.key = add_linear(store, of_layer, "k_proj", width, width, true);
    layer.value = add_linear(store, of_layer, "v_proj", width, width, true);
    layer.out = add_linear(store, of_layer, "out_proj", width, width, true);
    snprintf(of_layer, sizeof of_layer, "%s%s_", prefix, name);
    layer.norm = add_norm(store, of_layer, "layer_norm", width, true);
    return layer;
}

static void marian_block(qn_seq2seq *model, struct transformer_block *block, const char *prefix,
                         size_t inner, bool is_decoder)
{
    size_t width = model->config.width;
    qn_store *store = model->store;
    block->self = marian_attention(store, prefix, "self_attn", width);
    if (is_decoder)
        block->cross = marian_attention(store, prefix, "encoder_attn", width);
    block->up = add_linear(store, prefix, "fc1", width, inner, true);
    block->down = add_linear(store, prefix, "fc2", inner, width, true);
    block->mlp_norm = add_norm(store, prefix, "final_layer_norm", width, true);
}

static void marian_ends(qn_seq2seq *model)
{
    const struct qn_seq2seq_config *config = &model->config;
    size_t width = config->width;
    qn_store *store = model->store;
    model->decoder.tokens = add_embedding(
        store, "model.", config->shares_embeddings ? "shared" : "decoder.embed_tokens",
        config->target_vocab_size, width);
    model->encoder.tokens = config->shares_embeddings
                                ? model->decoder.tokens
                                : add_embedding(store, "model.", "encoder.embed_tokens",
                                                config->source_vocab_size, width);
    model->head.weight =
        config->ties_head ? model->decoder.tokens
                          : add_embedding(store, "", "lm_head", config->target_vocab_size, width);
    model->head.bias = qn_store_add(store, "final_logits_bias", QN_F32,
                                    QN_SHAPE(1, config->target_vocab_size), QN_FROZEN);
}

/* ---- torch.nn.Transformer ---- */

static struct attention_layer joined_attention(qn_store *store, const char *prefix,
                                               const char *name, const char *norm, size_t width)
{
    char of_layer[2 * NAME_BYTES];
    struct attention_layer layer = {.joined = {.is_transposed = true}};
    snprintf(of_layer, sizeof of_layer, "%s%s.in_proj_weight", prefix, name);
    layer.joined.weight =
        qn_store_add(store, of_layer, QN_F32, QN_SHAPE(3 * width, width), QN_DECAY);
    snprintf(of_layer, sizeof of_layer, "%s%s.in_proj_bias", prefix, name);
    layer.joined.bias = qn_store_add(store, of_layer, QN_F32, QN_SHAPE(3 * width), QN_NO_DECAY);
    snprintf(of_layer, sizeof of_layer, "%s%s.", prefix, name);
    layer.out = add_linear(store, of_layer, "out_proj", width, width, true);
    layer.norm = add_norm(store, prefix, norm, width, true);
    return layer;
}

static void torch_block(qn_seq2seq *model, struct transformer_block *block, const char *prefix,
                        size_t inner, bool is_decoder)
{
    size_t width = model->config.width;
    qn_store *store = model->store;
    block->self = joined_attention(store, prefix, "self_attn", "norm1", width);
    if (is_decoder)
        block->cross = joined_attention(store, prefix, "multihead_attn", "norm2", width);
    block->up = add_linear(store, prefix, "linear1", width, inner, true);
    block->down = add_linear(store, prefix, "linear2", inner, width, true);
    block->mlp_norm = add_norm(store, prefix, is_decoder ? "norm3" : "norm2", width, true);
}

static void torch_ends(qn_seq2seq *model)
{
    const struct qn_seq2seq_config *config = &model->config;
    size_t width = config->width, most = config->n_positions;
    qn_store *store = model->store;
    seq2seq_embeddings(model, &model->encoder.tokens, &model->decoder.tokens);
    if (config->positions == QN_LEARNED) {
        model->encoder.positions = add_embedding(store, "", "src_positions", most, width);
        model->decoder.positions = add_embedding(store, "", "tgt_positions", most, width);
    }
    model->encoder.last_norm = add_norm(store, "transformer.encoder.", "norm", width, true);
    model->decoder.last_norm = add_norm(store, "transformer.decoder.", "norm", width, true);
    seq2seq_add_head(model, "generator", width, model->decoder.tokens);
}

/* ---- Both ---- */

/* How the two families call their blocks, and add the parameters of one, and those that are in none. */
static const struct family {
    const char *encoder_block, *decoder_block;
    void (*block)(qn_seq2seq *model, struct transformer_block *block, const char *prefix,
                  size_t inner, bool is_decoder);
    void (*ends)(qn_seq2seq *model);
} families[] = {
    [QN_MARIAN] = {"model.encoder.layers.%zu.", "model.decoder.layers.%zu.", marian_block,
                   marian_ends},
    [QN_TRANSFORMER] = {"transformer.encoder.layers.%zu.", "transformer.decoder.layers.%zu.",
                        torch_block, torch_ends},
};

static int add_side(qn_seq2seq *model, struct transformer_side *side, size_t layers, size_t heads,
                    size_t inner)
{
    const struct family *family = &families[model->config.architecture];
    bool is_decoder = side == &model->decoder;
    side->layers = layers;
    side->heads = heads;
    side->blocks = context_alloc(model->context, layers, sizeof *side->blocks);
    for (size_t i = 0; side->blocks && i < layers && model->context->status == QN_OK; i++) {
        char prefix[NAME_BYTES];
        layer_prefix(prefix, is_decoder ? family->decoder_block : family->encoder_block, i);
        family->block(model, &side->blocks[i], prefix, inner, is_decoder);
    }
    return model->context->status;
}

int transformer_parameters(qn_seq2seq *model)
{
    const struct qn_seq2seq_config *config = &model->config;
    model->head.is_transposed = true;
    families[config->architecture].ends(model);
    int status = add_side(model, &model->encoder, config->encoder_layers, config->encoder_heads,
                          config->encoder_inner);
    return status == QN_OK ? add_side(model, &model->decoder, config->decoder_layers,
                                      config->decoder_heads, config->decoder_inner)
                           : status;
}

/* Uniform, so that what goes through varies as much forth as back; of three matrices in one, as for one of them. */
static int fill_glorot(qn_tensor *tensor, uint64_t seed)
{
    qn_shape shape = qn_tensor_shape(tensor);
    double rows = (double)shape.size[0];
    if (name_ends_with(qn_tensor_name(tensor), "in_proj_weight"))
        rows /= 3;
    double bound = sqrt(6 / (rows + (double)shape.size[1]));
    return qn_fill_uniform(tensor, -bound, bound, seed);
}

int transformer_initialise(qn_seq2seq *model, uint64_t seed)
{
    const double of_positions = 0.02, of_tokens = 1 / sqrt((double)model->config.width);
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(model->store); i++) {
        qn_tensor *tensor = qn_store_tensor(model->store, i);
        bool is_bias =
            tensor == model->head.bias || name_ends_with(qn_tensor_name(tensor), "in_proj_bias");
        if (is_bias)
            status = qn_fill(tensor, 0);
        else if (tensor == model->encoder.tokens || tensor == model->decoder.tokens ||
                 tensor == model->head.weight)
            status = qn_fill_normal(tensor, 0, of_tokens, seed);
        else if (qn_tensor_shape(tensor).rank == 1 || tensor == model->encoder.positions ||
                 tensor == model->decoder.positions)
            status = initialise_parameter(tensor, of_positions, seed);
        else
            status = fill_glorot(tensor, seed);
    }
    return status;
}

/* An embedding beside the shared one that it is, or the head beside the embedding that it is; and tables of sines, in older files. */
bool marian_is_redundant(const void *model_, const qn_safetensors *file,
                         const struct qn_file_tensor *tensor)
{
    const qn_seq2seq *model = model_;
    const char *name = name_behind(tensor->name, "model.");
    bool is_head = strcmp(name, "lm_head.weight") == 0,
         is_embedding = strcmp(name, "encoder.embed_tokens.weight") == 0 ||
                        strcmp(name, "decoder.embed_tokens.weight") == 0;
    if (is_head || is_embedding)
        return file_tensors_equal(file_find(file, qn_tensor_name(model->decoder.tokens), "model."),
                                  tensor);
    return strcmp(name, "encoder.embed_positions.weight") == 0 ||
           strcmp(name, "decoder.embed_positions.weight") == 0;
}

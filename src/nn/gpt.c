/* Decoders: their parameters. */
#include "nn/lm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "nn/files.h"

/* ---- Parameters ---- */

static void gpt2_block(qn_lm *gpt, size_t i)
{
    size_t width = gpt->config.n_embd, inner = gpt->sizes.inner;
    struct gpt_block *block = &gpt->blocks[i];
    qn_store *store = gpt->store;
    char prefix[NAME_BYTES];
    layer_prefix(prefix, "transformer.h.%zu.", i);
    block->attention_norm = add_norm(store, prefix, "ln_1", width, true);
    block->qkv = add_conv1d(store, prefix, "attn.c_attn", width, 3 * width);
    block->attention_out = add_conv1d(store, prefix, "attn.c_proj", width, width);
    block->mlp_norm = add_norm(store, prefix, "ln_2", width, true);
    block->up = add_conv1d(store, prefix, "mlp.c_fc", width, inner);
    block->down = add_conv1d(store, prefix, "mlp.c_proj", inner, width);
}

static void gpt2_parameters(qn_lm *gpt)
{
    const struct qn_lm_config *config = &gpt->config;
    gpt->tokens =
        add_embedding(gpt->store, "transformer.", "wte", config->vocab_size, config->n_embd);
    gpt->positions =
        add_embedding(gpt->store, "transformer.", "wpe", config->n_positions, config->n_embd);
    for (size_t i = 0; i < config->n_layer && gpt->context->status == QN_OK; i++)
        gpt2_block(gpt, i);
    gpt->last_norm = add_norm(gpt->store, "transformer.", "ln_f", config->n_embd, true);
}

static void llama_block(qn_lm *gpt, size_t i)
{
    const struct gpt_sizes *sizes = &gpt->sizes;
    size_t width = gpt->config.n_embd, queries = sizes->heads * sizes->head,
           keys = sizes->kv_heads * sizes->head, inner = sizes->inner;
    bool attention_bias = gpt->config.attention_bias, mlp_bias = gpt->config.mlp_bias;
    struct gpt_block *block = &gpt->blocks[i];
    qn_store *store = gpt->store;
    char prefix[NAME_BYTES];
    layer_prefix(prefix, "model.layers.%zu.", i);
    block->attention_norm = add_norm(store, prefix, "input_layernorm", width, false);
    block->query = add_linear(store, prefix, "self_attn.q_proj", width, queries, attention_bias);
    block->key = add_linear(store, prefix, "self_attn.k_proj", width, keys, attention_bias);
    block->value = add_linear(store, prefix, "self_attn.v_proj", width, keys, attention_bias);
    block->attention_out =
        add_linear(store, prefix, "self_attn.o_proj", queries, width, attention_bias);
    block->mlp_norm = add_norm(store, prefix, "post_attention_layernorm", width, false);
    block->gate = add_linear(store, prefix, "mlp.gate_proj", width, inner, mlp_bias);
    block->up = add_linear(store, prefix, "mlp.up_proj", width, inner, mlp_bias);
    block->down = add_linear(store, prefix, "mlp.down_proj", inner, width, mlp_bias);
}

static void llama_parameters(qn_lm *gpt)
{
    const struct qn_lm_config *config = &gpt->config;
    gpt->tokens =
        add_embedding(gpt->store, "model.", "embed_tokens", config->vocab_size, config->n_embd);
    for (size_t i = 0; i < config->n_layer && gpt->context->status == QN_OK; i++)
        llama_block(gpt, i);
    gpt->last_norm = add_norm(gpt->store, "model.", "norm", config->n_embd, false);
}

int decoder_parameters(qn_lm *gpt)
{
    const struct qn_lm_config *config = &gpt->config;
    gpt->sizes = gpt_sizes(config);
    gpt->blocks = context_alloc(gpt->context, config->n_layer, sizeof *gpt->blocks);
    if (!gpt->blocks)
        return QN_ERROR_MEMORY;
    if (config->architecture == QN_LLAMA)
        llama_parameters(gpt);
    else
        gpt2_parameters(gpt);
    gpt->head.is_transposed = true;
    gpt->head.weight =
        config->tie_word_embeddings
            ? gpt->tokens
            : add_embedding(gpt->store, "", "lm_head", config->vocab_size, config->n_embd);
    return gpt->context->status;
}

static bool ends_residual(const char *name)
{
    return name_ends_with(name, "c_proj.weight") || name_ends_with(name, "o_proj.weight") ||
           name_ends_with(name, "down_proj.weight");
}

int decoder_initialise(qn_lm *gpt, uint64_t seed)
{
    const double deviation = 0.02, of_residual = deviation / sqrt(2 * (double)gpt->config.n_layer);
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(gpt->store); i++) {
        qn_tensor *tensor = qn_store_tensor(gpt->store, i);
        bool is_last = ends_residual(qn_tensor_name(tensor));
        status = initialise_parameter(tensor, is_last ? of_residual : deviation, seed);
    }
    return status;
}

/* ---- Files ---- */

static bool is_llama(const qn_lm *gpt)
{
    return gpt->config.architecture == QN_LLAMA;
}

/* Of a layer, in files of older versions of transformers: a causal mask, or the frequencies of positions. */
static bool is_old_buffer(const char *name, bool of_llama)
{
    return of_llama ? strcmp(name, "self_attn.rotary_emb.inv_freq") == 0
                    : strcmp(name, "attn.bias") == 0 || strcmp(name, "attn.masked_bias") == 0;
}

/* Such a buffer, or a tied head beside the embedding that it is. */
bool decoder_is_redundant(const void *model, const qn_safetensors *file,
                          const struct qn_file_tensor *tensor)
{
    const qn_lm *gpt = model;
    const char *prefix = is_llama(gpt) ? "model." : "transformer.";
    size_t layer;
    int end = 0;
    if (strcmp(tensor->name, "lm_head.weight") == 0)
        return file_tensors_equal(file_find(file, qn_tensor_name(gpt->tokens), prefix), tensor);
    const char *name = name_behind(tensor->name, prefix);
    return sscanf(name, is_llama(gpt) ? "layers.%4zu.%n" : "h.%4zu.%n", &layer, &end) == 1 &&
           end > 0 && layer < gpt->config.n_layer && is_old_buffer(name + end, is_llama(gpt));
}

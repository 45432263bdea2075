/* Decoders: their graph. */
#include "graph/graph.h"
#include "nn/lm.h"

struct forward {
    const qn_lm *gpt;
    const struct qn_lm_forward *options;
    size_t rows, length; /* B, T */
    qn_node *positions;  /* i32 (T): where the tokens stand */
    struct dropout dropout;
};

/* Query, key, value: (B, T, H or G, D). */
static void project(const struct forward *forward, qn_node *x, const struct gpt_block *block,
                    qn_node *parts[3])
{
    const qn_lm *gpt = forward->gpt;
    if (block->qkv.weight) {
        qn_split(apply_linear(x, &block->qkv), -1, 3, parts);
    } else {
        parts[0] = apply_linear(x, &block->query);
        parts[1] = apply_linear(x, &block->key);
        parts[2] = apply_linear(x, &block->value);
    }
    for (int i = 0; i < 3; i++) {
        size_t heads = i == 0 ? gpt->sizes.heads : gpt->sizes.kv_heads;
        parts[i] =
            qn_reshape(parts[i], QN_SHAPE(forward->rows, forward->length, heads, gpt->sizes.head));
    }
    if (gpt->config.architecture == QN_LLAMA)
        for (int i = 0; i < 2; i++)
            parts[i] = qn_rotary(parts[i], forward->positions, gpt->config.rotary);
}

static qn_node *attention(const struct forward *forward, qn_node *x, size_t layer)
{
    const qn_lm *gpt = forward->gpt;
    const struct gpt_block *block = &gpt->blocks[layer];
    const qn_lm_cache *cache = forward->options->cache;
    qn_node *parts[3], *position = NULL;
    project(forward, x, block, parts);
    if (cache) {
        position = forward->options->position;
        parts[1] = qn_write(cache->keys[layer], parts[1], 1, position);
        parts[2] = qn_write(cache->values[layer], parts[2], 1, position);
    }
    if (forward->options->attention && forward->options->attention_block == layer)
        *forward->options->attention = attention_weights(parts[0], parts[1], true, NULL);
    qn_node *y = qn_attention(parts[0], parts[1], parts[2],
                              (struct qn_attention){.is_causal = true, .position = position});
    y = qn_reshape(y, QN_SHAPE(forward->rows, forward->length, gpt->sizes.heads * gpt->sizes.head));
    return apply_linear(y, &block->attention_out);
}

static qn_node *mlp(const struct forward *forward, qn_node *x, const struct gpt_block *block)
{
    qn_node *y = apply_linear(x, &block->up);
    y = block->gate.weight ? qn_swiglu(apply_linear(x, &block->gate), y)
                           : apply_activation(y, forward->gpt->config.activation);
    return apply_linear(y, &block->down);
}

/* What PyTorch calls the modules of a block: that of attention, that of the perceptron, and the block itself. */
struct block_names {
    const char *block, *attention, *mlp;
};
static const struct block_names block_names[] = {
    [QN_GPT2] = {"transformer.h.%zu", ".attn", ".mlp"},
    [QN_LLAMA] = {"model.layers.%zu", ".self_attn", ".mlp"},
};

static qn_node *block(struct forward *forward, qn_node *x, size_t layer)
{
    const struct block_names *names = &block_names[forward->gpt->config.architecture];
    const struct gpt_block *block = &forward->gpt->blocks[layer];
    const struct qn_lm_config *config = &forward->gpt->config;
    double epsilon = config->layer_norm_epsilon;
    qn_node *y = attention(forward, apply_norm(x, &block->attention_norm, epsilon), layer);
    y = apply_dropout(y, config->resid_pdrop, &forward->dropout);
    x = qn_add(x, name_module(y, names->block, layer, names->attention));
    y = mlp(forward, apply_norm(x, &block->mlp_norm, epsilon), block);
    y = apply_dropout(y, config->resid_pdrop, &forward->dropout);
    x = qn_add(x, name_module(y, names->block, layer, names->mlp));
    return name_module(x, names->block, layer, "");
}

static qn_node *embeddings(struct forward *forward, qn_node *tokens)
{
    const qn_lm *gpt = forward->gpt;
    qn_node *x =
        name_by_weight(qn_embedding(qn_leaf(tokens->graph, gpt->tokens), tokens), gpt->tokens);
    /* Not a slice of the positions' embeddings: its gradient would need one more kernel where the length is not n_positions. */
    if (gpt->positions) {
        qn_node *at = qn_embedding(qn_leaf(tokens->graph, gpt->positions), forward->positions);
        x = qn_add(x, name_by_weight(at, gpt->positions));
    }
    if (forward->options->type != QN_F32)
        x = qn_cast(x, forward->options->type);
    return apply_dropout(x, gpt->config.embd_pdrop, &forward->dropout);
}

qn_node *decoder_hidden(const qn_lm *gpt, qn_node *tokens, const struct qn_lm_forward *options)
{
    if (!are_rows(tokens, "gpt", gpt->config.n_positions))
        return NULL;
    qn_shape shape = qn_node_shape(tokens);
    struct forward forward = {.gpt = gpt,
                              .options = options,
                              .rows = shape.size[0],
                              .length = shape.size[1],
                              .dropout = {.key = options->dropout_key}};
    forward.positions = qn_range(tokens->graph, forward.length);
    if (options->position)
        forward.positions = qn_add(forward.positions, options->position);
    qn_node *x = embeddings(&forward, tokens);
    for (size_t i = 0; i < gpt->config.n_layer; i++) {
        if (options->checkpoint)
            qn_checkpoint_begin(tokens->graph);
        x = block(&forward, x, i);
        qn_checkpoint_end(tokens->graph);
    }
    x = apply_norm(x, &gpt->last_norm, gpt->config.layer_norm_epsilon);
    return options->last_only ? qn_slice(x, 1, forward.length - 1, forward.length) : x;
}

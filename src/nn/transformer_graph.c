/* Transformers: their graph. */
#include <math.h>

#include "graph/graph.h"
#include "nn/seq2seq.h"

static const double epsilon = 1e-5; /* of norms */

struct forward {
    const qn_seq2seq *model;
    const struct qn_seq2seq_forward *options;
    struct dropout dropout;
};

/* Rows of tokens that go through a side, and what its attention may see. */
struct rows {
    const struct transformer_side *side;
    const char *name;          /* of a block, as PyTorch has it */
    qn_node *tokens, *lengths; /* (B, T), (B) */
    qn_node *memory;           /* of a decoder: what the encoder made of the source, (B, Ts, C); */
    qn_node *memory_lengths;   /* (B) */
};

/* (B, T, C) -> (B, T, H, D). */
static qn_node *split_heads(qn_node *x, size_t heads)
{
    qn_shape shape = x ? qn_node_shape(x) : QN_SHAPE(0, 0, 0);
    return qn_reshape(x, QN_SHAPE(shape.size[0], shape.size[1], heads, shape.size[2] / heads));
}

static qn_node *join_heads(qn_node *x)
{
    qn_shape shape = x ? qn_node_shape(x) : QN_SHAPE(0, 0, 0, 0);
    return qn_reshape(x, QN_SHAPE(shape.size[0], shape.size[1], shape.size[2] * shape.size[3]));
}

/* Of queries, keys and values (0, 1, 2), `count` from `first` on: (B, T, H, D). */
static void project(qn_node *x, const struct attention_layer *layer, size_t heads, size_t first,
                    size_t count, qn_node **parts)
{
    const struct linear *separate[] = {&layer->query, &layer->key, &layer->value};
    if (layer->joined.weight) {
        size_t width = qn_tensor_shape(layer->joined.weight).size[1];
        qn_node *y = apply_linear_part(x, &layer->joined, first * width, (first + count) * width);
        qn_split(y, -1, count, parts);
    } else {
        for (size_t i = 0; i < count; i++)
            parts[i] = apply_linear(x, separate[first + i]);
    }
    for (size_t i = 0; i < count; i++)
        parts[i] = split_heads(parts[i], heads);
}

static qn_node *self_attention(const struct rows *rows, qn_node *x,
                               const struct attention_layer *layer)
{
    qn_node *parts[3];
    project(x, layer, rows->side->heads, 0, 3, parts);
    qn_node *y = qn_attention(
        parts[0], parts[1], parts[2],
        (struct qn_attention){.is_causal = rows->memory != NULL, .lengths = rows->lengths});
    return apply_linear(join_heads(y), &layer->out);
}

static qn_node *cross_attention(const struct rows *rows, qn_node *x,
                                const struct attention_layer *layer)
{
    qn_node *parts[3];
    project(x, layer, rows->side->heads, 0, 1, parts);
    project(rows->memory, layer, rows->side->heads, 1, 2, parts + 1);
    qn_node *y = qn_attention(parts[0], parts[1], parts[2],
                              (struct qn_attention){.lengths = rows->memory_lengths});
    return apply_linear(join_heads(y), &layer->out);
}

static qn_node *perceptron(struct forward *forward, qn_node *x,
                           const struct transformer_block *block)
{
    const struct qn_seq2seq_config *config = &forward->model->config;
    qn_node *y = apply_activation(apply_linear(x, &block->up), config->activation);
    return apply_linear(apply_dropout(y, config->activation_dropout, &forward->dropout),
                        &block->down);
}

/* What a branch reads of x, and x with what the branch made of it. */
static qn_node *branch(const struct forward *forward, qn_node *x, const struct norm *norm)
{
    return forward->model->config.is_pre_norm ? apply_norm(x, norm, epsilon) : x;
}

static qn_node *merge(struct forward *forward, qn_node *x, qn_node *y, const struct norm *norm)
{
    const struct qn_seq2seq_config *config = &forward->model->config;
    x = qn_add(x, apply_dropout(y, config->dropout, &forward->dropout));
    return config->is_pre_norm ? x : apply_norm(x, norm, epsilon);
}

static qn_node *apply_block(struct forward *forward, const struct rows *rows, qn_node *x,
                            size_t number)
{
    const struct transformer_block *block = &rows->side->blocks[number];
    const struct norm *norm = &block->self.norm;
    x = merge(forward, x, self_attention(rows, branch(forward, x, norm), &block->self), norm);
    name_module(x, rows->name, number, ".self_attn");
    if (rows->memory) {
        norm = &block->cross.norm;
        x = merge(forward, x, cross_attention(rows, branch(forward, x, norm), &block->cross), norm);
        name_module(x, rows->name, number, ".cross_attn");
    }
    norm = &block->mlp_norm;
    x = merge(forward, x, perceptron(forward, branch(forward, x, norm), block), norm);
    return name_module(x, rows->name, number, "");
}

static qn_node *embed(struct forward *forward, const struct rows *rows)
{
    const struct qn_seq2seq_config *config = &forward->model->config;
    const struct transformer_side *side = rows->side;
    qn_graph *graph = rows->tokens->graph;
    /* Marian's padding gets no gradient from where it is looked up: its decoder begins with it. */
    int32_t padding = config->architecture == QN_MARIAN ? config->pad_token_id : QN_NO_PADDING;
    qn_node *x = qn_embedding_padded(qn_leaf(graph, side->tokens), rows->tokens, padding);
    qn_node *positions = qn_range(graph, qn_node_shape(rows->tokens).size[1]);
    x = name_by_weight(x, side->tokens);
    if (config->scales_embedding)
        x = qn_scale(x, sqrt((double)config->width));
    x = qn_add(x, side->positions ? qn_embedding(qn_leaf(graph, side->positions), positions)
                                  : qn_sinusoidal(positions, config->width,
                                                  config->positions == QN_SINUSOIDAL_HALVES));
    if (forward->options->type != QN_F32)
        x = qn_cast(x, forward->options->type);
    return apply_dropout(x, config->dropout, &forward->dropout);
}

static qn_node *apply_side(struct forward *forward, const struct rows *rows)
{
    const struct transformer_side *side = rows->side;
    qn_node *x = embed(forward, rows);
    for (size_t i = 0; i < side->layers; i++) {
        if (forward->options->checkpoint)
            qn_checkpoint_begin(rows->tokens->graph);
        x = apply_block(forward, rows, x, i);
        qn_checkpoint_end(rows->tokens->graph);
    }
    return side->last_norm.weight ? apply_norm(x, &side->last_norm, epsilon) : x;
}

/* What PyTorch calls a block of each side. */
static const char *const block_names[][2] = {
    [QN_MARIAN] = {"model.encoder.layers.%zu", "model.decoder.layers.%zu"},
    [QN_TRANSFORMER] = {"transformer.encoder.layers.%zu", "transformer.decoder.layers.%zu"},
};

qn_node *transformer_hidden(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                            const struct qn_seq2seq_forward *options)
{
    const char *const *names = block_names[model->config.architecture];
    struct forward forward = {model, options, {.key = options->dropout_key}};
    struct rows source = {.side = &model->encoder,
                          .name = names[0],
                          .tokens = input->source,
                          .lengths = input->source_lengths};
    struct rows target = {.side = &model->decoder,
                          .name = names[1],
                          .tokens = input->target,
                          .lengths = input->target_lengths,
                          .memory = apply_side(&forward, &source),
                          .memory_lengths = input->source_lengths};
    return target.memory ? apply_side(&forward, &target) : NULL;
}

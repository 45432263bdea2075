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
    bool is_decoder;
    qn_node *memory, *memory_lengths; /* of a decoder: of the source, (B, Ts, C) and (B), */
    qn_node **weights;                /* and for what it makes of that, if it is asked for; or */
    size_t weights_block;
    const struct decoder_step *step; /* it goes on with what a cache has */
    const struct seq2seq_cache *cache;
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

/* Puts keys or values (B, T, H, D) where the cache has room for them; all of the cache. */
static qn_node *keep(qn_tensor *tensor, qn_node *x, qn_node *place)
{
    qn_shape shape = x ? qn_node_shape(x) : QN_SHAPE(0, 0, 0, 0);
    size_t places = shape.size[0] * shape.size[1];
    return qn_write(tensor, qn_reshape(x, QN_SHAPE(1, places, shape.size[2], shape.size[3])), 1,
                    place);
}

static qn_node *self_attention(const struct rows *rows, qn_node *x, size_t number)
{
    const struct attention_layer *layer = &rows->side->blocks[number].self;
    struct qn_attention options = {.is_causal = rows->is_decoder, .lengths = rows->lengths};
    qn_node *parts[3];
    project(x, layer, rows->side->heads, 0, 3, parts);
    if (rows->step) {
        parts[1] = keep(rows->cache->keys[number], parts[1], rows->step->place);
        parts[2] = keep(rows->cache->values[number], parts[2], rows->step->place);
        options.table = rows->step->table;
        options.position = rows->step->position;
    }
    qn_node *y = qn_attention(parts[0], parts[1], parts[2], options);
    return apply_linear(join_heads(y), &layer->out);
}

/* What attention weighs the sources by, as the mean of the heads: (sources, beams, Ts). */
static qn_node *mean_weights(const struct rows *rows, qn_node *q, qn_tensor *keys)
{
    const struct decoder_step *step = rows->step;
    qn_shape shape = qn_tensor_shape(keys);
    size_t heads = shape.size[2], size = shape.size[3],
           length = qn_node_shape(step->source_table).size[1];
    qn_node *k = from_places(step->tokens->graph, keys, step->source_table, heads * size);
    k = qn_reshape(k, QN_SHAPE(step->sources, length, heads, size));
    return qn_mean(attention_weights(q, k, false, step->lengths), QN_AXIS(1));
}

/* The rows of a source are queries of its keys. */
static qn_node *attend_to_cache(const struct rows *rows, qn_node *q, size_t number)
{
    const struct decoder_step *step = rows->step;
    qn_tensor *keys = rows->cache->source_keys[number];
    qn_shape shape = q ? qn_node_shape(q) : QN_SHAPE(0, 0, 0, 0);
    q = qn_reshape(q, QN_SHAPE(step->sources, step->beams, shape.size[2], shape.size[3]));
    if (step->weights && number + 1 == rows->side->layers)
        *step->weights = mean_weights(rows, q, keys);
    qn_graph *graph = step->tokens->graph;
    qn_node *y =
        qn_attention(q, qn_leaf(graph, keys), qn_leaf(graph, rows->cache->source_values[number]),
                     (struct qn_attention){.table = step->source_table, .lengths = step->lengths});
    return qn_reshape(y, shape);
}

static qn_node *cross_attention(const struct rows *rows, qn_node *x, size_t number)
{
    const struct attention_layer *layer = &rows->side->blocks[number].cross;
    qn_node *parts[3], *y;
    project(x, layer, rows->side->heads, 0, 1, parts);
    if (rows->step) {
        y = attend_to_cache(rows, parts[0], number);
    } else {
        project(rows->memory, layer, rows->side->heads, 1, 2, parts + 1);
        if (rows->weights && rows->weights_block == number)
            *rows->weights = attention_weights(parts[0], parts[1], false, rows->memory_lengths);
        y = qn_attention(parts[0], parts[1], parts[2],
                         (struct qn_attention){.lengths = rows->memory_lengths});
    }
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
    x = merge(forward, x, self_attention(rows, branch(forward, x, norm), number), norm);
    name_module(x, rows->name, number, ".self_attn");
    if (rows->is_decoder) {
        norm = &block->cross.norm;
        x = merge(forward, x, cross_attention(rows, branch(forward, x, norm), number), norm);
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
    if (rows->step)
        positions = qn_add(positions, rows->step->position);
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
                          .is_decoder = true,
                          .memory = apply_side(&forward, &source),
                          .memory_lengths = input->source_lengths,
                          .weights = options->attention,
                          .weights_block = options->attention_block};
    return target.memory ? apply_side(&forward, &target) : NULL;
}

/* ---- Decoding ---- */

size_t transformer_remember(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                            qn_node *source, qn_node *lengths, qn_node **roots)
{
    const struct qn_seq2seq_forward options = {0};
    struct forward forward = {.model = model, .options = &options};
    struct rows rows = {.side = &model->encoder,
                        .name = block_names[model->config.architecture][0],
                        .tokens = source,
                        .lengths = lengths};
    qn_node *memory = apply_side(&forward, &rows),
            *first = qn_cast(qn_constant(source->graph, 0), QN_I32);
    size_t count = 0;
    for (size_t i = 0; memory && i < model->decoder.layers; i++) {
        qn_node *parts[2];
        project(memory, &model->decoder.blocks[i].cross, model->decoder.heads, 1, 2, parts);
        roots[count++] = keep(cache->source_keys[i], parts[0], first);
        roots[count++] = keep(cache->source_values[i], parts[1], first);
    }
    return count;
}

qn_node *transformer_step(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                          struct decoder_step *step)
{
    const struct qn_seq2seq_forward options = {0};
    struct forward forward = {.model = model, .options = &options};
    struct rows rows = {.side = &model->decoder,
                        .name = block_names[model->config.architecture][1],
                        .tokens = step->tokens,
                        .is_decoder = true,
                        .step = step,
                        .cache = cache};
    return apply_side(&forward, &rows);
}

/* BERT: its parameters, their files, and its graph. */
#include <quern/nn.h>

#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "io/file.h"
#include "nn/files.h"
#include "nn/layers.h"

struct bert_layer {
    struct linear query, key, value, attention_out; /* (C, C) */
    struct norm attention_norm;
    struct linear up, down; /* (C, I), (I, C) */
    struct norm mlp_norm;
};

struct qn_bert {
    qn_context *context;
    struct qn_bert_config config;
    qn_store *store;
    qn_tensor *tokens, *positions, *types; /* (V, C), (T, C), (types, C) */
    struct norm embedding_norm;
    struct bert_layer *layers;
    struct linear pooler;    /* QN_BERT_TEXTS: (C, C) */
    struct linear transform; /* QN_BERT_MASKED: (C, C), */
    struct norm transform_norm;
    struct linear head; /* (C, labels, 2 or V); of QN_BERT_MASKED the weight may be `tokens` */
};

/* ---- Parameters ---- */

static void layer_parameters(qn_bert *bert, size_t i)
{
    size_t width = bert->config.width, inner = bert->config.n_inner;
    struct bert_layer *layer = &bert->layers[i];
    qn_store *store = bert->store;
    char prefix[NAME_BYTES];
    layer_prefix(prefix, "bert.encoder.layer.%zu.", i);
    layer->query = add_linear(store, prefix, "attention.self.query", width, width, true);
    layer->key = add_linear(store, prefix, "attention.self.key", width, width, true);
    layer->value = add_linear(store, prefix, "attention.self.value", width, width, true);
    layer->attention_out = add_linear(store, prefix, "attention.output.dense", width, width, true);
    layer->attention_norm = add_norm(store, prefix, "attention.output.LayerNorm", width, true);
    layer->up = add_linear(store, prefix, "intermediate.dense", width, inner, true);
    layer->down = add_linear(store, prefix, "output.dense", inner, width, true);
    layer->mlp_norm = add_norm(store, prefix, "output.LayerNorm", width, true);
}

static void head_parameters(qn_bert *bert)
{
    const struct qn_bert_config *config = &bert->config;
    size_t width = config->width, labels = config->n_labels;
    qn_store *store = bert->store;
    const char *masked = "cls.predictions.";
    switch (config->head) {
    case QN_BERT_MASKED:
        bert->transform = add_linear(store, masked, "transform.dense", width, width, true);
        bert->transform_norm = add_norm(store, masked, "transform.LayerNorm", width, true);
        bert->head.is_transposed = true;
        bert->head.weight = config->tie_word_embeddings ? bert->tokens
                                                        : add_embedding(store, masked, "decoder",
                                                                        config->vocab_size, width);
        bert->head.bias = qn_store_add(store, "cls.predictions.bias", QN_F32,
                                       QN_SHAPE(config->vocab_size), QN_NO_DECAY);
        break;
    case QN_BERT_TEXTS:
        bert->pooler = add_linear(store, "bert.", "pooler.dense", width, width, true);
        bert->head = add_linear(store, "", "classifier", width, labels, true);
        break;
    case QN_BERT_TOKENS:
        bert->head = add_linear(store, "", "classifier", width, labels, true);
        break;
    case QN_BERT_ANSWERS:
        bert->head = add_linear(store, "", "qa_outputs", width, 2, true);
        break;
    }
}

static int parameters(qn_bert *bert)
{
    const struct qn_bert_config *config = &bert->config;
    const char *prefix = "bert.embeddings.";
    qn_store *store = bert->store;
    bert->tokens =
        add_embedding(store, prefix, "word_embeddings", config->vocab_size, config->width);
    bert->positions =
        add_embedding(store, prefix, "position_embeddings", config->n_positions, config->width);
    bert->types =
        add_embedding(store, prefix, "token_type_embeddings", config->n_types, config->width);
    bert->embedding_norm = add_norm(store, prefix, "LayerNorm", config->width, true);
    for (size_t i = 0; i < config->n_layer && bert->context->status == QN_OK; i++)
        layer_parameters(bert, i);
    head_parameters(bert);
    return bert->head.bias ? qn_store_seal(store) : (int)bert->context->status;
}

qn_bert *qn_bert_new(qn_context *context, const struct qn_bert_config *config)
{
    if (!context || qn_bert_config_check(context, "the model", config) != QN_OK)
        return NULL;
    qn_bert *bert = context_alloc(context, 1, sizeof *bert);
    if (!bert)
        return NULL;
    bert->context = context;
    bert->config = *config;
    bert->store = qn_store_new(context, "parameters");
    bert->layers = context_alloc(context, config->n_layer, sizeof *bert->layers);
    if (bert->store && bert->layers && parameters(bert) == QN_OK)
        return bert;
    qn_bert_free(bert);
    return NULL;
}

void qn_bert_free(qn_bert *bert)
{
    if (!bert)
        return;
    qn_store_free(bert->store);
    free(bert->layers);
    free(bert);
}

const struct qn_bert_config *qn_bert_config(const qn_bert *bert)
{
    return &bert->config;
}

qn_store *qn_bert_parameters(const qn_bert *bert)
{
    return bert->store;
}

int qn_bert_initialise(qn_bert *bert, uint64_t seed)
{
    const double deviation = 0.02;
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(bert->store); i++)
        status = initialise_parameter(qn_store_tensor(bert->store, i), deviation, seed);
    return status;
}

/* ---- Files ---- */

static const char name_prefix[] = "bert.";

/* A tied head beside what it is; what only another head needs; a table of 0, 1, 2, ... in older files. */
static bool is_redundant(const void *model, const qn_safetensors *file,
                         const struct qn_file_tensor *tensor)
{
    static const char *const of_others[] = {"pooler.dense.weight", "pooler.dense.bias",
                                            "cls.seq_relationship.weight",
                                            "cls.seq_relationship.bias", "embeddings.position_ids"};
    const qn_bert *bert = model;
    bool is_masked = bert->config.head == QN_BERT_MASKED;
    const char *name = name_behind(tensor->name, name_prefix);
    if (is_masked && strcmp(name, "cls.predictions.decoder.weight") == 0)
        return file_tensors_equal(file_find(file, qn_tensor_name(bert->tokens), name_prefix),
                                  tensor);
    if (is_masked && strcmp(name, "cls.predictions.decoder.bias") == 0)
        return file_tensors_equal(file_find(file, qn_tensor_name(bert->head.bias), name_prefix),
                                  tensor);
    for (size_t i = 0; i < sizeof of_others / sizeof *of_others; i++)
        if (strcmp(name, of_others[i]) == 0)
            return true;
    return false;
}

qn_bert *qn_bert_load(qn_context *context, const char *folder)
{
    if (!context)
        return NULL;
    struct qn_bert_config config;
    char *path = path_join(context, folder, "config.json");
    bool is_read = path && qn_bert_config_read(context, path, &config) == QN_OK;
    free(path);
    qn_bert *bert = is_read ? qn_bert_new(context, &config) : NULL;
    struct file_names names = {name_prefix, is_redundant, bert};
    if (!bert || store_load(bert->store, folder, &names) == QN_OK)
        return bert;
    qn_bert_free(bert);
    return NULL;
}

int qn_bert_save(const qn_bert *bert, const char *folder)
{
    char *path = path_join(bert->context, folder, "config.json");
    int status =
        path ? qn_bert_config_write(bert->context, path, &bert->config) : (int)QN_ERROR_MEMORY;
    free(path);
    return status == QN_OK ? store_save(bert->store, folder) : status;
}

/* ---- The graph ---- */

struct forward {
    const qn_bert *bert;
    const struct qn_bert_forward *options;
    size_t rows, length; /* B, T */
    struct dropout dropout;
};

static qn_node *attention(const struct forward *forward, qn_node *x, const struct bert_layer *layer)
{
    const struct qn_bert_config *config = &forward->bert->config;
    const struct linear *linears[] = {&layer->query, &layer->key, &layer->value};
    qn_node *parts[3]; /* (B, T, H, D) */
    for (int i = 0; i < 3; i++)
        parts[i] = qn_reshape(apply_linear(x, linears[i]),
                              QN_SHAPE(forward->rows, forward->length, config->n_head,
                                       config->width / config->n_head));
    qn_node *y = qn_attention(parts[0], parts[1], parts[2],
                              (struct qn_attention){.lengths = forward->options->lengths});
    y = qn_reshape(y, QN_SHAPE(forward->rows, forward->length, config->width));
    return apply_linear(y, &layer->attention_out);
}

static qn_node *encoder_layer(struct forward *forward, qn_node *x, size_t number)
{
    const struct bert_layer *layer = &forward->bert->layers[number];
    const struct qn_bert_config *config = &forward->bert->config;
    double p = config->hidden_dropout, epsilon = config->layer_norm_epsilon;
    qn_node *y = apply_dropout(attention(forward, x, layer), p, &forward->dropout);
    x = apply_norm(qn_add(x, y), &layer->attention_norm, epsilon);
    name_module(x, "bert.encoder.layer.%zu", number, ".attention");
    y = apply_activation(apply_linear(x, &layer->up), config->activation);
    name_module(y, "bert.encoder.layer.%zu", number, ".intermediate");
    y = apply_dropout(apply_linear(y, &layer->down), p, &forward->dropout);
    x = apply_norm(qn_add(x, y), &layer->mlp_norm, epsilon);
    return name_module(x, "bert.encoder.layer.%zu", number, "");
}

static qn_node *embeddings(struct forward *forward, qn_node *tokens)
{
    const qn_bert *bert = forward->bert;
    const struct qn_bert_config *config = &bert->config;
    qn_graph *graph = tokens->graph;
    qn_node *types = forward->options->types;
    if (!types)
        types = qn_cast(qn_constant(graph, 0), QN_I32);
    qn_node *x = qn_embedding_padded(qn_leaf(graph, bert->tokens), tokens, config->pad_token_id);
    x = qn_add(x, qn_embedding(qn_leaf(graph, bert->types), types));
    x = qn_add(x, qn_embedding(qn_leaf(graph, bert->positions), qn_range(graph, forward->length)));
    x = apply_norm(x, &bert->embedding_norm, config->layer_norm_epsilon);
    return qn_named(apply_dropout(x, config->hidden_dropout, &forward->dropout), "bert.embeddings");
}

/* Checks the tokens; false and an error if they are none of the model's. */
static bool begin(struct forward *forward, const qn_bert *bert, qn_node *tokens,
                  const struct qn_bert_forward *options)
{
    if (!bert || !tokens || !are_rows(tokens, "bert", bert->config.n_positions))
        return false;
    qn_shape shape = qn_node_shape(tokens);
    *forward = (struct forward){.bert = bert,
                                .options = options,
                                .rows = shape.size[0],
                                .length = shape.size[1],
                                .dropout = {.key = options->dropout_key}};
    return true;
}

static qn_node *encode(struct forward *forward, qn_node *tokens)
{
    qn_node *x = embeddings(forward, tokens);
    for (size_t i = 0; i < forward->bert->config.n_layer; i++) {
        if (forward->options->checkpoint)
            qn_checkpoint_begin(tokens->graph);
        x = encoder_layer(forward, x, i);
        qn_checkpoint_end(tokens->graph);
    }
    return x;
}

qn_node *qn_bert_hidden(const qn_bert *bert, qn_node *tokens, struct qn_bert_forward options)
{
    struct forward forward;
    return begin(&forward, bert, tokens, &options) ? encode(&forward, tokens) : NULL;
}

/* Of the first token of each row: (B, T, C) -> (B, C). */
static qn_node *pool(const struct forward *forward, qn_node *x)
{
    qn_node *first =
        qn_reshape(qn_slice(x, 1, 0, 1), QN_SHAPE(forward->rows, forward->bert->config.width));
    return qn_named(qn_tanh(apply_linear(first, &forward->bert->pooler)), "bert.pooler");
}

qn_node *qn_bert_logits(const qn_bert *bert, qn_node *tokens, struct qn_bert_forward options)
{
    struct forward forward;
    if (!begin(&forward, bert, tokens, &options))
        return NULL;
    const struct qn_bert_config *config = &bert->config;
    double p = config->classifier_dropout;
    qn_node *x = encode(&forward, tokens);
    switch (config->head) {
    case QN_BERT_MASKED:
        x = apply_activation(apply_linear(x, &bert->transform), config->activation);
        x = apply_norm(x, &bert->transform_norm, config->layer_norm_epsilon);
        return apply_linear(x, &bert->head);
    case QN_BERT_TEXTS:
        return apply_linear(apply_dropout(pool(&forward, x), p, &forward.dropout), &bert->head);
    case QN_BERT_TOKENS:
        return apply_linear(apply_dropout(x, p, &forward.dropout), &bert->head);
    case QN_BERT_ANSWERS:
        return qn_transpose(apply_linear(x, &bert->head), 1, 2);
    }
    return NULL;
}

/* Of where answers begin (0) or end (1). */
static qn_node *answer_loss(qn_node *logits, qn_node *targets, size_t which)
{
    return qn_cross_entropy(qn_slice(logits, 1, which, which + 1),
                            qn_slice(targets, 1, which, which + 1));
}

qn_node *qn_bert_loss(const qn_bert *bert, qn_node *tokens, qn_node *targets,
                      struct qn_bert_forward options)
{
    qn_node *logits = qn_bert_logits(bert, tokens, options);
    if (!logits || bert->config.head != QN_BERT_ANSWERS)
        return qn_cross_entropy(logits, targets);
    return qn_scale(qn_add(answer_loss(logits, targets, 0), answer_loss(logits, targets, 1)), 0.5);
}

/* ---- Masks ---- */

int qn_bert_lengths(qn_context *context, const int32_t *mask, size_t rows, size_t length,
                    int32_t *lengths)
{
    for (size_t row = 0; row < rows; row++, mask += length) {
        size_t count = 0, all = 0;
        while (count < length && mask[count] == 1)
            count++;
        for (size_t i = 0; i < length; i++)
            all += mask[i] != 0;
        if (count == 0 || all != count)
            return context_fail(context, QN_ERROR_INVALID,
                                "attention_mask: row %zu is not ones and then zeros; only padding "
                                "behind the tokens of a row can be hidden",
                                row);
        lengths[row] = (int32_t)count;
    }
    return QN_OK;
}

/* GPT-2: its parameters, and its graph. */
#include "nn/gpt.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "device/memory.h"
#include "graph/graph.h"
#include "io/file.h"

/* ---- Parameters ---- */

enum { NAME_BYTES = 96 };

static qn_tensor *parameter(qn_gpt *gpt, enum qn_group group, qn_shape shape, const char *format,
                            ...) PRINTF_LIKE(4, 5);
static qn_tensor *parameter(qn_gpt *gpt, enum qn_group group, qn_shape shape, const char *format,
                            ...)
{
    char name[NAME_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    return qn_store_add(gpt->store, name, QN_F32, shape, group);
}

/* Matrices and embeddings decay, vectors do not. */
static void block_parameters(qn_gpt *gpt, size_t i)
{
    size_t width = gpt->config.n_embd,
           inner = gpt->config.n_inner ? gpt->config.n_inner : 4 * width;
    struct gpt_block *block = &gpt->blocks[i];
    block->ln_1_weight =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.ln_1.weight", i);
    block->ln_1_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.ln_1.bias", i);
    block->c_attn_weight = parameter(gpt, QN_DECAY, QN_SHAPE(width, 3 * width),
                                     "transformer.h.%zu.attn.c_attn.weight", i);
    block->c_attn_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(3 * width), "transformer.h.%zu.attn.c_attn.bias", i);
    block->attn_weight =
        parameter(gpt, QN_DECAY, QN_SHAPE(width, width), "transformer.h.%zu.attn.c_proj.weight", i);
    block->attn_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.attn.c_proj.bias", i);
    block->ln_2_weight =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.ln_2.weight", i);
    block->ln_2_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.ln_2.bias", i);
    block->c_fc_weight =
        parameter(gpt, QN_DECAY, QN_SHAPE(width, inner), "transformer.h.%zu.mlp.c_fc.weight", i);
    block->c_fc_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(inner), "transformer.h.%zu.mlp.c_fc.bias", i);
    block->mlp_weight =
        parameter(gpt, QN_DECAY, QN_SHAPE(inner, width), "transformer.h.%zu.mlp.c_proj.weight", i);
    block->mlp_bias =
        parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.h.%zu.mlp.c_proj.bias", i);
}

static int parameters(qn_gpt *gpt)
{
    const struct qn_gpt_config *config = &gpt->config;
    size_t width = config->n_embd;
    gpt->wte =
        parameter(gpt, QN_DECAY, QN_SHAPE(config->vocab_size, width), "transformer.wte.weight");
    gpt->wpe =
        parameter(gpt, QN_DECAY, QN_SHAPE(config->n_positions, width), "transformer.wpe.weight");
    for (size_t i = 0; i < config->n_layer && gpt->context->status == QN_OK; i++)
        block_parameters(gpt, i);
    gpt->ln_f_weight = parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.ln_f.weight");
    gpt->ln_f_bias = parameter(gpt, QN_NO_DECAY, QN_SHAPE(width), "transformer.ln_f.bias");
    gpt->lm_head =
        config->tie_word_embeddings
            ? gpt->wte
            : parameter(gpt, QN_DECAY, QN_SHAPE(config->vocab_size, width), "lm_head.weight");
    return gpt->lm_head ? qn_store_seal(gpt->store) : (int)gpt->context->status;
}

qn_gpt *qn_gpt_new(qn_context *context, const struct qn_gpt_config *config)
{
    if (!context || qn_gpt_config_check(context, "the model", config) != QN_OK)
        return NULL;
    qn_gpt *gpt = context_alloc(context, 1, sizeof *gpt);
    if (!gpt)
        return NULL;
    gpt->context = context;
    gpt->config = *config;
    gpt->store = qn_store_new(context, "parameters");
    gpt->blocks = context_alloc(context, config->n_layer, sizeof *gpt->blocks);
    if (gpt->store && gpt->blocks && parameters(gpt) == QN_OK)
        return gpt;
    qn_gpt_free(gpt);
    return NULL;
}

void qn_gpt_free(qn_gpt *gpt)
{
    if (!gpt)
        return;
    qn_store_free(gpt->store);
    free(gpt->blocks);
    free(gpt);
}

const struct qn_gpt_config *qn_gpt_config(const qn_gpt *gpt)
{
    return &gpt->config;
}

qn_store *qn_gpt_parameters(const qn_gpt *gpt)
{
    return gpt->store;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

int qn_gpt_initialise(qn_gpt *gpt, uint64_t seed)
{
    const double deviation = 0.02;
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(gpt->store); i++) {
        qn_tensor *tensor = qn_store_tensor(gpt->store, i);
        const char *name = qn_tensor_name(tensor);
        if (ends_with(name, ".bias"))
            status = qn_fill(tensor, 0);
        else if (qn_tensor_shape(tensor).rank == 1)
            status = qn_fill(tensor, 1);
        else if (ends_with(name, "c_proj.weight"))
            status =
                qn_fill_normal(tensor, 0, deviation / sqrt(2 * (double)gpt->config.n_layer), seed);
        else
            status = qn_fill_normal(tensor, 0, deviation, seed);
    }
    return status;
}

/* ---- Files ---- */

static char *path_in(qn_context *context, const char *folder, const char *file)
{
    size_t bytes = strlen(folder) + strlen(file) + 2;
    char *path = context_alloc(context, bytes, 1);
    if (path)
        snprintf(path, bytes, "%s/%s", folder, file);
    return path;
}

static const char prefix[] = "transformer.";

static bool are_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static int load_parameter(qn_tensor *tensor, const qn_safetensors *file, const char *path)
{
    qn_context *context = tensor->context;
    const char *name = qn_tensor_name(tensor);
    const struct qn_file_tensor *found = qn_safetensors_find(file, name);
    if (!found && strncmp(name, prefix, sizeof prefix - 1) == 0)
        found = qn_safetensors_find(file, name + sizeof prefix - 1);
    if (!found)
        return context_fail(context, QN_ERROR_FORMAT, "%s: there is no tensor %s", path, name);
    qn_shape shape = qn_tensor_shape(tensor);
    if (!qn_shape_equal(shape, found->shape)) {
        char expected[SHAPE_TEXT], there[SHAPE_TEXT];
        return context_fail(context, QN_ERROR_FORMAT,
                            "%s: tensor %s is %s; config.json makes it %s", path, name,
                            shape_text(&found->shape, there, sizeof there),
                            shape_text(&shape, expected, sizeof expected));
    }
    float *values = context_alloc(context, qn_shape_count(shape), sizeof *values);
    int status = values ? qn_safetensors_f32(file, found, values) : QN_ERROR_MEMORY;
    if (status == QN_OK && !are_finite(values, qn_shape_count(shape)))
        status = context_fail(
            context, QN_ERROR_NOT_FINITE,
            "%s: tensor %s has numbers that are infinite or NaN: nothing can be computed with them",
            path, name);
    if (status == QN_OK && context->device)
        status = qn_tensor_write(tensor, values);
    free(values);
    return status;
}

/* Whether the model needs no tensor of this name, and is none the worse for it: older versions of transformers
 * keep the causal mask of each layer, and a tied head beside the embedding that it is. */
static bool is_redundant(const qn_gpt *gpt, const qn_safetensors *file,
                         const struct qn_file_tensor *tensor)
{
    const char *name = tensor->name;
    size_t layer;
    int end = 0;
    if (strcmp(name, "lm_head.weight") == 0) {
        const struct qn_file_tensor *wte = qn_safetensors_find(file, "transformer.wte.weight");
        wte = wte ? wte : qn_safetensors_find(file, "wte.weight");
        return wte && wte->bytes == tensor->bytes &&
               memcmp(wte->data, tensor->data, wte->bytes) == 0;
    }
    if (strncmp(name, prefix, sizeof prefix - 1) == 0)
        name += sizeof prefix - 1;
    return sscanf(name, "h.%4zu.attn.%n", &layer, &end) == 1 && end > 0 &&
           layer < gpt->config.n_layer &&
           (strcmp(name + end, "bias") == 0 || strcmp(name + end, "masked_bias") == 0);
}

static bool is_parameter(const qn_gpt *gpt, const char *name)
{
    char full[NAME_BYTES];
    int length = snprintf(full, sizeof full, "%s%s", prefix, name);
    return qn_store_find(gpt->store, name) ||
           (length < NAME_BYTES && qn_store_find(gpt->store, full) != NULL);
}

/* Else a config.json of fewer layers than the file has would make another model of it without a word. */
static int refuse_unknown(const qn_gpt *gpt, const qn_safetensors *file, const char *path)
{
    const char *first = NULL;
    size_t count = 0;
    if (qn_safetensors_count(file) == qn_store_count(gpt->store)) /* all were found */
        return QN_OK;
    for (size_t i = 0; i < qn_safetensors_count(file); i++) {
        const struct qn_file_tensor *tensor = qn_safetensors_tensor(file, i);
        if (is_parameter(gpt, tensor->name) || is_redundant(gpt, file, tensor))
            continue;
        first = first ? first : tensor->name;
        count++;
    }
    if (count == 0)
        return QN_OK;
    char quoted[QUOTED];
    return context_fail(
        gpt->context, QN_ERROR_FORMAT,
        "%s: %zu tensors are not of the model that config.json describes, the first being %s", path,
        count, quote_string(quoted, first));
}

static int load_parameters(qn_gpt *gpt, const char *path)
{
    qn_safetensors *file = qn_safetensors_open(gpt->context, path);
    if (!file)
        return gpt->context->status;
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(gpt->store); i++)
        status = load_parameter(qn_store_tensor(gpt->store, i), file, path);
    if (status == QN_OK)
        status = refuse_unknown(gpt, file, path);
    qn_safetensors_close(file);
    return status;
}

qn_gpt *qn_gpt_load(qn_context *context, const char *folder)
{
    if (!context)
        return NULL;
    char *config_path = path_in(context, folder, "config.json");
    char *model_path = path_in(context, folder, "model.safetensors");
    struct qn_gpt_config config;
    qn_gpt *gpt = NULL;
    if (config_path && model_path && qn_gpt_config_read(context, config_path, &config) == QN_OK)
        gpt = qn_gpt_new(context, &config);
    if (gpt && load_parameters(gpt, model_path) != QN_OK) {
        qn_gpt_free(gpt);
        gpt = NULL;
    }
    free(config_path);
    free(model_path);
    return gpt;
}

static int parameter_values(void *store, size_t index, void *values)
{
    qn_tensor *tensor = qn_store_tensor(store, index);
    int status = qn_tensor_read(tensor, values);
    if (status == QN_OK && !are_finite(values, qn_shape_count(qn_tensor_shape(tensor))))
        status = context_fail(tensor->context, QN_ERROR_NOT_FINITE, "parameter %s is not finite",
                              qn_tensor_name(tensor));
    return status;
}

int qn_gpt_save(const qn_gpt *gpt, const char *folder)
{
    size_t count = qn_store_count(gpt->store);
    char *config_path = path_in(gpt->context, folder, "config.json");
    char *model_path = path_in(gpt->context, folder, "model.safetensors");
    struct qn_file_tensor *tensors = context_alloc(gpt->context, count, sizeof *tensors);
    int status = config_path && model_path && tensors ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        const qn_tensor *tensor = qn_store_tensor(gpt->store, i);
        tensors[i] = (struct qn_file_tensor){.name = qn_tensor_name(tensor),
                                             .type = qn_safetensors_type(QN_F32),
                                             .shape = qn_tensor_shape(tensor),
                                             .bytes = qn_tensor_bytes(tensor)};
    }
    if (status == QN_OK)
        status = qn_gpt_config_write(gpt->context, config_path, &gpt->config);
    if (status == QN_OK)
        status = qn_safetensors_write(gpt->context, model_path, tensors, count, NULL,
                                      parameter_values, gpt->store);
    free(config_path);
    free(model_path);
    free(tensors);
    return status;
}

/* ---- The cache of keys and values ---- */

qn_gpt_cache *qn_gpt_cache_new(const qn_gpt *gpt, size_t rows)
{
    const struct qn_gpt_config *config = &gpt->config;
    qn_gpt_cache *cache = context_alloc(gpt->context, 1, sizeof *cache);
    if (!cache)
        return NULL;
    cache->layers = config->n_layer;
    cache->keys = context_alloc(gpt->context, config->n_layer, sizeof *cache->keys);
    cache->values = context_alloc(gpt->context, config->n_layer, sizeof *cache->values);
    qn_shape shape =
        QN_SHAPE(rows, config->n_positions, config->n_head, config->n_embd / config->n_head);
    bool ok = cache->keys && cache->values;
    for (size_t i = 0; ok && i < config->n_layer; i++) {
        cache->keys[i] = qn_tensor_new(gpt->context, "keys", QN_F32, shape);
        cache->values[i] = qn_tensor_new(gpt->context, "values", QN_F32, shape);
        ok = cache->keys[i] && cache->values[i];
    }
    if (ok)
        return cache;
    qn_gpt_cache_free(cache);
    return NULL;
}

void qn_gpt_cache_free(qn_gpt_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->layers; i++) {
        if (cache->keys)
            qn_tensor_free(cache->keys[i]);
        if (cache->values)
            qn_tensor_free(cache->values[i]);
    }
    free(cache->keys);
    free(cache->values);
    free(cache);
}

/* ---- The graph ---- */

struct forward {
    const qn_gpt *gpt;
    qn_graph *graph;
    const struct qn_gpt_forward *options;
    size_t rows, length; /* B, T */
    uint32_t stream;     /* of the next dropout */
};

static qn_node *linear(struct forward *forward, qn_node *x, qn_tensor *weight, qn_tensor *bias)
{
    return qn_linear(x, qn_leaf(forward->graph, weight), qn_leaf(forward->graph, bias));
}

static qn_node *norm(struct forward *forward, qn_node *x, qn_tensor *weight, qn_tensor *bias)
{
    return qn_layer_norm(x, qn_leaf(forward->graph, weight), qn_leaf(forward->graph, bias),
                         forward->gpt->config.layer_norm_epsilon);
}

static qn_node *dropout(struct forward *forward, qn_node *x, double p)
{
    return forward->options->dropout_key
               ? qn_dropout(x, p, forward->options->dropout_key, forward->stream++)
               : x;
}

static qn_node *attention(struct forward *forward, qn_node *x, size_t layer)
{
    const struct gpt_block *block = &forward->gpt->blocks[layer];
    const struct qn_gpt_config *config = &forward->gpt->config;
    size_t heads = config->n_head, head = config->n_embd / heads;
    qn_node *parts[3]; /* query, key, value: (B, T, H, D) */
    qn_split(linear(forward, x, block->c_attn_weight, block->c_attn_bias), -1, 3, parts);
    for (int i = 0; i < 3; i++)
        parts[i] = qn_reshape(parts[i], QN_SHAPE(forward->rows, forward->length, heads, head));
    const qn_gpt_cache *cache = forward->options->cache;
    qn_node *position = NULL;
    if (cache) {
        position = forward->options->position;
        parts[1] = qn_write(cache->keys[layer], parts[1], 1, position);
        parts[2] = qn_write(cache->values[layer], parts[2], 1, position);
    }
    qn_node *y = qn_attention(parts[0], parts[1], parts[2],
                              (struct qn_attention){.is_causal = true, .position = position});
    y = qn_reshape(y, QN_SHAPE(forward->rows, forward->length, config->n_embd));
    return linear(forward, y, block->attn_weight, block->attn_bias);
}

static qn_node *block(struct forward *forward, qn_node *x, size_t layer)
{
    const struct gpt_block *block = &forward->gpt->blocks[layer];
    const struct qn_gpt_config *config = &forward->gpt->config;
    qn_node *y = attention(forward, norm(forward, x, block->ln_1_weight, block->ln_1_bias), layer);
    x = qn_add(x, dropout(forward, y, config->resid_pdrop));
    y = norm(forward, x, block->ln_2_weight, block->ln_2_bias);
    y = linear(forward, y, block->c_fc_weight, block->c_fc_bias);
    y = config->activation == QN_GELU ? qn_gelu(y) : qn_relu(y);
    y = linear(forward, y, block->mlp_weight, block->mlp_bias);
    return qn_add(x, dropout(forward, y, config->resid_pdrop));
}

/* The embeddings of positions: the first T, or T from the cache's position on: (T, C). */
static qn_node *positions(struct forward *forward)
{
    /* Not a slice of wpe: its gradient would need one more kernel where the length is not n_positions. */
    qn_node *wpe = qn_leaf(forward->graph, forward->gpt->wpe),
            *ids = qn_range(forward->graph, forward->length);
    qn_node *position = forward->options->position;
    return qn_embedding(wpe, position ? qn_add(ids, position) : ids);
}

/* (B, T, C): what the head makes logits of. */
static qn_node *last_hidden(const qn_gpt *gpt, qn_node *tokens,
                            const struct qn_gpt_forward *options)
{
    if (!gpt || !tokens)
        return NULL;
    qn_shape shape = qn_node_shape(tokens);
    if (shape.rank != 2 || shape.size[1] > gpt->config.n_positions) {
        context_fail(gpt->context, QN_ERROR_INVALID,
                     "gpt: tokens must be rows of at most %zu, the context of the model",
                     gpt->config.n_positions);
        return NULL;
    }
    struct forward forward = {.gpt = gpt,
                              .graph = tokens->graph,
                              .options = options,
                              .rows = shape.size[0],
                              .length = shape.size[1]};
    qn_node *x = qn_embedding(qn_leaf(forward.graph, gpt->wte), tokens);
    x = dropout(&forward, qn_add(x, positions(&forward)), gpt->config.embd_pdrop);
    for (size_t i = 0; i < gpt->config.n_layer; i++)
        x = block(&forward, x, i);
    x = norm(&forward, x, gpt->ln_f_weight, gpt->ln_f_bias);
    return options->last_only ? qn_slice(x, 1, forward.length - 1, forward.length) : x;
}

qn_node *qn_gpt_logits(const qn_gpt *gpt, qn_node *tokens, struct qn_gpt_forward options)
{
    qn_node *x = last_hidden(gpt, tokens, &options);
    return x ? qn_matmul_with(x, qn_leaf(x->graph, gpt->lm_head),
                              (struct qn_matmul){.transpose_b = true})
             : NULL;
}

qn_node *qn_gpt_loss(const qn_gpt *gpt, qn_node *tokens, qn_node *targets,
                     struct qn_gpt_forward options)
{
    enum { MOST_BYTES = 1 << 28 };
    qn_node *x = last_hidden(gpt, tokens, &options);
    if (!x)
        return NULL;
    size_t rows = MOST_BYTES / (gpt->config.vocab_size * sizeof(float));
    return qn_linear_cross_entropy(x, qn_leaf(x->graph, gpt->lm_head), targets,
                                   (struct qn_cross_entropy){.ignore_index = QN_IGNORE},
                                   options.loss_rows ? options.loss_rows : size_max(rows, 1));
}

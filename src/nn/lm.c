/* Language models: what decoders and recurrent ones share. */
#include "nn/lm.h"

#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "io/file.h"
#include "nn/files.h"

qn_lm *qn_lm_new(qn_context *context, const struct qn_lm_config *config)
{
    if (!context || qn_lm_config_check(context, "the model", config) != QN_OK)
        return NULL;
    qn_lm *lm = context_alloc(context, 1, sizeof *lm);
    if (!lm)
        return NULL;
    lm->context = context;
    lm->config = *config;
    lm->store = qn_store_new(context, "parameters");
    bool is_recurrent = config->architecture == QN_RECURRENT;
    if (lm->store && (is_recurrent ? recurrent_parameters : decoder_parameters)(lm) == QN_OK &&
        qn_store_seal(lm->store) == QN_OK)
        return lm;
    qn_lm_free(lm);
    return NULL;
}

void qn_lm_free(qn_lm *lm)
{
    if (!lm)
        return;
    qn_store_free(lm->store);
    qn_rnn_free(lm->rnn);
    free(lm->blocks);
    free(lm);
}

int qn_lm_initialise(qn_lm *lm, uint64_t seed)
{
    return lm->rnn ? recurrent_initialise(lm, seed) : decoder_initialise(lm, seed);
}

const struct qn_lm_config *qn_lm_config(const qn_lm *lm)
{
    return &lm->config;
}

qn_store *qn_lm_parameters(const qn_lm *lm)
{
    return lm->store;
}

/* ---- Files ---- */

qn_lm *qn_lm_load(qn_context *context, const char *folder)
{
    if (!context)
        return NULL;
    struct qn_lm_config config;
    char *path = path_join(context, folder, "config.json");
    bool is_read = path && qn_lm_config_read(context, path, &config) == QN_OK;
    free(path);
    qn_lm *lm = is_read ? qn_lm_new(context, &config) : NULL;
    struct file_names names = {.prefix = lm && config.architecture == QN_LLAMA ? "model."
                                                                               : "transformer.",
                               .is_redundant = decoder_is_redundant,
                               .model = lm};
    if (lm && lm->rnn)
        names = (struct file_names){.prefix = ""};
    if (!lm || store_load(lm->store, folder, &names) == QN_OK)
        return lm;
    qn_lm_free(lm);
    return NULL;
}

int qn_lm_save(const qn_lm *lm, const char *folder)
{
    char *path = path_join(lm->context, folder, "config.json");
    int status = path ? qn_lm_config_write(lm->context, path, &lm->config) : (int)QN_ERROR_MEMORY;
    free(path);
    return status == QN_OK ? store_save(lm->store, folder) : status;
}

/* ---- What was read so far ---- */

static bool has_keys(const qn_lm *lm, size_t rows, qn_lm_cache *cache)
{
    const struct qn_lm_config *config = &lm->config;
    cache->layers = config->n_layer;
    cache->keys = context_alloc(lm->context, config->n_layer, sizeof *cache->keys);
    cache->values = context_alloc(lm->context, config->n_layer, sizeof *cache->values);
    qn_shape shape = QN_SHAPE(rows, config->n_positions, lm->sizes.kv_heads, lm->sizes.head);
    bool ok = cache->keys && cache->values;
    for (size_t i = 0; ok && i < config->n_layer; i++) {
        cache->keys[i] = qn_tensor_new(lm->context, "keys", QN_F32, shape);
        cache->values[i] = qn_tensor_new(lm->context, "values", QN_F32, shape);
        ok = cache->keys[i] && cache->values[i];
    }
    return ok;
}

static bool has_state(const qn_lm *lm, size_t rows, qn_lm_cache *cache)
{
    const struct qn_lm_config *config = &lm->config;
    size_t states = config->n_layer * (config->cell == QN_LSTM ? 2 : 1);
    cache->state =
        qn_tensor_new(lm->context, "state", QN_F32, QN_SHAPE(states, rows, config->hidden_size));
    return cache->state;
}

qn_lm_cache *qn_lm_cache_new(const qn_lm *lm, size_t rows)
{
    qn_lm_cache *cache = context_alloc(lm->context, 1, sizeof *cache);
    if (cache && (lm->rnn ? has_state : has_keys)(lm, rows, cache))
        return cache;
    qn_lm_cache_free(cache);
    return NULL;
}

int qn_lm_cache_clear(qn_lm_cache *cache)
{
    return cache->state ? qn_fill(cache->state, 0) : QN_OK;
}

void qn_lm_cache_free(qn_lm_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->layers; i++) {
        if (cache->keys)
            qn_tensor_free(cache->keys[i]);
        if (cache->values)
            qn_tensor_free(cache->values[i]);
    }
    qn_tensor_free(cache->state);
    free(cache->keys);
    free(cache->values);
    free(cache);
}

qn_tensor *qn_lm_cache_state(qn_lm_cache *cache)
{
    return cache->state;
}

/* ---- The graph ---- */

/* What the head reads of tokens (B, T): (B, T, C); or (T, B, H), if it is recurrent. */
static qn_node *last_hidden(const qn_lm *lm, qn_node *tokens, const struct qn_lm_forward *options)
{
    if (!lm || !tokens)
        return NULL;
    return lm->rnn ? recurrent_hidden(lm, tokens, options) : decoder_hidden(lm, tokens, options);
}

static qn_node *apply_head(const qn_lm *lm, qn_node *x)
{
    qn_node *y = qn_matmul_with(x, parameter_beside(x, lm->head.weight),
                                (struct qn_matmul){.transpose_b = true});
    if (lm->head.bias)
        y = qn_add(y, parameter_beside(x, lm->head.bias));
    return y;
}

qn_node *qn_lm_logits(const qn_lm *lm, qn_node *tokens, struct qn_lm_forward options)
{
    qn_node *x = last_hidden(lm, tokens, &options);
    if (x && lm->rnn)
        x = qn_transpose(x, 0, 1);
    return x ? qn_named(apply_head(lm, x), lm->rnn ? "dense" : "lm_head") : NULL;
}

qn_node *qn_lm_loss(const qn_lm *lm, qn_node *tokens, qn_node *targets,
                    struct qn_lm_forward options)
{
    qn_node *x = last_hidden(lm, tokens, &options);
    if (!x)
        return NULL;
    if (lm->rnn)
        targets = qn_transpose(targets, 0, 1);
    return linear_loss(
        x, &lm->head, targets,
        (struct qn_cross_entropy){.ignore_index = QN_IGNORE, .gradient_scale = options.loss_scale},
        options.loss_rows);
}

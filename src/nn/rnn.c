/* Recurrent layers, and language models made of them. */
#include <math.h>
#include <stdlib.h>

#include "graph/graph.h"
#include "nn/lm.h"

enum { PARAMETERS = 4 };

/* One layer in one direction: weight_ih, weight_hh, bias_ih, bias_hh. */
struct part {
    qn_tensor *parameters[PARAMETERS];
};

struct qn_rnn {
    struct qn_rnn_config config;
    struct part *parts; /* layer by layer, forward first */
};

static size_t directions_of(const qn_rnn *rnn)
{
    return rnn->config.is_bidirectional ? 2 : 1;
}

/* ---- Parameters ---- */

static int add_part(qn_store *store, const char *prefix, const struct qn_rnn_config *config,
                    size_t layer, bool reverse, struct part *part)
{
    static const char *const names[PARAMETERS] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    size_t rows = qn_cell_gates(config->cell) * config->units;
    size_t inputs =
        layer == 0 ? config->inputs : config->units * (config->is_bidirectional ? 2 : 1);
    const qn_shape shapes[PARAMETERS] = {QN_SHAPE(rows, inputs), QN_SHAPE(rows, config->units),
                                         QN_SHAPE(rows), QN_SHAPE(rows)};
    for (size_t i = 0; i < PARAMETERS; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%.50s%s_l%zu%s", prefix, names[i], layer,
                 reverse ? "_reverse" : "");
        part->parameters[i] = qn_store_add(store, name, QN_F32, shapes[i],
                                           shapes[i].rank > 1 ? QN_DECAY : QN_NO_DECAY);
        if (!part->parameters[i])
            return qn_store_context(store)->status;
    }
    return QN_OK;
}

qn_rnn *qn_rnn_add(qn_store *store, const char *prefix, const struct qn_rnn_config *config)
{
    if (!store)
        return NULL;
    qn_context *context = qn_store_context(store);
    qn_rnn *rnn = context_alloc(context, 1, sizeof *rnn);
    if (!rnn)
        return NULL;
    rnn->config = *config;
    size_t count = config->layers * directions_of(rnn);
    rnn->parts = context_alloc(context, count, sizeof *rnn->parts);
    int status = rnn->parts ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = add_part(store, prefix, config, i / directions_of(rnn),
                          i % directions_of(rnn) == 1, &rnn->parts[i]);
    if (status == QN_OK)
        return rnn;
    qn_rnn_free(rnn);
    return NULL;
}

void qn_rnn_free(qn_rnn *rnn)
{
    if (!rnn)
        return;
    free(rnn->parts);
    free(rnn);
}

int qn_rnn_initialise(qn_rnn *rnn, uint64_t seed)
{
    int status = QN_OK;
    for (size_t i = 0; i < rnn->config.layers * directions_of(rnn); i++)
        for (size_t j = 0; status == QN_OK && j < PARAMETERS; j++)
            status = fill_by_fan(rnn->parts[i].parameters[j], rnn->config.units, seed);
    return status;
}

/* ---- Nodes ---- */

/* State number i of (L D, B, H): (B, H). */
static qn_node *state_at(qn_node *states, size_t i)
{
    if (!states)
        return NULL;
    qn_shape shape = qn_node_shape(states);
    return qn_reshape(qn_slice(states, 0, i, i + 1), QN_SHAPE(shape.size[1], shape.size[2]));
}

static struct qn_sequence apply_part(const qn_rnn *rnn, qn_node *x, size_t i,
                                     const struct qn_rnn_forward *options)
{
    qn_node *parameters[PARAMETERS];
    for (size_t j = 0; j < PARAMETERS; j++)
        parameters[j] = parameter_beside(x, rnn->parts[i].parameters[j]);
    return qn_recurrent(x, &(struct qn_recurrent){.cell = rnn->config.cell,
                                                  .reverse = i % directions_of(rnn) == 1,
                                                  .weight_ih = parameters[0],
                                                  .weight_hh = parameters[1],
                                                  .bias_ih = parameters[2],
                                                  .bias_hh = parameters[3],
                                                  .h_0 = state_at(options->h_0, i),
                                                  .c_0 = state_at(options->c_0, i),
                                                  .lengths = options->lengths});
}

/* States (B, H), `count` of them, as (count, B, H). */
static qn_node *stacked(qn_node **states, size_t count)
{
    for (size_t i = 0; i < count && states[i]; i++) {
        qn_shape shape = qn_node_shape(states[i]);
        states[i] = qn_reshape(states[i], QN_SHAPE(1, shape.size[0], shape.size[1]));
    }
    return count == 1 ? states[0] : qn_concat(states, count, 0);
}

struct qn_sequence qn_rnn_apply(const qn_rnn *rnn, qn_node *x, struct qn_rnn_forward options)
{
    struct qn_sequence all = {0};
    size_t directions = directions_of(rnn), count = rnn->config.layers * directions;
    struct dropout dropout = {options.dropout_key, options.stream};
    qn_node **states = x ? graph_alloc(x->graph, 2 * count * sizeof *states) : NULL;
    if (!states)
        return all;
    qn_node **cells = states + count;
    for (size_t i = 0; i < count; i += directions) {
        qn_node *outs[2];
        for (size_t j = 0; j < directions; j++) {
            struct qn_sequence y = apply_part(rnn, x, i + j, &options);
            outs[j] = y.out;
            states[i + j] = y.h_n;
            cells[i + j] = y.c_n;
        }
        x = directions == 1 ? outs[0] : qn_concat(outs, directions, 2);
        if (i + directions < count && rnn->config.dropout > 0)
            x = apply_dropout(x, rnn->config.dropout, &dropout);
        if (!x)
            return all;
    }
    all.out = x;
    all.h_n = stacked(states, count);
    all.c_n = rnn->config.cell == QN_LSTM ? stacked(cells, count) : NULL;
    return all;
}

/* ---- Language models ---- */

int recurrent_parameters(qn_lm *lm)
{
    const struct qn_lm_config *config = &lm->config;
    size_t vocabulary = config->vocab_size, units = config->hidden_size;
    const struct qn_rnn_config layers = {.cell = config->cell,
                                         .inputs = config->n_embd,
                                         .units = units,
                                         .layers = config->n_layer,
                                         .dropout = config->resid_pdrop};
    lm->tokens = add_embedding(lm->store, "", "embedding", vocabulary, config->n_embd);
    lm->rnn = qn_rnn_add(lm->store, "rnn.", &layers);
    lm->head.is_transposed = true;
    lm->head.weight = config->tie_word_embeddings
                          ? lm->tokens
                          : add_embedding(lm->store, "", "dense", vocabulary, units);
    lm->head.bias =
        qn_store_add(lm->store, "dense.bias", QN_F32, QN_SHAPE(vocabulary), QN_NO_DECAY);
    return lm->rnn ? lm->context->status : QN_ERROR_MEMORY;
}

int recurrent_initialise(qn_lm *lm, uint64_t seed)
{
    size_t units = lm->config.hidden_size;
    int status = qn_fill_normal(lm->tokens, 0,
                                lm->config.tie_word_embeddings ? 1 / sqrt((double)units) : 1, seed);
    if (status == QN_OK)
        status = qn_rnn_initialise(lm->rnn, seed);
    if (status == QN_OK && lm->head.weight != lm->tokens)
        status = fill_by_fan(lm->head.weight, units, seed);
    return status == QN_OK ? fill_by_fan(lm->head.bias, units, seed) : status;
}

/* States of the cache, `parts` halves of which number `part` is wanted. */
static qn_node *cached(const qn_lm *lm, qn_node *state, size_t part, enum qn_type type)
{
    size_t layers = lm->config.n_layer;
    qn_node *half = state ? qn_slice(state, 0, part * layers, (part + 1) * layers) : NULL;
    return half && type != QN_F32 ? qn_cast(half, type) : half;
}

qn_node *recurrent_hidden(const qn_lm *lm, qn_node *tokens, const struct qn_lm_forward *options)
{
    const struct qn_lm_config *config = &lm->config;
    bool is_lstm = config->cell == QN_LSTM;
    struct dropout dropout = {.key = options->dropout_key};
    qn_node *state = options->cache ? qn_leaf(tokens->graph, options->cache->state) : NULL;
    qn_node *x = qn_embedding(qn_leaf(tokens->graph, lm->tokens), qn_transpose(tokens, 0, 1));
    x = name_by_weight(x, lm->tokens);
    if (options->type != QN_F32)
        x = qn_cast(x, options->type);
    x = apply_dropout(x, config->resid_pdrop, &dropout);
    struct qn_sequence y = qn_rnn_apply(
        lm->rnn, x,
        (struct qn_rnn_forward){.h_0 = cached(lm, state, 0, options->type),
                                .c_0 = is_lstm ? cached(lm, state, 1, options->type) : NULL,
                                .dropout_key = dropout.key,
                                .stream = dropout.stream});
    if (!y.out)
        return NULL;
    dropout.stream += (uint32_t)config->n_layer - 1;
    x = qn_named(y.out, "rnn");
    if (state) {
        /* What is read of the new state comes after it is written. */
        qn_node *parts[] = {y.h_n, y.c_n};
        qn_node *new_state = is_lstm ? qn_concat(parts, 2, 0) : y.h_n;
        new_state = qn_cast(new_state, QN_F32);
        if (options->new_state)
            *options->new_state = new_state;
        else
            state = qn_assign(options->cache->state, new_state);
        x = options->last_only ? qn_slice(state, 0, config->n_layer - 1, config->n_layer) : x;
    } else if (options->last_only) {
        size_t length = qn_node_shape(x).size[0];
        x = qn_slice(x, 0, length - 1, length);
    }
    return apply_dropout(x, config->resid_pdrop, &dropout);
}

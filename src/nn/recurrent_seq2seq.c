/* Recurrent encoder-decoders.  States and outputs of layers are time by time, (T, B, H); what attention compares is row by row. */
#include <math.h>

#include "graph/graph.h"
#include "nn/seq2seq.h"

/* ---- Parameters ---- */

static void add_attention(qn_seq2seq *model)
{
    struct recurrent_sides *sides = &model->recurrent;
    size_t units = model->config.hidden_size;
    qn_store *store = model->store;
    switch (model->config.attention) {
    case QN_NO_SCORE:
        return;
    case QN_ADDITIVE:
        sides->query = add_linear(store, "", "query", units, units, false);
        sides->key = add_linear(store, "", "key", units, units, false);
        sides->score = add_linear(store, "", "v", units, 1, false);
        return;
    case QN_GENERAL:
        sides->key = add_linear(store, "", "general", units, units, false);
        break;
    case QN_DOT:
        break;
    }
    sides->combine = add_linear(store, "", "combine", 2 * units, units, false);
}

int recurrent_seq2seq_parameters(qn_seq2seq *model)
{
    const struct qn_seq2seq_config *config = &model->config;
    struct recurrent_sides *sides = &model->recurrent;
    size_t units = config->hidden_size;
    bool is_additive = config->attention == QN_ADDITIVE;
    const struct qn_rnn_config encoder = {.cell = config->cell,
                                          .inputs = config->width,
                                          .units = units / (config->is_bidirectional ? 2 : 1),
                                          .layers = config->encoder_layers,
                                          .is_bidirectional = config->is_bidirectional,
                                          .dropout = config->dropout};
    const struct qn_rnn_config decoder = {.cell = config->cell,
                                          .inputs = config->width + (is_additive ? units : 0),
                                          .units = units,
                                          .layers = config->decoder_layers,
                                          .dropout = config->dropout};
    seq2seq_embeddings(model, &sides->source, &sides->target);
    sides->encoder = qn_rnn_add(model->store, "encoder.", &encoder);
    sides->decoder = qn_rnn_add(model->store, "decoder.", &decoder);
    if (!sides->encoder || !sides->decoder)
        return model->context->status;
    add_attention(model);
    if (config->has_bridge) {
        sides->bridge_h = add_linear(model->store, "", "bridge_h", units, units, true);
        if (config->cell == QN_LSTM)
            sides->bridge_c = add_linear(model->store, "", "bridge_c", units, units, true);
    }
    seq2seq_add_head(model, "output", is_additive ? 2 * units : units, sides->target);
    return model->context->status;
}

int recurrent_seq2seq_initialise(qn_seq2seq *model, uint64_t seed)
{
    const double of_embeddings = 0.1, bound = 1 / sqrt((double)model->config.hidden_size);
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(model->store); i++) {
        qn_tensor *tensor = qn_store_tensor(model->store, i);
        bool is_embedding = tensor == model->recurrent.source || tensor == model->recurrent.target;
        status = is_embedding ? qn_fill_normal(tensor, 0, of_embeddings, seed)
                              : qn_fill_uniform(tensor, -bound, bound, seed);
    }
    return status;
}

/* ---- The encoder ---- */

static qn_node *embed(const qn_seq2seq *model, qn_tensor *table, qn_node *tokens, enum qn_type type,
                      struct dropout *dropout)
{
    qn_node *x = qn_embedding(qn_leaf(tokens->graph, table), tokens);
    x = name_by_weight(x, table);
    if (type != QN_F32)
        x = qn_cast(x, type);
    return apply_dropout(x, model->config.dropout, dropout);
}

/* Layers over x (T, B, I), whose dropouts come next. */
static struct qn_sequence apply_layers(const qn_seq2seq *model, const qn_rnn *layers, qn_node *x,
                                       struct qn_rnn_forward forward, struct dropout *dropout)
{
    forward.dropout_key = dropout->key;
    forward.stream = dropout->stream;
    dropout->stream += (uint32_t)model->config.encoder_layers - 1;
    return qn_rnn_apply(layers, x, forward);
}

/* The encoder's last states as the decoder's first: those of two directions side by side, (2 L, B, H/2) -> (L, B, H). */
static qn_node *carry(const qn_seq2seq *model, qn_node *states, const struct linear *bridge)
{
    const struct qn_seq2seq_config *config = &model->config;
    if (states && config->is_bidirectional) {
        size_t layers = config->encoder_layers, rows = qn_node_shape(states).size[1],
               half = config->hidden_size / 2;
        states = qn_transpose(qn_reshape(states, QN_SHAPE(layers, 2, rows, half)), 1, 2);
        states = qn_reshape(states, QN_SHAPE(layers, rows, 2 * half));
    }
    return bridge->weight ? qn_tanh(apply_linear(states, bridge)) : states;
}

struct recurrent_memory recurrent_encode(const qn_seq2seq *model, qn_node *source, qn_node *lengths,
                                         enum qn_type type, struct dropout *dropout)
{
    const struct recurrent_sides *sides = &model->recurrent;
    struct recurrent_memory memory = {.lengths = lengths};
    qn_node *x = embed(model, sides->source, qn_transpose(source, 0, 1), type, dropout);
    struct qn_sequence y = apply_layers(model, sides->encoder, x,
                                        (struct qn_rnn_forward){.lengths = lengths}, dropout);
    memory.state.h = carry(model, y.h_n, &sides->bridge_h);
    if (model->config.cell == QN_LSTM)
        memory.state.c = carry(model, y.c_n, &sides->bridge_c);
    if (model->config.attention == QN_NO_SCORE)
        return memory;
    memory.encoded = qn_named(qn_transpose(y.out, 0, 1), "encoder");
    qn_node *keys = sides->key.weight ? apply_linear(y.out, &sides->key) : y.out;
    memory.keys = qn_transpose(keys, 0, 1);
    return memory;
}

/* ---- Attention ---- */

/* Scores beyond a row's length hidden: (B, n, Ts). */
static qn_node *hide_padding(qn_node *scores, qn_node *lengths)
{
    if (!scores || !lengths)
        return scores;
    qn_shape shape = qn_node_shape(scores);
    qn_node *positions = qn_range(scores->graph, shape.size[2]);
    qn_node *is_there = qn_less(positions, qn_reshape(lengths, QN_SHAPE(shape.size[0], 1, 1)));
    return qn_where(is_there, scores, qn_constant(scores->graph, -1e30));
}

/* v . tanh(Q s + K e) of states s (B, n, H). */
static qn_node *additive_scores(const qn_seq2seq *model, qn_node *states, qn_node *keys)
{
    qn_node *queries = apply_linear(states, &model->recurrent.query);
    if (!queries || !keys)
        return NULL;
    qn_shape of_states = qn_node_shape(queries), of_keys = qn_node_shape(keys);
    size_t rows = of_states.size[0], n = of_states.size[1], units = of_states.size[2],
           length = of_keys.size[1];
    queries = qn_reshape(queries, QN_SHAPE(rows, n, 1, units));
    keys = qn_reshape(keys, QN_SHAPE(rows, 1, length, units));
    qn_node *scores = apply_linear(qn_tanh(qn_add(queries, keys)), &model->recurrent.score);
    return qn_reshape(scores, QN_SHAPE(rows, n, length));
}

/* (T, R, H) -> (B, n, H), for T of 1 or as many rows as sources. */
static qn_node *by_source(qn_node *x, size_t sources)
{
    qn_shape shape = x ? qn_node_shape(x) : QN_SHAPE(0, 0, 0);
    return shape.size[0] == 1
               ? qn_reshape(x, QN_SHAPE(sources, shape.size[1] / sources, shape.size[2]))
               : qn_transpose(x, 0, 1);
}

/* What states (T, R, H) see of the sources, whose rows follow one another: (T, R, H). */
static qn_node *attend(const qn_seq2seq *model, qn_node *states,
                       const struct recurrent_memory *memory, qn_node **weights)
{
    if (!states || !memory->keys)
        return NULL;
    qn_shape shape = qn_node_shape(states);
    qn_node *queries = by_source(states, qn_node_shape(memory->keys).size[0]);
    qn_node *scores =
        model->config.attention == QN_ADDITIVE
            ? additive_scores(model, queries, memory->keys)
            : qn_matmul_with(queries, memory->keys, (struct qn_matmul){.transpose_b = true});
    qn_node *probabilities = qn_softmax(hide_padding(scores, memory->lengths), -1);
    if (weights)
        *weights = probabilities;
    qn_node *context = qn_named(qn_matmul(probabilities, memory->encoded), "attention");
    return shape.size[0] == 1 ? qn_reshape(context, shape) : qn_transpose(context, 0, 1);
}

/* ---- The decoder ---- */

static qn_node *last_layer(qn_node *states)
{
    size_t layers = states ? qn_node_shape(states).size[0] : 1;
    return qn_slice(states, 0, layers - 1, layers);
}

/* Additive attention sees what the state before a token asks for, so that its tokens are read one by one: x (1, R, E). */
static qn_node *read_token(const qn_seq2seq *model, qn_node *x,
                           const struct recurrent_memory *memory, struct recurrent_state *state,
                           struct dropout *dropout, qn_node **weights)
{
    qn_node *context = attend(model, last_layer(state->h), memory, weights);
    x = qn_concat((qn_node *[]){x, context}, 2, 2);
    struct qn_sequence y =
        apply_layers(model, model->recurrent.decoder, x,
                     (struct qn_rnn_forward){.h_0 = state->h, .c_0 = state->c}, dropout);
    *state = (struct recurrent_state){y.h_n, y.c_n};
    return qn_concat((qn_node *[]){y.out, context}, 2, 2);
}

static qn_node *read_one_by_one(const qn_seq2seq *model, qn_node *x,
                                const struct recurrent_memory *memory,
                                struct recurrent_state *state, struct dropout *dropout,
                                qn_node **weights)
{
    size_t length = qn_node_shape(x).size[0];
    qn_node **parts = graph_alloc(x->graph, length * sizeof *parts);
    for (size_t i = 0; parts && i < length; i++)
        parts[i] = read_token(model, qn_slice(x, 0, i, i + 1), memory, state, dropout, weights);
    return parts ? qn_concat(parts, length, 0) : NULL;
}

qn_node *recurrent_decode(const qn_seq2seq *model, qn_node *tokens, enum qn_type type,
                          const struct recurrent_memory *memory, struct recurrent_state *state,
                          struct dropout *dropout, qn_node **weights)
{
    const struct recurrent_sides *sides = &model->recurrent;
    qn_node *x = embed(model, sides->target, qn_transpose(tokens, 0, 1), type, dropout), *features;
    if (!x || !state->h)
        return NULL;
    if (model->config.attention == QN_ADDITIVE) {
        features = read_one_by_one(model, x, memory, state, dropout, weights);
    } else {
        struct qn_sequence y =
            apply_layers(model, sides->decoder, x,
                         (struct qn_rnn_forward){.h_0 = state->h, .c_0 = state->c}, dropout);
        *state = (struct recurrent_state){y.h_n, y.c_n};
        features = y.out;
        if (sides->combine.weight) {
            qn_node *context = attend(model, y.out, memory, weights);
            features = qn_tanh(
                apply_linear(qn_concat((qn_node *[]){context, y.out}, 2, 2), &sides->combine));
        }
    }
    return apply_dropout(features, model->config.dropout, dropout);
}

/* ---- Training ---- */

/* Of each row with probability `share` the greatest of the logits that the features before make, else the target's token. */
static qn_node *mix_tokens(const qn_seq2seq *model, qn_node *tokens, qn_node *features,
                           double share, struct dropout *dropout)
{
    qn_shape shape = qn_node_shape(tokens);
    qn_node *best = qn_argmax(qn_cast(seq2seq_head(model, features), QN_F32), -1);
    qn_node *number = qn_uniform(shape, dropout->key, dropout->stream++);
    return qn_where(qn_less(number, qn_constant(tokens->graph, share)), qn_reshape(best, shape),
                    tokens);
}

/* Scheduled sampling: the decoder reads its own predictions, so that tokens come one by one. */
static qn_node *decode_own(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                           const struct qn_seq2seq_forward *options,
                           const struct recurrent_memory *memory, struct recurrent_state *state,
                           struct dropout *dropout)
{
    size_t length = qn_node_shape(input->target).size[1];
    qn_node **parts = graph_alloc(input->target->graph, length * sizeof *parts);
    for (size_t i = 0; parts && i < length; i++) {
        qn_node *tokens = qn_slice(input->target, 1, i, i + 1);
        if (i > 0)
            tokens = mix_tokens(model, tokens, parts[i - 1], options->scheduled_sampling, dropout);
        parts[i] = recurrent_decode(model, tokens, options->type, memory, state, dropout, NULL);
        if (!parts[i])
            return NULL;
    }
    return parts ? qn_concat(parts, length, 0) : NULL;
}

qn_node *recurrent_seq2seq_hidden(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                                  const struct qn_seq2seq_forward *options)
{
    struct dropout dropout = {.key = options->dropout_key};
    struct recurrent_memory memory =
        recurrent_encode(model, input->source, input->source_lengths, options->type, &dropout);
    struct recurrent_state state = memory.state;
    if (options->scheduled_sampling > 0)
        return decode_own(model, input, options, &memory, &state, &dropout);
    return recurrent_decode(model, input->target, options->type, &memory, &state, &dropout, NULL);
}

/* ---- Decoding ---- */

/* (L, R, H) <-> (R, L, H). */
static qn_node *keep_state(qn_tensor *tensor, qn_node *state, qn_node *first)
{
    return qn_write(tensor, qn_transpose(state, 0, 1), 0, first);
}

static qn_node *kept_state(qn_tensor *tensor, qn_node *parents)
{
    qn_shape shape = qn_tensor_shape(tensor);
    size_t layers = shape.size[1], units = shape.size[2], rows = qn_node_shape(parents).size[0];
    qn_node *states = from_places(parents->graph, tensor, parents, layers * units);
    return qn_transpose(qn_reshape(states, QN_SHAPE(rows, layers, units)), 0, 1);
}

/* (B, Ts, H) at the first places. */
static qn_node *keep_encoded(qn_tensor *tensor, qn_node *x, qn_node *first)
{
    qn_shape shape = x ? qn_node_shape(x) : QN_SHAPE(0, 0, 0);
    return qn_write(
        tensor, qn_reshape(x, QN_SHAPE(1, shape.size[0] * shape.size[1], shape.size[2])), 1, first);
}

size_t recurrent_remember(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                          qn_node *source, qn_node *lengths, qn_node **roots)
{
    struct dropout none = {0};
    struct recurrent_memory memory = recurrent_encode(model, source, lengths, QN_F32, &none);
    qn_node *first = qn_cast(qn_constant(source->graph, 0), QN_I32);
    size_t count = 0;
    roots[count++] = keep_state(cache->h, memory.state.h, first);
    if (cache->c)
        roots[count++] = keep_state(cache->c, memory.state.c, first);
    if (cache->encoded)
        roots[count++] = keep_encoded(cache->encoded, memory.encoded, first);
    if (cache->encoded_keys)
        roots[count++] = keep_encoded(cache->encoded_keys, memory.keys, first);
    return count;
}

qn_node *recurrent_step(const qn_seq2seq *model, const struct seq2seq_cache *cache,
                        struct decoder_step *step)
{
    qn_graph *graph = step->tokens->graph;
    size_t units = model->config.hidden_size;
    struct dropout none = {0};
    struct recurrent_memory memory = {.lengths = step->lengths};
    struct recurrent_state state = {.h = kept_state(cache->h, step->parents)};
    if (cache->c)
        state.c = kept_state(cache->c, step->parents);
    if (cache->encoded)
        memory.keys = memory.encoded =
            from_places(graph, cache->encoded, step->source_table, units);
    if (cache->encoded_keys)
        memory.keys = from_places(graph, cache->encoded_keys, step->source_table, units);
    qn_node *x =
        recurrent_decode(model, step->tokens, QN_F32, &memory, &state, &none, step->weights);
    qn_node *first = qn_cast(qn_constant(graph, 0), QN_I32);
    step->writes[0] = keep_state(cache->h, state.h, first);
    step->writes[1] = cache->c ? keep_state(cache->c, state.c, first) : NULL;
    return x;
}

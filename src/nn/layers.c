/* Layers that models share. */
#include "nn/layers.h"

#include <math.h>

#include <string.h>

#include "graph/graph.h"

/* ---- Parameters ---- */

static qn_tensor *add_tensor(qn_store *store, const char *prefix, const char *name,
                             const char *suffix, qn_shape shape)
{
    char whole[2 * NAME_BYTES];
    snprintf(whole, sizeof whole, "%s%s%s", prefix, name, suffix);
    return qn_store_add(store, whole, QN_F32, shape, shape.rank > 1 ? QN_DECAY : QN_NO_DECAY);
}

const char *layer_prefix(char prefix[NAME_BYTES], const char *format, size_t layer)
{
    snprintf(prefix, NAME_BYTES, format, layer);
    return prefix;
}

struct linear add_linear(qn_store *store, const char *prefix, const char *name, size_t in,
                         size_t out, bool has_bias)
{
    struct linear linear = {.is_transposed = true};
    linear.weight = add_tensor(store, prefix, name, ".weight", QN_SHAPE(out, in));
    if (has_bias)
        linear.bias = add_tensor(store, prefix, name, ".bias", QN_SHAPE(out));
    return linear;
}

struct linear add_conv1d(qn_store *store, const char *prefix, const char *name, size_t in,
                         size_t out)
{
    struct linear linear = {0};
    linear.weight = add_tensor(store, prefix, name, ".weight", QN_SHAPE(in, out));
    linear.bias = add_tensor(store, prefix, name, ".bias", QN_SHAPE(out));
    return linear;
}

struct norm add_norm(qn_store *store, const char *prefix, const char *name, size_t width,
                     bool has_bias)
{
    struct norm norm = {0};
    norm.weight = add_tensor(store, prefix, name, ".weight", QN_SHAPE(width));
    if (has_bias)
        norm.bias = add_tensor(store, prefix, name, ".bias", QN_SHAPE(width));
    return norm;
}

qn_tensor *add_embedding(qn_store *store, const char *prefix, const char *name, size_t count,
                         size_t width)
{
    return add_tensor(store, prefix, name, ".weight", QN_SHAPE(count, width));
}

bool name_ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

int fill_by_fan(qn_tensor *tensor, size_t fan, uint64_t seed)
{
    double bound = 1 / sqrt((double)fan);
    return qn_fill_uniform(tensor, -bound, bound, seed);
}

int initialise_parameter(qn_tensor *tensor, double deviation, uint64_t seed)
{
    if (name_ends_with(qn_tensor_name(tensor), ".bias"))
        return qn_fill(tensor, 0);
    if (qn_tensor_shape(tensor).rank == 1)
        return qn_fill(tensor, 1);
    return qn_fill_normal(tensor, 0, deviation, seed);
}

bool are_rows(const qn_node *tokens, const char *model, size_t n_positions)
{
    qn_shape shape = qn_node_shape(tokens);
    if (shape.rank == 2 && shape.size[1] <= n_positions)
        return true;
    context_fail(tokens->graph->context, QN_ERROR_INVALID,
                 "%s: tokens must be rows of at most %zu, the context of the model", model,
                 n_positions);
    return false;
}

/* ---- Nodes ---- */

qn_node *parameter_beside(const qn_node *x, qn_tensor *tensor)
{
    qn_node *leaf = x ? qn_leaf(x->graph, tensor) : NULL;
    return leaf && qn_node_type(leaf) != qn_node_type(x) ? qn_cast(leaf, qn_node_type(x)) : leaf;
}

qn_node *name_module(qn_node *x, const char *prefix, size_t layer, const char *suffix)
{
    char name[2 * NAME_BYTES];
    layer_prefix(name, prefix, layer);
    strcat(name, suffix);
    return qn_named(x, name);
}

qn_node *name_by_weight(qn_node *x, const qn_tensor *weight)
{
    char name[2 * NAME_BYTES];
    snprintf(name, sizeof name, "%s", qn_tensor_name(weight));
    if (name_ends_with(name, ".weight"))
        *strrchr(name, '.') = '\0';
    return qn_named(x, name);
}

qn_node *apply_linear(qn_node *x, const struct linear *linear)
{
    qn_node *y = qn_matmul_with(x, parameter_beside(x, linear->weight),
                                (struct qn_matmul){.transpose_b = linear->is_transposed});
    if (linear->bias)
        y = qn_add(y, parameter_beside(x, linear->bias));
    return name_by_weight(y, linear->weight);
}

qn_node *linear_loss(qn_node *x, const struct linear *linear, qn_node *targets,
                     struct qn_cross_entropy options, size_t rows)
{
    enum { MOST_BYTES = 1 << 28 };
    size_t width = qn_tensor_shape(linear->weight).size[0];
    if (rows == 0)
        rows = size_max(MOST_BYTES / (width * sizeof(float)), 1);
    if (linear->bias)
        options.bias = parameter_beside(x, linear->bias);
    return qn_linear_cross_entropy(x, parameter_beside(x, linear->weight), targets, options, rows);
}

qn_node *apply_linear_part(qn_node *x, const struct linear *linear, size_t begin, size_t end)
{
    if (begin == 0 && end == qn_tensor_shape(linear->weight).size[0])
        return apply_linear(x, linear);
    qn_node *weight = qn_slice(parameter_beside(x, linear->weight), 0, begin, end);
    qn_node *bias = qn_slice(parameter_beside(x, linear->bias), 0, begin, end);
    qn_node *y = qn_matmul_with(x, weight, (struct qn_matmul){.transpose_b = true});
    return name_by_weight(qn_add(y, bias), linear->weight);
}

qn_node *apply_norm(qn_node *x, const struct norm *norm, double epsilon)
{
    qn_node *weight = parameter_beside(x, norm->weight);
    qn_node *y = norm->bias ? qn_layer_norm(x, weight, parameter_beside(x, norm->bias), epsilon)
                            : qn_rms_norm(x, weight, epsilon);
    return name_by_weight(y, norm->weight);
}

qn_node *apply_dropout(qn_node *x, double p, struct dropout *dropout)
{
    return dropout->key ? qn_dropout(x, p, dropout->key, dropout->stream++) : x;
}

qn_node *apply_activation(qn_node *x, enum qn_activation activation)
{
    switch (activation) {
    case QN_RELU:
        return qn_relu(x);
    case QN_GELU:
        return qn_gelu(x);
    case QN_GELU_ERF:
        return qn_gelu_erf(x);
    case QN_SILU:
        return qn_silu(x);
    case QN_NO_ACTIVATION:
        break;
    }
    return x;
}

/* 0 where a query sees a key, else what makes its weight 0: (Tq, Tk), or (B, 1, 1, Tk). */
static qn_node *hidden_keys(qn_node *scores, bool is_causal, qn_node *lengths)
{
    const double nothing = -1e30;
    qn_graph *graph = scores->graph;
    qn_shape shape = qn_node_shape(scores);
    size_t queries = shape.size[2], keys = shape.size[3];
    qn_node *key = qn_range(graph, keys), *sees = NULL;
    if (is_causal)
        sees = qn_less_equal(key, qn_reshape(qn_range(graph, queries), QN_SHAPE(queries, 1)));
    else if (lengths)
        sees = qn_less(key, qn_reshape(lengths, QN_SHAPE(shape.size[0], 1, 1, 1)));
    return sees ? qn_where(sees, qn_constant(graph, 0), qn_constant(graph, nothing)) : NULL;
}

qn_node *attention_weights(qn_node *q, qn_node *k, bool is_causal, qn_node *lengths)
{
    if (!q || !k)
        return NULL;
    qn_shape of_q = qn_node_shape(q), of_k = qn_node_shape(k);
    size_t rows = of_q.size[0], queries = of_q.size[1], heads = of_q.size[2], size = of_q.size[3],
           keys = of_k.size[1], groups = of_k.size[2];
    /* Neighbouring heads share keys: their queries are rows of one product. */
    q = qn_reshape(qn_transpose(q, 1, 2), QN_SHAPE(rows, groups, heads / groups * queries, size));
    qn_node *scores =
        qn_matmul_with(q, qn_transpose(k, 1, 2), (struct qn_matmul){.transpose_b = true});
    scores = qn_scale(qn_cast(scores, QN_F32), 1 / sqrt((double)size));
    scores = qn_reshape(scores, QN_SHAPE(rows, heads, queries, keys));
    qn_node *hidden = scores ? hidden_keys(scores, is_causal, lengths) : NULL;
    return qn_softmax(hidden ? qn_add(scores, hidden) : scores, -1);
}

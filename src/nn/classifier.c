/* Classifiers of texts: recurrent layers between an embedding and a layer of labels. */
#include <stdlib.h>

#include "graph/graph.h"
#include "io/file.h"
#include "nn/files.h"
#include "nn/layers.h"

struct qn_classifier {
    qn_context *context;
    struct qn_classifier_config config;
    qn_labels *labels;
    qn_store *store;
    qn_tensor *tokens; /* (V, E) */
    qn_rnn *rnn;
    struct linear head; /* (labels, D H) */
};

static size_t directions_of(const struct qn_classifier_config *config)
{
    return config->is_bidirectional ? 2 : 1;
}

/* ---- Parameters ---- */

static qn_labels *copy_labels(qn_context *context, const qn_labels *labels)
{
    size_t count = qn_labels_count(labels);
    const char **names = context_alloc(context, count, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = qn_labels_name(labels, i);
    qn_labels *copy = names ? qn_labels_new(context, names, count) : NULL;
    free(names);
    return copy;
}

static int add_parameters(qn_classifier *classifier)
{
    const struct qn_classifier_config *config = &classifier->config;
    const struct qn_rnn_config layers = {.cell = config->cell,
                                         .inputs = config->embedding_size,
                                         .units = config->hidden_size,
                                         .layers = config->n_layer,
                                         .is_bidirectional = config->is_bidirectional,
                                         .dropout = config->dropout};
    qn_store *store = classifier->store = qn_store_new(classifier->context, "parameters");
    classifier->tokens =
        add_embedding(store, "", "embedding", config->vocab_size, config->embedding_size);
    classifier->rnn = qn_rnn_add(store, "rnn.", &layers);
    classifier->head = add_linear(store, "", "dense", directions_of(config) * config->hidden_size,
                                  config->n_labels, true);
    return classifier->rnn ? qn_store_seal(store) : QN_ERROR_MEMORY;
}

qn_classifier *qn_classifier_new(qn_context *context, const struct qn_classifier_config *config,
                                 const qn_labels *labels)
{
    if (!context || !labels ||
        qn_classifier_config_check(context, "the classifier", config) != QN_OK)
        return NULL;
    if (qn_labels_count(labels) != config->n_labels) {
        context_fail(context, QN_ERROR_INVALID, "the classifier: expected %zu labels, found %zu",
                     config->n_labels, qn_labels_count(labels));
        return NULL;
    }
    qn_classifier *classifier = context_alloc(context, 1, sizeof *classifier);
    if (!classifier)
        return NULL;
    *classifier = (qn_classifier){.context = context, .config = *config};
    classifier->labels = copy_labels(context, labels);
    if (classifier->labels && add_parameters(classifier) == QN_OK)
        return classifier;
    qn_classifier_free(classifier);
    return NULL;
}

void qn_classifier_free(qn_classifier *classifier)
{
    if (!classifier)
        return;
    qn_rnn_free(classifier->rnn);
    qn_store_free(classifier->store);
    qn_labels_free(classifier->labels);
    free(classifier);
}

int qn_classifier_initialise(qn_classifier *classifier, uint64_t seed)
{
    size_t inputs = directions_of(&classifier->config) * classifier->config.hidden_size;
    int status = qn_fill_normal(classifier->tokens, 0, 1, seed);
    if (status == QN_OK)
        status = qn_rnn_initialise(classifier->rnn, seed);
    if (status == QN_OK)
        status = fill_by_fan(classifier->head.weight, inputs, seed);
    return status == QN_OK ? fill_by_fan(classifier->head.bias, inputs, seed) : status;
}

const struct qn_classifier_config *qn_classifier_config(const qn_classifier *classifier)
{
    return &classifier->config;
}

const qn_labels *qn_classifier_labels(const qn_classifier *classifier)
{
    return classifier->labels;
}

qn_store *qn_classifier_parameters(const qn_classifier *classifier)
{
    return classifier->store;
}

/* ---- Files ---- */

qn_classifier *qn_classifier_load(qn_context *context, const char *folder)
{
    if (!context)
        return NULL;
    struct qn_classifier_config config;
    char *path = path_join(context, folder, "config.json");
    qn_labels *labels = path ? qn_classifier_config_read(context, path, &config) : NULL;
    free(path);
    qn_classifier *classifier = labels ? qn_classifier_new(context, &config, labels) : NULL;
    qn_labels_free(labels);
    struct file_names names = {.prefix = ""};
    if (!classifier || store_load(classifier->store, folder, &names) == QN_OK)
        return classifier;
    qn_classifier_free(classifier);
    return NULL;
}

int qn_classifier_save(const qn_classifier *classifier, const char *folder)
{
    qn_context *context = classifier->context;
    char *path = path_join(context, folder, "config.json");
    int status =
        path ? qn_classifier_config_write(context, path, &classifier->config, classifier->labels)
             : (int)QN_ERROR_MEMORY;
    free(path);
    return status == QN_OK ? store_save(classifier->store, folder) : status;
}

/* ---- The graph ---- */

/* Rows (B, D H) of states (L D, B, H): those of the last layer. */
static qn_node *last_states(const struct qn_classifier_config *config, qn_node *states)
{
    size_t directions = directions_of(config), layers = config->n_layer;
    qn_node *last = qn_slice(states, 0, (layers - 1) * directions, layers * directions);
    if (!last)
        return NULL;
    size_t rows = qn_node_shape(last).size[1];
    return qn_reshape(qn_transpose(last, 0, 1), QN_SHAPE(rows, directions * config->hidden_size));
}

/* Rows (B, D H) of outputs (T, B, D H), which are zeros beyond the lengths. */
static qn_node *mean_output(qn_node *out, qn_node *lengths)
{
    if (!out || !lengths)
        return qn_mean(out, 1);
    qn_node *count = qn_maximum(qn_cast(lengths, QN_F32), qn_constant(out->graph, 1));
    qn_node *sum = qn_sum(out, 1);
    count = qn_reshape(count, QN_SHAPE(qn_node_shape(out).size[1], 1));
    return qn_div(sum, qn_cast(count, out->outputs[0].type));
}

static qn_node *max_output(qn_node *out, qn_node *lengths)
{
    const double below_all = -65504; /* what f16 holds, too */
    if (!out || !lengths)
        return qn_max(out, 1);
    size_t length = qn_node_shape(out).size[0], rows = qn_node_shape(out).size[1];
    qn_node *places = qn_reshape(qn_range(out->graph, length), QN_SHAPE(length, 1, 1));
    qn_node *is_token = qn_less(places, qn_reshape(lengths, QN_SHAPE(rows, 1)));
    qn_node *nothing = qn_cast(qn_constant(out->graph, below_all), out->outputs[0].type);
    return qn_max(qn_where(is_token, out, nothing), 1);
}

static qn_node *pool(const struct qn_classifier_config *config, const struct qn_sequence *y,
                     qn_node *lengths)
{
    switch (config->pooling) {
    case QN_POOL_MEAN:
        return mean_output(y->out, lengths);
    case QN_POOL_MAX:
        return max_output(y->out, lengths);
    default:
        return last_states(config, y->h_n);
    }
}

qn_node *qn_classifier_logits(const qn_classifier *classifier, qn_node *tokens,
                              struct qn_classifier_forward options)
{
    if (!classifier || !tokens || !are_rows(tokens, "classifier", SIZE_MAX))
        return NULL;
    const struct qn_classifier_config *config = &classifier->config;
    struct dropout dropout = {.key = options.dropout_key};
    qn_node *x =
        qn_embedding(qn_leaf(tokens->graph, classifier->tokens), qn_transpose(tokens, 0, 1));
    x = name_by_weight(x, classifier->tokens);
    if (options.type != QN_F32)
        x = qn_cast(x, options.type);
    x = apply_dropout(x, config->dropout, &dropout);
    struct qn_sequence y = qn_rnn_apply(classifier->rnn, x,
                                        (struct qn_rnn_forward){.lengths = options.lengths,
                                                                .dropout_key = dropout.key,
                                                                .stream = dropout.stream});
    dropout.stream += (uint32_t)config->n_layer - 1;
    x = apply_dropout(qn_named(pool(config, &y, options.lengths), "rnn"), config->dropout,
                      &dropout);
    return qn_named(apply_linear(x, &classifier->head), "dense");
}

qn_node *qn_classifier_loss(const qn_classifier *classifier, qn_node *tokens, qn_node *targets,
                            struct qn_classifier_forward options)
{
    return qn_cross_entropy(qn_classifier_logits(classifier, tokens, options), targets);
}

/* Encoder-decoders: what Transformers and recurrent ones share. */
#include "nn/seq2seq.h"

#include <stdlib.h>

#include "graph/graph.h"
#include "io/file.h"

/* What the two kinds do each in its way. */
static const struct kind {
    int (*parameters)(qn_seq2seq *model);
    int (*initialise)(qn_seq2seq *model, uint64_t seed);
    qn_node *(*hidden)(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                       const struct qn_seq2seq_forward *options);
} transformer = {transformer_parameters, transformer_initialise, transformer_hidden},
  recurrent = {recurrent_seq2seq_parameters, recurrent_seq2seq_initialise,
               recurrent_seq2seq_hidden};

static bool is_recurrent(const qn_seq2seq *model)
{
    return model->config.architecture == QN_RECURRENT_SEQ2SEQ;
}

static const struct kind *kind_of(const qn_seq2seq *model)
{
    return is_recurrent(model) ? &recurrent : &transformer;
}

qn_seq2seq *qn_seq2seq_new(qn_context *context, const struct qn_seq2seq_config *config)
{
    if (!context || qn_seq2seq_config_check(context, "the model", config) != QN_OK)
        return NULL;
    qn_seq2seq *model = context_alloc(context, 1, sizeof *model);
    if (!model)
        return NULL;
    model->context = context;
    model->config = *config;
    model->store = qn_store_new(context, "parameters");
    if (model->store && kind_of(model)->parameters(model) == QN_OK &&
        qn_store_seal(model->store) == QN_OK)
        return model;
    qn_seq2seq_free(model);
    return NULL;
}

void qn_seq2seq_free(qn_seq2seq *model)
{
    if (!model)
        return;
    qn_store_free(model->store);
    free(model->encoder.blocks);
    free(model->decoder.blocks);
    qn_rnn_free(model->recurrent.encoder);
    qn_rnn_free(model->recurrent.decoder);
    free(model);
}

int qn_seq2seq_initialise(qn_seq2seq *model, uint64_t seed)
{
    return kind_of(model)->initialise(model, seed);
}

const struct qn_seq2seq_config *qn_seq2seq_config(const qn_seq2seq *model)
{
    return &model->config;
}

qn_store *qn_seq2seq_parameters(const qn_seq2seq *model)
{
    return model->store;
}

void seq2seq_embeddings(qn_seq2seq *model, qn_tensor **source, qn_tensor **target)
{
    const struct qn_seq2seq_config *config = &model->config;
    size_t width = config->width;
    bool is_shared = config->shares_embeddings;
    *target = add_embedding(model->store, "", is_shared ? "embedding" : "tgt_embedding",
                            config->target_vocab_size, width);
    *source = is_shared ? *target
                        : add_embedding(model->store, "", "src_embedding",
                                        config->source_vocab_size, width);
}

void seq2seq_add_head(qn_seq2seq *model, const char *name, size_t width, qn_tensor *target)
{
    const struct qn_seq2seq_config *config = &model->config;
    char bias[NAME_BYTES];
    snprintf(bias, sizeof bias, "%s.bias", name);
    model->head.is_transposed = true;
    model->head.weight =
        config->ties_head ? target
                          : add_embedding(model->store, "", name, config->target_vocab_size, width);
    model->head.bias =
        qn_store_add(model->store, bias, QN_F32, QN_SHAPE(config->target_vocab_size), QN_NO_DECAY);
}

/* ---- Files ---- */

qn_seq2seq *qn_seq2seq_load(qn_context *context, const char *folder)
{
    if (!context)
        return NULL;
    struct qn_seq2seq_config config;
    char *path = path_join(context, folder, "config.json");
    bool is_read = path && qn_seq2seq_config_read(context, path, &config) == QN_OK;
    free(path);
    qn_seq2seq *model = is_read ? qn_seq2seq_new(context, &config) : NULL;
    struct file_names names = {.prefix = ""};
    if (model && config.architecture == QN_MARIAN)
        names = (struct file_names){"model.", marian_is_redundant, model};
    if (!model || store_load(model->store, folder, &names) == QN_OK)
        return model;
    qn_seq2seq_free(model);
    return NULL;
}

int qn_seq2seq_save(const qn_seq2seq *model, const char *folder)
{
    char *path = path_join(model->context, folder, "config.json");
    int status =
        path ? qn_seq2seq_config_write(model->context, path, &model->config) : (int)QN_ERROR_MEMORY;
    free(path);
    return status == QN_OK ? store_save(model->store, folder) : status;
}

/* ---- The graph ---- */

static bool are_lengths(const qn_node *lengths, const qn_node *tokens, const char *side)
{
    size_t rows = qn_node_shape(tokens).size[0];
    if (!lengths ||
        (qn_node_type(lengths) == QN_I32 && qn_shape_equal(qn_node_shape(lengths), QN_SHAPE(rows))))
        return true;
    context_fail(tokens->graph->context, QN_ERROR_INVALID,
                 "seq2seq: the lengths of the %s are not i32, one for each of %zu rows", side,
                 rows);
    return false;
}

/* Whether these are rows of both sides, as many of each. */
static bool is_input(const qn_seq2seq *model, const struct qn_seq2seq_input *input)
{
    size_t most = model->config.n_positions;
    if (!input->source || !input->target || !are_rows(input->source, "seq2seq", most) ||
        !are_rows(input->target, "seq2seq", most))
        return false;
    size_t sources = qn_node_shape(input->source).size[0],
           targets = qn_node_shape(input->target).size[0];
    if (sources == targets)
        return are_lengths(input->source_lengths, input->source, "source") &&
               are_lengths(input->target_lengths, input->target, "target");
    context_fail(model->context, QN_ERROR_INVALID,
                 "seq2seq: %zu rows of the source, %zu of the "
                 "target",
                 sources, targets);
    return false;
}

qn_node *seq2seq_head(const qn_seq2seq *model, qn_node *x)
{
    return qn_named(apply_linear(x, &model->head), "logits");
}

qn_node *from_places(qn_graph *graph, qn_tensor *tensor, qn_node *table, size_t count)
{
    size_t places = qn_shape_count(qn_tensor_shape(tensor)) / count;
    return qn_embedding(qn_reshape(qn_leaf(graph, tensor), QN_SHAPE(places, count)), table);
}

/* What the head reads. */
static qn_node *hidden(const qn_seq2seq *model, const struct qn_seq2seq_input *input,
                       const struct qn_seq2seq_forward *options)
{
    if (!model || !is_input(model, input))
        return NULL;
    if (options->scheduled_sampling > 0 && (!is_recurrent(model) || !options->dropout_key)) {
        context_fail(model->context, QN_ERROR_INVALID,
                     "seq2seq: scheduled sampling is for recurrent models, and draws by the key of "
                     "dropout, which must be given");
        return NULL;
    }
    return kind_of(model)->hidden(model, input, options);
}

qn_node *qn_seq2seq_logits(const qn_seq2seq *model, struct qn_seq2seq_input input,
                           struct qn_seq2seq_forward options)
{
    qn_node *x = hidden(model, &input, &options);
    if (x && is_recurrent(model))
        x = qn_transpose(x, 0, 1);
    return x ? seq2seq_head(model, x) : NULL;
}

qn_node *qn_seq2seq_loss(const qn_seq2seq *model, struct qn_seq2seq_input input, qn_node *targets,
                         struct qn_seq2seq_forward options)
{
    qn_node *x = hidden(model, &input, &options);
    if (!x)
        return NULL;
    if (is_recurrent(model))
        targets = qn_transpose(targets, 0, 1);
    return linear_loss(x, &model->head, targets,
                       (struct qn_cross_entropy){.ignore_index = QN_IGNORE,
                                                 .label_smoothing = options.label_smoothing,
                                                 .gradient_scale = options.loss_scale},
                       options.loss_rows);
}

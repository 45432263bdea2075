/* Translating on the device: plans that read sources and that make a step, and the caches they share. */
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "nn/translate.h"

/* ---- Plans ---- */

static void work_free(struct work *work)
{
    qn_plan_free(work->plan);
    qn_graph_free(work->graph);
    *work = (struct work){0};
}

static int finish_work(struct work *work, qn_context *context, qn_node **roots, size_t count)
{
    work->plan = qn_plan_new(work->graph, roots, count);
    if (work->plan)
        return QN_OK;
    work_free(work);
    return context->status;
}

static int make_reader(const qn_translator *translator, struct work *work)
{
    const qn_seq2seq *model = translator->model;
    size_t rows = work->sources, length = work->source_length;
    qn_graph *graph = work->graph = qn_graph_new(model->context);
    work->source = qn_input(graph, "source", QN_I32, QN_SHAPE(rows, length));
    work->lengths = qn_input(graph, "lengths", QN_I32, QN_SHAPE(rows));
    qn_node **roots =
        graph ? graph_alloc(graph, (2 * translator->layers + 4) * sizeof *roots) : NULL;
    if (!roots || model->context->status != QN_OK)
        return model->context->status;
    size_t count = (is_recurrent(translator) ? recurrent_remember : transformer_remember)(
        model, &translator->cache, work->source, work->lengths, roots);
    return finish_work(work, model->context, roots, count);
}

/* (V): one at the token, else zero. */
static qn_node *is_token(qn_graph *graph, int32_t token, size_t vocabulary)
{
    return qn_equal(qn_range(graph, vocabulary), qn_cast(qn_constant(graph, token), QN_I32));
}

/* Sums of the candidates (sources, beams V), for the hypotheses' sums and what is forbidden. */
static qn_node *candidate_sums(const qn_translator *translator, struct work *work, qn_node *x)
{
    const struct qn_seq2seq_config *config = &translator->model->config;
    const struct qn_decoding *options = &translator->options;
    size_t rows = work->sources * translator->beams, vocabulary = config->target_vocab_size;
    qn_node *logits = qn_reshape(seq2seq_head(translator->model, x), QN_SHAPE(rows, vocabulary));
    work->sums = qn_input(work->graph, "sums", QN_F32, QN_SHAPE(rows, 1));
    qn_node *sums = qn_add(qn_log_softmax(logits, -1), work->sums);
    if (options->min_length > 0 && config->eos_token_id >= 0) {
        work->end = qn_input(work->graph, "end", QN_F32, QN_SHAPE(1));
        sums = qn_add(sums,
                      qn_mul(is_token(work->graph, config->eos_token_id, vocabulary), work->end));
    }
    if (config->forbids_padding)
        sums = qn_add(sums, qn_mul(is_token(work->graph, config->pad_token_id, vocabulary),
                                   qn_constant(work->graph, 2 * NO_CANDIDATE)));
    if (options->no_repeat_ngram > 0) {
        work->forbidden = qn_input(work->graph, "forbidden", QN_F32, QN_SHAPE(rows, vocabulary));
        sums = qn_add(sums, work->forbidden);
    }
    return qn_reshape(sums, QN_SHAPE(work->sources, translator->beams * vocabulary));
}

/* The best candidates of each source. */
static void choose(const qn_translator *translator, struct work *work, qn_node *sums)
{
    work->scores = qn_top_k(sums, translator->candidates);
    work->indices = work->scores ? qn_output(work->scores, 1) : NULL;
}

/* A token for each hypothesis. */
static void draw(const qn_translator *translator, struct work *work, qn_node *sums)
{
    size_t vocabulary = translator->model->config.target_vocab_size,
           rows = work->sources * translator->beams;
    work->key = qn_input(work->graph, "key", QN_I32, QN_SHAPE(2));
    sums = qn_reshape(sums, QN_SHAPE(rows, vocabulary));
    work->indices = qn_sample(sums, work->key, translator->options.sample);
    work->scores = qn_sum(qn_mul(qn_one_hot(work->indices, vocabulary), sums), QN_AXIS(1));
}

static int make_step(const qn_translator *translator, struct work *work)
{
    const qn_seq2seq *model = translator->model;
    size_t sources = work->sources, rows = sources * translator->beams;
    qn_graph *graph = work->graph = qn_graph_new(model->context);
    work->tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(rows, 1));
    work->source_table =
        qn_input(graph, "source_table", QN_I32, QN_SHAPE(sources, work->source_length));
    work->lengths = qn_input(graph, "lengths", QN_I32, QN_SHAPE(sources));
    work->table = qn_input(graph, "table", QN_I32, QN_SHAPE(rows, work->target_length));
    work->place = qn_input(graph, "place", QN_I32, QN_SHAPE(1));
    work->position = qn_input(graph, "position", QN_I32, QN_SHAPE(1));
    work->parents = qn_input(graph, "parents", QN_I32, QN_SHAPE(rows));
    if (model->context->status != QN_OK)
        return model->context->status;
    struct decoder_step step = {
        .sources = sources,
        .beams = translator->beams,
        .tokens = work->tokens,
        .source_table = work->source_table,
        .lengths = work->lengths,
        .table = work->table,
        .place = work->place,
        .position = work->position,
        .parents = work->parents,
        .weights = decoding_needs_attention(&translator->options) ? &work->weights : NULL};
    qn_node *x = (is_recurrent(translator) ? recurrent_step
                                           : transformer_step)(model, &translator->cache, &step);
    qn_node *sums = candidate_sums(translator, work, x);
    if (translator->options.draws)
        draw(translator, work, sums);
    else
        choose(translator, work, sums);
    qn_node *roots[5] = {work->scores, work->indices};
    size_t count = 2;
    if (work->weights)
        roots[count++] = work->weights;
    for (size_t i = 0; i < 2; i++)
        if (step.writes[i])
            roots[count++] = step.writes[i];
    return finish_work(work, model->context, roots, count);
}

struct work *translator_find_work(qn_translator *translator, struct work wanted)
{
    struct work *oldest = &translator->works[0];
    for (size_t i = 0; i < PLANS; i++) {
        struct work *work = &translator->works[i];
        if (work->plan && work->steps == wanted.steps && work->sources == wanted.sources &&
            work->source_length == wanted.source_length &&
            work->target_length == wanted.target_length) {
            work->used = ++translator->clock;
            return work;
        }
        if (work->used < oldest->used)
            oldest = work;
    }
    work_free(oldest);
    *oldest = wanted;
    oldest->used = ++translator->clock;
    int status = (wanted.steps ? make_step : make_reader)(translator, oldest);
    if (status == QN_OK)
        return oldest;
    work_free(oldest);
    return NULL;
}

/* ---- Room on the device ---- */

static void free_all(qn_tensor **tensors, size_t count)
{
    for (size_t i = 0; tensors && i < count; i++) {
        qn_tensor_free(tensors[i]);
        tensors[i] = NULL;
    }
}

static int make_all(const qn_translator *translator, qn_tensor **tensors, const char *name,
                    size_t places)
{
    const struct qn_seq2seq_config *config = &translator->model->config;
    size_t heads = config->decoder_heads;
    for (size_t i = 0; i < translator->layers; i++) {
        tensors[i] = qn_tensor_new(context_of(translator), name, QN_F32,
                                   QN_SHAPE(1, places, heads, config->width / heads));
        if (!tensors[i])
            return context_of(translator)->status;
    }
    return QN_OK;
}

static int make_room_for_sources(qn_translator *translator, size_t places)
{
    struct seq2seq_cache *cache = &translator->cache;
    const qn_seq2seq *model = translator->model;
    size_t units = model->config.hidden_size;
    if (!is_recurrent(translator)) {
        free_all(cache->source_keys, translator->layers);
        free_all(cache->source_values, translator->layers);
        int status = make_all(translator, cache->source_keys, "source keys", places);
        return status == QN_OK ? make_all(translator, cache->source_values, "source values", places)
                               : status;
    }
    if (model->config.attention == QN_NO_SCORE)
        return QN_OK;
    qn_tensor_free(cache->encoded);
    qn_tensor_free(cache->encoded_keys);
    cache->encoded_keys = NULL;
    cache->encoded = qn_tensor_new(model->context, "encoded", QN_F32, QN_SHAPE(1, places, units));
    if (model->recurrent.key.weight)
        cache->encoded_keys =
            qn_tensor_new(model->context, "encoded keys", QN_F32, QN_SHAPE(1, places, units));
    return model->context->status;
}

static int make_room_for_rows(qn_translator *translator, size_t places)
{
    struct seq2seq_cache *cache = &translator->cache;
    const struct qn_seq2seq_config *config = &translator->model->config;
    if (!is_recurrent(translator)) {
        free_all(cache->keys, translator->layers);
        free_all(cache->values, translator->layers);
        int status = make_all(translator, cache->keys, "keys", places);
        return status == QN_OK ? make_all(translator, cache->values, "values", places) : status;
    }
    if (cache->h)
        return QN_OK;
    qn_shape shape = QN_SHAPE(translator->most_rows * translator->beams, config->decoder_layers,
                              config->hidden_size);
    cache->h = qn_tensor_new(context_of(translator), "h", QN_F32, shape);
    if (config->cell == QN_LSTM)
        cache->c = qn_tensor_new(context_of(translator), "c", QN_F32, shape);
    return context_of(translator)->status;
}

int translator_make_room(qn_translator *translator, size_t source_places, size_t places)
{
    bool is_first = translator->source_places == 0;
    if (source_places <= translator->source_places && places <= translator->places)
        return QN_OK;
    for (size_t i = 0; i < PLANS; i++)
        work_free(&translator->works[i]);
    int status = QN_OK;
    if (source_places > translator->source_places) {
        source_places = is_first ? source_places : 2 * source_places;
        translator->source_places = 0;
        status = make_room_for_sources(translator, source_places);
        translator->source_places = status == QN_OK ? source_places : 0;
    }
    if (status == QN_OK && places > translator->places) {
        places = is_first ? places : 2 * places;
        translator->places = 0;
        status = make_room_for_rows(translator, places);
        translator->places = status == QN_OK ? places : 0;
    }
    return status;
}

void translator_free_device(qn_translator *translator)
{
    struct seq2seq_cache *cache = &translator->cache;
    qn_tensor **const arrays[] = {cache->keys, cache->values, cache->source_keys,
                                  cache->source_values};
    for (size_t i = 0; i < PLANS; i++)
        work_free(&translator->works[i]);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        free_all(arrays[i], translator->layers);
        free(arrays[i]);
    }
    qn_tensor_free(cache->encoded);
    qn_tensor_free(cache->encoded_keys);
    qn_tensor_free(cache->h);
    qn_tensor_free(cache->c);
}

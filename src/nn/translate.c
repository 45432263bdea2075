/* Translating: plans that read sources and that make a step, and the search between them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "nn/beam.h"
#include "nn/seq2seq.h"

/* Lengths are rounded up, so that few plans serve all. */
enum { PLANS = 16, SOURCE_MULTIPLE = 8, TARGET_MULTIPLE = 32 };

/* A plan reads sources (steps: false), or makes a step for them. */
struct work {
    bool steps;
    size_t sources, source_length, target_length;
    uint64_t used; /* when: the plan of longest ago goes first */
    qn_graph *graph;
    qn_plan *plan;
    qn_node *source, *lengths;                                           /* inputs of both */
    qn_node *tokens, *source_table, *table, *place, *position, *parents; /* of a step */
    qn_node *key;                                                        /* of a step that draws */
    qn_node *sums, *end,
        *forbidden; /* f32 (R, 1), (1), (R, V): what is added to logarithms of probabilities */
    qn_node *scores, *indices, *weights; /* results */
};

struct qn_translator {
    const qn_seq2seq *model;
    struct qn_decoding options;
    size_t most_rows; /* sources at once */
    size_t beams, candidates;
    struct seq2seq_cache cache;
    size_t layers, places, source_places; /* what there is room for */
    struct work works[PLANS];
    uint64_t clock;
    int32_t drawn;         /* steps of this call */
    struct beam *beams_of; /* of the last call */
    size_t n_beams;
    /* Of a step, row by row. */
    int32_t *tokens, *parents, *lengths, *source_table, *table, *old_table, *indices;
    float *sums, *forbidden, *scores, *weights;
    size_t *next; /* which of a source's hypotheses each comes from */
};

static qn_context *context_of(const qn_translator *translator)
{
    return translator->model->context;
}

static bool is_recurrent(const qn_translator *translator)
{
    return translator->model->config.architecture == QN_RECURRENT_SEQ2SEQ;
}

static bool needs_weights(const struct qn_decoding *options)
{
    return options->keep_attention || options->coverage_penalty != 0;
}

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
        qn_node *end = qn_cast(qn_constant(work->graph, config->eos_token_id), QN_I32);
        qn_node *is_end = qn_equal(qn_range(work->graph, vocabulary), end);
        work->end = qn_input(work->graph, "end", QN_F32, QN_SHAPE(1));
        sums = qn_add(sums, qn_mul(is_end, work->end));
    }
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
    struct decoder_step step = {.sources = sources,
                                .beams = translator->beams,
                                .tokens = work->tokens,
                                .source_table = work->source_table,
                                .lengths = work->lengths,
                                .table = work->table,
                                .place = work->place,
                                .position = work->position,
                                .parents = work->parents,
                                .weights =
                                    needs_weights(&translator->options) ? &work->weights : NULL};
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

/* The plan for such sizes: the one that was not used for the longest time makes room for a new one. */
static struct work *find_work(qn_translator *translator, struct work wanted)
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

/* So many places of sources and of rows: a plan belongs to the tensors that it was made for. */
static int make_room(qn_translator *translator, size_t source_places, size_t places)
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

/* ---- The search ---- */

/* Sources that are translated together, some of which may have ended. */
struct batch {
    struct beam **beams; /* by place in the batch */
    size_t *numbers;     /* which of the sources read each is; */
    size_t sources;      /* places */
    size_t read, source_length, target_length;
    size_t position;
};

static int read_sources(qn_translator *translator, const struct batch *batch,
                        const int32_t *const *sources, const size_t *lengths)
{
    const struct qn_seq2seq_config *config = &translator->model->config;
    int32_t padding = config->pad_token_id >= 0 ? config->pad_token_id : 0;
    int32_t *tokens = translator->source_table; /* as large */
    struct work *work = find_work(
        translator, (struct work){.sources = batch->read, .source_length = batch->source_length});
    for (size_t i = 0; i < batch->read; i++) {
        translator->lengths[i] = (int32_t)lengths[i];
        for (size_t j = 0; j < batch->source_length; j++)
            tokens[i * batch->source_length + j] = j < lengths[i] ? sources[i][j] : padding;
    }
    int status =
        work ? qn_set(work->plan, work->source, tokens) : (int)context_of(translator)->status;
    if (status == QN_OK)
        status = qn_set(work->plan, work->lengths, translator->lengths);
    return status == QN_OK ? qn_run(work->plan) : status;
}

/* The inputs of a step that say what the rows are. */
static void fill_rows(qn_translator *translator, const struct batch *batch)
{
    size_t beams = translator->beams, length = batch->source_length,
           vocabulary = translator->model->config.target_vocab_size;
    for (size_t i = 0; i < batch->sources; i++) {
        const struct beam *beam = batch->beams[i];
        translator->lengths[i] = (int32_t)beam->source;
        for (size_t j = 0; j < length; j++)
            translator->source_table[i * length + j] = (int32_t)(batch->numbers[i] * length + j);
        for (size_t j = 0; j < beams; j++) {
            size_t row = i * beams + j;
            bool runs = !beam->is_done && j < beam->n_running;
            const struct hypothesis *hypothesis = &beam->running[j];
            translator->sums[row] = runs ? (float)hypothesis->score : 2 * (float)NO_CANDIDATE;
            translator->tokens[row] = runs && hypothesis->count
                                          ? hypothesis->tokens[hypothesis->count - 1]
                                          : translator->model->config.start_token_id;
            if (!translator->options.no_repeat_ngram)
                continue;
            float *forbidden = translator->forbidden + row * vocabulary;
            memset(forbidden, 0, vocabulary * sizeof *forbidden);
            if (runs)
                beam_forbid(beam, j, forbidden, 2 * (float)NO_CANDIDATE);
        }
    }
}

/* Runs a step; its results are in the translator's arrays. */
static int run_step(qn_translator *translator, const struct batch *batch)
{
    struct work *work = find_work(translator, (struct work){.steps = true,
                                                            .sources = batch->sources,
                                                            .source_length = batch->source_length,
                                                            .target_length = batch->target_length});
    if (!work)
        return context_of(translator)->status;
    int32_t position = (int32_t)batch->position,
            place = (int32_t)(batch->position * translator->most_rows * translator->beams);
    float end = batch->position < translator->options.min_length ? 2 * (float)NO_CANDIDATE : 0;
    const uint64_t seed = translator->options.seed;
    const int32_t key[2] = {(int32_t)(uint32_t)(seed ^ seed >> 32), translator->drawn++};
    for (size_t row = 0; row < batch->sources * translator->beams; row++)
        translator->table[row * batch->target_length + batch->position] = place + (int32_t)row;
    fill_rows(translator, batch);
    const struct {
        const qn_node *input;
        const void *values;
    } inputs[] = {
        {work->tokens, translator->tokens},
        {work->source_table, translator->source_table},
        {work->lengths, translator->lengths},
        {work->table, translator->table},
        {work->place, &place},
        {work->position, &position},
        {work->key, key},
        {work->parents, translator->parents},
        {work->sums, translator->sums},
        {work->end, &end},
        {work->forbidden, translator->forbidden},
    };
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < sizeof inputs / sizeof *inputs; i++)
        if (inputs[i].input)
            status = qn_set(work->plan, inputs[i].input, inputs[i].values);
    if (status == QN_OK)
        status = qn_run(work->plan);
    if (status == QN_OK)
        status = qn_get(work->plan, work->scores, translator->scores);
    if (status == QN_OK)
        status = qn_get(work->plan, work->indices, translator->indices);
    if (status == QN_OK && work->weights)
        status = qn_get(work->plan, work->weights, translator->weights);
    return status;
}

/* What hypotheses that run now go on from: the places of their keys, and the rows of their states. */
static void move_rows(qn_translator *translator, const struct batch *batch, size_t from, size_t to)
{
    size_t beams = translator->beams, length = batch->target_length;
    for (size_t j = 0; j < beams; j++) {
        size_t parent = from * beams + translator->next[from * beams + j], row = to * beams + j;
        memcpy(translator->table + row * length, translator->old_table + parent * length,
               length * sizeof *translator->table);
        translator->parents[row] = (int32_t)parent;
    }
}

/* How many places in the batch are left to so many sources that run: halves, so that few plans serve all; and more than one, of which other
 * kernels would be made. */
static size_t places_for(const struct batch *batch, size_t n_running)
{
    size_t places = batch->sources;
    while (places > 2 && divide_up(places, 2) >= n_running)
        places = divide_up(places, 2);
    return places;
}

/* Those that run come first, in their order; false if none does. */
static bool close_ranks(qn_translator *translator, struct batch *batch)
{
    size_t n_running = 0;
    for (size_t i = 0; i < batch->sources; i++)
        n_running += !batch->beams[i]->is_done;
    size_t places = places_for(batch, n_running), to = 0, n_done = places - n_running;
    for (size_t i = 0; i < batch->sources && n_running > 0; i++) {
        bool is_done = batch->beams[i]->is_done;
        if (is_done && n_done == 0)
            continue;
        n_done -= is_done;
        move_rows(translator, batch, i, to);
        batch->beams[to] = batch->beams[i];
        batch->numbers[to++] = batch->numbers[i];
    }
    batch->sources = places;
    return n_running > 0;
}

/* Makes of a step's results the hypotheses that go on; false if none does. */
static bool advance(qn_translator *translator, struct batch *batch)
{
    size_t beams = translator->beams, count = translator->candidates;
    int32_t *swap = translator->old_table;
    translator->old_table = translator->table;
    translator->table = swap;
    memset(translator->next, 0, batch->sources * beams * sizeof *translator->next);
    for (size_t i = 0; i < batch->sources; i++) {
        struct candidates candidates = {.scores = translator->scores + i * count,
                                        .indices = translator->indices + i * count,
                                        .count = count,
                                        .vocabulary = translator->model->config.target_vocab_size,
                                        .row = batch->source_length};
        if (needs_weights(&translator->options))
            candidates.attention = translator->weights + i * beams * batch->source_length;
        if (!batch->beams[i]->is_done)
            (translator->options.draws ? beam_draw : beam_advance)(batch->beams[i], &candidates,
                                                                   translator->next + i * beams);
    }
    batch->position++;
    return close_ranks(translator, batch);
}

static int search(qn_translator *translator, struct batch *batch)
{
    size_t beams = translator->beams;
    for (size_t row = 0; row < batch->sources * beams; row++)
        translator->parents[row] = (int32_t)(row / beams);
    memset(translator->table, 0,
           batch->sources * beams * batch->target_length * sizeof *translator->table);
    int status = QN_OK;
    do
        status = run_step(translator, batch);
    while (status == QN_OK && advance(translator, batch));
    return status;
}

/* ---- Batches ---- */

/* Arrays of a step, for the longest rows of a call. */
static int make_arrays(qn_translator *translator, size_t source_length, size_t target_length)
{
    qn_context *context = context_of(translator);
    const struct qn_decoding *options = &translator->options;
    size_t sources = translator->most_rows, rows = sources * translator->beams,
           count = sources * translator->candidates;
    translator->tokens = context_alloc(context, rows, sizeof(int32_t));
    translator->parents = context_alloc(context, rows, sizeof(int32_t));
    translator->sums = context_alloc(context, rows, sizeof(float));
    translator->next = context_alloc(context, rows, sizeof(size_t));
    translator->lengths = context_alloc(context, sources, sizeof(int32_t));
    translator->source_table = context_alloc(context, sources * source_length, sizeof(int32_t));
    translator->table = context_alloc(context, rows * target_length, sizeof(int32_t));
    translator->old_table = context_alloc(context, rows * target_length, sizeof(int32_t));
    translator->scores = context_alloc(context, count, sizeof(float));
    translator->indices = context_alloc(context, count, sizeof(int32_t));
    if (needs_weights(options))
        translator->weights = context_alloc(context, rows * source_length, sizeof(float));
    if (options->no_repeat_ngram)
        translator->forbidden = context_alloc(
            context, rows * translator->model->config.target_vocab_size, sizeof(float));
    return context->status;
}

static void free_arrays(qn_translator *translator)
{
    void *arrays[] = {translator->tokens,  translator->parents, translator->sums,
                      translator->next,    translator->lengths, translator->source_table,
                      translator->table,   translator->scores,  translator->old_table,
                      translator->indices, translator->weights, translator->forbidden};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    translator->tokens = translator->parents = translator->lengths = translator->source_table =
        translator->table = translator->old_table = translator->indices = NULL;
    translator->sums = translator->forbidden = translator->scores = translator->weights = NULL;
    translator->next = NULL;
}

/* Tokens that a translation may have. */
static size_t most_tokens(const qn_translator *translator, size_t source)
{
    size_t most = translator->options.max_length;
    return size_min(most ? most : 2 * source + 32, translator->model->config.n_positions);
}

/* Sources by length, the longest first: what needs most memory comes before the rest. */
struct order {
    size_t length, number;
};

static int compare_lengths(const void *a_, const void *b_)
{
    const struct order *a = a_, *b = b_;
    if (a->length != b->length)
        return a->length < b->length ? 1 : -1;
    return a->number < b->number ? -1 : 1;
}

/* Translates those of an order, as many as go together. */
static int translate_batch(qn_translator *translator, const struct order *order, size_t count,
                           const int32_t *const *sources)
{
    qn_context *context = context_of(translator);
    const struct qn_seq2seq_config *config = &translator->model->config;
    struct batch batch = {.sources = count, .read = count};
    batch.beams = context_alloc(context, count, sizeof *batch.beams);
    batch.numbers = context_alloc(context, count, sizeof *batch.numbers);
    const int32_t **tokens = context_alloc(context, count, sizeof *tokens);
    size_t *lengths = context_alloc(context, count, sizeof *lengths), target = 0;
    int status = batch.beams && batch.numbers && tokens && lengths ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        batch.beams[i] = &translator->beams_of[order[i].number];
        batch.numbers[i] = i;
        tokens[i] = sources[order[i].number];
        lengths[i] = order[i].length;
        target = size_max(target, batch.beams[i]->most);
    }
    batch.source_length = size_min(round_up(order[0].length, SOURCE_MULTIPLE), config->n_positions);
    batch.target_length = size_min(round_up(target, TARGET_MULTIPLE), config->n_positions);
    if (status == QN_OK)
        status = make_room(translator, translator->most_rows * batch.source_length,
                           translator->most_rows * translator->beams * batch.target_length);
    if (status == QN_OK)
        status = make_arrays(translator, batch.source_length, batch.target_length);
    if (status == QN_OK)
        status = read_sources(translator, &batch, tokens, lengths);
    if (status == QN_OK)
        status = search(translator, &batch);
    free_arrays(translator);
    free(batch.beams);
    free(batch.numbers);
    free(tokens);
    free(lengths);
    return status;
}

/* ---- Calls ---- */

static void free_beams(qn_translator *translator)
{
    for (size_t i = 0; i < translator->n_beams; i++)
        beam_release(&translator->beams_of[i]);
    free(translator->beams_of);
    translator->beams_of = NULL;
    translator->n_beams = 0;
}

/* A beam for each source; an error if one is no source of the model. */
static int make_beams(qn_translator *translator, const int32_t *const *sources,
                      const size_t *lengths, size_t count)
{
    qn_context *context = context_of(translator);
    const struct qn_seq2seq_config *config = &translator->model->config;
    int32_t end = translator->options.ignore_eos ? -1 : config->eos_token_id;
    translator->beams_of = context_alloc(context, count, sizeof *translator->beams_of);
    for (size_t i = 0; translator->beams_of && i < count; i++) {
        if (lengths[i] == 0 || lengths[i] > config->n_positions)
            return context_fail(context, QN_ERROR_INVALID,
                                "translate: source %zu has %zu tokens; the model reads 1 to %zu", i,
                                lengths[i], config->n_positions);
        for (size_t j = 0; j < lengths[i]; j++)
            if (sources[i][j] < 0 || (size_t)sources[i][j] >= config->source_vocab_size)
                return context_fail(
                    context, QN_ERROR_INVALID,
                    "translate: token %d of source %zu is not in the model's vocabulary of %zu",
                    sources[i][j], i, config->source_vocab_size);
        translator->n_beams++;
        if (!beam_init(&translator->beams_of[i], context, &translator->options, lengths[i],
                       most_tokens(translator, lengths[i]), end))
            return QN_ERROR_MEMORY;
    }
    return translator->beams_of ? QN_OK : QN_ERROR_MEMORY;
}

static void report(const qn_translator *translator, struct qn_translation *results)
{
    size_t beams = translator->beams;
    memset(results, 0, translator->n_beams * beams * sizeof *results);
    for (size_t i = 0; i < translator->n_beams; i++) {
        const struct beam *beam = &translator->beams_of[i];
        for (size_t j = 0; j < beam->n_finished; j++) {
            const struct hypothesis *found = &beam->finished[j];
            results[i * beams + j] = (struct qn_translation){
                found->tokens, found->count, found->score,
                translator->options.keep_attention ? found->attention : NULL};
        }
    }
}

int qn_translate(qn_translator *translator, const int32_t *const *sources, const size_t *lengths,
                 size_t count, struct qn_translation *results)
{
    if (!translator || !sources || !lengths || !results)
        return QN_ERROR_INVALID;
    free_beams(translator);
    translator->drawn = 0;
    if (count == 0)
        return QN_OK;
    struct order *order = context_alloc(context_of(translator), count, sizeof *order);
    int status = order ? make_beams(translator, sources, lengths, count) : QN_ERROR_MEMORY;
    for (size_t i = 0; order && i < count; i++)
        order[i] = (struct order){lengths[i], i};
    if (status == QN_OK)
        qsort(order, count, sizeof *order, compare_lengths);
    for (size_t i = 0; status == QN_OK && i < count; i += translator->most_rows)
        status = translate_batch(translator, order + i, size_min(count - i, translator->most_rows),
                                 sources);
    free(order);
    if (status == QN_OK)
        report(translator, results);
    return status;
}

/* ---- The translator ---- */

static int check_options(const qn_seq2seq *model, const struct qn_decoding *options, size_t rows)
{
    enum { MOST_BEAMS = 1024 };
    size_t positions = model->config.n_positions, beams = size_max(options->beams, 1);
    bool are_finite = isfinite(options->length_penalty) && isfinite(options->coverage_penalty);
    bool has_attention = model->config.architecture != QN_RECURRENT_SEQ2SEQ ||
                         model->config.attention != QN_NO_SCORE;
    if (rows == 0 || beams > MOST_BEAMS || rows > INT32_MAX / beams / positions || !are_finite)
        return context_fail(
            model->context, QN_ERROR_INVALID,
            "translate: %zu beams for each of %zu sources at once, penalties %g and "
            "%g: expected at least one source, at most %d beams, and numbers",
            beams, rows, options->length_penalty, options->coverage_penalty, MOST_BEAMS);
    if (needs_weights(options) && !has_attention)
        return context_fail(model->context, QN_ERROR_INVALID,
                            "translate: the model has no attention, which is to be kept, or of "
                            "which a coverage penalty would tell");
    return QN_OK;
}

qn_translator *qn_translator_new(const qn_seq2seq *model, const struct qn_decoding *options,
                                 size_t rows)
{
    if (!model || !options || check_options(model, options, rows) != QN_OK)
        return NULL;
    qn_translator *translator = context_alloc(model->context, 1, sizeof *translator);
    if (!translator)
        return NULL;
    size_t beams = size_max(options->beams, 1), layers = model->config.decoder_layers;
    *translator = (qn_translator){
        .model = model,
        .options = *options,
        .most_rows = rows,
        .beams = beams,
        .candidates =
            options->draws ? beams : size_min(2 * beams, beams * model->config.target_vocab_size),
        .layers = layers};
    qn_tensor ***const arrays[] = {&translator->cache.keys, &translator->cache.values,
                                   &translator->cache.source_keys,
                                   &translator->cache.source_values};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = context_alloc(model->context, layers, sizeof **arrays[i]);
        if (!*arrays[i]) {
            qn_translator_free(translator);
            return NULL;
        }
    }
    return translator;
}

void qn_translator_free(qn_translator *translator)
{
    if (!translator)
        return;
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
    free_beams(translator);
    free(translator);
}

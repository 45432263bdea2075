/* Translating: the search between the plans, in batches of sources of like length. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/translate.h"

/* Lengths are rounded up, so that few plans serve all. */
enum { SOURCE_MULTIPLE = 8, TARGET_MULTIPLE = 32 };

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
    struct work *work = translator_find_work(
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

static int check_scores(const qn_translator *translator, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (isnan(translator->scores[i]))
            return context_fail(context_of(translator), QN_ERROR_INVALID,
                                "translate: the model's logits are no numbers: its weights are too "
                                "large, or damaged");
    return QN_OK;
}

/* Runs a step; its results are in the translator's arrays. */
static int run_step(qn_translator *translator, const struct batch *batch)
{
    struct work *work =
        translator_find_work(translator, (struct work){.steps = true,
                                                       .sources = batch->sources,
                                                       .source_length = batch->source_length,
                                                       .target_length = batch->target_length});
    if (!work)
        return context_of(translator)->status;
    int32_t position = (int32_t)batch->position,
            place = (int32_t)(batch->position * translator->stride * translator->beams);
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
    return status == QN_OK ? check_scores(translator, batch->sources * translator->candidates)
                           : status;
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

/* Makes places free of sources that are done; those that run keep their order.  False if none does. */
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
        if (decoding_needs_attention(&translator->options))
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
    size_t sources = translator->stride, rows = sources * translator->beams,
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
    if (decoding_needs_attention(options))
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
    const struct qn_decoding *options = &translator->options;
    size_t usual = size_max(2 * source + 32, options->min_length + 1);
    return size_min(options->max_length ? options->max_length : usual,
                    translator->model->config.n_positions);
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
        if (!beam_init(batch.beams[i], context))
            status = QN_ERROR_MEMORY;
        batch.numbers[i] = i;
        tokens[i] = sources[order[i].number];
        lengths[i] = order[i].length;
        target = size_max(target, batch.beams[i]->most);
    }
    batch.source_length = size_min(round_up(order[0].length, SOURCE_MULTIPLE), config->n_positions);
    batch.target_length = size_min(round_up(target, TARGET_MULTIPLE), config->n_positions);
    if (status == QN_OK)
        status = translator_make_room(translator, translator->stride * batch.source_length,
                                      translator->stride * translator->beams * batch.target_length);
    if (status == QN_OK)
        status = make_arrays(translator, batch.source_length, batch.target_length);
    if (status == QN_OK)
        status = read_sources(translator, &batch, tokens, lengths);
    if (status == QN_OK)
        status = search(translator, &batch);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        beam_settle(&translator->beams_of[order[i].number]);
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

/* A beam for each source, without memory yet; an error if one is no source of the model. */
static int make_beams(qn_translator *translator, const int32_t *const *sources,
                      const size_t *lengths, size_t count)
{
    qn_context *context = context_of(translator);
    const struct qn_seq2seq_config *config = &translator->model->config;
    bool ignores_end = translator->options.ignore_eos;
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
        translator->beams_of[translator->n_beams++] = (struct beam){
            .options = &translator->options,
            .source = lengths[i],
            .most = most_tokens(translator, lengths[i]),
            .end = ignores_end ? -1 : config->eos_token_id,
            .forces_end = config->forces_end && config->eos_token_id >= 0 && !ignores_end,
        };
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
    if (count == 0)
        return QN_OK;
    struct order *order = context_alloc(context_of(translator), count, sizeof *order);
    int status = order ? make_beams(translator, sources, lengths, count) : QN_ERROR_MEMORY;
    for (size_t i = 0; order && i < count; i++)
        order[i] = (struct order){lengths[i], i};
    if (status == QN_OK)
        qsort(order, count, sizeof *order, compare_lengths);
    translator->stride = size_max(translator->stride, size_min(count, translator->most_rows));
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
    if (options->min_length >= positions)
        return context_fail(model->context, QN_ERROR_INVALID,
                            "translate: %zu tokens before the end are asked for, but the model "
                            "writes at most %zu with it",
                            options->min_length, positions);
    if (decoding_needs_attention(options) && !has_attention)
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
    translator_free_device(translator);
    free_beams(translator);
    free(translator);
}

/* An encoder-decoder over batches of pairs. */
#include "cli/translation.h"

#include <stdlib.h>
#include <string.h>

#include <quern/score.h>
#include <utf8proc.h>

#include "device/context.h"

struct shape_plan {
    qn_graph *graph;
    struct pair_nodes pair;
    qn_node *loss, *correct; /* sums over the tokens that count */
    qn_plan *plan;
};

struct translation {
    qn_batches *batches;
    struct shape_plan *shapes;
    size_t n_shapes;
};

struct pair_nodes pair_nodes(qn_graph *graph, struct qn_batch_shape shape)
{
    size_t rows = shape.rows, length = shape.length[TARGET];
    struct pair_nodes pair = {
        .source = qn_input(graph, "source", QN_I32, QN_SHAPE(rows, shape.length[SOURCE])),
        .source_lengths = qn_input(graph, "source_lengths", QN_I32, QN_SHAPE(rows)),
        .target = qn_input(graph, "target", QN_I32, QN_SHAPE(rows, length)),
        .target_lengths = qn_input(graph, "target_lengths", QN_I32, QN_SHAPE(rows)),
    };
    qn_node *follow = qn_slice(pair.target, 1, 1, length), *places = qn_range(graph, length - 1);
    qn_node *lengths = qn_reshape(pair.target_lengths, QN_SHAPE(rows, 1));
    qn_node *one = qn_cast(qn_constant(graph, 1), QN_I32),
            *ignored = qn_cast(qn_constant(graph, QN_IGNORE), QN_I32);
    pair.targets = qn_where(qn_less(places, qn_sub(lengths, one)), follow, ignored);
    pair.input = (struct qn_seq2seq_input){.source = pair.source,
                                           .source_lengths = pair.source_lengths,
                                           .target = qn_slice(pair.target, 1, 0, length - 1)};
    return pair;
}

static bool make_plan(struct shape_plan *shape, const qn_seq2seq *model, struct qn_batch_shape of)
{
    shape->graph = qn_graph_new(qn_store_context(qn_seq2seq_parameters(model)));
    shape->pair = pair_nodes(shape->graph, of);
    qn_node *logits = qn_seq2seq_logits(model, shape->pair.input, (struct qn_seq2seq_forward){0});
    shape->loss =
        qn_cross_entropy_with(logits, shape->pair.targets,
                              (struct qn_cross_entropy){.ignore_index = QN_IGNORE, .sum = true});
    shape->correct = qn_correct(logits, shape->pair.targets);
    shape->plan = qn_plan_new(shape->graph, (qn_node *[]){shape->loss, shape->correct}, 2);
    return shape->plan;
}

struct translation *translation_new(const qn_seq2seq *model, qn_batches *batches)
{
    qn_context *context = qn_store_context(qn_seq2seq_parameters(model));
    struct translation *translation = context_alloc(context, 1, sizeof *translation);
    if (!translation)
        return NULL;
    *translation = (struct translation){.batches = batches, .n_shapes = qn_batches_shapes(batches)};
    translation->shapes =
        context_alloc(context, translation->n_shapes, sizeof *translation->shapes);
    bool is_good = translation->shapes;
    for (size_t i = 0; is_good && i < translation->n_shapes; i++)
        is_good = make_plan(&translation->shapes[i], model, qn_batches_shape(batches, i));
    if (is_good)
        return translation;
    translation_free(translation);
    return NULL;
}

void translation_free(struct translation *translation)
{
    if (!translation)
        return;
    for (size_t i = 0; translation->shapes && i < translation->n_shapes; i++) {
        qn_plan_free(translation->shapes[i].plan);
        qn_graph_free(translation->shapes[i].graph);
    }
    free(translation->shapes);
    free(translation);
}

static int run_batch(const struct shape_plan *shape, const struct qn_batch *batch,
                     struct qn_evaluation *sum)
{
    const struct pair_nodes *pair = &shape->pair;
    float loss, correct;
    int status = qn_set(shape->plan, pair->source, batch->ids[SOURCE]);
    if (status == QN_OK)
        status = qn_set(shape->plan, pair->source_lengths, batch->lengths[SOURCE]);
    if (status == QN_OK)
        status = qn_set(shape->plan, pair->target, batch->ids[TARGET]);
    if (status == QN_OK)
        status = qn_set(shape->plan, pair->target_lengths, batch->lengths[TARGET]);
    if (status == QN_OK)
        status = qn_run(shape->plan);
    if (status == QN_OK)
        status = qn_get(shape->plan, shape->loss, &loss);
    if (status == QN_OK)
        status = qn_get(shape->plan, shape->correct, &correct);
    if (status != QN_OK)
        return status;
    sum->loss += loss;
    sum->accuracy += correct;
    for (size_t i = 0; i < batch->examples; i++)
        sum->tokens += (size_t)batch->lengths[TARGET][i] - 1;
    return QN_OK;
}

int translation_measure(struct translation *translation, struct qn_evaluation *found)
{
    struct qn_evaluation sum = {0};
    struct qn_batch batch;
    int status = qn_batches_seek(translation->batches, 0);
    for (size_t i = 0; status == QN_OK && i < qn_batches_per_epoch(translation->batches); i++) {
        status = qn_batches_next(translation->batches, &batch);
        if (status == QN_OK)
            status = run_batch(&translation->shapes[batch.shape], &batch, &sum);
    }
    if (status != QN_OK)
        return status;
    *found = (struct qn_evaluation){.loss = sum.loss / (double)sum.tokens,
                                    .accuracy = sum.accuracy / (double)sum.tokens,
                                    .tokens = sum.tokens};
    return QN_OK;
}

/* ---- Texts ---- */

int32_t *source_ids(const struct text_translator *texts, const char *name, const char *text,
                    size_t bytes, size_t *count, bool *is_cut)
{
    size_t most = qn_seq2seq_config(texts->model)->n_positions;
    int32_t *ids = NULL, end = qn_tokenizer_end(texts->source);
    if (qn_encode(texts->source, name, text, bytes, &ids, count) != QN_OK)
        return NULL;
    size_t room = most - (end >= 0);
    *is_cut = *count > room;
    if (*is_cut)
        *count = room;
    int32_t *longer = realloc(ids, (*count + 1) * sizeof *ids);
    if (!longer) {
        free(ids);
        context_fail(qn_store_context(qn_seq2seq_parameters(texts->model)), QN_ERROR_MEMORY,
                     "out of memory for a text");
        return NULL;
    }
    if (end >= 0)
        longer[(*count)++] = end;
    return longer;
}

/* Bytes as a line of text: U+FFFD for what is none, spaces for line ends. */
static char *as_line(const char *text, size_t bytes)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    char *line = malloc(3 * bytes + 1), *end = line;
    for (size_t i = 0; line && i < bytes;) {
        utf8proc_int32_t character;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                                   (utf8proc_ssize_t)(bytes - i), &character);
        bool is_text = length > 0 && character != 0;
        if (is_text && (character == '\n' || character == '\r'))
            *end++ = ' ';
        else if (is_text)
            end = (char *)memcpy(end, text + i, (size_t)length) + length;
        else
            end = (char *)memcpy(end, replacement, 3) + 3;
        i += length > 0 ? (size_t)length : 1;
    }
    if (line)
        *end = '\0';
    return line;
}

char *target_text(const struct text_translator *texts, const struct qn_translation *found)
{
    const struct qn_seq2seq_config *config = qn_seq2seq_config(texts->model);
    int32_t *ids = malloc((found->count + 1) * sizeof *ids);
    size_t count = 0, bytes;
    char *decoded = NULL, *text = NULL;
    for (size_t i = 0; ids && i < found->count; i++) {
        int32_t id = found->tokens[i];
        if (id != config->eos_token_id && id != config->pad_token_id &&
            id != config->start_token_id)
            ids[count++] = id;
    }
    bool is_decoded = ids && qn_decode(texts->target, ids, count, &decoded, &bytes) == QN_OK;
    if (is_decoded)
        text = as_line(decoded, bytes);
    if (!ids || (is_decoded && !text))
        context_fail(qn_store_context(qn_seq2seq_parameters(texts->model)), QN_ERROR_MEMORY,
                     "out of memory for a translation");
    if (is_decoded)
        free(decoded);
    free(ids);
    return text;
}

/* Of a Transformer that reads what it said itself. */
static int transformer_weights(const qn_seq2seq *model, const int32_t *source, size_t length,
                               const int32_t *target, size_t count, size_t block, float *weights)
{
    qn_graph *graph = qn_graph_new(qn_store_context(qn_seq2seq_parameters(model)));
    struct qn_seq2seq_input input = {
        .source = qn_input(graph, "source", QN_I32, QN_SHAPE(1, length)),
        .target = qn_input(graph, "target", QN_I32, QN_SHAPE(1, count))};
    qn_node *found = NULL;
    qn_seq2seq_logits(model, input,
                      (struct qn_seq2seq_forward){.attention = &found, .attention_block = block});
    qn_plan *plan = qn_plan_new(graph, &found, 1);
    int status = plan ? qn_set(plan, input.source, source) : QN_ERROR_INVALID;
    if (status == QN_OK)
        status = qn_set(plan, input.target, target);
    if (status == QN_OK)
        status = qn_run(plan);
    if (status == QN_OK)
        status = qn_get(plan, found, weights);
    qn_plan_free(plan);
    qn_graph_free(graph);
    return status;
}

float *translation_weights(const struct text_translator *texts, const int32_t *source,
                           size_t length, const struct qn_translation *found, size_t block,
                           size_t *heads)
{
    const struct qn_seq2seq_config *config = qn_seq2seq_config(texts->model);
    qn_context *context = qn_store_context(qn_seq2seq_parameters(texts->model));
    bool is_recurrent = config->architecture == QN_RECURRENT_SEQ2SEQ;
    *heads = is_recurrent ? 1 : config->decoder_heads;
    size_t count = found->count * length;
    float *weights = context_alloc(context, *heads * count, sizeof *weights);
    int32_t *target = context_alloc(context, found->count + 1, sizeof *target);
    int status = weights && target ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK && is_recurrent) {
        memcpy(weights, found->attention, count * sizeof *weights);
    } else if (status == QN_OK) {
        target[0] = config->start_token_id;
        memcpy(target + 1, found->tokens, found->count * sizeof *target);
        status =
            transformer_weights(texts->model, source, length, target, found->count, block, weights);
    }
    free(target);
    if (status == QN_OK)
        return weights;
    free(weights);
    return NULL;
}

/* Encoded sources of records. */
struct sources {
    int32_t **ids;
    size_t *lengths, count;
};

static void free_sources(struct sources *sources)
{
    for (size_t i = 0; sources->ids && i < sources->count; i++)
        free(sources->ids[i]);
    free(sources->ids);
    free(sources->lengths);
}

static int encode_records(const struct text_translator *texts, qn_records *records,
                          struct sources *sources)
{
    qn_context *context = qn_store_context(qn_seq2seq_parameters(texts->model));
    size_t count = qn_records_count(records);
    *sources = (struct sources){.ids = context_alloc(context, count, sizeof *sources->ids),
                                .lengths = context_alloc(context, count, sizeof(size_t)),
                                .count = count};
    int status = sources->ids && sources->lengths ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        bool is_cut;
        status = qn_records_read(records, i, fields);
        if (status == QN_OK &&
            !(sources->ids[i] = source_ids(texts, qn_records_place(records, i), fields[SOURCE].text,
                                           fields[SOURCE].bytes, &sources->lengths[i], &is_cut)))
            status = QN_ERROR_FORMAT;
    }
    return status;
}

static int add_to_bleu(qn_bleu *bleu, const struct text_translator *texts, qn_records *records,
                       size_t record, const struct qn_translation *found)
{
    struct qn_field_text fields[QN_MAX_FIELDS];
    char *text = target_text(texts, found);
    qn_context *context = qn_store_context(qn_seq2seq_parameters(texts->model));
    int status = text ? qn_records_read(records, record, fields) : (int)context->status;
    if (status == QN_OK)
        status = qn_bleu_add(bleu, text, (const char *[]){fields[TARGET].text}, 1);
    free(text);
    return status;
}

int translation_bleu(const struct text_translator *texts, qn_records *records, double *score)
{
    qn_context *context = qn_store_context(qn_seq2seq_parameters(texts->model));
    size_t count = qn_records_count(records);
    struct sources sources;
    struct qn_translation *found = context_alloc(context, count, sizeof *found);
    qn_bleu *bleu = qn_bleu_new(context, (struct qn_bleu_options){0});
    int status = encode_records(texts, records, &sources);
    if (!found || !bleu)
        status = QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = qn_translate(texts->translator, (const int32_t *const *)sources.ids,
                              sources.lengths, count, found);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = add_to_bleu(bleu, texts, records, i, &found[i]);
    if (status == QN_OK)
        *score = qn_bleu_result(bleu).score;
    qn_bleu_free(bleu);
    free(found);
    free_sources(&sources);
    return status;
}

/* Encoder-decoders of every kind: their files, padding, training, and translations. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/seq2seq.h>
#include <quern/train.h>

#include "device/context.h"

#include "tap.h"

#include "files.h"
#include "open.h"

enum { SOURCES = 3, LENGTH = 7, TARGET = 6, VOCABULARY = 23, BEGIN = 1, END = 2 };

static qn_context *context;

/* ---- Models ---- */

#define COMMON                                                                                     \
    .source_vocab_size = VOCABULARY, .target_vocab_size = VOCABULARY, .n_positions = 32,           \
    .start_token_id = BEGIN, .eos_token_id = END
#define LAYERS .width = 16, .encoder_heads = 2, .decoder_heads = 2, .scales_embedding = true
#define RECURRENT                                                                                  \
    .architecture = QN_RECURRENT_SEQ2SEQ, .width = 12, .hidden_size = 16, .encoder_layers = 2,     \
    .decoder_layers = 2

static const struct subject {
    const char *name;
    struct qn_seq2seq_config config;
} subjects[] = {
    {"marian",
     {.architecture = QN_MARIAN,
      COMMON,
      LAYERS,
      .encoder_layers = 2,
      .decoder_layers = 1,
      .encoder_inner = 24,
      .decoder_inner = 32,
      .activation = QN_SILU,
      .positions = QN_SINUSOIDAL_HALVES,
      .shares_embeddings = true,
      .ties_head = true,
      .dropout = 0.1}},
    {"marian, nothing shared",
     {.architecture = QN_MARIAN,
      COMMON,
      LAYERS,
      .encoder_layers = 1,
      .decoder_layers = 2,
      .encoder_inner = 24,
      .decoder_inner = 32,
      .activation = QN_GELU_ERF,
      .positions = QN_SINUSOIDAL_HALVES,
      .pad_token_id = -1}},
    {"transformer, norms first, learned positions",
     {.architecture = QN_TRANSFORMER,
      COMMON,
      LAYERS,
      .encoder_layers = 2,
      .decoder_layers = 2,
      .encoder_inner = 24,
      .decoder_inner = 24,
      .activation = QN_GELU,
      .is_pre_norm = true,
      .positions = QN_LEARNED,
      .dropout = 0.1,
      .activation_dropout = 0.1}},
    {"transformer, all shared",
     {.architecture = QN_TRANSFORMER,
      COMMON,
      LAYERS,
      .encoder_layers = 1,
      .decoder_layers = 1,
      .encoder_inner = 24,
      .decoder_inner = 24,
      .activation = QN_RELU,
      .positions = QN_SINUSOIDAL,
      .shares_embeddings = true,
      .ties_head = true}},
    {"lstm without attention", {RECURRENT, COMMON, .cell = QN_LSTM, .dropout = 0.1}},
    {"lstm, additive, both directions, bridge",
     {RECURRENT, COMMON, .cell = QN_LSTM, .attention = QN_ADDITIVE, .is_bidirectional = true,
      .has_bridge = true, .dropout = 0.1}},
    {"gru, dot, both directions, shared embeddings",
     {RECURRENT, COMMON, .cell = QN_GRU, .attention = QN_DOT, .is_bidirectional = true,
      .shares_embeddings = true}},
    {"rnn, general", {RECURRENT, COMMON, .cell = QN_RNN_TANH, .attention = QN_GENERAL}},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static bool is_transformer(const qn_seq2seq *model)
{
    return qn_seq2seq_config(model)->architecture != QN_RECURRENT_SEQ2SEQ;
}

static void test_files(const struct subject *subject, qn_seq2seq *model)
{
    const qn_store *store = qn_seq2seq_parameters(model);
    size_t elements = 0;
    for (size_t i = 0; i < qn_store_count(store); i++)
        elements += qn_shape_count(qn_tensor_shape(qn_store_tensor(store, i)));
    ok(elements == qn_seq2seq_config_parameters(&subject->config),
       "%s: %zu parameters, as its configuration says", subject->name, elements);
    qn_seq2seq *again =
        qn_seq2seq_save(model, test_folder) == QN_OK ? qn_seq2seq_load(context, test_folder) : NULL;
    const char *difference =
        again ? qn_seq2seq_config_difference(&subject->config, qn_seq2seq_config(again)) : "all";
    ok(!difference, "%s: saved, loaded: %s differs", subject->name,
       difference ? difference : "nothing");
    qn_seq2seq_free(again);
}

/* ---- A batch: three pairs, of which the first two are shorter than the last ---- */

static const int32_t sources[SOURCES][LENGTH] = {
    {5, 9, 4}, {17, 3, 3, 8, 12}, {20, 21, 6, 6, 11, 4, 19}};
static const int32_t source_lengths[SOURCES] = {3, 5, 7};
static const int32_t targets[SOURCES][TARGET] = {{7, 5, END, QN_IGNORE, QN_IGNORE, QN_IGNORE},
                                                 {9, 9, 14, 3, END, QN_IGNORE},
                                                 {22, 6, 3, 18, 10, END}};

struct batch {
    qn_node *source, *lengths, *target, *targets;
};

static struct batch batch_new(qn_graph *graph, size_t rows, size_t length, size_t target)
{
    return (struct batch){qn_input(graph, "source", QN_I32, QN_SHAPE(rows, length)),
                          qn_input(graph, "lengths", QN_I32, QN_SHAPE(rows)),
                          qn_input(graph, "target", QN_I32, QN_SHAPE(rows, target)),
                          qn_input(graph, "targets", QN_I32, QN_SHAPE(rows, target))};
}

static struct qn_seq2seq_input input_of(const struct batch *batch)
{
    return (struct qn_seq2seq_input){
        .source = batch->source, .source_lengths = batch->lengths, .target = batch->target};
}

/* What a decoder reads to say `target`: the start, and all but the last. */
static void shift(const int32_t *target, size_t count, int32_t *inputs)
{
    for (size_t i = 0; i < count; i++)
        inputs[i] = i == 0 ? BEGIN : target[i - 1] == QN_IGNORE ? 0 : target[i - 1];
}

static void batch_set(const struct batch *batch, qn_plan *plan)
{
    int32_t inputs[SOURCES][TARGET];
    for (size_t i = 0; i < SOURCES; i++)
        shift(targets[i], TARGET, inputs[i]);
    qn_set(plan, batch->source, sources);
    qn_set(plan, batch->lengths, source_lengths);
    qn_set(plan, batch->target, inputs);
    qn_set(plan, batch->targets, targets);
}

/* Logits (count, V) of one pair alone, without padding. */
static bool logits_of(const qn_seq2seq *model, const int32_t *source, size_t length,
                      const int32_t *target, size_t count, float *logits)
{
    int32_t inputs[64], lengths = (int32_t)length;
    shift(target, count, inputs);
    qn_graph *graph = qn_graph_new(context);
    struct batch batch = batch_new(graph, 1, length, count);
    qn_node *node = qn_seq2seq_logits(model, input_of(&batch), (struct qn_seq2seq_forward){0});
    qn_plan *plan = qn_plan_new(graph, &node, 1);
    qn_set(plan, batch.source, source);
    qn_set(plan, batch.lengths, &lengths);
    qn_set(plan, batch.target, inputs);
    bool is_good = qn_run(plan) == QN_OK && qn_get(plan, node, logits) == QN_OK;
    qn_plan_free(plan);
    qn_graph_free(graph);
    return is_good;
}

/* Padding changes nothing: a pair's logits are those that it has alone. */
static void test_padding(const struct subject *subject, const qn_seq2seq *model)
{
    float all[SOURCES][TARGET][VOCABULARY], alone[TARGET][VOCABULARY];
    double worst = 0;
    qn_graph *graph = qn_graph_new(context);
    struct batch batch = batch_new(graph, SOURCES, LENGTH, TARGET);
    qn_node *node = qn_seq2seq_logits(model, input_of(&batch), (struct qn_seq2seq_forward){0});
    qn_plan *plan = qn_plan_new(graph, &node, 1);
    batch_set(&batch, plan);
    bool is_good = qn_run(plan) == QN_OK && qn_get(plan, node, all) == QN_OK;
    for (size_t i = 0; i < SOURCES && is_good; i++) {
        size_t count = 0;
        while (count < TARGET && targets[i][count] != QN_IGNORE)
            count++;
        is_good =
            logits_of(model, sources[i], (size_t)source_lengths[i], targets[i], count, *alone);
        for (size_t j = 0; j < count; j++)
            for (size_t k = 0; k < VOCABULARY; k++)
                worst = fmax(worst, fabs((double)all[i][j][k] - (double)alone[j][k]));
    }
    /* Sums of some ten terms of size 1 in another order. */
    ok(is_good && worst < 1e-5, "%s: padding changes logits by %.1e", subject->name, worst);
    qn_plan_free(plan);
    qn_graph_free(graph);
}

/* ---- Training ---- */

/* Loss after some steps on the batch; negative if that fails. */
static double train(const qn_seq2seq *model, struct qn_seq2seq_forward forward, bool has_dropout,
                    size_t steps)
{
    struct qn_training options = {.schedule = {.kind = QN_CONSTANT, .rate = 0.01},
                                  .optimizer = qn_optimizer_defaults(QN_ADAMW),
                                  .loss_scale = forward.type == QN_F16 ? 1024 : 0,
                                  .seed = 7};
    struct qn_step report = {.loss = -1};
    qn_trainer *trainer = qn_trainer_new(qn_seq2seq_parameters(model), &options);
    struct batch batch = batch_new(qn_trainer_graph(trainer), SOURCES, LENGTH, TARGET);
    forward.loss_scale = qn_trainer_loss_scale(trainer);
    if (has_dropout)
        forward.dropout_key = qn_trainer_key(trainer);
    qn_node *loss = qn_seq2seq_loss(model, input_of(&batch), batch.targets, forward);
    int status = qn_trainer_minimise(trainer, loss);
    if (status == QN_OK)
        batch_set(&batch, qn_trainer_plan(trainer));
    for (size_t i = 0; status == QN_OK && i < steps; i++)
        status = qn_trainer_pass(trainer);
    if (status == QN_OK)
        status = qn_trainer_report(trainer, steps, true, &report);
    qn_trainer_free(trainer);
    if (status != QN_OK)
        note("%s", qn_error(context));
    qn_clear_error(context);
    return status == QN_OK ? (double)report.loss : -1;
}

static double train_anew(qn_seq2seq *model, struct qn_seq2seq_forward forward, bool has_dropout,
                         size_t steps)
{
    return qn_seq2seq_initialise(model, 3) == QN_OK ? train(model, forward, has_dropout, steps)
                                                    : -1;
}

static void test_training(const struct subject *subject, qn_seq2seq *model)
{
    enum { STEPS = 100 };
    static const struct {
        const char *name;
        struct qn_seq2seq_forward forward;
        bool has_dropout;
    } ways[] = {
        {"f32", {0}, false},
        {"bf16", {.type = QN_BF16}, false},
        {"f16, logits in chunks", {.type = QN_F16, .loss_rows = 4}, false},
        {"dropout and smoothing", {.label_smoothing = 0.05F}, true},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double loss = train_anew(model, ways[i].forward, ways[i].has_dropout, STEPS);
        ok(loss >= 0 && loss < 1, "%s learns three pairs by heart, %s: loss %.3f", subject->name,
           ways[i].name, loss);
    }
    double whole = train_anew(model, (struct qn_seq2seq_forward){0}, false, 5),
           parts = train_anew(model, (struct qn_seq2seq_forward){.loss_rows = 4}, false, 5);
    /* Sums over rows are split elsewhere. */
    ok(whole > 0 && fabs(whole - parts) < 1e-5 * whole,
       "%s: logits in chunks: losses differ by %.1e", subject->name, fabs(whole - parts));
    struct qn_seq2seq_forward own = {.scheduled_sampling = 0.25F},
                              none = {.scheduled_sampling = 1e-30F};
    if (is_transformer(model)) {
        double kept = train_anew(model, (struct qn_seq2seq_forward){0}, true, 5),
               again = train_anew(model, (struct qn_seq2seq_forward){.checkpoint = true}, true, 5);
        ok(kept == again && kept > 0, "%s: computing blocks again changes nothing", subject->name);
        ok(train_anew(model, own, true, 1) < 0, "%s has no scheduled sampling", subject->name);
        return;
    }
    double loss = train_anew(model, own, true, STEPS);
    ok(loss >= 0 && loss < 1.5, "%s learns by scheduled sampling: loss %.3f", subject->name, loss);
    ok(train_anew(model, own, false, 1) < 0, "%s: scheduled sampling needs a key", subject->name);
    if (subject->config.dropout == 0) {
        double forced = train_anew(model, (struct qn_seq2seq_forward){0}, true, 5),
               sampled = train_anew(model, none, true, 5);
        /* The same sums in another order, for five steps. */
        ok(fabs(forced - sampled) < 1e-5 * forced,
           "%s: scheduled sampling of nothing is teacher forcing", subject->name);
    }
}

/* ---- Translations ---- */

enum { BEAMS = 3 };

static const int32_t *const rows[SOURCES] = {sources[0], sources[1], sources[2]};
static const size_t lengths[SOURCES] = {3, 5, 7};

static bool translate(const qn_seq2seq *model, const struct qn_decoding *options, size_t at_once,
                      qn_translator **translator, struct qn_translation *found)
{
    *translator = qn_translator_new(model, options, at_once);
    if (qn_translate(*translator, rows, lengths, SOURCES, found) == QN_OK)
        return true;
    note("%s", qn_error(context));
    qn_clear_error(context);
    return false;
}

/* The sum of the logarithms of the probabilities of a translation's tokens, by a pass over all of it. */
static double score_of(const qn_seq2seq *model, size_t i, const struct qn_translation *one)
{
    float logits[32 * VOCABULARY];
    double sum = 0;
    if (!logits_of(model, sources[i], lengths[i], one->tokens, one->count, logits))
        return NAN;
    for (size_t j = 0; j < one->count; j++) {
        const float *row = logits + j * VOCABULARY;
        double denominator = 0;
        for (size_t k = 0; k < VOCABULARY; k++)
            denominator += exp((double)row[k]);
        sum += (double)row[one->tokens[j]] - log(denominator);
    }
    return sum;
}

static double coverage(size_t i, const struct qn_translation *one)
{
    double sum = 0;
    for (size_t j = 0; j < lengths[i]; j++) {
        double seen = 0;
        for (size_t k = 0; k < one->count; k++)
            seen += (double)one->attention[k * lengths[i] + j];
        sum += log(fmin(seen, 1));
    }
    return sum;
}

static bool attends(size_t i, const struct qn_translation *one)
{
    for (size_t k = 0; k < one->count; k++) {
        double sum = 0;
        for (size_t j = 0; j < lengths[i]; j++)
            sum += (double)one->attention[k * lengths[i] + j];
        if (!(fabs(sum - 1) < 1e-5))
            return false;
    }
    return true;
}

static bool repeats_pair(const struct qn_translation *one)
{
    for (size_t i = 0; i + 1 < one->count; i++)
        for (size_t j = i + 1; j + 1 < one->count; j++)
            if (memcmp(one->tokens + i, one->tokens + j, 2 * sizeof *one->tokens) == 0)
                return true;
    return false;
}

static bool are_equal(const struct qn_translation *a, const struct qn_translation *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0) &&
           fabs(a->score - b->score) <= 1e-5;
}

/* Scores are what the tokens' probabilities make of them, best first, and the options are kept to. */
static void test_scores(const struct subject *subject, const qn_seq2seq *model,
                        struct qn_decoding options, const char *how)
{
    enum { COUNT = SOURCES * BEAMS };
    struct qn_translation found[COUNT], one_by_one[COUNT];
    qn_translator *translator, *single;
    bool is_whole = translate(model, &options, 16, &translator, found) &&
                    translate(model, &options, 1, &single, one_by_one);
    double worst = 0;
    size_t unsorted = 0, short_ones = 0, repeated = 0, different = 0, blind = 0;
    for (size_t i = 0; is_whole && i < COUNT; i++) {
        const struct qn_translation *one = &found[i];
        size_t source = i / BEAMS;
        different += !are_equal(one, &one_by_one[i]);
        if (one->count == 0)
            continue;
        double score =
            score_of(model, source, one) / pow((double)one->count, options.length_penalty);
        if (options.keep_attention) {
            score += options.coverage_penalty * coverage(source, one);
            blind += !attends(source, one);
        }
        worst = fmax(worst, fabs(score - one->score));
        unsorted += i % BEAMS > 0 && found[i - 1].score < one->score;
        short_ones += one->count <= options.min_length;
        repeated += options.no_repeat_ngram == 2 && repeats_pair(one);
    }
    /* A dozen logarithms of probabilities, each of sums of some ten terms. */
    ok(is_whole && worst < 2e-5 && found[0].count > 0, "%s, %s: scores err by %.1e", subject->name,
       how, worst);
    ok(unsorted + short_ones + repeated + different + blind == 0,
       "%s, %s: %zu in disorder, %zu too short, %zu with a pair twice, %zu other than alone, %zu "
       "without attention",
       subject->name, how, unsorted, short_ones, repeated, different, blind);
    qn_translator_free(translator);
    qn_translator_free(single);
}

/* A seed draws the same again, another one something else; at temperature 0 all draw what is greatest. */
static void test_drawing(const struct subject *subject, const qn_seq2seq *model)
{
    enum { COUNT = SOURCES * BEAMS };
    struct qn_decoding options = {
        .beams = BEAMS, .max_length = 12, .draws = true, .sample = {.temperature = 1}, .seed = 1};
    struct qn_translation first[COUNT], again[COUNT], other[COUNT], greedy[SOURCES];
    qn_translator *translators[3];
    bool is_whole = translate(model, &options, 16, &translators[0], first) &&
                    translate(model, &options, 16, &translators[1], again);
    options.seed = 2;
    is_whole = is_whole && translate(model, &options, 16, &translators[2], other);
    if (!is_whole)
        bail_out("%s does not draw", subject->name);
    size_t same = 0, as_other = 0;
    double worst = 0;
    for (size_t i = 0; i < COUNT; i++) {
        same += are_equal(&first[i], &again[i]);
        as_other += are_equal(&first[i], &other[i]);
        worst = fmax(worst, fabs(score_of(model, i / BEAMS, &first[i]) - first[i].score));
    }
    ok(same == COUNT && as_other < COUNT && worst < 2e-5,
       "%s draws: %zu of %d again, %zu by another seed, scores err by %.1e", subject->name, same,
       COUNT, as_other, worst);
    for (size_t i = 0; i < 3; i++)
        qn_translator_free(translators[i]);
    options.sample.temperature = 0;
    is_whole =
        translate(model, &options, 16, &translators[0], first) &&
        translate(model, &(struct qn_decoding){.max_length = 12}, 16, &translators[1], greedy);
    if (!is_whole)
        bail_out("%s does not draw", subject->name);
    for (size_t i = same = 0; i < COUNT; i++)
        same += are_equal(&first[i], &greedy[i / BEAMS]);
    ok(same == COUNT, "%s draws the greatest at temperature 0", subject->name);
    qn_translator_free(translators[0]);
    qn_translator_free(translators[1]);
}

static void refuses(const qn_seq2seq *model, struct qn_decoding options, const int32_t *source,
                    size_t length, const char *message)
{
    struct qn_translation found[BEAMS];
    qn_translator *translator = qn_translator_new(model, &options, 1);
    bool is_refused = !translator || qn_translate(translator, &source, &length, 1, found) != QN_OK;
    ok(is_refused && strstr(qn_error(context), message), "refused: %s", message);
    qn_clear_error(context);
    qn_translator_free(translator);
}

static void test_translations(const struct subject *subject, const qn_seq2seq *model)
{
    const struct qn_decoding plain = {.beams = BEAMS, .length_penalty = 0.8, .max_length = 12};
    bool has_attention = is_transformer(model) || subject->config.attention != QN_NO_SCORE;
    struct qn_decoding strict = plain, covering = plain;
    strict.min_length = 6;
    strict.no_repeat_ngram = 2;
    covering.coverage_penalty = 0.3;
    covering.keep_attention = true;
    test_scores(subject, model, plain, "beams");
    test_drawing(subject, model);
    test_scores(subject, model, strict, "at least 6 tokens, no pair twice");
    if (has_attention)
        test_scores(subject, model, covering, "coverage");
    else
        refuses(model, covering, sources[0], 3, "the model has no attention");
}

static void test_refusals(const qn_seq2seq *model)
{
    static const int32_t strange[] = {3, VOCABULARY};
    struct qn_decoding options = {.beams = BEAMS};
    refuses(model, options, sources[0], 0, "source 0 has 0 tokens; the model reads 1 to 32");
    refuses(model, options, sources[0], 33, "source 0 has 33 tokens");
    refuses(model, options, strange, 2, "token 23 of source 0 is not in the model's vocabulary");
    options.beams = 1 << 20;
    refuses(model, options, sources[0], 3, "at most 1024 beams");
    options = (struct qn_decoding){.length_penalty = NAN};
    refuses(model, options, sources[0], 3, "and numbers");
}

int main(void)
{
    context = open_with_quick_compiler();
    make_test_folder();
    for (size_t i = 0; i < SUBJECTS; i++) {
        qn_seq2seq *model = qn_seq2seq_new(context, &subjects[i].config);
        if (!model || qn_seq2seq_initialise(model, 5) != QN_OK)
            bail_out("%s: %s", subjects[i].name, qn_error(context));
        test_files(&subjects[i], model);
        test_padding(&subjects[i], model);
        test_translations(&subjects[i], model);
        test_training(&subjects[i], model);
        if (i == 0)
            test_refusals(model);
        qn_seq2seq_free(model);
    }
    remove_test_folder();
    qn_close(context);
    return done_testing();
}

/* Encoder-decoders in training: batches are pairs of texts of about the same lengths. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/kinds.h"
#include "cli/train/models.h"
#include "cli/translation.h"
#include "device/context.h"

/* Of the data held out, whose BLEU is that of greedy search. */
enum { TEXTS_AT_ONCE = 64 };

/* ---- The model ---- */

static qn_tokenizer *target_tokenizer(const struct corpus *corpus)
{
    return corpus->target_tokenizer ? corpus->target_tokenizer : corpus->tokenizer;
}

static void configure_transformer(struct qn_seq2seq_config *config, const struct settings *settings)
{
    bool is_pre_norm = strcmp(settings->norm, "pre") == 0;
    bool is_learned = strcmp(settings->positions, "learned") == 0;
    bool is_marian = !is_pre_norm && !is_learned && config->shares_embeddings;
    config->architecture = is_marian ? QN_MARIAN : QN_TRANSFORMER;
    config->encoder_heads = config->decoder_heads = settings->heads;
    config->encoder_inner = config->decoder_inner = settings->inner;
    config->activation = strcmp(settings->activation, "relu") == 0   ? QN_RELU
                         : strcmp(settings->activation, "gelu") == 0 ? QN_GELU_ERF
                                                                     : QN_SILU;
    config->scales_embedding = true;
    config->is_pre_norm = is_pre_norm;
    config->positions = is_learned ? QN_LEARNED : is_marian ? QN_SINUSOIDAL_HALVES : QN_SINUSOIDAL;
}

static void configure_recurrent(struct qn_seq2seq_config *config, const struct settings *settings)
{
    static const char *const scores[] = {[QN_NO_SCORE] = "none",
                                         [QN_ADDITIVE] = "additive",
                                         [QN_DOT] = "dot",
                                         [QN_GENERAL] = "general"};
    config->architecture = QN_RECURRENT_SEQ2SEQ;
    config->cell = cell_of(settings->model, "");
    config->is_bidirectional = strcmp(settings->direction, "both") == 0;
    config->hidden_size = settings->units;
    config->has_bridge = strcmp(settings->bridge, "tanh") == 0;
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++)
        if (strcmp(settings->attention, scores[i]) == 0)
            config->attention = (enum qn_attention_score)i;
}

struct qn_seq2seq_config seq2seq_config_of(const struct subject *subject)
{
    const struct settings *settings = subject->settings;
    const struct corpus *corpus = subject->corpus;
    struct qn_seq2seq_config config = {
        .source_vocab_size = subject->vocabulary,
        .target_vocab_size = subject->vocabulary,
        .n_positions = settings->most_tokens,
        .width = settings->width,
        .encoder_layers = settings->layers,
        .decoder_layers = settings->layers,
        .dropout = settings->dropout,
        .shares_embeddings =
            shares_tokenizer(settings) && strcmp(settings->embeddings, "tied") == 0,
        .ties_head = strcmp(settings->embeddings, "tied") == 0,
        .pad_token_id = -1,
        .eos_token_id = -1,
    };
    if (corpus) {
        const qn_tokenizer *target = target_tokenizer(corpus);
        config.source_vocab_size = qn_tokenizer_vocabulary(corpus->tokenizer);
        config.target_vocab_size = qn_tokenizer_vocabulary(target);
        config.pad_token_id = qn_tokenizer_special(target, "<pad>");
        config.start_token_id = qn_tokenizer_begin(target);
        config.eos_token_id = qn_tokenizer_end(target);
    }
    if (settings->family == FAMILY_TRANSFORMER)
        configure_transformer(&config, settings);
    else
        configure_recurrent(&config, settings);
    return config;
}

static int check(qn_context *qn, const struct subject *subject)
{
    struct qn_seq2seq_config config = seq2seq_config_of(subject);
    return qn_seq2seq_config_check(qn, "the options", &config);
}

static bool new_model(struct learner *learner)
{
    struct qn_seq2seq_config config = seq2seq_config_of(&learner->subject);
    return (learner->seq2seq = qn_seq2seq_new(learner->qn, &config));
}

static bool load_model(struct learner *learner, const char *folder, char message[RUN_MESSAGE])
{
    struct qn_seq2seq_config config = seq2seq_config_of(&learner->subject);
    learner->seq2seq = qn_seq2seq_load(learner->qn, folder);
    const char *key =
        learner->seq2seq
            ? qn_seq2seq_config_difference(&config, qn_seq2seq_config(learner->seq2seq))
            : NULL;
    return learner->seq2seq && (!key || fail_difference(folder, key, message));
}

static qn_store *parameters(const struct learner *learner)
{
    return qn_seq2seq_parameters(learner->seq2seq);
}

static int initialise(const struct learner *learner, uint64_t seed)
{
    return qn_seq2seq_initialise(learner->seq2seq, seed);
}

static int save(const struct learner *learner, const char *folder)
{
    return qn_seq2seq_save(learner->seq2seq, folder);
}

static void release(struct learner *learner)
{
    translation_free(learner->translation);
    qn_translator_free(learner->translator);
    qn_seq2seq_free(learner->seq2seq);
}

/* ---- Plans ---- */

static int add_loss(struct learner *learner, struct qn_batch_shape shape, struct loss_inputs *loss)
{
    const struct settings *settings = learner->subject.settings;
    qn_trainer *trainer = learner->trainer;
    struct pair_nodes pair = pair_nodes(qn_trainer_graph(trainer), shape);
    *loss = (struct loss_inputs){.inputs = pair.source,
                                 .lengths = pair.source_lengths,
                                 .targets = pair.target,
                                 .target_lengths = pair.target_lengths};
    struct qn_seq2seq_forward forward = {.type = type_of(settings),
                                         .label_smoothing = (float)settings->label_smoothing,
                                         .scheduled_sampling = (float)settings->sampling,
                                         .loss_scale = qn_trainer_loss_scale(trainer),
                                         .checkpoint = settings->checkpoint};
    if (settings->dropout > 0 || settings->sampling > 0)
        forward.dropout_key = qn_trainer_key(trainer);
    return qn_trainer_minimise(
        trainer, qn_seq2seq_loss(learner->seq2seq, pair.input, pair.targets, forward));
}

static int add_losses(struct learner *learner)
{
    const struct qn_batch_shape least = {.rows = 1, .length = {1, 2}};
    return learner_add_losses(learner, add_loss, least);
}

static int add_validation(struct learner *learner)
{
    learner->translation =
        translation_new(learner->seq2seq, learner->subject.corpus->valid_batches);
    learner->translator =
        qn_translator_new(learner->seq2seq, &(struct qn_decoding){.beams = 1}, TEXTS_AT_ONCE);
    return learner->translation && learner->translator ? QN_OK : (int)learner->qn->status;
}

/* ---- Batches ---- */

static int set_batch(struct learner *learner, uint64_t step, uint64_t pass, uint64_t *tokens)
{
    struct qn_batch batch;
    int status = learner_next_batch(learner, step, pass, &batch, tokens);
    if (status != QN_OK)
        return status;
    qn_plan *plan = qn_trainer_plan(learner->trainer);
    const struct loss_inputs *loss = &learner->losses[batch.shape];
    status = qn_set(plan, loss->inputs, batch.ids[SOURCE]);
    if (status == QN_OK)
        status = qn_set(plan, loss->lengths, batch.lengths[SOURCE]);
    if (status == QN_OK)
        status = qn_set(plan, loss->targets, batch.ids[TARGET]);
    return status == QN_OK ? qn_set(plan, loss->target_lengths, batch.lengths[TARGET]) : status;
}

static int evaluate(struct learner *learner, struct validation *found)
{
    struct qn_evaluation measured = {0};
    const struct corpus *corpus = learner->subject.corpus;
    const struct text_translator texts = {.model = learner->seq2seq,
                                          .source = corpus->tokenizer,
                                          .target = target_tokenizer(corpus),
                                          .translator = learner->translator};
    double bleu = NAN;
    int status = translation_measure(learner->translation, &measured);
    if (status == QN_OK)
        status = translation_bleu(&texts, corpus->valid_records, &bleu);
    *found = (struct validation){measured.loss, measured.accuracy, bleu};
    return status;
}

/* ---- What the user is told ---- */

static void describe(const struct subject *subject, struct progress *progress)
{
    const struct settings *settings = subject->settings;
    const struct corpus *corpus = subject->corpus;
    const qn_batches *batches = corpus->train_batches, *valid = corpus->valid_batches;
    struct qn_seq2seq_config config = seq2seq_config_of(subject);
    char number[NUMBER_TEXT], held_out[NUMBER_TEXT], sizes[4 * NUMBER_TEXT];
    if (settings->family == FAMILY_TRANSFORMER)
        snprintf(sizes, sizeof sizes, "%" PRIu64 " heads, %" PRIu64 " inside", settings->heads,
                 settings->inner);
    else
        snprintf(sizes, sizeof sizes, "%s of %" PRIu64 " units, %s attention", settings->model,
                 settings->units, settings->attention);
    progress_say(progress, "model",
                 "%s parameters: %" PRIu64 " + %" PRIu64 " layers, %s, width %" PRIu64,
                 count_text(number, qn_seq2seq_config_parameters(&config)), settings->layers,
                 settings->layers, sizes, settings->width);
    progress_say(progress, "data",
                 "%s pairs to train on, %s to validate; %zu and %zu in the vocabularies (%s%s)",
                 count_text(number, qn_batches_examples(batches)),
                 count_text(held_out, valid ? qn_batches_examples(valid) : 0),
                 config.source_vocab_size, config.target_vocab_size,
                 corpus->target_tokenizer ? "" : "joint ", qn_tokenizer_kind(corpus->tokenizer));
    describe_epoch(subject, "pairs", "tokens at most", progress);
}

const struct learner_kind translator_kind = {
    .use = "translate",
    .read = pairs_read,
    .check = check,
    .new_model = new_model,
    .load_model = load_model,
    .parameters = parameters,
    .initialise = initialise,
    .save = save,
    .add_losses = add_losses,
    .add_validation = add_validation,
    .set_batch = set_batch,
    .evaluate = evaluate,
    .release = release,
    .passes = learner_epochs,
    .describe = describe,
};

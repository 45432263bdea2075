/* Language models in training: batches are windows of a text. */
#include "cli/train/models.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/kinds.h"
#include "device/context.h"

/* ---- The configuration ---- */

static void configure_decoder(struct qn_lm_config *config, const struct settings *settings)
{
    config->architecture = QN_GPT2;
    config->n_head = settings->heads;
    config->layer_norm_epsilon = 1e-5;
    config->embd_pdrop = config->attn_pdrop = settings->dropout;
    config->activation = QN_GELU;
    if (settings->family == FAMILY_LLAMA) {
        config->architecture = QN_LLAMA;
        config->activation = QN_NO_ACTIVATION;
        config->n_kv_head = settings->kv_heads;
        config->rotary.theta = settings->theta;
    }
}

struct qn_lm_config lm_config_of(const struct settings *settings, size_t vocabulary,
                                 const qn_tokenizer *tokenizer)
{
    struct qn_lm_config config = {
        .vocab_size = vocabulary,
        .n_positions = settings->context,
        .n_embd = settings->width,
        .n_layer = settings->layers,
        .resid_pdrop = settings->dropout,
        .tie_word_embeddings =
            settings->family == FAMILY_GPT || strcmp(settings->embeddings, "tied") == 0,
        .bos_token_id = tokenizer ? qn_tokenizer_begin(tokenizer) : -1,
        .eos_token_id = tokenizer ? qn_tokenizer_end(tokenizer) : -1,
    };
    if (is_recurrent(settings->family)) {
        config.architecture = QN_RECURRENT;
        config.cell = cell_of(family_name(settings->family), settings->nonlinearity);
        config.hidden_size = settings->units;
    } else {
        configure_decoder(&config, settings);
    }
    return config;
}

static struct qn_lm_config config_of(const struct subject *subject)
{
    const qn_tokenizer *tokenizer = subject->corpus ? subject->corpus->tokenizer : NULL;
    size_t vocabulary = tokenizer ? qn_tokenizer_vocabulary(tokenizer) : subject->vocabulary;
    return lm_config_of(subject->settings, vocabulary, tokenizer);
}

/* Rows that carry their state read parts of the text, which must not be shorter than a window. */
static int check_streams(qn_context *qn, const struct subject *subject)
{
    const struct settings *settings = subject->settings;
    size_t tokens = qn_dataset_tokens(subject->corpus->train);
    uint64_t longest = (tokens - 1) / settings->batch;
    if (!carries_state(settings) || longest >= settings->context)
        return QN_OK;
    return context_fail(qn, QN_ERROR_INVALID,
                        "--state carry: %zu tokens in --batch %" PRIu64 " parts are %" PRIu64
                        " a part, fewer than --context %" PRIu64
                        ": give more text, or make one of them smaller",
                        tokens, settings->batch, longest, settings->context);
}

static int check(qn_context *qn, const struct subject *subject)
{
    struct qn_lm_config config = config_of(subject);
    int status = qn_lm_config_check(qn, "the options", &config);
    return status == QN_OK && subject->corpus && subject->corpus->train ? check_streams(qn, subject)
                                                                        : status;
}

/* ---- The model ---- */

static bool new_model(struct learner *learner)
{
    struct qn_lm_config config = config_of(&learner->subject);
    return (learner->lm = qn_lm_new(learner->qn, &config));
}

static bool load_model(struct learner *learner, const char *folder, char message[RUN_MESSAGE])
{
    struct qn_lm_config config = config_of(&learner->subject);
    learner->lm = qn_lm_load(learner->qn, folder);
    const char *key =
        learner->lm ? qn_lm_config_difference(&config, qn_lm_config(learner->lm)) : NULL;
    return learner->lm && (!key || fail_difference(folder, key, message));
}

static qn_store *parameters(const struct learner *learner)
{
    return qn_lm_parameters(learner->lm);
}

static int initialise(const struct learner *learner, uint64_t seed)
{
    return qn_lm_initialise(learner->lm, seed);
}

static int save(const struct learner *learner, const char *folder)
{
    return qn_lm_save(learner->lm, folder);
}

static void release(struct learner *learner)
{
    qn_evaluator_free(learner->evaluator);
    qn_lm_cache_free(learner->carried);
    qn_lm_free(learner->lm);
    free(learner->input_ids);
    free(learner->target_ids);
}

/* ---- Plans ---- */

static int allocate_ids(struct learner *learner)
{
    const struct settings *settings = learner->subject.settings;
    size_t count = settings->batch * settings->context;
    if (!learner->qn->device || learner->input_ids) /* no batch comes; or it is made anew */
        return QN_OK;
    learner->input_ids = context_alloc(learner->qn, count, sizeof *learner->input_ids);
    learner->target_ids = context_alloc(learner->qn, count, sizeof *learner->target_ids);
    return learner->input_ids && learner->target_ids ? QN_OK : QN_ERROR_MEMORY;
}

static int add_losses(struct learner *learner)
{
    const struct settings *settings = learner->subject.settings;
    qn_trainer *trainer = learner->trainer;
    qn_shape shape = QN_SHAPE(settings->batch, settings->context);
    if (carries_state(settings) && !learner->carried &&
        !(learner->carried = qn_lm_cache_new(learner->lm, settings->batch)))
        return QN_ERROR_MEMORY;
    learner->losses = context_alloc(learner->qn, 1, sizeof *learner->losses);
    if (!learner->losses)
        return QN_ERROR_MEMORY;
    *learner->losses = (struct loss_inputs){.inputs = learner_input(learner, "inputs", shape),
                                            .targets = learner_input(learner, "targets", shape)};
    struct qn_lm_forward forward = {.type = type_of(settings),
                                    .loss_scale = qn_trainer_loss_scale(trainer),
                                    .checkpoint = settings->checkpoint};
    if (settings->dropout > 0)
        forward.dropout_key = qn_trainer_key(trainer);
    qn_node *new_state = NULL;
    if (learner->carried) {
        forward.cache = learner->carried;
        forward.new_state = &new_state;
    }
    qn_node *loss =
        qn_lm_loss(learner->lm, learner->losses->inputs, learner->losses->targets, forward);
    if (new_state)
        qn_trainer_carry(trainer, qn_lm_cache_state(learner->carried), new_state);
    int status = qn_trainer_minimise(trainer, loss);
    return status == QN_OK ? allocate_ids(learner) : status;
}

static int add_validation(struct learner *learner)
{
    learner->evaluator = qn_evaluator_new(learner->lm, learner->subject.settings->batch);
    return learner->evaluator ? QN_OK : (int)learner->qn->status;
}

/* ---- Batches ---- */

static int set_batch(struct learner *learner, uint64_t step, uint64_t pass, uint64_t *tokens)
{
    const struct settings *settings = learner->subject.settings;
    const qn_dataset *dataset = learner->subject.corpus->train;
    qn_plan *plan = qn_trainer_plan(learner->trainer);
    int status = QN_OK;
    if (!learner->carried)
        qn_dataset_random(dataset, settings->seed, step, pass * settings->batch, settings->batch,
                          learner->input_ids, learner->target_ids);
    else if (qn_dataset_streams(dataset, step, settings->batch, learner->input_ids,
                                learner->target_ids))
        status = qn_lm_cache_clear(learner->carried);
    if (status == QN_OK)
        status = qn_set(plan, learner->losses->inputs, learner->input_ids);
    if (status == QN_OK)
        status = qn_set(plan, learner->losses->targets, learner->target_ids);
    *tokens += settings->batch * settings->context;
    return status;
}

static int evaluate(struct learner *learner, struct validation *found)
{
    const struct settings *settings = learner->subject.settings;
    const qn_dataset *valid = learner->subject.corpus->valid;
    size_t all = qn_dataset_windows(valid), windows = 0;
    if (settings->eval_batches < all / settings->batch)
        windows = settings->eval_batches * settings->batch;
    struct qn_evaluation measured;
    int status = qn_evaluate(learner->evaluator, valid, windows, &measured);
    *found = (struct validation){measured.loss, measured.accuracy, NAN};
    return status;
}

static uint64_t passes(const struct subject *subject, uint64_t epochs)
{
    double tokens = (double)epochs * (double)qn_dataset_tokens(subject->corpus->train);
    double of_pass = (double)subject->settings->batch * (double)subject->settings->context;
    return (uint64_t)fmax(ceil(tokens / of_pass), 1);
}

/* ---- What the user is told ---- */

/* What the layers are, beside their width. */
static const char *sizes_text(char *text, size_t bytes, const struct settings *settings)
{
    if (is_recurrent(settings->family))
        snprintf(text, bytes, "%" PRIu64 " units", settings->units);
    else if (settings->kv_heads && settings->kv_heads != settings->heads)
        snprintf(text, bytes, "%" PRIu64 " heads (%" PRIu64 " of keys)", settings->heads,
                 settings->kv_heads);
    else
        snprintf(text, bytes, "%" PRIu64 " heads", settings->heads);
    return text;
}

static void describe(const struct subject *subject, struct progress *progress)
{
    const struct settings *settings = subject->settings;
    const struct corpus *corpus = subject->corpus;
    struct qn_lm_config config = config_of(subject);
    char sizes[4 * NUMBER_TEXT], number[NUMBER_TEXT], tokens[NUMBER_TEXT], held_out[NUMBER_TEXT];
    progress_say(progress, "model",
                 "%s parameters: %" PRIu64 " layers, %s, width %" PRIu64 ", context %" PRIu64,
                 count_text(number, qn_lm_config_parameters(&config)), settings->layers,
                 sizes_text(sizes, sizeof sizes, settings), settings->width, settings->context);
    size_t bytes = qn_dataset_bytes(corpus->train);
    if (corpus->valid)
        bytes += qn_dataset_bytes(corpus->valid);
    progress_say(progress, "data",
                 "%s bytes: %s tokens to train on, %s to validate; %zu in the vocabulary (%s)",
                 count_text(number, bytes), count_text(tokens, qn_dataset_tokens(corpus->train)),
                 count_text(held_out, qn_dataset_tokens(corpus->valid)), config.vocab_size,
                 qn_tokenizer_kind(corpus->tokenizer));
    uint64_t windows = settings->batch * settings->accumulate;
    if (settings->accumulate > 1)
        progress_say(progress, "step",
                     "%s tokens: %" PRIu64 " batches of %" PRIu64 " windows of %" PRIu64,
                     count_text(number, windows * settings->context), settings->accumulate,
                     settings->batch, settings->context);
    else
        progress_say(progress, "step", "%s tokens: %" PRIu64 " windows of %" PRIu64,
                     count_text(number, windows * settings->context), settings->batch,
                     settings->context);
}

const struct learner_kind lm_kind = {
    .use = "generate",
    .read = corpus_read,
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
    .passes = passes,
    .describe = describe,
};

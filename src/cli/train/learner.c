/* A decoder in training: its plans, its steps, and what they need. */
#include "cli/train/learner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"

static enum qn_cell cell_of(const struct settings *settings)
{
    switch (settings->family) {
    case FAMILY_LSTM:
        return QN_LSTM;
    case FAMILY_GRU:
        return QN_GRU;
    default:
        return strcmp(settings->nonlinearity, "relu") == 0 ? QN_RNN_RELU : QN_RNN_TANH;
    }
}

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

struct qn_lm_config learner_config(const struct settings *settings, size_t vocabulary,
                                   int32_t begin_of_text, int32_t end_of_text)
{
    struct qn_lm_config config = {
        .vocab_size = vocabulary,
        .n_positions = settings->context,
        .n_embd = settings->width,
        .n_layer = settings->layers,
        .resid_pdrop = settings->dropout,
        .tie_word_embeddings =
            settings->family == FAMILY_GPT || strcmp(settings->embeddings, "tied") == 0,
        .bos_token_id = begin_of_text,
        .eos_token_id = end_of_text,
    };
    if (is_recurrent(settings->family)) {
        config.architecture = QN_RECURRENT;
        config.cell = cell_of(settings);
        config.hidden_size = settings->units;
    } else {
        configure_decoder(&config, settings);
    }
    return config;
}

/* ---- Making ---- */

static enum qn_type type_of(const struct settings *settings)
{
    enum qn_type type;
    type_named(settings->dtype, &type);
    return type;
}

static struct qn_training training_of(const struct settings *settings)
{
    enum qn_optimizer_kind optimizer;
    struct qn_training training = {
        .schedule = {.rate = settings->learning_rate,
                     .min_rate = settings->min_learning_rate,
                     .warmup = (double)settings->warmup,
                     .total = (double)settings->steps,
                     .period = (double)settings->step_size,
                     .gamma = settings->gamma,
                     .width = (double)settings->width},
        .clip = settings->clip,
        .accumulate = settings->accumulate,
        .seed = settings->seed,
        .average = settings->average,
        .loss_scale = type_of(settings) == QN_F16 ? settings->loss_scale : 0,
    };
    schedule_named(settings->schedule, &training.schedule.kind);
    optimizer_named(settings->optimizer, &optimizer);
    training.optimizer = qn_optimizer_defaults(optimizer);
    training.optimizer.beta1 = settings->beta1;
    training.optimizer.beta2 = settings->beta2;
    training.optimizer.momentum = settings->momentum;
    training.optimizer.weight_decay = settings->weight_decay;
    training.optimizer.matches_adamw =
        true; /* one --lr for the matrices and for what is left to AdamW */
    return training;
}

static int make_trainer(struct learner *learner, const struct settings *settings)
{
    struct qn_training training = training_of(settings);
    qn_trainer *trainer = qn_trainer_new(qn_lm_parameters(learner->lm), &training);
    if (!trainer)
        return QN_ERROR_INVALID;
    qn_graph *graph = qn_trainer_graph(trainer);
    qn_shape shape = QN_SHAPE(settings->batch, settings->context);
    learner->trainer = trainer;
    learner->inputs = qn_input(graph, "inputs", QN_I32, shape);
    learner->targets = qn_input(graph, "targets", QN_I32, shape);
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
    qn_node *loss = qn_lm_loss(learner->lm, learner->inputs, learner->targets, forward);
    if (new_state)
        qn_trainer_carry(trainer, qn_lm_cache_state(learner->carried), new_state);
    return qn_trainer_minimise(trainer, loss);
}

int learner_make(struct learner *learner, qn_context *qn, qn_lm *lm,
                 const struct settings *settings, bool validates)
{
    *learner = (struct learner){.lm = lm};
    if (carries_state(settings) && !(learner->carried = qn_lm_cache_new(lm, settings->batch)))
        return QN_ERROR_MEMORY;
    int status = make_trainer(learner, settings);
    if (status == QN_OK && validates) {
        learner->evaluator = qn_evaluator_new(lm, settings->batch);
        status = learner->evaluator ? QN_OK : QN_ERROR_INVALID;
    }
    if (status == QN_OK && strcmp(qn_device_name(qn), "none") != 0) { /* else no batch comes */
        size_t count = qn_shape_count(qn_node_shape(learner->inputs));
        learner->input_ids = calloc(count, sizeof *learner->input_ids);
        learner->target_ids = calloc(count, sizeof *learner->target_ids);
        status = learner->input_ids && learner->target_ids ? QN_OK : QN_ERROR_MEMORY;
    }
    return status;
}

static bool load_moments(struct learner *learner, qn_context *qn, const struct run *run,
                         const char *folder, char message[RUN_MESSAGE])
{
    static const char name[] = "/optimizer.safetensors";
    size_t bytes = strlen(folder) + sizeof name;
    char *path = malloc(bytes);
    bool is_good = false;
    if (!path) {
        snprintf(message, RUN_MESSAGE, "out of memory");
        return false;
    }
    snprintf(path, bytes, "%s%s", folder, name);
    if (qn_trainer_load(learner->trainer, path) != QN_OK)
        snprintf(message, RUN_MESSAGE, "%s", qn_error(qn));
    else if (qn_trainer_steps(learner->trainer) != run->step)
        snprintf(message, RUN_MESSAGE,
                 "%s is of step %" PRIu64 ", but training.json of step %" PRIu64, path,
                 qn_trainer_steps(learner->trainer), run->step);
    else
        is_good = true;
    free(path);
    return is_good;
}

bool learner_resume(struct learner *learner, qn_context *qn, const struct qn_lm_config *config,
                    const struct run *run, const char *folder, bool validates,
                    char message[RUN_MESSAGE])
{
    qn_lm *lm = qn_lm_load(qn, folder);
    const char *key = lm ? qn_lm_config_difference(config, qn_lm_config(lm)) : NULL;
    if (key) {
        qn_lm_free(lm);
        snprintf(message, RUN_MESSAGE,
                 "%s: config.json, tokenizer.json and training.json do not belong together: they "
                 "disagree on %s",
                 folder, key);
        return false;
    }
    if (!lm || learner_make(learner, qn, lm, &run->settings, validates) != QN_OK) {
        snprintf(message, RUN_MESSAGE, "%s", qn_error(qn));
        return false;
    }
    return load_moments(learner, qn, run, folder, message);
}

int learner_restart(struct learner *learner, qn_context *qn, const struct settings *settings)
{
    int status = qn_finish(qn);
    qn_trainer_free(learner->trainer);
    learner->trainer = NULL;
    if (status == QN_OK)
        status = qn_lm_initialise(learner->lm, settings->seed);
    return status == QN_OK ? make_trainer(learner, settings) : status;
}

void learner_release(struct learner *learner)
{
    qn_evaluator_free(learner->evaluator);
    qn_trainer_free(learner->trainer);
    qn_lm_cache_free(learner->carried);
    qn_lm_free(learner->lm);
    free(learner->input_ids);
    free(learner->target_ids);
    *learner = (struct learner){0};
}

/* ---- Passes ---- */

int learner_pass(struct learner *learner, const struct settings *settings,
                 const qn_dataset *dataset, uint64_t step, uint64_t pass)
{
    qn_plan *plan = qn_trainer_plan(learner->trainer);
    int status = QN_OK;
    if (!learner->carried)
        qn_dataset_random(dataset, settings->seed, step, pass * settings->batch, settings->batch,
                          learner->input_ids, learner->target_ids);
    else if (qn_dataset_streams(dataset, step, settings->batch, learner->input_ids,
                                learner->target_ids))
        status = qn_lm_cache_clear(learner->carried);
    if (status == QN_OK)
        status = qn_set(plan, learner->inputs, learner->input_ids);
    if (status == QN_OK)
        status = qn_set(plan, learner->targets, learner->target_ids);
    return status == QN_OK ? qn_trainer_pass(learner->trainer) : status;
}

/* ---- Memory ---- */

struct needs learner_needs(const struct qn_options *device, const struct qn_lm_config *config,
                           const struct settings *settings, bool validates)
{
    struct needs needs = {0};
    struct qn_options planning = *device;
    planning.plan_only = true;
    planning.profile = false;
    qn_context *qn = qn_open_with(&planning);
    struct learner learner = {0};
    if (qn) {
        qn_lm *lm = qn_lm_new(qn, config);
        needs.fits = lm && learner_make(&learner, qn, lm, settings, validates) == QN_OK;
    }
    if (needs.fits) {
        struct qn_memory memory = qn_trainer_memory(learner.trainer);
        needs.all = qn_counters(qn).device_bytes;
        needs.parameters = sizeof(float) * (size_t)qn_lm_config_parameters(config);
        needs.moments = qn_trainer_kept_bytes(learner.trainer);
        needs.gradients = needs.parameters; /* they are packed beside the intermediates */
        needs.intermediates = memory.arena - needs.gradients;
        needs.unshared = memory.intermediates - needs.gradients;
        if (settings->accumulate > 1)
            needs.gradients *= 2; /* and their sums */
    } else {
        needs.lacks_memory = qn && qn->status == QN_ERROR_DEVICE_MEMORY;
        snprintf(needs.problem, sizeof needs.problem, "%s", qn_error(qn));
    }
    learner_release(&learner);
    qn_close(qn);
    return needs;
}

size_t learner_largest_batch(const struct qn_options *device, const struct qn_lm_config *config,
                             const struct settings *settings, bool validates)
{
    struct settings tried = *settings;
    size_t fitting = 0, failing = settings->batch;
    while (failing - fitting > 1) {
        tried.batch = fitting + (failing - fitting) / 2;
        if (learner_needs(device, config, &tried, validates).fits)
            fitting = tried.batch;
        else
            failing = tried.batch;
    }
    return fitting;
}

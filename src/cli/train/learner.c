/* A model in training: its plans, its steps, and what they need. */
#include "cli/train/kinds.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"

static const struct learner_kind *kind_of(const struct subject *subject)
{
    enum family family = subject->settings->family;
    return family == FAMILY_CLASSIFY ? &classifier_kind
           : reads_pairs(family)     ? &translator_kind
                                     : &lm_kind;
}

static bool computes(const struct learner *learner)
{
    return learner->qn->device != NULL;
}

/* ---- Settings ---- */

enum qn_type type_of(const struct settings *settings)
{
    enum qn_type type;
    type_named(settings->dtype, &type);
    return type;
}

enum qn_cell cell_of(const char *name, const char *nonlinearity)
{
    if (strcmp(name, "lstm") == 0)
        return QN_LSTM;
    if (strcmp(name, "gru") == 0)
        return QN_GRU;
    return strcmp(nonlinearity, "relu") == 0 ? QN_RNN_RELU : QN_RNN_TANH;
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

int learner_check(qn_context *qn, const struct subject *subject)
{
    return kind_of(subject)->check(qn, subject);
}

uint64_t learner_steps(const struct subject *subject, uint64_t epochs)
{
    uint64_t accumulate = subject->settings->accumulate;
    uint64_t passes = kind_of(subject)->passes(subject, epochs);
    return passes / accumulate + (passes % accumulate != 0);
}

const char *learner_use(const struct settings *settings)
{
    return kind_of(&(struct subject){.settings = settings})->use;
}

void learner_describe(const struct subject *subject, struct progress *progress)
{
    kind_of(subject)->describe(subject, progress);
}

int learner_read(struct corpus *corpus, struct run *run, const struct options *options,
                 qn_context *qn, const char *folder)
{
    const struct subject subject = {.settings = &run->settings};
    return kind_of(&subject)->read(corpus, run, options, qn, folder);
}

/* ---- Making ---- */

qn_node *learner_input(const struct learner *learner, const char *name, qn_shape shape)
{
    return qn_input(qn_trainer_graph(learner->trainer), name, QN_I32, shape);
}

static int make_trainer(struct learner *learner)
{
    const struct learner_kind *kind = kind_of(&learner->subject);
    struct qn_training training = training_of(learner->subject.settings);
    learner->trainer = qn_trainer_new(kind->parameters(learner), &training);
    return learner->trainer ? kind->add_losses(learner) : (int)learner->qn->status;
}

static int make_plans(struct learner *learner)
{
    const struct learner_kind *kind = kind_of(&learner->subject);
    int status = make_trainer(learner);
    return status == QN_OK && learner_validates(learner) ? kind->add_validation(learner) : status;
}

int learner_make(struct learner *learner, qn_context *qn, const struct subject *subject)
{
    const struct learner_kind *kind = kind_of(subject);
    *learner = (struct learner){.subject = *subject, .qn = qn};
    if (!kind->new_model(learner))
        return qn->status;
    int status =
        computes(learner) ? kind->initialise(learner, subject->settings->seed) : (int)QN_OK;
    return status == QN_OK ? make_plans(learner) : status;
}

static bool load_moments(struct learner *learner, const struct run *run, const char *folder,
                         char message[RUN_MESSAGE])
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
        snprintf(message, RUN_MESSAGE, "%s", qn_error(learner->qn));
    else if (qn_trainer_steps(learner->trainer) != run->step)
        snprintf(message, RUN_MESSAGE,
                 "%s is of step %" PRIu64 ", but training.json of step %" PRIu64, path,
                 qn_trainer_steps(learner->trainer), run->step);
    else
        is_good = true;
    free(path);
    return is_good;
}

bool fail_difference(const char *folder, const char *key, char message[RUN_MESSAGE])
{
    snprintf(message, RUN_MESSAGE,
             "%s: config.json, tokenizer.json and training.json do not belong together: they "
             "disagree on %s",
             folder, key);
    return false;
}

bool learner_resume(struct learner *learner, qn_context *qn, const struct subject *subject,
                    const struct run *run, const char *folder, char message[RUN_MESSAGE])
{
    *learner = (struct learner){.subject = *subject, .qn = qn};
    *message = '\0';
    if (kind_of(subject)->load_model(learner, folder, message) && make_plans(learner) == QN_OK)
        return load_moments(learner, run, folder, message);
    if (!*message)
        snprintf(message, RUN_MESSAGE, "%s", qn_error(qn));
    return false;
}

static void free_trainer(struct learner *learner)
{
    qn_trainer_free(learner->trainer);
    free(learner->losses);
    learner->trainer = NULL;
    learner->losses = NULL;
}

int learner_restart(struct learner *learner)
{
    const struct learner_kind *kind = kind_of(&learner->subject);
    int status = qn_finish(learner->qn);
    free_trainer(learner);
    if (status == QN_OK)
        status = kind->initialise(learner, learner->subject.settings->seed);
    return status == QN_OK ? make_trainer(learner) : status;
}

void learner_release(struct learner *learner)
{
    free_trainer(learner);
    if (learner->subject.settings)
        kind_of(&learner->subject)->release(learner);
    *learner = (struct learner){0};
}

/* ---- Passes, validations, checkpoints ---- */

int learner_add_losses(struct learner *learner, loss_of_shape *add_loss,
                       struct qn_batch_shape least)
{
    const struct subject *subject = &learner->subject;
    const qn_batches *batches = subject->corpus ? subject->corpus->train_batches : NULL;
    size_t count = batches ? qn_batches_shapes(batches) : 1;
    if (subject->shape)
        least = *subject->shape;
    learner->losses = context_alloc(learner->qn, count, sizeof *learner->losses);
    int status = learner->losses ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status =
            add_loss(learner, batches ? qn_batches_shape(batches, i) : least, &learner->losses[i]);
    return status;
}

uint64_t learner_epochs(const struct subject *subject, uint64_t epochs)
{
    return epochs * qn_batches_per_epoch(subject->corpus->train_batches);
}

void describe_epoch(const struct subject *subject, const char *examples, const char *counted,
                    struct progress *progress)
{
    const qn_batches *batches = subject->corpus->train_batches;
    char number[NUMBER_TEXT];
    size_t tokens = qn_batches_tokens(batches), padding = qn_batches_padding(batches);
    if (qn_batches_skipped(batches))
        progress_say(progress, "skipped", "%s %s that are damaged or too long",
                     count_text(number, qn_batches_skipped(batches)), examples);
    progress_say(progress, "epoch", "%zu batches of %" PRIu64 " %s in %zu shapes, %.1f%% padding",
                 qn_batches_per_epoch(batches), subject->settings->batch, counted,
                 qn_batches_shapes(batches), 100 * (double)padding / (double)(tokens + padding));
}

int learner_next_batch(struct learner *learner, uint64_t step, uint64_t pass,
                       struct qn_batch *batch, uint64_t *tokens)
{
    uint64_t number = step * learner->subject.settings->accumulate + pass;
    qn_batches *batches = learner->subject.corpus->train_batches;
    int status = qn_batches_seek(batches, number);
    if (status == QN_OK)
        status = qn_batches_next(batches, batch);
    if (status == QN_OK)
        status = qn_trainer_select(learner->trainer, batch->shape);
    if (status == QN_OK)
        *tokens += batch->tokens;
    return status;
}

int learner_pass(struct learner *learner, uint64_t step, uint64_t pass, uint64_t *tokens)
{
    int status = kind_of(&learner->subject)->set_batch(learner, step, pass, tokens);
    return status == QN_OK ? qn_trainer_pass(learner->trainer) : status;
}

bool learner_validates(const struct learner *learner)
{
    return learner->subject.corpus && corpus_validates(learner->subject.corpus);
}

int learner_evaluate(struct learner *learner, struct validation *found)
{
    return kind_of(&learner->subject)->evaluate(learner, found);
}

int learner_save(const struct learner *learner, const char *folder)
{
    int status = kind_of(&learner->subject)->save(learner, folder);
    return status == QN_OK ? corpus_save_tokenizers(learner->subject.corpus, learner->qn, folder)
                           : status;
}

/* ---- Memory ---- */

static size_t store_bytes(const qn_store *store)
{
    size_t bytes = 0;
    for (size_t i = 0; i < qn_store_buffers(store); i++)
        bytes += qn_tensor_bytes(qn_store_buffer(store, i));
    return bytes;
}

static void find_needs(struct needs *needs, const struct learner *learner)
{
    struct qn_memory memory = qn_trainer_memory(learner->trainer);
    needs->all = qn_counters(learner->qn).device_bytes;
    needs->parameters = store_bytes(kind_of(&learner->subject)->parameters(learner));
    needs->moments = qn_trainer_kept_bytes(learner->trainer);
    needs->gradients = needs->parameters; /* they are packed beside the intermediates */
    needs->intermediates = memory.arena - needs->gradients;
    needs->unshared = memory.intermediates - needs->gradients;
    if (learner->subject.settings->accumulate > 1)
        needs->gradients *= 2; /* and their sums */
}

struct needs learner_needs(const struct qn_options *device, const struct subject *subject)
{
    struct needs needs = {0};
    struct qn_options planning = *device;
    planning.plan_only = true;
    planning.profile = false;
    qn_context *qn = qn_open_with(&planning);
    struct learner learner = {0};
    needs.fits = qn && learner_make(&learner, qn, subject) == QN_OK;
    if (needs.fits) {
        find_needs(&needs, &learner);
    } else {
        needs.lacks_memory = qn && qn->status == QN_ERROR_DEVICE_MEMORY;
        snprintf(needs.problem, sizeof needs.problem, "%s", qn_error(qn));
    }
    learner_release(&learner);
    qn_close(qn);
    return needs;
}

size_t learner_largest_batch(const struct qn_options *device, const struct subject *subject)
{
    struct settings tried = *subject->settings;
    const struct subject smaller = {.settings = &tried, .corpus = subject->corpus};
    size_t fitting = 0, failing = tried.batch;
    while (failing - fitting > 1) {
        tried.batch = fitting + (failing - fitting) / 2;
        if (learner_needs(device, &smaller).fits)
            fitting = tried.batch;
        else
            failing = tried.batch;
    }
    return fitting;
}

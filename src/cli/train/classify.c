/* Classifiers in training: batches are texts of about the same length with their labels. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/classes.h"
#include "cli/train/kinds.h"
#include "device/context.h"

/* ---- The model ---- */

static struct qn_classifier_config config_of(const struct subject *subject)
{
    const struct settings *settings = subject->settings;
    const struct corpus *corpus = subject->corpus;
    struct qn_classifier_config config = {
        .cell = cell_of(settings->model, settings->nonlinearity),
        .vocab_size = corpus ? qn_tokenizer_vocabulary(corpus->tokenizer) : subject->vocabulary,
        .embedding_size = settings->width,
        .hidden_size = settings->units,
        .n_layer = settings->layers,
        .max_length = settings->most_tokens,
        .n_labels = corpus && corpus->labels ? qn_labels_count(corpus->labels) : 2,
        .is_bidirectional = strcmp(settings->direction, "both") == 0,
        .pooling = (enum qn_pooling)qn_pooling_named(settings->pooling),
        .dropout = settings->dropout,
    };
    return config;
}

static int check(qn_context *qn, const struct subject *subject)
{
    struct qn_classifier_config config = config_of(subject);
    return qn_classifier_config_check(qn, "the options", &config);
}

static bool new_model(struct learner *learner)
{
    struct qn_classifier_config config = config_of(&learner->subject);
    learner->classifier = qn_classifier_new(learner->qn, &config, learner->subject.corpus->labels);
    return learner->classifier;
}

static bool has_labels(const qn_classifier *classifier, const qn_labels *labels)
{
    const qn_labels *found = qn_classifier_labels(classifier);
    bool is_same = qn_labels_count(found) == qn_labels_count(labels);
    for (size_t i = 0; is_same && i < qn_labels_count(labels); i++)
        is_same = strcmp(qn_labels_name(found, i), qn_labels_name(labels, i)) == 0;
    return is_same;
}

static bool load_model(struct learner *learner, const char *folder, char message[RUN_MESSAGE])
{
    const qn_labels *labels = learner->subject.corpus->labels;
    learner->classifier = qn_classifier_load(learner->qn, folder);
    if (!learner->classifier)
        return false;
    struct qn_classifier_config config = config_of(&learner->subject);
    const struct qn_classifier_config *found = qn_classifier_config(learner->classifier);
    if (!labels) /* the data was not read */
        config.n_labels = found->n_labels;
    const char *key = qn_classifier_config_difference(&config, found);
    if (!key && labels && !has_labels(learner->classifier, labels))
        key = "id2label";
    return !key || fail_difference(folder, key, message);
}

static qn_store *parameters(const struct learner *learner)
{
    return qn_classifier_parameters(learner->classifier);
}

static int initialise(const struct learner *learner, uint64_t seed)
{
    return qn_classifier_initialise(learner->classifier, seed);
}

static int save(const struct learner *learner, const char *folder)
{
    return qn_classifier_save(learner->classifier, folder);
}

static void release(struct learner *learner)
{
    classes_free(learner->classes);
    qn_classifier_free(learner->classifier);
}

/* ---- Plans ---- */

static int add_loss(struct learner *learner, struct qn_batch_shape shape, struct loss_inputs *loss)
{
    const struct settings *settings = learner->subject.settings;
    size_t rows = shape.rows, length = shape.length[0];
    *loss = (struct loss_inputs){
        .inputs = learner_input(learner, "tokens", QN_SHAPE(rows, length)),
        .targets = learner_input(learner, "labels", QN_SHAPE(rows)),
        .lengths = learner_input(learner, "lengths", QN_SHAPE(rows)),
    };
    struct qn_classifier_forward forward = {
        .type = type_of(settings),
        .lengths = loss->lengths,
        .dropout_key = settings->dropout > 0 ? qn_trainer_key(learner->trainer) : NULL};
    return qn_trainer_minimise(
        learner->trainer,
        qn_classifier_loss(learner->classifier, loss->inputs, loss->targets, forward));
}

static int add_losses(struct learner *learner)
{
    const struct qn_batch_shape least = {.rows = 1, .length = {1, 1}};
    return learner_add_losses(learner, add_loss, least);
}

static int add_validation(struct learner *learner)
{
    learner->classes = classes_new(learner->classifier, learner->subject.corpus->valid_batches);
    return learner->classes ? QN_OK : (int)learner->qn->status;
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
    status = qn_set(plan, loss->inputs, batch.ids[0]);
    if (status == QN_OK)
        status = qn_set(plan, loss->lengths, batch.lengths[0]);
    return status == QN_OK ? qn_set(plan, loss->targets, batch.ids[1]) : status;
}

static int evaluate(struct learner *learner, struct validation *found)
{
    struct qn_evaluation measured = {0};
    int status = classes_measure(learner->classes, &measured, NULL, NULL);
    *found = (struct validation){measured.loss, measured.accuracy, NAN};
    return status;
}

/* ---- What the user is told ---- */

static void describe(const struct subject *subject, struct progress *progress)
{
    const struct settings *settings = subject->settings;
    const struct corpus *corpus = subject->corpus;
    const qn_batches *batches = corpus->train_batches, *valid = corpus->valid_batches;
    struct qn_classifier_config config = config_of(subject);
    char number[NUMBER_TEXT], held_out[NUMBER_TEXT];
    progress_say(
        progress, "model",
        "%s parameters: %s, %" PRIu64 " layers, %" PRIu64 " units%s, width %" PRIu64 ", %zu labels",
        count_text(number, qn_classifier_config_parameters(&config)), settings->model,
        settings->layers, settings->units, config.is_bidirectional ? " in both directions" : "",
        settings->width, config.n_labels);
    progress_say(progress, "data",
                 "%s texts to train on, %s to validate; %zu in the vocabulary (%s)",
                 count_text(number, qn_batches_examples(batches)),
                 count_text(held_out, valid ? qn_batches_examples(valid) : 0), config.vocab_size,
                 qn_tokenizer_kind(corpus->tokenizer));
    describe_epoch(subject, "texts", "texts", progress);
}

const struct learner_kind classifier_kind = {
    .use = "predict",
    .read = labelled_read,
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

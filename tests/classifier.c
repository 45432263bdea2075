/* Classifiers: what they make of rows of different length, and whether they learn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

#include "tap.h"

#include "files.h"
#include "open.h"

enum { ROWS = 5, LENGTH = 7, VOCABULARY = 11, LABELS = 3 };

static const char *const names[LABELS] = {"a", "b", "c"};

static struct qn_classifier_config config_of(enum qn_cell cell, enum qn_pooling pooling)
{
    return (struct qn_classifier_config){.cell = cell,
                                         .vocab_size = VOCABULARY,
                                         .embedding_size = 6,
                                         .hidden_size = 10,
                                         .n_layer = 2,
                                         .n_labels = LABELS,
                                         .max_length = LENGTH,
                                         .is_bidirectional = pooling != QN_POOL_MAX,
                                         .pooling = pooling};
}

static qn_classifier *classifier_new(qn_context *qn, struct qn_classifier_config config)
{
    qn_labels *labels = qn_labels_new(qn, names, LABELS);
    qn_classifier *classifier = qn_classifier_new(qn, &config, labels);
    qn_labels_free(labels);
    if (!classifier || qn_classifier_initialise(classifier, 3) != QN_OK)
        bail_out("no classifier: %s", qn_error(qn));
    return classifier;
}

/* Logits of rows of so many tokens; `lengths` NULL: all of them. */
static void logits_of(const qn_classifier *classifier, const int32_t *ids, size_t rows,
                      size_t length, const int32_t *lengths, float *logits)
{
    qn_context *qn = qn_store_context(qn_classifier_parameters(classifier));
    qn_graph *graph = qn_graph_new(qn);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(rows, length));
    struct qn_classifier_forward forward = {0};
    if (lengths)
        forward.lengths = qn_input(graph, "lengths", QN_I32, QN_SHAPE(rows));
    qn_node *found = qn_classifier_logits(classifier, tokens, forward);
    qn_plan *plan = qn_plan_new(graph, &found, 1);
    if (!plan || qn_set(plan, tokens, ids) != QN_OK ||
        (lengths && qn_set(plan, forward.lengths, lengths) != QN_OK) || qn_run(plan) != QN_OK ||
        qn_get(plan, found, logits) != QN_OK)
        bail_out("no logits: %s", qn_error(qn));
    qn_plan_free(plan);
    qn_graph_free(graph);
}

/* What stands behind the end of a row is nothing to it, and a row of nothing disturbs none. */
static void test_lengths(qn_context *qn, enum qn_cell cell, enum qn_pooling pooling)
{
    static const char *const poolings[] = {"last", "mean", "max"};
    qn_classifier *classifier = classifier_new(qn, config_of(cell, pooling));
    const int32_t lengths[ROWS] = {LENGTH, 3, 0, 1, 5};
    int32_t ids[ROWS * LENGTH];
    float together[ROWS * LABELS], alone[LABELS];
    double worst = 0, least = INFINITY;
    for (size_t i = 0; i < ROWS * LENGTH; i++)
        ids[i] = (int32_t)(i * i % VOCABULARY);
    logits_of(classifier, ids, ROWS, LENGTH, lengths, together);
    for (size_t row = 0; row < ROWS; row++) {
        if (lengths[row] == 0)
            continue;
        logits_of(classifier, ids + row * LENGTH, 1, (size_t)lengths[row], NULL, alone);
        for (size_t i = 0; i < LABELS; i++) {
            worst = fmax(worst, fabs((double)together[row * LABELS + i] - (double)alone[i]));
            least = row ? fmin(least, fabs((double)together[i] - (double)alone[i])) : least;
        }
    }
    ok(worst < 1e-6 && least > 1e-5, "cell %d, %s: rows of a batch are as alone, within %.1e",
       (int)cell, poolings[pooling], worst);
    ok(isfinite(together[2 * LABELS]), "and a row without tokens is finite");
    qn_classifier_free(classifier);
}

/* Whether the first token stands in the row again: needs memory. */
static int32_t label_of(const int32_t *row, int32_t length)
{
    int32_t again = 0;
    for (int32_t i = 1; i < length; i++)
        again += row[i] == row[0];
    return again > 1 ? 2 : again;
}

static void make_batch(uint32_t *state, int32_t *ids, int32_t *lengths, int32_t *labels,
                       size_t rows)
{
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < LENGTH; i++) {
            *state = *state * 1664525u + 1013904223u;
            ids[row * LENGTH + i] = (int32_t)((*state >> 16) % 4);
        }
        lengths[row] = 2 + (int32_t)((*state >> 8) % (LENGTH - 1));
        labels[row] = row % 8 == 7 ? QN_IGNORE : label_of(ids + row * LENGTH, lengths[row]);
    }
}

static void test_learning(qn_context *qn, enum qn_type type)
{
    enum { BATCH = 64, STEPS = 300 };
    qn_classifier *classifier = classifier_new(qn, config_of(QN_GRU, QN_POOL_MEAN));
    qn_trainer *trainer =
        qn_trainer_new(qn_classifier_parameters(classifier),
                       &(struct qn_training){.schedule = {.kind = QN_CONSTANT, .rate = 0.01},
                                             .optimizer = qn_optimizer_defaults(QN_ADAM)});
    qn_graph *graph = qn_trainer_graph(trainer);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(BATCH, LENGTH)),
            *lengths = qn_input(graph, "lengths", QN_I32, QN_SHAPE(BATCH)),
            *labels = qn_input(graph, "labels", QN_I32, QN_SHAPE(BATCH));
    struct qn_classifier_forward forward = {.type = type, .lengths = lengths};
    if (qn_trainer_minimise(trainer, qn_classifier_loss(classifier, tokens, labels, forward)) !=
        QN_OK)
        bail_out("no plan: %s", qn_error(qn));
    int32_t ids[BATCH * LENGTH], ends[BATCH], targets[BATCH];
    uint32_t state = 1;
    double first = 0, last = 0;
    for (size_t i = 0; i < STEPS; i++) {
        struct qn_step step = {.loss = NAN};
        make_batch(&state, ids, ends, targets, BATCH);
        qn_plan *plan = qn_trainer_plan(trainer);
        qn_set(plan, tokens, ids);
        qn_set(plan, lengths, ends);
        qn_set(plan, labels, targets);
        qn_trainer_pass(trainer);
        qn_trainer_report(trainer, i + 1, true, &step);
        first = i == 0 ? step.loss : first;
        last = step.loss;
    }
    ok(first > 0.9 && last < 0.2, "it learns in %s: loss %.3f, then %.3f",
       type == QN_F32 ? "f32" : "bf16", first, last);
    qn_trainer_free(trainer);
    qn_classifier_free(classifier);
}

static void test_files(qn_context *qn)
{
    qn_classifier *classifier = classifier_new(qn, config_of(QN_LSTM, QN_POOL_LAST));
    int32_t ids[LENGTH] = {1, 2, 3, 4, 5, 6, 7};
    float saved[LABELS], loaded[LABELS];
    ok(qn_classifier_save(classifier, test_folder) == QN_OK, "it is saved");
    qn_classifier *again = qn_classifier_load(qn, test_folder);
    if (!again)
        bail_out("not loaded: %s", qn_error(qn));
    logits_of(classifier, ids, 1, LENGTH, NULL, saved);
    logits_of(again, ids, 1, LENGTH, NULL, loaded);
    ok(memcmp(saved, loaded, sizeof saved) == 0, "and loaded, it says the same");
    ok(strcmp(qn_labels_name(qn_classifier_labels(again), 2), "c") == 0, "of the same labels");
    qn_classifier_free(again);
    qn_classifier_free(classifier);
    struct qn_classifier_config config = config_of(QN_LSTM, QN_POOL_LAST);
    config.n_labels = 2;
    qn_labels *labels = qn_labels_new(qn, names, LABELS);
    ok(!qn_classifier_new(qn, &config, labels) &&
           strstr(qn_error(qn), "expected 2 labels, found 3"),
       "labels of another number are refused");
    qn_clear_error(qn);
    qn_labels_free(labels);
}

int main(void)
{
    qn_context *qn = open_with_quick_compiler();
    make_test_folder();
    for (enum qn_cell cell = QN_RNN_TANH; cell <= QN_GRU; cell++)
        for (enum qn_pooling pooling = QN_POOL_LAST; pooling <= QN_POOL_MAX; pooling++)
            test_lengths(qn, cell, pooling);
    test_learning(qn, QN_F32);
    test_learning(qn, QN_BF16);
    test_files(qn);
    remove_test_folder();
    qn_close(qn);
    return done_testing();
}

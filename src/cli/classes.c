/* A classifier over the batches of a data set: a plan for each shape. */
#include "cli/classes.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"

struct shape_plan {
    qn_graph *graph;
    qn_node *tokens, *lengths; /* (rows, length), (rows) */
    qn_node *scores;           /* (rows, labels) */
    qn_plan *plan;
};

struct classes {
    qn_context *context;
    qn_batches *batches;
    struct shape_plan *shapes;
    size_t n_shapes, n_labels;
    bool has_labels;
    float *scores; /* of a batch */
};

static bool make_plan(struct shape_plan *shape, const qn_classifier *classifier,
                      struct qn_batch_shape of)
{
    qn_graph *graph = shape->graph =
        qn_graph_new(qn_store_context(qn_classifier_parameters(classifier)));
    shape->tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(of.rows, of.length[0]));
    shape->lengths = qn_input(graph, "lengths", QN_I32, QN_SHAPE(of.rows));
    qn_node *logits = qn_classifier_logits(
        classifier, shape->tokens, (struct qn_classifier_forward){.lengths = shape->lengths});
    shape->scores = qn_log_softmax(logits, 1);
    shape->plan = qn_plan_new(graph, &shape->scores, 1);
    return shape->plan;
}

struct classes *classes_new(const qn_classifier *classifier, qn_batches *batches)
{
    qn_context *context = qn_store_context(qn_classifier_parameters(classifier));
    struct classes *classes = context_alloc(context, 1, sizeof *classes);
    if (!classes)
        return NULL;
    *classes = (struct classes){.context = context,
                                .batches = batches,
                                .n_shapes = qn_batches_shapes(batches),
                                .n_labels = qn_labels_count(qn_classifier_labels(classifier))};
    classes->shapes = context_alloc(context, classes->n_shapes, sizeof *classes->shapes);
    bool is_good = classes->shapes;
    size_t most = 0;
    for (size_t i = 0; is_good && i < classes->n_shapes; i++) {
        struct qn_batch_shape shape = qn_batches_shape(batches, i);
        classes->has_labels = shape.length[1] == 1;
        most = size_max(most, shape.rows);
        is_good = make_plan(&classes->shapes[i], classifier, shape);
    }
    if (is_good)
        classes->scores = context_alloc(context, most * classes->n_labels, sizeof(float));
    if (classes->scores)
        return classes;
    classes_free(classes);
    return NULL;
}

void classes_free(struct classes *classes)
{
    if (!classes)
        return;
    for (size_t i = 0; classes->shapes && i < classes->n_shapes; i++) {
        qn_plan_free(classes->shapes[i].plan);
        qn_graph_free(classes->shapes[i].graph);
    }
    free(classes->shapes);
    free(classes->scores);
    free(classes);
}

static int run_batch(struct classes *classes, const struct qn_batch *batch)
{
    struct shape_plan *shape = &classes->shapes[batch->shape];
    int status = qn_set(shape->plan, shape->tokens, batch->ids[0]);
    if (status == QN_OK)
        status = qn_set(shape->plan, shape->lengths, batch->lengths[0]);
    if (status == QN_OK)
        status = qn_run(shape->plan);
    return status == QN_OK ? qn_get(shape->plan, shape->scores, classes->scores) : status;
}

static size_t likeliest(const float *scores, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

int classes_measure(struct classes *classes, struct qn_evaluation *result, classes_found *found,
                    void *user)
{
    struct qn_evaluation sum = {0};
    struct qn_batch batch;
    int status = qn_batches_seek(classes->batches, 0);
    for (size_t i = 0; status == QN_OK && i < qn_batches_per_epoch(classes->batches); i++) {
        status = qn_batches_next(classes->batches, &batch);
        if (status == QN_OK)
            status = run_batch(classes, &batch);
        for (size_t row = 0; status == QN_OK && row < batch.examples; row++) {
            const float *scores = classes->scores + row * classes->n_labels;
            int32_t label = classes->has_labels ? batch.ids[1][row] : -1;
            if (label >= 0) {
                sum.loss -= scores[label];
                sum.accuracy += likeliest(scores, classes->n_labels) == (size_t)label;
                sum.tokens++;
            }
            if (found)
                status = found(user, batch.records[row], scores, label);
        }
    }
    if (status != QN_OK || !result)
        return status;
    *result = (struct qn_evaluation){.loss = sum.loss / (double)sum.tokens,
                                     .accuracy = sum.accuracy / (double)sum.tokens,
                                     .tokens = sum.tokens};
    return QN_OK;
}

/* Measuring a model: loss and accuracy over windows of a data set. */
#include <stdlib.h>

#include "nn/lm.h"

struct qn_evaluator {
    qn_lm *lm;
    qn_graph *graph;
    qn_node *inputs, *targets; /* (rows, T) */
    qn_node *loss, *correct;   /* sums over the targets that count */
    qn_plan *plan;
    size_t rows, length;
    int32_t *input_ids, *target_ids;
};

qn_evaluator *qn_evaluator_new(qn_lm *lm, size_t rows)
{
    if (!lm || rows == 0)
        return NULL;
    qn_evaluator *evaluator = context_alloc(lm->context, 1, sizeof *evaluator);
    if (!evaluator)
        return NULL;
    size_t length = lm->config.n_positions;
    *evaluator = (qn_evaluator){.lm = lm, .rows = rows, .length = length};
    evaluator->input_ids = context_alloc(lm->context, rows * length, sizeof(int32_t));
    evaluator->target_ids = context_alloc(lm->context, rows * length, sizeof(int32_t));
    qn_graph *graph = evaluator->graph = qn_graph_new(lm->context);
    evaluator->inputs = qn_input(graph, "inputs", QN_I32, QN_SHAPE(rows, length));
    evaluator->targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(rows, length));
    qn_node *logits = qn_lm_logits(lm, evaluator->inputs, (struct qn_lm_forward){0});
    evaluator->loss =
        qn_cross_entropy_with(logits, evaluator->targets,
                              (struct qn_cross_entropy){.ignore_index = QN_IGNORE, .sum = true});
    evaluator->correct = qn_correct(logits, evaluator->targets);
    evaluator->plan = qn_plan_new(graph, (qn_node *[]){evaluator->loss, evaluator->correct}, 2);
    if (evaluator->plan && evaluator->input_ids && evaluator->target_ids)
        return evaluator;
    qn_evaluator_free(evaluator);
    return NULL;
}

void qn_evaluator_free(qn_evaluator *evaluator)
{
    if (!evaluator)
        return;
    qn_plan_free(evaluator->plan);
    qn_graph_free(evaluator->graph);
    free(evaluator->input_ids);
    free(evaluator->target_ids);
    free(evaluator);
}

static int evaluate_rows(qn_evaluator *evaluator, struct qn_evaluation *result)
{
    float loss, correct;
    int status = qn_set(evaluator->plan, evaluator->inputs, evaluator->input_ids);
    if (status == QN_OK)
        status = qn_set(evaluator->plan, evaluator->targets, evaluator->target_ids);
    if (status == QN_OK)
        status = qn_run(evaluator->plan);
    if (status == QN_OK)
        status = qn_get(evaluator->plan, evaluator->loss, &loss);
    if (status == QN_OK)
        status = qn_get(evaluator->plan, evaluator->correct, &correct);
    if (status != QN_OK)
        return status;
    result->loss += loss;
    result->accuracy += correct;
    for (size_t i = 0; i < evaluator->rows * evaluator->length; i++)
        result->tokens += evaluator->target_ids[i] != QN_IGNORE;
    return QN_OK;
}

int qn_evaluate(qn_evaluator *evaluator, const qn_dataset *dataset, size_t windows,
                struct qn_evaluation *result)
{
    *result = (struct qn_evaluation){0};
    if (!evaluator || !dataset)
        return QN_ERROR_INVALID;
    size_t all = qn_dataset_windows(dataset), length = evaluator->length;
    if (windows == 0 || windows > all)
        windows = all;
    int status = QN_OK;
    for (size_t first = 0; status == QN_OK && first < windows; first += evaluator->rows) {
        for (size_t row = 0; row < evaluator->rows; row++) {
            int32_t *inputs = evaluator->input_ids + row * length;
            int32_t *targets = evaluator->target_ids + row * length;
            size_t number = first + row;
            if (number < windows) {
                qn_dataset_sequential(dataset, number * all / windows, 1, inputs, targets);
                continue;
            }
            for (size_t i = 0; i < length; i++) {
                inputs[i] = 0;
                targets[i] = QN_IGNORE;
            }
        }
        status = evaluate_rows(evaluator, result);
    }
    if (status != QN_OK)
        return status;
    result->loss /= (double)result->tokens;
    result->accuracy /= (double)result->tokens;
    return QN_OK;
}

/* Optimizers as nodes: an update of parameters, and of what is kept of them from step to step. */
#include <math.h>

#include <quern/train.h>

#include "device/context.h"
#include "graph/graph.h"

/* ---- Defaults and states ---- */

struct qn_optimizer qn_optimizer_defaults(enum qn_optimizer_kind kind)
{
    static const struct qn_optimizer defaults[] = {
        [QN_ADAMW] = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01},
        [QN_ADAM] = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
        [QN_SGD] = {0},
        [QN_RMSPROP] = {.beta2 = 0.99, .epsilon = 1e-8},
        [QN_ADAGRAD] = {.epsilon = 1e-10},
        [QN_ADAFACTOR] = {.beta2_decay = -0.8,
                          .epsilon = 1.1920928955078125e-07,
                          .least_rms = 1e-3,
                          .most_rms = 1},
        [QN_MUON] = {.momentum = 0.95, .is_nesterov = true, .epsilon = 1e-7, .weight_decay = 0.1},
    };
    struct qn_optimizer optimizer = {0};
    if ((unsigned)kind <= QN_MUON)
        optimizer = defaults[kind];
    optimizer.kind = kind;
    return optimizer;
}

bool qn_optimizer_is_element_wise(const struct qn_optimizer *optimizer)
{
    return optimizer->kind != QN_ADAFACTOR && optimizer->kind != QN_MUON;
}

/* Adafactor keeps sums of the rows and columns of matrices, of others all. */
static size_t adafactor_states(qn_shape shape, struct qn_optimizer_state *states)
{
    if (shape.rank < 2) {
        states[0] = (struct qn_optimizer_state){"variance", shape, 0};
        return 1;
    }
    qn_shape rows = shape, columns = shape;
    rows.rank--;
    columns.rank--;
    columns.size[columns.rank - 1] = shape.size[shape.rank - 1];
    states[0] = (struct qn_optimizer_state){"row_variance", rows, 0};
    states[1] = (struct qn_optimizer_state){"column_variance", columns, 0};
    return 2;
}

size_t qn_optimizer_states(const struct qn_optimizer *optimizer, qn_shape shape,
                           struct qn_optimizer_state states[QN_OPTIMIZER_STATES])
{
    size_t count = 0;
    switch (optimizer->kind) {
    case QN_ADAMW:
    case QN_ADAM:
        states[count++] = (struct qn_optimizer_state){"m", shape, 0};
        states[count++] = (struct qn_optimizer_state){"v", shape, 0};
        break;
    case QN_RMSPROP:
        states[count++] = (struct qn_optimizer_state){"v", shape, 0};
        if (optimizer->is_centered)
            states[count++] = (struct qn_optimizer_state){"m", shape, 0};
        if (optimizer->momentum > 0)
            states[count++] = (struct qn_optimizer_state){"momentum", shape, 0};
        break;
    case QN_ADAGRAD:
        states[count++] = (struct qn_optimizer_state){"sum", shape, optimizer->initial_sum};
        break;
    case QN_ADAFACTOR:
        count = adafactor_states(shape, states);
        break;
    case QN_SGD:
    case QN_MUON:
        if (optimizer->momentum > 0)
            states[count++] = (struct qn_optimizer_state){"momentum", shape, 0};
    }
    return count;
}

/* ---- Updates ---- */

/* What an update begins with, and has made so far; the gradient is clipped already. */
struct update {
    const struct qn_optimizer *optimizer;
    struct qn_update numbers;
    qn_node *p, *g, *states[QN_OPTIMIZER_STATES];
};

static qn_node *number(const struct update *update, double value)
{
    return qn_constant(qn_node_graph(update->p), value);
}

/* beta old + (1 - beta) new */
static qn_node *blend(qn_node *old, qn_node *new, double beta)
{
    return qn_add(qn_scale(old, beta), qn_scale(new, 1 - beta));
}

/* 1 - beta^t */
static qn_node *correction(const struct update *update, double beta)
{
    return qn_neg(qn_expm1(qn_scale(update->numbers.t, log(beta))));
}

/* p - learning_rate step */
static qn_node *moved(const struct update *update, qn_node *step)
{
    return qn_sub(update->p, qn_mul(step, update->numbers.learning_rate));
}

/* p (1 - learning_rate weight_decay) */
static qn_node *decayed(const struct update *update)
{
    double decay = update->optimizer->weight_decay;
    if (decay == 0)
        return update->p;
    qn_node *factor = qn_offset(qn_scale(update->numbers.learning_rate, -decay), 1);
    return qn_mul(update->p, factor);
}

static qn_node *adam(struct update *update)
{
    const struct qn_optimizer *optimizer = update->optimizer;
    update->states[0] = blend(update->states[0], update->g, optimizer->beta1);
    update->states[1] = blend(update->states[1], qn_square(update->g), optimizer->beta2);
    qn_node *m = qn_div(update->states[0], correction(update, optimizer->beta1));
    qn_node *v = qn_div(update->states[1], correction(update, optimizer->beta2));
    return moved(update, qn_div(m, qn_offset(qn_sqrt(v), optimizer->epsilon)));
}

static qn_node *sgd(struct update *update)
{
    double momentum = update->optimizer->momentum;
    if (momentum == 0)
        return moved(update, update->g);
    update->states[0] = qn_add(qn_scale(update->states[0], momentum), update->g);
    qn_node *ahead = qn_add(update->g, qn_scale(update->states[0], momentum));
    return moved(update, update->optimizer->is_nesterov ? ahead : update->states[0]);
}

static qn_node *rmsprop(struct update *update)
{
    const struct qn_optimizer *optimizer = update->optimizer;
    qn_node *v = blend(update->states[0], qn_square(update->g), optimizer->beta2);
    size_t next = 1;
    update->states[0] = v;
    if (optimizer->is_centered) {
        qn_node *m = blend(update->states[next], update->g, optimizer->beta2);
        update->states[next++] = m;
        v = qn_sub(v, qn_square(m));
    }
    qn_node *step = qn_div(update->g, qn_offset(qn_sqrt(v), optimizer->epsilon));
    if (optimizer->momentum > 0)
        step = update->states[next] =
            qn_add(qn_scale(update->states[next], optimizer->momentum), step);
    return moved(update, step);
}

static qn_node *adagrad(struct update *update)
{
    const struct qn_optimizer *optimizer = update->optimizer;
    update->states[0] = qn_add(update->states[0], qn_square(update->g));
    qn_node *step = qn_div(update->g, qn_offset(qn_sqrt(update->states[0]), optimizer->epsilon));
    qn_node *slower =
        qn_offset(qn_scale(qn_offset(update->numbers.t, -1), optimizer->rate_decay), 1);
    return moved(update, qn_div(step, slower));
}

/* The root of the mean square of all elements. */
static qn_node *rms(qn_node *x)
{
    return qn_sqrt(qn_scale(qn_sum_squares(x), 1 / (double)qn_shape_count(qn_node_shape(x))));
}

/* With a size of 1 again where an axis went. */
static qn_node *kept_axis(qn_node *x, int axis)
{
    qn_shape shape = qn_node_shape(x);
    for (int i = shape.rank++; i > axis; i--)
        shape.size[i] = shape.size[i - 1];
    shape.size[axis] = 1;
    return qn_reshape(x, shape);
}

/* The mean squares of a matrix of gradients, as the product of those of its rows and of its columns. */
static qn_node *factored(struct update *update, qn_node *square, qn_node *share)
{
    int rank = qn_node_shape(square).rank, row = rank - 2, column = rank - 1;
    qn_node *of_rows = qn_mean(square, QN_AXIS(column)),
            *of_columns = qn_mean(square, QN_AXIS(row));
    qn_node *rest = qn_offset(qn_neg(share), 1);
    qn_node *rows = qn_add(qn_mul(update->states[0], rest), qn_mul(of_rows, share));
    qn_node *columns = qn_add(qn_mul(update->states[1], rest), qn_mul(of_columns, share));
    update->states[0] = rows;
    update->states[1] = columns;
    qn_node *mean =
        qn_maximum(qn_mean(rows, QN_AXIS(row)), number(update, update->optimizer->epsilon));
    rows = qn_div(rows, kept_axis(mean, row));
    return qn_mul(kept_axis(rows, column), kept_axis(columns, row));
}

static qn_node *adafactor(struct update *update)
{
    const struct qn_optimizer *optimizer = update->optimizer;
    qn_node *t = update->numbers.t, *square = qn_square(update->g), *v;
    qn_node *share = qn_exp(qn_scale(qn_log(t), optimizer->beta2_decay));
    if (qn_node_shape(square).rank < 2)
        v = update->states[0] =
            qn_add(qn_mul(update->states[0], qn_offset(qn_neg(share), 1)), qn_mul(square, share));
    else
        v = factored(update, square, share);
    double least = optimizer->epsilon * optimizer->epsilon;
    qn_node *u = qn_mul(update->g, qn_rsqrt(qn_maximum(v, number(update, least))));
    qn_node *shrink = qn_maximum(qn_scale(rms(u), 1 / optimizer->most_rms), number(update, 1));
    qn_node *rate = qn_minimum(update->numbers.learning_rate, qn_rsqrt(t));
    rate = qn_mul(rate, qn_maximum(rms(update->p), number(update, optimizer->least_rms)));
    return qn_sub(decayed(update), qn_mul(u, qn_div(rate, shrink)));
}

/* The nearest matrix to x whose singular values are about 1, by five Newton-Schulz iterations. */
static qn_node *orthogonal(const struct update *update, qn_node *x)
{
    static const double a = 3.4445, b = -4.775, c = 2.0315;
    qn_shape shape = qn_node_shape(x);
    bool is_tall = shape.size[0] > shape.size[1];
    x = is_tall ? qn_transpose(x, 0, 1) : x;
    qn_node *norm =
        qn_maximum(qn_sqrt(qn_sum_squares(x)), number(update, update->optimizer->epsilon));
    x = qn_div(x, norm);
    for (int i = 0; i < 5; i++) {
        qn_node *square = qn_matmul_with(x, x, (struct qn_matmul){.transpose_b = true});
        qn_node *polynomial = qn_add(qn_scale(square, b), qn_scale(qn_matmul(square, square), c));
        x = qn_add(qn_scale(x, a), qn_matmul(polynomial, x));
    }
    return is_tall ? qn_transpose(x, 0, 1) : x;
}

static qn_node *muon(struct update *update)
{
    const struct qn_optimizer *optimizer = update->optimizer;
    qn_shape shape = qn_node_shape(update->p);
    double rows = (double)shape.size[0], columns = (double)shape.size[1];
    double factor =
        optimizer->matches_adamw ? 0.2 * sqrt(fmax(rows, columns)) : sqrt(fmax(1, rows / columns));
    qn_node *u = update->g;
    if (optimizer->momentum > 0) {
        u = update->states[0] = blend(update->states[0], update->g, optimizer->momentum);
        if (optimizer->is_nesterov)
            u = blend(u, update->g, optimizer->momentum);
    }
    qn_node *step = qn_scale(orthogonal(update, u), factor);
    return qn_sub(decayed(update), qn_mul(step, update->numbers.learning_rate));
}

/* AdamW has a kernel of its own: its inputs scale the gradient and hold the gate. */
static qn_node *adamw(const struct qn_optimizer *optimizer, qn_node *p, qn_node *g,
                      struct qn_update numbers, qn_node **states)
{
    struct qn_adamw options = {optimizer->beta1, optimizer->beta2, optimizer->epsilon,
                               optimizer->weight_decay};
    qn_node *updated = qn_adamw(p, states[0], states[1], g, numbers.learning_rate, numbers.scale,
                                numbers.t, numbers.gate, options);
    for (int i = 0; updated && i < 2; i++)
        states[i] = qn_output(updated, i + 1);
    return updated;
}

static bool is_share(double value)
{
    return value >= 0 && value < 1;
}

/* Whether the numbers can be, and all values have the shapes that they must have. */
static bool check(const struct qn_optimizer *optimizer, const qn_node *parameters,
                  const qn_node *gradient, qn_node *const *states)
{
    qn_context *context = parameters->graph->context;
    qn_shape shape = qn_node_shape(parameters);
    const char *wrong = NULL;
    if ((unsigned)optimizer->kind > QN_MUON)
        wrong = "there is no such kind";
    else if (!is_share(optimizer->beta1) || !is_share(optimizer->beta2) ||
             !is_share(optimizer->momentum))
        wrong = "beta1, beta2 and momentum must be in [0, 1)";
    else if (optimizer->kind == QN_ADAFACTOR && !(optimizer->most_rms > 0))
        wrong = "Adafactor needs a most_rms above 0";
    else if (optimizer->kind == QN_MUON && shape.rank != 2)
        wrong = "Muon is for matrices";
    else if (!qn_shape_equal(shape, qn_node_shape(gradient)))
        wrong = "the gradient has another shape than the parameters";
    if (wrong) {
        context_fail(context, QN_ERROR_INVALID, "optimizer_update: %s", wrong);
        return false;
    }
    struct qn_optimizer_state kept[QN_OPTIMIZER_STATES];
    size_t count = qn_optimizer_states(optimizer, shape, kept);
    for (size_t i = 0; i < count; i++) {
        if (!states[i])
            return false;
        if (qn_shape_equal(qn_node_shape(states[i]), kept[i].shape))
            continue;
        context_fail(context, QN_ERROR_INVALID,
                     "optimizer_update: state %zu, %s, has another shape than "
                     "qn_optimizer_states() says",
                     i, kept[i].name);
        return false;
    }
    return true;
}

qn_node *qn_optimizer_update(const struct qn_optimizer *optimizer, qn_node *parameters,
                             qn_node *gradient, struct qn_update numbers, qn_node **states)
{
    static qn_node *(*const updates[])(struct update *) = {
        [QN_ADAM] = adam,           [QN_SGD] = sgd,  [QN_RMSPROP] = rmsprop, [QN_ADAGRAD] = adagrad,
        [QN_ADAFACTOR] = adafactor, [QN_MUON] = muon};
    if (!parameters || !gradient || !numbers.learning_rate || !numbers.scale || !numbers.t ||
        !numbers.gate || !check(optimizer, parameters, gradient, states))
        return NULL;
    if (optimizer->kind == QN_ADAMW)
        return adamw(optimizer, parameters, gradient, numbers, states);
    struct update update = {.optimizer = optimizer,
                            .numbers = numbers,
                            .p = parameters,
                            .g = qn_mul(gradient, numbers.scale)};
    bool adds_decay = optimizer->weight_decay != 0 && qn_optimizer_is_element_wise(optimizer);
    if (adds_decay)
        update.g = qn_add(update.g, qn_scale(parameters, optimizer->weight_decay));
    struct qn_optimizer_state kept[QN_OPTIMIZER_STATES];
    size_t count = qn_optimizer_states(optimizer, qn_node_shape(parameters), kept);
    for (size_t i = 0; i < count; i++)
        update.states[i] = states[i];
    qn_node *updated = updates[optimizer->kind](&update);
    for (size_t i = 0; i < count; i++)
        states[i] = qn_where(numbers.gate, update.states[i], states[i]);
    return qn_where(numbers.gate, updated, parameters);
}

/* Recurrent layers: one kind of cell, layers as wide as their input. */
#include "cli/bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 4 }; /* of a layer: weight_ih, weight_hh, bias_ih, bias_hh */

static qn_shape shape_of(size_t i, size_t rows, size_t units)
{
    return i < 2 ? QN_SHAPE(rows, units) : QN_SHAPE(rows);
}

/* Only the last row of the batch has a slope, so that its gradients can be checked without the others. */
static qn_node *slope_of_last(struct operation *operation, const size_t *s)
{
    qn_node *slope = operation_normal(operation, QN_SHAPE(s[2], s[3], s[1]));
    if (operation->is_planned)
        return slope;
    qn_tensor *tensor = operation_newest(operation);
    float *values = slope ? malloc(qn_tensor_bytes(tensor)) : NULL;
    bool is_good = values && qn_tensor_read(tensor, values) == QN_OK;
    for (size_t i = 0; is_good && i < s[2] * s[3]; i++)
        if (i % s[3] != s[3] - 1)
            memset(values + i * s[1], 0, s[1] * sizeof *values);
    is_good = is_good && qn_tensor_write(tensor, values) == QN_OK;
    free(values);
    return is_good ? slope : NULL;
}

/* s: layers, units, length, batch. */
static void build(struct operation *operation, const size_t *s, size_t variant, enum qn_cell cell)
{
    size_t rows = qn_cell_gates(cell) * s[1], count = 0;
    qn_node *parameters[PARAMETERS * MOST_LAYERS], *gradients[PARAMETERS * MOST_LAYERS] = {NULL};
    qn_node *x = operation_input(operation, QN_SHAPE(s[2], s[3], s[1]));
    for (size_t layer = 0; layer < s[0]; layer++) {
        qn_node **p = &parameters[count];
        for (size_t i = 0; i < PARAMETERS; i++)
            parameters[count++] =
                operation_uniform(operation, shape_of(i, rows, s[1]), 1 / sqrt((double)s[1]));
        x = qn_recurrent(x, &(struct qn_recurrent){.cell = cell,
                                                   .weight_ih = p[0],
                                                   .weight_hh = p[1],
                                                   .bias_ih = p[2],
                                                   .bias_hh = p[3]})
                .out;
    }
    operation_result(operation, x);
    if (variant != BACKWARD || !x)
        return;
    qn_gradients(x, slope_of_last(operation, s), parameters, count, gradients);
    for (size_t i = 0; i < count; i++)
        operation_result(operation, gradients[i]);
}

void build_rnn(struct operation *operation, const size_t *s, size_t variant)
{
    build(operation, s, variant, QN_RNN_TANH);
}
void build_lstm(struct operation *operation, const size_t *s, size_t variant)
{
    build(operation, s, variant, QN_LSTM);
}
void build_gru(struct operation *operation, const size_t *s, size_t variant)
{
    build(operation, s, variant, QN_GRU);
}

/* The products; backward has twice as many, but the gradient of the input is not asked for. */
static double amount(const size_t *s, size_t variant, enum qn_cell cell)
{
    double product = 2.0 * (double)s[2] * (double)s[3] * (double)s[1] * (double)s[1] *
                     (double)qn_cell_gates(cell);
    double forward = 2 * (double)s[0] * product;
    return variant == BACKWARD ? 3 * forward - product : forward;
}

double amount_rnn(const size_t *s, size_t variant)
{
    return amount(s, variant, QN_RNN_TANH);
}
double amount_lstm(const size_t *s, size_t variant)
{
    return amount(s, variant, QN_LSTM);
}
double amount_gru(const size_t *s, size_t variant)
{
    return amount(s, variant, QN_GRU);
}

/* ---- What should come out ---- */

/* The last row of a batch, in double. */
struct reference {
    enum qn_cell cell;
    const size_t *s;
    double *parameters[PARAMETERS * MOST_LAYERS];
    double *in, *out; /* (T, H) each: of a layer */
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double product(const double *row, const double *x, size_t units)
{
    double sum = 0;
    for (size_t k = 0; k < units; k++)
        sum += row[k] * x[k];
    return sum;
}

/* A step of a layer: the state h becomes the next one, by way of `next`. */
static void step(const struct reference *r, double *const *p, const double *x, double *h, double *c,
                 double *next)
{
    size_t units = r->s[1], gates = qn_cell_gates(r->cell);
    for (size_t i = 0; i < units; i++) {
        double w[4], u[4];
        for (size_t g = 0; g < gates; g++) {
            size_t row = g * units + i;
            w[g] = product(p[0] + row * units, x, units) + p[2][row];
            u[g] = product(p[1] + row * units, h, units) + p[3][row];
        }
        if (r->cell == QN_LSTM) {
            c[i] = sigmoid(w[1] + u[1]) * c[i] + sigmoid(w[0] + u[0]) * tanh(w[2] + u[2]);
            next[i] = sigmoid(w[3] + u[3]) * tanh(c[i]);
        } else if (r->cell == QN_GRU) {
            double z = sigmoid(w[1] + u[1]), n = tanh(w[2] + sigmoid(w[0] + u[0]) * u[2]);
            next[i] = (1 - z) * n + z * h[i];
        } else {
            next[i] = tanh(w[0] + u[0]);
        }
    }
    memcpy(h, next, units * sizeof *h);
}

/* Fills r->out, from r->in, which is lost; false: no memory. */
static bool run(struct reference *r)
{
    size_t units = r->s[1];
    double *state = malloc(3 * units * sizeof *state);
    for (size_t layer = 0; state && layer < r->s[0]; layer++) {
        memset(state, 0, 3 * units * sizeof *state);
        if (layer > 0)
            memcpy(r->in, r->out, r->s[2] * units * sizeof *r->in);
        for (size_t t = 0; t < r->s[2]; t++) {
            step(r, &r->parameters[layer * PARAMETERS], r->in + t * units, state, state + units,
                 state + 2 * units);
            memcpy(r->out + t * units, state, units * sizeof *state);
        }
    }
    free(state);
    return state;
}

/* The row of a (T, B, H) tensor. */
static void take_row(const struct reference *r, const float *from, double *to)
{
    size_t units = r->s[1], batch = r->s[3];
    for (size_t i = 0; i < r->s[2] * units; i++)
        to[i] = from[(i / units * batch + batch - 1) * units + i % units];
}

/* A direction to go in: 1 or -1 for each number. */
static double along(size_t i)
{
    return (uint32_t)i * 2654435761u >> 31 ? 1 : -1;
}

/* slope times what comes out with all parameters moved by `distance` along the direction. */
static double moved(struct reference *r, struct operation *operation, double distance,
                    const float *slope)
{
    double sum = 0;
    for (size_t i = 0; i < PARAMETERS * r->s[0]; i++) {
        const float *values = operand_values(operation, i);
        size_t count = qn_shape_count(qn_tensor_shape(operation->operands[i]));
        for (size_t j = 0; j < count; j++)
            r->parameters[i][j] = (double)values[j] + distance * along(j + i);
    }
    take_row(r, operation->input_values, r->in);
    if (!run(r))
        return NAN;
    for (size_t i = 0; slope && i < r->s[2] * r->s[1]; i++)
        sum += r->out[i] * slope[(i / r->s[1] * r->s[3] + r->s[3] - 1) * r->s[1] + i % r->s[1]];
    return sum;
}

/* States are off by a few roundings of numbers up to 1, and those before them; so are, relative to their norm, all gradients along a direction,
 * which have more of them. */
static const double state_error = 2e-5, gradient_error = 1e-4;

static void check_values(struct check *check, struct operation *operation, struct reference *r,
                         size_t variant)
{
    static const double distance = 1e-6;
    const size_t *s = r->s;
    const float *y = result_values(operation, 0);
    moved(r, operation, 0, NULL);
    for (size_t i = 0; i < s[2] * s[1]; i++) {
        size_t at = (i / s[1] * s[3] + s[3] - 1) * s[1] + i % s[1];
        check_number(check, "result", at, y[at], r->out[i],
                     allowed_of_products(operation->qn, state_error, 1));
    }
    if (variant != BACKWARD)
        return;
    const float *slope = operand_values(operation, PARAMETERS * s[0]);
    double expected =
        (moved(r, operation, distance, slope) - moved(r, operation, -distance, slope)) /
        (2 * distance);
    double found = 0, magnitude = 0;
    for (size_t i = 0; i < PARAMETERS * s[0]; i++) {
        const float *gradient = result_values(operation, i + 1);
        size_t count = qn_shape_count(qn_tensor_shape(operation->operands[i]));
        for (size_t j = 0; j < count; j++) {
            found += (double)gradient[j] * along(j + i);
            magnitude += (double)gradient[j] * (double)gradient[j];
        }
    }
    check_number(check, "the gradients along a direction", 0, found, expected,
                 allowed_of_products(operation->qn, gradient_error, 1) * sqrt(magnitude));
}

static void check(struct check *check, struct operation *operation, const size_t *s, size_t variant,
                  enum qn_cell cell)
{
    struct reference r = {.cell = cell, .s = s};
    size_t rows = qn_cell_gates(cell) * s[1];
    bool has_memory = (r.in = malloc(s[2] * s[1] * sizeof *r.in)) != NULL;
    has_memory = (r.out = malloc(s[2] * s[1] * sizeof *r.out)) != NULL && has_memory;
    for (size_t i = 0; i < PARAMETERS * s[0]; i++) {
        r.parameters[i] = malloc(rows * (i % PARAMETERS < 2 ? s[1] : 1) * sizeof(double));
        has_memory = has_memory && r.parameters[i];
    }
    if (has_memory)
        check_values(check, operation, &r, variant);
    else
        snprintf(check->reason, sizeof check->reason, "out of memory");
    for (size_t i = 0; i < PARAMETERS * s[0]; i++)
        free(r.parameters[i]);
    free(r.in);
    free(r.out);
}

void check_rnn(struct check *c, struct operation *operation, const size_t *s, size_t variant)
{
    check(c, operation, s, variant, QN_RNN_TANH);
}
void check_lstm(struct check *c, struct operation *operation, const size_t *s, size_t variant)
{
    check(c, operation, s, variant, QN_LSTM);
}
void check_gru(struct check *c, struct operation *operation, const size_t *s, size_t variant)
{
    check(c, operation, s, variant, QN_GRU);
}

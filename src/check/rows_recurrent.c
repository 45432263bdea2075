/* Rows of recurrences. */
#include <math.h>
#include <string.h>

#include "check/rows.h"

/* Operands: x, W, U, b, c, then h_0, c_0 (LSTM), lengths, as far as there are. */
enum { X, W, U, B, C, H_0 };

static const struct qn_recurrent rnn = {.cell = QN_RNN_TANH}, relu = {.cell = QN_RNN_RELU},
                                 lstm = {.cell = QN_LSTM}, gru = {.cell = QN_GRU},
                                 rnn_back = {.cell = QN_RNN_TANH, .reverse = true},
                                 relu_back = {.cell = QN_RNN_RELU, .reverse = true},
                                 lstm_back = {.cell = QN_LSTM, .reverse = true},
                                 gru_back = {.cell = QN_GRU, .reverse = true};

/* Weights are a quarter of what is drawn, so that gates are not all open or shut. */
static const double PART = 0.25;

static qn_node *build_recurrent(const struct row *row, qn_node *const *x)
{
    struct qn_recurrent options = *(const struct qn_recurrent *)row->options;
    size_t count = strlen(row->operands), next = H_0;
    options.weight_ih = qn_scale(x[W], PART);
    options.weight_hh = qn_scale(x[U], PART);
    options.bias_ih = x[B];
    options.bias_hh = x[C];
    if (next < count && row->operands[next] == 'n')
        options.h_0 = x[next++];
    if (next < count && row->operands[next] == 'n')
        options.c_0 = x[next++];
    if (next < count)
        options.lengths = x[next];
    struct qn_sequence y = qn_recurrent(x[X], &options);
    if (!y.out)
        return NULL;
    qn_shape state = qn_node_shape(y.h_n);
    qn_shape one = QN_SHAPE(1, state.size[0], state.size[1]);
    qn_node *all[] = {y.out, qn_reshape(y.h_n, one), y.c_n ? qn_reshape(y.c_n, one) : NULL};
    return qn_concat(all, y.c_n ? 3 : 2, 0);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* A step of a unit: `w` and `u` are what its gates get from x and from the state before. */
static double new_state(enum qn_cell cell, const double *w, const double *u, double before,
                        double *c)
{
    switch (cell) {
    case QN_RNN_TANH:
        return tanh(w[0] + u[0]);
    case QN_RNN_RELU:
        return fmax(w[0] + u[0], 0);
    case QN_LSTM:
        *c = sigmoid(w[1] + u[1]) * *c + sigmoid(w[0] + u[0]) * tanh(w[2] + u[2]);
        return sigmoid(w[3] + u[3]) * tanh(*c);
    default: {
        double z = sigmoid(w[1] + u[1]), n = tanh(w[2] + sigmoid(w[0] + u[0]) * u[2]);
        return (1 - z) * n + z * before;
    }
    }
}

static double product(const struct array *weight, size_t row, const double *x)
{
    double sum = 0;
    for (size_t k = 0; k < weight->shape.size[1]; k++)
        sum += PART * weight->at[row * weight->shape.size[1] + k] * x[k];
    return sum;
}

static struct array reference_recurrent(const struct row *row, const struct array *x)
{
    const struct qn_recurrent *options = row->options;
    size_t count = strlen(row->operands), next = H_0;
    size_t steps = x[X].shape.size[0], batch = x[X].shape.size[1], units = x[U].shape.size[1],
           gates = qn_cell_gates(options->cell), state = batch * units;
    bool is_lstm = options->cell == QN_LSTM;
    struct array y = array_new(QN_SHAPE(steps + (is_lstm ? 2 : 1), batch, units));
    double *h = y.at + steps * state, *c = is_lstm ? h + state : array_new(QN_SHAPE(state)).at;
    if (next < count && row->operands[next] == 'n')
        memcpy(h, x[next++].at, state * sizeof *h);
    if (next < count && row->operands[next] == 'n')
        memcpy(c, x[next++].at, state * sizeof *c);
    struct array new_h = array_new(QN_SHAPE(units));
    for (size_t b = 0; b < batch; b++) {
        size_t length = next < count ? (size_t)fmin(x[next].at[b], (double)steps) : steps;
        for (size_t step = 0; step < length; step++) {
            size_t time = options->reverse ? length - 1 - step : step;
            const double *in = x[X].at + (time * batch + b) * x[X].shape.size[2];
            for (size_t i = 0; i < units; i++) {
                double w[4], u[4];
                for (size_t g = 0; g < gates; g++) {
                    w[g] = product(&x[W], g * units + i, in) + x[B].at[g * units + i];
                    u[g] = product(&x[U], g * units + i, h + b * units) + x[C].at[g * units + i];
                }
                new_h.at[i] = new_state(options->cell, w, u, h[b * units + i], &c[b * units + i]);
            }
            memcpy(h + b * units, new_h.at, units * sizeof *h);
            memcpy(y.at + (time * batch + b) * units, new_h.at, units * sizeof *h);
        }
    }
    return y;
}

/* Errors of states add up over the steps, those of gradients over all that is between. */
#define RECURRENT(title, letters, with, slope, ...)                                                \
    {                                                                                              \
        ROW("recurrent", title, letters, slope, 3e-6, 2e-5, false, build_recurrent,                \
            reference_recurrent),                                                                  \
            .cases = {__VA_ARGS__}, .options = &with                                               \
    }
/* The wide ones: units of a row are divided, too, with a command for each step. */
/* clang-format off */
static const struct row rows_of_recurrences[] = {
    RECURRENT("rnn", "nnnnn", rnn, 31, "5x3x5 7x5 7x7 7 7", "1x1x3 3x3 3x3 3 3", "3x17x9 37x9 37x37 37 37"),
    RECURRENT("rnn_state", "nnnnnn", rnn, 63, "5x3x5 7x5 7x7 7 7 3x7", "1x2x5 7x5 7x7 7 7 2x7"),
    RECURRENT("rnn_lengths", "nnnnnnt", rnn, 63, "6x5x5 7x5 7x7 7 7 5x7 5"),
    RECURRENT("rnn_reverse", "nnnnnnt", rnn_back, 63, "6x5x5 7x5 7x7 7 7 5x7 5", "3x3x5 7x5 7x7 7 7 3x7 3"),
    RECURRENT("rnn_relu", "kkkkk", relu, 31, "5x3x5 7x5 7x7 7 7", "3x9x9 37x9 37x37 37 37"),
    RECURRENT("rnn_relu_reverse", "kkkkk", relu_back, 31, "5x3x5 7x5 7x7 7 7"),
    RECURRENT("lstm", "nnnnn", lstm, 31, "5x3x5 28x5 28x7 28 28", "1x1x1 4x1 4x1 4 4", "3x17x9 148x9 148x37 148 148", "2x40x5 68x5 68x17 68 68"),
    RECURRENT("lstm_wide", "nnnnn", lstm, 1, "3x2x5 1200x5 1200x300 1200 1200"),
    RECURRENT("lstm_state", "nnnnnnn", lstm, 127, "5x3x5 28x5 28x7 28 28 3x7 3x7", "1x2x5 28x5 28x7 28 28 2x7 2x7"),
    RECURRENT("lstm_lengths", "nnnnnnnt", lstm, 127, "6x5x5 28x5 28x7 28 28 5x7 5x7 5"),
    RECURRENT("lstm_reverse", "nnnnn", lstm_back, 31, "5x3x5 28x5 28x7 28 28"),
    RECURRENT("lstm_reverse_lengths", "nnnnnnnt", lstm_back, 127, "6x5x5 28x5 28x7 28 28 5x7 5x7 5", "4x7x3 36x3 36x9 36 36 7x9 7x9 7"),
    RECURRENT("gru", "nnnnn", gru, 31, "5x3x5 21x5 21x7 21 21", "1x1x1 3x1 3x1 3 3", "3x17x9 111x9 111x37 111 111", "2x40x5 51x5 51x17 51 51"),
    RECURRENT("gru_wide", "nnnnn", gru, 1, "3x2x5 900x5 900x300 900 900"),
    RECURRENT("gru_state", "nnnnnn", gru, 63, "5x3x5 21x5 21x7 21 21 3x7", "1x2x5 21x5 21x7 21 21 2x7"),
    RECURRENT("gru_lengths", "nnnnnnt", gru, 63, "6x5x5 21x5 21x7 21 21 5x7 5"),
    RECURRENT("gru_reverse", "nnnnn", gru_back, 31, "5x3x5 21x5 21x7 21 21"),
    RECURRENT("gru_reverse_lengths", "nnnnnnt", gru_back, 63, "6x5x5 21x5 21x7 21 21 5x7 5", "4x7x3 27x3 27x9 27 27 7x9 7"),
};
/* clang-format on */

const struct table recurrent_tables[] = {
    TABLE(rows_of_recurrences, VARIANTS),
    {0},
};

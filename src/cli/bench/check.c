/* What operations should give, in double, for some of their numbers. */
#include "cli/bench/bench.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "gemm/gemm.h"

enum { SAMPLED = 200, SAMPLED_ROWS = 4 };

void check_number(struct check *check, const char *where, size_t index, double found,
                  double expected, double allowed)
{
    check->numbers++;
    if (*check->reason || fabs(found - expected) <= allowed) /* NaN is not */
        return;
    snprintf(check->reason, sizeof check->reason, "%s[%zu] is %.7g, not %.7g (allowed: %.1g off)",
             where, index, found, expected, allowed);
}

/* Which of `count` is number i of `of` sampled ones: the first, the last, and some between that
 * share no factor with the sizes of tiles. */
static size_t sampled(size_t i, size_t of, size_t count)
{
    if (i == 0)
        return 0;
    return i == 1 ? count - 1 : i * 2654435761u % (count * of) / of;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- gemm ---- */

/* Rounding the K partial sums costs about half of epsilon times the sum of the magnitudes; 4 leaves
 * room for any order of adding up, and not for one missing product.  Numbers have their type's precision: `rounded` says what
 * becomes of an operand, and `epsilon` is the result's. */
static void check_product(struct check *check, struct operation *operation, const size_t *s,
                          size_t variant, float (*rounded)(float), double epsilon)
{
    const float *a = operand_values(operation, 0), *b = operand_values(operation, 1);
    const float *y = result_values(operation, 0);
    size_t m = s[0], n = s[1], depth = s[2];
    bool transpose_a = variant == TN || variant == TT, transpose_b = variant == NT || variant == TT;
    for (size_t i = 0; i < SAMPLED; i++) {
        size_t at = sampled(i, SAMPLED, m * n), row = at / n, column = at % n;
        double sum = 0, magnitude = 0;
        for (size_t k = 0; k < depth; k++) {
            double product = (double)rounded(a[transpose_a ? k * m + row : row * depth + k]) *
                             rounded(b[transpose_b ? column * depth + k : k * n + column]);
            sum += product;
            magnitude += fabs(product);
        }
        check_number(check, "result", at, y[at], sum,
                     4 * FLT_EPSILON * magnitude + epsilon * fabs(sum));
    }
}

static float as_it_is(float x)
{
    return x;
}

/* To the nearest, ties to even; of numbers that are finite. */
static float rounded_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000U;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float rounded_to_f16(float x)
{
    uint16_t bits;
    type_put(QN_F16, &bits, 0, x);
    return float_of_f16(bits);
}

/* As instructions for TF32 have it: to the nearest, those between away from zero; of numbers that are finite. */
static float rounded_to_tf32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x1000) & 0xFFFFE000U;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* TF32 rounds both operands to a fraction of ten bits, each by 2^-11 of it at the most and by 0.4 of that in the mean: with independent terms a
 * sum's deviation is 0.6 * 2^-11 of its magnitude, and five deviations are three.  Eight leave room for what layers pass on to the next. */
double allowed_of_products(const qn_context *qn, double allowed, double magnitude)
{
    bool is_tf32 = qn->caps.gemm == QN_GEMM_TF32;
    return allowed + (is_tf32 ? 8 * magnitude / 2048 : 0);
}

void check_gemm(struct check *check, struct operation *operation, const size_t *s, size_t variant)
{
    const struct gemm_problem problem = {.m = s[0], .n = s[1], .k = s[2]};
    bool is_tf32 = gemm_matrix_fits(QN_F32, &problem, &operation->qn->caps);
    check_product(check, operation, s, variant, is_tf32 ? rounded_to_tf32 : as_it_is, 0);
}

void check_gemm_bf16(struct check *check, struct operation *operation, const size_t *s,
                     size_t variant)
{
    check_product(check, operation, s, variant, rounded_to_bf16, 1.0 / 256); /* half a unit */
}

void check_gemm_f16(struct check *check, struct operation *operation, const size_t *s,
                    size_t variant)
{
    check_product(check, operation, s, variant, rounded_to_f16, 1.0 / 2048); /* half a unit */
}

/* ---- attention ---- */

struct head {
    const float *q, *k, *v, *slope, *y; /* of this batch and head; slope NULL: forward only */
    size_t tokens, width, stride;       /* stride: from a token to the next */
};

static double product(const float *a, const float *b, size_t width)
{
    double sum = 0;
    for (size_t d = 0; d < width; d++)
        sum += (double)a[d] * b[d];
    return sum;
}

/* Probabilities of a query over the keys up to i. */
static void probabilities(const struct head *head, const float *query, size_t i, double *p)
{
    double greatest = -INFINITY, sum = 0;
    for (size_t j = 0; j <= i; j++) {
        p[j] = product(query, head->k + j * head->stride, head->width) / sqrt((double)head->width);
        greatest = fmax(greatest, p[j]);
    }
    for (size_t j = 0; j <= i; j++)
        sum += p[j] = exp(p[j] - greatest);
    for (size_t j = 0; j <= i; j++)
        p[j] /= sum;
}

/* Scores are off by some epsilon times their magnitude, up to 20 or so, and exp() makes that a
 * relative error of the probabilities; so allow 2e-5 of the sum of the magnitudes. */
static const double attention_error = 2e-5;

/* Output y, number `begin` of the result, of a query that sees the keys up to i; the sum of slope y
 * along it, slope NULL: 0. */
static double check_output(struct check *check, const struct head *head, size_t i, const float *y,
                           const float *slope, size_t begin, const double *p)
{
    double along = 0;
    for (size_t d = 0; d < head->width; d++) {
        double sum = 0, magnitude = 0;
        for (size_t j = 0; j <= i; j++) {
            sum += p[j] * head->v[j * head->stride + d];
            magnitude += fabs(p[j] * head->v[j * head->stride + d]);
        }
        check_number(check, "result", begin + d, y[d], sum, attention_error * magnitude);
        along += slope ? slope[d] * sum : 0;
    }
    return along;
}

/* Output and gradient of query i. */
static void check_query(struct check *check, const struct head *head, size_t i, const float *dq,
                        size_t begin, double *p)
{
    size_t at = i * head->stride;
    probabilities(head, head->q + at, i, p);
    double along = check_output(check, head, i, head->y + at, head->slope ? head->slope + at : NULL,
                                begin + at, p);
    double scale = 1 / sqrt((double)head->width);
    for (size_t d = 0; head->slope && d < head->width; d++) {
        double sum = 0, magnitude = 0;
        for (size_t j = 0; j <= i; j++) {
            double change =
                product(head->slope + i * head->stride, head->v + j * head->stride, head->width);
            double factor = p[j] * scale * head->k[j * head->stride + d];
            sum += factor * (change - along);
            magnitude += fabs(factor) * (fabs(change) + fabs(along));
        }
        check_number(check, "dq", begin + i * head->stride + d, dq[i * head->stride + d], sum,
                     attention_error * magnitude);
    }
}

/* Gradients of key and value j: over all queries that see it.  sums: 4 rows of the width. */
static void check_key(struct check *check, const struct head *head, size_t j, const float *dk,
                      const float *dv, size_t begin, double *p, double *sums)
{
    size_t width = head->width;
    for (size_t d = 0; d < 4 * width; d++)
        sums[d] = 0;
    for (size_t i = j; i < head->tokens; i++) {
        const float *slope = head->slope + i * head->stride, *q = head->q + i * head->stride;
        probabilities(head, q, i, p);
        double along = 0;
        for (size_t l = 0; l <= i; l++)
            along += p[l] * product(slope, head->v + l * head->stride, width);
        double change = product(slope, head->v + j * head->stride, width);
        double scale = p[j] / sqrt((double)width);
        for (size_t d = 0; d < width; d++) {
            sums[d] += scale * (change - along) * q[d];
            sums[width + d] += scale * (fabs(change) + fabs(along)) * fabs(q[d]);
            sums[2 * width + d] += p[j] * slope[d];
            sums[3 * width + d] += fabs(p[j] * slope[d]);
        }
    }
    for (size_t d = 0; d < width; d++) {
        size_t at = j * head->stride + d;
        check_number(check, "dk", begin + at, dk[at], sums[d], attention_error * sums[width + d]);
        check_number(check, "dv", begin + at, dv[at], sums[2 * width + d],
                     attention_error * sums[3 * width + d]);
    }
}

void check_attention(struct check *check, struct operation *operation, const size_t *s,
                     size_t variant)
{
    size_t batch = s[0], heads = s[1], tokens = s[2], width = s[3], stride = heads * width;
    double *p = malloc((tokens + 4 * width) * sizeof *p);
    if (!p) {
        snprintf(check->reason, sizeof check->reason, "out of memory");
        return;
    }
    for (size_t i = 0; i < SAMPLED_ROWS; i++) {
        size_t which = sampled(i, SAMPLED_ROWS, batch * heads);
        size_t begin = which / heads * tokens * stride + which % heads * width;
        struct head head = {.tokens = tokens, .width = width, .stride = stride};
        head.q = operand_values(operation, 0) + begin;
        head.k = operand_values(operation, 1) + begin;
        head.v = operand_values(operation, 2) + begin;
        head.y = result_values(operation, 0) + begin;
        if (variant == BACKWARD)
            head.slope = operand_values(operation, 3) + begin;
        const float *dq = variant == BACKWARD ? result_values(operation, 1) + begin : NULL;
        size_t token = sampled(SAMPLED_ROWS - 1 - i, SAMPLED_ROWS, tokens);
        check_query(check, &head, token, dq, begin, p);
        if (variant == BACKWARD)
            check_key(check, &head, token, result_values(operation, 2) + begin,
                      result_values(operation, 3) + begin, begin, p, p + tokens);
    }
    free(p);
}

void check_attention_decode(struct check *check, struct operation *operation, const size_t *s,
                            size_t variant)
{
    (void)variant;
    size_t heads = s[1], tokens = s[2], width = s[3], stride = heads * width;
    double *p = malloc(tokens * sizeof *p);
    if (!p) {
        snprintf(check->reason, sizeof check->reason, "out of memory");
        return;
    }
    for (size_t i = 0; i < SAMPLED_ROWS; i++) {
        size_t which = sampled(i, SAMPLED_ROWS, s[0] * heads), query = which * width;
        size_t begin = which / heads * tokens * stride + which % heads * width;
        struct head head = {.width = width, .stride = stride};
        head.k = operand_values(operation, 1) + begin;
        head.v = operand_values(operation, 2) + begin;
        probabilities(&head, operand_values(operation, 0) + query, tokens - 1, p);
        check_output(check, &head, tokens - 1, result_values(operation, 0) + query, NULL, query, p);
    }
    free(p);
}

/* ---- Rows ---- */

struct moments {
    double mean, rest; /* rest: 1 / sqrt(variance + epsilon) */
};

static struct moments moments_of(const float *x, size_t width)
{
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; i++)
        mean += x[i];
    mean /= (double)width;
    for (size_t i = 0; i < width; i++)
        variance += (x[i] - mean) * (x[i] - mean);
    return (struct moments){mean, 1 / sqrt(variance / (double)width + 1e-5)};
}

/* The rows: y and dx.  A few roundings of numbers of the magnitude given. */
static void check_norm_row(struct check *check, struct operation *operation, size_t row,
                           size_t width, bool backward)
{
    const float *x = operand_values(operation, 0) + row * width;
    const float *weight = operand_values(operation, 1), *bias = operand_values(operation, 2);
    const float *y = result_values(operation, 0) + row * width;
    struct moments moments = moments_of(x, width);
    for (size_t i = 0; i < width; i++) {
        double normal = (x[i] - moments.mean) * moments.rest;
        check_number(check, "result", row * width + i, y[i], normal * weight[i] + bias[i],
                     1e-5 * (fabs(normal * weight[i]) + fabs(bias[i]) + fabs(weight[i])));
    }
    if (!backward)
        return;
    const float *slope = operand_values(operation, 3) + row * width;
    const float *dx = result_values(operation, 1) + row * width;
    double sum = 0, along = 0;
    for (size_t i = 0; i < width; i++) {
        sum += (double)slope[i] * weight[i];
        along += (double)slope[i] * weight[i] * (x[i] - moments.mean) * moments.rest;
    }
    for (size_t i = 0; i < width; i++) {
        double normal = (x[i] - moments.mean) * moments.rest, g = (double)slope[i] * weight[i];
        double expected = moments.rest * (g - (sum + normal * along) / (double)width);
        check_number(check, "dx", row * width + i, dx[i], expected,
                     2e-5 * moments.rest * (fabs(g) + 1 + fabs(normal)));
    }
}

/* The columns: gradients of weight and bias, sums over all rows; as for gemm. */
static void check_norm_columns(struct check *check, struct operation *operation, size_t rows,
                               size_t width)
{
    const float *x = operand_values(operation, 0), *slope = operand_values(operation, 3);
    const float *d_weight = result_values(operation, 2), *d_bias = result_values(operation, 3);
    for (size_t c = 0; c < SAMPLED_ROWS; c++) {
        size_t column = sampled(c, SAMPLED_ROWS, width);
        double weight = 0, weight_magnitude = 0, bias = 0, bias_magnitude = 0;
        for (size_t row = 0; row < rows; row++) {
            struct moments moments = moments_of(x + row * width, width);
            double g = slope[row * width + column];
            double normal = (x[row * width + column] - moments.mean) * moments.rest;
            weight += g * normal;
            weight_magnitude += fabs(g) * (fabs(normal) + 1);
            bias += g;
            bias_magnitude += fabs(g);
        }
        check_number(check, "d weight", column, d_weight[column], weight,
                     8 * FLT_EPSILON * weight_magnitude);
        check_number(check, "d bias", column, d_bias[column], bias,
                     8 * FLT_EPSILON * bias_magnitude);
    }
}

void check_layer_norm(struct check *check, struct operation *operation, const size_t *s,
                      size_t variant)
{
    for (size_t i = 0; i < SAMPLED_ROWS; i++)
        check_norm_row(check, operation, sampled(i, SAMPLED_ROWS, s[0]), s[1], variant == BACKWARD);
    if (variant == BACKWARD)
        check_norm_columns(check, operation, s[0], s[1]);
}

/* log of the sum of exp(x). */
static double log_sum(const float *x, size_t width)
{
    double greatest = -INFINITY, sum = 0;
    for (size_t i = 0; i < width; i++)
        greatest = fmax(greatest, x[i]);
    for (size_t i = 0; i < width; i++)
        sum += exp(x[i] - greatest);
    return greatest + log(sum);
}

/* exp() of up to 12 is some ulp off, and the sum, too. */
static const double exp_error = 1e-5;

void check_softmax(struct check *check, struct operation *operation, const size_t *s,
                   size_t variant)
{
    (void)variant;
    const float *x = operand_values(operation, 0), *y = result_values(operation, 0);
    for (size_t r = 0; r < SAMPLED_ROWS; r++) {
        size_t begin = sampled(r, SAMPLED_ROWS, s[0]) * s[1];
        double whole = log_sum(x + begin, s[1]);
        for (size_t i = 0; i < s[1]; i++) {
            double expected = exp(x[begin + i] - whole);
            check_number(check, "result", begin + i, y[begin + i], expected, exp_error * expected);
        }
    }
}

void check_cross_entropy(struct check *check, struct operation *operation, const size_t *s,
                         size_t variant)
{
    (void)variant;
    const float *logits = operand_values(operation, 0), *slope = result_values(operation, 1);
    const int32_t *targets = operand_indices(operation, 1);
    double loss = 0, rows = (double)s[0];
    for (size_t row = 0; row < s[0]; row++)
        loss +=
            (log_sum(logits + row * s[1], s[1]) - logits[row * s[1] + (size_t)targets[row]]) / rows;
    check_number(check, "loss", 0, result_values(operation, 0)[0], loss, exp_error * fabs(loss));
    for (size_t r = 0; r < SAMPLED_ROWS; r++) {
        size_t row = sampled(r, SAMPLED_ROWS, s[0]);
        double whole = log_sum(logits + row * s[1], s[1]);
        for (size_t i = 0; i < s[1]; i++) {
            double p = exp(logits[row * s[1] + i] - whole), hit = (size_t)targets[row] == i;
            check_number(check, "d logits", row * s[1] + i, slope[row * s[1] + i], (p - hit) / rows,
                         exp_error * (p + hit) / rows);
        }
    }
}

/* ---- Element by element ---- */

void check_gelu(struct check *check, struct operation *operation, const size_t *s, size_t variant)
{
    static const double root = 0.7978845608028654; /* sqrt(2 / pi) */
    const float *x = operand_values(operation, 0);
    for (size_t i = 0; i < SAMPLED; i++) {
        size_t at = sampled(i, SAMPLED, s[0] * s[1]);
        double v = x[at], t = tanh(root * (v + 0.044715 * v * v * v)), y = v / 2 * (1 + t);
        double slope = (1 + t) / 2 + v / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * v * v);
        check_number(check, "result", at, result_values(operation, 0)[at], y,
                     exp_error * fabs(v)); /* 1 + t cancels where t is near -1 */
        if (variant == BACKWARD) {
            double above = operand_values(operation, 1)[at];
            check_number(check, "dx", at, result_values(operation, 1)[at], above * slope,
                         exp_error * fabs(above) * (1 + fabs(v)));
        }
    }
}

/* The mask is random, and its bits are for the tests: here each number is 0 or enlarged, and the
 * zeros are as many as they should be, but for five deviations. */
void check_dropout(struct check *check, struct operation *operation, const size_t *s,
                   size_t variant)
{
    (void)variant;
    const float *x = operand_values(operation, 0), *y = result_values(operation, 0);
    size_t count = s[0] * s[1], zeros = 0;
    double p = bench_dropout;
    for (size_t i = 0; i < count; i++) {
        zeros += y[i] == 0;
        if (y[i] != 0)
            check_number(check, "result", i, y[i], x[i] / (1 - p), 4 * FLT_EPSILON * fabs(x[i]));
    }
    check_number(check, "zeros", 0, (double)zeros, p * (double)count,
                 5 * sqrt(p * (1 - p) * (double)count) + 1);
}

/* Rows of ids that are there, and the row after each, which mostly is not. */
void check_embedding(struct check *check, struct operation *operation, const size_t *s,
                     size_t variant)
{
    (void)variant;
    const int32_t *ids = operand_indices(operation, 1);
    const float *above = operand_values(operation, 2), *slope = result_values(operation, 0);
    size_t rows = s[0], width = s[1], count = s[2];
    for (size_t r = 0; r < 2 * SAMPLED_ROWS; r++) {
        size_t row = ((size_t)ids[sampled(r / 2, SAMPLED_ROWS, count)] + r % 2) % rows;
        for (size_t c = 0; c < width; c++) {
            double sum = 0, magnitude = 0;
            for (size_t i = 0; i < count; i++) {
                if ((size_t)ids[i] == row) {
                    sum += above[i * width + c];
                    magnitude += fabs(above[i * width + c]);
                }
            }
            check_number(check, "d table", row * width + c, slope[row * width + c], sum,
                         4 * FLT_EPSILON * magnitude);
        }
    }
}

void check_adamw(struct check *check, struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    double number[8];
    for (size_t i = 4; i < 8; i++)
        number[i] = operand_values(operation, i)[0];
    double rate = number[4], scale = number[5], t = number[6];
    const struct qn_adamw *o = &bench_adamw;
    for (size_t i = 0; i < least(SAMPLED, s[0]); i++) {
        size_t at = sampled(i, SAMPLED, s[0]);
        double p = operand_values(operation, 0)[at], g = scale * operand_values(operation, 3)[at];
        double m = o->beta1 * operand_values(operation, 1)[at] + (1 - o->beta1) * g;
        double v = o->beta2 * operand_values(operation, 2)[at] + (1 - o->beta2) * g * g;
        double step =
            rate * m / (1 - pow(o->beta1, t)) / (sqrt(v / (1 - pow(o->beta2, t))) + o->epsilon);
        /* some roundings of each term */
        check_number(check, "parameters", at, result_values(operation, 0)[at],
                     p * (1 - rate * o->weight_decay) - step,
                     1e-6 * fabs(p) + 1e-5 * fabs(step) + 1e-8);
        check_number(check, "m", at, result_values(operation, 1)[at], m, 1e-6 * (1 + fabs(m)));
        check_number(check, "v", at, result_values(operation, 2)[at], v, 1e-6 * (1 + v));
    }
}

/* One rounding. */
void check_copy(struct check *check, struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    for (size_t i = 0; i < SAMPLED; i++) {
        size_t at = sampled(i, SAMPLED, s[0]);
        double expected = operand_values(operation, 0)[at] + 1.0;
        check_number(check, "result", at, result_values(operation, 0)[at], expected,
                     FLT_EPSILON * fabs(expected));
    }
}

void check_add(struct check *check, struct operation *operation, const size_t *s, size_t variant)
{
    (void)variant;
    for (size_t i = 0; i < SAMPLED; i++) {
        size_t at = sampled(i, SAMPLED, s[0]);
        double expected =
            (double)operand_values(operation, 0)[at] + operand_values(operation, 1)[at];
        check_number(check, "result", at, result_values(operation, 0)[at], expected,
                     FLT_EPSILON * fabs(expected));
    }
}

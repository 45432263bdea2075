/* Element-wise operations: a line of OpenCL C each, and a line for each derivative.  The planner fuses them. */
#include <quern/op.h>
#include <quern/ops.h>

#include "graph/graph.h"
#include "op/shape.h"

/* ---- What all have in common ---- */

static bool infer_real(qn_node *node)
{
    return node_promote(node, 0, false);
}

static bool infer_number(qn_node *node)
{
    return node_promote(node, 0, true);
}

static bool infer_comparison(qn_node *node)
{
    if (!infer_number(node))
        return false;
    if (node->outputs[0].type == QN_I32)
        node->outputs[0].type = QN_F32;
    return true;
}

static struct qn_cost cost_of_one(const qn_node *node)
{
    double count = (double)qn_shape_count(*qn_out(node, 0));
    return (struct qn_cost){.flops = count, .bytes = 4 * count * (double)(node->n_inputs + 1)};
}

static qn_node *unary(const struct qn_op *op, qn_node *x)
{
    return qn_node_new(op, NULL, &x, 1);
}

static qn_node *binary(const struct qn_op *op, qn_node *a, qn_node *b)
{
    qn_node *operands[] = {a, b};
    if (!broadcast_together(op->name, operands, 2))
        return NULL;
    return qn_node_new(op, NULL, operands, 2);
}

/* ---- Two operands ---- */

static bool is_number(const qn_node *node, float number)
{
    float value;
    return node_is_constant(node, &value) && value == number;
}

static qn_node *simplify_add(qn_node *node)
{
    if (is_number(node->inputs[0], 0))
        return node->inputs[1];
    return is_number(node->inputs[1], 0) ? node->inputs[0] : node;
}

static qn_node *simplify_mul(qn_node *node)
{
    if (is_number(node->inputs[0], 1))
        return node->inputs[1];
    return is_number(node->inputs[1], 1) ? node->inputs[0] : node;
}

static qn_node *simplify_sub_or_div(qn_node *node);

/* Gradients as nodes, so that they have gradients themselves. */
static void gradient_add(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    (void)node;
    d_in[0] = d_in[1] = d_out[0];
}

static void gradient_sub(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    (void)node;
    d_in[0] = d_out[0];
    d_in[1] = qn_neg(d_out[0]);
}

static void gradient_mul(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_mul(d_out[0], node->inputs[1]);
    d_in[1] = qn_mul(d_out[0], node->inputs[0]);
}

static void gradient_div(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_div(d_out[0], node->inputs[1]);
    d_in[1] = qn_neg(qn_mul(d_in[0], node));
}

static const struct qn_op add_op = {.name = "add",
                                    .outputs = 1,
                                    .infer = infer_number,
                                    .expression = "x0 + x1",
                                    .gradient = gradient_add,
                                    .simplify = simplify_add,
                                    .cost = cost_of_one};
static const struct qn_op sub_op = {.name = "sub",
                                    .outputs = 1,
                                    .infer = infer_number,
                                    .expression = "x0 - x1",
                                    .gradient = gradient_sub,
                                    .simplify = simplify_sub_or_div,
                                    .cost = cost_of_one};
static const struct qn_op mul_op = {.name = "mul",
                                    .outputs = 1,
                                    .infer = infer_number,
                                    .expression = "x0 * x1",
                                    .gradient = gradient_mul,
                                    .simplify = simplify_mul,
                                    .cost = cost_of_one};
static const struct qn_op div_op = {.name = "div",
                                    .outputs = 1,
                                    .infer = infer_real,
                                    .expression = "x0 / x1",
                                    .gradient = gradient_div,
                                    .simplify = simplify_sub_or_div,
                                    .cost = cost_of_one};
static const struct qn_op maximum_op = {.name = "maximum",
                                        .outputs = 1,
                                        .infer = infer_number,
                                        .expression = "GREATER(x0, x1)",
                                        .derivative = {"SELECT(GE(x0, x1), dy, (floatv)(0.0f))",
                                                       "SELECT(GE(x0, x1), (floatv)(0.0f), dy)"},
                                        .cost = cost_of_one};
static const struct qn_op minimum_op = {.name = "minimum",
                                        .outputs = 1,
                                        .infer = infer_number,
                                        .expression = "LESSER(x0, x1)",
                                        .derivative = {"SELECT(LE(x0, x1), dy, (floatv)(0.0f))",
                                                       "SELECT(LE(x0, x1), (floatv)(0.0f), dy)"},
                                        .cost = cost_of_one};

/* As PyTorch has it: nothing depends on x where b is 0, nor on b where x is 0. */
static const struct qn_op pow_op = {
    .name = "pow",
    .outputs = 1,
    .infer = infer_real,
    .expression = "pow(x0, x1)",
    .derivative = {"SELECT(EQ(x1, 0.0f), (floatv)(0.0f), dy * x1 * pow(x0, x1 - 1.0f))",
                   "SELECT(EQ(x0, 0.0f), (floatv)(0.0f), dy * y * log(x0))"},
    .cost = cost_of_one};

static qn_node *simplify_sub_or_div(qn_node *node)
{
    return is_number(node->inputs[1], node->op == &sub_op ? 0 : 1) ? node->inputs[0] : node;
}

qn_node *qn_add(qn_node *a, qn_node *b)
{
    return binary(&add_op, a, b);
}

qn_node *qn_sub(qn_node *a, qn_node *b)
{
    return binary(&sub_op, a, b);
}

qn_node *qn_mul(qn_node *a, qn_node *b)
{
    return binary(&mul_op, a, b);
}

qn_node *qn_div(qn_node *a, qn_node *b)
{
    return binary(&div_op, a, b);
}

qn_node *qn_maximum(qn_node *a, qn_node *b)
{
    return binary(&maximum_op, a, b);
}

qn_node *qn_minimum(qn_node *a, qn_node *b)
{
    return binary(&minimum_op, a, b);
}

qn_node *qn_pow(qn_node *a, qn_node *b)
{
    return binary(&pow_op, a, b);
}

/* ---- Comparisons ---- */

#define COMPARISON(function, title, macro)                                                         \
    static const struct qn_op function##_op = {                                                    \
        .name = title,                                                                             \
        .outputs = 1,                                                                              \
        .infer = infer_comparison,                                                                 \
        .expression = "SELECT(" macro "(x0, x1), (floatv)(1.0f), (floatv)(0.0f))",                 \
        .cost = cost_of_one};                                                                      \
    qn_node *qn_##function(qn_node *a, qn_node *b)                                                 \
    {                                                                                              \
        return binary(&function##_op, a, b);                                                       \
    }

COMPARISON(less, "less", "LT")
COMPARISON(less_equal, "less_equal", "LE")
COMPARISON(greater, "greater", "GT")
COMPARISON(greater_equal, "greater_equal", "GE")
COMPARISON(equal, "equal", "EQ")
COMPARISON(not_equal, "not_equal", "NE")

static bool infer_where(qn_node *node)
{
    return node_promote(node, 1, true);
}

static const struct qn_op where_op = {.name = "where",
                                      .outputs = 1,
                                      .infer = infer_where,
                                      .expression = "SELECT(NE(x0, 0), x1, x2)",
                                      .derivative = {NULL, "SELECT(NE(x0, 0), dy, (floatv)(0.0f))",
                                                     "SELECT(NE(x0, 0), (floatv)(0.0f), dy)"},
                                      .cost = cost_of_one};

qn_node *qn_where(qn_node *condition, qn_node *a, qn_node *b)
{
    qn_node *operands[] = {condition, a, b};
    if (!broadcast_together("where", operands, 3))
        return NULL;
    return qn_node_new(&where_op, NULL, operands, 3);
}

/* ---- One operand ---- */

#define UNARY(function, text, slope)                                                               \
    static const struct qn_op function##_op = {.name = #function,                                  \
                                               .outputs = 1,                                       \
                                               .infer = infer_real,                                \
                                               .expression = text,                                 \
                                               .derivative = {slope},                              \
                                               .cost = cost_of_one};                               \
    qn_node *qn_##function(qn_node *x)                                                             \
    {                                                                                              \
        return unary(&function##_op, x);                                                           \
    }

UNARY(neg, "-x0", "-dy")
UNARY(abs, "fabs(x0)", "dy * sign(x0)")
UNARY(square, "x0 * x0", "2.0f * dy * x0")
UNARY(sqrt, "sqrt(x0)", "0.5f * dy / y")
UNARY(rsqrt, "1.0f / sqrt(x0)", "-0.5f * dy * y / x0")
UNARY(reciprocal, "1.0f / x0", "-dy * y * y")
UNARY(exp, "exp(x0)", "dy * y")
UNARY(expm1, "expm1(x0)", "dy * (y + 1.0f)")
UNARY(log, "log(x0)", "dy / x0")
UNARY(sin, "sin(x0)", "dy * cos(x0)")
UNARY(cos, "cos(x0)", "-dy * sin(x0)")
UNARY(tanh, "tanh(x0)", "dy * (1.0f - y * y)")
UNARY(sigmoid, "1.0f / (1.0f + exp_of(-x0))", "dy * y * (1.0f - y)")
UNARY(relu, "SELECT(LT(x0, 0.0f), (floatv)(0.0f), x0)", "SELECT(GT(y, 0.0f), dy, (floatv)(0.0f))")
UNARY(silu, "x0 / (1.0f + exp_of(-x0))", "dy * silu_slope(x0)")
UNARY(gelu, "gelu(x0)", "dy * gelu_slope(x0)")
UNARY(gelu_erf, "gelu_erf(x0)", "dy * gelu_erf_slope(x0)")
UNARY(is_finite, "SELECT(LT(fabs(x0), (floatv)(INFINITY)), (floatv)(1.0f), (floatv)(0.0f))", NULL)

qn_node *qn_swiglu(qn_node *gate, qn_node *up)
{
    return qn_mul(qn_silu(gate), up);
}

/* ---- One operand and constants ---- */

static qn_node *simplify_scale(qn_node *node)
{
    return *(const float *)node->attributes == 1 ? node->inputs[0] : node;
}

static qn_node *simplify_offset(qn_node *node)
{
    return *(const float *)node->attributes == 0 ? node->inputs[0] : node;
}

static void gradient_scale(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = qn_scale(d_out[0], *(const float *)node->attributes);
}

static const struct qn_op scale_op = {.name = "scale",
                                      .outputs = 1,
                                      .attributes = sizeof(float),
                                      .infer = infer_real,
                                      .expression = "a0 * x0",
                                      .gradient = gradient_scale,
                                      .simplify = simplify_scale,
                                      .cost = cost_of_one};
static const struct qn_op offset_op = {.name = "offset",
                                       .outputs = 1,
                                       .attributes = sizeof(float),
                                       .infer = infer_real,
                                       .expression = "x0 + a0",
                                       .derivative = {"dy"},
                                       .simplify = simplify_offset,
                                       .cost = cost_of_one};
static const struct qn_op clamp_op = {
    .name = "clamp",
    .outputs = 1,
    .attributes = 2 * sizeof(float),
    .infer = infer_real,
    .expression = "SELECT(LT(x0, (floatv)(a0)), (floatv)(a0), SELECT(GT(x0, (floatv)(a1)), "
                  "(floatv)(a1), x0))",
    .derivative = {"SELECT(LT(x0, (floatv)(a0)), (floatv)(0.0f), SELECT(GT(x0, (floatv)(a1)), "
                   "(floatv)(0.0f), dy))"},
    .cost = cost_of_one};

qn_node *qn_scale(qn_node *x, double factor)
{
    return qn_node_new(&scale_op, &(float){(float)factor}, &x, 1);
}

qn_node *qn_offset(qn_node *x, double term)
{
    return qn_node_new(&offset_op, &(float){(float)term}, &x, 1);
}

qn_node *qn_clamp(qn_node *x, double low, double high)
{
    return qn_node_new(&clamp_op, (float[]){(float)low, (float)high}, &x, 1);
}

/* ---- Types ---- */

struct cast_attributes {
    enum qn_type type;
};

static bool infer_cast(qn_node *node)
{
    enum qn_type from = node->inputs[0]->outputs[0].type;
    enum qn_type to = ((const struct cast_attributes *)node->attributes)->type;
    if ((!type_is_real(from) && from != QN_I32) || (!type_is_real(to) && to != QN_I32))
        return qn_node_fail(node, "%s to %s: only f32, f16, bf16 and i32 are cast",
                            qn_type_name(from), qn_type_name(to));
    node->outputs[0] = (struct qn_value){to, *qn_in(node, 0)};
    return true;
}

static qn_node *simplify_cast(qn_node *node)
{
    return node->inputs[0]->outputs[0].type == node->outputs[0].type ? node->inputs[0] : node;
}

static void gradient_cast(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    bool is_real =
        type_is_real(node->outputs[0].type) && type_is_real(node->inputs[0]->outputs[0].type);
    d_in[0] = is_real ? d_out[0] : NULL; /* whole numbers have no gradient */
}

const struct qn_op cast_op = {.name = "cast",
                                     .outputs = 1,
                                     .attributes = sizeof(struct cast_attributes),
                                     .infer = infer_cast,
                                     .expression = "x0",
                                     .gradient = gradient_cast,
                                     .simplify = simplify_cast,
                                     .cost = cost_of_one};

qn_node *qn_cast(qn_node *x, enum qn_type type)
{
    return qn_node_new(&cast_op, &(struct cast_attributes){type}, &x, 1);
}

/* ---- Counting ---- */

struct range_attributes {
    uint64_t count;
};

static bool infer_range(qn_node *node)
{
    const struct range_attributes *range = node->attributes;
    if (range->count == 0 || range->count > INT32_MAX)
        return qn_node_fail(node, "%llu numbers do not count in i32",
                            (unsigned long long)range->count);
    node->outputs[0] = (struct qn_value){QN_I32, {1, {(size_t)range->count}}};
    return true;
}

static const struct qn_op range_op = {.name = "range",
                                      .outputs = 1,
                                      .attributes = sizeof(struct range_attributes),
                                      .infer = infer_range,
                                      .expression = "convert_intv(INDEX)",
                                      .cost = cost_of_one};

qn_node *qn_range(qn_graph *graph, size_t count)
{
    return graph ? node_new(graph, &range_op, &(struct range_attributes){count}, NULL, 0) : NULL;
}

qn_node *qn_one_hot(qn_node *ids, size_t classes)
{
    if (!ids)
        return NULL;
    qn_shape shape = *qn_out(ids, 0);
    if (shape.rank == QN_MAX_RANK) {
        qn_node_fail(ids, "one_hot: of ids of rank %d", shape.rank);
        return NULL;
    }
    shape.size[shape.rank++] = 1;
    return qn_equal(qn_reshape(ids, shape), qn_range(ids->graph, classes));
}

/* ---- Random numbers ---- */

static bool is_key(const char *name, qn_node *key, uint32_t stream)
{
    const qn_shape *shape = qn_out(key, 0);
    bool is_pair = key->outputs[0].type == QN_I32 && shape->rank == 1 && shape->size[0] == 2,
         is_stream = stream < 1u << 24;
    if (!is_pair)
        context_fail(key->graph->context, QN_ERROR_INVALID,
                     "%s: the key must be an i32 vector of two", name);
    else if (!is_stream)
        context_fail(key->graph->context, QN_ERROR_INVALID, "%s: stream %u is not below 2^24", name,
                     stream);
    return is_pair && is_stream;
}

/* The two words of a key, for each element. */
static void spread_key(qn_node *key, qn_shape shape, qn_node **seed, qn_node **step)
{
    *seed = qn_broadcast(qn_reshape(qn_slice(key, 0, 0, 1), QN_SCALAR), shape);
    *step = qn_broadcast(qn_reshape(qn_slice(key, 0, 1, 2), QN_SCALAR), shape);
}

static bool infer_random(qn_node *node)
{
    node->outputs[0] = (struct qn_value){QN_F32, *qn_in(node, 0)};
    return true;
}

static const struct qn_op uniform_op = {.name = "uniform",
                                        .outputs = 1,
                                        .attributes = sizeof(float),
                                        .infer = infer_random,
                                        .expression = "uniform_numbers(INDEX, a0, x0, x1)",
                                        .cost = cost_of_one};
static const struct qn_op normal_op = {.name = "normal",
                                       .outputs = 1,
                                       .attributes = sizeof(float),
                                       .infer = infer_random,
                                       .expression = "normal_numbers(INDEX, a0, x0, x1)",
                                       .cost = cost_of_one};

static qn_node *random_numbers(const struct qn_op *op, qn_shape shape, qn_node *key,
                               uint32_t stream)
{
    qn_node *operands[2];
    if (!key || !is_key(op->name, key, stream))
        return NULL;
    spread_key(key, shape, &operands[0], &operands[1]);
    return qn_node_new(op, &(float){(float)stream}, operands, 2);
}

qn_node *qn_uniform(qn_shape shape, qn_node *key, uint32_t stream)
{
    return random_numbers(&uniform_op, shape, key, stream);
}

qn_node *qn_normal(qn_shape shape, qn_node *key, uint32_t stream)
{
    return random_numbers(&normal_op, shape, key, stream);
}

/* ---- Dropout ---- */

static bool infer_dropout(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    return type_is_real(node->outputs[0].type) ||
           qn_node_fail(node, "of %s, not of real numbers", qn_type_name(node->outputs[0].type));
}

static qn_node *dropout(qn_node *x, const float *attributes, qn_node *seed, qn_node *step);

static void gradient_dropout(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    d_in[0] = dropout(d_out[0], node->attributes, node->inputs[1], node->inputs[2]);
}

static const struct qn_op dropout_op = {.name = "dropout",
                                        .outputs = 1,
                                        .attributes = 2 * sizeof(float),
                                        .infer = infer_dropout,
                                        .expression = "x0 * dropout_factor(INDEX, a0, a1, x1, x2)",
                                        .gradient = gradient_dropout,
                                        .cost = cost_of_one};

static qn_node *dropout(qn_node *x, const float *attributes, qn_node *seed, qn_node *step)
{
    return qn_node_new(&dropout_op, attributes, (qn_node *[]){x, seed, step}, 3);
}

qn_node *qn_dropout(qn_node *x, double p, qn_node *key, uint32_t stream)
{
    if (!x || !key)
        return NULL;
    if (p == 0)
        return x;
    if (!(p > 0 && p < 1)) {
        qn_node_fail(x, "dropout: p is %g, which is not in [0, 1)", p);
        return NULL;
    }
    qn_node *seed, *step;
    if (!is_key("dropout", key, stream))
        return NULL;
    spread_key(key, *qn_out(x, 0), &seed, &step);
    return dropout(x, (float[]){(float)p, (float)stream}, seed, step);
}

/* PyTorch's values and gradients: ../shared/golden, which a README there explains; found through
 * $QUERN_SHARED.  Errors are measured as it says, tolerances are those of its index.json. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <quern/io.h>
#include <quern/train.h>

#include "device/context.h"
#include "graph/graph.h"

#include "tap.h"

#include "golden.h"
#include "open.h"

enum { MAX_INPUTS = 5 };

/* ---- Building the operations ---- */

struct operation {
    const char *file;
    const char *inputs[MAX_INPUTS]; /* one that the file does not have is NULL for `build` */
    qn_node *(*build)(json_t *parameters, qn_node *const *x);
    qn_node *(*one)(qn_node *x); /* instead, of one input and no parameters */
};

static bool is_set(json_t *parameters, const char *name)
{
    return json_is_true(json_object_get(parameters, name));
}

static qn_node *build_layer_norm(json_t *parameters, qn_node *const *x)
{
    return qn_layer_norm(x[0], x[1], x[2], number(parameters, "eps"));
}
static qn_node *build_softmax(json_t *parameters, qn_node *const *x)
{
    return qn_softmax(x[0], (int)number(parameters, "dim"));
}
static qn_node *build_cross_entropy(json_t *parameters, qn_node *const *x)
{
    const char *reduction = json_string_value(json_object_get(parameters, "reduction"));
    return qn_cross_entropy_with(
        x[0], x[1],
        (struct qn_cross_entropy){.ignore_index = (int32_t)number(parameters, "ignore_index"),
                                  .label_smoothing = (float)number(parameters, "label_smoothing"),
                                  .sum = strcmp(reduction, "sum") == 0});
}
static qn_node *build_embedding(json_t *parameters, qn_node *const *x)
{
    json_t *padding = json_object_get(parameters, "padding_idx");
    return json_is_integer(padding)
               ? qn_embedding_padded(x[0], x[1], (int32_t)json_integer_value(padding))
               : qn_embedding(x[0], x[1]);
}
static qn_node *build_matmul(json_t *parameters, qn_node *const *x)
{
    qn_node *y =
        qn_matmul_with(x[0], x[1],
                       (struct qn_matmul){.transpose_a = is_set(parameters, "transpose_a"),
                                          .transpose_b = is_set(parameters, "transpose_b")});
    return x[2] ? qn_add(y, x[2]) : y;
}
/* The files have (B, H, T, D). */
static qn_node *build_attention(json_t *parameters, qn_node *const *x)
{
    struct qn_attention options = {.is_causal = is_set(parameters, "causal"),
                                   .window = (size_t)number(parameters, "window"),
                                   .lengths = x[3],
                                   .slopes = x[4]};
    qn_node *y = qn_attention(qn_transpose(x[0], 1, 2), qn_transpose(x[1], 1, 2),
                              qn_transpose(x[2], 1, 2), options);
    return qn_transpose(y, 1, 2);
}

static qn_node *build_rms_norm(json_t *parameters, qn_node *const *x)
{
    return qn_rms_norm(x[0], x[1], number(parameters, "eps"));
}
static qn_node *build_log_softmax(json_t *parameters, qn_node *const *x)
{
    return qn_log_softmax(x[0], (int)number(parameters, "dim"));
}
static qn_node *build_swiglu(json_t *parameters, qn_node *const *x)
{
    (void)parameters;
    return qn_swiglu(x[0], x[1]);
}
static bool is_word(json_t *parameters, const char *name, const char *word)
{
    return strcmp(json_string_value(json_object_get(parameters, name)), word) == 0;
}
static qn_node *build_rotary(json_t *parameters, qn_node *const *x)
{
    struct qn_rotary options = {.theta = number(parameters, "theta"),
                                .size = (size_t)number(parameters, "rotary_dim"),
                                .is_interleaved = is_word(parameters, "convention", "interleaved")};
    return qn_transpose(qn_rotary(qn_transpose(x[0], 1, 2), x[1], options), 1, 2);
}
static qn_node *build_sinusoidal(json_t *parameters, qn_node *const *x)
{
    return qn_sinusoidal(x[0], (size_t)number(parameters, "dim"),
                         is_word(parameters, "layout", "halves"));
}

static const struct operation operations[] = {
    {"rms_norm", {"x", "weight"}, .build = build_rms_norm},
    {"log_softmax", {"x"}, .build = build_log_softmax},
    {"gelu_erf", {"x"}, .one = qn_gelu_erf},
    {"silu", {"x"}, .one = qn_silu},
    {"swiglu", {"gate", "up"}, .build = build_swiglu},
    {"rotary", {"x", "positions"}, .build = build_rotary},
    {"sinusoidal", {"positions"}, .build = build_sinusoidal},
    {"softmax", {"x"}, .build = build_softmax},
    {"layer_norm", {"x", "weight", "bias"}, .build = build_layer_norm},
    {"cross_entropy", {"logits", "target"}, .build = build_cross_entropy},
    {"embedding", {"weight", "ids"}, .build = build_embedding},
    {"matmul", {"a", "b", "bias"}, .build = build_matmul},
    {"gelu_tanh", {"x"}, .one = qn_gelu},
    {"relu", {"x"}, .one = qn_relu},
    {"sigmoid", {"x"}, .one = qn_sigmoid},
    {"tanh", {"x"}, .one = qn_tanh},
#define ATTENTION(name)                                                                            \
    {                                                                                              \
        "attention_" name, {"q", "k", "v", "lengths", "slopes"}, .build = build_attention          \
    }
    ATTENTION("plain"),
    ATTENTION("causal"),
    ATTENTION("padded"),
    ATTENTION("causal_padded"),
    ATTENTION("cross"),
    ATTENTION("grouped"),
    ATTENTION("window"),
    ATTENTION("alibi"),
    ATTENTION("cached"),
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* ---- Cases ---- */

struct tensor {
    const char *name; /* of the input whose gradient it is; NULL: the output */
    qn_node *node;
    float *expected;
    size_t count;
};

struct test {
    const struct operation *operation;
    const char *name;
    json_t *tolerance;
    qn_node *input[MAX_INPUTS], *seed;
    void *values[MAX_INPUTS], *seed_values;
    struct tensor out, gradients[MAX_INPUTS];
    size_t n_gradients;
};

static struct tensor expectation(const qn_safetensors *file, const char *prefix, const char *name,
                                 const char *input, qn_node *node)
{
    const struct qn_file_tensor *tensor = find(file, prefix, name);
    if (!tensor)
        bail_out("%s%s is not in the file", prefix, name);
    return (struct tensor){input, node, values_of(file, tensor), qn_shape_count(tensor->shape)};
}

static void build(struct test *test, qn_graph *graph, const qn_safetensors *file,
                  json_t *parameters)
{
    const struct operation *operation = test->operation;
    char prefix[128], name[128];
    qn_node *wrt[MAX_INPUTS], *found[MAX_INPUTS];
    const char *names[MAX_INPUTS];
    size_t n_wrt = 0;
    snprintf(prefix, sizeof prefix, "%s.", test->name);
    for (int i = 0; i < MAX_INPUTS && operation->inputs[i]; i++) {
        const struct qn_file_tensor *tensor = find(file, prefix, operation->inputs[i]);
        if (!tensor)
            continue;
        enum qn_type type = tensor->type[0] == 'I' ? QN_I32 : QN_F32;
        test->values[i] = values_of(file, tensor);
        test->input[i] = qn_input(graph, operation->inputs[i], type, tensor->shape);
        snprintf(name, sizeof name, "grad_%s", operation->inputs[i]);
        if (find(file, prefix, name)) {
            names[n_wrt] = operation->inputs[i];
            wrt[n_wrt++] = test->input[i];
        }
    }
    qn_node *out =
        operation->one ? operation->one(test->input[0]) : operation->build(parameters, test->input);
    test->out = expectation(file, prefix, "out", NULL, out);
    if (!out || n_wrt == 0)
        return;
    test->seed = qn_input(graph, "grad_out", QN_F32, qn_node_shape(out));
    test->seed_values = values_of(file, find(file, prefix, "grad_out"));
    qn_gradients(out, test->seed, wrt, n_wrt, found);
    for (size_t i = 0; i < n_wrt; i++) {
        snprintf(name, sizeof name, "grad_%s", names[i]);
        test->gradients[test->n_gradients++] = expectation(file, prefix, name, names[i], found[i]);
    }
}

static void compare(qn_plan *plan, const struct test *test, const struct tensor *tensor,
                    double group)
{
    double tolerance = number(test->tolerance, tensor->name ? "grad" : "out");
    double most = greatest(tensor->expected, tensor->count), scale = fmax(most, group / 1000);
    json_t *zero = json_object_get(test->tolerance, "zero_grad");
    if (zero && tensor->name && most < 1e-6 * group) {
        scale = group; /* what is stored is noise: measured by the largest of all gradients */
        tolerance = json_number_value(zero);
    }
    float *found = memory(tensor->count);
    size_t where = 0;
    if (qn_shape_count(qn_node_shape(tensor->node)) == tensor->count)
        qn_get(plan, tensor->node, found);
    double error =
        difference(found, tensor->expected, tensor->count, &where) / (scale > 0 ? scale : 1);
    const char *gradient = tensor->name ? ", gradient of " : "";
    if (!ok(error <= tolerance, "%s %s%s%s: error %.1e, allowed %.1e", test->operation->file,
            test->name, gradient, tensor->name ? tensor->name : "", error, tolerance))
        note("at %zu: found %.9g, expected %.9g", where, (double)found[where],
             (double)tensor->expected[where]);
    free(found);
}

static void compare_all(qn_plan *plan, const struct test *test)
{
    compare(plan, test, &test->out, greatest(test->out.expected, test->out.count));
    double group = 0;
    for (size_t i = 0; i < test->n_gradients; i++)
        group = fmax(group, greatest(test->gradients[i].expected, test->gradients[i].count));
    for (size_t i = 0; i < test->n_gradients; i++)
        compare(plan, test, &test->gradients[i], group);
}

static void test_free(struct test *test)
{
    for (int i = 0; i < MAX_INPUTS; i++)
        free(test->values[i]);
    free(test->seed_values);
    free(test->out.expected);
    for (size_t i = 0; i < test->n_gradients; i++)
        free(test->gradients[i].expected);
}

/* ---- A file: all its cases in one plan ---- */

enum { MAX_CASES = 32 };

static size_t build_all(const struct operation *operation, json_t *cases, qn_graph *graph,
                        struct test *tests)
{
    char path[128];
    size_t count = 0, index;
    snprintf(path, sizeof path, "ops/%s.safetensors", operation->file);
    qn_safetensors *file = open_file(graph->context, path);
    json_t *entry;
    json_array_foreach (cases, index, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "file")), path) != 0)
            continue;
        const char *name = json_string_value(json_object_get(entry, "case"));
        json_t *parameters = json_object_get(entry, "params");
        struct test *test = &tests[count++];
        *test = (struct test){
            .operation = operation, .name = name, .tolerance = json_object_get(entry, "tolerance")};
        build(test, graph, file, parameters);
    }
    qn_safetensors_close(file);
    return count;
}

static void test_operation(qn_context *context, const struct operation *operation, json_t *cases)
{
    struct test tests[MAX_CASES];
    qn_node *roots[MAX_CASES * (MAX_INPUTS + 1)];
    size_t n_roots = 0;
    qn_graph *graph = qn_graph_new(context);
    size_t count = build_all(operation, cases, graph, tests);
    for (size_t i = 0; i < count; i++) {
        roots[n_roots++] = tests[i].out.node;
        for (size_t j = 0; j < tests[i].n_gradients; j++)
            roots[n_roots++] = tests[i].gradients[j].node;
    }
    qn_plan *plan = qn_plan_new(graph, roots, n_roots);
    for (size_t i = 0; plan && i < count; i++) {
        for (int j = 0; j < MAX_INPUTS; j++)
            if (tests[i].input[j])
                qn_set(plan, tests[i].input[j], tests[i].values[j]);
        if (tests[i].seed)
            qn_set(plan, tests[i].seed, tests[i].seed_values);
    }
    bool ran = plan && qn_run(plan) == QN_OK;
    for (size_t i = 0; ran && i < count; i++)
        compare_all(plan, &tests[i]);
    if (!ran || *qn_error(context)) {
        ok(false, "%s: %s", operation->file, qn_error(context));
        qn_clear_error(context);
    }
    for (size_t i = 0; i < count; i++)
        test_free(&tests[i]);
    qn_plan_free(plan);
    qn_graph_free(graph);
}

/* ---- Optimizers ---- */

enum { PARAMETERS = 2, STEPS = 6, MOST_WRITES = 1 + QN_OPTIMIZER_STATES };

/* One of the parameters, what is kept of it, and the nodes of a step of them. */
struct parameter {
    const char *name;
    qn_tensor *tensors[MOST_WRITES]; /* the first one is the parameter */
    qn_node *gradient, *writes[MOST_WRITES];
    size_t count, n_tensors;
};

static double number_or(json_t *parameters, const char *name, double otherwise)
{
    json_t *found = json_object_get(parameters, name);
    return found ? json_number_value(found) : otherwise;
}

static double element(json_t *parameters, const char *name, size_t index, double otherwise)
{
    json_t *found = json_object_get(parameters, name);
    return json_is_array(found) ? json_number_value(json_array_get(found, index)) : otherwise;
}

static struct qn_optimizer optimizer_of(const char *name, json_t *parameters)
{
    static const struct {
        const char *begin;
        enum qn_optimizer_kind kind;
    } kinds[] = {{"adamw", QN_ADAMW},     {"adam", QN_ADAM},       {"sgd", QN_SGD},
                 {"rmsprop", QN_RMSPROP}, {"adagrad", QN_ADAGRAD}, {"adafactor", QN_ADAFACTOR},
                 {"muon", QN_MUON}};
    size_t i = 0;
    while (strncmp(name, kinds[i].begin, strlen(kinds[i].begin)) != 0)
        i++;
    struct qn_optimizer optimizer = qn_optimizer_defaults(kinds[i].kind);
    optimizer.weight_decay = number(parameters, "weight_decay");
    optimizer.epsilon = element(parameters, "eps", 0, number(parameters, "eps"));
    optimizer.beta1 = element(parameters, "betas", 0, optimizer.beta1);
    optimizer.beta2 =
        number_or(parameters, "alpha", element(parameters, "betas", 1, optimizer.beta2));
    optimizer.momentum = number(parameters, "momentum");
    optimizer.is_nesterov = is_set(parameters, "nesterov");
    optimizer.is_centered = is_set(parameters, "centered");
    optimizer.rate_decay = number(parameters, "lr_decay");
    optimizer.initial_sum = number(parameters, "initial_accumulator_value");
    optimizer.beta2_decay = number(parameters, "beta2_decay");
    optimizer.least_rms = element(parameters, "eps", 1, 0);
    optimizer.most_rms = number(parameters, "d");
    json_t *rule = json_object_get(parameters, "adjust_lr_fn");
    optimizer.matches_adamw = rule && strcmp(json_string_value(rule), "match_rms_adamw") == 0;
    return optimizer;
}

/* The parameter that is the file's number `index`, in the order of names. */
static struct parameter parameter_new(qn_graph *graph, const qn_safetensors *file, size_t index,
                                      const struct qn_optimizer *optimizer)
{
    static const char *const names[] = {"w", "b", "u"};
    size_t i = 0;
    while (!find(file, "init.", names[i]) || index-- > 0)
        i++;
    const struct qn_file_tensor *tensor = find(file, "init.", names[i]);
    struct parameter parameter = {
        .name = names[i], .count = qn_shape_count(tensor->shape), .n_tensors = 1};
    struct qn_optimizer_state states[QN_OPTIMIZER_STATES];
    size_t n_states = qn_optimizer_states(optimizer, tensor->shape, states);
    parameter.tensors[0] = qn_tensor_new(graph->context, names[i], QN_F32, tensor->shape);
    for (size_t j = 0; j < n_states; j++) {
        qn_tensor *state = qn_tensor_new(graph->context, states[j].name, QN_F32, states[j].shape);
        qn_fill(state, states[j].initial);
        parameter.tensors[parameter.n_tensors++] = state;
    }
    float *values = values_of(file, tensor);
    qn_tensor_write(parameter.tensors[0], values);
    free(values);
    parameter.gradient = qn_input(graph, names[i], QN_F32, tensor->shape);
    return parameter;
}

static void update(struct parameter *parameter, const struct qn_optimizer *optimizer,
                   struct qn_update numbers)
{
    qn_graph *graph = parameter->gradient->graph;
    qn_node *values[MOST_WRITES];
    for (size_t i = 0; i < parameter->n_tensors; i++)
        values[i] = qn_leaf(graph, parameter->tensors[i]);
    values[0] = qn_optimizer_update(optimizer, values[0], parameter->gradient, numbers, values + 1);
    for (size_t i = 0; i < parameter->n_tensors; i++)
        parameter->writes[i] = qn_assign(parameter->tensors[i], values[i]);
}

/* The error of the parameters after step n, by the scale of the group. */
static void compare_step(const struct parameter *parameters, const qn_safetensors *file,
                         const char *name, int n, double tolerance)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "step.%d.", n);
    float *expected[PARAMETERS];
    double group = 0, worst = 0;
    for (int i = 0; i < PARAMETERS; i++) {
        expected[i] = values_of(file, find(file, prefix, parameters[i].name));
        group = fmax(group, greatest(expected[i], parameters[i].count));
    }
    for (int i = 0; i < PARAMETERS; i++) {
        float *found = memory(parameters[i].count);
        size_t where = 0;
        qn_tensor_read(parameters[i].tensors[0], found);
        double scale = fmax(greatest(expected[i], parameters[i].count), group / 1000);
        worst = fmax(worst, difference(found, expected[i], parameters[i].count, &where) / scale);
        free(found);
        free(expected[i]);
    }
    ok(worst <= tolerance, "%s, step %d: error %.1e, allowed %.1e", name, n, worst, tolerance);
}

static void test_optimizer(qn_context *context, const char *name, json_t *cases)
{
    json_t *entry = find_case(cases, name), *options = json_object_get(entry, "params");
    double tolerance = number(json_object_get(entry, "tolerance"), "out");
    char path[128];
    snprintf(path, sizeof path, "optim/%s.safetensors", name);
    qn_safetensors *file = open_file(context, path);
    qn_graph *graph = qn_graph_new(context);
    struct parameter parameters[PARAMETERS];
    struct qn_optimizer optimizer = optimizer_of(name, options);
    qn_node *t = qn_input(graph, "t", QN_F32, QN_SCALAR), *squares = NULL;
    for (int i = 0; i < PARAMETERS; i++) {
        parameters[i] = parameter_new(graph, file, (size_t)i, &optimizer);
        qn_node *sum = qn_sum_squares(parameters[i].gradient);
        squares = squares ? qn_add(squares, sum) : sum;
    }
    qn_node *norm = qn_sqrt(squares), *scale = qn_constant(graph, 1);
    if (json_object_get(options, "max_norm"))
        scale = qn_minimum(
            scale, qn_div(qn_constant(graph, number(options, "max_norm")), qn_offset(norm, 1e-6)));
    struct qn_update numbers = {qn_constant(graph, number(options, "lr")), scale, t,
                                qn_constant(graph, 1)};
    qn_node *roots[MOST_WRITES * PARAMETERS + 1] = {norm};
    size_t n_roots = 1;
    for (int i = 0; i < PARAMETERS; i++) {
        update(&parameters[i], &optimizer, numbers);
        for (size_t j = 0; j < parameters[i].n_tensors; j++)
            roots[n_roots++] = parameters[i].writes[j];
    }
    qn_plan *plan = qn_plan_new(graph, roots, n_roots);
    for (int n = 1; plan && n <= STEPS; n++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "grad.%d.", n);
        for (int i = 0; i < PARAMETERS; i++) {
            float *gradient = values_of(file, find(file, prefix, parameters[i].name));
            qn_set(plan, parameters[i].gradient, gradient);
            free(gradient);
        }
        qn_set(plan, t, &(float){(float)n});
        qn_run(plan);
        compare_step(parameters, file, name, n, tolerance);
        snprintf(prefix, sizeof prefix, "norm.%d", n);
        if (!find(file, "", prefix))
            continue;
        float *expected = values_of(file, find(file, "", prefix));
        double error = fabs((double)qn_get_f32(plan, norm) / (double)*expected - 1);
        ok(error <= tolerance, "%s, norm %d: error %.1e, allowed %.1e", name, n, error, tolerance);
        free(expected);
    }
    if (!plan || *qn_error(context)) {
        ok(false, "%s: %s", name, qn_error(context));
        qn_clear_error(context);
    }
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_safetensors_close(file);
    for (int i = 0; i < PARAMETERS; i++)
        for (size_t j = 0; j < parameters[i].n_tensors; j++)
            qn_tensor_free(parameters[i].tensors[j]);
}

/* ---- Schedules ---- */

static enum qn_schedule_kind kind_of(const char *name)
{
    static const char *const names[] = {
        [QN_COSINE] = "cosine",     [QN_LINEAR] = "linear",
        [QN_CONSTANT] = "constant", [QN_INVERSE_SQRT] = "inverse_sqrt",
        [QN_STEPS] = "step",        [QN_NOAM] = "noam"};
    size_t i = 0;
    while (strcmp(name, names[i]) != 0)
        i++;
    return (enum qn_schedule_kind)i;
}

static void test_schedule(qn_context *context, json_t *schedule, size_t number_of_it,
                          double tolerance)
{
    const char *name = json_string_value(json_object_get(schedule, "name"));
    json_t *options = json_object_get(schedule, "params"),
           *steps = json_object_get(schedule, "steps");
    json_t *rates = json_object_get(schedule, "lr");
    qn_graph *graph = qn_graph_new(context);
    qn_node *step = qn_input(graph, "step", QN_F32, QN_SCALAR);
    struct qn_schedule shape = {.kind = kind_of(name),
                                .rate = number_or(options, "lr", number(options, "factor")),
                                .min_rate = number(options, "min_lr"),
                                .warmup = number(options, "warmup_steps"),
                                .total = number(options, "total_steps"),
                                .period = number(options, "step_size"),
                                .gamma = number(options, "gamma"),
                                .width = number(options, "d_model")};
    bool from_one = shape.kind == QN_NOAM; /* its steps count from 1 */
    qn_node *rate = qn_learning_rate(step, shape);
    qn_plan *plan = qn_plan_new(graph, &rate, 1);
    double worst = plan ? 0 : INFINITY, most = 0;
    for (size_t i = 0; plan && i < json_array_size(steps); i++) {
        double at = json_number_value(json_array_get(steps, i)) - from_one;
        qn_set(plan, step, &(float){(float)at});
        qn_run(plan);
        double expected = json_number_value(json_array_get(rates, i));
        worst = fmax(worst, fabs((double)qn_get_f32(plan, rate) - expected));
        most = fmax(most, expected);
    }
    ok(worst <= tolerance * most && !*qn_error(context),
       "%s schedule %zu, %zu steps: error %.1e, allowed %.1e", name, number_of_it,
       json_array_size(steps), worst / most, tolerance);
    if (*qn_error(context))
        note("%s", qn_error(context));
    qn_clear_error(context);
    qn_plan_free(plan);
    qn_graph_free(graph);
}

static void test_schedules(qn_context *context, json_t *cases)
{
    json_t *entry = find_case(cases, "schedules"), *schedule;
    char path[sizeof golden_folder + 64];
    json_error_t error;
    size_t index;
    snprintf(path, sizeof path, "%s/optim/schedules.json", golden_folder);
    json_t *file = json_load_file(path, 0, &error);
    json_array_foreach (json_object_get(file, "schedules"), index, schedule)
        test_schedule(context, schedule, index, number(json_object_get(entry, "tolerance"), "lr"));
    json_decref(file);
}

/* ---- All ---- */

int main(void)
{
    json_t *index = read_index();
    if (!index) {
        skip("PyTorch's values are not there: $QUERN_SHARED is the folder that has "
             "golden/index.json");
        return done_testing();
    }
    qn_context *context = open_device_or_bail_out();
    json_t *cases = json_object_get(index, "cases");
    for (size_t i = 0; i < OPERATIONS; i++)
        test_operation(context, &operations[i], cases);
    size_t number_of_it;
    json_t *entry;
    json_array_foreach (cases, number_of_it, entry) {
        const char *file = json_string_value(json_object_get(entry, "file"));
        if (strncmp(file, "optim/", 6) == 0 && strstr(file, ".safetensors"))
            test_optimizer(context, json_string_value(json_object_get(entry, "case")), cases);
    }
    test_schedules(context, cases);
    qn_close(context);
    json_decref(index);
    return done_testing();
}

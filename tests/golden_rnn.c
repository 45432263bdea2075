/* Recurrent layers against PyTorch: what golden.h explains, of ../shared/golden/rnn. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/nn.h>

#include "device/context.h"

#include "tap.h"

#include "golden.h"
#include "open.h"

enum { MOST_LEAVES = 20 };

static qn_context *context;

/* A value that the file has, and the node that should give it. */
struct expected {
    char name[64];
    qn_node *node;
};

static qn_node *leaf_of(qn_graph *graph, const qn_safetensors *file, const char *name)
{
    const struct qn_file_tensor *tensor = find(file, "", name);
    if (!tensor)
        return NULL;
    bool is_integer = tensor->type[0] == 'I';
    void *values = values_of(file, tensor);
    qn_tensor *copy = qn_tensor_new(context, name, is_integer ? QN_I32 : QN_F32, tensor->shape);
    if (!copy || qn_tensor_write(copy, values) != QN_OK)
        bail_out("%s", qn_error(context));
    free(values);
    return qn_leaf(graph, copy); /* tensors go with the process */
}

static enum qn_cell cell_of(const char *kind)
{
    return strcmp(kind, "lstm") == 0       ? QN_LSTM
           : strcmp(kind, "gru") == 0      ? QN_GRU
           : strcmp(kind, "rnn_relu") == 0 ? QN_RNN_RELU
                                           : QN_RNN_TANH;
}

static qn_store *parameters_of(const qn_safetensors *file, const struct qn_rnn_config *config,
                               qn_rnn **rnn)
{
    qn_store *store = qn_store_new(context, "parameters");
    *rnn = qn_rnn_add(store, "", config);
    if (!*rnn || qn_store_seal(store) != QN_OK)
        bail_out("%s", qn_error(context));
    for (size_t i = 0; i < qn_store_count(store); i++) {
        qn_tensor *tensor = qn_store_tensor(store, i);
        float *values = values_of(file, find(file, "", qn_tensor_name(tensor)));
        if (qn_tensor_write(tensor, values) != QN_OK)
            bail_out("%s", qn_error(context));
        free(values);
    }
    return store;
}

/* The sum of all outputs times their upstream gradients. */
static qn_node *weighted_sum(qn_graph *graph, const qn_safetensors *file,
                             const struct expected *outputs, size_t count)
{
    qn_node *sum = NULL;
    for (size_t i = 0; i < count; i++) {
        char name[80];
        snprintf(name, sizeof name, "grad_%s", outputs[i].name);
        qn_node *part = qn_sum(qn_mul(outputs[i].node, leaf_of(graph, file, name)), QN_ALL);
        sum = sum ? qn_add(sum, part) : part;
    }
    return sum;
}

static double worst_error(qn_plan *plan, const qn_safetensors *file,
                          const struct expected *expected, size_t count)
{
    double group = 0, worst = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < count; i++) {
            const struct qn_file_tensor *tensor = find(file, "", expected[i].name);
            size_t elements = qn_shape_count(tensor->shape), where;
            float *right = values_of(file, tensor), *found = memory(elements);
            double scale = fmax(greatest(right, elements), group / 1000);
            if (pass == 0)
                group = fmax(group, scale);
            else if (!qn_shape_equal(tensor->shape, qn_node_shape(expected[i].node)) ||
                     qn_get(plan, expected[i].node, found) != QN_OK)
                worst = INFINITY;
            else
                worst = fmax(worst, difference(found, right, elements, &where) / scale);
            free(right);
            free(found);
        }
    return worst;
}

/* Layers of a file: their parameters, what goes in, and what should come out. */
struct test {
    const qn_safetensors *file;
    struct qn_rnn_config config;
    qn_rnn *rnn;
    qn_store *store;
    qn_graph *graph;
    qn_node *leaves[MOST_LEAVES]; /* x, h_0, c_0 (LSTM), parameters */
    struct expected outputs[3], slopes[MOST_LEAVES];
    size_t n_leaves, n_outputs;
};

static void add_leaf(struct test *test, qn_node *leaf, const char *name)
{
    snprintf(test->slopes[test->n_leaves].name, sizeof test->slopes->name, "grad_%.50s", name);
    test->leaves[test->n_leaves++] = leaf;
}

static void add_leaves(struct test *test)
{
    static const char *const inputs[] = {"x", "h_0", "c_0"};
    for (size_t i = 0; i < (test->config.cell == QN_LSTM ? 3 : 2); i++)
        add_leaf(test, leaf_of(test->graph, test->file, inputs[i]), inputs[i]);
    for (size_t i = 0; i < qn_store_count(test->store); i++) {
        qn_tensor *tensor = qn_store_tensor(test->store, i);
        add_leaf(test, qn_leaf(test->graph, tensor), qn_tensor_name(tensor));
    }
}

/* The files have (B, T, ...). */
static void build(struct test *test)
{
    bool is_lstm = test->config.cell == QN_LSTM;
    struct qn_rnn_forward forward = {.h_0 = test->leaves[1],
                                     .c_0 = is_lstm ? test->leaves[2] : NULL,
                                     .lengths = leaf_of(test->graph, test->file, "lengths")};
    struct qn_sequence y = qn_rnn_apply(test->rnn, qn_transpose(test->leaves[0], 0, 1), forward);
    test->outputs[test->n_outputs++] = (struct expected){"out", qn_transpose(y.out, 0, 1)};
    test->outputs[test->n_outputs++] = (struct expected){"h_n", y.h_n};
    if (is_lstm)
        test->outputs[test->n_outputs++] = (struct expected){"c_n", y.c_n};
    qn_node *gradients[MOST_LEAVES],
        *sum = weighted_sum(test->graph, test->file, test->outputs, test->n_outputs);
    qn_gradients(sum, NULL, test->leaves, test->n_leaves, gradients);
    for (size_t i = 0; i < test->n_leaves; i++)
        test->slopes[i].node = gradients[i];
}

static qn_plan *plan_of(const struct test *test)
{
    qn_node *roots[3 + MOST_LEAVES];
    size_t count = 0;
    for (size_t i = 0; i < test->n_outputs; i++)
        roots[count++] = test->outputs[i].node;
    for (size_t i = 0; i < test->n_leaves; i++)
        roots[count++] = test->slopes[i].node;
    return qn_plan_new(test->graph, roots, count);
}

static void compare(const char *name, const char *what, qn_plan *plan, const struct test *test,
                    const struct expected *expected, size_t count, double allowed)
{
    double error = worst_error(plan, test->file, expected, count);
    ok(error <= allowed, "%s, %zu %s: error %.1e, allowed %.1e", name, count, what, error, allowed);
}

static void test_layers(json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "case"));
    json_t *parameters = json_object_get(entry, "params"),
           *tolerance = json_object_get(entry, "tolerance");
    qn_safetensors *file = open_file(context, json_string_value(json_object_get(entry, "file")));
    struct test test = {
        .file = file,
        .graph = qn_graph_new(context),
        .config = {.cell = cell_of(json_string_value(json_object_get(parameters, "kind"))),
                   .inputs = find(file, "", "x")->shape.size[2],
                   .units = find(file, "", "h_0")->shape.size[2],
                   .layers = (size_t)number(parameters, "layers"),
                   .is_bidirectional = json_is_true(json_object_get(parameters, "bidirectional"))}};
    test.store = parameters_of(file, &test.config, &test.rnn);
    add_leaves(&test);
    build(&test);
    qn_plan *plan = plan_of(&test);
    if (ok(plan && qn_run(plan) == QN_OK, "%s runs", name)) {
        compare(name, "outputs", plan, &test, test.outputs, test.n_outputs,
                number(tolerance, "out"));
        compare(name, "gradients", plan, &test, test.slopes, test.n_leaves,
                number(tolerance, "grad"));
    } else {
        note("%s", qn_error(context));
        qn_clear_error(context);
    }
    qn_plan_free(plan);
    qn_graph_free(test.graph);
    qn_rnn_free(test.rnn);
    qn_store_free(test.store);
    qn_safetensors_close(file);
}

int main(void)
{
    json_t *index = read_index(), *entry;
    size_t i;
    if (!index) {
        skip("PyTorch's values are not there: $QUERN_SHARED is the folder that has "
             "golden/index.json");
        return done_testing();
    }
    context = open_device_or_bail_out();
    json_array_foreach (json_object_get(index, "cases"), i, entry) {
        if (strncmp(json_string_value(json_object_get(entry, "file")), "rnn/", 4) == 0)
            test_layers(entry);
    }
    qn_close(context);
    json_decref(index);
    return done_testing();
}

/* Values of named nodes, as files of NumPy's. */
#include "cli/dump.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* A model on the first window of a data set, and the nodes that are wanted of it. */
struct dump {
    const struct model *model;
    const struct options *options;
    qn_graph *graph;
    qn_node *inputs, *targets;
    qn_node **wanted; /* for each option */
    const char **paths;
    size_t count;
    qn_plan *plan;
};

bool dump_lists(const struct options *options)
{
    for (size_t i = 0; i < options_count(options, "dump"); i++)
        if (strcmp(options_at(options, "dump", i), "list") == 0)
            return true;
    return false;
}

static void build(struct dump *dump)
{
    const struct model *model = dump->model;
    qn_shape shape = QN_SHAPE(1, qn_lm_config(model->lm)->n_positions);
    dump->graph = qn_graph_new(model->qn);
    dump->inputs = qn_input(dump->graph, "inputs", QN_I32, shape);
    dump->targets = qn_input(dump->graph, "targets", QN_I32, shape);
    qn_node *logits = qn_lm_logits(model->lm, dump->inputs, (struct qn_lm_forward){0});
    qn_named(qn_cross_entropy(logits, dump->targets), "loss");
}

static int list(const struct dump *dump)
{
    const char *name;
    for (size_t i = 0; (name = qn_graph_name(dump->graph, i)); i++) {
        const qn_node *node = qn_graph_find(dump->graph, name);
        qn_shape shape = qn_node_shape(node);
        printf("%s %s [", name, qn_type_name(qn_node_type(node)));
        for (int j = 0; j < shape.rank; j++)
            printf("%s%zu", j ? "," : "", shape.size[j]);
        printf("]\n");
    }
    return EXIT_SUCCESS;
}

/* NAME=FILE */
static int find_wanted(struct dump *dump, size_t index)
{
    const char *word = options_at(dump->options, "dump", index), *equals = strchr(word, '=');
    char quoted[QUOTED], *name = equals ? strndup(word, (size_t)(equals - word)) : NULL;
    int status = EXIT_SUCCESS;
    dump->wanted[index] = qn_graph_find(dump->graph, name);
    dump->paths[index] = equals ? equals + 1 : "";
    if (!equals || equals == word || !equals[1])
        status = usage_error(dump->options, "--dump: %s is neither NAME=FILE nor list",
                             quote_string(quoted, word));
    else if (!dump->wanted[index])
        status = failure(dump->options,
                         "--dump: the model has no node %s; --dump list prints their names",
                         quote_string(quoted, name ? name : word));
    free(name);
    return status;
}

static int run(struct dump *dump, const qn_dataset *dataset)
{
    size_t count = qn_shape_count(qn_node_shape(dump->inputs));
    int32_t *ids = calloc(2 * count, sizeof *ids);
    if (!ids)
        return QN_ERROR_MEMORY;
    qn_dataset_sequential(dataset, 0, 1, ids, ids + count);
    int status = qn_set(dump->plan, dump->inputs, ids);
    if (status == QN_OK)
        status = qn_set(dump->plan, dump->targets, ids + count);
    free(ids);
    return status == QN_OK ? qn_run(dump->plan) : status;
}

static int write_value(const struct dump *dump, size_t index)
{
    const qn_node *node = dump->wanted[index];
    qn_shape shape = qn_node_shape(node);
    enum qn_type type = qn_node_type(node);
    void *values = malloc(qn_type_bytes(type, qn_shape_count(shape)));
    int status = values ? qn_get(dump->plan, node, values) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = qn_npy_write(dump->model->qn, dump->paths[index], type, shape, values);
    free(values);
    return status;
}

static int write_all(struct dump *dump, const qn_dataset *dataset)
{
    int status = EXIT_SUCCESS;
    for (size_t i = 0; status == EXIT_SUCCESS && i < dump->count; i++)
        status = find_wanted(dump, i);
    if (status != EXIT_SUCCESS)
        return status;
    dump->plan = qn_plan_new(dump->graph, dump->wanted, dump->count);
    bool ok = dump->plan && run(dump, dataset) == QN_OK;
    for (size_t i = 0; ok && i < dump->count; i++)
        ok = write_value(dump, i) == QN_OK;
    if (ok)
        return EXIT_SUCCESS;
    const char *message = qn_error(dump->model->qn);
    return failure(dump->options, "%s", *message ? message : "out of memory");
}

int dump_values(const struct model *model, const qn_dataset *dataset, const struct options *options)
{
    struct dump dump = {
        .model = model, .options = options, .count = options_count(options, "dump")};
    dump.wanted = calloc(dump.count + 1, sizeof *dump.wanted);
    dump.paths = calloc(dump.count + 1, sizeof *dump.paths);
    build(&dump);
    int status = EXIT_SUCCESS;
    if (!dump.wanted || !dump.paths)
        status = failure(options, "out of memory");
    else if (dump_lists(options))
        status = list(&dump);
    else if (dump.count > 0)
        status = write_all(&dump, dataset);
    qn_plan_free(dump.plan);
    qn_graph_free(dump.graph);
    free(dump.wanted);
    free(dump.paths);
    return status;
}

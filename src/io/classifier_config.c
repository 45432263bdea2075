/* config.json of classifiers of texts with recurrent layers, which are Quern's own:
 *
 *     {"model_type": "lstm", "vocab_size": 8000, "embedding_size": 128, "hidden_size": 128, "num_layers": 1, "bidirectional": true,
 *      "pooling": "mean", "dropout": 0.5, "max_length": 256, "id2label": {"0": "neg", "1": "pos"}}
 *
 * An "rnn" has "nonlinearity" beside them.  "id2label" tells them from language models. */
#include "io/config.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

static const char *const poolings[] = {
    [QN_POOL_LAST] = "last", [QN_POOL_MEAN] = "mean", [QN_POOL_MAX] = "max"};
enum { POOLINGS = sizeof poolings / sizeof *poolings, MAX_LABELS = 1 << 16 };

int qn_pooling_named(const char *name)
{
    for (int i = 0; i < POOLINGS; i++)
        if (strcmp(poolings[i], name) == 0)
            return i;
    return -1;
}

static double count_parameters(const struct qn_classifier_config *config)
{
    double units = (double)config->hidden_size, directions = config->is_bidirectional ? 2 : 1;
    double gates = (double)qn_cell_gates(config->cell) * units * directions;
    double first = gates * ((double)config->embedding_size + units + 2),
           other = gates * (directions * units + units + 2);
    return (double)config->vocab_size * (double)config->embedding_size + first +
           ((double)config->n_layer - 1) * other +
           (directions * units + 1) * (double)config->n_labels;
}

uint64_t qn_classifier_config_parameters(const struct qn_classifier_config *config)
{
    return (uint64_t)count_parameters(config);
}

int qn_classifier_config_check(qn_context *context, const char *where,
                               const struct qn_classifier_config *config)
{
    const struct size_bounds bounds[] = {
        {"vocab_size", config->vocab_size, 1, MAX_SIZE},
        {"embedding_size", config->embedding_size, 1, 1 << 20},
        {"hidden_size", config->hidden_size, 1, 1 << 16},
        {"num_layers", config->n_layer, 1, 64},
        {"max_length", config->max_length, 1, MAX_SIZE},
        {"labels", config->n_labels, 1, MAX_LABELS},
    };
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status == QN_OK)
        status = config_check_dropout(context, where, &config->dropout, 1);
    return status == QN_OK ? config_check_parameters(context, where, count_parameters(config))
                           : status;
}

const char *qn_classifier_config_difference(const struct qn_classifier_config *a,
                                            const struct qn_classifier_config *b)
{
    const struct {
        const char *key;
        bool differs;
    } keys[] = {
        {"model_type", a->cell != b->cell},
        {"vocab_size", a->vocab_size != b->vocab_size},
        {"embedding_size", a->embedding_size != b->embedding_size},
        {"hidden_size", a->hidden_size != b->hidden_size},
        {"num_layers", a->n_layer != b->n_layer},
        {"bidirectional", a->is_bidirectional != b->is_bidirectional},
        {"pooling", a->pooling != b->pooling},
        {"dropout", a->dropout != b->dropout},
        {"max_length", a->max_length != b->max_length},
        {"id2label", a->n_labels != b->n_labels},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].differs)
            return keys[i].key;
    return NULL;
}

/* ---- Reading ---- */

/* The names of classes 0, 1, ..., which must all be there.  NULL and an error if not. */
static qn_labels *read_labels(struct fields *fields)
{
    struct fields names = fields_object(fields, "id2label");
    size_t count = json_object_size(names.object);
    if (!names.failed && (count == 0 || count > MAX_LABELS))
        fields_fail(fields, "id2label", "expected 1 to %d labels, found %zu", MAX_LABELS, count);
    const char **list = context_alloc(fields->context, count + 1, sizeof *list);
    for (size_t i = 0; list && !names.failed && i < count; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        list[i] = fields_string(&names, number);
    }
    qn_labels *labels =
        list && !fields->failed ? qn_labels_new(fields->context, list, count) : NULL;
    fields->failed |= !labels;
    free(list);
    return labels;
}

static qn_labels *read_config(struct fields *fields, struct qn_classifier_config *config)
{
    *config = (struct qn_classifier_config){.cell = cell_read(fields)};
    config->vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->embedding_size = (size_t)fields_integer(fields, "embedding_size", 1, MAX_SIZE);
    config->hidden_size = (size_t)fields_integer(fields, "hidden_size", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(fields, "num_layers", 1, MAX_SIZE);
    config->max_length = (size_t)fields_integer(fields, "max_length", 1, MAX_SIZE);
    config->is_bidirectional = fields_bool_or(fields, "bidirectional", false);
    config->dropout = fields_number_or(fields, "dropout", 0, 1, 0);
    const char *pooling = fields_string_or(fields, "pooling", poolings[QN_POOL_LAST]);
    char quoted[QUOTED];
    int found = qn_pooling_named(pooling);
    if (found < 0)
        fields_fail(fields, "pooling", "expected \"last\", \"mean\" or \"max\", found %s",
                    quote_string(quoted, pooling));
    config->pooling = found < 0 ? QN_POOL_LAST : (enum qn_pooling)found;
    qn_labels *labels = read_labels(fields);
    config->n_labels = labels ? qn_labels_count(labels) : 0;
    return labels;
}

qn_labels *qn_classifier_config_read(qn_context *context, const char *path,
                                     struct qn_classifier_config *config)
{
    json_t *json =
        context && path && config ? json_file_read(context, path, MAX_CONFIG_BYTES) : NULL;
    if (!json)
        return NULL;
    struct fields fields = fields_of(context, path, json);
    qn_labels *labels = read_config(&fields, config);
    json_decref(json);
    if (!fields.failed && qn_classifier_config_check(context, path, config) == QN_OK)
        return labels;
    qn_labels_free(labels);
    return NULL;
}

/* ---- Writing ---- */

static const char *label_name(const void *labels, size_t label)
{
    return qn_labels_name(labels, label);
}

int qn_classifier_config_write(qn_context *context, const char *path,
                               const struct qn_classifier_config *config, const qn_labels *labels)
{
    if (!context || !path || !config || !labels)
        return QN_ERROR_INVALID;
    int status = qn_classifier_config_check(context, path, config);
    if (status != QN_OK)
        return status;
    /* clang-format off */
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:b, s:s, s:f, s:I, s:o}",
        "vocab_size", (json_int_t)config->vocab_size,
        "embedding_size", (json_int_t)config->embedding_size,
        "hidden_size", (json_int_t)config->hidden_size,
        "num_layers", (json_int_t)config->n_layer,
        "bidirectional", (int)config->is_bidirectional,
        "pooling", poolings[config->pooling],
        "dropout", config->dropout,
        "max_length", (json_int_t)config->max_length,
        "id2label", config_labels(config->n_labels, label_name, labels));
    /* clang-format on */
    if (json)
        cell_add(json, config->cell);
    status = json_file_write(context, path, json);
    json_decref(json);
    return status;
}

/* What the config.json files of models have in common. */
#include "io/config.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

enum qn_model_kind config_kind(const json_t *json)
{
    static const char *const recurrent[] = {"rnn", "lstm", "gru"};
    const char *type = json_string_value(json_object_get(json, "model_type"));
    if (type && strcmp(type, "bert") == 0)
        return QN_MODEL_BERT;
    for (size_t i = 0; type && i < sizeof recurrent / sizeof *recurrent; i++)
        if (strcmp(type, recurrent[i]) == 0 && json_object_get(json, "id2label"))
            return QN_MODEL_CLASSIFIER;
    return seq2seq_family(type) ? QN_MODEL_SEQ2SEQ : QN_MODEL_LM;
}

enum qn_model_kind qn_model_kind(qn_context *context, const char *folder)
{
    char *path = context ? path_join(context, folder, "config.json") : NULL;
    json_error_t error;
    json_t *json = path ? json_load_file(path, JSON_REJECT_DUPLICATES, &error) : NULL;
    enum qn_model_kind kind = config_kind(json);
    json_decref(json);
    free(path);
    return kind;
}

int config_check_sizes(qn_context *context, const char *where, const struct size_bounds *sizes,
                       size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most)
            return context_fail(context, QN_ERROR_INVALID, "%s: %s: expected %zu to %zu, found %zu",
                                where, sizes[i].name, sizes[i].least, sizes[i].most,
                                sizes[i].value);
    return QN_OK;
}

int config_check_parameters(qn_context *context, const char *where, double parameters)
{
    static const double most = 1e13;
    if (parameters <= most)
        return QN_OK;
    return context_fail(context, QN_ERROR_INVALID,
                        "%s: such a model would have %.3g parameters, %.3g bytes", where,
                        parameters, 4 * parameters);
}

int config_check_dropout(qn_context *context, const char *where, const double *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(p[i] >= 0 && p[i] < 1)) /* nor NaN */
            return context_fail(context, QN_ERROR_INVALID,
                                "%s: dropout: expected numbers from 0 to less than 1, found %g",
                                where, p[i]);
    return QN_OK;
}

int config_check_epsilon(qn_context *context, const char *where, double epsilon)
{
    if (epsilon > 0 && epsilon < 1)
        return QN_OK;
    return context_fail(context, QN_ERROR_INVALID,
                        "%s: layer_norm_epsilon: expected more than 0 and less than 1, found %g",
                        where, epsilon);
}

void config_refuse_switches(struct fields *fields, const struct config_switch *switches,
                            size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fields_bool_or(fields, switches[i].key, switches[i].supported) != switches[i].supported)
            fields_fail(fields, switches[i].key, "only %s is supported",
                        switches[i].supported ? "true" : "false");
}

size_t config_word(struct fields *fields, const char *key, const char *const *words, size_t count,
                   size_t fallback)
{
    const char *found = fields_string_or(fields, key, words[fallback]);
    char expected[256] = "", quoted[QUOTED];
    for (size_t i = 0, used = 0; i < count; i++) {
        if (strcmp(words[i], found) == 0)
            return i;
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s\"%s\"",
                                 i == 0           ? ""
                                 : i + 1 == count ? " or "
                                                  : ", ",
                                 words[i]);
    }
    fields_fail(fields, key, "expected %s, found %s", expected, quote_string(quoted, found));
    return fallback;
}

/* Names in files; the first of an activation is the one written. */
static const struct {
    const char *name;
    enum qn_activation activation;
} activations[] = {
    {"gelu_new", QN_GELU}, {"gelu_pytorch_tanh", QN_GELU}, /* the same formula */
    {"gelu", QN_GELU_ERF}, {"relu", QN_RELU},
    {"swish", QN_SILU},    {"silu", QN_SILU}, /* the same */
};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

enum qn_activation config_activation(struct fields *fields, const char *key, const char *fallback)
{
    const char *name = fields_string_or(fields, key, fallback);
    for (size_t i = 0; i < ACTIVATIONS; i++)
        if (strcmp(activations[i].name, name) == 0)
            return activations[i].activation;
    char quoted[QUOTED];
    fields_fail(
        fields, key,
        "expected \"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\", \"relu\", \"swish\" or \"silu\", "
        "found %s",
        quote_string(quoted, name));
    return QN_NO_ACTIVATION;
}

const char *config_activation_name(enum qn_activation activation)
{
    for (size_t i = 0; i < ACTIVATIONS; i++)
        if (activations[i].activation == activation)
            return activations[i].name;
    return NULL;
}

int32_t config_token_id(struct fields *fields, const char *key)
{
    const json_t *value = json_object_get(fields->object, key);
    if (json_is_array(value)) {
        value = json_array_get(value, 0);
        if (json_is_integer(value) && json_integer_value(value) >= 0 &&
            json_integer_value(value) <= INT32_MAX)
            return (int32_t)json_integer_value(value);
    }
    return (int32_t)fields_integer_or(fields, key, -1, INT32_MAX, -1);
}

json_t *config_id_or_null(int32_t id)
{
    return id >= 0 ? json_integer(id) : json_null();
}

json_t *config_size_or_null(size_t size)
{
    return size ? json_integer((json_int_t)size) : json_null();
}

json_t *config_labels(size_t count, const char *(*name)(const void *labels, size_t label),
                      const void *labels)
{
    json_t *names = json_object();
    for (size_t i = 0; names && i < count; i++) {
        char number[24], numbered[32];
        snprintf(number, sizeof number, "%zu", i);
        snprintf(numbered, sizeof numbered, "LABEL_%zu", i);
        if (json_object_set_new(names, number, json_string(name ? name(labels, i) : numbered)) !=
            0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

/* config.json of recurrent language models, which are Quern's own:
 *
 *     {"model_type": "lstm", "vocab_size": 65, "embedding_size": 128, "hidden_size": 128, "num_layers": 1, "dropout": 0.0,
 *      "context_length": 100, "tie_word_embeddings": false, "bos_token_id": null, "eos_token_id": null}
 *
 * An "rnn" has "nonlinearity" beside them: "tanh" or "relu". */
#include "io/config.h"

#include <string.h>

#include "io/file.h"

static const char *const cells[] = {
    [QN_RNN_TANH] = "rnn", [QN_RNN_RELU] = "rnn", [QN_LSTM] = "lstm", [QN_GRU] = "gru"};

double recurrent_count_parameters(const struct qn_lm_config *config)
{
    double units = (double)config->hidden_size, width = (double)config->n_embd,
           vocabulary = (double)config->vocab_size, layers = (double)config->n_layer;
    double gates = (double)qn_cell_gates(config->cell) * units;
    double first = gates * (width + units + 2), other = gates * (2 * units + 2);
    double head = config->tie_word_embeddings ? 0 : vocabulary * units;
    return vocabulary * (width + 1) + head + first + (layers - 1) * other;
}

int recurrent_config_check(qn_context *context, const char *where,
                           const struct qn_lm_config *config)
{
    const struct size_bounds bounds[] = {
        {"vocab_size", config->vocab_size, 1, MAX_SIZE},
        {"context_length", config->n_positions, 1, MAX_SIZE},
        {"embedding_size", config->n_embd, 1, 1 << 20},
        {"hidden_size", config->hidden_size, 1, 1 << 16},
        {"num_layers", config->n_layer, 1, 64},
    };
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status == QN_OK)
        status = config_check_dropout(context, where, &config->resid_pdrop, 1);
    if (status == QN_OK && config->tie_word_embeddings && config->n_embd != config->hidden_size)
        status = context_fail(
            context, QN_ERROR_INVALID,
            "%s: tied embeddings must be as wide as the state, but have %zu numbers and the "
            "state %zu",
            where, config->n_embd, config->hidden_size);
    return status == QN_OK
               ? config_check_parameters(context, where, recurrent_count_parameters(config))
               : status;
}

enum qn_cell cell_read(struct fields *fields)
{
    const char *type = fields_string(fields, "model_type"), *name;
    char quoted[QUOTED];
    if (type && strcmp(type, "lstm") == 0)
        return QN_LSTM;
    if (type && strcmp(type, "gru") == 0)
        return QN_GRU;
    if (type && strcmp(type, "rnn") != 0)
        fields_fail(fields, "model_type", "expected \"rnn\", \"lstm\" or \"gru\", found %s",
                    quote_string(quoted, type));
    name = fields_string_or(fields, "nonlinearity", "tanh");
    bool is_relu = strcmp(name, "relu") == 0;
    if (!is_relu && strcmp(name, "tanh") != 0)
        fields_fail(fields, "nonlinearity", "expected \"tanh\" or \"relu\", found %s",
                    quote_string(quoted, name));
    return is_relu ? QN_RNN_RELU : QN_RNN_TANH;
}

void cell_add(json_t *json, enum qn_cell cell)
{
    bool is_rnn = cell == QN_RNN_TANH || cell == QN_RNN_RELU;
    json_object_set_new(json, "model_type", json_string(cells[cell]));
    if (is_rnn)
        json_object_set_new(json, "nonlinearity",
                            json_string(cell == QN_RNN_RELU ? "relu" : "tanh"));
}

void recurrent_config_read(struct fields *fields, struct qn_lm_config *config)
{
    *config = (struct qn_lm_config){.architecture = QN_RECURRENT, .cell = cell_read(fields)};
    if (json_object_get(fields->object, "id2label"))
        fields_fail(fields, "id2label",
                    "the model is a classifier, not a language model: use `quern predict`");
    config->vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->n_positions = (size_t)fields_integer(fields, "context_length", 1, MAX_SIZE);
    config->n_embd = (size_t)fields_integer(fields, "embedding_size", 1, MAX_SIZE);
    config->hidden_size = (size_t)fields_integer(fields, "hidden_size", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(fields, "num_layers", 1, MAX_SIZE);
    config->resid_pdrop = fields_number_or(fields, "dropout", 0, 1, 0);
    config->tie_word_embeddings = fields_bool_or(fields, "tie_word_embeddings", false);
    config->bos_token_id = config_token_id(fields, "bos_token_id");
    config->eos_token_id = config_token_id(fields, "eos_token_id");
}

json_t *recurrent_config_json(const struct qn_lm_config *config)
{
    /* clang-format off */
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:o, s:o}",
        "vocab_size", (json_int_t)config->vocab_size,
        "embedding_size", (json_int_t)config->n_embd,
        "hidden_size", (json_int_t)config->hidden_size,
        "num_layers", (json_int_t)config->n_layer,
        "dropout", config->resid_pdrop,
        "context_length", (json_int_t)config->n_positions,
        "tie_word_embeddings", (int)config->tie_word_embeddings,
        "bos_token_id", config_id_or_null(config->bos_token_id),
        "eos_token_id", config_id_or_null(config->eos_token_id));
    /* clang-format on */
    if (json)
        cell_add(json, config->cell);
    return json;
}

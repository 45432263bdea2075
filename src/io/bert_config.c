/* config.json of BERT, with Hugging Face's keys. */
#include "io/config.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

static const char *const heads[] = {
    [QN_BERT_MASKED] = "BertForMaskedLM",
    [QN_BERT_TEXTS] = "BertForSequenceClassification",
    [QN_BERT_TOKENS] = "BertForTokenClassification",
    [QN_BERT_ANSWERS] = "BertForQuestionAnswering",
};
enum { HEADS = sizeof heads / sizeof *heads, MAX_LABELS = 1 << 16 };

static bool has_labels(enum qn_bert_head head)
{
    return head == QN_BERT_TEXTS || head == QN_BERT_TOKENS;
}

/* ---- Sizes ---- */

static double count_linear(double n, double m)
{
    return n * m + m;
}

/* As a double, so that it cannot overflow before it is found too large. */
static double count_parameters(const struct qn_bert_config *config)
{
    double width = (double)config->width, inner = (double)config->n_inner,
           vocabulary = (double)config->vocab_size, square = count_linear(width, width);
    double norm = 2 * width;
    double embeddings =
        (vocabulary + (double)config->n_positions + (double)config->n_types) * width + norm;
    double layer = 4 * square + count_linear(width, inner) + count_linear(inner, width) + 2 * norm;
    double head = 0;
    switch (config->head) {
    case QN_BERT_MASKED:
        head = square + norm + vocabulary * (config->tie_word_embeddings ? 1 : 1 + width);
        break;
    case QN_BERT_TEXTS:
        head = square + count_linear(width, (double)config->n_labels);
        break;
    case QN_BERT_TOKENS:
        head = count_linear(width, (double)config->n_labels);
        break;
    case QN_BERT_ANSWERS:
        head = count_linear(width, 2);
        break;
    }
    return embeddings + (double)config->n_layer * layer + head;
}

uint64_t qn_bert_config_parameters(const struct qn_bert_config *config)
{
    return (uint64_t)count_parameters(config);
}

int qn_bert_config_check(qn_context *context, const char *where,
                         const struct qn_bert_config *config)
{
    const struct size_bounds bounds[] = {
        {"vocab_size", config->vocab_size, 1, MAX_SIZE},
        {"max_position_embeddings", config->n_positions, 1, MAX_SIZE},
        {"type_vocab_size", config->n_types, 1, MAX_SIZE},
        {"hidden_size", config->width, 1, 1 << 20},
        {"num_hidden_layers", config->n_layer, 1, 4096},
        {"num_attention_heads", config->n_head, 1, 4096},
        {"intermediate_size", config->n_inner, 1, 1 << 22},
        {"labels", config->n_labels, has_labels(config->head), MAX_LABELS},
    };
    const double dropouts[] = {config->hidden_dropout, config->attention_dropout,
                               config->classifier_dropout};
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status == QN_OK && config->width % config->n_head != 0)
        status = context_fail(context, QN_ERROR_INVALID,
                              "%s: hidden_size %zu must be a multiple of num_attention_heads %zu",
                              where, config->width, config->n_head);
    if (status == QN_OK && config->activation == QN_NO_ACTIVATION)
        status = context_fail(context, QN_ERROR_INVALID, "%s: expected GELU or ReLU as activation",
                              where);
    if (status == QN_OK && config->pad_token_id >= 0 &&
        (size_t)config->pad_token_id >= config->vocab_size)
        status = context_fail(context, QN_ERROR_INVALID,
                              "%s: pad_token_id %d is not in the vocabulary of %zu", where,
                              config->pad_token_id, config->vocab_size);
    if (status == QN_OK)
        status = config_check_dropout(context, where, dropouts, 3);
    if (status == QN_OK)
        status = config_check_epsilon(context, where, config->layer_norm_epsilon);
    return status == QN_OK ? config_check_parameters(context, where, count_parameters(config))
                           : status;
}

/* ---- Reading ---- */

static enum qn_bert_head read_head(struct fields *fields)
{
    const char *name = json_string_value(json_array_get(fields_array(fields, "architectures"), 0));
    char quoted[QUOTED];
    size_t i = 0;
    while (name && i < HEADS && strcmp(name, heads[i]) != 0)
        i++;
    if (name && i < HEADS)
        return (enum qn_bert_head)i;
    fields_fail(fields, "architectures", "expected %s, %s, %s or %s, found %s", heads[0], heads[1],
                heads[2], heads[3], name ? quote_string(quoted, name) : "none");
    return QN_BERT_MASKED;
}

static size_t read_labels(struct fields *fields, enum qn_bert_head head)
{
    const json_t *names = json_object_get(fields->object, "id2label");
    if (!has_labels(head))
        return 0;
    return json_is_object(names)
               ? json_object_size(names)
               : (size_t)fields_integer_or(fields, "num_labels", 1, MAX_LABELS, 2);
}

/* One of a few words, which alone is supported. */
static void expect_word(struct fields *fields, const char *key, const char *word)
{
    const char *found = fields_string_or(fields, key, word);
    char quoted[QUOTED];
    if (strcmp(found, word) != 0)
        fields_fail(fields, key, "expected \"%s\", found %s", word, quote_string(quoted, found));
}

static void read_config(struct fields *fields, struct qn_bert_config *config)
{
    static const struct config_switch switches[] = {{"is_decoder", false},
                                                    {"add_cross_attention", false}};
    *config = (struct qn_bert_config){.head = read_head(fields)};
    config->vocab_size = (size_t)fields_integer(fields, "vocab_size", 1, MAX_SIZE);
    config->n_positions = (size_t)fields_integer(fields, "max_position_embeddings", 1, MAX_SIZE);
    config->n_types = (size_t)fields_integer_or(fields, "type_vocab_size", 1, MAX_SIZE, 2);
    config->width = (size_t)fields_integer(fields, "hidden_size", 1, MAX_SIZE);
    config->n_layer = (size_t)fields_integer(fields, "num_hidden_layers", 1, MAX_SIZE);
    config->n_head = (size_t)fields_integer(fields, "num_attention_heads", 1, MAX_SIZE);
    config->n_inner = (size_t)fields_integer(fields, "intermediate_size", 1, MAX_SIZE);
    config->n_labels = read_labels(fields, config->head);
    config->layer_norm_epsilon = fields_number_or(fields, "layer_norm_eps", 0, 1, 1e-12);
    config->hidden_dropout = fields_number_or(fields, "hidden_dropout_prob", 0, 1, 0.1);
    config->attention_dropout = fields_number_or(fields, "attention_probs_dropout_prob", 0, 1, 0.1);
    config->classifier_dropout =
        fields_number_or(fields, "classifier_dropout", 0, 1, config->hidden_dropout);
    config->tie_word_embeddings = fields_bool_or(fields, "tie_word_embeddings", true);
    config->pad_token_id = (int32_t)fields_integer_or(fields, "pad_token_id", -1, INT32_MAX, -1);
    if (!json_object_get(fields->object, "pad_token_id"))
        config->pad_token_id = 0; /* the library's value where the key is missing; null is none */
    config->activation = config_activation(fields, "hidden_act", "gelu");
    config_refuse_switches(fields, switches, sizeof switches / sizeof *switches);
    expect_word(fields, "position_embedding_type", "absolute");
    if (config->head == QN_BERT_TEXTS)
        expect_word(fields, "problem_type", "single_label_classification");
}

int qn_bert_config_read(qn_context *context, const char *path, struct qn_bert_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    json_t *json = json_file_read(context, path, MAX_CONFIG_BYTES);
    if (!json)
        return QN_ERROR_FORMAT;
    struct fields fields = fields_of(context, path, json);
    expect_word(&fields, "model_type", "bert");
    if (config_kind(json) != QN_MODEL_BERT && !fields.failed)
        fields_fail(&fields, "model_type", "missing; expected \"bert\"");
    if (!fields.failed)
        read_config(&fields, config);
    json_decref(json);
    return fields.failed ? QN_ERROR_FORMAT : qn_bert_config_check(context, path, config);
}

/* ---- Writing ---- */

int qn_bert_config_write(qn_context *context, const char *path, const struct qn_bert_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    int status = qn_bert_config_check(context, path, config);
    if (status != QN_OK)
        return status;
    /* clang-format off */
    json_t *json = json_pack(
        "{s:s, s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:f, s:b, s:o}",
        "model_type", "bert",
        "architectures", heads[config->head],
        "torch_dtype", "float32",
        "vocab_size", (json_int_t)config->vocab_size,
        "max_position_embeddings", (json_int_t)config->n_positions,
        "type_vocab_size", (json_int_t)config->n_types,
        "hidden_size", (json_int_t)config->width,
        "num_hidden_layers", (json_int_t)config->n_layer,
        "num_attention_heads", (json_int_t)config->n_head,
        "intermediate_size", (json_int_t)config->n_inner,
        "hidden_act", config_activation_name(config->activation),
        "layer_norm_eps", config->layer_norm_epsilon,
        "hidden_dropout_prob", config->hidden_dropout,
        "attention_probs_dropout_prob", config->attention_dropout,
        "classifier_dropout", config->classifier_dropout,
        "tie_word_embeddings", (int)config->tie_word_embeddings,
        "pad_token_id", config_id_or_null(config->pad_token_id));
    /* clang-format on */
    if (has_labels(config->head) &&
        json_object_set_new(json, "id2label", config_labels(config->n_labels, NULL, NULL)) != 0) {
        json_decref(json);
        json = NULL;
    }
    status = json_file_write(context, path, json);
    json_decref(json);
    return status;
}

/* Configurations of encoder-decoders: what they may be, and which of the kinds of config.json is theirs.  That of recurrent layers is
 * Quern's own:
 *
 *     {"model_type": "seq2seq", "cell": "lstm", "attention": "general", "src_vocab_size": 6000, "tgt_vocab_size": 6000,
 *      "embedding_size": 256, "hidden_size": 512, "num_layers": 2, "bidirectional": true, "bridge": false, "dropout": 0.2,
 *      "max_positions": 128, "share_embeddings": false, "tie_word_embeddings": false, "pad_token_id": 0,
 *      "decoder_start_token_id": 1, "eos_token_id": 2}
 *
 * "cell" is "rnn", "rnn_relu", "lstm" or "gru"; "attention" is "none", "additive", "dot" or "general". */
#include "io/config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

/* ---- Recurrent models ---- */

static const char *const cells[] = {
    [QN_RNN_TANH] = "rnn", [QN_RNN_RELU] = "rnn_relu", [QN_LSTM] = "lstm", [QN_GRU] = "gru"};
static const char *const scores[] = {
    [QN_NO_SCORE] = "none", [QN_ADDITIVE] = "additive", [QN_DOT] = "dot", [QN_GENERAL] = "general"};
enum { CELLS = sizeof cells / sizeof *cells, SCORES = sizeof scores / sizeof *scores };

/* Of layers of `units` in one direction, of which the first reads `inputs` and the others `between`. */
static double count_layers(const struct qn_seq2seq_config *config, double units, double inputs,
                           double between)
{
    double rows = (double)qn_cell_gates(config->cell) * units;
    return rows * (inputs + units + 2) +
           (double)(config->encoder_layers - 1) * rows * (between + units + 2);
}

/* Of what the last product of a model reads. */
static double head_width(const struct qn_seq2seq_config *config)
{
    return (config->attention == QN_ADDITIVE ? 2 : 1) * (double)config->hidden_size;
}

static double recurrent_parameters(const struct qn_seq2seq_config *config)
{
    double units = (double)config->hidden_size, width = (double)config->width,
           source = (double)config->source_vocab_size, target = (double)config->target_vocab_size;
    double directions = config->is_bidirectional ? 2 : 1, square = units * units;
    double states = config->cell == QN_LSTM ? 2 : 1;
    double embeddings = (config->shares_embeddings ? target : source + target) * width;
    double fed = config->attention == QN_ADDITIVE ? units : 0;
    double attention = config->attention == QN_ADDITIVE  ? 2 * square + units
                       : config->attention == QN_GENERAL ? 3 * square
                       : config->attention == QN_DOT     ? 2 * square
                                                         : 0;
    return embeddings + directions * count_layers(config, units / directions, width, units) +
           count_layers(config, units, width + fed, units) + attention +
           (config->has_bridge ? states * (square + units) : 0) +
           target * (config->ties_head ? 1 : head_width(config) + 1);
}

static int recurrent_check(qn_context *context, const char *where,
                           const struct qn_seq2seq_config *config)
{
    const struct size_bounds bounds[] = {
        {"embedding_size", config->width, 1, 1 << 20},
        {"hidden_size", config->hidden_size, 1, 1 << 16},
        {"num_layers", config->encoder_layers, 1, 64},
    };
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status != QN_OK)
        return status;
    if (config->encoder_layers != config->decoder_layers)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: %zu layers of the encoder and %zu of the decoder: each begins "
                            "with the state of its like, so there must be as many",
                            where, config->encoder_layers, config->decoder_layers);
    if (config->is_bidirectional && config->hidden_size % 2 != 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: hidden_size %zu: two directions have half of it each, so it must "
                            "be even",
                            where, config->hidden_size);
    if (config->ties_head && (double)config->width != head_width(config))
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: tied embeddings must be as wide as what the head reads, but have "
                            "%zu numbers and that has %.0f",
                            where, config->width, head_width(config));
    return QN_OK;
}

static void recurrent_read(struct fields *fields, struct qn_seq2seq_config *config)
{
    *config = (struct qn_seq2seq_config){.architecture = QN_RECURRENT_SEQ2SEQ};
    config->cell = (enum qn_cell)config_word(fields, "cell", cells, CELLS, QN_LSTM);
    config->attention =
        (enum qn_attention_score)config_word(fields, "attention", scores, SCORES, QN_NO_SCORE);
    config->width = (size_t)fields_integer(fields, "embedding_size", 1, MAX_SIZE);
    config->hidden_size = (size_t)fields_integer(fields, "hidden_size", 1, MAX_SIZE);
    config->encoder_layers = (size_t)fields_integer(fields, "num_layers", 1, MAX_SIZE);
    config->decoder_layers = config->encoder_layers;
    config->is_bidirectional = fields_bool_or(fields, "bidirectional", false);
    config->has_bridge = fields_bool_or(fields, "bridge", false);
    seq2seq_read_own(fields, config);
}

static json_t *recurrent_json(const struct qn_seq2seq_config *config)
{
    /* clang-format off */
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b}",
        "model_type", recurrent_seq2seq_family.model_type,
        "cell", cells[config->cell],
        "attention", scores[config->attention],
        "embedding_size", (json_int_t)config->width,
        "hidden_size", (json_int_t)config->hidden_size,
        "num_layers", (json_int_t)config->encoder_layers,
        "bidirectional", (int)config->is_bidirectional,
        "bridge", (int)config->has_bridge);
    /* clang-format on */
    return seq2seq_add_own(json, config);
}

const struct seq2seq_family recurrent_seq2seq_family = {
    "seq2seq", recurrent_parameters, recurrent_check, recurrent_read, recurrent_json, NULL};

/* ---- Keys that both of Quern's own kinds have ---- */

void seq2seq_read_own(struct fields *fields, struct qn_seq2seq_config *config)
{
    config->source_vocab_size = (size_t)fields_integer(fields, "src_vocab_size", 1, MAX_SIZE);
    config->target_vocab_size = (size_t)fields_integer(fields, "tgt_vocab_size", 1, MAX_SIZE);
    config->n_positions = (size_t)fields_integer(fields, "max_positions", 1, MAX_SIZE);
    config->dropout = fields_number_or(fields, "dropout", 0, 1, 0);
    config->shares_embeddings = fields_bool_or(fields, "share_embeddings", false);
    config->ties_head = fields_bool_or(fields, "tie_word_embeddings", false);
    config->pad_token_id = config_token_id(fields, "pad_token_id");
    config->start_token_id =
        (int32_t)fields_integer(fields, "decoder_start_token_id", 0, INT32_MAX);
    config->eos_token_id = config_token_id(fields, "eos_token_id");
}

json_t *seq2seq_add_own(json_t *json, const struct qn_seq2seq_config *config)
{
    /* clang-format off */
    json_t *own = json_pack("{s:I, s:I, s:I, s:f, s:b, s:b, s:o, s:I, s:o}",
        "src_vocab_size", (json_int_t)config->source_vocab_size,
        "tgt_vocab_size", (json_int_t)config->target_vocab_size,
        "max_positions", (json_int_t)config->n_positions,
        "dropout", config->dropout,
        "share_embeddings", (int)config->shares_embeddings,
        "tie_word_embeddings", (int)config->ties_head,
        "pad_token_id", config_id_or_null(config->pad_token_id),
        "decoder_start_token_id", (json_int_t)config->start_token_id,
        "eos_token_id", config_id_or_null(config->eos_token_id));
    /* clang-format on */
    bool is_whole = json && own && json_object_update(json, own) == 0;
    json_decref(own);
    if (is_whole)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- Checking ---- */

static const struct seq2seq_family *const families[] = {
    [QN_MARIAN] = &marian_family,
    [QN_TRANSFORMER] = &transformer_family,
    [QN_RECURRENT_SEQ2SEQ] = &recurrent_seq2seq_family,
};
enum { FAMILIES = sizeof families / sizeof *families };

static int check_token(qn_context *context, const char *where, const char *key, int32_t id,
                       bool may_be_none, size_t vocabulary)
{
    if ((id >= 0 && (size_t)id < vocabulary) || (id < 0 && may_be_none))
        return QN_OK;
    return context_fail(context, QN_ERROR_INVALID, "%s: %s %d is not in the vocabulary of %zu",
                        where, key, id, vocabulary);
}

int qn_seq2seq_config_check(qn_context *context, const char *where,
                            const struct qn_seq2seq_config *config)
{
    const struct seq2seq_family *family = families[config->architecture];
    const struct size_bounds bounds[] = {
        {"vocabulary of the source", config->source_vocab_size, 1, MAX_SIZE},
        {"vocabulary of the target", config->target_vocab_size, 1, MAX_SIZE},
        {"positions", config->n_positions, 1, MAX_SIZE},
    };
    const double dropouts[] = {config->dropout, config->attention_dropout,
                               config->activation_dropout};
    size_t target = config->target_vocab_size,
           smaller = size_min(config->source_vocab_size, target);
    int status = config_check_sizes(context, where, bounds, sizeof bounds / sizeof *bounds);
    if (status == QN_OK)
        status = config_check_dropout(context, where, dropouts, 3);
    if (status == QN_OK && config->shares_embeddings && config->source_vocab_size != target)
        status = context_fail(context, QN_ERROR_INVALID,
                              "%s: source and target share an embedding, but their vocabularies "
                              "have %zu and %zu tokens",
                              where, config->source_vocab_size, target);
    if (status == QN_OK)
        status = check_token(context, where, "pad_token_id", config->pad_token_id, true, smaller);
    if (status == QN_OK)
        status = check_token(context, where, "decoder_start_token_id", config->start_token_id,
                             false, target);
    if (status == QN_OK)
        status = check_token(context, where, "eos_token_id", config->eos_token_id, true, target);
    if (status == QN_OK)
        status = family->check(context, where, config);
    return status == QN_OK ? config_check_parameters(context, where, family->parameters(config))
                           : status;
}

uint64_t qn_seq2seq_config_parameters(const struct qn_seq2seq_config *config)
{
    return (uint64_t)families[config->architecture]->parameters(config);
}

/* ---- Comparing ---- */

const char *qn_seq2seq_config_difference(const struct qn_seq2seq_config *a,
                                         const struct qn_seq2seq_config *b)
{
    const struct {
        const char *key;
        bool differs;
    } keys[] = {
        {"model_type", a->architecture != b->architecture},
        {"cell", a->cell != b->cell},
        {"attention", a->attention != b->attention},
        {"src_vocab_size", a->source_vocab_size != b->source_vocab_size},
        {"tgt_vocab_size", a->target_vocab_size != b->target_vocab_size},
        {"max_positions", a->n_positions != b->n_positions},
        {"d_model", a->width != b->width},
        {"encoder_layers", a->encoder_layers != b->encoder_layers},
        {"decoder_layers", a->decoder_layers != b->decoder_layers},
        {"encoder_attention_heads", a->encoder_heads != b->encoder_heads},
        {"decoder_attention_heads", a->decoder_heads != b->decoder_heads},
        {"encoder_ffn_dim", a->encoder_inner != b->encoder_inner},
        {"decoder_ffn_dim", a->decoder_inner != b->decoder_inner},
        {"hidden_size", a->hidden_size != b->hidden_size},
        {"bidirectional", a->is_bidirectional != b->is_bidirectional},
        {"bridge", a->has_bridge != b->has_bridge},
        {"activation_function", a->activation != b->activation},
        {"positions", a->positions != b->positions},
        {"norm_first", a->is_pre_norm != b->is_pre_norm},
        {"scale_embedding", a->scales_embedding != b->scales_embedding},
        {"dropout", a->dropout != b->dropout},
        {"attention_dropout", a->attention_dropout != b->attention_dropout},
        {"activation_dropout", a->activation_dropout != b->activation_dropout},
        {"share_embeddings", a->shares_embeddings != b->shares_embeddings},
        {"tie_word_embeddings", a->ties_head != b->ties_head},
        {"pad_token_id", a->pad_token_id != b->pad_token_id},
        {"decoder_start_token_id", a->start_token_id != b->start_token_id},
        {"eos_token_id", a->eos_token_id != b->eos_token_id},
        {"forced_eos_token_id", a->forces_end != b->forces_end},
        {"bad_words_ids", a->forbids_padding != b->forbids_padding},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].differs)
            return keys[i].key;
    return NULL;
}

/* ---- Files ---- */

const struct seq2seq_family *seq2seq_family(const char *model_type)
{
    for (size_t i = 0; model_type && i < FAMILIES; i++)
        if (strcmp(families[i]->model_type, model_type) == 0)
            return families[i];
    return NULL;
}

/* From the generation_config.json beside config.json, if there is one: it then decides alone what is forced and forbidden. */
static int read_generation(qn_context *context, const char *config_path,
                           const struct seq2seq_family *family, struct qn_seq2seq_config *config)
{
    const char *slash = strrchr(config_path, '/');
    size_t folder = slash ? (size_t)(slash - config_path) + 1 : 0;
    char *path = text_format(context, "%.*sgeneration_config.json", (int)folder, config_path);
    if (!path)
        return QN_ERROR_MEMORY;
    int status = QN_OK;
    if (access(path, F_OK) == 0) {
        json_t *json = json_file_read(context, path, MAX_CONFIG_BYTES);
        struct fields fields = fields_of(context, path, json);
        if (json)
            family->read_generation(&fields, config);
        status = json && !fields.failed ? QN_OK : QN_ERROR_FORMAT;
        json_decref(json);
    }
    free(path);
    return status;
}

int qn_seq2seq_config_read(qn_context *context, const char *path, struct qn_seq2seq_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    json_t *json = json_file_read(context, path, MAX_CONFIG_BYTES);
    if (!json)
        return QN_ERROR_FORMAT;
    struct fields fields = fields_of(context, path, json);
    const char *type = fields_string(&fields, "model_type");
    const struct seq2seq_family *family = seq2seq_family(type);
    char quoted[QUOTED];
    if (!fields.failed && !family)
        fields_fail(&fields, "model_type",
                    "expected \"marian\", \"transformer\" or \"seq2seq\", found %s",
                    quote_string(quoted, type));
    if (!fields.failed)
        family->read(&fields, config);
    json_decref(json);
    int status = fields.failed ? QN_ERROR_FORMAT : QN_OK;
    if (status == QN_OK && family->read_generation)
        status = read_generation(context, path, family, config);
    return status == QN_OK ? qn_seq2seq_config_check(context, path, config) : status;
}

int qn_seq2seq_config_write(qn_context *context, const char *path,
                            const struct qn_seq2seq_config *config)
{
    if (!context || !path || !config)
        return QN_ERROR_INVALID;
    int status = qn_seq2seq_config_check(context, path, config);
    if (status != QN_OK)
        return status;
    json_t *json = families[config->architecture]->json(config);
    status = json_file_write(context, path, json);
    json_decref(json);
    return status;
}

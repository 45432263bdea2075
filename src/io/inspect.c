/* What files and folders hold, printed for people; all of it is checked on the way. */
#include <quern/io.h>
#include <quern/text.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/config.h"
#include "io/file.h"

enum { MAX_JSON = 1 << 28, AMOUNT = 32 };

/* ---- Amounts ---- */

/* "12.3 MB", "124 M": three digits and a power of 1000. */
static const char *amount(char buffer[AMOUNT], double value, const char *unit)
{
    static const char *const powers[] = {"", "k", "M", "G", "T", "P", "E"};
    size_t power = 0;
    for (; value >= 999.5 && power + 1 < sizeof powers / sizeof *powers; power++)
        value /= 1000;
    bool is_bare = power == 0 && *unit == '\0';
    snprintf(buffer, AMOUNT, "%.3g%s%s%s", value, is_bare ? "" : " ", powers[power], unit);
    return buffer;
}

/* ---- Safetensors ---- */

static size_t count_elements(const struct qn_file_tensor *tensor)
{
    size_t count = 1;
    for (int i = 0; i < tensor->shape.rank; i++)
        count *= tensor->shape.size[i]; /* the file was refused if that does not fit */
    return count;
}

static void print_tensor(const struct qn_file_tensor *tensor, int width, FILE *out)
{
    char quoted[QUOTED], bytes[AMOUNT];
    fprintf(out, "  %-*s  %-5s [", width, quote_string(quoted, tensor->name), tensor->type);
    for (int i = 0; i < tensor->shape.rank; i++)
        fprintf(out, "%s%zu", i ? ", " : "", tensor->shape.size[i]);
    fprintf(out, "]  %s\n", amount(bytes, (double)tensor->bytes, "B"));
}

static int inspect_safetensors(qn_context *context, const char *path, bool lists, FILE *out)
{
    qn_safetensors *file = qn_safetensors_open(context, path);
    if (!file)
        return QN_ERROR_FORMAT;
    size_t count = qn_safetensors_count(file), elements = 0, bytes = 0;
    int width = 0;
    char quoted[QUOTED], numbers[AMOUNT], size[AMOUNT];
    for (size_t i = 0; i < count; i++) {
        const struct qn_file_tensor *tensor = qn_safetensors_tensor(file, i);
        int length = (int)strlen(quote_string(quoted, tensor->name));
        width = length > width ? length : width;
        elements += count_elements(tensor);
        bytes += tensor->bytes;
    }
    fprintf(out, "%s: %zu tensors, %s numbers, %s\n", path, count,
            amount(numbers, (double)elements, ""), amount(size, (double)bytes, "B"));
    for (size_t i = 0; i < count && lists; i++)
        print_tensor(qn_safetensors_tensor(file, i), width, out);
    qn_safetensors_close(file);
    return QN_OK;
}

/* ---- JSON ---- */

static const char *const cells[] = {
    [QN_RNN_TANH] = "rnn", [QN_RNN_RELU] = "rnn (relu)", [QN_LSTM] = "lstm", [QN_GRU] = "gru"};

static int inspect_config(qn_context *context, const char *path, FILE *out)
{
    struct qn_lm_config config;
    char parameters[AMOUNT];
    int status = qn_lm_config_read(context, path, &config);
    if (status != QN_OK)
        return status;
    char layers[2 * AMOUNT] = "";
    const char *name = config.architecture == QN_LLAMA ? "llama" : "gpt2";
    if (config.architecture == QN_RECURRENT) {
        name = cells[config.cell];
        snprintf(layers, sizeof layers, "%zu units", config.hidden_size);
    } else if (config.n_kv_head && config.n_kv_head != config.n_head) {
        snprintf(layers, sizeof layers, "%zu heads (%zu of keys)", config.n_head, config.n_kv_head);
    } else {
        snprintf(layers, sizeof layers, "%zu heads", config.n_head);
    }
    fprintf(out, "%s: %s, %zu layers, %s, width %zu, context %zu, vocabulary %zu: %s parameters\n",
            path, name, config.n_layer, layers, config.n_embd, config.n_positions,
            config.vocab_size, amount(parameters, (double)qn_lm_config_parameters(&config), ""));
    return QN_OK;
}

static int inspect_bert_config(qn_context *context, const char *path, FILE *out)
{
    static const char *const heads[] = {[QN_BERT_MASKED] = "masked tokens",
                                        [QN_BERT_TEXTS] = "labels of texts",
                                        [QN_BERT_TOKENS] = "labels of tokens",
                                        [QN_BERT_ANSWERS] = "answers in a text"};
    struct qn_bert_config config;
    char parameters[AMOUNT], labels[AMOUNT] = "";
    int status = qn_bert_config_read(context, path, &config);
    if (status != QN_OK)
        return status;
    if (config.n_labels)
        snprintf(labels, sizeof labels, "%zu ", config.n_labels);
    fprintf(out,
            "%s: bert for %s%s, %zu layers, %zu heads, width %zu, context %zu, vocabulary %zu: %s "
            "parameters\n",
            path, labels, heads[config.head], config.n_layer, config.n_head, config.width,
            config.n_positions, config.vocab_size,
            amount(parameters, (double)qn_bert_config_parameters(&config), ""));
    return QN_OK;
}

static int inspect_classifier_config(qn_context *context, const char *path, FILE *out)
{
    enum { SHOWN = 16 };
    struct qn_classifier_config config;
    char parameters[AMOUNT], quoted[QUOTED];
    qn_labels *labels = qn_classifier_config_read(context, path, &config);
    if (!labels)
        return QN_ERROR_FORMAT;
    fprintf(out,
            "%s: %s for labels of texts, %zu layers, %zu units%s, width %zu, vocabulary %zu: %s "
            "parameters\n",
            path, cells[config.cell], config.n_layer, config.hidden_size,
            config.is_bidirectional ? " in both directions" : "", config.embedding_size,
            config.vocab_size,
            amount(parameters, (double)qn_classifier_config_parameters(&config), ""));
    fprintf(out, "%s: %zu labels:", path, config.n_labels);
    for (size_t i = 0; i < size_min(config.n_labels, SHOWN); i++)
        fprintf(out, " %s", quote_string(quoted, qn_labels_name(labels, i)));
    fprintf(out, config.n_labels > SHOWN ? " ...\n" : "\n");
    qn_labels_free(labels);
    return QN_OK;
}

static int inspect_seq2seq_config(qn_context *context, const char *path, FILE *out)
{
    static const char *const names[] = {[QN_MARIAN] = "marian",
                                        [QN_TRANSFORMER] = "transformer",
                                        [QN_RECURRENT_SEQ2SEQ] = "seq2seq"};
    struct qn_seq2seq_config config;
    char parameters[AMOUNT];
    int status = qn_seq2seq_config_read(context, path, &config);
    if (status != QN_OK)
        return status;
    fprintf(out,
            "%s: %s, %zu + %zu layers, width %zu, vocabularies %zu and %zu, at most %zu tokens: %s "
            "parameters\n",
            path, names[config.architecture], config.encoder_layers, config.decoder_layers,
            config.hidden_size ? config.hidden_size : config.width, config.source_vocab_size,
            config.target_vocab_size, config.n_positions,
            amount(parameters, (double)qn_seq2seq_config_parameters(&config), ""));
    return QN_OK;
}

static int inspect_tokenizer(qn_context *context, const char *path, FILE *out)
{
    qn_tokenizer *tokenizer = qn_tokenizer_load(context, path);
    if (!tokenizer)
        return QN_ERROR_FORMAT;
    size_t vocabulary = qn_tokenizer_vocabulary(tokenizer);
    fprintf(out, "%s: %s, fingerprint %016" PRIx64 ", %zu tokens", path,
            qn_tokenizer_kind(tokenizer), qn_tokenizer_fingerprint(tokenizer), vocabulary);
    enum { SHOWN = 64 };
    for (size_t id = 0; id < size_min(vocabulary, SHOWN); id++) {
        size_t bytes;
        char quoted[QUOTED];
        const char *token = qn_tokenizer_token(tokenizer, (int32_t)id, &bytes);
        if (token)
            fprintf(out, "%s%s", id ? " " : ": ", quote(quoted, token, bytes));
    }
    fprintf(out, vocabulary > SHOWN ? " ...\n" : "\n");
    qn_tokenizer_free(tokenizer);
    return QN_OK;
}

static int inspect_tokens(qn_context *context, const char *path, FILE *out)
{
    static const char *const kinds[] = {[QN_DOCUMENTS_FILES] = "files",
                                        [QN_DOCUMENTS_LINES] = "lines",
                                        [QN_DOCUMENTS_PARAGRAPHS] = "paragraphs"};
    qn_tokens *tokens = qn_tokens_open(context, path);
    if (!tokens)
        return QN_ERROR_FORMAT;
    char bytes[AMOUNT];
    fprintf(out, "%s: %zu tokens of %zu documents (%s), %s of text, tokenizer %016" PRIx64 "\n",
            path, qn_tokens_count(tokens), qn_tokens_documents(tokens),
            kinds[qn_tokens_document_kind(tokens)],
            amount(bytes, (double)qn_tokens_bytes(tokens), "B"), qn_tokens_fingerprint(tokens));
    qn_tokens_close(tokens);
    return QN_OK;
}

static void inspect_object(const char *path, const json_t *json, FILE *out)
{
    const char *key;
    json_t *value;
    char quoted[QUOTED], described[DESCRIBED];
    fprintf(out, "%s: %zu keys\n", path, json_object_size(json));
    json_object_foreach ((json_t *)json, key, value)
        fprintf(out, "  %s: %s\n", quote_string(quoted, key), describe(described, value));
}

static bool is_named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

/* A damaged file is still what its name says. */
static int inspect_json(qn_context *context, const char *path, FILE *out)
{
    json_t *json = json_file_read(context, path, MAX_JSON);
    if (!json)
        return QN_ERROR_FORMAT;
    const char *type = json_string_value(json_object_get(json, "model_type"));
    bool is_config = is_named(path, "config.json") || type;
    bool is_tokenizer = is_named(path, "tokenizer.json") ||
                        json_object_get(json_object_get(json, "model"), "vocab") != NULL;
    if (!is_config && !is_tokenizer)
        inspect_object(path, json, out);
    enum qn_model_kind kind = config_kind(json);
    json_decref(json);
    if (!is_config)
        return is_tokenizer ? inspect_tokenizer(context, path, out) : QN_OK;
    switch (kind) {
    case QN_MODEL_BERT:
        return inspect_bert_config(context, path, out);
    case QN_MODEL_CLASSIFIER:
        return inspect_classifier_config(context, path, out);
    case QN_MODEL_SEQ2SEQ:
        return inspect_seq2seq_config(context, path, out);
    default:
        return inspect_config(context, path, out);
    }
}

/* ---- Files and folders ---- */

static int inspect_file(qn_context *context, const char *path, bool lists, FILE *out)
{
    const char *ending = strrchr(path, '.');
    if (ending && strcmp(ending, ".json") == 0)
        return inspect_json(context, path, out);
    if (qn_is_tokens(path))
        return inspect_tokens(context, path, out);
    return inspect_safetensors(context, path, lists, out);
}

/* The files of a model, if they are there; `lists` the tensors of its weights. */
static int inspect_model(qn_context *context, const char *folder, bool lists, FILE *out)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors",
                                        "optimizer.safetensors", "training.json"};
    int status = QN_OK;
    size_t found = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && status == QN_OK; i++) {
        char *path = path_join(context, folder, names[i]);
        bool is_optimizer = strncmp(names[i], "optimizer", 9) == 0;
        if (!path) {
            status = QN_ERROR_MEMORY;
        } else if (access(path, F_OK) == 0) {
            found++;
            status = inspect_file(context, path, lists && !is_optimizer, out);
        }
        free(path);
    }
    if (status == QN_OK && found == 0)
        status =
            context_fail(context, QN_ERROR_FILE,
                         "%s holds no model: expected config.json, model.safetensors, ...", folder);
    return status;
}

/* Where a link of a run leads; "" if it is none. */
static void read_link(qn_context *context, const char *folder, const char *name, char target[64])
{
    char *path = path_join(context, folder, name);
    ssize_t length = path ? readlink(path, target, 63) : -1;
    target[length > 0 ? length : 0] = '\0';
    free(path);
}

static int inspect_folder(qn_context *context, const char *folder, FILE *out)
{
    char latest[64], best[64], quoted[QUOTED], other[QUOTED];
    read_link(context, folder, "latest", latest);
    read_link(context, folder, "best", best);
    if (!*latest && !*best)
        return inspect_model(context, folder, true, out);
    fprintf(out, "%s: a run, its best checkpoint %s, its latest %s\n", folder,
            quote_string(quoted, best), quote_string(other, latest));
    const char *const shown[] = {best, strcmp(best, latest) == 0 ? "" : latest};
    int status = QN_OK;
    for (int i = 0; i < 2 && status == QN_OK; i++) {
        if (!*shown[i])
            continue;
        char *path = path_join(context, folder, shown[i]);
        status = path ? inspect_model(context, path, i == 0, out) : QN_ERROR_MEMORY;
        free(path);
    }
    return status;
}

int qn_inspect(qn_context *context, const char *path, FILE *out)
{
    if (!context || !path || !out)
        return QN_ERROR_INVALID;
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return inspect_folder(context, path, out);
    return inspect_file(context, path, true, out);
}

/* Encoder-decoders against PyTorch. */
#include "tap.h"

#include "golden_models.h"

static bool seq2seq_load(struct model *model, const char *path)
{
    model->seq2seq = qn_seq2seq_load(context, path);
    model->parameters = model->seq2seq ? qn_seq2seq_parameters(model->seq2seq) : NULL;
    return model->seq2seq;
}

static int seq2seq_save(const struct model *model, const char *path)
{
    return qn_seq2seq_save(model->seq2seq, path);
}

static void seq2seq_free(struct model *model)
{
    qn_seq2seq_free(model->seq2seq);
}

/* ---- Translating ---- */

enum { MOST_SOURCES = 4, MOST_BEAMS = 8, MOST_TOKENS = 32 };

struct sources {
    int32_t tokens[MOST_SOURCES][MOST_TOKENS];
    const int32_t *rows[MOST_SOURCES];
    size_t lengths[MOST_SOURCES], count;
};

static struct sources sources_of(json_t *prompts)
{
    struct sources sources = {.count = json_array_size(prompts)};
    for (size_t i = 0; i < sources.count; i++) {
        json_t *prompt = json_array_get(prompts, i);
        sources.lengths[i] = json_array_size(prompt);
        for (size_t j = 0; j < sources.lengths[i]; j++)
            sources.tokens[i][j] = (int32_t)json_integer_value(json_array_get(prompt, j));
    }
    return sources;
}

static bool are_tokens(const struct qn_translation *found, json_t *expected)
{
    bool same = found->count == json_array_size(expected);
    for (size_t i = 0; same && i < found->count; i++)
        same = found->tokens[i] == json_integer_value(json_array_get(expected, i));
    return same;
}

/* Translates the sources, so many at once; counts hypotheses that differ, and keeps the worst error of a score. */
static size_t compare_translations(const struct model *model, struct sources *sources,
                                   const struct qn_decoding *options, size_t rows, json_t *results,
                                   double *worst)
{
    size_t beams = options->beams, wrong = 0;
    struct qn_translation found[MOST_SOURCES * MOST_BEAMS];
    qn_translator *translator = qn_translator_new(model->seq2seq, options, rows);
    for (size_t i = 0; i < sources->count; i++)
        sources->rows[i] = sources->tokens[i];
    int status = qn_translate(translator, sources->rows, sources->lengths, sources->count, found);
    if (status != QN_OK)
        note("%s", qn_error(context));
    for (size_t i = 0; status == QN_OK && i < sources->count; i++) {
        json_t *result = json_array_get(results, i),
               *tokens = json_object_get(result, "new_tokens");
        for (size_t j = 0; j < beams; j++) {
            const struct qn_translation *one = &found[i * beams + j];
            bool is_same = are_tokens(one, json_array_get(tokens, j));
            wrong += !is_same;
            if (is_same)
                *worst = fmax(*worst, relative(one->score, element(result, "scores", j)));
        }
    }
    qn_translator_free(translator);
    return status == QN_OK ? wrong : sources->count * beams;
}

static void test_translations(const char *subject, const char *how, const struct model *model,
                              struct sources *sources, struct qn_decoding options, json_t *results,
                              double tolerance)
{
    double worst = 0;
    size_t alone = compare_translations(model, sources, &options, 1, results, &worst),
           together =
               compare_translations(model, sources, &options, sources->count, results, &worst),
           more = compare_translations(model, sources, &options, 64, results, &worst);
    ok(alone + together + more == 0 && worst <= tolerance,
       "%s, %s: %zu, %zu and %zu wrong translations of 1, %zu and 64 at once; scores: error %.1e, "
       "allowed %.1e",
       subject, how, alone, together, more, sources->count, worst, tolerance);
}

/* The greedy ones as if they were a beam's. */
static json_t *greedy_results(json_t *greedy)
{
    json_t *results = json_array(), *tokens = json_object_get(greedy, "new_tokens"),
           *sums = json_object_get(greedy, "sum_of_log_probabilities");
    for (size_t i = 0; i < json_array_size(tokens); i++)
        json_array_append_new(results,
                              json_pack("{s:[O], s:[O]}", "new_tokens", json_array_get(tokens, i),
                                        "scores", json_array_get(sums, i)));
    return results;
}

static void seq2seq_generate(const char *subject, struct model *model, json_t *generation)
{
    struct sources sources = sources_of(json_object_get(generation, "prompts"));
    json_t *greedy = greedy_results(json_object_get(generation, "greedy")), *beam;
    size_t most = (size_t)number(generation, "max_new_tokens"), i;
    double tolerance = number(json_object_get(generation, "tolerance"), "scores");
    struct qn_decoding options = {.beams = 1, .max_length = most, .ignore_eos = true};
    /* The files of a course's models have no tolerance for sums: that of the others is of means, which err as sums do. */
    test_translations(subject, "greedy", model, &sources, options, greedy,
                      tolerance > 0 ? tolerance : 6e-6);
    json_decref(greedy);
    json_array_foreach (json_object_get(generation, "beam"), i, beam) {
        char how[128];
        options = (struct qn_decoding){
            .beams = (size_t)number(beam, "num_beams"),
            .length_penalty = number(beam, "length_penalty"),
            .early_stopping = json_is_true(json_object_get(beam, "early_stopping")),
            .max_length = most,
            .ignore_eos = json_is_null(json_object_get(beam, "eos_token_id"))};
        snprintf(how, sizeof how, "beam %zu, penalty %.1f%s%s", options.beams,
                 options.length_penalty, options.early_stopping ? ", early" : "",
                 options.ignore_eos ? ", no end" : "");
        test_translations(subject, how, model, &sources, options, json_object_get(beam, "results"),
                          tolerance);
    }
}

/* ---- Hugging Face's Marian ---- */

static void marian_build(const struct model *model, struct batch *batch)
{
    struct qn_seq2seq_forward forward = {0};
    struct qn_seq2seq_input input = {.source = batch_input(batch, "input_ids"),
                                     .source_lengths = lengths(batch),
                                     .target = batch_input(batch, "decoder_input_ids")};
    batch->logits = qn_seq2seq_logits(model->seq2seq, input, forward);
    batch->loss = qn_seq2seq_loss(model->seq2seq, input, batch_input(batch, "labels"), forward);
}

static const struct family marian = {.load = seq2seq_load,
                                     .save = seq2seq_save,
                                     .free = seq2seq_free,
                                     .build = marian_build,
                                     .generate = seq2seq_generate};

/* ---- The models of a course ---- */

enum { PAD, BEGIN, END };

/* The folder has PyTorch's parameters, but no configuration of ours: this makes such a folder of it. */
static bool load_with_config(struct model *model, const char *path,
                             const struct qn_seq2seq_config *config)
{
    char target[sizeof golden_folder + 128];
    const char *link = in_folder("model.safetensors");
    snprintf(target, sizeof target, "%s/model.safetensors", path);
    unlink(link);
    return qn_seq2seq_config_write(context, in_folder("config.json"), config) == QN_OK &&
           symlink(target, link) == 0 && seq2seq_load(model, test_folder);
}

static bool transformer_load(struct model *model, const char *path)
{
    static const struct qn_seq2seq_config config = {.architecture = QN_TRANSFORMER,
                                                    .source_vocab_size = 45,
                                                    .target_vocab_size = 39,
                                                    .n_positions = 40,
                                                    .width = 32,
                                                    .encoder_layers = 2,
                                                    .decoder_layers = 2,
                                                    .encoder_heads = 4,
                                                    .decoder_heads = 4,
                                                    .encoder_inner = 64,
                                                    .decoder_inner = 64,
                                                    .activation = QN_RELU,
                                                    .scales_embedding = true,
                                                    .pad_token_id = PAD,
                                                    .start_token_id = BEGIN,
                                                    .eos_token_id = END};
    return strcmp(path, test_folder) == 0 ? seq2seq_load(model, path)
                                          : load_with_config(model, path, &config);
}

/* The file calls the decoder's only layer by no number: LSTMCell has none. */
static const char *recurrent_file_name(const char *name)
{
    static char without[256];
    size_t length = strlen(name);
    bool is_decoder = strncmp(name, "decoder.", 8) == 0;
    snprintf(without, sizeof without, "%.*s", (int)(is_decoder ? length - strlen("_l0") : length),
             name);
    return without;
}

/* Makes a folder of ours of one that has PyTorch's parameters, and no configuration of ours. */
static bool recurrent_load_as(struct model *model, const char *path, enum qn_cell cell,
                              enum qn_attention_score attention)
{
    const struct qn_seq2seq_config config = {.architecture = QN_RECURRENT_SEQ2SEQ,
                                             .source_vocab_size = 41,
                                             .target_vocab_size = 37,
                                             .n_positions = 40,
                                             .width = 12,
                                             .encoder_layers = 1,
                                             .decoder_layers = 1,
                                             .pad_token_id = PAD,
                                             .start_token_id = BEGIN,
                                             .eos_token_id = END,
                                             .cell = cell,
                                             .attention = attention,
                                             .hidden_size = 16};
    char whole[sizeof golden_folder + 128];
    if (strcmp(path, test_folder) == 0)
        return seq2seq_load(model, path);
    snprintf(whole, sizeof whole, "%s/model.safetensors", path);
    qn_safetensors *file = qn_safetensors_open(context, whole);
    model->seq2seq = qn_seq2seq_new(context, &config);
    if (!file || !model->seq2seq)
        return false;
    model->parameters = qn_seq2seq_parameters(model->seq2seq);
    bool is_whole = qn_safetensors_count(file) == qn_store_count(model->parameters);
    for (size_t i = 0; is_whole && i < qn_store_count(model->parameters); i++) {
        qn_tensor *tensor = qn_store_tensor(model->parameters, i);
        const struct qn_file_tensor *found =
            find(file, "", recurrent_file_name(qn_tensor_name(tensor)));
        is_whole = found && qn_shape_equal(found->shape, qn_tensor_shape(tensor));
        float *values = is_whole ? values_of(file, found) : NULL;
        is_whole = is_whole && qn_tensor_write(tensor, values) == QN_OK;
        free(values);
    }
    qn_safetensors_close(file);
    return is_whole;
}

/* Tokens that are no padding, of each row. */
static qn_node *count_tokens(struct batch *batch, const char *name)
{
    const struct qn_file_tensor *tensor = batch_find(batch, name);
    size_t rows = tensor->shape.size[0], length = tensor->shape.size[1];
    int32_t *tokens = values_of(batch->file, tensor), *counts = memory(rows);
    for (size_t i = 0; i < rows * length; i++)
        counts[i / length] += tokens[i] != PAD;
    free(tokens);
    return batch_add(batch, "lengths", QN_SHAPE(rows), counts);
}

static qn_node *targets(struct batch *batch)
{
    const struct qn_file_tensor *tensor = batch_find(batch, "tgt_out");
    int32_t *tokens = values_of(batch->file, tensor);
    for (size_t i = 0; i < qn_shape_count(tensor->shape); i++)
        tokens[i] = tokens[i] == PAD ? QN_IGNORE : tokens[i];
    return batch_add(batch, "targets", tensor->shape, tokens);
}

static void course_build(const struct model *model, struct batch *batch, float label_smoothing)
{
    struct qn_seq2seq_forward forward = {.label_smoothing = label_smoothing};
    struct qn_seq2seq_input input = {.source = batch_input(batch, "src"),
                                     .source_lengths = batch_input(batch, "src_lengths"),
                                     .target = batch_input(batch, "tgt_in"),
                                     .target_lengths = count_tokens(batch, "tgt_in")};
    batch->logits = qn_seq2seq_logits(model->seq2seq, input, forward);
    batch->loss = qn_seq2seq_loss(model->seq2seq, input, targets(batch), forward);
}

static void transformer_build(const struct model *model, struct batch *batch)
{
    course_build(model, batch, 0.1F);
}

static const struct family transformer = {.load = transformer_load,
                                          .save = seq2seq_save,
                                          .free = seq2seq_free,
                                          .build = transformer_build,
                                          .generate = seq2seq_generate};

static void recurrent_build(const struct model *model, struct batch *batch)
{
    course_build(model, batch, 0);
}

#define RECURRENT(name, cell, attention)                                                           \
    static bool name##_load(struct model *model, const char *path)                                 \
    {                                                                                              \
        return recurrent_load_as(model, path, cell, attention);                                    \
    }                                                                                              \
    static const struct family name = {.load = name##_load,                                        \
                                       .save = seq2seq_save,                                       \
                                       .free = seq2seq_free,                                       \
                                       .build = recurrent_build,                                   \
                                       .generate = seq2seq_generate,                               \
                                       .file_name = recurrent_file_name}
RECURRENT(lstm_additive, QN_LSTM, QN_ADDITIVE);
RECURRENT(lstm_dot, QN_LSTM, QN_DOT);
RECURRENT(lstm_general, QN_LSTM, QN_GENERAL);
RECURRENT(gru_additive, QN_GRU, QN_ADDITIVE);
RECURRENT(gru_dot, QN_GRU, QN_DOT);
RECURRENT(gru_general, QN_GRU, QN_GENERAL);

static const struct subject subjects[] = {
    {"marian", &marian},
    {"transformer", &transformer},
    {"seq2seq_lstm_bahdanau", &lstm_additive},
    {"seq2seq_lstm_luong_dot", &lstm_dot},
    {"seq2seq_lstm_luong_general", &lstm_general},
    {"seq2seq_gru_bahdanau", &gru_additive},
    {"seq2seq_gru_luong_dot", &gru_dot},
    {"seq2seq_gru_luong_general", &gru_general},
};

int main(void)
{
    return test_subjects(subjects, sizeof subjects / sizeof *subjects);
}

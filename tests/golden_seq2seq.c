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

static const struct family marian = {
    .load = seq2seq_load, .save = seq2seq_save, .free = seq2seq_free, .build = marian_build};

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
                                          .build = transformer_build};

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

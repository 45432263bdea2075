/* Language models and encoders against PyTorch. */
#include "tap.h"

#include "golden_models.h"

/* ---- Decoders ---- */

static bool decoder_load(struct model *model, const char *path)
{
    model->lm = qn_lm_load(context, path);
    model->parameters = model->lm ? qn_lm_parameters(model->lm) : NULL;
    return model->lm;
}

static int decoder_save(const struct model *model, const char *path)
{
    return qn_lm_save(model->lm, path);
}

static void decoder_free(struct model *model)
{
    qn_lm_free(model->lm);
}

/* A token's target is the next one's label. */
static qn_node *next_labels(struct batch *batch)
{
    const struct qn_file_tensor *labels = batch_find(batch, "labels");
    size_t length = labels->shape.size[1], count = qn_shape_count(labels->shape);
    int32_t *values = values_of(batch->file, labels);
    for (size_t i = 0; i < count; i++)
        values[i] = i % length == length - 1 ? QN_IGNORE : values[i + 1];
    return batch_add(batch, "labels", labels->shape, values);
}

static void decoder_build(const struct model *model, struct batch *batch)
{
    struct qn_lm_forward forward = {0};
    qn_node *tokens = batch_input(batch, "input_ids");
    batch->logits = qn_lm_logits(model->lm, tokens, forward);
    batch->loss = qn_lm_loss(model->lm, tokens, next_labels(batch), forward);
}

enum { MOST_PROMPT = 32 };

static size_t wrong_tokens(qn_generator *generator, json_t *prompt, json_t *expected, size_t sample)
{
    int32_t ids[MOST_PROMPT];
    size_t count = json_array_size(prompt), wrong = 0;
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(prompt, i));
    if (qn_generator_start(generator, ids, count, sample) != QN_OK)
        return json_array_size(expected);
    for (size_t i = 0; i < json_array_size(expected); i++)
        wrong += qn_generator_next(generator) != json_integer_value(json_array_get(expected, i));
    return wrong;
}

static void decoder_generate(const char *subject, struct model *model, json_t *generation)
{
    json_t *prompts = json_object_get(generation, "prompts");
    json_t *expected = json_object_get(json_object_get(generation, "greedy"), "new_tokens");
    qn_generator *generator = qn_generator_new(model->lm, (struct qn_generation){0});
    size_t wrong = 0;
    for (size_t i = 0; i < json_array_size(prompts); i++)
        wrong +=
            wrong_tokens(generator, json_array_get(prompts, i), json_array_get(expected, i), i);
    ok(generator && wrong == 0, "%s continues %zu prompts: %zu wrong tokens", subject,
       json_array_size(prompts), wrong);
    if (*qn_error(context))
        note("%s", qn_error(context));
    qn_generator_free(generator);
}

static const struct family decoder = {.load = decoder_load,
                                      .save = decoder_save,
                                      .free = decoder_free,
                                      .build = decoder_build,
                                      .generate = decoder_generate,
                                      .hides_padding = true};

static bool encoder_load(struct model *model, const char *path)
{
    model->bert = qn_bert_load(context, path);
    model->parameters = model->bert ? qn_bert_parameters(model->bert) : NULL;
    return model->bert;
}

static int encoder_save(const struct model *model, const char *path)
{
    return qn_bert_save(model->bert, path);
}

static void encoder_free(struct model *model)
{
    qn_bert_free(model->bert);
}

/* Begin and end beside each other: (B, 2). */
static qn_node *answers(struct batch *batch)
{
    size_t rows = batch_find(batch, "start_positions")->shape.size[0];
    int32_t *begin = values_of(batch->file, batch_find(batch, "start_positions")),
            *end = values_of(batch->file, batch_find(batch, "end_positions")),
            *values = memory(2 * rows);
    for (size_t i = 0; i < rows; i++) {
        values[2 * i] = begin[i];
        values[2 * i + 1] = end[i];
    }
    free(begin);
    free(end);
    return batch_add(batch, "answers", QN_SHAPE(rows, 2), values);
}

static void encoder_build(const struct model *model, struct batch *batch)
{
    qn_node *tokens = batch_input(batch, "input_ids");
    bool finds_answers = qn_bert_config(model->bert)->head == QN_BERT_ANSWERS;
    qn_node *targets = finds_answers ? answers(batch) : batch_input(batch, "labels");
    struct qn_bert_forward forward = {.types = batch_input(batch, "token_type_ids"),
                                      .lengths = lengths(batch)};
    batch->hidden = qn_bert_hidden(model->bert, tokens, forward);
    batch->logits = qn_bert_logits(model->bert, tokens, forward);
    batch->loss = qn_bert_loss(model->bert, tokens, targets, forward);
}

static const struct family encoder = {
    .load = encoder_load, .save = encoder_save, .free = encoder_free, .build = encoder_build};

/* ---- Recurrent language models ---- */

/* The folder has PyTorch's parameters, under our names, but no configuration of ours: this is it, but for the first time only. */
static bool recurrent_load(struct model *model, const char *path)
{
    static const struct qn_lm_config config = {.architecture = QN_RECURRENT,
                                               .cell = QN_RNN_TANH,
                                               .vocab_size = 128,
                                               .n_positions = 20,
                                               .n_embd = 12,
                                               .hidden_size = 24,
                                               .n_layer = 1,
                                               .bos_token_id = -1,
                                               .eos_token_id = -1};
    if (strcmp(path, test_folder) != 0) {
        char target[sizeof golden_folder + 128];
        snprintf(target, sizeof target, "%s/model.safetensors", path);
        const char *link = in_folder("model.safetensors");
        unlink(link);
        if (qn_lm_config_write(context, in_folder("config.json"), &config) != QN_OK ||
            symlink(target, link) != 0)
            return false;
    }
    return decoder_load(model, test_folder);
}

static void recurrent_build(const struct model *model, struct batch *batch)
{
    qn_node *tokens = batch_input(batch, "input_ids");
    batch->logits = qn_lm_logits(model->lm, tokens, (struct qn_lm_forward){0});
    batch->loss =
        qn_lm_loss(model->lm, tokens, batch_input(batch, "labels"), (struct qn_lm_forward){0});
}

static const struct family recurrent = {
    .load = recurrent_load, .save = decoder_save, .free = decoder_free, .build = recurrent_build};

/* The same as Keras has it: matrices the other way round, and one bias. */
static bool keras_load(struct model *model, const char *path)
{
    static const struct {
        const char *name;
        qn_shape shape;
    } tensors[] = {{"embedding.weight", {2, {128, 12}}},    {"rnn.kernel", {2, {12, 24}}},
                   {"rnn.recurrent_kernel", {2, {24, 24}}}, {"rnn.bias", {1, {24}}},
                   {"dense.kernel", {2, {24, 128}}},        {"dense.bias", {1, {128}}}};
    char file_path[sizeof golden_folder + 128];
    snprintf(file_path, sizeof file_path, "%s/model.safetensors", path);
    qn_safetensors *file = qn_safetensors_open(context, file_path);
    model->parameters = qn_store_new(context, "parameters");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        qn_store_add(model->parameters, tensors[i].name, QN_F32, tensors[i].shape,
                     tensors[i].shape.rank > 1 ? QN_DECAY : QN_NO_DECAY);
    bool is_good = file && qn_store_seal(model->parameters) == QN_OK;
    for (size_t i = 0; is_good && i < qn_store_count(model->parameters); i++) {
        qn_tensor *tensor = qn_store_tensor(model->parameters, i);
        float *values = values_of(file, find(file, "", qn_tensor_name(tensor)));
        is_good = qn_tensor_write(tensor, values) == QN_OK;
        free(values);
    }
    qn_safetensors_close(file);
    return is_good;
}

static void keras_free(struct model *model)
{
    qn_store_free(model->parameters);
}

static void keras_build(const struct model *model, struct batch *batch)
{
    qn_node *tokens = batch_input(batch, "input_ids"), *labels = batch_input(batch, "labels");
    qn_node *leaves[6];
    for (size_t i = 0; i < 6; i++)
        leaves[i] = qn_leaf(batch->graph, qn_store_tensor(model->parameters, i));
    qn_node *x = qn_embedding(leaves[0], qn_transpose(tokens, 0, 1));
    struct qn_sequence y =
        qn_recurrent(x, &(struct qn_recurrent){.cell = QN_RNN_TANH,
                                               .weight_ih = qn_transpose(leaves[1], 0, 1),
                                               .weight_hh = qn_transpose(leaves[2], 0, 1),
                                               .bias_ih = leaves[3]});
    batch->logits = qn_linear(qn_transpose(y.out, 0, 1), leaves[4], leaves[5]);
    batch->loss = qn_cross_entropy(batch->logits, labels);
}

static const struct family keras = {.load = keras_load, .free = keras_free, .build = keras_build};

static const struct subject subjects[] = {
    {"gpt2", &decoder},        {"llama", &decoder},    {"llama_tied", &decoder},
    {"llama3_tied", &decoder}, {"bert_mlm", &encoder}, {"bert_cls", &encoder},
    {"bert_ner", &encoder},    {"bert_qa", &encoder},  {"rnn_lm", &recurrent},
    {"keras_rnn_lm", &keras},
};

int main(void)
{
    return test_subjects(subjects, sizeof subjects / sizeof *subjects);
}

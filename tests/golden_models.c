/* Whole models against PyTorch: what golden.h explains, of ../shared/golden/models. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <quern/train.h>

#include "device/context.h"

#include "tap.h"

#include "files.h"
#include "golden.h"

enum { MOST_INPUTS = 5, MOST_PARAMETERS = 64, BATCHES = 4 };

static qn_context *context;

/* ---- A batch: nodes, and the values that they are set to ---- */

struct batch {
    qn_graph *graph;
    const qn_safetensors *file;
    const char *prefix; /* of its tensors in the file */
    qn_node *nodes[MOST_INPUTS];
    void *values[MOST_INPUTS];
    size_t count;
    qn_node *logits, *loss, *hidden; /* hidden: NULL where it is not looked at */
};

static qn_node *batch_add(struct batch *batch, const char *name, qn_shape shape, int32_t *values)
{
    size_t i = batch->count++;
    batch->values[i] = values;
    return batch->nodes[i] = qn_input(batch->graph, name, QN_I32, shape);
}

static const struct qn_file_tensor *batch_find(const struct batch *batch, const char *name)
{
    const struct qn_file_tensor *tensor = find(batch->file, batch->prefix, name);
    if (!tensor)
        bail_out("there is no %s%s", batch->prefix, name);
    return tensor;
}

static qn_node *batch_input(struct batch *batch, const char *name)
{
    const struct qn_file_tensor *tensor = batch_find(batch, name);
    return batch_add(batch, name, tensor->shape, values_of(batch->file, tensor));
}

static void batch_set(const struct batch *batch, qn_plan *plan)
{
    for (size_t i = 0; i < batch->count; i++)
        qn_set(plan, batch->nodes[i], batch->values[i]);
}

static void batch_free(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        free(batch->values[i]);
}

/* ---- Models ---- */

struct model {
    qn_lm *lm;     /* or */
    qn_bert *bert; /* or neither */
    qn_store *parameters;
};

struct family {
    bool (*load)(struct model *model, const char *path);
    int (*save)(const struct model *model, const char *path);
    void (*free)(struct model *model);
    void (*build)(const struct model *model, struct batch *batch); /* logits, loss, hidden */
    bool hides_padding; /* values at padded tokens are other than transformers', and of no use */
};

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

static const struct family decoder = {decoder_load, decoder_save, decoder_free, decoder_build,
                                      true};

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

static qn_node *lengths(struct batch *batch)
{
    const struct qn_file_tensor *mask = batch_find(batch, "attention_mask");
    size_t rows = mask->shape.size[0];
    int32_t *of_mask = values_of(batch->file, mask), *values = memory(rows);
    if (qn_bert_lengths(context, of_mask, rows, mask->shape.size[1], values) != QN_OK)
        bail_out("%s", qn_error(context));
    free(of_mask);
    return batch_add(batch, "lengths", QN_SHAPE(rows), values);
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

static const struct family encoder = {encoder_load, encoder_save, encoder_free, encoder_build,
                                      false};

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

static const struct family recurrent = {recurrent_load, decoder_save, decoder_free, recurrent_build,
                                        false};

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

static const struct family keras = {keras_load, NULL, keras_free, keras_build, false};

static const struct subject {
    const char *name;
    const struct family *family;
} subjects[] = {
    {"gpt2", &decoder},        {"llama", &decoder},    {"llama_tied", &decoder},
    {"llama3_tied", &decoder}, {"bert_mlm", &encoder}, {"bert_cls", &encoder},
    {"bert_ner", &encoder},    {"bert_qa", &encoder},  {"rnn_lm", &recurrent},
    {"keras_rnn_lm", &keras},
};

/* ---- Logits, loss, gradients ---- */

/* The error of `found`, by the scale of `expected` or, if that is more, `least`. */
static double error_of(const float *found, const float *expected, size_t count, double least)
{
    size_t where;
    double scale = fmax(greatest(expected, count), least);
    return difference(found, expected, count, &where) / (scale > 0 ? scale : 1);
}

/* Sets what is found at padded tokens to what is expected there: (B, T, ...). */
static void hide_padding(const qn_safetensors *file, const float *expected, float *found,
                         size_t count)
{
    const struct qn_file_tensor *mask = find(file, "", "attention_mask");
    size_t tokens = qn_shape_count(mask->shape), width = count / tokens;
    int32_t *is_token = values_of(file, mask);
    for (size_t i = 0; i < tokens; i++)
        if (!is_token[i])
            memcpy(found + i * width, expected + i * width, width * sizeof *found);
    free(is_token);
}

static void compare_output(qn_plan *plan, qn_node *node, const qn_safetensors *file,
                           const struct subject *subject, const char *name, double tolerance)
{
    const struct qn_file_tensor *tensor = find(file, "", name);
    size_t count = qn_shape_count(tensor->shape);
    float *expected = values_of(file, tensor), *found = memory(count);
    bool is_there =
        qn_shape_count(qn_node_shape(node)) == count && qn_get(plan, node, found) == QN_OK;
    if (is_there && subject->family->hides_padding && count > 1)
        hide_padding(file, expected, found, count);
    double error = is_there ? error_of(found, expected, count, 0) : INFINITY;
    ok(error <= tolerance, "%s, %s: error %.1e, allowed %.1e", subject->name, name, error,
       tolerance);
    free(expected);
    free(found);
}

static bool lists(json_t *names, const char *name)
{
    size_t index;
    json_t *entry;
    json_array_foreach (names, index, entry) {
        if (strcmp(json_string_value(entry), name) == 0)
            return true;
    }
    return false;
}

static void compare_gradients(qn_plan *plan, const struct model *model, qn_node *const *gradients,
                              const qn_safetensors *file, const char *subject, json_t *training,
                              json_t *tolerance)
{
    size_t count = qn_store_count(model->parameters);
    float *expected[MOST_PARAMETERS];
    double group = 0, worst = 0, worst_zero = 0;
    for (size_t i = 0; i < count; i++) {
        const qn_tensor *parameter = qn_store_tensor(model->parameters, i);
        char name[256];
        snprintf(name, sizeof name, "%s.grad", qn_tensor_name(parameter));
        const struct qn_file_tensor *tensor = find(file, "", name);
        if (!tensor)
            bail_out("there is no %s", name);
        expected[i] = values_of(file, tensor);
        group = fmax(group, greatest(expected[i], qn_shape_count(tensor->shape)));
    }
    for (size_t i = 0; i < count; i++) {
        qn_tensor *parameter = qn_store_tensor(model->parameters, i);
        size_t elements = qn_shape_count(qn_tensor_shape(parameter));
        bool is_zero = lists(json_object_get(training, "zero_gradient"), qn_tensor_name(parameter));
        float *found = memory(elements);
        qn_get(plan, gradients[i], found);
        double error = error_of(found, expected[i], elements, is_zero ? group : group / 1000);
        double *most = is_zero ? &worst_zero : &worst;
        if (error > number(tolerance, is_zero ? "zero_grad" : "grad"))
            note("%s: error %.1e", qn_tensor_name(parameter), error);
        *most = fmax(*most, error);
        free(found);
        free(expected[i]);
    }
    ok(worst <= number(tolerance, "grad"), "%s, %zu gradients: error %.1e, allowed %.1e", subject,
       count, worst, number(tolerance, "grad"));
    if (json_object_get(tolerance, "zero_grad"))
        ok(worst_zero <= number(tolerance, "zero_grad"),
           "%s, gradients that are zero: error %.1e, allowed %.1e", subject, worst_zero,
           number(tolerance, "zero_grad"));
}

static void test_pass(const struct subject *subject, const struct model *model,
                      const qn_safetensors *file, json_t *training, json_t *tolerance)
{
    struct batch batch = {.graph = qn_graph_new(context), .file = file, .prefix = ""};
    size_t count = qn_store_count(model->parameters), n_roots = 0;
    qn_node *leaves[MOST_PARAMETERS], *gradients[MOST_PARAMETERS], *roots[MOST_PARAMETERS + 3];
    subject->family->build(model, &batch);
    for (size_t i = 0; i < count; i++)
        leaves[i] = qn_leaf(batch.graph, qn_store_tensor(model->parameters, i));
    qn_gradients(batch.loss, NULL, leaves, count, gradients);
    roots[n_roots++] = batch.logits;
    roots[n_roots++] = batch.loss;
    if (batch.hidden)
        roots[n_roots++] = batch.hidden;
    for (size_t i = 0; i < count; i++)
        roots[n_roots++] = gradients[i];
    qn_plan *plan = qn_plan_new(batch.graph, roots, n_roots);
    if (plan)
        batch_set(&batch, plan);
    if (ok(plan && qn_run(plan) == QN_OK, "%s runs", subject->name)) {
        compare_output(plan, batch.logits, file, subject, "logits", number(tolerance, "logits"));
        if (batch.hidden)
            compare_output(plan, batch.hidden, file, subject, "hidden.2",
                           number(tolerance, "hidden"));
        compare_output(plan, batch.loss, file, subject, "loss", number(tolerance, "loss"));
        compare_gradients(plan, model, gradients, file, subject->name, training, tolerance);
    } else {
        note("%s", qn_error(context));
    }
    qn_plan_free(plan);
    qn_graph_free(batch.graph);
    batch_free(&batch);
}

/* ---- Training ---- */

/* A trainer for each batch, since some are longer than others; what a trainer keeps goes from one to the next by a file. */
static void make_trainers(const struct subject *subject, const struct model *model,
                          const qn_safetensors *file, json_t *training, qn_trainer **trainers,
                          struct batch *batches)
{
    struct qn_training options = {
        .schedule = {.kind = QN_CONSTANT, .rate = number(training, "lr")},
        .optimizer = qn_optimizer_defaults(QN_ADAMW),
        .clip = number(training, "max_norm"),
    };
    options.optimizer.weight_decay = number(training, "weight_decay");
    options.optimizer.epsilon = number(training, "eps");
    for (size_t i = 0; i < BATCHES; i++) {
        static const char *const prefixes[BATCHES] = {"0.", "1.", "2.", "3."};
        trainers[i] = qn_trainer_new(model->parameters, &options);
        batches[i] = (struct batch){
            .graph = qn_trainer_graph(trainers[i]), .file = file, .prefix = prefixes[i]};
        subject->family->build(model, &batches[i]);
        if (qn_trainer_minimise(trainers[i], batches[i].loss) != QN_OK)
            bail_out("%s: %s", subject->name, qn_error(context));
        batch_set(&batches[i], qn_trainer_plan(trainers[i]));
    }
}

static double relative(double found, double expected)
{
    return fabs(found - expected) / fabs(expected);
}

static double element(json_t *object, const char *name, size_t index)
{
    return json_number_value(json_array_get(json_object_get(object, name), index));
}

static double norm_of(qn_tensor *tensor)
{
    size_t count = qn_shape_count(qn_tensor_shape(tensor));
    float *values = memory(count);
    double sum = 0;
    qn_tensor_read(tensor, values);
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    free(values);
    return sqrt(sum);
}

/* The worst error of the norms at the end, but of parameters that noise moves. */
static double compare_norms(const struct model *model, json_t *training)
{
    json_t *norms = json_object_get(training, "final_l2_norms");
    double worst = 0;
    for (size_t i = 0; i < qn_store_count(model->parameters); i++) {
        qn_tensor *parameter = qn_store_tensor(model->parameters, i);
        const char *name = qn_tensor_name(parameter);
        if (!lists(json_object_get(training, "zero_gradient"), name) &&
            !lists(json_object_get(training, "partly_zero_gradient"), name))
            worst = fmax(worst, relative(norm_of(parameter), number(norms, name)));
    }
    return worst;
}

static void test_training(const struct subject *subject, const struct model *model,
                          const qn_safetensors *file, json_t *training)
{
    json_t *tolerance = json_object_get(training, "tolerance");
    size_t steps = (size_t)number(training, "steps"), last = BATCHES;
    double worst_loss = 0, worst_norm = 0;
    qn_trainer *trainers[BATCHES];
    struct batch batches[BATCHES];
    const char *kept = in_folder("optimizer.safetensors");
    make_trainers(subject, model, file, training, trainers, batches);
    for (size_t step = 0; step < steps; step++) {
        size_t i = (size_t)element(training, "order_of_batches", step);
        struct qn_step report = {.loss = INFINITY};
        bool is_moved = last == BATCHES || (qn_trainer_save(trainers[last], kept) == QN_OK &&
                                            qn_trainer_load(trainers[i], kept) == QN_OK);
        if (!is_moved || qn_trainer_pass(trainers[i]) != QN_OK ||
            qn_trainer_report(trainers[i], step + 1, true, &report) != QN_OK)
            note("step %zu: %s", step, qn_error(context));
        worst_loss = fmax(worst_loss, relative(report.loss, element(training, "losses", step)));
        worst_norm =
            fmax(worst_norm, relative(report.gradient_norm,
                                      element(training, "grad_norms_before_clipping", step)));
        last = i;
    }
    double final = compare_norms(model, training);
    ok(worst_loss <= number(tolerance, "train_loss"),
       "%s, losses of %zu steps: error %.1e, allowed %.1e", subject->name, steps, worst_loss,
       number(tolerance, "train_loss"));
    ok(worst_norm <= number(tolerance, "grad_norm"),
       "%s, norms of their gradients: error %.1e, allowed %.1e", subject->name, worst_norm,
       number(tolerance, "grad_norm"));
    ok(final <= number(tolerance, "final_norm"),
       "%s, norms of the parameters then: error %.1e, allowed %.1e", subject->name, final,
       number(tolerance, "final_norm"));
    for (size_t i = 0; i < BATCHES; i++) {
        qn_trainer_free(trainers[i]);
        batch_free(&batches[i]);
    }
}

/* ---- Generating ---- */

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

static void test_generation(const struct subject *subject, const struct model *model,
                            json_t *generation)
{
    json_t *prompts = json_object_get(generation, "prompts");
    json_t *expected = json_object_get(json_object_get(generation, "greedy"), "new_tokens");
    qn_generator *generator = qn_generator_new(model->lm, (struct qn_generation){0});
    size_t wrong = 0;
    for (size_t i = 0; i < json_array_size(prompts); i++)
        wrong +=
            wrong_tokens(generator, json_array_get(prompts, i), json_array_get(expected, i), i);
    ok(generator && wrong == 0, "%s continues %zu prompts: %zu wrong tokens", subject->name,
       json_array_size(prompts), wrong);
    if (*qn_error(context))
        note("%s", qn_error(context));
    qn_generator_free(generator);
}

/* ---- All ---- */

static json_t *read_json(const char *model, const char *name)
{
    char path[sizeof golden_folder + 256];
    json_error_t error;
    snprintf(path, sizeof path, "%s/models/%s/%s", golden_folder, model, name);
    return json_load_file(path, 0, &error);
}

static qn_safetensors *open_tensors(const char *model, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "models/%s/%s", model, name);
    return open_file(context, path);
}

/* What is written and read again computes the same. */
static bool survives_saving(const struct subject *subject, struct model *model)
{
    if (!subject->family->save)
        return true;
    bool is_saved = subject->family->save(model, test_folder) == QN_OK;
    subject->family->free(model);
    return is_saved && subject->family->load(model, test_folder);
}

static void test_subject(const struct subject *subject, json_t *cases)
{
    char path[sizeof golden_folder + 64];
    struct model model = {0};
    json_t *tolerance = json_object_get(find_case(cases, subject->name), "tolerance");
    json_t *training = read_json(subject->name, "train.json"),
           *generation = read_json(subject->name, "generate.json");
    qn_safetensors *expected = open_tensors(subject->name, "expected.safetensors"),
                   *batches = open_tensors(subject->name, "train.safetensors");
    snprintf(path, sizeof path, "%s/models/%s", golden_folder, subject->name);
    bool is_loaded = subject->family->load(&model, path) && survives_saving(subject, &model);
    if (ok(is_loaded, "%s loads, is saved and loads again", subject->name)) {
        test_pass(subject, &model, expected, training, tolerance);
        if (generation && model.lm)
            test_generation(subject, &model, generation);
        test_training(subject, &model, batches, training);
        subject->family->free(&model);
    } else {
        note("%s", qn_error(context));
    }
    qn_clear_error(context);
    qn_safetensors_close(expected);
    qn_safetensors_close(batches);
    json_decref(training);
    json_decref(generation);
}

int main(void)
{
    json_t *index = read_index();
    if (!index) {
        skip("PyTorch's values are not there: $QUERN_SHARED is the folder that has "
             "golden/index.json");
        return done_testing();
    }
    context = qn_open(NULL);
    if (!context)
        bail_out("no device: %s", qn_error(NULL));
    make_test_folder();
    note("%s", qn_device_name(context));
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        test_subject(&subjects[i], json_object_get(index, "cases"));
    remove_test_folder();
    qn_close(context);
    json_decref(index);
    return done_testing();
}

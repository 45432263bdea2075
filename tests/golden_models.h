/* Whole models against another implementation's values, for tests: what golden.h explains, of ../shared/golden/models.  Include after
 * golden.h. */
#ifndef TEST_GOLDEN_MODELS_H
#define TEST_GOLDEN_MODELS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <quern/seq2seq.h>
#include <quern/train.h>

#include "device/context.h"

#include "files.h"
#include "golden.h"
#include "open.h"

enum { MOST_INPUTS = 5, MOST_PARAMETERS = 128, BATCHES = 4 };

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

/* Of an attention_mask. */
TAP_UNUSED static qn_node *lengths(struct batch *batch)
{
    const struct qn_file_tensor *mask = batch_find(batch, "attention_mask");
    size_t rows = mask->shape.size[0];
    int32_t *of_mask = values_of(batch->file, mask), *values = memory(rows);
    if (qn_bert_lengths(context, of_mask, rows, mask->shape.size[1], values) != QN_OK)
        bail_out("%s", qn_error(context));
    free(of_mask);
    return batch_add(batch, "lengths", QN_SHAPE(rows), values);
}

/* ---- Models ---- */

struct model {
    qn_lm *lm;           /* or */
    qn_bert *bert;       /* or */
    qn_seq2seq *seq2seq; /* or none of these */
    qn_store *parameters;
};

struct family {
    bool (*load)(struct model *model, const char *path);
    int (*save)(const struct model *model, const char *path);
    void (*free)(struct model *model);
    void (*build)(const struct model *model, struct batch *batch); /* logits, loss, hidden */
    const char *(*file_name)(const char *name); /* of a parameter, in the files; NULL: the same */
    void (*generate)(const char *subject, struct model *model, json_t *generation); /* or NULL */
    bool hides_padding; /* values at padded tokens are other than transformers', and of no use */
};

struct subject {
    const char *name;
    const struct family *family;
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

static const char *file_name(const struct subject *subject, const qn_tensor *parameter)
{
    const char *name = qn_tensor_name(parameter);
    return subject->family->file_name ? subject->family->file_name(name) : name;
}

static const struct qn_file_tensor *
gradient_of(const struct subject *subject, const qn_safetensors *file, const qn_tensor *parameter)
{
    char name[256];
    snprintf(name, sizeof name, "%s.grad", file_name(subject, parameter));
    return find(file, "", name);
}

/* The parameters that are trained: all but Marian's last bias. */
static size_t trained(const struct model *model, qn_tensor **tensors)
{
    size_t count = 0;
    for (size_t i = 0; i < qn_store_count(model->parameters); i++) {
        qn_tensor *parameter = qn_store_tensor(model->parameters, i);
        if (strcmp(qn_tensor_name(parameter), "final_logits_bias") != 0)
            tensors[count++] = parameter;
    }
    return count;
}

static void compare_gradients(qn_plan *plan, const struct subject *subject,
                              const struct model *model, qn_node *const *gradients,
                              const qn_safetensors *file, json_t *training, json_t *tolerance)
{
    qn_tensor *parameters[MOST_PARAMETERS];
    size_t count = trained(model, parameters);
    float *expected[MOST_PARAMETERS];
    double group = 0, worst = 0, worst_zero = 0;
    for (size_t i = 0; i < count; i++) {
        const struct qn_file_tensor *tensor = gradient_of(subject, file, parameters[i]);
        if (!tensor)
            bail_out("there is no gradient of %s", qn_tensor_name(parameters[i]));
        expected[i] = values_of(file, tensor);
        group = fmax(group, greatest(expected[i], qn_shape_count(tensor->shape)));
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = file_name(subject, parameters[i]);
        size_t elements = qn_shape_count(qn_tensor_shape(parameters[i]));
        bool is_zero = lists(json_object_get(training, "zero_gradient"), name);
        float *found = memory(elements);
        qn_get(plan, gradients[i], found);
        double error = error_of(found, expected[i], elements, is_zero ? group : group / 1000);
        double *most = is_zero ? &worst_zero : &worst;
        if (error > number(tolerance, is_zero ? "zero_grad" : "grad"))
            note("%s: error %.1e", name, error);
        *most = fmax(*most, error);
        free(found);
        free(expected[i]);
    }
    ok(worst <= number(tolerance, "grad"), "%s, %zu gradients: error %.1e, allowed %.1e",
       subject->name, count, worst, number(tolerance, "grad"));
    if (json_object_get(tolerance, "zero_grad"))
        ok(worst_zero <= number(tolerance, "zero_grad"),
           "%s, gradients that are zero: error %.1e, allowed %.1e", subject->name, worst_zero,
           number(tolerance, "zero_grad"));
}

static void test_pass(const struct subject *subject, const struct model *model,
                      const qn_safetensors *file, json_t *training, json_t *tolerance)
{
    struct batch batch = {.graph = qn_graph_new(context), .file = file, .prefix = ""};
    qn_tensor *parameters[MOST_PARAMETERS];
    size_t count = trained(model, parameters), n_roots = 0;
    qn_node *leaves[MOST_PARAMETERS], *gradients[MOST_PARAMETERS], *roots[MOST_PARAMETERS + 3];
    subject->family->build(model, &batch);
    for (size_t i = 0; i < count; i++)
        leaves[i] = qn_leaf(batch.graph, parameters[i]);
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
        compare_gradients(plan, subject, model, gradients, file, training, tolerance);
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
static double compare_norms(const struct subject *subject, const struct model *model,
                            json_t *training)
{
    qn_tensor *parameters[MOST_PARAMETERS];
    size_t count = trained(model, parameters);
    json_t *norms = json_object_get(training, "final_l2_norms");
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = file_name(subject, parameters[i]);
        if (!lists(json_object_get(training, "zero_gradient"), name) &&
            !lists(json_object_get(training, "partly_zero_gradient"), name))
            worst = fmax(worst, relative(norm_of(parameters[i]), number(norms, name)));
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
    double final = compare_norms(subject, model, training);
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
        if (generation && subject->family->generate)
            subject->family->generate(subject->name, &model, generation);
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

static int test_subjects(const struct subject *subjects, size_t count)
{
    json_t *index = read_index();
    if (!index) {
        skip("PyTorch's values are not there: $QUERN_SHARED is the folder that has "
             "golden/index.json");
        return done_testing();
    }
    context = open_device_or_bail_out();
    make_test_folder();
    for (size_t i = 0; i < count; i++)
        test_subject(&subjects[i], json_object_get(index, "cases"));
    remove_test_folder();
    qn_close(context);
    json_decref(index);
    return done_testing();
}

#endif

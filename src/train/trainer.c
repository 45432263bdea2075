/* The trainer: a loss, its gradients, clipping and AdamW, as one plan a step; with accumulation as two. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

#include "device/context.h"

/* The numbers of training that change, on the device. */
struct state {
    qn_tensor *step;    /* i32: steps done */
    qn_tensor *skipped; /* i32: of those, steps whose gradient was not finite */
    qn_tensor *key;     /* i32 (2): the seed of dropout, and the number of passes done */
};

struct qn_trainer {
    qn_context *context;
    qn_store *parameters, *m, *v;
    qn_store *sum; /* of gradients, while accumulating; else NULL */
    qn_tensor *loss_sum;
    struct qn_training options;
    struct state state;
    qn_graph *graph, *update_graph; /* the second one only while accumulating */
    qn_plan *pass, *update;         /* the same */
    qn_node *key;
    qn_node *loss, *norm, *rate, *skipped; /* roots of the plan that updates */
    uint64_t passes;                       /* started */
    uint64_t first_step,
        first_run; /* steps done before those passes, and runs of the plan that updates */
};

static qn_tensor *number(qn_trainer *trainer, const char *name, enum qn_type type, size_t count)
{
    qn_tensor *tensor =
        qn_tensor_new(trainer->context, name, type, count == 1 ? QN_SCALAR : QN_SHAPE(count));
    if (tensor && trainer->context->device)
        qn_tensor_write(tensor, (int32_t[2]){0, 0}); /* zero in either type */
    return tensor;
}

qn_trainer *qn_trainer_new(qn_store *parameters, const struct qn_training *options)
{
    if (!parameters)
        return NULL;
    qn_context *context = qn_store_context(parameters);
    qn_trainer *trainer = context_alloc(context, 1, sizeof *trainer);
    if (!trainer)
        return NULL;
    *trainer = (qn_trainer){.context = context, .parameters = parameters, .options = *options};
    if (trainer->options.accumulate == 0)
        trainer->options.accumulate = 1;
    if (trainer->options.epsilon == 0)
        trainer->options.epsilon = 1e-8;
    trainer->m = qn_store_like(parameters, "m");
    trainer->v = qn_store_like(parameters, "v");
    trainer->state.step = number(trainer, "step", QN_I32, 1);
    trainer->state.skipped = number(trainer, "skipped", QN_I32, 1);
    trainer->state.key = number(trainer, "key", QN_I32, 2);
    trainer->graph = qn_graph_new(context);
    if (trainer->options.accumulate > 1) {
        trainer->sum = qn_store_like(parameters, "gradients");
        trainer->loss_sum = number(trainer, "loss", QN_F32, 1);
        trainer->update_graph = qn_graph_new(context);
    }
    uint64_t seed = options->seed * 0x9E3779B97F4A7C15u;
    if (context->status == QN_OK && context->device)
        qn_tensor_write(trainer->state.key, (int32_t[2]){(int32_t)(uint32_t)(seed >> 32), 0});
    trainer->key = qn_leaf(trainer->graph, trainer->state.key);
    if (trainer->key && context->status == QN_OK)
        return trainer;
    qn_trainer_free(trainer);
    return NULL;
}

void qn_trainer_free(qn_trainer *trainer)
{
    if (!trainer)
        return;
    qn_plan_free(trainer->pass);
    if (trainer->update != trainer->pass)
        qn_plan_free(trainer->update);
    qn_graph_free(trainer->graph);
    qn_graph_free(trainer->update_graph);
    qn_tensor_free(trainer->state.step);
    qn_tensor_free(trainer->state.skipped);
    qn_tensor_free(trainer->state.key);
    qn_tensor_free(trainer->loss_sum);
    qn_store_free(trainer->sum);
    qn_store_free(trainer->m);
    qn_store_free(trainer->v);
    free(trainer);
}

qn_graph *qn_trainer_graph(qn_trainer *trainer)
{
    return trainer ? trainer->graph : NULL;
}

qn_node *qn_trainer_key(qn_trainer *trainer)
{
    return trainer ? trainer->key : NULL;
}

/* ---- Nodes ---- */

/* Roots of a plan, as many as there are. */
struct roots {
    qn_context *context;
    qn_node **nodes;
    size_t count, capacity;
};

static void add_root(struct roots *roots, qn_node *node)
{
    qn_node **nodes =
        context_grow(roots->context, roots->nodes, roots->count, &roots->capacity, sizeof *nodes);
    if (!nodes)
        return;
    roots->nodes = nodes;
    roots->nodes[roots->count++] = node;
}

static qn_node *plus_one(qn_node *number)
{
    return number ? qn_add(number, qn_cast(qn_constant(qn_node_graph(number), 1), QN_I32)) : NULL;
}

/* The numbers of an update, and what they become. */
static void control(qn_trainer *trainer, qn_graph *graph, qn_node *const *gradients,
                    struct roots *roots, qn_node **scale, qn_node **t, qn_node **gate)
{
    const struct qn_training *options = &trainer->options;
    qn_node *step = qn_leaf(graph, trainer->state.step);
    qn_node *skipped = qn_leaf(graph, trainer->state.skipped);
    qn_node *squares = NULL;
    for (size_t i = 0; i < qn_store_buffers(trainer->m); i++)
        squares = i ? qn_add(squares, qn_sum_squares(gradients[i])) : qn_sum_squares(gradients[i]);
    trainer->norm = qn_named(qn_sqrt(squares), "gradient_norm");
    *gate = qn_named(qn_is_finite(trainer->norm), "gate");
    *scale =
        options->clip > 0
            ? qn_minimum(qn_div(qn_constant(graph, options->clip), qn_offset(trainer->norm, 1e-6)),
                         qn_constant(graph, 1))
            : qn_constant(graph, 1);
    *t = qn_cast(plus_one(qn_sub(step, skipped)), QN_F32);
    struct qn_schedule schedule = {.kind = QN_COSINE,
                                   .rate = options->learning_rate,
                                   .min_rate = options->min_learning_rate,
                                   .warmup = (double)options->warmup,
                                   .total = (double)options->steps};
    trainer->rate = qn_named(qn_learning_rate(qn_cast(step, QN_F32), schedule), "learning_rate");
    qn_node *passed = qn_cast(*gate, QN_I32);
    trainer->skipped = qn_named(plus_one(qn_sub(skipped, passed)), "skipped");
    add_root(roots, qn_assign(trainer->state.step, plus_one(step)));
    add_root(roots, qn_assign(trainer->state.skipped, trainer->skipped));
    add_root(roots, trainer->norm);
    add_root(roots, trainer->rate);
    add_root(roots, trainer->skipped);
}

/* Updates each buffer by AdamW; gradients[i] belongs to the buffers that are trained, in order. */
static void update(qn_trainer *trainer, qn_graph *graph, qn_node *const *gradients,
                   struct roots *roots)
{
    qn_node *scale, *t, *gate;
    control(trainer, graph, gradients, roots, &scale, &t, &gate);
    size_t trained = 0;
    for (size_t i = 0; i < qn_store_buffers(trainer->parameters); i++) {
        enum qn_group group = qn_store_buffer_group(trainer->parameters, i);
        if (group == QN_FROZEN)
            continue;
        qn_tensor *p = qn_store_buffer(trainer->parameters, i);
        qn_tensor *m = qn_store_buffer(trainer->m, trained),
                  *v = qn_store_buffer(trainer->v, trained);
        struct qn_adamw options = {.beta1 = trainer->options.beta1,
                                   .beta2 = trainer->options.beta2,
                                   .epsilon = trainer->options.epsilon,
                                   .weight_decay =
                                       group == QN_DECAY ? trainer->options.weight_decay : 0};
        qn_node *adamw = qn_adamw(qn_leaf(graph, p), qn_leaf(graph, m), qn_leaf(graph, v),
                                  gradients[trained], trainer->rate, scale, t, gate, options);
        add_root(roots, qn_assign(p, adamw));
        add_root(roots, qn_assign(m, adamw ? qn_output(adamw, 1) : NULL));
        add_root(roots, qn_assign(v, adamw ? qn_output(adamw, 2) : NULL));
        trained++;
    }
}

/* The gradients of the loss, packed by buffer. */
static int packed_gradients(qn_trainer *trainer, qn_node *loss, qn_node **packed)
{
    size_t count = qn_store_count(trainer->parameters);
    qn_node **leaves = context_alloc(trainer->context, count + 1, sizeof *leaves);
    qn_node **gradients = context_alloc(trainer->context, count + 1, sizeof *gradients);
    int status = leaves && gradients ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        leaves[i] = qn_leaf(trainer->graph, qn_store_tensor(trainer->parameters, i));
    if (status == QN_OK)
        status = qn_gradients(loss, NULL, leaves, count, gradients);
    size_t trained = 0;
    for (size_t i = 0; status == QN_OK && i < qn_store_buffers(trainer->parameters); i++)
        if (qn_store_buffer_group(trainer->parameters, i) != QN_FROZEN)
            packed[trained++] = qn_pack(trainer->parameters, i, gradients);
    free(leaves);
    free(gradients);
    return status;
}

/* One plan: gradients and update. */
static void make_step(qn_trainer *trainer, qn_node *loss, qn_node *const *packed,
                      struct roots *roots)
{
    trainer->loss = loss;
    add_root(roots, loss);
    update(trainer, trainer->graph, packed, roots);
    trainer->pass = trainer->update = qn_plan_new(trainer->graph, roots->nodes, roots->count);
}

/* Two plans: one adds a batch's share to the sums, the other updates by them and empties them. */
static void make_accumulation(qn_trainer *trainer, qn_node *loss, qn_node *const *packed,
                              struct roots *roots)
{
    qn_graph *graph = trainer->graph, *after = trainer->update_graph;
    size_t buffers = qn_store_buffers(trainer->sum);
    add_root(roots, qn_assign(trainer->loss_sum, qn_add(qn_leaf(graph, trainer->loss_sum), loss)));
    for (size_t i = 0; i < buffers; i++) {
        qn_tensor *sum = qn_store_buffer(trainer->sum, i);
        add_root(roots, qn_assign(sum, qn_add(qn_leaf(graph, sum), packed[i])));
    }
    trainer->pass = qn_plan_new(graph, roots->nodes, roots->count);

    roots->count = 0;
    qn_node **sums = context_alloc(trainer->context, buffers + 1, sizeof *sums);
    for (size_t i = 0; sums && i < buffers; i++) {
        qn_tensor *sum = qn_store_buffer(trainer->sum, i);
        sums[i] = qn_leaf(after, sum);
        add_root(roots, qn_assign(sum, qn_broadcast(qn_constant(after, 0), qn_tensor_shape(sum))));
    }
    trainer->loss = qn_leaf(after, trainer->loss_sum);
    add_root(roots, trainer->loss);
    add_root(roots, qn_assign(trainer->loss_sum, qn_constant(after, 0)));
    if (sums)
        update(trainer, after, sums, roots);
    trainer->update = qn_plan_new(after, roots->nodes, roots->count);
    free(sums);
}

int qn_trainer_minimise(qn_trainer *trainer, qn_node *loss)
{
    if (!trainer || !loss)
        return QN_ERROR_INVALID;
    qn_context *context = trainer->context;
    if (qn_shape_count(qn_node_shape(loss)) != 1 || qn_node_graph(loss) != trainer->graph)
        return context_fail(context, QN_ERROR_INVALID,
                            "trainer: the loss must be one number of the trainer's graph");
    loss = qn_reshape(loss, QN_SCALAR);
    if (trainer->options.accumulate > 1)
        loss = qn_scale(loss, 1.0 / (double)trainer->options.accumulate);
    struct roots roots = {.context = context};
    qn_node **packed =
        context_alloc(context, qn_store_buffers(trainer->parameters) + 1, sizeof *packed);
    int status = packed ? packed_gradients(trainer, loss, packed) : QN_ERROR_MEMORY;
    qn_node *passes = qn_range(trainer->graph, 2); /* 0 for the seed, 1 for the number of passes */
    add_root(&roots, qn_assign(trainer->state.key, qn_add(trainer->key, passes)));
    if (status == QN_OK && trainer->options.accumulate > 1)
        make_accumulation(trainer, loss, packed, &roots);
    else if (status == QN_OK)
        make_step(trainer, loss, packed, &roots);
    free(packed);
    free(roots.nodes);
    return trainer->pass && trainer->update ? status : (int)context->status;
}

/* ---- Running ---- */

qn_plan *qn_trainer_plan(qn_trainer *trainer)
{
    return trainer ? trainer->pass : NULL;
}

int qn_trainer_pass(qn_trainer *trainer)
{
    int status = qn_run(trainer->pass);
    if (status != QN_OK)
        return status;
    trainer->passes++;
    if (trainer->update != trainer->pass && trainer->passes % trainer->options.accumulate == 0)
        status = qn_run(trainer->update);
    return status;
}

/* Forgets what the passes of a step added up. */
static int clear_sums(qn_trainer *trainer)
{
    int status = trainer->loss_sum ? qn_fill(trainer->loss_sum, 0) : QN_OK;
    for (size_t i = 0; status == QN_OK && trainer->sum && i < qn_store_buffers(trainer->sum); i++)
        status = qn_fill(qn_store_buffer(trainer->sum, i), 0);
    return status;
}

int qn_trainer_undo(qn_trainer *trainer)
{
    uint64_t begun = trainer->passes % trainer->options.accumulate;
    int32_t key[2];
    if (begun == 0)
        return QN_OK;
    int status = qn_tensor_read(trainer->state.key, key);
    key[1] = (int32_t)((uint32_t)key[1] - (uint32_t)begun);
    if (status == QN_OK)
        status = qn_tensor_write(trainer->state.key, key);
    if (status == QN_OK)
        status = clear_sums(trainer);
    if (status == QN_OK)
        trainer->passes -= begun;
    return status;
}

uint64_t qn_trainer_steps(const qn_trainer *trainer)
{
    return trainer->first_step + trainer->passes / trainer->options.accumulate;
}

int qn_trainer_report(qn_trainer *trainer, uint64_t step, bool wait, struct qn_step *report)
{
    if (step <= trainer->first_step || step > qn_trainer_steps(trainer))
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: there is no step %llu to report", (unsigned long long)step);
    uint64_t run = step - trainer->first_step + trainer->first_run;
    float loss, norm, rate;
    int32_t skipped;
    int status = QN_OK;
    if (wait)
        status = qn_wait(trainer->update, run);
    if (status == QN_OK)
        status = qn_result(trainer->update, trainer->loss, run, &loss);
    if (status == QN_OK)
        status = qn_result(trainer->update, trainer->norm, run, &norm);
    if (status == QN_OK)
        status = qn_result(trainer->update, trainer->rate, run, &rate);
    if (status == QN_OK)
        status = qn_result(trainer->update, trainer->skipped, run, &skipped);
    if (status == QN_OK)
        *report = (struct qn_step){loss, norm, rate, (uint64_t)skipped};
    return status;
}

struct qn_memory qn_trainer_memory(const qn_trainer *trainer)
{
    struct qn_memory memory = qn_plan_memory(trainer->pass);
    if (trainer->update != trainer->pass)
        memory.commands += qn_plan_memory(trainer->update).commands;
    return memory;
}

/* ---- Files ---- */

enum { STATE_TENSORS = 3 };

/* Tensor number `index` of the file, and what its name begins with. */
static qn_tensor *file_tensor(const qn_trainer *trainer, size_t index, const char **prefix)
{
    qn_tensor *const states[STATE_TENSORS] = {trainer->state.step, trainer->state.skipped,
                                              trainer->state.key};
    size_t count = qn_store_count(trainer->m);
    *prefix = index < STATE_TENSORS ? "" : index < STATE_TENSORS + count ? "m." : "v.";
    if (index < STATE_TENSORS)
        return states[index];
    index -= STATE_TENSORS;
    return index < count ? qn_store_tensor(trainer->m, index)
                         : qn_store_tensor(trainer->v, index - count);
}

static char *file_name(const qn_trainer *trainer, size_t index)
{
    const char *prefix;
    const char *name = qn_tensor_name(file_tensor(trainer, index, &prefix));
    size_t bytes = strlen(prefix) + strlen(name) + 1;
    char *full = context_alloc(trainer->context, bytes, 1);
    if (full)
        snprintf(full, bytes, "%s%s", prefix, name);
    return full;
}

static int file_values(void *trainer, size_t index, void *values)
{
    const char *prefix;
    return qn_tensor_read(file_tensor(trainer, index, &prefix), values);
}

int qn_trainer_save(qn_trainer *trainer, const char *path)
{
    size_t count = STATE_TENSORS + 2 * qn_store_count(trainer->m);
    if (trainer->passes % trainer->options.accumulate != 0)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: it can be saved between steps only, and a step has begun");
    struct qn_file_tensor *tensors = context_alloc(trainer->context, count, sizeof *tensors);
    char **names = context_alloc(trainer->context, count, sizeof *names);
    int status = tensors && names ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        const char *prefix;
        const qn_tensor *tensor = file_tensor(trainer, i, &prefix);
        names[i] = file_name(trainer, i);
        tensors[i] = (struct qn_file_tensor){.name = names[i],
                                             .type = qn_safetensors_type(qn_tensor_type(tensor)),
                                             .shape = qn_tensor_shape(tensor),
                                             .bytes = qn_tensor_bytes(tensor)};
        if (!names[i])
            status = QN_ERROR_MEMORY;
    }
    if (status == QN_OK)
        status = qn_safetensors_write(trainer->context, path, tensors, count, NULL, file_values,
                                      trainer);
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
    free(tensors);
    return status;
}

static int load_tensor(qn_trainer *trainer, const qn_safetensors *file, const char *path,
                       size_t index)
{
    const char *prefix;
    qn_tensor *tensor = file_tensor(trainer, index, &prefix);
    char *name = file_name(trainer, index);
    const struct qn_file_tensor *found = name ? qn_safetensors_find(file, name) : NULL;
    int status = QN_OK;
    if (!name)
        status = QN_ERROR_MEMORY;
    else if (!found || !qn_shape_equal(found->shape, qn_tensor_shape(tensor)) ||
             strcmp(found->type, qn_safetensors_type(qn_tensor_type(tensor))) != 0)
        status = context_fail(
            trainer->context, QN_ERROR_FORMAT,
            "%s: tensor %s is missing, or of another shape or type than this model's", path, name);
    void *values = status == QN_OK ? context_alloc(trainer->context, 1, found->bytes) : NULL;
    if (status == QN_OK && !values)
        status = QN_ERROR_MEMORY;
    if (status == QN_OK) {
        memcpy(values, found->data, found->bytes);
        if (trainer->context->device)
            status = qn_tensor_write(tensor, values);
    }
    free(values);
    free(name);
    return status;
}

int qn_trainer_load(qn_trainer *trainer, const char *path)
{
    qn_safetensors *file = qn_safetensors_open(trainer->context, path);
    if (!file)
        return trainer->context->status;
    int status = QN_OK;
    int32_t steps = 0;
    size_t count = STATE_TENSORS + 2 * qn_store_count(trainer->m);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = load_tensor(trainer, file, path, i);
    if (status == QN_OK && qn_safetensors_count(file) != count)
        status = context_fail(trainer->context, QN_ERROR_FORMAT,
                              "%s: there are %zu tensors, but this model's optimizer has %zu", path,
                              qn_safetensors_count(file), count);
    if (status == QN_OK)
        status = qn_safetensors_i32(
            file, qn_safetensors_find(file, qn_tensor_name(trainer->state.step)), &steps);
    qn_safetensors_close(file);
    if (status == QN_OK && steps < 0)
        status = context_fail(trainer->context, QN_ERROR_FORMAT, "%s: step is %d", path, steps);
    trainer->first_step = status == QN_OK ? (uint64_t)steps : 0;
    trainer->first_run = trainer->update ? qn_runs(trainer->update) : 0;
    trainer->passes = 0;
    return status == QN_OK && trainer->context->device ? clear_sums(trainer) : status;
}

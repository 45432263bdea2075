/* The trainer: a loss, its gradients, clipping and AdamW, as one plan a step; with accumulation as two. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "device/store.h"
#include "train/trainer.h"

static qn_tensor *number(qn_trainer *trainer, const char *name, enum qn_type type, size_t count)
{
    qn_tensor *tensor =
        qn_tensor_new(trainer->context, name, type, count == 1 ? QN_SCALAR : QN_SHAPE(count));
    if (tensor && trainer->context->device)
        qn_tensor_write(tensor, (int32_t[2]){0, 0}); /* zero in either type */
    return tensor;
}

/* ---- What the optimizer keeps ---- */

static bool is_in(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(name, words[i]))
            return true;
    return false;
}

/* The optimizer of a tensor, or of a buffer of a group (name and shape are not looked at then). */
static struct qn_optimizer optimizer_of(const qn_trainer *trainer, enum qn_group group,
                                        const char *name, qn_shape shape)
{
    static const char *const no_layers[] = {"wte", "wpe", "embed", "lm_head"};
    struct qn_optimizer optimizer = trainer->options.optimizer;
    if (optimizer.kind == QN_MUON &&
        (group != QN_DECAY || shape.rank != 2 ||
         is_in(name, no_layers, sizeof no_layers / sizeof *no_layers))) {
        struct qn_optimizer other = qn_optimizer_defaults(QN_ADAMW);
        other.weight_decay = optimizer.weight_decay;
        optimizer = other;
    }
    if (group != QN_DECAY)
        optimizer.weight_decay = 0;
    return optimizer;
}

static void keep_like_parameters(qn_trainer *trainer)
{
    struct qn_optimizer_state states[QN_OPTIMIZER_STATES];
    size_t count = qn_optimizer_states(&trainer->options.optimizer, QN_SCALAR, states);
    for (size_t i = 0; i < count; i++) {
        qn_store *store = qn_store_like(trainer->parameters, states[i].name);
        trainer->kept[trainer->n_kept++] = store;
        for (size_t j = 0; store && states[i].initial != 0 && j < qn_store_buffers(store); j++)
            if (trainer->context->device)
                qn_fill(qn_store_buffer(store, j), states[i].initial);
    }
}

enum { NAME_TEXT = 512 };

static const char *kept_name(const char *state, const char *parameter, char text[NAME_TEXT])
{
    snprintf(text, NAME_TEXT, "%s.%s", state, parameter);
    return text;
}

static void keep_by_tensor(qn_trainer *trainer)
{
    char text[NAME_TEXT];
    qn_store *store = trainer->kept[trainer->n_kept++] =
        qn_store_new(trainer->context, "optimizer");
    for (size_t i = 0; store && i < trainer->parameters->count; i++) {
        const struct store_entry *entry = &trainer->parameters->entries[i];
        const qn_tensor *tensor = entry->tensor;
        struct qn_optimizer optimizer =
            optimizer_of(trainer, entry->group, tensor->name, tensor->shape);
        struct qn_optimizer_state states[QN_OPTIMIZER_STATES];
        size_t count =
            entry->group == QN_FROZEN ? 0 : qn_optimizer_states(&optimizer, tensor->shape, states);
        for (size_t j = 0; j < count; j++)
            qn_store_add(store, kept_name(states[j].name, tensor->name, text), QN_F32,
                         states[j].shape, QN_NO_DECAY);
    }
    qn_store_seal(store);
}

/* ---- Making ---- */

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
    if (qn_optimizer_is_element_wise(&trainer->options.optimizer))
        keep_like_parameters(trainer);
    else
        keep_by_tensor(trainer);
    trainer->state.step = number(trainer, "step", QN_I32, 1);
    trainer->state.skipped = number(trainer, "skipped", QN_I32, 1);
    trainer->state.key = number(trainer, "key", QN_I32, 2);
    if (trainer->options.average > 0)
        trainer->average = qn_store_like(parameters, "parameters");
    if (trainer->options.loss_scale > 0) {
        trainer->state.scale = number(trainer, "loss_scale", QN_F32, 1);
        trainer->state.passed = number(trainer, "passed", QN_I32, 1);
        if (context->device)
            qn_fill(trainer->state.scale, trainer->options.loss_scale);
    }
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
    qn_plan_free(trainer->swap);
    qn_graph_free(trainer->swap_graph);
    qn_store_free(trainer->average);
    qn_tensor_free(trainer->state.step);
    qn_tensor_free(trainer->state.skipped);
    qn_tensor_free(trainer->state.key);
    qn_tensor_free(trainer->state.scale);
    qn_tensor_free(trainer->state.passed);
    qn_tensor_free(trainer->loss_sum);
    qn_store_free(trainer->sum);
    for (size_t i = 0; i < trainer->n_kept; i++)
        qn_store_free(trainer->kept[i]);
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

qn_node *qn_trainer_loss_scale(qn_trainer *trainer)
{
    bool has_scale = trainer && trainer->state.scale;
    return has_scale ? qn_leaf(trainer->graph, trainer->state.scale) : NULL;
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

/* What the loss is multiplied by after a step: half of it after one that is skipped, twice as much after many that are not. */
static void update_loss_scale(qn_trainer *trainer, qn_graph *graph, qn_node *gate,
                              struct roots *roots)
{
    enum { MANY = 2000 };
    qn_node *scale = qn_leaf(graph, trainer->state.scale),
            *passed = plus_one(qn_leaf(graph, trainer->state.passed)),
            *many = qn_cast(qn_constant(graph, MANY), QN_I32),
            *none = qn_cast(qn_constant(graph, 0), QN_I32), *is_full = qn_equal(passed, many);
    qn_node *next = qn_where(gate, qn_where(is_full, qn_scale(scale, 2), scale),
                             qn_maximum(qn_scale(scale, 0.5), qn_constant(graph, 1)));
    trainer->scale = qn_named(next, "loss_scale");
    passed = qn_where(gate, qn_where(is_full, none, passed), none);
    add_root(roots, qn_assign(trainer->state.scale, trainer->scale));
    add_root(roots, qn_assign(trainer->state.passed, passed));
    add_root(roots, trainer->scale);
}

/* The numbers of an update, and what they become. */
static struct qn_update control(qn_trainer *trainer, qn_graph *graph, qn_node *const *gradients,
                                struct roots *roots)
{
    const struct qn_training *options = &trainer->options;
    qn_node *step = qn_leaf(graph, trainer->state.step);
    qn_node *skipped = qn_leaf(graph, trainer->state.skipped);
    qn_node *squares = NULL;
    for (size_t i = 0; gradients[i]; i++)
        squares = i ? qn_add(squares, qn_sum_squares(gradients[i])) : qn_sum_squares(gradients[i]);
    qn_node *norm = qn_sqrt(squares);
    if (trainer->state.scale)
        norm = qn_div(norm, qn_leaf(graph, trainer->state.scale));
    trainer->norm = qn_named(norm, "gradient_norm");
    qn_node *gate = qn_named(qn_is_finite(trainer->norm), "gate"), *scale = qn_constant(graph, 1);
    if (options->clip > 0)
        scale = qn_minimum(
            qn_div(qn_constant(graph, options->clip), qn_offset(trainer->norm, 1e-6)), scale);
    if (trainer->state.scale) {
        scale = qn_div(scale, qn_leaf(graph, trainer->state.scale));
        update_loss_scale(trainer, graph, gate, roots);
    }
    trainer->rate =
        qn_named(qn_learning_rate(qn_cast(step, QN_F32), options->schedule), "learning_rate");
    qn_node *passed = qn_cast(gate, QN_I32);
    trainer->skipped = qn_named(plus_one(qn_sub(skipped, passed)), "skipped");
    add_root(roots, qn_assign(trainer->state.step, plus_one(step)));
    add_root(roots, qn_assign(trainer->state.skipped, trainer->skipped));
    add_root(roots, trainer->norm);
    add_root(roots, trainer->rate);
    add_root(roots, trainer->skipped);
    return (struct qn_update){.learning_rate = trainer->rate,
                              .scale = scale,
                              .t = qn_cast(plus_one(qn_sub(step, skipped)), QN_F32),
                              .gate = gate};
}

/* Moves the average towards parameters that were updated; but not after a step that is skipped. */
static void update_average(const qn_trainer *trainer, qn_tensor *average, qn_node *updated,
                           struct qn_update numbers, struct roots *roots)
{
    if (!average)
        return;
    qn_graph *graph = qn_node_graph(numbers.t);
    qn_node *old = qn_leaf(graph, average),
            *growing = qn_div(qn_offset(numbers.t, 1), qn_offset(numbers.t, 10)),
            *decay = qn_minimum(growing, qn_constant(graph, trainer->options.average)),
            *step = qn_sub(qn_constant(graph, 1), decay);
    qn_node *moved = qn_add(old, qn_mul(step, qn_sub(updated, old)));
    add_root(roots, qn_assign(average, qn_where(numbers.gate, moved, old)));
}

/* Updates a tensor or a buffer, its states and, if there is one, its average. */
static void update_one(const qn_trainer *trainer, const struct qn_optimizer *optimizer,
                       qn_tensor *parameters, qn_tensor *average, qn_tensor *const *kept,
                       size_t n_kept, qn_node *gradient, struct qn_update numbers,
                       struct roots *roots)
{
    qn_graph *graph = qn_node_graph(numbers.t);
    qn_node *states[QN_OPTIMIZER_STATES];
    for (size_t i = 0; i < n_kept; i++)
        states[i] = qn_leaf(graph, kept[i]);
    qn_node *updated =
        qn_optimizer_update(optimizer, qn_leaf(graph, parameters), gradient, numbers, states);
    add_root(roots, qn_assign(parameters, updated));
    update_average(trainer, average, updated, numbers, roots);
    for (size_t i = 0; i < n_kept; i++)
        add_root(roots, qn_assign(kept[i], updated ? states[i] : NULL));
}

/* Tensor after tensor of a buffer; `gradient` is that of the whole buffer. */
static void update_tensors(qn_trainer *trainer, size_t buffer, qn_node *gradient,
                           struct qn_update numbers, struct roots *roots)
{
    char text[NAME_TEXT];
    for (size_t i = 0; i < trainer->parameters->count; i++) {
        const struct store_entry *entry = &trainer->parameters->entries[i];
        if (entry->buffer != buffer)
            continue;
        qn_tensor *tensor = entry->tensor, *kept[QN_OPTIMIZER_STATES];
        struct qn_optimizer optimizer =
            optimizer_of(trainer, entry->group, tensor->name, tensor->shape);
        struct qn_optimizer_state states[QN_OPTIMIZER_STATES];
        size_t n_kept = qn_optimizer_states(&optimizer, tensor->shape, states);
        for (size_t j = 0; j < n_kept; j++)
            kept[j] =
                qn_store_find(trainer->kept[0], kept_name(states[j].name, tensor->name, text));
        size_t begin = entry->offset / sizeof(float);
        qn_node *part = qn_slice(gradient, 0, begin, begin + qn_shape_count(tensor->shape));
        qn_tensor *average =
            trainer->average ? qn_store_find(trainer->average, tensor->name) : NULL;
        update_one(trainer, &optimizer, tensor, average, kept, n_kept,
                   qn_reshape(part, tensor->shape), numbers, roots);
    }
}

/* Updates all parameters; gradients[i] belongs to the buffers that are trained, in order.  Returns the gate. */
static qn_node *update(qn_trainer *trainer, qn_graph *graph, qn_node *const *gradients,
                       struct roots *roots)
{
    struct qn_update numbers = control(trainer, graph, gradients, roots);
    size_t trained = 0;
    for (size_t i = 0; i < qn_store_buffers(trainer->parameters); i++) {
        enum qn_group group = qn_store_buffer_group(trainer->parameters, i);
        if (group == QN_FROZEN)
            continue;
        qn_node *gradient = gradients[trained];
        if (qn_optimizer_is_element_wise(&trainer->options.optimizer)) {
            struct qn_optimizer optimizer = optimizer_of(trainer, group, "", QN_SCALAR);
            qn_tensor *kept[QN_OPTIMIZER_STATES];
            for (size_t j = 0; j < trainer->n_kept; j++)
                kept[j] = qn_store_buffer(trainer->kept[j], trained);
            qn_tensor *average =
                trainer->average ? qn_store_buffer(trainer->average, trained) : NULL;
            update_one(trainer, &optimizer, qn_store_buffer(trainer->parameters, i), average, kept,
                       trainer->n_kept, gradient, numbers, roots);
        } else {
            update_tensors(trainer, i, gradient, numbers, roots);
        }
        trained++;
    }
    return numbers.gate;
}

int qn_trainer_carry(qn_trainer *trainer, qn_tensor *state, qn_node *next)
{
    if (!trainer || !state || !next)
        return QN_ERROR_INVALID;
    if (trainer->options.accumulate > 1)
        return context_fail(
            trainer->context, QN_ERROR_INVALID,
            "trainer: state cannot be carried over the %zu batches of a step, whose "
            "rows are of different texts",
            trainer->options.accumulate);
    trainer->carried = state;
    trainer->carry = next;
    return QN_OK;
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
        status = qn_gradients(loss, qn_trainer_loss_scale(trainer), leaves, count, gradients);
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
    qn_node *gate = update(trainer, trainer->graph, packed, roots);
    if (trainer->carried) {
        qn_node *old = qn_leaf(trainer->graph, trainer->carried);
        add_root(roots, qn_assign(trainer->carried, qn_where(gate, trainer->carry, old)));
    }
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

/* The average begins as the parameters are. */
static int start_average(qn_trainer *trainer)
{
    int status = QN_OK;
    for (size_t i = 0, trained = 0; status == QN_OK && i < qn_store_buffers(trainer->parameters);
         i++) {
        if (qn_store_buffer_group(trainer->parameters, i) == QN_FROZEN)
            continue;
        const qn_tensor *parameters = qn_store_buffer(trainer->parameters, i);
        void *values = context_alloc(trainer->context, 1, qn_tensor_bytes(parameters));
        status = values ? qn_tensor_read(parameters, values) : QN_ERROR_MEMORY;
        if (status == QN_OK)
            status = qn_tensor_write(qn_store_buffer(trainer->average, trained++), values);
        free(values);
    }
    return status;
}

/* The plan that exchanges parameters and averages. */
static int make_swap(qn_trainer *trainer)
{
    qn_graph *graph = trainer->swap_graph = qn_graph_new(trainer->context);
    size_t buffers = qn_store_buffers(trainer->parameters), trained = 0;
    struct roots roots = {.context = trainer->context};
    for (size_t i = 0; graph && i < buffers; i++) {
        if (qn_store_buffer_group(trainer->parameters, i) == QN_FROZEN)
            continue;
        qn_tensor *a = qn_store_buffer(trainer->parameters, i),
                  *b = qn_store_buffer(trainer->average, trained++);
        add_root(&roots, qn_assign(a, qn_leaf(graph, b)));
        add_root(&roots, qn_assign(b, qn_leaf(graph, a)));
    }
    trainer->swap = qn_plan_new(graph, roots.nodes, roots.count);
    free(roots.nodes);
    return trainer->swap ? QN_OK : (int)trainer->context->status;
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
    if (status == QN_OK && trainer->average)
        status = make_swap(trainer);
    if (status == QN_OK && trainer->average && context->device)
        status = start_average(trainer);
    return trainer->pass && trainer->update ? status : (int)context->status;
}

/* ---- Running ---- */

qn_plan *qn_trainer_plan(qn_trainer *trainer)
{
    return trainer ? trainer->pass : NULL;
}

int qn_trainer_pass(qn_trainer *trainer)
{
    if (trainer->is_swapped)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: the parameters are exchanged for their average; exchange "
                            "them again before going on");
    int status = qn_run(trainer->pass);
    if (status != QN_OK)
        return status;
    trainer->passes++;
    if (trainer->update != trainer->pass && trainer->passes % trainer->options.accumulate == 0)
        status = qn_run(trainer->update);
    return status;
}

int qn_trainer_swap_average(qn_trainer *trainer)
{
    int status = trainer && trainer->swap ? qn_run(trainer->swap) : QN_OK;
    if (trainer && trainer->swap && status == QN_OK)
        trainer->is_swapped = !trainer->is_swapped;
    return status;
}

int trainer_clear_sums(qn_trainer *trainer)
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
        status = trainer_clear_sums(trainer);
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
    float loss, norm, rate, scale = 0;
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
    if (status == QN_OK && trainer->scale)
        status = qn_result(trainer->update, trainer->scale, run, &scale);
    if (status == QN_OK)
        *report = (struct qn_step){loss, norm, rate, (uint64_t)skipped, scale};
    return status;
}

struct qn_memory qn_trainer_memory(const qn_trainer *trainer)
{
    struct qn_memory memory = qn_plan_memory(trainer->pass);
    if (trainer->update != trainer->pass)
        memory.commands += qn_plan_memory(trainer->update).commands;
    return memory;
}

size_t qn_trainer_kept_bytes(const qn_trainer *trainer)
{
    size_t bytes = 0;
    for (size_t i = 0; i < trainer->n_kept; i++)
        for (size_t j = 0; j < qn_store_buffers(trainer->kept[i]); j++)
            bytes += qn_tensor_bytes(qn_store_buffer(trainer->kept[i], j));
    for (size_t i = 0; trainer->average && i < qn_store_buffers(trainer->average); i++)
        bytes += qn_tensor_bytes(qn_store_buffer(trainer->average, i));
    return bytes;
}

/* The trainer: a loss, its gradients, clipping and an optimizer, as one plan a step; with accumulation as two. */
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
    trainer_keep(trainer);
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
    if (trainer->options.accumulate > 1) {
        trainer->sum = qn_store_like(parameters, "gradients");
        trainer->loss_sum = number(trainer, "loss", QN_F32, 1);
    }
    uint64_t seed = options->seed * 0x9E3779B97F4A7C15u;
    if (context->status == QN_OK && context->device)
        qn_tensor_write(trainer->state.key, (int32_t[2]){(int32_t)(uint32_t)(seed >> 32), 0});
    if (context->status == QN_OK)
        return trainer;
    qn_trainer_free(trainer);
    return NULL;
}

static void release(struct part *part)
{
    qn_plan_free(part->plan);
    qn_graph_free(part->graph);
}

void qn_trainer_free(qn_trainer *trainer)
{
    if (!trainer)
        return;
    for (size_t i = 0; i < trainer->n_losses; i++)
        release(&trainer->losses[i]);
    free(trainer->losses);
    release(&trainer->update);
    release(&trainer->swap);
    qn_graph_free(trainer->graph);
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
    if (trainer && !trainer->graph)
        trainer->graph = qn_graph_new(trainer->context);
    return trainer ? trainer->graph : NULL;
}

qn_node *qn_trainer_key(qn_trainer *trainer)
{
    return trainer ? qn_leaf(qn_trainer_graph(trainer), trainer->state.key) : NULL;
}

qn_node *qn_trainer_loss_scale(qn_trainer *trainer)
{
    bool has_scale = trainer && trainer->state.scale;
    return has_scale ? qn_leaf(qn_trainer_graph(trainer), trainer->state.scale) : NULL;
}

/* ---- Nodes ---- */

void roots_add(struct roots *roots, qn_node *node)
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
static void update_loss_scale(qn_trainer *trainer, qn_node *gate, struct roots *roots,
                              struct reported *reported)
{
    enum { MANY = 2000 };
    qn_graph *graph = qn_node_graph(gate);
    qn_node *scale = qn_leaf(graph, trainer->state.scale),
            *passed = plus_one(qn_leaf(graph, trainer->state.passed)),
            *many = qn_cast(qn_constant(graph, MANY), QN_I32),
            *none = qn_cast(qn_constant(graph, 0), QN_I32), *is_full = qn_equal(passed, many);
    qn_node *next = qn_where(gate, qn_where(is_full, qn_scale(scale, 2), scale),
                             qn_maximum(qn_scale(scale, 0.5), qn_constant(graph, 1)));
    reported->scale = qn_named(next, "loss_scale");
    passed = qn_where(gate, qn_where(is_full, none, passed), none);
    roots_add(roots, qn_assign(trainer->state.scale, reported->scale));
    roots_add(roots, qn_assign(trainer->state.passed, passed));
    roots_add(roots, reported->scale);
}

/* The numbers of an update, and what they become. */
static struct qn_update control(qn_trainer *trainer, qn_graph *graph, qn_node *const *gradients,
                                struct roots *roots, struct reported *reported)
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
    reported->norm = qn_named(norm, "gradient_norm");
    qn_node *gate = qn_named(qn_is_finite(norm), "gate"), *scale = qn_constant(graph, 1);
    if (options->clip > 0)
        scale = qn_minimum(qn_div(qn_constant(graph, options->clip), qn_offset(norm, 1e-6)), scale);
    if (trainer->state.scale && gate) {
        scale = qn_div(scale, qn_leaf(graph, trainer->state.scale));
        update_loss_scale(trainer, gate, roots, reported);
    }
    reported->rate =
        qn_named(qn_learning_rate(qn_cast(step, QN_F32), options->schedule), "learning_rate");
    qn_node *passed = qn_cast(gate, QN_I32);
    reported->skipped = qn_named(plus_one(qn_sub(skipped, passed)), "skipped");
    roots_add(roots, qn_assign(trainer->state.step, plus_one(step)));
    roots_add(roots, qn_assign(trainer->state.skipped, reported->skipped));
    roots_add(roots, reported->norm);
    roots_add(roots, reported->rate);
    roots_add(roots, reported->skipped);
    return (struct qn_update){.learning_rate = reported->rate,
                              .scale = scale,
                              .t = qn_cast(plus_one(qn_sub(step, skipped)), QN_F32),
                              .gate = gate};
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
    qn_graph *graph = qn_node_graph(loss);
    qn_node *scale = trainer->state.scale ? qn_leaf(graph, trainer->state.scale) : NULL;
    size_t count = qn_store_count(trainer->parameters);
    qn_node **leaves = context_alloc(trainer->context, count + 1, sizeof *leaves);
    qn_node **gradients = context_alloc(trainer->context, count + 1, sizeof *gradients);
    int status = leaves && gradients ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        leaves[i] = qn_leaf(graph, qn_store_tensor(trainer->parameters, i));
    if (status == QN_OK)
        status = qn_gradients(loss, scale, leaves, count, gradients);
    size_t trained = 0;
    for (size_t i = 0; status == QN_OK && i < qn_store_buffers(trainer->parameters); i++)
        if (qn_store_buffer_group(trainer->parameters, i) != QN_FROZEN)
            packed[trained++] = qn_pack(trainer->parameters, i, gradients);
    free(leaves);
    free(gradients);
    return status;
}

/* One plan: gradients and update. */
static void make_step(qn_trainer *trainer, struct part *step, qn_node *loss, qn_node *const *packed,
                      struct roots *roots)
{
    step->reported.loss = loss;
    roots_add(roots, loss);
    struct qn_update numbers = control(trainer, step->graph, packed, roots, &step->reported);
    trainer_update(trainer, packed, numbers, roots);
    if (trainer->carry) {
        qn_node *old = qn_leaf(step->graph, trainer->carried);
        roots_add(roots, qn_assign(trainer->carried, qn_where(numbers.gate, trainer->carry, old)));
    }
    step->plan = qn_plan_new(step->graph, roots->nodes, roots->count);
}

/* The plan that adds a batch's share to the sums. */
static void make_pass(qn_trainer *trainer, struct part *pass, qn_node *loss, qn_node *const *packed,
                      struct roots *roots)
{
    qn_graph *graph = pass->graph;
    roots_add(roots, qn_assign(trainer->loss_sum, qn_add(qn_leaf(graph, trainer->loss_sum), loss)));
    for (size_t i = 0; i < qn_store_buffers(trainer->sum); i++) {
        qn_tensor *sum = qn_store_buffer(trainer->sum, i);
        roots_add(roots, qn_assign(sum, qn_add(qn_leaf(graph, sum), packed[i])));
    }
    pass->plan = qn_plan_new(graph, roots->nodes, roots->count);
}

/* The plan that updates by the sums and empties them. */
static int make_update(qn_trainer *trainer)
{
    struct part *part = &trainer->update;
    struct roots roots = {.context = trainer->context};
    qn_graph *graph = part->graph = qn_graph_new(trainer->context);
    size_t buffers = qn_store_buffers(trainer->sum);
    qn_node **sums = graph ? context_alloc(trainer->context, buffers + 1, sizeof *sums) : NULL;
    if (!sums)
        return QN_ERROR_MEMORY;
    for (size_t i = 0; i < buffers; i++) {
        qn_tensor *sum = qn_store_buffer(trainer->sum, i);
        sums[i] = qn_leaf(graph, sum);
        roots_add(&roots,
                  qn_assign(sum, qn_broadcast(qn_constant(graph, 0), qn_tensor_shape(sum))));
    }
    part->reported.loss = qn_leaf(graph, trainer->loss_sum);
    roots_add(&roots, part->reported.loss);
    roots_add(&roots, qn_assign(trainer->loss_sum, qn_constant(graph, 0)));
    struct qn_update numbers = control(trainer, graph, sums, &roots, &part->reported);
    trainer_update(trainer, sums, numbers, &roots);
    part->plan = qn_plan_new(graph, roots.nodes, roots.count);
    free(roots.nodes);
    free(sums);
    return part->plan ? QN_OK : (int)trainer->context->status;
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
    qn_graph *graph = trainer->swap.graph = qn_graph_new(trainer->context);
    size_t buffers = qn_store_buffers(trainer->parameters), trained = 0;
    struct roots roots = {.context = trainer->context};
    for (size_t i = 0; graph && i < buffers; i++) {
        if (qn_store_buffer_group(trainer->parameters, i) == QN_FROZEN)
            continue;
        qn_tensor *a = qn_store_buffer(trainer->parameters, i),
                  *b = qn_store_buffer(trainer->average, trained++);
        roots_add(&roots, qn_assign(a, qn_leaf(graph, b)));
        roots_add(&roots, qn_assign(b, qn_leaf(graph, a)));
    }
    trainer->swap.plan = qn_plan_new(graph, roots.nodes, roots.count);
    free(roots.nodes);
    return trainer->swap.plan ? QN_OK : (int)trainer->context->status;
}

/* What all losses share, with the first one. */
static int make_shared(qn_trainer *trainer)
{
    int status = trainer->options.accumulate > 1 ? make_update(trainer) : QN_OK;
    if (status == QN_OK && trainer->average)
        status = make_swap(trainer);
    if (status == QN_OK && trainer->average && trainer->context->device)
        status = start_average(trainer);
    return status;
}

/* The plan of a loss, whose graph is the part's. */
static int make_part(qn_trainer *trainer, struct part *part, qn_node *loss)
{
    qn_context *context = trainer->context;
    struct roots roots = {.context = context};
    qn_node **packed =
        context_alloc(context, qn_store_buffers(trainer->parameters) + 1, sizeof *packed);
    int status = packed ? packed_gradients(trainer, loss, packed) : QN_ERROR_MEMORY;
    qn_node *passes = qn_range(part->graph, 2); /* 0 for the seed, 1 for the number of passes */
    roots_add(&roots, qn_assign(trainer->state.key,
                                qn_add(qn_leaf(part->graph, trainer->state.key), passes)));
    if (status == QN_OK)
        (trainer->options.accumulate > 1 ? make_pass : make_step)(trainer, part, loss, packed,
                                                                  &roots);
    free(packed);
    free(roots.nodes);
    return part->plan ? status : (int)context->status;
}

int qn_trainer_minimise(qn_trainer *trainer, qn_node *loss)
{
    if (!trainer || !loss)
        return QN_ERROR_INVALID;
    qn_context *context = trainer->context;
    if (qn_shape_count(qn_node_shape(loss)) != 1 || qn_node_graph(loss) != trainer->graph)
        return context_fail(context, QN_ERROR_INVALID,
                            "trainer: the loss must be one number of the trainer's graph");
    struct part *losses = context_grow(context, trainer->losses, trainer->n_losses,
                                       &trainer->capacity, sizeof *losses);
    if (!losses)
        return QN_ERROR_MEMORY;
    trainer->losses = losses;
    struct part *part = &losses[trainer->n_losses++];
    *part = (struct part){.graph = trainer->graph};
    trainer->graph = NULL;
    loss = qn_reshape(loss, QN_SCALAR);
    if (trainer->options.accumulate > 1)
        loss = qn_scale(loss, 1.0 / (double)trainer->options.accumulate);
    int status = make_part(trainer, part, loss);
    if (status == QN_OK && trainer->n_losses == 1)
        status = make_shared(trainer);
    trainer->carry = NULL;
    return status;
}

/* ---- Running ---- */

int qn_trainer_select(qn_trainer *trainer, size_t loss)
{
    if (loss >= trainer->n_losses)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: there is no loss %zu; there are %zu", loss,
                            trainer->n_losses);
    trainer->selected = loss;
    return QN_OK;
}

qn_plan *qn_trainer_plan(qn_trainer *trainer)
{
    return trainer && trainer->n_losses ? trainer->losses[trainer->selected].plan : NULL;
}

/* What updates after passes of a loss. */
static const struct part *updating(const qn_trainer *trainer, size_t loss)
{
    return trainer->update.plan ? &trainer->update : &trainer->losses[loss];
}

int qn_trainer_pass(qn_trainer *trainer)
{
    if (trainer->is_swapped)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: the parameters are exchanged for their average; exchange "
                            "them again before going on");
    int status = qn_run(qn_trainer_plan(trainer));
    if (status != QN_OK)
        return status;
    trainer->passes++;
    if (trainer->passes % trainer->options.accumulate != 0)
        return QN_OK;
    qn_plan *plan = updating(trainer, trainer->selected)->plan;
    if (plan == trainer->update.plan)
        status = qn_run(plan);
    uint64_t step = qn_trainer_steps(trainer);
    trainer->steps[step % QN_RING_RUNS].loss = trainer->selected;
    trainer->steps[step % QN_RING_RUNS].run = qn_runs(plan);
    return status;
}

int qn_trainer_swap_average(qn_trainer *trainer)
{
    bool has_average = trainer && trainer->swap.plan;
    int status = has_average ? qn_run(trainer->swap.plan) : QN_OK;
    if (has_average && status == QN_OK)
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
    uint64_t done = qn_trainer_steps(trainer);
    if (step <= trainer->first_step || step > done || step + QN_RING_RUNS <= done)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: there is no step %llu to report among the last %d",
                            (unsigned long long)step, QN_RING_RUNS);
    const struct part *part = updating(trainer, trainer->steps[step % QN_RING_RUNS].loss);
    uint64_t run = trainer->steps[step % QN_RING_RUNS].run;
    float loss, norm, rate, scale = 0;
    int32_t skipped;
    const struct {
        qn_node *node;
        void *value;
    } numbers[] = {{part->reported.loss, &loss},
                   {part->reported.norm, &norm},
                   {part->reported.rate, &rate},
                   {part->reported.skipped, &skipped},
                   {part->reported.scale, &scale}};
    int status = wait ? qn_wait(part->plan, run) : QN_OK;
    for (size_t i = 0; status == QN_OK && i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].node)
            status = qn_result(part->plan, numbers[i].node, run, numbers[i].value);
    if (status == QN_OK)
        *report = (struct qn_step){loss, norm, rate, (uint64_t)skipped, scale};
    return status;
}

struct qn_memory qn_trainer_memory(const qn_trainer *trainer)
{
    struct qn_memory most = {0};
    for (size_t i = 0; i < trainer->n_losses; i++) {
        struct qn_memory memory = qn_plan_memory(trainer->losses[i].plan);
        most.kept += memory.kept;
        most.arena = size_max(most.arena, memory.arena);
        most.intermediates = size_max(most.intermediates, memory.intermediates);
        most.tensors = size_max(most.tensors, memory.tensors);
        most.commands = size_max(most.commands, memory.commands);
    }
    if (trainer->update.plan)
        most.commands += qn_plan_memory(trainer->update.plan).commands;
    return most;
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

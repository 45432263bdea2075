/* What a trainer does with gradients: the optimizer of each tensor, what it keeps, the update, and the moving average. */
#include <string.h>

#include "device/context.h"
#include "device/store.h"
#include "train/trainer.h"

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

void trainer_keep(qn_trainer *trainer)
{
    if (qn_optimizer_is_element_wise(&trainer->options.optimizer))
        keep_like_parameters(trainer);
    else
        keep_by_tensor(trainer);
}

/* ---- The update ---- */

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
    roots_add(roots, qn_assign(average, qn_where(numbers.gate, moved, old)));
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
    roots_add(roots, qn_assign(parameters, updated));
    update_average(trainer, average, updated, numbers, roots);
    for (size_t i = 0; i < n_kept; i++)
        roots_add(roots, qn_assign(kept[i], updated ? states[i] : NULL));
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

void trainer_update(qn_trainer *trainer, qn_node *const *gradients, struct qn_update numbers,
                    struct roots *roots)
{
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
}

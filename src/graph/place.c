/* Where values are: parts of a joined value at their place in it, results over inputs that nobody needs any more, and the
 * rest in the arena, where two values that are never in use together may share memory. */
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "graph/state.h"

struct slot *value_slot(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    return value_of(plan, source, output)->slot;
}

static struct value *source_value(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    return value_of(plan, source, output);
}

/* ---- Who needs what, until when ---- */

static void mark_last_uses(qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        qn_node *fused[FUSE_ROOM], *const *inputs;
        size_t count = step_inputs(plan->steps[i], &inputs, fused);
        for (size_t j = 0; j < count; j++)
            source_value(plan, inputs[j])->last = i;
    }
    for (size_t i = 0; i < plan->n_roots; i++)
        source_value(plan, plan->roots[i].node)->last = plan->n_steps;
}

static size_t value_bytes(const struct value *value)
{
    return qn_type_bytes(value->layout.type, qn_shape_count(value->layout.shape));
}

static struct slot *slot_new(qn_plan *plan, size_t bytes, size_t first, size_t last)
{
    struct slot *slot = graph_alloc(plan->graph, sizeof *slot);
    if (!slot)
        return NULL;
    *slot = (struct slot){.bytes = bytes, .first = first, .last = last};
    struct slot **slots = context_grow(plan->context, plan->slots, plan->n_slots,
                                       &plan->slot_capacity, sizeof *slots);
    if (!slots)
        return NULL;
    plan->slots = slots;
    plan->slots[plan->n_slots++] = slot;
    plan->memory.intermediates += bytes;
    return slot;
}

/* ---- Parts of joined values ---- */

/* Lets the inputs of a joining step be computed where the joined value will have them. */
static int place_parts(qn_plan *plan, struct step *step)
{
    const qn_node *node = step->node;
    struct value *whole = value_of(plan, node, 0);
    for (size_t i = 0; i < node->n_inputs; i++) {
        struct value *part = source_value(plan, node->inputs[i]);
        int output = 0;
        struct step *producer = plan->step_of[value_source(node->inputs[i], &output)->id];
        size_t offset;
        if (!producer || producer->is_constant || part->slot ||
            !node->op->place(node, i, &offset) || offset % plan->context->caps.alignment != 0 ||
            value_bytes(part) != value_bytes(value_of(plan, node->inputs[i], 0)))
            continue;
        if (!whole->slot &&
            !(whole->slot = slot_new(plan, value_bytes(whole), step->position, whole->last)))
            return QN_ERROR_MEMORY;
        part->slot = graph_alloc(plan->graph, sizeof *part->slot);
        if (!part->slot)
            return QN_ERROR_MEMORY;
        *part->slot =
            (struct slot){.bytes = value_bytes(part), .within = whole->slot, .offset = offset};
        for (struct slot *slot = whole->slot; slot; slot = slot->within) {
            slot->is_shared = true;
            slot->first = size_min(slot->first, producer->position);
            slot->last = size_max(slot->last, part->last);
        }
    }
    return QN_OK;
}

/* ---- Results over inputs ---- */

/* Whether the step may write an output over input i: the last use, the same size, and no other view of it is read.  An
 * operation with an epilogue reads its inputs while it writes. */
static bool may_take(const qn_plan *plan, const struct step *step, struct output output,
                     qn_node *const *inputs, size_t count, size_t i)
{
    bool allowed = is_group(step) || (!step->members && step->node->op->may_overwrite >> i & 1 &&
                                      (step->node->n_outputs == 1 || (int)i == output.index));
    if (!allowed)
        return false;
    const struct slot *slot = value_slot(plan, inputs[i]);
    if (!slot || slot->within || slot->tensor || slot->is_shared || slot->is_kept ||
        slot->last != step->position ||
        slot->bytes != value_bytes(value_of(plan, output.node, output.index)))
        return false;
    for (size_t j = 0; j < count; j++)
        if (value_slot(plan, inputs[j]) == slot &&
            (!layout_is_contiguous(&value_of(plan, inputs[j], 0)->layout) ||
             (j != i && !step->members)))
            return false;
    return true;
}

/* The next piece of the plan's own memory. */
static int place_kept(qn_plan *plan, struct value *value)
{
    value->slot = graph_alloc(plan->graph, sizeof *value->slot);
    if (!value->slot)
        return QN_ERROR_MEMORY;
    *value->slot =
        (struct slot){.bytes = value_bytes(value), .offset = plan->kept_bytes, .is_kept = true};
    plan->kept_bytes += round_up(value_bytes(value), STORE_ALIGNMENT);
    return QN_OK;
}

static int place_output(qn_plan *plan, struct step *step, struct output output)
{
    struct value *value = value_of(plan, output.node, output.index);
    if (value->slot)
        return QN_OK;
    if (step->is_constant)
        return place_kept(plan, value);
    size_t last = value->is_used ? value->last : step->position;
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count && i < 32; i++) {
        if (!may_take(plan, step, output, inputs, count, i))
            continue;
        value->slot = value_slot(plan, inputs[i]);
        value->slot->last = last;
        plan->memory.intermediates += value->slot->bytes;
        return QN_OK;
    }
    value->slot = slot_new(plan, value_bytes(value), step->position, last);
    return value->slot ? QN_OK : QN_ERROR_MEMORY;
}

/* ---- The arena ---- */

static int larger_first(const void *a, const void *b)
{
    const struct slot *x = *(struct slot *const *)a, *y = *(struct slot *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The lowest place in a chunk where `slot` meets none of those that are in use with it: `taken`, sorted by offset. */
static bool fit(struct slot *slot, size_t chunk, size_t capacity, size_t guard,
                struct slot *const *taken, size_t n_taken)
{
    size_t offset = 0;
    for (size_t i = 0; i < n_taken; i++) {
        const struct slot *other = taken[i];
        if (other->chunk != chunk || other->first > slot->last || slot->first > other->last)
            continue;
        if (other->offset >= offset && other->offset - offset >= slot->bytes + guard)
            break;
        offset = size_max(offset, round_up(other->offset + other->bytes + guard, STORE_ALIGNMENT));
    }
    if (offset > capacity || capacity - offset < slot->bytes)
        return false;
    slot->chunk = chunk;
    slot->offset = offset;
    return true;
}

static int place_in_arena(qn_plan *plan)
{
    size_t n_chunks = plan->context->arena ? plan->context->arena->count : 0, n_old = n_chunks;
    size_t most = plan->context->caps.max_allocation;
    struct slot **sorted = context_alloc(plan->context, plan->n_slots + 1, sizeof *sorted);
    struct slot **taken = context_alloc(plan->context, plan->n_slots + 1, sizeof *taken);
    size_t *ends = context_alloc(plan->context, n_old + plan->n_slots + 1, sizeof *ends);
    int status = sorted && taken && ends ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK && plan->n_slots)
        memcpy(sorted, plan->slots, plan->n_slots * sizeof *sorted);
    if (status == QN_OK)
        qsort(sorted, plan->n_slots, sizeof *sorted, larger_first);
    for (size_t i = 0; status == QN_OK && i < plan->n_slots; i++) {
        struct slot *slot = sorted[i];
        if (slot->bytes > most) {
            status =
                context_fail(plan->context, QN_ERROR_DEVICE_MEMORY,
                             "plan: an intermediate of %zu bytes; the device allows %zu at once",
                             slot->bytes, most);
            break;
        }
        for (size_t chunk = 0;; chunk++) {
            bool is_old = chunk < n_old;
            if (fit(slot, chunk, is_old ? plan->context->arena->bytes[chunk] : most,
                    plan->context->guard_bytes, taken, i))
                break;
        }
        n_chunks = size_max(n_chunks, slot->chunk + 1);
        ends[slot->chunk] = size_max(ends[slot->chunk], slot->offset + slot->bytes);
        size_t at = i;
        for (; at > 0 && taken[at - 1]->offset > slot->offset; at--)
            taken[at] = taken[at - 1];
        taken[at] = slot;
    }
    for (size_t chunk = 0; status == QN_OK && chunk < n_chunks; chunk++) {
        plan->memory.arena += ends[chunk];
        status = arena_reserve(plan->context, chunk, round_up(ends[chunk], STORE_ALIGNMENT));
    }
    free(sorted);
    free(taken);
    free(ends);
    return status;
}

/* ---- All together ---- */

/* Whether another leaf is a larger tensor, the buffer of a store, in which this one is. */
static bool is_part_of_leaf(const qn_plan *plan, const qn_tensor *tensor)
{
    for (size_t i = 0; i < plan->n_nodes; i++) {
        if (plan->nodes[i]->op != &leaf_op)
            continue;
        const qn_tensor *other =
            ((const struct leaf_attributes *)plan->nodes[i]->attributes)->tensor;
        if (tensors_overlap(other, tensor) && qn_tensor_bytes(other) > qn_tensor_bytes(tensor))
            return true;
    }
    return false;
}

static int place_leaves(qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_nodes; i++) {
        qn_node *node = plan->nodes[i];
        struct value *value = value_of(plan, node, 0);
        if (node->op == &input_op) {
            value->slot = slot_new(plan, value_bytes(value), 0, value->last);
        } else if (node->op == &leaf_op) {
            qn_tensor *tensor = ((const struct leaf_attributes *)node->attributes)->tensor;
            value->slot = graph_alloc(plan->graph, sizeof *value->slot);
            if (value->slot)
                *value->slot = (struct slot){.bytes = value_bytes(value), .tensor = tensor};
            if (!is_part_of_leaf(plan, tensor))
                plan->memory.tensors += value_bytes(value);
        } else {
            continue;
        }
        if (!value->slot)
            return QN_ERROR_MEMORY;
    }
    return QN_OK;
}

int plan_place(qn_plan *plan)
{
    mark_last_uses(plan);
    plan->kept_bytes = 0; /* counted again, with places */
    int status = place_leaves(plan);
    for (size_t i = plan->n_steps; status == QN_OK && i-- > 0;)
        if (plan->steps[i]->variant && plan->steps[i]->node->op->place)
            status = place_parts(plan, plan->steps[i]);
    for (size_t i = 0; status == QN_OK && i < plan->n_steps; i++) {
        struct step *step = plan->steps[i];
        if (step->target)
            continue;
        struct output outputs[STEP_OUTPUTS];
        size_t count = step_outputs(plan, step, outputs);
        for (size_t j = 0; status == QN_OK && j < count; j++)
            status = place_output(plan, step, outputs[j]);
        size_t bytes = status == QN_OK && step->variant && step->variant->workspace
                           ? step->variant->workspace(step->node, &plan->context->caps)
                           : 0;
        if (bytes && !(step->workspace = slot_new(plan, bytes, i, i)))
            status = QN_ERROR_MEMORY;
    }
    plan->memory.kept = plan->kept_bytes;
    return status == QN_OK ? place_in_arena(plan) : status;
}

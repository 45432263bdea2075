/* The order of steps: after what they read; and writes of a tensor after those who read what it held before.  What is the
 * same in every run comes first.
 *
 * An assign needs no step of its own where the step that computes its value can write the tensor at once.  It cannot if
 * someone must read the old value after that: then the value is copied when all have read. */
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "graph/state.h"

static int step_after(qn_plan *plan, struct step *step, struct step *first)
{
    if (!first || first == step)
        return QN_OK;
    for (size_t i = 0; i < step->n_after; i++)
        if (step->after[i] == first)
            return QN_OK;
    if (step->n_after == step->after_capacity) {
        size_t capacity = step->after_capacity ? 2 * step->after_capacity : 8;
        struct step **after = graph_alloc(plan->graph, capacity * sizeof *after);
        if (!after)
            return QN_ERROR_MEMORY;
        if (step->n_after)
            memcpy(after, step->after, step->n_after * sizeof *after);
        step->after = after;
        step->after_capacity = capacity;
    }
    step->after[step->n_after++] = first;
    return QN_OK;
}

static bool search(struct step *step, const struct step *target, uint32_t mark)
{
    if (step == target)
        return true;
    if (step->mark == mark)
        return false;
    step->mark = mark;
    for (size_t i = 0; i < step->n_after; i++)
        if (search(step->after[i], target, mark))
            return true;
    return false;
}

/* Whether `step` must come after `first`, or is it. */
static bool depends(qn_plan *plan, struct step *step, const struct step *first)
{
    return search(step, first, ++plan->mark);
}

static struct step *producer(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    return plan->step_of[value_source(node, &output)->id];
}

static int order_data(qn_plan *plan, struct step *step)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count; i++)
        if (step_after(plan, step, producer(plan, inputs[i])) != QN_OK)
            return QN_ERROR_MEMORY;
    return QN_OK;
}

/* The tensor in whose memory a value is: a leaf, or one computed there.  NULL: none. */
static const qn_tensor *tensor_of(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    if (source->op == &leaf_op)
        return ((const struct leaf_attributes *)source->attributes)->tensor;
    const struct slot *slot = value_of(plan, source, output)->slot;
    return slot ? slot->tensor : NULL;
}

/* Whether a step reads what a tensor that overlaps `tensor` holds. */
static bool reads_tensor(const qn_plan *plan, const struct step *step, const qn_tensor *tensor)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count; i++) {
        const qn_tensor *read = tensor_of(plan, inputs[i]);
        if (read && tensors_overlap(read, tensor))
            return true;
    }
    return false;
}

/* Whether the step may write output `output` over a tensor that it reads itself: element by element. */
static bool may_overwrite(const qn_plan *plan, const struct step *step, int output,
                          const qn_tensor *tensor)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count; i++) {
        const qn_tensor *read = tensor_of(plan, inputs[i]);
        if (!read || !tensors_overlap(read, tensor))
            continue;
        bool same = read == tensor && layout_is_contiguous(&value_of(plan, inputs[i], 0)->layout);
        bool allowed =
            is_group(step) || (!step->members && step->node->op->may_overwrite >> i & 1 &&
                               (step->node->n_outputs == 1 || (int)i == output));
        if (!same || !allowed)
            return false;
    }
    return true;
}

/* Puts all readers of the tensor's old value before `writer`; false if one of them needs the writer first. */
static bool readers_first(qn_plan *plan, struct step *writer, const qn_tensor *tensor, int *status)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i] != writer && reads_tensor(plan, plan->steps[i], tensor) &&
            depends(plan, plan->steps[i], writer))
            return false;
    for (size_t i = 0; *status == QN_OK && i < plan->n_steps; i++)
        if (reads_tensor(plan, plan->steps[i], tensor))
            *status = step_after(plan, writer, plan->steps[i]);
    return true;
}

static struct slot *tensor_slot(qn_plan *plan, qn_tensor *tensor)
{
    struct slot *slot = graph_alloc(plan->graph, sizeof *slot);
    if (slot)
        *slot = (struct slot){.bytes = qn_tensor_bytes(tensor), .tensor = tensor};
    return slot;
}

struct write {
    qn_tensor *tensor;
    struct step *step; /* that writes it */
    qn_node *node;
};

/* Whether a write that comes before this one must come after the step. */
static bool is_before_earlier(qn_plan *plan, const struct write *writes, const struct write *write,
                              const struct step *step)
{
    for (const struct write *earlier = writes; earlier < write; earlier++)
        if (tensors_overlap(earlier->tensor, write->tensor) && depends(plan, earlier->step, step))
            return true;
    return false;
}

/* A step that computes a value may compute it in the tensor. */
static bool forward(qn_plan *plan, const struct write *writes, struct write *write, int *status)
{
    int output = 0;
    qn_node *source = value_source(write->node, &output);
    struct value *value = value_of(plan, source, output);
    struct step *step = plan->step_of[source->id];
    bool is_whole = layout_is_contiguous(&value_of(plan, write->node, 0)->layout) &&
                    qn_shape_count(write->tensor->shape) == qn_shape_count(value->layout.shape);
    if (!step || !is_whole || value->slot || source->op->place ||
        !may_overwrite(plan, step, output, write->tensor) ||
        is_before_earlier(plan, writes, write, step) ||
        !readers_first(plan, step, write->tensor, status))
        return false;
    write->step = step;
    value->slot = tensor_slot(plan, write->tensor);
    if (!value->slot)
        *status = QN_ERROR_MEMORY;
    return value->slot != NULL;
}

/* A step of its own for an assign: copies the value into the tensor. */
static int copy_step(qn_plan *plan, struct write *write)
{
    struct step *step = write->step = graph_alloc(plan->graph, sizeof *step);
    if (!step)
        return QN_ERROR_MEMORY;
    step->node = write->node;
    step->target = tensor_slot(plan, write->tensor);
    if (!step->target)
        return QN_ERROR_MEMORY;
    int status = order_data(plan, step);
    plan->steps[plan->n_steps++] = step;
    plan->step_of[write->node->id] = step;
    plan_note(plan, "%s: copied into the tensor when its old value has been read\n",
              write->tensor->name);
    if (!readers_first(plan, step, write->tensor, &status))
        return context_fail(plan->context, QN_ERROR_INVALID,
                            "assign: the new value of tensor %s depends on itself",
                            write->tensor->name);
    return status;
}

/* A write in part: those who read the new value are told by its slot. */
static int write_step(qn_plan *plan, struct write *write)
{
    int status = QN_OK;
    write->step = plan->step_of[write->node->id];
    if (!readers_first(plan, write->step, write->tensor, &status))
        return context_fail(plan->context, QN_ERROR_INVALID,
                            "write: the new value of tensor %s depends on itself",
                            write->tensor->name);
    value_of(plan, write->node, 0)->slot = tensor_slot(plan, write->tensor);
    return value_of(plan, write->node, 0)->slot ? status : QN_ERROR_MEMORY;
}

/* Two writes have an order if one's value is computed from the other's: the steps are put into it. */
static int order_writes(qn_plan *plan, const struct write *writes, size_t count)
{
    bool *reached = context_alloc(plan->context, plan->n_nodes + 1, sizeof *reached);
    int status = reached ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++)
        for (size_t j = 0; status == QN_OK && j < i; j++) {
            if (!tensors_overlap(writes[i].tensor, writes[j].tensor))
                continue;
            if (is_computed_from(writes[i].node, writes[j].node, reached))
                status = step_after(plan, writes[i].step, writes[j].step);
            else
                status = context_fail(
                    plan->context, QN_ERROR_INVALID,
                    "tensor %s is written twice, and nothing says which write comes first",
                    writes[i].tensor->name);
        }
    free(reached);
    return status;
}

/* Puts who reads what a write replaces before it.  Most were when the write was found; a copy that was made for a write
 * found later was not. */
static int readers_before(qn_plan *plan, const struct write *write)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct step *step = plan->steps[i];
        qn_node *fused[FUSE_ROOM], *const *inputs;
        size_t n_inputs = step == write->step ? 0 : step_inputs(step, &inputs, fused);
        for (size_t j = 0; j < n_inputs; j++) {
            const qn_tensor *read = tensor_of(plan, inputs[j]);
            struct step *made = producer(plan, inputs[j]);
            if (!read || !tensors_overlap(read, write->tensor) ||
                (made && depends(plan, made, write->step)))
                continue;
            if (depends(plan, step, write->step))
                return context_fail(plan->context, QN_ERROR_INVALID,
                                    "tensor %s: its old value is needed when the new one is there",
                                    write->tensor->name);
            if (step_after(plan, write->step, step) != QN_OK)
                return QN_ERROR_MEMORY;
        }
    }
    return QN_OK;
}

static int order_state(qn_plan *plan)
{
    struct write *writes = context_alloc(plan->context, plan->n_nodes + 1, sizeof *writes);
    size_t count = 0;
    int status = writes ? QN_OK : QN_ERROR_MEMORY;
    for (size_t id = 0; status == QN_OK && id < plan->n_nodes; id++)
        if (tensor_written(plan->nodes[id]))
            writes[count++] =
                (struct write){tensor_written(plan->nodes[id]), NULL, plan->nodes[id]};
    /* Writes in part have no choice, assigns have. */
    for (size_t i = 0; status == QN_OK && i < count; i++)
        if (writes[i].node->op == &write_op)
            status = write_step(plan, &writes[i]);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        if (writes[i].node->op == &assign_op && !forward(plan, writes, &writes[i], &status) &&
            status == QN_OK)
            status = copy_step(plan, &writes[i]);
    if (status == QN_OK)
        status = order_writes(plan, writes, count);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = readers_before(plan, &writes[i]);
    plan->written = graph_alloc(plan->graph, (count + 1) * sizeof *plan->written);
    for (size_t i = 0; plan->written && i < count; i++)
        plan->written[plan->n_written++] = writes[i].tensor;
    free(writes);
    return status;
}

/* Among the steps that wait for nothing, the first made is next: a heap of their numbers. */
static void heap_push(size_t *heap, size_t *count, size_t number)
{
    size_t at = (*count)++;
    for (; at > 0 && heap[(at - 1) / 2] > number; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = number;
}

static size_t heap_pop(size_t *heap, size_t *count)
{
    size_t first = heap[0], number = heap[--*count], at = 0;
    for (size_t child = 1; child < *count; child = 2 * at + 1) {
        child += child + 1 < *count && heap[child + 1] < heap[child];
        if (heap[child] >= number)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = number;
    return first;
}

static int sort(qn_plan *plan)
{
    size_t n = plan->n_steps, n_edges = 0, n_ready = 0, n_sorted = 0;
    for (size_t i = 0; i < n; i++) {
        plan->steps[i]->position = i;
        plan->steps[i]->n_waiting = plan->steps[i]->n_after;
        n_edges += plan->steps[i]->n_after;
    }
    /* before[i]: where the followers of step i begin in `followers`. */
    size_t *before = context_alloc(plan->context, n + 2, sizeof *before);
    size_t *followers = context_alloc(plan->context, n_edges + 1, sizeof *followers);
    size_t *heap = context_alloc(plan->context, n + 1, sizeof *heap);
    struct step **sorted = graph_alloc(plan->graph, (n + 1) * sizeof *sorted);
    int status = before && followers && heap && sorted ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < plan->steps[i]->n_after; j++)
                before[plan->steps[i]->after[j]->position + 2]++;
        for (size_t i = 2; i <= n + 1; i++)
            before[i] += before[i - 1];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < plan->steps[i]->n_after; j++)
                followers[before[plan->steps[i]->after[j]->position + 1]++] = i;
        for (size_t i = 0; i < n; i++)
            if (plan->steps[i]->n_waiting == 0)
                heap_push(heap, &n_ready, i);
        while (n_ready > 0) {
            size_t next = heap_pop(heap, &n_ready);
            sorted[n_sorted++] = plan->steps[next];
            for (size_t i = before[next]; i < before[next + 1]; i++)
                if (--plan->steps[followers[i]]->n_waiting == 0)
                    heap_push(heap, &n_ready, followers[i]);
        }
        if (n_sorted < n)
            status = context_fail(plan->context, QN_ERROR_INVALID,
                                  "plan: steps wait for each other in a circle");
    }
    free(before);
    free(followers);
    free(heap);
    if (status != QN_OK)
        return status;
    plan->steps = sorted;
    return QN_OK;
}

/* ---- Constant steps ---- */

static bool is_written(const qn_plan *plan, const qn_tensor *tensor)
{
    for (size_t i = 0; i < plan->n_written; i++)
        if (tensors_overlap(plan->written[i], tensor))
            return true;
    return false;
}

static bool reads_constants(const qn_plan *plan, const struct step *step)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count; i++) {
        int output = 0;
        const qn_node *source = value_source(inputs[i], &output);
        if (source->op == &leaf_op) {
            if (is_written(plan, ((const struct leaf_attributes *)source->attributes)->tensor))
                return false;
        } else if (!plan->step_of[source->id] || !plan->step_of[source->id]->is_constant) {
            return false;
        }
    }
    return true;
}

/* What the step's results take; SIZE_MAX if one of them is in a tensor. */
static size_t kept_bytes(const qn_plan *plan, const struct step *step)
{
    struct output outputs[STEP_OUTPUTS];
    if (step->target)
        return SIZE_MAX;
    size_t bytes = 0, count = step_outputs(plan, step, outputs);
    for (size_t i = 0; i < count; i++) {
        const struct value *value = value_of(plan, outputs[i].node, outputs[i].index);
        if (value->slot)
            return SIZE_MAX;
        bytes += round_up(qn_type_bytes(value->layout.type, qn_shape_count(value->layout.shape)),
                          STORE_ALIGNMENT);
    }
    return bytes;
}

static int note_constants(qn_plan *plan, const struct step *step)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    qn_tensor **constant =
        graph_alloc(plan->graph, (plan->n_constant + count + 1) * sizeof *constant);
    if (!constant)
        return QN_ERROR_MEMORY;
    if (plan->n_constant)
        memcpy(constant, plan->constant, plan->n_constant * sizeof *constant);
    plan->constant = constant;
    for (size_t i = 0; i < count; i++) {
        int output = 0;
        const qn_node *source = value_source(inputs[i], &output);
        if (source->op == &leaf_op)
            constant[plan->n_constant++] =
                ((const struct leaf_attributes *)source->attributes)->tensor;
    }
    return QN_OK;
}

/* Finds the constant steps, as far as there is memory to keep their results, and puts them first. */
static int hoist(qn_plan *plan)
{
    const struct qn_caps *caps = &plan->context->caps;
    size_t limit = size_min(caps->max_allocation, caps->global_memory / 8), position = 0;
    struct step **sorted = graph_alloc(plan->graph, (plan->n_steps + 1) * sizeof *sorted);
    if (!sorted)
        return QN_ERROR_MEMORY;
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct step *step = plan->steps[i];
        size_t bytes = reads_constants(plan, step) ? kept_bytes(plan, step) : SIZE_MAX;
        if (bytes > limit - size_min(limit, plan->kept_bytes))
            continue;
        step->is_constant = true;
        plan->kept_bytes += bytes;
        sorted[position++] = step;
        if (note_constants(plan, step) != QN_OK)
            return QN_ERROR_MEMORY;
    }
    for (size_t i = 0; i < plan->n_steps; i++)
        if (!plan->steps[i]->is_constant)
            sorted[position++] = plan->steps[i];
    for (size_t i = 0; i < plan->n_steps; i++)
        sorted[i]->position = i;
    plan->steps = sorted;
    return QN_OK;
}

int plan_order(qn_plan *plan)
{
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < plan->n_steps; i++)
        status = order_data(plan, plan->steps[i]);
    if (status == QN_OK)
        status = order_state(plan);
    if (status == QN_OK)
        status = sort(plan);
    return status == QN_OK ? hoist(plan) : status;
}

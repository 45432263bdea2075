/* Fusion: which nodes share a kernel.
 *
 * An element-wise node joins the group of those that use it when all of them are in one group, so that it needs no memory.
 * A group is then taken in by the step that computes the latest of its inputs, another group or an operation with room for
 * an epilogue, which stores whatever others read too.  At last a group that nothing but an operation with room for a
 * prologue reads goes there.  Copies stay alone, since a write may have to come between.  Constants belong to no group: they
 * become arguments of the kernels that use them. */
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "graph/state.h"

struct fusion {
    qn_plan *plan;
    struct step **user; /* by id: a group that uses the node */
    bool *several;      /* others do too, who may be no group */
    bool *
        is_fixed; /* the same in every run: it depends on nothing but tensors that are not written */
    const qn_tensor **assigned; /* the tensor that the value goes to */
    size_t *readers;            /* steps and roots */
};

bool is_inlined(const qn_node *input)
{
    float value;
    return node_is_constant(input, &value);
}

static bool contains(qn_node *const *nodes, size_t count, const qn_node *node)
{
    for (size_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

size_t fuse_inputs(qn_node *const *members, size_t n_members, qn_node **inputs)
{
    size_t count = 0;
    for (size_t i = 0; i < n_members; i++) {
        const qn_node *node = members[i];
        for (size_t j = 0; j < node->n_inputs; j++) {
            qn_node *input = node->inputs[j];
            if (!is_inlined(input) && !contains(members, n_members, input) &&
                !contains(inputs, count, input) && count < FUSE_ROOM)
                inputs[count++] = input;
        }
    }
    return count;
}

size_t step_inputs(const struct step *step, qn_node *const **inputs, qn_node **fused)
{
    if (step->members) {
        *inputs = fused;
        return fuse_inputs(step->members, step->n_members, fused);
    }
    *inputs = step->node->inputs;
    return step->node->n_inputs;
}

size_t step_outputs(const qn_plan *plan, const struct step *step, struct output *outputs)
{
    size_t count = 0;
    for (size_t i = 0; i < step->n_members; i++)
        if (value_of(plan, step->members[i], 0)->is_used)
            outputs[count++] = (struct output){step->members[i], 0};
    for (int i = step->members ? 1 : 0; !is_group(step) && i < step->node->n_outputs; i++)
        outputs[count++] = (struct output){step->node, i};
    return count;
}

static struct step *source_step(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    return plan->step_of[value_source(node, &output)->id];
}

/* ---- Together with those who use it ---- */

/* Puts nodes into a step, in order, unless it becomes too large. */
static bool join(struct step *step, qn_node *const *nodes, size_t count)
{
    qn_node *merged[FUSE_MEMBERS], *inputs[FUSE_ROOM];
    if (step->n_members + count > FUSE_MEMBERS)
        return false;
    for (size_t i = 0, j = 0; i + j < step->n_members + count;) {
        bool is_old = j == count || (i < step->n_members && ((i == 0 && has_epilogue(step)) ||
                                                             step->members[i]->id < nodes[j]->id));
        merged[i + j] = is_old ? step->members[i] : nodes[j];
        *(is_old ? &i : &j) += 1;
    }
    if (step->n_members && fuse_inputs(merged, step->n_members + count, inputs) > FUSE_INPUTS)
        return false;
    step->n_members += count;
    memcpy(step->members, merged, step->n_members * sizeof *merged);
    return true;
}

static struct step *step_new(qn_plan *plan, qn_node *node)
{
    struct step *step = graph_alloc(plan->graph, sizeof *step);
    if (!step)
        return NULL;
    step->node = node;
    plan->steps[plan->n_steps++] = step;
    return step;
}

static qn_node **members_new(qn_plan *plan)
{
    return graph_alloc(plan->graph, FUSE_MEMBERS * sizeof(qn_node *));
}

static bool suit_rows(const qn_plan *plan, qn_node *const *inputs, size_t count,
                      const qn_node *operation, int rows)
{
    ptrdiff_t stride[2];
    for (size_t i = 0; i < count; i++)
        if (inputs[i] != operation && !is_inlined(inputs[i]) &&
            !row_strides(&value_of(plan, inputs[i], 0)->layout, rows, stride))
            return false;
    return true;
}

/* Whether two nodes may share a kernel.  What is computed again does with nothing but its like: so it is computed as it was
 * the first time, to the bit, and not before it is needed. */
static bool may_share(const qn_node *a, const qn_node *b)
{
    return a->segment == b->segment || (!is_computed_again(a) && !is_computed_again(b));
}

/* Whether an epilogue that ends in `last` has the type of the operation's results, or a wider one: sums that a kernel keeps where its
 * results will be have room there. */
static bool suits_type(const qn_node *operation, const qn_node *last)
{
    enum qn_type from = operation->outputs[0].type, to = last->outputs[0].type;
    return type_is_real(to) && (to == QN_F32 || to == from);
}

/* Whether the node can be an epilogue of what computes the latest of its inputs.  Then it waits for no one else. */
static bool is_epilogue(const struct fusion *fusion, const qn_node *node)
{
    const qn_plan *plan = fusion->plan;
    const qn_node *latest = NULL;
    for (size_t i = 0; i < node->n_inputs; i++) {
        int output = 0;
        const qn_node *source = value_source(node->inputs[i], &output);
        if (!latest || source->id > latest->id)
            latest = source;
    }
    const struct qn_variant *variant = latest ? plan->variants[latest->id] : NULL;
    return variant && variant->epilogue && suits_type(latest, node) && may_share(node, latest) &&
           contains(node->inputs, node->n_inputs, latest) &&
           fusion->is_fixed[latest->id] == fusion->is_fixed[node->id] &&
           qn_shape_equal(*qn_out(node, 0), *qn_out(latest, 0)) &&
           suit_rows(plan, node->inputs, node->n_inputs, latest, variant->epilogue(latest));
}

/* Makes the steps, the last first. */
static int make_steps(struct fusion *fusion)
{
    qn_plan *plan = fusion->plan;
    struct step **user = fusion->user;
    bool *several = fusion->several;
    for (size_t i = 0; i < plan->n_roots; i++)
        several[plan->roots[i].node->id] = true;

    for (size_t id = plan->n_nodes; id-- > 0;) {
        qn_node *node = plan->nodes[id];
        struct step *group = NULL;
        bool is_stored = several[id] || user[id];
        if (node_expression(node) && is_stored) {
            group = user[id];
            bool joins = !several[id] && !plan->context->is_unfused &&
                         may_share(node, group->node) &&
                         qn_shape_equal(*qn_out(node, 0), *qn_out(group->node, 0)) &&
                         !is_epilogue(fusion, node) && join(group, &node, 1);
            if (!joins) {
                group = step_new(plan, node);
                if (!group || !(group->members = members_new(plan)))
                    return QN_ERROR_MEMORY;
                join(group, &node, 1);
            }
            plan->step_of[id] = group;
        } else if (node->op->variants && is_stored) {
            plan->step_of[id] = step_new(plan, node);
            if (!plan->step_of[id])
                return QN_ERROR_MEMORY;
            plan->step_of[id]->variant = plan->variants[id];
        }
        if (!is_stored && node->op != &assign_op)
            continue;
        for (size_t i = 0; i < node->n_inputs; i++) {
            qn_node *input = node->inputs[i];
            if (group && is_inlined(input))
                continue;
            if (!group || input->op == &copy_op || (user[input->id] && user[input->id] != group))
                several[input->id] = true;
            user[input->id] = group;
        }
    }
    for (size_t i = 0; i < plan->n_steps / 2; i++) {
        struct step *swap = plan->steps[i];
        plan->steps[i] = plan->steps[plan->n_steps - 1 - i];
        plan->steps[plan->n_steps - 1 - i] = swap;
    }
    for (size_t i = 0; i < plan->n_steps; i++)
        plan->steps[i]->position = i;
    return QN_OK;
}

/* ---- Together with what it is computed from ---- */

static bool has_copy(const struct step *step)
{
    for (size_t i = 0; i < step->n_members; i++)
        if (step->members[i]->op == &copy_op)
            return true;
    return false;
}

/* The latest of the steps that compute a group's inputs: whatever else the group needs is there before it.  NULL: none is
 * computed, or that step's result is read through a view. */
static struct step *latest_source(const qn_plan *plan, const struct step *group)
{
    qn_node *inputs[FUSE_ROOM];
    size_t count = fuse_inputs(group->members, group->n_members, inputs);
    struct step *latest = NULL;
    for (size_t i = 0; i < count; i++) {
        struct step *step = source_step(plan, inputs[i]);
        if (step && (!latest || step->position > latest->position))
            latest = step;
    }
    for (size_t i = 0; latest && i < count; i++) {
        int output = 0;
        if (source_step(plan, inputs[i]) == latest && value_source(inputs[i], &output) != inputs[i])
            return NULL;
    }
    return latest;
}

/* Whether the group's result goes to a tensor that it reads: alone, it is computed there. */
static bool updates_in_place(const struct fusion *fusion, const struct step *group)
{
    const qn_tensor *tensor = fusion->assigned[group->node->id];
    qn_node *inputs[FUSE_ROOM];
    size_t count = fuse_inputs(group->members, group->n_members, inputs);
    for (size_t i = 0; tensor && i < count; i++) {
        int output = 0;
        const qn_node *source = value_source(inputs[i], &output);
        if (source->op == &leaf_op &&
            tensors_overlap(((const struct leaf_attributes *)source->attributes)->tensor, tensor))
            return true;
    }
    return false;
}

static bool has_room_for(const struct fusion *fusion, const struct step *step,
                         const struct step *group)
{
    qn_node *inputs[FUSE_ROOM];
    size_t count = fuse_inputs(group->members, group->n_members, inputs);
    if (has_copy(step) || has_copy(group) || !may_share(step->node, group->node) ||
        fusion->is_fixed[step->node->id] != fusion->is_fixed[group->node->id] ||
        !qn_shape_equal(*qn_out(step->node, 0), *qn_out(group->node, 0)))
        return false;
    return is_group(step) || (step->variant->epilogue && suits_type(step->node, group->node) &&
                              !updates_in_place(fusion, group) &&
                              suit_rows(fusion->plan, inputs, count, step->node,
                                        step->variant->epilogue(step->node)));
}

static int take_in(struct fusion *fusion, struct step *step, struct step *group)
{
    qn_plan *plan = fusion->plan;
    if (!step->members) {
        if (!(step->members = members_new(plan)))
            return QN_ERROR_MEMORY;
        join(step, &step->node, 1);
    }
    if (join(step, group->members, group->n_members)) {
        for (size_t i = 0; i < group->n_members; i++)
            plan->step_of[group->members[i]->id] = step;
        if (is_group(step))
            step->node = step->members[step->n_members - 1];
        group->n_members = 0;
    } else if (step->n_members == 1 && step->variant) {
        step->members = NULL;
        step->n_members = 0;
    }
    return QN_OK;
}

static bool is_taken(const struct step *step)
{
    return step->members && step->n_members == 0;
}

/* In order: a group may be taken in by what took in another before it. */
static int take_in_groups(struct fusion *fusion)
{
    for (size_t i = 0; i < fusion->plan->n_steps; i++) {
        struct step *group = fusion->plan->steps[i];
        struct step *step = is_group(group) ? latest_source(fusion->plan, group) : NULL;
        if (step && has_room_for(fusion, step, group) && take_in(fusion, step, group) != QN_OK)
            return QN_ERROR_MEMORY;
    }
    return QN_OK;
}

/* ---- Together with an operation that reads it ---- */

static void count_reader(struct fusion *fusion, qn_node *node)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    fusion->readers[source->id]++;
    value_of(fusion->plan, source, output)->is_used = true;
}

static void count_readers(struct fusion *fusion)
{
    qn_plan *plan = fusion->plan;
    for (size_t i = 0; i < plan->n_steps; i++) {
        qn_node *fused[FUSE_ROOM], *const *inputs;
        size_t count = is_taken(plan->steps[i]) ? 0 : step_inputs(plan->steps[i], &inputs, fused);
        for (size_t j = 0; j < count; j++)
            count_reader(fusion, inputs[j]);
    }
    for (size_t i = 0; i < plan->n_roots; i++)
        count_reader(fusion, plan->roots[i].node);
    for (size_t id = 0; id < plan->n_nodes; id++)
        if (plan->nodes[id]->op == &assign_op)
            count_reader(fusion, plan->nodes[id]);
}

static bool is_prologue(const struct fusion *fusion, const struct step *group,
                        const struct step *step)
{
    qn_node *inputs[FUSE_ROOM];
    size_t count = fuse_inputs(group->members, group->n_members, inputs);
    struct output outputs[STEP_OUTPUTS];
    return is_group(group) && !has_copy(group) && may_share(group->node, step->node) &&
           group->node == step->node->inputs[0] && fusion->readers[group->node->id] == 1 &&
           step_outputs(fusion->plan, group, outputs) == 1 &&
           suit_rows(fusion->plan, inputs, count, NULL, step->variant->prologue(step->node));
}

static int take_in_prologues(struct fusion *fusion)
{
    qn_plan *plan = fusion->plan;
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct step *step = plan->steps[i];
        if (!step->variant || !step->variant->prologue || step->members)
            continue;
        struct step *group = source_step(plan, step->node->inputs[0]);
        if (!group || !is_prologue(fusion, group, step))
            continue;
        if (take_in(fusion, step, group) != QN_OK)
            return QN_ERROR_MEMORY;
        value_of(plan, group->node, 0)->is_used = !is_taken(group);
    }
    return QN_OK;
}

/* ---- All together ---- */

static bool is_written(const qn_plan *plan, const qn_tensor *tensor)
{
    for (size_t id = 0; id < plan->n_nodes; id++) {
        const qn_tensor *written = tensor_written(plan->nodes[id]);
        if (written && tensors_overlap(written, tensor))
            return true;
    }
    return false;
}

static void note_nodes(struct fusion *fusion)
{
    const qn_plan *plan = fusion->plan;
    for (size_t id = 0; id < plan->n_nodes; id++) {
        qn_node *node = plan->nodes[id];
        int output = 0;
        if (node->op == &assign_op)
            fusion->assigned[value_source(node, &output)->id] = tensor_written(node);
        fusion->is_fixed[id] =
            node->op == &leaf_op
                ? !is_written(plan, ((const struct leaf_attributes *)node->attributes)->tensor)
                : node->op != &input_op;
        for (size_t i = 0; i < node->n_inputs; i++)
            fusion->is_fixed[id] = fusion->is_fixed[id] && fusion->is_fixed[node->inputs[i]->id];
    }
}

static void drop_taken(qn_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        if (!is_taken(plan->steps[i]))
            plan->steps[count++] = plan->steps[i];
    plan->n_steps = count;
}

int plan_fuse(qn_plan *plan)
{
    size_t room = plan->n_nodes + 1;
    struct fusion fusion = {
        .plan = plan,
        .user = context_alloc(plan->context, room, sizeof *fusion.user),
        .several = context_alloc(plan->context, room, sizeof *fusion.several),
        .is_fixed = context_alloc(plan->context, room, sizeof *fusion.is_fixed),
        .assigned = context_alloc(plan->context, room, sizeof *fusion.assigned),
        .readers = context_alloc(plan->context, room, sizeof *fusion.readers),
    };
    bool has_memory =
        fusion.user && fusion.several && fusion.is_fixed && fusion.assigned && fusion.readers;
    int status = has_memory ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK) {
        note_nodes(&fusion);
        status = make_steps(&fusion);
    }
    bool joins = !plan->context->is_unfused; /* else each node's value can be looked at */
    if (status == QN_OK && joins)
        status = take_in_groups(&fusion);
    if (status == QN_OK)
        count_readers(&fusion);
    if (status == QN_OK && joins)
        status = take_in_prologues(&fusion);
    drop_taken(plan);
    free(fusion.user);
    free(fusion.several);
    free(fusion.is_fixed);
    free(fusion.assigned);
    free(fusion.readers);
    return status;
}

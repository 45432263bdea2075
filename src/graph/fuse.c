/* Fusion: which element-wise nodes share a kernel.  A node joins the group of those that use it when all of them are in one
 * group, so that it needs no memory; copies do not, since a write may have to come between.  Constants belong to no group:
 * they become arguments of the kernels that use them. */
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"

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

size_t fuse_inputs(const struct step *step, qn_node **inputs)
{
    size_t count = 0;
    for (size_t i = 0; i < step->n_members; i++) {
        const qn_node *node = step->members[i];
        for (size_t j = 0; j < node->n_inputs; j++) {
            qn_node *input = node->inputs[j];
            if (!is_inlined(input) && !contains(step->members, step->n_members, input) &&
                !contains(inputs, count, input) && count < FUSE_ROOM)
                inputs[count++] = input;
        }
    }
    return count;
}

/* Puts a node into a group, unless it becomes too large. */
static bool join(struct step *group, qn_node *node)
{
    if (group->n_members == FUSE_MEMBERS)
        return false;
    memmove(group->members + 1, group->members, group->n_members * sizeof *group->members);
    group->members[0] = node;
    group->n_members++;
    qn_node *inputs[FUSE_ROOM];
    if (fuse_inputs(group, inputs) <= FUSE_INPUTS)
        return true;
    group->n_members--;
    memmove(group->members, group->members + 1, group->n_members * sizeof *group->members);
    return false;
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

int plan_fuse(qn_plan *plan)
{
    /* By node: a group that uses it, and whether others do too, who may be no group. */
    struct step **user = context_alloc(plan->context, plan->n_nodes + 1, sizeof *user);
    bool *several = context_alloc(plan->context, plan->n_nodes + 1, sizeof *several);
    int status = user && several ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < plan->n_roots; i++)
        several[plan->roots[i].node->id] = true;

    for (size_t id = plan->n_nodes; status == QN_OK && id-- > 0;) {
        qn_node *node = plan->nodes[id];
        struct step *group = NULL;
        bool is_stored = several[id] || user[id];
        if (node_expression(node) && is_stored) {
            group = user[id];
            bool joins = !several[id] &&
                         qn_shape_equal(*qn_out(node, 0), *qn_out(group->node, 0)) &&
                         join(group, node);
            if (!joins) {
                group = step_new(plan, node);
                if (!group || !(group->members = graph_alloc(
                                    plan->graph, FUSE_MEMBERS * sizeof *group->members)))
                    status = QN_ERROR_MEMORY;
                else
                    join(group, node);
            }
            plan->step_of[id] = group;
        } else if (node->op->variants && is_stored) {
            plan->step_of[id] = step_new(plan, node);
            if (plan->step_of[id])
                plan->step_of[id]->variant = plan->variants[id];
            else
                status = QN_ERROR_MEMORY;
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
    /* Made from the last to the first; a natural order is the other way round. */
    for (size_t i = 0; i < plan->n_steps / 2; i++) {
        struct step *swap = plan->steps[i];
        plan->steps[i] = plan->steps[plan->n_steps - 1 - i];
        plan->steps[plan->n_steps - 1 - i] = swap;
    }
    free(user);
    free(several);
    return status;
}

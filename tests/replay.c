/* Replaying plans: steps run on words that hold the number of a value instead of its elements. */
#include "replay.h"

#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "graph/state.h"

#include "tap.h"

enum { MOST_SPACES = 512 };

struct replay {
    const qn_plan *plan;
    struct {
        const void *key; /* a tensor, the plan for what it keeps, or chunk + 1 */
        size_t words;
        size_t *owner; /* value numbers: see number_of(); 0: whatever was there */
    } spaces[MOST_SPACES];
    size_t n_spaces;
    char fault[512];
};

struct region {
    size_t *owner;
    size_t first, count; /* words */
};

static size_t number_of(const qn_node *node, int output)
{
    return (size_t)node->id * QN_MAX_OUTPUTS + (size_t)output + 1;
}

static struct region region_of(struct replay *replay, const struct slot *slot)
{
    size_t offset = 0, count = divide_up(slot->bytes, 4);
    for (; slot->within; slot = slot->within)
        offset += slot->offset;
    const void *key = slot->tensor    ? (const void *)slot->tensor
                      : slot->is_kept ? (const void *)replay->plan
                                      : (const void *)(slot->chunk + 1);
    offset = slot->tensor ? offset : offset + slot->offset;
    size_t i = 0;
    while (i < replay->n_spaces && replay->spaces[i].key != key)
        i++;
    size_t words = offset / 4 + count;
    if (i == replay->n_spaces)
        replay->n_spaces++;
    if (i == MOST_SPACES)
        bail_out("too many tensors");
    if (replay->spaces[i].words < words) {
        size_t *owner = calloc(words, sizeof *owner);
        if (!owner)
            bail_out("out of memory");
        if (replay->spaces[i].words)
            memcpy(owner, replay->spaces[i].owner, replay->spaces[i].words * sizeof *owner);
        free(replay->spaces[i].owner);
        replay->spaces[i].owner = owner;
        replay->spaces[i].words = words;
        replay->spaces[i].key = key;
    }
    return (struct region){replay->spaces[i].owner, offset / 4, count};
}

static void fault(struct replay *replay, const struct step *step, const char *what,
                  const qn_node *node)
{
    char label[LABEL_TEXT], here[LABEL_TEXT];
    if (!*replay->fault)
        snprintf(replay->fault, sizeof replay->fault, "step %zu, %s: %s %%%u %s",
                 step ? step->position : replay->plan->n_steps,
                 step ? node_label(step->node, here, sizeof here) : "end", what, node->id,
                 node_label(node, label, sizeof label));
}

static bool is_within(const struct slot *part, const struct slot *whole)
{
    for (; part; part = part->within)
        if (part == whole)
            return true;
    return false;
}

/* Whether the memory of a value still holds it: all of its words are its own, or of parts computed
 * in place. */
static bool is_intact(struct replay *replay, qn_node *node)
{
    int output = 0;
    qn_node *source = value_source(node, &output);
    const struct slot *slot = value_of(replay->plan, source, output)->slot;
    struct region region = region_of(replay, slot);
    size_t number = source->op == &leaf_op ? 0 : number_of(source, output);
    for (size_t i = 0; i < region.count; i++) {
        size_t owner = region.owner[region.first + i];
        if (owner != number &&
            (owner == 0 || !is_within(replay->plan->values[owner - 1].slot, slot) ||
             replay->plan->values[owner - 1].slot == slot))
            return false;
    }
    return true;
}

static bool regions_meet(struct region a, struct region b)
{
    return a.owner == b.owner && a.first < b.first + b.count && b.first < a.first + a.count;
}

/* A step may write over what it reads only element by element, or where a part already is at its
 * place. */
static bool may_meet(const struct replay *replay, const struct step *step, int output, size_t input,
                     qn_node *const *inputs, struct region written, struct region read)
{
    const struct qn_layout *layout = &value_of(replay->plan, inputs[input], 0)->layout;
    if (step->members && step->variant)
        return false;
    if (step->node->op->place && !step->members)
        return is_within(value_slot(replay->plan, inputs[input]),
                         value_of(replay->plan, step->node, output)->slot);
    if (step->node->op == &write_op)
        return false;
    bool allowed = step->members || (step->node->op->may_overwrite >> input & 1);
    return allowed && written.first == read.first && written.count == read.count &&
           layout_is_contiguous(layout);
}

static void replay_step(struct replay *replay, struct step *step)
{
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    struct region workspace = {0};
    if (step->workspace)
        workspace = region_of(replay, step->workspace);
    for (size_t i = 0; i < count; i++) {
        if (!is_intact(replay, inputs[i]))
            fault(replay, step, "reads what is overwritten,", inputs[i]);
        if (regions_meet(workspace, region_of(replay, value_slot(replay->plan, inputs[i]))))
            fault(replay, step, "has its scratch memory in", inputs[i]);
    }
    for (size_t i = 0; i < workspace.count; i++)
        workspace.owner[workspace.first + i] = SIZE_MAX / 2;
    struct output outputs[STEP_OUTPUTS];
    size_t n_outputs = step_outputs(replay->plan, step, outputs);
    for (size_t k = 0; k < n_outputs; k++) {
        int output = outputs[k].index;
        const struct slot *slot =
            step->target ? step->target : value_of(replay->plan, outputs[k].node, output)->slot;
        struct region written = region_of(replay, slot);
        for (size_t i = 0; i < count; i++) {
            struct region read = region_of(replay, value_slot(replay->plan, inputs[i]));
            if (regions_meet(written, read) &&
                !may_meet(replay, step, output, i, inputs, written, read))
                fault(replay, step, "writes over its input,", inputs[i]);
        }
        if (regions_meet(written, workspace))
            fault(replay, step, "has its scratch memory in its output,", step->node);
        for (size_t i = 0; i < written.count; i++) {
            size_t *owner = &written.owner[written.first + i];
            bool is_part = false; /* computed in place */
            for (size_t j = 0; !is_part && step->node->op->place && !step->members && j < count;
                 j++) {
                int part_output = 0;
                qn_node *part = value_source(inputs[j], &part_output);
                is_part = *owner == number_of(part, part_output);
            }
            if (!is_part)
                *owner = number_of(outputs[k].node, output);
        }
    }
}

/* A run: what tensors hold is their old value now, inputs are written, constant steps need not run
 * again. */
static void replay_run(struct replay *replay, bool is_first)
{
    const qn_plan *plan = replay->plan;
    for (size_t i = 0; i < replay->n_spaces; i++)
        for (size_t j = 0; j < plan->n_nodes; j++)
            if (plan->nodes[j]->op == &leaf_op &&
                value_of(plan, plan->nodes[j], 0)->slot->tensor == replay->spaces[i].key)
                memset(replay->spaces[i].owner, 0,
                       replay->spaces[i].words * sizeof *replay->spaces[i].owner);
    for (size_t i = 0; i < plan->n_nodes; i++) {
        if (plan->nodes[i]->op != &input_op)
            continue;
        struct region region = region_of(replay, value_of(plan, plan->nodes[i], 0)->slot);
        for (size_t j = 0; j < region.count; j++)
            region.owner[region.first + j] = number_of(plan->nodes[i], 0);
    }
    for (size_t i = 0; i < plan->n_steps; i++)
        if (is_first || !plan->steps[i]->is_constant)
            replay_step(replay, plan->steps[i]);
    for (size_t i = 0; i < plan->n_roots; i++)
        if (!is_intact(replay, plan->roots[i].node))
            fault(replay, NULL, "a root is overwritten,", plan->roots[i].node);
}

const char *replay_plan(const qn_plan *plan)
{
    static struct replay replay;
    replay = (struct replay){.plan = plan};
    for (size_t i = 0; i < plan->n_slots; i++)
        region_of(&replay, plan->slots[i]);
    replay_run(&replay, true);
    replay_run(&replay, false);
    for (size_t i = 0; i < replay.n_spaces; i++)
        free(replay.spaces[i].owner);
    return replay.fault;
}

bool slots_are_apart(const qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_slots; i++)
        for (size_t j = 0; j < i; j++) {
            const struct slot *a = plan->slots[i], *b = plan->slots[j];
            if (a->chunk == b->chunk && a->first <= b->last && b->first <= a->last &&
                a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes)
                return false;
        }
    return true;
}

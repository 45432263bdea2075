/* Graphs, gradients and plans, in a context without a device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <quern/ops.h>

#include "device/philox.h"
#include "graph/plan.h"
#include "graph/state.h"

#include "tap.h"

/* ---- What all tests need ---- */

static struct {
    qn_context *qn;
    qn_graph *graph;
} at;

static void begin(const char *caps)
{
    setenv("QUERN_CAPS", caps, 1);
    at.qn = qn_open("none");
    if (!at.qn)
        bail_out("no context: %s", qn_error(NULL));
    at.graph = qn_graph_new(at.qn);
}

static void end(void)
{
    qn_graph_free(at.graph);
    qn_close(at.qn);
}

/* No error so far; whatever there was is forgotten. */
static void no_error(const char *test)
{
    ok(!*qn_error(at.qn), "%s: no error", test);
    if (*qn_error(at.qn))
        note("%s", qn_error(at.qn));
    qn_clear_error(at.qn);
}

static void has_error(const char *words, const char *test)
{
    const char *error = qn_error(at.qn);
    if (!ok(strstr(error, words) != NULL, "%s: an error with \"%s\"", test, words))
        note("it is \"%s\"", error);
    qn_clear_error(at.qn);
}

static qn_node *input(size_t rows, size_t columns)
{
    return qn_input(at.graph, "x", QN_F32, QN_SHAPE(rows, columns));
}

static qn_tensor *tensor(const char *name, size_t rows, size_t columns)
{
    return qn_tensor_new(at.qn, name, QN_F32, QN_SHAPE(rows, columns));
}

static qn_plan *plan_of(qn_node *const *roots, size_t count)
{
    qn_plan *plan = qn_plan_new(at.graph, roots, count);
    if (!plan)
        note("%s", qn_error(at.qn));
    return plan;
}

#define PLAN(...)                                                                                  \
    plan_of((qn_node *[]){__VA_ARGS__}, sizeof((qn_node *[]){__VA_ARGS__}) / sizeof(qn_node *))

/* The plan's node of a name that the user gave. */
static qn_node *find(const qn_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_nodes; i++)
        if (strcmp(qn_node_name(plan->nodes[i]), name) == 0)
            return plan->nodes[i];
    bail_out("the plan has no node %s", name);
    return NULL;
}

static size_t position(const qn_plan *plan, const char *name)
{
    int output = 0;
    return plan->step_of[value_source(find(plan, name), &output)->id]->position;
}

static size_t count_commands(const qn_plan *plan, const char *kernel)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        for (size_t j = 0; j < plan->steps[i]->n_commands; j++)
            count += strcmp(plan->steps[i]->commands[j].name, kernel) == 0;
    return count;
}

/* Parts that the steps of an operation copy, since they were computed elsewhere. */
static size_t count_copied_parts(const qn_plan *plan, const char *operation)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        for (size_t j = 0; j < plan->steps[i]->n_commands; j++)
            count += strcmp(plan->steps[i]->node->op->name, operation) == 0 &&
                     strcmp(plan->steps[i]->commands[j].name, "copy_rows") == 0;
    return count;
}

static size_t count_copies(const qn_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        count += plan->steps[i]->target != NULL;
    return count;
}

/* ---- Simplification ---- */

static void test_merging(void)
{
    begin("");
    qn_node *x = input(3, 5), *y = input(3, 5);
    qn_node *a = qn_mul(qn_exp(x), y), *b = qn_mul(qn_exp(x), y), *other = qn_mul(qn_exp(y), x);
    qn_tanh(qn_matmul(x, qn_transpose(y, 0, 1))); /* nobody wants it */
    qn_plan *plan = PLAN(a, b, other);
    is_int((long long)plan->n_steps, 2, "equal nodes are computed once");
    is_int((long long)plan->n_nodes, 6, "only nodes that roots need are planned");
    ok(plan->roots[0].node == plan->roots[1].node && plan->roots[0].node != plan->roots[2].node,
       "equal roots are one node");
    qn_plan_free(plan);

    qn_node *first = qn_exp(x);
    at.graph->segment = 1;
    qn_node *again = qn_exp(x);
    plan = PLAN(qn_tanh(qn_matmul(first, qn_transpose(y, 0, 1))),
                qn_tanh(qn_matmul(again, qn_transpose(y, 0, 1))));
    is_int((long long)plan->n_steps, 6, "nodes of different segments are not merged");
    qn_plan_free(plan);
    at.graph->segment = 0;

    plan = PLAN(qn_dropout(x, 0.5, qn_input(at.graph, "key", QN_I32, QN_SHAPE(2)), 1), qn_scale(x, 2),
                qn_scale(x, 3), qn_scale(x, 2));
    is_int((long long)plan->n_steps, 3, "other attributes make another node");
    qn_plan_free(plan);
    no_error("merging");
    end();
}

/* Each gives its first argument again. */
static qn_node *add_zero(qn_node *x)
{
    return qn_add(x, qn_constant(x->graph, 0));
}
static qn_node *zero_add(qn_node *x)
{
    return qn_add(qn_constant(x->graph, 0), x);
}
static qn_node *sub_zero(qn_node *x)
{
    return qn_sub(x, qn_constant(x->graph, 0));
}
static qn_node *mul_one(qn_node *x)
{
    return qn_mul(x, qn_broadcast(qn_constant(x->graph, 1), qn_node_shape(x)));
}
static qn_node *div_one(qn_node *x)
{
    return qn_div(x, qn_constant(x->graph, 1));
}
static qn_node *scale_one(qn_node *x)
{
    return qn_scale(x, 1);
}
static qn_node *offset_zero(qn_node *x)
{
    return qn_offset(x, 0);
}
static qn_node *reshape_back(qn_node *x)
{
    return qn_reshape(qn_reshape(x, QN_SHAPE(15)), QN_SHAPE(3, 5));
}
static qn_node *transpose_back(qn_node *x)
{
    return qn_transpose(qn_transpose(x, 0, 1), 1, 0);
}
static qn_node *slice_all(qn_node *x)
{
    return qn_slice(x, 1, 0, 5);
}
static qn_node *cast_same(qn_node *x)
{
    return qn_cast(x, QN_F32);
}
static qn_node *concat_one(qn_node *x)
{
    return qn_concat(&x, 1, 0);
}
static qn_node *broadcast_same(qn_node *x)
{
    return qn_broadcast(x, QN_SHAPE(3, 5));
}
static qn_node *output_zero(qn_node *x)
{
    return qn_output(x, 0);
}
static qn_node *no_dropout(qn_node *x)
{
    return qn_dropout(x, 0, qn_input(x->graph, "key", QN_I32, QN_SHAPE(2)), 0);
}

static void test_simplification(void)
{
    static const struct {
        const char *name;
        qn_node *(*build)(qn_node *);
    } rules[] = {
        {"x + 0", add_zero},
        {"0 + x", zero_add},
        {"x - 0", sub_zero},
        {"x times 1", mul_one},
        {"x / 1", div_one},
        {"x scaled by 1", scale_one},
        {"x offset by 0", offset_zero},
        {"x reshaped and back", reshape_back},
        {"x transposed twice", transpose_back},
        {"a slice that is all of x", slice_all},
        {"x cast to its type", cast_same},
        {"x joined with nothing", concat_one},
        {"x broadcast to its shape", broadcast_same},
        {"output 0 of x", output_zero},
        {"dropout with probability 0", no_dropout},
    };
    begin("");
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        qn_node *x = input(3, 5), *roots[] = {x, rules[i].build(x)}, *found[2];
        qn_graph *simple = graph_simplified(at.graph, roots, 2, found);
        ok(simple && found[0] == found[1], "%s is x", rules[i].name);
        qn_graph_free(simple);
    }

    qn_node *x = input(4, 6), *y = input(7, 6);
    qn_node *product = qn_matmul(x, qn_transpose(y, 0, 1));
    qn_node *roots[] = {product, qn_matmul_with(x, y, (struct qn_matmul){.transpose_b = true})}, *found[2];
    qn_graph *simple = graph_simplified(at.graph, roots, 2, found);
    ok(found[0] == found[1], "matmul takes in a transposition");
    qn_graph_free(simple);
    qn_plan *plan = PLAN(product);
    is_int((long long)plan->memory.commands, (long long)plan->steps[0]->n_commands,
           "and nothing is copied");
    qn_plan_free(plan);
    no_error("simplification");
    end();
}

/* ---- Fusion ---- */

static qn_node *chain(qn_node *x, int length)
{
    for (int i = 0; i < length; i++)
        x = qn_offset(qn_tanh(x), i + 1); /* two nodes */
    return x;
}

static qn_node *fused_chain(qn_node *x)
{
    return chain(x, 5);
}
static qn_node *fused_diamond(qn_node *x)
{
    qn_node *y = qn_exp(x);
    return qn_add(qn_mul(y, qn_sin(y)), y);
}
static qn_node *fused_long(qn_node *x)
{
    return chain(x, 40);
}
static qn_node *fused_constants(qn_node *x)
{
    qn_node *two = qn_constant(x->graph, 2);
    return qn_maximum(qn_add(qn_mul(x, two), two), qn_constant(x->graph, -1));
}
static qn_node *fused_broadcast(qn_node *x)
{
    return qn_add(qn_exp(x), qn_input(x->graph, "b", QN_F32, QN_SHAPE(5)));
}
static qn_node *other_shape(qn_node *x)
{
    return qn_add(x, qn_exp(qn_input(x->graph, "b", QN_F32, QN_SHAPE(5))));
}
static qn_node *many_inputs(qn_node *x)
{
    for (int i = 0; i < 20; i++)
        x = qn_add(x, qn_input(x->graph, "more", QN_F32, QN_SHAPE(3, 5)));
    return x;
}
static qn_node *view_between(qn_node *x)
{
    qn_node *y = qn_exp(x);
    return qn_add(y, qn_reshape(qn_transpose(y, 0, 1), QN_SHAPE(3, 5)));
}
static qn_node *kernel_between(qn_node *x)
{
    return qn_exp(qn_softmax(qn_tanh(x), -1));
}
static qn_node *kernel_reads_it(qn_node *x)
{
    qn_node *y = qn_tanh(x);
    return qn_add(qn_exp(y), qn_softmax(y, -1));
}
static qn_node *before_a_sum(qn_node *x)
{
    return qn_scale(qn_sum(qn_square(qn_tanh(x)), QN_ALL), 0.5);
}

static void test_fusion(void)
{
    static const struct {
        const char *name;
        qn_node *(*build)(qn_node *);
        size_t steps;
    } rows[] = {
        {"a chain of ten", fused_chain, 1},
        {"a diamond", fused_diamond, 1},
        {"a chain of eighty (32 at once)", fused_long, 3},
        {"constants", fused_constants, 1},
        {"an operand that is broadcast", fused_broadcast, 1},
        {"what is computed in another shape", other_shape, 2},
        {"twenty-one operands (12 at once)", many_inputs, 2},
        {"a view of what is computed", view_between, 3},
        {"a kernel between", kernel_between, 3},
        {"a kernel and others read it", kernel_reads_it, 3},
        {"before and after a sum", before_a_sum, 3},
    };
    begin("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qn_plan *plan = PLAN(rows[i].build(input(3, 5)));
        is_int((long long)plan->n_steps, (long long)rows[i].steps, "fusion, %s: %zu steps", rows[i].name,
               rows[i].steps);
        bool within = true;
        for (size_t j = 0; j < plan->n_steps; j++) {
            qn_node *inputs[FUSE_ROOM];
            within = within && (!plan->steps[j]->members ||
                                (plan->steps[j]->n_members <= FUSE_MEMBERS &&
                                 fuse_inputs(plan->steps[j], inputs) <= FUSE_INPUTS));
        }
        ok(within, "fusion, %s: no group is too large", rows[i].name);
        qn_plan_free(plan);
    }

    qn_node *x = input(3, 5), *y = qn_exp(x), *z = qn_tanh(y);
    qn_plan *plan = PLAN(y, z);
    is_int((long long)plan->n_steps, 2, "fusion: a root in the middle of a chain is stored");
    qn_plan_free(plan);

    plan = PLAN(fused_constants(x));
    qn_node *inputs[FUSE_ROOM];
    is_int((long long)fuse_inputs(plan->steps[0], inputs), 1, "constants are no operands of a kernel");
    is_int((long long)plan->n_slots, 1 + (value_slot(plan, plan->roots[0].node) != plan->slots[0]),
           "constants need no memory");
    qn_plan_free(plan);

    plan = PLAN(qn_broadcast(qn_constant(at.graph, 3), QN_SHAPE(3, 5)), qn_constant(at.graph, 4));
    is_int((long long)plan->n_steps, 2, "a constant that is a root is computed");
    qn_plan_free(plan);

    plan = PLAN(x, qn_transpose(x, 0, 1));
    is_int((long long)plan->n_steps, 1, "a view that is a root is copied, an input is not");
    qn_plan_free(plan);
    no_error("fusion");
    end();
}

/* ---- Memory: every plan is replayed, with each word of memory knowing whose value it holds ---- */

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

static void fault(struct replay *replay, const struct step *step, const char *what, const qn_node *node)
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

/* Whether the memory of a value still holds it: all of its words are its own, or of parts computed in place. */
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

/* A step may write over what it reads only element by element, or where a part already is at its place. */
static bool may_meet(const struct replay *replay, const struct step *step, int output, size_t input,
                     qn_node *const *inputs, struct region written, struct region read)
{
    const struct qn_layout *layout = &value_of(replay->plan, inputs[input], 0)->layout;
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
    for (int output = 0; output < step->node->n_outputs; output++) {
        const struct slot *slot = step->target ? step->target : value_of(replay->plan, step->node, output)->slot;
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
            for (size_t j = 0; !is_part && step->node->op->place && !step->members && j < count; j++) {
                int part_output = 0;
                qn_node *part = value_source(inputs[j], &part_output);
                is_part = *owner == number_of(part, part_output);
            }
            if (!is_part)
                *owner = number_of(step->node, output);
        }
    }
}

/* A run: what tensors hold is their old value now, inputs are written, constant steps need not run again. */
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

/* "" or what is wrong. */
static const char *replay_plan(const qn_plan *plan)
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

/* No two pieces of the arena share memory while both are in use. */
static bool slots_are_apart(const qn_plan *plan)
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

static void check_memory(const qn_plan *plan, const char *name)
{
    const char *wrong = replay_plan(plan);
    ok(!*wrong, "%s: every value stays until it is read", name);
    if (*wrong)
        note("%s", wrong);
    ok(slots_are_apart(plan), "%s: no two values share memory while both are in use", name);
}

static void test_reuse(void)
{
    begin("");
    qn_node *x = input(64, 32), *w = qn_leaf(at.graph, tensor("w", 32, 32)), *y = x;
    for (int i = 0; i < 8; i++)
        y = qn_gelu(qn_matmul(y, w));
    qn_plan *plan = PLAN(y);
    struct qn_memory memory = qn_plan_memory(plan);
    is_int((long long)memory.tensors, 32 * 32 * 4, "a plan knows the bytes of its tensors");
    is_int((long long)memory.arena, 2 * 64 * 32 * 4, "eight layers need the memory of two values");
    is_int((long long)memory.intermediates, 17 * 64 * 32 * 4, "and would need that of 17 apart");
    check_memory(plan, "a chain of matmuls");
    qn_plan_free(plan);

    qn_node *product = qn_named(qn_matmul(x, w), "product"), *act = qn_named(qn_gelu(product), "act");
    plan = PLAN(act);
    ok(value_slot(plan, find(plan, "product")) == value_slot(plan, find(plan, "act")),
       "an element-wise result takes the memory of its operand");
    qn_plan_free(plan);
    plan = PLAN(act, qn_matmul(product, w));
    ok(value_slot(plan, find(plan, "product")) != value_slot(plan, find(plan, "act")),
       "but not if someone still reads that");
    check_memory(plan, "a value with two readers");
    qn_plan_free(plan);
    plan = PLAN(act, product);
    ok(value_slot(plan, find(plan, "product")) != value_slot(plan, find(plan, "act")),
       "nor if it is a root");
    qn_plan_free(plan);
    qn_tensor_free(((const struct leaf_attributes *)w->attributes)->tensor);
    no_error("reuse");
    end();
}

static void test_joining(void)
{
    begin("");
    qn_node *x = input(4, 128), *y = input(2, 128);
    qn_plan *plan = PLAN(qn_concat((qn_node *[]){qn_exp(x), qn_exp(y)}, 2, 0));
    is_int((long long)count_commands(plan, "copy_rows"), 0, "parts are computed where they are joined");
    is_int((long long)plan->memory.arena, 2 * 6 * 128 * 4, "in the memory of the whole");
    check_memory(plan, "joined parts");
    qn_plan_free(plan);

    plan = PLAN(qn_concat((qn_node *[]){qn_exp(x), qn_exp(y)}, 2, 1 - 1), qn_exp(y));
    check_memory(plan, "a part that is a root too");
    qn_plan_free(plan);

    qn_node *outer = qn_concat((qn_node *[]){qn_exp(x), qn_exp(y)}, 2, 0);
    plan = PLAN(qn_concat((qn_node *[]){outer, qn_tanh(y)}, 2, 0));
    is_int((long long)count_commands(plan, "copy_rows"), 0, "and in a whole of wholes");
    check_memory(plan, "a whole of wholes");
    qn_plan_free(plan);

    qn_node *twice = qn_exp(y);
    plan = PLAN(qn_concat((qn_node *[]){twice, twice}, 2, 0));
    is_int((long long)count_commands(plan, "copy_rows"), 1, "a part that comes twice is copied once");
    check_memory(plan, "a part that comes twice");
    qn_plan_free(plan);

    plan = PLAN(qn_concat((qn_node *[]){x, qn_exp(y)}, 2, 0));
    is_int((long long)count_commands(plan, "copy_rows"), 1, "an input is copied");
    check_memory(plan, "an input that is joined");
    qn_plan_free(plan);

    qn_node *a = input(4, 3), *b = input(4, 5);
    plan = PLAN(qn_concat((qn_node *[]){qn_exp(a), qn_exp(b)}, 2, 1));
    is_int((long long)count_commands(plan, "copy_rows"), 2, "columns are copied");
    qn_plan_free(plan);
    no_error("joining");
    end();
}

/* A store of three tensors; gaps between them where sizes are no multiple of the alignment. */
static qn_store *store_of(const char *name, size_t columns)
{
    qn_store *store = qn_store_new(at.qn, name);
    qn_store_add(store, "a", QN_F32, QN_SHAPE(128, columns), QN_DECAY);
    qn_store_add(store, "b", QN_F32, QN_SHAPE(columns), QN_NO_DECAY);
    qn_store_add(store, "c", QN_F32, QN_SHAPE(columns, columns), QN_DECAY);
    qn_store_seal(store);
    return store;
}

static void test_packing(void)
{
    static const struct {
        size_t columns, gaps;
        const char *name;
    } sizes[] = {{128, 0, "without gaps"}, {37, 2, "with gaps"}};
    for (size_t i = 0; i < 2; i++) {
        begin("");
        qn_store *store = store_of("parameters", sizes[i].columns);
        qn_node *leaf[3], *gradient[3];
        for (size_t j = 0; j < 3; j++)
            leaf[j] = qn_leaf(at.graph, qn_store_tensor(store, j));
        qn_node *h = qn_add(qn_matmul(input(8, 128), leaf[0]), leaf[1]);
        qn_node *loss = qn_mean(qn_square(qn_matmul(qn_tanh(h), leaf[2])), QN_ALL);
        qn_gradients(loss, NULL, leaf, 3, gradient);
        qn_node *packed[2] = {qn_pack(store, 0, gradient), qn_pack(store, 1, gradient)};
        qn_plan *plan = PLAN(loss, packed[0], packed[1]);
        is_int((long long)count_commands(plan, "copy_rows"), 0,
               "gradients %s are computed where they are packed", sizes[i].name);
        is_int((long long)count_commands(plan, "zero"), (long long)sizes[i].gaps, "and gaps are zeroed");
        check_memory(plan, "packed gradients");
        qn_plan_free(plan);
        plan = PLAN(packed[0], gradient[0]);
        check_memory(plan, "a packed gradient that is a root too");
        qn_plan_free(plan);
        gradient[2] = qn_leaf(at.graph, qn_store_tensor(store, 2));
        plan = PLAN(qn_pack(store, 0, gradient));
        is_int((long long)count_commands(plan, "copy_rows"), 1, "what no step computes is copied");
        check_memory(plan, "a packed leaf");
        qn_plan_free(plan);
        no_error("packing");
        qn_store_free(store);
        end();
    }
}

/* ---- Random graphs ---- */

static uint32_t draw(uint64_t seed, uint32_t index, uint32_t bound)
{
    uint32_t counter[4] = {index, 0, 0, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    return philox(counter, key).word[0] % bound;
}

enum { SIDE = 16, TENSORS = 4 };

/* A node of shape [SIDE, SIDE], of others. */
static qn_node *random_node(uint32_t kind, qn_node *a, qn_node *b, qn_node *c)
{
    qn_node *parts[3];
    switch (kind) {
    case 0:
        return qn_tanh(a);
    case 1:
        return qn_add(a, b);
    case 2:
        return qn_mul(a, qn_transpose(b, 0, 1));
    case 3:
        return qn_matmul(a, b);
    case 4:
        return qn_matmul_with(a, b, (struct qn_matmul){.transpose_a = true, .activation = QN_GELU});
    case 5:
        return qn_softmax(a, -1);
    case 6:
        return qn_softmax(qn_transpose(a, 0, 1), 0);
    case 7:
        parts[0] = qn_slice(a, 0, 0, 4);
        parts[1] = qn_slice(b, 0, 4, 12);
        parts[2] = qn_tanh(qn_slice(c, 0, 12, 16));
        return qn_concat(parts, 3, 0);
    case 8:
        parts[0] = qn_exp(qn_slice(a, 0, 0, 8));
        parts[1] = qn_matmul(qn_slice(b, 0, 0, 8), c);
        return qn_concat(parts, 2, 0);
    case 9:
        parts[0] = qn_slice(a, 1, 3, 10);
        parts[1] = qn_slice(b, 1, 0, 9);
        return qn_concat(parts, 2, 1);
    case 10:
        return qn_sub(a, qn_reshape(qn_mean(b, QN_AXIS(1)), QN_SHAPE(SIDE, 1)));
    case 11:
        return qn_mul(a, qn_sum(b, QN_AXIS(0)));
    case 12:
        return qn_reshape(qn_transpose(qn_reshape(a, QN_SHAPE(4, 4, SIDE)), 0, 1), QN_SHAPE(SIDE, SIDE));
    case 13:
        return qn_layer_norm(a, qn_reshape(qn_slice(b, 0, 3, 4), QN_SHAPE(SIDE)),
                             qn_reshape(qn_slice(c, 0, 5, 6), QN_SHAPE(SIDE)), 1e-5);
    case 14:
        qn_split(a, 0, 2, parts);
        return qn_concat((qn_node *[]){parts[1], parts[0]}, 2, 0);
    default:
        return qn_where(qn_less(a, b), b, qn_scale(c, 0.5));
    }
}

static const char *random_plan(uint64_t seed, bool has_state, bool *is_apart)
{
    enum { KINDS = 16, MOST = 60 };
    qn_node *nodes[MOST], *roots[MOST];
    qn_tensor *tensors[TENSORS];
    size_t count = 0, n_roots = 0, most = 8 + draw(seed, 0, MOST - 8);
    uint32_t index = 1;
    qn_node *at_row = qn_input(at.graph, "row", QN_I32, QN_SHAPE(1));
    for (; count < 2; count++)
        nodes[count] = input(SIDE, SIDE);
    for (size_t i = 0; i < TENSORS; i++) {
        tensors[i] = tensor((const char *[]){"t0", "t1", "t2", "t3"}[i], SIDE, SIDE);
        nodes[count++] = qn_leaf(at.graph, tensors[i]);
    }
    while (count < most) {
        qn_node *picked[3];
        for (int i = 0; i < 3; i++) /* mostly of the latest */
            picked[i] = draw(seed, index++, 2) ? nodes[count - 1 - draw(seed, index, 4)]
                                               : nodes[draw(seed, index, (uint32_t)count)];
        index++;
        nodes[count++] = random_node(draw(seed, index++, KINDS), picked[0], picked[1], picked[2]);
    }
    for (size_t i = 0; has_state && i < TENSORS; i++) {
        qn_node *value = nodes[draw(seed, index++, (uint32_t)count)], *other = nodes[draw(seed, index++, (uint32_t)count)];
        qn_node *written = draw(seed, index++, 4) ? qn_assign(tensors[i], value)
                                                  : qn_write(tensors[i], qn_slice(value, 0, 4, 12), 0, at_row);
        roots[n_roots++] = written;
        if (draw(seed, index++, 2))
            roots[n_roots++] = qn_tanh(written);
        if (draw(seed, index++, 2)) /* and once more, of what it has become */
            roots[n_roots++] =
                qn_assign(tensors[i], random_node(draw(seed, index++, KINDS), written, other, written));
    }
    roots[n_roots++] = nodes[count - 1];
    for (uint32_t i = draw(seed, index++, 4); i > 0; i--)
        roots[n_roots++] = nodes[draw(seed, index++, (uint32_t)count)];
    if (draw(seed, index++, 2)) {
        qn_node *loss = qn_sum(nodes[count - 1], QN_ALL), *wrt[3] = {nodes[0], nodes[3], nodes[count / 2]};
        qn_gradients(loss, NULL, wrt, 3, roots + n_roots);
        n_roots += 3;
    }
    qn_plan *plan = qn_plan_new(at.graph, roots, n_roots);
    const char *wrong = plan ? replay_plan(plan) : qn_error(at.qn);
    *is_apart = plan && slots_are_apart(plan);
    qn_plan_free(plan);
    for (size_t i = 0; i < TENSORS; i++)
        qn_tensor_free(tensors[i]);
    return wrong;
}

static void test_random(void)
{
    enum { PLANS = 300 };
    for (int has_state = 0; has_state < 2; has_state++) {
        const char *wrong = "";
        bool is_apart = true;
        int seed = 0;
        begin("alignment=64"); /* so that parts of such small matrices can be computed in place */
        while (seed < PLANS && !*wrong && is_apart)
            wrong = random_plan((uint64_t)seed++, has_state, &is_apart);
        ok(!*wrong && is_apart, "%d random graphs%s: every value stays until it is read", PLANS,
           has_state ? " with state" : "");
        if (*wrong || !is_apart)
            note("seed %d: %s", seed - 1, *wrong ? wrong : "two values share memory");
        end();
    }
}

/* ---- Limits of a device ---- */

static void test_small_allocations(void)
{
    begin("max_allocation=65536");
    qn_node *x = input(64, 64), *w = qn_leaf(at.graph, tensor("w", 64, 64)), *sum = x, *layers[12];
    for (int i = 0; i < 12; i++) {
        layers[i] = qn_tanh(qn_matmul(i ? layers[i - 1] : x, w));
        sum = qn_add(sum, layers[i]);
    }
    qn_node *loss = qn_sum(qn_matmul(sum, qn_transpose(layers[11], 0, 1)), QN_ALL), *gradient;
    qn_gradients(loss, NULL, &w, 1, &gradient);
    qn_plan *plan = PLAN(loss, gradient);
    size_t chunks = 0;
    bool within = true;
    for (size_t i = 0; i < plan->n_slots; i++) {
        const struct slot *slot = plan->slots[i];
        chunks = slot->chunk + 1 > chunks ? slot->chunk + 1 : chunks;
        within = within && slot->offset + slot->bytes <= 65536;
    }
    ok(chunks > 1 && within, "an arena of %zu chunks, none larger than the device allows", chunks);
    check_memory(plan, "an arena of chunks");
    qn_plan_free(plan);
    ok(!PLAN(qn_matmul(input(300, 64), w)), "a value larger than that makes no plan");
    has_error("the device allows 65536", "a value that is too large");
    qn_tensor_free(((const struct leaf_attributes *)w->attributes)->tensor);
    end();
}

/* ---- State ---- */

static void test_state(void)
{
    begin("");
    qn_tensor *w = tensor("w", 8, 8), *other = tensor("other", 8, 8);
    qn_node *leaf = qn_leaf(at.graph, w), *x = input(8, 8);
    qn_node *reader = qn_named(qn_matmul(x, leaf), "reader");
    qn_node *half = qn_named(qn_scale(leaf, 0.5), "half"), *assigned = qn_assign(w, half);
    qn_node *after = qn_named(qn_softmax(assigned, -1), "after");
    qn_plan *plan = PLAN(assigned, after, reader);
    ok(position(plan, "reader") < position(plan, "half"), "who reads a leaf comes before its write");
    ok(position(plan, "half") < position(plan, "after"), "who reads the new value comes after it");
    is_int((long long)count_copies(plan), 0, "a new value is computed in the tensor");
    check_memory(plan, "a tensor that is written");
    qn_plan_free(plan);

    /* The last step reads the old value, and what was computed from the new one. */
    plan = PLAN(assigned, qn_matmul(leaf, qn_softmax(half, -1)));
    is_int((long long)count_copies(plan), 1, "a circle is cut by a copy");
    ok(plan->notes && strstr(plan->notes, "w: copied"), "which is noted");
    check_memory(plan, "a circle");
    qn_plan_free(plan);

    plan = PLAN(qn_assign(w, qn_transpose(leaf, 0, 1)));
    is_int((long long)count_copies(plan), 1, "a tensor assigned to itself, transposed, is copied");
    check_memory(plan, "a transposition of state");
    qn_plan_free(plan);

    plan = PLAN(qn_assign(w, qn_matmul(leaf, leaf)));
    is_int((long long)count_copies(plan), 1, "a matmul does not write over its operand");
    check_memory(plan, "a matmul of state");
    qn_plan_free(plan);

    plan = PLAN(qn_assign(w, qn_leaf(at.graph, other)), qn_assign(other, leaf));
    ok(plan != NULL, "two tensors change places");
    if (plan)
        check_memory(plan, "an exchange");
    qn_plan_free(plan);
    no_error("assigning");

    ok(!PLAN(qn_assign(w, qn_scale(x, 2)), qn_assign(w, qn_scale(x, 3))), "two writes without order");
    has_error("w is written twice", "two writes without order");
    qn_node *first = qn_assign(w, qn_scale(x, 2)), *second = qn_assign(w, qn_softmax(first, -1));
    plan = PLAN(first, second);
    ok(plan != NULL, "two writes, the second of what the first wrote");
    qn_plan_free(plan);
    no_error("two writes in order");

    qn_node *position_node = qn_input(at.graph, "position", QN_I32, QN_SHAPE(1));
    qn_node *part = qn_named(qn_exp(input(2, 8)), "part");
    qn_node *written = qn_named(qn_write(w, part, 0, position_node), "written");
    qn_node *reads = qn_named(qn_softmax(written, -1), "reads");
    plan = PLAN(written, reads, reader);
    ok(plan != NULL, "a part is written, then read");
    if (plan) {
        ok(position(plan, "reader") < position(plan, "written") &&
               position(plan, "written") < position(plan, "reads"),
           "in that order");
        check_memory(plan, "a part that is written");
    }
    qn_plan_free(plan);
    no_error("writing a part");
    ok(!PLAN(written, qn_assign(w, half)), "a write and an assign without order");
    has_error("written twice", "a write and an assign without order");
    qn_tensor_free(w);
    qn_tensor_free(other);
    end();

    begin("");
    qn_store *store = store_of("parameters", 32);
    qn_tensor *all = qn_store_buffer(store, 0), *one = qn_store_tensor(store, 0);
    qn_node *whole = qn_leaf(at.graph, all), *piece = qn_leaf(at.graph, one);
    qn_node *read = qn_named(qn_matmul(input(8, 128), piece), "read");
    qn_node *update = qn_named(qn_scale(whole, 0.9), "update");
    plan = PLAN(qn_assign(all, update), read);
    ok(position(plan, "read") < position(plan, "update"),
       "who reads a tensor of a store comes before a write of its buffer");
    check_memory(plan, "a buffer that is written");
    qn_plan_free(plan);
    ok(!PLAN(qn_assign(all, update), qn_assign(one, qn_scale(piece, 2))),
       "a tensor and its buffer, both written");
    has_error("written twice", "a tensor and its buffer, both written");
    qn_store_free(store);
    end();
}

/* ---- Gradients ---- */

static bool is_zeros(const qn_node *node)
{
    float value;
    return node && node_is_constant(node, &value) && value == 0;
}

static void test_gradients(void)
{
    begin("");
    qn_tensor *w = tensor("w", 5, 7);
    qn_node *x = input(3, 5), *leaf = qn_leaf(at.graph, w), *h = qn_matmul(x, leaf), *y = qn_tanh(h);
    qn_node *loss = qn_sum(qn_square(y), QN_ALL), *elsewhere = input(4, 4);
    qn_node *wrt[] = {leaf, h, y, x, elsewhere, loss}, *found[6];
    is_int(qn_gradients(loss, NULL, wrt, 6, found), QN_OK, "gradients with respect to any nodes");
    bool same = true;
    for (int i = 0; i < 6; i++)
        same = same && found[i] && qn_shape_equal(qn_node_shape(found[i]), qn_node_shape(wrt[i]));
    ok(same, "have the shapes of these");
    ok(is_zeros(found[4]), "and are zero where nothing depends on it");
    float one;
    ok(node_is_constant(found[5], &one) && one == 1, "and one for the value itself");
    qn_plan *plan = PLAN(found[0], found[1], found[2], found[3], found[4], loss);
    check_memory(plan, "gradients");
    qn_plan_free(plan);

    qn_node *seeded;
    is_int(qn_gradients(y, input(3, 7), &leaf, 1, &seeded), QN_OK, "a seed weighs what is no single number");
    qn_node *cube = qn_mul(qn_mul(x, x), x), *once, *twice;
    qn_gradients(qn_sum(cube, QN_ALL), NULL, &x, 1, &once);
    is_int(qn_gradients(qn_sum(once, QN_ALL), NULL, &x, 1, &twice), QN_OK, "a gradient of a gradient");
    qn_node *unused;
    qn_gradients(qn_sum(qn_add(x, qn_less(x, qn_constant(at.graph, 0))), QN_ALL), NULL, &elsewhere, 1,
                 &unused);
    ok(is_zeros(unused), "an operation without a gradient is no harm where none is asked for");
    no_error("gradients");

    ok(qn_gradients(y, NULL, &leaf, 1, found) < 0 && !found[0], "a matrix without a seed");
    has_error("give a seed", "a matrix without a seed");
    ok(qn_gradients(y, input(3, 6), &leaf, 1, found) < 0, "a seed of another shape");
    has_error("seed", "a seed of another shape");
    qn_node *less = qn_named(qn_less(h, qn_constant(at.graph, 0)), "mask");
    ok(qn_gradients(qn_sum(less, QN_ALL), NULL, &leaf, 1, found) < 0, "no gradient on the way");
    has_error("mask (less) has no gradient", "no gradient on the way");
    qn_clear_error(at.qn);
    qn_node *nothing = NULL;
    ok(qn_gradients(loss, NULL, &nothing, 1, found) < 0 && !*qn_error(at.qn), "wrt NULL");
    ok(qn_gradients(NULL, NULL, &leaf, 1, found) < 0 && !*qn_error(at.qn), "of NULL");
    qn_tensor_free(w);
    end();
}

/* ---- Errors ---- */

static void test_errors(void)
{
    begin("");
    qn_node *x = input(3, 5);
    qn_node *bad = qn_matmul(x, x);
    ok(!bad, "a bad shape gives NULL");
    ok(!qn_add(x, bad) && !qn_tanh(qn_reshape(bad, QN_SHAPE(15))) && !qn_transpose(bad, 0, 1) &&
           !qn_slice(bad, 0, 0, 1) && !qn_softmax(bad, 0) && !qn_sum(bad, QN_ALL) &&
           !qn_named(bad, "bad") && !qn_output(bad, 1) && !qn_broadcast(bad, QN_SHAPE(3, 5)) &&
           !qn_concat((qn_node *[]){x, bad}, 2, 0) && !qn_concat((qn_node *[]){bad, x}, 2, 0),
       "NULL gives NULL");
    qn_slice(x, 7, 0, 1);
    ok(!PLAN(x, bad), "and no plan");
    has_error("matmul: inner sizes 5 and 3 differ (3x5 times 3x5)", "the first message is kept");

    ok(!PLAN(NULL), "a root that is NULL");
    has_error("root 0 is NULL", "a root that is NULL");
    qn_graph *other = qn_graph_new(at.qn);
    qn_node *stranger = qn_input(other, "stranger", QN_F32, QN_SHAPE(3, 5));
    ok(!PLAN(x, stranger), "a root of another graph");
    has_error("root 1 belongs to another graph", "a root of another graph");
    ok(!qn_add(x, stranger), "an operand of another graph");
    has_error("another graph", "an operand of another graph");
    qn_graph_free(other);

    qn_context *foreign = qn_open("none");
    qn_tensor *theirs = qn_tensor_new(foreign, "theirs", QN_F32, QN_SHAPE(3, 5));
    ok(!qn_leaf(at.graph, theirs), "a tensor of another context");
    has_error("leaf theirs", "a tensor of another context");
    qn_tensor_free(theirs);
    qn_close(foreign);

    ok(!qn_output(x, 1), "an output that there is not");
    has_error("output", "an output that there is not");
    ok(!qn_input(at.graph, "none", QN_F32, QN_SHAPE(3, 0)), "an input without elements");
    has_error("input none", "an input without elements");
    ok(!qn_input(at.graph, "huge", QN_F32, QN_SHAPE(SIZE_MAX / 2, 5)), "an input larger than memory");
    has_error("input huge", "an input larger than memory");
    ok(!qn_broadcast(x, QN_SHAPE(SIZE_MAX / 16, 2, 3, 5)), "a broadcast larger than memory");
    has_error("broadcast", "a broadcast larger than memory");

    qn_plan *plan = PLAN(qn_tanh(x));
    float value;
    ok(qn_run(plan) < 0, "a plan without a device does not run");
    has_error("no device", "a plan without a device does not run");
    ok(qn_set(plan, x, &value) < 0, "nor take inputs");
    has_error("no device", "nor take inputs");
    qn_plan_free(plan);
    ok(qn_run(NULL) < 0 && qn_set(NULL, NULL, NULL) < 0 && qn_get(NULL, x, &value) < 0 &&
           isnan((double)qn_get_f32(NULL, x)),
       "no plan, no crash");
    qn_plan_free(NULL);
    qn_graph_free(NULL);
    ok(!qn_plan_new(NULL, NULL, 0) && !qn_input(NULL, "x", QN_F32, QN_SHAPE(1)) && !qn_leaf(NULL, NULL),
       "no graph, no crash");
    no_error("NULL");
    end();
}

/* ---- Text ---- */

static char *text_of(int (*print)(qn_node *const *, size_t, FILE *), qn_node *const *roots, size_t count)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    print(roots, count, file);
    fclose(file);
    return text;
}

static void test_text(void)
{
    begin("");
    qn_tensor *w = tensor("weight", 5, 7);
    qn_node *x = qn_named(input(3, 5), "a \"name\""), *y = qn_named(qn_matmul(x, qn_leaf(at.graph, w)), "y");
    qn_node *roots[] = {qn_softmax(y, -1), qn_assign(w, qn_scale(qn_leaf(at.graph, w), 0.5))};
    char *text = text_of(qn_graph_print, roots, 2);
    ok(strstr(text, "y (matmul)(%0, %1) : f32 [3,7]") && strstr(text, "softmax(") &&
           strstr(text, "weight (leaf)") && strstr(text, "assign("),
       "qn_graph_print: operations, names, operands, types and shapes");
    free(text);
    text = text_of(qn_graph_dot, roots, 2);
    ok(strncmp(text, "digraph", 7) == 0 && strstr(text, "a \\\"name\\\"") && strstr(text, " -> ") &&
           strcmp(text + strlen(text) - 2, "}\n") == 0,
       "qn_graph_dot: a digraph, quotes escaped");
    free(text);

    qn_plan *plan = PLAN(roots[0], roots[1], qn_gelu(y));
    size_t size;
    FILE *file = open_memstream(&text, &size);
    is_int(qn_plan_print(plan, file), QN_OK, "qn_plan_print");
    fclose(file);
    ok(strstr(text, "y (matmul) [") && strstr(text, "fused: gelu") && strstr(text, "in weight") &&
           strstr(text, "arena") && strstr(text, "steps") && strstr(text, "kernel fused"),
       "prints order, kernels, variants, places and bytes");
    if (strstr(text, "y (matmul) [") == NULL)
        note("%s", text);
    free(text);
    qn_plan_free(plan);

    ok(qn_graph_print(NULL, 0, stdout) < 0 && qn_plan_print(NULL, stdout) < 0, "nothing to print");
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        setvbuf(full, NULL, _IONBF, 0);
        ok(qn_graph_print(roots, 2, full) < 0, "a disk that is full");
        fclose(full);
    }
    qn_clear_error(at.qn);
    qn_tensor_free(w);
    end();
}

/* ---- What a step of training costs to plan ---- */

enum { MOST_PARAMETERS = 256 };

/* Parameters, made as they come. */
struct model {
    qn_store *store, *m, *v;
    size_t count;
    qn_node *leaf[MOST_PARAMETERS];
};

static qn_node *parameter(struct model *model, qn_shape shape)
{
    char name[32];
    snprintf(name, sizeof name, "p%zu", model->count);
    qn_tensor *made =
        qn_store_add(model->store, name, QN_F32, shape, shape.rank > 1 ? QN_DECAY : QN_NO_DECAY);
    return model->leaf[model->count++] = qn_leaf(at.graph, made);
}

static qn_node *linear(struct model *model, qn_node *x, size_t from, size_t to, enum qn_activation activation)
{
    qn_node *weight = parameter(model, QN_SHAPE(from, to)), *bias = parameter(model, QN_SHAPE(to));
    return qn_matmul_with(x, weight, (struct qn_matmul){.bias = bias, .activation = activation});
}

static qn_node *norm(struct model *model, qn_node *x, size_t width)
{
    qn_node *weight = parameter(model, QN_SHAPE(width)), *bias = parameter(model, QN_SHAPE(width));
    return qn_layer_norm(x, weight, bias, 1e-5);
}

/* The loss of a small GPT, and the roots of a whole step with AdamW. */
static size_t training_step(struct model *model, size_t layers, qn_node **roots)
{
    enum { B = 4, T = 64, C = 96, HEADS = 6, VOCABULARY = 257 };
    model->store = qn_store_new(at.qn, "model");
    qn_node *tokens = qn_input(at.graph, "tokens", QN_I32, QN_SHAPE(B, T));
    qn_node *targets = qn_input(at.graph, "targets", QN_I32, QN_SHAPE(B, T));
    qn_node *embedding = parameter(model, QN_SHAPE(VOCABULARY, C));
    qn_node *x = qn_add(qn_embedding(embedding, tokens), parameter(model, QN_SHAPE(T, C)));
    for (size_t i = 0; i < layers; i++) {
        qn_node *parts[3];
        qn_split(linear(model, norm(model, x, C), C, 3 * C, QN_NO_ACTIVATION), -1, 3, parts);
        for (int j = 0; j < 3; j++)
            parts[j] = qn_reshape(parts[j], QN_SHAPE(B, T, HEADS, C / HEADS));
        qn_node *seen = qn_attention(parts[0], parts[1], parts[2], (struct qn_attention){.is_causal = true});
        x = qn_add(x, linear(model, qn_reshape(seen, QN_SHAPE(B, T, C)), C, C, QN_NO_ACTIVATION));
        qn_node *h = linear(model, norm(model, x, C), C, 4 * C, QN_GELU);
        x = qn_add(x, linear(model, h, 4 * C, C, QN_NO_ACTIVATION));
    }
    qn_node *logits = qn_matmul_with(norm(model, x, C), embedding, (struct qn_matmul){.transpose_b = true});
    qn_node *loss = qn_cross_entropy(logits, targets), *gradients[MOST_PARAMETERS];
    if (qn_store_seal(model->store) != QN_OK || !(model->m = qn_store_like(model->store, "m")) ||
        !(model->v = qn_store_like(model->store, "v")))
        return 0;
    qn_gradients(loss, NULL, model->leaf, model->count, gradients);
    size_t count = 0;
    roots[count++] = loss;
    for (size_t i = 0; i < qn_store_buffers(model->store); i++) {
        qn_tensor *whole[3] = {qn_store_buffer(model->store, i), qn_store_buffer(model->m, i), qn_store_buffer(model->v, i)};
        qn_node *one = qn_constant(at.graph, 1);
        qn_node *step = qn_adamw(qn_leaf(at.graph, whole[0]), qn_leaf(at.graph, whole[1]),
                                 qn_leaf(at.graph, whole[2]), qn_pack(model->store, i, gradients), one, one, one,
                                 one, (struct qn_adamw){0.9, 0.99, 1e-8, 0.1});
        for (int j = 0; j < 3; j++)
            roots[count++] = qn_assign(whole[j], qn_output(step, j));
    }
    return count;
}

static void model_free(struct model *model)
{
    qn_store_free(model->store);
    qn_store_free(model->m);
    qn_store_free(model->v);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_training_step(void)
{
    begin("");
    struct model model = {0};
    qn_node *roots[16];
    double start = seconds();
    size_t count = training_step(&model, 12, roots);
    double built = seconds();
    qn_plan *plan = plan_of(roots, count);
    double planned = seconds();
    ok(plan != NULL, "a step of training a GPT of 12 layers is planned");
    if (plan) {
        struct qn_memory memory = qn_plan_memory(plan);
        note("%zu nodes: graph %.1f ms, plan %.1f ms; %zu steps, %zu commands; arena %zu of %zu bytes",
             at.graph->count, 1e3 * (built - start), 1e3 * (planned - built), plan->n_steps, memory.commands,
             memory.arena, memory.intermediates);
        is_int((long long)count_copies(plan), 0, "parameters and moments are updated in place");
        is_int((long long)count_copied_parts(plan, "pack"), 0, "gradients are computed where they are packed");
        ok(memory.arena < memory.intermediates / 2, "values share the arena");
        check_memory(plan, "a step of training");
    }
    qn_plan_free(plan);
    model_free(&model);
    no_error("a step of training");
    end();
}

/* ---- No memory: each allocation fails in turn.  The linker puts these in place of the C library's. ---- */

static struct {
    bool counts;
    long left; /* before one fails */
} allocations;

static bool allocation_fails(void)
{
    return allocations.counts && allocations.left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(memory, size);
}

/* Whether all went well; if not, there must be an error and no plan. */
static bool survives(bool *has_plan, bool *has_error_text)
{
    struct model model = {0};
    qn_node *roots[16];
    qn_plan *plan = NULL;
    *has_error_text = true;
    at.qn = qn_open("none");
    at.graph = qn_graph_new(at.qn);
    if (at.graph) {
        size_t count = training_step(&model, 1, roots);
        plan = count ? qn_plan_new(at.graph, roots, count) : NULL;
    }
    *has_plan = plan != NULL;
    allocations.counts = false;
    if (!plan)
        *has_error_text = *qn_error(at.qn);
    qn_plan_free(plan);
    model_free(&model);
    end();
    return allocations.left >= 0;
}

static void test_no_memory(void)
{
    long failed = 0;
    bool has_plan, has_error_text = true, is_done = false;
    while (!is_done && has_error_text) {
        allocations.counts = true;
        allocations.left = failed++;
        is_done = survives(&has_plan, &has_error_text);
    }
    ok(is_done && has_plan, "each of %ld allocations fails: an error, and no plan", failed - 1);
}

int main(void)
{
    test_merging();
    test_simplification();
    test_fusion();
    test_reuse();
    test_joining();
    test_packing();
    test_small_allocations();
    test_state();
    test_gradients();
    test_errors();
    test_text();
    test_training_step();
    test_random();
    test_no_memory();
    return done_testing();
}

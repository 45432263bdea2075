/* Graphs, gradients and plans, in a context without a device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "graph/plan.h"
#include "graph/state.h"

#include "tap.h"
#include "planning.h"

/* ---- What all tests need ---- */

static void has_error(const char *words, const char *test)
{
    const char *error = qn_error(at.qn);
    if (!ok(strstr(error, words) != NULL, "%s: an error with \"%s\"", test, words))
        note("it is \"%s\"", error);
    qn_clear_error(at.qn);
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
    is_int((long long)plan->n_steps, 4, "nodes of different segments are not merged");
    qn_plan_free(plan);
    at.graph->segment = 0;

    plan = PLAN(qn_dropout(x, 0.5, qn_input(at.graph, "key", QN_I32, QN_SHAPE(2)), 1),
                qn_scale(x, 2), qn_scale(x, 3), qn_scale(x, 2));
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
    qn_node *roots[] = {product, qn_matmul_with(x, y, (struct qn_matmul){.transpose_b = true})},
            *found[2];
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
        {"before and after a sum", before_a_sum, 2},
    };
    begin("");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        qn_plan *plan = PLAN(rows[i].build(input(3, 5)));
        is_int((long long)plan->n_steps, (long long)rows[i].steps, "fusion, %s: %zu steps",
               rows[i].name, rows[i].steps);
        bool within = true;
        for (size_t j = 0; j < plan->n_steps; j++) {
            qn_node *inputs[FUSE_ROOM];
            within = within && (!plan->steps[j]->members ||
                                (plan->steps[j]->n_members <= FUSE_MEMBERS &&
                                 fuse_inputs(plan->steps[j]->members, plan->steps[j]->n_members,
                                             inputs) <= FUSE_INPUTS));
        }
        ok(within, "fusion, %s: no group is too large", rows[i].name);
        qn_plan_free(plan);
    }

    qn_node *x = input(3, 5), *y = qn_exp(x), *z = qn_tanh(y);
    qn_plan *plan = PLAN(y, z);
    is_int((long long)plan->n_steps, 1, "fusion: a root in the middle of a chain is stored too");
    qn_plan_free(plan);

    plan = PLAN(fused_constants(x));
    qn_node *inputs[FUSE_ROOM];
    is_int((long long)fuse_inputs(plan->steps[0]->members, plan->steps[0]->n_members, inputs), 1,
           "constants are no operands of a kernel");
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

/* ---- Fusion into operations ---- */

static qn_tensor *leaf_tensor(const qn_node *node)
{
    return ((const struct leaf_attributes *)node->attributes)->tensor;
}

static qn_node *leaf(const char *name, size_t rows, size_t columns)
{
    return qn_leaf(at.graph, tensor(name, rows, columns));
}

/* A plan's launches, and those of its steps whose node is the operation `name`. */
static void has_launches(qn_plan *plan, size_t all, const char *name, size_t of_name,
                         const char *test)
{
    size_t found = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        found += strcmp(plan->steps[i]->node->op->name, name) == 0;
    ok(plan->memory.commands == all && found == of_name, "%s: %zu launches, %zu of %s", test, all,
       of_name, name);
    if (plan->memory.commands != all || found != of_name) {
        note("%zu launches, %zu of %s", plan->memory.commands, found, name);
        qn_plan_print(plan, stderr);
    }
    check_memory(plan, test);
    qn_plan_free(plan);
}

static void test_epilogues(void)
{
    begin("");
    qn_node *x = input(24, 32), *w = leaf("w", 32, 40), *r = input(24, 40), *key;
    qn_node *other = leaf("v", 40, 40), *down = leaf("down", 40, 40);
    qn_node *bias = qn_leaf(at.graph, qn_tensor_new(at.qn, "b", QN_F32, QN_SHAPE(40)));
    key = qn_input(at.graph, "key", QN_I32, QN_SHAPE(2));
    qn_node *z = qn_linear(x, w, bias), *y = qn_gelu(z), *product = qn_matmul(x, w);
    has_launches(PLAN(y, z), 1, "matmul", 1, "bias and gelu, both stored");
    has_launches(PLAN(qn_add(r, qn_dropout(qn_scale(z, 0.5), 0.1, key, 1))), 1, "matmul", 1,
                 "bias, scale, dropout and residual");
    has_launches(PLAN(qn_tanh(product), product), 1, "matmul", 1, "the product itself is stored");
    has_launches(PLAN(qn_mul(product, qn_transpose(input(40, 24), 0, 1))), 1, "matmul", 1,
                 "an operand by columns");
    has_launches(PLAN(qn_add(product, qn_matmul(r, other))), 2, "matmul", 2,
                 "a sum of two products");
    has_launches(PLAN(qn_add(product, qn_softmax(product, -1))), 3, "fused", 0,
                 "what needs the whole product first");
    qn_tensor *t = tensor("t", 24, 40);
    has_launches(PLAN(qn_assign(t, qn_sub(qn_leaf(at.graph, t), product))), 2, "matmul", 1,
                 "a tensor is updated in place");

    /* A layer of GPT's kind, forward and backward: h = gelu(x w + b), y = x + h v + c. */
    qn_node *in = leaf("in", 24, 40), *v = leaf("u", 40, 40), *wrt[3] = {in, v, bias}, *roots[4];
    qn_node *h = qn_gelu(qn_linear(in, v, bias));
    roots[3] = qn_sum_squares(qn_add(in, qn_linear(h, down, bias)));
    qn_gradients(roots[3], NULL, wrt, 3, roots);
    has_launches(plan_of(roots, 4), 9, "matmul", 5, "a layer, forward and backward");

    qn_node *leaves[] = {w, other, down, bias, in, v};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        qn_tensor_free(leaf_tensor(leaves[i]));
    qn_tensor_free(t);
    no_error("epilogues");
    end();
}

static void test_prologues(void)
{
    begin("");
    qn_node *x = input(24, 40), *y = input(24, 40);
    has_launches(PLAN(qn_sum(qn_mul(x, y), QN_AXIS(0))), 1, "sum", 1, "a sum of products");
    has_launches(PLAN(qn_sum(qn_mul(x, y), QN_AXIS(1))), 1, "sum", 1, "of rows");
    has_launches(PLAN(qn_max(qn_abs(qn_sub(x, y)), QN_ALL)), 1, "max", 1,
                 "the greatest difference");
    qn_node *shared = qn_exp(x);
    has_launches(PLAN(qn_sum(shared, QN_AXIS(0)), shared), 2, "sum", 1, "not what others read");
    no_error("prologues");
    end();
}

/* ---- Memory ---- */

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
    is_int((long long)memory.intermediates, 9 * 64 * 32 * 4, "and would need that of nine apart");
    check_memory(plan, "a chain of matmuls");
    qn_plan_free(plan);

    qn_node *product = qn_named(qn_softmax(x, -1), "product"),
            *act = qn_named(qn_gelu(product), "act");
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
    qn_tensor_free(leaf_tensor(w));
    no_error("reuse");
    end();
}

static void test_joining(void)
{
    begin("");
    qn_node *x = input(4, 128), *y = input(2, 128);
    qn_plan *plan = PLAN(qn_concat((qn_node *[]){qn_exp(x), qn_exp(y)}, 2, 0));
    is_int((long long)count_commands(plan, "copy_rows"), 0,
           "parts are computed where they are joined");
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
    is_int((long long)count_commands(plan, "copy_rows"), 1,
           "a part that comes twice is copied once");
    check_memory(plan, "a part that comes twice");
    qn_plan_free(plan);

    qn_node *all = qn_reshape(input(10, 48), QN_SHAPE(2, 5, 48)), *parts[3], *gradient;
    qn_split(all, -1, 3, parts);
    for (int i = 0; i < 3; i++)
        parts[i] = qn_reshape(parts[i], QN_SHAPE(2, 5, 2, 8));
    qn_node *read = qn_attention(parts[0], parts[1], parts[2], (struct qn_attention){0});
    qn_gradients(qn_sum(qn_square(read), QN_ALL), NULL, &all, 1, &gradient);
    plan = PLAN(gradient);
    is_int((long long)count_commands(plan, "copy_rows"), 0,
           "gradients of q, k and v are computed side by side");
    check_memory(plan, "gradients side by side");
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
        is_int((long long)count_commands(plan, "zero"), (long long)sizes[i].gaps,
               "and gaps are zeroed");
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
    qn_tensor_free(leaf_tensor(w));
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
    ok(position(plan, "reader") < position(plan, "half"),
       "who reads a leaf comes before its write");
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

    ok(!PLAN(qn_assign(w, qn_scale(x, 2)), qn_assign(w, qn_scale(x, 3))),
       "two writes without order");
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
    qn_node *x = input(3, 5), *leaf = qn_leaf(at.graph, w), *h = qn_matmul(x, leaf),
            *y = qn_tanh(h);
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
    is_int(qn_gradients(y, input(3, 7), &leaf, 1, &seeded), QN_OK,
           "a seed weighs what is no single number");
    qn_node *cube = qn_mul(qn_mul(x, x), x), *once, *twice;
    qn_gradients(qn_sum(cube, QN_ALL), NULL, &x, 1, &once);
    is_int(qn_gradients(qn_sum(once, QN_ALL), NULL, &x, 1, &twice), QN_OK,
           "a gradient of a gradient");
    qn_node *unused;
    qn_gradients(qn_sum(qn_add(x, qn_less(x, qn_constant(at.graph, 0))), QN_ALL), NULL, &elsewhere,
                 1, &unused);
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
    ok(!qn_input(at.graph, "huge", QN_F32, QN_SHAPE(SIZE_MAX / 2, 5)),
       "an input larger than memory");
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
    ok(!qn_plan_new(NULL, NULL, 0) && !qn_input(NULL, "x", QN_F32, QN_SHAPE(1)) &&
           !qn_leaf(NULL, NULL),
       "no graph, no crash");
    no_error("NULL");
    end();
}

/* ---- Text ---- */

static char *text_of(int (*print)(qn_node *const *, size_t, FILE *), qn_node *const *roots,
                     size_t count)
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
    qn_node *x = qn_named(input(3, 5), "a \"name\""),
            *y = qn_named(qn_matmul(x, qn_leaf(at.graph, w)), "y");
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

    qn_plan *plan =
        PLAN(roots[0], roots[1], qn_gelu(y), qn_sum(qn_square(qn_tanh(roots[0])), QN_ALL));
    size_t size;
    FILE *file = open_memstream(&text, &size);
    is_int(qn_plan_print(plan, file), QN_OK, "qn_plan_print");
    fclose(file);
    ok(strstr(text, "y (matmul) [") && strstr(text, ", then: gelu") &&
           strstr(text, ", of: tanh square") && strstr(text, "fused: scale") &&
           strstr(text, "in weight") && strstr(text, "arena") && strstr(text, "steps") &&
           strstr(text, "kernel fused"),
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

/* Names are found again, several of one node, too; what is no root is lost in fusion. */
static void test_names(void)
{
    begin("");
    qn_tensor *w = tensor("weight", 5, 7);
    qn_node *x = input(3, 5), *product = qn_matmul(x, qn_leaf(at.graph, w));
    qn_named(qn_named(product, "inner"), "outer");
    qn_node *other = qn_named(qn_tanh(product), "inner");
    ok(qn_graph_find(at.graph, "inner") == product && qn_graph_find(at.graph, "outer") == product,
       "a node with two names");
    ok(strcmp(qn_node_name(product), "outer") == 0, "messages say the last");
    ok(qn_graph_find(at.graph, "weight") == qn_leaf(at.graph, w) &&
           qn_graph_find(at.graph, "x") == x,
       "tensors and inputs have names");
    ok(!qn_graph_find(at.graph, "") && !qn_graph_find(at.graph, NULL) &&
           !qn_graph_find(NULL, "x") && !*qn_error(at.qn),
       "a name that there is not is no error");
    const char *names[] = {"x", "weight", "inner", "outer", "inner", NULL};
    bool are_listed = true;
    for (size_t i = 0; are_listed && i < sizeof names / sizeof *names; i++) {
        const char *name = qn_graph_name(at.graph, i);
        are_listed = names[i] ? name && strcmp(name, names[i]) == 0 : !name;
    }
    ok(are_listed, "all names, in order");
    qn_plan *plan = PLAN(other, qn_graph_find(at.graph, "outer"));
    ok(plan && plan->n_roots == 2, "what was found can be a root");
    qn_plan_free(plan);
    qn_tensor_free(w);
    no_error("names");
    end();
}

int main(void)
{
    test_names();
    test_merging();
    test_simplification();
    test_fusion();
    test_epilogues();
    test_prologues();
    test_reuse();
    test_joining();
    test_packing();
    test_small_allocations();
    test_state();
    test_gradients();
    test_errors();
    test_text();
    return done_testing();
}

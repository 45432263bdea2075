/* Plans that are large or many, in a context without a device: of a step of training and of
 * random graphs. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <quern/ops.h>

#include "device/philox.h"
#include "graph/plan.h"

#include "tap.h"
#include "planning.h"

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

static qn_node *linear(struct model *model, qn_node *x, size_t from, size_t to)
{
    qn_node *weight = parameter(model, QN_SHAPE(from, to)), *bias = parameter(model, QN_SHAPE(to));
    return qn_linear(x, weight, bias);
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
        qn_split(linear(model, norm(model, x, C), C, 3 * C), -1, 3, parts);
        for (int j = 0; j < 3; j++)
            parts[j] = qn_reshape(parts[j], QN_SHAPE(B, T, HEADS, C / HEADS));
        qn_node *seen =
            qn_attention(parts[0], parts[1], parts[2], (struct qn_attention){.is_causal = true});
        x = qn_add(x, linear(model, qn_reshape(seen, QN_SHAPE(B, T, C)), C, C));
        qn_node *h = qn_gelu(linear(model, norm(model, x, C), C, 4 * C));
        x = qn_add(x, linear(model, h, 4 * C, C));
    }
    qn_node *logits =
        qn_matmul_with(norm(model, x, C), embedding, (struct qn_matmul){.transpose_b = true});
    qn_node *loss = qn_cross_entropy(logits, targets), *gradients[MOST_PARAMETERS];
    if (qn_store_seal(model->store) != QN_OK || !(model->m = qn_store_like(model->store, "m")) ||
        !(model->v = qn_store_like(model->store, "v")))
        return 0;
    qn_gradients(loss, NULL, model->leaf, model->count, gradients);
    size_t count = 0;
    roots[count++] = loss;
    for (size_t i = 0; i < qn_store_buffers(model->store); i++) {
        qn_tensor *whole[3] = {qn_store_buffer(model->store, i), qn_store_buffer(model->m, i),
                               qn_store_buffer(model->v, i)};
        qn_node *one = qn_constant(at.graph, 1);
        qn_node *step = qn_adamw(qn_leaf(at.graph, whole[0]), qn_leaf(at.graph, whole[1]),
                                 qn_leaf(at.graph, whole[2]), qn_pack(model->store, i, gradients),
                                 one, one, one, one, (struct qn_adamw){0.9, 0.99, 1e-8, 0.1});
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
        note("%zu nodes: graph %.1f ms, plan %.1f ms; %zu steps, %zu commands; arena %zu of %zu "
             "bytes",
             at.graph->count, 1e3 * (built - start), 1e3 * (planned - built), plan->n_steps,
             memory.commands, memory.arena, memory.intermediates);
        is_int((long long)count_copies(plan), 0, "parameters and moments are updated in place");
        is_int((long long)count_copied_parts(plan, "pack"), 0,
               "gradients are computed where they are packed");
        ok(memory.arena < 25 << 20, "values share the arena");
        check_memory(plan, "a step of training");
    }
    qn_plan_free(plan);
    model_free(&model);
    no_error("a step of training");
    end();
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
        return qn_gelu(qn_matmul_with(a, b, (struct qn_matmul){.transpose_a = true}));
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
        return qn_reshape(qn_transpose(qn_reshape(a, QN_SHAPE(4, 4, SIDE)), 0, 1),
                          QN_SHAPE(SIDE, SIDE));
    case 13:
        return qn_layer_norm(a, qn_reshape(qn_slice(b, 0, 3, 4), QN_SHAPE(SIDE)),
                             qn_reshape(qn_slice(c, 0, 5, 6), QN_SHAPE(SIDE)), 1e-5);
    case 14:
        qn_split(a, 0, 2, parts);
        return qn_concat((qn_node *[]){parts[1], parts[0]}, 2, 0);
    case 15:
        return qn_add(
            qn_dropout(qn_matmul(a, b), 0.5, qn_input(at.graph, "key", QN_I32, QN_SHAPE(2)), 1), c);
    case 16: /* several values of one kernel */
        a = qn_add(qn_matmul(a, b), qn_reshape(qn_slice(c, 0, 0, 1), QN_SHAPE(SIDE)));
        return qn_mul(qn_gelu(a), qn_softmax(a, -1));
    case 17:
        return qn_mul(a, qn_sum(qn_mul(b, qn_tanh(c)), QN_AXIS(0)));
    default:
        return qn_where(qn_less(a, b), b, qn_scale(c, 0.5));
    }
}

static const char *random_plan(uint64_t seed, bool has_state, bool *is_apart)
{
    enum { KINDS = 19, MOST = 60 };
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
        qn_node *value = nodes[draw(seed, index++, (uint32_t)count)],
                *other = nodes[draw(seed, index++, (uint32_t)count)];
        qn_node *written = draw(seed, index++, 4)
                               ? qn_assign(tensors[i], value)
                               : qn_write(tensors[i], qn_slice(value, 0, 4, 12), 0, at_row);
        roots[n_roots++] = written;
        if (draw(seed, index++, 2))
            roots[n_roots++] = qn_tanh(written);
        if (draw(seed, index++, 2)) /* and once more, of what it has become */
            roots[n_roots++] = qn_assign(
                tensors[i], random_node(draw(seed, index++, KINDS), written, other, written));
    }
    roots[n_roots++] = nodes[count - 1];
    for (uint32_t i = draw(seed, index++, 4); i > 0; i--)
        roots[n_roots++] = nodes[draw(seed, index++, (uint32_t)count)];
    if (draw(seed, index++, 2)) {
        qn_node *loss = qn_sum(nodes[count - 1], QN_ALL),
                *wrt[3] = {nodes[0], nodes[3], nodes[count / 2]};
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

int main(void)
{
    test_training_step();
    test_random();
    return done_testing();
}

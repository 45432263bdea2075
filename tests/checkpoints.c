/* Checkpoints of activations: the same bits as without, in less memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

#include "device/context.h"
#include "graph/graph.h"
#include "graph/plan.h"

#include "tap.h"

#include "open.h"

static qn_context *context;

/* ---- Models in training ---- */

enum { ROWS = 3, LENGTH = 23, VOCABULARY = 61, STEPS = 6 };

static const struct model_case {
    const char *name;
    struct qn_lm_config config;
    size_t accumulate;
    enum qn_type type;
} cases[] = {
    {"gpt2",
     {.n_layer = 3,
      .n_head = 2,
      .n_embd = 40,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .activation = QN_GELU,
      .layer_norm_epsilon = 1e-5,
      .embd_pdrop = 0.1,
      .resid_pdrop = 0.1,
      .tie_word_embeddings = true},
     .accumulate = 1},
    {"gpt2 with relu and two passes a step",
     {.n_layer = 2,
      .n_head = 1,
      .n_embd = 32,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .activation = QN_RELU,
      .layer_norm_epsilon = 1e-5,
      .resid_pdrop = 0.3},
     .accumulate = 2},
    {"gpt2 in bf16",
     {.n_layer = 2,
      .n_head = 2,
      .n_embd = 48,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .activation = QN_GELU,
      .layer_norm_epsilon = 1e-5,
      .resid_pdrop = 0.1,
      .tie_word_embeddings = true},
     .accumulate = 1,
     .type = QN_BF16},
    {"llama in f16",
     {.architecture = QN_LLAMA,
      .n_layer = 2,
      .n_head = 2,
      .n_kv_head = 1,
      .n_embd = 48,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .layer_norm_epsilon = 1e-5,
      .resid_pdrop = 0.1},
     .accumulate = 1,
     .type = QN_F16},
    {"llama",
     {.architecture = QN_LLAMA,
      .n_layer = 3,
      .n_head = 4,
      .n_kv_head = 2,
      .n_embd = 40,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .layer_norm_epsilon = 1e-5,
      .resid_pdrop = 0.1},
     .accumulate = 1},
    {"llama with biases",
     {.architecture = QN_LLAMA,
      .n_layer = 2,
      .n_head = 2,
      .head_size = 6,
      .n_embd = 32,
      .n_positions = LENGTH,
      .vocab_size = VOCABULARY,
      .layer_norm_epsilon = 1e-5,
      .attention_bias = true,
      .mlp_bias = true},
     .accumulate = 1},
};

static void *memory(size_t count, size_t size)
{
    void *values = calloc(count, size);
    if (!values)
        bail_out("out of memory");
    return values;
}

/* A trainer, and what it is fed with. */
struct learner {
    qn_trainer *trainer;
    qn_node *tokens, *targets;
};

static struct learner learner_new(qn_store *parameters, size_t accumulate, size_t rows,
                                  size_t length)
{
    struct qn_training options = {.schedule = {.kind = QN_CONSTANT, .rate = 1e-2},
                                  .optimizer = qn_optimizer_defaults(QN_ADAMW),
                                  .clip = 1,
                                  .accumulate = accumulate,
                                  .seed = 7};
    struct learner learner = {.trainer = qn_trainer_new(parameters, &options)};
    qn_graph *graph = qn_trainer_graph(learner.trainer);
    learner.tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(rows, length));
    learner.targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(rows, length));
    return learner;
}

/* The sum of the losses; NaN on failure. */
static double train(const struct learner *learner, size_t accumulate, size_t classes)
{
    int32_t tokens[ROWS * LENGTH], targets[ROWS * LENGTH];
    double sum = 0;
    for (size_t pass = 0; pass < STEPS * accumulate; pass++) {
        for (size_t i = 0; i < ROWS * LENGTH; i++) {
            tokens[i] = (int32_t)((i * i + 31 * pass) % VOCABULARY);
            targets[i] = (int32_t)((i * i + 2 * i + 1 + 31 * pass) % classes);
        }
        qn_plan *plan = qn_trainer_plan(learner->trainer);
        qn_set(plan, learner->tokens, tokens);
        qn_set(plan, learner->targets, targets);
        struct qn_step report = {.loss = NAN};
        if (qn_trainer_pass(learner->trainer) != QN_OK)
            return NAN;
        if (pass % accumulate != accumulate - 1)
            continue;
        qn_trainer_report(learner->trainer, qn_trainer_steps(learner->trainer), true, &report);
        sum += report.loss;
    }
    return sum;
}

/* All parameters, one after the other; their count. */
static float *all_values(const qn_store *store, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < qn_store_count(store); i++)
        *count += qn_shape_count(qn_tensor_shape(qn_store_tensor(store, i)));
    float *values = memory(*count, sizeof *values), *end = values;
    for (size_t i = 0; i < qn_store_count(store); i++) {
        qn_tensor *tensor = qn_store_tensor(store, i);
        qn_tensor_read(tensor, end);
        end += qn_shape_count(qn_tensor_shape(tensor));
    }
    return values;
}

/* What training makes of a model, kept or computed again. */
struct outcome {
    float *values;
    size_t count;
    double loss;
    struct qn_memory memory;
};

static struct outcome train_decoder(const struct model_case *of, bool checkpoint)
{
    qn_lm *lm = qn_lm_new(context, &of->config);
    struct outcome outcome = {0};
    if (!lm || qn_lm_initialise(lm, 1337) != QN_OK)
        bail_out("%s: %s", of->name, qn_error(context));
    struct learner learner = learner_new(qn_lm_parameters(lm), of->accumulate, ROWS, LENGTH);
    struct qn_lm_forward forward = {.dropout_key = qn_trainer_key(learner.trainer),
                                    .type = of->type,
                                    .loss_scale = qn_trainer_loss_scale(learner.trainer),
                                    .checkpoint = checkpoint};
    if (qn_trainer_minimise(learner.trainer,
                            qn_lm_loss(lm, learner.tokens, learner.targets, forward)) != QN_OK)
        bail_out("%s: %s", of->name, qn_error(context));
    outcome.loss = train(&learner, of->accumulate, VOCABULARY);
    outcome.values = all_values(qn_lm_parameters(lm), &outcome.count);
    outcome.memory = qn_trainer_memory(learner.trainer);
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
    return outcome;
}

static struct outcome train_encoder(bool checkpoint)
{
    enum { LABELS = 5 };
    static const struct qn_bert_config config = {.head = QN_BERT_TOKENS,
                                                 .vocab_size = VOCABULARY,
                                                 .n_positions = LENGTH,
                                                 .n_types = 2,
                                                 .width = 40,
                                                 .n_layer = 2,
                                                 .n_head = 2,
                                                 .n_inner = 72,
                                                 .n_labels = LABELS,
                                                 .layer_norm_epsilon = 1e-12,
                                                 .hidden_dropout = 0.1,
                                                 .activation = QN_GELU_ERF};
    qn_bert *bert = qn_bert_new(context, &config);
    struct outcome outcome = {0};
    if (!bert || qn_bert_initialise(bert, 1337) != QN_OK)
        bail_out("bert: %s", qn_error(context));
    struct learner learner = learner_new(qn_bert_parameters(bert), 1, ROWS, LENGTH);
    struct qn_bert_forward forward = {.dropout_key = qn_trainer_key(learner.trainer),
                                      .checkpoint = checkpoint};
    if (qn_trainer_minimise(learner.trainer,
                            qn_bert_loss(bert, learner.tokens, learner.targets, forward)) != QN_OK)
        bail_out("bert: %s", qn_error(context));
    outcome.loss = train(&learner, 1, LABELS);
    outcome.values = all_values(qn_bert_parameters(bert), &outcome.count);
    outcome.memory = qn_trainer_memory(learner.trainer);
    qn_trainer_free(learner.trainer);
    qn_bert_free(bert);
    return outcome;
}

static void compare(const char *name, struct outcome kept, struct outcome again)
{
    size_t differing = 0;
    for (size_t i = 0; i < kept.count; i++)
        differing += memcmp(&kept.values[i], &again.values[i], sizeof(float)) != 0;
    ok(isfinite(kept.loss) && kept.loss == again.loss && differing == 0,
       "%s: %zu of %zu numbers differ, losses by %.1e", name, differing, kept.count,
       fabs(kept.loss - again.loss));
    ok(again.memory.commands > kept.memory.commands && again.memory.arena < kept.memory.arena,
       "%s: %zu commands and %zu bytes instead of %zu and %zu", name, again.memory.commands,
       again.memory.arena, kept.memory.commands, kept.memory.arena);
    if (*qn_error(context))
        note("%s", qn_error(context));
    free(kept.values);
    free(again.values);
}

/* ---- The memory of GPT-2 ---- */

static double intermediates_of_gpt2(qn_context *planning, bool checkpoint)
{
    static const struct qn_lm_config config = {.n_layer = 12,
                                               .n_head = 12,
                                               .n_embd = 768,
                                               .n_positions = 1024,
                                               .vocab_size = 50257,
                                               .activation = QN_GELU,
                                               .layer_norm_epsilon = 1e-5,
                                               .tie_word_embeddings = true};
    qn_lm *lm = qn_lm_new(planning, &config);
    if (!lm)
        return NAN;
    struct learner learner = learner_new(qn_lm_parameters(lm), 1, 1, 1024);
    struct qn_lm_forward forward = {.checkpoint = checkpoint};
    int status = qn_trainer_minimise(learner.trainer,
                                     qn_lm_loss(lm, learner.tokens, learner.targets, forward));
    double gradients = sizeof(float) * (double)qn_lm_config_parameters(&config);
    double found = (double)qn_trainer_memory(learner.trainer).arena - gradients;
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
    return status == QN_OK ? found : NAN;
}

static void test_memory(void)
{
    qn_context *planning = qn_open_with(&(struct qn_options){.plan_only = true});
    double kept = planning ? intermediates_of_gpt2(planning, false) : NAN,
           again = planning ? intermediates_of_gpt2(planning, true) : NAN;
    if (strstr(qn_error(planning), "memory"))
        skip("the device is too small for GPT-2");
    else
        ok(again <= kept / 2, "GPT-2, 1x1024: intermediates of %.0f MB instead of %.0f",
           again / 1e6, kept / 1e6);
    qn_close(planning);
}

/* ---- Graphs ---- */

enum { SIZE = 37 };

/* Chains of a few forms, in two segments; `wrt` are x, w and a node inside. */
static qn_node *chain(qn_graph *graph, qn_tensor *w, bool checkpoint, qn_node *wrt[3])
{
    qn_node *x = wrt[0] = qn_input(graph, "x", QN_F32, QN_SHAPE(SIZE, SIZE));
    qn_node *weight = wrt[1] = qn_leaf(graph, w);
    if (checkpoint)
        qn_checkpoint_begin(graph);
    qn_node *scaled = qn_scale(weight, 0.5);                         /* of tensors alone: kept */
    qn_node *y = qn_mul(qn_tanh(qn_offset(x, 0.25)), qn_sigmoid(x)); /* begins element by element */
    y = wrt[2] = qn_gelu(qn_matmul(y, scaled));
    y = qn_add(y, x);
    qn_checkpoint_end(graph);
    if (checkpoint)
        qn_checkpoint_begin(graph);
    qn_node *parts[2];
    qn_split(qn_concat((qn_node *[]){y, qn_square(y)}, 2, 1), 1, 2, parts);
    y = qn_mul(qn_softmax(parts[0], -1), qn_exp(qn_neg(parts[1]))); /* ends so */
    qn_node *loss = qn_mean(y, QN_ALL);
    qn_checkpoint_end(graph);
    return loss;
}

static void run_chain(bool checkpoint, float *found, size_t *again)
{
    qn_graph *graph = qn_graph_new(context);
    qn_tensor *w = qn_tensor_new(context, "w", QN_F32, QN_SHAPE(SIZE, SIZE));
    qn_fill_normal(w, 0, 0.3, 5);
    qn_node *wrt[3], *roots[4];
    float x[SIZE * SIZE];
    for (size_t i = 0; i < SIZE * SIZE; i++)
        x[i] = (float)sin((double)i);
    roots[0] = chain(graph, w, checkpoint, wrt);
    qn_gradients(roots[0], NULL, wrt, 3, roots + 1);
    qn_plan *plan = qn_plan_new(graph, roots, 4);
    if (!plan || qn_set(plan, wrt[0], x) != QN_OK || qn_run(plan) != QN_OK)
        bail_out("%s", qn_error(context));
    *again = 0;
    for (size_t i = 0; i < plan->n_nodes; i++)
        *again += is_computed_again(plan->nodes[i]);
    qn_get(plan, roots[0], found++);
    for (int i = 1; i < 4; i++, found += SIZE * SIZE)
        qn_get(plan, roots[i], found);
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_tensor_free(w);
}

static void test_chain(void)
{
    static float kept[3 * SIZE * SIZE + 1], again[3 * SIZE * SIZE + 1];
    size_t none, some;
    run_chain(false, kept, &none);
    run_chain(true, again, &some);
    ok(none == 0 && some > 8, "%zu nodes are computed again", some);
    ok(kept[0] != 0 && memcmp(kept, again, sizeof kept) == 0, "their gradients are the same");
}

/* Gradients of a part that is not ended yet, as chunks of a loss take them, use what is there. */
static void test_inside(void)
{
    qn_graph *graph = qn_graph_new(context);
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(SIZE)), *d;
    qn_checkpoint_begin(graph);
    qn_node *loss = qn_sum(qn_exp(x), QN_ALL);
    qn_gradients(loss, NULL, &x, 1, &d);
    qn_checkpoint_end(graph);
    qn_plan *plan = qn_plan_new(graph, &d, 1);
    size_t again = 0;
    for (size_t i = 0; plan && i < plan->n_nodes; i++)
        again += is_computed_again(plan->nodes[i]);
    ok(plan && again == 0, "gradients inside a checkpoint compute nothing again");
    qn_plan_free(plan);
    qn_graph_free(graph);
}

static void test_writes(void)
{
    qn_graph *graph = qn_graph_new(context);
    qn_tensor *w = qn_tensor_new(context, "w", QN_F32, QN_SHAPE(SIZE));
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(SIZE)), *d = NULL;
    qn_checkpoint_begin(graph);
    qn_node *y = qn_exp(qn_assign(w, qn_exp(x)));
    qn_checkpoint_end(graph);
    int status = qn_gradients(qn_sum(y, QN_ALL), NULL, &x, 1, &d);
    ok(status < 0 && strstr(qn_error(context), "writes tensor w"), "a checkpoint that writes");
    qn_clear_error(context);
    qn_graph_free(graph);
    qn_tensor_free(w);
}

int main(void)
{
    context = open_with_quick_compiler();
    test_chain();
    test_inside();
    test_writes();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(cases[i].name, train_decoder(&cases[i], false), train_decoder(&cases[i], true));
    compare("bert", train_encoder(false), train_encoder(true));
    test_memory();
    qn_close(context);
    return done_testing();
}

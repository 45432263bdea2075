/* Training through the library: what a step costs beside its kernels, and what it does to numbers that are not finite. */
#include "config.h"

#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

#include "device/context.h"

#include "shim.h"
#include "tap.h"

#include "open.h"

/* ---- A small model ---- */

enum { CONTEXT = 32, VOCABULARY = 61, MOST_ROWS = 12 };

static const struct qn_lm_config config = {.n_layer = 2,
                                           .n_head = 2,
                                           .n_embd = 32,
                                           .n_positions = CONTEXT,
                                           .vocab_size = VOCABULARY,
                                           .activation = QN_GELU,
                                           .layer_norm_epsilon = 1e-5};

struct learner {
    qn_trainer *trainer;
    qn_node *tokens, *targets;
    size_t count;
};

/* What it leaves out is 0. */
struct recipe {
    size_t rows, length, accumulate;
    enum qn_optimizer_kind optimizer;
    size_t loss_rows; /* of a chunk; 0: all at once */
    enum qn_type type;
    double loss_scale, average;
};

static void add_loss(struct learner *learner, qn_lm *lm, struct recipe recipe)
{
    qn_graph *graph = qn_trainer_graph(learner->trainer);
    learner->tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(recipe.rows, recipe.length));
    learner->targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(recipe.rows, recipe.length));
    struct qn_lm_forward forward = {.type = recipe.type,
                                    .loss_rows = recipe.loss_rows,
                                    .loss_scale = qn_trainer_loss_scale(learner->trainer)};
    qn_trainer_minimise(learner->trainer,
                        qn_lm_loss(lm, learner->tokens, learner->targets, forward));
}

static struct learner learner_of(qn_lm *lm, struct recipe recipe)
{
    struct qn_training options = {
        .schedule = {.kind = QN_COSINE, .rate = 1e-3, .min_rate = 1e-4, .total = 1000},
        .optimizer = qn_optimizer_defaults(recipe.optimizer),
        .clip = 1,
        .accumulate = recipe.accumulate,
        .loss_scale = recipe.loss_scale,
        .average = recipe.average};
    options.optimizer.weight_decay = 0.1;
    if (recipe.optimizer == QN_SGD || recipe.optimizer == QN_RMSPROP)
        options.optimizer.momentum = 0.9;
    struct learner learner = {.trainer = qn_trainer_new(qn_lm_parameters(lm), &options),
                              .count = recipe.rows * recipe.length};
    add_loss(&learner, lm, recipe);
    return learner;
}

static struct learner learner_new(qn_lm *lm, size_t rows, size_t length, size_t accumulate)
{
    return learner_of(lm,
                      (struct recipe){.rows = rows, .length = length, .accumulate = accumulate});
}

/* A pass over numbers that depend on `number` alone. */
static int pass(const struct learner *learner, size_t number)
{
    int32_t tokens[MOST_ROWS * CONTEXT + 1];
    for (size_t i = 0; i <= learner->count; i++)
        tokens[i] = (int32_t)((i * i + 31 * number) % VOCABULARY);
    qn_plan *plan = qn_trainer_plan(learner->trainer);
    qn_set(plan, learner->tokens, tokens);
    qn_set(plan, learner->targets, tokens + 1);
    return qn_trainer_pass(learner->trainer);
}

static struct qn_step step(const struct learner *learner, size_t number)
{
    struct qn_step report = {.loss = NAN};
    if (pass(learner, number) == QN_OK)
        qn_trainer_report(learner->trainer, qn_trainer_steps(learner->trainer), true, &report);
    return report;
}

static qn_lm *gpt_new(qn_context *context)
{
    qn_lm *lm = qn_lm_new(context, &config);
    if (!lm || qn_lm_initialise(lm, 1337) != QN_OK)
        bail_out("no model: %s", qn_error(context));
    return lm;
}

/* ---- The tests ---- */

static size_t files;

static int count_file(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)path, (void)status, (void)walk;
    files += kind == FTW_F;
    return 0;
}

static int remove_file(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static size_t count_files(const char *folder)
{
    files = 0;
    nftw(folder, count_file, 16, FTW_PHYS);
    return files;
}

/* PoCL compiles when a kernel first runs, into files. */
static void test_shapes(qn_context *context, const char *folder)
{
    qn_lm *lm = gpt_new(context);
    struct learner first = learner_new(lm, 4, CONTEXT, 1);
    step(&first, 0);
    size_t built = qn_counters(context).kernels_built, before = count_files(folder), count = 0;
    bool all_finite = true, all_cached = true;
    ok(!strstr(qn_device_name(context), "Portable Computing Language") || before > 0,
       "PoCL's cache of kernels is where the test looks");
    static const size_t lengths[] = {CONTEXT, 31, 17, 16, 5, 2, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t rows = 1; rows <= 8; rows++, count++) {
            struct learner other = learner_new(lm, rows, lengths[i], 1);
            all_finite = all_finite && isfinite(step(&other, count).loss);
            if (all_cached && count_files(folder) != before)
                note("%zu windows of %zu: %zu files more", rows, lengths[i],
                     count_files(folder) - before);
            all_cached = count_files(folder) == before;
            qn_trainer_free(other.trainer);
        }
    ok(all_finite, "%zu other batch shapes run", count);
    /* On GPUs a product has one of three tiles, or one of two kernels for few rows, by its size, in four transpositions: each is built
     * when it is first needed. */
    size_t most = context->caps.device_class == QN_GPU ? 2 * 4 + 2 * 4 : 0;
    ok(qn_counters(context).kernels_built - built <= most, "and build no kernel%s",
       most ? " but for products of other sizes" : "");
    ok(all_cached || qn_counters(context).kernels_built > built, "nor does the driver%s",
       most ? ", but for those" : "");
    qn_trainer_free(first.trainer);
    qn_lm_free(lm);
}

static void test_allocations(qn_context *context)
{
    qn_lm *lm = gpt_new(context);
    struct learner learner = learner_new(lm, 4, CONTEXT, 1);
    step(&learner, 0);
    size_t on_device = qn_counters(context).device_allocations;
    shim_start(FAULT_MEMORY, -1);
    for (size_t i = 1; i < 20; i++)
        step(&learner, i);
    shim_stop();
    is_int((long long)qn_counters(context).device_allocations, (long long)on_device,
           "runs allocate nothing on the device");
    is_int(shim_calls(FAULT_MEMORY), 0, "nor on the host");
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
}

/* Batches of two shapes have a plan each: by turns they do what each does in a trainer of its own. */
static void test_losses(qn_context *context, const char *folder)
{
    enum { STEPS = 12 };
    char path[64];
    snprintf(path, sizeof path, "%s/losses", folder);
    for (size_t accumulate = 1; accumulate <= 2; accumulate++) {
        struct qn_step reports[2][STEPS];
        for (size_t way = 0; way < 2; way++) {
            qn_lm *lm = gpt_new(context);
            struct learner learners[2] = {learner_new(lm, 4, CONTEXT, accumulate)};
            qn_trainer *trainer = learners[0].trainer;
            learners[1] = learners[0];
            if (way == 1)
                add_loss(&learners[1], lm, (struct recipe){.rows = 4, .length = CONTEXT});
            for (size_t i = 0; i < STEPS; i++) {
                for (size_t j = 0; j < accumulate; j++) {
                    size_t which = way * ((i + j) % 3 == 1);
                    qn_trainer_select(trainer, which);
                    pass(&learners[which], i * accumulate + j);
                }
                if (i == STEPS / 2 && (qn_trainer_save(trainer, path) != QN_OK ||
                                       qn_trainer_load(trainer, path) != QN_OK))
                    bail_out("not saved: %s", qn_error(context));
                if (i == STEPS / 2)
                    continue;
                if (qn_trainer_report(trainer, i + 1, true, &reports[way][i]) != QN_OK)
                    bail_out("no report: %s", qn_error(context));
            }
            struct qn_step old;
            ok(qn_trainer_report(trainer, STEPS / 2 + 1, true, &old) < 0,
               "a step before the trainer was loaded is not reported");
            qn_clear_error(context);
            ok(qn_trainer_select(trainer, 2) < 0 &&
                   strstr(qn_error(context), way ? "there are 2" : "there are 1"),
               "and there is no third loss");
            qn_clear_error(context);
            qn_trainer_free(trainer);
            qn_lm_free(lm);
        }
        size_t same = 0;
        for (size_t i = 0; i < STEPS; i++)
            same += i == STEPS / 2 || memcmp(&reports[0][i], &reports[1][i], sizeof **reports) == 0;
        is_int((long long)same, STEPS, "two losses, %zu passes a step: steps as of one",
               accumulate);
    }
}

/* One step of 12 windows, or of 4 times 3 that are the same 12: pass() draws by position, so the parts are cut here. */
static void test_accumulation(qn_context *context)
{
    enum { ROWS = 12, PARTS = 4, STEPS = 20 };
    double losses[2][STEPS], worst = 0;
    for (size_t way = 0; way < 2; way++) {
        size_t parts = way ? PARTS : 1;
        qn_lm *lm = gpt_new(context);
        struct learner learner = learner_new(lm, ROWS / parts, CONTEXT, parts);
        qn_plan *plan = qn_trainer_plan(learner.trainer);
        for (size_t i = 0; i < STEPS; i++) {
            int32_t tokens[ROWS * CONTEXT + 1];
            struct qn_step report = {0};
            for (size_t j = 0; j <= ROWS * CONTEXT; j++)
                tokens[j] = (int32_t)((j * j + 31 * i) % VOCABULARY);
            for (size_t part = 0; part < parts; part++) {
                qn_set(plan, learner.tokens, tokens + part * learner.count);
                qn_set(plan, learner.targets, tokens + part * learner.count + 1);
                qn_trainer_pass(learner.trainer);
            }
            qn_trainer_report(learner.trainer, i + 1, true, &report);
            losses[way][i] = report.loss;
        }
        qn_trainer_free(learner.trainer);
        qn_lm_free(lm);
    }
    for (size_t i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(losses[0][i] - losses[1][i]));
    /* The sums are split elsewhere: a few roundings of losses of about 4, which AdamW's first steps magnify. */
    ok(worst <= 1e-5 && losses[0][1] != losses[0][0],
       "4 x 3 windows and 1 x 12: losses differ by %.1e", worst);
}

/* Bytes of intermediates of a head and its gradients. */
static size_t arena_of_head(qn_context *context, size_t chunk_rows)
{
    qn_graph *graph = qn_graph_new(context);
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(2048, 16));
    qn_node *weight = qn_input(graph, "weight", QN_F32, QN_SHAPE(1024, 16));
    qn_node *targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(2048));
    qn_node *wrt[] = {x, weight}, *roots[3];
    roots[2] = qn_linear_cross_entropy(
        x, weight, targets, (struct qn_cross_entropy){.ignore_index = QN_IGNORE}, chunk_rows);
    qn_gradients(roots[2], NULL, wrt, 2, roots);
    qn_plan *plan = qn_plan_new(graph, roots, 3);
    size_t arena = plan ? qn_plan_memory(plan).arena : 0;
    qn_plan_free(plan);
    qn_graph_free(graph);
    return arena;
}

/* The loss in chunks of rows, the last one smaller. */
static void test_chunks(qn_context *context)
{
    enum { STEPS = 20 };
    double losses[2][STEPS], worst = 0;
    for (size_t way = 0; way < 2; way++) {
        qn_lm *lm = gpt_new(context);
        struct learner learner =
            learner_of(lm, (struct recipe){MOST_ROWS, CONTEXT, 1, .loss_rows = way ? 50 : 0});
        for (size_t i = 0; i < STEPS; i++)
            losses[way][i] = step(&learner, i).loss;
        qn_trainer_free(learner.trainer);
        qn_lm_free(lm);
    }
    for (size_t i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(losses[0][i] - losses[1][i]));
    /* Sums over rows are split elsewhere, as with accumulation. */
    ok(worst <= 1e-5 && losses[0][1] != losses[0][0], "logits in chunks: losses differ by %.1e",
       worst);
}

static void test_memory_of_chunks(qn_context *context)
{
    size_t whole = arena_of_head(context, 0), chunks = arena_of_head(context, 256);
    ok(whole > 2048 * 1024 * sizeof(float) && chunks > 0 && chunks < whole / 4,
       "of a head's logits an eighth is in memory: %zu bytes instead of %zu", chunks, whole);
}

static void test_gate(qn_context *context)
{
    qn_lm *lm = gpt_new(context);
    struct learner learner = learner_new(lm, 4, CONTEXT, 1);
    qn_store *parameters = qn_lm_parameters(lm);
    qn_tensor *bias = NULL, *weight = NULL;
    for (size_t i = 0; i < qn_store_count(parameters); i++) {
        qn_tensor *tensor = qn_store_tensor(parameters, i);
        bias = strstr(qn_tensor_name(tensor), "ln_f.bias") ? tensor : bias;
        weight = strstr(qn_tensor_name(tensor), "wte") ? tensor : weight;
    }
    size_t bytes = qn_tensor_bytes(weight);
    float good[64], bad[64], *before = malloc(bytes), *after = malloc(bytes);
    if (!before || !after)
        bail_out("out of memory");
    step(&learner, 0);
    qn_tensor_read(bias, good);
    memcpy(bad, good, sizeof bad);
    bad[1] = NAN;
    qn_tensor_write(bias, bad);
    qn_tensor_read(weight, before);
    struct qn_step report = step(&learner, 1);
    qn_tensor_read(weight, after);
    ok(!isfinite(report.loss) && report.skipped == 1,
       "a step whose gradient is not finite is counted");
    ok(memcmp(before, after, bytes) == 0, "and changes nothing");
    qn_tensor_write(bias, good);
    report = step(&learner, 2);
    qn_tensor_read(weight, after);
    ok(isfinite(report.loss) && report.skipped == 1 && memcmp(before, after, bytes) != 0,
       "the next one does");
    free(before);
    free(after);
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
}

/* The first value that is not finite: in a tensor, in a batch, of a node, of a gradient. */
static void test_anomaly(void)
{
    enum { ROWS = 3, K = 4, N = 5 };
    qn_context *context = qn_open_with(&(struct qn_options){.detect_anomaly = true});
    if (!context)
        bail_out("no device: %s", qn_error(NULL));
    qn_graph *graph = qn_graph_new(context);
    qn_tensor *w = qn_tensor_new(context, "w", QN_F32, QN_SHAPE(K, N));
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(ROWS, K)), *leaf = qn_leaf(graph, w), *dw;
    qn_node *root = qn_named(qn_sqrt(qn_matmul(x, leaf)), "root"), *loss = qn_sum(root, QN_ALL);
    qn_gradients(loss, NULL, &leaf, 1, &dw);
    qn_plan *plan = qn_plan_new(graph, (qn_node *[]){loss, dw}, 2);
    static const struct {
        const char *what;
        float x, w;
        const char *words[3]; /* of the message; none: there is none */
    } cases[] = {
        {"nothing", 1, 1, {NULL}},
        {"a tensor", 1, NAN, {"w (leaf): element [3,4] of [4,5] is nan", "before anything was"}},
        {"a batch", INFINITY, 1, {"x (input): element [2,3] of [3,4] is inf", "look at the batch"}},
        {"a node",
         1,
         -20,
         {"root (sqrt): element [0,4] of [3,5] is ", "though all before it is finite"}},
        {"a gradient", 0, 0, {"sqrt': element [0,0] of [3,5] is ", "(gradient)"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float xs[ROWS * K], ws[K * N];
        bool is_zero = cases[i].x == 0;
        for (size_t j = 0; j < ROWS * K; j++)
            xs[j] = is_zero ? 0 : 1;
        for (size_t j = 0; j < K * N; j++)
            ws[j] = 1;
        xs[ROWS * K - 1] = cases[i].x;
        ws[K * N - 1] = cases[i].w;
        qn_tensor_write(w, ws);
        qn_set(plan, x, xs);
        int status = qn_run(plan);
        const char *error = qn_error(context);
        bool is_right = status == (cases[i].words[0] ? QN_ERROR_NOT_FINITE : QN_OK);
        for (size_t j = 0; cases[i].words[0] && j < 2; j++)
            is_right = is_right && strstr(error, cases[i].words[j]);
#ifdef HAVE_LIBDW
        is_right = is_right && (!cases[i].words[0] || strstr(error, "test_anomaly at training.c:"));
#endif
        if (!ok(is_right, "what is not finite, in %s, is named", cases[i].what))
            note("%d: %s", status, error);
        qn_clear_error(context);
    }
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_tensor_free(w);
    qn_close(context);
}

/* A number that f32 holds and f16 does not: the cast is named, not what f32 makes of it later. */
static void test_anomaly_in_16_bits(void)
{
    qn_context *context = qn_open_with(&(struct qn_options){.detect_anomaly = true});
    qn_graph *graph = qn_graph_new(context);
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(3)),
            *half = qn_named(qn_cast(x, QN_F16), "half"),
            *sum = qn_sum(qn_reciprocal(half), QN_ALL);
    qn_plan *plan = qn_plan_new(graph, &sum, 1);
    qn_set(plan, x, (float[]){1, 1e5f, 2});
    int status = qn_run(plan);
    if (!ok(status == QN_ERROR_NOT_FINITE &&
                strstr(qn_error(context), "half (cast): element [1] of [3] is inf"),
            "what is not finite in f16 is named"))
        note("%d: %s", status, qn_error(context));
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_close(context);
}

static void refuses(qn_context *context, const qn_node *node, const char *message)
{
    if (!ok(!node && strstr(qn_error(context), message), "refused: %s", message))
        note("%s", qn_error(context));
    qn_clear_error(context);
}

static void test_refusals(qn_context *context)
{
    qn_graph *graph = qn_graph_new(context);
    qn_node *one = qn_constant(graph, 1), *p = qn_input(graph, "p", QN_F32, QN_SHAPE(4)),
            *g = qn_input(graph, "g", QN_F32, QN_SHAPE(4, 4));
    struct qn_update numbers = {one, one, one, one};
    struct qn_optimizer sgd = qn_optimizer_defaults(QN_SGD), muon = qn_optimizer_defaults(QN_MUON),
                        adam = qn_optimizer_defaults(QN_ADAM);
    qn_node *states[QN_OPTIMIZER_STATES] = {p, g};
    refuses(context, qn_learning_rate(one, (struct qn_schedule){.kind = (enum qn_schedule_kind)9}),
            "there is no such kind");
    refuses(context, qn_learning_rate(one, (struct qn_schedule){.kind = QN_STEPS, .rate = 1}),
            "steps need a period");
    refuses(context, qn_learning_rate(one, (struct qn_schedule){.kind = QN_NOAM, .rate = 1}),
            "noam needs a width");
    refuses(context, qn_optimizer_update(&sgd, p, g, numbers, states),
            "the gradient has another shape");
    refuses(context, qn_optimizer_update(&muon, p, p, numbers, states), "Muon is for matrices");
    refuses(context, qn_optimizer_update(&adam, p, p, numbers, states), "state 1, v, has another");
    adam.beta1 = 1;
    refuses(context, qn_optimizer_update(&adam, p, p, numbers, states), "must be in [0, 1)");
    qn_graph_free(graph);
}

/* Each optimizer: the loss of one batch falls, and a run that was saved and resumed gives the bits of one that was not. */
/* Losses of some steps of one batch; resumed in the middle from a file at `path`, if that is not NULL. */
static void train(qn_context *context, struct recipe recipe, const char *path, double *losses,
                  size_t steps)
{
    qn_lm *lm = gpt_new(context);
    struct learner learner = learner_of(lm, recipe);
    for (size_t i = 0; i < steps; i++) {
        if (path && i == steps / 2) {
            int status = qn_trainer_save(learner.trainer, path);
            qn_trainer_free(learner.trainer);
            learner = learner_of(lm, recipe);
            if (status != QN_OK || qn_trainer_load(learner.trainer, path) != QN_OK)
                note("%s", qn_error(context));
        }
        for (size_t j = 1; j < recipe.accumulate; j++)
            pass(&learner, 0);
        losses[i] = step(&learner, 0).loss;
    }
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
}

static void test_optimizers(qn_context *context, const char *folder)
{
    static const char *const names[] = {
        [QN_ADAMW] = "adamw",     [QN_ADAM] = "adam",       [QN_SGD] = "sgd",
        [QN_RMSPROP] = "rmsprop", [QN_ADAGRAD] = "adagrad", [QN_ADAFACTOR] = "adafactor",
        [QN_MUON] = "muon"};
    enum { STEPS = 6 };
    char path[64];
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    for (size_t kind = 0; kind < sizeof names / sizeof *names; kind++) {
        double losses[STEPS], resumed[STEPS];
        struct recipe recipe = {4, CONTEXT, 1, .optimizer = (enum qn_optimizer_kind)kind};
        train(context, recipe, NULL, losses, STEPS);
        train(context, recipe, path, resumed, STEPS);
        ok(losses[STEPS - 1] < losses[0], "%s: the loss falls from %.4f to %.4f", names[kind],
           losses[0], losses[STEPS - 1]);
        ok(losses[STEPS - 1] == resumed[STEPS - 1], "%s: resumed, it is the same", names[kind]);
    }
}

/* 16 bits: losses like those of f32, whole or in chunks, in one batch or several; resumed, the same bits. */
static void test_types(qn_context *context, const char *folder)
{
    enum { STEPS = 8 };
    static const struct {
        const char *name;
        struct recipe recipe;
    } runs[] = {
        {"bf16", {4, CONTEXT, 1, .type = QN_BF16}},
        {"bf16 in chunks", {4, CONTEXT, 1, .type = QN_BF16, .loss_rows = 37}},
        {"f16", {4, CONTEXT, 1, .type = QN_F16, .loss_scale = 65536}},
        {"f16 in chunks", {4, CONTEXT, 1, .type = QN_F16, .loss_scale = 65536, .loss_rows = 37}},
        {"f16 in two batches", {4, CONTEXT, 2, .type = QN_F16, .loss_scale = 65536}},
    };
    char path[64];
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    double exact[STEPS], losses[STEPS], resumed[STEPS];
    train(context, (struct recipe){.rows = 4, .length = CONTEXT}, NULL, exact, STEPS);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        double most = 0;
        train(context, runs[i].recipe, NULL, losses, STEPS);
        train(context, runs[i].recipe, path, resumed, STEPS);
        for (size_t j = 0; j < STEPS; j++)
            most = fmax(most, fabs(losses[j] - exact[j]));
        /* Logits are below 1 here, and rounded to 8 bits. */
        ok(most < 3e-3 && losses[STEPS - 1] < losses[0], "%s: within %.1e of f32's losses",
           runs[i].name, most);
        ok(memcmp(losses, resumed, sizeof losses) == 0, "%s: resumed, the same", runs[i].name);
    }
}

/* The moving average of one weight, by hand; it is exchanged, and survives a resume. */
static void test_average(qn_context *context, const char *folder)
{
    enum { STEPS = 12 };
    char path[64];
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    qn_lm *lm = gpt_new(context);
    struct recipe recipe = {4, CONTEXT, 1, .average = 0.6};
    struct learner learner = learner_of(lm, recipe);
    qn_tensor *weight = qn_store_find(qn_lm_parameters(lm), "transformer.ln_f.weight");
    float values[32], found[32];
    double average = 1, loss = 0, resumed = 0; /* weights of norms begin with 1 */
    qn_tensor_read(weight, values);
    qn_trainer_swap_average(learner.trainer);
    qn_tensor_read(weight, found);
    qn_trainer_swap_average(learner.trainer);
    ok(memcmp(found, values, sizeof found) == 0 && values[5] == 1,
       "an average begins as the weights are");
    for (int t = 1; t <= STEPS; t++) {
        double decay = fmin(0.6, (1.0 + t) / (10.0 + t));
        step(&learner, 0);
        qn_tensor_read(weight, values);
        average = decay * average + (1 - decay) * values[5];
    }
    qn_trainer_swap_average(learner.trainer);
    qn_tensor_read(weight, found);
    ok(fabs(found[5] - average) < 1e-6 && found[5] != values[5],
       "the average of a weight is %.7f, by hand %.7f", (double)found[5], average);
    ok(qn_trainer_pass(learner.trainer) != QN_OK, "no step while they are exchanged");
    qn_clear_error(context);
    bool is_saved = qn_trainer_save(learner.trainer, path) == QN_OK;
    qn_trainer_swap_average(learner.trainer);
    qn_tensor_read(weight, found);
    ok(memcmp(found, values, sizeof found) == 0, "exchanged again, the weights are there");
    loss = step(&learner, 0).loss;
    qn_tensor_read(weight, values);
    qn_trainer_free(learner.trainer);

    qn_fill(weight, 7); /* what a model's file has: here it is read from this one */
    learner = learner_of(lm, recipe);
    ok(is_saved && qn_trainer_load(learner.trainer, path) == QN_OK, "saved and loaded");
    qn_tensor_read(weight, found);
    ok(found[5] != 7, "the weights come from the optimizer's file");
    resumed = step(&learner, 0).loss;
    qn_tensor_read(weight, found);
    ok(loss == resumed && memcmp(found, values, sizeof found) == 0, "and go on as before");
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
}

/* A scale that makes gradients overflow falls until they do not; one that does not is doubled after 2000 steps. */
static void test_loss_scale(qn_context *context)
{
    enum { LOG2 = 36, STEPS = 20, MANY = 2000 };
    qn_lm *lm = gpt_new(context);
    struct recipe recipe = {4, CONTEXT, 1, .type = QN_F16, .loss_scale = ldexp(1, LOG2)};
    struct learner learner = learner_of(lm, recipe);
    struct qn_step first = step(&learner, 0), report = first;
    int skipped = 0;
    bool stays = true;
    for (; !isfinite(report.gradient_norm) && skipped < LOG2; skipped++) {
        stays = stays && report.loss == first.loss && (int)report.skipped == skipped + 1;
        report = step(&learner, 0);
    }
    ok(report.loss_scale == ldexp(1, LOG2 - skipped), "of a loss scale of 2^%d 2^%d is left", LOG2,
       LOG2 - skipped);
    ok(stays && skipped > 5 && skipped < LOG2 - 10, "%d steps are skipped, and change nothing",
       skipped);
    for (int i = 0; i < STEPS; i++)
        report = step(&learner, 0);
    ok(report.loss < first.loss - 0.3, "then the loss falls from %.4f to %.4f", first.loss,
       report.loss);
    qn_trainer_free(learner.trainer);

    recipe = (struct recipe){1, 1, 1, .type = QN_F16, .loss_scale = 8};
    learner = learner_of(lm, recipe);
    for (size_t i = 1; i < MANY; i++)
        report = step(&learner, i);
    is_int((long long)report.loss_scale, 8, "after %d steps it is what it was", MANY - 1);
    report = step(&learner, MANY);
    is_int((long long)report.loss_scale, 16, "after one more it is doubled");
    qn_trainer_free(learner.trainer);
    qn_lm_free(lm);
}

/* What is made of weights once is made again when they have changed, by whoever. */
static void test_kept(qn_context *context)
{
    enum { ROWS = 9, K = 5, N = 67 };
    qn_graph *graph = qn_graph_new(context);
    qn_tensor *w = qn_tensor_new(context, "w", QN_F32, QN_SHAPE(K, N));
    qn_node *x = qn_input(graph, "x", QN_F32, QN_SHAPE(ROWS, K)), *leaf = qn_leaf(graph, w);
    qn_node *y = qn_matmul_with(x, leaf, (struct qn_matmul){.keep_b = true}),
            *twice = qn_assign(w, qn_scale(leaf, 2));
    qn_plan *product = qn_plan_new(graph, &y, 1), *update = qn_plan_new(graph, &twice, 1);
    float ones[ROWS * K], weights[K * N], result[ROWS * N];
    for (size_t i = 0; i < ROWS * K; i++)
        ones[i] = 1;
    for (size_t i = 0; i < K * N; i++)
        weights[i] = 1;
    float expected[] = {K, K, 2 * K, 4 * K, 4 * K, K};
    qn_set(product, x, ones);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        if (i == 0 || i == 5)
            qn_tensor_write(w, weights);
        if (i == 2 || i == 3)
            qn_run(update);
        qn_run(product);
        bool equal = qn_get(product, y, result) == QN_OK;
        for (size_t j = 0; equal && j < ROWS * N; j++)
            equal = result[j] == expected[i];
        ok(equal, "run %zu multiplies by the weights that there are then", i);
    }
    qn_plan_free(product);
    qn_plan_free(update);
    qn_graph_free(graph);
    qn_tensor_free(w);
}

/* The loss of a step that changes nothing, of windows that may go on from others. */
static double loss_of_step(qn_trainer *trainer, qn_node *tokens, qn_node *targets,
                           const int32_t *ids, size_t row, size_t rows, size_t length)
{
    int32_t inputs[64], follow[64];
    struct qn_step report = {.loss = NAN};
    for (size_t i = 0; i < rows * length; i++) {
        inputs[i] = ids[i / length * row + i % length];
        follow[i] = ids[i / length * row + i % length + 1];
    }
    qn_plan *plan = qn_trainer_plan(trainer);
    qn_set(plan, tokens, inputs);
    qn_set(plan, targets, follow);
    qn_trainer_pass(trainer);
    qn_trainer_report(trainer, qn_trainer_steps(trainer), true, &report);
    return report.loss;
}

/* Two windows with the state of the first carried to the second are one of twice the length. */
static void test_carry(qn_context *context)
{
    enum { ROWS = 2, LENGTH = 8 };
    const struct qn_lm_config lstm = {.architecture = QN_RECURRENT,
                                      .cell = QN_LSTM,
                                      .vocab_size = 11,
                                      .n_positions = 2 * LENGTH,
                                      .n_embd = 12,
                                      .hidden_size = 20,
                                      .n_layer = 2,
                                      .bos_token_id = -1,
                                      .eos_token_id = -1};
    const struct qn_training options = {.schedule = {.kind = QN_CONSTANT, .rate = 0},
                                        .optimizer = qn_optimizer_defaults(QN_ADAM)};
    qn_lm *lm = qn_lm_new(context, &lstm);
    if (!lm || qn_lm_initialise(lm, 7) != QN_OK)
        bail_out("no model: %s", qn_error(context));
    qn_lm_cache *cache = qn_lm_cache_new(lm, ROWS);
    int32_t ids[ROWS * 2 * LENGTH + 1];
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        ids[i] = (int32_t)(i * i % 11);
    double losses[2];
    for (size_t carries = 0; carries < 2; carries++) {
        size_t length = carries ? LENGTH : 2 * LENGTH;
        qn_trainer *trainer = qn_trainer_new(qn_lm_parameters(lm), &options);
        qn_graph *graph = qn_trainer_graph(trainer);
        qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(ROWS, length)),
                *targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(ROWS, length)), *state;
        struct qn_lm_forward forward = {.cache = carries ? cache : NULL, .new_state = &state};
        qn_node *loss = qn_lm_loss(lm, tokens, targets, forward);
        qn_lm_cache_clear(cache);
        if (carries)
            qn_trainer_carry(trainer, qn_lm_cache_state(cache), state);
        qn_trainer_minimise(trainer, loss);
        losses[carries] = loss_of_step(trainer, tokens, targets, ids, 2 * LENGTH, ROWS, length);
        if (carries)
            losses[carries] =
                (losses[carries] +
                 loss_of_step(trainer, tokens, targets, ids + LENGTH, 2 * LENGTH, ROWS, length)) /
                2;
        qn_trainer_free(trainer);
    }
    ok(fabs(losses[0] - losses[1]) < 1e-6 * losses[0],
       "state is carried: the loss is %.7f in two windows, %.7f in one", losses[1], losses[0]);
    qn_trainer *trainer = qn_trainer_new(
        qn_lm_parameters(lm),
        &(struct qn_training){.optimizer = qn_optimizer_defaults(QN_ADAM), .accumulate = 2});
    qn_node *state = qn_leaf(qn_trainer_graph(trainer), qn_lm_cache_state(cache));
    ok(qn_trainer_carry(trainer, qn_lm_cache_state(cache), state) < 0 &&
           strstr(qn_error(context), "state cannot be carried over the 2 batches"),
       "state is not carried over batches that are added up");
    qn_clear_error(context);
    qn_trainer_free(trainer);
    qn_lm_cache_free(cache);
    qn_lm_free(lm);
}

int main(void)
{
    char folder[] = "/tmp/quern-training-XXXXXX";
    if (!mkdtemp(folder))
        bail_out("no folder");
    setenv("POCL_CACHE_DIR", folder, 1);
    qn_context *context = open_device_or_bail_out();
    test_shapes(context, folder);
    test_allocations(context);
    test_losses(context, folder);
    test_accumulation(context);
    test_chunks(context);
    test_memory_of_chunks(context);
    test_gate(context);
    test_kept(context);
    test_optimizers(context, folder);
    test_types(context, folder);
    test_loss_scale(context);
    test_average(context, folder);
    test_carry(context);
    test_refusals(context);
    test_anomaly();
    test_anomaly_in_16_bits();
    qn_close(context);
    nftw(folder, remove_file, 16, FTW_DEPTH | FTW_PHYS);
    return done_testing();
}

/* Whole steps of training, and generating, with models of the sizes that people train. */
#include "cli/bench/bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "cli/train/learner.h"
#include "cli/train/lm.h"

struct recipe {
    const char *name;
    size_t vocabulary, context, layers, heads, width, batch;
    double losses[CHECKED_STEPS]; /* of the first steps */
};

/* clang-format off */
static const struct recipe recipes[] = {
    {"nanogpt-char-cpu", 65, 64, 4, 4, 128, 12,
        {4.20478, 4.13126, 4.06504, 4.00542, 3.94932, 3.89550, 3.84455, 3.79700}},
    {"nanogpt-char", 65, 256, 6, 6, 384, 8,
        {4.25869, 4.10980, 3.92719, 3.66147, 3.47729, 3.31506, 3.15562, 3.00148}},
    {"gpt2-124M", 50257, 64, 12, 12, 768, 4,
        {10.99726, 9.54551, 8.34250, 7.71053, 6.13253, 5.57208, 5.15188, 4.14164}},
    {"gpt2-124M", 50257, 1024, 12, 12, 768, 1,
        {10.96195, 10.26453, 9.89160, 9.52248, 8.40619, 8.51139, 7.04849, 6.86616}},
};
/* clang-format on */

enum { RECIPES = sizeof recipes / sizeof *recipes };

/* Drivers round differently, and each step enlarges that: PoCL and Intel's runtime, on one CPU, are
 * within this of each other. */
static const double loss_tolerance = 2e-3;

static struct settings settings_of(const struct recipe *recipe)
{
    return (struct settings){
        .layers = recipe->layers,
        .heads = recipe->heads,
        .width = recipe->width,
        .context = recipe->context,
        .batch = recipe->batch,
        .accumulate = 1,
        .steps = 1000,
        .schedule = "cosine",
        .learning_rate = 1e-4,
        .min_learning_rate = 1e-4,
        .optimizer = "adamw",
        .dtype = "f32",
        .weight_decay = 0.1,
        .beta1 = 0.9,
        .beta2 = 0.99,
        .clip = 1,
        .seed = 1337,
    };
}

/* Tokens `begin` and so on, the same on every machine (Knuth's 64-bit linear congruential generator). */
static void make_tokens(int32_t *tokens, size_t begin, size_t count, size_t vocabulary)
{
    uint64_t state = 1337;
    for (size_t i = 0; i < begin + count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (i >= begin)
            tokens[i - begin] = (int32_t)((state >> 33) % vocabulary);
    }
}

/* ---- Training ---- */

/* A learner of one batch: each step learns it better. */
struct lesson {
    struct settings settings;
    struct learner learner;
    size_t steps; /* taken */
};

static bool lesson_set(struct lesson *lesson, qn_context *qn, const struct recipe *recipe)
{
    lesson->settings = settings_of(recipe);
    const struct subject subject = {.settings = &lesson->settings,
                                    .vocabulary = recipe->vocabulary};
    if (learner_make(&lesson->learner, qn, &subject) != QN_OK)
        return false;
    size_t count = recipe->batch * recipe->context;
    make_tokens(lesson->learner.input_ids, 0, count, recipe->vocabulary);
    make_tokens(lesson->learner.target_ids, 1, count, recipe->vocabulary);
    return true;
}

static void lesson_free(struct lesson *lesson)
{
    if (lesson)
        learner_release(&lesson->learner);
    free(lesson);
}

/* A step as `quern train` makes it: batch up, loss back.  Its seconds; negative on failure. */
static double step(struct lesson *lesson, double *loss)
{
    double began = seconds_now();
    struct learner *learner = &lesson->learner;
    qn_plan *plan = qn_trainer_plan(learner->trainer);
    struct qn_step report;
    if (qn_set(plan, learner->losses->inputs, learner->input_ids) != QN_OK ||
        qn_set(plan, learner->losses->targets, learner->target_ids) != QN_OK ||
        qn_trainer_pass(learner->trainer) != QN_OK ||
        qn_trainer_report(learner->trainer, qn_trainer_steps(learner->trainer), true, &report) !=
            QN_OK)
        return -1;
    *loss = report.loss;
    lesson->steps++;
    return seconds_now() - began;
}

/* Whether the first steps went as they should; else the row says how they went. */
static bool is_on_curve(const struct recipe *recipe, struct row *row)
{
    char found[ROW_REASON] = "";
    bool is_good = true;
    for (size_t i = 0, used = 0; i < CHECKED_STEPS; i++) {
        used += (size_t)snprintf(found + used, sizeof found - used, " %.7g", row->losses[i]);
        is_good = is_good && fabs(row->losses[i] - recipe->losses[i]) <= loss_tolerance;
    }
    if (!is_good)
        row_void(row, "off the curve of losses by more than %g:%s", loss_tolerance, found);
    return is_good;
}

/* The steps of a round.  The first of a lesson is its cold start and the second warms up: both are
 * no samples.  The very first round goes on until the losses are checked.  False on failure. */
static bool take_steps(struct lesson *lesson, struct row *row, double seconds)
{
    bool is_first = row->timing.rounds == 0;
    for (double sampled = 0, loss; timing_wants_more(&row->timing, sampled, seconds) ||
                                   (is_first && lesson->steps < CHECKED_STEPS);) {
        double found = step(lesson, &loss);
        if (found < 0)
            return false;
        if (is_first && lesson->steps <= CHECKED_STEPS)
            row->losses[lesson->steps - 1] = loss;
        if (is_first && lesson->steps == CHECKED_STEPS && !is_on_curve(row->recipe, row))
            return false;
        if (is_first && lesson->steps == 1)
            row->cold_start_s += found;
        if (lesson->steps > 2 && !timing_add(&row->timing, found))
            return false;
        sampled += lesson->steps > 2 ? found : 0;
    }
    return true;
}

/* Of the matrix products of the model, forward and backward, none of them twice: 6 for each
 * parameter but those of positions (the head is that of the tokens, whose look-up is none), and
 * those of attention without its mask. */
static double flops_of_step(const struct recipe *recipe)
{
    struct settings settings = settings_of(recipe);
    struct qn_lm_config config = lm_config_of(&settings, recipe->vocabulary, NULL);
    double tokens = (double)(recipe->batch * recipe->context);
    double parameters =
        (double)qn_lm_config_parameters(&config) - (double)(recipe->context * recipe->width);
    return tokens * (6 * parameters +
                     12 * (double)(recipe->layers * recipe->width) * (double)recipe->context);
}

static struct lesson *make_lesson(qn_context *qn, struct row *row)
{
    double began = seconds_now();
    struct lesson *lesson = calloc(1, sizeof *lesson);
    if (!lesson || !lesson_set(lesson, qn, row->recipe)) {
        lesson_free(lesson);
        return NULL;
    }
    if (row->timing.rounds == 0)
        row->cold_start_s = seconds_now() - began;
    row->memory = qn_trainer_memory(lesson->learner.trainer);
    return lesson;
}

/* Keeps the lesson for the next round, if there is room: making another takes long. */
static void keep(struct bench *bench, struct row *row, struct lesson *lesson)
{
    double bytes = (double)(row->memory.arena + row->memory.tensors + row->memory.kept);
    if (!*row->reason && bytes <= bench->room) {
        row->lesson = lesson;
        bench->room -= bytes;
    } else {
        lesson_free(lesson);
    }
}

static void time_training(struct bench *bench, struct row *row, double seconds)
{
    struct lesson *lesson = row->lesson;
    bool is_kept = lesson;
    if (!is_kept)
        lesson = make_lesson(bench->qn, row);
    if (!lesson || !take_steps(lesson, row, seconds))
        row_void(row, "%s", qn_error(bench->qn));
    if (!is_kept)
        keep(bench, row, lesson);
}

void row_release(struct row *row)
{
    lesson_free(row->lesson);
}

static bool bench_recipe(struct bench *bench, const struct recipe *recipe)
{
    struct row *row =
        bench_row(bench, TABLE_TRAINING, "train/%s/%zuL%zuH%zu-T%zu-B%zu", recipe->name,
                  recipe->layers, recipe->heads, recipe->width, recipe->context, recipe->batch);
    if (!row)
        return false;
    row->round = time_training;
    row->recipe = recipe;
    row->unit = TOKENS;
    row->amount = (double)(recipe->batch * recipe->context);
    row->model_flops = flops_of_step(recipe);
    return true;
}

/* Whether a recipe is one of batch x context; 0 sizes: any. */
static bool has_shape(const struct recipe *recipe, const size_t *sizes, size_t count)
{
    return count == 0 || (count == 2 && sizes[0] == recipe->batch && sizes[1] == recipe->context);
}

bool train_has_shape(const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < RECIPES; i++)
        if (has_shape(&recipes[i], sizes, count))
            return true;
    return false;
}

bool bench_train(struct bench *bench, const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < RECIPES; i++)
        if (has_shape(&recipes[i], sizes, count) && !bench_recipe(bench, &recipes[i]))
            return false;
    return true;
}

/* ---- Generating ---- */

enum { POSITIONS = 1024, DRAWN = 32, MOST_PROMPT = 512 };
static const double LIVELY = 0.2; /* deviation of the weights */

/* A text: the prompt, then what was drawn. */
struct text {
    int32_t tokens[MOST_PROMPT + DRAWN + 1];
    size_t prompt;
};

/* Reads the prompt, and draws: the likeliest tokens.  Seconds of a token after the first, before
 * which the prompt was read; negative on failure. */
static double draw(qn_generator *generator, struct text *text)
{
    double began = 0;
    if (qn_generator_start(generator, text->tokens, text->prompt, 0) != QN_OK)
        return -1;
    for (size_t i = 0; i <= DRAWN; i++) {
        int32_t token = qn_generator_next(generator);
        if (token < 0)
            return -1;
        text->tokens[text->prompt + i] = token;
        if (i == 0)
            began = seconds_now();
    }
    return (seconds_now() - began) / DRAWN;
}

/* Whether each token that was drawn is the likeliest, by logits of the whole text without a cache;
 * 1e-3 is for ties, as the two round differently. */
static bool is_likeliest(const struct text *text, const float *logits, size_t vocabulary,
                         struct row *row)
{
    for (size_t i = text->prompt; i < text->prompt + DRAWN; i++) {
        const float *of = logits + (i - 1) * vocabulary;
        for (size_t token = 0; token < vocabulary; token++) {
            if (of[token] <= of[text->tokens[i]] + 1e-3f)
                continue;
            row_void(row, "token %zu is %" PRId32 ", but %zu is likelier", i, text->tokens[i],
                     token);
            return false;
        }
    }
    return true;
}

static bool check_text(qn_lm *lm, qn_context *qn, const struct text *text, struct row *row)
{
    size_t count = text->prompt + DRAWN, vocabulary = qn_lm_config(lm)->vocab_size;
    float *values = malloc(count * vocabulary * sizeof *values);
    qn_graph *graph = qn_graph_new(qn);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(1, count));
    qn_node *logits = qn_lm_logits(lm, tokens, (struct qn_lm_forward){0});
    qn_plan *plan = qn_plan_new(graph, &logits, 1);
    bool is_good = values && plan && qn_set(plan, tokens, text->tokens) == QN_OK &&
                   qn_run(plan) == QN_OK && qn_get(plan, logits, values) == QN_OK &&
                   is_likeliest(text, values, vocabulary, row);
    qn_plan_free(plan);
    qn_graph_free(graph);
    free(values);
    return is_good;
}

/* The first text warms up and, in the first round, is checked. */
static bool sample_texts(qn_context *qn, qn_lm *lm, qn_generator *generator, struct row *row,
                         double seconds)
{
    struct text text = {.prompt = row->prompt};
    make_tokens(text.tokens, 0, text.prompt, recipes[0].vocabulary);
    if (draw(generator, &text) < 0)
        return false;
    if (row->timing.rounds == 0 && !check_text(lm, qn, &text, row))
        return false;
    for (double sampled = 0; timing_wants_more(&row->timing, sampled, seconds);) {
        double found = draw(generator, &text);
        if (found < 0 || !timing_add(&row->timing, found))
            return false;
        sampled += found * DRAWN;
    }
    return true;
}

/* Weights with which every part of the model moves the likeliest token; those that training begins with are so small that a
 * model says much the same without attention. */
static bool make_lively(qn_lm *lm)
{
    qn_store *parameters = qn_lm_parameters(lm);
    bool is_good = qn_lm_initialise(lm, 1337) == QN_OK;
    for (size_t i = 0; is_good && i < qn_store_count(parameters); i++) {
        qn_tensor *tensor = qn_store_tensor(parameters, i);
        if (qn_tensor_shape(tensor).rank == 2)
            is_good = qn_fill_normal(tensor, 0, LIVELY, i) == QN_OK;
    }
    return is_good;
}

static void time_generation(struct bench *bench, struct row *row, double seconds)
{
    struct settings settings = settings_of(&recipes[0]);
    settings.context = POSITIONS;
    struct qn_lm_config config = lm_config_of(&settings, recipes[0].vocabulary, NULL);
    qn_lm *lm = qn_lm_new(bench->qn, &config);
    bool is_good = lm && make_lively(lm);
    qn_generator *generator = is_good ? qn_generator_new(lm, (struct qn_generation){0}) : NULL;
    if (!generator || !sample_texts(bench->qn, lm, generator, row, seconds))
        row_void(row, "%s", qn_error(bench->qn));
    qn_generator_free(generator);
    qn_lm_free(lm);
}

static bool bench_context(struct bench *bench, size_t prompt)
{
    const struct recipe *recipe = &recipes[0];
    struct row *row = bench_row(bench, TABLE_GENERATION, "generate/%s/%zuL%zuH%zu-T%zu",
                                recipe->name, recipe->layers, recipe->heads, recipe->width, prompt);
    if (!row)
        return false;
    row->round = time_generation;
    row->prompt = prompt;
    row->unit = TOKENS;
    row->amount = 1;
    return true;
}

static const size_t prompts[] = {64, MOST_PROMPT};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

bool generate_has_shape(const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < PROMPTS; i++)
        if (count == 1 && sizes[0] == prompts[i])
            return true;
    return false;
}

bool bench_generate(struct bench *bench, const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < PROMPTS; i++)
        if ((count == 0 || sizes[0] == prompts[i]) && !bench_context(bench, prompts[i]))
            return false;
    return true;
}

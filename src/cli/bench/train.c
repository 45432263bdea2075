/* Whole steps of training, of models of the sizes that people train. */
#include "cli/bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/learner.h"
#include "cli/train/models.h"

struct recipe {
    enum suite suite;
    const char *group, *name;
    enum family family;
    size_t vocabulary, context, layers, heads, width, batch;
    size_t inner;                 /* of pairs: of a Transformer; units of an LSTM */
    double learning_rate;         /* so low that rounding does not move the losses */
    double losses[CHECKED_STEPS]; /* of the first steps, as PyTorch has them */
};

/* clang-format off */
static const struct recipe recipes[] = {
    {QUICK, "train", "nanogpt-char-cpu", FAMILY_GPT, 65, 64, 4, 4, 128, 12, 0, 1e-4,
        {4.20478, 4.13126, 4.06504, 4.00542, 3.94932, 3.89550, 3.84455, 3.79700}},
    {STANDARD, "train", "nanogpt-char", FAMILY_GPT, 65, 256, 6, 6, 384, 8, 0, 1e-4,
        {4.25869, 4.10980, 3.92719, 3.66147, 3.47729, 3.31506, 3.15562, 3.00148}},
    {STANDARD, "train", "gpt2-124M", FAMILY_GPT, 50257, 64, 12, 12, 768, 4, 0, 1e-4,
        {10.99726, 9.54551, 8.34250, 7.71053, 6.13253, 5.57208, 5.15188, 4.14164}},
    {STANDARD, "train", "gpt2-124M", FAMILY_GPT, 50257, 1024, 12, 12, 768, 1, 0, 1e-4,
        {10.96195, 10.26453, 9.89160, 9.52248, 8.40619, 8.51139, 7.04849, 6.86616}},
    {QUICK, "seq2seq", "lstm", FAMILY_SEQ2SEQ, 8000, 24, 2, 1, 256, 64, 512, 1e-4,
        {8.98846, 8.98655, 8.98462, 8.98262, 8.98054, 8.97834, 8.97598, 8.97343}},
    {STANDARD, "seq2seq", "transformer", FAMILY_TRANSFORMER, 8000, 24, 6, 8, 512, 64, 2048, 1e-5,
        {9.52961, 9.43560, 9.35591, 9.28959, 9.23170, 9.17824, 9.12731, 9.07738}},
};
/* clang-format on */

enum { RECIPES = sizeof recipes / sizeof *recipes };

/* Drivers round differently, and each step enlarges that: PoCL and Intel's runtime, on one CPU, are
 * within this of each other. */
static const double loss_tolerance = 2e-3;

static struct settings settings_of(const struct recipe *recipe)
{
    return (struct settings){
        .family = recipe->family,
        .model = "lstm",
        .direction = "forward",
        .attention = "none",
        .bridge = "none",
        .units = recipe->inner,
        .norm = "post",
        .positions = "sinusoidal",
        .activation = "relu",
        .inner = recipe->inner,
        .embeddings = "untied",
        .target_tokenizer = "joint",
        .most_tokens = recipe->context + 1,
        .layers = recipe->layers,
        .heads = recipe->heads,
        .width = recipe->width,
        .context = recipe->context,
        .batch = recipe->batch,
        .accumulate = 1,
        .steps = 1000,
        .schedule = "cosine",
        .learning_rate = recipe->learning_rate,
        .min_learning_rate = recipe->learning_rate,
        .optimizer = "adamw",
        .dtype = "f32",
        .weight_decay = 0.1,
        .beta1 = 0.9,
        .beta2 = 0.99,
        .clip = 1,
        .seed = 1337,
    };
}

/* Knuth's 64-bit linear congruential generator. */
void make_tokens(int32_t *tokens, size_t begin, size_t count, size_t vocabulary)
{
    uint64_t state = 1337;
    for (size_t i = 0; i < begin + count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (i >= begin)
            tokens[i - begin] = (int32_t)((state >> 33) % vocabulary);
    }
}

/* ---- A lesson ---- */

/* A learner of one batch: each step learns it better. */
struct lesson {
    struct settings settings;
    struct qn_batch_shape shape; /* of pairs */
    struct learner learner;
    int32_t *ids[2],
        *lengths[2]; /* of pairs: of both sides; else of what is read and what follows */
    size_t steps;    /* taken */
};

static bool is_of_pairs(const struct recipe *recipe)
{
    return reads_pairs(recipe->family);
}

/* Makes one side of the batch; `begin`: where its tokens are among all.  False if there is no memory. */
static bool lesson_set_side(struct lesson *lesson, const struct recipe *recipe, size_t side,
                            size_t begin, size_t length)
{
    size_t count = recipe->batch * length;
    lesson->ids[side] = malloc(count * sizeof *lesson->ids[side]);
    lesson->lengths[side] = malloc(recipe->batch * sizeof *lesson->lengths[side]);
    if (!lesson->ids[side] || !lesson->lengths[side])
        return false;
    make_tokens(lesson->ids[side], begin, count, recipe->vocabulary);
    for (size_t i = 0; i < recipe->batch; i++)
        lesson->lengths[side][i] = (int32_t)length;
    return true;
}

/* The second side of a language model is the first, a token later; a target has one more than is read of it. */
static bool lesson_set(struct lesson *lesson, qn_context *qn, const struct recipe *recipe)
{
    size_t length = recipe->context, target = length + is_of_pairs(recipe);
    lesson->settings = settings_of(recipe);
    lesson->shape = (struct qn_batch_shape){.rows = recipe->batch, .length = {length, target}};
    const struct subject subject = {
        .settings = &lesson->settings, .vocabulary = recipe->vocabulary, .shape = &lesson->shape};
    return learner_make(&lesson->learner, qn, &subject) == QN_OK &&
           lesson_set_side(lesson, recipe, 0, 0, length) &&
           lesson_set_side(lesson, recipe, 1, is_of_pairs(recipe) ? recipe->batch * length : 1,
                           target);
}

static void lesson_free(struct lesson *lesson)
{
    if (!lesson)
        return;
    learner_release(&lesson->learner);
    for (size_t side = 0; side < 2; side++) {
        free(lesson->ids[side]);
        free(lesson->lengths[side]);
    }
    free(lesson);
}

static int upload(struct lesson *lesson)
{
    qn_plan *plan = qn_trainer_plan(lesson->learner.trainer);
    const struct loss_inputs *loss = lesson->learner.losses;
    int status = qn_set(plan, loss->inputs, lesson->ids[0]);
    if (status == QN_OK)
        status = qn_set(plan, loss->targets, lesson->ids[1]);
    if (status == QN_OK && loss->lengths)
        status = qn_set(plan, loss->lengths, lesson->lengths[0]);
    if (status == QN_OK && loss->target_lengths)
        status = qn_set(plan, loss->target_lengths, lesson->lengths[1]);
    return status;
}

/* Its losses are not asked for. */
static bool start_step(void *of)
{
    struct lesson *lesson = of;
    return upload(lesson) == QN_OK && qn_trainer_pass(lesson->learner.trainer) == QN_OK;
}

/* A step as `quern train` makes it: batch up, loss back.  Its seconds; negative on failure. */
static double step(struct lesson *lesson, double *loss)
{
    double began = seconds_now();
    qn_trainer *trainer = lesson->learner.trainer;
    struct qn_step report;
    if (!start_step(lesson))
        return -1;
    if (qn_trainer_report(trainer, qn_trainer_steps(trainer), true, &report) != QN_OK)
        return -1;
    *loss = report.loss;
    lesson->steps++;
    return seconds_now() - began;
}

/* Whether the first steps went as they should; else the row says how they went. */
static bool is_on_curve(const qn_context *qn, const struct recipe *recipe, struct row *row)
{
    /* Logits begin as numbers below 1; of gpt2-124M, 64 tokens, operands rounded to TF32 move the losses by 1.6e-3. */
    double allowed = allowed_of_products(qn, loss_tolerance, 1);
    char found[ROW_REASON] = "";
    bool is_good = true;
    for (size_t i = 0, used = 0; i < CHECKED_STEPS; i++) {
        used += (size_t)snprintf(found + used, sizeof found - used, " %.7g", row->losses[i]);
        is_good = is_good && fabs(row->losses[i] - recipe->losses[i]) <= allowed;
    }
    if (!is_good)
        row_void(row, "off the curve of losses by more than %g:%s", allowed, found);
    return is_good;
}

/* The steps of a round.  The first of a lesson is its cold start and the second warms up: both are
 * no samples.  The very first round goes on until the losses are checked.  False on failure. */
static bool take_steps(const qn_context *qn, struct lesson *lesson, struct row *row, double seconds)
{
    bool is_first = row->timing.rounds == 0;
    for (double sampled = 0, loss; timing_wants_more(&row->timing, sampled, seconds) ||
                                   (is_first && lesson->steps < CHECKED_STEPS);) {
        double found = step(lesson, &loss);
        if (found < 0)
            return false;
        if (is_first && lesson->steps <= CHECKED_STEPS)
            row->losses[lesson->steps - 1] = loss;
        if (is_first && lesson->steps == CHECKED_STEPS && !is_on_curve(qn, row->recipe, row))
            return false;
        if (is_first && lesson->steps == 1)
            row->cold_start_s += found;
        if (lesson->steps > 2 && !timing_add(&row->timing, found))
            return false;
        sampled += lesson->steps > 2 ? found : 0;
    }
    return true;
}

/* Parameters that are in matrix products, with every token that is read; of pairs with one of each side, which are as long. */
static double multiplied_parameters(const struct recipe *recipe)
{
    struct settings settings = settings_of(recipe);
    if (!is_of_pairs(recipe)) { /* the head is that of the tokens, whose look-up is none */
        struct qn_lm_config config = lm_config_of(&settings, recipe->vocabulary, NULL);
        return (double)qn_lm_config_parameters(&config) - (double)(recipe->context * recipe->width);
    }
    struct qn_seq2seq_config config = seq2seq_config_of(
        &(struct subject){.settings = &settings, .vocabulary = recipe->vocabulary});
    return (double)qn_seq2seq_config_parameters(&config) -
           2.0 * (double)(recipe->vocabulary * recipe->width);
}

/* Of attention a token meets: a block's own; of a Transformer for pairs three, in an encoder's and a decoder's block. */
static double attentions(const struct recipe *recipe)
{
    size_t of_layer = recipe->family == FAMILY_GPT           ? 1
                      : recipe->family == FAMILY_TRANSFORMER ? 3
                                                             : 0;
    return (double)(of_layer * recipe->layers);
}

/* Of the matrix products of the model, forward and backward, none of them twice: 6 for each
 * parameter, and those of attention without its mask. */
static double flops_of_step(const struct recipe *recipe)
{
    double tokens = (double)(recipe->batch * recipe->context);
    return tokens * (6 * multiplied_parameters(recipe) +
                     12 * attentions(recipe) * (double)recipe->width * (double)recipe->context);
}

static struct lesson *make_lesson(qn_context *qn, const struct row *row)
{
    struct lesson *lesson = calloc(1, sizeof *lesson);
    if (!lesson || !lesson_set(lesson, qn, row->recipe)) {
        lesson_free(lesson);
        return NULL;
    }
    return lesson;
}

/* Keeps the lesson for the next round, if there is room: making another takes long. */
static void keep(struct bench *bench, struct row *row, struct lesson *lesson)
{
    double bytes = (double)(row->memory.arena + row->memory.tensors + row->memory.kept);
    if (take_room(bench, row, bytes))
        row->lesson = lesson;
    else
        lesson_free(lesson);
}

static void time_training(struct bench *bench, struct row *row, double seconds)
{
    struct lesson *lesson = row->lesson;
    bool is_kept = lesson;
    double began = seconds_now();
    if (!is_kept)
        lesson = make_lesson(bench->qn, row);
    if (lesson && row->timing.rounds == 0) {
        row->cold_start_s = seconds_now() - began;
        row->memory = qn_trainer_memory(lesson->learner.trainer);
    }
    if (!lesson || !take_steps(bench->qn, lesson, row, seconds) ||
        !read_sensors_at_work(bench, start_step, lesson, newest_sample(&row->timing)))
        row_void(row, "%s", qn_error(bench->qn));
    if (!is_kept)
        keep(bench, row, lesson);
}

void lesson_release(struct row *row)
{
    lesson_free(row->lesson);
    row->lesson = NULL;
}

static bool run_step(void *lesson)
{
    double loss;
    return step(lesson, &loss) >= 0;
}

static bool with_training(qn_context *qn, struct row *row, row_use *use)
{
    struct lesson *lesson = make_lesson(qn, row);
    if (lesson)
        use(qn, row, run_step, lesson);
    lesson_free(lesson);
    return lesson;
}

const double *reference_losses(const struct row *row)
{
    return row->recipe->losses;
}

/* "12L12H768": layers, heads, width; of an LSTM layers and units. */
static void describe_sizes(const struct recipe *recipe, char text[SIZES_TEXT])
{
    if (recipe->family == FAMILY_SEQ2SEQ)
        snprintf(text, SIZES_TEXT, "%zuL%zu", recipe->layers, recipe->inner);
    else
        snprintf(text, SIZES_TEXT, "%zuL%zuH%zu", recipe->layers, recipe->heads, recipe->width);
}

static bool bench_recipe(struct bench *bench, const struct recipe *recipe)
{
    char sizes[SIZES_TEXT];
    describe_sizes(recipe, sizes);
    struct row *row = bench_row(bench, TABLE_TRAINING, "%s/%s/%s-T%zu-B%zu", recipe->group,
                                recipe->name, sizes, recipe->context, recipe->batch);
    if (!row)
        return false;
    row->round = time_training;
    row->with = with_training;
    row->recipe = recipe;
    row->unit = TOKENS;
    row->amount = (double)(recipe->batch * recipe->context);
    row->model_flops = flops_of_step(recipe);
    return true;
}

/* Whether a recipe is one of the group, of batch x context; 0 sizes: any. */
static bool has_shape(const struct recipe *recipe, const char *group, const size_t *sizes,
                      size_t count)
{
    return strcmp(recipe->group, group) == 0 &&
           (count == 0 || (count == 2 && sizes[0] == recipe->batch && sizes[1] == recipe->context));
}

bool train_has_shape(const char *group, const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < RECIPES; i++)
        if (has_shape(&recipes[i], group, sizes, count))
            return true;
    return false;
}

bool bench_train(struct bench *bench, const char *group, const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < RECIPES; i++)
        if (has_shape(&recipes[i], group, sizes, count) &&
            (count > 0 || recipes[i].suite <= bench->suite) && !bench_recipe(bench, &recipes[i]))
            return false;
    return true;
}

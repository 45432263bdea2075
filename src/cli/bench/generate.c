/* Generating, with the smallest of the models that are trained. */
#include "cli/bench/bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { POSITIONS = 1024, MOST_PROMPT = 512 };
static const struct qn_lm_config config = {
    .architecture = QN_GPT2,
    .vocab_size = 65, /* of nanoGPT's recipe for characters on a CPU */
    .n_positions = POSITIONS,
    .n_embd = 128,
    .n_layer = 4,
    .n_head = 4,
    .layer_norm_epsilon = 1e-5,
    .activation = QN_GELU,
    .tie_word_embeddings = true,
    .bos_token_id = -1,
    .eos_token_id = -1,
};
static const double LIVELY = 0.2; /* deviation of the weights */

/* A text: the prompt, then what was drawn. */
struct text {
    int32_t tokens[MOST_PROMPT + DRAWN + 1];
    size_t prompt;
    qn_generator *generator;
    double prompt_s; /* seconds from the start to the first token */
};

static bool start_text(void *of)
{
    const struct text *text = of;
    return qn_generator_start(text->generator, text->tokens, text->prompt, 0) == QN_OK;
}

/* Reads the prompt, and draws: the likeliest tokens.  Seconds of a token after the first, before
 * which the prompt was read; negative on failure. */
static double draw(struct text *text)
{
    double started = seconds_now(), began = 0;
    if (!start_text(text))
        return -1;
    for (size_t i = 0; i <= DRAWN; i++) {
        int32_t token = qn_generator_next(text->generator);
        if (token < 0)
            return -1;
        text->tokens[text->prompt + i] = token;
        if (i == 0)
            began = seconds_now();
    }
    text->prompt_s = began - started;
    return (seconds_now() - began) / DRAWN;
}

/* Whether each token that was drawn is the likeliest, by logits of the whole text without a cache;
 * 1e-3 is for ties, as the two round differently: a single token's products are those of f32. */
static bool is_likeliest(const qn_context *qn, const struct text *text, const float *logits,
                         size_t vocabulary, struct row *row)
{
    double magnitude =
        LIVELY * sqrt((double)config.n_embd); /* of what a norm gives, times weights */
    double allowed = allowed_of_products(qn, 1e-3, magnitude);
    for (size_t i = text->prompt; i < text->prompt + DRAWN; i++) {
        const float *of = logits + (i - 1) * vocabulary;
        for (size_t token = 0; token < vocabulary; token++) {
            if (of[token] <= of[text->tokens[i]] + allowed)
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
                   is_likeliest(qn, text, values, vocabulary, row);
    qn_plan_free(plan);
    qn_graph_free(graph);
    free(values);
    return is_good;
}

/* The first text warms up and, in the first round, is checked.  While sensors are read the device reads the prompt, again and again. */
static bool sample_texts(struct bench *bench, qn_lm *lm, qn_generator *generator, struct row *row,
                         double seconds)
{
    struct text text = {.prompt = row->prompt, .generator = generator};
    make_tokens(text.tokens, 0, text.prompt, config.vocab_size);
    if (draw(&text) < 0)
        return false;
    if (row->timing.rounds == 0 && !check_text(lm, bench->qn, &text, row))
        return false;
    for (double sampled = 0; timing_wants_more(&row->timing, sampled, seconds);) {
        double found = draw(&text);
        if (found < 0 || !timing_add(&row->timing, found))
            return false;
        sampled += found * DRAWN;
    }
    return read_sensors_at_work(bench, start_text, &text, text.prompt_s);
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
    qn_lm *lm = qn_lm_new(bench->qn, &config);
    bool is_good = lm && make_lively(lm);
    qn_generator *generator = is_good ? qn_generator_new(lm, (struct qn_generation){0}) : NULL;
    if (!generator || !sample_texts(bench, lm, generator, row, seconds))
        row_void(row, "%s", qn_error(bench->qn));
    qn_generator_free(generator);
    qn_lm_free(lm);
}

static bool run_token(void *generator)
{
    return qn_generator_next(generator) >= 0;
}

/* A token behind the prompt. */
static bool with_generation(qn_context *qn, struct row *row, row_use *use)
{
    int32_t prompt[MOST_PROMPT];
    make_tokens(prompt, 0, row->prompt, config.vocab_size);
    qn_lm *lm = qn_lm_new(qn, &config);
    bool is_good = lm && make_lively(lm);
    qn_generator *generator = is_good ? qn_generator_new(lm, (struct qn_generation){0}) : NULL;
    is_good = generator && qn_generator_start(generator, prompt, row->prompt, 0) == QN_OK;
    if (is_good)
        use(qn, row, run_token, generator);
    qn_generator_free(generator);
    qn_lm_free(lm);
    return is_good;
}

static bool bench_context(struct bench *bench, size_t prompt)
{
    struct row *row =
        bench_row(bench, TABLE_GENERATION, "generate/nanogpt-char-cpu/%zuL%zuH%zu-T%zu",
                  config.n_layer, config.n_head, config.n_embd, prompt);
    if (!row)
        return false;
    row->round = time_generation;
    row->with = with_generation;
    row->prompt = prompt;
    row->unit = TOKENS;
    row->amount = 1;
    return true;
}

static const struct {
    enum suite suite;
    size_t tokens;
} prompts[] = {{QUICK, 64}, {STANDARD, MOST_PROMPT}};
enum { PROMPTS = sizeof prompts / sizeof *prompts };

bool generate_has_shape(const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < PROMPTS; i++)
        if (count == 1 && sizes[0] == prompts[i].tokens)
            return true;
    return false;
}

bool bench_generate(struct bench *bench, const size_t *sizes, size_t count)
{
    for (size_t i = 0; i < PROMPTS; i++)
        if ((count ? sizes[0] == prompts[i].tokens : prompts[i].suite <= bench->suite) &&
            !bench_context(bench, prompts[i].tokens))
            return false;
    return true;
}

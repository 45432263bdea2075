/* Generating text: a prompt plan for each length of prompt, and one plan for all further tokens, which feeds itself. */
#include <stdlib.h>
#include <string.h>

#include "nn/lm.h"

/* A plan that reads `length` tokens at a position, and draws the next one. */
struct reader {
    size_t length;
    qn_graph *graph;
    qn_node *tokens, *next; /* (1, length); (1) */
    qn_plan *plan;
};

enum { READERS = 8 };

struct qn_generator {
    qn_lm *lm;
    struct qn_generation options;
    qn_lm_cache *cache;
    qn_tensor *token, *position, *key; /* state: (1, 1), (1), (2) */
    struct reader step;                /* length 1; the token is state */
    struct reader prompts[READERS];    /* those of the last lengths */
    size_t n_prompts;
    int32_t *history; /* tokens in the cache, and the one to be read next */
    size_t count;
    qn_plan *last; /* the plan that draws the next token */
    qn_node *drawn;
};

static void reader_free(struct reader *reader)
{
    qn_plan_free(reader->plan);
    qn_graph_free(reader->graph);
    *reader = (struct reader){0};
}

/* Reads the tokens (an input, or the state), draws one, and puts it, the position and the key where the next step finds
 * them. */
static int reader_make(qn_generator *generator, struct reader *reader, size_t length,
                       bool feeds_itself)
{
    qn_graph *graph = qn_graph_new(generator->lm->context);
    *reader = (struct reader){.length = length, .graph = graph};
    reader->tokens = feeds_itself ? qn_leaf(graph, generator->token)
                                  : qn_input(graph, "prompt", QN_I32, QN_SHAPE(1, length));
    qn_node *position = qn_leaf(graph, generator->position), *key = qn_leaf(graph, generator->key);
    qn_node *logits = qn_lm_logits(
        generator->lm, reader->tokens,
        (struct qn_lm_forward){.cache = generator->cache, .position = position, .last_only = true});
    size_t vocabulary = generator->lm->config.vocab_size;
    reader->next =
        qn_sample(qn_reshape(logits, QN_SHAPE(1, vocabulary)), key, generator->options.sample);
    qn_node *ahead = qn_cast(qn_constant(graph, (double)length), QN_I32);
    qn_node *drawn = qn_range(graph, 2); /* 0 for the seed, 1 for the number of tokens drawn */
    qn_node *roots[] = {reader->next,
                        qn_assign(generator->token, qn_reshape(reader->next, QN_SHAPE(1, 1))),
                        qn_assign(generator->position, qn_add(position, ahead)),
                        qn_assign(generator->key, qn_add(key, drawn))};
    reader->plan = qn_plan_new(graph, roots, sizeof roots / sizeof *roots);
    if (reader->plan)
        return QN_OK;
    reader_free(reader);
    return generator->lm->context->status;
}

qn_generator *qn_generator_new(qn_lm *lm, struct qn_generation options)
{
    if (!lm)
        return NULL;
    qn_generator *generator = context_alloc(lm->context, 1, sizeof *generator);
    if (!generator)
        return NULL;
    *generator = (qn_generator){.lm = lm, .options = options};
    generator->cache = qn_lm_cache_new(lm, 1);
    generator->token = qn_tensor_new(lm->context, "token", QN_I32, QN_SHAPE(1, 1));
    generator->position = qn_tensor_new(lm->context, "position", QN_I32, QN_SHAPE(1));
    generator->key = qn_tensor_new(lm->context, "key", QN_I32, QN_SHAPE(2));
    generator->history = context_alloc(lm->context, lm->config.n_positions + 1, sizeof(int32_t));
    if (generator->cache && generator->token && generator->position && generator->key &&
        generator->history && reader_make(generator, &generator->step, 1, true) == QN_OK)
        return generator;
    qn_generator_free(generator);
    return NULL;
}

void qn_generator_free(qn_generator *generator)
{
    if (!generator)
        return;
    reader_free(&generator->step);
    for (size_t i = 0; i < generator->n_prompts; i++)
        reader_free(&generator->prompts[i]);
    qn_lm_cache_free(generator->cache);
    qn_tensor_free(generator->token);
    qn_tensor_free(generator->position);
    qn_tensor_free(generator->key);
    free(generator->history);
    free(generator);
}

/* The reader for prompts of a length: made when it is first asked for, the oldest going. */
static struct reader *prompt_reader(qn_generator *generator, size_t length)
{
    for (size_t i = 0; i < generator->n_prompts; i++)
        if (generator->prompts[i].length == length)
            return &generator->prompts[i];
    if (generator->n_prompts == READERS) {
        generator->last = NULL; /* it may be the one that goes */
        reader_free(&generator->prompts[0]);
        memmove(generator->prompts, generator->prompts + 1,
                (READERS - 1) * sizeof *generator->prompts);
        generator->n_prompts--;
    }
    struct reader *reader = &generator->prompts[generator->n_prompts];
    if (reader_make(generator, reader, length, false) != QN_OK)
        return NULL;
    generator->n_prompts++;
    return reader;
}

/* Reads tokens into an empty cache: of a recurrent model in pieces, its state being all that it knows of those before. */
static int read_tokens(qn_generator *generator, const int32_t *tokens, size_t count)
{
    size_t most = generator->lm->config.n_positions;
    int status = qn_tensor_write(generator->position, &(int32_t){0});
    if (status == QN_OK)
        status = qn_lm_cache_clear(generator->cache);
    for (size_t begin = 0; status == QN_OK && begin < count; begin += most) {
        struct reader *reader = prompt_reader(generator, size_min(count - begin, most));
        status = reader ? qn_set(reader->plan, reader->tokens, tokens + begin)
                        : (int)generator->lm->context->status;
        if (status == QN_OK)
            status = qn_run(reader->plan);
        if (status == QN_OK) {
            generator->last = reader->plan;
            generator->drawn = reader->next;
        }
    }
    return status;
}

/* Keeps the last tokens of the history, `count` of them. */
static void keep_last(qn_generator *generator, size_t count)
{
    memmove(generator->history, generator->history + generator->count - count,
            count * sizeof *generator->history);
    generator->count = count;
}

int qn_generator_start(qn_generator *generator, const int32_t *prompt, size_t count,
                       uint64_t sample)
{
    if (!generator)
        return QN_ERROR_INVALID;
    qn_context *context = generator->lm->context;
    size_t most = generator->lm->config.n_positions, vocabulary = generator->lm->config.vocab_size;
    if (count == 0)
        return context_fail(context, QN_ERROR_INVALID, "generate: the prompt has no tokens");
    for (size_t i = 0; i < count; i++)
        if (prompt[i] < 0 || (size_t)prompt[i] >= vocabulary)
            return context_fail(
                context, QN_ERROR_INVALID,
                "generate: token %d of the prompt is not in the model's vocabulary of %zu",
                prompt[i], vocabulary);
    generator->count = size_min(count, most);
    memcpy(generator->history, prompt + count - generator->count,
           generator->count * sizeof *prompt);
    uint64_t seed = (generator->options.seed + sample * 0x9E3779B97F4A7C15u) * 0xD1342543DE82EF95u;
    int32_t key[2] = {(int32_t)(uint32_t)(seed >> 32), 0};
    int status = qn_tensor_write(generator->key, key);
    if (status != QN_OK)
        return status;
    return generator->lm->rnn ? read_tokens(generator, prompt, count)
                              : read_tokens(generator, generator->history, generator->count);
}

int32_t qn_generator_next(qn_generator *generator)
{
    if (!generator)
        return QN_ERROR_INVALID;
    qn_context *context = generator->lm->context;
    size_t most = generator->lm->config.n_positions;
    int32_t token;
    if (!generator->last)
        return context_fail(context, QN_ERROR_INVALID, "generate: no text was started");
    int status = qn_get(generator->last, generator->drawn, &token);
    if (status != QN_OK)
        return status;
    if (!generator->lm->rnn)
        generator->history[generator->count++] = token;
    if (generator->count <= most) { /* there is room to read the token */
        status = qn_run(generator->step.plan);
        generator->last = generator->step.plan;
        generator->drawn = generator->step.next;
    } else {
        keep_last(generator, most / 2 ? most / 2 : 1);
        status = read_tokens(generator, generator->history, generator->count);
    }
    return status == QN_OK ? token : status;
}

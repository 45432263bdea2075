/* quern generate: text from a model, on stdout as it comes. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/heatmap.h"
#include "cli/model.h"
#include "cli/progress.h"

struct writer {
    const struct options *options;
    struct model model;
    qn_generator *generator;
    qn_decoder *decoder;
    int32_t *prompt;
    size_t prompt_count;
    int32_t end_of_text; /* ends a text; -1: nothing does */
    int32_t *
        read; /* of the first text, if attention is to be drawn: what the model read last, at most its context */
    size_t n_read, context;
    struct file_writer drawing; /* of --attention */
    uint64_t generated;
    double seconds; /* that generating took, the first tokens of each text left out */
};

static int fail_library(const struct writer *writer)
{
    return failure(writer->options, "%s", qn_error(writer->model.qn));
}

/* ---- The prompt ---- */

/* What a text begins with if the user says nothing: what the model saw there. */
static int default_prompt(struct writer *writer)
{
    qn_tokenizer *tokenizer = writer->model.tokenizer;
    int32_t first = qn_tokenizer_begin(tokenizer);
    size_t bytes;
    for (int32_t id = 0; first < 0 && id < (int32_t)qn_tokenizer_vocabulary(tokenizer); id++) {
        const char *token = qn_tokenizer_token(tokenizer, id, &bytes);
        if (token && bytes == 1 && *token == '\n')
            first = id;
    }
    writer->prompt = malloc(sizeof *writer->prompt);
    if (!writer->prompt)
        return failure(writer->options, "out of memory");
    *writer->prompt = first >= 0 ? first : 0;
    writer->prompt_count = 1;
    return EXIT_SUCCESS;
}

static int read_prompt(struct writer *writer)
{
    const char *prompt = options_string(writer->options, "prompt");
    if (!prompt)
        return default_prompt(writer);
    if (!*prompt)
        return usage_error(writer->options, "--prompt is empty: leave it out to begin anywhere");
    if (qn_encode(writer->model.tokenizer, "the prompt", prompt, strlen(prompt), &writer->prompt,
                  &writer->prompt_count) != QN_OK)
        return fail_library(writer);
    return EXIT_SUCCESS;
}

/* ---- The text ---- */

static int print(const struct writer *writer, const char *text)
{
    if (fputs(text, stdout) != EOF && fflush(stdout) == 0)
        return EXIT_SUCCESS;
    return failure(writer->options, "cannot write the text: %s", strerror(errno));
}

/* Notes what the model reads, for draw_attention(). */
static void note_read(struct writer *writer, uint64_t sample, int32_t id)
{
    if (!writer->read || sample > 0)
        return;
    if (writer->n_read == writer->context)
        memmove(writer->read, writer->read + 1, --writer->n_read * sizeof *writer->read);
    writer->read[writer->n_read++] = id;
}

static int write_sample(struct writer *writer, uint64_t sample, uint64_t tokens)
{
    const char *prompt = options_string(writer->options, "prompt");
    int status = prompt ? print(writer, prompt) : EXIT_SUCCESS;
    if (status == EXIT_SUCCESS && qn_generator_start(writer->generator, writer->prompt,
                                                     writer->prompt_count, sample) != QN_OK)
        return fail_library(writer);
    double began = INFINITY;
    for (size_t i = 0; i < writer->prompt_count; i++)
        note_read(writer, sample, writer->prompt[i]);
    for (uint64_t i = 0; i < tokens && status == EXIT_SUCCESS; i++) {
        int32_t token = qn_generator_next(writer->generator);
        if (token < 0)
            return fail_library(writer);
        if (i == 1) /* before that, the prompt was read and drivers compiled */
            began = seconds_now();
        else if (i > 1)
            writer->generated++;
        note_read(writer, sample, token);
        if (token == writer->end_of_text)
            break;
        const char *text = qn_decoder_next(writer->decoder, token);
        if (!text)
            return fail_library(writer);
        status = print(writer, text);
    }
    writer->seconds += fmax(seconds_now() - began, 0);
    const char *rest = qn_decoder_end(writer->decoder);
    if (status == EXIT_SUCCESS && rest)
        status = print(writer, rest);
    return status == EXIT_SUCCESS ? print(writer, "\n") : status;
}

static int write_samples(struct writer *writer)
{
    uint64_t samples = (uint64_t)options_integer(writer->options, "samples");
    uint64_t tokens = (uint64_t)options_integer(writer->options, "tokens");
    int status = EXIT_SUCCESS;
    for (uint64_t sample = 0; sample < samples && status == EXIT_SUCCESS; sample++) {
        if (sample > 0)
            status = print(writer, "---\n");
        if (status == EXIT_SUCCESS)
            status = write_sample(writer, sample, tokens);
    }
    return status;
}

/* ---- Attention ---- */

static int prepare_attention(struct writer *writer)
{
    const struct options *options = writer->options;
    const struct qn_lm_config *config = qn_lm_config(writer->model.lm);
    int64_t block = options_integer(options, "attention-block");
    if (!options_given(options, "attention"))
        return EXIT_SUCCESS;
    if (config->architecture == QN_RECURRENT)
        return failure(options, "--attention: recurrent models have none");
    if (block > (int64_t)config->n_layer)
        return failure(options, "--attention-block %lld: the model has %zu blocks",
                       (long long)block, config->n_layer);
    writer->context = config->n_positions;
    writer->read = calloc(writer->context, sizeof *writer->read);
    if (!writer->read)
        return failure(options, "out of memory");
    return file_create(&writer->drawing, writer->model.qn, options_string(options, "attention")) ==
                   QN_OK
               ? EXIT_SUCCESS
               : fail_library(writer);
}

/* Weights (H, T, T) of a block, of what was read. */
static int find_weights(const struct writer *writer, size_t block, float *weights)
{
    qn_graph *graph = qn_graph_new(writer->model.qn);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(1, writer->n_read)), *found = NULL;
    qn_lm_logits(
        writer->model.lm, tokens,
        (struct qn_lm_forward){.attention = &found, .attention_block = block, .last_only = true});
    qn_plan *plan = qn_plan_new(graph, &found, 1);
    int status = plan ? qn_set(plan, tokens, writer->read) : QN_ERROR_INVALID;
    if (status == QN_OK)
        status = qn_run(plan);
    if (status == QN_OK)
        status = qn_get(plan, found, weights);
    qn_plan_free(plan);
    qn_graph_free(graph);
    return status;
}

/* Of the last tokens only, moved to the front: (H, shown, shown). */
static void crop(float *weights, size_t heads, size_t all, size_t shown)
{
    for (size_t i = 0; i < heads * shown; i++) {
        size_t row = i / shown * all + all - shown + i % shown;
        memmove(weights + i * shown, weights + row * all + all - shown, shown * sizeof *weights);
    }
}

static int draw_attention(struct writer *writer)
{
    enum { SHOWN = 64 };
    const struct options *options = writer->options;
    const struct qn_lm_config *config = qn_lm_config(writer->model.lm);
    size_t all = writer->n_read, shown = all < SHOWN ? all : SHOWN;
    size_t block = options_given(options, "attention-block")
                       ? (size_t)options_integer(options, "attention-block")
                       : config->n_layer;
    float *weights = calloc(config->n_head, all * all * sizeof *weights);
    if (!weights)
        return failure(options, "out of memory");
    int status = EXIT_SUCCESS;
    if (find_weights(writer, block - 1, weights) != QN_OK) {
        status = fail_library(writer);
    } else {
        char title[64];
        const int32_t *ids = writer->read + all - shown;
        snprintf(title, sizeof title, "attention of block %zu", block);
        crop(weights, config->n_head, all, shown);
        const struct heatmap map = {
            .title = title,
            .weights = weights,
            .count = config->n_head,
            .rows = shown,
            .columns = shown,
            .row_tokenizer = writer->model.tokenizer,
            .column_tokenizer = writer->model.tokenizer,
            .row_ids = ids,
            .column_ids = ids,
            .is_mean = strcmp(options_string(options, "attention-heads"), "mean") == 0};
        if (heatmap_write(&map, &writer->drawing) != QN_OK)
            status = fail_library(writer);
    }
    free(weights);
    return status;
}

/* ---- The command ---- */

static int prepare(struct writer *writer)
{
    const struct options *options = writer->options;
    int status = model_open(&writer->model, options);
    if (status == EXIT_SUCCESS)
        status = read_prompt(writer);
    if (status == EXIT_SUCCESS)
        status = prepare_attention(writer);
    if (status != EXIT_SUCCESS)
        return status;
    struct qn_generation generation = {
        .sample = sampling_of(options, qn_lm_config(writer->model.lm)->vocab_size),
        .seed = (uint64_t)options_integer(options, "seed"),
    };
    writer->end_of_text = qn_lm_config(writer->model.lm)->eos_token_id;
    writer->decoder = qn_decoder_new(writer->model.tokenizer);
    writer->generator = qn_generator_new(writer->model.lm, generation);
    return writer->generator && writer->decoder ? EXIT_SUCCESS : fail_library(writer);
}

static void say_speed(const struct writer *writer)
{
    char rate[NUMBER_TEXT];
    if (writer->generated && !options_flag(writer->options, "quiet"))
        fprintf(stderr, "\n%s tokens/s on %s\n",
                rate_text(rate, (double)writer->generated / writer->seconds),
                qn_device_name(writer->model.qn));
}

int command_generate(const struct options *options)
{
    struct writer writer = {.options = options};
    int status = prepare(&writer);
    if (status == EXIT_SUCCESS)
        status = write_samples(&writer);
    if (status == EXIT_SUCCESS && writer.read)
        status = draw_attention(&writer);
    if (status == EXIT_SUCCESS)
        say_speed(&writer);
    qn_generator_free(writer.generator);
    qn_decoder_free(writer.decoder);
    free(writer.prompt);
    free(writer.read);
    if (writer.drawing.path)
        file_discard(&writer.drawing);
    model_close(&writer.model);
    return status;
}

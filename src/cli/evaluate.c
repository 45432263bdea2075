/* quern evaluate: how well a model predicts a text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/score.h>

#include "cli/dump.h"
#include "cli/model.h"
#include "cli/progress.h"

struct measures {
    double loss, perplexity, bits_per_byte, accuracy;
    size_t tokens;
};

/* Windows measured at once: as many as keep the largest intermediates, rows of logits or of the
 * blocks, near 64 MiB. */
static size_t rows_at_once(const struct qn_lm_config *config, size_t windows)
{
    const double budget = 16 << 20; /* numbers */
    double widest = fmax((double)config->vocab_size, 4.0 * (double)config->n_embd);
    double rows = budget / (widest * (double)config->n_positions);
    return rows >= (double)windows ? windows : rows >= 1 ? (size_t)rows : 1;
}

/* Bytes of the tokens that are predicted: all but the first. */
static size_t predicted_bytes(const struct model *model, const qn_dataset *dataset, size_t length)
{
    size_t first_bytes = 0;
    int32_t *inputs = calloc(2 * length, sizeof *inputs);
    if (inputs) {
        qn_dataset_sequential(dataset, 0, 1, inputs, inputs + length);
        qn_tokenizer_token(model->tokenizer, inputs[0], &first_bytes);
    }
    free(inputs);
    return qn_dataset_bytes(dataset) - first_bytes;
}

static int measure(const struct model *model, const qn_dataset *dataset,
                   const struct options *options, struct measures *measures)
{
    const struct qn_lm_config *config = qn_lm_config(model->lm);
    struct qn_evaluation found;
    qn_evaluator *evaluator =
        qn_evaluator_new(model->lm, rows_at_once(config, qn_dataset_windows(dataset)));
    bool is_measured = evaluator && qn_evaluate(evaluator, dataset, 0, &found) == QN_OK;
    qn_evaluator_free(evaluator);
    if (!is_measured)
        return failure(options, "%s", qn_error(model->qn));
    struct qn_perplexity perplexity =
        qn_perplexity(found.loss * (double)found.tokens, found.tokens,
                      predicted_bytes(model, dataset, config->n_positions));
    *measures = (struct measures){
        .loss = found.loss,
        .perplexity = perplexity.perplexity,
        .bits_per_byte = perplexity.bits_per_byte,
        .accuracy = found.accuracy,
        .tokens = found.tokens,
    };
    if (isfinite(found.loss))
        return EXIT_SUCCESS;
    return failure(options, "the loss is not finite: the model's weights are damaged");
}

static void print_measures(const struct measures *measures)
{
    char tokens[NUMBER_TEXT];
    printf("loss           %.4f nats a token\n", measures->loss);
    printf("perplexity     %.4g\n", measures->perplexity);
    printf("bits per byte  %.4f\n", measures->bits_per_byte);
    printf("accuracy       %.2f%%\n", 100 * measures->accuracy);
    printf("tokens         %s\n", count_text(tokens, measures->tokens));
}

/* JSON knows neither infinity nor NaN. */
static void print_number(const char *key, double number)
{
    if (isfinite(number))
        printf("\"%s\": %.17g, ", key, number);
    else
        printf("\"%s\": null, ", key);
}

static void print_json(const struct measures *measures)
{
    putchar('{');
    print_number("loss", measures->loss);
    print_number("perplexity", measures->perplexity);
    print_number("bits_per_byte", measures->bits_per_byte);
    print_number("accuracy", measures->accuracy);
    printf("\"tokens\": %zu}\n", measures->tokens);
}

/* All of a text, or of a file of tokens, which stays open behind *tokens.  NULL and an error if it
 * cannot be read. */
static qn_dataset *read_dataset(const struct model *model, const char *path, qn_tokens **tokens)
{
    size_t context = qn_lm_config(model->lm)->n_positions, bytes;
    if (qn_is_tokens(path)) {
        *tokens = qn_tokens_open(model->qn, path);
        return *tokens && qn_tokens_check(*tokens, model->tokenizer) == QN_OK
                   ? qn_dataset_mapped(*tokens, 0, qn_tokens_count(*tokens), context)
                   : NULL;
    }
    char *text = qn_text_read(model->qn, &path, 1, &bytes);
    qn_dataset *dataset =
        text ? qn_dataset_new(model->tokenizer, path, text, bytes, context) : NULL;
    free(text);
    return dataset;
}

static int evaluate_file(const struct model *model, const struct options *options)
{
    qn_tokens *tokens = NULL;
    qn_dataset *dataset = read_dataset(model, options_string(options, "data"), &tokens);
    if (!dataset) {
        qn_tokens_close(tokens);
        return failure(options, "%s", qn_error(model->qn));
    }
    struct measures measures = {0};
    int status =
        options_count(options, "dump") ? dump_values(model, dataset, options) : EXIT_SUCCESS;
    if (status == EXIT_SUCCESS && !dump_lists(options))
        status = measure(model, dataset, options, &measures);
    qn_dataset_free(dataset);
    qn_tokens_close(tokens);
    if (status != EXIT_SUCCESS || dump_lists(options))
        return status;
    if (options_flag(options, "json"))
        print_json(&measures);
    else
        print_measures(&measures);
    return EXIT_SUCCESS;
}

int command_evaluate(const struct options *options)
{
    struct model model;
    int status = model_open(&model, options);
    if (status == EXIT_SUCCESS)
        status = evaluate_file(&model, options);
    model_close(&model);
    return status;
}

/* quern translate: lines through an encoder-decoder. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <quern/data.h>

#include "cli/heatmap.h"
#include "cli/lines.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "cli/translation.h"
#include "io/file.h"

/* Lines that are translated together, sorted by length: so many batches. */
enum { BATCHES_AT_ONCE = 64 };

struct job {
    const struct options *options;
    qn_context *qn;
    struct text_translator texts;
    struct lines lines;
    bool reads_ids; /* lines are ids, and so is what is written */
    size_t beams, n_best;
    size_t tokens, cut;
    struct file_writer drawing; /* what --attention asks for: it has a path until it is drawn */
};

/* ---- The model ---- */

static int load_tokenizers(struct job *job, const char *folder)
{
    const struct qn_seq2seq_config *config = qn_seq2seq_config(job->texts.model);
    job->texts.source = job->texts.target = qn_tokenizer_load(job->qn, folder);
    if (!job->texts.source)
        return failure(job->options, "%s; --ids translates ids without one", qn_error(job->qn));
    char *path = path_join(job->qn, folder, QN_TARGET_TOKENIZER);
    if (path && access(path, F_OK) == 0)
        job->texts.target = qn_tokenizer_load(job->qn, path);
    free(path);
    if (!path || !job->texts.target)
        return failure(job->options, "%s", qn_error(job->qn));
    int status =
        model_check_vocabulary(folder, job->texts.source, config->source_vocab_size, job->options);
    return status == EXIT_SUCCESS ? model_check_vocabulary(folder, job->texts.target,
                                                           config->target_vocab_size, job->options)
                                  : status;
}

static struct qn_decoding decoding_of(const struct job *job)
{
    const struct options *options = job->options;
    return (struct qn_decoding){
        .beams = job->beams,
        .draws = options_flag(options, "sample"),
        .sample = sampling_of(options, qn_seq2seq_config(job->texts.model)->target_vocab_size),
        .seed = (uint64_t)options_integer(options, "seed"),
        .length_penalty = options_real(options, "length-penalty"),
        .coverage_penalty = options_real(options, "coverage-penalty"),
        .early_stopping = options_flag(options, "early-stopping"),
        .min_length = (size_t)options_integer(options, "min-length"),
        .max_length = (size_t)options_integer(options, "max-length"),
        .no_repeat_ngram = (size_t)options_integer(options, "no-repeat-ngram"),
        .keep_attention = options_given(options, "attention") &&
                          qn_seq2seq_config(job->texts.model)->architecture == QN_RECURRENT_SEQ2SEQ,
    };
}

static int prepare_attention(struct job *job)
{
    const struct qn_seq2seq_config *config = qn_seq2seq_config(job->texts.model);
    int64_t block = options_integer(job->options, "attention-block");
    if (!options_given(job->options, "attention"))
        return EXIT_SUCCESS;
    if (config->architecture == QN_RECURRENT_SEQ2SEQ && config->attention == QN_NO_SCORE)
        return failure(job->options, "--attention: the model has none");
    if (block > (int64_t)config->decoder_layers)
        return failure(job->options, "--attention-block %lld: the decoder has %zu blocks",
                       (long long)block, config->decoder_layers);
    return file_create(&job->drawing, job->qn, options_string(job->options, "attention")) == QN_OK
               ? EXIT_SUCCESS
               : failure(job->options, "%s", qn_error(job->qn));
}

static int open_model(struct job *job)
{
    const struct options *options = job->options;
    job->qn = qn_open_with(&(struct qn_options){.device = options_string(options, "device"),
                                                .gemm = options_string(options, "gemm")});
    if (!job->qn)
        return failure(options, "%s", qn_error(NULL));
    char *folder = model_find(job->qn, QN_MODEL_SEQ2SEQ,
                              "no encoder-decoder: `quern train seq2seq` and `quern train "
                              "transformer` make such models",
                              options);
    if (!folder)
        return EXIT_FAILED;
    int status = EXIT_SUCCESS;
    if (!(job->texts.model = qn_seq2seq_load(job->qn, folder)))
        status = failure(options, "%s", qn_error(job->qn));
    else if (!job->reads_ids)
        status = load_tokenizers(job, folder);
    free(folder);
    if (status == EXIT_SUCCESS)
        status = prepare_attention(job);
    if (status != EXIT_SUCCESS)
        return status;
    struct qn_decoding decoding = decoding_of(job);
    job->texts.translator =
        qn_translator_new(job->texts.model, &decoding, (size_t)options_integer(options, "batch"));
    return job->texts.translator ? EXIT_SUCCESS : failure(options, "%s", qn_error(job->qn));
}

/* BLEU moves with them. */
static void say_decoding(const struct job *job)
{
    const struct options *options = job->options;
    size_t most = (size_t)options_integer(options, "max-length"),
           positions = qn_seq2seq_config(job->texts.model)->n_positions;
    if (options_flag(options, "quiet"))
        return;
    fprintf(stderr, "device      %s\n", qn_device_name(job->qn));
    if (options_flag(options, "sample"))
        fprintf(stderr, "decoding    drawn, temperature %g, top %lld, top %g of the probability",
                options_real(options, "temperature"), (long long)options_integer(options, "top-k"),
                options_real(options, "top-p"));
    else
        fprintf(stderr, "decoding    beam %zu, length penalty %g, coverage penalty %g", job->beams,
                options_real(options, "length-penalty"), options_real(options, "coverage-penalty"));
    if (options_given(options, "min-length"))
        fprintf(stderr, ", at least %lld tokens",
                (long long)options_integer(options, "min-length"));
    if (options_given(options, "max-length"))
        fprintf(stderr, ", at most %zu tokens", most < positions ? most : positions);
    else
        fprintf(stderr, ", at most 32 tokens more than twice the source's, and %zu", positions);
    if (options_given(options, "no-repeat-ngram"))
        fprintf(stderr, ", no %lld tokens twice",
                (long long)options_integer(options, "no-repeat-ngram"));
    fputs(options_flag(options, "early-stopping") ? ", early stopping\n" : "\n", stderr);
}

/* ---- Lines ---- */

/* The sources of some lines; of an empty line there is none. */
struct chunk {
    size_t first, count;
    int32_t **ids;
    size_t *lengths;
    struct qn_translation *found;
};

static int32_t *parse_ids(const struct job *job, size_t line, size_t *count)
{
    const struct qn_seq2seq_config *config = qn_seq2seq_config(job->texts.model);
    char *text = job->lines.at[line], *end;
    int32_t *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
    if (!ids)
        failure(job->options, "out of memory");
    for (*count = 0; ids && *text; text = end + strspn(end, " \t")) {
        long id = strtol(text, &end, 10);
        if (end == text || id < 0 || (size_t)id >= config->source_vocab_size ||
            *count == config->n_positions) {
            failure(job->options, "%s:%zu: expected at most %zu ids below %zu, found \"%.40s\"",
                    job->lines.name, line + 1, config->n_positions, config->source_vocab_size,
                    text);
            free(ids);
            return NULL;
        }
        ids[(*count)++] = (int32_t)id;
    }
    return ids;
}

static int read_sources(struct job *job, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->count; i++) {
        size_t line = chunk->first + i;
        char name[64];
        const char *text = job->lines.at[line];
        bool is_cut = false;
        snprintf(name, sizeof name, "line %zu", line + 1);
        if (!*text)
            continue;
        chunk->ids[i] = job->reads_ids ? parse_ids(job, line, &chunk->lengths[i])
                                       : source_ids(&job->texts, name, text, strlen(text),
                                                    &chunk->lengths[i], &is_cut);
        if (!chunk->ids[i])
            return job->reads_ids ? EXIT_FAILED : failure(job->options, "%s", qn_error(job->qn));
        job->cut += is_cut;
    }
    return EXIT_SUCCESS;
}

/* Only those that are not empty: packed[i] is source number order[i]. */
static int translate_sources(struct job *job, struct chunk *chunk)
{
    const int32_t **packed = malloc(chunk->count * sizeof *packed);
    size_t *order = malloc(chunk->count * sizeof *order);
    size_t *lengths = malloc(chunk->count * sizeof *lengths);
    struct qn_translation *found = calloc(chunk->count * job->beams, sizeof *found);
    size_t count = 0;
    for (size_t i = 0; packed && order && lengths && i < chunk->count; i++)
        if (chunk->ids[i] && chunk->lengths[i] > 0) {
            packed[count] = chunk->ids[i];
            lengths[count] = chunk->lengths[i];
            order[count++] = i;
        }
    bool is_good = packed && order && lengths && found;
    if (!is_good)
        failure(job->options, "out of memory");
    else if (count > 0 &&
             qn_translate(job->texts.translator, packed, lengths, count, found) != QN_OK)
        is_good = failure(job->options, "%s", qn_error(job->qn)) == EXIT_SUCCESS;
    for (size_t i = 0; is_good && i < count; i++)
        memcpy(&chunk->found[order[i] * job->beams], &found[i * job->beams],
               job->beams * sizeof *found);
    free(packed);
    free(order);
    free(lengths);
    free(found);
    return is_good ? EXIT_SUCCESS : EXIT_FAILED;
}

/* ---- Attention ---- */

/* Of the first line that is not empty. */
static int draw_attention(struct job *job, const struct chunk *chunk)
{
    const struct options *options = job->options;
    size_t i = 0, layers = qn_seq2seq_config(job->texts.model)->decoder_layers;
    size_t block = options_given(options, "attention-block")
                       ? (size_t)options_integer(options, "attention-block")
                       : layers;
    while (i < chunk->count && chunk->found[i * job->beams].count == 0)
        i++;
    if (i == chunk->count)
        return EXIT_SUCCESS;
    const struct qn_translation *found = &chunk->found[i * job->beams];
    char title[64];
    snprintf(title, sizeof title, "attention of decoder block %zu, line %zu", block,
             chunk->first + i + 1);
    struct heatmap map = {.title = title,
                          .rows = found->count,
                          .columns = chunk->lengths[i],
                          .row_tokenizer = job->texts.target,
                          .column_tokenizer = job->texts.source,
                          .row_ids = found->tokens,
                          .column_ids = chunk->ids[i],
                          .is_mean =
                              strcmp(options_string(options, "attention-heads"), "mean") == 0};
    float *weights = translation_weights(&job->texts, chunk->ids[i], chunk->lengths[i], found,
                                         block - 1, &map.count);
    map.weights = weights;
    bool is_drawn = weights && heatmap_write(&map, &job->drawing) == QN_OK;
    free(weights);
    return is_drawn ? EXIT_SUCCESS : failure(options, "%s", qn_error(job->qn));
}

/* ---- Writing ---- */

static bool write_ids(const struct qn_translation *found)
{
    for (size_t i = 0; i < found->count; i++)
        printf("%s%d", i ? " " : "", (int)found->tokens[i]);
    return true;
}

static bool write_text(const struct job *job, const struct qn_translation *found)
{
    char *text = target_text(&job->texts, found);
    if (text)
        fputs(text, stdout);
    free(text);
    return text;
}

static int write_chunk(struct job *job, const struct chunk *chunk)
{
    bool scores = options_flag(job->options, "scores");
    for (size_t i = 0; i < chunk->count; i++)
        for (size_t j = 0; j < job->n_best; j++) {
            const struct qn_translation *found = &chunk->found[i * job->beams + j];
            if (scores)
                printf("%.6f\t", found->count > 0 ? found->score : -INFINITY);
            if (found->count > 0 && !(job->reads_ids ? write_ids(found) : write_text(job, found)))
                return failure(job->options, "%s", qn_error(job->qn));
            if (putchar('\n') == EOF)
                return failure(job->options, "cannot write the translations: %s", strerror(errno));
            job->tokens += j == 0 ? found->count : 0;
        }
    return fflush(stdout) == 0
               ? EXIT_SUCCESS
               : failure(job->options, "cannot write the translations: %s", strerror(errno));
}

static int translate_chunk(struct job *job, size_t first, size_t count)
{
    struct chunk chunk = {.first = first,
                          .count = count,
                          .ids = calloc(count, sizeof *chunk.ids),
                          .lengths = calloc(count, sizeof *chunk.lengths),
                          .found = calloc(count * job->beams, sizeof *chunk.found)};
    int status = EXIT_SUCCESS;
    if (!chunk.ids || !chunk.lengths || !chunk.found)
        status = failure(job->options, "out of memory");
    if (status == EXIT_SUCCESS)
        status = read_sources(job, &chunk);
    if (status == EXIT_SUCCESS)
        status = translate_sources(job, &chunk);
    if (status == EXIT_SUCCESS && job->drawing.path)
        status = draw_attention(job, &chunk);
    if (status == EXIT_SUCCESS)
        status = write_chunk(job, &chunk);
    for (size_t i = 0; chunk.ids && i < count; i++)
        free(chunk.ids[i]);
    free(chunk.ids);
    free(chunk.lengths);
    free(chunk.found);
    return status;
}

static int translate_lines(struct job *job)
{
    const struct options *options = job->options;
    size_t at_once = BATCHES_AT_ONCE * (size_t)options_integer(options, "batch");
    double began = seconds_now();
    int status = EXIT_SUCCESS;
    if (!lines_read(&job->lines, job->qn, options_string(options, "data"), true))
        return failure(options, "%s", qn_error(job->qn));
    for (size_t i = 0; status == EXIT_SUCCESS && i < job->lines.count; i += at_once) {
        size_t left = job->lines.count - i;
        status = translate_chunk(job, i, left < at_once ? left : at_once);
    }
    if (status != EXIT_SUCCESS || options_flag(options, "quiet"))
        return status;
    char lines[NUMBER_TEXT], time[NUMBER_TEXT], rate[NUMBER_TEXT];
    double seconds = seconds_now() - began;
    if (job->drawing.path)
        fprintf(stderr, "note        no line has words: %s is not written\n", job->drawing.path);
    if (job->cut)
        fprintf(stderr, "note        %zu lines were cut to the %zu tokens that the model reads\n",
                job->cut, qn_seq2seq_config(job->texts.model)->n_positions);
    fprintf(stderr, "translated  %s lines in %s, %s tokens/s\n",
            count_text(lines, job->lines.count), duration_text(time, seconds),
            rate_text(rate, (double)job->tokens / seconds));
    return EXIT_SUCCESS;
}

int command_translate(const struct options *options)
{
    struct job job = {.options = options, .reads_ids = options_flag(options, "ids")};
    job.n_best = (size_t)options_integer(options, "n-best");
    job.beams =
        options_flag(options, "sample") ? job.n_best : (size_t)options_integer(options, "beam");
    if (job.n_best > job.beams)
        return usage_error(options, "--n-best %zu is more than the --beam %zu hypotheses there are",
                           job.n_best, job.beams);
    if (options_given(options, "max-length") &&
        options_integer(options, "min-length") >= options_integer(options, "max-length"))
        return usage_error(options,
                           "--min-length %lld leaves no room for the end in --max-length %lld",
                           (long long)options_integer(options, "min-length"),
                           (long long)options_integer(options, "max-length"));
    int status = open_model(&job);
    if (status == EXIT_SUCCESS) {
        say_decoding(&job);
        status = translate_lines(&job);
    }
    if (job.drawing.path)
        file_discard(&job.drawing);
    lines_release(&job.lines);
    qn_translator_free(job.texts.translator);
    if (job.texts.target != job.texts.source)
        qn_tokenizer_free(job.texts.target);
    qn_tokenizer_free(job.texts.source);
    qn_seq2seq_free(job.texts.model);
    qn_close(job.qn);
    return status;
}

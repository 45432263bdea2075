/* The readers: safetensors, training.json, config.json, tokenizer.json and merges.txt, files of
 * tokens, of answers, of tags and of examples, reports of quern bench; and text that tokenizers learn from. */
#include "targets.h"

#include <quern/data.h>
#include <quern/io.h>
#include <quern/text.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/bench/compare/compare.h"
#include "cli/train/run.h"
#include "cli/score/score.h"
#include "device/context.h"
#include "gemm/tuning.h"
#include "io/fields.h"
#include "text/tokenizer.h"

static struct {
    qn_context *qn;
    char folder[64];
} at;

/* ---- Files ---- */

static const char *path_of(const char *name)
{
    static char paths[4][100];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", at.folder, name);
    return path;
}

static const char *write_bytes(const char *name, const void *data, size_t bytes)
{
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        abort();
    return path;
}

static void end(void)
{
    static const char *const names[] = {"file",       "again",          "training.json",
                                        "merges.txt", "tokenizer.json", "vocab.json",
                                        "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    rmdir(at.folder);
    qn_close(at.qn);
}

/* A vocabulary of the bytes and of some pairs, for merges.txt. */
static void write_vocabulary(void)
{
    static const char *const pairs[] = {"ab", "abc", "th", "the", "\\u0120t", "\\u0120the"};
    char text[8192];
    size_t used = 0, other = 256;
    for (size_t byte = 0; byte < 256; byte++) {
        bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"\\u%04zx\": %zu",
                                 byte ? ", " : "{", prints ? byte : other++, byte);
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, ", \"%s\": %zu", pairs[i], 256 + i);
    used += (size_t)snprintf(text + used, sizeof text - used, "}\n");
    write_bytes("vocab.json", text, used);
}

void fuzz_begin(void)
{
    snprintf(at.folder, sizeof at.folder, "%s/quern-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    at.qn = qn_open("none");
    if (!at.qn || !mkdtemp(at.folder))
        abort();
    write_vocabulary();
    atexit(end);
}

/* What is refused has an error, what is accepted has none. */
static bool accepted(bool is_good)
{
    if (is_good == (*qn_error(at.qn) != '\0'))
        abort();
    qn_clear_error(at.qn);
    return is_good;
}

static void must(bool is_true)
{
    if (!is_true)
        abort();
}

/* ---- The readers ---- */

static void read_values(const qn_safetensors *file, const struct qn_file_tensor *tensor)
{
    enum { MOST = 1 << 16 };
    static float floats[MOST];
    static int32_t integers[MOST];
    size_t count = qn_shape_count(tensor->shape);
    if (count > MOST)
        return;
    qn_safetensors_f32(file, tensor, floats);
    qn_safetensors_i32(file, tensor, integers);
    qn_clear_error(at.qn);
    must(count == 0 || tensor->bytes > 0);
    volatile char last = tensor->bytes ? ((const char *)tensor->data)[tensor->bytes - 1] : 0;
    (void)last;
}

static bool read_safetensors(const uint8_t *data, size_t bytes)
{
    qn_safetensors *file = qn_safetensors_open(at.qn, write_bytes("file", data, bytes));
    if (!accepted(file != NULL))
        return false;
    size_t count = qn_safetensors_count(file);
    struct qn_file_tensor *tensors = calloc(count + 1, sizeof *tensors);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *qn_safetensors_tensor(file, i);
        must(qn_safetensors_find(file, tensors[i].name) == qn_safetensors_tensor(file, i));
        read_values(file, &tensors[i]);
    }
    qn_safetensors_metadata(file, "format");
    const char *again = path_of("again");
    if (accepted(qn_safetensors_write(at.qn, again, tensors, count, NULL, NULL, NULL) == QN_OK)) {
        qn_safetensors *same = qn_safetensors_open(at.qn, again);
        must(same && qn_safetensors_count(same) == count);
        qn_safetensors_close(same);
    }
    free(tensors);
    qn_safetensors_close(file);
    return true;
}

static bool read_training(const uint8_t *data, size_t bytes)
{
    struct run run, same;
    char message[RUN_MESSAGE] = "";
    write_bytes("training.json", data, bytes);
    json_t *json = json_file_read(at.qn, path_of("training.json"), bytes);
    json_decref(json);
    accepted(json != NULL);
    if (!run_load(&run, at.folder, message)) {
        must(*message != '\0');
        return false;
    }
    must(run_save(&run, at.folder, at.qn, message));
    must(run_load(&same, at.folder, message));
    must(run.step == same.step && run.data.count == same.data.count && run.stale == same.stale);
    run_release(&same);
    run_release(&run);
    return true;
}

static bool read_tuning(const uint8_t *data, size_t bytes)
{
    write_bytes("file", data, bytes);
    qn_clear_error(at.qn);
    int status = tuning_open(at.qn, path_of("file"));
    must((status == QN_OK) == !*qn_error(at.qn));
    must(status != QN_OK || strlen(qn_tuning_hash(at.qn)) == 32);
    tuning_free(at.qn->tuning);
    at.qn->tuning = NULL;
    return status == QN_OK;
}

static bool read_bert_config(const char *path)
{
    struct qn_bert_config config, same;
    if (!accepted(qn_bert_config_read(at.qn, path, &config) == QN_OK))
        return false;
    must(qn_bert_config_check(at.qn, path, &config) == QN_OK);
    qn_bert_config_parameters(&config);
    must(qn_bert_config_write(at.qn, path, &config) == QN_OK);
    must(qn_bert_config_read(at.qn, path, &same) == QN_OK);
    must(same.head == config.head && same.width == config.width &&
         same.n_labels == config.n_labels);
    return true;
}

static bool read_classifier_config(const char *path)
{
    struct qn_classifier_config config, same;
    qn_labels *labels = qn_classifier_config_read(at.qn, path, &config);
    if (!accepted(labels != NULL))
        return false;
    must(qn_classifier_config_check(at.qn, path, &config) == QN_OK);
    qn_classifier_config_parameters(&config);
    must(qn_classifier_config_write(at.qn, path, &config, labels) == QN_OK);
    qn_labels *again = qn_classifier_config_read(at.qn, path, &same);
    must(again && !qn_classifier_config_difference(&config, &same));
    for (size_t i = 0; i < config.n_labels; i++)
        must(strcmp(qn_labels_name(labels, i), qn_labels_name(again, i)) == 0);
    qn_labels_free(labels);
    qn_labels_free(again);
    return true;
}

static bool read_seq2seq_config(const char *path)
{
    struct qn_seq2seq_config config, same;
    if (!accepted(qn_seq2seq_config_read(at.qn, path, &config) == QN_OK))
        return false;
    must(qn_seq2seq_config_check(at.qn, path, &config) == QN_OK);
    qn_seq2seq_config_parameters(&config);
    must(qn_seq2seq_config_write(at.qn, path, &config) == QN_OK);
    must(qn_seq2seq_config_read(at.qn, path, &same) == QN_OK);
    must(!qn_seq2seq_config_difference(&config, &same));
    return true;
}

static bool read_config(const uint8_t *data, size_t bytes)
{
    struct qn_lm_config config, same;
    const char *path = write_bytes("config.json", data, bytes);
    enum qn_model_kind kind = qn_model_kind(at.qn, at.folder);
    if (kind == QN_MODEL_BERT)
        return read_bert_config(path);
    if (kind == QN_MODEL_CLASSIFIER)
        return read_classifier_config(path);
    if (kind == QN_MODEL_SEQ2SEQ)
        return read_seq2seq_config(path);
    if (!accepted(qn_lm_config_read(at.qn, path, &config) == QN_OK))
        return false;
    must(qn_lm_config_check(at.qn, path, &config) == QN_OK);
    qn_lm_config_parameters(&config);
    must(qn_lm_config_write(at.qn, path, &config) == QN_OK);
    must(qn_lm_config_read(at.qn, path, &same) == QN_OK);
    must(!qn_lm_config_difference(&config, &same));
    return true;
}

/* Whether decoding may give another text: that of words, marks, unknown or clean characters. */
static bool loses_text(const qn_tokenizer *tokenizer)
{
    return tokenizer->kind == TOKENIZER_WORD || tokenizer->splitting == QN_SPLIT_MARK ||
           tokenizer->unknown >= 0 || tokenizer->n_cleaning > 0;
}

/* The text is of tokens' own bytes, and of what is in every text. */
static void use_tokenizer(qn_tokenizer *tokenizer)
{
    char text[600] = "the  cat's\t12 abc\n\xc3\xa9\xf0\x9f\x98\x80 <|endoftext|>";
    size_t used = strlen(text), bytes, count;
    int32_t *ids;
    char *decoded;
    for (int32_t id = 0; id < 300 && used < 500; id += 7) {
        const char *token = qn_tokenizer_token(tokenizer, id, &bytes);
        if (!token || bytes > 50)
            continue;
        memcpy(text + used, token, bytes);
        used += bytes;
    }
    if (!accepted(qn_encode(tokenizer, "the text", text, used, &ids, &count) == QN_OK))
        return;
    qn_decoder *decoder = qn_decoder_new(tokenizer);
    must(decoder && qn_decode(tokenizer, ids, count, &decoded, &bytes) == QN_OK);
    must(loses_text(tokenizer) || (bytes == used && memcmp(decoded, text, used) == 0));
    for (size_t i = 0; i < count; i++)
        must(qn_decoder_next(decoder, ids[i]) != NULL);
    qn_decoder_end(decoder);
    qn_decoder_free(decoder);
    free(decoded);
    free(ids);
}

static bool read_tokenizer(const uint8_t *data, size_t bytes)
{
    bool is_json = bytes > 0 && data[0] == '{';
    unlink(path_of("tokenizer.json"));
    write_bytes(is_json ? "tokenizer.json" : "merges.txt", data, bytes);
    qn_tokenizer *tokenizer = qn_tokenizer_load(at.qn, at.folder);
    if (!accepted(tokenizer != NULL))
        return false;
    use_tokenizer(tokenizer);
    const char *path = path_of("again");
    if (accepted(qn_tokenizer_save(tokenizer, path) == QN_OK)) {
        qn_tokenizer *same = qn_tokenizer_load(at.qn, path);
        must(same && qn_tokenizer_same(tokenizer, same));
        qn_tokenizer_free(same);
    }
    qn_tokenizer_free(tokenizer);
    return true;
}

/* SQuAD's data set, of which the predictions are the same text: an object either way. */
static bool read_answers(const char *path)
{
    size_t unanswered;
    qn_squad *squad = qn_squad_new(at.qn);
    must(squad != NULL);
    bool is_good = accepted(squad_read(squad, at.qn, path, path, &unanswered));
    struct qn_squad_result result = qn_squad_result(squad);
    must(result.f1 >= 0 && result.f1 <= 100 && unanswered <= result.answers);
    qn_squad_free(squad);
    return is_good;
}

/* Tags that are held against themselves are all right. */
static bool read_tags(const char *path, bool in_columns, bool strict)
{
    qn_spans *spans = qn_spans_new(at.qn, strict);
    must(spans != NULL);
    bool is_good = accepted(spans_read(spans, at.qn, path, path, in_columns, strict));
    struct qn_spans_result result = qn_spans_result(spans);
    must(result.correct == result.support && result.predicted == result.support);
    for (size_t i = 0; i < result.types; i++)
        must(*qn_spans_type(spans, i).name != '\0');
    qn_spans_free(spans);
    return is_good;
}

/* A text against itself, in each of its lines. */
static void read_texts(const char *path)
{
    struct lines lines;
    qn_bleu *bleu = qn_bleu_new(at.qn, (struct qn_bleu_options){.lowercase = true});
    qn_chrf *chrf = qn_chrf_new(at.qn, (struct qn_chrf_options){.word_order = 2});
    qn_rouge *rouge = qn_rouge_new(at.qn, true);
    must(bleu && chrf && rouge);
    bool is_good = accepted(lines_read(&lines, at.qn, path, false));
    for (size_t i = 0; is_good && i < lines.count; i++) {
        const char *reference = lines.at[i];
        must(qn_bleu_add(bleu, lines.at[i], &reference, 1) == QN_OK);
        must(qn_chrf_add(chrf, lines.at[i], &reference, 1) == QN_OK);
        must(qn_rouge_add(rouge, lines.at[i], &reference, 1, NULL) == QN_OK);
    }
    struct qn_bleu_result result = qn_bleu_result(bleu);
    for (size_t n = 0; n < QN_BLEU_ORDER; n++)
        must(result.counts[n] == result.totals[n]);
    lines_release(&lines);
    qn_rouge_free(rouge);
    qn_chrf_free(chrf);
    qn_bleu_free(bleu);
}

static bool read_scored(const uint8_t *data, size_t bytes)
{
    const char *path = write_bytes("file", data, bytes);
    if (bytes > 0 && data[0] == '{')
        return read_answers(path);
    read_texts(path);
    bool is_good = read_tags(path, true, false);
    return read_tags(path, false, true) || is_good;
}

static bool read_tokens(const uint8_t *data, size_t bytes)
{
    qn_tokens *tokens = qn_tokens_open(at.qn, write_bytes("file", data, bytes));
    if (!accepted(tokens != NULL))
        return false;
    int32_t ids[64];
    for (size_t i = 0; i < qn_tokens_documents(tokens); i++) {
        size_t first, count = qn_tokens_document(tokens, i, &first);
        accepted(qn_tokens_read(tokens, first, count < 64 ? count : 64, ids) == QN_OK);
    }
    qn_tokenizer *tokenizer = qn_tokenizer_byte(at.qn);
    accepted(qn_tokens_check(tokens, tokenizer) == QN_OK);
    qn_tokenizer_free(tokenizer);
    qn_tokens_close(tokens);
    return true;
}

/* The first byte says how to learn, the second how to clean. */
static bool learn(const uint8_t *data, size_t bytes)
{
    static const char *const specials[] = {"<unk>", "<s>"};
    struct qn_vocabulary vocabulary = {.merges = 20, .specials = specials, .n_specials = 2};
    if (bytes < 2)
        return false;
    vocabulary.splitting = (enum qn_splitting)(data[0] % (QN_SPLIT_PUNCTUATION + 1));
    vocabulary.byte_fallback = vocabulary.splitting == QN_SPLIT_MARK && data[0] >= 128;
    for (int step = 0; step < QN_CLEANINGS; step++)
        if (data[1] >> step & 1)
            vocabulary.cleaning[vocabulary.n_cleaning++] = (enum qn_cleaning)step;
    const char *path = write_bytes("file", data + 2, bytes - 2), *out = path_of("again");
    qn_word_counter *counter = qn_word_counter_new(at.qn, &vocabulary);
    bool is_read = accepted(qn_word_counter_add_file(counter, path) == QN_OK);
    qn_tokenizer *tokenizer = is_read ? qn_word_counter_finish(counter) : NULL;
    qn_word_counter_free(counter);
    if (!tokenizer) {
        qn_clear_error(at.qn);
        return false;
    }
    use_tokenizer(tokenizer);
    for (int documents = 0; documents <= QN_DOCUMENTS_PARAGRAPHS; documents++)
        if (accepted(qn_tokens_write(tokenizer, out, &path, 1, (enum qn_documents)documents, 1) ==
                     QN_OK)) {
            qn_tokens *tokens = qn_tokens_open(at.qn, out);
            must(tokens && qn_tokens_check(tokens, tokenizer) == QN_OK);
            qn_tokens_close(tokens);
        }
    if (accepted(qn_tokenizer_save(tokenizer, out) == QN_OK)) {
        qn_tokenizer *same = qn_tokenizer_load(at.qn, out);
        must(same && qn_tokenizer_same(tokenizer, same));
        qn_tokenizer_free(same);
    }
    qn_tokenizer_free(tokenizer);
    return true;
}

/* ---- Data sets ---- */

/* What the first two bytes say: the format, and how batches are made. */
struct data_options {
    enum qn_record_format format;
    bool is_strict, has_labels, is_shuffled, by_rows, cuts;
    size_t shapes;
};

static void report_damage(void *user, const char *message)
{
    must(*message != '\0');
    (*(size_t *)user)++;
}

/* Of parallel lines the second file is the second half. */
static qn_records *open_records(const struct data_options *options, const uint8_t *data,
                                size_t bytes, size_t *reported)
{
    static const char *const fields[][2] = {
        [QN_TSV] = {"1", "2"}, [QN_JSONL] = {"a", "b"}, [QN_COLUMNS] = {"1", "3"}};
    bool is_parallel = options->format == QN_LINES;
    size_t first = is_parallel ? bytes / 2 : bytes;
    const char *const paths[] = {write_bytes("file", data, first),
                                 write_bytes("again", data + first, bytes - first)};
    return qn_records_open(at.qn, &(struct qn_record_options){.format = options->format,
                                                              .paths = paths,
                                                              .n_paths = is_parallel ? 2 : 1,
                                                              .fields = fields[options->format],
                                                              .n_fields = 2,
                                                              .is_strict = options->is_strict,
                                                              .report = report_damage,
                                                              .user = reported});
}

static void read_batch(qn_batches *batches, uint64_t number, size_t count)
{
    struct qn_batch batch;
    must(qn_batches_next(batches, &batch) == QN_OK && batch.number == number);
    struct qn_batch_shape shape = qn_batches_shape(batches, batch.shape);
    must(batch.examples > 0 && batch.examples <= shape.rows);
    for (size_t row = 0; row < shape.rows; row++)
        for (size_t field = 0; field < 2; field++) {
            size_t length = (size_t)batch.lengths[field][row];
            must(row < batch.examples ? length > 0 && length <= shape.length[field] : length == 0);
            for (size_t i = 0; i < shape.length[field]; i++)
                must((batch.ids[field][row * shape.length[field] + i] == -1) == (i >= length));
        }
    for (size_t row = 0; row < batch.examples; row++)
        must(batch.records[row] < count);
}

static void use_batches(qn_batches *batches, size_t count)
{
    size_t per_epoch = qn_batches_per_epoch(batches);
    must(qn_batches_examples(batches) + qn_batches_skipped(batches) == count && per_epoch > 0);
    for (uint64_t number = 0; number < per_epoch && number < 8; number++)
        read_batch(batches, number, count);
    must(qn_batches_seek(batches, 3 * per_epoch - 1) == QN_OK);
    read_batch(batches, 3 * per_epoch - 1, count);
}

static void make_batches(const struct data_options *options, qn_records *records)
{
    qn_tokenizer *tokenizer = qn_tokenizer_byte(at.qn);
    qn_labels *labels = options->has_labels ? qn_labels_of_words(records, 1, SIZE_MAX) : NULL;
    const struct qn_batch_field fields[] = {
        {"text", tokenizer, NULL, true, 1, 2, -1, options->cuts ? 20 : 0, options->cuts},
        {"labels", labels ? NULL : tokenizer, labels, true, -1, -1, -1, 50, false}};
    qn_batches *batches =
        qn_batches_new(records, &(struct qn_batch_options){.fields = fields,
                                                           .n_fields = 2,
                                                           .tokens = options->by_rows ? 0 : 100,
                                                           .rows = options->by_rows ? 3 : 0,
                                                           .shapes = options->shapes,
                                                           .is_shuffled = options->is_shuffled,
                                                           .seed = 1});
    if (accepted(batches != NULL))
        use_batches(batches, qn_records_count(records));
    qn_batches_free(batches);
    qn_labels_free(labels);
    qn_tokenizer_free(tokenizer);
}

static bool read_data(const uint8_t *data, size_t bytes)
{
    if (bytes < 2)
        return false;
    const struct data_options options = {.format = (enum qn_record_format)(data[0] % 4),
                                         .is_strict = data[0] & 4,
                                         .has_labels = data[0] & 8,
                                         .is_shuffled = data[0] & 16,
                                         .by_rows = data[0] & 32,
                                         .cuts = data[0] & 64,
                                         .shapes = data[1] % 64};
    size_t reported = 0;
    qn_records *records = open_records(&options, data + 2, bytes - 2, &reported);
    if (!accepted(records != NULL))
        return false;
    size_t count = qn_records_count(records);
    must(count > 0 && reported == qn_records_skipped(records));
    for (size_t i = 0; i < count; i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        must(qn_records_read(records, i, fields) == QN_OK && *qn_records_place(records, i));
        for (size_t field = 0; field < 2; field++)
            must(fields[field].bytes > 0 && strlen(fields[field].text) == fields[field].bytes);
    }
    make_batches(&options, records);
    qn_records_close(records);
    return true;
}

/* ---- Reports of quern bench ---- */

static char *json_text(json_t *json)
{
    char *text = json_dumps(json, 0);
    must(text != NULL);
    json_decref(json);
    return text;
}

/* A page is read back as the reports that it was made of. */
static void use_page(const struct bench_comparison *comparison)
{
    static struct reports reports;
    struct bench_comparison again;
    char *page = page_text(comparison);
    must(page != NULL);
    must(reports_read(&reports, write_bytes("again", page, strlen(page))));
    must(reports.count == comparison->reports->count && bench_comparison_make(&again, &reports));
    char *same = page_text(&again), *json = json_text(comparison_json(comparison)),
         *same_json = json_text(comparison_json(&again));
    must(same && strcmp(page, same) == 0 && strcmp(json, same_json) == 0);
    free(page);
    free(same);
    free(json);
    free(same_json);
    bench_comparison_release(&again);
    reports_release(&reports);
}

/* Against itself. */
static bool read_report(const uint8_t *data, size_t bytes)
{
    static struct reports reports;
    struct bench_comparison comparison;
    const char *path = write_bytes("file", data, bytes);
    bool is_read = reports_read(&reports, path) && reports_read(&reports, path);
    must(is_read || *reports.message);
    if (is_read) {
        must(bench_comparison_make(&comparison, &reports));
        use_page(&comparison);
        bench_comparison_release(&comparison);
    }
    reports_release(&reports);
    return is_read;
}

const struct fuzz_target fuzz_targets[] = {{"safetensors", read_safetensors},
                                           {"training", read_training},
                                           {"config", read_config},
                                           {"tokenizer", read_tokenizer},
                                           {"tokens", read_tokens},
                                           {"learn", learn},
                                           {"score", read_scored},
                                           {"data", read_data},
                                           {"report", read_report},
                                           {"tuning", read_tuning}};
const size_t fuzz_target_count = sizeof fuzz_targets / sizeof *fuzz_targets;

const struct fuzz_target *fuzz_target_named(const char *name)
{
    for (size_t i = 0; i < fuzz_target_count; i++)
        if (strcmp(fuzz_targets[i].name, name) == 0)
            return &fuzz_targets[i];
    return NULL;
}

/* Faults: a whole run - open, build, plan, train, measure, save, generate, load, close - in which one thing fails: each host
 * allocation in turn, each call of OpenCL, the memory of the device, the device itself.  Every time there must be a clear error or
 * the very result of a run without the fault; nothing may leak; and the run's last checkpoint must be whole.
 *
 *     tests/faults.t             each campaign, as many faults of it as its table says
 *     QUERN_FAULTS=all ...       all faults
 *     tests/faults.t NAME [N]    one campaign; its fault number N alone, with its message */
#include <quern/data.h>
#include <quern/seq2seq.h>
#include <quern/train.h>

#include <jansson.h>

#include "tap.h"
#include "files.h"
#include "shim.h"

/* ---- The run ---- */

static const char text[] = "the quern grinds what is put into it, and the hand that turns it "
                           "turns it again; what it has ground is flour, and what it grinds is "
                           "grain. it has two stones: one lies, and one turns.";

enum { LENGTH = 8, ROWS = 2, STEPS = 3, DRAWN = 3, KINDS = 2 };

/* What a run came to. */
struct outcome {
    bool is_complete;
    double loss, valid_loss;
    int32_t drawn[DRAWN];
    char error[2048];
};

/* All that a run makes, in order. */
struct run {
    qn_context *qn;
    qn_tokenizer *tokenizer;
    qn_dataset *dataset;
    qn_lm *lm, *loaded;
    qn_trainer *trainer;
    qn_node *inputs, *targets;
    qn_evaluator *evaluator;
    qn_checkpoints *checkpoints;
    qn_generator *generator;
    qn_records *records;
    qn_labels *labels;
    qn_batches *batches;
    qn_seq2seq *seq2seq[KINDS];
    qn_translator *translators[KINDS];
    int steps;
};

static bool open_run(struct run *run, const struct qn_options *options)
{
    run->qn = qn_open_with(options);
    if (!run->qn)
        return false;
    run->tokenizer = qn_tokenizer_char(run->qn, text, sizeof text - 1);
    run->dataset = qn_dataset_new(run->tokenizer, "the text", text, sizeof text - 1, LENGTH);
    if (!run->dataset)
        return false;
    struct qn_lm_config config = {.n_layer = 1,
                                  .n_head = 2,
                                  .n_embd = 8,
                                  .n_positions = LENGTH,
                                  .vocab_size = qn_tokenizer_vocabulary(run->tokenizer),
                                  .activation = QN_GELU,
                                  .layer_norm_epsilon = 1e-5,
                                  .tie_word_embeddings = true,
                                  .bos_token_id = -1,
                                  .eos_token_id = -1};
    run->lm = qn_lm_new(run->qn, &config);
    return run->lm != NULL;
}

static bool make_trainer(struct run *run)
{
    const struct qn_training options = {
        .schedule = {.kind = QN_CONSTANT, .rate = 1e-2},
        .optimizer = qn_optimizer_defaults(QN_ADAMW),
        .clip = 1,
        .seed = 1,
    };
    run->trainer = qn_trainer_new(qn_lm_parameters(run->lm), &options);
    qn_graph *graph = qn_trainer_graph(run->trainer);
    run->inputs = qn_input(graph, "inputs", QN_I32, QN_SHAPE(ROWS, LENGTH));
    run->targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(ROWS, LENGTH));
    qn_node *loss = qn_lm_loss(run->lm, run->inputs, run->targets, (struct qn_lm_forward){0});
    if (qn_trainer_minimise(run->trainer, loss) != QN_OK)
        return false;
    run->evaluator = qn_evaluator_new(run->lm, ROWS);
    return run->evaluator != NULL;
}

static bool train(struct run *run, struct outcome *outcome)
{
    int32_t inputs[ROWS * LENGTH], targets[ROWS * LENGTH];
    uint64_t step = qn_trainer_steps(run->trainer);
    qn_plan *plan = qn_trainer_plan(run->trainer);
    struct qn_step report;
    qn_dataset_random(run->dataset, 1, step, 0, ROWS, inputs, targets);
    if (qn_set(plan, run->inputs, inputs) != QN_OK ||
        qn_set(plan, run->targets, targets) != QN_OK || qn_trainer_pass(run->trainer) != QN_OK ||
        qn_trainer_report(run->trainer, step + 1, true, &report) != QN_OK)
        return false;
    outcome->loss = report.loss;
    return true;
}

static bool save(struct run *run)
{
    char path[500];
    const char *folder = qn_checkpoints_begin(run->checkpoints, qn_trainer_steps(run->trainer));
    if (!folder)
        return false;
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    return qn_lm_save(run->lm, folder) == QN_OK &&
           qn_tokenizer_save(run->tokenizer, folder) == QN_OK &&
           qn_trainer_save(run->trainer, path) == QN_OK &&
           qn_checkpoints_commit(run->checkpoints, true) == QN_OK;
}

static bool train_and_save(struct run *run, const char *folder, struct outcome *outcome)
{
    run->checkpoints = qn_checkpoints_open(run->qn, folder, false);
    if (!run->checkpoints || qn_lm_initialise(run->lm, 1) != QN_OK)
        return false;
    for (int step = 0; step < run->steps; step++) {
        struct qn_evaluation found;
        if (!train(run, outcome))
            return false;
        if (step == 0)
            continue;
        if (qn_evaluate(run->evaluator, run->dataset, 3, &found) != QN_OK || !save(run))
            return false;
        outcome->valid_loss = found.loss;
    }
    return true;
}

static bool generate(struct run *run, struct outcome *outcome)
{
    const struct qn_generation options = {.sample = {.temperature = 0.8f, .top_k = 5}, .seed = 1};
    int32_t *prompt;
    size_t count;
    run->generator = qn_generator_new(run->loaded, options);
    if (!run->generator ||
        qn_encode(run->tokenizer, "the prompt", "the q", 5, &prompt, &count) != QN_OK)
        return false;
    int status = qn_generator_start(run->generator, prompt, count, 0);
    free(prompt);
    for (int i = 0; status == QN_OK && i < DRAWN; i++) {
        outcome->drawn[i] = qn_generator_next(run->generator);
        status = outcome->drawn[i] < 0 ? outcome->drawn[i] : QN_OK;
    }
    return status == QN_OK;
}

/* What was saved, read again: by whom it is inspected, by whom it is used, and by who goes on with it. */
static bool load(struct run *run)
{
    char path[500];
    const char *folder = qn_checkpoints_latest(run->checkpoints);
    if (!folder)
        return false;
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    FILE *nowhere = fopen("/dev/null", "w");
    bool is_good = nowhere && qn_inspect(run->qn, folder, nowhere) == QN_OK &&
                   qn_trainer_load(run->trainer, path) == QN_OK;
    if (nowhere)
        fclose(nowhere);
    run->loaded = is_good ? qn_lm_load(run->qn, folder) : NULL;
    qn_tokenizer *tokenizer = run->loaded ? qn_tokenizer_load(run->qn, folder) : NULL;
    qn_tokenizer_free(tokenizer);
    return tokenizer != NULL;
}

static void close_run(struct run *run)
{
    qn_batches_free(run->batches);
    qn_labels_free(run->labels);
    qn_records_close(run->records);
    for (size_t i = 0; i < KINDS; i++) {
        qn_translator_free(run->translators[i]);
        qn_seq2seq_free(run->seq2seq[i]);
    }
    qn_generator_free(run->generator);
    qn_evaluator_free(run->evaluator);
    qn_trainer_free(run->trainer);
    qn_lm_free(run->loaded);
    qn_lm_free(run->lm);
    qn_dataset_free(run->dataset);
    qn_tokenizer_free(run->tokenizer);
    qn_checkpoints_close(run->checkpoints);
    qn_close(run->qn);
}

typedef bool play(struct run *run, struct outcome *outcome, const char *folder);

static bool scenario_run(struct run *run, struct outcome *outcome, const char *folder)
{
    return open_run(run, &(struct qn_options){0}) && make_trainer(run) &&
           train_and_save(run, folder, outcome) && load(run) && generate(run, outcome);
}

/* Every command has events then. */
static bool scenario_profiled(struct run *run, struct outcome *outcome, const char *folder)
{
    char path[500];
    snprintf(path, sizeof path, "%s.trace", folder);
    if (!open_run(run, &(struct qn_options){.profile = true}) || !make_trainer(run) ||
        qn_lm_initialise(run->lm, 1) != QN_OK || qn_profile_trace(run->qn, path) != QN_OK ||
        !train(run, outcome) || qn_profile_trace_end(run->qn) != QN_OK)
        return false;
    FILE *nowhere = fopen("/dev/null", "w");
    int status = nowhere ? qn_profile_print(run->qn, nowhere) : QN_ERROR_FILE;
    if (nowhere)
        fclose(nowhere);
    return status == QN_OK;
}

/* Without a device: all that is planned before anything runs. */
static bool scenario_planned(struct run *run, struct outcome *outcome, const char *folder)
{
    (void)outcome, (void)folder;
    return open_run(run, &(struct qn_options){.device = "none"}) && make_trainer(run) &&
           (run->generator = qn_generator_new(run->lm, (struct qn_generation){0})) != NULL;
}

static qn_tokenizer *learn_words(struct run *run)
{
    static const char *const specials[] = {"<unk>"};
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_MARK, .merges = 20, .specials = specials, .n_specials = 1};
    qn_word_counter *counter = qn_word_counter_new(run->qn, &vocabulary);
    qn_tokenizer *tokenizer = NULL;
    if (counter && qn_word_counter_add(counter, "the text", text, sizeof text - 1) == QN_OK)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

static bool open_batches(struct run *run, const char *path)
{
    static const char *const keys[] = {"label", "text"};
    run->records = qn_records_open(
        run->qn,
        &(struct qn_record_options){
            .format = QN_JSONL, .paths = &path, .n_paths = 1, .fields = keys, .n_fields = 2});
    run->labels = run->records ? qn_labels_of(run->records, 0, 9) : NULL;
    run->tokenizer = run->labels ? learn_words(run) : NULL;
    if (!run->tokenizer)
        return false;
    const struct qn_batch_field fields[] = {
        {.name = "label", .labels = run->labels},
        {.name = "text", .tokenizer = run->tokenizer, .is_sequence = true, .begin = 0, .end = -1}};
    run->batches = qn_batches_new(
        run->records, &(struct qn_batch_options){
                          .fields = fields, .n_fields = 2, .tokens = 40, .is_shuffled = true});
    return run->batches != NULL;
}

/* Examples: an epoch of batches, of which a sum is what was drawn. */
static bool scenario_data(struct run *run, struct outcome *outcome, const char *folder)
{
    char path[500];
    snprintf(path, sizeof path, "%s.jsonl", folder);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 40 && file; i++)
        fprintf(file, "{\"text\": \"%.*s\", \"label\": %d}\n", 3 + 5 * (i % 7), text + i, i % 3);
    if (!file || fclose(file) != 0)
        return false;
    run->qn = qn_open("none");
    if (!run->qn || !open_batches(run, path))
        return false;
    for (size_t i = 0; i < qn_batches_per_epoch(run->batches); i++) {
        struct qn_batch batch;
        if (qn_batches_next(run->batches, &batch) != QN_OK)
            return false;
        outcome->drawn[0] += batch.ids[0][0] + (int32_t)i * batch.ids[1][0];
        outcome->drawn[1] += (int32_t)batch.tokens;
    }
    return true;
}

/* Of both kinds of encoder-decoders: what is made, saved, loaded, and translates. */
static bool translate(struct run *run, size_t kind, const char *folder, struct outcome *outcome)
{
    static const struct qn_seq2seq_config configs[KINDS] = {{.architecture = QN_TRANSFORMER,
                                                             .source_vocab_size = 9,
                                                             .target_vocab_size = 9,
                                                             .n_positions = 8,
                                                             .width = 8,
                                                             .encoder_layers = 1,
                                                             .decoder_layers = 1,
                                                             .encoder_heads = 2,
                                                             .decoder_heads = 2,
                                                             .encoder_inner = 8,
                                                             .decoder_inner = 8,
                                                             .activation = QN_RELU,
                                                             .eos_token_id = 2},
                                                            {.architecture = QN_RECURRENT_SEQ2SEQ,
                                                             .source_vocab_size = 9,
                                                             .target_vocab_size = 9,
                                                             .n_positions = 8,
                                                             .width = 8,
                                                             .encoder_layers = 1,
                                                             .decoder_layers = 1,
                                                             .cell = QN_LSTM,
                                                             .attention = QN_ADDITIVE,
                                                             .hidden_size = 8,
                                                             .eos_token_id = 2}};
    static const int32_t sources[ROWS][3] = {{3, 4, 5}, {8, 7}};
    const struct qn_decoding options = {
        .beams = 2, .max_length = 3, .no_repeat_ngram = 2, .keep_attention = true};
    struct qn_translation found[ROWS * 2];
    qn_seq2seq *model = qn_seq2seq_new(run->qn, &configs[kind]);
    bool is_saved = model && qn_seq2seq_initialise(model, 1) == QN_OK &&
                    qn_seq2seq_save(model, folder) == QN_OK;
    qn_seq2seq_free(model);
    run->seq2seq[kind] = is_saved ? qn_seq2seq_load(run->qn, folder) : NULL;
    run->translators[kind] = qn_translator_new(run->seq2seq[kind], &options, ROWS);
    if (!run->translators[kind] ||
        qn_translate(run->translators[kind], (const int32_t *[]){sources[0], sources[1]},
                     (size_t[]){3, 2}, ROWS, found) != QN_OK)
        return false;
    outcome->drawn[kind] = found[0].tokens[0];
    outcome->loss += found[0].score;
    return true;
}

static bool scenario_translated(struct run *run, struct outcome *outcome, const char *folder)
{
    run->qn = qn_open_with(&(struct qn_options){0});
    mkdir(folder, 0777);
    return run->qn && translate(run, 0, folder, outcome) && translate(run, 1, folder, outcome);
}

static struct outcome run_scenario(play *scenario, const char *folder, int steps)
{
    struct run run = {.steps = steps};
    struct outcome outcome = {0};
    remove_all(folder);
    outcome.is_complete = scenario(&run, &outcome, folder);
    snprintf(outcome.error, sizeof outcome.error, "%s", qn_error(run.qn));
    close_run(&run);
    return outcome;
}

/* ---- What must hold after a fault ---- */

/* A hash of a file; 0 if it is not there. */
static uint64_t hash_file(const char *folder, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint64_t hash = 0xCBF29CE484222325u;
    for (int byte; file && (byte = getc(file)) != EOF;)
        hash = (hash ^ (uint64_t)byte) * 0x100000001B3u;
    if (file)
        fclose(file);
    return file ? hash : 0;
}

static const char *const files[] = {"model.safetensors", "optimizer.safetensors", "config.json",
                                    "tokenizer.json"};
enum { FILES = sizeof files / sizeof *files };

/* The last checkpoint of a folder. */
struct checkpoint {
    char name[40]; /* "step-2"; "": there is none */
    uint64_t hashes[FILES];
};

static struct checkpoint read_checkpoint(const char *folder)
{
    struct checkpoint checkpoint = {0};
    char path[500];
    snprintf(path, sizeof path, "%s/latest", folder);
    ssize_t length = readlink(path, checkpoint.name, sizeof checkpoint.name - 1);
    if (length < 0)
        checkpoint.name[0] = '\0';
    for (size_t i = 0; length > 0 && i < FILES; i++)
        checkpoint.hashes[i] = hash_file(path, files[i]);
    return checkpoint;
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *entries = opendir("/proc/self/fd");
    while (entries && readdir(entries))
        count++;
    if (entries)
        closedir(entries);
    return count;
}

/* What a run without a fault comes to, and its checkpoints. */
struct expected {
    struct outcome outcome;
    struct checkpoint checkpoints[STEPS + 1]; /* after so many steps */
    size_t open_files;
};

static struct expected expect(play *scenario)
{
    struct expected expected = {0};
    for (int steps = 2; steps <= STEPS; steps++) {
        shim_start(FAULT_MEMORY, -1);
        expected.outcome = run_scenario(scenario, in_folder("run"), steps);
        shim_stop();
        expected.checkpoints[steps] = read_checkpoint(in_folder("run"));
    }
    expected.open_files = open_files();
    return expected;
}

static bool is_whole(const struct checkpoint *found, const struct expected *expected)
{
    if (!*found->name)
        return true; /* it was not saved yet */
    for (int steps = 2; steps <= STEPS; steps++)
        if (memcmp(found, &expected->checkpoints[steps], sizeof *found) == 0)
            return true;
    return false;
}

static bool is_same(const struct outcome *a, const struct outcome *b)
{
    return a->loss == b->loss && a->valid_loss == b->valid_loss &&
           memcmp(a->drawn, b->drawn, sizeof a->drawn) == 0;
}

/* What is wrong after a fault; NULL: nothing. */
static const char *find_wrong(const struct outcome *outcome, const struct expected *expected)
{
    static char wrong[400];
    const char *by = "";
    long leaks = shim_leaks(&by);
    size_t files_left = open_files();
    struct checkpoint checkpoint = read_checkpoint(in_folder("run"));
    if (!outcome->is_complete && !*outcome->error)
        return "it failed without an error";
    if (!outcome->is_complete && !strstr(outcome->error, "CL_") &&
        !strstr(outcome->error, "memory"))
        return "the error does not tell the cause";
    if (outcome->is_complete && *outcome->error)
        return "it succeeded with an error";
    if (outcome->is_complete && !is_same(outcome, &expected->outcome))
        return "it succeeded with another result";
    if (leaks)
        return snprintf(wrong, sizeof wrong, "%ld things leak, the first made by %s", leaks, by),
               wrong;
    if (files_left != expected->open_files)
        return "files are left open";
    if (!is_whole(&checkpoint, expected))
        return snprintf(wrong, sizeof wrong, "the checkpoint %s is not whole", checkpoint.name),
               wrong;
    return NULL;
}

/* ---- Campaigns ---- */

static const struct campaign {
    const char *name, *what;
    enum fault fault;
    play *scenario;
    long stride; /* a prime, so that it falls into step with nothing; 1: every one */
    bool must_fail;
} campaigns[] = {
    {"plan", "allocations while planning", FAULT_MEMORY, scenario_planned, 1, false},
    {"data", "allocations for examples", FAULT_MEMORY, scenario_data, 1, false},
    {"memory", "allocations", FAULT_MEMORY, scenario_run, 5, false},
    {"calls", "calls of OpenCL", FAULT_CALL, scenario_run, 7, false},
    {"translate", "allocations while translating", FAULT_MEMORY, scenario_translated, 3, false},
    {"translate-calls", "calls of OpenCL while translating", FAULT_CALL, scenario_translated, 13,
     false},
    {"profile", "calls of OpenCL of a profiled run", FAULT_CALL, scenario_profiled, 11, false},
    {"buffers", "buffers, and all after it", FAULT_BUFFERS, scenario_run, 1, true},
    {"commands", "commands, for lack of device memory", FAULT_COMMAND, scenario_run, 3, true},
    {"lost", "calls at which the device is lost", FAULT_LOST, scenario_run, 7, false},
    {"late", "calls at which the device is lost, which shows late", FAULT_LOST_LATE, scenario_run,
     7, false},
};
enum { CAMPAIGNS = sizeof campaigns / sizeof *campaigns };

/* How many faults were injected. */
static long test_campaign(const struct campaign *campaign, long only)
{
    struct expected expected = expect(campaign->scenario);
    if (!expected.outcome.is_complete)
        bail_out("without a fault: %s", expected.outcome.error);
    long count = shim_calls(campaign->fault), done = 0, errors = 0, wrongs = 0;
    const char *all = getenv("QUERN_FAULTS");
    long stride = all && strcmp(all, "all") == 0 ? 1 : campaign->stride;
    for (long at = only >= 0 ? only : 0; at < count; at += stride) {
        shim_start(campaign->fault, at);
        struct outcome outcome = run_scenario(campaign->scenario, in_folder("run"), STEPS);
        shim_stop();
        const char *wrong = find_wrong(&outcome, &expected);
        if (!wrong && outcome.is_complete && campaign->must_fail)
            wrong = "nobody noticed";
        if (wrong || only >= 0)
            note("tests/faults.t %s %ld (%s): %s; error: %s", campaign->name, at, shim_failed(),
                 wrong ? wrong : "all is well", outcome.error);
        wrongs += wrong != NULL;
        errors += !outcome.is_complete;
        done++;
        if (only >= 0)
            break;
    }
    ok(wrongs == 0,
       "%ld of %ld %s fail in turn: %ld clear errors, %ld not felt; no leak, the last "
       "checkpoint whole",
       done, count, campaign->what, errors, done - errors);
    return done;
}

/* ---- What a first kernel tells ---- */

/* A device that others have filled, for a moment, is not taken for one that cannot compute. */
static void test_probe(void)
{
    long tried = 0, calls = 1;
    bool is_remembered = false;
    for (long at = -1; at < calls; at++) {
        qn_cache_clear(NULL, NULL);
        shim_start(FAULT_LOST, at);
        qn_close(qn_open(NULL));
        shim_stop();
        if (at < 0)
            calls = shim_calls(FAULT_LOST);
        qn_device_list *list = qn_device_list_new();
        is_remembered = is_remembered || !list || !list->chosen;
        qn_device_list_free(list);
        tried++;
    }
    ok(tried > 5 && !is_remembered, "lack of resources is not remembered as the device's fault");
    qn_cache_clear(NULL, NULL);
}

int main(int argc, char **argv)
{
    make_test_folder();
    atexit(remove_test_folder);
    setenv("QUERN_CACHE_DIR", in_folder("cache"), 1);
    json_set_alloc_funcs(shim_malloc, free);
    long injected = 0;
    if (argc < 2)
        test_probe();
    for (size_t i = 0; i < CAMPAIGNS; i++)
        if (argc < 2 || strcmp(argv[1], campaigns[i].name) == 0)
            injected += test_campaign(&campaigns[i], argc > 2 ? atol(argv[2]) : -1);
    note("%ld faults injected; QUERN_FAULTS=all injects all there are", injected);
    return done_testing();
}

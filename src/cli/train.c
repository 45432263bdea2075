/* quern train gpt: from text to a folder that holds a model. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/corpus.h"
#include "cli/learner.h"
#include "cli/log.h"
#include "cli/progress.h"

/* Steps run ahead of the host by at most so many, so that the device never waits for it. */
enum { STEPS_AHEAD = 4 };

/* So many steps in a row without a finite gradient, and there is no hope. */
enum { HOPELESS = 50 };

/* Steps over which the speed in the log is measured. */
enum { PACE_STEPS = 16 };

enum stop {
    GOES_ON,
    ALL_STEPS,
    TIME_OVER,
    SIGNALLED,
    NO_PROGRESS, /* --patience */
    DIVERGED,
    LOG_LOST, /* it cannot be written any more */
    FAILED,   /* a message was printed */
};

struct session {
    const struct options *options;
    struct run run;
    struct corpus corpus;
    struct progress progress;
    struct log log;
    char log_problem[LOG_MESSAGE]; /* why the log cannot be written any more, or "" */
    struct learner learner;
    qn_context *qn;    /* the device */
    qn_context *files; /* keeps the errors of what needs no device */
    qn_checkpoints *checkpoints;
    char *curves; /* path of the SVG */

    double started, loop_started; /* by seconds_now() */
    double seconds_before;        /* that earlier processes worked on the run */
    double limit;                 /* --time; infinite: none */
    bool ignores_hangup;          /* by nohup */
    bool by_clock;                /* it alone ends the run */
    double paused;                /* seconds of validations and checkpoints since loop_started */
    uint64_t first_step;          /* steps done when the loop began */

    uint64_t reported;       /* steps whose report was read */
    struct log_entry latest; /* of the last one: logged when the next is there, or a validation */
    bool is_latest_logged;
    uint64_t skipped, skipped_in_a_row;
    bool has_diverged;       /* a message was printed */
    double pace[PACE_STEPS]; /* when the last steps were reported, pauses left out */
    double first_report;     /* when the first was: before it, drivers still compile */
    double last_valid_loss;
    uint64_t validated, saved; /* the last steps at which it was done */

    double shown_loss; /* sum of the losses since the last report to the user */
    uint64_t shown_step;
    double shown_at; /* pauses left out */
};

/* ---- Signals ---- */

static volatile sig_atomic_t signal_caught;

/* The first signal is a wish, the second an order.  A step may take long, so the wish is answered
 * at once. */
static void catch_signal(int number)
{
    static const char answer[] = "\nending the step; again to quit\n";
    if (signal_caught)
        _exit(128 + number);
    signal_caught = number;
    int cause = errno;
    ssize_t written = write(STDERR_FILENO, answer, sizeof answer - 1);
    (void)written; /* who does not listen misses nothing */
    errno = cause;
}

/* Drivers that compile by LLVM catch signals themselves, over what was there before: this is called
 * again when they have begun to. */
static void catch_signals(const struct session *session)
{
    struct sigaction action = {.sa_handler = catch_signal, .sa_flags = SA_RESTART};
    struct sigaction standard = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigemptyset(&standard.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, session->ignores_hangup ? &ignore : &action, NULL);
    sigaction(SIGQUIT, &standard, NULL);
}

/* A reader of the progress that goes away, or a limit on files, is no reason to lose the run. */
static void ignore_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

/* ---- Messages ---- */

static int fail(struct session *session, const char *format, ...) CLI_FORMAT(2, 3);

static int fail(struct session *session, const char *format, ...)
{
    char message[2400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    progress_end_line(&session->progress);
    return failure(session->options, "%s", message);
}

/* The first error ends the command: only one context can have one. */
static int fail_library(struct session *session)
{
    const char *message = session->qn ? qn_error(session->qn) : "";
    return fail(session, "%s", *message ? message : qn_error(session->files));
}

/* What it has come to can neither be saved nor gone on with: going on would come to the same. */
static int fail_diverged(struct session *session, const char *problem)
{
    session->has_diverged = true;
    int status = fail(session,
                      "at step %" PRIu64 ", %s: start anew with a smaller --lr, a longer --warmup "
                      "or a smaller --clip",
                      session->reported, problem);
    if (session->saved)
        fprintf(stderr, "%s/best keeps the best model before that\n",
                options_string(session->options, "out"));
    return status;
}

/* A path as a shell takes it. */
static void print_word(FILE *file, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./,:+@%=";
    if (*word && word[strspn(word, plain)] == '\0') {
        fputs(word, file);
        return;
    }
    fputc('\'', file);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", file);
        else
            fputc(*word, file);
    fputc('\'', file);
}

static const char *out_folder(const struct session *session)
{
    return options_string(session->options, "out");
}

static void print_resume_command(const struct session *session, FILE *file)
{
    fputs("quern train gpt --out ", file);
    print_word(file, out_folder(session));
    fputs(" --resume", file);
}

/* ---- Before the first step ---- */

static struct qn_options device_options(const struct session *session)
{
    return (struct qn_options){
        .device = session->run.settings.device,
        .gemm = session->run.settings.gemm,
        .profile = options_flag(session->options, "profile"),
    };
}

/* Sizes that cannot be are refused before anything is read or computed. */
static int check_sizes(struct session *session)
{
    struct qn_gpt_config config = learner_config(&session->run.settings, 1, -1);
    if (qn_gpt_config_check(session->files, "the options", &config) != QN_OK)
        return fail_library(session);
    return EXIT_SUCCESS;
}

/* The latest checkpoint cannot be gone on from: the run may have another. */
static int fail_checkpoint(struct session *session, const char *message)
{
    const char *other = qn_checkpoints_other(session->checkpoints);
    if (!other)
        return fail(session, "%s", message);
    return fail(session,
                "%s; if that checkpoint is damaged, move its folder away: --resume then goes on "
                "from %s",
                message, other);
}

/* Reads DIR/latest/training.json, which says what the run is. */
static int read_run(struct session *session)
{
    char message[RUN_MESSAGE];
    const char *latest = qn_checkpoints_latest(session->checkpoints);
    if (!run_load(&session->run, latest, message))
        return fail_checkpoint(session, message);
    if (!run_reconfigure(&session->run, session->options))
        return EXIT_USAGE;
    session->seconds_before = session->run.seconds;
    uint64_t best = session->run.best_step;
    if (isfinite(session->run.best_loss) &&
        qn_checkpoints_set_best(session->checkpoints, best) != QN_OK)
        return fail_library(session);
    return EXIT_SUCCESS;
}

/* The path of a file in the run's folder. */
static char *path_in_folder(const struct session *session, const char *name)
{
    size_t bytes = strlen(out_folder(session)) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s/%s", out_folder(session), name);
    return path;
}

static char *log_path(const struct session *session)
{
    const char *chosen = session->run.settings.log;
    return chosen ? strdup(chosen) : path_in_folder(session, "log.jsonl");
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat status_a, status_b;
    return stat(a, &status_a) == 0 && stat(b, &status_b) == 0 &&
           status_a.st_dev == status_b.st_dev && status_a.st_ino == status_b.st_ino;
}

/* The file that the run reads and the log would write over; NULL: none. */
static const char *input_at(const struct session *session, const char *path)
{
    const struct run *run = &session->run;
    const char *config = options_string(session->options, "config");
    for (size_t i = 0; i < run->n_data; i++)
        if (is_same_file(run->data[i].path, path))
            return run->data[i].path;
    if (run->valid.path && is_same_file(run->valid.path, path))
        return run->valid.path;
    return config && is_same_file(config, path) ? config : NULL;
}

/* Refuses a log in the place of another file, before anything is written. */
static int check_log(struct session *session)
{
    char message[LOG_MESSAGE];
    char *path = log_path(session);
    const char *input = path ? input_at(session, path) : NULL;
    int status = EXIT_SUCCESS;
    if (!path)
        status = fail(session, "out of memory");
    else if (input)
        status = fail(session, "--log %s would write over %s", path, input);
    else if (!log_check(path, message))
        status = fail(session, "%s", message);
    free(path);
    return status;
}

static int open_log(struct session *session)
{
    char message[LOG_MESSAGE];
    char *path = log_path(session);
    session->curves = path_in_folder(session, "loss.svg");
    bool is_open =
        path && session->curves && log_open(&session->log, path, session->run.step, message);
    if (!path || !session->curves)
        snprintf(message, sizeof message, "out of memory");
    free(path);
    return is_open ? EXIT_SUCCESS : fail(session, "%s", message);
}

static void say_model(struct session *session, const struct qn_gpt_config *config)
{
    const struct settings *settings = &session->run.settings;
    char parameters[NUMBER_TEXT], tokens[NUMBER_TEXT], held_out[NUMBER_TEXT], step[NUMBER_TEXT];
    const struct corpus *corpus = &session->corpus;
    progress_say(&session->progress, "device", "%s", qn_device_name(session->qn));
    progress_say(&session->progress, "model",
                 "%s parameters: %" PRIu64 " layers, %" PRIu64 " heads, width %" PRIu64
                 ", context %" PRIu64,
                 count_text(parameters, qn_gpt_config_parameters(config)), settings->layers,
                 settings->heads, settings->width, settings->context);
    size_t bytes = qn_dataset_bytes(corpus->train);
    if (corpus->valid)
        bytes += qn_dataset_bytes(corpus->valid);
    char total[NUMBER_TEXT];
    progress_say(&session->progress, "data",
                 "%s bytes: %s tokens to train on, %s to validate; %zu in the vocabulary (%s)",
                 count_text(total, bytes), count_text(tokens, qn_dataset_tokens(corpus->train)),
                 count_text(held_out, qn_dataset_tokens(corpus->valid)), config->vocab_size,
                 qn_tokenizer_kind(corpus->tokenizer));
    uint64_t windows = settings->batch * settings->accumulate;
    if (settings->accumulate > 1)
        progress_say(&session->progress, "step",
                     "%s tokens: %" PRIu64 " batches of %" PRIu64 " windows of %" PRIu64,
                     count_text(step, windows * settings->context), settings->accumulate,
                     settings->batch, settings->context);
    else
        progress_say(&session->progress, "step", "%s tokens: %" PRIu64 " windows of %" PRIu64,
                     count_text(step, windows * settings->context), settings->batch,
                     settings->context);
}

static int fail_memory(struct session *session, const struct qn_gpt_config *config,
                       const struct needs *needs)
{
    struct qn_options device = device_options(session);
    const struct settings *settings = &session->run.settings;
    size_t batch = learner_largest_batch(&device, config, settings, session->corpus.valid != NULL);
    if (batch > 0)
        return fail(session,
                    "%s\nA batch of %" PRIu64 " does not fit this device; the largest that does is "
                    "--batch %zu (--accumulate makes up for it)",
                    needs->problem, settings->batch, batch);
    return fail(session,
                "%s\nNot even a batch of 1 fits this device: choose a smaller --width, --layers or "
                "--context",
                needs->problem);
}

/* Finds out what training needs before the device gives any of it. */
static int plan_memory(struct session *session, const struct qn_gpt_config *config,
                       struct needs *needs)
{
    struct qn_options device = device_options(session);
    *needs = learner_needs(&device, config, &session->run.settings, session->corpus.valid != NULL);
    return needs->fits ? EXIT_SUCCESS : fail_memory(session, config, needs);
}

static void say_memory(struct session *session, const struct needs *needs)
{
    char all[NUMBER_TEXT], parameters[NUMBER_TEXT], moments[NUMBER_TEXT], shared[NUMBER_TEXT],
        unshared[NUMBER_TEXT];
    progress_say(&session->progress, "memory",
                 "%s planned: parameters %s, moments %s, intermediates %s (%s if none were shared)",
                 bytes_text(all, (double)needs->all),
                 bytes_text(parameters, (double)needs->parameters),
                 bytes_text(moments, (double)needs->moments),
                 bytes_text(shared, (double)needs->intermediates),
                 bytes_text(unshared, (double)needs->unshared));
}

/* The model with its trainer: a new one, or that of the checkpoint that goes on. */
static int make_learner(struct session *session, const struct qn_gpt_config *config)
{
    const struct run *run = &session->run;
    bool validates = session->corpus.valid != NULL;
    char message[RUN_MESSAGE];
    if (run->document)
        return learner_resume(&session->learner, session->qn, config, run,
                              qn_checkpoints_latest(session->checkpoints), validates, message)
                   ? EXIT_SUCCESS
                   : fail_checkpoint(session, message);
    qn_gpt *gpt = qn_gpt_new(session->qn, config);
    if (gpt && qn_gpt_initialise(gpt, run->settings.seed) != QN_OK) {
        qn_gpt_free(gpt);
        gpt = NULL;
    }
    if (!gpt ||
        learner_make(&session->learner, session->qn, gpt, &run->settings, validates) != QN_OK)
        return fail_library(session);
    return EXIT_SUCCESS;
}

/* Drivers compile when kernels are built, and some again when they run first. */
static void say_compiled(struct session *session, double first_step)
{
    struct qn_counters counters = qn_counters(session->qn);
    char build[NUMBER_TEXT], step[NUMBER_TEXT];
    progress_say(&session->progress, "kernels",
                 "%zu compiled, %zu programs from the cache, in %s; first step in %s",
                 counters.kernels_built, counters.programs_loaded,
                 duration_text(build, counters.build_seconds), duration_text(step, first_step));
}

/* What differs from the checkpoint that goes on, and may change the bits. */
static void say_resumed(struct session *session)
{
    const struct run *run = &session->run;
    progress_say(&session->progress, "resumed", "from step %" PRIu64 " of %s", run->step,
                 out_folder(session));
    if (strcmp(run->device_name, qn_device_name(session->qn)) != 0)
        progress_say(&session->progress, "note",
                     "the run was on another device or driver (%s): bits may differ from here on",
                     run->device_name);
    if (strcmp(run->version, PACKAGE_VERSION) != 0)
        progress_say(&session->progress, "note",
                     "the run was made by Quern %s, this is %s: bits may differ from here on",
                     run->version, PACKAGE_VERSION);
}

static struct qn_gpt_config config_of(const struct session *session)
{
    qn_tokenizer *tokenizer = session->corpus.tokenizer;
    return learner_config(&session->run.settings, qn_tokenizer_vocabulary(tokenizer),
                          qn_tokenizer_special(tokenizer, "<|endoftext|>"));
}

static int open_checkpoints(struct session *session, bool resume)
{
    session->checkpoints = qn_checkpoints_open(session->files, out_folder(session), resume);
    return session->checkpoints ? EXIT_SUCCESS : fail_library(session);
}

/* A new run: nothing is written before it is known that it can be. */
static int prepare_new(struct session *session)
{
    struct qn_options device = device_options(session);
    struct needs needs;
    int status = check_sizes(session);
    if (status != EXIT_SUCCESS)
        return status;
    session->qn = qn_open_with(&device);
    if (!session->qn)
        return fail(session, "%s", qn_error(NULL));
    status = corpus_read(&session->corpus, &session->run, session->options, session->files, NULL);
    if (status == EXIT_SUCCESS)
        status = check_log(session);
    if (status != EXIT_SUCCESS)
        return status;
    struct qn_gpt_config config = config_of(session);
    if (qn_gpt_config_check(session->files, "the options", &config) != QN_OK)
        return fail_library(session);
    status = plan_memory(session, &config, &needs);
    if (status == EXIT_SUCCESS)
        status = open_checkpoints(session, false);
    if (status != EXIT_SUCCESS)
        return status;
    say_model(session, &config);
    say_memory(session, &needs);
    return make_learner(session, &config);
}

/* A run that goes on: its folder says what it is. */
static int prepare_resumed(struct session *session)
{
    struct needs needs;
    const char *latest = qn_checkpoints_latest(session->checkpoints);
    struct qn_options device = device_options(session);
    session->qn = qn_open_with(&device);
    if (!session->qn)
        return fail(session, "%s", qn_error(NULL));
    int status =
        corpus_read(&session->corpus, &session->run, session->options, session->files, latest);
    if (status == EXIT_SUCCESS)
        status = check_log(session);
    if (status != EXIT_SUCCESS)
        return status;
    struct qn_gpt_config config = config_of(session);
    status = plan_memory(session, &config, &needs);
    if (status != EXIT_SUCCESS)
        return status;
    say_model(session, &config);
    say_memory(session, &needs);
    status = make_learner(session, &config);
    if (status == EXIT_SUCCESS)
        say_resumed(session);
    return status;
}

static int explain(struct session *session)
{
    if (options_flag(session->options, "explain")) {
        if (qn_plan_print(qn_trainer_plan(session->learner.trainer), stdout) != QN_OK)
            return fail_library(session);
        fflush(stdout);
    }
    if (strcmp(qn_device_name(session->qn), "none") == 0)
        return fail(session, "the device is \"none\": --explain prints its plans, nothing runs");
    return EXIT_SUCCESS;
}

/* ---- Reports of steps ---- */

static double training_time(const struct session *session)
{
    return seconds_now() - session->paused;
}

/* A log that cannot be written ends the run, but in good order: the steps are not lost for it. */
static void log_latest(struct session *session)
{
    if (session->is_latest_logged || *session->log_problem)
        return;
    session->is_latest_logged = true;
    log_append(&session->log, &session->latest, session->log_problem);
}

/* Without the sign that some devices give to NaN. */
static double plain(double number)
{
    return isnan(number) ? NAN : number;
}

/* Takes in the report of the step after the last reported one. */
static void take_report(struct session *session, const struct qn_step *step)
{
    const struct settings *settings = &session->run.settings;
    log_latest(session);
    uint64_t number = ++session->reported, done = number - session->first_step;
    double now = training_time(session);
    /* The steps of the window began when the one before them was reported. */
    uint64_t steps = done <= 1 ? 1 : done - 1 < PACE_STEPS - 1 ? done - 1 : PACE_STEPS - 1;
    double since = done <= 1 ? session->loop_started : session->pace[(done - steps) % PACE_STEPS];
    session->pace[done % PACE_STEPS] = now;
    if (done == 1) {
        session->first_report = now;
        catch_signals(session);
        if (!session->by_clock || session->run.document)
            say_compiled(session, now - session->loop_started);
    }
    double tokens = (double)(settings->batch * settings->accumulate * settings->context);
    session->latest = (struct log_entry){
        .step = number,
        .loss = plain(step->loss),
        .learning_rate = step->learning_rate,
        .gradient_norm = plain(step->gradient_norm),
        .tokens_per_second = tokens * (double)steps / fmax(now - since, 1e-9),
        .seconds = session->seconds_before + seconds_now() - session->started,
        .valid_loss = NAN,
    };
    session->is_latest_logged = false;
    session->skipped = step->skipped;
    session->skipped_in_a_row = isfinite(step->gradient_norm) ? 0 : session->skipped_in_a_row + 1;
    session->shown_loss += session->latest.loss;
}

/* Reads the reports that are there; those that `most_ahead` does not allow to be open are waited
 * for. */
static int collect_reports(struct session *session, uint64_t most_ahead)
{
    while (session->reported < session->run.step) {
        struct qn_step step;
        bool wait = session->run.step - session->reported > most_ahead;
        int found = qn_trainer_report(session->learner.trainer, session->reported + 1, wait, &step);
        if (found == QN_NOT_READY)
            return EXIT_SUCCESS;
        if (found != QN_OK)
            return fail_library(session);
        take_report(session, &step);
    }
    return EXIT_SUCCESS;
}

/* The share of the work that is done, and the seconds that are left. */
static double share_done(const struct session *session, double *seconds_left)
{
    const struct settings *settings = &session->run.settings;
    double elapsed = seconds_now() - session->started;
    double step = (double)session->reported, by_time = elapsed / session->limit;
    *seconds_left = session->limit - elapsed; /* infinite without a limit */
    if (session->by_clock)
        return fmin(by_time, 1);
    double done = step - (double)session->first_step - 1;
    if (done < 1)
        return fmax(step / (double)settings->steps, by_time); /* too early to tell */
    double pace = (seconds_now() - session->first_report) / done;
    *seconds_left = fmin(*seconds_left, pace * ((double)settings->steps - step));
    return fmin(fmax(step / (double)settings->steps, by_time), 1);
}

static void show_progress(struct session *session, bool stays)
{
    const struct settings *settings = &session->run.settings;
    uint64_t steps = session->reported - session->shown_step;
    if (steps == 0 && !stays)
        return;
    double now = training_time(session), seconds_left;
    double tokens = (double)(settings->batch * settings->accumulate * settings->context);
    struct report report = {
        .step = session->reported,
        .steps = session->by_clock ? 0 : settings->steps,
        .share = share_done(session, &seconds_left),
        .loss = steps ? plain(session->shown_loss / (double)steps) : session->latest.loss,
        .valid_loss = session->last_valid_loss,
        .learning_rate = session->latest.learning_rate,
        .gradient_norm = session->latest.gradient_norm,
        .tokens_per_second = steps ? tokens * (double)steps / fmax(now - session->shown_at, 1e-9)
                                   : session->latest.tokens_per_second,
        .memory = qn_counters(session->qn).device_bytes_peak,
        .skipped = session->skipped,
    };
    report.seconds_left = seconds_left;
    progress_show(&session->progress, &report, stays);
    session->shown_loss = 0;
    session->shown_step = session->reported;
    session->shown_at = now;
}

/* ---- Validations and checkpoints ---- */

static bool is_validation_due(const struct session *session)
{
    uint64_t every = session->run.settings.eval_every, step = session->run.step;
    return every > 0 && step % every == 0 && session->saved != step;
}

static int validate(struct session *session, bool *is_best)
{
    struct run *run = &session->run;
    struct qn_evaluation found;
    *is_best = session->learner.evaluator == NULL; /* then the last one counts as the best */
    if (*is_best || session->validated == run->step)
        return EXIT_SUCCESS;
    size_t all = qn_dataset_windows(session->corpus.valid), windows = 0;
    if (run->settings.eval_batches < all / run->settings.batch)
        windows = run->settings.eval_batches * run->settings.batch;
    if (qn_evaluate(session->learner.evaluator, session->corpus.valid, windows, &found) != QN_OK)
        return fail_library(session);
    session->validated = run->step;
    session->last_valid_loss = session->latest.valid_loss = found.loss;
    *is_best = found.loss < run->best_loss;
    run->stale = *is_best ? 0 : run->stale + 1;
    if (*is_best) {
        run->best_loss = found.loss;
        run->best_step = run->step;
    }
    return EXIT_SUCCESS;
}

static int write_checkpoint(struct session *session, const char *folder, bool is_best)
{
    char message[RUN_MESSAGE];
    struct learner *learner = &session->learner;
    size_t bytes = strlen(folder) + sizeof "/optimizer.safetensors";
    char *path = malloc(bytes);
    if (!path)
        return fail(session, "out of memory");
    snprintf(path, bytes, "%s/optimizer.safetensors", folder);
    int status = EXIT_SUCCESS, written = qn_gpt_save(learner->gpt, folder);
    if (written == QN_ERROR_NOT_FINITE)
        status = fail_diverged(session, qn_error(session->qn));
    else if (written != QN_OK || qn_tokenizer_save(session->corpus.tokenizer, folder) != QN_OK ||
             qn_trainer_save(learner->trainer, path) != QN_OK)
        status = fail_library(session);
    else if (!run_save(&session->run, folder, qn_device_name(session->qn), message))
        status = fail(session, "%s", message);
    else if (qn_checkpoints_commit(session->checkpoints, is_best) != QN_OK)
        status = fail_library(session);
    free(path);
    return status;
}

static void say_saved(const struct session *session)
{
    fprintf(stderr,
            "The checkpoint of step %" PRIu64 " is whole; go on from it with: ", session->saved);
    print_resume_command(session, stderr);
    fputc('\n', stderr);
}

static int save(struct session *session, bool is_best)
{
    char message[LOG_MESSAGE];
    struct run *run = &session->run;
    run->seconds = session->seconds_before + seconds_now() - session->started;
    const char *folder = qn_checkpoints_begin(session->checkpoints, run->step);
    int status = folder ? write_checkpoint(session, folder, is_best) : fail_library(session);
    if (status != EXIT_SUCCESS) {
        qn_checkpoints_abandon(session->checkpoints);
        if (session->saved && !session->has_diverged)
            say_saved(session);
        return status;
    }
    session->saved = run->step;
    if (!log_draw(&session->log, session->curves, message))
        return fail(session, "%s", message);
    return EXIT_SUCCESS;
}

/* Whether the last step had no loss: what gives none now gives none later, and is not worth saving.
 */
static bool is_broken(const struct session *session)
{
    return session->skipped_in_a_row > 0 && !isfinite(session->latest.loss);
}

/* Waits for all steps that were started, measures the model, if asked, and saves it; what was done
 * already is not done again. */
static int settle(struct session *session, bool validates)
{
    bool is_best = session->learner.evaluator == NULL;
    int status = collect_reports(session, 0);
    if (status != EXIT_SUCCESS || session->saved == session->run.step || is_broken(session))
        return status;
    double began = seconds_now(); /* waiting for steps is training; what follows is not */
    if (validates)
        status = validate(session, &is_best);
    if (status == EXIT_SUCCESS)
        log_latest(session);
    session->paused += seconds_now() - began;
    if (status != EXIT_SUCCESS)
        return status;
    show_progress(session, true);
    began = seconds_now();
    status = save(session, is_best);
    session->paused += seconds_now() - began;
    return status;
}

/* ---- Steps ---- */

/* The first step of a process has the time since it began: loading and compiling may have taken all
 * of it. */
static bool is_time_over(const struct session *session)
{
    bool is_first = session->run.step == session->first_step;
    double since = is_first ? session->loop_started : session->started;
    return seconds_now() - since >= session->limit;
}

/* Starts step number `step`, from 0.  Where the time ends between its passes it is forgotten, for a
 * resumed run to do again, and not `is_whole`; one on trial ends by a signal, too. */
static int start_step(struct session *session, uint64_t step, bool is_trial, bool *is_whole)
{
    const struct settings *settings = &session->run.settings;
    struct learner *learner = &session->learner;
    int status = QN_OK;
    *is_whole = true;
    for (uint64_t pass = 0; status == QN_OK && pass < settings->accumulate; pass++) {
        if (pass > 0 && (is_time_over(session) || (is_trial && signal_caught))) {
            *is_whole = false;
            status = qn_trainer_undo(learner->trainer);
            break;
        }
        status = learner_pass(learner, settings, session->corpus.train, step, pass);
    }
    return status == QN_OK ? EXIT_SUCCESS : fail_library(session);
}

static int fail_time(struct session *session)
{
    return fail(session, "--time is over before a step is done: allow more, or take a smaller "
                         "--accumulate or --batch");
}

/* ---- Training by the clock ---- */

/* How many steps fit into the time that is left, by the speed of the first ones; the model and the
 * trainer are then as they were.  The cosine needs an end to fall to, and a clock does not say
 * where that is. */
static int plan_steps(struct session *session)
{
    struct settings *settings = &session->run.settings;
    struct learner *learner = &session->learner;
    const uint64_t unmeasured = 2; /* drivers finish compiling in the first steps */
    double measured = fmin(fmax(0.02 * session->limit, 0.5), 3), began = seconds_now(), ended;
    uint64_t steps = 0;
    struct qn_step step;
    do {
        bool is_whole;
        if (start_step(session, steps++, true, &is_whole) != EXIT_SUCCESS)
            return EXIT_FAILED;
        if (!is_whole)
            return signal_caught ? EXIT_SUCCESS : fail_time(session);
        if (qn_trainer_report(learner->trainer, steps, true, &step) != QN_OK)
            return fail_library(session);
        ended = seconds_now();
        if (steps == 1) {
            catch_signals(session);
            say_compiled(session, ended - began);
        }
        if (steps == unmeasured)
            began = ended;
    } while (!signal_caught && (steps < 2 * unmeasured || ended - began < measured));
    if (steps < 2 * unmeasured)
        return EXIT_SUCCESS; /* a signal: there is no run to plan */
    double pace = (ended - began) / (double)(steps - unmeasured);
    double left = session->limit - (ended - session->started);
    /* A little early, so that the last steps are at the least rate even if speed falls. */
    settings->steps = (uint64_t)fmax(0.95 * left / pace, 1);
    if (learner_restart(learner, session->qn, settings) != QN_OK)
        return fail_library(session);
    char steps_text[NUMBER_TEXT];
    progress_say(&session->progress, "schedule",
                 "for %s steps, which the time allows; --steps %" PRIu64 " has the same schedule",
                 count_text(steps_text, settings->steps), settings->steps);
    return EXIT_SUCCESS;
}

/* ---- The loop ---- */

static enum stop reason_to_stop(const struct session *session)
{
    const struct run *run = &session->run;
    bool has_worked = run->step > session->first_step;
    if (signal_caught)
        return SIGNALLED;
    if (*session->log_problem)
        return LOG_LOST;
    if (session->skipped_in_a_row >= HOPELESS)
        return DIVERGED;
    if (run->settings.patience && run->stale >= run->settings.patience)
        return NO_PROGRESS;
    if (!session->by_clock && run->step >= run->settings.steps)
        return ALL_STEPS;
    if (has_worked && is_time_over(session))
        return TIME_OVER;
    return GOES_ON;
}

static enum stop train(struct session *session)
{
    struct run *run = &session->run;
    enum stop stop;
    while ((stop = reason_to_stop(session)) == GOES_ON) {
        bool is_whole;
        if (start_step(session, run->step, false, &is_whole) != EXIT_SUCCESS)
            return FAILED;
        if (!is_whole)
            return TIME_OVER;
        run->step++;
        bool is_first = run->step == session->first_step + 1;
        if (collect_reports(session, is_first ? 0 : STEPS_AHEAD) != EXIT_SUCCESS)
            return FAILED;
        if (is_validation_due(session) && settle(session, true) != EXIT_SUCCESS)
            return FAILED;
        if (progress_is_due(&session->progress))
            show_progress(session, false);
    }
    return stop;
}

static void start_clocks(struct session *session)
{
    session->first_step = session->reported = session->shown_step = session->run.step;
    session->saved = session->validated = session->run.document ? session->run.step : 0;
    session->is_latest_logged = true;
    session->last_valid_loss = NAN;
    session->loop_started = session->shown_at = seconds_now();
}

/* ---- After the last step ---- */

static void print_summary(const struct session *session)
{
    const struct run *run = &session->run;
    const struct settings *settings = &run->settings;
    uint64_t steps = run->step - session->first_step;
    steps -= steps > 1; /* the first one waits for the driver's compiler */
    char rate[NUMBER_TEXT], all[NUMBER_TEXT];
    double began = steps > 1 ? session->first_report : session->loop_started;
    double trained = training_time(session) - began;
    double tokens = (double)steps * (double)(settings->batch * settings->accumulate) *
                    (double)settings->context;
    printf("trained     %" PRIu64 " steps in %s", run->step,
           duration_text(all, session->seconds_before + seconds_now() - session->started));
    if (steps)
        printf(", %s tokens/s", rate_text(rate, tokens / trained));
    printf("\nloss        %.4f at the last step\n", session->latest.loss);
    if (isfinite(run->best_loss))
        printf("validation  %.4f at best, at step %" PRIu64 "\n", run->best_loss, run->best_step);
    if (session->skipped)
        printf("skipped     %" PRIu64 " steps, whose gradient was not finite\n", session->skipped);
    printf("model       %s\nlog         %s, curves %s\n", out_folder(session), session->log.path,
           session->curves);
    fputs("generate    quern generate ", stdout);
    print_word(stdout, out_folder(session));
    fputc('\n', stdout);
    fflush(stdout);
}

static void say_stop(struct session *session, const char *why)
{
    progress_end_line(&session->progress);
    fprintf(stderr, "stopped     %s at step %" PRIu64 ", saved; go on with: ", why,
            session->run.step);
    print_resume_command(session, stderr);
    if (session->run.settings.by_clock && session->run.step >= session->run.settings.steps)
        fputs(" --time TIME", stderr);
    fputc('\n', stderr);
}

static int conclude(struct session *session, enum stop stop)
{
    bool is_quiet = session->progress.is_quiet;
    if (stop == FAILED)
        return EXIT_FAILED;
    if (collect_reports(session, 0) != EXIT_SUCCESS)
        return EXIT_FAILED;
    if (stop == DIVERGED || is_broken(session)) {
        char problem[120];
        log_latest(session);
        snprintf(problem, sizeof problem,
                 "the gradient is not finite, as in %" PRIu64
                 " steps in a row, and nothing changes",
                 session->skipped_in_a_row);
        return fail_diverged(session, problem);
    }
    if (stop == TIME_OVER && session->run.step == session->first_step)
        return fail_time(session);
    if (session->run.step == 0)
        return 128 + signal_caught; /* before the first step: there is nothing to save */
    if (settle(session, stop != SIGNALLED && stop != LOG_LOST) != EXIT_SUCCESS)
        return EXIT_FAILED;
    if (*session->log_problem) {
        fail(session, "%s", session->log_problem);
        say_saved(session);
        return EXIT_FAILED;
    }
    if (stop == SIGNALLED) {
        say_stop(session, "by a signal");
        return 128 + signal_caught;
    }
    if (stop == TIME_OVER && !is_quiet)
        say_stop(session, "by --time");
    if (stop == NO_PROGRESS)
        progress_say(&session->progress, "stopped",
                     "at step %" PRIu64 ": no better loss in %" PRIu64 " validations",
                     session->run.step, session->run.stale);
    if (!is_quiet)
        print_summary(session);
    if (options_flag(session->options, "profile") && qn_profile_print(session->qn, stdout) != QN_OK)
        return fail_library(session);
    return EXIT_SUCCESS;
}

/* ---- The command ---- */

/* A resumed run that has nothing left to do. */
static bool is_complete(const struct session *session)
{
    const struct run *run = &session->run;
    if (run->settings.patience && run->stale >= run->settings.patience)
        return true;
    return !session->by_clock && run->step >= run->settings.steps;
}

static int say_complete(struct session *session)
{
    progress_say(&session->progress, "complete",
                 "%s has done its %" PRIu64 " steps; for more, add --steps N%s",
                 out_folder(session), session->run.step,
                 session->run.settings.by_clock ? " or --time TIME" : "");
    return EXIT_SUCCESS;
}

static int run_session(struct session *session)
{
    const struct options *options = session->options;
    bool resumes = options_flag(options, "resume"), has_limit = options_given(options, "time");
    session->limit = has_limit ? options_seconds(options, "time") : INFINITY;
    if (!resumes && !run_configure(&session->run, options))
        return EXIT_USAGE;
    session->files = qn_open("none");
    if (!session->files)
        return fail(session, "%s", qn_error(NULL));
    int status = EXIT_SUCCESS;
    if (resumes)
        status = open_checkpoints(session, true);
    if (resumes && status == EXIT_SUCCESS)
        status = read_run(session);
    if (status != EXIT_SUCCESS)
        return status;
    session->by_clock = session->run.settings.by_clock && has_limit;
    if (resumes && is_complete(session))
        return say_complete(session);
    status = resumes ? prepare_resumed(session) : prepare_new(session);
    if (status == EXIT_SUCCESS)
        status = explain(session);
    if (status == EXIT_SUCCESS)
        status = open_log(session);
    if (status != EXIT_SUCCESS)
        return status;
    catch_signals(session);
    session->loop_started = seconds_now();
    if (session->by_clock && !resumes)
        status = plan_steps(session);
    if (status != EXIT_SUCCESS)
        return status;
    start_clocks(session);
    return conclude(session, train(session));
}

int command_train_gpt(const struct options *options)
{
    struct session session = {.options = options, .started = seconds_now()};
    progress_start(&session.progress, options_flag(options, "quiet"));
    struct sigaction hangup;
    session.ignores_hangup = sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN;
    ignore_signals();
    int status = run_session(&session);
    log_close(&session.log);
    free(session.curves);
    learner_release(&session.learner);
    corpus_release(&session.corpus);
    qn_checkpoints_close(session.checkpoints);
    run_release(&session.run);
    qn_close(session.qn);
    qn_close(session.files);
    return status;
}

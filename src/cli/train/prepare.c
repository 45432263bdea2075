/* Before the first step: everything that a run needs is read, checked, planned and made. */
#include "config.h"

#include "cli/train/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"

/* ---- The run ---- */

static int open_checkpoints(struct session *session, bool resume)
{
    session->checkpoints = qn_checkpoints_open(session->files, session_folder(session), resume);
    return session->checkpoints ? EXIT_SUCCESS : session_fail_library(session);
}

/* The latest checkpoint cannot be gone on from: the run may have another. */
static int fail_checkpoint(struct session *session, const char *message)
{
    const char *other = qn_checkpoints_other(session->checkpoints);
    if (!other)
        return session_fail(session, "%s", message);
    return session_fail(session,
                        "%s; if that checkpoint is damaged, move its folder away: --resume then "
                        "goes on from %s",
                        message, other);
}

/* Reads DIR/latest/training.json, which says what the run is. */
static int read_run(struct session *session)
{
    char message[RUN_MESSAGE];
    const char *latest = qn_checkpoints_latest(session->checkpoints);
    if (!run_load(&session->run, latest, message))
        return fail_checkpoint(session, message);
    if (!run_reconfigure(&session->run, session->options, session->family))
        return EXIT_USAGE;
    session->seconds_before = session->run.seconds;
    uint64_t best = session->run.best_step;
    if (isfinite(session->run.best_loss) &&
        qn_checkpoints_set_best(session->checkpoints, best) != QN_OK)
        return session_fail_library(session);
    return EXIT_SUCCESS;
}

int session_find_run(struct session *session)
{
    bool resumes = options_flag(session->options, "resume");
    if (!resumes && !run_configure(&session->run, session->options, session->family))
        return EXIT_USAGE;
    session->files = qn_open("none");
    if (!session->files)
        return session_fail(session, "%s", qn_error(NULL));
    int status = EXIT_SUCCESS;
    if (resumes)
        status = open_checkpoints(session, true);
    if (resumes && status == EXIT_SUCCESS)
        status = read_run(session);
    return status;
}

/* ---- The log ---- */

/* The path of a file in the run's folder. */
static char *path_in_folder(const struct session *session, const char *name)
{
    size_t bytes = strlen(session_folder(session)) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s/%s", session_folder(session), name);
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
    const struct sources *const all[] = {&run->data, &run->valid};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t j = 0; j < all[i]->count; j++)
            if (is_same_file(all[i]->at[j].path, path))
                return all[i]->at[j].path;
    return config && is_same_file(config, path) ? config : NULL;
}

/* Refuses a log or a trace in the place of another file, before anything is written. */
static int check_log(struct session *session)
{
    char message[LOG_MESSAGE];
    char *path = log_path(session);
    const char *input = path ? input_at(session, path) : NULL, *traced;
    const char *trace = options_string(session->options, "trace");
    int status = EXIT_SUCCESS;
    if (!path)
        status = session_fail(session, "out of memory");
    else if (input)
        status = session_fail(session, "--log %s would write over %s", path, input);
    else if (trace && (traced = input_at(session, trace)))
        status = session_fail(session, "--trace %s would write over %s", trace, traced);
    else if (trace && is_same_file(path, trace))
        status = session_fail(session, "--trace %s is the log", trace);
    else if (!log_check(path, message))
        status = session_fail(session, "%s", message);
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
    return is_open ? EXIT_SUCCESS : session_fail(session, "%s", message);
}

/* ---- Memory of the device ---- */

static struct qn_options device_options(const struct session *session)
{
    return (struct qn_options){
        .device = session->run.settings.device,
        .gemm = session->run.settings.gemm,
        .detect_anomaly = options_flag(session->options, "detect-anomaly"),
        .profile =
            options_flag(session->options, "profile") || options_given(session->options, "trace"),
    };
}

static int open_device(struct session *session)
{
    struct qn_options device = device_options(session);
    const char *trace = options_string(session->options, "trace");
    session->qn = qn_open_with(&device);
    if (!session->qn)
        return session_fail(session, "%s", qn_error(NULL));
    if (trace && qn_profile_trace(session->qn, trace) != QN_OK)
        return session_fail_library(session);
    return EXIT_SUCCESS;
}

static struct subject subject_of(const struct session *session)
{
    return (struct subject){.settings = &session->run.settings, .corpus = &session->corpus};
}

static int fail_memory(struct session *session, const struct subject *subject,
                       const struct needs *needs)
{
    if (!needs->lacks_memory)
        return session_fail(session, "%s", needs->problem);
    struct qn_options device = device_options(session);
    const struct settings *settings = &session->run.settings;
    size_t batch = learner_largest_batch(&device, subject);
    if (batch > 0)
        return session_fail(session,
                            "%s\nA batch of %" PRIu64
                            " does not fit this device; the largest that does is "
                            "--batch %zu (--accumulate makes up for it)",
                            needs->problem, settings->batch, batch);
    return session_fail(
        session,
        "%s\nNot even a batch of 1 fits this device: choose a smaller --width, --layers or "
        "--context%s",
        needs->problem, settings->checkpoint ? "" : ", or --checkpoint-activations");
}

/* Finds out what training needs before the device gives any of it. */
static int plan_memory(struct session *session, const struct subject *subject, struct needs *needs)
{
    struct qn_options device = device_options(session);
    *needs = learner_needs(&device, subject);
    return needs->fits ? EXIT_SUCCESS : fail_memory(session, subject, needs);
}

/* ---- What the user is told ---- */

static void say_model(struct session *session)
{
    const struct subject subject = subject_of(session);
    progress_say(&session->progress, "device", "%s", qn_device_name(session->qn));
    learner_describe(&subject, &session->progress);
}

static void say_memory(struct session *session, const struct needs *needs)
{
    char all[NUMBER_TEXT], parameters[NUMBER_TEXT], gradients[NUMBER_TEXT], moments[NUMBER_TEXT],
        shared[NUMBER_TEXT], unshared[NUMBER_TEXT];
    progress_say(&session->progress, "memory",
                 "%s planned: parameters %s, gradients %s, moments %s, intermediates %s (%s if "
                 "none were shared)",
                 bytes_text(all, (double)needs->all),
                 bytes_text(parameters, (double)needs->parameters),
                 bytes_text(gradients, (double)needs->gradients),
                 bytes_text(moments, (double)needs->moments),
                 bytes_text(shared, (double)needs->intermediates),
                 bytes_text(unshared, (double)needs->unshared));
}

/* What differs from the checkpoint that goes on, and may change the bits. */
static void say_resumed(struct session *session)
{
    const struct run *run = &session->run;
    progress_say(&session->progress, "resumed", "from step %" PRIu64 " of %s", run->step,
                 session_folder(session));
    if (strcmp(run->device_name, qn_device_name(session->qn)) != 0)
        progress_say(&session->progress, "note",
                     "the run was on another device or driver (%s): bits may differ from here on",
                     run->device_name);
    if (strcmp(run->version, PACKAGE_VERSION) != 0)
        progress_say(&session->progress, "note",
                     "the run was made by Quern %s, this is %s: bits may differ from here on",
                     run->version, PACKAGE_VERSION);
}

/* ---- The model ---- */

static bool computes_nothing(const struct session *session)
{
    return strcmp(qn_device_name(session->qn), "none") == 0;
}

static int check_patience(struct session *session)
{
    const struct settings *settings = &session->run.settings;
    if (settings->patience == 0)
        return EXIT_SUCCESS;
    if (!corpus_validates(&session->corpus))
        return session_fail(session,
                            "--patience %" PRIu64 ": there is nothing to validate on, so that no "
                            "validation could be better",
                            settings->patience);
    if (settings->eval_every == 0)
        return session_fail(session,
                            "--patience %" PRIu64 ": with --eval-every 0 the only validation is "
                            "the last thing a run does",
                            settings->patience);
    return EXIT_SUCCESS;
}

/* Sizes that cannot be are refused before anything is read or computed. */
static int check_model(struct session *session, const struct subject *subject)
{
    return learner_check(session->files, subject) == QN_OK ? EXIT_SUCCESS
                                                           : session_fail_library(session);
}

/* The model with its trainer: a new one, or that of the checkpoint that goes on. */
static int make_learner(struct session *session, const struct subject *subject)
{
    const struct run *run = &session->run;
    char message[RUN_MESSAGE];
    if (run->document)
        return learner_resume(&session->learner, session->qn, subject, run,
                              qn_checkpoints_latest(session->checkpoints), message)
                   ? EXIT_SUCCESS
                   : fail_checkpoint(session, message);
    return learner_make(&session->learner, session->qn, subject) == QN_OK
               ? EXIT_SUCCESS
               : session_fail_library(session);
}

/* ---- All of it ---- */

static int read_corpus(struct session *session, const char *folder)
{
    return learner_read(&session->corpus, &session->run, session->options, session->files, folder);
}

/* A new run: nothing is written before it is known that it can be. */
static int prepare_new(struct session *session)
{
    struct settings *settings = &session->run.settings;
    const struct subject bare = {.settings = settings, .vocabulary = 1},
                         subject = subject_of(session);
    struct needs needs;
    int status = check_model(session, &bare);
    if (status == EXIT_SUCCESS)
        status = open_device(session);
    if (status == EXIT_SUCCESS)
        status = read_corpus(session, NULL);
    if (status == EXIT_SUCCESS)
        status = check_log(session);
    if (status == EXIT_SUCCESS)
        status = check_patience(session);
    if (status == EXIT_SUCCESS)
        status = check_model(session, &subject);
    if (status != EXIT_SUCCESS)
        return status;
    if (settings->epochs)
        settings->steps = learner_steps(&subject, settings->epochs);
    status = plan_memory(session, &subject, &needs);
    if (status == EXIT_SUCCESS)
        status = open_checkpoints(session, false);
    if (status != EXIT_SUCCESS)
        return status;
    say_model(session);
    say_memory(session, &needs);
    return make_learner(session, &subject);
}

/* Other kernels would round differently from here on. */
static int check_tuning(struct session *session)
{
    const char *kept = session->run.tuning, *given = qn_tuning_hash(session->qn);
    char quoted[QUOTED];
    if (strcmp(kept, given) == 0)
        return EXIT_SUCCESS;
    if (!*kept)
        return session_fail(session, "the run has no tuning file, and goes on without one: unset "
                                     "QUERN_TUNING, or start a new run");
    return session_fail(session,
                        "the run goes on by the tuning file that it began with, whose hash is %s, "
                        "but QUERN_TUNING names %s%s: set it to that file, or start a new run",
                        quote_string(quoted, kept), *given ? "one with the hash " : "none", given);
}

/* A run that goes on: its folder says what it is. */
static int prepare_resumed(struct session *session)
{
    const struct subject subject = subject_of(session);
    struct needs needs;
    int status = open_device(session);
    if (status == EXIT_SUCCESS)
        status = check_tuning(session);
    if (status == EXIT_SUCCESS)
        status = read_corpus(session, qn_checkpoints_latest(session->checkpoints));
    if (status == EXIT_SUCCESS)
        status = check_log(session);
    if (status == EXIT_SUCCESS)
        status = check_patience(session);
    if (status == EXIT_SUCCESS)
        status = plan_memory(session, &subject, &needs);
    if (status != EXIT_SUCCESS)
        return status;
    say_model(session);
    say_memory(session, &needs);
    status = make_learner(session, &subject);
    if (status == EXIT_SUCCESS)
        say_resumed(session);
    return status;
}

static int explain(struct session *session)
{
    if (options_flag(session->options, "explain")) {
        if (qn_plan_print(qn_trainer_plan(session->learner.trainer), stdout) != QN_OK)
            return session_fail_library(session);
        fflush(stdout);
    }
    if (computes_nothing(session))
        return session_fail(session,
                            "the device is \"none\": --explain prints its plans, nothing runs");
    return EXIT_SUCCESS;
}

int session_prepare(struct session *session)
{
    bool resumes = options_flag(session->options, "resume");
    int status = resumes ? prepare_resumed(session) : prepare_new(session);
    if (status == EXIT_SUCCESS)
        status = explain(session);
    if (status == EXIT_SUCCESS)
        status = open_log(session);
    return status;
}

/* quern train: from text to a folder that holds a model. */
#include "cli/train/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/signals.h"

/* So many steps in a row without a finite gradient, and there is no hope. */
enum { HOPELESS = 50 };

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
    struct learner *learner = &session->learner;
    int status = QN_OK;
    *is_whole = true;
    for (uint64_t pass = 0; status == QN_OK && pass < session->run.settings.accumulate; pass++) {
        if (pass > 0 && (is_time_over(session) || (is_trial && signal_caught()))) {
            *is_whole = false;
            status = qn_trainer_undo(learner->trainer);
            break;
        }
        status = learner_pass(learner, step, pass, &session->tokens);
    }
    session->tokens_after[(step + 1) % KNOWN_STEPS] = session->tokens;
    return status == QN_OK ? EXIT_SUCCESS : session_fail_library(session);
}

static int fail_time(struct session *session)
{
    return session_fail(session,
                        "--time is over before a step is done: allow more, or take a smaller "
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
            return signal_caught() ? EXIT_SUCCESS : fail_time(session);
        if (qn_trainer_report(learner->trainer, steps, true, &step) != QN_OK)
            return session_fail_library(session);
        ended = seconds_now();
        if (steps == 1) {
            signals_catch("step", session->ignores_hangup);
            session_say_compiled(session, ended - began);
        }
        if (steps == unmeasured)
            began = ended;
    } while (!signal_caught() && (steps < 2 * unmeasured || ended - began < measured));
    if (steps < 2 * unmeasured)
        return EXIT_SUCCESS; /* a signal: there is no run to plan */
    double pace = (ended - began) / (double)(steps - unmeasured);
    double left = session->limit - (ended - session->started);
    /* A little early, so that the last steps are at the least rate even if speed falls. */
    settings->steps = (uint64_t)fmax(0.95 * left / pace, 1);
    if (learner_restart(learner) != QN_OK)
        return session_fail_library(session);
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
    if (signal_caught())
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

static bool is_validation_due(const struct session *session)
{
    uint64_t every = session->run.settings.eval_every, step = session->run.step;
    return every > 0 && step % every == 0 && session->saved != step;
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
        if (session_collect_reports(session, is_first ? 0 : STEPS_AHEAD) != EXIT_SUCCESS)
            return FAILED;
        if (is_validation_due(session) && session_settle(session, true) != EXIT_SUCCESS)
            return FAILED;
        if (progress_is_due(&session->progress))
            session_show_progress(session, false);
    }
    return stop;
}

static void start_clocks(struct session *session)
{
    session->first_step = session->reported = session->shown_step = session->run.step;
    session->saved = session->validated = session->run.document ? session->run.step : 0;
    session->is_latest_logged = true;
    session->last_valid = NO_VALIDATION;
    session->loop_started = session->shown_at = seconds_now();
    session->tokens = session->tokens_after[session->run.step % KNOWN_STEPS] = 0;
}

/* ---- After the last step ---- */

static void print_summary(const struct session *session)
{
    const struct run *run = &session->run;
    uint64_t steps = run->step - session->first_step;
    char rate[NUMBER_TEXT], all[NUMBER_TEXT];
    double began = steps > 1 ? session->first_report : session->loop_started;
    double trained = session_training_time(session) - began;
    uint64_t tokens = session->tokens;
    if (steps > 1) /* the first one waits for the driver's compiler */
        tokens -= session->first_tokens;
    printf("trained     %" PRIu64 " steps in %s", run->step,
           duration_text(all, session->seconds_before + seconds_now() - session->started));
    if (steps)
        printf(", %s tokens/s", rate_text(rate, (double)tokens / trained));
    printf("\nloss        %.4f at the last step\n", session->latest.loss);
    if (isfinite(run->best_loss) && isfinite(run->best_bleu))
        printf("validation  BLEU %.2f at best (loss %.4f), at step %" PRIu64 "\n", run->best_bleu,
               run->best_loss, run->best_step);
    else if (isfinite(run->best_loss))
        printf("validation  %.4f at best, at step %" PRIu64 "\n", run->best_loss, run->best_step);
    if (session->skipped)
        printf("skipped     %" PRIu64 " steps, whose gradient was not finite\n", session->skipped);
    printf("model       %s\nlog         %s, curves %s\n", session_folder(session),
           session->log.path, session->curves);
    const char *use = learner_use(&run->settings);
    printf("%-11s quern %s ", use, use);
    print_word(stdout, session_folder(session));
    fputc('\n', stdout);
    fflush(stdout);
}

static void say_stop(struct session *session, const char *why)
{
    progress_end_line(&session->progress);
    fprintf(stderr, "stopped     %s at step %" PRIu64 ", saved; go on with: ", why,
            session->run.step);
    session_print_resume(session, stderr);
    if (session->run.settings.by_clock && session->run.step >= session->run.settings.steps)
        fputs(" --time TIME", stderr);
    fputc('\n', stderr);
}

static int conclude(struct session *session, enum stop stop)
{
    bool is_quiet = session->progress.is_quiet;
    if (stop == FAILED)
        return EXIT_FAILED;
    if (session_collect_reports(session, 0) != EXIT_SUCCESS)
        return EXIT_FAILED;
    if (stop == DIVERGED || session_is_broken(session)) {
        char problem[120];
        session_log_latest(session);
        snprintf(problem, sizeof problem,
                 "the gradient is not finite, as in %" PRIu64
                 " steps in a row, and nothing changes",
                 session->skipped_in_a_row);
        return session_fail_diverged(session, problem);
    }
    if (stop == TIME_OVER && session->run.step == session->first_step)
        return fail_time(session);
    if (session->run.step == 0)
        return 128 + signal_caught(); /* before the first step: there is nothing to save */
    if (session_settle(session, stop != SIGNALLED && stop != LOG_LOST) != EXIT_SUCCESS)
        return EXIT_FAILED;
    if (*session->log_problem)
        return session_fail(session, "%s", session->log_problem);
    if (options_given(session->options, "trace") && qn_profile_trace_end(session->qn) != QN_OK)
        return session_fail_library(session);
    if (stop == SIGNALLED) {
        say_stop(session, "by a signal");
        return 128 + signal_caught();
    }
    if (stop == TIME_OVER && !is_quiet)
        say_stop(session, "by --time");
    if (stop == NO_PROGRESS)
        progress_say(&session->progress, "stopped",
                     "at step %" PRIu64 ": nothing better in %" PRIu64 " validations",
                     session->run.step, session->run.stale);
    if (!is_quiet)
        print_summary(session);
    if (options_flag(session->options, "profile") && qn_profile_print(session->qn, stdout) != QN_OK)
        return session_fail_library(session);
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
                 session_folder(session), session->run.step,
                 session->run.settings.by_clock ? " or --time TIME" : "");
    return EXIT_SUCCESS;
}

static int run_session(struct session *session)
{
    const struct options *options = session->options;
    bool resumes = options_flag(options, "resume"), has_limit = options_given(options, "time");
    session->limit = has_limit ? options_seconds(options, "time") : INFINITY;
    int status = session_find_run(session);
    if (status != EXIT_SUCCESS)
        return status;
    session->by_clock = session->run.settings.by_clock && has_limit;
    if (resumes && is_complete(session))
        return say_complete(session);
    signals_catch("step", session->ignores_hangup);
    status = session_prepare(session);
    if (status != EXIT_SUCCESS)
        return status;
    if (signal_caught()) {
        fprintf(stderr, "stopped     before the first step: there is nothing to save\n");
        return 128 + signal_caught();
    }
    session->loop_started = seconds_now();
    if (session->by_clock && !resumes)
        status = plan_steps(session);
    if (status != EXIT_SUCCESS)
        return status;
    start_clocks(session);
    return conclude(session, train(session));
}

int command_train(const struct options *options)
{
    struct session session = {.options = options,
                              .family = family_named(options_command(options) + strlen("train ")),
                              .started = seconds_now()};
    progress_start(&session.progress, options_flag(options, "quiet"));
    session.ignores_hangup = is_hangup_ignored();
    signals_ignore();
    int status = run_session(&session);
    if (status == EXIT_FAILED && session.saved && !session.has_diverged)
        session_say_saved(&session);
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

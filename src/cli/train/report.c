/* What each step reports, into the log and to the user. */
#include "cli/train/session.h"

#include <math.h>
#include <stdlib.h>

#include "cli/train/signals.h"

double session_training_time(const struct session *session)
{
    return seconds_now() - session->paused;
}

void session_log_latest(struct session *session)
{
    if (session->is_latest_logged || *session->log_problem)
        return;
    session->is_latest_logged = true;
    log_append(&session->log, &session->latest, session->log_problem);
}

void session_say_compiled(struct session *session, double first_step)
{
    struct qn_counters counters = qn_counters(session->qn);
    char build[NUMBER_TEXT], step[NUMBER_TEXT];
    progress_say(&session->progress, "kernels",
                 "%zu compiled, %zu programs from the cache, in %s; first step in %s",
                 counters.kernels_built, counters.programs_loaded,
                 duration_text(build, counters.build_seconds), duration_text(step, first_step));
}

/* Without the sign that some devices give to NaN. */
static double plain(double number)
{
    return isnan(number) ? NAN : number;
}

/* Of the steps behind number `from`, up to number `to`. */
static uint64_t tokens_between(const struct session *session, uint64_t from, uint64_t to)
{
    return session->tokens_after[to % KNOWN_STEPS] - session->tokens_after[from % KNOWN_STEPS];
}

/* Takes in the report of the step after the last reported one. */
static void take_report(struct session *session, const struct qn_step *step)
{
    session_log_latest(session);
    uint64_t number = ++session->reported, done = number - session->first_step;
    double now = session_training_time(session);
    /* The steps of the window began when the one before them was reported. */
    uint64_t steps = done <= 1 ? 1 : done - 1 < PACE_STEPS - 1 ? done - 1 : PACE_STEPS - 1;
    double since = done <= 1 ? session->loop_started : session->pace[(done - steps) % PACE_STEPS];
    session->pace[done % PACE_STEPS] = now;
    if (done == 1) {
        session->first_report = now;
        session->first_tokens = tokens_between(session, number - 1, number);
        signals_catch("step", session->ignores_hangup);
        if (!session->by_clock || session->run.document)
            session_say_compiled(session, now - session->loop_started);
    }
    uint64_t tokens = tokens_between(session, number - steps, number);
    session->latest = (struct log_entry){
        .step = number,
        .loss = plain(step->loss),
        .learning_rate = step->learning_rate,
        .gradient_norm = plain(step->gradient_norm),
        .tokens_per_second = (double)tokens / fmax(now - since, 1e-9),
        .seconds = session->seconds_before + seconds_now() - session->started,
        .valid = NO_VALIDATION,
        .skipped = step->skipped,
        .loss_scale = step->loss_scale,
    };
    session->is_latest_logged = false;
    session->skipped = step->skipped;
    bool is_finite = isfinite(step->gradient_norm),
         may_recover = isfinite(step->loss) && step->loss_scale > 1;
    session->skipped_in_a_row = is_finite || may_recover ? 0 : session->skipped_in_a_row + 1;
    session->shown_loss += session->latest.loss;
}

int session_collect_reports(struct session *session, uint64_t most_ahead)
{
    while (session->reported < session->run.step) {
        struct qn_step step;
        bool wait = session->run.step - session->reported > most_ahead;
        int found = qn_trainer_report(session->learner.trainer, session->reported + 1, wait, &step);
        if (found == QN_NOT_READY)
            return EXIT_SUCCESS;
        if (found != QN_OK)
            return session_fail_library(session);
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

void session_show_progress(struct session *session, bool stays)
{
    const struct settings *settings = &session->run.settings;
    uint64_t steps = session->reported - session->shown_step;
    if (steps == 0 && !stays)
        return;
    double now = session_training_time(session), seconds_left;
    uint64_t done = session->tokens_after[session->reported % KNOWN_STEPS];
    uint64_t tokens = done - session->shown_tokens;
    struct report report = {
        .step = session->reported,
        .steps = session->by_clock ? 0 : settings->steps,
        .share = share_done(session, &seconds_left),
        .loss = steps ? plain(session->shown_loss / (double)steps) : session->latest.loss,
        .valid = session->last_valid,
        .learning_rate = session->latest.learning_rate,
        .gradient_norm = session->latest.gradient_norm,
        .tokens_per_second = steps ? (double)tokens / fmax(now - session->shown_at, 1e-9)
                                   : session->latest.tokens_per_second,
        .memory = qn_counters(session->qn).device_bytes_peak,
        .skipped = session->skipped,
    };
    report.seconds_left = seconds_left;
    progress_show(&session->progress, &report, stays);
    session->shown_loss = 0;
    session->shown_step = session->reported;
    session->shown_tokens = done;
    session->shown_at = now;
}

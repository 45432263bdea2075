/* A process that works on a training run, from its options to its last checkpoint:
 *
 *     prepare.c   what comes before the first step: the run, device, text, model, memory, log
 *     train.c     the steps, when they end, and the command
 *     report.c    what each step reports, into the log and to the user
 *     save.c      validations and checkpoints
 *     session.c   messages: what went wrong, and how to go on */
#ifndef QUERN_SESSION_H
#define QUERN_SESSION_H

#include "cli/train/corpus.h"
#include "cli/train/learner.h"
#include "cli/train/log.h"
#include "cli/progress.h"

/* Steps over which the speed in the log is measured; and steps run ahead of the host by at most so many, so that the device never waits
 * for it. */
enum { PACE_STEPS = 16, STEPS_AHEAD = 4, KNOWN_STEPS = PACE_STEPS + STEPS_AHEAD + 1 };

struct session {
    const struct options *options;
    enum family family; /* that the command trains */
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
    uint64_t tokens;         /* of the steps that were started since loop_started */
    uint64_t tokens_after
        [KNOWN_STEPS]; /* the same, by step number: after those that were reported last, and those that run */
    uint64_t first_tokens; /* of the first step */
    struct validation last_valid;
    uint64_t validated, saved; /* the last steps at which it was done */

    uint64_t shown_tokens;
    double shown_loss; /* sum of the losses since the last report to the user */
    uint64_t shown_step;
    double shown_at; /* pauses left out */
};

/* ---- Before the first step ---- */

/* Finds out what the run is: from the command line, or from the checkpoint that goes on.  An exit
 * status. */
int session_find_run(struct session *session);

/* Makes everything that its steps need.  Nothing is written before it is known that the run can be.
 * An exit status. */
int session_prepare(struct session *session);

/* ---- Reports of steps ---- */

/* Reads the reports that are there; those that `most_ahead` does not allow to be open are waited
 * for.  An exit status. */
int session_collect_reports(struct session *session, uint64_t most_ahead);

/* Logs the latest step, if that was not done.  A log that cannot be written ends the run, but in
 * good order: the steps are not lost for it. */
void session_log_latest(struct session *session);

/* The time, pauses left out. */
double session_training_time(const struct session *session);

/* Drivers compile when kernels are built, and some again when they run first. */
void session_say_compiled(struct session *session, double first_step);
void session_show_progress(struct session *session, bool stays);

/* ---- Validations and checkpoints ---- */

/* Waits for all steps that were started, measures the model, if asked, and saves it; what was done
 * already is not done again.  An exit status. */
int session_settle(struct session *session, bool validates);

/* Whether the last step had no loss: what gives none now gives none later, so it is not saved. */
bool session_is_broken(const struct session *session);

/* ---- Messages ---- */

/* Say what went wrong; return the exit status. */
int session_fail(struct session *session, const char *format, ...) CLI_FORMAT(2, 3);

/* The first error ends the command: only one context can have one. */
int session_fail_library(struct session *session);

/* What it has come to can neither be saved nor gone on with: going on would come to the same. */
int session_fail_diverged(struct session *session, const char *problem);

/* The folder of the run. */
const char *session_folder(const struct session *session);

/* The command line that goes on from the latest checkpoint; and that there is one. */
void session_print_resume(const struct session *session, FILE *file);
void session_say_saved(const struct session *session);

/* A path as a shell takes it. */
void print_word(FILE *file, const char *word);

#endif

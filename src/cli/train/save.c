/* Validations and checkpoints: the model is measured and saved. */
#include "cli/train/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* By BLEU, where that is measured; among equals by the loss. */
static bool is_better(const struct run *run, const struct validation *found)
{
    bool has_bleu = isfinite(found->bleu) && isfinite(run->best_bleu);
    return has_bleu && found->bleu != run->best_bleu ? found->bleu > run->best_bleu
                                                     : found->loss < run->best_loss;
}

static int validate(struct session *session, bool *is_best)
{
    struct run *run = &session->run;
    struct validation found;
    *is_best = !learner_validates(&session->learner); /* then the last one counts as the best */
    if (*is_best || session->validated == run->step)
        return EXIT_SUCCESS;
    if (learner_evaluate(&session->learner, &found) != QN_OK)
        return session_fail_library(session);
    session->validated = run->step;
    session->last_valid = session->latest.valid = found;
    *is_best = is_better(run, &found);
    run->stale = *is_best ? 0 : run->stale + 1;
    if (*is_best) {
        run->best_loss = found.loss;
        run->best_bleu = found.bleu;
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
        return session_fail(session, "out of memory");
    snprintf(path, bytes, "%s/optimizer.safetensors", folder);
    int status = EXIT_SUCCESS, written = learner_save(learner, folder);
    if (written == QN_ERROR_NOT_FINITE)
        status = session_fail_diverged(session, qn_error(session->qn));
    else if (written != QN_OK || qn_trainer_save(learner->trainer, path) != QN_OK)
        status = session_fail_library(session);
    else if (!run_save(&session->run, folder, session->qn, message))
        status = session_fail(session, "%s", message);
    else if (qn_checkpoints_commit(session->checkpoints, is_best) != QN_OK)
        status = session_fail_library(session);
    free(path);
    return status;
}

static int save(struct session *session, bool is_best)
{
    char message[LOG_MESSAGE];
    struct run *run = &session->run;
    run->seconds = session->seconds_before + seconds_now() - session->started;
    qn_checkpoints_keep(session->checkpoints, run->settings.keep);
    const char *folder = qn_checkpoints_begin(session->checkpoints, run->step);
    int status =
        folder ? write_checkpoint(session, folder, is_best) : session_fail_library(session);
    if (status != EXIT_SUCCESS) {
        qn_checkpoints_abandon(session->checkpoints);
        return status;
    }
    session->saved = run->step;
    if (!log_draw(&session->log, session->curves, message))
        return session_fail(session, "%s", message);
    return EXIT_SUCCESS;
}

bool session_is_broken(const struct session *session)
{
    return session->skipped_in_a_row > 0 && !isfinite(session->latest.loss);
}

/* The parameters for their average, or back. */
static int swap_average(struct session *session)
{
    int status = qn_trainer_swap_average(session->learner.trainer);
    return status == QN_OK ? EXIT_SUCCESS : session_fail_library(session);
}

static int settle(struct session *session, bool validates)
{
    bool is_best = !learner_validates(&session->learner);
    int status = EXIT_SUCCESS;
    double began = seconds_now(); /* waiting for steps is training; what follows is not */
    if (validates)
        status = validate(session, &is_best);
    if (status == EXIT_SUCCESS)
        session_log_latest(session);
    session->paused += seconds_now() - began;
    if (status != EXIT_SUCCESS)
        return status;
    session_show_progress(session, true);
    began = seconds_now();
    status = save(session, is_best);
    session->paused += seconds_now() - began;
    return status;
}

int session_settle(struct session *session, bool validates)
{
    int status = session_collect_reports(session, 0);
    if (status != EXIT_SUCCESS || session->saved == session->run.step || session_is_broken(session))
        return status;
    status = swap_average(session);
    if (status == EXIT_SUCCESS)
        status = settle(session, validates);
    return status == EXIT_SUCCESS ? swap_average(session) : status;
}

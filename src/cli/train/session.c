/* What a session says when it fails, and how to go on. */
#include "cli/train/session.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

int session_fail(struct session *session, const char *format, ...)
{
    char message[2400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    progress_end_line(&session->progress);
    return failure(session->options, "%s", message);
}

int session_fail_library(struct session *session)
{
    const char *message = session->qn ? qn_error(session->qn) : "";
    return session_fail(session, "%s", *message ? message : qn_error(session->files));
}

int session_fail_diverged(struct session *session, const char *problem)
{
    session->has_diverged = true;
    int status =
        session_fail(session,
                     "at step %" PRIu64 ", %s: start anew with a smaller --lr, a longer --warmup "
                     "or a smaller --clip",
                     session->reported, problem);
    if (session->saved)
        fprintf(stderr, "%s/best keeps the best model before that\n", session_folder(session));
    return status;
}

void print_word(FILE *file, const char *word)
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

const char *session_folder(const struct session *session)
{
    return options_string(session->options, "out");
}

void session_print_resume(const struct session *session, FILE *file)
{
    fprintf(file, "quern train %s --out ", family_name(session->family));
    print_word(file, session_folder(session));
    fputs(" --resume", file);
    if (session->run.settings.checkpoint)
        fputs(" --checkpoint-activations", file);
}

void session_say_saved(const struct session *session)
{
    fprintf(stderr,
            "The checkpoint of step %" PRIu64 " is whole; go on from it with: ", session->saved);
    session_print_resume(session, stderr);
    fputc('\n', stderr);
}

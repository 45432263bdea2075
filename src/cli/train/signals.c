/* Signals to a run. */
#include "cli/train/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static const char *volatile work_at_hand;

static void answer(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written; /* who does not listen misses nothing */
}

/* The first signal is a wish, the second an order.  A step may take long, so the wish is answered
 * at once. */
static void catch_signal(int number)
{
    if (caught)
        _exit(128 + number);
    caught = number;
    int cause = errno;
    answer("\nending the ");
    answer(work_at_hand);
    answer("; again to quit\n");
    errno = cause;
}

void signals_catch(const char *work, bool ignores_hangup)
{
    work_at_hand = work;
    struct sigaction action = {.sa_handler = catch_signal, .sa_flags = SA_RESTART};
    struct sigaction standard = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigemptyset(&standard.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, ignores_hangup ? &ignore : &action, NULL);
    sigaction(SIGQUIT, &standard, NULL);
}

void signals_ignore(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

bool is_hangup_ignored(void)
{
    struct sigaction hangup;
    return sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN;
}

int signal_caught(void)
{
    return caught;
}

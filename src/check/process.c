/* Children that may die. */
#include "check/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void *shared_new(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void shared_free(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}

int process_run(int (*work)(void *), void *user, char *how, size_t size)
{
    int status = 0;
    fflush(NULL); /* else both would print what is waiting */
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(work(user));
    }
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            child = -1;
    if (child < 0)
        snprintf(how, size, "no process: %s", strerror(errno));
    else if (WIFSIGNALED(status))
        snprintf(how, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) > PROCESS_MOST)
        snprintf(how, size, "exit status %d", WEXITSTATUS(status));
    else
        return WEXITSTATUS(status);
    return -1;
}

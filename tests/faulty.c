/* The program, with the layer of tests/shim.h below it: QUERN_FAULT="KIND:N" lets call number N fail.  The file QUERN_FAULT_CALLS
 * gets the number of calls that the fault might have befallen. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

static const char *const kinds[FAULTS] = {
    [FAULT_MEMORY] = "memory",   [FAULT_CALL] = "call", [FAULT_BUFFERS] = "buffers",
    [FAULT_COMMAND] = "command", [FAULT_LOST] = "lost", [FAULT_LOST_LATE] = "late"};

static enum fault chosen(const char *words)
{
    int fault = 0;
    while (fault < FAULTS && strncmp(words, kinds[fault], strlen(kinds[fault])) != 0)
        fault++;
    return (enum fault)fault;
}

__attribute__((constructor)) static void start(void)
{
    const char *words = getenv("QUERN_FAULT"), *number = words ? strchr(words, ':') : NULL;
    if (number)
        shim_start(chosen(words), atol(number + 1));
}

__attribute__((destructor)) static void end(void)
{
    const char *words = getenv("QUERN_FAULT"), *path = getenv("QUERN_FAULT_CALLS");
    FILE *file = words && path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%ld\n", shim_calls(chosen(words)));
    fclose(file);
}

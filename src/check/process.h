/* Work in a process of its own, which a driver may end. */
#ifndef QUERN_CHECK_PROCESS_H
#define QUERN_CHECK_PROCESS_H

#include <stddef.h>

/* Zeroed memory that a process shares with its children; NULL without memory. */
void *shared_new(size_t bytes);
void shared_free(void *memory, size_t bytes);

/* Runs work(user) in a child, and waits.  Returns what it returns, from 0 to PROCESS_MOST; -1 if the child died, ended otherwise (as
 * sanitizers end it) or could not be made, and in `how` what of: "signal 11 (Segmentation fault)". */
enum { PROCESS_MOST = 7 };
int process_run(int (*work)(void *), void *user, char *how, size_t size);

#endif

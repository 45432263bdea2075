/* Signals to a run: the first asks for its end, and it ends in good order. */
#ifndef QUERN_SIGNALS_H
#define QUERN_SIGNALS_H

#include <stdbool.h>

/* Whether the process was started to outlive its terminal, as by nohup. */
bool is_hangup_ignored(void);

/* A reader of the progress that goes away, or a limit on files, is no reason to lose the run. */
void signals_ignore(void);

/* The first signal is answered by saying that the work at hand, "step", will be ended; the second ends the process.  Drivers that compile by
 * LLVM catch signals themselves, over what was there before: this is called again when they have begun to. */
void signals_catch(const char *work, bool ignores_hangup);

/* The number of the signal that came first; 0: none did. */
int signal_caught(void);

#endif

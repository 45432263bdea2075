/* A plan is replayed, with each word of memory knowing whose value it holds. */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdbool.h>

#include <quern/op.h>

/* "" if every value stays until it is read, in a first run and in another; or what is wrong, until
 * the next call. */
const char *replay_plan(const qn_plan *plan);

/* Whether no two pieces of the arena share memory while both are in use. */
bool slots_are_apart(const qn_plan *plan);

#endif

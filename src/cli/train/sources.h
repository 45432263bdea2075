/* The files that a run reads, and whether they are still the same. */
#ifndef QUERN_SOURCES_H
#define QUERN_SOURCES_H

#include "cli/train/run.h"

/* Room for so many files, of which there are none yet.  Exit statuses. */
int sources_make(struct sources *sources, size_t count, const struct options *options);
void sources_release(struct sources *sources);

/* Adds a file that was read. */
int sources_note(struct sources *sources, const char *path, size_t bytes, uint64_t hash,
                 const struct options *options);

/* The paths of --data, else those of the run that goes on; free() the array. */
const char **source_paths(const struct run *run, const struct options *options, size_t *count);

/* Whether files are those that the run began with, if it did. */
int sources_check(const struct sources *now, const struct sources *then, const char *option,
                  const struct options *options);

/* Files that were read are the run's, unless it has them. */
void sources_keep(struct sources *of_run, struct sources *read);

#endif

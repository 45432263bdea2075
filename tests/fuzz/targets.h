/* Readers of files, as functions of a file's bytes.  None may crash, leak or keep silent about what it refuses; what it accepts must
 * survive being used, written and read again. */
#ifndef FUZZ_TARGETS_H
#define FUZZ_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name;                                /* of its corpus too */
    bool (*read)(const uint8_t *data, size_t bytes); /* whether it was accepted */
};

extern const struct fuzz_target fuzz_targets[];
extern const size_t fuzz_target_count;

/* NULL if there is none of this name. */
const struct fuzz_target *fuzz_target_named(const char *name);

/* A folder for the files; it goes away at the exit. */
void fuzz_begin(void);

#endif

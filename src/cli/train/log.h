/* The log of a run: JSON Lines, one object a step; and the losses as curves. */
#ifndef QUERN_LOG_H
#define QUERN_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/progress.h"

struct log_entry {
    uint64_t step;
    double loss, learning_rate, gradient_norm, tokens_per_second, seconds;
    struct validation valid; /* at this step */
    uint64_t skipped;        /* steps so far whose gradient was not finite */
    double loss_scale;       /* 0: there is none */
};

/* What the curves are made of. */
struct log_point {
    uint64_t step;
    float loss, valid_loss;
};

struct log {
    FILE *file;
    char *path;
    struct log_point *points;
    size_t count, capacity;
};

enum { LOG_MESSAGE = 512 };

/* Whether a log may be written to `path`: there is none, or an empty file, or a log; anything else
 * is somebody's.  False, and a message, if not. */
bool log_check(const char *path, char message[LOG_MESSAGE]);

/* Opens the log of a run that has done `step` steps: what it holds of later ones is cut off, so
 * that it goes on as if the run had never stopped.  False, and a message, on failure. */
bool log_open(struct log *log, const char *path, uint64_t step, char message[LOG_MESSAGE]);
bool log_append(struct log *log, const struct log_entry *entry, char message[LOG_MESSAGE]);
void log_close(struct log *log);

/* Writes the curves as SVG; whole or not at all. */
bool log_draw(const struct log *log, const char *path, char message[LOG_MESSAGE]);

#endif

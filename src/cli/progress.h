/* What a command says on stderr while it works: lines about the run, and a line of progress that is
 * rewritten in place on a terminal and printed anew elsewhere. */
#ifndef QUERN_PROGRESS_H
#define QUERN_PROGRESS_H

#include "cli/cli.h"

struct progress {
    bool is_quiet, is_terminal, is_utf8;
    bool is_line_open; /* the terminal's line of progress waits to be rewritten */
    double shown_at;   /* seconds, of seconds_now() */
};

/* What was measured on data that is held out; NAN: it was not. */
struct validation {
    double loss, accuracy; /* of tokens, or of labels */
    double bleu;           /* of translations, 0 to 100 */
};
#define NO_VALIDATION ((struct validation){NAN, NAN, NAN})

/* A step, and how far it has come. */
struct report {
    uint64_t step, steps; /* steps 0: how many there will be is not known */
    double share;         /* done, from 0 to 1 */
    double loss;
    struct validation valid;
    double learning_rate, gradient_norm;
    double tokens_per_second; /* NAN: not known */
    size_t memory;            /* of the device, bytes */
    double seconds_left;      /* infinite: not known */
    uint64_t skipped;
};

void progress_start(struct progress *progress, bool is_quiet);

/* "device      PoCL, ...": a line of its own. */
void progress_say(struct progress *progress, const char *label, const char *format, ...)
    CLI_FORMAT(3, 4);

/* Whether it is time for a report again. */
bool progress_is_due(const struct progress *progress);

/* A report; one that stays is not rewritten by the next. */
void progress_show(struct progress *progress, const struct report *report, bool stays);

/* Ends a line that waits to be rewritten, before something else is printed. */
void progress_end_line(struct progress *progress);

/* A clock that only goes forward. */
double seconds_now(void);

/* Numbers for reading: "1,115,394", "41.2k", "312 MiB", "1h38m", "5.9e-4".  All return `text`. */
enum { NUMBER_TEXT = 32 };
const char *count_text(char text[NUMBER_TEXT], uint64_t count);
const char *rate_text(char text[NUMBER_TEXT], double rate);
const char *bytes_text(char text[NUMBER_TEXT], double bytes);
const char *duration_text(char text[NUMBER_TEXT], double seconds);
const char *real_text(char text[NUMBER_TEXT], double number);

#endif

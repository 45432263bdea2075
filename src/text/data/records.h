/* Records of files: where they stand, and how they are read. */
#ifndef QUERN_RECORDS_H
#define QUERN_RECORDS_H

#include <quern/data.h>

#include <time.h>

#include "device/context.h"

/* Of a record 40 bits are its offset, 24 its length. */
enum { LENGTH_BITS = 24, MOST_RECORD_BYTES = (1 << LENGTH_BITS) - 1 };
static const uint64_t MOST_FILE_BYTES = (uint64_t)1 << (64 - LENGTH_BITS);

/* Lines of consecutive records are consecutive up to the next run. */
struct line_run {
    size_t record, line;
};

/* A file, by its descriptor: read by offset, since a mapping that is cut by others kills the process. */
struct source {
    char *path;
    int descriptor;
    uint64_t bytes;
    struct timespec modified;
    uint64_t hash;   /* of all of it */
    size_t first;    /* its first record */
    uint64_t *spans; /* offset and length of each */
    size_t count, room;
    struct line_run *runs;
    size_t n_runs, run_room;
};

/* Of messages: "FILE:LINE", what is wrong there, and both. */
enum { PLACE_BYTES = 600, PROBLEM_BYTES = 600, DAMAGE_BYTES = PLACE_BYTES + 2 + PROBLEM_BYTES };

/* What is wrong with a record. */
struct damage {
    size_t source, line; /* of those of the record, from 0 */
    char text[PROBLEM_BYTES];
};

/* A record that is read, in buffers of its own.  Failures are told to `context`. */
struct record {
    qn_context *context;
    struct raw_text {
        char *text; /* with a NUL behind */
        size_t bytes;
    } raws[QN_MAX_FIELDS]; /* a line of each file of QN_LINES, else one text */
    struct qn_field_text fields[QN_MAX_FIELDS];
    struct damage damage;
    char *raw, *made; /* texts as they stand in files, and where they must be put together */
    size_t raw_room, made_room;
};
void record_release(struct record *record);

/* Room for so many bytes; false and an error without memory. */
bool record_make_room(qn_context *context, char **buffer, size_t *room, size_t bytes);

/* Says what is wrong with a record; QN_ERROR_FORMAT. */
int record_damaged(struct record *record, size_t source, size_t line, const char *format, ...)
    PRINTF_LIKE(4, 5);

struct record_format {
    const char *name, *extensions[4];
    bool is_block; /* of lines */
    /* Makes fields of raws; 0, QN_ERROR_FORMAT (see `damage`), or another failure. */
    int (*parse)(const qn_records *records, struct record *record);
};
extern const struct record_format record_formats[];

struct qn_records {
    qn_context *context;
    const struct record_format *format;
    struct source *sources;
    size_t n_sources;
    bool is_parallel; /* a record has a line of each source */
    char *fields[QN_MAX_FIELDS];
    size_t columns[QN_MAX_FIELDS]; /* from 0 */
    size_t n_fields, count, skipped;
    bool is_strict;
    void (*report)(void *user, const char *message);
    void *user;
    char first_damage[DAMAGE_BYTES];
    struct record record; /* of qn_records_read() */
    char place[PLACE_BYTES];
};

/* Checks the raws and makes fields of them, none of which is blank. */
int records_parse(const qn_records *records, struct record *record);

/* A record as it was when it was indexed; any failure is an error.  Threads may call it, each with a record of its own. */
int records_read(const qn_records *records, size_t index, struct record *record);

/* Whether no file was written to since; else an error in `context`. */
bool records_unchanged(const qn_records *records, qn_context *context);

/* "FILE:LINE" of line number `line` of a record, in the file that `source` counts from the record's first. */
const char *records_place(const qn_records *records, size_t index, size_t source, size_t line,
                          char place[PLACE_BYTES]);

/* A damaged record, at its place: skipped, counted and reported, or (false) an error in `context`. */
bool records_skip(qn_records *records, qn_context *context, const char *place, const char *problem);

/* Whether a text has white space only. */
bool is_blank(const char *text, size_t bytes);

/* ---- Files from end to end: lines.c ---- */

struct scanner {
    qn_context *context;
    const struct source *source;
    char *buffer;
    size_t begin, end, room; /* of what is there */
    uint64_t offset, hash;   /* in the file, of its beginning; of all that was read */
    size_t line;             /* the next one, from 1 */
    bool is_at_end;
};

struct scanned_line {
    char *text; /* without its end, and with room for a NUL behind; borrowed until the next call */
    size_t bytes, line;
    uint64_t offset;
    bool is_too_long;
};

/* The next line: 1; 0 at the end of the file; negative on failure. */
int scanner_next(struct scanner *scanner, struct scanned_line *line);

#endif

/* Files read whole, and files that appear whole or not at all. */
#ifndef QUERN_FILE_H
#define QUERN_FILE_H

#include "device/context.h"

/* The contents of a file or pipe of at most `limit` bytes, with a NUL behind; free() it.  NULL and
 * an error otherwise. */
char *file_read(qn_context *context, const char *path, size_t limit, size_t *bytes);

/* A file being written: beside its path, until it is complete.  What is no regular file, such as a pipe or /dev/null, is written to as it is. */
struct file_writer {
    qn_context *context;
    int descriptor;
    char *path, *temporary; /* temporary: NULL if it is written to as it is */
};

/* Create; append; then commit (syncs and renames), or discard.  After a failure nothing is left to
 * do. */
int file_create(struct file_writer *writer, qn_context *context, const char *path);
int file_append(struct file_writer *writer, const void *data, size_t bytes);
int file_commit(struct file_writer *writer);
void file_discard(struct file_writer *writer);

/* Makes the entries of a folder last through a loss of power. */
int folder_sync(qn_context *context, const char *path);

/* What other programs look for in a model's folder, the weights first; a folder need not have all. */
enum { MODEL_FILES = 5 };
extern const char *const model_files[MODEL_FILES];

/* "folder/name"; free() it.  NULL and an error without memory. */
char *path_join(qn_context *context, const char *folder, const char *name);

/* The folder that a path is in, "." for a bare name; free() it. */
char *path_parent(qn_context *context, const char *path);

/* Formatted text; free() it.  NULL and an error without memory. */
char *text_format(qn_context *context, const char *format, ...) PRINTF_LIKE(2, 3);

/* Whether a code point shows as it is: no control, none that turns the direction of what follows, none without a meaning. */
bool point_is_drawn(int32_t point);

/* `text` in quotation marks for a message: what does not print is escaped, and what is too long is
 * cut, so that a hostile file cannot reach the terminal.  Returns `buffer`. */
enum { QUOTED = 160 };
const char *quote(char buffer[QUOTED], const char *text, size_t bytes);
const char *quote_string(char buffer[QUOTED], const char *text);

#endif

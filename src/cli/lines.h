/* The lines of a text file, all at once. */
#ifndef QUERN_LINES_H
#define QUERN_LINES_H

#include <quern/text.h>

struct lines {
    const char *name; /* for messages */
    char *text;
    char **at; /* without white space at their ends */
    size_t count;
};

/* Reads a file, or stdin for NULL, as UTF-8.  False and an error of the context if there is none, or
 * nothing in it, unless it may be empty. */
bool lines_read(struct lines *lines, qn_context *qn, const char *path, bool may_be_empty);
void lines_release(struct lines *lines);

#endif

/* Where words begin and end: the rules that tokenizers split text by. */
#ifndef QUERN_SPLIT_H
#define QUERN_SPLIT_H

#include <quern/text.h>

#include "device/context.h"

struct splitter;
struct splitter *splitter_new(qn_context *context, enum qn_splitting splitting);
void splitter_free(struct splitter *splitter);

/* Finds the first word of UTF-8 that begins at *begin or behind: it ends at *end.  Where there is
 * none, both are `bytes`.  False on failure, with an error. */
bool splitter_next(struct splitter *splitter, const char *text, size_t bytes, size_t *begin,
                   size_t *end);

/* White space as Unicode defines it. */
bool is_space(int32_t point);

/* Marks of ASCII, and what Unicode calls punctuation: what BERT splits words at. */
bool is_punctuation(int32_t point);

#endif

/* Labels within a text. */
#ifndef QUERN_LABELS_H
#define QUERN_LABELS_H

#include <quern/data.h>

#include "text/words.h"

int32_t labels_find(const qn_labels *labels, const char *text, size_t bytes);

/* The next label of a field's text, which *at passes: all of it, or one of its words.  NULL at the end. */
const char *next_label(const char **at, bool is_sequence, size_t *bytes);

#endif

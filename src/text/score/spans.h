/* Tags of spans. */
#ifndef QUERN_SPANS_H
#define QUERN_SPANS_H

#include <stdbool.h>

/* What a tag must be, for messages. */
const char *tag_forms(bool strict);
bool is_tag(const char *tag, bool strict);

#endif

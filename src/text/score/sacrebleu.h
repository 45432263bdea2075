/* What the signatures of sacrebleu say of references. */
#ifndef QUERN_SACREBLEU_H
#define QUERN_SACREBLEU_H

#include <stdio.h>

/* Whose definitions these are. */
#define SACREBLEU_VERSION "2.6.0"

/* How many references sentences have: all the same number, or not. */
struct reference_counter {
    size_t sentences, each;
    bool varies;
};

static inline void count_references(struct reference_counter *counter, size_t references)
{
    counter->varies = counter->varies || (counter->sentences > 0 && references != counter->each);
    counter->each = references;
    counter->sentences++;
}

static inline const char *references_text(const struct reference_counter *counter, char text[24])
{
    if (counter->varies)
        return "var";
    snprintf(text, 24, "%zu", counter->each);
    return text;
}

#endif

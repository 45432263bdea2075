/* Cleaning as tokenizers do it: of a text that may be a piece of a longer one. */
#ifndef QUERN_CLEAN_H
#define QUERN_CLEAN_H

#include <quern/text.h>

#include "device/context.h"

/* Which ends of a text are in this piece of it: QN_CLEAN_SPACES removes white space there. */
struct piece_ends {
    bool begins, ends;
};

/* What the steps make of UTF-8; free() it.  NULL and an error without memory. */
char *clean_text(qn_context *context, const enum qn_cleaning *steps, size_t n_steps,
                 const char *text, size_t bytes, struct piece_ends ends, size_t *cleaned);

/* The name of a step, "nfc", and the step of a name; -1: there is none. */
const char *cleaning_name(enum qn_cleaning step);

/* What QN_CLEAN_CONTROLS removes and QN_CLEAN_SPACES looks for, as patterns of Oniguruma and of
 * Rust's regex. */
extern const char pattern_of_controls[], pattern_of_spaces[];

#endif

/* Porter's stemmer. */
#ifndef QUERN_PORTER_H
#define QUERN_PORTER_H

#include <stddef.h>

/* Cuts a word of `length` letters a to z, and digits, to its stem, in place; returns its length,
 * which is no larger.  As NLTK's default mode does it, which differs from the paper. */
size_t porter_stem(char *word, size_t length);

#endif

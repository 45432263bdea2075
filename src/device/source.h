/* Kernel sources as parts of one program: what they declare at file scope is renamed, so that a
 * source may come several times with different macros, and their macros end with them. */
#ifndef QUERN_SOURCE_H
#define QUERN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

/* A growing text.  `failed` once memory ran out: text is then incomplete, but still ends in a zero
 * byte. */
struct text {
    char *bytes;
    size_t length, capacity;
    bool failed;
};

void text_append(struct text *text, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
void text_append_bytes(struct text *text, const char *bytes, size_t count);

/* Appends `source`, named `file` in messages, so that function f of it is f_SUFFIX outside.
 *
 * The scanner knows C well enough for kernels: it finds functions, `constant` variables, types and
 * enumerators that are written out at file scope.  It does not expand macros, so a function whose
 * name a macro pastes together is not renamed, and braces must balance in each branch of an #if. */
void text_append_source(struct text *text, const char *file, const char *source,
                        const char *defines, const char *suffix);

#endif

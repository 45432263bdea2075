/* The cache folder: small files named by a hash of what they were made from.
 *
 * A cache that cannot be read or written is only slow: nothing here reports an error. */
#ifndef QUERN_CACHE_H
#define QUERN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 128 bits, so that two different programs never share a name by chance.  Not for use against an
 * adversary. */
struct digest {
    uint64_t word[2];
};

struct digest digest_start(void);
struct digest digest_bytes(struct digest digest, const void *bytes, size_t count);
struct digest digest_text(struct digest digest,
                          const char *text); /* with its end: "ab", "c" is not "a", "bc" */
bool digest_equal(struct digest a, struct digest b);

/* Its digits; returns `text`. */
enum { DIGEST_TEXT = 33 };
const char *digest_hex(char text[DIGEST_TEXT], struct digest digest);

enum cache_kind {
    CACHE_PROGRAM,  /* a program's binary, and what is in it */
    CACHE_INSTANCE, /* which program has a source with its defines */
    CACHE_DEVICE,   /* the verdict on a device */
    CACHE_KINDS
};

/* What was written under the name, followed by a zero byte; the caller frees it.  NULL: nothing
 * whole and unchanged. */
void *cache_read(enum cache_kind kind, struct digest name, size_t *bytes);

/* Files appear whole or not at all, whoever writes at the same time; the oldest go when there are
 * too many. */
void cache_write(enum cache_kind kind, struct digest name, const void *data, size_t bytes);

#endif

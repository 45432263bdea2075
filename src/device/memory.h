/* Tensors and the memory below them. */
#ifndef QUERN_MEMORY_H
#define QUERN_MEMORY_H

#include "device/context.h"

/* A piece of device memory that tensors are ranges of. */
struct storage {
    void *buffer; /* cl_mem; NULL in a context without a device */
    size_t bytes;
    size_t references;
    uint64_t version; /* changes whenever values do */
};

struct qn_tensor {
    qn_context *context;
    char *name;
    enum qn_type type;
    qn_shape shape;
    struct storage *storage; /* NULL until a store is sealed */
    size_t offset;           /* bytes; a multiple of STORE_ALIGNMENT */
    void *view;              /* cl_mem of this range: the buffer itself if it is all of it */
};

/* Every device can begin a sub-buffer here, so that stores are laid out alike everywhere. */
enum { STORE_ALIGNMENT = 512 };

/* A tensor without memory yet; gives it a range of a storage that it shares from then on. */
qn_tensor *tensor_unplaced(qn_context *context, const char *name, enum qn_type type,
                           qn_shape shape);
int tensor_place(qn_tensor *tensor, struct storage *storage, size_t offset);

struct storage *storage_new(qn_context *context, size_t bytes);
void storage_release(qn_context *context, struct storage *storage);

bool tensors_overlap(const qn_tensor *a, const qn_tensor *b);

/* The chunks of device memory in which the plans of a context lay their intermediates.  Chunks are added, never moved:
 * plans made before go on using theirs. */
struct arena {
    void **chunks; /* cl_mem */
    size_t *bytes;
    size_t count;
};

/* Makes chunk `index` (at most arena->count) at least `bytes` long if it is new; 0, or a negative status. */
int arena_reserve(qn_context *context, size_t index, size_t bytes);
void arena_free(qn_context *context, struct arena *arena);

#endif

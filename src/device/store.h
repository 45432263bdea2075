/* Stores: the parameters of a model in a few buffers. */
#ifndef QUERN_STORE_H
#define QUERN_STORE_H

#include "device/memory.h"

struct store_buffer {
    enum qn_group group;
    qn_tensor *whole; /* flat, f32 */
};

struct store_entry {
    qn_tensor *tensor;
    enum qn_group group;
    size_t buffer, offset; /* where it is: which buffer, and bytes into it */
};

struct qn_store {
    qn_context *context;
    char *name;
    struct store_entry *entries;
    size_t count, capacity;
    struct store_buffer *buffers;
    size_t n_buffers;
    bool is_sealed;
};

#endif

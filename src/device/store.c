/* Stores: tensors laid out by group in few buffers, each within the device's largest allocation. */
#include "device/store.h"

#include <stdlib.h>
#include <string.h>

qn_store *qn_store_new(qn_context *context, const char *name)
{
    if (!context)
        return NULL;
    qn_store *store = context_alloc(context, 1, sizeof *store);
    char *copy = context_alloc(context, strlen(name) + 1, 1);
    if (!store || !copy) {
        free(store);
        free(copy);
        return NULL;
    }
    strcpy(copy, name);
    *store = (qn_store){.context = context, .name = copy};
    return store;
}

void qn_store_free(qn_store *store)
{
    if (!store)
        return;
    for (size_t i = 0; i < store->count; i++)
        qn_tensor_free(store->entries[i].tensor);
    for (size_t i = 0; i < store->n_buffers; i++)
        qn_tensor_free(store->buffers[i].whole);
    free(store->entries);
    free(store->buffers);
    free(store->name);
    free(store);
}

qn_tensor *qn_store_add(qn_store *store, const char *name, enum qn_type type, qn_shape shape,
                        enum qn_group group)
{
    if (!store)
        return NULL;
    if (store->is_sealed || type != QN_F32 || qn_store_find(store, name)) {
        context_fail(store->context, QN_ERROR_INVALID, "store %s: cannot add %s: %s", store->name,
                     name,
                     store->is_sealed ? "the store is sealed"
                     : type != QN_F32 ? "stores hold f32"
                                      : "there is a tensor of this name");
        return NULL;
    }
    struct store_entry *entries = context_grow(store->context, store->entries, store->count,
                                               &store->capacity, sizeof *entries);
    if (!entries)
        return NULL;
    store->entries = entries;
    qn_tensor *tensor = tensor_unplaced(store->context, name, type, shape);
    if (tensor)
        entries[store->count++] = (struct store_entry){.tensor = tensor, .group = group};
    return tensor;
}

/* Appends a buffer of `bytes`, zeroed, and places in it the tensors of `group` numbered first to last. */
static int seal_buffer(qn_store *store, enum qn_group group, size_t first, size_t last,
                       size_t bytes)
{
    struct store_buffer *buffers =
        realloc(store->buffers, (store->n_buffers + 1) * sizeof *store->buffers);
    if (!buffers)
        return context_fail(store->context, QN_ERROR_MEMORY, "out of memory");
    store->buffers = buffers;
    qn_tensor *whole =
        qn_tensor_new(store->context, store->name, QN_F32, (qn_shape){1, {bytes / sizeof(float)}});
    if (!whole)
        return store->context->status;
    buffers[store->n_buffers] = (struct store_buffer){group, whole};
    size_t buffer = store->n_buffers++, offset = 0;
    int status = store->context->device ? qn_fill(whole, 0) : QN_OK;
    for (size_t i = first; status == QN_OK && i <= last; i++) {
        struct store_entry *entry = &store->entries[i];
        if (entry->group != group)
            continue;
        entry->buffer = buffer;
        entry->offset = offset;
        offset += round_up(qn_tensor_bytes(entry->tensor), STORE_ALIGNMENT);
        status = tensor_place(entry->tensor, whole->storage, entry->offset);
    }
    return status;
}

int qn_store_seal(qn_store *store)
{
    if (!store)
        return QN_ERROR_INVALID;
    if (store->is_sealed)
        return context_fail(store->context, QN_ERROR_INVALID, "store %s is sealed already",
                            store->name);
    store->is_sealed = true;
    size_t limit = store->context->caps.max_allocation;
    for (int group = 0; group < QN_GROUPS; group++) {
        size_t first = 0, last = 0, bytes = 0;
        for (size_t i = 0; i < store->count; i++) {
            if (store->entries[i].group != (enum qn_group)group)
                continue;
            size_t need = round_up(qn_tensor_bytes(store->entries[i].tensor), STORE_ALIGNMENT);
            if (bytes && need > limit - size_min(limit, bytes)) {
                int status = seal_buffer(store, (enum qn_group)group, first, last, bytes);
                if (status != QN_OK)
                    return status;
                bytes = 0;
            }
            if (bytes == 0)
                first = i;
            last = i;
            bytes += need;
        }
        int status = bytes ? seal_buffer(store, (enum qn_group)group, first, last, bytes) : QN_OK;
        if (status != QN_OK)
            return status;
    }
    return QN_OK;
}

qn_store *qn_store_like(const qn_store *store, const char *name)
{
    if (!store)
        return NULL;
    qn_store *like = qn_store_new(store->context, name);
    bool ok = like != NULL;
    for (size_t i = 0; ok && i < store->count; i++) {
        const struct store_entry *entry = &store->entries[i];
        ok = entry->group == QN_FROZEN ||
             qn_store_add(like, entry->tensor->name, entry->tensor->type, entry->tensor->shape,
                          entry->group);
    }
    if (ok && qn_store_seal(like) == QN_OK)
        return like;
    qn_store_free(like);
    return NULL;
}

qn_context *qn_store_context(const qn_store *store)
{
    return store->context;
}

size_t qn_store_count(const qn_store *store)
{
    return store->count;
}

qn_tensor *qn_store_tensor(const qn_store *store, size_t index)
{
    return store->entries[index].tensor;
}

qn_tensor *qn_store_find(const qn_store *store, const char *name)
{
    for (size_t i = 0; i < store->count; i++)
        if (strcmp(store->entries[i].tensor->name, name) == 0)
            return store->entries[i].tensor;
    return NULL;
}

size_t qn_store_buffers(const qn_store *store)
{
    return store->n_buffers;
}

qn_tensor *qn_store_buffer(const qn_store *store, size_t index)
{
    return store->buffers[index].whole;
}

enum qn_group qn_store_buffer_group(const qn_store *store, size_t index)
{
    return store->buffers[index].group;
}

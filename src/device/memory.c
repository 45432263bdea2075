/* Tensors, the storages they are ranges of, and the arena that plans share. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "device/memory.h"
#include "device/philox.h"

/* ---- Storages ---- */

struct storage *storage_new(qn_context *context, size_t bytes)
{
    struct storage *storage = context_alloc(context, 1, sizeof *storage);
    if (!storage)
        return NULL;
    *storage = (struct storage){.bytes = bytes, .references = 1};
    bool has_room = !context->plan_only || device_claim(context, bytes) == QN_OK;
    if (context->device)
        has_room = (storage->buffer = device_buffer(context, bytes)) != NULL;
    if (has_room)
        return storage;
    free(storage);
    return NULL;
}

void storage_release(qn_context *context, struct storage *storage)
{
    if (!storage || --storage->references > 0)
        return;
    device_buffer_free(context, storage->buffer, storage->bytes);
    free(storage);
}

/* ---- Tensors ---- */

/* Gives a tensor its range of a storage; the tensor then holds a reference to it. */
int tensor_place(qn_tensor *tensor, struct storage *storage, size_t offset)
{
    tensor->storage = storage;
    tensor->offset = offset;
    storage->references++;
    if (!storage->buffer)
        return QN_OK;
    cl_int code;
    cl_buffer_region region = {offset, qn_tensor_bytes(tensor)};
    if (region.origin == 0 && region.size == storage->bytes) {
        code = clRetainMemObject(storage->buffer);
        tensor->view = code == CL_SUCCESS ? storage->buffer : NULL;
        return device_check(tensor->context, code, "tensor %s", tensor->name);
    }
    tensor->view = clCreateSubBuffer(storage->buffer, CL_MEM_READ_WRITE,
                                     CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
    return device_check(tensor->context, code, "tensor %s", tensor->name);
}

qn_tensor *tensor_unplaced(qn_context *context, const char *name, enum qn_type type, qn_shape shape)
{
    size_t count = shape.rank < 0 || shape.rank > QN_MAX_RANK ? SIZE_MAX : qn_shape_count(shape);
    if (count == 0 || count > SIZE_MAX / 8) {
        context_fail(context, QN_ERROR_INVALID, "tensor %s: its shape has %s elements", name,
                     count ? "too many" : "no");
        return NULL;
    }
    qn_tensor *tensor = context_alloc(context, 1, sizeof *tensor);
    char *copy = context_alloc(context, strlen(name) + 1, 1);
    if (!tensor || !copy) {
        free(tensor);
        free(copy);
        return NULL;
    }
    strcpy(copy, name);
    *tensor = (qn_tensor){.context = context, .name = copy, .type = type, .shape = shape};
    return tensor;
}

qn_tensor *qn_tensor_new(qn_context *context, const char *name, enum qn_type type, qn_shape shape)
{
    if (!context)
        return NULL;
    qn_tensor *tensor = tensor_unplaced(context, name ? name : "", type, shape);
    if (!tensor)
        return NULL;
    struct storage *storage = storage_new(context, qn_tensor_bytes(tensor));
    int status = storage ? tensor_place(tensor, storage, 0) : QN_ERROR_DEVICE_MEMORY;
    storage_release(context, storage);
    if (status == QN_OK)
        return tensor;
    qn_tensor_free(tensor);
    return NULL;
}

void qn_tensor_free(qn_tensor *tensor)
{
    if (!tensor)
        return;
    if (tensor->view)
        clReleaseMemObject(tensor->view);
    storage_release(tensor->context, tensor->storage);
    free(tensor->name);
    free(tensor);
}

const char *qn_tensor_name(const qn_tensor *tensor)
{
    return tensor->name;
}

enum qn_type qn_tensor_type(const qn_tensor *tensor)
{
    return tensor->type;
}

qn_shape qn_tensor_shape(const qn_tensor *tensor)
{
    return tensor->shape;
}

size_t qn_tensor_bytes(const qn_tensor *tensor)
{
    return qn_type_bytes(tensor->type, qn_shape_count(tensor->shape));
}

bool tensors_overlap(const qn_tensor *a, const qn_tensor *b)
{
    return a == b || (a->storage == b->storage && a->offset < b->offset + qn_tensor_bytes(b) &&
                      b->offset < a->offset + qn_tensor_bytes(a));
}

static int need_device(const qn_tensor *tensor)
{
    if (tensor->view)
        return QN_OK;
    return context_fail(tensor->context, QN_ERROR_INVALID, "tensor %s: %s", tensor->name,
                        tensor->storage ? "the context has no device" : "its store is not sealed");
}

int qn_tensor_write(qn_tensor *tensor, const void *values)
{
    int status = need_device(tensor);
    if (status != QN_OK)
        return status;
    tensor->storage->version++;
    return device_check(tensor->context,
                        clEnqueueWriteBuffer(tensor->context->device->queue, tensor->view, CL_TRUE,
                                             0, qn_tensor_bytes(tensor), values, 0, NULL, NULL),
                        "writing tensor %s", tensor->name);
}

int qn_tensor_read(const qn_tensor *tensor, void *values)
{
    int status = need_device(tensor);
    if (status != QN_OK)
        return status;
    return device_check(tensor->context,
                        clEnqueueReadBuffer(tensor->context->device->queue, tensor->view, CL_TRUE,
                                            0, qn_tensor_bytes(tensor), values, 0, NULL, NULL),
                        "reading tensor %s", tensor->name);
}

static int need_f32(const qn_tensor *tensor)
{
    if (tensor->type == QN_F32)
        return need_device(tensor);
    return context_fail(tensor->context, QN_ERROR_INVALID, "filling tensor %s: it is %s, not f32",
                        tensor->name, qn_type_name(tensor->type));
}

int qn_fill(qn_tensor *tensor, double value)
{
    int status = tensor ? need_f32(tensor) : QN_ERROR_INVALID;
    if (status != QN_OK)
        return status;
    tensor->storage->version++;
    return device_check(tensor->context,
                        clEnqueueFillBuffer(tensor->context->device->queue, tensor->view,
                                            &(cl_float){(cl_float)value}, sizeof(cl_float), 0,
                                            qn_tensor_bytes(tensor), 0, NULL, NULL),
                        "filling tensor %s", tensor->name);
}

/* Draws `count` numbers, with two parameters, from words that depend on a key and the position. */
typedef void draw_numbers(float *values, size_t count, double a, double b, const uint32_t key[2]);

static struct philox words_at(size_t index, const uint32_t key[2])
{
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)((uint64_t)index >> 32), 0, 0};
    return philox(counter, key);
}

/* Box and Muller's transform of the first two words of each Philox block. */
static void draw_normal(float *values, size_t count, double mean, double deviation,
                        const uint32_t key[2])
{
    for (size_t i = 0; i < count; i += 2) {
        struct philox random = words_at(i / 2, key);
        double u = ((double)random.word[0] + 1) * 0x1p-32;
        double angle = 6.283185307179586 * 0x1p-32 * random.word[1];
        double radius = deviation * sqrt(-2 * log(u));
        values[i] = (float)(mean + radius * cos(angle));
        if (i + 1 < count)
            values[i + 1] = (float)(mean + radius * sin(angle));
    }
}

static void draw_uniform(float *values, size_t count, double low, double high,
                         const uint32_t key[2])
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(low + (high - low) * 0x1p-32 * words_at(i / 4, key).word[i % 4]);
}

static int fill_drawn(qn_tensor *tensor, draw_numbers *draw, double a, double b, uint64_t seed)
{
    int status = tensor ? need_f32(tensor) : QN_ERROR_INVALID;
    if (status != QN_OK)
        return status;
    uint64_t hash = 0xCBF29CE484222325u ^ seed;
    for (const char *p = tensor->name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001B3u;
    hash = (hash ^ seed) * 0x9E3779B97F4A7C15u;
    const uint32_t key[2] = {(uint32_t)hash, (uint32_t)(hash >> 32)};
    size_t count = qn_shape_count(tensor->shape);
    float *values = context_alloc(tensor->context, count, sizeof *values);
    if (!values)
        return QN_ERROR_MEMORY;
    draw(values, count, a, b, key);
    status = qn_tensor_write(tensor, values);
    free(values);
    return status;
}

int qn_fill_normal(qn_tensor *tensor, double mean, double deviation, uint64_t seed)
{
    return fill_drawn(tensor, draw_normal, mean, deviation, seed);
}

int qn_fill_uniform(qn_tensor *tensor, double low, double high, uint64_t seed)
{
    return fill_drawn(tensor, draw_uniform, low, high, seed);
}

/* ---- The arena ---- */

int arena_reserve(qn_context *context, size_t index, size_t bytes)
{
    if (!context->arena && !(context->arena = context_alloc(context, 1, sizeof *context->arena)))
        return QN_ERROR_MEMORY;
    struct arena *arena = context->arena;
    if (index < arena->count)
        return QN_OK;
    void **chunks = context_alloc(context, index + 1, sizeof *chunks);
    size_t *sizes = context_alloc(context, index + 1, sizeof *sizes);
    if (!chunks || !sizes) {
        free(chunks);
        free(sizes);
        return QN_ERROR_MEMORY;
    }
    if (arena->count) {
        memcpy(chunks, arena->chunks, arena->count * sizeof *chunks);
        memcpy(sizes, arena->bytes, arena->count * sizeof *sizes);
    }
    free(arena->chunks);
    free(arena->bytes);
    arena->chunks = chunks;
    arena->bytes = sizes;
    if (context->device && !(chunks[index] = device_buffer(context, bytes)))
        return QN_ERROR_DEVICE_MEMORY;
    if (context->plan_only && device_claim(context, bytes) != QN_OK)
        return QN_ERROR_DEVICE_MEMORY;
    sizes[index] = bytes;
    arena->count = index + 1;
    return QN_OK;
}

void arena_free(qn_context *context, struct arena *arena)
{
    if (!arena)
        return;
    for (size_t i = 0; i < arena->count; i++)
        if (arena->chunks[i])
            device_buffer_free(context, arena->chunks[i], arena->bytes[i]);
    free(arena->chunks);
    free(arena->bytes);
    free(arena);
}

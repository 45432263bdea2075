/* NumPy's files of one array each: numpy/lib/format.py describes them. */
#include <stdlib.h>
#include <string.h>

#include <quern/io.h>

#include "io/file.h"

enum { HEAD_BYTES = 256, ALIGNMENT = 64 };

static const char *const descriptions[QN_TYPES] = {
    [QN_F32] = "<f4", [QN_F16] = "<f2", [QN_BF16] = "<f4", [QN_I32] = "<i4", [QN_U8] = "|u1"};

/* The magic number, the version, the length of the text in two bytes, and the text, filled up so that the data are aligned. */
static size_t make_head(char head[HEAD_BYTES], enum qn_type type, const qn_shape *shape)
{
    static const char magic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
    const size_t begin = sizeof magic + 2;
    size_t used = begin;
    memcpy(head, magic, sizeof magic);
    used +=
        (size_t)snprintf(head + used, HEAD_BYTES - used,
                         "{'descr': '%s', 'fortran_order': False, 'shape': (", descriptions[type]);
    for (int i = 0; i < shape->rank; i++)
        used +=
            (size_t)snprintf(head + used, HEAD_BYTES - used, i ? " %zu," : "%zu,", shape->size[i]);
    used += (size_t)snprintf(head + used, HEAD_BYTES - used, "), }");
    size_t end = round_up(used + 1, ALIGNMENT);
    memset(head + used, ' ', end - used);
    head[end - 1] = '\n';
    head[sizeof magic] = (char)((end - begin) & 0xFF);
    head[sizeof magic + 1] = (char)((end - begin) >> 8);
    return end;
}

/* NumPy has no bf16. */
static int append_bf16(struct file_writer *writer, const uint16_t *values, size_t count)
{
    float *floats = context_alloc(writer->context, count, sizeof *floats);
    if (!floats) {
        file_discard(writer);
        return QN_ERROR_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        floats[i] = float_of_bf16(values[i]);
    int status = file_append(writer, floats, count * sizeof *floats);
    free(floats);
    return status;
}

int qn_npy_write(qn_context *context, const char *path, enum qn_type type, qn_shape shape,
                 const void *values)
{
    if (!context || !path || !values)
        return QN_ERROR_INVALID;
    char head[HEAD_BYTES];
    size_t count = qn_shape_count(shape), bytes = make_head(head, type, &shape);
    struct file_writer writer;
    int status = file_create(&writer, context, path);
    if (status == QN_OK)
        status = file_append(&writer, head, bytes);
    if (status == QN_OK)
        status = type == QN_BF16 ? append_bf16(&writer, values, count)
                                 : file_append(&writer, values, qn_type_bytes(type, count));
    return status == QN_OK ? file_commit(&writer) : status;
}

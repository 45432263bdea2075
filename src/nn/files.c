/* Parameters, from and to model.safetensors. */
#include "nn/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/memory.h"
#include "graph/graph.h"
#include "io/file.h"

static const char file_name[] = "model.safetensors";

const char *name_behind(const char *name, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? name + length : name;
}

const struct qn_file_tensor *file_find(const qn_safetensors *file, const char *name,
                                       const char *prefix)
{
    const struct qn_file_tensor *found = qn_safetensors_find(file, name);
    return found ? found : qn_safetensors_find(file, name_behind(name, prefix));
}

bool file_tensors_equal(const struct qn_file_tensor *a, const struct qn_file_tensor *b)
{
    return a && b && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

static bool are_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* ---- Loading ---- */

static int load_parameter(qn_tensor *tensor, const qn_safetensors *file, const char *path,
                          const struct file_names *names)
{
    qn_context *context = tensor->context;
    const char *name = qn_tensor_name(tensor);
    const struct qn_file_tensor *found = file_find(file, name, names->prefix);
    if (!found)
        return context_fail(context, QN_ERROR_FORMAT, "%s: there is no tensor %s", path, name);
    qn_shape shape = qn_tensor_shape(tensor);
    if (!qn_shape_equal(shape, found->shape)) {
        char expected[SHAPE_TEXT], there[SHAPE_TEXT];
        return context_fail(context, QN_ERROR_FORMAT,
                            "%s: tensor %s is %s; config.json makes it %s", path, name,
                            shape_text(&found->shape, there, sizeof there),
                            shape_text(&shape, expected, sizeof expected));
    }
    float *values = context_alloc(context, qn_shape_count(shape), sizeof *values);
    int status = values ? qn_safetensors_f32(file, found, values) : QN_ERROR_MEMORY;
    if (status == QN_OK && !are_finite(values, qn_shape_count(shape)))
        status = context_fail(
            context, QN_ERROR_NOT_FINITE,
            "%s: tensor %s has numbers that are infinite or NaN: nothing can be computed with them",
            path, name);
    if (status == QN_OK && context->device)
        status = qn_tensor_write(tensor, values);
    free(values);
    return status;
}

static bool is_parameter(const qn_store *store, const char *name, const char *prefix)
{
    enum { NAME_ROOM = 256 };
    char full[NAME_ROOM];
    int length = snprintf(full, sizeof full, "%s%s", prefix, name);
    return qn_store_find(store, name) || (length < NAME_ROOM && qn_store_find(store, full));
}

static int refuse_unknown(const qn_store *store, const qn_safetensors *file, const char *path,
                          const struct file_names *names)
{
    const char *first = NULL;
    size_t count = 0;
    if (qn_safetensors_count(file) == qn_store_count(store)) /* all were found */
        return QN_OK;
    for (size_t i = 0; i < qn_safetensors_count(file); i++) {
        const struct qn_file_tensor *tensor = qn_safetensors_tensor(file, i);
        if (is_parameter(store, tensor->name, names->prefix) ||
            (names->is_redundant && names->is_redundant(names->model, file, tensor)))
            continue;
        first = first ? first : tensor->name;
        count++;
    }
    if (count == 0)
        return QN_OK;
    char quoted[QUOTED];
    return context_fail(
        qn_store_context(store), QN_ERROR_FORMAT,
        "%s: %zu tensors are not of the model that config.json describes, the first being %s", path,
        count, quote_string(quoted, first));
}

int store_load(qn_store *store, const char *folder, const struct file_names *names)
{
    qn_context *context = qn_store_context(store);
    char *path = path_join(context, folder, file_name);
    qn_safetensors *file = path ? qn_safetensors_open(context, path) : NULL;
    int status = file ? QN_OK : (int)context->status;
    for (size_t i = 0; status == QN_OK && i < qn_store_count(store); i++)
        status = load_parameter(qn_store_tensor(store, i), file, path, names);
    if (status == QN_OK)
        status = refuse_unknown(store, file, path, names);
    if (file)
        qn_safetensors_close(file);
    free(path);
    return status;
}

/* ---- Saving ---- */

static int parameter_values(void *store, size_t index, void *values)
{
    qn_tensor *tensor = qn_store_tensor(store, index);
    int status = qn_tensor_read(tensor, values);
    if (status == QN_OK && !are_finite(values, qn_shape_count(qn_tensor_shape(tensor))))
        status = context_fail(tensor->context, QN_ERROR_NOT_FINITE, "parameter %s is not finite",
                              qn_tensor_name(tensor));
    return status;
}

int store_save(qn_store *store, const char *folder)
{
    qn_context *context = qn_store_context(store);
    size_t count = qn_store_count(store);
    char *path = path_join(context, folder, file_name);
    struct qn_file_tensor *tensors = context_alloc(context, count, sizeof *tensors);
    int status = path && tensors ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        const qn_tensor *tensor = qn_store_tensor(store, i);
        tensors[i] = (struct qn_file_tensor){.name = qn_tensor_name(tensor),
                                             .type = qn_safetensors_type(QN_F32),
                                             .shape = qn_tensor_shape(tensor),
                                             .bytes = qn_tensor_bytes(tensor)};
    }
    if (status == QN_OK)
        status = qn_safetensors_write(context, path, tensors, count, NULL, parameter_values, store);
    free(path);
    free(tensors);
    return status;
}

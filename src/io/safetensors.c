/* Safetensors: a little-endian 64-bit length, that many bytes of JSON which name the tensors, and
 * their bytes.
 *
 * The reader believes nothing: the tensors must cover the data exactly, in any order, without gap
 * or overlap, and each range must be as long as type and shape say. */
#define _POSIX_C_SOURCE 200809L

#include <quern/io.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/fields.h"
#include "io/file.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file format is little-endian, and so is everything that reads the mapped bytes"
#endif

/* As the reference implementation, which refuses larger headers. */
enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 };

/* ---- Types ---- */

enum conversion { NO_CONVERSION, TO_F32, TO_I32 };

struct file_type {
    const char *name;
    size_t bytes;
    enum conversion conversion;
};

static const struct file_type file_types[] = {
    {"F32", 4, TO_F32},
    {"F16", 2, TO_F32},
    {"BF16", 2, TO_F32},
    {"F64", 8, TO_F32},
    {"I32", 4, TO_I32},
    {"I64", 8, TO_I32},
    {"U8", 1, TO_I32},
    {"I8", 1, TO_I32},
    {"I16", 2, TO_I32},
    {"U16", 2, TO_I32},
    {"U32", 4, TO_I32},
    {"U64", 8, TO_I32},
    {"BOOL", 1, TO_I32},
    {"C64", 8, NO_CONVERSION},
    {"F8_E4M3", 1, NO_CONVERSION},
    {"F8_E5M2", 1, NO_CONVERSION},
    {"F8_E8M0", 1, NO_CONVERSION},
};

static const struct file_type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (strcmp(file_types[i].name, name) == 0)
            return &file_types[i];
    return NULL;
}

const char *qn_safetensors_type(enum qn_type type)
{
    static const char *const names[QN_TYPES] = {
        [QN_F32] = "F32", [QN_F16] = "F16", [QN_BF16] = "BF16", [QN_I32] = "I32", [QN_U8] = "U8"};
    return (unsigned)type < QN_TYPES ? names[type] : NULL;
}

/* Elements times the size of one; false if that is no size_t. */
static bool tensor_bytes(const struct file_type *type, const qn_shape *shape, size_t *bytes)
{
    *bytes = type->bytes;
    for (int i = 0; i < shape->rank; i++)
        if (!size_product(bytes, *bytes, shape->size[i]))
            return false;
    return true;
}

/* ---- Reading ---- */

struct qn_safetensors {
    qn_context *context;
    char *path;
    void *map;
    size_t map_bytes;
    json_t *header;                  /* owns names and metadata */
    struct qn_file_tensor *tensors;  /* in the order of the data */
    struct qn_file_tensor **by_name; /* sorted */
    size_t count;
};

static int compare_data(const void *a, const void *b)
{
    const struct qn_file_tensor *x = a, *y = b;
    const char *x_begin = x->data, *y_begin = y->data;
    if (x_begin != y_begin)
        return x_begin < y_begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int compare_names(const void *a, const void *b)
{
    const struct qn_file_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* "FILE: tensor "NAME"", for messages. */
static char *tensor_label(const qn_safetensors *file, const char *name)
{
    char quoted[QUOTED];
    return text_format(file->context, "%s: tensor %s", file->path, quote_string(quoted, name));
}

/* The sizes of a shape, "[2, 3]". */
static void print_shape(char *buffer, size_t room, const qn_shape *shape)
{
    size_t used = (size_t)snprintf(buffer, room, "[");
    for (int i = 0; i < shape->rank && used < room; i++)
        used +=
            (size_t)snprintf(buffer + used, room - used, "%s%zu", i ? ", " : "", shape->size[i]);
    if (used < room)
        snprintf(buffer + used, room - used, "]");
}

static bool read_shape(struct fields *fields, qn_shape *shape)
{
    const json_t *sizes = fields_array(fields, "shape");
    size_t rank = json_array_size(sizes);
    if (rank > QN_MAX_RANK)
        fields_fail(fields, "shape", "expected at most %d sizes, found %zu", QN_MAX_RANK, rank);
    for (size_t i = 0; i < rank && !fields->failed; i++) {
        const json_t *size = json_array_get(sizes, i);
        char found[DESCRIBED];
        if (json_is_integer(size) && json_integer_value(size) >= 0)
            shape->size[i] = (size_t)json_integer_value(size);
        else
            fields_fail(fields, "shape", "expected sizes that are not negative, found %s",
                        describe(found, size));
    }
    shape->rank = (int)rank;
    return !fields->failed;
}

static bool read_offsets(struct fields *fields, size_t data_bytes, size_t *begin, size_t *end)
{
    const json_t *offsets = fields_array(fields, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (fields->failed)
        return false;
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        fields_fail(fields, "data_offsets", "expected two integers");
        return false;
    }
    json_int_t from = json_integer_value(first), to = json_integer_value(second);
    if (from < 0 || to < from || (unsigned long long)to > data_bytes) {
        fields_fail(fields, "data_offsets",
                    "expected a range within the %zu bytes of data that the file has, found "
                    "[%lld, %lld]",
                    data_bytes, (long long)from, (long long)to);
        return false;
    }
    *begin = (size_t)from;
    *end = (size_t)to;
    return true;
}

static bool read_tensor(qn_safetensors *file, const char *label, const json_t *json,
                        const char *data, size_t data_bytes, struct qn_file_tensor *tensor)
{
    char found[DESCRIBED];
    if (!json_is_object(json)) {
        context_fail(file->context, QN_ERROR_FORMAT, "%s: expected an object, found %s", label,
                     describe(found, json));
        return false;
    }
    struct fields fields = fields_of(file->context, label, json);
    const char *type_name = fields_string(&fields, "dtype");
    const struct file_type *type = find_type(type_name);
    if (!fields.failed && !type) {
        char quoted[QUOTED];
        fields_fail(&fields, "dtype", "unknown type %s; expected F32, F16, BF16, I32, I64, U8, ...",
                    quote_string(quoted, type_name));
    }
    size_t begin, end, bytes;
    if (fields.failed || !read_shape(&fields, &tensor->shape) ||
        !read_offsets(&fields, data_bytes, &begin, &end))
        return false;

    char shape[200];
    print_shape(shape, sizeof shape, &tensor->shape);
    if (!tensor_bytes(type, &tensor->shape, &bytes)) {
        fields_fail(&fields, "shape", "%s of %s has more bytes than can be counted", shape,
                    type->name);
        return false;
    }
    if (bytes != end - begin) {
        fields_fail(&fields, "data_offsets",
                    "%s of %s takes %zu bytes, but the range [%zu, %zu] has %zu", shape, type->name,
                    bytes, begin, end, end - begin);
        return false;
    }
    tensor->type = type->name;
    tensor->data = data + begin;
    tensor->bytes = bytes;
    return true;
}

static bool check_metadata(qn_safetensors *file, const json_t *metadata)
{
    char quoted[QUOTED], found[DESCRIBED];
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) {
        context_fail(file->context, QN_ERROR_FORMAT,
                     "%s: __metadata__: expected an object of strings, found %s", file->path,
                     describe(found, metadata));
        return false;
    }
    json_object_foreach ((json_t *)metadata, key, value) {
        if (json_is_string(value))
            continue;
        context_fail(file->context, QN_ERROR_FORMAT,
                     "%s: __metadata__: %s: expected a string, found %s", file->path,
                     quote_string(quoted, key), describe(found, value));
        return false;
    }
    return true;
}

/* Sorts the tensors and checks that they cover the data. */
static bool check_coverage(qn_safetensors *file, const char *data, size_t data_bytes)
{
    char quoted[QUOTED], before[QUOTED];
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_data);
    size_t covered = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct qn_file_tensor *tensor = &file->tensors[i];
        size_t begin = (size_t)((const char *)tensor->data - data);
        quote_string(quoted, tensor->name);
        if (begin > covered) {
            context_fail(file->context, QN_ERROR_FORMAT,
                         "%s: %zu bytes before tensor %s, at %zu, belong to no tensor", file->path,
                         begin - covered, quoted, covered);
            return false;
        }
        if (begin < covered) { /* so there is one before it */
            quote_string(before, file->tensors[i - 1].name);
            context_fail(file->context, QN_ERROR_FORMAT,
                         "%s: tensors %s and %s overlap: the first ends at %zu, the second begins "
                         "at %zu",
                         file->path, before, quoted, covered, begin);
            return false;
        }
        covered += tensor->bytes;
    }
    if (covered == data_bytes)
        return true;
    context_fail(file->context, QN_ERROR_FORMAT,
                 "%s: the last %zu of %zu bytes of data belong to no tensor", file->path,
                 data_bytes - covered, data_bytes);
    return false;
}

static bool read_header(qn_safetensors *file)
{
    const char *bytes = file->map;
    uint64_t length = 0;
    if (file->map_bytes < LENGTH_BYTES + 2) {
        context_fail(file->context, QN_ERROR_FORMAT,
                     "%s: has %zu bytes, too few for a safetensors file: is it truncated?",
                     file->path, file->map_bytes);
        return false;
    }
    memcpy(&length, bytes, LENGTH_BYTES);
    if (length > MAX_HEADER || length > file->map_bytes - LENGTH_BYTES) {
        context_fail(file->context, QN_ERROR_FORMAT,
                     "%s: says that its header has %llu bytes, but %s: it is truncated, or no "
                     "safetensors file",
                     file->path, (unsigned long long)length,
                     length > MAX_HEADER ? "100 million are the most" : "the file is shorter");
        return false;
    }
    const char *header = bytes + LENGTH_BYTES, *data = header + length;
    size_t data_bytes = file->map_bytes - LENGTH_BYTES - (size_t)length;
    json_error_t error;
    file->header = json_loadb(header, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!file->header || !json_is_object(file->header) || header[0] != '{') {
        char quoted[QUOTED];
        context_fail(file->context, QN_ERROR_FORMAT, "%s: its header is not a JSON object: %s",
                     file->path,
                     file->header ? "expected \"{\" first" : quote_string(quoted, error.text));
        return false;
    }

    size_t room = json_object_size(file->header) + 1;
    file->tensors = context_alloc(file->context, room, sizeof *file->tensors);
    file->by_name = context_alloc(file->context, room, sizeof *file->by_name);
    if (!file->tensors || !file->by_name)
        return false;
    const char *name;
    json_t *value;
    json_object_foreach (file->header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            if (!check_metadata(file, value))
                return false;
            continue;
        }
        struct qn_file_tensor *tensor = &file->tensors[file->count++];
        tensor->name = name;
        char *label = tensor_label(file, name);
        bool is_good = label && read_tensor(file, label, value, data, data_bytes, tensor);
        free(label);
        if (!is_good)
            return false;
    }
    if (!check_coverage(file, data, data_bytes))
        return false;
    for (size_t i = 0; i < file->count; i++)
        file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, file->count, sizeof *file->by_name, compare_names);
    return true;
}

/* The whole file as memory.  False and an error if that cannot be. */
static bool map_file(qn_safetensors *file)
{
    struct stat status;
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        context_fail(file->context, QN_ERROR_FILE, "cannot read %s: %s", file->path,
                     strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        context_fail(file->context, QN_ERROR_FILE, "cannot read %s: expected a file, found %s",
                     file->path, S_ISDIR(status.st_mode) ? "a folder" : "a device or a pipe");
    } else if (status.st_size == 0 || (uintmax_t)status.st_size > SIZE_MAX) {
        context_fail(file->context, QN_ERROR_FORMAT, "%s: %s", file->path,
                     status.st_size ? "too large for this machine" : "the file is empty");
    } else {
        void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (map == MAP_FAILED) {
            context_fail(file->context, QN_ERROR_FILE, "cannot map %s: %s", file->path,
                         strerror(errno));
        } else {
            file->map = map;
            file->map_bytes = (size_t)status.st_size;
        }
    }
    if (descriptor >= 0)
        close(descriptor);
    return file->map != NULL;
}

qn_safetensors *qn_safetensors_open(qn_context *context, const char *path)
{
    if (!context || !path)
        return NULL;
    qn_safetensors *file = context_alloc(context, 1, sizeof *file);
    if (!file)
        return NULL;
    file->context = context;
    file->path = text_format(context, "%s", path);
    if (file->path && map_file(file) && read_header(file))
        return file;
    qn_safetensors_close(file);
    return NULL;
}

void qn_safetensors_close(qn_safetensors *file)
{
    if (!file)
        return;
    if (file->map)
        munmap(file->map, file->map_bytes);
    json_decref(file->header);
    free(file->by_name);
    free(file->tensors);
    free(file->path);
    free(file);
}

size_t qn_safetensors_count(const qn_safetensors *file)
{
    return file ? file->count : 0;
}

const struct qn_file_tensor *qn_safetensors_tensor(const qn_safetensors *file, size_t index)
{
    return file && index < file->count ? &file->tensors[index] : NULL;
}

const struct qn_file_tensor *qn_safetensors_find(const qn_safetensors *file, const char *name)
{
    if (!file || !name)
        return NULL;
    const struct qn_file_tensor key = {.name = name}, *key_pointer = &key;
    struct qn_file_tensor **found =
        bsearch(&key_pointer, file->by_name, file->count, sizeof *file->by_name, compare_names);
    return found ? *found : NULL;
}

const char *qn_safetensors_metadata(const qn_safetensors *file, const char *key)
{
    return file ? json_string_value(
                      json_object_get(json_object_get(file->header, "__metadata__"), key))
                : NULL;
}

/* ---- Conversion ---- */

/* Element `i` of `data`, which may not be aligned. */
#define ELEMENT(type, data, i)                                                                     \
    (*(type *)memcpy(&(type){0}, (const char *)(data) + (i) * sizeof(type), sizeof(type)))

static int refuse_conversion(const qn_safetensors *file, const struct qn_file_tensor *tensor,
                             const char *expected)
{
    char quoted[QUOTED];
    return context_fail(file->context, QN_ERROR_FORMAT, "%s: tensor %s: expected %s, found %s",
                        file->path, quote_string(quoted, tensor->name), expected, tensor->type);
}

int qn_safetensors_f32(const qn_safetensors *file, const struct qn_file_tensor *tensor,
                       float *values)
{
    if (!file || !tensor || !values)
        return QN_ERROR_INVALID;
    const struct file_type *type = find_type(tensor->type);
    if (!type || type->conversion != TO_F32)
        return refuse_conversion(file, tensor, "numbers in F32, F64, F16 or BF16");
    size_t count = tensor->bytes / type->bytes;
    if (strcmp(type->name, "F32") == 0) {
        if (count > 0)
            memcpy(values, tensor->data, tensor->bytes);
    } else if (strcmp(type->name, "F64") == 0) {
        for (size_t i = 0; i < count; i++)
            values[i] = (float)ELEMENT(double, tensor->data, i);
    } else if (strcmp(type->name, "BF16") == 0) {
        for (size_t i = 0; i < count; i++)
            values[i] = float_of_bf16(ELEMENT(uint16_t, tensor->data, i));
    } else {
        for (size_t i = 0; i < count; i++)
            values[i] = float_of_f16(ELEMENT(uint16_t, tensor->data, i));
    }
    return QN_OK;
}

/* Element `i` of an integer type; false if it is beyond int64. */
static bool integer_element(const struct file_type *type, const void *data, size_t i,
                            int64_t *value)
{
    bool is_signed = type->name[0] == 'I';
    switch (type->bytes) {
    case 1:
        *value = is_signed ? ELEMENT(int8_t, data, i) : ELEMENT(uint8_t, data, i);
        return true;
    case 2:
        *value = is_signed ? ELEMENT(int16_t, data, i) : ELEMENT(uint16_t, data, i);
        return true;
    case 4:
        *value = is_signed ? ELEMENT(int32_t, data, i) : (int64_t)ELEMENT(uint32_t, data, i);
        return true;
    default:
        *value = ELEMENT(int64_t, data, i);
        return is_signed || *value >= 0;
    }
}

int qn_safetensors_i32(const qn_safetensors *file, const struct qn_file_tensor *tensor,
                       int32_t *values)
{
    if (!file || !tensor || !values)
        return QN_ERROR_INVALID;
    const struct file_type *type = find_type(tensor->type);
    if (!type || type->conversion != TO_I32)
        return refuse_conversion(file, tensor, "integers");
    size_t count = tensor->bytes / type->bytes;
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        if (!integer_element(type, tensor->data, i, &value) || value < INT32_MIN ||
            value > INT32_MAX) {
            char quoted[QUOTED];
            return context_fail(file->context, QN_ERROR_FORMAT,
                                "%s: tensor %s: element %zu does not fit 32 bits", file->path,
                                quote_string(quoted, tensor->name), i);
        }
        values[i] = (int32_t)value;
    }
    return QN_OK;
}

/* ---- Writing ---- */

struct output {
    const struct qn_file_tensor *tensor;
    const struct file_type *type;
    size_t index, bytes; /* index: as the caller counts */
};

/* Large elements first, so that each tensor is aligned to its own; else as given. */
static int compare_outputs(const void *a, const void *b)
{
    const struct output *x = a, *y = b;
    if (x->type->bytes != y->type->bytes)
        return x->type->bytes > y->type->bytes ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int check_output(qn_context *context, const char *path, struct output *output)
{
    char quoted[QUOTED];
    const struct qn_file_tensor *tensor = output->tensor;
    if (!tensor->name || !tensor->type || strcmp(tensor->name, "__metadata__") == 0)
        return context_fail(context, QN_ERROR_INVALID,
                            "%s: tensor %zu has no name or type that could be written", path,
                            output->index);
    quote_string(quoted, tensor->name);
    output->type = find_type(tensor->type);
    if (!output->type)
        return context_fail(context, QN_ERROR_INVALID, "%s: tensor %s: no type is called \"%s\"",
                            path, quoted, tensor->type);
    if (tensor->shape.rank < 0 || tensor->shape.rank > QN_MAX_RANK ||
        !tensor_bytes(output->type, &tensor->shape, &output->bytes) || output->bytes > INT64_MAX)
        return context_fail(context, QN_ERROR_INVALID, "%s: tensor %s has an impossible shape",
                            path, quoted);
    return QN_OK;
}

/* The header as text; NULL and an error on failure. */
static char *make_header(qn_context *context, const char *path, const struct output *outputs,
                         size_t count, const char *const *metadata)
{
    char *text = NULL;
    json_t *header = json_object(), *pairs = json_object();
    int failed = json_object_set_new(pairs, "format", json_string("pt"));
    for (; metadata && metadata[0] && metadata[1]; metadata += 2)
        failed |= json_object_set_new(pairs, metadata[0], json_string(metadata[1]));
    failed |= json_object_set_new(header, "__metadata__", pairs);
    size_t offset = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        const struct qn_file_tensor *tensor = outputs[i].tensor;
        if (json_object_get(header, tensor->name)) {
            char quoted[QUOTED];
            context_fail(context, QN_ERROR_INVALID, "%s: two tensors are called %s", path,
                         quote_string(quoted, tensor->name));
            goto done;
        }
        if (outputs[i].bytes > (size_t)INT64_MAX - offset) {
            context_fail(context, QN_ERROR_INVALID, "%s: more bytes than a file can have", path);
            goto done;
        }
        json_t *shape = json_array();
        for (int axis = 0; axis < tensor->shape.rank; axis++)
            failed |=
                json_array_append_new(shape, json_integer((json_int_t)tensor->shape.size[axis]));
        size_t end = offset + outputs[i].bytes;
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", outputs[i].type->name, "shape",
                                  shape, "data_offsets", (json_int_t)offset, (json_int_t)end);
        failed |= json_object_set_new(header, tensor->name, entry);
        offset = end;
    }
    text = failed ? NULL : json_dumps(header, JSON_COMPACT);
    if (!text)
        context_fail(context, QN_ERROR_INVALID,
                     "%s: cannot make the header: a name is not UTF-8, or no memory is left", path);
done:
    json_decref(header);
    return text;
}

static int write_tensors(struct file_writer *writer, const struct output *outputs, size_t count,
                         void *scratch, qn_file_values *values, void *user)
{
    for (size_t i = 0; i < count; i++) {
        const void *data = outputs[i].tensor->data;
        int status = QN_OK;
        if (!data && outputs[i].bytes > 0) {
            status = values(user, outputs[i].index, scratch);
            data = scratch;
        }
        if (status != QN_OK) {
            file_discard(writer);
            return status;
        }
        status = file_append(writer, data, outputs[i].bytes);
        if (status != QN_OK)
            return status;
    }
    return QN_OK;
}

int qn_safetensors_write(qn_context *context, const char *path,
                         const struct qn_file_tensor *tensors, size_t count,
                         const char *const *metadata, qn_file_values *values, void *user)
{
    if (!context || !path || (count > 0 && !tensors))
        return QN_ERROR_INVALID;
    int status = QN_ERROR_MEMORY;
    size_t scratch_bytes = 0;
    void *scratch = NULL;
    char *header = NULL;
    struct output *outputs = context_alloc(context, count + 1, sizeof *outputs);
    if (!outputs)
        return status;
    for (size_t i = 0; i < count; i++) {
        outputs[i].tensor = &tensors[i];
        outputs[i].index = i;
        status = check_output(context, path, &outputs[i]);
        if (status != QN_OK)
            goto done;
        if (tensors[i].data)
            continue;
        if (!values && outputs[i].bytes > 0) {
            status =
                context_fail(context, QN_ERROR_INVALID, "%s: tensor %zu has no values", path, i);
            goto done;
        }
        scratch_bytes = size_max(scratch_bytes, outputs[i].bytes);
    }
    qsort(outputs, count, sizeof *outputs, compare_outputs);

    status = QN_ERROR_MEMORY;
    header = make_header(context, path, outputs, count, metadata);
    if (!header) {
        status = QN_ERROR_INVALID;
        goto done;
    }
    if (scratch_bytes > 0 && !(scratch = context_alloc(context, scratch_bytes, 1)))
        goto done;
    size_t text_bytes = strlen(header);
    uint64_t length = round_up(text_bytes, 8); /* so that the data is aligned */
    struct file_writer writer;
    status = file_create(&writer, context, path);
    if (status == QN_OK)
        status = file_append(&writer, &length, sizeof length);
    if (status == QN_OK)
        status = file_append(&writer, header, text_bytes);
    if (status == QN_OK)
        status = file_append(&writer, "        ", (size_t)length - text_bytes);
    if (status == QN_OK)
        status = write_tensors(&writer, outputs, count, scratch, values, user);
    if (status == QN_OK)
        status = file_commit(&writer);
done:
    free(scratch);
    free(header);
    free(outputs);
    return status;
}

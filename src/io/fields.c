/* JSON files, and the fields of their objects, checked. */
#include "io/fields.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

json_t *json_file_read(qn_context *context, const char *path, size_t limit)
{
    size_t bytes;
    char *text = file_read(context, path, limit, &bytes);
    if (!text)
        return NULL;
    json_error_t error;
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    free(text);
    if (!json) {
        char quoted[QUOTED];
        context_fail(context, QN_ERROR_FORMAT, "%s: not JSON: line %d, column %d: %s", path,
                     error.line, error.column, quote_string(quoted, error.text));
        return NULL;
    }
    if (!json_is_object(json)) {
        char found[DESCRIBED];
        context_fail(context, QN_ERROR_FORMAT, "%s: expected a JSON object {...}, found %s", path,
                     describe(found, json));
        json_decref(json);
        return NULL;
    }
    return json;
}

/* The fewest digits that give every real number in `json` back. */
static int digits_needed(const json_t *json, int digits)
{
    if (json_is_real(json)) {
        char text[40];
        do
            snprintf(text, sizeof text, "%.*g", digits, json_real_value(json));
        while (strtod(text, NULL) != json_real_value(json) && digits++ < 17);
    }
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)json, key, value)
        digits = digits_needed(value, digits);
    for (size_t i = 0; i < json_array_size(json); i++)
        digits = digits_needed(json_array_get(json, i), digits);
    return digits;
}

int json_file_write(qn_context *context, const char *path, const json_t *json)
{
    size_t format = JSON_INDENT(2) | JSON_REAL_PRECISION(digits_needed(json, 1));
    char *text = json ? json_dumps(json, format) : NULL;
    if (!text)
        return context_fail(context, QN_ERROR_MEMORY, "out of memory while writing %s", path);
    struct file_writer writer;
    int status = file_create(&writer, context, path);
    if (status == QN_OK)
        status = file_append(&writer, text, strlen(text));
    if (status == QN_OK)
        status = file_append(&writer, "\n", 1);
    if (status == QN_OK)
        status = file_commit(&writer);
    free(text);
    return status;
}

const char *describe(char buffer[DESCRIBED], const json_t *value)
{
    char quoted[QUOTED];
    if (!value)
        return strcpy(buffer, "nothing");
    switch (json_typeof(value)) {
    case JSON_STRING:
        snprintf(buffer, DESCRIBED, "string %s",
                 quote(quoted, json_string_value(value), json_string_length(value)));
        break;
    case JSON_INTEGER:
        snprintf(buffer, DESCRIBED, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(buffer, DESCRIBED, "%.17g", json_real_value(value));
        break;
    case JSON_ARRAY:
        snprintf(buffer, DESCRIBED, "array of %zu", json_array_size(value));
        break;
    case JSON_OBJECT:
        snprintf(buffer, DESCRIBED, "object of %zu", json_object_size(value));
        break;
    case JSON_TRUE:
        strcpy(buffer, "true");
        break;
    case JSON_FALSE:
        strcpy(buffer, "false");
        break;
    case JSON_NULL:
        strcpy(buffer, "null");
        break;
    }
    return buffer;
}

struct fields fields_of(qn_context *context, const char *file, const json_t *object)
{
    return (struct fields){.context = context, .file = file, .object = object};
}

void fields_fail(struct fields *fields, const char *key, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    context_fail(fields->context, QN_ERROR_FORMAT, "%s: %s%s%s: %s", fields->file,
                 fields->within ? fields->within : "", fields->within ? "." : "", key, message);
    for (; fields; fields = fields->outer)
        fields->failed = true;
}

/* The value at `key` if it is there; sets `failed` if it must be.  Null is absent. */
static const json_t *present(struct fields *fields, const char *key, bool is_required,
                             const char *expected)
{
    const json_t *value = json_object_get(fields->object, key);
    if (value && (!json_is_null(value) || is_required))
        return value;
    if (is_required)
        fields_fail(fields, key, "missing; expected %s", expected);
    return NULL;
}

static void wrong(struct fields *fields, const char *key, const char *expected, const json_t *value)
{
    char found[DESCRIBED];
    fields_fail(fields, key, "expected %s, found %s", expected, describe(found, value));
}

static int64_t integer(struct fields *fields, const char *key, int64_t least, int64_t most,
                       int64_t fallback, bool is_required)
{
    char expected[100];
    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)least,
             (long long)most);
    const json_t *value = present(fields, key, is_required, expected);
    if (!value)
        return fallback;
    if (json_is_integer(value) && json_integer_value(value) >= least &&
        json_integer_value(value) <= most)
        return json_integer_value(value);
    wrong(fields, key, expected, value);
    return fallback;
}

static double number(struct fields *fields, const char *key, double least, double most,
                     double fallback, bool is_required)
{
    char expected[100];
    snprintf(expected, sizeof expected, "a number from %g to %g", least, most);
    const json_t *value = present(fields, key, is_required, expected);
    if (!value)
        return fallback;
    if (json_is_number(value) && json_number_value(value) >= least &&
        json_number_value(value) <= most)
        return json_number_value(value);
    wrong(fields, key, expected, value);
    return fallback;
}

static bool boolean(struct fields *fields, const char *key, bool fallback, bool is_required)
{
    const json_t *value = present(fields, key, is_required, "true or false");
    if (!value)
        return fallback;
    if (!json_is_boolean(value))
        wrong(fields, key, "true or false", value);
    return json_is_true(value);
}

static const char *string(struct fields *fields, const char *key, const char *fallback,
                          bool is_required)
{
    const json_t *value = present(fields, key, is_required, "a string");
    if (!value)
        return fallback;
    if (json_is_string(value))
        return json_string_value(value);
    wrong(fields, key, "a string", value);
    return fallback;
}

static const json_t *array(struct fields *fields, const char *key, bool is_required)
{
    const json_t *value = present(fields, key, is_required, "an array");
    if (!value || json_is_array(value))
        return value;
    wrong(fields, key, "an array", value);
    return NULL;
}

static struct fields object(struct fields *fields, const char *key, bool is_required)
{
    struct fields inner = {
        .context = fields->context, .file = fields->file, .within = key, .outer = fields};
    const json_t *value = present(fields, key, is_required, "an object");
    if (value && !json_is_object(value))
        wrong(fields, key, "an object", value);
    else
        inner.object = value;
    return inner;
}

int64_t fields_integer(struct fields *fields, const char *key, int64_t least, int64_t most)
{
    return integer(fields, key, least, most, least, true);
}

int64_t fields_integer_or(struct fields *fields, const char *key, int64_t least, int64_t most,
                          int64_t fallback)
{
    return integer(fields, key, least, most, fallback, false);
}

double fields_number(struct fields *fields, const char *key, double least, double most)
{
    return number(fields, key, least, most, least, true);
}

double fields_number_or(struct fields *fields, const char *key, double least, double most,
                        double fallback)
{
    return number(fields, key, least, most, fallback, false);
}

bool fields_bool(struct fields *fields, const char *key)
{
    return boolean(fields, key, false, true);
}

bool fields_bool_or(struct fields *fields, const char *key, bool fallback)
{
    return boolean(fields, key, fallback, false);
}

const char *fields_string(struct fields *fields, const char *key)
{
    return string(fields, key, "", true);
}

const char *fields_string_or(struct fields *fields, const char *key, const char *fallback)
{
    return string(fields, key, fallback, false);
}

const json_t *fields_array(struct fields *fields, const char *key)
{
    return array(fields, key, true);
}

const json_t *fields_array_or_null(struct fields *fields, const char *key)
{
    return array(fields, key, false);
}

struct fields fields_object(struct fields *fields, const char *key)
{
    return object(fields, key, true);
}

struct fields fields_object_or_null(struct fields *fields, const char *key)
{
    return object(fields, key, false);
}

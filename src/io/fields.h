/* JSON files, and the fields of their objects, checked.
 *
 *     struct fields fields = fields_of(context, path, json);
 *     config->n_head = fields_integer(&fields, "n_head", 1, 1024);
 *     config->epsilon = fields_number_or(&fields, "epsilon", 0, 1, 1e-5);
 *     if (fields.failed) ...
 *
 * No check is needed after each: the first mistake sets the context's error to file, key, what was
 * expected and what was found, and `failed`.  The functions that end in _or take a key that is
 * absent or null for the value given. */
#ifndef QUERN_FIELDS_H
#define QUERN_FIELDS_H

#include <jansson.h>

#include "device/context.h"

/* The JSON value in a file of at most `limit` bytes, which must be an object; json_decref() it.
 * NULL and an error if not. */
json_t *json_file_read(qn_context *context, const char *path, size_t limit);

/* Writes it with line breaks and a newline behind; whole or not at all. */
int json_file_write(qn_context *context, const char *path, const json_t *json);

struct fields {
    qn_context *context;
    const char *file;   /* for messages */
    const char *within; /* the key of the object, or NULL: the file's own */
    const json_t *object;
    struct fields *outer; /* of the object around it: fails with it */
    bool failed;
};

struct fields fields_of(qn_context *context, const char *file, const json_t *object);

int64_t fields_integer(struct fields *fields, const char *key, int64_t least, int64_t most);
int64_t fields_integer_or(struct fields *fields, const char *key, int64_t least, int64_t most,
                          int64_t fallback);
double fields_number(struct fields *fields, const char *key, double least, double most);
double fields_number_or(struct fields *fields, const char *key, double least, double most,
                        double fallback);
bool fields_bool(struct fields *fields, const char *key);
bool fields_bool_or(struct fields *fields, const char *key, bool fallback);

/* Strings and values are borrowed from the object. */
const char *fields_string(struct fields *fields, const char *key);
const char *fields_string_or(struct fields *fields, const char *key, const char *fallback);
const json_t *fields_array(struct fields *fields, const char *key);
const json_t *fields_array_or_null(struct fields *fields, const char *key);

/* The object at `key`: its fields; without one, of an empty object, so that reading can go on. */
struct fields fields_object(struct fields *fields, const char *key);
struct fields fields_object_or_null(struct fields *fields, const char *key);

/* Sets the error to "FILE: KEY: message" and `failed`. */
void fields_fail(struct fields *fields, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);

/* "string \"abc\"", "12", "array of 3": a value as messages show it. */
enum { DESCRIBED = 200 };
const char *describe(char buffer[DESCRIBED], const json_t *value);

#endif

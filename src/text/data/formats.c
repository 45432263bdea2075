/* The formats of records: each a reader of one record's text. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "io/fields.h"
#include "io/file.h"
#include "text/data/records.h"

/* A line of each file is a field. */
static int parse_lines(const qn_records *records, struct record *record)
{
    for (size_t i = 0; i < records->n_sources; i++)
        record->fields[i] = (struct qn_field_text){record->raws[i].text, record->raws[i].bytes};
    return QN_OK;
}

/* ---- Tabs ---- */

static int parse_tsv(const qn_records *records, struct record *record)
{
    char *line = record->raws[0].text;
    size_t bytes = record->raws[0].bytes, found = 0, column = 0;
    for (size_t begin = 0; begin <= bytes; column++) {
        char *tab = memchr(line + begin, '\t', bytes - begin);
        size_t end = tab ? (size_t)(tab - line) : bytes;
        for (size_t i = 0; i < records->n_fields; i++)
            if (records->columns[i] == column) {
                record->fields[i] = (struct qn_field_text){line + begin, end - begin};
                found++;
            }
        line[end] = '\0';
        begin = end + 1;
    }
    if (found == records->n_fields)
        return QN_OK;
    size_t missing = 0;
    while (records->columns[missing] < column)
        missing++;
    return record_damaged(record, 0, 0, "no field %zu: the line has %zu, parted by tabs",
                          records->columns[missing] + 1, column);
}

/* ---- JSON ---- */

/* The text of a value: of a string, the first of an array of them, an integer or a truth value. */
static const char *text_of(const json_t *value, char number[32], size_t *bytes)
{
    if (json_is_array(value))
        value = json_array_get(value, 0);
    if (json_is_string(value)) {
        *bytes = json_string_length(value);
        return json_string_value(value);
    }
    if (json_is_integer(value))
        *bytes = (size_t)snprintf(number, 32, "%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        *bytes = (size_t)snprintf(number, 32, "%s", json_is_true(value) ? "true" : "false");
    else
        return NULL;
    return number;
}

static int copy_values(const qn_records *records, struct record *record, const json_t *object)
{
    char found[DESCRIBED], quoted[QUOTED], number[32];
    size_t used = 0, bytes;
    for (size_t i = 0; i < records->n_fields; i++) {
        const json_t *value = json_object_get(object, records->fields[i]);
        if (!value)
            return record_damaged(record, 0, 0, "no key %s",
                                  quote_string(quoted, records->fields[i]));
        const char *text = text_of(value, number, &bytes);
        if (!text)
            return record_damaged(
                record, 0, 0, "%s: expected a string, an array of strings or an integer, found %s",
                quote_string(quoted, records->fields[i]), describe(found, value));
        if (!record_make_room(record->context, &record->made, &record->made_room, used + bytes + 1))
            return QN_ERROR_MEMORY;
        memcpy(record->made + used, text, bytes);
        record->made[used + bytes] = '\0';
        record->fields[i].bytes = bytes;
        used += bytes + 1;
    }
    for (size_t i = 0, at = 0; i < records->n_fields; at += record->fields[i++].bytes + 1)
        record->fields[i].text = record->made + at;
    return QN_OK;
}

static int parse_json(const qn_records *records, struct record *record)
{
    char text[QUOTED];
    json_error_t error;
    json_t *json = json_loadb(record->raws[0].text, record->raws[0].bytes,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!json && json_error_code(&error) == json_error_out_of_memory)
        return context_fail(record->context, QN_ERROR_MEMORY, "out of memory for a line of JSON");
    if (!json)
        return record_damaged(record, 0, 0, "not JSON: column %d: %s", error.column,
                              quote_string(text, error.text));
    char found[DESCRIBED];
    int status = json_is_object(json)
                     ? copy_values(records, record, json)
                     : record_damaged(record, 0, 0, "expected a JSON object {...}, found %s",
                                      describe(found, json));
    json_decref(json);
    return status;
}

/* ---- Columns ---- */

/* A line of a token. */
struct token_line {
    char *text;
    size_t bytes, number; /* from 0 */
    bool has_tabs;        /* which then part its columns: not spaces */
};

/* The value of a column; NULL if there is none.  *count: how many columns there are, up to it. */
static char *find_column(const struct token_line *line, size_t column, size_t *bytes, size_t *count)
{
    const char *separators = line->has_tabs ? "\t" : " ";
    char *at = line->text;
    for (*count = 0;; at++) {
        if (!line->has_tabs)
            at += strspn(at, separators);
        if (!line->has_tabs && !*at)
            return NULL;
        *bytes = strcspn(at, separators);
        if ((*count)++ == column)
            return at;
        at += *bytes;
        if (!*at)
            return NULL;
    }
}

/* Appends a value to a field's text, which has room. */
static int append_value(struct record *record, size_t field, size_t column,
                        const struct token_line *line)
{
    struct qn_field_text *text = &record->fields[field];
    size_t bytes, count;
    const char *value = find_column(line, column, &bytes, &count);
    if (!value)
        return record_damaged(record, 0, line->number,
                              "no column %zu: the line has %zu, parted by %s", column + 1, count,
                              line->has_tabs ? "tabs" : "spaces");
    if (is_blank(value, bytes))
        return record_damaged(record, 0, line->number, "column %zu is empty", column + 1);
    char quoted[QUOTED];
    if (memchr(value, ' ', bytes))
        return record_damaged(record, 0, line->number,
                              "column %zu has a space inside, %s, which would make it two tokens",
                              column + 1, quote(quoted, value, bytes));
    char *end = (char *)text->text + text->bytes;
    if (text->bytes > 0)
        *end++ = ' ';
    memcpy(end, value, bytes);
    end[bytes] = '\0';
    text->bytes = (size_t)(end + bytes - text->text);
    return QN_OK;
}

static int parse_columns(const qn_records *records, struct record *record)
{
    char *block = record->raws[0].text;
    size_t bytes = record->raws[0].bytes, each = bytes + 1;
    if (!record_make_room(record->context, &record->made, &record->made_room,
                          records->n_fields * each))
        return QN_ERROR_MEMORY;
    for (size_t i = 0; i < records->n_fields; i++)
        record->fields[i] = (struct qn_field_text){record->made + i * each, 0};
    struct token_line line = {.has_tabs = memchr(block, '\t', bytes) != NULL};
    for (size_t at = 0; at < bytes; line.number++) {
        char *end = memchr(block + at, '\n', bytes - at);
        line.text = block + at;
        line.bytes = end ? (size_t)(end - line.text) : bytes - at;
        at += line.bytes + 1;
        line.bytes -= line.bytes > 0 && line.text[line.bytes - 1] == '\r';
        line.text[line.bytes] = '\0';
        bool is_comment = *line.text == '#' && line.has_tabs && !strchr(line.text, '\t');
        for (size_t i = 0; i < records->n_fields && !is_comment; i++)
            if (append_value(record, i, records->columns[i], &line) != QN_OK)
                return QN_ERROR_FORMAT;
    }
    return QN_OK;
}

/* In the order of enum qn_record_format. */
const struct record_format record_formats[] = {
    {.name = "lines", .parse = parse_lines},
    {.name = "tsv", .extensions = {".tsv"}, .parse = parse_tsv},
    {.name = "jsonl", .extensions = {".jsonl", ".ndjson"}, .parse = parse_json},
    {.name = "columns",
     .extensions = {".conll", ".conllu", ".bio"},
     .is_block = true,
     .parse = parse_columns},
};
enum { FORMATS = sizeof record_formats / sizeof *record_formats };

int qn_record_format_named(const char *name)
{
    for (int i = 0; name && i < FORMATS; i++)
        if (strcmp(name, record_formats[i].name) == 0)
            return i;
    return -1;
}

enum qn_record_format qn_record_format_of(const char *path)
{
    size_t length = path ? strlen(path) : 0;
    for (int i = 0; i < FORMATS; i++)
        for (const char *const *extension = record_formats[i].extensions; *extension; extension++) {
            size_t its = strlen(*extension);
            if (length > its && strcmp(path + length - its, *extension) == 0)
                return (enum qn_record_format)i;
        }
    return QN_LINES;
}

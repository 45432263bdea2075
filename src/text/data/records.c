/* Records: opening files, an index of what is good in them, and reading by it. */
#define _POSIX_C_SOURCE 200809L

#include "text/data/records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/philox.h"
#include "io/file.h"
#include "text/tokenizer.h"

/* ---- One record ---- */

bool record_make_room(qn_context *context, char **buffer, size_t *room, size_t bytes)
{
    if (bytes <= *room)
        return true;
    size_t more = size_max(bytes, 2 * *room);
    char *larger = realloc(*buffer, more);
    if (!larger) {
        context_fail(context, QN_ERROR_MEMORY, "out of memory for a record of %zu bytes", bytes);
        return false;
    }
    *buffer = larger;
    *room = more;
    return true;
}

void record_release(struct record *record)
{
    free(record->raw);
    free(record->made);
    *record = (struct record){.context = record->context};
}

int record_damaged(struct record *record, size_t source, size_t line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record->damage.source = source;
    record->damage.line = line;
    vsnprintf(record->damage.text, sizeof record->damage.text, format, arguments);
    va_end(arguments);
    return QN_ERROR_FORMAT;
}

bool is_blank(const char *text, size_t bytes)
{
    int32_t point;
    size_t length;
    for (size_t at = 0; at < bytes; at += length)
        if ((length = utf8_decode(text + at, bytes - at, &point)) == 0 || !is_space(point))
            return false;
    return true;
}

static int check_text(struct record *record, size_t source)
{
    const struct raw_text *raw = &record->raws[source];
    size_t good = utf8_check(raw->text, raw->bytes);
    const char *nul = good > 0 ? memchr(raw->text, '\0', good) : NULL;
    size_t at = nul ? (size_t)(nul - raw->text) : good;
    if (at == raw->bytes)
        return QN_OK;
    struct place place = place_of(raw->text, at);
    if (nul)
        return record_damaged(record, source, place.line - 1,
                              "NUL at column %zu: it seems to be binary", place.column);
    return record_damaged(
        record, source, place.line - 1,
        "byte 0x%02X at column %zu is not UTF-8: convert the file (iconv -t utf-8)",
        (unsigned char)raw->text[at], place.column);
}

int records_parse(const qn_records *records, struct record *record)
{
    char quoted[QUOTED];
    size_t n_raws = records->is_parallel ? records->n_sources : 1;
    for (size_t i = 0; i < n_raws; i++) {
        if (check_text(record, i) != QN_OK)
            return QN_ERROR_FORMAT;
        if (is_blank(record->raws[i].text, record->raws[i].bytes))
            return record_damaged(record, i, 0, "an empty line");
    }
    int status = records->format->parse(records, record);
    for (size_t i = 0; i < records->n_fields && status == QN_OK; i++)
        if (is_blank(record->fields[i].text, record->fields[i].bytes))
            status = record_damaged(record, 0, 0, "field %s is empty",
                                    quote_string(quoted, records->fields[i]));
    return status;
}

/* ---- Where records stand ---- */

static const struct source *source_of(const qn_records *records, size_t index)
{
    const struct source *source = records->sources;
    while (!records->is_parallel && index - source->first >= source->count)
        source++;
    return source;
}

/* The line of a record of a source, by the last run that does not begin behind it. */
static size_t line_of(const struct source *source, size_t record)
{
    size_t low = 0, high = source->n_runs;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (source->runs[middle].record <= record)
            low = middle;
        else
            high = middle;
    }
    return source->runs[low].line + (record - source->runs[low].record);
}

const char *records_place(const qn_records *records, size_t index, size_t source, size_t line,
                          char place[PLACE_BYTES])
{
    const struct source *first = source_of(records, index);
    snprintf(place, PLACE_BYTES, "%s:%zu", first[source].path,
             line_of(first, index - first->first) + line);
    return place;
}

const char *qn_records_place(qn_records *records, size_t record)
{
    return records && record < records->count ? records_place(records, record, 0, 0, records->place)
                                              : NULL;
}

size_t qn_records_line(const qn_records *records, size_t record)
{
    if (!records || record >= records->count)
        return 0;
    const struct source *source = source_of(records, record);
    return line_of(source, record - source->first);
}

static bool add_record(qn_context *context, struct source *source, uint64_t offset, size_t bytes,
                       size_t line)
{
    uint64_t *spans =
        context_grow(context, source->spans, source->count, &source->room, sizeof *spans);
    if (!spans)
        return false;
    source->spans = spans;
    if (source->n_runs == 0 || line_of(source, source->count) != line) {
        struct line_run *runs =
            context_grow(context, source->runs, source->n_runs, &source->run_room, sizeof *runs);
        if (!runs)
            return false;
        source->runs = runs;
        runs[source->n_runs++] = (struct line_run){source->count, line};
    }
    spans[source->count++] = offset << LENGTH_BITS | bytes;
    return true;
}

bool records_skip(qn_records *records, qn_context *context, const char *place, const char *problem)
{
    char message[DAMAGE_BYTES];
    snprintf(message, sizeof message, "%s: %s", place, problem);
    if (records->is_strict) {
        context_fail(context, QN_ERROR_FORMAT, "%s", message);
        return false;
    }
    if (records->report)
        records->report(records->user, message);
    if (!*records->first_damage)
        strcpy(records->first_damage, message);
    return true;
}

/* ---- Indexing ---- */

/* A block: the lines up to an empty one, as they stand in the file. */
static int next_block(struct scanner *scanner, struct record *record, struct scanned_line *block)
{
    struct scanned_line line;
    int found;
    size_t used = 0;
    *block = (struct scanned_line){0};
    while ((found = scanner_next(scanner, &line)) > 0) {
        bool is_empty = !line.is_too_long && is_blank(line.text, line.bytes);
        if (is_empty && block->line > 0)
            break;
        if (is_empty)
            continue;
        if (block->line == 0)
            *block = line;
        size_t length = (size_t)(line.offset - block->offset) + line.bytes;
        block->is_too_long |= line.is_too_long || length > MOST_RECORD_BYTES;
        if (block->is_too_long)
            continue;
        if (!record_make_room(record->context, &record->raw, &record->raw_room, length + 1))
            return QN_ERROR_MEMORY;
        char *text = record->raw + length - line.bytes;
        memset(record->raw + used, '\r', (size_t)(text - record->raw) - used);
        if (used > 0)
            text[-1] = '\n';
        memcpy(text, line.text, line.bytes);
        used = length;
    }
    block->text = record->raw;
    block->bytes = used;
    return found < 0 ? found : block->line > 0;
}

/* What is read next from some files side by side: of each one a line, or a block. */
struct reading {
    qn_records *records;
    struct source *sources;
    struct scanner scanners[QN_MAX_FIELDS];
    struct scanned_line lines[QN_MAX_FIELDS];
    size_t count;
};

static int next_lines(struct reading *reading, struct record *record, size_t *ended)
{
    *ended = 0;
    for (size_t i = 0; i < reading->count; i++) {
        struct scanned_line *line = &reading->lines[i];
        int found = reading->records->format->is_block
                        ? next_block(&reading->scanners[i], record, line)
                        : scanner_next(&reading->scanners[i], line);
        if (found < 0)
            return found;
        *ended += found == 0;
        if (found > 0 && !line->is_too_long) {
            line->text[line->bytes] = '\0';
            record->raws[i] = (struct raw_text){line->text, line->bytes};
        }
    }
    return QN_OK;
}

/* A record of the lines that were read, if it is good. */
static bool take_lines(struct reading *reading, struct record *record)
{
    qn_records *records = reading->records;
    int status = QN_OK;
    for (size_t i = 0; i < reading->count && status == QN_OK; i++)
        if (reading->lines[i].is_too_long)
            status = record_damaged(record, i, 0,
                                    "longer than %d bytes, the most that a record may have",
                                    MOST_RECORD_BYTES);
    if (status == QN_OK)
        status = records_parse(records, record);
    if (status == QN_ERROR_MEMORY)
        return false;
    if (status != QN_OK) {
        const struct damage *damage = &record->damage;
        snprintf(records->place, sizeof records->place, "%s:%zu",
                 reading->sources[damage->source].path,
                 reading->lines[damage->source].line + damage->line);
        records->skipped++;
        return records_skip(records, records->context, records->place, damage->text);
    }
    for (size_t i = 0; i < reading->count; i++) {
        const struct scanned_line *line = &reading->lines[i];
        if (!add_record(records->context, &reading->sources[i], line->offset, line->bytes,
                        line->line))
            return false;
    }
    records->count++;
    return true;
}

/* Side by side, files must end together. */
static bool fail_counts(struct reading *reading)
{
    const struct scanner *scanners = reading->scanners;
    struct scanned_line line;
    for (size_t i = 0; i < reading->count; i++) {
        int found;
        while ((found = scanner_next(&reading->scanners[i], &line)) > 0)
            ;
        if (found < 0)
            return false;
    }
    size_t other = 1;
    while (scanners[other].line == scanners[0].line)
        other++;
    context_fail(
        reading->records->context, QN_ERROR_FORMAT,
        "%s has %zu lines, but %s has %zu: each line belongs to the same line of the other "
        "file",
        scanners[0].source->path, scanners[0].line - 1, scanners[other].source->path,
        scanners[other].line - 1);
    return false;
}

static bool read_to_end(struct reading *reading, struct record *record)
{
    for (;;) {
        size_t ended;
        if (next_lines(reading, record, &ended) != QN_OK)
            return false;
        if (ended > 0)
            return ended == reading->count || fail_counts(reading);
        if (!take_lines(reading, record))
            return false;
    }
}

static bool index_files(qn_records *records, size_t first, size_t count)
{
    struct record *record = &records->record;
    struct reading reading = {
        .records = records, .sources = records->sources + first, .count = count};
    for (size_t i = 0; i < count; i++) {
        reading.sources[i].first = records->count;
        reading.scanners[i] = (struct scanner){.context = records->context,
                                               .source = &reading.sources[i],
                                               .line = 1,
                                               .hash = HASH_BEGIN};
    }
    bool is_good = read_to_end(&reading, record);
    for (size_t i = 0; i < count; i++) {
        reading.sources[i].hash = reading.scanners[i].hash;
        free(reading.scanners[i].buffer);
    }
    return is_good;
}

/* ---- Opening ---- */

static bool open_source(qn_context *context, struct source *source, const char *path,
                        const char *name)
{
    struct stat status;
    source->path = text_format(context, "%s", name);
    if (!source->path)
        return false;
    /* A pipe would wait for its writer. */
    source->descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (source->descriptor < 0 || fstat(source->descriptor, &status) != 0) {
        context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", name, strerror(errno));
        return false;
    }
    source->bytes = (uint64_t)status.st_size;
    source->modified = status.st_mtim;
    const char *problem = S_ISDIR(status.st_mode) ? "it is a folder, expected a file"
                          : !S_ISREG(status.st_mode)
                              ? "it is no regular file, which examples are read from again and "
                                "again: write them to a file first"
                          : source->bytes == 0 ? "it is empty"
                          : source->bytes >= MOST_FILE_BYTES
                              ? "it is larger than a tebibyte: split it"
                              : NULL;
    if (problem)
        context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", name, problem);
    return !problem;
}

static bool open_sources(qn_records *records, const struct qn_record_options *options)
{
    records->sources = context_alloc(records->context, options->n_paths, sizeof *records->sources);
    for (size_t i = 0; records->sources && i < options->n_paths; i++)
        records->sources[records->n_sources++].descriptor = -1;
    for (size_t i = 0; i < records->n_sources; i++)
        if (!open_source(records->context, &records->sources[i], options->paths[i],
                         options->names ? options->names[i] : options->paths[i]))
            return false;
    return records->sources != NULL;
}

/* "3", counted from 1; false for what is no number. */
static bool column_of(const char *text, size_t *column)
{
    char *end;
    unsigned long number = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    *column = number - 1;
    return number > 0 && number < INT32_MAX && !*end;
}

/* Fields of QN_LINES are files, by number. */
static bool set_fields(qn_records *records, const struct qn_record_options *options)
{
    qn_context *context = records->context;
    bool is_json = options->format == QN_JSONL;
    records->n_fields = records->is_parallel ? options->n_paths : options->n_fields;
    if (options->n_paths == 0 || records->n_fields == 0 || records->n_fields > QN_MAX_FIELDS) {
        context_fail(context, QN_ERROR_INVALID,
                     "records of %zu files and %zu fields: expected at least one file, and 1 to %d "
                     "fields",
                     options->n_paths, records->n_fields, QN_MAX_FIELDS);
        return false;
    }
    for (size_t i = 0; i < records->n_fields; i++) {
        char quoted[QUOTED];
        records->fields[i] = records->is_parallel ? text_format(context, "%zu", i + 1)
                                                  : text_format(context, "%s", options->fields[i]);
        if (!records->fields[i])
            return false;
        if (is_json || column_of(records->fields[i], &records->columns[i]))
            continue;
        context_fail(context, QN_ERROR_INVALID, "field %s: expected the number of a column, from 1",
                     quote_string(quoted, records->fields[i]));
        return false;
    }
    return true;
}

static bool index_all(qn_records *records)
{
    if (records->is_parallel && !index_files(records, 0, records->n_sources))
        return false;
    for (size_t i = 0; i < records->n_sources && !records->is_parallel; i++)
        if (!index_files(records, i, 1))
            return false;
    if (!records_unchanged(records, records->context))
        return false;
    if (records->count > 0)
        return true;
    context_fail(records->context, QN_ERROR_FORMAT, "%s: no record is good, of %zu; the first: %s",
                 records->sources[0].path, records->skipped,
                 records->skipped ? records->first_damage : "there is none");
    return false;
}

qn_records *qn_records_open(qn_context *context, const struct qn_record_options *options)
{
    if (!context || !options || options->format < 0 || options->format > QN_COLUMNS ||
        (options->n_paths > 0 && !options->paths) ||
        (options->format != QN_LINES && options->n_fields > 0 && !options->fields))
        return NULL;
    qn_records *records = context_alloc(context, 1, sizeof *records);
    if (!records)
        return NULL;
    records->context = records->record.context = context;
    records->format = &record_formats[options->format];
    records->is_parallel = options->format == QN_LINES;
    records->is_strict = options->is_strict;
    records->report = options->report;
    records->user = options->user;
    if (set_fields(records, options) && open_sources(records, options) && index_all(records))
        return records;
    qn_records_close(records);
    return NULL;
}

void qn_records_close(qn_records *records)
{
    if (!records)
        return;
    for (size_t i = 0; i < records->n_sources; i++) {
        struct source *source = &records->sources[i];
        if (source->descriptor >= 0)
            close(source->descriptor);
        free(source->runs);
        free(source->spans);
        free(source->path);
    }
    for (size_t i = 0; i < QN_MAX_FIELDS; i++)
        free(records->fields[i]);
    free(records->sources);
    record_release(&records->record);
    free(records);
}

size_t qn_records_count(const qn_records *records)
{
    return records ? records->count : 0;
}

size_t qn_records_skipped(const qn_records *records)
{
    return records ? records->skipped : 0;
}

size_t qn_records_bytes(const qn_records *records, size_t file)
{
    return records && file < records->n_sources ? (size_t)records->sources[file].bytes : 0;
}

uint64_t qn_records_hash(const qn_records *records, size_t file)
{
    return records && file < records->n_sources ? records->sources[file].hash : 0;
}

/* ---- Holding out ---- */

static bool is_drawn(size_t record, double share, uint64_t seed)
{
    const uint32_t key[2] = {(uint32_t)(seed >> 32), (uint32_t)seed},
                   counter[4] = {(uint32_t)record, (uint32_t)((uint64_t)record >> 32)};
    return philox(counter, key).word[0] < share * 0x1p32;
}

/* A source of the same file without records. */
static bool copy_source(qn_context *context, const struct source *from, struct source *to)
{
    *to = (struct source){
        .descriptor = -1, .bytes = from->bytes, .modified = from->modified, .hash = from->hash};
    to->path = text_format(context, "%s", from->path);
    to->descriptor = to->path ? fcntl(from->descriptor, F_DUPFD_CLOEXEC, 0) : -1;
    if (to->path && to->descriptor < 0)
        context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", from->path, strerror(errno));
    return to->descriptor >= 0;
}

/* Moves what is drawn of a source's records, the first of which is number `first`, to another. */
static bool split_source(qn_context *context, struct source *all, struct source *held_out,
                         size_t first, double share, uint64_t seed)
{
    struct source rest = *all;
    rest.spans = NULL;
    rest.runs = NULL;
    rest.count = rest.room = rest.n_runs = rest.run_room = 0;
    bool is_good = true;
    for (size_t i = 0; is_good && i < all->count; i++)
        is_good = add_record(context, is_drawn(first + i, share, seed) ? held_out : &rest,
                             all->spans[i] >> LENGTH_BITS, all->spans[i] & MOST_RECORD_BYTES,
                             line_of(all, i));
    free(all->spans);
    free(all->runs);
    *all = rest;
    return is_good;
}

/* Numbers the records anew. */
static void count_records(qn_records *records)
{
    records->count = 0;
    for (size_t i = 0; i < records->n_sources; i++) {
        struct source *source = &records->sources[i];
        source->first = records->is_parallel ? 0 : records->count;
        records->count = records->is_parallel ? source->count : records->count + source->count;
    }
}

/* As the records are, but without any. */
static qn_records *copy_empty(const qn_records *records)
{
    qn_context *context = records->context;
    qn_records *copy = context_alloc(context, 1, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = (qn_records){.context = context,
                         .format = records->format,
                         .is_parallel = records->is_parallel,
                         .n_fields = records->n_fields,
                         .is_strict = records->is_strict,
                         .report = records->report,
                         .user = records->user,
                         .record = {.context = context}};
    memcpy(copy->columns, records->columns, sizeof copy->columns);
    copy->sources = context_alloc(context, records->n_sources, sizeof *copy->sources);
    bool is_good = copy->sources;
    for (size_t i = 0; is_good && i < records->n_fields; i++)
        is_good = (copy->fields[i] = text_format(context, "%s", records->fields[i]));
    for (size_t i = 0; is_good && i < records->n_sources; i++)
        is_good = copy_source(context, &records->sources[i], &copy->sources[copy->n_sources++]);
    if (is_good)
        return copy;
    qn_records_close(copy);
    return NULL;
}

qn_records *qn_records_hold_out(qn_records *records, double share, uint64_t seed)
{
    qn_records *held_out = records ? copy_empty(records) : NULL;
    if (!held_out)
        return NULL;
    size_t all = records->count;
    bool is_good = true;
    for (size_t i = 0; is_good && i < records->n_sources; i++)
        is_good = split_source(records->context, &records->sources[i], &held_out->sources[i],
                               records->sources[i].first, share, seed);
    count_records(records);
    count_records(held_out);
    if (is_good && records->count > 0 && held_out->count > 0)
        return held_out;
    if (is_good)
        context_fail(records->context, QN_ERROR_INVALID,
                     "%s: %s of %zu good records %s held out: hold out another share than %g",
                     records->sources[0].path, records->count ? "none" : "all", all,
                     records->count ? "is" : "are", share);
    qn_records_close(held_out);
    return NULL;
}

/* ---- Reading ---- */

bool records_unchanged(const qn_records *records, qn_context *context)
{
    for (size_t i = 0; i < records->n_sources; i++) {
        const struct source *source = &records->sources[i];
        struct stat status;
        if (fstat(source->descriptor, &status) == 0 && (uint64_t)status.st_size == source->bytes &&
            status.st_mtim.tv_sec == source->modified.tv_sec &&
            status.st_mtim.tv_nsec == source->modified.tv_nsec)
            continue;
        context_fail(context, QN_ERROR_FILE,
                     "%s has changed while it was used: open the data set again", source->path);
        return false;
    }
    return true;
}

/* Reads exactly what was there; false and an error if it is not. */
static bool read_span(const struct source *source, qn_context *context, uint64_t span, char *text)
{
    size_t bytes = span & MOST_RECORD_BYTES, done = 0;
    while (done < bytes) {
        ssize_t count = pread(source->descriptor, text + done, bytes - done,
                              (off_t)((span >> LENGTH_BITS) + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", source->path,
                         count < 0 ? strerror(errno) : "it has become shorter while it was used");
            return false;
        }
        done += (size_t)count;
    }
    text[bytes] = '\0';
    return true;
}

int records_read(const qn_records *records, size_t index, struct record *record)
{
    const struct source *source = source_of(records, index);
    size_t at = index - source->first, count = records->is_parallel ? records->n_sources : 1,
           room = 0;
    for (size_t i = 0; i < count; i++)
        room += (source[i].spans[at] & MOST_RECORD_BYTES) + 1;
    if (!record_make_room(record->context, &record->raw, &record->raw_room, room))
        return QN_ERROR_MEMORY;
    char *text = record->raw;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = source[i].spans[at] & MOST_RECORD_BYTES;
        if (!read_span(&source[i], record->context, source[i].spans[at], text))
            return QN_ERROR_FILE;
        record->raws[i] = (struct raw_text){text, bytes};
        text += bytes + 1;
    }
    int status = records_parse(records, record);
    if (status != QN_ERROR_FORMAT)
        return status;
    char place[PLACE_BYTES];
    const struct damage *damage = &record->damage;
    return context_fail(record->context, QN_ERROR_FILE,
                        "%s: %s: the file has changed while it was used: open the data set again",
                        records_place(records, index, damage->source, damage->line, place),
                        damage->text);
}

int qn_records_read(qn_records *records, size_t record, struct qn_field_text fields[QN_MAX_FIELDS])
{
    if (!records || !fields)
        return QN_ERROR_INVALID;
    if (record >= records->count)
        return context_fail(records->context, QN_ERROR_INVALID, "record %zu of %zu", record,
                            records->count);
    if (!records_unchanged(records, records->context))
        return QN_ERROR_FILE;
    int status = records_read(records, record, &records->record);
    if (status == QN_OK)
        memcpy(fields, records->record.fields, sizeof records->record.fields);
    return status;
}

/* Batches of examples: options, the first pass over all records, and what is known after it. */
#include "text/data/batches.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "text/data/labels.h"

/* ---- One example ---- */

static enum made add_labels(qn_batches *batches, const struct batch_field *field, const char *text)
{
    struct maker *maker = &batches->maker;
    size_t bytes;
    for (const char *label;
         (label = next_label(&text, field->options.is_sequence, &bytes)) != NULL;) {
        int32_t id = labels_find(field->options.labels, label, bytes);
        char quoted[QUOTED];
        if (id < 0) {
            record_damaged(&maker->record, 0, 0, "%s: %s is none of the %zu labels", field->name,
                           quote(quoted, label, bytes), qn_labels_count(field->options.labels));
            return MADE_DAMAGED;
        }
        if (!ids_append(&maker->errors, &maker->ids, &id, 1))
            return MADE_FAILED;
    }
    return MADE;
}

static enum made add_text(qn_batches *batches, const struct batch_field *field,
                          const struct qn_field_text *text)
{
    struct maker *maker = &batches->maker;
    if (tokenizer_encode(field->options.tokenizer, field->name, text->text, text->bytes,
                         (struct piece_ends){true, true}, &maker->ids))
        return MADE;
    if (maker->errors.status == QN_ERROR_MEMORY)
        return MADE_FAILED;
    record_damaged(&maker->record, 0, 0, "%s", maker->errors.error);
    qn_clear_error(&maker->errors);
    return MADE_DAMAGED;
}

enum made make_field(qn_batches *batches, size_t field)
{
    struct maker *maker = &batches->maker;
    const struct batch_field *its = &batches->fields[field];
    const struct qn_batch_field *options = &its->options;
    const struct qn_field_text *text = &maker->record.fields[field];
    struct ids *ids = &maker->ids;
    ids->count = 0;
    if (options->begin >= 0 && !ids_append(&maker->errors, ids, &options->begin, 1))
        return MADE_FAILED;
    size_t begin = ids->count;
    enum made made =
        options->labels ? add_labels(batches, its, text->text) : add_text(batches, its, text);
    if (made != MADE)
        return made;
    if (ids->count == begin) {
        record_damaged(&maker->record, 0, 0, "%s: nothing is left of it", its->name);
        return MADE_DAMAGED;
    }
    if (options->end >= 0 && !ids_append(&maker->errors, ids, &options->end, 1))
        return MADE_FAILED;
    if (options->most == 0 || ids->count <= options->most)
        return MADE;
    if (!options->cuts)
        return MADE_TOO_LONG;
    ids->count = options->most;
    if (options->end >= 0)
        ids->values[ids->count - 1] = options->end;
    return MADE;
}

const char *field_place(const qn_batches *batches, size_t record, size_t field,
                        char place[PLACE_BYTES])
{
    const qn_records *records = batches->records;
    return records_place(records, record, records->is_parallel ? field : 0, 0, place);
}

bool maker_check(qn_batches *batches)
{
    qn_context changed = {0};
    if (records_unchanged(batches->records, &changed))
        return true;
    batches->maker.errors = changed;
    return false;
}

/* ---- The first pass ---- */

/* The lengths of all examples. */
struct pass {
    struct example *examples;
    size_t count, capacity;
};

static bool is_sequence(const qn_batches *batches, size_t field)
{
    return batches->fields[field].options.is_sequence;
}

/* All of one record. */
static enum made measure_record(qn_batches *batches, size_t record, struct example *example,
                                size_t *damaged_field)
{
    size_t sequences = 0, tokens = 0;
    *example = (struct example){.record = record};
    for (size_t i = 0; i < batches->n_fields; i++) {
        enum made made = make_field(batches, i);
        *damaged_field = i;
        if (made != MADE)
            return made;
        if (!is_sequence(batches, i))
            continue;
        uint32_t *length = &example->lengths[size_min(sequences++, OTHERS)];
        *length = (uint32_t)size_max(*length, batches->maker.ids.count);
        tokens += batches->maker.ids.count;
    }
    batches->tokens += tokens;
    return MADE;
}

static bool skip_damaged(qn_batches *batches, size_t record, size_t field)
{
    char place[PLACE_BYTES];
    batches->damaged++;
    return records_skip(batches->records, &batches->maker.errors,
                        field_place(batches, record, field, place),
                        batches->maker.record.damage.text);
}

static bool take_record(qn_batches *batches, size_t record, struct pass *pass)
{
    struct maker *maker = &batches->maker;
    size_t field;
    if (records_read(batches->records, record, &maker->record) != QN_OK)
        return false;
    struct example *grown =
        context_grow(&maker->errors, pass->examples, pass->count, &pass->capacity, sizeof *grown);
    if (!grown)
        return false;
    pass->examples = grown;
    switch (measure_record(batches, record, &grown[pass->count], &field)) {
    case MADE:
        pass->count++;
        return true;
    case MADE_TOO_LONG:
        batches->too_long++;
        return true;
    case MADE_DAMAGED:
        return skip_damaged(batches, record, field);
    case MADE_FAILED:
        break;
    }
    return false;
}

static bool measure_all(qn_batches *batches, struct pass *pass)
{
    const qn_records *records = batches->records;
    bool is_good = true;
    for (size_t i = 0; i < records->count && is_good; i++)
        is_good = take_record(batches, i, pass);
    if (!maker_check(batches) || !is_good)
        return false;
    if (pass->count > 0)
        return true;
    context_fail(&batches->maker.errors, QN_ERROR_FORMAT,
                 "%s: no example is left of %zu records: %zu are longer than the most, %zu are "
                 "damaged%s%s",
                 records->sources[0].path, records->count, batches->too_long, batches->damaged,
                 batches->damaged ? "; the first: " : "",
                 batches->damaged ? records->first_damage : "");
    return false;
}

/* ---- Shapes ---- */

static int compare_examples(const void *a, const void *b)
{
    const struct example *x = a, *y = b;
    if (x->shape != y->shape)
        return x->shape < y->shape ? -1 : 1;
    for (int i = 0; i < LENGTHS; i++)
        if (x->lengths[i] != y->lengths[i])
            return x->lengths[i] < y->lengths[i] ? -1 : 1;
    return (x->record > y->record) - (x->record < y->record);
}

static void set_range(qn_batches *batches, const struct shape *shape, struct shape_range *range)
{
    size_t sequences = 0, places = 0;
    *range = (struct shape_range){.shape = {.rows = shape->rows},
                                  .first_example = batches->n_examples,
                                  .examples = shape->examples,
                                  .first_batch = batches->per_epoch,
                                  .batches = shape->batches};
    for (size_t i = 0; i < batches->n_fields; i++) {
        range->shape.length[i] =
            is_sequence(batches, i) ? shape->lengths[size_min(sequences++, OTHERS)] : 1;
        places += is_sequence(batches, i) ? range->shape.length[i] : 0;
    }
    batches->n_examples += shape->examples;
    batches->per_epoch += shape->batches;
    batches->padding += places * shape->rows * shape->batches;
}

static bool choose_shapes(qn_batches *batches, struct pass *pass)
{
    qn_context *errors = &batches->maker.errors;
    const struct shape_limits limits = {.tokens = batches->options.tokens,
                                        .rows = batches->options.rows,
                                        .shapes = batches->options.shapes};
    struct shape *shapes =
        shapes_find(errors, pass->examples, pass->count, &limits, &batches->n_shapes);
    batches->shapes =
        shapes ? context_alloc(errors, batches->n_shapes, sizeof *batches->shapes) : NULL;
    batches->examples = context_alloc(errors, pass->count, sizeof *batches->examples);
    bool is_good = batches->shapes && batches->examples;
    if (is_good) {
        for (size_t i = 0; i < batches->n_shapes; i++)
            set_range(batches, &shapes[i], &batches->shapes[i]);
        batches->padding -= batches->tokens;
        qsort(pass->examples, pass->count, sizeof *pass->examples, compare_examples);
        for (size_t i = 0; i < pass->count; i++)
            batches->examples[i] = pass->examples[i].record;
    }
    free(shapes);
    return is_good;
}

/* ---- Options ---- */

static bool check_field(qn_context *context, const struct qn_batch_field *field)
{
    const char *problem = NULL;
    size_t least = 1 + (field->begin >= 0) + (field->end >= 0);
    if (!field->name)
        problem = "has no name";
    else if (!field->tokenizer == !field->labels)
        problem = "needs a tokenizer or labels, and not both";
    else if (field->tokenizer && !field->is_sequence)
        problem = "is made by a tokenizer, but no sequence";
    else if (field->is_sequence && field->most > 0 && field->most < least)
        problem = "may be too short for a single id of its text";
    if (problem)
        context_fail(context, QN_ERROR_INVALID, "field \"%s\" %s", field->name ? field->name : "",
                     problem);
    return !problem;
}

static bool check_options(qn_records *records, const struct qn_batch_options *options)
{
    enum { MOST_ROWS = 1 << 24 };
    qn_context *context = records->context;
    if (options->n_fields != records->n_fields || !options->fields) {
        context_fail(context, QN_ERROR_INVALID, "batches of %zu fields, and records have %zu",
                     options->n_fields, records->n_fields);
        return false;
    }
    if (!options->tokens == !options->rows) {
        context_fail(context, QN_ERROR_INVALID,
                     "batches of %zu tokens and %zu rows: give one of both, and 0 for the other",
                     options->tokens, options->rows);
        return false;
    }
    if (options->rows > MOST_ROWS) {
        context_fail(context, QN_ERROR_INVALID, "batches of %zu rows: at most %d", options->rows,
                     MOST_ROWS);
        return false;
    }
    bool has_sequence = false;
    for (size_t i = 0; i < options->n_fields; i++) {
        if (!check_field(context, &options->fields[i]))
            return false;
        has_sequence |= options->fields[i].is_sequence;
    }
    if (!has_sequence)
        context_fail(context, QN_ERROR_INVALID, "no field is a sequence");
    return has_sequence;
}

/* Fields of one tokenizer share its copy. */
static bool copy_tokenizer(qn_batches *batches, const struct qn_batch_field *fields, size_t field)
{
    struct batch_field *copy = &batches->fields[field];
    const qn_tokenizer *tokenizer = fields[field].tokenizer;
    for (size_t i = 0; i < field && !copy->shares_tokenizer; i++)
        if (fields[i].tokenizer == tokenizer) {
            copy->options.tokenizer = batches->fields[i].options.tokenizer;
            copy->shares_tokenizer = true;
        }
    if (!copy->shares_tokenizer)
        copy->options.tokenizer = tokenizer_copy(tokenizer, &batches->maker.errors);
    return copy->options.tokenizer != NULL;
}

static bool copy_fields(qn_batches *batches, const struct qn_batch_field *fields)
{
    for (size_t i = 0; i < batches->records->n_fields; i++) {
        struct batch_field *copy = &batches->fields[batches->n_fields++];
        copy->options = fields[i];
        copy->options.tokenizer = NULL;
        if (!copy->options.is_sequence)
            copy->options.begin = copy->options.end = -1;
        copy->name = text_format(&batches->maker.errors, "%s", fields[i].name);
        if (!copy->name || (fields[i].tokenizer && !copy_tokenizer(batches, fields, i)))
            return false;
    }
    return true;
}

qn_batches *qn_batches_new(qn_records *records, const struct qn_batch_options *options)
{
    if (!records || !options || !check_options(records, options))
        return NULL;
    qn_batches *batches = context_alloc(records->context, 1, sizeof *batches);
    if (!batches)
        return NULL;
    batches->records = records;
    batches->options = *options;
    batches->options.fields = NULL; /* the caller's */
    batches->maker.record.context = &batches->maker.errors;
    struct pass pass = {0};
    bool is_good = copy_fields(batches, options->fields) && measure_all(batches, &pass) &&
                   choose_shapes(batches, &pass) && prefetch_start(batches);
    free(pass.examples);
    if (is_good)
        return batches;
    context_fail(records->context, batches->maker.errors.status, "%s", batches->maker.errors.error);
    qn_batches_free(batches);
    return NULL;
}

void qn_batches_free(qn_batches *batches)
{
    if (!batches)
        return;
    prefetch_stop(batches);
    for (size_t i = 0; i < batches->n_fields; i++) {
        struct batch_field *field = &batches->fields[i];
        free(field->name);
        if (!field->shares_tokenizer)
            qn_tokenizer_free(field->options.tokenizer);
    }
    record_release(&batches->maker.record);
    free(batches->maker.ids.values);
    free(batches->shapes);
    free(batches->examples);
    free(batches);
}

/* ---- What is known ---- */

size_t qn_batches_shapes(const qn_batches *batches)
{
    return batches ? batches->n_shapes : 0;
}

struct qn_batch_shape qn_batches_shape(const qn_batches *batches, size_t shape)
{
    return batches && shape < batches->n_shapes ? batches->shapes[shape].shape
                                                : (struct qn_batch_shape){0};
}

size_t qn_batches_per_epoch(const qn_batches *batches)
{
    return batches ? batches->per_epoch : 0;
}

size_t qn_batches_examples(const qn_batches *batches)
{
    return batches ? batches->n_examples : 0;
}

size_t qn_batches_skipped(const qn_batches *batches)
{
    return batches ? batches->too_long + batches->damaged : 0;
}

size_t qn_batches_tokens(const qn_batches *batches)
{
    return batches ? batches->tokens : 0;
}

size_t qn_batches_padding(const qn_batches *batches)
{
    return batches ? batches->padding : 0;
}

/* Labels: the values that a field has, as classes. */
#include "text/data/labels.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "text/data/records.h"

struct qn_labels {
    struct words words; /* their indices are classes */
    char **names;
    size_t count;
};

qn_labels *qn_labels_new(qn_context *context, const char *const *names, size_t count)
{
    if (!context || (count > 0 && !names))
        return NULL;
    if (count == 0) {
        context_fail(context, QN_ERROR_INVALID, "there are no labels");
        return NULL;
    }
    qn_labels *labels = context_alloc(context, 1, sizeof *labels);
    if (!labels)
        return NULL;
    labels->words.context = context;
    labels->names = context_alloc(context, count, sizeof *labels->names);
    labels->count = labels->names ? count : 0;
    for (size_t i = 0; i < labels->count; i++) {
        size_t length = strlen(names[i]);
        char quoted[QUOTED];
        if (length == 0 || words_find(&labels->words, names[i], length)) {
            context_fail(context, QN_ERROR_INVALID, "label %zu, %s, is %s", i,
                         quote_string(quoted, names[i]), length ? "there twice" : "empty");
            break;
        }
        labels->names[i] = text_format(context, "%s", names[i]);
        if (!labels->names[i] || !words_add(&labels->words, names[i], length))
            break;
    }
    if (labels->words.count == count)
        return labels;
    qn_labels_free(labels);
    return NULL;
}

void qn_labels_free(qn_labels *labels)
{
    if (!labels)
        return;
    for (size_t i = 0; i < labels->count; i++)
        free(labels->names[i]);
    free(labels->names);
    words_release(&labels->words);
    free(labels);
}

size_t qn_labels_count(const qn_labels *labels)
{
    return labels ? labels->count : 0;
}

const char *qn_labels_name(const qn_labels *labels, size_t label)
{
    return labels && label < labels->count ? labels->names[label] : NULL;
}

int32_t labels_find(const qn_labels *labels, const char *text, size_t bytes)
{
    const struct word *word = words_find(&labels->words, text, bytes);
    return word ? (int32_t)(word - labels->words.list) : -1;
}

int32_t qn_labels_find(const qn_labels *labels, const char *name)
{
    return labels && name ? labels_find(labels, name, strlen(name)) : -1;
}

/* ---- Of a field ---- */

const char *next_label(const char **at, bool is_sequence, size_t *bytes)
{
    const char *text = *at + (is_sequence ? strspn(*at, " \t") : 0);
    *bytes = is_sequence ? strcspn(text, " \t") : strlen(text);
    *at = text + *bytes;
    return *bytes > 0 ? text : NULL;
}

static bool add_labels(struct words *words, const char *text, bool is_sequence, size_t most)
{
    size_t bytes;
    for (const char *label; (label = next_label(&text, is_sequence, &bytes));) {
        if (!words_add(words, label, bytes))
            return false;
        if (words->count <= most)
            continue;
        char quoted[QUOTED];
        context_fail(words->context, QN_ERROR_FORMAT,
                     "more than %zu different labels, the last of them %s: is it the right field?",
                     most, quote(quoted, label, bytes));
        return false;
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Classes in the order of their names' bytes. */
static qn_labels *sorted_labels(const struct words *words)
{
    char **names = context_alloc(words->context, words->count, sizeof *names);
    bool is_good = names != NULL;
    for (size_t i = 0; i < words->count && is_good; i++) {
        const struct word *word = &words->list[i];
        names[i] = text_format(words->context, "%.*s", (int)word->length, word_bytes(words, word));
        is_good = names[i] != NULL;
    }
    if (is_good)
        qsort(names, words->count, sizeof *names, compare_names);
    qn_labels *labels =
        is_good ? qn_labels_new(words->context, (const char *const *)names, words->count) : NULL;
    for (size_t i = 0; names && i < words->count; i++)
        free(names[i]);
    free(names);
    return labels;
}

static qn_labels *collect(qn_records *records, size_t field, bool is_sequence, size_t most)
{
    if (!records)
        return NULL;
    if (field >= records->n_fields) {
        context_fail(records->context, QN_ERROR_INVALID, "labels of field %zu of %zu", field,
                     records->n_fields);
        return NULL;
    }
    struct words words = {.context = records->context};
    bool is_good = records_unchanged(records, records->context);
    for (size_t i = 0; i < records->count && is_good; i++)
        is_good = records_read(records, i, &records->record) == QN_OK &&
                  add_labels(&words, records->record.fields[field].text, is_sequence,
                             size_min(most, INT32_MAX));
    qn_labels *labels = is_good ? sorted_labels(&words) : NULL;
    words_release(&words);
    return labels;
}

qn_labels *qn_labels_of(qn_records *records, size_t field, size_t most)
{
    return collect(records, field, false, most);
}

qn_labels *qn_labels_of_words(qn_records *records, size_t field, size_t most)
{
    return collect(records, field, true, most);
}

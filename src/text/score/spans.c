/* Scores of spans that tags mark, as conlleval and seqeval find them. */
#include <quern/score.h>

#include <stdlib.h>

#include <quern/text.h>

#include "io/file.h"
#include "text/score/spans.h"
#include "text/score/pieces.h"

struct span {
    struct piece type;
    size_t first, last;
};

struct found {
    struct span *spans;
    size_t count, capacity;
};

struct type {
    char *name;
    size_t support, predicted, correct;
};

struct qn_spans {
    qn_context *context;
    bool strict;
    size_t sentences, tags, right_tags;
    struct type *types; /* sorted by name */
    size_t n_types, capacity;
    struct found gold, predicted; /* of the sentence being added */
};

qn_spans *qn_spans_new(qn_context *context, bool strict)
{
    qn_spans *spans = context ? context_alloc(context, 1, sizeof *spans) : NULL;
    if (!spans)
        return NULL;
    spans->context = context;
    spans->strict = strict;
    return spans;
}

void qn_spans_free(qn_spans *spans)
{
    if (!spans)
        return;
    for (size_t i = 0; i < spans->n_types; i++)
        free(spans->types[i].name);
    free(spans->types);
    free(spans->gold.spans);
    free(spans->predicted.spans);
    free(spans);
}

/* ---- Tags ---- */

const char *tag_forms(bool strict)
{
    return strict ? "O, B-TYPE or I-TYPE" : "O, B-TYPE, I-TYPE, E-TYPE or S-TYPE";
}

bool is_tag(const char *tag, bool strict)
{
    if (strcmp(tag, "O") == 0)
        return true;
    return *tag && strchr(strict ? "BI" : "BIES", *tag) && (tag[1] == '\0' || tag[1] == '-');
}

/* A tag without a type has the type "_". */
static struct piece type_of(const char *tag, bool strict)
{
    const char *type = tag + (tag[1] == '-' ? 2 : 1);
    size_t bytes = strlen(type);
    while (strict && *type == '-') { /* seqeval strips dashes here, and only here */
        type++;
        bytes--;
    }
    while (strict && bytes > 0 && type[bytes - 1] == '-')
        bytes--;
    return bytes > 0 ? (struct piece){type, bytes} : (struct piece){"_", 1};
}

static bool add_span(qn_context *context, struct found *found, struct span span)
{
    struct span *grown =
        context_grow(context, found->spans, found->count, &found->capacity, sizeof *grown);
    if (!grown)
        return false;
    found->spans = grown;
    grown[found->count++] = span;
    return true;
}

/* Whether a tag goes on with the span of the tag before it, which is not O. */
static bool goes_on(const char *tag, const char *before, bool strict)
{
    bool is_inside = *tag == 'I' || (*tag == 'E' && !strict);
    bool is_open = *before == 'B' || *before == 'I';
    return is_inside && is_open && same_piece(type_of(tag, strict), type_of(before, strict));
}

static bool find_spans(qn_context *context, const char *const *tags, size_t count, bool strict,
                       struct found *found)
{
    bool is_open = false; /* the last span ends with the tag before */
    found->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_open && goes_on(tags[i], tags[i - 1], strict)) {
            found->spans[found->count - 1].last = i;
            continue;
        }
        is_open = *tags[i] != 'O' && (!strict || *tags[i] == 'B');
        if (is_open && !add_span(context, found, (struct span){type_of(tags[i], strict), i, i}))
            return false;
    }
    return true;
}

/* ---- A sentence ---- */

/* The index of a type, or where it belongs. */
static size_t place_of_type(const qn_spans *spans, struct piece name, bool *is_there)
{
    size_t low = 0, high = spans->n_types;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *other = spans->types[middle].name;
        int order = strncmp(other, name.text, name.bytes);
        order = order != 0 ? order : other[name.bytes] != '\0';
        if (order == 0) {
            *is_there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_there = false;
    return low;
}

static bool add_type(qn_spans *spans, struct piece name)
{
    bool is_there;
    size_t at = place_of_type(spans, name, &is_there);
    if (is_there)
        return true;
    struct type *grown =
        context_grow(spans->context, spans->types, spans->n_types, &spans->capacity, sizeof *grown);
    if (!grown)
        return false;
    spans->types = grown;
    char *copy = text_format(spans->context, "%.*s", (int)name.bytes, name.text);
    if (!copy)
        return false;
    memmove(grown + at + 1, grown + at, (spans->n_types - at) * sizeof *grown);
    grown[at] = (struct type){.name = copy};
    spans->n_types++;
    return true;
}

static bool add_types(qn_spans *spans, const struct found *found)
{
    for (size_t i = 0; i < found->count; i++)
        if (!add_type(spans, found->spans[i].type))
            return false;
    return true;
}

static struct type *type_named(qn_spans *spans, struct piece name)
{
    bool is_there;
    return &spans->types[place_of_type(spans, name, &is_there)];
}

/* Spans of one side do not overlap, and come in order. */
static void count_spans(qn_spans *spans)
{
    const struct found *gold = &spans->gold, *predicted = &spans->predicted;
    for (size_t i = 0; i < gold->count; i++)
        type_named(spans, gold->spans[i].type)->support++;
    for (size_t i = 0, j = 0; i < predicted->count; i++) {
        const struct span *span = &predicted->spans[i];
        struct type *type = type_named(spans, span->type);
        type->predicted++;
        while (j < gold->count && gold->spans[j].first < span->first)
            j++;
        const struct span *other = &gold->spans[j];
        type->correct += j < gold->count && other->first == span->first &&
                         other->last == span->last && same_piece(other->type, span->type);
    }
}

static int check_tags(const qn_spans *spans, const char *side, const char *const *tags,
                      size_t count)
{
    char quoted[QUOTED];
    for (size_t i = 0; i < count; i++)
        if (!tags[i] || !is_tag(tags[i], spans->strict))
            return context_fail(spans->context, QN_ERROR_FORMAT,
                                "tag %zu of sentence %zu, %s: expected %s, found %s", i + 1,
                                spans->sentences + 1, side, tag_forms(spans->strict),
                                quote_string(quoted, tags[i] ? tags[i] : ""));
    return QN_OK;
}

int qn_spans_add(qn_spans *spans, const char *const *gold, const char *const *predicted,
                 size_t count)
{
    if (!spans || (count > 0 && (!gold || !predicted)))
        return QN_ERROR_INVALID;
    qn_context *context = spans->context;
    if (check_tags(spans, "gold", gold, count) != QN_OK ||
        check_tags(spans, "predicted", predicted, count) != QN_OK ||
        !find_spans(context, gold, count, spans->strict, &spans->gold) ||
        !find_spans(context, predicted, count, spans->strict, &spans->predicted) ||
        !add_types(spans, &spans->gold) || !add_types(spans, &spans->predicted))
        return context->status;
    count_spans(spans);
    for (size_t i = 0; i < count; i++)
        spans->right_tags += strcmp(gold[i], predicted[i]) == 0;
    spans->tags += count;
    spans->sentences++;
    return QN_OK;
}

/* ---- The result ---- */

struct qn_span_type qn_spans_type(const qn_spans *spans, size_t index)
{
    const struct type *type = &spans->types[index];
    return (struct qn_span_type){
        .name = type->name,
        .ratios = ratios_of((double)type->correct, (double)type->predicted, (double)type->support),
        .support = type->support,
        .predicted = type->predicted,
        .correct = type->correct,
    };
}

struct qn_spans_result qn_spans_result(const qn_spans *spans)
{
    struct qn_spans_result result = {0};
    if (!spans)
        return result;
    for (size_t i = 0; i < spans->n_types; i++) {
        result.support += spans->types[i].support;
        result.predicted += spans->types[i].predicted;
        result.correct += spans->types[i].correct;
    }
    for (size_t i = 0; i < spans->n_types; i++) {
        struct qn_span_type type = qn_spans_type(spans, i);
        ratios_add(&result.macro, type.ratios, 1 / (double)spans->n_types);
        ratios_add(&result.weighted, type.ratios,
                   ratio((double)type.support, (double)result.support));
    }
    result.micro =
        ratios_of((double)result.correct, (double)result.predicted, (double)result.support);
    result.accuracy = ratio((double)spans->right_tags, (double)spans->tags);
    result.tags = spans->tags;
    result.types = spans->n_types;
    return result;
}

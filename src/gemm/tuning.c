/* The tuning file. */
#include "gemm/tuning.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "device/cache.h"
#include "device/context.h"
#include "graph/plan.h"
#include "io/file.h"

#define FORMAT "quern tuning 1"

enum { MAX_BYTES = 1 << 18, WORDS = 5, MOST_CHOICES_TEXT = 256 };
static const size_t most_size = (size_t)1 << 31;

const struct tuning_choice tuning_choices[] = {
    {"clblast", "clblast", 0},   {"matrix/128", "matrix", 128},
    {"matrix/64", "matrix", 64}, {"cpu_bf16", "cpu_bf16", 0},
    {"cpu", "cpu", 0},           {"skinny", "skinny", 0},
    {"split/128", "split", 128}, {"split/64", "split", 64},
    {"split/32", "split", 32},   {"subgroup", "subgroup", 0},
    {"tiled/128", "tiled", 128}, {"tiled/64", "tiled", 64},
    {"tiled/32", "tiled", 32},
};

struct word {
    const char *text;
    size_t length;
};

struct entry {
    struct tuning_class of;
    const struct tuning_choice *choice; /* NULL: "default" */
    struct word line;                   /* of the file's text */
};

struct tuning {
    struct entry *entries;
    size_t count, capacity;
    char *text;             /* of the file; NULL: there is none */
    char hash[DIGEST_TEXT]; /* of its bytes */
};

/* ---- Classes ---- */

static size_t power_above(size_t size)
{
    size_t power = 1;
    while (power < size && power < most_size)
        power *= 2;
    return power;
}

struct tuning_class tuning_class_of(enum qn_type type, const struct gemm_problem *problem)
{
    return (struct tuning_class){.type = type,
                                 .transpose_a = problem->transpose_a,
                                 .transpose_b = problem->transpose_b,
                                 .m = power_above(problem->m),
                                 .n = power_above(problem->n),
                                 .k = power_above(problem->k)};
}

bool tuning_class_equal(const struct tuning_class *a, const struct tuning_class *b)
{
    return a->type == b->type && a->transpose_a == b->transpose_a &&
           a->transpose_b == b->transpose_b && a->m == b->m && a->n == b->n && a->k == b->k;
}

const char *tuning_class_text(char text[TUNING_TEXT], const struct tuning_class *of)
{
    snprintf(text, TUNING_TEXT, "matmul %s %c%c %zux%zux%zu", qn_type_name(of->type),
             of->transpose_a ? 'T' : 'N', of->transpose_b ? 'T' : 'N', of->m, of->n, of->k);
    return text;
}

static const struct entry *find(const struct tuning *tuning, const struct tuning_class *of)
{
    for (size_t i = 0; tuning && i < tuning->count; i++)
        if (tuning_class_equal(&tuning->entries[i].of, of))
            return &tuning->entries[i];
    return NULL;
}

const struct tuning_choice *tuning_find(const struct tuning *tuning, const struct tuning_class *of)
{
    const struct entry *entry = find(tuning, of);
    return entry ? entry->choice : NULL;
}

static int add(qn_context *context, struct tuning *tuning, const struct entry *entry)
{
    struct entry *entries =
        context_grow(context, tuning->entries, tuning->count, &tuning->capacity, sizeof *entries);
    if (!entries)
        return QN_ERROR_MEMORY;
    tuning->entries = entries;
    entries[tuning->count++] = *entry;
    return QN_OK;
}

/* ---- Reading ---- */

struct reader {
    qn_context *context;
    struct tuning *tuning;
    const char *path, *at, *end; /* at: what is not read yet */
    size_t number;               /* of the line, from 1 */
    struct word line;            /* without white space around it */
};

static int fail_as(const struct reader *reader, enum qn_status status, const char *expected,
                   struct word found)
{
    char quoted[QUOTED];
    return context_fail(reader->context, status, "tuning file %s, line %zu: expected %s, found %s",
                        reader->path, reader->number, expected,
                        found.length ? quote(quoted, found.text, found.length) : "nothing");
}

static int fail(const struct reader *reader, const char *expected, struct word found)
{
    return fail_as(reader, QN_ERROR_FORMAT, expected, found);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct word trimmed(const char *begin, const char *end)
{
    while (begin < end && is_blank(*begin))
        begin++;
    while (begin < end && is_blank(end[-1]))
        end--;
    return (struct word){begin, (size_t)(end - begin)};
}

/* The next line that says something; an empty one at the end. */
static bool next_line(struct reader *reader)
{
    do {
        const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
        const char *end = newline ? newline : reader->end;
        reader->line = trimmed(reader->at, end);
        reader->number += reader->at < reader->end || reader->number == 0;
        reader->at = newline ? end + 1 : end;
    } while ((reader->line.length == 0 || *reader->line.text == '#') && reader->at < reader->end);
    return reader->line.length > 0 && *reader->line.text != '#';
}

/* Takes the first word off a text. */
static struct word take_word(struct word *text)
{
    const char *end = text->text + text->length, *at = text->text;
    while (at < end && !is_blank(*at))
        at++;
    struct word word = {text->text, (size_t)(at - text->text)};
    *text = trimmed(at, end);
    return word;
}

static bool is_word(struct word word, const char *text)
{
    return word.length == strlen(text) && memcmp(word.text, text, word.length) == 0;
}

static int read_type(const struct reader *reader, struct word word, enum qn_type *type)
{
    static const enum qn_type types[] = {QN_F32, QN_F16, QN_BF16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (is_word(word, qn_type_name(types[i]))) {
            *type = types[i];
            return QN_OK;
        }
    }
    return fail(reader, "f32, f16 or bf16", word);
}

static int read_transposition(const struct reader *reader, struct word word,
                              struct tuning_class *of)
{
    static const char *const names[] = {"NN", "NT", "TN", "TT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_word(word, names[i])) {
            of->transpose_a = names[i][0] == 'T';
            of->transpose_b = names[i][1] == 'T';
            return QN_OK;
        }
    }
    return fail(reader, "NN, NT, TN or TT", word);
}

/* MxNxK.  A NUL follows the file's text, so that no number ends beyond it. */
static int read_sizes(const struct reader *reader, struct word word, struct tuning_class *of)
{
    size_t *const sizes[] = {&of->m, &of->n, &of->k};
    const char *at = word.text, *end = word.text + word.length;
    bool is_good = true;
    for (size_t i = 0; is_good && i < 3; i++) {
        char *after;
        unsigned long long size =
            at < end && isdigit((unsigned char)*at) ? strtoull(at, &after, 10) : 0;
        is_good = size > 0 && size <= most_size && (size & (size - 1)) == 0 &&
                  (i == 2 ? after == end : *after == 'x');
        *sizes[i] = (size_t)size;
        at = is_good ? after + 1 : at;
    }
    return is_good ? QN_OK : fail(reader, "sizes MxNxK, powers of two up to 2147483648", word);
}

static int read_choice(const struct reader *reader, struct word word,
                       const struct tuning_choice **choice)
{
    char names[MOST_CHOICES_TEXT] = "one of default";
    if (is_word(word, "default")) {
        *choice = NULL;
        return QN_OK;
    }
    for (size_t i = 0; i < TUNING_CHOICES; i++) {
        if (is_word(word, tuning_choices[i].name)) {
            *choice = &tuning_choices[i];
            return QN_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, ", %s", tuning_choices[i].name);
    }
    return fail(reader, names, word);
}

static int read_entry(struct reader *reader)
{
    struct word rest = reader->line, words[WORDS];
    for (size_t i = 0; i < WORDS; i++)
        words[i] = take_word(&rest);
    struct entry entry = {.line = reader->line};
    if (!is_word(words[0], "matmul"))
        return fail(reader, "matmul", words[0]);
    int status = read_type(reader, words[1], &entry.of.type);
    if (status == QN_OK)
        status = read_transposition(reader, words[2], &entry.of);
    if (status == QN_OK)
        status = read_sizes(reader, words[3], &entry.of);
    if (status == QN_OK)
        status = read_choice(reader, words[4], &entry.choice);
    if (status == QN_OK && find(reader->tuning, &entry.of))
        status = fail(reader, "each class of products once", reader->line);
    return status == QN_OK ? add(reader->context, reader->tuning, &entry) : status;
}

/* The device's name on one line, and of which class it pretends to be, as choices for one are none for the other; free() it. */
static char *device_line(qn_context *context)
{
    const struct device *device = context->device;
    enum qn_class class = context->caps.device_class;
    const char *pretended = !device || class == device->info.caps.device_class ? ""
                            : class == QN_GPU ? ", with kernels for GPUs"
                                              : ", with kernels for CPUs";
    char *line = text_format(context, "%s%s", qn_device_name(context), pretended);
    size_t length = line ? strlen(line) : 0;
    for (size_t i = 0; i < length; i++)
        if (iscntrl((unsigned char)line[i]))
            line[i] = ' ';
    while (length > 0 && line[length - 1] == ' ')
        line[--length] = '\0';
    return line;
}

char *tuning_head(qn_context *context)
{
    char *device = device_line(context);
    char *head = device ? text_format(context, FORMAT "\ndevice %s\n", device) : NULL;
    free(device);
    return head;
}

static int read_device(struct reader *reader)
{
    next_line(reader);
    struct word found = reader->line;
    if (!is_word(take_word(&found), "device"))
        return fail(reader, "device, and its name", reader->line);
    char *device = device_line(reader->context), here[QUOTED], there[QUOTED];
    if (!device)
        return QN_ERROR_MEMORY;
    int status = QN_OK;
    if (!is_word(found, device))
        status = context_fail(reader->context, QN_ERROR_INVALID,
                              "tuning file %s, line %zu: it is for %s, but this is %s: make one "
                              "for this device and driver by `quern tune`, or unset QUERN_TUNING",
                              reader->path, reader->number, quote(there, found.text, found.length),
                              quote_string(here, device));
    free(device);
    return status;
}

static int read_all(struct reader *reader)
{
    next_line(reader);
    if (!is_word(reader->line, FORMAT)) {
        struct word found = reader->line;
        bool is_one = is_word(take_word(&found), "quern") && is_word(take_word(&found), "tuning");
        return fail_as(reader, is_one ? QN_ERROR_INVALID : QN_ERROR_FORMAT, "\"" FORMAT "\"",
                       reader->line);
    }
    int status = read_device(reader);
    while (status == QN_OK && next_line(reader))
        status = read_entry(reader);
    return status;
}

int tuning_open(qn_context *context, const char *path)
{
    if (!path && context->device)
        path = getenv("QUERN_TUNING");
    if (!path || !*path)
        return QN_OK;
    size_t bytes;
    char *text = file_read(context, path, MAX_BYTES, &bytes);
    if (!text)
        return context->status;
    struct tuning *tuning = context->tuning = context_alloc(context, 1, sizeof *tuning);
    if (!tuning) {
        free(text);
        return QN_ERROR_MEMORY;
    }
    tuning->text = text;
    digest_hex(tuning->hash, digest_bytes(digest_start(), text, bytes));
    struct reader reader = {
        .context = context, .tuning = tuning, .path = path, .at = text, .end = text + bytes};
    return read_all(&reader);
}

struct tuning *tuning_take(qn_context *context)
{
    struct tuning *tuning = context->tuning;
    context->tuning = NULL;
    return tuning;
}

bool tuning_line(const struct tuning *tuning, size_t index, struct tuning_line *line)
{
    if (!tuning || index >= tuning->count)
        return false;
    const struct entry *entry = &tuning->entries[index];
    *line = (struct tuning_line){.of = entry->of,
                                 .choice = entry->choice,
                                 .text = entry->line.text,
                                 .length = (int)entry->line.length};
    return true;
}

/* ---- Trials ---- */

int tuning_try(qn_context *context, const struct tuning_class *of,
               const struct tuning_choice *choice)
{
    tuning_free(tuning_take(context));
    if (!choice)
        return QN_OK;
    context->tuning = context_alloc(context, 1, sizeof *context->tuning);
    return context->tuning
               ? add(context, context->tuning, &(struct entry){.of = *of, .choice = choice})
               : QN_ERROR_MEMORY;
}

static const struct step *step_of_product(const qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i]->variant && strcmp(plan->steps[i]->node->op->name, "matmul") == 0)
            return plan->steps[i];
    return NULL;
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool tuning_is_same(const qn_plan *plan_a, const qn_plan *plan_b)
{
    const struct step *a = step_of_product(plan_a), *b = step_of_product(plan_b);
    bool is_same = a && b && a->variant == b->variant && a->n_commands == b->n_commands;
    for (size_t i = 0; is_same && i < a->n_commands; i++)
        is_same = is_same_text(a->commands[i].name, b->commands[i].name) &&
                  is_same_text(a->commands[i].defines, b->commands[i].defines);
    return is_same;
}

const char *tuning_variant(const qn_plan *plan)
{
    const struct step *step = step_of_product(plan);
    return step ? step->variant->name : NULL;
}

/* ---- The rest ---- */

void tuning_free(struct tuning *tuning)
{
    if (!tuning)
        return;
    free(tuning->entries);
    free(tuning->text);
    free(tuning);
}

const char *qn_tuning_hash(const qn_context *context)
{
    return context->tuning ? context->tuning->hash : "";
}

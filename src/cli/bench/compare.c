/* quern bench compare: the rows of two JSON files side by side.  Files are checked before use. */
#include "cli/bench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES = 2 };

/* Ratios that lie within this of 1, with their whole interval, are called the same. */
static const double same_within = 0.03;

/* ---- Reading ---- */

struct result {
    const char *id, *reason; /* reason: why it is void; NULL: it is not */
    const char *unit;        /* "": none */
    double amount;           /* of the unit, in a run; 0: none */
    struct estimate median, quiet;
};

struct file {
    const char *path;
    json_t *json; /* has the strings of the results */
    struct result *results;
    size_t n_results;
    char message[512]; /* what is wrong with it, and where */
};

static bool wrong(struct file *file, const char *format, ...) CLI_FORMAT(2, 3);

static bool wrong(struct file *file, const char *format, ...)
{
    int used = snprintf(file->message, sizeof file->message, "%s: ", file->path);
    if (used < 0 || (size_t)used >= sizeof file->message)
        return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(file->message + used, sizeof file->message - (size_t)used, format, arguments);
    va_end(arguments);
    for (char *p = file->message; *p; p++) /* jansson quotes what it does not understand */
        if ((unsigned char)*p < ' ' || *p == 0x7F)
            *p = '?';
    return false;
}

/* What a run can take, and whose ratios are finite. */
static bool is_seconds(const json_t *value)
{
    return json_is_number(value) && json_number_value(value) > 1e-12 &&
           json_number_value(value) < 1e9;
}

static bool read_estimate(struct file *file, const json_t *json, const char *name,
                          const char *interval, struct estimate *estimate)
{
    const json_t *value = json_object_get(json, name), *bounds = json_object_get(json, interval);
    const json_t *low = json_array_get(bounds, 0), *high = json_array_get(bounds, 1);
    size_t index = file->n_results;
    if (!is_seconds(value))
        return wrong(file, "results[%zu].%s is no time in seconds", index, name);
    if (json_array_size(bounds) != 2 || !is_seconds(low) || !is_seconds(high))
        return wrong(file, "results[%zu].%s is no pair of times in seconds", index, interval);
    *estimate = (struct estimate){json_number_value(value), json_number_value(low),
                                  json_number_value(high)};
    if (estimate->low > estimate->value || estimate->value > estimate->high)
        return wrong(file, "results[%zu].%s is not around %s", index, interval, name);
    return true;
}

/* Ids are printed: letters, digits and a few signs. */
static bool is_id(const char *id)
{
    return id && *id && strlen(id) < ROW_ID &&
           id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+- ")] ==
               '\0';
}

static bool read_figures(struct file *file, const json_t *json, struct result *result)
{
    const json_t *amount = json_object_get(json, "amount");
    const char *unit = json_string_value(json_object_get(json, "unit"));
    result->unit = unit ? unit : "";
    if (amount && !json_is_null(amount) && !json_is_number(amount))
        return wrong(file, "results[%zu].amount is no number", file->n_results);
    result->amount = json_number_value(amount);
    return read_estimate(file, json, "median_s", "median_ci_s", &result->median) &&
           read_estimate(file, json, "quiet_s", "quiet_ci_s", &result->quiet);
}

static const struct result *find_result(const struct file *file, const char *id)
{
    for (size_t i = 0; i < file->n_results; i++)
        if (strcmp(file->results[i].id, id) == 0)
            return &file->results[i];
    return NULL;
}

static bool read_result(struct file *file, const json_t *json)
{
    const char *status = json_string_value(json_object_get(json, "status"));
    const char *reason = json_string_value(json_object_get(json, "reason"));
    struct result *result = &file->results[file->n_results];
    result->id = json_string_value(json_object_get(json, "id"));
    if (!is_id(result->id))
        return wrong(file, "results[%zu].id is no name of a row", file->n_results);
    if (find_result(file, result->id))
        return wrong(file, "results[%zu]: there is a row %s already", file->n_results, result->id);
    if (status && strcmp(status, "void") == 0)
        result->reason = reason ? reason : "no reason given";
    else if (!status || strcmp(status, "ok") != 0)
        return wrong(file, "results[%zu].status is neither ok nor void", file->n_results);
    else if (!read_figures(file, json, result))
        return false;
    file->n_results++;
    return true;
}

static bool read_file(struct file *file, const char *path)
{
    static const char schema[] = "quern.bench/1";
    json_error_t error;
    file->path = path;
    file->json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!file->json && error.line > 0)
        return wrong(file, "line %d: %s", error.line, error.text);
    if (!file->json)
        return wrong(file, "%s", error.text);
    const char *found = json_string_value(json_object_get(file->json, "schema"));
    if (!found || strcmp(found, schema) != 0)
        return wrong(file, "no report of quern bench: its schema is not \"%s\"", schema);
    const json_t *list = json_object_get(file->json, "results");
    if (!json_is_array(list))
        return wrong(file, "results is no list");
    file->results = calloc(json_array_size(list) + 1, sizeof *file->results);
    if (!file->results)
        return wrong(file, "out of memory");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!read_result(file, json_array_get(list, i)))
            return false;
    return true;
}

/* ---- Verdicts ---- */

enum verdict { FASTER, SLOWER, SAME, UNCLEAR, NOT_COMPARABLE, VERDICTS };

static const char *const verdict_names[VERDICTS] = {"faster", "slower", "same", "unclear",
                                                    "not comparable"};

struct comparison {
    const struct result *a, *b;
    struct estimate ratio; /* of quiet times, B / A */
    enum verdict verdict;
};

/* `control` holds the ratios that the machine itself explains. */
static enum verdict verdict_of(const struct estimate *ratio, const struct estimate *control)
{
    if (ratio->low >= 1 / (1 + same_within) && ratio->high <= 1 + same_within)
        return SAME;
    if (ratio->low > fmax(1, control->high))
        return SLOWER;
    return ratio->high < fmin(1, control->low) ? FASTER : UNCLEAR;
}

/* The interval holds all ratios of a time in B's interval to one in A's. */
static struct estimate ratio_of(const struct result *a, const struct result *b)
{
    return (struct estimate){b->quiet.value / a->quiet.value, b->quiet.low / a->quiet.high,
                             b->quiet.high / a->quiet.low};
}

static bool is_same_value(const json_t *a, const json_t *b)
{
    return (!a && !b) || json_equal(a, b);
}

/* Whether both files are of one device, with one driver and one kind of kernels. */
static bool is_same_device(const struct file *a, const struct file *b)
{
    static const char *const keys[] = {"platform", "device", "driver", "class", "float_width"};
    const json_t *of_a = json_object_get(a->json, "device"),
                 *of_b = json_object_get(b->json, "device");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!is_same_value(json_object_get(of_a, keys[i]), json_object_get(of_b, keys[i])))
            return false;
    return of_a && of_b;
}

/* Then fma is the same code at work in registers: where it differs, the machine was not the same.  1 if
 * that cannot be known. */
static struct estimate control_of(const struct file *a, const struct file *b)
{
    const struct result *of_a = find_result(a, PEAK "fma"), *of_b = find_result(b, PEAK "fma");
    if (!is_same_device(a, b) || !of_a || !of_b || of_a->reason || of_b->reason)
        return (struct estimate){1, 1, 1};
    return ratio_of(of_a, of_b);
}

static struct comparison compare_results(const struct result *a, const struct result *b,
                                         const struct estimate *control)
{
    struct comparison comparison = {a, b, ratio_of(a, b), NOT_COMPARABLE};
    if (strcmp(a->unit, b->unit) == 0 && a->amount == b->amount)
        comparison.verdict = verdict_of(&comparison.ratio, control);
    return comparison;
}

/* Rows that both have and that are not void, in A's order. */
static size_t compare_files(const struct file *a, const struct file *b, struct comparison *found)
{
    struct estimate control = control_of(a, b);
    size_t count = 0;
    for (size_t i = 0; i < a->n_results; i++) {
        const struct result *other = find_result(b, a->results[i].id);
        if (other && !a->results[i].reason && !other->reason)
            found[count++] = compare_results(&a->results[i], other, &control);
    }
    return count;
}

/* ---- What differs ---- */

static void print_cell(const json_t *value)
{
    char *text = NULL;
    putchar(' ');
    if (json_is_string(value))
        print_cell_text(json_string_value(value));
    else if (value && (text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT)))
        print_cell_text(text);
    free(text);
    fputs(" |", stdout);
}

/* Adds the keys of a section whose values differ to `differing`, as [A's, B's]. */
static void add_differing(json_t *differing, const struct file *files, const char *section)
{
    json_t *sections[FILES];
    for (size_t i = 0; i < FILES; i++)
        sections[i] = json_object_get(files[i].json, section);
    for (size_t i = 0; i < FILES; i++) {
        const char *key;
        json_t *value;
        json_object_foreach (sections[i], key, value) {
            json_t *a = json_object_get(sections[0], key), *b = json_object_get(sections[1], key);
            char name[256];
            snprintf(name, sizeof name, "%s.%s", section, key);
            if (!is_same_value(a, b))
                json_object_set_new(
                    differing, name,
                    json_pack("[O?, O?]", a ? a : json_null(), b ? b : json_null()));
        }
    }
}

static json_t *differing_of(const struct file *files)
{
    static const char *const sections[] = {"build", "device", "env", "options", "host"};
    json_t *differing = json_object();
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        add_differing(differing, files, sections[i]);
    return differing;
}

static void print_differing(const struct file *files, json_t *differing)
{
    const char *key;
    json_t *pair;
    printf("| | A: ");
    print_cell_text(files[0].path);
    printf(" | B: ");
    print_cell_text(files[1].path);
    printf(" |\n|---|---|---|\n| finished |");
    for (size_t i = 0; i < FILES; i++)
        print_cell(json_object_get(files[i].json, "finished"));
    printf("\n");
    json_object_foreach (differing, key, pair) {
        printf("| ");
        print_cell_text(key);
        printf(" |");
        print_cell(json_array_get(pair, 0));
        print_cell(json_array_get(pair, 1));
        printf("\n");
    }
}

/* ---- The report for reading ---- */

static void print_median(const struct result *result)
{
    printf(" %.4g ± %.2g |", 1e3 * result->median.value,
           1e3 * (result->median.high - result->median.low) / 2);
}

static void print_rows(const struct comparison *rows, size_t count)
{
    printf("\n| row | A ms | B ms | B/A | interval | verdict |\n|---|--:|--:|--:|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        const struct comparison *row = &rows[i];
        printf("| %s |", row->a->id);
        print_median(row->a);
        print_median(row->b);
        if (row->verdict == NOT_COMPARABLE)
            printf(" | | not comparable: not the same work |\n");
        else
            printf(" %.3f | %.3f to %.3f | %s |\n", row->ratio.value, row->ratio.low,
                   row->ratio.high, verdict_names[row->verdict]);
    }
}

static void print_void(const struct file *file, char name)
{
    for (size_t i = 0; i < file->n_results; i++) {
        if (!file->results[i].reason)
            continue;
        printf("- %s is void in %c: ", file->results[i].id, name);
        print_cell_text(file->results[i].reason);
        printf("\n");
    }
}

static void print_only(const struct file *file, const struct file *other, char name)
{
    for (size_t i = 0; i < file->n_results; i++)
        if (!find_result(other, file->results[i].id))
            printf("- %s is in %c only\n", file->results[i].id, name);
}

static void print_summary(const struct comparison *rows, size_t count,
                          const struct estimate *control)
{
    size_t counts[VERDICTS] = {0};
    for (size_t i = 0; i < count; i++)
        counts[rows[i].verdict]++;
    printf("\n%zu rows", count);
    for (size_t i = 0; i < VERDICTS; i++)
        if (counts[i])
            printf(", %zu %s", counts[i], verdict_names[i]);
    printf(".\nms: medians of rounds; B/A: of times in quiet rounds, above 1 B is slower.\n");
    if (counts[FASTER] || counts[SLOWER])
        printf(
            "Of rows in which nothing changed, about one in forty was called faster or slower on a "
            "shared machine.\n");
    if (control->low > 1 + same_within || control->high < 1 / (1 + same_within))
        printf(
            "fma itself took %.2f times as long in B: the machine was not the same in both runs.\n"
            "Only what goes beyond that is called faster or slower: measure again, on an idle "
            "machine.\n",
            control->value);
}

/* ---- The report for programs ---- */

static json_t *figures_json(const struct result *result)
{
    return json_pack("{s:f, s:[f, f], s:f, s:[f, f]}", "median_s", result->median.value,
                     "median_ci_s", result->median.low, result->median.high, "quiet_s",
                     result->quiet.value, "quiet_ci_s", result->quiet.low, result->quiet.high);
}

static json_t *rows_json(const struct comparison *rows, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct comparison *row = &rows[i];
        json_t *object = json_pack("{s:s, s:s, s:[o, o]}", "id", row->a->id, "verdict",
                                   verdict_names[row->verdict], "figures", figures_json(row->a),
                                   figures_json(row->b));
        if (row->verdict != NOT_COMPARABLE) {
            json_object_set_new(object, "ratio", json_real(row->ratio.value));
            json_object_set_new(object, "ratio_ci",
                                json_pack("[f, f]", row->ratio.low, row->ratio.high));
        }
        json_array_append_new(array, object);
    }
    return array;
}

/* For each file the rows that are void there, or there only. */
static json_t *unranked_json(const struct file *files, bool is_void)
{
    json_t *lists = json_array();
    for (size_t i = 0; i < FILES; i++) {
        json_t *list = json_array();
        for (size_t at = 0; at < files[i].n_results; at++) {
            const struct result *result = &files[i].results[at];
            if (is_void ? result->reason != NULL : !find_result(&files[1 - i], result->id))
                json_array_append_new(list, json_string(result->id));
        }
        json_array_append_new(lists, list);
    }
    return lists;
}

static json_t *comparison_json(const struct file *files, json_t *differing,
                               const struct comparison *rows, size_t count)
{
    return json_pack("{s:s, s:[o, o], s:O, s:o, s:o, s:o}", "schema", "quern.bench.compare/1",
                     "files", text_json(files[0].path), text_json(files[1].path), "differing",
                     differing, "rows", rows_json(rows, count), "void", unranked_json(files, true),
                     "only", unranked_json(files, false));
}

/* ---- The command ---- */

static int report(const struct options *options, const struct file *files,
                  const struct comparison *rows, size_t count)
{
    json_t *differing = differing_of(files);
    const char *json = options_string(options, "json");
    print_differing(files, differing);
    print_rows(rows, count);
    if (count < files[0].n_results || count < files[1].n_results)
        printf("\nNot ranked:\n\n");
    for (size_t i = 0; i < FILES; i++) {
        print_void(&files[i], (char)('A' + i));
        print_only(&files[i], &files[1 - i], (char)('A' + i));
    }
    struct estimate control = control_of(&files[0], &files[1]);
    print_summary(rows, count, &control);
    char message[WRITE_MESSAGE];
    bool is_written =
        !json || json_write(comparison_json(files, differing, rows, count), json, message);
    json_decref(differing);
    if (!is_written)
        return failure(options, "%s", message);
    double most = 1 + options_real(options, "fail-slower") / 100;
    for (size_t i = 0; i < count && options_given(options, "fail-slower"); i++)
        if (rows[i].verdict == SLOWER && rows[i].ratio.low > most)
            return EXIT_FAILED;
    return EXIT_SUCCESS;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;
    return a && stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

int command_bench_compare(const struct options *options)
{
    struct file files[FILES] = {{.path = ""}};
    struct comparison *rows = NULL;
    int status = EXIT_SUCCESS;
    if (options_operands(options) != FILES)
        return usage_error(options, "it takes two files");
    for (size_t i = 0; i < FILES; i++)
        if (is_same_file(options_string(options, "json"), options_operand_at(options, i)))
            return usage_error(options, "--json would write over %s",
                               options_operand_at(options, i));
    for (size_t i = 0; i < FILES && status == EXIT_SUCCESS; i++)
        if (!read_file(&files[i], options_operand_at(options, i)))
            status = failure(options, "%s", files[i].message);
    if (status == EXIT_SUCCESS && !(rows = calloc(files[0].n_results + 1, sizeof *rows)))
        status = failure(options, "out of memory");
    if (status == EXIT_SUCCESS)
        status = report(options, files, rows, compare_files(&files[0], &files[1], rows));
    free(rows);
    for (size_t i = 0; i < FILES; i++) {
        free(files[i].results);
        json_decref(files[i].json);
    }
    return status;
}

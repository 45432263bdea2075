/* quern bench compare: the command. */
#include "cli/bench/compare/compare.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;
    return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

/* Whether the folders that the files are in are one. */
static bool is_same_folder(const char *a, const char *b)
{
    char *of_a = strdup(a), *of_b = strdup(b);
    bool is_same = of_a && of_b && is_same_file(dirname(of_a), dirname(of_b));
    free(of_a);
    free(of_b);
    return is_same;
}

static const char *name_in_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Whether two paths lead to one file, which need not be there. */
static bool is_same_path(const char *a, const char *b)
{
    return is_same_file(a, b) ||
           (strcmp(name_in_folder(a), name_in_folder(b)) == 0 && is_same_folder(a, b));
}

/* Whether the file that an option names, if any, can be written, and is none of those that are compared. */
static int check_output(const struct options *options, const char *option, enum written kind)
{
    const char *path = options_string(options, option);
    char message[WRITE_MESSAGE];
    for (size_t i = 0; path && i < options_operands(options); i++)
        if (is_same_file(path, options_operand_at(options, i)))
            return usage_error(options, "--%s would write over %s", option,
                               options_operand_at(options, i));
    if (path && !may_write(kind, path, message))
        return failure(options, "%s", message);
    return EXIT_SUCCESS;
}

static int check_outputs(const struct options *options)
{
    const char *html = options_string(options, "html"), *json = options_string(options, "json");
    if (html && json && is_same_path(html, json))
        return usage_error(options, "--html and --json name the same file");
    int status = check_output(options, "html", WRITTEN_PAGE);
    return status == EXIT_SUCCESS ? check_output(options, "json", WRITTEN_COMPARISON) : status;
}

static int read_reports(const struct options *options, struct reports *reports)
{
    for (size_t i = 0; i < options_operands(options); i++)
        if (!reports_read(reports, options_operand_at(options, i)))
            return failure(options, "%s", reports->message);
    if (reports->count < 2 && !options_given(options, "html"))
        return usage_error(options, "it takes two reports or more; or one, and --html");
    if (reports->count < 2 && options_given(options, "fail-slower"))
        return usage_error(options, "--fail-slower takes two reports or more");
    if (options_flag(options, "turns") && !reports_by_turns(reports))
        return failure(options, "%s", reports->message);
    return EXIT_SUCCESS;
}

static bool write_page(const struct bench_comparison *comparison, const char *path,
                       char message[WRITE_MESSAGE])
{
    char *text = page_text(comparison);
    if (!text)
        snprintf(message, WRITE_MESSAGE, "out of memory");
    bool is_written = text && text_write(text, path, message);
    free(text);
    return is_written;
}

/* EXIT_FAILED, and which they are, if rows are slower than is allowed; and if there is none of which that could be said. */
static int check_slower(const struct options *options, const struct bench_comparison *comparison)
{
    enum { NAMED = 5 };
    double percent = options_real(options, "fail-slower");
    char named[NAMED * (ROW_ID + sizeof ", ( A)")] = "", more[32] = "";
    size_t reports = comparison->reports->count, count = 0, used = 0;
    for (size_t report = 1; report < reports; report++)
        if (has_nothing_to_judge(comparison, report))
            return failure(options,
                           "--fail-slower: no row of %c can be compared with A's: were all void, "
                           "left out, or of other shapes?",
                           report_letter(report));
    for (size_t i = 0; i < comparison->n_entries; i++)
        for (size_t report = 1; report < reports; report++) {
            const struct entry *entry = &comparison->entries[i];
            char letter[] = {' ', '(', report_letter(report), ')', '\0'};
            if (is_slower(comparison, report, entry, percent) && count++ < NAMED)
                used += (size_t)snprintf(named + used, sizeof named - used, "%s%s%s",
                                         used ? ", " : "", entry->id, reports > 2 ? letter : "");
        }
    if (count > NAMED)
        snprintf(more, sizeof more, " and %zu more", count - NAMED);
    if (count == 0)
        return EXIT_SUCCESS;
    return failure(options, "%zu row%s slower by more than %g%%: %s%s", count,
                   count == 1 ? "" : "s", percent, named, more);
}

static int show(const struct options *options, const struct bench_comparison *comparison)
{
    const char *html = options_string(options, "html"), *json = options_string(options, "json");
    char message[WRITE_MESSAGE];
    print_comparison(comparison);
    if ((json && !json_write(comparison_json(comparison), json, message)) ||
        (html && !write_page(comparison, html, message)))
        return failure(options, "%s", message);
    return options_given(options, "fail-slower") ? check_slower(options, comparison) : EXIT_SUCCESS;
}

int command_bench_compare(const struct options *options)
{
    struct reports reports = {.count = 0};
    struct bench_comparison comparison = {0};
    int status = check_outputs(options);
    if (status == EXIT_SUCCESS && options_flag(options, "turns") && options_given(options, "html"))
        status = usage_error(options, "a page shows single runs: --html does not go with --turns");
    if (status == EXIT_SUCCESS)
        status = read_reports(options, &reports);
    if (status == EXIT_SUCCESS && !bench_comparison_make(&comparison, &reports))
        status = failure(options, "out of memory");
    if (status == EXIT_SUCCESS)
        status = show(options, &comparison);
    bench_comparison_release(&comparison);
    reports_release(&reports);
    return status;
}

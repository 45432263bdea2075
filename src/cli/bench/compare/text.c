/* The comparison for reading in a terminal, as Markdown. */
#include "cli/bench/compare/compare.h"

#include <stdlib.h>
#include <string.h>

/* ---- What differs ---- */

static void print_cell(const json_t *value)
{
    char *text = NULL;
    putchar(' ');
    if (json_is_string(value))
        print_cell_text(json_string_value(value));
    else if (value && !json_is_null(value) &&
             (text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6))))
        print_cell_text(text);
    free(text);
    fputs(" |", stdout);
}

static void print_differing(const struct bench_comparison *comparison)
{
    const struct reports *reports = comparison->reports;
    const char *key;
    json_t *values;
    printf("| |");
    for (size_t i = 0; i < reports->count; i++) {
        printf(" %c: ", report_letter(i));
        print_cell_text(reports->at[i].name);
        printf(" |");
    }
    printf("\n|---|");
    for (size_t i = 0; i < reports->count; i++)
        printf("---|");
    printf(comparison->reports->turns ? "\n| first finished |" : "\n| finished |");
    for (size_t i = 0; i < reports->count; i++)
        print_cell(report_section(&reports->at[i], "finished"));
    printf("\n");
    json_object_foreach (comparison->differing, key, values) {
        printf("| ");
        print_cell_text(key);
        printf(" |");
        for (size_t i = 0; i < reports->count; i++)
            print_cell(json_array_get(values, i));
        printf("\n");
    }
}

/* ---- Rows ---- */

static void print_head(size_t reports)
{
    printf("\n| row | A ms | of peak |");
    for (size_t i = 1; i < reports; i++)
        printf(" %c ms | of peak | %c/A |%s verdict |", report_letter(i), report_letter(i),
               reports == 2 ? " interval |" : "");
    printf("\n|---|--:|--:|");
    for (size_t i = 1; i < reports; i++)
        printf("--:|--:|--:|%s---|", reports == 2 ? "---|" : "");
    printf("\n");
}

static void print_figures(const struct result *result)
{
    if (!result) {
        printf(" | |");
        return;
    }
    printf(" %.4g ± %.2g |", 1e3 * result->median.value,
           1e3 * (result->median.high - result->median.low) / 2);
    if (result->of_peak > 0)
        printf(" %.0f%%", 100 * result->of_peak);
    printf(" |");
}

static void print_against(const struct against *against, bool with_interval)
{
    const struct estimate *ratio = &against->ratio;
    if (against->verdict == NO_VERDICT)
        printf(with_interval ? " | | |" : " | |");
    else if (against->verdict == NOT_COMPARABLE)
        printf("%s not comparable: not the same work |", with_interval ? " | |" : " |");
    else if (with_interval)
        printf(" %.3f | %.3f to %.3f | %s |", ratio->value, ratio->low, ratio->high,
               verdict_names[against->verdict]);
    else
        printf(" %.3f | %s |", ratio->value, verdict_names[against->verdict]);
}

static void print_rows(const struct bench_comparison *comparison)
{
    size_t count = comparison->reports->count;
    print_head(count);
    for (size_t i = 0; i < comparison->n_entries; i++) {
        const struct entry *entry = &comparison->entries[i];
        printf("| %s |", entry->id);
        for (size_t report = 0; report < count; report++) {
            print_figures(entry->results[report]);
            if (report > 0)
                print_against(&entry->against[report], count == 2);
        }
        printf("\n");
    }
}

/* ---- What has no verdict ---- */

static void print_reasons(const struct bench_report *report, char letter)
{
    for (size_t i = 0; i < report->n_results; i++) {
        if (!report->results[i].reason)
            continue;
        printf("- %s is %s in %c: ", report->results[i].id,
               report->results[i].is_left_out ? "left out" : "void", letter);
        print_cell_text(report->results[i].reason);
        printf("\n");
    }
}

/* Ids that others have. */
static void print_missing(const json_t *ids, char letter)
{
    if (json_array_size(ids) > 0)
        printf("- not in %c: ", letter);
    for (size_t i = 0; i < json_array_size(ids); i++)
        printf("%s%s", i ? ", " : "", json_string_value(json_array_get(ids, i)));
    if (json_array_size(ids) > 0)
        printf("\n");
}

static bool has_unranked(const struct bench_comparison *comparison, json_t *const *missing)
{
    for (size_t i = 0; i < comparison->reports->count; i++) {
        const struct bench_report *report = &comparison->reports->at[i];
        if (json_array_size(missing[i]) > 0)
            return true;
        for (size_t at = 0; at < report->n_results; at++)
            if (report->results[at].reason)
                return true;
    }
    return false;
}

static void print_unranked(const struct bench_comparison *comparison)
{
    size_t count = comparison->reports->count;
    json_t *missing[MOST_REPORTS];
    for (size_t i = 0; i < count; i++)
        missing[i] = missing_json(comparison, i);
    if (has_unranked(comparison, missing))
        printf("\nNot ranked:\n\n");
    for (size_t i = 0; i < count; i++) {
        print_reasons(&comparison->reports->at[i], report_letter(i));
        print_missing(missing[i], report_letter(i));
        json_decref(missing[i]);
    }
}

/* ---- Summing up ---- */

static void print_means(const struct bench_comparison *comparison, size_t report)
{
    const char *groups[MOST_GROUPS];
    size_t count = comparison_groups(comparison, groups), shown = 0;
    for (size_t i = 0; i < count; i++) {
        struct tally tally = tally_of(comparison, report, groups[i]);
        if (tally.ratio <= 0)
            continue;
        if (shown++ == 0)
            printf("Geometric means of %c/A:", report_letter(report));
        printf("%s %s %.3f of %zu", shown > 1 ? "," : "", groups[i], tally.ratio, tally.comparable);
    }
    if (shown > 0)
        printf(".\n");
}

static void print_void(const struct bench_comparison *comparison, size_t report)
{
    size_t count = report_failures(&comparison->reports->at[report], false);
    if (count > 0)
        printf("; %zu %s of %c %s void", count, count == 1 ? "row" : "rows", report_letter(report),
               count == 1 ? "is" : "are");
}

static void print_tally(const struct bench_comparison *comparison, size_t report)
{
    struct tally tally = tally_of(comparison, report, NULL);
    size_t incomparable = tally.counts[NOT_COMPARABLE], earlier;
    char rows[TALLY_TEXT], like_fma[LIKE_FMA_TEXT];
    printf("\n%c and A: %s", report_letter(report), tally_text(rows, &tally));
    for (size_t i = 0; i < NOT_COMPARABLE; i++)
        if (tally.counts[i])
            printf(", %zu %s", tally.counts[i], verdict_names[i]);
    if (incomparable > 0)
        printf("; %zu %s not comparable", incomparable, incomparable == 1 ? "is" : "are");
    if (report == 1)
        print_void(comparison, 0);
    print_void(comparison, report);
    printf(".\n");
    print_means(comparison, report);
    if (same_run(comparison, report, &earlier))
        printf("%c and %c are the same run: what is said of one against the other is no finding.\n",
               report_letter(earlier), report_letter(report));
    if (is_other_machine(comparison, report) && comparison->reports->turns)
        printf("fma itself took %.2f times as long in runs of %c: only what goes beyond that is "
               "called faster or slower.\n",
               comparison->controls[report].value, report_letter(report));
    else if (is_other_machine(comparison, report))
        printf("fma itself took %.2f times as long in %c: the machine was not the same in both "
               "runs.\nOnly what goes beyond that is called faster or slower: measure again, on an "
               "idle machine.\n",
               comparison->controls[report].value, report_letter(report));
    if (*like_fma_text(like_fma, &tally, &comparison->controls[report]))
        printf("%s\n", like_fma);
}

static void print_notes(const struct bench_comparison *comparison)
{
    size_t called = 0, noisy = 0;
    for (size_t i = 1; i < comparison->reports->count; i++) {
        struct tally tally = tally_of(comparison, i, NULL);
        called += tally.counts[FASTER] + tally.counts[SLOWER];
        noisy += tally.counts[UNCLEAR] - tally.n_like_fma;
    }
    printf("\nms: medians of %s; of peak: share of the device's own.\n",
           comparison->reports->turns ? "runs" : "rounds");
    for (size_t i = 0; i < comparison->reports->count; i++)
        if (has_older_shares(&comparison->reports->at[i]))
            printf("%c is an older report: its shares of FLOP/s are of gemm alone, though fma may "
                   "be greater.\n",
                   report_letter(i));
    if (comparison->reports->turns) {
        double outside = turns_outside(comparison->reports->turns);
        printf("B/A: the median of %zu ratios of times in quiet rounds, each of a run of B to the "
               "one of A before it; above 1 B is slower.\n"
               "Of rows in which nothing changed, one in %.0f is called faster or slower at the "
               "most, if what disturbs the machine favours neither.\n",
               comparison->reports->turns, 1 / outside);
        if (noisy > 0)
            printf("unclear: too much noise to tell; more pairs, or longer ones (--seconds), tell "
                   "more.\n");
        return;
    }
    if (comparison->reports->count > 1)
        printf("B/A: of times in quiet rounds, above 1 B is slower.\n");
    if (noisy > 0)
        printf("unclear: too much noise to tell; longer runs (--seconds), or runs of each by turns "
               "(--turns), tell more.\n");
    if (called > 0)
        printf(
            "Of rows in which nothing changed, about one in forty was called faster or slower on "
            "a shared machine.\n");
}

void print_comparison(const struct bench_comparison *comparison)
{
    print_differing(comparison);
    print_rows(comparison);
    print_unranked(comparison);
    for (size_t i = 1; i < comparison->reports->count; i++)
        print_tally(comparison, i);
    print_notes(comparison);
}

/* What the page says first: verdicts, and each group of rows in a line. */
#include "cli/bench/compare/page.h"

#include <stdlib.h>
#include <string.h>

/* ---- The verdict ---- */

/* What more than half of the comparable rows say; VERDICTS: nothing. */
static enum verdict most_of(const struct tally *tally)
{
    for (enum verdict verdict = FASTER; verdict <= UNCLEAR; verdict++)
        if (2 * tally->counts[verdict] > tally->comparable)
            return verdict;
    return VERDICTS;
}

/* Of the first so many verdicts. */
static void put_counts(FILE *file, const struct tally *tally, size_t verdicts)
{
    const char *before = "";
    for (size_t i = 0; i < verdicts; i++) {
        if (tally->counts[i])
            markup(file, "%s%zu %s", before, tally->counts[i], verdict_names[i]);
        before = tally->counts[i] ? ", " : before;
    }
}

/* What it takes of the first one's time, by group. */
static void put_means(FILE *file, const struct bench_comparison *comparison, size_t report)
{
    const char *groups[MOST_GROUPS];
    size_t count = comparison_groups(comparison, groups), shown = 0;
    for (size_t i = 0; i < count; i++) {
        struct tally tally = tally_of(comparison, report, groups[i]);
        if (tally.ratio > 0)
            markup(file, "%s%s %.2f", shown++ ? ", " : " Time relative to A's: ", groups[i],
                   tally.ratio);
    }
    markup(file, shown ? "." : "");
}

static void put_incomparable(FILE *file, const struct tally *tally)
{
    size_t count = tally->counts[NOT_COMPARABLE];
    if (count > 0)
        markup(file, "; %zu %s not comparable", count, count == 1 ? "is" : "are");
}

static void put_warnings(FILE *file, const struct bench_comparison *comparison, size_t report,
                         const struct tally *tally)
{
    const struct estimate *control = &comparison->controls[report];
    char like_fma[LIKE_FMA_TEXT];
    size_t earlier;
    if (same_run(comparison, report, &earlier))
        markup(file,
               "<p class=\"warning\">%c and %c are the same run: what is said of one against the "
               "other is no finding.</p>\n",
               report_letter(earlier), report_letter(report));
    if (is_other_machine(comparison, report))
        markup(file,
               "<p class=\"warning\">fma itself took %.2f times as long in %c: the machine was not "
               "the same in both runs. Only what goes beyond that is called faster or slower: "
               "measure again, on an idle machine.</p>\n",
               control->value, report_letter(report));
    if (*like_fma_text(like_fma, tally, control))
        markup(file, "<p class=\"note\">%s</p>\n", like_fma);
}

/* The row that is wrong may be the one that would have been slow. */
static void put_void(FILE *file, const struct bench_comparison *comparison, size_t report)
{
    size_t count = report_failures(&comparison->reports->at[report], false);
    if (count > 0)
        markup(file,
               "<p class=\"warning\">%zu %s of %c %s <b>void</b> - wrong, or failed - and in no "
               "verdict: <a href=\"#failures\">why</a>.</p>\n",
               count, count == 1 ? "row" : "rows", report_letter(report),
               count == 1 ? "is" : "are");
}

/* No claim beyond what more than half of the comparable rows say. */
static void put_verdict(FILE *file, const struct bench_comparison *comparison, size_t report)
{
    static const char *const claims[] = {
        [FASTER] = " is <b>faster</b> than ",
        [SLOWER] = " is <b>slower</b> than ",
        [SAME] = " takes the <b>same</b> time as ",
        [UNCLEAR] = " <b>cannot be told</b>, in this noise, from ",
        [NOT_COMPARABLE] = " has nothing to compare with ",
        [VERDICTS] = " has <b>no one verdict</b> against ",
    };
    struct tally tally = tally_of(comparison, report, NULL);
    enum verdict most = tally.comparable > 0 ? most_of(&tally) : NOT_COMPARABLE;
    char rows[TALLY_TEXT];
    markup(file, "<p class=\"verdict\">");
    put_letter(file, report);
    fputs(claims[most], file);
    put_letter(file, 0);
    if (most <= UNCLEAR && tally.counts[most] == tally.comparable)
        markup(file, " in %s%s",
               tally.comparable == 1 ? ""
               : most == UNCLEAR     ? "any of "
                                     : "all ",
               tally_text(rows, &tally));
    else if (most != NOT_COMPARABLE) {
        markup(file, "%s %s: ", most == VERDICTS ? ", of" : " in most of",
               tally_text(rows, &tally));
        put_counts(file, &tally, NOT_COMPARABLE);
    }
    put_incomparable(file, &tally);
    markup(file, ".");
    put_means(file, comparison, report);
    markup(file, "</p>\n");
    put_warnings(file, comparison, report, &tally);
}

/* Of one report, what it reached. */
static void put_reached(FILE *file, const struct bench_report *report)
{
    const json_t *peaks = report_section(report, "peaks");
    double gemm = number_of(peaks, "gemm_flops_per_s"), fma = number_of(peaks, "fma_flops_per_s");
    size_t n_void = report_failures(report, false);
    char text[QUANTITY];
    markup(file, "<p class=\"verdict\"><b>%s</b> ", report_device(report));
    if (gemm > 0)
        markup(file, "multiplies matrices at %s", quantity(text, gemm, "FLOP/s"));
    if (gemm > 0 && fma > 0)
        markup(file, ", %.0f%% of what its arithmetic does", 100 * gemm / fma);
    markup(file, "%s Of %zu rows that were checked and timed ",
           gemm > 0 ? "." : "has no peak of gemm.",
           report->n_results - report_failures(report, true));
    if (n_void > 0)
        markup(file, "%zu %s void.</p>\n", n_void, n_void == 1 ? "is" : "are");
    else
        markup(file, "none is void.</p>\n");
}

/* Those of all others against the first; of a lone report, what it reached. */
void put_verdicts(FILE *file, const struct bench_comparison *comparison)
{
    const struct reports *reports = comparison->reports;
    for (size_t i = 1; i < reports->count; i++)
        put_verdict(file, comparison, i);
    for (size_t i = 0; i < reports->count && reports->count > 1; i++)
        put_void(file, comparison, i);
    if (reports->count == 1)
        put_reached(file, &reports->at[0]);
}

/* ---- By group ---- */

/* The median share of the device's own peak; 0: not known. */
static double share_of(const struct bench_comparison *comparison, size_t report, const char *group)
{
    double *shares = calloc(comparison->n_entries + 1, sizeof *shares), share = 0;
    size_t count = 0;
    for (size_t i = 0; shares && i < comparison->n_entries; i++) {
        const struct result *result = comparison->entries[i].results[report];
        if (result && result->of_peak > 0 && strcmp(comparison->entries[i].group, group) == 0)
            shares[count++] = result->of_peak;
    }
    if (count > 0) {
        numbers_sort(shares, count);
        share = median_of(shares, count);
    }
    free(shares);
    return share;
}

static void put_group(FILE *file, const struct bench_comparison *comparison, const char *group)
{
    size_t count = comparison->reports->count;
    markup(file, "<tr><th scope=\"row\"><a href=\"#group-%s\">%s</a></th>", group, group);
    for (size_t i = 0; i < count; i++)
        put_share(file, share_of(comparison, i, group));
    for (size_t i = 1; i < count; i++) {
        struct tally tally = tally_of(comparison, i, group);
        if (tally.ratio > 0)
            markup(file, "<td class=\"number\">%.2f</td><td>", tally.ratio);
        else
            markup(file, "<td class=\"number\">%s</td><td>",
                   2 * tally.counts[UNCLEAR] > tally.comparable ? "unclear" : "");
        put_counts(file, &tally, VERDICTS);
        if (tally.n_void > 0)
            markup(file, "%s<b>%zu void</b>",
                   tally.comparable + tally.counts[NOT_COMPARABLE] > 0 ? ", " : "", tally.n_void);
        markup(file, "</td>");
    }
    markup(file, "</tr>\n");
}

void put_groups(FILE *file, const struct bench_comparison *comparison)
{
    const char *groups[MOST_GROUPS];
    size_t count = comparison->reports->count, n_groups = comparison_groups(comparison, groups);
    markup(file, "<section id=\"groups\"><h2>By group of rows</h2>\n"
                 "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">group</th>");
    for (size_t i = 0; i < count; i++) {
        markup(file, "<th scope=\"col\">");
        put_letter(file, i);
        markup(file, " of peak</th>");
    }
    for (size_t i = 1; i < count; i++)
        markup(file,
               "<th scope=\"col\" class=\"number\">%c/A</th><th scope=\"col\">rows of %c</th>",
               report_letter(i), report_letter(i));
    markup(file, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n_groups; i++)
        put_group(file, comparison, groups[i]);
    markup(file,
           "</tbody></table></div>\n<p class=\"note\">Of peak: the median row's share of what "
           "this very device reached in the same run, in instructions alone or a matrix product "
           "(whichever is greater) or in a copy of a like size; above 100%% it came from a cache.");
    for (size_t i = 0; i < count; i++)
        if (has_older_shares(&comparison->reports->at[i])) {
            markup(file, " Of ");
            put_letter(file, i);
            markup(file, ", an older report, FLOP/s are a share of its matrix product alone.");
        }
    if (count > 1)
        markup(file,
               " B/A: the geometric mean of ratios of quiet times; below 1 B is faster.  It is "
               "left out where more than half of the rows are unclear: too noisy to tell, where "
               "longer runs, or runs of each by turns, tell more.");
    markup(file, "</p></section>\n");
}

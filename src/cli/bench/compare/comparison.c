/* What differs between reports, and whether it is more than noise. */
#include "cli/bench/compare/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Ratios that lie within this of 1, with their whole interval, are called the same. */
static const double same_within = 0.03;

const char *const verdict_names[VERDICTS] = {"faster", "slower", "same", "unclear",
                                             "not comparable"};

char report_letter(size_t report)
{
    return (char)('A' + report);
}

/* ---- Verdicts ---- */

/* `control` holds the ratios that the machine itself explains. */
static enum verdict verdict_of(const struct estimate *ratio, const struct estimate *control)
{
    if (ratio->low >= 1 / (1 + same_within) && ratio->high <= 1 + same_within)
        return SAME;
    if (ratio->low > fmax(1, control->high))
        return SLOWER;
    return ratio->high < fmin(1, control->low) ? FASTER : UNCLEAR;
}

/* The interval holds all ratios of a time in B's interval to one in A's; of runs by turns, the ratios of pairs. */
static struct estimate ratio_of(const struct result *a, const struct result *b)
{
    if (a->n_turns > 0 && b->n_turns > 0)
        return ratio_of_turns(a, b);
    return (struct estimate){b->quiet.value / a->quiet.value, b->quiet.low / a->quiet.high,
                             b->quiet.high / a->quiet.low};
}

static bool is_same_value(const json_t *a, const json_t *b)
{
    return (!a && !b) || json_equal(a, b);
}

/* Whether both reports are of one device, all of it, with one driver and one kind of kernels. */
static bool is_same_device(const struct bench_report *a, const struct bench_report *b)
{
    static const char *const keys[] = {"platform",    "device",        "driver", "class",
                                       "float_width", "compute_units", "fma",    "matrix"};
    const json_t *of_a = report_section(a, "device"), *of_b = report_section(b, "device");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!is_same_value(json_object_get(of_a, keys[i]), json_object_get(of_b, keys[i])))
            return false;
    return of_a && of_b;
}

/* Then fma is the same code at work in registers: where it differs, the machine was not the same.  1 if
 * that cannot be known. */
static struct estimate control_of(const struct bench_report *a, const struct bench_report *b)
{
    const struct result *of_a = report_find(a, PEAK "fma"), *of_b = report_find(b, PEAK "fma");
    if (!is_same_device(a, b) || !of_a || !of_b || of_a->reason || of_b->reason ||
        of_a->amount != of_b->amount)
        return (struct estimate){1, 1, 1};
    return ratio_of(of_a, of_b);
}

bool is_other_machine(const struct bench_comparison *comparison, size_t report)
{
    const struct estimate *control = &comparison->controls[report];
    return control->low > 1 + same_within || control->high < 1 / (1 + same_within);
}

static struct against against_of(const struct result *a, const struct result *b,
                                 const struct estimate *control)
{
    if (!a || !b)
        return (struct against){.verdict = NO_VERDICT};
    if (strcmp(a->unit, b->unit) != 0 || a->amount != b->amount)
        return (struct against){.verdict = NOT_COMPARABLE};
    struct estimate ratio = ratio_of(a, b);
    return (struct against){verdict_of(&ratio, control), ratio};
}

/* A peak tells of the device, not of what runs on it. */
static bool is_peak(const struct entry *entry)
{
    return strcmp(entry->group, "peaks") == 0;
}

/* Whether there are verdicts, and all of them on peaks. */
static bool has_only_peaks(const struct bench_comparison *comparison, size_t report)
{
    bool has_peaks = false;
    for (size_t i = 0; i < comparison->n_entries; i++) {
        const struct entry *entry = &comparison->entries[i];
        if (entry->against[report].verdict == NO_VERDICT)
            continue;
        if (!is_peak(entry))
            return false;
        has_peaks = true;
    }
    return has_peaks;
}

bool is_slower(const struct bench_comparison *comparison, size_t report, const struct entry *entry,
               double percent)
{
    const struct against *against = &entry->against[report];
    return against->verdict == SLOWER && against->ratio.low > 1 + percent / 100 &&
           (!is_peak(entry) || has_only_peaks(comparison, report));
}

/* ---- One run, read twice ---- */

static bool is_same_run(const struct bench_report *a, const struct bench_report *b)
{
    static const char *const keys[] = {"started", "finished", "device", "host"};
    const json_t *of_a = json_object_get(a->json, "report"),
                 *of_b = json_object_get(b->json, "report");
    bool is_dated = json_is_string(report_section(a, "finished"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!is_same_value(report_section(a, keys[i]), report_section(b, keys[i])))
            return false;
    return is_dated || json_equal(of_a, of_b);
}

bool same_run(const struct bench_comparison *comparison, size_t report, size_t *earlier)
{
    const struct reports *reports = comparison->reports;
    for (*earlier = 0; *earlier < report; ++*earlier)
        if (is_same_run(&reports->at[*earlier], &reports->at[report]))
            return true;
    return false;
}

/* ---- Rows ---- */

/* What `quern bench` calls the group of a row. */
static const char *group_of(const char *id)
{
    static const char *const models[] = {"train", "seq2seq", "generate"};
    size_t length = strcspn(id, "/");
    if (strncmp(id, PEAK, strlen(PEAK)) == 0)
        return "peaks";
    for (size_t i = 0; i < n_kinds; i++)
        if (strncmp(id, kinds[i].name, length) == 0 && kinds[i].name[length] == '\0')
            return kinds[i].group;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strncmp(id, models[i], length) == 0 && models[i][length] == '\0')
            return models[i];
    return "other";
}

static struct entry make_entry(const struct bench_comparison *comparison, const char *id)
{
    const struct reports *reports = comparison->reports;
    struct entry entry = {.id = id, .group = group_of(id)};
    for (size_t i = 0; i < reports->count; i++) {
        const struct result *result = report_find(&reports->at[i], id);
        entry.results[i] = result && !result->reason ? result : NULL;
        entry.against[i] =
            against_of(i ? entry.results[0] : NULL, entry.results[i], &comparison->controls[i]);
    }
    return entry;
}

static bool is_first_with(const struct reports *reports, size_t report, const char *id)
{
    for (size_t i = 0; i < report; i++)
        if (report_find(&reports->at[i], id))
            return false;
    return true;
}

/* Rows that as many reports have as can be compared, two at most; or those that fewer have. */
static void add_entries(struct bench_comparison *comparison, size_t report, bool is_shared)
{
    const struct reports *reports = comparison->reports;
    const struct bench_report *from = &reports->at[report];
    for (size_t i = 0; i < from->n_results; i++) {
        if (!is_first_with(reports, report, from->results[i].id))
            continue;
        struct entry entry = make_entry(comparison, from->results[i].id);
        size_t count = 0;
        for (size_t at = 0; at < reports->count; at++)
            count += entry.results[at] != NULL;
        if (count > 0 && (count >= 2 || reports->count < 2) == is_shared)
            comparison->entries[comparison->n_all++] = entry;
    }
}

/* ---- What differs ---- */

/* Adds the keys of one report's section whose values differ from another report's. */
static void add_differing(json_t *differing, const struct reports *reports, size_t report,
                          const char *section)
{
    const char *key;
    json_t *value;
    json_object_foreach (report_section(&reports->at[report], section), key, value) {
        char name[256];
        bool differs = false;
        json_t *values = json_array();
        snprintf(name, sizeof name, "%s.%s", section, key);
        for (size_t i = 0; i < reports->count; i++) {
            json_t *other = json_object_get(report_section(&reports->at[i], section), key);
            differs = differs || !is_same_value(value, other);
            json_array_append(values, other ? other : json_null());
        }
        if (differs)
            json_object_set(differing, name, values);
        json_decref(values);
    }
}

json_t *reports_differing(const struct reports *reports)
{
    static const char *const sections[] = {"build", "device", "env", "options", "host"};
    json_t *differing = json_object();
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        for (size_t report = 0; report < reports->count; report++)
            add_differing(differing, reports, report, sections[i]);
    return differing;
}

/* ---- All of it ---- */

bool bench_comparison_make(struct bench_comparison *comparison, const struct reports *reports)
{
    size_t most = 0;
    *comparison = (struct bench_comparison){.reports = reports};
    for (size_t i = 0; i < reports->count; i++) {
        most += reports->at[i].n_results;
        comparison->controls[i] = control_of(&reports->at[0], &reports->at[i]);
    }
    comparison->entries = calloc(most + 1, sizeof *comparison->entries);
    comparison->differing = reports_differing(reports);
    for (size_t i = 0; comparison->entries && i < reports->count; i++)
        add_entries(comparison, i, true);
    comparison->n_entries = comparison->n_all;
    for (size_t i = 0; comparison->entries && i < reports->count; i++)
        add_entries(comparison, i, false);
    return comparison->entries && comparison->differing;
}

void bench_comparison_release(struct bench_comparison *comparison)
{
    free(comparison->entries);
    json_decref(comparison->differing);
    *comparison = (struct bench_comparison){0};
}

/* ---- Summing up ---- */

static size_t void_rows(const struct bench_report *report, const char *group)
{
    size_t count = 0;
    for (size_t i = 0; i < report->n_results; i++) {
        const struct result *result = &report->results[i];
        count += result->reason && !result->is_left_out && strcmp(group_of(result->id), group) == 0;
    }
    return count;
}

struct tally tally_of(const struct bench_comparison *comparison, size_t report, const char *group)
{
    struct tally tally = {.is_of_peaks = group ? strcmp(group, "peaks") == 0
                                               : has_only_peaks(comparison, report)};
    double sum = 0;
    for (size_t i = 0; i < comparison->n_entries; i++) {
        const struct entry *entry = &comparison->entries[i];
        const struct against *against = &entry->against[report];
        if (against->verdict == NO_VERDICT || is_peak(entry) != tally.is_of_peaks ||
            (group && strcmp(group, entry->group) != 0))
            continue;
        tally.counts[against->verdict]++;
        tally.n_like_fma += against->verdict == UNCLEAR && !tally.is_of_peaks &&
                            (against->ratio.low > 1 || against->ratio.high < 1);
        if (against->verdict != NOT_COMPARABLE)
            sum += log(against->ratio.value);
    }
    for (size_t i = 0; i < NOT_COMPARABLE; i++)
        tally.comparable += tally.counts[i];
    if (group)
        tally.n_void = void_rows(&comparison->reports->at[report], group);
    if (group && !tally.is_of_peaks && 2 * tally.counts[UNCLEAR] <= tally.comparable &&
        tally.comparable > 0)
        tally.ratio = exp(sum / (double)tally.comparable);
    return tally;
}

bool has_nothing_to_judge(const struct bench_comparison *comparison, size_t report)
{
    struct tally tally = tally_of(comparison, report, NULL);
    bool has_rows = false;
    for (size_t i = 0; i < comparison->n_all; i++)
        has_rows = has_rows || !is_peak(&comparison->entries[i]);
    return tally.comparable == 0 || (tally.is_of_peaks && has_rows);
}

const char *tally_text(char text[TALLY_TEXT], const struct tally *tally)
{
    snprintf(text, TALLY_TEXT, "%zu %s%s%s", tally->comparable,
             tally->counts[NOT_COMPARABLE] ? "comparable " : "",
             tally->is_of_peaks ? "peak" : "row", tally->comparable == 1 ? "" : "s");
    return text;
}

const char *like_fma_text(char text[LIKE_FMA_TEXT], const struct tally *tally,
                          const struct estimate *control)
{
    text[0] = '\0';
    if (tally->n_like_fma > 0)
        snprintf(text, LIKE_FMA_TEXT,
                 "%zu of the unclear %s an interval without 1, but none beyond what fma itself "
                 "took, %.3f to %.3f times as long.",
                 tally->n_like_fma, tally->n_like_fma == 1 ? "has" : "have", control->low,
                 control->high);
    return text;
}

size_t comparison_groups(const struct bench_comparison *comparison, const char *groups[MOST_GROUPS])
{
    size_t count = 0;
    for (size_t i = 0; i < comparison->n_entries; i++) {
        size_t at = 0;
        while (at < count && strcmp(groups[at], comparison->entries[i].group) != 0)
            at++;
        if (at == count && count < MOST_GROUPS)
            groups[count++] = comparison->entries[i].group;
    }
    return count;
}

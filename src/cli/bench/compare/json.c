/* The comparison for programs: doc/bench.md says what each key is. */
#include "cli/bench/compare/compare.h"

static json_t *share_json(double share)
{
    return share > 0 ? json_real(share) : json_null();
}

static json_t *figures_json(const struct result *result)
{
    if (!result)
        return json_null();
    return json_pack("{s:f, s:[f, f], s:f, s:[f, f], s:o}", "median_s", result->median.value,
                     "median_ci_s", result->median.low, result->median.high, "quiet_s",
                     result->quiet.value, "quiet_ci_s", result->quiet.low, result->quiet.high,
                     "of_peak", share_json(result->of_peak));
}

static json_t *against_json(const struct against *against)
{
    if (against->verdict == NO_VERDICT)
        return json_null();
    json_t *object = json_pack("{s:s}", "verdict", verdict_names[against->verdict]);
    if (against->verdict != NOT_COMPARABLE) {
        json_object_set_new(object, "ratio", json_real(against->ratio.value));
        json_object_set_new(object, "ratio_ci",
                            json_pack("[f, f]", against->ratio.low, against->ratio.high));
    }
    return object;
}

static json_t *entry_json(const struct entry *entry, size_t reports)
{
    json_t *figures = json_array(), *against = json_array();
    for (size_t i = 0; i < reports; i++) {
        json_array_append_new(figures, figures_json(entry->results[i]));
        json_array_append_new(against, against_json(&entry->against[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "id", entry->id, "group", entry->group, "figures",
                     figures, "against_first", against);
}

/* Rows without figures: those that were left out, or those that are void. */
static json_t *failures_json(const struct bench_report *report, bool left_out)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->n_results; i++) {
        const struct result *result = &report->results[i];
        if (result->reason && result->is_left_out == left_out)
            json_array_append_new(
                list, json_pack("{s:s, s:s}", "id", result->id, "reason", result->reason));
    }
    return list;
}

static bool is_listed_before(const struct reports *reports, size_t report, const char *id)
{
    for (size_t i = 0; i < report; i++)
        if (report_find(&reports->at[i], id))
            return true;
    return false;
}

json_t *missing_json(const struct bench_comparison *comparison, size_t report)
{
    const struct reports *reports = comparison->reports;
    json_t *list = json_array();
    for (size_t i = 0; i < reports->count; i++)
        for (size_t at = 0; at < reports->at[i].n_results; at++) {
            const char *id = reports->at[i].results[at].id;
            if (!report_find(&reports->at[report], id) && !is_listed_before(reports, i, id))
                json_array_append_new(list, json_string(id));
        }
    return list;
}

/* What it was read from: one file; or those of all runs, in their order. */
static json_t *files_json(const struct bench_report *report)
{
    json_t *name = json_object_get(report->json, "name"), *files, *run;
    const json_t *runs = json_object_get(report->json, "runs");
    size_t i;
    if (!runs)
        return json_incref(name);
    files = json_array();
    json_array_append(files, name);
    json_array_foreach (runs, i, run)
        json_array_append(files, json_object_get(run, "name"));
    return files;
}

json_t *comparison_json(const struct bench_comparison *comparison)
{
    json_t *files = json_array(), *rows = json_array(), *are_void = json_array(),
           *left_out = json_array(), *missing = json_array();
    for (size_t i = 0; i < comparison->reports->count; i++) {
        const struct bench_report *report = &comparison->reports->at[i];
        json_array_append_new(files, files_json(report));
        json_array_append_new(are_void, failures_json(report, false));
        json_array_append_new(left_out, failures_json(report, true));
        json_array_append_new(missing, missing_json(comparison, i));
    }
    for (size_t i = 0; i < comparison->n_entries; i++)
        json_array_append_new(rows,
                              entry_json(&comparison->entries[i], comparison->reports->count));
    json_t *turns = comparison->reports->turns
                        ? json_integer((json_int_t)comparison->reports->turns)
                        : json_null();
    return json_pack("{s:s, s:o, s:o, s:O, s:o, s:o, s:o, s:o}", "schema", "quern.bench.compare/2",
                     "files", files, "turns", turns, "differing", comparison->differing, "rows",
                     rows, "void", are_void, "left_out", left_out, "missing", missing);
}

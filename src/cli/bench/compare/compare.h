/* quern bench compare: reports of quern bench read from files that may be hostile, what differs
 * between them, and the three ways to show it: text, JSON, and a page of HTML. */
#ifndef QUERN_BENCH_COMPARE_H
#define QUERN_BENCH_COMPARE_H

#include "cli/bench/bench.h"

/* ---- Reports ---- */

enum { MOST_REPORTS = 26, REPORTS_MESSAGE = 512 }; /* named A to Z */
enum { LEAST_TURNS = 6, MOST_TURNS = MOST_REPORTS / 2 };

/* All that is read was checked: numbers are finite and within bounds, lists are lists. */
struct result {
    const char *id, *reason; /* reason: why it has no figures; NULL: it has */
    bool is_left_out;        /* it was not tried; else, with a reason, it is void */
    const char *unit;        /* "": none */
    double amount;           /* of the unit, in a run; 0: none */
    double of_peak;          /* share of the device's own peak; 0: not known */
    struct estimate median, quiet;
    double quiet_turns[MOST_TURNS]; /* quiet times of the runs that it was made of, by turns */
    size_t n_turns;                 /* 0: it is of one run */
    const json_t *json; /* the rest of it, where the report has it: losses, kernels, ... */
};

struct bench_report {
    const char *name; /* the file's, in UTF-8 */
    json_t *json;     /* {"name": NAME, "report": the report, without samples}; has the strings */
    struct result *results;
    size_t n_results;
    json_t *places; /* of results, by id */
};

struct reports {
    struct bench_report at[MOST_REPORTS];
    size_t count;
    size_t turns; /* pairs of runs that the two were made of; 0: they are of one run each */
    char message[REPORTS_MESSAGE]; /* what is wrong, with which file and where */
};

/* Adds the report in a JSON file of quern bench, or all reports in a page that page_text() made.
 * False, and a message, if there is anything wrong with it. */
bool reports_read(struct reports *reports, const char *path);
void reports_release(struct reports *reports);
void report_release(struct bench_report *report);

/* Puts two reports in the place of runs A, B, A, B and so on, whose times are medians of the runs'.  False, and a message, if these
 * are too few, or not all of A's or of B's are of one thing. */
bool reports_by_turns(struct reports *reports);

/* Of rows of such reports: the median of the ratios within pairs of runs, in an interval of 95% or more; and the probability that it lies
 * outside, of so many pairs. */
struct estimate ratio_of_turns(const struct result *a, const struct result *b);
double turns_outside(size_t turns);

/* A section of a report, such as "device"; NULL: it has none. */
json_t *report_section(const struct bench_report *report, const char *name);

/* How many of its rows have no figures: those that were left out, or those that are void. */
size_t report_failures(const struct bench_report *report, bool left_out);

/* Whether its shares of FLOP/s are those of older reports: of its best gemm alone, though fma may be greater. */
bool has_older_shares(const struct bench_report *report);

/* NULL: it has none of this id. */
const struct result *report_find(const struct bench_report *report, const char *id);

/* ---- The comparison: of all reports with the first ---- */

enum verdict { FASTER, SLOWER, SAME, UNCLEAR, NOT_COMPARABLE, VERDICTS, NO_VERDICT = VERDICTS };

extern const char *const verdict_names[VERDICTS];

struct against {
    enum verdict verdict;  /* NO_VERDICT: one of the two has no figures */
    struct estimate ratio; /* of quiet times to those of the first; of no use without a verdict */
};

/* A row, in each of the reports. */
struct entry {
    const char *id, *group;
    const struct result *results[MOST_REPORTS]; /* NULL: without figures there */
    struct against against[MOST_REPORTS];       /* of the first: no verdict */
};

struct bench_comparison {
    const struct reports *reports;
    struct entry
        *entries; /* in order of the reports: those that two have, then those that one alone has */
    size_t n_entries;                       /* of two; of the only report: all */
    size_t n_all;                           /* of one, too */
    struct estimate controls[MOST_REPORTS]; /* ratios that the machine itself explains */
    json_t *differing;                      /* see reports_differing() */
};

/* Key of a section: [A's, B's, ...]. */
json_t *reports_differing(const struct reports *reports);

/* False: out of memory. */
bool bench_comparison_make(struct bench_comparison *comparison, const struct reports *reports);
void bench_comparison_release(struct bench_comparison *comparison);

/* 'A' and so on. */
char report_letter(size_t report);

/* Verdicts on one report, of a group of rows or, if it is NULL, of all but peaks; of peaks, if there are no
 * others. */
struct tally {
    size_t counts[VERDICTS];
    size_t comparable; /* all but those that are not comparable */
    size_t n_like_fma; /* unclear with an interval without 1: it does not lie beyond fma's own */
    size_t n_void;     /* rows of the group that have no verdict, as they were wrong or failed */
    bool is_of_peaks;
    double
        ratio; /* geometric mean of the rows that can be compared; 0: more than half of them are unclear, or they are of several kinds */
};

struct tally tally_of(const struct bench_comparison *comparison, size_t report, const char *group);

/* What a tally is of: "12 rows", "1 comparable row", "5 peaks".  Returns `text`. */
enum { TALLY_TEXT = 48 };
const char *tally_text(char text[TALLY_TEXT], const struct tally *tally);

/* A sentence on those that are unclear for fma's sake; "": there are none.  Returns `text`. */
enum { LIKE_FMA_TEXT = 192 };
const char *like_fma_text(char text[LIKE_FMA_TEXT], const struct tally *tally,
                          const struct estimate *control);

/* The groups of rows, in their order; the number of them. */
enum { MOST_GROUPS = 16 };
size_t comparison_groups(const struct bench_comparison *comparison,
                         const char *groups[MOST_GROUPS]);

/* Whether the machine was not the same in this report and the first: fma itself differs. */
bool is_other_machine(const struct bench_comparison *comparison, size_t report);

/* Whether the report has the very run that an earlier one has; *earlier: the first of those. */
bool same_run(const struct bench_comparison *comparison, size_t report, size_t *earlier);

/* Whether the row is called slower by more than so many percent, at both ends of its interval.  Peaks are not,
 * unless there are no other rows. */
bool is_slower(const struct bench_comparison *comparison, size_t report, const struct entry *entry,
               double percent);

/* Whether no row of the report can be compared with one of the first, or none but peaks where there are rows. */
bool has_nothing_to_judge(const struct bench_comparison *comparison, size_t report);

/* ---- How it is shown ---- */

void print_comparison(const struct bench_comparison *comparison); /* Markdown, on stdout */
json_t *comparison_json(const struct bench_comparison *comparison);

/* Ids that other reports have and this one has not. */
json_t *missing_json(const struct bench_comparison *comparison, size_t report);

/* The page; free() it.  NULL: out of memory. */
char *page_text(const struct bench_comparison *comparison);

#endif

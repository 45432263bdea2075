/* quern score: what its metrics share. */
#ifndef QUERN_CLI_SCORE_H
#define QUERN_CLI_SCORE_H

#include <jansson.h>

#include <quern/score.h>

#include "cli/cli.h"
#include "cli/lines.h"

/* ---- Files of lines ---- */

/* Whether two files have the same number of lines; else an error. */
bool lines_match(qn_context *qn, const struct lines *hypotheses, const struct lines *reference);

/* ---- A comparison ---- */

struct comparison {
    const struct options *options;
    qn_context *qn;
    struct lines hypotheses, *references;
    size_t n_references;
};

/* Reads what the options name.  False and an error, also if the files have different numbers of
 * lines. */
bool comparison_read(struct comparison *comparison, const struct options *options, qn_context *qn);
void comparison_release(struct comparison *comparison);

/* The references of line `index` into `texts`: NULL those that --uneven leaves out. */
void comparison_references(const struct comparison *comparison, size_t index, const char **texts);

/* ---- Metrics: the exit status; the error of the context has the reason of a failure ---- */

int score_bleu(const struct options *options, qn_context *qn);
int score_chrf(const struct options *options, qn_context *qn);
int score_rouge(const struct options *options, qn_context *qn);
int score_squad(const struct options *options, qn_context *qn);
int score_accuracy(const struct options *options, qn_context *qn);
int score_spans(const struct options *options, qn_context *qn);

/* Adds spans of two files of tags, each in columns or lines; for the fuzzers, too. */
bool spans_read(qn_spans *spans, qn_context *qn, const char *gold, const char *predicted,
                bool in_columns, bool strict);

/* Adds the answers of SQuAD's files, and counts questions that have none. */
bool squad_read(qn_squad *squad, qn_context *qn, const char *dataset, const char *predictions,
                size_t *unanswered);

/* ---- Printing ---- */

/* Prints the object, and gives it back. */
int print_json(json_t *object);
json_t *json_of_ratios(struct qn_ratios ratios);

#endif

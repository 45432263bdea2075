/* What attention weighs, as pictures: labelled heat maps in one SVG. */
#ifndef QUERN_HEATMAP_H
#define QUERN_HEATMAP_H

#include <quern/text.h>

#include "io/file.h"

/* Maps of one size beside each other: `count` of them (rows, columns), weights from 0 to 1.  Row i is of token rows_ids[i], read by its
 * tokenizer, column j of column_ids[j]. */
struct heatmap {
    const char *title;
    const float *weights;
    size_t count, rows, columns;
    const qn_tokenizer *row_tokenizer, *column_tokenizer; /* NULL: labels are ids */
    const int32_t *row_ids, *column_ids;
    bool is_mean; /* one map, the mean of all, instead of a map each */
};

/* Writes a file that was created, and commits it; an error of its context if that fails. */
int heatmap_write(const struct heatmap *map, struct file_writer *writer);

#endif

/* Writing HTML with SVG, and JSON within: what comes from elsewhere is text unless a function says otherwise. */
#ifndef QUERN_BENCH_MARKUP_H
#define QUERN_BENCH_MARKUP_H

#include <jansson.h>

#include "cli/cli.h"

/* As fprintf, but what %s stands for is text: its <, >, & and quotation marks are escaped, and what does
 * not print is replaced.  It knows %s, %c, %d, %zu, %e, %f, %g and %%, without *. */
void markup(FILE *file, const char *format, ...) CLI_FORMAT(2, 3);

/* The same of an id, a key or a path, which may be broken behind "/", "." and "_". */
void markup_breakable(FILE *file, const char *text);

/* A number with a unit: "92.1 GFLOP/s", "12.4 ms", "18.1k tokens/s".  Returns `text`. */
enum { QUANTITY = 48 };
const char *quantity(char text[QUANTITY], double value, const char *unit);

/* JSON that no browser takes for markup, between these. */
extern const char markup_reports_begin[], markup_reports_end[];
bool markup_json(FILE *file, const json_t *json);

#endif

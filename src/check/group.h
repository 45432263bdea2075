/* Rows of a group in one plan, with each variant that fits. */
#ifndef QUERN_CHECK_GROUP_H
#define QUERN_CHECK_GROUP_H

#include <quern/quern.h>

#include "check/check.h"
#include "check/rows.h"

enum { GUARD = 2048 /* bytes behind each intermediate that nothing may write */ };

/* Whether the user asked for the row, and it can have operands of the type. */
bool is_wanted(const struct check_options *options, const struct row *row, enum qn_type type);

/* Rows of a group; false if the device was lost on the way. */
bool run_group(qn_context *context, const struct check_options *options, enum qn_type type,
               const struct row *rows, size_t n_rows);

#endif

/* The test of operations: what `quern check` runs. */
#ifndef QUERN_CHECK_H
#define QUERN_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct check_options {
    const char *device;       /* see qn_options.device */
    const char *gemm;         /* see qn_options.gemm */
    const char *const *names; /* groups and rows to run; if there are none: all */
    size_t n_names;
    const char *variant; /* run them with this variant only; or NULL */
    uint64_t seed;       /* of the operands */
    unsigned types;      /* bit i: run them with real operands of enum qn_type i */
    bool gradients_only;
    bool chosen_only; /* no variants but those that the device would choose */
    bool as_is;       /* the device does not pretend to be others */
};

/* Runs the rows on a device, as it is and, if that is wanted, as it pretends to be others.  Prints TAP on stdout, and at the end device, driver and counts on
 * stderr.  Returns 0 if all passed, else 1. */
int check_operations(const struct check_options *options);

/* Prints the rows that check_operations() would run, "GROUP ROW" a line; the variant is not looked at. */
void check_list(const struct check_options *options, FILE *file);

/* Whether a group or a row has this name. */
bool check_knows(const char *name);

#endif

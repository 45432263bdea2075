/* A row of a test of operations: how one is built, what it should give, and for which shapes. */
#ifndef QUERN_ROWS_H
#define QUERN_ROWS_H

#include <float.h>

#include <quern/ops.h>

#include "check/reference.h"

enum { MAX_CASES = 10 };

struct row {
    const char *group, *name;
    const char *operands;         /* a letter each: see fill() */
    const char *cases[MAX_CASES]; /* shapes of the operands: see parse_case() */
    unsigned wrt;                 /* bit i: compare the gradient with respect to operand i */
    double tolerance;             /* the greatest error over the greatest value of a tensor */
    double gradient_tolerance;    /* 0: four times that: a derivative rounds a few times more */
    bool is_relative;             /* each value by itself must be that exact */
    qn_node *(*build)(const struct row *row, qn_node *const *x);
    struct array (*reference)(const struct row *row, const struct array *x);

    /* What build and reference use. */
    qn_node *(*one)(qn_node *);
    double (*of_one)(double);
    qn_node *(*two)(qn_node *, qn_node *);
    double (*of_two)(double, double);
    double a, b;
    const void *options;
};

#define ROW(group_, name_, operands_, wrt_, error, gradient_error, relative, build_, reference_)   \
    .group = group_, .name = name_, .operands = operands_, .wrt = wrt_, .tolerance = error,        \
    .gradient_tolerance = gradient_error, .is_relative = relative, .build = build_,                \
    .reference = reference_

/* Half a unit in the last place. */
#define ULP (FLT_EPSILON / 2)

/* The rows of one or more groups. */
struct table {
    const struct row *rows;
    size_t count;
    enum pretended {
        ELEMENTWISE = 1,
        VARIANTS = 2,
        PRODUCTS = 4,
        ALL = 7
    } kind; /* which pretences run it, besides the first */
};
#define TABLE(rows, kind)                                                                          \
    {                                                                                              \
        rows, sizeof rows / sizeof *rows, kind                                                     \
    }

/* Tables up to one without rows. */
extern const struct table elementwise_tables[], shape_tables[], heavy_tables[], recurrent_tables[];

#endif

/* quern tune: the products that are tried, and what is found out about each. */
#ifndef QUERN_TUNE_H
#define QUERN_TUNE_H

#include "cli/bench/bench.h"
#include "gemm/tuning.h"

struct product {
    enum qn_type type;
    size_t sizes[MOST_SIZES]; /* M, N, K */
    size_t variant;           /* NN, NT, TN or TT */
    struct tuning_class of;
};

/* No two are of one class. */
struct products {
    struct product *at;
    size_t count, capacity;
};

/* Add those of a list of shapes that is good, in all transpositions; those of usual models.  False: out of memory. */
bool products_add_shapes(struct products *products, enum qn_type type, const char *shapes);
bool products_add_usual(struct products *products, enum qn_type type);

/* What a product takes: as it is by default, and by the fastest choice beside that. */
struct finding {
    const char *standard; /* the variant; NULL: nothing is known */
    double seconds;
    const struct tuning_choice *best; /* faster by more than noise; NULL: none is */
    double ratio;                     /* how many times as fast */
    bool is_cut;                      /* there was no time for all */
    char problem[ROW_REASON]; /* of the last choice that gave wrong results or failed; or "" */
};

struct measuring {
    qn_context *qn;
    struct progress *progress;
    double until; /* of seconds_now(): no trial begins later */
    size_t index, count;
};

/* Whether the time is up, or a signal asks for the end. */
bool is_over(const struct measuring *measuring);

/* False: the product as it is by default fails; the finding's problem says why. */
bool product_measure(const struct measuring *measuring, const struct product *product,
                     struct finding *finding);

#endif

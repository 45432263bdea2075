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

/* A choice that fits, and is not the default. */
struct attempt {
    const struct tuning_choice *choice;
    double ratio; /* how many times as fast as the default; 0: it is void */
};

/* What a product takes: as it is by default, and by the fastest choice beside that.  What is void - wrong, or fails - is told on stderr.
 * Where the default is, the first choice that is right takes its place: others are compared with it. */
struct finding {
    const char *standard; /* the default's variant; NULL: it could not be planned */
    bool is_void;         /* the default */
    double seconds;       /* of the default; if there is a best, in turns with that */
    const struct tuning_choice
        *best; /* faster by more than noise; right, if the default is void; NULL: none is */
    double best_seconds, ratio; /* how many times as fast it is */
    struct attempt tried[TUNING_CHOICES];
    size_t n_tried; /* fastest first */
    size_t n_void;  /* of the default and what was tried */
    bool is_cut;    /* there was no time for all */
};

struct measuring {
    const struct options *options;
    qn_context *qn;
    struct progress *progress;
    double until; /* of seconds_now(): no trial begins later */
    size_t index, count;
};

/* Whether the time is up, or a signal asks for the end. */
bool is_over(const struct measuring *measuring);

void product_measure(const struct measuring *measuring, const struct product *product,
                     struct finding *finding);

#endif

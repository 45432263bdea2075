/* Batches of examples: what is known of a data set after the first pass, and the thread that makes them. */
#ifndef QUERN_BATCHES_H
#define QUERN_BATCHES_H

#include <pthread.h>

#include "text/data/records.h"
#include "text/data/shapes.h"
#include "text/tokenizer.h"

struct batch_field {
    struct qn_batch_field options; /* the tokenizer is a copy */
    char *name;
    bool shares_tokenizer; /* with a field before it */
};

/* Which examples a shape has, and which batches of an epoch before these are put in order. */
struct shape_range {
    struct qn_batch_shape shape;
    size_t first_example, examples, first_batch, batches;
};

/* What makes the examples of records: a thread's own. */
struct maker {
    qn_context errors; /* keeps only the error */
    struct record record;
    struct ids ids;
};

/* A batch in memory of its own. */
struct slot {
    struct qn_batch batch;
    int32_t *ids[QN_MAX_FIELDS], *lengths[QN_MAX_FIELDS];
    size_t *records;
};

/* One batch is used while others are made: of those, `made` counts all, `taken` those that were given out. */
enum { SLOTS = 4 };
struct prefetch {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_running, is_stopped, has_failed;
    struct slot slots[SLOTS];
    uint64_t made, taken, next; /* number of the next batch to make */
    uint64_t seeks;             /* what was begun before the last one is of no use */
};

struct qn_batches {
    qn_records *records;
    struct batch_field fields[QN_MAX_FIELDS];
    size_t n_fields;
    struct qn_batch_options options;
    size_t *examples; /* the record of each, by shape */
    size_t n_examples;
    struct shape_range *shapes;
    size_t n_shapes, per_epoch, too_long, damaged, tokens, padding;
    struct maker maker;
    struct prefetch prefetch;
};

/* What a record came to. */
enum made { MADE, MADE_TOO_LONG, MADE_DAMAGED, MADE_FAILED };

/* Makes the ids of a field of the record that was read: the maker's; what is damaged is said in its record. */
enum made make_field(qn_batches *batches, size_t field);

/* "FILE:LINE" of a field of a record. */
const char *field_place(const qn_batches *batches, size_t record, size_t field,
                        char place[PLACE_BYTES]);

/* Whether no file has changed; else that is the maker's error, whatever else came of it. */
bool maker_check(qn_batches *batches);

/* Batch number `number` of all epochs, into a slot; false and an error in the maker. */
bool make_batch(qn_batches *batches, uint64_t number, struct slot *slot);

/* Where `index` of `count` goes in an order of its own for each key and each stream of numbers: a permutation. */
struct order {
    uint64_t seed, epoch;
    uint32_t stream;
};
uint64_t order_permute(struct order order, uint64_t index, uint64_t count);

bool prefetch_start(qn_batches *batches);
void prefetch_stop(qn_batches *batches); /* and frees what it has */

#endif

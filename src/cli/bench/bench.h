/* quern bench: what its files share.
 *
 * A row is something timed: a peak of the device, an operation, a step of training.  It is checked
 * first; one that is wrong is void, with a reason and without a figure. */
#ifndef QUERN_BENCH_H
#define QUERN_BENCH_H

#include <jansson.h>
#include <quern/train.h>

#include "cli/progress.h"

/* ---- Timing ---- */

/* Seconds of a run: in each sample, their median, the bounds of its 95% interval. */
struct timing {
    double *samples; /* in the order in which they were taken */
    size_t count;
    double median, low, high, best;
};

/* Adds a sample.  False if there is no memory, or no room for more. */
bool timing_add(struct timing *timing, double seconds);
void timing_finish(struct timing *timing);

/* At least this many samples, however long they take: the interval of fewer is all of them. */
enum { LEAST_SAMPLES = 10, MOST_SAMPLES = 1000 };

/* Warms up, then samples runs for `seconds`.  A sample is as many runs as take some milliseconds,
 * or one that waits for its end if `one_at_a_time`.  A negative status on failure. */
int timing_of_plan(struct timing *timing, qn_context *qn, qn_plan *plan, double seconds,
                   bool one_at_a_time);

/* ---- Rows ---- */

enum unit { FLOPS, BYTES, TOKENS, NO_UNIT };

enum { ROW_ID = 96, ROW_REASON = 256, CHECKED_STEPS = 8 };

enum table { TABLE_PEAKS, TABLE_OPERATIONS, TABLE_TRAINING, TABLE_GENERATION, TABLES };

struct row {
    enum table table;
    char id[ROW_ID];         /* "gemm/256x256x256/NT": name, shape, variant */
    char reason[ROW_REASON]; /* why it is void; "": it is not */
    struct timing timing;
    enum unit unit;
    double amount;  /* of the unit, in a run */
    double of_peak; /* share; 0: unknown */
    /* Training only. */
    double model_flops;  /* of a step */
    double cold_start_s; /* the first step, with all that is compiled for it */
    struct qn_memory memory;
    double losses[CHECKED_STEPS]; /* of the first steps */
};

/* "256x256x256" of `count` sizes. */
enum { SIZES_TEXT = 64, MOST_SIZES = 4 };
const char *sizes_text(char text[SIZES_TEXT], const size_t *sizes, size_t count);

double row_rate(const struct row *row); /* of the unit, a second */
void row_void(struct row *row, const char *format, ...) CLI_FORMAT(2, 3);

/* ---- The run ---- */

enum { COPY_PEAKS = 3 };

/* The best of the device, as measured here; 0 where that failed. */
struct peaks {
    double fma_flops, gemm_flops;
    struct {
        double moved, rate; /* bytes, and bytes a second */
    } copies[COPY_PEAKS];
    double launch_s;
};

struct bench {
    const struct options *options;
    qn_context *qn;
    double seconds; /* a row */
    struct progress progress;
    struct peaks peaks;
    struct row *rows;
    size_t n_rows;
    json_t *against; /* the other program's cases; NULL: none */
};

/* A new row, shown as being worked on; NULL if there is no memory. */
struct row *bench_row(struct bench *bench, enum table table, const char *format, ...)
    CLI_FORMAT(3, 4);

/* The share of the copy whose bytes are nearest to the row's. */
double share_of_copy(const struct peaks *peaks, const struct row *row);

/* These return false if there is no memory; what else goes wrong is in the row. */
bool bench_peaks(struct bench *bench);

/* The rows of these groups: those of one shape (batch x context; tokens of the prompt), or all if
 * there are no sizes. */
bool bench_train(struct bench *bench, const size_t *sizes, size_t count);
bool bench_generate(struct bench *bench, const size_t *sizes, size_t count);
bool train_has_shape(const size_t *sizes, size_t count);
bool generate_has_shape(const size_t *sizes, size_t count);

/* ---- Operations ---- */

enum { MOST_OPERANDS = 8, MOST_RESULTS = 4, MOST_VARIANTS = 4 };

/* A graph of one operation, and perhaps its gradients, with what goes in and comes out. */
struct operation {
    qn_context *qn;
    qn_graph *graph;
    qn_tensor *operands[MOST_OPERANDS], *results[MOST_RESULTS];
    void *operand_values[MOST_OPERANDS], *result_values[MOST_RESULTS]; /* on the host, if asked */
    qn_node *leaves[MOST_OPERANDS], *roots[MOST_RESULTS];
    size_t n_operands, n_results;
    qn_plan *plan;
};

/* Leaves with normal numbers, with numbers that rise from -1 to 1 again and again (made in less
 * time, for operations that do little), with one number, with whole numbers below `below`. */
qn_node *operation_normal(struct operation *operation, qn_shape shape);
qn_node *operation_counted(struct operation *operation, size_t count);
qn_node *operation_filled(struct operation *operation, qn_shape shape, double value);
qn_node *operation_indices(struct operation *operation, size_t count, size_t below);

/* Makes the node a result. */
void operation_result(struct operation *operation, qn_node *node);

/* Makes the node the new value of that operand, which becomes the result of the same index. */
void operation_update(struct operation *operation, size_t operand, qn_node *node);

/* Makes it a result and, if `backward`, the gradients of the first `count` operands, weighted by
 * one more operand of its shape unless it is one number. */
void operation_with_gradients(struct operation *operation, qn_node *node, bool backward,
                              size_t count);

/* Values on the host; NULL on failure. */
const float *operand_values(struct operation *operation, size_t index);
const float *result_values(struct operation *operation, size_t index);
const int32_t *operand_indices(struct operation *operation, size_t index);

void operation_free(struct operation *operation);

/* Numbers of results against what they should be. */
struct check {
    size_t numbers;
    char reason[ROW_REASON]; /* of the first that is wrong */
};

/* Compares one number; `where` and the index are for the message. */
void check_number(struct check *check, const char *where, size_t index, double found,
                  double expected, double allowed);

/* A kind of operation: how it is built, what it costs, what it should give. */
struct kind {
    const char *group, *name;
    size_t n_sizes;
    const char *variants[MOST_VARIANTS]; /* NULL after the last; one "" for kinds that have none */
    enum unit unit;
    void (*build)(struct operation *operation, const size_t *sizes, size_t variant);
    void (*check)(struct check *check, struct operation *operation, const size_t *sizes,
                  size_t variant);
    double (*amount)(const size_t *sizes, size_t variant);
};

extern const struct kind kinds[];
extern const size_t n_kinds;

enum { FORWARD, BACKWARD }; /* variants of most kinds */
enum { NN, NT, TN, TT };    /* variants of gemm: T where an operand is transposed */

void check_gemm(struct check *check, struct operation *operation, const size_t *s, size_t variant);
void check_attention(struct check *, struct operation *, const size_t *s, size_t variant);
void check_layer_norm(struct check *, struct operation *, const size_t *s, size_t variant);
void check_softmax(struct check *, struct operation *, const size_t *s, size_t variant);
void check_cross_entropy(struct check *, struct operation *, const size_t *s, size_t variant);
void check_gelu(struct check *, struct operation *, const size_t *s, size_t variant);
void check_dropout(struct check *, struct operation *, const size_t *s, size_t variant);
void check_embedding(struct check *, struct operation *, const size_t *s, size_t variant);
void check_adamw(struct check *, struct operation *, const size_t *s, size_t variant);
void check_copy(struct check *, struct operation *, const size_t *s, size_t variant);
void check_add(struct check *, struct operation *, const size_t *s, size_t variant);

extern const struct qn_adamw bench_adamw; /* the constants of the adamw rows */
extern const double bench_dropout;        /* the chance of the dropout rows */

void build_copy(struct operation *operation, const size_t *s, size_t variant);

/* Builds, checks and times a row, and prints it. */
bool bench_operation(struct bench *bench, enum table table, const struct kind *kind,
                     const size_t *sizes, size_t variant);

/* The rows of a group that come by themselves; those of the shapes that --shapes gives. */
bool bench_group(struct bench *bench, const char *group);
bool bench_shapes(struct bench *bench, const char *group, const char *shapes);

/* Whether each of the comma-separated shapes is one of some kind of the group; else *wrong is its
 * text. */
bool shapes_are_good(const char *group, const char *shapes, char wrong[SIZES_TEXT]);

/* ---- Reports ---- */

void report_head(const struct bench *bench);
void report_row(struct bench *bench, const struct row *row); /* once it is finished */
void report_notes(const struct bench *bench);

/* Whether the JSON file can be written, before all is measured; writes it.  False, with errno, if
 * it cannot. */
bool report_may_write(const char *path);
bool report_json(const struct bench *bench, const char *path);

/* Reads what PyTorch reached; NULL, with a message, if it is no such file. */
json_t *against_read(const char *path, char *message, size_t message_bytes);

/* Their best rate of the case that is the row's, in the row's unit; 0: they have none. */
double against_rate(const json_t *against, const struct row *row);

#endif

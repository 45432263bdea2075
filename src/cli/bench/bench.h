/* quern bench: what its files share.
 *
 * A row is something timed: a peak of the device, an operation, a step of training.  It is checked
 * first; one that is wrong is void, with a reason and without a figure.  Rows are made first, then
 * timed in rounds, then reported. */
#ifndef QUERN_BENCH_H
#define QUERN_BENCH_H

#include <quern/train.h>

#include "cli/device_json.h"
#include "cli/bench/sensors.h"
#include "cli/progress.h"
#include "device/context.h"

/* ---- Timing ---- */

/* All rows are visited in turn, this many times: so each row's samples are spread over the run, and
 * what changes within minutes is among them. */
enum { ROUNDS = 10, ROUND_SAMPLES = 100 };

/* A value, and the bounds of its interval. */
struct estimate {
    double value, low, high;
};

/* Seconds of a run, in each sample, and what rounds make of them. */
struct timing {
    double *samples;        /* in the order in which they were taken */
    size_t ends[ROUNDS];    /* of each round's samples */
    size_t rounds;          /* that have ended */
    size_t count, runs;     /* runs: how many are timed together as a sample; 0: not known yet */
    struct estimate median; /* of the rounds' medians */
    struct estimate quiet;  /* lower quartile of the rounds' bests */
    double best;
};

/* In ascending order; and the median of numbers that are. */
void numbers_sort(double *numbers, size_t count);
double median_of(const double *sorted, size_t count);

/* Adds a sample; false if there is no memory. */
bool timing_add(struct timing *timing, double seconds);
double newest_sample(const struct timing *timing);

/* Whether the round that is under way, having sampled for so long, needs a first sample, or has time
 * and room for more. */
bool timing_wants_more(const struct timing *timing, double sampled, double seconds);

/* Ends a round, which has at least one sample. */
void timing_end_round(struct timing *timing);

/* Computes the estimates, of timings with samples in each of ROUNDS rounds; false if there is no
 * memory. */
bool timing_finish(struct timing *timing);

/* Warms up, then samples runs for `seconds`.  A sample is as many runs as take some milliseconds,
 * or one that waits for its end if `one_at_a_time`.  A negative status on failure. */
int timing_of_plan(struct timing *timing, qn_context *qn, qn_plan *plan, double seconds,
                   bool one_at_a_time);

/* Seconds a run of `runs` of them, to their end; negative on failure. */
double time_of(qn_context *qn, qn_plan *plan, size_t runs);

/* ---- Rows ---- */

enum unit { FLOPS, BYTES, TOKENS, NO_UNIT };

enum { ROW_ID = 96, ROW_REASON = 256, CHECKED_STEPS = 8, SIZES_TEXT = 64, MOST_SIZES = 4 };
enum { DRAWN = 32 }; /* tokens that a sample of generating has */

enum table { TABLE_PEAKS, TABLE_OPERATIONS, TABLE_TRAINING, TABLE_GENERATION, TABLES };

struct bench;
struct kind;
struct lesson;
struct operation;
struct recipe;
struct row;

/* One round of a row: makes what is to be timed, checks it the first time, samples for
 * `seconds`, and frees it or keeps it for the next round.  What goes wrong makes the row void. */
typedef void row_round(struct bench *bench, struct row *row, double seconds);

/* Something to do with what a row times: run(of) runs it once; false on failure. */
typedef bool row_run(void *of);
typedef void row_use(qn_context *qn, struct row *row, row_run *run, void *of);

/* Makes in any context what a row times, has it used, and frees it.  False if it could not be made, with an error in the context. */
typedef bool row_with(qn_context *qn, struct row *row, row_use *use);

/* What the ids of peaks begin with: operations of the same shape may follow. */
#define PEAK "peak/"

struct row {
    enum table table;
    row_round *round;
    row_with *with;
    char id[ROW_ID];         /* "gemm/256x256x256/NT": name, shape, variant */
    char reason[ROW_REASON]; /* why it is void or left out; "": it is neither */
    bool is_left_out;
    struct timing timing;
    enum unit unit;
    double amount;                   /* of the unit, in a run */
    double of_peak;                  /* share; 0: unknown */
    json_t *kernels;                 /* what each takes of a run; NULL: not profiled */
    double device_bytes, host_bytes; /* that it takes, as planned */
    double kept_bytes;               /* of the device, kept for the next round */
    /* Operations only. */
    const struct kind *kind;
    size_t sizes[MOST_SIZES], variant;
    uint64_t bits;               /* a hash of the results; each round must give it */
    struct operation *operation; /* kept for the next round; NULL: none is */
    /* Generating only. */
    size_t prompt; /* tokens */
    /* Training only. */
    const struct recipe *recipe;
    struct lesson *lesson; /* kept for the next round, if there is room; NULL: none is */
    double model_flops;    /* of a step */
    double cold_start_s;   /* the first step, with all that is compiled for it */
    struct qn_memory memory;
    double losses[CHECKED_STEPS]; /* of the first steps */
};

/* "256x256x256" of `count` sizes. */
const char *sizes_text(char text[SIZES_TEXT], const size_t *sizes, size_t count);

double row_rate(const struct row *row); /* of the unit, a second */
void row_void(struct row *row, const char *format, ...) CLI_FORMAT(2, 3);

/* What a compiler says has lines and margins, a cell of a table has neither: its words, by one space, or a semicolon at the end of a line,
 * cut between words if they are too many.  Returns `text`. */
const char *reason_text(char text[ROW_REASON], const char *lines);
bool row_is_void(const struct row *row);

/* ---- The run ---- */

/* The smallest that a row is in: each has the rows of those before it. */
enum suite { QUICK, STANDARD, FULL, SUITES };
extern const char *const suite_names[SUITES];

enum { COPY_PEAKS = 3 };

/* The best of the device, as measured here; 0 where that failed. */
struct peaks {
    double fma_flops, gemm_flops, matrix_bf16_flops, gemm_bf16_flops;
    struct copy_peak {
        double moved, rate; /* bytes, and bytes a second */
    } copies[COPY_PEAKS];
    double launch_s;
};

/* Now, in UTC. */
enum { TIME_TEXT = 32 };
void time_text(char text[TIME_TEXT]);

struct bench {
    const struct options *options;
    qn_context *qn;
    char device[512]; /* its name */
    char selector[SELECTOR_TEXT];
    char tuning[DIGEST_TEXT],
        kernels[DIGEST_TEXT]; /* hashes: of the tuning file, or ""; of the kernels' sources */
    char started[TIME_TEXT];
    enum suite suite;
    double seconds; /* a row, in all rounds */
    double longest; /* that the fewest runs of a row may take */
    double room;    /* bytes of the device that may be kept from round to round */
    struct progress progress;
    struct peaks peaks;
    struct row *rows;
    size_t n_rows;
    struct sensors *sensors;
    struct sensor_reading *readings; /* one a visit of a row, if there are sensors */
    size_t n_readings;
    json_t *against; /* the other program's cases; NULL: none */
};

/* How the device is opened. */
struct qn_options bench_options(const struct bench *bench);

/* The groups whose rows are made. */
json_t *groups_json(const struct options *options);

/* Says what is being done with a row, on a terminal in a line that is rewritten; ends that line. */
void bench_show(struct bench *bench, const char *work, size_t index, const char *id);
void bench_show_end(struct bench *bench);

/* A new row; NULL if there is no memory.  The next one may move it. */
struct row *bench_row(struct bench *bench, enum table table, const char *format, ...)
    CLI_FORMAT(3, 4);

/* The device that is open, in a list; NULL: not found. */
const struct qn_device *open_device(const struct bench *bench, const qn_device_list *list);

/* These make rows, and return false if there is no memory. */
bool bench_peaks(struct bench *bench);

/* What FLOP/s of f32, and of bf16, are a share of. */
double flops_peak(const struct peaks *peaks);
double bf16_flops_peak(const struct peaks *peaks);

/* Takes the device's peaks from rows that are timed, and gives each row its share of them. */
void set_peaks(struct bench *bench);

/* Seconds of a run at the peaks as far as they have been sampled; 0: not known. */
double seconds_at_peak(const struct bench *bench, const struct row *row);

/* Leaves out rows that the device has no room for; one that would take too long. */
void leave_out_too_large(struct bench *bench);
void leave_out_too_long(const struct bench *bench, struct row *row); /* as the peaks predict */
void leave_out_slow(const struct bench *bench, struct row *row);     /* as its first round was */

/* Tokens `begin` and so on, the same on every machine. */
void make_tokens(int32_t *tokens, size_t begin, size_t count, size_t vocabulary);

/* The rows of these groups ("train" or "seq2seq", and "generate"): those of one shape (batch x context; tokens of the prompt), or all that
 * the suite has if there are no sizes. */
bool bench_train(struct bench *bench, const char *group, const size_t *sizes, size_t count);
bool bench_generate(struct bench *bench, const size_t *sizes, size_t count);
bool train_has_shape(const char *group, const size_t *sizes, size_t count);
bool generate_has_shape(const size_t *sizes, size_t count);

/* Whether what a row has made may be kept for the next round: it is not void, and there is room, which is taken. */
bool take_room(struct bench *bench, struct row *row, double bytes);

/* At the end of its round a row that is not void gives the device once more what it times, and reads the sensors, if there are any, before it
 * waits: after the wait the device would be idle, and no sample may have a reading within it.  start(of) begins a run without waiting for it;
 * as many are begun as last for a hundredth of a second, at `seconds` each.  False on failure. */
bool has_sensors(const struct bench *bench);
bool read_sensors_at_work(struct bench *bench, row_run *start, void *of, double seconds);

/* Free what a row keeps. */
void lesson_release(struct row *row);
void operation_release(struct row *row);

/* What trained losses are held to. */
const double *reference_losses(const struct row *row);

/* ---- Operations ---- */

enum { MOST_LAYERS = 4, MOST_OPERANDS = 20, MOST_RESULTS = 20, MOST_VARIANTS = 4 };

/* A graph of one operation, and perhaps its gradients, with what goes in and comes out. */
struct operation {
    qn_context *qn;
    qn_graph *graph;
    qn_tensor *operands[MOST_OPERANDS], *results[MOST_RESULTS];
    void *operand_values[MOST_OPERANDS], *result_values[MOST_RESULTS]; /* on the host, if asked */
    qn_node *leaves[MOST_OPERANDS], *roots[MOST_RESULTS];
    size_t n_operands, n_results;
    bool is_planned; /* only: tensors have no memory */
    qn_node *input;  /* what is no tensor, so that nothing is computed once for all runs; or NULL */
    float *input_values;
    qn_plan *plan;
};

/* The input, of normal numbers. */
qn_node *operation_input(struct operation *operation, qn_shape shape);

/* Leaves with normal numbers, with uniform ones between -bound and bound, with numbers that rise from -1 to 1 again and again (made in less
 * time, for operations that do little), with one number, with whole numbers below `below`, with one
 * whole number. */
qn_node *operation_normal(struct operation *operation, qn_shape shape);
qn_node *operation_uniform(struct operation *operation, qn_shape shape, double bound);
qn_node *operation_counted(struct operation *operation, size_t count);
qn_node *operation_filled(struct operation *operation, qn_shape shape, double value);
qn_node *operation_indices(struct operation *operation, size_t count, size_t below);
qn_node *operation_integer(struct operation *operation, int32_t value);

/* The operand that was made last. */
qn_tensor *operation_newest(const struct operation *operation);

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

/* What may be allowed of what is made of products, if with those of f32 it is `allowed`: more where they are of TF32.  The magnitude of a sum is the
 * root of the sum of its terms' squares. */
double allowed_of_products(const qn_context *qn, double allowed, double magnitude);

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

/* Products of matrices of a real type, with variants NN, NT, TN and TT. */
const struct kind *kind_of_products(enum qn_type type);

/* Runs the plan once and looks at some of the numbers.  False: the check's reason, or else the context's error, says why. */
bool operation_is_right(struct operation *operation, const struct kind *kind, const size_t *sizes,
                        size_t variant, struct check *check);

enum { FORWARD, BACKWARD }; /* variants of most kinds */
enum { NN, NT, TN, TT };    /* variants of gemm: T where an operand is transposed */

void check_gemm(struct check *check, struct operation *operation, const size_t *s, size_t variant);
void check_gemm_bf16(struct check *, struct operation *, const size_t *s, size_t variant);
void check_gemm_f16(struct check *, struct operation *, const size_t *s, size_t variant);
void check_attention(struct check *, struct operation *, const size_t *s, size_t variant);
void check_attention_decode(struct check *, struct operation *, const size_t *s, size_t variant);
void check_layer_norm(struct check *, struct operation *, const size_t *s, size_t variant);
void check_softmax(struct check *, struct operation *, const size_t *s, size_t variant);
void check_cross_entropy(struct check *, struct operation *, const size_t *s, size_t variant);
void check_gelu(struct check *, struct operation *, const size_t *s, size_t variant);
void check_dropout(struct check *, struct operation *, const size_t *s, size_t variant);
void check_embedding(struct check *, struct operation *, const size_t *s, size_t variant);
void check_adamw(struct check *, struct operation *, const size_t *s, size_t variant);
void check_copy(struct check *, struct operation *, const size_t *s, size_t variant);
void check_add(struct check *, struct operation *, const size_t *s, size_t variant);

/* Recurrent layers. */
void build_rnn(struct operation *operation, const size_t *s, size_t variant);
void build_lstm(struct operation *operation, const size_t *s, size_t variant);
void build_gru(struct operation *operation, const size_t *s, size_t variant);
void check_rnn(struct check *check, struct operation *operation, const size_t *s, size_t variant);
void check_lstm(struct check *check, struct operation *operation, const size_t *s, size_t variant);
void check_gru(struct check *check, struct operation *operation, const size_t *s, size_t variant);
double amount_rnn(const size_t *s, size_t variant);
double amount_lstm(const size_t *s, size_t variant);
double amount_gru(const size_t *s, size_t variant);

extern const struct qn_adamw bench_adamw; /* the constants of the adamw rows */
extern const double bench_dropout;        /* the chance of the dropout rows */

void build_copy(struct operation *operation, const size_t *s, size_t variant);

/* The peak of instructions that multiply matrices of bf16: whether a device has it, and in which variant. */
extern const struct kind matrix_peak_kind;
bool matrix_peak_variant(const qn_context *qn, size_t *variant);

/* A row of an operation. */
bool bench_operation(struct bench *bench, enum table table, const struct kind *kind,
                     const size_t *sizes, size_t variant);

/* The rows of a group that the suite has; those of the shapes that --shapes gives. */
bool bench_group(struct bench *bench, const char *group);
bool bench_shapes(struct bench *bench, const char *group, const char *shapes);

/* Reads the next of shapes such as "64x64x64,128x128x128"; false if it is none. */
bool read_shape(const char **shapes, size_t sizes[MOST_SIZES], size_t *count);

/* Whether each of the comma-separated shapes is one of some kind of the group; else *wrong is its
 * text. */
bool shapes_are_good(const char *group, const char *shapes, char wrong[SIZES_TEXT]);

/* ---- Time by kernel ---- */

/* Opens the context anew, with kernels timed, and profiles all rows that are not void.  False if it cannot be opened; what cannot be profiled
 * has no kernels. */
bool bench_profile(struct bench *bench);

/* ---- Reports ---- */

void report_tables(const struct bench *bench);

/* Writes the JSON file.  False, and a message, if it cannot. */
enum { WRITE_MESSAGE = 1024 };
bool report_json(const struct bench *bench, const char *path, char message[WRITE_MESSAGE]);

/* Writes a text, or a document, which is freed.  The same. */
bool text_write(const char *text, const char *path, char message[WRITE_MESSAGE]);
bool json_write(json_t *document, const char *path, char message[WRITE_MESSAGE]);

/* Whether a file can be written, and whether what is there is of its kind, so that nothing else is lost: asked before all is measured.  The
 * same. */
enum written { WRITTEN_REPORT, WRITTEN_COMPARISON, WRITTEN_PAGE };
bool may_write(enum written kind, const char *path, char message[WRITE_MESSAGE]);

/* Prints text from elsewhere in a cell of a table: without what would end the cell or steer a terminal. */
void print_cell_text(const char *text);

/* Reads what PyTorch reached; NULL, with a message, if it is no such file. */
json_t *against_read(const char *path, char *message, size_t message_bytes);

/* Their best rate of the case that is the row's, in the row's unit; 0: they have none. */
double against_rate(const json_t *against, const struct row *row);

#endif

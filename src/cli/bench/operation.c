/* An operation by itself: its operands, its graph, its results, and the row that it makes. */
#include "cli/bench/bench.h"

#include <stdlib.h>
#include <string.h>

#include "device/context.h"

/* ---- Operands ---- */

static qn_node *add_operand(struct operation *operation, enum qn_type type, qn_shape shape)
{
    qn_tensor *tensor = qn_tensor_new(operation->qn, "operand", type, shape);
    if (!tensor)
        return NULL;
    size_t index = operation->n_operands++;
    operation->operands[index] = tensor;
    operation->leaves[index] = qn_leaf(operation->graph, tensor);
    return operation->leaves[index];
}

qn_node *operation_filled(struct operation *operation, qn_shape shape, double value)
{
    qn_node *leaf = add_operand(operation, QN_F32, shape);
    if (operation->is_planned)
        return leaf;
    return leaf && qn_fill(operation_newest(operation), value) == QN_OK ? leaf : NULL;
}

qn_tensor *operation_newest(const struct operation *operation)
{
    return operation->operands[operation->n_operands - 1];
}

/* Fills the newest operand, and frees the values. */
static qn_node *write_operand(struct operation *operation, qn_node *leaf, void *values)
{
    bool is_good = leaf && values && qn_tensor_write(operation_newest(operation), values) == QN_OK;
    free(values);
    return is_good ? leaf : NULL;
}

/* The numbers of a small tensor, again and again: rounds make operands anew, and those of the largest
 * rows would take a second.  A prime number of them, so that rows differ. */
static bool repeat_normal(const struct operation *operation, float *values, size_t count)
{
    enum { PERIOD = 65521 };
    size_t filled = count < PERIOD ? count : PERIOD;
    qn_tensor *numbers = qn_tensor_new(operation->qn, "normal", QN_F32, QN_SHAPE(filled));
    bool is_good = numbers && qn_fill_normal(numbers, 0, 1, operation->n_operands) == QN_OK &&
                   qn_tensor_read(numbers, values) == QN_OK;
    qn_tensor_free(numbers);
    for (size_t i = filled; is_good && i < count; i++)
        values[i] = values[i - filled];
    return is_good;
}

qn_node *operation_normal(struct operation *operation, qn_shape shape)
{
    qn_node *leaf = add_operand(operation, QN_F32, shape);
    if (operation->is_planned)
        return leaf;
    float *values = leaf ? malloc(qn_tensor_bytes(operation_newest(operation))) : NULL;
    bool is_good = values && repeat_normal(operation, values, qn_shape_count(shape));
    return write_operand(operation, is_good ? leaf : NULL, values);
}

qn_node *operation_uniform(struct operation *operation, qn_shape shape, double bound)
{
    qn_node *leaf = add_operand(operation, QN_F32, shape);
    uint64_t seed = operation->n_operands;
    if (operation->is_planned)
        return leaf;
    bool is_good =
        leaf && qn_fill_uniform(operation_newest(operation), -bound, bound, seed) == QN_OK;
    return is_good ? leaf : NULL;
}

qn_node *operation_input(struct operation *operation, qn_shape shape)
{
    size_t count = qn_shape_count(shape);
    float *values = operation->is_planned ? NULL : malloc(count * sizeof *values);
    operation->input_values = values;
    if (!operation->is_planned && (!values || !repeat_normal(operation, values, count)))
        return NULL;
    return operation->input = qn_input(operation->graph, "input", QN_F32, shape);
}

qn_node *operation_counted(struct operation *operation, size_t count)
{
    qn_node *leaf = add_operand(operation, QN_F32, QN_SHAPE(count));
    if (operation->is_planned)
        return leaf;
    float *values = leaf ? malloc((count + 1) * sizeof *values) : NULL;
    for (size_t i = 0; values && i < count; i++)
        values[i] = (float)(i % 1021) / 512 - 1;
    return write_operand(operation, leaf, values);
}

qn_node *operation_indices(struct operation *operation, size_t count, size_t below)
{
    qn_node *leaf = add_operand(operation, QN_I32, QN_SHAPE(count));
    if (operation->is_planned)
        return leaf;
    int32_t *values = leaf ? malloc((count + 1) * sizeof *values) : NULL;
    for (size_t i = 0; values && i < count; i++)
        values[i] = (int32_t)((uint32_t)i * 2654435761u % below);
    return write_operand(operation, leaf, values);
}

qn_node *operation_integer(struct operation *operation, int32_t value)
{
    qn_node *leaf = add_operand(operation, QN_I32, QN_SHAPE(1));
    if (operation->is_planned)
        return leaf;
    bool is_good = leaf && qn_tensor_write(operation_newest(operation), &value) == QN_OK;
    return is_good ? leaf : NULL;
}

/* ---- Results ---- */

/* Results are tensors: a small one that is not would be copied to the host in each run. */
void operation_result(struct operation *operation, qn_node *node)
{
    size_t index = operation->n_results++;
    if (node)
        operation->results[index] =
            qn_tensor_new(operation->qn, "result", qn_node_type(node), qn_node_shape(node));
    if (operation->results[index])
        operation->roots[index] = qn_assign(operation->results[index], node);
}

void operation_update(struct operation *operation, size_t operand, qn_node *node)
{
    operation->results[operand] = operation->operands[operand];
    operation->roots[operand] = qn_assign(operation->operands[operand], node);
    operation->n_results++;
}

void operation_with_gradients(struct operation *operation, qn_node *node, bool backward,
                              size_t count)
{
    qn_node *gradients[MOST_RESULTS] = {NULL}, *seed = NULL;
    operation_result(operation, node);
    if (!backward || !node)
        return;
    if (qn_node_shape(node).rank > 0)
        seed = operation_normal(operation, qn_node_shape(node));
    qn_gradients(node, seed, operation->leaves, count, gradients);
    for (size_t i = 0; i < count; i++)
        operation_result(operation, gradients[i]);
}

/* ---- On the host ---- */

static const void *values_of(const qn_tensor *tensor, void **values)
{
    if (!*values) {
        *values = malloc(qn_tensor_bytes(tensor));
        if (*values && qn_tensor_read(tensor, *values) != QN_OK) {
            free(*values);
            *values = NULL;
        }
    }
    return *values;
}

const float *operand_values(struct operation *operation, size_t index)
{
    return values_of(operation->operands[index], &operation->operand_values[index]);
}

const int32_t *operand_indices(struct operation *operation, size_t index)
{
    return values_of(operation->operands[index], &operation->operand_values[index]);
}

const float *result_values(struct operation *operation, size_t index)
{
    return values_of(operation->results[index], &operation->result_values[index]);
}

void operation_free(struct operation *operation)
{
    for (size_t i = 0; i < MOST_OPERANDS; i++)
        free(operation->operand_values[i]);
    for (size_t i = 0; i < MOST_RESULTS; i++)
        free(operation->result_values[i]);
    free(operation->input_values);
    qn_plan_free(operation->plan);
    qn_graph_free(operation->graph);
    for (size_t i = 0; i < MOST_RESULTS; i++)
        if (operation->results[i] != operation->operands[i]) /* else it was updated in place */
            qn_tensor_free(operation->results[i]);
    for (size_t i = 0; i < MOST_OPERANDS; i++)
        qn_tensor_free(operation->operands[i]);
}

/* ---- The row ---- */

bool operation_is_right(struct operation *operation, const struct kind *kind, const size_t *sizes,
                        size_t variant, struct check *check)
{
    bool has_values = true;
    for (size_t i = 0; i < operation->n_results; i++) { /* of a plan before */
        free(operation->result_values[i]);
        operation->result_values[i] = NULL;
    }
    for (size_t i = 0; i < operation->n_operands; i++) /* before the run: it may change them */
        has_values = has_values && operand_values(operation, i);
    if (!has_values || qn_run(operation->plan) != QN_OK)
        return false;
    for (size_t i = 0; i < operation->n_results; i++)
        has_values = has_values && result_values(operation, i);
    if (!has_values)
        return false;
    kind->check(check, operation, sizes, variant);
    return !*check->reason;
}

static bool is_right(struct operation *operation, struct row *row)
{
    struct check check = {.numbers = 0};
    bool is_good = operation_is_right(operation, row->kind, row->sizes, row->variant, &check);
    if (*check.reason)
        row_void(row, "%s", check.reason);
    return is_good;
}

/* Adds the results' bits to a hash (FNV's, of words), but for those that were updated in place: each
 * run goes on from the last.  False on failure. */
static bool hash_results(const struct operation *operation, uint64_t *hash)
{
    *hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < operation->n_results; i++) {
        if (operation->results[i] == operation->operands[i])
            continue;
        size_t bytes = qn_tensor_bytes(operation->results[i]);
        uint32_t *words = malloc(bytes);
        bool is_good = words && qn_tensor_read(operation->results[i], words) == QN_OK;
        for (size_t at = 0; is_good && at < bytes / sizeof *words; at++)
            *hash = (*hash ^ words[at]) * 0x100000001B3u;
        free(words);
        if (!is_good)
            return false;
    }
    return true;
}

/* Whether the last run of a round gave the bits of the very first. */
static bool is_repeated(const struct operation *operation, struct row *row)
{
    uint64_t bits;
    if (!hash_results(operation, &bits))
        return false;
    if (bits != row->bits)
        row_void(row, "two runs differ");
    return bits == row->bits;
}

/* The operation of a row, ready to run; false on failure.  It is to be freed in any case. */
static bool operation_make(struct operation *operation, qn_context *qn, const struct row *row)
{
    *operation =
        (struct operation){.qn = qn, .graph = qn_graph_new(qn), .is_planned = qn->plan_only};
    row->kind->build(operation, row->sizes, row->variant);
    operation->plan = qn_plan_new(operation->graph, operation->roots, operation->n_results);
    return operation->plan &&
           (!operation->input || operation->is_planned ||
            qn_set(operation->plan, operation->input, operation->input_values) == QN_OK);
}

static void operation_drop(struct operation *operation)
{
    operation_free(operation);
    free(operation);
}

void operation_release(struct row *row)
{
    if (row->operation)
        operation_drop(row->operation);
    row->operation = NULL;
}

/* Some drivers compile for each plan anew, for half a minute: what took longer than this besides its samples, though it had been made before, is
 * kept if there is room. */
static void keep_or_drop(struct bench *bench, struct row *row, struct operation *operation,
                         double seconds)
{
    static const double slow = 1;
    if (row->timing.rounds > 0 && seconds > slow && take_room(bench, row, row->device_bytes))
        row->operation = operation;
    else
        operation_drop(operation);
}

/* The operation of a row, whose values were compared if it is the first; NULL on failure. */
static struct operation *make_right(struct bench *bench, struct row *row)
{
    struct operation *operation = malloc(sizeof *operation);
    if (!operation)
        return NULL;
    if (operation_make(operation, bench->qn, row) &&
        (row->timing.rounds > 0 ||
         (is_right(operation, row) && hash_results(operation, &row->bits))))
        return operation;
    operation_drop(operation);
    return NULL;
}

static bool run_operation(void *operation)
{
    return qn_run(((struct operation *)operation)->plan) == QN_OK;
}

static void time_operation(struct bench *bench, struct row *row, double seconds)
{
    double began = seconds_now(), sampled = 0;
    size_t first = row->timing.count;
    struct operation *operation = row->operation ? row->operation : make_right(bench, row);
    if (!operation ||
        timing_of_plan(&row->timing, bench->qn, operation->plan, seconds, row->unit == NO_UNIT) !=
            QN_OK ||
        !read_sensors_at_work(bench, run_operation, operation, newest_sample(&row->timing)) ||
        !is_repeated(operation, row))
        row_void(row, "%s", qn_error(bench->qn));
    for (size_t i = first; i < row->timing.count; i++)
        sampled += row->timing.samples[i] * (double)row->timing.runs;
    if (operation && operation != row->operation)
        keep_or_drop(bench, row, operation, seconds_now() - began - sampled);
}

static bool with_operation(qn_context *qn, struct row *row, row_use *use)
{
    struct operation operation;
    bool is_made = operation_make(&operation, qn, row);
    if (is_made)
        use(qn, row, run_operation, &operation);
    operation_free(&operation);
    return is_made;
}

bool bench_operation(struct bench *bench, enum table table, const struct kind *kind,
                     const size_t *sizes, size_t variant)
{
    char shape[SIZES_TEXT];
    const char *name = kind->variants[variant];
    struct row *row = bench_row(bench, table, "%s%s%s%s%s%s", table == TABLE_PEAKS ? PEAK : "",
                                kind->name, kind->n_sizes ? "/" : "",
                                sizes_text(shape, sizes, kind->n_sizes), *name ? "/" : "", name);
    if (!row)
        return false;
    row->round = time_operation;
    row->with = with_operation;
    row->kind = kind;
    row->variant = variant;
    for (size_t i = 0; i < kind->n_sizes; i++)
        row->sizes[i] = sizes[i];
    row->unit = kind->unit;
    row->amount = kind->amount(sizes, variant);
    return true;
}

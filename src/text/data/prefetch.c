/* The thread that makes batches, and what it makes them from.
 *
 * The thread alone uses the maker, its context included, while it runs; an error stays there until qn_batches_next() finds it.  What
 * both sides use is in `prefetch`, and changes under its lock. */
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "text/data/batches.h"

/* ---- A batch ---- */

/* Which batch of an epoch it is before these are put in order. */
static struct shape_range *find_batch(const qn_batches *batches, uint64_t number, size_t *in_shape)
{
    uint64_t at = number % batches->per_epoch;
    if (batches->options.is_shuffled)
        at = order_permute((struct order){batches->options.seed, number / batches->per_epoch, 0},
                           at, batches->per_epoch);
    struct shape_range *range = batches->shapes;
    while (at - range->first_batch >= range->batches)
        range++;
    *in_shape = (size_t)at - range->first_batch;
    return range;
}

static size_t find_example(const qn_batches *batches, uint64_t number,
                           const struct shape_range *range, size_t at)
{
    uint32_t stream = (uint32_t)(range - batches->shapes) + 1;
    if (batches->options.is_shuffled)
        at = (size_t)order_permute(
            (struct order){batches->options.seed, number / batches->per_epoch, stream}, at,
            range->examples);
    return batches->examples[range->first_example + at];
}

static bool put_field(qn_batches *batches, struct slot *slot, size_t field, size_t row)
{
    const struct qn_batch_field *options = &batches->fields[field].options;
    size_t length = batches->shapes[slot->batch.shape].shape.length[field];
    const struct ids *ids = &batches->maker.ids;
    enum made made = make_field(batches, field);
    if (made == MADE_FAILED)
        return false;
    if (made != MADE || ids->count > length) {
        char place[PLACE_BYTES];
        context_fail(&batches->maker.errors, QN_ERROR_FILE,
                     "%s: %s: the file has changed while it was used: open the data set again",
                     field_place(batches, slot->records[row], field, place),
                     batches->fields[field].name);
        return false;
    }
    int32_t *places = slot->ids[field] + row * length;
    memcpy(places, ids->values, ids->count * sizeof *places);
    for (size_t i = ids->count; i < length; i++)
        places[i] = options->pad;
    slot->lengths[field][row] = (int32_t)ids->count;
    slot->batch.tokens += options->is_sequence ? ids->count : 0;
    return true;
}

static void pad_rows(const qn_batches *batches, struct slot *slot)
{
    const struct qn_batch_shape *shape = &batches->shapes[slot->batch.shape].shape;
    size_t first = slot->batch.examples;
    for (size_t field = 0; field < batches->n_fields; field++) {
        size_t length = shape->length[field];
        for (size_t i = first * length; i < shape->rows * length; i++)
            slot->ids[field][i] = batches->fields[field].options.pad;
        for (size_t row = first; row < shape->rows; row++)
            slot->lengths[field][row] = 0;
    }
}

static bool fill_slot(qn_batches *batches, uint64_t number, struct slot *slot)
{
    struct maker *maker = &batches->maker;
    size_t in_shape;
    const struct shape_range *range = find_batch(batches, number, &in_shape);
    size_t first = in_shape * range->shape.rows;
    slot->batch.number = number;
    slot->batch.shape = (size_t)(range - batches->shapes);
    slot->batch.examples = size_min(range->shape.rows, range->examples - first);
    slot->batch.tokens = 0;
    for (size_t row = 0; row < slot->batch.examples; row++) {
        slot->records[row] = find_example(batches, number, range, first + row);
        if (records_read(batches->records, slot->records[row], &maker->record) != QN_OK)
            return false;
        for (size_t field = 0; field < batches->n_fields; field++)
            if (!put_field(batches, slot, field, row))
                return false;
    }
    pad_rows(batches, slot);
    return true;
}

bool make_batch(qn_batches *batches, uint64_t number, struct slot *slot)
{
    bool is_good = fill_slot(batches, number, slot);
    return maker_check(batches) && is_good;
}

/* ---- The thread ---- */

static bool has_work(const struct prefetch *prefetch)
{
    return !prefetch->has_failed && prefetch->made - prefetch->taken < SLOTS - 1;
}

static void *run(void *argument)
{
    qn_batches *batches = argument;
    struct prefetch *prefetch = &batches->prefetch;
    pthread_mutex_lock(&prefetch->lock);
    for (;;) {
        while (!prefetch->is_stopped && !has_work(prefetch))
            pthread_cond_wait(&prefetch->changed, &prefetch->lock);
        if (prefetch->is_stopped)
            break;
        uint64_t number = prefetch->next, seeks = prefetch->seeks;
        struct slot *slot = &prefetch->slots[prefetch->made % SLOTS];
        pthread_mutex_unlock(&prefetch->lock);
        bool is_good = make_batch(batches, number, slot);
        pthread_mutex_lock(&prefetch->lock);
        if (!is_good) {
            prefetch->has_failed = true;
        } else if (seeks == prefetch->seeks) {
            prefetch->made++;
            prefetch->next++;
        }
        pthread_cond_broadcast(&prefetch->changed);
    }
    pthread_mutex_unlock(&prefetch->lock);
    return NULL;
}

static bool allocate_slot(qn_batches *batches, struct slot *slot)
{
    qn_context *errors = &batches->maker.errors;
    size_t rows = 0;
    for (size_t i = 0; i < batches->n_shapes; i++)
        rows = size_max(rows, batches->shapes[i].shape.rows);
    slot->records = context_alloc(errors, rows, sizeof *slot->records);
    slot->batch.records = slot->records;
    for (size_t field = 0; field < batches->n_fields; field++) {
        size_t places = 0;
        for (size_t i = 0; i < batches->n_shapes; i++) {
            const struct qn_batch_shape *shape = &batches->shapes[i].shape;
            places = size_max(places, shape->rows * shape->length[field]);
        }
        slot->batch.ids[field] = slot->ids[field] =
            context_alloc(errors, places, sizeof *slot->ids[field]);
        slot->batch.lengths[field] = slot->lengths[field] =
            context_alloc(errors, rows, sizeof *slot->lengths[field]);
        if (!slot->ids[field] || !slot->lengths[field])
            return false;
    }
    return slot->records != NULL;
}

/* Signals are for the threads of the program. */
static int create_thread(qn_batches *batches)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int code = pthread_create(&batches->prefetch.thread, NULL, run, batches);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

bool prefetch_start(qn_batches *batches)
{
    struct prefetch *prefetch = &batches->prefetch;
    for (size_t i = 0; i < SLOTS; i++)
        if (!allocate_slot(batches, &prefetch->slots[i]))
            return false;
    pthread_mutex_init(&prefetch->lock, NULL);
    pthread_cond_init(&prefetch->changed, NULL);
    int code = create_thread(batches);
    prefetch->is_running = code == 0;
    if (code != 0)
        context_fail(&batches->maker.errors, QN_ERROR_MEMORY, "cannot start a thread: %s",
                     strerror(code));
    return prefetch->is_running;
}

void prefetch_stop(qn_batches *batches)
{
    struct prefetch *prefetch = &batches->prefetch;
    if (prefetch->is_running) {
        pthread_mutex_lock(&prefetch->lock);
        prefetch->is_stopped = true;
        pthread_cond_broadcast(&prefetch->changed);
        pthread_mutex_unlock(&prefetch->lock);
        pthread_join(prefetch->thread, NULL);
        pthread_cond_destroy(&prefetch->changed);
        pthread_mutex_destroy(&prefetch->lock);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        for (size_t field = 0; field < QN_MAX_FIELDS; field++) {
            free(prefetch->slots[i].ids[field]);
            free(prefetch->slots[i].lengths[field]);
        }
        free(prefetch->slots[i].records);
    }
}

/* ---- The other side ---- */

int qn_batches_seek(qn_batches *batches, uint64_t number)
{
    if (!batches)
        return QN_ERROR_INVALID;
    struct prefetch *prefetch = &batches->prefetch;
    pthread_mutex_lock(&prefetch->lock);
    if (number != prefetch->next - (prefetch->made - prefetch->taken)) {
        prefetch->made = prefetch->taken;
        prefetch->next = number;
        prefetch->seeks++;
        pthread_cond_broadcast(&prefetch->changed);
    }
    pthread_mutex_unlock(&prefetch->lock);
    return QN_OK;
}

int qn_batches_next(qn_batches *batches, struct qn_batch *batch)
{
    if (!batches || !batch)
        return QN_ERROR_INVALID;
    struct prefetch *prefetch = &batches->prefetch;
    pthread_mutex_lock(&prefetch->lock);
    while (prefetch->made == prefetch->taken && !prefetch->has_failed)
        pthread_cond_wait(&prefetch->changed, &prefetch->lock);
    bool is_there = prefetch->made > prefetch->taken;
    if (is_there) {
        *batch = prefetch->slots[prefetch->taken++ % SLOTS].batch;
        pthread_cond_broadcast(&prefetch->changed);
    }
    pthread_mutex_unlock(&prefetch->lock);
    const qn_context *errors = &batches->maker.errors; /* the thread rests after a failure */
    return is_there ? QN_OK
                    : context_fail(batches->records->context, errors->status, "%s", errors->error);
}

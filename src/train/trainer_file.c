/* Files of a trainer: what its optimizer keeps, and its counters. */
#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "device/store.h"
#include "train/trainer.h"

enum { STATE_TENSORS = 6 };

/* The numbers of the trainer, and what it carries, as many as there are. */
static size_t number_tensors(const qn_trainer *trainer, qn_tensor *numbers[STATE_TENSORS])
{
    const struct state *state = &trainer->state;
    qn_tensor *all[STATE_TENSORS] = {state->step,  state->skipped, state->key,
                                     state->scale, state->passed,  trainer->carried};
    size_t count = 0;
    for (size_t i = 0; i < STATE_TENSORS; i++)
        if (all[i])
            numbers[count++] = all[i];
    return count;
}

/* How many tensors a file has. */
static size_t file_count(const qn_trainer *trainer)
{
    qn_tensor *numbers[STATE_TENSORS];
    size_t count = number_tensors(trainer, numbers);
    for (size_t i = 0; i < trainer->n_kept; i++)
        count += qn_store_count(trainer->kept[i]);
    return count + (trainer->average ? qn_store_count(trainer->average) : 0);
}

/* Tensor number `index` of the file, and the state of which it is one of many, or NULL. */
static qn_tensor *file_tensor(const qn_trainer *trainer, size_t index, const char **state)
{
    qn_tensor *numbers[STATE_TENSORS];
    size_t count = number_tensors(trainer, numbers);
    *state = NULL;
    if (index < count)
        return numbers[index];
    index -= count;
    size_t store = 0;
    for (; store < trainer->n_kept && index >= qn_store_count(trainer->kept[store]); store++)
        index -= qn_store_count(trainer->kept[store]);
    if (store == trainer->n_kept) {
        *state = trainer->average->name;
        return qn_store_tensor(trainer->average, index);
    }
    if (qn_optimizer_is_element_wise(&trainer->options.optimizer))
        *state = trainer->kept[store]->name;
    return qn_store_tensor(trainer->kept[store], index);
}

static char *file_name(const qn_trainer *trainer, size_t index)
{
    const char *state, *name = qn_tensor_name(file_tensor(trainer, index, &state));
    size_t bytes = (state ? strlen(state) : 0) + strlen(name) + sizeof ".";
    char *full = context_alloc(trainer->context, bytes, 1);
    if (full)
        snprintf(full, bytes, "%s%s%s", state ? state : "", state ? "." : "", name);
    return full;
}

static int file_values(void *trainer, size_t index, void *values)
{
    const char *state;
    return qn_tensor_read(file_tensor(trainer, index, &state), values);
}

static int save(qn_trainer *trainer, const char *path)
{
    size_t count = file_count(trainer);
    if (trainer->passes % trainer->options.accumulate != 0)
        return context_fail(trainer->context, QN_ERROR_INVALID,
                            "trainer: it can be saved between steps only, and a step has begun");
    struct qn_file_tensor *tensors = context_alloc(trainer->context, count, sizeof *tensors);
    char **names = context_alloc(trainer->context, count, sizeof *names);
    int status = tensors && names ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        const char *state;
        const qn_tensor *tensor = file_tensor(trainer, i, &state);
        names[i] = file_name(trainer, i);
        tensors[i] = (struct qn_file_tensor){.name = names[i],
                                             .type = qn_safetensors_type(qn_tensor_type(tensor)),
                                             .shape = qn_tensor_shape(tensor),
                                             .bytes = qn_tensor_bytes(tensor)};
        if (!names[i])
            status = QN_ERROR_MEMORY;
    }
    if (status == QN_OK)
        status = qn_safetensors_write(trainer->context, path, tensors, count, NULL, file_values,
                                      trainer);
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
    free(tensors);
    return status;
}

/* The store of averages is written while it has the parameters. */
int qn_trainer_save(qn_trainer *trainer, const char *path)
{
    bool swaps = trainer->average && !trainer->is_swapped;
    int status = swaps ? qn_trainer_swap_average(trainer) : QN_OK, saved = QN_OK;
    if (status == QN_OK)
        saved = save(trainer, path);
    if (status == QN_OK && swaps)
        status = qn_trainer_swap_average(trainer);
    return saved == QN_OK ? status : saved;
}

static int load_tensor(qn_trainer *trainer, const qn_safetensors *file, const char *path,
                       size_t index)
{
    const char *state;
    qn_tensor *tensor = file_tensor(trainer, index, &state);
    char *name = file_name(trainer, index);
    const struct qn_file_tensor *found = name ? qn_safetensors_find(file, name) : NULL;
    int status = QN_OK;
    if (!name)
        status = QN_ERROR_MEMORY;
    else if (!found || !qn_shape_equal(found->shape, qn_tensor_shape(tensor)) ||
             strcmp(found->type, qn_safetensors_type(qn_tensor_type(tensor))) != 0)
        status = context_fail(
            trainer->context, QN_ERROR_FORMAT,
            "%s: tensor %s is missing, or of another shape or type than this model's", path, name);
    void *values = status == QN_OK ? context_alloc(trainer->context, 1, found->bytes) : NULL;
    if (status == QN_OK && !values)
        status = QN_ERROR_MEMORY;
    if (status == QN_OK) {
        memcpy(values, found->data, found->bytes);
        if (trainer->context->device)
            status = qn_tensor_write(tensor, values);
    }
    free(values);
    free(name);
    return status;
}

int qn_trainer_load(qn_trainer *trainer, const char *path)
{
    qn_safetensors *file = qn_safetensors_open(trainer->context, path);
    if (!file)
        return trainer->context->status;
    int status = QN_OK;
    int32_t steps = 0;
    size_t count = file_count(trainer);
    for (size_t i = 0; status == QN_OK && i < count; i++)
        status = load_tensor(trainer, file, path, i);
    if (status == QN_OK && qn_safetensors_count(file) != count)
        status = context_fail(trainer->context, QN_ERROR_FORMAT,
                              "%s: there are %zu tensors, but this model's optimizer has %zu", path,
                              qn_safetensors_count(file), count);
    if (status == QN_OK)
        status = qn_safetensors_i32(
            file, qn_safetensors_find(file, qn_tensor_name(trainer->state.step)), &steps);
    qn_safetensors_close(file);
    if (status == QN_OK && steps < 0)
        status = context_fail(trainer->context, QN_ERROR_FORMAT, "%s: step is %d", path, steps);
    trainer->first_step = status == QN_OK ? (uint64_t)steps : 0;
    trainer->passes = 0;
    if (status == QN_OK && trainer->context->device)
        status = trainer_clear_sums(trainer);
    trainer->is_swapped = trainer->average != NULL;
    return status == QN_OK && trainer->context->device ? qn_trainer_swap_average(trainer) : status;
}

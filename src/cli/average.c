/* quern average: a model whose weights are the mean of those of the last checkpoints of a run. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quern/io.h>

#include "cli/cli.h"
#include "io/file.h"

struct mean {
    const struct options *options;
    qn_context *qn;
    const char *run;
    uint64_t *steps; /* latest first */
    size_t count;    /* of the checkpoints that are averaged */
    qn_safetensors **files;
    double *sum; /* of the tensor that is written */
    float *values;
};

static int fail_library(const struct mean *mean)
{
    return failure(mean->options, "%s", qn_error(mean->qn));
}

/* ---- Checkpoints ---- */

static char *path_in_step(const struct mean *mean, size_t number, const char *name)
{
    return text_format(mean->qn, "%s/step-%" PRIu64 "/%s", mean->run, mean->steps[number], name);
}

static int find_steps(struct mean *mean)
{
    size_t wanted = (size_t)options_integer(mean->options, "last"), found;
    if (qn_checkpoint_steps(mean->qn, mean->run, &mean->steps, &found) != QN_OK)
        return fail_library(mean);
    if (found < wanted)
        return failure(mean->options,
                       "%s holds %zu checkpoints, fewer than --last %zu: train with --keep %zu",
                       mean->run, found, wanted, wanted);
    mean->count = wanted;
    return EXIT_SUCCESS;
}

static int open_files(struct mean *mean)
{
    mean->files = calloc(mean->count, sizeof *mean->files);
    for (size_t i = 0; mean->files && i < mean->count; i++) {
        char *path = path_in_step(mean, i, model_files[0]);
        mean->files[i] = path ? qn_safetensors_open(mean->qn, path) : NULL;
        free(path);
        if (!mean->files[i])
            return fail_library(mean);
    }
    return mean->files ? EXIT_SUCCESS : failure(mean->options, "out of memory");
}

/* Whether all of them are of one model. */
static int check_files(const struct mean *mean)
{
    for (size_t i = 1; i < mean->count; i++) {
        bool is_same = qn_safetensors_count(mean->files[i]) == qn_safetensors_count(mean->files[0]);
        for (size_t j = 0; is_same && j < qn_safetensors_count(mean->files[0]); j++) {
            const struct qn_file_tensor *first = qn_safetensors_tensor(mean->files[0], j),
                                        *other = qn_safetensors_find(mean->files[i], first->name);
            is_same = other && qn_shape_equal(other->shape, first->shape);
        }
        if (!is_same)
            return failure(mean->options,
                           "%s: the checkpoints of steps %" PRIu64 " and %" PRIu64
                           " are of different models",
                           mean->run, mean->steps[0], mean->steps[i]);
    }
    return EXIT_SUCCESS;
}

/* ---- The mean ---- */

/* Of tensor number `index` of the first file. */
static int mean_values(void *user, size_t index, void *values)
{
    struct mean *mean = user;
    const struct qn_file_tensor *first = qn_safetensors_tensor(mean->files[0], index);
    size_t count = qn_shape_count(first->shape);
    memset(mean->sum, 0, count * sizeof *mean->sum);
    for (size_t i = 0; i < mean->count; i++) {
        int status = qn_safetensors_f32(
            mean->files[i], qn_safetensors_find(mean->files[i], first->name), mean->values);
        if (status != QN_OK)
            return status;
        for (size_t j = 0; j < count; j++)
            mean->sum[j] += (double)mean->values[j];
    }
    for (size_t j = 0; j < count; j++)
        ((float *)values)[j] = (float)(mean->sum[j] / (double)mean->count);
    return QN_OK;
}

static int write_weights(struct mean *mean, const char *path)
{
    size_t count = qn_safetensors_count(mean->files[0]), most = 0;
    struct qn_file_tensor *tensors = calloc(count + 1, sizeof *tensors);
    for (size_t i = 0; tensors && i < count; i++) {
        tensors[i] = *qn_safetensors_tensor(mean->files[0], i);
        size_t numbers = qn_shape_count(tensors[i].shape);
        tensors[i].type = qn_safetensors_type(QN_F32);
        tensors[i].data = NULL;
        tensors[i].bytes = numbers * sizeof(float);
        most = numbers > most ? numbers : most;
    }
    mean->sum = calloc(most + 1, sizeof *mean->sum);
    mean->values = calloc(most + 1, sizeof *mean->values);
    int status = EXIT_SUCCESS;
    if (!tensors || !mean->sum || !mean->values)
        status = failure(mean->options, "out of memory");
    else if (qn_safetensors_write(mean->qn, path, tensors, count, NULL, mean_values, mean) != QN_OK)
        status = fail_library(mean);
    free(tensors);
    return status;
}

/* ---- The folder ---- */

static int copy_file(const struct mean *mean, const char *from, const char *to)
{
    char block[1 << 14];
    FILE *in = fopen(from, "rbe");
    if (!in && errno == ENOENT)
        return EXIT_SUCCESS;
    FILE *out = in ? fopen(to, "wbe") : NULL;
    for (size_t count; out && (count = fread(block, 1, sizeof block, in)) > 0;)
        fwrite(block, 1, count, out);
    bool is_good = out && !ferror(in) && !ferror(out);
    if (in)
        fclose(in);
    if (out && fclose(out) != 0)
        is_good = false;
    return is_good ? EXIT_SUCCESS
                   : failure(mean->options, "cannot copy %s to %s: %s", from, to, strerror(errno));
}

/* What is beside the weights is the latest checkpoint's. */
static int write_file(struct mean *mean, const char *folder, size_t number)
{
    char *to = path_join(mean->qn, folder, model_files[number]),
         *from = path_in_step(mean, 0, model_files[number]);
    int status = EXIT_FAILED;
    if (!to || !from)
        fail_library(mean);
    else
        status = number == 0 ? write_weights(mean, to) : copy_file(mean, from, to);
    free(to);
    free(from);
    return status;
}

static void remove_files(const struct mean *mean, const char *folder)
{
    for (size_t i = 0; i < MODEL_FILES; i++) {
        char *path = path_join(mean->qn, folder, model_files[i]);
        if (path)
            unlink(path);
        free(path);
    }
    rmdir(folder);
}

/* A folder that is whole, or none: it has another name until then. */
static int write_model(struct mean *mean, const char *folder)
{
    struct stat status_of;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    if (lstat(folder, &status_of) == 0)
        return failure(mean->options, "%s exists: name a folder that does not", folder);
    char *unfinished = text_format(mean->qn, "%.*s.%ld.tmp", (int)length, folder, (long)getpid());
    if (!unfinished)
        return fail_library(mean);
    if (mkdir(unfinished, 0777) != 0) {
        int status =
            failure(mean->options, "cannot make the folder %s: %s", unfinished, strerror(errno));
        free(unfinished);
        return status;
    }
    int status = EXIT_SUCCESS;
    for (size_t i = 0; status == EXIT_SUCCESS && i < MODEL_FILES; i++)
        status = write_file(mean, unfinished, i);
    if (status == EXIT_SUCCESS && folder_sync(mean->qn, unfinished) != QN_OK)
        status = fail_library(mean);
    if (status == EXIT_SUCCESS && rename(unfinished, folder) != 0)
        status = failure(mean->options, "cannot rename %s to %s: %s", unfinished, folder,
                         strerror(errno));
    if (status != EXIT_SUCCESS)
        remove_files(mean, unfinished);
    free(unfinished);
    return status;
}

static void release(struct mean *mean)
{
    for (size_t i = 0; mean->files && i < mean->count; i++)
        if (mean->files[i])
            qn_safetensors_close(mean->files[i]);
    free(mean->files);
    free(mean->steps);
    free(mean->sum);
    free(mean->values);
    qn_close(mean->qn);
}

int command_average(const struct options *options)
{
    struct mean mean = {.options = options, .run = options_operand(options)};
    const char *folder = options_string(options, "out");
    mean.qn = qn_open("none");
    if (!mean.qn)
        return failure(options, "%s", qn_error(NULL));
    int status = find_steps(&mean);
    if (status == EXIT_SUCCESS)
        status = open_files(&mean);
    if (status == EXIT_SUCCESS)
        status = check_files(&mean);
    if (status == EXIT_SUCCESS)
        status = write_model(&mean, folder);
    if (status == EXIT_SUCCESS && !options_flag(options, "quiet"))
        fprintf(stderr, "averaged    %zu checkpoints, steps %" PRIu64 " to %" PRIu64 ", into %s\n",
                mean.count, mean.steps[mean.count - 1], mean.steps[0], folder);
    release(&mean);
    return status;
}

/* quern average: a model whose weights are the mean of those of the last checkpoints of a run. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <quern/io.h>

#include "cli/cli.h"

enum { PATH = 4096, MOST_FILES = 1024 };

struct mean {
    const struct options *options;
    qn_context *qn;
    const char *run;
    uint64_t steps[MOST_FILES]; /* latest first */
    size_t count;
    qn_safetensors *files[MOST_FILES];
    double *sum; /* of the tensor that is written */
    float *values;
};

/* ---- Checkpoints ---- */

static int later_first(const void *a_, const void *b_)
{
    const uint64_t *a = a_, *b = b_;
    return (*a < *b) - (*a > *b);
}

static int find_steps(struct mean *mean, size_t wanted)
{
    DIR *entries = opendir(mean->run);
    if (!entries)
        return failure(mean->options, "cannot read %s: %s", mean->run, strerror(errno));
    for (struct dirent *entry; mean->count < MOST_FILES && (entry = readdir(entries));) {
        char *end;
        uint64_t step = strtoull(entry->d_name + 5, &end, 10);
        if (strncmp(entry->d_name, "step-", 5) == 0 && end > entry->d_name + 5 && !*end)
            mean->steps[mean->count++] = step;
    }
    closedir(entries);
    qsort(mean->steps, mean->count, sizeof *mean->steps, later_first);
    if (mean->count < wanted)
        return failure(mean->options,
                       "%s holds %zu checkpoints, fewer than --last %zu: train with --keep %zu",
                       mean->run, mean->count, wanted, wanted);
    mean->count = wanted;
    return EXIT_SUCCESS;
}

static const char *path_in(char path[PATH], const struct mean *mean, size_t number,
                           const char *name)
{
    snprintf(path, PATH, "%s/step-%" PRIu64 "/%s", mean->run, mean->steps[number], name);
    return path;
}

static int open_files(struct mean *mean)
{
    char path[PATH];
    for (size_t i = 0; i < mean->count; i++) {
        mean->files[i] = qn_safetensors_open(mean->qn, path_in(path, mean, i, "model.safetensors"));
        if (!mean->files[i])
            return failure(mean->options, "%s", qn_error(mean->qn));
        if (qn_safetensors_count(mean->files[i]) != qn_safetensors_count(mean->files[0]))
            return failure(mean->options, "%s: %zu tensors, but the other checkpoint has %zu", path,
                           qn_safetensors_count(mean->files[i]),
                           qn_safetensors_count(mean->files[0]));
    }
    return EXIT_SUCCESS;
}

/* ---- The mean ---- */

static bool has_shape(const struct qn_file_tensor *tensor, qn_shape shape)
{
    return tensor && qn_shape_equal(tensor->shape, shape);
}

/* Of tensor number `index` of the first file. */
static int mean_values(void *user, size_t index, void *values)
{
    struct mean *mean = user;
    const struct qn_file_tensor *first = qn_safetensors_tensor(mean->files[0], index);
    size_t count = qn_shape_count(first->shape);
    memset(mean->sum, 0, count * sizeof *mean->sum);
    for (size_t i = 0; i < mean->count; i++) {
        const struct qn_file_tensor *tensor = qn_safetensors_find(mean->files[i], first->name);
        if (!has_shape(tensor, first->shape))
            return QN_ERROR_FORMAT;
        int status = qn_safetensors_f32(mean->files[i], tensor, mean->values);
        if (status != QN_OK)
            return status;
        for (size_t j = 0; j < count; j++)
            mean->sum[j] += (double)mean->values[j];
    }
    for (size_t j = 0; j < count; j++)
        ((float *)values)[j] = (float)(mean->sum[j] / (double)mean->count);
    return QN_OK;
}

static int write_weights(struct mean *mean, const char *folder)
{
    char path[PATH];
    size_t count = qn_safetensors_count(mean->files[0]), most = 0;
    struct qn_file_tensor *tensors = calloc(count + 1, sizeof *tensors);
    for (size_t i = 0; tensors && i < count; i++) {
        tensors[i] = *qn_safetensors_tensor(mean->files[0], i);
        size_t numbers = qn_shape_count(tensors[i].shape);
        tensors[i].type = "F32";
        tensors[i].data = NULL;
        tensors[i].bytes = numbers * sizeof(float);
        most = numbers > most ? numbers : most;
    }
    mean->sum = calloc(most + 1, sizeof *mean->sum);
    mean->values = calloc(most + 1, sizeof *mean->values);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    int status = EXIT_SUCCESS;
    if (!tensors || !mean->sum || !mean->values)
        status = failure(mean->options, "out of memory");
    else if (qn_safetensors_write(mean->qn, path, tensors, count, NULL, mean_values, mean) != QN_OK)
        status = failure(mean->options, "%s",
                         *qn_error(mean->qn) ? qn_error(mean->qn)
                                             : "the checkpoints are of different models");
    free(tensors);
    free(mean->sum);
    free(mean->values);
    return status;
}

/* What is beside the weights is the latest checkpoint's. */
static int copy_file(const struct mean *mean, const char *folder, const char *name)
{
    char from[PATH], to[PATH], block[1 << 14];
    FILE *in = fopen(path_in(from, mean, 0, name), "rbe");
    if (!in && errno == ENOENT)
        return EXIT_SUCCESS;
    snprintf(to, sizeof to, "%s/%s", folder, name);
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

static int write_model(struct mean *mean, const char *folder)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "target_tokenizer.json"};
    if (mkdir(folder, 0777) != 0)
        return failure(mean->options, "cannot make the folder %s: %s", folder, strerror(errno));
    int status = write_weights(mean, folder);
    for (size_t i = 0; status == EXIT_SUCCESS && i < sizeof names / sizeof *names; i++)
        status = copy_file(mean, folder, names[i]);
    return status;
}

int command_average(const struct options *options)
{
    struct mean mean = {.options = options, .run = options_operand(options)};
    const char *folder = options_string(options, "out");
    mean.qn = qn_open("none");
    if (!mean.qn)
        return failure(options, "%s", qn_error(NULL));
    int status = find_steps(&mean, (size_t)options_integer(options, "last"));
    if (status == EXIT_SUCCESS)
        status = open_files(&mean);
    if (status == EXIT_SUCCESS)
        status = write_model(&mean, folder);
    if (status == EXIT_SUCCESS && !options_flag(options, "quiet"))
        fprintf(stderr, "averaged    %zu checkpoints, steps %" PRIu64 " to %" PRIu64 ", into %s\n",
                mean.count, mean.steps[mean.count - 1], mean.steps[0], folder);
    for (size_t i = 0; i < mean.count; i++)
        if (mean.files[i])
            qn_safetensors_close(mean.files[i]);
    qn_close(mean.qn);
    return status;
}

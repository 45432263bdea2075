/* PyTorch's values, for tests: ../shared/golden, which a README there explains; found through $QUERN_SHARED.  Errors are
 * measured as it says, tolerances are those of its index.json.  Include after tap.h. */
#ifndef TEST_GOLDEN_H
#define TEST_GOLDEN_H

#include <math.h>
#include <string.h>

#include <jansson.h>

#include <quern/io.h>

/* ---- Files ---- */

static char golden_folder[4096];

TAP_UNUSED static qn_safetensors *open_file(qn_context *context, const char *path)
{
    char whole[sizeof golden_folder + 256];
    snprintf(whole, sizeof whole, "%s/%s", golden_folder, path);
    qn_safetensors *file = qn_safetensors_open(context, whole);
    if (!file)
        bail_out("%s", qn_error(context));
    return file;
}

TAP_UNUSED static const struct qn_file_tensor *find(const qn_safetensors *file,
                                                               const char *prefix, const char *name)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return qn_safetensors_find(file, whole);
}

TAP_UNUSED static void *memory(size_t count)
{
    void *values = calloc(count + 1, sizeof(float));
    if (!values)
        bail_out("out of memory");
    return values;
}

TAP_UNUSED static void *values_of(const qn_safetensors *file, const struct qn_file_tensor *tensor)
{
    void *values = memory(qn_shape_count(tensor->shape));
    int status = tensor->type[0] == 'I' ? qn_safetensors_i32(file, tensor, values)
                                        : qn_safetensors_f32(file, tensor, values);
    if (status != QN_OK)
        bail_out("%s cannot be read", tensor->name);
    return values;
}

/* ---- JSON ---- */

TAP_UNUSED static double number(json_t *parameters, const char *name)
{
    return json_number_value(json_object_get(parameters, name));
}

TAP_UNUSED static json_t *find_case(json_t *cases, const char *name)
{
    size_t index;
    json_t *entry;
    json_array_foreach (cases, index, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "case")), name) == 0)
            return entry;
    }
    bail_out("index.json has no %s", name);
    return NULL;
}

TAP_UNUSED static json_t *read_index(void)
{
    const char *shared = getenv("QUERN_SHARED"), *source = getenv("SRCDIR");
    json_error_t error;
    char path[sizeof golden_folder + 32];
    if (shared)
        snprintf(golden_folder, sizeof golden_folder, "%s/golden", shared);
    else
        snprintf(golden_folder, sizeof golden_folder, "%s/../shared/golden", source ? source : ".");
    snprintf(path, sizeof path, "%s/index.json", golden_folder);
    return json_load_file(path, 0, &error);
}

/* ---- Errors ---- */

TAP_UNUSED static double greatest(const float *values, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)values[i]));
    return most;
}

/* The greatest difference; infinite if there is a NaN that should not be. */
TAP_UNUSED static double difference(const float *found, const float *expected, size_t count,
                                    size_t *where)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        double error = fabs((double)found[i] - (double)expected[i]);
        if (!(error <= most)) {
            most = isnan(error) ? INFINITY : error;
            *where = i;
        }
    }
    return most;
}

#endif

/* What another program reached on the same work: a list of {case, best_s, mean_s, rate, unit}. */
#include "cli/bench/bench.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

/* Their names for our rows, where those are not made of the shape. */
static const struct {
    const char *id, *name;
} same[] = {
    {"layer_norm/2048x768/forward", "layernorm fwd 2048x768"},
    {"layer_norm/2048x768/forward+backward", "layernorm fwd+bwd 2048x768"},
    {"softmax/2048x1024", "softmax fwd 2048x1024"},
    {"gelu/2048x3072/forward", "gelu fwd 2048x3072"},
    {"cross_entropy/512x50257", "cross entropy fwd+bwd 512x50257"},
    {"train/nanogpt-char-cpu/4L4H128-T64-B12", "nanogpt-char-cpu 4L4H128 T64 B12"},
    {"train/nanogpt-char/6L6H384-T256-B8", "nanogpt-char 6L6H384 T256 B8"},
    {"train/gpt2-124M/12L12H768-T64-B4", "gpt2-124M T64 B4"},
    {"train/gpt2-124M/12L12H768-T1024-B1", "gpt2-124M T1024 B1"},
    {"seq2seq/lstm/2L512-T24-B64", "seq2seq V8000 B64 S24 T24"},
    {"seq2seq/transformer/6L8H512-T24-B64", "transformer V8000 B64 S24 T24"},
};

/* What a number of a unit is in ours; 0: it is none of ours. */
static double factor_of(const char *unit)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {{"GFLOP/s", 1e9}, {"GB/s", 1e9}, {"tok/s", 1}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (unit && strcmp(unit, units[i].name) == 0)
            return units[i].factor;
    return 0;
}

/* Whether all results have a case and a rate that can be true. */
static bool are_results(const char *path, const json_t *list, char *message, size_t message_bytes)
{
    size_t i;
    json_t *result;
    json_array_foreach (list, i, result) {
        double rate = json_number_value(json_object_get(result, "rate")) *
                      factor_of(json_string_value(json_object_get(result, "unit")));
        if (json_is_string(json_object_get(result, "case")) && rate > 0 && rate < 1e18)
            continue;
        snprintf(message, message_bytes,
                 "%s: result %zu: expected an object with a \"case\", a \"rate\" above 0, and "
                 "GFLOP/s, GB/s or tok/s as its \"unit\"",
                 path, i);
        return false;
    }
    return true;
}

json_t *against_read(const char *path, char *message, size_t message_bytes)
{
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error), *list = file;
    if (json_is_object(file))
        list = json_object_get(file, "results");
    if (json_is_array(list)) {
        bool is_good = are_results(path, list, message, message_bytes);
        if (is_good)
            json_incref(list);
        json_decref(file);
        return is_good ? list : NULL;
    }
    if (file)
        snprintf(message, message_bytes, "%s: expected a list of results", path);
    else if (error.line > 0)
        snprintf(message, message_bytes, "%s: line %d: %s", path, error.line, error.text);
    else
        snprintf(message, message_bytes, "cannot read %s: %s", path, strerror(errno));
    json_decref(file);
    return NULL;
}

static double rate_of(const json_t *list, const char *name)
{
    size_t i;
    json_t *result;
    json_array_foreach (list, i, result) {
        const char *found = json_string_value(json_object_get(result, "case"));
        if (found && strcmp(found, name) == 0)
            return json_number_value(json_object_get(result, "rate")) *
                   factor_of(json_string_value(json_object_get(result, "unit")));
    }
    return 0;
}

/* Their training is eager or compiled: the faster one counts. */
static double training_rate(const json_t *list, const char *name)
{
    char eager[128], compiled[128];
    snprintf(eager, sizeof eager, "train %s fp32", name);
    snprintf(compiled, sizeof compiled, "train compiled %s fp32", name);
    return fmax(rate_of(list, eager), rate_of(list, compiled));
}

/* Theirs is in tokens a second. */
static double recurrent_rate(const json_t *against, const struct row *row)
{
    char cell[8], variant[32], name[128];
    size_t layers, units, length, batch;
    if (sscanf(row->id, "%7[a-z]/%4zux%5zux%6zux%6zu/%31s", cell, &layers, &units, &length, &batch,
               variant) != 6)
        return 0;
    for (char *c = cell; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    snprintf(name, sizeof name, "%s %s L%zu I%zu H%zu T%zu B%zu", cell,
             strcmp(variant, "forward") == 0 ? "fwd" : "fwd+bwd", layers, units, units, length,
             batch);
    return rate_of(against, name) * row->amount / (double)(length * batch);
}

double against_rate(const json_t *against, const struct row *row)
{
    char shape[SIZES_TEXT], variant[32], name[128];
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(row->id, same[i].id) == 0)
            return row->unit == TOKENS ? training_rate(against, same[i].name)
                                       : rate_of(against, same[i].name);
    if (sscanf(row->id, "gemm/%63[0-9x]/%31s", shape, variant) == 2)
        snprintf(name, sizeof name, "gemm %s %s float32", shape, variant);
    else if (sscanf(row->id, "attention/%63[0-9x]/%31s", shape, variant) == 2)
        snprintf(name, sizeof name, "sdpa causal %s %s float32",
                 strcmp(variant, "forward") == 0 ? "fwd" : "fwd+bwd", shape);
    else
        return recurrent_rate(against, row);
    return rate_of(against, name);
}

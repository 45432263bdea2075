/* The log of a run, as JSON Lines. */
#include "cli/train/log.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(char message[LOG_MESSAGE], const char *what, const char *path)
{
    snprintf(message, LOG_MESSAGE, "cannot %s %s: %s", what, path, strerror(errno));
    return false;
}

static bool add_point(struct log *log, struct log_point point, char message[LOG_MESSAGE])
{
    if (log->count == log->capacity) {
        size_t capacity = log->capacity ? 2 * log->capacity : 1024;
        struct log_point *points = realloc(log->points, capacity * sizeof *points);
        if (!points) {
            snprintf(message, LOG_MESSAGE, "out of memory for the log");
            return false;
        }
        log->points = points;
        log->capacity = capacity;
    }
    log->points[log->count++] = point;
    return true;
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Whether the line tells of a step of the run, up to `step`. */
static bool read_line(const char *line, size_t length, uint64_t step, struct log_point *point)
{
    json_t *object = line[length - 1] == '\n' ? json_loadb(line, length, 0, NULL) : NULL;
    double number = number_of(object, "step");
    *point = (struct log_point){.step = number >= 0 ? (uint64_t)number : 0,
                                .loss = (float)number_of(object, "loss"),
                                .valid_loss = (float)number_of(object, "valid_loss")};
    json_decref(object);
    return number >= 0 && point->step <= step;
}

/* Reads the lines that are kept; returns where they end, or -1. */
static off_t read_lines(struct log *log, uint64_t step, char message[LOG_MESSAGE])
{
    char *line = NULL;
    size_t line_bytes = 0;
    off_t end = 0;
    for (ssize_t length; (length = getline(&line, &line_bytes, log->file)) > 0;) {
        struct log_point point;
        if (!read_line(line, (size_t)length, step, &point))
            break;
        end += length;
        if (!add_point(log, point, message)) {
            end = -1;
            break;
        }
    }
    free(line);
    return end;
}

/* Whether a file begins like a log, a first line that was cut off included. */
static bool is_log(FILE *file)
{
    static const char beginning[] = "{\"step\":";
    char found[sizeof beginning] = "";
    size_t count = fread(found, 1, sizeof beginning - 1, file);
    return memcmp(found, beginning, count) == 0;
}

bool log_check(const char *path, char message[LOG_MESSAGE])
{
    struct stat status;
    if (stat(path, &status) != 0)
        return errno == ENOENT || fail(message, "write the log", path);
    if (!S_ISREG(status.st_mode)) {
        snprintf(message, LOG_MESSAGE, "cannot write the log %s: it is no regular file", path);
        return false;
    }
    FILE *file = fopen(path, "r");
    if (!file)
        return fail(message, "read the log", path);
    bool is_ours = is_log(file);
    fclose(file);
    if (!is_ours)
        snprintf(message, LOG_MESSAGE,
                 "%s is no log of a run, and would be written over: choose another file for --log",
                 path);
    return is_ours;
}

bool log_open(struct log *log, const char *path, uint64_t step, char message[LOG_MESSAGE])
{
    *log = (struct log){.path = strdup(path)};
    if (!log->path) {
        snprintf(message, LOG_MESSAGE, "out of memory");
        return false;
    }
    log->file = fopen(path, step ? "r+" : "w");
    if (!log->file && step && errno == ENOENT)
        log->file = fopen(path, "w+");
    if (!log->file) {
        fail(message, "write the log", path);
        log_close(log);
        return false;
    }
    if (step == 0)
        return true;
    off_t end = read_lines(log, step, message);
    if (end >= 0 &&
        (ftruncate(fileno(log->file), end) != 0 || fseeko(log->file, end, SEEK_SET) != 0)) {
        fail(message, "cut back the log", path);
        end = -1;
    }
    if (end < 0)
        log_close(log);
    return end >= 0;
}

void log_close(struct log *log)
{
    if (log->file)
        fclose(log->file);
    free(log->path);
    free(log->points);
    *log = (struct log){0};
}

/* JSON knows neither infinity nor NaN. */
static void print_number(FILE *file, const char *key, double number)
{
    if (isfinite(number))
        fprintf(file, ", \"%s\": %.17g", key, number);
    else
        fprintf(file, ", \"%s\": null", key);
}

bool log_append(struct log *log, const struct log_entry *entry, char message[LOG_MESSAGE])
{
    FILE *file = log->file;
    fprintf(file, "{\"step\": %" PRIu64, entry->step);
    print_number(file, "loss", entry->loss);
    print_number(file, "learning_rate", entry->learning_rate);
    print_number(file, "grad_norm", entry->gradient_norm);
    print_number(file, "tokens_per_second", entry->tokens_per_second);
    print_number(file, "seconds", entry->seconds);
    fprintf(file, ", \"skipped\": %" PRIu64, entry->skipped);
    if (entry->loss_scale > 0)
        print_number(file, "loss_scale", entry->loss_scale);
    if (!isnan(entry->valid.loss))
        print_number(file, "valid_loss", entry->valid.loss);
    if (!isnan(entry->valid.accuracy))
        print_number(file, "valid_accuracy", entry->valid.accuracy);
    if (!isnan(entry->valid.bleu))
        print_number(file, "valid_bleu", entry->valid.bleu);
    fputs("}\n", file);
    if (fflush(file) != 0 || ferror(file))
        return fail(message, "write the log", log->path);
    return add_point(log,
                     (struct log_point){entry->step, (float)entry->loss, (float)entry->valid.loss},
                     message);
}

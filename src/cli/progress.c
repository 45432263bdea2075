/* Progress, for people. */
#include "cli/progress.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Seconds between reports: as often as one can read, and rarely enough for a file. */
static const double terminal_interval = 1, file_interval = 5;

enum { LINE = 400 };

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- Numbers ---- */

const char *count_text(char text[NUMBER_TEXT], uint64_t count)
{
    char digits[NUMBER_TEXT];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    char *out = text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

/* `number` with three digits and a suffix. */
static const char *suffixed_text(char text[NUMBER_TEXT], double number, double base,
                                 const char *const *suffixes, size_t count)
{
    size_t i = 0;
    for (; number >= 999.5 && i + 1 < count; i++)
        number /= base;
    int decimals = number < 9.995 && i > 0 ? 2 : number < 99.95 && i > 0 ? 1 : 0;
    snprintf(text, NUMBER_TEXT, "%.*f%s", decimals, number, suffixes[i]);
    return text;
}

const char *rate_text(char text[NUMBER_TEXT], double rate)
{
    static const char *const suffixes[] = {"", "k", "M", "G", "T"};
    return suffixed_text(text, rate, 1000, suffixes, sizeof suffixes / sizeof *suffixes);
}

const char *bytes_text(char text[NUMBER_TEXT], double bytes)
{
    static const char *const suffixes[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
    return suffixed_text(text, bytes, 1024, suffixes, sizeof suffixes / sizeof *suffixes);
}

const char *duration_text(char text[NUMBER_TEXT], double seconds)
{
    uint64_t whole = (uint64_t)fmin(fmax(round(seconds), 0), 1e15);
    if (seconds < 9.95)
        snprintf(text, NUMBER_TEXT, "%.1fs", fmax(seconds, 0));
    else if (whole < 60)
        snprintf(text, NUMBER_TEXT, "%" PRIu64 "s", whole);
    else if (whole < 3600)
        snprintf(text, NUMBER_TEXT, "%" PRIu64 "m%02" PRIu64 "s", whole / 60, whole % 60);
    else
        snprintf(text, NUMBER_TEXT, "%" PRIu64 "h%02" PRIu64 "m", whole / 3600, whole / 60 % 60);
    return text;
}

const char *real_text(char text[NUMBER_TEXT], double number)
{
    if (number == 0 || (fabs(number) >= 0.1 && fabs(number) < 1000)) {
        snprintf(text, NUMBER_TEXT, "%.3g", number);
        return text;
    }
    snprintf(text, NUMBER_TEXT, "%.1e", number);
    char *exponent = strchr(text, 'e');
    if (!exponent)
        return text; /* infinite, or none */
    char *from = exponent + 1 + (exponent[1] == '-' || exponent[1] == '+');
    char *to = exponent + 1 + (exponent[1] == '-');
    while (*from == '0' && from[1])
        from++;
    memmove(to, from, strlen(from) + 1);
    return text;
}

/* ---- Lines ---- */

void progress_start(struct progress *progress, bool is_quiet)
{
    const char *terminal = getenv("TERM");
    setlocale(LC_CTYPE, "");
    *progress = (struct progress){
        .is_quiet = is_quiet,
        .is_terminal = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0,
        .is_utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
        .shown_at = -INFINITY,
    };
}

void progress_say(struct progress *progress, const char *label, const char *format, ...)
{
    if (progress->is_quiet)
        return;
    progress_end_line(progress);
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%-11s ", label);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

bool progress_is_due(const struct progress *progress)
{
    double interval = progress->is_terminal ? terminal_interval : file_interval;
    return !progress->is_quiet && seconds_now() - progress->shown_at >= interval;
}

void progress_end_line(struct progress *progress)
{
    if (progress->is_line_open)
        fputc('\n', stderr);
    progress->is_line_open = false;
}

/* A line in the making: parts between separators, as many as there are columns for. */
struct line {
    char text[LINE];
    size_t bytes, columns, most_columns;
    const char *separator;
};

static void add_part(struct line *line, const char *format, ...) CLI_FORMAT(2, 3);

static void add_part(struct line *line, const char *format, ...)
{
    char part[80];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(part, sizeof part, format, arguments);
    va_end(arguments);
    size_t columns = strlen(part) + (line->bytes ? 3 : 0); /* of ASCII, and " x " */
    if (line->columns + columns > line->most_columns) {
        line->most_columns = 0; /* nor is there room for the rest */
        return;
    }
    int written = snprintf(line->text + line->bytes, LINE - line->bytes, "%s%s",
                           line->bytes ? line->separator : "", part);
    line->bytes += (size_t)written;
    line->columns += columns;
}

static size_t terminal_columns(void)
{
    struct winsize size;
    bool is_known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return is_known ? size.ws_col - 1u : 79; /* writing into the last column wraps */
}

static void compose(struct line *line, const struct report *report)
{
    char number[NUMBER_TEXT];
    if (report->steps)
        add_part(line, "step %" PRIu64 "/%" PRIu64 " %3.0f%%", report->step, report->steps,
                 floor(100 * report->share));
    else
        add_part(line, "step %" PRIu64 " %3.0f%%", report->step, floor(100 * report->share));
    add_part(line, "loss %.3f", report->loss);
    if (!isnan(report->valid.loss))
        add_part(line, "val %.3f, %.1f%% right", report->valid.loss, 100 * report->valid.accuracy);
    if (isfinite(report->valid.bleu))
        add_part(line, "BLEU %.2f", report->valid.bleu);
    add_part(line, "lr %s", real_text(number, report->learning_rate));
    add_part(line, "norm %s", real_text(number, report->gradient_norm));
    if (report->skipped)
        add_part(line, "skipped %" PRIu64, report->skipped);
    if (!isnan(report->tokens_per_second))
        add_part(line, "%s tok/s", rate_text(number, report->tokens_per_second));
    add_part(line, "%s", bytes_text(number, (double)report->memory));
    if (isfinite(report->seconds_left))
        add_part(line, "%s left", duration_text(number, report->seconds_left));
}

void progress_show(struct progress *progress, const struct report *report, bool stays)
{
    if (progress->is_quiet)
        return;
    struct line line = {.most_columns = progress->is_terminal ? terminal_columns() : LINE / 2,
                        .separator = progress->is_utf8 ? " \u00B7 " : " | "};
    compose(&line, report);
    if (progress->is_terminal)
        fprintf(stderr, "\r%s\033[K%s", line.text, stays ? "\n" : "");
    else
        fprintf(stderr, "%s\n", line.text);
    fflush(stderr);
    progress->is_line_open = progress->is_terminal && !stays;
    progress->shown_at = seconds_now();
}

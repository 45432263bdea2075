#include "cli/bench/compare/markup.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "cli/progress.h"
#include "io/file.h"

/* ---- Text ---- */

static const char *entity_of(utf8proc_int32_t point)
{
    switch (point) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static void put_text(FILE *file, const char *text, const char *after_separator)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text;
    while (*at) {
        utf8proc_int32_t point;
        utf8proc_ssize_t length = utf8proc_iterate(at, -1, &point);
        const char *entity = length > 0 ? entity_of(point) : NULL;
        if (entity)
            fputs(entity, file);
        else if (length > 0 && (point == '\n' || point_is_drawn(point)))
            fwrite(at, 1, (size_t)length, file);
        else
            fputs("\uFFFD", file);
        if (strchr("/._", *at))
            fputs(after_separator, file);
        at += length > 0 ? length : 1;
    }
}

void markup_breakable(FILE *file, const char *text)
{
    put_text(file, text, "<wbr/>");
}

/* One conversion, whose last letter says of what type the argument is. */
static void put_argument(FILE *file, const char *conversion, va_list *arguments)
{
    switch (conversion[strlen(conversion) - 1]) {
    case 's':
        put_text(file, va_arg(*arguments, const char *), "");
        return;
    case 'c':
    case 'd':
        fprintf(file, conversion, va_arg(*arguments, int));
        return;
    case 'u':
        assert(strchr(conversion, 'z'));
        fprintf(file, conversion, va_arg(*arguments, size_t));
        return;
    case '%':
        fputc('%', file);
        return;
    default:
        fprintf(file, conversion, va_arg(*arguments, double));
    }
}

void markup(FILE *file, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    while (*format) {
        size_t plain = strcspn(format, "%");
        fwrite(format, 1, plain, file);
        format += plain;
        if (!*format)
            break;
        char conversion[16];
        size_t length = 2 + strcspn(format + 1, "scduefg%");
        assert(length < sizeof conversion);
        snprintf(conversion, sizeof conversion, "%.*s", (int)length, format);
        put_argument(file, conversion, &arguments);
        format += length;
    }
    va_end(arguments);
}

/* ---- Numbers ---- */

const char *quantity(char text[QUANTITY], double value, const char *unit)
{
    static const char *const prefixes[] = {"n", "µ", "m", "", "k", "M", "G", "T", "P", "E"};
    enum { NONE = 3, LAST = sizeof prefixes / sizeof *prefixes - 1 };
    if (strncmp(unit, "tokens", strlen("tokens")) == 0 && value >= 1000) {
        char rate[NUMBER_TEXT];
        snprintf(text, QUANTITY, "%s %.16s", rate_text(rate, value), unit);
        return text;
    }
    int step = value > 0 ? (int)floor(log10(value * (1 + 1e-9)) / 3) + NONE : NONE;
    step = step < 0 ? 0 : step > LAST ? LAST : step;
    double scaled = value / pow(1000, step - NONE);
    snprintf(text, QUANTITY, "%.*f %s%.16s",
             scaled < 10    ? 2
             : scaled < 100 ? 1
                            : 0,
             scaled, prefixes[step], unit);
    return text;
}

/* ---- JSON ---- */

const char markup_reports_begin[] = "<script type=\"application/json\" id=\"quern-reports\">";
const char markup_reports_end[] = "</script>";

/* In JSON these stand in strings only. */
bool markup_json(FILE *file, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);
    for (const char *at = text; at && *at; at++) {
        if (*at == '<' || *at == '>' || *at == '&')
            fprintf(file, "\\u%04x", (unsigned)*at);
        else
            fputc(*at, file);
    }
    free(text);
    return text != NULL;
}

/* Kernel sources as parts of one program. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "device/source.h"

/* ---- Text ---- */

static bool text_reserve(struct text *text, size_t more)
{
    if (text->failed || more > SIZE_MAX / 4 || text->length > SIZE_MAX / 4) {
        text->failed = true;
        return false;
    }
    size_t needed = text->length + more + 1;
    if (needed <= text->capacity)
        return true;
    size_t capacity = size_max(needed, 2 * text->capacity);
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes) {
        text->failed = true;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void text_append_bytes(struct text *text, const char *bytes, size_t count)
{
    if (!text_reserve(text, count))
        return;
    memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = '\0';
}

void text_append(struct text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        text->failed = true;
    else if (text_reserve(text, (size_t)length))
        text->length +=
            (size_t)vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
    va_end(again);
}

/* ---- Names: each once, as pieces of the source ---- */

struct name {
    const char *text;
    size_t length;
};

struct names {
    struct name *name;
    size_t count, capacity;
    bool failed;
};

static bool name_is(struct name name, const char *text)
{
    return strlen(text) == name.length && memcmp(name.text, text, name.length) == 0;
}

static bool names_have(const struct names *names, struct name name)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->name[i].length == name.length &&
            memcmp(names->name[i].text, name.text, name.length) == 0)
            return true;
    return false;
}

static void names_add(struct names *names, struct name name)
{
    if (names_have(names, name))
        return;
    if (names->count == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 32;
        struct name *more = realloc(names->name, capacity * sizeof *more);
        if (!more) {
            names->failed = true;
            return;
        }
        names->name = more;
        names->capacity = capacity;
    }
    names->name[names->count++] = name;
}

/* ---- The scanner ---- */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static struct name word_at(const char *p)
{
    size_t length = 0;
    while (is_word(p[length]))
        length++;
    return (struct name){p, length};
}

/* Behind a comment that begins at p, or p. */
static const char *skip_comment(const char *p)
{
    if (p[0] == '/' && p[1] == '/') {
        while (*p && *p != '\n')
            p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
    } else if (p[0] == '/' && p[1] == '*') {
        const char *end = strstr(p + 2, "*/");
        return end ? end + 2 : p + strlen(p);
    }
    return p;
}

/* Behind a string or character constant. */
static const char *skip_quoted(const char *p)
{
    char quote = *p++;
    while (*p && *p != quote && *p != '\n')
        p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
    return p + (*p == quote);
}

/* Behind a number; letters in it, as in 0x1p-24f, are no words. */
static const char *skip_number(const char *p)
{
    while (is_word(*p) || *p == '.' || ((*p == '+' || *p == '-') && strchr("eEpP", p[-1])))
        p++;
    return p;
}

/* Behind a preprocessor line, at the end of the line; notes the macro that it defines. */
static const char *scan_directive(const char *p, struct names *macros)
{
    p++;
    p += strspn(p, " \t");
    struct name directive = word_at(p);
    p += directive.length;
    p += strspn(p, " \t");
    if (name_is(directive, "define"))
        names_add(macros, word_at(p));
    while (*p && *p != '\n') {
        const char *behind = skip_comment(p);
        if (behind != p)
            p = behind;
        else
            p += p[0] == '\\' && p[1] != '\0' ? 2 : 1;
    }
    return p;
}

/* Where the scanner is.  A name is declared if, outside all braces, parentheses and initial values,
 * it stands before one of ( [ = , ; {, or in the braces of an enum behind { or a comma. */
struct scan {
    int braces, parentheses;
    bool in_enum, in_value;
    struct name last; /* the word just read, if nothing stood behind it yet */
    char before;      /* the sign before that word */
    struct names declared, macros;
};

static void scan_sign(struct scan *scan, char sign)
{
    bool outside = scan->braces == 0 && scan->parentheses == 0;
    if (scan->last.length && outside && !scan->in_value && strchr("([=,;{", sign) &&
        !name_is(scan->last, "__attribute__") && !name_is(scan->last, "enum") &&
        !name_is(scan->last, "struct") && !name_is(scan->last, "union"))
        names_add(&scan->declared, scan->last);
    if (scan->last.length && scan->in_enum && scan->braces == 1 && scan->parentheses == 0 &&
        strchr("{,", scan->before) && strchr("=,}", sign))
        names_add(&scan->declared, scan->last);
    if (sign == '(' || sign == '[')
        scan->parentheses++;
    else if ((sign == ')' || sign == ']') && scan->parentheses > 0)
        scan->parentheses--;
    else if (sign == '{')
        scan->braces++;
    else if (sign == '}' && scan->braces > 0 && --scan->braces == 0)
        scan->in_enum = scan->in_value = false;
    else if (sign == '=' && outside)
        scan->in_value = true;
    else if ((sign == ',' || sign == ';') && outside)
        scan->in_value = scan->in_enum = false;
    scan->last.length = 0;
    scan->before = sign;
}

static void scan_source(struct scan *scan, const char *text)
{
    bool at_line_start = true;
    for (const char *p = text; *p;) {
        const char *behind = skip_comment(p);
        if (behind != p) {
            p = behind;
        } else if (isspace((unsigned char)*p)) {
            at_line_start = at_line_start || *p == '\n';
            p++;
        } else if (*p == '#' && at_line_start) {
            p = scan_directive(p, &scan->macros);
        } else {
            at_line_start = false;
            if (*p == '"' || *p == '\'') {
                p = skip_quoted(p);
                scan->last.length = 0;
            } else if (isdigit((unsigned char)*p) || (*p == '.' && isdigit((unsigned char)p[1]))) {
                p = skip_number(p + 1);
                scan->last.length = 0;
            } else if (is_word(*p)) {
                if (scan->last.length)
                    scan->before = ' ';
                scan->last = word_at(p);
                if (scan->braces == 0 && name_is(scan->last, "enum"))
                    scan->in_enum = true;
                p += scan->last.length;
            } else {
                scan_sign(scan, *p++);
            }
        }
    }
}

/* ---- Generating ---- */

static void append_undefs(struct text *text, const struct names *names, const struct names *but)
{
    for (size_t i = 0; i < names->count; i++)
        if (!but || !names_have(but, names->name[i]))
            text_append(text, "#undef %.*s\n", (int)names->name[i].length, names->name[i].text);
}

void text_append_source(struct text *text, const char *file, const char *source,
                        const char *defines, const char *suffix)
{
    struct scan scan = {0};
    scan_source(&scan, defines);
    scan_source(&scan, source);
    text_append(text, "%s\n", defines);
    for (size_t i = 0; i < scan.declared.count; i++) {
        struct name name = scan.declared.name[i];
        if (!names_have(&scan.macros, name))
            text_append(text, "#define %.*s %.*s_%s\n", (int)name.length, name.text,
                        (int)name.length, name.text, suffix);
    }
    text_append(text, "#line 1 \"%s\"\n", file);
    text_append_bytes(text, source, strlen(source));
    text_append(text, "\n");
    append_undefs(text, &scan.declared, &scan.macros);
    append_undefs(text, &scan.macros, NULL);
    text->failed = text->failed || scan.declared.failed || scan.macros.failed;
    free(scan.declared.name);
    free(scan.macros.name);
}

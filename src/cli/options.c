/* Command lines and configuration files, read by a command's table of options. */
#include "config.h"

#include "cli/cli.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum origin { FROM_DEFAULT, FROM_RECIPE, FROM_FILE, FROM_LINE };

struct value {
    enum origin origin;
    char **texts; /* as typed; one, but for OPTION_STRINGS */
    size_t count;
    double number;
};

struct options {
    const struct command *command;
    struct value *values; /* one for each of the command's options */
    char **operands;
    size_t n_operands;
    char *const *words; /* as given */
    int n_words;
};

struct parser {
    struct options *options;
    char *message;
    size_t message_bytes;
    const char *file; /* being read, and its line; NULL: the command line */
    int line;
};

/* ---- Errors ---- */

static bool fail(const struct parser *parser, const char *format, ...) CLI_FORMAT(2, 3);

static bool fail(const struct parser *parser, const char *format, ...)
{
    int used = 0;
    if (parser->file)
        used =
            snprintf(parser->message, parser->message_bytes, "%s:%d: ", parser->file, parser->line);
    if (used < 0 || (size_t)used >= parser->message_bytes)
        return false;

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parser->message + used, parser->message_bytes - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static bool fail_memory(const struct parser *parser)
{
    return fail(parser, "out of memory");
}

/* Edits that turn `a` into `b`: insert, delete, replace, swap neighbours (optimal string
 * alignment). */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > LONGEST || b_length > LONGEST)
        return LONGEST;

    size_t distance[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= a_length; i++)
        distance[i][0] = i;
    for (size_t j = 0; j <= b_length; j++)
        distance[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = distance[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (distance[i - 1][j] + 1 < best)
                best = distance[i - 1][j] + 1;
            if (distance[i][j - 1] + 1 < best)
                best = distance[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                distance[i - 2][j - 2] + 1 < best)
                best = distance[i - 2][j - 2] + 1;
            distance[i][j] = best;
        }
    }
    return distance[a_length][b_length];
}

/* Whether one goes on where the other ends: "gen" for "generate", "batch-size" for "batch". */
static bool is_beginning(const char *name, const char *wrong)
{
    size_t name_length = strlen(name), length = strlen(wrong);
    if (length <= name_length)
        return length >= 2 && strncmp(name, wrong, length) == 0;
    return wrong[name_length] == '-' && strncmp(name, wrong, name_length) == 0;
}

/* Whether a name is the initials of words: "lr" of "learning-rate". */
static bool is_initials(const char *name, const char *words)
{
    while (*name && *words == *name) {
        name++;
        words = strchr(words, '-');
        if (!words)
            break;
        words++;
    }
    return *name == '\0' && !words;
}

const char *nearest_name(const char *typed, const char *const *names, size_t count)
{
    char wrong[64]; /* as names are written */
    size_t length = 0;
    for (; typed[length] && length + 1 < sizeof wrong; length++)
        wrong[length] = typed[length] == '_' ? '-' : (char)tolower((unsigned char)typed[length]);
    wrong[length] = '\0';

    size_t allowed = length < 4 ? 1 : length / 3 + 1, best = allowed + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        bool is_short = is_beginning(names[i], wrong) || is_initials(names[i], wrong);
        size_t distance = is_short ? 0 : edit_distance(wrong, names[i]);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

/* An option that there is not, as typed behind so many dashes; 0: in a file. */
static bool fail_unknown(const struct parser *parser, const char *word, int dashes)
{
    const struct command *command = parser->options->command;
    const char **names = malloc((command->n_options + 1) * sizeof *names);
    if (!names)
        return fail_memory(parser);
    size_t count = 0;
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].kind != OPTION_HEADING)
            names[count++] = command->options[i].name;

    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *nearest = nearest_name(name + dashes, names, count);
    free(names);
    if (nearest)
        return fail(parser, "no option %s; did you mean %s%s?", name, dashes ? "--" : "", nearest);
    return fail(parser, "no option %s", name);
}

/* ---- Values ---- */

/* A plain decimal number at `text`: no "inf", "nan" or hexadecimal, which strtod() would take. */
static bool read_number(const char *text, double *number, const char **rest)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (!isdigit((unsigned char)*digits) && !(*digits == '.' && isdigit((unsigned char)digits[1])))
        return false;
    if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
        return false;
    char *end;
    *number = strtod(text, &end);
    *rest = end;
    return isfinite(*number);
}

static bool read_size(const char *text, double *number)
{
    static const char suffixes[] = "kMGT";
    const char *rest;
    if (!read_number(text, number, &rest))
        return false;
    if (*rest == '\0')
        return true;
    const char *suffix = strchr(suffixes, *rest == 'K' ? 'k' : *rest);
    if (!suffix)
        return false;
    bool is_binary = rest[1] == 'i';
    *number *= pow(is_binary ? 1024 : 1000, (double)(suffix - suffixes + 1));
    return rest[is_binary ? 2 : 1] == '\0';
}

static bool read_duration(const char *text, double *seconds)
{
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};

    *seconds = 0;
    do {
        double number;
        const char *rest;
        if (!read_number(text, &number, &rest))
            return false;
        if (*rest == '\0') { /* a bare number is seconds, but not behind another: 1h30 is unclear */
            *seconds += number;
            return *seconds == number;
        }
        size_t i = 0;
        while (i < sizeof units / sizeof *units && units[i].letter != *rest)
            i++;
        if (i == sizeof units / sizeof *units)
            return false;
        *seconds += number * units[i].seconds;
        text = rest + 1;
    } while (*text);
    return true;
}

static bool is_whole(double number)
{
    return number == floor(number) &&
           fabs(number) <= 9007199254740992.0; /* 2^53: exact in a double */
}

bool option_allows_word(const struct option *option, const char *text)
{
    const char *placeholder = option->placeholder;
    size_t length = strlen(text);
    if (!strchr(placeholder, '|'))
        return true;
    for (const char *c = placeholder; *c; c++)
        if (isupper((unsigned char)*c))
            return true;
    for (const char *word = placeholder; word; word = strchr(word, '|')) {
        word += *word == '|';
        if (strncmp(word, text, length) == 0 && (word[length] == '|' || word[length] == '\0'))
            return true;
    }
    return false;
}

bool option_takes_path(const struct option *option)
{
    const char *placeholder = option->placeholder;
    return strstr(placeholder, "FILE") || strstr(placeholder, "DIR") || strstr(placeholder, "PATH");
}

bool option_allows(const struct option *option, double number)
{
    return (option->above_least ? number > option->least : number >= option->least) &&
           (option->below_most ? number < option->most : number <= option->most);
}

const char *option_range(const struct option *option, char text[OPTION_RANGE])
{
    snprintf(text, OPTION_RANGE, "%s%.16g to %s%.16g%s", option->above_least ? "more than " : "",
             option->least, option->below_most ? "less than " : "", option->most,
             option->kind == OPTION_DURATION ? " seconds" : "");
    return text;
}

static bool read_flag(const char *text, double *number)
{
    static const char *const words[] = {"no", "yes", "false", "true", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            *number = i % 2;
            return true;
        }
    }
    return false;
}

/* Turns the text of a value into its number, if it has one, and checks it. */
static bool read_value(const struct parser *parser, const struct option *option, const char *text,
                       double *number)
{
    const char *expected = NULL, *rest;
    bool is_number = true;

    switch (option->kind) {
    case OPTION_FLAG:
        is_number = false;
        if (!read_flag(text, number))
            expected = "yes or no";
        break;
    case OPTION_INTEGER:
        if (!read_number(text, number, &rest) || *rest || !is_whole(*number))
            expected = "a whole number";
        break;
    case OPTION_SIZE:
        if (!read_size(text, number) || !is_whole(*number))
            expected = "a whole number such as 500, 20k or 1M";
        break;
    case OPTION_REAL:
        if (!read_number(text, number, &rest) || *rest)
            expected = "a number";
        break;
    case OPTION_DURATION:
        if (!read_duration(text, number))
            expected = "a time such as 90, 30s, 2m or 1h30m";
        break;
    case OPTION_STRING:
    case OPTION_STRINGS:
        is_number = false;
        if (!option_allows_word(option, text))
            expected = option->placeholder;
        break;
    case OPTION_HEADING:
        break;
    }

    if (expected)
        return fail(parser, "--%s takes %s, not \"%s\"", option->name, expected, text);
    if (!is_number && option->kind != OPTION_FLAG && !*text && option_takes_path(option))
        return fail(parser, "--%s is empty: it takes %s", option->name, option->placeholder);
    if (is_number && !option_allows(option, *number)) {
        char range[OPTION_RANGE];
        return fail(parser, "--%s takes %s, not %s", option->name, option_range(option, range),
                    text);
    }
    return true;
}

/* Gives option number `index` a value; the last one counts, but OPTION_STRINGS collect those of one
 * origin. */
static bool set_value(const struct parser *parser, size_t index, const char *text,
                      enum origin origin)
{
    const struct option *option = &parser->options->command->options[index];
    struct value *value = &parser->options->values[index];
    double number = 0;

    if (!read_value(parser, option, text, &number))
        return false;
    if (origin < value->origin) /* the command line wins over the file */
        return true;

    bool adds = option->kind == OPTION_STRINGS && origin == value->origin;
    char **texts = realloc(value->texts, (value->count + 1) * sizeof *texts);
    if (!texts)
        return fail_memory(parser);
    value->texts = texts;
    char *copy = strdup(text);
    if (!copy)
        return fail_memory(parser);
    if (!adds) {
        while (value->count)
            free(texts[--value->count]);
    }
    texts[value->count++] = copy;
    value->number = number;
    value->origin = origin;
    return true;
}

/* ---- Finding options ---- */

enum { NOT_FOUND = -1 };

/* Names are equal if they differ by "_" for "-" only. */
static bool same_name(const char *name, const char *typed, size_t typed_length)
{
    for (size_t i = 0; i < typed_length; i++)
        if (name[i] == '\0' || name[i] != (typed[i] == '_' ? '-' : typed[i]))
            return false;
    return name[typed_length] == '\0';
}

static int find_option(const struct command *command, const char *name, size_t length)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].kind != OPTION_HEADING &&
            same_name(command->options[i].name, name, length))
            return (int)i;
    return NOT_FOUND;
}

static int find_letter(const struct command *command, char letter)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].letter == letter)
            return (int)i;
    return NOT_FOUND;
}

/* ---- The command line ---- */

/* Whether a word in the place of a value is rather the next option: a value was forgotten. */
static bool is_option(const struct command *command, const char *word)
{
    if (strncmp(word, "--", 2) == 0)
        return find_option(command, word + 2, strcspn(word + 2, "=")) != NOT_FOUND;
    return word[0] == '-' && word[1] && !word[2] && find_letter(command, word[1]) != NOT_FOUND;
}

/* Words that go on a list such as --data A B C. */
static bool is_operand_word(const char *word)
{
    return word[0] != '-' || word[1] == '\0';
}

/* Reads the option at words[at], and its values; returns the index of the next word, or -1. */
static int read_option(const struct parser *parser, int count, char *const *words, int at)
{
    const struct command *command = parser->options->command;
    const char *word = words[at++], *attached = NULL;
    int index;

    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        index = find_option(command, word + 2, length);
        if (index == NOT_FOUND && same_name("help", word + 2, length)) {
            fail(parser, "--help takes no value");
            return -1;
        }
        if (index == NOT_FOUND) {
            fail_unknown(parser, word, 2);
            return -1;
        }
        if (word[2 + length])
            attached = word + 2 + length + 1;
    } else {
        index = find_letter(command, word[1]);
        /* "-out" is rather --out than -o with a value that happens to end the name. */
        bool is_name = find_option(command, word + 1, strcspn(word + 1, "=")) != NOT_FOUND;
        if (index == NOT_FOUND || (word[2] && is_name)) {
            fail_unknown(parser, word, 1);
            return -1;
        }
        if (word[2])
            attached = word + 2 + (word[2] == '=');
    }

    const struct option *option = &command->options[index];
    if (option->kind == OPTION_FLAG)
        return set_value(parser, (size_t)index, attached ? attached : "yes", FROM_LINE) ? at : -1;

    if (!attached) {
        if (at == count || is_option(command, words[at])) {
            fail(parser, "--%s lacks its value: --%s %s", option->name, option->name,
                 option->placeholder);
            return -1;
        }
        attached = words[at++];
    }
    if (!set_value(parser, (size_t)index, attached, FROM_LINE))
        return -1;
    bool takes_list = option->kind == OPTION_STRINGS && !option->one_each;
    while (takes_list && at < count && is_operand_word(words[at]))
        if (!set_value(parser, (size_t)index, words[at++], FROM_LINE))
            return -1;
    return at;
}

/* One for each word of "METRIC [FILE]"; any number for "FILE..." and "[GROUP]...". */
static size_t most_operands(const struct command *command)
{
    size_t count = 1;
    if (strstr(command->operand, "..."))
        return SIZE_MAX;
    for (const char *c = command->operand; *c; c++)
        count += *c == ' ';
    return count;
}

static bool read_operand(const struct parser *parser, const char *word)
{
    struct options *options = parser->options;
    if (options->command->operand && !*word)
        return fail(parser, "%s is empty", options->command->operand);
    if (!options->command->operand)
        return fail(parser, "unexpected \"%s\"", word);
    if (options->n_operands == most_operands(options->command))
        return fail(parser, "takes one %s, but \"%s\" and \"%s\" are given",
                    options->command->operand, options->operands[options->n_operands - 1], word);
    char **operands = realloc(options->operands, (options->n_operands + 1) * sizeof *operands);
    if (!operands)
        return fail_memory(parser);
    options->operands = operands;
    operands[options->n_operands] = strdup(word);
    return operands[options->n_operands++] || fail_memory(parser);
}

static bool read_line(const struct parser *parser, int count, char *const *words)
{
    bool options_ended = false;
    for (int at = 0; at < count;) {
        if (options_ended || is_operand_word(words[at])) {
            if (!read_operand(parser, words[at++]))
                return false;
        } else if (strcmp(words[at], "--") == 0) {
            options_ended = true;
            at++;
        } else {
            at = read_option(parser, count, words, at);
            if (at < 0)
                return false;
        }
    }
    return true;
}

/* ---- The configuration file ---- */

/* Cuts off comments (from a # that begins a word, outside quotes) and spaces; returns the rest. */
static char *trim(char *text)
{
    bool is_quoted = false;
    for (char *c = text; *c; c++) {
        if (*c == '"')
            is_quoted = !is_quoted;
        if (*c == '#' && !is_quoted && (c == text || isspace((unsigned char)c[-1]))) {
            *c = '\0';
            break;
        }
    }
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return text;
}

static char *unquote(char *text)
{
    size_t length = strlen(text);
    if (length < 2 || text[0] != '"' || text[length - 1] != '"')
        return text;
    text[length - 1] = '\0';
    return text + 1;
}

static bool read_setting(const struct parser *parser, char *text, enum origin origin)
{
    const struct command *command = parser->options->command;
    text = trim(text);
    if (*text == '\0')
        return true;

    char *equals = strchr(text, '=');
    if (!equals)
        return fail(parser, "expected \"option = value\", not \"%s\"", text);
    *equals = '\0';
    char *name = trim(text), *value = unquote(trim(equals + 1));

    int index = find_option(command, name, strlen(name));
    if (index == NOT_FOUND)
        return fail_unknown(parser, name, 0);
    if (strcmp(command->options[index].name, "config") == 0)
        return fail(parser, "a configuration file cannot name another");
    return set_value(parser, (size_t)index, value, origin);
}

static bool read_file(struct parser *parser, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return fail(parser, "--config: cannot read %s: %s", path, strerror(errno));

    bool is_good = true;
    char *text = NULL;
    size_t text_bytes = 0;
    parser->file = path;
    while (is_good && getline(&text, &text_bytes, file) >= 0) {
        parser->line++;
        is_good = read_setting(parser, text, FROM_FILE);
    }
    parser->file = NULL;
    if (is_good && ferror(file))
        is_good = fail(parser, "--config: cannot read %s: %s", path, strerror(errno));
    free(text);
    fclose(file);
    return is_good;
}

/* ---- Recipes ---- */

/* The settings of a recipe, as lines of a configuration file. */
static bool read_recipe(struct parser *parser, const char *name)
{
    const char *const *recipe = parser->options->command->recipes;
    char names[256] = "";
    for (size_t used = 0; *recipe && strcmp(name, recipe[0]) != 0 && used < sizeof names;
         recipe += 2)
        used += (size_t)snprintf(names + used, sizeof names - used, " %s", recipe[0]);
    if (!*recipe)
        return fail(parser, "--recipe: there is no \"%s\"; there is%s", name, names);
    char *lines = strdup(recipe[1]), *next = lines, *line;
    bool is_good = lines || fail_memory(parser);
    while (is_good && (line = strsep(&next, "\n")))
        is_good = read_setting(parser, line, FROM_RECIPE);
    free(lines);
    return is_good;
}

/* ---- All together ---- */

static bool set_defaults(const struct parser *parser)
{
    const struct command *command = parser->options->command;
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].value &&
            !set_value(parser, i, command->options[i].value, FROM_DEFAULT))
            return false;
    return true;
}

/* Whether the user wants option number `index`: --quiet=no does not count. */
static bool is_wanted(const struct options *options, size_t index)
{
    const struct value *value = &options->values[index];
    bool is_flag = options->command->options[index].kind == OPTION_FLAG;
    return value->origin != FROM_DEFAULT && (!is_flag || value->number != 0);
}

static bool is_wanted_name(const struct options *options, const char *name)
{
    int index = find_option(options->command, name, strlen(name));
    assert(index != NOT_FOUND);
    return is_wanted(options, (size_t)index);
}

/* Makes option number `index` what it is if nobody gives it. */
static bool drop(const struct parser *parser, size_t index)
{
    struct value *value = &parser->options->values[index];
    const char *usual = parser->options->command->options[index].value;
    while (value->count)
        free(value->texts[--value->count]);
    value->number = 0;
    value->origin = FROM_DEFAULT;
    return !usual || set_value(parser, index, usual, FROM_DEFAULT);
}

/* Of two options that exclude each other the one stays that wins over the other: from the command line over that from a file, ... */
static bool choose_one(const struct parser *parser, size_t index)
{
    const struct option *option = &parser->options->command->options[index];
    size_t other =
        (size_t)find_option(parser->options->command, option->excludes, strlen(option->excludes));
    enum origin mine = parser->options->values[index].origin,
                theirs = parser->options->values[other].origin;
    if (mine == theirs)
        return fail(parser, "--%s and --%s exclude each other", option->name, option->excludes);
    return drop(parser, mine < theirs ? index : other);
}

/* An option without the one that it is a part of. */
static bool miss(const struct parser *parser, size_t index)
{
    const struct option *option = &parser->options->command->options[index];
    if (parser->options->values[index].origin == FROM_LINE)
        return fail(parser, "--%s says nothing without --%s: give that, too", option->name,
                    option->needs);
    return drop(parser, index);
}

static bool check_together(const struct parser *parser)
{
    const struct options *options = parser->options;
    const struct command *command = options->command;

    if (command->operand && !options->n_operands && command->operand[0] != '[')
        return fail(parser, "%s is missing", command->operand);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct option *option = &command->options[i];
        if (option->kind == OPTION_HEADING)
            continue;
        bool is_given = is_wanted(options, i);
        if (option->required && !is_given &&
            !(option->unless && is_wanted_name(options, option->unless)))
            return fail(parser, "--%s %s is missing", option->name, option->placeholder);
        if (option->excludes && is_given && is_wanted_name(options, option->excludes) &&
            !choose_one(parser, i))
            return false;
        if (option->needs && is_given && !is_wanted_name(options, option->needs) &&
            !miss(parser, i))
            return false;
    }
    return true;
}

struct options *options_parse(const struct command *command, int count, char *const *words,
                              char *message, size_t message_bytes)
{
    struct options *options = calloc(1, sizeof *options);
    struct parser parser = {options, message, message_bytes, NULL, 0};
    if (options)
        options->values = calloc(command->n_options + 1, sizeof *options->values);
    if (!options || !options->values) {
        fail_memory(&parser);
        options_free(options);
        return NULL;
    }
    options->command = command;
    options->words = words;
    options->n_words = count;

    bool is_good = set_defaults(&parser) && read_line(&parser, count, words);
    if (is_good && find_option(command, "config", strlen("config")) != NOT_FOUND) {
        const char *path = options_string(options, "config");
        is_good = !path || read_file(&parser, path);
    }
    if (is_good && command->recipes) {
        const char *recipe = options_string(options, "recipe");
        is_good = !recipe || read_recipe(&parser, recipe);
    }
    if (is_good && check_together(&parser))
        return options;
    options_free(options);
    return NULL;
}

void options_free(struct options *options)
{
    if (!options)
        return;
    for (size_t i = 0; options->values && options->command && i < options->command->n_options;
         i++) {
        for (size_t j = 0; j < options->values[i].count; j++)
            free(options->values[i].texts[j]);
        free(options->values[i].texts);
    }
    free(options->values);
    for (size_t i = 0; i < options->n_operands; i++)
        free(options->operands[i]);
    free(options->operands);
    free(options);
}

/* ---- Looking up ---- */

static const struct value *value_of(const struct options *options, const char *name,
                                    enum option_kind kind, enum option_kind other_kind)
{
    int index = find_option(options->command, name, strlen(name));
    assert(index != NOT_FOUND);
    enum option_kind found = options->command->options[index].kind;
    assert(found == kind || found == other_kind);
    (void)found;
    (void)kind;
    (void)other_kind;
    return &options->values[index];
}

bool options_flag(const struct options *options, const char *name)
{
    return value_of(options, name, OPTION_FLAG, OPTION_FLAG)->number != 0;
}

const char *options_string(const struct options *options, const char *name)
{
    const struct value *value = value_of(options, name, OPTION_STRING, OPTION_STRING);
    return value->count ? value->texts[0] : NULL;
}

int64_t options_integer(const struct options *options, const char *name)
{
    return (int64_t)value_of(options, name, OPTION_INTEGER, OPTION_SIZE)->number;
}

double options_real(const struct options *options, const char *name)
{
    return value_of(options, name, OPTION_REAL, OPTION_REAL)->number;
}

double options_seconds(const struct options *options, const char *name)
{
    return value_of(options, name, OPTION_DURATION, OPTION_DURATION)->number;
}

size_t options_count(const struct options *options, const char *name)
{
    return value_of(options, name, OPTION_STRINGS, OPTION_STRINGS)->count;
}

const char *options_at(const struct options *options, const char *name, size_t index)
{
    const struct value *value = value_of(options, name, OPTION_STRINGS, OPTION_STRINGS);
    assert(index < value->count);
    return value->texts[index];
}

bool options_given(const struct options *options, const char *name)
{
    int index = find_option(options->command, name, strlen(name));
    assert(index != NOT_FOUND);
    return options->values[index].origin != FROM_DEFAULT;
}

const char *options_command(const struct options *options)
{
    return options->command->name;
}

const char *options_operand(const struct options *options)
{
    return options->n_operands ? options->operands[0] : NULL;
}

size_t options_operands(const struct options *options)
{
    return options->n_operands;
}

const char *options_operand_at(const struct options *options, size_t index)
{
    assert(index < options->n_operands);
    return options->operands[index];
}

char *const *options_words(const struct options *options, int *count)
{
    *count = options->n_words;
    return options->words;
}

/* ---- Talking ---- */

static void say(const struct options *options, const char *format, va_list arguments)
{
    fprintf(stderr, "quern %s: ", options->command->name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int usage_error(const struct options *options, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(options, format, arguments);
    va_end(arguments);
    fprintf(stderr, "See: quern %s --help\n", options->command->name);
    return EXIT_USAGE;
}

int failure(const struct options *options, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(options, format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

/* The parser of command lines and configuration files, on a table of its own. */
#include "config.h"

#include "cli/cli.h"
#include "tap.h"

#include <string.h>
#include <unistd.h>

static const struct option table_options[] = {
    {.kind = OPTION_HEADING, .help = "Of every kind"},
    {OPTION_FLAG, 'q', "quiet", .help = "a flag"},
    {OPTION_STRING, 'o', "out", "DIR", .required = true, .unless = "dry-run", .help = "a string"},
    {OPTION_STRING, 0, "mode", "fast|exact", "fast", .help = "a closed choice"},
    {OPTION_STRING, 0, "tokenizer", "char|PATH", "char", .help = "an open choice"},
    {OPTION_STRINGS, 0, "data", "FILE...", .help = "several strings"},
    {OPTION_INTEGER, 'l', "layers", "N", "4", 1, 100, .help = "an integer"},
    {OPTION_SIZE, 0, "steps", "N", "2000", 1, 1e15, .help = "a size"},
    {OPTION_REAL, 0, "weight-decay", "R", "0.1", 0, 1e3, .help = "a number"},
    {OPTION_REAL, 0, "dropout", "P", "0", 0, 1, .below_most = true, .help = "an open range"},
    {OPTION_DURATION, 0, "time", "TIME", .most = 1e9, .above_least = true, .help = "a duration"},
    {OPTION_REAL, 0, "lr", "R", .most = 1, .help = "a name of initials"},
    {OPTION_FLAG, 0, "dry-run", .excludes = "quiet", .help = "another flag"},
    {OPTION_STRING, 0, "config", "FILE", .help = "the file"},
};

static const struct command table = {
    .name = "table",
    .operand = "DIR",
    .options = table_options,
    .n_options = sizeof table_options / sizeof *table_options,
};

enum { MOST_WORDS = 16 };

static char message[256];

/* Parses words that are separated by "|"; --dry-run and an operand are added, so that nothing is
 * missing. */
static struct options *parse(const char *line)
{
    static char text[512];
    char *words[MOST_WORDS] = {(char[]){"operand"}, (char[]){"--dry-run"}};
    int count = 2;

    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, "|"); word && count < MOST_WORDS; word = strtok(NULL, "|"))
        words[count++] = word;
    message[0] = '\0';
    return options_parse(&table, count, words, message, sizeof message);
}

static void test_defaults(void)
{
    struct options *options = parse("");
    if (!ok(options != NULL, "an empty line: %s", message))
        return;
    ok(!options_flag(options, "quiet"), "flags are off");
    ok(options_string(options, "out") == NULL, "a string without a default is NULL");
    ok(strcmp(options_string(options, "mode"), "fast") == 0, "a string has its default");
    is_int((long long)options_count(options, "data"), 0, "no strings");
    is_int(options_integer(options, "steps"), 2000, "a size has its default");
    ok(options_real(options, "weight-decay") == 0.1, "a number has its default");
    ok(options_seconds(options, "time") == 0, "a number without a default is 0");
    ok(!options_given(options, "steps"), "a default is not given");
    ok(strcmp(options_operand(options), "operand") == 0, "the operand");
    options_free(options);
}

/* What a number's text means. */
static const struct {
    const char *line, *name;
    double expected;
} numbers[] = {
    {"--layers|7", "layers", 7},
    {"--layers=7", "layers", 7},
    {"-l|7", "layers", 7},
    {"-l7", "layers", 7},
    {"--layers|7|--layers|8", "layers", 8},
    {"--layers|1e1", "layers", 10},
    {"--steps|20k", "steps", 20000},
    {"--steps|20K", "steps", 20000},
    {"--steps|1.5M", "steps", 1500000},
    {"--steps|2Ki", "steps", 2048},
    {"--steps|1G", "steps", 1e9},
    {"--weight_decay|.5", "weight-decay", 0.5},
    {"--weight-decay|1e-3", "weight-decay", 1e-3},
    {"--dropout|0.999", "dropout", 0.999},
    {"--time|90", "time", 90},
    {"--time|30s", "time", 30},
    {"--time|2m", "time", 120},
    {"--time|1h30m", "time", 5400},
    {"--time|0.5d", "time", 43200},
};

static double number_of(const struct options *options, const char *name)
{
    if (strcmp(name, "time") == 0)
        return options_seconds(options, name);
    if (strcmp(name, "layers") == 0 || strcmp(name, "steps") == 0)
        return (double)options_integer(options, name);
    return options_real(options, name);
}

static void test_numbers(void)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct options *options = parse(numbers[i].line);
        double found = options ? number_of(options, numbers[i].name) : 0;
        ok(options && found == numbers[i].expected, "%s is %g", numbers[i].line,
           numbers[i].expected);
        if (!options)
            note("%s", message);
        options_free(options);
    }
}

/* What is wrong, and what must be said about it. */
static const struct {
    const char *line, *expected;
} mistakes[] = {
    {"--layres|3", "no option --layres; did you mean --layers?"},
    {"--weight|3", "no option --weight; did you mean --weight-decay?"},
    {"--xyzzy", "no option --xyzzy"},
    {"-x", "no option -x"},
    {"--LAYERS=3", "no option --LAYERS; did you mean --layers?"},
    {"--layers-count|3", "no option --layers-count; did you mean --layers?"},
    {"--learning-rate|3", "no option --learning-rate; did you mean --lr?"},
    {"-steps|3", "no option -steps; did you mean --steps?"},
    {"-layers|3", "no option -layers; did you mean --layers?"},
    {"--help=3", "--help takes no value"},
    {"--out=", "--out is empty: it takes DIR"},
    {"--data=", "--data is empty: it takes FILE..."},
    {"--layers", "--layers lacks its value: --layers N"},
    {"--out|--layers|3", "--out lacks its value: --out DIR"},
    {"--layers|many", "--layers takes a whole number, not \"many\""},
    {"--layers|", "--layers lacks its value: --layers N"},
    {"--layers=", "--layers takes a whole number, not \"\""},
    {"--layers|2.5", "--layers takes a whole number, not \"2.5\""},
    {"--layers|0x10", "--layers takes a whole number, not \"0x10\""},
    {"--layers|3 4", "--layers takes a whole number, not \"3 4\""},
    {"--layers|0", "--layers takes 1 to 100, not 0"},
    {"--layers|-3", "--layers takes 1 to 100, not -3"},
    {"--layers|1e300", "--layers takes a whole number, not \"1e300\""},
    {"--layers|101", "--layers takes 1 to 100, not 101"},
    {"--steps|3x", "--steps takes a whole number such as 500, 20k or 1M, not \"3x\""},
    {"--weight-decay|nan", "--weight-decay takes a number, not \"nan\""},
    {"--weight-decay|1e999", "--weight-decay takes a number, not \"1e999\""},
    {"--dropout|1", "--dropout takes 0 to less than 1, not 1"},
    {"--time|0", "--time takes more than 0 to 1000000000 seconds, not 0"},
    {"--time|1h30", "--time takes a time such as 90, 30s, 2m or 1h30m, not \"1h30\""},
    {"--time|soon", "--time takes a time such as 90, 30s, 2m or 1h30m, not \"soon\""},
    {"--mode|slow", "--mode takes fast|exact, not \"slow\""},
    {"--mode|fa", "--mode takes fast|exact, not \"fa\""},
    {"--quiet=maybe", "--quiet takes yes or no, not \"maybe\""},
    {"second", "takes one DIR, but \"operand\" and \"second\" are given"},
    {"--quiet", "--dry-run and --quiet exclude each other"},
    {"--config|/nowhere", "--config: cannot read /nowhere: No such file or directory"},
};

static void test_mistakes(void)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct options *options = parse(mistakes[i].line);
        if (!ok(!options && strcmp(message, mistakes[i].expected) == 0, "%s: refused",
                mistakes[i].line))
            note("found \"%s\", expected \"%s\"", message, mistakes[i].expected);
        options_free(options);
    }

    char *nothing[] = {NULL};
    ok(!options_parse(&table, 0, nothing, message, sizeof message) &&
           strcmp(message, "DIR is missing") == 0,
       "an operand that is missing: %s", message);
    char *operand[] = {(char[]){"here"}};
    ok(!options_parse(&table, 1, operand, message, sizeof message) &&
           strcmp(message, "--out DIR is missing") == 0,
       "an option that is missing: %s", message);
}

static void test_strings(void)
{
    struct options *options = parse("--data|a|b|--tokenizer|some/path|--data|c|--quiet=no|-o|-x");
    if (!ok(options != NULL, "lists of strings: %s", message))
        return;
    is_int((long long)options_count(options, "data"), 3, "strings add up");
    ok(strcmp(options_at(options, "data", 2), "c") == 0, "in their order");
    ok(strcmp(options_string(options, "tokenizer"), "some/path") == 0,
       "an open choice takes any word");
    ok(!options_flag(options, "quiet"), "a flag can be taken back");
    ok(strcmp(options_string(options, "out"), "-x") == 0, "a value may begin with a dash");
    options_free(options);

    char *words[] = {(char[]){"--dry-run"}, (char[]){"--"}, (char[]){"--layers"}};
    options = options_parse(&table, 3, words, message, sizeof message);
    ok(options && strcmp(options_operand(options), "--layers") == 0, "-- ends the options");
    options_free(options);
}

/* Parses `line` with a configuration file that holds `text`. */
static struct options *parse_with(const char *text, const char *line)
{
    char path[] = "options-XXXXXX", all[256];
    int descriptor = mkstemp(path);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    if (!file)
        bail_out("cannot make a temporary file");
    fputs(text, file);
    fclose(file);
    snprintf(all, sizeof all, "--config|%s%s%s", path, *line ? "|" : "", line);
    struct options *options = parse(all);
    unlink(path);

    char *name = strstr(message, path); /* it changes from run to run */
    if (name)
        memmove(name, name + strlen(path), strlen(name + strlen(path)) + 1);
    return options;
}

static void test_file(void)
{
    struct options *options = parse_with("# a recipe\n"
                                         "\n"
                                         "layers = 6      # blocks\n"
                                         "weight_decay=0.25\n"
                                         "  steps =\t3k\n"
                                         "out = \" a # b \"\n"
                                         "tokenizer = c#\n"
                                         "data = one\n"
                                         "data = two\n"
                                         "quiet = no",
                                         "--layers|7");
    if (!ok(options != NULL, "a configuration file: %s", message))
        return;
    is_int(options_integer(options, "layers"), 7, "the command line wins");
    ok(options_real(options, "weight-decay") == 0.25, "_ is - in a file, too");
    is_int(options_integer(options, "steps"), 3000, "spaces do not matter");
    ok(strcmp(options_string(options, "out"), " a # b ") == 0, "quotes keep spaces and #");
    ok(strcmp(options_string(options, "tokenizer"), "c#") == 0, "a # inside a word is no comment");
    is_int((long long)options_count(options, "data"), 2, "strings add up");
    ok(options_given(options, "steps"), "what a file says is given");
    options_free(options);

    options = parse_with("data = one\ndata = two\n", "--data|three");
    is_int(options ? (long long)options_count(options, "data") : -1, 1,
           "strings of the command line replace those of the file");
    options_free(options);

    static const struct {
        const char *text, *expected;
    } wrong[] = {
        {"layers = 3\nlayers = six\n", ":2: --layers takes a whole number, not \"six\""},
        {"layres = 3\n", ":1: no option layres; did you mean layers?"},
        {"layers 3\n", ":1: expected \"option = value\", not \"layers 3\""},
        {"config = x\n", ":1: a configuration file cannot name another"},
        {"mode = slow\n", ":1: --mode takes fast|exact, not \"slow\""},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options = parse_with(wrong[i].text, "");
        if (!ok(!options && strcmp(message, wrong[i].expected) == 0, "refused%s",
                wrong[i].expected))
            note("found \"%s\"", message);
        options_free(options);
    }
    options = parse_with("layers = six\n", "--layers|7");
    ok(!options, "a mistake in the file is one, even where the command line wins");
    options_free(options);
}

static void test_operands(void)
{
    static const struct command any = {.name = "any", .operand = "[GROUP]..."};
    char *words[] = {(char[]){"one"}, (char[]){"two"}, NULL};
    struct options *options = options_parse(&any, 0, words, message, sizeof message);
    ok(options && options_operands(options) == 0 && !options_operand(options),
       "operands that may be absent");
    options_free(options);
    options = options_parse(&any, 2, words, message, sizeof message);
    if (ok(options && options_operands(options) == 2, "several operands: %s", message)) {
        int count;
        ok(strcmp(options_operand_at(options, 1), "two") == 0, "in their order");
        ok(options_words(options, &count) == words && count == 2, "the words as given");
    }
    options_free(options);
}

static void test_one_each(void)
{
    static const struct option options[] = {
        {OPTION_STRINGS, 'r', "reference", "FILE", .one_each = true, .help = "what is right"}};
    static const struct command two = {
        .name = "two", .operand = "METRIC [FILE]", .options = options, .n_options = 1};
    char *words[] = {(char[]){"bleu"}, (char[]){"-r"}, (char[]){"a"},    (char[]){"--reference"},
                     (char[]){"b"},    (char[]){"c"},  (char[]){"more"}, NULL};
    struct options *parsed = options_parse(&two, 6, words, message, sizeof message);
    ok(parsed && options_count(parsed, "reference") == 2 && options_operands(parsed) == 2 &&
           strcmp(options_operand_at(parsed, 1), "c") == 0,
       "an option that takes one value each time leaves the next word to the operands");
    options_free(parsed);
    ok(!options_parse(&two, 7, words, message, sizeof message) &&
           strstr(message, "but \"c\" and \"more\""),
       "an operand too much for two: %s", message);
}

static void test_nearest(void)
{
    static const char *const names[] = {"train", "generate", "evaluate", "devices"};
    const char *found = nearest_name("trian", names, 4);
    ok(found && strcmp(found, "train") == 0, "swapped letters");
    found = nearest_name("gen", names, 4);
    ok(found && strcmp(found, "generate") == 0, "a beginning");
    ok(!nearest_name("cook", names, 4), "nothing near");
}

int main(void)
{
    test_defaults();
    test_numbers();
    test_mistakes();
    test_strings();
    test_file();
    test_operands();
    test_one_each();
    test_nearest();
    return done_testing();
}

/* The program's frame: commands, their options, and what the command line made of them.
 *
 * One table of options a command is all that parsing, --help, the man page and completion know. */
#ifndef QUERN_CLI_H
#define QUERN_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __GNUC__
#define CLI_FORMAT(index, first) __attribute__((format(printf, index, first)))
#else
#define CLI_FORMAT(index, first)
#endif

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 }; /* exit statuses beside 0 */

struct options;

/* ---- What commands use ---- */

/* Values by name: the default where the user gave none.  A name that the command's table lacks, or
 * has as another kind, is a bug and asserted.  Strings live as long as the options. */
bool options_flag(const struct options *options, const char *name);
const char *options_command(const struct options *options);                  /* its name */
const char *options_string(const struct options *options, const char *name); /* NULL: none */
int64_t options_integer(const struct options *options, const char *name);    /* and sizes */
double options_real(const struct options *options, const char *name);
double options_seconds(const struct options *options, const char *name);

/* The strings of an option that takes several. */
size_t options_count(const struct options *options, const char *name);
const char *options_at(const struct options *options, const char *name, size_t index);

/* Whether the user gave it; numbers without a default are 0 if not. */
bool options_given(const struct options *options, const char *name);

/* DIR of `quern generate DIR`; NULL for commands that take none. */
const char *options_operand(const struct options *options);

/* All of them, for commands that take several. */
size_t options_operands(const struct options *options);
const char *options_operand_at(const struct options *options, size_t index);

/* The words that followed the command's name; they live as long as the command line. */
char *const *options_words(const struct options *options, int *count);

/* Say "quern generate: MESSAGE" on stderr, and how to get help in the first case; return the exit
 * status. */
int usage_error(const struct options *options, const char *format, ...) CLI_FORMAT(2, 3);
int failure(const struct options *options, const char *format, ...) CLI_FORMAT(2, 3);

/* Return the exit status. */
int command_check(const struct options *options);
int command_devices(const struct options *options);
int command_train(const struct options *options);
int command_generate(const struct options *options);
int command_evaluate(const struct options *options);
int command_diff(const struct options *options);
int command_translate(const struct options *options);
int command_predict(const struct options *options);
int command_average(const struct options *options);
int command_inspect(const struct options *options);
int command_score(const struct options *options);
int command_tokenize_train(const struct options *options);
int command_tokenize_encode(const struct options *options);
int command_tokenize_decode(const struct options *options);
int command_bench(const struct options *options);
int command_tune(const struct options *options);
int command_bench_compare(const struct options *options);

/* ---- The tables ---- */

enum option_kind {
    OPTION_HEADING,  /* no option: `help` is a title in --help and the man page */
    OPTION_FLAG,     /* --resume */
    OPTION_STRING,   /* --out DIR */
    OPTION_STRINGS,  /* --data FILE FILE, and repeated */
    OPTION_INTEGER,  /* --layers 4 */
    OPTION_SIZE,     /* --steps 100k: k, M and G are powers of 1000; Ki, Mi and Gi of 1024 */
    OPTION_REAL,     /* --lr 1e-3 */
    OPTION_DURATION, /* --time 90, 30s, 2m, 1h30m */
};

struct option {
    enum option_kind kind;
    char letter;             /* -o; 0: none */
    const char *name;        /* without dashes */
    const char *placeholder; /* "N".  Words in small letters, "auto|own", are all that is allowed;
                                "char|PATH" is open */
    const char *value;       /* the default as it would be typed; NULL: none */
    double least, most;      /* of numbers */
    bool below_most;         /* `most` itself is too much */
    bool above_least;        /* `least` itself is too little */
    bool one_each; /* OPTION_STRINGS: --reference A --reference B; what follows A is an operand */
    bool required;
    const char *unless; /* the option that, given, makes this one not required */
    const char *
        excludes; /* the option that must not be given beside this one; of a file's and the command line's the latter stays */
    const char *
        needs; /* the option that this one is a part of: refused without it; what a file says of it is then left out */
    const char *help;
};

struct command {
    const char *name;  /* "train gpt" */
    const char *alias; /* or NULL */
    const char *
        operand; /* "DIR"; "METRIC [FILE]": or one; "FILE...": several; "[GROUP]...": or none; NULL */
    const char *summary;     /* what it does, in a line */
    const char *description; /* for --help and the man page, in one paragraph */
    const struct option *options;
    size_t n_options;
    int (*run)(const struct options *options);
    const char *const *examples; /* pairs of a command line and what it does; NULL at the end */
    /* Pairs of a name that --recipe takes and "option = value" lines, which all else wins over; NULL at the end.  NULL: no --recipe. */
    const char *const *recipes;
};

extern const struct command commands[];
extern const size_t n_commands;

/* ---- Parsing ---- */

/* Reads the words that follow the command's name, and the file that --config names.  NULL on a
 * mistake, with a message. */
struct options *options_parse(const struct command *command, int count, char *const *words,
                              char *message, size_t message_bytes);
void options_free(struct options *options);

/* Whether a number is within an option's bounds; and these, as "1 to 100". */
enum { OPTION_RANGE = 80 };
bool option_allows(const struct option *option, double number);
const char *option_range(const struct option *option, char text[OPTION_RANGE]);

/* Whether a string is one of the words of "auto|clblast|own"; a placeholder with capitals allows anything. */
bool option_allows_word(const struct option *option, const char *text);

/* Whether a string names a file or a folder: the placeholder says it. */
bool option_takes_path(const struct option *option);

/* The one of `count` names that was probably meant; NULL if none is near. */
const char *nearest_name(const char *typed, const char *const *names, size_t count);

/* ---- Help, from the tables ---- */

void print_map(FILE *file);                                 /* all commands, on one screen */
void print_help(const struct command *command, FILE *file); /* --help */
void print_man_page(FILE *file);
void print_bash_completion(FILE *file);

#endif

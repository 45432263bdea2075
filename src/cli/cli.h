/* The program's frame: commands, their options, and what the command line made of them.
 *
 * One table of options per command is all that parsing, --help, the man page and the completion know. */
#ifndef QUERN_CLI_H
#define QUERN_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum option_kind {
    OPTION_FLAG,    /* --resume */
    OPTION_STRING,  /* --out DIR */
    OPTION_STRINGS, /* --data FILE..., and repeated */
    OPTION_INTEGER, /* --steps 2000; also 2e3 */
    OPTION_SIZE,    /* --steps 100k: K, M and G are powers of 1000, or 1024 with "i": 1Ki */
    OPTION_REAL,    /* --lr 1e-3 */
    OPTION_DURATION /* --time 90, 30s, 2m, 1h: seconds */
};

struct option {
    const char *name;          /* without dashes */
    char letter;               /* or 0 */
    enum option_kind kind;
    const char *value;         /* the default, as it would be typed; NULL: none */
    const char *placeholder;   /* "N" */
    const char *help;
    double least, most;        /* of numbers; both 0: any number that is not negative */
    const char *words;         /* "char|byte": all a string may be; NULL: any */
};

/* What the command line, or the file named by --config, says. */
struct options;

/* Values by name; a name that is not in the command's table is a bug, and asserted.  Strings live as long as the options. */
bool options_flag(const struct options *options, const char *name);
const char *options_string(const struct options *options, const char *name); /* NULL: not given, and no default */
size_t options_count(const struct options *options, const char *name);       /* how many strings were given */
const char *options_at(const struct options *options, const char *name, size_t index);
int64_t options_integer(const struct options *options, const char *name);    /* integers and sizes */
double options_real(const struct options *options, const char *name);
double options_seconds(const struct options *options, const char *name);     /* 0: not given, and no default */

/* Whether the user gave it, rather than the default. */
bool options_given(const struct options *options, const char *name);

/* What stands on the line without an option: DIR of `quern generate DIR`. */
size_t options_operands(const struct options *options);
const char *options_operand(const struct options *options, size_t index);

/* "quern: MESSAGE" on stderr; returns EXIT_USAGE, with the way to --help, or EXIT_FAILED. */
int usage_error(const struct options *options, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
int failure(const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* The commands: each returns the exit status. */
int command_devices(const struct options *options);
int command_train_gpt(const struct options *options);
int command_generate(const struct options *options);
int command_evaluate(const struct options *options);
int command_inspect(const struct options *options);

#endif

/* Help, the man page and the completion, all from the tables of commands. */
#include "config.h"

#include "cli/cli.h"

#include <ctype.h>
#include <string.h>

enum { SCREEN_WIDTH = 80, HELP_COLUMN = 31 };

struct variable {
    const char *name, *help;
};

static const struct variable environment[] = {
    {"QUERN_DEVICE", "the device, where --device is not given"},
    {"QUERN_CAPS",
     "what a device is to pretend, for tests: words such as class=gpu, fp16=0, "
     "subgroups=0, subgroup_size=8, max_work_group=64, local_memory=32768, fma=0, matrix=none or "
     "clblast=0, joined by commas; "
     "matrix=wmma, mfma, matrix_mad_8 or matrix_mad_16 tries instructions of GPUs that "
     "are not used by themselves"},
    {"QUERN_TUNING",
     "a file of `quern tune` for the device, which says which kernels multiply which matrices"},
    {"QUERN_CL_DIR", "a folder whose .cl files replace the built-in kernels of the same names"},
    {"QUERN_PCI", "where a GPU is on the PCI bus whose driver does not tell it, such as "
                  "0000:65:00.0: for the clock, temperature and power "
                  "that `quern bench` reads"},
    {"QUERN_DUMP_CL",
     "a folder that gets the source of each kernel that is used, ready for another compiler"},
    {"QUERN_CACHE_DIR",
     "where compiled kernels are kept (default: quern/ in XDG_CACHE_HOME, or in ~/.cache)"},
    {"OCL_ICD_VENDORS", "where the OpenCL loader looks for drivers (default: /etc/OpenCL/vendors)"},
};
enum { ENVIRONMENT = sizeof environment / sizeof *environment };

/* Prints `text` from column `indent` on, the cursor being at `column`, and ends the line. */
static void print_wrapped(FILE *file, const char *text, size_t column, size_t indent)
{
    if (column + 2 > indent && column > 0) {
        fputc('\n', file);
        column = 0;
    }
    fprintf(file, "%*s", (int)(indent - column), "");
    column = indent;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > indent && column + 1 + length > SCREEN_WIDTH) {
            fprintf(file, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', file);
            column++;
        }
        fprintf(file, "%.*s", (int)length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', file);
}

/* "--steps N" and the like. */
static size_t option_words(const struct option *option, char *words, size_t bytes)
{
    int length = snprintf(words, bytes, "--%s%s%s", option->name, option->placeholder ? " " : "",
                          option->placeholder ? option->placeholder : "");
    return length < 0 ? 0 : (size_t)length;
}

/* The help text, with the default or the need for a value. */
static void option_help(const struct option *option, char *help, size_t bytes)
{
    if (option->required && option->unless)
        snprintf(help, bytes, "%s (required without --%s)", option->help, option->unless);
    else if (option->required)
        snprintf(help, bytes, "%s (required)", option->help);
    else if (option->value)
        snprintf(help, bytes, "%s (default: %s)", option->help, option->value);
    else
        snprintf(help, bytes, "%s", option->help);
}

/* "quern train gpt --data FILE... --out DIR [options]" */
static void print_usage(const struct command *command, FILE *file)
{
    fprintf(file, "quern %s", command->name);
    if (command->operand)
        fprintf(file, " %s", command->operand);
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].required)
            fprintf(file, " --%s %s", command->options[i].name, command->options[i].placeholder);
    if (command->n_options)
        fputs(" [options]", file);
    fputc('\n', file);
}

/* Commands whose names begin alike, in one entry of the map. */
static const struct {
    const char *word, *summary;
} groups[] = {{"train", "train a model on text"}, {"tokenize", "learn and use a tokenizer"}};
enum { GROUPS = sizeof groups / sizeof *groups };

/* The second word of a command of a group; NULL: it is in no such group. */
static const char *word_in_group(const struct command *command, size_t group)
{
    size_t length = strlen(groups[group].word);
    bool is_in =
        strncmp(command->name, groups[group].word, length) == 0 && command->name[length] == ' ';
    return is_in ? command->name + length + 1 : NULL;
}

static void print_entry(FILE *file, const char *name, const char *operand, const char *summary)
{
    char words[64];
    int length = snprintf(words, sizeof words, "  quern %s%s%s", name, operand ? " " : "",
                          operand ? operand : "");
    fputs(words, file);
    print_wrapped(file, summary, (size_t)length, HELP_COLUMN);
}

/* The group's entry before the first of its commands; nothing before the others. */
static void print_group(FILE *file, size_t group, size_t index)
{
    if (index > 0 && word_in_group(&commands[index - 1], group))
        return;
    char summary[200];
    size_t used = (size_t)snprintf(summary, sizeof summary, "%s", groups[group].summary);
    const char *word;
    for (size_t i = index;
         i < n_commands && (word = word_in_group(&commands[i], group)) && used < sizeof summary;
         i++)
        used += (size_t)snprintf(summary + used, sizeof summary - used, "%s%s",
                                 i == index ? ": " : ", ", word);
    print_entry(file, groups[group].word, "...", summary);
}

void print_map(FILE *file)
{
    fputs("Quern trains and runs language models on any OpenCL device.\n\n", file);
    for (size_t i = 0; i < n_commands; i++) {
        size_t group = 0;
        while (group < GROUPS && !word_in_group(&commands[i], group))
            group++;
        if (group < GROUPS)
            print_group(file, group, i);
        else
            print_entry(file, commands[i].name, commands[i].operand, commands[i].summary);
    }
    fputs("\nStart with:\n"
          "  quern train gpt --data text.txt --out run --time 2m\n"
          "  quern generate run\n"
          "\n`quern COMMAND --help` has all options, with examples.\n",
          file);
}

void print_help(const struct command *command, FILE *file)
{
    fputs("Usage: ", file);
    print_usage(command, file);
    fputc('\n', file);
    print_wrapped(file, command->description, 0, 0);

    if (command->n_options && command->options[0].kind != OPTION_HEADING)
        fputs("\nOptions\n", file);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) {
            fprintf(file, "\n%s\n", option->help);
            continue;
        }
        char words[128], help[512];
        size_t length = option_words(option, words, sizeof words);
        option_help(option, help, sizeof help);
        if (option->letter)
            fprintf(file, "  -%c, %s", option->letter, words);
        else
            fprintf(file, "      %s", words);
        print_wrapped(file, help, length + strlen("  -x, "), HELP_COLUMN);
    }

    fputs("\nExamples\n", file);
    for (const char *const *example = command->examples; *example; example += 2)
        fprintf(file, "  %s\n      %s\n", example[0], example[1]);
    if (command->alias)
        fprintf(file, "\n`quern %s` is the same.\n", command->alias);
}

/* ---- The man page ---- */

/* Prints `text` as roff: backslashes, dashes and double quotes (which macros such as .B take for
 * theirs) escaped, no line that begins with a dot or quote, `code` in bold. */
static void print_roff(FILE *file, const char *text)
{
    bool is_code = false;
    if (*text == '.' || *text == '\'')
        fputs("\\&", file);
    for (; *text; text++) {
        if (*text == '`') {
            is_code = !is_code;
            fputs(is_code ? "\\fB" : "\\fR", file);
        } else if (*text == '\\') {
            fputs("\\e", file);
        } else if (*text == '-') {
            fputs("\\-", file);
        } else if (*text == '"') {
            fputs("\\(dq", file);
        } else {
            fputc(*text, file);
        }
    }
    fputc('\n', file);
}

static void print_man_option(const struct option *option, FILE *file)
{
    char words[512];
    fputs(".TP\n.B ", file);
    if (option->letter) {
        snprintf(words, sizeof words, "-%c, --%s", option->letter, option->name);
    } else {
        snprintf(words, sizeof words, "--%s", option->name);
    }
    if (option->placeholder) {
        size_t length = strlen(words);
        snprintf(words + length, sizeof words - length, " %s", option->placeholder);
    }
    print_roff(file, words);
    option_help(option, words, sizeof words);
    print_roff(file, words);
}

static void print_man_command(const struct command *command, FILE *file)
{
    fprintf(file, ".SS quern %s%s%s\n", command->name, command->operand ? " " : "",
            command->operand ? command->operand : "");
    print_roff(file, command->description);
    if (command->alias)
        fprintf(file, "Also called\n.BR %s .\n", command->alias);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct option *option = &command->options[i];
        if (option->kind == OPTION_HEADING)
            fprintf(file, ".PP\n%s:\n", option->help);
        else
            print_man_option(option, file);
    }
}

void print_man_page(FILE *file)
{
    fputs(".\\\" Made by `quern help --man`: edit src/cli instead, then run `make man`.\n"
          ".TH QUERN 1 \"\" \"Quern " PACKAGE_VERSION "\" \"User Commands\"\n"
          ".SH NAME\n"
          "quern \\- train and run language models on any OpenCL device\n"
          ".SH SYNOPSIS\n"
          ".nf\n",
          file);
    for (size_t i = 0; i < n_commands; i++) {
        fputs(".B ", file);
        print_usage(&commands[i], file);
    }
    fputs(
        ".fi\n"
        ".SH DESCRIPTION\n"
        "Quern trains language models, and generates text with them, on GPUs and CPUs of any\n"
        "vendor that has an OpenCL driver.  Results go to standard output, messages and progress\n"
        "to standard error.\n"
        ".PP\n"
        "Options are written\n"
        ".BR \\-\\-option\\ value \" or \" \\-\\-option=value ;\n"
        "an underscore in a name is a dash.  The last of several counts, but\n"
        ".B \\-\\-data\n"
        "adds up.\n"
        ".B \\-\\-\n"
        "ends the options.\n"
        ".SH COMMANDS\n",
        file);
    for (size_t i = 0; i < n_commands; i++)
        print_man_command(&commands[i], file);

    fputs(".SH ENVIRONMENT\n", file);
    for (size_t i = 0; i < ENVIRONMENT; i++) {
        fprintf(file, ".TP\n.B %s\n", environment[i].name);
        print_roff(file, environment[i].help);
    }
    fputs(".SH FILES\n"
          ".TP\n"
          ".I DIR/config.json\\fR, \\fIDIR/model.safetensors\\fR, \\fIDIR/tokenizer.json\n"
          "The best model of a run, with the names and keys of Hugging Face.\n"
          ".TP\n"
          ".I DIR/latest\\fR, \\fIDIR/best\n"
          "Whole checkpoints: the above, the optimizer's state and that of the training.\n"
          ".TP\n"
          ".I DIR/log.jsonl\n"
          "A JSON object for every step.\n"
          ".SH EXIT STATUS\n"
          "0 on success, 1 if something failed, 2 if the command line is wrong.  After a signal:\n"
          "130 after SIGINT (Ctrl\\-C), 143 after SIGTERM, 129 after SIGHUP.  The first lets\n"
          "training save a checkpoint, and \\fBquern tune\\fR write what it knows; all else it "
          "ends at\n"
          "once, and files are written whole or not at all.\n"
          ".SH EXAMPLES\n",
          file);
    for (size_t i = 0; i < n_commands; i++) {
        for (const char *const *example = commands[i].examples; *example; example += 2) {
            fputs(".TP\n.B ", file);
            print_roff(file, example[0]);
            print_roff(file, example[1]);
        }
    }
}

/* ---- Completion ---- */

/* The words of "char|byte|PATH" that are not in capitals. */
static void print_choices(const char *placeholder, FILE *file)
{
    while (*placeholder) {
        size_t length = strcspn(placeholder, "|");
        if (!isupper((unsigned char)*placeholder))
            fprintf(file, " %.*s", (int)length, placeholder);
        placeholder += length;
        placeholder += *placeholder == '|';
    }
}

/* Whether what follows the command is a file or a folder. */
static bool takes_path(const struct command *command)
{
    return command->operand &&
           (strstr(command->operand, "DIR") || strstr(command->operand, "FILE"));
}

static void print_completion_case(const struct command *command, const char *name, FILE *file)
{
    fprintf(file, "    \"%s\")\n        case $previous in\n", name);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct option *option = &command->options[i];
        if (option->kind == OPTION_HEADING || option->kind == OPTION_FLAG)
            continue;
        fprintf(file, "        --%s", option->name);
        if (option->letter)
            fprintf(file, " | -%c", option->letter);
        fputs(")\n            words=\"", file);
        print_choices(option->placeholder, file);
        fprintf(file, "\"\n            files=%s\n            value=yes\n            ;;\n",
                option_takes_path(option) ? "yes" : "");
    }
    fputs("        esac\n        options=\"", file);
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i].kind != OPTION_HEADING)
            fprintf(file, "--%s ", command->options[i].name);
    fprintf(file, "--help\"\n        operand=%s\n        ;;\n", takes_path(command) ? "yes" : "");
}

void print_bash_completion(FILE *file)
{
    fputs("# Completion of quern for bash.  Made by `quern help --completion bash`: edit src/cli "
          "instead.\n"
          "_quern()\n"
          "{\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local command=${COMP_WORDS[1]} words='' files='' value='' options='' operand=''\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          file);
    const char *last = "";
    for (size_t i = 0; i < n_commands; i++) {
        size_t length = strcspn(commands[i].name, " ");
        if (strncmp(last, commands[i].name, length) != 0)
            fprintf(file, "%.*s ", (int)length, commands[i].name);
        last = commands[i].name;
    }
    fputs("help --version\" -- \"$current\"))\n"
          "        return\n"
          "    fi\n",
          file);

    for (size_t i = 0; i < n_commands; i++) {
        const char *space = strchr(commands[i].name, ' ');
        if (!space)
            continue;
        int length = (int)(space - commands[i].name);
        fprintf(file,
                "    if [ \"$command $COMP_CWORD\" = \"%.*s 2\" ]; then\n"
                "        COMPREPLY+=($(compgen -W \"%s\" -- \"$current\"))\n"
                "    fi\n"
                "    [ \"$command ${COMP_WORDS[2]}\" = \"%s\" ] && command=\"%s\"\n",
                length, commands[i].name, space + 1, commands[i].name, commands[i].name);
    }
    fputs("    case $command in\n", file);
    for (size_t i = 0; i < n_commands; i++) {
        print_completion_case(&commands[i], commands[i].name, file);
        if (commands[i].alias)
            print_completion_case(&commands[i], commands[i].alias, file);
    }
    fputs("    esac\n"
          "    if [ -n \"$value\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" ${files:+-f} -- \"$current\"))\n"
          "    elif [ \"${current#-}\" != \"$current\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
          "    elif [ -n \"$operand\" ]; then\n"
          "        COMPREPLY=($(compgen -f -- \"$current\"))\n"
          "    fi\n"
          "}\n"
          "complete -o filenames -F _quern quern\n",
          file);
}

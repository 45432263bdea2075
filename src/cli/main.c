/* The program: finds the command, reads its options, runs it. */
#include "config.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many of the words are the command's name or alias; 0 if others are. */
static int match_command(const struct command *command, int count, char *const *words)
{
    if (count > 0 && command->alias && strcmp(words[0], command->alias) == 0)
        return 1;

    const char *name = command->name;
    for (int used = 0; used < count; used++) {
        size_t length = strcspn(name, " ");
        if (strlen(words[used]) != length || strncmp(words[used], name, length) != 0)
            return 0;
        name += length;
        if (*name == '\0')
            return used + 1;
        name++;
    }
    return 0;
}

/* "bench compare" rather than "bench". */
static const struct command *find_command(int count, char *const *words, int *used)
{
    const struct command *found = NULL;
    *used = 0;
    for (size_t i = 0; i < n_commands; i++) {
        int matching = match_command(&commands[i], count, words);
        if (matching > *used) {
            *used = matching;
            found = &commands[i];
        }
    }
    return found;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Says which word is wrong: the first, or the second of a command that has two, such as the model
 * of "train". */
static int unknown_command(int count, char *const *words)
{
    const char *first_words[32], *second_words[32];
    size_t n_first = 0, n_second = 0;
    char names[32][32];

    for (size_t i = 0; i < n_commands && i < 32; i++) {
        snprintf(names[i], sizeof names[i], "%s", commands[i].name);
        char *space = strchr(names[i], ' ');
        if (space) {
            *space = '\0';
            if (strcmp(names[i], words[0]) == 0)
                second_words[n_second++] = space + 1;
        }
        first_words[n_first++] = names[i];
    }

    if (n_second) {
        bool asks_help = count > 1 && is_help(words[1]);
        FILE *file = asks_help ? stdout : stderr;
        const char *noun = strcmp(words[0], "train") == 0 ? "model" : "command";
        if (count < 2 || words[1][0] == '-')
            fprintf(file, "quern %s: which %s?  There are:\n", words[0], noun);
        else
            fprintf(file, "quern %s: no %s \"%s\".  There are:\n", words[0], noun, words[1]);
        for (size_t i = 0; i < n_second; i++)
            fprintf(file, "  quern %s %s\n", words[0], second_words[i]);
        return asks_help ? EXIT_SUCCESS : EXIT_USAGE;
    }

    const char *nearest = nearest_name(words[0], first_words, n_first);
    if (words[0][0] == '-')
        fprintf(stderr, "quern: no option %s before a command; `quern` lists the commands\n",
                words[0]);
    else if (nearest)
        fprintf(stderr, "quern: no command \"%s\"; did you mean \"%s\"?\n", words[0], nearest);
    else
        fprintf(stderr, "quern: no command \"%s\"; `quern` lists them\n", words[0]);
    return EXIT_USAGE;
}

static int print_command_help(int count, char *const *words)
{
    int used;
    if (count == 0) {
        print_map(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(words[0], "--man") == 0) {
        print_man_page(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(words[0], "--completion") == 0) {
        if (count != 2 || strcmp(words[1], "bash") != 0) {
            fputs("quern: usage: quern help --completion bash\n", stderr);
            return EXIT_USAGE;
        }
        print_bash_completion(stdout);
        return EXIT_SUCCESS;
    }
    const struct command *command = find_command(count, words, &used);
    if (!command)
        return unknown_command(count, words);
    print_help(command, stdout);
    return EXIT_SUCCESS;
}

static int run_command(const struct command *command, int count, char *const *words)
{
    for (int i = 0; i < count && strcmp(words[i], "--") != 0; i++) {
        if (is_help(words[i])) {
            print_help(command, stdout);
            return EXIT_SUCCESS;
        }
    }

    char message[512];
    struct options *options = options_parse(command, count, words, message, sizeof message);
    if (!options) {
        fprintf(stderr, "quern %s: %s\nSee: quern %s --help\n", command->name, message,
                command->name);
        return EXIT_USAGE;
    }
    int status = command->run(options);
    options_free(options);
    return status;
}

static int run(int count, char *const *words)
{
    if (count == 0 || is_help(words[0])) {
        print_map(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(words[0], "--version") == 0) {
        puts("quern " PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    if (strcmp(words[0], "help") == 0)
        return print_command_help(count - 1, words + 1);

    int used;
    const struct command *command = find_command(count, words, &used);
    if (!command)
        return unknown_command(count, words);
    return run_command(command, count - used, words + used);
}

/* A stream that was closed gives its number to the next file that is opened: what is printed would
 * land in a log.  What stands in for it is opened the wrong way round, so that writing still fails.
 */
static bool hold_closed_streams(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
        if (fcntl(stream, F_GETFD) < 0 && open("/dev/null", modes[stream]) != stream)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!hold_closed_streams())
        return EXIT_FAILED;
    int status = run(argc - 1, argv + 1);

    /* What was printed is lost if a disk is full: the exit status must say so. */
    bool is_lost = ferror(stdout) != 0;
    if (fclose(stdout) != 0)
        is_lost = true;
    if (is_lost && status == EXIT_SUCCESS) {
        fprintf(stderr, "quern: cannot write to stdout: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    return status;
}

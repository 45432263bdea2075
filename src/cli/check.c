/* quern check: the tests of operations, for any device. */
#include "check/check.h"

#include <stdlib.h>

#include "cli/cli.h"
#include "cli/run.h"

/* The types to test: bit i is enum qn_type i; 0: all. */
static int read_types(const struct options *options, unsigned *types)
{
    const char *name = options_string(options, "dtype");
    enum qn_type type;
    *types = 0;
    if (!name)
        return EXIT_SUCCESS;
    if (!type_named(name, &type))
        return usage_error(options, "--dtype: there is no \"%s\"; there are f32, f16, bf16", name);
    *types = 1u << type;
    return EXIT_SUCCESS;
}

int command_check(const struct options *options)
{
    size_t count = options_count(options, "op");
    const char **names = calloc(count + 1, sizeof *names);
    int status = names ? EXIT_SUCCESS : failure(options, "out of memory");
    for (size_t i = 0; status == EXIT_SUCCESS && i < count; i++) {
        names[i] = options_at(options, "op", i);
        if (!check_knows(names[i]))
            status = usage_error(options, "--op: there is no \"%s\"; --list prints what there is",
                                 names[i]);
    }
    unsigned types = 0;
    if (status == EXIT_SUCCESS)
        status = read_types(options, &types);
    struct check_options check = {.device = options_string(options, "device"),
                                  .names = names,
                                  .n_names = count,
                                  .variant = options_string(options, "variant"),
                                  .types = types,
                                  .seed = (uint64_t)options_integer(options, "seed"),
                                  .gradients_only = options_flag(options, "grad")};
    if (status == EXIT_SUCCESS && options_flag(options, "list"))
        check_list(stdout);
    else if (status == EXIT_SUCCESS)
        status = check_operations(&check);
    free(names);
    return status;
}

/* quern check: the tests of operations, for any device. */
#include "check/check.h"

#include <stdlib.h>

#include "cli/cli.h"
#include "cli/train/run.h"

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
    const char *wanted = options_string(options, "dtype");
    enum qn_type type = QN_F32;
    if (wanted)
        type_named(wanted, &type);
    struct check_options check = {.device = options_string(options, "device"),
                                  .gemm = options_string(options, "gemm"),
                                  .names = names,
                                  .n_names = count,
                                  .variant = options_string(options, "variant"),
                                  .seed = (uint64_t)options_integer(options, "seed"),
                                  .types = wanted ? 1u << type : ~0u,
                                  .gradients_only = options_flag(options, "grad"),
                                  .chosen_only = options_flag(options, "chosen"),
                                  .as_is = options_flag(options, "as-is")};
    if (status == EXIT_SUCCESS && options_flag(options, "list"))
        check_list(&check, stdout);
    else if (status == EXIT_SUCCESS)
        status = check_operations(&check);
    free(names);
    return status;
}

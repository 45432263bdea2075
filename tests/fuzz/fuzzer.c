/* libFuzzer's entry: QUERN_FUZZ names the target.  See CONTRIBUTING.md. */
#include "targets.h"

#include <stdio.h>
#include <stdlib.h>

static const struct fuzz_target *target;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    const char *name = getenv("QUERN_FUZZ");
    target = name ? fuzz_target_named(name) : NULL;
    if (!target) {
        fputs("QUERN_FUZZ must be one of:", stderr);
        for (size_t i = 0; i < fuzz_target_count; i++)
            fprintf(stderr, " %s", fuzz_targets[i].name);
        fputc('\n', stderr);
        exit(2);
    }
    fuzz_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    target->read(data, bytes);
    return 0;
}

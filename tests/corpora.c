/* The corpora of the fuzzers, among them all that fuzzing has found, through the same functions: each file must be read or refused
 * without harm, which the sanitizers see best. */
#include "fuzz/targets.h"

#include "tap.h"
#include "files.h"

enum { MOST_BYTES = 1 << 20 };

static size_t read_corpus(const struct fuzz_target *target, const char *folder, size_t *accepted)
{
    static uint8_t data[MOST_BYTES];
    size_t count = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char path[1500];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file)
            continue;
        size_t bytes = fread(data, 1, sizeof data, file);
        fclose(file);
        *accepted += target->read(data, bytes);
        count++;
    }
    if (entries)
        closedir(entries);
    return count;
}

int main(void)
{
    const char *sources = getenv("SRCDIR");
    fuzz_begin();
    for (size_t i = 0; i < fuzz_target_count; i++) {
        char folder[1000];
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", sources ? sources : ".",
                 fuzz_targets[i].name);
        size_t accepted = 0, count = read_corpus(&fuzz_targets[i], folder, &accepted);
        ok(accepted > 0 && accepted < count, "%s: %zu files, %zu of them accepted",
           fuzz_targets[i].name, count, accepted);
    }
    return done_testing();
}

/* The files that a run reads, and whether they are still the same. */
#include "cli/train/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001B3u;
    return hash;
}

/* Absolute, so that a run can go on from another folder. */
static char *absolute_path(const char *path)
{
    char *absolute = realpath(path, NULL);
    return absolute ? absolute : strdup(path);
}

int source_note(struct source *source, const char *path, size_t bytes, uint64_t hash,
                const struct options *options)
{
    *source = (struct source){absolute_path(path), bytes, hash};
    json_t *name = source->path ? json_string(source->path) : NULL;
    bool is_utf8 = name != NULL;
    json_decref(name);
    return is_utf8 ? EXIT_SUCCESS
                   : failure(options, "%s: the names of data files must be UTF-8", path);
}

int source_read(struct source *source, const char *path, const char *cure,
                const struct options *options)
{
    enum { BLOCK = 1 << 16 };
    char *block = malloc(BLOCK);
    FILE *file = block ? fopen(path, "rbe") : NULL;
    uint64_t hash = HASH_START;
    size_t bytes = 0, count;
    while (file && (count = fread(block, 1, BLOCK, file)) > 0) {
        hash = hash_bytes(hash, block, count);
        bytes += count;
    }
    bool is_read = file && !ferror(file);
    int cause = errno;
    if (file)
        fclose(file);
    free(block);
    return is_read ? source_note(source, path, bytes, hash, options)
                   : failure(options, "cannot read %s: %s%s", path, strerror(cause), cure);
}

const char **source_paths(const struct run *run, const struct options *options, size_t *count)
{
    bool is_given = options_given(options, "data");
    *count = is_given ? options_count(options, "data") : run->n_data;
    const char **paths = calloc(*count + 1, sizeof *paths);
    for (size_t i = 0; paths && i < *count; i++)
        paths[i] = is_given ? options_at(options, "data", i) : run->data[i].path;
    return paths;
}

int sources_check(const struct source *now, size_t count, const struct source *then,
                  size_t count_then, const char *option, const struct options *options)
{
    if (count != count_then)
        return failure(options, "--%s: the run was trained on %zu files, not on %zu", option,
                       count_then, count);
    for (size_t i = 0; i < count; i++) {
        if (now[i].bytes == then[i].bytes && now[i].hash == then[i].hash)
            continue;
        bool is_moved = strcmp(now[i].path, then[i].path) != 0;
        return failure(options,
                       "%s is not what the run was trained on%s%s: was %zu bytes, is %zu bytes%s; "
                       "restore it, or start a new run",
                       now[i].path, is_moved ? ", " : "", is_moved ? then[i].path : "",
                       then[i].bytes, now[i].bytes,
                       now[i].bytes == then[i].bytes ? " of other contents" : "");
    }
    return EXIT_SUCCESS;
}

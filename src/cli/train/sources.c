/* The files that a run reads, and whether they are still the same. */
#include "cli/train/sources.h"

#include <stdlib.h>
#include <string.h>

/* Absolute, so that a run can go on from another folder. */
static char *absolute_path(const char *path)
{
    char *absolute = realpath(path, NULL);
    return absolute ? absolute : strdup(path);
}

int sources_make(struct sources *sources, size_t count, const struct options *options)
{
    *sources = (struct sources){.at = calloc(count + 1, sizeof *sources->at)};
    return sources->at ? EXIT_SUCCESS : failure(options, "out of memory");
}

void sources_release(struct sources *sources)
{
    for (size_t i = 0; i < sources->count; i++)
        free(sources->at[i].path);
    free(sources->at);
    *sources = (struct sources){0};
}

void sources_keep(struct sources *of_run, struct sources *read)
{
    if (of_run->count == 0) {
        free(of_run->at);
        *of_run = *read;
        *read = (struct sources){0};
    }
}

int sources_note(struct sources *sources, const char *path, size_t bytes, uint64_t hash,
                 const struct options *options)
{
    struct source *source = &sources->at[sources->count++];
    *source = (struct source){absolute_path(path), bytes, hash};
    json_t *name = source->path ? json_string(source->path) : NULL;
    bool is_utf8 = name != NULL;
    json_decref(name);
    return is_utf8 ? EXIT_SUCCESS
                   : failure(options, "%s: the names of data files must be UTF-8", path);
}

const char **source_paths(const struct run *run, const struct options *options, size_t *count)
{
    bool is_given = options_given(options, "data");
    *count = is_given ? options_count(options, "data") : run->data.count;
    const char **paths = calloc(*count + 1, sizeof *paths);
    for (size_t i = 0; paths && i < *count; i++)
        paths[i] = is_given ? options_at(options, "data", i) : run->data.at[i].path;
    return paths;
}

int sources_check(const struct sources *now, const struct sources *then, const char *option,
                  const struct options *options)
{
    if (then->count == 0)
        return EXIT_SUCCESS;
    if (now->count != then->count)
        return failure(options, "--%s: the run was trained on %zu files, not on %zu", option,
                       then->count, now->count);
    for (size_t i = 0; i < now->count; i++) {
        const struct source *is = &now->at[i], *was = &then->at[i];
        if (is->bytes == was->bytes && is->hash == was->hash)
            continue;
        bool is_moved = strcmp(is->path, was->path) != 0;
        return failure(options,
                       "%s is not what the run was trained on%s%s: was %zu bytes, is %zu bytes%s; "
                       "restore it, or start a new run",
                       is->path, is_moved ? ", " : "", is_moved ? was->path : "", was->bytes,
                       is->bytes, is->bytes == was->bytes ? " of other contents" : "");
    }
    return EXIT_SUCCESS;
}

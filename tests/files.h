/* Files for tests: a folder that goes away at the end, and data that may be absent.  Include after
 * tap.h. */
#ifndef TEST_FILES_H
#define TEST_FILES_H

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char test_folder[200]; /* made by make_test_folder() */

TAP_UNUSED static void remove_all(const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return;
    DIR *entries = S_ISDIR(status.st_mode) ? opendir(path) : NULL;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char inner[1000];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        remove_all(inner);
    }
    if (entries)
        closedir(entries);
    remove(path);
}

TAP_UNUSED static void remove_test_folder(void)
{
    remove_all(test_folder);
}

TAP_UNUSED static void make_test_folder(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(test_folder, sizeof test_folder, "%s/quern-test-XXXXXX",
             parent && strlen(parent) < 150 ? parent : "/tmp");
    if (!mkdtemp(test_folder))
        bail_out("cannot make %s", test_folder);
}

/* A path in the folder; one of several buffers, good for a few calls. */
TAP_UNUSED static const char *in_folder(const char *name)
{
    static char paths[8][400];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
    return path;
}

/* Writes a file of the folder; returns its path. */
TAP_UNUSED static const char *write_file(const char *name, const void *bytes, size_t count)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, count, file) != count || fclose(file) != 0)
        bail_out("cannot write %s", path);
    return path;
}

TAP_UNUSED static const char *write_text(const char *name, const char *text)
{
    return write_file(name, text, strlen(text));
}

/* A file or folder of the data beside the sources (QUERN_SHARED, else ../shared); NULL if it is not
 * there. */
TAP_UNUSED static const char *shared_path(const char *name)
{
    static char paths[4][1000];
    static int next;
    char *path = paths[next++ % 4];
    const char *shared = getenv("QUERN_SHARED"), *sources = getenv("SRCDIR");
    if (shared)
        snprintf(path, sizeof paths[0], "%s/%s", shared, name);
    else
        snprintf(path, sizeof paths[0], "%s/../shared/%s", sources ? sources : ".", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

#endif

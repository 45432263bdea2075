/* The cache folder: $QUERN_CACHE_DIR, else $XDG_CACHE_HOME/quern, else ~/.cache/quern. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "device/cache.h"
#include "device/context.h"

/* ---- Digests ---- */

static const uint64_t multiplier[2] = {0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F};

static uint64_t mix(uint64_t state, uint64_t word, uint64_t factor)
{
    state = (state ^ word) * factor;
    return state ^ state >> 29;
}

struct digest digest_start(void)
{
    return (struct digest){{0x243F6A8885A308D3, 0x13198A2E03707344}};
}

struct digest digest_bytes(struct digest digest, const void *bytes, size_t count)
{
    const char *p = bytes;
    for (size_t left = count; left > 0;) {
        uint64_t word = 0;
        size_t part = size_min(left, sizeof word);
        memcpy(&word, p, part);
        for (int i = 0; i < 2; i++)
            digest.word[i] = mix(digest.word[i], word, multiplier[i]);
        p += part;
        left -= part;
    }
    for (int i = 0; i < 2; i++) /* twice, so that the last word reaches all bits */
        digest.word[i] =
            mix(mix(digest.word[i], count, multiplier[i]), digest.word[1 - i], multiplier[i]);
    return digest;
}

struct digest digest_text(struct digest digest, const char *text)
{
    return digest_bytes(digest, text, strlen(text) + 1);
}

bool digest_equal(struct digest a, struct digest b)
{
    return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}

const char *digest_hex(char text[DIGEST_TEXT], struct digest digest)
{
    snprintf(text, DIGEST_TEXT, "%016" PRIx64 "%016" PRIx64, digest.word[0], digest.word[1]);
    return text;
}

/* ---- The folder ---- */

static const char *const kind_names[CACHE_KINDS] = {
    [CACHE_PROGRAM] = "program", [CACHE_INSTANCE] = "instance", [CACHE_DEVICE] = "device"};

#define TEMPORARY_PREFIX ".quern-new-"
#define TEMPORARY_PATTERN TEMPORARY_PREFIX "XXXXXX"

static const off_t most_bytes = (off_t)256 << 20;
enum { STALE_SECONDS = 3600 }; /* a temporary file older than this has lost its writer */

static bool cache_folder(char *path, size_t size)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"QUERN_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "/quern"}, {"HOME", "/.cache/quern"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *folder = getenv(places[i].variable);
        if (folder && *folder) {
            int length = snprintf(path, size, "%s%s", folder, places[i].below);
            return length > 0 && (size_t)length < size;
        }
    }
    return false;
}

static bool make_folder(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(path, 0777);
        *p = '/';
    }
    return mkdir(path, 0777) == 0 || errno == EEXIST;
}

static bool file_path(char *path, size_t size, enum cache_kind kind, struct digest name)
{
    char folder[PATH_MAX], hash[DIGEST_TEXT];
    if (!cache_folder(folder, sizeof folder))
        return false;
    int length = snprintf(path, size, "%s/%s-%s", folder, kind_names[kind], digest_hex(hash, name));
    return length > 0 && (size_t)length < size;
}

static bool is_temporary(const char *name)
{
    return strncmp(name, TEMPORARY_PREFIX, strlen(TEMPORARY_PREFIX)) == 0 &&
           strlen(name) == strlen(TEMPORARY_PATTERN);
}

/* Whether a file of the folder is one of ours: nothing else is ever removed. */
static bool is_ours(const char *name)
{
    if (is_temporary(name))
        return true;
    for (int kind = 0; kind < CACHE_KINDS; kind++) {
        size_t length = strlen(kind_names[kind]);
        if (strncmp(name, kind_names[kind], length) == 0 && name[length] == '-' &&
            strspn(name + length + 1, "0123456789abcdef") == 32 && name[length + 33] == '\0')
            return true;
    }
    return false;
}

/* ---- Files ---- */

struct header {
    char magic[8];
    struct digest name, checksum;
    uint64_t bytes;
};

static const char magic[8] = "QUERNC1";

void *cache_read(enum cache_kind kind, struct digest name, size_t *bytes)
{
    char path[PATH_MAX];
    FILE *file = file_path(path, sizeof path, kind, name) ? fopen(path, "rbe") : NULL;
    if (!file)
        return NULL;
    char *data = NULL;
    struct header header;
    struct stat status;
    if (fread(&header, sizeof header, 1, file) != 1 ||
        memcmp(header.magic, magic, sizeof magic) != 0 || !digest_equal(header.name, name) ||
        fstat(fileno(file), &status) != 0 ||
        (uint64_t)status.st_size != sizeof header + header.bytes)
        goto done;
    data = malloc((size_t)header.bytes + 1);
    if (!data)
        goto done;
    if (fread(data, 1, (size_t)header.bytes, file) != header.bytes ||
        !digest_equal(digest_bytes(digest_start(), data, (size_t)header.bytes), header.checksum)) {
        free(data);
        data = NULL;
        goto done;
    }
    data[header.bytes] = '\0';
    *bytes = (size_t)header.bytes;
    futimens(fileno(file), NULL); /* in use: not among the oldest */
done:
    fclose(file);
    return data;
}

struct entry {
    char name[64];
    off_t bytes;
    struct timespec used;
};

static int by_age(const void *a, const void *b)
{
    const struct entry *first = a, *second = b;
    if (first->used.tv_sec != second->used.tv_sec)
        return first->used.tv_sec < second->used.tv_sec ? -1 : 1;
    return (first->used.tv_nsec > second->used.tv_nsec) -
           (first->used.tv_nsec < second->used.tv_nsec);
}

/* Our files in the folder; NULL and 0 if there are none.  The caller frees them. */
static struct entry *list_files(const char *folder, size_t *count)
{
    struct entry *entries = NULL;
    size_t capacity = 0;
    *count = 0;
    DIR *directory = opendir(folder);
    if (!directory)
        return NULL;
    for (struct dirent *file; (file = readdir(directory)) != NULL;) {
        struct stat status;
        if (!is_ours(file->d_name) || strlen(file->d_name) >= sizeof entries->name ||
            fstatat(dirfd(directory), file->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(status.st_mode))
            continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            struct entry *more = realloc(entries, capacity * sizeof *entries);
            if (!more)
                break;
            entries = more;
        }
        struct entry *entry = &entries[(*count)++];
        strcpy(entry->name, file->d_name);
        entry->bytes = status.st_size;
        entry->used = status.st_mtim;
    }
    closedir(directory);
    return entries;
}

static bool remove_file(const char *folder, const char *name)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && unlink(path) == 0;
}

/* Removes the files that were not used for longest until the rest is small enough, and what killed
 * writers left. */
static void trim(const char *folder)
{
    size_t count;
    struct entry *entries = list_files(folder, &count);
    off_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += entries[i].bytes;
    if (count)
        qsort(entries, count, sizeof *entries, by_age);
    time_t now = time(NULL);
    for (size_t i = 0; i < count; i++) {
        bool is_new = is_temporary(entries[i].name);
        bool is_stale = is_new && now - entries[i].used.tv_sec > STALE_SECONDS;
        if (is_stale || (!is_new && total > most_bytes)) {
            remove_file(folder, entries[i].name);
            total -= entries[i].bytes;
        }
    }
    free(entries);
}

void cache_write(enum cache_kind kind, struct digest name, const void *data, size_t bytes)
{
    char folder[PATH_MAX], path[PATH_MAX], temporary[PATH_MAX];
    if (bytes > (size_t)most_bytes || !cache_folder(folder, sizeof folder) ||
        !file_path(path, sizeof path, kind, name) || !make_folder(folder))
        return;
    int length = snprintf(temporary, sizeof temporary, "%s/" TEMPORARY_PATTERN, folder);
    int descriptor =
        length > 0 && (size_t)length < sizeof temporary ? mkostemp(temporary, O_CLOEXEC) : -1;
    if (descriptor < 0)
        return;
    struct header header = {
        .name = name, .checksum = digest_bytes(digest_start(), data, bytes), .bytes = bytes};
    memcpy(header.magic, magic, sizeof magic);
    FILE *file = fdopen(descriptor, "wb");
    if (!file)
        close(descriptor);
    bool written = file && fwrite(&header, sizeof header, 1, file) == 1 &&
                   fwrite(data, 1, bytes, file) == bytes;
    if (file && fclose(file) != 0)
        written = false;
    if (!written || rename(temporary, path) != 0)
        unlink(temporary);
    if (kind == CACHE_PROGRAM)
        trim(folder);
}

int qn_cache_clear(size_t *files, size_t *bytes)
{
    size_t removed = 0, removed_bytes = 0;
    int status = QN_OK;
    char folder[PATH_MAX];
    if (cache_folder(folder, sizeof folder)) {
        size_t count;
        struct entry *entries = list_files(folder, &count);
        for (size_t i = 0; i < count; i++) {
            if (remove_file(folder, entries[i].name)) {
                removed++;
                removed_bytes += (size_t)entries[i].bytes;
            } else if (errno != ENOENT) {
                status = fail_without_context(QN_ERROR_FILE, "%s/%s: %s", folder, entries[i].name,
                                              strerror(errno));
            }
        }
        free(entries);
    }
    if (files)
        *files = removed;
    if (bytes)
        *bytes = removed_bytes;
    return status;
}

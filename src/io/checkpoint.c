/* The folder of a run: checkpoints that appear whole, and the links to them.
 *
 * The order of a commit is what a kill at any moment depends on: sync the new folder, rename it,
 * replace `latest`, replace `best`, and only then remove what neither names. */
#define _GNU_SOURCE /* renameat2, flock */

#include <quern/io.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

const char *const model_files[MODEL_FILES] = {"model.safetensors", "config.json", "tokenizer.json",
                                              "tokenizer_config.json", QN_TARGET_TOKENIZER};
enum { STEP_NAME = 40 };

static const uint64_t NO_STEP = UINT64_MAX;

struct qn_checkpoints {
    qn_context *context;
    char *folder;
    int descriptor;  /* of the folder: paths below are relative to it, and it carries the lock */
    uint64_t latest; /* NO_STEP: there is none */
    uint64_t best;
    uint64_t begun; /* being written */
    size_t kept;    /* of the last ones */
    char *path;     /* last one given to the caller */
};

/* ---- Names ---- */

static const char *step_name(char name[STEP_NAME], uint64_t step, const char *suffix)
{
    snprintf(name, STEP_NAME, "step-%" PRIu64 "%s", step, suffix);
    return name;
}

/* The N of "step-N" and, behind it, `suffix`; NO_STEP if the name is not that. */
static uint64_t step_of_name(const char *name, const char *suffix)
{
    char again[STEP_NAME];
    if (strncmp(name, "step-", 5) != 0)
        return NO_STEP;
    uint64_t step = strtoull(name + 5, NULL, 10);
    return strcmp(step_name(again, step, suffix), name) == 0 ? step : NO_STEP;
}

static bool is_folder(int parent, const char *name)
{
    struct stat status;
    return fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

/* The step that a link names, if it is there. */
static uint64_t step_of_link(int parent, const char *link)
{
    char target[STEP_NAME];
    ssize_t length = readlinkat(parent, link, target, sizeof target - 1);
    if (length < 0)
        return NO_STEP;
    target[length] = '\0';
    uint64_t step = step_of_name(target, "");
    return step != NO_STEP && is_folder(parent, target) ? step : NO_STEP;
}

static int file_error(const qn_checkpoints *checkpoints, const char *what, const char *name)
{
    return context_fail(checkpoints->context, QN_ERROR_FILE, "cannot %s %s/%s: %s", what,
                        checkpoints->folder, name, strerror(errno));
}

/* ---- Entries of the folder ---- */

/* Removes a folder and the files in it.  What cannot be removed stays: it does no harm, and the
 * next save tries again. */
static void remove_step(int parent, const char *name)
{
    int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!entries) {
        if (descriptor >= 0)
            close(descriptor);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));)
        unlinkat(descriptor, entry->d_name, 0); /* fails for "." and "..", as it should */
    closedir(entries);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* Whether a checkpoint has a file of this name, or a save that was killed left it:
 * "NAME.1234-0.tmp". */
static bool is_checkpoint_file(const char *name)
{
    static const char *const states[] = {"optimizer.safetensors", "training.json"};
    for (size_t i = 0; i < MODEL_FILES + 2; i++) {
        const char *known = i < MODEL_FILES ? model_files[i] : states[i - MODEL_FILES];
        size_t length = strlen(known);
        if (strncmp(name, known, length) == 0 && (name[length] == '\0' || name[length] == '.'))
            return true;
    }
    return false;
}

/* How many files of a checkpoint a folder holds; negative if it holds anything else: then it is
 * somebody's, whatever its name. */
static int count_files(int parent, const char *name)
{
    int count = 0,
        descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!entries) {
        if (descriptor >= 0)
            close(descriptor);
        return -1;
    }
    for (struct dirent *entry; count >= 0 && (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count = is_checkpoint_file(entry->d_name) ? count + 1 : -1;
    }
    closedir(entries);
    return count;
}

/* Calls `visit` with the name of each entry; false if the folder cannot be read. */
typedef void visitor(qn_checkpoints *checkpoints, const char *name);
static bool visit_entries(qn_checkpoints *checkpoints, visitor *visit)
{
    int descriptor = openat(checkpoints->descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!entries) {
        file_error(checkpoints, "read", ".");
        if (descriptor >= 0)
            close(descriptor);
        return false;
    }
    for (struct dirent *entry; (entry = readdir(entries));)
        visit(checkpoints, entry->d_name);
    closedir(entries);
    return true;
}

/* A whole folder that a kill left without link. */
static void adopt_newest(qn_checkpoints *checkpoints, const char *name)
{
    uint64_t step = step_of_name(name, "");
    if (step != NO_STEP && count_files(checkpoints->descriptor, name) > 0 &&
        (checkpoints->latest == NO_STEP || step > checkpoints->latest))
        checkpoints->latest = step;
}

/* Puts back what replace_step() had moved away when it was killed. */
static void restore_moved(qn_checkpoints *checkpoints, const char *name)
{
    char whole[STEP_NAME];
    uint64_t step = step_of_name(name, ".old");
    if (step != NO_STEP && count_files(checkpoints->descriptor, name) > 0 &&
        !is_folder(checkpoints->descriptor, step_name(whole, step, "")))
        renameat(checkpoints->descriptor, name, checkpoints->descriptor, whole);
}

/* Removes folders that are not whole or not linked yet, and links that are not in place. */
static void remove_leftover(qn_checkpoints *checkpoints, const char *name)
{
    uint64_t step = step_of_name(name, ""), unfinished = step_of_name(name, ".tmp");
    bool is_newer = step != NO_STEP && step > checkpoints->latest && step != checkpoints->best;
    bool is_left = is_newer || (unfinished != NO_STEP && unfinished != checkpoints->begun) ||
                   step_of_name(name, ".old") != NO_STEP;
    if (is_left && count_files(checkpoints->descriptor, name) >= 0)
        remove_step(checkpoints->descriptor, name);
    if (strcmp(name, "link.tmp") == 0)
        unlinkat(checkpoints->descriptor, name, 0);
}

static int later_first(const void *a_, const void *b_)
{
    const uint64_t *a = a_, *b = b_;
    return (*a < *b) - (*a > *b);
}

int qn_checkpoint_steps(qn_context *context, const char *folder, uint64_t **steps, size_t *count)
{
    size_t capacity = 0;
    uint64_t *grown = NULL;
    *steps = NULL;
    *count = 0;
    DIR *entries = opendir(folder);
    if (!entries)
        return context_fail(context, QN_ERROR_FILE, "cannot read %s: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(entries));) {
        uint64_t step = step_of_name(entry->d_name, "");
        if (step == NO_STEP || count_files(dirfd(entries), entry->d_name) <= 0)
            continue;
        grown = context_grow(context, *steps, *count, &capacity, sizeof *grown);
        if (!grown)
            break;
        *steps = grown;
        grown[(*count)++] = step;
    }
    closedir(entries);
    if (*count > 0 && !grown)
        return QN_ERROR_MEMORY;
    if (*count > 0)
        qsort(*steps, *count, sizeof **steps, later_first);
    return QN_OK;
}

/* Removes checkpoints that nothing names, but for the last ones. */
static int remove_old(const qn_checkpoints *checkpoints)
{
    uint64_t *steps;
    size_t count;
    int status = qn_checkpoint_steps(checkpoints->context, checkpoints->folder, &steps, &count);
    for (size_t i = checkpoints->kept; status == QN_OK && i < count; i++) {
        char name[STEP_NAME];
        if (steps[i] != checkpoints->latest && steps[i] != checkpoints->best)
            remove_step(checkpoints->descriptor, step_name(name, steps[i], ""));
    }
    free(steps);
    return status;
}

/* Makes `link` name `target`, in one step: there is always an old or a new one. */
static int replace_link(const qn_checkpoints *checkpoints, const char *link, const char *target)
{
    struct stat status;
    if (fstatat(checkpoints->descriptor, link, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISLNK(status.st_mode))
        return context_fail(checkpoints->context, QN_ERROR_FILE,
                            "%s/%s is in the way: Quern keeps a link there", checkpoints->folder,
                            link);
    unlinkat(checkpoints->descriptor, "link.tmp", 0);
    if (symlinkat(target, checkpoints->descriptor, "link.tmp") != 0 ||
        renameat(checkpoints->descriptor, "link.tmp", checkpoints->descriptor, link) != 0)
        return file_error(checkpoints, "make the link", link);
    return QN_OK;
}

static int sync_entries(const qn_checkpoints *checkpoints)
{
    return folder_sync(checkpoints->context, checkpoints->folder);
}

/* Makes `best`, and with the first one the links through it to the files that it has. */
static int link_best(qn_checkpoints *checkpoints, uint64_t step)
{
    char name[STEP_NAME], target[STEP_NAME];
    int status = replace_link(checkpoints, "best", step_name(name, step, ""));
    for (int i = 0; i < MODEL_FILES && status == QN_OK; i++) {
        snprintf(target, sizeof target, "best/%s", model_files[i]);
        if (faccessat(checkpoints->descriptor, target, F_OK, 0) != 0)
            continue;
        char present[STEP_NAME] = "";
        ssize_t length =
            readlinkat(checkpoints->descriptor, model_files[i], present, sizeof present - 1);
        if (length < 0 || strcmp(present, target) != 0)
            status = replace_link(checkpoints, model_files[i], target);
    }
    if (status == QN_OK)
        status = sync_entries(checkpoints);
    if (status == QN_OK)
        checkpoints->best = step;
    return status;
}

static int link_latest(qn_checkpoints *checkpoints, uint64_t step)
{
    char name[STEP_NAME];
    int status = replace_link(checkpoints, "latest", step_name(name, step, ""));
    if (status == QN_OK)
        status = sync_entries(checkpoints);
    if (status == QN_OK)
        checkpoints->latest = step;
    return status;
}

/* ---- Opening ---- */

static int make_folders(qn_context *context, const char *folder)
{
    char *path = text_format(context, "%s", folder);
    if (!path)
        return QN_ERROR_MEMORY;
    int failed = 0;
    for (char *slash = path + 1; *path && (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        failed = mkdir(path, 0777) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed)
            break;
    }
    if (!failed)
        failed = mkdir(path, 0777) != 0 && errno != EEXIST;
    free(path);
    return failed ? context_fail(context, QN_ERROR_FILE, "cannot make the folder %s: %s", folder,
                                 strerror(errno))
                  : QN_OK;
}

/* Files of others, that the links would replace. */
static int check_names(const qn_checkpoints *checkpoints)
{
    static const char *const links[] = {"latest", "best", "link.tmp"};
    for (size_t i = 0; i < MODEL_FILES + sizeof links / sizeof *links; i++) {
        const char *name = i < MODEL_FILES ? model_files[i] : links[i - MODEL_FILES];
        struct stat status;
        if (fstatat(checkpoints->descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            !S_ISLNK(status.st_mode))
            return context_fail(checkpoints->context, QN_ERROR_FILE,
                                "%s holds %s, which is not a run's: choose another folder",
                                checkpoints->folder, name);
    }
    return QN_OK;
}

/* Finds the run that the folder holds, and repairs what a kill left half done. */
static int find_run(qn_checkpoints *checkpoints, bool resume)
{
    qn_context *context = checkpoints->context;
    int status = check_names(checkpoints);
    if (status != QN_OK)
        return status;
    if (!visit_entries(checkpoints, restore_moved))
        return QN_ERROR_FILE;
    checkpoints->best = step_of_link(checkpoints->descriptor, "best");
    uint64_t linked = step_of_link(checkpoints->descriptor, "latest");
    checkpoints->latest = linked;
    if (linked == NO_STEP && !visit_entries(checkpoints, adopt_newest))
        return QN_ERROR_FILE;
    if (checkpoints->latest != NO_STEP && !resume)
        return context_fail(context, QN_ERROR_FILE,
                            "%s holds a run, at step %" PRIu64
                            ": go on with --resume, or choose another folder",
                            checkpoints->folder, checkpoints->latest);
    if (checkpoints->latest == NO_STEP && resume)
        return context_fail(context, QN_ERROR_FILE,
                            "%s holds no checkpoint to resume from: start without --resume",
                            checkpoints->folder);
    if (checkpoints->latest != NO_STEP && linked == NO_STEP)
        status = link_latest(checkpoints, checkpoints->latest);
    if (checkpoints->latest != NO_STEP && checkpoints->best == NO_STEP && status == QN_OK)
        status = link_best(checkpoints, checkpoints->latest);
    if (status == QN_OK && !visit_entries(checkpoints, remove_leftover))
        status = QN_ERROR_FILE;
    return status;
}

qn_checkpoints *qn_checkpoints_open(qn_context *context, const char *folder, bool resume)
{
    if (!context || !folder)
        return NULL;
    qn_checkpoints *checkpoints = context_alloc(context, 1, sizeof *checkpoints);
    if (!checkpoints)
        return NULL;
    *checkpoints = (qn_checkpoints){
        .context = context, .descriptor = -1, .latest = NO_STEP, .best = NO_STEP, .begun = NO_STEP};
    checkpoints->folder = text_format(context, "%s", folder);
    if (!checkpoints->folder || (!resume && make_folders(context, folder) != QN_OK))
        goto fail;
    checkpoints->descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (checkpoints->descriptor < 0) {
        context_fail(context, QN_ERROR_FILE, "cannot open the folder %s: %s", folder,
                     strerror(errno));
        goto fail;
    }
    /* A lock that ends with the process.  Some network file systems have none: then nobody is kept
     * out. */
    if (flock(checkpoints->descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        context_fail(context, QN_ERROR_FILE, "another process is training in %s", folder);
        goto fail;
    }
    if (find_run(checkpoints, resume) == QN_OK)
        return checkpoints;
fail:
    qn_checkpoints_close(checkpoints);
    return NULL;
}

void qn_checkpoints_close(qn_checkpoints *checkpoints)
{
    if (!checkpoints)
        return;
    qn_checkpoints_abandon(checkpoints);
    if (checkpoints->descriptor >= 0)
        close(checkpoints->descriptor);
    free(checkpoints->path);
    free(checkpoints->folder);
    free(checkpoints);
}

/* The path of step-N and `suffix` for the caller, who need not free it. */
static const char *give_path(qn_checkpoints *checkpoints, uint64_t step, const char *suffix)
{
    char name[STEP_NAME];
    free(checkpoints->path);
    checkpoints->path =
        path_join(checkpoints->context, checkpoints->folder, step_name(name, step, suffix));
    return checkpoints->path;
}

const char *qn_checkpoints_latest(qn_checkpoints *checkpoints)
{
    if (!checkpoints || checkpoints->latest == NO_STEP)
        return NULL;
    return give_path(checkpoints, checkpoints->latest, "");
}

const char *qn_checkpoints_other(qn_checkpoints *checkpoints)
{
    if (!checkpoints || checkpoints->best == NO_STEP || checkpoints->best == checkpoints->latest)
        return NULL;
    return give_path(checkpoints, checkpoints->best, "");
}

/* ---- Saving ---- */

const char *qn_checkpoints_begin(qn_checkpoints *checkpoints, uint64_t step)
{
    if (!checkpoints || step == NO_STEP)
        return NULL;
    char name[STEP_NAME];
    qn_checkpoints_abandon(checkpoints);
    step_name(name, step, ".tmp");
    if (mkdirat(checkpoints->descriptor, name, 0777) != 0) {
        file_error(checkpoints, "make the folder", name);
        return NULL;
    }
    checkpoints->begun = step;
    return give_path(checkpoints, step, ".tmp");
}

void qn_checkpoints_abandon(qn_checkpoints *checkpoints)
{
    if (!checkpoints || checkpoints->begun == NO_STEP)
        return;
    char name[STEP_NAME];
    remove_step(checkpoints->descriptor, step_name(name, checkpoints->begun, ".tmp"));
    checkpoints->begun = NO_STEP;
}

/* Syncs each file of a folder, and the folder. */
static int sync_step(const qn_checkpoints *checkpoints, const char *name)
{
    int status = QN_OK;
    int descriptor = openat(checkpoints->descriptor, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!entries) {
        status = file_error(checkpoints, "read", name);
        if (descriptor >= 0)
            close(descriptor);
        return status;
    }
    for (struct dirent *entry; status == QN_OK && (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int file = openat(descriptor, entry->d_name, O_RDONLY | O_CLOEXEC);
        if (file < 0 || fsync(file) != 0)
            status = file_error(checkpoints, "sync", name);
        if (file >= 0)
            close(file);
    }
    if (status == QN_OK && fsync(descriptor) != 0 && errno != EINVAL)
        status = file_error(checkpoints, "sync", name);
    closedir(entries);
    return status;
}

/* Renames `written` to `name`, which exists if this step is saved again.  Where the file system can
 * exchange the two, there is a whole checkpoint of that name at every moment; elsewhere
 * restore_moved() mends what a kill leaves. */
static int replace_step(const qn_checkpoints *checkpoints, const char *written, const char *name)
{
    int parent = checkpoints->descriptor;
    if (!is_folder(parent, name))
        return renameat(parent, written, parent, name);
#ifdef RENAME_EXCHANGE
    if (renameat2(parent, written, parent, name, RENAME_EXCHANGE) == 0) {
        remove_step(parent, written);
        return 0;
    }
#endif
    char moved[STEP_NAME + 8];
    snprintf(moved, sizeof moved, "%s.old", name);
    remove_step(parent, moved);
    if (renameat(parent, name, parent, moved) != 0)
        return -1;
    if (renameat(parent, written, parent, name) != 0) {
        renameat(parent, moved, parent, name);
        return -1;
    }
    remove_step(parent, moved);
    return 0;
}

int qn_checkpoints_commit(qn_checkpoints *checkpoints, bool is_best)
{
    if (!checkpoints)
        return QN_ERROR_INVALID;
    if (checkpoints->begun == NO_STEP)
        return context_fail(checkpoints->context, QN_ERROR_INVALID, "%s: no checkpoint was begun",
                            checkpoints->folder);
    char written[STEP_NAME], name[STEP_NAME];
    uint64_t step = checkpoints->begun;
    step_name(written, step, ".tmp");
    step_name(name, step, "");
    int status = sync_step(checkpoints, written);
    if (status == QN_OK && replace_step(checkpoints, written, name) != 0)
        status = file_error(checkpoints, "rename", written);
    if (status != QN_OK) {
        qn_checkpoints_abandon(checkpoints);
        return status;
    }
    checkpoints->begun = NO_STEP;
    status = sync_entries(checkpoints);
    if (status == QN_OK)
        status = link_latest(checkpoints, step);
    if (status == QN_OK && (is_best || checkpoints->best == NO_STEP))
        status = link_best(checkpoints, step);
    return status == QN_OK ? remove_old(checkpoints) : status;
}

void qn_checkpoints_keep(qn_checkpoints *checkpoints, size_t count)
{
    if (checkpoints)
        checkpoints->kept = count;
}

int qn_checkpoints_set_best(qn_checkpoints *checkpoints, uint64_t step)
{
    if (!checkpoints)
        return QN_ERROR_INVALID;
    char name[STEP_NAME];
    if (step == checkpoints->best)
        return QN_OK;
    if (!is_folder(checkpoints->descriptor, step_name(name, step, "")))
        return context_fail(checkpoints->context, QN_ERROR_FILE,
                            "%s holds no checkpoint of step %" PRIu64, checkpoints->folder, step);
    return link_best(checkpoints, step);
}

/* ---- Finding a model ---- */

static bool has_file(const char *folder, const char *name, qn_context *context)
{
    char *path = path_join(context, folder, name);
    bool is_there = path && access(path, F_OK) == 0;
    free(path);
    return is_there;
}

/* FOLDER/LINK resolved to FOLDER/step-N, so that what is read stays of one checkpoint while links
 * move; NULL if it is none. */
static char *follow_link(qn_context *context, const char *folder, const char *link)
{
    char name[STEP_NAME], *path = NULL;
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return NULL;
    uint64_t step = step_of_link(descriptor, link);
    if (step != NO_STEP)
        path = path_join(context, folder, step_name(name, step, ""));
    close(descriptor);
    return path;
}

static bool is_model_file(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (int i = 0; i < MODEL_FILES; i++)
        if (strcmp(model_files[i], name) == 0)
            return true;
    return false;
}

/* The folder of the model that a file is of. */
static char *folder_of_file(qn_context *context, const char *path)
{
    char *folder = path_parent(context, path);
    if (!folder || (is_model_file(path) && has_file(folder, "config.json", context)))
        return folder;
    free(folder);
    context_fail(context, QN_ERROR_FILE,
                 "%s is a file: expected a model's folder, as `quern train` makes it", path);
    return NULL;
}

char *qn_model_folder(qn_context *context, const char *path)
{
    if (!context || !path)
        return NULL;
    struct stat status;
    if (stat(path, &status) != 0) {
        context_fail(context, QN_ERROR_FILE, "cannot open the model %s: %s", path, strerror(errno));
        return NULL;
    }
    if (!S_ISDIR(status.st_mode))
        return folder_of_file(context, path);
    char *folder = follow_link(context, path, "best");
    if (!folder)
        folder = follow_link(context, path, "latest");
    if (folder)
        return folder;
    if (has_file(path, "config.json", context))
        return text_format(context, "%s", path);
    context_fail(context, QN_ERROR_FILE,
                 "%s holds no model: expected a folder with config.json and model.safetensors, as "
                 "`quern train` makes it",
                 path);
    return NULL;
}

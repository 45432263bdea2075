/* Programs: kernels by source, name and macros, compiled together, kept in memory and on disk.
 *
 * An instance is a source with its defines; all its functions are compiled with it.  A program
 * holds the instances that were not cached when it was built. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cl_sources.h"
#include "device/device.h"
#include "device/source.h"

/* Never -cl-fast-relaxed-math or -cl-finite-math-only: a NaN must stay one, or no step would be
 * skipped for it. */
static const char options[] = "-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros";

enum { SUFFIX_LENGTH = 16 };

struct known_instance {
    struct digest id;
    size_t program; /* in programs */
};

struct program_cache {
    struct digest environment; /* of device, driver and prelude: the same source means something
                                  else elsewhere */
    char *prelude;
    cl_program *programs;
    size_t n_programs, programs_capacity;
    struct known_instance *known;
    size_t n_known, known_capacity;
};

/* One source with its defines, while kernels are being made. */
struct instance {
    const char *file, *text, *defines;
    char *replacement; /* the text, if it was read from QUERN_CL_DIR */
    struct digest id;
};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- Sources ---- */

static const char *replacements(const qn_context *context)
{
    return context->cl_dir ? context->cl_dir : getenv("QUERN_CL_DIR");
}

/* A folder that is not there, or another one than was meant, would replace nothing, in silence. */
static int check_replacements(qn_context *context)
{
    const char *folder = replacements(context);
    if (!folder || !*folder)
        return QN_OK;
    DIR *entries = opendir(folder);
    if (!entries)
        return context_fail(context, QN_ERROR_FILE, "QUERN_CL_DIR: %s: %s", folder,
                            strerror(errno));
    bool has_kernels = false;
    for (struct dirent *entry; !has_kernels && (entry = readdir(entries));) {
        const char *suffix = strrchr(entry->d_name, '.');
        has_kernels = suffix && strcmp(suffix, ".cl") == 0;
    }
    closedir(entries);
    return has_kernels
               ? QN_OK
               : context_fail(context, QN_ERROR_FILE,
                              "QUERN_CL_DIR: %s has no .cl file to replace a kernel", folder);
}

/* The file of QUERN_CL_DIR that replaces a source.  0 and NULL: there is none; the caller frees it.
 */
static int read_replacement(qn_context *context, const char *file, char **text)
{
    *text = NULL;
    const char *folder = replacements(context);
    if (!folder || !*folder)
        return QN_OK;
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", folder, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return context_fail(context, QN_ERROR_FILE, "QUERN_CL_DIR: the path of %s is too long",
                            file);
    FILE *stream = fopen(path, "rbe");
    if (!stream) {
        if (errno == ENOENT)
            return QN_OK;
        return context_fail(context, QN_ERROR_FILE, "QUERN_CL_DIR: %s: %s", path, strerror(errno));
    }
    struct text content = {0};
    char block[4096];
    for (size_t count; (count = fread(block, 1, sizeof block, stream)) > 0;)
        text_append_bytes(&content, block, count);
    text_append_bytes(&content, "", 0);
    int error = ferror(stream) ? errno : 0;
    fclose(stream);
    if (!error && !content.failed) {
        *text = content.bytes;
        return QN_OK;
    }
    free(content.bytes);
    return error
               ? context_fail(context, QN_ERROR_FILE, "QUERN_CL_DIR: %s: %s", path, strerror(error))
               : context_fail(context, QN_ERROR_MEMORY, "out of memory");
}

static char *make_prelude(qn_context *context, const struct qn_caps *caps)
{
    char *replacement;
    if (read_replacement(context, source_common.name, &replacement) != QN_OK)
        return NULL;
    struct text prelude = {0};
    text_append(&prelude,
                "#define FLOAT_WIDTH %zu\n#define DEVICE_CPU %d\n#define SUBGROUP_SIZE %zu\n"
                "#define HAS_FMA %d\n#line 1 "
                "\"%s\"\n%s\n",
                caps->float_width, caps->device_class == QN_CPU, caps->subgroup_size, caps->fma,
                source_common.name, replacement ? replacement : source_common.text);
    free(replacement);
    if (!prelude.failed)
        return prelude.bytes;
    free(prelude.bytes);
    context_fail(context, QN_ERROR_MEMORY, "out of memory");
    return NULL;
}

int kernels_hash(qn_context *context, char hash[DIGEST_TEXT])
{
    struct digest digest = digest_start();
    for (size_t i = 0; all_sources[i]; i++) {
        char *replacement;
        if (read_replacement(context, all_sources[i]->name, &replacement) != QN_OK)
            return context->status;
        digest = digest_text(digest_text(digest, all_sources[i]->name),
                             replacement ? replacement : all_sources[i]->text);
        free(replacement);
    }
    digest_hex(hash, digest);
    return QN_OK;
}

struct digest digest_device(const struct device_info *info)
{
    struct digest digest = digest_text(digest_start(), info->platform_name);
    digest = digest_text(digest, info->platform_version);
    digest = digest_text(digest, info->name);
    digest = digest_text(digest, info->driver);
    return digest_text(digest, options);
}

static void suffix_of(struct digest id, char suffix[SUFFIX_LENGTH + 1])
{
    snprintf(suffix, SUFFIX_LENGTH + 1, "%016" PRIx64, id.word[0]);
}

/* ---- The cache ---- */

struct program_cache *program_cache_new(qn_context *context, const struct device_info *info)
{
    struct program_cache *cache = context_alloc(context, 1, sizeof *cache);
    if (!cache)
        return NULL;
    if (check_replacements(context) == QN_OK)
        cache->prelude = make_prelude(context, &context->caps);
    if (!cache->prelude) {
        program_cache_free(cache);
        return NULL;
    }
    cache->environment = digest_text(digest_device(info), cache->prelude);
    return cache;
}

void program_cache_free(struct program_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->n_programs; i++)
        clReleaseProgram(cache->programs[i]);
    free(cache->programs);
    free(cache->known);
    free(cache->prelude);
    free(cache);
}

static cl_program find_program(const struct program_cache *cache, struct digest instance)
{
    for (size_t i = 0; i < cache->n_known; i++)
        if (digest_equal(cache->known[i].id, instance))
            return cache->programs[cache->known[i].program];
    return NULL;
}

/* Takes over the program; on failure it is released. */
static int remember_program(qn_context *context, cl_program program, const struct digest *instances,
                            size_t count)
{
    struct program_cache *cache = context->device->programs;
    size_t index = cache->n_programs;
    cl_program *programs =
        context_grow(context, cache->programs, index, &cache->programs_capacity, sizeof *programs);
    if (!programs) {
        clReleaseProgram(program);
        return QN_ERROR_MEMORY;
    }
    cache->programs = programs;
    cache->programs[cache->n_programs++] = program;
    for (size_t i = 0; i < count; i++) {
        struct known_instance *known = context_grow(context, cache->known, cache->n_known,
                                                    &cache->known_capacity, sizeof *known);
        if (!known)
            return QN_ERROR_MEMORY;
        cache->known = known;
        cache->known[cache->n_known++] = (struct known_instance){instances[i], index};
    }
    return QN_OK;
}

/* ---- On disk ----
 *
 * A program's file: the number of its instances, their digests, the binary.  An instance's file:
 * the name of its program. */

static void store_program(const struct device *device, cl_program program,
                          const struct digest *instances, size_t count)
{
    size_t binary_bytes = 0;
    if (device->info.caches_programs ||
        clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof binary_bytes, &binary_bytes,
                         NULL) != CL_SUCCESS ||
        binary_bytes == 0)
        return;
    uint64_t count64 = count;
    size_t head = sizeof count64 + count * sizeof *instances;
    unsigned char *data = malloc(head + binary_bytes);
    if (!data)
        return;
    memcpy(data, &count64, sizeof count64);
    memcpy(data + sizeof count64, instances, count * sizeof *instances);
    unsigned char *binary = data + head;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) ==
        CL_SUCCESS) {
        struct digest name =
            digest_bytes(device->programs->environment, instances, count * sizeof *instances);
        cache_write(CACHE_PROGRAM, name, data, head + binary_bytes);
        for (size_t i = 0; i < count; i++)
            cache_write(CACHE_INSTANCE, instances[i], &name, sizeof name);
    }
    free(data);
}

static cl_program program_from_binary(const struct device *device, const unsigned char *binary,
                                      size_t bytes)
{
    cl_int code, binary_code = CL_SUCCESS;
    cl_program program = clCreateProgramWithBinary(device->cl, 1, &device->info.id, &bytes, &binary,
                                                   &binary_code, &code);
    if (!program)
        return NULL;
    if (code == CL_SUCCESS && binary_code == CL_SUCCESS)
        code = clBuildProgram(program, 1, &device->info.id, options, NULL, NULL);
    if (code == CL_SUCCESS && binary_code == CL_SUCCESS)
        return program;
    clReleaseProgram(program);
    return NULL;
}

/* Loads the program on disk that has the instance, with all its instances.  False: there is none
 * that can be used. */
static bool load_program(qn_context *context, struct digest instance)
{
    struct device *device = context->device;
    if (device->info.caches_programs)
        return false;
    size_t bytes;
    struct digest *name = cache_read(CACHE_INSTANCE, instance, &bytes);
    unsigned char *data =
        name && bytes == sizeof *name ? cache_read(CACHE_PROGRAM, *name, &bytes) : NULL;
    free(name);
    if (!data)
        return false;
    uint64_t count = 0;
    if (bytes >= sizeof count)
        memcpy(&count, data, sizeof count);
    size_t room = bytes / sizeof(struct digest);
    cl_program program = NULL;
    struct digest *instances = NULL;
    if (count > 0 && count <= room && sizeof count + (size_t)count * sizeof *instances < bytes)
        instances = malloc((size_t)count * sizeof *instances);
    if (instances) {
        size_t head = sizeof count + (size_t)count * sizeof *instances;
        memcpy(instances, data + sizeof count, (size_t)count * sizeof *instances);
        program = program_from_binary(device, data + head, bytes - head);
    }
    bool loaded = program && remember_program(context, program, instances, (size_t)count) == QN_OK;
    context->counters.programs_loaded += loaded;
    free(instances);
    free(data);
    return loaded && find_program(device->programs, instance);
}

/* ---- Building ---- */

/* The part of a build log that says most: from the first line with "error" on, but not many lines.
 */
static char *short_log(qn_context *context, cl_program program)
{
    cl_device_id id = context->device->info.id;
    size_t bytes = 0;
    clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
    char *log = calloc(bytes + 1, 1);
    if (!log)
        return NULL;
    clGetProgramBuildInfo(program, id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
    char *start = strstr(log, "error");
    while (start && start > log && start[-1] != '\n')
        start--;
    if (start)
        memmove(log, start, strlen(start) + 1);
    char *end = log;
    for (int lines = 0; *end && lines < 12; end++)
        lines += *end == '\n';
    while (end > log && (end[-1] == '\n' || end[-1] == ' '))
        end--;
    *end = '\0';
    return log;
}

static void append_instance(struct text *text, const struct instance *instance)
{
    char suffix[SUFFIX_LENGTH + 1];
    suffix_of(instance->id, suffix);
    text_append_source(text, instance->file, instance->text, instance->defines, suffix);
}

/* Compiles the instances as one program.  NULL on failure: *code says why, and *log what the
 * compiler said, if it said anything. */
static cl_program compile(qn_context *context, const struct instance *const *instances,
                          size_t count, cl_int *code, char **log)
{
    const struct device *device = context->device;
    struct text text = {0};
    text_append(&text, "%s", device->programs->prelude);
    for (size_t i = 0; i < count; i++)
        append_instance(&text, instances[i]);
    cl_program program = NULL;
    if (text.failed)
        *code = CL_OUT_OF_HOST_MEMORY;
    else
        program = clCreateProgramWithSource(device->cl, 1, &(const char *){text.bytes},
                                            &text.length, code);
    free(text.bytes);
    if (!program)
        return NULL;
    *code = clBuildProgram(program, 1, &device->info.id, options, NULL, NULL);
    if (*code == CL_SUCCESS)
        return program;
    if (*code == CL_BUILD_PROGRAM_FAILURE)
        *log = short_log(context, program);
    clReleaseProgram(program);
    return NULL;
}

/* Reports why a program failed: compiles its parts one by one to find which. */
static int report_failure(qn_context *context, const struct instance *const *instances,
                          size_t count, cl_int code, const char *log)
{
    if (code != CL_BUILD_PROGRAM_FAILURE)
        return device_check(context, code, "building a program");
    const struct instance *culprit = count == 1 ? instances[0] : NULL;
    char *own_log = NULL;
    for (size_t i = 0; !culprit && i < count; i++) {
        cl_program program = compile(context, &instances[i], 1, &code, &own_log);
        if (program)
            clReleaseProgram(program);
        else
            culprit = instances[i];
    }
    if (own_log)
        log = own_log;
    log = log && *log ? log : "(CL_BUILD_PROGRAM_FAILURE, and the driver gives no log)";
    char defines[160] = "";
    if (culprit && *culprit->defines) {
        snprintf(defines, sizeof defines, ", with %s", culprit->defines);
        for (char *p = defines; *p; p++)
            if (*p == '\n')
                *p = p[1] ? ',' : '\0';
    }
    if (culprit)
        context_fail(context, QN_ERROR_BUILD, "%s does not compile:\n%.1500s\n(on %s%s)",
                     culprit->file, log, context->device->name, defines);
    else
        context_fail(context, QN_ERROR_BUILD,
                     "%zu kernel sources compile alone, but not together:\n%.1500s\n(on %s)", count,
                     log, context->device->name);
    free(own_log);
    return QN_ERROR_BUILD;
}

static int build_program(qn_context *context, const struct instance *const *instances, size_t count)
{
    cl_int code = CL_SUCCESS;
    char *log = NULL;
    cl_program program = compile(context, instances, count, &code, &log);
    if (!program) {
        int status = report_failure(context, instances, count, code, log);
        free(log);
        return status;
    }
    struct digest *ids = context_alloc(context, count, sizeof *ids);
    if (!ids) {
        clReleaseProgram(program);
        return QN_ERROR_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = instances[i]->id;
    size_t n_kernels = 0;
    clGetProgramInfo(program, CL_PROGRAM_NUM_KERNELS, sizeof n_kernels, &n_kernels, NULL);
    context->counters.programs_built++;
    context->counters.kernels_built += n_kernels;
    store_program(context->device, program, ids, count);
    int status = remember_program(context, program, ids, count);
    free(ids);
    return status;
}

/* ---- Kernels ---- */

/* The instance of a kernel among programs that have the environment in common. */
static int find_instance(qn_context *context, const struct kernel_key *key,
                         struct digest environment, struct instance *instance)
{
    *instance = (struct instance){
        .file = key->source->name, .text = key->source->text, .defines = key->defines};
    int status = read_replacement(context, instance->file, &instance->replacement);
    if (instance->replacement)
        instance->text = instance->replacement;
    struct digest id = digest_text(environment, instance->file);
    instance->id = digest_text(digest_text(id, instance->text), instance->defines);
    return status;
}

static int create_kernel(qn_context *context, const struct kernel_key *key, struct digest instance,
                         cl_kernel *kernel)
{
    char suffix[SUFFIX_LENGTH + 1], name[256];
    suffix_of(instance, suffix);
    snprintf(name, sizeof name, "%s_%s", key->name, suffix);
    cl_int code;
    *kernel = clCreateKernel(find_program(context->device->programs, instance), name, &code);
    if (code == CL_INVALID_KERNEL_NAME)
        return context_fail(context, QN_ERROR_BUILD, "%s has no kernel %s", key->source->name,
                            key->name);
    return device_check(context, code, "kernel %s of %s", key->name, key->source->name);
}

/* Makes the instances known that are generated, or those that are not: from disk, else by compiling what is left as one program. */
static int provide(qn_context *context, const struct instance *instances, size_t count,
                   bool is_generated)
{
    const struct program_cache *cache = context->device->programs;
    const struct instance **missing = context_alloc(context, count, sizeof *missing);
    if (!missing)
        return QN_ERROR_MEMORY;
    size_t n_missing = 0;
    int status = QN_OK;
    for (size_t i = 0; status == QN_OK && i < count; i++) {
        bool is_listed = false;
        for (size_t j = 0; j < n_missing && !is_listed; j++)
            is_listed = digest_equal(missing[j]->id, instances[i].id);
        bool is_of_these = (strcmp(instances[i].file, GENERATED_SOURCE) == 0) == is_generated;
        if (!is_of_these || is_listed || find_program(cache, instances[i].id))
            continue;
        if (!load_program(context, instances[i].id))
            missing[n_missing++] = &instances[i];
    }
    if (status == QN_OK && n_missing)
        status = build_program(context, missing, n_missing);
    free(missing);
    return status;
}

int device_kernels(qn_context *context, const struct kernel_key *keys, size_t count,
                   cl_kernel *kernels)
{
    if (!context->device)
        return context_fail(context, QN_ERROR_INVALID,
                            "the context has no device: nothing can be compiled");
    double start = seconds_now();
    struct instance *instances = context_alloc(context, count, sizeof *instances);
    if (!instances)
        return QN_ERROR_MEMORY;
    int status = QN_OK;
    for (size_t i = 0; i < count && status == QN_OK; i++)
        status =
            find_instance(context, &keys[i], context->device->programs->environment, &instances[i]);
    /* Two programs: what the graph generates changes with each option of a model, while a driver's own cache knows a program only if it is the
     * same throughout. */
    if (status == QN_OK)
        status = provide(context, instances, count, false);
    if (status == QN_OK)
        status = provide(context, instances, count, true);
    size_t created = 0;
    while (created < count && status == QN_OK) {
        status = create_kernel(context, &keys[created], instances[created].id, &kernels[created]);
        created += status == QN_OK;
    }
    if (status != QN_OK)
        for (size_t i = 0; i < count; i++) {
            if (i < created)
                clReleaseKernel(kernels[i]);
            kernels[i] = NULL;
        }
    for (size_t i = 0; i < count; i++)
        free(instances[i].replacement);
    free(instances);
    context->counters.build_seconds += seconds_now() - start;
    return status;
}

/* ---- For other compilers ---- */

/* What all instances have in common comes first, then a line that names the instance's file: several of them may be put together behind the
 * former. */
static int dump_instance(qn_context *context, const char *folder, const char *prelude,
                         const struct instance *instance)
{
    char path[PATH_MAX], suffix[SUFFIX_LENGTH + 1];
    suffix_of(instance->id, suffix);
    int length = snprintf(path, sizeof path, "%s/%.*s-%s.cl", folder,
                          (int)strcspn(instance->file, "."), instance->file, suffix);
    if (length < 0 || (size_t)length >= sizeof path)
        return context_fail(context, QN_ERROR_FILE, "QUERN_DUMP_CL: the path is too long");
    struct text text = {0};
    text_append(&text, "%s\n//// %s\n", prelude, instance->file);
    append_instance(&text, instance);
    FILE *stream = text.failed ? NULL : fopen(path, "wbe");
    bool is_written = stream && fwrite(text.bytes, 1, text.length, stream) == text.length;
    if (stream && fclose(stream) != 0)
        is_written = false;
    int status = QN_OK;
    if (text.failed)
        status = context_fail(context, QN_ERROR_MEMORY, "out of memory");
    else if (!is_written)
        status = context_fail(context, QN_ERROR_FILE, "QUERN_DUMP_CL: cannot write %s: %s", path,
                              strerror(errno));
    free(text.bytes);
    return status;
}

int kernels_dump(qn_context *context, const struct kernel_key *keys, size_t count)
{
    const char *folder = getenv("QUERN_DUMP_CL");
    if (!folder || !*folder)
        return QN_OK;
    char *prelude = make_prelude(context, &context->caps);
    int status = prelude ? QN_OK : (int)context->status;
    for (size_t i = 0; i < count && status == QN_OK; i++) {
        struct instance instance = {0};
        status = find_instance(context, &keys[i], digest_text(digest_start(), prelude), &instance);
        if (status == QN_OK)
            status = dump_instance(context, folder, prelude, &instance);
        free(instance.replacement);
    }
    free(prelude);
    return status;
}

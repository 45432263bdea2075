/* Devices: choosing and opening them, capabilities, programs and their cache, the queue's errors
 * and profile. */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cache.h"
#include "device/device.h"
#include "device/source.h"
#include "tap.h"

static char folder[] = "/tmp/quern-device-XXXXXX";
static char cache_path[128], kernels_path[128];

/* ---- Helpers ---- */

static bool has(const char *text, const char *part)
{
    bool found = strstr(text, part) != NULL;
    if (!found)
        note("no \"%s\" in: %s", part, text);
    return found;
}

static qn_context *open_or_bail(const char *device)
{
    qn_context *context = qn_open(device);
    if (!context)
        bail_out("%s", qn_error(NULL));
    return context;
}

/* Stands in for the driver that has no cache of its own, so that ours is used on every device. */
static qn_context *open_with_cache(void)
{
    qn_context *context = open_or_bail(NULL);
    context->device->info.caches_programs = false;
    return context;
}

/* Runs a kernel (global float *x) on one work-item; x[0] afterwards, NAN on failure. */
static float run_kernel(qn_context *context, cl_kernel kernel)
{
    float value = 0;
    cl_mem buffer = device_buffer(context, sizeof value);
    if (!buffer)
        return NAN;
    cl_command_queue queue = context->device->queue;
    struct command command = {
        .op = "test", .node = "node", .kernel = kernel, .dims = 1, .global = {1}, .local = {1}};
    bool done = clEnqueueWriteBuffer(queue, buffer, CL_TRUE, 0, sizeof value, &value, 0, NULL,
                                     NULL) == CL_SUCCESS &&
                clSetKernelArg(kernel, 0, sizeof buffer, &buffer) == CL_SUCCESS &&
                device_enqueue(context, &command, 1) == QN_OK &&
                clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof value, &value, 0, NULL,
                                    NULL) == CL_SUCCESS;
    device_buffer_free(context, buffer, sizeof value);
    return done ? value : NAN;
}

static const struct qn_source answer = {
    "answer.cl",
    "#define TWICE(x) (2 * (x))\n"
    "typedef struct pair { float a, b; } pair;\n"
    "enum { OFFSET = 1 };\n"
    "constant float table[2] = {BASE, M_PI_F}; // \" not a string\n"
    "static float helper(float x) { pair p = {x, table[0]}; return TWICE(p.a) + p.b + OFFSET; }\n"
    "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
    "void answer(global float *x) { x[0] = helper(20); }\n"
    "kernel void other(global float *x) { x[0] = -helper(0x1p2f); }\n"};

static float answer_of(qn_context *context, const char *name, const char *defines)
{
    cl_kernel kernel;
    if (device_kernels(context, &(struct kernel_key){&answer, name, defines}, 1, &kernel) != QN_OK)
        return NAN;
    float value = run_kernel(context, kernel);
    clReleaseKernel(kernel);
    return value;
}

/* ---- Capabilities ---- */

static void test_caps(void)
{
    static const struct {
        const char *words, *error;
    } wrong[] = {
        {"clas=gpu", "\"clas\""},
        {"class=tpu", "cpu or gpu"},
        {"fp16", "fp16 must be 0 or 1"},
        {"fp16=2", "0 or 1"},
        {"float_width=3", "1, 4, 8"},
        {"float_width=32", "1, 4, 8"},
        {"alignment=24", "power of two"},
        {"local_memory=0", "above 0"},
        {"local_memory=-1", "above 0"},
        {"max_work_group=64k", "above 0"},
        {"subgroup_size=3", "0 or a power of two"},
        {"=1", "no capability"},
        {"matrix=wgmma", "none, avx512_bf16, amx, "},
        {"matrix=", "none, avx512_bf16"},
        {"global_memory=99999999999999999999", "above 0"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        qn_context *context = open_or_bail("none");
        struct qn_caps caps = context->caps;
        int status = caps_override(context, &caps, wrong[i].words);
        ok(status == QN_ERROR_INVALID && has(qn_error(context), wrong[i].error),
           "QUERN_CAPS=%s is refused", wrong[i].words);
        qn_close(context);
    }
    qn_context *context = open_or_bail("none");
    struct qn_caps caps = context->caps;
    is_int(caps_override(
               context, &caps,
               "fp16=1,fma=0,subgroups=0,subgroup_size=8,max_work_group=64,local_memory=16384,"
               "global_memory="
               "5000000000,class=gpu"),
           0, "QUERN_CAPS with several words");
    ok(caps.fp16 && !caps.fma && !caps.subgroups && caps.subgroup_size == 8 &&
           caps.max_work_group == 64 && caps.local_memory == 16384 &&
           caps.global_memory == 5000000000 && caps.device_class == QN_GPU,
       "they are in force");
    is_int((long long)caps.float_width, 4, "a CPU taken for a GPU has vectors of 4");
    is_int(caps_override(context, &caps, "class=cpu,float_width=1"), 0, "a width of its own");
    is_int((long long)caps.float_width, 1, "is kept");
    is_int(caps_override(context, &caps, ""), 0, "no words");
    caps.matrix = QN_AMX;
    is_int(caps_override(context, &caps, "matrix=avx512_bf16"), 0, "lesser instructions");
    is_int((long long)caps.matrix, QN_AVX512_BF16, "are taken");
    is_int(caps_override(context, &caps, "matrix=amx"), 0, "those that a device lacks");
    is_int((long long)caps.matrix, QN_AVX512_BF16, "it does not get");
    is_int(caps_override(context, &caps, "matrix=wmma"), 0, "those of a GPU");
    is_int((long long)caps.matrix, QN_WMMA, "it gets: a probe comes before their use");
    is_int(caps_override(context, &caps, "matrix=amx"), 0, "those of a CPU");
    is_int((long long)caps.matrix, QN_NO_MATRIX, "a GPU does not get");
    qn_close(context);
}

/* ---- Sub-groups ---- */

static size_t subgroup_with(const char *caps)
{
    qn_context *context = qn_open_with(&(struct qn_options){.device = "none", .caps = caps});
    size_t size = context ? context->caps.subgroup_size : SIZE_MAX;
    qn_close(context);
    return size;
}

static void test_subgroups(void)
{
    is_int((long long)subgroup_with("class=gpu,subgroups=1,subgroup_size=8"), 8,
           "kernels for GPUs ask for sub-groups of a size");
    is_int((long long)subgroup_with("class=gpu,subgroups=0,subgroup_size=8"), 0,
           "not where there are none");
    is_int((long long)subgroup_with("class=cpu,subgroups=1,subgroup_size=8"), 0,
           "kernels for CPUs do not");
}

/* ---- Instructions that multiply matrices ---- */

static enum qn_matrix matrix_with(const char *caps)
{
    qn_context *context = qn_open_with(&(struct qn_options){.caps = caps});
    enum qn_matrix matrix = context ? context->caps.matrix : QN_MATRICES;
    qn_close(context);
    return matrix;
}

/* Of the chosen device, as the list has it. */
static bool list_has_problem(const char *part)
{
    qn_device_list *list = qn_device_list_new();
    bool found = list && list->chosen && strstr(list->chosen->matrix_problem, part);
    qn_device_list_free(list);
    return found;
}

static void test_matrix(void)
{
    is_int((long long)matrix_with("class=gpu,matrix=emulated"), QN_EMULATED,
           "a product by plain OpenCL in place of matrix instructions is right");
    is_int((long long)matrix_with("class=gpu,matrix=none"), QN_NO_MATRIX, "none are asked for");
    ok(!qn_open_with(&(struct qn_options){.gemm = "tf32", .caps = "class=gpu,matrix=none"}) &&
           has(qn_error(NULL), "no instructions for matrices of TF32"),
       "TF32 is refused where it is not");
    setenv("QUERN_CAPS", "class=gpu,matrix=matrix_mad_16,max_work_group=64", 1);
    ok(!list_has_problem("matrix_mad_16"), "of what was not tried nothing is known");
    bool is_used = matrix_with(NULL) == QN_MATRIX_MAD_16; /* few devices have them */
    ok(list_has_problem("matrix_mad_16, when last tried: ") != is_used,
       "the list says why they are not used, if they are not");
    unsetenv("QUERN_CAPS");
}

/* ---- Choosing ---- */

static void test_choice(void)
{
    qn_device_list *list = qn_device_list_new();
    if (!list || !list->chosen)
        bail_out("%s", list ? list->reason : qn_error(NULL));
    qn_context *context = open_or_bail(NULL);
    ok(has(qn_device_name(context), list->chosen->name),
       "the default is the one that the list marks");
    ok(context->caps.max_allocation > 0 && context->caps.alignment >= 4 &&
           context->caps.float_width >= 4,
       "it has capabilities");
    qn_close(context);

    char selector[256];
    for (size_t i = 0; i < list->count; i++) {
        const struct qn_device *device = &list->devices[i];
        context = qn_open(device->selector);
        if (*device->problem)
            ok(!context, "%s cannot be opened", device->selector);
        else
            ok(context && has(qn_device_name(context), device->name), "%s opens by its numbers",
               device->selector);
        if (context) {
            device_selector(context, selector);
            ok(strcmp(selector, device->selector) == 0, "and says the same numbers, \"%s\"",
               selector);
        }
        qn_close(context);
        if (*device->problem)
            continue;
        snprintf(selector, sizeof selector, "%s:%.6s", device->platform, device->name);
        for (char *p = selector; *p; p++)
            *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        context = qn_open(selector);
        size_t named = 0;
        for (size_t j = 0; j < list->count; j++)
            named += strcmp(list->devices[j].platform, device->platform) == 0 &&
                     strncmp(list->devices[j].name, device->name, 6) == 0 &&
                     !*list->devices[j].problem;
        if (named > 1)
            ok(!context && has(qn_error(NULL), "names several devices"), "\"%s\" is unclear",
               selector);
        else
            ok(context && has(qn_device_name(context), device->platform), "\"%s\" opens %s",
               selector, device->selector);
        qn_close(context);
    }
    ok(!qn_open("no such thing") && has(qn_error(NULL), "no device \"no such thing\"") &&
           has(qn_error(NULL), list->chosen->name),
       "an unknown name: the error lists what there is");
    ok(!qn_open("999:0") && has(qn_error(NULL), "999:0"), "a number that is too large");
    snprintf(selector, sizeof selector, "%s:999", list->chosen->platform);
    ok(!qn_open(selector), "a device number that is too large");

    const char *device = getenv("QUERN_DEVICE");
    char given[256];
    snprintf(given, sizeof given, "%s", device ? device : "");
    setenv("QUERN_DEVICE", "no such thing either", 1);
    ok(!qn_open(NULL) && has(qn_error(NULL), "no such thing either"), "QUERN_DEVICE is obeyed");
    context = qn_open(list->chosen->selector);
    ok(context != NULL, "and yields to an argument");
    qn_close(context);
    setenv("QUERN_DEVICE", given, 1); /* "": as if it were not set */
    setenv("QUERN_CAPS", "nonsense=1", 1);
    ok(!qn_open(NULL) && has(qn_error(NULL), "nonsense"),
       "a wrong QUERN_CAPS keeps a device from opening");
    ok(!qn_device_list_new() && has(qn_error(NULL), "nonsense"), "and from being listed");
    unsetenv("QUERN_CAPS");
    ok(!qn_open_with(&(struct qn_options){.gemm = "fast"}) && has(qn_error(NULL), "\"fast\""),
       "an unknown way to multiply matrices");
    qn_device_list_free(list);
}

static void test_none(void)
{
    qn_context *context = open_or_bail("none");
    ok(!context->device && strcmp(qn_device_name(context), "none") == 0, "\"none\" opens nothing");
    is_int(qn_finish(context), 0, "there is nothing to wait for");
    cl_kernel kernel;
    is_int(device_kernels(context, &(struct kernel_key){&answer, "answer", ""}, 1, &kernel),
           QN_ERROR_INVALID, "nothing can be compiled");
    qn_clear_error(context);
    ok(strcmp(qn_error(context), "") == 0, "an error can be cleared");
    qn_close(context);
}

/* ---- Sources ---- */

static void test_scanner(void)
{
    struct text text = {0};
    text_append_source(
        &text, "a.cl",
        "/* void comment(int); */ #\n"
        "#define MACRO(x) \\\n  void in_macro(x)\n"
        "typedef float4 vector;\n"
        "struct tag { float member; };\n"
        "enum { FIRST, SECOND = 2 };\n"
        "constant int array[] = {M_E_F}, scalar = MAXFLOAT, last = 1;\n"
        "float declared(float argument);\n"
        "global float *pointer(global float *p) { int variable = call(1); return p; }\n"
        "kernel void __attribute__((vec_type_hint(float4))) function(global float *x)\n"
        "{ if (x[0] > 1e-3f) { x[0] = '}'; } }\n"
        "kernel void after(void) {}\n",
        "#define SIZE 3\n", "S");
    static const char *const renamed[] = {"vector",  "tag",      "FIRST", "SECOND",
                                          "array",   "scalar",   "last",  "declared",
                                          "pointer", "function", "after"};
    static const char *const kept[] = {
        "comment", "in_macro", "member", "M_E_F",  "MAXFLOAT", "argument",      "variable",
        "call",    "x",        "MACRO",  "float4", "f",        "__attribute__", "vec_type_hint"};
    char line[64];
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++) {
        snprintf(line, sizeof line, "#define %s %s_S\n", renamed[i], renamed[i]);
        ok(has(text.bytes, line), "%s is renamed", renamed[i]);
    }
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(line, sizeof line, "#define %s %s_S\n", kept[i], kept[i]);
        ok(!strstr(text.bytes, line), "%s is not", kept[i]);
    }
    ok(has(text.bytes, "#undef MACRO\n") && has(text.bytes, "#undef SIZE\n") &&
           has(text.bytes, "#undef function\n"),
       "macros end with the source");
    free(text.bytes);
    text = (struct text){0};
    text_append_source(&text, "b.cl", "/* open", "", "S");
    text_append_source(&text, "b.cl", "kernel void f(", "", "S");
    text_append_source(&text, "b.cl", "\"open", "", "S");
    ok(!text.failed, "broken sources are left to the compiler");
    free(text.bytes);
}

static void test_instances(void)
{
    qn_context *context = open_with_cache();
    const struct kernel_key keys[] = {{&answer, "answer", "#define BASE 1.0f\n"},
                                      {&answer, "answer", "#define BASE 100.0f\n"},
                                      {&answer, "other", "#define BASE 1.0f\n"},
                                      {&answer, "answer", "#define BASE 1.0f\n"}};
    static const float expected[] = {42, 141, -10, 42};
    cl_kernel kernels[4];
    is_int(device_kernels(context, keys, 4, kernels), 0,
           "a source twice, with different macros: %s", qn_error(context));
    for (int i = 0; i < 4 && context->status == QN_OK; i++) {
        float value = run_kernel(context, kernels[i]);
        ok(value == expected[i], "kernel %d computes %g: %g", i, expected[i], value);
        clReleaseKernel(kernels[i]);
    }
    struct qn_counters counters = qn_counters(context);
    ok(counters.programs_built == 1 && counters.kernels_built == 4,
       "in one program of four kernels");
    ok(answer_of(context, "other", "#define BASE 100.0f\n") == -109,
       "another function of an instance");
    is_int((long long)qn_counters(context).programs_built, 1, "is there already");

    is_int(device_kernels(context, &(struct kernel_key){&answer, "missing", "#define BASE 1.0f\n"},
                          1, kernels),
           QN_ERROR_BUILD, "a function that is not there");
    ok(has(qn_error(context), "answer.cl has no kernel missing"), "is named");
    qn_close(context);
}

static void test_build_error(void)
{
    qn_context *context = open_with_cache();
    const struct qn_source broken = {
        "broken.cl", "\nkernel void broken(global float *x)\n{\n    x[0] = nothing;\n}\n"};
    const struct kernel_key keys[] = {{&answer, "answer", "#define BASE 7.0f\n"},
                                      {&broken, "broken", "#define UNUSED 1\n"}};
    cl_kernel kernels[2];
    is_int(device_kernels(context, keys, 2, kernels), QN_ERROR_BUILD,
           "a kernel that does not compile");
    ok(has(qn_error(context), "broken.cl does not compile") && has(qn_error(context), "UNUSED 1") &&
           has(qn_error(context), "nothing"),
       "its file, its macros and the log are told");
    if (strstr(qn_error(context), "broken.cl:"))
        ok(has(qn_error(context), "broken.cl:4"), "with the line of its own file");
    else
        skip("the driver does not obey #line");
    ok(!kernels[0] && !kernels[1], "there are no kernels then");
    qn_clear_error(context);
    ok(answer_of(context, "answer", "#define BASE 1.0f\n") == 42, "the context goes on");
    qn_close(context);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        bail_out("cannot write %s", path);
}

static void test_replacement(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/answer.cl", kernels_path);
    char other_path[256];
    snprintf(other_path, sizeof other_path, "%s/other.cl", kernels_path);
    setenv("QUERN_CL_DIR", kernels_path, 1);
    ok(!qn_open(NULL) && has(qn_error(NULL), "has no .cl file"),
       "a QUERN_CL_DIR that replaces nothing is told");
    write_file(other_path, "");
    qn_context *context = open_with_cache();
    ok(answer_of(context, "answer", "#define BASE 1.0f\n") == 42, "QUERN_CL_DIR without the file");
    write_file(path, "kernel void answer(global float *x) { x[0] = 1; }\n");
    ok(answer_of(context, "answer", "#define BASE 1.0f\n") == 1, "QUERN_CL_DIR replaces a source");
    write_file(path, "kernel void answer(global float *x) { x[0] = 2; }\n");
    ok(answer_of(context, "answer", "#define BASE 1.0f\n") == 2, "its text is looked at each time");
    setenv("QUERN_CL_DIR", path, 1);
    ok(!qn_open(NULL) && has(qn_error(NULL), "QUERN_CL_DIR"),
       "a QUERN_CL_DIR that is no folder is told");
    unsetenv("QUERN_CL_DIR");
    ok(answer_of(context, "answer", "#define BASE 1.0f\n") == 42,
       "the built-in source is still known");
    unlink(path);
    unlink(other_path);
    qn_close(context);
}

/* ---- The cache on disk ---- */

/* Calls `change` for every file of the cache whose name begins with `prefix`; returns how many. */
static int each_file(const char *prefix, void (*change)(const char *path))
{
    int count = 0;
    DIR *directory = opendir(cache_path);
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", cache_path, entry->d_name);
        if (change)
            change(path);
        count++;
    }
    closedir(directory);
    return count;
}

static void truncate_file(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0 || truncate(path, status.st_size / 2) != 0)
        bail_out("cannot truncate %s", path);
}

static void corrupt_file(const char *path)
{
    FILE *file = fopen(path, "r+b");
    if (!file || fseek(file, -5, SEEK_END) != 0)
        bail_out("cannot open %s", path);
    int byte = fgetc(file);
    fseek(file, -5, SEEK_END);
    fputc(byte ^ 0x40, file);
    fclose(file);
}

/* A whole file that promises more instances than it has. */
static void forge_file(const char *path)
{
    struct digest name;
    const uint64_t forged[8] = {UINT64_MAX / sizeof name};
    const char *hash = strrchr(path, '-') + 1;
    if (sscanf(hash, "%16" SCNx64 "%16" SCNx64, &name.word[0], &name.word[1]) != 2)
        bail_out("%s has no name of ours", path);
    cache_write(CACHE_PROGRAM, name, forged, sizeof forged);
}

static void empty_file(const char *path)
{
    if (truncate(path, 0) != 0)
        bail_out("cannot truncate %s", path);
}

/* Opens a device, computes the answer; counts what was built and loaded. */
static bool compute(size_t *built, size_t *loaded)
{
    qn_context *context = open_with_cache();
    bool right = answer_of(context, "answer", "#define BASE 1.0f\n") == 42;
    *built = qn_counters(context).programs_built;
    *loaded = qn_counters(context).programs_loaded;
    if (!right)
        note("%s", qn_error(context));
    qn_close(context);
    return right;
}

static void expect(size_t programs_built, size_t programs_loaded, const char *what)
{
    size_t built = 0, loaded = 0;
    bool right = compute(&built, &loaded);
    if (!ok(right && built == programs_built && loaded == programs_loaded, "%s", what))
        note("built %zu, loaded %zu", built, loaded);
}

static void test_cache(void)
{
    size_t files = 0, bytes = 0;
    is_int(qn_cache_clear(NULL, NULL), 0, "the cache can be cleared");
    is_int(each_file("", NULL), 2, "and is empty then");
    expect(1, 0, "cold: a program is built");
    ok(each_file("program-", NULL) > 0 && each_file("instance-", NULL) > 0, "and kept");
    expect(0, 1, "warm: it is loaded");
    static const struct {
        const char *prefix, *what;
        void (*change)(const char *path);
    } damages[] = {
        {"program-", "a truncated program is built again", truncate_file},
        {"program-", "a corrupt one too", corrupt_file},
        {"program-", "an empty one too", empty_file},
        {"program-", "one that lies about its contents too", forge_file},
        {"instance-", "a truncated entry of the index too", truncate_file},
        {"instance-", "a corrupt one too", corrupt_file},
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        each_file(damages[i].prefix, damages[i].change);
        expect(1, 0, damages[i].what);
        expect(0, 1, "and is whole then");
    }
    each_file("device-", corrupt_file);
    expect(0, 1, "a corrupt verdict on the device is found again");

    /* A program with more instances serves a plan that needs one of them. */
    qn_cache_clear(NULL, NULL);
    qn_context *context = open_with_cache();
    const struct kernel_key keys[] = {{&answer, "answer", "#define BASE 1.0f\n"},
                                      {&answer, "answer", "#define BASE 2.0f\n"}};
    cl_kernel kernels[2];
    if (device_kernels(context, keys, 2, kernels) == QN_OK)
        for (int i = 0; i < 2; i++)
            clReleaseKernel(kernels[i]);
    qn_close(context);
    expect(0, 1, "a kernel that was compiled with others is found");

    char stranger[256];
    snprintf(stranger, sizeof stranger, "%s/program-of-mine", cache_path);
    write_file(stranger, "");
    ok(qn_cache_clear(&files, &bytes) == 0 && files >= 4 && bytes > 0,
       "clearing counts files and bytes");
    ok(unlink(stranger) == 0, "and touches nothing else");

    setenv("QUERN_CACHE_DIR", "/dev/null/cache", 1);
    expect(1, 0, "a folder that cannot be made only costs time");
    setenv("QUERN_CACHE_DIR", "/proc", 1);
    expect(1, 0, "so does one that cannot be written");
    setenv("QUERN_CACHE_DIR", cache_path, 1);
}

/* Runs this program again with `mode`; its process. */
static pid_t start(const char *mode)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "device", mode, (char *)NULL);
        _exit(127);
    }
    return child;
}

static bool succeeds(pid_t child)
{
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static void test_processes(void)
{
    qn_cache_clear(NULL, NULL);
    pid_t first = start("compute"), second = start("compute");
    bool both = succeeds(first);
    both = succeeds(second) && both;
    ok(both, "two processes fill one cache at once");
    expect(0, 1, "what they left is whole");
    is_int(each_file("new-", NULL), 0, "and nothing else");
    ok(succeeds(start("no-driver")), "without drivers, the loader's report says so");
}

static int child_compute(void)
{
    size_t built, loaded;
    return compute(&built, &loaded) ? 0 : 1;
}

/* In a process of its own: the loader looks for drivers once. */
static int child_no_driver(void)
{
    setenv("OCL_ICD_VENDORS", kernels_path, 1);
    char path[256];
    snprintf(path, sizeof path, "%s/broken.icd", kernels_path);
    write_file(path, "libno-such-driver.so.1\n");
    bool right = !qn_open(NULL) && strstr(qn_error(NULL), "no OpenCL device found") != NULL;
    qn_device_list *list = qn_device_list_new();
    right = right && list && list->count == 0 && !list->chosen;
    qn_loader *loader = qn_loader_new();
    right = right && loader && strstr(loader->library, "OpenCL") &&
            strcmp(loader->place, kernels_path) == 0 &&
            strcmp(loader->because, "OCL_ICD_VENDORS") == 0 && loader->count == 1 &&
            strcmp(loader->icds[0].library, "libno-such-driver.so.1") == 0 &&
            strstr(loader->icds[0].problem, "libno-such-driver.so.1") != NULL;
    unlink(path);
    qn_loader_free(loader);
    loader = qn_loader_new();
    right =
        right && loader && loader->count == 0 && strstr(loader->problem, "no .icd files") != NULL;
    qn_loader_free(loader);
    qn_device_list_free(list);
    return right ? 0 : 1;
}

/* ---- Memory and the queue ---- */

static void test_memory(void)
{
    setenv("QUERN_CAPS", "global_memory=1048576,max_allocation=524288", 1);
    qn_context *context = open_or_bail(NULL);
    unsetenv("QUERN_CAPS");
    ok(!device_buffer(context, 524289) && context->status == QN_ERROR_DEVICE_MEMORY,
       "a buffer above the largest allocation: %s", qn_error(context));
    qn_clear_error(context);
    cl_mem a = device_buffer(context, 524288), b = device_buffer(context, 524288);
    ok(a && b && !device_buffer(context, 1) && has(qn_error(context), "smaller batch"),
       "all memory in use: %s", qn_error(context));
    device_buffer_free(context, b, 524288);
    struct qn_counters counters = qn_counters(context);
    ok(counters.device_allocations == 2 && counters.device_bytes == 524288 &&
           counters.device_bytes_peak == 1048576,
       "allocations are counted");
    device_buffer_free(context, a, 524288);
    qn_close(context);
}

static int refuse(void *queue, void *const *buffers, const void *arguments)
{
    (void)queue;
    (void)buffers;
    return *(const int *)arguments;
}

static bool events_have_times = true;

cl_int __real_clGetEventProfilingInfo(cl_event event, cl_profiling_info what, size_t room,
                                      void *value, size_t *size);
cl_int __wrap_clGetEventProfilingInfo(cl_event event, cl_profiling_info what, size_t room,
                                      void *value, size_t *size);
cl_int __wrap_clGetEventProfilingInfo(cl_event event, cl_profiling_info what, size_t room,
                                      void *value, size_t *size)
{
    cl_int code = __real_clGetEventProfilingInfo(event, what, room, value, size);
    if (!events_have_times && code == CL_SUCCESS)
        *(cl_ulong *)value = 0;
    return code;
}

static void test_queue(void)
{
    qn_context *context = qn_open_with(&(struct qn_options){.profile = true});
    if (!context)
        bail_out("%s", qn_error(NULL));
    cl_kernel kernel;
    float value = 0;
    cl_mem buffer = device_buffer(context, sizeof value);
    device_kernels(context, &(struct kernel_key){&answer, "other", "#define BASE 1.0f\n"}, 1,
                   &kernel);
    clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
    struct command command = {.op = "attention",
                              .node = "h.0.attn",
                              .variant = "plain",
                              .kernel = kernel,
                              .dims = 1,
                              .global = {1},
                              .local = {1},
                              .cost = {1e6, 4e6}};
    struct command commands[200];
    for (int i = 0; i < 200; i++)
        commands[i] = command;
    commands[100].kernel = NULL;
    commands[100].call = refuse;
    commands[100].arguments = &(int){CL_SUCCESS};
    is_int(device_enqueue(context, commands, 200), 0, "200 commands");
    is_int(qn_finish(context), 0, "end");
    char *printed = NULL;
    size_t size;
    FILE *file = open_memstream(&printed, &size);
    is_int(qn_profile_print(context, file), 0, "the profile is printed");
    fclose(file);
    ok(has(printed, "attention plain") && has(printed, " 199 ") && has(printed, "other") &&
           has(printed, "(call)") && has(printed, "100.0%") && has(printed, "total"),
       "with the operation, its kernels, calls and share");
    free(printed);
    qn_profile *profile = qn_profile_new(context);
    const struct qn_profile_line *lines = profile ? profile->lines : NULL;
    ok(lines && profile->count == 3 && !lines[0].is_part && !*lines[0].kernel &&
           lines[0].calls == 199 && lines[0].flops == 200e6 && lines[0].bytes == 800e6,
       "a line for the variant: calls, and costs of all commands");
    ok(lines && lines[1].is_part && lines[2].is_part && strcmp(lines[1].kernel, "other") == 0 &&
           strcmp(lines[2].kernel, "(call)") == 0 && lines[1].calls == 199 && lines[2].calls == 1 &&
           lines[1].seconds + lines[2].seconds == lines[0].seconds,
       "and for each of its kernels, that have its seconds");
    is_int(qn_profile_clear(context), QN_OK, "it is forgotten");
    ok(lines && strcmp(lines[0].op, "attention") == 0, "but for what was read");
    qn_profile_free(profile);
    profile = qn_profile_new(context);
    ok(profile && profile->count == 0, "there is nothing else");
    qn_profile_free(profile);

    bool has_no_times = context->device->info.no_event_times;
    context->device->info.no_event_times = true;
    events_have_times = false;
    is_int(device_enqueue(context, commands, 1), 0, "a device whose events have no times");
    profile = qn_profile_new(context);
    ok(profile && profile->count > 0 && profile->lines[0].seconds > 0, "is timed on the host");
    qn_profile_free(profile);
    is_int(qn_profile_clear(context), QN_OK, "it is forgotten");
    context->device->info.no_event_times = has_no_times;
    events_have_times = true;

    commands[0].local[0] = 2;
    is_int(device_enqueue(context, commands, 1), QN_ERROR_DEVICE, "a work-group that does not fit");
    ok(has(qn_error(context),
           "h.0.attn (attention): clEnqueueNDRangeKernel: CL_INVALID_WORK_GROUP_SIZE"),
       "names the node");
    qn_clear_error(context);
    commands[100].arguments = &(int){CL_MEM_OBJECT_ALLOCATION_FAILURE};
    is_int(device_enqueue(context, commands + 100, 1), QN_ERROR_DEVICE_MEMORY, "a call that fails");
    ok(has(qn_error(context), "out of memory: use a smaller batch"), "is explained");
    qn_clear_error(context);
    is_int(device_check(context, -9999, "call %d", 7), QN_ERROR_DEVICE, "an unknown code");
    ok(has(qn_error(context), "call 7: OpenCL error -9999"), "is printed");
    clReleaseKernel(kernel);
    device_buffer_free(context, buffer, sizeof value);
    qn_close(context);

    context = open_or_bail(NULL);
    is_int(qn_profile_print(context, stdout), QN_ERROR_INVALID, "no profile without asking for it");
    ok(!qn_profile_new(context) && has(qn_error(context), "without qn_options.profile"),
       "nor its lines");
    is_int(qn_profile_clear(context), QN_ERROR_INVALID, "nor anything to forget");
    qn_close(context);
}

int main(int argc, char **argv)
{
    if (argc > 1 && getenv("QUERN_TEST_FOLDER")) {
        snprintf(kernels_path, sizeof kernels_path, "%s/cl", getenv("QUERN_TEST_FOLDER"));
        return strcmp(argv[1], "compute") == 0 ? child_compute() : child_no_driver();
    }
    if (!mkdtemp(folder))
        bail_out("no folder for temporary files");
    snprintf(cache_path, sizeof cache_path, "%s/cache", folder);
    snprintf(kernels_path, sizeof kernels_path, "%s/cl", folder);
    if (mkdir(kernels_path, 0777) != 0)
        bail_out("no folder for temporary files");
    setenv("QUERN_TEST_FOLDER", folder, 1);
    setenv("QUERN_CACHE_DIR", cache_path, 1);
    unsetenv("QUERN_CL_DIR");
    test_caps();
    test_subgroups();
    test_matrix();
    test_choice();
    test_none();
    test_scanner();
    test_instances();
    test_build_error();
    test_replacement();
    test_cache();
    test_processes();
    test_memory();
    test_queue();
    qn_cache_clear(NULL, NULL);
    rmdir(cache_path);
    rmdir(kernels_path);
    rmdir(folder);
    return done_testing();
}

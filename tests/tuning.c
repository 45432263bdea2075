/* The tuning file: what it may hold, whom it is for, and that plans obey it. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "gemm/tuning.h"
#include "graph/plan.h"

#include "tap.h"
#include "files.h"

#define HEAD "quern tuning 1\ndevice none\n"

static bool has(const char *text, const char *part)
{
    bool found = strstr(text, part) != NULL;
    if (!found)
        note("no \"%s\" in: %s", part, text);
    return found;
}

static const char *file_of(const char *text)
{
    return write_file("file.tuning", text, strlen(text));
}

/* ---- Reading ---- */

static const struct {
    const char *what, *text, *message; /* NULL: it is read */
} files[] = {
    {"choices, comments and blank lines",
     "# first\n\nquern tuning 1\r\n  device none  \n# matmul of no type\n"
     "matmul f32 NN 64x64x64 tiled/32\n\tmatmul  bf16 NT 1x1024x2147483648 skinny # fast",
     NULL},
    {"no choices", HEAD, NULL},
    {"an empty file", "", "line 1: expected \"quern tuning 1\", found nothing"},
    {"another file", "{}", "line 1: expected \"quern tuning 1\", found \"{}\""},
    {"another version", "quern tuning 2\n", "found \"quern tuning 2\""},
    {"no device", "quern tuning 1\nmatmul f32 NN 64x64x64 cpu\n", "line 2: expected device"},
    {"no device at all", "quern tuning 1\n", "expected device, and its name, found nothing"},
    {"another device", "quern tuning 1\ndevice Deep Thought, driver 42\n",
     "line 2: it is for \"Deep Thought, driver 42\", but this is \"none\": make one"},
    {"another operation", HEAD "softmax f32 NN 64x64x64 cpu\n", "line 3: expected matmul"},
    {"another type", HEAD "matmul i32 NN 64x64x64 cpu\n", "expected f32, f16 or bf16, found"},
    {"another transposition", HEAD "matmul f32 nt 64x64x64 cpu\n", "expected NN, NT, TN or TT"},
    {"no power of two", HEAD "matmul f32 NN 64x65x64 cpu\n",
     "line 3: expected sizes MxNxK, powers of two up to 2147483648, found \"64x65x64\""},
    {"two sizes", HEAD "matmul f32 NN 64x64 cpu\n", "found \"64x64\""},
    {"four sizes", HEAD "matmul f32 NN 64x64x64x64 cpu\n", "found \"64x64x64x64\""},
    {"a size of nothing", HEAD "matmul f32 NN 64x0x64 cpu\n", "found \"64x0x64\""},
    {"a negative size", HEAD "matmul f32 NN 64x-64x64 cpu\n", "found \"64x-64x64\""},
    {"a size beyond all", HEAD "matmul f32 NN 64x64x99999999999999999999 cpu\n", "powers of two"},
    {"no choice", HEAD "matmul f32 NN 64x64x64\n", "tiled/64, tiled/32, found nothing"},
    {"an unknown choice", HEAD "\n# x\nmatmul f32 NN 64x64x64 \x1b[31mfast\n",
     "line 5: expected one of default, clblast,"},
    {"a tile that is none", HEAD "matmul f32 NN 64x64x64 tiled/48\n", "found \"tiled/48\""},
    {"a variant without its tile", HEAD "matmul f32 NN 64x64x64 tiled\n", "found \"tiled\""},
    {"a class twice",
     HEAD "matmul f32 NN 64x64x64 cpu\nmatmul f32 NT 64x64x64 cpu\nmatmul f32 NN 64x64x64 skinny\n",
     "line 5: expected each class of products once"},
};

static void test_reading(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        qn_context *qn =
            qn_open_with(&(struct qn_options){.device = "none", .tuning = file_of(files[i].text)});
        const char *message = files[i].message;
        ok(message ? !qn && has(qn_error(NULL), message) && has(qn_error(NULL), "file.tuning")
                   : qn && strlen(qn_tuning_hash(qn)) == 32,
           "%s: %s", files[i].what, message ? "refused" : "read");
        qn_close(qn);
    }
    char *large = malloc(1 << 20);
    if (!large)
        bail_out("out of memory");
    memset(large, '#', 1 << 20);
    const char *path = write_file("large.tuning", large, 1 << 20);
    free(large);
    ok(!qn_open_with(&(struct qn_options){.device = "none", .tuning = path}) &&
           has(qn_error(NULL), "large.tuning"),
       "a file that is too large: refused");
    ok(!qn_open_with(&(struct qn_options){.device = "none", .tuning = in_folder("absent")}) &&
           has(qn_error(NULL), "cannot read"),
       "a file that is not there: refused");
}

/* ---- Where it comes from ---- */

static void test_environment(void)
{
    setenv("QUERN_TUNING", in_folder("absent"), 1);
    qn_context *without = qn_open_with(&(struct qn_options){.tuning = ""});
    ok(without && !*qn_tuning_hash(without),
       "an empty option is no file, whatever QUERN_TUNING says");
    ok(!qn_open(NULL) && has(qn_error(NULL), "absent"), "QUERN_TUNING is read");
    qn_context *none = qn_open("none");
    ok(none && !*qn_tuning_hash(none), "but where there is no device");
    char *head = without ? tuning_head(without) : NULL;
    if (!head)
        bail_out("%s", qn_error(without));
    setenv("QUERN_TUNING", file_of(head), 1);
    qn_context *with = qn_open(NULL);
    ok(with && *qn_tuning_hash(with), "a file for the device that is there");
    if (!with)
        note("%s", qn_error(NULL));
    free(head);
    unsetenv("QUERN_TUNING");
    qn_close(none);
    qn_close(with);
    qn_close(without);
}

/* ---- Obedience ---- */

static const struct {
    const char *what, *caps, *gemm, *choice;
    size_t batch, m, n, k;
    const char *variant; /* that a plan takes */
    const char *tile;    /* "#define TILE 64"; NULL: whatever */
} plans[] = {
    {"nothing", "class=gpu", NULL, "", 1, 100, 90, 70, "tiled", "TILE 64\n"},
    {"the default", "class=gpu", NULL, "matmul f32 NN 128x128x128 default", 1, 100, 90, 70, "tiled",
     "TILE 64\n"},
    {"a tile", "class=gpu", NULL, "matmul f32 NN 128x128x128 tiled/32", 1, 100, 90, 70, "tiled",
     "TILE 32\n"},
    {"a tile, larger than work-groups", "class=gpu,max_work_group=64", NULL,
     "matmul f32 NN 128x128x128 tiled/128", 1, 100, 90, 70, "tiled", "TILE 64\n"},
    {"a variant for another class of devices", "class=gpu", NULL, "matmul f32 NN 128x128x128 cpu",
     1, 100, 90, 70, "tiled", "TILE 64\n"},
    {"a variant that does not fit", "class=gpu", NULL, "matmul f32 NN 128x128x128 skinny", 1, 100,
     90, 70, "tiled", NULL},
    {"another class of sizes", "class=gpu", NULL, "matmul f32 NN 128x64x128 tiled/32", 1, 100, 90,
     70, "tiled", "TILE 64\n"},
    {"another transposition", "class=gpu", NULL, "matmul f32 NT 128x128x128 tiled/32", 1, 100, 90,
     70, "tiled", "TILE 64\n"},
    {"another type", "class=gpu", NULL, "matmul f16 NN 128x128x128 tiled/32", 1, 100, 90, 70,
     "tiled", "TILE 64\n"},
    {"a product, not a batch", "class=gpu", NULL, "matmul f32 NN 128x128x128 tiled/32", 3, 100, 90,
     70, "tiled", "TILE 128\n"},
    {"parts, and their tile", "class=gpu", NULL, "matmul f32 NN 64x64x4096 split/32", 1, 64, 64,
     4096, "split", "TILE 32\n"},
    {"no parts", "class=gpu", NULL, "matmul f32 NN 64x64x4096 tiled/64", 1, 64, 64, 4096, "tiled",
     "TILE 64\n"},
    {"tiles of instructions", "class=gpu,matrix=emulated", NULL,
     "matmul bf16 NN 512x512x512 matrix/64", 1, 512, 512, 512, "matrix", "TILE 64\n"},
    {"no instructions", "class=gpu,matrix=emulated", NULL, "matmul bf16 NN 512x512x512 tiled/64", 1,
     512, 512, 512, "tiled", "TILE 64\n"},
#ifdef HAVE_CLBLAST
    {"CLBlast", "class=gpu,clblast=1", NULL, "matmul f32 NN 128x128x128 clblast", 1, 100, 90, 70,
     "clblast", NULL},
    {"CLBlast, against --gemm own", "class=gpu,clblast=1", "own",
     "matmul f32 NN 128x128x128 clblast", 1, 100, 90, 70, "tiled", NULL},
    {"CLBlast, which cannot be used", "class=gpu,clblast=0", NULL,
     "matmul f32 NN 128x128x128 clblast", 1, 100, 90, 70, "tiled", NULL},
    {"tiles, against --gemm clblast", "class=gpu,clblast=1", "clblast",
     "matmul f32 NN 128x128x128 tiled/64", 1, 100, 90, 70, "clblast", NULL},
#endif
};

static const char *defines_of_product(const qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct step *step = plan->steps[i];
        if (step->variant && strcmp(step->node->op->name, "matmul") == 0)
            return step->commands[0].defines ? step->commands[0].defines : "";
    }
    return "";
}

static qn_node *matrix(qn_graph *graph, enum qn_type type, size_t batch, size_t rows,
                       size_t columns)
{
    return qn_input(graph, "matrix", type,
                    batch > 1 ? QN_SHAPE(batch, rows, columns) : QN_SHAPE(rows, columns));
}

static void test_plan(size_t row)
{
    char text[200];
    snprintf(text, sizeof text, HEAD "%s\n", plans[row].choice);
    setenv("QUERN_CAPS", plans[row].caps, 1);
    qn_context *qn = qn_open_with(
        &(struct qn_options){.device = "none", .gemm = plans[row].gemm, .tuning = file_of(text)});
    if (!qn)
        bail_out("%s", qn_error(NULL));
    enum qn_type type = strstr(plans[row].choice, " bf16 ") ? QN_BF16 : QN_F32;
    qn_graph *graph = qn_graph_new(qn);
    size_t batch = plans[row].batch;
    qn_node *a = matrix(graph, type, batch, plans[row].m, plans[row].k);
    qn_node *b = matrix(graph, type, batch, plans[row].k, plans[row].n);
    qn_node *y = qn_matmul(a, b);
    qn_plan *plan = qn_plan_new(graph, &y, 1);
    const char *variant = plan ? tuning_variant(plan) : NULL;
    const char *defines = plan ? defines_of_product(plan) : "";
    ok(variant && strcmp(variant, plans[row].variant) == 0 &&
           (!plans[row].tile || has(defines, plans[row].tile)),
       "obeyed: %s", plans[row].what);
    if (!variant || strcmp(variant, plans[row].variant) != 0)
        note("%s, expected %s; %s", variant ? variant : "none", plans[row].variant, qn_error(qn));
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_close(qn);
    unsetenv("QUERN_CAPS");
}

/* ---- CLBlast's bounds ---- */

#ifdef HAVE_CLBLAST
/* Whether it takes a batch with these steps between the matrices of a, and likewise with those between the matrices of b. */
static bool clblast_takes(size_t outer, size_t inner, size_t outer_step, size_t inner_step)
{
    const struct qn_caps caps = {.clblast = true};
    const struct gemm_problem problem = {.m = 8,
                                         .n = 8,
                                         .k = 8,
                                         .a_row = 8,
                                         .b_row = 8,
                                         .batch = {outer, inner},
                                         .a_batch = {outer_step, inner_step},
                                         .b_batch = {64, 64}};
    struct gemm_problem swapped = problem;
    swapped.a_batch[0] = swapped.a_batch[1] = 64;
    swapped.b_batch[0] = outer_step;
    swapped.b_batch[1] = inner_step;
    bool takes_a = gemm_clblast_fits(&problem, &caps), takes_b = gemm_clblast_fits(&swapped, &caps);
    ok(takes_a == takes_b, "a and b have the same bounds");
    return takes_a;
}

static void test_bounds(void)
{
    const size_t large = (size_t)1 << 30;
    ok(clblast_takes(2, 2, 64, 64), "CLBlast takes a batch");
    ok(clblast_takes(2, 2, large, 64) && clblast_takes(2, 2, 64, large), "one of large steps");
    ok(!clblast_takes(3, 2, large, 64), "not one with more than it can count, by the outer axis");
    ok(!clblast_takes(2, 3, 64, large), "or by the inner one");
    ok(!clblast_takes(2, 2, large, large), "or by both");
}
#else
static void test_bounds(void)
{
    skip("without CLBlast: its bounds");
}
#endif

/* ---- Results ---- */

enum { ROWS = 70, COLUMNS = 90, DEPTH = 50 };

/* The product of numbers that are exact in any order of adding up, so that every choice must give the same. */
static bool multiplies(qn_context *qn, const char *variant)
{
    static float a[ROWS * DEPTH], b[DEPTH * COLUMNS], y[ROWS * COLUMNS];
    for (size_t i = 0; i < ROWS * DEPTH; i++)
        a[i] = (float)((int)(i * 7 % 23) - 11);
    for (size_t i = 0; i < DEPTH * COLUMNS; i++)
        b[i] = (float)((int)(i * 5 % 19) - 9);
    qn_graph *graph = qn_graph_new(qn);
    qn_node *left = qn_input(graph, "a", QN_F32, QN_SHAPE(ROWS, DEPTH));
    qn_node *right = qn_input(graph, "b", QN_F32, QN_SHAPE(DEPTH, COLUMNS));
    qn_node *product = qn_matmul(left, right);
    qn_plan *plan = qn_plan_new(graph, &product, 1);
    bool is_good = plan && strcmp(tuning_variant(plan), variant) == 0 &&
                   qn_set(plan, left, a) == QN_OK && qn_set(plan, right, b) == QN_OK &&
                   qn_run(plan) == QN_OK && qn_get(plan, product, y) == QN_OK;
    for (size_t i = 0; is_good && i < ROWS * COLUMNS; i++) {
        float sum = 0;
        for (size_t k = 0; k < DEPTH; k++)
            sum += a[i / COLUMNS * DEPTH + k] * b[k * COLUMNS + i % COLUMNS];
        is_good = y[i] == sum;
    }
    if (!is_good)
        note("%s", qn_error(qn));
    qn_plan_free(plan);
    qn_graph_free(graph);
    return is_good;
}

static void test_results(void)
{
    static const char *const choices[][2] = {{"tiled/32", "tiled"}, {"tiled/64", "tiled"}};
    setenv("QUERN_CAPS", "class=gpu", 1);
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        qn_context *plain = qn_open(NULL);
        char *head = plain ? tuning_head(plain) : NULL, text[1000];
        if (!head)
            bail_out("%s", qn_error(plain));
        snprintf(text, sizeof text, "%smatmul f32 NN 128x128x64 %s\n", head, choices[i][0]);
        qn_context *qn = qn_open_with(&(struct qn_options){.tuning = file_of(text)});
        ok(qn && multiplies(qn, choices[i][1]), "%s: right results", choices[i][0]);
        free(head);
        qn_close(qn);
        qn_close(plain);
    }
    unsetenv("QUERN_CAPS");
}

int main(void)
{
    unsetenv("QUERN_CAPS");
    unsetenv("QUERN_TUNING");
    make_test_folder();
    test_reading();
    test_environment();
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        test_plan(i);
    test_bounds();
    test_results();
    remove_test_folder();
    return done_testing();
}

/* What tests of plans share: a graph in a context without a device, and checks of what was planned.
 * Include after tap.h. */
#ifndef PLANNING_H
#define PLANNING_H

#include <stdlib.h>

#include <quern/ops.h>

#include "graph/plan.h"

#include "replay.h"

static struct {
    qn_context *qn;
    qn_graph *graph;
} at;

static void begin(const char *caps)
{
    setenv("QUERN_CAPS", caps, 1);
    at.qn = qn_open("none");
    if (!at.qn)
        bail_out("no context: %s", qn_error(NULL));
    at.graph = qn_graph_new(at.qn);
}

static void end(void)
{
    qn_graph_free(at.graph);
    qn_close(at.qn);
}

/* No error so far; whatever there was is forgotten. */
static void no_error(const char *test)
{
    ok(!*qn_error(at.qn), "%s: no error", test);
    if (*qn_error(at.qn))
        note("%s", qn_error(at.qn));
    qn_clear_error(at.qn);
}

static qn_node *input(size_t rows, size_t columns)
{
    return qn_input(at.graph, "x", QN_F32, QN_SHAPE(rows, columns));
}

static qn_tensor *tensor(const char *name, size_t rows, size_t columns)
{
    return qn_tensor_new(at.qn, name, QN_F32, QN_SHAPE(rows, columns));
}

static qn_plan *plan_of(qn_node *const *roots, size_t count)
{
    qn_plan *plan = qn_plan_new(at.graph, roots, count);
    if (!plan)
        note("%s", qn_error(at.qn));
    return plan;
}

static size_t count_copies(const qn_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        count += plan->steps[i]->target != NULL;
    return count;
}

static void check_memory(const qn_plan *plan, const char *name)
{
    const char *wrong = replay_plan(plan);
    ok(!*wrong, "%s: every value stays until it is read", name);
    if (*wrong)
        note("%s", wrong);
    ok(slots_are_apart(plan), "%s: no two values share memory while both are in use", name);
}

#endif

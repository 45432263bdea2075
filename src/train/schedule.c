/* Learning rates as nodes of the step. */
#include <math.h>

#include <quern/train.h>

#include "graph/graph.h"

/* How far the step is from the end of the warm-up to the last one, from 0 to 1. */
static qn_node *progress(qn_node *step, const struct qn_schedule *schedule)
{
    double span = schedule->total > schedule->warmup ? schedule->total - schedule->warmup : 1;
    return qn_clamp(qn_scale(qn_offset(step, -schedule->warmup), 1 / span), 0, 1);
}

static qn_node *cosine(qn_node *step, const struct qn_schedule *schedule)
{
    qn_node *wave = qn_cos(qn_scale(progress(step, schedule), acos(-1)));
    return qn_offset(qn_scale(qn_offset(wave, 1), (schedule->rate - schedule->min_rate) / 2),
                     schedule->min_rate);
}

static qn_node *linear(qn_node *step, const struct qn_schedule *schedule)
{
    return qn_offset(qn_scale(progress(step, schedule), schedule->min_rate - schedule->rate),
                     schedule->rate);
}

static qn_node *constant(qn_node *step, const struct qn_schedule *schedule)
{
    return qn_constant(qn_node_graph(step), schedule->rate);
}

static qn_node *inverse_sqrt(qn_node *step, const struct qn_schedule *schedule)
{
    qn_node *since = qn_maximum(step, qn_constant(qn_node_graph(step), 1));
    return qn_scale(qn_rsqrt(since), schedule->rate * sqrt(fmax(schedule->warmup, 1)));
}

/* gamma^floor(s / period) */
static qn_node *steps(qn_node *step, const struct qn_schedule *schedule)
{
    qn_node *periods = qn_scale(qn_offset(step, 0.5), 1 / schedule->period);
    qn_node *times = qn_cast(qn_cast(periods, QN_I32), QN_F32);
    return qn_scale(qn_exp(qn_scale(times, log(schedule->gamma))), schedule->rate);
}

/* Vaswani et al., equation 3, whose steps count from 1. */
static qn_node *noam(qn_node *step, const struct qn_schedule *schedule)
{
    qn_node *s = qn_offset(step, 1);
    double warmup = fmax(schedule->warmup, 1);
    return qn_scale(qn_minimum(qn_rsqrt(s), qn_scale(s, pow(warmup, -1.5))),
                    schedule->rate / sqrt(schedule->width));
}

static bool is_schedule(qn_context *context, const struct qn_schedule *schedule)
{
    const char *wrong = NULL;
    if ((unsigned)schedule->kind > QN_NOAM)
        wrong = "there is no such kind";
    else if (schedule->kind == QN_STEPS && !(schedule->period > 0 && schedule->gamma > 0))
        wrong = "steps need a period and a gamma above 0";
    else if (schedule->kind == QN_NOAM && !(schedule->width > 0))
        wrong = "noam needs a width above 0";
    if (wrong)
        context_fail(context, QN_ERROR_INVALID, "learning_rate: %s", wrong);
    return !wrong;
}

qn_node *qn_learning_rate(qn_node *step, struct qn_schedule schedule)
{
    static qn_node *(*const after[])(qn_node *, const struct qn_schedule *) = {
        [QN_COSINE] = cosine,     [QN_LINEAR] = linear,
        [QN_CONSTANT] = constant, [QN_INVERSE_SQRT] = inverse_sqrt,
        [QN_STEPS] = steps,       [QN_NOAM] = noam};
    if (!step || !is_schedule(step->graph->context, &schedule))
        return NULL;
    qn_node *rate = after[schedule.kind](step, &schedule);
    if (schedule.kind == QN_NOAM || schedule.warmup <= 0)
        return rate;
    qn_node *rising = qn_scale(step, schedule.rate / schedule.warmup);
    return qn_where(qn_less(step, qn_constant(qn_node_graph(step), schedule.warmup)), rising, rate);
}

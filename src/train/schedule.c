/* Learning rates as nodes of the step. */
#include <quern/train.h>

qn_node *qn_cosine_schedule(qn_node *step, double rate, double min_rate, double warmup,
                            double total)
{
    const double pi = 3.14159265358979323846;
    double span = total > warmup ? total - warmup : 1;
    qn_node *done = qn_clamp(qn_scale(qn_offset(step, -warmup), 1 / span), 0, 1);
    qn_node *falling = qn_offset(
        qn_scale(qn_offset(qn_cos(qn_scale(done, pi)), 1), (rate - min_rate) / 2), min_rate);
    if (warmup <= 0)
        return falling;
    qn_node *rising = qn_scale(step, rate / warmup);
    return qn_where(qn_less(step, qn_constant(qn_node_graph(step), warmup)), rising, falling);
}

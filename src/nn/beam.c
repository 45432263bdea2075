/* Beam search of one sequence, as generate() of Hugging Face's transformers does it. */
#include "nn/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool hypotheses_new(struct beam *beam, qn_context *context, struct hypothesis **all,
                           size_t count)
{
    *all = context_alloc(context, count, sizeof **all);
    for (size_t i = 0; *all && i < count; i++) {
        struct hypothesis *one = &(*all)[i];
        one->tokens = context_alloc(context, beam->most, sizeof *one->tokens);
        if (!one->tokens)
            return false;
        if (!decoding_needs_attention(beam->options))
            continue;
        one->attention = context_alloc(context, beam->most * beam->source, sizeof(float));
        if (!one->attention)
            return false;
    }
    return *all;
}

static void hypotheses_free(struct hypothesis *all, size_t count)
{
    for (size_t i = 0; all && i < count; i++) {
        free(all[i].tokens);
        free(all[i].attention);
    }
    free(all);
}

bool beam_init(struct beam *beam, qn_context *context)
{
    size_t width = beam->width = size_max(beam->options->beams, 1);
    beam->n_running = beam->options->draws ? width : 1;
    return hypotheses_new(beam, context, &beam->running, width) &&
           hypotheses_new(beam, context, &beam->next, width) &&
           hypotheses_new(beam, context, &beam->finished, width + 1);
}

/* What memory there is for `bytes` of it; all of it if there is none for less. */
static void *shrink(void *memory, size_t bytes)
{
    void *less = memory ? realloc(memory, size_max(bytes, 1)) : NULL;
    return less ? less : memory;
}

void beam_settle(struct beam *beam)
{
    hypotheses_free(beam->running, beam->width);
    hypotheses_free(beam->next, beam->width);
    beam->running = beam->next = NULL;
    for (size_t i = 0; i <= beam->width; i++) {
        struct hypothesis *one = &beam->finished[i];
        size_t count = i < beam->n_finished ? one->count : 0;
        one->tokens = shrink(one->tokens, count * sizeof *one->tokens);
        if (!beam->options->keep_attention)
            count = 0;
        one->attention = shrink(one->attention, count * beam->source * sizeof *one->attention);
    }
}

void beam_release(struct beam *beam)
{
    hypotheses_free(beam->running, beam->width);
    hypotheses_free(beam->next, beam->width);
    hypotheses_free(beam->finished, beam->width + 1);
    *beam = (struct beam){0};
}

/* ---- Scores ---- */

/* Of tokens of the source that were hardly looked at (Wu et al., 2016). */
static double coverage(const struct beam *beam, const struct hypothesis *hypothesis)
{
    static const double least = 1e-9;
    double penalty = 0;
    for (size_t j = 0; j < beam->source; j++) {
        double seen = 0;
        for (size_t i = 0; i < hypothesis->count; i++)
            seen += (double)hypothesis->attention[i * beam->source + j];
        penalty += log(fmin(fmax(seen, least), 1));
    }
    return beam->options->coverage_penalty * penalty;
}

static double normalised(const struct beam *beam, double sum, size_t length)
{
    return sum / pow((double)length, beam->options->length_penalty);
}

/* ---- A step ---- */

static void copy(const struct beam *beam, const struct hypothesis *from, struct hypothesis *to)
{
    memcpy(to->tokens, from->tokens, from->count * sizeof *to->tokens);
    to->count = from->count;
    to->score = from->score;
    if (to->attention)
        memcpy(to->attention, from->attention, from->count * beam->source * sizeof *to->attention);
}

/* `to` becomes what a candidate makes of `from`. */
static void extend(const struct beam *beam, const struct hypothesis *from, struct hypothesis *to,
                   double sum, int32_t token, const float *attention)
{
    copy(beam, from, to);
    if (to->attention)
        memcpy(to->attention + from->count * beam->source, attention,
               beam->source * sizeof *to->attention);
    to->tokens[to->count++] = token;
    to->score = sum;
}

/* The last of the places behind the best takes in the new one, which goes to where its score belongs. */
static void finish(struct beam *beam)
{
    struct hypothesis *all = beam->finished, new = all[beam->n_finished];
    size_t i = beam->n_finished;
    new.score = normalised(beam, new.score, new.count);
    if (beam->options->coverage_penalty != 0)
        new.score += coverage(beam, &new);
    for (; i > 0 && all[i - 1].score < new.score; i--)
        all[i] = all[i - 1];
    all[i] = new;
    beam->n_finished = size_min(beam->n_finished + 1, beam->width);
}

static bool is_over(const struct beam *beam)
{
    if (beam->n_running == 0)
        return true;
    if (beam->n_finished < beam->width)
        return false;
    return beam->options->early_stopping ||
           normalised(beam, beam->running[0].score, beam->length) <=
               beam->finished[beam->width - 1].score;
}

/* What runs now is what was to come next. */
static void go_on(struct beam *beam, size_t n_next)
{
    struct hypothesis *swap = beam->running;
    beam->running = beam->next;
    beam->next = swap;
    beam->n_running = n_next;
}

/* Adds a token to a hypothesis; whether that goes on, as number n_next. */
static bool continues(struct beam *beam, const struct candidates *candidates, size_t parent,
                      double sum, int32_t token, size_t n_next)
{
    bool ends = token == beam->end || beam->length == beam->most;
    const float *attention =
        candidates->attention ? candidates->attention + parent * candidates->row : NULL;
    extend(beam, &beam->running[parent],
           ends ? &beam->finished[beam->n_finished] : &beam->next[n_next], sum, token, attention);
    if (ends)
        finish(beam);
    return !ends;
}

/* Nothing may follow hypothesis i: it ends as it is. */
static void end_as_it_is(struct beam *beam, size_t i)
{
    if (beam->running[i].count == 0)
        return;
    copy(beam, &beam->running[i], &beam->finished[beam->n_finished]);
    finish(beam);
}

/* All that run end where they must, with a token that they had no choice about; false if they may go on. */
static bool force_end(struct beam *beam, const struct candidates *candidates)
{
    if (!beam->forces_end || beam->length < beam->most)
        return false;
    for (size_t i = 0; i < beam->n_running; i++)
        continues(beam, candidates, i, beam->running[i].score, beam->end, 0);
    return true;
}

void beam_draw(struct beam *beam, const struct candidates *candidates, size_t *parents)
{
    size_t n_next = 0;
    beam->length++;
    bool is_forced = force_end(beam, candidates);
    for (size_t i = 0; !is_forced && i < beam->n_running; i++) {
        double sum = (double)candidates->scores[i];
        if (!(sum > NO_CANDIDATE))
            end_as_it_is(beam, i);
        else if (continues(beam, candidates, i, sum, candidates->indices[i], n_next))
            parents[n_next++] = i;
    }
    go_on(beam, n_next);
    beam->is_done = n_next == 0;
}

void beam_advance(struct beam *beam, const struct candidates *candidates, size_t *parents)
{
    size_t n_next = 0;
    beam->length++;
    bool is_forced = force_end(beam, candidates);
    bool has_some = candidates->count > 0 && (double)candidates->scores[0] > NO_CANDIDATE;
    for (size_t i = 0; !is_forced && !has_some && i < beam->n_running; i++)
        end_as_it_is(beam, i);
    for (size_t i = 0; !is_forced && i < candidates->count && n_next < beam->width; i++) {
        double sum = (double)candidates->scores[i];
        size_t index = (size_t)candidates->indices[i], parent = index / candidates->vocabulary;
        int32_t token = (int32_t)(index % candidates->vocabulary);
        if (!(sum > NO_CANDIDATE) || parent >= beam->n_running)
            break;
        bool ends = token == beam->end || beam->length == beam->most;
        if (ends && i >= beam->width)
            continue;
        if (continues(beam, candidates, parent, sum, token, n_next))
            parents[n_next++] = parent;
    }
    go_on(beam, n_next);
    beam->is_done = is_over(beam);
}

/* ---- No n-gram twice ---- */

void beam_forbid(const struct beam *beam, size_t i, float *forbidden, float value)
{
    const struct hypothesis *hypothesis = &beam->running[i];
    size_t n = beam->options->no_repeat_ngram, count = hypothesis->count;
    if (n == 0 || count + 1 < n)
        return;
    const int32_t *last = hypothesis->tokens + count - (n - 1);
    for (size_t at = 0; at + n <= count; at++)
        if (memcmp(hypothesis->tokens + at, last, (n - 1) * sizeof *last) == 0)
            forbidden[hypothesis->tokens[at + n - 1]] = value;
}

/* Beam search of one sequence, on the host: which hypotheses go on, and which have ended. */
#ifndef QUERN_BEAM_H
#define QUERN_BEAM_H

#include <quern/seq2seq.h>

#include "device/context.h"

/* Candidates of a score no greater than this are none: what they continue is no hypothesis, or their token is forbidden. */
#define NO_CANDIDATE (-1e29)

/* Whether the attention of each token must be known. */
static inline bool decoding_needs_attention(const struct qn_decoding *options)
{
    return options->keep_attention || options->coverage_penalty != 0;
}

struct hypothesis {
    double score; /* while it runs, the sum of its logarithms of probabilities */
    size_t count;
    int32_t *tokens;
    float *attention; /* (count, source); NULL: it is not kept */
};

struct beam {
    const struct qn_decoding *options;
    size_t source; /* tokens of the source */
    size_t most;   /* tokens of a hypothesis */
    int32_t end;   /* the token that ends one; -1: none */
    bool
        forces_end; /* the last token of one that is as long as may be is the end, whatever its probability */

    size_t width;  /* hypotheses at most */
    size_t length; /* of those that run */
    bool is_done;
    size_t n_running, n_finished;
    struct hypothesis *running, *next, *finished; /* finished: best first */
};

/* An empty hypothesis runs; or, if they draw, as many as there may be.  The caller has set the fields above.  False if there is no memory. */
bool beam_init(struct beam *beam, qn_context *context);

/* Keeps what has ended alone, in no more memory than it takes. */
void beam_settle(struct beam *beam);
void beam_release(struct beam *beam);

/* What the device found for the hypotheses that run: the best candidates of all, `count` of them, best first; index / vocabulary is the
 * hypothesis that one continues, index % vocabulary its token. */
struct candidates {
    const float *scores;
    const int32_t *indices;
    size_t count, vocabulary;
    const float *attention; /* (width, row): of each hypothesis; NULL: not asked for */
    size_t row;
};

/* Makes a step; parents[i] is which of the hypotheses became the i-th of those that run now. */
void beam_advance(struct beam *beam, const struct candidates *candidates, size_t *parents);

/* The same where each hypothesis has drawn its own token: candidate i continues hypothesis i, and its index is the token. */
void beam_draw(struct beam *beam, const struct candidates *candidates, size_t *parents);

/* Sets to `value` what may not follow hypothesis i, since an n-gram would be there twice. */
void beam_forbid(const struct beam *beam, size_t i, float *forbidden, float value);

#endif

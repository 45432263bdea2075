/* A training run: its settings, where it stands, and training.json, which keeps both. */
#ifndef QUERN_RUN_H
#define QUERN_RUN_H

#include <jansson.h>

#include <quern/train.h>

#include "cli/cli.h"

/* What is trained: a command and a table of options each. */
enum family {
    FAMILY_GPT,
    FAMILY_LLAMA,
    FAMILY_RNN,
    FAMILY_LSTM,
    FAMILY_GRU,
    FAMILY_CLASSIFY,
    FAMILY_SEQ2SEQ,
    FAMILY_TRANSFORMER,
    FAMILIES
};

/* What the options of `quern train` say, and a resumed run goes on with. */
struct settings {
    enum family family;
    const char *tokenizer, *log, *device, *gemm; /* NULL: not given */
    double valid_fraction;
    uint64_t layers, heads, width, context;
    uint64_t kv_heads; /* this and the next: of Llama */
    double theta;
    const char *embeddings;   /* "tied" or "untied": of Llama and recurrent models */
    uint64_t units;           /* of recurrent models */
    const char *state;        /* "reset" or "carry": of recurrent models */
    const char *nonlinearity; /* "tanh" or "relu": of an RNN */
    const char *model;        /* of classifiers and seq2seq: "lstm", "gru" or "rnn" */
    const char *direction;
    const char *pooling;               /* of classifiers; and the next ones */
    const char *format, *text, *label; /* of its data; NULL: not given */
    const char *damaged;               /* of examples: "stop" or "skip" */
    uint64_t most_tokens;              /* of a text */
    const char *target_tokenizer;      /* of pairs, "joint": the source's; and the next ones */
    uint64_t vocabulary;
    double label_smoothing;
    const char *attention, *bridge; /* of seq2seq; and the next one */
    double sampling;
    const char *norm, *positions, *activation; /* of Transformers; and the next one */
    uint64_t inner;
    double dropout;
    uint64_t batch, accumulate;
    uint64_t steps;    /* that the learning rate is planned for */
    uint64_t epochs;   /* that `steps` is to be counted from when the data is there; 0: it is not */
    uint64_t by_clock; /* 1: the run ends when its time does, whatever `steps` is */
    bool checkpoint;   /* activations; said anew when a run is resumed, since it changes no bit */
    const char *schedule; /* see schedule_named() */
    double learning_rate, min_learning_rate;
    uint64_t warmup, step_size;
    double gamma;
    const char *optimizer; /* see optimizer_named() */
    double weight_decay, beta1, beta2, momentum, clip;
    const char *dtype; /* see type_named() */
    double loss_scale; /* of f16, at first */
    double average;    /* decay of the weights' moving average; 0: none */
    uint64_t seed, eval_every, eval_batches, patience;
    uint64_t keep; /* checkpoints */
};

/* A file of text that was read. */
struct source {
    char *path; /* absolute */
    size_t bytes;
    uint64_t
        hash; /* FNV-1a of its contents: tells a file that was edited, not one that was forged */
};

enum { MAX_SOURCES = 4096 };
struct sources {
    struct source *at;
    size_t count;
};

struct run {
    struct settings settings;
    struct sources data;  /* in order */
    struct sources valid; /* none: a part of the data is held out */
    uint64_t step;        /* steps done */
    double seconds;       /* of all processes that worked on it */
    double best_loss;     /* of the best validation; infinite if there was none */
    double best_bleu;     /* the same; NAN if it is not measured */
    uint64_t best_step;
    uint64_t stale;              /* validations since then */
    json_t *document;            /* training.json, which strings above belong to; or NULL */
    char *device_name, *version; /* that made the checkpoint; from the document */
    char *tuning;                /* qn_tuning_hash() of the run; the same */
};

void run_release(struct run *run);

/* As `quern train` calls it: "gpt", "classify".  FAMILIES: there is none of the name. */
const char *family_name(enum family family);
enum family family_named(const char *name);
bool is_recurrent(enum family family); /* and a language model */
bool reads_pairs(enum family family);
bool carries_state(const struct settings *settings); /* of recurrent layers, from batch to batch */
bool shares_tokenizer(const struct settings *settings); /* of pairs: both sides have one */

/* The names that --dtype, --optimizer and --schedule take; false: it is none. */
bool type_named(const char *name, enum qn_type *type);
bool optimizer_named(const char *name, enum qn_optimizer_kind *kind);
bool schedule_named(const char *name, enum qn_schedule_kind *kind);

/* The settings of a new run; or of one that goes on, which `run` holds: what the command line says
 * differently is taken if it may change, else refused.  False: a message was printed. */
bool run_configure(struct run *run, const struct options *options, enum family family);
bool run_reconfigure(struct run *run, const struct options *options, enum family family);

/* FOLDER/training.json.  False and a message in `message` on failure. */
enum { RUN_MESSAGE = 1024 };
bool run_load(struct run *run, const char *folder, char message[RUN_MESSAGE]);
bool run_save(const struct run *run, const char *folder, const qn_context *qn,
              char message[RUN_MESSAGE]);

#endif

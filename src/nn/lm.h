/* Inside a decoder. */
#ifndef QUERN_GPT_H
#define QUERN_GPT_H

#include <quern/nn.h>

#include "io/config.h"
#include "nn/layers.h"

/* A side of it that the architecture lacks has no weight. */
struct gpt_block {
    struct norm attention_norm, mlp_norm;
    struct linear qkv;               /* GPT-2: (C, 3 C) */
    struct linear query, key, value; /* Llama: (C, H D), (C, G D), (C, G D) */
    struct linear attention_out;     /* (H D, C) */
    struct linear gate;              /* Llama: (C, I) */
    struct linear up, down;          /* (C, I), (I, C) */
};

struct qn_lm {
    qn_context *context;
    struct qn_lm_config config;
    struct gpt_sizes sizes;
    qn_store *store;
    qn_tensor *tokens;    /* (V, C) */
    qn_tensor *positions; /* GPT-2: (T, C) */
    struct gpt_block *blocks;
    struct norm last_norm;
    qn_tensor *head; /* (V, C); `tokens` where they are tied */
};

struct qn_lm_cache {
    size_t layers;
    qn_tensor **keys, **values; /* by layer: (rows, T, G, D) */
};

#endif

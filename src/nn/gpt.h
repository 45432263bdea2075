/* Inside a GPT. */
#ifndef QUERN_GPT_H
#define QUERN_GPT_H

#include <quern/nn.h>

#include "device/context.h"

struct gpt_block {
    qn_tensor *ln_1_weight, *ln_1_bias;     /* (C) */
    qn_tensor *c_attn_weight, *c_attn_bias; /* (C, 3 C), (3 C): query, key, value */
    qn_tensor *attn_weight, *attn_bias;     /* (C, C), (C): attn.c_proj */
    qn_tensor *ln_2_weight, *ln_2_bias;     /* (C) */
    qn_tensor *c_fc_weight, *c_fc_bias;     /* (C, I), (I) */
    qn_tensor *mlp_weight, *mlp_bias;       /* (I, C), (C): mlp.c_proj */
};

struct qn_gpt {
    qn_context *context;
    struct qn_gpt_config config;
    qn_store *store;
    qn_tensor *wte, *wpe; /* (V, C), (T, C) */
    struct gpt_block *blocks;
    qn_tensor *ln_f_weight, *ln_f_bias; /* (C) */
    qn_tensor *lm_head;                 /* (V, C); wte where they are tied */
};

struct qn_gpt_cache {
    size_t layers;
    qn_tensor **keys, **values; /* by layer: (rows, T, H, D) */
};

#endif

/* What Hugging Face's tokenizers do before and after their model, in a `tokenizer.json`: normalizer,
 * pre-tokenizer, post-processor, decoder; and how its vocabulary spells tokens. */
#ifndef QUERN_PIPELINE_H
#define QUERN_PIPELINE_H

#include "io/fields.h"
#include "text/tokenizer.h"

/* Reads the parts of a file into `cleaning` and `splitting`, and checks that they belong together;
 * `has_words`: the model is WordLevel, not BPE.  What it does not know fails. */
struct pipeline {
    enum qn_splitting splitting;
    enum qn_cleaning cleaning[QN_MAX_CLEANING];
    size_t n_cleaning;
};
bool pipeline_read(struct fields *fields, bool has_words, struct pipeline *pipeline);

/* The parts of a tokenizer; NULL or incomplete without memory. */
json_t *pipeline_normalizer(const qn_tokenizer *tokenizer);
json_t *pipeline_splitter(const qn_tokenizer *tokenizer);
json_t *pipeline_processor(const qn_tokenizer *tokenizer);
json_t *pipeline_decoder(const qn_tokenizer *tokenizer);

/* The spelling of a token that is not special, of which `written` has room for SPELLED bytes a byte
 * and a NUL. */
enum { SPELLED = 6 };
void spell_token(enum qn_splitting splitting, bool is_byte, const char *bytes, size_t length,
                 char *written);

/* The reverse, into `bytes` with room for strlen(written): the length; 0: no token is so spelled.
 * `falls_back`: tokens of bytes have names. */
size_t read_spelling(enum qn_splitting splitting, bool falls_back, const char *written, char *bytes,
                     bool *is_byte);

#endif

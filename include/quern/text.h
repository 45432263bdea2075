/* Text: tokenizers, and windows of tokens for language models.  All of it runs on the host.
 *
 * A function here that takes a context uses it only to keep the error: a context opened as "none"
 * will do. */
#ifndef QUERN_TEXT_H
#define QUERN_TEXT_H

#include <quern/quern.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Reading ---- */

/* The contents of `count` files, one after the other, with a NUL behind; free() it.  NULL if a file
 * is missing, empty, a folder or unreadable, or if there is none. */
char *qn_text_read(qn_context *context, const char *const *paths, size_t count, size_t *bytes);

/* Whether a text is UTF-8, and has no NUL unless `allows_nul`; else an error that tells name, offset
 * and line. */
int qn_text_check(qn_context *context, const char *name, const char *text, size_t bytes,
                  bool allows_nul);

/* Where the last `fraction` of a text begins, moved back to the start of a UTF-8 sequence. */
size_t qn_text_split(const char *text, size_t bytes, double fraction);

/* ---- Tokenizers ---- */

typedef struct qn_tokenizer qn_tokenizer;

/* One token for each code point that occurs in `text`, in the order of their numbers.  NULL if it
 * is not UTF-8. */
qn_tokenizer *qn_tokenizer_char(qn_context *context, const char *text, size_t bytes);

/* 256 tokens: the bytes. */
qn_tokenizer *qn_tokenizer_byte(qn_context *context);

/* Reads a tokenizer from a file `tokenizer.json`, or from a folder that has one, or has GPT-2's
 * `vocab.json` and `merges.txt`.  Reads what qn_tokenizer_save() writes, and byte-level BPE of
 * GPT-2's family; refuses the rest by name. */
qn_tokenizer *qn_tokenizer_load(qn_context *context, const char *path);

/* Writes a `tokenizer.json` by which Hugging Face's tokenizers gives the same ids; into a folder,
 * with a `tokenizer_config.json` by which transformers finds it. */
int qn_tokenizer_save(const qn_tokenizer *tokenizer, const char *path);
void qn_tokenizer_free(qn_tokenizer *tokenizer);

const char *qn_tokenizer_kind(const qn_tokenizer *tokenizer);  /* "char", "byte" or "bpe" */
size_t qn_tokenizer_vocabulary(const qn_tokenizer *tokenizer); /* ids are below this */
bool qn_tokenizer_same(const qn_tokenizer *a,
                       const qn_tokenizer *b); /* they give the same ids for every text */

/* The bytes of a token, borrowed; NULL (and no error) if the id is none. */
const char *qn_tokenizer_token(const qn_tokenizer *tokenizer, int32_t id, size_t *bytes);

/* The id of a special token, for example "<|endoftext|>"; -1 (and no error) if there is none. */
int32_t qn_tokenizer_special(const qn_tokenizer *tokenizer, const char *content);

/* Makes ids of text; free() them.  `name` stands for the text in messages ("the prompt").  Special
 * tokens in the text become their ids.  Fails on what is not UTF-8 (but for "byte"), and on a
 * character that "char" does not know. */
int qn_encode(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
              int32_t **ids, size_t *count);

/* Makes text of ids, with a NUL behind; free() it.  The text of GPT-2's tokens may be cut inside a
 * character. */
int qn_decode(const qn_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
              size_t *bytes);

/* Decodes id by id into valid UTF-8, for printing while generating: holds back the bytes of a
 * character that is not complete yet, and gives U+FFFD for bytes that are none.  The text is
 * borrowed until the next call. */
typedef struct qn_decoder qn_decoder;
qn_decoder *qn_decoder_new(const qn_tokenizer *tokenizer);
const char *qn_decoder_next(qn_decoder *decoder, int32_t id); /* NULL on an unknown id */
const char *qn_decoder_end(qn_decoder *decoder); /* what was held back; the decoder is as new */
void qn_decoder_free(qn_decoder *decoder);

/* ---- Data sets for language models ---- */

typedef struct qn_dataset qn_dataset;

/* The tokens of a text, for windows of `context_length` tokens and the ones that follow them.
 * `name` stands for it in messages.  NULL if it cannot be encoded, or is shorter than one window.
 */
qn_dataset *qn_dataset_new(qn_tokenizer *tokenizer, const char *name, const char *text,
                           size_t bytes, size_t context_length);
void qn_dataset_free(qn_dataset *dataset);

size_t qn_dataset_tokens(const qn_dataset *dataset);
size_t qn_dataset_bytes(const qn_dataset *dataset); /* of its text */

/* `rows` random windows: inputs and targets (rows, context_length), targets being the tokens that
 * follow.  Row i is a pure function of (seed, step, first_row + i), so that accumulated small
 * batches are one large batch. */
void qn_dataset_random(const qn_dataset *dataset, uint64_t seed, uint64_t step, size_t first_row,
                       size_t rows, int32_t *inputs, int32_t *targets);

/* `rows` streams, each a part of the data set from end to end: window number `step` of each, which goes on where the one before
 * ended, and from the beginning again after the last.  Whether these windows are the first ones. */
bool qn_dataset_streams(const qn_dataset *dataset, uint64_t step, size_t rows, int32_t *inputs,
                        int32_t *targets);

/* All of the data set in windows side by side, each token but the first being a target once: how
 * many windows, and `rows` of them from number `first` on.  Places behind the end have input 0 and
 * target QN_IGNORE. */
size_t qn_dataset_windows(const qn_dataset *dataset);
void qn_dataset_sequential(const qn_dataset *dataset, size_t first, size_t rows, int32_t *inputs,
                           int32_t *targets);

#ifdef __cplusplus
}
#endif
#endif

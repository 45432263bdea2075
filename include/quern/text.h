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

/* ---- Cleaning ---- */

enum qn_cleaning {
    QN_CLEAN_NFC,       /* Unicode's normal form C: a letter with its accent is one character */
    QN_CLEAN_NFKC,      /* and KC: ligatures, full-width letters and the like become plain ones */
    QN_CLEAN_LOWERCASE, /* small letters, whatever the language */
    QN_CLEAN_ACCENTS,   /* removes accents, then form C */
    QN_CLEAN_CONTROLS, /* removes control characters but tabs and line ends, and byte order marks */
    QN_CLEAN_SPACES,   /* each run of white space becomes a space; at both ends, nothing */
};
enum {
    QN_CLEANINGS = QN_CLEAN_SPACES + 1,
    QN_MAX_CLEANING = 8
}; /* steps there are; of a tokenizer */

/* "nfc", "nfkc", "lowercase", "accents", "controls", "spaces"; -1 (and no error) for others. */
int qn_cleaning_named(const char *name);

/* What the steps, one after the other, make of UTF-8, with a NUL behind; free() it.  NULL if it is
 * none. */
char *qn_clean(qn_context *context, const enum qn_cleaning *steps, size_t n_steps, const char *text,
               size_t bytes, size_t *cleaned);

/* A list of words that say little, read from a file: a word a line, in any case. */
typedef struct qn_stop_words qn_stop_words;
qn_stop_words *qn_stop_words_read(qn_context *context, const char *path);
void qn_stop_words_free(qn_stop_words *stops);

/* What is left of a text without them, words joined by single spaces, with a NUL behind; free() it.
 * A word is what stands between white space; marks around it do not count and go with it. */
char *qn_stop_words_remove(const qn_stop_words *stops, const char *text, size_t bytes,
                           size_t *left);

/* ---- Tokenizers ---- */

typedef struct qn_tokenizer qn_tokenizer;

/* One token for each code point that occurs in `text`, in the order of their numbers.  NULL if it
 * is not UTF-8. */
qn_tokenizer *qn_tokenizer_char(qn_context *context, const char *text, size_t bytes);

/* 256 tokens: the bytes. */
qn_tokenizer *qn_tokenizer_byte(qn_context *context);

/* How text is split into words. */
enum qn_splitting {
    QN_SPLIT_CHARACTERS,  /* each character is one */
    QN_SPLIT_PATTERN,     /* by GPT-2's pattern, a space belonging to the word behind it */
    QN_SPLIT_MARK,        /* before each space, as SentencePiece does, which marks them by U+2581 */
    QN_SPLIT_SPACE,       /* at white space, which is lost */
    QN_SPLIT_PUNCTUATION, /* the same, and each punctuation mark is a word, as in BERT */
};

/* A vocabulary that is learnt from text, with zeros for what is left to its default. */
struct qn_vocabulary {
    enum qn_splitting splitting;
    size_t size;            /* tokens at most, of all kinds; 0: no limit */
    size_t merges;          /* of byte pairs at most; 0: no limit */
    uint64_t min_frequency; /* of words and pairs that become tokens */
    bool byte_fallback;     /* QN_SPLIT_MARK: unknown characters become tokens of their bytes */
    const char *const *specials; /* such as "<unk>", which stands for what is unknown: first ids */
    size_t n_specials;
    enum qn_cleaning cleaning[QN_MAX_CLEANING]; /* before splitting: in training and encoding */
    size_t n_cleaning;
};

/* Learns it: counts the words of texts, and then makes a tokenizer:
 *
 * - QN_SPLIT_CHARACTERS, kind "char": each character that occurs, in the order of code points;
 * - QN_SPLIT_PATTERN, kind "bpe": byte pair encoding of bytes, as GPT-2 has it;
 * - QN_SPLIT_MARK, kind "bpe": byte pair encoding of characters, each line being a text;
 * - QN_SPLIT_SPACE and QN_SPLIT_PUNCTUATION, kind "word": the most frequent words, first in the
 *   alphabet first among equals.
 *
 * Byte pairs: the pair of tokens that occurs most often within words becomes a token, again and
 * again; among equals that of the lowest ids.  The same text gives the same tokenizer. */
typedef struct qn_word_counter qn_word_counter;
qn_word_counter *qn_word_counter_new(qn_context *context, const struct qn_vocabulary *vocabulary);
int qn_word_counter_add(qn_word_counter *counter, const char *name, const char *text, size_t bytes);

/* The same of a whole file ("-": standard input), which need not fit into memory. */
int qn_word_counter_add_file(qn_word_counter *counter, const char *path);
qn_tokenizer *qn_word_counter_finish(qn_word_counter *counter);
void qn_word_counter_free(qn_word_counter *counter);

/* Reads a tokenizer from a file `tokenizer.json`, or from a folder that has one, or has GPT-2's
 * `vocab.json` and `merges.txt`.  Reads what qn_tokenizer_save() writes, byte-level BPE of GPT-2's
 * family, BPE with Metaspace and WordLevel; refuses by name what it does not know. */
qn_tokenizer *qn_tokenizer_load(qn_context *context, const char *path);

/* Writes a `tokenizer.json` by which Hugging Face's tokenizers gives the same ids; into a folder,
 * with a `tokenizer_config.json` by which transformers finds it. */
int qn_tokenizer_save(const qn_tokenizer *tokenizer, const char *path);
void qn_tokenizer_free(qn_tokenizer *tokenizer);

const char *qn_tokenizer_kind(const qn_tokenizer *tokenizer);  /* "char", "byte", "bpe" or "word" */
size_t qn_tokenizer_vocabulary(const qn_tokenizer *tokenizer); /* ids are below this */
bool qn_tokenizer_same(const qn_tokenizer *a,
                       const qn_tokenizer *b); /* they give the same ids for every text */

/* A number by which token files know the tokenizer that made them: the same for qn_tokenizer_same(). */
uint64_t qn_tokenizer_fingerprint(const qn_tokenizer *tokenizer);

/* The bytes of a token, borrowed; NULL (and no error) if the id is none. */
const char *qn_tokenizer_token(const qn_tokenizer *tokenizer, int32_t id, size_t *bytes);

/* The id of a special token, for example "<|endoftext|>"; -1 (and no error) if there is none. */
int32_t qn_tokenizer_special(const qn_tokenizer *tokenizer, const char *content);

/* The ids of what stands before a text and behind it: "<|endoftext|>" for both, else "<bos>" and "<eos>", else "<s>" and "</s>";
 * -1 if there is none. */
int32_t qn_tokenizer_begin(const qn_tokenizer *tokenizer);
int32_t qn_tokenizer_end(const qn_tokenizer *tokenizer);

/* Makes ids of text; free() them.  `name` stands for the text in messages ("the prompt").  Special
 * tokens in the text become their ids; what is between them is cleaned as the tokenizer says.
 * Fails on what is not UTF-8 (but for "byte"), and on a character or word that the tokenizer does
 * not know, if it has no token for such. */
int qn_encode(qn_tokenizer *tokenizer, const char *name, const char *text, size_t bytes,
              int32_t **ids, size_t *count);

/* Makes text of ids, with a NUL behind; free() it.  The text of GPT-2's tokens may be cut inside a
 * character.  Words are joined by spaces, but for those that end in an opening mark or begin with a
 * closing one; the space that QN_SPLIT_MARK put in front is removed. */
int qn_decode(const qn_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
              size_t *bytes);

/* Decodes id by id, as what follows a text, into valid UTF-8, for printing while generating: holds back the bytes of a
 * character that is not complete yet, and gives U+FFFD for bytes that are none.  The text is
 * borrowed until the next call. */
typedef struct qn_decoder qn_decoder;
qn_decoder *qn_decoder_new(const qn_tokenizer *tokenizer);
const char *qn_decoder_next(qn_decoder *decoder, int32_t id); /* NULL on an unknown id */
const char *qn_decoder_end(qn_decoder *decoder); /* what was held back; the decoder is as new */
void qn_decoder_free(qn_decoder *decoder);

/* ---- Files of tokens ---- */

/* Texts as ids: larger than memory if need be, since they are written piece by piece and mapped to
 * be read.  All numbers are little-endian:
 *
 *     0  "QNTOKENS"                         48  u64 fingerprint of the tokenizer
 *     8  u32 version, 1                     56  u64 bytes of the texts
 *    12  u32 bits of an id, 16 or 32        64  u64 FNV-1a of all that follows
 *    16  u64 tokens in the vocabulary       72  ids, zeros up to a multiple of 8 bytes
 *    24  u64 tokens                             u64 for each document: where it ends, in tokens
 *    32  u64 documents
 *    40  u32 what a document was (enum qn_documents), u32 the token behind each + 1, or 0 */
enum qn_documents {
    QN_DOCUMENTS_FILES,      /* each file */
    QN_DOCUMENTS_LINES,      /* each line, without its end */
    QN_DOCUMENTS_PARAGRAPHS, /* lines between empty lines, without the end of the last */
};

/* Writes the texts of files ("-": standard input) as ids; behind each document the token `end`, if
 * it is not -1.  A file appears whole or not at all. */
int qn_tokens_write(qn_tokenizer *tokenizer, const char *path, const char *const *texts,
                    size_t n_texts, enum qn_documents documents, int32_t end);

/* Opens a file of tokens; NULL if it is none, damaged or cut.  qn_tokens_check() reads all of it,
 * which opening does not, and fails unless `tokenizer` made it. */
typedef struct qn_tokens qn_tokens;
qn_tokens *qn_tokens_open(qn_context *context, const char *path);
int qn_tokens_check(const qn_tokens *tokens, const qn_tokenizer *tokenizer);
void qn_tokens_close(qn_tokens *tokens);

/* Whether a file begins like one. */
bool qn_is_tokens(const char *path);

size_t qn_tokens_count(const qn_tokens *tokens);
size_t qn_tokens_bytes(const qn_tokens *tokens); /* of the texts */
size_t qn_tokens_documents(const qn_tokens *tokens);
enum qn_documents qn_tokens_document_kind(const qn_tokens *tokens);
uint64_t qn_tokens_fingerprint(const qn_tokens *tokens); /* of the tokenizer */
uint64_t qn_tokens_hash(const qn_tokens *tokens);        /* of what is behind the header */
int32_t qn_tokens_end(const qn_tokens *tokens); /* the token behind each document; -1: none */

/* The tokens of a document, from 0: from *first on. */
size_t qn_tokens_document(const qn_tokens *tokens, size_t document, size_t *first);

/* Copies ids; fails if there are not so many, and on one that is in no vocabulary of that size. */
int qn_tokens_read(const qn_tokens *tokens, size_t first, size_t count, int32_t *ids);

/* ---- Data sets for language models ---- */

typedef struct qn_dataset qn_dataset;

/* The tokens of a text, for windows of `context_length` tokens and the ones that follow them.
 * `name` stands for it in messages.  NULL if it cannot be encoded, or is shorter than one window.
 */
qn_dataset *qn_dataset_new(qn_tokenizer *tokenizer, const char *name, const char *text,
                           size_t bytes, size_t context_length);

/* The same of `count` tokens of a file, from `first` on: it must have been checked, and stay open. */
qn_dataset *qn_dataset_mapped(const qn_tokens *tokens, size_t first, size_t count,
                              size_t context_length);
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

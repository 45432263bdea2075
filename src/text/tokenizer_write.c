/* Tokenizers written as `tokenizer.json` of Hugging Face's tokenizers. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "text/bpe.h"
#include "text/pipeline.h"

/* A token as files have it; free() it.  NULL without memory. */
static char *spelling_of(const qn_tokenizer *tokenizer, int32_t id)
{
    const struct token *token = &tokenizer->tokens[id];
    const char *bytes = token_bytes(tokenizer, id);
    if (token->is_special)
        return strdup(bytes);
    char *written = malloc(SPELLED * token->length + 1);
    if (written)
        spell_token(tokenizer->splitting, token->is_byte, bytes, token->length, written);
    return written;
}

/* {"token": id, ...} in the order of the ids; NULL on failure. */
static json_t *write_vocabulary(const qn_tokenizer *tokenizer)
{
    json_t *vocabulary = json_object();
    for (size_t id = 0; id < tokenizer->vocabulary && vocabulary; id++) {
        if (!tokenizer->tokens[id].is_known)
            continue;
        char *written = spelling_of(tokenizer, (int32_t)id);
        if (!written ||
            json_object_set_new(vocabulary, written, json_integer((json_int_t)id)) != 0) {
            json_decref(vocabulary);
            vocabulary = NULL;
        }
        free(written);
    }
    return vocabulary;
}

static json_t *write_merges(const qn_tokenizer *tokenizer, const json_t *vocabulary)
{
    size_t count = 0;
    const struct merge *merges =
        tokenizer->kind == TOKENIZER_BPE ? bpe_merges(tokenizer->bpe, &count) : NULL;
    const char **written = calloc(tokenizer->vocabulary + 1, sizeof *written);
    json_t *array = written ? json_array() : NULL;
    const char *token;
    json_t *id;
    json_object_foreach ((json_t *)vocabulary, token, id) {
        if (written)
            written[json_integer_value(id)] = token;
    }
    for (size_t i = 0; i < count && array; i++) {
        json_t *pair = json_sprintf("%s %s", written[merges[i].left], written[merges[i].right]);
        if (json_array_append_new(array, pair) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    free(written);
    return array;
}

static json_t *write_added(const qn_tokenizer *tokenizer)
{
    json_t *added = json_array();
    for (size_t i = 0; i < tokenizer->vocabulary && added; i++) {
        if (!tokenizer->tokens[i].is_special)
            continue;
        json_t *token = json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                  "content", token_bytes(tokenizer, (int32_t)i), "single_word", 0,
                                  "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
        if (json_array_append_new(added, token) != 0) {
            json_decref(added);
            added = NULL;
        }
    }
    return added;
}

/* Of WordLevel, which must have one: none is "", which no token is, so that what is unknown is an
 * error there, too. */
static json_t *write_unknown(const qn_tokenizer *tokenizer)
{
    if (tokenizer->unknown < 0)
        return tokenizer->kind == TOKENIZER_BPE ? json_null() : json_string("");
    char *written = spelling_of(tokenizer, tokenizer->unknown);
    json_t *unknown = json_string(written);
    free(written);
    return unknown;
}

static json_t *write_model(const qn_tokenizer *tokenizer)
{
    json_t *vocabulary = write_vocabulary(tokenizer), *unknown = write_unknown(tokenizer);
    if (tokenizer->kind == TOKENIZER_CHAR || tokenizer->kind == TOKENIZER_WORD)
        return json_pack("{s:s, s:o, s:o}", "type", "WordLevel", "unk_token", unknown, "vocab",
                         vocabulary);
    json_t *merges = write_merges(tokenizer, vocabulary);
    return json_pack("{s:s, s:n, s:o, s:s, s:s, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                     "unk_token", unknown, "continuing_subword_prefix", "", "end_of_word_suffix",
                     "", "fuse_unk", 0, "byte_fallback", (int)tokenizer->falls_back,
                     "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
}

static json_t *write_tokenizer(const qn_tokenizer *tokenizer)
{
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", write_added(tokenizer), "normalizer",
                     pipeline_normalizer(tokenizer), "pre_tokenizer", pipeline_splitter(tokenizer),
                     "post_processor", pipeline_processor(tokenizer), "decoder",
                     pipeline_decoder(tokenizer), "model", write_model(tokenizer));
}

static int save_json(qn_context *context, const char *path, json_t *json)
{
    int status = path ? json_file_write(context, path, json) : QN_ERROR_MEMORY;
    json_decref(json);
    return status;
}

int qn_tokenizer_save(const qn_tokenizer *tokenizer, const char *path)
{
    if (!tokenizer || !path)
        return QN_ERROR_INVALID;
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode))
        return save_json(tokenizer->context, path, write_tokenizer(tokenizer));

    char *whole = path_join(tokenizer->context, path, "tokenizer.json");
    char *config = path_join(tokenizer->context, path, "tokenizer_config.json");
    int result = save_json(tokenizer->context, whole, write_tokenizer(tokenizer));
    /* Else transformers goes by the model and splits text as GPT-2 does, whatever tokenizer.json
     * says. */
    if (result == QN_OK)
        result = save_json(tokenizer->context, config,
                           json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                                     "clean_up_tokenization_spaces", 0));
    free(config);
    free(whole);
    return result;
}

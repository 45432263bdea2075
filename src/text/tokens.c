/* Files of tokens: written piece by piece, mapped to be read. */
#define _DEFAULT_SOURCE

#include <quern/text.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "text/stream.h"
#include "text/tokenizer.h"

static const char magic[8] = {'Q', 'N', 'T', 'O', 'K', 'E', 'N', 'S'};
enum { VERSION = 1 };

struct header {
    char magic[8];
    uint32_t version, bits;
    uint64_t vocabulary, tokens, documents;
    uint32_t document_kind, end_plus_1;
    uint64_t fingerprint, text_bytes, hash;
};
_Static_assert(sizeof(struct header) == 72, "as the header file documents it");

/* ---- Writing ---- */

enum { IDS_AT_ONCE = 1 << 16 };

struct writer {
    qn_tokenizer *tokenizer;
    qn_context *context;
    struct file_writer file;
    FILE *ends; /* of documents: appended to the file at the end */
    struct header header;
    int32_t end; /* the token behind each document; -1: none */
    struct ids ids;
    char *paragraph; /* its lines so far */
    size_t used, room;
};

static bool append(struct writer *writer, const void *bytes, size_t count)
{
    writer->header.hash = hash_bytes(writer->header.hash, bytes, count);
    return file_append(&writer->file, bytes, count) == QN_OK;
}

/* Writes and forgets the ids there are. */
static bool flush_ids(struct writer *writer)
{
    struct ids *ids = &writer->ids;
    size_t count = ids->count;
    ids->count = 0;
    writer->header.tokens += count;
    if (writer->header.bits == 32)
        return append(writer, ids->values, count * sizeof *ids->values);
    uint16_t narrow[1024];
    for (size_t at = 0; at < count;) {
        size_t some = size_min(count - at, sizeof narrow / sizeof *narrow);
        for (size_t i = 0; i < some; i++)
            narrow[i] = (uint16_t)ids->values[at + i];
        if (!append(writer, narrow, some * sizeof *narrow))
            return false;
        at += some;
    }
    return true;
}

static bool end_document(struct writer *writer)
{
    if (writer->end >= 0 && !ids_append(writer->context, &writer->ids, &writer->end, 1))
        return false;
    uint64_t end = writer->header.tokens + writer->ids.count;
    writer->header.documents++;
    if (fwrite(&end, sizeof end, 1, writer->ends) != 1) {
        context_fail(writer->context, QN_ERROR_FILE, "cannot write %s: a temporary file: %s",
                     writer->file.path, strerror(errno));
        return false;
    }
    return writer->ids.count < IDS_AT_ONCE || flush_ids(writer);
}

static bool encode(struct writer *writer, const struct text_stream *stream, uint64_t line,
                   const char *text, size_t bytes, struct piece_ends ends)
{
    char name[300];
    if (line > 1)
        snprintf(name, sizeof name, "%s, from line %" PRIu64 " on", stream->path, line);
    return tokenizer_encode(writer->tokenizer, line > 1 ? name : stream->path, text, bytes, ends,
                            &writer->ids);
}

/* ---- Documents ---- */

/* Where a file may be cut when it is read as one document. */
static enum stream_cut cut_of(const qn_tokenizer *tokenizer)
{
    if (tokenizer->kind == TOKENIZER_BYTE)
        return STREAM_BYTES;
    for (size_t i = 0; i < tokenizer->n_specials; i++)
        if (strchr(token_bytes(tokenizer, tokenizer->specials[i]), '\n'))
            return STREAM_WHOLE;
    return STREAM_UTF8;
}

static bool write_piece(struct writer *writer, const struct text_stream *stream,
                        const struct text_piece *piece)
{
    struct piece_ends ends = {stream->offset == 0, piece->is_last};
    return encode(writer, stream, stream->line, piece->text, piece->bytes, ends) &&
           flush_ids(writer);
}

static bool end_paragraph(struct writer *writer, const struct text_stream *stream, uint64_t line)
{
    if (writer->used == 0)
        return true;
    size_t bytes = writer->used - 1; /* without the end of its last line */
    writer->used = 0;
    return encode(writer, stream, line, writer->paragraph, bytes,
                  (struct piece_ends){true, true}) &&
           end_document(writer);
}

static bool add_to_paragraph(struct writer *writer, const char *line, size_t length)
{
    if (length + 1 > writer->room - writer->used) {
        size_t room = size_max(2 * writer->room, writer->used + length + 1);
        char *larger = realloc(writer->paragraph, room);
        if (!larger) {
            context_fail(writer->context, QN_ERROR_MEMORY,
                         "out of memory for a paragraph of %zu bytes", writer->used + length);
            return false;
        }
        writer->paragraph = larger;
        writer->room = room;
    }
    memcpy(writer->paragraph + writer->used, line, length);
    writer->used += length;
    writer->paragraph[writer->used++] = '\n';
    return true;
}

static bool write_lines(struct writer *writer, const struct text_stream *stream,
                        const struct text_piece *piece)
{
    bool are_documents = writer->header.document_kind == QN_DOCUMENTS_LINES;
    uint64_t number = stream->line;
    for (size_t at = 0; at < piece->bytes; number++) {
        const char *line = piece->text + at;
        const char *end = memchr(line, '\n', piece->bytes - at);
        size_t length = end ? (size_t)(end - line) : piece->bytes - at;
        bool is_good = are_documents ? encode(writer, stream, number, line, length,
                                              (struct piece_ends){true, true}) &&
                                           end_document(writer)
                       : length > 0 ? add_to_paragraph(writer, line, length)
                                    : end_paragraph(writer, stream, number);
        if (!is_good)
            return false;
        at += length + (end != NULL);
    }
    return true;
}

static bool write_text(struct writer *writer, const char *path)
{
    struct text_stream stream;
    struct text_piece piece;
    bool is_whole = writer->header.document_kind == QN_DOCUMENTS_FILES;
    if (!stream_open(&stream, writer->context, path,
                     is_whole ? cut_of(writer->tokenizer) : STREAM_LINES))
        return false;
    stream.takes_all = writer->tokenizer->kind == TOKENIZER_BYTE;
    bool is_good;
    while ((is_good = stream_next(&stream, &piece)) && piece.bytes > 0) {
        is_good =
            is_whole ? write_piece(writer, &stream, &piece) : write_lines(writer, &stream, &piece);
        if (!is_good)
            break;
    }
    if (is_good && stream.offset == 0) {
        context_fail(writer->context, QN_ERROR_FORMAT, "%s is empty", stream.path);
        is_good = false;
    }
    if (is_good)
        is_good = is_whole ? end_document(writer) : end_paragraph(writer, &stream, stream.line);
    writer->header.text_bytes += stream.offset;
    stream_close(&stream);
    return is_good;
}

/* ---- The end of a file ---- */

static bool append_ends(struct writer *writer)
{
    const char zeros[8] = {0};
    size_t tail = (size_t)(writer->header.tokens * (writer->header.bits / 8)) % 8;
    if (tail > 0 && !append(writer, zeros, 8 - tail))
        return false;
    rewind(writer->ends);
    char bytes[1 << 16];
    for (size_t count; (count = fread(bytes, 1, sizeof bytes, writer->ends)) > 0;)
        if (!append(writer, bytes, count))
            return false;
    if (!ferror(writer->ends))
        return true;
    context_fail(writer->context, QN_ERROR_FILE, "cannot read a temporary file: %s",
                 strerror(errno));
    return false;
}

static bool write_header(struct writer *writer)
{
    if (pwrite(writer->file.descriptor, &writer->header, sizeof writer->header, 0) ==
        (ssize_t)sizeof writer->header)
        return true;
    context_fail(writer->context, QN_ERROR_FILE, "cannot write %s: %s", writer->file.path,
                 strerror(errno));
    return false;
}

static bool write_all(struct writer *writer, const char *const *texts, size_t n_texts)
{
    writer->ends = tmpfile();
    if (!writer->ends) {
        context_fail(writer->context, QN_ERROR_FILE, "cannot make a temporary file: %s",
                     strerror(errno));
        return false;
    }
    if (file_append(&writer->file, &writer->header, sizeof writer->header) != QN_OK)
        return false; /* a place for it: it is known at the end */
    for (size_t i = 0; i < n_texts; i++)
        if (!write_text(writer, texts[i]))
            return false;
    if (writer->header.documents == 0) {
        context_fail(writer->context, QN_ERROR_FORMAT, "%s holds empty lines only", texts[0]);
        return false;
    }
    return flush_ids(writer) && append_ends(writer) && write_header(writer);
}

int qn_tokens_write(qn_tokenizer *tokenizer, const char *path, const char *const *texts,
                    size_t n_texts, enum qn_documents documents, int32_t end)
{
    if (!tokenizer || !path || (n_texts > 0 && !texts))
        return QN_ERROR_INVALID;
    qn_context *context = tokenizer->context;
    if (n_texts == 0)
        return context_fail(context, QN_ERROR_INVALID, "no text files are named");
    if (end >= 0 && !qn_tokenizer_token(tokenizer, end, NULL))
        return context_fail(context, QN_ERROR_INVALID, "token %d is not in the vocabulary of %zu",
                            (int)end, tokenizer->vocabulary);
    struct writer writer = {
        .tokenizer = tokenizer,
        .context = context,
        .end = end,
        .header = {.version = VERSION,
                   .bits = tokenizer->vocabulary <= UINT16_MAX + 1 ? 16 : 32,
                   .vocabulary = tokenizer->vocabulary,
                   .document_kind = documents,
                   .end_plus_1 = (uint32_t)(end + 1),
                   .fingerprint = qn_tokenizer_fingerprint(tokenizer),
                   .hash = HASH_BEGIN},
    };
    memcpy(writer.header.magic, magic, sizeof magic);
    int status = file_create(&writer.file, context, path);
    if (status != QN_OK)
        return status;
    bool is_good = write_all(&writer, texts, n_texts);
    status = is_good ? file_commit(&writer.file) : QN_ERROR_FORMAT;
    if (!is_good)
        file_discard(&writer.file);
    if (writer.ends)
        fclose(writer.ends);
    free(writer.ids.values);
    free(writer.paragraph);
    return status;
}

/* ---- Reading ---- */

struct qn_tokens {
    qn_context *context;
    char *path;
    const unsigned char *map;
    size_t map_bytes;
    struct header header;
    const void *ids;
    const uint64_t *ends; /* of documents */
};

static bool fail_file(const qn_tokens *tokens, const char *problem)
{
    context_fail(tokens->context, QN_ERROR_FORMAT, "%s: %s", tokens->path, problem);
    return false;
}

static bool map_file(qn_tokens *tokens)
{
    struct stat status;
    int descriptor = open(tokens->path, O_RDONLY | O_CLOEXEC);
    void *map = MAP_FAILED;
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        context_fail(tokens->context, QN_ERROR_FILE, "cannot read %s: %s", tokens->path,
                     strerror(errno));
    else if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof tokens->header)
        fail_file(tokens, "no file of tokens: too short");
    else if ((map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0)) ==
             MAP_FAILED)
        context_fail(tokens->context, QN_ERROR_FILE, "cannot map %s: %s", tokens->path,
                     strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    if (map == MAP_FAILED)
        return false;
    tokens->map = map;
    tokens->map_bytes = (size_t)status.st_size;
    return true;
}

static bool check_header(qn_tokens *tokens)
{
    struct header *header = &tokens->header;
    memcpy(header, tokens->map, sizeof *header);
    if (memcmp(header->magic, magic, sizeof magic) != 0)
        return fail_file(tokens, "no file of tokens: it does not begin with \"QNTOKENS\"");
    if (header->version != VERSION) {
        context_fail(tokens->context, QN_ERROR_FORMAT,
                     "%s: version %u of the format, this program reads version %d: encode the text "
                     "again",
                     tokens->path, (unsigned)header->version, VERSION);
        return false;
    }
    bool is_sound = (header->bits == 16 || header->bits == 32) && header->vocabulary > 0 &&
                    header->vocabulary <= MAX_VOCABULARY &&
                    header->end_plus_1 <= header->vocabulary &&
                    header->document_kind <= QN_DOCUMENTS_PARAGRAPHS && header->documents > 0;
    return is_sound || fail_file(tokens, "damaged: its header makes no sense");
}

static bool check_sizes(qn_tokens *tokens)
{
    const struct header *header = &tokens->header;
    size_t bytes = header->bits / 8, most = tokens->map_bytes;
    if (header->tokens > most || header->documents > most / 8)
        return fail_file(tokens, "cut: it is shorter than its header says");
    size_t ids = round_up((size_t)header->tokens * bytes, 8), ends = (size_t)header->documents * 8;
    size_t expected = sizeof *header + ids + ends;
    if (expected != most) {
        context_fail(tokens->context, QN_ERROR_FORMAT,
                     "%s: %s: its header promises %zu bytes, found %zu", tokens->path,
                     expected > most ? "cut" : "damaged", expected, most);
        return false;
    }
    tokens->ids = tokens->map + sizeof *header;
    tokens->ends = (const uint64_t *)(const void *)(tokens->map + sizeof *header + ids);
    uint64_t before = 0;
    for (size_t i = 0; i < header->documents; i++) {
        if (tokens->ends[i] < before || tokens->ends[i] > header->tokens)
            return fail_file(tokens, "damaged: its table of documents makes no sense");
        before = tokens->ends[i];
    }
    return before == header->tokens ||
           fail_file(tokens, "damaged: its documents end before its tokens");
}

qn_tokens *qn_tokens_open(qn_context *context, const char *path)
{
    if (!context || !path)
        return NULL;
    qn_tokens *tokens = context_alloc(context, 1, sizeof *tokens);
    if (!tokens)
        return NULL;
    tokens->context = context;
    tokens->path = text_format(context, "%s", path);
    if (tokens->path && map_file(tokens) && check_header(tokens) && check_sizes(tokens))
        return tokens;
    qn_tokens_close(tokens);
    return NULL;
}

void qn_tokens_close(qn_tokens *tokens)
{
    if (!tokens)
        return;
    if (tokens->map)
        munmap((void *)tokens->map, tokens->map_bytes);
    free(tokens->path);
    free(tokens);
}

qn_context *tokens_context(const qn_tokens *tokens)
{
    return tokens->context;
}

static int32_t id_at(const qn_tokens *tokens, size_t index)
{
    return tokens->header.bits == 16 ? ((const uint16_t *)tokens->ids)[index]
                                     : ((const int32_t *)tokens->ids)[index];
}

static int fail_id(const qn_tokens *tokens, size_t index)
{
    return context_fail(tokens->context, QN_ERROR_FORMAT,
                        "%s: damaged: token %zu is %d, of a vocabulary of %" PRIu64, tokens->path,
                        index, (int)id_at(tokens, index), tokens->header.vocabulary);
}

static bool is_in_vocabulary(const qn_tokens *tokens, int32_t id)
{
    return id >= 0 && (uint64_t)id < tokens->header.vocabulary;
}

int qn_tokens_check(const qn_tokens *tokens, const qn_tokenizer *tokenizer)
{
    if (!tokens || !tokenizer)
        return QN_ERROR_INVALID;
    const struct header *header = &tokens->header;
    if (header->fingerprint != qn_tokenizer_fingerprint(tokenizer) ||
        header->vocabulary != tokenizer->vocabulary)
        return context_fail(tokens->context, QN_ERROR_FORMAT,
                            "%s was made by another tokenizer (of %" PRIu64
                            " tokens, this one has %zu): encode the text again",
                            tokens->path, header->vocabulary, tokenizer->vocabulary);
    uint64_t hash = hash_bytes(HASH_BEGIN, tokens->ids, tokens->map_bytes - sizeof tokens->header);
    if (hash != header->hash)
        return context_fail(tokens->context, QN_ERROR_FORMAT,
                            "%s: damaged: its contents are not what was written", tokens->path);
    for (size_t i = 0; i < header->tokens; i++)
        if (!is_in_vocabulary(tokens, id_at(tokens, i)))
            return fail_id(tokens, i);
    return QN_OK;
}

bool qn_is_tokens(const char *path)
{
    char found[sizeof magic];
    FILE *file = path ? fopen(path, "rb") : NULL;
    bool is_one = file && fread(found, 1, sizeof found, file) == sizeof found &&
                  memcmp(found, magic, sizeof found) == 0;
    if (file)
        fclose(file);
    return is_one;
}

size_t qn_tokens_count(const qn_tokens *tokens)
{
    return tokens ? (size_t)tokens->header.tokens : 0;
}

size_t qn_tokens_bytes(const qn_tokens *tokens)
{
    return tokens ? (size_t)tokens->header.text_bytes : 0;
}

size_t qn_tokens_documents(const qn_tokens *tokens)
{
    return tokens ? (size_t)tokens->header.documents : 0;
}

enum qn_documents qn_tokens_document_kind(const qn_tokens *tokens)
{
    return (enum qn_documents)tokens->header.document_kind;
}

uint64_t qn_tokens_fingerprint(const qn_tokens *tokens)
{
    return tokens->header.fingerprint;
}

uint64_t qn_tokens_hash(const qn_tokens *tokens)
{
    return tokens->header.hash;
}

int32_t qn_tokens_end(const qn_tokens *tokens)
{
    return (int32_t)tokens->header.end_plus_1 - 1;
}

size_t qn_tokens_document(const qn_tokens *tokens, size_t document, size_t *first)
{
    if (!tokens || document >= tokens->header.documents)
        return 0;
    size_t begin = document > 0 ? (size_t)tokens->ends[document - 1] : 0;
    if (first)
        *first = begin;
    return (size_t)tokens->ends[document] - begin;
}

int qn_tokens_read(const qn_tokens *tokens, size_t first, size_t count, int32_t *ids)
{
    if (!tokens || (count > 0 && !ids))
        return QN_ERROR_INVALID;
    if (first > tokens->header.tokens || count > tokens->header.tokens - first)
        return context_fail(tokens->context, QN_ERROR_INVALID, "%s: tokens %zu to %zu of %" PRIu64,
                            tokens->path, first, first + count, tokens->header.tokens);
    for (size_t i = 0; i < count; i++) {
        ids[i] = id_at(tokens, first + i);
        if (!is_in_vocabulary(tokens, ids[i]))
            return fail_id(tokens, first + i);
    }
    return QN_OK;
}

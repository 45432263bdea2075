/* Text files read piece by piece, so that none need fit into memory. */
#ifndef QUERN_STREAM_H
#define QUERN_STREAM_H

#include "device/context.h"

/* Where pieces may be cut. */
enum stream_cut {
    STREAM_BYTES, /* anywhere */
    STREAM_UTF8,  /* before the end of a line that ends in a letter, number or mark: no rule by
                     which tokenizers clean and split text looks across */
    STREAM_LINES, /* behind the end of a line */
    STREAM_WHOLE, /* nowhere */
};

struct text_piece {
    const char *text;
    size_t bytes; /* 0: there is no more */
    bool is_last;
};

struct text_stream {
    qn_context *context;
    const char *path;
    enum stream_cut cut;
    int descriptor;
    char *buffer;
    size_t used, room, given; /* bytes in the buffer; of them, those given out last */
    uint64_t offset, line;    /* in the file, of the buffer's first byte; from 0, from 1 */
    bool is_at_end;
    bool takes_all;   /* to be set after opening: the text need not be UTF-8 */
    bool refuses_nul; /* the same */
};

/* `path` must stay; "-" is standard input.  False and an error if it cannot be read. */
bool stream_open(struct text_stream *stream, qn_context *context, const char *path,
                 enum stream_cut cut);

/* The next piece, borrowed until the next call: of a megabyte or so, or a longer line.  False on
 * failure, and on what is not UTF-8 where it must be. */
bool stream_next(struct text_stream *stream, struct text_piece *piece);
void stream_close(struct text_stream *stream);

#endif

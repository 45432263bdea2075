/* The settings of a run as the "options" of training.json. */
#ifndef QUERN_SETTINGS_H
#define QUERN_SETTINGS_H

#include "cli/train/run.h"

/* Reading training.json: the first mistake fills in `message`, and what is read then is nothing. */
struct reader {
    const char *path;
    char *message;
    bool failed;
};

void fail_field(struct reader *reader, const char *key, const char *expected, const json_t *value);
uint64_t whole_field(struct reader *reader, const json_t *object, const char *key);
double real_field(struct reader *reader, const json_t *object, const char *key);
const char *text_field(struct reader *reader, const json_t *object,
                       const char *key); /* NULL for null */

json_t *settings_json(const struct settings *settings); /* NULL: out of memory */
void settings_read(struct reader *reader, struct settings *settings, const json_t *object);

#endif

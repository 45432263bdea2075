/* A device for programs: what `quern devices --json` and `quern bench --json` both say of it. */
#ifndef QUERN_DEVICE_JSON_H
#define QUERN_DEVICE_JSON_H

#include <jansson.h>
#include <quern/quern.h>

/* Null if it is none.  Text of drivers and users need not be UTF-8: where it is not, bytes that are
 * not ASCII become '?'. */
json_t *text_json(const char *text);

json_t *device_json(const struct qn_device *device);

#endif

/* A classifier over the batches of a data set: what it says of each text, and how well. */
#ifndef QUERN_CLASSES_H
#define QUERN_CLASSES_H

#include <quern/nn.h>

struct classes;

/* Texts are field 0 of the batches and labels, if there are any, field 1.  NULL and the context's error. */
struct classes *classes_new(const qn_classifier *classifier, qn_batches *batches);
void classes_free(struct classes *classes);

/* Of each record in the batches, by the logarithms of probabilities (n_labels), from the device. */
typedef int classes_found(void *user, size_t record, const float *log_probabilities, int32_t label);

/* Goes through all of them, once; `found` may be NULL.  Of batches without labels `result` is NULL, and label -1. */
int classes_measure(struct classes *classes, struct qn_evaluation *result, classes_found *found,
                    void *user);

#endif

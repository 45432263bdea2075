/* The folder of a model: config.json, and its parameters in model.safetensors. */
#ifndef QUERN_MODEL_FILES_H
#define QUERN_MODEL_FILES_H

#include <quern/io.h>

/* What the names of a model's tensors in a file may be. */
struct file_names {
    const char *prefix; /* of the names, which may be missing in the file */
    /* Whether the model needs no tensor of this name, and is none the worse for it.  NULL: there are no such. */
    bool (*is_redundant)(const void *model, const qn_safetensors *file,
                         const struct qn_file_tensor *tensor);
    const void *model;
};

/* A file's tensor of this name, with the prefix or without; NULL: there is none. */
const struct qn_file_tensor *file_find(const qn_safetensors *file, const char *name,
                                       const char *prefix);

/* `name` behind the prefix, or all of it. */
const char *name_behind(const char *name, const char *prefix);

/* Whether two tensors of a file are of the same bytes. */
bool file_tensors_equal(const struct qn_file_tensor *a, const struct qn_file_tensor *b);

/* All parameters of a store from FOLDER/model.safetensors.  Tensors that are none of the store's and not redundant are
 * refused: else a config.json of fewer layers than the file has would make another model of it without a word.  So are
 * numbers that are not finite, when saving too. */
int store_load(qn_store *store, const char *folder, const struct file_names *names);
int store_save(qn_store *store, const char *folder);

#endif

/* Opening a trained model. */
#include "cli/model.h"

#include <signal.h>
#include <stdlib.h>

#include "io/fields.h"
#include "io/file.h"

int model_check_vocabulary(const char *folder, const qn_tokenizer *tokenizer, size_t vocabulary,
                           const struct options *options)
{
    size_t known = qn_tokenizer_vocabulary(tokenizer);
    if (known <= vocabulary)
        return EXIT_SUCCESS;
    return failure(options,
                   "%s: the tokenizer has %zu tokens, the model only %zu: they do not belong "
                   "together",
                   folder, known, vocabulary);
}

/* Whether a folder has a config.json that can be read. */
static bool has_config(qn_context *qn, const char *folder)
{
    char *path = path_join(qn, folder, "config.json");
    json_t *json = path ? json_file_read(qn, path, 1 << 20) : NULL;
    json_decref(json);
    free(path);
    return json;
}

char *model_find(qn_context *qn, enum qn_model_kind kind, const char *expected,
                 const struct options *options)
{
    char *folder = qn_model_folder(qn, options_operand(options));
    if (folder && qn_model_kind(qn, folder) == kind)
        return folder;
    if (!folder || !has_config(qn, folder))
        failure(options, "%s", qn_error(qn));
    else
        failure(options, "%s is %s", options_operand(options), expected);
    free(folder);
    return NULL;
}

struct qn_sample sampling_of(const struct options *options, size_t vocabulary)
{
    size_t top_k = (size_t)options_integer(options, "top-k");
    return (struct qn_sample){.temperature = (float)options_real(options, "temperature"),
                              .top_k = top_k < vocabulary ? top_k : 0 /* all */,
                              .top_p = (float)options_real(options, "top-p")};
}

int model_load(struct model *model, const char *folder, const struct options *options)
{
    model->tokenizer = qn_tokenizer_load(model->qn, folder);
    if (model->tokenizer)
        model->lm = qn_lm_load(model->qn, folder);
    if (!model->lm)
        return failure(options, "%s", qn_error(model->qn));
    return model_check_vocabulary(folder, model->tokenizer, qn_lm_config(model->lm)->vocab_size,
                                  options);
}

int model_open(struct model *model, const struct options *options)
{
    *model = (struct model){0};
    model->qn = qn_open_with(&(struct qn_options){
        .device = options_string(options, "device"),
        .gemm = options_string(options, "gemm"),
    });
    if (!model->qn)
        return failure(options, "%s", qn_error(NULL));
    char *folder = qn_model_folder(model->qn, options_operand(options));
    if (!folder)
        return failure(options, "%s", qn_error(model->qn));
    int status = model_load(model, folder, options);
    free(folder);
    signal(SIGQUIT, SIG_DFL); /* LLVM, in drivers, catches it and goes on */
    return status;
}

void model_close(struct model *model)
{
    qn_lm_free(model->lm);
    qn_tokenizer_free(model->tokenizer);
    qn_close(model->qn);
    *model = (struct model){0};
}

/* quern inspect: what a file, a model or a run holds, and whether its files belong together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quern/seq2seq.h>

#include "cli/train/learner.h"
#include "cli/model.h"

/* FOLDER/NAME; NULL and a message without memory.  free() it. */
static char *join(const char *folder, const char *name, const struct options *options)
{
    size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s/%s", folder, name);
    else
        failure(options, "out of memory");
    return path;
}

static bool has_file(const char *folder, const char *name, const struct options *options)
{
    char *path = join(folder, name, options);
    bool is_there = path && access(path, F_OK) == 0;
    free(path);
    return is_there;
}

/* Checks a checkpoint as --resume would. */
static int check_checkpoint(const char *folder, const struct options *options, qn_context *qn)
{
    char message[RUN_MESSAGE];
    struct run run;
    struct learner learner = {0};
    if (!run_load(&run, folder, message))
        return failure(options, "%s", message);
    int status = EXIT_SUCCESS;
    struct corpus corpus = {.tokenizer = qn_tokenizer_load(qn, folder)};
    const struct subject subject = {.settings = &run.settings, .corpus = &corpus};
    if (!corpus.tokenizer)
        status = failure(options, "%s", qn_error(qn));
    else if (!learner_resume(&learner, qn, &subject, &run, folder, message))
        status = failure(options, "%s", message);
    learner_release(&learner);
    corpus_release(&corpus);
    run_release(&run);
    return status;
}

/* Checks a model as the commands that use it would. */
static int check_model(const char *folder, const struct options *options, qn_context *qn)
{
    struct model model = {.qn = qn};
    int status = model_load(&model, folder, options);
    if (status == EXIT_SUCCESS) {
        size_t tokens = qn_tokenizer_vocabulary(model.tokenizer);
        size_t rows = qn_lm_config(model.lm)->vocab_size;
        if (tokens < rows) /* some pad the embedding to a round number */
            printf("%s: %zu of the model's %zu tokens are not in the tokenizer\n", folder,
                   rows - tokens, rows);
    }
    qn_lm_free(model.lm);
    qn_tokenizer_free(model.tokenizer);
    return status;
}

static int check_classifier(const char *folder, const struct options *options, qn_context *qn)
{
    qn_classifier *classifier = qn_classifier_load(qn, folder);
    qn_tokenizer *tokenizer = classifier ? qn_tokenizer_load(qn, folder) : NULL;
    int status = EXIT_SUCCESS;
    if (!tokenizer)
        status = failure(options, "%s", qn_error(qn));
    else
        status = model_check_vocabulary(folder, tokenizer,
                                        qn_classifier_config(classifier)->vocab_size, options);
    qn_tokenizer_free(tokenizer);
    qn_classifier_free(classifier);
    return status;
}

/* Encoders are read by no command yet: their tokenizers need not be known. */
static int check_encoder(const char *folder, const struct options *options, qn_context *qn)
{
    qn_bert *bert = qn_bert_load(qn, folder);
    if (!bert)
        return failure(options, "%s", qn_error(qn));
    qn_bert_free(bert);
    return EXIT_SUCCESS;
}

static int check_seq2seq(const char *folder, const struct options *options, qn_context *qn)
{
    qn_seq2seq *model = qn_seq2seq_load(qn, folder);
    if (!model)
        return failure(options, "%s", qn_error(qn));
    qn_seq2seq_free(model);
    return EXIT_SUCCESS;
}

static int check_folder(const char *folder, bool is_of_run, const struct options *options,
                        qn_context *qn)
{
    bool is_checkpoint = is_of_run || has_file(folder, "training.json", options) ||
                         has_file(folder, "optimizer.safetensors", options);
    if (is_checkpoint)
        return check_checkpoint(folder, options, qn);
    switch (qn_model_kind(qn, folder)) {
    case QN_MODEL_BERT:
        return check_encoder(folder, options, qn);
    case QN_MODEL_CLASSIFIER:
        return check_classifier(folder, options, qn);
    case QN_MODEL_SEQ2SEQ:
        return check_seq2seq(folder, options, qn);
    default:
        return check_model(folder, options, qn);
    }
}

/* Whether a path is a link, and if so, what it leads to. */
static bool follow(const char *path, struct stat *target)
{
    struct stat link;
    if (lstat(path, &link) != 0 || !S_ISLNK(link.st_mode))
        return false;
    if (stat(path, target) != 0)
        *target = link; /* leads nowhere: reading says so */
    return true;
}

/* Checks what the links of a run lead to.  `found` says whether there are any. */
static int check_run(const char *folder, const struct options *options, qn_context *qn, bool *found)
{
    static const char *const links[] = {"best", "latest"};
    int status = EXIT_SUCCESS;
    struct stat target, before = {0};
    *found = false;
    for (size_t i = 0; i < sizeof links / sizeof *links && status == EXIT_SUCCESS; i++) {
        char *path = join(folder, links[i], options);
        if (!path) {
            status = EXIT_FAILED;
        } else if (follow(path, &target)) {
            bool is_checked =
                *found && target.st_dev == before.st_dev && target.st_ino == before.st_ino;
            if (!is_checked)
                status = check_folder(path, true, options, qn);
            before = target;
            *found = true;
        }
        free(path);
    }
    return status;
}

static int inspect(const char *path, const struct options *options, qn_context *qn)
{
    struct stat found;
    bool is_run;
    if (qn_inspect(qn, path, stdout) != QN_OK) {
        fflush(stdout); /* what was good comes before the message */
        return failure(options, "%s", qn_error(qn));
    }
    fflush(stdout);
    if (stat(path, &found) != 0 || !S_ISDIR(found.st_mode))
        return EXIT_SUCCESS;
    int status = check_run(path, options, qn, &is_run);
    return is_run || status != EXIT_SUCCESS ? status : check_folder(path, false, options, qn);
}

int command_inspect(const struct options *options)
{
    qn_context *qn = qn_open("none"); /* files are checked on the host */
    if (!qn)
        return failure(options, "%s", qn_error(NULL));
    int status = inspect(options_operand(options), options, qn);
    qn_close(qn);
    return status;
}

/* The commands and their options: the one place that parsing, --help, the man page and the
 * completion read. */
#include "config.h"

#include "cli/cli.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* 2^53: whole numbers up to here are exact. */
#define MOST_WHOLE 9007199254740992.0

/* clang-format off */

#define HEADING(title) {.kind = OPTION_HEADING, .help = title}

#define GEMM_OPTION \
    {OPTION_STRING, 0, "gemm", "auto|clblast|own|tf32", "auto", .help = \
        "who multiplies matrices: CLBlast, Quern's own kernels, or what the tuning file says, else those; tf32: f32 is rounded to a fraction of " \
        "ten bits and multiplied by instructions for matrices of such, which the device must have (NVIDIA)"}

/* What every command that computes takes. */
#define DEVICE_OPTIONS \
    {OPTION_STRING, 'd', "device", "D", .help = \
        "where to compute: PLATFORM[:DEVICE], numbers or parts of names as `quern devices` prints " \
        "them (default: QUERN_DEVICE, else the fastest GPU, else the CPU)"}, \
    GEMM_OPTION

#define CONFIG_OPTION \
    {OPTION_STRING, 0, "config", "FILE", .help = \
        "read options from FILE, one `long-option = value` a line with # comments; the command " \
        "line wins"}

static const struct option devices_options[] = {
    {OPTION_FLAG, 0, "json", .help = "print JSON"},
    {OPTION_FLAG, 0, "clear-cache", .help = "remove the compiled kernels that Quern keeps, and list nothing"},
};

static const char *const devices_examples[] = {
    "quern devices", "what there is; * marks the default",
    "QUERN_DEVICE=intel quern devices", "what a selector stands for",
    NULL,
};

#define DECODER_OPTIONS \
    {OPTION_INTEGER, 0, "layers", "N", "4", 1, 100000, .help = "transformer blocks"}, \
    {OPTION_INTEGER, 0, "heads", "N", "4", 1, 100000, .help = \
        "attention heads; they share --width in equal parts of at most 256"}, \
    {OPTION_INTEGER, 0, "context", "N", "64", 1, 1e9, .help = "tokens the model looks back"},

#define EMBEDDINGS_OPTION \
    {OPTION_STRING, 0, "embeddings", "tied|untied", "untied", .help = \
        "whether the embedding of tokens is the head, too"},

#define RECURRENT_OPTIONS \
    {OPTION_STRING, 0, "recipe", "NAME", .help = \
        "options to begin with, which others win over; keras-rnn: that of Keras' text generation, one layer of 128 units, 10 epochs of 128 " \
        "windows of 100 tokens, Adam, and a fifth held out"}, \
    {OPTION_INTEGER, 0, "layers", "N", "1", 1, 64, .help = "recurrent layers, one on the other"}, \
    {OPTION_INTEGER, 0, "units", "N", "128", 1, 65536, .help = "numbers that make up the state of a layer"}, \
    EMBEDDINGS_OPTION \
    {OPTION_INTEGER, 0, "context", "N", "64", 1, 1e9, .help = "tokens through which gradients go back"}, \
    {OPTION_STRING, 0, "state", "reset|carry", "reset", .help = \
        "reset: windows are random, and begin with a state of zeros; carry: the rows of a batch read the text from end to end, each a " \
        "part of it, and a window begins with the state that the one before ended with.  Validation resets it"},

#define CHECKPOINT_OPTION \
    {OPTION_FLAG, 0, "checkpoint-activations", .help = \
        "keep only what comes into each block, and compute the rest again for its gradients: less memory, " \
        "up to a third more work, the same bits"},

/* ---- Language models ---- */

static const struct option train_gpt_options[] = {
#define MODEL_OPTIONS DECODER_OPTIONS
#define TRAINING_OPTIONS CHECKPOINT_OPTION
#include "cli/train/options_lm.inc"
};

static const struct option train_llama_options[] = {
#define MODEL_OPTIONS DECODER_OPTIONS \
    {OPTION_INTEGER, 0, "kv-heads", "N", NULL, 1, 100000, .help = \
        "heads of keys and values, each for as many neighbouring heads (default: as many as --heads)"}, \
    {OPTION_REAL, 0, "theta", "R", "10000", 1, 1e12, .help = \
        "base of the frequencies by which positions turn queries and keys"}, \
    EMBEDDINGS_OPTION
#define TRAINING_OPTIONS CHECKPOINT_OPTION
#include "cli/train/options_lm.inc"
};

static const struct option train_rnn_options[] = {
#define MODEL_OPTIONS RECURRENT_OPTIONS \
    {OPTION_STRING, 0, "nonlinearity", "tanh|relu", "tanh", .help = "of the state"},
#define TRAINING_OPTIONS
#include "cli/train/options_lm.inc"
};

static const struct option train_gated_options[] = {
#define MODEL_OPTIONS RECURRENT_OPTIONS
#define TRAINING_OPTIONS
#include "cli/train/options_lm.inc"
};

/* ---- Classifiers ---- */

/* Where text and label stand, for `predict`, too. */
#define EXAMPLE_OPTIONS(label_help) \
    {OPTION_STRING, 0, "format", "tsv|jsonl|columns", .help = \
        "fields parted by tabs, JSON objects a line, or tokens a line (default: by the end of the file's name, .tsv, .jsonl or .conll; others are " \
        "plain lines)"}, \
    {OPTION_STRING, 0, "text", "FIELD", .help = \
        "number of the column, or key, that has the text (default: 2, or \"text\")"}, \
    {OPTION_STRING, 0, "label", "FIELD", .help = label_help}, \
    {OPTION_STRING, 0, "damaged", "stop|skip", "stop", .help = \
        "what to do about a record that is damaged: stop, or tell about it and leave it out"},

static const struct option train_classify_options[] = {
#define DATA_OPTIONS \
    {OPTION_STRINGS, 0, "data", "FILE...", .required = true, .unless = "resume", .help = \
        "records of a text and its label; several files are joined"}, \
    EXAMPLE_OPTIONS("the same of the label (default: 1, or \"label\")") \
    {OPTION_STRING, 0, "tokenizer", "char|byte|word|bpe|PATH", "word", .help = \
        "one token a character, one a byte, 8,000 words or byte pairs learnt from the data, or what `quern tokenize train` made"}, \
    {OPTION_SIZE, 0, "max-tokens", "N", "256", 1, 1e6, .help = "longer texts are cut to so many"}, \
    {OPTION_STRING, 0, "valid", "FILE", .excludes = "valid-fraction", .help = \
        "validate on FILE instead of a part of --data"},
#define MODEL_OPTIONS \
    {OPTION_STRING, 'm', "model", "lstm|gru|rnn", "lstm", .help = "the recurrent layers"}, \
    {OPTION_STRING, 0, "nonlinearity", "tanh|relu", "tanh", .help = "of the state of rnn"}, \
    {OPTION_INTEGER, 0, "layers", "N", "1", 1, 64, .help = "recurrent layers, one on the other"}, \
    {OPTION_INTEGER, 0, "units", "N", "128", 1, 65536, .help = "numbers that make up the state of a layer"}, \
    {OPTION_STRING, 0, "direction", "both|forward", "both", .help = "how the layers read a text"}, \
    {OPTION_STRING, 0, "pooling", "last|mean|max", "mean", .help = \
        "what the label is found from: the states at the end, the mean of those at all tokens, or the largest of each number"},
#define WATCHING_OPTIONS
#define BATCH "texts a pass"
#define BATCH_SIZE "32"
#define DRAWN "all records"
#define STEPS NULL
#define EPOCHS "10"
#define DROPOUT "0.5"
#define SCHEDULE "cosine"
#define LEARNING_RATE "1e-3"
#define WARMUP "100"
#define WEIGHT_DECAY "0.1"
#define BETA2 "0.99"
#define EVAL_EVERY "250"
#define TRAINING_OPTIONS
#include "cli/train/options.inc"
};

/* ---- Encoder-decoders ---- */

#define SMOOTHING_OPTION \
    {OPTION_REAL, 0, "label-smoothing", "P", "0.1", 0, 1, .below_most = true, .help = \
        "share of the probability that the loss wants spread over all tokens"},

static const struct option train_seq2seq_options[] = {
#define MODEL_OPTIONS \
    {OPTION_STRING, 'm', "model", "lstm|gru", "lstm", .help = "the recurrent layers"}, \
    {OPTION_INTEGER, 0, "layers", "N", "1", 1, 64, .help = "recurrent layers of each side"}, \
    {OPTION_INTEGER, 0, "units", "N", "256", 1, 65536, .help = "numbers that make up the state of a layer"}, \
    {OPTION_STRING, 0, "direction", "both|forward", "both", .help = \
        "how the encoder reads; of both directions each has half of the units"}, \
    {OPTION_STRING, 0, "attention", "none|additive|dot|general", "general", .help = \
        "how the decoder looks at the source: not at all, as Bahdanau et al. (2015), or as Luong et al. (2015)"}, \
    {OPTION_STRING, 0, "bridge", "none|tanh", "tanh", .help = "what makes the decoder's first state of the encoder's last"}, \
    EMBEDDINGS_OPTION
#define TRAINING_OPTIONS \
    SMOOTHING_OPTION \
    {OPTION_REAL, 0, "scheduled-sampling", "P", "0", 0, 1, .below_most = true, .help = \
        "how often the decoder reads what it would have said itself instead of the right token; slow"},
#include "cli/train/options_pairs.inc"
};

static const struct option train_transformer_options[] = {
#define MODEL_OPTIONS \
    {OPTION_INTEGER, 0, "layers", "N", "3", 1, 100000, .help = "blocks of each side"}, \
    {OPTION_INTEGER, 0, "heads", "N", "4", 1, 100000, .help = "attention heads; they share --width in equal parts of at most 256"}, \
    {OPTION_INTEGER, 0, "inner", "N", "512", 1, 1e7, .help = "numbers inside a block's perceptron"}, \
    {OPTION_STRING, 0, "norm", "post|pre", "post", .help = "whether layer norms end the branches of a block or begin them"}, \
    {OPTION_STRING, 0, "positions", "sinusoidal|learned", "sinusoidal", .help = "how tokens know where they stand"}, \
    {OPTION_STRING, 0, "activation", "relu|gelu|swish", "relu", .help = "of the perceptron"}, \
    {OPTION_STRING, 0, "embeddings", "tied|untied", "tied", .help = \
        "whether source, target and head share an embedding (with two tokenizers: target and head)"},
#define TRAINING_OPTIONS \
    SMOOTHING_OPTION \
    CHECKPOINT_OPTION
#include "cli/train/options_pairs.inc"
};

static const char *const train_gpt_examples[] = {
    "quern train gpt --data text.txt --out run", "a small character model, 2000 steps",
    "quern train gpt --data text.txt --out run --time 10m", "what ten minutes give",
    "quern train gpt --out run --resume --steps 4000", "go on where it stopped",
    "quern train gpt --data *.txt --out run --tokenizer gpt2/ --layers 12 --heads 12 --width 768",
        "the size of GPT-2, with its vocabulary from gpt2/vocab.json and merges.txt",
    NULL,
};

static const char *const train_llama_examples[] = {
    "quern train llama --data text.txt --out run", "a small character model, 2000 steps",
    "quern train llama --data text.txt --out run --heads 8 --kv-heads 2 --embeddings tied",
        "fewer numbers to keep and to train",
    "quern train llama --out run --resume --steps 4000", "go on where it stopped",
    NULL,
};

static const char *const train_classify_examples[] = {
    "quern train classify --data train.tsv --valid dev.tsv --out run", "label and text in columns 1 and 2; an LSTM, 10 epochs",
    "quern train classify --data train.jsonl --text review --label stars --out run --model gru", "keys of JSON objects",
    "quern predict run --data test.tsv --score", "how good it is",
    NULL,
};

#define PAIR_EXAMPLES(kind) { \
    "quern train " kind " --source train.en --target train.de --valid-source val.en --valid-target val.de --out run", \
        "ten epochs, with a vocabulary of both sides", \
    "quern train " kind " --out run --resume --steps 20000", "go on where it stopped", \
    NULL, \
}
static const char *const train_seq2seq_examples[] = PAIR_EXAMPLES("seq2seq");
static const char *const train_transformer_examples[] = PAIR_EXAMPLES("transformer");

static const char *const recurrent_recipes[] = {
    "keras-rnn",
    "layers = 1\n" "width = 128\n" "units = 128\n" "context = 100\n" "batch = 128\n" "epochs = 10\n"
    "optimizer = adam\n" "lr = 1e-3\n" "schedule = constant\n" "warmup = 0\n" "weight-decay = 0\n" "beta2 = 0.999\n"
    "clip = 1\n" "valid-fraction = 0.2\n",
    NULL,
};

#define RECURRENT_EXAMPLES(kind) { \
    "quern train " kind " --data text.txt --out run", "a small character model, 2000 steps", \
    "quern train " kind " --data text.txt --out keras --recipe keras-rnn", "as Keras' example of text generation", \
    "quern train " kind " --data text.txt --out large --layers 2 --units 256 --dropout 0.2", "a larger one", \
    "quern train " kind " --out run --resume --steps 4000", "go on where it stopped", \
    NULL, \
}
static const char *const train_rnn_examples[] = RECURRENT_EXAMPLES("rnn");
static const char *const train_lstm_examples[] = RECURRENT_EXAMPLES("lstm");
static const char *const train_gru_examples[] = RECURRENT_EXAMPLES("gru");

#define ATTENTION_OPTIONS(what) \
    {OPTION_STRING, 0, "attention", "FILE.svg", .help = "draw " what " as heat maps: a row for each token that was said"}, \
    {OPTION_INTEGER, 0, "attention-block", "N", NULL, 1, 100000, .needs = "attention", .help = "of the decoder's block number N (default: the last)"}, \
    {OPTION_STRING, 0, "attention-heads", "each|mean", "each", .needs = "attention", .help = "a map for each head, or one of their mean"},

/* How a token is drawn: see sampling_of(). */
#define SAMPLING_OPTIONS(of, same_seed) \
    {OPTION_REAL, 0, "temperature", "R", "0.8", 0, 1e3, .needs = of, .help = "below 1: rather the likely tokens; 0: always the likeliest"}, \
    {OPTION_INTEGER, 0, "top-k", "N", "40", 0, 1e9, .needs = of, .help = "choose among the N likeliest tokens only; 0: all"}, \
    {OPTION_REAL, 0, "top-p", "P", "0.95", 0, 1, .above_least = true, .needs = of, .help = \
        "choose among the likeliest tokens that make up P only; 1: all"}, \
    {OPTION_INTEGER, 's', "seed", "N", "1337", 0, MOST_WHOLE, .needs = of, .help = same_seed},

static const struct option generate_options[] = {
    HEADING("Text"),
    {OPTION_STRING, 'p', "prompt", "TEXT", .help =
        "what to go on from (default: the token that begins texts, as <|endoftext|> or <bos>; if there is none, a new line)"},
    {OPTION_SIZE, 'n', "tokens", "N", "200", 1, MOST_WHOLE, .help = "tokens to generate"},
    {OPTION_INTEGER, 0, "samples", "N", "1", 1, 1e9, .help = "texts to generate"},
    ATTENTION_OPTIONS("what the last 64 tokens of the first text see of each other")

    HEADING("Sampling"),
    SAMPLING_OPTIONS(NULL, "the same seed gives the same text")

    HEADING("Device and configuration"),
    {OPTION_FLAG, 'q', "quiet", .help = "print the text only, nothing on stderr"},
    DEVICE_OPTIONS,
    CONFIG_OPTION,
};

static const char *const generate_examples[] = {
    "quern generate run --prompt \"In the beginning\"", "go on from a prompt",
    "quern generate run --tokens 500 --samples 3 --temperature 1", "three longer, wilder texts",
    "quern generate run --temperature 0 --quiet >text", "the likeliest text, in a file",
    NULL,
};

static const struct option evaluate_options[] = {
    {OPTION_STRING, 0, "data", "FILE", .required = true, .help =
        "plain UTF-8 text, or a file of `quern tokenize encode`; all of it is measured"},
    {OPTION_FLAG, 0, "json", .help =
        "print JSON with the keys loss, perplexity, bits_per_byte, accuracy and tokens; null is "
        "what is not finite"},
    {OPTION_STRINGS, 0, "dump", "NAME=FILE.npy", .help =
        "write what the node NAME computes of the first window of the text, for NumPy; may be repeated.  Names are PyTorch's paths of "
        "modules, such as transformer.h.0.attn or model.layers.0.mlp, and names of parameters; `list` prints all, with types and "
        "shapes, and measures nothing"},
    DEVICE_OPTIONS,
    CONFIG_OPTION,
};

static const char *const evaluate_examples[] = {
    "quern evaluate run --data test.txt", "loss, perplexity, bits per byte, accuracy",
    "quern evaluate run/latest --data test.txt --json", "the last checkpoint, for a script",
    "quern evaluate run --data test.txt --dump transformer.h.0.attn=attn.npy", "what attention of the first block gives",
    NULL,
};

static const struct option translate_options[] = {
    HEADING("Text"),
    {OPTION_STRING, 0, "data", "FILE", .help = "texts, one a line (default: standard input)"},
    {OPTION_FLAG, 0, "ids", .help = "lines are ids of tokens, the end token included, and so is what is written; needs no tokenizer"},
    {OPTION_INTEGER, 0, "batch", "N", "64", 1, 65536, .help = "texts at once, of like length"},

    HEADING("Search"),
    {OPTION_INTEGER, 'b', "beam", "N", "5", 1, 256, .help = "hypotheses of each text; 1: always the likeliest token"},
    {OPTION_REAL, 0, "length-penalty", "R", "1", -10, 10, .help =
        "the score of a text is the sum of its log-probabilities, divided by its length to the power of R"},
    {OPTION_REAL, 0, "coverage-penalty", "R", "0", 0, 100, .help = "how much it costs to leave parts of the source unread (Wu et al., 2016)"},
    {OPTION_FLAG, 0, "early-stopping", .excludes = "sample", .help = "stop as soon as N hypotheses have ended"},
    {OPTION_INTEGER, 0, "min-length", "N", "0", 0, 1e6, .help = "tokens before the end at least"},
    {OPTION_INTEGER, 0, "max-length", "N", NULL, 1, 1e6, .help = "tokens at most (default: 32 more than twice the source's, or what --min-length needs)"},
    {OPTION_INTEGER, 0, "no-repeat-ngram", "N", "0", 0, 1000, .help = "never the same N tokens twice; 0: they may be"},

    HEADING("Sampling"),
    {OPTION_FLAG, 0, "sample", .excludes = "beam", .help = "draw --n-best texts of each line instead of searching"},
    SAMPLING_OPTIONS("sample", "the same seed gives the same texts of the same lines in the same --batch")

    HEADING("What is printed"),
    {OPTION_INTEGER, 0, "n-best", "N", "1", 1, 256, .help = "so many translations of each text, best first, a line each"},
    {OPTION_FLAG, 0, "scores", .help = "before each its score, and a tab; -inf before what is empty since there is no text, or no further hypothesis"},
    ATTENTION_OPTIONS("what the first line's translation sees of it")
    {OPTION_FLAG, 'q', "quiet", .help = "print nothing on stderr but errors"},

    HEADING("Device and configuration"),
    DEVICE_OPTIONS,
    CONFIG_OPTION,
};

static const char *const translate_examples[] = {
    "quern translate run <test.en >test.found", "lines in, lines out, in their order",
    "quern translate run --beam 1 --batch 1 <test.en", "greedy, one by one",
    "quern translate run --n-best 3 --scores <test.en", "three translations of each line",
    "quern translate run --sample --n-best 3 --temperature 1 <test.en", "three that are drawn",
    NULL,
};

static const struct option predict_options[] = {
    HEADING("Data"),
    {OPTION_STRING, 0, "data", "FILE", .help = "records with a text (default: standard input, a text a line)"},
    EXAMPLE_OPTIONS("the same of the right label, for --score (default: 1, or \"label\")")
    {OPTION_INTEGER, 0, "batch", "N", "32", 1, 1e9, .help = "texts at once"},

    HEADING("What is printed"),
    {OPTION_FLAG, 0, "score", .help =
        "accuracy, macro F1, the share of the most frequent label, precision, recall and F1 of each, and the confusion matrix, instead of labels"},
    {OPTION_FLAG, 0, "probabilities", .help =
        "behind each label the probability of each one, parted by tabs, in the order of `quern inspect`"},
    {OPTION_FLAG, 0, "json", .help = "JSON: an object a text, or one with all scores"},

    HEADING("Device and configuration"),
    DEVICE_OPTIONS,
    CONFIG_OPTION,
};

static const char *const predict_examples[] = {
    "quern predict run <texts.txt", "a label for each line",
    "quern predict run --data test.tsv --score", "how many labels are right",
    "quern predict run --data test.jsonl --text review --json", "keys of JSON objects; probabilities for a script",
    NULL,
};

static const struct option average_options[] = {
    {OPTION_STRING, 'o', "out", "DIR", .required = true, .help = "folder for the model, which must not exist"},
    {OPTION_INTEGER, 0, "last", "N", "5", 1, 1000, .help = "the mean of so many checkpoints"},
    {OPTION_FLAG, 'q', "quiet", .help = "print errors only"},
};

static const char *const average_examples[] = {
    "quern train transformer --source a --target b --out run --keep 5", "keeps five checkpoints",
    "quern average run --last 5 --out mean", "which become one model",
    NULL,
};

static const char *const inspect_examples[] = {
    "quern inspect run", "model, tokenizer and state of a run",
    "quern inspect run/model.safetensors", "the tensors of a file",
    NULL,
};

static const struct option score_options[] = {
    {OPTION_STRINGS, 'r', "reference", "FILE", .one_each = true, .required = true, .help =
        "what is right, a text a line; repeated where there are several right texts"},
    {OPTION_FLAG, 0, "uneven", .help =
        "an empty line of a reference means that this sentence has no such reference"},
    {OPTION_FLAG, 0, "json", .help = "print JSON with all figures, unrounded"},

    HEADING("bleu and chrf"),
    {OPTION_FLAG, 0, "lowercase", .help = "case does not count"},
    {OPTION_STRING, 0, "tokenize", "13a|none", "13a", .help = "bleu: words by the rules of mteval-v13a, or what white space separates"},
    {OPTION_STRING, 0, "smooth", "exp|floor|add-k|none", "exp", .help = "bleu: what stands for the precision of n-grams without a match"},
    {OPTION_REAL, 0, "smooth-value", "R", NULL, 0, 1e6, .above_least = true, .help = "bleu: of floor (default: 0.1) and add-k (default: 1)"},
    {OPTION_INTEGER, 0, "char-order", "N", "6", 1, 16, .help = "chrf: characters of the longest n-gram"},
    {OPTION_INTEGER, 0, "word-order", "N", "0", 0, 16, .help = "chrf: words of the longest n-gram; 2 is chrF++"},
    {OPTION_INTEGER, 0, "beta", "N", "2", 1, 1000, .help = "chrf: how many times as important recall is as precision"},
    {OPTION_FLAG, 0, "whitespace", .help = "chrf: white space counts"},

    HEADING("rouge and spans"),
    {OPTION_FLAG, 0, "stem", .help = "rouge: compare the stems of English words (Porter's)"},
    {OPTION_STRING, 0, "tags", "columns|lines", "columns", .help =
        "spans: a token a line, its tag in the last column, an empty line behind each sentence; or the tags of a sentence a line"},
    {OPTION_FLAG, 0, "strict", .help = "spans: a span begins with its B, by IOB2; else as conlleval reads them"},
};

static const char *const score_examples[] = {
    "quern score bleu --reference right.de found.de", "sacrebleu's BLEU, with its signature",
    "quern score chrf -r a.txt -r b.txt --word-order 2 <found.txt", "chrF++ with two references",
    "quern score squad -r dev-v2.0.json predictions.json", "exact match and F1, as SQuAD's script",
    "quern score spans -r test.conll found.conll --json", "precision, recall and F1 of spans, for a script",
    NULL,
};

static const struct option check_options[] = {
    {OPTION_STRING, 'd', "device", "D", .help =
        "what to test: PLATFORM[:DEVICE], numbers or parts of names as `quern devices` prints them (default: "
        "QUERN_DEVICE, else the fastest GPU, else the CPU)"},
    GEMM_OPTION,
    {OPTION_STRINGS, 0, "op", "NAME", .help = "test this group of operations, or this row, only; may be repeated"},
    {OPTION_FLAG, 0, "grad", .help = "test gradients only"},
    {OPTION_STRING, 0, "variant", "NAME", .help = "test with this variant of kernels only"},
    {OPTION_FLAG, 0, "chosen", .help = "test with the variants only that the device, or what it pretends to be, would choose"},
    {OPTION_FLAG, 0, "as-is", .help = "test the device as it is, or as QUERN_CAPS has it, and not as it pretends to be others, too"},
    {OPTION_STRING, 0, "dtype", "f32|f16|bf16", .help = "test with real numbers of this type only"},
    {OPTION_INTEGER, 's', "seed", "N", "1", 0, MOST_WHOLE, .help = "of the random operands"},
    {OPTION_FLAG, 0, "list", .help = "print groups and rows, and test nothing"},
};

static const char *const check_examples[] = {
    "quern check", "every operation on the default device: some minutes",
    "quern check --device Intel --op matmul attention", "two groups on another",
    "QUERN_CL_DIR=cl quern check --op layer_norm --grad", "edited kernels",
    NULL,
};

static const struct option diff_options[] = {
    HEADING("What is computed"),
    {OPTION_STRING, 0, "model", "DIR", .help =
        "the model of a folder, with its weights (default: a small GPT with dropout)"},
    {OPTION_INTEGER, 'b', "batch", "N", "2", 1, 65536, .help = "texts at once"},
    {OPTION_INTEGER, 0, "context", "N", "33", 1, 1e6, .help = "tokens of each"},
    {OPTION_STRING, 0, "dtype", "f32|bf16|f16", "f32", .help = "what numbers are kept in but parameters and the loss"},
    {OPTION_INTEGER, 's', "seed", "N", "1337", 0, MOST_WHOLE, .help = "of weights, tokens and dropout"},
    HEADING("Reports"),
    {OPTION_FLAG, 0, "json", .help = "print JSON"},
};

static const char *const diff_examples[] = {
    "quern diff Portable Intel", "two drivers",
    "quern diff , ,caps=class=gpu:subgroups=0", "kernels for CPUs and those for GPUs, on the default device",
    "quern diff , ,cl=edited --dtype bf16", "kernels of a folder and the built-in ones",
    NULL,
};

static const struct option tokenize_train_options[] = {
    HEADING("Text"),
    {OPTION_STRINGS, 0, "data", "FILE...", .required = true, .help =
        "UTF-8 text to learn from; of several files, one tokenizer for all of them; - is standard input"},
    {OPTION_STRINGS, 0, "clean", "STEP...", .help =
        "what is done to text before it is split, now and whenever it is encoded, in this order: nfc, nfkc, lowercase, "
        "accents (removed), controls (removed), spaces (runs of white space become one)"},

    HEADING("Tokenizer"),
    {OPTION_STRING, 'o', "out", "DIR|FILE.json", .required = true, .help =
        "folder for tokenizer.json and tokenizer_config.json, or a file, in Hugging Face's form"},
    {OPTION_STRING, 0, "kind", "bpe|word|char|byte", "bpe", .help =
        "byte pair encoding, whole words, single characters, or plain bytes"},
    {OPTION_STRING, 0, "split", "pattern|mark|punctuation|space", .help =
        "how text is split into words: of bpe by GPT-2's pattern, into bytes (the default), or before spaces, which are marked as in "
        "SentencePiece, into characters; of word at white space and punctuation (the default), or at white space"},
    {OPTION_SIZE, 0, "vocab", "N", "8000", 1, 1 << 24, .help =
        "tokens in all at most; bpe and word"},
    {OPTION_SIZE, 0, "merges", "N", NULL, 1, 1 << 24, .help =
        "merges of byte pairs at most, instead of --vocab or besides it"},
    {OPTION_SIZE, 0, "min-frequency", "N", "2", 1, MOST_WHOLE, .help =
        "how often a word or a pair must occur (default of char: 1)"},
    {OPTION_STRINGS, 0, "special", "NAME...", .help =
        "special tokens, whose ids come first; <unk> stands for what is unknown (default: <|endoftext|> of GPT-2's pattern, "
        "<unk> <pad> <bos> <eos> of mark and of words, none of others)"},
    {OPTION_FLAG, 0, "byte-fallback", .help = "of --split mark: unknown characters become tokens of their bytes, not <unk>"},
    {OPTION_FLAG, 'q', "quiet", .help = "print errors only"},
};

static const char *const tokenize_train_examples[] = {
    "quern tokenize train --data train.en train.de --out joint --split mark --merges 6000", "one vocabulary for both sides of a translation",
    "quern tokenize train --data text.txt --out words --kind word --vocab 20k --clean nfkc lowercase", "whole words in small letters",
    "quern train gpt --data text.txt --out run --tokenizer joint", "a model with it",
    NULL,
};

static const struct option tokenize_encode_options[] = {
    {OPTION_STRINGS, 0, "data", "FILE...", .help = "UTF-8 text (default: standard input)"},
    {OPTION_STRING, 'o', "out", "FILE", .help =
        "write a file of tokens, which `quern train --data` takes and which may be larger than memory (default: a line of ids for "
        "each line, on stdout)"},
    {OPTION_STRING, 0, "documents", "file|line|paragraph", "file", .help =
        "what a document is in --out: each file, each line, or what empty lines separate"},
    {OPTION_STRING, 0, "end", "NAME", .help = "put this special token behind each document, or line"},
    {OPTION_FLAG, 'q', "quiet", .help = "print errors only"},
};

static const char *const tokenize_encode_examples[] = {
    "quern tokenize encode joint <test.en", "ids, a line for each line",
    "quern tokenize encode joint --data *.txt --out text.tokens", "a file to train on, each text a document",
    NULL,
};

static const struct option tokenize_decode_options[] = {
    {OPTION_STRINGS, 0, "data", "FILE...", .help =
        "lines of ids, or files of tokens (default: standard input, lines)"},
};

static const char *const tokenize_decode_examples[] = {
    "echo 12 7 1024 | quern tokenize decode joint", "the text of ids",
    "quern tokenize decode joint --data text.tokens", "the text of a file of tokens",
    NULL,
};

static const struct option bench_options[] = {
    HEADING("What to time"),
    {OPTION_STRING, 0, "suite", "quick|standard|full", "standard", .excludes = "shapes", .help =
        "quick: a few rows of each group, for half a second each; full: large sizes, too, for GPUs"},
    {OPTION_STRING, 0, "shapes", "LIST", .help =
        "sizes for the one group that is named instead of its own, such as 1024x1024x1024,64x64x64: "
        "M x N x K for gemm, elements for memory, rows x width for rows, batch x heads x context x "
        "width of a head for attention, layers (four at most) x units x length x batch for rnn; of train, seq2seq and generate, those of their own rows that are "
        "wanted: batch x context, or tokens of the prompt"},
    {OPTION_DURATION, 0, "seconds", "TIME", NULL, 0, 3600, .above_least = true, .help =
        "how long to sample each row (default: 1s; in the quick suite 0.5s), in ten rounds over all rows; each round takes one sample at "
        "least, however long that takes"},
    {OPTION_DURATION, 0, "longest", "TIME", "10m", 0, 1e6, .above_least = true, .help =
        "leave out a row whose fewest runs would take longer, as the device's peaks predict, or as its first run was"},

    HEADING("Reports"),
    {OPTION_STRING, 0, "json", "FILE", .help =
        "write every sample, with device, driver, options, commit and environment; of what is there only such a report is replaced"},
    {OPTION_STRING, 0, "against", "FILE", .help =
        "add the rates of another program, of a JSON list of case, rate and unit"},
    {OPTION_FLAG, 'q', "quiet", .help = "print no progress"},

    HEADING("Device"),
    DEVICE_OPTIONS,
};

static const char *const bench_examples[] = {
    "quern bench --suite quick", "a minute",
    "quern bench --json before.json", "all of it: some minutes",
    "quern bench gemm --shapes 512x50257x768 --seconds 5", "one matrix product, four transpositions",
    "quern bench train generate", "whole steps and tokens",
    NULL,
};

static const struct option tune_options[] = {
    HEADING("What to try"),
    {OPTION_STRING, 0, "shapes", "LIST", .help =
        "sizes M x N x K, such as 512x2304x768,1x768x3072, in all four transpositions (default: the products of layers of GPT-2 124M "
        "and of a small GPT, training and generating)"},
    {OPTION_STRINGS, 0, "dtype", "f32|bf16|f16", .help =
        "type of the operands; may be repeated (default: f32)"},
    {OPTION_DURATION, 0, "budget", "TIME", "2m", 0, 1e6, .above_least = true, .help =
        "start no more trials after this; what is known then is written"},

    HEADING("Report"),
    {OPTION_STRING, 'o', "out", "FILE", "quern.tuning", .help =
        "where to write the choices, for QUERN_TUNING; of a file that is there, what it says of other products on the same device is kept; "
        "one for another device is replaced, one that holds something else is not"},
    {OPTION_FLAG, 'q', "quiet", .help = "print no progress"},

    HEADING("Device"),
    {OPTION_STRING, 'd', "device", "D", .help =
        "which device: PLATFORM[:DEVICE], numbers or parts of names as `quern devices` prints "
        "them (default: QUERN_DEVICE, else the fastest GPU, else the CPU)"},
};

static const char *const tune_examples[] = {
    "quern tune -o ~/.config/gpu.tuning", "two minutes for the products of usual models",
    "quern tune --shapes 4096x4096x4096 --dtype bf16 f32 --budget 10m", "one shape, two types",
    "QUERN_TUNING=quern.tuning quern train gpt --data text.txt --out run", "training by what was measured",
    NULL,
};

static const struct option compare_options[] = {
    {OPTION_STRING, 0, "html", "FILE", .help =
        "write the comparison, or one report, as a page that needs nothing else: verdicts, devices, bars, rooflines, losses, kernels, "
        "failures; it has the reports within, and is read as they are"},
    {OPTION_FLAG, 0, "turns", .help =
        "the files are of runs of two things by turns, A, B, A, B and so on, six of each or more: compare the two by the ratios within "
        "pairs, which what a machine does from minute to minute leaves alone"},
    {OPTION_REAL, 0, "fail-slower", "PERCENT", .most = 1e6, .help =
        "exit with 1, and name the rows, if any other's are called slower than the first's, by more than this at both ends of the interval; "
        "and if no row can be compared; peaks do not count, unless there is nothing else, nor do void rows, for which `quern bench` itself exits "
        "with 1"},
    {OPTION_STRING, 0, "json", "FILE", .help =
        "write the comparison as JSON; of what is there only such a file is replaced, and by --html only a page"},
};

static const char *const compare_examples[] = {
    "quern bench compare before.json after.json", "what became faster or slower",
    "quern bench compare before.json after.json --fail-slower 5", "for a script",
    "quern bench compare pocl.json intel.json llvmpipe.json --html page.html", "three devices, for reading",
    "quern bench compare page.html new.json", "the reports in a page, and one more",
    "quern bench compare --turns a1.json b1.json a2.json b2.json ...", "on a machine that others use",
    NULL,
};

const struct command commands[] = {
    {
        "devices", "ls", NULL,
        "list the OpenCL devices",
        "Prints every device of every OpenCL platform with what it can do and which workarounds "
        "for its driver are in force.  If there is none: which loader and drivers were found, why "
        "each failed, and what to install.",
        devices_options, LENGTH(devices_options), command_devices, devices_examples, NULL,
    },
    {
        "train gpt", NULL, NULL,
        "train a GPT on text",
        "Trains a GPT (GPT-2's architecture) from scratch and keeps the best model.  Ctrl-C ends "
        "the step, saves and says how to resume; a second Ctrl-C quits at once.  The defaults are "
        "nanoGPT's recipe for characters on a CPU.",
        train_gpt_options, LENGTH(train_gpt_options), command_train, train_gpt_examples, NULL,
    },
    {
        "train llama", NULL, NULL,
        "train a Llama on text",
        "As `quern train gpt`, with Llama's architecture: RMS norm, rotary positions, SwiGLU (of 8/3 the "
        "width, up to a multiple of 32), no biases, and heads that may share keys and values.",
        train_llama_options, LENGTH(train_llama_options), command_train, train_llama_examples, NULL,
    },
    {
        "train rnn", NULL, NULL,
        "train a recurrent network on text",
        "As `quern train gpt`, with layers of simple recurrent units between an embedding and a head.",
        train_rnn_options, LENGTH(train_rnn_options), command_train, train_rnn_examples, recurrent_recipes,
    },
    {
        "train lstm", NULL, NULL,
        "train an LSTM on text",
        "As `quern train rnn`, with long short-term memory.",
        train_gated_options, LENGTH(train_gated_options), command_train, train_lstm_examples, recurrent_recipes,
    },
    {
        "train gru", NULL, NULL,
        "train a GRU on text",
        "As `quern train rnn`, with gated recurrent units.",
        train_gated_options, LENGTH(train_gated_options), command_train, train_gru_examples, recurrent_recipes,
    },
    {
        "train classify", NULL, NULL,
        "train a classifier of texts",
        "Trains recurrent layers to tell the label of a text, from records of texts with labels.  Texts of about the same length make "
        "up a batch; each epoch shuffles them anew.  DIR becomes a folder for `quern predict`.",
        train_classify_options, LENGTH(train_classify_options), command_train, train_classify_examples, NULL,
    },
    {
        "train seq2seq", NULL, NULL,
        "train a recurrent encoder-decoder",
        "Trains a recurrent network that reads a text and one that writes another, from two files of lines that belong together, as for "
        "translation.  Pairs of about the same lengths make up a batch; each epoch shuffles them anew.",
        train_seq2seq_options, LENGTH(train_seq2seq_options), command_train, train_seq2seq_examples, NULL,
    },
    {
        "train transformer", NULL, NULL,
        "train an encoder-decoder Transformer",
        "As `quern train seq2seq`, with the Transformer of \"Attention is all you need\".  With norms behind the branches, sinusoidal "
        "positions and one vocabulary, DIR is a MarianMTModel of Hugging Face.",
        train_transformer_options, LENGTH(train_transformer_options), command_train, train_transformer_examples, NULL,
    },
    {
        "generate", "sample", "DIR",
        "write text with a model",
        "Prints text to stdout, and speed to stderr.  When the context of a gpt or llama is full, its last half "
        "becomes the new prompt.",
        generate_options, LENGTH(generate_options), command_generate, generate_examples, NULL,
    },
    {
        "evaluate", "eval", "DIR",
        "measure a model on text",
        "Measures the model on all of a file, in windows of its context.",
        evaluate_options, LENGTH(evaluate_options), command_evaluate, evaluate_examples, NULL,
    },
    {
        "translate", NULL, "DIR",
        "translate lines with a trained encoder-decoder",
        "Writes what an encoder-decoder makes of each line, in their order, by beam search, or as it is drawn.  What the search is like is printed on "
        "stderr, since scores such as BLEU move with it.",
        translate_options, LENGTH(translate_options), command_translate, translate_examples, NULL,
    },
    {
        "predict", NULL, "DIR",
        "label texts with a trained classifier",
        "Prints a label for each text, in their order; or, with --score, how well the labels agree with the right ones.",
        predict_options, LENGTH(predict_options), command_predict, predict_examples, NULL,
    },
    {
        "average", NULL, "DIR",
        "average the last checkpoints of a run",
        "Writes a model whose weights are the mean of those of the last checkpoints of a run that keeps them (--keep).",
        average_options, LENGTH(average_options), command_average, average_examples, NULL,
    },
    {
        "inspect", "info", "DIR|FILE",
        "say what a model folder or file holds",
        "Prints configuration, tokenizer, training state and tensors.  Refuses what is damaged, "
        "and says where.",
        NULL, 0, command_inspect, inspect_examples, NULL,
    },
    {
        "score", NULL, "METRIC [FILE]",
        "score text, answers, labels or tags",
        "Compares what a model gave, in FILE or on stdin, with references, line by line.  METRIC is `bleu`, `chrf` (both as sacrebleu 2.6 "
        "computes them), `rouge` (as rouge-score 0.1.2; the mean over lines), `squad`, `accuracy` (a label a line; with precision, recall and F1 of "
        "classes as scikit-learn has them) or `spans` (tags O, B-TYPE, I-TYPE, E-TYPE, S-TYPE; as seqeval 1.2.2 and conlleval).  For `squad`, "
        "references are answers, one a line; or, where their name ends in .json, SQuAD's data set, and FILE has the JSON object of "
        "ids and answers: questions without an answer score 0, and are counted.  Needs no device.",
        score_options, LENGTH(score_options), command_score, score_examples, NULL,
    },
    {
        "check", NULL, NULL,
        "test every operation on a device",
        "Holds every operation, in every variant that fits, against arithmetic in double, and its gradient against differences; on the "
        "device as it is, and as it pretends to be others.  Looks, too, for writes outside of results and for results that differ from "
        "run to run.  Prints TAP (see `prove`); a test that fails is followed by variant, kernels, element, what was found and expected, "
        "and the command that repeats it.  A driver that crashes takes no more with it than the row that it was at.  The exit "
        "status is 1 if a test failed.",
        check_options, LENGTH(check_options), command_check, check_examples, NULL,
    },
    {
        "diff", NULL, "SETTING...",
        "find what two devices compute differently",
        "Takes a step of training (forward, backward, update) of the same model and batch on two devices, or on one with two "
        "settings, A and B, and names the first node that differs by more than rounding, with what its vendor needs to "
        "reproduce it.  Each node of B computes what A had computed before it, so that no error is another's; then come the kernels "
        "that compute several nodes, of both, and the results of whole steps.  A setting is DEVICE,KEY=VALUE,...; no DEVICE is the "
        "default one; keys are caps, as QUERN_CAPS has it with colons for commas; cl, as QUERN_CL_DIR; gemm=own|clblast|tf32 (which rounds: "
        "for both settings, or it is the difference); and variant, a name that `quern diff` prints.  The exit status is 1 if there is a difference.",
        diff_options, LENGTH(diff_options), command_diff, diff_examples, NULL,
    },
    {
        "tokenize train", NULL, NULL,
        "learn a tokenizer from text",
        "Learns a vocabulary from text, by byte pair encoding, words or characters, and writes it as a tokenizer.json by which "
        "Hugging Face's tokenizers gives the same ids.  The text is read piece by piece and need not fit into memory.  The same text "
        "and options give the same file.",
        tokenize_train_options, LENGTH(tokenize_train_options), command_tokenize_train, tokenize_train_examples, NULL,
    },
    {
        "tokenize encode", NULL, "DIR",
        "make ids of text",
        "Prints a line of ids for each line of text, or writes a file of tokens that is mapped when it is read.  Special tokens in the "
        "text become their ids.  DIR is the folder of a tokenizer or of a model, or a tokenizer.json.",
        tokenize_encode_options, LENGTH(tokenize_encode_options), command_tokenize_encode, tokenize_encode_examples, NULL,
    },
    {
        "tokenize decode", NULL, "DIR",
        "make text of ids",
        "Prints the text of lines of ids, or of files of tokens that the same tokenizer made: with line ends behind lines, empty lines "
        "between paragraphs, and nothing between files.  What cleaning changed, and white space around words, does not come back.",
        tokenize_decode_options, LENGTH(tokenize_decode_options), command_tokenize_decode, tokenize_decode_examples, NULL,
    },
    {
        "bench", NULL, "[GROUP]...",
        "measure the device, and Quern on it",
        "Measures the peaks of the device by kernels of Quern's own, then the groups named (gemm, "
        "memory, rows, attention, rnn, train, seq2seq, generate; none: all), each row as a share of its peak.  "
        "Results are checked before they are timed: one that is wrong makes its row void, and the "
        "exit status 1.  `quern bench compare` compares its JSON files, two or more.",
        bench_options, LENGTH(bench_options), command_bench, bench_examples, NULL,
    },
    {
        "tune", NULL, NULL,
        "find the fastest products of matrices on a device",
        "For each shape and transposition, times the kernels that Quern takes by itself, then the others that fit and do not leave half a tile empty, and CLBlast, in "
        "turns with the former; results are checked against double before they are timed.  What is faster by more than noise is "
        "written to a file of text, which training and generating read where QUERN_TUNING names it.  Ctrl-C ends it as the budget does, "
        "but for the exit status, 130: what is known is written.  The exit status is 1 if a result was wrong.",
        tune_options, LENGTH(tune_options), command_tune, tune_examples, NULL,
    },
    {
        "bench compare", NULL, "FILE...",
        "compare what bench measured",
        "Compares JSON files of `quern bench`, or those within pages of --html: what differs between device, driver, build, "
        "options and environment; then the time of each row in each, its share of the device's own peak, the ratio to the first, its "
        "interval, and a verdict: faster, slower, same, unclear or, where the work of a row differs, not "
        "comparable.  Rows that are void in one are named, and have no verdict.  With --html one file is enough.",
        compare_options, LENGTH(compare_options), command_bench_compare, compare_examples, NULL,
    },
};

/* clang-format on */

const size_t n_commands = LENGTH(commands);

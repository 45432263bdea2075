/* Configurations of models: what is read, written and refused.  Needs no device. */
#include <quern/io.h>

#include <string.h>

#include "tap.h"
#include "files.h"
#include "host.h"

struct refusal {
    const char *text, *message;
};

/* As a configuration of a decoder. */
static void refuses(const struct refusal *cases, size_t count)
{
    struct qn_lm_config config;
    for (size_t i = 0; i < count; i++)
        ok(qn_lm_config_read(qn, write_text("config.json", cases[i].text), &config) < 0 &&
               says(cases[i].message),
           "config: %s", cases[i].message);
}

/* ---- GPT-2 ---- */

#define GPT2                                                                                       \
    "\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_positions\":40,\"n_embd\":32,\"n_layer\":2,"    \
    "\"n_head\":4"

static void test_gpt2(void)
{
    struct qn_lm_config config, again;
    const char *golden = shared_path("golden/models/gpt2/config.json");
    if (golden)
        ok(qn_lm_config_read(qn, golden, &config) == QN_OK && config.vocab_size == 97 &&
               config.n_positions == 40 && config.n_embd == 32 && config.n_layer == 2 &&
               config.n_head == 4 && config.n_inner == 0 && config.activation == QN_GELU &&
               config.layer_norm_epsilon == 1e-5 && config.resid_pdrop == 0 &&
               config.tie_word_embeddings && config.eos_token_id == 30 &&
               qn_lm_config_parameters(&config) == 29856,
           "config: of a model that transformers wrote");
    else
        skip("the golden models are not in ../shared");

    const char *path = in_folder("config.json");
    config = (struct qn_lm_config){.vocab_size = 65,
                                   .n_positions = 64,
                                   .n_embd = 128,
                                   .n_layer = 4,
                                   .n_head = 4,
                                   .n_inner = 100,
                                   .layer_norm_epsilon = 1e-5,
                                   .resid_pdrop = 0.1,
                                   .activation = QN_RELU,
                                   .bos_token_id = -1,
                                   .eos_token_id = 7};
    ok(qn_lm_config_write(qn, path, &config) == QN_OK &&
           qn_lm_config_read(qn, path, &again) == QN_OK && again.vocab_size == 65 &&
           again.n_positions == 64 && again.n_embd == 128 && again.n_layer == 4 &&
           again.n_head == 4 && again.n_inner == 100 && again.layer_norm_epsilon == 1e-5 &&
           again.resid_pdrop == 0.1 && again.embd_pdrop == 0 && again.activation == QN_RELU &&
           !again.tie_word_embeddings && again.bos_token_id == -1 && again.eos_token_id == 7,
       "config: survives writing");

    ok(qn_lm_config_read(qn, write_text("config.json", "{" GPT2 ",\"other\":[1]}"), &config) ==
               QN_OK &&
           config.resid_pdrop == 0.1 && config.tie_word_embeddings,
       "config: missing keys have the library's values, unknown ones are ignored");
    ok(qn_lm_config_read(qn, write_text("config.json", "{" GPT2 ",\"eos_token_id\":[5,6]}"),
                         &config) == QN_OK &&
           config.eos_token_id == 5,
       "config: the first of several end tokens");

    static const struct refusal cases[] = {
        {"", "not JSON"},
        {"{}", "model_type: missing; expected a string"},
        {"{\"model_type\":\"bert\"}",
         "model_type: expected \"gpt2\", \"llama\", \"rnn\", \"lstm\" or \"gru\", found \"bert\""},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":\"97\"}",
         "vocab_size: expected an integer from 1 to 16777216, found string \"97\""},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":97.5}",
         "vocab_size: expected an integer from 1 to 16777216, found 97.5"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":0}", "found 0"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":-3}", "found -3"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":null}", "found null"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":99999999999}", "found 99999999999"},
        {"{" GPT2 ",\"n_inner\":true}", "n_inner: expected an integer"},
        {"{" GPT2 ",\"layer_norm_epsilon\":\"x\"}", "layer_norm_epsilon: expected a number"},
        {"{" GPT2 ",\"layer_norm_epsilon\":0}", "layer_norm_epsilon: expected more than 0"},
        {"{" GPT2 ",\"resid_pdrop\":1}", "dropout: expected numbers from 0 to less than 1"},
        {"{" GPT2 ",\"tie_word_embeddings\":1}",
         "tie_word_embeddings: expected true or false, found 1"},
        {"{" GPT2 ",\"activation_function\":\"mish\"}", "found \"mish\""},
        {"{" GPT2 ",\"reorder_and_upcast_attn\":true}", "only false is supported"},
        {"{" GPT2 ",\"scale_attn_by_inverse_layer_idx\":true}", "only false is supported"},
        {"{" GPT2 ",\"scale_attn_weights\":false}", "only true is supported"},
        {"{" GPT2 ",\"eos_token_id\":\"x\"}", "eos_token_id: expected an integer"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_positions\":40,\"n_embd\":33,\"n_layer\":"
         "2,\"n_head\":4}",
         "the width 33 (n_embd) must be a multiple of the 4 heads"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_positions\":40,\"n_embd\":1048576,\"n_"
         "layer\":4096,\"n_head\":4}",
         "such a model would have 5.4e+16 parameters"},
        {"{\"model_type\":\"gpt2\",\"vocab_size\":97,\"n_positions\":40,\"n_embd\":32,\"n_layer\":"
         "5000,\"n_head\":4}",
         "n_layer (layers): expected 1 to 4096, found 5000"},
    };
    refuses(cases, sizeof cases / sizeof *cases);
    remove(path);
}

/* ---- Llama ---- */

#define LLAMA                                                                                      \
    "\"model_type\":\"llama\",\"vocab_size\":101,\"max_position_embeddings\":64,"                  \
    "\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                        \
    "\"intermediate_size\":72"
#define LLAMA3                                                                                     \
    "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"                             \
    "\"original_max_position_embeddings\":8192"

static bool is_scaled(const struct qn_rotary *rotary)
{
    return rotary->theta == 500000 && rotary->scaling.factor == 8 && rotary->scaling.low == 1 &&
           rotary->scaling.high == 4 && rotary->scaling.length == 8192;
}

static void test_llama(void)
{
    struct qn_lm_config config, again;
    const char *golden = shared_path("golden/models/llama/config.json"),
               *path = in_folder("config.json");
    if (golden)
        ok(qn_lm_config_read(qn, golden, &config) == QN_OK && config.architecture == QN_LLAMA &&
               config.vocab_size == 101 && config.n_positions == 64 && config.n_kv_head == 2 &&
               config.head_size == 8 && config.n_inner == 72 && config.rotary.theta == 10000 &&
               config.layer_norm_epsilon == 1e-5 && !config.tie_word_embeddings &&
               qn_lm_config_parameters(&config) == 26592,
           "config: of a Llama that transformers wrote");
    else
        skip("the golden models are not in ../shared");

    ok(qn_lm_config_read(qn, write_text("config.json", "{" LLAMA "}"), &config) == QN_OK &&
           config.n_kv_head == 0 && config.head_size == 0 && config.rotary.theta == 10000 &&
           config.rotary.scaling.factor == 0 && config.layer_norm_epsilon == 1e-6 &&
           !config.tie_word_embeddings && !config.attention_bias && config.eos_token_id == -1,
       "config: missing keys of Llama have the library's values");
    ok(qn_lm_config_read(qn,
                         write_text("config.json",
                                    "{" LLAMA ",\"rope_theta\":500000.0,"
                                    "\"rope_scaling\":{\"type\":\"llama3\"," LLAMA3 "}}"),
                         &config) == QN_OK &&
           is_scaled(&config.rotary),
       "config: rope_theta and rope_scaling of older files");
    ok(qn_lm_config_read(qn,
                         write_text("config.json",
                                    "{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"llama3\","
                                    "\"rope_theta\":500000.0," LLAMA3 "}}"),
                         &config) == QN_OK &&
           is_scaled(&config.rotary),
       "config: rope_parameters");
    config.n_kv_head = 2;
    config.head_size = 6;
    config.attention_bias = config.tie_word_embeddings = true;
    config.resid_pdrop = 0.1;
    config.eos_token_id = 7;
    ok(qn_lm_config_write(qn, path, &config) == QN_OK &&
           qn_lm_config_read(qn, path, &again) == QN_OK &&
           !qn_lm_config_difference(&config, &again) && again.n_kv_head == 2 &&
           again.head_size == 6 && again.mlp_bias == false && again.eos_token_id == 7,
       "config: Llama's survives writing");
    config.n_kv_head = 4;
    ok(strcmp(qn_lm_config_difference(&config, &again), "num_key_value_heads") == 0,
       "config: other heads of keys");

    static const struct refusal cases[] = {
        {"{" LLAMA ",\"num_key_value_heads\":3}",
         "the 4 heads (num_attention_heads) must be a multiple of the 3 heads of keys and values"},
        {"{" LLAMA ",\"head_dim\":7}", "heads of 7 numbers: rotary positions turn pairs of them"},
        {"{" LLAMA ",\"hidden_act\":\"gelu\"}", "hidden_act: expected \"silu\", found \"gelu\""},
        {"{" LLAMA ",\"rope_theta\":0}", "rope_theta: expected a number"},
        {"{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\"}}",
         "type: expected \"default\" or \"llama3\", found \"yarn\""},
        {"{" LLAMA ",\"rope_scaling\":{\"type\":\"llama3\"}}", "factor: missing"},
        {"{" LLAMA ",\"rope_parameters\":{\"partial_rotary_factor\":0.5}}",
         "partial_rotary_factor: only 1 is supported"},
        {"{" LLAMA ",\"attention_bias\":1}", "attention_bias: expected true or false"},
        {"{\"model_type\":\"llama\",\"vocab_size\":101}", "max_position_embeddings: missing"},
    };
    refuses(cases, sizeof cases / sizeof *cases);
    config.rotary.size = 4;
    ok(qn_lm_config_check(qn, "here", &config) < 0 && says("here: rotary positions of Llama"),
       "config: what Llama's cannot say");
    remove(path);
}

/* ---- BERT ---- */

#define BERT                                                                                       \
    "\"model_type\":\"bert\",\"vocab_size\":119,\"max_position_embeddings\":40,"                   \
    "\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"                        \
    "\"intermediate_size\":64"
#define TEXTS ",\"architectures\":[\"BertForSequenceClassification\"]"

static void test_bert(void)
{
    struct qn_bert_config config, again;
    const char *golden = shared_path("golden/models/bert_ner/config.json"),
               *path = in_folder("config.json");
    if (golden)
        ok(qn_bert_config_read(qn, golden, &config) == QN_OK && config.head == QN_BERT_TOKENS &&
               config.vocab_size == 119 && config.n_positions == 40 && config.n_types == 2 &&
               config.width == 32 && config.n_inner == 64 && config.n_labels == 5 &&
               config.layer_norm_epsilon == 1e-12 && config.activation == QN_GELU_ERF &&
               config.hidden_dropout == 0 && config.pad_token_id == 0 &&
               qn_bert_config_parameters(&config) == 22469,
           "config: of a BERT that transformers wrote");
    else
        skip("the golden models are not in ../shared");
    ok(qn_bert_config_read(qn, write_text("config.json", "{" BERT TEXTS "}"), &config) == QN_OK &&
           config.head == QN_BERT_TEXTS && config.n_labels == 2 && config.n_types == 2 &&
           config.hidden_dropout == 0.1 && config.classifier_dropout == 0.1 &&
           config.pad_token_id == 0,
       "config: missing keys of BERT have the library's values");
    config.n_labels = 7;
    config.activation = QN_RELU;
    config.pad_token_id = -1;
    config.classifier_dropout = 0.3;
    ok(qn_bert_config_write(qn, path, &config) == QN_OK &&
           qn_bert_config_read(qn, path, &again) == QN_OK && again.head == QN_BERT_TEXTS &&
           again.n_labels == 7 && again.activation == QN_RELU && again.pad_token_id == -1 &&
           again.classifier_dropout == 0.3 && again.width == 32,
       "config: BERT's survives writing");

    static const struct refusal cases[] = {
        {"{" BERT "}", "architectures: missing"},
        {"{" BERT ",\"architectures\":[\"BertModel\"]}",
         "expected BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification or "
         "BertForQuestionAnswering, found \"BertModel\""},
        {"{" BERT TEXTS ",\"is_decoder\":true}", "is_decoder: only false is supported"},
        {"{" BERT TEXTS ",\"hidden_act\":\"mish\"}", "hidden_act: expected \"gelu\""},
        {"{" BERT TEXTS ",\"position_embedding_type\":\"relative_key\"}",
         "position_embedding_type: expected \"absolute\""},
        {"{" BERT TEXTS ",\"problem_type\":\"regression\"}",
         "problem_type: expected \"single_label_classification\", found \"regression\""},
        {"{" BERT TEXTS ",\"pad_token_id\":119}", "pad_token_id 119 is not in the vocabulary"},
        {"{" BERT TEXTS ",\"id2label\":{}}", "labels: expected 1 to 65536, found 0"},
        {"{}", "model_type: missing"},
        {"{\"model_type\":\"gpt2\"}", "model_type: expected \"bert\", found \"gpt2\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(qn_bert_config_read(qn, write_text("config.json", cases[i].text), &config) < 0 &&
               says(cases[i].message),
           "config: %s", cases[i].message);
    remove(path);
}

#define LSTM                                                                                       \
    "\"model_type\":\"lstm\",\"vocab_size\":65,\"embedding_size\":12,\"hidden_size\":24,"          \
    "\"num_layers\":2,\"context_length\":100"

static void test_recurrent(void)
{
    const char *path = in_folder("config.json");
    struct qn_lm_config config, again;
    ok(qn_lm_config_read(qn, write_text("config.json", "{" LSTM "}"), &config) == QN_OK &&
           config.architecture == QN_RECURRENT && config.cell == QN_LSTM &&
           config.hidden_size == 24 && config.resid_pdrop == 0 && !config.tie_word_embeddings &&
           config.eos_token_id == -1 &&
           qn_lm_config_parameters(&config) ==
               65 * 12 + 96 * (12 + 24 + 2) + 96 * (24 + 24 + 2) + 65 * 24 + 65,
       "config: of an LSTM");
    config.cell = QN_RNN_RELU;
    config.resid_pdrop = 0.2;
    ok(qn_lm_config_write(qn, path, &config) == QN_OK &&
           qn_lm_config_read(qn, path, &again) == QN_OK &&
           !qn_lm_config_difference(&config, &again),
       "config: that of an RNN survives writing");
    again.cell = QN_RNN_TANH;
    const char *key = qn_lm_config_difference(&config, &again);
    ok(key && strcmp(key, "model_type") == 0, "config: another kind of cell is another model");

    static const struct refusal cases[] = {
        {"{" LSTM ",\"tie_word_embeddings\":true}", "tied embeddings must be as wide as the state"},
        {"{" LSTM ",\"dropout\":1}", "dropout"},
        {"{" LSTM ",\"bos_token_id\":\"x\"}", "bos_token_id"},
        {"{\"model_type\":\"gru\",\"vocab_size\":65}", "context_length: missing"},
        {"{\"model_type\":\"rnn\",\"nonlinearity\":\"elu\"}",
         "nonlinearity: expected \"tanh\" or \"relu\", found \"elu\""},
    };
    refuses(cases, sizeof cases / sizeof *cases);
    remove(path);
}

#define CLASSIFIER                                                                                 \
    "\"model_type\":\"lstm\",\"vocab_size\":65,\"embedding_size\":12,\"hidden_size\":24,"          \
    "\"num_layers\":2,\"bidirectional\":true,\"max_length\":100"
#define LABELS "\"id2label\":{\"0\":\"neg\",\"1\":\"pos\",\"2\":\"\xc3\xa9\"}"

static void test_classifier(void)
{
    const char *path = in_folder("config.json");
    struct qn_classifier_config config, again;
    qn_labels *labels = qn_classifier_config_read(
        qn, write_text("config.json", "{" CLASSIFIER "," LABELS "}"), &config);
    ok(labels && config.cell == QN_LSTM && config.is_bidirectional &&
           config.pooling == QN_POOL_LAST && config.dropout == 0 && config.n_labels == 3 &&
           config.max_length == 100 && strcmp(qn_labels_name(labels, 2), "\xc3\xa9") == 0,
       "config: of a classifier");
    is_int((long long)qn_classifier_config_parameters(&config),
           65 * 12 + 192 * (12 + 24 + 2) + 192 * (48 + 24 + 2) + (48 + 1) * 3,
           "config: parameters of a classifier");
    config.cell = QN_RNN_RELU;
    config.pooling = QN_POOL_MAX;
    config.dropout = 0.25;
    bool is_written = qn_classifier_config_write(qn, path, &config, labels) == QN_OK;
    qn_labels *same = is_written ? qn_classifier_config_read(qn, path, &again) : NULL;
    ok(same && !qn_classifier_config_difference(&config, &again) && qn_labels_count(same) == 3 &&
           strcmp(qn_labels_name(same, 0), "neg") == 0,
       "config: a classifier survives writing");
    again.pooling = QN_POOL_MEAN;
    const char *key = qn_classifier_config_difference(&config, &again);
    ok(key && strcmp(key, "pooling") == 0, "config: another pooling is another classifier");
    qn_labels_free(labels);
    qn_labels_free(same);
    ok(qn_model_kind(qn, in_folder("")) == QN_MODEL_CLASSIFIER, "config: it tells what it is");
    struct qn_lm_config lm;
    ok(qn_lm_config_read(qn, path, &lm) < 0 && strstr(qn_error(qn), "use `quern predict`"),
       "config: a classifier is no language model");
    qn_clear_error(qn);

    static const struct refusal cases[] = {
        {"{" CLASSIFIER "}", "id2label: missing"},
        {"{" CLASSIFIER ",\"id2label\":{}}", "id2label: expected 1 to 65536 labels, found 0"},
        {"{" CLASSIFIER ",\"id2label\":{\"0\":\"a\",\"2\":\"b\"}}", "id2label.1: missing"},
        {"{" CLASSIFIER ",\"id2label\":{\"0\":\"a\",\"1\":\"a\"}}", "\"a\""},
        {"{" CLASSIFIER ",\"id2label\":{\"0\":7}}", "id2label.0: expected a string"},
        {"{" CLASSIFIER "," LABELS ",\"pooling\":\"sum\"}",
         "pooling: expected \"last\", \"mean\" or \"max\", found \"sum\""},
        {"{" CLASSIFIER "," LABELS ",\"dropout\":1}", "dropout"},
        {"{\"model_type\":\"gpt2\"," LABELS "}",
         "model_type: expected \"rnn\", \"lstm\" or \"gru\", found \"gpt2\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        labels = qn_classifier_config_read(qn, write_text("config.json", cases[i].text), &config);
        ok(!labels && strstr(qn_error(qn), cases[i].message), "config: classifier: %s: %s",
           cases[i].message, qn_error(qn));
        qn_labels_free(labels);
        qn_clear_error(qn);
    }
    remove(path);
}

/* ---- Encoder-decoders ---- */

#define MARIAN                                                                                     \
    "\"model_type\":\"marian\",\"vocab_size\":95,\"max_position_embeddings\":48,\"d_model\":32,"   \
    "\"encoder_layers\":2,\"decoder_layers\":2,\"encoder_attention_heads\":4,"                     \
    "\"decoder_attention_heads\":4,\"encoder_ffn_dim\":64,\"decoder_ffn_dim\":48,"                 \
    "\"decoder_start_token_id\":94"
#define SIDES                                                                                      \
    "\"src_vocab_size\":45,\"tgt_vocab_size\":39,\"max_positions\":48,\"decoder_start_token_id\":" \
    "1"
#define TRANSFORMER                                                                                \
    "\"model_type\":\"transformer\",\"d_model\":32,\"nhead\":4,\"num_encoder_layers\":2,"          \
    "\"num_decoder_layers\":2,\"dim_feedforward\":64," SIDES
#define SEQ2SEQ                                                                                    \
    "\"model_type\":\"seq2seq\",\"embedding_size\":12,\"hidden_size\":16,\"num_layers\":1," SIDES

static void test_seq2seq(void)
{
    struct qn_seq2seq_config config, again;
    const char *path = in_folder("config.json"),
               *golden = shared_path("golden/models/marian/config.json");
    if (golden)
        ok(qn_seq2seq_config_read(qn, golden, &config) == QN_OK &&
               config.architecture == QN_MARIAN && config.target_vocab_size == 95 &&
               config.decoder_inner == 48 && config.activation == QN_SILU && config.dropout == 0 &&
               config.scales_embedding && config.shares_embeddings && config.ties_head &&
               config.start_token_id == 94 && config.eos_token_id == 78,
           "config: of a Marian that transformers wrote");
    else
        skip("the golden models are not in ../shared");
    ok(qn_seq2seq_config_read(qn, write_text("config.json", "{" MARIAN "}"), &config) == QN_OK &&
           config.dropout == 0.1 && config.activation == QN_GELU_ERF && !config.scales_embedding &&
           config.shares_embeddings && config.ties_head && config.pad_token_id == -1,
       "config: missing keys of Marian have the library's values");
    static const char *const texts[] = {
        "{" MARIAN ",\"activation_function\":\"relu\",\"pad_token_id\":94}",
        "{" TRANSFORMER ",\"norm_first\":true,\"positions\":\"learned\",\"eos_token_id\":2}",
        "{" SEQ2SEQ ",\"cell\":\"gru\",\"attention\":\"additive\",\"bidirectional\":true}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ok(qn_seq2seq_config_read(qn, write_text("config.json", texts[i]), &config) == QN_OK &&
               qn_seq2seq_config_write(qn, path, &config) == QN_OK &&
               qn_model_kind(qn, test_folder) == QN_MODEL_SEQ2SEQ &&
               qn_seq2seq_config_read(qn, path, &again) == QN_OK &&
               !qn_seq2seq_config_difference(&config, &again),
           "config: survives writing: %.30s...", texts[i]);
        again.target_vocab_size++;
        const char *key = qn_seq2seq_config_difference(&config, &again);
        ok(key && strcmp(key, "tgt_vocab_size") == 0, "config: what differs has a name");
    }

    static const struct refusal cases[] = {
        {"{" MARIAN ",\"tie_word_embeddings\":false}", "needs tie_word_embeddings"},
        {"{" MARIAN ",\"normalize_before\":true}", "normalize_before: only false is supported"},
        {"{" MARIAN ",\"decoder_vocab_size\":96}", "vocabularies have 95 and 96 tokens"},
        {"{" MARIAN ",\"pad_token_id\":95}", "pad_token_id 95 is not in the vocabulary of 95"},
        {"{" MARIAN ",\"activation_function\":\"mish\"}", "activation_function: expected \"gelu\""},
        {"{" MARIAN ",\"encoder_attention_heads\":3}", "duplicate"},
        {"{" TRANSFORMER ",\"positions\":\"rotary\"}",
         "positions: expected \"sinusoidal\", \"sinusoidal_halves\" or \"learned\", found "
         "\"rotary\""},
        {"{" TRANSFORMER ",\"eos_token_id\":39}", "eos_token_id 39 is not in the vocabulary of 39"},
        {"{" SEQ2SEQ ",\"attention\":\"concat\"}", "or \"general\", found \"concat\""},
        {"{" SEQ2SEQ ",\"tie_word_embeddings\":true}", "tied embeddings must be as wide"},
        {"{\"model_type\":\"seq2seq\"}", "embedding_size: missing"},
        {"{\"model_type\":\"t5\"}",
         "expected \"marian\", \"transformer\" or \"seq2seq\", found \"t5\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(qn_seq2seq_config_read(qn, write_text("config.json", cases[i].text), &config) < 0 &&
               says(cases[i].message),
           "config: %s", cases[i].message);
    remove(path);
}

int main(void)
{
    open_host();
    make_test_folder();
    test_gpt2();
    test_llama();
    test_bert();
    test_recurrent();
    test_classifier();
    test_seq2seq();
    remove_test_folder();
    qn_close(qn);
    return done_testing();
}

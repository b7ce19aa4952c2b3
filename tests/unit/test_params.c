/* params.json: the published shape is read, and every way to be wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/params.h"
#include "surtitle.h"

static const char good[] =
    "{\"dim\": 3072, \"n_layers\": 26, \"head_dim\": 128, \"hidden_dim\": 9216, \"n_heads\": 32, \"n_kv_heads\": 8,"
    " \"use_biases\": false, \"causal\": true, \"rope_theta\": 1000000.0, \"norm_eps\": 1e-05, \"vocab_size\": 131072,"
    " \"model_parallel\": 1, \"tied_embeddings\": true, \"sliding_window\": 8192, \"model_max_length\": 131072,"
    " \"multimodal\": {\"whisper_model_args\": {\"encoder_args\": {\"audio_encoding_args\": {\"sampling_rate\": 16000,"
    " \"frame_rate\": 12.5, \"num_mel_bins\": 128, \"hop_length\": 160, \"window_size\": 400, \"chunk_length_s\": null,"
    " \"global_log_mel_max\": 1.5, \"transcription_format\": \"streaming\"}, \"dim\": 1280, \"n_layers\": 32,"
    " \"head_dim\": 64, \"hidden_dim\": 5120, \"n_heads\": 32, \"vocab_size\": 131072, \"n_kv_heads\": 32,"
    " \"use_biases\": true, \"use_cache\": false, \"rope_theta\": 1000000.0, \"causal\": true, \"norm_eps\": 1e-05,"
    " \"pos_embed\": \"rope\", \"max_source_positions\": null, \"ffn_type\": \"swiglu\", \"norm_type\": \"rms_norm\","
    " \"sliding_window\": 750}, \"downsample_args\": {\"downsample_factor\": 4}}},"
    " \"ada_rms_norm_t_cond\": true, \"ada_rms_norm_t_cond_dim\": 32}";

/* `good` with the nth (from 0) occurrence of `from` replaced, parsed. */
static int parse_with(struct sur_params *p, const char *from, int nth, const char *to)
{
    const char *at = strstr(good, from);
    for (int i = 0; i < nth && at; i++) at = strstr(at + 1, from);
    assert_non_null(at);
    size_t before = (size_t)(at - good), size = sizeof good + strlen(to);
    char *text = malloc(size);
    snprintf(text, size, "%.*s%s%s", (int)before, good, to, at + strlen(from));
    int rc = sur_params_parse(p, text, strlen(text));
    free(text);
    return rc;
}

static void refused(const char *from, int nth, const char *to, const char *message)
{
    struct sur_params p;
    assert_int_equal(parse_with(&p, from, nth, to), SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), message);
}

static void test_published(void **state)
{
    struct sur_params p;
    assert_int_equal(sur_params_parse(&p, good, sizeof good - 1), SUR_OK);
    assert_int_equal(p.decoder.dim, 3072);
    assert_int_equal(p.decoder.n_layers, 26);
    assert_int_equal(p.decoder.head_dim, 128);
    assert_int_equal(p.decoder.hidden_dim, 9216);
    assert_int_equal(p.decoder.n_heads, 32);
    assert_int_equal(p.decoder.n_kv_heads, 8);
    assert_int_equal(p.decoder.window, 8192);
    assert_true(p.decoder.rope_theta == 1e6 && p.decoder.norm_eps == 1e-5);
    assert_int_equal(p.vocab_size, 131072);
    assert_int_equal(p.ada_dim, 32);
    assert_int_equal(p.encoder.dim, 1280);
    assert_int_equal(p.encoder.n_layers, 32);
    assert_int_equal(p.encoder.head_dim, 64);
    assert_int_equal(p.encoder.hidden_dim, 5120);
    assert_int_equal(p.encoder.n_heads, 32);
    assert_int_equal(p.encoder.n_kv_heads, 32);
    assert_int_equal(p.encoder.window, 750);
    assert_int_equal(p.n_mels, 128);
    assert_true(p.log_mel_max == 1.5);
}

static void test_variants(void **state)
{
    struct sur_params p;
    assert_int_equal(parse_with(&p, "\"sliding_window\": 8192", 0, "\"sliding_window\": \"4096\""), SUR_OK);
    assert_int_equal(p.decoder.window, 4096);
    assert_int_equal(parse_with(&p, "\"sliding_window\": 750", 0, "\"sliding_window\": \"524288\""), SUR_OK);
    assert_int_equal(p.encoder.window, 524288);
    assert_int_equal(parse_with(&p, "\"n_kv_heads\": 32", 0, "\"n_kv_heads\": 16"), SUR_OK);
    assert_int_equal(p.encoder.n_kv_heads, 16);
    assert_int_equal(parse_with(&p, "\"dim\": 3072", 0, "\"dim\": 3072.0"), SUR_OK); /* as some writers put it */
    assert_int_equal(p.decoder.dim, 3072);
    assert_int_equal(parse_with(&p, "\"num_mel_bins\": 128", 0, "\"num_mel_bins\": 80"), SUR_OK);
    assert_int_equal(p.n_mels, 80);
    assert_int_equal(parse_with(&p, "\"sampling_rate\": 16000", 0, "\"sampling_rate\": 16000.0"), SUR_OK);
    /* Keys that only repeat what the architecture is may be missing. */
    assert_int_equal(parse_with(&p, " \"use_biases\": false, \"causal\": true,", 0, ""), SUR_OK);
    assert_int_equal(parse_with(&p, "\"pos_embed\": \"rope\",", 0, ""), SUR_OK);
}

#define ENC   "params.json: multimodal.whisper_model_args.encoder_args."
#define AUDIO ENC "audio_encoding_args."

static void test_numbers(void **state)
{
    static const char dim[] = "params.json: dim must be a whole number from 1 to 65536";
    static const char window[] = "params.json: sliding_window must be a whole number from 1 to 1048576";
    const char *bad_dims[] = {
        "\"dim\": 0",        "\"dim\": -1",     "\"dim\": 65537",      "\"dim\": 3072.5",
        "\"dim\": \"3072\"", "\"dim\": null",   "\"dim\": 4294967296", "\"dim\": -9223372036854775808",
        "\"dim\": 1e300",    "\"dim\": [3072]", "\"dim\": true"};
    for (size_t i = 0; i < sizeof bad_dims / sizeof bad_dims[0]; i++) refused("\"dim\": 3072", 0, bad_dims[i], dim);
    const char *bad_windows[] = {"\"sliding_window\": 0",       "\"sliding_window\": 1048577",
                                 "\"sliding_window\": null",    "\"sliding_window\": \"0\"",
                                 "\"sliding_window\": \"\"",    "\"sliding_window\": \"-1\"",
                                 "\"sliding_window\": \" 8\"",  "\"sliding_window\": \"1048577\"",
                                 "\"sliding_window\": [8]",     "\"sliding_window\": \"99999999999999999999999999\"",
                                 "\"sliding_window\": \"0x10\""};
    for (size_t i = 0; i < sizeof bad_windows / sizeof bad_windows[0]; i++)
        refused("\"sliding_window\": 8192", 0, bad_windows[i], window);
    refused("\"dim\": 3072, ", 0, "", "params.json: dim is missing");
    refused("\"dim\": 3072", 0, "\"dim\": 3071", "params.json: dim must be even");
    refused("\"dim\": 1280, ", 0, "", ENC "dim is missing");
    refused("\"n_layers\": 26", 0, "\"n_layers\": 257", "params.json: n_layers must be a whole number from 1 to 256");
    refused("\"n_layers\": 32", 0, "\"n_layers\": 0", ENC "n_layers must be a whole number from 1 to 256");
    refused("\"head_dim\": 128", 0, "\"head_dim\": 127", "params.json: head_dim must be even");
    refused("\"head_dim\": 64", 0, "\"head_dim\": 514", ENC "head_dim must be a whole number from 2 to 512");
    refused("\"n_heads\": 32", 0, "\"n_heads\": 1025", "params.json: n_heads must be a whole number from 1 to 1024");
    refused("\"n_kv_heads\": 8", 0, "\"n_kv_heads\": 5", "params.json: n_heads must be a multiple of n_kv_heads");
    refused("\"n_kv_heads\": 32", 0, "\"n_kv_heads\": 64", ENC "n_heads must be a multiple of n_kv_heads");
    refused("\"hidden_dim\": 5120", 0, "\"hidden_dim\": 65537",
            ENC "hidden_dim must be a whole number from 1 to 65536");
    refused("\"vocab_size\": 131072", 0, "\"vocab_size\": 1048577",
            "params.json: vocab_size must be a whole number from 2 to 1048576");
    refused("\"rope_theta\": 1000000.0", 0, "\"rope_theta\": 0",
            "params.json: rope_theta must be a number from 1 to 1e+12");
    refused("\"norm_eps\": 1e-05", 1, "\"norm_eps\": -1", ENC "norm_eps must be a number from 0 to 1");
    refused("_cond_dim\": 32", 0, "_cond_dim\": 0",
            "params.json: ada_rms_norm_t_cond_dim must be a whole number from 1 to 65536");
}

static void test_architecture(void **state)
{
    refused("\"sampling_rate\": 16000", 0, "\"sampling_rate\": 8000", AUDIO "sampling_rate must be 16000");
    refused("\"frame_rate\": 12.5", 0, "\"frame_rate\": 25", AUDIO "frame_rate must be 12.5");
    refused("\"hop_length\": 160", 0, "\"hop_length\": \"160\"", AUDIO "hop_length must be 160");
    refused("\"window_size\": 400", 0, "\"window_size\": 512", AUDIO "window_size must be 400");
    refused("\"window_size\": 400, ", 0, "", AUDIO "window_size is missing");
    refused("\"num_mel_bins\": 128", 0, "\"num_mel_bins\": 513",
            AUDIO "num_mel_bins must be a whole number from 1 to 512");
    refused("\"global_log_mel_max\": 1.5, ", 0, "", AUDIO "global_log_mel_max is missing");
    refused("\"global_log_mel_max\": 1.5", 0, "\"global_log_mel_max\": null",
            AUDIO "global_log_mel_max must be a number from -100 to 100");
    refused("\"tied_embeddings\": true", 0, "\"tied_embeddings\": false", "params.json: tied_embeddings must be true");
    refused("\"tied_embeddings\": true,", 0, "", "params.json: tied_embeddings is missing");
    refused("\"use_biases\": false", 0, "\"use_biases\": true", "params.json: use_biases must be false");
    refused("\"use_biases\": true", 0, "\"use_biases\": false", ENC "use_biases must be true");
    refused("\"causal\": true", 1, "\"causal\": false", ENC "causal must be true");
    refused("\"pos_embed\": \"rope\"", 0, "\"pos_embed\": \"sinusoidal\"", ENC "pos_embed must be \"rope\"");
    refused("\"ffn_type\": \"swiglu\"", 0, "\"ffn_type\": \"mlp\"", ENC "ffn_type must be \"swiglu\"");
    refused("\"norm_type\": \"rms_norm\"", 0, "\"norm_type\": 1", ENC "norm_type must be \"rms_norm\"");
    refused("ada_rms_norm_t_cond\": true", 0, "ada_rms_norm_t_cond\": false",
            "params.json: ada_rms_norm_t_cond must be true");
    refused("\"downsample_factor\": 4", 0, "\"downsample_factor\": 2",
            "params.json: multimodal.whisper_model_args.downsample_args.downsample_factor must be 4");
    refused("\"multimodal\": {", 0, "\"other\": {", "params.json: multimodal is missing");
    refused("\"encoder_args\": {", 0, "\"encoder_args\": 1, \"other\": {",
            "params.json: multimodal.whisper_model_args.encoder_args must be an object");
}

/* Each size is allowed, but together they ask for 2^41 bytes of keys and values. */
static void test_memory(void **state)
{
    refused(
        "\"head_dim\": 128, \"hidden_dim\": 9216, \"n_heads\": 32, \"n_kv_heads\": 8, \"use_biases\": false, "
        "\"causal\": true,"
        " \"rope_theta\": 1000000.0, \"norm_eps\": 1e-05, \"vocab_size\": 131072, \"model_parallel\": 1, "
        "\"tied_embeddings\": true,"
        " \"sliding_window\": 8192",
        0,
        "\"head_dim\": 512, \"hidden_dim\": 9216, \"n_heads\": 1024, \"n_kv_heads\": 1024, \"rope_theta\": 1e6, "
        "\"norm_eps\": 1e-05,"
        " \"vocab_size\": 131072, \"tied_embeddings\": true, \"sliding_window\": 40960",
        "params.json: n_layers, sliding_window, n_kv_heads and head_dim ask for 2080 GiB of keys and values a session");
}

static void expect_broken(const char *text, size_t n, const char *message)
{
    struct sur_params p;
    assert_int_equal(sur_params_parse(&p, text, n), SUR_ERR_MODEL);
    if (strncmp(sur_error_text(), message, strlen(message)) != 0) fail_msg("%s", sur_error_text());
}

static void test_broken_json(void **state)
{
    struct sur_params p;
    for (size_t n = 0; n < sizeof good - 1; n++) { /* cut anywhere: refused, never read past the end */
        char *cut = malloc(n + 1);
        memcpy(cut, good, n);
        assert_int_equal(sur_params_parse(&p, cut, n), SUR_ERR_MODEL);
        free(cut);
    }
    expect_broken("", 0, "params.json: broken JSON at line 1: ");
    expect_broken("[]", 2, "params.json: not a JSON object");
    expect_broken("{\"dim\": 1, \"dim\": 2}", 20, "params.json: broken JSON at line 1: duplicate object key");
    expect_broken("{\"dim\": 99999999999999999999}", 29, "params.json: broken JSON at line 1: too big integer");
    expect_broken("{\"a\": 1e999}", 12, "params.json: broken JSON at line 1: real number overflow");
    expect_broken("{\"\xff\": 1}", 8, "params.json: broken JSON at line 1: unable to decode byte 0xff");
    expect_broken("{\"a\\u0000\": 1}", 14, "params.json: broken JSON at line 1: ");
    expect_broken("{}x", 3, "params.json: broken JSON at line 1: end of file expected");

    enum { DEEP = 30000, MANY = 80000 };
    char *deep = malloc(2 * MANY + 8);
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', DEEP);
    expect_broken(deep, 5 + DEEP, "params.json: broken JSON at line 1: maximum parsing depth reached");
    for (int i = 0; i < MANY; i++) memcpy(deep + 5 + 2 * i, i ? ",1" : "[1", 2);
    expect_broken(deep, 5 + 2 * MANY, "params.json: reading it takes more than 8192 KiB of memory");
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),    cmocka_unit_test(test_variants), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_architecture), cmocka_unit_test(test_memory),   cmocka_unit_test(test_broken_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* A whole checkpoint folder: tensors against params.json, errors that name the file, and the time and memory that
 * opening the published size takes. The folders made here have a header, and a hole instead of weights. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "surtitle.h"
#include "text/tekken.h"

struct shape { /* of both towers */
    int dim, n_layers, head_dim, hidden, n_heads, n_kv_heads, vocab, window, ada;
    int e_dim, e_layers, e_head_dim, e_hidden, e_heads, e_kv_heads, e_window, n_mels;
};
static const struct shape published = {3072, 26, 128, 9216, 32, 8,  131072, 8192, 32,
                                       1280, 32, 64,  5120, 32, 32, 750,    128};
static const struct shape tiny = {20, 2, 6, 14, 4, 2, 300, 9, 3, 10, 1, 4, 18, 3, 1, 5, 7};

static char folder[] = "/tmp/surtitle-checkpoint-XXXXXX";
static char paths[3][80]; /* params.json, tekken.json, consolidated.safetensors */

/* One lie to tell about a tensor: its name, and what its entry says instead ("" leaves it out). */
static const char *lie_about, *lie;

struct header {
    FILE *out;
    uint64_t offset;
    int n;
};

static void add(struct header *h, const char *prefix, int layer, const char *name, int d0, int d1, int d2)
{
    char full[160], shape[48];
    uint64_t n_bytes = 2 * (uint64_t)d0 * (uint64_t)(d1 ? d1 : 1) * (uint64_t)(d2 ? d2 : 1);
    if (layer < 0)
        snprintf(full, sizeof full, "%s%s", prefix, name);
    else
        snprintf(full, sizeof full, "%slayers.%d.%s", prefix, layer, name);
    if (d2)
        snprintf(shape, sizeof shape, "[%d, %d, %d]", d0, d1, d2);
    else if (d1)
        snprintf(shape, sizeof shape, "[%d, %d]", d0, d1);
    else
        snprintf(shape, sizeof shape, "[%d]", d0);
    int lied = lie_about && strcmp(full, lie_about) == 0;
    if (!lied || *lie) {
        fprintf(h->out, "%s\"%s\": {", h->n++ ? ", " : "", full);
        if (lied)
            fprintf(h->out, "%s, ", lie);
        else
            fprintf(h->out, "\"dtype\": \"BF16\", \"shape\": %s, ", shape);
        fprintf(h->out, "\"data_offsets\": [%llu, %llu]}", (unsigned long long)h->offset,
                (unsigned long long)(h->offset + n_bytes));
    }
    h->offset += n_bytes;
}

#define EMBEDDER "mm_streams_embeddings.embedding_module."
#define WHISPER  EMBEDDER "whisper_encoder."

static void add_layer(struct header *h, const char *prefix, int l, int d, int q, int kv, int hidden, int biases)
{
    add(h, prefix, l, "attention.wq.weight", q, d, 0);
    add(h, prefix, l, "attention.wk.weight", kv, d, 0);
    add(h, prefix, l, "attention.wv.weight", kv, d, 0);
    add(h, prefix, l, "attention.wo.weight", d, q, 0);
    if (biases) {
        add(h, prefix, l, "attention.wq.bias", q, 0, 0);
        add(h, prefix, l, "attention.wv.bias", kv, 0, 0);
        add(h, prefix, l, "attention.wo.bias", d, 0, 0);
        add(h, prefix, l, "feed_forward.w2.bias", d, 0, 0);
    }
    add(h, prefix, l, "attention_norm.weight", d, 0, 0);
    add(h, prefix, l, "feed_forward.w1.weight", hidden, d, 0);
    add(h, prefix, l, "feed_forward.w2.weight", d, hidden, 0);
    add(h, prefix, l, "feed_forward.w3.weight", hidden, d, 0);
    add(h, prefix, l, "ffn_norm.weight", d, 0, 0);
}

static int write_weights(const struct shape *s)
{
    struct header h = {.out = fopen(paths[2], "wb")};
    assert_non_null(h.out);
    fwrite("\0\0\0\0\0\0\0\0{", 1, 9, h.out);
    add(&h, EMBEDDER, -1, "tok_embeddings.weight", s->vocab, s->dim, 0);
    add(&h, WHISPER, -1, "conv_layers.0.conv.weight", s->e_dim, s->n_mels, 3);
    add(&h, WHISPER, -1, "conv_layers.0.conv.bias", s->e_dim, 0, 0);
    add(&h, WHISPER, -1, "conv_layers.1.conv.weight", s->e_dim, s->e_dim, 3);
    add(&h, WHISPER, -1, "conv_layers.1.conv.bias", s->e_dim, 0, 0);
    for (int l = 0; l < s->e_layers; l++)
        add_layer(&h, WHISPER "transformer.", l, s->e_dim, s->e_heads * s->e_head_dim, s->e_kv_heads * s->e_head_dim,
                  s->e_hidden, 1);
    add(&h, WHISPER "transformer.", -1, "norm.weight", s->e_dim, 0, 0);
    add(&h, EMBEDDER, -1, "audio_language_projection.0.weight", s->dim, 4 * s->e_dim, 0);
    add(&h, EMBEDDER, -1, "audio_language_projection.2.weight", s->dim, s->dim, 0);
    for (int l = 0; l < s->n_layers; l++) {
        add_layer(&h, "", l, s->dim, s->n_heads * s->head_dim, s->n_kv_heads * s->head_dim, s->hidden, 0);
        add(&h, "", l, "ada_rms_norm_t_cond.0.weight", s->ada, s->dim, 0);
        add(&h, "", l, "ada_rms_norm_t_cond.2.weight", s->dim, s->ada, 0);
    }
    add(&h, "", -1, "norm.weight", s->dim, 0, 0);
    fputc('}', h.out);
    while (ftell(h.out) % 8) fputc(' ', h.out);
    uint64_t n = (uint64_t)ftell(h.out) - 8;
    rewind(h.out);
    for (int i = 0; i < 8; i++) fputc((int)(n >> 8 * i & 255), h.out);
    fclose(h.out);
    assert_int_equal(truncate(paths[2], (off_t)(8 + n + h.offset)), 0);
    return h.n;
}

static void write_params(const struct shape *s)
{
    FILE *out = fopen(paths[0], "wb");
    assert_non_null(out);
    fprintf(out,
            "{\"dim\": %d, \"n_layers\": %d, \"head_dim\": %d, \"hidden_dim\": %d, \"n_heads\": %d, \"n_kv_heads\": %d,"
            " \"rope_theta\": 1e6, \"norm_eps\": 1e-5, \"vocab_size\": %d, \"tied_embeddings\": true, "
            "\"sliding_window\": %d,"
            " \"ada_rms_norm_t_cond\": true, \"ada_rms_norm_t_cond_dim\": %d,",
            s->dim, s->n_layers, s->head_dim, s->hidden, s->n_heads, s->n_kv_heads, s->vocab, s->window, s->ada);
    fprintf(
        out,
        " \"multimodal\": {\"whisper_model_args\": {\"encoder_args\": {\"dim\": %d, \"n_layers\": %d, \"head_dim\": %d,"
        " \"hidden_dim\": %d, \"n_heads\": %d, \"n_kv_heads\": %d, \"sliding_window\": %d, \"use_biases\": true,"
        " \"rope_theta\": 1e6, \"norm_eps\": 1e-5, \"audio_encoding_args\": {\"sampling_rate\": 16000, \"frame_rate\": "
        "12.5,"
        " \"num_mel_bins\": %d, \"hop_length\": 160, \"window_size\": 400, \"global_log_mel_max\": 1.5}},"
        " \"downsample_args\": {\"downsample_factor\": 4}}}}",
        s->e_dim, s->e_layers, s->e_head_dim, s->e_hidden, s->e_heads, s->e_kv_heads, s->e_window, s->n_mels);
    fclose(out);
}

static void write_tekken(int n_special, int n_entries)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    FILE *out = fopen(paths[1], "wb");
    assert_non_null(out);
    fprintf(out, "{\"config\": {\"default_num_special_tokens\": %d}, \"vocab\": [", n_special);
    for (int i = 0; i < n_entries; i++) { /* three bytes, the rank; and a text as long as the published ones */
        fprintf(out, "%s{\"rank\": %d, \"token_bytes\": \"%c%c%c%cIHdvcmQ=\", \"token_str\": \"\\u00e9t\\u00e9 %d\"}",
                i ? ",\n" : "", i, digits[i >> 18 & 63], digits[i >> 12 & 63], digits[i >> 6 & 63], digits[i & 63], i);
    }
    fprintf(out,
            "], \"special_tokens\": [{\"rank\": 1, \"token_str\": \"<s>\"}, {\"rank\": 2, \"token_str\": \"</s>\"},"
            " {\"rank\": 32, \"token_str\": \"[STREAMING_PAD]\"}, {\"rank\": 33, \"token_str\": \"[STREAMING_WORD]\"}],"
            " \"audio\": {\"transcription_delay_ms\": 480, \"streaming_n_left_pad_tokens\": 32}}");
    fclose(out);
}

static void write_all(const struct shape *s)
{
    write_params(s);
    write_tekken(40, s->vocab);
    lie_about = NULL;
    write_weights(s);
}

static void refused(const char *message)
{
    struct sur_checkpoint *c = NULL;
    char want[512];
    snprintf(want, sizeof want, "%s/%s", folder, message);
    assert_int_equal(sur_checkpoint_open(&c, folder), SUR_ERR_MODEL);
    assert_null(c);
    assert_string_equal(sur_error_text(), want);
}

static void expect_view(const struct sur_view *v, int rows, int cols)
{
    assert_int_equal(v->type, SUR_WEIGHT_BF16);
    assert_int_equal(v->rows, rows);
    assert_int_equal(v->cols, cols);
    assert_int_equal(v->row_bytes, (size_t)cols * 2);
    assert_non_null(v->data);
}

static void test_views(void **state)
{
    struct sur_checkpoint *c = NULL;
    const struct shape *s = &tiny;
    write_all(s);
    assert_int_equal(sur_checkpoint_open(&c, folder), SUR_OK);
    const struct sur_weights *w = &c->weights;
    expect_view(&w->embedding, 300, 20);
    expect_view(&w->conv0, 10, 21);
    expect_view(&w->conv0_bias, 1, 10);
    expect_view(&w->conv1, 10, 30);
    expect_view(&w->conv1_bias, 1, 10);
    expect_view(&w->encoder_norm, 1, 10);
    expect_view(&w->adapter0, 20, 40);
    expect_view(&w->adapter2, 20, 20);
    expect_view(&w->norm, 1, 20);
    const struct sur_layer *e = &w->encoder[0], *d = &w->decoder[1];
    expect_view(&e->wq, 12, 10);
    expect_view(&e->wk, 4, 10);
    expect_view(&e->wv, 4, 10);
    expect_view(&e->wo, 10, 12);
    expect_view(&e->bq, 1, 12);
    expect_view(&e->bv, 1, 4);
    expect_view(&e->bo, 1, 10);
    expect_view(&e->b2, 1, 10);
    expect_view(&e->w1, 18, 10);
    expect_view(&e->w2, 10, 18);
    expect_view(&e->w3, 18, 10);
    assert_true(!e->ada0.data && !e->ada2.data && !d->bq.data && !d->bv.data && !d->bo.data && !d->b2.data);
    expect_view(&d->wq, 24, 20);
    expect_view(&d->wk, 12, 20);
    expect_view(&d->wv, 12, 20);
    expect_view(&d->wo, 20, 24);
    expect_view(&d->attention_norm, 1, 20);
    expect_view(&d->ffn_norm, 1, 20);
    expect_view(&d->w1, 14, 20);
    expect_view(&d->w2, 20, 14);
    expect_view(&d->w3, 14, 20);
    expect_view(&d->ada0, 3, 20);
    expect_view(&d->ada2, 20, 3);
    const struct sur_tensor *t = sur_safetensors_find(c->file, "layers.1.feed_forward.w2.weight");
    assert_ptr_equal(t->data, d->w2.data);
    assert_int_equal(sur_tekken_info(c->tekken)->pad, 32);
    sur_checkpoint_close(&c);
    assert_null(c);
    sur_checkpoint_close(&c);
}

static void told(const char *name, const char *instead, const char *message)
{
    lie_about = name;
    lie = instead;
    write_weights(&tiny);
    refused(message);
}

static void test_tensors(void **state)
{
    write_all(&tiny);
    told("norm.weight", "", "consolidated.safetensors: norm.weight is missing");
    told("layers.1.ada_rms_norm_t_cond.2.weight", "",
         "consolidated.safetensors: layers.1.ada_rms_norm_t_cond.2.weight is missing");
    told("norm.weight", "\"dtype\": \"F16\", \"shape\": [20]", "consolidated.safetensors: norm.weight must be BF16");
    told("norm.weight", "\"dtype\": \"BF16\", \"shape\": [20, 1]",
         "consolidated.safetensors: norm.weight has shape [20, 1], params.json asks for [20]");
    told("layers.0.attention.wk.weight", "\"dtype\": \"BF16\", \"shape\": [20, 12]",
         "consolidated.safetensors: layers.0.attention.wk.weight has shape [20, 12], params.json asks for [12, 20]");
    told(WHISPER "conv_layers.0.conv.weight", "\"dtype\": \"BF16\", \"shape\": [10, 3, 7]",
         "consolidated.safetensors: " WHISPER
         "conv_layers.0.conv.weight has shape [10, 3, 7], params.json asks for [10, 7, 3]");
    lie_about = NULL;
    struct shape other = tiny;
    other.n_layers = 3; /* params.json asks for a layer that the file does not have */
    write_params(&other);
    write_weights(&tiny);
    refused("consolidated.safetensors: layers.2.attention.wq.weight is missing");
}

static char logged[256];
static int n_logged;

static void on_log(void *user, enum sur_log_level level, const char *line)
{
    if (level == SUR_LOG_WARN) n_logged++;
    snprintf(logged, sizeof logged, "%s", line);
}

/* Tensors that the model does not have are not used, with a warning. */
static void test_more_tensors(void **state)
{
    struct sur_checkpoint *c = NULL;
    struct shape fewer = tiny;
    fewer.n_layers = 1;
    write_all(&tiny);
    write_params(&fewer);
    sur_set_log(SUR_LOG_DEBUG, on_log, NULL);
    assert_int_equal(sur_checkpoint_open(&c, folder), SUR_OK);
    sur_set_log(SUR_LOG_ERROR, NULL, NULL);
    assert_int_equal(n_logged, 1);
    assert_string_equal(logged, "consolidated.safetensors: 11 tensors that params.json does not speak of are not used");
    sur_checkpoint_close(&c);
}

static void test_files(void **state)
{
    static const char *const names[] = {"params.json", "tekken.json", "consolidated.safetensors"};
    char message[128];
    for (int i = 0; i < 3; i++) {
        write_all(&tiny);
        unlink(paths[i]);
        snprintf(message, sizeof message, "%s: No such file or directory", names[i]);
        refused(message);
        close(open(paths[i], O_WRONLY | O_CREAT, 0600));
        snprintf(message, sizeof message, "%s: the file is empty", names[i]);
        refused(message);
    }
    write_all(&tiny);
    assert_int_equal(truncate(paths[0], (1 << 20) + 1), 0);
    refused("params.json: 1048577 bytes; at most 1048576 are read");
    write_all(&tiny);
    assert_int_equal(truncate(paths[1], 4096), 0);
    struct sur_checkpoint *c = NULL;
    assert_int_equal(sur_checkpoint_open(&c, folder), SUR_ERR_MODEL);
    assert_non_null(strstr(sur_error_text(), "/tekken.json: broken JSON: vocab has no end"));
    assert_int_equal(sur_checkpoint_open(&c, "/nonexistent\x1b[2J"), SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), "/nonexistent\xef\xbf\xbd[2J/params.json: No such file or directory");
}

/* Of this process: other tests may run beside it. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int64_t resident_kib(const char *field)
{
    char line[128];
    long long kib = 0;
    FILE *in = fopen("/proc/self/status", "r");
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, field, strlen(field)) == 0) kib = strtoll(line + strlen(field), NULL, 10);
    if (in) fclose(in);
    return kib;
}

/* Processor time that jansson alone takes to parse tekken.json. */
static double parse_seconds(void)
{
    double start = cpu_seconds();
    json_error_t error;
    json_t *tekken = json_load_file(paths[1], 0, &error);
    assert_non_null(tekken);
    json_decref(tekken);
    return cpu_seconds() - start;
}

/* 711 tensors, 8,859,358,720 bytes of weights, 150,000 entries: little more than parsing takes, and under 1 GiB. */
static void test_published_size(void **state)
{
    struct sur_checkpoint *c = NULL;
    write_params(&published);
    write_tekken(1000, 150000);
    lie_about = NULL;
    assert_int_equal(write_weights(&published), 711);
    double start = cpu_seconds();
    int rc = sur_checkpoint_open(&c, folder);
    double seconds = cpu_seconds() - start;
    if (rc != SUR_OK) fail_msg("%s", sur_error_text());
    assert_int_equal(sur_safetensors_count(c->file), 711);
    uint64_t n_bytes =
        (uint64_t)((const char *)c->weights.norm.data - (const char *)c->weights.embedding.data) + 2 * 3072;
    assert_true(n_bytes == 8859358720u);
    size_t n;
    int special;
    assert_memory_equal(sur_tekken_piece(c->tekken, 131071, &n, &special), "\x01\xfc\x17 word", 8);
    sur_checkpoint_close(&c);
    int64_t most_kib = resident_kib("VmHWM:");
    double parsing = parse_seconds();
    print_message("opened in %.3f s, parsing alone %.3f s, %lld MiB at the most\n", seconds, parsing,
                  (long long)(most_kib >> 10));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they take several times as much */
    assert_true(seconds < 3 * parsing + 0.1);
    assert_true(most_kib < 1 << 20);
#endif
}

static int make_folder(void **state)
{
    static const char *const names[] = {"params.json", "tekken.json", "consolidated.safetensors"};
    if (!mkdtemp(folder)) return -1;
    for (int i = 0; i < 3; i++) snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
    return 0;
}

static int remove_folder(void **state)
{
    for (int i = 0; i < 3; i++) unlink(paths[i]);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_size), cmocka_unit_test(test_views), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_more_tensors),   cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

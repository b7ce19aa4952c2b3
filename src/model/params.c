#include "model/params.h"

#include <stdbool.h>
#include <string.h>

#include "util/error.h"
#include "util/json_read.h"

enum { MAX_JSON_MEMORY = 8 << 20 }; /* the published file takes about 20 KiB */
/* Keys and values of one session in fp16, both towers: 2.1 GB at the published size. */
static const double MAX_KV_BYTES = 0x1p38;

#define WHISPER "params.json: multimodal.whisper_model_args."

/* A number, or a string of digits. */
static int read_window(const json_t *object, const char *path, int *window)
{
    const json_t *v = json_object_get(object, "sliding_window");
    if (!json_is_string(v)) return sur_json_int(object, path, "sliding_window", 1, SUR_MAX_WINDOW, window);
    const char *digits = json_string_value(v);
    size_t n = json_string_length(v);
    int value = 0;
    for (size_t i = 0; i < n && value <= SUR_MAX_WINDOW; i++) {
        bool digit = digits[i] >= '0' && digits[i] <= '9';
        value = digit ? value * 10 + (digits[i] - '0') : SUR_MAX_WINDOW + 1;
    }
    if (value < 1 || value > SUR_MAX_WINDOW)
        return sur_fail(SUR_ERR_MODEL, "%ssliding_window must be a whole number from 1 to %d", path, SUR_MAX_WINDOW);
    *window = value;
    return SUR_OK;
}

int sur_params_check_tower(const struct sur_tower *t, const char *path)
{
    if (t->head_dim % 2) return sur_fail(SUR_ERR_MODEL, "%shead_dim must be even", path);
    if (t->n_heads % t->n_kv_heads) return sur_fail(SUR_ERR_MODEL, "%sn_heads must be a multiple of n_kv_heads", path);
    return SUR_OK;
}

static int read_tower(const json_t *o, const char *path, struct sur_tower *t)
{
    int rc;
    if ((rc = sur_json_int(o, path, "dim", 1, SUR_MAX_DIM, &t->dim)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "n_layers", 1, SUR_MAX_LAYERS, &t->n_layers)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "head_dim", 2, SUR_MAX_HEAD_DIM, &t->head_dim)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "hidden_dim", 1, SUR_MAX_DIM, &t->hidden_dim)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "n_heads", 1, SUR_MAX_HEADS, &t->n_heads)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "n_kv_heads", 1, SUR_MAX_HEADS, &t->n_kv_heads)) != SUR_OK) return rc;
    if ((rc = sur_json_double(o, path, "rope_theta", 1, 1e12, &t->rope_theta)) != SUR_OK) return rc;
    if ((rc = sur_json_double(o, path, "norm_eps", 0, 1, &t->norm_eps)) != SUR_OK) return rc;
    if ((rc = read_window(o, path, &t->window)) != SUR_OK) return rc;
    return sur_params_check_tower(t, path);
}

static int need_bool(const json_t *o, const char *path, const char *key, bool wanted)
{
    const json_t *v = json_object_get(o, key);
    if (!v) return sur_fail(SUR_ERR_MODEL, "%s%s is missing", path, key);
    if (json_is_boolean(v) && json_is_true(v) == wanted) return SUR_OK;
    return sur_fail(SUR_ERR_MODEL, "%s%s must be %s", path, key, wanted ? "true" : "false");
}

/* Keys whose value the architecture fixes: they may be missing. */
static int may_bool(const json_t *o, const char *path, const char *key, bool wanted)
{
    return json_object_get(o, key) ? need_bool(o, path, key, wanted) : SUR_OK;
}

static int may_string(const json_t *o, const char *path, const char *key, const char *wanted)
{
    const json_t *v = json_object_get(o, key);
    if (!v || (json_is_string(v) && strcmp(json_string_value(v), wanted) == 0)) return SUR_OK;
    return sur_fail(SUR_ERR_MODEL, "%s%s must be \"%s\"", path, key, wanted);
}

static int need_number(const json_t *o, const char *path, const char *key, double wanted)
{
    double value;
    if (!json_object_get(o, key)) return sur_fail(SUR_ERR_MODEL, "%s%s is missing", path, key);
    value = json_number_value(json_object_get(o, key)); /* 0 if it is not a number */
    return value == wanted ? SUR_OK : sur_fail(SUR_ERR_MODEL, "%s%s must be %g", path, key, wanted);
}

static int read_audio(const json_t *encoder, struct sur_params *p)
{
    static const char path[] = WHISPER "encoder_args.audio_encoding_args.";
    const json_t *o;
    int rc;
    if ((rc = sur_json_object(encoder, WHISPER "encoder_args.", "audio_encoding_args", &o)) != SUR_OK) return rc;
    if ((rc = need_number(o, path, "sampling_rate", 16000)) != SUR_OK) return rc;
    if ((rc = need_number(o, path, "frame_rate", 12.5)) != SUR_OK) return rc;
    if ((rc = need_number(o, path, "hop_length", 160)) != SUR_OK) return rc;
    if ((rc = need_number(o, path, "window_size", 400)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "num_mel_bins", 1, SUR_MAX_MELS, &p->n_mels)) != SUR_OK) return rc;
    return sur_json_double(o, path, "global_log_mel_max", -100, 100, &p->log_mel_max);
}

static int read_encoder(const json_t *root, struct sur_params *p)
{
    static const char path[] = WHISPER "encoder_args.";
    const json_t *multimodal, *whisper, *o, *downsample;
    int rc;
    if ((rc = sur_json_object(root, "params.json: ", "multimodal", &multimodal)) != SUR_OK) return rc;
    if ((rc = sur_json_object(multimodal, "params.json: multimodal.", "whisper_model_args", &whisper)) != SUR_OK)
        return rc;
    if ((rc = sur_json_object(whisper, WHISPER, "encoder_args", &o)) != SUR_OK) return rc;
    if ((rc = read_audio(o, p)) != SUR_OK) return rc;
    if ((rc = read_tower(o, path, &p->encoder)) != SUR_OK) return rc;
    if ((rc = need_bool(o, path, "use_biases", true)) != SUR_OK) return rc;
    if ((rc = may_bool(o, path, "causal", true)) != SUR_OK) return rc;
    if ((rc = may_string(o, path, "pos_embed", "rope")) != SUR_OK) return rc;
    if ((rc = may_string(o, path, "ffn_type", "swiglu")) != SUR_OK) return rc;
    if ((rc = may_string(o, path, "norm_type", "rms_norm")) != SUR_OK) return rc;
    if ((rc = sur_json_object(whisper, WHISPER, "downsample_args", &downsample)) != SUR_OK) return rc;
    if ((rc = need_number(downsample, WHISPER "downsample_args.", "downsample_factor", 4)) != SUR_OK) return rc;
    return SUR_OK;
}

static int read_decoder(const json_t *o, struct sur_params *p)
{
    static const char path[] = "params.json: ";
    int rc;
    if ((rc = read_tower(o, path, &p->decoder)) != SUR_OK) return rc;
    if ((rc = sur_json_int(o, path, "vocab_size", 2, SUR_MAX_VOCAB, &p->vocab_size)) != SUR_OK) return rc;
    if ((rc = need_bool(o, path, "tied_embeddings", true)) != SUR_OK) return rc;
    if ((rc = may_bool(o, path, "use_biases", false)) != SUR_OK) return rc;
    if ((rc = may_bool(o, path, "causal", true)) != SUR_OK) return rc;
    if ((rc = need_bool(o, path, "ada_rms_norm_t_cond", true)) != SUR_OK) return rc;
    return sur_json_int(o, path, "ada_rms_norm_t_cond_dim", 1, SUR_MAX_DIM, &p->ada_dim);
}

static double kv_bytes(const struct sur_tower *t) /* exact: below 2^53 */
{
    return 4.0 * t->n_layers * t->window * t->n_kv_heads * t->head_dim;
}

int sur_params_check(const struct sur_params *p, const char *path)
{
    /* The delay's embedding is cosines in one half and sines in the other. */
    if (p->decoder.dim % 2) return sur_fail(SUR_ERR_MODEL, "%sdim must be even", path);
    double bytes = kv_bytes(&p->decoder) + kv_bytes(&p->encoder);
    if (bytes <= MAX_KV_BYTES) return SUR_OK;
    return sur_fail(SUR_ERR_MODEL,
                    "%sn_layers, sliding_window, n_kv_heads and head_dim ask for %.0f GiB of keys and values a session",
                    path, bytes * 0x1p-30);
}

int sur_params_parse(struct sur_params *params, const char *json, size_t n_bytes)
{
    struct sur_params p = {0};
    json_t *root = NULL;
    int rc = sur_json_parse(&root, "params.json", json, n_bytes, MAX_JSON_MEMORY, 0);
    if (rc != SUR_OK) return rc;
    rc = read_decoder(root, &p);
    if (rc == SUR_OK) rc = read_encoder(root, &p);
    if (rc == SUR_OK) rc = sur_params_check(&p, "params.json: ");
    if (rc == SUR_OK) *params = p;
    json_decref(root);
    return rc;
}

#include "model/gguf_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audio/mel.h"
#include "util/error.h"
#include "util/utf8.h"

enum { BINS = 201, WINDOW = 400, LEFT_PAD = 32, CONTROL = 3 };

#define ENCODER   SUR_GGUF_PREFIX "encoder."
#define DECODER   SUR_GGUF_PREFIX "decoder."
#define PROJECTOR SUR_GGUF_PREFIX "projector."
#define TIME      SUR_GGUF_PREFIX "time."
#define FRONTEND  "stt.frontend."
#define TOKENS    "tokenizer.ggml.tokens"
#define TYPES     "tokenizer.ggml.token_type"

/* ---- sizes ---- */

/* Values that the architecture fixes. */
static const struct {
    const char *key, *wanted;
} strings[] = {
    {"general.type", "model"},        {ENCODER "hidden_act", "silu"},  {DECODER "hidden_act", "silu"},
    {PROJECTOR "hidden_act", "gelu"}, {FRONTEND "type", "mel"},        {FRONTEND "window", "hann_periodic"},
    {FRONTEND "normalize", "global"}, {FRONTEND "mel_norm", "slaney"}, {"tokenizer.ggml.model", "gpt2"},
};
static const struct {
    const char *key;
    double wanted;
} numbers[] = {
    {PROJECTOR "downsample_factor", 4}, {PROJECTOR "audio_length_per_tok", 8},
    {TIME "embed_theta", 10000},        {FRONTEND "sample_rate", 16000},
    {FRONTEND "n_fft", WINDOW},         {FRONTEND "win_length", WINDOW},
    {FRONTEND "hop_length", 160},       {FRONTEND "dither", 0},
    {FRONTEND "pre_emphasis", 0},       {FRONTEND "f_min", 0},
    {FRONTEND "f_max", 8000},
};

static int check_architecture(const struct sur_gguf *f)
{
    const struct sur_gguf_key *key = sur_gguf_key(f, "general.architecture"), *count = sur_gguf_key(f, "split.count");
    char clean[80];
    int64_t n = 0;
    if (!key || key->array || key->type != SUR_GGUF_STRING)
        return sur_fail(SUR_ERR_MODEL, "%s: general.architecture is missing", sur_gguf_name(f));
    sur_utf8_clean(clean, sizeof clean, (const char *)key->data, (size_t)key->n);
    if (key->n != strlen(SUR_GGUF_ARCHITECTURE) || memcmp(key->data, SUR_GGUF_ARCHITECTURE, (size_t)key->n) != 0)
        return sur_fail(SUR_ERR_MODEL, "%s: a model of the architecture %s; %s is what this program runs",
                        sur_gguf_name(f), clean, SUR_GGUF_ARCHITECTURE);
    if (count && (count->array || !sur_gguf_element(count, 0, &n) || n > 1))
        return sur_fail(SUR_ERR_MODEL, "%s: one part of a split file (split.count), which is not read",
                        sur_gguf_name(f));
    return SUR_OK;
}

static int check_constants(const struct sur_gguf *f)
{
    int rc = sur_gguf_may_be_bool(f, DECODER "tie_word_embeddings", true);
    if (rc == SUR_OK) rc = sur_gguf_may_be_bool(f, FRONTEND "center", true);
    for (size_t i = 0; rc == SUR_OK && i < sizeof strings / sizeof strings[0]; i++)
        rc = sur_gguf_may_be_string(f, strings[i].key, strings[i].wanted);
    for (size_t i = 0; rc == SUR_OK && i < sizeof numbers / sizeof numbers[0]; i++)
        rc = sur_gguf_may_be_number(f, numbers[i].key, numbers[i].wanted);
    return rc;
}

static int read_tower(const struct sur_gguf *f, bool encoder, struct sur_tower *t)
{
    const char *prefix = encoder ? ENCODER : DECODER;
    const struct {
        const char *key;
        int min, max, *value;
    } sizes[] = {
        {encoder ? "d_model" : "hidden_size", 1, SUR_MAX_DIM, &t->dim},
        {"n_layers", 1, SUR_MAX_LAYERS, &t->n_layers},
        {"head_dim", 2, SUR_MAX_HEAD_DIM, &t->head_dim},
        {encoder ? "ffn_dim" : "intermediate_size", 1, SUR_MAX_DIM, &t->hidden_dim},
        {"n_heads", 1, SUR_MAX_HEADS, &t->n_heads},
        {"n_kv_heads", 1, SUR_MAX_HEADS, &t->n_kv_heads},
        {"sliding_window", 1, SUR_MAX_WINDOW, &t->window},
    };
    char key[96];
    int rc = SUR_OK;
    for (size_t i = 0; rc == SUR_OK && i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(key, sizeof key, "%s%s", prefix, sizes[i].key);
        rc = sur_gguf_int(f, key, sizes[i].min, sizes[i].max, sizes[i].value);
    }
    snprintf(key, sizeof key, "%srope_theta", prefix);
    if (rc == SUR_OK) rc = sur_gguf_double(f, key, 1, 1e12, &t->rope_theta);
    snprintf(key, sizeof key, "%srms_norm_eps", prefix);
    if (rc == SUR_OK) rc = sur_gguf_double(f, key, 0, 1, &t->norm_eps);
    char path[256];
    snprintf(path, sizeof path, "%s: %s", sur_gguf_name(f), prefix);
    return rc == SUR_OK ? sur_params_check_tower(t, path) : rc;
}

int sur_gguf_params(const struct sur_gguf *f, struct sur_params *params)
{
    struct sur_params p = {0};
    char path[192];
    int rc = check_architecture(f);
    if (rc == SUR_OK) rc = check_constants(f);
    if (rc == SUR_OK) rc = read_tower(f, false, &p.decoder);
    if (rc == SUR_OK) rc = read_tower(f, true, &p.encoder);
    if (rc == SUR_OK) rc = sur_gguf_int(f, DECODER "vocab_size", 2, SUR_MAX_VOCAB, &p.vocab_size);
    if (rc == SUR_OK) rc = sur_gguf_int(f, TIME "ada_hidden", 1, SUR_MAX_DIM, &p.ada_dim);
    if (rc == SUR_OK) rc = sur_gguf_int(f, ENCODER "num_mel_bins", 1, SUR_MAX_MELS, &p.n_mels);
    if (rc == SUR_OK) rc = sur_gguf_double(f, FRONTEND "global_log_mel_max", -100, 100, &p.log_mel_max);
    if (rc == SUR_OK) rc = sur_gguf_may_be_number(f, FRONTEND "num_mels", p.n_mels);
    if (rc == SUR_OK) rc = sur_gguf_may_be_number(f, PROJECTOR "input_dim", 4.0 * p.encoder.dim);
    if (rc == SUR_OK) rc = sur_gguf_may_be_number(f, TIME "embed_dim", p.decoder.dim);
    snprintf(path, sizeof path, "%s: ", sur_gguf_name(f));
    if (rc == SUR_OK) rc = sur_params_check(&p, path);
    if (rc == SUR_OK) *params = p;
    return rc;
}

/* ---- vocabulary ---- */

static bool stands_for_itself(uint32_t c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

uint32_t sur_gguf_letter(uint8_t byte)
{
    uint32_t others = 0;
    for (uint32_t b = 0; b < byte; b++) others += !stands_for_itself(b);
    return stands_for_itself(byte) ? byte : 256 + others;
}

struct vocabulary {
    uint16_t bytes[512]; /* by letter; 256: it stands for none */
    char *text;          /* all pieces */
    struct sur_tekken_token *tokens;
};

static int fail_token(const struct sur_gguf *f, uint64_t id, const char *what)
{
    return sur_fail(SUR_ERR_MODEL, "%s: " TOKENS ": token %" PRIu64 ": %s", sur_gguf_name(f), id, what);
}

/* Converts the letters of a piece to bytes, written to out. False: a character is not in the alphabet. */
static bool spell(const struct vocabulary *v, const uint8_t *letters, size_t n, char *out, size_t *n_out)
{
    *n_out = 0;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        int taken = sur_utf8_decode(letters + at, n - at, &c);
        if (taken <= 0 || c >= 512 || v->bytes[c] > 255) return false;
        out[(*n_out)++] = (char)v->bytes[c];
        at += (size_t)taken;
    }
    return true;
}

/* The special tokens come first. */
static int count_specials(const struct sur_gguf *f, const struct sur_gguf_key *types, int n_ids, int *n_special)
{
    *n_special = 0;
    for (int i = 0; i < n_ids; i++) {
        int64_t type;
        if (!sur_gguf_element(types, (uint64_t)i, &type))
            return sur_fail(SUR_ERR_MODEL, "%s: " TYPES " must hold whole numbers", sur_gguf_name(f));
        if (type != CONTROL) continue;
        if (i != *n_special)
            return sur_fail(SUR_ERR_MODEL, "%s: " TYPES ": special tokens must come first, %d does not",
                            sur_gguf_name(f), i);
        ++*n_special;
    }
    return SUR_OK;
}

static int read_tokens(const struct sur_gguf *f, const struct sur_gguf_key *key, struct vocabulary *v, int n_ids,
                       int n_special)
{
    const uint8_t *at = key->data;
    char *to = v->text;
    for (int c = 0; c < 512; c++) v->bytes[c] = 256;
    for (int b = 0; b < 256; b++) v->bytes[sur_gguf_letter((uint8_t)b)] = (uint16_t)b;
    for (int i = 0; i < n_ids; i++) {
        uint64_t n = 0;
        for (int b = 7; b >= 0; b--) n = n << 8 | at[b]; /* within the file: gguf.c has checked the array */
        at += 8;
        v->tokens[i].bytes = to;
        v->tokens[i].n_bytes = (size_t)n;
        if (i < n_special)
            memcpy(to, at, (size_t)n);
        else if (!spell(v, at, (size_t)n, to, &v->tokens[i].n_bytes))
            return fail_token(f, (uint64_t)i, "not in the alphabet of bytes");
        to += v->tokens[i].n_bytes;
        at += n;
    }
    return SUR_OK;
}

static int check_ids(const struct sur_gguf *f, const struct sur_tekken_info *info)
{
    int rc = sur_gguf_may_be_number(f, "tokenizer.ggml.bos_token_id", info->bos);
    if (rc == SUR_OK) rc = sur_gguf_may_be_number(f, "tokenizer.ggml.eos_token_id", info->eos);
    if (rc == SUR_OK) rc = sur_gguf_may_be_number(f, SUR_GGUF_PREFIX "streaming_pad_token_id", info->pad);
    return rc;
}

static int read_delay(const struct sur_gguf *f, int *delay_ms)
{
    static const char key[] = TIME "default_num_delay_tokens";
    int n, rc = sur_gguf_int(f, key, 1, 30, &n);
    if (rc == SUR_OK && n > 15 && n != 30)
        rc = sur_fail(SUR_ERR_MODEL, "%s: %s must be 1 to 15, or 30", sur_gguf_name(f), key);
    if (rc == SUR_OK) *delay_ms = n * 80;
    return rc;
}

int sur_gguf_tekken(const struct sur_gguf *f, const struct sur_params *params, struct sur_tekken **tekken)
{
    const struct sur_gguf_key *tokens = sur_gguf_key(f, TOKENS), *types = sur_gguf_key(f, TYPES);
    struct sur_tekken_info info = {.n_left_pad = LEFT_PAD};
    int n_ids = params->vocab_size;
    char where[192];
    *tekken = NULL;
    if (!tokens || !tokens->array || tokens->type != SUR_GGUF_STRING || tokens->n < (uint64_t)n_ids)
        return sur_fail(SUR_ERR_MODEL, "%s: " TOKENS " must hold at least %d strings", sur_gguf_name(f), n_ids);
    if (!types || !types->array || types->n < (uint64_t)n_ids)
        return sur_fail(SUR_ERR_MODEL, "%s: " TYPES " must hold at least %d numbers", sur_gguf_name(f), n_ids);
    int rc = read_delay(f, &info.delay_ms);
    if (rc == SUR_OK) rc = count_specials(f, types, n_ids, &info.n_special);
    if (rc != SUR_OK) return rc;
    struct vocabulary *v = calloc(1, sizeof *v); /* pieces are never longer than their spelling */
    if (v) v->text = malloc((size_t)(tokens->end - tokens->data) + 1);
    if (v) v->tokens = calloc((size_t)n_ids, sizeof *v->tokens);
    rc = v && v->text && v->tokens ? read_tokens(f, tokens, v, n_ids, info.n_special)
                                   : sur_fail(SUR_ERR_MEMORY, "%s: out of memory", sur_gguf_name(f));
    snprintf(where, sizeof where, "%s: " TOKENS, sur_gguf_name(f));
    if (rc == SUR_OK) rc = sur_tekken_create(tekken, where, &info, v->tokens, n_ids);
    if (rc == SUR_OK && (rc = check_ids(f, sur_tekken_info(*tekken))) != SUR_OK) sur_tekken_destroy(tekken);
    if (v) free(v->text);
    if (v) free(v->tokens);
    free(v);
    return rc;
}

/* ---- tables ---- */

void sur_gguf_table(const struct sur_params *p, int i, struct sur_gguf_table *table)
{
    const struct sur_gguf_table tables[SUR_GGUF_TABLES] = {{"frontend.mel_filterbank", p->n_mels, BINS},
                                                           {"frontend.window", 0, WINDOW},
                                                           {"dec.time_embed.inv_freq", 0, p->decoder.dim / 2}};
    *table = tables[i];
}

int sur_gguf_table_values(const struct sur_params *p, int i, float *values)
{
    int half = p->decoder.dim / 2;
    if (i == 2) {
        for (int j = 0; j < half; j++) values[j] = (float)exp(-log(10000.0) * j / half);
        return SUR_OK;
    }
    struct sur_mel *mel;
    int rc = sur_mel_create(&mel, p->n_mels, p->log_mel_max);
    if (rc != SUR_OK) return rc;
    float *other = malloc(sizeof *other * (i == 0 ? WINDOW : (size_t)p->n_mels * BINS));
    if (other)
        sur_mel_tables(mel, i == 0 ? values : other, i == 0 ? other : values);
    else
        rc = sur_fail(SUR_ERR_MEMORY, "not enough memory");
    free(other);
    sur_mel_destroy(&mel);
    return rc;
}

/* Ours is rounded to fp32 once. Another program's may have been computed in fp32: a filter's weight is a difference of
 * frequencies over a difference, times an area (a few roundings, relative; at its ends absolute, 2^-24 of its maximum
 * of 0.027 an operation); a window's value is a cosine of an angle of at most 2 pi; a frequency is e to the power of
 * -9.2 at most, which makes a relative error of the exponent 9.2 times as large. */
static bool same(double found, double ours, int i)
{
    static const double absolute[SUR_GGUF_TABLES] = {0x1p-26, 0x1p-21, 0},
                        relative[SUR_GGUF_TABLES] = {0x1p-20, 0, 0x1p-19};
    return fabs(found - ours) <= absolute[i] + relative[i] * fabs(ours); /* not for NaN */
}

static int check_table(const struct sur_gguf *f, int i, const struct sur_gguf_table *table, const struct sur_tensor *t,
                       const float *ours)
{
    size_t n = (size_t)(table->rows ? table->rows : 1) * (size_t)table->cols;
    bool fits = table->rows ? t->n_dims == 2 && t->shape[0] == table->rows && t->shape[1] == table->cols
                            : t->n_dims == 1 && t->shape[0] == table->cols;
    if (!fits || t->type != SUR_WEIGHT_F32)
        return sur_fail(SUR_ERR_MODEL, "%s: %s must be F32 of %d x %d", sur_gguf_name(f), table->name,
                        table->rows ? table->rows : 1, table->cols);
    for (size_t k = 0; k < n; k++) {
        float found;
        memcpy(&found, (const char *)t->data + k * sizeof found, sizeof found);
        if (!same((double)found, (double)ours[k], i))
            return sur_fail(SUR_ERR_MODEL, "%s: %s is not this model's: value %zu is %g instead of %g",
                            sur_gguf_name(f), table->name, k, (double)found, (double)ours[k]);
    }
    return SUR_OK;
}

int sur_gguf_check_tables(const struct sur_gguf *f, const struct sur_params *params)
{
    int rc = SUR_OK;
    for (int i = 0; rc == SUR_OK && i < SUR_GGUF_TABLES; i++) {
        struct sur_gguf_table table;
        sur_gguf_table(params, i, &table);
        const struct sur_tensor *t = sur_gguf_tensor(f, table.name);
        if (!t) continue;
        float *ours = malloc(sizeof *ours * (size_t)(table.rows ? table.rows : 1) * (size_t)table.cols);
        rc = ours ? sur_gguf_table_values(params, i, ours) : sur_fail(SUR_ERR_MEMORY, "not enough memory");
        if (rc == SUR_OK) rc = check_table(f, i, &table, t, ours);
        free(ours);
    }
    return rc;
}

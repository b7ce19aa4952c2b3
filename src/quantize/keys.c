#include "quantize/keys.h"

#include <string.h>

#include "model/gguf.h"
#include "model/gguf_model.h"
#include "model/schedule.h"
#include "text/tekken.h"
#include "util/utf8.h"

enum { NORMAL = 1, CONTROL = 3 };

#define ENCODER   SUR_GGUF_PREFIX "encoder."
#define DECODER   SUR_GGUF_PREFIX "decoder."
#define PROJECTOR SUR_GGUF_PREFIX "projector."
#define TIME      SUR_GGUF_PREFIX "time."
#define FRONTEND  "stt.frontend."
#define TOKENIZER "tokenizer.ggml."

/* A key with a u32, f32, bool or string value. */
struct key {
    const char *name;
    enum sur_gguf_type type;
    double number; /* u32, f32, bool */
    const char *text;
};

static uint64_t append_list(struct buffer *b, const struct key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct key *k = &keys[i];
        if (k->type == SUR_GGUF_STRING)
            buffer_key_string(b, k->name, k->text);
        else if (k->type == SUR_GGUF_F32)
            buffer_key_f32(b, k->name, k->number);
        else if (k->type == SUR_GGUF_BOOL)
            buffer_key_bool(b, k->name, k->number != 0);
        else
            buffer_key_u32(b, k->name, (uint32_t)k->number);
    }
    return n;
}

#define STRING(name, value)                                                                                            \
    {                                                                                                                  \
        name, SUR_GGUF_STRING, 0, value                                                                                \
    }
#define F32(name, value)                                                                                               \
    {                                                                                                                  \
        name, SUR_GGUF_F32, value, NULL                                                                                \
    }
#define U32(name, value)                                                                                               \
    {                                                                                                                  \
        name, SUR_GGUF_U32, value, NULL                                                                                \
    }
#define BOOL(name, value)                                                                                              \
    {                                                                                                                  \
        name, SUR_GGUF_BOOL, value, NULL                                                                               \
    }
#define LIST(list) list, sizeof list / sizeof list[0]

static uint64_t append_sizes(struct buffer *b, const struct sur_params *p)
{
    const struct sur_tower *e = &p->encoder, *d = &p->decoder;
    const struct key keys[] = {
        U32(ENCODER "n_layers", e->n_layers),
        U32(ENCODER "d_model", e->dim),
        U32(ENCODER "n_heads", e->n_heads),
        U32(ENCODER "n_kv_heads", e->n_kv_heads),
        U32(ENCODER "head_dim", e->head_dim),
        U32(ENCODER "ffn_dim", e->hidden_dim),
        U32(ENCODER "num_mel_bins", p->n_mels),
        U32(ENCODER "max_position_embeddings", 1500), /* as in the published file; not used */
        U32(ENCODER "sliding_window", e->window),
        F32(ENCODER "rope_theta", e->rope_theta),
        F32(ENCODER "rms_norm_eps", e->norm_eps),
        STRING(ENCODER "hidden_act", "silu"),
        U32(PROJECTOR "downsample_factor", SUR_TOKEN_ROWS),
        U32(PROJECTOR "input_dim", SUR_TOKEN_ROWS * (double)e->dim),
        STRING(PROJECTOR "hidden_act", "gelu"),
        U32(PROJECTOR "audio_length_per_tok", 8),
        U32(DECODER "n_layers", d->n_layers),
        U32(DECODER "hidden_size", d->dim),
        U32(DECODER "intermediate_size", d->hidden_dim),
        U32(DECODER "n_heads", d->n_heads),
        U32(DECODER "n_kv_heads", d->n_kv_heads),
        U32(DECODER "head_dim", d->head_dim),
        STRING(DECODER "hidden_act", "silu"),
        F32(DECODER "rms_norm_eps", d->norm_eps),
        F32(DECODER "rope_theta", d->rope_theta),
        U32(DECODER "sliding_window", d->window),
        U32(DECODER "max_position_embeddings", 131072),
        BOOL(DECODER "tie_word_embeddings", true),
        U32(DECODER "vocab_size", p->vocab_size),
        F32(TIME "embed_theta", 10000),
        U32(TIME "embed_dim", d->dim),
        U32(TIME "ada_hidden", p->ada_dim),
    };
    return append_list(b, LIST(keys));
}

static uint64_t append_frontend(struct buffer *b, const struct sur_params *p)
{
    const struct key keys[] = {
        STRING(FRONTEND "type", "mel"),
        U32(FRONTEND "num_mels", p->n_mels),
        U32(FRONTEND "sample_rate", 16000),
        U32(FRONTEND "n_fft", 400),
        U32(FRONTEND "win_length", 400),
        U32(FRONTEND "hop_length", 160),
        STRING(FRONTEND "window", "hann_periodic"),
        STRING(FRONTEND "normalize", "global"),
        F32(FRONTEND "global_log_mel_max", p->log_mel_max),
        F32(FRONTEND "dither", 0),
        F32(FRONTEND "pre_emphasis", 0),
        F32(FRONTEND "f_min", 0),
        F32(FRONTEND "f_max", 8000),
        STRING(FRONTEND "pad_mode", "reflect"),
        BOOL(FRONTEND "center", true),
        STRING(FRONTEND "mel_norm", "slaney"),
    };
    return append_list(b, LIST(keys));
}

/* Returns the id of a special token; `otherwise` if there is none with that name. */
static int32_t find_special(const struct sur_tekken *tekken, const char *name, int32_t otherwise)
{
    for (int32_t id = 0; id < sur_tekken_info(tekken)->n_special; id++) {
        size_t n;
        int special;
        const char *piece = sur_tekken_piece(tekken, id, &n, &special);
        if (n == strlen(name) && memcmp(piece, name, n) == 0) return id;
    }
    return otherwise;
}

/* Appends a token: text as letters that stand for its bytes, a special token unchanged. */
static void append_token(struct buffer *b, const char *piece, size_t n, bool special)
{
    char letters[2 * 256 + 4]; /* a piece has at most 256 bytes, a letter at most two */
    size_t at = 0;
    if (special) {
        buffer_string(b, piece, n);
        return;
    }
    for (size_t i = 0; i < n; i++) at += (size_t)sur_utf8_encode(sur_gguf_letter((uint8_t)piece[i]), letters + at);
    buffer_string(b, letters, at);
}

/* The arrays come last, so that the other keys can be read from the beginning of the file alone. */
static uint64_t append_vocabulary(struct buffer *b, const struct sur_tekken *tekken, int n_ids)
{
    const struct sur_tekken_info *info = sur_tekken_info(tekken);
    const struct key keys[] = {
        STRING(TOKENIZER "model", "gpt2"),
        STRING(TOKENIZER "pre", "tekken"),
        U32(TOKENIZER "bos_token_id", info->bos),
        U32(TOKENIZER "eos_token_id", info->eos),
        U32(TOKENIZER "unknown_token_id", find_special(tekken, "<unk>", 0)),
        U32(TOKENIZER "padding_token_id", find_special(tekken, "<pad>", info->eos)),
        BOOL(TOKENIZER "add_bos_token", true),
        BOOL(TOKENIZER "add_eos_token", false),
        U32(SUR_GGUF_PREFIX "streaming_pad_token_id", info->pad),
        U32(TIME "default_num_delay_tokens", info->delay_ms / 80),
    };
    uint64_t n_keys = append_list(b, LIST(keys));
    buffer_key_array(b, TOKENIZER "tokens", SUR_GGUF_STRING, (uint64_t)n_ids);
    for (int32_t id = 0; id < n_ids; id++) {
        size_t n;
        int special;
        const char *piece = sur_tekken_piece(tekken, id, &n, &special);
        append_token(b, piece, n, special);
    }
    buffer_key_array(b, TOKENIZER "token_type", SUR_GGUF_I32, (uint64_t)n_ids);
    for (int32_t id = 0; id < n_ids; id++) buffer_u32(b, id < info->n_special ? CONTROL : NORMAL);
    return n_keys + 2;
}

static uint64_t append_own(struct buffer *b, const struct sur_checkpoint *c, uint32_t file_type)
{
    const struct key keys[] = {
        STRING("general.architecture", SUR_GGUF_ARCHITECTURE),
        STRING("general.name", "Voxtral Realtime"),
        STRING("general.basename", SUR_GGUF_ARCHITECTURE),
        U32("general.file_type", file_type),
        STRING("stt.variant", "voxtral-mini-4b-realtime-2602"),
        BOOL("stt.capability.lang_detect", true),
        BOOL("stt.capability.translate", false),
        BOOL("stt.capability.streaming", true),
    };
    uint64_t n = append_list(b, LIST(keys));
    n += append_sizes(b, &c->params);
    n += append_frontend(b, &c->params);
    return n + append_vocabulary(b, c->tekken, c->params.vocab_size);
}

static bool is(const struct sur_gguf_key *key, const char *name)
{
    return key->name_bytes == strlen(name) && memcmp(key->name, name, key->name_bytes) == 0;
}

uint64_t keys_append(struct buffer *b, const struct sur_checkpoint *c, uint32_t file_type)
{
    uint64_t n = 0;
    bool typed = false;
    if (!c->gguf) return append_own(b, c, file_type);
    for (size_t i = 0; i < sur_gguf_n_keys(c->gguf); i++) {
        const struct sur_gguf_key *key = sur_gguf_key_at(c->gguf, i);
        bool type = is(key, "general.file_type");
        if (is(key, "general.alignment")) continue;
        if (type)
            buffer_key_u32(b, "general.file_type", file_type);
        else
            buffer_add(b, key->begin, (size_t)(key->end - key->begin));
        typed = typed || type;
        n++;
    }
    if (!typed) buffer_key_u32(b, "general.file_type", file_type);
    return n + !typed;
}

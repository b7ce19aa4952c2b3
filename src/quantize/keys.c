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

static void key_int(struct buffer *b, const char *name, int value)
{
    buffer_key_u32(b, name, (uint32_t)value);
}

static void append_sizes(struct buffer *b, const struct sur_params *p)
{
    const struct sur_tower *e = &p->encoder, *d = &p->decoder;
    key_int(b, ENCODER "n_layers", e->n_layers);
    key_int(b, ENCODER "d_model", e->dim);
    key_int(b, ENCODER "n_heads", e->n_heads);
    key_int(b, ENCODER "n_kv_heads", e->n_kv_heads);
    key_int(b, ENCODER "head_dim", e->head_dim);
    key_int(b, ENCODER "ffn_dim", e->hidden_dim);
    key_int(b, ENCODER "num_mel_bins", p->n_mels);
    key_int(b, ENCODER "max_position_embeddings", 1500); /* as in the published file; not used */
    key_int(b, ENCODER "sliding_window", e->window);
    buffer_key_f32(b, ENCODER "rope_theta", e->rope_theta);
    buffer_key_f32(b, ENCODER "rms_norm_eps", e->norm_eps);
    buffer_key_string(b, ENCODER "hidden_act", "silu");
    key_int(b, PROJECTOR "downsample_factor", SUR_TOKEN_ROWS);
    key_int(b, PROJECTOR "input_dim", SUR_TOKEN_ROWS * e->dim);
    buffer_key_string(b, PROJECTOR "hidden_act", "gelu");
    key_int(b, PROJECTOR "audio_length_per_tok", 8);
    key_int(b, DECODER "n_layers", d->n_layers);
    key_int(b, DECODER "hidden_size", d->dim);
    key_int(b, DECODER "intermediate_size", d->hidden_dim);
    key_int(b, DECODER "n_heads", d->n_heads);
    key_int(b, DECODER "n_kv_heads", d->n_kv_heads);
    key_int(b, DECODER "head_dim", d->head_dim);
    buffer_key_string(b, DECODER "hidden_act", "silu");
    buffer_key_f32(b, DECODER "rms_norm_eps", d->norm_eps);
    buffer_key_f32(b, DECODER "rope_theta", d->rope_theta);
    key_int(b, DECODER "sliding_window", d->window);
    key_int(b, DECODER "max_position_embeddings", 131072);
    buffer_key_bool(b, DECODER "tie_word_embeddings", true);
    key_int(b, DECODER "vocab_size", p->vocab_size);
    buffer_key_f32(b, TIME "embed_theta", 10000);
    key_int(b, TIME "embed_dim", d->dim);
    key_int(b, TIME "ada_hidden", p->ada_dim);
}

static void append_frontend(struct buffer *b, const struct sur_params *p)
{
    buffer_key_string(b, FRONTEND "type", "mel");
    key_int(b, FRONTEND "num_mels", p->n_mels);
    key_int(b, FRONTEND "sample_rate", 16000);
    key_int(b, FRONTEND "n_fft", 400);
    key_int(b, FRONTEND "win_length", 400);
    key_int(b, FRONTEND "hop_length", 160);
    buffer_key_string(b, FRONTEND "window", "hann_periodic");
    buffer_key_string(b, FRONTEND "normalize", "global");
    buffer_key_f32(b, FRONTEND "global_log_mel_max", p->log_mel_max);
    buffer_key_f32(b, FRONTEND "dither", 0);
    buffer_key_f32(b, FRONTEND "pre_emphasis", 0);
    buffer_key_f32(b, FRONTEND "f_min", 0);
    buffer_key_f32(b, FRONTEND "f_max", 8000);
    buffer_key_string(b, FRONTEND "pad_mode", "reflect");
    buffer_key_bool(b, FRONTEND "center", true);
    buffer_key_string(b, FRONTEND "mel_norm", "slaney");
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
static void append_vocabulary(struct buffer *b, const struct sur_tekken *tekken, int n_ids)
{
    const struct sur_tekken_info *info = sur_tekken_info(tekken);
    buffer_key_string(b, TOKENIZER "model", "gpt2");
    buffer_key_string(b, TOKENIZER "pre", "tekken");
    key_int(b, TOKENIZER "bos_token_id", info->bos);
    key_int(b, TOKENIZER "eos_token_id", info->eos);
    key_int(b, TOKENIZER "unknown_token_id", find_special(tekken, "<unk>", 0));
    key_int(b, TOKENIZER "padding_token_id", find_special(tekken, "<pad>", info->eos));
    buffer_key_bool(b, TOKENIZER "add_bos_token", true);
    buffer_key_bool(b, TOKENIZER "add_eos_token", false);
    key_int(b, SUR_GGUF_PREFIX "streaming_pad_token_id", info->pad);
    key_int(b, TIME "default_num_delay_tokens", info->delay_ms / 80);
    buffer_key_array(b, TOKENIZER "tokens", SUR_GGUF_STRING, (uint64_t)n_ids);
    for (int32_t id = 0; id < n_ids; id++) {
        size_t n;
        int special;
        const char *piece = sur_tekken_piece(tekken, id, &n, &special);
        append_token(b, piece, n, special);
    }
    buffer_key_array(b, TOKENIZER "token_type", SUR_GGUF_I32, (uint64_t)n_ids);
    for (int32_t id = 0; id < n_ids; id++) buffer_u32(b, id < info->n_special ? CONTROL : NORMAL);
}

static void append_own(struct buffer *b, const struct sur_checkpoint *c, uint32_t file_type)
{
    buffer_key_string(b, "general.architecture", SUR_GGUF_ARCHITECTURE);
    buffer_key_string(b, "general.name", "Voxtral Realtime");
    buffer_key_string(b, "general.basename", SUR_GGUF_ARCHITECTURE);
    buffer_key_u32(b, "general.file_type", file_type);
    buffer_key_string(b, "stt.variant", "voxtral-mini-4b-realtime-2602");
    buffer_key_bool(b, "stt.capability.lang_detect", true);
    buffer_key_bool(b, "stt.capability.translate", false);
    buffer_key_bool(b, "stt.capability.streaming", true);
    append_sizes(b, &c->params);
    append_frontend(b, &c->params);
    append_vocabulary(b, c->tekken, c->params.vocab_size);
}

static bool is(const struct sur_gguf_key *key, const char *name)
{
    return key->name_bytes == strlen(name) && memcmp(key->name, name, key->name_bytes) == 0;
}

void keys_append(struct buffer *b, const struct sur_checkpoint *c, uint32_t file_type)
{
    bool has_type = false;
    if (!c->gguf) {
        append_own(b, c, file_type);
        return;
    }
    for (size_t i = 0; i < sur_gguf_n_keys(c->gguf); i++) {
        const struct sur_gguf_key *key = sur_gguf_key_at(c->gguf, i);
        if (is(key, "general.alignment")) continue;
        if (is(key, "general.file_type")) {
            buffer_key_u32(b, "general.file_type", file_type);
            has_type = true;
        } else {
            buffer_key_copy(b, key->begin, (size_t)(key->end - key->begin));
        }
    }
    if (!has_type) buffer_key_u32(b, "general.file_type", file_type);
}

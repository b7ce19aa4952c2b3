#include "model/layout.h"

#include <stddef.h>
#include <stdio.h>

#define EMBEDDER "mm_streams_embeddings.embedding_module."
#define WHISPER  EMBEDDER "whisper_encoder."

/* Sizes are letters that size_of looks up: rows and cols (0: a vector). Convolutions have 3 taps. */
struct entry {
    const char *mistral, *gguf; /* of a layer: the part after its prefix */
    size_t offset;
    enum sur_tensor_kind kind;
    char rows, cols;
    bool halves, taps;
};

#define TOP(field)   offsetof(struct sur_weights, field)
#define LAYER(field) offsetof(struct sur_layer, field)

static const struct entry first[] = {
    {EMBEDDER "tok_embeddings.weight", "dec.token_embd.weight", TOP(embedding), SUR_TENSOR_EMBEDDING, 'v', 'd'},
    {WHISPER "conv_layers.0.conv.weight", "enc.conv.0.weight", TOP(conv0), SUR_TENSOR_CONV, 'e', 'm', .taps = true},
    {WHISPER "conv_layers.0.conv.bias", "enc.conv.0.bias", TOP(conv0_bias), SUR_TENSOR_VECTOR, 'e', 0},
    {WHISPER "conv_layers.1.conv.weight", "enc.conv.1.weight", TOP(conv1), SUR_TENSOR_CONV, 'e', 'e', .taps = true},
    {WHISPER "conv_layers.1.conv.bias", "enc.conv.1.bias", TOP(conv1_bias), SUR_TENSOR_VECTOR, 'e', 0},
};
static const struct entry between[] = {
    {WHISPER "transformer.norm.weight", "enc.final_norm.weight", TOP(encoder_norm), SUR_TENSOR_VECTOR, 'e', 0},
    {EMBEDDER "audio_language_projection.0.weight", "proj.linear_1.weight", TOP(adapter0), SUR_TENSOR_MATRIX, 'd', '4'},
    {EMBEDDER "audio_language_projection.2.weight", "proj.linear_2.weight", TOP(adapter2), SUR_TENSOR_MATRIX, 'd', 'd'},
};
static const struct entry last[] = {
    {"norm.weight", "dec.output_norm.weight", TOP(norm), SUR_TENSOR_VECTOR, 'd', 0},
};

/* Tensors of a layer of either tower; 'd', 'h', 'q' and 'k' are sizes of that tower. */
static const struct entry both[] = {
    {"attention.wq.weight", "attn.q.weight", LAYER(wq), SUR_TENSOR_MATRIX, 'q', 'd', .halves = true},
    {"attention.wk.weight", "attn.k.weight", LAYER(wk), SUR_TENSOR_MATRIX, 'k', 'd', .halves = true},
    {"attention.wv.weight", "attn.v.weight", LAYER(wv), SUR_TENSOR_MATRIX, 'k', 'd'},
    {"attention_norm.weight", "norm_attn.weight", LAYER(attention_norm), SUR_TENSOR_VECTOR, 'd', 0},
    {"ffn_norm.weight", "norm_ffn.weight", LAYER(ffn_norm), SUR_TENSOR_VECTOR, 'd', 0},
    {"feed_forward.w1.weight", "ffn.gate.weight", LAYER(w1), SUR_TENSOR_MATRIX, 'h', 'd'},
    {"feed_forward.w2.weight", "ffn.down.weight", LAYER(w2), SUR_TENSOR_MATRIX, 'd', 'h'},
    {"feed_forward.w3.weight", "ffn.up.weight", LAYER(w3), SUR_TENSOR_MATRIX, 'h', 'd'},
};
static const struct entry encoder[] = {
    {"attention.wo.weight", "attn.out.weight", LAYER(wo), SUR_TENSOR_ATTENTION_OUT, 'd', 'q'},
    {"attention.wq.bias", "attn.q.bias", LAYER(bq), SUR_TENSOR_VECTOR, 'q', 0, .halves = true},
    {"attention.wv.bias", "attn.v.bias", LAYER(bv), SUR_TENSOR_VECTOR, 'k', 0},
    {"attention.wo.bias", "attn.out.bias", LAYER(bo), SUR_TENSOR_VECTOR, 'd', 0},
    {"feed_forward.w2.bias", "ffn.down.bias", LAYER(b2), SUR_TENSOR_VECTOR, 'd', 0},
};
static const struct entry decoder[] = {
    {"attention.wo.weight", "attn.o.weight", LAYER(wo), SUR_TENSOR_ATTENTION_OUT, 'd', 'q'},
    {"ada_rms_norm_t_cond.0.weight", "ada.linear_1.weight", LAYER(ada0), SUR_TENSOR_MATRIX, 'a', 'd'},
    {"ada_rms_norm_t_cond.2.weight", "ada.linear_2.weight", LAYER(ada2), SUR_TENSOR_MATRIX, 'd', 'a'},
};

enum {
    N_FIRST = sizeof first / sizeof first[0],
    N_BOTH = sizeof both / sizeof both[0],
    N_ENCODER = N_BOTH + sizeof encoder / sizeof encoder[0], /* of a layer */
    N_BETWEEN = sizeof between / sizeof between[0],
    N_DECODER = N_BOTH + sizeof decoder / sizeof decoder[0],
    N_LAST = sizeof last / sizeof last[0],
};

int sur_layout_count(const struct sur_params *p)
{
    return N_FIRST + p->encoder.n_layers * N_ENCODER + N_BETWEEN + p->decoder.n_layers * N_DECODER + N_LAST;
}

static int64_t size_of(char letter, const struct sur_params *p, const struct sur_tower *t)
{
    switch (letter) {
    case 'd':
        return t->dim;
    case 'h':
        return t->hidden_dim;
    case 'q':
        return (int64_t)t->n_heads * t->head_dim;
    case 'k':
        return (int64_t)t->n_kv_heads * t->head_dim;
    case 'a':
        return p->ada_dim;
    case 'v':
        return p->vocab_size;
    case 'm':
        return p->n_mels;
    case 'e':
        return p->encoder.dim;
    case '4':
        return (int64_t)4 * p->encoder.dim;
    default:
        return 0;
    }
}

static void describe(struct sur_layout_tensor *out, const struct sur_params *p, const struct sur_tower *t,
                     const struct entry *e, void *base, const char *mistral_prefix, const char *gguf_prefix)
{
    snprintf(out->name[SUR_LAYOUT_MISTRAL], sizeof out->name[0], "%s%s", mistral_prefix, e->mistral);
    snprintf(out->name[SUR_LAYOUT_GGUF], sizeof out->name[0], "%s%s", gguf_prefix, e->gguf);
    out->kind = e->kind;
    out->n_dims = e->taps ? 3 : e->cols ? 2 : 1;
    out->shape[0] = size_of(e->rows, p, t);
    out->shape[1] = size_of(e->cols, p, t);
    out->shape[2] = e->taps ? 3 : 0;
    out->head_dim = e->halves ? t->head_dim : 0;
    out->view = (struct sur_view *)(void *)((char *)base + e->offset);
}

/* i counts from a tower's first tensor. */
static void describe_layer(struct sur_layout_tensor *out, const struct sur_params *p, struct sur_weights *w, int i,
                           bool in_encoder)
{
    char mistral[96], gguf[32];
    int n = in_encoder ? N_ENCODER : N_DECODER, layer = i / n;
    const struct entry *own = in_encoder ? encoder : decoder;
    snprintf(mistral, sizeof mistral, "%slayers.%d.", in_encoder ? WHISPER "transformer." : "", layer);
    snprintf(gguf, sizeof gguf, "%s.blocks.%d.", in_encoder ? "enc" : "dec", layer);
    describe(out, p, in_encoder ? &p->encoder : &p->decoder, i % n < N_BOTH ? &both[i % n] : &own[i % n - N_BOTH],
             in_encoder ? &w->encoder[layer] : &w->decoder[layer], mistral, gguf);
}

void sur_layout_tensor(const struct sur_params *p, struct sur_weights *w, int i, struct sur_layout_tensor *out)
{
    int n_encoder = p->encoder.n_layers * N_ENCODER, n_decoder = p->decoder.n_layers * N_DECODER;
    const struct entry *e;
    if (i < N_FIRST) {
        e = &first[i];
    } else if ((i -= N_FIRST) < n_encoder) {
        describe_layer(out, p, w, i, true);
        return;
    } else if ((i -= n_encoder) < N_BETWEEN) {
        e = &between[i];
    } else if ((i -= N_BETWEEN) < n_decoder) {
        describe_layer(out, p, w, i, false);
        return;
    } else {
        e = &last[i - n_decoder];
    }
    describe(out, p, &p->decoder, e, w, "", "");
}

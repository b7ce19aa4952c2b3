#include "gpu/stack.h"

#include "model/schedule.h"
#include "util/error.h"

/* ---- sizes ---- */

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Sets the sizes; the memory comes later. */
static struct gpu_rings plan_rings(const struct sur_tower *s, enum sur_kv_type kv, const struct gpu_stack_size *z)
{
    struct gpu_rings r = {.kv = kv};
    const size_t keys = (size_t)s->window + (size_t)z->slack + (size_t)z->max_n;
    r.dp = (int)gpu_round_up((size_t)s->head_dim, 64);
    r.n_blocks = (int)((keys + SUR_GPU_KEYS - 1) / SUR_GPU_KEYS);
    r.max_blocks = (s->window + 16 + SUR_GPU_KEYS - 2) / SUR_GPU_KEYS + 1;
    r.layer_bytes = (size_t)s->n_kv_heads * (size_t)r.n_blocks * SUR_GPU_KEYS * (size_t)r.dp;
    r.layer_bytes *= kv == SUR_KV_FP16 ? 2 : 4;
    r.n_bytes = r.layer_bytes * 2 * (size_t)s->n_layers;
    return r;
}

/* What only NVIDIA's libraries need. */
static void place_library(struct gpu_workspace *w, const struct sur_tower *s, const struct gpu_rings *rings, size_t *at,
                          const struct sur_model_options *o, const struct gpu_stack_size *z)
{
    const size_t n = (size_t)z->max_n, heads = (size_t)s->n_heads, kv_heads = (size_t)s->n_kv_heads;
    const size_t head_dim = (size_t)s->head_dim, slots = (size_t)rings->n_blocks * SUR_GPU_KEYS;
    const size_t rows = largest((heads + 2 * kv_heads) * head_dim, largest((size_t)s->hidden_dim, (size_t)s->dim));
    const size_t most = largest(n * rows, (size_t)z->columns * (size_t)z->rows);
    const bool products = o->gemm != SUR_GEMM_OWN, attention = o->window_attention == SUR_ATTENTION_GEMM;
    const CUdeviceptr base = w->memory;
    w->sums_bytes = gpu_round_up(2 * most * 4, 256);
    gpu_place(at, base, &w->library, products || attention ? GPU_GEMM_WORKSPACE : 0);
    gpu_place(at, base, &w->sums, products ? 2 * w->sums_bytes : 0);
    gpu_place(at, base, &w->keys, attention ? kv_heads * slots * head_dim * 4 : 0);
    gpu_place(at, base, &w->values, attention ? kv_heads * slots * head_dim * 4 : 0);
    gpu_place(at, base, &w->scores, attention ? heads * n * slots * 4 : 0);
}

/* Lays the buffers out from w->memory on and sets n_bytes. */
static void place_workspace(struct gpu_workspace *w, const struct sur_tower *s, const struct gpu_rings *rings,
                            const struct sur_model_options *o, const struct gpu_stack_size *z)
{
    const CUdeviceptr base = w->memory;
    const size_t n = (size_t)z->max_n, few = n < 8 ? n : SUR_GPU_SKINNY_COLUMNS, columns = (size_t)z->columns;
    const size_t dim = (size_t)s->dim, q_dim = (size_t)(s->n_heads * s->head_dim), kv_heads = (size_t)s->n_kv_heads;
    const size_t dim_pitch = gpu_round_up(dim, SUR_GPU_PITCH), q_pitch = gpu_round_up(q_dim, SUR_GPU_PITCH);
    const size_t hidden_pitch = gpu_round_up((size_t)s->hidden_dim, SUR_GPU_PITCH);
    const size_t other_pitch = gpu_round_up((size_t)z->k, SUR_GPU_PITCH);
    const size_t halves = 2 * 2, fragments = SUR_GPU_SKINNY_COLUMNS * 2 * 2; /* bytes per element of k */
    const size_t rows = few * (size_t)gpu_heads_per_group(s);
    const size_t groups = (rows + SUR_GPU_ATTEND_ROWS - 1) / SUR_GPU_ATTEND_ROWS;
    const size_t partial = (size_t)rings->max_blocks * SUR_GPU_ATTEND_ROWS * SUR_GPU_PARTIAL((size_t)rings->dp) * 4;
    size_t at = 0;
    gpu_place(&at, base, &w->h, n * dim * 4);
    gpu_place(&at, base, &w->q, n * q_dim * 4);
    gpu_place(&at, base, &w->halves, largest(n * dim_pitch, other_pitch * columns) * halves);
    gpu_place(&at, base, &w->scale, largest(n, columns) * 4);
    gpu_place(&at, base, &w->attended, n * q_pitch * halves);
    gpu_place(&at, base, &w->act, n * hidden_pitch * halves);
    gpu_place(&at, base, &w->fragments, dim_pitch * fragments);
    gpu_place(&at, base, &w->squares, few * dim_pitch / 8 * 4);
    gpu_place(&at, base, &w->attended_fragments, q_pitch * fragments);
    gpu_place(&at, base, &w->act_fragments, hidden_pitch * fragments);
    gpu_place(&at, base, &w->other_fragments, other_pitch * SUR_TOKEN_FRAMES * fragments); /* z->k: session.c */
    gpu_place(&at, base, &w->rotation, n * (size_t)s->head_dim * 4);
    gpu_place(&at, base, &w->position, 8);
    gpu_place(&at, base, &w->counters, kv_heads * groups * 4);
    gpu_place(&at, base, &w->partial, kv_heads * groups * partial);
    place_library(w, s, rings, &at, o, z);
    w->n_bytes = at;
}

size_t gpu_stack_bytes(const struct sur_tower *s, const struct sur_model_options *o, const struct gpu_stack_size *z)
{
    const struct gpu_rings rings = plan_rings(s, o->kv, z);
    struct gpu_workspace w = {.memory = 0};
    place_workspace(&w, s, &rings, o, z);
    return rings.n_bytes + w.n_bytes;
}

/* ---- init, finish ---- */

static int create_event(CUevent *event)
{
    return gpu_check(cuEventCreate(event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
}

static int create_streams(struct gpu_stack *k)
{
    int r = gpu_check(cuStreamCreate(&k->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    if (r || !k->tower->slots[0]) return r;
    r = gpu_check(cuStreamCreate(&k->copy, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    if (!r) r = create_event(&k->start);
    for (int i = 0; !r && i < GPU_SLOTS; i++) {
        r = create_event(&k->ready[i]);
        if (!r) r = create_event(&k->used[i]);
    }
    return r;
}

int gpu_stack_init(struct gpu_stack *k, struct gpu *g, const struct gpu_tower *tower, CUdeviceptr norms,
                   const struct sur_model_options *o, const struct gpu_stack_size *z)
{
    *k = (struct gpu_stack){.gpu = g, .tower = tower, .norms = norms, .max_n = z->max_n};
    k->rings = plan_rings(tower->shape, o->kv, z);
    k->products_by_gemm = o->gemm != SUR_GEMM_OWN;
    k->attention_by_gemm = o->window_attention == SUR_ATTENTION_GEMM;
    place_workspace(&k->work, tower->shape, &k->rings, o, z);
    int r = gpu_allocate(g, &k->rings.memory, k->rings.n_bytes, true);
    if (!r) r = gpu_allocate(g, &k->work.memory, k->work.n_bytes, true);
    if (!r) place_workspace(&k->work, tower->shape, &k->rings, o, z);
    if (!r) r = create_streams(k);
    if (!r) r = gpu_gemm_create(&k->gemm, o->gemm, o->window_attention, k->stream, k->work.library);
    return r;
}

void gpu_stack_finish(struct gpu_stack *k)
{
    if (!k->gpu) return;
    if (k->stream) cuStreamSynchronize(k->stream);
    gpu_gemm_destroy(k->gemm);
    for (int i = 0; i < GPU_SLOTS; i++) {
        if (k->ready[i]) cuEventDestroy(k->ready[i]);
        if (k->used[i]) cuEventDestroy(k->used[i]);
    }
    if (k->start) cuEventDestroy(k->start);
    if (k->copy) cuStreamDestroy(k->copy);
    if (k->stream) cuStreamDestroy(k->stream);
    gpu_free(k->gpu, &k->work.memory, k->work.n_bytes);
    gpu_free(k->gpu, &k->rings.memory, k->rings.n_bytes);
    *k = (struct gpu_stack){.gpu = NULL};
}

/* ---- rings ---- */

struct sur_gpu_ring gpu_stack_ring(const struct gpu_stack *k, int layer)
{
    const struct gpu_rings *r = &k->rings;
    const struct sur_tower *s = k->tower->shape;
    const CUdeviceptr at = r->memory + (size_t)layer * 2 * r->layer_bytes;
    return (struct sur_gpu_ring){.k = at,
                                 .v = at + r->layer_bytes,
                                 .n_blocks = r->n_blocks,
                                 .n_kv_heads = s->n_kv_heads,
                                 .head_dim = s->head_dim,
                                 .dp = r->dp,
                                 .fp32 = r->kv == SUR_KV_FP32};
}

int gpu_stack_randomize(struct gpu_stack *k, int64_t end)
{
    const struct sur_tower *s = k->tower->shape;
    const int64_t from = end > s->window ? end - s->window : 0;
    int r = SUR_OK;
    if (end == 0) return SUR_OK;
    for (int layer = 0; !r && layer < s->n_layers; layer++) {
        const struct sur_gpu_launch l = {{(unsigned)(end - from), 1, 1}, 256, 0};
        const struct sur_gpu_randomize p = {
            .ring = gpu_stack_ring(k, layer), .from = from, .n = (int)(end - from), .layer = layer};
        r = gpu_launch(k->gpu, k->stream, GPU_RANDOMIZE, &l, &p, false);
    }
    return r ? r : gpu_check(cuStreamSynchronize(k->stream), "cuStreamSynchronize");
}

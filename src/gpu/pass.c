#include "gpu/pass.h"

#include <math.h>

#include "kernels/skinny.h"
#include "kernels/tiled.h"
#include "model/schedule.h"
#include "util/error.h"

/* ---- a stack's memory ---- */

static int group_of(const struct sur_tower *s)
{
    return s->n_heads / s->n_kv_heads;
}

/* What only the libraries need. */
static void lay_gemm(struct gpu_stack *k, const struct sur_tower *s, CUdeviceptr base, size_t *at,
                     const struct sur_backend_options *o, const struct gpu_stack_size *z)
{
    size_t n = (size_t)k->max_n, heads = (size_t)s->n_heads, kv_heads = (size_t)s->n_kv_heads;
    size_t head_dim = (size_t)s->head_dim, slots = (size_t)k->n_blocks * SUR_GPU_KEYS;
    size_t rows = (heads + 2 * kv_heads) * head_dim, most;
    if (rows < (size_t)s->hidden_dim) rows = (size_t)s->hidden_dim;
    if (rows < (size_t)s->dim) rows = (size_t)s->dim;
    most = n * rows > (size_t)z->columns * (size_t)z->rows ? n * rows : (size_t)z->columns * (size_t)z->rows;
    k->products_by_gemm = o->gemm != SUR_GEMM_OWN;
    k->attention_by_gemm = o->window_attention == SUR_ATTENTION_GEMM;
    k->sums_bytes = gpu_round_up(2 * most * 4, 256);
    gpu_place(at, base, &k->workspace, k->products_by_gemm || k->attention_by_gemm ? GPU_GEMM_WORKSPACE : 0);
    gpu_place(at, base, &k->sums, k->products_by_gemm ? 2 * k->sums_bytes : 0);
    gpu_place(at, base, &k->keys, k->attention_by_gemm ? kv_heads * slots * head_dim * 4 : 0);
    gpu_place(at, base, &k->values, k->attention_by_gemm ? kv_heads * slots * head_dim * 4 : 0);
    gpu_place(at, base, &k->scores, k->attention_by_gemm ? heads * n * slots * 4 : 0);
}

/* Lays the buffers out from base and returns how many bytes they take. */
static size_t lay(struct gpu_stack *k, const struct sur_tower *s, CUdeviceptr base, const struct sur_backend_options *o,
                  const struct gpu_stack_size *z)
{
    size_t at = 0, n = (size_t)z->max_n, q_dim = (size_t)(s->n_heads * s->head_dim), dim = (size_t)s->dim;
    size_t element = o->kv == SUR_KV_FP16 ? 2 : 4, heads = (size_t)s->n_kv_heads,
           few = n < 8 ? n : SUR_GPU_SKINNY_COLUMNS;
    size_t hidden_pitch = gpu_round_up((size_t)s->hidden_dim, SUR_GPU_PITCH);
    size_t q_pitch = gpu_round_up(q_dim, SUR_GPU_PITCH), dim_pitch = gpu_round_up(dim, SUR_GPU_PITCH);
    size_t others = gpu_round_up((size_t)z->k, SUR_GPU_PITCH), other = others * (size_t)z->columns;
    const size_t eight = SUR_GPU_SKINNY_COLUMNS * 2 * 2; /* of fragments, whatever n is */
    k->kv = o->kv;
    k->max_n = z->max_n;
    k->dp = (int)gpu_round_up((size_t)s->head_dim, 64);
    k->n_blocks = (int)(((size_t)s->window + (size_t)z->slack + n + SUR_GPU_KEYS - 1) / SUR_GPU_KEYS);
    k->max_blocks = (s->window + 16 + SUR_GPU_KEYS - 2) / SUR_GPU_KEYS + 1;
    k->ring_bytes = heads * (size_t)k->n_blocks * SUR_GPU_KEYS * (size_t)k->dp * element;
    size_t groups = (few * (size_t)group_of(s) + SUR_GPU_ATTEND_ROWS - 1) / SUR_GPU_ATTEND_ROWS;
    gpu_place(&at, base, &k->rings, k->ring_bytes * 2 * (size_t)s->n_layers);
    gpu_place(&at, base, &k->norms, gpu_norms_bytes(s) + dim * 4);
    gpu_place(&at, base, &k->h, n * dim * 4);
    gpu_place(&at, base, &k->q, n * q_dim * 4);
    gpu_place(&at, base, &k->halves, (n * dim_pitch > other ? n * dim_pitch : other) * 2 * 2);
    gpu_place(&at, base, &k->scale, (n > (size_t)z->columns ? n : (size_t)z->columns) * 4);
    gpu_place(&at, base, &k->attended, n * q_pitch * 2 * 2);
    gpu_place(&at, base, &k->act, n * hidden_pitch * 2 * 2);
    gpu_place(&at, base, &k->fragments, dim_pitch * eight);
    gpu_place(&at, base, &k->squares, few * dim_pitch / 8 * 4);
    gpu_place(&at, base, &k->attended_fragments, q_pitch * eight);
    gpu_place(&at, base, &k->act_fragments, hidden_pitch * eight);
    gpu_place(&at, base, &k->other_fragments, others * SUR_TOKEN_FRAMES * eight); /* units of the adapter (session.c) */
    gpu_place(&at, base, &k->rotation, n * (size_t)s->head_dim * 4);
    gpu_place(&at, base, &k->position, 8);
    gpu_place(&at, base, &k->counters, heads * groups * 4);
    size_t partial = (size_t)k->max_blocks * SUR_GPU_ATTEND_ROWS * SUR_GPU_PARTIAL((size_t)k->dp) * 4;
    gpu_place(&at, base, &k->partial, heads * groups * partial);
    lay_gemm(k, s, base, &at, o, z);
    return at;
}

size_t gpu_stack_bytes(const struct sur_tower *s, const struct sur_backend_options *o, const struct gpu_stack_size *z)
{
    struct gpu_stack k;
    return lay(&k, s, 0, o, z);
}

int gpu_stack_init(struct gpu_stack *k, struct gpu *g, const struct gpu_tower *tower,
                   const struct sur_backend_options *o, const struct gpu_stack_size *z)
{
    *k = (struct gpu_stack){.gpu = g, .tower = tower};
    k->n_bytes = lay(k, tower->shape, 0, o, z);
    int r = gpu_allocate(g, &k->memory, k->n_bytes, true);
    if (!r) lay(k, tower->shape, k->memory, o, z);
    if (!r) r = CHECK(cuMemcpyDtoD(k->norms, tower->norms, gpu_norms_bytes(tower->shape)));
    if (!r) r = gpu_check(cuStreamCreate(&k->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    if (!r) r = gpu_gemm_create(&k->gemm, o->gemm, o->window_attention, k->stream, k->workspace);
    if (!r && tower->slots[0]) {
        r = gpu_check(cuStreamCreate(&k->copy, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        if (!r) r = gpu_check(cuEventCreate(&k->start, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
        for (int i = 0; !r && i < GPU_SLOTS; i++) {
            r = gpu_check(cuEventCreate(&k->ready[i], CU_EVENT_DISABLE_TIMING), "cuEventCreate");
            if (!r) r = gpu_check(cuEventCreate(&k->used[i], CU_EVENT_DISABLE_TIMING), "cuEventCreate");
        }
    }
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
    gpu_free(k->gpu, &k->memory, k->n_bytes);
    *k = (struct gpu_stack){.gpu = NULL};
}

static struct sur_gpu_ring ring_of(const struct gpu_stack *k, int layer)
{
    const struct sur_tower *s = k->tower->shape;
    CUdeviceptr at = k->rings + (size_t)layer * 2 * k->ring_bytes;
    return (struct sur_gpu_ring){.k = at,
                                 .v = at + k->ring_bytes,
                                 .n_blocks = k->n_blocks,
                                 .n_kv_heads = s->n_kv_heads,
                                 .head_dim = s->head_dim,
                                 .dp = k->dp,
                                 .fp32 = k->kv == SUR_KV_FP32};
}

int gpu_stack_randomize(struct gpu_stack *k, int64_t end)
{
    const struct sur_tower *s = k->tower->shape;
    int64_t from = end > s->window ? end - s->window : 0;
    int r = SUR_OK;
    if (end == 0) return SUR_OK;
    for (int layer = 0; !r && layer < s->n_layers; layer++) {
        struct sur_gpu_launch l = {{(unsigned)(end - from), 1, 1}, 256, 0};
        struct sur_gpu_randomize p = {.ring = ring_of(k, layer), .from = from, .n = (int)(end - from), .layer = layer};
        r = gpu_launch(k->gpu, k->stream, GPU_RANDOMIZE, &l, &p, false);
    }
    return r ? r : gpu_check(cuStreamSynchronize(k->stream), "cuStreamSynchronize");
}

/* ---- products ---- */

bool gpu_pass_is_skinny(const struct gpu_pass *p, int n)
{
    return n <= SUR_GPU_SKINNY_COLUMNS && !p->stack->products_by_gemm;
}

void gpu_pass_launch(struct gpu_pass *p, enum gpu_kernel kernel, const struct sur_gpu_launch *l, const void *params)
{
    if (p->status) return;
    /* A tiled pass loses more by it than it gains: thread blocks that wait crowd on some multiprocessors. */
    const bool overlap = !p->fresh && gpu_pass_is_skinny(p, p->n);
    p->status = gpu_launch(p->stack->gpu, p->stack->stream, kernel, l, params, overlap);
    p->fresh = false;
}

/* What of it depends on the kernel that follows is the caller's: hi and lo, and where the norm's scale goes. */
static void launch_split(struct gpu_pass *p, const struct sur_gpu_product *k, struct sur_gpu_split split,
                         const struct sur_gpu_input *in)
{
    split.k = k->k;
    split.pitch = k->pitch;
    split.n = k->n;
    split.in = *in;
    const struct sur_gpu_launch l = sur_gpu_split_launch(&split);
    gpu_pass_launch(p, GPU_SPLIT, &l, &split);
}

static void launch_skinny(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k,
                          const struct sur_gpu_input *in)
{
    struct gpu_stack *s = p->stack;
    struct sur_gpu_launch l;
    if (in->x) {
        bool whole = in->norm && in->norm_k == k->k;
        k->hi = whole ? s->fragments : s->other_fragments;
        k->squares = whole ? s->squares : 0;
        k->eps = in->eps;
        launch_split(p, k, (struct sur_gpu_split){.hi = k->hi, .squares = k->squares}, in);
    }
    if (!p->status && !sur_gpu_skinny_plan(k, s->gpu->multiprocessors, s->gpu->max_shared, &l))
        p->status = sur_fail(SUR_ERR_BACKEND, "a row of %d weights is too long for this GPU", k->k);
    gpu_pass_launch(p, GPU_SKINNY + (enum gpu_kernel)e, &l, k);
}

static void split_input(struct gpu_pass *p, struct sur_gpu_product *k, const struct sur_gpu_input *in)
{
    if (!in->x) return;
    k->hi = p->stack->halves;
    k->lo = gpu_low_half(k->hi, k->n, k->pitch);
    k->scale = in->norm && in->norm_k == k->k ? p->stack->scale : 0;
    launch_split(p, k, (struct sur_gpu_split){.hi = k->hi, .lo = k->lo, .scale = k->scale}, in);
}

static void launch_tiled(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k,
                         const struct sur_gpu_input *in)
{
    struct gpu_stack *s = p->stack;
    split_input(p, k, in);
    int tile = sur_gpu_tile_choose(k, s->gpu->multiprocessors, (uint32_t)s->gpu->max_shared - 1024);
    struct sur_gpu_tile t = sur_gpu_tile_at(tile);
    struct sur_gpu_launch l = {{1, 1, 1}, (unsigned)t.threads, t.shared_bytes};
    sur_gpu_tile_grid(k, tile, l.grid);
    gpu_pass_launch(p, (enum gpu_kernel)(GPU_TILED + (int)e * SUR_GPU_N_TILES + tile), &l, k);
}

/* Both halves are columns of one product: 2 n. */
static void multiply(struct gpu_pass *p, const struct sur_gpu_product *k, CUdeviceptr w, CUdeviceptr sums)
{
    if (!p->status) p->status = gpu_gemm_product(p->stack->gemm, w, k->hi, sums, k->rows, k->pitch, 2 * k->n);
    p->fresh = true;
}

static void launch_by_library(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k,
                              const struct sur_gpu_input *in)
{
    const unsigned rows_a_block = e == SUR_GPU_QKV ? 512 : 256;
    split_input(p, k, in);
    struct sur_gpu_finish f = {.sums = p->stack->sums, .scale = k->scale, .rows = k->rows, .n = k->n, .out = k->out};
    multiply(p, k, k->w, f.sums);
    if (k->w_up) multiply(p, k, k->w_up, f.sums_up = f.sums + p->stack->sums_bytes);
    struct sur_gpu_launch l = {{((unsigned)k->rows + rows_a_block - 1) / rows_a_block, (unsigned)k->n, 1}, 256, 0};
    gpu_pass_launch(p, GPU_FINISH + (enum gpu_kernel)e, &l, &f);
}

void gpu_pass_product(struct gpu_pass *p, const struct gpu_product *d)
{
    struct sur_gpu_product k = {.w = d->base + d->w->offset,
                                .w_up = d->w_up ? d->base + d->w_up->offset : 0,
                                .hi = d->hi,
                                .squares = d->squares,
                                .rows = d->w->rows,
                                .k = d->w->k,
                                .pitch = d->w->pitch,
                                .n = d->n,
                                .eps = d->eps,
                                .out = d->out};
    if (d->epilogue == SUR_GPU_HEAD || gpu_pass_is_skinny(p, d->n)) { /* the head's best four come with its sums */
        launch_skinny(p, d->epilogue, &k, &d->in);
        return;
    }
    k.lo = d->hi ? gpu_low_half(d->hi, d->n, d->w->pitch) : 0;
    if (p->stack->products_by_gemm)
        launch_by_library(p, d->epilogue, &k, &d->in);
    else
        launch_tiled(p, d->epilogue, &k, &d->in);
}

/* ---- layers ---- */

static CUdeviceptr vector_at(CUdeviceptr base, size_t offset)
{
    return offset == GPU_NONE ? 0 : base + offset;
}

static void attend_few(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    const struct sur_gpu_launch l = sur_gpu_attend_launch(a, p->stack->gpu->multiprocessors);
    gpu_pass_launch(p, a->ring.dp == 64 ? GPU_ATTEND_64 : GPU_ATTEND_128, &l, a);
}

/* Of a tiled pass: 64 rows a thread block. */
static void attend_many(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    unsigned rows = (unsigned)(p->n * group_of(p->stack->tower->shape)), dp = (unsigned)p->stack->dp;
    /* queries split, and keys and values: twice, so that they arrive ahead, where a block has room for it everywhere */
    unsigned bytes = 4 * (64 + SUR_GPU_KEYS * (dp == 64 ? 2 : 1)) * dp;
    struct sur_gpu_launch l = {{(rows + 63) / 64, (unsigned)a->ring.n_kv_heads, 1}, 128, bytes};
    gpu_pass_launch(p, dp == 64 ? GPU_ATTEND_MANY_64 : GPU_ATTEND_MANY_128, &l, a);
}

/* For every head; the libraries want heads at a constant distance, so of each group one at a time. */
static void multiply_heads(struct gpu_pass *p, struct gpu_gemm_heads w, struct gpu_gemm_heads x,
                           struct gpu_gemm_heads y, int rows, int k)
{
    const struct sur_tower *s = p->stack->tower->shape;
    const int group = group_of(s);
    for (int g = 0; !p->status && g < group; g++) {
        p->status = gpu_gemm_heads(p->stack->gemm, w, x, y, rows, k, p->n, s->n_kv_heads);
        x.at += (size_t)x.step / (size_t)group * 4;
        y.at += (size_t)y.step / (size_t)group * 4;
    }
    p->fresh = true;
}

/* Scores of all that the rings hold, weights (0 for what a window does not), sums of values: in place of the queries,
 * then split. */
static void attend_by_gemm(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    struct gpu_stack *k = p->stack;
    const int d = a->ring.head_dim, slots = a->ring.n_blocks * SUR_GPU_KEYS, group = group_of(k->tower->shape);
    const struct gpu_gemm_heads keys = {k->keys, d, (long long)slots * d};
    const struct gpu_gemm_heads values = {k->values, slots, (long long)slots * d};
    const struct gpu_gemm_heads q = {a->q, a->n_heads * d, (long long)group * d};
    const struct gpu_gemm_heads scores = {k->scores, slots, (long long)group * a->n * slots};
    struct sur_gpu_unroll unroll = {.ring = a->ring, .keys = k->keys, .values = k->values};
    struct sur_gpu_launch l = {{(unsigned)a->ring.n_blocks, (unsigned)a->ring.n_kv_heads, 1}, 256, 0};
    gpu_pass_launch(p, GPU_UNROLL, &l, &unroll);
    multiply_heads(p, keys, q, scores, slots, d);
    a->partial = k->scores;
    l = (struct sur_gpu_launch){{(unsigned)(a->n + 7) / 8, (unsigned)a->n_heads, 1}, 256, 0};
    gpu_pass_launch(p, GPU_SOFTMAX, &l, a);
    multiply_heads(p, values, scores, q, d, slots);
    struct sur_gpu_split split = {.hi = a->hi, .lo = a->lo, .k = a->n_heads * d, .pitch = a->pitch, .n = a->n};
    split.in = (struct sur_gpu_input){.x = a->q, .stride = a->n_heads * d};
    l = sur_gpu_split_launch(&split);
    gpu_pass_launch(p, GPU_SPLIT, &l, &split);
}

/* Splits its result for wo: fragments or halves at `to`. */
static void attend(struct gpu_pass *p, int layer, CUdeviceptr to, bool fragments)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    const bool is_many = p->n > SUR_GPU_SKINNY_COLUMNS;
    struct sur_gpu_attend a = {.q = k->q,
                               .hi = to,
                               .lo = fragments ? 0 : gpu_low_half(to, p->n, k->tower->plan.wo.pitch),
                               .position = k->position,
                               .partial = k->partial,
                               .counters = k->counters,
                               .ring = ring_of(k, layer),
                               .n = p->n,
                               .n_heads = s->n_heads,
                               .window = s->window,
                               .max_blocks = k->max_blocks,
                               .scale = 1.0f / sqrtf((float)s->head_dim),
                               .pitch = k->tower->plan.wo.pitch};
    struct sur_gpu_launch plain = {{(unsigned)p->n, (unsigned)s->n_heads, 1}, SUR_GPU_KEYS, 0};
    if (k->attention_by_gemm && is_many)
        attend_by_gemm(p, &a);
    else if (k->kv == SUR_KV_FP32 || k->dp > 128)
        gpu_pass_launch(p, GPU_ATTEND_PLAIN, &plain, &a);
    else if (is_many)
        attend_many(p, &a);
    else
        attend_few(p, &a);
}

/* A norm's input: h, or of a skinny pass h as whoever wrote it last has split it. */
static void take_h(const struct gpu_pass *p, struct gpu_product *d, CUdeviceptr norm)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    d->eps = (float)s->norm_eps;
    if (p->h_is_split) {
        d->hi = k->fragments;
        d->squares = k->squares;
    } else {
        d->in = (struct sur_gpu_input){
            .x = k->h, .norm = norm, .stride = s->dim, .norm_k = s->dim, .eps = (float)s->norm_eps};
    }
}

CUdeviceptr gpu_pass_norm(const struct gpu_stack *k, int layer, bool ffn)
{
    return k->norms + (2 * (size_t)layer + ffn) * (size_t)k->tower->shape->dim * 4;
}

struct sur_gpu_output gpu_pass_to_h(struct gpu_pass *p, CUdeviceptr norm)
{
    struct gpu_stack *k = p->stack;
    struct sur_gpu_output out = {.y = k->h, .stride = k->tower->shape->dim};
    p->h_is_split = gpu_pass_is_skinny(p, p->n);
    if (p->h_is_split) {
        out.hi = k->fragments;
        out.pitch = k->tower->plan.qkv.pitch;
        out.norm = norm;
        out.squares = k->squares;
    }
    return out;
}

static void layer(struct gpu_pass *p, int i, CUdeviceptr base)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    const struct gpu_layer_plan *plan = &k->tower->plan;
    const int q_rows = s->n_heads * s->head_dim;
    const bool is_skinny = gpu_pass_is_skinny(p, p->n);
    const CUdeviceptr attended = is_skinny ? k->attended_fragments : k->attended,
                      act = is_skinny ? k->act_fragments : k->act;

    struct gpu_product qkv = {SUR_GPU_QKV, base, &plan->qkv, .n = p->n};
    take_h(p, &qkv, gpu_pass_norm(k, i, false));
    qkv.out = (struct sur_gpu_output){.y = k->q,
                                      .bias = vector_at(base, plan->bias_qkv),
                                      .position = k->position,
                                      .rotation = k->rotation,
                                      .ring = ring_of(k, i),
                                      .stride = q_rows,
                                      .q_rows = q_rows,
                                      .new_place = i == 0}; /* behind k_embed */
    gpu_pass_product(p, &qkv);
    attend(p, i, attended, is_skinny);
    struct gpu_product wo = {SUR_GPU_ADD, base, &plan->wo, .hi = attended, .n = p->n};
    wo.out = gpu_pass_to_h(p, gpu_pass_norm(k, i, true));
    wo.out.bias = vector_at(base, plan->bias_o);
    gpu_pass_product(p, &wo);
    struct gpu_product up = {SUR_GPU_SWIGLU, base, &plan->w1, &plan->w3, .n = p->n};
    take_h(p, &up, gpu_pass_norm(k, i, true));
    up.out = (struct sur_gpu_output){
        .hi = act, .lo = is_skinny ? 0 : gpu_low_half(act, p->n, plan->w2.pitch), .pitch = plan->w2.pitch};
    gpu_pass_product(p, &up);
    struct gpu_product down = {SUR_GPU_ADD, base, &plan->w2, .hi = act, .n = p->n};
    down.out = gpu_pass_to_h(p, gpu_pass_norm(k, i + 1, false));
    down.out.bias = vector_at(base, plan->bias_2);
    gpu_pass_product(p, &down);
}

static void record(struct gpu_pass *p, CUevent event, CUstream stream)
{
    if (!p->status) p->status = gpu_check(cuEventRecord(event, stream), "cuEventRecord");
}

static void await(struct gpu_pass *p, CUstream stream, CUevent event)
{
    if (!p->status) p->status = gpu_check(cuStreamWaitEvent(stream, event, 0), "cuStreamWaitEvent");
}

/* The m-th layer that is not resident, into its slot. */
static void fetch(struct gpu_pass *p, int m)
{
    struct gpu_stack *k = p->stack;
    const struct gpu_tower *t = k->tower;
    int i = t->n_resident + m, slot = m % GPU_SLOTS;
    if (i >= t->shape->n_layers) return;
    await(p, k->copy, m < GPU_SLOTS ? k->start : k->used[slot]);
    if (!p->status)
        p->status = gpu_check(cuMemcpyHtoDAsync(t->slots[slot], t->host_layers[i], t->plan.n_bytes, k->copy),
                              "cuMemcpyHtoDAsync");
    record(p, k->ready[slot], k->copy);
}

void gpu_pass_tower(struct gpu_pass *p)
{
    struct gpu_stack *k = p->stack;
    const struct gpu_tower *t = k->tower;
    bool streams = t->n_resident < t->shape->n_layers;
    if (streams) {
        record(p, k->start, k->stream);
        for (int m = 0; m < GPU_SLOTS; m++) fetch(p, m);
    }
    for (int i = 0; i < t->shape->n_layers; i++) {
        int m = i - t->n_resident, slot = m % GPU_SLOTS;
        if (m < 0) {
            layer(p, i, t->layers[i]);
            continue;
        }
        await(p, k->stream, k->ready[slot]);
        p->fresh = true;
        layer(p, i, t->slots[slot]);
        record(p, k->used[slot], k->stream);
        fetch(p, m + GPU_SLOTS);
    }
    if (streams) p->fresh = true;
}

#include "gpu/pass.h"

#include <math.h>

#include "kernels/narrow.h"
#include "kernels/wide.h"
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
                  const struct gpu_stack_size *z, bool folded)
{
    size_t at = 0, n = (size_t)z->max_n, wide = (size_t)(s->n_heads * s->head_dim), dim = (size_t)s->dim;
    size_t element = o->kv == SUR_KV_FP16 ? 2 : 4, heads = (size_t)s->n_kv_heads, narrow = n < 8 ? n : SUR_GPU_NARROW;
    size_t hidden_pitch = gpu_round_up((size_t)s->hidden_dim, SUR_GPU_PITCH);
    size_t wide_pitch = gpu_round_up(wide, SUR_GPU_PITCH), split = gpu_round_up(dim, SUR_GPU_PITCH) * n;
    size_t other = gpu_round_up((size_t)z->k, SUR_GPU_PITCH) * (size_t)z->columns;
    k->kv = o->kv;
    k->max_n = z->max_n;
    k->dp = s->head_dim <= 64 ? 64 : s->head_dim <= 128 ? 128 : (int)gpu_round_up((size_t)s->head_dim, 32);
    k->n_blocks = (int)(((size_t)s->window + (size_t)z->slack + n + SUR_GPU_KEYS - 1) / SUR_GPU_KEYS);
    k->max_blocks = (s->window + 16 + SUR_GPU_KEYS - 2) / SUR_GPU_KEYS + 1;
    k->ring_bytes = heads * (size_t)k->n_blocks * SUR_GPU_KEYS * (size_t)k->dp * element;
    size_t groups = (narrow * (size_t)group_of(s) + 15) / 16;
    gpu_place(&at, base, &k->rings, k->ring_bytes * 2 * (size_t)s->n_layers);
    gpu_place(&at, base, &k->ffn_norms, folded ? (size_t)s->n_layers * dim * 4 : 0);
    if (!folded) k->ffn_norms = 0;
    gpu_place(&at, base, &k->h, n * dim * 4);
    gpu_place(&at, base, &k->q, n * wide * 4);
    gpu_place(&at, base, &k->halves, (split > other ? split : other) * 2 * 2);
    gpu_place(&at, base, &k->attended, n * wide_pitch * 2 * 2);
    gpu_place(&at, base, &k->act, n * hidden_pitch * 2 * 2);
    gpu_place(&at, base, &k->rotation, n * (size_t)s->head_dim * 4);
    gpu_place(&at, base, &k->position, 8);
    gpu_place(&at, base, &k->counters, heads * groups * 4);
    gpu_place(&at, base, &k->partial, heads * groups * (size_t)k->max_blocks * 16 * SUR_GPU_PARTIAL((size_t)k->dp) * 4);
    lay_gemm(k, s, base, &at, o, z);
    return at;
}

size_t gpu_stack_bytes(const struct sur_tower *s, const struct sur_backend_options *o, const struct gpu_stack_size *z)
{
    struct gpu_stack k;
    return lay(&k, s, 0, o, z, true);
}

int gpu_stack_init(struct gpu_stack *k, struct gpu *g, const struct gpu_tower *tower,
                   const struct sur_backend_options *o, const struct gpu_stack_size *z, bool folded)
{
    *k = (struct gpu_stack){.gpu = g, .tower = tower};
    k->n_bytes = lay(k, tower->shape, 0, o, z, folded);
    int r = gpu_allocate(g, &k->memory, k->n_bytes, true);
    if (!r) lay(k, tower->shape, k->memory, o, z, folded);
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

void gpu_pass_launch(struct gpu_pass *p, enum gpu_kernel kernel, const struct sur_gpu_launch *l, const void *params)
{
    if (p->status) return;
    p->status = gpu_launch(p->stack->gpu, p->stack->stream, kernel, l, params, !p->fresh);
    p->fresh = false;
}

/* As many columns at once as shared memory holds. */
static void narrow(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k)
{
    const struct gpu *g = p->stack->gpu;
    int left = k->n, stages;
    while (left && !p->status) {
        struct sur_gpu_launch l;
        k->n = left;
        while (k->n && !sur_gpu_narrow_plan(k, g->multiprocessors, g->max_shared - 2048, &l, &stages)) k->n--;
        if (!k->n) {
            p->status = sur_fail(SUR_ERR_BACKEND, "a row of %d weights is too long for this GPU", k->k);
            return;
        }
        gpu_pass_launch(p, (stages == 8 ? GPU_NARROW_8 : GPU_NARROW_4) + (enum gpu_kernel)e, &l, k);
        k->column0 += k->n;
        left -= k->n;
    }
}

static void split_input(struct gpu_pass *p, struct sur_gpu_product *k)
{
    if (!k->in.x) return;
    k->hi = p->stack->halves;
    k->lo = gpu_low_half(k->hi, k->n, k->pitch);
    struct sur_gpu_launch l = {{(unsigned)k->n, 1, 1}, 256, 0};
    struct sur_gpu_split split = {.hi = k->hi, .lo = k->lo, .k = k->k, .pitch = k->pitch, .n = k->n, .in = k->in};
    gpu_pass_launch(p, GPU_SPLIT, &l, &split);
}

static void wide(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k)
{
    struct gpu_stack *s = p->stack;
    split_input(p, k);
    int tile = sur_gpu_wide_choose(k, s->gpu->multiprocessors, (uint32_t)s->gpu->max_shared - 1024);
    struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(tile);
    struct sur_gpu_launch l = {{1, 1, 1}, (unsigned)t.threads, t.shared_bytes};
    sur_gpu_wide_grid(k, tile, l.grid);
    gpu_pass_launch(p, (enum gpu_kernel)(GPU_WIDE + (int)e * SUR_GPU_N_WIDE + tile), &l, k);
}

/* Both halves are columns of one product: 2 n. */
static void multiply(struct gpu_pass *p, const struct sur_gpu_product *k, CUdeviceptr w, CUdeviceptr sums)
{
    if (!p->status) p->status = gpu_gemm_product(p->stack->gemm, w, k->hi, sums, k->rows, k->pitch, 2 * k->n);
    p->fresh = true;
}

static void by_library(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k)
{
    const unsigned rows_a_block = e == SUR_GPU_QKV ? 512 : 256;
    struct sur_gpu_finish f = {.sums = p->stack->sums, .rows = k->rows, .n = k->n, .out = k->out};
    split_input(p, k);
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
                                .lo = d->lo,
                                .rows = d->w->rows,
                                .k = d->w->k,
                                .pitch = d->w->pitch,
                                .n = d->n,
                                .in = d->in,
                                .out = d->out};
    if (p->stack->products_by_gemm && d->epilogue != SUR_GPU_HEAD) /* whose best four come with its sums */
        by_library(p, d->epilogue, &k);
    else if (d->n <= SUR_GPU_NARROW)
        narrow(p, d->epilogue, &k);
    else
        wide(p, d->epilogue, &k);
}

/* ---- layers ---- */

static CUdeviceptr vector_at(CUdeviceptr base, size_t offset)
{
    return offset == GPU_NONE ? 0 : base + offset;
}

/* Of a narrow pass: 16 rows a thread block; their keys are shared out. */
static void attend_narrow(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    const struct gpu_stack *k = p->stack;
    unsigned groups = (unsigned)(p->n * group_of(k->tower->shape) + 15) / 16, heads = (unsigned)a->ring.n_kv_heads;
    /* two thread blocks a multiprocessor: one computes while the other's keys arrive */
    unsigned most = 2 * (unsigned)k->gpu->multiprocessors / (heads * groups), dp = (unsigned)k->dp;
    unsigned blocks = most < 1 ? 1 : most < (unsigned)k->max_blocks ? most : (unsigned)k->max_blocks;
    /* keys, values, queries and weights, the last two split */
    struct sur_gpu_launch l = {{blocks, heads, groups}, 256, 4 * ((SUR_GPU_KEYS + 16) * dp + 16 * SUR_GPU_KEYS)};
    gpu_pass_launch(p, dp == 64 ? GPU_ATTEND_64 : GPU_ATTEND_128, &l, a);
}

/* Of a wide pass: 64 rows a thread block. */
static void attend_wide(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    unsigned rows = (unsigned)(p->n * group_of(p->stack->tower->shape)), dp = (unsigned)p->stack->dp;
    /* queries split, and keys and values: twice, so that they arrive ahead, where a block has room for it everywhere */
    unsigned bytes = 4 * (64 + SUR_GPU_KEYS * (dp == 64 ? 2 : 1)) * dp;
    struct sur_gpu_launch l = {{(rows + 63) / 64, (unsigned)a->ring.n_kv_heads, 1}, 128, bytes};
    gpu_pass_launch(p, dp == 64 ? GPU_ATTEND_WIDE_64 : GPU_ATTEND_WIDE_128, &l, a);
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
    l = (struct sur_gpu_launch){{(unsigned)a->n, 1, 1}, 256, 0};
    gpu_pass_launch(p, GPU_SPLIT, &l, &split);
}

static void attend(struct gpu_pass *p, int layer)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    const bool wide = p->n > SUR_GPU_NARROW;
    struct sur_gpu_attend a = {.q = k->q,
                               .hi = k->attended,
                               .lo = gpu_low_half(k->attended, p->n, k->tower->plan.wo.pitch),
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
    if (k->attention_by_gemm && wide)
        attend_by_gemm(p, &a);
    else if (k->kv == SUR_KV_FP32 || k->dp > 128)
        gpu_pass_launch(p, GPU_ATTEND_PLAIN, &plain, &a);
    else if (wide)
        attend_wide(p, &a);
    else
        attend_narrow(p, &a);
}

static void layer(struct gpu_pass *p, int i, CUdeviceptr base)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    const struct gpu_layer_plan *plan = &k->tower->plan;
    const int wide_rows = s->n_heads * s->head_dim;
    struct sur_gpu_input h = {.x = k->h, .stride = s->dim, .norm_k = s->dim, .eps = (float)s->norm_eps};
    struct sur_gpu_output residual = {.y = k->h, .stride = s->dim};

    struct gpu_product qkv = {SUR_GPU_QKV, base, &plan->qkv, .in = h, .n = p->n};
    qkv.in.norm = base + plan->attention_norm;
    qkv.out = (struct sur_gpu_output){.y = k->q,
                                      .bias = vector_at(base, plan->bias_qkv),
                                      .position = k->position,
                                      .rotation = k->rotation,
                                      .ring = ring_of(k, i),
                                      .stride = wide_rows,
                                      .q_rows = wide_rows};
    gpu_pass_product(p, &qkv);
    attend(p, i);
    struct gpu_product wo = {SUR_GPU_ADD, base, &plan->wo, .out = residual, .n = p->n};
    wo.hi = k->attended;
    wo.lo = gpu_low_half(k->attended, p->n, plan->wo.pitch);
    wo.out.bias = vector_at(base, plan->bias_o);
    gpu_pass_product(p, &wo);
    struct gpu_product up = {SUR_GPU_SWIGLU, base, &plan->w1, &plan->w3, .in = h, .n = p->n};
    up.in.norm = k->ffn_norms ? k->ffn_norms + (size_t)i * (size_t)s->dim * 4 : base + plan->ffn_norm;
    up.out = (struct sur_gpu_output){.hi = k->act, .lo = gpu_low_half(k->act, p->n, plan->w2.pitch)};
    up.out.pitch = plan->w2.pitch;
    gpu_pass_product(p, &up);
    struct gpu_product down = {SUR_GPU_ADD, base, &plan->w2, .out = residual, .n = p->n};
    down.hi = up.out.hi;
    down.lo = up.out.lo;
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

#include "gpu/pass.h"

#include <math.h>

#include "kernels/skinny.h"
#include "kernels/tiled.h"
#include "model/schedule.h"
#include "util/error.h"

/* ---- products ---- */

bool gpu_pass_is_skinny(const struct gpu_pass *p, int n)
{
    return n <= SUR_GPU_SKINNY_COLUMNS && !p->stack->products_by_gemm;
}

void gpu_pass_launch(struct gpu_pass *p, enum gpu_kernel kernel, const struct sur_gpu_launch *l, const void *params)
{
    if (p->status) return;
    /* Overlap makes tiled passes slower: thread blocks that wait crowd on some multiprocessors. */
    const bool overlap = !p->fresh && gpu_pass_is_skinny(p, p->n);
    p->status = gpu_launch(p->stack->gpu, p->stack->stream, kernel, l, params, overlap);
    p->fresh = false;
}

/* The caller sets what depends on the product that follows: hi and lo, and where the norm's scale goes. */
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
        k->hi = whole ? s->work.fragments : s->work.other_fragments;
        k->squares = whole ? s->work.squares : 0;
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
    k->hi = p->stack->work.halves;
    k->lo = gpu_low_half(k->hi, k->n, k->pitch);
    k->scale = in->norm && in->norm_k == k->k ? p->stack->work.scale : 0;
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

/* One product of 2 n columns: the high halves and the low ones. */
static void multiply(struct gpu_pass *p, const struct sur_gpu_product *k, CUdeviceptr w, CUdeviceptr sums)
{
    if (!p->status) p->status = gpu_gemm_product(p->stack->gemm, w, k->hi, sums, k->rows, k->pitch, 2 * k->n);
    p->fresh = true;
}

static void launch_by_library(struct gpu_pass *p, enum sur_gpu_epilogue e, struct sur_gpu_product *k,
                              const struct sur_gpu_input *in)
{
    split_input(p, k, in);
    struct sur_gpu_finish f = {
        .sums = p->stack->work.sums, .scale = k->scale, .rows = k->rows, .n = k->n, .out = k->out};
    multiply(p, k, k->w, f.sums);
    if (k->w_up) multiply(p, k, k->w_up, f.sums_up = f.sums + p->stack->work.sums_bytes);
    const struct sur_gpu_launch l = sur_gpu_finish_launch(&f, e);
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
    if (d->epilogue == SUR_GPU_HEAD || gpu_pass_is_skinny(p, d->n)) { /* only the skinny head finds the best four */
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

static void attend_many(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    const struct sur_gpu_launch l = sur_gpu_attend_many_launch(a);
    gpu_pass_launch(p, a->ring.dp == 64 ? GPU_ATTEND_MANY_64 : GPU_ATTEND_MANY_128, &l, a);
}

/* For every head. The libraries want heads at a constant distance: one call per head of a group. */
static void multiply_heads(struct gpu_pass *p, struct gpu_gemm_heads w, struct gpu_gemm_heads x,
                           struct gpu_gemm_heads y, int rows, int k)
{
    const struct sur_tower *s = p->stack->tower->shape;
    const int group = gpu_heads_per_group(s);
    for (int g = 0; !p->status && g < group; g++) {
        p->status = gpu_gemm_heads(p->stack->gemm, w, x, y, rows, k, p->n, s->n_kv_heads);
        x.at += (size_t)x.step / (size_t)group * 4;
        y.at += (size_t)y.step / (size_t)group * 4;
    }
    p->fresh = true;
}

/* Scores of all slots of the ring, weights (0 outside the window), sums of values, which replace the queries and are
 * then split. */
static void attend_by_gemm(struct gpu_pass *p, struct sur_gpu_attend *a)
{
    struct gpu_stack *k = p->stack;
    const int d = a->ring.head_dim, slots = a->ring.n_blocks * SUR_GPU_KEYS,
              group = gpu_heads_per_group(k->tower->shape);
    const struct gpu_gemm_heads keys = {k->work.keys, d, (long long)slots * d};
    const struct gpu_gemm_heads values = {k->work.values, slots, (long long)slots * d};
    const struct gpu_gemm_heads q = {a->q, a->n_heads * d, (long long)group * d};
    const struct gpu_gemm_heads scores = {k->work.scores, slots, (long long)group * a->n * slots};
    struct sur_gpu_unroll unroll = {.ring = a->ring, .keys = k->work.keys, .values = k->work.values};
    struct sur_gpu_launch l = sur_gpu_unroll_launch(&unroll);
    gpu_pass_launch(p, GPU_UNROLL, &l, &unroll);
    multiply_heads(p, keys, q, scores, slots, d);
    a->partial = k->work.scores;
    l = sur_gpu_softmax_launch(a);
    gpu_pass_launch(p, GPU_SOFTMAX, &l, a);
    multiply_heads(p, values, scores, q, d, slots);
    struct sur_gpu_split split = {.hi = a->hi, .lo = a->lo, .k = a->n_heads * d, .pitch = a->pitch, .n = a->n};
    split.in = (struct sur_gpu_input){.x = a->q, .stride = a->n_heads * d};
    l = sur_gpu_split_launch(&split);
    gpu_pass_launch(p, GPU_SPLIT, &l, &split);
}

/* Splits its result for wo, as fragments or halves at `to`. */
static void attend(struct gpu_pass *p, int layer, CUdeviceptr to, bool fragments)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    const bool is_many = p->n > SUR_GPU_SKINNY_COLUMNS;
    struct sur_gpu_attend a = {.q = k->work.q,
                               .hi = to,
                               .lo = fragments ? 0 : gpu_low_half(to, p->n, k->tower->plan.wo.pitch),
                               .position = k->work.position,
                               .partial = k->work.partial,
                               .counters = k->work.counters,
                               .ring = gpu_stack_ring(k, layer),
                               .n = p->n,
                               .n_heads = s->n_heads,
                               .window = s->window,
                               .max_blocks = k->rings.max_blocks,
                               .scale = 1.0f / sqrtf((float)s->head_dim),
                               .pitch = k->tower->plan.wo.pitch};
    const struct sur_gpu_launch plain = sur_gpu_attend_plain_launch(&a);
    if (k->attention_by_gemm && is_many)
        attend_by_gemm(p, &a);
    else if (k->rings.kv == SUR_KV_FP32 || k->rings.dp > 128)
        gpu_pass_launch(p, GPU_ATTEND_PLAIN, &plain, &a);
    else if (is_many)
        attend_many(p, &a);
    else
        attend_few(p, &a);
}

/* Makes h, normed, the product's input: split already in a skinny pass, else to be split. */
static void input_from_h(const struct gpu_pass *p, struct gpu_product *d, CUdeviceptr norm)
{
    struct gpu_stack *k = p->stack;
    const struct sur_tower *s = k->tower->shape;
    d->eps = (float)s->norm_eps;
    if (p->h_is_split) {
        d->hi = k->work.fragments;
        d->squares = k->work.squares;
    } else {
        d->in = (struct sur_gpu_input){
            .x = k->work.h, .norm = norm, .stride = s->dim, .norm_k = s->dim, .eps = (float)s->norm_eps};
    }
}

CUdeviceptr gpu_pass_norm(const struct gpu_stack *k, int layer, bool ffn)
{
    return gpu_norm_at(k->norms, k->tower->shape, layer, ffn);
}

struct sur_gpu_output gpu_pass_to_h(struct gpu_pass *p, CUdeviceptr norm)
{
    struct gpu_stack *k = p->stack;
    struct sur_gpu_output out = {.y = k->work.h, .stride = k->tower->shape->dim};
    p->h_is_split = gpu_pass_is_skinny(p, p->n);
    if (p->h_is_split) {
        out.hi = k->work.fragments;
        out.pitch = k->tower->plan.qkv.pitch;
        out.norm = norm;
        out.squares = k->work.squares;
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
    const CUdeviceptr attended = is_skinny ? k->work.attended_fragments : k->work.attended,
                      act = is_skinny ? k->work.act_fragments : k->work.act;

    struct gpu_product qkv = {SUR_GPU_QKV, base, &plan->qkv, .n = p->n};
    input_from_h(p, &qkv, gpu_pass_norm(k, i, false));
    qkv.out = (struct sur_gpu_output){.y = k->work.q,
                                      .bias = vector_at(base, plan->bias_qkv),
                                      .position = k->work.position,
                                      .rotation = k->work.rotation,
                                      .ring = gpu_stack_ring(k, i),
                                      .stride = q_rows,
                                      .q_rows = q_rows,
                                      .new_place = i == 0}; /* k_embed, right before it, writes the position */
    gpu_pass_product(p, &qkv);
    attend(p, i, attended, is_skinny);
    struct gpu_product wo = {SUR_GPU_ADD, base, &plan->wo, .hi = attended, .n = p->n};
    wo.out = gpu_pass_to_h(p, gpu_pass_norm(k, i, true));
    wo.out.bias = vector_at(base, plan->bias_o);
    gpu_pass_product(p, &wo);
    struct gpu_product up = {SUR_GPU_SWIGLU, base, &plan->w1, &plan->w3, .n = p->n};
    input_from_h(p, &up, gpu_pass_norm(k, i, true));
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

/* Copies the m-th layer that is not resident to its slot. */
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

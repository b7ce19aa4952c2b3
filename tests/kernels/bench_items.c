/* What is timed: the products, attention and the small kernels of one layer of each tower at full size. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "product.h"
#include "skinny.h"
#include "tiled.h"

struct shape {
    const char *what;
    enum sur_gpu_epilogue epilogue;
    int rows, k, n, runs, taps, head_dim, n_kv_heads;
};

static const struct shape skinny_shapes[] = {
    {"decoder q, k, v", SUR_GPU_QKV, 6144, 3072, 1, 1, 0, 128, 8},
    {"decoder attention's output", SUR_GPU_ADD, 3072, 4096, 1, 0, 0, 0, 0},
    {"decoder gate and up", SUR_GPU_SWIGLU, 9216, 3072, 1, 1, 0, 0, 0},
    {"decoder down", SUR_GPU_ADD, 3072, 9216, 1, 0, 0, 0, 0},
    {"head", SUR_GPU_HEAD, 131072, 3072, 1, 1, 0, 0, 0},
    {"decoder q, k, v", SUR_GPU_QKV, 6144, 3072, 4, 1, 0, 128, 8},
    {"decoder gate and up", SUR_GPU_SWIGLU, 9216, 3072, 4, 1, 0, 0, 0},
    {"decoder down", SUR_GPU_ADD, 3072, 9216, 4, 0, 0, 0, 0},
    {"decoder q, k, v", SUR_GPU_QKV, 6144, 3072, 8, 1, 0, 128, 8},
    {"decoder attention's output", SUR_GPU_ADD, 3072, 4096, 8, 0, 0, 0, 0},
    {"decoder gate and up", SUR_GPU_SWIGLU, 9216, 3072, 8, 1, 0, 0, 0},
    {"head", SUR_GPU_HEAD, 131072, 3072, 8, 1, 0, 0, 0},
    {"encoder q, k, v", SUR_GPU_QKV, 6144, 1280, 4, 1, 0, 64, 32},
    {"encoder attention's output", SUR_GPU_ADD, 1280, 2048, 4, 0, 0, 0, 0},
    {"encoder gate and up", SUR_GPU_SWIGLU, 5120, 1280, 4, 1, 0, 0, 0},
    {"encoder down", SUR_GPU_ADD, 1280, 5120, 4, 0, 0, 0, 0},
    {"conv0", SUR_GPU_GELU, 1280, 384, 8, 0, 1, 0, 0},
    {"conv1", SUR_GPU_GELU, 1280, 3840, 4, 0, 2, 0, 0},
    {"adapter 0", SUR_GPU_GELU, 3072, 5120, 1, 4, 0, 0, 0},
    {"adapter 2", SUR_GPU_ROWS, 3072, 3072, 1, 0, 0, 0, 0},
};

static const struct shape tiled_shapes[] = {
    {"encoder q, k, v", SUR_GPU_QKV, 6144, 1280, 256, 1, 0, 64, 32},
    {"encoder attention's output", SUR_GPU_ADD, 1280, 2048, 256, 0, 0, 0, 0},
    {"encoder gate and up", SUR_GPU_SWIGLU, 5120, 1280, 256, 1, 0, 0, 0},
    {"encoder down", SUR_GPU_ADD, 1280, 5120, 256, 0, 0, 0, 0},
    {"conv0", SUR_GPU_GELU, 1280, 384, 512, 0, 1, 0, 0},
    {"conv1", SUR_GPU_GELU, 1280, 3840, 256, 0, 2, 0, 0},
    {"adapter 0", SUR_GPU_GELU, 3072, 5120, 64, 4, 0, 0, 0},
    {"adapter 2", SUR_GPU_ROWS, 3072, 3072, 64, 0, 0, 0, 0},
    {"prefill q, k, v", SUR_GPU_QKV, 6144, 3072, 38, 1, 0, 128, 8},
    {"prefill attention's output", SUR_GPU_ADD, 3072, 4096, 38, 0, 0, 0, 0},
    {"prefill gate and up", SUR_GPU_SWIGLU, 9216, 3072, 38, 1, 0, 0, 0},
    {"prefill down", SUR_GPU_ADD, 3072, 9216, 38, 0, 0, 0, 0},
};

static size_t ring_elements(const struct sur_gpu_ring *r)
{
    return (size_t)r->n_kv_heads * (size_t)r->n_blocks * SUR_GPU_KEYS * (size_t)r->dp;
}

static struct sur_gpu_ring new_ring(int head_dim, int n_kv_heads, int n_blocks, bool own)
{
    struct sur_gpu_ring r = {.n_blocks = n_blocks, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .dp = head_dim};
    if (own) r.k = bench_zeros("k", ring_elements(&r) * 2), r.v = bench_zeros("v", ring_elements(&r) * 2);
    return r;
}

static struct sur_gpu_product new_product(const struct shape *s)
{
    struct sur_gpu_product p = {.rows = s->rows, .k = s->k, .pitch = s->k, .n = s->n, .eps = 1e-5f};
    struct sur_gpu_output *o = &p.out;
    int64_t position = 1000;
    o->stride = s->rows;
    o->y = bench_zeros("y", (size_t)(s->epilogue == SUR_GPU_ROWS ? SUR_GPU_ROW_RING : s->n) * (size_t)s->rows * 4);
    o->position = memory_of("position", &position, sizeof position);
    if (s->epilogue == SUR_GPU_QKV) {
        o->q_rows = s->rows - 2 * s->n_kv_heads * s->head_dim;
        o->rotation = bench_floats("rotation", (size_t)s->n * (size_t)s->head_dim);
        o->ring = new_ring(s->head_dim, s->n_kv_heads, 12, true);
    }
    if (s->epilogue == SUR_GPU_HEAD) {
        struct sur_gpu_top_state state = {.result =
                                              (sur_gpu_ptr)(uintptr_t)memory_pinned(8 * sizeof(struct sur_gpu_top))};
        state.candidates = bench_zeros("candidates", (size_t)1024 * SUR_GPU_SKINNY_COLUMNS * SUR_GPU_TOP * 8);
        state.counter = bench_zeros("counter", 4);
        o->top = memory_of("top state", &state, sizeof state);
    }
    return p;
}

/* Fills in all but the launch and the kernel's name. */
static struct bench_item product_item(const struct shape *s, const struct sur_gpu_product *p)
{
    struct bench_item item = {.name = text("%s, %d x %d, n %d", s->what, s->rows, s->k, s->n)};
    size_t n_bytes = (size_t)s->rows * (size_t)s->k * 2;
    _Static_assert(sizeof *p <= BENCH_MAX_PARAMETERS, "parameters");
    memcpy(item.parameters, p, sizeof *p);
    item.rotate[0] = offsetof(struct sur_gpu_product, w);
    item.rotate_bytes[0] = n_bytes;
    if (s->epilogue == SUR_GPU_SWIGLU) {
        item.rotate[1] = offsetof(struct sur_gpu_product, w_up);
        item.rotate_bytes[1] = n_bytes;
    }
    item.n_bytes = (double)(item.rotate_bytes[0] + item.rotate_bytes[1]);
    return item;
}

static void skinny_items(void)
{
    for (size_t i = 0; i < sizeof skinny_shapes / sizeof *skinny_shapes; i++) {
        const struct shape *s = &skinny_shapes[i];
        struct sur_gpu_product p = new_product(s);
        if (s->epilogue == SUR_GPU_SWIGLU) p.w_up = 1; /* the plan tests only whether it is 0 */
        p.hi =
            bench_floats("fragments", SUR_GPU_SKINNY_COLUMNS * (size_t)s->k); /* read as bf16, not all of them finite */
        p.squares = s->runs == 1 ? bench_floats("squares", (size_t)s->n * (size_t)(s->k / 8)) : 0;
        struct sur_gpu_launch l;
        if (sur_gpu_skinny_plan(&p, device.multiprocessors, device.max_shared, &l)) {
            struct bench_item item = product_item(s, &p);
            item.kernel = text("k_skinny_%s", epilogue_names[s->epilogue]);
            item.launch = l;
            bench_run(&item);
        } else {
            printf("%s: not even a tile's sums of %d columns fit into shared memory\n", s->what, s->n);
        }
        memory_release();
    }
}

/* flops are those of the product; the tensor cores do twice as many, for the two halves. */
static void tiled_items(void)
{
    for (size_t i = 0; i < sizeof tiled_shapes / sizeof *tiled_shapes; i++) {
        const struct shape *s = &tiled_shapes[i];
        struct sur_gpu_product p = new_product(s);
        if (s->epilogue == SUR_GPU_SWIGLU) p.w_up = 1;
        p.hi = bench_zeros("hi", (size_t)s->n * (size_t)s->k * 2);
        p.lo = bench_zeros("lo", (size_t)s->n * (size_t)s->k * 2);
        p.scale = s->runs == 1 ? bench_floats("scale", (size_t)s->n) : 0;
        struct sur_gpu_split split = {.hi = p.hi, .lo = p.lo, .k = s->k, .pitch = s->k, .n = s->n, .scale = p.scale};
        split.in = (struct sur_gpu_input){.norm_k = s->runs ? s->k / s->runs : 0, .taps = s->taps, .eps = p.eps};
        split.in.stride = s->taps ? s->k / 3 : s->k;
        split.in.x = bench_floats("x", (size_t)(s->n * (s->taps ? s->taps : 1) + 2) * (size_t)split.in.stride);
        split.in.norm = s->runs ? bench_floats("norm", (size_t)split.in.norm_k) : 0;
        struct bench_item item = {.name = text("split of %s, k %d, n %d", s->what, s->k, s->n), .kernel = "k_split"};
        memcpy(item.parameters, &split, sizeof split);
        item.launch = sur_gpu_split_launch(&split);
        bench_run(&item); /* afterwards hi and lo are random */
        int chosen = sur_gpu_tile_choose(&p, device.multiprocessors, (uint32_t)device.max_shared);
        for (int tile = 0; tile < SUR_GPU_N_TILES; tile++) {
            struct sur_gpu_tile w = sur_gpu_tile_at(tile);
            if ((int)w.shared_bytes > device.max_shared) continue;
            item = product_item(s, &p);
            if (tile == chosen) item.name = text("%s *", item.name);
            item.kernel = text("k_tiled_%s%s", epilogue_names[s->epilogue], w.suffix);
            item.launch = (struct sur_gpu_launch){{1, 1, 1}, (unsigned)w.threads, w.shared_bytes};
            sur_gpu_tile_grid(&p, tile, item.launch.grid);
            item.n_bytes = 0;
            item.flops = 2.0 * s->rows * s->k * s->n * (s->epilogue == SUR_GPU_SWIGLU ? 2 : 1);
            bench_run(&item);
        }
        memory_release();
    }
}

/* ---- attention ---- */

struct attend_shape {
    const char *what;
    int head_dim, n_heads, n_kv_heads, window, n;
    int64_t first;
};

static void attend_item(const struct attend_shape *s)
{
    const int group = s->n_heads / s->n_kv_heads,
              groups = (s->n * group + SUR_GPU_ATTEND_ROWS - 1) / SUR_GPU_ATTEND_ROWS;
    int64_t seen = s->first + 1 < s->window ? s->first + 1 : s->window;
    struct sur_gpu_attend p = {.n = s->n, .n_heads = s->n_heads, .window = s->window};
    p.max_blocks = (s->window + 16 + SUR_GPU_KEYS - 2) / SUR_GPU_KEYS + 1;
    p.ring = new_ring(s->head_dim, s->n_kv_heads, (s->window + s->n) / SUR_GPU_KEYS + 2, false);
    p.scale = 1 / sqrtf((float)s->head_dim);
    p.q = bench_floats("q", (size_t)(s->n * s->n_heads * s->head_dim));
    p.out = bench_zeros("out", (size_t)(s->n * s->n_heads * s->head_dim) * 4);
    p.position = memory_of("position", &s->first, sizeof s->first);
    const size_t all = (size_t)s->n_kv_heads * (size_t)groups, row = (size_t)SUR_GPU_PARTIAL(s->head_dim) * 4;
    p.partial = bench_zeros("partial", all * (size_t)p.max_blocks * SUR_GPU_ATTEND_ROWS * row);
    p.counters = bench_zeros("counters", all * 4);

    const bool is_many = s->n > SUR_GPU_SKINNY_COLUMNS;
    const unsigned d = (unsigned)s->head_dim;
    struct bench_item item = {.name = text("%s, context %lld, n %d", s->what, (long long)s->first, s->n)};
    item.kernel = text("k_attend_%s%u", is_many ? "many_" : "", d);
    item.launch = is_many ? sur_gpu_attend_many_launch(&p) : sur_gpu_attend_launch(&p, device.multiprocessors);
    memcpy(item.parameters, &p, sizeof p);
    /* Keys and values are in the first blocks of their rings; a launch moves on by the whole ring all the same. */
    item.rotate[0] = offsetof(struct sur_gpu_attend, ring) + offsetof(struct sur_gpu_ring, k);
    item.rotate[1] = offsetof(struct sur_gpu_attend, ring) + offsetof(struct sur_gpu_ring, v);
    item.rotate_bytes[0] = item.rotate_bytes[1] = ring_elements(&p.ring) * 2;
    if (s->n <= SUR_GPU_SKINNY_COLUMNS)
        item.n_bytes = (double)(seen + s->n - 1) * s->n_kv_heads * s->head_dim * 4;
    else
        item.flops = 4.0 * (double)seen * s->n * s->n_heads * s->head_dim;
    bench_run(&item);
    memory_release();
}

static void attend_items(void)
{
    static const struct attend_shape shapes[] = {
        {"decoder attention", 128, 32, 8, 8192, 1, 100},   {"decoder attention", 128, 32, 8, 8192, 1, 1000},
        {"decoder attention", 128, 32, 8, 8192, 1, 8000},  {"decoder attention", 128, 32, 8, 8192, 1, 100000},
        {"decoder attention", 128, 32, 8, 8192, 8, 1000},  {"decoder attention", 128, 32, 8, 8192, 38, 0},
        {"encoder attention", 64, 32, 32, 750, 4, 5000},   {"encoder attention", 64, 32, 32, 750, 256, 5000},
        {"encoder attention", 64, 32, 32, 750, 512, 5000},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) attend_item(&shapes[i]);
}

/* ---- around the products of NVIDIA's libraries ---- */

static void gemm_items(void)
{
    for (size_t i = 0; i < 4; i++) { /* a layer of the encoder */
        const struct shape *s = &tiled_shapes[i];
        const struct sur_gpu_product p = new_product(s);
        struct sur_gpu_finish f = {.rows = s->rows, .n = s->n, .out = p.out};
        f.sums = bench_floats("sums", 2 * (size_t)s->rows * (size_t)s->n);
        if (s->epilogue == SUR_GPU_SWIGLU) f.sums_up = bench_floats("sums of up", 2 * (size_t)s->rows * (size_t)s->n);
        struct bench_item item = {.name = text("sums of %s, %d rows, n %d", s->what, s->rows, s->n)};
        item.kernel = text("k_finish_%s", epilogue_names[s->epilogue]);
        item.launch = sur_gpu_finish_launch(&f, s->epilogue);
        memcpy(item.parameters, &f, sizeof f);
        bench_run(&item);
        memory_release();
    }
    int64_t position = 5000;
    struct sur_gpu_attend a = {.n = 256, .n_heads = 32, .window = 750, .scale = 0.125f};
    a.ring = new_ring(64, 32, 8, true);
    a.position = memory_of("position", &position, sizeof position);
    a.partial = bench_floats("scores", (size_t)32 * 256 * 8 * SUR_GPU_KEYS);
    struct sur_gpu_unroll u = {.ring = a.ring};
    u.keys = bench_zeros("keys", ring_elements(&u.ring) * 4);
    u.values = bench_zeros("values", ring_elements(&u.ring) * 4);
    struct bench_item item = {
        .name = "keys and values, 1024 slots", .kernel = "k_unroll", .launch = sur_gpu_unroll_launch(&u)};
    memcpy(item.parameters, &u, sizeof u);
    bench_run(&item);
    item = (struct bench_item){
        .name = "weights of 1024 slots, n 256", .kernel = "k_softmax", .launch = sur_gpu_softmax_launch(&a)};
    memcpy(item.parameters, &a, sizeof a);
    bench_run(&item);
    memory_release();
}

/* ---- small ---- */

static void small_items(void)
{
    struct sur_gpu_request *request = memory_pinned(sizeof *request);
    *request = (struct sur_gpu_request){.first = 1000, .first_row = 250};
    struct sur_gpu_embed e = {
        .request = (sur_gpu_ptr)(uintptr_t)request, .dim = 3072, .pitch = 3072, .n = 1, .half = 64};
    e.rows = bench_floats("rows", (size_t)SUR_GPU_ROW_RING * 3072);
    e.embedding = bench_zeros("embedding", 3072 * 2);
    e.h = bench_zeros("h", 3072 * 4);
    e.position = bench_zeros("position", 8);
    e.rotation = bench_zeros("rotation", 128 * 4);
    e.inv = bench_floats("inv", 64);
    struct bench_item item = {.name = "start of a step", .kernel = "k_embed", .launch = {{1, 1, 1}, 256, 0}};
    memcpy(item.parameters, &e, sizeof e);
    bench_run(&item);

    struct sur_gpu_begin b = {.request = memory_of("request", request, sizeof *request), .n = 4, .half = 32};
    b.row_position = bench_zeros("row position", 8);
    b.position = e.position;
    b.rotation = bench_zeros("rotation", 4 * 64 * 4);
    b.inv = e.inv;
    item =
        (struct bench_item){.name = "start of an encoder's pass", .kernel = "k_begin", .launch = {{4, 1, 1}, 256, 0}};
    memcpy(item.parameters, &b, sizeof b);
    bench_run(&item);

    struct sur_gpu_carry c = {bench_zeros("mel", 10 * 128 * 4), bench_zeros("conv0", 9 * 1280 * 4), 128, 1280, 8, 0};
    item = (struct bench_item){.name = "end of the stem", .kernel = "k_carry", .launch = {{1, 1, 1}, 1024, 0}};
    memcpy(item.parameters, &c, sizeof c);
    bench_run(&item);
    memory_release();
}

void bench_items(void)
{
    skinny_items();
    attend_items();
    tiled_items();
    gemm_items();
    small_items();
}

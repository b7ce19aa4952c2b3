/* The split of activations, and the tiled product: against the reference, and to the bit between runs, tiles and
 * numbers of columns. */
#include <math.h>
#include <string.h>

#include "checks.h"
#include "product.h"
#include "reference.h"
#include "tiled.h"

static const char *tiled_name(enum sur_gpu_epilogue epilogue, int tile)
{
    return text("k_tiled_%s%s", epilogue_names[epilogue], sur_gpu_tile_at(tile).suffix);
}

/* ---- split ---- */

/* The outputs of k_split: halves and scale for the tiled product, fragments and squares for the skinny one. */
struct outputs {
    struct image halves, factors; /* factors: scale or squares; written only with a norm over all of k */
    bool skinny;
};

static void run_split(const struct product *t, const struct outputs *o, int first, int n)
{
    uint64_t f = (uint64_t)first, column = o->skinny ? SUR_GPU_FRAGMENT : (uint64_t)t->p.pitch;
    uint64_t groups = ((uint64_t)t->c.k + 7) / 8;
    struct sur_gpu_split s = {.k = t->c.k, .pitch = t->p.pitch, .n = n, .in = t->in};
    s.in.x += f * (uint64_t)(s.in.taps ? s.in.taps : 1) * (uint64_t)s.in.stride * sizeof(float);
    s.hi = o->halves.at + f * column * 2;
    if (!o->skinny) s.lo = s.hi + o->halves.n * 2;
    if (t->c.runs == 1 && o->skinny) s.squares = o->factors.at + f * groups * sizeof(float);
    if (t->c.runs == 1 && !o->skinny) s.scale = o->factors.at + f * sizeof(float);
    const struct sur_gpu_launch l = sur_gpu_split_launch(&s);
    kernel_launch(kernel_find("k_split"), &l, &s, false);
}

/* Splits `step` columns per launch, and keeps the results. */
static void keep_split(const struct product *t, struct outputs *o, int step, unsigned char *bytes)
{
    image_reset(&o->halves);
    image_reset(&o->factors);
    for (int i = 0; i < t->c.n; i += step) run_split(t, o, i, step);
    device_wait();
    image_read(&o->halves);
    image_read(&o->factors);
    memcpy(bytes, o->halves.found, o->halves.n_bytes);
    memcpy(bytes + o->halves.n_bytes, o->factors.found, o->factors.n_bytes);
}

/* Squares must be exact; the bound of scale is in product.c. */
static void want_factors(const struct product *t, struct image *m, bool skinny)
{
    if (t->c.runs != 1) return;
    for (size_t i = 0; i < m->n && skinny; i++) image_want(m, i, (double)t->squares_host[i], 0);
    for (size_t c = 0; c < m->n && !skinny; c++) {
        const float *x = t->x_host + c * (size_t)t->in.stride;
        double sum = 0;
        for (int i = 0; i < t->c.k; i++) sum += (double)x[i] * (double)x[i];
        double scale = 1 / sqrt(sum / t->c.k + (double)t->in.eps);
        image_want(m, c, scale, scale * product_scale_share(t->c.k));
    }
}

/* Exactly the halves of the input, times the norm's weights if there is one; of runs, which are normed before, within
 * the norm's bound (product.c), two products and the split's 2^-17. */
static const char *compare_split(const struct product *t, struct image *m, double *worst)
{
    double share = t->c.runs > 1 ? product_scale_share(t->in.norm_k) + 2 * 0x1p-24 : 0;
    const char *reason = NULL;
    for (size_t i = 0; i < (size_t)t->c.n * (size_t)t->p.pitch && !reason; i++) {
        bool pad = i % (size_t)t->p.pitch >= (size_t)t->c.k;
        if (pad || t->c.runs <= 1) reason = image_compare_split(m, i, t->split[i]);
        double x = t->c.runs > 1 ? t->x[i] : (double)t->split[i];
        image_want(m, i, x, fabs(x) * (share + 0x1p-17) + 0x1p-126);
    }
    return reason ? reason : image_compare(m, worst);
}

static const char *check_form(struct product *t, bool skinny, double *worst)
{
    static const char *const whats[] = {"a second run", "one column at a time"};
    const struct product_case *c = &t->c;
    size_t n = (size_t)c->n, n_factors = c->runs != 1 ? 1 : skinny ? n * (((size_t)c->k + 7) / 8) : n;
    struct outputs o = {.skinny = skinny};
    image_init(&o.halves, "hi, lo", skinny ? IMAGE_FRAGMENTS : IMAGE_SPLIT,
               (skinny ? SUR_GPU_SKINNY_COLUMNS : n) * (size_t)t->p.pitch);
    image_init(&o.factors, skinny ? "squares" : "scale", IMAGE_F32, n_factors);
    want_factors(t, &o.factors, skinny);
    size_t n_bytes = o.halves.n_bytes + o.factors.n_bytes;
    unsigned char *kept = host_new(n_bytes, 1), *bytes = host_new(n_bytes, 1);
    keep_split(t, &o, c->n, kept);
    const char *reason = compare_split(t, &o.halves, worst);
    if (!reason) reason = image_compare(&o.factors, worst);
    for (int i = 0; i < 2 && !reason; i++) {
        keep_split(t, &o, i ? 1 : c->n, bytes);
        if (memcmp(kept, bytes, n_bytes)) reason = text("%s differs", whats[i]);
    }
    return reason;
}

static void check_split_case(const struct product_case *c)
{
    for (int skinny = 0; skinny <= (c->n <= SUR_GPU_SKINNY_COLUMNS); skinny++) {
        char shape[240];
        strcpy(shape,
               text("k %d n %d %s%s%s%s", c->k, c->n, data_names[c->data], c->runs ? text(" norm/%d", c->runs) : "",
                    c->taps ? text(" taps %d", c->taps) : "", skinny ? " fragments" : ""));
        if (!report_wanted("k_split", shape) || !kernel_find("k_split")) continue;
        struct product t;
        double worst = 0;
        product_init(&t, c);
        const char *reason = check_form(&t, skinny, &worst);
        report_last("k_split", shape, worst, reason);
    }
}

void check_split(int unused)
{
    static const int shapes[][2] = {{3072, 64}, {1280, 256}, {5120, 9}, {2048, 16}, {9216, 39}, {4096, 39}, {40, 10},
                                    {84, 9},    {100, 33},   {252, 12}, {150, 9},   {1, 9},     {65536, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct product_case c = {.rows = 1, .k = shapes[i][0], .n = shapes[i][1]};
        check_split_case(&c);
        c.runs = 1;
        check_split_case(&c);
    }
    for (int data = DATA_INTEGER; data < DATA_KINDS; data++)
        check_split_case(
            &(struct product_case){.rows = 1, .k = 1280, .n = 10, .data = (enum data)data, .runs = data % 2});
    check_split_case(&(struct product_case){.rows = 1, .k = 384, .n = 512, .taps = 1});
    check_split_case(&(struct product_case){.rows = 1, .k = 3840, .n = 256, .taps = 2});
    check_split_case(&(struct product_case){.rows = 1, .k = 252, .n = 9, .taps = 2});
    check_split_case(&(struct product_case){.rows = 1, .k = 5120, .n = 64, .runs = 4});
    check_split_case(&(struct product_case){.rows = 1, .k = 336, .n = 13, .runs = 4});
    check_split_case(&(struct product_case){.rows = 1, .k = 1280, .n = 3, .runs = 4});
    check_split_case(&(struct product_case){.rows = 1, .k = 96, .n = 10, .runs = 4});
    check_split_case(&(struct product_case){.rows = 1, .k = 8192, .n = 8, .runs = 2});
}

/* ---- tiled ---- */

static void run_tiled(const struct product *t, int tile, int first, int n)
{
    struct sur_gpu_product p = product_columns(t, first, n, false);
    struct sur_gpu_tile w = sur_gpu_tile_at(tile);
    struct sur_gpu_launch l = {.threads = (unsigned)w.threads, .shared_bytes = w.shared_bytes};
    sur_gpu_tile_grid(&p, tile, l.grid);
    l.grid[2] = 1;
    kernel_launch(kernel_find(tiled_name(t->c.epilogue, tile)), &l, &p, false);
}

static void keep_tiled(struct product *t, int tile, int step, unsigned char *bytes)
{
    product_reset(t);
    for (int first = 0; first < t->c.n; first += step)
        run_tiled(t, tile, first, t->c.n - first < step ? t->c.n - first : step);
    product_read(t);
    product_keep(t, bytes);
}

static const char *check_tile(struct product *t, int tile, unsigned char *kept, unsigned char *bytes, bool kept_before,
                              double *worst)
{
    static const char *const whats[] = {"a second run", "a third run", "37 columns at a time"};
    size_t n_bytes = product_bytes(t);
    keep_tiled(t, tile, t->c.n, bytes);
    const char *reason = product_compare(t, worst);
    if (!reason && kept_before && memcmp(kept, bytes, n_bytes)) reason = "differs from the tile before";
    if (reason) return reason;
    memcpy(kept, bytes, n_bytes);
    for (int i = 0; i < 3 && !reason; i++) {
        keep_tiled(t, tile, i == 2 ? 37 : t->c.n, bytes);
        if (memcmp(kept, bytes, n_bytes)) reason = text("%s differs", whats[i]);
    }
    return reason;
}

static void check_case(const struct product_case *c)
{
    const struct product_case full = product_complete(c);
    char shape[240];
    strcpy(shape, product_shape(&full));
    bool wanted[SUR_GPU_N_TILES], any = false, before = false;
    for (int i = 0; i < SUR_GPU_N_TILES; i++) {
        wanted[i] = report_wanted(tiled_name(c->epilogue, i), shape) && kernel_find(tiled_name(c->epilogue, i)) &&
                    (int)sur_gpu_tile_at(i).shared_bytes <= device.max_shared;
        any |= wanted[i];
    }
    if (!any || !report_small((double)full.rows * full.k * full.n)) return;
    struct product t;
    product_init(&t, c);
    unsigned char *kept = host_new(product_bytes(&t), 1), *bytes = host_new(product_bytes(&t), 1);
    for (int i = 0; i < SUR_GPU_N_TILES; i++) {
        if (!wanted[i]) continue;
        double worst = 0;
        const char *reason = check_tile(&t, i, kept, bytes, before, &worst), *damaged = memory_damaged();
        if (!reason && damaged) reason = text("wrote outside %s", damaged);
        before |= !reason;
        report(tiled_name(c->epilogue, i), shape, worst, reason);
        if (damaged) break;
    }
    memory_release();
    host_release();
}

static void check_qkv(void)
{
    static const struct product_case cases[] = {
        {.k = 1280,
         .n = 256,
         .head_dim = 64,
         .n_heads = 8,
         .n_kv_heads = 8,
         .first = 524288 + 100,
         .runs = 1,
         .bias = true},
        {.k = 3072, .n = 39, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 0, .runs = 1},
        {.k = 84, .n = 60, .head_dim = 40, .n_heads = 3, .n_kv_heads = 3, .first = 380, .runs = 1, .bias = true},
        {.k = 100, .n = 47, .head_dim = 20, .n_heads = 6, .n_kv_heads = 3, .first = 0, .runs = 1, .fp32 = true},
        {.k = 128, .n = 130, .head_dim = 36, .n_heads = 4, .n_kv_heads = 4, .first = 250, .fp32 = true, .bias = true},
        {.k = 192, .n = 64, .head_dim = 16, .n_heads = 4, .n_kv_heads = 1, .first = 1000, .data = DATA_LARGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product_case c = cases[i];
        c.epilogue = SUR_GPU_QKV;
        check_case(&c);
    }
}

static void check_special(void)
{
    static const struct product_case cases[] = {
        {.epilogue = SUR_GPU_GELU, .rows = 320, .k = 384, .n = 512, .taps = 1, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 320, .k = 3840, .n = 256, .taps = 2, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 84, .k = 252, .n = 33, .taps = 2, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 768, .k = 5120, .n = 64, .runs = 4},
        {.epilogue = SUR_GPU_GELU, .rows = 100, .k = 336, .n = 20, .runs = 4, .split_out = true},
        {.epilogue = SUR_GPU_SWIGLU, .rows = 1280, .k = 1280, .n = 256, .runs = 1, .split_out = true},
        {.epilogue = SUR_GPU_SWIGLU, .rows = 150, .k = 84, .n = 10, .runs = 1, .split_out = true},
        {.epilogue = SUR_GPU_ROWS, .rows = 150, .k = 84, .n = 8, .split_out = true, .fragments = true},
        {.epilogue = SUR_GPU_GELU, .rows = 85, .k = 252, .n = 7, .runs = 1, .split_out = true, .fragments = true},
        {.epilogue = SUR_GPU_ROWS, .rows = 768, .k = 3072, .n = 64, .first = ((int64_t)1 << 33) + 230},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i]);
}

static void check_shapes(enum sur_gpu_epilogue epilogue)
{
    static const int shapes[][3] = {
        {1280, 2048, 512}, {1280, 2048, 256}, {640, 5120, 64}, {768, 3072, 39}, {768, 9216, 38},
        {2048, 1280, 100}, {1000, 100, 9},    {7, 40, 10},     {84, 84, 65},    {85, 252, 129},
        {191, 150, 63},    {1, 300, 200},     {330, 257, 12},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct product_case c = {.epilogue = epilogue, .rows = shapes[i][0], .k = shapes[i][1], .n = shapes[i][2]};
        if (epilogue == SUR_GPU_ROWS && c.n > SUR_GPU_ROW_RING) continue;
        c.bias = i % 2 && epilogue != SUR_GPU_SWIGLU;
        c.first = 250 + (int64_t)i;
        check_case(&c);
        c.data = DATA_INTEGER;
        check_case(&c);
        c.data = DATA_RANDOM;
        c.runs = 1;
        check_case(&c);
    }
    for (int data = DATA_ZERO; data < DATA_KINDS; data++)
        check_case(&(struct product_case){
            .epilogue = epilogue, .rows = 200, .k = 1280, .n = 21, .data = (enum data)data, .runs = data % 2});
}

/* -1: cases of the stem and the adapter. */
void check_tiled(int epilogue)
{
    if (epilogue < 0)
        check_special();
    else if (epilogue == SUR_GPU_QKV)
        check_qkv();
    else
        check_shapes((enum sur_gpu_epilogue)epilogue);
}

void check_tiled_names(int unused)
{
    checks_need("k_split");
    for (int e = 0; e < SUR_GPU_HEAD; e++)
        for (int i = 0; i < SUR_GPU_N_TILES; i++) checks_need(tiled_name((enum sur_gpu_epilogue)e, i));
}

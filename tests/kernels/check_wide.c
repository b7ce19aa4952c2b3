/* The split of activations, and the wide product: against the reference, and to the bit between runs, tiles, numbers
 * of columns, and the narrow product. */
#include <math.h>
#include <string.h>

#include "checks.h"
#include "product.h"
#include "reference.h"
#include "wide.h"

static const char *wide_name(enum sur_gpu_epilogue epilogue, int tile)
{
    return text("k_wide_%s%s", epilogue_names[epilogue], sur_gpu_wide_tile_at(tile).suffix);
}

struct halves {
    sur_gpu_ptr hi, lo;
};

/* Splits columns first .. first + n - 1 into their places of h [c.n][pitch]. */
static void run_split(const struct product *t, struct halves h, int first, int n)
{
    struct sur_gpu_product p = product_columns(t, first, n);
    uint64_t offset = (uint64_t)first * (uint64_t)p.pitch * 2;
    struct sur_gpu_split s = {.hi = h.hi + offset, .lo = h.lo + offset, .k = p.k, .pitch = p.pitch, .n = n, .in = p.in};
    struct sur_gpu_launch l = {{(unsigned)n, 1, 1}, 256, 0};
    kernel_launch(kernel_find("k_split"), &l, &s, false);
}

/* ---- split ---- */

/* Without a norm the halves are exactly the input's; with one, the norm's bound (product.c) and the split's 2^-17. */
static const char *compare_split(const struct product *t, struct image *m, double *worst)
{
    const struct product_case *c = &t->c;
    size_t pitch = (size_t)t->p.pitch;
    double share = c->runs ? ((c->k / c->runs / 256 + 13) / 2.0 + 4) * 0x1p-24 + 0x1p-17 : 0;
    const uint16_t *half = (const void *)m->found;
    for (size_t i = 0; i < m->n; i++) {
        float x = (float)t->x[i], hi = from_bf16(half[i]), lo = from_bf16(half[m->n + i]);
        float want_hi = from_bf16(to_bf16(x)), want_lo = from_bf16(to_bf16(x - want_hi));
        bool pad = i % pitch >= (size_t)c->k;
        if ((pad || !c->runs) && (hi != want_hi || lo != want_lo))
            return text("element %zu is %g + %g, not %g + %g", i, (double)hi, (double)lo, (double)want_hi,
                        (double)want_lo);
        image_want(m, i, t->x[i], fabs(t->x[i]) * (share > 0 ? share : 0x1p-17) + 0x1p-126);
    }
    return image_compare(m, worst);
}

static void check_split_case(const struct product_case *c)
{
    const char *shape = text("k %d n %d %s%s%s", c->k, c->n, data_names[c->data],
                             c->runs ? text(" norm/%d", c->runs) : "", c->taps ? text(" taps %d", c->taps) : "");
    char kept_shape[240];
    strcpy(kept_shape, shape);
    if (!report_wanted("k_split", shape) || !kernel_find("k_split")) return;
    struct product t;
    struct image m;
    double worst = 0;
    product_init(&t, c);
    size_t n = (size_t)c->n * (size_t)t.p.pitch;
    image_init(&m, "hi, lo", IMAGE_SPLIT, n);
    struct halves h = {m.at, m.at + n * 2};
    unsigned char *kept = host_new(m.n_bytes, 1);
    run_split(&t, h, 0, c->n);
    device_wait();
    image_read(&m);
    const char *reason = compare_split(&t, &m, &worst);
    memcpy(kept, m.found, m.n_bytes);
    for (int run = 0; run < 2 && !reason; run++) { /* at once; column by column */
        image_reset(&m);
        for (int i = 0; i < c->n; i += run ? 1 : c->n) run_split(&t, h, i, run ? 1 : c->n);
        device_wait();
        image_read(&m);
        if (memcmp(kept, m.found, m.n_bytes)) reason = run ? "one column at a time differs" : "a second run differs";
    }
    report_last("k_split", kept_shape, worst, reason);
}

void check_split(int unused)
{
    static const int shapes[][2] = {{3072, 64}, {1280, 256}, {5120, 9}, {2048, 16}, {9216, 39}, {4096, 39},
                                    {40, 10},   {84, 9},     {100, 33}, {252, 12},  {150, 9},   {1, 9}};
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
}

/* ---- wide ---- */

static void run_wide(const struct product *t, struct halves h, int tile, int first, int n)
{
    struct sur_gpu_product p = product_columns(t, first, n);
    struct sur_gpu_wide_tile w = sur_gpu_wide_tile_at(tile);
    struct sur_gpu_launch l = {.threads = (unsigned)w.threads, .shared_bytes = w.shared_bytes};
    uint64_t offset = (uint64_t)first * (uint64_t)p.pitch * 2;
    p.hi = h.hi + offset;
    p.lo = h.lo + offset;
    sur_gpu_wide_grid(&p, tile, l.grid);
    l.grid[2] = 1;
    kernel_launch(kernel_find(wide_name(t->c.epilogue, tile)), &l, &p, false);
}

static void keep_wide(struct product *t, struct halves h, int tile, int step, unsigned char *bytes)
{
    product_reset(t);
    for (int first = 0; first < t->c.n; first += step)
        run_wide(t, h, tile, first, t->c.n - first < step ? t->c.n - first : step);
    product_read(t);
    product_keep(t, bytes);
}

static const char *against_narrow(struct product *t, const unsigned char *kept, unsigned char *bytes)
{
    if (!kernel_find(narrow_name(t->c.epilogue, 8))) return NULL; /* its own failure */
    const char *reason = NULL;
    product_reset(t);
    for (int first = 0; first < t->c.n && !reason; first += SUR_GPU_NARROW) {
        int n = t->c.n - first < SUR_GPU_NARROW ? t->c.n - first : SUR_GPU_NARROW;
        reason = narrow_run(t, device.multiprocessors, first, n, false);
    }
    if (reason) return reason;
    product_read(t);
    product_keep(t, bytes);
    return memcmp(kept, bytes, product_bytes(t)) ? "the narrow product differs" : NULL;
}

static const char *check_tile(struct product *t, struct halves h, int tile, unsigned char *kept, unsigned char *bytes,
                              bool kept_before, double *worst)
{
    static const char *const whats[] = {"a second run", "a third run", "37 columns at a time"};
    size_t n_bytes = product_bytes(t);
    keep_wide(t, h, tile, t->c.n, bytes);
    const char *reason = product_compare(t, worst);
    if (!reason && kept_before && memcmp(kept, bytes, n_bytes)) reason = "differs from the tile before";
    if (reason) return reason;
    memcpy(kept, bytes, n_bytes);
    for (int i = 0; i < 3 && !reason; i++) {
        keep_wide(t, h, tile, i == 2 ? 37 : t->c.n, bytes);
        if (memcmp(kept, bytes, n_bytes)) reason = text("%s differs", whats[i]);
    }
    return reason ? reason : against_narrow(t, kept, bytes);
}

static void check_case(const struct product_case *c)
{
    struct product_case full = product_supported(c);
    if (c->epilogue == SUR_GPU_QKV) full.rows = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    char shape[240];
    strcpy(shape, product_shape(&full));
    bool wanted[SUR_GPU_N_WIDE], any = false, before = false;
    for (int i = 0; i < SUR_GPU_N_WIDE; i++) {
        wanted[i] = report_wanted(wide_name(c->epilogue, i), shape) && kernel_find(wide_name(c->epilogue, i)) &&
                    (int)sur_gpu_wide_tile_at(i).shared_bytes <= device.max_shared;
        any |= wanted[i];
    }
    if (!any || !kernel_find("k_split") || !report_small((double)full.rows * full.k * full.n)) return;
    struct product t;
    product_init(&t, c);
    size_t n = (size_t)c->n * (size_t)t.p.pitch * 2;
    struct halves h = {memory_new("hi", n), memory_new("lo", n)};
    unsigned char *kept = host_new(product_bytes(&t), 1), *bytes = host_new(product_bytes(&t), 1);
    run_split(&t, h, 0, c->n);
    for (int i = 0; i < SUR_GPU_N_WIDE; i++) {
        if (!wanted[i]) continue;
        double worst = 0;
        const char *reason = check_tile(&t, h, i, kept, bytes, before, &worst), *damaged = memory_damaged();
        if (!reason && damaged) reason = text("wrote beside %s", damaged);
        before |= !reason;
        report(wide_name(c->epilogue, i), shape, worst, reason);
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
        {.epilogue = SUR_GPU_SWIGLU, .rows = 150, .k = 84, .n = 10, .split_out = true},
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
    }
    for (int data = DATA_ZERO; data < DATA_KINDS; data++)
        check_case(&(struct product_case){
            .epilogue = epilogue, .rows = 200, .k = 1280, .n = 21, .data = (enum data)data, .runs = data % 2});
}

/* -1: what the stem and the adapter ask for beside the common shapes. */
void check_wide(int epilogue)
{
    if (epilogue < 0)
        check_special();
    else if (epilogue == SUR_GPU_QKV)
        check_qkv();
    else
        check_shapes((enum sur_gpu_epilogue)epilogue);
}

void check_wide_names(int unused)
{
    checks_need("k_split");
    for (int e = 0; e < SUR_GPU_HEAD; e++)
        for (int i = 0; i < SUR_GPU_N_WIDE; i++) checks_need(wide_name((enum sur_gpu_epilogue)e, i));
}

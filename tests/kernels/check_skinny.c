/* The skinny product: against the reference, and to the bit between runs, columns and grids. */
#include <string.h>

#include "checks.h"
#include "product.h"
#include "reference.h"
#include "skinny.h"

static const char *skinny_name(enum sur_gpu_epilogue epilogue)
{
    return text("k_skinny_%s", epilogue_names[epilogue]);
}

struct variant {
    const char *what;
    int multiprocessors, step; /* step: columns per launch */
    int shared_kib;            /* limit per thread block; 0: the device's */
};

/* Launches the product p. Returns NULL, or why it is impossible. */
static const char *launch(const struct product *t, struct sur_gpu_product *p, const struct variant *v)
{
    struct sur_gpu_launch l;
    if (!sur_gpu_skinny_plan(p, v->multiprocessors, v->shared_kib ? v->shared_kib << 10 : device.max_shared, &l))
        return "not even a tile's sums fit into shared memory";
    kernel_launch(kernel_find(skinny_name(t->c.epilogue)), &l, p, false);
    return NULL;
}

/* Runs all columns, v->step per launch, and keeps the result in bytes. */
static const char *run(struct product *t, const struct variant *v, unsigned char *bytes)
{
    product_reset(t);
    const char *reason = NULL;
    for (int first = 0; first < t->c.n && !reason; first += v->step) {
        struct sur_gpu_product p = product_columns(t, first, t->c.n - first < v->step ? t->c.n - first : v->step, true);
        reason = launch(t, &p, v);
    }
    if (reason) return reason;
    product_read(t);
    product_keep(t, bytes);
    return NULL;
}

/* Checks what is split for the next norm: the y that was found times the norm's weights, and the squares of y. */
static const char *compare_next(struct product *t, const struct variant *v)
{
    const int rows = t->c.rows, pitch = t->p.out.pitch, groups = (rows + 7) / 8;
    struct image split, squares;
    float *norm = host_new((size_t)rows, sizeof *norm), *want = host_new((size_t)groups, sizeof *want);
    data_fill(norm, (size_t)rows, DATA_RANDOM);
    image_init(&split, "next fragments", IMAGE_FRAGMENTS, SUR_GPU_SKINNY_COLUMNS * (size_t)pitch);
    image_init(&squares, "next squares", IMAGE_F32, (size_t)t->c.n * (size_t)groups);
    image_reset(&split);
    image_reset(&squares);
    product_reset(t);
    struct sur_gpu_product p = product_columns(t, 0, t->c.n, true);
    p.out.hi = split.at;
    p.out.lo = 0;
    p.out.norm = memory_of("next norm", norm, (size_t)rows * sizeof *norm);
    p.out.squares = squares.at;
    const char *reason = launch(t, &p, v);
    if (reason) return reason;
    product_read(t);
    image_read(&split);
    image_read(&squares);
    for (int c = 0; c < t->c.n && !reason; c++) {
        const float *y = (const void *)(t->images[0].found + (size_t)c * (size_t)t->p.out.stride * sizeof *y);
        ref_squares(want, y, rows);
        for (int i = 0; i < groups; i++) image_want(&squares, (size_t)(c * groups + i), (double)want[i], 0);
        for (int r = 0; r < rows && !reason; r++)
            reason = image_compare_split(&split, (size_t)(c * pitch + r), y[r] * norm[r]);
    }
    double worst = 0;
    return reason ? reason : image_compare(&squares, &worst);
}

static const char *compare_variants(struct product *t, double *worst)
{
    int all = device.multiprocessors, n = t->c.n;
    bool small = (int64_t)t->c.rows * t->c.k < 4 << 20;
    const struct variant variants[] = {
        {"", all, n, 0},
        {"a second run", all, n, 0},
        {"a third run", all, n, 0},
        {"one column at a time", all, 1, 0},
        {"three columns at a time", all, 3, 0},
        {"a grid of 60", 60, n, 0},
        {"a grid of 7", 7, n, 0},
        {small ? "a grid of 1" : "a grid of 13", small ? 1 : 13, n, 0},
        {"half the shared memory", all, n, 112},
        {"a small card's shared memory", 7, n, 99},
    };
    size_t n_bytes = product_bytes(t);
    unsigned char *kept = host_new(n_bytes, 1), *bytes = host_new(n_bytes, 1);
    const char *reason = run(t, &variants[0], kept);
    if (!reason) reason = product_compare(t, worst);
    for (size_t i = 1; i < sizeof variants / sizeof *variants && !reason; i++) {
        reason = run(t, &variants[i], bytes);
        if (!reason && memcmp(kept, bytes, n_bytes)) reason = text("%s differs", variants[i].what);
    }
    bool next = t->c.epilogue == SUR_GPU_ADD || t->c.epilogue == SUR_GPU_GELU;
    if (!reason && next && !t->c.split_out) reason = compare_next(t, &variants[0]);
    return reason;
}

static void check_case(const struct product_case *c)
{
    struct product_case full = product_complete(c);
    char shape[240];
    strcpy(shape, product_shape(&full));
    if (!report_wanted(skinny_name(c->epilogue), shape) || !kernel_find(skinny_name(c->epilogue))) return;
    if (!report_small((double)full.rows * full.k * 8)) return;
    struct product t;
    double worst = 0;
    product_init(&t, c);
    const char *reason = compare_variants(&t, &worst);
    report_last(skinny_name(c->epilogue), shape, worst, reason);
}

/* Shapes and data that every epilogue is tried with. */
static void check_shapes(enum sur_gpu_epilogue epilogue)
{
    static const int shapes[][3] = {
        /* like the model's */
        {768, 3072, 1},
        {640, 1280, 4},
        {768, 3072, 8},
        {256, 9216, 1},
        {256, 9216, 8},
        {640, 5120, 4},
        {384, 4096, 8},
        {1280, 2048, 4},
        {6144, 3072, 2},
        /* odd */
        {7, 40, 1},
        {84, 84, 3},
        {1000, 100, 8},
        {84, 252, 5},
        {7, 150, 2},
        {1000, 40, 6},
        {1, 512, 7},
        {17, 257, 4},
        {130, 212, 8},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct product_case c = {.epilogue = epilogue, .rows = shapes[i][0], .k = shapes[i][1], .n = shapes[i][2]};
        c.bias = i % 2 && epilogue != SUR_GPU_SWIGLU && epilogue != SUR_GPU_HEAD;
        c.first = 250 + (int64_t)i;
        check_case(&c);
        c.data = DATA_INTEGER;
        check_case(&c);
        c.data = DATA_RANDOM;
        c.runs = 1;
        check_case(&c);
    }
    for (int data = DATA_ZERO; data < DATA_KINDS; data++) {
        struct product_case c = {.epilogue = epilogue, .rows = 200, .k = 1280, .n = 3, .data = (enum data)data};
        check_case(&c);
        c.runs = 1;
        c.bias = epilogue != SUR_GPU_SWIGLU && epilogue != SUR_GPU_HEAD;
        check_case(&c);
    }
}

static void check_qkv(void)
{
    static const struct product_case cases[] = {
        {.k = 3072, .n = 1, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 131072 + 383, .runs = 1},
        {.k = 3072, .n = 8, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 380, .runs = 1},
        {.k = 1280, .n = 4, .head_dim = 64, .n_heads = 8, .n_kv_heads = 8, .first = 524288, .runs = 1, .bias = true},
        {.k = 1280, .n = 8, .head_dim = 64, .n_heads = 4, .n_kv_heads = 4, .first = 1020, .fp32 = true},
        {.k = 84, .n = 5, .head_dim = 40, .n_heads = 3, .n_kv_heads = 3, .first = 126, .runs = 1, .bias = true},
        {.k = 100, .n = 8, .head_dim = 20, .n_heads = 6, .n_kv_heads = 3, .first = 0, .runs = 1},
        {.k = 40, .n = 3, .head_dim = 16, .n_heads = 4, .n_kv_heads = 1, .first = 767, .bias = true},
        {.k = 252, .n = 2, .head_dim = 160, .n_heads = 2, .n_kv_heads = 1, .first = 254, .fp32 = true},
        {.k = 128, .n = 7, .head_dim = 36, .n_heads = 4, .n_kv_heads = 4, .first = 120, .fp32 = true, .bias = true},
        {.k = 192, .n = 8, .head_dim = 32, .n_heads = 8, .n_kv_heads = 2, .first = 1000, .data = DATA_LARGE},
        {.k = 192, .n = 4, .head_dim = 32, .n_heads = 8, .n_kv_heads = 2, .first = 1000, .data = DATA_ZERO, .runs = 1},
        {.k = 192, .n = 4, .head_dim = 2, .n_heads = 8, .n_kv_heads = 2, .first = 1000, .data = DATA_DENORMAL},
        {.k = 640, .n = 4, .head_dim = 64, .n_heads = 2, .n_kv_heads = 2, .first = 130, .data = DATA_SPIKE, .runs = 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product_case c = cases[i];
        c.epilogue = SUR_GPU_QKV;
        check_case(&c);
    }
}

/* Cases of the stem, the adapter and the head. */
static void check_special(void)
{
    static const struct product_case cases[] = {
        {.epilogue = SUR_GPU_GELU, .rows = 320, .k = 384, .n = 8, .taps = 1, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 320, .k = 3840, .n = 4, .taps = 2, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 84, .k = 240, .n = 8, .taps = 1, .bias = true},
        {.epilogue = SUR_GPU_GELU, .rows = 84, .k = 252, .n = 3, .taps = 2, .bias = true},
        {.epilogue = SUR_GPU_ROWS, .rows = 84, .k = 252, .n = 4, .taps = 2, .data = DATA_INTEGER},
        {.epilogue = SUR_GPU_GELU, .rows = 768, .k = 5120, .n = 1, .runs = 4},
        {.epilogue = SUR_GPU_GELU, .rows = 768, .k = 5120, .n = 8, .runs = 4},
        {.epilogue = SUR_GPU_GELU, .rows = 100, .k = 336, .n = 8, .runs = 4},
        {.epilogue = SUR_GPU_ROWS, .rows = 64, .k = 600, .n = 8, .runs = 4, .data = DATA_SPIKE},
        {.epilogue = SUR_GPU_GELU, .rows = 640, .k = 1280, .n = 4, .split_out = true},
        {.epilogue = SUR_GPU_GELU, .rows = 640, .k = 1280, .n = 4, .split_out = true, .fragments = true},
        {.epilogue = SUR_GPU_SWIGLU, .rows = 84, .k = 252, .n = 4, .split_out = true},
        {.epilogue = SUR_GPU_SWIGLU, .rows = 84, .k = 252, .n = 4, .split_out = true, .fragments = true, .runs = 1},
        {.epilogue = SUR_GPU_ROWS, .rows = 100, .k = 84, .n = 3, .split_out = true},
        {.epilogue = SUR_GPU_HEAD, .rows = 16384, .k = 512, .n = 8, .runs = 1},
        {.epilogue = SUR_GPU_HEAD, .rows = 16384, .k = 512, .n = 1, .runs = 1}, /* n odd: ties */
        {.epilogue = SUR_GPU_HEAD, .rows = 1301, .k = 100, .n = 5},
        {.epilogue = SUR_GPU_HEAD, .rows = 3, .k = 100, .n = 2},
        {.epilogue = SUR_GPU_ROWS, .rows = 768, .k = 3072, .n = 8, .first = ((int64_t)1 << 33) + 252},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i]);
}

/* -1: cases of the stem, the adapter and the head. */
void check_skinny(int epilogue)
{
    if (epilogue < 0)
        check_special();
    else if (epilogue == SUR_GPU_QKV)
        check_qkv();
    else
        check_shapes((enum sur_gpu_epilogue)epilogue);
}

void check_skinny_names(int unused)
{
    for (int e = 0; e < SUR_GPU_N_EPILOGUES; e++) checks_need(skinny_name((enum sur_gpu_epilogue)e));
}

/* Attention that begins while the product before it still writes the newest keys and values: the bits of attention that
 * begins after it. The product has few thread blocks, so that it runs long and attention finds the rest of the device
 * free. Before it, the slots that it writes hold what would give other bits. */
#include <string.h>

#include "checks.h"
#include "product.h"
#include "reference.h"
#include "skinny.h"

enum { PRODUCT_BLOCKS = 5, RUNS = 5 };

struct overlap {
    struct product product;
    struct sur_gpu_attend p;
    const char *kernel;
    struct image out;
    uint16_t *k, *v; /* contents of the rings before */
    size_t ring_bytes;
};

static void overlap_init(struct overlap *t, const struct product_case *c)
{
    *t = (struct overlap){.kernel = c->head_dim <= 64 ? "k_attend_64" : "k_attend_128"};
    product_init(&t->product, c);
    struct sur_gpu_output *o = &t->product.p.out;
    const size_t elements = ref_ring_size(&o->ring), width = (size_t)(c->n_heads * c->head_dim);
    o->stride = c->n_heads * c->head_dim; /* attention's stride; there is room for more */
    t->ring_bytes = elements * sizeof *t->k;
    t->k = host_new(elements, sizeof *t->k);
    t->v = host_new(elements, sizeof *t->v);
    for (size_t i = 0; i < elements; i++) {
        t->k[i] = to_fp16(random_normal());
        t->v[i] = to_fp16(random_normal());
    }
    image_init(&t->out, "out", IMAGE_F32, (size_t)c->n * width);
    t->p = (struct sur_gpu_attend){.q = o->y, .out = t->out.at, .position = o->position, .ring = o->ring};
    t->p.n = c->n;
    t->p.n_heads = c->n_heads;
    t->p.window = 2 * SUR_GPU_KEYS - c->n; /* the ring has three blocks */
    t->p.max_blocks = 3;
    t->p.scale = 0.125f;
    const size_t groups = (size_t)c->n_kv_heads * (size_t)(c->n * c->n_heads / c->n_kv_heads + 7) / 8;
    t->p.partial = memory_new("partial", groups * 3 * SUR_GPU_ATTEND_ROWS * SUR_GPU_PARTIAL((size_t)o->ring.dp) * 4);
    t->p.counters = memory_of("counters", host_new(groups, 4), groups * 4);
}

/* Leaves attention's result in out.found. */
static const char *run(struct overlap *t, bool product, bool overlap)
{
    struct sur_gpu_product p = product_columns(&t->product, 0, t->p.n, true);
    struct sur_gpu_launch l;
    memory_put(t->p.ring.k, t->k, t->ring_bytes);
    memory_put(t->p.ring.v, t->v, t->ring_bytes);
    image_reset(&t->out);
    if (!sur_gpu_skinny_plan(&p, PRODUCT_BLOCKS, device.max_shared, &l)) return "no plan for the product";
    if (product) kernel_launch(kernel_find("k_skinny_qkv"), &l, &p, false);
    if (!overlap) device_wait();
    l = sur_gpu_attend_launch(&t->p, device.multiprocessors);
    kernel_launch(kernel_find(t->kernel), &l, &t->p, overlap);
    device_wait();
    image_read(&t->out);
    return NULL;
}

static const char *compare(struct overlap *t)
{
    unsigned char *after = host_new(t->out.n_bytes, 1);
    const char *reason = run(t, true, false);
    memcpy(after, t->out.found, t->out.n_bytes);
    if (!reason) reason = run(t, false, false);
    if (!reason && !memcmp(after, t->out.found, t->out.n_bytes)) reason = "what the product writes makes no difference";
    for (int i = 0; i < RUNS && !reason; i++) {
        reason = run(t, true, true);
        if (!reason && memcmp(after, t->out.found, t->out.n_bytes)) reason = "an early start gives other bits";
    }
    return reason;
}

void check_overlap(int unused)
{
    (void)unused;
    static const struct product_case cases[] = {
        {.k = 9216, .n = 1, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 300, .runs = 1},
        {.k = 9216, .n = 8, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 380, .runs = 1}, /* two blocks */
        {.k = 9216, .n = 1, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 30, .runs = 1},  /* the only one */
        {.k = 5120, .n = 4, .head_dim = 64, .n_heads = 8, .n_kv_heads = 8, .first = 524288, .runs = 1, .bias = true},
        {.k = 5120, .n = 4, .head_dim = 64, .n_heads = 8, .n_kv_heads = 8, .first = 1278, .runs = 1, .bias = true},
        {.k = 84, .n = 5, .head_dim = 40, .n_heads = 3, .n_kv_heads = 3, .first = 1026, .runs = 1, .bias = true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct product_case c = cases[i];
        c.epilogue = SUR_GPU_QKV;
        c = product_complete(&c);
        struct overlap t;
        char shape[240];
        strcpy(shape, text("behind k_skinny_qkv %s", product_shape(&c)));
        const char *kernel = c.head_dim <= 64 ? "k_attend_64" : "k_attend_128";
        if (!report_wanted(kernel, shape) || !kernel_find(kernel) || !kernel_find("k_skinny_qkv")) continue;
        if (!report_small((double)c.rows * c.k * 8)) continue;
        random_seed(71 + i);
        overlap_init(&t, &c);
        report_last(kernel, shape, -1, compare(&t));
    }
}

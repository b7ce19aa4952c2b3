/* The kernels around products of NVIDIA's libraries: k_finish_*, k_unroll, k_softmax.
 * Outputs are held to the products' bounds (product.c), which sums rounded once from fp64 keep easily.
 *
 * Bound of a weight. The difference to the largest score and its product with scale and log2 e round three times, so an
 * exponent is off by at most its size times 2^-22, a weight by as large a share and 2^-22 for exp2. The sum adds slots
 * / 32 and then 5 numbers, whose errors are no larger; the quotient rounds once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checks.h"
#include "product.h"
#include "reference.h"

/* ---- k_finish ---- */

static const char *finish_name(enum sur_gpu_epilogue epilogue)
{
    return text("k_finish_%s", epilogue_names[epilogue]);
}

/* Sums as a library returns them: [hi, lo][n][rows]. */
static sur_gpu_ptr new_sums(const struct product *t, const uint16_t *w, const char *name)
{
    const size_t n = (size_t)t->c.n, columns = n * (size_t)t->p.pitch, outputs = n * (size_t)t->c.rows;
    double *x = host_new(2 * columns, sizeof *x);
    float *sums = host_new(2 * outputs, sizeof *sums);
    struct ref_sums s = {host_new(2 * outputs, sizeof(double)), host_new(2 * outputs, sizeof(double)),
                         host_new(2 * outputs, sizeof(double))};
    for (size_t i = 0; i < columns; i++) {
        float hi = from_bf16(to_bf16(t->split[i])), lo = from_bf16(to_bf16(t->split[i] - hi));
        x[i] = (double)hi;
        x[columns + i] = (double)lo;
    }
    ref_product(&s, w, x, t->c.rows, t->p.pitch, 2 * t->c.n);
    for (size_t i = 0; i < 2 * outputs; i++) sums[i] = (float)s.sum[i];
    return memory_of(name, sums, 2 * outputs * sizeof *sums);
}

static void check_finish(const struct product_case *given)
{
    const struct product_case c = product_complete(given);
    char name[40], shape[240];
    strcpy(name, finish_name(c.epilogue));
    strcpy(shape, product_shape(&c));
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    struct product t;
    product_init(&t, &c);
    struct sur_gpu_finish f = {.rows = c.rows, .n = c.n, .scale = t.p.scale, .out = t.p.out};
    f.sums = new_sums(&t, t.w, "sums");
    if (t.w_up) f.sums_up = new_sums(&t, t.w_up, "sums of w_up");
    const struct sur_gpu_launch l = sur_gpu_finish_launch(&f, c.epilogue);
    unsigned char *kept = host_new(product_bytes(&t), 1), *bytes = host_new(product_bytes(&t), 1);
    const char *reason = NULL;
    double worst = 0;
    for (int run = 0; run < 2 && !reason; run++) {
        product_reset(&t);
        kernel_launch(kernel_find(name), &l, &f, false);
        product_read(&t);
        product_keep(&t, run ? bytes : kept);
        reason = product_compare(&t, &worst);
    }
    if (!reason && memcmp(kept, bytes, product_bytes(&t))) reason = "a second run differs";
    report_last(name, shape, worst, reason);
}

/* ---- k_unroll ---- */

static void check_unroll(int head_dim, int n_heads, int n_blocks, bool fp32)
{
    const char *name = "k_unroll";
    char shape[120];
    snprintf(shape, sizeof shape, "heads %d x %d blocks %d %s", n_heads, head_dim, n_blocks, fp32 ? "fp32" : "fp16");
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    random_seed((uint64_t)head_dim + (uint64_t)n_blocks);
    struct sur_gpu_ring r = {.n_blocks = n_blocks, .n_kv_heads = n_heads, .head_dim = head_dim, .fp32 = fp32};
    r.dp = ref_ring_dp(head_dim);
    const int slots = n_blocks * SUR_GPU_KEYS;
    size_t size = ref_ring_size(&r), element = fp32 ? 4 : 2, n = (size_t)n_heads * (size_t)slots * (size_t)head_dim;
    struct image to[2]; /* keys, values */
    for (int value = 0; value < 2; value++) {
        float *numbers = host_new(size, sizeof *numbers);
        uint16_t *halves = host_new(size, sizeof *halves);
        data_fill(numbers, size, DATA_RANDOM);
        for (size_t i = 0; i < size; i++) halves[i] = to_fp16(numbers[i]);
        sur_gpu_ptr from = memory_of(value ? "v" : "k", fp32 ? (void *)numbers : halves, size * element);
        if (value)
            r.v = from;
        else
            r.k = from;
        image_init(&to[value], value ? "values" : "keys", IMAGE_F32, n);
        for (int head = 0; head < n_heads; head++)
            for (int slot = 0; slot < slots; slot++)
                for (int e = 0; e < head_dim; e++) {
                    size_t at = ref_ring_index(&r, value, head, e, slot), row = (size_t)head * (size_t)head_dim + e;
                    size_t i = value ? row * (size_t)slots + (size_t)slot
                                     : ((size_t)head * (size_t)slots + (size_t)slot) * (size_t)head_dim + (size_t)e;
                    image_want(&to[value], i, (double)(fp32 ? numbers[at] : from_fp16(halves[at])), 0);
                }
    }
    struct sur_gpu_unroll p = {.ring = r, .keys = to[0].at, .values = to[1].at};
    const struct sur_gpu_launch l = sur_gpu_unroll_launch(&p);
    double worst = 0;
    kernel_launch(kernel_find(name), &l, &p, false);
    device_wait();
    image_read(&to[0]);
    image_read(&to[1]);
    const char *reason = image_compare(&to[0], &worst);
    if (!reason) reason = image_compare(&to[1], &worst);
    report_last(name, shape, worst, reason);
}

/* ---- k_softmax ---- */

/* Row c of one head: scores of all slots become weights; the position of a slot is the latest that falls on it.
 * exponent: room for the slots. */
static void want_weights(struct image *m, size_t row0, const struct sur_gpu_attend *p, int64_t first, int c,
                         double *exponent)
{
    const int slots = p->ring.n_blocks * SUR_GPU_KEYS;
    const float *score = (const float *)(const void *)m->initial + row0;
    double most = -INFINITY, least = INFINITY, sum = 0;
    for (int s = 0; s < slots; s++) exponent[s] = NAN;
    for (int64_t key = first + c - p->window + 1; key <= first + c; key++) {
        if (key < 0) continue;
        double e = (double)score[key % slots] * (double)p->scale;
        exponent[key % slots] = e;
        most = fmax(most, e);
        least = fmin(least, e);
    }
    for (int s = 0; s < slots; s++)
        if (!isnan(exponent[s])) sum += exp(exponent[s] - most);
    double share = 2 * (most - least) * 1.4427 * 0x1p-22 + (slots / 32 + 16) * 0x1p-24 + 2 * 0x1p-22;
    for (int s = 0; s < slots; s++) {
        double w = isnan(exponent[s]) ? 0 : exp(exponent[s] - most) / sum;
        image_want(m, row0 + (size_t)s, w, isnan(exponent[s]) ? 0 : w * share + 0x1p-126);
    }
}

static void check_softmax(int n, int n_heads, int n_blocks, int window, int64_t first, enum data data)
{
    const char *name = "k_softmax";
    char shape[120];
    snprintf(shape, sizeof shape, "n %d heads %d blocks %d window %d at %lld %s", n, n_heads, n_blocks, window,
             (long long)first, data_names[data]);
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    random_seed((uint64_t)first + (uint64_t)n);
    struct sur_gpu_attend p = {.n = n, .n_heads = n_heads, .window = window, .scale = 0.125f};
    p.ring = (struct sur_gpu_ring){.n_blocks = n_blocks, .n_kv_heads = n_heads};
    size_t slots = (size_t)n_blocks * SUR_GPU_KEYS;
    struct image m;
    double worst = 0;
    image_init(&m, "weights", IMAGE_F32, (size_t)n_heads * (size_t)n * slots);
    data_fill((void *)m.initial, m.n, data);
    image_reset(&m);
    double *room = host_new(slots, sizeof *room);
    for (int row = 0; row < n_heads * n; row++) want_weights(&m, (size_t)row * slots, &p, first, row % n, room);
    p.partial = m.at;
    p.position = memory_of("position", &first, sizeof first);
    const struct sur_gpu_launch l = sur_gpu_softmax_launch(&p);
    kernel_launch(kernel_find(name), &l, &p, false);
    device_wait();
    image_read(&m);
    const char *reason = image_compare(&m, &worst);
    report_last(name, shape, worst, reason);
}

/* ---- all ---- */

static void check_names(void)
{
    for (int e = 0; e < SUR_GPU_HEAD; e++) checks_need(finish_name((enum sur_gpu_epilogue)e));
    checks_need("k_unroll");
    checks_need("k_softmax");
}

static void check_products(void)
{
    static const struct product_case qkv[] = {
        {.k = 320, .n = 100, .head_dim = 64, .n_heads = 8, .n_kv_heads = 8, .first = 524288 + 100, .bias = true},
        {.k = 384, .n = 1, .head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .first = 131071},
        {.k = 84, .n = 60, .head_dim = 40, .n_heads = 3, .n_kv_heads = 3, .first = 380, .bias = true},
        {.k = 100, .n = 47, .head_dim = 20, .n_heads = 6, .n_kv_heads = 3, .fp32 = true},
    };
    static const int shapes[][3] = {{1280, 256, 64}, {768, 300, 1}, {84, 84, 65}, {1000, 100, 9}, {1, 40, 3}};
    for (int e = 0; e < SUR_GPU_HEAD; e++)
        for (size_t i = 0; e != SUR_GPU_QKV && i < sizeof shapes / sizeof *shapes; i++) {
            struct product_case c = {.rows = shapes[i][0], .k = shapes[i][1], .n = shapes[i][2]};
            c.epilogue = (enum sur_gpu_epilogue)e;
            c.bias = i % 2 && e != SUR_GPU_SWIGLU;
            c.split_out = e == SUR_GPU_SWIGLU && i < 3;
            c.first = 250 + (int64_t)i;
            check_finish(&c);
            c.data = DATA_INTEGER;
            check_finish(&c);
            c.data = DATA_RANDOM;
            c.runs = 1;
            check_finish(&c);
        }
    for (size_t i = 0; i < sizeof qkv / sizeof *qkv; i++) {
        struct product_case c = qkv[i];
        c.epilogue = SUR_GPU_QKV;
        c.runs = i < 3;
        check_finish(&c);
    }
}

void check_gemm(int unused)
{
    check_names();
    check_products();
    check_unroll(64, 4, 8, false);
    check_unroll(40, 3, 2, false);
    check_unroll(160, 2, 3, true);
    check_softmax(256, 2, 8, 750, 0, DATA_RANDOM);
    check_softmax(256, 2, 8, 750, 1000, DATA_RANDOM);
    check_softmax(100, 3, 8, 750, 524288 + 37, DATA_INTEGER);
    check_softmax(9, 4, 1, 29, 90, DATA_RANDOM);
    check_softmax(9, 1, 2, 1, 300, DATA_ZERO);
}

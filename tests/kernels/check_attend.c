/* Attention over a ring, against the reference, and to the bit between runs, numbers of queries, grids and kernels.
 *
 * Bound. A score is scale * q k: q is exact to 2^-22 (two halves of fp16), two chains of dp / 16 mma each and their sum
 * truncate 2^-22 of `spread`, scale * sum |q k|; the plain kernel's fp32 chain of head_dim terms, 2^-24 each, is
 * shorter. Scale, log2 e and the maximum's subtraction add four roundings. So a score is off by at most
 *     d = spread (dp / 8 + 5) 2^-22,
 * a weight by a factor e^(2 d) (its own score and the maximum's), which numerator and denominator share. exp2 adds
 * 2^-22; a weight's two halves leave 2^-22 and 2^-38 absolute; the chain over 128 keys truncates 16 times 2^-22; a
 * merge of blocks rounds two products and a sum for each.
 *
 * With random numbers errors are independent: their root mean square is then at most 2^-16 of the root of the sum of
 * the terms' squares (scores truncated 16 times, 2^-23 of sums near 1, values likewise: 2^-18). Queries or weights
 * rounded to one fp16 would leave 2^-13. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checks.h"
#include "harness.h"
#include "image.h"
#include "reference.h"

enum keys {
    KEYS_RANDOM,
    KEYS_EQUAL,    /* all keys the same: all weights the same */
    KEYS_NEGATIVE, /* every logit far below zero */
    KEYS_SHARP,    /* logits of hundreds: one key takes nearly all */
    KEYS_LARGE,    /* values to +-65504 */
    KEYS_ZERO,     /* queries are zero */
    KEYS_KINDS
};
static const char *const keys_names[] = {"random", "equal", "negative", "sharp", "large", "zero"};

static const double STATISTIC_BOUND = 0x1p-16;

struct attend_case {
    int head_dim, n_heads, n_kv_heads, window, n;
    int64_t first;
    bool plain, fp32;
    enum keys keys;
};

struct attend {
    struct attend_case c;
    struct sur_gpu_attend p;
    struct image out, halves, fragments; /* the last two: out, split, [n][pitch] */
    sur_gpu_ptr positions;
    int needed;          /* key blocks that a row group of 16 sees at most */
    bool few;            /* k_attend_64 or _128; else k_attend_many_* */
    unsigned char *kept; /* the first result of this case, or NULL */
};

/* Row groups as k_attend_64 and _128 divide them. */
static int row_groups(const struct attend_case *c, int n)
{
    return (n * (c->n_heads / c->n_kv_heads) + SUR_GPU_ATTEND_ROWS - 1) / SUR_GPU_ATTEND_ROWS;
}

static int blocks_needed(const struct attend_case *c)
{
    int most = 0, group = c->n_heads / c->n_kv_heads;
    const int rows = SUR_GPU_ATTEND_ROWS;
    for (int row = 0; row < c->n * group; row += rows) {
        int last = row + rows <= c->n * group ? row + rows - 1 : c->n * group - 1;
        int64_t oldest = c->first + row / group - c->window + 1, from = oldest > 0 ? oldest : 0;
        int n = (int)((c->first + last / group) / SUR_GPU_KEYS - from / SUR_GPU_KEYS) + 1;
        most = n > most ? n : most;
    }
    return most;
}

static float key_element(const struct attend_case *c, float common)
{
    switch (c->keys) {
    case KEYS_EQUAL:
        return common;
    case KEYS_NEGATIVE:
        return -10 + random_normal() * 0.1f;
    case KEYS_SHARP:
        return random_normal() * 20;
    default:
        return random_normal();
    }
}

static void put_element(void *ring, bool fp32, size_t i, float x)
{
    if (fp32)
        ((float *)ring)[i] = x;
    else
        ((uint16_t *)ring)[i] = to_fp16(x);
}

/* Slots that no query sees are large and finite, like stale ones; padding is zero, as launch.h promises. */
static void fill_ring(const struct attend_case *c, const struct sur_gpu_ring *r, void *k, void *v)
{
    float *common = host_new((size_t)c->head_dim, sizeof *common);
    data_fill(common, (size_t)c->head_dim, DATA_RANDOM);
    int64_t oldest = c->first - c->window + 1, from = oldest > 0 ? oldest : 0, to = c->first + c->n;
    for (int head = 0; head < r->n_kv_heads; head++)
        for (int e = 0; e < r->head_dim; e++) {
            for (int64_t p = 0; p < (int64_t)r->n_blocks * SUR_GPU_KEYS; p++) {
                float stale = random_bits() & 1 ? 6e4f : -6e4f;
                put_element(k, r->fp32, ref_ring_index(r, false, head, e, p), stale);
                put_element(v, r->fp32, ref_ring_index(r, true, head, e, p), -stale);
            }
            for (int64_t p = from; p < to; p++) {
                float value = c->keys == KEYS_LARGE ? (random_bits() & 1 ? 65504.0f : -65504.0f) : random_normal();
                put_element(k, r->fp32, ref_ring_index(r, false, head, e, p), key_element(c, common[e]));
                put_element(v, r->fp32, ref_ring_index(r, true, head, e, p), value);
            }
        }
}

static float *new_queries(const struct attend_case *c)
{
    size_t n = (size_t)c->n * (size_t)c->n_heads * (size_t)c->head_dim;
    float *q = host_new(n, sizeof *q);
    data_fill(q, n, DATA_RANDOM);
    for (size_t i = 0; i < n; i++) {
        if (c->keys == KEYS_NEGATIVE) q[i] = 10 + q[i] * 0.1f;
        if (c->keys == KEYS_SHARP) q[i] *= 5;
        if (c->keys == KEYS_ZERO) q[i] = 0;
        if (c->keys == KEYS_LARGE && i % 7 == 0) q[i] *= 1e-6f;
    }
    return q;
}

static void want(struct attend *t, const float *q, const void *k, const void *v)
{
    const struct attend_case *c = &t->c;
    struct ref_attend a = {q, k, v, &t->p.ring, c->first, c->n, c->n_heads, c->window, (double)t->p.scale};
    size_t rows = (size_t)c->n * (size_t)c->n_heads, d = (size_t)c->head_dim;
    double *out = host_new(rows * d, sizeof *out), *size = host_new(rows * d, sizeof *size);
    double *root = host_new(rows * d, sizeof *root), *spread = host_new(rows, sizeof *spread);
    ref_attend(&a, out, size, root, spread);
    if (c->keys == KEYS_RANDOM) t->out.root = root;
    for (size_t i = 0; i < rows * d; i++) {
        double off = spread[i / d] * (t->p.ring.dp / 8 + 5) * 0x1p-22;
        double share = 2 * expm1(2 * off) + (2 + 16 + 2 + t->needed) * 2 * 0x1p-22;
        double low = c->keys == KEYS_LARGE ? 65504 : 8;
        image_want(&t->out, i, out[i], size[i] * share + low * c->window * 0x1p-38 + 0x1p-120);
    }
}

static void attend_init(struct attend *t, const struct attend_case *c)
{
    size_t groups = (size_t)c->n_kv_heads * (size_t)row_groups(c, c->n);
    *t = (struct attend){.c = *c};
    t->needed = blocks_needed(c);
    random_seed((uint64_t)c->head_dim * 7919 + (uint64_t)c->window * 31 + (uint64_t)c->first + (uint64_t)c->keys);
    t->p = (struct sur_gpu_attend){.n = c->n, .n_heads = c->n_heads, .window = c->window};
    t->p.ring = (struct sur_gpu_ring){.n_blocks = (c->window + c->n - 2) / SUR_GPU_KEYS + 2,
                                      .n_kv_heads = c->n_kv_heads,
                                      .head_dim = c->head_dim,
                                      .dp = ref_ring_dp(c->head_dim),
                                      .fp32 = c->fp32};
    t->p.scale = 1 / sqrtf((float)c->head_dim);
    size_t n = ref_ring_size(&t->p.ring), bytes = n * (c->fp32 ? 4 : 2);
    void *k = host_new(bytes, 1), *v = host_new(bytes, 1);
    fill_ring(c, &t->p.ring, k, v);
    float *q = new_queries(c);
    t->p.ring.k = memory_of("k", k, bytes);
    t->p.ring.v = memory_of("v", v, bytes);
    image_init(&t->out, "out", IMAGE_F32, (size_t)c->n * (size_t)c->n_heads * (size_t)c->head_dim);
    t->p.pitch = (c->n_heads * c->head_dim + SUR_GPU_PITCH - 1) / SUR_GPU_PITCH * SUR_GPU_PITCH;
    image_init(&t->halves, "hi, lo", IMAGE_SPLIT, (size_t)c->n * (size_t)t->p.pitch);
    image_init(&t->fragments, "fragments", IMAGE_FRAGMENTS, SUR_GPU_SKINNY_COLUMNS * (size_t)t->p.pitch);
    t->p.q = memory_of("q", q, t->out.n_bytes);
    t->p.out = t->out.at;
    int64_t *positions = host_new((size_t)c->n, sizeof *positions);
    for (int i = 0; i < c->n; i++) positions[i] = c->first + i;
    t->positions = memory_of("positions", positions, (size_t)c->n * sizeof *positions);
    t->p.max_blocks = t->needed + 1; /* with fewer queries per launch the row groups differ */
    size_t floats = groups * (size_t)t->p.max_blocks * SUR_GPU_ATTEND_ROWS * (size_t)SUR_GPU_PARTIAL(t->p.ring.dp);
    t->p.partial = memory_new("partial", floats * sizeof(float));
    t->p.counters = memory_of("counters", host_new(groups, 4), groups * 4);
    want(t, q, k, v);
}

static const char *kernel_of(const struct attend_case *c, bool few)
{
    if (c->plain) return "k_attend_plain";
    if (few) return c->head_dim <= 64 ? "k_attend_64" : "k_attend_128";
    return c->head_dim <= 64 ? "k_attend_many_64" : "k_attend_many_128";
}

/* How the queries of a case are divided into launches. */
struct variant {
    const char *what;
    int step; /* queries per launch */
    bool fragments;
    int grid; /* few: thread blocks along the keys; 0: as many as there are blocks of keys */
};

static struct sur_gpu_launch launch_of(const struct attend *t, const struct sur_gpu_attend *p, const struct variant *v)
{
    if (t->c.plain) return sur_gpu_attend_plain_launch(p);
    if (!t->few) return sur_gpu_attend_many_launch(p);
    struct sur_gpu_launch l = sur_gpu_attend_launch(p, device.multiprocessors);
    l.grid[0] = (unsigned)(v->grid ? v->grid : t->needed);
    return l;
}

static void run(struct attend *t, const struct variant *v)
{
    const struct attend_case *c = &t->c;
    struct image *split = v->fragments ? &t->fragments : &t->halves;
    image_reset(&t->out);
    image_reset(split);
    for (int first = 0; first < c->n; first += v->step) {
        struct sur_gpu_attend p = t->p;
        uint64_t offset = (uint64_t)first * (uint64_t)(c->n_heads * c->head_dim) * sizeof(float);
        p.n = c->n - first < v->step ? c->n - first : v->step;
        p.q += offset;
        p.out += offset;
        p.hi = split->at + (uint64_t)first * (v->fragments ? SUR_GPU_FRAGMENT : (uint64_t)p.pitch) * 2;
        p.lo = v->fragments ? 0 : p.hi + split->n * 2;
        p.position = t->positions + (uint64_t)first * sizeof(int64_t);
        struct sur_gpu_launch l = launch_of(t, &p, v);
        kernel_launch(kernel_find(kernel_of(c, t->few)), &l, &p, false);
    }
    device_wait();
    image_read(&t->out);
    image_read(split);
}

/* Returns NULL if the split result is that of the found one, and nothing else was written. */
static const char *compare_split(const struct attend *t, struct image *m)
{
    size_t width = (size_t)(t->c.n_heads * t->c.head_dim), pitch = (size_t)t->p.pitch;
    const float *out = (const void *)t->out.found;
    const char *reason = NULL;
    double worst = 0;
    for (size_t i = 0; i < m->n && !reason; i++) {
        if (i % pitch >= width || i / pitch >= (size_t)t->c.n) continue;
        float x = out[i / pitch * width + i % pitch];
        reason = image_compare_split(m, i, x);
        image_want(m, i, (double)x, fabs((double)x) * 0x1p-17 + 0x1p-126);
    }
    return reason ? reason : image_compare(m, &worst);
}

static const char *compare(struct attend *t, double *worst)
{
    const char *reason = image_compare(&t->out, worst);
    double statistic = reason ? 0 : image_statistic(&t->out);
    if (statistic > STATISTIC_BOUND)
        reason = text("errors are %.3g of the terms in the mean, bound %.3g", statistic, STATISTIC_BOUND);
    return reason;
}

/* NULL, or a reason. */
static const char *counters_left(const struct attend *t)
{
    int32_t counters[4096];
    size_t n = (size_t)t->c.n_kv_heads * (size_t)row_groups(&t->c, t->c.n);
    if (n > sizeof counters / sizeof *counters) return "too many counters to look at";
    memory_get(counters, t->p.counters, n * sizeof *counters);
    for (size_t i = 0; i < n; i++)
        if (counters[i]) return "counters are not zero afterwards";
    return NULL;
}

/* Returns NULL or a reason. The first variant must be near the reference; all must give the bits of the first kernel
 * and variant of the case. */
static const char *check_variants(struct attend *t, const struct variant *v, size_t n, double *worst)
{
    for (size_t i = 0; i < n; i++) {
        run(t, &v[i]);
        const char *reason = t->few ? counters_left(t) : NULL;
        if (!reason && i == 0) reason = compare(t, worst);
        if (!reason && t->kept && memcmp(t->kept, t->out.found, t->out.n_bytes)) reason = text("%s differs", v[i].what);
        if (!reason) reason = compare_split(t, v[i].fragments ? &t->fragments : &t->halves);
        if (reason) return reason;
        if (!t->kept) t->kept = memcpy(host_new(t->out.n_bytes, 1), t->out.found, t->out.n_bytes);
    }
    return NULL;
}

static const char *check_few_kernel(struct attend *t, double *worst)
{
    const int n = t->c.n < SUR_GPU_SKINNY_COLUMNS ? t->c.n : SUR_GPU_SKINNY_COLUMNS; /* per launch */
    const bool fragments = t->c.n <= SUR_GPU_SKINNY_COLUMNS;
    const struct variant variants[] = {
        {"", n, false, 0},
        {"a second run", n, false, 0},
        {"a third run", n, false, 0},
        {fragments ? "a result in fragments" : "a fourth run", n, fragments, 0},
        {"one block per row group", n, false, 1},
        {"two blocks", n, false, 2},
        {"a grid with idle blocks", n, false, t->needed + 3},
        {"five blocks", n, false, 5},
        {"one query at a time", 1, false, 0},
        {"three at a time", 3, fragments, 2},
    };
    t->few = true;
    const char *reason = check_variants(t, variants, sizeof variants / sizeof *variants, worst);
    const char *damaged = memory_damaged();
    t->few = false;
    return !reason && damaged ? text("wrote outside %s", damaged) : reason;
}

/* k_attend_many_*, whose bits must be those of k_attend_*, or k_attend_plain. */
static const char *check_other_kernel(struct attend *t, double *worst)
{
    const int n = t->c.n;
    const bool fragments = n <= SUR_GPU_SKINNY_COLUMNS;
    const struct variant variants[] = {
        {"what k_attend gives for few columns", n, false, 0},
        {"a second run", n, false, 0},
        {"a third run", n, false, 0},
        {fragments ? "a result in fragments" : "a fourth run", n, fragments, 0},
        {"37 queries at a time", 37, false, 0},
        {"nine at a time", 9, false, 0},
        {"three at a time", 3, fragments, 0},
        {"one query at a time", 1, false, 0},
    };
    return check_variants(t, variants, sizeof variants / sizeof *variants, worst);
}

static void check_case(const struct attend_case *c)
{
    const char *few = kernel_of(c, true), *other = kernel_of(c, false);
    char shape[240];
    snprintf(shape, sizeof shape, "head %d x %d/%d window %d n %d at %lld %s %s", c->head_dim, c->n_heads,
             c->n_kv_heads, c->window, c->n, (long long)c->first, c->fp32 ? "fp32" : "fp16", keys_names[c->keys]);
    bool few_wanted = !c->plain && report_wanted(few, shape), other_wanted = report_wanted(other, shape);
    few_wanted = few_wanted && kernel_find(few);
    other_wanted = other_wanted && kernel_find(other);
    if (!few_wanted && !other_wanted) return;
    if (!report_small((double)c->n * c->n_heads * c->head_dim * blocks_needed(c) * SUR_GPU_KEYS)) return;
    struct attend t;
    double worst = 0, other_worst = 0;
    attend_init(&t, c);
    if (!c->plain && kernel_find(few)) {
        const char *reason = check_few_kernel(&t, &worst);
        if (few_wanted || reason) report(few, shape, worst, reason);
    }
    if (other_wanted) {
        const char *reason = check_other_kernel(&t, &other_worst);
        report_last(other, shape, other_worst, reason);
    } else {
        memory_release();
        host_release();
    }
}

static const struct attend_case cases[] = {
    /* the encoder's: live, whole, at the start, full window, far away */
    {64, 8, 8, 750, 4, 0, 0, 0, 0},
    {64, 8, 8, 750, 4, 748, 0, 0, 0},
    {64, 8, 8, 750, 4, 1276, 0, 0, 0},
    {64, 8, 8, 750, 4, 524288 + 2, 0, 0, 0},
    {64, 4, 4, 750, 256, 0, 0, 0, 0},
    {64, 4, 4, 750, 256, 1000, 0, 0, 0},
    {64, 4, 4, 750, 256, 524160, 0, 0, 0},
    {64, 2, 2, 750, 200, 700, 0, 0, 0},
    {64, 2, 2, 750, 512, 1300, 0, 0, 0},
    /* the decoder's: prefill, a step, eight positions */
    {128, 8, 2, 8192, 38, 0, 0, 0, 0},
    {128, 8, 2, 8192, 1, 38, 0, 0, 0},
    {128, 8, 2, 8192, 1, 1000, 0, 0, 0},
    {128, 8, 2, 8192, 1, 8191, 0, 0, 0},
    {128, 8, 2, 8192, 1, 131072, 0, 0, 0},
    {128, 8, 2, 8192, 8, 16380, 0, 0, 0},
    {128, 32, 8, 8192, 1, 4100, 0, 0, 0},
    {128, 8, 2, 8192, 8, 120, 0, 0, 0},
    /* many key blocks: several thread blocks merge them, in several rounds */
    {64, 4, 2, 2500, 3, 6000, 0, 0, 0},
    {64, 3, 1, 9000, 4, 9100, 0, 0, 0},
    {128, 4, 2, 17000, 1, 40000, 0, 0, 0},
    /* odd */
    {40, 3, 3, 29, 4, 100, 0, 0, 0},
    {20, 6, 3, 37, 8, 126, 0, 0, 0},
    {16, 4, 1, 64, 8, 511, 0, 0, 0},
    {36, 4, 4, 100, 5, 255, 0, 0, 0},
    {32, 4, 4, 48, 256, 90, 0, 0, 0},
    {100, 6, 2, 128, 8, 300, 0, 0, 0},
    {66, 3, 1, 127, 8, 130, 0, 0, 0},
    {64, 4, 4, 1, 8, 126, 0, 0, 0},
    {2, 4, 2, 129, 7, 1000, 0, 0, 0},
    {128, 3, 1, 500, 39, 400, 0, 0, 0},
    {64, 5, 1, 300, 8, 200, 0, 0, 0},
    {128, 24, 1, 300, 3, 250, 0, 0, 0},
    {128, 8, 2, 300, 131, 250, 0, 0, 0},
    /* the plain kernel */
    {40, 3, 3, 29, 4, 100, 1, 0, 0},
    {20, 6, 3, 37, 8, 126, 1, 1, 0},
    {16, 4, 1, 64, 8, 511, 1, 1, 0},
    {128, 8, 2, 8192, 1, 5000, 1, 1, 0},
    {64, 8, 8, 750, 4, 1276, 1, 1, 0},
    {64, 2, 2, 750, 256, 1000, 1, 0, 0},
    {160, 4, 2, 200, 3, 250, 1, 0, 0},
    {512, 2, 1, 140, 3, 130, 1, 0, 0},
    {300, 2, 2, 64, 40, 100, 1, 1, 0},
    {128, 8, 2, 8192, 38, 0, 1, 1, 0},
};

void check_attend(int unused)
{
    static const char *const names[] = {"k_attend_64", "k_attend_128", "k_attend_many_64", "k_attend_many_128",
                                        "k_attend_plain"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) checks_need(names[i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(&cases[i]);
    for (int keys = KEYS_EQUAL; keys < KEYS_KINDS; keys++) {
        check_case(&(struct attend_case){64, 4, 4, 750, 4, 1100, 0, 0, (enum keys)keys});
        check_case(&(struct attend_case){128, 8, 2, 2000, 8, 3001, 0, 0, (enum keys)keys});
        check_case(&(struct attend_case){40, 6, 2, 200, 5, 300, 1, 0, (enum keys)keys});
        check_case(&(struct attend_case){128, 4, 1, 200, 5, 300, 1, 1, (enum keys)keys});
    }
}

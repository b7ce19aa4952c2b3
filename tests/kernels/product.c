/* Bounds. A term is w x with x = hi + lo to 2^-17 of it (two bf16 of 8 bits each). A segment of 256 is a chain of 32
 * mma (16 steps of k, two halves), each of which may truncate: 2^-22 of what it adds up, at most `size`, the sum of
 * the terms' absolute values. The segments are then added in fp32, 2^-24 each. So the sum is off by at most
 *     size (2^-17 + 32 2^-22 + (k / 256 + 1) 2^-24).
 * A norm adds two products, 2^-24 each: of x with its weight, and of the sum (with runs: of each x) with the scale.
 * What the scale is off by: of the sum of squares, none of which is below zero, a square rounds once, its group three
 * times, a lane's sum norm_k / 256 times, the butterflies' five; the mean is off by two units (__fdividef), eps rounds
 * it once more; the root halves all that and is off by two units itself (rsqrtf). A unit is at most 2^-23, so by a
 * share of
 *     ((norm_k / 256 + 9) 2^-24 + 2^-22 + 2^-24) / 2 + 2^-22.
 * Denormals may become zeros: 2^-126 a term, which the scale of the sum may make larger.
 *
 * These are worst cases, and for k in the thousands loose: dropping the low half would stay below them. Two checks see
 * more. Whole numbers (DATA_INTEGER, no norm): split, products and sums are exact, so the result must be. Random
 * numbers: errors are then independent, and their root mean square is at most 2^-15 of the root of the sum of the
 * terms' squares: the split leaves 2^-18, a segment's truncations at most 32 2^-23 of its own sum, the norm at most
 * 2^-18. Without the low half it would be 2^-10. */
#include "product.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

static const double STATISTIC_BOUND = 0x1p-15;

const char *const epilogue_names[] = {"gelu", "add", "swiglu", "qkv", "rows", "head"};

struct product_case product_complete(const struct product_case *given)
{
    struct product_case c = *given;
    if (c.epilogue == SUR_GPU_QKV) c.rows = (c.n_heads + 2 * c.n_kv_heads) * c.head_dim;
    return c;
}

const char *product_shape(const struct product_case *c)
{
    const char *heads = c->epilogue == SUR_GPU_QKV ? text(" heads %d/%d x %d %s at %lld", c->n_heads, c->n_kv_heads,
                                                          c->head_dim, c->fp32 ? "fp32" : "fp16", (long long)c->first)
                                                   : "";
    return text("rows %d k %d n %d %s%s%s%s%s%s%s", c->rows, c->k, c->n, data_names[c->data], c->runs ? " norm" : "",
                c->runs > 1 ? "/4" : "", c->taps ? text(" taps %d", c->taps) : "", c->split_out ? " split" : "",
                c->fragments ? " fragments" : "", heads);
}

/* ---- inputs ---- */

/* Row major with zeros in the pads. Whole numbers to +-2, or normal with variance 1 / k. */
static uint16_t *new_weights(const struct product_case *c, int pitch)
{
    uint16_t *w = host_new((size_t)c->rows * (size_t)pitch, sizeof *w);
    float scale = 1 / sqrtf((float)c->k);
    for (int r = 0; r < c->rows; r++)
        for (int i = 0; i < c->k; i++) {
            float v = c->data == DATA_INTEGER ? (float)((int)(random_bits() % 5) - 2) : random_normal() * scale;
            w[(size_t)r * (size_t)pitch + (size_t)i] = to_bf16(v);
        }
    if (c->epilogue == SUR_GPU_HEAD && c->n % 2) /* ties: rows 3 i, 3 i + 1, 3 i + 2 are the same */
        for (int r = 0; r < c->rows; r++)
            memmove(w + (size_t)r * (size_t)pitch, w + (size_t)(r - r % 3) * (size_t)pitch, (size_t)pitch * sizeof *w);
    return w;
}

static float *new_floats(size_t n, enum data data, float scale)
{
    float *x = host_new(n, sizeof *x);
    data_fill(x, n, data);
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    return x;
}

static void init_input(struct product *t)
{
    const struct product_case *c = &t->c;
    struct sur_gpu_input *in = &t->in;
    int channels = c->taps ? c->k / 3 : c->k, rows = c->taps ? (c->n - 1) * c->taps + 3 : c->n;
    in->stride = channels + (c->n % 2 ? 4 : 0);
    in->taps = c->taps;
    in->eps = 1e-5f;
    size_t size = (size_t)rows * (size_t)in->stride;
    t->x_host = new_floats(size, c->data, 1);
    in->x = memory_of("x", t->x_host, size * sizeof(float));
    if (c->runs) {
        in->norm_k = c->k / c->runs;
        t->norm = new_floats((size_t)in->norm_k, DATA_RANDOM, 0.1f);
        for (int i = 0; i < in->norm_k; i++) t->norm[i] += 1;
        in->norm = memory_of("norm", t->norm, (size_t)in->norm_k * sizeof(float));
    }
    t->x = host_new((size_t)c->n * (size_t)t->p.pitch, sizeof(double));
    ref_input(t->x, t->x_host, t->norm, in, c->k, t->p.pitch, c->n);
}

/* What is split: the input; with one norm times its weights, and the scale is left to the product. */
static void init_split(struct product *t)
{
    const struct product_case *c = &t->c;
    size_t n = (size_t)c->n * (size_t)t->p.pitch, groups = ((size_t)c->k + 7) / 8;
    t->split = host_new(n, sizeof(float));
    for (size_t i = 0; i < n; i++) t->split[i] = (float)t->x[i];
    if (c->runs != 1) return;
    t->squares_host = host_new((size_t)c->n * groups, sizeof(float));
    t->scale = host_new((size_t)c->n, sizeof(float));
    for (int col = 0; col < c->n; col++) {
        const float *x = t->x_host + (size_t)col * (size_t)t->in.stride;
        float *squares = t->squares_host + (size_t)col * groups;
        for (int i = 0; i < c->k; i++) t->split[(size_t)col * (size_t)t->p.pitch + (size_t)i] = x[i] * t->norm[i];
        ref_squares(squares, x, c->k);
        t->scale[col] = ref_scale(squares, c->k, t->in.eps);
    }
    t->squares = memory_of("squares", t->squares_host, (size_t)c->n * groups * sizeof(float));
    t->p.scale = memory_of("scale", t->scale, (size_t)c->n * sizeof(float));
    t->p.eps = t->in.eps;
}

/* The halves as each kernel takes them. */
static void init_halves(struct product *t)
{
    size_t pitch = (size_t)t->p.pitch, n = (size_t)t->c.n * pitch, n_both = 2 * SUR_GPU_SKINNY_COLUMNS * pitch;
    uint16_t *hi = host_new(n, sizeof *hi), *lo = host_new(n, sizeof *lo), *both = host_new(n_both, sizeof *both);
    for (size_t i = 0; i < n; i++) {
        hi[i] = to_bf16(t->split[i]);
        lo[i] = to_bf16(t->split[i] - from_bf16(hi[i]));
        if (i / pitch >= SUR_GPU_SKINNY_COLUMNS) continue;
        size_t at = i / pitch * SUR_GPU_FRAGMENT + (size_t)sur_gpu_fragment_at((int)(i % pitch));
        both[at] = hi[i];
        both[at + SUR_GPU_LOW] = lo[i];
    }
    t->p.hi = memory_of("hi", hi, n * sizeof *hi);
    t->p.lo = memory_of("lo", lo, n * sizeof *lo);
    t->fragments = memory_of("fragments", both, n_both * sizeof *both);
}

/* As the kernels have them: in blocks. */
static sur_gpu_ptr packed(const struct product *t, const char *name, const uint16_t *w)
{
    size_t n = ((size_t)t->c.rows + 7) / 8 * 8 * (size_t)t->p.pitch;
    uint16_t *to = host_new(n, sizeof *to);
    for (int r = 0; r < t->c.rows; r++)
        for (int i = 0; i < t->p.pitch; i++)
            to[sur_gpu_weight_at(r, i, t->p.pitch)] = w[(size_t)r * (size_t)t->p.pitch + (size_t)i];
    return memory_of(name, to, n * sizeof *to);
}

static struct image *new_image(struct product *t, const char *name, enum image_type type, size_t n)
{
    struct image *m = &t->images[t->n_images++];
    image_init(m, name, type, n);
    return m;
}

static void init_ring(struct product *t)
{
    const struct product_case *c = &t->c;
    struct sur_gpu_ring *r = &t->p.out.ring;
    *r = (struct sur_gpu_ring){.n_blocks = 3 + c->n / SUR_GPU_KEYS,
                               .n_kv_heads = c->n_kv_heads,
                               .head_dim = c->head_dim,
                               .dp = ref_ring_dp(c->head_dim),
                               .fp32 = c->fp32};
    enum image_type type = c->fp32 ? IMAGE_F32 : IMAGE_F16;
    r->k = new_image(t, "k", type, ref_ring_size(r))->at;
    r->v = new_image(t, "v", type, ref_ring_size(r))->at;
}

static void init_head(struct product *t)
{
    size_t n = (size_t)t->c.n;
    uint32_t zero = 0;
    t->top = memory_pinned(n * sizeof *t->top);
    t->state = host_new(n, sizeof *t->state);
    sur_gpu_ptr candidates = memory_new("candidates", (size_t)1024 * SUR_GPU_SKINNY_COLUMNS * SUR_GPU_TOP * 8);
    sur_gpu_ptr counter = memory_of("counter", &zero, sizeof zero);
    for (size_t i = 0; i < n; i++)
        t->state[i] = (struct sur_gpu_top_state){candidates, counter, (sur_gpu_ptr)(uintptr_t)(t->top + i)};
    t->state_at = memory_of("top state", t->state, n * sizeof *t->state);
    t->p.out.top = t->state_at;
}

/* ---- the answer ---- */

struct sums {
    struct ref_sums gate, up;
    double *bound; /* [n][rows] of gate's sum, as a share of size; up's is the same */
};

double product_scale_share(int norm_k)
{
    return ((norm_k / 256 + 9) * 0x1p-24 + 0x1p-22 + 0x1p-24) / 2 + 0x1p-22;
}

static double share_of_size(const struct product_case *c)
{
    if (c->data == DATA_INTEGER && !c->runs) return 0;
    double norm = c->runs ? product_scale_share(c->k / c->runs) + 2 * 0x1p-24 : 0;
    return 0x1p-17 + 32 * 0x1p-22 + (c->k / 256 + 1) * 0x1p-24 + norm;
}

static struct ref_sums new_sums(const struct product *t, const uint16_t *w)
{
    size_t n = (size_t)t->c.n * (size_t)t->c.rows;
    struct ref_sums s = {host_new(n, sizeof(double)), host_new(n, sizeof(double)), host_new(n, sizeof(double))};
    ref_product(&s, w, t->x, t->c.rows, t->p.pitch, t->c.n);
    return s;
}

/* What row r, column c should be before the epilogue, and its bound. */
struct value {
    double v, bound;
};

static struct value value_of(const struct product *t, const struct ref_sums *s, const float *bias, int r, int c)
{
    size_t i = (size_t)c * (size_t)t->c.rows + (size_t)r;
    double v = s->sum[i] + (bias ? (double)bias[r] : 0), share = share_of_size(&t->c);
    double lost = t->c.k * 0x1p-126 * (t->scale && t->scale[c] > 1 ? (double)t->scale[c] : 1);
    double rounding = share > 0 ? fabs(v) * 0x1p-24 + lost : 0;
    return (struct value){v, s->size[i] * share + rounding};
}

/* gelu: slope at most 1.13; its own roundings are some units of x. swiglu: slope of silu at most 1.1; exp, a division
 * and two products: 2^-21; what overflows in exp is below 1e-36. */
static struct value activated(const struct product *t, struct value a, struct value b)
{
    if (t->c.epilogue == SUR_GPU_GELU)
        return (struct value){ref_gelu(a.v), 1.13 * a.bound + fabs(a.v) * 0x1p-22 + 0x1p-126};
    double y = ref_silu_mul(a.v, b.v), silu = fabs(ref_silu_mul(a.v, 1));
    double bound = 1.1 * a.bound * (fabs(b.v) + b.bound) + silu * b.bound + fabs(y) * 0x1p-21 + 1e-36 * fabs(b.v);
    return (struct value){y, bound + 0x1p-126};
}

/* Rows are q, k, v; the pair (even, odd) turns by the column's angle: two products and a sum, 2^-23. */
static void want_qkv(struct product *t, const struct ref_sums *s, const float *bias, const float *rotation)
{
    const struct product_case *c = &t->c;
    const struct sur_gpu_output *o = &t->p.out;
    struct image *rings[] = {&t->images[1], &t->images[2]};
    int kv_rows = c->n_kv_heads * c->head_dim;
    for (int col = 0; col < c->n; col++)
        for (int r = 0; r < c->rows; r++) {
            struct value own = value_of(t, s, bias, r, col), pair = value_of(t, s, bias, r ^ 1, col);
            bool is_q = r < o->q_rows, is_v = r >= o->q_rows + kv_rows;
            int in = is_q ? r : (r - o->q_rows) % kv_rows, e = in % c->head_dim;
            double v = own.v, bound = own.bound;
            if (!is_v) {
                const float *cs = rotation + (size_t)col * (size_t)c->head_dim + (e & ~1);
                double turn = e & 1 ? (double)cs[1] : -(double)cs[1], size;
                v = own.v * (double)cs[0] + pair.v * turn;
                size = fabs(own.v * (double)cs[0]) + fabs(pair.v * turn);
                bound = own.bound * fabs((double)cs[0]) + pair.bound * fabs(turn) + size * 0x1p-23 + 0x1p-126;
            }
            if (is_q) {
                image_want(&t->images[0], (size_t)col * (size_t)o->stride + (size_t)r, v, bound);
                continue;
            }
            if (!c->fp32) {
                v = fmin(fmax(v, -65504), 65504);
                bound += fabs(v) * 0x1p-11 + bound * 0x1p-11 + 0x1p-25;
            }
            size_t i = ref_ring_index(&o->ring, is_v, in / c->head_dim, e, c->first + col);
            image_want(rings[is_v], i, v, bound);
        }
}

static void want_rest(struct product *t, const struct ref_sums *gate, const struct ref_sums *up, const float *bias)
{
    const struct product_case *c = &t->c;
    struct image *m = &t->images[0];
    bool linear = c->epilogue != SUR_GPU_GELU && c->epilogue != SUR_GPU_SWIGLU;
    if (linear && c->data == DATA_RANDOM) m->root = host_new(m->n, sizeof(double));
    for (int col = 0; col < c->n; col++)
        for (int r = 0; r < c->rows; r++) {
            struct value a = value_of(t, gate, bias, r, col), b = {0};
            if (up) b = value_of(t, up, NULL, r, col);
            int64_t row = c->epilogue == SUR_GPU_ROWS ? (c->first + col) % SUR_GPU_ROW_RING : col;
            size_t stride = (size_t)(c->split_out ? t->p.out.pitch : t->p.out.stride);
            size_t i = (size_t)row * stride + (size_t)r;
            if (!linear) a = activated(t, a, b);
            if (c->epilogue == SUR_GPU_ADD) {
                float before;
                memcpy(&before, m->initial + 4 * i, 4);
                if (a.bound > 0) a.bound += fabs(a.v + (double)before) * 0x1p-24;
                a.v += (double)before;
            }
            if (c->split_out && a.bound > 0) a.bound += fabs(a.v) * 0x1p-17;
            image_want(m, i, a.v, a.bound);
            if (m->root && r % 2) m->root[i] = gate->root[(size_t)col * (size_t)c->rows + (size_t)r];
        }
}

static void init_output(struct product *t, const float *rotation)
{
    const struct product_case *c = &t->c;
    struct sur_gpu_output *o = &t->p.out;
    size_t columns = c->epilogue == SUR_GPU_ROWS ? SUR_GPU_ROW_RING : (size_t)c->n;
    o->pitch = (c->rows + SUR_GPU_PITCH - 1) / SUR_GPU_PITCH * SUR_GPU_PITCH;
    o->stride = (c->epilogue == SUR_GPU_QKV ? c->n_heads * c->head_dim : c->rows) + 4;
    if (c->split_out) {
        size_t n = (c->fragments ? SUR_GPU_SKINNY_COLUMNS : columns) * (size_t)o->pitch;
        o->hi = new_image(t, "hi, lo", c->fragments ? IMAGE_FRAGMENTS : IMAGE_SPLIT, n)->at;
        if (!c->fragments) o->lo = o->hi + n * 2;
    } else {
        o->y = new_image(t, "y", IMAGE_F32, columns * (size_t)o->stride)->at;
    }
    if (c->epilogue == SUR_GPU_ADD) {
        float *y = (void *)t->images[0].initial;
        data_fill(y, t->images[0].n, c->data == DATA_INTEGER ? DATA_INTEGER : DATA_RANDOM);
    }
    if (c->epilogue == SUR_GPU_QKV) {
        o->q_rows = c->n_heads * c->head_dim;
        o->new_place = c->n % 2; /* either way the same */
        o->rotation = memory_of("rotation", rotation, (size_t)c->n * (size_t)c->head_dim * sizeof(float));
        init_ring(t);
    }
    if (c->epilogue == SUR_GPU_HEAD) init_head(t);
}

static float *new_rotation(const struct product_case *c)
{
    float *rotation = host_new((size_t)c->n * (size_t)c->head_dim, sizeof *rotation);
    float *inv = host_new((size_t)c->head_dim / 2, sizeof *inv);
    for (int j = 0; j < c->head_dim / 2; j++) inv[j] = powf(1e6f, -2 * (float)j / (float)c->head_dim);
    for (int i = 0; i < c->n; i++)
        ref_rotation(rotation + (size_t)i * (size_t)c->head_dim, c->first + i, inv, c->head_dim / 2);
    return rotation;
}

void product_init(struct product *t, const struct product_case *given)
{
    struct product_case c = product_complete(given);
    *t = (struct product){.c = c};
    random_seed((uint64_t)c.rows * 1000003 + (uint64_t)c.k * 101 + (uint64_t)c.n + (uint64_t)c.data);
    t->p = (struct sur_gpu_product){.rows = c.rows, .k = c.k, .n = c.n};
    t->p.pitch = (c.k + SUR_GPU_PITCH - 1) / SUR_GPU_PITCH * SUR_GPU_PITCH;
    float *bias = NULL, *rotation = c.epilogue == SUR_GPU_QKV ? new_rotation(&c) : NULL;
    init_input(t);
    init_split(t);
    init_halves(t);
    init_output(t, rotation);
    t->w = new_weights(&c, t->p.pitch);
    t->p.w = packed(t, "w", t->w);
    if (c.epilogue == SUR_GPU_SWIGLU) {
        t->w_up = new_weights(&c, t->p.pitch);
        t->p.w_up = packed(t, "w_up", t->w_up);
    }
    if (c.bias) {
        bias = new_floats((size_t)c.rows, c.data == DATA_INTEGER ? DATA_INTEGER : DATA_RANDOM, 1);
        t->p.out.bias = memory_of("bias", bias, (size_t)c.rows * sizeof *bias);
    }
    int64_t *positions = host_new((size_t)c.n, sizeof *positions);
    for (int i = 0; i < c.n; i++) positions[i] = c.first + i;
    t->position_at = memory_of("positions", positions, (size_t)c.n * sizeof *positions);
    t->p.out.position = t->position_at;

    struct ref_sums gate = new_sums(t, t->w), up = t->w_up ? new_sums(t, t->w_up) : gate;
    if (c.epilogue == SUR_GPU_QKV)
        want_qkv(t, &gate, bias, rotation);
    else
        want_rest(t, &gate, t->w_up ? &up : NULL, bias);
}

/* ---- running ---- */

struct sur_gpu_product product_columns(const struct product *t, int first, int n, bool skinny)
{
    struct sur_gpu_product p = t->p;
    uint64_t f = (uint64_t)first, pitch = (uint64_t)p.pitch, out_pitch = (uint64_t)p.out.pitch;
    p.n = n;
    if (skinny) {
        p.hi = t->fragments + f * SUR_GPU_FRAGMENT * 2;
        p.lo = p.scale = 0;
        if (t->squares) p.squares = t->squares + f * (((uint64_t)p.k + 7) / 8) * sizeof(float);
    } else {
        p.hi += f * pitch * 2, p.lo += f * pitch * 2;
        if (p.scale) p.scale += f * sizeof(float);
    }
    p.out.position += f * sizeof(int64_t);
    if (t->c.epilogue != SUR_GPU_ROWS && p.out.y) p.out.y += f * (uint64_t)p.out.stride * sizeof(float);
    if (p.out.hi) p.out.hi += f * (p.out.lo ? out_pitch : SUR_GPU_FRAGMENT) * 2;
    if (p.out.lo) p.out.lo += f * out_pitch * 2;
    if (p.out.rotation) p.out.rotation += f * (uint64_t)t->c.head_dim * sizeof(float);
    if (p.out.top) p.out.top += f * sizeof(struct sur_gpu_top_state);
    return p;
}

void product_reset(const struct product *t)
{
    for (int i = 0; i < t->n_images; i++) image_reset(&t->images[i]);
    if (t->top) memset(t->top, 0xc5, (size_t)t->c.n * sizeof *t->top);
}

void product_read(struct product *t)
{
    device_wait();
    for (int i = 0; i < t->n_images; i++) image_read(&t->images[i]);
}

static const char *compare_top(const struct product *t, int c)
{
    const float *y = (const void *)(t->images[0].found + (size_t)c * (size_t)t->p.out.stride * sizeof *y);
    struct sur_gpu_top want;
    ref_top(&want, y, t->c.rows);
    for (int i = 0; i < SUR_GPU_TOP && i < t->c.rows; i++)
        if (t->top[c].id[i] != want.id[i] ||
            (t->top[c].value[i] != want.value[i] && !(isnan(t->top[c].value[i]) && isnan(want.value[i]))))
            return text("top %d of column %d is %d (%.9g), not %d (%.9g)", i, c, t->top[c].id[i],
                        (double)t->top[c].value[i], want.id[i], (double)want.value[i]);
    return NULL;
}

const char *product_compare(const struct product *t, double *worst)
{
    const char *reason = NULL;
    for (int i = 0; i < t->n_images && !reason; i++) {
        reason = image_compare(&t->images[i], worst);
        double statistic = reason ? 0 : image_statistic(&t->images[i]);
        if (statistic > STATISTIC_BOUND)
            reason = text("%s: errors are %.3g of the terms in the mean, bound %.3g", t->images[i].name, statistic,
                          STATISTIC_BOUND);
    }
    for (int c = 0; t->top && c < t->c.n && !reason; c++) reason = compare_top(t, c);
    return reason;
}

size_t product_bytes(const struct product *t)
{
    size_t n = t->top ? (size_t)t->c.n * sizeof *t->top : 0;
    for (int i = 0; i < t->n_images; i++) n += t->images[i].n_bytes;
    return n;
}

void product_keep(const struct product *t, unsigned char *bytes)
{
    for (int i = 0; i < t->n_images; i++) {
        memcpy(bytes, t->images[i].found, t->images[i].n_bytes);
        bytes += t->images[i].n_bytes;
    }
    if (t->top) memcpy(bytes, t->top, (size_t)t->c.n * sizeof *t->top);
}

/* The fast operations, written once for vectors of VW floats (16 lanes are 16 / VW of them). Each ops_*.c defines
 *   VW, FMA(a, b, c), LOAD_FP16(p), TILE_ROWS, TILE_COLS, OPS, OPS_NAME
 * and includes this file, compiled for its instruction set. GCC's vector types carry the rest. */
#include <math.h>
#include <string.h>

#include "cpu/ops.h"
#include "util/half.h"

/* Values have the alignment that the processor gives vectors. gcc 14 for aarch64 fails on arguments with less. */
typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
/* The same vectors in memory, at any element. */
typedef float vf_memory __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef uint16_t vh_memory __attribute__((vector_size(VW * 2), aligned(2), may_alias));

enum { PARTS = 16 / VW };
struct v16 { vf p[PARTS]; };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE vf broadcast(float f) { return (vf){0} + f; }

INLINE vf load_f32(const float *p) { return *(const vf_memory *)p; }

INLINE void store_f32(float *p, vf v) { *(vf_memory *)p = v; }

INLINE vf load_bf16(const uint16_t *p) { return (vf)(__builtin_convertvector(*(const vh_memory *)p, vu) << 16); }

/* The last n < 16 elements of a row; missing ones count as 0. */
INLINE struct v16 tail_bf16(const uint16_t *p, int n)
{
    uint16_t t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    struct v16 v;
    UNROLL for (int i = 0; i < PARTS; i++) v.p[i] = load_bf16(t + i * VW);
    return v;
}

INLINE struct v16 tail_f32(const float *p, int n)
{
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    struct v16 v;
    UNROLL for (int i = 0; i < PARTS; i++) v.p[i] = load_f32(t + i * VW);
    return v;
}

/* 16 lanes to one: 8, 4, 2, 1, the same tree for every VW. */
INLINE float fold(struct v16 v)
{
    float t[16];
    UNROLL for (int i = 0; i < PARTS; i++) store_f32(t + i * VW, v.p[i]);
    UNROLL for (int i = 0; i < 8; i++) t[i] += t[i + 8];
    UNROLL for (int i = 0; i < 4; i++) t[i] += t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* ---- products ---- */

/* One step of 16 along k. */
INLINE void tile_step(struct v16 (*acc)[TILE_COLS], const uint16_t *const *w, const float *const *x, int k,
                      const int rows, const int cols)
{
    UNROLL for (int i = 0; i < PARTS; i++) {
        vf b[TILE_COLS];
        UNROLL for (int c = 0; c < cols; c++) b[c] = load_f32(x[c] + k + i * VW);
        UNROLL for (int r = 0; r < rows; r++) {
            vf a = load_bf16(w[r] + k + i * VW);
            UNROLL for (int c = 0; c < cols; c++) acc[r][c].p[i] = FMA(a, b[c], acc[r][c].p[i]);
        }
    }
}

/* fetch: the first pass over these rows also prefetches the next rows, because rows are so short that the processor's
 * own prefetching would start again at each. */
INLINE void tile(const struct sur_matmul *m, int row, int col, const int rows, const int cols, const bool fetch)
{
    struct v16 acc[TILE_ROWS][TILE_COLS];
    const uint16_t *w[TILE_ROWS];
    const float *x[TILE_COLS];
    UNROLL for (int r = 0; r < rows; r++) w[r] = m->w + (size_t)(row + r) * m->w_stride;
    UNROLL for (int c = 0; c < cols; c++) x[c] = m->x + (size_t)(col + c) * m->x_stride;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < cols; c++)
            UNROLL for (int i = 0; i < PARTS; i++) acc[r][c].p[i] = (vf){0};
    int k = 0;
    for (; k + 32 <= m->k; k += 32) {
        if (fetch)
            UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(w[r] + (size_t)rows * m->w_stride + k, 0, 2);
        tile_step(acc, w, x, k, rows, cols);
        tile_step(acc, w, x, k + 16, rows, cols);
    }
    for (; k + 16 <= m->k; k += 16) tile_step(acc, w, x, k, rows, cols);
    if (k < m->k)
        UNROLL for (int r = 0; r < rows; r++) {
            struct v16 a = tail_bf16(w[r] + k, m->k - k);
            UNROLL for (int c = 0; c < cols; c++) {
                struct v16 b = tail_f32(x[c] + k, m->k - k);
                UNROLL for (int i = 0; i < PARTS; i++) acc[r][c].p[i] = FMA(a.p[i], b.p[i], acc[r][c].p[i]);
            }
        }
    UNROLL for (int c = 0; c < cols; c++)
        UNROLL for (int r = 0; r < rows; r++) {
            float sum = fold(acc[r][c]), *y = m->y + (size_t)(col + c) * m->y_stride + row + r;
            if (m->bias) sum += m->bias[row + r];
            *y = m->accumulate ? *y + sum : sum;
        }
}

/* As many tiles of `cols` columns as fit before col1; returns the first column left. */
INLINE int tiles(const struct sur_matmul *m, int row, const int rows, int col0, int c, int col1, const int cols)
{
    if (c == col0 && c + cols <= col1) tile(m, row, c, rows, cols, true), c += cols;
    for (; c + cols <= col1; c += cols) tile(m, row, c, rows, cols, false);
    return c;
}

/* Columns of one group of rows. Widest tiles first: a weight is widened once a tile. */
INLINE void strip(const struct sur_matmul *m, int row, const int rows, int col0, int col1)
{
    int c = tiles(m, row, rows, col0, col0, col1, TILE_COLS);
    if (TILE_COLS > 4) c = tiles(m, row, rows, col0, c, col1, 4);
    if (TILE_COLS > 2) c = tiles(m, row, rows, col0, c, col1, 2);
    tiles(m, row, rows, col0, c, col1, 1);
}

static void matmul(const struct sur_matmul *m, int row0, int row1)
{
    /* columns a sweep over the weights: as many as keep half a megabyte of activations in the second-level cache */
    int cols = (1 << 17) / m->k / TILE_COLS * TILE_COLS;
    if (cols < 4 * TILE_COLS) cols = 4 * TILE_COLS;
    for (int c = 0; c < m->n; c += cols) {
        int c1 = m->n - c < cols ? m->n : c + cols, r = row0;
        for (; r + TILE_ROWS <= row1; r += TILE_ROWS) strip(m, r, TILE_ROWS, c, c1);
        for (; r < row1; r++) strip(m, r, 1, c, c1);
    }
}

/* ---- elementwise ---- */

/* e^x to about 1 ulp (Cephes' expf); 0 below -87.3, so that a masked -infinity gives exactly 0. x <= 88. */
INLINE vf exp_v(vf x)
{
    vi small = x < -87.3f;
    vf magic = broadcast(0x1.8p23f);
    x = (vf)(((vi)x & ~small));
    vf n = FMA(x, broadcast(0x1.715476p0f), magic) - magic; /* round(x / ln 2) */
    vf r = FMA(n, broadcast(-0x1.62e400p-1f), x);
    r = FMA(n, broadcast(-0x1.7f7d1cp-20f), r);
    vf p = broadcast(1.9875691500e-4f);
    p = FMA(p, r, broadcast(1.3981999507e-3f));
    p = FMA(p, r, broadcast(8.3334519073e-3f));
    p = FMA(p, r, broadcast(4.1665795894e-2f));
    p = FMA(p, r, broadcast(1.6666665459e-1f));
    p = FMA(p, r, broadcast(5.0000001201e-1f));
    p = FMA(p, r * r, r) + 1.0f;
    vi scale = (__builtin_convertvector(n, vi) + 127) << 23;
    return (vf)((vi)(p * (vf)scale) & ~small);
}

static void rmsnorm(float *y, const float *x, const float *w, int n, float eps)
{
    struct v16 sum;
    UNROLL for (int i = 0; i < PARTS; i++) sum.p[i] = (vf){0};
    int k = 0;
    for (; k + 16 <= n; k += 16)
        UNROLL for (int i = 0; i < PARTS; i++) {
            vf v = load_f32(x + k + i * VW);
            sum.p[i] = FMA(v, v, sum.p[i]);
        }
    if (k < n) {
        struct v16 v = tail_f32(x + k, n - k);
        UNROLL for (int i = 0; i < PARTS; i++) sum.p[i] = FMA(v.p[i], v.p[i], sum.p[i]);
    }
    float scale = 1.0f / sqrtf(fold(sum) / (float)n + eps);
    for (k = 0; k < n; k++) y[k] = x[k] * scale * w[k];
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0x1.6a09e6p-1f));
}

/* silu(g) = g / (1 + e^-g); below -87 it is under 1e-36: 0. */
INLINE vf silu_v(vf g)
{
    vi low = g < -87.0f;
    vf a = (vf)((vi)g & ~low);
    return a / (1.0f + exp_v(-a));
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + VW <= n; i += VW) store_f32(gate + i, silu_v(load_f32(gate + i)) * load_f32(up + i));
    if (i < n) {
        float g[VW] = {0};
        memcpy(g, gate + i, (n - i) * sizeof *g);
        store_f32(g, silu_v(load_f32(g)));
        for (size_t j = 0; i + j < n; j++) gate[i + j] = g[j] * up[i + j];
    }
}

/* ---- attention ---- */

enum { KEYS = SUR_KEY_BLOCK, KEY_VECTORS = KEYS / VW };

INLINE vf load_kv(const void *p, size_t i, const bool half)
{
    return half ? (vf)LOAD_FP16((const uint16_t *)p + i) : load_f32((const float *)p + i);
}

/* Vectors that four rows of sums may take side by side and still stay in registers. */
enum { STEP = VW == 16 ? 4 : 2 };

/* The first rows that look at a block ask for the next one (NULL: there is none), a piece for each piece they use: all
 * at once would fill the queue of misses, and the sums would wait until the whole block is there. */
INLINE void fetch_kv(const char *next, size_t i, const int vectors, const bool half)
{
    if (next)
        for (int at = 0; at < vectors * VW * (half ? 2 : 4); at += 64)
            __builtin_prefetch(next + i * (half ? 2 : 4) + at, 0, 2);
}

/* score[row][key] = q[row] . k[key]: d ascending, one lane a key. */
INLINE void scores(float (*score)[KEYS], const float *const *q, const int rows, const void *k, const char *next,
                   int head_dim, const bool half)
{
    for (int key = 0; key < KEY_VECTORS; key += STEP) {
        vf acc[4][STEP];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < STEP; s++) acc[r][s] = (vf){0};
        for (int d = 0; d < head_dim; d++) {
            fetch_kv(next, (size_t)d * KEYS + (size_t)key * VW, STEP, half);
            UNROLL for (int s = 0; s < STEP; s++) {
                vf kv = load_kv(k, (size_t)d * KEYS + (size_t)(key + s) * VW, half);
                UNROLL for (int r = 0; r < rows; r++) acc[r][s] = FMA(broadcast(q[r][d]), kv, acc[r][s]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int s = 0; s < STEP; s++) store_f32(score[r] + (key + s) * VW, acc[r][s]);
    }
}

INLINE vf greater(vf a, vf b)
{
    vi take = a > b;
    return (vf)(((vi)a & take) | ((vi)b & ~take));
}

/* Softmax of one row over keys lo .. hi of the block, in place; the rest becomes 0. */
INLINE void softmax_block(float *score, int lo, int hi, float scale, float *max, float *sum)
{
    for (int j = 0; j < lo; j++) score[j] = -INFINITY;
    for (int j = hi + 1; j < KEYS; j++) score[j] = -INFINITY;
    vf most = broadcast(-INFINITY);
    UNROLL for (int j = 0; j < KEY_VECTORS; j++) most = greater(load_f32(score + j * VW), most);
    float m = -INFINITY;
    UNROLL for (int i = 0; i < VW; i++) m = most[i] > m ? most[i] : m;
    struct v16 s;
    UNROLL for (int i = 0; i < PARTS; i++) s.p[i] = (vf){0};
    for (int j = 0; j < KEYS; j += 16)
        UNROLL for (int i = 0; i < PARTS; i++) {
            vf e = exp_v((load_f32(score + j + i * VW) - m) * scale);
            store_f32(score + j + i * VW, e);
            s.p[i] += e;
        }
    *max = m * scale;
    *sum = fold(s);
}

INLINE void weigh_step(float *const *out, float (*p)[KEYS], const int rows, const void *v, const char *next, int stride,
                       int d, const int step, const bool half)
{
    vf acc[4][STEP];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < step; s++) acc[r][s] = (vf){0};
    for (int j = 0; j < KEYS; j++) {
        fetch_kv(next, (size_t)j * (size_t)stride + (size_t)d, step, half);
        UNROLL for (int s = 0; s < step; s++) {
            vf x = load_kv(v, (size_t)j * (size_t)stride + (size_t)(d + s * VW), half);
            UNROLL for (int r = 0; r < rows; r++) acc[r][s] = FMA(broadcast(p[r][j]), x, acc[r][s]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int s = 0; s < step; s++) store_f32(out[r] + d + s * VW, acc[r][s]);
}

/* out[row][d] = sum over keys of p[row][key] * v[key][d]: keys ascending, one lane per d. */
INLINE void weigh(float *const *out, float (*p)[KEYS], const int rows, const void *v, const char *next, int stride,
                  const bool half)
{
    int d = 0;
    for (; d + STEP * VW <= stride; d += STEP * VW) weigh_step(out, p, rows, v, next, stride, d, STEP, half);
    for (; d < stride; d += VW) weigh_step(out, p, rows, v, next, stride, d, 1, half);
}

/* The partial result of a row over the blocks so far; weights are relative to max. */
struct gathered { float max, sum, *o; };

INLINE void merge(struct gathered *g, float max, float sum, const float *o, int n)
{
    if (g->sum == 0) {
        g->max = max;
        g->sum = sum;
        memcpy(g->o, o, (size_t)n * sizeof *o);
        return;
    }
    float m = g->max > max ? g->max : max, both[VW] = {g->max - m, max - m};
    store_f32(both, exp_v(load_f32(both)));
    vf old = broadcast(both[0]), add = broadcast(both[1]);
    g->sum = g->sum * both[0] + sum * both[1];
    g->max = m;
    for (int d = 0; d < n; d += VW) {
        vf t = load_f32(g->o + d) * old;
        store_f32(g->o + d, FMA(load_f32(o + d), add, t));
    }
}

/* 64 keys and values, and the next ones to ask for. */
struct block { const char *k, *v, *next_k, *next_v; };

/* rows (up to 4) consecutive rows of (query, head) against one block, of which each sees at least one key. */
INLINE void attend_rows(const struct sur_attend *a, int row, const int rows, int64_t block, const struct block *b,
                        const bool half)
{
    float score[4][KEYS];
    const float *q[4];
    const size_t state_size = (size_t)a->v_stride + 2;
    float *partial[4], *state = a->scratch, *spare = state + (size_t)(a->n_queries * a->group) * state_size;
    UNROLL for (int r = 0; r < rows; r++) {
        q[r] = a->q + (size_t)((row + r) / a->group) * a->q_stride + (size_t)((row + r) % a->group * a->head_dim);
        partial[r] = spare + r * a->v_stride;
    }
    scores(score, q, rows, b->k, b->next_k, a->head_dim, half);
    float max[4], sum[4];
    UNROLL for (int r = 0; r < rows; r++) {
        int64_t at = a->first + (row + r) / a->group, lo = at - a->window + 1 - block * KEYS, hi = at - block * KEYS;
        lo = lo < 0 ? 0 : lo;
        hi = hi > KEYS - 1 ? KEYS - 1 : hi;
        softmax_block(score[r], (int)lo, (int)hi, a->scale, max + r, sum + r);
    }
    weigh(partial, score, rows, b->v, b->next_v, a->v_stride, half);
    UNROLL for (int r = 0; r < rows; r++) {
        float *s = state + (size_t)(row + r) * state_size;
        struct gathered g = {s[0], s[1], s + 2};
        merge(&g, max[r], sum[r], partial[r], a->v_stride);
        s[0] = g.max;
        s[1] = g.sum;
    }
}

INLINE void attend_blocks(const struct sur_attend *a, const bool half)
{
    const int n_rows = a->n_queries * a->group;
    const size_t state = (size_t)a->v_stride + 2, block_bytes = KEYS * (half ? 2 : 4);
    const size_t k_bytes = (size_t)a->head_dim * block_bytes, v_bytes = (size_t)a->v_stride * block_bytes;
    int64_t oldest = a->first - a->window + 1, last = (a->first + a->n_queries - 1) / KEYS;
    for (int r = 0; r < n_rows; r++) a->scratch[(size_t)r * state + 1] = 0;
    for (int64_t b = oldest > 0 ? oldest / KEYS : 0; b <= last; b++) {
        size_t at = (size_t)(b % a->n_blocks), next = (size_t)((b + 1) % a->n_blocks);
        const char *k = a->k, *v = a->v;
        struct block kv = {k + at * k_bytes, v + at * v_bytes, b < last ? k + next * k_bytes : NULL,
                           b < last ? v + next * v_bytes : NULL};
        /* queries that see any key of this block: positions from its first key to its last key + window - 1 */
        int64_t q0 = b * KEYS - a->first, q1 = b * KEYS + KEYS - 1 + a->window - a->first;
        int row = (int)(q0 > 0 ? q0 : 0) * a->group, end = (int)(q1 < a->n_queries ? q1 : a->n_queries) * a->group;
        for (; row + 4 <= end; row += 4) {
            attend_rows(a, row, 4, b, &kv, half);
            kv.next_k = kv.next_v = NULL;
        }
        for (; row < end; row++) attend_rows(a, row, 1, b, &kv, half);
    }
    for (int r = 0; r < n_rows; r++) {
        const float *s = a->scratch + (size_t)r * state;
        float *out = a->out + (size_t)(r / a->group) * a->out_stride + (size_t)(r % a->group) * (size_t)a->head_dim;
        for (int d = 0; d < a->head_dim; d++) out[d] = s[2 + d] / s[1];
    }
}

static void attend(const struct sur_attend *a)
{
    if (a->type == SUR_KV_FP16) attend_blocks(a, true);
    else attend_blocks(a, false);
}

const struct sur_cpu_ops OPS = {OPS_NAME, matmul, rmsnorm, gelu, silu_mul, attend};

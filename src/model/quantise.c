/* Quantisers. Q8_0 rounds; Q4_K, Q5_K and Q6_K search: for each group the scale (and minimum) of least squared error,
 * then for each block the scales' common scale, over which they are rounded and searched again.
 *
 * The bytes are the same on every machine: sums run in eight lanes that are folded in a fixed order, and the file is
 * compiled without contraction into fused multiply-adds. */
#include <math.h>
#include <string.h>

#include "model/blocks.h"

enum { LANES = 8, K_VALUES = 256, K_GROUPS = 8, SIXTEENS = 16, ROUNDS = 3, STEPS = 5 };

/* Sum of a[i] * b[i]; n is a multiple of LANES. */
static float dot(const float *a, const float *b, int n)
{
    float lane[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += a[i + l] * b[i + l];
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

/* Sum of w[i] * (scale * q[i] - minimum - x[i])^2. */
static float squared_error(const float *x, const float *w, const float *q, int n, float scale, float minimum)
{
    float lane[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = scale * q[i + l] - minimum - x[i + l];
            lane[l] += w[i + l] * (e * e);
        }
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

/* q[i] = (x[i] + minimum) * inverse, to nearest, within low to high. */
static void assign(const float *x, int n, float inverse, float minimum, float low, float high, float *q)
{
    for (int i = 0; i < n; i++) {
        float v = (x[i] + minimum) * inverse - low; /* at least 0, so that truncation rounds down */
        v = v > 0 ? v : 0;
        v = v < high - low ? v : high - low;
        q[i] = (float)(int)(v + 0.5f) + low;
    }
}

/* Weights of the squared error: large values count more. With these shares the error is not above that of the published
 * quantisers in any of three measures: plain, times |x|, or times x^2, which theirs of Q6_K minimises. */
static void weigh(const float *x, int n, float share, float *w)
{
    float mean = dot(x, x, n) / (float)n;
    for (int i = 0; i < n; i++) w[i] = mean + share * x[i] * x[i];
}

static void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static float inverse_of(float v)
{
    return v != 0 ? 1 / v : 0;
}

/* ---- Q8_0 ---- */

static void block_q8_0(const float *x, uint8_t *block)
{
    float most = 0;
    for (int i = 0; i < SUR_BLOCK_GROUP; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float d = most / 127, inverse = inverse_of(d);
    put_u16(block, sur_f32_to_fp16(d));
    for (int i = 0; i < SUR_BLOCK_GROUP; i++) {
        float v = x[i] * inverse, whole = truncf(v);
        block[2 + i] = (uint8_t)(int8_t)(whole + truncf(2 * (v - whole))); /* halves away from zero */
    }
}

/* ---- Q4_K, Q5_K ---- */

struct group {
    float x[SUR_BLOCK_GROUP], w[SUR_BLOCK_GROUP], q[SUR_BLOCK_GROUP];
    float scale, minimum; /* the best before they are rounded */
    int sc, m;
};

/* The scale and the minimum (at least 0) of least error for q. wx: w x. sw, sx: sums of w and w x. False where q are
 * all the same; two values that differ in one of 32 make det / (sw sqq) at least 1e-4 or so, rounding 1e-6. */
static bool fit(const struct group *g, const float *wx, float sw, float sx, float *scale, float *minimum)
{
    float wq[SUR_BLOCK_GROUP];
    for (int i = 0; i < SUR_BLOCK_GROUP; i++) wq[i] = g->w[i] * g->q[i];
    float sq = dot(g->w, g->q, SUR_BLOCK_GROUP), sqq = dot(wq, g->q, SUR_BLOCK_GROUP),
          sxq = dot(wx, g->q, SUR_BLOCK_GROUP), det = sw * sqq - sq * sq;
    if (!(det > 1e-5f * sw * sqq)) return false;
    *scale = (sw * sxq - sx * sq) / det;
    *minimum = (sq * sxq - sqq * sx) / det;
    if (*minimum < 0) {
        *minimum = 0;
        *scale = sxq / sqq;
    }
    return *scale > 0;
}

/* Scale and minimum of a group for itself: from each of several first scales assign, fit, and again while it gets
 * better. */
static void search_group(struct group *g, float top)
{
    float wx[SUR_BLOCK_GROUP], one[SUR_BLOCK_GROUP], low = 0, high = g->x[0], best = INFINITY;
    for (int i = 0; i < SUR_BLOCK_GROUP; i++) {
        wx[i] = g->w[i] * g->x[i];
        one[i] = 1;
        low = g->x[i] < low ? g->x[i] : low;
        high = g->x[i] > high ? g->x[i] : high;
    }
    g->scale = (high - low) / top;
    g->minimum = -low;
    if (high <= low) return; /* all the same, and not above 0 */
    float sw = dot(g->w, one, SUR_BLOCK_GROUP), sx = dot(wx, one, SUR_BLOCK_GROUP);
    for (int step = -STEPS; step <= STEPS; step++) {
        float scale = (high - low) / (top + (float)step / STEPS), minimum = -low, before = INFINITY;
        for (int again = 0; again < ROUNDS; again++) {
            assign(g->x, SUR_BLOCK_GROUP, 1 / scale, minimum, 0, top, g->q);
            if (!fit(g, wx, sw, sx, &scale, &minimum)) break;
            float error = squared_error(g->x, g->w, g->q, SUR_BLOCK_GROUP, scale, minimum);
            if (!(error < before)) break;
            before = error;
            if (!(error < best)) continue;
            best = error;
            g->scale = scale;
            g->minimum = minimum;
        }
    }
}

static int nearest(float v, int most)
{
    int n = (int)(v + 0.5f);
    return n < 0 ? 0 : n > most ? most : n;
}

/* The 6-bit scale and minimum near the best ones that do best once rounded, and their q. Returns the error. */
static float round_group(struct group *g, float d, float dmin, float top)
{
    float q[SUR_BLOCK_GROUP], best = INFINITY;
    int sc0 = nearest(g->scale * inverse_of(d), 63), m0 = nearest(g->minimum * inverse_of(dmin), 63);
    for (int sc = sc0 > 0 ? sc0 - 1 : 0; sc <= sc0 + 1 && sc < 64; sc++)
        for (int m = m0 > 0 ? m0 - 1 : 0; m <= m0 + 1 && m < 64; m++) {
            float scale = d * (float)sc, minimum = dmin * (float)m;
            assign(g->x, SUR_BLOCK_GROUP, inverse_of(scale), minimum, 0, top, q);
            float error = squared_error(g->x, g->w, q, SUR_BLOCK_GROUP, scale, minimum);
            if (!(error < best)) continue;
            best = error;
            g->sc = sc;
            g->m = m;
            memcpy(g->q, q, sizeof q);
        }
    return best;
}

/* d and dmin of least error for the q, scales and minimums that the groups have. */
static void fit_block(const struct group *g, float *d, float *dmin)
{
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0; /* of a = sc q and b = -m */
    for (int i = 0; i < K_GROUPS; i++)
        for (int k = 0; k < SUR_BLOCK_GROUP; k++) {
            double w = (double)g[i].w[k], a = (double)(g[i].q[k] * (float)g[i].sc), b = -(double)g[i].m;
            aa += w * a * a;
            ab += w * a * b;
            bb += w * b * b;
            ax += w * a * (double)g[i].x[k];
            bx += w * b * (double)g[i].x[k];
        }
    double det = aa * bb - ab * ab;
    if (det > 0 && (ax * bb - bx * ab) > 0 && (bx * aa - ax * ab) >= 0) {
        *d = (float)((ax * bb - bx * ab) / det);
        *dmin = (float)((bx * aa - ax * ab) / det);
    } else if (aa > 0 && ax > 0 && bb <= 0) {
        *d = (float)(ax / aa);
    }
}

static void pack_k(const struct group *g, uint16_t d, uint16_t dmin, bool fifth, uint8_t *block)
{
    uint8_t *s = block + 4, *high = fifth ? block + 16 : NULL, *nibbles = block + (fifth ? 48 : 16);
    put_u16(block, d);
    put_u16(block + 2, dmin);
    for (int i = 0; i < 4; i++) {
        s[i] = (uint8_t)(g[i].sc | (g[i + 4].sc >> 4) << 6);
        s[i + 4] = (uint8_t)(g[i].m | (g[i + 4].m >> 4) << 6);
        s[i + 8] = (uint8_t)((g[i + 4].sc & 15) | (g[i + 4].m & 15) << 4);
    }
    if (high) memset(high, 0, SUR_BLOCK_GROUP);
    for (int i = 0; i < K_GROUPS; i++)
        for (int k = 0; k < SUR_BLOCK_GROUP; k++) {
            int q = (int)g[i].q[k];
            uint8_t *n = &nibbles[i / 2 * SUR_BLOCK_GROUP + k];
            *n = (uint8_t)(i % 2 ? *n | (q & 15) << 4 : q & 15);
            if (high) high[k] = (uint8_t)(high[k] | (q >> 4) << i);
        }
}

static void block_k(const float *x, bool fifth, uint8_t *block)
{
    struct group groups[K_GROUPS];
    float top = fifth ? 31 : 15, most_scale = 0, most_minimum = 0, best = 0;
    memset(block, 0, sur_block_bytes(fifth ? SUR_WEIGHT_Q5_K : SUR_WEIGHT_Q4_K));
    for (int i = 0; i < K_GROUPS; i++) {
        struct group *g = &groups[i];
        memcpy(g->x, x + i * SUR_BLOCK_GROUP, sizeof g->x);
        weigh(g->x, SUR_BLOCK_GROUP, 0.25f, g->w);
        search_group(g, top);
        best += squared_error(g->x, g->w, g->x, SUR_BLOCK_GROUP, 0, 0); /* of nothing but zeros */
        most_scale = g->scale > most_scale ? g->scale : most_scale;
        most_minimum = g->minimum > most_minimum ? g->minimum : most_minimum;
    }
    float d = most_scale / 63, dmin = most_minimum / 63;
    for (int again = 0; again < ROUNDS; again++) {
        uint16_t d16 = sur_f32_to_fp16(d), dmin16 = sur_f32_to_fp16(dmin);
        float error = 0;
        for (int i = 0; i < K_GROUPS; i++)
            error += round_group(&groups[i], sur_fp16_to_f32(d16), sur_fp16_to_f32(dmin16), top);
        if (!(error < best)) break;
        best = error;
        pack_k(groups, d16, dmin16, fifth, block);
        fit_block(groups, &d, &dmin);
    }
}

/* ---- Q6_K ---- */

struct sixteen {
    float x[SIXTEENS], w[SIXTEENS], q[SIXTEENS];
    float scale; /* of either sign: one end of q's range is larger than the other */
    int sc;
};

static void search_sixteen(struct sixteen *g)
{
    float wx[SIXTEENS], wq[SIXTEENS], most = 0, best = 0;
    for (int i = 0; i < SIXTEENS; i++) {
        wx[i] = g->w[i] * g->x[i];
        most = fabsf(g->x[i]) > fabsf(most) ? g->x[i] : most;
    }
    g->scale = 0;
    if (most == 0) return;
    for (int step = -STEPS; step <= STEPS; step++)
        for (int sign = -1; sign <= 1; sign += 2) {
            float scale = most / ((float)sign * (32 + (float)step / STEPS));
            for (int again = 0; again < ROUNDS; again++) {
                assign(g->x, SIXTEENS, 1 / scale, 0, -32, 31, g->q);
                for (int i = 0; i < SIXTEENS; i++) wq[i] = g->w[i] * g->q[i];
                float xq = dot(wx, g->q, SIXTEENS), qq = dot(wq, g->q, SIXTEENS);
                if (!(qq > 0) || xq == 0) break;
                scale = xq / qq;
                if (!(xq * scale > best)) break; /* by so much the error is smaller than with nothing */
                best = xq * scale;
                g->scale = scale;
            }
        }
}

static float round_sixteen(struct sixteen *g, float d)
{
    float q[SIXTEENS], best = INFINITY, v = g->scale * inverse_of(d);
    int sc0 = (int)(v < -128 ? -128 : v > 127 ? 127 : v + (v < 0 ? -0.5f : 0.5f));
    for (int sc = sc0 - 1; sc <= sc0 + 1; sc++) {
        if (sc < -128 || sc > 127) continue;
        float scale = d * (float)sc;
        assign(g->x, SIXTEENS, inverse_of(scale), 0, -32, 31, q);
        float error = squared_error(g->x, g->w, q, SIXTEENS, scale, 0);
        if (!(error < best)) continue;
        best = error;
        g->sc = sc;
        memcpy(g->q, q, sizeof q);
    }
    return best;
}

static void pack_6(const struct sixteen *g, uint16_t d, uint8_t *block)
{
    memset(block, 0, 192);
    put_u16(block + 208, d);
    for (int i = 0; i < K_VALUES; i++) {
        int q = (int)g[i / SIXTEENS].q[i % SIXTEENS] + 32, group = i / 32, k = i % 32;
        uint8_t *low = &block[group / 4 * 64 + group % 2 * 32 + k], *high = &block[128 + group / 4 * 32 + k];
        *low = (uint8_t)(*low | (q & 15) << group % 4 / 2 * 4);
        *high = (uint8_t)(*high | (q >> 4) << group % 4 * 2);
    }
    for (int i = 0; i < SIXTEENS; i++) block[192 + i] = (uint8_t)(int8_t)g[i].sc;
}

static float fit_sixteens(const struct sixteen *g, float d)
{
    double aa = 0, ax = 0;
    for (int i = 0; i < K_VALUES; i++) {
        const struct sixteen *s = &g[i / SIXTEENS];
        double a = (double)(s->q[i % SIXTEENS] * (float)s->sc), w = (double)s->w[i % SIXTEENS];
        aa += w * a * a;
        ax += w * a * (double)s->x[i % SIXTEENS];
    }
    return aa > 0 ? (float)(ax / aa) : d;
}

static void block_q6_k(const float *x, uint8_t *block)
{
    struct sixteen groups[SIXTEENS];
    float most = 0, best = 0;
    memset(block, 0, sur_block_bytes(SUR_WEIGHT_Q6_K));
    for (int i = 0; i < SIXTEENS; i++) {
        struct sixteen *g = &groups[i];
        memcpy(g->x, x + i * SIXTEENS, sizeof g->x);
        weigh(g->x, SIXTEENS, 1, g->w);
        search_sixteen(g);
        best += squared_error(g->x, g->w, g->x, SIXTEENS, 0, 0); /* of nothing but zeros */
        most = fabsf(g->scale) > fabsf(most) ? g->scale : most;
    }
    float d = most / -128;
    for (int again = 0; again < ROUNDS; again++) {
        uint16_t d16 = sur_f32_to_fp16(d);
        float error = 0;
        for (int i = 0; i < SIXTEENS; i++) error += round_sixteen(&groups[i], sur_fp16_to_f32(d16));
        if (!(error < best)) break;
        best = error;
        pack_6(groups, d16, block);
        d = fit_sixteens(groups, d);
    }
}

/* ---- rows ---- */

static uint16_t to_bf16(float f) /* nearest even */
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void sur_quantise_row(enum sur_weight_type type, const float *values, int cols, void *row)
{
    uint8_t *to = row;
    for (int i = 0; i < cols; i += sur_block_values(type), to += sur_block_bytes(type)) {
        const float *x = values + i;
        if (type == SUR_WEIGHT_F32)
            memcpy(to, x, sizeof *x);
        else if (type == SUR_WEIGHT_F16)
            put_u16(to, sur_f32_to_fp16(*x));
        else if (type == SUR_WEIGHT_BF16)
            put_u16(to, to_bf16(*x));
        else if (type == SUR_WEIGHT_Q8_0)
            block_q8_0(x, to);
        else if (type == SUR_WEIGHT_Q6_K)
            block_q6_k(x, to);
        else
            block_k(x, type == SUR_WEIGHT_Q5_K, to);
    }
}

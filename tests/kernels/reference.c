#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

void ref_input(double *x, const float *from, const float *norm, const struct sur_gpu_input *in, int k, int pitch, int n)
{
    for (int c = 0; c < n; c++) {
        double *column = x + (size_t)c * (size_t)pitch;
        memset(column, 0, (size_t)pitch * sizeof *column);
        for (int i = 0; i < k; i++) {
            size_t row = in->taps ? (size_t)(c * in->taps + i % 3) : (size_t)c;
            column[i] = (double)from[row * (size_t)in->stride + (size_t)(in->taps ? i / 3 : i)];
        }
        for (int run = 0; norm && run < k; run += in->norm_k) {
            double sum = 0;
            for (int i = 0; i < in->norm_k; i++) sum += column[run + i] * column[run + i];
            double scale = 1 / sqrt(sum / in->norm_k + (double)in->eps);
            for (int i = 0; i < in->norm_k; i++) column[run + i] *= scale * (double)norm[i];
        }
    }
}

void ref_squares(float *squares, const float *x, int n)
{
    for (int from = 0; from < n; from += 8) {
        float s[8] = {0};
        for (int i = 0; i < 8 && from + i < n; i++) s[i] = x[from + i] * x[from + i];
        squares[from / 8] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
}

float ref_scale(const float *squares, int n, float eps)
{
    float lanes[32] = {0};
    for (int i = 0; i < (n + 7) / 8; i++) lanes[i % 32] += squares[i];
    for (int step = 16; step; step /= 2)
        for (int l = 0; l < step; l++) lanes[l] += lanes[l + step]; /* as the butterflies do for lane 0 */
    return 1 / sqrtf(lanes[0] / (float)n + eps);
}

struct product_job {
    const struct ref_sums *s;
    const uint16_t *w;
    const double *x;
    int rows, pitch, n;
};

enum { LANES = 8 }; /* pitch is a multiple; lanes let the compiler use vectors */

static void product_row(void *arg, int r)
{
    const struct product_job *j = arg;
    size_t pitch = (size_t)j->pitch;
    double *w = malloc(pitch * sizeof *w);
    if (!w) exit(1);
    for (size_t i = 0; i < pitch; i++) w[i] = (double)from_bf16(j->w[(size_t)r * pitch + i]);
    for (int c = 0; c < j->n; c++) {
        const double *x = j->x + (size_t)c * pitch;
        double sum[LANES] = {0}, size[LANES] = {0}, square[LANES] = {0};
        for (size_t i = 0; i < pitch; i += LANES)
            for (int l = 0; l < LANES; l++) {
                double term = w[i + (size_t)l] * x[i + (size_t)l];
                sum[l] += term;
                size[l] += fabs(term);
                square[l] += term * term;
            }
        for (int l = 1; l < LANES; l++) sum[0] += sum[l], size[0] += size[l], square[0] += square[l];
        size_t at = (size_t)c * (size_t)j->rows + (size_t)r;
        j->s->sum[at] = sum[0];
        j->s->size[at] = size[0];
        j->s->root[at] = sqrt(square[0]);
    }
    free(w);
}

void ref_product(const struct ref_sums *s, const uint16_t *w, const double *x, int rows, int pitch, int n)
{
    struct product_job job = {s, w, x, rows, pitch, n};
    in_parallel(product_row, &job, rows);
}

double ref_gelu(double x)
{
    return 0.5 * x * (1 + erf(x / sqrt(2.0)));
}

double ref_silu_mul(double gate, double up)
{
    return gate / (1 + exp(-gate)) * up;
}

void ref_rotation(float *cos_sin, int64_t position, const float *inv, int half)
{
    for (int j = 0; j < half; j++) {
        double angle = (double)position * (double)inv[j];
        cos_sin[2 * j] = (float)cos(angle);
        cos_sin[2 * j + 1] = (float)sin(angle);
    }
}

/* ---- attention ---- */

int ref_ring_dp(int head_dim)
{
    return (head_dim + 63) / 64 * 64;
}

size_t ref_ring_size(const struct sur_gpu_ring *r)
{
    return (size_t)r->n_kv_heads * (size_t)r->n_blocks * SUR_GPU_KEYS * (size_t)r->dp;
}

size_t ref_ring_index(const struct sur_gpu_ring *r, bool value, int head, int e, int64_t p)
{
    size_t block = (size_t)(p / SUR_GPU_KEYS % r->n_blocks), dp = (size_t)r->dp;
    int slot = (int)(p % SUR_GPU_KEYS), in_block = value ? sur_gpu_value_at(slot, e) : sur_gpu_key_at(slot, e, r->dp);
    return ((size_t)head * (size_t)r->n_blocks + block) * SUR_GPU_KEYS * dp + (size_t)in_block;
}

static double ring_get(const struct ref_attend *a, bool value, int head, int e, int64_t p)
{
    size_t i = ref_ring_index(a->ring, value, head, e, p);
    const void *from = value ? a->v : a->k;
    return (double)(a->ring->fp32 ? ((const float *)from)[i] : from_fp16(((const uint16_t *)from)[i]));
}

struct attend_job {
    const struct ref_attend *a;
    double *out, *size, *root, *spread;
};

static void attend_row(void *arg, int row)
{
    const struct attend_job *j = arg;
    const struct ref_attend *a = j->a;
    int d = a->ring->head_dim, i = row / a->n_heads, head = row % a->n_heads;
    int kv = head / (a->n_heads / a->ring->n_kv_heads);
    int64_t at = a->first + i, from = at - a->window + 1 > 0 ? at - a->window + 1 : 0;
    const float *q = a->q + (size_t)row * (size_t)d;
    double *p = malloc((size_t)(at - from + 1) * sizeof *p), max = -INFINITY, total = 0, spread = 0;
    if (!p) exit(1);
    for (int64_t key = from; key <= at; key++) {
        double s = 0, size = 0;
        for (int e = 0; e < d; e++) {
            double term = (double)q[e] * ring_get(a, false, kv, e, key);
            s += term;
            size += fabs(term);
        }
        p[key - from] = s * a->scale;
        max = fmax(max, s * a->scale);
        spread = fmax(spread, size * a->scale);
    }
    for (int64_t key = from; key <= at; key++) total += p[key - from] = exp(p[key - from] - max);
    for (int e = 0; e < d; e++) {
        double sum = 0, size = 0, square = 0;
        for (int64_t key = from; key <= at; key++) {
            double term = p[key - from] * ring_get(a, true, kv, e, key);
            sum += term;
            size += fabs(term);
            square += term * term;
        }
        j->root[(size_t)row * (size_t)d + (size_t)e] = sqrt(square) / total;
        j->out[(size_t)row * (size_t)d + (size_t)e] = sum / total;
        j->size[(size_t)row * (size_t)d + (size_t)e] = size / total;
    }
    j->spread[row] = spread;
    free(p);
}

void ref_attend(const struct ref_attend *a, double *out, double *size, double *root, double *spread)
{
    struct attend_job job = {a, out, size, root, spread};
    in_parallel(attend_row, &job, a->n * a->n_heads);
}

void ref_top(struct sur_gpu_top *top, const float *y, int n)
{
    for (int i = 0; i < SUR_GPU_TOP; i++) {
        int best = -1;
        for (int r = 0; r < n; r++) {
            bool taken = false;
            for (int j = 0; j < i; j++) taken |= top->id[j] == r;
            if (!taken && (best < 0 || (isfinite(y[best]) && y[r] > y[best]) || (!isfinite(y[r]) && isfinite(y[best]))))
                best = r;
        }
        top->id[i] = best;
        top->value[i] = best < 0 || !isfinite(y[best]) ? NAN : y[best];
    }
}

#include "ref_ops.h"

#include <math.h>

#include "util/half.h"

void sur_ref_matmul(const struct sur_matmul *m, int row0, int row1)
{
    for (int c = 0; c < m->n; c++)
        for (int r = row0; r < row1; r++) {
            double sum = m->bias ? (double)m->bias[r] : 0;
            for (int k = 0; k < m->k; k++)
                sum += (double)sur_bf16_to_f32(m->w[(size_t)r * m->w_stride + (size_t)k]) *
                       (double)m->x[(size_t)c * m->x_stride + (size_t)k];
            float *y = m->y + (size_t)c * m->y_stride + r;
            *y = (float)(m->accumulate ? (double)*y + sum : sum);
        }
}

void sur_ref_rmsnorm(float *y, const float *x, const float *w, int n, float eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    double scale = 1 / sqrt(sum / n + (double)eps);
    for (int i = 0; i < n; i++) y[i] = (float)((double)x[i] * scale * (double)w[i]);
}

void sur_ref_gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(0.5 * (double)x[i] * (1 + erf((double)x[i] / sqrt(2.0))));
}

void sur_ref_silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) gate[i] = (float)((double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i]);
}

static double element(const void *ring, enum sur_kv_type type, size_t at)
{
    return (double)(type == SUR_KV_FP16 ? sur_fp16_to_f32(((const uint16_t *)ring)[at]) : ((const float *)ring)[at]);
}

void sur_ref_attend(const struct sur_attend *a)
{
    static _Thread_local double p[4096];
    size_t d = (size_t)a->head_dim, stride = (size_t)a->v_stride;
    for (int i = 0; i < a->n_queries; i++)
        for (int g = 0; g < a->group; g++) {
            const float *q = a->q + (size_t)i * a->q_stride + (size_t)g * d;
            float *out = a->out + (size_t)i * a->out_stride + (size_t)g * d;
            int64_t at = a->first + i, from = at - a->window + 1 > 0 ? at - a->window + 1 : 0;
            double max = -INFINITY, sum = 0;
            for (int64_t j = from; j <= at; j++) {
                size_t block = (size_t)(j / SUR_KEY_BLOCK % a->n_blocks), slot = (size_t)(j % SUR_KEY_BLOCK);
                double s = 0;
                for (size_t e = 0; e < d; e++)
                    s += (double)q[e] * element(a->k, a->type, (block * d + e) * SUR_KEY_BLOCK + slot);
                p[j - from] = s * (double)a->scale;
                max = fmax(max, p[j - from]);
            }
            for (int64_t j = from; j <= at; j++) sum += p[j - from] = exp(p[j - from] - max);
            for (size_t e = 0; e < d; e++) {
                double o = 0;
                for (int64_t j = from; j <= at; j++) {
                    size_t row =
                        (size_t)(j / SUR_KEY_BLOCK % a->n_blocks) * SUR_KEY_BLOCK + (size_t)(j % SUR_KEY_BLOCK);
                    o += p[j - from] * element(a->v, a->type, row * stride + e);
                }
                out[e] = (float)(o / sum);
            }
        }
}

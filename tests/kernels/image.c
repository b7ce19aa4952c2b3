#include "image.h"

#include <math.h>
#include <string.h>

#include "harness.h"

void image_init(struct image *m, const char *name, enum image_type type, size_t n)
{
    size_t n_bytes = n * (type == IMAGE_F16 ? 2 : 4);
    *m = (struct image){.name = name, .type = type, .n = n, .n_bytes = n_bytes, .at = memory_new(name, n_bytes)};
    m->initial = host_new(n_bytes, 1);
    m->found = host_new(n_bytes, 1);
    m->want = host_new(n, sizeof(double));
    m->bound = host_new(n, sizeof(double));
    for (size_t i = 0; i < n_bytes; i++) m->initial[i] = i % 2 ? 0xff : 0xc5;
    for (size_t i = 0; i < n; i++) m->want[i] = NAN;
}

void image_reset(const struct image *m)
{
    memory_put(m->at, m->initial, m->n_bytes);
}

void image_read(struct image *m)
{
    memory_get(m->found, m->at, m->n_bytes);
}

void image_want(struct image *m, size_t i, double want, double bound)
{
    m->want[i] = want;
    m->bound[i] = bound;
}

static bool is_split(const struct image *m)
{
    return m->type == IMAGE_SPLIT || m->type == IMAGE_FRAGMENTS;
}

/* Where element i's high half lies, in 16-bit numbers, and its low one. */
static size_t high_at(const struct image *m, size_t i)
{
    const size_t pitch = m->n / SUR_GPU_SKINNY_COLUMNS, column = i / pitch * SUR_GPU_FRAGMENT;
    return m->type == IMAGE_SPLIT ? i : column + (size_t)sur_gpu_fragment_at((int)(i % pitch));
}

static size_t low_at(const struct image *m, size_t i)
{
    return high_at(m, i) + (m->type == IMAGE_SPLIT ? m->n : SUR_GPU_LOW);
}

static uint16_t half_at(const struct image *m, size_t i)
{
    uint16_t h;
    memcpy(&h, m->found + 2 * i, 2);
    return h;
}

double image_value(const struct image *m, size_t i)
{
    float f;
    if (m->type == IMAGE_F16) return (double)from_fp16(half_at(m, i));
    if (is_split(m)) return (double)from_bf16(half_at(m, high_at(m, i))) + (double)from_bf16(half_at(m, low_at(m, i)));
    memcpy(&f, m->found + 4 * i, 4);
    return (double)f;
}

static bool untouched(const struct image *m, size_t i)
{
    size_t size = m->type == IMAGE_F32 ? 4 : 2, first = is_split(m) ? high_at(m, i) : i;
    if (memcmp(m->found + first * size, m->initial + first * size, size)) return false;
    return !is_split(m) || !memcmp(m->found + low_at(m, i) * 2, m->initial + low_at(m, i) * 2, 2);
}

const char *image_compare_split(const struct image *m, size_t i, float x)
{
    uint16_t hi = half_at(m, high_at(m, i)), lo = half_at(m, low_at(m, i));
    uint16_t want_hi = to_bf16(x), want_lo = to_bf16(x - from_bf16(want_hi));
    if (hi == want_hi && lo == want_lo) return NULL;
    return text("%s: element %zu, %.9g, is split %04x, %04x, not %04x, %04x", m->name, i, (double)x, hi, lo, want_hi,
                want_lo);
}

const char *image_compare(const struct image *m, double *worst)
{
    for (size_t i = 0; i < m->n; i++) {
        if (isnan(m->want[i])) {
            if (!untouched(m, i)) return text("%s: element %zu was written", m->name, i);
            continue;
        }
        double found = image_value(m, i), error = fabs(found - m->want[i]);
        if (!(error <= m->bound[i]))
            return text("%s: element %zu is %.9g, not %.9g: off by %.3g, bound %.3g", m->name, i, found, m->want[i],
                        error, m->bound[i]);
        if (m->bound[i] > 0 && error / m->bound[i] > *worst) *worst = error / m->bound[i];
    }
    return NULL;
}

double image_statistic(const struct image *m)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; m->root && i < m->n; i++) {
        if (isnan(m->want[i]) || m->root[i] == 0) continue;
        double share = (image_value(m, i) - m->want[i]) / m->root[i];
        sum += share * share;
        n++;
    }
    return n ? sqrt(sum / (double)n) : 0;
}

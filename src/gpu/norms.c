#include "gpu/norms.h"

#include <math.h>
#include <stdlib.h>

#include "util/error.h"

void gpu_norms_init(struct gpu_norms_cache *cache, struct gpu *g, const struct gpu_tower *decoder,
                    const struct sur_checkpoint *checkpoint)
{
    *cache = (struct gpu_norms_cache){.gpu = g, .decoder = decoder, .checkpoint = checkpoint};
    pthread_mutex_init(&cache->lock, NULL);
}

void gpu_norms_finish(struct gpu_norms_cache *cache)
{
    pthread_mutex_destroy(&cache->lock);
}

/* y = W x on the CPU: computed once per delay. row [w->cols] is scratch. */
static void multiply(const struct sur_view *w, const float *x, float *y, float *row)
{
    for (int r = 0; r < w->rows; r++) {
        sur_dequantise_row(w->type, sur_view_row(w, r), w->cols, row);
        double sum = 0;
        for (int k = 0; k < w->cols; k++) sum += (double)row[k] * (double)x[k];
        y[r] = (float)sum;
    }
}

/* ffn_norm * (1 + W2(GELU(W0(t)))), t from the delay: what replaces each layer's ffn norm. */
static int fold(const struct gpu_norms_cache *cache, const struct gpu_norms *norms)
{
    const struct sur_params *p = &cache->checkpoint->params;
    size_t dim = (size_t)p->decoder.dim, n_ada = (size_t)p->ada_dim;
    float *t = malloc(sizeof *t * (3 * dim + 2 * n_ada));
    if (!t) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    float *ada = t + dim, *folded = ada + n_ada, *row = folded + dim;
    for (size_t i = 0; i < dim / 2; i++) {
        double angle = norms->delay * exp(-log(10000.0) * (double)i / (double)(dim / 2));
        t[i] = (float)cos(angle);
        t[dim / 2 + i] = (float)sin(angle);
    }
    int r = SUR_OK;
    for (int l = 0; !r && l < p->decoder.n_layers; l++) {
        const struct sur_layer *w = &cache->checkpoint->weights.decoder[l];
        multiply(&w->ada0, t, ada, row);
        for (int i = 0; i < p->ada_dim; i++) ada[i] = 0.5f * ada[i] * (1.0f + erff(ada[i] * 0x1.6a09e6p-1f));
        multiply(&w->ada2, ada, folded, row);
        sur_view_widen(&w->ffn_norm, row);
        for (size_t i = 0; i < dim; i++) folded[i] = row[i] * (1.0f + folded[i]);
        r = CHECK(cuMemcpyHtoD(gpu_norm_at(norms->at, &p->decoder, l, true), folded, dim * 4));
    }
    free(t);
    /* the sessions' streams do not wait for the default one */
    return r ? r : CHECK(cuStreamSynchronize(CU_STREAM_LEGACY));
}

static int make(struct gpu_norms **norms, struct gpu_norms_cache *cache, int delay)
{
    const size_t n_bytes = gpu_norms_bytes(cache->decoder->shape);
    struct gpu_norms *n = calloc(1, sizeof *n);
    if (!n) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    n->delay = delay;
    int r = gpu_allocate(cache->gpu, &n->at, n_bytes, false);
    if (!r) r = CHECK(cuMemcpyDtoD(n->at, cache->decoder->norms, n_bytes));
    if (!r) r = fold(cache, n);
    if (r) {
        gpu_free(cache->gpu, &n->at, n_bytes);
        free(n);
        return r;
    }
    n->next = cache->first;
    cache->first = *norms = n;
    return SUR_OK;
}

int gpu_norms_acquire(struct gpu_norms **norms, struct gpu_norms_cache *cache, int delay)
{
    int r = SUR_OK;
    pthread_mutex_lock(&cache->lock);
    *norms = cache->first;
    while (*norms && (*norms)->delay != delay) *norms = (*norms)->next;
    if (!*norms) r = make(norms, cache, delay);
    if (!r) (*norms)->n_users++;
    pthread_mutex_unlock(&cache->lock);
    return r;
}

void gpu_norms_release(struct gpu_norms_cache *cache, struct gpu_norms *norms)
{
    if (!norms) return;
    pthread_mutex_lock(&cache->lock);
    if (--norms->n_users == 0) {
        struct gpu_norms **at = &cache->first;
        while (*at != norms) at = &(*at)->next;
        *at = norms->next;
        gpu_free(cache->gpu, &norms->at, gpu_norms_bytes(cache->decoder->shape));
        free(norms);
    }
    pthread_mutex_unlock(&cache->lock);
}

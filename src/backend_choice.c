/* Chooses a backend. No other file knows which ones exist. */
#include "backend_choice.h"

#include <stdio.h>

#include "gpu/load.h"
#include "util/error.h"
#include "util/log.h"

enum { WHY_BYTES = 480 };

static int load_cuda(const struct sur_backend **backend, char *why, size_t why_bytes)
{
    return sur_gpu_load(backend, NULL, why, why_bytes);
}

static int load_cpu(const struct sur_backend **backend, char *why, size_t why_bytes)
{
    (void)why;
    (void)why_bytes;
    *backend = &sur_backend_cpu;
    return SUR_OK;
}

/* In the order in which auto tries them. A backend is loaded only when its turn comes. */
static const struct {
    enum sur_backend_kind kind;
    const char *name;
    int (*load)(const struct sur_backend **backend, char *why, size_t why_bytes);
} table[] = {
    {SUR_BACKEND_CUDA, "cuda", load_cuda},
    {SUR_BACKEND_CPU, "cpu", load_cpu},
};

enum { N_BACKENDS = sizeof table / sizeof *table };

const char *sur_backend_name(enum sur_backend_kind kind)
{
    for (int i = 0; i < N_BACKENDS; i++)
        if (table[i].kind == kind) return table[i].name;
    return kind == SUR_BACKEND_AUTO ? "auto" : NULL;
}

static int try_one(int i, const struct sur_backend **backend, char *why, size_t why_bytes)
{
    int r = table[i].load(backend, why, why_bytes);
    return r ? r : (*backend)->probe(why, why_bytes);
}

int sur_backend_choose(const struct sur_backend **backend, enum sur_backend_kind kind)
{
    char why[WHY_BYTES] = "";
    for (int i = 0; i < N_BACKENDS; i++) {
        if (kind != SUR_BACKEND_AUTO && kind != table[i].kind) continue;
        if (try_one(i, backend, why, sizeof why) == SUR_OK) return SUR_OK;
        if (kind != SUR_BACKEND_AUTO)
            return sur_fail(SUR_ERR_BACKEND, "backend %s cannot be used: %s", table[i].name, why);
        sur_log(SUR_LOG_INFO, "backend %s cannot be used: %s", table[i].name, why);
    }
    return sur_fail(SUR_ERR_BACKEND, "no usable backend: %s", why);
}

static int open_one(const struct sur_backend *backend, void **state, const struct sur_checkpoint *checkpoint,
                    const struct sur_model_options *options)
{
    int r = sur_checkpoint_need(checkpoint, backend->weight_types, backend->name);
    return r ? r : backend->open(state, checkpoint, options);
}

/* A usable backend that cannot open this model, because memory is short for instance, is followed by the next with a
 * warning. */
static int open_first(const struct sur_backend **backend, void **state, const struct sur_checkpoint *checkpoint,
                      const struct sur_model_options *options)
{
    char why[WHY_BYTES] = "";
    int r = SUR_ERR_BACKEND;
    for (int i = 0; i < N_BACKENDS; i++) {
        if (try_one(i, backend, why, sizeof why) != SUR_OK) {
            sur_log(SUR_LOG_INFO, "backend %s cannot be used: %s", table[i].name, why);
            continue;
        }
        r = open_one(*backend, state, checkpoint, options);
        if (r != SUR_ERR_BACKEND && r != SUR_ERR_MEMORY) return r;
        if (i + 1 < N_BACKENDS) sur_log(SUR_LOG_WARN, "backend %s cannot be used: %s", table[i].name, sur_error_text());
    }
    return r;
}

/* The CPU refuses options that only CUDA knows. Where the other half is CUDA, they are meant for that half alone. */
static struct sur_model_options options_of(const struct sur_backend *half, const struct sur_model_options *options)
{
    struct sur_model_options o = *options;
    if (half != &sur_backend_cpu) return o;
    if (o.gemm == SUR_GEMM_LT) o.gemm = SUR_GEMM_OWN;
    o.window_attention = SUR_ATTENTION_OWN;
    o.vram_limit_mib = 0;
    o.gpu = -1;
    return o;
}

int sur_backend_open(const struct sur_backend **backend, void **state, const struct sur_checkpoint *checkpoint,
                     const struct sur_model_options *options)
{
    enum sur_backend_kind kinds[2] = {options->encode_on, options->decode_on};
    const struct sur_backend *halves[2];
    *state = NULL;
    for (int i = 0; i < 2; i++) {
        if (kinds[i] == SUR_BACKEND_AUTO) kinds[i] = options->backend;
        if (options->backend != SUR_BACKEND_AUTO && kinds[i] != options->backend)
            return sur_fail(SUR_ERR_ARGUMENT, "encode_on or decode_on conflicts with backend");
    }
    if (kinds[0] == SUR_BACKEND_AUTO && kinds[1] == SUR_BACKEND_AUTO)
        return open_first(backend, state, checkpoint, options);
    for (int i = 0; i < 2; i++) {
        int r = sur_backend_choose(&halves[i], kinds[i]);
        if (r) return r;
    }
    *backend = halves[0];
    if (halves[0] == halves[1]) return open_one(*backend, state, checkpoint, options);
    for (int i = 0; i < 2; i++) {
        int r = sur_checkpoint_need(checkpoint, halves[i]->weight_types, halves[i]->name);
        if (r) return r;
    }
    struct sur_model_options of[2] = {options_of(halves[0], options), options_of(halves[1], options)};
    return sur_split_open(backend, state, halves, checkpoint, of);
}

/* Defaults and checks of the option structs of surtitle.h. */
#include <string.h>

#include "core.h"
#include "util/error.h"

/* A reserved word that is not 0 is a field that this version does not know. */
static int check_reserved(const uint64_t reserved[8])
{
    for (int i = 0; i < 8; i++)
        if (reserved[i])
            return sur_fail(SUR_ERR_ARGUMENT, "options with a field that surtitle " SUR_VERSION " does not know");
    return SUR_OK;
}

/* ---- model ---- */

void sur_model_options_init(struct sur_model_options *o)
{
    if (o) *o = (struct sur_model_options){.gpu = -1};
}

int sur_check_model_options(const struct sur_model_options *o)
{
    if (!o->dir) return sur_fail(SUR_ERR_ARGUMENT, "no model folder was named");
    if (o->threads < 0 || o->threads > 1024) return sur_fail(SUR_ERR_ARGUMENT, "%d threads: 0 to 1024", o->threads);
    if (o->gpu < -1 || o->gpu > 1023) return sur_fail(SUR_ERR_ARGUMENT, "there is no GPU %d", o->gpu);
    if (o->vram_limit_mib < 0)
        return sur_fail(SUR_ERR_ARGUMENT, "a limit of %d MiB of the GPU's memory", o->vram_limit_mib);
    const struct {
        const char *name;
        int value, last;
    } choices[] = {{"backend", (int)o->backend, SUR_BACKEND_CPU},
                   {"backend to encode on", (int)o->encode_on, SUR_BACKEND_CPU},
                   {"backend to decode on", (int)o->decode_on, SUR_BACKEND_CPU},
                   {"kv", (int)o->kv, SUR_KV_FP32},
                   {"gemm", (int)o->gemm, SUR_GEMM_BLAS},
                   {"window attention", (int)o->window_attention, SUR_ATTENTION_GEMM}};
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (choices[i].value < 0 || choices[i].value > choices[i].last)
            return sur_fail(SUR_ERR_ARGUMENT, "there is no %s %d", choices[i].name, choices[i].value);
    int i = 0;
    while (o->cpu && sur_cpu_name(i) && strcmp(o->cpu, sur_cpu_name(i)) != 0) i++;
    if (o->cpu && !sur_cpu_name(i)) return sur_fail(SUR_ERR_ARGUMENT, "there is no instruction set %.40s", o->cpu);
    return check_reserved(o->reserved);
}

/* ---- session ---- */

void sur_session_options_init(struct sur_session_options *o)
{
    if (o) *o = (struct sur_session_options){.rate = SUR_RATE, .channels = 1};
}

int sur_delay_check(int ms)
{
    if (ms == SUR_DELAY_MAX_MS || (ms >= SUR_TOKEN_MS && ms <= 1200 && ms % SUR_TOKEN_MS == 0)) return SUR_OK;
    return sur_fail(SUR_ERR_ARGUMENT, "a delay of %d ms does not exist: 80 to 1200 in steps of 80, or 2400", ms);
}

int sur_check_session_options(const struct sur_session_options *o, int delay_ms, const struct sur_model *m)
{
    int r = sur_delay_check(delay_ms);
    if (!r) r = check_reserved(o->reserved);
    if (r) return r;
    if ((unsigned)o->format > SUR_F32LE || (unsigned)o->mode > SUR_WHOLE || (unsigned)o->resampler > SUR_RESAMPLE_SPEEX)
        return sur_fail(SUR_ERR_ARGUMENT, "there is no format %d, mode %d or resampler %d", (int)o->format,
                        (int)o->mode, (int)o->resampler);
    if (o->n_force && !o->force) return sur_fail(SUR_ERR_ARGUMENT, "n_force is %zu and force is NULL", o->n_force);
    if (o->rate < SUR_RATE_MIN || o->rate > SUR_RATE_MAX)
        return sur_fail(SUR_ERR_ARGUMENT, "a rate of %d Hz: %d to %d", o->rate, SUR_RATE_MIN, SUR_RATE_MAX);
    if (o->channels < 1 || o->channels > SUR_CHANNELS_MAX)
        return sur_fail(SUR_ERR_ARGUMENT, "%d channels: 1 to %d", o->channels, SUR_CHANNELS_MAX);
    if (o->buffer_ms < 0 || o->buffer_ms > 600000)
        return sur_fail(SUR_ERR_ARGUMENT, "a buffer of %d ms: 0 to 600000", o->buffer_ms);
    for (size_t i = 0; i < o->n_force; i++)
        if (o->force[i] < 0 || o->force[i] >= m->checkpoint->params.vocab_size)
            return sur_fail(SUR_ERR_ARGUMENT, "forced token %zu is %d; the model has ids 0 to %d", i, o->force[i],
                            m->checkpoint->params.vocab_size - 1);
    return SUR_OK;
}

#include "audio/resample.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <soxr.h>
#include <speex/speex_resampler.h>

#include "util/error.h"

/* The most that is given to a library in one call, so that its queues stay small. */
enum { MAX_CALL = 4096, SPEEX_QUALITY = 8 };
/* soxr's queues grow to what they once had to hold at the worst moment, so with calls of all sizes they may grow at any
 * time. It gets blocks of one size, a millisecond, and is emptied after each: then calls repeat themselves, and its
 * queues are as large as they become after the first few. */
enum { MIN_BLOCK = 16, MAX_BLOCK = SUR_RATE_MAX / 1000, STAGED = 1024 /* more than a block becomes */ };

struct sur_resampler {
    /* immutable after create; both NULL: a copy */
    int rate;
    soxr_t soxr;
    SpeexResamplerState *speex;
    /* encode thread */
    int64_t n_in, n_out; /* samples ever taken and given */
    size_t n_block, staged_from, staged_to;
    bool more; /* soxr may have more for the last block */
    float block[MAX_BLOCK], staged[STAGED];
};

static int create_soxr(struct sur_resampler *r)
{
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
    soxr_error_t error = NULL;
    r->soxr = soxr_create(r->rate, SUR_RATE, 1, &error, &io, &quality, &runtime);
    if (!r->soxr || error)
        return sur_fail(SUR_ERR_MEMORY, "no resampler from %d Hz: %s", r->rate, error ? error : "no memory");
    return SUR_OK;
}

static int create_speex(struct sur_resampler *r)
{
    int error = RESAMPLER_ERR_SUCCESS;
    r->speex = speex_resampler_init(1, (spx_uint32_t)r->rate, SUR_RATE, SPEEX_QUALITY, &error);
    if (!r->speex)
        return sur_fail(SUR_ERR_MEMORY, "no resampler from %d Hz: %s", r->rate, speex_resampler_strerror(error));
    speex_resampler_skip_zeros(r->speex); /* output 0 stands at input 0, as with soxr */
    return SUR_OK;
}

int sur_resampler_create(struct sur_resampler **resampler, enum sur_resampler_kind kind, int rate)
{
    *resampler = NULL;
    if (rate < SUR_RATE_MIN || rate > SUR_RATE_MAX)
        return sur_fail(SUR_ERR_ARGUMENT, "%d Hz cannot be resampled; %d to %d Hz can", rate, SUR_RATE_MIN,
                        SUR_RATE_MAX);
    if (kind != SUR_RESAMPLE_SOXR && kind != SUR_RESAMPLE_SPEEX)
        return sur_fail(SUR_ERR_ARGUMENT, "resampler kind %d does not exist", (int)kind);
    struct sur_resampler *r = calloc(1, sizeof *r);
    if (!r) return sur_fail(SUR_ERR_MEMORY, "no memory for a resampler");
    r->rate = rate;
    int status = SUR_OK;
    if (rate != SUR_RATE) status = kind == SUR_RESAMPLE_SOXR ? create_soxr(r) : create_speex(r);
    if (status != SUR_OK) sur_resampler_destroy(&r);
    *resampler = r;
    return status;
}

void sur_resampler_destroy(struct sur_resampler **resampler)
{
    if (!resampler || !*resampler) return;
    if ((*resampler)->soxr) soxr_delete((*resampler)->soxr);
    if ((*resampler)->speex) speex_resampler_destroy((*resampler)->speex);
    free(*resampler);
    *resampler = NULL;
}

static size_t block_size(const struct sur_resampler *r)
{
    return r->rate / 1000 > MIN_BLOCK ? (size_t)r->rate / 1000 : MIN_BLOCK;
}

/* Stages what soxr has next; ending: no input will come. False: a block must be filled first, or nothing is left. */
static bool stage(struct sur_resampler *r, bool ending)
{
    static const float none;
    bool feeds = !r->more && (r->n_block == block_size(r) || (ending && r->n_block > 0));
    const float *in = feeds ? r->block : r->more ? &none : NULL;
    size_t used;
    if (!in && !ending) return false;
    r->staged_from = 0;
    /* errors come only from an input callback, which is not used here */
    soxr_process(r->soxr, in, feeds ? r->n_block : 0, &used, r->staged, STAGED, &r->staged_to);
    if (feeds) r->n_block = 0;
    r->more = in && r->staged_to == STAGED;
    return in || r->staged_to > 0;
}

/* One call into soxr, or none; in NULL: the end of input. */
static size_t call_soxr(struct sur_resampler *r, const float *in, size_t n_in, size_t *n_used, float *out,
                        size_t max_out)
{
    size_t n = block_size(r) - r->n_block;
    if (n > n_in) n = n_in;
    if (n) memcpy(r->block + r->n_block, in, n * sizeof *in);
    r->n_block += n;
    *n_used = n;
    while (r->staged_from == r->staged_to)
        if (!stage(r, !in)) return 0;
    n = r->staged_to - r->staged_from;
    if (n > max_out) n = max_out;
    memcpy(out, r->staged + r->staged_from, n * sizeof *out);
    r->staged_from += n;
    return n;
}

/* One call into the library; in NULL: the end of input (soxr alone knows it). */
static size_t call(struct sur_resampler *r, const float *in, size_t n_in, size_t *n_used, float *out, size_t max_out)
{
    size_t n_out = 0;
    if (n_in > MAX_CALL) n_in = MAX_CALL;
    if (max_out > MAX_CALL) max_out = MAX_CALL;
    *n_used = 0;
    if (r->soxr) return call_soxr(r, in, n_in, n_used, out, max_out);
    if (r->speex) {
        spx_uint32_t taken = (spx_uint32_t)n_in, given = (spx_uint32_t)max_out;
        speex_resampler_process_float(r->speex, 0, in, &taken, out, &given);
        *n_used = taken;
        n_out = given;
    } else {
        *n_used = n_out = n_in < max_out ? n_in : max_out;
        memcpy(out, in, n_out * sizeof *out);
    }
    return n_out;
}

/* What is still inside, up to the promised number of samples: soxr knows the end, speex is fed zeros. soxr rounds to
 * the same number, but gives nothing for an input shorter than half an output sample; that one is a zero. */
static size_t flush(struct sur_resampler *r, float *out, size_t max_out)
{
    static const float zeros[256];
    int64_t want = (2 * SUR_RATE * r->n_in + r->rate) / (2 * r->rate);
    if (want == 0 && r->n_in > 0) want = 1;
    size_t left = (size_t)(want - r->n_out), done = 0;
    if (left > max_out) left = max_out;
    while (done < left) {
        size_t used = 0, n_in = r->speex ? sizeof zeros / sizeof *zeros : 0;
        size_t n = call(r, r->speex ? zeros : NULL, n_in, &used, out + done, left - done);
        if (n == 0 && used == 0) {
            memset(out + done, 0, (left - done) * sizeof *out);
            n = left - done;
        }
        done += n;
    }
    r->n_out += (int64_t)done;
    return done;
}

size_t sur_resampler_process(struct sur_resampler *resampler, const float *in, size_t n_in, size_t *n_used, float *out,
                             size_t max_out)
{
    size_t used = 0, done = 0, taken, given;
    *n_used = 0;
    if (!in) return flush(resampler, out, max_out);
    do { /* once more at the end with nothing in: soxr may have kept what did not fit before */
        given = call(resampler, in + used, n_in - used, &taken, out + done, max_out - done);
        used += taken;
        done += given;
    } while ((taken > 0 || given > 0 || used < n_in) && done < max_out);
    resampler->n_in += (int64_t)used;
    resampler->n_out += (int64_t)done;
    *n_used = used;
    return done;
}

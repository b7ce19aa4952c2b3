/*
 * surtitle: captions while somebody speaks.
 *
 * This is the library's only public header, and its manual. It includes nothing of the project, so every part of
 * the project may include it.
 *
 * A model (weights, vocabulary, backend) is opened once and shared by any number of sessions. A session turns one
 * stream of samples into tokens, text and groups of words, for ever: neither silence nor an end-of-sequence token
 * ends it.
 *
 * Threads. Three groups of calls may run at the same time on one session, one thread in each group:
 *   feed    sur_session_feed, sur_session_skip, sur_session_flush, sur_session_finish
 *   encode  sur_session_encode
 *   decode  sur_session_decode, sur_session_poll
 * sur_session_stop may come from any thread and from a signal handler. sur_session_run stands for encode and decode
 * together. Which thread does what, how samples arrive and how busy the machine is never change a bit of the result.
 *
 * Times are counted in samples at 16 kHz from the first sample fed. Text is valid UTF-8 without control characters.
 *
 * Arguments. Every call checks what it is given: NULL where an object or an output is needed, numbers out of range and
 * values that an enum does not have are SUR_ERR_ARGUMENT (calls that return no status do nothing and return 0, NULL or
 * ""). The caller must ensure that pointers are valid and that arrays are as long as stated, that at most one thread is
 * in each group of calls, and that no thread is in a session when it is destroyed.
 *
 * Signals, fork, dlclose. The library installs no signal handler, and its own threads block every signal that is meant
 * for the program. Weights stay in the mapped file: when that is cut while in use, or its disk fails, the kernel raises
 * SIGBUS in the thread that reads them, which ends the process unless the program handles it (sur_model_fault). After a
 * fork the child cannot use what the parent opened: calls there return SUR_ERR_ARGUMENT and closing gives no backend
 * back; the child may open models of its own, with the CPU. Once loaded the library stays in the process, dlclose or
 * not, because its threads and a driver's may outlive the call.
 *
 * Growing structs. Structs that the caller allocates end in reserved words: their size does not change, and fields
 * that come later take their place. Initialise options by their _init function, which sets the reserved words to 0; a
 * reserved word that is not 0 is a field that this library does not know, and is SUR_ERR_ARGUMENT.
 *
 * A whole program:
 *
 *   struct sur_model_options mo;  sur_model_options_init(&mo);  mo.dir = "models/demo";
 *   struct sur_session_options so;  sur_session_options_init(&so);
 *   struct sur_model *m = NULL;  struct sur_session *s = NULL;  struct sur_event e;
 *   if (sur_model_open(&m, &mo) || sur_session_create(&s, m, &so)) { puts(sur_error_text()); ... }
 *   while ((n = read(...)) > 0) {
 *       for (size_t i = 0; i < n; ) {
 *           i += sur_session_feed(s, pcm + i, n - i);
 *           while ((r = sur_session_run(s)) == SUR_OK)
 *               while (sur_session_poll(s, &e) == SUR_OK) if (e.type == SUR_EVENT_TOKEN) fputs(e.text, stdout);
 *       }
 *   }
 *   sur_session_finish(s);
 *   do { r = sur_session_run(s); while (sur_session_poll(s, &e) == SUR_OK) ...; } while (r == SUR_OK);
 *   sur_session_destroy(&s);  sur_model_close(&m);
 */
#ifndef SURTITLE_H
#define SURTITLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SUR_VERSION "0.1.0"
#define SUR_API __attribute__((visibility("default")))

enum {
    SUR_RATE = 16000,         /* of the model, Hz; times in events are samples at this rate */
    SUR_TOKEN_SAMPLES = 1280, /* of one decoder step, which is one token */
    SUR_TOKEN_MS = 80,
    SUR_TOP = 4,              /* candidates per step: the best token and three runners-up */
    /* what a session takes */
    SUR_RATE_MIN = 1000,
    SUR_RATE_MAX = 768000,
    SUR_CHANNELS_MAX = 64,
    SUR_DELAY_MAX_MS = 2400
};
#define SUR_MAX_SKIP (INT64_C(1) << 48) /* samples at 16 kHz that a session may skip in all: 557 years */

/* What calls return. Every failure also leaves one line in sur_error_text() of the calling thread. */
enum sur_status {
    SUR_OK = 0,
    SUR_AGAIN = -1,       /* nothing to do now: feed more, or poll first */
    SUR_END = -2,         /* finished: the last token is out */
    SUR_STOPPED = -3,     /* sur_session_stop was called */
    SUR_ERR_ARGUMENT = -4,/* the caller asked for something that does not exist */
    SUR_ERR_MEMORY = -5,  /* allocation failed */
    SUR_ERR_IO = -6,      /* reading or writing failed */
    SUR_ERR_MODEL = -7,   /* checkpoint missing, damaged, or not this architecture; a step computed NaN or infinity */
    SUR_ERR_BACKEND = -8, /* no usable backend, or the device failed */
    SUR_ERR_FORMAT = -9   /* input that is not what it says it is */
};

SUR_API const char *sur_version(void);
/* The line that explains the last failure in this thread; "" if none. Valid until the thread's next failure. */
SUR_API const char *sur_error_text(void);

/* error: something is lost or stops. warn: it goes on, not as asked. info: once a run. debug: for developers. */
enum sur_log_level { SUR_LOG_ERROR, SUR_LOG_WARN, SUR_LOG_INFO, SUR_LOG_DEBUG };
typedef void (*sur_log_fn)(void *user, enum sur_log_level level, const char *line);
/* One log for the process; lines above max are dropped; fn NULL drops all (the default). May be called from any of
 * the library's threads, one line a call, without a newline. Set it before the first model is opened. */
SUR_API void sur_set_log(enum sur_log_level max, sur_log_fn fn, void *user);

/* ---- model ---------------------------------------------------------------------------------------------------- */

enum sur_backend_kind { SUR_BACKEND_AUTO, SUR_BACKEND_CUDA, SUR_BACKEND_CPU };
enum sur_kv_type { SUR_KV_FP16, SUR_KV_FP32 };
enum sur_gemm { SUR_GEMM_OWN, SUR_GEMM_LT, SUR_GEMM_BLAS }; /* who multiplies; own: the one order of summation */
enum sur_window_attention { SUR_ATTENTION_OWN, SUR_ATTENTION_GEMM }; /* gemm: cuBLAS, on CUDA */
/* "auto", "cuda", "cpu"; NULL: no such kind. */
SUR_API const char *sur_backend_name(enum sur_backend_kind kind);
/* Name i of the instruction sets that the CPU backend has code for, the slowest ("plain") first; NULL past the last. */
SUR_API const char *sur_cpu_name(int i);

struct sur_model_options {
    const char *dir;               /* folder with params.json, tekken.json, consolidated.safetensors, or a GGUF file;
                                    * required */
    enum sur_backend_kind backend; /* auto: CUDA if it is usable, else the CPU, with the reason in the log */
    enum sur_kv_type kv;           /* how keys and values are kept */
    const char *cpu;               /* instruction set of the CPU backend, as sur_cpu_name; NULL: the fastest that
                                    * the processor has */
    enum sur_gemm gemm;            /* yardsticks: blas, OpenBLAS or cuBLAS; lt, cuBLASLt on CUDA */
    int threads;                   /* CPU workers; 0: cores of the affinity mask, at most 16 */
    enum sur_backend_kind encode_on, decode_on; /* a half on a backend of its own, to find a fault; auto: as `backend`,
                                                 * which is auto or the same where a half is named */
    enum sur_window_attention window_attention; /* CUDA only: who attends in passes of many tokens */
    int vram_limit_mib;            /* CUDA only: memory of the card that may be used; 0: all that is free. Layers that
                                    * do not fit are copied again for every pass; no bit changes. */
    int gpu;                       /* CUDA only: the device, numbered from 0 as the driver counts; -1: the one with
                                    * the most free memory, of those of compute capability 8.0 or more */
    uint64_t reserved[8];          /* 0 */
};

struct sur_model;

SUR_API void sur_model_options_init(struct sur_model_options *options);
/* On success *model is the caller's, to close after its sessions. On failure *model is NULL.
 * SUR_ERR_MODEL, SUR_ERR_BACKEND, SUR_ERR_MEMORY, SUR_ERR_ARGUMENT. */
SUR_API int sur_model_open(struct sur_model **model, const struct sur_model_options *options);
SUR_API void sur_model_close(struct sur_model **model);
SUR_API const char *sur_model_backend(const struct sur_model *model); /* "cpu", "cuda"; halves "cuda+cpu" */
/* The type of most of the matrices' weights: "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", ... */
SUR_API const char *sur_model_weights(const struct sur_model *model);
SUR_API int sur_model_delay_ms(const struct sur_model *model);        /* the checkpoint's default delay */

struct sur_model_stats {
    int64_t load_ns;                 /* until the backend had its weights; the CPU maps them and reads them later */
    int64_t device_bytes;            /* of the card, for the model and its sessions now; 0 on the CPU */
    int n_layers, n_resident;        /* of encoder and decoder; those that stay in the backend's memory */
    int64_t uploads, uploaded_bytes; /* layers copied to the card again because not all of them fit */
    uint64_t reserved[8];            /* 0 */
};
SUR_API void sur_model_get_stats(const struct sur_model *model, struct sur_model_stats *stats);
/* For a SIGBUS handler, async-signal-safe: what is wrong at an address in the mapped file of an open model, as a line
 * without a newline that names the file ("DIR/consolidated.safetensors: the file was cut while it was in use", or that
 * it cannot be read). NULL: the address, si_addr of a signal whose si_code is BUS_ADRERR, lies in none; the signal is
 * about something else. The line is valid until the model is closed. The access cannot be made good: the handler must
 * not return. */
SUR_API const char *sur_model_fault(const void *address);
/* SUR_OK if delay_ms can be used: 80 to 1200 in steps of 80, or 2400. */
SUR_API int sur_delay_check(int delay_ms);

/* ---- session -------------------------------------------------------------------------------------------------- */

enum sur_sample_format { SUR_S16LE, SUR_F32LE };
enum sur_session_mode {
    SUR_LIVE,  /* encodes one token (80 ms) a pass: lowest delay */
    SUR_WHOLE  /* encodes 256 tokens a pass: for files; the same result, sooner */
};
enum sur_resampler_kind {
    SUR_RESAMPLE_SOXR,  /* soxr HQ: files, pipes */
    SUR_RESAMPLE_SPEEX  /* speexdsp quality 8: constant 5 ms, for microphones */
};

struct sur_session_options {
    int delay_ms;                     /* 0: the checkpoint's */
    int rate;                         /* Hz of what is fed, SUR_RATE_MIN to SUR_RATE_MAX */
    int channels;                     /* 1 to SUR_CHANNELS_MAX; averaged before resampling */
    enum sur_sample_format format;    /* interleaved, little-endian; s16 / 32768; f32 that is not finite counts as 0 */
    enum sur_session_mode mode;
    enum sur_resampler_kind resampler;
    int buffer_ms;                    /* how much may be fed ahead of encode; 0: 10,000 */
    const int32_t *force;             /* teacher forcing: ids fed back instead of its own, from step 0; NULL: none. */
    size_t n_force;                   /* Copied. Steps past the last feed back their own. */
    uint64_t reserved[8];             /* 0 */
};

struct sur_session;

SUR_API void sur_session_options_init(struct sur_session_options *options); /* live, 16 kHz mono s16le, soxr */
SUR_API int sur_session_create(struct sur_session **session, struct sur_model *model,
                               const struct sur_session_options *options);
SUR_API void sur_session_destroy(struct sur_session **session);

/* Copies up to n_frames frames (one sample of each channel) and returns how many it took: fewer when the buffer is
 * full. Never blocks, allocates or fails. After sur_session_finish it takes none. */
SUR_API size_t sur_session_feed(struct sur_session *session, const void *frames, size_t n_frames);
/* Says that n_samples (at 16 kHz) were lost here: what comes next is joined without a seam, and the clock advances. Any
 * number of skips may lie at one place. SUR_AGAIN when too many (63) wait to be decoded: call again after more has been
 * fed and decoded; the skip then lies there. SUR_ERR_ARGUMENT: n_samples is negative, the session's skips would pass
 * SUR_MAX_SKIP in all, or `why` is no reason. */
enum sur_skip_reason { SUR_SKIP_LAG, SUR_SKIP_GAP, SUR_SKIP_DEVICE };
SUR_API int sur_session_skip(struct sur_session *session, int64_t n_samples, enum sur_skip_reason why);
/* For a source that has stopped for a moment (a network stream that hangs, a device that was lost): puts in as much
 * silence as the delay needs (the delay and 1.04 s), so that the words said so far come out without waiting for more
 * samples. When samples follow, one skip event covers the silence, and no word lies inside it: the skip that the caller
 * appends between this call and the next sample, which then lasts at least as long as the silence, or else one of the
 * silence's length with the reason SUR_SKIP_GAP. At the end of the stream the silence counts for nothing.
 *
 * Once per pause: does nothing before the first sample, when no sample was fed since the last flush, and after
 * sur_session_finish. The silence is part of what the model hears; a session that is not flushed computes the same bits
 * as before. SUR_AGAIN while the buffer has no room for all of it: encode, decode, then call again (until then
 * sur_session_feed takes nothing). SUR_ERR_ARGUMENT in a SUR_WHOLE session, which encodes passes of a fixed length.
 * Never blocks, allocates or makes a system call. */
SUR_API int sur_session_flush(struct sur_session *session);
/* No more samples: the tail is padded so that every word said comes out. */
SUR_API void sur_session_finish(struct sur_session *session);

/* Encodes up to max_tokens tokens (at least 1). SUR_OK: some were encoded. SUR_AGAIN: nothing to encode, or decode is
 * behind. SUR_END: all is encoded. */
SUR_API int sur_session_encode(struct sur_session *session, int max_tokens);
/* Runs up to max_steps decoder steps (at least 1). SUR_OK: at least one was run (or the prompt). SUR_AGAIN: nothing
 * encoded waits, or events must be polled first. SUR_END: the last step is out. SUR_ERR_MODEL: the model computed NaN
 * or infinity; the session stays in this state. */
SUR_API int sur_session_decode(struct sur_session *session, int max_steps);
/* One pass of encode, if there is enough for one, then one step. SUR_OK: something was done; poll, then call again.
 * SUR_AGAIN: feed more. SUR_END: finished. Fastest where as much is fed before each call as the session takes. */
SUR_API int sur_session_run(struct sur_session *session);
SUR_API void sur_session_stop(struct sur_session *session);

struct sur_alternative {
    int32_t id;
    float ratio;       /* its probability over the best's, 0 to 1 */
    const char *text;  /* UTF-8; "" for special tokens */
};

enum sur_event_type {
    SUR_EVENT_TOKEN, /* one decoder step */
    SUR_EVENT_GROUP, /* a group of words closed */
    SUR_EVENT_SKIP,  /* time that was not heard */
    SUR_EVENT_END    /* the last event of the session */
};

struct sur_event {
    enum sur_event_type type;
    int64_t t0, t1;   /* GROUP, SKIP: from, to. TOKEN: of its group as known so far. END: both the end. */
    int64_t step;     /* TOKEN: from 0. END: how many steps there were. */
    int32_t id;       /* TOKEN */
    int special;      /* TOKEN: not text: a pad, a marker, an end */
    float margin;     /* TOKEN: best logit minus the second */
    enum sur_skip_reason why; /* SKIP */
    int64_t skipped;  /* END: samples skipped in all */
    const char *piece;      /* TOKEN: the vocabulary's bytes, or the special token's name */
    size_t piece_bytes;
    const char *text;       /* TOKEN: the text that this step completed, often ""; GROUP: its text */
    int n_alternatives;     /* TOKEN: the runners-up, best first, n <= SUR_TOP - 1. */
    struct sur_alternative alternatives[SUR_TOP - 1];
    uint64_t reserved[8]; /* 0 */
};

/* Takes the oldest event. SUR_OK, or SUR_AGAIN when there is none. Its pointers are valid until the next poll on
 * this session. */
SUR_API int sur_session_poll(struct sur_session *session, struct sur_event *event);
/* A file descriptor that is readable while sur_session_poll would return an event; owned by the session. */
SUR_API int sur_session_fd(const struct sur_session *session);

struct sur_session_stats {
    int64_t fed_samples;      /* at 16 kHz, as far as the encoder has drawn them */
    int64_t tokens_encoded, steps;
    int64_t encode_ns, decode_ns, prefill_ns; /* wall time inside the backend */
    int64_t skipped_samples;
    int64_t waiting_tokens; /* encoded, and no step has taken them yet; negative while the prompt is not complete */
    int64_t silence_samples; /* at 16 kHz, put in by sur_session_flush; once drawn, they count in fed_samples, too */
    uint64_t reserved[7];    /* 0 */
};
SUR_API void sur_session_get_stats(const struct sur_session *session, struct sur_session_stats *stats);

/* For tests and for finding faults: copies an inner stage of what has been computed last. "rows": adapter rows
 * [n, dim] not yet overwritten (at most 512), from row `first`; "logits": [vocab] of the last step.
 * Returns how many floats were written, or a negative status. */
SUR_API int64_t sur_session_stage(struct sur_session *session, const char *which, int64_t first, float *out,
                                  size_t max);

#ifdef __cplusplus
}
#endif
#endif

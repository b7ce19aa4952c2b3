/*
 * surtitle: live captions for speech.
 *
 * This is the library's only public header, and its manual.
 *
 * A model (weights, vocabulary, backend) is opened once and shared by any number of sessions. A session turns one
 * stream of samples into tokens, text and groups of words. It runs without end: neither silence nor an end-of-sequence
 * token ends it.
 *
 * Threads. Several threads may use one model at the same time. Three groups of calls may run at the same time on one
 * session, one thread in each group:
 *   feed    sur_session_feed, sur_session_skip, sur_session_flush, sur_session_finish
 *   encode  sur_session_encode
 *   decode  sur_session_decode, sur_session_poll
 * sur_session_run counts as encode and decode. sur_session_stop may be called from any thread and from a signal
 * handler, sur_session_get_stats and sur_session_fd from any thread. The result has the same bits whichever threads are
 * used, however samples arrive and however busy the machine is.
 *
 * Units. Times are counted in samples at 16 kHz from the first sample fed. Text is valid UTF-8 without control
 * characters.
 *
 * Arguments. Every call checks its arguments. SUR_ERR_ARGUMENT: NULL where an object or an output is needed, a number
 * out of range, or a value that the enum does not have. Functions that return no status do nothing then and return 0,
 * NULL or "". The caller must ensure that pointers are valid, that arrays are as long as stated, and that no other
 * thread is in a call on a session while it is destroyed.
 *
 * Errors. A function that fails returns a negative enum sur_status and leaves one line in sur_error_text() of the
 * calling thread.
 *
 * Signals. The library installs no signal handler; its own threads block every signal that is meant for the program.
 * Weights stay in the mapped file. If the file is truncated while in use, or its disk fails, the kernel raises SIGBUS
 * in the thread that reads them, which ends the process unless the program handles it (sur_model_fault).
 *
 * fork, dlclose. A child process cannot use what its parent opened: calls return SUR_ERR_ARGUMENT, and closing releases
 * nothing of the backend. The child may open models of its own on the CPU. Once loaded the library stays in the process
 * even after dlclose, because its threads and a driver's may still run.
 *
 * Struct sizes. Structs that the caller allocates end in reserved words, which later fields will take: their size does
 * not change. Initialise options with their _init function, which sets the reserved words to 0. A reserved word that is
 * not 0 is a field that this library does not know: SUR_ERR_ARGUMENT.
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
    SUR_RATE = 16000,         /* the model's sample rate in Hz, and the unit of all times */
    SUR_TOKEN_SAMPLES = 1280, /* samples per token, which is one decoder step */
    SUR_TOKEN_MS = 80,        /* the same in milliseconds */
    SUR_TOP = 4,              /* results per step: the best token and three alternatives */
    SUR_RATE_MIN = 1000,      /* limits of sur_session_options */
    SUR_RATE_MAX = 768000,
    SUR_CHANNELS_MAX = 64,
    SUR_DELAY_MAX_MS = 2400
};
#define SUR_MAX_SKIP (INT64_C(1) << 48) /* most samples at 16 kHz that one session may skip in total: 557 years */

/* SUR_AGAIN, SUR_END and SUR_STOPPED are not failures and leave no error line. */
enum sur_status {
    SUR_OK = 0,
    SUR_AGAIN = -1,        /* nothing can be done now: feed more, or poll first */
    SUR_END = -2,          /* finished: the last token is out */
    SUR_STOPPED = -3,      /* sur_session_stop was called */
    SUR_ERR_ARGUMENT = -4, /* an argument or option is invalid */
    SUR_ERR_MEMORY = -5,   /* allocation failed */
    SUR_ERR_IO = -6,       /* reading or writing failed */
    SUR_ERR_MODEL = -7,    /* checkpoint missing, damaged, or of another architecture; a step gave NaN or infinity */
    SUR_ERR_BACKEND = -8,  /* no usable backend, or the device failed */
    SUR_ERR_FORMAT = -9    /* the input contradicts its own header */
};

SUR_API const char *sur_version(void);
/* The line of the calling thread's last failure; "" if none. Valid until the thread's next failure. */
SUR_API const char *sur_error_text(void);

/* error: captions are lost or stop. warn: work goes on, but not as requested. info: once per run. debug: for
 * developers. */
enum sur_log_level { SUR_LOG_ERROR, SUR_LOG_WARN, SUR_LOG_INFO, SUR_LOG_DEBUG };
typedef void (*sur_log_fn)(void *user, enum sur_log_level level, const char *line);
/* Sets the log of the whole process. Lines less severe than max are dropped; fn NULL (the default) drops all. fn is
 * called from any of the library's threads, with one line per call and without a newline. Set the log before the first
 * model is opened. */
SUR_API void sur_set_log(enum sur_log_level max, sur_log_fn fn, void *user);

/* ---- model ---------------------------------------------------------------------------------------------------- */

enum sur_backend_kind { SUR_BACKEND_AUTO, SUR_BACKEND_CUDA, SUR_BACKEND_CPU };
enum sur_kv_type { SUR_KV_FP16, SUR_KV_FP32 };
/* Implementation of matrix products. own: one fixed order of summation; lt: cuBLASLt (CUDA); blas: OpenBLAS or cuBLAS.
 * The libraries are for comparison: their bits change with the number of columns. */
enum sur_gemm { SUR_GEMM_OWN, SUR_GEMM_LT, SUR_GEMM_BLAS };
/* Implementation of the encoder's attention in passes of many tokens. gemm: cuBLAS (CUDA), for comparison. */
enum sur_window_attention { SUR_ATTENTION_OWN, SUR_ATTENTION_GEMM };
/* Returns "auto", "cuda" or "cpu"; NULL: there is no such kind. */
SUR_API const char *sur_backend_name(enum sur_backend_kind kind);
/* Returns the name of instruction set number i of the CPU backend, the slowest ("plain") first; NULL past the last. */
SUR_API const char *sur_cpu_name(int i);

struct sur_model_options {
    const char *dir;               /* required: folder with params.json, tekken.json, consolidated.safetensors, or a
                                    * GGUF file */
    enum sur_backend_kind backend; /* auto: CUDA if usable, else the CPU, and the reason goes to the log */
    enum sur_kv_type kv;           /* type of the attention's keys and values */
    const char *cpu;               /* instruction set of the CPU backend (sur_cpu_name); NULL: the fastest that the
                                    * processor runs */
    enum sur_gemm gemm;
    int threads;                   /* CPU workers; 0: number of cores in the affinity mask, at most 16 */
    enum sur_backend_kind encode_on, decode_on; /* run only the encoder or only the decoder on this backend, to find a
                                                 * fault; auto: as `backend`. If one is set, `backend` must be auto or
                                                 * the same. */
    enum sur_window_attention window_attention;
    int vram_limit_mib;            /* CUDA: limit of device memory in MiB; 0: none. Layers that do not fit are copied
                                    * again for every pass; the bits stay the same. */
    int gpu;                       /* CUDA: device number of the driver, from 0; -1: of the devices of compute
                                    * capability 8.0 or more, the one with the most free memory */
    uint64_t reserved[8];          /* 0 */
};

struct sur_model;

SUR_API void sur_model_options_init(struct sur_model_options *options);
/* On success the caller owns *model and closes it after its sessions. On failure *model is NULL.
 * SUR_ERR_MODEL, SUR_ERR_BACKEND, SUR_ERR_MEMORY, SUR_ERR_ARGUMENT. */
SUR_API int sur_model_open(struct sur_model **model, const struct sur_model_options *options);
/* Sets *model to NULL. With open sessions it does nothing but log an error. */
SUR_API void sur_model_close(struct sur_model **model);
/* Returns "cpu" or "cuda"; with encode_on or decode_on the encoder's and the decoder's: "cuda+cpu". */
SUR_API const char *sur_model_backend(const struct sur_model *model);
/* Returns the type of most matrices: "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", ... */
SUR_API const char *sur_model_weights(const struct sur_model *model);
SUR_API int sur_model_delay_ms(const struct sur_model *model); /* the checkpoint's default delay */

struct sur_model_stats {
    int64_t load_ns;                 /* to load the weights; the CPU backend maps all but quantised ones */
    int64_t device_bytes;            /* device memory of the model and its sessions now; 0 on the CPU */
    int n_layers, n_resident;        /* layers of encoder and decoder; those that stay in device memory */
    int64_t uploads, uploaded_bytes; /* layers copied to the device again because not all of them fit */
    uint64_t reserved[8];            /* 0 */
};
SUR_API void sur_model_get_stats(const struct sur_model *model, struct sur_model_stats *stats);
/* For a SIGBUS handler; async-signal-safe. address: si_addr of a signal whose si_code is BUS_ADRERR. If it lies in the
 * mapped file of an open model, returns a line without a newline that names the file and says that it was truncated
 * while in use or cannot be read. Otherwise returns NULL: the signal has another cause. The line is valid until the
 * model is closed. The handler must not return, because the access would fail again. */
SUR_API const char *sur_model_fault(const void *address);
/* SUR_OK: delay_ms is valid, which is 80 to 1200 in steps of 80, or 2400. Otherwise SUR_ERR_ARGUMENT. */
SUR_API int sur_delay_check(int delay_ms);

/* ---- session -------------------------------------------------------------------------------------------------- */

enum sur_sample_format { SUR_S16LE, SUR_F32LE };
enum sur_session_mode {
    SUR_LIVE,  /* encodes one token (80 ms) per pass: lowest latency */
    SUR_WHOLE  /* encodes 256 tokens per pass, for files: the same result, faster */
};
enum sur_resampler_kind {
    SUR_RESAMPLE_SOXR,  /* soxr HQ: files, pipes */
    SUR_RESAMPLE_SPEEX  /* speexdsp quality 8: constant 5 ms, for microphones */
};

struct sur_session_options {
    int delay_ms;                  /* how long the model listens before it writes; 0: the checkpoint's default */
    int rate;                      /* of the samples that are fed, in Hz: SUR_RATE_MIN to SUR_RATE_MAX */
    int channels;                  /* 1 to SUR_CHANNELS_MAX; averaged before resampling */
    enum sur_sample_format format; /* interleaved; s16 is divided by 32768; f32 that is not finite counts as 0 */
    enum sur_session_mode mode;
    enum sur_resampler_kind resampler;
    int buffer_ms;                 /* how much may be fed ahead of encode; 0: 10,000 */
    const int32_t *force;          /* [n_force] token ids, copied: fed back instead of the model's own results, from
                                    * step 0 on (teacher forcing); NULL: none */
    size_t n_force;
    uint64_t reserved[8];          /* 0 */
};

struct sur_session;

SUR_API void sur_session_options_init(struct sur_session_options *options); /* live, 16 kHz mono s16le, soxr */
SUR_API int sur_session_create(struct sur_session **session, struct sur_model *model,
                               const struct sur_session_options *options);
SUR_API void sur_session_destroy(struct sur_session **session);

/* Copies up to n_frames frames (one sample of each channel) and returns how many it took: fewer when the buffer is
 * full, and 0 after sur_session_finish. Real-time safe: never blocks or allocates. */
SUR_API size_t sur_session_feed(struct sur_session *session, const void *frames, size_t n_frames);
/* Reports that n_samples (at 16 kHz) are missing before the next sample. The model hears what follows directly after
 * what came before; the clock advances by the skip. Several skips may lie at one place. Real-time safe.
 * SUR_AGAIN: 63 skips wait to be decoded; call again after more has been fed and decoded, and the skip then lies there.
 * SUR_ERR_ARGUMENT: n_samples is negative, or the session's skips exceed SUR_MAX_SKIP in total. */
enum sur_skip_reason { SUR_SKIP_LAG, SUR_SKIP_GAP, SUR_SKIP_DEVICE };
SUR_API int sur_session_skip(struct sur_session *session, int64_t n_samples, enum sur_skip_reason why);
/* For a source that pauses (a network stream that stalls, a device that was lost): appends silence of the delay and
 * 1.04 s, so that the words said so far come out without further samples.
 *
 * When samples follow, one skip event covers the silence, and no word lies inside it: the skip that the caller appends
 * between this call and the next sample, which then lasts at least as long as the silence; otherwise one of the
 * silence's length with the reason SUR_SKIP_GAP. At the end of the stream the silence does not count.
 *
 * Does nothing before the first sample, when no sample was fed since the last flush, and after sur_session_finish. The
 * model hears the silence, so the bits after it differ from those of a session without a flush. Real-time safe.
 * SUR_AGAIN: the buffer has no room for all of the silence; encode, decode, then call again (sur_session_feed takes
 * nothing until then). SUR_ERR_ARGUMENT: the session is SUR_WHOLE, whose passes have a fixed length. */
SUR_API int sur_session_flush(struct sur_session *session);
/* Ends the stream. The session pads its end so that the last words come out. */
SUR_API void sur_session_finish(struct sur_session *session);

/* Encodes up to max_tokens tokens (at least 1). SUR_OK: some were encoded. SUR_AGAIN: samples are missing, or decode is
 * about 500 tokens behind. SUR_END: the whole stream is encoded. SUR_STOPPED, SUR_ERR_BACKEND. */
SUR_API int sur_session_encode(struct sur_session *session, int max_tokens);
/* Runs up to max_steps decoder steps (at least 1). SUR_OK: at least one step, or the prompt, was run. SUR_AGAIN: no
 * encoded token waits, or events must be polled first. SUR_END: the last step was run. SUR_STOPPED, SUR_ERR_BACKEND.
 * SUR_ERR_MODEL: the model computed NaN or infinity; every later call returns this too. */
SUR_API int sur_session_decode(struct sur_session *session, int max_steps);
/* Runs one pass of encode if its samples are there, then one decoder step. SUR_OK: something was done; poll, then call
 * again. SUR_AGAIN: feed more, or poll first. SUR_END: finished. Other statuses as above. Fastest if the caller feeds
 * as much as the session takes before each call. */
SUR_API int sur_session_run(struct sur_session *session);
/* Makes encode, decode and run return SUR_STOPPED from now on. Async-signal-safe. */
SUR_API void sur_session_stop(struct sur_session *session);

struct sur_alternative {
    int32_t id;
    float ratio;      /* its probability divided by the best token's, 0 to 1 */
    const char *text; /* UTF-8; "" for special tokens */
};

enum sur_event_type {
    SUR_EVENT_TOKEN, /* one decoder step */
    SUR_EVENT_GROUP, /* a group of words closed */
    SUR_EVENT_SKIP,  /* time that the model did not hear */
    SUR_EVENT_END    /* the last event of the session */
};

struct sur_event {
    enum sur_event_type type;
    int64_t t0, t1;           /* GROUP, SKIP: from, to. TOKEN: of its group as far as known. END: both the end. */
    int64_t step;             /* TOKEN: number of the step, from 0. END: number of steps. */
    int32_t id;               /* TOKEN */
    int special;              /* TOKEN: 1 for a pad, a marker or an end instead of text */
    float margin;             /* TOKEN: best logit minus the second */
    enum sur_skip_reason why; /* SKIP */
    int64_t skipped;          /* END: total of all skips */
    const char *piece;        /* TOKEN: the vocabulary's bytes, or the special token's name */
    size_t piece_bytes;
    const char *text;         /* TOKEN: the text that this step completed, often ""; GROUP: the group's text */
    int n_alternatives;       /* TOKEN: number of alternatives, the best first */
    struct sur_alternative alternatives[SUR_TOP - 1];
    uint64_t reserved[8];     /* 0 */
};

/* Copies the oldest event to *event and removes it from the queue. SUR_AGAIN: there is none. The event's pointers are
 * valid until the next poll on this session. */
SUR_API int sur_session_poll(struct sur_session *session, struct sur_event *event);
/* Returns a file descriptor that is readable while events wait. The session owns it. */
SUR_API int sur_session_fd(const struct sur_session *session);

struct sur_session_stats {
    int64_t fed_samples;             /* at 16 kHz, drawn by encode so far */
    int64_t tokens_encoded, steps;   /* steps: also one that computed NaN or infinity */
    int64_t encode_ns, decode_ns, prefill_ns; /* wall time inside the backend */
    int64_t skipped_samples;         /* of skips that became events */
    int64_t waiting_tokens;          /* encoded, but not yet stepped; negative until the prompt is complete */
    int64_t silence_samples;         /* at 16 kHz, from sur_session_flush; those drawn also count in fed_samples */
    uint64_t reserved[7];            /* 0 */
};
SUR_API void sur_session_get_stats(const struct sur_session *session, struct sur_session_stats *stats);

/* For tests and diagnosis: copies intermediate results. which = "rows": adapter rows [n, dim] from row `first` on, of
 * the newest 512; n is what is there and fits. which = "logits": [vocab] of the last step. max: floats that out holds.
 * Call it from the decode thread while encode does not run. Returns the number of floats written, or a negative
 * status. */
SUR_API int64_t sur_session_stage(struct sur_session *session, const char *which, int64_t first, float *out,
                                  size_t max);

#ifdef __cplusplus
}
#endif
#endif

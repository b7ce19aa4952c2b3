/* The table between a session and what computes it: model-level, not tensor-level. Mel goes in, tokens come out.
 *
 * Weights are immutable after open and shared by the sessions; all that depends on a session (K/V rings, conv carry,
 * adapter rows, norms folded for its delay) is the session's. One thread may encode while another steps the same
 * session; all else on a session is one thread at a time. encode publishes rows with release, step reads their count
 * with acquire. After session_create nothing is allocated.
 *
 * One order of summation: the bits of every row and logit depend on positions and values alone, never on how many
 * columns, tokens, jobs or threads a pass has. */
#ifndef SUR_MODEL_BACKEND_H
#define SUR_MODEL_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "model/checkpoint.h"
#include "surtitle.h"

enum { SUR_ROW_RING = 512, SUR_STEP_MAX = 8 };

struct sur_backend_options {
    enum sur_kv_type kv;
    enum sur_cpu_level cpu;
    enum sur_gemm gemm;
    int threads;
    enum sur_window_attention window_attention; /* CUDA: who attends in an encoder's pass of many tokens */
    int gpu;                                    /* CUDA: 1 + the device's number; 0: one is chosen */
    int64_t vram_limit_bytes;                   /* CUDA: may use so much of the card's memory; 0: all that is free */
};

/* What --stats prints beside a session's own. Bytes are of the device for CUDA, else 0. */
struct sur_backend_stats {
    int64_t load_ns;                  /* open: weights ready */
    int64_t memory_bytes;             /* allocated by this model and its sessions now; the context not counted */
    int n_layers, n_resident;         /* layers of both towers; those that stay on the card */
    int64_t uploads, uploaded_bytes;  /* layers copied again since open, because they do not fit */
};

struct sur_backend_session_options {
    int delay;        /* tokens */
    int n_prompt;     /* positions of the prompt: the most that one step call may take */
    int max_tokens;   /* tokens that one encode call may take: 1 live, 256 whole */
    int64_t start;    /* rows and positions count from here, over K/V of random values: for benches and far positions */
};

struct sur_encode_job {
    void *session;
    int n_tokens;
    const float *mel;  /* [n_tokens * 8, n_mels] */
};

struct sur_step_out {
    int32_t id;                    /* argmax, lowest id of a tie; top_id[0] */
    float margin;                  /* top[0] - top[1]; NaN, and top[0], too, when any logit is not finite */
    int32_t top_id[SUR_TOP];
    float top[SUR_TOP];            /* logits, descending */
};

struct sur_step_job {
    void *session;
    int n;                     /* positions: 1 to SUR_STEP_MAX, or up to n_prompt when nothing was stepped yet */
    const int32_t *tokens;     /* [n] inputs, or NULL (n = 1): the session's own last token */
    int n_out;                 /* results wanted, for the last n_out positions; 0: only fill the K/V rings */
    struct sur_step_out *out;  /* [n_out] */
};

struct sur_backend {
    const char *name;
    int (*probe)(char *why, size_t why_bytes);        /* SUR_OK: usable here; else one reason in why */
    int (*open)(void **state, const struct sur_checkpoint *checkpoint, const struct sur_backend_options *options);
    void (*close)(void *state);
    int (*session_create)(void **session, void *state, const struct sur_backend_session_options *options);
    void (*session_destroy)(void *session);
    int (*reset)(void *session);                      /* back to the first sample */
    /* SUR_AGAIN when a row ring is too full; then nothing was done. */
    int (*encode)(struct sur_encode_job *jobs, int n_jobs);
    /* SUR_AGAIN when rows are missing; then nothing was done. */
    int (*step)(struct sur_step_job *jobs, int n_jobs);
    /* The next step takes this position: again, at most SUR_STEP_MAX back; or ahead, at most the number of rows, for
     * a session whose rows are stepped elsewhere (encode then has room again; what lies between is never stepped). */
    int (*rewind)(void *session, int64_t position);
    /* Copies adapter rows [n, dim] out of (put 0) or into (put 1) the ring; put publishes them like encode. */
    int (*rows)(void *session, int put, int64_t first, int n, float *buffer);
    void (*stats)(void *state, struct sur_backend_stats *stats);
    double (*read_bandwidth)(void *state); /* bytes a second of the device's memory, probed now; NULL: none */
    unsigned weight_types; /* those that matrices may have: 1 << enum sur_weight_type, or-ed */
    int64_t (*stage)(void *session, const char *which, int64_t first, float *out, size_t max); /* surtitle.h */
};

extern const struct sur_backend sur_backend_cpu;

/* The first usable backend of the kind asked for; the reason of each refusal goes to the log (auto) or the error. */
int sur_backend_choose(const struct sur_backend **backend, enum sur_backend_kind kind);

#endif

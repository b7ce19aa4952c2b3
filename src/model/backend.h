/* The table of a backend's functions, which a session calls. It works on whole models: mel frames go in, tokens come
 * out.
 *
 * Ownership: weights are immutable after open and shared by all sessions. What depends on a session (K/V rings, carry
 * of the conv stem, adapter rows) belongs to the session. The decoder's norms depend on the delay alone: they belong to
 * the model, which shares them among its sessions of the same delay and frees them with the last of these sessions.
 *
 * Threads: session_create and session_destroy may be called from any thread. One thread may encode while another steps
 * the same session; every other function of a session must be called by one thread at a time. encode publishes rows
 * with release, step acquires their number. After session_create nothing is allocated.
 *
 * Order of summation: the bits of every row and logit depend on positions and values alone, never on how many columns,
 * tokens, jobs or threads a pass has.
 *
 * Errors: functions that return int return SUR_OK or a negative enum sur_status, whose line is in sur_error_text()
 * unless it is SUR_AGAIN. */
#ifndef SUR_MODEL_BACKEND_H
#define SUR_MODEL_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "model/checkpoint.h"
#include "surtitle.h"

enum { SUR_ROW_RING = 512, SUR_STEP_MAX = 8 };

struct sur_backend_session_options {
    int delay;      /* tokens */
    int n_prompt;   /* positions of the prompt: the most that one step call may take */
    int max_tokens; /* the most tokens that one encode call may take: 1 live, 256 whole */
    int64_t start; /* rows and positions count from here, over K/V of random values: for benchmarks and far positions */
};

/* Jobs do not depend on one another: each has a status, and one that cannot run does not stop the others. A call with
 * jobs returns the first status that is not SUR_OK, else SUR_OK. */
struct sur_encode_job {
    void *session;
    int n_tokens;
    const float *mel; /* [n_tokens * 8, n_mels] */
    int status;       /* out; SUR_AGAIN: the ring of rows has no room for n_tokens, and nothing was done */
};

struct sur_step_out {
    int32_t id;   /* argmax, the lowest id if several logits are equal; top_id[0] */
    float margin; /* top[0] - top[1]; NaN, as top[0] is, when any logit is not finite */
    int32_t top_id[SUR_TOP];
    float top[SUR_TOP]; /* logits, descending */
};

struct sur_step_job {
    void *session;
    int n;                    /* positions: 1 to SUR_STEP_MAX, or up to n_prompt in the first step */
    const int32_t *tokens;    /* [n] inputs, or NULL (n = 1): the id of the session's last result */
    int n_out;                /* results wanted, for the last n_out positions; 0: only fill the K/V rings */
    struct sur_step_out *out; /* [n_out] */
    int status;               /* out; SUR_AGAIN: fewer than n rows wait, and nothing was done */
};

struct sur_backend {
    const char *name;
    /* SUR_OK: usable on this machine; otherwise why receives the reason. */
    int (*probe)(char *why, size_t why_bytes);
    /* options: checked, and threads is not 0. */
    int (*open)(void **state, const struct sur_checkpoint *checkpoint, const struct sur_model_options *options);
    void (*close)(void *state);
    int (*session_create)(void **session, void *state, const struct sur_backend_session_options *options);
    void (*session_destroy)(void *session);
    int (*reset)(void *session); /* back to the first sample */
    int (*encode)(struct sur_encode_job *jobs, int n_jobs);
    int (*step)(struct sur_step_job *jobs, int n_jobs);
    /* Makes `position` the next to be stepped: at most SUR_STEP_MAX back, or forward up to the number of rows.
     * Positions that are passed over are never stepped; encode may then overwrite their rows. */
    int (*rewind)(void *session, int64_t position);
    /* Copies adapter rows [n, dim] out of the ring (put 0) or into it (put 1); put publishes them as encode does. */
    int (*rows)(void *session, int put, int64_t first, int n, float *buffer);
    /* Copies the logits [vocab_size] of the last result of the last step. SUR_ERR_ARGUMENT: there is none. */
    int (*logits)(void *session, float *out);
    void (*stats)(void *state, struct sur_model_stats *stats);
    /* Bytes per second that the device's memory delivers, measured now; NULL: the backend has no such measurement. */
    double (*read_bandwidth)(void *state);
    unsigned weight_types; /* types that matrices may have: bits 1 << enum sur_weight_type */
};

extern const struct sur_backend sur_backend_cpu;

/* The first usable backend of that kind. With auto the reason of each refusal goes to the log, otherwise to the error.
 */
int sur_backend_choose(const struct sur_backend **backend, enum sur_backend_kind kind);

#endif

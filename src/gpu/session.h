/* The CUDA backend's model and sessions. model/backend.h says which thread may call what; backend.c is the table of
 * calls. All functions return SUR_OK, SUR_ERR_BACKEND (the device failed or has no room) or SUR_ERR_MEMORY. */
#ifndef SUR_GPU_SESSION_H
#define SUR_GPU_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "gpu/driver.h"
#include "gpu/norms.h"
#include "gpu/pass.h"
#include "gpu/weights.h"
#include "model/backend.h"
#include "model/progress.h"

struct gpu_state {
    struct gpu gpu;
    struct gpu_weights weights;
    struct gpu_norms_cache norms;
    const struct sur_checkpoint *checkpoint;
    struct sur_model_options options;
    int64_t load_ns;
    atomic_llong uploads, uploaded_bytes; /* of layers that are not resident; any thread */
    /* With layers that are not resident: held during a pass, because the slots they pass through are the model's. */
    pthread_mutex_t encoder_slots, decoder_slots;
};

/* One of the two that a session's steps of one position use in turn, so that one may run while the other's result is
 * read. Steps of several positions use steps[0]. */
struct gpu_step {
    CUgraphExec graph;               /* one position */
    CUevent done;                    /* of the graph */
    struct sur_gpu_request *request; /* pinned, with n_prompt tokens */
    struct sur_gpu_top *result;      /* pinned [8] */
};

struct gpu_session {
    struct sur_progress progress; /* first: see model/progress.h */
    /* immutable after create */
    struct gpu_state *state;
    struct gpu_norms *norms; /* the model's; for the session's delay */
    CUdeviceptr memory;      /* the session's own buffers below */
    size_t n_bytes;
    CUdeviceptr mel, conv0;                       /* [2 + frames][n_mels], [1 + frames][e] */
    CUdeviceptr adapter;                          /* bf16 [hi, lo][tokens][pitch of dim] */
    CUdeviceptr row_position, rows;               /* int64, [512][dim] */
    CUdeviceptr logits, top, candidates, counter; /* [8][vocab]; struct sur_gpu_top_state [2] */
    CUgraphExec encode_graph;                     /* one token */
    CUgraphExec whole_graph;                      /* max_tokens tokens, or NULL when that is 1 */

    /* encode thread */
    struct gpu_stack encoder;
    float *mel_in; /* pinned [frames][n_mels]; behind the frames of a pass a struct sur_gpu_request */

    /* decode thread */
    struct gpu_stack decoder;
    struct gpu_step steps[2];
    int32_t last_token;
    CUdeviceptr last_logits; /* or 0 */
    int next_step;           /* of steps, whose turn is next */
    bool is_ahead; /* steps[next_step] is under way, for ahead_position and the token that the other step gives */
    int64_t ahead_position;
    int n_misses; /* steps begun ahead whose token was not the one given then */
};

/* Bytes of device memory that a session takes. */
size_t gpu_session_bytes(const struct sur_checkpoint *checkpoint, const struct sur_model_options *options,
                         const struct sur_backend_session_options *session);
int gpu_session_create(void **session, void *state, const struct sur_backend_session_options *options);
void gpu_session_destroy(void *session);
int gpu_session_reset(void *session);

/* Runs one pass over the n_tokens tokens whose mel frames are in mel_in, into the rows from first_row on. */
int gpu_run_encode(struct gpu_session *session, int n_tokens, int64_t first_row);
/* Runs one pass over the positions first .. first + n - 1; *result (may be NULL): the results of the last n_out. After
 * a step of one position the next step may already be running, with the token that this one gave. */
int gpu_run_step(struct gpu_session *session, int64_t first, int n, const int32_t *tokens, int n_out,
                 const struct sur_gpu_top **result);

#endif

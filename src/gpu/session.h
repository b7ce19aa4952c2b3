/* The CUDA backend's model and sessions; the table of calls, and who may call what when, is model/backend.h's
 * (backend.c). Calls return SUR_OK or SUR_ERR_BACKEND (the device failed, or has no room), SUR_ERR_MEMORY. */
#ifndef SUR_GPU_SESSION_H
#define SUR_GPU_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "gpu/driver.h"
#include "gpu/pass.h"
#include "gpu/weights.h"
#include "model/backend.h"
#include "model/progress.h"

struct gpu_state {
    struct gpu gpu;
    struct gpu_weights weights;
    const struct sur_checkpoint *checkpoint;
    struct sur_backend_options options;
    int64_t load_ns;
    atomic_llong uploads, uploaded_bytes; /* layers copied again because they are not resident; any thread */
    /* Slots of layers that are not resident are the model's: one pass of a tower at a time then. */
    pthread_mutex_t encoder_slots, decoder_slots;
};

/* A step's own: two take turns, so that one may be under way while the other's result is read. A step of several
 * positions has the first's. */
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
    CUdeviceptr memory; /* the session's own buffers below */
    size_t n_bytes;
    CUdeviceptr mel, conv0;                       /* [2 + frames][n_mels], [1 + frames][e] */
    CUdeviceptr adapter;                          /* bf16 [hi, lo][tokens][pitch of dim] */
    CUdeviceptr row_position, rows;               /* int64, [512][dim] */
    CUdeviceptr logits, top, candidates, counter; /* [8][vocab]; struct sur_gpu_top_state [2] */
    CUgraphExec encode_graph;                     /* one token */
    CUgraphExec whole_graph;                      /* max_tokens tokens, or NULL when that is 1 */

    /* encode thread */
    struct gpu_stack encoder;
    float *mel_in; /* pinned [frames][n_mels], behind a pass's own a struct sur_gpu_request */

    /* decode thread */
    struct gpu_stack decoder;
    struct gpu_step steps[2];
    int32_t last_token;
    CUdeviceptr last_logits; /* or 0 */
    bool guessing;           /* steps[guess] is under way: position guessed, of the token that the other gave */
    int guess, wrong_guesses;
    int64_t guessed;
};

/* Bytes of device memory that a session takes. */
size_t gpu_session_bytes(const struct sur_checkpoint *checkpoint, const struct sur_backend_options *options,
                         const struct sur_backend_session_options *session);
int gpu_session_create(void **session, void *state, const struct sur_backend_session_options *options);
void gpu_session_destroy(void *session);
int gpu_session_reset(void *session);

/* One pass, of n_tokens at first_row. */
int gpu_run_encode(struct gpu_session *session, int n_tokens, int64_t first_row);
/* One pass over n positions from first; *result: its n_out results. A step of one position leaves the next one under
 * way when its row is there: what it will be, unless it is given another token than this one gave. */
int gpu_run_step(struct gpu_session *session, int64_t first, int n, const int32_t *tokens, int n_out,
                 const struct sur_gpu_top **result);

#endif

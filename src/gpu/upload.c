#include "gpu/upload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/half.h"

enum { N_WORKERS = 8, N_BUFFERS = 2, BUFFER_BYTES = 4 << 20 };

struct piece {
    CUdeviceptr device;
    char *host;
    const struct sur_view *view;
    size_t pitch_bytes;
    int row, n_rows;
    bool widen;
};

struct worker {
    struct gpu_upload *upload;
    pthread_t thread;
    CUstream stream;
    void *buffers[N_BUFFERS]; /* pinned */
    CUevent empty[N_BUFFERS]; /* the buffer's last copy is done */
    CUresult result;          /* not yet a failure's line, which would be kept for a thread that ends */
};

struct gpu_upload {
    struct gpu *gpu;
    struct piece *pieces;
    size_t n, room;
    atomic_size_t next;
    atomic_bool failed;
    struct worker workers[N_WORKERS];
};

int gpu_upload_create(struct gpu_upload **upload, struct gpu *g)
{
    struct gpu_upload *u = *upload = calloc(1, sizeof *u);
    if (!u) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    u->gpu = g;
    int r = SUR_OK;
    for (int i = 0; !r && i < N_WORKERS; i++) {
        struct worker *w = &u->workers[i];
        w->upload = u;
        r = gpu_check(cuStreamCreate(&w->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        for (int b = 0; !r && b < N_BUFFERS; b++) {
            r = gpu_allocate_host(&w->buffers[b], BUFFER_BYTES, false);
            if (!r) r = gpu_check(cuEventCreate(&w->empty[b], CU_EVENT_DISABLE_TIMING), "cuEventCreate");
        }
    }
    return r;
}

void gpu_upload_destroy(struct gpu_upload *u)
{
    if (!u) return;
    for (int i = 0; i < N_WORKERS; i++) {
        struct worker *w = &u->workers[i];
        for (int b = 0; b < N_BUFFERS; b++) {
            if (w->empty[b]) cuEventDestroy(w->empty[b]);
            gpu_free_host(&w->buffers[b]);
        }
        if (w->stream) cuStreamDestroy(w->stream);
    }
    free(u->pieces);
    free(u);
}

int gpu_upload_add(struct gpu_upload *u, CUdeviceptr device, char *host, const struct sur_view *view,
                   size_t pitch_bytes, bool widen)
{
    if (pitch_bytes > BUFFER_BYTES) return sur_fail(SUR_ERR_MODEL, "a row of %zu bytes is too long", pitch_bytes);
    int step = (int)(BUFFER_BYTES / pitch_bytes);
    for (int row = 0; row < view->rows; row += step) {
        if (u->n == u->room) {
            size_t room = u->room ? u->room * 2 : 1024;
            struct piece *more = realloc(u->pieces, room * sizeof *more);
            if (!more) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
            u->pieces = more;
            u->room = room;
        }
        size_t at = (size_t)row * pitch_bytes;
        int n_rows = view->rows - row < step ? view->rows - row : step;
        u->pieces[u->n++] =
            (struct piece){device ? device + at : 0, host ? host + at : NULL, view, pitch_bytes, row, n_rows, widen};
    }
    return SUR_OK;
}

/* The piece's bytes as the device wants them. */
static void fill(const struct piece *p, char *to)
{
    const struct sur_view *v = p->view;
    size_t cols = (size_t)v->cols, row_bytes = cols * 2;
    const char *from = (const char *)v->data + (size_t)p->row * v->row_bytes;
    if (p->widen) {
        for (size_t i = 0; i < cols; i++) ((float *)(void *)to)[i] = sur_bf16_to_f32(((const uint16_t *)v->data)[i]);
    } else if (row_bytes == v->row_bytes && row_bytes == p->pitch_bytes) {
        memcpy(to, from, row_bytes * (size_t)p->n_rows);
    } else {
        for (int i = 0; i < p->n_rows; i++, from += v->row_bytes, to += p->pitch_bytes) {
            memcpy(to, from, row_bytes);
            memset(to + row_bytes, 0, p->pitch_bytes - row_bytes);
        }
    }
}

static CUresult copy_pieces(struct worker *w)
{
    struct gpu_upload *u = w->upload;
    CUresult e = cuCtxSetCurrent(u->gpu->context);
    for (unsigned turn = 0; !e && !atomic_load(&u->failed); turn++) {
        size_t i = atomic_fetch_add(&u->next, 1);
        if (i >= u->n) break;
        const struct piece *p = &u->pieces[i];
        int b = (int)(turn % N_BUFFERS);
        if (!p->device) {
            fill(p, p->host);
            continue;
        }
        e = cuEventSynchronize(w->empty[b]);
        if (e) break;
        fill(p, w->buffers[b]);
        e = cuMemcpyHtoDAsync(p->device, w->buffers[b], p->pitch_bytes * (size_t)p->n_rows, w->stream);
        if (!e) e = cuEventRecord(w->empty[b], w->stream);
    }
    return e ? e : cuStreamSynchronize(w->stream);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    w->result = copy_pieces(w);
    if (w->result) atomic_store(&w->upload->failed, true);
    return NULL;
}

int gpu_upload_run(struct gpu_upload *u)
{
    int n = 0;
    CUresult e = CUDA_SUCCESS;
    while (n < N_WORKERS && !pthread_create(&u->workers[n].thread, NULL, work, &u->workers[n])) n++;
    if (n == 0) return sur_fail(SUR_ERR_MEMORY, "cannot start a thread");
    for (int i = 0; i < n; i++) {
        pthread_join(u->workers[i].thread, NULL);
        if (u->workers[i].result) e = u->workers[i].result;
    }
    return gpu_check(e, "copying the weights to the GPU");
}

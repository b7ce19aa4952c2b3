#include "gpu/upload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/os_thread.h"

enum { N_WORKERS = 8, N_BUFFERS = 2, BUFFER_BYTES = 4 << 20 };

/* A block of weights: its rows; the bytes of one row in it, of all of it, and of the chunks that are swizzled. */
enum { BLOCK_ROWS = 8, PART_BYTES = SUR_GPU_PITCH * 2, BLOCK_BYTES = BLOCK_ROWS * PART_BYTES, SWIZZLED_BYTES = 16 };

struct piece {
    struct gpu_upload_item item; /* device and host: the destination of the piece's first row */
    int row, n_rows;             /* matrices: multiples of BLOCK_ROWS, zero rows included */
    size_t n_bytes;
};

struct worker {
    struct gpu_upload *upload;
    pthread_t thread;
    CUstream stream;
    void *buffers[N_BUFFERS]; /* pinned */
    CUevent empty[N_BUFFERS]; /* recorded behind the buffer's last copy */
    CUresult result;          /* error lines are per thread: the caller makes one of it after the join */
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

static int append(struct gpu_upload *u, const struct piece *p)
{
    if (u->n == u->room) {
        size_t room = u->room ? u->room * 2 : 1024;
        struct piece *more = realloc(u->pieces, room * sizeof *more);
        if (!more) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
        u->pieces = more;
        u->room = room;
    }
    u->pieces[u->n++] = *p;
    return SUR_OK;
}

int gpu_upload_add(struct gpu_upload *u, const struct gpu_upload_item *item)
{
    const bool matrix = item->form != GPU_UPLOAD_FP32;
    const size_t row_bytes = matrix ? (size_t)item->pitch * 2 : (size_t)item->views[0]->cols * 4;
    const int unit = matrix ? BLOCK_ROWS : 1, step = (int)(BUFFER_BYTES / row_bytes) / unit * unit;
    if (step == 0) return sur_fail(SUR_ERR_MODEL, "%d rows of %zu bytes are too long", unit, row_bytes);
    int rows = 0, r = SUR_OK;
    for (int i = 0; i < GPU_UPLOAD_VIEWS && item->views[i]; i++) rows += item->views[i]->rows;
    rows = (int)gpu_round_up((size_t)rows, (size_t)unit);
    for (int row = 0; !r && row < rows; row += step) {
        struct piece p = {.item = *item, .row = row, .n_rows = rows - row < step ? rows - row : step};
        p.n_bytes = (size_t)p.n_rows * row_bytes;
        if (item->device) p.item.device += (size_t)row * row_bytes;
        if (item->host) p.item.host += (size_t)row * row_bytes;
        r = append(u, &p);
    }
    return r;
}

/* Row `row` of the stacked views, or NULL if they have fewer. */
static const char *find_row(const struct gpu_upload_item *item, int row)
{
    for (int i = 0; i < GPU_UPLOAD_VIEWS && item->views[i]; i++) {
        const struct sur_view *v = item->views[i];
        if (row < v->rows) return sur_view_row(v, row);
        row -= v->rows;
    }
    return NULL;
}

static void pack_part(char *to, const char *from, int place)
{
    for (int i = 0; i < PART_BYTES / SWIZZLED_BYTES; i++)
        memcpy(to + (i ^ place) * SWIZZLED_BYTES, from + i * SWIZZLED_BYTES, SWIZZLED_BYTES);
}

/* Packs a row as row number `place` of a run of blocks, the first of them at `to`. One row at a time, because reading
 * eight rows side by side takes three times as long. */
static void pack_row(char *to, int place, const char *from, size_t n_bytes, size_t pitch_bytes)
{
    size_t at = 0;
    to += place * PART_BYTES;
    for (; at + PART_BYTES <= n_bytes; at += PART_BYTES, to += BLOCK_BYTES) pack_part(to, from + at, place);
    for (; at < pitch_bytes; at += PART_BYTES, to += BLOCK_BYTES) {
        char last[PART_BYTES] = {0};
        if (at < n_bytes) memcpy(last, from + at, n_bytes - at);
        pack_part(to, last, place);
    }
}

/* Writes the piece to a buffer, in the form that the device gets. */
static void fill(const struct piece *p, char *to)
{
    const size_t pitch_bytes = (size_t)p->item.pitch * 2;
    if (p->item.form == GPU_UPLOAD_FP32) {
        sur_view_widen(p->item.views[0], (float *)(void *)to);
        return;
    }
    for (int i = 0; i < p->n_rows; i++) {
        const char *from = find_row(&p->item, p->row + i);
        const size_t n_bytes = from ? (size_t)p->item.views[0]->cols * 2 : 0;
        if (p->item.form == GPU_UPLOAD_BLOCKS) {
            pack_row(to + (size_t)(i - i % BLOCK_ROWS) * pitch_bytes, i % BLOCK_ROWS, from, n_bytes, pitch_bytes);
            continue;
        }
        char *row = to + (size_t)i * pitch_bytes;
        if (from) memcpy(row, from, n_bytes);
        memset(row + n_bytes, 0, pitch_bytes - n_bytes);
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
        if (!p->item.device) {
            fill(p, p->item.host);
            continue;
        }
        e = cuEventSynchronize(w->empty[b]);
        if (e) break;
        fill(p, w->buffers[b]);
        e = cuMemcpyHtoDAsync(p->item.device, w->buffers[b], p->n_bytes, w->stream);
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
    while (n < N_WORKERS && !sur_thread_start(&u->workers[n].thread, work, &u->workers[n])) n++;
    if (n == 0) return sur_fail(SUR_ERR_MEMORY, "cannot start a thread");
    for (int i = 0; i < n; i++) {
        pthread_join(u->workers[i].thread, NULL);
        if (u->workers[i].result) e = u->workers[i].result;
    }
    return gpu_check(e, "copying the weights to the GPU");
}

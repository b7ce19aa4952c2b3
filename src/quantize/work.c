#include "quantize/work.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "quantize/os_output.h"
#include "util/error.h"

enum { PART_BYTES = 1 << 20, TICK_NS = 200000000 };

/* A part is a number of rows of one tensor. Parts are numbered across all tensors. */
struct work {
    const struct plan *plan;
    int fd;
    int *first; /* [n_tensors + 1]; first[i]: number of the first part of tensor i */
    atomic_int next;
    atomic_bool failed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    uint64_t done_bytes;
    int n_running;
    int status;
    char line[512]; /* error line of the first failure */
};

static int rows_of_part(const struct plan_tensor *t)
{
    size_t n = PART_BYTES / sur_row_bytes(t->type, t->cols);
    return n < 1 ? 1 : n > (size_t)t->rows ? t->rows : (int)n;
}

static int do_part(const struct work *w, const struct plan_tensor *t, int part, uint64_t *n_bytes)
{
    int per = rows_of_part(t), begin = part * per, end = t->rows - begin < per ? t->rows : begin + per;
    size_t row_bytes = sur_row_bytes(t->type, t->cols);
    float *values = malloc((size_t)t->cols * sizeof *values);
    uint8_t *out = malloc((size_t)(end - begin) * row_bytes);
    int rc = values && out ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int r = begin; rc == SUR_OK && r < end; r++) {
        plan_row(t, r, values);
        for (int i = 0; rc == SUR_OK && i < t->cols; i++)
            if (!isfinite(values[i])) rc = sur_fail(SUR_ERR_MODEL, "%s holds a weight that is not finite", t->name);
        if (rc == SUR_OK) sur_quantise_row(t->type, values, t->cols, out + (size_t)(r - begin) * row_bytes);
    }
    *n_bytes = (uint64_t)(end - begin) * row_bytes;
    if (rc == SUR_OK && !os_output_write(w->fd, out, (size_t)*n_bytes, t->offset + (uint64_t)begin * row_bytes))
        rc = sur_fail(SUR_ERR_IO, "%s", strerror(errno));
    free(values);
    free(out);
    return rc;
}

static void *work(void *arg)
{
    struct work *w = arg;
    int t = 0, n_parts = w->first[w->plan->n_tensors];
    for (int part; !atomic_load(&w->failed) && (part = atomic_fetch_add(&w->next, 1)) < n_parts;) {
        uint64_t n_bytes = 0;
        while (part >= w->first[t + 1]) t++;
        int rc = do_part(w, &w->plan->tensors[t], part - w->first[t], &n_bytes);
        pthread_mutex_lock(&w->lock);
        w->done_bytes += n_bytes;
        if (rc != SUR_OK && w->status == SUR_OK) {
            w->status = rc;
            strncpy(w->line, sur_error_text(), sizeof w->line - 1);
        }
        pthread_mutex_unlock(&w->lock);
        if (rc != SUR_OK) atomic_store(&w->failed, true);
    }
    pthread_mutex_lock(&w->lock);
    w->n_running--;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void wait_for_all(struct work *w, work_progress_fn progress, void *user)
{
    pthread_mutex_lock(&w->lock);
    while (w->n_running) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->changed, &w->lock, &until);
        if (progress) progress(user, w->done_bytes, w->plan->n_bytes - w->plan->header.n);
    }
    pthread_mutex_unlock(&w->lock);
}

static int run_threads(struct work *w, int n_threads, work_progress_fn progress, void *user)
{
    pthread_t *threads = calloc((size_t)n_threads, sizeof *threads);
    int n = 0;
    if (!threads) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    w->n_running = n_threads;
    while (n < n_threads && pthread_create(&threads[n], NULL, work, w) == 0) n++;
    pthread_mutex_lock(&w->lock);
    w->n_running -= n_threads - n;
    pthread_mutex_unlock(&w->lock);
    wait_for_all(w, progress, user);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    free(threads);
    if (n == 0) return sur_fail(SUR_ERR_MEMORY, "cannot start a thread");
    return w->status == SUR_OK ? SUR_OK : sur_fail(w->status, "%s", w->line);
}

int work_run(const struct plan *plan, int fd, int n_threads, work_progress_fn progress, void *user)
{
    struct work w = {.plan = plan, .fd = fd};
    pthread_condattr_t attributes;
    if (!os_output_write(fd, plan->header.data, plan->header.n, 0)) return sur_fail(SUR_ERR_IO, "%s", strerror(errno));
    w.first = calloc((size_t)plan->n_tensors + 1, sizeof *w.first);
    if (!w.first) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int i = 0; i < plan->n_tensors; i++) {
        int per = rows_of_part(&plan->tensors[i]);
        w.first[i + 1] = w.first[i] + (plan->tensors[i].rows + per - 1) / per;
    }
    pthread_mutex_init(&w.lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int rc = run_threads(&w, n_threads, progress, user);
    pthread_cond_destroy(&w.changed);
    pthread_mutex_destroy(&w.lock);
    free(w.first);
    return rc;
}

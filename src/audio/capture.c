#include "audio/capture.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "audio/ring.h"
#include "surtitle.h"
#include "util/error.h"

enum { N_BLOCKS = 1 << 16 }; /* 120 s in blocks of 2 ms, with room */

struct block {
    uint64_t end; /* samples ever put, with this block's */
    int64_t entry_ns, lost[2];
};

struct capture {
    /* immutable */
    struct sur_ring *ring;
    struct block *blocks; /* [N_BLOCKS] */
    /* producer */
    int64_t pending[2];          /* lost since the last block */
    _Atomic int64_t lost;        /* read by any thread */
    atomic_bool ended;           /* release after the last block; consumer: acquire */
    _Atomic uint64_t blocks_put; /* release after the block and its samples; consumer: acquire */
    /* consumer */
    _Atomic uint64_t blocks_taken; /* release; producer: acquire */
    bool told;                     /* what was lost before the oldest block has been given */
};

/* Writes to every page now: the callback must not wait for the kernel to find one, and memory does not grow later. */
static void touch(struct capture *c)
{
    enum { PAGE = 4096 };
    float *samples;
    size_t n = sur_ring_reserve(c->ring, &samples);
    for (size_t i = 0; i < n; i += PAGE / sizeof *samples) samples[i] = 1;
    for (size_t i = 0; i < N_BLOCKS; i++) c->blocks[i] = (struct block){.end = 0};
}

int capture_create(struct capture **capture, int rate, double seconds)
{
    struct capture *c = calloc(1, sizeof *c);
    *capture = c;
    if (!c) return sur_fail(SUR_ERR_MEMORY, "not enough memory for samples");
    c->blocks = malloc(N_BLOCKS * sizeof *c->blocks);
    int status = sur_ring_create(&c->ring, (size_t)(seconds * rate) + 1);
    if (!c->blocks && status == SUR_OK) status = sur_fail(SUR_ERR_MEMORY, "not enough memory for samples");
    if (status == SUR_OK)
        touch(c);
    else
        capture_destroy(capture);
    return status;
}

void capture_destroy(struct capture **capture)
{
    struct capture *c = *capture;
    if (!c) return;
    sur_ring_destroy(&c->ring);
    free(c->blocks);
    free(c);
    *capture = NULL;
}

/* ---- producer ---- */

static size_t room(const struct capture *c)
{
    return sur_ring_capacity(c->ring) - (size_t)(sur_ring_written(c->ring) - sur_ring_read(c->ring));
}

bool capture_put(struct capture *c, struct downmix *mix, const float *frames, size_t n, int64_t entry_ns)
{
    uint64_t put = atomic_load_explicit(&c->blocks_put, memory_order_relaxed);
    if (n == 0) return true;
    if (put - atomic_load_explicit(&c->blocks_taken, memory_order_acquire) == N_BLOCKS || room(c) < n) return false;
    for (size_t done = 0; done < n;) {
        float *to;
        size_t m = sur_ring_reserve(c->ring, &to);
        if (m > n - done) m = n - done;
        downmix_run(mix, frames, m, to);
        frames += m * (size_t)mix->n_channels;
        sur_ring_commit(c->ring, m);
        done += m;
    }
    c->blocks[put % N_BLOCKS] =
        (struct block){sur_ring_written(c->ring), entry_ns, {c->pending[CAPTURE_GAP], c->pending[CAPTURE_DEVICE]}};
    c->pending[CAPTURE_GAP] = c->pending[CAPTURE_DEVICE] = 0;
    atomic_store_explicit(&c->blocks_put, put + 1, memory_order_release);
    return true;
}

void capture_lose(struct capture *c, enum capture_loss why, int64_t frames)
{
    c->pending[why] += frames;
    atomic_fetch_add_explicit(&c->lost, frames, memory_order_relaxed);
}

void capture_end(struct capture *c)
{
    atomic_store_explicit(&c->ended, true, memory_order_release);
}

/* ---- consumer ---- */

bool capture_peek(struct capture *c, struct capture_piece *piece)
{
    uint64_t taken = atomic_load_explicit(&c->blocks_taken, memory_order_relaxed);
    if (atomic_load_explicit(&c->blocks_put, memory_order_acquire) == taken) return false;
    const struct block *b = &c->blocks[taken % N_BLOCKS];
    uint64_t left = b->end - sur_ring_read(c->ring);
    size_t n = sur_ring_peek(c->ring, &piece->samples);
    piece->n = n < left ? n : (size_t)left;
    piece->entry_ns = b->entry_ns;
    for (int i = 0; i < 2; i++) piece->lost[i] = c->told ? 0 : b->lost[i];
    c->told = true;
    return true;
}

void capture_take(struct capture *c, size_t n)
{
    uint64_t taken = atomic_load_explicit(&c->blocks_taken, memory_order_relaxed);
    const struct block *b = &c->blocks[taken % N_BLOCKS];
    bool over = sur_ring_read(c->ring) + n == b->end;
    sur_ring_drop(c->ring, n);
    if (!over) return;
    c->told = false;
    atomic_store_explicit(&c->blocks_taken, taken + 1, memory_order_release);
}

bool capture_ended(struct capture *c)
{
    bool ended = atomic_load_explicit(&c->ended, memory_order_acquire); /* before the blocks: none comes after it */
    return ended && atomic_load_explicit(&c->blocks_put, memory_order_acquire) ==
                        atomic_load_explicit(&c->blocks_taken, memory_order_relaxed);
}

/* ---- any thread ---- */

int64_t capture_waiting(const struct capture *c)
{
    uint64_t read = sur_ring_read(c->ring); /* first: the difference is never negative */
    return (int64_t)(sur_ring_written(c->ring) - read);
}

int64_t capture_lost(const struct capture *c)
{
    return atomic_load_explicit(&c->lost, memory_order_relaxed);
}

int64_t capture_put_in_all(const struct capture *c)
{
    return (int64_t)sur_ring_written(c->ring);
}

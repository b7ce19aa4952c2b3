#include "input/capture.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "audio/ring.h"
#include "audio/timeline.h"
#include "util/failure.h"

enum { N_BLOCKS = 1 << 16 }; /* 120 s in blocks of 2 ms, with room */

struct block {
    uint64_t end; /* samples ever stored, including this block's */
    int64_t entry_ns;
};

struct capture {
    /* immutable */
    struct sur_ring *ring;
    struct block *blocks; /* [N_BLOCKS] */
    /* producer */
    int64_t pending[3]; /* losses before the next block to be published, by enum sur_skip_reason */
    bool holds;
    uint64_t n_held, held_from; /* blocks not yet published; samples before the first of them */
    _Atomic int64_t lost, back; /* read by any thread */
    _Atomic int64_t first_wall;
    _Atomic uint64_t published;  /* samples of the blocks published; read by any thread */
    atomic_bool ended;           /* release after the last block; consumer: acquire */
    _Atomic uint64_t blocks_put; /* release after the block and its samples; consumer: acquire */
    /* consumer */
    _Atomic uint64_t blocks_taken; /* release; producer: acquire */
    /* producer appends, consumer takes; frames */
    struct sur_timeline losses;
};

/* Writes to every page now, so that the callback causes no page faults. */
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
    if (!c) return failure(SUR_ERR_MEMORY, "not enough memory for samples");
    c->blocks = malloc(N_BLOCKS * sizeof *c->blocks);
    int status = sur_ring_create(&c->ring, (size_t)(seconds * rate) + 1);
    if (c->blocks && status == SUR_OK) {
        touch(c);
        return SUR_OK;
    }
    capture_destroy(capture);
    return failure(SUR_ERR_MEMORY, "not enough memory for samples");
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

static size_t free_samples(const struct capture *c)
{
    return sur_ring_capacity(c->ring) - (size_t)(sur_ring_written(c->ring) - sur_ring_read(c->ring));
}

/* Losses are appended before the samples that follow them are published. */
static void publish(struct capture *c, uint64_t from)
{
    static const enum sur_skip_reason order[] = {SUR_SKIP_DEVICE, SUR_SKIP_GAP, SUR_SKIP_LAG};
    uint64_t put = atomic_load_explicit(&c->blocks_put, memory_order_relaxed);
    for (int i = 0; i < 3; i++) {
        int64_t *pending = &c->pending[order[i]];
        if (*pending == 0 || !sur_timeline_lose(&c->losses, (int64_t)from, *pending, (int)order[i])) continue;
        *pending = 0;
    }
    atomic_store_explicit(&c->published, sur_ring_written(c->ring), memory_order_relaxed);
    atomic_store_explicit(&c->blocks_put, put + c->n_held, memory_order_release);
    c->n_held = 0;
}

bool capture_put(struct capture *c, struct downmix *mix, const float *frames, size_t n, int64_t entry_ns)
{
    uint64_t put = atomic_load_explicit(&c->blocks_put, memory_order_relaxed) + c->n_held;
    if (n == 0) return true;
    if (c->n_held == 0) c->held_from = sur_ring_written(c->ring);
    if (put - atomic_load_explicit(&c->blocks_taken, memory_order_acquire) == N_BLOCKS || free_samples(c) < n)
        return false;
    for (size_t done = 0; done < n;) {
        float *to;
        size_t m = sur_ring_reserve(c->ring, &to);
        if (m > n - done) m = n - done;
        downmix_run(mix, frames, m, to);
        frames += m * (size_t)mix->n_channels;
        sur_ring_commit(c->ring, m);
        done += m;
    }
    c->blocks[put % N_BLOCKS] = (struct block){sur_ring_written(c->ring), entry_ns};
    c->n_held++;
    if (!c->holds) publish(c, c->held_from);
    return true;
}

void capture_lose(struct capture *c, enum sur_skip_reason why, int64_t frames)
{
    int64_t from = (int64_t)(c->n_held > 0 ? c->held_from : sur_ring_written(c->ring));
    int64_t lost = atomic_fetch_add_explicit(&c->lost, frames, memory_order_relaxed) + frames;
    c->pending[why] += frames;
    if (why == SUR_SKIP_DEVICE) atomic_store_explicit(&c->back, from + lost, memory_order_relaxed);
}

void capture_hold(struct capture *c)
{
    c->holds = true;
}

void capture_release(struct capture *c)
{
    c->holds = false;
    if (c->n_held > 0) publish(c, c->held_from);
}

void capture_set_first_wall(struct capture *c, int64_t wall_ns)
{
    atomic_store_explicit(&c->first_wall, wall_ns, memory_order_relaxed);
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
    for (int i = 0; i < 3; i++) piece->lost[i] = 0;
    struct sur_lost_time lost;
    while (sur_timeline_take(&c->losses, (int64_t)sur_ring_read(c->ring) + 1, &lost))
        piece->lost[lost.why] += lost.t1 - lost.t0;
    return true;
}

void capture_take(struct capture *c, size_t n)
{
    uint64_t taken = atomic_load_explicit(&c->blocks_taken, memory_order_relaxed);
    const struct block *b = &c->blocks[taken % N_BLOCKS];
    bool over = sur_ring_read(c->ring) + n == b->end;
    sur_ring_drop(c->ring, n);
    if (!over) return;
    atomic_store_explicit(&c->blocks_taken, taken + 1, memory_order_release);
}

bool capture_ended(struct capture *c)
{
    bool ended = atomic_load_explicit(&c->ended, memory_order_acquire); /* read before the blocks: none follows it */
    return ended && atomic_load_explicit(&c->blocks_put, memory_order_acquire) ==
                        atomic_load_explicit(&c->blocks_taken, memory_order_relaxed);
}

/* ---- any thread ---- */

int64_t capture_waiting(const struct capture *c)
{
    uint64_t read = sur_ring_read(c->ring); /* read first, so that the difference is never negative */
    return (int64_t)(atomic_load_explicit(&c->published, memory_order_relaxed) - read);
}

int64_t capture_lost(const struct capture *c)
{
    return atomic_load_explicit(&c->lost, memory_order_relaxed);
}

int64_t capture_delivered(const struct capture *c)
{
    return (int64_t)sur_ring_written(c->ring);
}

int64_t capture_clock(const struct capture *c)
{
    return capture_delivered(c) + capture_lost(c);
}

int64_t capture_back(const struct capture *c)
{
    return atomic_load_explicit(&c->back, memory_order_relaxed);
}

int64_t capture_first_wall(const struct capture *c)
{
    return atomic_load_explicit(&c->first_wall, memory_order_relaxed);
}

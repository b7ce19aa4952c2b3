/* Each thread of a block is a fiber with a stack of its own, created once and used for every block. A fiber runs until
 * a barrier and then waits for the last thread to arrive, while the other fibers take turns. So a block runs on one
 * thread of the CPU, and always in the same order. */
#include "block.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <map>
#include <vector>

#include "emulator.h"

namespace emulated
{

uint3 thread, block, block_size, grid;
alignas(1024) char shared[MAX_SHARED + GUARD_BYTES];

namespace
{

enum { MAX_THREADS = 1024, STACK_BYTES = 256 << 10, POISON = 0xff }; /* poison: NaN as fp32, bf16 and fp16 */

/* A queue of fibers that wait, or that are ready. */
struct queue {
    int first = -1, last = -1;
};

struct meeting {
    unsigned arrived, number;
    queue waiting;
};

struct copy {
    uint32_t to;
    const void *from;
    int group;
};

/* What a barrier's 8 bytes of shared memory hold. */
struct barrier {
    uint32_t mark, phases; /* phases: complete */
};
constexpr uint32_t BARRIER_MARK = 0xba221e25;

struct arriving {
    uint32_t to, n_bytes;
    const char *from;
};

struct fiber {
    void *at[5]; /* where it continues: __builtin_setjmp */
    char *stack;
    int next; /* in its queue */
    std::vector<copy> copies;
    int group; /* of copies, not yet committed */
};

struct warp {
    meeting all;
    const char *what; /* the function that they meet in */
    alignas(16) char rooms[2][WARP * LANE_BYTES];
};

const emulated_kernel *kernel;
const void *parameter;
uint32_t shared_bytes; /* that the launch asked for */
fiber fibers[MAX_THREADS];
warp warps[MAX_THREADS / WARP];
meeting all_threads, first_256;
queue ready;
std::map<uint32_t, std::vector<arriving>> under_way; /* by barrier */
unsigned n_threads, n_running;
void *home[5];

[[noreturn]] void die(const char *what)
{
    fprintf(stderr, "emulator: %s: thread %u of block %u, %u, %u: %s\n", kernel->name, thread.x, block.x, block.y,
            block.z, what);
    abort();
}

[[noreturn]] void fiber_main();

void push(queue &q, int i)
{
    fibers[i].next = -1;
    if (q.last < 0)
        q.first = i;
    else
        fibers[q.last].next = i;
    q.last = i;
}

/* Switches to the next fiber that is ready. */
[[noreturn, gnu::noinline]] void resume()
{
    const int i = ready.first;
    if (i < 0) die("deadlock: every thread waits");
    ready.first = fibers[i].next;
    if (ready.first < 0) ready.last = -1;
    thread.x = (unsigned)i;
    fiber &f = fibers[i];
    if (f.stack) __builtin_longjmp(f.at, 1);
    ucontext_t c;
    f.stack = (char *)malloc(STACK_BYTES);
    if (!f.stack || getcontext(&c)) die("no stack");
    c.uc_stack.ss_sp = f.stack;
    c.uc_stack.ss_size = STACK_BYTES;
    c.uc_link = NULL;
    makecontext(&c, fiber_main, 0);
    setcontext(&c);
    die("no context");
}

[[gnu::noinline]] void give_turn()
{
    if (__builtin_setjmp(fibers[thread.x].at) == 0) resume();
}

void release(meeting &m)
{
    m.arrived = 0;
    m.number++;
    if (m.waiting.first < 0) return;
    if (ready.last < 0)
        ready.first = m.waiting.first;
    else
        fibers[ready.last].next = m.waiting.first;
    ready.last = m.waiting.last;
    m.waiting = {};
}

void meet(meeting &m, unsigned n)
{
    if (++m.arrived == n) {
        release(m);
        return;
    }
    push(m.waiting, (int)thread.x);
    give_turn();
}

[[noreturn, gnu::noinline]] void go_home()
{
    __builtin_longjmp(home, 1);
}

/* The loop of a fiber: one thread of one block after another. */
void fiber_main()
{
    for (;;) {
        kernel->run(parameter);
        n_running--;
        if (n_running && all_threads.arrived == n_running)
            release(all_threads); /* the others need not wait for this thread */
        if (__builtin_setjmp(fibers[thread.x].at)) continue;
        if (n_running) resume();
        go_home();
    }
}

[[gnu::noinline]] void start_block()
{
    if (__builtin_setjmp(home) == 0) resume();
}

void run_block()
{
    memset(shared, POISON, shared_bytes + GUARD_BYTES);
    ready = {};
    for (unsigned i = 0; i < n_threads; i++) {
        fibers[i].copies.clear();
        fibers[i].group = 0;
        push(ready, (int)i);
    }
    for (warp &w : warps) w.all = {};
    all_threads = first_256 = {};
    n_running = n_threads;
    start_block();
    if (!under_way.empty()) die("ended before all of its fetches arrived");
    for (unsigned i = 0; i < GUARD_BYTES; i++)
        if ((unsigned char)shared[shared_bytes + i] != POISON) die("wrote outside its shared memory");
}

barrier &barrier_at(uint32_t address)
{
    barrier &b = *(barrier *)shared_at(address, sizeof b);
    if (b.mark != BARRIER_MARK) die("there is no barrier");
    return b;
}

char *room_at(uint32_t to, uint32_t n_bytes)
{
    if (to % 16 || n_bytes % 16 || !n_bytes || to + n_bytes > shared_bytes) die("a fetch to outside shared memory");
    return shared + to;
}

} // namespace

void meet_block()
{
    meet(all_threads, n_running);
}

void meet_256()
{
    meet(first_256, 256);
}

char *warp_room(const char *what)
{
    warp &w = warps[thread.x / WARP];
    if (w.all.arrived == 0) w.what = what;
    if (w.what != what) die("lanes of a warp have diverged");
    return w.rooms[w.all.number % 2];
}

void meet_warp()
{
    meet(warps[thread.x / WARP].all, WARP);
}

char *shared_at(uint32_t address, uint32_t n_bytes)
{
    if (address % n_bytes || address + n_bytes > shared_bytes) die("an address outside its shared memory");
    return shared + address;
}

void copy_async(uint32_t to, const void *from)
{
    fiber &f = fibers[thread.x];
    if ((uintptr_t)from % 16) die("a copy from an address that is no multiple of 16");
    shared_at(to, 16);
    f.copies.push_back({to, from, f.group});
}

void copy_commit()
{
    fibers[thread.x].group++;
}

void copy_wait(int left)
{
    fiber &f = fibers[thread.x];
    size_t n = 0;
    for (; n < f.copies.size() && f.copies[n].group < f.group - left; n++)
        memcpy(shared + f.copies[n].to, f.copies[n].from, 16);
    f.copies.erase(f.copies.begin(), f.copies.begin() + (ptrdiff_t)n);
}

void arrival_init(uint32_t address)
{
    *(barrier *)shared_at(address, sizeof(barrier)) = {BARRIER_MARK, 0};
}

void fetch_async(uint32_t to, const char *from, uint32_t n_bytes, uint32_t address)
{
    barrier_at(address);
    if ((uintptr_t)from % 16) die("a fetch from an address that is no multiple of 16");
    memset(room_at(to, n_bytes), POISON, n_bytes);
    under_way[address].push_back({to, n_bytes, from});
}

void arrival_wait(uint32_t address, uint32_t parity)
{
    barrier &b = barrier_at(address);
    if (b.phases % 2 != parity) return;
    const auto fetches = under_way.find(address);
    if (fetches == under_way.end()) die("waits for a fetch that was not started"); /* a warp waits only for its own */
    for (const arriving &a : fetches->second) memcpy(room_at(a.to, a.n_bytes), a.from, a.n_bytes);
    under_way.erase(fetches);
    b.phases++;
}

} // namespace emulated

void emulator_run(const emulated_kernel *kernel, const emulated_launch *launch, const void *parameter)
{
    using namespace emulated;
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static unsigned n_launches;
    pthread_mutex_lock(&mutex);
    emulated::kernel = kernel;
    emulated::parameter = parameter;
    n_threads = launch->threads;
    shared_bytes = launch->shared_bytes;
    block_size = {n_threads, 1, 1};
    grid = {launch->grid[0], launch->grid[1], launch->grid[2]};
    if (n_threads > MAX_THREADS || n_threads % WARP || shared_bytes > MAX_SHARED) die("an impossible launch");
    const unsigned n = grid.x * grid.y * grid.z;
    const bool down = n_launches++ % 2;
    for (unsigned i = 0; i < n; i++) {
        const unsigned j = down ? n - 1 - i : i;
        block = {j % grid.x, j / grid.x % grid.y, j / grid.x / grid.y};
        run_block();
    }
    pthread_mutex_unlock(&mutex);
}

/* One thread block of a GPU on one thread of a CPU: its threads take turns, from one barrier to the next. For kernels,
 * while emulator_run runs them. */
#ifndef SUR_TESTS_EMULATOR_BLOCK_H
#define SUR_TESTS_EMULATOR_BLOCK_H

#include <stddef.h>
#include <stdint.h>

struct uint3 {
    unsigned x, y, z;
};

namespace emulated
{

enum { WARP = 32, LANE_BYTES = 64, MAX_SHARED = 256 << 10, GUARD_BYTES = 4096 };

extern uint3 thread, block, block_size, grid; /* of the running thread */
extern char shared[MAX_SHARED + GUARD_BYTES]; /* dynamic shared memory, poisoned before each block */

/* Barriers: of all threads of the block that have not ended, and of the first 256. */
void meet_block();
void meet_256();
/* Returns memory for LANE_BYTES of each lane of the calling thread's warp, [32][LANE_BYTES], valid until the lane's
 * next call but one. All lanes must call it for the same `what`, or the process ends. */
char *warp_room(const char *what);
void meet_warp();

/* Asynchronous copies arrive when they are waited for and not before, so that a read before the wait reads poison. */
void copy_async(uint32_t to, const void *from);
void copy_commit();
void copy_wait(int left);

/* Barriers and fetches of kernels/instructions.cuh. A fetch poisons its destination at once. All fetches of a barrier
 * arrive when the first thread waits for the barrier's phase. */
void arrival_init(uint32_t barrier);
void fetch_async(uint32_t to, const char *from, uint32_t n_bytes, uint32_t barrier);
void arrival_wait(uint32_t barrier, uint32_t parity);

/* Host address of a shared address. Ends the process if n_bytes from there are not within the launch's shared memory.
 */
char *shared_at(uint32_t address, uint32_t n_bytes);

} // namespace emulated

#endif

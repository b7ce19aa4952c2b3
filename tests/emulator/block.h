/* One block of threads of a GPU on one thread of a processor: its threads take turns, from one meeting to the next.
 * For kernels, while emulator_run runs them. */
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

extern uint3 thread, block, block_size, grid; /* of the thread whose turn it is */
extern char shared[MAX_SHARED + GUARD_BYTES]; /* dynamic shared memory, poisoned before each block */

/* All threads of the block that have not ended; the first 256. */
void meet_block();
void meet_256();
/* A place for LANE_BYTES of each lane of the calling thread's warp, [32][LANE_BYTES], until the lane's next call but
 * one. All lanes call it for the same `what`, or the process ends. */
char *warp_room(const char *what);
void meet_warp();

/* Asynchronous copies arrive when they are waited for and not before, so that who reads too early reads poison. */
void copy_async(uint32_t to, const void *from);
void copy_commit();
void copy_wait(int left);

/* Barriers and fetches, as kernels/instructions.cuh has them. A fetch poisons its room at once, and arrives with the
 * first that waits for its phase; what is fetched with one barrier before that arrives together. */
void arrival_init(uint32_t barrier);
void fetch_async(uint32_t to, const char *from, uint32_t n_bytes, uint32_t barrier);
void arrival_wait(uint32_t barrier, uint32_t parity);

/* The place of a shared address; ends the process when n_bytes from there are not all the launch's. */
char *shared_at(uint32_t address, uint32_t n_bytes);

} // namespace emulated

#endif

/* Instructions of the GPU that CUDA C++ does not have, and shared memory whose size the launch gives. Kernels include
 * it as <instructions.cuh>: tests/emulator has another file of that name, with which they run on a CPU. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#define DEVICE        static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__

/* A thread block's dynamic shared memory: char name[]. */
#define DYNAMIC_SHARED(name, alignment)                                                                                \
    extern __shared__ __align__(alignment)                                                                             \
    char name[]

/* Programmatic dependent launch (9.0 and above; below that a kernel starts when the one before has ended). Every kernel
 * of a pass waits before it reads what the one before wrote, and then lets the next one start. So at most two kernels
 * overlap.
 * Some kernels read before the wait what was written two or more kernels ago: the skinny ADD reads y, ROWS its
 * position, QKV its position and rotation, attention its position and all keys and values but the newest. That these
 * reads see the writes is an assumption about the hardware. PTX promises that a kernel sees the writes of its
 * predecessors once it has itself executed griddepcontrol.wait, and nothing before that; that the kernel between had
 * waited for those writes before it let this one start is no promise to this one. It holds on the GPU of 9.0 that was
 * tried (H200): tests/kernels/check_overlap.c compares bits for attention. On a new architecture this is the first
 * suspect when bits differ.
 * Tiled passes are launched without it (src/gpu/pass.c). */
DEVICE void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void let_next_start()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* threadIdx.x / 32, in a form that tells the compiler that all lanes have the same value. */
DEVICE int warp_index()
{
    return __shfl_sync(~0u, (int)threadIdx.x / 32, 0);
}
/* True in one lane of the warp, always the same one. All lanes call it. */
DEVICE bool elected()
{
#if __CUDA_ARCH__ >= 900
    uint32_t yes;
    asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(yes));
    return yes;
#else
    return threadIdx.x % 32 == 0;
#endif
}

/* Barrier of the first 256 threads of a block. */
DEVICE void sync_256()
{
    asm volatile("bar.sync 1, 256;" ::: "memory");
}

/* Makes the compiler keep x in a register from here on, instead of computing it again wherever it is used. */
template <typename T> DEVICE T keep_in_register(T x)
{
    if constexpr (sizeof x == 8)
        asm volatile("" : "+l"(x));
    else
        asm volatile("" : "+r"(x));
    return x;
}

DEVICE uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Copies 16 bytes from global to shared memory, past the first-level cache. */
DEVICE void copy_async(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE void copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> DEVICE void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- copies that complete a barrier: 8 bytes of shared memory, used by one warp ---- */

/* Called by one lane, before the warp meets. */
DEVICE void arrival_init(uint32_t barrier)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(barrier) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(barrier) : "memory");
#endif
}
/* Called by all lanes: copies n_bytes, a multiple of 16, from `lower` to shared memory and, unless `upper` is NULL,
 * n_bytes from there to to + apart. The copies complete the barrier's current phase. Before the call all lanes have
 * finished with the old contents, and have met. */
DEVICE void fetch_async(uint32_t to, const char *lower, const char *upper, uint32_t apart, uint32_t n_bytes,
                        uint32_t barrier)
{
#if __CUDA_ARCH__ >= 900
    auto bulk = [&](uint32_t there, const char *from) {
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(there),
            "l"(from), "r"(n_bytes), "r"(barrier)
            : "memory");
    };
    if (elected()) {
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier),
                     "r"(upper ? 2 * n_bytes : n_bytes)
                     : "memory");
        bulk(to, lower);
        if (upper) bulk(to + apart, upper);
    }
#else
    for (uint32_t i = threadIdx.x % 32 * 16; i < n_bytes; i += 512) {
        copy_async(to + i, lower + i);
        if (upper) copy_async(to + apart + i, upper + i);
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
#endif
}
/* Waits until the barrier's phase of this parity is complete. Its first phase has parity 0. */
DEVICE void arrival_wait(uint32_t barrier, uint32_t parity)
{
    uint32_t done;
    do {
#if __CUDA_ARCH__ >= 900
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity)
                     : "memory");
#else
        asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity)
                     : "memory");
#endif
    } while (!done);
}

/* Adds 1 and returns the value before. Called by one thread between two barriers of its block: afterwards the block
 * sees all writes of the blocks that called it before. */
DEVICE int count_at(int *counter)
{
    int before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
    return before;
}

/* Returns the value; afterwards the thread sees the writes of the blocks that have called count_at. */
DEVICE int look_at(const int *counter)
{
    int now;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
    return now;
}
/* Sets the value; a thread that reads x by look_at or swap_at sees the writes before this one. */
DEVICE void put_released(int *counter, int x)
{
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(counter), "r"(x) : "memory");
}
/* Sets the value to x if it is `expected`. Returns the value before. */
DEVICE int swap_at(int *counter, int expected, int x)
{
    int before;
    asm volatile("atom.cas.acq_rel.gpu.global.b32 %0, [%1], %2, %3;"
                 : "=r"(before)
                 : "l"(counter), "r"(expected), "r"(x)
                 : "memory");
    return before;
}

/* Loads four 8 x 8 matrices of 16-bit numbers. Lane i passes the address of row i % 8 of matrix i / 8. */
DEVICE void load_matrix4(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* Like load_matrix4, with each matrix transposed. */
DEVICE void load_matrix4_transposed(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* c += a b: a [16 rows][16 of k], b [16 of k][8 columns]. Of c lane 4 g + t holds rows g and g + 8, columns 2 t and
 * 2 t + 1. */
DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void mma_fp16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* 1 / x to 2^-23, for a normal x. */
DEVICE float reciprocal(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* 2^x to about 2^-22; a result below the normal numbers is 0. */
DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

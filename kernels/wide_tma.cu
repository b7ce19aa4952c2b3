/* The wide product for compute capability 9.0: wgmma, fed by the bulk tensor copies of a warp of its own. Chains of
 * wgmma give the bits of chains of mma.sync, so the order of summation is launch.h's here, too.
 *
 * CLUSTER thread blocks stand one above the other (along the rows) and need the same columns: each copies its share of
 * them into the shared memory of all. Elsewhere than on 9.0 there are no kernels in this file. */
#include "wide.h"
#include "wide_put.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- instructions ---- */

DEVICE void barrier_init(uint32_t barrier, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/* Arrives, and n_bytes more are to be copied before the phase ends. */
DEVICE void barrier_expect(uint32_t barrier, uint32_t n_bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(n_bytes) : "memory");
}
/* At the barrier in the same place of a thread block of the cluster. */
DEVICE void barrier_arrive(uint32_t barrier, int rank)
{
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}
DEVICE void barrier_wait(uint32_t barrier, uint32_t parity)
{
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}
DEVICE void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
DEVICE void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
DEVICE int cluster_rank()
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return (int)rank;
}

/* The map's box at element x of row y; what lies outside the matrix is 0. */
DEVICE void copy_box(uint32_t to, const sur_gpu_map &map, int x, int y, uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
                 "[%4];" ::"r"(to),
                 "l"(&map), "r"(x), "r"(y), "r"(barrier)
                 : "memory");
}
/* The same into the same place of all thread blocks of the cluster in `mask`. */
DEVICE void copy_box(uint32_t to, const sur_gpu_map &map, int x, int y, uint32_t barrier, uint16_t mask)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
                 "[%1, {%2, %3}], [%4], %5;" ::"r"(to),
                 "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(mask)
                 : "memory");
}

DEVICE void wgmma_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> DEVICE void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/* Lines of 128 bytes, eight in a swizzled atom: what a box's copy leaves. */
DEVICE uint64_t matrix_at(uint32_t address)
{
    return (uint64_t)1 << 62 | (uint64_t)64 << 32 | (uint64_t)1 << 16 | (address & 0x3ffff) >> 4;
}

#define SUM4(i)  "+f"(c[0][i][0]), "+f"(c[0][i][1]), "+f"(c[0][i][2]), "+f"(c[0][i][3])
#define SUM16(i) SUM4(i), SUM4(i + 1), SUM4(i + 2), SUM4(i + 3)
#define NAMES8_32                                                                                                      \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_64                                                                                                       \
    NAMES8_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                     \
              "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/* c (+)= a b: 64 rows of a, 64 or 128 columns of b, 16 of k. fresh: c was nothing. */
DEVICE void wgmma(float (&c)[1][8][4], uint64_t a, uint64_t b, bool fresh)
{
    asm volatile("{\n.reg .pred add;\nsetp.eq.b32 add, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES8_32 "}, %32, %33, add, 1, 1, 0, 0;\n}"
                 : SUM16(0), SUM16(4)
                 : "l"(a), "l"(b), "r"((int)fresh));
}
DEVICE void wgmma(float (&c)[1][16][4], uint64_t a, uint64_t b, bool fresh)
{
    asm volatile("{\n.reg .pred add;\nsetp.eq.b32 add, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES_64 "}, %64, %65, add, 1, 1, 0, 0;\n}"
                 : SUM16(0), SUM16(4), SUM16(8), SUM16(12)
                 : "l"(a), "l"(b), "r"((int)fresh));
}
/* A warpgroup's threads take, or give back, registers: N each from here on. */
template <int N> DEVICE void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> DEVICE void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
/* Keeps the compiler from reading sums before they were waited for. */
template <int N> DEVICE void have(float (&c)[1][N][4])
{
#pragma unroll
    for (int i = 0; i < N * 4; i++) asm volatile("" : "+f"(c[0][i / 4][i % 4])::"memory");
}

/* ---- tiles ---- */

/* ROWS x COLUMNS outputs a block, a warpgroup for each 64 rows and one that copies. A stage holds 64 of k: ROWS
 * lines of weights, COLUMNS of hi, COLUMNS of lo. */
template <int ROWS_, int COLUMNS_, int STAGES_, int CLUSTER_> struct tma_tile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, STAGES = STAGES_, CLUSTER = CLUSTER_;
    static constexpr int GROUPS = ROWS / 64, MT = 1, NT = COLUMNS / 8, SHARE = COLUMNS / CLUSTER;
    static constexpr uint32_t LINE = 2 * SUR_GPU_PITCH, HI = ROWS * LINE, LO = HI + COLUMNS * LINE;
    static constexpr uint32_t STAGE = LO + COLUMNS * LINE;
    static_assert(GROUPS * 64 == ROWS && SHARE % 8 == 0 && SHARE * CLUSTER == COLUMNS, "whole boxes");
};

/* Where things lie in shared memory, the same in all thread blocks of a cluster. */
template <typename T> struct tma_shared {
    uint32_t stages, barriers;

    DEVICE_MEMBER tma_shared(const void *dynamic)
    {
        stages = (shared_address(dynamic) + 1023) & ~1023u;
        barriers = stages + T::STAGES * T::STAGE;
    }
    DEVICE_MEMBER uint32_t full(int stage) const { return barriers + stage * 8; }
    DEVICE_MEMBER uint32_t empty(int stage) const { return barriers + (T::STAGES + stage) * 8; }
};

/* Goes round the stages; phase: the parity of their barriers. */
template <typename T> struct turn {
    int stage, phase;

    DEVICE_MEMBER void next()
    {
        if (++stage == T::STAGES) stage = 0, phase ^= 1;
    }
};

/* One thread's work: all copies of a block. Weights are asked for before the wait for the kernel before. */
template <typename T, bool TWO>
DEVICE void copy_all(const sur_gpu_wide_tma &p, const tma_shared<T> &s, int n_tiles, int row0, int column0)
{
    const int rank = T::CLUSTER > 1 ? cluster_rank() : 0;
    auto weights = [&](int t, int stage) {
        uint32_t to = s.stages + stage * T::STAGE;
        barrier_expect(s.full(stage), T::STAGE);
        constexpr int BOX = TWO ? 8 : T::ROWS; /* TWO: of 16 rows the first 8 are w's, the others the same of w_up */
        for (int i = 0; i < T::ROWS / BOX; i++)
            copy_box(to + i * BOX * T::LINE, i % 2 ? p.w_up : p.w, t * SUR_GPU_PITCH, row0 + i / 2 * 8, s.full(stage));
    };
    auto activations = [&](int t, int stage) {
        uint32_t to = s.stages + stage * T::STAGE + rank * T::SHARE * T::LINE;
        int x = t * SUR_GPU_PITCH, y = column0 + rank * T::SHARE;
        if (T::CLUSTER > 1) {
            copy_box(to + T::HI, p.hi, x, y, s.full(stage), (1 << T::CLUSTER) - 1);
            copy_box(to + T::LO, p.lo, x, y, s.full(stage), (1 << T::CLUSTER) - 1);
        } else {
            copy_box(to + T::HI, p.hi, x, y, s.full(stage));
            copy_box(to + T::LO, p.lo, x, y, s.full(stage));
        }
    };
    const int first = n_tiles < T::STAGES ? n_tiles : T::STAGES;
    for (int t = 0; t < first; t++) weights(t, t);
    wait_for_previous();
    let_next_start();
    asm volatile("fence.proxy.async.global;" ::: "memory"); /* hi and lo were written by ordinary stores */
    for (int t = 0; t < first; t++) activations(t, t);
    turn<T> now = {0, 0};
    for (int t = first; t < n_tiles; t++, now.next()) {
        barrier_wait(s.empty(now.stage), now.phase);
        weights(t, now.stage);
        activations(t, now.stage);
    }
}

/* A segment of N x 64 of k for a warpgroup's 64 rows. Straight on: sums under way allow no branch beside them. */
template <typename T, int N>
DEVICE void multiply_segment(const tma_shared<T> &s, turn<T> &now, int group, float (&sum)[1][T::NT][4])
{
    float chain[1][T::NT][4];
    /* all thread blocks that copied into a stage may do so again; every warp says so */
    auto release = [&](int stage) {
        int lane = (int)threadIdx.x % 32;
        if (lane < T::CLUSTER) barrier_arrive(s.empty(stage), lane);
    };
    int before = 0;
#pragma unroll
    for (int t = 0; t < N; t++) {
        const uint32_t stage = s.stages + now.stage * T::STAGE;
        const uint64_t a = matrix_at(stage + group * 64 * T::LINE);
        const uint64_t hi = matrix_at(stage + T::HI), lo = matrix_at(stage + T::LO);
        barrier_wait(s.full(now.stage), now.phase);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < SUR_GPU_PITCH / 16; i++) {
            wgmma(chain, a + 2 * i, lo + 2 * i, t == 0 && i == 0);
            wgmma(chain, a + 2 * i, hi + 2 * i, false);
        }
        wgmma_commit();
        if (t > 0) {
            wgmma_wait<1>();
            release(before);
        }
        before = now.stage;
        now.next();
    }
    wgmma_wait<0>();
    have(chain);
    release(before);
    add_segment<T>(sum, chain);
}

/* A warpgroup's 64 rows. */
template <typename T>
DEVICE void multiply_all(const tma_shared<T> &s, int n_tiles, int group, float (&sum)[1][T::NT][4])
{
    turn<T> now = {0, 0};
    for (; n_tiles >= 4; n_tiles -= 4) multiply_segment<T, 4>(s, now, group, sum);
    if (n_tiles == 1) multiply_segment<T, 1>(s, now, group, sum);
    if (n_tiles == 2) multiply_segment<T, 2>(s, now, group, sum);
    if (n_tiles == 3) multiply_segment<T, 3>(s, now, group, sum);
}
static_assert(SUR_GPU_SEGMENT == 4 * SUR_GPU_PITCH, "a segment is four stages");

template <typename T, int EPILOGUE> DEVICE void wide_tma(const sur_gpu_wide_tma &p)
{
    extern __shared__ __align__(1024) char dynamic[];
    constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU;
    const tma_shared<T> s(dynamic);
    const int row0 = (int)blockIdx.y * (TWO ? T::ROWS / 2 : T::ROWS), column0 = (int)blockIdx.x * T::COLUMNS;
    const int n_tiles = p.product.pitch / SUR_GPU_PITCH, lane = (int)threadIdx.x % 32;
    const int warp = __shfl_sync(~0u, (int)threadIdx.x / 32, 0), group = warp / 4; /* the compiler sees them uniform */
    if (threadIdx.x == 0) {
        for (int i = 0; i < T::STAGES; i++) {
            barrier_init(s.full(i), 1);
            barrier_init(s.empty(i), T::CLUSTER * T::GROUPS * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (T::CLUSTER > 1) {
        cluster_arrive();
        cluster_wait();
    }
    if (group == T::GROUPS) {
        if (T::GROUPS == 3) give_registers<32>();
        if (threadIdx.x % 128 == 0) copy_all<T, TWO>(p, s, n_tiles, row0, column0);
        __syncwarp();
        if (T::CLUSTER > 1) cluster_arrive();
    } else {
        if (T::GROUPS == 3) take_registers<160>();
        outputs<T> out = {};
        wait_for_previous();
        let_next_start();
        multiply_all<T>(s, n_tiles, group, out.sum);
        if (T::CLUSTER > 1) cluster_arrive();
        out.row = row0 + group * (TWO ? 32 : 64) + warp % 4 * (TWO ? 8 : 16) + lane / 4;
        out.column = column0 + lane % 4 * 2;
        put<T, EPILOGUE>(p.product, out);
    }
    if (T::CLUSTER > 1) cluster_wait(); /* nobody's shared memory goes while another still writes there */
}

#define TMA(name, EPILOGUE, R, C, STAGES, CLUSTER)                                                                     \
    extern "C" __global__ void __cluster_dims__(1, CLUSTER, 1) __launch_bounds__(2 * R + 128, 1)                       \
        k_wide_##name##_tma_##R##x##C(const __grid_constant__ struct sur_gpu_wide_tma p)                               \
    {                                                                                                                  \
        wide_tma<tma_tile<R, C, STAGES, CLUSTER>, EPILOGUE>(p);                                                        \
    }
#define TMA_TILE(R, C, STAGES, CLUSTER, inner, outer)                                                                  \
    TMA(plain, SUR_GPU_PLAIN, R, C, STAGES, CLUSTER)                                                                   \
    TMA(gelu, SUR_GPU_GELU, R, C, STAGES, CLUSTER)                                                                     \
    TMA(add, SUR_GPU_ADD, R, C, STAGES, CLUSTER)                                                                       \
    TMA(swiglu, SUR_GPU_SWIGLU, R, C, STAGES, CLUSTER)                                                                 \
    TMA(qkv, SUR_GPU_QKV, R, C, STAGES, CLUSTER)                                                                       \
    TMA(rows, SUR_GPU_ROWS, R, C, STAGES, CLUSTER)
SUR_GPU_TMA_TILES(TMA_TILE)

#endif

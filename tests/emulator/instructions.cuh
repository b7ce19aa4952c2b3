/* kernels/instructions.cuh for a CPU, and the part of CUDA C++ that the kernels use. Numbers round as on the GPU, with
 * two exceptions: tensor cores sum exactly and round once, and approximate functions are exact. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>

#include "block.h"
#include "util/half.h"

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__                      static
#define DEVICE                          static inline
#define DEVICE_MEMBER                   inline
#define DYNAMIC_SHARED(name, alignment) char *const name = emulated::shared
#define threadIdx                       emulated::thread
#define blockIdx                        emulated::block
#define blockDim                        emulated::block_size
#define gridDim                         emulated::grid

using std::min;

/* ---- numbers ---- */

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
DEVICE float2 make_float2(float x, float y)
{
    return {x, y};
}
DEVICE float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
DEVICE uint2 make_uint2(uint32_t x, uint32_t y)
{
    return {x, y};
}
DEVICE uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return {x, y, z, w};
}

DEVICE uint32_t __float_as_uint(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
DEVICE float __uint_as_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
DEVICE float __fadd_rn(float a, float b)
{
    return a + b;
}
DEVICE float __fsub_rn(float a, float b)
{
    return a - b;
}
DEVICE float __fmul_rn(float a, float b)
{
    return a * b;
}
DEVICE float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
DEVICE float __fdiv_rn(float a, float b)
{
    return a / b;
}
DEVICE float __fdividef(float a, float b)
{
    return a / b;
}
DEVICE float reciprocal(float x)
{
    return 1 / x;
}
#define rsqrtf one_by_root /* newer C libraries define rsqrtf */
DEVICE float one_by_root(float x)
{
    return 1 / sqrtf(x);
}
DEVICE int __float2int_rn(float x)
{
    return (int)rintf(x);
}
DEVICE int __float2int_rz(float x)
{
    return (int)x;
}
DEVICE float exp2_fast(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
struct __half {
    uint16_t bits;
};
struct __half2 {
    __half x, y;
};
DEVICE __nv_bfloat16 __float2bfloat16_rn(float x)
{
    uint32_t u = __float_as_uint(x);
    if (x != x) return {0x7fff};
    return {(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
DEVICE float __bfloat162float(__nv_bfloat16 h)
{
    return sur_bf16_to_f32(h.bits);
}
DEVICE unsigned short __bfloat16_as_ushort(__nv_bfloat16 h)
{
    return h.bits;
}
DEVICE __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)};
}
DEVICE float __low2float(__nv_bfloat162 h)
{
    return __bfloat162float(h.x);
}
DEVICE float __high2float(__nv_bfloat162 h)
{
    return __bfloat162float(h.y);
}
DEVICE __half __float2half_rn(float x) /* kernels convert only +-65504 and NaN */
{
    return {sur_f32_to_fp16(x)};
}
DEVICE float __half2float(__half h)
{
    return sur_fp16_to_f32(h.bits);
}
DEVICE __half2 __halves2half2(__half a, __half b)
{
    return {a, b};
}
DEVICE float __low2float(__half2 h)
{
    return __half2float(h.x);
}
DEVICE float __high2float(__half2 h)
{
    return __half2float(h.y);
}

/* ---- memory ---- */

template <typename T> DEVICE T __ldg(const T *p)
{
    return *p;
}
template <typename T> DEVICE T __ldcg(const T *p)
{
    return *p;
}
template <typename T> DEVICE T __ldcs(const T *p)
{
    return *p;
}
template <typename T> DEVICE void __stcg(T *p, T x)
{
    *p = x;
}
template <typename T> DEVICE T atomicAdd(T *p, int x)
{
    T old = *p;
    *p = old + (T)x;
    return old;
}
DEVICE void __threadfence() {}
DEVICE void __threadfence_system() {}
template <typename T> DEVICE T keep_in_register(T x)
{
    return x;
}
DEVICE uint32_t shared_address(const void *p)
{
    return (uint32_t)((const char *)p - emulated::shared);
}
DEVICE void copy_async(uint32_t to, const void *from)
{
    emulated::copy_async(to, from);
}
DEVICE void copy_commit()
{
    emulated::copy_commit();
}
template <int N> DEVICE void copy_wait()
{
    emulated::copy_wait(N);
}

DEVICE void arrival_init(uint32_t barrier)
{
    emulated::arrival_init(barrier);
}
DEVICE void arrival_wait(uint32_t barrier, uint32_t parity)
{
    emulated::arrival_wait(barrier, parity);
}
DEVICE int count_at(int *counter)
{
    return atomicAdd(counter, 1);
}

DEVICE int look_at(const int *counter)
{
    return *counter;
}
DEVICE void put_released(int *counter, int x)
{
    *counter = x;
}
DEVICE int swap_at(int *counter, int expected, int x)
{
    const int before = *counter;
    if (before == expected) *counter = x;
    return before;
}

/* ---- threads ---- */

DEVICE void wait_for_previous() /* kernels run one after another */ {}
DEVICE void let_next_start() {}
DEVICE void __syncthreads()
{
    emulated::meet_block();
}
DEVICE void sync_256()
{
    emulated::meet_256();
}

/* All lanes' values: [32]. */
template <typename T> DEVICE const T *all_lanes(const char *what, const T &mine)
{
    static_assert(sizeof mine <= emulated::LANE_BYTES, "larger rooms are needed");
    char *room = emulated::warp_room(what);
    memcpy(room + threadIdx.x % 32 * sizeof mine, &mine, sizeof mine);
    emulated::meet_warp();
    return (const T *)room;
}
DEVICE void __syncwarp()
{
    all_lanes("__syncwarp", 0);
}
DEVICE int __all_sync(unsigned, int x)
{
    const int *all = all_lanes("__all_sync", x);
    return std::all_of(all, all + 32, [](int y) { return y != 0; });
}
template <typename T> DEVICE T __shfl_sync(unsigned, T x, int lane)
{
    return all_lanes("__shfl_sync", x)[lane];
}
DEVICE int warp_index()
{
    return (int)threadIdx.x / 32;
}
DEVICE bool elected()
{
    return threadIdx.x % 32 == 0;
}
template <typename T> DEVICE T __shfl_xor_sync(unsigned, T x, int mask)
{
    return all_lanes("__shfl_xor_sync", x)[threadIdx.x % 32 ^ (unsigned)mask];
}
template <typename T> DEVICE T __shfl_up_sync(unsigned, T x, int delta)
{
    const int lane = (int)threadIdx.x % 32;
    return all_lanes("__shfl_up_sync", x)[lane < delta ? lane : lane - delta];
}

DEVICE void fetch_async(uint32_t to, const char *lower, const char *upper, uint32_t apart, uint32_t n_bytes,
                        uint32_t barrier)
{
    __syncwarp(); /* all lanes call it */
    if (threadIdx.x % 32 == 0) {
        emulated::fetch_async(to, lower, n_bytes, barrier);
        if (upper) emulated::fetch_async(to + apart, upper, n_bytes, barrier);
    }
    __syncwarp(); /* a lane that waits for it finds it started */
}

DEVICE void load_matrix4(uint32_t (&r)[4], uint32_t address)
{
    const unsigned lane = threadIdx.x % 32;
    const uint32_t *rows = all_lanes("load_matrix4", address);
    for (unsigned m = 0; m < 4; m++)
        memcpy(&r[m], emulated::shared_at(rows[m * 8 + lane / 4], 16) + lane % 4 * 4, sizeof r[m]);
}

DEVICE void load_matrix4_transposed(uint32_t (&r)[4], uint32_t address)
{
    const unsigned lane = threadIdx.x % 32;
    const uint32_t *rows = all_lanes("load_matrix4_transposed", address);
    for (unsigned m = 0; m < 4; m++) {
        uint16_t two[2];
        for (unsigned i = 0; i < 2; i++)
            memcpy(&two[i], emulated::shared_at(rows[m * 8 + lane % 4 * 2 + i], 16) + lane / 4 * 2, sizeof two[i]);
        memcpy(&r[m], two, sizeof r[m]);
    }
}

/* A lane's elements of a and b, as numbers. */
struct mma_input {
    float a[8], b[4];
};
template <float (*VALUE)(uint16_t)> DEVICE void take_pair(float *to, uint32_t pair)
{
    to[0] = VALUE((uint16_t)pair);
    to[1] = VALUE((uint16_t)(pair >> 16));
}
/* Lane 4 g + t holds of a: [0] row g, [1] row g + 8, k 2 t and 2 t + 1; [2], [3] the same 8 of k on; of b: column g,
 * k 2 t and 2 t + 1, and 8 on. */
template <float (*VALUE)(uint16_t)>
DEVICE void mma(const char *what, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    mma_input mine;
    for (unsigned i = 0; i < 4; i++) take_pair<VALUE>(mine.a + 2 * i, a[i]);
    take_pair<VALUE>(mine.b, b0);
    take_pair<VALUE>(mine.b + 2, b1);
    const mma_input *all = all_lanes(what, mine);
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    double sum[4] = {(double)c[0], (double)c[1], (double)c[2], (double)c[3]};
    for (unsigned l = 0; l < 4; l++) { /* the lanes that hold k 2 l, 2 l + 1 and those 8 on */
        const float *rows = all[g * 4 + l].a, *left = all[t * 8 + l].b, *right = all[t * 8 + 4 + l].b;
        for (unsigned i = 0; i < 4; i++) {
            const float *x = rows + i / 2 * 4 + i % 2, *y = i / 2 ? left + 2 : left, *z = i / 2 ? right + 2 : right;
            sum[0] += (double)x[0] * (double)y[i % 2];
            sum[1] += (double)x[0] * (double)z[i % 2];
            sum[2] += (double)x[2] * (double)y[i % 2];
            sum[3] += (double)x[2] * (double)z[i % 2];
        }
    }
    for (unsigned i = 0; i < 4; i++) c[i] = (float)sum[i];
}
DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    mma<sur_bf16_to_f32>("mma_bf16", c, a, b0, b1);
}
DEVICE void mma_fp16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    mma<sur_fp16_to_f32>("mma_fp16", c, a, b0, b1);
}

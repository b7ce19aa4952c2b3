/* What the kernels share: the unit's instructions, the split of an activation, the input of a product and what becomes
 * of its sums. Arithmetic that decides bits is written with explicit roundings, so that no two kernels contract it
 * differently. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "launch.h"

#define DEVICE static __device__ __forceinline__

template <typename T> DEVICE T *at(sur_gpu_ptr p) { return reinterpret_cast<T *>(p); }

/* ---- instructions ---- */

/* Programmatic dependent launch (9.0 and above; elsewhere a kernel starts when the one before has ended). Every kernel
 * waits before it touches what an earlier one wrote, then lets the next one start: so two kernels overlap, never
 * three, and what was written two kernels ago may be read before the wait. */
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

DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes from global to shared memory, past the first-level cache. */
DEVICE void copy_async(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
DEVICE void prefetch(const void *p) { asm volatile("prefetch.global.L1 [%0];" ::"l"(p)); }
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

/* Four 8 x 8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8. */
DEVICE void load_matrix4(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* c += a b, a [16 x 16] (rows, k), b [k, 8 columns]. Lane 4 g + t holds rows g and g + 8, columns 2 t and 2 t + 1. */
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

/* ---- numbers ---- */

/* x = hi + lo to 2^-17 of x. */
DEVICE void split(float x, __nv_bfloat16 &hi, __nv_bfloat16 &lo)
{
    hi = __float2bfloat16_rn(x);
    lo = __float2bfloat16_rn(__fsub_rn(x, __bfloat162float(hi)));
}

/* Nearest even, saturated: what a ring of fp16 holds. */
DEVICE __half saturated_half(float x)
{
    return __float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f));
}

DEVICE float gelu(float x)
{
    return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, erff(__fmul_rn(x, 0x1.6a09e6p-1f))));
}
DEVICE float silu_mul(float gate, float up)
{
    return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, expf(-gate))), up);
}

/* ---- input of a product ---- */

/* An RMSNorm's sum of squares in an order that depends on n alone: thread i of 256 sums elements 4 i .. 4 i + 3, then
 * those 1024 further on, ...; the lanes of a warp fold by butterflies (fold_warp), the 8 warps are added ascending
 * (rms_of). */
DEVICE float fold_warp(float sum)
{
    for (int step = 16; step; step >>= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
    return sum;
}
/* 1 / sqrt(mean + eps) of the warps' sums [8]. */
DEVICE float rms_of(const float *sums, int n, float eps)
{
    float total = sums[0];
    for (int i = 1; i < 8; i++) total = __fadd_rn(total, sums[i]);
    return __frsqrt_rn(__fadd_rn(__fdiv_rn(total, (float)n), eps));
}
/* The scale of x [n]. All threads of the block call it; callers synchronize before they reuse room [8]. */
DEVICE float rms_scale(const float *x, int n, float eps, float *room)
{
    if (threadIdx.x < 256) {
        float sum = 0;
        for (int i = threadIdx.x * 4; i < n; i += 1024)
            for (int j = i; j < i + 4 && j < n; j++) sum = __fmaf_rn(x[j], x[j], sum);
        sum = fold_warp(sum);
        if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    return rms_of(room, n, eps);
}

/* Element i of column c, before any norm. */
DEVICE float input_element(const sur_gpu_input &in, int c, int i)
{
    const float *x = at<const float>(in.x);
    if (in.taps) return x[(size_t)(c * in.taps + i % 3) * in.stride + i / 3];
    return x[(size_t)c * in.stride + i];
}

/* ---- what becomes of sums ---- */

/* Element e of head_dim of key or value head `head` at position p. */
DEVICE void ring_put(const sur_gpu_ring &r, bool value, int head, int e, int64_t p, float x)
{
    int block = (int)(p / SUR_GPU_KEYS % r.n_blocks), slot = (int)(p % SUR_GPU_KEYS);
    size_t in_block = value ? (size_t)e * SUR_GPU_KEYS + slot : (size_t)slot * r.dp + e;
    size_t i = ((size_t)head * r.n_blocks + block) * SUR_GPU_KEYS * r.dp + in_block;
    sur_gpu_ptr to = value ? r.v : r.k;
    if (r.fp32) at<float>(to)[i] = x;
    else at<__half>(to)[i] = saturated_half(x);
}

/* v: the sum of this row and column with its bias. pair: QKV: that of row ^ 1; SWIGLU: that of w_up's row; ADD: y as it
 * was, which callers load early. */
template <int EPILOGUE> DEVICE void finish(const sur_gpu_output &o, int row, int c, float v, float pair, int64_t first)
{
    if (EPILOGUE == SUR_GPU_QKV) {
        const sur_gpu_ring &r = o.ring;
        int kv_rows = r.n_kv_heads * r.head_dim, in = row < o.q_rows ? row : (row - o.q_rows) % kv_rows;
        int e = in % r.head_dim;
        bool value = row >= o.q_rows + kv_rows;
        float x = v;
        if (!value) {
            const float *cs = at<const float>(o.rotation) + (size_t)c * r.head_dim + (e & ~1);
            x = e & 1 ? __fmaf_rn(pair, cs[1], __fmul_rn(v, cs[0])) : __fmaf_rn(v, cs[0], -__fmul_rn(pair, cs[1]));
        }
        if (row < o.q_rows) at<float>(o.y)[(size_t)c * o.stride + row] = x;
        else ring_put(r, value, in / r.head_dim, e, first + c, x);
        return;
    }
    if (EPILOGUE == SUR_GPU_GELU) v = gelu(v);
    if (EPILOGUE == SUR_GPU_SWIGLU) v = silu_mul(v, pair);
    if (o.y) {
        size_t column = EPILOGUE == SUR_GPU_ROWS ? (size_t)((first + c) % SUR_GPU_ROW_RING) : (size_t)c;
        float *y = at<float>(o.y) + column * o.stride + row;
        *y = EPILOGUE == SUR_GPU_ADD ? __fadd_rn(pair, v) : v;
    }
    if (o.hi) split(v, at<__nv_bfloat16>(o.hi)[(size_t)c * o.pitch + row], at<__nv_bfloat16>(o.lo)[(size_t)c * o.pitch + row]);
}

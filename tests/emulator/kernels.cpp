/* Every kernel, compiled for the CPU, and the list of their names. tiled.cu has members ROWS, and so comes before
 * the macro of attend.cu. */
#include "skinny.cu"
#include "small.cu"
#include "split.cu"
#include "tiled.cu"

#include "attend.cu"
#include "attend_many.cu"
#include "gemm.cu"

#include "emulator.h"

template <typename P> static constexpr size_t bytes_of(void (*)(P))
{
    static_assert(sizeof(P) <= EMULATOR_PARAMETER_BYTES, "larger parameters are needed");
    return sizeof(P);
}
template <typename P> static void call(void (*kernel)(P), const void *parameter)
{
    kernel(*static_cast<const P *>(parameter));
}

#define KERNEL(name) {#name, bytes_of(name), [](const void *p) { call(name, p); }},
#define TILES_OF(R, C, ...)                                                                                            \
    KERNEL(k_tiled_gelu_##R##x##C)                                                                                     \
    KERNEL(k_tiled_add_##R##x##C)                                                                                      \
    KERNEL(k_tiled_swiglu_##R##x##C) KERNEL(k_tiled_qkv_##R##x##C) KERNEL(k_tiled_rows_##R##x##C)

/* clang-format off */
const emulated_kernel emulated_kernels[] = {
    KERNEL(k_skinny_gelu) KERNEL(k_skinny_add) KERNEL(k_skinny_swiglu) KERNEL(k_skinny_qkv)
    KERNEL(k_skinny_rows) KERNEL(k_skinny_head)
    SUR_GPU_TILES(TILES_OF)
    KERNEL(k_split) KERNEL(k_attend_64) KERNEL(k_attend_128) KERNEL(k_attend_plain)
    KERNEL(k_attend_many_64) KERNEL(k_attend_many_128)
    KERNEL(k_embed) KERNEL(k_begin) KERNEL(k_carry) KERNEL(k_randomize) KERNEL(k_probe)
    KERNEL(k_finish_gelu) KERNEL(k_finish_add) KERNEL(k_finish_swiglu) KERNEL(k_finish_qkv)
    KERNEL(k_finish_rows) KERNEL(k_unroll) KERNEL(k_softmax)
    {nullptr, 0, nullptr}};
/* clang-format on */

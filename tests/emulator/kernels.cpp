/* Every kernel, compiled for the processor, and the list of their names. wide.cu has members ROWS, and so comes before
 * attend.cuh's macro. */
#include "narrow.cu"
#include "small.cu"
#include "split.cu"
#include "wide.cu"

#include "attend.cu"
#include "attend_wide.cu"
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
#define WIDES(R, C, ...)                                                                                               \
    KERNEL(k_wide_plain_##R##x##C)                                                                                     \
    KERNEL(k_wide_gelu_##R##x##C)                                                                                      \
    KERNEL(k_wide_add_##R##x##C)                                                                                       \
    KERNEL(k_wide_swiglu_##R##x##C) KERNEL(k_wide_qkv_##R##x##C) KERNEL(k_wide_rows_##R##x##C)

/* clang-format off */
const emulated_kernel emulated_kernels[] = {
    KERNEL(k_narrow_plain) KERNEL(k_narrow_gelu) KERNEL(k_narrow_add) KERNEL(k_narrow_swiglu) KERNEL(k_narrow_qkv)
    KERNEL(k_narrow_rows) KERNEL(k_narrow_head)
    SUR_GPU_WIDE_TILES(WIDES)
    KERNEL(k_split) KERNEL(k_attend_64) KERNEL(k_attend_128) KERNEL(k_attend_plain)
    KERNEL(k_attend_wide_64) KERNEL(k_attend_wide_128)
    KERNEL(k_embed) KERNEL(k_begin) KERNEL(k_carry) KERNEL(k_randomize) KERNEL(k_probe)
    KERNEL(k_finish_plain) KERNEL(k_finish_gelu) KERNEL(k_finish_add) KERNEL(k_finish_swiglu) KERNEL(k_finish_qkv)
    KERNEL(k_finish_rows) KERNEL(k_unroll) KERNEL(k_softmax)
    {nullptr, 0, nullptr}};
/* clang-format on */

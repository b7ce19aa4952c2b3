#include "cpu/isa.h"

#include <string.h>

#include "util/error.h"

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx2(void)
{
    unsigned a, b, c = 0, d; /* clang 14 does not know "f16c" by name */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C);
}

static bool has_avx_vnni(void)
{
    unsigned a, b, c, d; /* clang 14 does not know "avxvnni" by name */
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

static bool has_dot_product(void)
{
    return getauxval(AT_HWCAP) & 1ul << 20; /* HWCAP_ASIMDDP */
}
#endif

const struct sur_cpu_isa sur_cpu_isas[] = {
    {"plain", "", always, &sur_ops_plain, &sur_quant_plain},
#if defined(__x86_64__)
    {"avx2", "AVX2 with FMA and F16C", has_avx2, &sur_ops_avx2, &sur_quant_avx2},
    {"avx-vnni", "AVX-VNNI", has_avx_vnni, &sur_ops_avx2, &sur_quant_avx_vnni},
    {"avx512", "AVX-512 (F, BW, VL, DQ)", has_avx512, &sur_ops_avx512, &sur_quant_avx2},
    {"avx512-vnni", "AVX-512 (F, BW, VL, DQ, VNNI)", has_avx512_vnni, &sur_ops_avx512, &sur_quant_avx512},
#elif defined(__aarch64__)
    {"neon", "the dot product instructions of ARMv8.2", has_dot_product, &sur_ops_plain, &sur_quant_neon},
#endif
};
const int sur_cpu_n_isas = sizeof sur_cpu_isas / sizeof *sur_cpu_isas;

const char *sur_cpu_name(int i)
{
    return i >= 0 && i < sur_cpu_n_isas ? sur_cpu_isas[i].name : NULL;
}

int sur_cpu_isa_select(const struct sur_cpu_isa **isa, const char *name)
{
    for (int i = sur_cpu_n_isas - 1; i >= 0; i--) {
        const struct sur_cpu_isa *s = &sur_cpu_isas[i];
        if (name && strcmp(name, s->name) != 0) continue;
        *isa = s;
        if (s->runs()) return SUR_OK;
        if (name) return sur_fail(SUR_ERR_ARGUMENT, "this processor has no %s", s->needs);
    }
    return sur_fail(SUR_ERR_ARGUMENT, "there is no instruction set %.40s", name);
}

/* The instruction sets of the CPU backend: the one table of their names and of the code that each of them runs. */
#ifndef SUR_CPU_ISA_H
#define SUR_CPU_ISA_H

#include "cpu/ops.h"
#include "cpu/quant.h"

struct sur_cpu_isa {
    const char *name;
    const char *needs;  /* what the processor must have, for the error line */
    bool (*runs)(void); /* whether this processor has it */
    const struct sur_cpu_ops *ops;
    const struct sur_quant_ops *quant;
};

/* Those that this build has, the slowest first. Integer products give the same bits in all of them; ops differ in the
 * last bits between "plain" (and "neon"), "avx2" and "avx512". */
extern const struct sur_cpu_isa sur_cpu_isas[];
extern const int sur_cpu_n_isas;

/* The instruction set of that name; NULL: the fastest that this processor runs. SUR_ERR_ARGUMENT: there is no such
 * name, or the processor does not run it. */
int sur_cpu_isa_select(const struct sur_cpu_isa **isa, const char *name);

#endif

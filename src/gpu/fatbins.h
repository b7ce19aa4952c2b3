/* The kernels as machine code, a fatbin for each kernels/NAME.cu: what embed.sh put into the module. */
#ifndef SUR_GPU_FATBINS_H
#define SUR_GPU_FATBINS_H

#include <stdint.h>

struct sur_gpu_fatbin {
    const char *name; /* "skinny"; NULL ends the table */
    const void *data; /* what cuModuleLoadData and cuLibraryLoadData take; 64 bytes aligned */
    uint64_t n_bytes;
};

extern const struct sur_gpu_fatbin sur_gpu_fatbins[];

#endif

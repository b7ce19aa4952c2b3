/* How a test controls the fake driver (fake_cuda.c), and what it can read from it. */
#ifndef SUR_TESTS_FAKE_CUDA_H
#define SUR_TESTS_FAKE_CUDA_H

#include <cuda.h>
#include <stdatomic.h>
#include <stddef.h>

struct fake_cuda {
    atomic_int n_calls; /* of functions that may fail; destroying and freeing never fails */
    int fail_at;        /* this call fails, counted from 1; 0: none */
    int for_good;       /* all later calls fail, too, as after a kernel broke the context */
    CUresult error;
    size_t total_bytes;    /* of the card */
    atomic_size_t n_bytes; /* of it, allocated */
    int n_devices;         /* 1 unless a test says so */
    struct {
        int major;         /* compute capability */
        size_t used_bytes; /* by other programs */
        int is_broken;     /* cannot create a context */
    } devices[8];
    int last_device;      /* whose context was made current last */
    atomic_int n_objects; /* allocations, contexts, modules, streams, events, graphs that exist */
};
extern struct fake_cuda fake_cuda;

#endif

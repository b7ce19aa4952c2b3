/* surtitle-bench --this-machine: reports with which weight types the published model runs live on this machine. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "model/backend.h"

/* Measures for some seconds on the CPU and writes the report on standard output. options: threads, kv and cpu are used.
 * Returns the exit status: 0 also where no type is fast enough, 1 if nothing could be measured. */
int machine_report(const struct sur_model_options *options);

#endif

/* How many threads compute by default. */
#ifndef SUR_CPU_OS_CORES_H
#define SUR_CPU_OS_CORES_H

/* Returns the number of cores in the affinity mask, at most 16; 1, with a warning in the log, if it is unknown. */
int sur_cores_default(void);

#endif

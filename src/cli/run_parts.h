/* The parts of one run, and what its two loops (run_file.h, run_live.h) share. Main thread. */
#ifndef RUN_PARTS_H
#define RUN_PARTS_H

#include "cli/audio_in.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "surtitle.h"

struct run {
    struct options options;
    struct audio_in in;
    const char *model_path; /* NULL: no model was found */
    struct sur_model *model;
    struct sur_session *session;
    int32_t *force; /* [n_force] of --force */
    size_t n_force;
    struct outputs outputs;
    bool drawn;                /* an overlay draws on standard output */
    struct overlay *overlay;   /* NULL: not open */
    int64_t load_ns, start_ns; /* how long opening the model took; when the first loop began */
};

int run_delay_ms(const struct run *run); /* of the session */
/* Writes the start to all outputs: once, before all else. Returns an exit status. */
int run_write_start(struct run *run);

#endif

#include "cli/run.h"

#include <limits.h>
#include <stdlib.h>

#include "cli/exit_status.h"
#include "cli/figures.h"
#include "cli/force.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/paths.h"
#include "cli/run_file.h"
#include "cli/run_live.h"
#include "cli/run_overlay.h"
#include "cli/usage.h"
#include "util/clock.h"
#include "util/failure.h"

static int library_error(int status)
{
    message_error("%s", sur_error_text());
    switch (status) {
    case SUR_ERR_ARGUMENT:
        return EXIT_USAGE;
    case SUR_ERR_MODEL:
    case SUR_ERR_IO:
        return EXIT_NO_MODEL;
    case SUR_ERR_BACKEND:
        return EXIT_NO_BACKEND;
    default:
        return EXIT_FAILED;
    }
}

static int open_session(struct run *run)
{
    const struct options *o = &run->options;
    struct sur_model_options mo;
    struct sur_session_options so;
    sur_model_options_init(&mo);
    mo.dir = run->model_path;
    mo.backend = (enum sur_backend_kind)o->backend;
    mo.kv = (enum sur_kv_type)o->kv;
    mo.encode_on = (enum sur_backend_kind)o->encode_on;
    mo.decode_on = (enum sur_backend_kind)o->decode_on;
    mo.gemm = (enum sur_gemm)o->gemm;
    mo.window_attention = (enum sur_window_attention)o->window_attention;
    mo.vram_limit_mib = o->vram_limit;
    mo.gpu = o->gpu;
    mo.cpu = o->cpu;
    mo.threads = o->threads;
    int64_t began = sur_clock_ns();
    int status = sur_model_open(&run->model, &mo);
    if (status != SUR_OK) return library_error(status);
    sur_session_options_init(&so);
    so.delay_ms = o->delay_ms;
    so.rate = run->in.source.rate;
    so.channels = 1;
    so.format = SUR_F32LE;
    so.mode = run->in.live ? SUR_LIVE : SUR_WHOLE;
    so.resampler = run->in.device ? SUR_RESAMPLE_SPEEX : SUR_RESAMPLE_SOXR;
    so.force = run->force;
    so.n_force = run->n_force;
    status = sur_session_create(&run->session, run->model, &so);
    run->load_ns = sur_clock_ns() - began;
    return status == SUR_OK ? EXIT_DONE : library_error(status);
}

/* found, demo: of paths_find_model. */
static int open_model(struct run *run, int found, bool demo)
{
    if (found == 0) message_error("no model is installed: run tools/download_model.sh, or give --model PATH");
    if (found == 2) message_error("%s holds more than one model: give --model PATH", run->model_path);
    if (found != 1) return EXIT_NO_MODEL;
    if (demo) message_notice(MESSAGE_ANY, "no model is installed: this is the demo model, %s", run->model_path);
    return open_session(run);
}

static int read_force(struct run *run)
{
    const char *path = run->options.force;
    if (!path || force_read(path, &run->force, &run->n_force) == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

static int caption(struct run *run)
{
    static char path[PATH_MAX]; /* model_path as long as the run */
    bool demo = false;
    int found = run->options.model ? 1 : paths_find_model(path, sizeof path, &demo);
    run->model_path = run->options.model ? run->options.model : found ? path : NULL;
    int status = usage_check(&run->options, run->model_path);
    if (status == EXIT_DONE) status = read_force(run);
    if (status == EXIT_DONE) status = audio_in_open(&run->in, &run->options);
    if (status != EXIT_DONE || (run->in.ended && os_signal_stop())) return status;
    status = open_model(run, found, demo);
    if (status == EXIT_DONE) status = run_overlay_check(run);
    /* after the model: a file is emptied only when there will be captions */
    if (status == EXIT_DONE) status = outputs_open(&run->outputs, &run->options, run->drawn);
    if (status == EXIT_DONE) status = run_overlay_open(run);
    run->start_ns = sur_clock_ns();
    if (status == EXIT_DONE) status = run->in.live ? run_live(run) : run_file(run);
    bool done = status == EXIT_DONE; /* CMD's status, which run_overlay_close returns, is independent of the captions */
    status = run_overlay_close(run, status);
    if (done && run->options.stats) figures_print(run);
    return status;
}

int run_all(struct run *run)
{
    int status = caption(run), closed = outputs_close(&run->outputs);
    audio_in_close(&run->in);
    sur_session_destroy(&run->session);
    sur_model_close(&run->model);
    free(run->force);
    if (run->outputs.caption_file_failed && !run->options.command)
        closed = EXIT_FAILED; /* a command's status is its own */
    return status != EXIT_DONE ? status : closed;
}

#include "cli/run_file.h"

#include <string.h>

#include "cli/exit_status.h"
#include "cli/level.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/run_overlay.h"

/* Reads the next samples, unless there are none or a signal came; the session then learns that no more follow. */
static int next_block(struct run *run)
{
    struct audio_in *in = &run->in;
    int status = EXIT_DONE;
    if (os_signal_stop() || in->ended)
        in->n_frames = 0;
    else
        status = audio_in_read(in);
    if (status != EXIT_DONE) in->n_frames = 0;
    in->ended = in->n_frames == 0;
    if (in->ended) {
        sur_session_finish(run->session);
        if (!os_signal_stop()) downmix_end(&in->mix); /* else the input may be silent only so far */
    }
    run_overlay_set_state(run, level_rms(in->frames, in->n_frames), -1);
    audio_in_report_mix(in);
    return status;
}

/* With a GPU the session is fed as far ahead as it accepts, so that the GPU encodes while a step is decoded. On the CPU
 * this would only leave more to finish after a signal. */
int run_file(struct run *run)
{
    struct audio_in *in = &run->in;
    const bool ahead = strcmp(sur_model_backend(run->model), "cpu") != 0;
    int input = EXIT_DONE, state = SUR_AGAIN, idle = 0, status = run_write_start(run);
    size_t fed = 0;
    bool finished = false;
    run_overlay_set_state(run, level_rms(in->frames, in->n_frames), -1);
    while (status == EXIT_DONE && state != SUR_END && outputs_any(&run->outputs)) {
        size_t n = 0;
        if (ahead || state == SUR_AGAIN) {
            if (fed == in->n_frames && !finished) {
                input = next_block(run);
                finished = in->ended;
                fed = 0;
            }
            n = sur_session_feed(run->session, in->frames + fed, in->n_frames - fed);
            fed += n;
        }
        state = sur_session_run(run->session);
        status = outputs_events(&run->outputs, run->session);
        if (status == EXIT_DONE) status = outputs_tick(&run->outputs);
        idle = state == SUR_AGAIN && n == 0 ? idle + 1 : 0;
        if (status != EXIT_DONE || state == SUR_OK || state == SUR_END || (state == SUR_AGAIN && idle < 2)) continue;
        message_error("%s", state == SUR_AGAIN ? "internal error: the session makes no progress" : sur_error_text());
        return EXIT_FAILED;
    }
    return status != EXIT_DONE ? status : input;
}

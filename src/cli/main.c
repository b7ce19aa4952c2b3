/* surtitle: captions on standard output, all else on standard error.
 *
 * Checked in this order, so that the exit status names the first thing that is wrong: options (2), source (1, 3),
 * model (4), backend (5), outputs (1). */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/device.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/os_stderr.h"
#include "cli/paths.h"
#include "cli/run.h"
#include "cli/run_overlay.h"
#include "sink/os_file.h"
#include "util/clock.h"
#include "util/failure.h"

static int print(const char *text)
{
    struct output out;
    output_open(&out, NULL);
    output_append(&out, text, strlen(text));
    int status = output_flush(&out);
    if (status < 0) message_error("%s", failure_text());
    output_close(&out);
    return status < 0 ? EXIT_FAILED : EXIT_DONE;
}

static int print_help(bool all)
{
    char *text = options_help(all);
    if (!text) message_error("not enough memory");
    int status = text ? print(text) : EXIT_FAILED;
    free(text);
    return status;
}

static void debug_line(const char *text)
{
    message_debug("library output: %s", text);
}

static int list_devices(void)
{
    char *text;
    int status = device_list(&text);
    if (status != MIC_OK && status != DEVICE_INTERRUPTED) message_error("%s", failure_text());
    int printed = status == MIC_OK ? print(text) : EXIT_NO_DEVICE;
    free(text);
    return printed;
}

static double seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

static void print_stats(const struct run *run)
{
    struct sur_session_stats s;
    struct sur_model_stats m;
    struct rusage usage;
    sur_session_get_stats(run->session, &s);
    sur_model_get_stats(run->model, &m);
    double audio = (double)(s.fed_samples - s.silence_samples + s.skipped_samples) / SUR_RATE,
           wall = seconds(sur_clock_ns() - run->start_ns);
    double busy = seconds(s.encode_ns + s.decode_ns + s.prefill_ns);
    getrusage(RUSAGE_SELF, &usage);
    message_figure("backend %s name", sur_model_backend(run->model));
    message_figure("weights %s name", sur_model_weights(run->model));
    message_figure("audio %.3f s", audio);
    message_figure("skipped %.3f s", (double)s.skipped_samples / SUR_RATE);
    message_figure("wall %.3f s", wall);
    message_figure("load %.3f s", seconds(run->load_ns));
    message_figure("load-weights %.3f s", seconds(m.load_ns));
    message_figure("encode %.3f s", seconds(s.encode_ns));
    message_figure("prefill %.3f s", seconds(s.prefill_ns));
    message_figure("decode %.3f s", seconds(s.decode_ns));
    message_figure("tokens %" PRId64 " tokens", s.tokens_encoded);
    message_figure("steps %" PRId64 " steps", s.steps);
    message_figure("real-time-factor %.4f x", audio > 0 ? busy / audio : 0); /* below 1: faster than speech */
    message_figure("peak-memory %.1f MiB", (double)usage.ru_maxrss / 1024);
    message_figure("device-memory %.1f MiB", (double)m.device_bytes / 1048576);
    message_figure("layers %d layers", m.n_layers);
    message_figure("resident-layers %d layers", m.n_resident);
    message_figure("uploads %" PRId64 " layers", m.uploads);
    message_figure("uploaded %.1f MiB", (double)m.uploaded_bytes / 1048576);
}

/* found, demo: as of paths_find_model. */
static int open_model(struct run *run, int found, bool demo)
{
    if (found == 0) message_error("no model is installed: run tools/download_model.sh, or give --model PATH");
    if (found == 2) message_error("%s holds more than one model: give --model PATH", run->model_dir);
    if (found != 1) return EXIT_NO_MODEL;
    if (demo) message_notice(MESSAGE_ANY, "no model is installed: this is the demo model, %s", run->model_dir);
    return run_open_model(run);
}

static int captions(struct run *run)
{
    static char path[PATH_MAX]; /* as long as the run */
    bool demo = false;
    int found = run->options.model ? 1 : paths_find_model(path, sizeof path, &demo);
    run->model_dir = run->options.model ? run->options.model : found ? path : NULL;
    int status = run_open_source(run);
    if (status != EXIT_DONE || (run->ended && os_signal_stop())) return status;
    status = open_model(run, found, demo);
    if (status == EXIT_DONE) status = run_open_outputs(run); /* a file is emptied only when there will be captions */
    if (status == EXIT_DONE) status = run_overlay_open(run);
    if (status == EXIT_DONE) status = run_captions(run);
    bool done = status == EXIT_DONE; /* a command's status says nothing of the captions */
    status = run_overlay_close(run, status);
    if (done && run->options.stats) print_stats(run);
    return status;
}

static int run_program(int argc, char **argv)
{
    static struct run run;
    os_signal_hold_descriptors();
    os_signal_install();
    output_set_hurry(os_signal_stop);
    if (options_parse(&run.options, argc, argv) != SUR_OK) return EXIT_USAGE;
    if (run.options.help || run.options.help_all) return print_help(run.options.help_all);
    if (run.options.version) return print("surtitle " SUR_VERSION "\n");
    message_set_level((enum sur_log_level)run.options.log_level);
    sur_set_log((enum sur_log_level)run.options.log_level, message_log, NULL);
    os_stderr_divert(debug_line); /* libmpg123, libsndfile, ALSA and JACK write to descriptors 1 and 2 */
    os_file_move(STDOUT_FILENO, os_stdout_fd());
    os_file_move(STDERR_FILENO, os_stderr_fd());
    int status = run.options.list_devices ? list_devices() : captions(&run), finished = run_finish(&run);
    os_stderr_restore();
    return status != EXIT_DONE ? status : finished;
}

int main(int argc, char **argv)
{
    int status = run_program(argc, argv);
    /* a thread that hangs in PortAudio still uses what the libraries' exit handlers free */
    if (device_left_behind()) _exit(status);
    return status;
}

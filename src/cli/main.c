/* surtitle: captions on standard output, everything else on standard error. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/device.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/os_stderr.h"
#include "cli/run.h"
#include "util/failure.h"
#include "util/os_file.h"

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

static int run_program(int argc, char **argv)
{
    static struct run run;
    os_signal_hold_descriptors();
    os_signal_install();
    output_set_stop_check(os_signal_stop);
    if (options_parse(&run.options, argc, argv) != SUR_OK) return EXIT_USAGE;
    if (run.options.help || run.options.help_all) return print_help(run.options.help_all);
    if (run.options.version) return print("surtitle " SUR_VERSION "\n");
    message_set_level((enum sur_log_level)run.options.log_level);
    sur_set_log((enum sur_log_level)run.options.log_level, message_log, NULL);
    os_stderr_divert(debug_line); /* libmpg123, libsndfile, ALSA and JACK write to descriptors 1 and 2 */
    os_file_move(STDOUT_FILENO, os_stdout_fd());
    os_file_move(STDERR_FILENO, os_stderr_fd());
    int status = run.options.list_devices ? list_devices() : run_all(&run);
    os_stderr_restore();
    return status;
}

int main(int argc, char **argv)
{
    int status = run_program(argc, argv);
    /* a thread that hangs in PortAudio still uses what the libraries' exit handlers free */
    if (device_left_behind()) _exit(status);
    return status;
}

#include "cli/usage.h"

#include <string.h>
#include <unistd.h>

#include "cli/audio_in.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/named_files.h"
#include "util/os_file.h"

static bool half_conflicts(const struct options *o, const char *option, int half)
{
    static const char *const names[] = {"auto", "cuda", "cpu"};
    if (half == SUR_BACKEND_AUTO || o->backend == SUR_BACKEND_AUTO || half == o->backend) return false;
    message_error("%s %s conflicts with --backend %s: use %s or --backend auto", option, names[half], names[o->backend],
                  names[o->backend]);
    return true;
}

/* Returns an option that has no effect on the CPU, if the half that it is for is to run there; NULL: none is. With auto
 * the library finds this out when it opens the backend. */
static const char *cuda_option_on_cpu(const struct options *o)
{
    bool all = o->backend == SUR_BACKEND_CPU, encoder = all || o->encode_on == SUR_BACKEND_CPU;
    all = encoder && (all || o->decode_on == SUR_BACKEND_CPU);
    if (o->gemm == SUR_GEMM_LT && all) return "--gemm lt";
    if (o->window_attention == SUR_ATTENTION_GEMM && encoder) return "--window-attention gemm";
    if (o->vram_limit && all) return "--vram-limit";
    if (o->gpu >= 0 && all) return "--gpu";
    return NULL;
}

static int check_backends(const struct options *o)
{
    if (half_conflicts(o, "--encode-on", o->encode_on) || half_conflicts(o, "--decode-on", o->decode_on))
        return EXIT_USAGE;
    const char *cuda_only = cuda_option_on_cpu(o);
    if (!cuda_only) return EXIT_DONE;
    message_error("%s needs the CUDA backend, and --%s is cpu", cuda_only,
                  o->backend == SUR_BACKEND_CPU     ? "backend"
                  : o->encode_on == SUR_BACKEND_CPU ? "encode-on"
                                                    : "decode-on");
    return EXIT_USAGE;
}

/* `-` and /dev/stdout are standard output, on which an overlay may draw. The other two options need a file's name. */
static int check_outputs(struct options *o, const char *model)
{
    struct os_file file;
    const char *option = o->caption_file && strcmp(o->caption_file, "-") == 0       ? "--caption-file"
                         : o->latency_report && strcmp(o->latency_report, "-") == 0 ? "--latency-report"
                                                                                    : NULL;
    if (option) {
        message_error("%s needs a file name, and - is standard output: use ./- for a file of that name", option);
        return EXIT_USAGE;
    }
    if (o->output &&
        (strcmp(o->output, "-") == 0 || (os_file_find(&file, o->output), file.descriptor) == STDOUT_FILENO))
        o->output = NULL;
    return named_files_check(o, model) == SUR_OK ? EXIT_DONE : EXIT_USAGE;
}

static int check_source(const struct options *o)
{
    const char *raw = o->pcm ? "--pcm" : o->rate ? "--rate" : o->channels ? "--channels" : o->pace ? "--pace" : NULL;
    if (!o->source && raw)
        message_error("%s needs a SOURCE: it says how a FILE or - is read", raw);
    else if (o->source && o->device)
        message_error("--device selects a microphone, and SOURCE is %.100s: give only one of them", o->source);
    else if (o->source && o->latency_report && !o->pace && !audio_in_is_stream(o->source))
        message_error("--latency-report needs live input: read a FILE with --pace");
    else
        return EXIT_DONE;
    return EXIT_USAGE;
}

int usage_check(struct options *o, const char *model)
{
    int status = check_backends(o);
    if (status == EXIT_DONE) status = check_outputs(o, model);
    return status == EXIT_DONE ? check_source(o) : status;
}

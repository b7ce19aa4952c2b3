#include "cli/figures.h"

#include <inttypes.h>
#include <sys/resource.h>

#include "cli/message.h"
#include "util/clock.h"

static double seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

void figures_print(const struct run *run)
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

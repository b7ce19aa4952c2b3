#include "cli/live.h"

#include <unistd.h>

#include "cli/os_signal.h"
#include "cli/os_wake.h"
#include "util/clock.h"
#include "util/failure.h"

enum { INTERRUPT_NS = 20000000 /* how often a reader that may block is interrupted */ };

int live_start(struct live *l)
{
    struct encoder *e = &l->encoder;
    l->decode_wake = e->decode_wake = os_wake_open();
    if (l->decode_wake < 0) return failure(SUR_ERR_IO, "cannot create an event descriptor");
    e->reader = l->reader.source ? &l->reader : NULL;
    int status = encoder_start(e);
    if (status != SUR_OK || !e->reader) return status;
    l->reader.capture = e->capture;
    l->reader.wake = e->wake;
    return reader_start(&l->reader);
}

int live_decode(struct live *l)
{
    int status = atomic_load(&l->encoder.status);
    if (status == SUR_OK) status = sur_session_decode(l->encoder.session, 1);
    if (status == SUR_OK) encoder_note_step(&l->encoder);
    return status;
}

const char *live_error(const struct live *l)
{
    return atomic_load(&l->encoder.status) != SUR_OK ? l->encoder.error : sur_error_text();
}

void live_note_written(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->encoder.session, &s);
    int64_t base = s.tokens_encoded - s.waiting_tokens - s.steps, now = sur_clock_ns();
    for (; l->n_written < s.steps; l->n_written++) {
        int64_t entry_ns = encoder_entry_ns(&l->encoder, base + l->n_written);
        if (entry_ns > 0) latency_add(&l->latency, entry_ns, now);
        if (entry_ns < 0) l->latency.startup_steps++;
    }
}

void live_wait(struct live *l, int64_t timeout_ns)
{
    if (l->stopping && reader_interrupt(&l->reader) && timeout_ns > INTERRUPT_NS) timeout_ns = INTERRUPT_NS;
    os_wake_wait(l->decode_wake, os_signal_fd(), timeout_ns);
}

void live_stop_reading(struct live *l)
{
    l->stopping = true;
    reader_stop(&l->reader);
}

void live_finish(struct live *l)
{
    encoder_stop(&l->encoder);
    live_stop_reading(l);
    reader_join(&l->reader); /* its consumer may have stopped: the thread does not wait for space once it is to stop */
    encoder_join(&l->encoder);
    reader_close(&l->reader); /* the encode thread posted to its descriptor until now */
    if (l->decode_wake > 0) close(l->decode_wake);
    l->decode_wake = 0;
}

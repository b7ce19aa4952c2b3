#include "input/source_mic.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <portaudio.h>
#include <speex/speex_resampler.h>

#include "input/arrivals.h"
#include "input/os_priority.h"
#include "input/os_sound_server.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/utf8.h"

enum { SERVER_RATE = 48000, SERVER_CHANNELS = 2, BLOCKS_A_SECOND = 100 };
enum { PIECE = 1024 /* frames that are converted at a time */, SPEEX_QUALITY = 8 };

static const int64_t silent_ns = 1000000000, retry_ns = 1000000000;
/* A Bluetooth headset needs seconds to change its profile, and again when it is reopened. So the wait for the first
 * block is long from the start, and doubles. */
static const int64_t late_ns = 3000000000, first_timeout_ns = 15000000000, longest_timeout_ns = 120000000000;

enum state { CLOSED, WAITING /* for the first callback */, OPEN, LOST, PAUSED };

struct mic {
    /* immutable once open */
    struct mic_info info;
    struct capture *capture;
    const char *wanted; /* the caller's; NULL: the default device */
    int channel;        /* from 1; 0: the live ones */

    /* the watching thread */
    enum state state;
    PaStream *stream;
    bool initialised, delivered /* a block has arrived in this run */, lost_reported, late_reported;
    char found[MIC_NAME_BYTES]; /* raw name of the device that was opened; by it a lost one is found again */
    int64_t opened_ns, tried_ns, first_block_timeout_ns; /* first_block_timeout: doubles at each failure */

    /* the callback; between a stream's end and the next one's start the watching thread */
    bool resuming;                 /* the next block is the first of a new stream */
    struct arrivals arrivals;      /* finds losses between the blocks */
    struct downmix mix;            /* to mono, at the device's rate; its events are the watching thread's */
    SpeexResamplerState *converts; /* a device that is back at another rate, to the capture's; NULL: it has that rate */
    struct downmix mono;           /* of what was converted */
    /* the callback writes, the watching thread reads */
    _Atomic int64_t last_ns; /* when the last block came */
    _Atomic int64_t blocks;  /* of this stream, once it is known what was lost before them */
    /* any thread writes stopped, then waits until the callback has left on_samples */
    atomic_bool stopped, in_callback;
    atomic_bool began; /* a block has come */
};

/* ---- the callback: RT safe ---- */

static void put(struct mic *m, struct downmix *mix, const float *frames, size_t n, int64_t now)
{
    if (!capture_put(m->capture, mix, frames, n, now)) capture_lose(m->capture, SUR_SKIP_GAP, (int64_t)n);
}

/* RT safe: speexdsp does not allocate here. */
static void put_converted(struct mic *m, const float *frames, size_t n, int64_t now)
{
    float mono[PIECE], out[PIECE];
    for (size_t piece; n > 0; n -= piece, frames += piece * (size_t)m->info.channels) {
        piece = n < PIECE ? n : PIECE;
        downmix_run(&m->mix, frames, piece, mono);
        spx_uint32_t at = 0, taken, given;
        do {
            taken = (spx_uint32_t)piece - at;
            given = PIECE;
            speex_resampler_process_float(m->converts, 0, mono + at, &taken, out, &given);
            put(m, &m->mono, out, given, now);
            at += taken;
        } while (at < piece && taken + given > 0);
    }
}

static void apply(struct mic *m, struct arrivals_advice advice)
{
    if (advice.lost > 0) capture_lose(m->capture, advice.device ? SUR_SKIP_DEVICE : SUR_SKIP_GAP, advice.lost);
    if (advice.release) capture_release(m->capture);
    if (advice.hold) capture_hold(m->capture);
}

/* Records losses before this block, and holds blocks back while a loss is in doubt. */
static void find_losses(struct mic *m, int64_t frames, const PaStreamCallbackTimeInfo *time, bool overflow, int64_t now)
{
    struct arrivals_block block = {.frames = frames,
                                   .now_ns = now,
                                   .asleep_ns = sur_clock_asleep_ns(),
                                   .recorded_s = time ? time->inputBufferAdcTime : 0,
                                   .current_s = time ? time->currentTime : 0,
                                   .overflow = overflow,
                                   .reopened = m->resuming,
                                   .rate = m->info.device_rate};
    struct arrivals_advice advice = arrivals_look(&m->arrivals, &block);
    m->resuming = false;
    apply(m, advice);
    if (advice.first_moved)
        capture_set_first_wall(m->capture, sur_clock_wall_ns() - (now - arrivals_first_ns(&m->arrivals)));
    atomic_store(&m->began, true);
    if (!advice.hold) atomic_fetch_add_explicit(&m->blocks, 1, memory_order_release);
}

/* The stream has ended: decides about the blocks held back. */
static void settle(struct mic *m)
{
    if (atomic_load(&m->began)) apply(m, arrivals_settle(&m->arrivals));
}

static int on_samples(const void *in, void *out, unsigned long n, const PaStreamCallbackTimeInfo *time,
                      PaStreamCallbackFlags flags, void *user)
{
    struct mic *m = user;
    const float *frames = in;
    int64_t now = sur_clock_ns();
    if (!frames || n == 0) return paContinue;
    find_losses(m, (int64_t)n, time, (flags & paInputOverflow) != 0, now);
    m->converts ? put_converted(m, frames, n, now) : put(m, &m->mix, frames, n, now);
    atomic_store_explicit(&m->last_ns, now, memory_order_relaxed);
    return paContinue;
}

/* A stream that hung may call this after mic_stop; its samples are dropped. */
static int on_block(const void *in, void *out, unsigned long n, const PaStreamCallbackTimeInfo *time,
                    PaStreamCallbackFlags flags, void *user)
{
    struct mic *m = user;
    int next = paContinue;
    atomic_store(&m->in_callback, true); /* before the load of stopped: mic_stop stores that, then loads this */
    if (!atomic_load(&m->stopped)) next = on_samples(in, out, n, time, flags, user);
    atomic_store(&m->in_callback, false);
    return next;
}

/* ---- devices ---- */

/* Whether this is the name of a sound server's ALSA plugin, which reports 44,100 Hz and 32 channels for any source. */
static bool is_server(const char *name)
{
    return strcmp(name, "default") == 0 || strcmp(name, "pulse") == 0 || strcmp(name, "pipewire") == 0;
}

static const PaDeviceInfo *input(PaDeviceIndex i)
{
    const PaDeviceInfo *d = Pa_GetDeviceInfo(i);
    return d && d->maxInputChannels > 0 ? d : NULL;
}

static PaDeviceIndex by_name(const char *name, bool part)
{
    for (PaDeviceIndex i = 0; i < Pa_GetDeviceCount(); i++) {
        const PaDeviceInfo *d = input(i);
        if (d && (part ? strcasestr(d->name, name) != NULL : strcmp(d->name, name) == 0)) return i;
    }
    return paNoDevice;
}

/* PortAudio's default is the first device; the sound server's is the one that the user has chosen. */
static PaDeviceIndex default_device(void)
{
    static const char *const names[] = {"default", "pipewire", "pulse"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PaDeviceIndex device = by_name(names[i], false);
        if (device != paNoDevice) return device;
    }
    PaDeviceIndex device = Pa_GetDefaultInputDevice();
    if (device != paNoDevice && input(device)) return device;
    return by_name("", true);
}

/* By name: the indices of PortAudio and of ALSA change when devices come and go. "USB Audio (hw:1,0)" may be back as
 * hw:2,0. */
static PaDeviceIndex find_again(const struct mic *m)
{
    char stem[MIC_NAME_BYTES];
    PaDeviceIndex device = by_name(m->found, false);
    snprintf(stem, sizeof stem, "%s", m->found);
    char *card = strstr(stem, "(hw:");
    if (device != paNoDevice || !card) return device;
    card[4] = 0;
    return by_name(stem, true);
}

static PaDeviceIndex find(const struct mic *m)
{
    PaDeviceIndex device;
    if (!m->wanted) return default_device();
    if (m->found[0]) return find_again(m);
    size_t digits = strspn(m->wanted, "0123456789");
    if (m->wanted[digits] == 0 && digits < 6) {
        device = atoi(m->wanted);
        return input(device) ? device : paNoDevice;
    }
    device = by_name(m->wanted, false);
    return device != paNoDevice ? device : by_name(m->wanted, true);
}

/* ---- opening and closing ---- */

static void close_stream(struct mic *m)
{
    if (m->stream) {
        /* Pa_StopStream waits for a stream, and would hang with one that hangs */
        if (m->state == OPEN && Pa_IsStreamActive(m->stream) == 1)
            Pa_StopStream(m->stream);
        else
            Pa_AbortStream(m->stream);
        Pa_CloseStream(m->stream);
        atomic_store(&m->in_callback, true); /* mic_stop settles, too: only one of the two may, as in on_block */
        if (!atomic_load(&m->stopped)) settle(m);
        atomic_store(&m->in_callback, false);
    }
    m->stream = NULL;
    if (m->converts) speex_resampler_destroy(m->converts);
    m->converts = NULL;
    if (m->initialised) Pa_Terminate();
    m->initialised = false;
}

static PaError try(struct mic *m, PaDeviceIndex device, int rate, int channels)
{
    const PaDeviceInfo *d = Pa_GetDeviceInfo(device);
    PaStreamParameters in = {.device = device, .channelCount = channels, .sampleFormat = paFloat32};
    in.suggestedLatency = d->defaultLowInputLatency > 0.02 ? d->defaultLowInputLatency : 0.02;
    m->info.device_rate = rate;
    m->info.channels = channels;
    return Pa_OpenStream(&m->stream, &in, NULL, rate, (unsigned long)(rate / BLOCKS_A_SECOND), paClipOff, on_block, m);
}

/* All channels, because speech may be on any of them, and a stream of fewer channels has only the card's first ones. A
 * plugin of a sound server or of ALSA reports 32 or more for any source, and mixes the source's channels to the number
 * that is requested. */
static int most_channels(const struct mic *m, const PaDeviceInfo *d)
{
    int most = d->maxInputChannels;
    if (is_server(d->name) || most > SUR_CHANNELS_MAX) most = SERVER_CHANNELS < most ? SERVER_CHANNELS : most;
    return m->channel > most ? m->channel : most;
}

/* Tries the best rate first, which is the capture's if the device is reopened, and all channels before fewer. */
static PaError open_any(struct mic *m, PaDeviceIndex device)
{
    const PaDeviceInfo *d = Pa_GetDeviceInfo(device);
    int own = (int)(d->defaultSampleRate + 0.5), best = m->capture           ? m->info.rate
                                                        : is_server(d->name) ? SERVER_RATE
                                                                             : own;
    const int rates[] = {best, own, 48000, 44100, 32000, 16000, 96000}, n = sizeof rates / sizeof *rates;
    const int most = most_channels(m, d), fewer[] = {most, 8, 4, 2, 1}, n_fewer = sizeof fewer / sizeof *fewer;
    PaError e = paInvalidSampleRate;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n_fewer; j++) {
            if (rates[i] < 8000 || rates[i] > 192000 || (j > 0 && fewer[j] >= most) || fewer[j] < m->channel) continue;
            e = try(m, device, rates[i], fewer[j]);
            if (e == paNoError) return e;
            m->stream = NULL;
        }
    return e;
}

/* The capture keeps the rate of the first opening, as the session does; another rate is converted. */
static int fit_capture(struct mic *m)
{
    if (!m->capture) {
        m->info.rate = m->info.device_rate;
        if (capture_create(&m->capture, m->info.rate, MIC_SECONDS) != 0)
            return failure(MIC_FAILED, "not enough memory for samples");
        arrivals_init(&m->arrivals, m->info.rate);
    }
    downmix_init(&m->mix, m->info.device_rate, m->info.channels, m->channel);
    downmix_init(&m->mono, m->info.rate, 1, 0);
    if (m->info.device_rate == m->info.rate) return MIC_OK;
    m->converts =
        speex_resampler_init(1, (spx_uint32_t)m->info.device_rate, (spx_uint32_t)m->info.rate, SPEEX_QUALITY, NULL);
    if (!m->converts) return failure(MIC_FAILED, "not enough memory for samples");
    speex_resampler_skip_zeros(m->converts);
    return MIC_OK;
}

static int start(struct mic *m)
{
    bool realtime = os_priority_realtime(true); /* the callback's thread inherits it */
    PaError e = Pa_StartStream(m->stream);
    if (realtime) os_priority_normal();
    if (e != paNoError)
        return failure(MIC_FAILED, "cannot start the microphone %s: %s", m->info.name, Pa_GetErrorText(e));
    m->state = WAITING;
    m->opened_ns = sur_clock_ns();
    return MIC_OK;
}

static int open_device(struct mic *m)
{
    setenv("JACK_NO_START_SERVER", "1", 0); /* listing the devices must not start a server */
    PaError e = Pa_Initialize();
    if (e != paNoError) return failure(MIC_FAILED, "cannot start PortAudio: %s", Pa_GetErrorText(e));
    m->initialised = true;
    PaDeviceIndex device = find(m);
    if (device == paNoDevice && m->wanted && !is_server(m->wanted))
        return failure(MIC_NO_DEVICE, "no microphone is named '%.80s': see --list-devices", m->wanted);
    if (device == paNoDevice) return os_sound_server_no_device(MIC_NO_DEVICE);
    const char *name = Pa_GetDeviceInfo(device)->name;
    snprintf(m->found, sizeof m->found, "%s", name);
    sur_utf8_clean(m->info.name, sizeof m->info.name, name, strlen(name));
    int has = Pa_GetDeviceInfo(device)->maxInputChannels;
    if (m->channel > has)
        return failure(MIC_USAGE, "--channel %d: the microphone %s has %d channel%s", m->channel, m->info.name, has,
                       has == 1 ? "" : "s");
    e = open_any(m, device);
    if (e == paUnanticipatedHostError && is_server(name)) return os_sound_server_no_source(MIC_FAILED);
    if (e != paNoError)
        return failure(MIC_FAILED, "cannot open the microphone %s: %s", m->info.name, Pa_GetErrorText(e));
    int status = fit_capture(m);
    if (status != MIC_OK) return status;
    atomic_store(&m->blocks, 0);
    return start(m);
}

struct mic *mic_create(const char *device, int channel)
{
    struct mic *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->wanted = device;
    m->channel = channel;
    m->first_block_timeout_ns = first_timeout_ns;
    return m;
}

int mic_open(struct mic *m)
{
    atomic_store(&m->last_ns, sur_clock_ns());
    return open_device(m);
}

void mic_stop(struct mic *m)
{
    atomic_store(&m->stopped, true);
    while (atomic_load(&m->in_callback)) sur_clock_sleep_until(sur_clock_ns() + 1000000); /* the callback is short */
    settle(m);
}

void mic_close(struct mic *m)
{
    close_stream(m);
    m->state = CLOSED;
}

void mic_destroy(struct mic **mic)
{
    free(*mic);
    *mic = NULL;
}

const struct mic_info *mic_get_info(const struct mic *m)
{
    return &m->info;
}

struct capture *mic_capture(const struct mic *m)
{
    return m->capture;
}

/* ---- watching ---- */

/* Callbacks may stop without an error, and a stream that is no longer active never becomes active again. */
static bool delivers(const struct mic *m, int64_t now)
{
    int64_t timeout = m->state == WAITING ? m->first_block_timeout_ns : silent_ns;
    int64_t since = m->state == WAITING ? m->opened_ns : atomic_load_explicit(&m->last_ns, memory_order_relaxed);
    return Pa_IsStreamActive(m->stream) == 1 && now - since < timeout;
}

/* Reports once that a device which has not delivered in this run, or since mic_resume, is late. */
static enum mic_event late(struct mic *m)
{
    if (m->late_reported || m->lost_reported) return MIC_NOTHING;
    m->late_reported = true;
    return MIC_LATE;
}

static enum mic_event lose(struct mic *m)
{
    bool reported = m->lost_reported;
    if (m->state == WAITING && m->first_block_timeout_ns < longest_timeout_ns) m->first_block_timeout_ns *= 2;
    m->state = LOST;
    if (!m->delivered) return late(m);
    m->lost_reported = true;
    return reported ? MIC_NOTHING : MIC_LOST;
}

static enum mic_event try_again(struct mic *m, int64_t now)
{
    close_stream(m); /* may hang until a sound server answers, so it is called after the loss was reported */
    if (now - m->tried_ns < retry_ns) return MIC_NOTHING;
    m->resuming = m->delivered;
    bool opened = open_device(m) == MIC_OK;
    m->tried_ns = sur_clock_ns();
    return opened ? MIC_NOTHING : lose(m);
}

static enum mic_event wait_for_first(struct mic *m, int64_t now)
{
    enum mic_event what = m->lost_reported ? MIC_BACK : MIC_DELIVERS;
    if (atomic_load_explicit(&m->blocks, memory_order_acquire) == 0)
        return !delivers(m, now) ? lose(m) : now - m->opened_ns >= late_ns ? late(m) : MIC_NOTHING;
    m->state = OPEN;
    m->delivered = true;
    m->info.late = m->late_reported;
    m->lost_reported = m->late_reported = false;
    m->first_block_timeout_ns = first_timeout_ns;
    return what;
}

static enum mic_event check_sound(struct mic *m)
{
    m->info.sound = downmix_poll(&m->mix);
    return m->info.sound != DOWNMIX_NOTHING ? MIC_SOUND : MIC_NOTHING;
}

enum mic_event mic_watch(struct mic *m)
{
    int64_t now = sur_clock_ns();
    switch (m->state) {
    case LOST:
        return try_again(m, now);
    case WAITING:
        return wait_for_first(m, now);
    case OPEN:
        return delivers(m, sur_clock_ns()) ? check_sound(m) : lose(m);
    default:
        return MIC_NOTHING;
    }
}

void mic_pause(struct mic *m)
{
    close_stream(m);
    m->state = PAUSED;
}

void mic_resume(struct mic *m)
{
    if (m->state != PAUSED) return;
    m->state = LOST;
    m->tried_ns = 0; /* at once */
}

/* ---- the list ---- */

static void print_devices(FILE *f)
{
    PaDeviceIndex chosen = default_device();
    fprintf(f, "  index  name                                      host API         rate  channels\n");
    for (PaDeviceIndex i = 0; i < Pa_GetDeviceCount(); i++) {
        const PaDeviceInfo *d = input(i);
        const PaHostApiInfo *api = d ? Pa_GetHostApiInfo(d->hostApi) : NULL;
        char name[MIC_NAME_BYTES];
        if (!d) continue;
        sur_utf8_clean(name, sizeof name, d->name, strlen(d->name));
        fprintf(f, "%c %5d  %-40s  %-12s  %7.0f  %8d\n", i == chosen ? '*' : ' ', i, name, api ? api->name : "",
                d->defaultSampleRate, d->maxInputChannels);
    }
    fprintf(f, "* is the default\n");
}

int mic_list(char **text)
{
    size_t size;
    *text = NULL;
    setenv("JACK_NO_START_SERVER", "1", 0);
    PaError e = Pa_Initialize();
    if (e != paNoError) return failure(MIC_FAILED, "cannot start PortAudio: %s", Pa_GetErrorText(e));
    int status = MIC_OK;
    if (by_name("", true) == paNoDevice) {
        status = os_sound_server_no_device(MIC_NO_DEVICE);
    } else {
        FILE *f = open_memstream(text, &size);
        if (f) print_devices(f);
        if (!f || fclose(f) != 0) status = failure(MIC_FAILED, "not enough memory for the list of devices");
    }
    Pa_Terminate();
    return status;
}

/* A simulated microphone, to be preloaded over PortAudio. Environment variables describe it:
 *   FAKE_MIC       its lives, "RATE CHANNELS SECONDS FILE", separated by ';'. In each life it accepts only that rate
 *                  and number of channels, and plays FILE (16 bits, one channel) and then zeros, at the speed of speech
 *                  from its first callback on. After SECONDS (0: never) it is gone, and GONE_MS later its next
 *                  life begins, with another device number.
 *   FAKE_INPUT     the card accepts any number of channels up to CHANNELS and delivers its first ones; FILE is on input
 *                  FAKE_INPUT, the others have the noise of an open amplifier; -1: FILE is on all inputs, every second
 *                  one inverted
 *   FAKE_FIRST_MS  the time from a stream's start to its first block
 *   FAKE_START_MS  the time that PortAudio's first start takes
 *   FAKE_GONE_MS   replaces GONE_MS
 *   FAKE_SLOW_MS   additional time for opening the model
 *   FAKE_HANG      "FUNCTION SECONDS": this function of PortAudio returns SECONDS later the first time, as if a sound
 *                  server did not answer; 0: never
 *   FAKE_TIMES     "true" or "zero": the times that the callback gets; otherwise NULL
 *   FAKE_LOG       a file that gets one line when a stream is started and one when it has ended
 *   FAKE_EVENTS    "LIFE BLOCK WHAT MS", separated by ';', LIFE and BLOCK counted from 0; BLOCK -1: at the unplugging.
 *                  Before that block, once:
 *     late   nothing is delivered for MS; what was recorded meanwhile follows at once
 *     lose   MS of sound are lost
 *     flag   (MS 0) the block is flagged as the first one after an overflow
 *     sleep  the machine is suspended for MS: the monotonic clock stands still, the others advance
 *     jump   MS pass for all clocks, without sound */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <portaudio.h>

#include "surtitle.h"
#include "util/clock.h"

enum { MAX_LIVES = 8, MAX_FRAMES = 192000 / 100, MAX_CHANNELS = 64, GONE_MS = 1500 };

static const int64_t ms_ns = 1000000;

static struct life {
    int rate, channels, seconds;
    char file[512];
} lives[MAX_LIVES];
static int n_lives, n_devices, now_living;
static int64_t back_ns;
static char name[64];
static PaDeviceInfo device;
static PaHostApiInfo api = {.name = "fake"};

static struct stream {
    PaStreamCallback *callback;
    void *user;
    unsigned long n;
    int channels;
    pthread_t thread;
    atomic_bool stop, ended, started;
} stream;

/* ---- simulated clocks ---- */

static _Atomic int64_t asleep_ns, jumped_ns;

static int64_t ahead_ns(clockid_t clock)
{
    return clock == CLOCK_MONOTONIC                             ? jumped_ns
           : clock == CLOCK_BOOTTIME || clock == CLOCK_REALTIME ? jumped_ns + asleep_ns
                                                                : 0;
}

static void add(struct timespec *t, int64_t ns)
{
    ns += t->tv_nsec;
    t->tv_sec += ns / 1000000000 - (ns % 1000000000 < 0);
    t->tv_nsec = ns % 1000000000 + (ns % 1000000000 < 0 ? 1000000000 : 0);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, clock, t);
    add(t, ahead_ns(clock));
    return r;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    struct timespec t = *until;
    if (flags & TIMER_ABSTIME) add(&t, -ahead_ns(clock));
    return syscall(SYS_clock_nanosleep, clock, flags, &t, left) == 0 ? 0 : errno;
}

static void pass(int64_t ms)
{
    int64_t until = sur_clock_ns() + ms * ms_ns;
    while (sur_clock_ns() < until) sur_clock_sleep_until(until);
}

static int64_t number(const char *variable, int64_t otherwise)
{
    return getenv(variable) ? atoll(getenv(variable)) : otherwise;
}

static void read_lives(void)
{
    char *text = strdup(getenv("FAKE_MIC") ? getenv("FAKE_MIC") : ""), *rest = text;
    for (char *one; n_lives < MAX_LIVES && (one = strsep(&rest, ";")); n_lives++) {
        struct life *l = &lives[n_lives];
        if (sscanf(one, "%d %d %d %511s", &l->rate, &l->channels, &l->seconds, l->file) != 4) abort();
    }
    free(text);
}

static void may_hang(const char *function)
{
    static bool done;
    char hangs[64];
    int seconds;
    if (done || !getenv("FAKE_HANG") || sscanf(getenv("FAKE_HANG"), "%63s %d", hangs, &seconds) != 2) return;
    if (strcmp(hangs, function) != 0) return;
    done = true;
    int64_t until = seconds > 0 ? sur_clock_ns() + (int64_t)seconds * 1000000000 : INT64_MAX;
    while (sur_clock_ns() < until) sur_clock_sleep_until(until);
}

static void note(const char *what)
{
    int fd = getenv("FAKE_LOG") ? open(getenv("FAKE_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (fd >= 0 && dprintf(fd, "%s %.3f\n", what, (double)sur_clock_ns() * 1e-9) < 0) abort();
    if (fd >= 0) close(fd);
}

PaError Pa_Initialize(void)
{
    may_hang(__func__);
    if (n_lives == 0) {
        read_lives();
        pass(number("FAKE_START_MS", 0));
    }
    n_devices = now_living < n_lives && sur_clock_ns() >= back_ns;
    if (n_devices == 0) return paNoError;
    snprintf(name, sizeof name, "Fake: USB Audio (hw:%d,0)", now_living);
    device = (PaDeviceInfo){.name = name, .maxInputChannels = 8, .defaultSampleRate = lives[now_living].rate};
    if (number("FAKE_INPUT", 0)) device.maxInputChannels = lives[now_living].channels;
    return paNoError;
}

PaError Pa_Terminate(void)
{
    may_hang(__func__);
    return paNoError;
}

PaDeviceIndex Pa_GetDeviceCount(void)
{
    return n_devices;
}

PaDeviceIndex Pa_GetDefaultInputDevice(void)
{
    return n_devices ? 0 : paNoDevice;
}

const PaDeviceInfo *Pa_GetDeviceInfo(PaDeviceIndex i)
{
    return i >= 0 && i < n_devices ? &device : NULL;
}

const PaHostApiInfo *Pa_GetHostApiInfo(PaHostApiIndex i)
{
    return i == 0 ? &api : NULL;
}

const char *Pa_GetErrorText(PaError e)
{
    return e == paInvalidSampleRate ? "Invalid sample rate" : "an error";
}

PaError Pa_OpenStream(PaStream **to, const PaStreamParameters *in, const PaStreamParameters *out, double rate,
                      unsigned long n, PaStreamFlags flags, PaStreamCallback *callback, void *user)
{
    const struct life *l = &lives[now_living];
    may_hang(__func__);
    if ((int)rate != l->rate) return paInvalidSampleRate;
    if (number("FAKE_INPUT", 0) ? in->channelCount > l->channels : in->channelCount != l->channels)
        return paInvalidChannelCount;
    if (in->sampleFormat != paFloat32 || out || n == 0 || n > MAX_FRAMES) return paInternalError;
    memset(&stream, 0, sizeof stream);
    stream.callback = callback;
    stream.user = user;
    stream.n = n;
    stream.channels = in->channelCount;
    *to = &stream;
    return paNoError;
}

static float sample(const int16_t *samples, size_t i)
{
    size_t channels = (size_t)stream.channels;
    int input = (int)number("FAKE_INPUT", 0);
    if (input < 0) return (float)samples[i / channels] / (i % channels % 2 ? -32768 : 32768);
    if (input && i % channels != (size_t)input - 1) return (float)(rand() % 3 - 1) / 32768;
    return (float)samples[i / channels] / 32768;
}

/* Applies the events before a block. began_ns: the time of the first block, from which later ones are due. */
static bool happen(int64_t block, const struct life *l, int64_t *began_ns, FILE *f)
{
    static unsigned done; /* one bit per event */
    bool flag = false;
    const char *at = getenv("FAKE_EVENTS");
    for (unsigned bit = 1; at && *at; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL, bit *= 2) {
        int life;
        long long of, ms;
        char what[8];
        if (sscanf(at, "%d %lld %7s %lld", &life, &of, what, &ms) != 4) abort();
        if (life != now_living || of != block || (done & bit)) continue;
        done |= bit;
        flag = flag || strcmp(what, "flag") == 0;
        if (strcmp(what, "late") == 0) pass(ms);
        if (strcmp(what, "sleep") == 0) asleep_ns += ms * ms_ns;
        if (strcmp(what, "jump") == 0) jumped_ns += ms * ms_ns;
        if (strcmp(what, "lose") == 0) fseek(f, ms * l->rate / 1000 * 2, SEEK_CUR);
        if (strcmp(what, "lose") == 0 || strcmp(what, "jump") == 0) *began_ns += ms * ms_ns;
    }
    return flag;
}

static void call_back(const float *block, int64_t recorded_ns, bool flag)
{
    const char *times = getenv("FAKE_TIMES");
    PaStreamCallbackTimeInfo time = {0};
    if (times && strcmp(times, "true") == 0) {
        time.inputBufferAdcTime = (double)recorded_ns * 1e-9;
        time.currentTime = (double)sur_clock_ns() * 1e-9;
    }
    stream.callback(block, NULL, stream.n, times ? &time : NULL, flag ? paInputOverflow : 0, stream.user);
}

static void *play(void *arg)
{
    static float block[MAX_FRAMES * MAX_CHANNELS];
    const struct life *l = &lives[now_living];
    int16_t samples[MAX_FRAMES];
    FILE *f;
    do f = fopen(l->file, "rb");
    while (!f && errno == ENOMEM); /* a test may make any allocation fail; this one is not the program's */
    int64_t first = sur_clock_ns() + number("FAKE_FIRST_MS", 0) * ms_ns;
    while (!stream.stop && sur_clock_ns() < first) sur_clock_sleep_until(sur_clock_ns() + 10000000);
    int64_t began = sur_clock_ns(), given = 0, left = l->seconds > 0 ? (int64_t)l->seconds * l->rate : INT64_MAX;
    if (!f) abort();
    note("plays");
    for (; !stream.stop && given < left; given += (int64_t)stream.n) {
        bool flag = happen(given / (int64_t)stream.n, l, &began, f);
        int64_t due = began + given * 1000000000 / l->rate, length = (int64_t)stream.n * 1000000000 / l->rate;
        while (sur_clock_ns() < due + length && !stream.stop) sur_clock_sleep_until(due + length);
        memset(samples, 0, sizeof samples);
        if (fread(samples, sizeof *samples, stream.n, f) < stream.n && ferror(f)) abort();
        for (size_t i = 0; i < stream.n * (size_t)stream.channels; i++) block[i] = sample(samples, i);
        call_back(block, due, flag);
    }
    if (!stream.stop) { /* unplugged */
        note("gone");
        happen(-1, l, &began, f);
        now_living++;
        back_ns = sur_clock_ns() + number("FAKE_GONE_MS", GONE_MS) * ms_ns;
    }
    fclose(f);
    stream.ended = true;
    return NULL;
}

PaError Pa_StartStream(PaStream *s)
{
    may_hang(__func__);
    note("started");
    stream.started = pthread_create(&stream.thread, NULL, play, NULL) == 0;
    return stream.started ? paNoError : paInternalError;
}

static PaError end_stream(void)
{
    stream.stop = true;
    if (!stream.started) return paNoError;
    pthread_join(stream.thread, NULL);
    stream.started = false;
    note("ended");
    return paNoError;
}

PaError Pa_StopStream(PaStream *s)
{
    may_hang(__func__);
    return end_stream();
}

PaError Pa_AbortStream(PaStream *s)
{
    may_hang(__func__);
    return end_stream();
}

PaError Pa_CloseStream(PaStream *s)
{
    may_hang(__func__);
    return end_stream();
}

PaError Pa_IsStreamActive(PaStream *s)
{
    return stream.started && !stream.ended;
}

int sur_model_open(struct sur_model **model, const struct sur_model_options *options)
{
    int (*real)(struct sur_model **, const struct sur_model_options *);
    *(void **)&real = dlsym(RTLD_NEXT, "sur_model_open");
    if (!real) abort();
    int64_t until = sur_clock_ns() + number("FAKE_SLOW_MS", 0) * ms_ns;
    while (sur_clock_ns() < until) sur_clock_sleep_until(until);
    return real(model, options);
}

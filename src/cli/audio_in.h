/* The audio of a run: a file, a pipe or the microphone. Main thread, except that in a live run the reader thread
 * (cli/reader.h) owns source, mix and frames. */
#ifndef AUDIO_IN_H
#define AUDIO_IN_H

#include "cli/device.h"
#include "cli/options.h"
#include "input/capture.h"
#include "input/source.h"

struct audio_in {
    struct source source; /* of a microphone: name, rate and channels only */
    struct downmix mix;   /* of source; a microphone has its own */
    float *frames;        /* [max_frames, channels], after audio_in_read without live: mono samples */
    size_t max_frames;
    size_t n_frames;         /* read and not fed yet */
    bool ended;              /* nothing more comes */
    bool live;               /* audio comes as time passes: captions do not wait for more of it */
    bool slow_writer;        /* source is a pipe or the like, whose writer may be slow */
    struct device *device;   /* the microphone; NULL: source is read */
    struct capture *capture; /* of the microphone; NULL if there is none */
    int64_t first_wall;      /* ns since 1970 when the first frames of source were read; 0: not yet */
};

/* Opens SOURCE and reads its first frames, or opens the microphone. in: zeros. Returns an exit status; EXIT_DONE with
 * in->ended if a signal came first. Close in any case. */
int audio_in_open(struct audio_in *in, const struct options *options);
/* Waits for more frames of source, reads them and, unless in->live, makes them mono. Returns an exit status. */
int audio_in_read(struct audio_in *in);
/* Prints the line of a source that failed with this status, and returns the exit status. */
int audio_in_failed(int status);
/* ns since 1970 when the first frame was recorded; 0: it is not known. */
int64_t audio_in_first_wall(const struct audio_in *in, const struct options *options);
/* Prints a notice for each finding of mix: silence, antiphase. */
void audio_in_report_mix(struct audio_in *in);
/* Prints such a notice of "WHAT NAME". */
void audio_in_report_sound(const char *what, const char *name, enum downmix_event event);
void audio_in_close(struct audio_in *in);

/* Whether SOURCE is standard input or no regular file. */
bool audio_in_is_stream(const char *path);

#endif

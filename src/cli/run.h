/* One run: a source, a session, and the sinks. A file as fast as it goes in one thread; what comes as time passes in
 * threads (cli/live.h), of which the main one decodes and writes. */
#ifndef RUN_H
#define RUN_H

#include <stdint.h>

#include "input/capture.h"
#include "input/source.h"
#include "cli/device.h"
#include "cli/live.h"
#include "cli/message.h"
#include "cli/options.h"
#include "sink/output.h"
#include "sink/sink.h"
#include "surtitle.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_DEVICE = 3, EXIT_NO_MODEL = 4, EXIT_NO_BACKEND = 5 };

enum { EXIT_CANNOT_RUN = 127 };
enum { RUN_CAPTION_FILE = 1, RUN_SINKS = 3 }; /* places in run.sinks */

struct run {
    struct options options;
    struct source source;
    struct downmix mix; /* of source; the microphone has its own */
    float *frames;      /* [max_frames, channels], or mono samples; n_frames of them were read and not fed */
    size_t max_frames, n_frames;
    bool ended;              /* the source has no more */
    bool live_input;         /* samples come as time passes: captions do not wait for more of them */
    struct capture *capture; /* live_input alone */
    struct device *device;   /* the microphone; NULL: run.source is read */
    struct live live;
    int32_t *force;
    size_t n_force;
    struct output output;
    struct sink *sinks[RUN_SINKS]; /* NULL: none, or its reader has gone */
    bool draws; /* captions are drawn over the terminal; overlay: from the time when all else is ready */
    struct overlay *overlay;
    const char *model_dir; /* the caller's, before run_open_source; NULL: there is none */
    bool side_failed;      /* the caption file could not be written for a time: status 1 at the end */
    struct sur_model *model;
    struct sur_session *session;
    int64_t start_ns, load_ns;  /* begun; time that opening the model took */
    int64_t first_wall;         /* ns since 1970 when the source's first samples were read */
    bool told_start, told_rest; /* told_rest: since samples came last */
    bool waits;                 /* the source is a pipe or the like, whose writer may be slow */
};

/* Each returns EXIT_DONE, or the exit status after one line on standard error. In this order, then run_finish. */
int run_open_source(struct run *run); /* and its first samples; the token ids of --force */
int run_open_outputs(struct run *run);
int run_open_model(struct run *run); /* run.model_dir */
int run_captions(struct run *run);   /* to the end of the source, or until somebody asks for the end */
/* Frees a run, half built or not. EXIT_FAILED if only now it shows that the output could not be written. */
int run_finish(struct run *run);

/* ---- for the parts of a run ---- */

int run_live(struct run *run); /* run_captions of what comes as time passes */
bool run_any_sink(const struct run *run);
int run_tell_start(struct run *run);  /* once, before the rest: what is known before the first event */
int run_tell_rest(struct run *run);   /* the source stands still, and all events that its sound makes have been told */
int run_tell_events(struct run *run); /* all that the session has to say now */
int run_tell_device(struct run *run, const struct sink_device *device);
int run_tell_time(struct run *run);
enum message_topic run_sound_topic(enum downmix_event event);
/* Silence and antiphase in the source: a line per event. */
void run_tell_channels(struct run *run);
int run_source_failed(const struct run *run, int status); /* says it; the exit status */

#endif

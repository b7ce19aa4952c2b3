/* The outputs of a run: captions in a format, the caption file, the overlay. Main thread.
 *
 * Each call that writes passes what it is given to all sinks that are open, and returns an exit status. A sink whose
 * reader has gone is closed. A caption file that cannot be written costs the exit status of the run, and nothing else.
 */
#ifndef OUTPUTS_H
#define OUTPUTS_H

#include "cli/options.h"
#include "sink/sink.h"

enum { OUTPUTS_TEXT, OUTPUTS_CAPTION_FILE, OUTPUTS_OVERLAY, OUTPUTS_COUNT };

struct outputs {
    struct output text;                /* of sinks[OUTPUTS_TEXT] */
    struct sink *sinks[OUTPUTS_COUNT]; /* NULL: none, or closed; the overlay's is put there by its owner */
    bool caption_file_failed;          /* at least once */
};

/* outputs: zeros. drawn: an overlay draws on standard output, so no captions are written there. Close in any case. */
int outputs_open(struct outputs *outputs, const struct options *options, bool drawn);
bool outputs_any(const struct outputs *outputs);
int outputs_start(struct outputs *outputs, const struct sink_start *start);
int outputs_events(struct outputs *outputs, struct sur_session *session); /* all that the session has now */
int outputs_device(struct outputs *outputs, const struct sink_device *device);
int outputs_rest(struct outputs *outputs); /* the source stands still, and the events of its audio have been written */
int outputs_tick(struct outputs *outputs); /* time passes */
int outputs_close(struct outputs *outputs);

#endif

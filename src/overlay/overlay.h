/* Subtitles over a terminal: captions and a line of state in its bottom rows, and above them, if there is a command,
 * that program in a pseudo-terminal of its own.
 *
 * The overlay runs in a thread of its own, which alone reads and writes the terminal, so that the program under it
 * answers at once whatever the captions cost. The calls below only leave word for it: they never wait for the terminal,
 * and any thread may make them at any time, unless a comment says otherwise. One overlay a process. */
#ifndef OVERLAY_H
#define OVERLAY_H

#include <stdbool.h>

#include "overlay/state.h"
#include "sink/sink.h"
#include "surtitle.h"

struct overlay_options {
    int in, out;          /* keys (-1: none) and the terminal; stay open as long as the overlay */
    int width;            /* columns of captions; 0: at most 80 */
    bool colour;          /* for our own rows */
    char *const *command; /* NULL: none */
    void (*ended)(
        void); /* called once by the overlay's thread when the program, or the terminal, has gone; may be NULL */
};

struct overlay;

/* Starts the command; the terminal is taken by the overlay's thread, whenever the process is in its foreground.
 * SUR_ERR_IO (terminal, or the command cannot be run: *cannot_run), SUR_ERR_MEMORY, SUR_ERR_ARGUMENT (a command, and no
 * libvterm). */
int overlay_create(struct overlay **o, const struct overlay_options *options, bool *cannot_run);
/* Gives the terminal back and hangs up on the command. Returns the command's exit status (128+n after signal n), -1 if
 * there was none. Takes NULL. One thread, after all other calls. */
int overlay_destroy(struct overlay **o);

bool overlay_failed(const struct overlay *o); /* it ended for want of memory */

void overlay_event(struct overlay *o, const struct sur_event *event); /* one thread at a time */
void overlay_set_state(struct overlay *o, const struct overlay_state *state);
/* A line that says what is wrong; shown for a while, or, if it lasts, until the next one. "" takes it away. */
void overlay_trouble(struct overlay *o, const char *line, bool lasts);
/* A sink that passes events on; destroy it before the overlay. */
int overlay_create_sink(struct sink **sink, struct overlay *o);

/* Waits until the command has ended or, without one, until the captions have vanished; or until stop() is true, which
 * is asked ten times a second. */
void overlay_wait(struct overlay *o, bool (*stop)(void));

/* Gives the terminal back for a while (Ctrl-Z), and lets the overlay take it again when the process is in its
 * foreground. Between the two nothing is written. Not needed where nobody handles SIGTSTP: the overlay then stops the
 * process itself. */
void overlay_suspend(struct overlay *o);
void overlay_resume(struct overlay *o);

#endif

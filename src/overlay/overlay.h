/* Subtitles over a terminal: captions and a status line in its bottom rows. Above them, if there is a command, that
 * program runs in a pseudo-terminal of its own.
 *
 * A thread of the overlay alone reads and writes the terminal, so that the program above the captions responds at once,
 * however long the captions take. The calls below hand over state to that thread and never wait for the terminal,
 * except overlay_suspend, overlay_wait and overlay_destroy.
 *
 * Thread-safety: any thread at any time, unless stated otherwise. One overlay per process.
 * Errors: SUR_ERR_IO, SUR_ERR_MEMORY, SUR_ERR_ARGUMENT, each with an error line. */
#ifndef OVERLAY_H
#define OVERLAY_H

#include <stdbool.h>

#include "overlay/state.h"
#include "sink/sink.h"
#include "surtitle.h"

struct overlay_options {
    int in, out;          /* descriptors of keyboard (-1: none) and terminal; open for as long as the overlay lives */
    int width;            /* columns of captions; 0: at most 80 */
    bool colour;          /* for the captions' own rows */
    char *const *command; /* NULL: none */
    /* Called once, by the overlay's thread, when the program has ended or the terminal has gone; may be NULL. */
    void (*ended)(void);
};

struct overlay;

/* Starts the command. The overlay's thread takes the terminal whenever the process is in the terminal's foreground.
 * SUR_ERR_IO: the terminal cannot be used, or the command cannot be run (*cannot_run). SUR_ERR_ARGUMENT: there is a
 * command, but no libvterm in this build. SUR_ERR_MEMORY. */
int overlay_create(struct overlay **o, const struct overlay_options *options, bool *cannot_run);
/* Gives the terminal back and hangs up on the command. Returns the command's exit status (128+n after signal n), -1 if
 * there was none. Takes NULL. Thread-safety: no other call may run or follow. */
int overlay_destroy(struct overlay **o);

bool overlay_failed(const struct overlay *o); /* the overlay has ended because it ran out of memory */

/* Thread-safety: one thread at a time. */
void overlay_event(struct overlay *o, const struct sur_event *event);
void overlay_set_state(struct overlay *o, const struct overlay_state *state);
/* Shows a line that says what is wrong: for 20 s, or with `lasts` until the next call. "" removes it. */
void overlay_set_problem(struct overlay *o, const char *line, bool lasts);
/* Creates a sink that passes its events to overlay_event. Destroy it before the overlay. */
int overlay_create_sink(struct sink **sink, struct overlay *o);

/* Waits until the command has ended or, without one, until the captions have been cleared; or until stop() returns
 * true. stop is called ten times per second. */
void overlay_wait(struct overlay *o, bool (*stop)(void));

/* Gives the terminal back when the process is about to stop (Ctrl-Z); nothing is written to it until overlay_resume.
 * Waits for the terminal, at most 1 s. If SIGTSTP had no handler when the overlay was created, the overlay stops the
 * process itself and calls both. */
void overlay_suspend(struct overlay *o);
/* Lets the overlay take the terminal again once the process is in the foreground. */
void overlay_resume(struct overlay *o);

#endif

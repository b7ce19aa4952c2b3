/* What the program says: one clean line on standard error at a time.
 *
 * A standard error that takes nothing holds a thread up for half a second at most; then its lines are lost and counted.
 *
 * message.c also holds the sur_fail of the program's own parts (sinks, output). It is not the library's, whose symbol
 * is hidden: its lines are read by message_failure, the library's by sur_error_text. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>

#include "surtitle.h"

/* What a line is about, so that a screen can take it away once that is over. */
enum message_topic {
    MESSAGE_ANY,
    MESSAGE_LAG,   /* captions are behind */
    MESSAGE_ZEROS, /* the input is nothing but zeros */
    MESSAGE_QUIET, /* the input is too quiet */
    MESSAGE_LOST,  /* the microphone delivers nothing; another line says when it does */
};

/* "surtitle: ..." */
void message(const char *format, ...) __attribute__((format(printf, 1, 2)));
void message_about(enum message_topic topic, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "name value unit" lines and the like: no prefix. */
void message_plain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For sur_set_log: "surtitle: warning: ..." */
void message_log(void *user, enum sur_log_level level, const char *line);
/* While a screen is drawn on the terminal: every line goes to `to` first, from any thread, without its newline; where
 * that returns true it does not go to standard error. NULL ends it, once nobody is inside. */
void message_divert(bool (*to)(void *user, enum message_topic topic, const char *line), void *user);
/* At --log-level debug alone; message_set_level comes first, before there are threads. */
void message_set_level(enum sur_log_level level);
void message_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The line of the program's last sur_fail in this thread. */
const char *message_failure(void);

#endif

/* The program's messages: one clean line on standard error each. Any thread.
 *
 * A standard error that accepts nothing delays a thread by at most half a second; its lines are then dropped and
 * counted. Warnings, notices and debug lines obey the level of message_set_level; errors and figures do not. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>

#include "surtitle.h"

/* The condition that a line reports, so that a screen can remove the line once the condition is over. */
enum message_topic {
    MESSAGE_ANY,
    MESSAGE_LAG,   /* captions are behind */
    MESSAGE_ZEROS, /* the input is digital silence */
    MESSAGE_QUIET, /* the input is too quiet */
    MESSAGE_LOST,  /* the microphone delivers nothing; another line says when it does */
};

struct message_line {
    const char *text; /* without its newline */
    enum message_topic topic;
    enum sur_log_level level;
    bool figure;  /* from message_figure */
    bool printed; /* belongs on standard error at the current level */
};

/* "surtitle: ..." The input, the output or the command line is at fault, and the exit status shows it. */
void message_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "surtitle: ..." A warning or a notice; the run goes on. */
void message_notice(enum message_topic topic, const char *format, ...) __attribute__((format(printf, 2, 3)));
void message_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "name value unit", without a prefix. */
void message_figure(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For sur_set_log: "surtitle: warning: ..." */
void message_log(void *user, enum sur_log_level level, const char *line);
/* Before there are threads. SUR_LOG_WARN without it; SUR_LOG_ERROR: errors and figures alone. */
void message_set_level(enum sur_log_level level);
/* While a screen is drawn on the terminal: every line goes to `to` first, also one that is not printed. A line for
 * which `to` returns true does not go to standard error. NULL ends it; on return no thread is inside `to`. */
void message_divert(bool (*to)(void *user, const struct message_line *line), void *user);

#endif

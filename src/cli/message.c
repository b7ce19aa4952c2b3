#include "cli/message.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/os_stderr.h"
#include "util/utf8.h"

enum { LINE_BYTES = 1024 };

static enum sur_log_level most = SUR_LOG_WARN;

static struct {
    pthread_mutex_t lock;
    bool (*to)(void *user, const struct message_line *line);
    void *user;
} divert = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A line that standard error did not accept is counted, and the count is printed before the next line. Under the lock.
 */
static void write_line(const char *line)
{
    static unsigned lost;
    char note[80];
    int n = snprintf(note, sizeof note, "surtitle: standard error accepted nothing: lines lost here: %u\n", lost);
    if (lost > 0 && os_stderr_write(note, (size_t)n)) lost = 0;
    if (lost > 0 || !os_stderr_write(line, strlen(line))) lost++;
}

/* Prints by one write, so that lines of several programs do not mix. Names of files may hold any byte. */
__attribute__((format(printf, 3, 0))) static void print(struct message_line line, const char *prefix,
                                                        const char *format, va_list args)
{
    char raw[LINE_BYTES], text[3 * LINE_BYTES];
    int n = snprintf(raw, sizeof raw, "%s", prefix);
    vsnprintf(raw + n, sizeof raw - (size_t)n, format, args);
    sur_utf8_clean(text, sizeof text - 1, raw, strlen(raw));
    line.text = text;
    line.printed = line.figure || line.level <= most;
    pthread_mutex_lock(&divert.lock);
    bool taken = divert.to && divert.to(divert.user, &line);
    if (!taken && line.printed) {
        strcat(text, "\n");
        write_line(text);
    }
    pthread_mutex_unlock(&divert.lock);
}

void message_divert(bool (*to)(void *user, const struct message_line *line), void *user)
{
    pthread_mutex_lock(&divert.lock);
    divert.to = to;
    divert.user = user;
    pthread_mutex_unlock(&divert.lock);
}

void message_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print((struct message_line){.level = SUR_LOG_ERROR}, "surtitle: ", format, args);
    va_end(args);
}

void message_notice(enum message_topic topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print((struct message_line){.topic = topic, .level = SUR_LOG_WARN}, "surtitle: ", format, args);
    va_end(args);
}

void message_debug(const char *format, ...)
{
    va_list args;
    if (most < SUR_LOG_DEBUG) return;
    va_start(args, format);
    print((struct message_line){.level = SUR_LOG_DEBUG}, "surtitle: debug: ", format, args);
    va_end(args);
}

void message_figure(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print((struct message_line){.figure = true}, "", format, args);
    va_end(args);
}

__attribute__((format(printf, 3, 4))) static void print_log(enum sur_log_level level, const char *prefix,
                                                            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print((struct message_line){.level = level}, prefix, format, args);
    va_end(args);
}

void message_log(void *user, enum sur_log_level level, const char *line)
{
    static const char *const prefixes[] = {[SUR_LOG_ERROR] = "surtitle: error: ",
                                           [SUR_LOG_WARN] = "surtitle: warning: ",
                                           [SUR_LOG_INFO] = "surtitle: info: ",
                                           [SUR_LOG_DEBUG] = "surtitle: debug: "};
    print_log(level, prefixes[level], "%s", line);
}

void message_set_level(enum sur_log_level level)
{
    most = level;
}

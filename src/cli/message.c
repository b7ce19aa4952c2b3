#include "cli/message.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/os_stderr.h"
#include "util/error.h"
#include "util/utf8.h"

enum { LINE_BYTES = 1024 };

static enum sur_log_level most = SUR_LOG_WARN;
static _Thread_local char failure[512];

static struct {
    pthread_mutex_t lock;
    bool (*to)(void *user, enum message_topic topic, const char *line);
    void *user;
} divert = {.lock = PTHREAD_MUTEX_INITIALIZER};

int sur_fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(failure, sizeof failure, format, args);
    va_end(args);
    return code;
}

const char *message_failure(void)
{
    return failure;
}

/* Captions do not wait for standard error: a line that it does not take is counted, and the count is said later. Under
 * the lock. */
static void write_line(const char *line)
{
    static unsigned lost;
    char note[80];
    int n = snprintf(note, sizeof note, "surtitle: standard error took nothing: lines lost here: %u\n", lost);
    if (lost > 0 && os_stderr_write(note, (size_t)n)) lost = 0;
    if (lost > 0 || !os_stderr_write(line, strlen(line))) lost++;
}

/* One write, so that lines of several programs do not mix. Names of files may hold anything. */
__attribute__((format(printf, 3, 0))) static void put(enum message_topic topic, const char *prefix, const char *format,
                                                      va_list args)
{
    char raw[LINE_BYTES], line[3 * LINE_BYTES];
    int n = snprintf(raw, sizeof raw, "%s", prefix);
    vsnprintf(raw + n, sizeof raw - (size_t)n, format, args);
    sur_utf8_clean(line, sizeof line - 1, raw, strlen(raw));
    pthread_mutex_lock(&divert.lock);
    if (!divert.to || !divert.to(divert.user, topic, line)) {
        strcat(line, "\n");
        write_line(line);
    }
    pthread_mutex_unlock(&divert.lock);
}

void message_divert(bool (*to)(void *user, enum message_topic topic, const char *line), void *user)
{
    pthread_mutex_lock(&divert.lock);
    divert.to = to;
    divert.user = user;
    pthread_mutex_unlock(&divert.lock);
}

void message(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(MESSAGE_ANY, "surtitle: ", format, args);
    va_end(args);
}

void message_about(enum message_topic topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(topic, "surtitle: ", format, args);
    va_end(args);
}

void message_plain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(MESSAGE_ANY, "", format, args);
    va_end(args);
}

void message_log(void *user, enum sur_log_level level, const char *line)
{
    static const char *const names[] = {
        [SUR_LOG_ERROR] = "error", [SUR_LOG_WARN] = "warning", [SUR_LOG_INFO] = "info", [SUR_LOG_DEBUG] = "debug"};
    message("%s: %s", names[level], line);
}

void message_set_level(enum sur_log_level level)
{
    most = level;
}

void message_debug(const char *format, ...)
{
    va_list args;
    if (most < SUR_LOG_DEBUG) return;
    va_start(args, format);
    put(MESSAGE_ANY, "surtitle: debug: ", format, args);
    va_end(args);
}

#include "input/os_sound_server.h"

#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/failure.h"

enum { NAME_BYTES = 64, FIRST_PERSON = 1000 /* users below are system services */ };

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static const char *user_name(uid_t uid, char name[NAME_BYTES])
{
    struct passwd entry, *found = NULL;
    char buffer[1024];
    snprintf(name, NAME_BYTES, "%ld", (long)uid);
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found)
        snprintf(name, NAME_BYTES, "%s", entry.pw_name);
    return name;
}

/* Finds the socket that libpulse connects to. Returns false if the server is not a socket of this machine, or unknown.
 */
static bool find_socket(struct sockaddr_un *address)
{
    const char *server = variable("PULSE_SERVER"), *runtime = variable("PULSE_RUNTIME_PATH"),
               *session = variable("XDG_RUNTIME_DIR");
    const size_t size = sizeof address->sun_path;
    int n = 0;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (server) {
        if (*server == '{' && strchr(server, '}')) server = strchr(server, '}') + 1; /* a server for one machine only */
        if (strncmp(server, "unix:", 5) == 0) server += 5;
        if (*server != '/') return false;
        n = snprintf(address->sun_path, size, "%.*s", (int)strcspn(server, " "), server);
    } else if (runtime) {
        n = snprintf(address->sun_path, size, "%s/native", runtime);
    } else if (session) {
        n = snprintf(address->sun_path, size, "%s/pulse/native", session);
    } else {
        n = snprintf(address->sun_path, size, "/run/user/%ld/pulse/native", (long)geteuid());
    }
    return (size_t)n < size;
}

/* Returns 0 or an errno. */
static int try_connect(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    return error;
}

/* Finds another user who is logged in, and so probably runs the sound server. */
static bool find_person(uid_t *uid)
{
    DIR *dir = opendir("/run/user");
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        *uid = (uid_t)strtoul(e->d_name, NULL, 10);
        found = *uid >= FIRST_PERSON && *uid != geteuid();
    }
    if (dir) closedir(dir);
    return found;
}

static void refuses(const char *path, int error, int code)
{
    char me[NAME_BYTES], owner[NAME_BYTES];
    struct stat is;
    user_name(geteuid(), me);
    if (stat(path, &is) != 0 && errno == EACCES)
        failure(code, "the sound server at %s refuses user %s: run surtitle as the user whose session it is", path, me);
    else if (is.st_uid != geteuid())
        failure(code, "the sound server at %s is user %s's and refuses user %s: run surtitle as %s%s", path,
                user_name(is.st_uid, owner), me, owner, geteuid() == 0 ? ", without sudo" : "");
    else if (error != 0)
        failure(code, "the sound server at %s refuses: %s", path, strerror(error));
    else
        failure(code,
                "the sound server at %s gives no device: its cookie is not this user's, or ALSA's plugin for it "
                "(libasound2-plugins, pipewire-alsa) is missing",
                path);
}

static void is_missing(const char *path, int code)
{
    char me[NAME_BYTES], other[NAME_BYTES];
    uid_t uid;
    if (variable("PULSE_SERVER"))
        failure(code, "no sound server runs at %s, which PULSE_SERVER names", path);
    else if (find_person(&uid))
        failure(code, "no sound server runs for user %s: run surtitle as %s, not by sudo or as a system service",
                user_name(geteuid(), me), user_name(uid, other));
    else
        failure(code,
                "there is no microphone, and no sound server runs: start PulseAudio or PipeWire, or name a FILE, or - "
                "for standard input");
}

int os_sound_server_no_device(int code)
{
    struct sockaddr_un address;
    if (!find_socket(&address)) {
        const char *server = variable("PULSE_SERVER");
        failure(code, "the sound server that PULSE_SERVER names, %.100s, cannot be reached", server ? server : "");
        return code;
    }
    int error = try_connect(&address);
    if (error == ENOENT || error == ENOTDIR || error == ECONNREFUSED)
        is_missing(address.sun_path, code);
    else if (error == 0 && !variable("PULSE_SERVER") && !variable("PULSE_RUNTIME_PATH") && !variable("XDG_RUNTIME_DIR"))
        failure(code, "a sound server runs, but XDG_RUNTIME_DIR is not set: set it to %.*s",
                (int)(strlen(address.sun_path) - strlen("/pulse/native")), address.sun_path);
    else
        refuses(address.sun_path, error, code);
    return code;
}

int os_sound_server_no_source(int code)
{
    const char *source = variable("PULSE_SOURCE");
    if (source)
        failure(code,
                "the sound server gives no source %.100s, which PULSE_SOURCE names: see 'pactl list short sources'",
                source);
    else
        failure(code, "the sound server gives no microphone: 'pactl list short sources' lists the sources, and "
                      "'pactl set-default-source NAME' chooses one");
    return code;
}

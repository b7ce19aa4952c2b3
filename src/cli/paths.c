#include "cli/paths.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* folder/rest, if there is a params.json in it. The specification says that relative folders are ignored. */
static bool try_folder(char *path, size_t size, const char *folder, size_t n, const char *rest)
{
    char file[PATH_MAX];
    if (n == 0 || folder[0] != '/') return false;
    if (snprintf(path, size, "%.*s/%s", (int)n, folder, rest) >= (int)size) return false;
    return snprintf(file, sizeof file, "%s/params.json", path) < (int)sizeof file && access(file, F_OK) == 0;
}

static bool is_build_folder(const char *folder)
{
    char file[PATH_MAX];
    return snprintf(file, sizeof file, "%s/meson-private", folder) < (int)sizeof file && access(file, F_OK) == 0;
}

/* Whether the program is <build>/surtitle or <build>/src/cli/surtitle. */
static bool runs_from_build_folder(void)
{
    static const char inside[] = "/src/cli";
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return false;
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    if (is_build_folder(exe)) return true;
    size_t length = strlen(exe), tail = sizeof inside - 1;
    if (length <= tail || strcmp(exe + length - tail, inside) != 0) return false;
    exe[length - tail] = 0;
    return is_build_folder(exe);
}

static bool try_home(char *path, size_t size)
{
    const char *home = getenv("XDG_DATA_HOME");
    if (home && home[0] == '/') return try_folder(path, size, home, strlen(home), "surtitle/model");
    home = getenv("HOME");
    return home && try_folder(path, size, home, strlen(home), ".local/share/surtitle/model");
}

bool paths_find_model(char *path, size_t size, bool *demo)
{
    *demo = false;
    path[0] = 0;
    if (try_home(path, size)) return true;
    const char *dirs = getenv("XDG_DATA_DIRS");
    if (!dirs || !*dirs) dirs = "/usr/local/share:/usr/share";
    while (*dirs) {
        size_t n = strcspn(dirs, ":");
        if (try_folder(path, size, dirs, n, "surtitle/model")) return true;
        dirs += n + (dirs[n] == ':');
    }
    *demo = true;
    if (runs_from_build_folder())
        return try_folder(path, size, SUR_SOURCE_ROOT, strlen(SUR_SOURCE_ROOT), "models/demo");
    return try_folder(path, size, SUR_DATADIR, strlen(SUR_DATADIR), "surtitle/demo");
}

#include "cli/paths.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns the number of files NAME.gguf in folder, and in file the path of the last one. */
static int count_gguf(char *file, size_t size, const char *folder)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t length = strlen(e->d_name);
        if (length <= 5 || e->d_name[0] == '.' || strcmp(e->d_name + length - 5, ".gguf") != 0) continue;
        if (snprintf(file, size, "%s/%s", folder, e->d_name) < (int)size) n++;
    }
    if (dir) closedir(dir);
    return n;
}

/* Looks for a model in folder/rest. Ignores a relative folder, as the XDG specification says. */
static int try_folder(char *path, size_t size, const char *folder, size_t n, const char *rest)
{
    char file[PATH_MAX], gguf[PATH_MAX];
    if (n == 0 || folder[0] != '/') return 0;
    if (snprintf(path, size, "%.*s/%s", (int)n, folder, rest) >= (int)size) return 0;
    bool whole = snprintf(file, sizeof file, "%s/params.json", path) < (int)sizeof file && access(file, F_OK) == 0;
    int n_gguf = count_gguf(gguf, sizeof gguf, path);
    if (whole + n_gguf > 1) return 2;
    if (n_gguf) snprintf(path, size, "%s", gguf);
    return whole + n_gguf;
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

static int try_home(char *path, size_t size)
{
    const char *home = getenv("XDG_DATA_HOME");
    if (home && home[0] == '/') return try_folder(path, size, home, strlen(home), "surtitle/model");
    home = getenv("HOME");
    return home ? try_folder(path, size, home, strlen(home), ".local/share/surtitle/model") : 0;
}

int paths_find_model(char *path, size_t size, bool *demo)
{
    *demo = false;
    path[0] = 0;
    int found = try_home(path, size);
    if (found) return found;
    const char *dirs = getenv("XDG_DATA_DIRS");
    if (!dirs || !*dirs) dirs = "/usr/local/share:/usr/share";
    while (*dirs) {
        size_t n = strcspn(dirs, ":");
        if ((found = try_folder(path, size, dirs, n, "surtitle/model"))) return found;
        dirs += n + (dirs[n] == ':');
    }
    *demo = true;
    if (runs_from_build_folder())
        return try_folder(path, size, SUR_SOURCE_ROOT, strlen(SUR_SOURCE_ROOT), "models/demo");
    return try_folder(path, size, SUR_DATADIR, strlen(SUR_DATADIR), "surtitle/demo");
}

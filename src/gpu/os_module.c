#include "gpu/load.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char installed[] = SUR_LIBDIR "/surtitle/surtitle-cuda.so", built[] = "src/gpu/surtitle-cuda.so";

__attribute__((format(printf, 3, 4))) static bool refuse(char *why, size_t why_bytes, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(why, why_bytes, format, list);
    va_end(list);
    return false;
}

/* ---- the module's place ---- */

static bool has(const char *folder, const char *file)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path && access(path, F_OK) == 0;
}

/* The file that contains this code: the shared library, or a program that it is linked into. The loader's name of a
 * library is used only if it is absolute: the working directory may have changed since. */
static bool own_file(char path[PATH_MAX])
{
    Dl_info info;
    struct link_map *map = NULL;
    if (!dladdr1((void *)sur_module_path, &info, (void **)&map, RTLD_DL_LINKMAP) || !map) return false;
    if (map->l_name[0]) return map->l_name[0] == '/' && realpath(map->l_name, path);
    return realpath("/proc/self/exe", path);
}

static bool cut_last(char *path, const char **last)
{
    char *slash = strrchr(path, '/');
    if (!slash || slash == path) return false;
    *slash = 0;
    *last = slash + 1;
    return true;
}

/* A build folder counts only if the library lies in it: FOLDER/src/libsurtitle.so*, or linked into one of the build's
 * own programs, FOLDER/src/bench/NAME and FOLDER/tests/NAME/NAME. No folder above is searched. */
static bool build_folder(char folder[PATH_MAX])
{
    const char *name, *dir, *above;
    if (!own_file(folder) || !cut_last(folder, &name) || !cut_last(folder, &dir)) return false;
    if (strncmp(name, "libsurtitle.so", 14) != 0) {
        if (!cut_last(folder, &above)) return false;
        if (strcmp(above, "tests") != 0 && (strcmp(above, "src") != 0 || strcmp(dir, "bench") != 0)) return false;
    } else if (strcmp(dir, "src") != 0)
        return false;
    return has(folder, "meson-private") && has(folder, "src/libsurtitle.so");
}

void sur_module_path(char *path, size_t path_bytes)
{
    char folder[PATH_MAX];
    if (!build_folder(folder) || snprintf(path, path_bytes, "%s/%s", folder, built) >= (int)path_bytes)
        snprintf(path, path_bytes, "%s", installed);
}

/* ---- owners ---- */

/* Code is loaded only if all who may write it could also change this library: its owner, root, and the user of
 * the process. A group may have write access if it has it to the library's folder. */
static bool is_trusted(const struct stat *st, const struct stat *own, const struct stat *own_folder)
{
    const bool by_owner = st->st_uid == 0 || st->st_uid == geteuid() || st->st_uid == own->st_uid;
    const bool by_group =
        !(st->st_mode & S_IWGRP) || ((own_folder->st_mode & S_IWGRP) && own_folder->st_gid == st->st_gid);
    return by_owner && by_group && !(st->st_mode & S_IWOTH);
}

static bool check_owners(int fd, const char *path, char *why, size_t why_bytes)
{
    char own[PATH_MAX], folders[2][PATH_MAX]; /* of the name and, if the name is a link, of the file */
    struct stat file, above, own_file_is, own_folder;
    const char *name;
    if (snprintf(folders[0], sizeof folders[0], "%s", path) >= (int)sizeof folders[0] || !cut_last(folders[0], &name) ||
        !realpath(path, folders[1]) || !cut_last(folders[1], &name) || !own_file(own) || stat(own, &own_file_is) ||
        !cut_last(own, &name) || stat(own, &own_folder) || fstat(fd, &file))
        return refuse(why, why_bytes, "%s: cannot find out whose it is", path);
    if (!is_trusted(&file, &own_file_is, &own_folder))
        return refuse(why, why_bytes, "%s is not loaded: others than root, the library's owner and you may write it",
                      path);
    for (int i = 0; i < 2; i++)
        if (stat(folders[i], &above) || !is_trusted(&above, &own_file_is, &own_folder))
            return refuse(why, why_bytes,
                          "%s is not loaded: others than root, the library's owner and you may write %s", path,
                          folders[i]);
    return true;
}

/* ---- completeness ---- */

static bool read_at(int fd, void *to, size_t n_bytes, uint64_t at)
{
    return pread(fd, to, n_bytes, (off_t)at) == (ssize_t)n_bytes;
}

static bool is_inside(uint64_t at, uint64_t n_bytes, uint64_t file_bytes)
{
    return at <= file_bytes && n_bytes <= file_bytes - at;
}

/* dlopen does not check the file's length, and dies by SIGBUS in a truncated file. */
static const char *check_elf(int fd, uint64_t file_bytes)
{
    ElfW(Ehdr) h;
    enum { MOST_HEADERS = 256 };
    if (!read_at(fd, &h, sizeof h, 0) || memcmp(h.e_ident, ELFMAG, SELFMAG) != 0) return "it is no library";
    if (h.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || h.e_type != ET_DYN ||
        h.e_phentsize != sizeof(ElfW(Phdr)) || h.e_phnum == 0 || h.e_phnum > MOST_HEADERS)
        return "it is no library for this machine";
    if (!is_inside(h.e_shoff, (uint64_t)h.e_shnum * h.e_shentsize, file_bytes)) return "it is cut";
    bool has_dynamic = false;
    for (int i = 0; i < h.e_phnum; i++) {
        ElfW(Phdr) p;
        if (!read_at(fd, &p, sizeof p, h.e_phoff + (uint64_t)i * sizeof p) ||
            !is_inside(p.p_offset, p.p_filesz, file_bytes))
            return "it is cut";
        has_dynamic |= p.p_type == PT_DYNAMIC && p.p_filesz >= sizeof(ElfW(Dyn));
    }
    for (int i = 0; i < h.e_shnum; i++) {
        ElfW(Shdr) s;
        if (h.e_shentsize != sizeof s || !read_at(fd, &s, sizeof s, h.e_shoff + (uint64_t)i * sizeof s))
            return "it is damaged";
        if (s.sh_type != SHT_NOBITS && !is_inside(s.sh_offset, s.sh_size, file_bytes)) return "it is cut";
    }
    return has_dynamic ? NULL : "it is damaged";
}

static bool check_module(const char *path, char *why, size_t why_bytes)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return refuse(why, why_bytes, "there is no module %s", path);
    if (fd < 0) return refuse(why, why_bytes, "%s: %s", path, strerror(errno));
    bool good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (!good) refuse(why, why_bytes, "%s: not a regular file", path);
    good = good && check_owners(fd, path, why, why_bytes);
    const char *damage = good ? check_elf(fd, (uint64_t)st.st_size) : NULL;
    if (damage) refuse(why, why_bytes, "%s cannot be loaded: %s", path, damage);
    close(fd);
    return good && !damage;
}

void *sur_module_symbol(const char *path, const char *symbol, char *why, size_t why_bytes)
{
    if (!check_module(path, why, why_bytes)) return NULL;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL), *address = module ? dlsym(module, symbol) : NULL;
    if (address) return address;
    const char *error = dlerror();
    if (!module && error && strncmp(error, "libcuda.so.1:", 13) == 0)
        snprintf(why, why_bytes, "no NVIDIA driver: %s", error);
    else
        snprintf(why, why_bytes, "%s", error ? error : path); /* includes the file name */
    if (module) dlclose(module);
    return NULL;
}

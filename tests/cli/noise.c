/* Preloaded into a program: a libsndfile that writes to descriptors that it should not use. NOISE is one of:
 *   "lines"   each read writes a line to descriptor 1, to descriptor 2 and to stdout, which buffers it
 *   "flood"   each read writes 256 KiB of lines to descriptor 2
 *   "abort"   the first read ends the program with a line on stderr, as a failed assertion does
 *   "exit"    the first read ends the program by exit(3), with a line on stderr
 *   "crash"   the first read writes a line to stderr and raises SIGSEGV */
#include <dlfcn.h>
#include <signal.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_line(int fd, const char *line)
{
    if (write(fd, line, strlen(line)) < 0) return;
}

static void make_noise(const char *kind)
{
    if (strcmp(kind, "lines") == 0) {
        write_line(STDOUT_FILENO, "noise on 1\n");
        write_line(STDERR_FILENO, "noise on 2\n");
        printf("noise on stdout\n");
    } else if (strcmp(kind, "flood") == 0) {
        for (int i = 0; i < 4096; i++)
            write_line(STDERR_FILENO, "a line of noise, and 63 bytes of it, so that 4096 are 256 KiB\n");
    } else {
        fprintf(stderr, "the last words of a library\n");
        if (strcmp(kind, "crash") == 0) raise(SIGSEGV);
        if (strcmp(kind, "exit") == 0) exit(7);
        abort();
    }
}

#pragma GCC visibility push(default) /* the project hides what it does not export */

sf_count_t sf_readf_float(SNDFILE *file, float *frames, sf_count_t n)
{
    static sf_count_t (*real)(SNDFILE *, float *, sf_count_t);
    const char *kind = getenv("NOISE");
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sf_readf_float");
    if (kind) make_noise(kind);
    return real(file, frames, n);
}

/* Runs a fuzz target without the fuzzer on every file of the folders named, so that every build tries the inputs that
 * once broke something. Fails if a folder contains no file. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    struct stat st;
    uint8_t *data = NULL;
    int r = -1;
    FILE *f = fopen(path, "rb");
    if (!f) goto out;
    if (fstat(fileno(f), &st)) goto out;
    if (!S_ISREG(st.st_mode)) {
        r = 0;
        goto out;
    }
    /* exactly as large as the file, so that the sanitizer sees a read past its end */
    data = malloc(st.st_size ? (size_t)st.st_size : 1);
    if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) goto out;
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    r = 1;
out:
    if (r < 0) perror(path);
    free(data);
    if (f) fclose(f);
    return r;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char path[PATH_MAX];
        int n_files = 0;
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            int r = replay_file(path);
            if (r < 0) return 1;
            n_files += r;
        }
        closedir(dir);
        printf("%s: %d files\n", argv[i], n_files);
        if (!n_files) return 1;
    }
    return 0;
}

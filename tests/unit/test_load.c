/* The loader of the CUDA module against modules that are missing, foreign, of another version, or fine. Argument: the
 * folder that they are built in. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gpu/load.h"

static const char *folder;
static char why[480], line[512];

static int load(const struct sur_backend **backend, const char *name)
{
    char path[PATH_MAX];
    assert_true(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    why[0] = 0;
    int r = sur_gpu_load(backend, path, why, sizeof why);
    if (r) { /* a refusal is one line that names the file, and nothing comes with it */
        assert_int_equal(r, SUR_ERR_BACKEND);
        assert_null(*backend);
        assert_null(strchr(why, '\n'));
    }
    return r;
}

static void test_missing(void **state)
{
    (void)state;
    const struct sur_backend *b;
    assert_true(load(&b, "absent.so"));
    assert_non_null(strstr(why, "there is no module"));
    assert_non_null(strstr(why, "/absent.so"));
}

static void test_foreign(void **state)
{
    (void)state;
    const struct sur_backend *b;
    assert_true(load(&b, "fake_foreign.so"));
    assert_non_null(strstr(why, "sur_backend_cuda"));
    assert_true(load(&b, ".")); /* a folder */
    assert_true(why[0]);
}

static void test_other_version(void **state)
{
    (void)state;
    const struct sur_backend *b;
    assert_true(load(&b, "fake_other.so"));
    assert_non_null(strstr(why, "fake_other.so is of another version"));
}

static void test_no_driver(void **state)
{
    (void)state;
    const struct sur_backend *b;
    if (!load(&b, "fake_driver.so")) skip(); /* there is a driver */
    assert_non_null(strstr(why, "no NVIDIA driver: libcuda.so.1"));
}

static void keep_line(void *user, enum sur_log_level level, const char *text)
{
    (void)user;
    assert_int_equal(level, SUR_LOG_INFO);
    snprintf(line, sizeof line, "%s", text);
}

/* What the module is given works, and takes lines as they are. */
static void test_good(void **state)
{
    (void)state;
    const struct sur_backend *b, *again;
    assert_int_equal(load(&b, "fake_good.so"), SUR_OK);
    assert_string_equal(b->name, "fake");
    sur_set_log(SUR_LOG_INFO, keep_line, NULL);
    assert_int_equal(b->probe(why, sizeof why), SUR_ERR_BACKEND);
    sur_set_log(SUR_LOG_ERROR, NULL, NULL);
    assert_string_equal(line, "the fake's %s line");
    assert_string_equal(sur_error_text(), "the fake's %s refusal");
    assert_string_equal(why, "clock 1");
    assert_int_equal(load(&again, "fake_good.so"), SUR_OK);
    assert_ptr_equal(again, b);
}

/* A copy of the good module, alone in a folder of its own, of which n_bytes are written (-1: all). */
static char place[64], copied[96];

static void copy_good(long n_bytes)
{
    char from[PATH_MAX];
    static char bytes[1 << 20];
    snprintf(from, sizeof from, "%s/fake_good.so", folder);
    FILE *in = fopen(from, "rb");
    assert_non_null(in);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    if (n_bytes >= 0 && (size_t)n_bytes < n) n = (size_t)n_bytes;
    unlink(copied);
    FILE *out = fopen(copied, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(copied, 0644), 0);
}

static int load_copy(const char *wanted)
{
    const struct sur_backend *b;
    why[0] = 0;
    int r = sur_gpu_load(&b, copied, why, sizeof why);
    if (wanted && !strstr(why, wanted)) fail_msg("'%s' is not in '%s'", wanted, why);
    if (wanted) assert_non_null(strstr(why, copied));
    return r;
}

static int make_place(void **state)
{
    snprintf(place, sizeof place, "/tmp/sur-load-XXXXXX");
    if (!mkdtemp(place)) return -1;
    snprintf(copied, sizeof copied, "%s/module.so", place);
    return 0;
}

static int remove_place(void **state)
{
    unlink(copied);
    return rmdir(place);
}

/* A user who may write the module or its folder could run code in our process. */
static void test_owners(void **state)
{
    (void)state;
    copy_good(-1);
    assert_int_equal(load_copy(NULL), SUR_OK);
    assert_int_equal(chmod(copied, 0646), 0);
    assert_int_equal(load_copy("others than"), SUR_ERR_BACKEND);
    assert_int_equal(chmod(copied, 0644), 0);
    assert_int_equal(chmod(place, 01777), 0); /* as /tmp is */
    assert_int_equal(load_copy("others than"), SUR_ERR_BACKEND);
    assert_int_equal(chmod(place, 0700), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(copied, 4242, 0), 0);
        assert_int_equal(load_copy("others than"), SUR_ERR_BACKEND);
        assert_int_equal(chown(copied, 0, 4242), 0);
        assert_int_equal(chmod(copied, 0664), 0); /* a group that may not write the library */
        assert_int_equal(load_copy("others than"), SUR_ERR_BACKEND);
    }
    unlink(copied);
    assert_int_equal(mkfifo(copied, 0600), 0);
    assert_int_equal(load_copy("not a regular file"), SUR_ERR_BACKEND);
}

/* dlopen of a file that was cut ends the process by SIGBUS; here it is a reason. */
static void test_cut(void **state)
{
    (void)state;
    struct stat st;
    copy_good(-1);
    assert_int_equal(stat(copied, &st), 0);
    static const long starts[] = {0, 1, 4, 63, 64, 65, 120, 500};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        copy_good(starts[i]);
        assert_int_equal(load_copy("cannot be loaded"), SUR_ERR_BACKEND);
    }
    for (long n = 4096; n < st.st_size; n += 1024) {
        copy_good(n);
        assert_int_equal(load_copy("cannot be loaded"), SUR_ERR_BACKEND);
    }
    copy_good((long)st.st_size - 1);
    assert_int_equal(load_copy("cannot be loaded"), SUR_ERR_BACKEND);
}

/* Headers that lie, field by field and byte by byte: a reason or a module, and no crash. */
static void test_headers(void **state)
{
    (void)state;
    static const unsigned char values[] = {0, 1, 0x7f, 0xff};
    for (long at = 0; at < 64; at++)
        for (size_t v = 0; v < sizeof values; v++) {
            /* the kernel and the loader check these themselves; the entry point is not a library's */
            copy_good(-1);
            FILE *f = fopen(copied, "r+b");
            assert_non_null(f);
            fseek(f, at, SEEK_SET);
            fputc(values[v], f);
            fclose(f);
            load_copy(NULL);
        }
}

/* This test lies in the build folder: so does the module that it would take. */
static void test_place(void **state)
{
    (void)state;
    char path[PATH_MAX], here[PATH_MAX];
    static const char tail[] = "/src/gpu/surtitle-cuda.so";
    ssize_t n = readlink("/proc/self/exe", here, sizeof here - 1);
    assert_true(n > 0);
    here[n] = 0;
    sur_module_path(path, sizeof path);
    size_t root = strlen(path) - strlen(tail);
    assert_true(strlen(path) > strlen(tail));
    assert_string_equal(path + root, tail);
    assert_int_equal(strncmp(path, here, root), 0);
    assert_string_equal(here + root, "/tests/unit/test_load");
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: test_load FOLDER\n"), 2;
    folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing),   cmocka_unit_test(test_foreign), cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_no_driver), cmocka_unit_test(test_good),    cmocka_unit_test(test_owners),
        cmocka_unit_test(test_cut),       cmocka_unit_test(test_headers), cmocka_unit_test(test_place)};
    return cmocka_run_group_tests(tests, make_place, remove_place);
}

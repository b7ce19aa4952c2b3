/* The loader of the CUDA module against modules that are missing, foreign, of another version, or fine. Argument: the
 * folder that they are built in. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_missing),       cmocka_unit_test(test_foreign),
                                       cmocka_unit_test(test_other_version), cmocka_unit_test(test_no_driver),
                                       cmocka_unit_test(test_good),          cmocka_unit_test(test_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The safetensors header: what is found, and every lie that a file can tell. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/safetensors.h"
#include "surtitle.h"

#define FILE_NAME "consolidated.safetensors: "

static _Alignas(16) char data[64]; /* a data part for headers parsed from memory */

static int parse(struct sur_safetensors **f, const char *json)
{
    return sur_safetensors_parse(f, json, strlen(json), data, sizeof data);
}

static void refused(const char *json, const char *message)
{
    struct sur_safetensors *f = NULL;
    assert_int_equal(parse(&f, json), SUR_ERR_MODEL);
    assert_null(f);
    if (strncmp(sur_error_text(), message, strlen(message)) != 0) fail_msg("%s\nnot %s", sur_error_text(), message);
}

static void test_good(void **state)
{
    struct sur_safetensors *f = NULL;
    assert_int_equal(parse(&f, "{\"__metadata__\": {\"format\": \"pt\"},"
                               " \"b\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [32, 56]},"
                               " \"a\": {\"dtype\": \"BF16\", \"shape\": [2, 2, 4], \"data_offsets\": [0, 32]},"
                               " \"half\": {\"dtype\": \"F16\", \"shape\": [], \"data_offsets\": [56, 58]},"
                               " \"none\": {\"dtype\": \"I64\", \"shape\": [0, 7], \"data_offsets\": [58, 58]}}  "),
                     SUR_OK);
    assert_int_equal(sur_safetensors_count(f), 4);
    const struct sur_tensor *t = sur_safetensors_find(f, "a");
    assert_non_null(t);
    assert_string_equal(t->name, "a");
    assert_int_equal(t->type, SUR_WEIGHT_BF16);
    assert_int_equal(t->n_dims, 3);
    assert_true(t->shape[0] == 2 && t->shape[1] == 2 && t->shape[2] == 4);
    assert_ptr_equal(t->data, data);
    assert_int_equal(t->n_bytes, 32);
    t = sur_safetensors_find(f, "b");
    assert_non_null(t);
    assert_int_equal(t->type, SUR_WEIGHT_F32);
    assert_ptr_equal(t->data, data + 32);
    t = sur_safetensors_find(f, "half");
    assert_true(t && t->type == SUR_WEIGHT_F16 && t->n_dims == 0 && t->n_bytes == 2);
    t = sur_safetensors_find(f, "none");
    assert_true(t && t->type == SUR_N_WEIGHT_TYPES && t->n_bytes == 0);
    assert_null(sur_safetensors_find(f, "c"));
    assert_null(sur_safetensors_find(f, ""));
    assert_null(sur_safetensors_find(f, "__metadata__"));
    sur_safetensors_close(&f);
    assert_null(f);
    sur_safetensors_close(&f);
    assert_int_equal(parse(&f, "{}"), SUR_OK);
    assert_null(sur_safetensors_find(f, "a"));
    sur_safetensors_close(&f);
}

#define T(dtype, shape, offsets) "{\"t\": {\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": " offsets "}}"

static void test_tensor_fields(void **state)
{
    refused("{\"t\": 3}", FILE_NAME "t: must be an object");
    refused("{\"t\": {}}", FILE_NAME "t: dtype is missing");
    refused(T("7", "[1]", "[0, 2]"), FILE_NAME "t: dtype is missing");
    refused(T("\"Q4\"", "[1]", "[0, 2]"), FILE_NAME "t: its dtype is not known");
    refused(T("\"BF16\"", "2", "[0, 2]"), FILE_NAME "t: shape is missing");
    refused(T("\"BF16\"", "[-1]", "[0, 2]"), FILE_NAME "t: shape must hold whole numbers from 0");
    refused(T("\"BF16\"", "[1.0]", "[0, 2]"), FILE_NAME "t: shape must hold whole numbers from 0");
    refused(T("\"BF16\"", "[1,1,1,1,1,1,1,1,1]", "[0, 2]"), FILE_NAME "t: more than 8 dimensions");
    refused(T("\"BF16\"", "[1]", "[0]"), FILE_NAME "t: data_offsets must be two numbers");
    refused(T("\"BF16\"", "[1]", "[0, 2, 4]"), FILE_NAME "t: data_offsets must be two numbers");
    refused(T("\"BF16\"", "[1]", "[-2, 0]"), FILE_NAME "t: data_offsets must be whole numbers from 0");
    refused(T("\"BF16\"", "[1]", "[0.0, 2.0]"), FILE_NAME "t: data_offsets must be whole numbers from 0");
    refused(T("\"BF16\"", "[1]", "[4, 2]"), FILE_NAME "t: data_offsets must ascend");
    refused(T("\"BF16\"", "[1]", "[4, -2]"), FILE_NAME "t: data_offsets must ascend");
    refused(T("\"BF16\"", "[1]", "[1, 3]"), FILE_NAME "t: data_offsets must be even");
    refused(T("\"U8\"", "[3]", "[0, 3]"), FILE_NAME "t: data_offsets must be even");
    refused(T("\"BF16\"", "[1]", "[64, 66]"),
            FILE_NAME "t: its data ends at byte 66, but the file holds 64 bytes of data");
    refused(T("\"BF16\"", "[1]", "[0, 9223372036854775806]"), FILE_NAME "t: its data ends at byte 9223372036854775806");
    refused(T("\"BF16\"", "[2]", "[0, 2]"), FILE_NAME "t: data_offsets and shape disagree");
    refused(T("\"F32\"", "[2]", "[0, 4]"), FILE_NAME "t: data_offsets and shape disagree");
    /* 2^63 elements of 2 bytes: 0 in 64 bits, which is what the offsets say. */
    refused(T("\"BF16\"", "[4294967296, 2147483648]", "[0, 0]"),
            FILE_NAME "t: the product of its shape passes 64 bits");
    refused(T("\"BF16\"", "[9223372036854775807]", "[0, 2]"), FILE_NAME "t: data_offsets and shape disagree");
    refused(T("\"BF16\"", "[9223372036854775808]", "[0, 2]"),
            FILE_NAME "header: broken JSON at line 1: too big integer");
    refused("{\"\\u009b31m\": 1}", FILE_NAME "\xef\xbf\xbd"
                                             "31m: must be an object"); /* a name is made printable */
}

static void test_overlaps(void **state)
{
    const char *message = FILE_NAME "b: its data overlaps another tensor's";
    refused("{\"a\": {\"dtype\": \"BF16\", \"shape\": [4], \"data_offsets\": [0, 8]},"
            " \"b\": {\"dtype\": \"BF16\", \"shape\": [4], \"data_offsets\": [6, 14]}}",
            message);
    refused("{\"b\": {\"dtype\": \"BF16\", \"shape\": [2], \"data_offsets\": [4, 8]},"
            " \"a\": {\"dtype\": \"BF16\", \"shape\": [8], \"data_offsets\": [0, 16]}}",
            message);
    refused("{\"b\": {\"dtype\": \"BF16\", \"shape\": [5], \"data_offsets\": [8, 18]},"
            " \"a\": {\"dtype\": \"BF16\", \"shape\": [4], \"data_offsets\": [8, 16]}}",
            message);
    refused("{\"a\": {\"dtype\": \"BF16\", \"shape\": [1], \"data_offsets\": [0, 2]},"
            " \"a\": {\"dtype\": \"BF16\", \"shape\": [1], \"data_offsets\": [2, 4]}}",
            FILE_NAME "header: broken JSON at line 1: duplicate object key");
}

static void test_header_text(void **state)
{
    struct sur_safetensors *f = NULL;
    refused("", FILE_NAME "header: broken JSON");
    refused("[]", FILE_NAME "header: not a JSON object");
    refused("{\"t\": {\"dtype\": \"BF16\"", FILE_NAME "header: broken JSON");
    assert_int_equal(sur_safetensors_parse(&f, "{}", 2, data + 1, 4), SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), FILE_NAME "the length of the header is odd");
    assert_int_equal(sur_safetensors_parse(&f, "{}", 2, data, UINT64_MAX), SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), FILE_NAME "too large for this machine");

    enum { MANY = 5 << 18 };
    char *text = malloc(2 * MANY + 8);
    memcpy(text, "{\"t\":", 5);
    for (int i = 0; i < MANY; i++) memcpy(text + 5 + 2 * i, i ? ",1" : "[1", 2);
    memcpy(text + 5 + 2 * MANY, "]}", 3);
    refused(text, FILE_NAME "header: reading it takes more than 131072 KiB of memory");
    memset(text + 5, '[', 5000);
    text[5005] = 0;
    refused(text, FILE_NAME "header: broken JSON at line 1: maximum parsing depth reached");
    free(text);
}

static char folder[] = "/tmp/surtitle-safetensors-XXXXXX";
static char path[64];

/* Writes a file: the length, n_header bytes of text padded with blanks, then up to total bytes (a hole). */
static void write_file(uint64_t length, const char *text, size_t n_header, off_t total)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    for (int i = 0; i < 8; i++) fputc((int)(length >> 8 * i & 255), out);
    size_t n = strlen(text);
    fwrite(text, 1, n, out);
    for (; n < n_header; n++) fputc(' ', out);
    fclose(out);
    if (total >= 0) assert_int_equal(truncate(path, total), 0);
}

static void file_refused(const char *message)
{
    struct sur_safetensors *f = NULL;
    assert_int_equal(sur_safetensors_open(&f, path), SUR_ERR_MODEL);
    assert_null(f);
    assert_string_equal(sur_error_text(), message);
}

static int make_folder(void **state)
{
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/consolidated.safetensors", folder);
    return 0;
}

static int remove_folder(void **state)
{
    unlink(path);
    return rmdir(folder);
}

static void test_file(void **state)
{
    static const char header[] = "{\"t\": {\"dtype\": \"BF16\", \"shape\": [2], \"data_offsets\": [0, 4]}}";
    struct sur_safetensors *f = NULL;
    file_refused(FILE_NAME "No such file or directory");
    assert_int_equal(mkdir(path, 0700), 0);
    file_refused(FILE_NAME "not a regular file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    file_refused(FILE_NAME "not a regular file"); /* and does not wait for a writer */
    unlink(path);
    write_file(0, "", 0, 0);
    file_refused(FILE_NAME "the file is empty");
    write_file(0, "", 0, 7);
    file_refused(FILE_NAME "too short to hold a header");
    write_file(72, header, 72, 8 + 40);
    file_refused(FILE_NAME "the header of 72 bytes is cut: the file has 48");
    write_file((16 << 20) + 1, header, 72, 32 << 20);
    file_refused(FILE_NAME "the header passes 16 MiB");
    write_file(UINT64_MAX, header, 72, -1);
    file_refused(FILE_NAME "the header passes 16 MiB");
    write_file(72, header, 72, 8 + 72 + 3);
    file_refused(FILE_NAME "t: its data ends at byte 4, but the file holds 3 bytes of data");
    write_file(73, header, 73, 8 + 73 + 4);
    file_refused(FILE_NAME "the length of the header is odd");
    write_file(72, header, 72, 8 + 72 + 4);
    assert_int_equal(sur_safetensors_open(&f, path), SUR_OK);
    const struct sur_tensor *t = sur_safetensors_find(f, "t");
    assert_true(t && t->n_bytes == 4 && memcmp(t->data, "\0\0\0\0", 4) == 0);
    sur_safetensors_close(&f);
}

/* What a SIGBUS handler is told of addresses: of the map while the file is whole, behind the file's end, elsewhere, and
 * of a map that is closed. */
static void test_fault(void **state)
{
    struct sur_safetensors *f = NULL;
    write_file(80, "{\"t\": {\"dtype\": \"BF16\", \"shape\": [32768], \"data_offsets\": [0, 65536]}}", 80,
               8 + 80 + 65536);
    assert_int_equal(sur_safetensors_open(&f, path), SUR_OK);
    const char *at = sur_safetensors_find(f, "t")->data;
    assert_non_null(strstr(sur_model_fault(at + 60000), path));
    assert_non_null(strstr(sur_model_fault(at + 60000), "cannot be read"));
    assert_int_equal(truncate(path, 8 + 80 + 20000), 0);
    assert_non_null(strstr(sur_model_fault(at + 60000), path));
    assert_non_null(strstr(sur_model_fault(at + 60000), "was cut"));
    assert_non_null(strstr(sur_model_fault(at + 10000), "cannot be read"));
    assert_null(sur_model_fault(at + 65536));
    assert_null(sur_model_fault(path));
    assert_null(sur_model_fault(NULL));
    sur_safetensors_close(&f);
    assert_null(sur_model_fault(at + 60000));
    unlink(path);
}

static void test_other_files(void **state)
{
    static const struct {
        const char *text, *what;
    } cases[] = {{"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 8859462744\n", "git-lfs pointer"},
                 {"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"},
                 {"\n  <HTML><head>", "web page"},
                 {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "web page"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sur_safetensors *f = NULL;
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        fputs(cases[i].text, out);
        fclose(out);
        assert_int_equal(sur_safetensors_open(&f, path), SUR_ERR_MODEL);
        assert_non_null(strstr(sur_error_text(), cases[i].what));
        assert_non_null(strstr(sur_error_text(), FILE_NAME));
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault),         cmocka_unit_test(test_other_files), cmocka_unit_test(test_good),
        cmocka_unit_test(test_tensor_fields), cmocka_unit_test(test_overlaps),    cmocka_unit_test(test_header_text),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

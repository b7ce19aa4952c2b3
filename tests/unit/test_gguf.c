/* The reader of GGUF files: what is found, and what a file can be wrong about. Files are put together here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/gguf.h"
#include "surtitle.h"

static _Alignas(32) unsigned char file[1 << 16];
static size_t n_file;

static void put(uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) file[n_file++] = (unsigned char)(v >> 8 * i);
}

static void put_text(const char *text)
{
    put(strlen(text), 8);
    memcpy(file + n_file, text, strlen(text));
    n_file += strlen(text);
}

static void begin(uint64_t n_tensors, uint64_t n_keys)
{
    memset(file, 0, sizeof file);
    n_file = 0;
    put(0x46554747, 4);
    put(3, 4);
    put(n_tensors, 8);
    put(n_keys, 8);
}

static void key(const char *name, int type)
{
    put_text(name);
    put((uint64_t)type, 4);
}

static void key_u32(const char *name, uint32_t v)
{
    key(name, SUR_GGUF_U32);
    put(v, 4);
}

static void tensor(const char *name, int n_dims, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    put_text(name);
    put((uint64_t)n_dims, 4);
    if (n_dims > 0) put(d0, 8);
    if (n_dims > 1) put(d1, 8);
    for (int i = 2; i < n_dims; i++) put(1, 8);
    put(type, 4);
    put(offset, 8);
}

/* Fills up to the data and adds so many bytes of it. */
static void data(size_t n_bytes)
{
    n_file = (n_file + 31) / 32 * 32 + n_bytes;
}

static struct sur_gguf *accepted(void)
{
    struct sur_gguf *f = NULL;
    if (sur_gguf_parse(&f, "x.gguf", file, n_file) != SUR_OK) fail_msg("%s", sur_error_text());
    return f;
}

static void refused(const char *message)
{
    struct sur_gguf *f = NULL;
    char want[400];
    snprintf(want, sizeof want, "x.gguf: %s", message);
    assert_int_equal(sur_gguf_parse(&f, "x.gguf", file, n_file), SUR_ERR_MODEL);
    assert_null(f);
    assert_string_equal(sur_error_text(), want);
}

static void expect_error(int rc, const char *message)
{
    assert_int_equal(rc, SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), message);
}

static void put_values(void)
{
    uint32_t eps, third;
    const float floats[] = {1e-5f, 1.0f / 3};
    memcpy(&eps, &floats[0], sizeof eps);
    memcpy(&third, &floats[1], sizeof third);
    begin(0, 10);
    key_u32("u32", 4000000000u);
    key("i8", SUR_GGUF_I8), put(0xfe, 1);
    key("u64", SUR_GGUF_U64), put(UINT64_MAX, 8);
    key("eps", SUR_GGUF_F32), put(eps, 4);
    key("third", SUR_GGUF_F32), put(third, 4);
    key("nan", SUR_GGUF_F32), put(0x7fc00000, 4);
    key("yes", SUR_GGUF_BOOL), put(1, 1);
    key("text", SUR_GGUF_STRING), put_text("mel");
    key("words", SUR_GGUF_ARRAY), put(SUR_GGUF_STRING, 4), put(2, 8), put_text("a"), put_text("");
    key("numbers", SUR_GGUF_ARRAY), put(SUR_GGUF_I16, 4), put(2, 8), put(0xffff, 2), put(7, 2);
}

static void test_values(void **state)
{
    int v;
    double d;
    int64_t element;
    put_values();
    struct sur_gguf *f = accepted();
    assert_int_equal(sur_gguf_n_keys(f), 10);
    assert_memory_equal(sur_gguf_key_at(f, 1)->name, "i8", 2);
    assert_int_equal(sur_gguf_int(f, "i8", -128, 127, &v), SUR_OK);
    assert_int_equal(v, -2);
    assert_int_equal(sur_gguf_double(f, "eps", 0, 1, &d), SUR_OK);
    assert_true(d == 1e-5); /* not (double)1e-5f */
    assert_int_equal(sur_gguf_double(f, "third", 0, 1, &d), SUR_OK);
    assert_true((float)d == 1.0f / 3);
    assert_int_equal(sur_gguf_double(f, "u32", 0, 1e10, &d), SUR_OK);
    assert_true(d == 4e9);
    assert_int_equal(sur_gguf_may_be_string(f, "text", "mel"), SUR_OK);
    assert_int_equal(sur_gguf_may_be_string(f, "absent", "mel"), SUR_OK);
    assert_int_equal(sur_gguf_may_be_bool(f, "yes", true), SUR_OK);
    assert_int_equal(sur_gguf_may_be_number(f, "i8", -2), SUR_OK);
    const struct sur_gguf_key *words = sur_gguf_key(f, "words"), *numbers = sur_gguf_key(f, "numbers");
    assert_true(words->array && words->type == SUR_GGUF_STRING && words->n == 2 && words->end - words->data == 17);
    assert_true(sur_gguf_element(numbers, 0, &element) && element == -1);
    assert_true(sur_gguf_element(numbers, 1, &element) && element == 7);
    assert_false(sur_gguf_element(words, 0, &element));
    assert_null(sur_gguf_key(f, "word"));
    expect_error(sur_gguf_int(f, "absent", 0, 9, &v), "x.gguf: absent: is missing");
    expect_error(sur_gguf_int(f, "u32", 0, 9, &v), "x.gguf: u32: must be a whole number from 0 to 9");
    expect_error(sur_gguf_int(f, "u64", 0, 9, &v), "x.gguf: u64: must be a whole number from 0 to 9");
    expect_error(sur_gguf_int(f, "eps", 0, 9, &v), "x.gguf: eps: must be a whole number from 0 to 9");
    expect_error(sur_gguf_int(f, "numbers", 0, 9, &v), "x.gguf: numbers: must be a whole number from 0 to 9");
    expect_error(sur_gguf_double(f, "nan", 0, 9, &d), "x.gguf: nan: must be a number from 0 to 9");
    expect_error(sur_gguf_double(f, "text", 0, 9, &d), "x.gguf: text: must be a number from 0 to 9");
    expect_error(sur_gguf_may_be_string(f, "text", "me"), "x.gguf: text: must be \"me\"");
    expect_error(sur_gguf_may_be_string(f, "u32", "me"), "x.gguf: u32: must be \"me\"");
    expect_error(sur_gguf_may_be_bool(f, "yes", false), "x.gguf: yes: must be false");
    expect_error(sur_gguf_may_be_number(f, "eps", 2), "x.gguf: eps: must be 2");
    sur_gguf_close(&f);
    assert_null(f);
    sur_gguf_close(&f);
}

static void test_tensors(void **state)
{
    begin(3, 0);
    tensor("second", 2, 256, 3, 12, 512); /* any order of offsets */
    tensor("first", 2, 5, 2, 0, 32);
    tensor("other", 1, 64, 0, 2, 0); /* Q4_0: there, but of no type that is read */
    data(512 + 3 * 144);
    struct sur_gguf *f = accepted();
    const unsigned char *begins = file + n_file - 512 - 3 * 144;
    const struct sur_tensor *t = sur_gguf_tensor(f, "second");
    assert_true(t && t->type == SUR_WEIGHT_Q4_K && t->n_dims == 2 && t->shape[0] == 3 && t->shape[1] == 256);
    assert_true(t->n_bytes == 432 && t->data == begins + 512);
    t = sur_gguf_tensor(f, "first");
    assert_true(t && t->type == SUR_WEIGHT_F32 && t->n_bytes == 40 && t->data == begins + 32);
    t = sur_gguf_tensor(f, "other");
    assert_true(t && t->type == SUR_N_WEIGHT_TYPES);
    assert_string_equal(t->type_name, "Q4_0");
    assert_null(sur_gguf_tensor(f, "third"));
    assert_int_equal(sur_gguf_n_tensors(f), 3);
    sur_gguf_close(&f);
    static const uint32_t numbers[SUR_N_WEIGHT_TYPES] = {30, 1, 0, 8, 12, 13, 14};
    for (int i = 0; i < SUR_N_WEIGHT_TYPES; i++) assert_int_equal(sur_gguf_tensor_type(i), numbers[i]);
}

/* Every length that ends a header in its middle. */
static void test_cut(void **state)
{
    put_values();
    size_t whole = n_file;
    for (n_file = 0; n_file < whole; n_file++) {
        char message[80];
        snprintf(message, sizeof message, "the header is cut at byte %zu, or passes 256 MiB", n_file);
        refused(message);
    }
    sur_gguf_close(&(struct sur_gguf *){accepted()});
    begin(1, 0);
    tensor("t", 2, 2, 2, 0, 0);
    whole = n_file;
    for (n_file = 24; n_file < whole; n_file++) {
        char message[80];
        snprintf(message, sizeof message, "the header is cut at byte %zu, or passes 256 MiB", n_file);
        refused(message);
    }
}

static void test_head(void **state)
{
    begin(0, 0);
    file[0] = 'g';
    refused("not a GGUF file");
    begin(0, 0);
    file[4] = 2;
    refused("GGUF version 2; version 3 is read");
    begin(0, 0);
    memcpy(file + 4, "\0\0\0\3", 4);
    refused("GGUF version 50331648 (or its bytes are in the other order); version 3 is read");
    begin(0, 1025);
    refused("1025 keys; at most 1024 are read");
    begin(0, UINT64_MAX);
    refused("18446744073709551615 keys; at most 1024 are read");
    begin(65537, 0);
    refused("65537 tensors; at most 65536 are read");
    begin(UINT64_MAX, 0);
    refused("18446744073709551615 tensors; at most 65536 are read");
}

static void test_keys(void **state)
{
    begin(0, 1), put(0, 8), data(64);
    refused("the name of a key must have 1 to 256 bytes, none of them 0");
    begin(0, 1), put(257, 8), data(512);
    refused("the name of a key must have 1 to 256 bytes, none of them 0");
    begin(0, 1), put(UINT64_MAX, 8), data(64);
    refused("the name of a key must have 1 to 256 bytes, none of them 0");
    begin(0, 1), put(2, 8), put('a', 2), put(0, 8), data(64);
    refused("the name of a key must have 1 to 256 bytes, none of them 0");
    begin(0, 1), key("k", 13), data(64);
    refused("k: its type is not known");
    begin(0, 1), key("k", SUR_GGUF_STRING), put(UINT64_MAX, 8), data(64);
    refused("the header is cut at byte 128, or passes 256 MiB");
    begin(0, 1), key("k", SUR_GGUF_ARRAY), put(SUR_GGUF_ARRAY, 4), put(1, 8), data(64);
    refused("k: an array of arrays");
    begin(0, 1), key("k", SUR_GGUF_ARRAY), put(77, 4), put(1, 8), data(64);
    refused("k: its type is not known");
    begin(0, 1), key("k", SUR_GGUF_ARRAY), put(SUR_GGUF_U64, 4), put(UINT64_MAX / 8 + 2, 8), data(64);
    refused("k: more than 2^22 elements");
    begin(0, 1), key("k", SUR_GGUF_ARRAY), put(SUR_GGUF_STRING, 4), put((1 << 22) + 1, 8), data(64);
    refused("k: more than 2^22 elements");
    begin(0, 1), key("k", SUR_GGUF_ARRAY), put(SUR_GGUF_U64, 4), put(12, 8), data(64);
    refused("the header is cut at byte 128, or passes 256 MiB");
    begin(0, 2), key_u32("same", 1), key_u32("same", 2);
    refused("same: stands twice");
    begin(0, 1), key_u32("general.alignment", 0);
    refused("general.alignment: must be a power of two from 8 to 2^20");
    begin(0, 1), key_u32("general.alignment", 48);
    refused("general.alignment: must be a power of two from 8 to 2^20");
    begin(0, 1), key_u32("general.alignment", 1u << 21);
    refused("general.alignment: must be a power of two from 8 to 2^20");
    begin(0, 1), key("general.alignment", SUR_GGUF_STRING), put_text("32");
    refused("general.alignment: must be a power of two from 8 to 2^20");
    begin(0, 1),
        key("\x9b"
            "31m",
            99),
        data(8);
    refused("\xef\xbf\xbd"
            "31m: its type is not known");
}

static void test_bad_tensors(void **state)
{
    begin(1, 0), tensor("t", 5, 1, 1, 0, 0), data(64);
    refused("t: more than 4 dimensions");
    begin(1, 0), tensor("t", 2, 1, UINT64_MAX, 0, 0), data(64);
    refused("t: a dimension passes 2^63");
    begin(1, 0), tensor("t", 2, 33, 1, 8, 0), data(64);
    refused("t: rows of 33 values cannot be Q8_0, whose blocks have 32");
    begin(1, 0), tensor("t", 1, 128, 0, 12, 0), data(1024);
    refused("t: rows of 128 values cannot be Q4_K, whose blocks have 256");
    begin(1, 0), tensor("t", 2, 4, 5, 0, 0), data(79);
    refused("t: 80 bytes at offset 0, but the file holds 79 bytes of data");
    begin(1, 0), tensor("t", 2, 4, 4, 0, 32), data(64);
    refused("t: 64 bytes at offset 32, but the file holds 64 bytes of data");
    begin(1, 0), tensor("t", 2, 4, 4, 0, UINT64_MAX - 31), data(64);
    refused("t: 64 bytes at offset 18446744073709551584, but the file holds 64 bytes of data");
    begin(1, 0), tensor("t", 2, 4, 4, 0, 8), data(128);
    refused("t: its offset is not aligned");
    /* products that are 0 in 64 bits */
    begin(1, 0), tensor("t", 2, UINT64_C(1) << 32, UINT64_C(1) << 32, 0, 0), data(64);
    refused("t: 18446744073709551615 bytes at offset 0, but the file holds 64 bytes of data");
    begin(1, 0), tensor("t", 2, UINT64_C(1) << 62, 4, 8, 0), data(64);
    refused("t: 18446744073709551615 bytes at offset 0, but the file holds 64 bytes of data");
    begin(2, 0), tensor("a", 1, 32, 0, 0, 0), tensor("b", 1, 8, 0, 0, 96), data(128);
    refused("b: its data overlaps another tensor's");
    begin(2, 0), tensor("a", 1, 32, 0, 0, 0), tensor("b", 1, 8, 0, 0, 0), data(128);
    refused("a: its data overlaps another tensor's");
    begin(2, 0), tensor("a", 1, 8, 0, 0, 0), tensor("a", 1, 8, 0, 0, 32), data(64);
    refused("a: its name stands twice");
    begin(1, 0), tensor("t", 1, 4, 0, 0, 0);
    refused("t: 16 bytes at offset 0, but the file holds 0 bytes of data");
}

/* The data begins and lies as the file's own alignment asks for. */
static void test_alignment(void **state)
{
    begin(1, 1), key_u32("general.alignment", 8), tensor("t", 1, 2, 0, 0, 8);
    n_file = (n_file + 7) / 8 * 8;
    const unsigned char *begins = file + n_file;
    n_file += 16;
    struct sur_gguf *f = accepted();
    assert_ptr_equal(sur_gguf_tensor(f, "t")->data, begins + 8);
    sur_gguf_close(&f);
}

static void write_out(const char *path)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file, 1, n_file, out), n_file);
    assert_int_equal(fclose(out), 0);
}

static void test_open(void **state)
{
    char folder[] = "/tmp/surtitle-gguf-XXXXXX", path[64];
    struct sur_gguf *f = NULL;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    assert_false(sur_gguf_is(path));
    expect_error(sur_gguf_open(&f, path), "a.gguf: No such file or directory");
    put_values();
    write_out(path);
    assert_true(sur_gguf_is(path));
    assert_int_equal(sur_gguf_open(&f, path), SUR_OK);
    assert_string_equal(sur_gguf_name(f), "a.gguf");
    sur_gguf_close(&f);
    n_file = 3;
    write_out(path);
    assert_false(sur_gguf_is(path));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(sur_gguf_is(path)); /* and does not wait for a writer */
    expect_error(sur_gguf_open(&f, path), "a.gguf: not a regular file");
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_tensors),   cmocka_unit_test(test_cut),
        cmocka_unit_test(test_head),   cmocka_unit_test(test_keys),      cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_open),   cmocka_unit_test(test_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

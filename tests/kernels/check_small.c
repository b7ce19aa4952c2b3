/* Starts and ends of passes, random keys and values, the probe. All but the rotation is exact; that may be one unit
 * of fp32 off, where the device's cosine rounds the other way. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checks.h"
#include "harness.h"
#include "image.h"
#include "reference.h"

static void launch(const char *kernel, unsigned grid, unsigned threads, const void *parameter)
{
    kernel_launch(kernel_find(kernel), &(struct sur_gpu_launch){{grid, 1, 1}, threads, 0}, parameter, false);
    device_wait();
}

/* Rotation of n columns from a position, into m [n][half][2]. */
static void want_rotation(struct image *m, const float *inv, int half, int64_t first, int n)
{
    float *cs = host_new((size_t)half * 2, sizeof *cs);
    for (int c = 0; c < n; c++) {
        ref_rotation(cs, first + c, inv, half);
        for (int i = 0; i < 2 * half; i++)
            image_want(m, (size_t)(c * 2 * half + i), (double)cs[i], fabs((double)cs[i]) * 0x1p-23 + 0x1p-52);
    }
}

static float *new_inv(int half)
{
    float *inv = host_new((size_t)half, sizeof *inv);
    for (int j = 0; j < half; j++) inv[j] = powf(1e6f, -(float)j / (float)half);
    return inv;
}

static const char *compare_position(sur_gpu_ptr at, int64_t want, const char *name)
{
    int64_t found;
    memory_get(&found, at, sizeof found);
    return found == want ? NULL : text("%s is %lld, not %lld", name, (long long)found, (long long)want);
}

/* ---- k_embed ---- */

static void check_embed(int dim, int vocab, int n, int half, int64_t first)
{
    const char *name = "k_embed";
    char shape[120];
    snprintf(shape, sizeof shape, "dim %d n %d half %d at %lld", dim, n, half, (long long)first);
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    random_seed((uint64_t)dim + (uint64_t)first);
    int pitch = (dim + SUR_GPU_PITCH - 1) / SUR_GPU_PITCH * SUR_GPU_PITCH;
    float *rows = host_new((size_t)SUR_GPU_ROW_RING * (size_t)dim, sizeof *rows), *inv = new_inv(half);
    size_t embedding_size = ((size_t)vocab + 7) / 8 * 8 * (size_t)pitch;
    uint16_t *embedding = host_new(embedding_size, sizeof *embedding);
    data_fill(rows, (size_t)SUR_GPU_ROW_RING * (size_t)dim, DATA_RANDOM);
    for (int r = 0; r < vocab; r++)
        for (int i = 0; i < dim; i++) embedding[sur_gpu_weight_at(r, i, pitch)] = to_bf16(random_normal());
    struct sur_gpu_request *request = memory_pinned(sizeof *request + (size_t)n * sizeof(int32_t));
    request->first = first;
    for (int c = 0; c < n; c++) request->tokens[c] = c == 0 ? vocab - 1 : (int32_t)(random_bits() % (uint32_t)vocab);
    struct image h, rotation;
    image_init(&h, "h", IMAGE_F32, (size_t)n * (size_t)dim);
    image_init(&rotation, "rotation", IMAGE_F32, (size_t)(n * half * 2));
    struct sur_gpu_embed p = {.request = (sur_gpu_ptr)(uintptr_t)request, .h = h.at, .rotation = rotation.at};
    p.rows = memory_of("rows", rows, (size_t)SUR_GPU_ROW_RING * (size_t)dim * sizeof *rows);
    p.embedding = memory_of("embedding", embedding, embedding_size * sizeof *embedding);
    p.inv = memory_of("inv", inv, (size_t)half * sizeof *inv);
    p.position = memory_new("position", sizeof(int64_t));
    p.dim = dim, p.pitch = pitch, p.n = n, p.half = half;
    for (int c = 0; c < n; c++)
        for (int i = 0; i < dim; i++) {
            size_t row = (size_t)((first + c) % SUR_GPU_ROW_RING) * (size_t)dim + (size_t)i;
            float e = from_bf16(embedding[sur_gpu_weight_at(request->tokens[c], i, pitch)]);
            image_want(&h, (size_t)(c * dim + i), (double)(rows[row] + e), 0);
        }
    want_rotation(&rotation, inv, half, first, n);
    launch(name, (unsigned)n, 256, &p);
    image_read(&h);
    image_read(&rotation);
    double worst = 0;
    const char *reason = image_compare(&h, &worst);
    if (!reason) reason = image_compare(&rotation, &worst);
    if (!reason) reason = compare_position(p.position, first, "position");
    report_last(name, shape, worst, reason);
}

/* ---- k_begin ---- */

static void check_begin(int n, int half, int64_t first)
{
    const char *name = "k_begin";
    char shape[120];
    snprintf(shape, sizeof shape, "n %d half %d at %lld", n, half, (long long)first);
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    float *inv = new_inv(half);
    struct sur_gpu_request request = {.first = first, .first_row = first / 4};
    struct image rotation;
    image_init(&rotation, "rotation", IMAGE_F32, (size_t)(n * half * 2));
    want_rotation(&rotation, inv, half, first, n);
    struct sur_gpu_begin p = {.request = memory_of("request", &request, sizeof request), .rotation = rotation.at};
    p.inv = memory_of("inv", inv, (size_t)half * sizeof *inv);
    p.position = memory_new("position", sizeof(int64_t));
    p.row_position = memory_new("row position", sizeof(int64_t));
    p.n = n, p.half = half;
    launch(name, (unsigned)n, 256, &p);
    image_read(&rotation);
    double worst = 0;
    const char *reason = image_compare(&rotation, &worst);
    if (!reason) reason = compare_position(p.position, first, "position");
    if (!reason) reason = compare_position(p.row_position, first / 4, "row position");
    report_last(name, shape, worst, reason);
}

/* ---- k_carry ---- */

/* The last `carried` of n + carried rows become the first; the others stay. */
static void init_carried(struct image *m, const char *name, int carried, int n, int width)
{
    image_init(m, name, IMAGE_F32, (size_t)(carried + n) * (size_t)width);
    float *rows = (void *)m->initial;
    data_fill(rows, m->n, DATA_RANDOM);
    for (size_t i = 0; i < (size_t)(carried * width); i++)
        image_want(m, i, (double)rows[(size_t)n * (size_t)width + i], 0);
    image_reset(m);
}

static void check_carry(int n_mels, int e, int n_frames)
{
    const char *name = "k_carry";
    char shape[120];
    snprintf(shape, sizeof shape, "mels %d e %d frames %d", n_mels, e, n_frames);
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    struct image mel, conv0;
    init_carried(&mel, "mel", 2, n_frames, n_mels);
    init_carried(&conv0, "conv0", 1, n_frames, e);
    struct sur_gpu_carry p = {mel.at, conv0.at, n_mels, e, n_frames, 0};
    launch(name, 1, 1024, &p);
    image_read(&mel);
    image_read(&conv0);
    double worst = 0;
    const char *reason = image_compare(&mel, &worst);
    if (!reason) reason = image_compare(&conv0, &worst);
    report_last(name, shape, -1, reason);
}

/* ---- k_randomize ---- */

/* A linear congruence from the position: layer after layer, keys then values of each. */
static void check_randomize(int head_dim, int n_kv_heads, int n_blocks, bool fp32, int layer, int64_t from, int n)
{
    const char *name = "k_randomize";
    char shape[120];
    snprintf(shape, sizeof shape, "head %d x %d layer %d n %d at %lld %s", head_dim, n_kv_heads, layer, n,
             (long long)from, fp32 ? "fp32" : "fp16");
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    struct sur_gpu_ring r = {.n_blocks = n_blocks, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .fp32 = fp32};
    r.dp = ref_ring_dp(head_dim);
    struct image kv[2];
    for (int i = 0; i < 2; i++) image_init(&kv[i], i ? "v" : "k", fp32 ? IMAGE_F32 : IMAGE_F16, ref_ring_size(&r));
    r.k = kv[0].at;
    r.v = kv[1].at;
    int rows = n_kv_heads * head_dim;
    for (int64_t p = from; p < from + n; p++) {
        uint32_t x = (uint32_t)p * 2654435761u;
        for (int i = 0; i < layer * 2 * rows; i++) x = x * 1664525u + 1013904223u;
        for (int i = 0; i < 2 * rows; i++) {
            x = x * 1664525u + 1013904223u;
            float v = (float)(int32_t)x * 0x1p-31f;
            size_t at = ref_ring_index(&r, i >= rows, i % rows / head_dim, i % head_dim, p);
            image_want(&kv[i >= rows], at, (double)(fp32 ? v : from_fp16(to_fp16(v))), 0);
        }
    }
    struct sur_gpu_randomize p = {r, from, n, layer};
    launch(name, (unsigned)n, 256, &p);
    double worst = 0;
    const char *reason = NULL;
    for (int i = 0; i < 2 && !reason; i++) {
        image_read(&kv[i]);
        reason = image_compare(&kv[i], &worst);
    }
    report_last(name, shape, -1, reason);
}

/* ---- k_probe ---- */

/* The sink is written only when the xor of what a thread read is one number in 2^32: never, for these. */
static void check_probe(size_t n_bytes, unsigned grid)
{
    const char *name = "k_probe";
    char shape[120];
    snprintf(shape, sizeof shape, "bytes %zu grid %u", n_bytes, grid);
    if (!report_wanted(name, shape) || !kernel_find(name)) return;
    struct image sink;
    image_init(&sink, "sink", IMAGE_F32, 1);
    unsigned char *data = host_new(n_bytes, 1);
    for (size_t i = 0; i < n_bytes; i++) data[i] = (unsigned char)random_bits();
    struct sur_gpu_probe p = {memory_of("data", data, n_bytes), sink.at, n_bytes};
    launch(name, grid, 512, &p);
    image_read(&sink);
    double worst = 0;
    report_last(name, shape, -1, image_compare(&sink, &worst));
}

void check_small(int unused)
{
    static const char *const names[] = {"k_embed", "k_begin", "k_carry", "k_randomize", "k_probe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) checks_need(names[i]);
    check_embed(3072, 500, 1, 64, 131072 + 7);
    check_embed(3072, 500, 8, 64, 252);
    check_embed(3072, 100, 39, 64, 0);
    check_embed(100, 1301, 8, 10, ((int64_t)1 << 33) + 255);
    check_embed(84, 40, 3, 1, 511);
    check_begin(4, 32, 524288 + 4);
    check_begin(512, 32, 0);
    check_begin(4, 20, 400);
    check_begin(12, 1, ((int64_t)1 << 33));
    check_carry(128, 1280, 8);
    check_carry(128, 1280, 512);
    check_carry(80, 84, 8);
    check_carry(700, 5000, 8);
    check_randomize(64, 32, 7, false, 0, 1000, 700);
    check_randomize(128, 8, 3, false, 25, 131000, 200);
    check_randomize(40, 3, 2, true, 3, 126, 5);
    check_randomize(20, 3, 2, false, 1, 0, 200);
    check_probe(1 << 22, 264);
    check_probe(16, 3);
    check_probe((1 << 20) + 48, 7);
}

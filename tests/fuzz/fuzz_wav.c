/* The WAV reader fed whole and in pieces: no fault, and the same frames or the same error both ways.
 * The first byte selects how the rest is cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input/wav.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t seed;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void require(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* out has room for one sample per byte and one frame more. Returns the number of samples, or -1. */
static ptrdiff_t parse(struct wav *wav, const uint8_t *data, size_t size, uint32_t most, float *out, size_t room)
{
    size_t at = 0, samples = 0;
    wav_init(wav);
    for (;;) {
        size_t piece = most == 0 ? size : 1 + next_random() % most, used = 0;
        if (piece > size - at) piece = size - at;
        uint8_t *copy = malloc(piece + !piece);
        memcpy(copy, data + at, piece);
        size_t space = most == 0 ? room - samples : SUR_CHANNELS_MAX + next_random() % 32;
        require(space <= room - samples, "more samples than bytes");
        ptrdiff_t frames = wav_push(wav, copy, piece, &used, out + samples, space);
        free(copy);
        if (frames < 0) return -1;
        require(used <= piece && (used > 0 || frames > 0 || at == size), "no way forward");
        if (used == 0 && frames == 0) break;
        if (frames > 0) samples += (size_t)frames * (size_t)wav->channels;
        at += used;
    }
    return wav_end(wav) < 0 ? -1 : (ptrdiff_t)samples;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096) return 0;
    size_t room = size + 2 * SUR_CHANNELS_MAX + 32;
    float *whole = calloc(room, sizeof *whole), *pieces = calloc(room, sizeof *pieces);
    struct wav a, b;
    seed = data[0];
    ptrdiff_t n = parse(&a, data + 1, size - 1, 0, whole, room);
    ptrdiff_t m = parse(&b, data + 1, size - 1, 1u + data[0] % 64, pieces, room);
    require(n == m, "another number of samples in pieces");
    require(n >= 0 ? a.error[0] == '\0' : a.error[0] != '\0', "an error without a word, or the other way round");
    require(strcmp(a.error, b.error) == 0, "another error in pieces");
    if (n >= 0) {
        require(a.rate == b.rate && a.channels == b.channels && memcmp(&a.format, &b.format, sizeof a.format) == 0,
                "another format in pieces");
        require(memcmp(whole, pieces, (size_t)n * sizeof *whole) == 0, "other samples in pieces");
        for (ptrdiff_t i = 0; i < n; i++) require(whole[i] - whole[i] == 0, "a sample that is not finite");
    }
    free(whole);
    free(pieces);
    return 0;
}

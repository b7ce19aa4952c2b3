/* caption_file MODEL_DIR FILE.wav: captions a WAV file (16 bits, any rate and number of channels).
 *
 *   cc caption_file.c $(pkg-config --cflags --libs surtitle) -o caption_file
 *
 * One thread does everything here; surtitle.h says how to share the work among three. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <surtitle.h>

/* Returns 0 with the file at its first sample, or -1 if it is not a WAV of 16-bit samples. */
static int read_wav_header(FILE *f, int *rate, int *channels)
{
    uint8_t b[40];
    if (fread(b, 1, 12, f) != 12 || memcmp(b, "RIFF", 4) != 0 || memcmp(b + 8, "WAVE", 4) != 0) return -1;
    *rate = 0;
    while (fread(b, 1, 8, f) == 8) {
        uint32_t size = b[4] | b[5] << 8 | b[6] << 16 | (uint32_t)b[7] << 24;
        if (memcmp(b, "data", 4) == 0) return *rate ? 0 : -1;
        if (memcmp(b, "fmt ", 4) == 0 && size >= 16) {
            if (fread(b, 1, 16, f) != 16 || b[14] != 16) return -1;
            *channels = b[2];
            *rate = b[4] | b[5] << 8 | b[6] << 16;
            size -= 16;
        }
        if (fseek(f, (long)size + (size & 1), SEEK_CUR)) return -1;
    }
    return -1;
}

static void print_text(struct sur_session *s)
{
    struct sur_event e;
    while (sur_session_poll(s, &e) == SUR_OK)
        if (e.type == SUR_EVENT_TOKEN) fputs(e.text, stdout);
    fflush(stdout);
}

static int caption(struct sur_session *s, FILE *f, int channels)
{
    int16_t pcm[4096];
    size_t n, frame_bytes = sizeof pcm[0] * (size_t)channels;
    int r;
    while ((n = fread(pcm, frame_bytes, sizeof pcm / frame_bytes, f)) > 0) {
        for (size_t fed = 0; fed < n;) {
            fed += sur_session_feed(s, pcm + fed * (size_t)channels, n - fed);
            r = sur_session_run(s);
            if (r != SUR_OK && r != SUR_AGAIN) return r;
            print_text(s);
        }
    }
    sur_session_finish(s);
    do {
        r = sur_session_run(s);
        print_text(s);
    } while (r == SUR_OK || r == SUR_AGAIN);
    putchar('\n');
    return r == SUR_END ? SUR_OK : r;
}

int main(int argc, char **argv)
{
    struct sur_model_options model_options;
    struct sur_session_options session_options;
    struct sur_model *model = NULL;
    struct sur_session *session = NULL;
    int r = SUR_ERR_ARGUMENT;
    FILE *f = argc == 3 ? fopen(argv[2], "rb") : NULL;

    sur_model_options_init(&model_options);
    sur_session_options_init(&session_options);
    if (!f || read_wav_header(f, &session_options.rate, &session_options.channels)) {
        fprintf(stderr, "usage: caption_file MODEL_DIR FILE.wav (16-bit samples)\n");
        goto out;
    }
    model_options.dir = argv[1];
    if ((r = sur_model_open(&model, &model_options)) != SUR_OK) goto out;
    if ((r = sur_session_create(&session, model, &session_options)) != SUR_OK) goto out;
    r = caption(session, f, session_options.channels);
out:
    if (r != SUR_OK && f) fprintf(stderr, "caption_file: %s\n", sur_error_text());
    sur_session_destroy(&session);
    sur_model_close(&model);
    if (f) fclose(f);
    return r == SUR_OK ? 0 : 1;
}

/* Stands in for libpcaudio, which libespeak-ng is linked to and never calls when it hands its samples to a callback.
 * With it, the training machine needs no sound libraries. */
#include <stddef.h>

void *create_audio_device_object(const char *d, const char *a, const char *s)
{
    (void)d;
    (void)a;
    (void)s;
    return NULL;
}

int audio_object_open(void *o, int f, unsigned r, unsigned char c)
{
    (void)o;
    (void)f;
    (void)r;
    (void)c;
    return -1;
}

void audio_object_close(void *o)
{
    (void)o;
}

void audio_object_destroy(void *o)
{
    (void)o;
}

int audio_object_write(void *o, const void *d, size_t n)
{
    (void)o;
    (void)d;
    (void)n;
    return -1;
}

int audio_object_drain(void *o)
{
    (void)o;
    return -1;
}

int audio_object_flush(void *o)
{
    (void)o;
    return -1;
}

const char *audio_object_strerror(void *o, int e)
{
    (void)o;
    (void)e;
    return "no audio";
}

/* Why a sound server (PulseAudio, or PipeWire in its place) gives no microphone. PortAudio and ALSA do not say, and
 * libpulse says "Connection refused" whatever the cause is. */
#ifndef OS_SOUND_SERVER_H
#define OS_SOUND_SERVER_H

#include <stddef.h>

/* Write one line for people that says what is wrong and what to do. Neither waits for a server. Any thread, if no other
 * thread changes the environment. */
void os_sound_server_no_device(char *line, size_t size); /* there is no server's device, and no card's */
void os_sound_server_no_source(char *line, size_t size); /* there is, but it cannot be opened */

#endif

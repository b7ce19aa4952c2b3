/* Finds out why a sound server (PulseAudio, or PipeWire as its replacement) provides no microphone. PortAudio and ALSA
 * do not report the cause, and libpulse reports "Connection refused" for every cause. */
#ifndef OS_SOUND_SERVER_H
#define OS_SOUND_SERVER_H

/* Keep one line for the user (util/failure.h) that says what is wrong and what to do, and return code. Neither waits
 * for a server. Any thread, if no other thread changes the environment. */
int os_sound_server_no_device(int code); /* neither a sound server nor a sound card has a device */
int os_sound_server_no_source(int code); /* the server's device cannot be opened */

#endif

"""The test's own PulseAudio daemon, in the folder box: a null sink whose monitor is the default source. The program reaches
it through ALSA's pulse plug."""
import glob, os, shutil, subprocess

from microphone import wait_for


class Daemon:
    def __init__(self, box):
        self.socket = box + "/run/native"
        self.env = dict(os.environ, HOME=box + "/home", XDG_RUNTIME_DIR=box + "/run", XDG_CONFIG_HOME=box + "/config",
                        XDG_DATA_HOME=box + "/data", XDG_DATA_DIRS=box + "/data", PULSE_RUNTIME_PATH=box + "/run",
                        PULSE_STATE_PATH=box + "/state", PULSE_SERVER="unix:" + self.socket,
                        PULSE_COOKIE=box + "/cookie", LC_ALL="C.UTF-8")
        for name in ["run", "home", "config", "state", "data"]:
            os.makedirs(os.path.join(box, name), mode=0o700, exist_ok=True)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes",
             "-L", f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
             "-L", "module-null-sink sink_name=mic rate=48000"], env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: subprocess.run(["pactl", "set-default-source", "mic.monitor"], env=self.env, capture_output=True,
                                        timeout=60).returncode == 0, "the sound server")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def pactl(self, *words):
        return subprocess.run(["pactl", *words], env=self.env, check=True, timeout=60, capture_output=True).stdout.decode()

    def is_recorded(self):
        return self.pactl("list", "short", "source-outputs") != ""


def missing(program):
    """Why such a daemon cannot be used here; None: it can."""
    if not all(shutil.which(name) for name in ["pulseaudio", "pactl", "paplay"]):
        return "pulseaudio and its utilities are not here"
    if not glob.glob("/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so") + glob.glob("/usr/lib64/alsa-lib/*pcm_pulse.so"):
        return "no pulse plug for ALSA here"
    r = subprocess.run([program, "--list-devices"], capture_output=True, timeout=60)
    return "a build without PortAudio" if b"no microphone support" in r.stderr else None

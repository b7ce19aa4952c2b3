"""What test_signals.py and test_outputs.py share: the program on a tiny random model, and a folder of their own.
Arguments of each test: the program, the model's folder, and optionally names of tests, as unittest takes them."""
import atexit, fcntl, os, pty, random, shutil, signal, struct, subprocess, sys, tempfile, termios, threading, time
import unittest, wave

PROGRAM, MODEL = map(os.path.abspath, sys.argv[1:3])
BOX = tempfile.mkdtemp(prefix="surtitle-test.")
LONG = 60  # seconds that no run here takes
ENV = dict(os.environ, XDG_DATA_HOME=BOX + "/none", XDG_DATA_DIRS=BOX + "/none", HOME=BOX + "/home")


def path(*names):
    return os.path.join(BOX, *names)


def noise(seconds, seed=1):
    """Raw samples, 16 kHz, 16 bits: bursts of tones and noise."""
    r, out = random.Random(seed), []
    while len(out) < seconds * 16000:
        loud, step = r.choice([0, 500, 6000, 12000]), r.uniform(0.01, 0.4)
        out += [int(loud * ((i * step) % 2 - 1 + r.uniform(-0.3, 0.3)) / 1.4) for i in range(r.randrange(800, 6000))]
    return struct.pack(f"<{int(seconds * 16000)}h", *out[:int(seconds * 16000)])


def make_wav(name, seconds):
    with wave.open(path(name), "wb") as w:
        w.setparams((1, 2, 16000, 0, "NONE", ""))
        w.writeframes(noise(seconds))
    return path(name)


def start(*args, model=MODEL, **more):
    words = [PROGRAM, *(["--model", model] if model else []), *args]
    more = dict(dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, bufsize=0), **more)
    return subprocess.Popen(words, **more)


def run(*args, data=b"", **more):
    """The finished run: returncode, stdout and stderr, where they are pipes."""
    p = start(*args, **more)
    p.stdout_bytes, p.stderr_bytes = p.communicate(data if p.stdin else None, timeout=LONG)
    return p


def wait_for(true, what, seconds=LONG):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def wait_for_handler(p, number=signal.SIGINT):
    def has():
        with open(f"/proc/{p.pid}/status") as f:
            caught = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt"))
        return caught >> (number - 1) & 1
    wait_for(has, "the program has no handler")


def wait_until_blocked(p):
    """Until the main thread has slept in one call for half a second."""
    def slept():
        with open(f"/proc/{p.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        with open(f"/proc/{p.pid}/status") as f:
            return fields[0] == "S" and [fields[11:13], next(line for line in f if line.startswith("voluntary"))]

    def still():
        before = slept()
        time.sleep(0.5)
        return before and before == slept()
    wait_for(still, "the program does not block")


def fill(fd):
    """Makes a pipe full; returns how many bytes that took."""
    n = 0
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    try:
        while True:
            n += os.write(fd, b"x" * (4096 if n % 4096 == 0 else 1))
    except BlockingIOError:
        pass
    os.set_blocking(fd, blocking)
    return n


def full_pipe():
    """The two ends of a pipe that holds 4096 bytes and is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    fill(writer)
    return reader, writer


class Terminal:
    """A pseudo-terminal of 80 x 24 whose output is kept in .shown."""
    def __init__(self):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown = b""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while piece := os.read(self.master, 65536):
                self.shown += piece
        except OSError:
            pass

    def start(self, *args, **more):
        """The program, with this terminal as its own, for standard input and output; standard error is a pipe."""
        more = dict(dict(stdin=self.slave, stdout=self.slave, env=dict(ENV, TERM="xterm-256color")), **more)
        return start(*args, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0), **more)


def main():
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[3:]])


atexit.register(shutil.rmtree, BOX, ignore_errors=True)

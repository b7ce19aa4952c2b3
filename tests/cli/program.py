"""Shared by the tests of the program: runs on a tiny random model, and a folder for the test's files.
Arguments of each test: program, model folder, and optionally names of tests as unittest takes them (-k PATTERN too)."""
import atexit, fcntl, functools, os, pty, random, select, shutil, signal, struct, subprocess, sys, tempfile, termios, threading
import time, unittest, wave

PROGRAM, MODEL = map(os.path.abspath, sys.argv[1:3])
BOX = tempfile.mkdtemp(prefix="surtitle-test.")
LONG = 300  # seconds: no run takes as long, even on a busy machine or under a sanitizer
ENV = dict(os.environ, XDG_DATA_HOME=BOX + "/none", XDG_DATA_DIRS=BOX + "/none", HOME=BOX + "/home")


def path(*names, data=None):
    """A path in the test's folder; with data, the file is written."""
    p = os.path.join(BOX, *names)
    if data is not None:
        with open(p, "wb") as f:
            f.write(data)
    return p


@functools.cache
def noise(seconds, seed=1, rate=16000):
    """Raw 16-bit samples: bursts of tones and noise. A longer one begins with the samples of a shorter one."""
    n = round(seconds * rate)
    r, out = random.Random(seed), []
    while len(out) < n:
        loud, step = r.choice([0, 500, 6000, 12000]), r.uniform(0.01, 0.4)
        out += [int(loud * ((i * step) % 2 - 1 + r.uniform(-0.3, 0.3)) / 1.4) for i in range(r.randrange(800, 6000))]
    return struct.pack(f"<{n}h", *out[:n])


def clip(seconds):
    """The first seconds of CLIP, raw."""
    return noise(8)[:int(seconds * 16000) * 2]


def make_wav(name, frames, rate=16000, channels=1):
    with wave.open(path(name), "wb") as w:
        w.setparams((channels, 2, rate, 0, "NONE", ""))
        w.writeframes(frames)
    return path(name)


def start(*args, model=True, **more):
    """The running program. model: True for MODEL, False for no option, or another model's path."""
    words = [PROGRAM, *(["--model", MODEL if model is True else model] if model else []), *args]
    more = dict(dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, bufsize=0), **more)
    return subprocess.Popen(words, **more)


def run(*args, data=b"", **more):
    """The finished run: args, returncode, stdout and stderr (None where they are not pipes)."""
    p = start(*args, **more)
    try:
        out, err = p.communicate(data if p.stdin else None, timeout=LONG)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise
    return subprocess.CompletedProcess(p.args, p.returncode, out, err)


def check(r, status, *words):
    """Asserts the exit status and, when it is a failure, one line on standard error that contains the words. Returns r."""
    line = r.stderr.decode()
    assert r.returncode == status, (r.args[1:], r.returncode, line)
    if status:
        assert line.count("\n") == 1 and line.startswith("surtitle: ") and line.endswith("\n"), (r.args[1:], line)
    for word in words:
        assert word in line, (r.args[1:], word, line)
    return r


def tokens(*args, data=b""):
    """What --format tokens writes, of a run that succeeds and reports nothing."""
    r = check(run("--format", "tokens", *args, data=data), 0)
    assert r.stdout and not r.stderr, r.stderr
    return r.stdout


def feed_all(pipe, data):
    try:
        pipe.write(data)
        pipe.close()
    except BrokenPipeError:
        pass  # the program has ended


def read_until(fd, enough, seconds=LONG):
    """Reads until enough(bytes) or the end."""
    got, end = b"", time.monotonic() + seconds
    while not enough(got):
        left = end - time.monotonic()
        assert left > 0, ("no output", got[-200:])
        if select.select([fd], [], [], left)[0]:
            piece = os.read(fd, 65536)
            if not piece:
                break
            got += piece
    return got


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
    """Waits until the main thread has slept in one system call for half a second."""
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
    """Fills a pipe; returns the number of bytes written."""
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
    """The two ends of a full pipe of 4096 bytes."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    fill(writer)
    return reader, writer


class Terminal:
    """A pseudo-terminal of 80 x 24; .shown holds all output so far."""
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
        """The running program with this as its controlling terminal, standard input and output; standard error is a pipe."""
        more = dict(dict(stdin=self.slave, stdout=self.slave, env=dict(ENV, TERM="xterm-256color")), **more)
        return start(*args, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0), **more)


def main():
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[3:]])


CLIP = make_wav("clip.wav", clip(8))
atexit.register(shutil.rmtree, BOX, ignore_errors=True)

"""The terminal that surtitle draws on, as a pseudo-terminal of the test: one that accepts no output, one that the shell has
taken back (Ctrl-Z, bg), and one with hostile programs. Arguments: program, tools/make_checkpoint.py, the number of hostile
programs to run, and optionally names of tests. 77: bash is not installed."""
import atexit, fcntl, os, pty, random, re, select, shutil, signal, struct, subprocess, sys, tempfile, termios, threading, time, unittest, wave

PROGRAM, MAKE = map(os.path.abspath, sys.argv[1:3])
RUNS = int(sys.argv[3])
BOX = tempfile.mkdtemp(prefix="surtitle-terminal.")
atexit.register(shutil.rmtree, BOX, True)
MODEL, CLIP, SHORT = (os.path.join(BOX, n) for n in ("model", "talk.wav", "short.wav"))
ENV = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm-256color", XDG_DATA_HOME=BOX, XDG_DATA_DIRS=BOX, HOME=BOX, PS1="@@ ")
ENV.pop("NO_COLOR", None)
LONG = 60
RUNS_PROGRAMS = b"libvterm" not in subprocess.run([PROGRAM, CLIP, "--", "true"], capture_output=True, env=ENV).stderr
needs_programs = unittest.skipUnless(RUNS_PROGRAMS, "this build has no libvterm")


def make_sound(path, seconds):
    r, out = random.Random(1), []
    while len(out) < 16000 * seconds:
        loud, pitch = r.choice([500, 6000, 12000]), r.uniform(0.01, 0.4)
        out += [int(loud * ((i * pitch) % 2 - 1 + r.uniform(-0.3, 0.3)) / 1.4) for i in range(r.randrange(800, 6000))]
    with wave.open(path, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16000)
        w.writeframes(struct.pack(f"<{len(out)}h", *out)[:16000 * 2 * seconds])


class Terminal:
    """A pseudo-terminal with a program in it, whose output is gathered until `hold` stops that."""
    running = []

    def __init__(self, words, rows=24, cols=80):
        self.master, self.slave = pty.openpty()
        self.name = os.ttyname(self.slave)
        self.size(rows, cols)
        self.before = termios.tcgetattr(self.master)
        self.errors = tempfile.TemporaryFile(dir=BOX)
        self.process = subprocess.Popen(words, stdin=self.slave, stdout=self.slave,
                                        stderr=self.errors if words[0] == PROGRAM else self.slave,
                                        env=ENV, start_new_session=True, cwd=BOX,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen, self.holding, self.closing = b"", False, False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        Terminal.running.append(self)

    def read(self):
        while not self.closing:
            if self.holding:
                time.sleep(0.02)
            elif select.select([self.master], [], [], 0.05)[0] and not self.holding:
                self.seen += os.read(self.master, 65536)

    def size(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def hold(self):
        """From now on the terminal accepts no output: its buffer is full, and the test does not read."""
        self.holding = True
        time.sleep(0.2)
        slave, quiet = os.open(self.name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), 0
        while quiet < 5:  # the kernel moves bytes on, which makes room again
            try:
                os.write(slave, b"x" * (4096 if quiet == 0 else 1))
                quiet = 0 if quiet == 0 else 1
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
        os.close(slave)

    def until(self, what, after=0, seconds=LONG):
        end = time.monotonic() + seconds
        while what not in self.seen[after:]:
            assert time.monotonic() < end, f"{what} never came: {self.seen[after:][-3000:]}"
            time.sleep(0.02)
        return after + self.seen[after:].index(what) + len(what)

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, seconds=LONG):
        status = self.process.wait(seconds)
        return status if status >= 0 else 128 - status

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def is_as_before(self):
        return termios.tcgetattr(self.master) == self.before

    def close(self):
        Terminal.running.remove(self)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.closing = True
        self.reader.join()
        os.close(self.master)
        os.close(self.slave)


FRAME = b"\033[?2026l"  # ends one


def surtitle(*args, command=None, **size):
    return Terminal([PROGRAM, "--model", MODEL, *args, *(["--", *command] if command else [])], **size)


def setUpModule():
    subprocess.run([sys.executable, MAKE, MODEL, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                   stdout=subprocess.DEVNULL)
    make_sound(CLIP, 60)
    make_sound(SHORT, 3)


class Case(unittest.TestCase):
    def tearDown(self):
        for t in list(Terminal.running):  # left by a failure
            t.close()


def end_stuck(signals, args, command, status):
    began = [surtitle(*args, command=command) for _ in signals]
    for t in began:
        t.until(FRAME)
        t.hold()
    time.sleep(1)  # frames wait
    for t, number in zip(began, signals):
        if number:
            os.kill(t.process.pid, number)
    sent = time.monotonic()
    for t, number in zip(began, signals):
        got = t.wait(20)
        print(f"  {args} {command} {number and number.name}: status {got} within {time.monotonic() - sent:.1f} s")
        assert got == status, (args, command, number, got, t.said())
        assert t.is_as_before(), (t.before, termios.tcgetattr(t.master))
        assert t.said().count("the terminal accepts no output") == 1, t.said()
        t.close()


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Stuck(Case):
    """A terminal that accepts no output."""

    def test_stuck(self):
        end_stuck(SIGNALS, ["--overlay", "--pace", CLIP], None, 1)
        end_stuck([None], ["--overlay", "--pace", SHORT], None, 1)

    @needs_programs
    def test_stuck_under_a_program(self):
        end_stuck(SIGNALS, ["--pace", CLIP], ["sh", "-c", "yes"], 129)
        end_stuck(SIGNALS, ["--pace", CLIP], ["sleep", "100"], 129)

    def test_held_up_for_a_while(self):
        """When the terminal accepts output again, the current captions are drawn. For other programs it still blocks."""
        t = surtitle("--overlay", "--pace", CLIP)
        t.until(FRAME)
        assert os.get_blocking(t.slave), "it is shared"
        t.hold()
        time.sleep(1)
        at = len(t.seen)
        t.holding = False
        for _ in range(3):
            at = t.until(FRAME, at)
        t.type("\x03")
        assert t.wait() == 0 and t.is_as_before(), t.said()
        t.close()


class Shell(Terminal):
    def __init__(self):
        super().__init__(["bash", "--norc", "--noprofile", "-i"])
        self.prompt(0)
        self.attributes = self.stty()

    def prompt(self, after):
        return self.until(b"@@ ", after)

    def run(self, line):
        """Types a command that ends at once; returns where its output begins and ends."""
        at = len(self.seen)
        self.type(line + "\n")
        at = self.until(b"\n", at)
        return at, self.prompt(at)

    def stty(self):
        a, b = self.run("stty -a")
        return self.seen[a:b]

    def job(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            for pid in f.read().split():
                with open(f"/proc/{pid}/comm") as g:
                    if g.read().strip() == "surtitle":
                        return int(pid)
        raise AssertionError("surtitle does not run")

    def check_background(self):
        """Nothing is written or set while there are captions, and the shell's line can be edited."""
        at = len(self.seen)
        time.sleep(1.5)
        assert self.seen[at:] == b"", self.seen[at:]
        assert self.stty() == self.attributes, self.seen[at:]

    def stopped(self, after):
        self.until(b"Stopped", after)
        self.prompt(self.until(b"\n", self.until(b"Stopped", after)))


def words(*args, command=()):
    return " ".join([PROGRAM, "--model", MODEL, *args, *(["--", *command] if command else [])])


def background(*args, command=(), stop):
    t = Shell()
    t.type(words(*args, command=command) + "\n")
    t.until(FRAME)
    at = len(t.seen)
    stop(t)
    t.stopped(at)
    t.run("bg")
    t.check_background()
    at = len(t.seen)
    t.type("fg\n")
    for _ in range(3):
        at = t.until(FRAME, at)
    stop(t)  # and once more
    t.stopped(at)
    t.run("bg")
    t.check_background()
    at = len(t.seen)
    t.type("fg\n")
    at = t.until(FRAME, at)
    os.kill(t.job(), signal.SIGTERM)
    t.prompt(at)
    assert t.stty() == t.attributes
    t.close()


class Background(Case):
    """A terminal that the shell has taken back."""

    def test_background(self):
        background("--overlay", "--pace", CLIP, stop=lambda t: t.type("\x1a"))

    @needs_programs
    def test_background_with_a_program(self):
        command = ["sh", "-c", "'while sleep 0.1; do echo tick; done'"]
        background("--pace", CLIP, command=command, stop=lambda t: os.kill(t.job(), signal.SIGTSTP))

    def test_end_in_the_background(self):
        for args, command in [(["--overlay", "--pace", SHORT], ()), (["--pace", CLIP], ["sleep", "3"])]:
            if command and not RUNS_PROGRAMS:
                continue
            t = Shell()
            t.type(words(*args, command=command) + "\n")
            t.until(FRAME)
            at = len(t.seen)
            os.kill(t.job(), signal.SIGTSTP)
            t.stopped(at)
            a, b = t.run("bg")
            at = len(t.seen)
            end = time.monotonic() + LONG
            while b"Done" not in t.seen[at:]:
                assert time.monotonic() < end, t.seen[at:]
                time.sleep(0.3)
                t.run("true")
            assert b"\033[?2026" not in t.seen[at:] and b"\033[?25" not in t.seen[at:] and b"1049" not in t.seen[at:], t.seen[at:]
            assert t.stty() == t.attributes
            t.close()

    def test_begun_in_the_background(self):
        t = Shell()
        t.run(words("--overlay", "--pace", CLIP) + " &")
        end = time.monotonic() + LONG
        while b"Stopped" not in t.seen:
            assert time.monotonic() < end, t.seen
            time.sleep(0.2)
            t.run("true")
        t.check_background()
        at = len(t.seen)
        t.type("fg\n")
        at = t.until(FRAME, at)
        t.type("\x03")
        t.prompt(at)
        assert t.stty() == t.attributes
        t.close()


class End(Case):
    """The end of the command."""

    @needs_programs
    def test_command_ends_and_a_signal(self):
        """The reader of the transcript blocks it while the command ends and one SIGTERM arrives, in either order."""
        for when in ("before", "after"):
            fifo = os.path.join(BOX, "fifo." + when)
            os.mkfifo(fifo)
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            filler = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            fcntl.fcntl(reader, 1031, 4096)  # F_SETPIPE_SZ
            gate = os.path.join(BOX, "gate." + when)
            t = surtitle("--pace", "--format", "jsonl", "--output", fifo, CLIP,
                         command=["sh", "-c", f"trap '' HUP; while ! test -e {gate}; do sleep 0.05; done; exit 5"])
            t.until(FRAME)
            end = time.monotonic() + LONG
            got = b""
            while b'"start"' not in got:
                assert time.monotonic() < end
                time.sleep(0.1)
                try:
                    got += os.read(reader, 65536)
                except BlockingIOError:
                    pass
            for size in (512, 1):
                try:
                    while True:
                        os.write(filler, b"\n" * size)
                except BlockingIOError:
                    pass
            os.close(filler)
            steps = [lambda: os.kill(t.process.pid, signal.SIGTERM), lambda: open(gate, "w").close()]
            for step in steps if when == "before" else reversed(steps):
                step()
                time.sleep(0.4)
            os.set_blocking(reader, True)
            while some := os.read(reader, 65536):
                got += some
            os.close(reader)
            status = t.wait()
            assert status == 5, (when, status, t.said(), got[-300:])
            assert got.rstrip(b"\n").split(b"\n")[-1].startswith(b'{"type":"end"'), got[-300:]
            assert t.is_as_before(), (t.before, termios.tcgetattr(t.master))
            t.close()


HOSTILE = r'''
import os, random, sys, time
r = random.Random(int(sys.argv[1]))
marks = "\u302a\u302b\u302c\u302d\u302e\u3099\u309a\u0301\u200d\ufe0f\u20dd\u1160\U000e0100\U000e01b0\U0001f3fb\u0600"
def number(): return str(r.choice([0, 1, 2, 3, 4, 5, 7, 8, 11, 22, 25, 38, 48, 69, 1000, 1002, 1003, 1004, 1006, 1048, 1049, 2004,
                                   2026, 65535, 99999999999]))
def csi():
    return "\033[" + r.choice(["", "", "?", ">", "!", "="]) + r.choice(";:").join(number() for _ in range(r.choice([0, 1, 2, 3, 20]))) + \
        r.choice(["", "", "", " ", "$", "'"]) + r.choice("ABCDEFGHJKLMPSTXZ@`abcdefghlmnpqrstuxz~")
def run(): return r.choice(["a", "\u304b", "", "\033#6a", "\033[999G\u6f22"]) + "".join(
    r.choice(marks) if r.random() < 0.3 else "\u3099" for _ in range(r.choice([1, 3, 50, 300])))
def string(): return "\033" + r.choice("]P_^X") + r.choice(["0;", "2;", "52;c;", "8;;", "$q", "4;1;", "10;?", "+q", "Gf=", ""]) + \
    r.choice(["title", "x\n\x01y", "\u202e" * 3, "z" * 900, "?", "m"]) + r.choice(["\a", "\033\\", "\x18", "\033", "\x9c"])
def escape(): return "\033" + r.choice("78DEMcHNO=>#6#3#8(0(B)0%G%@nolm|}~ F")
def text(): return r.choice(["word ", "\u6f22\u5b57", "\n", "\r\n", "\t", "\b", "\x0e", "\x0f", "\x9b31m", "\x85", "\a",
                             "\U0001f468\u200d\U0001f469", "\u202eabc", "\ufeff", "\x05"]) * r.choice([1, 1, 2, 90])
def raw(): return bytes(r.randrange(256) for _ in range(r.randrange(40)))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    out = b""
    for _ in range(r.randrange(1, 60)):
        out += r.choice([lambda: csi().encode(), lambda: csi().encode(), lambda: run().encode(), lambda: string().encode(),
                         lambda: escape().encode(), lambda: text().encode(), raw])()
    while out:
        n = r.choice([1, 7, 4000, 100000])
        os.write(1, out[:n])
        out = out[n:]
    if r.random() < 0.3: time.sleep(0.02)
sys.exit(9)
'''

MODE = r"\033\[\?(?:2026|25|7|1049|1|1000|1002|1003|1004|1006|2004)[hl]"
ALLOWED = re.compile(("(?:" + MODE + r"|\033[=>78]|\033\[>4(?:;\d+)?m|\033\[\d+;\d+H|\033\[2J|\033\[[0-6] q|\033\[2[23];0t"
                      r"|\033\[0(?:;[0-9:]+)*m|\033\]0;[^\x00-\x1f\x7f]*\a|\a|[ -~]|[^\x00-\x9f])*"))


def check_bytes(data, number):
    text = data.decode()  # surtitle writes nothing that is not UTF-8
    end = 0
    while end < len(text):
        m = ALLOWED.match(text, end, end + 4096)  # a long match would be slow
        if m.end() == end:
            assert False, f"program {number}: {text[max(end - 60, 0):end + 60]!r}"
        end = m.end()
    on = set()
    for mode, how in re.findall(r"\033\[\?(\d+)([hl])", text):
        (on.add if how == "h" else on.discard)(mode)
    assert on == {"25", "7"}, f"program {number}: modes at the end: {on}"


class Hostile(Case):
    """Programs that write anything to their terminal."""

    @needs_programs
    def test_hostile_programs(self):
        script = os.path.join(BOX, "hostile.py")
        with open(script, "w") as f:
            f.write(HOSTILE)
        for number in range(RUNS):
            r = random.Random(number)
            t = surtitle("--pace", CLIP, command=[sys.executable, script, str(number), "2.5"],
                         rows=r.randrange(1, 40), cols=r.randrange(1, 140))
            end = time.monotonic() + LONG
            while t.process.poll() is None:
                assert time.monotonic() < end, f"program {number} does not end"
                time.sleep(r.choice([0.02, 0.1, 0.3]))
                t.size(r.choice([1, 2, 3, 10, 24, 60]), r.choice([1, 2, 3, 4, 20, 80, 200]))
            assert t.wait() == 9, (number, t.wait(), t.said())
            assert t.is_as_before(), number
            time.sleep(0.2)
            check_bytes(t.seen, number)
            t.close()


if not shutil.which("bash"):
    print("bash is not installed")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], "-v", *sys.argv[4:]])

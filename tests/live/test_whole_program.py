"""The whole program under ThreadSanitizer: overlay, command, caption file, a microphone (fake_portaudio.c, preloaded) that is
lost, let go and hangs. Arguments: program, the fake, source folder, and optionally words that the names of the tests to
run contain. 77: a build without PortAudio."""
import fcntl, os, pty, re, shutil, signal, struct, subprocess, sys, tempfile, termios, threading, time, unittest

sys.dont_write_bytecode = True
from microphone import Model, run_tests, wait_for  # noqa: E402

PROGRAM, FAKE, ROOT = (os.path.abspath(a) for a in sys.argv[1:4])
BOX = tempfile.mkdtemp(prefix="surtitle-tsan.")
MODEL = Model(ROOT, BOX)
RUNTIME = re.search(r"\S+/libtsan\S+", subprocess.run(["ldd", PROGRAM], capture_output=True, check=True).stdout.decode()).group()


class Screen:
    """The program on a terminal. Its output is kept: ThreadSanitizer's reports go to standard error."""
    def __init__(self, *options, tsan="", **env):
        self.master, slave = pty.openpty()
        self.resize(24, 80)
        self.box = tempfile.mkdtemp(dir=BOX)
        self.output = os.path.join(self.box, "output")
        env = {name: str(value) for name, value in env.items()}
        if "FAKE_MIC" in env:  # the sanitizer's library must come first
            env["LD_PRELOAD"] = f"{RUNTIME}:{FAKE}"
        options = ["--model", MODEL.folder, "--threads", "2", "--output", self.output, *options]
        self.p = subprocess.Popen([PROGRAM, *options], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                  env=dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8", TSAN_OPTIONS="history_size=4 " + tsan,
                                           **env))
        os.close(slave)
        self.shown = b""
        self.reader = threading.Thread(target=self.drain, daemon=True)
        self.reader.start()

    def drain(self):
        try:
            while data := os.read(self.master, 65536):
                self.shown += data
        except OSError:
            pass

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self):
        if not os.path.exists(self.output):
            return ""
        with open(self.output) as f:
            return f.read()

    def end(self, status, how=None):
        if how:
            self.p.send_signal(how)
        got = self.p.wait(240)
        self.reader.join()  # until the terminal's other end is closed
        os.close(self.master)
        report = self.shown.decode(errors="replace").partition("ThreadSanitizer")
        assert not report[1], report[2][:6000]
        assert got == status, (got, self.text()[-500:])


def clip():
    path = BOX + "/clip.raw"
    if not os.path.exists(path):
        with open(MODEL.clip, "rb") as f, open(path, "wb") as to:
            to.write(f.read()[44:])
    return path


class WholeProgram(unittest.TestCase):
    def test_command(self):
        run = Screen("--pace", "--caption-file", BOX + "/caption", MODEL.clip, "--", "sh", "-c",
                     "for i in 1 2 3 4 5 6; do echo hello; sleep 1; done; exit 5")
        for rows, columns in [(20, 70), (10, 30), (24, 80)]:
            wait_for(lambda: run.text(), "the first words")
            run.resize(rows, columns)
            os.write(run.master, b"abc")
            time.sleep(0.5)
        run.end(5)

    def test_overlay(self):
        run = Screen("--pace", "--overlay", MODEL.clip)
        wait_for(lambda: run.text(), "the first words")
        run.end(0, signal.SIGINT)

    def test_microphone(self):
        """The microphone is lost, back at another rate, closed by Ctrl-Z, and opened again."""
        run = Screen("--overlay", "--format", "jsonl", "--latency-report", BOX + "/report",
                     FAKE_MIC=f"16000 1 3 {clip()};48000 2 0 {clip()}")
        wait_for(lambda: '"back"' in run.text(), "the device")
        run.p.send_signal(signal.SIGTSTP)
        stat = f"/proc/{run.p.pid}/stat"
        wait_for(lambda: open(stat).read().rsplit(")", 1)[1].split()[0] == "T", "the stop")
        run.p.send_signal(signal.SIGCONT)
        wait_for(lambda: run.text().count('"skip"') >= 2, "the device, again")
        run.end(0, signal.SIGINT)

    def test_microphone_and_command(self):
        run = Screen("--", "sh", "-c", "sleep 6; exit 7", FAKE_MIC=f"16000 4 0 {clip()}", FAKE_INPUT=2)
        run.end(7)

    def test_hanging_microphone(self):
        # the program ends while Pa_AbortStream still hangs, which then has not joined the fake's thread
        run = Screen("--format", "jsonl", tsan="report_thread_leaks=0", FAKE_MIC=f"16000 1 2 {clip()}",
                     FAKE_HANG="Pa_AbortStream 4")
        wait_for(lambda: '"lost"' in run.text(), "the loss")
        run.end(0, signal.SIGTERM)


def main():
    r = subprocess.run([PROGRAM, "--list-devices"], capture_output=True, timeout=120)
    if b"no microphone support" in r.stderr:
        print("a build without PortAudio")
        return 77
    MODEL.make(10)
    return run_tests(sys.argv[4:], at_once=2)


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

"""A sound server that does not answer: a line says that the program waits for it, and one signal ends it within 3 s.
Arguments: program, the fake of PortAudio, source folder, "quick" or "all", and optionally words that the names of the tests to
run contain. 77: a build without PortAudio."""
import os, shutil, signal, socket, sys, tempfile, unittest

sys.dont_write_bytecode = True
from microphone import Model, Recording, run_tests, wait_for  # noqa: E402
from sound_server import Daemon, missing  # noqa: E402

PROGRAM, FAKE, ROOT = (os.path.abspath(a) for a in sys.argv[1:4])
ALL = sys.argv[4] == "all"
BOX = tempfile.mkdtemp(prefix="surtitle-stuck.")
MODEL = Model(ROOT, BOX)
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
WAITS = "surtitle: the sound server does not answer: still waiting\n"
GIVES_UP = "surtitle: the sound server does not answer: ending without it\n"


def hanging(function, seconds, *options):
    path = BOX + "/noise.raw"
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.write(os.urandom(16000 * 2 * 30))
    env = dict(os.environ, LD_PRELOAD=FAKE, FAKE_MIC=f"16000 1 {seconds} {path}", FAKE_HANG=f"{function} 0", LC_ALL="C.UTF-8")
    return Recording(PROGRAM, MODEL, env, *options)


def hangs_now(run):
    """Whether three threads run: the main one, the reader of standard error, and the one that hangs."""
    return len(os.listdir(f"/proc/{run.p.pid}/task")) >= 3


def check_start(runs):
    """Asserts that each run writes nothing, reports the wait once, and ends at the first signal."""
    for run, _, _ in runs:
        wait_for(lambda: WAITS in run.errors(), "the line")
    for run, how, status in runs:
        assert run.end_soon(how) == status, (how, run.p.returncode, run.errors())
        assert run.errors() == WAITS and run.text() == "", (run.errors(), run.text())


class StuckServer(unittest.TestCase):
    daemon = None

    def test_start_hangs(self):
        functions = ["Pa_Initialize", "Pa_OpenStream", "Pa_StartStream"]
        pairs = [(f, s) for f in functions for s in SIGNALS] if ALL else list(zip(functions, SIGNALS))
        runs = [(hanging(f, 0), s, 0) for f, s in pairs]
        runs += [(hanging("Pa_Initialize", 0, "--list-devices"), s, 3) for s in (SIGNALS if ALL else SIGNALS[:1])]
        check_start(runs)

    def test_signal_before_the_line(self):
        for how in SIGNALS if ALL else SIGNALS[:1]:
            run = hanging("Pa_Initialize", 0)
            wait_for(lambda: hangs_now(run), "the thread")
            assert run.end_soon(how) == 0 and run.errors() in (GIVES_UP, WAITS), run.errors()

    def test_end_hangs(self):
        """The microphone delivers until the end is requested, and then cannot be closed."""
        functions = ["Pa_StopStream", "Pa_CloseStream", "Pa_Terminate"]
        runs = [hanging(f, 0) for f in (functions if ALL else functions[:1])]
        for run in runs:
            run.wait_for_sound()
        for run in runs:
            assert run.end_soon() == 0 and run.errors() == GIVES_UP and run.events()[-1]["type"] == "end", run.errors()

    def test_loss_hangs(self):
        """A loss is reported at once although the device cannot be closed; captions of what came before are written."""
        for how in SIGNALS if ALL else SIGNALS[:1]:
            run = hanging("Pa_AbortStream", 2)
            wait_for(lambda: run.states() == ["lost"], "the loss")
            wait_for(lambda: WAITS in run.errors(), "the line")
            assert run.end_soon(how) == 0, run.errors()
            lines = run.errors().splitlines(True)
            assert len(lines) == 2 and "is gone" in lines[0] and lines[1] == WAITS, lines
            end = run.events()[-1]
            assert end["type"] == "end" and abs(end["t"] - 2) < 0.2 and end["steps"] > 25, end

    def test_server_never_answers(self):
        if not self.daemon:
            self.skipTest("no sound server")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            env = dict(self.daemon.env, PULSE_SERVER=f"tcp:127.0.0.1:{listener.getsockname()[1]}")
            runs = [(Recording(PROGRAM, MODEL, env), how, 0) for how in (SIGNALS if ALL else SIGNALS[:1])]
            if ALL:
                runs.append((Recording(PROGRAM, MODEL, env, "--list-devices"), signal.SIGINT, 3))
            check_start(runs)

    def test_server_is_stopped(self):
        """At the start and in mid-run; captions continue when the server does."""
        if not self.daemon:
            self.skipTest("no sound server")
        run = Recording(PROGRAM, MODEL, self.daemon.env)
        run.wait_for_sound()
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: run.states() == ["lost"], "the loss")
            wait_for(lambda: WAITS in run.errors(), "the line")
            if ALL:
                check_start([(Recording(PROGRAM, MODEL, self.daemon.env), how, 0) for how in SIGNALS])
                assert run.end_soon(signal.SIGHUP) == 0, run.errors()
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        if not ALL:
            wait_for(lambda: run.states() == ["lost", "back"], "the return")
            run.end()


def main():
    why = missing(PROGRAM)
    if why == "a build without PortAudio":
        print(why)
        return 77
    if why:
        print(why + ": the fake alone")
    MODEL.make(3)
    daemon = StuckServer.daemon = None if why else Daemon(BOX)
    try:
        return run_tests(sys.argv[5:], at_once=3)
    finally:
        if daemon:
            daemon.stop()


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

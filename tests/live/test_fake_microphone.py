"""The program on a simulated microphone (fake_portaudio.c, preloaded), for what a sound server does not do on request.
Arguments: program, the fake, source folder, and optionally words that the names of the tests to run contain. 77: a build
without PortAudio."""
import functools, json, os, shutil, signal, subprocess, sys, tempfile, time, unittest, wave

import numpy as np

sys.dont_write_bytecode = True
from microphone import Model, Recording, check_words, has_heard, lost_words, run_tests, slowdown, spoken, wait_for  # noqa: E402

PROGRAM, FAKE, ROOT = (os.path.abspath(a) for a in sys.argv[1:4])
BOX = tempfile.mkdtemp(prefix="surtitle-fake.")
MODEL = Model(ROOT, BOX)


def record(lives, *options, **env):
    log = tempfile.mktemp(dir=BOX)
    env = {name: str(value) for name, value in env.items()}
    run = Recording(PROGRAM, MODEL, dict(os.environ, LD_PRELOAD=FAKE, FAKE_MIC=lives, FAKE_LOG=log, LC_ALL="C.UTF-8", **env),
                    *options)
    run.log = log
    return run


def times(run, what):
    """The times at which the fake did `what`, by time.monotonic."""
    try:
        with open(run.log) as f:
            return [float(line.split()[1]) for line in f if line.split()[0] == what]
    except FileNotFoundError:
        return []


@functools.cache
def of_the_file():
    r = subprocess.run([PROGRAM, "--model", MODEL.folder, "--format", "jsonl", MODEL.clip], capture_output=True, timeout=120, check=True)
    return [e for e in map(json.loads, r.stdout.decode().split("\n")[:-1]) if e["type"] == "text"]


def samples():
    with wave.open(MODEL.clip) as w:
        return np.frombuffer(w.readframes(w.getnframes()), "<i2"), w.getframerate()


def raw(rate):
    """Writes the clip at that rate; returns its path and its length in seconds."""
    x, own = samples()
    y = x if rate == own else np.interp(np.arange(len(x) * rate // own) * own / rate, np.arange(len(x)), x)
    path = f"{BOX}/{rate}.raw"
    np.asarray(y, "<i2").tofile(path)
    return path, len(x) / own


def check_clip(run):
    if MODEL.demo:
        check_words(spoken(of_the_file()), spoken(run.events("text")), lost_words(run))


class FakeMicrophone(unittest.TestCase):
    def test_said_while_the_model_loads(self):
        """Half of the clip has passed when the model is ready: all its words come, with their times."""
        path, seconds = raw(16000)
        want = of_the_file()
        run = record(f"16000 1 0 {path}", FAKE_SLOW_MS=5000)
        wait_for(lambda: times(run, "plays"), "the microphone")
        time.sleep(3)
        assert not run.events(), "the model was not slow"
        time.sleep(seconds + 1.5 - 3)
        has_heard(run, MODEL, seconds)
        run.end(since=times(run, "plays")[0])
        if lost_words(run):
            check_clip(run)
            return
        got = [e for e in run.events("text") if e["t1"] < seconds]
        assert got == [e for e in want if e["t1"] < seconds], (got, want)
        assert not MODEL.demo or len(got) > 20, got

    def test_back_at_another_rate(self):
        path, seconds = raw(44100)
        other, _ = raw(48000)
        run = record(f"48000 1 2 {other};44100 2 {int(seconds + 2)} {path};48000 1 0 {other}")
        wait_for(lambda: run.states() == ["lost", "back"], "the device")
        wait_for(lambda: run.states() == ["lost", "back"] * 2, "the device's second return")
        time.sleep(1)
        run.end(since=times(run, "plays")[0])
        lost, back, lost_again, _ = run.events("device")
        skips = [s for s in run.events("skip") if s["why"] == "device"]
        assert len(skips) == 2, skips
        for gone, plays, skip in zip(times(run, "gone"), times(run, "plays")[1:], skips):
            assert abs(skip["t1"] - skip["t0"] - (plays - gone)) < 0.2 * slowdown(), (gone, plays, skip)
        assert abs(lost["t"] - 2) < 0.2 and abs(skips[0]["t0"] - 2) < 0.1, (lost, skips)
        assert -0.1 < back["t"] - skips[0]["t1"] < slowdown(), (back, skips)
        # time is counted at the stream's own rate: 44,100 samples are a second
        assert abs(skips[1]["t0"] - skips[0]["t1"] - int(seconds + 2)) < 0.1, skips
        said = run.errors()
        assert said.count(" is gone: ") == 2 and said.count(" is back, at 44100 Hz\n") == 1, said
        assert said.count(") is back\n") == 1 and "hw:2,0" in said and said.count("\n") == 4, said
        if MODEL.demo:
            between = [e for e in run.events("text") if skips[0]["t1"] < e["t1"] < skips[1]["t0"]]
            check_words(spoken(of_the_file()), spoken(between), lost_words(run))

    def test_suspend_after_a_slow_one(self):
        """The first Ctrl-Z waits for a hanging sound server for a limited time; the second until the microphone is closed."""
        path, _ = raw(16000)
        run = record(f"16000 1 0 {path}", FAKE_HANG="Pa_StopStream 3")
        for n in (1, 2):
            run.wait_for_sound(n)
            run.p.send_signal(signal.SIGTSTP)
            wait_for(lambda: open(f"/proc/{run.p.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", "the stop")
            held = len(times(run, "started")) > len(times(run, "ended"))
            run.p.send_signal(signal.SIGCONT)
            assert held == (n == 1), open(run.log).read()
        run.wait_for_sound(3)
        run.end()
        assert run.errors() == "", run.errors()

    def test_channels(self):
        """The clip is heard on one input of several, and on all with every second one inverted, which a line reports."""
        path, seconds = raw(16000)
        runs = [record(f"16000 4 0 {path}", FAKE_INPUT=2), record(f"16000 2 0 {path}", FAKE_INPUT=-1),
                record(f"16000 18 0 {path}", "--channel", "4", FAKE_INPUT=4)]
        wrong = record(f"16000 18 0 {path}", "--channel", "19", FAKE_INPUT=4)
        assert wrong.p.wait(60) == 2 and wrong.errors().count("\n") == 1 and "has 18 channels" in wrong.errors(), wrong.errors()
        for run in runs:
            has_heard(run, MODEL, seconds)
            run.end()
            check_clip(run)
        said = [run.errors().count("antiphase") for run in runs]
        assert said == [0, 1, 0], said

    def test_first_block_late(self):
        """A late first block is waited for: the device is opened once, is not reported as lost, and nothing is skipped."""
        path, seconds = raw(16000)
        for run in [record(f"16000 1 0 {path}", FAKE_FIRST_MS=ms) for ms in (4000, 12000)]:
            wait_for(lambda: " delivers\n" in run.errors(), "the sound")
            has_heard(run, MODEL, seconds)
            end = run.end(since=times(run, "plays")[0])
            check_clip(run)
            assert not run.events("device") and end["skipped"] == 0 or lost_words(run), end
            said = run.errors()
            assert said.count("delivers nothing yet") == said.count(" delivers\n") == 1 and " gone" not in said, said
            assert len(times(run, "started")) == 1, open(run.log).read()

    def test_zeros_again(self):
        """Zeros are reported each time they begin, not once per run."""
        sound = np.random.default_rng(4).integers(-3000, 3000, 16000)
        path = BOX + "/zeros.raw"
        np.concatenate([sound, np.zeros(16000 * 6), sound]).astype("<i2").tofile(path)
        run = record(f"16000 1 0 {path}")
        wait_for(lambda: run.errors().count("zeros") == 2, "the second line")
        time.sleep(1)
        run.end()
        assert run.errors().count("\n") == 2, run.errors()


def main():
    r = subprocess.run([PROGRAM, "--list-devices"], capture_output=True, timeout=60)
    if b"no microphone support" in r.stderr:
        print("a build without PortAudio")
        return 77
    MODEL.make(10)
    return run_tests(sys.argv[4:], at_once=3)


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

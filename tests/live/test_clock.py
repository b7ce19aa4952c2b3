"""Times: sound that was lost, for any reason, is a skip at its position, and the clock advances; when a source pauses, its
last words come out. Arguments: program, fake PortAudio (fake_portaudio.c; - without one), source folder, and optionally
words that the names of the tests to run contain."""
import datetime, json, os, shutil, signal, subprocess, sys, tempfile, time, unittest, wave

sys.dont_write_bytecode = True
from microphone import Model, run_tests, wait_for  # noqa: E402

PROGRAM, FAKE, ROOT = os.path.abspath(sys.argv[1]), sys.argv[2], os.path.abspath(sys.argv[3])
BOX = tempfile.mkdtemp(prefix="surtitle-clock.")
MODEL = Model(ROOT, BOX)
RATE = 16000


class Run:
    def __init__(self, *arguments, stdin=subprocess.DEVNULL, **env):
        self.out = os.path.join(BOX, f"out.{time.monotonic_ns()}")
        self.err = self.out + ".err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.began, self.began_wall = time.monotonic(), time.time()
            self.p = subprocess.Popen([PROGRAM, "--model", MODEL.folder, *arguments], stdin=stdin, stdout=out, stderr=err,
                                      env=dict(os.environ, LC_ALL="C.UTF-8", **env))

    def text(self):
        with open(self.out, encoding="utf-8") as f:
            return f.read()

    def events(self, kind=None):
        return [e for e in map(json.loads, self.text().split("\n")[:-1]) if kind in (None, e["type"])]

    def errors(self):
        with open(self.err, encoding="utf-8") as f:
            return f.read()

    def end(self, how=None):
        """The last event, and the time from the start until the end was requested."""
        took = time.monotonic() - self.began
        if how:
            self.p.send_signal(how)
        assert self.p.wait(120) == 0, (self.p.returncode, self.errors())
        check_order(self.events())
        return self.events()[-1], took

    def stopped(self, seconds):
        self.p.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.p.send_signal(signal.SIGCONT)


def microphone(lives, events="", *options, **env):
    return Run("--format", "jsonl", *options, LD_PRELOAD=os.path.abspath(FAKE), FAKE_MIC=lives, FAKE_EVENTS=events,
               **{name: str(value) for name, value in env.items()})


def check_order(events):
    """Asserts that texts and skips are in the order of their times, none inside another."""
    last = 0
    for e in events:
        if e["type"] in ("text", "skip"):
            assert last <= e["t0"] <= e["t1"], (last, e, events)
            last = e["t1"]


def check_skips(run, *want, off=0.1):
    """Asserts that the skips are these (t0, length, why); None matches any value."""
    skips = run.events("skip")
    assert len(skips) == len(want), (skips, want, run.errors())
    for skip, (t0, length, why) in zip(skips, want):
        assert skip["why"] == why, (skips, want)
        assert t0 is None or abs(skip["t0"] - t0) < off, (skips, want)
        assert length is None or abs(skip["t1"] - skip["t0"] - length) < off, (skips, want)


def clip_samples():
    with wave.open(MODEL.clip) as w:
        assert w.getframerate() == RATE
        return w.readframes(w.getnframes())


def raw():
    return os.path.join(BOX, "clip.raw")


def texts(run):
    return [e["text"] for e in run.events("text")]


def heard(run, seconds):
    """Waits until captions have passed `seconds`; returns at once with a random model, which may say nothing there."""
    wait_for(lambda: not MODEL.demo or any(e["t1"] > seconds for e in run.events("text")), f"text at {seconds} s", 60)


def play(pieces, *options):
    """A run on a pipe that gets pieces of the clip: (from, to) in seconds, then calls then(run) if that is not None."""
    run = Run(*options, "-", stdin=subprocess.PIPE)
    samples = clip_samples()
    for a, b, then in pieces:
        run.p.stdin.write(samples[int(a * RATE) * 2:int(b * RATE) * 2])
        run.p.stdin.flush()
        if then:
            then(run)
    run.p.stdin.close()
    run.p.wait(120)
    return run


def of_the_file(seconds=None):
    with wave.open(os.path.join(BOX, "part.wav"), "wb") as w:
        w.setparams((1, 2, RATE, 0, "NONE", ""))
        w.writeframes(clip_samples()[:int(seconds * RATE) * 2] if seconds else clip_samples())
    run = Run("--format", "jsonl", os.path.join(BOX, "part.wav"))
    run.end()
    return run


@unittest.skipIf(FAKE == "-", "needs PortAudio")
class Microphone(unittest.TestCase):
    def test_mic_start(self):
        """PortAudio starts slowly, the model opens slowly, the first blocks are flagged: no gap, and the wall is the first
        sample's."""
        run = microphone(f"{RATE} 1 0 {raw()}", "0 0 flag 0;0 1 flag 0;0 20 flag 0", FAKE_START_MS=1000, FAKE_SLOW_MS=3000)
        wait_for(lambda: run.events("start"), "the start")
        time.sleep(1)
        end, took = run.end(signal.SIGINT)
        check_skips(run)
        wall = datetime.datetime.fromisoformat(run.events("start")[0]["wall"].replace("Z", "+00:00")).timestamp()
        # the first sample was recorded before the loading of the model
        assert 1 <= wall - run.began_wall <= took - end["t"] + 0.3, (wall - run.began_wall, took, end)

    def test_mic_lost_blocks(self):
        """A loss of 0.5 s without an overflow flag and two of 0.1 s with one; late blocks are not a loss."""
        events = "0 50 late 700;0 200 lose 500;0 300 lose 100;0 300 flag 0;0 301 lose 100;0 301 flag 0;0 400 late 600"
        for times in ["", "zero", "true"]:
            run = microphone(f"{RATE} 1 0 {raw()}", events, **({"FAKE_TIMES": times} if times else {}))
            heard(run, 5)
            end, took = run.end(signal.SIGINT)
            skips = run.events("skip")
            length = sum(s["t1"] - s["t0"] for s in skips)
            assert skips and abs(skips[0]["t0"] - 2) < 0.1 and {s["why"] for s in skips} == {"gap"}, skips
            assert abs(skips[0]["t1"] - skips[0]["t0"] - 0.5) < 0.1 and abs(length - 0.7) < 0.15, skips
            assert end["t"] < took + 0.1, (end, took)

    def test_mic_stopped(self):
        """The process is stopped while a part of the sound is lost: the skips follow one another."""
        run = microphone(f"{RATE} 1 0 {raw()}", "0 350 lose 700;0 350 flag 0;0 400 lose 500", "--max-lag", "2")
        heard(run, 1)
        run.stopped(6)
        wait_for(lambda: len(run.events("skip")) >= 2, "the skips")
        time.sleep(2)
        end, took = run.end(signal.SIGINT)
        assert end["t"] < took + 0.1 and took - end["t"] < 3, (end, took)
        assert {s["why"] for s in run.events("skip")} >= {"lag", "gap"}, run.events("skip")

    def test_mic_hundred_hours(self):
        """The device is away for 100 hours, then for a year; the first block comes late each time."""
        hours = [100, 24 * 366]
        events = ";".join(f"{i} -1 jump {h * 3600000};{i + 1} 0 late 600" for i, h in enumerate(hours))
        run = microphone(f"{RATE} 1 2 {raw()};{RATE} 1 2 {raw()};{RATE} 1 0 {raw()}", events)
        wait_for(lambda: len(run.events("device")) == 4, "the device's second return", 60)
        time.sleep(1)
        end, took = run.end(signal.SIGINT)
        check_skips(run, (2, hours[0] * 3600, "device"), (None, hours[1] * 3600, "device"), off=30)
        passed = end["t"] - sum(hours) * 3600
        assert -0.1 < took - passed < 3, (took, passed)
        lost, back = run.events("device")[:2]
        skip = run.events("skip")[0]
        assert lost["t"] == skip["t0"] and back["t"] == skip["t1"], (lost, back, skip)

    def test_mic_suspended(self):
        """The machine is suspended for two hours, then for ten minutes without the device."""
        run = microphone(f"{RATE} 1 4 {raw()};{RATE} 1 0 {raw()}", "0 200 sleep 7200000;0 -1 sleep 600000")
        wait_for(lambda: len(run.events("device")) == 2, "the device's return", 60)
        time.sleep(1)
        end, took = run.end(signal.SIGINT)
        check_skips(run, (2, 7200, "gap"), (None, 600, "device"), off=20)
        assert -0.1 < took - (end["t"] - 7800) < 3, (took, end)

    def test_mic_gives_up_last_words(self):
        """The device is lost within a word's delay: the words come before it is back, and the clock is right."""
        run = microphone(f"{RATE} 1 5 {raw()};{RATE} 1 0 {raw()}", FAKE_GONE_MS=10000)
        wait_for(lambda: run.events("device"), "the loss")
        heard(run, 4.6)
        assert len(run.events("device")) == 1, "the device was back before"
        before = texts(run)
        wait_for(lambda: len(run.events("device")) == 2, "the return", 60)
        heard(run, 16)
        end, took = run.end(signal.SIGINT)
        skip = run.events("skip")[0]
        assert len(run.events("skip")) == 1 and skip["why"] == "device" and abs(skip["t0"] - 5) < 0.02, skip
        assert 9.9 < skip["t1"] - skip["t0"] == end["skipped"], (skip, end)
        assert end["t"] < took + 0.1 and took - end["t"] < 3, (end, took)
        assert texts(run)[:len(before)] == before
        assert not MODEL.demo or before[-1] == " of", before


class PipesAndFiles(unittest.TestCase):
    def test_pipe_stalls(self):
        """The pipe pauses twice: the words before each pause come out during it, and each pause is one gap."""
        whole = texts(of_the_file())
        said = []

        def wait(run):
            wait_for(lambda: not MODEL.demo or texts(run)[-1:] == [" birds" if not said else " down"], "the last word")
            time.sleep(2)
            said.append(texts(run))
        run = play([(0, 5.2, wait), (5.2, 8.1, wait), (8.1, 20, None)], "--format", "jsonl")
        check_order(run.events())
        gap = 0.48 + 1.04
        check_skips(run, (5.2, gap, "gap"), (8.1 + gap, gap, "gap"), off=0.002)
        end = run.events("end")[0]
        assert abs(end["t"] - len(clip_samples()) / RATE / 2 - 2 * gap) < 0.002 and abs(end["skipped"] - 2 * gap) < 0.002, end
        if MODEL.demo:
            got = texts(run)
            assert got == said[0] + got[len(said[0]):] and got == said[1] + got[len(said[1]):], (said, got)
            assert len([w for w in whole if w not in got]) <= 2 and len(got) <= len(whole) + 2, (whole, got)

    def test_pipe_stall_is_shown(self):
        srt, caption = os.path.join(BOX, "stall.srt"), os.path.join(BOX, "caption.txt")

        def read(path):
            with open(path, encoding="utf-8") as f:
                return f.read()

        def wait(run):
            wait_for(lambda: not MODEL.demo or "of birds" in read(caption), "the last word in the caption file")
            wait_for(lambda: not MODEL.demo or "of birds" in read(srt), "the last word in the cues")
        run = play([(0, 5.2, wait), (5.2, 20, None)], "--format", "srt", "--output", srt, "--caption-file", caption)
        assert run.p.returncode == 0, run.errors()
        assert read(srt).count("[skipped 1.5 s]") == 1 and (not MODEL.demo or read(srt).count("birds") == 1), read(srt)

    def test_pipe_paced_stalls(self):
        """With --pace, too, the last word comes out during the pause."""
        def wait(run):
            wait_for(lambda: not MODEL.demo or texts(run)[-1:] == [" birds"], "the last word")
        run = play([(0, 5.2, wait), (5.2, 6.2, None)], "--format", "jsonl", "--pace")
        assert run.p.returncode == 0, run.errors()
        check_skips(run, *[(5.2, 0.48 + 1.04, "gap")] if MODEL.demo else [], off=0.002)

    def test_pipe_stall_at_start_and_end(self):
        """A pause before the first sample changes nothing; one at the end repeats nothing."""
        part = of_the_file(5.2)

        def wait(run):
            wait_for(lambda: not MODEL.demo or texts(run)[-1:] == [" birds"], "the last word")
            time.sleep(2)
        run = play([(0, 0, lambda run: time.sleep(3)), (0, 5.2, wait)], "--format", "jsonl")
        assert run.p.returncode == 0 and texts(run) == texts(part), (texts(run), texts(part))
        check_skips(run)
        end = run.events("end")[0]
        assert end["t"] == 5.2 and end["skipped"] == 0, end
        check_order(run.events())
        run = play([(0, 0, lambda run: time.sleep(3)), (0, 20, None)], "--format", "jsonl")
        assert run.events("text") == of_the_file().events("text")
        check_skips(run)

    def test_paced_file_stopped(self):
        """After a stop (Ctrl-Z) nothing is lost or skipped, and the pace is kept."""
        whole = of_the_file().events("text")
        run = Run("--format", "jsonl", "--pace", MODEL.clip)
        heard(run, 1)
        run.stopped(8)
        end, _ = run.end()
        assert run.events("text") == whole and end["skipped"] == 0, run.events()
        check_skips(run)
        assert time.monotonic() - run.began > 8 + end["t"], end


def main():
    MODEL.make(10)
    with open(raw(), "wb") as f:
        f.write(clip_samples())
    return run_tests(sys.argv[4:])


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

"""The program on a microphone that does as it is told (fake_portaudio.c, preloaded): what a sound server never does.
Arguments: program, the fake, source folder, and optionally words that the names of the tests to run contain. 77: a build
without PortAudio."""
import json, os, shutil, signal, subprocess, sys, tempfile, time, wave

import numpy as np

PROGRAM, FAKE, ROOT = (os.path.abspath(a) for a in sys.argv[1:4])
BOX = tempfile.mkdtemp(prefix="surtitle-fake.")
MODEL = os.path.join(ROOT, "models", "demo")
HAS_DEMO = os.path.exists(os.path.join(MODEL, "consolidated.safetensors"))
CLIP = os.path.join(MODEL, "clip.wav") if HAS_DEMO else BOX + "/clip.wav"
MODEL = MODEL if HAS_DEMO else BOX + "/model"


def wait_for(true, what, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} does not come"
        time.sleep(0.02)


class Run:
    def __init__(self, lives, slow_ms=0):
        env = dict(os.environ, LD_PRELOAD=FAKE, FAKE_MIC=lives, FAKE_SLOW_MS=str(slow_ms), LC_ALL="C.UTF-8")
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.p = subprocess.Popen([PROGRAM, "--model", MODEL, "--format", "jsonl"], env=env, stdin=subprocess.DEVNULL,
                                  stdout=self.out, stderr=self.err)

    def events(self, kind=None):
        lines = os.pread(self.out.fileno(), 1 << 24, 0).decode().split("\n")[:-1]
        return [e for e in map(json.loads, lines) if kind in (None, e["type"])]

    def errors(self):
        return os.pread(self.err.fileno(), 1 << 20, 0).decode()

    def states(self):
        return [e["state"] for e in self.events("device")]

    def end(self):
        took = time.monotonic() - self.began
        self.p.send_signal(signal.SIGINT)
        assert self.p.wait(30) == 0, (self.p.returncode, self.errors())
        return self.events()[-1], took


def words(events):
    return "".join(c for c in "".join(e["text"] for e in events).lower() if c.isalnum() or c == " ").split()


def of_the_file():
    r = subprocess.run([PROGRAM, "--model", MODEL, "--format", "jsonl", CLIP], capture_output=True, timeout=120, check=True)
    return [e for e in map(json.loads, r.stdout.decode().split("\n")[:-1]) if e["type"] == "text"]


def samples():
    with wave.open(CLIP) as w:
        return np.frombuffer(w.readframes(w.getnframes()), "<i2"), w.getframerate()


def raw(rate):
    """The clip at that rate; returns its path and how long it is."""
    x, own = samples()
    y = x if rate == own else np.interp(np.arange(len(x) * rate // own) * own / rate, np.arange(len(x)), x)
    path = f"{BOX}/{rate}.raw"
    np.asarray(y, "<i2").tofile(path)
    return path, len(x) / own


def test_said_while_the_model_loads():
    """The clip begins with the first callback, and is half over before the model is there: its words, at their times."""
    path, seconds = raw(16000)
    want = of_the_file()
    run = Run(f"16000 1 0 {path}", slow_ms=5000)
    time.sleep(4)
    assert not run.events(), "the model was not slow"
    time.sleep(max(0, seconds + 1.5 - (time.monotonic() - run.began)))
    end, took = run.end()
    got = [e for e in run.events("text") if e["t1"] < seconds]
    assert got == [e for e in want if e["t1"] < seconds], (got, want)
    assert not HAS_DEMO or len(got) > 20, got
    assert end["skipped"] == 0 and not run.events("skip") and "behind" not in run.errors(), (end, run.errors())
    assert -0.1 < took - end["t"] < 1, (took, end)


def test_back_at_another_rate():
    path, seconds = raw(44100)
    other, _ = raw(48000)
    run = Run(f"48000 1 2 {other};44100 2 {int(seconds + 2)} {path};48000 1 0 {other}")
    wait_for(lambda: run.states() == ["lost", "back"], "the device")
    wait_for(lambda: run.states() == ["lost", "back"] * 2, "the device's second return", seconds + 10)
    time.sleep(1)
    end, took = run.end()
    lost, back, lost_again, _ = run.events("device")
    skips = run.events("skip")
    assert [s["why"] for s in skips] == ["device"] * 2 and all(1 < s["t1"] - s["t0"] < 6 for s in skips), skips
    assert abs(lost["t"] - 2) < 0.2 and abs(skips[0]["t0"] - 2) < 0.1 and abs(back["t"] - skips[0]["t1"]) < 1, (lost, skips)
    # as much time as has passed: 44,100 samples are a second
    assert abs(skips[1]["t0"] - skips[0]["t1"] - int(seconds + 2)) < 0.1, skips
    assert -0.2 < took - end["t"] < 1, (took, end)
    said = run.errors()
    assert said.count(" is gone: ") == 2 and said.count(" is back, at 44100 Hz\n") == 1, said
    assert said.count(") is back\n") == 1 and "hw:2,0" in said and said.count("\n") == 4, said
    if HAS_DEMO:
        got = words(e for e in run.events("text") if skips[0]["t1"] < e["t1"] < skips[1]["t0"])
        want = words(of_the_file())
        missed = [w for w in want if w not in got]
        assert len(missed) <= len(want) // 4, (want, got)


def main():
    r = subprocess.run([PROGRAM, "--list-devices"], capture_output=True, timeout=60)
    if b"no microphone support" in r.stderr:
        print("a build without PortAudio")
        return 77
    if not HAS_DEMO:
        make = os.path.join(ROOT, "tools", "make_checkpoint.py")
        subprocess.run([sys.executable, make, MODEL, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                       stdout=subprocess.DEVNULL)
        with wave.open(CLIP, "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(np.random.default_rng(2).integers(-9000, 9000, 160000).astype("<i2").tobytes())
    passed, failed = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or not all(word in name for word in sys.argv[4:]):
            continue
        began = time.monotonic()
        try:
            test()
            passed += 1
            print(f"{name}: {time.monotonic() - began:.1f} s")
        except Exception as e:
            failed += 1
            line = e.__traceback__.tb_next.tb_lineno if e.__traceback__.tb_next else 0
            print(f"{name}, line {line}: {type(e).__name__}: {str(e)[:1500]}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

#!/usr/bin/env python3
"""What people feed the program with: channels that are dead or cancel each other, files whose header lies, containers,
pipes. Everything in a recording is captioned, or one line says what is not.

usage: test_input.py PROGRAM MODEL [NAME...]     (MODEL: models/demo; 77 while it has no weights; NAME: a part of a test's)
"""
import os
import subprocess
import sys
import tempfile
import wave

import numpy as np

PROGRAM, MODEL = (os.path.abspath(a) for a in sys.argv[1:3])
if not os.path.exists(MODEL + "/consolidated.safetensors"):
    print("skipped: no weights in", MODEL)
    sys.exit(77)
BOX = tempfile.mkdtemp(prefix="surtitle-input.")
LONG = 120  # seconds that no run here takes


def run(*args, data=None, **more):
    if data is not None:
        more["input"] = data
    return subprocess.run([PROGRAM, "--model", MODEL, *args], capture_output=True, timeout=LONG, **more)


def path(name, data=None):
    p = os.path.join(BOX, name)
    if data is not None:
        with open(p, "wb") as f:
            f.write(data)
    return p


def clip(name):
    """Samples of a bundled clip as int16, and its words."""
    with wave.open(f"{MODEL}/{name}.wav") as w:
        return np.frombuffer(w.readframes(w.getnframes()), "<i2"), open(f"{MODEL}/{name}.txt").read().split()


def make_wav(name, samples, rate=16000):
    """samples: [frames] or [frames, channels], int16 or -1..1."""
    if samples.dtype != np.int16:
        samples = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(path(name), "wb") as w:
        w.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(samples.tobytes())
    return path(name)


def expect(r, status, words=None, lines=0, holds=()):
    """The exit status, the words of the captions and the number of lines on standard error."""
    said, heard = r.stderr.decode(), r.stdout.decode().split()
    assert r.returncode == status, (r.args[3:], r.returncode, said)
    assert words is None or heard == words, (r.args[3:], " ".join(heard), said)
    assert said.count("\n") == lines and all(l.startswith("surtitle: ") for l in said.splitlines()), (r.args[3:], said)
    for part in holds:
        assert part in said, (r.args[3:], part, said)
    return r


def as_file_and_pipe(name, **more):
    """The same captions from a file, and from its bytes on a pipe."""
    expect(run(path(name)), **more)
    expect(run("-", data=open(path(name), "rb").read()), **more)


SPEECH, WORDS = clip("clip")
OTHER, OTHER_WORDS = clip("flite")


# ---- channels ----

def test_dead_channels():
    rng = np.random.default_rng(1)
    for dead, more, level in [(0, {}, 0.1), (1e-4, {}, 0.1), (3e-4, {}, 0.25)]:
        x = rng.normal(0, dead, (len(SPEECH), 18))
        x[:, 3] += level * SPEECH / 32768
        make_wav("many.wav", x)
        as_file_and_pipe("many.wav", status=0, words=WORDS)
        expect(run("--pace", path("many.wav")), 0, WORDS)
        x = x[:, 2:6]
        make_wav("second.wav", x)
        as_file_and_pipe("second.wav", status=0, words=WORDS)
        expect(run("--pcm", "s16le", "--channels", "4", "-", data=np.round(x * 32767).astype("<i2").tobytes()), 0, WORDS)


def test_channel_by_number():
    n = min(len(SPEECH), len(OTHER))
    make_wav("two.wav", np.stack([SPEECH, np.resize(OTHER, len(SPEECH))], 1)[:n])
    one, other = run(make_wav("one.wav", SPEECH[:n])), run(make_wav("other.wav", OTHER[:n]))
    for how in [[path("two.wav")], ["--pace", path("two.wav")], ["-"]]:
        data = open(path("two.wav"), "rb").read() if how == ["-"] else b""
        assert run("--channel", "1", *how, data=data).stdout == one.stdout
        assert run("--channel", "2", *how, data=data).stdout == other.stdout
        expect(run("--channel", "3", *how, data=data), 2, [], 1, ["--channel 3", "2 channels"])
    expect(run("--channel", "65", path("two.wav")), 2, [], 1, ["--channel", "1 to 64"])


def test_antiphase():
    make_wav("anti.wav", np.stack([SPEECH, -SPEECH], 1) / 32768)
    as_file_and_pipe("anti.wav", status=0, words=WORDS, lines=1, holds=["cancel each other"])


def test_silence():
    for seconds in [1, 20]:
        make_wav("zeros.wav", np.zeros(16000 * seconds, "<i2"))
        as_file_and_pipe("zeros.wav", status=0, words=[], lines=1, holds=["nothing but zeros"])
    make_wav("quiet.wav", SPEECH / 32768 / 1000)
    as_file_and_pipe("quiet.wav", status=0, words=[], lines=1, holds=["-60 dBFS"])
    # once for each time that it happens
    gap = np.zeros(16000 * 6, "<i2")
    make_wav("gaps.wav", np.concatenate([SPEECH, gap, SPEECH, gap, SPEECH]))
    as_file_and_pipe("gaps.wav", status=0, words=3 * WORDS, lines=2, holds=["nothing but zeros"])


def main():
    failed = 0
    tests = [(n[5:], f) for n, f in globals().items() if n.startswith("test_")]
    chosen = [t for t in tests if any(a in t[0] for a in sys.argv[3:])] if sys.argv[3:] else tests
    for name, test in chosen:
        try:
            test()
            print("ok  ", name, flush=True)
        except AssertionError as e:
            failed += 1
            print("FAIL", name, str(e)[:2000], flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    status = main()
    subprocess.run(["rm", "-rf", BOX])
    sys.exit(status)

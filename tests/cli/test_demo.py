#!/usr/bin/env python3
"""The bundled model in the program: every word of its clips, none lost at either end, none in silence and noise.

usage: test_demo.py PROGRAM MODEL     (MODEL: models/demo; 77 while it has no weights)
"""
import array
import os
import random
import subprocess
import sys
import wave

program, model = sys.argv[1:3]
if not os.path.exists(model + "/consolidated.safetensors"):
    print("skipped: no weights in", model)
    sys.exit(77)
passed = failed = 0


def words(samples, *options):
    """The program's words for 16 kHz samples on standard input."""
    done = subprocess.run([program, "--model", model, *options, "--pcm", "s16le", "-"], input=samples.tobytes(),
                          stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


def clip(name):
    with wave.open(f"{model}/{name}.wav") as w:
        assert w.getframerate() == 16000 and w.getnchannels() == 1
        return array.array("h", w.readframes(w.getnframes())), open(f"{model}/{name}.txt").read().split()


def expect(what, got, right):
    global passed, failed
    passed, failed = passed + right, failed + (not right)
    print("ok  " if right else "FAIL", what, "" if right else "got: " + " ".join(got))


for name in ["clip", "espeak", "flite"]:
    sound, text = clip(name)
    for delay in ["480", "960"]:
        got = words(sound, "--delay", delay)
        expect(f"{name} at {delay} ms", got, got == text)
sound, text = clip("clip")
loud = [i for i, v in enumerate(sound) if abs(v) > 300]
got = words(sound[loud[0]:])
expect("speech from the first sample", got, got == text)
got = words(sound[:loud[-1] + 1])
expect("the end right after the last word", got, got == text)
got = words(array.array("h", bytes(2 * 16000 * 20)))
expect("20 s of silence", got, not got)
rng = random.Random(1)
for level in [30, 300, 3000]:
    got = words(array.array("h", (int(rng.gauss(0, level)) for _ in range(16000 * 10))))
    expect(f"10 s of white noise, rms {level}", got, len(got) <= 2)
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(failed > 0)

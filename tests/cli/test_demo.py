#!/usr/bin/env python3
"""The bundled model in the program: every word of its clips, none lost at either end, none in silence, few in noise.

usage: test_demo.py PROGRAM MODEL [NAME...]     (MODEL: models/demo, status 77 while it has no weights)
"""
import array, os, random, subprocess, sys, unittest, wave

PROGRAM, MODEL = sys.argv[1:3]
if not os.path.exists(MODEL + "/consolidated.safetensors"):
    print("skipped: no weights in", MODEL)
    sys.exit(77)


def words(samples, *options):
    """The program's words for 16 kHz samples on standard input."""
    done = subprocess.run([PROGRAM, "--model", MODEL, *options, "--pcm", "s16le", "-"], input=samples.tobytes(),
                          stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


def clip(name):
    """The samples of a bundled clip, and its words."""
    with wave.open(f"{MODEL}/{name}.wav") as w, open(f"{MODEL}/{name}.txt", encoding="utf-8") as text:
        assert w.getframerate() == 16000 and w.getnchannels() == 1
        return array.array("h", w.readframes(w.getnframes())), text.read().split()


class Demo(unittest.TestCase):
    def test_clips(self):
        for name in ["clip", "espeak", "flite"]:
            sound, text = clip(name)
            for delay in ["480", "960"]:
                self.assertEqual(words(sound, "--delay", delay), text, (name, delay))

    def test_ends(self):
        sound, text = clip("clip")
        loud = [i for i, v in enumerate(sound) if abs(v) > 300]
        self.assertEqual(words(sound[loud[0]:]), text, "speech from the first sample")
        self.assertEqual(words(sound[:loud[-1] + 1]), text, "the end right after the last word")

    def test_silence_and_noise(self):
        self.assertEqual(words(array.array("h", bytes(2 * 16000 * 20))), [])
        rng = random.Random(1)
        for level in [30, 300, 3000]:
            noise = array.array("h", (int(rng.gauss(0, level)) for _ in range(16000 * 10)))
            self.assertLessEqual(len(words(noise)), 2, f"10 s of white noise, rms {level}")


unittest.main(argv=[sys.argv[0], *sys.argv[3:]])

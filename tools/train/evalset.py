#!/usr/bin/env python3
"""Write the evaluation set: WAV files and their words, from sentences and voice settings that training never uses.

usage: evalset.py OUT [--clips 150]      OUT gets list.tsv (KIND<TAB>FILE<TAB>WORDS) and the WAVs

Kinds: espeak, flite (one or two sentences each, half a second of near-silence around them, a little noise at 30 to
45 dB below the speech), first (speech from the very first sample, none after the last), silence (digital), noise
(white, 60 s at five levels), and joined (clips of both families in one file of 20 minutes). The same seed, the same
set.
"""

import argparse, os, random, wave
import numpy as np
from synth import Text, Voices, clean, draw_voice, say


def write(path, x):
    with wave.open(path, "wb") as w:
        w.setparams((1, 2, 16000, 0, "NONE", ""))
        w.writeframes(np.clip(np.round(x), -32768, 32767).astype("<i2").tobytes())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out"), ap.add_argument("--clips", type=int, default=150)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    voices, text, rng, noise = Voices(), Text(True), random.Random(20), np.random.default_rng(20)
    rows, joined = [], []

    def speak(family):
        """(samples, words) of 4 s or more."""
        parts, words, setting = [], [], draw_voice(rng, True, family)
        while sum(map(len, parts)) < 64000:
            s = text.sentence(rng)
            got = say(voices, rng, s, setting, warp=False)
            if got:
                parts += ([np.zeros(rng.randint(3000, 9000), np.float32)] if parts else []) + [got[0]]
                words += clean(s)
        x = np.concatenate(parts)
        return x * 10 ** (rng.uniform(-12, 3) / 20), words

    def put(kind, name, x, words):
        write(f"{a.out}/{name}.wav", x)
        rows.append(f"{kind}\t{name}.wav\t{' '.join(words)}\n")

    for family in ("espeak", "flite"):
        for i in range(a.clips):
            x, words = speak(family)
            x = np.concatenate([np.zeros(8000, np.float32), x, np.zeros(8000, np.float32)])
            x = x + noise.standard_normal(len(x)) * np.sqrt((x * x).mean()) * 10 ** (-rng.uniform(30, 45) / 20)
            put(family, f"{family}-{i:03d}", x, words)
            joined.append((x, words))
    for i in range(60):
        x, words = speak(("espeak", "flite")[i % 2])
        put("first", f"first-{i:02d}", x, words)
    put("silence", "silence", np.zeros(60 * 16000), [])
    for db in (-60, -50, -40, -30, -20):
        put("noise", f"noise{db}", noise.standard_normal(60 * 16000) * 32768 * 10 ** (db / 20), [])
    rng.shuffle(joined)
    long, words = [], []
    while sum(map(len, long)) < 20 * 60 * 16000 and joined:
        x, w = joined.pop()
        long.append(x)
        words += w
    put("joined", "joined", np.concatenate(long), words)
    open(a.out + "/list.tsv", "w").writelines(rows)


main()

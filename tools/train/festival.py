#!/usr/bin/env python3
"""Add festival's voices, which training never hears, to an evaluation set: the words of its espeak clips, spoken anew.

usage: festival.py SET [--clips 50]     SET is evalset.py's; kinds festival-VOICE, --clips each, join its list.tsv

Debian's festival with festvox-kallpc16k, festvox-kdlpc16k, festvox-us-slt-hts (speech at 16 kHz). Half a second of
near-silence around the speech and noise 30 to 45 dB below it, at the levels of evalset.py. The same set, the same clips.
"""

import argparse, os, random, subprocess, tempfile, wave
import numpy as np

VOICES = {"kal": "kal_diphone", "ked": "ked_diphone", "slt": "cmu_us_slt_arctic_hts"}


def speak(voice, words):
    with tempfile.NamedTemporaryFile(suffix=".wav") as f:
        subprocess.run(["text2wave", "-eval", f"(voice_{voice})", "-F", "16000", "-o", f.name], input=words.encode(),
                       check=True)
        with wave.open(f.name) as w:
            assert (w.getframerate(), w.getnchannels(), w.getsampwidth()) == (16000, 1, 2)
            return np.frombuffer(w.readframes(w.getnframes()), "<i2").astype(np.float32)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("set"), ap.add_argument("--clips", type=int, default=50)
    a = ap.parse_args()
    rng, noise = random.Random(21), np.random.default_rng(21)
    rows = [line.rstrip("\n").split("\t") for line in open(a.set + "/list.tsv")]
    rows = [r for r in rows if not r[0].startswith("festival")]
    sentences = [words for kind, _, words in rows if kind == "espeak"]
    for i in range(a.clips * len(VOICES)):
        name = sorted(VOICES)[i % len(VOICES)]
        words = sentences[i % len(sentences)]
        x = speak(VOICES[name], words)
        x *= 3000 / np.sqrt((x * x).mean()) * 10 ** (rng.uniform(-12, 3) / 20)
        x = np.concatenate([np.zeros(8000, np.float32), x, np.zeros(8000, np.float32)])
        x += noise.standard_normal(len(x)) * np.sqrt((x * x).mean()) * 10 ** (-rng.uniform(30, 45) / 20)
        file = f"festival-{name}-{i:03d}.wav"
        with wave.open(os.path.join(a.set, file), "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(np.clip(np.round(x), -32768, 32767).astype("<i2").tobytes())
        rows.append([f"festival-{name}", file, words])
    open(a.set + "/list.tsv", "w").writelines("\t".join(r) + "\n" for r in rows)


main()

#!/usr/bin/env python3
"""Write the sample clips beside the demo model: clips.py MODEL_DIR.

The sentences are this project's own and free to use (CC0)."""

import random, sys, wave
import numpy as np
from synth import FLITE, Voices, clean, say

SLT, RMS, AWB = 0, 1, 2
# Settings from the bands that training never uses.
flite = lambda v: ("flite", (v, 1.0, FLITE[v][1] * 1.08, 12.0))
CLIPS = {
    "clip": [
        (flite(SLT), "good morning. the kettle is on, the window is open, and the garden is full of birds."),
        (flite(SLT), "every word that you hear is written down, while i am still speaking."),
    ],
    "espeak": [
        (
            ("espeak", ("en+f3", 150, 50, 50)),
            "the night train left the station at last, and the city lights grew small behind us.",
        ),
        (("espeak", ("en-us+m5", 150, 45, 50)), "nobody spoke until we had crossed the river."),
    ],
    "flite": [
        (flite(RMS), "the old map shows a road along the coast, but the sea has taken most of it."),
        (flite(AWB), "follow the path over the hill, until you see the house with the green door."),
    ],
}


def main():
    voices, rng, noise = Voices(), random.Random(1), np.random.default_rng(1)
    for name, parts in CLIPS.items():
        x = [np.zeros(8000)]
        for setting, text in parts:
            x += [say(voices, rng, text, setting, warp=False)[0], np.zeros(11000)]
        x = np.concatenate(x)
        x = x + noise.standard_normal(len(x)) * 4  # a quiet room: 78 dB below full scale
        with wave.open(f"{sys.argv[1]}/{name}.wav", "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(np.clip(np.round(x), -32768, 32767).astype("<i2").tobytes())
        with open(f"{sys.argv[1]}/{name}.txt", "w") as f:
            f.write("".join(" ".join(clean(t)) + "\n" for _, t in parts))


main()

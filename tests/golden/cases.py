#!/usr/bin/env python3
"""The checkpoints, clips and cases of the golden tests. Everything is made from seeds; only the answers are committed.

usage: cases.py CASE FOLDER     writes FOLDER/model and FOLDER/clip.wav of that case, for the tests in C
"""
import hashlib
import os
import sys
import wave

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
sys.dont_write_bytecode = True
import make_checkpoint  # noqa: E402

RATE = 16000

# Gain 1.5: the tokens follow the sound. Windows are so small that the long clip wraps them several times.
MODELS = {
    # Both windows wrap; grouped heads in the decoder.
    "wrap": {"settings": [], "seed": 11},
    # Nothing is a multiple of 16; other mel bins; heads that are neither powers of two nor as wide as the model.
    "odd": {"settings": ["dim=100", "n_layers=2", "n_heads=6", "n_kv_heads=3", "head_dim=20", "hidden_dim=212",
                         "vocab_size=1301", "sliding_window=37", "ada_dim=7", "n_mels=80", "enc.dim=84",
                         "enc.n_layers=2", "enc.n_heads=3", "enc.n_kv_heads=3", "enc.head_dim=40",
                         "enc.hidden_dim=150", "enc.sliding_window=29"], "seed": 22},
    # The end-of-sequence token wins about a tenth of the steps; grouped heads in the encoder too.
    "eos": {"settings": ["dim=128", "n_heads=4", "n_kv_heads=4", "head_dim=36", "sliding_window=100",
                         "enc.n_kv_heads=2", "enc.sliding_window=130"], "seed": 35, "eos_scale": 3.2},
}

# name: model, clip, delay in ms, how keys and values are kept
CASES = {
    "wrap-long-480-fp16": ("wrap", "long", 480, "fp16"),
    "wrap-long-480-fp32": ("wrap", "long", 480, "fp32"),
    "wrap-cut-2400-fp16": ("wrap", "cut", 2400, "fp16"),
    "wrap-blip-80-fp32": ("wrap", "blip", 80, "fp32"),
    "wrap-one-480-fp16": ("wrap", "one", 480, "fp16"),
    "odd-long-80-fp32": ("odd", "long", 80, "fp32"),
    "odd-long-2400-fp16": ("odd", "long", 2400, "fp16"),
    "odd-cut-1200-fp16": ("odd", "cut", 1200, "fp16"),
    "odd-blip-480-fp16": ("odd", "blip", 480, "fp16"),
    "eos-long-480-fp16": ("eos", "long", 480, "fp16"),
    "eos-long-1200-fp32": ("eos", "long", 1200, "fp32"),
    "eos-cut-80-fp32": ("eos", "cut", 80, "fp32"),
}
QUICK = ["wrap-cut-2400-fp16", "wrap-one-480-fp16", "odd-cut-1200-fp16", "eos-cut-80-fp32"]

# How far a margin may be from the reference's (docs/model.md, "Arithmetic").
BOUNDS = {"fp16": 2e-3, "fp32": 1e-4}


def signal(seconds, seed):
    """Stretches of a tenth to nine tenths of a second: chirps with harmonics, noise, silence, steps of loudness."""
    random = np.random.Generator(np.random.PCG64(seed))
    n, out = int(round(seconds * RATE)), []
    while sum(map(len, out)) < n:
        m = int(RATE * (0.1 + 0.8 * random.random()))
        kind, loud = int(random.random() * 4), 10 ** (-2.5 * random.random())
        t = np.arange(m) / RATE
        if kind == 0:
            out.append(np.zeros(m))
        elif kind == 1:
            out.append(loud * (2 * random.random(m) - 1))
        else:
            low, high = 80 + 400 * random.random(), 100 + 3000 * random.random()
            phase = 2 * np.pi * (low * t + (high - low) * t * t * RATE / m / 2)
            voice = np.sin(phase) + 0.5 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)
            steps = np.where(t * 6 % 1 < 0.5, 1.0, 0.3) if kind == 3 else 1.0
            out.append(loud * 0.5 * voice * steps)
    return np.concatenate(out)[:n]


def tone(seconds, hz):
    return 0.4 * np.sin(2 * np.pi * hz * np.arange(int(round(seconds * RATE))) / RATE)


CLIPS = {
    "long": lambda: signal(21.2371, 1),                                      # 339,794 samples: not a whole token
    "cut": lambda: np.concatenate([signal(2.6, 2), tone(0.503, 310.0)]),     # loud to the last sample
    "blip": lambda: tone(0.07, 440.0),
    "one": lambda: np.array([0.25]),                                         # a single sample
}


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def write_model(name, folder):
    """Returns the SHA-256 of the weights."""
    m = MODELS[name]
    make_checkpoint.write(folder, make_checkpoint.sizes("tiny", m["settings"]), m["seed"], gain=1.5,
                          eos_scale=m.get("eos_scale", 1.0))
    return sha256(os.path.join(folder, "consolidated.safetensors"))


def write_clip(name, path):
    """Returns the SHA-256 of the file."""
    samples = np.clip(np.rint(CLIPS[name]() * 32767), -32768, 32767).astype("<i2")
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(samples.tobytes())
    return sha256(path)


def golden_path(case):
    return os.path.join(HERE, case + ".json")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in CASES:
        sys.exit(__doc__)
    os.makedirs(sys.argv[2], exist_ok=True)
    write_model(CASES[sys.argv[1]][0], os.path.join(sys.argv[2], "model"))
    write_clip(CASES[sys.argv[1]][1], os.path.join(sys.argv[2], "clip.wav"))

#!/usr/bin/env python3
"""Hold a surtitle program to the fp64 reference on quantised checkpoints: the reference runs the dequantised weights.

usage: check_quantised.py PROGRAM QUANTIZE [--quick] [-- OPTION...]     (options for the program)

Random checkpoints of five shapes are quantised to every type. Alone, the program must say the same tokens up to the
first step where the reference itself is within the bound of a tie; fed the reference's tokens, every margin must be
within the bound.

The bound. Products are exact except for their activations, which are kept in 16 bits relative to the largest of 32: an
error of at most 2^-16 of that, while a value that is kept in fp16 has 2^-11 of itself. The largest of 32 is about four
times as large as their root mean square, so the error of a column is 2^-14, an eighth of fp16's. Keys and values in
fp16 stand in two products per layer and move margins by less than 2e-3 (docs/model.md); quantised activations stand in
seven: 2e-3 / 8 * 7 / 2 is below 1e-3. The rest of the arithmetic has the bound of its kind of keys and values.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import cases
import check_golden
import make_checkpoint  # tools/, on the path by cases
import reference

ACTIVATIONS = 1e-3
TYPES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m")
SHAPES = {
    # Rows of 256 and more, as K types want them; grouped heads.
    "blocks": ["dim=256", "n_heads=4", "n_kv_heads=2", "head_dim=64", "hidden_dim=768", "ada_dim=32", "enc.dim=256",
               "enc.n_heads=4", "enc.n_kv_heads=4", "enc.head_dim=64", "enc.hidden_dim=512"],
    # Rows that 256 does not divide: Q8_0 in all types, segments that end early.
    "short": ["dim=96", "n_heads=3", "n_kv_heads=1", "head_dim=32", "hidden_dim=288", "ada_dim=32", "enc.dim=160",
              "enc.n_heads=5", "enc.n_kv_heads=5", "enc.head_dim=32", "enc.hidden_dim=352"],
    # Rows of both kinds, and numbers of rows that 16 does not divide.
    "mixed": ["dim=256", "n_heads=6", "n_kv_heads=3", "head_dim=32", "hidden_dim=736", "vocab_size=1301",
              "ada_dim=32", "enc.dim=128", "enc.n_heads=4", "enc.n_kv_heads=2", "enc.head_dim=24",
              "enc.hidden_dim=1024"],
    # Attention wider than the model, as the published encoder's is.
    "wide": ["dim=256", "n_heads=8", "n_kv_heads=8", "head_dim=64", "hidden_dim=512", "ada_dim=32", "enc.dim=256",
             "enc.n_heads=8", "enc.n_kv_heads=8", "enc.head_dim=64", "enc.hidden_dim=768"],
    # One wide layer: long sums.
    "long": ["dim=1024", "n_layers=1", "n_heads=8", "n_kv_heads=2", "head_dim=128", "hidden_dim=3072", "ada_dim=32",
             "enc.dim=768", "enc.n_layers=1", "enc.n_heads=8", "enc.n_kv_heads=8", "enc.head_dim=96",
             "enc.hidden_dim=2304"],
}
QUICK = [("blocks", "q4_k_m", "fp32"), ("short", "q5_k_m", "fp16"), ("mixed", "q6_k", "fp32"), ("mixed", "q8_0", "fp32")]


def make(shape, kind, folder, quantize):
    """The path of a checkpoint of that shape and type; None and a line if it cannot be made."""
    model, path = os.path.join(folder, shape), os.path.join(folder, f"{shape}-{kind}.gguf")
    if not os.path.exists(model):
        sizes = make_checkpoint.sizes("tiny", SHAPES[shape])
        make_checkpoint.write(model, sizes, 40 + list(SHAPES).index(shape), gain=1.5)
    done = subprocess.run([quantize, model, path, "--type", kind], capture_output=True, text=True, timeout=300)
    return (path, None) if done.returncode == 0 else (None, done.stderr.strip())


def check(a, shape, kind, kv, delay_ms, folder):
    """What differs (None: nothing) and a line of figures."""
    path, error = make(shape, kind, folder, a.quantize)
    if error:
        return error, ""
    wav = os.path.join(folder, "clip.wav")
    tokens, margins, _ = reference.transcribe(reference.Model(path, kv), reference.read_wav(wav), delay_ms)
    options = ["--model", path, "--backend", "cpu", "--kv", kv, "--delay", str(delay_ms), *a.options]
    return check_golden.compare({"tokens": tokens, "margins": margins}, a.program, options, wav, folder,
                                cases.BOUNDS[kv] + ACTIVATIONS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("quantize")
    parser.add_argument("--quick", action="store_true", help="four cases")
    a = check_golden.parse(parser)
    todo = QUICK if a.quick else [(shape, kind, kv) for shape in SHAPES for kind in TYPES for kv in ("fp32", "fp16")]
    delays = (480, 80, 960, 2400)
    with tempfile.TemporaryDirectory() as folder:
        cases.write_clip("cut", os.path.join(folder, "clip.wav"))
        return check_golden.report(
            (f"{shape} {kind} {kv} {delays[i % 4]} ms", *check(a, shape, kind, kv, delays[i % 4], folder))
            for i, (shape, kind, kv) in enumerate(todo))


if __name__ == "__main__":
    sys.exit(main())

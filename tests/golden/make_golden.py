#!/usr/bin/env python3
"""Write the golden answers: the fp64 reference (tools/reference.py) on every case of cases.py.

usage: make_golden.py [CASE...]
Run it only when a case is added or changed: the answers are what the program is held to.
"""
import json
import os
import sys
import tempfile

import cases
import reference  # tools/, on the path by cases

MEL_FRAMES, ROWS, LOGIT_STEPS, LOGIT_STRIDE = 3, 4, 3, 13


def spread(n, count):
    """Indices of `count` of n things, the first and the last among them."""
    return sorted({round(i * (n - 1) / (count - 1)) for i in range(count)})


def sample(stage, count, stride=1):
    index = spread(len(stage), count)
    return {"index": index, "stride": stride,
            "values": [[float(f"{value:.9g}") for value in stage[i][::stride]] for i in index]}


def golden(case, folder):
    model, clip, delay_ms, kv = cases.CASES[case]
    model_dir, wav = os.path.join(folder, model), os.path.join(folder, clip + ".wav")
    weights_sha256, clip_sha256 = cases.write_model(model, model_dir), cases.write_clip(clip, wav)
    tokens, margins, stages = reference.transcribe(reference.Model(model_dir, kv), reference.read_wav(wav), delay_ms)
    return {"case": case, "delay_ms": delay_ms, "kv": kv, "weights_sha256": weights_sha256, "clip_sha256": clip_sha256,
            "tokens": tokens, "margins": [float(f"{margin:.7g}") for margin in margins],
            "mel": sample(stages["mel"], MEL_FRAMES), "rows": sample(stages["rows"], ROWS),
            "logits": sample(stages["logits"], LOGIT_STEPS, LOGIT_STRIDE)}


def main():
    with tempfile.TemporaryDirectory() as folder:
        for case in sys.argv[1:] or cases.CASES:
            g = golden(case, folder)
            with open(cases.golden_path(case), "w") as f:
                json.dump(g, f, separators=(",", ":"))
                f.write("\n")
            tokens, margins = g["tokens"], g["margins"]
            near = sum(margin < 2 * cases.BOUNDS[g["kv"]] for margin in margins)
            print(f"{case}: {len(tokens)} steps, {len(set(tokens))} different tokens, "
                  f"{tokens.count(2) / len(tokens):.0%} EOS, smallest margin {min(margins):.2g}, {near} near-ties")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Judge quantised weights by margins: the margin of a step is the winning token's logit less the runner-up's.

usage: margins.py compare PROGRAM MODEL OTHER CLIP...      how far OTHER moves the margins of MODEL
       margins.py histogram PROGRAM MODEL CLIP...          the margins of MODEL, and the flips that a change would cause
       --delay MS ... (480)    -- OPTION...: for the program (--backend cpu, say)

MODEL and OTHER: folders or GGUF files; CLIP: any file that the program reads. No transcripts are
needed, and none are printed.

compare feeds OTHER the tokens that MODEL wrote (--force), so that every step has the same history in both. Where OTHER
would have written another token, a flip, its margin counts as negative. "rms" and "p99" are of the change of a margin.
histogram predicts the share of flips for changes of a given rms: the mean over steps of Phi(-margin / rms), Phi being
the normal distribution.
"""
import argparse
import math
import os
import subprocess
import sys
import tempfile

PAD = "[STREAMING_PAD]"
EDGES = [0, 0.1, 0.2, 0.5, 1, 2, 3, 5, 8, 12, 16, math.inf]
RMS = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0]


def run(a, model, delay, clip, force=None):
    """Ids [steps], margins [steps] and the set of ids that are pads."""
    command = [a.program, "--model", model, "--delay", str(delay), "--format", "tokens", *a.options]
    done = subprocess.run([*command, *(["--force", force] if force else []), clip], capture_output=True,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        error = done.stderr.decode(errors="replace").strip()
        sys.exit(f"{' '.join(command)} {clip}: status {done.returncode}\n{error}")
    rows = [line.split("\t") for line in done.stdout.decode("utf-8", "surrogateescape").splitlines()]
    pads = {int(row[1]) for row in rows if row[3] == PAD}
    return [int(row[1]) for row in rows], [float(row[2]) for row in rows], pads


def predicted(margins, rms):
    """The share of flips if margins change by a normal distribution of that rms."""
    return sum(0.5 * math.erfc(m / rms / math.sqrt(2)) for m in margins) / len(margins) if rms > 0 else 0.0


def compare_clip(a, delay, clip, folder):
    """Per step: the model's margin, the other model's (negative: a flip), whether the flip is from or to a pad."""
    force = os.path.join(folder, "force")
    ids, margins, pads = run(a, a.model, delay, clip)
    with open(force, "w") as f:
        f.writelines(f"{token}\n" for token in ids)
    other_ids, other, other_pads = run(a, a.other, delay, clip, force)
    if len(ids) != len(other_ids):
        sys.exit(f"{clip}: {len(other_ids)} steps of {a.other}, {len(ids)} of {a.model}")
    pads |= other_pads
    return [(before, after if x == y else -after, (x in pads) != (y in pads))
            for x, y, before, after in zip(ids, other_ids, margins, other)]


def compare(a):
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for delay in a.delay for clip in a.clips for row in compare_clip(a, delay, clip, folder)]
    n, flips = len(rows), sum(after < 0 for _, after, _ in rows)
    changes = sorted(abs(after - before) for before, after, _ in rows)
    rms = math.sqrt(sum(change ** 2 for change in changes) / n)
    expected = predicted([before for before, _, _ in rows], rms)
    print(f"{'steps':>7} {'rms':>8} {'p99':>8} {'flips':>6} {'share':>8} {'predicted':>10} {'pad or not':>11}")
    print(f"{n:7} {rms:8.4f} {changes[int(0.99 * (n - 1))]:8.4f} {flips:6} {100 * flips / n:7.3f}% "
          f"{100 * expected:9.3f}% {sum(pad for _, _, pad in rows):11}")


def histogram(a):
    margins = sorted(margin for delay in a.delay for clip in a.clips for margin in run(a, a.model, delay, clip)[1])
    n = len(margins)
    print(f"{n} steps, margin: median {margins[n // 2]:.2f}, lowest {margins[0]:.4f}")
    for low, high in zip(EDGES, EDGES[1:]):
        count = sum(low <= margin < high for margin in margins)
        print(f"{low:5g} to {high:<4g} {count:7} {100 * count / n:6.2f}%  {'#' * round(100 * count / n)}".rstrip())
    print("rms of the change    " + "".join(f"{rms:9g}" for rms in a.rms))
    print("predicted flips in % " + "".join(f"{100 * predicted(margins, rms):9.4f}" for rms in a.rms))


def main():
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[:own.index("--")], own[own.index("--") + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    for function, models in ((compare, ["model", "other"]), (histogram, ["model"])):
        mode = modes.add_parser(function.__name__)
        for name in ["program", *models]:
            mode.add_argument(name)
        mode.add_argument("clips", nargs="+")
        mode.add_argument("--delay", type=int, nargs="+", default=[480], metavar="MS")
        mode.set_defaults(function=function)
    mode.add_argument("--rms", type=float, nargs="+", default=RMS)
    a = parser.parse_args(own)
    a.options = more
    a.function(a)


if __name__ == "__main__":
    main()

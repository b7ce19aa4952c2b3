#!/usr/bin/env python3
"""Hold a surtitle program to the golden answers of the fp64 reference.

usage: check_golden.py PROGRAM [--quick] [--backend cpu] [--case NAME] [-- OPTION...]     (options for the program)

Every case is run twice. Alone, the program must say the same tokens up to the first step where the reference itself is
within the bound of a tie (after another choice there everything may differ). Then it is fed the reference's tokens
(--force), so that every step can be compared: the same token wherever the margin is above twice the bound, and the
margin within the bound at every step. Exit status 1 if anything differs.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import cases


def run(program, options):
    """Ids and margins that the program prints with --format tokens, or a line that says what went wrong."""
    command = [program, *options]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode != 0:
        return None, f"exit status {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
    ids, margins = [], []
    for number, line in enumerate(done.stdout.decode("utf-8", "surrogateescape").splitlines()):
        fields = line.split("\t")
        if len(fields) != 4 or fields[0] != str(number):
            return None, f"line {number} is not STEP, ID, MARGIN, PIECE: {line!r}"
        ids.append(int(fields[1]))
        margins.append(float(fields[2]))
    return (ids, margins), None


def compare_alone(golden, found, bound):
    """Number of steps compared, and what differs (None: nothing)."""
    for step, (token, margin) in enumerate(zip(golden["tokens"], golden["margins"])):
        if found[0][step] != token:
            if margin < bound:
                return step, None
            return step, f"step {step}: token {found[0][step]}, not {token} (margin {margin:g})"
    return len(golden["tokens"]), None


def compare_forced(golden, found, bound):
    """The largest difference of a margin, and what differs (None: nothing)."""
    largest = 0.0
    for step, (token, margin) in enumerate(zip(golden["tokens"], golden["margins"])):
        if found[0][step] != token and margin > 2 * bound:
            return largest, f"forced, step {step}: token {found[0][step]}, not {token} (margin {margin:g})"
        difference = abs(found[1][step] - margin)
        if not difference <= bound:
            return largest, f"forced, step {step}: margin {found[1][step]:g}, not {margin:g} within {bound:g}"
        largest = max(largest, difference)
    return largest, None


def compare(golden, program, options, wav, folder, bound):
    """Run the program alone and forced. What differs (None: nothing) and a line of figures."""
    force, n = os.path.join(folder, "force"), len(golden["tokens"])
    with open(force, "w") as f:
        f.writelines(f"{token}\n" for token in golden["tokens"])
    results = []
    for more in ([], ["--force", force]):
        found, error = run(program, [*options, "--format", "tokens", *more, wav])
        if error is None and len(found[0]) != n:
            error = f"{len(found[0])} steps, not {n}"
        if error is not None:
            return (more[0] + ": " if more else "") + error, ""
        results.append(found)
    n_alone, difference = compare_alone(golden, results[0], bound)
    if difference is None:
        largest, difference = compare_forced(golden, results[1], bound)
    if difference is not None:
        return difference, ""
    return None, f"{n_alone} of {n} steps alone, {n} forced, margins within {largest:.1e} (bound {bound:g})"


def check(case, a, folder, made):
    """What differs (None: nothing) and a line of figures."""
    model, clip, delay_ms, kv = cases.CASES[case]
    with open(cases.golden_path(case)) as f:
        golden = json.load(f)
    model_dir, wav = os.path.join(folder, model), os.path.join(folder, clip + ".wav")
    if model not in made:
        made[model] = cases.write_model(model, model_dir)
    if clip not in made:
        made[clip] = cases.write_clip(clip, wav)
    if made[model] != golden["weights_sha256"] or made[clip] != golden["clip_sha256"]:
        return "this numpy makes another checkpoint or clip than the answer was made for", ""
    options = ["--model", model_dir, "--backend", a.backend, "--delay", str(delay_ms), "--kv", kv, *a.options]
    return compare(golden, a.program, options, wav, folder, cases.BOUNDS[kv])


def parse(parser):
    """The arguments; those behind -- are the program's, in .options."""
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[:own.index("--")], own[own.index("--") + 1:]
    a = parser.parse_args(own)
    a.options = more
    return a


def report(results):
    """Print a line per (name, difference, figures). Exit status."""
    failed = n = 0
    for name, difference, figures in results:
        n += 1
        failed += difference is not None
        print(f"{'FAIL' if difference else 'ok  '} {name}: {difference or figures}", flush=True)
    print(f"{n - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--quick", action="store_true", help="four short cases")
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", choices=cases.CASES, action="append", help="this case only; may be repeated")
    a = parse(parser)
    names = a.case or (cases.QUICK if a.quick else list(cases.CASES))
    if not os.access(a.program, os.X_OK):
        sys.exit(f"{a.program}: no such program")
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        return report((case, *check(case, a, folder, made)) for case in names)


if __name__ == "__main__":
    sys.exit(main())

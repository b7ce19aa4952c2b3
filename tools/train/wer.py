#!/usr/bin/env python3
"""Word error rates of the surtitle program on the set that evalset.py wrote.

usage: wer.py PROGRAM MODEL SET [--delay 480 160 ...] [--kinds espeak,flite,...] [--jobs 2] [--show 0]

Substitutions, deletions and insertions over the reference's words; for silence and noise, the words that came out.
--show N prints the first N clips with errors of a kind.
"""

import argparse, collections, concurrent.futures, os, re, subprocess


def align(ref, hyp):
    """(substitutions, deletions, insertions) of the shortest edit."""
    row = [(j, 0, 0, j) for j in range(len(hyp) + 1)]  # (errors, sub, del, ins)
    for i, r in enumerate(ref, 1):
        new = [(i, 0, i, 0)]
        for j, h in enumerate(hyp, 1):
            e, s, d, n = row[j - 1]
            best = (e + (r != h), s + (r != h), d, n)
            e, s, d, n = row[j]
            best = min(best, (e + 1, s, d + 1, n))
            e, s, d, n = new[j - 1]
            best = min(best, (e + 1, s, d, n + 1))
            new.append(best)
        row = new
    return row[-1][1:]


def words(text):
    return re.sub(r"[^a-z' ]+", " ", text.lower()).split()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("program"), ap.add_argument("model"), ap.add_argument("set")
    ap.add_argument("--delay", nargs="*", default=["480"])
    ap.add_argument("--kinds", default="espeak,flite,first,silence,noise,joined")
    ap.add_argument("--backend", default="cpu")
    ap.add_argument("--jobs", type=int, default=2)
    ap.add_argument("--show", type=int, default=0)
    a = ap.parse_args()
    rows = [l.rstrip("\n").split("\t") for l in open(a.set + "/list.tsv")]
    rows = [r for r in rows if r[0] in a.kinds.split(",")]

    def run(row, delay):
        cmd = [
            a.program,
            "--model",
            a.model,
            "--backend",
            a.backend,
            "--threads",
            "1",
            "--format",
            "text",
            "--delay",
            delay,
            os.path.join(a.set, row[1]),
        ]
        p = subprocess.run(cmd, capture_output=True, text=True)
        if p.returncode:
            raise SystemExit(f"{' '.join(cmd)}: status {p.returncode}\n{p.stderr}")
        return words(p.stdout)

    for delay in a.delay:
        with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
            hyps = list(pool.map(lambda r: run(r, delay), rows))
        sums, shown = collections.OrderedDict(), collections.Counter()
        for (kind, name, ref), hyp in zip(rows, hyps):
            s = sums.setdefault(kind, [0, 0, 0, 0, 0, 0])
            ref = ref.split()
            e = align(ref, hyp)
            edges = int(bool(ref) and ref[0] not in hyp[:2]) if kind == "first" else 0
            for i, v in enumerate((1, len(ref), *e, edges)):
                s[i] += v
            if sum(e) and shown[kind] < a.show:
                shown[kind] += 1
                print("  ", name, e, "\n     ref:", " ".join(ref)[:400], "\n     hyp:", " ".join(hyp)[:400])
        for kind, (n, total, sub, dele, ins, edge) in sums.items():
            if kind in ("silence", "noise"):
                print(f"{delay:>5} ms  {kind:8} {n:4} files: {ins} words came out", flush=True)
            else:
                more = f", first words missed: {edge}" if kind == "first" else ""
                rate = 100 * (sub + dele + ins) / max(1, total)
                print(
                    f"{delay:>5} ms  {kind:8} {n:4} files, {total:5} words: {rate:5.2f}% "
                    f"({sub} substituted, {dele} left out, {ins} put in){more}",
                    flush=True,
                )


main()

#!/usr/bin/env python3
"""The CUDA backend against the fp64 reference and the CPU backend, on random checkpoints of several shapes.

usage: check_exact.py PROGRAM [--model NAME] [--seconds N] [--demo DIR] [--quick] [--no-libraries] [--backend cuda]
                      [--full DIR]

For each checkpoint, fp16 and fp32 K/V:
  forced    fed the reference's tokens, every step whose reference margin exceeds twice the bound has its token, and every
            margin is within the bound (docs/model.md, "Arithmetic"); the CPU backend likewise
  alone     free running, the tokens are the CPU backend's up to its first step below the bound; the share of such steps
  bits      a second run, standard input in one piece and in random ones, raw samples, --pace, two at the same time and
            --vram-limit (layers copied in every pass): the same bytes, margins included
  switches  --encode-on cpu, --decode-on cpu, --gemm lt, --gemm blas, --window-attention gemm: forced, within the bound
With --demo, each clip of the demo model is captioned word for word alike by both backends. With --full, a checkpoint of
the published size (or any) shows the same bits, also with every processor busy; nothing else is run then. Needs numpy.
"""
import argparse
import glob
import os
import random
import subprocess
import sys
import tempfile
import threading
import wave

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path[:0] = [os.path.join(ROOT, "tests", "golden"), os.path.join(ROOT, "tools")]
sys.dont_write_bytecode = True
import cases  # noqa: E402
import check_golden  # noqa: E402
import make_checkpoint  # noqa: E402
import reference  # noqa: E402

# Besides the golden tests' shapes: heads of the real size; many layers that need not be resident.
MODELS = dict(cases.MODELS)
MODELS["real"] = {"settings": ["dim=384", "n_layers=2", "n_heads=8", "n_kv_heads=2", "head_dim=128", "hidden_dim=768",
                               "sliding_window=300", "enc.dim=320", "enc.n_layers=2", "enc.n_heads=8",
                               "enc.n_kv_heads=8", "enc.head_dim=64", "enc.hidden_dim=640",
                               "enc.sliding_window=190"], "seed": 41}
MODELS["deep"] = {"settings": ["dim=512", "n_layers=8", "n_heads=8", "n_kv_heads=4", "head_dim=64", "hidden_dim=2048",
                               "sliding_window=200", "enc.dim=256", "enc.n_layers=6", "enc.hidden_dim=1024"],
                  "seed": 52}
QUICK = ["odd", "real"]
LIMITS = (256, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4)  # MiB, for --vram-limit
FULL_LIMITS = (16384, 6144)
TIMEOUT = 120
WRONG_USAGE = 2


def execute(command, pieces=None):
    """Status, output, errors. pieces: standard input, one write per piece."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE if pieces else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        try:
            for piece in pieces:
                process.stdin.write(piece)
                process.stdin.flush()
            process.stdin.close()
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed) if pieces else None
    timer = threading.Timer(TIMEOUT, process.kill)
    timer.start()
    if feeder:
        feeder.start()
        out, errors = process.stdout.read(), process.stderr.read()
        process.wait()
        feeder.join()
    else:
        out, errors = process.communicate()
    timer.cancel()
    return process.returncode, out, errors.decode(errors="replace").strip()


def random_pieces(data, seed):
    chance, at, pieces = random.Random(seed), 0, []
    while at < len(data):
        n = chance.choice([1, 2, 3, 77, 640, 2559, 2560, 8000, 100000])
        pieces.append(data[at:at + n])
        at += n
    return pieces


class Checker:
    def __init__(self, arguments, folder):
        self.program, self.backend, self.folder = arguments.program, arguments.backend, folder
        self.libraries = not arguments.no_libraries
        self.passed = self.failed = self.skipped = 0

    def report(self, name, difference, figures=""):
        self.passed += difference is None
        self.failed += difference is not None
        print(f"ok   {name}{': ' + figures if figures else ''}" if difference is None else
              f"FAIL {name}: {difference}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)

    def tokens(self, backend, model, options, wav):
        options = ["--model", model, "--format", "tokens", *(["--backend", backend] if backend else []), *options, wav]
        return check_golden.run(self.program, options)

    # ---- against the reference and the CPU ----

    def forced(self, name, backend, model, kv, force, answer, wav, more=()):
        found, error = self.tokens(backend, model, ["--kv", kv, "--force", force, *more], wav)
        figures = ""
        if error is None and len(found[0]) != len(answer["tokens"]):
            error = f"{len(found[0])} steps, not {len(answer['tokens'])}"
        if error is None:
            largest, error = check_golden.compare_forced(answer, found, cases.BOUNDS[kv])
            figures = f"{len(found[0])} steps, margins within {largest:.1e} of {cases.BOUNDS[kv]:g}"
        self.report(f"{name} forced {backend or 'mixed'} {kv} {' '.join(more)}".rstrip(), error, figures)

    def alone(self, name, model, kv, wav):
        bound = cases.BOUNDS[kv]
        cpu, error = self.tokens("cpu", model, ["--kv", kv], wav)
        own, own_error = self.tokens(self.backend, model, ["--kv", kv], wav)
        if error or own_error:
            return self.report(f"{name} alone {kv}", error or own_error)
        answer = {"tokens": cpu[0], "margins": cpu[1]}
        n, difference = check_golden.compare_alone(answer, own, bound)
        low = sum(margin < bound for margin in cpu[1])
        self.report(f"{name} alone {kv}", difference, f"{n} of {len(cpu[0])} steps, {100 * low / len(cpu[0]):.1f}% of "
                    f"them below {bound:g}")

    # ---- bits ----

    def bits(self, name, model, wav, limits=LIMITS):
        base = [self.program, "--model", model, "--backend", self.backend, "--format", "tokens"]
        status, want, errors = execute([*base, wav])
        if status != 0:
            return self.report(f"{name} bits", f"exit status {status}: {errors}")
        with open(wav, "rb") as f:
            whole = f.read()
        with wave.open(wav) as f:
            raw = f.readframes(f.getnframes())
        ways = {"a second run": ([wav], None), "standard input at once": (["-"], [whole]),
                "standard input in pieces": (["-"], random_pieces(whole, 1)),
                "raw samples in pieces": (["--pcm", "s16le", "-"], random_pieces(raw, 2))}
        for what, (options, pieces) in ways.items():
            self.same(f"{name} bits: {what}", want, execute([*base, *options], pieces))
        self.at_once(name, base, wav, want)
        self.limited(name, base, wav, want, limits)

    def same(self, name, want, result):
        status, out, errors = result
        if status != 0:
            return self.report(name, f"exit status {status}: {errors}")
        lines = list(zip(want.splitlines(), out.splitlines()))
        first = next((i for i, (a, b) in enumerate(lines) if a != b), None)
        if out == want:
            self.report(name, None)
        elif first is None:
            self.report(name, f"{len(out.splitlines())} steps, not {len(want.splitlines())}")
        else:
            self.report(name, f"step {first}: {lines[first][1]!r}, not {lines[first][0]!r}")

    def at_once(self, name, base, wav, want):
        results = [None, None]

        def one(i):
            results[i] = execute([*base, wav])
        threads = [threading.Thread(target=one, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, result in enumerate(results):
            self.same(f"{name} bits: number {i + 1} of two at once", want, result)

    def busy(self, name, model, wav):
        base = [self.program, "--model", model, "--backend", self.backend, "--format", "tokens"]
        want = execute([*base, wav])[1]
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            self.same(f"{name} bits: every processor busy", want, execute([*base, wav]))
            self.same(f"{name} bits: every processor busy, --pace", want, execute([*base, "--pace", wav]))
        finally:
            for other in others:
                other.kill()
                other.wait()

    def limited(self, name, base, wav, want, limits):
        """Limits from large to small: each is refused in one line or gives the same bytes; some must stream layers."""
        if self.backend == "cpu":
            return self.skip(f"{name} --vram-limit", "it is the CUDA backend's")
        streamed = 0
        for mib in limits:
            result = execute([*base, "--stats", "--vram-limit", str(mib), wav])
            if result[0] == WRONG_USAGE:
                return self.report(f"{name} --vram-limit", result[2])
            if result[0] != 0:
                own = [line for line in result[2].splitlines() if line.startswith("surtitle:")]
                self.report(f"{name} --vram-limit {mib}",
                            None if len(own) == 1 else f"status {result[0]}, {len(own)} lines: {result[2]}", "refused")
                break
            stats = dict(line.split(" ")[:2] for line in result[2].splitlines() if line.count(" ") == 2)
            uploads = int(stats.get("uploads", "0"))
            streamed += uploads > 0
            if uploads or mib == limits[0]:
                self.same(f"{name} bits: --vram-limit {mib}, {uploads} uploads", want, result)
        if streamed == 0:
            if name in ("deep", "full"):
                self.report(f"{name} --vram-limit", "no limit made it stream layers")
            else:
                self.skip(f"{name} --vram-limit", "too small to stream layers")

    def paced(self, name, model, folder):
        """Three seconds at the speed of speech give the bits of the file at once."""
        wav = os.path.join(folder, "cut.wav")
        cases.write_clip("cut", wav)
        base = [self.program, "--model", model, "--backend", self.backend, "--format", "tokens"]
        status, want, errors = execute([*base, wav])
        if status != 0:
            return self.report(f"{name} bits: --pace", errors)
        self.same(f"{name} bits: --pace", want, execute([*base, "--pace", wav]))

    # ---- all of it ----

    def switches(self, name, model, kv, force, answer, wav):
        if self.backend == "cpu":
            return self.skip(f"{name} switches", "they are the CUDA backend's")
        if kv == "fp32":
            for more in (["--gemm", "lt"], ["--gemm", "blas"], ["--window-attention", "gemm"]) if self.libraries else ():
                self.forced(name, self.backend, model, kv, force, answer, wav, more)
            return
        if self.libraries:
            self.forced(name, self.backend, model, kv, force, answer, wav, ["--gemm", "lt", "--window-attention", "gemm"])
        for more in (["--encode-on", "cpu", "--decode-on", "cuda"], ["--encode-on", "cuda", "--decode-on", "cpu"]):
            self.forced(name, None, model, kv, force, answer, wav, more)

    def model(self, name, clip, kvs):
        m = MODELS[name]
        model, wav = os.path.join(self.folder, name), os.path.join(self.folder, "clip.wav")
        make_checkpoint.write(model, make_checkpoint.sizes("tiny", m["settings"]), m["seed"], gain=1.5,
                              eos_scale=m.get("eos_scale", 1.0))
        samples = reference.read_wav(wav)
        for kv in kvs:
            tokens, margins, _ = reference.transcribe(reference.Model(model, kv), samples)
            answer = {"tokens": tokens, "margins": margins}
            force = os.path.join(self.folder, "force")
            with open(force, "w") as f:
                f.writelines(f"{token}\n" for token in tokens)
            self.forced(name, self.backend, model, kv, force, answer, wav)
            self.forced(name, "cpu", model, kv, force, answer, wav)
            self.alone(name, model, kv, wav)
            self.switches(name, model, kv, force, answer, wav)
        self.bits(name, model, wav)
        if name == "real":
            self.paced(name, model, self.folder)

    def full(self, model, seconds):
        wav = os.path.join(self.folder, "clip.wav")
        write_clip(wav, seconds)
        self.bits("full", model, wav, FULL_LIMITS)
        self.busy("full", model, wav)

    def demo(self, folder):
        for wav in sorted(glob.glob(os.path.join(folder, "*.wav"))):
            name = f"demo {os.path.basename(wav)}"
            texts = [execute([self.program, "--model", folder, "--backend", backend, "--format", "text", wav])
                     for backend in ("cpu", self.backend)]
            bad = next((errors for status, _, errors in texts if status != 0), None)
            if bad is None and texts[0][1] != texts[1][1]:
                bad = f"cpu says {texts[0][1][:80]!r}, {self.backend} {texts[1][1][:80]!r}"
            self.report(name, bad, f"{len(texts[0][1].split())} words")


def write_clip(path, seconds):
    samples = cases.np.clip(cases.np.rint(cases.signal(seconds, 1) * 32767), -32768, 32767).astype("<i2")
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(cases.RATE)
        f.writeframes(samples.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", choices=MODELS, action="append", help="this one only; may be repeated")
    parser.add_argument("--seconds", type=float, default=14.37, help="length of the clip")
    parser.add_argument("--demo", metavar="DIR", help="the demo model and its clips")
    parser.add_argument("--full", metavar="DIR", help="the bits of this checkpoint, and nothing else")
    parser.add_argument("--quick", action="store_true", help="two checkpoints, fp16 only")
    parser.add_argument("--no-libraries", action="store_true", help="without the switches that need cuBLAS")
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this script")
    a = parser.parse_args()
    if not os.access(a.program, os.X_OK):
        sys.exit(f"{a.program}: no such program")
    a.program = os.path.abspath(a.program)
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(a, folder)
        write_clip(os.path.join(folder, "clip.wav"), a.seconds)
        if a.full:
            checker.full(a.full, a.seconds)
        for name in [] if a.full else a.model or (QUICK if a.quick else list(MODELS)):
            checker.model(name, a.seconds, ["fp16"] if a.quick else ["fp16", "fp32"])
        if a.demo:
            checker.demo(a.demo)
    print(f"{checker.passed} passed, {checker.failed} failed, {checker.skipped} skipped")
    return 1 if checker.failed or not checker.passed else 0


if __name__ == "__main__":
    sys.exit(main())

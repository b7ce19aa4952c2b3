#!/usr/bin/env python3
"""Faults on a real GPU: one error line and the right status, the captions so far are kept, no hang.

usage: check_faults.py PROGRAM KERNEL_CHECK FAIL_CUDA [--model DIR]     (DIR: the demo model with its clip.wav)

KERNEL_CHECK --fill is the second program, which fills the card. FAIL_CUDA (fail_cuda.so), preloaded, makes a kernel break
the device's context during captions.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FAILED, WRONG_USAGE, NO_BACKEND = 1, 2, 5
TIMEOUT = 60


class Faults:
    def __init__(self, a):
        self.program, self.filler, self.model = os.path.abspath(a.program), os.path.abspath(a.kernel_check), a.model
        self.clip, self.fail_cuda = os.path.join(a.model, "clip.wav"), os.path.abspath(a.fail_cuda)
        self.passed = self.failed = 0

    def command(self, *options):
        return [self.program, "--model", self.model, "--format", "text", *options, self.clip]

    def run(self, *options, **environment):
        try:
            done = subprocess.run(self.command(*options), stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=TIMEOUT, env={**os.environ, **environment})
        except subprocess.TimeoutExpired:
            return None, b"", "no end"
        return done.returncode, done.stdout, done.stderr.decode(errors="replace").strip()

    def report(self, name, bad, figures=""):
        self.passed += not bad
        self.failed += bool(bad)
        print(f"FAIL {name}: {bad}" if bad else f"ok   {name}: {figures}", flush=True)

    def refused(self, name, result, wanted=NO_BACKEND, word=""):
        status, out, errors = result
        lines = errors.splitlines()
        bad = status != wanted or out or len(lines) != 1 or word not in errors
        self.report(name, f"status {status}, {len(out)} bytes of captions: {errors}" if bad else None, errors)

    def filled(self, mib):
        filler = subprocess.Popen([self.filler, "--fill", str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = filler.stdout.readline().decode().strip()
        return filler, line

    def release(self, filler):
        filler.stdin.close()
        filler.wait(TIMEOUT)

    def all(self):
        want = self.run("--backend", "cpu")[1]
        self.refused("no device: cuda", self.run("--backend", "cuda", CUDA_VISIBLE_DEVICES=""))
        status, out, errors = self.run("--backend", "auto", CUDA_VISIBLE_DEVICES="")
        self.report("no device: auto", None if status == 0 and out == want else f"status {status}: {errors}",
                    "captions by the CPU")
        self.refused("--vram-limit 1", self.run("--backend", "cuda", "--vram-limit", "1"))
        self.libraries()
        filler, line = self.filled(8)
        if not line.startswith("filled"):
            self.report("a full card", line or "the filler said nothing")
        else:
            self.refused(f"a full card ({line})", self.run("--backend", "cuda"))
            self.release(filler)
        self.in_mid_stream(want)
        for at in (20, 60, 120):
            self.broken(want, at)
            self.broken(want, at, "--pace")

    def broken(self, want, at, *options):
        """Pass `at` writes to an invalid address. The captions before it are kept."""
        began = time.monotonic()
        status, out, errors = self.run("--backend", "cuda", *options, LD_PRELOAD=self.fail_cuda, FAIL_CUDA_AT=str(at))
        took = time.monotonic() - began
        name = f"a kernel breaks pass {at} {' '.join(options)}".rstrip()
        bad = (status != FAILED or errors.count("\n") or "illegal memory access" not in errors or
               not want.startswith(out.rstrip()) or len(out) >= len(want) or took > 30)
        self.report(name, f"status {status} after {took:.1f} s, said {out!r}: {errors}" if bad else None,
                    f"{len(out)} of {len(want)} bytes of captions; {errors}")

    def libraries(self):
        """The first file that the loader finds is not a library."""
        with tempfile.TemporaryDirectory() as folder:
            for name in ("libcublas", "libcublasLt"):
                for major in (12, 13):
                    with open(f"{folder}/{name}.so.{major}", "w") as f:
                        f.write("not a library")
            for options, library in (("--gemm lt", "libcublasLt.so"), ("--gemm blas", "libcublas.so"),
                                     ("--window-attention gemm", "libcublas.so")):
                result = self.run("--backend", "cuda", *options.split(), LD_LIBRARY_PATH=folder)
                self.refused(f"no library: {options}", result, WRONG_USAGE, library)

    def in_mid_stream(self, want):
        """The card is filled during captions. They continue, because nothing is allocated after the start."""
        captions = subprocess.Popen(self.command("--backend", "cuda", "--pace"), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(3)
        filler, line = self.filled(4)
        try:
            out, errors = captions.communicate(timeout=TIMEOUT)
            bad = captions.returncode != 0 or out != want
            self.report("filled in mid-stream",
                        f"status {captions.returncode}: {errors.decode(errors='replace')}" if bad else None, line)
        except subprocess.TimeoutExpired:
            captions.kill()
            self.report("filled in mid-stream", "no end")
        self.release(filler)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("kernel_check")
    parser.add_argument("fail_cuda")
    parser.add_argument("--model", default=os.path.join(ROOT, "models", "demo"))
    faults = Faults(parser.parse_args())
    faults.all()
    print(f"{faults.passed} passed, {faults.failed} failed, 0 skipped")
    return 1 if faults.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""After open, the hot path allocates nothing: the program's allocations, of all its threads, libraries and formats,
counted by a preloaded shim (count_malloc.c) while it captions a stream.

Two runs that differ only in how much audio they get must end with the same number of allocations: whatever steps
allocated, each or one in a hundred, would show in the difference of 325 steps. Both are long past the point where every
ring has wrapped. A worker's first use of a thread-local variable may fall either side of the end, hence SLACK.
Arguments: program, tools/make_checkpoint.py, the shim."""
import os, struct, subprocess, sys, tempfile

import numpy as np

PROGRAM, MAKE, SHIM = sys.argv[1:4]
SHORT_S, LONG_S = 10, 36  # 125 and 450 steps; the rings wrap after 64
SLACK = 2


def allocations(box, seconds, rate, channels, options):
    counter = os.path.join(box, "count")
    with open(counter, "wb") as f:
        f.write(bytes(8))
    pcm = np.random.default_rng(3).integers(-9000, 9000, seconds * rate * channels, dtype="<i2").tobytes()
    env = dict(os.environ, LD_PRELOAD=SHIM, COUNT_MALLOC_FILE=counter)
    r = subprocess.run([PROGRAM, "--model", box, "--pcm", "s16le", "--rate", str(rate), "--channels", str(channels),
                        *options, "-"], input=pcm, env=env, stdout=subprocess.DEVNULL, timeout=300)
    assert r.returncode == 0, r.returncode
    with open(counter, "rb") as f:
        return struct.unpack("=Q", f.read())[0]


def main():
    worst = 0
    with tempfile.TemporaryDirectory() as box:
        subprocess.run([sys.executable, MAKE, box, "--size", "tiny", "--seed", "5"], check=True)
        for rate, channels, options in [
                (16000, 1, ["--format", "tokens", "--threads", "1"]),
                (44100, 2, ["--format", "tokens", "--threads", "2"]),
                (16000, 1, ["--format", "text", "--timestamps", "--alternatives", "0.5"]),
                (16000, 1, ["--format", "jsonl", "--caption-file", os.path.join(box, "caption")]),
                (16000, 1, ["--format", "srt"]), (16000, 1, ["--format", "vtt"])]:
            short, long = (allocations(box, s, rate, channels, options) for s in (SHORT_S, LONG_S))
            print(f"{rate} Hz x {channels} {' '.join(options)}: {short} allocations in {SHORT_S} s, {long} in {LONG_S} s")
            assert short > 100, "the shim does not count"
            worst = max(worst, abs(long - short))
    assert worst <= SLACK, "steps allocate"


main()

"""Three hours of audio through a tiny random model, or of speech through another, by standard input.

The claim: surtitle runs for ever. Positions pass 131,072 (where the published model's own limit lies), every ring wraps
thousands of times, and the last hour costs what the first did:
  - as many steps as the schedule says, numbered without a gap, with ids of the vocabulary and finite margins
  - resident memory grows by less than 1 MB from the first tenth on
  - a step takes at most 1.3 times the processor time of the first tenth in the last (noise of the machine included)
  - the words do not die: the last tenth has at least half as many different ids as the first
Arguments: program, tools/make_checkpoint.py, and optionally a model and clips to feed it (16 kHz, mono, 16 bits)."""
import json, math, os, subprocess, sys, tempfile, threading, time, wave

import numpy as np

PROGRAM, MAKE = sys.argv[1:3]
MODEL, CLIPS = sys.argv[3:4], sys.argv[4:]
HOURS = 3
TOKEN = 1280                     # samples
BLOCK = 125 * TOKEN              # written at a time: 10 s
N_SAMPLES = HOURS * 3600 * 16000 + 777  # not a whole token at the end
STEPS = math.ceil(N_SAMPLES / TOKEN) + 11  # docs/model.md, "Steps"
RSS_BOUND_KB, TIME_BOUND = 1024, 1.3


def noise():
    """Noise whose level rises and falls over 7 s, so that no two windows are equal."""
    rng = np.random.default_rng(1)
    swell = (np.sin(np.arange(BLOCK) * 2 * np.pi / (7 * 16000)) * 9000 + 10000).astype(np.float32)
    while True:
        yield (rng.uniform(-1, 1, BLOCK).astype(np.float32) * swell).astype("<i2")


def speech():
    """The clips one after the other, a little louder or softer each time, so that no two rounds are equal."""
    rng = np.random.default_rng(1)
    while True:
        for clip in CLIPS:
            with wave.open(clip) as w:
                yield (np.frombuffer(w.readframes(w.getnframes()), "<i2") * rng.uniform(0.5, 1)).astype("<i2")


def feed(pipe):
    left = N_SAMPLES
    try:
        for block in speech() if CLIPS else noise():
            pipe.write(block[:left].tobytes())
            left -= min(left, len(block))
            if not left:
                break
        pipe.close()
    except BrokenPipeError:
        pass  # the program ended before its input; main checks its status


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(p, vocabulary):
    """Reads every token; returns the samples [(step, resident KB, processor s, wall s)] at each hundredth of the way,
    and the sets of ids in the first and the last tenth."""
    samples, first, last, expected = [], set(), set(), 0
    for line in p.stdout:
        step, token, margin, _ = line.rstrip(b"\n").split(b"\t", 3)
        assert int(step) == expected, f"step {expected} is missing: {line!r}"
        assert 0 <= int(token) < vocabulary and float(margin) >= 0 and math.isfinite(float(margin)), line
        if expected < STEPS // 10:
            first.add(int(token))
        elif expected >= STEPS * 9 // 10:
            last.add(int(token))
        expected += 1
        if expected % (STEPS // 100) == 0 and expected < STEPS - 100:  # not at the end, where the program may have exited
            samples.append((expected, resident_kb(p.pid), cpu_s(p.pid), time.monotonic()))
    assert expected == STEPS, f"{expected} steps, not {STEPS}"
    return samples, first, last


def main():
    with tempfile.TemporaryDirectory() as made:
        model = MODEL[0] if MODEL else made
        if not MODEL:
            subprocess.run([sys.executable, MAKE, model, "--size", "tiny", "--seed", "5"], check=True)
        with open(os.path.join(model, "params.json"), encoding="utf-8") as f:
            vocabulary = json.load(f)["vocab_size"]
        p = subprocess.Popen([PROGRAM, "--model", model, "--format", "tokens", "--threads", "1", "--pcm", "s16le", "-"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        writer = threading.Thread(target=feed, args=(p.stdin,), daemon=True)
        writer.start()
        try:
            samples, first, last = watch(p, vocabulary)
            assert p.wait(60) == 0, p.returncode
        finally:
            p.kill()
    tenth = len(samples) // 10
    growth = max(s[1] for s in samples[tenth:]) - samples[tenth][1]
    # the first hundredth includes loading and the prompt
    cost = [(b[2] - a[2]) / (b[0] - a[0]) * 1e6 for a, b in [(samples[0], samples[tenth]), (samples[-1 - tenth], samples[-1])]]
    wall = (samples[-1][3] - samples[0][3]) / (samples[-1][0] - samples[0][0]) * 1e6
    print(f"{STEPS} steps, {wall:.0f} us each; processor {cost[0]:.0f} us in the first tenth, {cost[1]:.0f} us in the last; "
          f"resident {samples[tenth][1]} KB, grew by {growth} KB; different ids {len(first)} first, {len(last)} last")
    assert growth < RSS_BOUND_KB, "memory grows"
    assert cost[1] < cost[0] * TIME_BOUND, "steps get slower"
    assert len(last) > 1 and len(last) * 2 >= len(first), "the words die"


main()

"""tools/margins.py on the demo model. Arguments: the script, surtitle, surtitle-quantize, the demo model's folder."""
import math, os, subprocess, sys, tempfile

SCRIPT, PROGRAM, QUANTIZE, MODEL = sys.argv[1:5]
CLIPS = [os.path.join(MODEL, "clip.wav"), os.path.join(MODEL, "flite.wav")]
if not os.path.exists(os.path.join(MODEL, "consolidated.safetensors")):
    sys.exit(77)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def margins(mode, *words):
    done = run(sys.executable, SCRIPT, mode, PROGRAM, *words, "--", "--backend", "cpu")
    assert done.returncode == 0 and not done.stderr, done
    print(done.stdout)
    return done.stdout.splitlines()


def tokens(model, *more):
    done = run(PROGRAM, "--model", model, "--backend", "cpu", "--format", "tokens", "--delay", "240", *more, CLIPS[0])
    assert done.returncode == 0, done
    return [(int(line.split("\t")[1]), float(line.split("\t")[2])) for line in done.stdout.splitlines()]


def compare(other):
    names = ["steps", "rms", "p99", "flips", "share", "predicted", "pad or not"]
    row = margins("compare", MODEL, other, CLIPS[0], "--delay", "240")[1].split()
    return dict(zip(names, (float(x.rstrip("%")) for x in row)))


with tempfile.TemporaryDirectory() as folder:
    small, force = os.path.join(folder, "q4.gguf"), os.path.join(folder, "force")
    done = run(QUANTIZE, "--type", "q4_k_m", MODEL, small)
    assert done.returncode == 0, done
    before = tokens(MODEL)
    same, other = compare(MODEL), compare(small)
    assert same == {**dict.fromkeys(same, 0), "steps": len(before)}, (same, len(before))
    with open(force, "w") as f:
        f.writelines(f"{token}\n" for token, _ in before)
    after = tokens(small, "--force", force)
    changes = [(m if t == token else -m) - margin for (token, margin), (t, m) in zip(before, after)]
    rms, flips = math.sqrt(sum(c * c for c in changes) / len(changes)), sum(a[0] != b[0] for a, b in zip(before, after))
    assert other["flips"] == flips and other["steps"] == len(before), (other, flips)
    assert abs(other["rms"] - rms) < 1e-4, (other, rms)
    assert 0.1 < rms < 3 and other["pad or not"] <= flips and rms < other["p99"], other

lines = margins("histogram", MODEL, *CLIPS, "--delay", "240", "80", "--rms", "0.5", "5")
n = int(lines[0].split()[0])
assert sum(int(line.split()[3]) for line in lines[1:-2]) == n > 2 * len(before), lines
few = margins("histogram", MODEL, CLIPS[0], "--delay", "240", "--rms", "0.5", "5")
expected = [sum(0.5 * math.erfc(m / rms / math.sqrt(2)) for _, m in before) / len(before) for rms in (0.5, 5)]
for share, value in zip(few[-1].split()[-2:], expected):
    assert abs(float(share) - 100 * value) < 1e-3, (few[-1], expected)
assert len(few) < 20 and max(map(len, few)) < 100, few
done = run(sys.executable, SCRIPT, "compare", PROGRAM, MODEL, MODEL, "nothing.wav")
assert done.returncode == 1 and "nothing.wav" in done.stderr and "Traceback" not in done.stderr, done

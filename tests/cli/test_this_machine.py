"""surtitle-bench --this-machine: every type, with plausible numbers, in bounded time. Argument: the program."""
import re, subprocess, sys

BENCH = sys.argv[1]
LINE = re.compile(r"(\S+) +([0-9.]+) GB, about ([0-9]+) ms of 80 ms a token: (live|hardly live|not live), "
                  r"([0-9.]+) times (faster|slower) than speech(; .+)?")
TYPES = ["bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"]


def run(*words):
    return subprocess.run([BENCH, *words], capture_output=True, text=True, timeout=200)


done = run("--this-machine")
assert done.returncode == 0 and not done.stderr, done
print(done.stdout)
for line in (r"processor +[0-9]+ cores, [0-9]+ threads used; \w+, integers [-\w]+",
             r"memory +[0-9.]+ GB, [0-9.]+ GB of it free", r"GPU +\w+.*"):
    assert re.search(f"^{line}$", done.stdout, re.M), (line, done.stdout)
if "reads " not in done.stdout:  # less than 1.5 GB are free
    assert "not memory enough" in done.stdout, done.stdout
    sys.exit(77)
assert 0.1 < float(re.search(r"^reads +([0-9.]+) GB/s$", done.stdout, re.M)[1]) < 5000, done.stdout
found = [m for m in map(LINE.fullmatch, done.stdout.splitlines()) if m]
assert [m[1] for m in found] == TYPES, done.stdout
for kind, size, ms, verdict, times, way, _ in (m.groups() for m in found):
    assert 2.8 < float(size) < 12 and 0 < int(ms) < 1e6, (kind, size, ms)
    assert (way == "faster") == (verdict != "not live"), (kind, verdict, way)
    ratio = 80 / int(ms) if way == "faster" else int(ms) / 80
    assert abs(ratio - float(times)) < 0.06 + ratio / int(ms), (kind, ms, times)
sizes = [float(m[2]) for m in found]
assert sizes[0] == max(sizes) and sizes[-1] == min(sizes), sizes
assert "download_model.sh --type " in done.stdout.splitlines()[-1] or "not memory enough" in done.stdout, done.stdout

more = ["--model", "x"], ["--synthetic", "tiny"], ["x"], ["--threads", "0"], ["--backend", "cuda"], ["--phase", "step"]
for words in ([], *(["--this-machine", *m] for m in more)):
    done = run(*words)
    assert done.returncode == 2 and done.stderr.startswith("usage:"), (words, done)
done = run("--help")
assert done.returncode == 0 and "--this-machine" in done.stdout and not done.stderr, done

"""Every failure is one clear line: calls of the program are made to fail one by one (fault.c, preloaded), in a whole
run of each kind. Each run must end with a documented status: 0 with the captions of an undisturbed run, or 1 (3 where
the microphone is what failed) with one line on standard error and the captions written until then. Nothing that
surtitle allocated is left, whatever failed.

Libraries that are not ours are not sure to survive the failure of their own allocations (jansson 2.14 and libsndfile
1.2.0 do not): where one crashes or leaks then, that is counted and said, and only in the very library whose call failed.

Arguments: program, tools/make_checkpoint.py, fault.so, fake_portaudio.so or -, "quick" (the first call from each place
in the code) or "full" (every call; from places that are reached more than 40 times every 199th), and optionally words
that the names of the cases to run contain."""
import collections, concurrent.futures, fcntl, json, os, pty, random, re, select, shutil, signal, struct, subprocess, sys
import tempfile, termios, time, wave

PROGRAM, MAKE, FAULT, MIC = (os.path.abspath(a) if a != "-" else a for a in sys.argv[1:5])
FULL, WORDS = sys.argv[5] == "full", sys.argv[6:]
BOX = tempfile.mkdtemp(prefix="surtitle-faults.")
MODEL, CLIP, RAW = (os.path.join(BOX, n) for n in ("model", "talk.wav", "talk.raw"))
OURS = ("surtitle", "libsurtitle.so", "libc.so")
UNDISTURBED = "alloc 0"  # no fault
LONG = 120  # seconds: no run takes as long, even on a busy machine
# the CPU: without a CUDA module the loader keeps its error text allocated
FIXED = ["--model", MODEL, "--backend", "cpu", "--threads", "2", "--caption-file", "caption", "--output", "captions"]

Run = collections.namedtuple("Run", "status errors captions calls live crash")


class Case:
    def __init__(self, name, *args, formats="jsonl", stdin=None, terminal=False, microphone=False, command=False):
        self.name, self.stdin, self.terminal, self.microphone, self.command = name, stdin, terminal, microphone, command
        self.args = [PROGRAM, *FIXED, "--format", formats, *args]

    def statuses(self, fault, foreign):
        """4: a file of the model cannot be opened; or jansson, without a word, lost a byte of one. 129: the command was
        hung up on."""
        return [0, 1, *([4] if foreign or fault.startswith("file") else []), *([3] if self.microphone else []),
                *([127, 129] if self.command else [])]


CASES = [
    Case("file", CLIP),
    Case("standard input", "--rate", "44100", "-", formats="srt", stdin=RAW),
    Case("overlay", "--overlay", CLIP, terminal=True),
    Case("command", CLIP, "--", "sh", "-c", "printf 'a\\033[1;38;5;9mb\\033[?1049h'; sleep 0.3", formats="vtt", terminal=True,
         command=True),
] + ([Case("microphone", microphone=True)] if MIC != "-" else [])


def make_sound():
    r = random.Random(1)
    data = struct.pack("<24000h", *[int(r.uniform(-1, 1) * r.choice([300, 9000])) for _ in range(24000)])
    with wave.open(CLIP, "wb") as w:
        w.setparams((1, 2, 16000, 0, "NONE", ""))
        w.writeframes(data)
    with open(RAW, "wb") as f:
        f.write(data)


def module(site):
    name = site.split("+")[0]
    return re.sub(r"\.so.*", ".so", name)


def ours(site):
    return module(site) in OURS


def read_all(fd, seconds):
    """Reads and drops the terminal's output, which is not checked here."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.05)[0]:
            try:
                if not os.read(fd, 65536):
                    return
            except OSError:
                return


def wait(case, p, master, captions, must):
    """captions: the file that must contain captions before a microphone run is ended; must: they are certain to come."""
    if case.microphone:
        try:
            return p.wait(0.8)
        except subprocess.TimeoutExpired:
            end = time.monotonic() + (LONG if must else 15)
        while time.monotonic() < end and p.poll() is None:
            if os.path.exists(captions) and os.path.getsize(captions) > 20:
                break
            time.sleep(0.02)
        p.send_signal(signal.SIGINT)
    if case.terminal:
        read_all(master, LONG)
    try:
        return p.wait(LONG)
    except subprocess.TimeoutExpired:
        return "it hangs"


def run(case, fault):
    where = tempfile.mkdtemp(dir=BOX)
    report = os.path.join(where, "report")
    preload = FAULT + (" " + MIC if case.microphone else "")
    env = dict(os.environ, LD_PRELOAD=preload, FAULT=fault, FAULT_REPORT=report, LC_ALL="C.UTF-8", TERM="xterm", HOME=BOX,
               FAKE_MIC=f"16000 1 0 {RAW}")
    env.pop("NO_COLOR", None)
    master, slave = pty.openpty() if case.terminal else (None, None)
    if case.terminal:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(os.path.join(where, "errors"), "w+b") as errors, open(case.stdin or "/dev/null", "rb") as stdin:
        p = subprocess.Popen(case.args, cwd=where, env=env, stdin=slave or stdin, stdout=slave or subprocess.DEVNULL,
                             stderr=errors, start_new_session=True)
        if case.terminal:
            os.close(slave)
        try:
            status = wait(case, p, master, os.path.join(where, "captions"), fault == UNDISTURBED)
        finally:
            p.kill()
            p.wait()
            if case.terminal:
                os.close(master)
        errors.seek(0)
        said = errors.read().decode()
    captions, calls, live, crash = None, collections.defaultdict(list), collections.Counter(), None
    if os.path.exists(os.path.join(where, "captions")):
        with open(os.path.join(where, "captions"), encoding="utf-8") as f:
            captions = re.sub(r'"wall":"[^"]*"', '"wall":""', f.read())
    if os.path.exists(report):
        with open(report, encoding="ascii") as f:
            for kind, site in (line.split() for line in f):
                if kind == "live":
                    live[site] += not site.startswith("ld-linux")  # a thread's own variables are kept for the next thread
                elif kind == "crash":
                    crash = site
                else:
                    calls[kind].append(site)
    shutil.rmtree(where)
    return Run(status, said, captions, calls, live, crash)


def whole_lines(text):
    return text[:text.rfind("\n") + 1]


def without_lag(case, errors):
    """Eight live runs at a time may be slower than real time on this machine. The warning is right then, and no failure."""
    return re.sub(r"^surtitle: captions are \d+\.\d s behind\n", "", errors, flags=re.M) if case.microphone else errors


def judge(case, usual, fault, site, r):
    """What is wrong with a run in which the call from site failed; None: nothing. "": a library that is not ours."""
    foreign = site is not None and not ours(site)
    if r.crash:
        return "" if foreign and module(r.crash) in (module(site), "libc.so") else f"crashed in {r.crash}"
    if "end" not in r.calls:
        return f"status {r.status} without an end"
    if r.status not in case.statuses(fault, foreign):
        return f"status {r.status}"
    errors = without_lag(case, r.errors)
    lines = errors.count("\n")
    said_twice = lines == 2 and r.status and fault.startswith("full")  # the caption file, and then the transcript
    if lines != (r.status != 0) and not (case.command and lines == 1) and not said_twice:
        return "not one line"
    if errors and (not errors.startswith("surtitle: ") or len(errors) < 20):
        return "no clear line"
    if case.microphone:
        events = [json.loads(line) for line in whole_lines(r.captions or "").split("\n")[:-1]]
        if r.status == 0 and (len(events) < 2 or events[-1]["type"] != "end"):
            return "captions without an end"
    elif r.status == 0 and not r.errors and r.captions != usual.captions:
        return "other captions"
    elif not usual.captions.startswith(whole_lines(r.captions or "")):
        return "captions that are no beginning of the usual ones"
    left = r.live - usual.live
    if any(not foreign or module(s) != module(site) for s in left):
        return f"left: {dict(left)}"
    return "" if left else None


def choose(sites):
    """The numbers of the calls that are to fail, from 1."""
    seen, total, chosen = collections.Counter(), collections.Counter(sites), []
    for n, site in enumerate(sites, 1):
        seen[site] += 1
        if seen[site] == 1 or (FULL and (total[site] <= 40 or seen[site] % 199 == 0 or seen[site] == total[site])):
            chosen.append(n)
    return chosen


def try_all(case, usual, jobs):
    """jobs: (fault, site). Returns what went wrong, and how often a library was to blame."""
    wrong, foreign = [], collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(16 if case.terminal else 8 if case.microphone else 2) as pool:
        for (fault, site), r in zip(jobs, pool.map(lambda job: run(case, job[0]), jobs)):
            why = judge(case, usual, fault, site, r)
            if why:
                wrong.append(f"{case.name}: {fault} ({site}): {why}; status {r.status}, said {r.errors!r}")
            elif why == "":
                foreign[module(site)] += 1
    return wrong, foreign


def usual_run(case):
    """Undisturbed, twice: what is alive at the end may differ by what threads did first."""
    first, second = run(case, UNDISTURBED), run(case, UNDISTURBED)
    if case.command and "libvterm" in first.errors:
        return None
    for r in (first, second):
        assert r.status == 0 and not without_lag(case, r.errors) and len(r.captions) > 20 and "end" in r.calls, (case.name, r.status, r.errors, r.crash)
        assert not any(s.startswith(("surtitle", "libsurtitle")) for s in r.live), (case.name, r.live)
    assert case.microphone or first.captions == second.captions
    return first._replace(live=first.live | second.live)


def check_calls(case, usual):
    """One by one."""
    jobs = [(f"{kind} {n}", usual.calls[kind][n - 1]) for kind in ("alloc", "map", "thread", "file")
            for n in choose(usual.calls[kind])]
    assert len(jobs) > 60, len(jobs)
    wrong, foreign = try_all(case, usual, jobs)
    for library, n in foreign.items():
        print(f"  {library} did not survive {n} failures of its own")
    return len(jobs), wrong


def check_files(case, usual):
    """Reads and writes that do little, are interrupted, or find no space."""
    if case.microphone:
        return 0, []
    kinds = ["short 1", "short 7", "eintr 2", "eintr 3"] if FULL else ["short 3", "eintr 2"]
    jobs = [(kind, None) for kind in kinds]
    wrong, _ = try_all(case, usual, jobs)
    wrong += [f"{case.name}: {kind}: status {r.status}, said {r.errors!r}" for kind, r in
              ((kind, run(case, kind)) for kind in kinds) if r.status or r.errors or r.captions != usual.captions]
    if not case.terminal:
        full = [(f"full {n}", None) for n in ([*range(1, 40)] if FULL else [1, 2, 3, 5, 8])]
        wrong += try_all(case, usual, full)[0]
        jobs += full
    return len(jobs), wrong


def main():
    subprocess.run([sys.executable, MAKE, MODEL, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                   stdout=subprocess.DEVNULL)
    make_sound()
    wrong = []
    for case in CASES:
        if not all(word in case.name for word in WORDS):
            continue
        began = time.monotonic()
        usual = usual_run(case)
        if not usual:
            print(f"{case.name}: skipped: this build has no libvterm")
            continue
        for check in (check_calls, check_files):
            n, found = check(case, usual)
            wrong += found
            print(f"{case.name}: {check.__name__}: {n} runs, {len(found)} wrong, {time.monotonic() - began:.1f} s")
            print(*found[:40], sep="\n", end="\n" if found else "", flush=True)
    return 1 if wrong else 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

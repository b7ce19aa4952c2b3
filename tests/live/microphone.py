"""Shared by the live tests: the model and its clip, a run of the program, and the loop over unittest cases."""
import concurrent.futures, io, json, os, signal, subprocess, sys, tempfile, time, unittest, wave

import numpy as np


NOT_SAID = ["captions are ", "captions fell behind", "this machine takes", "surtitle: debug: ", "surtitle: info: "]


def wait_for(true, what, seconds=90):
    """Waits until true() holds. The limit is generous, because the machine may be busy."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} does not come"
        time.sleep(0.02)


def slowdown():
    """How much slower this machine is now than when idle."""
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.1:
        pass
    return max(1, (time.monotonic() - began) / (time.process_time() - used))


class Model:
    """The demo model and its clip; without it (`demo` is False) a random model and noise, in the folder box."""
    def __init__(self, root, box):
        self.folder, self.root = os.path.join(root, "models", "demo"), root
        self.demo = os.path.exists(os.path.join(self.folder, "consolidated.safetensors"))
        self.folder = self.folder if self.demo else box + "/model"
        self.clip = os.path.join(self.folder, "clip.wav") if self.demo else box + "/clip.wav"

    def make(self, seconds):
        if self.demo:
            return
        make = os.path.join(self.root, "tools", "make_checkpoint.py")
        subprocess.run([sys.executable, make, self.folder, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                       stdout=subprocess.DEVNULL)
        with wave.open(self.clip, "wb") as w:
            w.setparams((1, 2, 16000, 0, "NONE", ""))
            w.writeframes(np.random.default_rng(2).integers(-9000, 9000, 16000 * seconds).astype("<i2").tobytes())


class Recording:
    """A run of the program on the microphone, with its output in a file."""
    running = []

    def __init__(self, program, model, env, *options):
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.began = time.monotonic()
        self.p = subprocess.Popen([program, "--model", model.folder, "--format", "jsonl", "--log-level", "debug", *options], env=env,
                                  stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)
        Recording.running.append(self.p)

    def text(self):
        return os.pread(self.out.fileno(), 1 << 24, 0).decode()

    def events(self, kind=None):
        return [e for e in map(json.loads, self.text().split("\n")[:-1]) if kind in (None, e["type"])]

    def states(self):
        return [e["state"] for e in self.events("device")]

    def errors(self):
        """Standard error without debug lines and without those about a machine that is too slow, because it may be busy."""
        return "".join(line for line in self.all_lines().splitlines(True) if not any(text in line for text in NOT_SAID))

    def all_lines(self):
        return os.pread(self.err.fileno(), 1 << 22, 0).decode(errors="replace")

    def wait_for_sound(self, times=1):
        """Waits for the first block of the stream that was opened as number `times`, reopening after losses not counted."""
        wait_for(lambda: self.all_lines().count(" delivers\n") == times, "the first block")

    def end_soon(self, how=signal.SIGINT):
        """The exit status after a signal. The end must come within the 3 s that docs/contract.md promises."""
        began = time.monotonic()
        self.p.send_signal(how)
        status = self.p.wait(60)
        took = time.monotonic() - began
        assert took < 3 * slowdown(), (how, took)
        return status

    def end(self, how=signal.SIGINT, since=None):
        """The last event. since: the time of the first sample; then the event's time must match the time that has passed."""
        told = time.monotonic()
        self.p.send_signal(how)
        assert self.p.wait(60) == 0, (self.p.returncode, self.all_lines())
        end = self.events()[-1]
        assert end["type"] == "end" and end["t"] <= time.monotonic() - self.began + 0.1, end
        if since:
            took = told - since
            assert -0.5 - (time.monotonic() - told) < took - end["t"] < 1.5 * slowdown(), (took, end)
        return end


def has_heard(run, model, seconds):
    """Waits until the words at `seconds` have been captioned, or were skipped because the machine is busy."""
    wait_for(lambda: not model.demo or any(e["t1"] > seconds - 1.5 for e in run.events("text") + run.events("skip")),
             "the last word")


def lost_words(run):
    """The largest number of words that a busy machine can have lost."""
    return round(sum(4 * (s["t1"] - s["t0"]) for s in run.events("skip") if s["why"] != "device"))


def words(text):
    return "".join(c for c in text.lower() if c.isalnum() or c == " ").split()


def spoken(events):
    return words("".join(e["text"] for e in events))


def check_words(want, got, lost):
    """Asserts that `got` has the words of `want`, except a few that a different beginning may change, and `lost` ones."""
    missed = [w for w in want if w not in got]
    assert want and len(missed) <= len(want) // 4 + lost, (want, got, lost)


def run_tests(words, at_once=1):
    """Runs the script's tests whose names contain every word, at_once at a time. Returns the exit status."""
    def run(test):
        began, report = time.monotonic(), io.StringIO()
        result = unittest.TextTestRunner(report).run(test)
        line = "failed" if not result.wasSuccessful() else "skipped" if result.skipped else "passed"
        why = {"passed": "", "failed": "\n" + report.getvalue(), "skipped": ": " + "".join(why for _, why in result.skipped)}[line]
        print(f"{test.id()}: {line}, {time.monotonic() - began:.1f} s{why}", flush=True)
        return line

    script = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    chosen = [test for case in script for test in case if all(word in test.id() for word in words)]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        lines = list(pool.map(run, chosen))
    for p in Recording.running:  # left over by a failed test
        p.kill()
        p.wait()
    print(", ".join(f"{lines.count(line)} {line}" for line in ["passed", "failed", "skipped"]))
    return 0 if "passed" in lines and "failed" not in lines else 1

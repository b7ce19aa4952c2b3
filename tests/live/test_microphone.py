"""The microphone, with the test's own PulseAudio daemon (sound_server.py). Arguments: program, source folder, and
optionally words that the names of the tests to run contain. Status 77: no pulseaudio, or a build without PortAudio."""
import json, os, shutil, signal, subprocess, sys, tempfile, time, unittest

sys.dont_write_bytecode = True
from microphone import Model, Recording, check_words, lost_words, run_tests, slowdown, spoken, wait_for, words  # noqa: E402
from sound_server import Daemon, missing  # noqa: E402

PROGRAM, ROOT = (os.path.abspath(a) for a in sys.argv[1:3])
BOX = tempfile.mkdtemp(prefix="surtitle-mic.")
MODEL = Model(ROOT, BOX)


def record(daemon, *options):
    """Starts the program; returns once it gets sound and the model is loaded. run.sound: about when that was."""
    run = Recording(PROGRAM, MODEL, daemon.env, *options)
    wait_for(daemon.is_recorded, "the recording")  # the sound server has connected it
    run.wait_for_sound()  # up to 2 s later: a null sink's first block
    run.sound = time.monotonic()
    return run


def play(daemon):
    assert subprocess.run(["paplay", MODEL.clip], env=daemon.env, stdin=subprocess.DEVNULL, timeout=120).returncode == 0
    time.sleep(1)  # the sound server's own delay, which it does not report


def check_clip(daemon, run):
    """Asserts that the words are those of the file."""
    if MODEL.demo:
        r = subprocess.run([PROGRAM, "--model", MODEL.folder, MODEL.clip], env=daemon.env, capture_output=True, timeout=120,
                           check=True)
        check_words(words(r.stdout.decode()), spoken(run.events("text")), lost_words(run))


def device_skips(run):
    """The skips, without those of a busy machine."""
    return [s for s in run.events("skip") if s["why"] == "device"]


def refused(env, *options, **how):
    r = subprocess.run([PROGRAM, "--model", MODEL.folder, *options], env=env, capture_output=True, timeout=60, **how)
    line = r.stderr.decode()
    assert r.returncode == 3 and line.count("\n") == 1 and not r.stdout, r
    return line


def refused_to_another(daemon):
    """As root: the line that another user gets, who may not use the daemon's socket; empty if that user cannot run it."""
    if os.geteuid() != 0:
        return ""
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    os.chmod(BOX, 0o755)
    os.chmod(BOX + "/run", 0o755)
    os.chmod(daemon.socket, 0o700)
    try:
        if subprocess.run([PROGRAM, "--version"], capture_output=True, **nobody).returncode != 0:
            return ""
        return refused(daemon.env, **nobody)
    except OSError:
        return ""
    finally:
        os.chmod(daemon.socket, 0o777)
        os.chmod(BOX + "/run", 0o700)
        os.chmod(BOX, 0o700)


class Microphone(unittest.TestCase):
    daemon = None

    def test_list(self):
        r = subprocess.run([PROGRAM, "--list-devices"], env=self.daemon.env, capture_output=True, timeout=60)
        text = r.stdout.decode()
        assert r.returncode == 0 and not r.stderr and "ALSA" in text and "pulse" in text, r
        assert sum(line.startswith("*") and " default " in line for line in text.splitlines()) == 1, text

    def test_device_option(self):
        for words_, status, text in [(["--device", "nosuch"], 3, "nosuch"), (["--device", "999"], 3, "999"),
                                     (["--device", "x", MODEL.clip], 2, "--device"), (["--rate", "8000"], 2, "--rate")]:
            r = subprocess.run([PROGRAM, "--model", MODEL.folder, *words_], env=self.daemon.env, capture_output=True, timeout=60)
            line = r.stderr.decode()
            assert r.returncode == status and line.count("\n") == 1 and text in line, r
        run = record(self.daemon, "--device", "PULS")
        assert run.events("start")[0]["rate"] == 48000
        run.end()

    def test_no_microphone(self):
        """Each reason has its own line, which says what to do."""
        plain = {k: v for k, v in self.daemon.env.items() if not k.startswith("PULSE")}
        line = refused(dict(self.daemon.env, PULSE_SOURCE="nosuch"))
        assert "nosuch" in line and "PULSE_SOURCE" in line and "pactl list short sources" in line, line
        with open("/proc/asound/cards") if os.path.exists("/proc/asound/cards") else open(os.devnull) as cards:
            card = "[" in cards.read()
        if not card:  # a card would be used if there is no sound server
            for options in [[], ["--list-devices"], ["--device", "pulse"]]:
                line = refused(dict(plain, XDG_RUNTIME_DIR=BOX + "/home"), *options)
                assert "no sound server runs" in line, line
            line = refused(dict(self.daemon.env, PULSE_SERVER=f"unix:{BOX}/nothing"))
            assert "no sound server runs at" in line and "PULSE_SERVER" in line, line
            line = refused(dict(self.daemon.env, PULSE_SERVER="tcp:127.0.0.1:1"))
            assert "tcp:127.0.0.1:1" in line and "cannot be reached" in line, line
            line = refused_to_another(self.daemon)
            assert "refuses" in line and "run surtitle as" in line or not line, line
        self.daemon.pactl("unload-module", "module-null-sink")
        line = refused(self.daemon.env)
        self.daemon.pactl("load-module", "module-null-sink", "sink_name=mic", "rate=48000")
        assert "the sound server gives no microphone" in line, line

    def test_clip(self):
        report = BOX + "/report.json"
        run = record(self.daemon, "--latency-report", report, "--stats")
        play(self.daemon)
        end = run.end(since=run.sound)
        assert not device_skips(run) and end["steps"] > 20, (run.events("skip"), end)
        check_clip(self.daemon, run)
        assert "ALSA" not in run.errors() and "gone" not in run.errors(), run.errors()
        with open(report) as f:
            r = json.load(f)
        assert r["rate"] == 48000 and r["resampler"] == "speex" and 4.5 < r["resampler_delay_ms"] < 6, r
        assert r["steps"] > 10 and 0 < r["added_ms"]["p50"] <= r["added_ms"]["max"] and r["period_ms"] <= 100, r
        assert sum(n for _, n in r["histogram_ms"]) == r["steps"], r
        assert abs(r["skipped_ms"] - 1000 * end["skipped"]) < 1, (r, end)

    def test_unplugged(self):
        run = record(self.daemon)
        player = subprocess.Popen(["paplay", MODEL.clip], env=self.daemon.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5)
        self.daemon.pactl("unload-module", "module-null-sink")
        gone = time.monotonic()
        wait_for(lambda: run.states() == ["lost"], "the device's loss")
        player.kill()
        player.wait()
        self.daemon.pactl("load-module", "module-null-sink", "sink_name=mic", "rate=48000")
        there = time.monotonic()
        wait_for(lambda: run.states() == ["lost", "back"], "the device's return")
        back_after = time.monotonic() - gone
        play(self.daemon)
        run.end(since=run.sound)
        lost, back = run.events("device")
        skips = device_skips(run)
        assert len(skips) == 1, skips
        # exactly that time: it begins at the last sample, and the clock has advanced since
        gap = skips[0]["t1"] - skips[0]["t0"]
        assert there - gone - 0.5 < gap < back_after + 1.5 * slowdown(), (gap, there - gone, back_after)
        assert abs(lost["t"] - skips[0]["t0"]) < 0.2 and -0.1 < back["t"] - skips[0]["t1"] < slowdown(), (lost, back, skips)
        assert run.errors().count(" is gone: ") == 1 and run.errors().count("default is back\n") == 1, run.errors()
        check_clip(self.daemon, run)

    def test_server_restarts(self):
        run = record(self.daemon)
        self.daemon.stop()
        wait_for(lambda: run.states() == ["lost"], "the device's loss")
        self.daemon.start()
        wait_for(lambda: run.states() == ["lost", "back"], "the device's return")
        time.sleep(0.5)
        assert run.end(since=run.sound)["skipped"] > 0.3

    def test_stopped_while_lost(self):
        run = record(self.daemon)
        self.daemon.stop()
        try:
            wait_for(lambda: run.states() == ["lost"], "the device's loss")
            run.end(signal.SIGTERM)
        finally:
            self.daemon.start()

    def test_suspend(self):
        run = record(self.daemon)
        began = time.monotonic()
        run.p.send_signal(signal.SIGTSTP)
        stat = f"/proc/{run.p.pid}/stat"
        wait_for(lambda: open(stat).read().rsplit(")", 1)[1].split()[0] == "T", "the stop")
        assert not self.daemon.is_recorded(), "the microphone is still held"
        time.sleep(2)
        run.p.send_signal(signal.SIGCONT)
        run.wait_for_sound(times=2)
        took = time.monotonic() - began
        time.sleep(1)
        run.end(since=run.sound)
        skips = device_skips(run)
        assert len(skips) == 1 and 1.5 < skips[0]["t1"] - skips[0]["t0"] < took + 0.5, (skips, took)
        assert not run.events("device")


def main():
    why = missing(PROGRAM)
    if why:
        print(why)
        return 77
    MODEL.make(3)
    daemon = Microphone.daemon = Daemon(BOX)
    try:
        return run_tests(sys.argv[3:])
    finally:
        daemon.stop()


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

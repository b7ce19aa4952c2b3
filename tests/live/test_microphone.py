"""The microphone, with a PulseAudio daemon of the test's own: a null sink whose monitor is the default source, which the
program meets through ALSA's pulse plug. Arguments: program, source folder, and optionally words that the names of the
tests to run contain. 77: no pulseaudio here, or a build without PortAudio."""
import json, os, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
from microphone import Model, Recording, check_words, run_tests, spoken, wait_for, words  # noqa: E402
from sound_server import Daemon, missing  # noqa: E402

PROGRAM, ROOT = (os.path.abspath(a) for a in sys.argv[1:3])
BOX = tempfile.mkdtemp(prefix="surtitle-mic.")
MODEL = Model(ROOT, BOX)


def record(daemon, *options):
    run = Recording(PROGRAM, MODEL, daemon.env, *options)
    wait_for(daemon.is_recorded, "the recording")  # samples come: the sound server has connected it
    wait_for(lambda: '"start"' in run.text(), "the model")
    time.sleep(0.5)
    return run


def play(daemon, wait=True):
    p = subprocess.Popen(["paplay", MODEL.clip], env=daemon.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if wait:
        assert p.wait(60) == 0
    return p


def check_clip(daemon, run):
    """The clip's words, as the file gives them."""
    if MODEL.demo:
        r = subprocess.run([PROGRAM, "--model", MODEL.folder, MODEL.clip], env=daemon.env, capture_output=True, timeout=120,
                           check=True)
        check_words(words(r.stdout.decode()), spoken(run.events("text")))


def test_list(daemon):
    r = subprocess.run([PROGRAM, "--list-devices"], env=daemon.env, capture_output=True, timeout=30)
    text = r.stdout.decode()
    assert r.returncode == 0 and not r.stderr and "ALSA" in text and "pulse" in text, r
    assert sum(line.startswith("*") and " default " in line for line in text.splitlines()) == 1, text


def test_device_option(daemon):
    for words_, status, text in [(["--device", "nosuch"], 3, "nosuch"), (["--device", "999"], 3, "999"),
                                 (["--device", "x", MODEL.clip], 2, "--device"), (["--rate", "8000"], 2, "--rate")]:
        r = subprocess.run([PROGRAM, "--model", MODEL.folder, *words_], env=daemon.env, capture_output=True, timeout=30)
        line = r.stderr.decode()
        assert r.returncode == status and line.count("\n") == 1 and text in line, r
    run = record(daemon, "--device", "PULS")
    assert run.events("start")[0]["rate"] == 48000
    run.end()


def test_clip(daemon):
    report = BOX + "/report.json"
    run = record(daemon, "--latency-report", report, "--stats")
    play(daemon)
    time.sleep(1)
    end, _ = run.end()
    took = time.monotonic() - run.began
    assert took - end["t"] < 2.5 and end["skipped"] == 0 and end["steps"] > 20, (end, took)
    check_clip(daemon, run)
    assert "ALSA" not in run.errors() and "gone" not in run.errors(), run.errors()
    with open(report) as f:
        r = json.load(f)
    assert r["rate"] == 48000 and r["resampler"] == "speex" and 4.5 < r["resampler_delay_ms"] < 6, r
    assert r["steps"] > 10 and 0 < r["added_ms"]["p50"] <= r["added_ms"]["max"] and r["period_ms"] <= 100, r
    assert sum(n for _, n in r["histogram_ms"]) == r["steps"] and r["lost_frames"] == 0, r


def test_unplugged(daemon):
    run = record(daemon)
    player = play(daemon, wait=False)
    time.sleep(1.5)
    daemon.pactl("unload-module", "module-null-sink")
    wait_for(lambda: "lost" in run.states(), "the device's loss")
    player.kill()
    player.wait()
    daemon.pactl("load-module", "module-null-sink", "sink_name=mic", "rate=48000")
    wait_for(lambda: "back" in run.states(), "the device's return")
    play(daemon)
    time.sleep(1)
    end, _ = run.end()
    lost, back = run.events("device")
    skips = run.events("skip")
    assert [s["why"] for s in skips] == ["device"], skips
    gap = skips[0]["t1"] - skips[0]["t0"]
    assert 0.5 < gap < 15 and abs(end["skipped"] - gap) < 0.01, (skips, end)
    # only that time: it begins where the last sample came, and the clock has gone on since
    assert abs(lost["t"] - skips[0]["t0"]) < 0.2 and abs(back["t"] - skips[0]["t1"]) < 0.5, (lost, back, skips)
    assert time.monotonic() - run.began - end["t"] < 2.5, end
    assert run.errors().count(" is gone: ") == 1 and run.errors().count("default is back\n") == 1, run.errors()
    check_clip(daemon, run)


def test_server_restarts(daemon):
    run = record(daemon)
    daemon.stop()
    wait_for(lambda: "lost" in run.states(), "the device's loss")
    daemon.start()
    wait_for(lambda: "back" in run.states(), "the device's return")
    time.sleep(0.5)
    assert run.end()[0]["skipped"] > 0.3


def test_stopped_while_lost(daemon):
    run = record(daemon)
    daemon.stop()
    try:
        wait_for(lambda: "lost" in run.states(), "the device's loss")
        run.end(signal.SIGTERM)
    finally:
        daemon.start()


def test_suspend(daemon):
    run = record(daemon)
    run.p.send_signal(signal.SIGTSTP)
    stat = f"/proc/{run.p.pid}/stat"
    wait_for(lambda: open(stat).read().rsplit(")", 1)[1].split()[0] == "T", "the stop")
    assert not daemon.is_recorded(), "the microphone is still held"
    time.sleep(2)
    run.p.send_signal(signal.SIGCONT)
    time.sleep(2)
    end, _ = run.end()
    skips = run.events("skip")
    assert [s["why"] for s in skips] == ["device"] and 1.5 < end["skipped"] < 6, (skips, end)
    assert not run.events("device") and time.monotonic() - run.began - end["t"] < 2.5, end


def main():
    why = missing(PROGRAM)
    if why:
        print(why)
        return 77
    MODEL.make(3)
    daemon = Daemon(BOX)
    try:
        return run_tests(globals(), sys.argv[3:], daemon)
    finally:
        daemon.stop()


try:
    sys.exit(main())
finally:
    shutil.rmtree(BOX, ignore_errors=True)

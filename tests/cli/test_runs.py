"""Outputs that fail, signals, lag, and the same bits however the samples arrive."""
import fcntl, json, os, random, re, select, signal, struct, subprocess, termios, threading, time, unittest

from program import BOX, CLIP, ENV, LONG, MODEL, PROGRAM, check, clip, feed_all, main, make_wav, noise, path
from program import read_until, run, start, tokens, wait_for_handler


class Output(unittest.TestCase):
    def test_output_closed(self):
        for more in [[], ["--format", "jsonl"], ["--format", "vtt"]]:
            reader, writer = os.pipe()
            os.close(reader)
            r = subprocess.run([PROGRAM, "--model", MODEL, *more, CLIP], stdout=writer, stderr=subprocess.PIPE, timeout=LONG)
            os.close(writer)
            assert r.returncode == 0 and not r.stderr, r
        r = subprocess.run(["sh", "-c", '"$@" >&-', "sh", PROGRAM, "--model", MODEL, CLIP], capture_output=True, timeout=LONG)
        assert r.returncode == 0 and not r.stderr, r
        r = subprocess.run(["sh", "-c", '"$@" | head -c 0', "sh", PROGRAM, "--model", MODEL, CLIP], capture_output=True,
                           timeout=LONG)
        assert r.returncode == 0 and not r.stderr, r

    def test_output_closed_but_not_the_caption_file(self):
        reader, writer = os.pipe()
        caption = path("caption")
        p = subprocess.Popen([PROGRAM, "--model", MODEL, "--caption-file", caption, "--stats", "--format", "jsonl", "-"],
                             stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, env=ENV)
        os.close(writer)
        os.close(reader)
        _, err = p.communicate(clip(2), timeout=LONG)
        assert p.returncode == 0 and b"audio 2.000 s" in err, err
        assert open(caption).read() == ""

    def test_output_fails(self):
        with open("/dev/full", "wb") as full:
            r = subprocess.run([PROGRAM, "--model", MODEL, "--format", "jsonl", CLIP], stdout=full, stderr=subprocess.PIPE)
            check(r, 1, "standard output")
        check(run("--output", "/dev/full", "--format", "tokens", CLIP), 1, "/dev/full")
        check(run("--output", BOX, CLIP), 1, BOX)
        check(run("--caption-file", BOX, CLIP), 1, BOX)
        check(run("--caption-file", path("none/x"), CLIP), 1, "none/x")

    def test_output_file(self):
        want = check(run("--format", "srt", CLIP), 0).stdout
        out = path("out.srt", data=b"old" * 9999)
        r = check(run("--format", "srt", "--output", out, CLIP), 0)
        assert not r.stdout and open(out, "rb").read() == want


def stopped_by(number, **more):
    """The output when a signal ends a stream of two seconds."""
    p = start("--format", "tokens", "--pcm", "s16le", "-", **more)
    p.stdin.write(clip(2))
    got = read_until(p.stdout.fileno(), lambda b: b.count(b"\n") >= 15)
    p.send_signal(number)
    rest, err = p.stdout.read(), p.stderr.read()
    assert p.wait(LONG) == 0 and not err, (number, p.returncode, err)
    return got + rest


class Signals(unittest.TestCase):
    def test_signals_flush_the_tail(self):
        want = tokens("--pcm", "s16le", "-", data=clip(2))
        assert want.count(b"\n") > 25
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            assert stopped_by(number) == want, number
            assert stopped_by(number, preexec_fn=lambda n=number: signal.signal(n, signal.SIG_IGN)) == want, number
        assert stopped_by(signal.SIGINT, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])) == want

    def test_signal_before_any_sound(self):
        p = start("--pcm", "s16le", "-")
        wait_for_handler(p)
        time.sleep(0.3)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=LONG)
        assert p.returncode == 0 and not out and not err, (p.returncode, err)

    def test_signal_while_paced(self):
        p = start("--format", "jsonl", "--pace", make_wav("minute.wav", noise(60)))
        read_until(p.stdout.fileno(), lambda b: b"\n" in b)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=LONG)
        end = json.loads(out.decode().split("\n")[-2])
        # it ends long before the file does
        assert p.returncode == 0 and not err and end["type"] == "end" and 0 < end["t"] < 50, (p.returncode, err, end)

    def test_lag_is_skipped_and_marked(self):
        """A pipe whose writer continues while the program is stopped. (A paced file waits with the program.)"""
        formats, stop = ["jsonl", "text", "srt", "vtt"], threading.Event()
        runs = [start("--format", f, "--pcm", "s16le", "--max-lag", "1", "--stats", "--caption-file", path("lag-" + f), "-")
                for f in formats]

        def speak():
            sound, began, n = noise(60), time.monotonic(), 0
            while not stop.is_set() and n < len(sound):
                for p in runs:
                    p.stdin.write(sound[n:n + 2560])
                n += 2560  # 80 ms
                stop.wait(max(0, began + n / 32000 - time.monotonic()))

        for p in runs:
            fcntl.fcntl(p.stdin, 1031, 1 << 20)  # F_SETPIPE_SZ: the writer never waits
        speaker = threading.Thread(target=speak)
        speaker.start()
        read_until(runs[0].stdout.fileno(), lambda b: b"\n" in b)
        time.sleep(1.5)
        for p in runs:
            p.send_signal(signal.SIGSTOP)
        time.sleep(3)
        for p in runs:
            p.send_signal(signal.SIGCONT)
        time.sleep(1.5)
        for p in runs:
            p.send_signal(signal.SIGINT)
        stop.set()
        speaker.join()
        for p, f in zip(runs, formats):
            out, err = (b.decode() for b in p.communicate(timeout=LONG))
            assert p.returncode == 0 and "; skipped " in err, (f, err)
            skipped = float(re.search(r"(?m)^skipped (\S+) s$", err).group(1))
            audio = float(re.search(r"(?m)^audio (\S+) s$", err).group(1))
            # a busy machine skips more, but less than the whole; every skip reported is counted
            assert 1.5 < skipped < audio and audio > 4, (f, skipped, audio)
            if f == "jsonl":
                lines = [json.loads(line) for line in out.splitlines()]  # the start was read above
                skips = [line for line in lines if line["type"] == "skip"]
                assert skips and all(s["why"] == "lag" for s in skips), lines
                assert abs(sum(s["t1"] - s["t0"] for s in skips) - skipped) < 0.01 and lines[-1]["skipped"] > 1.5, lines
            else:
                assert re.search(r"(?m)^\[skipped \d\.\d s\]$", out), (f, out)

    def test_pipe_with_max_lag(self):
        want = tokens("--pcm", "s16le", "-", data=clip(2))
        # --max-lag is never reached; a line about the backlog is allowed.
        assert run("--format", "tokens", "--max-lag", "2.5", "--pcm", "s16le", "-", data=clip(2)).stdout == want

    def test_output_that_blocks(self):
        p = start("--format", "tokens", "--pace", "--max-lag", "2", "--stats", make_wav("minute.wav", noise(60)))
        read_until(p.stdout.fileno(), lambda b: b"\n" in b)
        fcntl.fcntl(p.stdout, 1031, 4096)  # F_SETPIPE_SZ: full after some seconds, and nobody reads
        time.sleep(9)
        p.send_signal(signal.SIGTERM)
        out, err = p.communicate(timeout=LONG)  # reads again: what was heard comes out
        assert p.returncode == 0 and out.count(b"\n") > 20, (p.returncode, err)

    def test_output_that_blocks_for_ever(self):
        """One SIGTERM is enough, with a blocking pipe or not; a second one changes nothing."""
        for blocking, second in [(True, False), (False, False), (True, True)]:
            reader, writer = os.pipe()
            fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
            os.set_blocking(writer, blocking)
            p = subprocess.Popen([PROGRAM, "--model", MODEL, "--format", "tokens", "--caption-file", path("caption"), "--pcm",
                                  "s16le", "-"], stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, env=ENV)
            os.close(writer)
            writing = threading.Thread(target=feed_all, args=(p.stdin, noise(60)), daemon=True)
            writing.start()
            full = -1
            while full != (full := struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0\0\0\0"))[0]) or full == 0:
                time.sleep(1.5)
            p.send_signal(signal.SIGTERM)
            began = time.monotonic()
            if second:
                time.sleep(0.6)
                p.send_signal(signal.SIGTERM)
            status, took = p.wait(LONG), time.monotonic() - began
            assert status == 1 and took > 2, (status, took)
            assert p.stderr.read() == b"surtitle: standard output is not being read: the rest is lost\n"
            assert open(path("caption")).read() == ""
            os.close(reader)
            writing.join(LONG)
            p.stderr.close()

    def test_latency_report(self):
        report = path("report.json")
        check(run("--latency-report", report, CLIP), 2, "--latency-report")
        check(run("--pace", "--latency-report", path("none/x"), make_wav("short.wav", clip(1))), 1, "none/x")
        check(run("--pace", "--max-lag", "60", "--latency-report", report, make_wav("paced.wav", noise(3, rate=44100), 44100)), 0)
        with open(report) as f:
            r = json.load(f)
        a = r["added_ms"]
        assert r["rate"] == 44100 and r["resampler"] == "soxr" and r["delay_ms"] == 480 and r["backend"] == "cpu", r
        assert r["steps"] + r["startup_steps"] >= 20 and sum(n for _, n in r["histogram_ms"]) == r["steps"], r
        assert 0 < a["p50"] <= a["p90"] <= a["p99"] <= a["p99.9"] <= a["max"] and r["skips"] == 0, r
        assert 0 < r["resampler_delay_ms"] < 100 and 19 < r["period_ms"] < 21 and 0 <= r["longest_queue_ms"] <= 3000, r

    def test_second_interrupt(self):
        p = start("--format", "tokens", make_wav("minute.wav", noise(200)))  # more than a pipe holds, and the test does not read
        time.sleep(0.5)
        while select.select([p.stdout], [], [], 0)[0] == []:
            time.sleep(0.1)
        deadline = time.monotonic() + LONG
        size = -1
        while time.monotonic() < deadline:  # until the pipe is full
            now = struct.unpack("i", fcntl.ioctl(p.stdout, termios.FIONREAD, b"\0\0\0\0"))[0]
            if now == size:
                break
            size = now
            time.sleep(1)
        p.send_signal(signal.SIGINT)
        time.sleep(0.6)
        assert p.poll() is None
        p.send_signal(signal.SIGINT)
        assert p.wait(LONG) == 130
        p.communicate()


def pieces(data, sizes, *args):
    p = start("--format", "tokens", *args, "-")
    at = 0
    while at < len(data):
        n = next(sizes)
        p.stdin.write(data[at:at + n])
        at += n
    out, err = p.communicate(timeout=LONG)
    assert p.returncode == 0 and not err, err
    return out


class Bits(unittest.TestCase):
    def test_bits_whole_live_threads(self):
        want = tokens(CLIP)
        with open(CLIP, "rb") as f:
            assert tokens("-", data=f.read()) == want
        assert tokens("--threads", "1", CLIP) == want
        assert tokens("--threads", "2", CLIP) == want
        assert tokens("--threads", "2", "--pcm", "s16le", "-", data=clip(1000)) == want

    def test_bits_pace(self):
        short = make_wav("short.wav", clip(1.5))
        began = time.monotonic()
        got = tokens("--pace", short)
        took = time.monotonic() - began
        assert took >= 1.5, took
        assert got == tokens(short)

    def test_bits_one_sample_at_a_time(self):
        data = clip(1)
        assert pieces(data, iter(lambda: 2, 0), "--pcm", "s16le") == tokens("--pcm", "s16le", "-", data=data)

    def test_bits_random_pieces(self):
        r, data = random.Random(4), clip(3)
        want = tokens("--pcm", "s16le", "-", data=data)
        assert pieces(data, iter(lambda: r.randrange(1, 5000), 0), "--pcm", "s16le") == want
        with open(make_wav("pieces.wav", noise(2 * 2, rate=44100), 44100, 2), "rb") as f:
            wav = f.read()
        assert pieces(wav, iter(lambda: r.randrange(1, 3001), 0)) == tokens(path("pieces.wav"))

    def test_live_means_at_once(self):
        p = start("--format", "tokens", "-")
        p.stdin.write(clip(2))  # token k needs (delay + k + 1) * 80 ms: 2 s are 25, less 6 of delay, one and the last's edge
        got = read_until(p.stdout.fileno(), lambda b: b.count(b"\n") >= 17)
        assert got.count(b"\n") < 25
        p.communicate(timeout=LONG)

    def test_force(self):
        ids = [line.split(b"\t")[1] for line in tokens(CLIP).splitlines()]
        want = tokens(CLIP)
        assert tokens("--force", path("ids", data=b"\n".join(ids)), CLIP) == want
        assert tokens("--force", path("pads", data=b"33\n" * 60), CLIP) != want
        check(run("--force", path("absent"), CLIP), 1, "absent")
        check(run("--force", path("words", data=b"1\ntwo\n"), CLIP), 1, "line 2")
        check(run("--force", path("big", data=b"1\n999999999\n"), CLIP), 2, "999999999")


main()

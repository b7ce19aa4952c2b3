"""What each format writes, the caption file, and the figures of --stats."""
import json, os, pty, re, shutil, subprocess, time, unittest

from program import BOX, CLIP, ENV, LONG, MODEL, PROGRAM, check, clip, main, make_wav, noise, path, run, start, tokens


def captions(fmt, *args):
    return check(run("--format", fmt, *args, CLIP), 0).stdout.decode()


def check_cues(blocks, numbered, point):
    end = 0
    for i, block in enumerate(blocks):
        rows = block.split("\n")
        if numbered:
            assert rows.pop(0) == str(i + 1), block
        m = re.fullmatch(rf"(\d\d):(\d\d):(\d\d){point}(\d{{3}}) --> (\d\d):(\d\d):(\d\d){point}(\d{{3}})", rows.pop(0))
        assert m, block
        a, b = (int(h) * 3600 + int(m_) * 60 + int(s) + int(ms) / 1000 for h, m_, s, ms in (m.groups()[:4], m.groups()[4:]))
        assert end <= a < b, block
        end = b
        assert 1 <= len(rows) <= 2 and all(0 < len(row) <= 60 and "-->" not in row for row in rows), block


def until_caption(caption, wanted, seconds=LONG):
    end = time.monotonic() + seconds
    while not os.path.exists(caption) or bool(open(caption).read()) != wanted:
        assert time.monotonic() < end, "the caption does not come, or go"
        time.sleep(0.02)


class Formats(unittest.TestCase):
    def test_tokens_parse(self):
        for i, line in enumerate(captions("tokens").splitlines()):
            assert re.fullmatch(rf"{i}\t\d+\t\d+\.\d{{6}}\t[^\x00-\x1f\x7f]+", line), line

    def test_jsonl_parse(self):
        lines = [json.loads(line) for line in captions("jsonl").splitlines()]
        first, last = lines[0], lines[-1]
        assert list(first) == ["type", "version", "model", "backend", "delay_ms", "rate", "wall"], first
        assert first["type"] == "start" and first["model"] == MODEL and first["rate"] == 16000 and first["delay_ms"] == 480
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["wall"]), first
        assert list(last) == ["type", "t", "steps", "skipped"] and last["type"] == "end" and last["skipped"] == 0, last
        assert last["steps"] == captions("tokens").count("\n")
        t = 0
        for line in lines[1:-1]:
            assert list(line) == ["type", "t0", "t1", "text", "alt"] and line["type"] == "text" and line["alt"] == [], line
            assert t <= line["t0"] < line["t1"] and line["text"], line
            t = line["t1"]
        text = captions("text")
        assert "".join("".join(l["text"] for l in lines[1:-1]).split()) == "".join(text.split())
        assert text == "" or (text.endswith("\n") and not re.search(r"(?m)^ | $|^$", text[:-1])), text

    def test_alternatives(self):
        alt = [a for line in captions("jsonl", "--alternatives", "0.9").splitlines()[1:-1] for a in json.loads(line)["alt"]]
        assert all(isinstance(w, str) and 0.1 <= p <= 1 for w, p in alt), alt
        text = captions("text", "--alternatives", "0.9")
        assert "[" in text or not alt
        assert "".join(re.sub(r"\[([^|\]]*)\|[^\]]*\]", r"\1", text).split()) == "".join(captions("text").split())

    def test_timestamps_and_width(self):
        for line in captions("text", "--timestamps").splitlines():
            assert re.match(r"\[\d\d:\d\d:\d\d\.\d{3}\] \S", line), line
        lines = captions("text", "--width", "20").splitlines()
        assert all(0 < len(line) <= 20 for line in lines)
        assert "".join("".join(lines).split()) == "".join(captions("text").split())

    def test_srt_and_vtt_parse(self):
        srt, vtt = captions("srt"), captions("vtt")
        check_cues(srt.split("\n\n")[:-1], True, ",")
        assert vtt.startswith("WEBVTT\n\n")
        check_cues(vtt[8:].split("\n\n")[:-1], False, r"\.")
        assert srt == "" or srt.endswith("\n\n")
        assert srt.count("-->") == vtt.count("-->")

    def test_terminal_is_wrapped(self):
        master, slave = pty.openpty()
        p = subprocess.Popen([PROGRAM, "--model", MODEL, CLIP], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=ENV)
        os.close(slave)
        got = b""
        try:
            while True:
                got += os.read(master, 65536)
        except OSError:  # the other end is closed
            pass
        os.close(master)
        assert p.wait(LONG) == 0
        lines = got.decode().replace("\r\n", "\n").splitlines()
        assert all(len(line) <= 80 for line in lines), lines
        assert "".join("".join(lines).split()) == "".join(captions("text").split())

    def test_caption_file(self):
        if not captions("text"):
            raise unittest.SkipTest("this model says nothing")
        caption = path("screen", data=b"old")
        os.chmod(caption, 0o640)
        p = start("--caption-file", caption, "-")
        p.stdin.write(clip(1000))
        seen, end = set(), time.monotonic() + LONG
        while time.monotonic() < end and ("" not in seen or len(seen) < 2):  # a pause of the input empties it by the clock
            seen.add(open(caption).read())
            time.sleep(0.02)
        assert "" in seen and len(seen) > 1 and "old" not in seen, seen
        assert all(s == "" or (s.endswith("\n") and s.count("\n") <= 2 and "\n\n" not in s) for s in seen), seen
        p.communicate(clip(1), timeout=LONG)
        assert p.returncode == 0 and open(caption).read() == "" and os.stat(caption).st_mode & 0o777 == 0o640
        assert [n for n in os.listdir(BOX) if n.startswith(("screen", ".surtitle-"))] == ["screen"]

    def test_model_is_cut_while_in_use(self):
        if not captions("text"):
            raise unittest.SkipTest("this model says nothing")
        broken = path("broken")
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(MODEL, broken)
        p = subprocess.Popen([PROGRAM, "--model", broken, "--caption-file", path("cut"), "--pace", make_wav("minute.wav", noise(60))],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENV)
        until_caption(path("cut"), True)
        os.truncate(os.path.join(broken, "consolidated.safetensors"), 4096)
        assert p.wait(LONG) == 1, (p.returncode, p.stderr.read())
        line = f"surtitle: {broken}/consolidated.safetensors: the file was cut while it was in use\n"
        assert p.stderr.read().decode() == line
        assert open(path("cut")).read() == ""
        p.stderr.close()

    def test_fifo_that_falls_silent(self):
        """A FIFO as FILE is a pipe: captions disappear by the clock. (Line breaks of text depend on the sound alone.)"""
        if not captions("text"):
            raise unittest.SkipTest("this model says nothing")
        fifo = path("fifo")
        os.mkfifo(fifo)
        p = start("--caption-file", path("tick"), "--pcm", "s16le", fifo)
        with open(fifo, "wb", buffering=0) as f:
            os.unlink(fifo)  # it is open: its name is not needed any more
            f.write(clip(1000))
            until_caption(path("tick"), True)
            until_caption(path("tick"), False)
        assert p.wait(LONG) == 0
        p.communicate()

    def test_stats_and_log(self):
        r = check(run("--stats", CLIP), 0)
        lines = r.stderr.decode().splitlines()
        assert all(re.fullmatch(r"[a-z-]+ \S+ \S+", line) for line in lines), lines
        names = {line.split()[0] for line in lines}
        assert {"audio", "wall", "load", "encode", "decode", "steps", "real-time-factor", "peak-memory", "backend",
                "load-weights", "device-memory", "layers", "resident-layers", "uploads", "uploaded"} <= names
        figures = {line.split()[0]: float(line.split()[1]) for line in lines if not line.endswith(" name")}
        assert figures["layers"] >= figures["resident-layers"] > 0 and 0 <= figures["load-weights"] <= figures["load"], lines
        r = check(run("--log-level", "debug", CLIP), 0)
        assert all(re.match(r"surtitle: (error|warning|info|debug): .", line) for line in r.stderr.decode().splitlines())


main()

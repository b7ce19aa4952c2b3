"""Options, exit statuses, what is refused as input, and where the model is found."""
import json, os, re, shutil, struct, subprocess, unittest

from program import BOX, CLIP, ENV, LONG, MODEL, PROGRAM, check, clip, main, make_wav, noise, path, run, tokens


class Options(unittest.TestCase):
    def test_usage_errors(self):
        for args, words in [
                (["--nonsense"], ["--nonsense"]), (["-x"], ["-x"]), (["--form", "text", "x"], ["--form"]),
                (["--nonsense=3", "x"], ["--nonsense"]), (["--model"], ["--model", "PATH"]), (["--pace=1"], ["--pace"]),
                (["--format"], ["--format", "text|jsonl|srt|vtt|tokens"]), (["--model=", "x"], ["--model"]),
                (["--format", "html", "x"], ["--format", "text|jsonl|srt|vtt|tokens", "html"]),
                (["--backend", "gpu", "x"], ["--backend", "auto|cuda|cpu"]), (["--kv", "bf16", "x"], ["--kv", "fp16|fp32"]),
                (["--gemm", "mine", "x"], ["--gemm", "own|lt|blas"]),
                (["--cpu", "sse", "x"], ["--cpu", "plain|"]), (["--pcm", "u16", "x"], ["--pcm", "s16le|f32le|u8"]),
                (["--log-level", "loud", "x"], ["--log-level", "error|warn|info|debug"]),
                (["--log-level", "", "x"], ["--log-level"]), (["--format", "tex", "x"], ["--format"]),
                (["a", "b"], ["SOURCE", "a", "b"]), (["--pace", "a", "--stats", "b"], ["SOURCE"]), (["-", "-"], ["SOURCE"]),
                (["x", "--"], ["--", "CMD"]), (["--"], ["--", "CMD"]), (["x", "--", ""], ["--", "CMD"]),
                (["--nonsense", "--", "ls"], ["--nonsense"]), (["a", "b", "--", "ls"], ["SOURCE"]),
                (["--overlay=1", "x"], ["--overlay"]), (["-o"], ["--output", "FILE"]), (["-qx", "x"], ["-x"]),
                (["-qf", "tex", "x"], ["--format", "tex"]), (["-ftex", "x"], ["--format", "tex"]), (["--quiet=1"], ["--quiet"]),
                (["-qd"], ["--device", "NAME|INDEX"]), (["-h=1"], ["-="]), (["-?", "x"], ["-?"]), (["-:"], ["-:"]),
                (["--encode-on", "auto", "x"], ["--encode-on", "cuda|cpu"]), (["--decode-on", "gpu"], ["--decode-on"]),
                (["--window-attention", "lt", "x"], ["--window-attention", "own|gemm"])]:
            r = check(run(*args, model=False), 2, *words)
            assert not r.stdout
        for name, good, bad in [
                ("--delay", "480", ["0", "79", "100", "1280", "2401", "-80", "80ms", "", " 80", "0x50", "80.0", "1e2"]),
                ("--rate", "16000", ["999", "768001", "16k", "-1", "99999999999999999999", "+16000"]),
                ("--channels", "1", ["0", "65", "one"]), ("--channel", "1", ["0", "65", "one"]), ("--width", "40", ["9", "1001", "-3"]),
                ("--alternatives", "0.5", ["-0.1", "1.1", "nan", "inf", "0x1", "", "1,0", "half", "."]),
                ("--max-lag", "2.5", ["0.9", "101", "-1", "nan", "", "5s"]), ("--threads", "1", ["0", "257", "two"]),
                ("--vram-limit", "4000", ["0", "-1", "4G", "1048577"]), ("--gpu", "0", ["-1", "64", "first"])]:
            for value in bad:
                check(run(name + "=" + value, "x", model=False), 2, name)
            r = run(name, good, path("absent"), model=False)
            assert r.returncode in (1, 2) and b"absent" in r.stderr, r  # the value is accepted: the error is about the source

    def test_options_of_the_gpu(self):
        gone = path("absent")
        for args, words in [
                ("--backend cpu --gemm lt", ["--gemm lt", "--backend"]), ("--backend cpu --vram-limit 1", ["--vram-limit"]),
                ("--backend cpu --window-attention gemm", ["--window-attention gemm"]),
                ("--encode-on cpu --window-attention gemm", ["--window-attention gemm", "--encode-on"]),
                ("--encode-on cpu --decode-on cpu --vram-limit 1", ["--vram-limit"]), ("--backend cpu --gpu 0", ["--gpu"]),
                ("--encode-on cpu --decode-on cpu --gemm lt", ["--gemm lt"]),
                ("--backend cpu --encode-on cuda", ["--encode-on cuda", "--backend cpu"]),
                ("--backend cuda --decode-on cpu", ["--decode-on cpu", "--backend cuda"])]:
            check(run(*args.split(), gone, model=False), 2, *words)
        for args in ["--backend cpu --encode-on cpu --window-attention own", "--backend cuda --decode-on cuda",
                     "--vram-limit 1 --decode-on cpu", "--gemm lt --encode-on cpu", "--window-attention gemm --decode-on cpu"]:
            check(run(*args.split(), gone, model=False), 1, "absent")  # the error is about the source
        want = tokens("--backend", "cpu", CLIP)
        for args in ["--encode-on cpu --decode-on cpu", "--backend cpu --decode-on cpu --window-attention own"]:
            assert tokens(*args.split(), CLIP) == want
        if run("--backend", "cuda", CLIP).returncode == 0:
            for args in ["--encode-on cpu", "--decode-on cpu", "--vram-limit 1000"]:
                tokens(*args.split(), CLIP)
            return
        for args in ["--encode-on cuda", "--decode-on cuda --encode-on cpu", "--encode-on cuda --decode-on cuda"]:
            check(run(*args.split(), CLIP), 5, "backend cuda cannot be used: ")
        for args in ["--vram-limit 100", "--gemm lt", "--window-attention gemm", "--gemm lt --encode-on cpu"]:
            check(run(*args.split(), CLIP), 2, args.split()[0], "CUDA")
        r = run("--log-level", "info", CLIP)  # auto continues and says why
        assert r.returncode == 0 and b"backend cuda cannot be used: " in r.stderr, r.stderr

    def test_help_and_version(self):
        help, everything = (check(run(option, model=False), 0) for option in ["--help", "--help-all"])
        self.assertEqual(run("-h", model=False).stdout, help.stdout)
        for r, lines in (help, 60), (everything, 80):
            text = r.stdout.decode()
            assert text.count("\n") <= lines and max(map(len, text.split("\n"))) <= 90 and not r.stderr
        groups = re.findall(rb"^[A-Z][a-z ]+$", everything.stdout, re.M)
        self.assertEqual(groups, [b"Microphone", b"Files and pipes", b"Captions", b"Model", b"Messages", b"Troubleshooting"])
        hidden = set(re.findall(rb"--[a-z-]+", everything.stdout)) - set(re.findall(rb"--[a-z-]+", help.stdout))
        self.assertEqual(hidden, {b"--cpu", b"--kv", b"--encode-on", b"--decode-on", b"--gemm", b"--window-attention", b"--force"})
        r = check(run("--version", model=False), 0)
        assert re.fullmatch(rb"surtitle \d+\.\d+\.\d+\n", r.stdout)
        self.assertEqual(run("-V", model=False).stdout, r.stdout)
        with open("/dev/full", "w") as full:
            assert subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.DEVNULL).returncode == 1

    def test_short_options(self):
        want = tokens(CLIP)
        for args in [["-f", "tokens"], ["-ftokens"], ["-qf", "tokens"], ["-qftokens"]]:
            r = check(run(*args, CLIP), 0)
            self.assertEqual((r.stdout, r.stderr), (want, b""))
        r = check(run("-m", MODEL, "-qftokens", "-o", path("short"), CLIP, model=False), 0)
        self.assertEqual((r.stdout, r.stderr), (b"", b""))
        with open(path("short"), "rb") as f:
            self.assertEqual(f.read(), want)
        check(run("-d", "x", CLIP), 2, "--device")

    def test_quiet(self):
        """Warnings and notices are silent, errors and the figures of --stats are not."""
        zeros = make_wav("zeros.wav", bytes(16000 * 12))
        for quiet in [["-q"], ["--quiet"], ["--log-level", "error"], ["-q", "--log-level", "debug"]]:
            for args, data in ([zeros], b""), (["-"], clip(1)):  # nothing but zeros; raw samples that are taken for s16le
                assert check(run(*args, data=data), 0).stderr
                self.assertEqual(check(run(*quiet, *args, data=data), 0).stderr, b"")
            check(run(*quiet, path("absent")), 1, "absent")
            check(run(*quiet, "-m", BOX + "/none", CLIP, model=False), 4, "none")
            check(run(*quiet, "--nonsense"), 2, "--nonsense")
        self.assertTrue(check(run("-q", "--stats", CLIP), 0).stderr.startswith(b"backend "))

    def test_files_are_not_lost(self):
        keep = path("keep.srt")
        with open(keep, "w") as f:
            f.write("precious")
        check(run("--format", "srt", "--output", keep, CLIP, "--model", BOX + "/none", model=False), 4)
        check(run("--output", keep, "--backend", "cuda", CLIP), 5)
        assert open(keep).read() == "precious"
        sound = path("sound.wav")
        shutil.copy(CLIP, sound)
        for option in ["--output", "--caption-file"]:
            check(run(option, sound, sound), 2, option)
            assert open(sound, "rb").read() == open(CLIP, "rb").read()
        check(run("--backend", "cpu", "--gemm", "lt", path("absent")), 2, "--gemm lt")

    def test_order_of_checks(self):
        bad_model = ["--model", BOX + "/none"]
        check(run("--format", "x", *bad_model, model=False), 2, "--format")
        r = run(*bad_model, model=False)
        # on a busy machine the search for a sound server takes more than the 2.5 s after which a line says so
        r.stderr = r.stderr.replace(b"surtitle: the sound server does not answer: still waiting\n", b"")
        check(r, 4 if r.returncode == 4 else 3, "microphone" if r.returncode == 3 else "none")  # one may be plugged in
        check(run(*bad_model, path("absent"), model=False), 1, "absent")
        check(run(*bad_model, "--backend", "cuda", CLIP, model=False), 4, "none")
        check(run(*bad_model, "--rate", "8000", CLIP, model=False), 2, "--rate")
        check(run(*bad_model, "-", model=False), 1, "standard input")
        check(run(*bad_model, "--output", BOX + "/none/x", CLIP, model=False), 4, "none")
        check(run("--output", BOX + "/none/x", CLIP), 1, "none/x")
        r = run("--backend", "cuda", CLIP)
        if r.returncode == 0:
            raise unittest.SkipTest("there is a CUDA backend")
        check(r, 5, "cuda")

    def test_order_of_words(self):
        want = tokens(CLIP)
        assert tokens("--threads", "1", CLIP, "--log-level", "error") == want
        r = subprocess.run([PROGRAM, CLIP, "--format=tokens", "--model", MODEL], capture_output=True,
                           env=dict(ENV, POSIXLY_CORRECT="1"))
        assert r.returncode == 0 and r.stdout == want


class Input(unittest.TestCase):
    def test_input_that_is_none(self):
        check(run(path("absent")), 1, "absent")
        check(run(BOX), 1, "directory")
        check(run(path("text.txt", data=b"This is a letter, not a recording.\n" * 40)), 1, "text.txt")
        check(run(path("empty.wav", data=b"")), 1, "empty")
        check(run(path("one.wav", data=b"R")), 1, "one.wav")
        check(run(make_wav("nothing.wav", b"")), 1, "nothing.wav")
        check(run("-"), 1, "standard input")
        check(run("-", data=b"\0"), 1, "standard input")
        check(run("--pcm", "f32le", "-", data=b"\0\0\0"), 1, "standard input")
        check(run("-", data=b"fLaC" + bytes(400)), 1, "FLAC", "ffmpeg")
        with open(CLIP, "rb") as f:
            check(run("--rate", "16000", "-", data=f.read()), 2, "--rate")
        r = check(run(path("\x1b[31m\u202e.wav", data=b"x" * 99)), 1)
        assert b"\x1b" not in r.stderr and "\u202e".encode() not in r.stderr

    def test_one_sample(self):
        check(run("-", data=b"\1\0"), 0)
        check(run(make_wav("sample.wav", b"\1\0")), 0)
        check(run("--pcm", "s16le", path("sample.raw", data=b"\1\0\1")), 0)

    def test_every_rate_and_channel(self):
        frames = 19200
        for rate, channels in [(192000, 8), (8000, 2), (768000, 1), (1000, 64)]:
            r = run("--format", "jsonl", make_wav("odd.wav", noise(frames * channels / 16000), rate, channels))
            if rate == 768000 and r.returncode:
                continue  # more than some versions of libsndfile read
            check(r, 0)
            end = json.loads(r.stdout.decode().split("\n")[-2])
            assert end["type"] == "end" and abs(end["t"] - frames / rate) < 0.002, (rate, end)

    def test_pcm_kinds(self):
        s16 = clip(1)
        f32 = struct.pack(f"<{len(s16) // 2}f", *(v / 32768 for v in struct.unpack(f"<{len(s16) // 2}h", s16)))
        want = tokens("--pcm", "s16le", "-", data=s16)
        r = check(run("--format", "tokens", "-", data=s16), 0, "standard input is read as s16le, 16000 Hz, mono")
        assert r.stdout == want and r.stderr.count(b"\n") == 1
        assert tokens("--log-level", "error", "-", data=s16) == want
        assert tokens("--channels", "1", "-", data=s16) == want
        assert tokens("--pcm", "f32le", "-", data=f32) == want
        assert tokens("--pcm", "f32le", path("f32.raw", data=f32)) == want
        assert tokens(make_wav("same.wav", s16)) == want


class Model(unittest.TestCase):
    def test_model_missing_or_cut(self):
        check(run("--model", path("absent"), CLIP, model=False), 4, "absent")
        check(run("--model", CLIP, CLIP, model=False), 4)
        for name in ["params.json", "tekken.json", "consolidated.safetensors"]:
            broken = path("broken")
            shutil.rmtree(broken, ignore_errors=True)
            shutil.copytree(MODEL, broken)
            os.truncate(os.path.join(broken, name), os.path.getsize(os.path.join(broken, name)) // 2)
            check(run("--model", broken, CLIP, model=False), 4, name)
            os.unlink(os.path.join(broken, name))
            check(run("--model", broken, CLIP, model=False), 4, name)

    def test_model_is_found(self):
        os.makedirs(path("data/surtitle"), exist_ok=True)
        if not os.path.islink(path("data/surtitle/model")):
            os.symlink(MODEL, path("data/surtitle/model"))
        want = tokens(CLIP)
        for env in [{"XDG_DATA_HOME": path("data")}, {"XDG_DATA_DIRS": "relative:" + BOX + "/x:" + path("data")}]:
            r = subprocess.run([PROGRAM, "--format", "tokens", CLIP], capture_output=True, env=dict(ENV, **env), timeout=LONG)
            assert r.returncode == 0 and r.stdout == want and not r.stderr, (env, r.stderr)
        # not the current folder, and not a relative one
        r = subprocess.run([PROGRAM, CLIP], capture_output=True, env=dict(ENV, XDG_DATA_HOME="data"), cwd=BOX, timeout=LONG)
        line = r.stderr.decode()
        assert line.count("\n") == 1 and ("demo model" in line if r.returncode == 0 else r.returncode == 4), r


main()

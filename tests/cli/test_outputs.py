"""Outputs: none overwrites the input, a file of the model or another output, by any name; a caption file is replaced as
docs/contract.md says; and an output that cannot be written is reported."""
import itertools, json, os, pathlib, resource, shutil, signal, stat, subprocess, time, unittest

from program import BOX, ENV, LONG, MODEL, full_pipe, main, make_wav, noise, path, run, start, wait_for, wait_until_blocked

CLIP = make_wav("clip.wav", noise(2))
OUTPUTS = ["--output", "--caption-file", "--latency-report"]


def fresh(name="box"):
    """An empty folder for one test."""
    shutil.rmtree(path(name), ignore_errors=True)
    os.makedirs(path(name))
    return path(name)


def content(folder):
    """The state of everything in a folder."""
    out = {}
    for here, folders, files in os.walk(folder):
        for name in files + folders:
            p = os.path.join(here, name)
            is_ = os.lstat(p)
            what = os.readlink(p) if stat.S_ISLNK(is_.st_mode) else open(p, "rb").read() if stat.S_ISREG(is_.st_mode) else ""
            out[os.path.relpath(p, folder)] = (is_.st_mode, is_.st_ino, is_.st_nlink, what)
    return out


def names(folder, target):
    """Other names of folder/target, which may exist or not."""
    real = os.path.join(folder, target)
    os.makedirs(os.path.join(folder, "sub"), exist_ok=True)
    links = {"absolute": real, "relative": os.path.relpath(real, BOX), "dots": os.path.join(folder, "sub", "..", target)}

    def link(name, to):
        os.symlink(to, os.path.join(folder, name))
        return os.path.join(folder, name)
    links["link"] = link("l1", target)
    links["link to a link"] = link("l2", "l1")
    links["link through a folder"] = os.path.join(link("l3", "sub/.."), target)
    links["absolute link"] = link("l4", real)
    if os.path.exists(real):
        os.link(real, os.path.join(folder, "hard"))
        links["hard link"] = os.path.join(folder, "hard")
    return links


class Collisions(unittest.TestCase):
    def refused(self, folder, *args, both, **more):
        before = content(folder)
        r = run(*args, cwd=BOX, **more)
        line = r.stderr.decode()
        self.assertEqual((r.returncode, r.stdout or b"", line.count("\n")), (2, b"", 1), (args, line))
        for word in both:
            self.assertIn(word, line, args)
        self.assertEqual(content(folder), before, args)

    def test_outputs(self):
        """All pairs of outputs, existing or not, by every name."""
        for exists in [True, False]:
            for (first, second), kind in itertools.product(itertools.permutations(OUTPUTS, 2), range(8)):
                folder = fresh()
                if exists:
                    pathlib.Path(folder, "x").write_text("precious")
                all_names = list(names(folder, "x").items())
                if kind < len(all_names):
                    self.refused(folder, "--pace", first, os.path.join(folder, "x"), second, all_names[kind][1], CLIP,
                                 both=[first, second])

    def test_source(self):
        for option in OUTPUTS:
            folder = fresh()
            shutil.copy(CLIP, os.path.join(folder, "s.wav"))
            for name in names(folder, "s.wav").values():
                self.refused(folder, "--pace", option, name, os.path.join(folder, "s.wav"), both=[option, "SOURCE"])
                self.refused(folder, "--pace", option, os.path.join(folder, "s.wav"), name, both=[option, "SOURCE"])
            self.refused(folder, "--pace", option, os.path.join(folder, "none"), os.path.join(folder, "none"),
                         both=[option, "SOURCE"])

    def test_standard_input(self):
        for option, source in itertools.product(OUTPUTS, ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]):
            folder = fresh()
            shutil.copy(CLIP, os.path.join(folder, "s.wav"))
            with open(os.path.join(folder, "s.wav"), "rb") as sound:
                self.refused(folder, "--pace", option, os.path.join(folder, "s.wav"), source, stdin=sound, both=[option])

    def test_standard_output(self):
        """An output that the shell has opened for appending is not mixed with another."""
        for option in ["--caption-file", "--latency-report"]:
            for name in ["x", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]:
                folder = fresh()
                pathlib.Path(folder, "x").write_text("precious")
                with open(os.path.join(folder, "x"), "ab") as out:
                    self.refused(folder, "--pace", option, os.path.join(folder, name), CLIP, stdout=out,
                                 both=[option, "standard output"])
        folder = fresh()
        shutil.copy(CLIP, os.path.join(folder, "s.wav"))
        with open(os.path.join(folder, "s.wav"), "ab") as out:
            self.refused(folder, os.path.join(folder, "s.wav"), stdout=out, both=["SOURCE", "standard output"])
            self.refused(folder, "--output", "-", os.path.join(folder, "s.wav"), stdout=out, both=["SOURCE", "standard"])
            with open(os.path.join(folder, "s.wav"), "rb") as sound:
                self.refused(folder, "-", stdin=sound, stdout=out, both=["standard input", "standard output"])

    def test_descriptors(self):
        folder = fresh()
        with open(os.path.join(folder, "x"), "w") as out:
            for option, other in itertools.permutations(OUTPUTS, 2):
                for name in [f"/dev/fd/{out.fileno()}", f"/proc/self/fd/{out.fileno()}"]:
                    self.refused(folder, "--pace", option, name, other, os.path.join(folder, "x"), CLIP,
                                 pass_fds=[out.fileno()], both=[option, other])

    def test_force(self):
        for option in OUTPUTS:
            folder = fresh()
            pathlib.Path(folder, "ids").write_text("1\n2\n")
            for name in names(folder, "ids").values():
                self.refused(folder, "--pace", "--force", os.path.join(folder, "ids"), option, name, CLIP,
                             both=[option, "--force"])

    def test_model(self):
        for option, name in itertools.product(OUTPUTS, ["params.json", "tekken.json", "consolidated.safetensors"]):
            folder = fresh()
            shutil.copytree(MODEL, folder + "/m")
            for other in names(folder + "/m", name).values():
                self.refused(folder, "--pace", option, other, CLIP, model=folder + "/m", both=[option, "the model's"])
        with open(os.path.join(folder, "m", "params.json"), "ab") as out:
            self.refused(folder, CLIP, model=folder + "/m", stdout=out, both=["standard output", "params.json"])
        notes = pathlib.Path(folder, "m", "notes.json")  # not a file of the model, but for example an earlier transcript
        notes.write_text("old")
        r = run("--format", "jsonl", "--output", str(notes), CLIP, model=folder + "/m")
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        self.assertIn('"type":"end"', notes.read_text())

    def test_model_that_is_linked(self):
        """A cache keeps the weights under other names; the model's folder holds links."""
        folder = fresh()
        shutil.copytree(MODEL, folder + "/blobs")
        os.mkdir(folder + "/m")
        for name in os.listdir(MODEL):
            os.symlink(f"../blobs/{name}", f"{folder}/m/{name}")
        for option in OUTPUTS:
            self.refused(folder, "--pace", option, folder + "/blobs/consolidated.safetensors", CLIP, model=folder + "/m",
                         both=[option, "consolidated.safetensors"])

    def test_model_that_is_found(self):
        folder = fresh()
        shutil.copytree(MODEL, folder + "/surtitle/model")
        for option in OUTPUTS:
            self.refused(folder, "--pace", option, folder + "/surtitle/model/params.json", CLIP, model=None,
                         env=dict(ENV, XDG_DATA_HOME=folder), both=[option, "params.json"])

    def test_what_may_be_shared(self):
        folder = fresh()
        r = run("--pace", "--output", "/dev/null", "--latency-report", "/dev/null", CLIP)
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        r = run("--pace", "--format", "tokens", "--latency-report", "/dev/stdout", CLIP)
        self.assertEqual(r.returncode, 0)
        self.assertTrue(r.stdout.endswith(b"]\n}\n") and r.stdout.startswith(b"0\t"), r.stdout[-300:])
        r = run("--pace", "--format", "tokens", "--latency-report", "/dev/stderr", CLIP)
        self.assertEqual((r.returncode, json.loads(r.stderr)["rate"]), (0, 16000))
        shutil.copytree(MODEL, folder + "/m")  # a new file in the model's folder is not one of the model's
        with open(folder + "/m/out.txt", "wb") as out:
            self.assertEqual(run("--output", folder + "/m/new", CLIP, model=folder + "/m").returncode, 0)
            self.assertEqual(run(CLIP, model=folder + "/m", stdout=out).returncode, 0)


class StandardOutput(unittest.TestCase):
    def test_its_names(self):
        want = run("--format", "tokens", CLIP).stdout
        folder = fresh()
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"]:
            r = run("--format", "tokens", "--output", name, CLIP, cwd=folder)
            self.assertEqual((r.returncode, r.stdout, r.stderr), (0, want, b""), name)
            with open(folder + "/log", "w+b") as out:  # a file is not truncated, or written from its beginning
                out.write(b"before\n")
                out.flush()
                r = run("--format", "tokens", "--output", name, CLIP, cwd=folder, stdout=out)
                self.assertEqual(r.returncode, 0, name)
                out.seek(0)
                self.assertEqual(out.read(), b"before\n" + want)
        self.assertEqual(os.listdir(folder), ["log"])
        r = run("--format", "tokens", "--output", "/dev/stderr", CLIP)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, b"", want))

    def test_no_file_is_called_minus(self):
        for option in ["--caption-file", "--latency-report"]:
            folder = fresh()
            r = run("--pace", option, "-", CLIP, cwd=folder)
            self.assertEqual((r.returncode, os.listdir(folder)), (2, []))
            self.assertIn(option.encode(), r.stderr)
            self.assertEqual(run("--pace", option, "./-", CLIP, cwd=folder).returncode, 0)
            self.assertEqual(os.listdir(folder), ["-"])


class CaptionFile(unittest.TestCase):
    def kept_out(self, name, *words, folder=None, **more):
        """The caption file is refused with status 1, in a line with these words, and nothing is changed."""
        folder = folder or path("box")
        before = content(folder)
        r = run("--caption-file", name, CLIP, **more)
        line = r.stderr.decode()
        self.assertEqual((r.returncode, line.count("\n")), (1, 1), line)
        for word in words:
            self.assertIn(word, line)
        self.assertEqual(content(folder), before)

    def test_what_is_no_regular_file(self):
        folder = fresh()
        os.mkfifo(folder + "/fifo")
        for target in ["/proc/self/fd/1", "/dev/stdout", "/dev/null", folder, "fifo"]:
            os.symlink(target, folder + "/link")
            self.kept_out(folder + "/link", "is not a regular file")
            os.unlink(folder + "/link")
        self.kept_out(folder + "/fifo", "is not a regular file")

    def test_dangling_link(self):
        folder = fresh()
        os.symlink("later", folder + "/link")
        os.mkdir(folder + "/sub")
        os.symlink("../link", folder + "/sub/link")
        self.assertEqual(run("--caption-file", folder + "/sub/link", CLIP).returncode, 0)
        self.assertEqual(sorted(os.listdir(folder)), ["later", "link", "sub"])
        self.assertTrue(os.path.islink(folder + "/sub/link") and os.path.islink(folder + "/link"))
        self.assertEqual(open(folder + "/later").read(), "")
        os.symlink("none/later", folder + "/nowhere")
        self.kept_out(folder + "/nowhere", "No such file")
        os.symlink("loop", folder + "/loop")
        self.kept_out(folder + "/loop", "symbolic links")

    @unittest.skipUnless(os.geteuid() == 0, "needs links of two users")
    def test_links_in_a_shared_folder(self):
        """As with fs.protected_symlinks, a link is followed if it belongs to the user or to the folder's owner."""
        for mode, owner, link, follows in [(0o1777, 0, 1234, False), (0o1777, 0, 0, True), (0o1777, 1234, 1234, True),
                                           (0o777, 0, 1234, True), (0o1755, 0, 1234, True), (0o1777, 5, 1234, False)]:
            for target in ["there", "later"]:
                folder = fresh()
                os.mkdir(folder + "/tmp")
                pathlib.Path(folder, "there").write_text("precious")
                os.symlink("../" + target, folder + "/tmp/caption")
                os.lchown(folder + "/tmp/caption", link, link)
                os.chown(folder + "/tmp", owner, owner)
                os.chmod(folder + "/tmp", mode)
                if follows:
                    self.assertEqual(run("--caption-file", folder + "/tmp/caption", CLIP).returncode, 0)
                    self.assertEqual(open(f"{folder}/{target}").read(), "")
                    self.assertTrue(os.path.islink(folder + "/tmp/caption"))
                else:
                    self.kept_out(folder + "/tmp/caption", "another user's link")

    def test_mode_and_name(self):
        folder = fresh()
        name = folder + "/" + "n" * 255
        for before, mask, after in [(None, 0o027, 0o640), (None, 0o077, 0o600), (0o644, 0o077, 0o644), (0o6755, 0, 0o755)]:
            if before is not None:
                pathlib.Path(name).touch()
                os.chmod(name, before)
            r = run("--caption-file", name, CLIP, preexec_fn=lambda m=mask: os.umask(m))
            self.assertEqual((r.returncode, r.stderr), (0, b""))
            self.assertEqual(stat.S_IMODE(os.stat(name).st_mode), after)
            self.assertEqual(os.listdir(folder), ["n" * 255])
            os.unlink(name)

    def test_folder_that_cannot_be_written_to(self):
        folder = fresh()
        pathlib.Path(folder, "caption").write_text("old")
        os.chmod(folder + "/caption", 0o666)
        os.chmod(folder, 0o555)
        user = {"user": 1234} if os.geteuid() == 0 else {}
        os.chmod(BOX, 0o755)
        try:
            r = run("--caption-file", folder + "/caption", CLIP, **user)
        finally:
            os.chmod(folder, 0o755)
        self.assertEqual((r.returncode, r.stderr.count(b"\n")), (1, 1))
        self.assertIn(b"needs a writable folder", r.stderr)
        self.assertEqual(open(folder + "/caption").read(), "old")

    def test_moved_away_for_a_time(self):
        """One line is written, the transcript continues, the caption comes back, and the status is 1."""
        folder = fresh()
        raw = pathlib.Path(folder, "raw")
        raw.write_bytes(noise(6))
        want = run("--format", "tokens", "--pcm", "s16le", str(raw)).stdout
        os.mkdir(folder + "/captions")
        p = start("--format", "tokens", "--caption-file", folder + "/captions/caption", "--pcm", "s16le", "--pace", str(raw))
        wait_for(lambda: os.path.exists(folder + "/captions/caption") and open(folder + "/captions/caption").read(), "no caption")
        os.rename(folder + "/captions", folder + "/away")
        line = p.stderr.readline()
        self.assertIn(b"captions/caption", line)
        os.rename(folder + "/away", folder + "/captions")
        out, err = p.communicate(timeout=LONG)
        self.assertEqual((p.returncode, out, err), (1, want, b""))
        self.assertEqual(os.listdir(folder + "/captions"), ["caption"])
        self.assertEqual(open(folder + "/captions/caption").read(), "")


class Blocked(unittest.TestCase):
    """Outputs without a reader: one signal ends the run, with a line."""
    def test_fifo_without_a_reader(self):
        fresh()
        os.mkfifo(path("box", "fifo"))
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            for args in [["--output"], ["--pace", "--latency-report"]]:
                p = start(*args, path("box", "fifo"), CLIP)
                wait_until_blocked(p)
                p.send_signal(number)
                _, err = p.communicate(timeout=LONG)
                self.assertEqual(p.returncode, 1, (number, args, err))
                self.assertIn(b"fifo: nothing has opened it for reading\n", err)

    def test_fifo_that_is_opened_later(self):
        fresh()
        os.mkfifo(path("box", "fifo"))
        p = start("--format", "tokens", "--output", path("box", "fifo"), CLIP)
        wait_until_blocked(p)
        with open(path("box", "fifo"), "rb") as fifo:
            self.assertEqual(fifo.read(), run("--format", "tokens", CLIP).stdout)
        self.assertEqual(p.wait(LONG), 0)
        p.communicate()

    def test_full_standard_error(self):
        """Lines without a reader delay neither captions nor a signal."""
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            reader, writer = full_pipe()
            p = start("--format", "tokens", "--log-level", "debug", "--stats", "-", stderr=writer)
            p.stdin.write(noise(2))
            self.assertTrue(p.stdout.read(1))
            p.send_signal(number)
            out, _ = p.communicate(timeout=LONG)
            self.assertEqual(p.returncode, 0)
            self.assertTrue(out.endswith(b"\n"))
            os.close(reader)
            os.close(writer)


class FileSize(unittest.TestCase):
    def test_limit(self):
        """SIGXFSZ is a line and status 1."""
        fresh()
        limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))}
        out = path("box", "out")
        r = run("--format", "tokens", "--output", out, CLIP, **limit)
        self.assertEqual((r.returncode, r.stderr), (1, f"surtitle: cannot write {out}: File too large\n".encode()))
        with open(out, "wb") as f:
            r = run("--format", "tokens", CLIP, stdout=f, **limit)
        self.assertEqual((r.returncode, r.stderr), (1, b"surtitle: cannot write standard output: File too large\n"))
        r = run("--pace", "--latency-report", path("box", "report"), CLIP, **limit)
        self.assertEqual((r.returncode, r.stderr.count(b"\n")), (1, 1), r.stderr)
        self.assertIn(b"report: File too large", r.stderr)
        limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))}
        r = run("--format", "tokens", "--caption-file", path("box", "caption"), CLIP, **limit)
        self.assertEqual(r.returncode, 1)
        self.assertEqual(r.stdout, run("--format", "tokens", CLIP).stdout)
        self.assertIn(b"caption: File too large\n", r.stderr)
        self.assertEqual(sorted(os.listdir(path("box"))), ["caption", "out", "report"])


main()

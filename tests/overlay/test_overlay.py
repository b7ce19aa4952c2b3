"""The overlay as a terminal shows it: it runs in tmux, which reports the screen and the modes.
Arguments: program, tools/make_checkpoint.py, --sanitized if it is (sanitizers have their own handlers for crashes), and
optionally names of tests. 77: tmux is not installed."""
import atexit, os, random, re, shlex, shutil, signal, struct, subprocess, sys, tempfile, time, unittest, wave

PROGRAM, MAKE = map(os.path.abspath, sys.argv[1:3])
SANITIZED = "--sanitized" in sys.argv
BOX = tempfile.mkdtemp(prefix="surtitle-overlay.")
atexit.register(shutil.rmtree, BOX, True)
MODEL, CLIP, RAW = (os.path.join(BOX, n) for n in ("model", "talk.wav", "talk.raw"))
LONG = 300  # seconds; nothing here takes as long, even on a busy machine or under a sanitizer
ENV = dict(os.environ, LC_ALL="C.UTF-8", XDG_DATA_HOME=BOX + "/none", XDG_DATA_DIRS=BOX + "/none", HOME=BOX, PS1="@@ ",
           TMUX="", SHELL="/bin/sh", VIMINIT="", LESS="")
for name in ["NO_COLOR", "ENV", "EXINIT", "TMUX_PANE"]:
    ENV.pop(name, None)
RUNS_PROGRAMS = b"libvterm" not in subprocess.run([PROGRAM, CLIP, "--", "true"], capture_output=True, env=ENV).stderr


def path(name):
    return os.path.join(BOX, name)


def make_sound():
    r, out = random.Random(1), []
    while len(out) < 16000 * 40:
        loud, pitch = r.choice([500, 6000, 12000]), r.uniform(0.01, 0.4)
        out += [int(loud * ((i * pitch) % 2 - 1 + r.uniform(-0.3, 0.3)) / 1.4) for i in range(r.randrange(800, 6000))]
    data = struct.pack(f"<{len(out)}h", *out)
    with wave.open(CLIP, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16000)
        w.writeframes(data)
    with open(RAW, "wb") as f:
        f.write(data[:16000 * 2 * 8])


# ---- a terminal ----

FLAGS = "#{cursor_flag} #{alternate_on} #{mouse_any_flag} #{mouse_sgr_flag} #{keypad_flag} #{keypad_cursor_flag} #{wrap_flag}"
AT_REST = "1 0 0 0 0 0 1"


class Terminal:
    def __init__(self, cols=80, rows=24):
        self.tmux("kill-server", check=False)
        self.tmux("new-session", "-d", "-x", str(cols), "-y", str(rows), "env PS1='@@ ' sh")
        self.until(lambda s: "@@" in s)
        self.tmux("set-option", "-g", "escape-time", "0")

    def tmux(self, *words, check=True):
        r = subprocess.run(["tmux", "-u", "-S", path("tmux"), "-f", "/dev/null", *words], env=ENV, text=True,
                           capture_output=True, timeout=LONG)
        assert r.returncode == 0 or not check, (words, r.stderr)
        return r.stdout

    def close(self):
        self.tmux("kill-server", check=False)

    def show(self, *flags):
        return self.tmux("capture-pane", "-p", *flags)

    def rows(self):
        rows = self.show().split("\n")[:-1]
        return rows + [""] * (int(self.ask("#{pane_height}")) - len(rows))

    def ask(self, what):
        return self.tmux("display-message", "-p", what).strip()

    def keys(self, *words):
        self.tmux("send-keys", *words)

    def line(self, text):
        self.tmux("send-keys", "-l", text)
        self.keys("Enter")

    def until(self, ok, seconds=LONG, look=None):
        look, end = look or self.show, time.monotonic() + seconds
        while True:
            seen = look()
            if ok(seen):
                return seen
            assert time.monotonic() < end, f"never came: {seen}\nthe screen is\n{self.show()}"
            time.sleep(0.05)

    def start(self, *args, program=(), before="", after=""):
        """Types a command line; its end shows as status=N. Returns once captions or the command can be seen."""
        for name in ("before", "after"):
            if os.path.exists(path(name)):
                os.remove(path(name))
        self.line("clear; stty -a > before")
        self.until(lambda s: s.strip() == "@@" and attributes("before"))  # the screen may have been clear already
        words = [PROGRAM, "--model", MODEL, *args, *(["--", *program] if program else [])]
        self.line(f"{before}{shlex.join(words)}{after}; echo status=$?; stty -a > after")

    def status(self):
        seen = self.until(lambda s: re.search(r"^status=\d+", s, re.M))
        self.until(lambda f: f == AT_REST, look=lambda: self.ask(FLAGS))
        self.until(lambda after: after == attributes("before"), 5, lambda: attributes("after"))
        return int(re.search(r"^status=(\d+)", seen, re.M).group(1))

    def pid(self):
        """The process id of surtitle, which the shell has started."""
        pids = [self.ask("#{pane_pid}")]
        while pids:
            with open(f"/proc/{pids[0]}/comm") as f:
                if f.read().strip() == "surtitle":
                    return int(pids[0])
            with open(f"/proc/{pids[0]}/task/{pids[0]}/children") as f:
                pids = pids[1:] + f.read().split()
        raise AssertionError("surtitle does not run")


def attributes(name):
    """The output of stty without the size; "" while the file is missing."""
    if not os.path.exists(path(name)):
        return ""
    with open(path(name)) as f:
        return re.sub(r"rows \d+; columns \d+;", "", f.read())


def squeeze(text):
    return "".join(text.split())


def text_of(*args):
    r = subprocess.run([PROGRAM, "--model", MODEL, *args], capture_output=True, env=ENV, timeout=LONG)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode()


def captions(rows):
    """The status line, and the caption rows, which follow it."""
    at = [i for i, row in enumerate(rows) if re.match(r" *\[[| ]{8}\]", row)]
    assert len(at) == 1, rows
    return rows[at[0]], rows[at[0] + 1:]


def has_captions(t, least=8):
    return t.until(lambda rows: any("[" in r for r in rows) and len(squeeze("".join(captions(rows)[1]))) >= least,
                   look=t.rows)


def setUpModule():
    subprocess.run([sys.executable, MAKE, MODEL, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                   stdout=subprocess.DEVNULL)
    make_sound()
    os.chdir(BOX)


class Overlay(unittest.TestCase):
    def setUp(self):
        self.t = Terminal()
        self.addCleanup(self.t.close)


def rows_moved(seen):
    """How often a row moved up. Words stay where they are, or a whole row moves up. On a busy machine all rows may have
    gone between two looks."""
    moves = 0
    for a, b in zip(seen, seen[1:]):
        stays = all(y.startswith(x) for x, y in zip(a, b))
        up = a[1:] == b[:1] + b[1:2] or b[0] == a[1] and b[1].startswith(a[2])
        gone = not any(y.startswith(x) for x in filter(None, a) for y in b)
        assert stays or up or gone, (a, b)
        moves += up and not stays
    return moves


class CaptionsAlone(Overlay):
    """Captions without a program."""

    def test_alone(self):
        want = squeeze(text_of(CLIP))
        self.t.start("--overlay", "--pace", "--width", "30", CLIP)
        seen, end = [], time.monotonic() + LONG
        while rows_moved(seen) < 2:
            assert time.monotonic() < end, ("no row moves up", seen)
            rows = self.t.rows()
            if any("talk.wav" in r and "[" in r for r in rows[19:]):
                state, below = captions(rows)
                assert len(below) == 3 and rows.index(state) == 20, rows
                seen.append([r.strip() for r in below])
            time.sleep(0.05)
        assert re.search(r"lag \d", state) and self.t.ask("#{cursor_flag} #{alternate_on}") == "0 0", state
        for below in seen:
            assert squeeze("".join(below)) in want, (below, want)
        self.t.keys("C-c")
        assert self.t.status() == 0
        assert not re.search(r"\[[| ]{8}\]", self.t.show()), self.t.show()
        assert self.t.show().split("\n")[0].startswith("@@"), "what stood there before has gone"

    def test_width_and_small_terminals(self):
        self.t.start("--overlay", "--pace", "--width", "20", CLIP)
        rows = has_captions(self.t, 40)
        for row in captions(rows)[1]:
            assert not row[:30].strip() and len(row) <= 50, rows
        self.t.tmux("resize-window", "-x", "30", "-y", "7")
        self.t.until(lambda rows: len(captions(rows)[1]) == 1 and rows.index(captions(rows)[0]) == 5, look=self.t.rows)
        assert all(len(r) <= 25 for r in captions(self.t.rows())[1])
        for cols, rows in [(5, 2), (2, 1), (1, 3), (80, 24)]:
            self.t.tmux("resize-window", "-x", str(cols), "-y", str(rows))
            time.sleep(0.2)
        # the terminal may still show older rows above; the rows of the overlay are right
        self.t.until(lambda rows: re.match(r" *\[[| ]{8}\] talk.wav", rows[20]) and squeeze("".join(rows[21:24])), look=self.t.rows)
        self.t.keys("C-c")
        assert self.t.status() == 0

    def test_a_warning_goes_with_its_cause(self):
        zeros = path("zeros.wav")
        with wave.open(CLIP, "rb") as r, wave.open(zeros, "wb") as w:
            w.setparams(r.getparams())
            w.writeframes(bytes(2 * 16000 * 6) + r.readframes(16000 * 12))
        self.t.start("--overlay", "--pace", zeros)
        self.t.until(lambda s: "gives nothing but zeros" in s)
        self.t.until(lambda rows: "|" in captions(rows)[0][:10], look=self.t.rows)
        state = captions(self.t.until(lambda rows: "zeros.wav  lag" in captions(rows)[0], seconds=8, look=self.t.rows))[0]
        assert "nothing but zeros" not in state, state
        self.t.keys("C-c")
        assert self.t.status() == 0
        assert "gives nothing but zeros" in self.t.show().replace("\n", "")  # again, where it can be read

    def test_captions_vanish(self):
        began, end = time.monotonic(), path("end")
        os.mkfifo(end)
        self.t.start("--overlay", "-", before=f"(cat {RAW}; cat {end}) | ")
        has_captions(self.t)
        self.t.until(lambda rows: not squeeze("".join(captions(rows)[1])), look=self.t.rows)
        assert time.monotonic() - began > 4
        with open(end, "w"):  # until now the input has not ended
            pass
        assert self.t.status() == 0

    def test_the_last_caption_is_seen(self):
        self.t.start("--overlay", CLIP)
        has_captions(self.t)
        assert self.t.status() == 0

    def test_stopped_and_continued(self):
        self.t.start("--overlay", "--pace", CLIP)
        has_captions(self.t)
        self.t.keys("C-z")
        self.t.until(lambda s: "Stopped" in s or "status=" in s)
        self.t.until(lambda f: f == AT_REST, look=lambda: self.t.ask(FLAGS))
        assert not re.search(r"\[[| ]{8}\]", self.t.show()), self.t.show()
        self.t.line("clear; echo between")
        self.t.until(lambda s: "between" in s)
        self.t.line("fg; echo status=$?")
        has_captions(self.t)
        self.t.keys("C-c")
        self.t.until(lambda s: "status=0" in s and not re.search(r"\[[| ]{8}\]", s))
        self.t.until(lambda f: f == AT_REST, look=lambda: self.t.ask(FLAGS))
        self.t.line("stty -a > after")
        time.sleep(0.3)
        assert attributes("before") == attributes("after")

    def test_signals_give_the_terminal_back(self):
        for number, status in [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGSEGV, 139), (signal.SIGABRT, 134),
                               (signal.SIGQUIT, 131), (signal.SIGBUS, 135), (signal.SIGUSR1, 138)]:
            if SANITIZED and number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
                continue
            self.t.start("--overlay", "--pace", CLIP, before="ulimit -c 0; ")
            has_captions(self.t, 4)
            os.kill(self.t.pid(), number)
            assert self.t.status() == status, number
            assert not re.search(r"\[[| ]{8}\]", self.t.show()), (number, self.t.show())

    def test_model_cut_while_in_use(self):
        cut = path("cut")
        shutil.copytree(MODEL, cut)
        self.t.start("--overlay", "--pace", "--model", cut, CLIP)
        has_captions(self.t, 4)
        os.truncate(os.path.join(cut, "consolidated.safetensors"), 4096)
        assert self.t.status() == 1
        assert not re.search(r"\[[| ]{8}\]", self.t.show()) and "was cut while it was in use" in self.t.show(), self.t.show()

    def test_a_terminal_that_is_held_up_or_goes(self):
        self.t.start("--overlay", "--pace", CLIP)
        has_captions(self.t, 4)
        self.t.keys("C-s")
        time.sleep(1)
        os.kill(self.t.pid(), signal.SIGTERM)
        assert self.t.status() == 0
        for program in [["sh"], []] if RUNS_PROGRAMS else [[]]:
            self.t.start("--pace", "--overlay", CLIP, program=program)
            has_captions(self.t, 4)
            pid = self.t.pid()
            self.t.tmux("respawn-pane", "-k", "env PS1='@@ ' sh")
            end = time.monotonic() + LONG
            while os.path.exists(f"/proc/{pid}"):
                assert time.monotonic() < end, "it lives on"
                time.sleep(0.05)
            self.t.until(lambda s: "@@" in s)


@unittest.skipUnless(RUNS_PROGRAMS, "this build has no libvterm")
class UnderCaptions(Overlay):
    """A program under captions."""

    def test_program(self):
        self.t.start("--pace", CLIP, program=["sh", "-c", "stty size; echo $TERM; printf '\\033]2;a title\\a'; read x; exit 7"])
        rows = has_captions(self.t)
        assert rows[:2] == ["20 80", "xterm-256color"] and rows.index(captions(rows)[0]) == 20, rows
        assert self.t.ask("#{alternate_on} #{cursor_flag} #{cursor_x},#{cursor_y}") == "1 1 0,2"
        assert self.t.ask("#{pane_title}") == "a title"
        self.t.keys("Enter")
        assert self.t.status() == 7

    def test_program_colours(self):
        what = r"\033[1;4;38;5;200mA\033[0;48;2;1;2;3mB\033[0;7;31mC\033[0;3;92mD\033[0;9mE\033[0;2mF\033[0;8mG\033[m 漢字éx\u0301\n"
        self.t.start("--pace", CLIP, program=["python3", "-c", f"print('{what}'.replace('\\\\033', chr(27)), end=''); input()"])
        self.t.until(lambda s: s.startswith("ABCDEF"))
        row = self.t.show("-e").split("\n")[0]
        assert "漢字éx\u0301" in row, row
        for letter, *codes in [("A", "1", "4", "38;5;200"), ("B", "48;2;1;2;3"), ("C", "7", "31"), ("D", "3", "92"), ("E", "9"), ("F", "2"), ("G", "8")]:
            before = re.search(r"((?:\033\[[0-9;:]*m)+)" + letter, row)
            words = before and ";".join(re.findall(r"\033\[([0-9;:]*)m", before.group(1))) + ";"
            for code in codes:
                assert words and re.search(r"(^|;)" + code + ";", words), (letter, code, row)
        self.t.keys("Enter")
        assert self.t.status() == 0

    def test_program_combining_characters(self):
        """libvterm gives some combining characters a width; a row full of them made it crash."""
        with open(path("marks"), "w", encoding="utf-8") as f:
            f.write("か\u3099は\u309a|\n" + "".join(f"a{mark * 90}\n" for mark in "\u302a\u302b\u302c\u302d\u3099\u309a\u0301"))
        self.t.start("--pace", CLIP, program=["sh", "-c", f"cat {path('marks')}; echo over; read x"])
        rows = self.t.until(lambda rows: "over" in rows, look=self.t.rows)
        assert rows[0] == "か\u3099は\u309a|" and rows.index("over") == 8, rows
        assert all(re.fullmatch("a\\W+", row) for row in rows[1:8]), rows
        self.t.tmux("resize-window", "-x", "30", "-y", "20")
        self.t.until(lambda rows: len(rows) == 20 and rows[0] == "か\u3099は\u309a|", look=self.t.rows)
        has_captions(self.t)
        self.t.keys("Enter")
        assert self.t.status() == 0

    def test_program_that_is_not_there(self):
        self.t.start("--pace", CLIP, program=["surtitle-no-such-program"])
        assert self.t.status() == 127
        assert "cannot run surtitle-no-such-program" in self.t.show().replace("\n", "")
        self.t.line("clear")
        self.t.start("--pace", path("absent"), program=["true"])
        assert self.t.status() == 1

    def test_program_killed(self):
        self.t.start("--pace", CLIP, program=["sh", "-c", "kill -9 $$"], before="trap '' CHLD; ")  # perhaps before surtitle waits for it
        assert self.t.status() == 137
        self.t.start("--pace", CLIP, program=["sh", "-c", "printf '\\033[?1000h\\033[?1006h\\033[?1h\\033[?2004h\\033[?25lup'; sleep 99"])
        self.t.until(lambda f: f == "0 1 1 1 0 1 0", look=lambda: self.t.ask(FLAGS))
        os.kill(self.t.pid(), signal.SIGTERM)
        assert self.t.status() == 129  # SIGHUP
        for number, status in [(signal.SIGQUIT if SANITIZED else signal.SIGSEGV, 131 if SANITIZED else 139), (signal.SIGHUP, 129)]:
            self.t.start("--pace", CLIP, before="ulimit -c 0; ",
                    program=["sh", "-c", "printf '\\033[?1002h\\033[?1006h\\033=\\033[?1004hup'; sleep 99"])
            self.t.until(lambda s: s.startswith("up"))
            os.kill(self.t.pid(), number)
            assert self.t.status() == status, number

    def test_program_outlives_captions(self):
        self.t.start("--output", "/dev/full", "--format", "tokens", "--pace", CLIP, program=["sh", "-c", "read x; echo got $x; read y; exit 3"])
        self.t.until(lambda s: "No space left" in s)
        self.t.line("words")
        self.t.until(lambda s: "got words" in s)
        self.t.keys("Enter")
        assert self.t.status() == 3
        assert "cannot write /dev/full" in self.t.show()  # again, where it can be read

    def test_keyboard_beside_samples(self):
        self.t.start("-", before=f"cat {RAW} - < /dev/zero | ", program=["sh", "-c", "read x; echo got $x; read y; exit 5"])
        has_captions(self.t)
        self.t.line("words")
        self.t.until(lambda s: "got words" in s)
        self.t.keys("Enter")
        assert self.t.status() == 5

    def test_vim(self):
        if not shutil.which("vi"):
            self.skipTest("there is no vi")
        with open(path("page"), "w") as f:
            f.write("".join(f"line {i}\n" for i in range(1, 200)))
        self.t.start("--pace", CLIP, program=["vi", "-u", "NONE", "-N", path("page")])
        rows = has_captions(self.t)
        assert rows[:18] == [f"line {i}" for i in range(1, 19)] and rows[19].startswith('"'), rows
        self.t.keys("G")
        self.t.until(lambda rows: rows[18] == "line 199", look=self.t.rows)
        self.t.tmux("resize-window", "-x", "60", "-y", "18")
        self.t.until(lambda rows: rows[12] == "line 199" and rows.index(captions(rows)[0]) == 14, look=self.t.rows)
        self.t.tmux("resize-window", "-x", "100", "-y", "30")
        self.t.until(lambda rows: "line 199" in rows[:26] and rows.index(captions(rows)[0]) == 26, look=self.t.rows)
        self.t.keys("g", "g", "d", "G", "i")
        self.t.line("typed über 漢字")
        self.t.keys("Escape")
        self.t.until(lambda rows: rows[0] == "typed über 漢字" and rows[2] == "~", look=self.t.rows)
        self.t.line(":wq")
        assert self.t.status() == 0
        with open(path("page"), encoding="utf-8") as f:
            assert f.read().split("\n")[0] == "typed über 漢字"

    def test_less(self):
        with open(path("page"), "w") as f:
            f.write("".join(f"line {i}\n" for i in range(1, 200)))
        self.t.start("--pace", CLIP, program=["less", path("page")])
        self.t.until(lambda rows: rows[0] == "line 1" and rows[18] == "line 19", look=self.t.rows)
        self.t.keys("Space")
        self.t.until(lambda rows: rows[0] == "line 20", look=self.t.rows)
        self.t.keys("Up")  # the cursor key arrives in the mode that less has set
        self.t.until(lambda rows: rows[0] == "line 19", look=self.t.rows)
        self.t.keys("q")
        assert self.t.status() == 0

    def test_htop(self):
        """htop uses all features of a terminal: colours, lines, reverse, mouse, alternate screen."""
        if not shutil.which("htop"):
            self.skipTest("there is no htop")
        self.t.start("--pace", CLIP, program=["htop", "-d", "5"])
        rows = self.t.until(lambda rows: any("PID" in r and "Command" in r for r in rows), look=self.t.rows)
        state, below = captions(has_captions(self.t))
        rows = self.t.rows()
        assert rows[19].startswith("F1Help") and rows.index(captions(rows)[0]) == 20 and "talk.wav" in state, rows
        assert self.t.ask("#{mouse_any_flag}") == "1"
        self.t.keys("F1")
        self.t.until(lambda rows: any("released under" in r.lower() for r in rows[:20]), look=self.t.rows)
        self.t.keys("Escape")
        self.t.until(lambda rows: rows[19].startswith("F1Help"), look=self.t.rows)
        self.t.tmux("resize-window", "-x", "100", "-y", "30")
        self.t.until(lambda rows: rows[25].startswith("F1Help") and rows.index(captions(rows)[0]) == 26, look=self.t.rows)
        self.t.keys("q")
        assert self.t.status() == 0

    def test_program_floods(self):
        self.t.start("--pace", CLIP, program=["sh", "-c", "yes 0123456789 | head -n 300000; echo over; read x"])
        self.t.until(lambda rows: "over" in rows and rows.index("over") == 18, look=self.t.rows)
        has_captions(self.t)
        self.t.keys("Enter")
        assert self.t.status() == 0


class Plain(Overlay):
    """Where nothing can be drawn."""

    def test_plain_without_a_terminal(self):
        want = text_of(CLIP)
        assert text_of("--overlay", CLIP) == want
        assert text_of("--overlay", "--format", "tokens", CLIP) == text_of("--format", "tokens", CLIP)
        for setting in ["NO_COLOR=1", "TERM=dumb"]:
            self.t.start("--overlay", "--width", "40", CLIP, before=setting + " ")
            assert self.t.status() == 0
            shown = self.t.show("-S", "-")
            assert squeeze(want) in squeeze(shown), shown
            self.t.tmux("clear-history")

    def test_command_comes_after_the_options(self):
        """Without a terminal a command cannot run; the error follows the check of the source."""
        model = ["--model", MODEL]
        for status, word, *args in [
                (1, "-- CMD", *model, CLIP, "--", "true"), (4, "--", "--model", "--", CLIP),  # the value of --model
                (1, "-- CMD", *model, CLIP, "--overlay", "--", "true", "--nonsense", "b", "--", "--model"),
                (1, "absent", path("absent"), "--", "true")]:
            if "true" in args and not RUNS_PROGRAMS:
                status, word = 2, "libvterm"
            r = subprocess.run([PROGRAM, *args], capture_output=True, env=ENV, timeout=LONG, stdin=subprocess.DEVNULL)
            line = r.stderr.decode()
            assert r.returncode == status and word in line and line.count("\n") == 1, (args, r)

    def test_usage(self):
        self.t.start("--overlay", "--format", "jsonl", CLIP)
        assert self.t.status() == 2
        assert "--format jsonl needs --output" in self.t.show().replace("\n", " ")
        self.t.start("--overlay", "--format", "tokens", "--output", path("tokens"), CLIP)
        assert self.t.status() == 0
        with open(path("tokens")) as f:
            assert f.read() == text_of("--format", "tokens", CLIP)


if not shutil.which("tmux"):
    print("tmux, which the overlay is driven in, is not installed")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], "-v", *(word for word in sys.argv[3:] if word != "--sanitized")])

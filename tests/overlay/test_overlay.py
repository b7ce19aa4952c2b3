"""The overlay as a terminal shows it: driven in tmux, which says what stands on the screen and which modes are on.
Arguments: program, tools/make_checkpoint.py, --sanitized if it is (sanitizers have handlers of their own for crashes), and
optionally words that the names of the tests to run contain. 77: there is no tmux."""
import inspect, os, random, re, shlex, shutil, signal, struct, subprocess, sys, tempfile, time, wave

PROGRAM, MAKE = map(os.path.abspath, sys.argv[1:3])
SANITIZED = "--sanitized" in sys.argv
WORDS = [w for w in sys.argv[3:] if w != "--sanitized"]
BOX = tempfile.mkdtemp(prefix="surtitle-overlay.")
MODEL, CLIP, RAW = (os.path.join(BOX, n) for n in ("model", "talk.wav", "talk.raw"))
LONG = 300  # seconds that nothing here takes, on a busy machine or under a sanitizer
runs_programs = True
ENV = dict(os.environ, LC_ALL="C.UTF-8", XDG_DATA_HOME=BOX + "/none", XDG_DATA_DIRS=BOX + "/none", HOME=BOX, PS1="@@ ",
           TMUX="", SHELL="/bin/sh", VIMINIT="", LESS="")
for name in ["NO_COLOR", "ENV", "EXINIT", "TMUX_PANE"]:
    ENV.pop(name, None)


class Skip(Exception):
    pass


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
        self.until(lambda s: s.strip() == "@@" and attributes("before"))  # the screen may have been clear before
        words = [PROGRAM, "--model", MODEL, *args, *(["--", *program] if program else [])]
        self.line(f"{before}{shlex.join(words)}{after}; echo status=$?; stty -a > after")

    def status(self):
        seen = self.until(lambda s: re.search(r"^status=\d+", s, re.M))
        self.until(lambda f: f == AT_REST, look=lambda: self.ask(FLAGS))
        self.until(lambda after: after == attributes("before"), 5, lambda: attributes("after"))
        return int(re.search(r"^status=(\d+)", seen, re.M).group(1))

    def pid(self):
        """Of surtitle, which the shell has started."""
        pids = [self.ask("#{pane_pid}")]
        while pids:
            with open(f"/proc/{pids[0]}/comm") as f:
                if f.read().strip() == "surtitle":
                    return int(pids[0])
            with open(f"/proc/{pids[0]}/task/{pids[0]}/children") as f:
                pids = pids[1:] + f.read().split()
        raise AssertionError("surtitle does not run")


def attributes(name):
    """What stty says, but for the size; "" while it has said nothing."""
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
    """The caption rows: what follows the line of state."""
    at = [i for i, row in enumerate(rows) if re.match(r" *\[[| ]{8}\]", row)]
    assert len(at) == 1, rows
    return rows[at[0]], rows[at[0] + 1:]


def has_captions(t, least=8):
    return t.until(lambda rows: any("[" in r for r in rows) and len(squeeze("".join(captions(rows)[1]))) >= least,
                   look=t.rows)


# ---- captions alone ----

def rows_moved(seen):
    """How often a row moved up; words stay where they are, or a whole row moves up. Two looks may lie so far apart, on a
    busy machine, that all rows have gone."""
    moves = 0
    for a, b in zip(seen, seen[1:]):
        stays = all(y.startswith(x) for x, y in zip(a, b))
        up = a[1:] == b[:1] + b[1:2] or b[0] == a[1] and b[1].startswith(a[2])
        gone = not any(y.startswith(x) for x in filter(None, a) for y in b)
        assert stays or up or gone, (a, b)
        moves += up and not stays
    return moves


def test_alone(t):
    want = squeeze(text_of(CLIP))
    t.start("--overlay", "--pace", "--width", "30", CLIP)
    seen, end = [], time.monotonic() + LONG
    while rows_moved(seen) < 2:
        assert time.monotonic() < end, ("no row moves up", seen)
        rows = t.rows()
        if any("talk.wav" in r and "[" in r for r in rows[19:]):
            state, below = captions(rows)
            assert len(below) == 3 and rows.index(state) == 20, rows
            seen.append([r.strip() for r in below])
        time.sleep(0.05)
    assert re.search(r"lag \d", state) and t.ask("#{cursor_flag} #{alternate_on}") == "0 0", state
    for below in seen:
        assert squeeze("".join(below)) in want, (below, want)
    t.keys("C-c")
    assert t.status() == 0
    assert not re.search(r"\[[| ]{8}\]", t.show()), t.show()
    assert t.show().split("\n")[0].startswith("@@"), "what stood there before has gone"


def test_width_and_small_terminals(t):
    t.start("--overlay", "--pace", "--width", "20", CLIP)
    rows = has_captions(t, 40)
    for row in captions(rows)[1]:
        assert not row[:30].strip() and len(row) <= 50, rows
    t.tmux("resize-window", "-x", "30", "-y", "7")
    t.until(lambda rows: len(captions(rows)[1]) == 1 and rows.index(captions(rows)[0]) == 5, look=t.rows)
    assert all(len(r) <= 25 for r in captions(t.rows())[1])
    for cols, rows in [(5, 2), (2, 1), (1, 3), (80, 24)]:
        t.tmux("resize-window", "-x", str(cols), "-y", str(rows))
        time.sleep(0.2)
    # a terminal may have kept what was too large for it, above: the rows that are ours are as ever
    t.until(lambda rows: re.match(r" *\[[| ]{8}\] talk.wav", rows[20]) and squeeze("".join(rows[21:24])), look=t.rows)
    t.keys("C-c")
    assert t.status() == 0


def test_a_warning_goes_with_its_cause(t):
    zeros = path("zeros.wav")
    with wave.open(CLIP, "rb") as r, wave.open(zeros, "wb") as w:
        w.setparams(r.getparams())
        w.writeframes(bytes(2 * 16000 * 6) + r.readframes(16000 * 12))
    t.start("--overlay", "--pace", zeros)
    t.until(lambda s: "gives nothing but zeros" in s)
    t.until(lambda rows: "|" in captions(rows)[0][:10], look=t.rows)
    state = captions(t.until(lambda rows: "zeros.wav  lag" in captions(rows)[0], seconds=8, look=t.rows))[0]
    assert "nothing but zeros" not in state, state
    t.keys("C-c")
    assert t.status() == 0
    assert "gives nothing but zeros" in t.show().replace("\n", "")  # once more, where it can be read


def test_captions_vanish(t):
    began, end = time.monotonic(), path("end")
    os.mkfifo(end)
    t.start("--overlay", "-", before=f"(cat {RAW}; cat {end}) | ")
    has_captions(t)
    t.until(lambda rows: not squeeze("".join(captions(rows)[1])), look=t.rows)
    assert time.monotonic() - began > 4
    with open(end, "w"):  # until now the input has not ended
        pass
    assert t.status() == 0


def test_the_last_caption_is_seen(t):
    t.start("--overlay", CLIP)
    has_captions(t)
    assert t.status() == 0


def test_stopped_and_continued(t):
    t.start("--overlay", "--pace", CLIP)
    has_captions(t)
    t.keys("C-z")
    t.until(lambda s: "Stopped" in s or "status=" in s)
    t.until(lambda f: f == AT_REST, look=lambda: t.ask(FLAGS))
    assert not re.search(r"\[[| ]{8}\]", t.show()), t.show()
    t.line("clear; echo between")
    t.until(lambda s: "between" in s)
    t.line("fg; echo status=$?")
    has_captions(t)
    t.keys("C-c")
    t.until(lambda s: "status=0" in s and not re.search(r"\[[| ]{8}\]", s))
    t.until(lambda f: f == AT_REST, look=lambda: t.ask(FLAGS))
    t.line("stty -a > after")
    time.sleep(0.3)
    assert attributes("before") == attributes("after")


def test_signals_give_the_terminal_back(t):
    for number, status in [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGSEGV, 139), (signal.SIGABRT, 134),
                           (signal.SIGQUIT, 131), (signal.SIGBUS, 135), (signal.SIGUSR1, 138)]:
        if SANITIZED and number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            continue
        t.start("--overlay", "--pace", CLIP, before="ulimit -c 0; ")
        has_captions(t, 4)
        os.kill(t.pid(), number)
        assert t.status() == status, number
        assert not re.search(r"\[[| ]{8}\]", t.show()), (number, t.show())


def test_model_cut_while_in_use(t):
    cut = path("cut")
    shutil.copytree(MODEL, cut)
    t.start("--overlay", "--pace", "--model", cut, CLIP)
    has_captions(t, 4)
    os.truncate(os.path.join(cut, "consolidated.safetensors"), 4096)
    assert t.status() == 1
    assert not re.search(r"\[[| ]{8}\]", t.show()) and "was cut while it was in use" in t.show(), t.show()


def test_a_terminal_that_is_held_up_or_goes(t):
    t.start("--overlay", "--pace", CLIP)
    has_captions(t, 4)
    t.keys("C-s")
    time.sleep(1)
    os.kill(t.pid(), signal.SIGTERM)
    assert t.status() == 0
    for program in [["sh"], []] if runs_programs else [[]]:
        t.start("--pace", "--overlay", CLIP, program=program)
        has_captions(t, 4)
        pid = t.pid()
        t.tmux("respawn-pane", "-k", "env PS1='@@ ' sh")
        end = time.monotonic() + LONG
        while os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < end, "it lives on"
            time.sleep(0.05)
        t.until(lambda s: "@@" in s)


# ---- a program under captions ----

def test_program(t):
    t.start("--pace", CLIP, program=["sh", "-c", "stty size; echo $TERM; printf '\\033]2;a title\\a'; read x; exit 7"])
    rows = has_captions(t)
    assert rows[:2] == ["20 80", "xterm-256color"] and rows.index(captions(rows)[0]) == 20, rows
    assert t.ask("#{alternate_on} #{cursor_flag} #{cursor_x},#{cursor_y}") == "1 1 0,2"
    assert t.ask("#{pane_title}") == "a title"
    t.keys("Enter")
    assert t.status() == 7


def test_program_colours(t):
    what = r"\033[1;4;38;5;200mA\033[0;48;2;1;2;3mB\033[0;7;31mC\033[0;3;92mD\033[0;9mE\033[0;2mF\033[0;8mG\033[m 漢字éx\u0301\n"
    t.start("--pace", CLIP, program=["python3", "-c", f"print('{what}'.replace('\\\\033', chr(27)), end=''); input()"])
    t.until(lambda s: s.startswith("ABCDEF"))
    row = t.show("-e").split("\n")[0]
    assert "漢字éx\u0301" in row, row
    for letter, *codes in [("A", "1", "4", "38;5;200"), ("B", "48;2;1;2;3"), ("C", "7", "31"), ("D", "3", "92"), ("E", "9"), ("F", "2"), ("G", "8")]:
        before = re.search(r"((?:\033\[[0-9;:]*m)+)" + letter, row)
        words = before and ";".join(re.findall(r"\033\[([0-9;:]*)m", before.group(1))) + ";"
        for code in codes:
            assert words and re.search(r"(^|;)" + code + ";", words), (letter, code, row)
    t.keys("Enter")
    assert t.status() == 0


def test_program_combining_characters(t):
    """Some combining characters are wide to libvterm, and as many as fill a row were more than it could take."""
    with open(path("marks"), "w", encoding="utf-8") as f:
        f.write("か\u3099は\u309a|\n" + "".join(f"a{mark * 90}\n" for mark in "\u302a\u302b\u302c\u302d\u3099\u309a\u0301"))
    t.start("--pace", CLIP, program=["sh", "-c", f"cat {path('marks')}; echo over; read x"])
    rows = t.until(lambda rows: "over" in rows, look=t.rows)
    assert rows[0] == "か\u3099は\u309a|" and rows.index("over") == 8, rows
    assert all(re.fullmatch("a\\W+", row) for row in rows[1:8]), rows
    t.tmux("resize-window", "-x", "30", "-y", "20")
    t.until(lambda rows: len(rows) == 20 and rows[0] == "か\u3099は\u309a|", look=t.rows)
    has_captions(t)
    t.keys("Enter")
    assert t.status() == 0


def test_program_that_is_not_there(t):
    t.start("--pace", CLIP, program=["surtitle-no-such-program"])
    assert t.status() == 127
    assert "cannot run surtitle-no-such-program" in t.show().replace("\n", "")
    t.line("clear")
    t.start("--pace", path("absent"), program=["true"])
    assert t.status() == 1


def test_program_killed(t):
    t.start("--pace", CLIP, program=["sh", "-c", "kill -9 $$"], before="trap '' CHLD; ")  # before anybody looks, perhaps
    assert t.status() == 137
    t.start("--pace", CLIP, program=["sh", "-c", "printf '\\033[?1000h\\033[?1006h\\033[?1h\\033[?2004h\\033[?25lup'; sleep 99"])
    t.until(lambda f: f == "0 1 1 1 0 1 0", look=lambda: t.ask(FLAGS))
    os.kill(t.pid(), signal.SIGTERM)
    assert t.status() == 129  # it was hung up on
    for number, status in [(signal.SIGQUIT if SANITIZED else signal.SIGSEGV, 131 if SANITIZED else 139), (signal.SIGHUP, 129)]:
        t.start("--pace", CLIP, before="ulimit -c 0; ",
                program=["sh", "-c", "printf '\\033[?1002h\\033[?1006h\\033=\\033[?1004hup'; sleep 99"])
        t.until(lambda s: s.startswith("up"))
        os.kill(t.pid(), number)
        assert t.status() == status, number


def test_program_outlives_captions(t):
    t.start("--output", "/dev/full", "--format", "tokens", "--pace", CLIP, program=["sh", "-c", "read x; echo got $x; read y; exit 3"])
    t.until(lambda s: "No space left" in s)
    t.line("words")
    t.until(lambda s: "got words" in s)
    t.keys("Enter")
    assert t.status() == 3
    assert "cannot write /dev/full" in t.show()  # once more, where it can be read


def test_keyboard_beside_samples(t):
    t.start("-", before=f"cat {RAW} - < /dev/zero | ", program=["sh", "-c", "read x; echo got $x; read y; exit 5"])
    has_captions(t)
    t.line("words")
    t.until(lambda s: "got words" in s)
    t.keys("Enter")
    assert t.status() == 5


def test_vim(t):
    if not shutil.which("vi"):
        raise Skip("there is no vi")
    with open(path("page"), "w") as f:
        f.write("".join(f"line {i}\n" for i in range(1, 200)))
    t.start("--pace", CLIP, program=["vi", "-u", "NONE", "-N", path("page")])
    rows = has_captions(t)
    assert rows[:18] == [f"line {i}" for i in range(1, 19)] and rows[19].startswith('"'), rows
    t.keys("G")
    t.until(lambda rows: rows[18] == "line 199", look=t.rows)
    t.tmux("resize-window", "-x", "60", "-y", "18")
    t.until(lambda rows: rows[12] == "line 199" and rows.index(captions(rows)[0]) == 14, look=t.rows)
    t.tmux("resize-window", "-x", "100", "-y", "30")
    t.until(lambda rows: "line 199" in rows[:26] and rows.index(captions(rows)[0]) == 26, look=t.rows)
    t.keys("g", "g", "d", "G", "i")
    t.line("typed über 漢字")
    t.keys("Escape")
    t.until(lambda rows: rows[0] == "typed über 漢字" and rows[2] == "~", look=t.rows)
    t.line(":wq")
    assert t.status() == 0
    with open(path("page"), encoding="utf-8") as f:
        assert f.read().split("\n")[0] == "typed über 漢字"


def test_less(t):
    with open(path("page"), "w") as f:
        f.write("".join(f"line {i}\n" for i in range(1, 200)))
    t.start("--pace", CLIP, program=["less", path("page")])
    t.until(lambda rows: rows[0] == "line 1" and rows[18] == "line 19", look=t.rows)
    t.keys("Space")
    t.until(lambda rows: rows[0] == "line 20", look=t.rows)
    t.keys("Up")  # the cursor key goes through as less has asked for it
    t.until(lambda rows: rows[0] == "line 19", look=t.rows)
    t.keys("q")
    assert t.status() == 0


def test_htop(t):
    """It draws with everything that a terminal has: colours, lines, reverse, a mouse, the alternate screen."""
    if not shutil.which("htop"):
        raise Skip("there is no htop")
    t.start("--pace", CLIP, program=["htop", "-d", "5"])
    rows = t.until(lambda rows: any("PID" in r and "Command" in r for r in rows), look=t.rows)
    state, below = captions(has_captions(t))
    rows = t.rows()
    assert rows[19].startswith("F1Help") and rows.index(captions(rows)[0]) == 20 and "talk.wav" in state, rows
    assert t.ask("#{mouse_any_flag}") == "1"
    t.keys("F1")
    t.until(lambda rows: any("released under" in r.lower() for r in rows[:20]), look=t.rows)
    t.keys("Escape")
    t.until(lambda rows: rows[19].startswith("F1Help"), look=t.rows)
    t.tmux("resize-window", "-x", "100", "-y", "30")
    t.until(lambda rows: rows[25].startswith("F1Help") and rows.index(captions(rows)[0]) == 26, look=t.rows)
    t.keys("q")
    assert t.status() == 0


def test_program_floods(t):
    t.start("--pace", CLIP, program=["sh", "-c", "yes 0123456789 | head -n 300000; echo over; read x"])
    t.until(lambda rows: "over" in rows and rows.index("over") == 18, look=t.rows)
    has_captions(t)
    t.keys("Enter")
    assert t.status() == 0


# ---- where nothing can be drawn ----

def test_plain_without_a_terminal(t):
    want = text_of(CLIP)
    assert text_of("--overlay", CLIP) == want
    assert text_of("--overlay", "--format", "tokens", CLIP) == text_of("--format", "tokens", CLIP)
    for setting in ["NO_COLOR=1", "TERM=dumb"]:
        t.start("--overlay", "--width", "40", CLIP, before=setting + " ")
        assert t.status() == 0
        shown = t.show("-S", "-")
        assert squeeze(want) in squeeze(shown), shown
        t.tmux("clear-history")


def test_command_comes_after_the_options(t):
    """Without a terminal there is nothing to run it in: that is said after the source was looked at."""
    model = ["--model", MODEL]
    for status, word, *args in [
            (1, "-- CMD", *model, CLIP, "--", "true"), (4, "--", "--model", "--", CLIP),  # the value of --model
            (1, "-- CMD", *model, CLIP, "--overlay", "--", "true", "--nonsense", "b", "--", "--model"),
            (1, "absent", path("absent"), "--", "true")]:
        if "true" in args and not runs_programs:
            status, word = 2, "libvterm"
        r = subprocess.run([PROGRAM, *args], capture_output=True, env=ENV, timeout=LONG, stdin=subprocess.DEVNULL)
        line = r.stderr.decode()
        assert r.returncode == status and word in line and line.count("\n") == 1, (args, r)


def test_usage(t):
    t.start("--overlay", "--format", "jsonl", CLIP)
    assert t.status() == 2
    assert "--format jsonl needs --output" in t.show().replace("\n", " ")
    t.start("--overlay", "--format", "tokens", "--output", path("tokens"), CLIP)
    assert t.status() == 0
    with open(path("tokens")) as f:
        assert f.read() == text_of("--format", "tokens", CLIP)


def main():
    global runs_programs
    passed, failed = 0, 0
    if not shutil.which("tmux"):
        print("there is no tmux to drive the overlay in")
        return 77
    try:
        subprocess.run([sys.executable, MAKE, MODEL, "--size", "tiny", "--seed", "3", "--gain", "1.5"], check=True,
                       stdout=subprocess.DEVNULL)
        make_sound()
        r = subprocess.run([PROGRAM, CLIP, "--", "true"], capture_output=True, env=ENV, timeout=LONG)
        runs_programs = b"libvterm" not in r.stderr
        os.chdir(BOX)
        for name, test in list(globals().items()):
            if not name.startswith("test_") or not all(word in name for word in WORDS):
                continue
            if not runs_programs and "program=[" in inspect.getsource(test):
                print(f"{name}: skipped: this build has no libvterm")
                continue
            t = Terminal()
            began = time.monotonic()
            try:
                test(t)
                passed += 1
                print(f"{name}: {time.monotonic() - began:.1f} s")
            except Skip as why:
                print(f"{name}: skipped: {why}")
            except Exception as e:
                failed += 1
                tb, line = e.__traceback__, 0
                while tb:
                    line = tb.tb_lineno if tb.tb_frame.f_code.co_name == name else line
                    tb = tb.tb_next
                print(f"{name}, line {line}: {type(e).__name__}: {str(e)[:3000]}")
            t.close()
    finally:
        shutil.rmtree(BOX, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())

"""tools/overlay_picture.py PROGRAM OUT.svg: makes the README's picture of the overlay from a recorded terminal.

Runs vi under captions of the demo model's clip in tmux, waits until captions fill two rows, and turns what stands on the
screen, colours and attributes included, into SVG. Needs tmux and vi; run it from the source folder."""
import html, os, re, subprocess, sys, tempfile, time

COLS, ROWS, WIDE, HIGH, PAD = 84, 24, 8.4, 18, 12
COLOURS = ["#2e3436", "#cc0000", "#4e9a06", "#c4a000", "#3465a4", "#75507b", "#06989a", "#d3d7cf",
           "#555753", "#ef2929", "#8ae234", "#fce94f", "#729fcf", "#ad7fa8", "#34e2e2", "#eeeeec"]
INK, PAPER = "#d3d7cf", "#16191c"
TEXT = """# Notes of the talk

* Words appear when they are whole, and stay where they are.
* The row above them says how loud it is, and how far behind.
* The program above is any program: this is vi.

    $ surtitle --pace models/demo/clip.wav -- vi notes.md

"""


def record(program, box):
    """What `tmux capture-pane -e` shows once captions are there, and the cursor's column and row."""
    env = dict(os.environ, LC_ALL="C.UTF-8", TMUX="", SHELL="/bin/sh", XDG_DATA_HOME=box, XDG_DATA_DIRS=box)
    env.pop("NO_COLOR", None)

    def tmux(*words):
        r = subprocess.run(["tmux", "-u", "-S", box + "/tmux", "-f", "/dev/null", *words], env=env, text=True,
                           capture_output=True, check=True)
        return r.stdout

    with open(box + "/notes.md", "w") as f:
        f.write(TEXT)
    demo = os.path.abspath("models/demo")
    command = [program, "--model", demo, "--pace", demo + "/clip.wav", "--", "vi", "-u", "NONE", "-N", "+set laststatus=2 ruler",
               "+normal G", "notes.md"]
    quoted = " ".join("'" + word + "'" for word in command)
    tmux("new-session", "-d", "-c", box, "-x", str(COLS), "-y", str(ROWS), quoted + "; sleep 9")
    try:
        for _ in range(300):
            time.sleep(0.1)
            rows = tmux("capture-pane", "-p").split("\n")
            if len(rows) >= ROWS and len(rows[ROWS - 1].strip()) > 20 and rows[ROWS - 2].strip():
                shown = tmux("capture-pane", "-e", "-p").split("\n")[:ROWS]
                x, y = tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split()
                return shown, int(x), int(y)
        raise SystemExit("no captions came")
    finally:
        subprocess.run(["tmux", "-S", box + "/tmux", "kill-server"], env=env, capture_output=True)


def colour(codes):
    """The colour of 38;5;n, 38;2;r;g;b after its first code, which is taken from codes."""
    kind = codes.pop(0) if codes else 5
    if kind == 2 and len(codes) >= 3:
        return "#%02x%02x%02x" % tuple(codes.pop(0) for _ in range(3))
    n = codes.pop(0) if codes else 7
    if n < 16:
        return COLOURS[n]
    if n >= 232:
        return "#%02x%02x%02x" % ((8 + (n - 232) * 10,) * 3)
    levels = [0, 95, 135, 175, 215, 255]
    return "#%02x%02x%02x" % tuple(levels[(n - 16) // step % 6] for step in (36, 6, 1))


def set_pen(pen, codes):
    while codes:
        code = codes.pop(0)
        if code == 0:
            pen.clear()
        elif code in (1, 2, 3, 4, 7):
            pen[{1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse"}[code]] = True
        elif code in (22, 23, 24, 27):
            for name in {22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["reverse"]}[code]:
                pen.pop(name, None)
        elif 30 <= code <= 37 or 40 <= code <= 47:
            pen["fg" if code < 40 else "bg"] = COLOURS[code % 10]
        elif 90 <= code <= 97 or 100 <= code <= 107:
            pen["fg" if code < 100 else "bg"] = COLOURS[8 + code % 10]
        elif code in (38, 48):
            pen["fg" if code == 38 else "bg"] = colour(codes)
        elif code in (39, 49):
            pen.pop("fg" if code == 39 else "bg", None)


def runs(row, pen):
    """[(column, text, pen)] of a row; pen is as the row before left it."""
    column = 0
    for part in re.split(r"(\033\[[0-9;:]*m)", row):
        if part.startswith("\033["):
            set_pen(pen, [int(c or 0) for c in re.split("[;:]", part[2:-1])])
        elif part:
            yield column, part, dict(pen)
            column += len(part)


def draw(rows, cursor_x, cursor_y):
    width, height = COLS * WIDE + 2 * PAD, ROWS * HIGH + 2 * PAD
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" role="img" '
           f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
           "<title>vi in a terminal, and captions below it</title>",
           f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>']
    pen = {}
    for y, row in enumerate(rows):
        for x, text, p in runs(row, pen):
            fg, bg = p.get("fg", INK), p.get("bg")
            if p.get("reverse"):
                fg, bg = bg or PAPER, fg
            left, top = PAD + x * WIDE, PAD + y * HIGH
            if bg:
                out.append(f'<rect x="{left:.1f}" y="{top}" width="{len(text) * WIDE:.1f}" height="{HIGH}" fill="{bg}"/>')
            if not text.strip():
                continue
            style = "".join([' font-weight="bold"' * bool(p.get("bold")), ' font-style="italic"' * bool(p.get("italic")),
                             ' text-decoration="underline"' * bool(p.get("underline")), ' opacity="0.6"' * bool(p.get("dim"))])
            out.append(f'<text x="{left:.1f}" y="{top + 14}" fill="{fg}" textLength="{len(text) * WIDE:.1f}" '
                       f'xml:space="preserve"{style}>{html.escape(text)}</text>')
    out.append(f'<rect x="{PAD + cursor_x * WIDE:.1f}" y="{PAD + cursor_y * HIGH}" width="{WIDE}" height="{HIGH}" fill="{INK}" '
               'opacity="0.7"/>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main(program, path):
    with tempfile.TemporaryDirectory() as box:
        picture = draw(*record(os.path.abspath(program), box))
    with open(path, "w", encoding="utf-8") as f:
        f.write(picture)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])

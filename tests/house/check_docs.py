"""The examples of README.md and docs/*.md work as shown. Arguments: source folder, then the programs that they call.

A fenced block marked ```console is run: each line "$ COMMAND" by sh in the source folder, with the programs in PATH and
TMPDIR set to an empty folder. The lines below it are compared with standard output; "..." stands for any text within a
line, and alone in a line for any number of lines. A command without lines below it must end with status 0. Other blocks
are not run. Both README.md and docs/ must have such blocks.

The walk of a sample in docs/architecture.md names at most 15 functions, each with the file that defines it. Source files
that the pages name exist.

Every parec command names a latency: without one parec delivers sound 2 s at a time.
Status 77: models/demo has no weights."""
import glob, os, re, subprocess, sys, tempfile


def blocks(text):
    """Yields (line number, command, expected lines) of the ```console blocks."""
    inside, current = False, None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            if current:
                yield current
            inside, current = line.strip() == "```console", None
        elif inside and line.startswith("$ "):
            if current:
                yield current
            current = (number, line[2:], [])
        elif inside and current:
            current[2].append(line)


def pattern(expected):
    parts = []
    for line in expected:
        parts.append(r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n")
    return re.compile("".join(parts))


def matches(expected, output):
    return not expected or pattern(expected).fullmatch(output) is not None


def selftest():
    example = list(blocks("x\n```console\n$ a b\none\n...\n$ c\n```\n```sh\n$ d\n```\n"))
    assert example == [(3, "a b", ["one", "..."]), (6, "c", [])], example
    assert matches(["one", "..."], "one\ntwo\nthree\n") and matches(["a...z"], "abz\n") and matches([], "x\n")
    assert not matches(["one"], "one\ntwo\n") and not matches(["a...z"], "abc\n") and not matches(["one"], "")


def slow_recordings(root):
    """Lines of the README and the man page with a parec command without a latency."""
    for name in ["README.md", "docs/surtitle.1.scd"]:
        with open(os.path.join(root, name), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if "parec --" in line and "--latency-msec" not in line:
                    yield f"{name}:{number}: parec without --latency-msec"


WALK = "## One sample from the callback to the caption\n"


def wrong_steps(root):
    """What is wrong with the table of the walk."""
    with open(os.path.join(root, "docs/architecture.md"), encoding="utf-8") as f:
        section = f.read().partition(WALK)[2].split("\n## ")[0]
    steps = re.findall(r"^\| \d+ \|.*?\| `(\w+)` \| `([\w./]+)` \|", section, re.M)
    if not 10 <= len(steps) <= 15:
        yield f"docs/architecture.md: the walk names {len(steps)} functions"
    for function, path in steps:
        defines = re.compile(rf"^[a-z][^\n;=]*\b{function}\([^;]*\{{$", re.M)
        texts = {}
        for name in [path, *glob.glob("src/**/*.c", root_dir=root, recursive=True)]:
            if os.path.exists(os.path.join(root, name)):
                with open(os.path.join(root, name), encoding="utf-8") as f:
                    texts[name] = f.read()
        if not defines.search(texts.get(path, "").replace(")\n{", ") {")):
            others = sorted(name for name, text in texts.items() if defines.search(text.replace(")\n{", ") {")))
            yield f"docs/architecture.md: {path} does not define {function}; see {others or 'another name'}"


def lost_files(root):
    """Files of the tree that the documentation names and that do not exist."""
    paths = [p for p in glob.glob("**/*", root_dir=root, recursive=True) if not p.startswith("build")]
    for name in ["README.md", "CONTRIBUTING.md", *glob.glob("docs/*.md", root_dir=root)]:
        with open(os.path.join(root, name), encoding="utf-8") as f:
            for file in re.findall(r"`([\w./-]+\.(?:c|h|cu|cuh|cpp|py|sh))`", f.read()):
                if not any(("/" + p).endswith("/" + file) for p in paths):
                    yield f"{name}: there is no {file}"


def main(root, *programs):
    selftest()
    wrong = [*slow_recordings(root), *wrong_steps(root), *lost_files(root)]
    if wrong:
        print("\n".join(wrong))
        return 1
    if not os.path.exists(os.path.join(root, "models/demo/consolidated.safetensors")):
        print("no demo model to run the examples with")
        return 77
    ran, bad = {"README.md": 0, "docs": 0}, 0
    with tempfile.TemporaryDirectory() as box:
        path = ":".join([os.path.dirname(os.path.abspath(p)) for p in programs] + [os.environ["PATH"]])
        env = dict(os.environ, PATH=path, XDG_DATA_HOME=box, XDG_DATA_DIRS=box, TMPDIR=box)
        for path in [os.path.join(root, "README.md"), *sorted(glob.glob(os.path.join(root, "docs", "*.md")))]:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for number, command, expected in blocks(text):
                ran[os.path.relpath(path, root).split(os.sep)[0]] += 1
                r = subprocess.run(["sh", "-c", command], cwd=root, env=env, stdin=subprocess.DEVNULL,
                                   capture_output=True, text=True, timeout=120)
                if (r.returncode and not expected) or not matches(expected, r.stdout):
                    bad += 1
                    print(f"{os.path.relpath(path, root)}:{number}: $ {command}\nends with {r.returncode} and prints\n"
                          f"{r.stdout}{r.stderr}")
    print(f"examples: {ran}, {bad} differ")
    return 1 if bad or not all(ran.values()) else 0


sys.exit(main(*sys.argv[1:]))

"""The text of the tree. Arguments: the source folder.

All text files: UTF-8, no tab, no blank at a line's end, one newline at the end. C: at most 120 columns. Code: at most
600 lines, unless the first 30 lines say why ("This file is long"). Functions of C: at most 60 lines, unless the
comment above them says why ("This function is long")."""
import os, re, sys

TEXT = (".c", ".h", ".py", ".sh", ".md", ".build", ".txt", ".json", ".cu", ".cuh", ".cpp")
C = (".c", ".h", ".cu", ".cuh", ".cpp")
CODE = C + (".py", ".sh", ".build")
SKIP_FOLDERS = {".git", "__pycache__", "corpus", "data"}
LINES, COLUMNS, FUNCTION = 600, 120, 60


def files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if d not in SKIP_FOLDERS and not d.startswith("build") and d != ".carry"]
        for name in names:
            path = os.path.join(folder, name)
            # models hold weights, and tests/golden references: data, whatever their names end in
            relative = os.path.relpath(path, root)
            if relative.startswith(("models/", "tests/golden/")) and name.endswith((".json", ".txt")):
                continue
            if name.endswith(TEXT) or name in (".editorconfig", ".clang-format", ".gitignore", "LICENSE"):
                yield path, relative


def check_lines(relative, text):
    lines = text.split("\n")
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield f"{relative}: not one newline at its end"
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield f"{relative}:{number}: tab"
        if line != line.rstrip():
            yield f"{relative}:{number}: blank at the line's end"
        if relative.endswith(C) and len(line) > COLUMNS:
            yield f"{relative}:{number}: {len(line)} columns"
    if relative.endswith(CODE) and len(lines) - 1 > LINES and "This file is long" not in "\n".join(lines[:30]):
        yield f"{relative}: {len(lines) - 1} lines, and its top does not say why"


def check_functions(relative, text):
    """A function's body is from a { in column 0 to a } in column 0: the brace style makes it so."""
    lines, start = text.split("\n"), None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            length = number - start + 1
            above = "\n".join(lines[max(0, start - 12):start])
            if line == "}" and length > FUNCTION and "This function is long" not in above:
                yield f"{relative}:{start}: function of {length} lines"
            start = None


def check(relative, data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        return [f"{relative}: not UTF-8: {e}"]
    if not text:
        return []
    found = list(check_lines(relative, text))
    if relative.endswith((".c", ".cu", ".cuh")):
        found += check_functions(relative, text)
    return found


def selftest():
    long_function = b"int f(void)\n{\n" + b"    g();\n" * 60 + b"}\n"
    for data, n in [(b"a\tb\n", 1), (b"a \n", 1), (b"a", 1), (b"a\n\n", 1), (b"\xff\n", 1), (b"x" * 121 + b"\n", 1),
                    (b"x\n" * 601, 1), (b"/* This file is long: a table. */\n" + b"x\n" * 601, 0), (long_function, 1),
                    (b"int a;\n", 0)]:
        assert len(check("a.c", data)) == n, (data[:40], check("a.c", data))


selftest()
total, bad = 0, []
for path, name in sorted(files(sys.argv[1])):
    total += 1
    with open(path, "rb") as f:
        bad += check(name, f.read())
print(*bad, sep="\n")
print(f"{total} files, {len(bad)} faults")
sys.exit(1 if bad or not total else 0)
